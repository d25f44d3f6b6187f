//! The pace of the gateway and of each share, both ways: as the schedule says, as a person sets it for the time being, and as far as the
//! budget goes. What is decided here holds at once for transfers under way.
//!
//! Invariant: what a budget pays for is stored as spent before it may pass, so that no crash lets anything pass twice.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use policies::pace::{Reason, Reasons};
use policies::{Rate, Schedule, Spent};
use tokio::sync::Notify;

use crate::clock::Clock;
use crate::meta::{Meta, MetaError};
use crate::remote::{Pacer, SHORT_BYTES};
use crate::tasks::Tasks;
use crate::types::ShareId;

/// A clock that is set meanwhile is noticed after this time.
const LOOK_AFTER_MAX: Duration = Duration::from_secs(30);
/// What is granted at once of a budget: enough for a moment at 1 Gbit/s, little enough that a crash forgets nothing worth a word.
const GRANT_BYTES: u64 = 8 << 20;
const _: () = assert!(SHORT_BYTES < GRANT_BYTES, "more is asked for before all has passed");
/// Where so little of a budget is left, no piece may fit.
const REST_BYTES: u64 = 16 << 10;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// To the store.
    Up,
    /// From the store.
    Down,
}

/// Whose pace it is; without a share, the gateway's.
pub type LaneId = (Option<ShareId>, Way);

/// What a lane is built of.
#[derive(Debug)]
pub struct LaneParts {
    /// Whose pace it is.
    pub id: LaneId,
    /// Its name among what is stored: a share's number may be another's after its state was lost.
    pub name: String,
    /// What it does by itself.
    pub schedule: Schedule,
    /// What is set.
    pub pacer: Arc<Pacer>,
}

/// How a lane is.
#[derive(Clone, Debug, PartialEq)]
pub struct LaneState {
    /// Whose pace it is.
    pub id: LaneId,
    /// The pace.
    pub rate: Rate,
    /// Why.
    pub reason: Reason,
    /// When the reason ends, if that is known.
    pub until: Option<Timestamp>,
    /// What was spent today and this month, if there is a budget.
    pub spent: Option<Spent>,
    /// The budget: of a day, and of a month.
    pub budget: (Option<u64>, Option<u64>),
}

/// All lanes of a gateway.
#[derive(Debug)]
pub struct Paces {
    lanes: BTreeMap<LaneId, Arc<Lane>>,
    meta: Arc<Meta>,
    clock: Arc<dyn Clock>,
}

#[derive(Debug)]
struct Lane {
    id: LaneId,
    name: String,
    schedule: Schedule,
    pacer: Arc<Pacer>,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    paused: bool,
    /// What a person has set, and when that ends.
    by_hand: Option<(Rate, Option<Timestamp>)>,
    /// With what was granted and has not passed.
    spent: Spent,
}

impl Paces {
    /// Sets all lanes as they are to be now, and keeps them so until `tasks` are cancelled.
    ///
    /// # Errors
    /// If the metadata store fails.
    pub fn start(
        parts: Vec<LaneParts>,
        meta: Arc<Meta>,
        clock: Arc<dyn Clock>,
        tasks: &Tasks,
    ) -> Result<Self, MetaError> {
        let paused = meta.read(|tx| tx.paused())?;
        let mut lanes = BTreeMap::new();
        for LaneParts { id, name, schedule, pacer } in parts {
            let spent = meta.read(|tx| tx.spent(&name))?;
            let spent = spent.and_then(|(date, day, month)| {
                Some(Spent { date: date.parse().ok()?, day, month })
            });
            let of = id.0.unwrap_or(ShareId(0));
            let paused = id.1 == Way::Up && paused.contains(&of);
            let spent = spent.unwrap_or_default();
            let state = Mutex::new(State { paused, by_hand: None, spent });
            let changed = Notify::new();
            let lane = Arc::new(Lane { id, name, schedule, pacer, state, changed });
            if lane.schedule.budget().is_set() {
                lane.pacer.grant(0);
            }
            lane.settle(&meta, clock.as_ref())?;
            let (meta, clock, stopping) = (meta.clone(), clock.clone(), tasks.clone());
            tasks.spawn("pace.lane", lane.clone().keep(meta, clock, stopping));
            lanes.insert(id, lane);
        }
        Ok(Self { lanes, meta, clock })
    }

    /// How all lanes are, the gateway's first.
    #[must_use]
    pub fn states(&self) -> Vec<LaneState> {
        let now = timestamp(self.clock.as_ref());
        self.lanes.values().map(|lane| lane.shown(now)).collect()
    }

    /// Pauses the uploads of a share, or of all, or ends that; it outlives the daemon. False if there is no such lane.
    ///
    /// # Errors
    /// If the metadata store fails.
    pub fn pause(&self, share: Option<ShareId>, paused: bool) -> Result<bool, MetaError> {
        let Some(lane) = self.lanes.get(&(share, Way::Up)) else { return Ok(false) };
        let of = share.unwrap_or(ShareId(0));
        self.meta.write(move |tx| tx.set_paused(of, paused))?;
        lane.state().paused = paused;
        lane.settle(&self.meta, self.clock.as_ref())?;
        lane.changed.notify_one();
        Ok(true)
    }

