//! Looking at cached blocks again: disks forget silently.

use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use bytes::Bytes;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use super::backing::Base;
use super::index::FileRecord;
use super::present::{BLOCK_BYTES, blocks_of, bytes_of};
use super::sums::sum_of;
use super::{Backing, Cache, CacheError, Result};
use crate::meta::Inode;

/// What became of a look at some blocks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Bytes that were read.
    pub bytes: u64,
    /// Blocks that are not what they were, or can't be read.
    pub bad: Vec<u64>,
}

impl Cache {
    /// Looks at up to `count` blocks of `backing` from `first` on, those that are here. A block whose checksum is not known gets it;
    /// `each` is shown what was read. The caller makes sure that `inode` is what the cloud has, before and after.
    pub fn check_blocks(
        &self,
        backing: &Backing,
        inode: &Inode,
        first: u64,
        count: u64,
        mut each: impl FnMut(&[u8]),
    ) -> Checked {
        let all = blocks_of(&(0..inode.attr.size));
        let mut checked = Checked::default();
        let mut buffer = vec![0; usize::try_from(BLOCK_BYTES).unwrap_or(0)];
        for block in first..all.end.min(first.saturating_add(count)) {
            let bytes = bytes_of(&(block..block + 1));
            let bytes = bytes.start..bytes.end.min(inode.attr.size);
            if !backing.has(&bytes) {
                continue;
            }
            // Of pages in memory the disk is not asked.
            let (at, length) = (bytes.start.cast_signed(), (bytes.end - bytes.start).cast_signed());
            let dropped = PosixFadviseAdvice::POSIX_FADV_DONTNEED;
            if let Err(error) = posix_fadvise(backing.file().as_fd(), at, length, dropped) {
                tracing::debug!(%error, "what is checked may come from memory");
            }
            let part = &mut buffer[..usize::try_from(bytes.end - bytes.start).unwrap_or(0)];
            let read = backing.read_at(part, bytes.start);
            checked.bytes += bytes.end - bytes.start;
            let whole = read.is_ok_and(|count| count == part.len());
            each(part);
            let mut state = backing.state();
            match (whole, state.sums.get(inode.content, block)) {
                (true, Some(sum)) if sum == sum_of(part) => {}
                (true, None) => state.sums.add(inode.content, block, sum_of(part)),
                (true, Some(_)) | (false, _) => checked.bad.push(block),
            }
        }
        checked
    }

    /// Notes the checksums of a file that was looked at.
    pub fn keep_sums(&self, backing: &Backing) {
        // Without a record it is not noted yet what is here; then they are noted with that.
        if let Some(record) = self.index.file(backing.ino).filter(|r| r.backing == backing.number) {
            let sums = backing.state().sums.clone();
            self.index.put_file(backing.ino, &FileRecord { sums, ..record });
        }
    }

    /// What the cloud has of a block of `inode` that is bad here.
    ///
    /// # Errors
    /// If it can't be fetched.
    pub async fn fetch_block(&self, inode: &Inode, block: u64) -> Result<Bytes> {
        let base = Base::of(inode).ok_or(CacheError::Lost(inode.ino))?;
        let bytes = bytes_of(&(block..block + 1));
        self.get(inode.ino, &base, bytes.start..bytes.end.min(inode.attr.size)).await
    }

    /// Puts what the cloud has in the place of a bad block. The caller makes sure that nobody writes the file, and syncs it.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn mend_block(
        &self,
        backing: &Backing,
        inode: &Inode,
        block: u64,
        data: &[u8],
    ) -> Result<()> {
        backing.file.write_all_at(data, block * BLOCK_BYTES)?;
        backing.state().sums.add(inode.content, block, sum_of(data));
        Ok(())
    }
}
