//! Mounting, the session's life, and telling the kernel what changed behind its back.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fuser::{BackgroundSession, Config, MountOption, Notifier, SessionACL};
use tokio::sync::watch;

use super::data::DataPaths;
use super::map::NodeIds;
use super::ops::Drive;
use super::polling::Polling;
use crate::events::Invalidation;
use crate::types::ShareId;
use crate::vfs::Vfs;

/// How many KiB the kernel reads ahead; its default of 128 costs a request for each 128 KiB.
const READ_AHEAD_KIB: u32 = 4096;
/// A local share changes only through us, and we tell the kernel.
const LOCAL_TTL: Duration = Duration::from_secs(24 * 3600);

/// With it `mount -t fuse.fsd`, `mount -o remount` and all that looks at the mount table know whose mount it is. fuser leaves it to
/// fusermount, which mounts only for those who may not themselves.
fn subtype() -> MountOption {
    match nix::unistd::geteuid().is_root() {
        true => MountOption::CUSTOM("subtype=fsd".into()),
        false => MountOption::Subtype("fsd".into()),
    }
}

/// How to mount.
#[derive(Clone, Debug)]
pub struct MountOptions {
    /// What `mount` shows as the source.
    pub source: String,
    /// Other users than the one who mounts may use it.
    pub allow_other: bool,
    /// Nothing on it can be run as a program.
    pub no_exec: bool,
    /// Whether the kernel may read and write by itself what is wholly here.
    pub passthrough: bool,
    /// Whether access control lists are kept and decide.
    pub acl: bool,
    /// Nothing may be changed.
    pub read_only: bool,
}

/// Why it could not be mounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The place to mount on is not a directory.
    #[error("can't mount on {path}: it is not a directory; make it with `mkdir -p {path}`")]
    NoDir {
        /// The place.
        path: PathBuf,
    },
    /// Something is mounted there already.
    #[error(
        "can't mount on {path}: something is mounted there; `umount {path}` first, or choose another directory"
    )]
    InUse {
        /// The place.
        path: PathBuf,
    },
    /// A mount whose daemon died is still there, and busy.
    #[error("can't mount on {path}: a dead mount is there; `umount -l {path}` first")]
    Dead {
        /// The place.
        path: PathBuf,
    },
    /// The kernel or fusermount refused.
    #[error("can't mount on {path}; is the package fuse3 installed, and may you use /dev/fuse?")]
    Refused {
        /// The place.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
}

/// A mounted share. Dropping it unmounts.
#[derive(Debug)]
pub struct Mount {
    path: PathBuf,
    session: BackgroundSession,
    paths: Arc<DataPaths>,
}

/// Mounts a share.
///
/// # Errors
/// See [`MountError`].
pub fn mount(
    vfs: &Arc<Vfs>,
    share: ShareId,
    path: &Path,
    options: &MountOptions,
) -> Result<Mount, MountError> {
    let path = check_place(path)?;
    let refused = |source| MountError::Refused { path: path.clone(), source };
    let share = vfs.share(share).map_err(|e| refused(io::Error::other(e)))?;
    let ttl = if share.local { LOCAL_TTL } else { share.listing_age_max };
    let nodes = NodeIds::new(share.root);
    let mut mount_options = vec![
        MountOption::FSName(options.source.clone()),
        subtype(),
        MountOption::DefaultPermissions,
        MountOption::NoAtime,
        MountOption::NoDev,
        MountOption::NoSuid,
    ];
    if options.read_only {
        mount_options.push(MountOption::RO);
    }
    if options.no_exec {
        mount_options.push(MountOption::NoExec);
    }
    let mut config = Config::default();
    config.mount_options = mount_options;
    config.acl = if options.allow_other { SessionACL::All } else { SessionACL::Owner };
    let invalidations = vfs.events().invalidations(share.id);
    let (polling, begun) = Polling::new(vfs.clock().clone());
    let paths = Arc::new(DataPaths::default());
    if !options.passthrough {
        paths.refuse("it is switched off".to_owned());
    }
    let drive =
        Drive::new(vfs.clone(), nodes.clone(), ttl, polling.clone(), paths.clone(), options.acl);
    let session = fuser::Session::new(drive, &path, &config)
        .and_then(|session| {
            polling.start(&session, begun)?;
            session.spawn()
        })
        .map_err(refused)?;
    raise_read_ahead(&path);
    let notifier = session.notifier();
    // The kernel may hold a lock that a request of ours waits for: a thread of its own can wait for it.
    std::thread::Builder::new()
        .name("fuse.notify".into())
        .spawn(move || {
            for invalidation in invalidations {
                tell(&notifier, &nodes, &invalidation);
            }
        })
        .map_err(refused)?;
    Ok(Mount { path, session, paths })
}

