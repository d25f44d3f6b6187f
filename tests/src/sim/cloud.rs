//! A store in memory that outlives every gateway, with a wire to it on which everything goes wrong that can: answers that are late or
//! lost, requests that never come, hours without a link, and a gateway that dies before a request or behind it.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use fsd::clock::Clock;
use fsd::remote::{
    Body, Condition, Limits, Object, Page, PageToken, PartId, Remote, RemoteError, Result, Source,
    UploadId,
};
use fsd::rng::Rng;
use fsd::types::{ETag, Key, Metadata, Time, fnv1a};
use tokio::sync::Notify;

use super::broken::Broken;
use super::laws::{Going, Laws};
use crate::level::{Place, level};

/// Larger bodies go up in parts.
const PUT_BYTES_MAX: u64 = 48 << 10;
const PAGE: usize = 7;
/// Before the names of others' uploads.
const THEIRS: &str = "theirs-";
/// In metadata, what a gateway knows its own versions by; and where objects stand aside.
const MARK: &str = "fsdversion";
const ASIDE: &str = ".fsd/moving/";

#[derive(Clone, Debug)]
struct Held {
    body: Bytes,
    metadata: Metadata,
    etag: ETag,
    modified: Time,
    foreign: bool,
}

#[derive(Debug)]
struct Upload {
    key: String,
    parts: BTreeMap<u32, Bytes>,
}

/// How often something goes wrong: in 1,000 requests.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Trouble {
    pub(super) lost_before: u64,
    pub(super) lost_behind: u64,
    pub(super) crash: u64,
    /// The same of requests for uploads in parts.
    pub(super) crash_of_part: u64,
}

#[derive(Debug)]
struct State {
    objects: BTreeMap<String, Held>,
    uploads: BTreeMap<String, Upload>,
    versions: u64,
    rng: Rng,
    trouble: Trouble,
    online: bool,
    /// A file and a directory can't have one name, as in stores that have real directories.
    has_real_dirs: bool,
    broken: Option<Broken>,
    requests: u64,
    faults: u64,
    /// Of all that was noted.
    digest: u64,
    laws: Laws,
}

/// The store, and what is known of it by nobody but the simulation.
#[derive(Clone, Debug)]
pub(super) struct Cloud {
    state: Arc<Mutex<State>>,
    /// The gateway has to die now.
    pub(super) crashed: Arc<Notify>,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Served,
    LostBefore,
    LostBehind,
    CrashBefore,
    CrashBehind,
}

impl Cloud {
    pub(super) fn new(mut rng: Rng, broken: Option<Broken>) -> Self {
        let state = State {
            has_real_dirs: rng.below(3) == 0,
            broken,
            objects: BTreeMap::new(),
            uploads: BTreeMap::new(),
            versions: 0,
            rng,
            trouble: Trouble::default(),
            online: true,
            requests: 0,
            faults: 0,
            digest: 0,
            laws: Laws::default(),
        };
        Self { state: Arc::new(Mutex::new(state)), crashed: Arc::default() }
    }

    /// The gateway's end of the wire.
    pub(super) fn wire(&self, clock: Arc<dyn Clock>) -> Wire {
        Wire { cloud: self.clone(), clock }
    }

    pub(super) fn set_trouble(&self, trouble: Trouble) {
        self.state().trouble = trouble;
    }

    pub(super) fn set_online(&self, online: bool) {
        self.state().online = online;
    }

    /// Requests, and how many of them went wrong.
    pub(super) fn counts(&self) -> (u64, u64) {
        let state = self.state();
        (state.requests, state.faults)
    }

    /// Adds to what [`Cloud::digest`] is of.
    pub(super) fn note(&self, what: &str) {
        self.state().note(what);
    }

    /// The gateway's uploads whose parts lie here, and cost.
    pub(super) fn unfinished(&self) -> Vec<String> {
        let state = self.state();
        let with_parts = state.uploads.values().filter(|upload| !upload.parts.is_empty());
        with_parts.map(|upload| upload.key.clone()).collect()
    }

