//! Content on its way up: in one piece, or in parts that are recorded as they are finished.

use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use super::bodies::{Bodies, Room};
use super::error::SyncError;
use super::plan::Subject;
use crate::cache::{Backing, Cache, CacheError, Rest};
use crate::meta::{FinishedParts, Meta, MetaError, Multipart, Stamp};
use crate::remote::{Condition, Limits, PartId, RemoteError, RemoteRef, UploadId};
use crate::types::{ETag, Ino, Key, Metadata, Time};

/// A file up to this length goes up in one piece.
const PIECE_BYTES_MAX: u64 = 8 << 20;
const PARTS_AT_ONCE: usize = 4;
/// Bodies in memory, over all uploads.
pub(super) const MEMORY_KIB_MAX: u32 = 32 << 10;
const _: () = assert!(PARTS_AT_ONCE as u64 * PIECE_BYTES_MAX <= MEMORY_KIB_MAX as u64 * 1024);

/// One version of a file, with the means to tell whether it still is that version.
#[derive(Debug)]
pub(super) struct Version {
    cache: Arc<Cache>,
    backing: Arc<Backing>,
    meta: Arc<Meta>,
    /// Whose object it becomes: the file, or an alias of it.
    ino: Ino,
    file: Ino,
    content: u64,
    size: u64,
    /// None if some of it is still to be fetched, which changes the backing file's times.
    stamp: Option<Stamp>,
}

impl Version {
    /// The version that `subject` tells of.
    pub(super) fn open(
        cache: &Arc<Cache>,
        meta: &Arc<Meta>,
        subject: &Subject,
    ) -> Result<Self, SyncError> {
        let Subject { inode, file, .. } = subject;
        let backing = cache.backing(*file)?;
        let stamp = stamp(&backing)?;
        if let Some(published) = meta.read(|tx| tx.writing(*file))? {
            // Somebody has it open for writing. Only what cannot change without a trace may go.
            match cache.rests(&backing, &published).map_err(CacheError::from)? {
                Rest::Still => {}
                Rest::Young => return Err(SyncError::Changed),
                Rest::Changed => {
                    let file = *file;
                    meta.write(move |tx| tx.unpublish(file))?;
                    return Err(SyncError::Changed);
                }
            }
        }
        if stamp.size != inode.attr.size {
            return Err(SyncError::Changed);
        }
        Ok(Self {
            cache: cache.clone(),
            meta: meta.clone(),
            ino: inode.ino,
            file: *file,
            content: inode.content,
            size: stamp.size,
            stamp: backing.is_whole().then_some(stamp),
            backing,
        })
    }

    pub(super) fn backing(&self) -> &Backing {
        &self.backing
    }

    /// Fails if what was read since [`Version::open`] may not be of one version.
    fn check(&self) -> Result<(), SyncError> {
        let same = self.meta.read(|tx| -> Result<bool, MetaError> {
            let same = tx.inode(self.file)?.is_some_and(|inode| inode.content == self.content);
            Ok(same && !tx.is_unpublished(self.file)?)
        })?;
        let same_bytes = match self.stamp {
            Some(before) => stamp(&self.backing)? == before,
            None => true,
        };
        if same && same_bytes { Ok(()) } else { Err(SyncError::Changed) }
    }

    /// Bytes of this version; what is not here comes from the cloud, of the version that was changed.
    async fn read(&self, offset: u64, length: u64, room: &Room<'_>) -> Result<Bytes, SyncError> {
        let here = self.stamp.and_then(|_| self.read_here(offset, length, room).ok());
        let data = match here {
            Some(data) => data,
            None => {
                let end = offset + length;
                self.cache.read(&self.backing, end..end, offset..end).await?.into()
            }
        };
        self.check()?;
        if data.len() as u64 == length { Ok(data) } else { Err(SyncError::Changed) }
    }

    /// Notes what is here by now of a file that was not all here. Once the cloud has this version, or somebody else's, the one that the
    /// rest came from is gone.
    fn keep(&self) -> Result<(), SyncError> {
        if self.stamp.is_some() {
            return Ok(());
        }
        self.backing.file().sync_data().map_err(CacheError::from)?;
        let (file, backing) = (self.file, self.backing.clone());
        let noted = self.meta.write(move |tx| -> Result<_, MetaError> {
            if tx.presence(file)?.is_none() {
                return Ok(None);
            }
            let (map, noted) = backing.presence();
            tx.set_presence(file, map.as_deref())?;
            Ok(Some(noted))
        })?;
        if let Some(noted) = noted {
            self.backing.noted(noted);
        }
        Ok(())
    }

    /// The same of a file that is all here.
    fn read_here(&self, offset: u64, length: u64, room: &Room<'_>) -> io::Result<Bytes> {
        let length = usize::try_from(length).map_err(io::Error::other)?;
        room.body(length, |buffer| self.backing.file().read_exact_at(buffer, offset))
    }
}

