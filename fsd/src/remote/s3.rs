//! S3, and what speaks like it. Requests are our own, so that every key of a bucket can be named, listed and
//! told apart, and every status is seen; `object_store` gets the credentials and signs.
//!
//! A directory's marker is the empty object `dir/`.

mod bulk;
mod parts;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use object_store::aws::{AmazonS3Builder, AwsAuthorizer, AwsCredentialProvider};
use object_store::client::HttpRequest;
use object_store::gcp::GcpCredentialProvider;

use super::credentials::FromFiles;
use super::env::{AwsSettings, Env};
use super::http::{Http, Pace, REPLY_BYTES_MAX, Reply};
use super::reply::{self, Errors, ProtocolError};
use super::xml::Element;
use super::{
    Body, Condition, ETag, Limits, Object, OpenError, Page, PageToken, PartId, Remote, RemoteError,
    Result, Source, UploadId,
};
use crate::clock::Clock;
use crate::types::{Key, Metadata, Sha256};

const COPY_BYTES_MAX: u64 = 5 << 30;
const CHECKSUM: &str = "x-amz-checksum-sha256";

/// How long the bucket counts as there after it was seen. An answer to a head has no body, so its 404 may
/// be the bucket's; then the bucket is looked at, at most this often.
const BUCKET_SEEN: Duration = Duration::from_secs(10);

/// What of an object's headers its copy must be told, when the metadata is replaced.
const KEPT_HEADERS: [&str; 6] = [
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-type",
    "x-amz-storage-class",
];

/// A bucket.
pub(super) struct S3 {
    pub(super) http: Http,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) signer: Signer,
    /// URL of the bucket, without a slash at the end.
    pub(super) bucket_url: String,
    /// The bucket as a copy's source names it: `/bucket`.
    pub(super) bucket_path: String,
    /// Every key of the share begins with it.
    pub(super) prefix: String,
    /// What it is called in errors and logs.
    pub(super) name: String,
    /// When the bucket was last seen, in milliseconds of the monotonic clock and one more; 0 is never.
    pub(super) bucket_seen: AtomicU64,
    /// The server does not delete many objects by one request.
    bulk_refused: AtomicBool,
}

/// Who we are to the store, and its dialect.
#[derive(Debug)]
pub(super) enum Signer {
    Aws {
        credentials: Option<AwsCredentialProvider>,
        region: String,
        sign_body: bool,
        ambient: bool,
    },
    Google {
        credentials: Option<GcpCredentialProvider>,
        ambient: bool,
    },
}

impl S3 {
    /// Opens a bucket; nothing is sent.
    pub(super) fn open(
        bucket: &str,
        prefix: &str,
        name: String,
        env: &Env,
        http: Http,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, OpenError> {
        let settings = AwsSettings::read(env)?;
        let region = settings.region.unwrap_or_else(|| "us-east-1".into());
        let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        let endpoint = settings.endpoint.unwrap_or_else(|| format!("https://s3.{region}.{domain}"));
        let files = if settings.keys.is_some() { AwsSettings::files(env) } else { Vec::new() };
        let from = (env.clone(), bucket.to_owned(), region.clone(), http.clone());
        let make = move || credentials(&from.0, &from.1, &from.2, &from.3);
        let provider = FromFiles::open(files, make)?;
        let anonymous = env.get("AWS_SKIP_SIGNATURE") == Some("true");
        let elsewhere = [
            "AWS_ACCESS_KEY_ID",
            "AWS_WEB_IDENTITY_TOKEN_FILE",
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        ];
        let signer = Signer::Aws {
            credentials: (!anonymous).then_some(provider),
            region,
            // TLS keeps the body whole already.
            sign_body: is_open_to_others(&endpoint),
            ambient: settings.keys.is_none()
                && elsewhere.iter().all(|name| env.get(name).is_none()),
        };
        Ok(Self::new(&endpoint, bucket, prefix, name, signer, http, clock))
    }

    pub(super) fn new(
        endpoint: &str,
        bucket: &str,
        prefix: &str,
        name: String,
        signer: Signer,
        http: Http,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            http,
            clock,
            signer,
            bucket_url: format!("{endpoint}/{bucket}"),
            bucket_path: format!("/{bucket}"),
            prefix: prefix.to_owned(),
            name,
            bucket_seen: AtomicU64::new(0),
            bulk_refused: AtomicBool::new(false),
        }
    }