impl Mount {
    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Why all file content goes through the daemon; none as long as the kernel reads and writes by itself what is wholly here.
    #[must_use]
    pub fn daemon_path(&self) -> watch::Receiver<Option<String>> {
        self.paths.refused()
    }

    /// Whether the session is over: somebody unmounted it.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.session.guard.is_finished()
    }

    /// Unmounts, and waits for requests under way. A mount in use is detached: its users keep what they have open until the process ends.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn unmount(self) -> io::Result<()> {
        if self.session.guard.is_finished() {
            // Somebody unmounted it. Dropped, the session would unmount by path, and there may be another mount by now.
            std::mem::forget(self.session);
            return Ok(());
        }
        match self.session.umount_and_join() {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && detach(&self.path) => Ok(()),
            unmounted => unmounted,
        }
    }
}

fn check_place(path: &Path) -> Result<PathBuf, MountError> {
    // What a killed daemon left behind; nobody can use it any more. Of all that can be asked about it, only this the kernel
    // never answers from memory.
    while nix::sys::statvfs::statvfs(path) == Err(nix::errno::Errno::ENOTCONN) {
        if !detach(path) {
            return Err(MountError::Dead { path: path.to_owned() });
        }
        tracing::warn!(path = %path.display(), "unmounted what a killed daemon had left there");
    }
    let path = path.canonicalize().map_err(|_| MountError::NoDir { path: path.to_owned() })?;
    let meta = std::fs::metadata(&path)
        .map_err(|source| MountError::Refused { path: path.clone(), source })?;
    if !meta.is_dir() {
        return Err(MountError::NoDir { path });
    }
    let above = path.parent().and_then(|above| std::fs::metadata(above).ok());
    if above.is_some_and(|above| above.dev() != meta.dev()) && is_fuse_mount(&path) {
        return Err(MountError::InUse { path });
    }
    Ok(path)
}

fn is_fuse_mount(path: &Path) -> bool {
    let Ok(mounts) = std::fs::read_to_string("/proc/self/mounts") else { return false };
    let path = path.to_string_lossy().replace(' ', "\\040");
    mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            Some((words.nth(1)?, words.next()?))
        })
        .any(|(at, kind)| at == path && kind.starts_with("fuse"))
}

/// Unmounts what may be in use: its users keep what they have open.
fn detach(path: &Path) -> bool {
    if nix::mount::umount2(path, nix::mount::MntFlags::MNT_DETACH).is_ok() {
        return true;
    }
    let status = std::process::Command::new("fusermount3").arg("-uz").arg(path).status();
    status.is_ok_and(|status| status.success())
}

/// Without the right to do it, reads are smaller and all else is the same.
fn raise_read_ahead(path: &Path) {
    let Ok(meta) = std::fs::metadata(path) else { return };
    let (major, minor) = (nix::sys::stat::major(meta.dev()), nix::sys::stat::minor(meta.dev()));
    let knob = format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb");
    if let Err(error) = std::fs::write(&knob, READ_AHEAD_KIB.to_string()) {
        tracing::debug!(%error, knob, "the kernel's read-ahead stays as it is");
    }
}

fn tell(notifier: &Notifier, nodes: &NodeIds, invalidation: &Invalidation) {
    let told = match invalidation {
        // The directory's names as well: of one that it never looked up the kernel takes no notice else.
        Invalidation::Name { parent, name, .. } => notifier
            .inval_inode(nodes.node(*parent), 0, 0)
            .or_else(absent_is_fine)
            .and_then(|()| notifier.inval_entry(nodes.node(*parent), OsStr::from_bytes(name))),
        Invalidation::Inode { ino, .. } => notifier.inval_inode(nodes.node(*ino), 0, 0),
        Invalidation::Attributes { ino, .. } => notifier.inval_inode(nodes.node(*ino), -1, 0),
    };
    if let Err(error) = told.or_else(absent_is_fine) {
        tracing::debug!(%error, "the kernel did not take an invalidation");
    }
}

/// What the kernel does not have in its cache it need not forget.
fn absent_is_fine(error: io::Error) -> io::Result<()> {
    if error.raw_os_error() == Some(libc::ENOENT) { Ok(()) } else { Err(error) }
}
