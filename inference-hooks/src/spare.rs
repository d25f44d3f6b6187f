//! A worker that stands by with the hooks loaded: when the one at work is gone, the next job need not wait until a driver has started and
//! shaders are compiled.

use std::path::PathBuf;
use std::thread::{self, JoinHandle};

use crate::client::{Loading, WorkerConfig, WorkerProcess};

/// One that is started, or has been.
#[derive(Debug)]
pub(crate) struct Spare(JoinHandle<Option<WorkerProcess>>);

impl Spare {
    /// Starts one, on a thread of its own; none if there can be no thread.
    pub(crate) fn start(
        executable: PathBuf,
        config: WorkerConfig,
        hooks: Vec<Loading>,
    ) -> Option<Self> {
        let start = move || {
            let mut worker = WorkerProcess::spawn(&executable, &config).ok()?;
            for hook in hooks {
                // What can't be loaded says so to the job that needs it.
                let _ = worker.load_it(hook);
            }
            Some(worker)
        };
        thread::Builder::new().name("hooks.spare".into()).spawn(start).ok().map(Self)
    }

    /// The worker, once it has started; none if it has not come to that or did not live until now.
    pub(crate) fn take(self) -> Option<WorkerProcess> {
        self.0.join().ok().flatten().and_then(WorkerProcess::if_it_lives)
    }
}
