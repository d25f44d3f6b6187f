//! Azure Blob Storage. Requests are our own, so that every blob can be named and listed, blocks can be committed
//! with metadata, and every status is seen; `object_store` gets the credentials and signs.
//!
//! A directory's marker is the blob `dir` with the metadata `hdi_isfolder`, as Azure's hierarchical tools
//! make it. Its key is `dir/` all the same; such a blob is never listed as an object.
//!
//! Invariant: a file's blob never takes the place of a directory's marker, nor the other way round: it waits until that is gone.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use object_store::azure::{
    AzureAuthorizer, AzureConfigKey, AzureCredential, AzureCredentialProvider,
    MicrosoftAzureBuilder,
};
use object_store::client::HttpRequest;

use super::credentials::FromFiles;
use super::env::{AzureSettings, Env};
use super::http::{Http, Pace, REPLY_BYTES_MAX, Reply};
use super::reply::{self, Errors, ProtocolError};
use super::s3::no_retry;
use super::xml::Element;
use super::{
    Body, Condition, ETag, Limits, Object, OpenError, Page, PageToken, PartId, Remote, RemoteError,
    Result, Source, UploadId,
};
use crate::clock::Clock;
use crate::rng::Rng;
use crate::types::{Key, Metadata};

const METADATA: &str = "x-ms-meta-";
const MARKER: &str = "hdi_isfolder";

/// How long a copy inside the store may take, and how often it is looked at.
const COPY_WAIT_MAX: Duration = Duration::from_secs(600);
const COPY_LOOK_EVERY: Duration = Duration::from_secs(1);

/// A container.
pub(super) struct Azure {
    http: Http,
    clock: Arc<dyn Clock>,
    rng: Mutex<Rng>,
    account: String,
    /// None: requests are not signed.
    credentials: Option<AzureCredentialProvider>,
    /// Credentials are sought on the machine's own network.
    ambient: bool,
    /// URL of the container, without a slash at the end.
    container_url: String,
    /// Every key of the share begins with it.
    prefix: String,
    /// What it is called in errors and logs.
    name: String,
}

