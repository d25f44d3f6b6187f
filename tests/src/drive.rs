//! The real program as a process of its own, with a mount, a state directory and a control socket that are gone afterwards.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::servers::Variables;
use crate::store::Store;
use crate::until;

/// Set to a program that is to be tested instead of the one that cargo builds.
const PROGRAM: &str = "FSD_BIN";

/// Whether this machine can mount at all; says so if not.
#[must_use]
#[expect(clippy::print_stdout, reason = "a skip is told where it is counted")]
pub fn can_mount() -> bool {
    let can = Path::new("/dev/fuse").exists();
    if !can {
        println!("SKIP: there is no /dev/fuse");
    }
    can
}

/// The program, built once for a run of tests.
///
/// # Errors
/// If it can't be built.
pub fn program() -> Result<&'static Path> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| build().map_err(|error| format!("{error:#}")));
    built.as_deref().map_err(|error| anyhow!("{error}"))
}

fn build() -> Result<PathBuf> {
    if let Some(program) = std::env::var_os(PROGRAM) {
        return Ok(program.into());
    }
    // …/target/PROFILE/deps/mount-0123456789abcdef
    let folder = std::env::current_exe()?;
    let folder = folder.ancestors().nth(2).context("the test is in no target folder")?;
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    // What looks at these would be built anew each time, and all that is made of it.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_MANIFEST_") || text.starts_with("CARGO_PKG_") {
            build.env_remove(&name);
        }
    }
    let build = build
        .args(["build", "--quiet", "--workspace", "--bin", "fsd", "--profile", profile])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .context("run cargo")?;
    ensure!(build.status.success(), "cargo: {}", String::from_utf8_lossy(&build.stderr));
    Ok(folder.join("fsd"))
}

/// With this variable all drives over a store are mounted with other options: `nopassthrough`.
const MOUNT_OPTIONS: &str = "FSD_TEST_MOUNT_OPTIONS";

/// A daemon with one mount. Dropped, all of it goes.
#[derive(Debug)]
pub struct Drive {
    folder: TempDir,
    arguments: Vec<OsString>,
    options: Vec<OsString>,
    variables: Variables,
    process: Option<Child>,
}

impl Drive {
    /// A drive over `store`, not started yet.
    ///
    /// # Errors
    /// If there is no room for its directories.
    pub fn over(store: &Store) -> Result<Self> {
        let mut drive = Self::bare(store.variables())?;
        let (mount, state) = (drive.mount(), drive.state());
        drive.arguments = vec!["mount".into(), store.url().into(), mount.into_os_string()];
        drive.arguments.extend(["--cache-dir".into(), state.into_os_string()]);
        if let Some(options) = std::env::var_os(MOUNT_OPTIONS) {
            drive.arguments.extend(["-o".into(), options]);
        }
        Ok(drive)
    }

    /// A drive as the configuration `text` says, where `MOUNT` and `STATE` stand for its directories.
    ///
    /// # Errors
    /// If there is no room for its directories.
    pub fn configured(text: &str) -> Result<Self> {
        let mut drive = Self::bare(Variables::new())?;
        let text = text
            .replace("MOUNT", &drive.mount().to_string_lossy())
            .replace("STATE", &drive.state().to_string_lossy());
        let file = drive.folder.path().join("fsd.toml");
        std::fs::write(&file, text)?;
        drive.arguments = vec!["run".into(), "-c".into(), file.into_os_string()];
        Ok(drive)
    }

    fn bare(variables: Variables) -> Result<Self> {
        let folder = TempDir::with_prefix("fsd-test-")?;
        for name in ["mount", "state", "run"] {
            std::fs::create_dir(folder.path().join(name))?;
        }
        let run = folder.path().join("run");
        std::fs::set_permissions(run, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
        Ok(Self { folder, arguments: Vec::new(), options: Vec::new(), variables, process: None })
    }

    /// The same with options.
    #[must_use]
    pub fn with(mut self, options: &[&str]) -> Self {
        self.set_options(options);
        self
    }

    /// Sets the options of the next start, in place of those of the last.
    pub fn set_options(&mut self, options: &[&str]) {
        self.options = options.iter().map(OsString::from).collect();
    }

    /// The same with another environment.
    #[must_use]
    pub fn with_variables(mut self, variables: Variables) -> Self {
        self.variables = variables;
        self
    }

    /// A drive over `store` that is up.
    ///
    /// # Errors
    /// What the program says.
    pub fn mounted(store: &Store) -> Result<Self> {
        Self::over(store)?.started()
    }

    /// The same, up.
    ///
    /// # Errors
    /// What the program says.
    pub fn started(mut self) -> Result<Self> {
        self.start()?;
        Ok(self)
    }

    /// Starts the daemon, and waits until it is up.
    ///
    /// # Errors
    /// What the program says if it ends instead.
    pub fn start(&mut self) -> Result<()> {
        let before = self.log().len();
        let process = self.spawn()?;
        let process = self.process.insert(process);
        let log_path = self.folder.path().join("log");
        let mut ended = None;
        until("the daemon is up or ends", || {
            ended = process.try_wait()?;
            let said = std::fs::read_to_string(&log_path)?;
            Ok(ended.is_some() || said[before..].contains(" is mounted on "))
        })?;
        if let Some(status) = ended {
            self.process = None;
            bail!("{status}: {}", &self.log()[before..]);
        }
        Ok(())
    }

    /// Starts the daemon, and kills it `after` that, wherever it is by then.
    ///
    /// # Errors
    /// If it can't be started, or ended before.
    pub fn start_and_kill(&mut self, after: Duration) -> Result<()> {
        let process = self.spawn()?;
        self.process = Some(process);
        sleep(after);
        self.kill()
    }

    fn spawn(&self) -> Result<Child> {
        ensure!(self.process.is_none(), "it runs already");
        let log = File::options().create(true).append(true).open(self.log_path())?;
        let mut command = self.command()?;
        command.args(&self.arguments).args(&self.options).stdin(Stdio::null());
        Ok(command.stdout(Stdio::null()).stderr(log).spawn()?)
    }

    /// Where it is mounted.
    #[must_use]
    pub fn mount(&self) -> PathBuf {
        self.folder.path().join("mount")
    }

    /// A path in the mount.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.mount().join(name)
    }

