//! Whatever is done, in any order, with crashes and outages in between: the mount is what the model is, and so is the store.

use std::collections::BTreeMap;
use std::fs::{File, Permissions};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use fsd::rng::Rng;
use fsd_tests::drive::Drive;
use fsd_tests::files::{noise, same, tree};
use fsd_tests::proxy::{Network, Proxy};
use fsd_tests::store::{Store, on_each_store};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

const STEPS: u64 = 400;
const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
/// Set to a number to try another sequence.
const SEED: &str = "FSD_TEST_SEED";

#[derive(Clone, Debug, PartialEq)]
enum Node {
    Dir,
    /// Names with the same number are names of one file.
    File {
        body: Vec<u8>,
        perm: u32,
        mtime: Option<SystemTime>,
        number: u64,
    },
}

impl Node {
    fn number(&self) -> Option<u64> {
        match self {
            Self::Dir => None,
            Self::File { number, .. } => Some(*number),
        }
    }
}

/// What should be on the mount, by path.
#[derive(Clone, Debug, Default)]
struct Model(BTreeMap<String, Node>);

impl Model {
    fn is_dir(&self, path: &str) -> bool {
        path.is_empty() || self.0.get(path) == Some(&Node::Dir)
    }

    fn children(&self, dir: &str) -> Vec<String> {
        let prefix = format!("{dir}/");
        self.0.keys().filter(|path| path.starts_with(&prefix)).cloned().collect()
    }

    /// Moves what is at and below `from`.
    fn carry(&mut self, from: &str, to: &str) {
        let mut moving = self.children(from);
        moving.push(from.to_owned());
        let moved: Vec<_> = moving
            .into_iter()
            .filter_map(|path| {
                Some((format!("{to}{}", &path[from.len()..]), self.0.remove(&path)?))
            })
            .collect();
        self.0.extend(moved);
    }

    /// Changes the file that `path` names, under all its names.
    fn put(&mut self, path: &str, file: Node) {
        let number = file.number();
        for node in self.0.values_mut().filter(|node| node.number() == number) {
            *node = file.clone();
        }
        self.0.insert(path.to_owned(), file);
    }

    /// How many names the file of `node` has.
    fn names(&self, node: &Node) -> usize {
        self.0.values().filter(|other| other.number() == node.number()).count()
    }

    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let file = |(path, node): (&String, &Node)| match node {
            Node::Dir => None,
            Node::File { body, .. } => Some((path.clone(), body.clone())),
        };
        self.0.iter().filter_map(file).collect()
    }

    fn dirs(&self) -> Vec<String> {
        let dirs = self.0.iter().filter(|(_, node)| **node == Node::Dir);
        dirs.map(|(path, _)| format!("{path}/")).collect()
    }

    fn check(&self, mount: &Path) -> Result<()> {
        same("the mount", &tree(mount)?, &self.files())?;
        let mut inodes = BTreeMap::new();
        for (path, node) in &self.0 {
            let found = mount.join(path).metadata().with_context(|| path.clone())?;
            match node {
                Node::Dir => ensure!(found.is_dir(), "{path} is no directory"),
                Node::File { perm, mtime, body, number } => {
                    ensure!(found.nlink() == self.names(node) as u64, "{path}: {found:?}");
                    let ino = *inodes.entry(number).or_insert(found.ino());
                    ensure!(found.ino() == ino, "{path} is another file: {found:?}");
                    ensure!(found.permissions().mode() & 0o7777 == *perm, "{path}: {found:?}");
                    ensure!(found.len() == body.len() as u64, "{path}: {found:?}");
                    let mtime = mtime.unwrap_or(found.modified()?);
                    ensure!(found.modified()? == mtime, "{path}: {found:?} for {mtime:?}");
                }
            }
        }
        Ok(())
    }
}

/// A random walk: the same seed, the same steps.
struct Walk<'a> {
    rng: Rng,
    model: Model,
    drive: Drive,
    store: &'a Store,
    /// None: the store is on no network.
    proxy: Option<Proxy>,
    down: bool,
}

