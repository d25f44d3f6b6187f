//! The command's side: the same verbs, asked of a daemon.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Method, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::hooks::{HookBegun, HookPause, HookRun, ResultFilter, Say, Spoken};
use super::sides::{Conflict, Emptied, Restored, Settle, Trashed};
use super::sinks::{EventList, EventQuery, Sink, SinkChange};
use super::steer::{PaceChange, PaceState, QueueChange, QueueChanged, ReceiptFilter, Receipts};
use super::types::{
    ErrorBody, ErrorCode, Evicted, Explanation, GatewayReport, Hook, HookResult, Job, JobFilter,
    PathQuery, Pin, PinChange, Queue, QueueQuery, Retried, Retry, Status, Unmount, Unmounted,
    WaitProgress, WaitQuery, WorkId, WorkProgress, WorkStart,
};

/// How long a daemon may take for an answer that it has at hand.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// How long it may take where it has to wait itself: for progress, or for the kernel to unmount.
const SLOW_ANSWER_MAX: Duration = Duration::from_secs(120);

/// A daemon, asked over its socket.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
    http: reqwest::Client,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The daemon can't be asked, or answers nonsense.
    #[error("the daemon at {} does not answer", socket.display())]
    Transport {
        /// Its socket.
        socket: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The daemon refuses.
    #[error("{}", .0.message)]
    Refused(ErrorBody),
}

impl Client {
    /// Asks the daemon at `socket`. Nothing is sent yet.
    ///
    /// # Errors
    /// [`ClientError::Transport`] if the machine has no way to ask at all.
    pub fn new(socket: &Path) -> Result<Self, ClientError> {
        // No TLS is spoken on the socket, but the client is built with it: a provider is needed, certificates are not.
        let _ = rustls::crypto::ring::default_provider().install_default(); // it may be installed already
        let http = reqwest::Client::builder()
            .unix_socket(socket)
            .tls_certs_only([])
            .build()
            .map_err(|error| transport(socket, error))?;
        Ok(Self { socket: socket.to_owned(), http })
    }

