//! The daemon's end of a worker process. Blocking: it belongs on a thread that may wait.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use thiserror::Error;

use crate::hook::{Hook, HookVersion, Kind, Work};
use crate::pipeline_cache;
use crate::protocol::{
    BATCH_FILES_MAX, Done, Engine, Failure, FailureKind, FrameError, Hello, Reply, Request, Wire,
    deadline,
};
use crate::spare::Spare;
use crate::worker::is_sealed;

/// The argument that makes an executable a worker.
pub const WORKER_ARGUMENT: &str = "hook-worker";

/// What a loading may take beyond the hook's own `compile_ms`: reading, checking and the way there and back.
const LOAD_GRACE: Duration = Duration::from_secs(2);

/// How a worker is started.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// Use an adapter that is a program on the CPU. For tests: a CPU twin is faster.
    pub allow_software_adapter: bool,
    /// The most memory the process can have, all hooks together.
    pub memory_bytes_max: u64,
    /// How long the driver may take to start.
    pub start_max: Duration,
    /// Have another one stand by, which takes the place of one that is gone. It takes as much memory again while it waits.
    pub keep_spare: bool,
    /// Where it is kept what the driver has compiled, for the next start; none: nowhere.
    pub cache_dir: Option<PathBuf>,
    /// The whole environment of the process: variables that a driver needs, such as `VK_DRIVER_FILES`.
    pub environment: Vec<(OsString, OsString)>,
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self {
            allow_software_adapter: false,
            memory_bytes_max: 4 << 30,
            start_max: Duration::from_secs(30),
            keep_spare: false,
            cache_dir: None,
            environment: Vec::new(),
        }
    }
}

/// What a hook says of a file.
#[derive(Debug)]
pub struct JobOutput {
    /// What ran it.
    pub engine: Engine,
    /// The adapter's name if it was the GPU.
    pub adapter: Option<String>,
    /// Why it was not the GPU.
    pub note: Option<String>,
    /// The width of the picture as it is shown, how many columns of numbers the table has, or channels the sound; 1 of bytes, 0 where
    /// a program looked at the file.
    pub width: u32,
    /// The height of the picture, or how many rows, frames or bytes there are.
    pub height: u32,
    /// The fields of its JSON result.
    pub fields: Map<String, Value>,
    /// The derived files.
    pub derived: Vec<Derived>,
}

impl JobOutput {
    /// The result as the JSON that is kept beside the file: the fields, and what made them.
    pub fn to_json(&self, hook: &Hook) -> Value {
        let (width, height) = (self.width, self.height);
        let input = match (hook.work(), hook.kind()) {
            (Work::Command(_) | Work::Container(_), _) => Value::Null,
            (Work::Shaders(_), Kind::Image) => {
                serde_json::json!({ "width": width, "height": height })
            }
            (Work::Shaders(_), Kind::Table(_)) => {
                serde_json::json!({ "columns": width, "rows": height })
            }
            (Work::Shaders(_), Kind::Audio(_)) => {
                serde_json::json!({ "channels": width, "frames": height })
            }
            (Work::Shaders(_), Kind::Bytes) => serde_json::json!({ "bytes": height }),
        };
        serde_json::json!({
            "hook": hook.name(),
            "version": hook.version(),
            "engine": self.engine,
            "adapter": self.adapter,
            "note": self.note,
            "input": input,
            "result": self.fields,
        })
    }
}

/// A file that a hook made, in memory. It is sealed: what is read once is read again.
#[derive(Debug)]
pub struct Derived {
    /// What its name ends with, after the name of the original.
    pub suffix: String,
    /// `image/png` or so.
    pub media_type: String,
    /// Its length.
    pub bytes: u64,
    file: File,
}

impl Derived {
    /// A file that is sealed and positioned at its start.
    pub(crate) fn new(suffix: String, media_type: String, bytes: u64, file: File) -> Self {
        Self { suffix, media_type, bytes, file }
    }

    /// The file, positioned at its start, for copying it elsewhere.
    pub fn into_file(self) -> File {
        self.file
    }

