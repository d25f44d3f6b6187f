//! Comparing what is on record of a file with what there is: the object in the cloud, and what is cached.

use std::fmt;

use super::backing::Base;
use super::{Backing, Cache, CacheError, Result};
use crate::meta::Inode;
use crate::remote::RemoteError;
use crate::types::{Digest, Digester};

/// Bytes that are read in one go.
const READ_BYTES: u64 = 4 << 20;

/// How a file differs from what is on record of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// The cloud has no such object.
    ObjectMissing,
    /// The object is another version.
    ObjectVersion,
    /// The object has another length.
    ObjectSize,
    /// The object says that it holds something else.
    ObjectDigest,
    /// The object holds something else.
    ObjectContent,
    /// What is cached is something else, or can't be read.
    CacheContent,
}

impl Difference {
    /// Its name, which never changes.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::ObjectMissing => "object-missing",
            Self::ObjectVersion => "object-version",
            Self::ObjectSize => "object-size",
            Self::ObjectDigest => "object-digest",
            Self::ObjectContent => "object-content",
            Self::CacheContent => "cache-content",
        }
    }
}

/// A difference, and what was compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Differing {
    /// Which one.
    pub what: Difference,
    /// What there is, and what there should be.
    pub detail: String,
}

impl Differing {
    fn new(what: Difference, found: impl fmt::Display, expected: impl fmt::Display) -> Self {
        Self { what, detail: format!("{found}, not {expected}") }
    }
}

/// What a look at an object came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// How it differs, if it does.
    pub differing: Option<Differing>,
    /// Its digest as the record or the object itself has it, if either does.
    pub digest: Option<Digest>,
}

impl Cache {
    /// Asks the cloud whether the object on record for `inode`, a file of `size` bytes, is there and says that it is what was sent.
    ///
    /// # Errors
    /// If the cloud does not answer.
    pub async fn verify_object(&self, inode: &Inode, size: u64) -> Result<Verified> {
        use Difference::{ObjectDigest, ObjectMissing, ObjectSize, ObjectVersion};
        let base = Base::of(inode).ok_or(CacheError::Lost(inode.ino))?;
        let remote = self.remote(base.share).ok_or(CacheError::Lost(inode.ino))?;
        let recorded = inode.object.as_ref().and_then(|object| object.digest);
        let there = match remote.head(&base.key).await {
            Err(RemoteError::NotFound { .. }) => {
                let differing = Differing::new(ObjectMissing, "nothing", &base.key);
                return Ok(Verified { differing: Some(differing), digest: recorded });
            }
            there => there?,
        };
        let said = there.metadata.as_ref().and_then(Digest::read);
        let differing = match (&base.etag, recorded, said) {
            (Some(etag), ..) if there.etag != *etag => {
                Some(Differing::new(ObjectVersion, &there.etag, etag))
            }
            _ if there.size != size => {
                let bytes = |bytes| format!("{bytes} bytes");
                Some(Differing::new(ObjectSize, bytes(there.size), bytes(size)))
            }
            (_, Some(recorded), Some(said)) if recorded != said => {
                Some(Differing::new(ObjectDigest, said, recorded))
            }
            _ => None,
        };
        Ok(Verified { differing, digest: recorded.or(said) })
    }

    /// Reads the object on record for `inode`, `size` bytes, whether it has the digest `expected`; tells `came` how many bytes more were
    /// read.
    ///
    /// # Errors
    /// If the cloud does not give it.
    pub async fn verify_content(
        &self,
        inode: &Inode,
        size: u64,
        expected: &Digest,
        came: impl Fn(u64) + Send + Sync,
    ) -> Result<Option<Differing>> {
        let base = Base::of(inode).ok_or(CacheError::Lost(inode.ino))?;
        let mut digester = Digester::like(expected);
        let mut at = 0;
        while at < size {
            let end = size.min(at + READ_BYTES);
            let data = match self.get(inode.ino, &base, at..end).await {
                Err(CacheError::Lost(_)) => {
                    let short = format!("it ends before byte {end}");
                    return Ok(Some(Differing::new(Difference::ObjectContent, short, expected)));
                }
                data => data?,
            };
            digester.update(&data);
            came(end - at);
            at = end;
        }
        let found = digester.finish();
        let differs = found != *expected;
        Ok(differs.then(|| Differing::new(Difference::ObjectContent, found, expected)))
    }

    /// Reads what is cached of `inode`: all of it has the digest `expected`, or, where that is not known or not all is here, each block its
    /// checksum. Tells `came` how many bytes more were read.
    #[must_use]
    pub fn verify_cached(
        &self,
        backing: &Backing,
        inode: &Inode,
        expected: Option<&Digest>,
        came: impl Fn(u64),
    ) -> Option<Differing> {
        if let Some(expected) = expected
            && backing.is_whole()
        {
            return verify_whole(backing, inode.attr.size, expected, came);
        }
        let mut at = 0;
        while at * super::BLOCK_BYTES < inode.attr.size {
            let count = READ_BYTES / super::BLOCK_BYTES;
            let checked = self.check_blocks(backing, inode, at, count, |_| {});
            came(checked.bytes);
            if let Some(block) = checked.bad.first() {
                let found = format!("block {block} is bad");
                return Some(Differing::new(Difference::CacheContent, found, "what it was"));
            }
            at += count;
        }
        None
    }
}

fn verify_whole(
    backing: &Backing,
    size: u64,
    expected: &Digest,
    came: impl Fn(u64),
) -> Option<Differing> {
    let mut digester = Digester::like(expected);
    let mut buffer = vec![0; usize::try_from(READ_BYTES.min(size)).unwrap_or(0)];
    let mut at = 0;
    while at < size {
        let part = usize::try_from(READ_BYTES.min(size - at)).unwrap_or(0);
        let read = backing.read_at(&mut buffer[..part], at);
        match read {
            Ok(count) if count == part => digester.update(&buffer[..part]),
            Ok(count) => {
                let found = format!("it ends at byte {}", at + count as u64);
                return Some(Differing::new(Difference::CacheContent, found, expected));
            }
            Err(error) => return Some(Differing::new(Difference::CacheContent, error, expected)),
        }
        came(part as u64);
        at += part as u64;
    }
    let found = digester.finish();
    (found != *expected).then(|| Differing::new(Difference::CacheContent, found, expected))
}