    fn errors<'a>(&'a self, key: &'a Key) -> Errors<'a> {
        Errors { store: &self.name, key }
    }

    /// URL of an object.
    fn object_url(&self, key: &Key) -> Result<String> {
        let path = reply::key_path(&format!("{}{key}", self.prefix));
        let path = path.map_err(|error| self.errors(key).rejected(error))?;
        match key.as_str() {
            "" => Err(self.errors(key).rejected(ProtocolError::Key)),
            _ => Ok(format!("{}/{path}", self.bucket_url)),
        }
    }

    /// Sends a request about `key`; any status is an answer.
    async fn send(&self, key: &Key, request: Request) -> Result<Reply> {
        let errors = self.errors(key);
        let Request { method, url, headers, body, sum, pace, reply_bytes_max } = request;
        let mut request = HttpRequest::new(body.into());
        *request.method_mut() = method;
        *request.uri_mut() =
            url.parse().map_err(|error: http::uri::InvalidUri| errors.rejected(error))?;
        *request.headers_mut() = headers;
        self.sign(&mut request, sum)
            .await
            .map_err(|(error, ambient)| errors.of_credentials(error, ambient))?;
        let reply = self.http.send(request, pace, reply_bytes_max).await;
        let reply = reply.map_err(|error| errors.of_send(error))?;
        if reply.status.is_success() {
            self.bucket_seen.store(self.now_millis() + 1, Ordering::Relaxed);
        }
        Ok(reply)
    }

    /// Sends a request that must succeed.
    async fn ask(&self, key: &Key, request: Request) -> Result<Reply> {
        let reply = self.send(key, request).await?;
        match reply.status.is_success() {
            true => Ok(reply),
            false => Err(self.errors(key).of_reply(&reply)),
        }
    }

    /// Signs a request, and the hash of its body if that is known or somebody could change it: any server refuses another body then.
    async fn sign(
        &self,
        request: &mut HttpRequest,
        sum: Option<Sha256>,
    ) -> Result<(), (object_store::Error, bool)> {
        match &self.signer {
            Signer::Aws { credentials: Some(credentials), region, sign_body, ambient } => {
                let credential = credentials.get_credential().await.map_err(|e| (e, *ambient))?;
                AwsAuthorizer::new(&credential, "s3", region)
                    .with_sign_payload(*sign_body || sum.is_some())
                    .try_authorize(request, sum.as_ref().map(|sum| &sum.bytes()[..]))
                    .map_err(|error| (error, *ambient))
            }
            Signer::Google { credentials: Some(credentials), ambient } => {
                let credential = credentials.get_credential().await.map_err(|e| (e, *ambient))?;
                if let Ok(mut value) =
                    HeaderValue::try_from(format!("Bearer {}", credential.bearer))
                {
                    value.set_sensitive(true);
                    request.headers_mut().insert(header::AUTHORIZATION, value);
                }
                Ok(())
            }
            Signer::Aws { credentials: None, .. } | Signer::Google { credentials: None, .. } => {
                Ok(())
            }
        }
    }

    fn now_millis(&self) -> u64 {
        u64::try_from(self.clock.monotonic().as_millis()).unwrap_or(u64::MAX - 1)
    }

    /// Fails if the bucket is not there; believes what it saw a moment ago.
    async fn bucket_is_there(&self) -> Result<()> {
        let seen = self.bucket_seen.load(Ordering::Relaxed);
        let age = (self.now_millis() + 1).saturating_sub(seen);
        match seen > 0 && u128::from(age) < BUCKET_SEEN.as_millis() {
            true => Ok(()),
            false => self.check().await,
        }
    }

