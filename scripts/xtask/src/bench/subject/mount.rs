//! A drive that a program serves, from its start to its end.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long a program may take to mount, or to end.
const PATIENCE: Duration = Duration::from_secs(30);
/// How some programs say that they ended because they were asked to.
const TERMINATED: i32 = 128 + Signal::SIGTERM as i32;
const POLL: Duration = Duration::from_millis(10);

/// A mounted drive. Dropped, it is unmounted and its program has ended.
#[derive(Debug)]
pub(in crate::bench) struct Mount {
    dir: PathBuf,
    process: Child,
}

impl Mount {
    /// Runs `command`, and waits until something is mounted on `dir`.
    pub(super) fn start(command: &mut Command, dir: &Path, log: &Path) -> anyhow::Result<Self> {
        let says = File::options().create(true).append(true).open(log).context("open a log")?;
        let process = command
            .stdin(Stdio::null())
            .stdout(says.try_clone()?)
            .stderr(says)
            .spawn()
            .with_context(|| format!("run {:?}", command.get_program()))?;
        let mut mount = Self { dir: dir.to_owned(), process };
        let above = fs::metadata(dir.parent().context("the root of all")?)?.dev();
        let mut ended = false;
        let settled = until(|| {
            ended = matches!(mount.process.try_wait(), Ok(Some(_)) | Err(_));
            ended || is_mounted(dir, above)
        });
        if !settled || ended {
            let says = fs::read_to_string(log).unwrap_or_default();
            bail!("{:?} did not mount; it says:\n{says}", command.get_program());
        }
        Ok(mount)
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Unmounts, and waits for the program's end.
    ///
    /// # Errors
    /// If the program does not end by itself, or not well.
    pub(super) fn stop(mut self) -> anyhow::Result<()> {
        self.ask_to_end();
        let mut status = None;
        until(|| {
            status = self.process.try_wait().ok().flatten();
            status.is_some()
        });
        match status {
            Some(status) if status.success() || status.code() == Some(TERMINATED) => Ok(()),
            Some(status) => bail!("the program on {} ended with {status}", self.dir.display()),
            None => bail!("the program on {} does not end", self.dir.display()),
        }
    }

    fn ask_to_end(&self) {
        if let Ok(pid) = i32::try_from(self.process.id()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM); // fails if it has ended
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let ended = |process: &mut Child| !matches!(process.try_wait(), Ok(None));
        if !ended(&mut self.process) {
            self.ask_to_end();
            until(|| ended(&mut self.process));
        }
        let _ = self.process.kill(); // fails if it has ended
        let _ = self.process.wait();
        // Nothing is mounted any more if it ended well.
        let _ = Command::new("fusermount3").args(["-u", "-z", "-q"]).arg(&self.dir).status();
    }
}

fn is_mounted(dir: &Path, device_above: u64) -> bool {
    fs::metadata(dir).is_ok_and(|meta| meta.dev() != device_above)
}

/// Whether `done` came true in time.
pub(super) fn until(mut done: impl FnMut() -> bool) -> bool {
    let polls = PATIENCE.as_millis() / POLL.as_millis();
    for _ in 0..polls {
        if done() {
            return true;
        }
        sleep(POLL);
    }
    false
}
