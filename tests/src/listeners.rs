//! Those whom a gateway tells what happens: a web server in this process, and real brokers.

use std::convert::Infallible;
use std::fs::File;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use async_nats::jetstream;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use ring::hmac;
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::until;

/// The name and the password that brokers here ask for.
pub const LOGIN: (&str, &str) = ("fsd", "fsd-tests-secret");
/// The key that web hooks here are signed with.
pub const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";

/// A web server that takes what is signed with [`KEY`].
#[derive(Debug)]
pub struct WebServer {
    address: SocketAddr,
    inner: Arc<Inner>,
    _runtime: Runtime,
}

#[derive(Debug, Default)]
struct Inner {
    told: Mutex<Vec<Value>>,
    refuse: AtomicU32,
}

impl WebServer {
    /// Starts it.
    ///
    /// # Errors
    /// If there is no free port.
    pub fn start() -> Result<Self> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))?;
        let address = listener.local_addr()?;
        let inner = Arc::new(Inner::default());
        let serving = inner.clone();
        runtime.handle().spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let inner = serving.clone();
                let serve = service_fn(move |request| answer(inner.clone(), request));
                let serve = http1::Builder::new().serve_connection(TokioIo::new(stream), serve);
                connections.spawn(serve);
            }
        });
        Ok(Self { address, inner, _runtime: runtime })
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// Refuses so many requests from now on.
    pub fn refuse_next(&self, requests: u32) {
        self.inner.refuse.store(requests, Ordering::SeqCst);
    }

    /// Events in the order in which they came.
    #[must_use]
    pub fn told(&self) -> Vec<Value> {
        self.inner.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn answer(
    inner: Arc<Inner>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let taken = match body.collect().await {
        Ok(body) => inner.take(&head.headers, &body.to_bytes()),
        Err(_) => StatusCode::BAD_REQUEST,
    };
    let text = if taken.is_success() { "" } else { "not today" };
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = taken;
    Ok(response)
}

impl Inner {
    fn take(&self, headers: &HeaderMap, body: &[u8]) -> StatusCode {
        if !is_signed(headers, body) {
            return StatusCode::UNAUTHORIZED;
        }
        let left =
            self.refuse.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if left.is_ok() {
            return StatusCode::UNPROCESSABLE_ENTITY;
        }
        let Ok(value) = serde_json::from_slice::<Value>(body) else {
            return StatusCode::BAD_REQUEST;
        };
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        match value {
            Value::Array(events) => told.extend(events),
            event @ (Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Object(_)) => {
                told.push(event);
            }
        }
        StatusCode::NO_CONTENT
    }
}

/// Whether the headers are those of Standard Webhooks.
fn is_signed(headers: &HeaderMap, body: &[u8]) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let (Some(id), Some(time), Some(signature)) =
        (text("webhook-id"), text("webhook-timestamp"), text("webhook-signature"))
    else {
        return false;
    };
    let Some(tag) = signature.strip_prefix("v1,").and_then(|tag| STANDARD.decode(tag).ok()) else {
        return false;
    };
    let signed = [format!("{id}.{time}.").as_bytes(), body].concat();
    hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, KEY), &signed, &tag).is_ok()
}

/// Mosquitto, and somebody who has subscribed to everything.
#[derive(Debug)]
pub struct Mosquitto {
    folder: TempDir,
    port: u16,
    _broker: Process,
    _subscriber: Process,
}

