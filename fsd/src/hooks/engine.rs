//! The engine: it makes jobs of what arrived, and runs those that are due, some at a time.
//!
//! Invariant: an arrival ends in the transaction that makes its jobs, so each version is seen at least once.
//! Invariant: what a gate says of a version is stored with the outcome of its job.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::arrived::Arrived;
use super::jobs::{ANOTHER_VERSION, NOT_CONFIGURED, Outcome, after};
use super::live::Rules;
use super::rules::{Decides, Rule, by_priority};
use super::run::Ended;
use super::turns::Turns;
use super::worker::Worker;
use super::{AT_ONCE, gates, telling};
use crate::clock::Clock;
use crate::events::Events;
use crate::meta::{ARRIVED, Arrival, Job, JobState, Meta, MetaError, Said, Tx};
use crate::tasks::Tasks;
use crate::types::FileKind;
use crate::vfs::{Vfs, VfsError, XattrChange};

/// The longest time without a look at the jobs.
const LOOK_AFTER_MAX: Duration = Duration::from_secs(30);
/// The time between two looks for gates that have not spoken in time.
const PATIENCE: Duration = Duration::from_secs(1);
/// After the end of a job could not be stored.
const END_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Jobs of the worker that are under way at a time: it takes one after the other, or several at once, while results are written.
const WORKER_JOBS: usize = 64;

pub(super) struct JobEngine {
    pub(super) vfs: Arc<Vfs>,
    pub(super) meta: Arc<Meta>,
    pub(super) events: Arc<Events>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) tasks: Tasks,
    pub(super) rules: Arc<Rules>,
    pub(super) worker: Arc<Worker>,
    pub(super) turns: Turns,
}

/// Jobs that are run beside those of the other lane.
struct Lane {
    are_programs: bool,
    at_once: usize,
    free: Arc<Semaphore>,
}

impl Lane {
    fn new(are_programs: bool, at_once: usize) -> Self {
        Self { are_programs, at_once, free: Arc::new(Semaphore::new(at_once)) }
    }

    /// How many jobs are to be begun now. It waits until there is room for several: they are taken in one go.
    fn room(&self) -> usize {
        let free = self.free.available_permits();
        if free * 2 >= self.at_once { free } else { 0 }
    }
}

impl JobEngine {
    /// With at most so many programs at a time.
    pub(super) async fn run(self, programs_at_once: usize) {
        let engine = Arc::new(self);
        let lanes = [Lane::new(false, WORKER_JOBS), Lane::new(true, programs_at_once)];
        // When gates are looked at next that have not spoken in time.
        let mut patient_until = Duration::ZERO;
        loop {
            let wait = match engine.turn(&lanes, &mut patient_until) {
                Ok(wait) => wait,
                Err(error) => {
                    tracing::error!(error = &error as &dyn Error, "jobs could not be read");
                    LOOK_AFTER_MAX
                }
            };
            tokio::select! {
                biased;
                () = engine.tasks.cancelled() => return,
                () = engine.events.arrived.notified() => {}
                () = engine.clock.sleep(wait) => {}
            }
        }
    }

    /// Makes jobs of what arrived, and begins those that are due; returns how long nothing else will be.
    fn turn(
        self: &Arc<Self>,
        lanes: &[Lane],
        patient_until: &mut Duration,
    ) -> Result<Duration, MetaError> {
        let now = self.millis();
        while self.take_arrivals(now)? == AT_ONCE {}
        // It looks at all jobs, of which there may be many.
        if self.clock.monotonic() >= *patient_until {
            self.give_up_waiting(now)?;
            *patient_until = self.clock.monotonic() + PATIENCE;
        }
        let rules = self.rules.now();
        let awake = self.awake(&rules)?;
        for lane in lanes {
            for job in self.take_jobs(now, lane, &awake)? {
                let Ok(permit) = lane.free.clone().try_acquire_owned() else { break };
                self.tasks.spawn("hooks.job", self.clone().work_alone(job, permit));
            }
        }
        // Of the same moment: what became due since then must not be slept over.
        let hooks = names(awake.into_iter());
        let next = self.meta.read(|tx| tx.next_job_due(&hooks, now))?;
        let millis = next.map_or(i64::MAX, |due| due.saturating_sub(now)).max(1).unsigned_abs();
        let has_gates = rules.iter().any(|rule| rule.gate.is_some());
        let longest = if next.is_some() && has_gates { PATIENCE } else { LOOK_AFTER_MAX };
        Ok(Duration::from_millis(millis).min(longest))
    }

