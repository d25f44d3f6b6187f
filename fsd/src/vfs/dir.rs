//! Lookup and reading of directories, with the cloud asked where names are not known yet.

use std::sync::Arc;
use std::time::Duration;

use super::handle::as_open;
use super::name::TARGET_BYTES_MAX;
use super::{Result, Share, Vfs, VfsError, check_name};
use crate::cache::CacheError;
use crate::meta::{Dentry, Inode, Listed, Tx};
use crate::types::{Attr, FileKind, Ino};

/// How long a first look at a directory may bring nothing.
const LISTING_DEADLINE: Duration = Duration::from_secs(30);
/// How long a reader waits for a listing that only makes an old one new.
const REFRESH_DEADLINE: Duration = Duration::from_secs(2);
/// Of more small objects in one page of a directory it is not asked whether they are plain files.
const KINDS_ASKED_MAX: usize = 128;
/// How long the roots wait for a cloud that does not answer.
const ROOTS_PAUSE: Duration = Duration::from_secs(5);

/// A name and what it names.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The name.
    pub name: Vec<u8>,
    /// What it names.
    pub ino: Ino,
    /// Its attributes.
    pub attr: Attr,
    /// False if they are only what a listing of the cloud showed: mode and owner may be others.
    pub attrs_known: bool,
    /// Which content it has: as [`HandedOut::content`](super::HandedOut::content) of whoever opens it now.
    pub content: u64,
    /// Where to go on behind it.
    pub cookie: u64,
}

impl Entry {
    pub(super) fn of(name: &[u8], inode: &Inode) -> Self {
        Self::at(name.to_vec(), 0, inode)
    }

    fn at(name: Vec<u8>, cookie: u64, inode: &Inode) -> Self {
        let Inode { ino, attr, attrs_known, backing: content, .. } = *inode;
        Self { name, ino, attr, attrs_known, content, cookie }
    }
}

/// Part of a directory.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// The directory above; the root is above itself.
    pub parent: Ino,
    /// Entries behind the cookie asked for; none at the end.
    pub entries: Vec<T>,
}

impl Vfs {
    /// What `name` names in `parent`.
    ///
    /// # Errors
    /// [`VfsError::NoEntry`] if there is no such name here or in the cloud; if the cloud does not answer
    /// and nothing is known of the name, its error: unreachable never looks like absent.
    pub async fn lookup(self: &Arc<Self>, parent: Ino, name: &[u8]) -> Result<Entry> {
        let listings = self.cache.listings_ended();
        let (dir, found) = self.find(parent, name)?;
        let inode = match found {
            Some(inode) => inode,
            None => {
                check_name(name)?;
                let looked = self.find_in_cloud(&dir, name).await?;
                if !looked && self.cache.listings_ended() == listings {
                    return Err(VfsError::NoEntry);
                }
                self.find(parent, name)?.1.ok_or(VfsError::NoEntry)?
            }
        };
        self.ask_siblings(parent, name, &inode);
        let inode = if inode.attrs_known {
            inode
        } else {
            self.known(inode.ino).await?;
            // What is known now may be that it is a further name of another file.
            self.find(parent, name)?.1.ok_or(VfsError::NoEntry)?
        };
        Ok(Entry::of(name, &inode))
    }

    /// What lies above the directory `ino`; the root is above itself.
    ///
    /// # Errors
    /// [`VfsError::NoEntry`] if it is gone.
    pub fn parent(&self, ino: Ino) -> Result<Ino> {
        let above = self.meta.read(|tx| tx.a_name(ino))?;
        Ok(above.map_or(ino, |(parent, _)| parent))
    }

    /// The path of `ino` in its share, root first.
    ///
    /// # Errors
    /// [`VfsError::NoEntry`] if it has no name.
    pub fn path(&self, ino: Ino) -> Result<Vec<Vec<u8>>> {
        self.meta.read(|tx| tx.path(ino))?.ok_or(VfsError::NoEntry)
    }

