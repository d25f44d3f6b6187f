//! Names, inodes and handles: the one API of all front ends.
//!
//! Invariant: what an operation answered survives the death of the process.
//! Invariant: the lock on open files is never asked for inside a transaction; transactions run under it.
//! Operations that may wait for the cloud are `async` and wait with a deadline; all others never wait for it.

mod acl;
mod attr;
mod below;
mod check;
mod close;
mod dir;
mod error;
mod file;
mod fsync;
mod give_back;
mod growth;
mod handle;
mod name;
mod quota;
mod range;
mod rebuild;
mod recover;
mod refresh;
mod replace;
mod scrub;
mod siblings;
mod state;
mod verify;
mod warm;
mod withdraw;
mod work;
mod xattr;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use policies::Quotas;
use tokio::sync::Notify;

use self::handle::{Handles, as_open};
use self::siblings::Siblings;
use crate::cache::{Cache, Merged};
use crate::clock::Clock;
use crate::events::Events;
use crate::meta::{Inode, Lost, Meta, Tx};
use crate::tasks::Tasks;
use crate::types::{Ino, ShareId};

pub use self::attr::{AttrChange, SetTime, Space};
pub use self::check::{Code, Finding};
pub use self::dir::{Entry, Page};
pub use self::error::{Result, VfsError};
pub use self::handle::{HandedOut, HandleId, OpenHow, WriteHow};
pub use self::name::RenameHow;
pub use self::range::Seek;
pub use self::recover::Recovered;
pub use self::refresh::Reach;
pub use self::state::{Explained, FileState, Standing};
pub use self::warm::{Evicted, Pinned};
pub use self::work::{Progress, Work};
pub use self::xattr::{XATTR_BYTES_MAX, XattrChange, XattrHow, is_acl};
pub use crate::cache::Trouble;
pub use crate::types::NAME_BYTES_MAX;

/// Below a share's root; objects that stand aside while others move are kept under this name.
pub const RESERVED_NAME: &[u8] = b".fsd";

/// A share as the vfs needs it.
#[derive(Clone, Debug)]
pub struct Share {
    /// Its number.
    pub id: ShareId,
    /// Its name in configuration and messages.
    pub name: String,
    /// Its root directory.
    pub root: Ino,
    /// Nothing of it ever leaves.
    pub local: bool,
    /// Nothing may be changed here.
    pub read_only: bool,
    /// How long a file is left alone before it is uploaded.
    pub upload_delay: Duration,
    /// How long `fsync` waits until the version is uploaded; none if it does not wait for that.
    pub fsync_wait: Option<Duration>,
    /// How long a read waits for what is only in a store that can't be reached.
    pub offline_wait: Duration,
    /// How old a listing may get before the cloud is asked again.
    pub listing_age_max: Duration,
    /// How often the cloud is asked for what changed in directories that are known here; none: only when they are read.
    pub refresh_every: Option<Duration>,
    /// Whether any hook looks at its arrivals.
    pub hooked: bool,
    /// How much each user's files may take.
    pub quotas: Quotas,
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits that what is made by default does not get.
    pub umask: u32,
}

/// What a vfs is built of.
#[derive(Debug)]
pub struct Parts {
    /// The precious store.
    pub meta: Arc<Meta>,
    /// The cache.
    pub cache: Arc<Cache>,
    /// The bus.
    pub events: Arc<Events>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where background work runs.
    pub tasks: Tasks,
    /// The shares.
    pub shares: Vec<Share>,
}

/// The file system.
#[derive(Debug)]
pub struct Vfs {
    meta: Arc<Meta>,
    cache: Arc<Cache>,
    events: Arc<Events>,
    clock: Arc<dyn Clock>,
    tasks: Tasks,
    shares: Arc<BTreeMap<ShareId, Share>>,
    handles: Handles,
    siblings: Siblings,
    /// The same for attributes.
    asked: Siblings,
    /// When it was counted what is not uploaded, and how many bytes that were.
    to_upload: Mutex<Option<(Duration, u64)>>,
    /// What is pinned changed.
    pinned: Notify,
    /// Milliseconds since 1970.
    started: i64,
}

impl Vfs {
    /// A file system over `parts`.
    #[must_use]
    pub fn new(parts: Parts) -> Arc<Self> {
        let Parts { meta, cache, events, clock, tasks, shares } = parts;
        let shares = Arc::new(shares.into_iter().map(|share| (share.id, share)).collect());
        let started = clock.wall().millis();
        let vfs = Arc::new(Self {
            meta,
            cache,
            events,
            clock,
            tasks,
            shares,
            handles: Handles::default(),
            siblings: Siblings::default(),
            asked: Siblings::default(),
            to_upload: Mutex::default(),
            pinned: Notify::new(),
            started,
        });
        vfs.tasks.spawn("vfs.close", vfs.clone().keep_finishing());
        vfs.tasks.spawn("vfs.count", vfs.clone().keep_counting());
        vfs.tasks.spawn("vfs.scrub", vfs.clone().keep_scrubbing());
        vfs
    }

    /// The share `id`.
    ///
    /// # Errors
    /// [`VfsError::NoEntry`] if it is not configured any more.
    pub fn share(&self, id: ShareId) -> Result<&Share> {
        self.shares.get(&id).ok_or(VfsError::NoEntry)
    }