    /// The content.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.file.read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// Why a job has no result; [`JobError::advice`] says what to do.
#[derive(Clone, Debug, Error)]
pub enum JobError {
    /// The file is no picture, or a damaged one.
    #[error("{0}")]
    BadInput(String),
    /// The file is beyond a limit of the hook or of this machine.
    #[error("{0}")]
    OverLimit(String),
    /// The file could not be read from the disk.
    #[error("{0}")]
    Unreadable(String),
    /// A shader does not compile, reaches for what it has not declared, or is a bomb.
    #[error("{0}")]
    HookBroken(String),
    /// The hook needs a GPU, and there is none.
    #[error("{0}")]
    NoEngine(String),
    /// It took too long. The worker is gone.
    #[error("{0}")]
    Timeout(String),
    /// The worker ended in the middle of it: the decoder, the driver or the system's memory.
    #[error("the hook worker ended: {0}")]
    WorkerDied(String),
    /// The driver gave up the device. The worker is gone.
    #[error("{0}")]
    DeviceLost(String),
    /// The worker said what no worker says, and was killed.
    #[error("the hook worker broke the protocol: {0}")]
    Protocol(String),
    /// A program ended with an error of its own.
    #[error("{0}")]
    Program(String),
    /// A program asks to be run again later.
    #[error("{0}")]
    Later(String),
    /// A program left what can't be taken as its output.
    #[error("{0}")]
    BadOutput(String),
    /// No worker could be started.
    #[error("what runs hooks can't be started")]
    Start(#[source] Arc<io::Error>),
}

/// What a daemon does after a [`JobError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// Park the job: this hook will never have a result for this file.
    ParkFile,
    /// Park all jobs of this hook until its folder, or the machine, changes.
    ParkHook,
    /// Try again after a while, as often as it takes.
    Later,
    /// Try again, in a new worker if this one is gone, up to [`crate::Limits::retries_max`] times.
    Retry,
}

impl JobError {
    /// No worker could be started, because of `error`.
    pub fn start(error: io::Error) -> Self {
        Self::Start(Arc::new(error))
    }