    /// A hash of all that was noted, in its order.
    pub(super) fn digest(&self) -> u64 {
        self.state().digest
    }

    pub(super) fn laws<T>(&self, look: impl FnOnce(&mut Laws) -> T) -> T {
        look(&mut self.state().laws)
    }

    /// All objects, directories' markers included.
    pub(super) fn objects(&self) -> BTreeMap<String, Vec<u8>> {
        let state = self.state();
        state.objects.iter().map(|(key, held)| (key.clone(), held.body.to_vec())).collect()
    }

    /// Somebody else puts an object.
    pub(super) fn put_foreign(&self, key: &str, body: Vec<u8>, modified: Time) {
        let mut state = self.state();
        let etag = state.next_version();
        let (body, metadata) = (body.into(), Metadata::new());
        state
            .objects
            .insert(key.to_owned(), Held { body, metadata, etag, modified, foreign: true });
    }

    /// Somebody else copies an object of the gateway's, as a store does it: its metadata comes along. Returns its content. What was copied
    /// before, and comes back to its own key, nobody could tell from a version of the gateway's whose answer was lost.
    pub(super) fn copy_foreign(&self, from: &str, to: &str, modified: Time) -> Option<Vec<u8>> {
        let mut state = self.state();
        let held = state.objects.get(from).filter(|held| !held.foreign)?.clone();
        let (etag, body) = (state.next_version(), held.body.to_vec());
        state.objects.insert(to.to_owned(), Held { etag, modified, foreign: true, ..held });
        Some(body)
    }

    /// Whether a file and a directory can't have one name.
    pub(super) fn has_real_dirs(&self) -> bool {
        self.state().has_real_dirs
    }

    /// Whether somebody else could.
    pub(super) fn can_put(&self, key: &str) -> bool {
        self.state().has_place(key)
    }

