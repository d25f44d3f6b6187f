//! Sync: makes the cloud equal to what is here. Not a log of operations but reconciliation: a queue item only says «inode X differs»,
//! the records say how, the planner says what to do next.
//!
//! Invariant: an item is removed only when its plan says that nothing is left to do.
//! Invariant: offline costs no tries and drops nothing.

mod bodies;
mod code;
mod conflict;
mod deletions;
mod error;
mod gates;
mod keys;
mod known;
mod moves;
mod orphans;
mod plan;
mod receipts;
mod records;
pub mod report;
mod retry;
mod rules;
#[cfg(test)]
mod tests;
mod transfer;
mod trash;
mod waiting;
mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use policies::concurrency::{AT_ONCE_MAX, Concurrency};
use policies::order::{self, Claim};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use self::bodies::Bodies;
use self::error::SyncError;
use self::keys::Keys;
use self::retry::{Next, Verdict, after_failure, verdict};
use self::waiting::Waiting;
use self::worker::{Worked, Worker};
use crate::cache::Cache;
use crate::clock::Clock;
use crate::events::Events;
use crate::meta::{Item, Meta, MetaError, Tombstone, Trashed};
use crate::remote::{Link, LinkState, Pacer, RemoteError};
use crate::rng::Rng;
use crate::tasks::Tasks;
use crate::types::{Ino, Key, ShareId, chain};

pub use self::code::Code;
pub use self::receipts::{Place, Receipt, ReceiptError, ReceiptRules, Receipts};
pub use self::rules::{RETENTION, Rules};

/// The longest time without a look at the queue.
const LOOK_AFTER_MAX: Duration = Duration::from_secs(30);
/// A clock that goes back by less is not followed.
const CLOCK_SLACK_MILLIS: i64 = 2000;
/// Nothing waits longer for another try.
const BACKOFF_MAX: Duration = Duration::from_secs(3600);
/// How long a look at the queue waits for more changes.
const BURST: Duration = Duration::from_millis(20);
/// How long a receipt waits for others.
const RECEIPTS_DELAY: Duration = Duration::from_secs(1);
/// How often it is looked for what was kept long enough.
const RETENTION_LOOK: Duration = Duration::from_secs(300);
/// How often it is looked for what waits too long.
const AGES_LOOK: Duration = Duration::from_secs(10);
/// How soon something that has to wait for others is looked at again.
const LATER_MILLIS: i64 = 500;

/// What the engine is built of.
#[derive(Debug)]
pub struct Parts {
    /// The precious store.
    pub meta: Arc<Meta>,
    /// The cache, which knows the stores.
    pub cache: Arc<Cache>,
    /// The bus.
    pub events: Arc<Events>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where transfers run.
    pub tasks: Tasks,
    /// Chance, for jitter.
    pub rng: Rng,
    /// This gateway's name.
    pub gateway: String,
    /// How long a change waits at most before it is sent.
    pub delay_max: Duration,
    /// How each cloud share's store is to be reached, and its upload pace.
    pub links: BTreeMap<ShareId, (watch::Receiver<LinkState>, Arc<Pacer>)>,
    /// The rules of shares that have others than the default.
    pub rules: BTreeMap<ShareId, Rules>,
    /// Where it is written down what went up, if it is.
    pub receipts: Option<Receipts>,
}

/// The engine's face to others.
#[derive(Debug)]
pub struct Sync {
    shared: Arc<Shared>,
    worker: Arc<Worker>,
}

/// What the engine tells and is told.
#[derive(Debug, Default)]
struct Shared {
    in_flight: AtomicUsize,
    /// What is worked on, and how to stop it.
    stops: Mutex<BTreeMap<Work, CancellationToken>>,
    /// Shares in which something waits for longer than it should, and since when.
    late: Mutex<BTreeMap<ShareId, i64>>,
}

/// Why something could not be brought back from the trash, or deleted there.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct TrashError(#[from] SyncError);

