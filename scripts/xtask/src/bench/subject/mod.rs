//! What is measured: a plain directory, or a drive over a directory or a store.

mod command;
mod daemon;
mod database;
mod kind;
mod mount;
mod programs;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, bail};

use self::command::Places;
use self::database::Database;
use self::mount::Mount;
use super::store::{Counts, Store};
use super::watch::Watch;

pub(super) use self::command::shown as command_shown;
#[cfg(test)]
pub(super) use self::kind::CacheMode;
pub(super) use self::kind::Kind;
pub(super) use self::programs::{Programs, machine, raise_limits, said};

/// How long the store may take to have everything, and how often we look.
const STORED_MAX: Duration = Duration::from_secs(300);
const STORED_POLL: Duration = Duration::from_millis(10);
/// How often we look whether a daemon is at work.
const IDLE_POLL: Duration = Duration::from_millis(50);
/// CPU seconds between two looks that are no work yet.
const IDLE_CPU_SECONDS: f64 = 0.015;

/// What a daemon may still have to do after a step.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rest {
    /// To end what it does.
    Little,
    /// To upload, which it may begin a second after a close.
    Uploads,
}

impl Rest {
    /// One that has asked for nothing and done nothing for so many looks is idle.
    fn idle_looks(self) -> u32 {
        match self {
            Self::Little => 4,
            Self::Uploads => 26,
        }
    }
}

/// One that is ready to work.
#[derive(Debug)]
pub(super) struct Subject {
    kind: Kind,
    folder: PathBuf,
    places: Places,
    // Dropped in this order: a daemon ends before what it needs.
    mount: Option<Mount>,
    store: Option<Store>,
    _database: Option<Database>,
    caches: u32,
    peak_mib: f64,
}

impl Subject {
    /// Starts it in a new folder below `folder`, over an empty store that `fill` may put something into.
    pub(super) fn start(
        kind: Kind,
        programs: &Programs,
        folder: &Path,
        fill: impl FnOnce(&Store) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let folder = folder.join(kind.to_string().replace(' ', "-"));
        let place = |name: &str| folder.join(name);
        let (mount, below, cache) = (place("mount"), place("below"), place("cache-0"));
        for dir in [&folder, &mount, &below] {
            fs::create_dir(dir).with_context(|| format!("make {}", dir.display()))?;
        }
        let store = kind.has_store().then(Store::start).transpose()?;
        let database = (kind == Kind::JuiceFs).then(|| Database::start(&folder)).transpose()?;
        let address = store.as_ref().map_or("", Store::address).to_owned();
        let names = database.as_ref().map_or("", |database| &database.address).to_owned();
        let places = Places { mount, cache, below, store: address, database: names };
        if let Some(store) = &store {
            fill(store)?;
        }
        if kind == Kind::JuiceFs {
            said(&mut command::formatting(programs, &places))?;
        }
        let mut subject = Self {
            kind,
            folder,
            places,
            mount: None,
            store,
            _database: database,
            caches: 0,
            peak_mib: 0.0,
        };
        subject.serve(programs)?;
        Ok(subject)
    }

    /// Ends its drive and starts it anew over the same store, with nothing in its cache.
    pub(super) fn restart_fresh(&mut self, programs: &Programs) -> anyhow::Result<()> {
        self.end_drive()?;
        if self.kind.has_store() {
            free_space(&self.places.cache)?;
            self.caches += 1;
            self.places.cache = self.folder.join(format!("cache-{}", self.caches));
        }
        self.serve(programs)
    }

