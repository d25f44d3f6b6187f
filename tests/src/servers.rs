//! Object stores on this machine, for tests: each on a free port, gone when dropped.
//!
//! [`S3Server`] and [`GcsServer`] run in this process; [`Azurite`] comes from npm.

mod azurite;
mod faults;
mod memory_s3;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fsd::remote::Env;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use s3s::auth::{S3Auth, SecretKey};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, S3Result, s3_error};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub use self::azurite::Azurite;
pub use self::faults::Fault;
use self::faults::Faults;
use self::memory_s3::{MemoryS3, Versions};

/// The bucket or container that every server here has.
pub const BUCKET: &str = "fsd-tests";

const KEY_ID: &str = "FSDTESTS";
const SECRET: &str = "fsd-tests-secret";

/// Variables for a process that shall use a server.
pub type Variables = Vec<(String, String)>;

/// The same as the environment that `fsd` takes.
#[must_use]
pub fn env(variables: &Variables) -> Env {
    variables.iter().cloned().collect()
}

fn variables<const N: usize>(pairs: [(&str, &str); N]) -> Variables {
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

/// An S3 server that holds its objects in memory and checks signatures.
#[derive(Debug)]
pub struct S3Server {
    server: Server,
    memory: MemoryS3,
    secret: Secret,
}

impl S3Server {
    /// Starts a server with the bucket [`BUCKET`].
    #[must_use]
    pub fn start() -> Self {
        let memory = MemoryS3::new(BUCKET, Versions::Md5);
        let mut service = S3ServiceBuilder::new(memory.clone());
        let secret = Secret::default();
        secret.set(SECRET);
        service.set_auth(secret.clone());
        Self { server: Server::start(service.build(), Dialect::S3), memory, secret }
    }

    /// What a process must have in its environment.
    #[must_use]
    pub fn variables(&self) -> Variables {
        variables([
            ("AWS_ACCESS_KEY_ID", KEY_ID),
            ("AWS_SECRET_ACCESS_KEY", SECRET),
            ("AWS_ENDPOINT_URL", &self.server.url()),
            ("AWS_REGION", "us-east-1"),
        ])
    }

    /// Takes the server off the network, connections and all, or back on.
    pub fn set_online(&self, online: bool) {
        let control = &self.server.control;
        control.online.send_replace(online);
        // Each connection listens: none does any more when all are closed.
        while !online && control.online.receiver_count() > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Lets another secret be the right one.
    pub fn set_secret(&self, secret: &str) {
        self.secret.set(secret);
    }

    /// Lets something go wrong with so many requests, from the next on.
    pub fn fail_next(&self, fault: Fault, requests: usize) {
        self.server.control.faults.set(fault, requests);
    }

    /// Requests with which something is still to go wrong.
    #[must_use]
    pub fn faults_left(&self) -> usize {
        self.server.control.faults.left()
    }

    /// Lets a byte of an object turn while nothing else of it changes; false if there is none.
    #[must_use]
    pub fn rot(&self, key: &str) -> bool {
        self.memory.rot(key)
    }

    /// Begins an upload in parts, as somebody else would.
    pub fn begin_upload(&self, key: &str) {
        self.memory.begin_upload(key);
    }

    /// The keys of uploads in parts that were begun and not ended.
    #[must_use]
    pub fn uploads(&self) -> Vec<String> {
        self.memory.uploads()
    }

    /// Requests taken so far.
    #[must_use]
    pub fn requests(&self) -> u32 {
        self.server.control.requests.load(Ordering::SeqCst)
    }
}

/// Who may ask: one, and his secret may change.
#[derive(Clone, Debug, Default)]
struct Secret(Arc<Mutex<String>>);

impl Secret {
    fn set(&self, secret: &str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = secret.to_owned();
    }
}

#[async_trait::async_trait]
impl S3Auth for Secret {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        if access_key != KEY_ID {
            return Err(s3_error!(InvalidAccessKeyId));
        }
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone().into())
    }
}

/// The same server behind Google's names for headers and versions. It asks for no credentials.
#[derive(Debug)]
pub struct GcsServer {
    server: Server,
}

impl GcsServer {
    /// Starts a server with the bucket [`BUCKET`].
    #[must_use]
    pub fn start() -> Self {
        let service = S3ServiceBuilder::new(MemoryS3::new(BUCKET, Versions::Generation)).build();
        Self { server: Server::start(service, Dialect::Gcs) }
    }

    /// What a process must have in its environment.
    #[must_use]
    pub fn variables(&self) -> Variables {
        variables([("STORAGE_EMULATOR_HOST", &self.server.url())])
    }
}

/// How a server speaks.
#[derive(Clone, Copy, Debug)]
enum Dialect {
    S3,
    Gcs,
}

/// What tests do to a running server.
#[derive(Debug)]
struct Control {
    online: watch::Sender<bool>,
    faults: Faults,
    requests: AtomicU32,
}