impl TrashError {
    /// Whether something else is where it is to go.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        matches!(&self.0, SyncError::Remote(RemoteError::Precondition { .. }))
    }
}

impl Sync {
    /// Items and deletions that are worked on now.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.shared.in_flight.load(Ordering::Relaxed)
    }

    /// Stops what is done about `ino`: what is finished by then counts.
    pub fn stop(&self, ino: Ino) {
        if let Some(stop) = lock(&self.shared.stops).get(&Work::Item(ino)) {
            stop.cancel();
        }
    }

    /// Since when something in `share` waits (milliseconds since 1970), if that is longer than it should.
    #[must_use]
    pub fn late_since(&self, share: ShareId) -> Option<i64> {
        lock(&self.shared.late).get(&share).copied()
    }

    /// This gateway's name in what both sides see.
    #[must_use]
    pub fn gateway(&self) -> &str {
        &self.worker.gateway
    }

    /// Where it is written down what went up, if it is.
    #[must_use]
    pub fn receipts(&self) -> Option<&Arc<Receipts>> {
        self.worker.receipts.as_ref()
    }

    /// The rules of `share`.
    #[must_use]
    pub fn rules(&self, share: ShareId) -> Rules {
        self.worker.rules(share)
    }

    /// Puts an object from the trash back under the key that it had.
    ///
    /// # Errors
    /// If the store fails, or something is there: see [`TrashError::is_taken`].
    pub async fn take_back(&self, trashed: Trashed) -> Result<(), TrashError> {
        Ok(self.worker.take_back(trashed).await?)
    }

    /// Deletes for good all that lies in the trash of `share`; tells how many objects that were.
    ///
    /// # Errors
    /// If the store fails; what is done by then is done.
    pub async fn empty_trash(&self, share: ShareId) -> Result<u64, TrashError> {
        Ok(self.worker.empty(share, i64::MAX).await?)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Work {
    Item(Ino),
    Delete(ShareId, Key),
    /// As many as one request takes.
    Deletions(ShareId),
}

/// Starts the engine. It stops, between two steps, when `tasks` are cancelled.
pub fn start(parts: Parts) -> Sync {
    let shared = Arc::new(Shared::default());
    let Parts {
        meta,
        cache,
        events,
        clock,
        tasks,
        rng,
        gateway,
        delay_max,
        links,
        rules,
        receipts,
    } = parts;
    let worker = Worker {
        meta: meta.clone(),
        cache,
        clock: clock.clone(),
        events: events.clone(),
        keys: Arc::new(Keys::default()),
        gateway,
        bodies: Bodies::new(transfer::MEMORY_KIB_MAX),
        rules,
        receipts: receipts.map(Arc::new),
    };
    let worker = Arc::new(worker);
    for (&share, (link, _)) in &links {
        let (worker, link, stop) = (worker.clone(), link.clone(), tasks.clone());
        tasks.spawn("sync.orphans", async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = worker.keep_giving_up(share, link) => {}
            }
        });
    }
    let (tell, told) = mpsc::channel(AT_ONCE_MAX);
    let engine = Engine {
        worker: worker.clone(),
        meta,
        events,
        clock,
        tasks: tasks.clone(),
        rng,
        delay_max,
        links,
        busy: BTreeSet::new(),
        concurrency: Concurrency::default(),
        found: None,
        shared: shared.clone(),
        turn: 0,
        looked_at_ages: None,
        tell,
        told,
    };
    tasks.spawn("sync.engine", engine.run());
    if let Some(receipts) = &worker.receipts {
        let (receipts, worker) = (receipts.clone(), worker.clone());
        tasks.spawn("sync.receipts", keep_writing(receipts, worker, tasks.clone()));
    }
    tasks.spawn("sync.retention", keep_letting_go(worker.clone(), tasks.clone()));
    Sync { shared, worker }
}

