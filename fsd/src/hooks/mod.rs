//! Hooks: every arrival becomes a durable job for each hook that sees it; a worker process runs it; what it said becomes files and
//! attributes.
//!
//! Invariant: an arrival ends in the transaction that makes its jobs, so each version is seen at least once.
//! Invariant: nothing of a file is decoded in this process.
//! Invariant: what a gate says of a version is stored with the outcome of its job.

mod arrived;
mod backfill;
mod gates;
mod jobs;
mod replace;
mod results;
mod rules;
mod worker;

use std::error::Error;
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use self::arrived::Arrived;
use self::jobs::{Outcome, after};
use self::worker::Worker;

use crate::clock::Clock;
use crate::events::Events;
use crate::meta::{Inode, Job, JobState, JobsOf, Meta, MetaError, Tx};
use crate::tasks::Tasks;
use crate::types::{FileKind, Ino, chain};
use crate::vfs::{Vfs, VfsError};
use inference_hooks::{
    Advice, Change, Context, Hook, HookError, HookSource, JobOutput, Programs, Work, WorkerConfig,
};

pub use inference_hooks::{Engine, Sandbox};

pub use self::backfill::{Begun, begin};
pub use self::rules::{Decides, ResultsPlace, Rule};
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
/// Hooks that are programs run so many at a time, beside the one that the worker runs.
const PROGRAMS_AT_ONCE: usize = 2;
/// How soon a job is tried again whose file could not be read or whose result could not be written.
const RETRIES_OF_FILES: u32 = 10;

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
    /// Where programs run; see [`Programs::open`].
    pub scratch: PathBuf,
}

/// The hooks' face to others.
#[derive(Debug)]
pub struct Hooks {
    rules: Arc<[Rule]>,
    worker: Arc<Worker>,
}

impl Hooks {
    /// The hooks in force.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The same, for whoever outlives us.
    #[must_use]
    pub fn all_rules(&self) -> Arc<[Rule]> {
        self.rules.clone()
    }

    /// What is known of the worker.
    #[must_use]
    pub fn worker(&self) -> WorkerState {
        self.worker.state()
    }

    /// Has hooks loaded again that could not run: what was missing may be there now.
    pub fn reload(&self) {
        for rule in self.rules.iter() {
            self.worker.load(rule.hook.clone());
        }
    }
}

/// Starts the hooks.
///
/// # Errors
/// If the metadata store fails, or no thread can be started.
pub fn start(parts: Parts) -> Result<Hooks, VfsError> {
    let Parts { vfs, meta, events, clock, tasks, rules, executable, worker, scratch } = parts;
    let requeued = meta.write(|tx| tx.requeue_running_jobs())?;
    if requeued > 0 {
        tracing::info!(jobs = requeued, "jobs that were running run again");
    }
    let programs = Programs::open(&scratch)?;
    let worker = Arc::new(Worker::start(executable, worker, programs)?);
    let hooks = Hooks { rules: rules.into(), worker };
    hooks.reload();
    let are_programs = hooks.rules.iter().filter(|rule| is_program(&rule.hook));
    let programs: Arc<[String]> = are_programs.map(|rule| rule.hook.name().to_owned()).collect();
    let lanes = if programs.is_empty() { 0 } else { PROGRAMS_AT_ONCE };
    if lanes > 0 {
        let limits = hooks.worker.programs().limits();
        tracing::info!(hooks = ?programs, at_once = lanes, ?limits, "hooks that are programs run in sandboxes");
    }
    let others: Vec<_> = std::iter::repeat_with(|| Arc::new(Notify::new())).take(lanes).collect();
    let lane = |lane| EngineTask {
        vfs: vfs.clone(),
        meta: meta.clone(),
        events: events.clone(),
        clock: clock.clone(),
        tasks: tasks.clone(),
        rules: hooks.rules.clone(),
        worker: hooks.worker.clone(),
        programs: programs.clone(),
        lane,
        patient_until: Duration::ZERO,
    };
    for woken in &others {
        tasks.spawn("hooks.programs", lane(Lane::Programs(woken.clone())).run());
    }
    tasks.spawn("hooks.engine", lane(Lane::First { others }).run());
    Ok(hooks)
}

fn is_program(hook: &Hook) -> bool {
    match hook.work() {
        Work::Shaders(_) => false,
        Work::Command(_) | Work::Container(_) => true,
    }
}

/// What a task of the engine does: one does all but run programs, the others do that.
enum Lane {
    /// It makes jobs of arrivals, and runs those of the worker. It wakes the others.
    First { others: Vec<Arc<Notify>> },
    /// It runs programs.
    Programs(Arc<Notify>),
}

/// A path from the root of a share.
type Names = Vec<Vec<u8>>;