    /// An object, and the headers it came with.
    async fn look(&self, key: &Key) -> Result<(Object, HeaderMap)> {
        let reply = self.send(key, Request::new(Method::HEAD, self.object_url(key)?)).await?;
        let errors = self.errors(key);
        if reply.status == StatusCode::NOT_FOUND {
            self.bucket_is_there().await?;
            return Err(errors.not_found());
        }
        if !reply.status.is_success() {
            return Err(errors.of_reply(&reply));
        }
        let headers = reply.headers;
        let modified = reply::text_header(&headers, "last-modified").and_then(reply::time);
        let object = Object {
            key: key.clone(),
            size: errors.need(reply::content_length(&headers), "a content-length")?,
            etag: errors.need(self.signer.version(&headers), "a version")?,
            modified: errors.need(modified, "a last-modified time")?,
            metadata: Some(reply::metadata(&headers, self.signer.metadata_prefix())),
        };
        Ok((object, headers))
    }

    /// The version that a write made: as the store says, or else as it shows.
    async fn version_of(&self, key: &Key, headers: &HeaderMap) -> Result<ETag> {
        match self.signer.version(headers) {
            Some(etag) => Ok(etag),
            None => Ok(self.look(key).await?.0.etag),
        }
    }

    /// Fails if the object in place is not as `condition` says.
    async fn verify(&self, key: &Key, condition: &Condition) -> Result<()> {
        let holds = match condition {
            Condition::Always => true,
            Condition::Absent => match self.head(key).await {
                Err(RemoteError::NotFound { .. }) => true,
                found => found.map(|_| false)?,
            },
            Condition::Match(etag) => match self.head(key).await {
                Err(RemoteError::NotFound { .. }) => false,
                found => found?.etag == *etag,
            },
        };
        if holds { Ok(()) } else { Err(self.errors(key).precondition()) }
    }

    fn with_metadata(&self, key: &Key, headers: &mut HeaderMap, metadata: &Metadata) -> Result<()> {
        reply::put_metadata(headers, self.signer.metadata_prefix(), metadata)
            .map_err(|error| self.errors(key).rejected(error))
    }

    /// The headers of a copy to `key` that has other metadata than its source, whose headers are `found`.
    fn replacing(&self, key: &Key, found: &HeaderMap, metadata: &Metadata) -> Result<HeaderMap> {
        let mut headers = HeaderMap::new();
        for name in KEPT_HEADERS {
            headers.extend(found.get(name).map(|v| (HeaderName::from_static(name), v.clone())));
        }
        self.with_metadata(key, &mut headers, metadata)?;
        let replace = HeaderValue::from_static("REPLACE");
        headers.insert(self.signer.header("metadata-directive"), replace);
        Ok(headers)
    }

    /// Says that the version `expect` of `from` is to be copied, and no other.
    fn name_source(&self, headers: &mut HeaderMap, from: &Key, expect: &ETag) -> Result<()> {
        let (condition, version) = match self.signer {
            Signer::Aws { .. } => ("copy-source-if-match", reply::quoted(expect)),
            Signer::Google { .. } => ("copy-source-if-generation-match", expect.0.clone()),
        };
        let version = HeaderValue::try_from(version).map_err(|e| self.errors(from).rejected(e))?;
        headers.insert(self.signer.header(condition), version);
        let path = reply::key_path(&format!("{}{from}", self.prefix));
        let path = path.map_err(|error| self.errors(from).rejected(error))?;
        let source = format!("{}/{path}", self.bucket_path);
        let source =
            HeaderValue::try_from(source).map_err(|error| self.errors(from).rejected(error))?;
        headers.insert(self.signer.header("copy-source"), source);
        Ok(())
    }

