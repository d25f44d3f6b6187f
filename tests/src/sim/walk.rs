//! What users of the drive, and others in the cloud, do at random; and what must be so when everything has come to rest.

mod held;
mod others;
mod users;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use fsd::rng::Rng;

use self::held::Held;
use super::broken::Broken;
use super::cloud::{Cloud, Trouble};
use super::gateway::{Gateway, LISTING_AGE_MAX, Seen};
use super::laws::Version;
use super::model::{Model, is_below, same};
use crate::files::noise;

/// Twice the pause between two looks for uploads that are to be given up.
const GIVEN_UP_WITHIN: Duration = Duration::from_secs(1260);
const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
/// In 1,000 requests each.
const TROUBLE: Trouble = Trouble { lost_before: 25, lost_behind: 25, crash: 8, crash_of_part: 40 };
const BODY_BYTES_MAX: u64 = 120_000;
/// Of so many bytes some files are where there are large ones: they go up in several parts.
const LARGE_BYTES_MIN: u64 = 9 << 20;
const LARGE_BYTES_MORE: u64 = 12 << 20;

/// A change of a file that a crash, or a link that is down, may have left in the middle.
#[derive(Debug)]
struct Doing {
    path: String,
    file: u64,
    /// What it may be; `None`: not there.
    allowed: Vec<(Option<Vec<u8>>, Version)>,
}

/// A random walk.
#[derive(Debug)]
pub(super) struct Walk {
    rng: Rng,
    cloud: Cloud,
    pub(super) steps: u64,
    pub(super) trace: Vec<String>,
    model: Model,
    /// One, and perhaps what was held open before a crash.
    doing: Vec<Doing>,
    held: Option<Held>,
    /// What somebody else did since everything was settled last, by key.
    foreign: BTreeMap<String, Option<Vec<u8>>>,
    /// Files whose objects that hit.
    hit: BTreeSet<u64>,
    offline: bool,
    has_large: bool,
    broken: Option<(Broken, Rng)>,
}

impl Walk {
    pub(super) fn new(mut rng: Rng, cloud: Cloud, broken: Option<Broken>) -> Self {
        Self {
            has_large: rng.below(4) == 0,
            broken: broken.map(|broken| (broken, Rng::new(rng.next_u64()))),
            rng,
            cloud,
            steps: 0,
            trace: Vec::new(),
            model: Model::default(),
            doing: Vec::new(),
            held: None,
            foreign: BTreeMap::new(),
            hit: BTreeSet::new(),
            offline: false,
        }
    }

    /// A step; whatever goes wrong in it is none of the user's fault.
    pub(super) async fn step(&mut self, gateway: &Gateway) -> Result<()> {
        self.find_out(gateway).await?;
        if let Some((broken, rng)) = &mut self.broken {
            gateway.sabotage(*broken, rng)?;
        }
        self.cloud.set_trouble(TROUBLE);
        self.steps += 1;
        let (path, to) = (self.path(), self.path());
        let what = self.rng.below(115);
        let is_mine = !self.is_foreign(&path) && !self.is_foreign(&to);
        let is_held = self.is_held(&path) || self.is_held(&to);
        let is_file = self.model.names.contains_key(&path);
        match what {
            0..77 if is_mine && !is_held => self.deed(gateway, &path, &to, what).await,
            77..81 => self.evict(gateway),
            81..85 if is_file => self.read(gateway, &path).await,
            85..95 => {
                let millis = self.rng.below(if what < 93 { 2500 } else { 90_000 });
                self.note(format!("{millis} ms pass"));
                gateway.clock.sleep(Duration::from_millis(millis)).await;
                Ok(())
            }
            95..99 => {
                self.offline = !self.offline;
                self.note(format!("offline: {}", self.offline));
                self.cloud.set_online(!self.offline);
                Ok(())
            }
            99..104 => self.meddle(gateway),
            104 | 105 => self.crash().await,
            106 => self.rest(gateway).await,
            107..113 if self.held.is_some() || is_mine && is_file => {
                self.hold(gateway, &path).await
            }
            _ => Ok(()),
        }
    }

