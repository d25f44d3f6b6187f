//! Stores for mounts, and a look at what is in them that owes nothing to fsd.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use object_store::ClientOptions;
use object_store::aws::{AwsAuthorizer, AwsCredential};
use object_store::azure::{AzureAccessKey, AzureAuthorizer, AzureCredential};
use object_store::client::{
    HttpClient, HttpConnector as _, HttpRequest, HttpRequestBody, ReqwestConnector,
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tempfile::TempDir;

use crate::drive::can_mount;
use crate::proxy::Proxy;
use crate::servers::{Azurite, BUCKET, S3Server, Variables};

/// Where a directory as a store keeps what is not an object yet.
const STAGING: &str = ".fsd-tmp";
/// What gateways tell of themselves is no file.
const RESERVED: [&str; 1] = [".fsd/gateways/"];
const UNRESERVED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// A store with nothing in it.
#[derive(Debug)]
pub struct Store {
    server: Server,
    url: String,
    variables: Variables,
}

#[derive(Debug)]
enum Server {
    Dir(TempDir),
    S3 { web: Web, server: S3Server },
    Azure { web: Web, _server: Azurite },
}

/// What is asked over HTTP.
#[derive(Debug)]
struct Web {
    runtime: tokio::runtime::Runtime,
    client: HttpClient,
    /// Scheme, host, port and, for Azure, the account.
    endpoint: String,
}

/// Runs `test` over a directory, an S3 server and an Azure server.
///
/// # Errors
/// What the test says, and over which store.
pub fn on_each_store(test: impl Fn(&Store) -> Result<()>) -> Result<()> {
    if !can_mount() {
        return Ok(());
    }
    on(&Store::dir()?, &test)?;
    on(&Store::s3()?, &test)?;
    on_azure(test)
}

/// Runs `test` over a directory: for what has little to do with the store.
///
/// # Errors
/// What the test says.
pub fn on_a_dir(test: impl Fn(&Store) -> Result<()>) -> Result<()> {
    if can_mount() { on(&Store::dir()?, test) } else { Ok(()) }
}

/// Runs `test` over an S3 server.
///
/// # Errors
/// What the test says.
pub fn on_s3(test: impl Fn(&Store) -> Result<()>) -> Result<()> {
    if can_mount() { on(&Store::s3()?, test) } else { Ok(()) }
}

/// Runs `test` over an Azure server, if there can be one.
///
/// # Errors
/// What the test says.
#[expect(clippy::print_stdout, reason = "a skip is told where it is counted")]
pub fn on_azure(test: impl Fn(&Store) -> Result<()>) -> Result<()> {
    if !can_mount() {
        return Ok(());
    }
    match Azurite::start() {
        Ok(server) => on(&Store::azure(server)?, test),
        Err(why) => {
            println!("SKIP: {why}");
            Ok(())
        }
    }
}

fn on(store: &Store, test: impl Fn(&Store) -> Result<()>) -> Result<()> {
    test(store).with_context(|| format!("over {}", store.url))
}

impl Store {
    fn dir() -> Result<Self> {
        let dir = TempDir::with_prefix("fsd-store-")?;
        let url = format!("file://{}", dir.path().display());
        Ok(Self { server: Server::Dir(dir), url, variables: Variables::new() })
    }

    fn s3() -> Result<Self> {
        let server = S3Server::start();
        let variables = server.variables();
        let web = Web::new(variable(&variables, "AWS_ENDPOINT_URL")?.to_owned())?;
        Ok(Self { server: Server::S3 { web, server }, url: format!("s3://{BUCKET}"), variables })
    }

    fn azure(server: Azurite) -> Result<Self> {
        let variables = server.variables();
        let web = Web::new(connection_part(&variables, "BlobEndpoint")?.to_owned())?;
        let server = Server::Azure { web, _server: server };
        Ok(Self { server, url: format!("az://{BUCKET}"), variables })
    }

    /// What `fsd mount` takes.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What a process must have in its environment.
    #[must_use]
    pub fn variables(&self) -> Variables {
        self.variables.clone()
    }

    /// The directory, if it is one.
    #[must_use]
    pub fn folder(&self) -> Option<&Path> {
        match &self.server {
            Server::Dir(dir) => Some(dir.path()),
            Server::S3 { .. } | Server::Azure { .. } => None,
        }
    }

    /// Requests that the S3 server has taken so far.
    #[must_use]
    pub fn requests(&self) -> Option<u32> {
        match &self.server {
            Server::S3 { server, .. } => Some(server.requests()),
            Server::Dir(_) | Server::Azure { .. } => None,
        }
    }

    /// The S3 server, if it is one.
    #[must_use]
    pub fn server(&self) -> Option<&S3Server> {
        match &self.server {
            Server::S3 { server, .. } => Some(server),
            Server::Dir(_) | Server::Azure { .. } => None,
        }
    }

    /// A network to the server, and what a process that shall use it must have in its environment.
    ///
    /// # Errors
    /// If this store is a directory.
    pub fn behind_a_proxy(&self) -> Result<(Proxy, Variables)> {
        let (Server::S3 { web, .. } | Server::Azure { web, .. }) = &self.server else {
            bail!("there is no network to a directory");
        };
        let host = web.host()?;
        let proxy = Proxy::to(host.parse::<SocketAddr>()?)?;
        let through = proxy.address().to_string();
        let variables = self.variables.iter();
        let variables =
            variables.map(|(name, value)| (name.clone(), value.replace(host, &through)));
        Ok((proxy, variables.collect()))
    }

    /// All objects but the markers of directories, and what is in them.
    ///
    /// # Errors
    /// If the store does not answer.
    pub fn files(&self) -> Result<BTreeMap<String, Vec<u8>>> {
        let mut files = BTreeMap::new();
        for key in self.keys()? {
            if !key.ends_with('/')
                && let Some(body) = self.get(&key)?
            {
                files.insert(key, body);
            }
        }
        Ok(files)
    }

    /// All keys but those that gateways keep for themselves.
    ///
    /// # Errors
    /// If the store does not answer.
    pub fn keys(&self) -> Result<Vec<String>> {
        let mut keys = self.all_keys()?;
        keys.retain(|key| !RESERVED.iter().any(|reserved| key.starts_with(reserved)));
        // A directory has directories.
        keys.retain(|key| key != ".fsd/");
        Ok(keys)
    }

    /// The keys that gateways keep for themselves.
    ///
    /// # Errors
    /// If the store does not answer.
    pub fn reserved_keys(&self) -> Result<Vec<String>> {
        let mut keys = self.all_keys()?;
        keys.retain(|key| RESERVED.iter().any(|reserved| key.starts_with(reserved)));
        Ok(keys)
    }

    fn all_keys(&self) -> Result<Vec<String>> {
        let mut keys = Vec::new();
        let mut marker = String::new();
        let (query, at, next) = match &self.server {
            Server::Dir(dir) => {
                walk(dir.path(), "", &mut keys)?;
                return Ok(keys);
            }
            Server::S3 { .. } => ("list-type=2", "continuation-token", "NextContinuationToken"),
            Server::Azure { .. } => {
                ("restype=container&comp=list&include=metadata", "marker", "NextMarker")
            }
        };
        let (tag, name, web) = match &self.server {
            Server::Azure { web, .. } => ("Blob", "Name", web),
            Server::S3 { web, .. } => ("Contents", "Key", web),
            Server::Dir(_) => return Ok(keys),
        };
        loop {
            let mut query = query.to_owned();
            if !marker.is_empty() {
                query = format!("{query}&{at}={}", utf8_percent_encode(&marker, NON_ALPHANUMERIC));
            }
            let (status, body) = self.send(web, Method::GET, "", &query, Vec::new())?;
            ensure!(status.is_success(), "list: {status}");
            let text = String::from_utf8(body)?;
            for object in elements(&text, tag) {
                // Azure's marker of a directory has no slash.
                let slash = if object.contains("<hdi_isfolder>true<") { "/" } else { "" };
                keys.extend(elements(object, name).map(|key| unescaped(key) + slash));
            }
            match elements(&text, next).next().map(unescaped) {
                Some(more) if !more.is_empty() => marker = more,
                Some(_) | None => return Ok(keys),
            }
        }
    }

    /// What is in the object `key`, if there is one.
    ///
    /// # Errors
    /// If the store does not answer.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        match &self.server {
            Server::Dir(dir) => match std::fs::read(dir.path().join(key)) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                read => Ok(Some(read?)),
            },
            Server::S3 { web, .. } | Server::Azure { web, .. } => {
                match self.send(web, Method::GET, key, "", Vec::new())? {
                    (StatusCode::NOT_FOUND, _) => Ok(None),
                    (status, body) if status.is_success() => Ok(Some(body)),
                    (status, _) => bail!("get {key}: {status}"),
                }
            }
        }
    }

    /// Puts an object, as somebody else would.
    ///
    /// # Errors
    /// If the store does not take it.
    pub fn put(&self, key: &str, body: &[u8]) -> Result<()> {
        match &self.server {
            Server::Dir(dir) => {
                // Beside it and renamed, as whoever shares a directory with others must.
                let path = dir.path().join(key);
                std::fs::create_dir_all(path.parent().context("a key")?)?;
                let file = tempfile::NamedTempFile::new_in(dir.path().join(STAGING))
                    .or_else(|_| tempfile::NamedTempFile::new())?;
                std::fs::write(file.path(), body)?;
                file.persist(path)?;
                Ok(())
            }
            Server::S3 { web, .. } | Server::Azure { web, .. } => {
                let (status, _) = self.send(web, Method::PUT, key, "", body.to_vec())?;
                ensure!(status.is_success(), "put {key}: {status}");
                Ok(())
            }
        }
    }

    /// Deletes an object, as somebody else would.
    ///
    /// # Errors
    /// If the store does not do it.
    pub fn delete(&self, key: &str) -> Result<()> {
        match &self.server {
            Server::Dir(dir) => Ok(std::fs::remove_file(dir.path().join(key))?),
            Server::S3 { web, .. } | Server::Azure { web, .. } => {
                let (status, _) = self.send(web, Method::DELETE, key, "", Vec::new())?;
                ensure!(status.is_success(), "delete {key}: {status}");
                Ok(())
            }
        }
    }

    fn send(
        &self,
        web: &Web,
        method: Method,
        key: &str,
        query: &str,
        body: Vec<u8>,
    ) -> Result<(StatusCode, Vec<u8>)> {
        let path = utf8_percent_encode(key, UNRESERVED);
        let slash = if key.is_empty() { "" } else { "/" };
        let mark = if query.is_empty() { "" } else { "?" };
        let url = format!("{}/{BUCKET}{slash}{path}{mark}{query}", web.endpoint);
        let length = HeaderValue::from(body.len());
        let is_put = method == Method::PUT;
        let mut request = HttpRequest::new(HttpRequestBody::from(body));
        *request.method_mut() = method;
        *request.uri_mut() = url.parse()?;
        if is_put {
            request.headers_mut().insert(http::header::CONTENT_LENGTH, length);
        }
        match &self.server {
            Server::Azure { .. } => {
                if is_put {
                    let kind = HeaderName::from_static("x-ms-blob-type");
                    request.headers_mut().insert(kind, HeaderValue::from_static("BlockBlob"));
                }
                let key = connection_part(&self.variables, "AccountKey")?;
                let key = AzureCredential::AccessKey(AzureAccessKey::try_new(key)?);
                let account = connection_part(&self.variables, "AccountName")?;
                AzureAuthorizer::new(&key, account).try_authorize(&mut request)?;
            }
            Server::S3 { .. } => {
                let credential = AwsCredential {
                    key_id: variable(&self.variables, "AWS_ACCESS_KEY_ID")?.to_owned(),
                    secret_key: variable(&self.variables, "AWS_SECRET_ACCESS_KEY")?.to_owned(),
                    token: None,
                };
                let region = variable(&self.variables, "AWS_REGION")?;
                AwsAuthorizer::new(&credential, "s3", region).try_authorize(&mut request, None)?;
            }
            Server::Dir(_) => {}
        }
        web.runtime.block_on(async {
            let response = web.client.execute(request).await?;
            let status = response.status();
            Ok((status, response.into_body().bytes().await?.to_vec()))
        })
    }
}

