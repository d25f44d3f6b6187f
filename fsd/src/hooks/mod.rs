//! Hooks: every arrival becomes a durable job for each hook that sees it; a worker process runs it; what it said becomes files and
//! attributes.
//!
//! Invariant: an arrival ends in the transaction that makes its jobs, so each version is seen at least once.
//! Invariant: nothing of a file is decoded in this process.
//! Invariant: what a gate says of a version is stored with the outcome of its job.

mod arrived;
mod backfill;
mod check;
mod gates;
mod jobs;
mod live;
mod media;
mod replace;
mod results;
mod rules;
mod telling;
mod worker;

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use self::arrived::Arrived;
use self::jobs::{Outcome, after};
use self::live::Rules;
use self::worker::Worker;
use crate::clock::Clock;
use crate::events::Events;
use crate::meta::{Arrival, Inode, Job, JobState, Meta, MetaError, Tx};
use crate::tasks::Tasks;
use crate::types::{FileKind, Ino, chain};
use crate::vfs::{Vfs, VfsError};
use inference_hooks::{Advice, Hook, HookError, HookSource, JobOutput, WorkerConfig};

pub use inference_hooks::{Engine, Sandbox};

pub use self::backfill::{Begun, begin};
pub use self::check::{RuleError, refuse_loops};
pub use self::rules::{Decides, ResultsPlace, Rule};
pub use self::telling::{Alert, field_of};
pub use self::worker::WorkerState;

/// Arrivals and jobs looked at in one go.
const AT_ONCE: usize = 256;
/// Ranks of jobs: what has just arrived goes before what was there already.
const ARRIVED: i64 = 0;
const THERE_ALREADY: i64 = 1;
/// The longest time without a look at the jobs.
const LOOK_AFTER_MAX: Duration = Duration::from_secs(30);
/// The time between two looks for gates that have not spoken in time.
const PATIENCE: Duration = Duration::from_secs(1);
/// How soon a job is tried again whose file could not be read or whose result could not be written.
const RETRIES_OF_FILES: u32 = 10;
const ANOTHER_VERSION: &str = "a job of the hook's version of today looks at it";

/// What hooks are built of.
#[derive(Debug)]
pub struct Parts {
    /// The file system.
    pub vfs: Arc<Vfs>,
    /// The precious store.
    pub meta: Arc<Meta>,
    /// The bus.
    pub events: Arc<Events>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where the engine runs.
    pub tasks: Tasks,
    /// The hooks in force, in order.
    pub rules: Vec<Rule>,
    /// The program that is a worker when called with [`inference_hooks::WORKER_ARGUMENT`].
    pub executable: PathBuf,
    /// How a worker is started.
    pub worker: WorkerConfig,
}

/// The hooks' face to others.
#[derive(Debug)]
pub struct Hooks {
    rules: Arc<Rules>,
    worker: Arc<Worker>,
}

impl Hooks {
    /// The hooks in force.
    #[must_use]
    pub fn rules(&self) -> Arc<[Rule]> {
        self.rules.now()
    }

    /// What is wrong with folders of hooks that have changed, by their names: the versions before go on.
    #[must_use]
    pub fn unusable(&self) -> BTreeMap<String, String> {
        self.rules.unusable()
    }

    /// What is known of the worker.
    #[must_use]
    pub fn worker(&self) -> WorkerState {
        self.worker.state()
    }

    /// Has hooks loaded again that could not run: what was missing may be there now.
    pub fn reload(&self) {
        for rule in self.rules.now().iter() {
            self.worker.load(rule.hook.clone());
        }
    }
}

/// Starts the hooks.
///
/// # Errors
/// If the metadata store fails, or no thread can be started.
pub fn start(parts: Parts) -> Result<Hooks, VfsError> {
    let Parts { vfs, meta, events, clock, tasks, rules, executable, worker } = parts;
    let requeued = meta.write(|tx| tx.requeue_running_jobs())?;
    if requeued > 0 {
        tracing::info!(jobs = requeued, "jobs that were running run again");
    }
    let hooks = Hooks {
        rules: Arc::new(Rules::new(rules)),
        worker: Arc::new(Worker::start(executable, worker)?),
    };
    hooks.reload();
    let (rules, worker) = (hooks.rules.clone(), hooks.worker.clone());
    tasks.spawn("hooks.watch", live::watch(rules, worker, clock.clone(), tasks.clone()));
    let engine = EngineTask {
        vfs,
        meta,
        events,
        clock,
        tasks: tasks.clone(),
        rules: hooks.rules.clone(),
        worker: hooks.worker.clone(),
        patient_until: Duration::ZERO,
    };
    tasks.spawn("hooks.engine", engine.run());
    Ok(hooks)
}

