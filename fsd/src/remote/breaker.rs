//! Offline is a state, not a series of errors: while a store can't be reached, requests fail at once and one probe
//! at a time asks whether it is back.

use std::error::Error;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;

use super::{
    Body, Condition, ETag, Limits, Object, Page, PageToken, PartId, Remote, RemoteError, RemoteRef,
    Result, Source, UploadId,
};
use crate::clock::Clock;
use crate::rng::Rng;
use crate::tasks::Tasks;
use crate::types::{Key, Metadata, Time, chain};

/// Requests in a row that must find the store away, before others need not try.
const FAILURES_MAX: u32 = 3;

/// The first probe comes after this time at most, each further one after twice the last.
const PROBE_AFTER: Duration = Duration::from_secs(1);
const PROBE_AFTER_MAX: Duration = Duration::from_secs(15);

/// How a store is to be reached now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// It answers.
    Online,
    /// It can't be reached. This passes by itself.
    Offline,
    /// It refuses our credentials. A person must act.
    Denied,
    /// The bucket, container or directory is not there. A person must act.
    NoContainer,
}

/// How a store stands to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkState {
    /// Whether it is to be reached.
    pub link: Link,
    /// Since when.
    pub since: Time,
    /// What it, or the network, said when that began; nothing if all is well.
    pub why: String,
}

/// What a request or a probe came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Served,
    Unreachable,
    Denied,
    NoContainer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Request(Outcome),
    Probe(Outcome),
}

/// ```text
///            ┌──────────────── a probe is served ──────────────┬──────────────┐
///            ▼                                                 │              │
///  Closed{failures} ─ unreachable, 3rd in a row ─────────► Open{tries} ◄──► Refused{why, tries}
///            │                                                 ▲              ▲  each probe decides
///            ├─ denied: perhaps only one object ► Suspect ─────┴──────────────┤
///            └─ no container ─────────────────────────────────────────────────┘
/// ```
/// Requests pass but in `Open`. Out of `Closed` there is always one prober: it makes the only way
/// back, and ends there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Circuit {
    Closed { failures: u32 },
    Suspect,
    Open { tries: u32 },
    Refused { why: Refusal, tries: u32 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    Denied,
    NoContainer,
}

impl Circuit {
    fn step(self, event: Event) -> Self {
        match (self, event) {
            (Self::Closed { .. }, Event::Request(Outcome::Served)) => Self::Closed { failures: 0 },
            (Self::Closed { failures }, Event::Request(Outcome::Unreachable)) => {
                match failures + 1 {
                    FAILURES_MAX.. => Self::Open { tries: 0 },
                    failures => Self::Closed { failures },
                }
            }
            (Self::Closed { .. }, Event::Request(Outcome::Denied)) => Self::Suspect,
            (Self::Closed { .. } | Self::Suspect, Event::Request(Outcome::NoContainer)) => {
                Self::Refused { why: Refusal::NoContainer, tries: 0 }
            }
            // Requests that were under way do not settle what a probe will.
            (Self::Suspect | Self::Open { .. } | Self::Refused { .. }, Event::Request(_)) => self,
            (_, Event::Probe(Outcome::Served)) => Self::Closed { failures: 0 },
            (_, Event::Probe(Outcome::Unreachable)) => Self::Open { tries: self.tries() + 1 },
            (_, Event::Probe(Outcome::Denied)) => {
                Self::Refused { why: Refusal::Denied, tries: self.tries() + 1 }
            }
            (_, Event::Probe(Outcome::NoContainer)) => {
                Self::Refused { why: Refusal::NoContainer, tries: self.tries() + 1 }
            }
        }
    }

    fn tries(self) -> u32 {
        match self {
            Self::Closed { .. } | Self::Suspect => 0,
            Self::Open { tries } | Self::Refused { tries, .. } => tries,
        }
    }

    /// When to probe next, if at all.
    fn probe_after(self) -> Option<Duration> {
        match self {
            Self::Closed { .. } => None,
            Self::Suspect | Self::Open { .. } | Self::Refused { .. } => {
                Some((PROBE_AFTER * (1 << self.tries().min(8))).min(PROBE_AFTER_MAX))
            }
        }
    }

    fn link(self) -> Link {
        match self {
            Self::Closed { .. } | Self::Suspect => Link::Online,
            Self::Open { .. } => Link::Offline,
            Self::Refused { why: Refusal::Denied, .. } => Link::Denied,
            Self::Refused { why: Refusal::NoContainer, .. } => Link::NoContainer,
        }
    }
}

/// Why a request was not even tried.
#[derive(Debug, thiserror::Error)]
#[error("it could not be reached a moment ago; requests go on when a probe gets through")]
pub struct CircuitOpen;

/// A store behind a circuit breaker.
#[derive(Debug)]
pub struct Breaker {
    shared: Arc<Shared>,
    tasks: Tasks,
}