impl Mosquitto {
    /// Starts both.
    ///
    /// # Errors
    /// What is missing on this machine.
    pub fn start() -> Result<Self> {
        let folder = TempDir::with_prefix("fsd-mosquitto-")?;
        let port = free_port()?;
        let (config, passwords) = (folder.path().join("config"), folder.path().join("passwords"));
        let (user, password) = LOGIN;
        let made = Command::new("mosquitto_passwd")
            .args(["-c", "-b"])
            .arg(&passwords)
            .args([user, password])
            .output()
            .context("mosquitto_passwd")?;
        ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        std::fs::write(
            &config,
            format!(
                "listener {port} 127.0.0.1\npassword_file {}\nuser root\npersistence false\n",
                passwords.display()
            ),
        )?;
        let log = |name: &str| File::create(folder.path().join(name));
        let broker = Command::new("/usr/sbin/mosquitto")
            .arg("-c")
            .arg(&config)
            .stderr(log("broker.log")?)
            .stdout(Stdio::null())
            .spawn()
            .context("mosquitto")?;
        let broker = Process(broker);
        until("mosquitto listens", || Ok(TcpStream::connect(("127.0.0.1", port)).is_ok()))?;
        // By line, though to a file.
        let subscriber = Command::new("stdbuf")
            .args([
                "-oL",
                "mosquitto_sub",
                "-h",
                "127.0.0.1",
                "-p",
                &port.to_string(),
                "-u",
                user,
                "-P",
                password,
            ])
            .args(["-q", "1", "-t", "#", "-d", "-F", "told %p"])
            .stdout(log("told")?)
            .spawn()
            .context("mosquitto_sub")?;
        let subscriber = Process(subscriber);
        let told = folder.path().join("told");
        until("it has subscribed", || {
            Ok(std::fs::read_to_string(&told)?.contains("received SUBACK"))
        })?;
        Ok(Self { folder, port, _broker: broker, _subscriber: subscriber })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// Events in the order in which they came.
    ///
    /// # Errors
    /// If what came is no JSON.
    pub fn told(&self) -> Result<Vec<Value>> {
        let text = std::fs::read_to_string(self.folder.path().join("told"))?;
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let lines = whole.lines().filter_map(|line| line.strip_prefix("told "));
        lines.map(|line| Ok(serde_json::from_str(line)?)).collect()
    }
}

/// A server of NATS with a stream that stores everything below `fsd.`.
#[derive(Debug)]
pub struct Nats {
    folder: TempDir,
    port: u16,
    server: Option<Process>,
    runtime: Runtime,
}

impl Nats {
    /// Starts it.
    ///
    /// # Errors
    /// What is missing on this machine.
    pub fn start() -> Result<Self> {
        let folder = TempDir::with_prefix("fsd-nats-")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut nats = Self { folder, port: free_port()?, server: None, runtime };
        nats.revive()?;
        Ok(nats)
    }

    /// Has it store what comes.
    ///
    /// # Errors
    /// If it does not.
    pub fn make_stream(&self) -> Result<()> {
        self.runtime.block_on(async {
            let streams = jetstream::new(async_nats::connect(self.url()).await?);
            let config = jetstream::stream::Config {
                name: "events".to_owned(),
                subjects: vec!["fsd.>".to_owned()],
                ..jetstream::stream::Config::default()
            };
            streams.create_stream(config).await?;
            Ok(())
        })
    }

    /// Kills it as a power switch would.
    pub fn kill(&mut self) {
        self.server = None;
    }

    /// Starts it again, with what it has stored.
    ///
    /// # Errors
    /// If it does not start.
    pub fn revive(&mut self) -> Result<()> {
        let server = Command::new("/usr/sbin/nats-server")
            .args(["-a", "127.0.0.1", "-p", &self.port.to_string(), "-js", "-sd"])
            .arg(self.folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("nats-server")?;
        self.server = Some(Process(server));
        let address = ("127.0.0.1", self.port);
        until("nats-server listens", || Ok(TcpStream::connect(address).is_ok()))
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Events in the order in which they were stored.
    ///
    /// # Errors
    /// If it can't be asked.
    pub fn told(&self) -> Result<Vec<Value>> {
        self.runtime.block_on(async {
            let streams = jetstream::new(async_nats::connect(self.url()).await?);
            let stream = streams.get_stream("events").await?;
            let mut told = Vec::new();
            for number in 1..=stream.cached_info().state.last_sequence {
                let message = stream.get_raw_message(number).await?;
                told.push(serde_json::from_slice(&message.payload)?);
            }
            Ok(told)
        })
    }
}

/// Lines of JSON in a file; one that is not whole yet does not count.
///
/// # Errors
/// If a line is no JSON.
pub fn lines_of(file: &Path) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// A process that ends with us.
#[derive(Debug)]
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