    /// Copies the version `expect` of `from` to `to` with more `headers`.
    async fn copy_with(
        &self,
        from: &Key,
        expect: &ETag,
        to: &Key,
        mut headers: HeaderMap,
    ) -> Result<ETag> {
        self.name_source(&mut headers, from, expect)?;
        let mut request = Request::new(Method::PUT, self.object_url(to)?);
        request.headers = headers;
        let reply = match self.ask(to, request).await {
            Err(RemoteError::NotFound { .. }) => return Err(self.errors(from).not_found()),
            reply => reply?,
        };
        let result = self.result(to, &reply)?;
        match (&self.signer, result.text_of("ETag")) {
            (Signer::Aws { .. }, Some(text)) => Ok(reply::etag(text)),
            (Signer::Aws { .. } | Signer::Google { .. }, _) => {
                self.version_of(to, &reply.headers).await
            }
        }
    }

    /// The document of a success, which may still turn out to be an error.
    fn result<'a>(&self, key: &Key, reply: &'a Reply) -> Result<Element<'a>> {
        let root = self.errors(key).xml(&reply.body)?;
        match &*root.name {
            // Such an error comes after the status was sent: the store failed on the way.
            "Error" => {
                let status = StatusCode::INTERNAL_SERVER_ERROR;
                let (headers, body) = (HeaderMap::new(), reply.body.clone());
                Err(self.errors(key).of_reply(&Reply { status, headers, body }))
            }
            _ => Ok(root),
        }
    }

    fn listed(&self, root: &Element<'_>, prefix: &Key) -> Result<Page> {
        let errors = self.errors(prefix);
        let form = root.text_of("EncodingType").is_some_and(|t| t.eq_ignore_ascii_case("url"));
        let key = |text: &str| {
            let raw = if form { reply::decoded(text, true) } else { text.to_owned() };
            raw.strip_prefix(&self.prefix).map(Key::from_raw)
        };
        let mut page = Page::default();
        for entry in root.all("Contents") {
            let Some(key) = entry.text_of("Key").and_then(key) else { continue };
            if key == *prefix {
                continue;
            }
            let size = entry.text_of("Size").and_then(|text| text.parse().ok());
            page.objects.push(Object {
                key,
                size: errors.need(size, "a size")?,
                etag: errors.need(self.signer.listed_version(entry), "a version")?,
                modified: entry.text_of("LastModified").and_then(reply::time).unwrap_or_default(),
                metadata: None,
            });
        }
        let prefixes = root.all("CommonPrefixes").filter_map(|entry| entry.text_of("Prefix"));
        page.prefixes.extend(prefixes.filter_map(key).filter(|key| key != prefix));
        page.next = root.text_of("NextContinuationToken").map(|token| PageToken(token.into()));
        Ok(page)
    }
}

