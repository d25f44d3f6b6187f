//! A plain directory as a store: a mounted disk, a NAS. Objects are files under their own names, with their
//! modes, owners and times, so that everybody can use them without us.
//!
//! Differences to a cloud: a file and a directory can't share a name; a directory that has objects is there with
//! or without its marker, and stays when they are gone unless we made it only for them. Symbolic links and
//! special files in it are not ours: they are neither listed nor followed. Objects that stand for symbolic
//! links are files that hold the target.

mod files;
mod native;

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};

use self::files::{Files, Staged};
use super::pacer::Pacers;
use super::{
    Body, Condition, ETag, Limits, Object, Page, PageToken, PartId, Remote, Result, Source,
    UploadId,
};
use crate::clock::Clock;
use crate::tasks::Tasks;
use crate::types::{Key, Metadata};

/// A directory.
pub(super) struct Dir {
    files: Arc<Files>,
    pacers: Pacers,
    tasks: Tasks,
}

impl Dir {
    /// The directory at `root`; nothing is touched.
    pub(super) fn new(
        root: &Path,
        name: String,
        pacers: Pacers,
        clock: &Arc<dyn Clock>,
        tasks: Tasks,
    ) -> Self {
        Self { files: Arc::new(Files::new(root, name, clock.wall())), pacers, tasks }
    }

    /// Does blocking work.
    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Files) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let files = Arc::clone(&self.files);
        match self.tasks.blocking(move || work(&files)).await {
            Ok(result) => result,
            Err(panicked) => Err(self.files.unreachable(panicked)),
        }
    }

    /// What the pace allows of `body` now, and the rest.
    async fn allowed(&self, mut body: Bytes) -> (Bytes, Bytes) {
        let allowed = if body.is_empty() { 0 } else { self.pacers.up.take(body.len()).await };
        (body.split_to(allowed), body)
    }

    /// Writes `first`, which the pace has allowed, and then the rest of `body`, as fast as it does, into a file that has no
    /// name in the store yet.
    async fn stage(&self, key: &Key, first: Bytes, mut body: Bytes) -> Result<Staged> {
        let key = key.clone();
        let mut staged = self.work(move |files| files.append(files.stage(&key)?, &first)).await?;
        while !body.is_empty() {
            let piece = body.split_to(self.pacers.up.take(body.len()).await);
            staged = self.work(move |files| files.append(staged, &piece)).await?;
        }
        Ok(staged)
    }
}

#[async_trait]
impl Remote for Dir {
    fn limits(&self) -> Limits {
        Limits {
            put_bytes_max: i64::MAX.unsigned_abs(),
            part_bytes_min: 1,
            parts_max: 1_000_000,
            deletes_max: 1,
        }
    }

    async fn check(&self) -> Result<()> {
        self.work(|files| files.root().map(drop)).await
    }

    async fn head(&self, key: &Key) -> Result<Object> {
        let key = key.clone();
        self.work(move |files| files.head(&key)).await
    }

    async fn get(&self, key: &Key, range: Range<u64>, expect: Option<&ETag>) -> Result<Bytes> {
        let (mut reading, mut content) = (None, BytesMut::new());
        loop {
            let at = range.start + content.len() as u64;
            let rest = usize::try_from(range.end.saturating_sub(at)).unwrap_or(usize::MAX);
            let allowed = if rest == 0 { 0 } else { self.pacers.down.take(rest).await };
            let (key, expect) = (key.clone(), expect.cloned());
            let (file, piece) = self
                .work(move |files| {
                    let file = match reading {
                        Some(file) => file,
                        None => files.open_version(&key, expect.as_ref())?,
                    };
                    let piece = files.read_version(&key, &file, at, allowed, expect.as_ref())?;
                    Ok((file, piece))
                })
                .await?;
            let is_end = piece.len() < allowed || piece.len() == rest;
            if is_end && content.is_empty() {
                return Ok(piece.into());
            }
            content.extend_from_slice(&piece);
            if is_end {
                return Ok(content.freeze());
            }
            reading = Some(file);
        }
    }