impl Walk<'_> {
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.rng.below(end as u64)).unwrap_or(0)
    }

    /// A path whose directory is there, most often.
    fn path(&mut self) -> String {
        let depth = self.below(3);
        let mut path = String::new();
        for level in 0..=depth {
            let name = NAMES[self.below(NAMES.len())];
            let slash = if level == 0 { "" } else { "/" };
            path = format!("{path}{slash}{name}");
            if !self.model.is_dir(&path) {
                break;
            }
        }
        path
    }

    fn body(&mut self) -> Vec<u8> {
        let size = 1 << self.below(18);
        noise(self.rng.next_u64(), self.below(size))
    }

    fn step(&mut self) -> Result<String> {
        let (path, to) = (self.path(), self.path());
        let there = self.drive.path(&path);
        let node = self.model.0.get(&path).cloned();
        let what = self.below(100);
        match (what, node) {
            (0..30, None) | (0..12, Some(Node::File { .. })) => {
                let body = self.body();
                std::fs::write(&there, &body)?;
                let perm = there.metadata()?.permissions().mode() & 0o7777;
                let known = self.model.0.get(&path).and_then(Node::number);
                let number = known.unwrap_or_else(|| self.rng.next_u64());
                self.model.put(&path, Node::File { body, perm, mtime: None, number });
                Ok(format!("write {path}"))
            }
            (12..20, Some(Node::File { mut body, perm, number, .. })) => {
                let (data, at) = (self.body(), self.below(body.len() + 5000));
                File::options().write(true).open(&there)?.write_all_at(&data, at as u64)?;
                let mtime = None;
                if !data.is_empty() {
                    body.resize(body.len().max(at + data.len()), 0);
                    body[at..at + data.len()].copy_from_slice(&data);
                }
                self.model.put(&path, Node::File { body, perm, mtime, number });
                Ok(format!("patch {path} at {at}: {}", data.len()))
            }
            (20..27, Some(Node::File { mut body, perm, number, .. })) => {
                let size = self.below(body.len() * 2 + 10);
                File::options().write(true).open(&there)?.set_len(size as u64)?;
                body.resize(size, 0);
                self.model.put(&path, Node::File { body, perm, mtime: None, number });
                Ok(format!("truncate {path} to {size}"))
            }
            (27..33, Some(Node::File { body, number, .. })) => {
                let perm = 0o600 | u32::try_from(self.below(0o100))?;
                let nanos = u32::try_from(self.below(1_000_000_000))?;
                let secs = self.rng.below(3_000_000_000);
                let mtime = SystemTime::UNIX_EPOCH + Duration::new(secs, nanos);
                std::fs::set_permissions(&there, Permissions::from_mode(perm))?;
                File::options().write(true).open(&there)?.set_modified(mtime)?;
                let mtime = Some(mtime);
                self.model.put(&path, Node::File { body, perm, mtime, number });
                Ok(format!("attributes {path}"))
            }
            (33..45, Some(Node::File { .. })) => {
                std::fs::remove_file(&there)?;
                self.model.0.remove(&path);
                Ok(format!("unlink {path}"))
            }
            (30..45, None) => {
                std::fs::create_dir(&there)?;
                self.model.0.insert(path.clone(), Node::Dir);
                Ok(format!("mkdir {path}"))
            }
            (0..10, Some(Node::Dir)) => {
                let is_empty = self.model.children(&path).is_empty();
                ensure!(std::fs::remove_dir(&there).is_ok() == is_empty, "rmdir {path}");
                if is_empty {
                    self.model.0.remove(&path);
                }
                Ok(format!("rmdir {path}: {is_empty}"))
            }
            (45..85, Some(_)) => self.rename(&path, &to, what < 55),
            (85..93, Some(file @ Node::File { .. })) => {
                let possible = !self.model.0.contains_key(&to);
                let done = std::fs::hard_link(there, self.drive.path(&to));
                ensure!(done.is_ok() == possible, "link {path} {to}: {done:?}");
                if possible {
                    self.model.0.insert(to.clone(), file);
                }
                Ok(format!("link {path} {to}: {possible}"))
            }
            (97.., _) => self.disturb(),
            (_, _) => Ok(String::new()),
        }
    }

    fn rename(&mut self, from: &str, to: &str, exchange: bool) -> Result<String> {
        let (here, there) = (self.drive.path(from), self.drive.path(to));
        let inside = |outer: &str, inner: &str| inner.starts_with(&format!("{outer}/"));
        let replaced = self.model.0.get(to).cloned();
        let (from_dir, to_dir) = (self.model.is_dir(from), self.model.is_dir(to));
        if exchange {
            let flags = RenameFlags::RENAME_EXCHANGE;
            let done = renameat2(AT_FDCWD, &here, AT_FDCWD, &there, flags);
            let possible = replaced.is_some() && !inside(from, to) && !inside(to, from);
            ensure!(done.is_ok() == possible, "exchange {from} {to}: {done:?}");
            if possible && from != to {
                self.model.carry(from, "aside");
                self.model.carry(to, from);
                self.model.carry("aside", to);
            }
            return Ok(format!("exchange {from} {to}: {possible}"));
        }
        let done = std::fs::rename(here, there);
        let fits = match replaced {
            None => true,
            Some(_) if from == to => true,
            Some(Node::Dir) => from_dir && self.model.children(to).is_empty(),
            Some(Node::File { .. }) => !from_dir && !to_dir,
        };
        let possible = fits && !inside(from, to);
        ensure!(done.is_ok() == possible, "rename {from} {to}: {done:?}");
        let number = |path: &str| self.model.0.get(path).and_then(Node::number);
        let one_file = number(from).is_some() && number(from) == number(to);
        if possible && from != to && !one_file {
            self.model.0.remove(to);
            self.model.carry(from, to);
        }
        Ok(format!("rename {from} {to}: {possible}"))
    }

    fn disturb(&mut self) -> Result<String> {
        match self.below(5) {
            0 | 1 if !self.down => {
                self.drive.crash()?;
                Ok("crash".to_owned())
            }
            2 if !self.down => {
                self.drive.wait()?;
                self.compare()?;
                Ok("wait".to_owned())
            }
            3 => {
                self.model.check(&self.drive.mount())?;
                Ok("look".to_owned())
            }
            _ => {
                let Some(proxy) = &self.proxy else { return Ok(String::new()) };
                // What a crash has made cold is read again before nobody can fetch it.
                self.model.check(&self.drive.mount())?;
                self.down = !self.down;
                proxy.set(if self.down { Network::Refusing } else { Network::Up });
                Ok(format!("down: {}", self.down))
            }
        }
    }

    fn compare(&self) -> Result<()> {
        same("the store", &self.store.files()?, &self.model.files())?;
        let mut dirs: Vec<String> =
            self.store.keys()?.into_iter().filter(|key| key.ends_with('/')).collect();
        dirs.sort();
        let mut expected = self.model.dirs();
        expected.sort();
        if self.store.folder().is_some() {
            // There, directories that came with the files in them stay when those are gone.
            dirs.retain(|dir| expected.contains(dir));
        }
        ensure!(dirs == expected, "directories: {dirs:?} for {expected:?}");
        Ok(())
    }
}

