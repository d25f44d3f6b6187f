//! What is measured: a plain directory, or a drive over a store that is a directory.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use super::mount::Mount;
use super::rclone::CacheMode;

/// The programs that serve drives.
#[derive(Debug)]
pub(super) struct Programs {
    pub(super) fsd: PathBuf,
    pub(super) rclone: Option<PathBuf>,
}

/// Who does the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// A plain directory on the disk that holds the caches: the limit.
    Disk,
    /// Ours.
    Fsd,
    /// The peer.
    Rclone(CacheMode),
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk => f.write_str("disk"),
            Self::Fsd => f.write_str("ours"),
            Self::Rclone(mode) => write!(f, "rclone {mode}"),
        }
    }
}

impl Kind {
    /// How its drive is served, with names for the directories.
    pub(super) fn command_line(self, programs: &Programs) -> Option<String> {
        let places = Places { store: "STORE".into(), mount: "DIR".into(), cache: "CACHE".into() };
        let (program, arguments) = self.command(programs, &places)?;
        let name = program.file_name()?.to_string_lossy();
        let words = arguments.iter().map(|word| word.to_string_lossy());
        Some([name].into_iter().chain(words).collect::<Vec<_>>().join(" "))
    }

    fn command(self, programs: &Programs, places: &Places) -> Option<(PathBuf, Vec<OsString>)> {
        let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        match self {
            Self::Disk => None,
            Self::Fsd => {
                let mut url = OsString::from("file://");
                url.push(&places.store);
                let mut arguments = words(&["mount"]);
                arguments.extend([url, places.mount.clone().into()]);
                arguments.extend(["--cache-dir".into(), places.cache.clone().into()]);
                Some((programs.fsd.clone(), arguments))
            }
            Self::Rclone(mode) => {
                let mut arguments = words(&["mount"]);
                arguments.extend([places.store.clone().into(), places.mount.clone().into()]);
                arguments.extend(["--cache-dir".into(), places.cache.clone().into()]);
                arguments.extend(mode.options().into_iter().map(OsString::from));
                Some((programs.rclone.clone()?, arguments))
            }
        }
    }
}

#[derive(Debug)]
struct Places {
    store: PathBuf,
    mount: PathBuf,
    cache: PathBuf,
}

/// One that is ready to work.
#[derive(Debug)]
pub(super) struct Subject {
    kind: Kind,
    folder: PathBuf,
    places: Places,
    mount: Option<Mount>,
}

impl Subject {
    /// Starts it in a new folder below `folder`, over an empty store.
    pub(super) fn start(kind: Kind, programs: &Programs, folder: &Path) -> anyhow::Result<Self> {
        let folder = folder.join(kind.to_string().replace(' ', "-"));
        let place = |name: &str| folder.join(name);
        let places = Places { store: place("store"), mount: place("mount"), cache: place("cache") };
        for dir in [&folder, &places.store, &places.mount] {
            fs::create_dir(dir).with_context(|| format!("make {}", dir.display()))?;
        }
        let mut subject = Self { kind, folder, places, mount: None };
        subject.serve(programs)?;
        Ok(subject)
    }

    /// Ends its drive and starts it anew over the same store, with nothing in its cache.
    pub(super) fn restart_fresh(&mut self, programs: &Programs) -> anyhow::Result<()> {
        let Some(mount) = self.mount.take() else { return Ok(()) };
        mount.stop()?;
        free_space(&self.places.cache)?;
        self.places.cache = self.folder.join("fresh-cache");
        self.serve(programs)
    }

    /// Ends it, and frees what its large files take.
    pub(super) fn stop(self) -> anyhow::Result<()> {
        if let Some(mount) = self.mount {
            mount.stop()?;
        }
        free_space(&self.folder)
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// Where a client works.
    pub(super) fn dir(&self) -> &Path {
        &self.places.mount
    }

    /// Where objects appear, if it has a store.
    pub(super) fn store(&self) -> Option<&Path> {
        self.mount.is_some().then_some(&self.places.store)
    }

    fn serve(&mut self, programs: &Programs) -> anyhow::Result<()> {
        let Some((program, arguments)) = self.kind.command(programs, &self.places) else {
            return Ok(());
        };
        let sockets = self.folder.join("sockets");
        fs::create_dir_all(&sockets)?;
        fs::set_permissions(&sockets, fs::Permissions::from_mode(0o700))?;
        let mut command = Command::new(program);
        // No settings of this machine: neither ours nor rclone's.
        command.args(arguments).env("FSD_RUNTIME_DIR", sockets).env("RCLONE_CONFIG", "");
        let mount = Mount::start(&mut command, &self.places.mount, &self.folder.join("log"))?;
        self.mount = Some(mount);
        Ok(())
    }
}

/// Empties the large files in `dir`. Nothing is removed before the last figure is taken: ext4 searches long for an inode
/// while it has many that were freed a moment ago, which would slow down whoever creates files next.
fn free_space(dir: &Path) -> anyhow::Result<()> {
    const LARGE_BYTES: u64 = 1 << 20;
    for entry in fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))? {
        let entry = entry?;
        let (path, meta) = (entry.path(), entry.metadata()?);
        if meta.is_dir() {
            free_space(&path)?;
        } else if meta.is_file() && meta.len() > LARGE_BYTES {
            fs::File::options().write(true).open(&path)?.set_len(0).context("empty a file")?;
        }
    }
    Ok(())
}
