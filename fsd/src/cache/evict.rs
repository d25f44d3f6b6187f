//! Room: by recency, whole files, and only what the cloud has.

use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::recency::OLD_MAX;
use super::{Cache, CacheError, Result, lock};
use crate::meta::{MetaError, Uploaded};
use crate::types::{FileKind, Ino};

/// How long a writer waits for uploads to make room before it is told that the disk is full.
const ROOM_PATIENCE: Duration = Duration::from_secs(20);
/// The same with nothing to upload: a file that somebody has open may be closed, and then it can go.
const CLOSE_PATIENCE: Duration = Duration::from_secs(1);
const ROOM_POLL: Duration = Duration::from_millis(20);
/// What stays free of the disk in any case: on a full disk no change could be recorded, not even that a file is deleted.
const FREE_BYTES_LEAST: u64 = 16 << 20;
/// While there is much, free disk is measured so often, and between two measures what we write ourselves is counted.
const FREE_AGE_MAX: Duration = Duration::from_millis(100);
const FREE_MARGIN: u64 = 256 << 20;
/// How many files are looked at for one request for room.
const CANDIDATES_MAX: usize = 4096;
/// How fast a writer may be that has all of the room above the high mark before it, and that has nearly none, in bytes a second.
const RATE_FIRST: f64 = 512e6;
const RATE_LAST: f64 = 2e6;

/// What became of a file that was to be evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eviction {
    /// It went, with so many bytes of disk.
    Gone(u64),
    /// Nothing of it was here.
    NotHere,
    /// It stays: somebody has it open.
    Open,
    /// It stays: it is not uploaded, or something waits for it.
    NotUploaded,
    /// It stays: it is pinned.
    Pinned,
}

/// Bytes that were free on the disk at a time when the cache used so many.
#[derive(Clone, Copy, Debug)]
pub(super) struct Free {
    at: Duration,
    used: u64,
    free: u64,
}

impl Cache {
    /// Makes room for `bytes` more, evicting what the cloud has; waits a while for uploads if need be.
    ///
    /// # Errors
    /// [`CacheError::Full`] if there is none: everything here is dirty, open or waits for a hook.
    pub async fn make_room(&self, bytes: u64) -> Result<()> {
        let asked = self.clock.monotonic();
        while !self.evict_for(bytes)? {
            if bytes > self.limits.disk_bytes_max {
                return Err(CacheError::Full);
            }
            let patience = if self.will_have_room()? { ROOM_PATIENCE } else { CLOSE_PATIENCE };
            if self.clock.monotonic().saturating_sub(asked) >= patience {
                return Err(CacheError::Full);
            }
            self.clock.sleep(ROOM_POLL).await;
        }
        Ok(())
    }

    /// Whether anything is under way that makes files evictable: an upload, or a hook's look.
    fn will_have_room(&self) -> Result<bool> {
        Ok(self.meta.scan(|tx| {
            Ok::<_, MetaError>(tx.item_counts(None)?.bytes > 0 || tx.arrival_count()? > 0)
        })?)
    }

    /// Whether `bytes` more fit at once. Cheap enough for every write.
    pub(super) fn has_room(&self, bytes: u64) -> Result<bool> {
        let incoming = self.incoming.load(Ordering::Relaxed);
        let bytes = bytes.saturating_add(incoming);
        if self.used_bytes().saturating_add(bytes) > self.limits.disk_bytes_max {
            return Ok(false);
        }
        let wanted = bytes.saturating_add(self.free_bytes_min());
        // Near the limit it is measured anew.
        Ok(self.free_lately()? >= wanted.saturating_add(FREE_MARGIN) || self.free_now()? >= wanted)
    }

    /// Bytes that must stay free on the disk.
    fn free_bytes_min(&self) -> u64 {
        self.limits.free_bytes_min.max(FREE_BYTES_LEAST)
    }

    /// Bytes free on the disk as they were measured a moment ago, with what was written since.
    fn free_lately(&self) -> Result<u64> {
        let measured = *lock(&self.free);
        let now = self.clock.monotonic();
        match measured.filter(|measured| now.saturating_sub(measured.at) < FREE_AGE_MAX) {
            Some(Free { free, used, .. }) => {
                Ok(free.saturating_sub(self.used_bytes().saturating_sub(used)))
            }
            None => self.free_now(),
        }
    }

    fn free_now(&self) -> Result<u64> {
        let (at, used, free) = (self.clock.monotonic(), self.used_bytes(), self.disk_free()?);
        *lock(&self.free) = Some(Free { at, used, free });
        Ok(free)
    }

    /// The most bytes that the cache can take now: its limit, or what the disk gives if that is less.
    fn most(&self) -> u64 {
        let of_disk = self.free_lately().unwrap_or(0).saturating_sub(self.free_bytes_min());
        self.limits.disk_bytes_max.min(self.used_bytes().saturating_add(of_disk))
    }

