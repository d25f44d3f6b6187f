//! Quick retries, for what a lost packet breaks; anything longer is the breaker's and the caller's.
//!
//! Only what may happen twice is retried. A put, a copy, a change of metadata, a conditional delete or the end of a
//! multipart upload is not: when its answer is lost, only who knows the versions can tell what happened (it
//! must be able to after a crash anyway), and a beginning would leave an upload that nobody knows.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::breaker::CircuitOpen;
use super::{
    Body, Condition, ETag, Limits, Object, Page, PageToken, PartId, Remote, RemoteError, RemoteRef,
    Result, Source, UploadId,
};
use crate::clock::Clock;
use crate::rng::Rng;
use crate::types::{Key, Metadata};

const RETRIES_MAX: u32 = 2;

/// The first wait is shorter than this, each further one shorter than four times the last limit.
const WAIT_MAX: Duration = Duration::from_millis(200);

/// A store that is asked again when it can't be reached.
#[derive(Debug)]
pub struct Retrying {
    inner: RemoteRef,
    clock: Arc<dyn Clock>,
    rng: Mutex<Rng>,
}

impl Retrying {
    /// Puts retries over `inner`.
    #[must_use]
    pub fn new(inner: RemoteRef, clock: Arc<dyn Clock>, rng: Rng) -> Self {
        Self { inner, clock, rng: Mutex::new(rng) }
    }

    async fn again<'a, T, F>(&'a self, ask: impl Fn(&'a dyn Remote) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send + 'a,
    {
        let mut limit = WAIT_MAX;
        for _ in 0..RETRIES_MAX {
            match ask(&*self.inner).await {
                Err(RemoteError::Unreachable { source, .. }) if !source.is::<CircuitOpen>() => {}
                result => return result,
            }
            self.clock.sleep(self.jittered(limit)).await;
            limit *= 4;
        }
        ask(&*self.inner).await
    }

    /// Any time below `limit`: so that who failed together does not come back together.
    fn jittered(&self, limit: Duration) -> Duration {
        let limit = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        let millis = self.rng.lock().unwrap_or_else(PoisonError::into_inner).below(limit);
        Duration::from_millis(millis)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Remote for Retrying {
    fn limits(&self) -> Limits {
        self.inner.limits()
    }

    async fn check(&self) -> Result<()> {
        self.inner.check().await
    }

    async fn head(&self, key: &Key) -> Result<Object> {
        self.again(|inner| inner.head(key)).await
    }

    async fn get(&self, key: &Key, range: Range<u64>, expect: Option<&ETag>) -> Result<Bytes> {
        self.again(|inner| inner.get(key, range.clone(), expect)).await
    }

    async fn list(&self, prefix: &Key, page: Option<&PageToken>) -> Result<Page> {
        self.again(|inner| inner.list(prefix, page)).await
    }

    async fn put(
        &self,
        key: &Key,
        body: Body,
        metadata: &Metadata,
        condition: &Condition,
    ) -> Result<ETag> {
        self.inner.put(key, body, metadata, condition).await
    }

    async fn copy(
        &self,
        from: &Key,
        expect: &ETag,
        to: &Key,
        metadata: &Metadata,
        condition: &Condition,
    ) -> Result<ETag> {
        self.inner.copy(from, expect, to, metadata, condition).await
    }

    async fn set_metadata(&self, key: &Key, metadata: &Metadata, expect: &ETag) -> Result<ETag> {
        self.inner.set_metadata(key, metadata, expect).await
    }

    async fn delete(&self, key: &Key, condition: &Condition) -> Result<()> {
        match condition {
            Condition::Always => self.again(|inner| inner.delete(key, condition)).await,
            Condition::Absent | Condition::Match(_) => self.inner.delete(key, condition).await,
        }
    }

    async fn delete_many(&self, objects: &[(Key, ETag)]) -> Result<Vec<Result<()>>> {
        self.inner.delete_many(objects).await
    }

    async fn multipart_create(&self, key: &Key, metadata: &Metadata) -> Result<UploadId> {
        self.inner.multipart_create(key, metadata).await
    }

    async fn multipart_put(
        &self,
        key: &Key,
        id: &UploadId,
        number: u32,
        body: Body,
    ) -> Result<PartId> {
        self.again(|inner| inner.multipart_put(key, id, number, body.clone())).await
    }

    async fn multipart_copy(
        &self,
        key: &Key,
        id: &UploadId,
        number: u32,
        source: &Source,
    ) -> Result<PartId> {
        self.again(|inner| inner.multipart_copy(key, id, number, source)).await
    }

    async fn multipart_complete(
        &self,
        key: &Key,
        id: &UploadId,
        parts: &[PartId],
        metadata: &Metadata,
        condition: &Condition,
    ) -> Result<ETag> {
        self.inner.multipart_complete(key, id, parts, metadata, condition).await
    }

    async fn multipart_abort(&self, key: &Key, id: &UploadId) -> Result<()> {
        self.again(|inner| inner.multipart_abort(key, id)).await
    }
}

impl fmt::Display for Retrying {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "retrying({})", self.inner)
    }
}
