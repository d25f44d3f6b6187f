//! Verbs over a real socket, answered by a gateway that only remembers what it was asked.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use jiff::Timestamp;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::api::hooks::*;
use super::api::sides::*;
use super::api::sinks::*;
use super::api::steer::*;
use super::api::types::*;
use super::api::{Client, ClientError, RuntimeDir, serve, socket::current_uid};
use super::ops::{OperationError, Operations};

/// Answers that are plain to see, and a list of what was asked.
#[derive(Debug, Default)]
pub(super) struct Scripted {
    mounts: Vec<PathBuf>,
    /// Answers to `wait`, one after the other; then it is done.
    waits: Mutex<Vec<WaitProgress>>,
    asked: Mutex<Vec<String>>,
    ended: CancellationToken,
}

impl Scripted {
    pub(super) fn new(mounts: &[&str], waits: Vec<WaitProgress>) -> Self {
        let mounts = mounts.iter().map(PathBuf::from).collect();
        Self { mounts, waits: Mutex::new(waits), ..Self::default() }
    }

    fn note(&self, what: String) {
        self.asked.lock().unwrap().push(what);
    }
}

fn moment() -> Timestamp {
    "2026-11-22T10:00:00Z".parse().unwrap()
}

pub(super) fn status(mounts: &[PathBuf]) -> Status {
    let mount = |mount: &PathBuf| Mount {
        share: "cam".to_owned(),
        url: Some("s3://box/a".to_owned()),
        mount: mount.clone(),
        daemon_path: None,
        read_only: true,
        late_since: None,
        link: Link::Offline { since: moment(), error: "no route".to_owned() },
        quotas: vec![Quota { uid: 7, bytes_used: 1 << 20, bytes_max: Some(2 << 20) }],
    };
    Status {
        version: "1.2.3".to_owned(),
        pid: 7,
        started: moment(),
        mounts: mounts.iter().map(mount).collect(),
        cache: Cache {
            bytes_used: 1 << 30,
            bytes_max: 64 << 30,
            bytes_dirty: 1 << 20,
            files: 1,
            lost_and_found: None,
        },
        memory: Memory {
            bytes_resident: 30 << 20,
            bytes_metadata: 5 << 20,
            bytes_metadata_max: 24 << 20,
        },
        queue: QueueTotals {
            items: 2,
            bytes: 1 << 20,
            in_flight: 1,
            parked: 0,
            cancelled: 0,
            kept_here: 0,
        },
        rates: Rates {
            up: Pace {
                bytes_per_second: 1_024,
                allowed_bytes_per_second: Some(1 << 20),
                bytes_total: 3 << 20,
            },
            down: Pace::default(),
        },
        work: Vec::new(),
        hooks: vec![hook()],
        worker: Some(Worker {
            pid: 8,
            adapter: "none: no Vulkan".to_owned(),
            sandbox: vec!["no files".to_owned(), "no network".to_owned()],
        }),
        programs: vec!["no network".to_owned()],
        sinks: vec![sink()],
    }
}

fn hook() -> Hook {
    Hook {
        name: "thumbnail".to_owned(),
        version: "0123456789abcdef".to_owned(),
        shares: vec!["cam".to_owned()],
        engine: Some(Engine::Cpu),
        error: None,
        unusable: None,
        paused: false,
        jobs: JobCounts { waiting: 1, done: 5, ..JobCounts::default() },
    }
}

fn sink() -> Sink {
    Sink {
        name: "mes".to_owned(),
        target: "https://mes/…".to_owned(),
        seq: 11,
        behind: 1,
        told: 11,
        missed: 0,
        error: None,
        failing_since: None,
    }
}

fn event() -> Event {
    Event {
        seq: 12,
        at: moment(),
        kind: "alert".to_owned(),
        share: "cam".to_owned(),
        path: "a b/c.jpg".to_owned(),
        hook: Some("thumbnail".to_owned()),
        data: serde_json::json!({ "condition": "side > 3" }),
    }
}

fn job(state: JobState) -> Job {
    Job {
        id: 3,
        hook: "thumbnail".to_owned(),
        share: "cam".to_owned(),
        path: "a b/c.jpg".to_owned(),
        state,
        tries: 1,
        error: Some("truncated".to_owned()),
        arrived: moment(),
        changed: moment(),
    }
}

fn pin(path: impl AsRef<Path>) -> Pin {
    let path = path.as_ref().to_owned();
    Pin { share: "cam".to_owned(), path, files: 3, bytes: 9, bytes_here: 5 }
}

