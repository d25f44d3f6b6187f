//! A bucket in memory, true to what AWS documents: keys to the letter, markers of directories, conditions, parts.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{Bytes, BytesMut};
use fsd::clock::{Clock as _, SystemClock};
use futures::StreamExt as _;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::crypto::{Checksum, Md5, Sha256};
use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};

use crate::level::{Place, level};

/// What an object's version is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Versions {
    /// The sum of its content, as on AWS.
    Md5,
    /// A number that grows, as on Google's store.
    Generation,
}

#[derive(Clone)]
struct Stored {
    body: Bytes,
    metadata: Metadata,
    content_type: Option<String>,
    etag: String,
    modified: SystemTime,
}

struct Upload {
    key: String,
    metadata: Metadata,
    /// Parts must carry checksums.
    summed: bool,
    parts: BTreeMap<i32, (Bytes, String)>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Stored>,
    uploads: BTreeMap<String, Upload>,
}

/// The one bucket of a server.
#[derive(Clone)]
pub(super) struct MemoryS3 {
    bucket: &'static str,
    versions: Versions,
    number: Arc<AtomicU64>,
    state: Arc<Mutex<State>>,
}

impl std::fmt::Debug for MemoryS3 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryS3").field("bucket", &self.bucket).finish_non_exhaustive()
    }
}

impl MemoryS3 {
    pub(super) fn new(bucket: &'static str, versions: Versions) -> Self {
        let number = Arc::new(AtomicU64::new(1_700_000_000_000_000));
        Self { bucket, versions, number, state: Arc::default() }
    }

    /// Lets a byte of an object turn, as a disk does that forgets: nothing else of it changes.
    pub(super) fn rot(&self, key: &str) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(stored) = state.objects.get_mut(key) else { return false };
        let mut body = stored.body.to_vec();
        let Some(byte) = body.last_mut() else { return false };
        *byte ^= 1;
        stored.body = body.into();
        true
    }

    /// Begins an upload in parts, as somebody else would.
    pub(super) fn begin_upload(&self, key: &str) {
        let (key, metadata, parts) = (key.to_owned(), Metadata::new(), BTreeMap::new());
        let upload = Upload { key, metadata, summed: false, parts };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.uploads.insert(self.number(), upload);
    }

    /// Uploads in parts that were begun and not ended.
    pub(super) fn uploads(&self) -> Vec<String> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.uploads.values().map(|upload| upload.key.clone()).collect()
    }

    fn bucket(&self, name: &str) -> S3Result<MutexGuard<'_, State>> {
        match name == self.bucket {
            true => Ok(self.state.lock().unwrap_or_else(PoisonError::into_inner)),
            false => Err(s3_error!(NoSuchBucket)),
        }
    }

    fn number(&self) -> String {
        self.number.fetch_add(1, Ordering::Relaxed).to_string()
    }

    fn store(&self, state: &mut State, key: String, mut stored: Stored) -> ETag {
        if let Versions::Generation = self.versions {
            stored.etag = self.number();
        }
        let etag = ETag::Strong(stored.etag.clone());
        state.objects.insert(key, stored);
        etag
    }
}

fn now() -> SystemTime {
    SystemClock::new().wall().into()
}

