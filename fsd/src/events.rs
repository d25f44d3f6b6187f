//! What parts tell each other without knowing each other: that there is work, and what the kernel must forget.

use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use crate::types::{Ino, ShareId};

/// Something changed behind the kernel's back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invalidation {
    /// A name came, went, or names something else.
    Name {
        /// The share.
        share: ShareId,
        /// The directory.
        parent: Ino,
        /// The name.
        name: Vec<u8>,
    },
    /// An inode's content or attributes.
    Inode {
        /// The share.
        share: ShareId,
        /// The inode.
        ino: Ino,
    },
    /// An inode's attributes only: what the kernel keeps of its content, or of a directory's names, is still right.
    Attributes {
        /// The share.
        share: ShareId,
        /// The inode.
        ino: Ino,
    },
}

impl Invalidation {
    fn share(&self) -> ShareId {
        match self {
            Self::Name { share, .. }
            | Self::Inode { share, .. }
            | Self::Attributes { share, .. } => *share,
        }
    }
}

/// The bus. What must not be lost is in the metadata store; this only wakes those who read it.
#[derive(Debug, Default)]
pub struct Events {
    /// There are items or tombstones.
    pub differs: Notify,
    /// There are arrivals or jobs.
    pub arrived: Notify,
    /// An item or a job came to its end: whoever waits for the queue looks again.
    pub settled: Notify,
    /// Something was logged for others to hear of.
    pub logged: Notify,
    listeners: Mutex<Vec<(ShareId, Sender<Invalidation>)>>,
    uploading: Mutex<BTreeSet<Ino>>,
}

impl Events {
    /// Invalidations of one share, in order. A listener that is dropped is forgotten.
    pub fn invalidations(&self, share: ShareId) -> Receiver<Invalidation> {
        let (sender, receiver) = channel();
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).push((share, sender));
        receiver
    }

    /// From now on `ino` is being uploaded.
    pub fn begin_upload(&self, ino: Ino) {
        self.uploading.lock().unwrap_or_else(PoisonError::into_inner).insert(ino);
    }

    /// From now on it is not.
    pub fn end_upload(&self, ino: Ino) {
        self.uploading.lock().unwrap_or_else(PoisonError::into_inner).remove(&ino);
    }

    /// Whether `ino` is being uploaded.
    #[must_use]
    pub fn is_uploading(&self, ino: Ino) -> bool {
        self.uploading.lock().unwrap_or_else(PoisonError::into_inner).contains(&ino)
    }

    /// Tells the share's listeners what a look at the cloud changed: inodes with other content or attributes, inodes with other
    /// attributes only, and names that went.
    pub fn announce(
        &self,
        share: ShareId,
        inodes: Vec<Ino>,
        attributes: Vec<Ino>,
        names: Vec<(Ino, Vec<u8>)>,
    ) {
        for ino in inodes {
            self.invalidate(&Invalidation::Inode { share, ino });
        }
        for ino in attributes {
            self.invalidate(&Invalidation::Attributes { share, ino });
        }
        for (parent, name) in names {
            self.invalidate(&Invalidation::Name { share, parent, name });
        }
    }

    /// Tells the share's listeners.
    pub fn invalidate(&self, invalidation: &Invalidation) {
        let share = invalidation.share();
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|(listens_to, sender)| {
            *listens_to != share || sender.send(invalidation.clone()).is_ok()
        });
    }
}
