//! Content on its way up: in one piece, or in parts that are recorded as they are finished.

use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use super::bodies::{Bodies, Room};
use super::error::SyncError;
use super::plan::Subject;
use crate::cache::{Backing, Cache, CacheError, Rest};
use crate::meta::{Meta, MetaError, Multipart, ObjectRecord, Part, Stamp};
use crate::remote::{Body, Condition, Limits, PartId, RemoteError, RemoteRef, Source, UploadId};
use crate::types::{Digest, ETag, Ino, Key, Metadata, Time};

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
        self.note(false)
    }

    /// As [`Version::keep`], also of a file that the cloud has and that is sent for its attributes: should somebody else replace that
    /// now, it must be known that not all of ours is here.
    fn note_what_is_here(&self) -> Result<(), SyncError> {
        self.note(true)
    }

    fn note(&self, always: bool) -> Result<(), SyncError> {
        if self.stamp.is_some() {
            return Ok(());
        }
        self.backing.file().sync_data().map_err(CacheError::from)?;
        let (file, backing) = (self.file, self.backing.clone());
        let noted = self.meta.write(move |tx| -> Result<_, MetaError> {
            if !always && tx.presence(file)?.is_none() {
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

    /// What the cloud has of it before; nothing of use if it is a further name of a file, whose bytes come from elsewhere.
    fn before(&self) -> Result<Option<Before>, MetaError> {
        let (ino, file) = (self.ino, self.file);
        self.meta.read(|tx| {
            let object = tx.inode(ino)?.filter(|_| ino == file).and_then(|inode| inode.object);
            let Some(ObjectRecord { key, etag: Some(etag), digest, .. }) = object else {
                return Ok(None);
            };
            let part_bytes = digest.and_then(|digest| digest.part_bytes).unwrap_or(0);
            Ok(Some(Before { key, etag, parts: tx.object_parts(ino)?, part_bytes }))
        })
    }

    /// Whether nothing of `range` is here: all of it is what the cloud has.
    fn is_elsewhere(&self, range: &Range<u64>) -> bool {
        self.stamp.is_none() && self.backing.is_elsewhere(range)
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

/// What came of an upload.
#[derive(Debug)]
pub(super) struct Sent {
    /// What the store said to the request that made the object; if it was lost, the object may be there.
    pub(super) answer: Result<ETag, RemoteError>,
    /// What was sent, as far as that is known.
    pub(super) digest: Option<Digest>,
}

/// An upload of one version of a file.
#[derive(Debug)]
pub(super) struct Upload<'a> {
    pub(super) bodies: &'a Bodies,
    pub(super) remote: &'a RemoteRef,
    pub(super) version: &'a Version,
    /// Where to.
    pub(super) key: &'a Key,
    /// All of it but the digest.
    pub(super) metadata: Metadata,
    pub(super) condition: &'a Condition,
}

impl Upload<'_> {
    /// Sends it.
    ///
    /// # Cancel safety
    /// Parts that are finished are recorded, and count at the next try.
    pub(super) async fn run(mut self) -> Result<Sent, SyncError> {
        let Self { bodies, remote, version, key, condition, .. } = self;
        if version.size <= PIECE_BYTES_MAX.min(remote.limits().put_bytes_max) {
            let room = bodies.room(version.size).await;
            let body = Body::from(version.read(0, version.size, &room).await?);
            version.keep()?;
            let digest = Digest::whole(body.sha256());
            digest.write(&mut self.metadata);
            let answer = remote.put(key, body, &self.metadata, condition).await;
            return Ok(Sent { answer, digest: Some(digest) });
        }
        let before = version.before()?;
        version.note_what_is_here()?;
        match self.send_parts(before.as_ref()).await {
            // The store has forgotten the upload: begin anew at the next try.
            Err(SyncError::Remote(RemoteError::NotFound { .. })) => self.give_up(),
            Ok(Sent { answer: Err(RemoteError::NotFound { .. }), .. }) => self.give_up(),
            // Perhaps it does not have the parts any more that we thought it had.
            Ok(Sent { answer: Err(error @ RemoteError::Rejected { .. }), .. })
                if before.is_some_and(|before| !before.parts.is_empty()) =>
            {
                tracing::warn!(%key, error = &error as &dyn std::error::Error, "the store does not take parts again that it had: all are sent");
                self.give_up()
            }
            sent => sent,
        }
    }

    /// Lets the next try begin anew, and send all parts.
    fn give_up(&self) -> Result<Sent, SyncError> {
        let ino = self.version.ino;
        self.version.meta.write(move |tx| -> Result<(), MetaError> {
            tx.forget_object_parts(ino)?;
            tx.abandon_multipart(ino)
        })?;
        Err(SyncError::Changed)
    }

    async fn send_parts(&mut self, before: Option<&Before>) -> Result<Sent, SyncError> {
        let (part_bytes, id, finished) = self.begin().await?;
        let size = self.version.size;
        let count = u32::try_from(size.div_ceil(part_bytes)).unwrap_or(u32::MAX);
        let mut parts: Vec<Option<Part>> = (0..count).map(|_| None).collect();
        for part in finished {
            if let Some(slot) = parts.get_mut(part.number as usize) {
                *slot = Some(part);
            }
        }
        let missing: Vec<u32> = (0..count).filter(|&n| parts[n as usize].is_none()).collect();
        let this = &*self;
        let sent: Vec<Part> = stream::iter(missing)
            .map(|number| {
                let start = u64::from(number) * part_bytes;
                this.send_part(&id, number, start..size.min(start + part_bytes), before)
            })
            .buffer_unordered(PARTS_AT_ONCE)
            .try_collect()
            .await?;
        for part in sent {
            let place = part.number as usize;
            parts[place] = Some(part);
        }
        let parts: Vec<Part> = parts.into_iter().flatten().collect();
        let sums: Option<Vec<_>> = parts.iter().map(|part| part.digest).collect();
        let digest = sums.map(|sums| Digest::of_parts(sums, part_bytes));
        digest.iter().for_each(|digest| digest.write(&mut self.metadata));
        let ids: Vec<PartId> = parts.into_iter().map(|part| PartId(part.id)).collect();
        let Self { remote, key, condition, metadata, .. } = self;
        let answer = remote.multipart_complete(key, &id, &ids, metadata, condition).await;
        Ok(Sent { answer, digest })
    }

    /// Sends a part, unless the store has it already.
    async fn send_part(
        &self,
        id: &UploadId,
        number: u32,
        range: Range<u64>,
        before: Option<&Before>,
    ) -> Result<Part, SyncError> {
        let Self { bodies, remote, version, key, .. } = self;
        let unread = before.filter(|_| version.is_elsewhere(&range));
        if let Some(before) = unread {
            version.check()?;
            let source = before.source(number, range.clone());
            if let Some(part) = self.copy_part(id, number, &source).await? {
                return self.finished(id, part);
            }
        }
        let length = range.end - range.start;
        let room = bodies.room(length).await;
        let body = Body::from(version.read(range.start, length, &room).await?);
        version.keep()?;
        if unread.is_none()
            && let Some(source) = before.map(|before| before.source(number, range))
            && source.sha256 == Some(body.sha256())
            && let Some(part) = self.copy_part(id, number, &source).await?
        {
            return self.finished(id, part);
        }
        let digest = Some(body.sha256());
        let part = remote.multipart_put(key, id, number, body).await?;
        self.finished(id, Part { number, id: part.0, digest })
    }

    /// Has the store take a part from the version before; none if it can't, so that it has to be sent.
    async fn copy_part(
        &self,
        id: &UploadId,
        number: u32,
        source: &Source,
    ) -> Result<Option<Part>, SyncError> {
        match self.remote.multipart_copy(self.key, id, number, source).await {
            Ok(part) => Ok(Some(Part { number, id: part.0, digest: source.sha256 })),
            // Where it was to come from is not what is to be replaced: that is no conflict.
            Err(RemoteError::Precondition { .. }) if source.key != *self.key => Ok(None),
            Err(
                RemoteError::NotFound { .. }
                | RemoteError::Unsupported { .. }
                | RemoteError::Occupied { .. }
                | RemoteError::Damaged { .. }
                | RemoteError::Rejected { .. },
            ) => Ok(None),
            Err(
                error @ (RemoteError::Precondition { .. }
                | RemoteError::Unreachable { .. }
                | RemoteError::Denied { .. }
                | RemoteError::NoContainer { .. }),
            ) => Err(error.into()),
        }
    }

    fn finished(&self, upload: &UploadId, part: Part) -> Result<Part, SyncError> {
        let (ino, upload, record) = (self.version.ino, upload.0.clone(), part.clone());
        self.version.meta.write(move |tx| tx.add_part(ino, &upload, &record))?;
        Ok(part)
    }

    /// The upload that was begun for this very version, or a new one: how long its parts are, its name, and parts that are finished.
    async fn begin(&self) -> Result<(u64, UploadId, Vec<Part>), SyncError> {
        let Self { remote, version, key, metadata, .. } = self;
        let ino = version.ino;
        let (inode, old) = version
            .meta
            .read(|tx| -> Result<_, MetaError> { Ok((tx.inode(ino)?, tx.multipart(ino)?)) })?;
        if let Some((old, parts)) = old
            && (&old.key, old.content, old.size) == (*key, version.content, version.size)
        {
            return Ok((old.part_bytes, UploadId(old.upload), parts));
        }
        let share = inode.ok_or(SyncError::Changed)?.share;
        let part_bytes = part_bytes(version.size, &remote.limits());
        // If the answer is lost, nobody knows the upload's name: it never gets a part, and costs nothing.
        let id = remote.multipart_create(key, metadata).await?;
        let multipart = Multipart {
            ino,
            share,
            key: (*key).clone(),
            upload: id.0.clone(),
            content: version.content,
            size: version.size,
            part_bytes,
        };
        version.meta.write(move |tx| tx.begin_multipart(&multipart))?;
        Ok((part_bytes, id, Vec::new()))
    }
}

/// What the cloud has of a file before an upload.
#[derive(Debug)]
struct Before {
    key: Key,
    etag: ETag,
    /// Of what parts it was made, if that is known.
    parts: Vec<Part>,
    part_bytes: u64,
}

impl Before {
    /// What it has in `range`, which is to be part `number`.
    fn source(&self, number: u32, range: Range<u64>) -> Source {
        let is_it = |part: &&Part| {
            part.number == number && u64::from(number) * self.part_bytes == range.start
        };
        let part = self.parts.iter().find(is_it);
        Source {
            key: self.key.clone(),
            etag: self.etag.clone(),
            range,
            part: part.map(|part| PartId(part.id.clone())),
            sha256: part.and_then(|part| part.digest),
        }
    }
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
        let limits = Limits {
            put_bytes_max: 5 << 30,
            part_bytes_min: 5 << 20,
            parts_max: 10_000,
            deletes_max: 1,
        };
        assert_eq!(part_bytes(10 << 20, &limits), PIECE_BYTES_MAX);
        let huge: u64 = 5 << 40;
        assert!(huge.div_ceil(part_bytes(huge, &limits)) <= 10_000);
        assert!(part_bytes(huge, &limits) <= 5 << 30);
    }
}