fn work(over: bool) -> WorkProgress {
    WorkProgress {
        id: 4,
        kind: WorkKind::Warm,
        path: "/mnt/cam/a".into(),
        files: 3,
        files_done: 2,
        bytes: 9,
        bytes_done: 5,
        mended: 0,
        unproven: 0,
        changes: Changes { added: 1, changed: 2, gone: 3 },
        found: 0,
        repaired: 0,
        findings: Vec::new(),
        problems: 1,
        told: vec!["a/b: no room".to_owned()],
        over,
        stopped: false,
    }
}

fn conflict() -> Conflict {
    let version = Version { bytes: 9, modified: Some(moment()), etag: Some("e".to_owned()) };
    Conflict {
        id: 3,
        share: "cam".to_owned(),
        path: "/mnt/cam/a.jpg".into(),
        kept_as: Some("/mnt/cam/a (conflict g T).jpg".into()),
        rule: "keep-both".to_owned(),
        at: moment(),
        ours: version.clone(),
        theirs: version,
        until: None,
    }
}

fn trashed() -> Trashed {
    Trashed {
        share: "cam".to_owned(),
        path: "/mnt/cam/a.jpg".into(),
        bytes: 9,
        key: ".fsd/trash/T-g-7/a.jpg".to_owned(),
        deleted: moment(),
        until: moment(),
    }
}

fn report() -> GatewayReport {
    let dirty = DirtyFile { path: "a/b".to_owned(), bytes: 9, mtime: moment(), arrived: false };
    GatewayReport {
        gateway: "1a2b3c4d".to_owned(),
        share: "cam".to_owned(),
        written: Some(moment()),
        age_seconds: 90,
        items: 1,
        bytes: 9,
        dirty: vec![dirty],
        ..GatewayReport::default()
    }
}

fn explanation(path: &Path) -> Explanation {
    Explanation {
        path: path.to_owned(),
        share: "cam".to_owned(),
        inode: 7,
        kind: "file".to_owned(),
        state: "partial".to_owned(),
        conflict: false,
        pinned_by: Some("a/**".to_owned()),
        bytes: 9,
        bytes_here: 5,
        handles: 2,
        writers: 1,
        daemon_path: Some("not all of it is here".to_owned()),
        object: Some(ExplainedObject { key: "a/b".to_owned(), etag: None, current: true }),
        gates: Vec::new(),
        queue: None,
        bytes_are: "in the store, and in part here".to_owned(),
        next: "nothing".to_owned(),
    }
}

fn pace() -> PaceState {
    PaceState {
        share: Some("cam".to_owned()),
        way: "up".to_owned(),
        rate: "10Mbit/s".to_owned(),
        reason: PaceReason::ByHand,
        until: Some(moment()),
        day: Some(BudgetState { bytes: 9, spent: 5 }),
        month: None,
    }
}

#[async_trait]
impl Operations for Scripted {
    async fn status(&self) -> Result<Status, OperationError> {
        Ok(status(&self.mounts))
    }

    async fn queue(&self, limit: usize) -> Result<Queue, OperationError> {
        self.note(format!("queue {limit}"));
        Ok(Queue::default())
    }

    async fn wait(&self, path: Option<&Path>) -> Result<WaitProgress, OperationError> {
        self.note(format!("wait {path:?}"));
        let mut waits = self.waits.lock().unwrap();
        Ok(if waits.is_empty() { WaitProgress::default() } else { waits.remove(0) })
    }

    async fn hooks(&self) -> Result<Vec<Hook>, OperationError> {
        Ok(vec![hook()])
    }

    async fn hook_jobs(&self, filter: &JobFilter) -> Result<Vec<Job>, OperationError> {
        self.note(format!("jobs {:?} {:?} {}", filter.hook, filter.state, filter.limit));
        match &filter.hook {
            Some(name) if name != "thumbnail" => Err(OperationError::NoHook { name: name.clone() }),
            Some(_) | None => Ok(vec![job(filter.state.unwrap_or(JobState::Done))]),
        }
    }

    async fn hook_results(&self, filter: &ResultFilter) -> Result<Vec<HookResult>, OperationError> {
        self.note(format!("results {:?} {:?}", filter.condition, filter.limit));
        Err(OperationError::NoFile { path: filter.path.clone().unwrap_or_default() })
    }

    async fn hook_retry(&self, retry: &Retry) -> Result<Retried, OperationError> {
        self.note(format!("retry {retry:?}"));
        match retry {
            Retry::All => Ok(Retried { jobs: 4 }),
            Retry::Job(id) => Err(OperationError::NoJob { id: *id }),
        }
    }

