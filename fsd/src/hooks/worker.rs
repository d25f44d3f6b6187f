//! What runs hooks: the child process, on a thread of its own, since talking to it blocks, and a thread for each program that
//! runs.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use inference_hooks::{
    BATCH_FILES_MAX, Context, Engine, Hello, Hook, JobError, JobOutput, Programs, Work,
    WorkerConfig, WorkerProcess,
};
use tokio::sync::oneshot;

/// Decoding, encoding and the way there and back, beside the time that a hook has on the GPU.
const JOB_GRACE: Duration = Duration::from_secs(20);

/// What is taken from those that ask before the first of it is done.
const WAITING_MAX: usize = BATCH_FILES_MAX;

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
    Run { hook: Arc<Hook>, job: Asked },
}

/// A file, and who asks what a hook says of it.
#[derive(Debug)]
struct Asked {
    input: OwnedFd,
    tell: oneshot::Sender<Result<JobOutput, JobError>>,
}

impl Worker {
    /// Starts the thread, which starts the process when there is something to do.
    pub(super) fn start(
        executable: PathBuf,
        config: WorkerConfig,
        programs: Programs,
    ) -> std::io::Result<Self> {
        let programs = Arc::new(programs);
        let (ask, asked) = sync_channel(WAITING_MAX);
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
        self.ask.send(Ask::Run { hook, job: Asked { input, tell } }).map_err(|_| died())?;
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
        thread.spawn(run).map_err(JobError::start)?;
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
    /// Does what is asked. Of what waits, files for one hook are looked at together; nothing is waited for, so that one file is looked at
    /// at once, and as many as came meanwhile after it.
    fn run(mut self, asked: Receiver<Ask>) {
        let mut waiting = VecDeque::new();
        while let Some(ask) = waiting.pop_front().or_else(|| asked.recv().ok()) {
            match ask {
                Ask::Load { hook, tell } => {
                    let loaded = self.load(&hook);
                    // Whoever asked may be gone.
                    let _ = tell.map(|tell| tell.send(loaded));
                }
                Ask::Run { hook, job } => {
                    waiting
                        .extend(asked.try_iter().take(WAITING_MAX.saturating_sub(waiting.len())));
                    let mut jobs = vec![job];
                    jobs.extend(take_alike(&hook, &mut waiting, BATCH_FILES_MAX - 1));
                    self.run_batch(&hook, jobs);
                }
            }
        }
    }

    fn run_batch(&mut self, hook: &Hook, jobs: Vec<Asked>) {
        let (inputs, tell): (Vec<_>, Vec<_>) =
            jobs.into_iter().map(|Asked { input, tell }| (input, tell)).unzip();
        let deadline = hook.limits().run_max + JOB_GRACE;
        let mut tell = tell.into_iter();
        // Whoever asked may be gone.
        let mut say = |said| drop(tell.next().map(|tell| tell.send(said)));
        match self.load(hook).and_then(|()| self.process()) {
            Ok(process) => process.run_batch(hook, &inputs, deadline, say),
            Err(error) => inputs.iter().for_each(|_| say(Err(error.clone()))),
        }
        self.note_process();
        // Not before the first job: at the start there is enough to do.
        if let Some(process) = &mut self.process {
            process.keep_spare();
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
        match &mut self.process {
            Some(process) => {
                if !process.is_alive() {
                    process.restart()?;
                    announce(process);
                }
                Ok(process)
            }
            none => {
                let process = WorkerProcess::spawn(&self.executable, &self.config)?;
                announce(&process);
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

fn announce(process: &WorkerProcess) {
    let pid = process.pid();
    match &process.hello().adapter {
        Ok(adapter) if adapter.software => {
            tracing::warn!(
                pid,
                adapter = adapter.name,
                "no GPU: hooks run on Vulkan in software, as allowed"
            );
        }
        Ok(adapter) => tracing::info!(pid, adapter = adapter.name, "hooks run on the GPU"),
        Err(why) => tracing::warn!(pid, why, "no GPU: hooks run on their CPU twins"),
    }
}

/// The files for the same version of a hook, at most so many. What else waits stays in order, and in front of a loading of this hook
/// nothing is taken that came after it.
fn take_alike(hook: &Hook, waiting: &mut VecDeque<Ask>, at_most: usize) -> Vec<Asked> {
    let mut taken = Vec::new();
    let mut is_over = false;
    for ask in std::mem::take(waiting) {
        match ask {
            Ask::Run { hook: of, job }
                if !is_over && taken.len() < at_most && of.version() == hook.version() =>
            {
                taken.push(job);
            }
            ask @ (Ask::Load { .. } | Ask::Run { .. }) => {
                is_over |= matches!(&ask, Ask::Load { hook: of, .. } if of.name() == hook.name());
                waiting.push_back(ask);
            }
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    use inference_hooks::ready_hooks;

    use super::*;

    fn hook(name: &str) -> Arc<Hook> {
        let ready = ready_hooks().iter().find(|ready| ready.name == name);
        Arc::new(Hook::parse(ready.unwrap().source()).unwrap())
    }

    /// What waits, a word each: `t` a thumbnail, `s` sharpness, upper case a loading.
    fn waiting(text: &str) -> VecDeque<Ask> {
        let (thumbnail, sharpness) = (hook("thumbnail"), hook("sharpness"));
        let ask = |word: char| {
            let of = if word.eq_ignore_ascii_case(&'t') { &thumbnail } else { &sharpness };
            if word.is_uppercase() {
                return Ask::Load { hook: of.clone(), tell: None };
            }
            let input = tempfile::tempfile().unwrap().into();
            Ask::Run { hook: of.clone(), job: Asked { input, tell: oneshot::channel().0 } }
        };
        text.chars().map(ask).collect()
    }

    fn text(waiting: &VecDeque<Ask>) -> String {
        let word = |ask: &Ask| match ask {
            Ask::Load { hook, .. } => hook.name()[..1].to_uppercase(),
            Ask::Run { hook, .. } => hook.name()[..1].to_owned(),
        };
        waiting.iter().map(word).collect()
    }

    #[test]
    fn files_for_one_hook_are_taken_together_and_the_rest_stays_in_order() {
        for (before, at_most, taken, after) in [
            ("", 63, 0, ""),
            ("sss", 63, 0, "sss"),
            ("tstts", 63, 3, "ss"),
            ("ttttt", 3, 3, "tt"),
            ("tSst", 63, 2, "Ss"),
            ("tTst", 63, 1, "Tst"),
        ] {
            let mut waiting = waiting(before);
            let found = take_alike(&hook("thumbnail"), &mut waiting, at_most).len();
            assert_eq!((found, text(&waiting).as_str()), (taken, after), "{before}");
        }
    }
}
