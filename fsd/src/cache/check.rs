//! Whether what is noted of files fits what is on the disk and in the cloud.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use futures::{StreamExt as _, stream};

use super::merge::{Answer, Doubt};
use super::names::{HEADS_AT_ONCE, Seen};
use super::present::Presence;
use super::{Cache, Eviction, Result, backing, lock, scan};
use crate::meta::{Inode, MetaError};
use crate::types::{Ino, Key, ShareId};

/// Where objects stand aside.
const ASIDE: &str = ".fsd/moving/";

/// What is wrong with a backing file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackingTrouble {
    /// It is not there.
    Missing,
    /// It has another length than it must have.
    Length {
        /// What it has.
        here: u64,
    },
    /// What is noted of its blocks can't be read.
    Map,
}

/// A backing file that belongs to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stray {
    /// Where it is.
    pub path: PathBuf,
    /// What it takes.
    pub bytes: u64,
}

/// An inode whose record is not what the cloud has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stale {
    /// The inode, as it is recorded.
    pub inode: Inode,
    /// There is no such object; else it is another version.
    pub gone: bool,
}

impl Cache {
    /// What is wrong with what is here of `inode`, if anything is. `precious`: nobody else has it, and its presence map, if it has one.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn backing_trouble(
        &self,
        inode: &Inode,
        precious: Option<Option<Vec<u8>>>,
    ) -> Result<Option<BackingTrouble>> {
        if lock(&self.open).get(&inode.ino).is_some_and(|open| open.strong_count() > 0) {
            return Ok(None);
        }
        let (is_precious, map) = match precious {
            Some(map) => (true, map),
            None => match self.index.file(inode.ino).filter(|r| r.backing == inode.backing) {
                Some(record) => (false, Some(record.blocks).filter(|blocks| !blocks.is_empty())),
                None => return Ok(None),
            },
        };
        let here = match std::fs::metadata(self.path(inode.ino, inode.backing)) {
            Ok(file) => file.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Some(BackingTrouble::Missing));
            }
            Err(error) => return Err(error.into()),
        };
        let fits = if is_precious { here >= inode.attr.size } else { here == inode.attr.size };
        let is_read = map.is_none_or(|map| Presence::decode(&map).is_some());
        Ok(match (fits, is_read) {
            (false, _) => Some(BackingTrouble::Length { here }),
            (true, false) => Some(BackingTrouble::Map),
            (true, true) => None,
        })
    }

    /// Forgets what is here of a file that the cloud has; whether it could.
    ///
    /// # Errors
    /// If the metadata store fails.
    pub fn drop_cached(&self, ino: Ino) -> Result<bool> {
        Ok(match self.evict_bad(ino)? {
            Eviction::Gone(_) => true,
            Eviction::NotHere => {
                self.index.remove_file(ino);
                true
            }
            Eviction::Open | Eviction::NotUploaded | Eviction::Pinned => false,
        })
    }

    /// Backing files that no inode has.
    ///
    /// # Errors
    /// If the disk or the metadata store fails.
    pub fn strays(&self) -> Result<Vec<Stray>> {
        let mut strays = Vec::new();
        scan::each_file(&self.data, |file| -> Result<()> {
            if !self.belongs(&file.file_name())? {
                let path = file.path();
                let bytes = scan::allocated_at(&path).unwrap_or(0); // it may be gone by now
                strays.push(Stray { path, bytes });
            }
            Ok(())
        })?;
        Ok(strays)
    }

    /// Moves a stray out of the way, to where nobody removes it; whether it still was one.
    ///
    /// # Errors
    /// If the disk or the metadata store fails.
    pub fn move_stray_away(&self, stray: &Stray) -> Result<bool> {
        let Some(name) = stray.path.file_name() else { return Ok(false) };
        if self.belongs(name)? {
            return Ok(false);
        }
        let aside = scan::lost_and_found(&self.data, self.clock.wall().millis());
        std::fs::create_dir_all(&aside)?;
        std::fs::rename(&stray.path, aside.join(name))?;
        Ok(true)
    }

    fn belongs(&self, name: &std::ffi::OsStr) -> Result<bool> {
        let Some((ino, number)) = name.to_str().and_then(backing::parse_name) else {
            return Ok(false);
        };
        if lock(&self.open).get(&ino).is_some_and(|open| open.strong_count() > 0) {
            return Ok(true);
        }
        let inode = self.meta.read(|tx| tx.inode(ino))?;
        Ok(inode.is_some_and(|inode| inode.backing == number))
    }

    /// By how many bytes the count of what backing files take is wrong.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn miscounted(&self) -> Result<i64> {
        let before = self.used_bytes();
        let mut bytes = 0;
        scan::each_file(&self.data, |file| -> io::Result<()> {
            bytes += scan::allocated_at(&file.path()).unwrap_or(0); // it may be gone by now
            Ok(())
        })?;
        Ok(before.cast_signed() - bytes.cast_signed())
    }

    /// Takes what [`Cache::miscounted`] found from the count.
    pub fn count_again(&self, wrong: i64) {
        if wrong < 0 {
            self.used.fetch_add(wrong.unsigned_abs(), Ordering::Relaxed);
        } else {
            self.sub_used(wrong.unsigned_abs());
        }
    }

    /// Says that the names of `dir` are to be asked for anew, since one was lost.
    pub fn unlist(&self, dir: Ino) {
        self.index.set_listed(dir, None);
    }

    /// Names in `dir` whose record is not what the cloud has, though nothing waits to be uploaded. Nothing is changed.
    ///
    /// # Errors
    /// If the cloud does not answer.
    pub async fn compare(&self, dir: &Inode) -> Result<Vec<Stale>> {
        let (Some(store), Some(object)) = (self.stores.get(&dir.share), &dir.object) else {
            return Ok(Vec::new());
        };
        let youngest = self.meta.read(|tx| tx.youngest_inode())?;
        let (prefix, mut seen) = (&object.key, Seen::default());
        let mut stale = Vec::new();
        // Of a directory that was never listed only single names are known.
        let mut more = self.is_listed(dir, 0);
        let mut next = None;
        while more {
            let page = store.remote.list(prefix, next.as_ref()).await?;
            page.prefixes.iter().for_each(|key| seen.add(key));
            let doubts = self.meta.scan(|tx| -> Result<_, MetaError> {
                let mut doubts = Vec::new();
                for object in &page.objects {
                    seen.add(&object.key);
                    let known = tx.inode_by_key(dir.share, &object.key)?;
                    let Some(Inode { ino, object: Some(record), .. }) = known else { continue };
                    if record.etag.as_ref() != Some(&object.etag) && !object.key.is_dir() {
                        doubts.push(Doubt { ino, object: record, unseen: false });
                    }
                }
                Ok(doubts)
            })?;
            self.confirm(doubts, &mut stale).await?;
            next = page.next;
            more = next.is_some();
        }
        let mut at = Some(0);
        while let Some(behind) = at {
            let (missing, last) = self.missing(dir.ino, youngest, behind, prefix, &seen)?;
            self.confirm(missing, &mut stale).await?;
            at = last;
        }
        Ok(stale)
    }

    /// Adds those of `doubts` to `stale` that the cloud confirms, and whose record still is what was doubted.
    async fn confirm(&self, doubts: Vec<Doubt>, stale: &mut Vec<Stale>) -> Result<()> {
        let mut answers =
            stream::iter(doubts).map(|doubt| self.ask(doubt)).buffer_unordered(HEADS_AT_ONCE);
        while let Some(answer) = answers.next().await {
            let Some(Answer { doubt, object, has_more, .. }) = answer? else { continue };
            let (ino, recorded, gone) = (doubt.ino, doubt.object, object.is_none());
            let is_same = object.is_some_and(|there| Some(there.etag) == recorded.etag);
            // A directory without a marker is no object.
            if is_same || has_more || gone && recorded.etag.is_none() {
                continue;
            }
            let inode = self.meta.read(|tx| -> Result<_, MetaError> {
                let waits = tx.item(ino)?.is_some() || tx.is_writing(tx.file_of(ino)?)?;
                Ok(tx.inode(ino)?.filter(|now| !waits && now.object.as_ref() == Some(&recorded)))
            })?;
            stale.extend(inode.map(|inode| Stale { inode, gone }));
        }
        Ok(())
    }

    /// Objects of `share` that stand aside while others move.
    ///
    /// # Errors
    /// If the cloud does not answer.
    pub async fn aside(&self, share: ShareId) -> Result<Vec<Key>> {
        let Some(store) = self.stores.get(&share) else { return Ok(Vec::new()) };
        let mut keys = Vec::new();
        let mut next = None;
        loop {
            let page = store.remote.list(&Key::from_raw(ASIDE), next.as_ref()).await?;
            keys.extend(page.objects.into_iter().map(|object| object.key));
            next = page.next;
            if next.is_none() {
                return Ok(keys);
            }
        }
    }
}
