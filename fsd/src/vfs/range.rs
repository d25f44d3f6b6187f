//! Ranges of open files: fallocate, copy_file_range, lseek to data and holes.

use std::sync::Arc;

use nix::fcntl::{FallocateFlags, copy_file_range, fallocate};
use nix::unistd::{Whence, lseek};

use super::handle::size_of;
use super::{HandleId, Result, Vfs, VfsError};

/// One copy moves at most so much, so that nobody waits long: the caller goes on behind it.
const COPY_BYTES_MAX: u64 = 64 << 20;

/// What to look for in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seek {
    /// The next byte that may be other than zero.
    Data,
    /// The next hole; the end of the file is one.
    Hole,
}

impl Vfs {
    /// Allocates, zeroes or punches a range, as `mode` says: see fallocate(2). What is only in the cloud of the
    /// file is fetched first.
    ///
    /// # Errors
    /// [`VfsError::Unsupported`] for what the local disk can't do; if there is no room, or something can't be fetched.
    pub async fn allocate(
        self: &Arc<Self>,
        id: HandleId,
        mode: i32,
        offset: u64,
        length: u64,
    ) -> Result<()> {
        let handle = self.writer(id)?;
        let flags = FallocateFlags::from_bits(mode)
            .ok_or(VfsError::Unsupported("this mode of fallocate"))?;
        if !flags.contains(FallocateFlags::FALLOC_FL_PUNCH_HOLE) {
            self.cache.make_room(length).await?;
        }
        let keeps_size = FallocateFlags::FALLOC_FL_KEEP_SIZE | FallocateFlags::FALLOC_FL_PUNCH_HOLE;
        if !flags.intersects(keeps_size) {
            self.grow(handle.ino, offset.saturating_add(length))?;
        }
        self.cache.ensure(&handle.backing, 0..size_of(&handle.backing)?).await?;
        self.save_presence(&handle)?;
        let allocated = fallocate(handle.backing.file(), flags, signed(offset)?, signed(length)?);
        self.cache.account(&handle.backing)?;
        match allocated {
            Err(nix::Error::EOPNOTSUPP) => Err(VfsError::Unsupported("this mode of fallocate")),
            allocated => Ok(allocated.map_err(std::io::Error::from)?),
        }
    }

    /// Copies bytes from one open file to another without a way through the caller, shared where the disk can; returns how many, which
    /// may be fewer than asked for.
    ///
    /// # Errors
    /// As [`Vfs::read`] and [`Vfs::write`].
    pub async fn copy_range(
        self: &Arc<Self>,
        (from, offset_from): (HandleId, u64),
        (to, offset_to): (HandleId, u64),
        length: u64,
    ) -> Result<u32> {
        let source = self.handles.get(from).ok_or(VfsError::BadHandle)?;
        let target = self.writer(to)?;
        let end = size_of(&source.backing)?;
        let length = length.min(COPY_BYTES_MAX).min(end.saturating_sub(offset_from));
        self.grow(target.ino, offset_to.saturating_add(length))?;
        self.cache.make_room(length).await?;
        self.cache.ensure(&source.backing, offset_from..offset_from + length).await?;
        self.cache.ensure(&target.backing, 0..size_of(&target.backing)?).await?;
        self.save_presence(&target)?;
        let (mut offset_from, mut offset_to) = (signed(offset_from)?, signed(offset_to)?);
        let length = usize::try_from(length).unwrap_or(0);
        let (vfs, tasks) = (self.clone(), self.tasks.clone());
        let copied = tasks.blocking(move || -> Result<usize> {
            let mut copied = 0;
            while copied < length {
                let (source, target) = (source.backing.file(), target.backing.file());
                let left = length - copied;
                match copy_file_range(
                    source,
                    Some(&mut offset_from),
                    target,
                    Some(&mut offset_to),
                    left,
                ) {
                    Ok(0) => break,
                    Ok(count) => copied += count,
                    Err(_) if copied > 0 => break,
                    Err(error) => return Err(std::io::Error::from(error).into()),
                }
            }
            vfs.cache.account(&target.backing)?;
            Ok(copied)
        });
        Ok(u32::try_from(copied.await.map_err(VfsError::from)??).unwrap_or(u32::MAX))
    }

    /// Where the next data or hole is at or behind `offset`. Of a file that is only partly here nothing is known: all of it is data.
    ///
    /// # Errors
    /// [`VfsError::NoData`] behind the last data, or the end.
    pub fn seek(&self, id: HandleId, offset: u64, seek: Seek) -> Result<u64> {
        let handle = self.handles.get(id).ok_or(VfsError::BadHandle)?;
        let size = size_of(&handle.backing)?;
        if offset >= size {
            return Err(VfsError::NoData);
        }
        let whence = match (handle.backing.is_whole(), seek) {
            (false, Seek::Data) => return Ok(offset),
            (false, Seek::Hole) => return Ok(size),
            (true, Seek::Data) => Whence::SeekData,
            (true, Seek::Hole) => Whence::SeekHole,
        };
        // Nobody else uses the descriptor's own place.
        match lseek(handle.backing.file(), signed(offset)?, whence) {
            Ok(found) => Ok(found.unsigned_abs()),
            Err(nix::Error::ENXIO) => Err(VfsError::NoData),
            Err(error) => Err(std::io::Error::from(error).into()),
        }
    }
}

fn signed(offset: u64) -> Result<i64> {
    i64::try_from(offset).map_err(|_| VfsError::Invalid("the offset is beyond all files"))
}