impl Azure {
    /// Opens a container; nothing is sent.
    pub(super) fn open(
        container: &str,
        prefix: &str,
        name: String,
        env: &Env,
        http: Http,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, OpenError> {
        let settings = AzureSettings::read(env)?;
        let given = settings.key.is_some() || settings.sas.is_some() || settings.login;
        let secrets = env.starting("AZURE_").filter_map(|(name, _)| azure_key(name));
        let elsewhere = given || secrets.into_iter().any(|key| SECRETS.contains(&key));
        let from = (env.clone(), container.to_owned(), http.clone());
        let make = move || credentials(&from.0, &from.1, &from.2);
        let provider = FromFiles::open(AzureSettings::files(env), make)?;
        let anonymous = env.get("AZURE_SKIP_SIGNATURE") == Some("true");
        Ok(Self {
            http,
            rng: Mutex::new(Rng::seeded_by(clock.wall())),
            clock,
            account: settings.account,
            credentials: (!anonymous).then_some(provider),
            ambient: !elsewhere,
            container_url: format!("{}/{container}", settings.endpoint),
            prefix: prefix.to_owned(),
            name,
        })
    }

    fn errors<'a>(&'a self, key: &'a Key) -> Errors<'a> {
        Errors { store: &self.name, key }
    }

    /// URL of the blob that stands for `key`.
    fn blob_url(&self, key: &Key) -> Result<String> {
        let blob = key.as_str().strip_suffix('/').unwrap_or(key.as_str());
        let path = match blob {
            "" => Err(ProtocolError::Key),
            blob => reply::key_path(&format!("{}{blob}", self.prefix)),
        };
        let path = path.map_err(|error| self.errors(key).rejected(error))?;
        Ok(format!("{}/{path}", self.container_url))
    }

    /// Sends a request about `key`; any status is an answer.
    async fn send(&self, key: &Key, request: Request) -> Result<Reply> {
        let errors = self.errors(key);
        let Request { method, url, mut headers, body, pace, reply_bytes_max } = request;
        headers.insert(header::CONTENT_LENGTH, body.len().into());
        let mut request = HttpRequest::new(body.into());
        *request.method_mut() = method;
        *request.uri_mut() =
            url.parse().map_err(|error: http::uri::InvalidUri| errors.rejected(error))?;
        *request.headers_mut() = headers;
        match self.credential(key).await? {
            Some(credential) => AzureAuthorizer::new(&credential, &self.account)
                .try_authorize(&mut request)
                .map_err(|error| errors.of_credentials(error, self.ambient))?,
            None => {
                let version = HeaderValue::from_static("2023-11-03");
                request.headers_mut().insert("x-ms-version", version);
            }
        }
        let reply = self.http.send(request, pace, reply_bytes_max).await;
        reply.map_err(|error| errors.of_send(error))
    }

    async fn credential(&self, key: &Key) -> Result<Option<Arc<AzureCredential>>> {
        let Some(credentials) = &self.credentials else { return Ok(None) };
        let credential = credentials.get_credential().await;
        credential.map(Some).map_err(|error| self.errors(key).of_credentials(error, self.ambient))
    }

    /// Sends a request that must succeed.
    async fn ask(&self, key: &Key, request: Request) -> Result<Reply> {
        let reply = self.send(key, request).await?;
        match reply.status.is_success() {
            true => Ok(reply),
            false => Err(self.errors(key).of_reply(&reply)),
        }
    }

    /// Sends a request that makes a version.
    async fn write(&self, key: &Key, request: Request) -> Result<ETag> {
        let reply = self.ask(key, request).await?;
        let etag = reply::text_header(&reply.headers, "etag").map(reply::etag);
        self.errors(key).need(etag, "a version")
    }

    fn with_metadata(&self, key: &Key, headers: &mut HeaderMap, metadata: &Metadata) -> Result<()> {
        let refused = |error| self.errors(key).rejected(error);
        reply::put_metadata(headers, METADATA, metadata).map_err(refused)?;
        if key.is_dir() {
            let name = HeaderName::try_from(format!("{METADATA}{MARKER}"));
            headers.extend(name.map(|name| (name, HeaderValue::from_static("true"))));
        }
        Ok(())
    }

    /// What stands at the blob of `key`: of the key's own kind, of the other kind, or nothing.
    async fn standing(&self, key: &Key) -> Result<Standing> {
        match self.look_at_blob(key).await {
            Ok((object, headers)) if is_of_kind(key, &headers) => Ok(Standing::Same(object.etag)),
            Ok(_) => Ok(Standing::Other),
            Err(RemoteError::NotFound { .. }) => Ok(Standing::Nothing),
            Err(error) => Err(error),
        }
    }

    /// A condition for a write to `key` under which nothing of the other kind is replaced.
    async fn condition_by_kind(&self, key: &Key) -> Result<Condition> {
        match self.standing(key).await? {
            Standing::Nothing => Ok(Condition::Absent),
            Standing::Same(etag) => Ok(Condition::Match(etag)),
            Standing::Other => Err(self.errors(key).occupied(ProtocolError::Kind)),
        }
    }

    /// What a refused condition of a write to `key` comes from.
    async fn refused(&self, key: &Key, error: RemoteError) -> RemoteError {
        if !matches!(error, RemoteError::Precondition { .. }) {
            return error;
        }
        match self.standing(key).await {
            Ok(Standing::Other) => self.errors(key).occupied(ProtocolError::Kind),
            Ok(Standing::Same(_) | Standing::Nothing) | Err(_) => error,
        }
    }

    async fn begin_copy(
        &self,
        from: &Key,
        expect: &ETag,
        to: &Key,
        metadata: &Metadata,
        condition: &Condition,
    ) -> Result<Reply> {
        let mut source = self.blob_url(from)?;
        // The source is read as whoever has its URL.
        if let Some(AzureCredential::SASToken(pairs)) = self.credential(from).await?.as_deref() {
            let pairs: Vec<_> = pairs.iter().map(|(name, value)| (&**name, &**value)).collect();
            source = format!("{source}?{}", reply::query(&pairs));
        }
        let mut request = Request::new(Method::PUT, self.blob_url(to)?);
        let source = HeaderValue::try_from(source).map_err(|e| self.errors(from).rejected(e))?;
        request.headers.insert("x-ms-copy-source", source);
        self.with_metadata(to, &mut request.headers, metadata)?;
        let source_match = HeaderValue::try_from(reply::quoted(expect));
        let source_match = source_match.map_err(|e| self.errors(from).rejected(e))?;
        request.headers.insert("x-ms-source-if-match", source_match);
        with_condition(&mut request.headers, condition);
        self.ask(to, request).await
    }

    /// Whether a blob that may replace none was refused where there is none: some servers count blocks as one that an upload left behind
    /// and nobody will make a blob of.
    async fn has_blocks_only(&self, key: &Key, condition: &Condition) -> Result<bool> {
        Ok(*condition == Condition::Absent
            && matches!(self.standing(key).await?, Standing::Nothing))
    }

    /// As a put where no blob may be. A list of blocks lets go those that are not in it.
    async fn put_as_block(&self, key: &Key, body: Body, metadata: &Metadata) -> Result<ETag> {
        let id = self.multipart_create(key, metadata).await?;
        let part = self.multipart_put(key, &id, 1, body).await?;
        self.multipart_complete(key, &id, &[part], metadata, &Condition::Absent).await
    }

    /// The blob that stands for `key`, and the headers it came with.
    async fn look(&self, key: &Key) -> Result<(Object, HeaderMap)> {
        let found = self.look_at_blob(key).await?;
        if is_of_kind(key, &found.1) { Ok(found) } else { Err(self.errors(key).not_found()) }
    }

    /// As [`Azure::look`], be the blob a directory's marker or not.
    async fn look_at_blob(&self, key: &Key) -> Result<(Object, HeaderMap)> {
        let Reply { headers, .. } =
            self.ask(key, Request::new(Method::HEAD, self.blob_url(key)?)).await?;
        let errors = self.errors(key);
        let mut metadata = reply::metadata(&headers, METADATA);
        // What the key says.
        metadata.remove(MARKER);
        let etag = reply::text_header(&headers, "etag").map(reply::etag);
        let modified = reply::text_header(&headers, "last-modified").and_then(reply::time);
        let object = Object {
            key: key.clone(),
            size: errors.need(reply::content_length(&headers), "a content-length")?,
            etag: errors.need(etag, "a version")?,
            modified: errors.need(modified, "a last-modified time")?,
            metadata: Some(metadata),
        };
        Ok((object, headers))
    }

    fn listed(&self, root: &Element<'_>, prefix: &Key) -> Result<Page> {
        let errors = self.errors(prefix);
        let mut page = Page::default();
        let blobs = root.child("Blobs").map(|blobs| blobs.children.as_slice());
        for entry in blobs.unwrap_or_default() {
            let Some(name) = entry.child("Name") else { continue };
            let raw = match name.encoded {
                true => reply::decoded(&name.text, false).into(),
                false => Cow::Borrowed(&*name.text),
            };
            let Some(key) = raw.strip_prefix(&self.prefix).map(Key::from_raw) else { continue };
            if key == *prefix {
                continue;
            }
            let metadata: Option<Metadata> = entry.child("Metadata").map(|all| {
                all.children.iter().map(|m| (m.name.to_lowercase(), m.text.to_string())).collect()
            });
            if &*entry.name == "BlobPrefix" {
                page.prefixes.push(key);
            } else if metadata.as_ref().is_some_and(is_marker) {
                page.prefixes.push(Key::from_raw(format!("{key}/")));
            } else {
                let of = entry.child("Properties");
                let text = |name| of.and_then(|properties| properties.text_of(name));
                page.objects.push(Object {
                    key,
                    size: errors
                        .need(text("Content-Length").and_then(|t| t.parse().ok()), "a size")?,
                    etag: errors.need(text("Etag").map(reply::etag), "a version")?,
                    modified: text("Last-Modified").and_then(reply::time).unwrap_or_default(),
                    metadata,
                });
            }
        }
        // A marker comes before its directory's prefix, perhaps a page earlier.
        page.prefixes.sort_unstable();
        page.prefixes.dedup();
        page.next = root.text_of("NextMarker").map(|marker| PageToken(marker.into()));
        Ok(page)
    }

    /// Block names of one upload are as long as those of any other: a blob's blocks must be.
    fn block_id(id: &UploadId, number: u32) -> String {
        BASE64.encode(format!("{}-{number:08}", id.0))
    }
}

/// Settings of the environment that say who we are.
const IDENTITY: [AzureConfigKey; 10] = [
    AzureConfigKey::ClientId,
    AzureConfigKey::ClientSecret,
    AzureConfigKey::AuthorityId,
    AzureConfigKey::AuthorityHost,
    AzureConfigKey::Token,
    AzureConfigKey::MsiEndpoint,
    AzureConfigKey::ObjectId,
    AzureConfigKey::MsiResourceId,
    AzureConfigKey::FederatedTokenFile,
    AzureConfigKey::UseAzureCli,
];
/// Of these, those with which nobody on the machine's own network needs to be asked.
const SECRETS: [AzureConfigKey; 4] = [
    AzureConfigKey::ClientSecret,
    AzureConfigKey::Token,
    AzureConfigKey::FederatedTokenFile,
    AzureConfigKey::UseAzureCli,
];

fn azure_key(variable: &str) -> Option<AzureConfigKey> {
    variable.to_ascii_lowercase().parse().ok().filter(|key| IDENTITY.contains(key))
}

/// What gives the credentials of a container.
fn credentials(
    env: &Env,
    container: &str,
    http: &Http,
) -> Result<AzureCredentialProvider, OpenError> {
    let settings = AzureSettings::read(env)?;
    let mut builder = MicrosoftAzureBuilder::new();
    for (variable, value) in env.starting("AZURE_") {
        if let Some(key) = azure_key(variable) {
            builder = builder.with_config(key, value);
        }
    }
    if let Some(key) = &settings.key {
        builder = builder.with_access_key(key);
    } else if let Some(sas) = &settings.sas {
        builder = builder.with_config(AzureConfigKey::SasKey, sas.trim_start_matches('?'));
    } else if settings.login {
        builder = builder.with_use_azure_cli(true);
    }
    let store = builder
        .with_account(&settings.account)
        .with_container_name(container)
        .with_endpoint(settings.endpoint)
        .with_retry(no_retry())
        .with_http_connector(http.clone())
        .build()
        .map_err(|error| OpenError::Client { source: Box::new(error) })?;
    Ok(Arc::clone(store.credentials()))
}

/// What there is at the blob of a key.
enum Standing {
    Same(ETag),
    Other,
    Nothing,
}

/// Whether the blob that came with `headers` is what `key` means: a directory's marker, or not.
fn is_of_kind(key: &Key, headers: &HeaderMap) -> bool {
    key.is_dir() == is_marker(&reply::metadata(headers, METADATA))
}

fn is_marker(metadata: &Metadata) -> bool {
    metadata.get(MARKER).is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

fn with_condition(headers: &mut HeaderMap, condition: &Condition) {
    let (name, value) = match condition {
        Condition::Always => return,
        Condition::Absent => (header::IF_NONE_MATCH, "*".to_owned()),
        Condition::Match(etag) => (header::IF_MATCH, reply::quoted(etag)),
    };
    // A version that is no header's value is none of the store's: nothing would match it.
    headers.insert(name, HeaderValue::try_from(value).unwrap_or(HeaderValue::from_static("\"\"")));
}

/// A request before it is signed.
struct Request {
    method: Method,
    url: String,
    headers: HeaderMap,
    body: Bytes,
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
            pace: Pace::Control,
            reply_bytes_max: REPLY_BYTES_MAX,
        }
    }