    /// What to do now.
    pub fn advice(&self) -> Advice {
        match self {
            Self::BadInput(_) | Self::OverLimit(_) | Self::BadOutput(_) => Advice::ParkFile,
            Self::Later(_) => Advice::Later,
            Self::HookBroken(_) | Self::NoEngine(_) => Advice::ParkHook,
            Self::Unreadable(_)
            | Self::Timeout(_)
            | Self::WorkerDied(_)
            | Self::DeviceLost(_)
            | Self::Protocol(_)
            | Self::Program(_)
            | Self::Start(_) => Advice::Retry,
        }
    }
}

impl From<Failure> for JobError {
    fn from(Failure { kind, detail }: Failure) -> Self {
        match kind {
            FailureKind::BadInput => Self::BadInput(detail),
            FailureKind::OverLimit => Self::OverLimit(detail),
            FailureKind::Unreadable => Self::Unreadable(detail),
            FailureKind::HookBroken => Self::HookBroken(detail),
            FailureKind::NoEngine => Self::NoEngine(detail),
            FailureKind::GpuTimeout => Self::Timeout(detail),
            FailureKind::DeviceLost => Self::DeviceLost(detail),
        }
    }
}

/// A running worker. Dropping it kills the process.
#[derive(Debug)]
pub struct WorkerProcess {
    executable: PathBuf,
    config: WorkerConfig,
    child: Child,
    wire: Wire,
    hello: Hello,
    /// The version that the worker has of each hook, by name.
    loaded: BTreeMap<String, (Loading, Engine)>,
    spare: Option<Spare>,
    alive: bool,
}

/// What a worker needs of a hook to load it.
#[derive(Clone, Debug)]
pub(crate) struct Loading {
    name: String,
    version: HookVersion,
    files: BTreeMap<String, String>,
    limit: Duration,
}

impl Loading {
    fn of(hook: &Hook) -> Result<Self, JobError> {
        let Some(shaders) = hook.shaders() else {
            let why = format!("hook `{}` is a program, and no shader", hook.name());
            return Err(JobError::HookBroken(why));
        };
        Ok(Self {
            name: hook.name().to_owned(),
            version: hook.version().clone(),
            files: worker_files(hook),
            limit: shaders.compile_max + LOAD_GRACE,
        })
    }
}

impl WorkerProcess {
    /// Starts `executable hook-worker` and waits until it is ready. The worker inherits nothing but standard error.
    ///
    /// # Errors
    /// The program cannot be started, or gives no sign of life in time.
    pub fn spawn(executable: &Path, config: &WorkerConfig) -> Result<Self, JobError> {
        let (ours, theirs) = UnixStream::pair().map_err(JobError::start)?;
        let child = Command::new(executable)
            .arg(WORKER_ARGUMENT)
            .env_clear()
            // Mesa looks for these, complains, or keeps files.
            .env("XDG_RUNTIME_DIR", "/")
            .env("MESA_SHADER_CACHE_DISABLE", "true")
            .envs(config.environment.iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .spawn()
            .map_err(JobError::start)?;
        let hello = Hello {
            adapter: Err("the worker has not started".to_owned()),
            sandbox: crate::protocol::Sandbox {
                landlock: "off".to_owned(),
                seccomp: "off".to_owned(),
                memory_bytes_max: config.memory_bytes_max,
            },
        };
        let wire = Wire::new(ours);
        let mut worker = Self {
            executable: executable.to_owned(),
            config: config.clone(),
            child,
            wire,
            hello,
            loaded: BTreeMap::new(),
            spare: None,
            alive: true,
        };
        let configure = Request::Configure {
            allow_software_adapter: config.allow_software_adapter,
            memory_bytes_max: config.memory_bytes_max,
        };
        match worker.exchange("the start of the worker", &configure, &[], config.start_max)? {
            (Reply::Ready(hello), _) => worker.hello = hello,
            (reply, _) => return Err(worker.broke(format!("{reply:?} at the start"))),
        }
        worker.warm()?;
        Ok(worker)
    }

    /// Where it is kept what the driver has compiled.
    fn kept(&self) -> Option<PathBuf> {
        pipeline_cache::file_of(self.config.cache_dir.as_ref()?, &self.hello)
    }

    /// Hands over what an earlier worker's driver has compiled.
    fn warm(&mut self) -> Result<(), JobError> {
        let file = self.kept().and_then(|path| File::open(path).ok());
        let Some(file) = file else { return Ok(()) };
        let limit = self.config.start_max;
        match self.exchange("the start of the worker", &Request::Warm, &[file.into()], limit) {
            Ok((Reply::Warm, _)) => Ok(()),
            Ok((reply, _)) => Err(self.broke(format!("{reply:?} at the start"))),
            Err(error) => {
                self.forget_kept();
                Err(error)
            }
        }
    }

    /// The next worker begins anew: it may be what the driver could not stand.
    fn forget_kept(&self) {
        if let Some(path) = self.kept() {
            // It may be gone, and a worker without it is none the worse.
            let _ = std::fs::remove_file(path);
        }
    }

    /// Keeps for the next worker what the driver has compiled. Without that it compiles again.
    fn keep(&self, compiled: Option<OwnedFd>) {
        if let (Some(path), Some(compiled)) = (self.kept(), compiled) {
            let _ = pipeline_cache::keep(&path, File::from(compiled));
        }
    }

    /// What the worker said of itself.
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// The process. A batch that it does not survive is ended by others.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it can take another job. Once it cannot, only a new worker can.
    pub fn is_alive(&self) -> bool {
        self.alive
    }

    /// Makes a hook ready, if this version of it is not yet, and says what will run it. The worker is killed if that
    /// takes longer than the hook's `compile_ms` and a moment.
    ///
    /// # Errors
    /// The hook is broken or has no engine here.
    pub fn load(&mut self, hook: &Hook) -> Result<Engine, JobError> {
        if let Some((loaded, engine)) = self.loaded.get(hook.name())
            && loaded.version == *hook.version()
        {
            return Ok(*engine);
        }
        self.load_it(Loading::of(hook)?)
    }

    pub(crate) fn load_it(&mut self, hook: Loading) -> Result<Engine, JobError> {
        self.loaded.remove(&hook.name);
        let request = Request::Load { files: hook.files.clone() };
        let loaded = self.exchange("compiling", &request, &[], hook.limit);
        if loaded.is_err() && !self.alive {
            self.forget_kept();
        }
        match loaded? {
            (Reply::Loaded { engine }, fds) => {
                self.keep(fds.into_iter().next());
                self.loaded.insert(hook.name.clone(), (hook, engine));
                Ok(engine)
            }
            (reply, _) => Err(self.broke(format!("{reply:?} to a hook"))),
        }
    }

    /// Runs a hook, loaded first if need be, on an open file, from its start. Past `deadline` the worker is killed.
    ///
    /// # Errors
    /// Says whose fault it is: the file's, the hook's, or the worker's end.
    pub fn run(
        &mut self,
        hook: &Hook,
        input: OwnedFd,
        deadline: Duration,
    ) -> Result<JobOutput, JobError> {
        let mut said = Err(JobError::Protocol("nothing was said of the job".to_owned()));
        self.run_batch(hook, &[input], deadline, |output| said = output);
        said
    }

    /// Runs a hook, loaded first if need be, on open files, from their starts, [`BATCH_FILES_MAX`] at a time. `tell` hears of each, in their
    /// order and as soon as it is known, what it would hear of that file alone. When nothing comes for `deadline` the worker is killed.
    ///
    /// When a worker ends that had several files, nobody knows whose fault it is: another one is started, and those that nothing was said
    /// of are run one by one. So the end of a worker is an error only of a file that it had alone.
    pub fn run_batch(
        &mut self,
        hook: &Hook,
        inputs: &[OwnedFd],
        deadline: Duration,
        mut tell: impl FnMut(Result<JobOutput, JobError>),
    ) {
        for (batch, inputs) in inputs.chunks(BATCH_FILES_MAX).enumerate() {
            let is_ready = batch == 0 || self.revive().is_ok();
            let said =
                if is_ready { self.run_together(hook, inputs, deadline, &mut tell) } else { 0 };
            for input in &inputs[said..] {
                match self.revive() {
                    Ok(()) => {
                        self.run_together(hook, std::slice::from_ref(input), deadline, &mut tell);
                    }
                    Err(error) => tell(Err(error)),
                }
            }
        }
    }

    /// Tells of how many of the first files something was said: of all, unless the worker ended that had several.
    fn run_together(
        &mut self,
        hook: &Hook,
        inputs: &[OwnedFd],
        limit: Duration,
        tell: &mut dyn FnMut(Result<JobOutput, JobError>),
    ) -> usize {
        if let Err(error) = self.load(hook) {
            inputs.iter().for_each(|_| tell(Err(error.clone())));
            return inputs.len();
        }
        let was_alive = self.alive;
        let request = Request::Run { hook: hook.name().to_owned() };
        for said in 0..inputs.len() {
            let heard = match said {
                0 => self.exchange("the job", &request, inputs, limit),
                _ => self.hear("the job", limit),
            };
            let output = heard.and_then(|(reply, fds)| self.output(reply, fds));
            if was_alive && !self.alive && inputs.len() > 1 {
                return said;
            }
            tell(output);
        }
        inputs.len()
    }

    fn revive(&mut self) -> Result<(), JobError> {
        if self.alive { Ok(()) } else { self.restart() }
    }

    /// Puts another process in the place of this one: the one that stands by, if it does.
    ///
    /// # Errors
    /// As [`WorkerProcess::spawn`].
    pub fn restart(&mut self) -> Result<(), JobError> {
        let spare = self.spare.take().and_then(Spare::take);
        *self = match spare {
            Some(spare) => spare,
            None => Self::spawn(&self.executable, &self.config)?,
        };
        Ok(())
    }

    /// Has another one stand by, if the configuration says so and none does, with the hooks that this one has now.
    pub fn keep_spare(&mut self) {
        if self.config.keep_spare && self.alive && self.spare.is_none() {
            let hooks = self.loaded.values().map(|(hook, _)| hook.clone()).collect();
            self.spare = Spare::start(self.executable.clone(), self.config.clone(), hooks);
        }
    }

    /// None if it has ended in the meantime.
    pub(crate) fn if_it_lives(mut self) -> Option<Self> {
        let is_fit = self.alive && matches!(self.child.try_wait(), Ok(None));
        is_fit.then_some(self)
    }

    fn output(&mut self, reply: Reply, fds: Vec<OwnedFd>) -> Result<JobOutput, JobError> {
        let Reply::Done(done) = reply else {
            return Err(self.broke(format!("{reply:?} to a job")));
        };
        let derived = derived(&done, fds).map_err(|problem| self.broke(problem))?;
        let adapter = self.hello.adapter.as_ref().ok().map(|adapter| adapter.name.clone());
        Ok(JobOutput {
            engine: done.engine,
            adapter: adapter.filter(|_| done.engine == Engine::Gpu),
            note: done.note,
            width: done.width,
            height: done.height,
            fields: done.fields,
            derived,
        })
    }

    /// Asks, and hears the first reply.
    fn exchange(
        &mut self,
        what: &str,
        request: &Request,
        inputs: &[OwnedFd],
        limit: Duration,
    ) -> Result<(Reply, Vec<OwnedFd>), JobError> {
        if !self.alive {
            return Err(JobError::WorkerDied("it ended at an earlier job".to_owned()));
        }
        let fds: Vec<_> = inputs.iter().map(AsFd::as_fd).collect();
        match self.wire.send(request, &fds, deadline(limit)) {
            Ok(()) => self.hear(what, limit),
            Err(error @ FrameError::TooLarge { .. }) => {
                Err(JobError::HookBroken(format!("the hook's files are too large: {error}")))
            }
            Err(error) => Err(self.failed(what, error, limit)),
        }
    }

    fn hear(&mut self, what: &str, limit: Duration) -> Result<(Reply, Vec<OwnedFd>), JobError> {
        match self.wire.receive(deadline(limit)) {
            Ok((Reply::Failed(failure), _)) => {
                if failure.kind.is_the_end() {
                    self.end();
                }
                Err(failure.into())
            }
            Ok(reply) => Ok(reply),
            Err(error) => Err(self.failed(what, error, limit)),
        }
    }

    fn failed(&mut self, what: &str, error: FrameError, limit: Duration) -> JobError {
        match error {
            FrameError::TimedOut => {
                self.end();
                let limit = limit.as_millis();
                JobError::Timeout(format!("{what} took longer than {limit} ms"))
            }
            FrameError::Closed | FrameError::Io(_) => JobError::WorkerDied(self.end()),
            FrameError::TooLarge { .. } | FrameError::WrongFds { .. } | FrameError::NotOurs(_) => {
                self.broke(error.to_string())
            }
        }
    }

    fn broke(&mut self, problem: String) -> JobError {
        self.end();
        JobError::Protocol(problem)
    }

    /// Kills the process, if it still runs, and says how it ended.
    fn end(&mut self) -> String {
        self.alive = false;
        // A process that has ended by itself keeps its own status: the kill then does nothing.
        let status = self.child.kill().and_then(|()| self.child.wait());
        status.map_or_else(|error| error.to_string(), |status| status.to_string())
    }
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        if self.alive {
            self.end();
        }
    }
}

/// What a worker needs of a hook folder: not the notes and pictures beside it.
fn worker_files(hook: &Hook) -> BTreeMap<String, String> {
    let files = hook.source().files().iter();
    let needed = files.filter(|(name, _)| name.ends_with(".toml") || name.ends_with(".wgsl"));
    let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
    needed.map(|(name, bytes)| (name.clone(), text(bytes))).collect()
}

/// The derived files, which must be as many as announced, and sealed: a worker cannot hand over a pipe that never
/// ends or a file that it still writes.
fn derived(done: &Done, fds: Vec<OwnedFd>) -> Result<Vec<Derived>, String> {
    if fds.len() != done.derived.len() {
        return Err(format!("{} derived files without content", done.derived.len()));
    }
    let derived = done.derived.iter().zip(fds).map(|(info, fd)| {
        if !is_sealed(&fd) {
            return Err("a derived file that is not sealed".to_owned());
        }
        let file = File::from(fd);
        let bytes = file.metadata().map_err(|error| error.to_string())?.len();
        let (suffix, media_type) = (info.suffix.clone(), info.media_type.clone());
        Ok(Derived { suffix, media_type, bytes, file })
    });
    derived.collect()
}
