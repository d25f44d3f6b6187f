//! Sinks: others who are told what happens here: a web hook, a broker, a file.
//!
//! Invariant: how far a sink has got is stored only after it has said that it has all up to there: each event comes once at least, and in
//! order. One that is dropped before, because the log has grown too long, is counted and shown.

mod jsonl;
mod message;
mod mqtt;
mod nats;
mod open;
mod outlet;
mod target;
mod tls;
mod webhook;

use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use self::message::Message;
use self::outlet::Outlet;
use crate::clock::Clock;
use crate::events::Events;
use crate::meta::{Meta, MetaError, SinkPlace};
use crate::tasks::Tasks;
use crate::types::chain;

pub use self::outlet::SinkError;
pub use self::target::{Access, SinkConfig, Target, TargetError, Topic};

/// Events that are read in one go.
const AT_ONCE: usize = 256;
/// The waits between two tries.
const DELAYS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// The longest time without a look at the log.
const LOOK_AFTER_MAX: Duration = Duration::from_secs(30);
/// How often old events are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(60);
/// Events that are forgotten in one go.
const FORGOTTEN_AT_ONCE: usize = 10_000;

/// How long events are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventRules {
    /// So long, and longer if a sink does not have them.
    pub keep: Duration,
    /// But never more than so many.
    pub count_max: u64,
}

impl Default for EventRules {
    fn default() -> Self {
        Self { keep: Duration::from_secs(7 * 86_400), count_max: 1_000_000 }
    }
}

/// What sinks are built of.
#[derive(Debug)]
pub struct Parts {
    /// The precious store, with the log.
    pub meta: Arc<Meta>,
    /// The bus.
    pub events: Arc<Events>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where sinks are told.
    pub tasks: Tasks,
    /// The name of this gateway.
    pub gateway: String,
    /// How long the log is.
    pub rules: EventRules,
    /// The sinks of the configuration.
    pub sinks: Vec<SinkConfig>,
}

/// Where a sink stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SinkState {
    /// Events that it has been told since the start.
    pub told: u64,
    /// Since when it takes nothing, ms since 1970, and why.
    pub failing: Option<(i64, String)>,
}

/// A sink's face to others.
#[derive(Debug)]
pub struct Sink {
    /// What it is.
    pub config: SinkConfig,
    state: Mutex<SinkState>,
    poked: Notify,
}

impl Sink {
    /// How it does.
    #[must_use]
    pub fn state(&self) -> SinkState {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has it tried at once.
    pub fn poke(&self) {
        self.poked.notify_one();
    }
}

/// Starts telling; an event that happens before a sink is first known is not told.
///
/// # Errors
/// If a file that a sink needs is not there, or the metadata store fails.
pub fn start(parts: Parts) -> Result<Vec<Arc<Sink>>, StartError> {
    let Parts { meta, events, clock, tasks, gateway, rules, sinks } = parts;
    let names: Vec<String> = sinks.iter().map(|sink| sink.name.clone()).collect();
    let known = names.clone();
    meta.write(move |tx| -> Result<(), MetaError> {
        tx.keep_sinks(&known)?;
        let (_, seq) = tx.event_range()?;
        for name in &known {
            if tx.sink_place(name)?.is_none() {
                tx.put_sink_place(name, SinkPlace { seq, missed: 0 })?;
            }
        }
        Ok(())
    })?;
    let mut started = Vec::new();
    for config in sinks {
        let outlet = open::outlet(&config, &gateway, &clock)
            .map_err(|source| StartError::Sink { name: config.name.clone(), source })?;
        let sink = Arc::new(Sink { config, state: Mutex::default(), poked: Notify::new() });
        started.push(sink.clone());
        let (meta, events, clock) = (meta.clone(), events.clone(), clock.clone());
        let gateway = gateway.clone();
        let task = SinkTask { meta, events, clock, sink, outlet, gateway, has_told: false };
        let asked_to_stop = tasks.clone();
        tasks.spawn("sinks.sink", async move {
            tokio::select! {
                () = asked_to_stop.cancelled() => {}
                () = task.run() => {}
            }
        });
    }
    let keeper = Keeper { meta, clock, rules, names };
    let asked_to_stop = tasks.clone();
    tasks.spawn("sinks.keeper", async move {
        tokio::select! {
            () = asked_to_stop.cancelled() => {}
            () = keeper.run() => {}
        }
    });
    Ok(started)
}

/// Why sinks could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// One of them.
    #[error("the sink {name}")]
    Sink {
        /// Which.
        name: String,
        /// Why.
        source: SinkError,
    },
    /// The metadata store.
    #[error(transparent)]
    Meta(#[from] MetaError),
}

struct SinkTask {
    meta: Arc<Meta>,
    events: Arc<Events>,
    clock: Arc<dyn Clock>,
    sink: Arc<Sink>,
    outlet: Box<dyn Outlet>,
    gateway: String,
    /// The last turn told it something.
    has_told: bool,
}

impl SinkTask {
    async fn run(mut self) {
        let events = self.events.clone();
        let mut delay = DELAYS.0;
        loop {
            // What is logged while we look must not be slept over.
            let mut logged = std::pin::pin!(events.logged.notified());
            logged.as_mut().enable();
            match self.turn().await {
                Ok(true) => delay = DELAYS.0,
                Ok(false) => {
                    delay = DELAYS.0;
                    tokio::select! {
                        () = logged => {}
                        () = self.sink.poked.notified() => {}
                        () = self.clock.sleep(LOOK_AFTER_MAX) => {}
                    }
                }
                Err(error) => {
                    // It took some before that.
                    if std::mem::take(&mut self.has_told) {
                        delay = DELAYS.0;
                    }
                    self.note_failure(error.as_ref());
                    tokio::select! {
                        () = self.sink.poked.notified() => {}
                        () = self.clock.sleep(delay) => {}
                    }
                    delay = (delay * 2).min(DELAYS.1);
                }
            }
        }
    }