    async fn pause_hooks(&self, pause: &HookPause) -> Result<Vec<Hook>, OperationError> {
        self.note(format!("pause {:?} {}", pause.hook, pause.paused));
        Ok(vec![Hook { paused: pause.paused, ..hook() }])
    }

    async fn run_hook(&self, run: &HookRun) -> Result<HookBegun, OperationError> {
        self.note(format!("run {} {}", run.hook, run.path.display()));
        Ok(HookBegun { files: 2, had: 1, problems: Vec::new() })
    }

    async fn say(&self, say: &Say) -> Result<Spoken, OperationError> {
        self.note(format!("say {} {}", say.verdict, say.path.display()));
        Ok(Spoken { files: 3 })
    }

    async fn events(&self, query: &EventQuery) -> Result<EventList, OperationError> {
        self.note(format!("events {:?} {:?} {}", query.from, query.kind, query.limit));
        Ok(EventList { events: vec![event()], next: 13, first: 12 })
    }

    async fn sinks(&self) -> Result<Vec<Sink>, OperationError> {
        self.note("sinks".to_owned());
        Ok(vec![sink()])
    }

    async fn change_sink(&self, change: &SinkChange) -> Result<Vec<Sink>, OperationError> {
        self.note(format!("{change:?}"));
        Ok(vec![sink()])
    }

    async fn pins(&self) -> Result<Vec<Pin>, OperationError> {
        Ok(vec![pin("/mnt/cam/a")])
    }

    async fn set_pin(&self, change: &PinChange) -> Result<Pin, OperationError> {
        self.note(format!("pin {} {}", change.path.display(), change.pinned));
        Ok(pin(&change.path))
    }

    async fn start_work(&self, start: &WorkStart) -> Result<WorkId, OperationError> {
        let path = start.path.clone().unwrap_or_default();
        self.note(format!("{:?} {}", start.kind, path.display()));
        Ok(WorkId { id: 4 })
    }

    async fn work(&self, WorkId { id }: WorkId) -> Result<WorkProgress, OperationError> {
        if id == 4 { Ok(work(true)) } else { Err(OperationError::NoWork { id }) }
    }

    async fn stop_work(&self, id: WorkId) -> Result<WorkProgress, OperationError> {
        self.note(format!("stop {}", id.id));
        Ok(WorkProgress { stopped: true, ..work(true) })
    }

    async fn reports(&self, path: Option<&Path>) -> Result<Vec<GatewayReport>, OperationError> {
        self.note(format!("reports {path:?}"));
        Ok(vec![report()])
    }

    async fn evict(&self, path: &Path) -> Result<Evicted, OperationError> {
        self.note(format!("evict {}", path.display()));
        Ok(Evicted { files: 2, bytes: 1 << 20, pinned: 1, ..Evicted::default() })
    }

    async fn explain(&self, path: &Path) -> Result<Explanation, OperationError> {
        Ok(explanation(path))
    }

    async fn change_queue(&self, change: &QueueChange) -> Result<QueueChanged, OperationError> {
        self.note(format!("{change:?}"));
        Ok(QueueChanged { items: 2 })
    }

    async fn paces(&self) -> Result<Vec<PaceState>, OperationError> {
        Ok(vec![pace()])
    }

    async fn set_pace(&self, change: &PaceChange) -> Result<Vec<PaceState>, OperationError> {
        self.note(format!("pace {:?} {:?}", change.up, change.seconds));
        Ok(vec![pace()])
    }

    async fn receipts(&self, filter: &ReceiptFilter) -> Result<Receipts, OperationError> {
        self.note(format!("receipts {:?}", filter.path));
        Ok(Receipts::default())
    }

    async fn conflicts(&self) -> Result<Vec<Conflict>, OperationError> {
        Ok(vec![conflict()])
    }

    async fn settle_conflict(&self, settle: &Settle) -> Result<Conflict, OperationError> {
        self.note(format!("settle {} {:?}", settle.path.display(), settle.keep));
        Ok(conflict())
    }

    async fn trash(&self) -> Result<Vec<Trashed>, OperationError> {
        Ok(vec![trashed()])
    }

    async fn restore(&self, path: &Path) -> Result<Restored, OperationError> {
        self.note(format!("restore {}", path.display()));
        Ok(Restored { files: 1, ..Restored::default() })
    }

    async fn empty_trash(&self) -> Result<Emptied, OperationError> {
        self.note("empty".to_owned());
        Ok(Emptied { objects: 2 })
    }

