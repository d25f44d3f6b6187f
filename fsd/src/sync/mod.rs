//! Sync: makes the cloud equal to what is here. Not a log of operations but reconciliation: a queue item only says «inode X differs»,
//! the records say how, the planner says what to do next.
//!
//! Invariant: an item is removed only when its plan says that nothing is left to do.
//! Invariant: offline costs no tries and drops nothing.

mod bodies;
mod error;
mod keys;
mod known;
mod moves;
mod plan;
mod records;
pub mod report;
mod retry;
#[cfg(test)]
mod tests;
mod transfer;
mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use tokio::sync::{mpsc, watch};

use self::bodies::Bodies;
use self::error::SyncError;
use self::keys::Keys;
use self::retry::{Next, Verdict, after_failure, verdict};
use self::worker::{Worked, Worker};
use crate::cache::Cache;
use crate::clock::Clock;
use crate::events::Events;
use crate::meta::{Item, Meta, MetaError, Tombstone};
use crate::remote::{Link, Pacer};
use crate::rng::Rng;
use crate::tasks::Tasks;
use crate::types::{Ino, Key, ShareId, chain};

/// Items and deletions worked on at once.
const AT_ONCE: usize = 16;
/// The longest time without a look at the queue.
const LOOK_AFTER_MAX: Duration = Duration::from_secs(30);
/// A clock that goes back by less is not followed.
const CLOCK_SLACK_MILLIS: i64 = 2000;
/// Nothing waits longer for another try.
const BACKOFF_MAX: Duration = Duration::from_secs(3600);
/// How long a look at the queue waits for more changes.
const BURST: Duration = Duration::from_millis(20);
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
    pub links: BTreeMap<ShareId, (watch::Receiver<Link>, Arc<Pacer>)>,
}

/// The engine's face to others.
#[derive(Debug)]
pub struct Sync {
    in_flight: Arc<AtomicUsize>,
}

impl Sync {
    /// Items and deletions that are worked on now.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Work {
    Item(Ino),
    Delete(ShareId, Key),
}