    /// The socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// How everything is.
    ///
    /// # Errors
    /// [`ClientError`], as for all verbs.
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.get("status", &(), ANSWER_MAX).await
    }

    /// The first `limit` items of the queue, and its totals.
    ///
    /// # Errors
    /// [`ClientError`], as for all verbs.
    pub async fn queue(&self, limit: usize) -> Result<Queue, ClientError> {
        self.get("queue", &QueueQuery { limit }, ANSWER_MAX).await
    }

    /// How much is left to upload below `path`, or of everything; answers within seconds, so ask in a loop.
    ///
    /// # Errors
    /// [`ClientError`], as for all verbs.
    pub async fn wait(&self, path: Option<&Path>) -> Result<WaitProgress, ClientError> {
        let path = path.map(Path::to_owned);
        self.get("wait", &WaitQuery { path }, SLOW_ANSWER_MAX).await
    }

    /// All hooks.
    ///
    /// # Errors
    /// [`ClientError`], as for all verbs.
    pub async fn hooks(&self) -> Result<Vec<Hook>, ClientError> {
        self.get("hooks", &(), ANSWER_MAX).await
    }

    /// Jobs of hooks, the latest first.
    ///
    /// # Errors
    /// [`ClientError`], as for all verbs.
    pub async fn hook_jobs(&self, filter: &JobFilter) -> Result<Vec<Job>, ClientError> {
        self.get("hooks/jobs", filter, ANSWER_MAX).await
    }

    /// What hooks said about a file.
    ///
    /// # Errors
    /// [`ClientError`], as for all verbs.
    pub async fn hook_results(
        &self,
        filter: &ResultFilter,
    ) -> Result<Vec<HookResult>, ClientError> {
        self.get("hooks/results", filter, SLOW_ANSWER_MAX).await
    }

    /// Tries jobs again.
    ///
    /// # Errors
    /// [`ClientError`], as for all verbs.
    pub async fn hook_retry(&self, retry: &Retry) -> Result<Retried, ClientError> {
        self.post("hooks/retry", retry).await
    }

    /// Has hooks rest or go on.
    ///
    /// # Errors
    /// [`ClientError`], as for all verbs.
    pub async fn pause_hooks(&self, pause: &HookPause) -> Result<Vec<Hook>, ClientError> {
        self.post("hooks/pause", pause).await
    }

    /// Has a hook look at what is there already.
    ///
    /// # Errors
    /// [`ClientError`], as for all verbs.
    pub async fn run_hook(&self, run: &HookRun) -> Result<HookBegun, ClientError> {
        self.post("hooks/run", run).await
    }

    /// Says whether files may leave, in place of their gates.
    ///
    /// # Errors
    /// [`ClientError`], as for all verbs.
    pub async fn say(&self, say: &Say) -> Result<Spoken, ClientError> {
        self.post("hooks/say", say).await
    }

    /// What happened.
    ///
    /// # Errors
    /// [`ClientError`], as for all verbs.
    pub async fn events(&self, query: &EventQuery) -> Result<EventList, ClientError> {
        self.get("events", query, SLOW_ANSWER_MAX).await
    }

    /// Who is told of it.
    ///
    /// # Errors
    /// [`ClientError`], as for all verbs.
    pub async fn sinks(&self) -> Result<Vec<Sink>, ClientError> {
        self.get("sinks", &(), ANSWER_MAX).await
    }

    /// Changes how far a sink has got.
    ///
    /// # Errors
    /// [`ClientError`], as for all verbs.
    pub async fn change_sink(&self, change: &SinkChange) -> Result<Vec<Sink>, ClientError> {
        self.post("sinks/change", change).await
    }

    /// What stays in the cache.
    ///
    /// # Errors
    /// [`ClientError`], as for all verbs.
    pub async fn pins(&self) -> Result<Vec<Pin>, ClientError> {
        self.get("pins", &(), SLOW_ANSWER_MAX).await
    }

    /// Lets a path or glob stay in the cache, or not any more.
    ///
    /// # Errors
    /// [`ClientError`], as for all verbs.
    pub async fn set_pin(&self, change: &PinChange) -> Result<Pin, ClientError> {
        self.post("pins", change).await
    }

    /// Begins long work.
    ///
    /// # Errors
    /// [`ClientError`], as for all verbs.
    pub async fn start_work(&self, start: &WorkStart) -> Result<WorkId, ClientError> {
        self.post("work", start).await
    }

    /// How far long work is; answers within a second, so ask in a loop.
    ///
    /// # Errors
    /// [`ClientError`], as for all verbs.
    pub async fn work(&self, id: WorkId) -> Result<WorkProgress, ClientError> {
        self.get("work", &id, ANSWER_MAX).await
    }

    /// Stops long work; what it did stays.
    ///
    /// # Errors
    /// [`ClientError`], as for all verbs.
    pub async fn stop_work(&self, id: WorkId) -> Result<WorkProgress, ClientError> {
        self.post("work/stop", &id).await
    }

    /// What gateways told in the store of the share that `path` is in, or of all shares.
    ///
    /// # Errors
    /// [`ClientError`], as for all verbs.
    pub async fn reports(&self, path: Option<&Path>) -> Result<Vec<GatewayReport>, ClientError> {
        let path = path.map(Path::to_owned);
        self.get("reports", &WaitQuery { path }, SLOW_ANSWER_MAX).await
    }

    /// Evicts what is here of the files at and below `path`, as far as it can go.
    ///
    /// # Errors
    /// [`ClientError`], as for all verbs.
    pub async fn evict(&self, path: &Path) -> Result<Evicted, ClientError> {
        self.post("evict", &PathQuery { path: path.to_owned() }).await
    }

    /// All that is known of a file.
    ///
    /// # Errors
    /// [`ClientError`], as for all verbs.
    pub async fn explain(&self, path: &Path) -> Result<Explanation, ClientError> {
        self.get("explain", &PathQuery { path: path.to_owned() }, SLOW_ANSWER_MAX).await
    }

    /// Pauses, resumes, holds back, retries or puts first what waits to be uploaded.
    ///
    /// # Errors
    /// [`ClientError`], as for all verbs.
    pub async fn change_queue(&self, change: &QueueChange) -> Result<QueueChanged, ClientError> {
        self.post("queue/change", change).await
    }

    /// The pace of the gateway and of each share.
    ///
    /// # Errors
    /// [`ClientError`], as for all verbs.
    pub async fn paces(&self) -> Result<Vec<PaceState>, ClientError> {
        self.get("pace", &(), ANSWER_MAX).await
    }

    /// Sets a pace.
    ///
    /// # Errors
    /// [`ClientError`], as for all verbs.
    pub async fn set_pace(&self, change: &PaceChange) -> Result<Vec<PaceState>, ClientError> {
        self.post("pace", change).await
    }

    /// What went up; ask again with `from` for more.
    ///
    /// # Errors
    /// [`ClientError`], as for all verbs.
    pub async fn receipts(&self, filter: &ReceiptFilter) -> Result<Receipts, ClientError> {
        self.post("receipts", filter).await
    }

    /// Files that both sides had changed, the latest first.
    ///
    /// # Errors
    /// [`ClientError`], as for all verbs.
    pub async fn conflicts(&self) -> Result<Vec<Conflict>, ClientError> {
        self.get("conflicts", &(), ANSWER_MAX).await
    }

    /// Settles one of them.
    ///
    /// # Errors
    /// [`ClientError`], as for all verbs.
    pub async fn settle_conflict(&self, settle: &Settle) -> Result<Conflict, ClientError> {
        self.post("conflicts/settle", settle).await
    }

    /// What lies in the trash.
    ///
    /// # Errors
    /// [`ClientError`], as for all verbs.
    pub async fn trash(&self) -> Result<Vec<Trashed>, ClientError> {
        self.get("trash", &(), ANSWER_MAX).await
    }

    /// Brings back from the trash what was at and below `path`.
    ///
    /// # Errors
    /// [`ClientError`], as for all verbs.
    pub async fn restore(&self, path: PathBuf) -> Result<Restored, ClientError> {
        self.post("trash/restore", &PathQuery { path }).await
    }

    /// Deletes for good what lies in the trash.
    ///
    /// # Errors
    /// [`ClientError`], as for all verbs.
    pub async fn empty_trash(&self) -> Result<Emptied, ClientError> {
        self.post("trash/empty", &()).await
    }

    /// Takes a mount away.
    ///
    /// # Errors
    /// [`ClientError`], as for all verbs.
    pub async fn unmount(&self, mount: &Path) -> Result<Unmounted, ClientError> {
        self.post("unmount", &Unmount { mount: mount.to_owned() }).await
    }

    async fn get<T: DeserializeOwned>(
        &self,
        verb: &str,
        query: &(impl Serialize + Sync),
        answer_max: Duration,
    ) -> Result<T, ClientError> {
        let query = serde_json::to_value(query).map_err(|error| transport(&self.socket, error))?;
        let pairs = query.as_object().into_iter().flatten().map(|(key, value)| {
            (key.as_str(), value.as_str().map_or_else(|| value.to_string(), str::to_owned))
        });
        self.ask(Method::GET, verb, pairs, Vec::new(), answer_max).await
    }

    async fn post<T: DeserializeOwned>(
        &self,
        verb: &str,
        body: &(impl Serialize + Sync),
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(|error| transport(&self.socket, error))?;
        self.ask(Method::POST, verb, std::iter::empty(), body, SLOW_ANSWER_MAX).await
    }

    async fn ask<'a, T: DeserializeOwned>(
        &self,
        method: Method,
        verb: &str,
        query: impl Iterator<Item = (&'a str, String)>,
        body: Vec<u8>,
        answer_max: Duration,
    ) -> Result<T, ClientError> {
        let failed = |error: reqwest::Error| transport(&self.socket, error);
        let mut url = Url::parse("http://fsd/v1/")
            .and_then(|base| base.join(verb))
            .map_err(|error| transport(&self.socket, error))?;
        for (key, value) in query {
            url.query_pairs_mut().append_pair(key, &value);
        }
        let request = self.http.request(method, url).timeout(answer_max);
        let request = request.header("content-type", "application/json").body(body);
        let response = request.send().await.map_err(failed)?;
        let status = response.status();
        let body = response.bytes().await.map_err(failed)?;
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|error| transport(&self.socket, error));
        }
        // What is refused before any verb is reached has a plain text.
        let message = || format!("{status}: {}", String::from_utf8_lossy(&body));
        let refusal = serde_json::from_slice(&body)
            .unwrap_or_else(|_| ErrorBody { code: ErrorCode::BadRequest, message: message() });
        Err(ClientError::Refused(refusal))
    }
}

fn transport(
    socket: &Path,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> ClientError {
    ClientError::Transport { socket: socket.to_owned(), source: source.into() }
}