    async fn unmount(&self, mount: &Path) -> Result<Unmounted, OperationError> {
        self.note(format!("unmount {}", mount.display()));
        if mount == Path::new("/mnt/busy") {
            return Err(OperationError::Busy { mount: mount.to_owned() });
        }
        if mount == Path::new("/mnt/broken") {
            let cause = std::io::Error::other("disk on fire");
            return Err(OperationError::Failed(cause.into()));
        }
        self.ended.cancel();
        Ok(Unmounted { daemon_ends: true, items_left: 0 })
    }
}

/// A gateway on a socket in a directory of its own, for as long as it lives.
pub(super) struct Served {
    pub(super) dir: TempDir,
    socket: PathBuf,
    operations: Arc<Scripted>,
}

impl Served {
    pub(super) fn new(operations: Scripted) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::in_dir(dir, 7, operations)
    }

    pub(super) fn in_dir(dir: TempDir, pid: u32, operations: Scripted) -> Self {
        let runtime_dir =
            RuntimeDir::open(current_uid(), Some(&dir.path().join("run")), None).unwrap();
        let operations = Arc::new(operations);
        let socket = runtime_dir.listen(pid).unwrap();
        let path = socket.path().to_owned();
        let ended = operations.ended.clone();
        tokio::runtime::Handle::current().spawn(serve(socket, operations.clone(), ended));
        Self { dir, socket: path, operations }
    }

    pub(super) fn asked(&self) -> Vec<String> {
        self.operations.asked.lock().unwrap().clone()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.operations.ended.cancel();
    }
}

fn refused<T: std::fmt::Debug>(answer: Result<T, ClientError>) -> (ErrorCode, String) {
    match answer.unwrap_err() {
        ClientError::Refused(body) => (body.code, body.message),
        error @ ClientError::Transport { .. } => panic!("{error:?}"),
    }
}

#[tokio::test]
async fn what_is_asked_arrives_and_what_is_answered_comes_back() {
    let served = Served::new(Scripted::new(&["/mnt/cam"], Vec::new()));
    let client = Client::new(&served.socket).unwrap();
    assert_eq!(client.status().await.unwrap(), status(&["/mnt/cam".into()]));
    assert_eq!(client.queue(5).await.unwrap(), Queue::default());
    assert_eq!(client.wait(None).await.unwrap(), WaitProgress::default());
    client.wait(Some(Path::new("/mnt/cam/a b&c=ü?#%"))).await.unwrap();
    assert_eq!(client.hooks().await.unwrap(), [hook()]);
    let filter = JobFilter { hook: None, state: Some(JobState::Parked), limit: 2 };
    assert_eq!(client.hook_jobs(&filter).await.unwrap(), [job(JobState::Parked)]);
    assert_eq!(client.hook_retry(&Retry::All).await.unwrap(), Retried { jobs: 4 });
    let pause = HookPause { hook: None, paused: true };
    assert!(client.pause_hooks(&pause).await.unwrap()[0].paused);
    let run = HookRun { hook: "thumbnail".into(), path: "/mnt/cam/a b".into() };
    assert_eq!(client.run_hook(&run).await.unwrap().files, 2);
    let say = Say { path: "/mnt/cam/a b".into(), verdict: "pass".into() };
    assert_eq!(client.say(&say).await.unwrap(), Spoken { files: 3 });
    let query = EventQuery { kind: Some("alert".into()), limit: 9, ..EventQuery::default() };
    assert_eq!(client.events(&query).await.unwrap().events, [event()]);
    assert_eq!(client.sinks().await.unwrap(), [sink()]);
    let change = SinkChange::Replay { sink: "mes".into(), from: 3 };
    assert_eq!(client.change_sink(&change).await.unwrap(), [sink()]);
    let (path, kind) = (Path::new("/mnt/cam/a b"), WorkKind::Scrub);
    assert_eq!(client.pins().await.unwrap(), [pin("/mnt/cam/a")]);
    let change = PinChange { path: path.to_owned(), pinned: false };
    assert_eq!(client.set_pin(&change).await.unwrap(), pin(path));
    let id = client
        .start_work(&WorkStart { path: Some(path.to_owned()), ..WorkStart::of(kind) })
        .await
        .unwrap();
    assert_eq!(client.work(id).await.unwrap(), work(true));
    assert!(client.stop_work(id).await.unwrap().stopped);
    assert_eq!(client.reports(Some(path)).await.unwrap(), [report()]);
    assert_eq!(client.evict(path).await.unwrap().pinned, 1);
    assert_eq!(client.explain(path).await.unwrap(), explanation(path));
    let change = QueueChange::Pause { share: Some("cam".to_owned()) };
    assert_eq!(client.change_queue(&change).await.unwrap(), QueueChanged { items: 2 });
    assert_eq!(client.paces().await.unwrap(), [pace()]);
    let up = Some("1MiB/s".to_owned());
    let change = PaceChange { up, seconds: Some(7), ..PaceChange::default() };
    assert_eq!(client.set_pace(&change).await.unwrap(), [pace()]);
    let filter = ReceiptFilter { path: Some(path.to_owned()), ..ReceiptFilter::default() };
    assert_eq!(client.receipts(&filter).await.unwrap(), Receipts::default());
    assert_eq!(client.conflicts().await.unwrap(), [conflict()]);
    let settle = Settle { path: path.to_owned(), keep: Keep::Mine };
    assert_eq!(client.settle_conflict(&settle).await.unwrap(), conflict());
    assert_eq!(client.trash().await.unwrap(), [trashed()]);
    assert_eq!(
        client.restore(path.to_owned()).await.unwrap(),
        Restored { files: 1, ..Restored::default() }
    );
    assert_eq!(client.empty_trash().await.unwrap(), Emptied { objects: 2 });
    let filter = JobFilter { hook: Some("thumbnail".to_owned()), state: None, limit: usize::MAX };
    client.hook_jobs(&filter).await.unwrap();
    assert_eq!(
        served.asked(),
        [
            "queue 5",
            "wait None",
            "wait Some(\"/mnt/cam/a b&c=ü?#%\")",
            "jobs None Some(Parked) 2",
            "retry All",
            "pause None true",
            "run thumbnail /mnt/cam/a b",
            "say pass /mnt/cam/a b",
            "events None Some(\"alert\") 9",
            "sinks",
            "Replay { sink: \"mes\", from: 3 }",
            "pin /mnt/cam/a b false",
            "Scrub /mnt/cam/a b",
            "stop 4",
            "reports Some(\"/mnt/cam/a b\")",
            "evict /mnt/cam/a b",
            "Pause { share: Some(\"cam\") }",
            "pace Some(\"1MiB/s\") Some(7)",
            "receipts Some(\"/mnt/cam/a b\")",
            "settle /mnt/cam/a b Mine",
            "restore /mnt/cam/a b",
            "empty",
            "jobs Some(\"thumbnail\") None 10000",
        ]
    );
}