fn md5(body: &[u8]) -> [u8; 16] {
    let mut md5 = Md5::new();
    md5.update(body);
    md5.finalize()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn base64(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

fn sha256(body: &[u8]) -> String {
    let mut sum = Sha256::new();
    sum.update(body);
    base64(&sum.finalize())
}

/// A body that is not what was sent is refused.
fn verify_sums(body: &[u8], sha: Option<&String>, md5_sum: Option<&String>) -> S3Result<()> {
    let holds = sha.is_none_or(|sum| *sum == sha256(body))
        && md5_sum.is_none_or(|sum| *sum == base64(&md5(body)));
    if holds { Ok(()) } else { Err(s3_error!(BadDigest)) }
}

fn verify(
    found: Option<&Stored>,
    if_match: Option<&ETagCondition>,
    if_none_match: Option<&ETagCondition>,
) -> S3Result<()> {
    let is = |condition: &ETagCondition| match (condition, found) {
        (_, None) => false,
        (ETagCondition::Any, Some(_)) => true,
        (ETagCondition::ETag(etag), Some(found)) => etag.value() == found.etag,
    };
    match if_match.is_none_or(is) && !if_none_match.is_some_and(is) {
        true => Ok(()),
        false => Err(s3_error!(PreconditionFailed)),
    }
}

async fn collect(body: Option<StreamingBlob>) -> S3Result<Bytes> {
    let Some(mut body) = body else { return Ok(Bytes::new()) };
    let mut all = BytesMut::new();
    while let Some(piece) = body.next().await {
        all.extend_from_slice(&piece.map_err(|_| s3_error!(IncompleteBody))?);
    }
    Ok(all.freeze())
}

fn length(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[async_trait::async_trait]
impl S3 for MemoryS3 {
    async fn put_object(
        &self,
        req: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        let input = req.input;
        let body = collect(input.body).await?;
        verify_sums(&body, input.checksum_sha256.as_ref(), input.content_md5.as_ref())?;
        let mut state = self.bucket(&input.bucket)?;
        let found = state.objects.get(&input.key);
        verify(found, input.if_match.as_ref(), input.if_none_match.as_ref())?;
        let stored = Stored {
            etag: hex(&md5(&body)),
            body,
            metadata: input.metadata.unwrap_or_default(),
            content_type: input.content_type,
            modified: now(),
        };
        let e_tag = Some(self.store(&mut state, input.key, stored));
        Ok(S3Response::new(PutObjectOutput { e_tag, ..Default::default() }))
    }

    async fn head_object(
        &self,
        req: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let state = self.bucket(&req.input.bucket)?;
        let stored = state.objects.get(&req.input.key).ok_or_else(|| s3_error!(NoSuchKey))?;
        Ok(S3Response::new(HeadObjectOutput {
            content_length: Some(length(stored.body.len())),
            content_type: stored.content_type.clone(),
            e_tag: Some(ETag::Strong(stored.etag.clone())),
            last_modified: Some(stored.modified.into()),
            metadata: Some(stored.metadata.clone()),
            ..Default::default()
        }))
    }

    async fn get_object(
        &self,
        req: S3Request<GetObjectInput>,
    ) -> S3Result<S3Response<GetObjectOutput>> {
        let input = req.input;
        let state = self.bucket(&input.bucket)?;
        let stored = state.objects.get(&input.key).ok_or_else(|| s3_error!(NoSuchKey))?;
        verify(Some(stored), input.if_match.as_ref(), None)?;
        let all = stored.body.len();
        let range = match &input.range {
            Some(range) => range.check(all as u64).map_err(|_| s3_error!(InvalidRange))?,
            None => 0..all as u64,
        };
        let at = |offset| usize::try_from(offset).unwrap_or(all);
        let body = stored.body.slice(at(range.start)..at(range.end));
        let content_range =
            input.range.map(|_| format!("bytes {}-{}/{all}", range.start, range.end - 1));
        Ok(S3Response::new(GetObjectOutput {
            content_length: Some(length(body.len())),
            content_range,
            e_tag: Some(ETag::Strong(stored.etag.clone())),
            last_modified: Some(stored.modified.into()),
            metadata: Some(stored.metadata.clone()),
            body: Some(StreamingBlob::wrap(futures::stream::iter([Ok::<_, Infallible>(body)]))),
            ..Default::default()
        }))
    }

    async fn copy_object(
        &self,
        req: S3Request<CopyObjectInput>,
    ) -> S3Result<S3Response<CopyObjectOutput>> {
        let input = req.input;
        let CopySource::Bucket { bucket, key, .. } = &input.copy_source else {
            return Err(s3_error!(NotImplemented));
        };
        let mut state = self.bucket(bucket)?;
        let mut stored = state.objects.get(&**key).cloned().ok_or_else(|| s3_error!(NoSuchKey))?;
        verify(Some(&stored), input.copy_source_if_match.as_ref(), None)?;
        if input.metadata_directive.is_some_and(|directive| directive.as_str() == "REPLACE") {
            stored.metadata = input.metadata.unwrap_or_default();
            stored.content_type = input.content_type;
        } else if **key == *input.key {
            return Err(s3_error!(InvalidRequest, "a copy onto itself changes nothing"));
        }
        stored.modified = now();
        let e_tag = Some(self.store(&mut state, input.key, stored));
        let result = CopyObjectResult { e_tag, ..Default::default() };
        let output = CopyObjectOutput { copy_object_result: Some(result), ..Default::default() };
        Ok(S3Response::new(output))
    }

    async fn delete_object(
        &self,
        req: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        let mut state = self.bucket(&req.input.bucket)?;
        let found = state.objects.get(&req.input.key);
        if found.is_some() {
            verify(found, req.input.if_match.as_ref(), None)?;
        }
        state.objects.remove(&req.input.key);
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn delete_objects(
        &self,
        req: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let mut state = self.bucket(&req.input.bucket)?;
        let mut errors = Vec::new();
        for object in req.input.delete.objects {
            let expected = object.e_tag.as_ref().map(ETag::value);
            let found = state.objects.get(&object.key);
            match found.is_none_or(|found| expected.is_none_or(|etag| *etag == found.etag)) {
                true => drop(state.objects.remove(&object.key)),
                false => errors.push(Error {
                    code: Some("PreconditionFailed".to_owned()),
                    key: Some(object.key),
                    ..Default::default()
                }),
            }
        }
        Ok(S3Response::new(DeleteObjectsOutput { errors: Some(errors), ..Default::default() }))
    }

    async fn list_objects_v2(
        &self,
        req: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = req.input;
        let state = self.bucket(&input.bucket)?;
        let encoded = input.encoding_type.as_ref().is_some_and(|kind| kind.as_str() == "url");
        let spell = |text: &str| match encoded {
            true => utf8_percent_encode(text, NON_ALPHANUMERIC).to_string().replace("%20", "+"),
            false => text.to_owned(),
        };
        let prefix = input.prefix.unwrap_or_default();
        let delimiter = input.delimiter.unwrap_or_default();
        let max = usize::try_from(input.max_keys.unwrap_or(1000)).unwrap_or(1000);
        let after = input.continuation_token.or(input.start_after).unwrap_or_default();
        let (mut contents, mut prefixes) = (Vec::new(), Vec::new());
        let keys = state.objects.range(prefix.clone()..).map(|(key, _)| key.as_str());
        let (places, next) = level(keys, (&prefix, &delimiter), &after, max);
        for place in places {
            match place {
                Place::Prefix(common) => {
                    prefixes.push(CommonPrefix { prefix: Some(spell(common)) });
                }
                Place::Key(key) => {
                    let stored = &state.objects[key];
                    contents.push(Object {
                        key: Some(spell(key)),
                        size: Some(length(stored.body.len())),
                        e_tag: Some(ETag::Strong(stored.etag.clone())),
                        last_modified: Some(stored.modified.into()),
                        ..Default::default()
                    });
                }
            }
        }
        Ok(S3Response::new(ListObjectsV2Output {
            encoding_type: input.encoding_type,
            is_truncated: Some(next.is_some()),
            next_continuation_token: next,
            contents: Some(contents),
            common_prefixes: Some(prefixes),
            ..Default::default()
        }))
    }

    async fn create_multipart_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let input = req.input;
        let mut state = self.bucket(&input.bucket)?;
        let id = self.number();
        let metadata = input.metadata.unwrap_or_default();
        let algorithm = input.checksum_algorithm;
        let summed = algorithm.is_some();
        let upload = Upload { key: input.key, metadata, summed, parts: BTreeMap::new() };
        state.uploads.insert(id.clone(), upload);
        let output = CreateMultipartUploadOutput {
            upload_id: Some(id),
            checksum_algorithm: algorithm,
            ..Default::default()
        };
        Ok(S3Response::new(output))
    }

    async fn upload_part(
        &self,
        req: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        let input = req.input;
        let body = collect(input.body).await?;
        verify_sums(&body, input.checksum_sha256.as_ref(), input.content_md5.as_ref())?;
        let mut state = self.bucket(&input.bucket)?;
        let upload =
            state.uploads.get_mut(&input.upload_id).ok_or_else(|| s3_error!(NoSuchUpload))?;
        if upload.summed != input.checksum_sha256.is_some() {
            return Err(s3_error!(
                InvalidRequest,
                "a part's checksum is of the kind that was announced"
            ));
        }
        let etag = hex(&md5(&body));
        upload.parts.insert(input.part_number, (body, etag.clone()));
        let e_tag = Some(ETag::Strong(etag));
        Ok(S3Response::new(UploadPartOutput { e_tag, ..Default::default() }))
    }

    async fn upload_part_copy(
        &self,
        req: S3Request<UploadPartCopyInput>,
    ) -> S3Result<S3Response<UploadPartCopyOutput>> {
        let input = req.input;
        let CopySource::Bucket { bucket, key, .. } = &input.copy_source else {
            return Err(s3_error!(NotImplemented));
        };
        let mut state = self.bucket(bucket)?;
        let stored = state.objects.get(&**key).ok_or_else(|| s3_error!(NoSuchKey))?;
        verify(Some(stored), input.copy_source_if_match.as_ref(), None)?;
        let range = input.copy_source_range.as_deref().and_then(|text| text.strip_prefix("bytes="));
        let range = range.and_then(|text| text.split_once('-'));
        let number = |text: &str| text.parse::<usize>().ok();
        let body = match range.map(|(first, last)| (number(first), number(last))) {
            Some((Some(first), Some(last))) if first <= last && last < stored.body.len() => {
                stored.body.slice(first..=last)
            }
            Some(_) => return Err(s3_error!(InvalidRange)),
            None => stored.body.clone(),
        };
        let upload =
            state.uploads.get_mut(&input.upload_id).ok_or_else(|| s3_error!(NoSuchUpload))?;
        let etag = hex(&md5(&body));
        let checksum_sha256 = upload.summed.then(|| sha256(&body));
        upload.parts.insert(input.part_number, (body, etag.clone()));
        let e_tag = Some(ETag::Strong(etag));
        let result = CopyPartResult { e_tag, checksum_sha256, ..Default::default() };
        let output = UploadPartCopyOutput { copy_part_result: Some(result), ..Default::default() };
        Ok(S3Response::new(output))
    }

    async fn complete_multipart_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = req.input;
        let mut state = self.bucket(&input.bucket)?;
        let found = state.objects.get(&input.key);
        verify(found, input.if_match.as_ref(), input.if_none_match.as_ref())?;
        let upload = state.uploads.get(&input.upload_id).filter(|upload| upload.key == input.key);
        let upload = upload.ok_or_else(|| s3_error!(NoSuchUpload))?;
        let (mut body, mut sums, mut count) = (BytesMut::new(), Vec::new(), 0);
        for part in input.multipart_upload.and_then(|parts| parts.parts).into_iter().flatten() {
            let stored = part.part_number.and_then(|number| upload.parts.get(&number));
            let (content, etag) = stored.ok_or_else(|| s3_error!(InvalidPart))?;
            if part.e_tag.as_ref().map(ETag::value) != Some(etag) {
                return Err(s3_error!(InvalidPart));
            }
            let sum = upload.summed.then(|| sha256(content));
            if part.checksum_sha256 != sum {
                return Err(s3_error!(InvalidPart, "each part has the checksum that it came with"));
            }
            sums.extend(md5(content));
            body.extend_from_slice(content);
            count += 1;
        }
        let stored = Stored {
            body: body.freeze(),
            metadata: upload.metadata.clone(),
            content_type: None,
            etag: format!("{}-{count}", hex(&md5(&sums))),
            modified: now(),
        };
        state.uploads.remove(&input.upload_id);
        let e_tag = Some(self.store(&mut state, input.key, stored));
        let output = CompleteMultipartUploadOutput { e_tag, ..Default::default() };
        Ok(S3Response::new(output))
    }

    async fn abort_multipart_upload(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let mut state = self.bucket(&req.input.bucket)?;
        match state.uploads.remove(&req.input.upload_id) {
            Some(_) => Ok(S3Response::new(AbortMultipartUploadOutput::default())),
            None => Err(s3_error!(NoSuchUpload)),
        }
    }
}
