//! Which way the bytes of an open file go: straight between the kernel and the backing file, or through us.
//!
//! All handles of an inode go the same way as long as any is open: the kernel refuses to mix them. And they share one registered
//! backing file, which lives as long as they do.

use std::collections::HashMap;
use std::io;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fuser::{BackingId, INodeNo};
use lru::LruCache;
use tokio::sync::watch;

use crate::vfs::HandedOut;

/// Of more files than these the kernel's pages are dropped when they are opened again.
const CACHED_MAX: NonZeroUsize = NonZeroUsize::new(1 << 16).unwrap();

/// The ways of all open files of a mount.
#[derive(Debug, Default)]
pub(super) struct DataPaths {
    /// Why every byte goes through us; none if the kernel reads and writes by itself what is wholly here.
    refused: watch::Sender<Option<String>>,
    open: Mutex<HashMap<INodeNo, Open>>,
    /// Which content the kernel may have pages of.
    cached: Mutex<Option<LruCache<INodeNo, u64>>>,
}

#[derive(Debug)]
struct Open {
    handles: u32,
    /// What they read and write.
    file: Option<HandedOut>,
    straight: Option<Arc<BackingId>>,
}

/// Others have another content of the file open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Replaced;

impl DataPaths {
    /// From now on every byte goes through us.
    pub(super) fn refuse(&self, why: String) {
        tracing::info!(why, "file content goes through the daemon");
        self.refused.send_replace(Some(why));
    }

    /// Why every byte goes through us; none as long as the kernel reads and writes by itself what is wholly here.
    pub(super) fn refused(&self) -> watch::Receiver<Option<String>> {
        self.refused.subscribe()
    }

    /// Counts a handle of `node`, which reads and writes `file`. What is returned is the way straight to the backing file: that of the
    /// handles before it or, for the first one, to the file that `wanted` gives, as `register` makes it known to the kernel.
    pub(super) fn begin(
        &self,
        (node, file): (INodeNo, Option<HandedOut>),
        wanted: impl FnOnce() -> Option<HandedOut>,
        register: impl FnOnce(&HandedOut) -> io::Result<BackingId>,
    ) -> Result<Option<Arc<BackingId>>, Replaced> {
        let mut all = self.all();
        if let Some(open) = all.get_mut(&node) {
            if open.file.as_ref().map(HandedOut::content) != file.as_ref().map(HandedOut::content) {
                return Err(Replaced);
            }
            open.handles += 1;
            return Ok(open.straight.clone());
        }
        let wanted = if self.refused.borrow().is_none() { wanted() } else { None };
        let straight = wanted.and_then(|file| match register(&file) {
            Ok(id) => Some(Arc::new(id)),
            Err(error) => {
                if !is_shortage(&error) {
                    self.refuse(why(&error));
                }
                None
            }
        });
        all.insert(node, Open { handles: 1, file, straight: straight.clone() });
        Ok(straight)
    }

    /// Whether pages that the kernel has of `node` are of `content`, or are none. From here on they are.
    ///
    /// After a change that came from the cloud the kernel is told to drop them, but whoever opens the file first would see them.
    pub(super) fn has_pages_of(&self, node: INodeNo, content: u64) -> bool {
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        let cached = cached.get_or_insert_with(|| LruCache::new(CACHED_MAX));
        cached.put(node, content) == Some(content)
    }

    /// How long the kernel may keep attributes of `node`: not at all while it writes the file by itself, since after a store into a map it
    /// would show old times.
    pub(super) fn ttl(&self, node: INodeNo, usual: Duration) -> Duration {
        let straight = self.all().get(&node).is_some_and(|open| open.straight.is_some());
        if straight { Duration::ZERO } else { usual }
    }

    /// How long what the open handles of `node` read is, if that is not `content`.
    pub(super) fn size_replaced(&self, node: INodeNo, content: u64) -> Option<u64> {
        let all = self.all();
        let file = all.get(&node)?.file.as_ref()?;
        if file.content() == content { None } else { file.size().ok() }
    }

    /// Counts a handle out that [`DataPaths::begin`] counted.
    pub(super) fn end(&self, node: INodeNo) {
        let mut all = self.all();
        if let Some(open) = all.get_mut(&node) {
            open.handles -= 1;
            if open.handles == 0 {
                all.remove(&node);
            }
        }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<INodeNo, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the next try may go better.
fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM))
}

fn why(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM) => "passthrough needs CAP_SYS_ADMIN".to_owned(),
        Some(libc::ELOOP) => "the state directory is on a stacked file system".to_owned(),
        _ => format!("the kernel refuses passthrough: {error}"),
    }
}
