//! What users of the drive, and others in the cloud, do at random; and what must be so when everything has come to rest.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use fsd::rng::Rng;
use fsd::vfs::{self, AttrChange, Caller, OpenHow, RenameHow, VfsError, WriteHow};

use super::cloud::{Cloud, Trouble};
use super::gateway::{Gateway, LISTING_AGE_MAX, Seen};
use super::laws::Version;
use super::model::{Model, is_below, same};
use crate::files::noise;

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
const CALLER: Caller = Caller { uid: 1, gid: 1, umask: 0 };
const PERM: u32 = 0o644;
/// In 1,000 requests each.
const TROUBLE: Trouble = Trouble { lost_before: 25, lost_behind: 25, crash: 8 };
const BODY_BYTES_MAX: u64 = 120_000;

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
    doing: Option<Doing>,
    /// What somebody else did since everything was settled last, by key.
    foreign: BTreeMap<String, Option<Vec<u8>>>,
    /// Files whose objects that hit.
    hit: BTreeSet<u64>,
    offline: bool,
}

impl Walk {
    pub(super) fn new(rng: Rng, cloud: Cloud) -> Self {
        Self {
            rng,
            cloud,
            steps: 0,
            trace: Vec::new(),
            model: Model::default(),
            doing: None,
            foreign: BTreeMap::new(),
            hit: BTreeSet::new(),
            offline: false,
        }
    }

    /// A step; whatever goes wrong in it is none of the user's fault.
    pub(super) async fn step(&mut self, gateway: &Gateway) -> Result<()> {
        if self.doing.is_some() {
            self.find_out(gateway).await?;
        }
        self.cloud.set_trouble(TROUBLE);
        self.steps += 1;
        let (path, to) = (self.path(), self.path());
        let what = self.rng.below(100);
        let is_file = self.model.names.contains_key(&path);
        let is_mine = !self.is_foreign(&path) && !self.is_foreign(&to);
        match what {
            0..25 if is_mine && self.model.is_free(&path) => self.write(gateway, &path).await,
            0..12 if is_mine && is_file => self.write(gateway, &path).await,
            12..22 if is_mine && is_file => self.patch(gateway, &path).await,
            22..28 if is_mine && is_file => self.truncate(gateway, &path).await,
            28..32 if is_mine && is_file => self.set_perm(gateway, &path).await,
            32..40 if is_mine && is_file => self.unlink(gateway, &path).await,
            25..34 if is_mine && self.model.is_free(&path) => self.make_dir(gateway, &path).await,
            0..12 if is_mine && self.model.dirs.contains(&path) => {
                self.remove_dir(gateway, &path).await
            }
            40..64 if is_mine && !self.model.is_free(&path) => {
                self.rename(gateway, &path, &to, what < 48).await
            }
            64..68 if is_mine && is_file => self.link(gateway, &path, &to).await,
            68..72 => self.evict(gateway),
            72..76 if is_file => self.read(gateway, &path).await,
            76..86 => {
                let millis = self.rng.below(if what < 84 { 2500 } else { 90_000 });
                self.note(format!("{millis} ms pass"));
                gateway.clock.sleep(Duration::from_millis(millis)).await;
                Ok(())
            }
            86..90 => {
                self.offline = !self.offline;
                self.note(format!("offline: {}", self.offline));
                self.cloud.set_online(!self.offline);
                Ok(())
            }
            90..95 => self.meddle(gateway),
            95 | 96 => self.crash().await,
            97 => self.rest(gateway).await,
            _ => Ok(()),
        }
    }

