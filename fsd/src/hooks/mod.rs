//! Hooks: every arrival becomes a durable job for each hook that sees it; a worker process runs it; what it said becomes files and
//! attributes.
//!
//! Invariant: nothing of a file is decoded in this process.

mod arrived;
mod backfill;
mod check;
mod engine;
mod gates;
mod jobs;
mod kept;
mod live;
mod media;
mod replace;
mod results;
mod route;
mod rules;
mod run;
mod telling;
mod turns;
mod worker;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use inference_hooks::{Hook, HookError, HookSource, Programs, WorkerConfig};

use self::engine::JobEngine;
use self::jobs::NOT_CONFIGURED;
use self::live::Rules;
use self::turns::Turns;
use self::worker::Worker;
use crate::clock::Clock;
use crate::events::Events;
use crate::meta::Meta;
use crate::tasks::Tasks;
use crate::vfs::{Vfs, VfsError};

pub use inference_hooks::{Engine, Sandbox};

pub use self::backfill::{Begun, begin};
pub use self::check::{RuleError, refuse_loops, refuse_two_routes};
pub use self::rules::{Alert, Decides, ResultsPlace, Rule};
pub use self::telling::field_of;
pub use self::worker::WorkerState;

/// Arrivals looked at in one go.
const AT_ONCE: usize = 256;
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
    /// How many of them run at a time.
    pub programs_at_once: usize,
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

    /// What holds programs in, for people; nothing if no hook is one.
    #[must_use]
    pub fn program_limits(&self) -> Vec<String> {
        if self.rules().iter().any(Rule::is_program) {
            self.worker.program_limits()
        } else {
            Vec::new()
        }
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
    let Parts {
        vfs,
        meta,
        events,
        clock,
        tasks,
        rules,
        executable,
        worker,
        scratch,
        programs_at_once,
    } = parts;
    let requeued = meta.write(|tx| tx.requeue_running_jobs())?;
    if requeued > 0 {
        tracing::info!(jobs = requeued, "jobs that were running run again");
    }
    let names: Vec<_> = rules.iter().map(|rule| rule.hook.name().to_owned()).collect();
    let now = clock.wall().millis();
    meta.write(move |tx| tx.end_jobs_but_of(&names, NOT_CONFIGURED, now))?;
    let programs = Programs::open(&scratch)?;
    if rules.iter().any(Rule::is_program) {
        tracing::info!(limits = ?programs.limits(), "hooks that are programs run in sandboxes");
    }
    let rules = Arc::new(Rules::new(rules));
    let worker = Arc::new(Worker::start(executable, worker, programs)?);
    let hooks = Hooks { rules: rules.clone(), worker: worker.clone() };
    hooks.reload();
    let watch = live::watch(rules.clone(), worker.clone(), clock.clone(), tasks.clone());
    tasks.spawn("hooks.watch", watch);
    let turns = Turns::default();
    let engine = JobEngine { vfs, meta, events, clock, tasks: tasks.clone(), rules, worker, turns };
    tasks.spawn("hooks.engine", engine.run(programs_at_once));
    Ok(hooks)
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