    fn with_content(method: Method, url: String, body: &Body) -> Self {
        let mut request = Self { pace: Pace::Content, ..Self::new(method, url) };
        reply::content_md5(&mut request.headers, body.bytes());
        request.body = body.bytes().clone();
        request
    }
}

#[async_trait]
impl Remote for Azure {
    fn limits(&self) -> Limits {
        Limits { put_bytes_max: 5000 << 20, part_bytes_min: 1, parts_max: 50_000, deletes_max: 1 }
    }

    async fn check(&self) -> Result<()> {
        let query = [("restype", "container"), ("comp", "list"), ("maxresults", "1")];
        let prefix = [("prefix", &*self.prefix)];
        let prefix = if self.prefix.is_empty() { &[][..] } else { &prefix };
        let query = reply::query(&[&query, prefix].concat());
        let request = Request::new(Method::GET, format!("{}?{query}", self.container_url));
        self.ask(&Key::from_raw(""), request).await.map(drop)
    }

    async fn head(&self, key: &Key) -> Result<Object> {
        Ok(self.look(key).await?.0)
    }

    async fn get(&self, key: &Key, range: Range<u64>, expect: Option<&ETag>) -> Result<Bytes> {
        let errors = self.errors(key);
        let verify = async |found: Option<ETag>, bytes| {
            let found = match found {
                Some(etag) => etag,
                None => self.head(key).await?.etag,
            };
            if expect.is_none_or(|etag| *etag == found) {
                Ok(bytes)
            } else {
                Err(errors.precondition())
            }
        };
        if range.is_empty() {
            return verify(None, Bytes::new()).await;
        }
        let mut request = Request::new(Method::GET, self.blob_url(key)?);
        request.pace = Pace::Content;
        request.reply_bytes_max = range.end - range.start;
        let value = HeaderValue::try_from(reply::range_value(&range));
        request.headers.extend(value.map(|value| (header::RANGE, value)));
        if let Some(etag) = expect {
            with_condition(&mut request.headers, &Condition::Match(etag.clone()));
        }
        let reply = self.send(key, request).await?;
        match reply.status {
            StatusCode::RANGE_NOT_SATISFIABLE => verify(None, Bytes::new()).await,
            StatusCode::OK if range.start > 0 => {
                Err(errors.rejected(ProtocolError::Lacks("the range asked for")))
            }
            status if status.is_success() => {
                reply::check_length(&reply).map_err(|error| errors.unreachable(error))?;
                let etag = reply::text_header(&reply.headers, "etag").map(reply::etag);
                verify(Some(errors.need(etag, "a version")?), reply.body).await
            }
            _ => Err(errors.of_reply(&reply)),
        }
    }