    /// Tells what comes next; whether there was anything.
    async fn turn(&mut self) -> Result<bool, outlet::BoxError> {
        let name = self.sink.config.name.clone();
        let (place, (found, last)) = self.meta.read(|tx| -> Result<_, MetaError> {
            let place = tx.sink_place(&name)?.unwrap_or_default();
            Ok((place, tx.events_behind(place.seq, AT_ONCE)?))
        })?;
        if last == place.seq {
            self.sink.state.lock().unwrap_or_else(PoisonError::into_inner).failing = None;
            return Ok(false);
        }
        let wanted = found.iter().filter(|event| event.is_meant_by(&self.sink.config.filter));
        let messages: Vec<_> = wanted.map(|event| Message::of(event, &self.gateway)).collect();
        // Nobody is connected to for nothing.
        let delivered = match messages.as_slice() {
            [] => Ok(()),
            messages => self.outlet.deliver(messages).await,
        };
        let (taken, up_to, failed) = match delivered {
            Ok(()) => (messages.len(), last, None),
            Err(outlet::Undelivered { taken, error }) => {
                let up_to = taken.checked_sub(1).and_then(|at| messages.get(at));
                (taken, up_to.map_or(place.seq, |message| message.seq), Some(error))
            }
        };
        // A person may have moved it meanwhile.
        self.meta.write(move |tx| -> Result<(), MetaError> {
            match tx.sink_place(&name)? {
                Some(now) if now == place => {
                    tx.put_sink_place(&name, SinkPlace { seq: up_to, ..place })
                }
                Some(_) | None => Ok(()),
            }
        })?;
        let mut state = self.sink.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.told += taken as u64;
        self.has_told = taken > 0;
        if self.has_told && failed.is_some() {
            state.failing = None;
        }
        match failed {
            Some(error) => Err(error.into()),
            None => {
                if state.failing.take().is_some() {
                    tracing::info!(sink = self.sink.config.name, "a sink takes events again");
                }
                Ok(true)
            }
        }
    }

    fn note_failure(&self, error: &(dyn Error + 'static)) {
        let text = chain(error);
        let mut state = self.sink.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.failing.is_none() {
            let sink = &self.sink.config.name;
            tracing::warn!(sink, error = text, "a sink takes no events; they wait");
        }
        let since = state.failing.as_ref().map_or(self.clock.wall().millis(), |(since, _)| *since);
        state.failing = Some((since, text));
    }
}

/// Keeps the log as long as it should be.
struct Keeper {
    meta: Arc<Meta>,
    clock: Arc<dyn Clock>,
    rules: EventRules,
    names: Vec<String>,
}

impl Keeper {
    async fn run(self) {
        loop {
            if let Err(error) = self.forget() {
                tracing::error!(error = &error as &dyn Error, "old events can't be forgotten");
            }
            self.clock.sleep(FORGET_EVERY).await;
        }
    }