impl Signer {
    fn metadata_prefix(&self) -> &'static str {
        match self {
            Self::Aws { .. } => "x-amz-meta-",
            Self::Google { .. } => "x-goog-meta-",
        }
    }

    /// A header that both dialects have, each with its own prefix.
    fn header(&self, name: &'static str) -> HeaderName {
        let prefix = match self {
            Self::Aws { .. } => "x-amz-",
            Self::Google { .. } => "x-goog-",
        };
        HeaderName::try_from(format!("{prefix}{name}")).unwrap_or(header::WARNING)
    }

    /// Google's versions are generations: its conditions on writes know nothing else.
    fn version(&self, headers: &HeaderMap) -> Option<ETag> {
        match self {
            Self::Aws { .. } => reply::text_header(headers, "etag").map(reply::etag),
            Self::Google { .. } => {
                reply::text_header(headers, "x-goog-generation").map(reply::etag)
            }
        }
    }

    fn listed_version(&self, entry: &Element<'_>) -> Option<ETag> {
        match self {
            // Some servers have none for a directory's marker.
            Self::Aws { .. } => Some(reply::etag(entry.text_of("ETag").unwrap_or_default())),
            Self::Google { .. } => entry.text_of("Generation").map(reply::etag),
        }
    }

    /// Lets the store refuse the body if it comes as another one.
    fn checksum(&self, headers: &mut HeaderMap, body: &Body) {
        match self {
            Self::Aws { .. } => {
                let sum = HeaderValue::try_from(body.sha256().base64());
                headers.extend(sum.map(|sum| (HeaderName::from_static(CHECKSUM), sum)));
            }
            Self::Google { .. } => reply::content_md5(headers, body.bytes()),
        }
    }

    /// Whether requests are signed with the hash of their bodies.
    fn signs_bodies(&self) -> bool {
        matches!(self, Self::Aws { credentials: Some(_), .. })
    }

    fn condition(&self, headers: &mut HeaderMap, condition: &Condition) {
        let generation = HeaderName::from_static("x-goog-if-generation-match");
        let (name, value) = match (self, condition) {
            (_, Condition::Always) => return,
            (Self::Aws { .. }, Condition::Absent) => (header::IF_NONE_MATCH, "*".to_owned()),
            (Self::Aws { .. }, Condition::Match(etag)) => (header::IF_MATCH, reply::quoted(etag)),
            (Self::Google { .. }, Condition::Absent) => (generation, "0".to_owned()),
            (Self::Google { .. }, Condition::Match(etag)) => (generation, etag.0.clone()),
        };
        // A version that is no header's value is none of the store's: nothing would match it.
        headers
            .insert(name, HeaderValue::try_from(value).unwrap_or(HeaderValue::from_static("\"\"")));
    }
}

/// What gives the keys of a bucket.
fn credentials(
    env: &Env,
    bucket: &str,
    region: &str,
    http: &Http,
) -> Result<AwsCredentialProvider, OpenError> {
    let mut builder = AmazonS3Builder::new().with_bucket_name(bucket);
    for (variable, value) in env.starting("AWS_") {
        if let Ok(key) = variable.to_ascii_lowercase().parse() {
            builder = builder.with_config(key, value);
        }
    }
    if let Some(keys) = &AwsSettings::read(env)?.keys {
        builder = builder.with_access_key_id(&keys.id).with_secret_access_key(&keys.secret);
        if let Some(token) = &keys.token {
            builder = builder.with_token(token);
        }
    }
    let store = builder
        .with_region(region)
        .with_retry(no_retry())
        .with_http_connector(http.clone())
        .build()
        .map_err(|error| OpenError::Client { source: Box::new(error) })?;
    Ok(Arc::clone(store.credentials()))
}

/// Whether somebody on the way could change a body: then its hash is signed with the request.
fn is_open_to_others(endpoint: &str) -> bool {
    let url = reqwest::Url::parse(endpoint).ok();
    let host = url.as_ref().and_then(reqwest::Url::host_str).unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    let is_here = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
    !endpoint.starts_with("https://") && !is_here
}

/// A request before it is signed.
struct Request {
    method: Method,
    url: String,
    headers: HeaderMap,
    body: Bytes,
    /// The body's hash, if that is known.
    sum: Option<Sha256>,
    pace: Pace,
    reply_bytes_max: u64,
}

impl Request {
    fn new(method: Method, url: String) -> Self {
        Self {
            method,
            url,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            sum: None,
            pace: Pace::Control,
            reply_bytes_max: REPLY_BYTES_MAX,
        }
    }

    fn with_content(method: Method, url: String, body: &Body) -> Self {
        let sum = Some(body.sha256());
        Self { body: body.bytes().clone(), sum, pace: Pace::Content, ..Self::new(method, url) }
    }
}

/// Retries are the decorators' work.
pub(super) fn no_retry() -> object_store::RetryConfig {
    object_store::RetryConfig { max_retries: 0, ..Default::default() }
}

#[async_trait]
impl Remote for S3 {
    fn limits(&self) -> Limits {
        Limits {
            put_bytes_max: 5 << 30,
            part_bytes_min: 5 << 20,
            parts_max: 10_000,
            deletes_max: self.deletes_max(),
        }
    }