    async fn list(&self, prefix: &Key, page: Option<&PageToken>) -> Result<Page> {
        let full = format!("{}{prefix}", self.prefix);
        let mut query = vec![
            ("restype", "container"),
            ("comp", "list"),
            ("delimiter", "/"),
            ("include", "metadata"),
            ("maxresults", "1000"),
        ];
        query.extend((!full.is_empty()).then_some(("prefix", &*full)));
        query.extend(page.map(|token| ("marker", &*token.0)));
        let url = format!("{}?{}", self.container_url, reply::query(&query));
        let reply = self.ask(prefix, Request::new(Method::GET, url)).await?;
        self.listed(&self.errors(prefix).xml(&reply.body)?, prefix)
    }

    async fn put(
        &self,
        key: &Key,
        body: Body,
        metadata: &Metadata,
        condition: &Condition,
    ) -> Result<ETag> {
        if *condition == Condition::Always {
            return match self.put(key, body.clone(), metadata, &Condition::Absent).await {
                Err(RemoteError::Precondition { .. }) => {
                    let condition = self.condition_by_kind(key).await?;
                    self.put(key, body, metadata, &condition).await
                }
                put => put,
            };
        }
        let mut request = Request::with_content(Method::PUT, self.blob_url(key)?, &body);
        request.headers.insert("x-ms-blob-type", HeaderValue::from_static("BlockBlob"));
        self.with_metadata(key, &mut request.headers, metadata)?;
        with_condition(&mut request.headers, condition);
        match self.write(key, request).await {
            Err(RemoteError::Precondition { .. })
                if self.has_blocks_only(key, condition).await? =>
            {
                self.put_as_block(key, body, metadata).await
            }
            Err(error) => Err(self.refused(key, error).await),
            written => written,
        }
    }

