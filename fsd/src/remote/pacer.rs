//! The pace of transfers: bytes pass a [`Pacer`] piece by piece as they go over the wire, so a new rate
//! holds at once for transfers under way, whatever their number and size.
//!
//! Invariant: waiting for a pacer is never taken for a stall, and a pause never fails a transfer.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use policies::{Line, Rate, Take, Ticket, TokenBucket};
use tokio::sync::Notify;

use crate::clock::Clock;

/// The largest piece while no rate is set: what may be under way when one comes.
const FREE_PIECE_BYTES: u64 = 256 << 10;

/// Below so much of what was granted, more is asked for.
pub const SHORT_BYTES: u64 = 4 * FREE_PIECE_BYTES;

/// What a head may have, and is paid for at once.
const HEAD_BYTES: u64 = 4 << 10;

/// A rate that many transfers share. They are served in the order in which they ask; those of several pacers below one, by the weights
/// of these.
pub struct Pacer {
    bucket: Mutex<TokenBucket>,
    /// How many bytes may pass before more are granted; none is no limit.
    granted: Mutex<Option<u64>>,
    /// Wakes who waits when the rate changes, or more is granted.
    changed: Notify,
    /// Wakes who grants when little is left.
    short: Notify,
    queue: Mutex<Queue>,
    bytes: AtomicU64,
    clock: Arc<dyn Clock>,
    /// A wider pacer (the gateway's above a share's), which is paid as well.
    above: Option<Above>,
    /// Pacers below this one, so far.
    below: AtomicU64,
}

/// A pacer's place below another.
#[derive(Debug)]
struct Above {
    pacer: Arc<Pacer>,
    /// Which of the pacers below that it is.
    flow: u64,
    weight: u32,
}

/// Who waits for his turn.
#[derive(Debug, Default)]
struct Queue {
    line: Line,
    wakers: BTreeMap<Ticket, Arc<Notify>>,
}

/// A place in the queue of a pacer, left when it is dropped.
struct InLine<'p> {
    pacer: &'p Pacer,
    ticket: Ticket,
    /// Told when it may be his turn.
    waker: Arc<Notify>,
    passed: bool,
}

impl InLine<'_> {
    fn is_first(&self) -> bool {
        self.pacer.queue().line.first() == Some(self.ticket)
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        let mut queue = self.pacer.queue();
        queue.wakers.remove(&self.ticket);
        let next = queue.line.leave(self.ticket, self.passed);
        if let Some(waker) = next.and_then(|next| queue.wakers.get(&next)) {
            waker.notify_one();
        }
    }
}

/// The pacers of one store: what goes up and what comes down.
#[derive(Clone, Debug)]
pub struct Pacers {
    /// Bodies of requests.
    pub up: Arc<Pacer>,
    /// Bodies of answers.
    pub down: Arc<Pacer>,
}

impl Pacers {
    /// Pacers that hold nothing back, but count.
    #[must_use]
    pub fn unlimited(clock: &Arc<dyn Clock>) -> Self {
        let pacer = || Pacer::new(Arc::clone(clock), Rate::Unlimited, None);
        Self { up: pacer(), down: pacer() }
    }
}

