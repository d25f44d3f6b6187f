//! What users of the drive do.

use anyhow::{Result, ensure};
use fsd::types::Ino;
use fsd::vfs::{self, AttrChange, Caller, OpenHow, RenameHow, VfsError, WriteHow};

use super::super::gateway::{Gateway, Seen};
use super::super::laws::Version;
use super::super::model::{is_below, same};
use super::{Doing, Walk};

const CALLER: Caller = Caller { uid: 1, gid: 1, umask: 0 };
const PERM: u32 = 0o644;
/// A name that nobody has but for a moment.
const FOR_A_MOMENT: &str = "f";
const ROTATED_MAX: u64 = 5;

impl Walk {
    /// Writes a file anew, a new one or one that is there.
    pub(super) async fn write(&mut self, gateway: &Gateway, path: &str) -> Result<()> {
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

    pub(super) async fn patch(&mut self, gateway: &Gateway, path: &str) -> Result<()> {
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

    pub(super) async fn truncate(&mut self, gateway: &Gateway, path: &str) -> Result<()> {
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
        change: impl FnOnce(Ino) -> F,
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

    pub(super) fn begin(
        &mut self,
        path: &str,
        file: u64,
        allowed: Vec<(Option<Vec<u8>>, Version)>,
    ) {
        self.cloud.laws(|laws| {
            laws.dies(file);
            for (body, version) in &allowed {
                if let Some(body) = body {
                    laws.is_whole(body, *version);
                }
            }
        });
        self.doing.push(Doing { path: path.to_owned(), file, allowed });
    }

    /// What an operation came to; none if the cloud was needed for it and did not answer: then [`Walk::find_out`] tells.
    pub(super) fn ended<T>(&mut self, outcome: vfs::Result<T>) -> Result<Option<T>> {
        match outcome {
            Ok(done) => {
                self.doing.clear();
                Ok(Some(done))
            }
            Err(VfsError::Cache(error)) => {
                self.note(format!("… failed: {error}"));
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    pub(super) async fn set_perm(&mut self, gateway: &Gateway, path: &str) -> Result<()> {
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

    pub(super) async fn unlink(&mut self, gateway: &Gateway, path: &str) -> Result<()> {
        self.note(format!("unlink {path}"));
        let place = gateway.place(path).await;
        let Some((dir, name)) = self.ended(place)? else { return Ok(()) };
        // The laws hear of it first: its object may go at once.
        self.model.remove(&self.cloud, path);
        Ok(gateway.vfs.unlink(dir, name)?)
    }

    pub(super) async fn make_dir(&mut self, gateway: &Gateway, path: &str) -> Result<()> {
        self.note(format!("mkdir {path}"));
        let place = gateway.place(path).await;
        let Some((dir, name)) = self.ended(place)? else { return Ok(()) };
        gateway.vfs.make_dir(dir, name, 0o755, CALLER)?;
        self.model.dirs.insert(path.to_owned());
        Ok(())
    }

    pub(super) async fn remove_dir(&mut self, gateway: &Gateway, path: &str) -> Result<()> {
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

    pub(super) async fn rename(
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

    pub(super) async fn link(&mut self, gateway: &Gateway, path: &str, to: &str) -> Result<()> {
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

    pub(super) fn evict(&mut self, gateway: &Gateway) -> Result<()> {
        let evicted = gateway.vfs.evict_below(gateway.root)?;
        self.note(format!("evict: {evicted:?}"));
        Ok(())
    }

    pub(super) async fn read(&mut self, gateway: &Gateway, path: &str) -> Result<()> {
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

    /// Writes a file beside another and renames it over that, as programs do that save.
    pub(super) async fn save(&mut self, gateway: &Gateway, path: &str) -> Result<()> {
        if self.model.is_dir(FOR_A_MOMENT) || self.is_foreign(FOR_A_MOMENT) {
            return Ok(());
        }
        self.write(gateway, FOR_A_MOMENT).await?;
        if !self.doing.is_empty() {
            return Ok(());
        }
        self.rename(gateway, FOR_A_MOMENT, path, false).await
    }

    /// Takes a file away and makes another one of that name.
    pub(super) async fn make_again(&mut self, gateway: &Gateway, path: &str) -> Result<()> {
        self.unlink(gateway, path).await?;
        if self.model.is_free(path) { self.write(gateway, path).await } else { Ok(()) }
    }

    /// Moves each of some names to the next one's place.
    pub(super) async fn rotate(&mut self, gateway: &Gateway) -> Result<()> {
        let mut paths: Vec<String> = Vec::new();
        for _ in 0..2 + self.rng.below(ROTATED_MAX - 1) {
            let path = self.path();
            let apart = |other: &String| {
                *other != path && !is_below(other, &path) && !is_below(&path, other)
            };
            if !self.model.is_free(&path) && !self.is_foreign(&path) && paths.iter().all(apart) {
                paths.push(path);
            }
        }
        if self.is_foreign(FOR_A_MOMENT) {
            return Ok(());
        }
        let mut to = FOR_A_MOMENT.to_owned();
        for from in paths.iter().chain([&FOR_A_MOMENT.to_owned()]) {
            // One that did not come about, since the link is down, ends it.
            if !self.model.is_free(&to) {
                return Ok(());
            }
            self.rename(gateway, from, &to, false).await?;
            to.clone_from(from);
        }
        Ok(())
    }
}