    async fn copy(
        &self,
        from: &Key,
        expect: &ETag,
        to: &Key,
        metadata: &Metadata,
        condition: &Condition,
    ) -> Result<ETag> {
        let there = self.condition_by_kind(to).await?;
        let condition = if *condition == Condition::Always { &there } else { condition };
        let mut reply = self.begin_copy(from, expect, to, metadata, condition).await;
        if matches!(reply, Err(RemoteError::Precondition { .. }))
            && self.has_blocks_only(to, condition).await?
        {
            // An empty blob lets the blocks go. Without a mark of ours, nobody takes it for the copy.
            let (blocks, unmarked) = (UploadId(String::new()), Metadata::new());
            let empty = self.multipart_complete(to, &blocks, &[], &unmarked, condition).await?;
            let condition = Condition::Match(empty);
            reply = self.begin_copy(from, expect, to, metadata, &condition).await;
        }
        let reply = match reply {
            Err(RemoteError::NotFound { .. }) => return Err(self.errors(from).not_found()),
            reply => reply?,
        };
        let started = self.clock.monotonic();
        let mut headers = reply.headers;
        loop {
            match reply::text_header(&headers, "x-ms-copy-status") {
                Some("pending") if self.clock.monotonic() - started < COPY_WAIT_MAX => {
                    self.clock.sleep(COPY_LOOK_EVERY).await;
                    headers = self.look(to).await?.1;
                }
                Some("success") | None => break,
                Some(status) => {
                    let status = format!("the copy is {status}");
                    return Err(self.errors(to).unreachable(status));
                }
            }
        }
        let etag = reply::text_header(&headers, "etag").map(reply::etag);
        self.errors(to).need(etag, "a version")
    }