    async fn check(&self) -> Result<()> {
        let key = Key::from_raw("");
        let query = [("list-type", "2"), ("max-keys", "1"), ("prefix", &*self.prefix)];
        let url = format!("{}?{}", self.bucket_url, reply::query(&query));
        self.ask(&key, Request::new(Method::GET, url)).await.map(drop)
    }

    async fn head(&self, key: &Key) -> Result<Object> {
        Ok(self.look(key).await?.0)
    }

    async fn get(&self, key: &Key, range: Range<u64>, expect: Option<&ETag>) -> Result<Bytes> {
        let verify = async |bytes| match expect {
            Some(etag) => self.verify(key, &Condition::Match(etag.clone())).await.map(|()| bytes),
            None => self.head(key).await.map(|_| bytes),
        };
        if range.is_empty() {
            return verify(Bytes::new()).await;
        }
        let mut request = Request::new(Method::GET, self.object_url(key)?);
        request.pace = Pace::Content;
        request.reply_bytes_max = range.end - range.start;
        let value = reply::range_value(&range);
        request.headers.extend(HeaderValue::try_from(value).map(|value| (header::RANGE, value)));
        if let Signer::Google { .. } = self.signer {
            // Else an object stored compressed is sent decompressed, without its ranges.
            let gzip = HeaderValue::from_static("gzip");
            request.headers.insert(header::ACCEPT_ENCODING, gzip);
        }
        if let Some(etag) = expect {
            self.signer.condition(&mut request.headers, &Condition::Match(etag.clone()));
        }
        let reply = self.send(key, request).await?;
        let errors = self.errors(key);
        match reply.status {
            StatusCode::RANGE_NOT_SATISFIABLE => return verify(Bytes::new()).await,
            StatusCode::OK if range.start > 0 => {
                return Err(errors.rejected(ProtocolError::Lacks("the range asked for")));
            }
            status if status.is_success() => {
                reply::check_length(&reply).map_err(|error| errors.unreachable(error))?;
            }
            _ => return Err(errors.of_reply(&reply)),
        }
        // Some servers ignore the condition.
        match (expect, self.signer.version(&reply.headers)) {
            (Some(expected), Some(etag)) if *expected != etag => Err(errors.precondition()),
            (Some(_), None) => verify(reply.body).await,
            (Some(_) | None, Some(_)) | (None, None) => Ok(reply.body),
        }
    }

    async fn list(&self, prefix: &Key, page: Option<&PageToken>) -> Result<Page> {
        let full = format!("{}{prefix}", self.prefix);
        let fixed = [
            ("list-type", "2"),
            ("delimiter", "/"),
            ("encoding-type", "url"),
            ("max-keys", "1000"),
            ("prefix", &*full),
        ];
        let token = page.map(|token| ("continuation-token", &*token.0));
        let query = reply::query(&fixed.into_iter().chain(token).collect::<Vec<_>>());
        let request = Request::new(Method::GET, format!("{}?{query}", self.bucket_url));
        let reply = self.ask(prefix, request).await?;
        self.listed(&self.errors(prefix).xml(&reply.body)?, prefix)
    }

    async fn put(
        &self,
        key: &Key,
        body: Body,
        metadata: &Metadata,
        condition: &Condition,
    ) -> Result<ETag> {
        let mut request = Request::with_content(Method::PUT, self.object_url(key)?, &body);
        self.signer.checksum(&mut request.headers, &body);
        self.with_metadata(key, &mut request.headers, metadata)?;
        self.signer.condition(&mut request.headers, condition);
        if key.is_dir() {
            reply::content_type(&mut request.headers, "application/x-directory");
        }
        let reply = self.ask(key, request).await?;
        self.version_of(key, &reply.headers).await
    }