    /// Lets everything settle, and compares.
    pub(super) async fn rest(&mut self, gateway: &Gateway) -> Result<()> {
        self.calm();
        if self.doing.is_some() {
            self.find_out(gateway).await?;
        }
        self.note("rest".into());
        gateway.settled().await?;
        gateway.clock.sleep(LISTING_AGE_MAX + Duration::from_secs(1)).await;
        // The first look finds out what others did, and that may be ours to put right.
        gateway.tree().await?;
        gateway.settled().await?;
        // A name that became free with one look is taken with the next.
        gateway.clock.sleep(LISTING_AGE_MAX + Duration::from_secs(1)).await;
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
        self.cloud
            .objects()
            .keys()
            .filter(|key| is_hidden(key))
            .for_each(|key| self.cloud.delete_foreign(key));
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

    /// Looks which of the possible contents a file has that was being changed.
    async fn find_out(&mut self, gateway: &Gateway) -> Result<()> {
        self.calm();
        let Some(Doing { path, file, allowed }) = self.doing.take() else { return Ok(()) };
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

    /// Writes a file anew, a new one or one that is there.
    async fn write(&mut self, gateway: &Gateway, path: &str) -> Result<()> {
        let body = self.body();
        self.note(format!("write {path}: {} bytes", body.len()));
        let known = self.model.file(path).map(|(number, file)| (number, file.clone()));
        let file = known.as_ref().map_or_else(|| self.model.new_file(), |(number, _)| *number);
        let (emptied, version) = (self.model.new_version(file), self.model.new_version(file));
        let before = match &known {
            Some((_, file)) => (Some(file.seen.body.clone()), file.version),
            None => (None, emptied),
        };
        self.begin(
            path,
            file,
            vec![before, (Some(Vec::new()), emptied), (Some(body.clone()), version)],
        );
        let written = async {
            let (dir, name) = gateway.place(path).await?;
            let how = OpenHow { write: true, truncate: true, ..OpenHow::default() };
            let (ino, id) = match &known {
                Some((_, file)) => (file.seen.ino, gateway.vfs.open(file.seen.ino, how).await?),
                None => {
                    let how = OpenHow { write: true, ..OpenHow::default() };
                    let (ino, _, id) = gateway.vfs.create(dir, name, PERM, CALLER, how)?;
                    (ino, id)
                }
            };
            let written = gateway.vfs.write(id, 0, &body, WriteHow::default()).await;
            gateway.vfs.release(id)?;
            written?;
            Ok(ino)
        };
        let Some(ino) = self.ended(written.await)? else { return Ok(()) };
        let perm = known.map_or(PERM, |(_, file)| file.seen.perm);
        self.model.put(
            &self.cloud,
            path,
            version,
            Seen { ino, size: body.len() as u64, perm, body },
            true,
        );
        Ok(())
    }

    async fn patch(&mut self, gateway: &Gateway, path: &str) -> Result<()> {
        let Some((_, file)) = self.model.file(path) else { return Ok(()) };
        let mut body = file.seen.body.clone();
        let at = usize::try_from(self.rng.below(body.len() as u64 + 100))?;
        let data = self.body();
        body.resize(body.len().max(at + data.len()), 0);
        body[at..at + data.len()].copy_from_slice(&data);
        self.note(format!("patch {path} at {at}: {} bytes", data.len()));
        self.change(path, body, |ino| async move {
            let how = OpenHow { write: true, ..OpenHow::default() };
            let id = gateway.vfs.open(ino, how).await?;
            let written = gateway.vfs.write(id, at as u64, &data, WriteHow::default()).await;
            gateway.vfs.release(id)?;
            written.map(drop)
        })
        .await
    }

    async fn truncate(&mut self, gateway: &Gateway, path: &str) -> Result<()> {
        let Some((_, file)) = self.model.file(path) else { return Ok(()) };
        let mut body = file.seen.body.clone();
        let size = self.rng.below(body.len() as u64 * 3 / 2 + 10);
        body.resize(usize::try_from(size)?, 0);
        self.note(format!("truncate {path} to {size}"));
        self.change(path, body, |ino| async move {
            let change = AttrChange { size: Some(size), ..AttrChange::default() };
            gateway.vfs.set_attr(ino, change).await.map(drop)
        })
        .await
    }

    /// Makes `body` of a file by `change`.
    async fn change<F: Future<Output = vfs::Result<()>>>(
        &mut self,
        path: &str,
        body: Vec<u8>,
        change: impl FnOnce(fsd::types::Ino) -> F,
    ) -> Result<()> {
        let Some((number, file)) = self.model.file(path).map(|(n, file)| (n, file.clone())) else {
            return Ok(());
        };
        if file.seen.body == body {
            return Ok(());
        }
        let version = self.model.new_version(number);
        let before = (Some(file.seen.body.clone()), file.version);
        self.begin(path, number, vec![before, (Some(body.clone()), version)]);
        if self.ended(change(file.seen.ino).await)?.is_some() {
            self.model.put(
                &self.cloud,
                path,
                version,
                Seen { size: body.len() as u64, body, ..file.seen },
                true,
            );
        }
        Ok(())
    }

    fn begin(&mut self, path: &str, file: u64, allowed: Vec<(Option<Vec<u8>>, Version)>) {
        self.cloud.laws(|laws| {
            laws.dies(file);
            for (body, version) in &allowed {
                if let Some(body) = body {
                    laws.is_whole(body, *version);
                }
            }
        });
        self.doing = Some(Doing { path: path.to_owned(), file, allowed });
    }

    /// What an operation came to; none if the cloud was needed for it and did not answer: then [`Walk::find_out`] tells.
    fn ended<T>(&mut self, outcome: vfs::Result<T>) -> Result<Option<T>> {
        match outcome {
            Ok(done) => {
                self.doing = None;
                Ok(Some(done))
            }
            Err(VfsError::Cache(error)) => {
                self.note(format!("… failed: {error}"));
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn set_perm(&mut self, gateway: &Gateway, path: &str) -> Result<()> {
        let perm = 0o600 | u32::try_from(self.rng.below(0o100))?;
        self.note(format!("chmod {perm:o} {path}"));
        let Some((number, file)) = self.model.file(path) else { return Ok(()) };
        let change = AttrChange { perm: Some(perm), ..AttrChange::default() };
        let set = gateway.vfs.set_attr(file.seen.ino, change).await;
        if self.ended(set)?.is_some()
            && let Some(file) = self.model.files.get_mut(&number)
        {
            file.seen.perm = perm;
        }
        Ok(())
    }

    async fn unlink(&mut self, gateway: &Gateway, path: &str) -> Result<()> {
        self.note(format!("unlink {path}"));
        let place = gateway.place(path).await;
        let Some((dir, name)) = self.ended(place)? else { return Ok(()) };
        // The laws hear of it first: its object may go at once.
        self.model.remove(&self.cloud, path);
        Ok(gateway.vfs.unlink(dir, name)?)
    }

    async fn make_dir(&mut self, gateway: &Gateway, path: &str) -> Result<()> {
        self.note(format!("mkdir {path}"));
        let place = gateway.place(path).await;
        let Some((dir, name)) = self.ended(place)? else { return Ok(()) };
        gateway.vfs.make_dir(dir, name, 0o755, CALLER)?;
        self.model.dirs.insert(path.to_owned());
        Ok(())
    }

    async fn remove_dir(&mut self, gateway: &Gateway, path: &str) -> Result<()> {
        let is_empty = self.model.is_empty(path);
        let mut below = self.model.names.keys().filter(|name| is_below(name, path));
        if self.is_foreign(path) || below.any(|name| self.is_foreign(name)) {
            return Ok(());
        }
        self.note(format!("rmdir {path}: {is_empty}"));
        let removed = async {
            let (dir, name) = gateway.place(path).await?;
            match gateway.vfs.remove_dir(dir, name).await {
                Err(VfsError::NotEmpty) => Ok(false),
                removed => removed.map(|()| true),
            }
        };
        let Some(removed) = self.ended(removed.await)? else { return Ok(()) };
        ensure!(removed == is_empty, "rmdir {path}: {removed}");
        if removed {
            self.model.dirs.remove(path);
        }
        Ok(())
    }

    async fn rename(
        &mut self,
        gateway: &Gateway,
        from: &str,
        to: &str,
        exchange: bool,
    ) -> Result<()> {
        let (free, from_dir) = (self.model.is_free(to), self.model.is_dir(from));
        let inside = is_below(to, from) || exchange && is_below(from, to);
        let replaced = self.model.file(to).map(|(_, file)| file.clone()).filter(|_| !exchange);
        let number = |path: &str| self.model.names.get(path);
        let one = from == to || number(from).is_some() && number(from) == number(to);
        let fits = match (free, self.model.is_dir(to)) {
            (true, _) => !exchange,
            (false, _) if exchange => true,
            (false, true) => from_dir && self.model.is_empty(to),
            (false, false) => !from_dir,
        };
        if inside || one || !fits {
            return Ok(());
        }
        self.note(format!("{} {from} {to}", if exchange { "exchange" } else { "rename" }));
        let how = if exchange { RenameHow::Exchange } else { RenameHow::Replace };
        if let Some(file) = &replaced {
            self.cloud.laws(|laws| laws.dies(file.version.file));
        }
        let renamed = async {
            let (from, to) = (gateway.place(from).await?, gateway.place(to).await?);
            gateway.vfs.rename(from, to, how).await
        };
        let done = self.ended(renamed.await)?.is_some();
        if done && exchange {
            self.model.carry(from, "aside");
            self.model.carry(to, from);
            self.model.carry("aside", to);
        } else if done {
            self.model.remove(&self.cloud, to);
            self.model.dirs.remove(to);
            self.model.carry(from, to);
        }
        if let Some(file) =
            replaced.filter(|file| self.model.files.contains_key(&file.version.file))
        {
            self.cloud.laws(|laws| laws.lives(file.version, file.seen.ino));
        }
        Ok(())
    }

    async fn link(&mut self, gateway: &Gateway, path: &str, to: &str) -> Result<()> {
        let Some((number, file)) = self.model.file(path) else { return Ok(()) };
        if !self.model.is_free(to) {
            return Ok(());
        }
        let ino = file.seen.ino;
        self.note(format!("link {path} {to}"));
        let place = gateway.place(to).await;
        let Some((dir, name)) = self.ended(place)? else { return Ok(()) };
        gateway.vfs.link(ino, dir, name)?;
        self.model.names.insert(to.to_owned(), number);
        Ok(())
    }

    fn evict(&mut self, gateway: &Gateway) -> Result<()> {
        let evicted = gateway.vfs.evict_below(gateway.root)?;
        self.note(format!("evict: {evicted:?}"));
        Ok(())
    }

    async fn read(&mut self, gateway: &Gateway, path: &str) -> Result<()> {
        let Some((number, file)) = self.model.file(path).map(|(n, file)| (n, file.clone())) else {
            return Ok(());
        };
        self.note(format!("read {path}"));
        let others = self.hit.contains(&number) || self.is_foreign(path);
        let seen = match gateway.seen(file.seen.ino).await {
            Err(VfsError::NoEntry) if others => return Ok(()),
            seen => seen,
        };
        let Some(seen) = self.ended(seen)? else { return Ok(()) };
        if others { Ok(()) } else { same(path, &seen, &file.seen) }
    }

    /// Somebody else puts, changes or deletes an object.
    fn meddle(&mut self, gateway: &Gateway) -> Result<()> {
        let objects = self.cloud.objects();
        let keys: Vec<&String> =
            objects.keys().filter(|key| !key.ends_with('/') && !key.starts_with(".fsd/")).collect();
        let picked = keys.get(usize::try_from(self.rng.below(keys.len() as u64 * 2 + 1))?);
        let key = match picked {
            Some(key) => (*key).clone(),
            None => NAMES[usize::try_from(self.rng.below(NAMES.len() as u64))?].to_owned(),
        };
        if self.model.is_dir(&key) {
            return Ok(());
        }
        // Of a file with several names it would make several files.
        let version =
            objects.get(&key).and_then(|body| self.cloud.laws(|laws| laws.version_of(body)));
        if version.is_some_and(|version| self.model.names_of(version.file) > 1)
            || self.model.file(&key).is_some_and(|(number, _)| self.model.names_of(number) > 1)
        {
            return Ok(());
        }
        if let Some(version) = version {
            self.hit.insert(version.file);
            self.cloud.laws(|laws| laws.dies(version.file));
            if let Some(file) = self.model.files.get_mut(&version.file) {
                // What was uploaded may be replaced.
                file.changed &= file.version != version;
            }
        }
        if picked.is_some() && self.rng.below(4) == 0 {
            self.note(format!("somebody else deletes {key}"));
            self.cloud.delete_foreign(&key);
            self.foreign.insert(key, None);
            return Ok(());
        }
        let body = self.body();
        let file = self.model.new_file();
        let version = self.model.new_version(file);
        self.note(format!("somebody else puts {key}: {} bytes", body.len()));
        self.cloud.laws(|laws| laws.is_whole(&body, version));
        self.cloud.put_foreign(&key, body.clone(), gateway.clock.wall());
        self.foreign.insert(key, Some(body));
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
        let length = match self.rng.below(8) {
            0 => self.rng.below(BODY_BYTES_MAX),
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