    /// Somebody else deletes an object.
    pub(super) fn delete_foreign(&self, key: &str) {
        self.state().objects.remove(key);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn next_version(&mut self) -> ETag {
        self.versions += 1;
        ETag(format!("v{}", self.versions))
    }

    fn note(&mut self, what: &str) {
        self.digest = fnv1a(self.digest.to_le_bytes().into_iter().chain(what.bytes()));
    }

    fn fate(&mut self, what: &str) -> Fate {
        self.requests += 1;
        let Trouble { lost_before, lost_behind, crash, crash_of_part } = self.trouble;
        let crash = if what.starts_with("multipart") { crash_of_part } else { crash };
        let fate = match self.rng.below(1000) {
            _ if !self.online => Fate::LostBefore,
            n if n < lost_before => Fate::LostBefore,
            n if n < lost_before + lost_behind => Fate::LostBehind,
            n if n < lost_before + lost_behind + crash => match n % 2 {
                0 => Fate::CrashBefore,
                _ => Fate::CrashBehind,
            },
            _ => Fate::Served,
        };
        self.faults += u64::from(fate != Fate::Served);
        fate
    }

    fn latency(&mut self) -> Duration {
        let millis = match self.rng.below(50) {
            0 => self.rng.below(4000),
            _ => self.rng.below(60),
        };
        Duration::from_millis(millis)
    }

    fn check(&self, key: &Key, condition: &Condition) -> Result<()> {
        if self.broken == Some(Broken::Conditions) {
            return Ok(());
        }
        let there = self.objects.get(key.as_str());
        let holds = match condition {
            Condition::Always => true,
            Condition::Absent => there.is_none(),
            Condition::Match(etag) => there.is_some_and(|held| held.etag == *etag),
        };
        if holds { Ok(()) } else { Err(RemoteError::Precondition { key: key.clone() }) }
    }

    fn object(&mut self, key: &Key) -> Result<Object> {
        let mut held = self.held(key)?;
        if self.broken == Some(Broken::Marks) {
            held.metadata.remove(MARK);
        }
        self.laws.saw(&held.etag);
        Ok(shown(key.as_str(), &held))
    }

    /// Whether an object can be there beside the others.
    fn has_place(&self, key: &str) -> bool {
        let is_above = |dir: &str| self.objects.contains_key(dir);
        let below = format!("{key}/");
        let is_below = |other: &String| !key.ends_with('/') && other.starts_with(&below);
        !self.has_real_dirs
            || !key.match_indices('/').any(|(slash, _)| is_above(&key[..slash]))
                && !self
                    .objects
                    .range(below.clone()..)
                    .next()
                    .is_some_and(|(other, _)| is_below(other))
    }

    fn occupied(&self, key: &Key) -> Result<()> {
        if self.has_place(key.as_str()) {
            return Ok(());
        }
        let (store, source) = ("the cloud".into(), "something else stands there".into());
        Err(RemoteError::Occupied { store, key: key.clone(), source })
    }

    fn held(&self, key: &Key) -> Result<Held> {
        let held = self.objects.get(key.as_str()).cloned();
        held.ok_or_else(|| RemoteError::NotFound { key: key.clone() })
    }

    fn insert(
        &mut self,
        key: &Key,
        body: Bytes,
        metadata: Metadata,
        modified: Time,
    ) -> Result<ETag> {
        self.occupied(key)?;
        let etag = self.next_version();
        let held = Held { body, metadata, etag: etag.clone(), modified, foreign: false };
        let before = self.objects.insert(key.as_str().to_owned(), held);
        let body = self.objects[key.as_str()].body.clone();
        let has_twin = before.as_ref().is_some_and(|before| self.has_twin(key, &before.body));
        let going = before.as_ref().map(|before| going(key, before, has_twin));
        if !key.is_dir() {
            self.laws.put(key.as_str(), &body, going.as_ref());
        }
        self.laws.saw(&etag);
        Ok(etag)
    }

    fn has_twin(&self, key: &Key, body: &Bytes) -> bool {
        self.objects.iter().any(|(other, held)| *other != key.as_str() && held.body == *body)
    }
}

fn going<'a>(key: &'a Key, held: &'a Held, has_twin: bool) -> Going<'a> {
    let Held { body, etag, foreign, .. } = held;
    Going { key: key.as_str(), body, etag, foreign: *foreign, has_twin }
}

fn shown(key: &str, held: &Held) -> Object {
    Object {
        key: Key::from_raw(key),
        size: held.body.len() as u64,
        etag: held.etag.clone(),
        modified: held.modified,
        metadata: Some(held.metadata.clone()),
    }
}

/// A gateway's way to the [`Cloud`].
#[derive(Debug)]
pub(super) struct Wire {
    cloud: Cloud,
    clock: Arc<dyn Clock>,
}

impl Wire {
    async fn ask<T>(
        &self,
        what: String,
        serve: impl FnOnce(&mut State, Time) -> Result<T>,
    ) -> Result<T> {
        let (fate, before, behind) = {
            let mut state = self.cloud.state();
            (state.fate(&what), state.latency(), state.latency())
        };
        self.clock.sleep(before).await;
        let now = self.clock.wall();
        self.cloud.note(&format!("{now:?} {fate:?} {what}"));
        match fate {
            Fate::LostBefore => return Err(lost()),
            Fate::CrashBefore => return self.crash().await,
            Fate::Served | Fate::LostBehind | Fate::CrashBehind => {}
        }
        let served = serve(&mut self.cloud.state(), now);
        tracing::debug!(secs = now.secs, nanos = now.nanos, what, ?fate, ok = served.is_ok());
        if fate == Fate::CrashBehind {
            return self.crash().await;
        }
        self.clock.sleep(behind).await;
        if fate == Fate::LostBehind { Err(lost()) } else { served }
    }