    async fn copy(
        &self,
        from: &Key,
        expect: &ETag,
        to: &Key,
        metadata: &Metadata,
        condition: &Condition,
    ) -> Result<ETag> {
        let (object, found) = self.look(from).await?;
        if object.etag != *expect {
            return Err(self.errors(from).precondition());
        }
        if object.size > COPY_BYTES_MAX {
            return Err(self.errors(from).unsupported("copy objects over 5 GiB"));
        }
        self.verify(to, condition).await?;
        let mut headers = self.replacing(to, &found, metadata)?;
        self.signer.condition(&mut headers, condition);
        self.copy_with(from, expect, to, headers).await
    }

    async fn set_metadata(&self, key: &Key, metadata: &Metadata, expect: &ETag) -> Result<ETag> {
        let (object, found) = self.look(key).await?;
        if object.etag != *expect {
            return Err(self.errors(key).precondition());
        }
        if object.size > COPY_BYTES_MAX {
            return Err(self.errors(key).unsupported("change metadata of objects over 5 GiB"));
        }
        let headers = self.replacing(key, &found, metadata)?;
        self.copy_with(key, expect, key, headers).await
    }

    async fn delete(&self, key: &Key, condition: &Condition) -> Result<()> {
        let url = self.object_url(key)?;
        let mut request = Request::new(Method::DELETE, url.clone());
        if let Condition::Match(_) = condition {
            match self.verify(key, condition).await {
                Err(RemoteError::Precondition { .. }) => {
                    // Not there counts as deleted; there, and another one, does not.
                    return self.verify(key, &Condition::Absent).await;
                }
                verified => verified?,
            }
            self.signer.condition(&mut request.headers, condition);
        } else {
            self.verify(key, condition).await?;
        }
        let mut reply = self.send(key, request).await?;
        if reply.status == StatusCode::NOT_IMPLEMENTED {
            // Older servers know no condition here; it was looked at above.
            reply = self.send(key, Request::new(Method::DELETE, url)).await?;
        }
        if reply.status.is_success() {
            return Ok(());
        }
        match Err(self.errors(key).of_reply(&reply)) {
            Err(RemoteError::NotFound { .. }) => Ok(()),
            result => result,
        }
    }

    async fn delete_many(&self, objects: &[(Key, ETag)]) -> Result<Vec<Result<()>>> {
        self.delete_all(objects).await
    }

    async fn multipart_create(&self, key: &Key, metadata: &Metadata) -> Result<UploadId> {
        self.begin_upload(key, metadata).await
    }

    async fn multipart_put(
        &self,
        key: &Key,
        id: &UploadId,
        number: u32,
        body: Body,
    ) -> Result<PartId> {
        self.send_part(key, id, number, &body).await
    }

    async fn multipart_copy(
        &self,
        key: &Key,
        id: &UploadId,
        number: u32,
        source: &Source,
    ) -> Result<PartId> {
        self.copy_part(key, id, number, source).await
    }

    async fn multipart_complete(
        &self,
        key: &Key,
        id: &UploadId,
        parts: &[PartId],
        metadata: &Metadata,
        condition: &Condition,
    ) -> Result<ETag> {
        self.end_upload(key, id, parts, metadata, condition).await
    }

    async fn multipart_abort(&self, key: &Key, id: &UploadId) -> Result<()> {
        self.drop_upload(key, id).await
    }
}

impl fmt::Display for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl fmt::Debug for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3")
            .field("name", &self.name)
            .field("bucket_url", &self.bucket_url)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_hashed_where_others_could_change_them() {
        for (endpoint, open) in [
            ("http://10.0.0.7:9000", true),
            ("http://minio.lan", true),
            ("https://s3.eu-west-1.amazonaws.com", false),
            ("http://127.0.0.1:9000", false),
            ("http://[::1]:9000", false),
            ("http://localhost:9000/x", false),
        ] {
            assert_eq!(is_open_to_others(endpoint), open, "{endpoint}");
        }
    }
}