    /// Sets a pace until `until`, or until it is set again; none goes back to the schedule. False if there is no such lane.
    ///
    /// # Errors
    /// If the metadata store fails.
    pub fn set(
        &self,
        id: LaneId,
        rate: Option<Rate>,
        until: Option<Timestamp>,
    ) -> Result<bool, MetaError> {
        let Some(lane) = self.lanes.get(&id) else { return Ok(false) };
        lane.state().by_hand = rate.map(|rate| (rate, until));
        lane.settle(&self.meta, self.clock.as_ref())?;
        lane.changed.notify_one();
        Ok(true)
    }
}

impl Lane {
    /// Settles the lane whenever anything changes.
    async fn keep(self: Arc<Self>, meta: Arc<Meta>, clock: Arc<dyn Clock>, stopping: Tasks) {
        loop {
            let settled = self.settle(&meta, clock.as_ref());
            let wait = settled.unwrap_or_else(|error| {
                tracing::error!(error = &error as &dyn Error, "what was spent could not be stored");
                LOOK_AFTER_MAX
            });
            tokio::select! {
                () = stopping.cancelled() => break,
                () = self.changed.notified() => {}
                () = self.pacer.runs_short() => {}
                () = clock.sleep(wait.min(LOOK_AFTER_MAX)) => {}
            }
        }
        if self.schedule.budget().is_set() {
            let mut state = self.state();
            state.spent = state.spent.minus(self.pacer.take_back());
            if let Err(error) = self.store(&meta, state.spent) {
                tracing::warn!(error = &error as &dyn Error, "what was granted counts as spent");
            }
        }
    }

    /// Sets the pace as it is to be now, and grants more of the budget if little is left; returns how long that will stay so.
    fn settle(&self, meta: &Meta, clock: &dyn Clock) -> Result<Duration, MetaError> {
        let now = timestamp(clock);
        let mut state = self.state();
        let spent = self.pay(&mut state, meta, now)?;
        let (rate, reason) = self.reasons(&mut state, spent, now).decide();
        if self.pacer.rate() != rate {
            tracing::info!(lane = self.name, %rate, ?reason, "the pace changes");
            self.pacer.set_rate(rate);
        }
        let until = self.until(&state, now);
        Ok(until.map_or(LOOK_AFTER_MAX, |at| at.duration_since(now).unsigned_abs()))
    }

    /// Grants more of the budget if little is left; returns whether it is spent.
    fn pay(&self, state: &mut State, meta: &Meta, now: Timestamp) -> Result<bool, MetaError> {
        let budget = self.schedule.budget();
        if !budget.is_set() {
            return Ok(false);
        }
        let before = state.spent;
        state.spent = budget.at(before, now);
        let granted = self.pacer.left().unwrap_or(0);
        if state.spent.date != before.date {
            // What was granted yesterday passes today.
            state.spent = state.spent.plus(granted);
        }
        let more = match budget.left(state.spent) {
            Some(left) if granted < SHORT_BYTES => left.min(GRANT_BYTES),
            Some(_) | None => 0,
        };
        if more > 0 || state.spent != before {
            let spent = state.spent.plus(more);
            self.store(meta, spent)?;
            state.spent = spent;
            self.pacer.grant(more);
        }
        Ok(budget.left(state.spent) == Some(0) && granted + more < REST_BYTES)
    }

    fn reasons(&self, state: &mut State, spent: bool, now: Timestamp) -> Reasons {
        if state.by_hand.is_some_and(|(_, until)| until.is_some_and(|until| until <= now)) {
            state.by_hand = None;
        }
        Reasons {
            paused: state.paused,
            spent,
            by_hand: state.by_hand.map(|(rate, _)| rate),
            scheduled: self.schedule.rate_at(now),
        }
    }

    /// When the pace may be another one by itself.
    fn until(&self, state: &State, now: Timestamp) -> Option<Timestamp> {
        let by_hand = state.by_hand.and_then(|(_, until)| until);
        let budget = self.schedule.budget();
        let resets = budget.is_set().then(|| budget.resets(state.spent)).flatten();
        let changes = self.schedule.next_change(now);
        [by_hand, resets, changes].into_iter().flatten().filter(|at| *at > now).min()
    }

    fn shown(&self, now: Timestamp) -> LaneState {
        let mut state = self.state();
        let budget = self.schedule.budget();
        let granted = self.pacer.left().unwrap_or(0);
        let is_spent =
            budget.is_set() && budget.left(state.spent) == Some(0) && granted < REST_BYTES;
        let (rate, reason) = self.reasons(&mut state, is_spent, now).decide();
        let until = match reason {
            Reason::Paused => None,
            Reason::Spent => budget.resets(state.spent),
            Reason::ByHand => state.by_hand.and_then(|(_, until)| until),
            Reason::Schedule => self.schedule.next_change(now),
        };
        let spent = budget.is_set().then(|| state.spent.minus(granted));
        LaneState { id: self.id, rate, reason, until, spent, budget: (budget.day, budget.month) }
    }

    fn store(&self, meta: &Meta, spent: Spent) -> Result<(), MetaError> {
        let (name, date) = (self.name.clone(), spent.date.to_string());
        meta.write(move |tx| tx.set_spent(&name, &date, spent.day, spent.month))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn timestamp(clock: &dyn Clock) -> Timestamp {
    let now = clock.wall();
    Timestamp::new(now.secs, now.nanos.cast_signed()).unwrap_or(Timestamp::UNIX_EPOCH)
}
