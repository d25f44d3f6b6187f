//! What tests of worker processes share.

use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use inference_hooks::{Hook, JobError, JobOutput, WorkerConfig, WorkerProcess};

pub(crate) const EXECUTABLE: &str = env!("CARGO_BIN_EXE_hook-worker");
pub(crate) const LONG: Duration = Duration::from_secs(60);

pub(crate) fn start(config: &WorkerConfig) -> WorkerProcess {
    WorkerProcess::spawn(Path::new(EXECUTABLE), config).unwrap()
}

/// A worker on a GPU, if only a software one, or a line that says that the test did not run.
pub(crate) fn gpu_worker() -> Option<WorkerProcess> {
    let worker = start(&WorkerConfig { allow_software_adapter: true, ..Default::default() });
    match &worker.hello().adapter {
        Ok(_) => Some(worker),
        Err(why) => {
            println!("SKIP: no GPU test: {why}");
            None
        }
    }
}

pub(crate) fn file(content: &[u8]) -> OwnedFd {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    file.into()
}

pub(crate) fn run(
    worker: &mut WorkerProcess,
    hook: &Hook,
    content: &[u8],
) -> Result<JobOutput, JobError> {
    worker.run(hook, file(content), LONG)
}