/// Writes receipts when something was settled, until everything stops.
async fn keep_writing(receipts: Arc<Receipts>, worker: Arc<Worker>, tasks: Tasks) {
    let mut stopping = false;
    loop {
        let settled = worker.events.settled.notified();
        let written = {
            let receipts = receipts.clone();
            tasks.blocking(move || receipts.write()).await
        };
        match written {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(
                error = &error as &dyn Error,
                "receipts can't be written: they are kept until they can"
            ),
            Err(error) => tracing::error!(%error, "receipts can't be written"),
        }
        if stopping {
            return;
        }
        let more_and_others = async {
            settled.await;
            worker.clock.sleep(RECEIPTS_DELAY).await;
        };
        tokio::select! {
            () = tasks.cancelled() => stopping = true,
            () = more_and_others => {}
        }
    }
}

/// Lets what was kept for a time go when that is over, until everything stops.
async fn keep_letting_go(worker: Arc<Worker>, tasks: Tasks) {
    loop {
        let let_go = tokio::select! {
            () = tasks.cancelled() => return,
            let_go = worker.let_go() => let_go,
        };
        if let Err(error) = let_go {
            tracing::info!(
                error = &error as &dyn Error,
                "what was kept long enough could not be let go yet"
            );
        }
        tokio::select! {
            () = tasks.cancelled() => return,
            () = worker.clock.sleep(RETENTION_LOOK) => {}
        }
    }
}

/// What came of an item or a deletion.
type Outcome = (Work, Result<Worked, SyncError>);

/// What came of work: of an item, or of each of many deletions.
type Told = (ShareId, Work, Vec<Outcome>);

/// What was found to be due. To look into the queue for each place that becomes free would cost more than the work.
#[derive(Debug)]
struct Found {
    /// When.
    at: Duration,
    of_shares: Vec<Waiting>,
    /// When something else will be due, ms since 1970.
    next: Option<i64>,
}

/// The one owner of what is worked on.
#[derive(Debug)]
struct Engine {
    worker: Arc<Worker>,
    meta: Arc<Meta>,
    events: Arc<Events>,
    clock: Arc<dyn Clock>,
    tasks: Tasks,
    rng: Rng,
    delay_max: Duration,
    links: BTreeMap<ShareId, (watch::Receiver<LinkState>, Arc<Pacer>)>,
    busy: BTreeSet<(ShareId, Work)>,
    /// How much may be.
    concurrency: Concurrency,
    /// What was due a moment ago.
    found: Option<Found>,
    shared: Arc<Shared>,
    /// How many items were begun.
    turn: u64,
    /// When it was looked for what waits too long.
    looked_at_ages: Option<Duration>,
    tell: mpsc::Sender<Told>,
    told: mpsc::Receiver<Told>,
}

impl Engine {
    async fn run(mut self) {
        let mut before = (self.clock.monotonic(), self.worker.millis());
        if let Err(error) = self.hasten_what_waits(before.1) {
            tracing::error!(error = &error as &dyn Error, "what waits too long could not be found");
        }
        loop {
            let now = (self.clock.monotonic(), self.worker.millis());
            if let Err(error) = self.follow_clock(before, now) {
                tracing::error!(
                    error = &error as &dyn Error,
                    "the queue could not be set to the new time"
                );
            }
            before = now;
            self.look_at_ages(now);
            let wait = match self.start_due() {
                Ok(wait) => wait,
                Err(error) => {
                    tracing::error!(error = &error as &dyn Error, "the queue could not be read");
                    LOOK_AFTER_MAX
                }
            };
            let wait = wait.min(self.next_look_at_ages());
            let full = self.busy.len() >= self.concurrency.limit();
            let paces = self.links.values().map(|(_, pace)| pace);
            let paused: Vec<_> = paces.filter(|pace| pace.is_paused()).cloned().collect();
            // Changes come in bursts, and to be woken by each would take the processor from those who make them.
            let (clock, events) = (self.clock.clone(), self.events.clone());
            let changed = async {
                clock.sleep(BURST).await;
                events.differs.notified().await;
            };
            tokio::select! {
                biased;
                () = self.tasks.cancelled() => return,
                Some((share, work, outcomes)) = self.told.recv() => {
                    self.finish(share, work, outcomes, full);
                }
                () = changed, if !full => self.found = None,
                () = link_changed(self.links.values_mut().map(|(link, _)| link)) => self.found = None,
                () = one_unpaused(&paused) => self.found = None,
                () = self.clock.sleep(wait), if !full => self.found = None,
            }
            while let Ok((share, work, outcomes)) = self.told.try_recv() {
                self.finish(share, work, outcomes, full);
            }
        }
    }

