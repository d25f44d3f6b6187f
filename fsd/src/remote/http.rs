//! How requests go over the wire: paced, without a limit on their whole time, with one on standing still.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::stream;
use http::{HeaderMap, Method, StatusCode};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};

use super::pacer::{Pacer, Pacers};
use super::{BoxError, OpenError};
use crate::clock::Clock;

const CONNECT_WAIT_MAX: Duration = Duration::from_secs(10);

/// How long sent bytes may stay unacknowledged: a dead link is seen on an old connection too.
const ACK_WAIT_MAX: Duration = Duration::from_secs(20);

/// How long the store may think about a request, and how long an answer may pause.
const STILL_MAX: Duration = Duration::from_secs(60);

/// Connections kept for the next request.
const IDLE_CONNECTIONS_MAX: usize = policies::concurrency::AT_ONCE_MAX;

/// The largest answer that is no object: a page of a listing.
pub(super) const REPLY_BYTES_MAX: u64 = 32 << 20;

/// What a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// Content of files: waits while transfers are paused.
    Content,
    /// Everything else.
    Control,
}

/// A store's answer, whatever its status.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    #[error("the connection failed")]
    Connection(#[source] BoxError),
    #[error("nothing moved for {} s", STILL_MAX.as_secs())]
    Stalled,
    #[error("the answer is larger than the {max} bytes asked for")]
    TooLarge { max: u64 },
    #[error("the request is malformed")]
    Malformed(#[source] BoxError),
}

/// Sends requests to one store. Also what `object_store` fetches credentials through.
#[derive(Clone, Debug)]
pub(super) struct Http {
    client: reqwest::Client,
    pacers: Pacers,
    clock: Arc<dyn Clock>,
}

impl Http {
    /// `authorities`: certificates are believed by these too.
    pub(super) fn new(
        pacers: Pacers,
        clock: Arc<dyn Clock>,
        authorities: Vec<reqwest::Certificate>,
    ) -> Result<Self, OpenError> {
        // Fails if there is one already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT_WAIT_MAX)
            .tcp_user_timeout(ACK_WAIT_MAX)
            .tcp_keepalive(ACK_WAIT_MAX)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .redirect(reqwest::redirect::Policy::none())
            .tls_certs_merge(authorities)
            .user_agent(concat!("fsd/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| OpenError::Client { source: Box::new(error) })?;
        Ok(Self { client, pacers, clock })
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Cancel safety
    /// The request may or may not have happened.
    pub(super) async fn send(
        &self,
        request: HttpRequest,
        pace: Pace,
        reply_bytes_max: u64,
    ) -> Result<Reply, SendError> {
        if pace == Pace::Content {
            self.pacers.down.unpaused().await;
        }
        let progress = Arc::new(Progress::new(Arc::clone(&self.clock)));
        let request = self.paced(request, pace, &progress).await?;
        let mut response = tokio::select! {
            response = self.client.execute(request) => response.map_err(connection)?,
            () = progress.stalled() => return Err(SendError::Stalled),
        };
        let head = STATUS_LINE_BYTES + header_bytes(response.headers());
        self.pacers.down.take_control(head).await;
        // An error's text is no content, and not as short as a short range.
        let (pace, reply_bytes_max) = match response.status().is_success() {
            true => (pace, reply_bytes_max),
            false => (Pace::Control, REPLY_BYTES_MAX),
        };
        let mut body = BytesMut::new();
        loop {
            let chunk = tokio::select! {
                chunk = response.chunk() => chunk.map_err(connection)?,
                () = self.clock.sleep(STILL_MAX) => return Err(SendError::Stalled),
            };
            let Some(chunk) = chunk else { break };
            if body.is_empty() {
                // The answer's length is the server's word: believed up to what was asked for.
                let length = response.content_length().unwrap_or(0).min(reply_bytes_max);
                body.reserve(usize::try_from(length).unwrap_or(0));
            }
            if (body.len() + chunk.len()) as u64 > reply_bytes_max {
                return Err(SendError::TooLarge { max: reply_bytes_max });
            }
            match pace {
                Pace::Content => self.pacers.down.take_all(chunk.len()).await,
                Pace::Control => self.pacers.down.take_control(chunk.len()).await,
            }
            body.extend_from_slice(&chunk);
        }
        let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
        Ok(Reply { status, headers, body: body.freeze() })
    }

    /// The request with a body that is let out by the pacer. The first piece is waited for here: a
    /// connection that stays silent for long would be closed by the store.
    async fn paced(
        &self,
        request: HttpRequest,
        pace: Pace,
        progress: &Arc<Progress>,
    ) -> Result<reqwest::Request, SendError> {
        let (parts, body) = request.into_parts();
        let url = parts.uri.to_string().parse().map_err(malformed)?;
        let mut request = reqwest::Request::new(parts.method, url);
        *request.headers_mut() = parts.headers;
        let Some(bytes) = body.as_bytes().cloned() else {
            return Err(SendError::Malformed("the body is in pieces".into()));
        };
        if bytes.is_empty() {
            if matches!(*request.method(), Method::PUT | Method::POST) {
                request.headers_mut().insert(http::header::CONTENT_LENGTH, 0.into());
            }
            self.pacers.up.take_control(request_head_bytes(&request)).await;
            return Ok(request);
        }
        request.headers_mut().insert(http::header::CONTENT_LENGTH, bytes.len().into());
        let head = request_head_bytes(&request);
        *request.body_mut() = Some(match pace {
            Pace::Content => {
                let first = self.pacers.up.take_behind(head, bytes.len()).await;
                let paced = Paced {
                    rest: bytes,
                    granted: first,
                    pacer: Arc::clone(&self.pacers.up),
                    progress: Arc::clone(progress),
                };
                reqwest::Body::wrap_stream(stream::unfold(paced, Paced::next))
            }
            Pace::Control => {
                self.pacers.up.take_control(head + bytes.len()).await;
                bytes.into()
            }
        });
        progress.moved();
        Ok(request)
    }
}

/// What stands before the headers of an answer: `HTTP/1.1 200 OK` and the ends of that line and of the head.
const STATUS_LINE_BYTES: usize = 19;

/// Bytes of a request's head on the wire, as HTTP/1.1 has it, with what is added where it is sent.
fn request_head_bytes(request: &reqwest::Request) -> usize {
    const ADDED: &str = concat!(
        " HTTP/1.1\r\naccept: */*\r\nuser-agent: fsd/",
        env!("CARGO_PKG_VERSION"),
        "\r\nhost: \r\n\r\n "
    );
    let url = request.url();
    let host = url.host_str().map_or(0, str::len) + url.port().map_or(0, |_| 6);
    let query = url.query().map_or(0, |query| query.len() + 1);
    let line = request.method().as_str().len() + url.path().len() + query;
    line + host + ADDED.len() + header_bytes(request.headers())
}

fn header_bytes(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum()
}

/// A body on its way out.
struct Paced {
    rest: Bytes,
    /// Bytes of `rest` that may go already.
    granted: usize,
    pacer: Arc<Pacer>,
    progress: Arc<Progress>,
}

impl Paced {
    async fn next(mut self) -> Option<(Result<Bytes, std::convert::Infallible>, Self)> {
        if self.rest.is_empty() {
            return None;
        }
        if self.granted == 0 {
            self.progress.waiting.store(true, Ordering::Relaxed);
            self.granted = self.pacer.take(self.rest.len()).await;
            self.progress.waiting.store(false, Ordering::Relaxed);
        }
        self.progress.moved();
        let piece = self.rest.split_to(self.granted.min(self.rest.len()));
        self.granted = 0;
        Some((Ok(piece), self))
    }
}

/// When something last happened to a request.
struct Progress {
    /// Milliseconds of the monotonic clock.
    moved_at: AtomicU64,
    /// The pacer holds it back: that is no stall.
    waiting: AtomicBool,
    clock: Arc<dyn Clock>,
}

impl Progress {
    fn new(clock: Arc<dyn Clock>) -> Self {
        Self { moved_at: AtomicU64::new(0), waiting: AtomicBool::new(false), clock }
    }

    fn moved(&self) {
        self.moved_at.store(self.now_millis(), Ordering::Relaxed);
    }

    /// Returns when nothing has moved for too long.
    async fn stalled(&self) {
        self.moved();
        loop {
            let still = self.now_millis().saturating_sub(self.moved_at.load(Ordering::Relaxed));
            let still = Duration::from_millis(still);
            if self.waiting.load(Ordering::Relaxed) {
                self.clock.sleep(STILL_MAX).await;
            } else if still >= STILL_MAX {
                return;
            } else {
                self.clock.sleep(STILL_MAX - still).await;
            }
        }
    }

    fn now_millis(&self) -> u64 {
        u64::try_from(self.clock.monotonic().as_millis()).unwrap_or(u64::MAX)
    }
}

/// An URL may carry a signature: it is not repeated.
fn connection(error: reqwest::Error) -> SendError {
    SendError::Connection(Box::new(error.without_url()))
}

fn malformed(error: impl Into<BoxError>) -> SendError {
    SendError::Malformed(error.into())
}

#[async_trait::async_trait]
impl HttpService for Http {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let error = |error| HttpError::new(HttpErrorKind::Connect, error);
        let reply = self.send(request, Pace::Control, REPLY_BYTES_MAX).await.map_err(error)?;
        if reply.status.is_server_error() || reply.status == StatusCode::TOO_MANY_REQUESTS {
            let busy = format!("the credentials' server answered {}", reply.status);
            return Err(error(SendError::Connection(busy.into())));
        }
        let mut response = HttpResponse::new(reply.body.into());
        *response.status_mut() = reply.status;
        *response.headers_mut() = reply.headers;
        Ok(response)
    }
}

/// Makes `object_store` send through an [`Http`], whatever options it has.
impl HttpConnector for Http {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    /// A server that takes every connection and says `answer`, or nothing.
    async fn server(answer: &'static str) -> String {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let serve = async move {
            let mut open = Vec::new();
            while let Ok((mut socket, _)) = listener.accept().await {
                let _request = socket.read(&mut [0; 4096]).await;
                socket.write_all(answer.as_bytes()).await.unwrap();
                open.push(socket);
            }
        };
        crate::tasks::Tasks::new(tokio::runtime::Handle::current()).spawn("server", serve);
        url
    }

    async fn get(answer: &'static str, reply_bytes_max: u64) -> Result<Reply, SendError> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let http = Http::new(Pacers::unlimited(&clock), clock, Vec::new()).unwrap();
        let mut request = HttpRequest::new(Bytes::new().into());
        *request.uri_mut() = server(answer).await.parse().unwrap();
        http.send(request, Pace::Content, reply_bytes_max).await
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_stands_still_is_given_up() {
        for answer in ["", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n1234"] {
            let stalled = get(answer, 9).await;
            assert!(matches!(stalled, Err(SendError::Stalled)), "{answer}: {stalled:?}");
        }
    }

    #[tokio::test]
    async fn an_answer_is_read_up_to_what_was_asked_for() {
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n1234";
        assert_eq!(get(answer, 4).await.unwrap().body, "1234");
        assert!(matches!(get(answer, 3).await, Err(SendError::TooLarge { max: 3 })));
        let error = "HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\n\r\n1234";
        assert_eq!(get(error, 0).await.unwrap().body, "1234");
    }
}