/// A server on a thread and a runtime of its own, so that it serves tests that have none, too.
#[derive(Debug)]
struct Server {
    port: u16,
    control: Arc<Control>,
    stop: watch::Sender<bool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    fn start(service: S3Service, dialect: Dialect) -> Self {
        let control = Arc::new(Control {
            online: watch::Sender::new(true),
            faults: Faults::default(),
            requests: AtomicU32::new(0),
        });
        let stop = watch::Sender::new(false);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let port = listener.local_addr().expect("a bound socket").port();
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (stopped, shared) = (stop.subscribe(), Arc::clone(&control));
        let thread = std::thread::spawn(move || {
            runtime.block_on(serve(listener, service, dialect, shared, stopped));
        });
        Self { port, control, stop, thread: Some(thread) }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(
    listener: std::net::TcpListener,
    service: S3Service,
    dialect: Dialect,
    control: Arc<Control>,
    mut stopped: watch::Receiver<bool>,
) {
    let listener = TcpListener::from_std(listener).expect("a socket");
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let socket = tokio::select! {
            socket = listener.accept() => socket,
            _ = stopped.changed() => return,
        };
        let Ok((socket, _)) = socket else { continue };
        let online = control.online.subscribe();
        if *online.borrow() {
            let control = Arc::clone(&control);
            connections.spawn(connection(socket, service.clone(), dialect, control, online));
        }
    }
}

async fn connection(
    socket: TcpStream,
    service: S3Service,
    dialect: Dialect,
    control: Arc<Control>,
    mut online: watch::Receiver<bool>,
) {
    let answer = hyper::service::service_fn(move |request: Request<Incoming>| {
        let (service, control) = (service.clone(), Arc::clone(&control));
        async move {
            control.requests.fetch_add(1, Ordering::SeqCst);
            if let Some(fault) = control.faults.take() {
                return faults::serve(&service, request, fault).await;
            }
            match dialect {
                Dialect::S3 => service.call(request.map(Body::from)).await,
                Dialect::Gcs => {
                    let mut request = request.map(Body::from);
                    to_s3(request.headers_mut());
                    from_s3(service.call(request).await?).await
                }
            }
        }
    });
    tokio::select! {
        _ = http1::Builder::new().serve_connection(TokioIo::new(socket), answer) => {}
        _ = online.wait_for(|online| !online) => {}
    }
}

const META: [(&str, &str); 4] = [
    ("x-goog-meta-", "x-amz-meta-"),
    ("x-goog-copy-source-if-generation-match", "x-amz-copy-source-if-match"),
    ("x-goog-copy-source", "x-amz-copy-source"),
    ("x-goog-metadata-directive", "x-amz-metadata-directive"),
];

fn to_s3(headers: &mut http::HeaderMap) {
    for (name, value) in headers.clone() {
        let Some(name) = name else { continue };
        let renamed = META.iter().find_map(|(google, amazon)| {
            Some(format!("{amazon}{}", name.as_str().strip_prefix(google)?))
        });
        let text = value.to_str().unwrap_or_default();
        let (renamed, value) = match (name.as_str(), renamed, text) {
            ("x-goog-if-generation-match", _, "0") => ("if-none-match".into(), "*".into()),
            ("x-goog-if-generation-match", _, text) => ("if-match".into(), format!("\"{text}\"")),
            ("x-goog-copy-source-if-generation-match", Some(name), text) => {
                (name, format!("\"{text}\""))
            }
            (_, Some(name), text) => (name, text.to_owned()),
            (_, None, _) => continue,
        };
        headers.remove(name);
        let renamed: http::HeaderName = renamed.parse().expect("a header's name");
        headers.insert(renamed, value.parse().expect("a header's value"));
    }
}

async fn from_s3(response: Response<Body>) -> Result<Response<Body>, s3s::HttpError> {
    let (mut parts, body) = response.into_parts();
    let headers = &mut parts.headers;
    for (name, value) in headers.clone() {
        let Some(name) = name else { continue };
        if name == http::header::ETAG {
            let generation = value.to_str().unwrap_or_default().trim_matches('"');
            headers.insert("x-goog-generation", generation.parse().expect("a header's value"));
        } else if let Some(rest) = name.as_str().strip_prefix("x-amz-meta-") {
            let renamed: http::HeaderName =
                format!("x-goog-meta-{rest}").parse().expect("a header's name");
            headers.remove(&name);
            headers.insert(renamed, value);
        }
    }
    if headers.get("content-type").is_none_or(|kind| kind != "application/xml") {
        return Ok(Response::from_parts(parts, body));
    }
    headers.remove("content-length");
    let text = body.collect().await.map_err(s3s::HttpError::new)?.to_bytes();
    let text = String::from_utf8_lossy(&text)
        .replace("<ETag>\"", "<Generation>")
        .replace("\"</ETag>", "</Generation>");
    Ok(Response::from_parts(parts, Body::from(text)))
}