    /// Hooks that do not rest.
    fn awake<'r>(&self, rules: &'r [Rule]) -> Result<Vec<&'r Rule>, MetaError> {
        let resting = self.meta.read(|tx| tx.paused_hooks())?;
        let rests = |rule: &Rule| resting.iter().any(|name| name == rule.hook.name());
        Ok(rules.iter().filter(|rule| !rests(rule)).collect())
    }

    /// Jobs of a lane that are due, as many as there is room for; from now on they are running.
    fn take_jobs(&self, now: i64, lane: &Lane, awake: &[&Rule]) -> Result<Vec<Job>, MetaError> {
        let room = lane.room();
        if room == 0 {
            return Ok(Vec::new());
        }
        let of_lane = |rule: &&Rule| rule.is_program() == lane.are_programs;
        let groups = by_priority(&awake.iter().copied().filter(of_lane).collect::<Vec<_>>());
        let due = move |tx: &Tx<'_>| -> Result<_, MetaError> {
            let mut due = Vec::new();
            for hooks in &groups {
                due.extend(tx.due_jobs(hooks, now, room - due.len())?);
            }
            Ok(due)
        };
        if self.meta.read(&due)?.is_empty() {
            return Ok(Vec::new());
        }
        self.meta.write(move |tx| -> Result<_, MetaError> {
            let mut taken = due(tx)?;
            for job in &mut taken {
                (job.state, job.changed) = (JobState::Running, now);
                tx.put_job(job)?;
            }
            Ok(taken)
        })
    }

    /// Makes jobs of the next arrivals; tells how many there were.
    fn take_arrivals(&self, now: i64) -> Result<usize, MetaError> {
        let arrivals = self.meta.read(|tx| tx.due_arrivals(now, AT_ONCE))?;
        let count = arrivals.len();
        if count == 0 {
            return Ok(0);
        }
        let rules = self.rules.now();
        self.meta.write(move |tx| -> Result<(), MetaError> {
            for Arrival { ino, content, again } in arrivals {
                let inode = tx
                    .inode(ino)?
                    .filter(|i| i.content == content && i.attr.kind == FileKind::File);
                if let Some(inode) = inode {
                    let share = inode.share;
                    let version = Arrived::of(tx, &rules, inode)?;
                    if !again {
                        version.log(tx, now)?;
                    }
                    for rule in version.lookers() {
                        let at = (rule.when.due(now), now, ARRIVED);
                        if !version.add_job(tx, rule, at)? {
                            // It may have become a gate since it looked at this version.
                            gates::speak_again(tx, rule, share, (ino, content), now)?;
                        }
                    }
                }
                tx.end_arrival(ino, content)?;
            }
            Ok(())
        })?;
        self.events.logged.notify_waiters();
        Ok(count)
    }

    async fn work_alone(self: Arc<Self>, job: Job, permit: OwnedSemaphorePermit) {
        tokio::select! {
            () = self.tasks.cancelled() => return,
            () = self.work(job) => {}
        }
        drop(permit);
        self.events.arrived.notify_one();
        self.events.settled.notify_waiters();
    }

    async fn work(&self, running: Job) {
        let rules = self.rules.now();
        let rule = rules.iter().find(|rule| rule.hook.name() == running.hook);
        let Ended { outcome, retries_max, mark } = match rule {
            None => Outcome::Superseded(NOT_CONFIGURED).into(),
            Some(rule) => self.run_job(rule, &running).await,
        };
        if let Outcome::Failed { error, .. } = &outcome {
            tracing::warn!(
                job = running.id.0,
                hook = running.hook,
                path = running.path,
                error,
                "a job failed"
            );
        }
        let version = match rule.filter(|_| outcome != Outcome::Superseded(ANOTHER_VERSION)) {
            Some(rule) => rule.hook.version().as_str().to_owned(),
            None => running.version.clone(),
        };
        let is_told = matches!(outcome, Outcome::Elsewhere(_));
        let is_not_its_own = matches!(outcome, Outcome::NotWanted(_));
        let job = after(Job { version, ..running }, outcome, retries_max, self.millis());
        let said = rule.and_then(|rule| match is_not_its_own {
            true => gates::no_word(rule, &job),
            false => gates::word(rule, &job, job.changed),
        });
        let told = rule.filter(|_| !is_told).cloned();
        self.end(Ending { job, told, said, mark }).await;
    }

    /// Stores it, as soon as that is possible.
    async fn end(&self, ending: Ending) {
        let differs = ending.said.is_some() || ending.mark.is_some();
        while let Err(error) = self.meta.write({
            let ending = ending.clone();
            move |tx| ending.store(tx)
        }) {
            tracing::error!(
                error = &error as &dyn Error,
                "the end of a job could not be stored; it will be"
            );
            self.clock.sleep(END_AGAIN_AFTER).await;
        }
        self.events.logged.notify_waiters();
        if differs {
            self.events.differs.notify_one();
        }
    }

    /// A gate that has not spoken in time has its fallback say something.
    fn give_up_waiting(&self, now: i64) -> Result<(), MetaError> {
        for rule in self.rules.now().iter() {
            let Some(Decides { rule: gate, timeout, .. }) = &rule.gate else { continue };
            let patience = i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX);
            let hook = rule.hook.name();
            let late = self.meta.read(|tx| tx.late_jobs(hook, now.saturating_sub(patience)))?;
            if late.is_empty() {
                continue;
            }
            tracing::warn!(hook, files = late.len(), verdict = %gate.fallback, "a gate has not spoken in time");
            let said = gates::fallback(rule, gate, "it has not spoken in time", now);
            self.meta.write(move |tx| -> Result<(), MetaError> {
                late.into_iter().try_for_each(|version| gates::speak(tx, version, &said))
            })?;
            self.events.differs.notify_one();
            self.events.logged.notify_waiters();
        }
        Ok(())
    }

    pub(super) fn millis(&self) -> i64 {
        self.clock.wall().millis()
    }
}

/// What is stored of a try in one go.
#[derive(Clone)]
struct Ending {
    job: Job,
    /// Whose result is to be told.
    told: Option<Rule>,
    said: Option<Said>,
    mark: Option<Box<XattrChange>>,
}

impl Ending {
    fn store(self, tx: &Tx<'_>) -> Result<(), VfsError> {
        let Self { job, told, said, mark } = self;
        tx.put_job(&job)?;
        match mark.map(|mark| mark.make(tx)) {
            // It was removed in the meantime.
            None | Some(Ok(()) | Err(VfsError::NoEntry)) => {}
            Some(Err(error)) => return Err(error),
        }
        told.map_or(Ok(()), |rule| telling::outcome(tx, &rule, &job))?;
        said.map_or(Ok(()), |said| gates::speak(tx, (job.ino, job.content), &said))?;
        Ok(())
    }
}

fn names<'r>(rules: impl Iterator<Item = &'r Rule>) -> Vec<String> {
    rules.map(|rule| rule.hook.name().to_owned()).collect()
}
