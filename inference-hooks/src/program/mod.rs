//! Hooks that are programs. Each run has a folder of its own, is started in a sandbox (bubblewrap) or a container, and is
//! over when every process of it is gone; then what it left in its output folder is taken.
//!
//! ```text
//! Programs::run ─► folder: hook, input, input.json, output     (folder.rs, contract.rs)
//!               ─► bwrap | runc | podman | docker              (bubblewrap.rs, container.rs; pure)
//!               ─► wait: time, output folder, streams          (child.rs)
//!               ─► result.json and derived files               (collect.rs)
//! ```
//!
//! Invariant: what runs is the source that was read and hashed, never the live hook folder.
//! Invariant: nothing that a program leaves is followed, executed or waited for; it is copied, within limits.

mod bubblewrap;
mod child;
mod collect;
mod container;
mod contract;
mod folder;
mod memory;

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use self::child::{End, Started};
use self::folder::{RunFolder, Scratch};
use crate::client::{JobError, JobOutput};
use crate::hook::{Bounds, Hook, Work};
use crate::protocol::Engine;

/// What a program is told of the file, beside its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// The share that it arrived in.
    pub share: String,
    /// Its path from the root of the share, `/` between names.
    pub path: OsString,
    /// What happened to it.
    pub change: Change,
}

/// What happened to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The hook sees it for the first time.
    Created,
    /// The hook has seen an earlier version.
    Modified,
}

/// Runs hooks that are programs. Blocking: it belongs on threads that may wait, as many as programs may run at once.
#[derive(Debug)]
pub struct Programs {
    scratch: Scratch,
}

impl Programs {
    /// Takes `scratch` as the folder for runs, and ends and clears away what an earlier owner left there. Everybody must be
    /// able to reach it: as root, programs run as another user. Nobody else may use it.
    ///
    /// # Errors
    /// The folder can't be cleared.
    pub fn open(scratch: &Path) -> io::Result<Self> {
        Ok(Self { scratch: Scratch::open(scratch, container::end_left_over)? })
    }

    /// Says what runs a hook here.
    ///
    /// # Errors
    /// It is no program, or what runs it is not installed.
    pub fn load(&self, hook: &Hook) -> Result<Engine, JobError> {
        match hook.work() {
            Work::Shaders(_) => Err(no_program(hook)),
            Work::Command(command) => {
                bubblewrap::check(command)?;
                bubblewrap::try_it(self.scratch.user()).map(|()| Engine::Command)
            }
            Work::Container(container) => container::check(container).map(|()| Engine::Container),
        }
    }

    /// In words, for an operator, what holds programs in here.
    pub fn limits(&self) -> Vec<String> {
        let output = match self.scratch.is_mounted() {
            true => "output: a tmpfs of the size that limits.output says",
            false => "output: looked at while it is written, since only root can mount a tmpfs",
        };
        let memory =
            "memory, processor time, processes: rlimits; the memory of all processes is looked at";
        [output, memory].map(str::to_owned).into()
    }

    /// Runs a hook on the content of `input`, from its start.
    ///
    /// # Errors
    /// Says whose fault it is: the file's, the hook's, or this machine's.
    pub fn run(
        &self,
        hook: &Hook,
        input: OwnedFd,
        context: &Context,
    ) -> Result<JobOutput, JobError> {
        let (bounds, engine) = match hook.work() {
            Work::Shaders(_) => return Err(no_program(hook)),
            Work::Command(command) => (&command.bounds, Engine::Command),
            Work::Container(container) => (&container.bounds, Engine::Container),
        };
        let folder = self.scratch.folder(hook, bounds, input, context)?;
        let started = self.start(hook, &folder, context)?;
        let ended =
            child::run(started, hook.limits(), || folder.is_full()).map_err(JobError::start)?;
        judge(hook, bounds, &ended)?;
        let (fields, derived) = collect::collect(&folder.output(), hook, bounds)?;
        let (adapter, note) = (None, None);
        Ok(JobOutput { engine, adapter, note, width: 0, height: 0, fields, derived })
    }

    fn start(
        &self,
        hook: &Hook,
        folder: &RunFolder,
        context: &Context,
    ) -> Result<Started, JobError> {
        let limits = hook.limits();
        let variables = contract::variables(hook, folder.input_bytes(), context);
        match hook.work() {
            Work::Shaders(_) => Err(no_program(hook)),
            Work::Command(command) => bubblewrap::start(command, limits, folder, variables),
            Work::Container(container) => container::start(container, limits, folder, variables),
        }
    }
}

fn no_program(hook: &Hook) -> JobError {
    JobError::HookBroken(format!("hook `{}` is no program", hook.name()))
}

/// It went well; the others are from `sysexits.h`.
const EX_OK: i32 = 0;
const EX_DATAERR: i32 = 65;
const EX_TEMPFAIL: i32 = 75;
/// How a shell, and bubblewrap, say that a signal ended a program.
const SIGNALLED: i32 = 128;

/// What the end of a program means for its job.
fn judge(hook: &Hook, bounds: &Bounds, (end, stderr): &(End, String)) -> Result<(), JobError> {
    let said = |what: String| match stderr.is_empty() {
        true => what,
        false => format!("{what}: {stderr}"),
    };
    match *end {
        End::Exit(EX_OK) => Ok(()),
        End::Exit(EX_DATAERR) => Err(JobError::BadInput(said("the program refuses it".to_owned()))),
        End::Exit(EX_TEMPFAIL) => {
            Err(JobError::Later(said("the program asks to be run later".to_owned())))
        }
        End::Exit(code) => {
            let limit = match code - SIGNALLED {
                libc::SIGXCPU => {
                    let most = bounds.cpu_seconds_max;
                    format!(", beyond limits.cpu_seconds = {most}")
                }
                libc::SIGXFSZ => {
                    let most = bounds.output_bytes_max;
                    let what = format!("the program wrote a file beyond limits.output = {most}");
                    return Err(JobError::OverLimit(said(what)));
                }
                signal @ 1..=64 => format!(", by signal {signal}"),
                _ => String::new(),
            };
            Err(JobError::Program(said(format!("the program ended with code {code}{limit}"))))
        }
        End::TimedOut => {
            let most = hook.limits().run_max.as_millis();
            let what = format!("the program took longer than limits.time_ms = {most}");
            Err(JobError::Timeout(said(what)))
        }
        End::Full => {
            let (bytes, files) = (bounds.output_bytes_max, bounds.output_files_max);
            let what = format!(
                "the program wrote more than limits.output = {bytes} and limits.output_files = {files} allow"
            );
            Err(JobError::OverLimit(said(what)))
        }
        End::Memory => {
            let most = hook.limits().memory_bytes_max;
            let what = format!("the program took more than limits.memory = {most} bytes");
            Err(JobError::OverLimit(said(what)))
        }
        End::Flood => {
            let most = child::STREAM_BYTES_MAX;
            let what = format!(
                "the program printed more than {most} bytes; what it has to say goes to files"
            );
            Err(JobError::OverLimit(what))
        }
    }
}
