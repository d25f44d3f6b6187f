//! The daemon's side: verbs as HTTP.

use std::error::Error;
use std::io;
use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::hooks::{HookBegun, HookPause, HookRun, ResultFilter, Say, Spoken};
use super::lists::LIST_MAX;
use super::sides::{Conflict, Emptied, Restored, Settle, Trashed};
use super::sinks::{EventList, EventQuery, Sink, SinkChange};
use super::socket::Socket;
use super::steer::{PaceChange, PaceState, QueueChange, QueueChanged, ReceiptFilter, Receipts};
use super::types::{
    ErrorBody, ErrorCode, Evicted, Explanation, GatewayReport, Hook, HookResult, Job, JobFilter,
    PathQuery, Pin, PinChange, Queue, QueueQuery, Retried, Retry, Status, Unmount, Unmounted,
    WaitProgress, WaitQuery, WorkId, WorkProgress, WorkStart,
};
use crate::control::ops::{OperationError, Operations};

type Shared = State<Arc<dyn Operations>>;
type Answer<T> = Result<Json<T>, OperationError>;

/// Answers requests on `socket` until `shutdown`; those under way are finished.
///
/// # Errors
/// If the socket fails.
///
/// # Cancel safety
/// Requests under way may go on for a while after the future is dropped.
pub async fn serve(
    socket: Socket,
    operations: Arc<dyn Operations>,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let Socket { listener, file } = socket;
    let stopped = shutdown.clone().cancelled_owned();
    let served = axum::serve(listener, router(operations)).with_graceful_shutdown(stopped).await;
    drop(file);
    served
}

fn router(operations: Arc<dyn Operations>) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/queue", get(queue))
        .route("/v1/wait", get(wait))
        .route("/v1/hooks", get(hooks))
        .route("/v1/hooks/jobs", get(hook_jobs))
        .route("/v1/hooks/results", get(hook_results))
        .route("/v1/hooks/retry", post(hook_retry))
        .route("/v1/hooks/pause", post(pause_hooks))
        .route("/v1/hooks/run", post(run_hook))
        .route("/v1/hooks/say", post(say))
        .route("/v1/events", get(events))
        .route("/v1/sinks", get(sinks))
        .route("/v1/sinks/change", post(change_sink))
        .route("/v1/pins", get(pins).post(set_pin))
        .route("/v1/work", get(work).post(start_work))
        .route("/v1/work/stop", post(stop_work))
        .route("/v1/reports", get(reports))
        .route("/v1/evict", post(evict))
        .route("/v1/explain", get(explain))
        .route("/v1/queue/change", post(change_queue))
        .route("/v1/pace", get(paces).post(set_pace))
        .route("/v1/receipts", post(receipts))
        .route("/v1/conflicts", get(conflicts))
        .route("/v1/conflicts/settle", post(settle_conflict))
        .route("/v1/trash", get(trash))
        .route("/v1/trash/restore", post(restore))
        .route("/v1/trash/empty", post(empty_trash))
        .route("/v1/unmount", post(unmount))
        .fallback(unknown)
        .with_state(operations)
}

async fn status(State(operations): Shared) -> Answer<Status> {
    operations.status().await.map(Json)
}

async fn queue(State(operations): Shared, Query(query): Query<QueueQuery>) -> Answer<Queue> {
    operations.queue(query.limit.min(LIST_MAX)).await.map(Json)
}

async fn wait(State(operations): Shared, Query(query): Query<WaitQuery>) -> Answer<WaitProgress> {
    operations.wait(query.path.as_deref()).await.map(Json)
}

async fn hooks(State(operations): Shared) -> Answer<Vec<Hook>> {
    operations.hooks().await.map(Json)
}

async fn hook_jobs(
    State(operations): Shared,
    Query(mut filter): Query<JobFilter>,
) -> Answer<Vec<Job>> {
    filter.limit = filter.limit.min(LIST_MAX);
    operations.hook_jobs(&filter).await.map(Json)
}

async fn hook_results(
    State(operations): Shared,
    Query(mut filter): Query<ResultFilter>,
) -> Answer<Vec<HookResult>> {
    filter.limit = filter.limit.min(LIST_MAX);
    operations.hook_results(&filter).await.map(Json)
}

async fn hook_retry(State(operations): Shared, Json(retry): Json<Retry>) -> Answer<Retried> {
    operations.hook_retry(&retry).await.map(Json)
}

async fn pause_hooks(State(operations): Shared, Json(pause): Json<HookPause>) -> Answer<Vec<Hook>> {
    operations.pause_hooks(&pause).await.map(Json)
}

async fn run_hook(State(operations): Shared, Json(run): Json<HookRun>) -> Answer<HookBegun> {
    operations.run_hook(&run).await.map(Json)
}