    async fn set_metadata(&self, key: &Key, metadata: &Metadata, expect: &ETag) -> Result<ETag> {
        let mut request =
            Request::new(Method::PUT, format!("{}?comp=metadata", self.blob_url(key)?));
        self.with_metadata(key, &mut request.headers, metadata)?;
        with_condition(&mut request.headers, &Condition::Match(expect.clone()));
        self.write(key, request).await
    }

    async fn delete(&self, key: &Key, condition: &Condition) -> Result<()> {
        let mut condition = condition.clone();
        // Not every server knows `If-None-Match` here. And the blob may be of the kind that the key does not mean.
        if key.is_dir() || !matches!(condition, Condition::Match(_)) {
            let found = match self.head(key).await {
                Err(RemoteError::NotFound { .. }) => return Ok(()),
                found => found?,
            };
            match condition {
                Condition::Absent => return Err(self.errors(key).precondition()),
                Condition::Always => condition = Condition::Match(found.etag),
                Condition::Match(_) => {}
            }
        }
        let mut request = Request::new(Method::DELETE, self.blob_url(key)?);
        with_condition(&mut request.headers, &condition);
        match self.ask(key, request).await {
            Err(RemoteError::NotFound { .. }) => Ok(()),
            // Azure judges the condition even if there is no blob.
            Err(refused @ RemoteError::Precondition { .. }) => match self.head(key).await {
                Err(RemoteError::NotFound { .. }) => Ok(()),
                found => Err(found.err().unwrap_or(refused)),
            },
            result => result.map(drop),
        }
    }