/// A path from the root of a share.
type Names = Vec<Vec<u8>>;

struct EngineTask {
    vfs: Arc<Vfs>,
    meta: Arc<Meta>,
    events: Arc<Events>,
    clock: Arc<dyn Clock>,
    tasks: Tasks,
    rules: Arc<Rules>,
    worker: Arc<Worker>,
    /// When gates are looked at next that have not spoken in time.
    patient_until: Duration,
}

impl EngineTask {
    async fn run(mut self) {
        loop {
            let wait = match self.turn().await {
                Ok(wait) => wait,
                Err(error) => {
                    tracing::error!(error = &error as &dyn Error, "jobs could not be read");
                    LOOK_AFTER_MAX
                }
            };
            tokio::select! {
                biased;
                () = self.tasks.cancelled() => return,
                () = self.events.arrived.notified() => {}
                () = self.clock.sleep(wait) => {}
            }
        }
    }

    /// Makes jobs of what arrived, and runs what is due; returns how long nothing else will be.
    async fn turn(&mut self) -> Result<Duration, MetaError> {
        loop {
            let now = self.millis();
            self.take_arrivals(now)?;
            // It looks at all jobs, of which there may be many.
            if self.clock.monotonic() >= self.patient_until {
                self.give_up_waiting(now)?;
                self.patient_until = self.clock.monotonic() + PATIENCE;
            }
            let Some(job) = self.meta.read(|tx| tx.due_jobs(now, 1))?.pop() else {
                // Of the same moment: what became due since then must not be slept over.
                let next = self.meta.read(|tx| tx.next_job_due(now))?;
                let millis =
                    next.map_or(i64::MAX, |due| due.saturating_sub(now)).max(1).unsigned_abs();
                let has_late_ones =
                    next.is_some() && self.rules.now().iter().any(|r| r.gate.is_some());
                let longest = if has_late_ones { PATIENCE } else { LOOK_AFTER_MAX };
                return Ok(Duration::from_millis(millis).min(longest));
            };
            tokio::select! {
                () = self.tasks.cancelled() => return Ok(LOOK_AFTER_MAX),
                worked = self.work(job) => worked?,
            }
            self.events.settled.notify_waiters();
        }
    }