    /// All shares.
    pub fn shares(&self) -> impl Iterator<Item = &Share> {
        self.shares.values()
    }

    /// The bus.
    #[must_use]
    pub fn events(&self) -> &Arc<Events> {
        &self.events
    }

    /// The time.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Where background work runs.
    #[must_use]
    pub fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// The inode as it is now.
    fn inode(&self, ino: Ino) -> Result<Inode> {
        let files = self.handles.files();
        let inode = self.meta.read(|tx| tx.inode(ino))?.ok_or(VfsError::NoEntry)?;
        Ok(as_open(&files, inode))
    }

    fn share_of(&self, ino: Ino) -> Result<&Share> {
        self.share(self.inode(ino)?.share)
    }

    /// The share of `ino`, if it may be changed.
    fn writable_share(&self, ino: Ino) -> Result<&Share> {
        writable(&self.shares, self.inode(ino)?.share)
    }

    fn millis(&self) -> i64 {
        self.clock.wall().millis()
    }

    /// What a change of one inode in `share` has to store beside itself.
    fn difference(&self, share: &Share) -> Difference {
        self.difference_at(share, self.millis())
    }

    /// The same of something that happened at `now`, ms since 1970.
    fn difference_at(&self, share: &Share, now: i64) -> Difference {
        let delay = i64::try_from(share.upload_delay.as_millis()).unwrap_or(i64::MAX);
        Difference {
            share: share.id,
            root: share.root,
            cloud: !share.local,
            hooked: share.hooked,
            now,
            due: now.saturating_add(delay),
        }
    }

    /// Tells the kernel what a look at the cloud changed.
    fn announce(&self, share: ShareId, merged: Merged) {
        let Merged { inodes, attributes, names, .. } = merged;
        self.events.announce(share, inodes, attributes, names);
    }
}

/// The share `id`, if it may be changed.
fn writable(shares: &BTreeMap<ShareId, Share>, id: ShareId) -> Result<&Share> {
    let share = shares.get(&id).ok_or(VfsError::NoEntry)?;
    if share.read_only { Err(VfsError::ReadOnly) } else { Ok(share) }
}

fn check_reserved(root: Ino, parent: Ino, name: &[u8]) -> Result<()> {
    if parent == root && name == RESERVED_NAME { Err(VfsError::Reserved) } else { Ok(()) }
}

/// How long the object of a deleted file stays that is open and only partly here: the rest is being fetched.
const FETCH_MILLIS: i64 = 60_000;

/// How a file is open whose last name goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opened {
    Not,
    Whole,
    /// Part of it is only in the cloud.
    InPart,
}

/// Beside every change: that the inode differs from the cloud now, and that hooks may look at it.
#[derive(Clone, Copy, Debug)]
struct Difference {
    share: ShareId,
    root: Ino,
    cloud: bool,
    hooked: bool,
    now: i64,
    due: i64,
}

impl Difference {
    fn note(self, tx: &Tx<'_>, ino: Ino) -> Result<()> {
        // There is no object for the root, whose attributes stay here.
        if self.cloud && ino != self.root {
            tx.differs(ino, self.share, self.now, self.due)?;
        }
        Ok(())
    }

    fn note_arrival(self, tx: &Tx<'_>, ino: Ino, content: u64) -> Result<()> {
        if self.hooked {
            tx.arrived(ino, content, self.due)?;
        }
        Ok(())
    }

    /// After a name is gone: its object goes too. After the last one, so does all else if nobody has the file open.
    fn note_gone(self, tx: &Tx<'_>, lost: Lost, open: Opened) -> Result<Option<(Ino, u64)>> {
        let Lost { file: mut inode, alias } = lost;
        if let Some(alias) = alias {
            self.bury(tx, &alias, self.now)?;
            tx.remove_inode(alias.ino)?;
        }
        if inode.attr.nlink > 0 {
            self.note(tx, inode.ino)?;
            return Ok(None);
        }
        let delay = if open == Opened::InPart { FETCH_MILLIS } else { 0 };
        self.bury(tx, &inode, self.now.saturating_add(delay))?;
        inode.object = None;
        if open != Opened::Not {
            tx.put_inode(&inode)?;
            tx.remove_item(inode.ino)?;
            return Ok(None);
        }
        tx.remove_inode(inode.ino)?;
        Ok(Some((inode.ino, inode.backing)))
    }

    /// Lets the object of `inode` be deleted from `due` on, and what may have become one.
    fn bury(self, tx: &Tx<'_>, inode: &Inode, due: i64) -> Result<()> {
        if !self.cloud {
            return Ok(());
        }
        if let Some(object) = &inode.object
            && object.etag.is_some()
        {
            tx.bury(self.share, &object.key, object.etag.as_ref(), inode.ino, due)?;
        }
        Ok(tx.end_attempts(inode.ino, self.share, None, self.now)?)
    }
}

fn check_name(name: &[u8]) -> Result<()> {
    match name {
        name if name.len() > NAME_BYTES_MAX => Err(VfsError::NameTooLong),
        b"" | b"." | b".." => Err(VfsError::Invalid("not a file name")),
        name if name.iter().any(|&b| b == b'/' || b == 0) => {
            Err(VfsError::Invalid("not a file name"))
        }
        _ => Ok(()),
    }
}