/// Starts the engine. It stops, between two steps, when `tasks` are cancelled.
pub fn start(parts: Parts) -> Sync {
    let in_flight = Arc::new(AtomicUsize::new(0));
    let Parts { meta, cache, events, clock, tasks, rng, gateway, delay_max, links } = parts;
    let worker = Worker {
        meta: meta.clone(),
        cache,
        clock: clock.clone(),
        events: events.clone(),
        keys: Arc::new(Keys::default()),
        gateway,
        bodies: Bodies::new(transfer::MEMORY_KIB_MAX),
    };
    let (tell, told) = mpsc::channel(AT_ONCE);
    let engine = Engine {
        worker: Arc::new(worker),
        meta,
        events,
        clock,
        tasks: tasks.clone(),
        rng,
        delay_max,
        links,
        busy: BTreeSet::new(),
        in_flight: in_flight.clone(),
        tell,
        told,
    };
    tasks.spawn("sync.engine", engine.run());
    Sync { in_flight }
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
    links: BTreeMap<ShareId, (watch::Receiver<Link>, Arc<Pacer>)>,
    busy: BTreeSet<Work>,
    in_flight: Arc<AtomicUsize>,
    tell: mpsc::Sender<(Work, Result<Worked, SyncError>)>,
    told: mpsc::Receiver<(Work, Result<Worked, SyncError>)>,
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
            let wait = match self.start_due() {
                Ok(wait) => wait,
                Err(error) => {
                    tracing::error!(error = &error as &dyn Error, "the queue could not be read");
                    LOOK_AFTER_MAX
                }
            };
            let full = self.busy.len() >= AT_ONCE;
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
                Some((work, outcome)) = self.told.recv() => self.finish(work, outcome),
                () = changed, if !full => {}
                () = link_changed(self.links.values_mut().map(|(link, _)| link)) => {}
                () = one_unpaused(&paused) => {}
                () = self.clock.sleep(wait), if !full => {}
            }
            while let Ok((work, outcome)) = self.told.try_recv() {
                self.finish(work, outcome);
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
        let now = self.worker.millis();
        let mut next: Option<i64> = None;
        for (&share, (link, pace)) in &mut self.links {
            let free = AT_ONCE.saturating_sub(self.busy.len());
            let reachable = *link.borrow_and_update() == Link::Online;
            if free == 0 || !reachable || pace.is_paused() {
                continue;
            }
            let looked = self.busy.len() + free;
            let (items, tombstones, later) = self.meta.read(|tx| -> Result<_, MetaError> {
                let items = tx.due_items(share, now, looked)?;
                Ok((items, tx.due_tombstones(share, now, looked)?, tx.next_due(share, now)?))
            })?;
            next = next.into_iter().chain(later).min();
            let items = items.into_iter().map(|item| Work::Item(item.ino));
            let deletes = tombstones.into_iter().map(|t| Work::Delete(t.share, t.key));
            let due: Vec<Work> =
                items.chain(deletes).filter(|work| !self.busy.contains(work)).take(free).collect();
            for work in due {
                if let Work::Item(ino) = work {
                    self.events.begin_upload(ino);
                }
                self.busy.insert(work.clone());
                self.in_flight.store(self.busy.len(), Ordering::Relaxed);
                let (worker, tell, tasks) =
                    (self.worker.clone(), self.tell.clone(), self.tasks.clone());
                self.tasks.spawn("sync.work", async move {
                    let outcome = tokio::select! {
                        () = tasks.cancelled() => return,
                        outcome = work_on(&worker, &work) => outcome,
                    };
                    // The engine is gone only when everything stops.
                    let _ = tell.send((work, outcome)).await;
                });
            }
        }
        let millis = next.map_or(i64::MAX, |due| due.saturating_sub(now)).max(1).unsigned_abs();
        Ok(Duration::from_millis(millis).min(LOOK_AFTER_MAX))
    }

    fn finish(&mut self, work: Work, outcome: Result<Worked, SyncError>) {
        if let Work::Item(ino) = work {
            self.events.end_upload(ino);
        }
        self.busy.remove(&work);
        self.in_flight.store(self.busy.len(), Ordering::Relaxed);
        if let Err(error) = self.store(&work, outcome) {
            tracing::error!(?work, error = &error as &dyn Error, "the outcome could not be stored");
        }
        self.events.settled.notify_waiters();
    }

    fn store(&mut self, work: &Work, outcome: Result<Worked, SyncError>) -> Result<(), MetaError> {
        let now = self.worker.millis();
        let next = match outcome {
            Ok(Worked::Done) => return Ok(()),
            Ok(Worked::Later) => {
                Next { due: now + LATER_MILLIS, tries: None, parked: false, error: None }
            }
            Err(error) => {
                let verdict = verdict(&error);
                let text = chain(&error);
                match verdict {
                    Verdict::Again => tracing::debug!(?work, error = text, "to be tried again"),
                    Verdict::Offline => tracing::info!(?work, error = text, "waits for the store"),
                    Verdict::Retry => {
                        tracing::warn!(?work, error = text, "failed, to be tried again")
                    }
                    Verdict::Park => {
                        tracing::error!(?work, error = text, "parked: it needs a person")
                    }
                }
                let tries = self.tries(work)?;
                after_failure(verdict, tries, text, now, &mut self.rng)
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
                    ..tombstone
                }),
                None => Ok(()),
            },
        })
    }

    fn tries(&self, work: &Work) -> Result<u32, MetaError> {
        self.meta.read(|tx| match work {
            Work::Item(ino) => Ok(tx.item(*ino)?.map_or(0, |item| item.tries)),
            Work::Delete(share, key) => Ok(tx.tombstone(*share, key)?.map_or(0, |t| t.tries)),
        })
    }
}

async fn work_on(worker: &Worker, work: &Work) -> Result<Worked, SyncError> {
    let worked = AssertUnwindSafe(try_work_on(worker, work)).catch_unwind().await;
    // What panics keeps its item: it is tried again, and parked in the end.
    worked.unwrap_or(Err(SyncError::Panicked))
}

async fn try_work_on(worker: &Worker, work: &Work) -> Result<Worked, SyncError> {
    match work {
        Work::Item(ino) => worker.work(*ino).await,
        Work::Delete(share, key) => worker.delete(*share, key).await,
    }
}

/// Resolves when one of the paces that were paused is so no more.
async fn one_unpaused(paused: &[Arc<Pacer>]) {
    if paused.is_empty() {
        std::future::pending::<()>().await;
    }
    futures::future::select_all(paused.iter().map(|pace| Box::pin(pace.unpaused()))).await;
}

/// Resolves when a store can be reached, or no more, since it was looked at last.
async fn link_changed(links: impl Iterator<Item = &mut watch::Receiver<Link>>) {
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