    /// Bytes free on the disk below the cache.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn disk_free(&self) -> Result<u64> {
        let disk = nix::sys::statvfs::statvfs(&self.data).map_err(std::io::Error::from)?;
        Ok(disk.blocks_available().saturating_mul(disk.fragment_size()))
    }

    /// Evicts what is beyond the limits, as far as it can go: above the high mark, down to the low one.
    ///
    /// # Errors
    /// If the disk or the metadata store fails.
    pub(crate) fn trim(&self) -> Result<()> {
        let most = self.most();
        let low = part(most, self.limits.low_mark);
        if self.used_bytes() > part(most, self.limits.high_mark) {
            self.evict_until(|| Ok(self.used_bytes() <= low))?;
        }
        self.evict_for(0).map(drop)
    }

    /// How long a writer of `bytes` pauses. Above the high mark room gets scarce, since what can't be evicted is not uploaded: the less
    /// there is, the slower it goes.
    pub(super) fn pause_before(&self, bytes: u64) -> Duration {
        let most = self.most();
        let scarce = self.above_high_mark(most).max(1);
        let left = most.saturating_sub(self.used_bytes());
        if left >= scarce {
            return Duration::ZERO;
        }
        let part = left as f64 / scarce as f64;
        Duration::from_secs_f64(bytes as f64 / (RATE_FIRST * part * part).max(RATE_LAST))
    }

    /// Whether there is room enough that a file may grow without being watched.
    #[must_use]
    pub fn is_roomy(&self) -> bool {
        self.has_room(self.reserved_for_writes()).unwrap_or(false)
    }

    /// Makes room for `bytes` that are read, without waiting; false if there is none.
    pub(super) fn make_room_to_read(&self, bytes: u64) -> Result<bool> {
        self.evict_for(bytes.saturating_add(self.reserved_for_writes()))
    }

    /// Whether `bytes` that are read fit at once.
    pub(super) fn has_room_to_read(&self, bytes: u64) -> Result<bool> {
        self.has_room(bytes.saturating_add(self.reserved_for_writes()))
    }

    /// The most bytes of what is only read that the cache keeps, if nothing else is in it.
    #[must_use]
    pub fn readable_bytes_max(&self) -> u64 {
        let most = self.most();
        most - self.above_high_mark(most)
    }

    fn reserved_for_writes(&self) -> u64 {
        self.above_high_mark(self.most())
    }

    fn above_high_mark(&self, most: u64) -> u64 {
        most - part(most, self.limits.high_mark)
    }

    /// Evicts, the longest unused first, until `bytes` more fit; false if they don't.
    fn evict_for(&self, bytes: u64) -> Result<bool> {
        self.evict_until(|| self.has_room(bytes))
    }

    /// Evicts, the longest unused first, until it is enough; false if it never is. What can't go now is looked at last the next time.
    fn evict_until(&self, is_enough: impl Fn() -> Result<bool>) -> Result<bool> {
        if is_enough()? {
            return Ok(true);
        }
        let candidates = self.longest_unused();
        for (at, &ino) in candidates.iter().enumerate() {
            match self.evict_unused(ino)? {
                Eviction::Gone(_) if is_enough()? => {
                    lock(&self.recency).not_looked_at(&candidates[at + 1..]);
                    return Ok(true);
                }
                Eviction::Gone(_) => {}
                Eviction::NotHere => {
                    self.index.remove_file(ino);
                    lock(&self.recency).forget(ino);
                }
                Eviction::Open | Eviction::NotUploaded | Eviction::Pinned => self.used_now(ino),
            }
        }
        Ok(false)
    }

    /// Candidates for eviction, the longest unused first.
    fn longest_unused(&self) -> Vec<Ino> {
        if lock(&self.recency).wants_old() {
            let is_old = |ino| !lock(&self.recency).is_recent(ino);
            let old = self.index.oldest(OLD_MAX, is_old);
            lock(&self.recency).remember_old(old.into_iter());
        }
        lock(&self.recency).longest_unused(CANDIDATES_MAX)
    }

    /// Evicts `ino` if nobody has it open, the cloud has all of it, and it is not pinned.
    ///
    /// # Errors
    /// If the metadata store fails.
    pub fn evict_unused(&self, ino: Ino) -> Result<Eviction> {
        self.evict_if(ino, false)
    }

    /// The same, also if it is pinned: what is here of it is bad.
    ///
    /// # Errors
    /// If the metadata store fails.
    pub fn evict_bad(&self, ino: Ino) -> Result<Eviction> {
        self.evict_if(ino, true)
    }

    fn evict_if(&self, ino: Ino, pinned_too: bool) -> Result<Eviction> {
        // Whoever opens the file must pass this lock, so what is found here stays true until it is gone.
        let open = lock(&self.open);
        if open.get(&ino).is_some_and(|backing| Weak::strong_count(backing) > 0) {
            return Ok(Eviction::Open);
        }
        let proof = self.meta.read(|tx| -> Result<_> {
            let Some(inode) = tx.inode(ino)? else { return Ok(Err(Eviction::NotHere)) };
            if inode.backing == 0 || inode.attr.kind != FileKind::File {
                return Ok(Err(Eviction::NotHere));
            }
            if !pinned_too && self.pinned_by(tx, &inode)?.is_some() {
                return Ok(Err(Eviction::Pinned));
            }
            Ok(tx.uploaded(ino)?.ok_or(Eviction::NotUploaded))
        })?;
        Ok(match proof {
            Ok(proof) => self.evict(&proof),
            Err(why_not) => why_not,
        })
    }

    fn evict(&self, proof: &Uploaded) -> Eviction {
        tracing::debug!(ino = %proof.ino(), used = self.used_bytes(), "evicted");
        let removed = self.remove(proof.ino(), proof.backing(), None);
        removed.map_or(Eviction::NotHere, Eviction::Gone)
    }
}

fn part(bytes: u64, percent: u8) -> u64 {
    bytes / 100 * u64::from(percent.min(100))
}