    /// Its state directory.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// All it has said so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// The program, with this drive's environment.
    ///
    /// # Errors
    /// If it can't be built.
    pub fn command(&self) -> Result<Command> {
        let mut command = Command::new(program()?);
        self.equip(&mut command);
        Ok(command)
    }

    /// Gives `command` this drive's environment.
    pub fn equip(&self, command: &mut Command) {
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.env("FSD_RUNTIME_DIR", self.folder.path().join("run"));
    }

    /// Runs a command of the program.
    ///
    /// # Errors
    /// If it can't be run.
    pub fn run(&self, arguments: &[&str]) -> Result<Output> {
        Ok(self.command()?.args(arguments).stdin(Stdio::null()).output()?)
    }

    /// Runs a command of the program that prints JSON.
    ///
    /// # Errors
    /// What it says if it fails.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let output = self.run(&[arguments, &["--json"]].concat())?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "fsd {}: {said}", arguments.join(" "));
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Waits until all is uploaded.
    ///
    /// # Errors
    /// What is left if that does not come.
    pub fn wait(&self) -> Result<()> {
        self.wait_for("120s")
    }

    /// As [`Drive::wait`], where it takes long for good reason.
    ///
    /// # Errors
    /// What is left after `timeout`.
    pub fn wait_for(&self, timeout: &str) -> Result<()> {
        let waited = self.json(&["wait", "--timeout", timeout]);
        waited.map(drop).with_context(|| match self.json(&["queue"]) {
            Ok(queue) => format!("{queue:#}\n{}", self.log()),
            Err(error) => format!("{error:#}\n{}", self.log()),
        })
    }

    /// Kills the daemon as a power switch would, and leaves its mount as it is.
    ///
    /// # Errors
    /// If none runs.
    pub fn kill(&mut self) -> Result<()> {
        let mut process = self.process.take().context("none runs")?;
        process.kill()?;
        let status = process.wait()?;
        ensure!(status.signal() == Some(libc::SIGKILL), "it had ended: {status}: {}", self.log());
        Ok(())
    }

    /// Asks the daemon to end, and waits until it has.
    ///
    /// # Errors
    /// If none runs.
    pub fn terminate(&mut self) -> Result<ExitStatus> {
        let process = self.process.as_ref().context("none runs")?;
        kill(Pid::from_raw(i32::try_from(process.id())?), Signal::SIGTERM)?;
        self.ended()
    }

    /// Waits until the daemon has ended by itself.
    ///
    /// # Errors
    /// If it does not end.
    pub fn ended(&mut self) -> Result<ExitStatus> {
        let mut process = self.process.take().context("none runs")?;
        let mut status = None;
        let ended = until("the daemon ends", || {
            status = process.try_wait()?;
            Ok(status.is_some())
        });
        if ended.is_err() {
            process.kill()?;
            process.wait()?;
        }
        ended.with_context(|| self.log())?;
        status.context("it has no status")
    }

    /// Kills the daemon and starts it anew.
    ///
    /// # Errors
    /// What the program says if it ends instead.
    pub fn crash(&mut self) -> Result<()> {
        self.kill()?;
        self.start()
    }

    /// Ends the daemon and starts it anew.
    ///
    /// # Errors
    /// What the program says if it does not end well, or does not start.
    pub fn restart(&mut self) -> Result<()> {
        let status = self.terminate()?;
        ensure!(status.success(), "{status}: {}", self.log());
        self.start()
    }

    /// Whether something is mounted where it mounts.
    ///
    /// # Errors
    /// If a dead mount is there.
    pub fn is_mounted(&self) -> Result<bool> {
        Ok(self.mount().metadata()?.dev() != self.folder.path().metadata()?.dev())
    }
}

impl Drop for Drive {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // Nothing that happens here tells anything about the test.
            let _ = process.kill();
            let _ = process.wait();
        }
        // Other shares are mounted beside the first.
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let ours = self.folder.path().to_string_lossy().into_owned();
        for place in mounts.lines().filter_map(|line| line.split(' ').nth(1)) {
            if place.starts_with(&ours) {
                let _ = umount2(Path::new(place), MntFlags::MNT_DETACH);
            }
        }
        // Shown of a test that fails.
        eprintln!("{}", self.log());
    }
}
