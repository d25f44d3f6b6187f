//! The cloud: one trait, an adapter for each kind of store, and decorators stacked over it.
//!
//! Invariant: keys are what the store has, letter by letter; names and their escape are not known here.
//! Invariant: «not there» ([`RemoteError::NotFound`]) is only ever said by the store itself.

mod azure;
mod breaker;
mod credentials;
mod dir;
mod env;
mod gcs;
mod http;
mod open;
mod pacer;
mod reply;
mod retrying;
mod s3;
mod url;
mod xml;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::types::{ETag, Key, Metadata, Sha256, Time};

pub use self::breaker::{Breaker, CircuitOpen, Link, LinkState};
pub use self::env::Env;
pub use self::open::{OpenError, Opened, open, stack};
pub use self::pacer::{Pacer, Pacers, SHORT_BYTES};
pub use self::retrying::Retrying;
pub use self::url::{Place, RemoteUrl, UrlError};

/// An object as a listing or a head request shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its key; a directory's marker ends in `/` where a listing can tell, and always in answer to a head.
    pub key: Key,
    /// Length in bytes.
    pub size: u64,
    /// Its version.
    pub etag: ETag,
    /// When the store took it in.
    pub modified: Time,
    /// Its user metadata; not every store's listing knows it.
    pub metadata: Option<Metadata>,
}

/// One level of a listing: what is directly below the prefix asked for.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Objects, without the marker of the prefix itself.
    pub objects: Vec<Object>,
    /// Prefixes, each ending in `/`.
    pub prefixes: Vec<Key>,
    /// Where the next page starts; none on the last one.
    pub next: Option<PageToken>,
}

/// A place in a listing; means something only to the adapter that gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageToken(pub String);

/// What must be true of the object in place for a write to happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Nothing: the write happens whatever is there.
    Always,
    /// There is no object.
    Absent,
    /// The object has this version.
    Match(ETag),
}

/// A multipart upload's name at the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadId(pub String);

/// A finished part's name at the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartId(pub String);

/// Bytes on their way up, and their sum, taken once, where they were read: stores refuse what is not so any more when it comes to them.
#[derive(Clone, Debug)]
pub struct Body {
    bytes: Bytes,
    sha256: Sha256,
}

impl Body {
    /// The sum.
    #[must_use]
    pub fn sha256(&self) -> Sha256 {
        self.sha256
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self { sha256: Sha256::of(&bytes), bytes }
    }
}

/// Bytes of an object that are to be a part of another one, or of its next version.
#[derive(Clone, Debug)]
pub struct Source {
    /// The object.
    pub key: Key,
    /// Its version; any other one will not do.
    pub etag: ETag,
    /// Which bytes of it.
    pub range: Range<u64>,
    /// The part that they were when the object was made, if they were one.
    pub part: Option<PartId>,
    /// Their sum, if it is known.
    pub sha256: Option<Sha256>,
}

/// What a store can take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The largest body of one put.
    pub put_bytes_max: u64,
    /// The smallest part of a multipart upload, but for the last.
    pub part_bytes_min: u64,
    /// The most parts of one upload.
    pub parts_max: u32,
    /// The most objects that one request deletes.
    pub deletes_max: usize,
}

/// Why a request failed, by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// The store says that there is no such object (or no such upload).
    #[error("no object {key}")]
    NotFound {
        /// The key asked for.
        key: Key,
    },
    /// The condition of the request does not hold: somebody else wrote or deleted the object.
    #[error("object {key} is not the version expected")]
    Precondition {
        /// The key asked for.
        key: Key,
    },
    /// The store can't be reached, or says that it can't serve now. Try again later.
    #[error("{store} can't be reached")]
    Unreachable {
        /// Which store.
        store: String,
        /// What happened.
        #[source]
        source: BoxError,
    },
    /// The credentials are missing, wrong, or lack the right. A person must act.
    #[error("{store} refused the credentials")]
    Denied {
        /// Which store.
        store: String,
        /// What the store said.
        #[source]
        source: BoxError,
    },
    /// The bucket, container or directory is not there. A person must act.
    #[error("{store} does not exist")]
    NoContainer {
        /// Which store.
        store: String,
    },
    /// A file stands where a directory should be, or the other way round; that may change.
    #[error("something else stands in {store} where {key} should be")]
    Occupied {
        /// Which store.
        store: String,
        /// The key asked for.
        key: Key,
        /// What the store said.
        #[source]
        source: BoxError,
    },
    /// The store can't do this; the caller knows another way.
    #[error("{store} can't {what}")]
    Unsupported {
        /// Which store.
        store: String,
        /// The operation.
        what: &'static str,
    },
    /// What came to the store is not what was sent: something on the way changed it.
    #[error("{store} got other bytes of {key} than were sent")]
    Damaged {
        /// Which store.
        store: String,
        /// The key asked for.
        key: Key,
        /// What the store said.
        #[source]
        source: BoxError,
    },
    /// The store refuses this very request; the same request will fail again.
    #[error("{store} refused the request for {key}")]
    Rejected {
        /// Which store.
        store: String,
        /// The key asked for.
        key: Key,
        /// What the store said.
        #[source]
        source: BoxError,
    },
}