    fn take_arrivals(&self, now: i64) -> Result<(), MetaError> {
        let arrivals = self.meta.read(|tx| tx.due_arrivals(now, AT_ONCE))?;
        if arrivals.is_empty() {
            return Ok(());
        }
        let rules = self.rules.now();
        self.meta.write(move |tx| -> Result<(), MetaError> {
            for Arrival { ino, content, again } in arrivals {
                let inode = tx
                    .inode(ino)?
                    .filter(|i| i.content == content && i.attr.kind == FileKind::File);
                if let Some(inode) = inode {
                    let share = inode.share;
                    if !again {
                        telling::arrival(tx, &inode, now)?;
                    }
                    let version = Arrived::of(tx, &rules, inode)?;
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
        Ok(())
    }

    async fn work(&self, job: Job) -> Result<(), MetaError> {
        let running = Job { state: JobState::Running, changed: self.millis(), ..job };
        self.store(running.clone())?;
        let rules = self.rules.now();
        let rule = rules.iter().find(|rule| rule.hook.name() == running.hook);
        let (outcome, retries_max) = match rule {
            None => (Outcome::Superseded("the hook is not configured any more"), 0),
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
        let is_told = matches!(outcome, Outcome::Replaced(_));
        let is_not_its_own = matches!(outcome, Outcome::NotWanted(_));
        let job = after(Job { version, ..running }, outcome, retries_max, self.millis());
        let said = rule.and_then(|rule| match is_not_its_own {
            true => gates::no_word(rule, &job),
            false => gates::word(rule, &job, job.changed),
        });
        let speaks = said.is_some();
        let told = rule.filter(|_| !is_told).cloned();
        self.meta.write(move |tx| -> Result<(), MetaError> {
            tx.put_job(&job)?;
            told.map_or(Ok(()), |rule| telling::outcome(tx, &rule, &job))?;
            said.map_or(Ok(()), |said| gates::speak(tx, (job.ino, job.content), &said))
        })?;
        self.events.logged.notify_waiters();
        if speaks {
            self.events.differs.notify_one();
        }
        Ok(())
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

    fn store(&self, job: Job) -> Result<(), MetaError> {
        self.meta.write(move |tx| tx.put_job(&job))
    }

    async fn run_job(&self, rule: &Rule, job: &Job) -> (Outcome, u32) {
        let (name, version) = (rule.hook.name(), rule.hook.version().as_str());
        if job.version != version {
            let has_job = |tx: &Tx<'_>| tx.has_job(name, version, job.ino, job.content);
            match self.meta.read(has_job) {
                Ok(true) => return (Outcome::Superseded(ANOTHER_VERSION), 0),
                Ok(false) => {}
                Err(error) => return (failed(&error), RETRIES_OF_FILES),
            }
        }
        let limits = rule.hook.limits();
        let retries = (limits.retries_max, RETRIES_OF_FILES);
        let (inode, path) = match self.file_of(job) {
            Ok(Ok(found)) => found,
            Ok(Err(outcome)) => return (outcome, 0),
            Err(error) => return (failed(&error), retries.1),
        };
        let input = match self.vfs.snapshot(inode.ino, rule.hook.input().bytes_max).await {
            Ok(file) => OwnedFd::from(file),
            Err(VfsError::TooLarge) => {
                let most = rule.hook.input().bytes_max;
                let error = format!("the file has more than the {most} bytes that the hook takes");
                return (Outcome::Failed { advice: Advice::ParkFile, error }, 0);
            }
            Err(error) => return (failed(&error), retries.1),
        };
        if let Ok(Err(outcome)) = self.file_of(job) {
            return (outcome, 0);
        }
        let original = match input.try_clone() {
            Ok(file) => File::from(file),
            Err(error) => return (failed(&error), retries.1),
        };
        if !rule.media_types.is_empty() {
            match media::type_of(&original, &job.path) {
                Ok(found) if media::is_wanted(found, &rule.media_types) => {}
                Ok(found) => return (Outcome::NotWanted(found), 0),
                Err(error) => return (failed(&error), retries.1),
            }
        }
        let output = match self.worker.run(rule.hook.clone(), input).await {
            Ok(output) => output,
            Err(error) => {
                let advice = error.advice();
                return (Outcome::Failed { advice, error: chain(&error) }, retries.0);
            }
        };
        let applied = match gates::replacing(rule, &output) {
            Some(to) => self.replace((rule, job), (&inode, &path), (&original, to), output).await,
            None => self.apply(rule, &inode, &path, output).await,
        };
        match applied {
            Ok(outcome) => (outcome, 0),
            Err(error) => (failed(&error), retries.1),
        }
    }

    async fn apply(
        &self,
        rule: &Rule,
        inode: &Inode,
        path: &Names,
        output: JobOutput,
    ) -> Result<Outcome, VfsError> {
        let share = self.vfs.share(inode.share)?;
        let json = results::apply(&self.vfs, rule, share, inode, path, output, None).await?;
        Ok(Outcome::Result(json.to_string()))
    }

    /// The file of a job, if it still is the version that arrived and nobody is about to change it.
    fn file_of(&self, job: &Job) -> Result<Result<(Inode, Names), Outcome>, MetaError> {
        let (ino, content): (Ino, u64) = (job.ino, job.content);
        self.meta.read(|tx| {
            let inode = tx.inode(ino)?.filter(|inode| inode.content == content);
            Ok(match (inode, tx.path(ino)?) {
                (Some(_), Some(_)) if tx.is_writing(ino)? => Err(Outcome::Busy),
                (Some(inode), Some(path)) => Ok((inode, path)),
                _ => Err(Outcome::Superseded("the file changed or went away before")),
            })
        })
    }

    fn millis(&self) -> i64 {
        self.clock.wall().millis()
    }
}

fn failed(error: &dyn Error) -> Outcome {
    Outcome::Failed { advice: Advice::Retry, error: chain(error) }
}

/// Reads a hook's folder, with parameters of the configuration over those in its `params.toml`.
///
/// # Errors
/// Says file, line, key, value and remedy of what is wrong.
pub fn read_hook(folder: &Path, params: &toml::Table) -> Result<Hook, HookError> {
    const PARAMS: &str = "params.toml";
    let source = HookSource::read(folder)?;
    if params.is_empty() {
        return Hook::parse(source);
    }
    let text = source.text(PARAMS)?.unwrap_or_default();
    let mut files = source.files().clone();
    // One that can't be read is left as it is, for its own error.
    if let Ok(mut merged) = text.parse::<toml::Table>() {
        merged.extend(params.clone());
        files.insert(PARAMS.to_owned(), merged.to_string().into_bytes());
    }
    Hook::parse(HookSource::new(files))
}