    /// Ends it, and frees what its large files take.
    pub(super) fn stop(mut self) -> anyhow::Result<()> {
        self.end_drive()?;
        free_space(&self.folder)
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// Where a client works.
    pub(super) fn dir(&self) -> &Path {
        &self.places.mount
    }

    /// A directory with the same content that is no drive, if there is one.
    pub(super) fn below(&self) -> Option<&Path> {
        match self.kind {
            Kind::Disk => Some(&self.places.mount),
            Kind::Floor => Some(&self.places.below),
            Kind::Fsd | Kind::Rclone(_) | Kind::JuiceFs | Kind::S3fs | Kind::Store => None,
        }
    }

    pub(super) fn store(&self) -> Option<&Store> {
        self.store.as_ref()
    }

    /// What its store has counted; nothing without one.
    pub(super) fn counts(&self) -> anyhow::Result<Counts> {
        self.store.as_ref().map_or(Ok(Counts::default()), Store::counts)
    }

    /// CPU seconds of its daemon so far.
    pub(super) fn cpu_seconds(&self) -> anyhow::Result<Option<f64>> {
        self.mount.as_ref().map(|mount| daemon::cpu_seconds(mount.pid())).transpose()
    }

    /// Memory that its daemon has now, in MiB.
    pub(super) fn memory_mib(&self) -> anyhow::Result<Option<f64>> {
        self.mount.as_ref().map(|mount| daemon::memory_mib(mount.pid(), "VmRSS")).transpose()
    }

    /// The most that any of its daemons has had, in MiB.
    pub(super) fn peak_mib(&self) -> anyhow::Result<Option<f64>> {
        let Some(mount) = &self.mount else { return Ok(None) };
        Ok(Some(self.peak_mib.max(daemon::memory_mib(mount.pid(), "VmHWM")?)))
    }

    /// The time since the start of `watch` at which the store has `bytes` more than `before`, for one with a store.
    pub(super) fn until_stored(
        &self,
        watch: &Watch,
        before: Counts,
        bytes: u64,
    ) -> anyhow::Result<Option<Duration>> {
        let Some(store) = &self.store else { return Ok(None) };
        while watch.elapsed() < STORED_MAX {
            if store.counts()?.bytes >= before.bytes + bytes {
                return Ok(Some(watch.elapsed()));
            }
            sleep(STORED_POLL);
        }
        bail!("the store does not have all bytes after {STORED_MAX:?}")
    }

    /// Waits until its daemon does nothing more, so that it does not disturb the next.
    pub(super) fn settle(&self, rest: Rest) -> anyhow::Result<()> {
        if !self.kind.has_store() {
            return Ok(());
        }
        let (mut looks, mut last) = (0, (0, 0.0));
        let watch = Watch::start();
        while looks < rest.idle_looks() {
            if watch.elapsed() > STORED_MAX {
                bail!("the daemon is still at work after {STORED_MAX:?}");
            }
            sleep(IDLE_POLL);
            let now = (self.counts()?.requests, self.cpu_seconds()?.unwrap_or(0.0));
            let is_idle = now.0 == last.0 && now.1 - last.1 < IDLE_CPU_SECONDS;
            looks = if is_idle { looks + 1 } else { 0 };
            last = now;
        }
        Ok(())
    }

    fn end_drive(&mut self) -> anyhow::Result<()> {
        self.peak_mib = self.peak_mib()?.unwrap_or(self.peak_mib);
        match (self.mount.take().map(Mount::stop), self.kind) {
            (Some(Err(error)), Kind::Fsd) => Err(error),
            // It never says that it ended well.
            (Some(Err(_)), Kind::Floor) => Ok(()),
            (Some(Err(error)), kind) => {
                eprintln!("{kind}: {error:#}");
                Ok(())
            }
            (Some(Ok(())) | None, _) => Ok(()),
        }
    }

    fn serve(&mut self, programs: &Programs) -> anyhow::Result<()> {
        let Some(mut command) = command::serving(self.kind, programs, &self.places) else {
            return Ok(());
        };
        let sockets = self.folder.join("sockets");
        fs::create_dir_all(&sockets)?;
        fs::create_dir_all(&self.places.cache)?;
        fs::set_permissions(&sockets, fs::Permissions::from_mode(0o700))?;
        command.env("FSD_RUNTIME_DIR", sockets);
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