    async fn crash<T>(&self) -> Result<T> {
        self.cloud.crashed.notify_one();
        std::future::pending().await
    }
}

fn lost() -> RemoteError {
    RemoteError::Unreachable { store: "the cloud".into(), source: "the wire is cut".into() }
}

#[async_trait]
impl Remote for Wire {
    fn limits(&self) -> Limits {
        Limits {
            put_bytes_max: PUT_BYTES_MAX,
            part_bytes_min: 1,
            parts_max: 10_000,
            deletes_max: 5,
        }
    }

    async fn check(&self) -> Result<()> {
        self.ask("check".into(), |_, _| Ok(())).await
    }

    async fn head(&self, key: &Key) -> Result<Object> {
        self.ask(format!("head {key}"), |state, _| state.object(key)).await
    }

    async fn get(&self, key: &Key, range: Range<u64>, expect: Option<&ETag>) -> Result<Bytes> {
        self.ask(format!("get {key}"), |state, _| {
            let held = state.held(key)?;
            if expect.is_some_and(|etag| held.etag != *etag) {
                return Err(RemoteError::Precondition { key: key.clone() });
            }
            let at =
                |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX).min(held.body.len());
            Ok(held.body.slice(at(range.start)..at(range.end)))
        })
        .await
    }

    async fn list(&self, prefix: &Key, page: Option<&PageToken>) -> Result<Page> {
        self.ask(format!("list {prefix}"), |state, _| {
            let after = page.map_or("", |token| &*token.0);
            let keys: Vec<String> = state.objects.keys().cloned().collect();
            let below = keys.iter().map(String::as_str).filter(|key| *key != prefix.as_str());
            let (places, next) = level(below, (prefix.as_str(), "/"), after, PAGE);
            let mut found = Page { next: next.map(PageToken), ..Page::default() };
            for place in places {
                match place {
                    Place::Prefix(common) => found.prefixes.push(Key::from_raw(common)),
                    Place::Key(key) => {
                        let object = state.object(&Key::from_raw(key))?;
                        found.objects.push(Object { metadata: None, ..object });
                    }
                }
            }
            Ok(found)
        })
        .await
    }

    async fn put(
        &self,
        key: &Key,
        body: Body,
        metadata: &Metadata,
        condition: &Condition,
    ) -> Result<ETag> {
        self.ask(format!("put {key} {condition:?}"), |state, now| {
            state.check(key, condition)?;
            state.insert(key, body.bytes().clone(), metadata.clone(), now)
        })
        .await
    }

    async fn copy(
        &self,
        from: &Key,
        expect: &ETag,
        to: &Key,
        metadata: &Metadata,
        condition: &Condition,
    ) -> Result<ETag> {
        self.ask(format!("copy {from} {to}"), |state, now| {
            let source = state.held(from)?;
            state.check(from, &Condition::Match(expect.clone()))?;
            state.check(to, condition)?;
            if state.broken == Some(Broken::Aside) && to.as_str().starts_with(ASIDE) {
                return Ok(expect.clone());
            }
            let body = source.body;
            state.insert(to, body, metadata.clone(), now)
        })
        .await
    }

    async fn set_metadata(&self, key: &Key, metadata: &Metadata, expect: &ETag) -> Result<ETag> {
        self.ask(format!("set_metadata {key}"), |state, now| {
            state.check(key, &Condition::Match(expect.clone()))?;
            let body = state.held(key)?.body;
            state.insert(key, body, metadata.clone(), now)
        })
        .await
    }

    async fn delete(&self, key: &Key, condition: &Condition) -> Result<()> {
        self.ask(format!("delete {key} {condition:?}"), |state, _| {
            let Some(held) = state.objects.get(key.as_str()).cloned() else { return Ok(()) };
            state.check(key, condition)?;
            state.objects.remove(key.as_str());
            let has_twin = state.has_twin(key, &held.body);
            state.laws.goes(&going(key, &held, has_twin), None);
            Ok(())
        })
        .await
    }