impl Pacer {
    /// A pacer with `rate`, which also obeys the pacer `above`, as one of several of equal weight.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, rate: Rate, above: Option<Arc<Pacer>>) -> Arc<Self> {
        Self::weighted(clock, rate, above, 1)
    }

    /// The same, with a `weight` beside others.
    #[must_use]
    pub fn weighted(
        clock: Arc<dyn Clock>,
        rate: Rate,
        above: Option<Arc<Pacer>>,
        weight: u32,
    ) -> Arc<Self> {
        let above = above.map(|pacer| {
            let flow = pacer.below.fetch_add(1, Ordering::Relaxed);
            Above { pacer, flow, weight }
        });
        Arc::new(Self {
            bucket: Mutex::new(TokenBucket::new(clock.monotonic(), rate)),
            granted: Mutex::default(),
            changed: Notify::new(),
            short: Notify::new(),
            queue: Mutex::default(),
            bytes: AtomicU64::new(0),
            clock,
            above,
            below: AtomicU64::new(0),
        })
    }

    /// The rate in force.
    #[must_use]
    pub fn rate(&self) -> Rate {
        self.bucket().rate()
    }

    /// Whether nothing may pass, here or above.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.chain().any(|pacer| pacer.rate() == Rate::Paused)
    }

    /// Changes the rate, also for transfers under way.
    pub fn set_rate(&self, rate: Rate) {
        self.bucket().set_rate(self.clock.monotonic(), rate);
        self.changed.notify_waiters();
    }

    /// Lets so many bytes more pass than were granted and have not passed: for who counts them. Without any call of this, all may.
    pub fn grant(&self, bytes: u64) {
        let mut granted = self.granted();
        *granted = Some(granted.unwrap_or(0).saturating_add(bytes));
        drop(granted);
        self.changed.notify_waiters();
    }

    /// Takes back what was granted and has not passed.
    pub fn take_back(&self) -> u64 {
        self.granted().replace(0).unwrap_or(0)
    }

    /// How much of what was granted is left; none is no limit.
    #[must_use]
    pub fn left(&self) -> Option<u64> {
        *self.granted()
    }

    /// Waits until little of what was granted is left, and somebody asks for more.
    ///
    /// # Cancel safety
    /// The next call returns at once if it was so.
    pub async fn runs_short(&self) {
        self.short.notified().await;
    }

    /// Bytes that have passed since the start.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Waits until some of the `wanted` bytes may pass and says how many: at least one, if any is wanted.
    ///
    /// # Cancel safety
    /// Bytes granted to a future that is dropped are lost to the rate, never passed twice.
    pub async fn take(&self, wanted: usize) -> usize {
        self.take_behind(0, wanted).await
    }

    /// As [`Pacer::take`], together with the `head` bytes that go before the first of them: what is paid for and waits for its turn
    /// again, while many others do so too, would be off the pace.
    ///
    /// # Cancel safety
    /// As [`Pacer::take`].
    pub async fn take_behind(&self, head: usize, wanted: usize) -> usize {
        let bytes = self.piece_bytes_max().min(wanted as u64);
        self.pass_all(bytes + head as u64, OnPause::Wait).await;
        usize::try_from(bytes).unwrap_or(wanted)
    }

    /// Waits until all of `bytes` may pass, piece by piece.
    ///
    /// # Cancel safety
    /// As [`Pacer::take`].
    pub async fn take_all(&self, bytes: usize) {
        let mut rest = bytes;
        while rest > 0 {
            rest -= self.take(rest).await;
        }
    }

    /// Counts the body of a request that carries no file content. It waits for the rate, but passes a pause:
    /// without such bytes an upload could not be finished while downloads are paused.
    ///
    /// # Cancel safety
    /// As [`Pacer::take`].
    pub async fn take_control(&self, bytes: usize) {
        // In pieces that hold a head, so that it is on the wire soon after it was begun to be paid for.
        let mut rest = bytes as u64;
        while rest > 0 {
            let piece = self.piece_bytes_max().max(HEAD_BYTES).min(rest);
            self.pass_all(piece, OnPause::Pass).await;
            rest -= piece;
        }
    }

    /// Waits until `bytes` may pass here and above.
    async fn pass_all(&self, bytes: u64, on_pause: OnPause) {
        // Of transfers with one pacer, all have one flow.
        let (mut flow, mut weight) = (0, 1);
        let mut pacer = self;
        loop {
            pacer.pass(flow, weight, bytes, on_pause).await;
            let Some(above) = &pacer.above else { break };
            (pacer, flow, weight) = (&above.pacer, above.flow, above.weight);
        }
    }

    /// Waits while nothing may pass, so that no request is begun that could not go on.
    ///
    /// # Cancel safety
    /// Nothing is taken.
    pub async fn unpaused(&self) {
        for pacer in self.chain() {
            let mut changed = std::pin::pin!(pacer.changed.notified());
            changed.as_mut().enable();
            while pacer.rate() == Rate::Paused {
                changed.as_mut().await;
                changed.set(pacer.changed.notified());
                changed.as_mut().enable();
            }
        }
    }

    /// Takes `bytes` of what was granted; false if that is not enough.
    fn take_granted(&self, bytes: u64, on_pause: OnPause) -> bool {
        let mut granted = self.granted();
        let Some(left) = granted.as_mut() else { return true };
        let enough = *left >= bytes || matches!(on_pause, OnPause::Pass);
        if enough {
            *left = left.saturating_sub(bytes);
        }
        if *left < SHORT_BYTES {
            self.short.notify_one();
        }
        enough
    }

    /// Waits for the turn of `bytes` of `flow`, and until they may pass.
    async fn pass(&self, flow: u64, weight: u32, bytes: u64, on_pause: OnPause) {
        let waker = Arc::new(Notify::new());
        let mut place = {
            let mut queue = self.queue();
            let ticket = queue.line.join(flow, weight, bytes);
            queue.wakers.insert(ticket, waker.clone());
            InLine { pacer: self, ticket, waker, passed: false }
        };
        let mut is_granted = false;
        loop {
            // Armed before anything is looked at, so that a change in between is not missed.
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            let passes_pause = matches!(on_pause, OnPause::Pass) && self.rate() == Rate::Paused;
            if !passes_pause && !place.is_first() {
                tokio::select! {
                    () = place.waker.notified() => {}
                    () = changed => {}
                }
                continue;
            }
            is_granted = is_granted || self.take_granted(bytes, on_pause);
            if !is_granted {
                changed.await;
                continue;
            }
            let take = self.bucket().take(self.clock.monotonic(), bytes);
            match (take, on_pause) {
                (Take::Now, _) | (Take::Paused, OnPause::Pass) => break,
                (Take::Paused, OnPause::Wait) => changed.await,
                (Take::After(wait), _) => tokio::select! {
                    () = self.clock.sleep(wait) => {}
                    () = changed => {}
                },
            }
        }
        place.passed = true;
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// This pacer and those above it.
    fn chain(&self) -> impl Iterator<Item = &Pacer> {
        std::iter::successors(Some(self), |pacer| pacer.above.as_ref().map(|above| &*above.pacer))
    }

    fn piece_bytes_max(&self) -> u64 {
        let piece = |pacer: &Pacer| {
            let granted = pacer.left().filter(|left| *left > 0).unwrap_or(u64::MAX);
            let bucket = pacer.bucket();
            let piece = match bucket.rate() {
                Rate::Unlimited => FREE_PIECE_BYTES,
                Rate::BytesPerSecond(_) | Rate::Paused => bucket.piece_bytes_max(),
            };
            piece.min(granted)
        };
        self.chain().map(piece).min().unwrap_or(FREE_PIECE_BYTES)
    }

    fn granted(&self) -> MutexGuard<'_, Option<u64>> {
        self.granted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bucket(&self) -> MutexGuard<'_, TokenBucket> {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a pause means to who asks.
#[derive(Clone, Copy)]
enum OnPause {
    Wait,
    Pass,
}

impl fmt::Debug for Pacer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pacer")
            .field("rate", &self.rate())
            .field("bytes", &self.bytes())
            .field("above", &self.above)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::SystemClock;

    fn pacer(rate: &str, above: Option<Arc<Pacer>>) -> Arc<Pacer> {
        Pacer::new(Arc::new(SystemClock::new()), rate.parse().unwrap(), above)
    }

    async fn seconds(work: impl Future<Output = ()>) -> f64 {
        let clock = SystemClock::new();
        work.await;
        clock.monotonic().as_secs_f64()
    }

    async fn sleep(seconds: u64) {
        SystemClock::new().sleep(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn transfers_share_the_rate_and_are_counted() {
        let pacer = pacer("100kB/s", None);
        let took = seconds(async {
            tokio::join!(pacer.take_all(500_000), pacer.take_all(500_000));
        })
        .await;
        assert!((9.8..10.2).contains(&took), "{took}");
        assert_eq!(pacer.bytes(), 1_000_000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_transfer_under_way_takes_up_a_new_rate_at_once() {
        let pacer = pacer("1kB/s", None);
        let took = seconds(async {
            tokio::join!(pacer.take_all(100_000), async {
                sleep(10).await;
                pacer.set_rate("90kB/s".parse().unwrap());
            });
        })
        .await;
        assert!((10.9..11.1).contains(&took), "{took}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_holds_content_and_lets_control_pass() {
        let pacer = pacer("off", None);
        pacer.take_control(10_000).await;
        let took = seconds(async {
            tokio::join!(pacer.take_all(1_000), pacer.unpaused(), async {
                sleep(3600).await;
                pacer.take_control(10_000).await;
                pacer.set_rate(Rate::Unlimited);
            });
        })
        .await;
        assert!((3600.0..3600.1).contains(&took), "{took}");
        assert_eq!(pacer.bytes(), 21_000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_share_obeys_the_gateway_too() {
        let gateway = pacer("100kB/s", None);
        let share = |rate| pacer(rate, Some(gateway.clone()));
        let (one, other, slow) = (share("unlimited"), share("unlimited"), share("20kB/s"));
        let took = seconds(async {
            tokio::join!(one.take_all(500_000), other.take_all(500_000));
        })
        .await;
        assert!((9.8..10.2).contains(&took), "{took}");
        let took = seconds(slow.take_all(100_000)).await;
        assert!((4.8..5.2).contains(&took), "{took}");
        assert_eq!(gateway.bytes(), 1_100_000);
    }

    #[tokio::test(start_paused = true)]
    async fn shares_that_have_work_get_the_gateways_rate_by_weight() {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let gateway = pacer("400kB/s", None);
        let share = |weight| {
            let above = Some(gateway.clone());
            Pacer::weighted(clock.clone(), Rate::Unlimited, above, weight)
        };
        let (light, heavy) = (share(1), share(3));
        // However many transfers one has.
        let many = async {
            tokio::join!(light.take_all(1 << 40), light.take_all(1 << 40), light.take_all(1 << 40))
        };
        let sent = tokio::select! {
            _ = many => 0,
            () = heavy.take_all(1 << 40) => 0,
            () = sleep(20) => light.bytes(),
        };
        assert!((1_940_000..2_120_000).contains(&sent), "{sent}");
        assert!((5_880_000..6_080_000).contains(&heavy.bytes()), "{}", heavy.bytes());
        // Alone, the light one gets all.
        let took = seconds(light.take_all(4_000_000)).await;
        assert!((9.8..10.2).contains(&took), "{took}");
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_passes_than_was_granted() {
        let pacer = pacer("unlimited", None);
        pacer.grant(1_000_000);
        let took = seconds(async {
            tokio::join!(pacer.take_all(2_500_000), async {
                pacer.runs_short().await;
                sleep(5).await;
                assert!(pacer.bytes() <= 1_000_000, "{}", pacer.bytes());
                pacer.grant(2_000_000);
            });
        })
        .await;
        assert!((5.0..5.1).contains(&took), "{took}");
        assert_eq!(pacer.take_back(), 500_000);
        assert_eq!(pacer.left(), Some(0));
    }
}
