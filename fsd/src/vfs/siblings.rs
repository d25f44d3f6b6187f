//! Reading ahead from file to file: whoever reads the small files of a directory one after the other, or asks for their attributes,
//! gets those of the next ones fetched meanwhile, many at once, so that a file costs no round trip.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::{FutureExt as _, StreamExt as _, stream};
use lru::LruCache;

use super::{Result, Vfs, VfsError};
use crate::meta::{Dentry, Inode, cookie_of_name};
use crate::types::{FileKind, Ino};

/// A larger file is read ahead by itself.
const SMALL_BYTES_MAX: u64 = 1 << 20;
/// Files behind the last one that count as next: some may be left out.
const NEAR: usize = 8;
const FILES_FIRST: usize = 8;
const FILES_MAX: usize = 256;
/// What one step may fetch.
const BYTES_MAX: u64 = 16 << 20;
const AT_ONCE: usize = 32;
/// Directories that are read at once.
const WALKS_MAX: NonZeroUsize = NonZeroUsize::new(64).unwrap();

/// The order in which somebody goes through a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// As names became known: a listing's order.
    Known,
    /// As a reader of the directory gets them.
    Read,
}

impl Order {
    fn place(self, entry: &Dentry) -> u64 {
        match self {
            Self::Known => entry.ino.0,
            Self::Read => entry.cookie,
        }
    }
}

/// How far somebody went through a directory. Pure.
#[derive(Debug)]
struct Walk {
    last: Dentry,
    run: Option<Run>,
}

#[derive(Debug)]
struct Run {
    order: Order,
    /// Whoever gets here needs more.
    more_at: u64,
    /// The last one that was fetched ahead.
    end: u64,
    files: usize,
}

/// Files to fetch: this many behind a place.
#[derive(Debug, PartialEq, Eq)]
struct Ahead {
    order: Order,
    behind: u64,
    files: usize,
}

impl Walk {
    fn begin(at: Dentry) -> Self {
        Self { last: at, run: None }
    }

    /// What to fetch when `at` is read, if `next` gives so many entries behind a place.
    fn step<E>(
        &mut self,
        at: Dentry,
        next: impl Fn(Order, u64, usize) -> Result<Vec<Dentry>, E>,
    ) -> Result<Option<Ahead>, E> {
        let last = std::mem::replace(&mut self.last, at);
        let at = &self.last;
        if let Some(run) = &self.run {
            let place = run.order.place(at);
            if place <= run.end && place >= run.order.place(&last) {
                let is_due = place >= run.more_at;
                let files = (run.files * 2).min(FILES_MAX);
                return Ok(is_due.then_some(Ahead { order: run.order, behind: run.end, files }));
            }
        }
        self.run = None;
        for order in [Order::Known, Order::Read] {
            let near = next(order, order.place(&last), NEAR)?;
            if near.iter().any(|entry| entry.ino == at.ino) {
                return Ok(Some(Ahead { order, behind: order.place(at), files: FILES_FIRST }));
            }
        }
        Ok(None)
    }

    /// Goes on behind `entries`, which are fetched now. Returns the file that asks for more, if there may be more.
    fn fetching(&mut self, ahead: &Ahead, entries: &[Dentry]) -> Option<Ino> {
        let (middle, last) = (entries.get(entries.len() / 2)?, entries.last()?);
        let Ahead { order, files, .. } = *ahead;
        let (more_at, end) = (order.place(middle), order.place(last));
        self.run = Some(Run { order, more_at, end, files });
        Some(middle.ino)
    }
}

/// The walks through directories.
#[derive(Debug)]
pub(super) struct Siblings {
    walks: Mutex<LruCache<Ino, Walk>>,
    /// Files that are here already, and ask for more when they are read.
    askers: Mutex<HashSet<Ino>>,
}

impl Default for Siblings {
    fn default() -> Self {
        Self { walks: Mutex::new(LruCache::new(WALKS_MAX)), askers: Mutex::default() }
    }
}

