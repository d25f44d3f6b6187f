//! Uploads in parts.
//!
//! Whether the store takes checksums of parts it says when an upload begins; from then on each part and the end must carry them. So
//! the upload's name as the others know it says it too, and the names of its parts carry theirs.

use std::iter;

use http::{HeaderName, HeaderValue, Method};

use super::{Request, S3, Signer};
use crate::remote::reply::{self, ProtocolError};
use crate::remote::{
    Body, Condition, ETag, PartId, Remote as _, RemoteError, Result, Source, UploadId,
};
use crate::types::{Key, Metadata};

const ALGORITHM: &str = "x-amz-checksum-algorithm";
/// Before the name of an upload whose parts carry checksums.
const SUMMED: &str = "sha256:";
/// Between a part's version and its checksum.
const AND_SUM: char = ' ';

/// The store's own name of an upload, and whether its parts carry checksums.
fn name_of(id: &UploadId) -> (&str, bool) {
    match id.0.strip_prefix(SUMMED) {
        Some(name) => (name, true),
        None => (&id.0, false),
    }
}

fn part_id(etag: &str, sum: Option<&str>) -> PartId {
    let etag = reply::etag(etag).0;
    PartId(sum.map_or(etag.clone(), |sum| format!("{etag}{AND_SUM}{sum}")))
}

impl S3 {
    pub(super) async fn begin_upload(&self, key: &Key, metadata: &Metadata) -> Result<UploadId> {
        let url = format!("{}?uploads=", self.object_url(key)?);
        let mut request = Request::new(Method::POST, url);
        self.with_metadata(key, &mut request.headers, metadata)?;
        if let Signer::Aws { .. } = self.signer {
            request.headers.insert(ALGORITHM, HeaderValue::from_static("SHA256"));
        }
        let reply = self.ask(key, request).await?;
        let root = self.result(key, &reply)?;
        let id = self.errors(key).need(root.text_of("UploadId"), "an upload's name")?;
        let summed = reply::text_header(&reply.headers, ALGORITHM) == Some("SHA256");
        Ok(UploadId(format!("{}{id}", if summed { SUMMED } else { "" })))
    }

    fn part_url(&self, key: &Key, upload: &str, number: u32) -> Result<String> {
        let number = (u64::from(number) + 1).to_string();
        let query = reply::query(&[("partNumber", &number), ("uploadId", upload)]);
        Ok(format!("{}?{query}", self.object_url(key)?))
    }

    pub(super) async fn send_part(
        &self,
        key: &Key,
        id: &UploadId,
        number: u32,
        body: &Body,
    ) -> Result<PartId> {
        let (upload, summed) = name_of(id);
        let url = self.part_url(key, upload, number)?;
        let mut request = Request::with_content(Method::PUT, url, body);
        match summed {
            true => self.signer.checksum(&mut request.headers, body),
            false if self.signer.signs_bodies() => {}
            false => reply::content_md5(&mut request.headers, body.bytes()),
        }
        let reply = self.ask(key, request).await?;
        let etag = reply::text_header(&reply.headers, "etag");
        let etag = self.errors(key).need(etag, "a part's version")?;
        Ok(part_id(etag, summed.then(|| body.sha256().base64()).as_deref()))
    }

    pub(super) async fn copy_part(
        &self,
        key: &Key,
        id: &UploadId,
        number: u32,
        source: &Source,
    ) -> Result<PartId> {
        if let Signer::Google { .. } = self.signer {
            return Err(self.errors(key).unsupported("copy a part of an object"));
        }
        let (upload, summed) = name_of(id);
        let mut request = Request::new(Method::PUT, self.part_url(key, upload, number)?);
        self.name_source(&mut request.headers, &source.key, &source.etag)?;
        let range = HeaderValue::try_from(reply::range_value(&source.range));
        let name = HeaderName::from_static("x-amz-copy-source-range");
        request.headers.extend(range.map(|range| (name, range)));
        let reply = self.ask(key, request).await?;
        let errors = self.errors(key);
        let result = self.result(key, &reply)?;
        let etag = errors.need(result.text_of("ETag"), "a part's version")?;
        let known = source.sha256.map(|sum| sum.base64());
        let said = result.text_of("ChecksumSHA256").filter(|_| summed);
        match (said, &known) {
            (Some(said), Some(known)) if said != known => {
                Err(errors.damaged(ProtocolError::Lacks("the bytes that were copied")))
            }
            (said, known) => Ok(part_id(etag, said.or(known.as_deref().filter(|_| summed)))),
        }
    }

    pub(super) async fn end_upload(
        &self,
        key: &Key,
        id: &UploadId,
        parts: &[PartId],
        metadata: &Metadata,
        condition: &Condition,
    ) -> Result<ETag> {
        let query = reply::query(&[("uploadId", name_of(id).0)]);
        let part = |(part, number): (&PartId, u32)| {
            let (etag, sum) = match part.0.split_once(AND_SUM) {
                Some((etag, sum)) => (etag, format!("<ChecksumSHA256>{sum}</ChecksumSHA256>")),
                None => (&*part.0, String::new()),
            };
            let etag = reply::xml_text(&format!("\"{etag}\""));
            format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag>{sum}</Part>")
        };
        let parts_xml: String = iter::zip(parts, 1u32..).map(part).collect();
        let body = format!("<CompleteMultipartUpload>{parts_xml}</CompleteMultipartUpload>");
        let url = format!("{}?{query}", self.object_url(key)?);
        let mut request = Request::new(Method::POST, url);
        request.body = body.into();
        self.signer.condition(&mut request.headers, condition);
        // Some servers ignore the condition here; a look costs little beside the parts.
        let reply = match self.verify(key, condition).await {
            Ok(()) => self.ask(key, request).await,
            Err(error) => Err(error),
        };
        match reply {
            // Perhaps we completed it before, and the answer was lost: then the upload is gone (some servers
            // say «denied»), and what is in place is ours.
            Err(
                error @ (RemoteError::NotFound { .. }
                | RemoteError::Denied { .. }
                | RemoteError::Precondition { .. }),
            ) => self.is_completed(key, parts.len(), metadata).await.ok_or(error),
            Err(error) => Err(error),
            Ok(reply) => match (&self.signer, self.result(key, &reply)?.text_of("ETag")) {
                (Signer::Aws { .. }, Some(text)) => Ok(reply::etag(text)),
                (Signer::Aws { .. } | Signer::Google { .. }, _) => {
                    self.version_of(key, &reply.headers).await
                }
            },
        }
    }

    /// Whether the object in place is what completing an upload has made: the answer may have been lost. Its metadata was given at the
    /// beginning, when not all that is to be said of it was known.
    async fn is_completed(&self, key: &Key, parts: usize, metadata: &Metadata) -> Option<ETag> {
        let found = self.head(key).await.ok()?;
        let as_many = match found.etag.0.rsplit_once('-') {
            Some((_, count)) => count.parse() == Ok(parts),
            None => true,
        };
        let said = found.metadata.unwrap_or_default();
        let is_said = !said.is_empty() && said.iter().all(|(k, v)| metadata.get(k) == Some(v));
        (as_many && is_said).then_some(found.etag)
    }

    pub(super) async fn drop_upload(&self, key: &Key, id: &UploadId) -> Result<()> {
        let query = reply::query(&[("uploadId", name_of(id).0)]);
        let url = format!("{}?{query}", self.object_url(key)?);
        match self.ask(key, Request::new(Method::DELETE, url)).await {
            Err(RemoteError::NotFound { .. }) => Ok(()),
            result => result.map(drop),
        }
    }
}