impl Web {
    fn new(endpoint: String) -> Result<Self> {
        // Fails if there is one already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // Azurite ends connections that are idle for some seconds.
        let idle = std::time::Duration::from_secs(1);
        let options = ClientOptions::new().with_allow_http(true).with_pool_idle_timeout(idle);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client = runtime.block_on(async { ReqwestConnector::default().connect(&options) })?;
        Ok(Self { runtime, client, endpoint })
    }

    fn host(&self) -> Result<&str> {
        let (_, rest) = self.endpoint.split_once("://").context("an endpoint is a URL")?;
        Ok(rest.split('/').next().unwrap_or(rest))
    }
}

fn variable<'a>(variables: &'a Variables, name: &str) -> Result<&'a str> {
    let found = variables.iter().find(|(key, _)| key == name);
    Ok(&found.with_context(|| format!("there is no {name}"))?.1)
}

fn connection_part<'a>(variables: &'a Variables, name: &str) -> Result<&'a str> {
    let string = variable(variables, "AZURE_STORAGE_CONNECTION_STRING")?;
    let parts = string.split(';').filter_map(|part| part.split_once('='));
    let found = parts.filter(|(key, _)| *key == name).map(|(_, value)| value).next();
    found.with_context(|| format!("the connection string has no {name}"))
}

/// What is in each element `tag`.
fn elements<'a>(xml: &'a str, tag: &str) -> impl Iterator<Item = &'a str> {
    let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
    let mut rest = xml;
    std::iter::from_fn(move || {
        let (_, after) = rest.split_once(&open)?;
        let (inner, after) = after.split_once(&close)?;
        rest = after;
        Some(inner)
    })
}

fn unescaped(text: &str) -> String {
    let entities =
        [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&apos;", "'")];
    let text = entities.iter().fold(text.to_owned(), |text, (entity, to)| text.replace(entity, to));
    text.replace("&amp;", "&")
}

fn walk(dir: &Path, prefix: &str, keys: &mut Vec<String>) -> Result<()> {
    for entry in dir.read_dir()? {
        let entry = entry?;
        let name = entry.file_name().into_string().ok().context("a key is UTF-8")?;
        let key = format!("{prefix}{name}");
        if entry.file_type()?.is_dir() {
            if name != STAGING {
                keys.push(format!("{key}/"));
                walk(&entry.path(), &format!("{key}/"), keys)?;
            }
        } else {
            keys.push(key);
        }
    }
    Ok(())
}