    /// What a user does, where nobody else did anything.
    async fn deed(&mut self, gateway: &Gateway, path: &str, to: &str, what: u64) -> Result<()> {
        let is_file = self.model.names.contains_key(path);
        let is_free = self.model.is_free(path);
        let is_dir = !is_file && !is_free;
        match what {
            0..25 if is_free => self.write(gateway, path).await,
            25..34 if is_free => self.make_dir(gateway, path).await,
            0..12 if is_dir => self.remove_dir(gateway, path).await,
            0..12 if is_file => self.write(gateway, path).await,
            12..22 if is_file => self.patch(gateway, path).await,
            22..28 if is_file => self.truncate(gateway, path).await,
            28..32 if is_file => self.set_perm(gateway, path).await,
            32..40 if is_file => self.unlink(gateway, path).await,
            40..64 if !is_free => self.rename(gateway, path, to, what < 48).await,
            64..68 if is_file => self.link(gateway, path, to).await,
            68..71 if is_file || is_free => self.save(gateway, path).await,
            71..74 if is_file => self.make_again(gateway, path).await,
            74..77 => self.rotate(gateway).await,
            _ => Ok(()),
        }
    }

    /// Lets everything settle, and compares.
    pub(super) async fn rest(&mut self, gateway: &Gateway) -> Result<()> {
        self.calm();
        self.find_out(gateway).await?;
        self.close_held(gateway)?;
        self.note("rest".into());
        gateway.settled().await?;
        gateway.clock.sleep(LISTING_AGE_MAX + Duration::from_secs(1)).await;
        // The first look finds out what others did, and that may be ours to put right.
        gateway.tree().await?;
        gateway.settled().await?;
        // A name that became free with one look is taken with the next.
        gateway.clock.sleep(LISTING_AGE_MAX + Duration::from_secs(1)).await;
        // Uploads that nobody will complete are given up within that time.
        gateway.clock.sleep(GIVEN_UP_WITHIN).await;
        let unfinished = self.cloud.unfinished();
        ensure!(unfinished.is_empty(), "parts of uploads are left: {unfinished:?}");
        let tree = gateway.tree().await?;
        if self.foreign.is_empty() {
            self.model.check(&tree)?;
        } else {
            self.check_in_part(&tree.files)?;
        }
        let objects = self.cloud.objects();
        // A file and a directory of one name can be in the cloud, but not on a drive.
        let is_hidden = |key: &String| {
            tree.dirs.contains(key) || tree.files.keys().any(|file| is_below(key, file))
        };
        let is_shown = |key: &String| !key.ends_with('/') && !is_hidden(key);
        let objects: BTreeMap<_, _> = objects.iter().filter(|(key, _)| is_shown(key)).collect();
        let files: BTreeMap<_, _> =
            tree.files.iter().map(|(path, seen)| (path, &seen.body)).collect();
        let keys = (objects.keys().collect::<Vec<_>>(), files.keys().collect::<Vec<_>>());
        ensure!(keys.0 == keys.1, "the cloud has {:?} for {:?}", keys.0, keys.1);
        ensure!(objects == files, "the cloud has other bytes");
        let hidden: Vec<String> =
            self.cloud.objects().into_keys().filter(|key| is_hidden(key)).collect();
        let tree = if hidden.is_empty() {
            tree
        } else {
            hidden.iter().for_each(|key| self.cloud.delete_foreign(key));
            // A listing may be under way that shows them where a name becomes free, and a directory without an object goes.
            gateway.clock.sleep(LISTING_AGE_MAX + Duration::from_secs(1)).await;
            gateway.tree().await?
        };
        if self.foreign.is_empty() {
            self.model.files.values_mut().for_each(|file| file.changed = false);
        } else {
            self.model.adopt(&self.cloud, tree);
        }
        self.foreign.clear();
        self.hit.clear();
        Ok(())
    }