    fn forget(&self) -> Result<(), MetaError> {
        let (_, last) = self.meta.read(|tx| tx.event_range())?;
        let count_max = i64::try_from(self.rules.count_max).unwrap_or(i64::MAX);
        let too_old = last.saturating_sub(count_max);
        let names = self.names.clone();
        let had_by_all = self.meta.write(move |tx| -> Result<i64, MetaError> {
            let mut had_by_all = last;
            for name in &names {
                let Some(mut place) = tx.sink_place(name)? else { continue };
                if place.seq < too_old {
                    let lost = too_old.abs_diff(place.seq);
                    tracing::error!(
                        sink = name,
                        lost,
                        "a sink was away for too long: events are dropped that it has not had"
                    );
                    place = SinkPlace { seq: too_old, missed: place.missed + lost };
                    tx.put_sink_place(name, place)?;
                }
                had_by_all = had_by_all.min(place.seq);
            }
            Ok(had_by_all)
        })?;
        let keep = i64::try_from(self.rules.keep.as_millis()).unwrap_or(i64::MAX);
        let old = self.clock.wall().millis().saturating_sub(keep);
        for (before, up_to) in [(i64::MAX, too_old), (old, had_by_all)] {
            let forget = move || {
                self.meta.write(move |tx| tx.forget_events(before, up_to, FORGOTTEN_AT_ONCE))
            };
            while forget()? == FORGOTTEN_AT_ONCE {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use policies::EventKind;
    use serde_json::json;

    use super::*;
    use crate::clock::SystemClock;
    use crate::types::{Attr, FileKind, ShareId, Time};

    const DAY_MILLIS: i64 = 86_400_000;

    fn keeper(meta: Arc<Meta>, count_max: u64) -> Keeper {
        let rules = EventRules { count_max, ..EventRules::default() };
        let names = vec!["slow".to_owned(), "quick".to_owned()];
        Keeper { meta, clock: Arc::new(SystemClock::new()), rules, names }
    }

    #[test]
    fn events_are_kept_for_those_who_do_not_have_them_unless_there_are_too_many() {
        let dir = tempfile::tempdir().unwrap();
        let meta = Arc::new(Meta::open(dir.path()).unwrap());
        let now = SystemClock::new().wall().millis();
        let log = |share: ShareId, count: usize, at: i64| {
            let logged = meta.write(move |tx| -> Result<(), MetaError> {
                let log = |_| tx.log_event(EventKind::Arrived, (share, "a"), None, &json!({}), at);
                (0..count).try_for_each(log)
            });
            logged.unwrap();
        };
        let place = |name: &str, seq: i64| {
            let name = name.to_owned();
            let place = SinkPlace { seq, missed: 0 };
            meta.write(move |tx| tx.put_sink_place(&name, place)).unwrap();
        };
        let there = || meta.read(|tx| tx.event_range()).unwrap();
        let root = Attr::new(FileKind::Dir, 0o755, (0, 0), Time::default());
        let share = meta.write(move |tx| tx.add_share("cam", "", root)).unwrap().id;
        log(share, 10, now - 8 * DAY_MILLIS);
        log(share, 10, now);
        place("slow", 4);
        place("quick", 20);
        keeper(meta.clone(), 1_000).forget().unwrap();
        assert_eq!(there(), (5, 20), "the old ones that all have had are gone");
        place("slow", 20);
        keeper(meta.clone(), 1_000).forget().unwrap();
        assert_eq!(there(), (11, 20), "all old ones are gone");
        place("slow", 12);
        keeper(meta.clone(), 5).forget().unwrap();
        assert_eq!(there(), (16, 20), "there are never more");
        let slow = meta.read(|tx| tx.sink_place("slow")).unwrap();
        assert_eq!(slow, Some(SinkPlace { seq: 15, missed: 3 }), "what it missed is counted");
        log(share, 1, now);
        assert_eq!(there(), (16, 21), "numbers are never given twice");
    }
}