impl RemoteError {
    /// Whether the store can have nothing under such a key.
    #[must_use]
    pub fn is_about_key(&self) -> bool {
        matches!(self, Self::Rejected { .. } | Self::Unsupported { .. })
    }
}

/// Any error, as a source.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The result of a request.
pub type Result<T, E = RemoteError> = std::result::Result<T, E>;

/// A store, below the prefix of one share. `Display` names it as its URL; it never shows a secret.
///
/// # Cancel safety
/// A request whose future is dropped may or may not have happened.
#[async_trait]
pub trait Remote: Send + Sync + fmt::Debug + fmt::Display {
    /// What the store can take.
    fn limits(&self) -> Limits;

    /// Whether the container is there and the credentials are good. An empty prefix is fine.
    async fn check(&self) -> Result<()>;

    /// An object with its metadata. The key of a directory asks for its marker.
    async fn head(&self, key: &Key) -> Result<Object>;

    /// Bytes `range` of an object, shorter if it ends before. `expect`: fail with `Precondition` if
    /// the object's version is another one (stores that ignore the condition are checked by the adapter).
    async fn get(&self, key: &Key, range: Range<u64>, expect: Option<&ETag>) -> Result<Bytes>;

    /// One page of what is directly below `prefix` (empty, or ending in `/`). An odd key of
    /// another tool never makes the rest invisible: it is listed as it is.
    async fn list(&self, prefix: &Key, page: Option<&PageToken>) -> Result<Page>;

    /// Writes a whole object (or a directory's marker, with an empty body).
    async fn put(
        &self,
        key: &Key,
        body: Body,
        metadata: &Metadata,
        condition: &Condition,
    ) -> Result<ETag>;

    /// Copies the version `expect` of an object inside the store and gives the copy `metadata`, in one step: so that it can be known
    /// again. `condition` is for what is at `to`. `Precondition` if either is not so (stores that ignore the second are checked by the
    /// adapter, a moment before).
    async fn copy(
        &self,
        from: &Key,
        expect: &ETag,
        to: &Key,
        metadata: &Metadata,
        condition: &Condition,
    ) -> Result<ETag>;

    /// Replaces an object's metadata, leaving its content. `Unsupported` where the store can't.
    async fn set_metadata(&self, key: &Key, metadata: &Metadata, expect: &ETag) -> Result<ETag>;

    /// Deletes an object. An object that is not there counts as deleted.
    async fn delete(&self, key: &Key, condition: &Condition) -> Result<()>;

    /// Deletes these versions of objects, by as few requests as can be: what came of each. `Unsupported` where `limits` says that there is
    /// no such request; after another error some may be gone.
    async fn delete_many(&self, objects: &[(Key, ETag)]) -> Result<Vec<Result<()>>>;

    /// Begins a multipart upload. Nothing is visible before it is completed.
    async fn multipart_create(&self, key: &Key, metadata: &Metadata) -> Result<UploadId>;

    /// Uploads part `number` (from 0). Parts may come in any order, and again.
    async fn multipart_put(
        &self,
        key: &Key,
        id: &UploadId,
        number: u32,
        body: Body,
    ) -> Result<PartId>;

    /// Makes part `number` of bytes that the store has, which do not go over the wire. `Precondition` if they are of another version,
    /// at the latest when the upload is completed under the condition that this version is replaced; `Unsupported` where the store can't.
    async fn multipart_copy(
        &self,
        key: &Key,
        id: &UploadId,
        number: u32,
        source: &Source,
    ) -> Result<PartId>;

    /// Makes the object out of all `parts`, in order.
    async fn multipart_complete(
        &self,
        key: &Key,
        id: &UploadId,
        parts: &[PartId],
        metadata: &Metadata,
        condition: &Condition,
    ) -> Result<ETag>;

    /// Gives up an upload and its parts. One that is not there counts as given up.
    async fn multipart_abort(&self, key: &Key, id: &UploadId) -> Result<()>;
}

/// A store shared by the parts that use it.
pub type RemoteRef = Arc<dyn Remote>;