struct EngineTask {
    vfs: Arc<Vfs>,
    meta: Arc<Meta>,
    events: Arc<Events>,
    clock: Arc<dyn Clock>,
    tasks: Tasks,
    rules: Arc<[Rule]>,
    worker: Arc<Worker>,
    /// Hooks that are programs.
    programs: Arc<[String]>,
    lane: Lane,
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
                () = self.woken() => {}
                () = self.clock.sleep(wait) => {}
            }
        }
    }

    async fn woken(&self) {
        match &self.lane {
            Lane::First { .. } => self.events.arrived.notified().await,
            Lane::Programs(woken) => woken.notified().await,
        }
    }

    /// Makes jobs of what arrived, and runs what is due; returns how long nothing else will be.
    async fn turn(&mut self) -> Result<Duration, MetaError> {
        loop {
            let now = self.millis();
            if let Lane::First { others } = &self.lane {
                self.take_arrivals(now)?;
                others.iter().for_each(|other| other.notify_one());
                // It looks at all jobs, of which there may be many.
                if self.clock.monotonic() >= self.patient_until {
                    self.give_up_waiting(now)?;
                    self.patient_until = self.clock.monotonic() + PATIENCE;
                }
            }
            let Some(job) = self.take_job(now)? else {
                // Of the same moment: what became due since then must not be slept over.
                let next = self.meta.read(|tx| tx.next_job_due(now))?;
                let millis =
                    next.map_or(i64::MAX, |due| due.saturating_sub(now)).max(1).unsigned_abs();
                let has_late_ones = next.is_some() && self.rules.iter().any(|r| r.gate.is_some());
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

    /// A job that is due, which from now on is running.
    fn take_job(&self, now: i64) -> Result<Option<Job>, MetaError> {
        let is_first = matches!(self.lane, Lane::First { .. });
        let programs = self.programs.clone();
        let due = move |tx: &Tx<'_>| -> Result<Option<Job>, MetaError> {
            let of = if is_first { JobsOf::Others(&programs) } else { JobsOf::These(&programs) };
            Ok(tx.due_jobs(now, of, 1)?.pop())
        };
        if self.meta.read(&due)?.is_none() {
            return Ok(None);
        }
        // Another task may have it by now.
        self.meta.write(move |tx| -> Result<_, MetaError> {
            let Some(job) = due(tx)? else { return Ok(None) };
            let running = Job { state: JobState::Running, changed: now, ..job };
            tx.put_job(&running)?;
            Ok(Some(running))
        })
    }

    fn take_arrivals(&self, now: i64) -> Result<(), MetaError> {
        let arrivals = self.meta.read(|tx| tx.due_arrivals(now, AT_ONCE))?;
        if arrivals.is_empty() {
            return Ok(());
        }
        let rules = self.rules.clone();
        self.meta.write(move |tx| {
            for (ino, content) in arrivals {
                let inode = tx
                    .inode(ino)?
                    .filter(|i| i.content == content && i.attr.kind == FileKind::File);
                if let Some(inode) = inode {
                    let share = inode.share;
                    let version = Arrived::of(tx, &rules, inode)?;
                    for rule in version.lookers() {
                        if !version.add_job(tx, rule, (now, ARRIVED))? {
                            // It may have become a gate since it looked at this version.
                            gates::speak_again(tx, rule, share, (ino, content), now)?;
                        }
                    }
                }
                tx.end_arrival(ino, content)?;
            }
            Ok(())
        })
    }

    async fn work(&self, running: Job) -> Result<(), MetaError> {
        let rule = self.rules.iter().find(|rule| rule.hook.name() == running.hook);
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
        let version =
            rule.map_or(running.version.clone(), |rule| rule.hook.version().as_str().to_owned());
        let job = after(Job { version, ..running }, outcome, retries_max, self.millis());
        let said = rule.and_then(|rule| gates::word(rule, &job, job.changed));
        let speaks = said.is_some();
        self.meta.write(move |tx| -> Result<(), MetaError> {
            tx.put_job(&job)?;
            said.map_or(Ok(()), |said| gates::speak(tx, (job.ino, job.content), &said))
        })?;
        if speaks {
            self.events.differs.notify_one();
        }
        Ok(())
    }

    /// A gate that has not spoken in time has its fallback say something.
    fn give_up_waiting(&self, now: i64) -> Result<(), MetaError> {
        for rule in self.rules.iter() {
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
        }
        Ok(())
    }

    async fn run_job(&self, rule: &Rule, job: &Job) -> (Outcome, u32) {
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
        let context = match self.context(job, &inode, &path) {
            Ok(context) => context,
            Err(error) => return (failed(&error), retries.1),
        };
        let output = match self.worker.run(rule.hook.clone(), input, context).await {
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

    /// What a program is told of a file.
    fn context(&self, job: &Job, inode: &Inode, path: &Names) -> Result<Context, VfsError> {
        let jobs = self.meta.read(|tx| tx.jobs_of(job.ino))?;
        let is_earlier = |other: &Job| other.hook == job.hook && other.content < job.content;
        let change = match jobs.iter().any(is_earlier) {
            true => Change::Modified,
            false => Change::Created,
        };
        let share = self.vfs.share(inode.share)?.name.clone();
        Ok(Context { share, path: OsString::from_vec(path.join(&b'/')), change })
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