fn stamp(backing: &Backing) -> Result<Stamp, SyncError> {
    Ok(backing.stamp(Time { secs: i64::MAX, nanos: 0 }).map_err(CacheError::from)?)
}

/// Uploads `version` to `key`.
pub(super) async fn upload(
    bodies: &Bodies,
    remote: &RemoteRef,
    version: &Version,
    key: &Key,
    metadata: &Metadata,
    condition: &Condition,
) -> Result<ETag, SyncError> {
    if version.size <= PIECE_BYTES_MAX.min(remote.limits().put_bytes_max) {
        let room = bodies.room(version.size).await;
        let body = version.read(0, version.size, &room).await?;
        version.keep()?;
        return Ok(remote.put(key, body, metadata, condition).await?);
    }
    match upload_parts(bodies, remote, version, key, metadata, condition).await {
        // The store has forgotten the upload: begin anew at the next try.
        Err(SyncError::Remote(RemoteError::NotFound { .. })) => {
            let ino = version.ino;
            version.meta.write(move |tx| tx.end_multipart(ino))?;
            Err(SyncError::Changed)
        }
        sent => sent,
    }
}

async fn upload_parts(
    bodies: &Bodies,
    remote: &RemoteRef,
    version: &Version,
    key: &Key,
    metadata: &Metadata,
    condition: &Condition,
) -> Result<ETag, SyncError> {
    let (multipart, finished) = begin(remote, version, key, metadata).await?;
    let id = UploadId(multipart.upload.clone());
    let count = u32::try_from(version.size.div_ceil(multipart.part_bytes)).unwrap_or(u32::MAX);
    let mut parts: Vec<Option<PartId>> = (0..count).map(|_| None).collect();
    for (number, part) in finished {
        if let Some(slot) = parts.get_mut(number as usize) {
            *slot = Some(PartId(part));
        }
    }
    let missing: Vec<u32> = (0..count).filter(|&n| parts[n as usize].is_none()).collect();
    let sent: Vec<(u32, PartId)> = stream::iter(missing)
        .map(|number| send_part(bodies, remote, version, key, &id, &multipart, number))
        .buffer_unordered(PARTS_AT_ONCE)
        .try_collect()
        .await?;
    for (number, part) in sent {
        parts[number as usize] = Some(part);
    }
    let parts: Vec<PartId> = parts.into_iter().flatten().collect();
    Ok(remote.multipart_complete(key, &id, &parts, metadata, condition).await?)
}

async fn send_part(
    bodies: &Bodies,
    remote: &RemoteRef,
    version: &Version,
    key: &Key,
    id: &UploadId,
    multipart: &Multipart,
    number: u32,
) -> Result<(u32, PartId), SyncError> {
    let offset = u64::from(number) * multipart.part_bytes;
    let length = multipart.part_bytes.min(version.size - offset);
    let room = bodies.room(length).await;
    let body = version.read(offset, length, &room).await?;
    version.keep()?;
    let part = remote.multipart_put(key, id, number, body).await?;
    let (ino, name) = (version.ino, part.0.clone());
    version.meta.write(move |tx| tx.add_part(ino, number, &name))?;
    Ok((number, part))
}

/// The upload that was begun for this very version, or a new one.
async fn begin(
    remote: &RemoteRef,
    version: &Version,
    key: &Key,
    metadata: &Metadata,
) -> Result<(Multipart, FinishedParts), SyncError> {
    let (ino, inode) =
        (version.ino, version.meta.read(|tx| tx.inode(version.ino))?.ok_or(SyncError::Changed)?);
    if let Some((old, parts)) = version.meta.read(|tx| tx.multipart(ino))? {
        if old.key == *key && old.content == version.content && old.size == version.size {
            return Ok((old, parts));
        }
        remote.multipart_abort(&old.key, &UploadId(old.upload)).await?;
    }
    let id = remote.multipart_create(key, metadata).await?;
    let multipart = Multipart {
        ino,
        share: inode.share,
        key: key.clone(),
        upload: id.0,
        content: version.content,
        size: version.size,
        part_bytes: part_bytes(version.size, &remote.limits()),
    };
    let record = multipart.clone();
    version.meta.write(move |tx| tx.begin_multipart(&record))?;
    Ok((multipart, Vec::new()))
}

/// Parts grow with the file, so that their number stays within what the store takes.
fn part_bytes(size: u64, limits: &Limits) -> u64 {
    let least = size.div_ceil(u64::from(limits.parts_max).max(1)).next_multiple_of(1 << 20);
    PIECE_BYTES_MAX.max(limits.part_bytes_min).max(least)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_grow_so_that_five_terabytes_fit() {
        let limits = Limits { put_bytes_max: 5 << 30, part_bytes_min: 5 << 20, parts_max: 10_000 };
        assert_eq!(part_bytes(10 << 20, &limits), PIECE_BYTES_MAX);
        let huge: u64 = 5 << 40;
        assert!(huge.div_ceil(part_bytes(huge, &limits)) <= 10_000);
        assert!(part_bytes(huge, &limits) <= 5 << 30);
    }
}