    async fn list(&self, prefix: &Key, page: Option<&PageToken>) -> Result<Page> {
        let (prefix, page) = (prefix.clone(), page.cloned());
        self.work(move |files| files.list(&prefix, page.as_ref())).await
    }

    async fn put(
        &self,
        key: &Key,
        body: Body,
        metadata: &Metadata,
        condition: &Condition,
    ) -> Result<ETag> {
        let (key, metadata, condition) = (key.clone(), metadata.clone(), condition.clone());
        if key.is_dir() {
            return self.work(move |files| files.put_dir(&key, &metadata, &condition)).await;
        }
        let (first, rest) = self.allowed(body.bytes().clone()).await;
        if rest.is_empty() {
            return self.work(move |files| files.put(&key, &first, &metadata, &condition)).await;
        }
        let staged = self.stage(&key, first, rest).await?;
        self.work(move |files| files.commit(staged, &key, &metadata, &condition)).await
    }

    async fn copy(
        &self,
        from: &Key,
        expect: &ETag,
        to: &Key,
        metadata: &Metadata,
        condition: &Condition,
    ) -> Result<ETag> {
        let (from, expect, to) = (from.clone(), expect.clone(), to.clone());
        let (metadata, condition) = (metadata.clone(), condition.clone());
        self.work(move |files| files.copy(&from, &expect, &to, &metadata, &condition)).await
    }

    async fn set_metadata(&self, key: &Key, metadata: &Metadata, expect: &ETag) -> Result<ETag> {
        let (key, metadata, expect) = (key.clone(), metadata.clone(), expect.clone());
        self.work(move |files| files.set_metadata(&key, &metadata, &expect)).await
    }

    async fn delete(&self, key: &Key, condition: &Condition) -> Result<()> {
        let (key, condition) = (key.clone(), condition.clone());
        self.work(move |files| files.delete(&key, &condition)).await
    }

    async fn delete_many(&self, _: &[(Key, ETag)]) -> Result<Vec<Result<()>>> {
        Err(self.files.unsupported("delete many files at once"))
    }

    async fn multipart_create(&self, key: &Key, _: &Metadata) -> Result<UploadId> {
        let key = key.clone();
        self.work(move |files| files.upload_begin(&key)).await
    }

    async fn multipart_put(
        &self,
        key: &Key,
        id: &UploadId,
        number: u32,
        body: Body,
    ) -> Result<PartId> {
        let (first, rest) = self.allowed(body.bytes().clone()).await;
        let staged = self.stage(key, first, rest).await?;
        let (key, id) = (key.clone(), id.clone());
        self.work(move |files| files.upload_part(&key, &id, number, staged)).await
    }

    async fn multipart_copy(
        &self,
        key: &Key,
        id: &UploadId,
        number: u32,
        source: &Source,
    ) -> Result<PartId> {
        let (key, id, source) = (key.clone(), id.clone(), source.clone());
        self.work(move |files| files.upload_copy(&key, &id, number, &source)).await
    }

    async fn multipart_complete(
        &self,
        key: &Key,
        id: &UploadId,
        parts: &[PartId],
        metadata: &Metadata,
        condition: &Condition,
    ) -> Result<ETag> {
        let (key, id, parts) = (key.clone(), id.clone(), parts.to_vec());
        let (metadata, condition) = (metadata.clone(), condition.clone());
        self.work(move |files| files.upload_end(&key, &id, &parts, &metadata, &condition)).await
    }

    async fn multipart_abort(&self, key: &Key, id: &UploadId) -> Result<()> {
        let (key, id) = (key.clone(), id.clone());
        self.work(move |files| files.upload_drop(&key, &id)).await
    }
}

impl fmt::Display for Dir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.files.name())
    }
}

impl fmt::Debug for Dir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dir").field("name", &self.files.name()).finish_non_exhaustive()
    }
}