    /// Where somebody else changed something too: both sides' contents are there, and all else is as it was.
    fn check_in_part(&self, found: &BTreeMap<String, Seen>) -> Result<()> {
        // What a name of the other kind hides on the drive is in the cloud.
        let objects = self.cloud.objects();
        let is_there = |body: &[u8]| {
            found.values().any(|seen| seen.body == body) || objects.values().any(|o| o == body)
        };
        for (key, body) in &self.foreign {
            let lost = body.as_ref().is_some_and(|body| !is_there(body));
            ensure!(!lost, "what somebody else put at {key} is nowhere: {:?}", found.keys());
        }
        for path in self.model.names.keys() {
            let Some((number, file)) = self.model.file(path) else { continue };
            if !self.hit.contains(&number) && !self.is_foreign(path) {
                let seen = found.get(path).with_context(|| format!("{path} is gone"))?;
                same(path, seen, &file.seen)?;
            } else if file.changed {
                ensure!(
                    is_there(&file.seen.body),
                    "what was written to {path} is nowhere: {:?}",
                    found.keys()
                );
            }
        }
        Ok(())
    }

    fn calm(&mut self) {
        self.offline = false;
        self.cloud.set_online(true);
        self.cloud.set_trouble(Trouble::default());
    }

    /// Looks which of the possible contents files have that were being changed.
    async fn find_out(&mut self, gateway: &Gateway) -> Result<()> {
        while let Some(doing) = self.doing.pop() {
            self.calm();
            self.find(gateway, doing).await?;
        }
        Ok(())
    }

    async fn find(&mut self, gateway: &Gateway, doing: Doing) -> Result<()> {
        let Doing { path, file, allowed } = doing;
        let found = gateway.find(&path).await.with_context(|| format!("look at {path}"))?;
        let body = found.as_ref().map(|seen| seen.body.as_slice());
        if found.is_none() && self.hit.contains(&file) {
            // Somebody else had replaced the only copy.
            self.model.remove(&self.cloud, &path);
            return Ok(());
        }
        let known = allowed.iter().find(|(allowed, _)| allowed.as_deref() == body);
        let Some((_, version)) = known else {
            let sizes: Vec<_> =
                allowed.iter().map(|(body, _)| body.as_ref().map(Vec::len)).collect();
            bail!("{path} was left with {:?} bytes, not one of {sizes:?}", body.map(<[u8]>::len));
        };
        self.note(format!("{path} was left with {:?} bytes", body.map(<[u8]>::len)));
        match found {
            Some(seen) => {
                let bytes = seen.body.len() as u64;
                ensure!(seen.size == bytes, "{path} says {} bytes, not {bytes}", seen.size);
                let perm = self.model.files.get(&file).map_or(seen.perm, |file| file.seen.perm);
                ensure!(seen.perm == perm, "{path} was left with mode {:o}", seen.perm);
                self.model.put(&self.cloud, &path, *version, seen, true);
            }
            None => self.model.remove(&self.cloud, &path),
        }
        Ok(())
    }

    async fn crash(&mut self) -> Result<()> {
        self.cloud.crashed.notify_one();
        std::future::pending().await
    }

    /// Whether somebody else did something at, above or below `path`, or to the file there: who goes on there would see it, or not, by
    /// chance.
    fn is_foreign(&self, path: &str) -> bool {
        let is_hit = self.model.names.get(path).is_some_and(|file| self.hit.contains(file));
        is_hit
            || self
                .foreign
                .keys()
                .any(|key| key == path || is_below(key, path) || is_below(path, key))
    }

    /// A path whose directory is there.
    fn path(&mut self) -> String {
        let mut path = String::new();
        for _ in 0..=self.rng.below(3) {
            let name = NAMES[usize::try_from(self.rng.below(NAMES.len() as u64)).unwrap_or(0)];
            path = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
            if !self.model.dirs.contains(&path) {
                break;
            }
        }
        path
    }

    /// Different each time.
    fn body(&mut self) -> Vec<u8> {
        let length = match self.rng.below(if self.has_large { 200 } else { 199 }) {
            199 => LARGE_BYTES_MIN + self.rng.below(LARGE_BYTES_MORE),
            0..25 => self.rng.below(BODY_BYTES_MAX),
            _ => self.rng.below(3000),
        };
        noise(self.rng.next_u64(), 24 + usize::try_from(length).unwrap_or(0))
    }

    fn note(&mut self, what: String) {
        tracing::info!(step = self.steps, what);
        self.cloud.note(&what);
        self.trace.push(what);
    }
}