    /// Nothing that was stored by a clock that was wrong waits longer than anything may.
    fn hasten_what_waits(&self, now: i64) -> Result<(), MetaError> {
        let longest = i64::try_from((self.delay_max + BACKOFF_MAX).as_millis());
        let latest = now.saturating_add(longest.unwrap_or(i64::MAX));
        self.meta.write(move |tx| tx.hasten_to(latest))?;
        self.events.arrived.notify_one();
        Ok(())
    }

    /// What waits for a moment must not wait longer because the clock was set back.
    fn follow_clock(&self, before: (Duration, i64), now: (Duration, i64)) -> Result<(), MetaError> {
        let passed = now.0.saturating_sub(before.0).as_millis();
        let back = before.1.saturating_add(i64::try_from(passed).unwrap_or(i64::MAX)) - now.1;
        if back < CLOCK_SLACK_MILLIS {
            return Ok(());
        }
        tracing::warn!(seconds = back / 1000, "the clock was set back: what waits keeps its pace");
        self.meta.write(move |tx| tx.hasten_by(back, now.1))?;
        self.events.arrived.notify_one();
        Ok(())
    }

    /// Starts what is due, as much as there is room for; returns how long nothing else will be.
    fn start_due(&mut self) -> Result<Duration, MetaError> {
        let limit = self.concurrency.limit();
        if self.busy.len() >= limit {
            return Ok(LOOK_AFTER_MAX);
        }
        let mut found = match self.found.take().filter(|found| self.is_fresh(found)) {
            Some(found) => found,
            None => self.find_due(limit)?,
        };
        while self.busy.len() < limit {
            for of_share in &mut found.of_shares {
                of_share.drop_first_of(&self.busy);
            }
            let claims: Vec<Claim> = found.of_shares.iter().map(|w| w.claim(&self.busy)).collect();
            let Some(at) = order::next(&claims, self.turn) else { break };
            if let Some((work, keys)) = found.of_shares[at].take(self.turn) {
                self.begin(found.of_shares[at].share, work, keys);
            }
            self.turn = self.turn.wrapping_add(1);
        }
        let next = found.next.map_or(i64::MAX, |due| due.saturating_sub(self.worker.millis()));
        self.found = Some(found);
        Ok(Duration::from_millis(next.max(1).unsigned_abs()).min(LOOK_AFTER_MAX))
    }

    fn is_fresh(&self, found: &Found) -> bool {
        self.clock.monotonic() < found.at + BURST && found.of_shares.iter().any(Waiting::waits)
    }

    /// Looks for what is due where something can be done, somewhat more than there is room for.
    fn find_due(&mut self, limit: usize) -> Result<Found, MetaError> {
        let now = self.worker.millis();
        let (at, count) = (self.clock.monotonic(), self.busy.len() + 2 * limit);
        let mut found = Found { at, of_shares: Vec::new(), next: None };
        for (&share, (link, pace)) in &mut self.links {
            let reachable = link.borrow_and_update().link == Link::Online;
            if !reachable || pace.is_paused() {
                continue;
            }
            let counts = (count, self.worker.deletes_max(share));
            let rules = self.worker.rules(share);
            let mut of_share = Waiting::find(&self.meta, share, rules, now, counts)?;
            of_share.put_together(&self.busy);
            found.next = found.next.into_iter().chain(of_share.later).min();
            found.of_shares.push(of_share);
        }
        Ok(found)
    }