#[test]
fn mount_and_store_agree_with_a_model_whatever_happens() -> Result<()> {
    let seed: u64 = match std::env::var(SEED) {
        Ok(seed) => seed.parse()?,
        Err(_) => 1,
    };
    let walk = |store: &Store| {
        let (proxy, drive) = match store.folder() {
            Some(_) => (None, Drive::over(store)?),
            None => {
                let (proxy, variables) = store.behind_a_proxy()?;
                (Some(proxy), Drive::over(store)?.with_variables(variables))
            }
        };
        let mut drive = drive.started()?;
        // Where nothing was ever listed, nothing can be said while the store is away; and a crash may lose a fresh listing.
        ensure!(drive.mount().read_dir()?.count() == 0, "the store is empty");
        drive.restart()?;
        let (rng, model) = (Rng::new(seed), Model::default());
        let mut walk = Walk { rng, model, drive, store, proxy, down: false };
        let mut steps = Vec::new();
        for number in 0..STEPS {
            let stepped = walk.step().with_context(|| {
                format!("{SEED}={seed}, step {number} after {steps:#?}\n{}", walk.drive.log())
            })?;
            steps.push(stepped);
            if steps.len() > 40 {
                steps.remove(0);
            }
        }
        if let Some(proxy) = &walk.proxy {
            proxy.set(Network::Up);
        }
        let end = || -> Result<()> {
            walk.drive.wait()?;
            walk.model.check(&walk.drive.mount())?;
            walk.compare()?;
            walk.model.check(&Drive::mounted(store)?.mount()).context("a fresh mount")
        };
        end().with_context(|| format!("{SEED}={seed}, at the end\n{}", walk.drive.log()))
    };
    on_each_store(walk)
}
