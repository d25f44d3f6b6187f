//! The commands. What they print on stdout is data, what they say on stderr is talk, and how they end is an [`Exit`].

mod config;
mod conflicts;
mod daemon;
mod events;
mod evict;
mod explain;
mod find;
mod gpu;
mod hooks;
mod mount;
mod output;
mod pace;
mod pin;
mod queue;
mod receipts;
mod recover;
mod run;
mod status;
mod trash;
mod umount;
mod verify;
mod wait;
mod work;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::future::Future;
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use super::api::types::{ErrorCode, WorkKind};
use super::api::{ClientError, RuntimeDir};
use crate::config::{Config, ConfigError};

pub use daemon::Ready;

/// Environment variables.
pub type Vars = BTreeMap<String, String>;

/// The program around the commands: what they start but do not contain.
pub trait Program {
    /// Runs a gateway in this process, until it is told to end.
    ///
    /// # Errors
    /// Why it could not start, or ended by itself.
    fn serve(&self, start: Start) -> anyhow::Result<()>;

    /// Runs hooks in this process, for the daemon that started it.
    ///
    /// # Errors
    /// Why it could not start, or ended by itself.
    fn hook_worker(&self) -> anyhow::Result<()>;
}

/// A gateway that is to be run.
#[derive(Debug)]
pub struct Start {
    /// What it does.
    pub config: Config,
    /// Where it listens to commands.
    pub runtime_dir: RuntimeDir,
    /// Called when all mounts are up and it listens.
    pub ready: Ready,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It did what was asked.
    Done = 0,
    /// It failed.
    Failed = 1,
    /// It was called in a way that makes no sense.
    Usage = 2,
    /// The configuration has a mistake.
    Config = 3,
    /// No daemon runs, or none that has what was asked for.
    NoDaemon = 4,
    /// The daemon has no such mount, file, hook or job.
    NotFound = 5,
    /// Something is in use.
    Busy = 6,
    /// Not everything is done: waiting would not help, or took too long.
    Unfinished = 7,
    /// Something is not what is on record of it.
    Differs = 8,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command failed, and what to do about it.
#[derive(Debug)]
struct Failure {
    exit: Exit,
    message: String,
    hint: Option<String>,
}

type Outcome = Result<(), Failure>;

impl Failure {
    fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: None }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "fsd: {}", self.message.trim_end())?;
        self.hint.iter().try_for_each(|hint| writeln!(f, "hint: {hint}"))
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::new(Exit::Failed, format!("{error:#}"))
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match &error {
            ClientError::Refused(body) => {
                let (exit, hint) = match body.code {
                    ErrorCode::BadRequest => (Exit::Usage, None),
                    ErrorCode::NotFound => (Exit::NotFound, None),
                    ErrorCode::Busy => (Exit::Busy, Some("close what uses it, and try again")),
                    ErrorCode::Failed => (Exit::Failed, Some("the daemon's log says more")),
                };
                Self { exit, message: body.message.clone(), hint: hint.map(str::to_owned) }
            }
            ClientError::Transport { .. } => {
                let message = format!("{:#}", anyhow::Error::new(error));
                Self::new(Exit::NoDaemon, message).hint("it may be ending; its log says more")
            }
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let report = error.report(output::stderr_shows_colour());
        Self::new(Exit::Config, format!("{:#}\n{report}", anyhow::Error::new(error)))
            .hint("`fsd config example` prints a file that sets everything there is to set")
    }
}

/// A drive whose files live in the cloud, are cached here, and are looked at as they arrive.
#[derive(Debug, Parser)]
#[command(name = "fsd", version, after_help = EXITS, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXITS: &str = "\
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 mistake in the configuration, 4 no daemon,
5 not found, 6 in use, 7 not everything is uploaded, or done, 8 something is not what is on record of it.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Mount one URL
    Mount(mount::MountArgs),
    /// Run a gateway as a configuration file says
    Run(run::RunArgs),
    /// Take a mount away; what is not uploaded is kept
    Umount(umount::UmountArgs),
    /// Show how the gateway is
    Status(status::StatusArgs),
    /// Show what waits to be uploaded, or steer it: pause, resume, cancel, retry, first
    Queue(queue::QueueArgs),
    /// Wait until everything is uploaded
    Wait(wait::WaitArgs),
    /// Keep files in the cache and fresh; without a path, show what is kept
    Pin(pin::PinArgs),
    /// Let files go from the cache again
    Unpin(pin::UnpinArgs),
    /// Bring files here before somebody asks for them; Ctrl-C stops it
    Warm(work::WorkArgs),
    /// Look whether what is cached still is what it was, and mend it from the store; Ctrl-C stops it
    Scrub(work::WorkArgs),
    /// Bring in what changed in the store, in all directories that are known here; Ctrl-C stops it
    Refresh(work::RefreshArgs),
    /// Learn all that the store knows of names and attributes, as after the loss of a gateway, and show what gateways had not uploaded;
    /// Ctrl-C stops it, and it goes on where it was
    Recover(recover::RecoverArgs),
    /// Look whether names, records, cached files and the store fit together, and mend what does not; Ctrl-C stops it
    Check(work::CheckArgs),
    /// Show long work under way, or stop it
    Work(work::UnderWayArgs),
    /// Compare files with their objects in the store; nothing is changed. Ctrl-C stops it
    Verify(verify::VerifyArgs),
    /// Free what files take in the cache; what is not uploaded stays
    Evict(evict::EvictArgs),
    /// Show all that is known of a file
    Explain(explain::ExplainArgs),
    /// Show how fast bytes may pass, or set it for the time being
    Pace(pace::PaceArgs),
    /// Print what went up: a line of JSON for each version of a file
    Receipts(receipts::ReceiptsArgs),
    /// Show files that both sides had changed, and settle them
    Conflicts(conflicts::ConflictsArgs),
    /// Show, bring back or delete for good what was deleted, where a share has `deletes = "trash"`
    Trash(trash::TrashArgs),
    /// Show hooks, their jobs and what they found
    Hooks(hooks::HooksArgs),
    /// Show what happened: arrivals, results, failures, verdicts, alerts
    Events(events::EventsArgs),
    /// Show who is told of it, or steer it: replay, skip, retry
    Sinks(events::SinksArgs),
    /// Show graphics adapters, how fast the one that hooks run on is, and whether it says what the CPU says
    Gpu(gpu::GpuArgs),
    /// Check a configuration file, or print an example
    Config(config::ConfigArgs),
    /// Run hooks for the daemon that started this process
    #[command(hide = true)]
    HookWorker,
    /// Test the adapter for `fsd gpu`
    #[command(hide = true)]
    GpuTest(gpu::GpuTestArgs),
}