    /// Begins work. `keys`: what deletions are about.
    fn begin(&mut self, share: ShareId, work: Work, keys: Vec<Key>) {
        if let Work::Item(ino) = work {
            self.events.begin_upload(ino);
        }
        self.busy.insert((share, work.clone()));
        self.shared.in_flight.store(self.busy.len(), Ordering::Relaxed);
        let stop = CancellationToken::new();
        lock(&self.shared.stops).insert(work.clone(), stop.clone());
        let (worker, tell, tasks) = (self.worker.clone(), self.tell.clone(), self.tasks.clone());
        self.tasks.spawn("sync.work", async move {
            let outcomes = tokio::select! {
                () = tasks.cancelled() => return,
                () = stop.cancelled() => vec![(work.clone(), Err(SyncError::Changed))],
                outcomes = work_on(&worker, &work, &keys) => outcomes,
            };
            // The engine is gone only when everything stops.
            let _ = tell.send((share, work, outcomes)).await;
        });
    }

    /// Stores what came of work. `full`: no place was free until then.
    fn finish(&mut self, share: ShareId, work: Work, outcomes: Vec<Outcome>, full: bool) {
        if let Work::Item(ino) = work {
            self.events.end_upload(ino);
        }
        lock(&self.shared.stops).remove(&work);
        self.concurrency.done(self.clock.monotonic(), full);
        for (work, outcome) in outcomes {
            if matches!(&outcome, Err(SyncError::Remote(RemoteError::Unreachable { .. }))) {
                self.concurrency.slow_down();
            }
            if let Err(error) = self.store(&work, outcome) {
                let error = &error as &dyn Error;
                tracing::error!(?work, error, "the outcome could not be stored");
            }
        }
        self.busy.remove(&(share, work));
        self.shared.in_flight.store(self.busy.len(), Ordering::Relaxed);
        self.events.settled.notify_waiters();
    }

    /// How long until it is to be looked for what waits too long.
    fn next_look_at_ages(&self) -> Duration {
        let any = self.links.keys().any(|share| self.worker.rules(*share).alert_after.is_some());
        if any { AGES_LOOK } else { LOOK_AFTER_MAX }
    }

    /// Now and then looks for shares in which something waits for longer than it should, and says so once.
    fn look_at_ages(&mut self, (now, wall): (Duration, i64)) {
        let is_time = self.looked_at_ages.is_none_or(|at| now >= at + AGES_LOOK);
        if !is_time {
            return;
        }
        self.looked_at_ages = Some(now);
        for &share in self.links.keys() {
            let Some(alert_after) = self.worker.rules(share).alert_after else { continue };
            let since = match self.meta.scan(|tx| tx.oldest_item(share)) {
                Ok(since) => since,
                Err(error) => {
                    tracing::error!(error = &error as &dyn Error, "the queue could not be read");
                    continue;
                }
            };
            let late = i64::try_from(alert_after.as_millis()).unwrap_or(i64::MAX);
            let since = since.filter(|since| wall.saturating_sub(*since) >= late);
            let mut known = lock(&self.shared.late);
            let before = match since {
                Some(since) => known.insert(share, since),
                None => known.remove(&share),
            };
            match (before, since) {
                (None, Some(since)) => {
                    let minutes = (wall - since) / 60_000;
                    tracing::warn!(%share, minutes, "something waits for longer than `alert_after` to be uploaded: `fsd queue` shows why");
                }
                (Some(_), None) => tracing::info!(%share, "nothing waits for too long any more"),
                (None, None) | (Some(_), Some(_)) => {}
            }
        }
    }