    async fn delete_many(&self, _: &[(Key, ETag)]) -> Result<Vec<Result<()>>> {
        Err(self.errors(&Key::from_raw("")).unsupported("delete many blobs at once"))
    }

    async fn multipart_create(&self, key: &Key, _: &Metadata) -> Result<UploadId> {
        self.blob_url(key)?;
        // Azure keeps blocks by blob; the name keeps those of two uploads apart.
        let number = self.rng.lock().unwrap_or_else(PoisonError::into_inner).next_u64();
        Ok(UploadId(format!("{number:016x}")))
    }

    async fn multipart_put(
        &self,
        key: &Key,
        id: &UploadId,
        number: u32,
        body: Body,
    ) -> Result<PartId> {
        let block = Self::block_id(id, number);
        let query = reply::query(&[("comp", "block"), ("blockid", &block)]);
        let url = format!("{}?{query}", self.blob_url(key)?);
        self.ask(key, Request::with_content(Method::PUT, url, &body)).await?;
        Ok(PartId(block))
    }

    /// A block that a blob was made of can stand in its next list of blocks. Whether it is of the version meant, the condition of
    /// that list tells.
    async fn multipart_copy(
        &self,
        key: &Key,
        _: &UploadId,
        _: u32,
        source: &Source,
    ) -> Result<PartId> {
        match &source.part {
            Some(part) if source.key == *key => Ok(part.clone()),
            Some(_) | None => Err(self.errors(key).unsupported("copy a part of another blob")),
        }
    }

    async fn multipart_complete(
        &self,
        key: &Key,
        _: &UploadId,
        parts: &[PartId],
        metadata: &Metadata,
        condition: &Condition,
    ) -> Result<ETag> {
        let blocks: String = parts
            .iter()
            .map(|part| format!("<Latest>{}</Latest>", reply::xml_text(&part.0)))
            .collect();
        let xml = "<?xml version=\"1.0\" encoding=\"utf-8\"?>";
        let url = format!("{}?comp=blocklist", self.blob_url(key)?);
        let mut request = Request::new(Method::PUT, url);
        request.body = format!("{xml}<BlockList>{blocks}</BlockList>").into();
        reply::content_type(&mut request.headers, "application/xml");
        let blob_type = HeaderValue::from_static("application/octet-stream");
        request.headers.insert("x-ms-blob-content-type", blob_type);
        self.with_metadata(key, &mut request.headers, metadata)?;
        match condition {
            Condition::Always => {
                with_condition(&mut request.headers, &self.condition_by_kind(key).await?);
            }
            Condition::Absent | Condition::Match(_) => {
                with_condition(&mut request.headers, condition);
            }
        }
        match self.write(key, request).await {
            // Perhaps we completed it before, and the answer was lost: then what is in place is ours.
            Err(error @ RemoteError::Precondition { .. }) => match self.head(key).await {
                Ok(found) if !metadata.is_empty() && found.metadata.as_ref() == Some(metadata) => {
                    Ok(found.etag)
                }
                Ok(_) | Err(_) => Err(self.refused(key, error).await),
            },
            result => result,
        }
    }

    /// Azure has nothing to give up: blocks that were never made a blob of vanish after a week.
    async fn multipart_abort(&self, _: &Key, _: &UploadId) -> Result<()> {
        Ok(())
    }
}

impl fmt::Display for Azure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl fmt::Debug for Azure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Azure")
            .field("name", &self.name)
            .field("container_url", &self.container_url)
            .finish_non_exhaustive()
    }
}
