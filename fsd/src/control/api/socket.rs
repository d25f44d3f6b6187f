//! Where daemons listen: one socket each in a directory that only their user can open.

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::unistd::Uid;
use tokio::net::UnixListener;

/// The directory of a user's sockets. Nobody else can open it, so nobody else can pose as a daemon.
#[derive(Clone, Debug)]
pub struct RuntimeDir(PathBuf);

/// Why there is no directory for sockets.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeDirError {
    /// It can't be made.
    #[error("can't make {} for the socket", path.display())]
    Make {
        /// Where it should be.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Others could put a socket there.
    #[error("{} is not a directory that only its owner, user {uid}, can open", path.display())]
    NotOurs {
        /// Where it should be.
        path: PathBuf,
        /// Who should own it.
        uid: u32,
    },
}

impl RuntimeDir {
    /// The directory of user `uid`: `chosen` if there is one, `/run/fsd` for root, else `fsd` in `xdg_runtime_dir`
    /// or, without that, `/tmp/fsd-UID`. Makes it if it is not there.
    ///
    /// # Errors
    /// [`RuntimeDirError`] if it can't be made, or others can write to it.
    pub fn open(
        uid: u32,
        chosen: Option<&Path>,
        xdg_runtime_dir: Option<&Path>,
    ) -> Result<Self, RuntimeDirError> {
        let path = match (chosen, xdg_runtime_dir) {
            (Some(chosen), _) => chosen.to_owned(),
            (None, _) if uid == 0 => "/run/fsd".into(),
            (None, Some(xdg)) => xdg.join("fsd"),
            (None, None) => format!("/tmp/fsd-{uid}").into(),
        };
        let failed = |source| RuntimeDirError::Make { path: path.clone(), source };
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(error)),
        }
        let found = path.symlink_metadata().map_err(failed)?;
        if !found.is_dir() || found.uid() != uid || found.mode() & 0o077 != 0 {
            return Err(RuntimeDirError::NotOurs { path, uid });
        }
        Ok(Self(path))
    }

    /// The sockets of daemons that run, without those that a daemon left behind: these are removed.
    ///
    /// # Errors
    /// If the directory can't be read.
    pub fn sockets(&self) -> io::Result<Vec<PathBuf>> {
        let mut sockets = Vec::new();
        for entry in self.0.read_dir()? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "sock") {
                continue;
            }
            match UnixStream::connect(&path) {
                Ok(_) => sockets.push(path),
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    let _ = std::fs::remove_file(&path); // another command may have been faster
                }
                Err(_) => {} // gone since it was listed, or a daemon whose backlog is full
            }
        }
        sockets.sort();
        Ok(sockets)
    }

    /// Listens on the socket of process `pid`.
    ///
    /// # Errors
    /// If the socket can't be made.
    pub fn listen(&self, pid: u32) -> io::Result<Socket> {
        let path = self.0.join(format!("{pid}.sock"));
        // Under another name until it listens: a socket that refuses is taken for one left behind.
        let unborn = self.0.join(format!("{pid}.new"));
        match std::fs::remove_file(&unborn) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(&unborn)?;
        std::fs::set_permissions(&unborn, Permissions::from_mode(0o600))?;
        std::fs::rename(&unborn, &path)?;
        Ok(Socket { listener, file: SocketFile(path) })
    }
}

/// The user who runs this process.
#[must_use]
pub fn current_uid() -> u32 {
    Uid::effective().as_raw()
}

/// A socket that is listened on; its file goes away with it.
#[derive(Debug)]
pub struct Socket {
    pub(super) listener: UnixListener,
    pub(super) file: SocketFile,
}

impl Socket {
    /// Its file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.file.0
    }
}

/// The file of a socket, removed when dropped.
#[derive(Debug)]
pub(super) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0); // one left behind is removed by whoever finds it
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir() -> (tempfile::TempDir, RuntimeDir) {
        let temp = tempfile::tempdir().unwrap();
        let dir = RuntimeDir::open(current_uid(), Some(&temp.path().join("fsd")), None).unwrap();
        (temp, dir)
    }

    #[tokio::test]
    async fn sockets_left_behind_are_removed() {
        let (_temp, dir) = dir();
        let socket = dir.listen(7).unwrap();
        let mode = socket.path().symlink_metadata().unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
        let dead = dir.0.join("8.sock");
        drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
        assert_eq!(dir.sockets().unwrap(), [socket.path()]);
        assert!(!dead.exists());
        drop(socket);
        assert_eq!(dir.sockets().unwrap(), [] as [PathBuf; 0]);
    }

    #[test]
    fn a_directory_that_others_can_open_is_refused() {
        let (_temp, dir) = dir();
        std::fs::set_permissions(&dir.0, Permissions::from_mode(0o755)).unwrap();
        let refused = RuntimeDir::open(current_uid(), Some(&dir.0), None);
        assert!(matches!(refused, Err(RuntimeDirError::NotOurs { .. })));
        let link = dir.0.with_extension("link");
        std::os::unix::fs::symlink(&dir.0, &link).unwrap();
        let refused = RuntimeDir::open(current_uid(), Some(&link), None);
        assert!(matches!(refused, Err(RuntimeDirError::NotOurs { .. })));
    }

    #[test]
    fn each_user_has_a_directory_of_their_own() {
        let temp = tempfile::tempdir().unwrap();
        let made = RuntimeDir::open(12_345, None, Some(temp.path()));
        // Made in the right place, but by another user than the one asked for.
        let expected = temp.path().join("fsd");
        assert!(
            matches!(made, Err(RuntimeDirError::NotOurs { path, uid: 12_345 }) if path == expected)
        );
    }
}
