//! What a user of the drive should find: names, files, and all versions that there ever were.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use fsd::types::Ino;

use super::cloud::Cloud;
use super::gateway::{Seen, Tree};
use super::laws::Version;

#[derive(Clone, Debug)]
pub(super) struct File {
    pub(super) version: Version,
    pub(super) seen: Seen,
    /// Its content changed since everything was settled last.
    pub(super) changed: bool,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    pub(super) dirs: BTreeSet<String>,
    /// Which file a name stands for.
    pub(super) names: BTreeMap<String, u64>,
    pub(super) files: BTreeMap<u64, File>,
    next_file: u64,
    next_version: u64,
}

impl Model {
    pub(super) fn is_dir(&self, path: &str) -> bool {
        path.is_empty() || self.dirs.contains(path)
    }

    pub(super) fn is_free(&self, path: &str) -> bool {
        !self.dirs.contains(path) && !self.names.contains_key(path)
    }

    pub(super) fn file(&self, path: &str) -> Option<(u64, &File)> {
        let number = *self.names.get(path)?;
        Some((number, self.files.get(&number)?))
    }

    pub(super) fn names_of(&self, file: u64) -> usize {
        self.names.values().filter(|other| **other == file).count()
    }

    pub(super) fn is_empty(&self, dir: &str) -> bool {
        !self.names.keys().chain(&self.dirs).any(|path| is_below(path, dir))
    }

    pub(super) fn new_file(&mut self) -> u64 {
        self.next_file += 1;
        self.next_file
    }

    /// The next version of `file`: later ones have higher numbers, whatever the file.
    pub(super) fn new_version(&mut self, file: u64) -> Version {
        self.next_version += 1;
        Version { file, number: self.next_version }
    }

    /// `path` names a version of a file from now on.
    pub(super) fn put(
        &mut self,
        cloud: &Cloud,
        path: &str,
        version: Version,
        seen: Seen,
        changed: bool,
    ) {
        cloud.laws(|laws| laws.lives(version, seen.ino));
        self.names.insert(path.to_owned(), version.file);
        self.files.insert(version.file, File { version, seen, changed });
    }

    /// Takes a name away, and the file if it was the last one.
    pub(super) fn remove(&mut self, cloud: &Cloud, path: &str) {
        let Some(file) = self.names.remove(path) else { return };
        if self.names_of(file) == 0 {
            self.files.remove(&file);
            cloud.laws(|laws| laws.dies(file));
        }
    }

    /// Moves what is at and below `from`.
    pub(super) fn carry(&mut self, from: &str, to: &str) {
        let moved = |path: &str| format!("{to}{}", &path[from.len()..]);
        let goes = |path: &str| path == from || is_below(path, from);
        let names: Vec<String> = self.names.keys().filter(|path| goes(path)).cloned().collect();
        let names: Vec<_> =
            names.iter().filter_map(|path| Some((moved(path), self.names.remove(path)?))).collect();
        self.names.extend(names);
        let dirs: Vec<String> = self.dirs.iter().filter(|path| goes(path)).cloned().collect();
        let dirs: Vec<_> = dirs
            .into_iter()
            .map(|path| {
                self.dirs.remove(&path);
                moved(&path)
            })
            .collect();
        self.dirs.extend(dirs);
    }

    /// Fails if `tree` is not this.
    pub(super) fn check(&self, tree: &Tree) -> Result<()> {
        ensure!(tree.dirs == self.dirs, "directories: {:?} for {:?}", tree.dirs, self.dirs);
        let (found, expected): (Vec<_>, Vec<_>) =
            (tree.files.keys().collect(), self.names.keys().collect());
        ensure!(found == expected, "files: {found:?} for {expected:?}");
        for (path, seen) in &tree.files {
            let Some((_, file)) = self.file(path) else { continue };
            same(path, seen, &file.seen)?;
        }
        Ok(())
    }

    /// Takes over what is on the gateway, where somebody else changed something too.
    pub(super) fn adopt(&mut self, cloud: &Cloud, tree: Tree) {
        let mut numbers: BTreeMap<Ino, u64> =
            self.files.iter().map(|(number, file)| (file.seen.ino, *number)).collect();
        for file in self.files.keys() {
            cloud.laws(|laws| laws.dies(*file));
        }
        let before = std::mem::take(&mut self.files);
        (self.dirs, self.names) = (tree.dirs, BTreeMap::new());
        for (path, seen) in tree.files {
            let file = match numbers.get(&seen.ino) {
                Some(file) => *file,
                None => self.new_file(),
            };
            numbers.insert(seen.ino, file);
            let known = before.get(&file).filter(|before| before.seen.body == seen.body);
            let version = match known {
                Some(known) => known.version,
                None => self.new_version(file),
            };
            cloud.laws(|laws| laws.is_whole(&seen.body, version));
            self.put(cloud, &path, version, seen, false);
        }
    }
}

/// Fails if `found` is not `expected`.
pub(super) fn same(path: &str, found: &Seen, expected: &Seen) -> Result<()> {
    let bytes = (found.body.len(), expected.body.len());
    ensure!(found.body == expected.body, "{path} has other bytes: {} for {}", bytes.0, bytes.1);
    ensure!(
        found.size == found.body.len() as u64,
        "{path} says {} bytes, not {}",
        found.size,
        bytes.0
    );
    ensure!(found.perm == expected.perm, "{path}: mode {:o} for {:o}", found.perm, expected.perm);
    ensure!(found.ino == expected.ino, "{path} is {} and was {}", found.ino, expected.ino);
    Ok(())
}

pub(super) fn is_below(path: &str, dir: &str) -> bool {
    path.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/'))
}