    /// What lies at the path `names` below the root of a share.
    ///
    /// # Errors
    /// As [`Vfs::lookup`].
    pub async fn resolve(self: &Arc<Self>, root: Ino, names: &[Vec<u8>]) -> Result<Ino> {
        let mut at = root;
        for name in names {
            at = self.lookup(at, name).await?.ino;
        }
        Ok(at)
    }

    /// Makes sure that the names of `dir` are known, and asks again if that was long ago.
    ///
    /// # Errors
    /// If the cloud does not answer and the directory was never listed.
    pub async fn open_dir(self: &Arc<Self>, dir: Ino) -> Result<()> {
        let dir = self.inode(dir)?;
        if dir.attr.kind != FileKind::Dir {
            return Err(VfsError::NotDir);
        }
        let share = self.share(dir.share)?;
        if !self.cache.is_listed(&dir, 0) {
            return self.list(&dir, 0, LISTING_DEADLINE).await;
        }
        let since = self.fresh_since(share);
        if self.cache.is_listed(&dir, since) {
            return Ok(());
        }
        match self.list(&dir, since, REFRESH_DEADLINE).await {
            Ok(()) | Err(VfsError::Cache(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Learns in the background which names the roots have, so that files can be made there when the cloud goes away before anybody
    /// looked.
    pub fn learn_roots(self: &Arc<Self>) {
        for share in self.shares().filter(|share| !share.local) {
            let (vfs, root) = (self.clone(), share.root);
            self.tasks.spawn("vfs.roots", async move {
                let learn = async {
                    while vfs.open_dir(root).await.is_err() {
                        vfs.clock.sleep(ROOTS_PAUSE).await;
                    }
                };
                tokio::select! {
                    () = learn => {}
                    () = vfs.tasks.cancelled() => {}
                }
            });
        }
    }

    /// Up to `count` entries of `dir` behind `cookie`. Of what only a listing of the cloud showed, attributes are asked for where the
    /// kind depends on it, unless there is very much of it.
    ///
    /// # Errors
    /// If the cloud does not answer and the directory was never listed.
    pub async fn read_dir(
        self: &Arc<Self>,
        dir: Ino,
        cookie: u64,
        count: usize,
    ) -> Result<Page<Entry>> {
        let read = || {
            let files = self.handles.files();
            self.meta.read(|tx| -> Result<Vec<_>> {
                let found = tx.entries_and_files(dir, cookie, count)?.into_iter();
                let entry = |(at, inode): (Dentry, Inode)| {
                    Entry::at(at.name, at.cookie, &as_open(&files, inode))
                };
                Ok(found.map(entry).collect())
            })
        };
        self.read_page(dir, read, |entry| (entry.ino, entry.attrs_known, entry.attr.size)).await
    }

    /// As [`Vfs::read_dir`], of each file no more than its kind.
    ///
    /// # Errors
    /// As [`Vfs::read_dir`].
    pub async fn read_names(
        self: &Arc<Self>,
        dir: Ino,
        cookie: u64,
        count: usize,
    ) -> Result<Page<Listed>> {
        let read = || {
            let read = |tx: &Tx<'_>| tx.entries_and_kinds(dir, cookie, count);
            Ok(self.meta.read(read)?)
        };
        self.read_page(dir, read, |at| (at.entry.ino, at.attrs_known, at.size)).await
    }

    /// What `read` finds, as soon as names and kinds are known; `tell` tells of a file whether its attributes are known, and its size.
    async fn read_page<T>(
        self: &Arc<Self>,
        dir: Ino,
        read: impl Fn() -> Result<Vec<T>>,
        tell: impl Fn(&T) -> (Ino, bool, u64),
    ) -> Result<Page<T>> {
        let inode = self.inode(dir)?;
        if !self.cache.is_listed(&inode, 0) {
            self.list(&inode, 0, LISTING_DEADLINE).await?;
        }
        let mut entries = read()?;
        let unknown = entries.iter().map(tell).filter_map(|(ino, attrs_known, size)| {
            (!attrs_known && size <= TARGET_BYTES_MAX as u64).then_some(ino)
        });
        let unknown: Vec<Ino> = unknown.collect();
        if !unknown.is_empty() && unknown.len() <= KINDS_ASKED_MAX {
            // Without the cloud, the names and sizes of the listing are better than nothing.
            match self.read_attrs(&inode, &unknown).await {
                Ok(()) => entries = read()?,
                Err(VfsError::Cache(error)) => {
                    tracing::debug!(%dir, error = &error as &dyn std::error::Error, "attributes could not be read");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Page { parent: self.parent(dir)?, entries })
    }

    /// Lists `dir` unless that was done at or after `since`. One that is too slow goes on in the background; a first one is waited for
    /// as long as pages come.
    pub(super) async fn list(
        self: &Arc<Self>,
        dir: &Inode,
        since: i64,
        deadline: Duration,
    ) -> Result<()> {
        let (tell, told) = tokio::sync::oneshot::channel();
        let (vfs, dir, ino) = (self.clone(), dir.clone(), dir.ino);
        self.tasks.spawn("vfs.list", async move {
            let listed = vfs.list_now(&dir, since).await;
            // Nobody waits for it any more if that fails.
            let _ = tell.send(listed);
        });
        tokio::pin!(told);
        let mut pages = 0;
        loop {
            tokio::select! {
                biased;
                listed = &mut told => return listed.unwrap_or(Err(CacheError::Deadline.into())),
                () = self.clock.sleep(deadline) => {}
            }
            let before = std::mem::replace(&mut pages, self.cache.pages_listed(ino));
            if since > 0 || pages == before {
                return Err(CacheError::Deadline.into());
            }
        }
    }

    async fn list_now(&self, dir: &Inode, since: i64) -> Result<()> {
        let share = self.share(dir.share)?;
        let merged = self.cache.list(dir, since).await?;
        self.announce(share.id, merged);
        Ok(())
    }

    fn list_soon(self: &Arc<Self>, dir: &Inode, since: i64) {
        let (vfs, dir) = (self.clone(), dir.clone());
        self.tasks.spawn("vfs.list", async move {
            if let Err(error) = vfs.list_now(&dir, since).await {
                tracing::debug!(dir = %dir.ino, error = &error as &dyn std::error::Error, "what is known of its names stays");
            }
        });
    }

    fn find(&self, parent: Ino, name: &[u8]) -> Result<(Inode, Option<Inode>)> {
        let files = self.handles.files();
        self.meta.read(|tx| {
            let dir = tx.inode(parent)?.ok_or(VfsError::NoEntry)?;
            if dir.attr.kind != FileKind::Dir {
                return Err(VfsError::NotDir);
            }
            let found = match tx.lookup(parent, name)? {
                Some(ino) => tx.inode(tx.file_of(ino)?)?.map(|inode| as_open(&files, inode)),
                None => None,
            };
            Ok((dir, found))
        })
    }

    /// Asks the cloud for a name that is not known here; false if that is known to be all.
    async fn find_in_cloud(self: &Arc<Self>, dir: &Inode, name: &[u8]) -> Result<bool> {
        let share = self.share(dir.share)?;
        if self.cache.is_listed(dir, self.fresh_since(share)) {
            return Ok(false);
        }
        if self.cache.is_listed(dir, 0) {
            // The old listing answers; a new one is on its way, and tells the kernel if the name came meanwhile.
            self.list_soon(dir, self.fresh_since(share));
            return Ok(false);
        }
        if self.cache.is_worth_listing(dir.ino) {
            self.list_soon(dir, 0);
        }
        let merged = tokio::select! {
            biased;
            merged = self.cache.probe(dir, name) => merged?,
            () = self.clock.sleep(LISTING_DEADLINE) => return Err(CacheError::Deadline.into()),
        };
        self.announce(share.id, merged);
        Ok(true)
    }

    fn fresh_since(&self, share: &Share) -> i64 {
        let age = i64::try_from(share.listing_age_max.as_millis()).unwrap_or(i64::MAX);
        // What was listed before the start may be older than it says: somebody may have wanted to see what is new.
        self.clock.wall().millis().saturating_sub(age).max(self.started)
    }
}
