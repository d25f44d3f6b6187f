//! What runs hooks: the child process, on a thread of its own, since talking to it blocks, and a thread for each program that
//! runs.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use inference_hooks::{
    Context, Engine, Hello, Hook, JobError, JobOutput, Programs, Work, WorkerConfig, WorkerProcess,
};
use tokio::sync::oneshot;

/// Decoding, encoding and the way there and back, beside the time that a hook has on the GPU.
const JOB_GRACE: Duration = Duration::from_secs(20);

/// What is known of the worker.
#[derive(Clone, Debug, Default)]
pub struct WorkerState {
    /// Its process and what it said of itself; none while there is none.
    pub running: Option<(u32, Hello)>,
    /// What runs each hook, or why it can't run.
    pub engines: BTreeMap<String, Result<Engine, String>>,
}

#[derive(Debug)]
pub(super) struct Worker {
    ask: SyncSender<Ask>,
    programs: Arc<Programs>,
    state: Arc<Mutex<WorkerState>>,
}

#[derive(Debug)]
enum Ask {
    Load { hook: Arc<Hook>, tell: Option<oneshot::Sender<Result<(), JobError>>> },
    Run { hook: Arc<Hook>, input: OwnedFd, tell: oneshot::Sender<Result<JobOutput, JobError>> },
}

impl Worker {
    /// Starts the thread, which starts the process when there is something to do.
    pub(super) fn start(
        executable: PathBuf,
        config: WorkerConfig,
        programs: Programs,
    ) -> std::io::Result<Self> {
        let programs = Arc::new(programs);
        let (ask, asked) = sync_channel(64);
        let state = Arc::new(Mutex::new(WorkerState::default()));
        let thread = Thread {
            executable,
            config,
            programs: programs.clone(),
            state: state.clone(),
            process: None,
        };
        std::thread::Builder::new().name("hooks.worker".into()).spawn(move || thread.run(asked))?;
        Ok(Self { ask, programs, state })
    }

    pub(super) fn state(&self) -> WorkerState {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What holds programs in, for people.
    pub(super) fn program_limits(&self) -> Vec<String> {
        self.programs.limits()
    }

    /// Has a hook compiled before the first file needs it.
    pub(super) fn load(&self, hook: Arc<Hook>) {
        // The thread lives as long as we do; if it died, the next job says so.
        let _ = self.ask.send(Ask::Load { hook, tell: None });
    }

    /// The same, and waits until it is.
    ///
    /// # Errors
    /// If it can't run.
    pub(super) async fn try_load(&self, hook: Arc<Hook>) -> Result<(), JobError> {
        let (tell, told) = oneshot::channel();
        self.ask.send(Ask::Load { hook, tell: Some(tell) }).map_err(|_| died())?;
        told.await.map_err(|_| died())?
    }

    /// Runs a hook that is shaders.
    pub(super) async fn run(&self, hook: Arc<Hook>, input: OwnedFd) -> Result<JobOutput, JobError> {
        let (tell, told) = oneshot::channel();
        self.ask.send(Ask::Run { hook, input, tell }).map_err(|_| died())?;
        told.await.map_err(|_| died())?
    }

    /// Runs a hook that is a program; as many at a time as ask for it.
    pub(super) async fn run_program(
        &self,
        hook: Arc<Hook>,
        input: OwnedFd,
        context: Context,
    ) -> Result<JobOutput, JobError> {
        let (tell, told) = oneshot::channel();
        let programs = self.programs.clone();
        let thread = std::thread::Builder::new().name("hooks.program".into());
        // Whoever asked may be gone.
        let run = move || drop(tell.send(programs.run(&hook, input, &context)));
        thread.spawn(run).map_err(JobError::Start)?;
        told.await.map_err(|_| died())?
    }
}

fn died() -> JobError {
    JobError::WorkerDied("its thread is gone".to_owned())
}

struct Thread {
    executable: PathBuf,
    config: WorkerConfig,
    programs: Arc<Programs>,
    state: Arc<Mutex<WorkerState>>,
    process: Option<WorkerProcess>,
}

impl Thread {
    fn run(mut self, asked: Receiver<Ask>) {
        for ask in asked {
            match ask {
                Ask::Load { hook, tell } => {
                    let loaded = self.load(&hook);
                    // Whoever asked may be gone.
                    let _ = tell.map(|tell| tell.send(loaded));
                }
                Ask::Run { hook, input, tell } => {
                    let done = self.load(&hook).and_then(|()| {
                        let deadline = hook.limits().run_max + JOB_GRACE;
                        self.process()?.run(&hook, input, deadline)
                    });
                    self.note_process();
                    // Whoever asked may be gone.
                    let _ = tell.send(done);
                }
            }
        }
    }

    fn load(&mut self, hook: &Hook) -> Result<(), JobError> {
        let loaded = match hook.work() {
            Work::Shaders(_) => self.process().and_then(|process| process.load(hook)),
            Work::Command(_) | Work::Container(_) => self.programs.load(hook),
        };
        let noted = match &loaded {
            Ok(engine) => Ok(*engine),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = &noted {
            tracing::error!(hook = hook.name(), error, "a hook can't run");
        }
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .engines
            .insert(hook.name().to_owned(), noted);
        self.note_process();
        loaded.map(drop)
    }

    /// The process, a new one if the last one is gone.
    fn process(&mut self) -> Result<&mut WorkerProcess, JobError> {
        if self.process.as_ref().is_some_and(|process| !process.is_alive()) {
            self.process = None;
        }
        match &mut self.process {
            Some(process) => Ok(process),
            none => {
                let process = WorkerProcess::spawn(&self.executable, &self.config)?;
                let pid = process.pid();
                match &process.hello().adapter {
                    Ok(adapter) if adapter.software => {
                        tracing::warn!(
                            pid,
                            adapter = adapter.name,
                            "no GPU: hooks run on Vulkan in software, as allowed"
                        );
                    }
                    Ok(adapter) => {
                        tracing::info!(pid, adapter = adapter.name, "hooks run on the GPU")
                    }
                    Err(why) => tracing::warn!(pid, why, "no GPU: hooks run on their CPU twins"),
                }
                Ok(none.insert(process))
            }
        }
    }

    fn note_process(&self) {
        let running = self.process.as_ref().filter(|process| process.is_alive());
        let running = running.map(|process| (process.pid(), process.hello().clone()));
        self.state.lock().unwrap_or_else(PoisonError::into_inner).running = running;
    }
}