impl Siblings {
    fn walks(&self) -> MutexGuard<'_, LruCache<Ino, Walk>> {
        self.walks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn askers(&self) -> MutexGuard<'_, HashSet<Ino>> {
        self.askers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Vfs {
    /// Looks, as `inode` is opened to be read, whether it is one of many.
    pub(super) fn read_siblings(self: &Arc<Self>, inode: &Inode, whole: bool) {
        if inode.attr.size > SMALL_BYTES_MAX || inode.object.is_none() {
            return;
        }
        let ino = inode.ino;
        if !self.siblings.askers().remove(&ino) && whole {
            return;
        }
        let failed = move |error: VfsError| {
            tracing::debug!(%ino, error = &error as &dyn std::error::Error, "the files beside it could not be fetched ahead");
        };
        // Found out at once, since the order of reading counts.
        let files = self.next_files(ino).unwrap_or_else(|error| {
            failed(error);
            Vec::new()
        });
        if files.is_empty() {
            return;
        }
        let vfs = self.clone();
        self.tasks.spawn("vfs.siblings", async move {
            let warm = |ino| vfs.warm(ino).map(move |warmed| warmed.unwrap_or_else(failed));
            stream::iter(files).for_each_concurrent(AT_ONCE, warm).await;
        });
    }

    async fn warm(&self, ino: Ino) -> Result<()> {
        let inode = self.known(ino).await?;
        Ok(self.cache.bring_all(&inode, |_| {}).await?)
    }

    /// The files to fetch now that `ino` is read.
    fn next_files(&self, ino: Ino) -> Result<Vec<Ino>> {
        let Some((parent, name)) = self.meta.read(|tx| tx.a_name(ino))? else { return Ok(vec![]) };
        let at = Dentry { ino, cookie: cookie_of_name(&name), name };
        let mut bytes = 0;
        let mut files = Vec::new();
        for entry in self.next_entries(&self.siblings, parent, at)? {
            let inode = self.meta.read(|tx| tx.inode(tx.file_of(entry.ino)?))?;
            let Some(inode) = inode else { continue };
            let small = inode.attr.kind == FileKind::File && inode.attr.size <= SMALL_BYTES_MAX;
            if small && inode.object.is_some() && !self.cache.is_whole(&inode) {
                bytes += inode.attr.size;
                if bytes > BYTES_MAX {
                    break;
                }
                files.push(inode.ino);
            }
        }
        Ok(files)
    }

    /// Looks, as somebody asks for `inode` by its name, whether it is one of many.
    pub(super) fn ask_siblings(self: &Arc<Self>, parent: Ino, name: &[u8], inode: &Inode) {
        let asked = self.asked.askers().remove(&inode.ino);
        if inode.attrs_known && !asked {
            return;
        }
        let at = Dentry { ino: inode.ino, cookie: cookie_of_name(name), name: name.to_vec() };
        let (dir, vfs, like) = (parent, self.clone(), inode.clone());
        let failed = move |error: VfsError| {
            tracing::debug!(%dir, error = &error as &dyn std::error::Error, "attributes could not be asked for ahead");
        };
        let inos: Vec<Ino> = match self.next_entries(&self.asked, parent, at) {
            Ok(entries) => entries.into_iter().map(|entry| entry.ino).collect(),
            Err(error) => return failed(error),
        };
        if !inos.is_empty() {
            self.tasks.spawn("vfs.siblings", async move {
                vfs.read_attrs(&like, &inos).await.unwrap_or_else(failed);
            });
        }
    }

    /// What to fetch of a directory, now that somebody is at `at`.
    fn next_entries(&self, siblings: &Siblings, parent: Ino, at: Dentry) -> Result<Vec<Dentry>> {
        let next = |order, behind, count| {
            self.meta.read(|tx| match order {
                Order::Known => tx.entries_by_ino(parent, Ino(behind), count),
                Order::Read => tx.entries(parent, behind, count),
            })
        };
        let mut walks = siblings.walks();
        let Some(walk) = walks.get_mut(&parent) else {
            walks.put(parent, Walk::begin(at));
            return Ok(vec![]);
        };
        let Some(ahead) = walk.step(at, next)? else { return Ok(vec![]) };
        let entries = next(ahead.order, ahead.behind, ahead.files)?;
        let asker = walk.fetching(&ahead, &entries);
        drop(walks);
        let mut askers = siblings.askers();
        if askers.len() > WALKS_MAX.get() {
            // Of walks that went another way.
            askers.clear();
        }
        askers.extend(asker);
        Ok(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten files whose places in the directory run backwards.
    fn entry(number: u64) -> Dentry {
        Dentry { name: number.to_string().into(), ino: Ino(number), cookie: 1000 - number }
    }

    fn next(order: Order, behind: u64, count: usize) -> Result<Vec<Dentry>, ()> {
        let mut all: Vec<Dentry> = (1..=100).map(entry).collect();
        all.sort_by_key(|entry| order.place(entry));
        Ok(all.into_iter().filter(|e| order.place(e) > behind).take(count).collect())
    }

    /// What is fetched when `numbers` are read one after the other.
    fn fetched(numbers: impl IntoIterator<Item = u64>) -> Vec<Vec<u64>> {
        let mut numbers = numbers.into_iter();
        let mut walk = Walk::begin(entry(numbers.next().unwrap()));
        let mut fetched = Vec::new();
        for number in numbers {
            if let Some(ahead) = walk.step(entry(number), next).unwrap() {
                let entries = next(ahead.order, ahead.behind, ahead.files).unwrap();
                walk.fetching(&ahead, &entries);
                fetched.push(entries.iter().map(|e| e.ino.0).collect());
            }
        }
        fetched
    }

    #[test]
    fn whoever_reads_on_gets_more_and_more_of_what_comes_next() {
        let steps = fetched(1..=30);
        assert_eq!(steps[0], (3..=10).collect::<Vec<_>>());
        assert_eq!(steps[1], (11..=26).collect::<Vec<_>>());
        assert_eq!(steps[2], (27..=58).collect::<Vec<_>>());
        assert_eq!(steps.len(), 3);
    }

    #[test]
    fn the_order_of_the_directory_is_followed_too() {
        let steps = fetched([90, 89, 88]);
        assert_eq!(steps, [(81..=88).rev().collect::<Vec<_>>()]);
    }

    #[test]
    fn some_may_be_left_out() {
        assert_eq!(fetched([1, 4, 9, 11]).len(), 2);
    }

    #[test]
    fn random_reading_fetches_nothing_ahead() {
        assert_eq!(fetched([10, 50, 30, 80, 5, 60]), Vec::<Vec<u64>>::new());
    }

    #[test]
    fn at_the_end_nothing_is_left() {
        assert_eq!(fetched(98..=100), [vec![100], vec![]]);
    }
}