    async fn delete_many(&self, objects: &[(Key, ETag)]) -> Result<Vec<Result<()>>> {
        self.ask(format!("delete {} objects", objects.len()), |state, _| {
            let delete = |(key, etag): &(Key, ETag)| {
                let Some(held) = state.objects.get(key.as_str()).cloned() else { return Ok(()) };
                state.check(key, &Condition::Match(etag.clone()))?;
                state.objects.remove(key.as_str());
                let has_twin = state.has_twin(key, &held.body);
                state.laws.goes(&going(key, &held, has_twin), None);
                Ok(())
            };
            Ok(objects.iter().map(delete).collect())
        })
        .await
    }

    async fn multipart_create(&self, key: &Key, _: &Metadata) -> Result<UploadId> {
        self.ask(format!("multipart_create {key}"), |state, _| {
            let id = format!("u{}", state.next_version().0);
            // Somebody else begins one to the same key at the same time.
            for id in [id.clone(), format!("{THEIRS}{id}")] {
                let upload = Upload { key: key.as_str().to_owned(), parts: BTreeMap::new() };
                state.uploads.insert(id, upload);
            }
            Ok(UploadId(id))
        })
        .await
    }

    async fn multipart_put(
        &self,
        key: &Key,
        id: &UploadId,
        number: u32,
        body: Body,
    ) -> Result<PartId> {
        self.ask(format!("multipart_put {key}"), |state, _| {
            let upload = state.upload(key, id)?;
            upload.parts.insert(number, body.bytes().clone());
            Ok(PartId(number.to_string()))
        })
        .await
    }

    async fn multipart_copy(
        &self,
        key: &Key,
        id: &UploadId,
        number: u32,
        source: &Source,
    ) -> Result<PartId> {
        self.ask(format!("multipart_copy {key}"), |state, _| {
            state.check(&source.key, &Condition::Match(source.etag.clone()))?;
            let held = state.held(&source.key)?;
            let at = |offset| usize::try_from(offset).unwrap_or(usize::MAX).min(held.body.len());
            let body = held.body.slice(at(source.range.start)..at(source.range.end));
            state.upload(key, id)?.parts.insert(number, body);
            Ok(PartId(number.to_string()))
        })
        .await
    }

    async fn multipart_complete(
        &self,
        key: &Key,
        id: &UploadId,
        parts: &[PartId],
        metadata: &Metadata,
        condition: &Condition,
    ) -> Result<ETag> {
        self.ask(format!("multipart_complete {key}"), |state, now| {
            let upload = state.upload(key, id)?;
            let mut body = Vec::new();
            for part in parts {
                let number: u32 = part.0.parse().unwrap_or(u32::MAX);
                let part = upload.parts.get(&number);
                body.extend(part.ok_or_else(|| RemoteError::NotFound { key: key.clone() })?);
            }
            state.check(key, condition)?;
            let etag = state.insert(key, body.into(), metadata.clone(), now)?;
            state.uploads.remove(&id.0);
            Ok(etag)
        })
        .await
    }

    async fn multipart_abort(&self, _: &Key, id: &UploadId) -> Result<()> {
        self.ask(format!("abort {}", id.0), |state, _| {
            if id.0.starts_with(THEIRS) {
                state.laws.broken(format!("somebody else's upload {} was given up", id.0));
            }
            state.uploads.remove(&id.0);
            Ok(())
        })
        .await
    }
}

impl State {
    fn upload(&mut self, key: &Key, id: &UploadId) -> Result<&mut Upload> {
        let upload = self.uploads.get_mut(&id.0).filter(|upload| upload.key == key.as_str());
        upload.ok_or_else(|| RemoteError::NotFound { key: key.clone() })
    }
}

impl fmt::Display for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the cloud")
    }
}