/// What every command gets.
struct Context<'a> {
    vars: &'a Vars,
    program: &'a dyn Program,
    /// The arguments as understood, with the command first.
    arguments: Vec<OsString>,
}

impl Context<'_> {
    fn var(&self, name: &str) -> Option<&str> {
        self.vars.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Where daemons of this user listen.
    fn runtime_dir(&self) -> Result<RuntimeDir, Failure> {
        let chosen = self.var("FSD_RUNTIME_DIR").map(Path::new);
        let xdg = self.var("XDG_RUNTIME_DIR").map(Path::new);
        RuntimeDir::open(super::api::socket::current_uid(), chosen, xdg)
            .map_err(|error| anyhow::Error::new(error).into())
    }
}

/// Does what the arguments ask for; the first is the name that the program was called by.
pub fn run(
    arguments: impl IntoIterator<Item = OsString>,
    vars: &Vars,
    program: &dyn Program,
) -> ExitCode {
    let arguments = as_commands(arguments.into_iter().collect());
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print(); // there is nowhere else to say it
            return if error.use_stderr() { Exit::Usage } else { Exit::Done }.into();
        }
    };
    let context = Context { vars, program, arguments: arguments[1..].to_vec() };
    match dispatch(&cli.command, &context) {
        Ok(()) => Exit::Done.into(),
        Err(failure) => {
            eprint!("{failure}");
            failure.exit.into()
        }
    }
}

fn dispatch(command: &Command, context: &Context<'_>) -> Outcome {
    match command {
        Command::Mount(args) => mount::mount(args, context),
        Command::Run(args) => run::run(args, context),
        Command::Umount(args) => block_on(umount::umount(args, context)),
        Command::Status(args) => block_on(status::status(args, context)),
        Command::Queue(args) => block_on(queue::queue(args, context)),
        Command::Wait(args) => block_on(wait::wait(args, context)),
        Command::Pin(args) => block_on(pin::pin(args, context)),
        Command::Unpin(args) => block_on(pin::unpin(args, context)),
        Command::Warm(args) => block_on(work::work(WorkKind::Warm, args, context)),
        Command::Scrub(args) => block_on(work::work(WorkKind::Scrub, args, context)),
        Command::Refresh(args) => block_on(work::refresh(args, context)),
        Command::Recover(args) => block_on(recover::recover(args, context)),
        Command::Check(args) => block_on(work::check(args, context)),
        Command::Work(args) => block_on(work::under_way(args, context)),
        Command::Verify(args) => block_on(verify::verify(args, context)),
        Command::Evict(args) => block_on(evict::evict(args, context)),
        Command::Explain(args) => block_on(explain::explain(args, context)),
        Command::Pace(args) => block_on(pace::pace(args, context)),
        Command::Receipts(args) => block_on(receipts::receipts(args, context)),
        Command::Conflicts(args) => block_on(conflicts::conflicts(args, context)),
        Command::Trash(args) => block_on(trash::trash(args, context)),
        Command::Hooks(args) => block_on(hooks::hooks(args, context)),
        Command::Events(args) => block_on(events::events(args, context)),
        Command::Sinks(args) => block_on(events::sinks(args, context)),
        Command::Gpu(args) => gpu::gpu(args, context),
        Command::Config(args) => config::config(args),
        Command::GpuTest(args) => gpu::test(args),
        Command::HookWorker => context.program.hook_worker().map_err(Failure::from),
    }
}

/// A command that asks a daemon needs no more than this thread.
fn block_on(command: impl Future<Output = Outcome>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::from(anyhow::Error::new(error)))?.block_on(command)
}

/// `mount(8)` calls its helpers without a command: `mount.fuse.fsd URL DIR -o …`, or `fsd URL DIR -o …` by way of
/// `mount.fuse`. Both return when the mount is up.
fn as_commands(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let name = arguments.first().map(Path::new).and_then(Path::file_name);
    let is_helper = name.and_then(OsStr::to_str).is_some_and(|name| name.starts_with("mount."));
    let first_is_url =
        arguments.get(1).is_some_and(|first| first.to_string_lossy().contains("://"));
    if is_helper || first_is_url {
        arguments.splice(..1, ["fsd", "mount", "--daemon"].map(OsString::from));
    }
    if arguments.is_empty() {
        arguments.push("fsd".into());
    }
    arguments
}

#[cfg(test)]
mod tests;