    fn store(&mut self, work: &Work, outcome: Result<Worked, SyncError>) -> Result<(), MetaError> {
        let now = self.worker.millis();
        let next = match outcome {
            Ok(Worked::Done) => return Ok(()),
            Ok(Worked::Later) => {
                let due = now + LATER_MILLIS;
                Next { due, tries: None, parked: false, error: None, code: None }
            }
            Err(error) => {
                let verdict = verdict(&error);
                let (text, code) = (chain(&error), Code::from(&error));
                match verdict {
                    Verdict::Again | Verdict::Gated => {
                        tracing::debug!(?work, error = text, "to be tried again");
                    }
                    Verdict::Offline => tracing::info!(?work, error = text, "waits for the store"),
                    Verdict::Retry => {
                        tracing::warn!(?work, error = text, "failed, to be tried again")
                    }
                    Verdict::Park if matches!(error, SyncError::KeptHere { .. }) => {
                        tracing::info!(?work, why = text, "it does not leave");
                    }
                    Verdict::Park => {
                        tracing::error!(?work, error = text, "parked: it needs a person")
                    }
                }
                let tries = self.tries(work)?;
                after_failure(verdict, tries, (text, code), now, &mut self.rng)
            }
        };
        let work = work.clone();
        self.meta.write(move |tx| match work {
            Work::Item(ino) => match tx.item(ino)? {
                // A change since then made it due again by itself.
                Some(item) if item.due > now => Ok(()),
                Some(item) => tx.put_item(&Item {
                    due: next.due,
                    tries: next.tries.unwrap_or(item.tries),
                    parked: next.parked,
                    error: next.error,
                    code: next.code.map(|code| code.word().to_owned()),
                    ..item
                }),
                None => Ok(()),
            },
            Work::Delete(share, key) => match tx.tombstone(share, &key)? {
                Some(tombstone) => tx.put_tombstone(&Tombstone {
                    due: next.due,
                    tries: next.tries.unwrap_or(tombstone.tries),
                    parked: next.parked,
                    error: next.error,
                    code: next.code.map(|code| code.word().to_owned()),
                    ..tombstone
                }),
                None => Ok(()),
            },
            Work::Deletions(_) => Ok(()),
        })
    }

    fn tries(&self, work: &Work) -> Result<u32, MetaError> {
        self.meta.read(|tx| match work {
            Work::Item(ino) => Ok(tx.item(*ino)?.map_or(0, |item| item.tries)),
            Work::Delete(share, key) => Ok(tx.tombstone(*share, key)?.map_or(0, |t| t.tries)),
            Work::Deletions(_) => Ok(0),
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn work_on(worker: &Worker, work: &Work, keys: &[Key]) -> Vec<Outcome> {
    let worked = AssertUnwindSafe(try_work_on(worker, work, keys)).catch_unwind().await;
    // What panics keeps its item: it is tried again, and parked in the end.
    worked.unwrap_or_else(|_| match (work, keys.first()) {
        (Work::Deletions(share), Some(key)) => {
            vec![(Work::Delete(*share, key.clone()), Err(SyncError::Panicked))]
        }
        _ => vec![(work.clone(), Err(SyncError::Panicked))],
    })
}

async fn try_work_on(worker: &Worker, work: &Work, keys: &[Key]) -> Vec<Outcome> {
    let worked = match work {
        Work::Item(ino) => worker.work(*ino).await,
        Work::Delete(share, key) => worker.delete(*share, key).await,
        Work::Deletions(share) => {
            let deleted = worker.delete_many(*share, keys).await.into_iter();
            return deleted.map(|(key, worked)| (Work::Delete(*share, key), worked)).collect();
        }
    };
    vec![(work.clone(), worked)]
}

/// Resolves when one of the paces that were paused is so no more.
async fn one_unpaused(paused: &[Arc<Pacer>]) {
    if paused.is_empty() {
        std::future::pending::<()>().await;
    }
    futures::future::select_all(paused.iter().map(|pace| Box::pin(pace.unpaused()))).await;
}

/// Resolves when a store can be reached, or no more, since it was looked at last.
async fn link_changed(links: impl Iterator<Item = &mut watch::Receiver<LinkState>>) {
    let changes: Vec<_> = links
        .map(|link| {
            Box::pin(async move {
                if link.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            })
        })
        .collect();
    if changes.is_empty() {
        std::future::pending::<()>().await;
    }
    futures::future::select_all(changes).await;
}
