//! Our own versions are known again. Answers get lost: then an object is a later version than the one on record, and only a mark in its
//! metadata tells that we made it.

use std::collections::BTreeMap;

use super::error::SyncError;
use super::plan::Subject;
use super::worker::{Made, Worker};
use crate::meta::{Inode, MetaError};
use crate::remote::{Condition, Object, RemoteError, RemoteRef};
use crate::types::{
    Digest, ETag, FileKind, Ino, Key, Metadata, PosixMeta, ShareId, VERSION_NAME, link,
};

/// What the metadata of each object that we make says. It is bound to the object's key: who copies an object in the cloud takes its
/// metadata along, and the copy is none of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    /// Which inode it is of; of several names of a file, the one that it was sent for.
    ino: Ino,
    /// Content and attributes.
    version: (u64, u64),
}

impl Mark {
    fn write(self, gateway: &str, key: &Key) -> String {
        let Self { ino, version: (content, attrs) } = self;
        link::write(&format!("{gateway}-{ino}-{content}-{attrs}"), key)
    }

    fn read(text: &str, gateway: &str, key: &Key) -> Option<Self> {
        // Without a key: from before keys counted.
        let text = if text.contains(' ') { link::read(text, key)? } else { text };
        let numbers = text.strip_prefix(gateway)?.strip_prefix('-')?;
        let mut numbers = numbers.split('-').map(|number| number.parse().ok());
        let mut next = || numbers.next()?;
        let mark = Self { ino: Ino(next()?), version: (next()?, next()?) };
        numbers.next().is_none().then_some(mark)
    }
}

impl Worker {
    /// Whether the cloud still has what the record of `file` says, be it as a later version of ours whose answer was lost: what of the
    /// file is not here is the same in both.
    pub(super) async fn has_base(&self, remote: &RemoteRef, file: Ino) -> Result<bool, SyncError> {
        let record = || self.meta.read(|tx| tx.inode(file));
        let Some(inode) = record()? else { return Ok(false) };
        let Some(object) = &inode.object else { return Ok(false) };
        let has = match remote.head(&object.key).await {
            Ok(there) if Some(&there.etag) == object.etag.as_ref() => true,
            Ok(there) => self.take_again(&inode, &there)?,
            Err(RemoteError::NotFound { .. }) => false,
            Err(error) => return Err(error.into()),
        };
        Ok(has || record()?.is_none_or(|now| now.object != inode.object))
    }

    /// A conditional write that was refused may have been ours, with its answer lost.
    pub(super) async fn conditional(
        &self,
        sent: Result<ETag, RemoteError>,
        remote: &RemoteRef,
        inode: &Inode,
        key: &Key,
        metadata: &Metadata,
        condition: &Condition,
    ) -> Result<ETag, SyncError> {
        match sent {
            Err(RemoteError::Precondition { .. }) => match remote.head(key).await {
                Ok(there)
                    if there.metadata.as_ref().and_then(|m| m.get(VERSION_NAME))
                        == metadata.get(VERSION_NAME) =>
                {
                    Ok(there.etag)
                }
                Ok(there) if self.take_unstored(inode, key, &there)? => Err(SyncError::Changed),
                // What was asked for is there: the store was wrong to refuse, or is late to know. Nobody changed anything.
                Ok(there) if self.is_known(inode, key, &there.etag)? => {
                    Err(RemoteError::Precondition { key: key.clone() }.into())
                }
                Err(RemoteError::NotFound { .. }) if *condition == Condition::Absent => {
                    Err(RemoteError::Precondition { key: key.clone() }.into())
                }
                Ok(_) | Err(RemoteError::NotFound { .. }) => {
                    Err(SyncError::Conflict { key: key.clone() })
                }
                Err(error) => Err(error.into()),
            },
            sent => Ok(sent?),
        }
    }

    /// Takes note of an object that stands in the way but is ours, from an upload whose answer was lost: an earlier version of
    /// this file, or one of a deleted file. Then there is a new state to plan from.
    pub(super) fn take_unstored(
        &self,
        inode: &Inode,
        key: &Key,
        there: &Object,
    ) -> Result<bool, MetaError> {
        let stored = inode.object.as_ref().map(|object| (object.content, object.attrs));
        let mark = self.mark(there);
        if let Some(Mark { version, .. }) = mark.filter(|mark| mark.ino == inode.ino)
            && Some(version) > stored
        {
            self.holds(inode, key, &there.etag, version, Made::of(digest_of(there)))?;
            return Ok(true);
        }
        let Some(buried) = self.buried(inode.share, key, there)? else { return Ok(false) };
        if self.is_buried(inode.share, key, &there.etag)? {
            return Ok(false);
        }
        let (share, key, etag, now) = (inode.share, key.clone(), there.etag.clone(), self.millis());
        self.meta.write(move |tx| tx.bury(share, &key, Some(&etag), buried, now))?;
        Ok(true)
    }