#[tokio::test]
async fn refusals_say_what_the_caller_can_do() {
    let served = Served::new(Scripted::default());
    let client = Client::new(&served.socket).unwrap();
    let path = |path| client.unmount(Path::new(path));
    assert_eq!(
        refused(path("/mnt/busy").await),
        (ErrorCode::Busy, "/mnt/busy is in use".to_owned())
    );
    let failed = "the gateway failed: disk on fire".to_owned();
    assert_eq!(refused(path("/mnt/broken").await), (ErrorCode::Failed, failed));
    let no_job = (ErrorCode::NotFound, "there is no job 9".to_owned());
    assert_eq!(refused(client.hook_retry(&Retry::Job(9)).await), no_job);
    let results = refused(
        client
            .hook_results(&ResultFilter { path: Some("/mnt/x".into()), ..ResultFilter::default() })
            .await,
    );
    assert_eq!(results, (ErrorCode::NotFound, "/mnt/x does not exist".to_owned()));
}

#[tokio::test]
async fn the_answer_to_the_last_unmount_still_arrives_and_the_socket_goes() {
    let served = Served::new(Scripted::new(&["/mnt/cam"], Vec::new()));
    let client = Client::new(&served.socket).unwrap();
    assert!(client.unmount(Path::new("/mnt/cam")).await.unwrap().daemon_ends);
    while served.socket.exists() {
        tokio::task::yield_now().await;
    }
    assert!(matches!(client.status().await, Err(ClientError::Transport { .. })));
}

#[test]
fn the_json_of_a_status_is_as_documented() {
    let json = serde_json::to_value(status(&["/mnt/cam".into()])).unwrap();
    let mount = serde_json::json!({
        "share": "cam", "url": "s3://box/a", "mount": "/mnt/cam", "quotas": [{"uid": 7, "bytes_used": 1_048_576, "bytes_max": 2_097_152}], "read_only": true, "daemon_path": null, "late_since": null,
        "link": { "state": "offline", "since": "2026-11-22T10:00:00Z", "error": "no route" },
    });
    assert_eq!(json["mounts"][0], mount);
    assert_eq!(json["hooks"][0]["engine"], "cpu");
    assert_eq!(json["rates"]["down"]["allowed_bytes_per_second"], serde_json::Value::Null);
}