#[derive(Debug)]
struct Shared {
    inner: RemoteRef,
    clock: Arc<dyn Clock>,
    rng: Mutex<Rng>,
    circuit: Mutex<Circuit>,
    link: watch::Sender<LinkState>,
}

impl Breaker {
    /// Puts a breaker before `inner`; its prober is one of `tasks`.
    #[must_use]
    pub fn new(inner: RemoteRef, clock: Arc<dyn Clock>, rng: Rng, tasks: Tasks) -> Self {
        let link = LinkState { link: Link::Online, since: clock.wall(), why: String::new() };
        let shared = Shared {
            inner,
            clock,
            rng: Mutex::new(rng),
            circuit: Mutex::new(Circuit::Closed { failures: 0 }),
            link: watch::Sender::new(link),
        };
        Self { shared: Arc::new(shared), tasks }
    }

    /// How the store stands to us, now and as that changes.
    #[must_use]
    pub fn link(&self) -> watch::Receiver<LinkState> {
        self.shared.link.subscribe()
    }

    /// Sends a request, if it may pass, and notes what it came to.
    async fn pass<'a, T, F>(&'a self, ask: impl FnOnce(&'a dyn Remote) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send + 'a,
    {
        if self.shared.circuit().link() == Link::Offline {
            let store = self.shared.inner.to_string();
            return Err(RemoteError::Unreachable { store, source: CircuitOpen.into() });
        }
        let result = ask(&*self.shared.inner).await;
        self.note(&result);
        result
    }

    fn note<T>(&self, result: &Result<T>) {
        let Some(outcome) = outcome(result) else { return };
        let error = result.as_ref().err();
        if self.shared.step(Event::Request(outcome), error) == Step::Broken {
            self.tasks
                .spawn("remote.prober", probe(Arc::downgrade(&self.shared), self.tasks.clone()));
        }
    }
}

/// What an event changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The circuit was closed and is no more: a prober is needed.
    Broken,
    /// Anything else. The next probe comes after this time; none if the circuit is closed.
    Next(Option<Duration>),
}

impl Shared {
    fn circuit(&self) -> MutexGuard<'_, Circuit> {
        self.circuit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn step(&self, event: Event, error: Option<&RemoteError>) -> Step {
        let mut circuit = self.circuit();
        let before = *circuit;
        *circuit = before.step(event);
        let (old, new) = (before.link(), circuit.link());
        if old != new {
            let why = error.map(|error| chain(error)).unwrap_or_default();
            self.link.send_replace(LinkState { link: new, since: self.clock.wall(), why });
            let error = error.map(|error| error as &dyn Error);
            let store = self.inner.to_string();
            match new {
                Link::Online | Link::Offline => {
                    tracing::info!(store, link = ?new, error, "the link changed")
                }
                Link::Denied | Link::NoContainer => {
                    tracing::error!(store, link = ?new, error, "the store refuses us");
                }
            }
        }
        match (before.probe_after(), circuit.probe_after()) {
            (None, Some(_)) => Step::Broken,
            (_, next) => Step::Next(next),
        }
    }

    /// Half of `limit` and up to as much again, so that gateways that lost a store together do not all
    /// come back to it at once.
    fn jittered(&self, limit: Duration) -> Duration {
        let half = u64::try_from(limit.as_millis() / 2).unwrap_or(u64::MAX);
        let more = self.rng.lock().unwrap_or_else(PoisonError::into_inner).below(half);
        Duration::from_millis(half + more)
    }
}

/// Probes until the circuit is closed, or there is no breaker any more.
async fn probe(shared: Weak<Shared>, tasks: Tasks) {
    loop {
        let Some(strong) = shared.upgrade() else { return };
        let Some(after) = strong.circuit().probe_after() else { return };
        let (after, clock) = (strong.jittered(after), Arc::clone(&strong.clock));
        drop(strong);
        tokio::select! {
            () = tasks.cancelled() => return,
            () = clock.sleep(after) => {}
        }
        let Some(strong) = shared.upgrade() else { return };
        let result = tokio::select! {
            () = tasks.cancelled() => return,
            result = strong.inner.check() => result,
        };
        // What a check can't say otherwise, it says by answering.
        let outcome = outcome(&result).unwrap_or(Outcome::Served);
        if strong.step(Event::Probe(outcome), result.as_ref().err()) == Step::Next(None) {
            return;
        }
    }
}