    /// Whether the object `key`, version `etag`, is the one on record for `inode`, or to be replaced by what goes there.
    fn is_known(&self, inode: &Inode, key: &Key, etag: &ETag) -> Result<bool, MetaError> {
        let is_its_own = inode
            .object
            .as_ref()
            .is_some_and(|object| object.key == *key && object.etag.as_ref() == Some(etag));
        Ok(is_its_own || self.is_buried(inode.share, key, etag)?)
    }

    /// Whether it is known that the object `key`, version `etag`, is to be deleted or replaced.
    pub(super) fn is_buried(
        &self,
        share: ShareId,
        key: &Key,
        etag: &ETag,
    ) -> Result<bool, MetaError> {
        let tombstone = self.meta.read(|tx| tx.tombstone(share, key))?;
        Ok(tombstone.is_some_and(|tombstone| tombstone.etag.as_ref() == Some(etag)))
    }

    /// The metadata of a copy of what the cloud has of `inode`: others may have written it, but the copy is ours.
    pub(super) fn signed(&self, metadata: Option<Metadata>, inode: &Inode, key: &Key) -> Metadata {
        let mut metadata = metadata.unwrap_or_default();
        if let Some(object) = &inode.object {
            let version = self.written(inode.ino, (object.content, object.attrs), key);
            metadata.insert(VERSION_NAME.into(), version);
            object.digest.iter().for_each(|digest| digest.write(&mut metadata));
        }
        metadata
    }

    pub(super) fn metadata(&self, subject: &Subject, key: &Key) -> Result<Metadata, MetaError> {
        let Subject { inode, file, .. } = subject;
        let xattrs: BTreeMap<Vec<u8>, Vec<u8>> = self.meta.read(|tx| tx.xattrs(*file))?;
        let mut metadata = PosixMeta::write(&inode.attr, &xattrs);
        let version = self.written(inode.ino, (inode.content, inode.attrs), key);
        metadata.insert(VERSION_NAME.into(), version);
        if inode.attr.nlink > 1 && inode.attr.kind != FileKind::Dir {
            let id = format!("{}-{file}-{}", self.gateway, inode.content);
            metadata.insert(link::NAME.into(), link::write(&id, key));
        }
        Ok(metadata)
    }

    /// Takes note of the version that the object on record for `inode` has, if it is ours: the answer to a change of it was lost. No
    /// other file of ours is ever put there; of one with several names it may have been sent for another of them.
    pub(super) fn take_again(&self, inode: &Inode, there: &Object) -> Result<bool, MetaError> {
        let Some(object) = &inode.object else { return Ok(false) };
        let stored = (object.content, object.attrs);
        let version = self.mark(there).map(|mark| mark.version);
        let Some(version) = version.filter(|version| *version >= stored) else { return Ok(false) };
        self.holds(inode, &object.key, &there.etag, version, Made::of(digest_of(there)))?;
        Ok(true)
    }

    /// The file that `there` is a version of, if it was deleted here, or has another name since it was sent there.
    pub(super) fn buried(
        &self,
        share: ShareId,
        key: &Key,
        there: &Object,
    ) -> Result<Option<Ino>, MetaError> {
        let is_known = self.meta.read(|tx| -> Result<bool, MetaError> {
            Ok(tx.tombstone(share, key)?.is_some() || tx.is_attempted(share, key)?)
        })?;
        Ok(self.mark(there).map(|mark| mark.ino).filter(|_| is_known))
    }

    /// Whether `there` is a copy, or an upload, of what `inode` holds.
    pub(super) fn is_ours(&self, inode: &Inode, there: &Object) -> bool {
        self.mark(there)
            .is_some_and(|Mark { ino, version }| ino == inode.ino && version.0 == inode.content)
    }

    /// Whether this gateway made it.
    pub(super) fn is_marked(&self, there: &Object) -> bool {
        self.mark(there).is_some()
    }

    fn mark(&self, there: &Object) -> Option<Mark> {
        Mark::read(there.metadata.as_ref()?.get(VERSION_NAME)?, &self.gateway, &there.key)
    }

    fn written(&self, ino: Ino, version: (u64, u64), key: &Key) -> String {
        Mark { ino, version }.write(&self.gateway, key)
    }
}

fn digest_of(there: &Object) -> Option<Digest> {
    there.metadata.as_ref().and_then(Digest::read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_written_and_neither_anybody_elses_nor_that_of_a_copy() {
        let mark = Mark { ino: Ino(7), version: (3, 12) };
        let (key, copy) = (Key::from_raw("a"), Key::from_raw("copy of a"));
        let written = mark.write("one-gate", &key);
        assert_eq!(Mark::read(&written, "one-gate", &key), Some(mark));
        assert_eq!(Mark::read(&written, "one-gate", &copy), None);
        assert_eq!(Mark::read(&written, "two", &key), None);
        assert_eq!(Mark::read("one-gate-7-3-12", "one-gate", &key), Some(mark), "format of old");
        for other in ["two-7-3-12", "one-gate-7-3", "one-gate-7-3-x", "one-gate-7-3-12-1", ""] {
            assert_eq!(Mark::read(other, "one-gate", &key), None, "{other}");
        }
    }
}
