//! What a file is to the cache and to the cloud, for people.

use super::{Result, Vfs};
use crate::meta::Inode;
use crate::types::{FileKind, Ino, aside};

/// The attribute that tells it; nobody can set it.
pub(super) const ATTRIBUTE: &[u8] = b"user.fsd.state";

/// Where a file's newest version is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileState {
    /// Here only, and it stays here.
    Local,
    /// Here only, and it goes up.
    Dirty,
    /// Here only, and it is being sent.
    Uploading,
    /// Here and in the cloud.
    Synced,
    /// In the cloud, and some of it here.
    Partial,
    /// In the cloud only.
    CloudOnly,
}

impl FileState {
    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Dirty => "dirty",
            Self::Uploading => "uploading",
            Self::Synced => "synced",
            Self::Partial => "partial",
            Self::CloudOnly => "cloud-only",
        }
    }
}

/// How a file is, in all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Where its newest version is.
    pub state: FileState,
    /// The pattern by which it is pinned.
    pub pinned_by: Option<String>,
    /// It was put aside, since both sides had changed.
    pub conflict: bool,
    /// Bytes of it that are here.
    pub bytes_here: u64,
}

impl Standing {
    fn words(&self) -> String {
        let pinned = self.pinned_by.as_ref().map(|_| "pinned");
        let conflict = self.conflict.then_some("conflict");
        let words = [Some(self.state.word()), pinned, conflict];
        words.into_iter().flatten().collect::<Vec<_>>().join(",")
    }
}

/// A file as the gateway knows it.
#[derive(Clone, Debug)]
pub struct Explained {
    /// Its record, with its attributes as they are now.
    pub inode: Inode,
    /// Where it stands.
    pub standing: Standing,
    /// How often it is open, and of that for writing.
    pub open: (u32, u32),
    /// Whether all of it is here, so that the kernel may read and write it by itself.
    pub whole: bool,
}

impl Vfs {
    /// How `ino` stands.
    ///
    /// # Errors
    /// [`VfsError::NoEntry`](super::VfsError::NoEntry) if it is gone.
    pub fn standing(&self, ino: Ino) -> Result<Standing> {
        let inode = self.inode(ino)?;
        let share = self.share(inode.share)?;
        let is_file = inode.attr.kind == FileKind::File;
        let (differs, pinned_by, name) = self.meta.read(|tx| -> Result<_> {
            let differs = tx.item(ino)?.is_some() || tx.is_writing(ino)?;
            Ok((differs, self.cache.pinned_by(tx, &inode)?, tx.a_name(ino)?))
        })?;
        let bytes_here = if is_file { self.cache.bytes_here(&inode)? } else { inode.attr.size };
        let state = match inode.object {
            _ if share.local => FileState::Local,
            _ if self.events.is_uploading(ino) => FileState::Uploading,
            _ if differs || is_file && !inode.is_uploaded() => FileState::Dirty,
            _ if !is_file || self.cache.is_whole(&inode) => FileState::Synced,
            _ if bytes_here > 0 => FileState::Partial,
            _ => FileState::CloudOnly,
        };
        let conflict = name.is_some_and(|(_, name)| aside::is_aside(&name));
        Ok(Standing { state, pinned_by, conflict, bytes_here })
    }

    /// All that is known of `ino`.
    ///
    /// # Errors
    /// [`VfsError::NoEntry`](super::VfsError::NoEntry) if it is gone.
    pub fn explain(&self, ino: Ino) -> Result<Explained> {
        let standing = self.standing(ino)?;
        let inode = self.inode(ino)?;
        let open =
            self.handles.files().get(&ino).map_or((0, 0), |open| (open.handles, open.writers));
        let whole = inode.attr.kind == FileKind::File && standing.bytes_here >= inode.attr.size;
        Ok(Explained { inode, standing, open, whole })
    }

    pub(super) fn state_words(&self, ino: Ino) -> Result<Vec<u8>> {
        Ok(self.standing(ino)?.words().into_bytes())
    }
}