async fn say(State(operations): Shared, Json(say): Json<Say>) -> Answer<Spoken> {
    operations.say(&say).await.map(Json)
}

async fn events(
    State(operations): Shared,
    Query(mut query): Query<EventQuery>,
) -> Answer<EventList> {
    query.limit = query.limit.min(LIST_MAX);
    operations.events(&query).await.map(Json)
}

async fn sinks(State(operations): Shared) -> Answer<Vec<Sink>> {
    operations.sinks().await.map(Json)
}

async fn change_sink(
    State(operations): Shared,
    Json(change): Json<SinkChange>,
) -> Answer<Vec<Sink>> {
    operations.change_sink(&change).await.map(Json)
}

async fn pins(State(operations): Shared) -> Answer<Vec<Pin>> {
    operations.pins().await.map(Json)
}

async fn set_pin(State(operations): Shared, Json(change): Json<PinChange>) -> Answer<Pin> {
    operations.set_pin(&change).await.map(Json)
}

async fn start_work(State(operations): Shared, Json(start): Json<WorkStart>) -> Answer<WorkId> {
    operations.start_work(&start).await.map(Json)
}

async fn work(State(operations): Shared, Query(id): Query<WorkId>) -> Answer<WorkProgress> {
    operations.work(id).await.map(Json)
}

async fn stop_work(State(operations): Shared, Json(id): Json<WorkId>) -> Answer<WorkProgress> {
    operations.stop_work(id).await.map(Json)
}

async fn reports(
    State(operations): Shared,
    Query(query): Query<WaitQuery>,
) -> Answer<Vec<GatewayReport>> {
    operations.reports(query.path.as_deref()).await.map(Json)
}

async fn evict(State(operations): Shared, Json(query): Json<PathQuery>) -> Answer<Evicted> {
    operations.evict(&query.path).await.map(Json)
}

async fn explain(State(operations): Shared, Query(query): Query<PathQuery>) -> Answer<Explanation> {
    operations.explain(&query.path).await.map(Json)
}

async fn change_queue(
    State(operations): Shared,
    Json(change): Json<QueueChange>,
) -> Answer<QueueChanged> {
    operations.change_queue(&change).await.map(Json)
}

async fn paces(State(operations): Shared) -> Answer<Vec<PaceState>> {
    operations.paces().await.map(Json)
}

async fn set_pace(
    State(operations): Shared,
    Json(change): Json<PaceChange>,
) -> Answer<Vec<PaceState>> {
    operations.set_pace(&change).await.map(Json)
}

async fn receipts(
    State(operations): Shared,
    Json(filter): Json<ReceiptFilter>,
) -> Answer<Receipts> {
    operations.receipts(&filter).await.map(Json)
}

async fn conflicts(State(operations): Shared) -> Answer<Vec<Conflict>> {
    operations.conflicts().await.map(Json)
}

async fn settle_conflict(
    State(operations): Shared,
    Json(settle): Json<Settle>,
) -> Answer<Conflict> {
    operations.settle_conflict(&settle).await.map(Json)
}

async fn trash(State(operations): Shared) -> Answer<Vec<Trashed>> {
    operations.trash().await.map(Json)
}

async fn restore(State(operations): Shared, Json(query): Json<PathQuery>) -> Answer<Restored> {
    operations.restore(&query.path).await.map(Json)
}

async fn empty_trash(State(operations): Shared) -> Answer<Emptied> {
    operations.empty_trash().await.map(Json)
}

async fn unmount(State(operations): Shared, Json(unmount): Json<Unmount>) -> Answer<Unmounted> {
    operations.unmount(&unmount.mount).await.map(Json)
}

async fn unknown() -> Response {
    let message = "there is no such verb; the daemon may be older than the command".to_owned();
    (StatusCode::NOT_FOUND, Json(ErrorBody { code: ErrorCode::BadRequest, message }))
        .into_response()
}

impl IntoResponse for OperationError {
    fn into_response(self) -> Response {
        let (status, code) = match &self {
            Self::NoMount { .. }
            | Self::NoFile { .. }
            | Self::NoHook { .. }
            | Self::NoWork { .. }
            | Self::NoJob { .. } => (StatusCode::NOT_FOUND, ErrorCode::NotFound),
            Self::Nonsense(_) => (StatusCode::BAD_REQUEST, ErrorCode::BadRequest),
            Self::Busy { .. } => (StatusCode::CONFLICT, ErrorCode::Busy),
            Self::Failed(source) => {
                error!(error = source.as_ref() as &dyn Error, "an operator's request failed");
                (StatusCode::INTERNAL_SERVER_ERROR, ErrorCode::Failed)
            }
        };
        let mut message = self.to_string();
        let mut source = self.source();
        while let Some(cause) = source {
            message.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        (status, Json(ErrorBody { code, message })).into_response()
    }
}