/// What a result says about the store; nothing, if the request may not have left this machine.
fn outcome<T>(result: &Result<T>) -> Option<Outcome> {
    match result {
        Ok(_)
        | Err(
            RemoteError::NotFound { .. }
            | RemoteError::Precondition { .. }
            | RemoteError::Damaged { .. },
        ) => Some(Outcome::Served),
        Err(RemoteError::Unreachable { .. }) => Some(Outcome::Unreachable),
        Err(RemoteError::Denied { .. }) => Some(Outcome::Denied),
        Err(RemoteError::NoContainer { .. }) => Some(Outcome::NoContainer),
        Err(
            RemoteError::Occupied { .. }
            | RemoteError::Unsupported { .. }
            | RemoteError::Rejected { .. },
        ) => None,
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Remote for Breaker {
    fn limits(&self) -> Limits {
        self.shared.inner.limits()
    }

    /// Asks the store even while it counts as away: who asks this wants to know.
    async fn check(&self) -> Result<()> {
        let result = self.shared.inner.check().await;
        self.note(&result);
        result
    }

    async fn head(&self, key: &Key) -> Result<Object> {
        self.pass(|inner| inner.head(key)).await
    }

    async fn get(&self, key: &Key, range: Range<u64>, expect: Option<&ETag>) -> Result<Bytes> {
        self.pass(|inner| inner.get(key, range, expect)).await
    }

    async fn list(&self, prefix: &Key, page: Option<&PageToken>) -> Result<Page> {
        self.pass(|inner| inner.list(prefix, page)).await
    }

    async fn put(
        &self,
        key: &Key,
        body: Body,
        metadata: &Metadata,
        condition: &Condition,
    ) -> Result<ETag> {
        self.pass(|inner| inner.put(key, body, metadata, condition)).await
    }

    async fn copy(
        &self,
        from: &Key,
        expect: &ETag,
        to: &Key,
        metadata: &Metadata,
        condition: &Condition,
    ) -> Result<ETag> {
        self.pass(|inner| inner.copy(from, expect, to, metadata, condition)).await
    }

    async fn set_metadata(&self, key: &Key, metadata: &Metadata, expect: &ETag) -> Result<ETag> {
        self.pass(|inner| inner.set_metadata(key, metadata, expect)).await
    }

    async fn delete(&self, key: &Key, condition: &Condition) -> Result<()> {
        self.pass(|inner| inner.delete(key, condition)).await
    }

    async fn delete_many(&self, objects: &[(Key, ETag)]) -> Result<Vec<Result<()>>> {
        self.pass(|inner| inner.delete_many(objects)).await
    }

    async fn multipart_create(&self, key: &Key, metadata: &Metadata) -> Result<UploadId> {
        self.pass(|inner| inner.multipart_create(key, metadata)).await
    }

    async fn multipart_put(
        &self,
        key: &Key,
        id: &UploadId,
        number: u32,
        body: Body,
    ) -> Result<PartId> {
        self.pass(|inner| inner.multipart_put(key, id, number, body)).await
    }

    async fn multipart_copy(
        &self,
        key: &Key,
        id: &UploadId,
        number: u32,
        source: &Source,
    ) -> Result<PartId> {
        self.pass(|inner| inner.multipart_copy(key, id, number, source)).await
    }

    async fn multipart_complete(
        &self,
        key: &Key,
        id: &UploadId,
        parts: &[PartId],
        metadata: &Metadata,
        condition: &Condition,
    ) -> Result<ETag> {
        self.pass(|inner| inner.multipart_complete(key, id, parts, metadata, condition)).await
    }

    async fn multipart_abort(&self, key: &Key, id: &UploadId) -> Result<()> {
        self.pass(|inner| inner.multipart_abort(key, id)).await
    }
}

impl fmt::Display for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "breaker({})", self.shared.inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(events: &[Event]) -> Circuit {
        events.iter().fold(Circuit::Closed { failures: 0 }, |circuit, event| circuit.step(*event))
    }

    #[test]
    fn the_circuit_opens_after_failures_in_a_row_and_closes_by_a_probe() {
        use Event::{Probe, Request};
        use Outcome::{Denied, NoContainer, Served, Unreachable};
        let open = [Request(Unreachable); 3];
        let cases: [(&[Event], Link); 9] = [
            (&[Request(Unreachable), Request(Unreachable)], Link::Online),
            (
                &[
                    Request(Unreachable),
                    Request(Unreachable),
                    Request(Served),
                    Request(Unreachable),
                ],
                Link::Online,
            ),
            (&open, Link::Offline),
            (&[open[0], open[0], open[0], Request(Served)], Link::Offline),
            (&[open[0], open[0], open[0], Probe(Unreachable), Probe(Served)], Link::Online),
            (&[open[0], open[0], open[0], Probe(Denied)], Link::Denied),
            (&[Request(Denied), Request(Denied)], Link::Online),
            (&[Request(Denied), Probe(Denied)], Link::Denied),
            (&[Request(NoContainer)], Link::NoContainer),
        ];
        for (events, link) in cases {
            assert_eq!(after(events).link(), link, "{events:?}");
        }
    }

    #[test]
    fn probes_come_ever_later_but_never_later_than_said() {
        let mut circuit = after(&[Event::Request(Outcome::Unreachable); 3]);
        let mut seconds = Vec::new();
        for _ in 0..40 {
            seconds.push(circuit.probe_after().unwrap().as_secs());
            circuit = circuit.step(Event::Probe(Outcome::Unreachable));
        }
        assert_eq!(seconds[..6], [1, 2, 4, 8, 15, 15]);
        assert_eq!(seconds[39], 15);
    }
}
