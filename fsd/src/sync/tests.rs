//! Plans against a world in memory, whose store does what it is told and whose records are kept as the worker keeps them. Nothing
//! of an uploaded file is here: its object is the only copy, so to overwrite or delete it is a loss.

use std::collections::{BTreeMap, VecDeque};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::TestCaseError;

use super::plan::{Occupant, Step, Subject, plan};
use crate::meta::{Inode, ObjectRecord};
use crate::remote::Condition;
use crate::types::{Attr, ETag, FileKind, Ino, Key, ShareId, Time};

type Check<T = ()> = Result<T, TestCaseError>;

const NAMES: [&str; 3] = ["a", "b", "c"];
/// Rounds over everything that differs after which nothing moves any more.
const ROUNDS_MAX: usize = 60;
const STEPS_MAX: usize = 64;

/// An object, and which version of which file it is.
#[derive(Clone, Debug)]
struct Held {
    etag: ETag,
    ino: Ino,
    content: u64,
}

/// What is done to names and files between two steps.
#[derive(Clone, Debug)]
enum Change {
    Write(String),
    MakeDir(String),
    Remove(String),
    Chmod(String),
    Rename(String, String),
    Exchange(String, String),
    /// The engine takes one item.
    Work(Index),
}

#[derive(Debug, Default)]
struct World {
    inodes: BTreeMap<Ino, Inode>,
    tree: BTreeMap<String, Ino>,
    items: VecDeque<Ino>,
    tombstones: BTreeMap<Key, (ETag, Ino)>,
    cloud: BTreeMap<Key, Held>,
    versions: u64,
    /// A file and a directory can't have one name, as in stores that have real directories.
    has_real_dirs: bool,
}

/// What came of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Worked {
    Done,
    Later,
}

impl World {
    fn change(&mut self, change: &Change) -> Check {
        match change {
            Change::Write(path) => self.write(path),
            Change::MakeDir(path) if self.is_free(path) => drop(self.make(path, FileKind::Dir)),
            Change::Remove(path) => self.remove(path),
            Change::Chmod(path) => {
                if let Some(&ino) = self.tree.get(path) {
                    self.inode(ino).attrs += 1;
                    self.differs(ino);
                }
            }
            Change::Rename(from, to) => self.rename(from, to),
            Change::Exchange(from, to) => self.exchange(from, to),
            Change::Work(index) if !self.items.is_empty() => {
                let at = index.index(self.items.len());
                let ino = self.items.remove(at).unwrap_or(Ino(0));
                self.items.push_front(ino);
                self.take_item()?;
            }
            Change::MakeDir(_) | Change::Work(_) => {}
        }
        Ok(())
    }

    fn write(&mut self, path: &str) {
        let ino = match self.tree.get(path) {
            Some(ino) if self.inodes[ino].attr.kind == FileKind::Dir => return,
            Some(ino) => *ino,
            None if self.is_free(path) => self.make(path, FileKind::File),
            None => return,
        };
        let inode = self.inode(ino);
        (inode.content, inode.attrs) = (inode.content + 1, inode.attrs + 1);
        self.differs(ino);
    }

    /// Whether a name can be made there.
    fn is_free(&self, path: &str) -> bool {
        !self.tree.contains_key(path)
            && path.rsplit_once('/').is_none_or(|(dir, _)| self.is_dir(dir))
    }

    fn is_dir(&self, path: &str) -> bool {
        self.tree.get(path).is_some_and(|ino| self.inodes[ino].attr.kind == FileKind::Dir)
    }

    fn has_entries(&self, path: &str) -> bool {
        self.tree.keys().any(|other| is_below(other, path))
    }

    fn make(&mut self, path: &str, kind: FileKind) -> Ino {
        self.versions += 1;
        let ino = Ino(self.versions);
        let attr = Attr::new(kind, 0o644, (0, 0), Time::default());
        let inode = Inode {
            ino,
            share: ShareId(1),
            attr,
            target: None,
            content: 1,
            attrs: 1,
            backing: 1,
            attrs_known: true,
            object: None,
        };
        self.inodes.insert(ino, inode);
        self.tree.insert(path.to_owned(), ino);
        self.differs(ino);
        ino
    }

    fn remove(&mut self, path: &str) {
        if self.has_entries(path) {
            return;
        }
        let Some(ino) = self.tree.remove(path) else { return };
        self.items.retain(|other| *other != ino);
        if let Some(ObjectRecord { key, etag: Some(etag), .. }) =
            self.inodes.remove(&ino).and_then(|inode| inode.object)
        {
            self.tombstones.insert(key, (etag, ino));
        }
    }

    fn rename(&mut self, from: &str, to: &str) {
        let Some(&ino) = self.tree.get(from) else { return };
        let is_there = self.tree.contains_key(to);
        if from == to
            || is_below(to, from)
            || is_there && (self.is_dir(to) != self.is_dir(from) || self.has_entries(to))
            || !is_there && !self.is_free(to)
        {
            return;
        }
        self.remove(to);
        self.carry(from, to);
        self.differs(ino);
    }

    fn exchange(&mut self, a: &str, b: &str) {
        let (Some(&at_a), Some(&at_b)) = (self.tree.get(a), self.tree.get(b)) else { return };
        if a == b || is_below(a, b) || is_below(b, a) {
            return;
        }
        self.carry(a, "aside");
        self.carry(b, a);
        self.carry("aside", b);
        self.differs(at_a);
        self.differs(at_b);
    }

    fn carry(&mut self, from: &str, to: &str) {
        let moved = std::mem::take(&mut self.tree).into_iter().map(|(path, ino)| {
            let moves = path == from || is_below(&path, from);
            (if moves { format!("{to}{}", &path[from.len()..]) } else { path }, ino)
        });
        self.tree = moved.collect();
    }

    fn differs(&mut self, ino: Ino) {
        if !self.items.contains(&ino) {
            self.items.push_back(ino);
        }
    }

    fn inode(&mut self, ino: Ino) -> &mut Inode {
        self.inodes.get_mut(&ino).expect("it is there")
    }

    fn path(&self, ino: Ino) -> Option<&str> {
        self.tree.iter().find(|(_, other)| **other == ino).map(|(path, _)| path.as_str())
    }

    /// As [`super::records::subject`] has it.
    fn subject(&self, ino: Ino) -> Option<Subject> {
        let inode = self.inodes.get(&ino)?.clone();
        let wanted = self.home(ino);
        let key = |inode: &Inode| inode.object.as_ref().map(|object| object.key.clone());
        let at_home = key(&inode).is_some() && key(&inode) == wanted;
        let there = wanted.as_ref();
        let occupant = there.and_then(|key| {
            self.occupant_of(key, ino).or_else(|| self.occupant_on_the_way(key, &inode))
        });
        let tombstone =
            there.and_then(|key| self.tombstones.get(key)).map(|(etag, _)| etag.clone());
        Some(Subject {
            inode,
            file: ino,
            wanted: wanted.map(Ok),
            at_home,
            writing: false,
            above: self.moved_above(ino),
            occupant,
            tombstone,
        })
    }

    fn moved_above(&self, ino: Ino) -> Option<Ino> {
        let path = self.path(ino)?;
        let mut above = path.match_indices('/').map(|(slash, _)| self.tree[&path[..slash]]);
        above.find(|dir| {
            let object = self.inodes[dir].object.as_ref();
            object.is_some_and(|object| Some(&object.key) != self.home(*dir).as_ref())
        })
    }

    fn home(&self, ino: Ino) -> Option<Key> {
        let slash = if self.inodes[&ino].attr.kind == FileKind::Dir { "/" } else { "" };
        self.path(ino).map(|path| Key::from_raw(format!("{path}{slash}")))
    }

    fn by_key(&self, key: &Key) -> Option<&Inode> {
        self.inodes.values().find(|inode| inode.object.as_ref().is_some_and(|o| o.key == *key))
    }

    fn below(&self, key: &Key) -> Option<&Inode> {
        let lies = |inode: &&Inode| {
            let object = inode.object.as_ref().filter(|object| object.etag.is_some());
            object.is_some_and(|object| object.key.is_below(key))
        };
        let key = |inode: &&Inode| inode.object.as_ref().map(|object| object.key.clone());
        self.inodes.values().filter(lies).min_by_key(key)
    }

    fn occupant_of(&self, key: &Key, ino: Ino) -> Option<Occupant> {
        let other = self.by_key(key).filter(|other| other.ino != ino)?;
        let can_go_home = self.home(other.ino).is_some_and(|home| {
            self.by_key(&home).is_none() && (home.is_dir() || self.below(&home).is_none())
        });
        Some(Occupant { can_go_home, ..stands(other)? })
    }

    fn occupant_on_the_way(&self, key: &Key, inode: &Inode) -> Option<Occupant> {
        for (slash, _) in key.as_str().match_indices('/') {
            let above = Key::from_raw(&key.as_str()[..slash]);
            if let Some(occupant) = self.by_key(&above).and_then(stands) {
                return Some(occupant);
            }
        }
        if inode.object.as_ref().is_some_and(|object| object.key.is_below(key)) {
            return stands(inode);
        }
        let below = if key.is_dir() { None } else { self.below(key) };
        below.and_then(|other| self.occupant_of(&other.object.as_ref()?.key, inode.ino))
    }

    /// As [`super::worker::Worker::work`] has it.
    fn take_item(&mut self) -> Check<Option<Worked>> {
        let Some(ino) = self.items.pop_front() else { return Ok(None) };
        let mut at = ino;
        for _ in 0..STEPS_MAX {
            let Some(subject) = self.subject(at) else { return Ok(Some(Worked::Done)) };
            let step = plan(&subject);
            match step {
                Step::Done if at == ino => return Ok(Some(Worked::Done)),
                Step::Done => at = ino,
                Step::First(other) if at == ino => at = other,
                Step::Wait | Step::Park(_) | Step::First(_) => break,
                Step::Put { .. }
                | Step::SetMetadata { .. }
                | Step::Move { .. }
                | Step::Descend
                | Step::Aside { .. } => {
                    if !self.perform(&subject, step)? {
                        break;
                    }
                    self.nothing_is_lost()?;
                    at = ino;
                }
            }
        }
        self.differs(ino);
        Ok(Some(Worked::Later))
    }

    /// False if the store can't, until something else is done.
    fn perform(&mut self, subject: &Subject, step: Step) -> Check<bool> {
        let inode = &subject.inode;
        let ino = inode.ino;
        match step {
            Step::Put { key, condition } => {
                if inode.attr.kind == FileKind::Dir && inode.object.is_none() {
                    self.children_differ(ino);
                }
                let Some(etag) = self.put(&key, ino, inode.content, &condition)? else {
                    return Ok(false);
                };
                self.tombstones.remove(&key);
                if let Some(ObjectRecord { key: old, etag: Some(etag), .. }) = &inode.object
                    && *old != key
                {
                    self.tombstones.insert(old.clone(), (etag.clone(), ino));
                }
                let (content, attrs) = (inode.content, inode.attrs);
                self.inode(ino).object =
                    Some(ObjectRecord { key, etag: Some(etag), content, attrs, digest: None });
            }
            Step::SetMetadata { key, expect } => {
                let attrs = inode.attrs;
                let content = self.cloud.get(&key).map_or(0, |held| held.content);
                let etag = self.put(&key, ino, content, &Condition::Match(expect))?;
                let object = self.inode(ino).object.as_mut();
                let object = object.ok_or(TestCaseError::fail("attributes of nothing"))?;
                (object.etag, object.attrs) = (etag, attrs);
            }
            Step::Move { from, etag, to, replacing } => {
                let condition = replacing.map_or(Condition::Absent, Condition::Match);
                return self.copy(ino, &from, &etag, &to, &condition);
            }
            Step::Aside { ino, from, etag, to } => {
                // What it was there before may still have to be deleted.
                let moved = self.copy(ino, &from, &etag, &to, &Condition::Always)?;
                self.differs(ino);
                return Ok(moved);
            }
            Step::Descend => {
                self.children_differ(ino);
                if let Some(ObjectRecord { key, etag: Some(etag), .. }) =
                    self.inode(ino).object.take()
                {
                    self.tombstones.insert(key, (etag, ino));
                }
            }
            Step::Done | Step::Wait | Step::Park(_) | Step::First(_) => {}
        }
        Ok(true)
    }

    fn copy(
        &mut self,
        ino: Ino,
        from: &Key,
        etag: &ETag,
        to: &Key,
        condition: &Condition,
    ) -> Check<bool> {
        let Some(held) = self.cloud.get(from).filter(|held| held.etag == *etag).cloned() else {
            return Err(TestCaseError::fail(format!("{from} is not there to be copied")));
        };
        prop_assert_eq!(held.ino, ino, "{} is another's", from);
        let Some(copied) = self.put(to, ino, held.content, condition)? else { return Ok(false) };
        self.tombstones.remove(to);
        self.tombstones.insert(from.clone(), (etag.clone(), ino));
        if let Some(object) = &mut self.inode(ino).object {
            (object.key, object.etag) = (to.clone(), Some(copied));
        }
        Ok(true)
    }

    /// None if something of the other kind is in the way that is still to be deleted.
    fn put(
        &mut self,
        key: &Key,
        ino: Ino,
        content: u64,
        condition: &Condition,
    ) -> Check<Option<ETag>> {
        let there = self.cloud.get(key);
        let holds = match condition {
            Condition::Always => true,
            Condition::Absent => there.is_none(),
            Condition::Match(etag) => there.is_some_and(|there| there.etag == *etag),
        };
        prop_assert!(holds, "{} is {:?}, not {:?}", key, there, condition);
        if let Some(there) = there
            && there.ino != ino
            && !self.tombstones.contains_key(key)
        {
            // A directory's marker has no content.
            let other = self.inodes.get(&there.ino);
            let is_file = other.is_some_and(|other| other.attr.kind == FileKind::File);
            prop_assert!(!is_file, "{} is another file's", key);
        }
        if self.has_real_dirs && self.cloud.keys().any(|other| !can_be_beside(key, other)) {
            return Ok(None);
        }
        self.versions += 1;
        let etag = ETag(format!("v{}", self.versions));
        self.cloud.insert(key.clone(), Held { etag: etag.clone(), ino, content });
        Ok(Some(etag))
    }

    fn children_differ(&mut self, dir: Ino) {
        let Some(path) = self.path(dir).map(str::to_owned) else { return };
        let is_child =
            |other: &str| other.rsplit_once('/').is_some_and(|(parent, _)| parent == path);
        let children: Vec<Ino> =
            self.tree.iter().filter(|(path, _)| is_child(path)).map(|(_, ino)| *ino).collect();
        children.into_iter().for_each(|ino| self.differs(ino));
    }

    /// Deletes what is to be deleted, as [`super::worker::Worker::delete`] has it.
    fn delete(&mut self) {
        for (key, (etag, _)) in self.tombstones.clone() {
            let is_wanted = self.items.iter().any(|ino| self.home(*ino).as_ref() == Some(&key));
            let is_below = key.is_dir() && self.tombstones.keys().any(|other| other.is_below(&key));
            if self.by_key(&key).is_none() {
                if is_wanted || is_below {
                    continue;
                }
                if self.cloud.get(&key).is_some_and(|held| held.etag == etag) {
                    self.cloud.remove(&key);
                }
            }
            self.tombstones.remove(&key);
        }
    }

    /// Every file that is uploaded has its version in the cloud.
    fn nothing_is_lost(&self) -> Check {
        for inode in self.inodes.values().filter(|inode| inode.attr.kind == FileKind::File) {
            let mut held = self.cloud.values();
            let is_there = held.any(|held| held.ino == inode.ino && held.content == inode.content);
            prop_assert!(is_there || !inode.is_uploaded(), "the only copy of {:?}", inode);
        }
        Ok(())
    }

    /// Works until nothing differs. Then the cloud has the tree, and nothing else.
    fn settle(&mut self) -> Check {
        for _ in 0..ROUNDS_MAX {
            for _ in 0..self.items.len() {
                self.take_item()?;
            }
            self.delete();
            self.nothing_is_lost()?;
            if self.items.is_empty() && self.tombstones.is_empty() {
                return self.is_equal();
            }
        }
        Err(TestCaseError::fail(format!("it never ends: {self:#?}")))
    }

    fn is_equal(&self) -> Check {
        let there: BTreeMap<_, _> =
            self.cloud.iter().map(|(key, held)| (key.clone(), (held.ino, held.content))).collect();
        let wanted = self
            .tree
            .values()
            .filter_map(|ino| Some((self.home(*ino)?, (*ino, self.inodes[ino].content))));
        prop_assert_eq!(there, wanted.collect::<BTreeMap<_, _>>());
        Ok(())
    }
}

fn stands(inode: &Inode) -> Option<Occupant> {
    let object = inode.object.as_ref().filter(|o| o.etag.is_some() || o.key.is_dir())?;
    Some(Occupant {
        ino: inode.ino,
        key: object.key.clone(),
        etag: object.etag.clone(),
        kind: inode.attr.kind,
        can_go_home: false,
    })
}

/// Whether a store with real directories can have both.
fn can_be_beside(key: &Key, other: &Key) -> bool {
    let bare = |key: &Key| key.as_str().trim_end_matches('/').to_owned();
    let is_one = bare(key) == bare(other) && key != other;
    let is_in_file = |key: &Key, other: &Key| key.is_below(other) && !other.is_dir();
    !is_one && !is_in_file(other, key) && !is_in_file(key, other)
}

fn is_below(path: &str, dir: &str) -> bool {
    path.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/'))
}

fn path() -> impl Strategy<Value = String> {
    vec(select(&NAMES[..]), 1..4).prop_map(|names| names.join("/"))
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => path().prop_map(Change::Write),
        3 => path().prop_map(Change::MakeDir),
        2 => path().prop_map(Change::Remove),
        1 => path().prop_map(Change::Chmod),
        6 => (path(), path()).prop_map(|(from, to)| Change::Rename(from, to)),
        3 => (path(), path()).prop_map(|(from, to)| Change::Exchange(from, to)),
        4 => any::<Index>().prop_map(Change::Work),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn whatever_is_done_to_names_the_cloud_follows_and_no_only_copy_is_lost(
        before in vec(change(), 0..25),
        after in vec(change(), 0..25),
        has_real_dirs: bool,
    ) {
        let mut world = World { has_real_dirs, ..World::default() };
        for changes in [before, after] {
            for change in &changes {
                world.change(change)?;
            }
            world.settle()?;
        }
    }

    #[test]
    fn chains_and_cycles_of_renames_end(
        order in Just((0..6).collect::<Vec<usize>>()).prop_shuffle(),
        names in Just((0..7).collect::<Vec<usize>>()).prop_shuffle(),
        count in 2_usize..7,
        dirs: bool,
    ) {
        let (kind, below) = if dirs { (FileKind::Dir, "/x") } else { (FileKind::File, "") };
        let mut world = World::default();
        for file in 0..count {
            world.make(&format!("n{file}"), kind);
            world.write(&format!("n{file}{below}"));
        }
        world.settle()?;
        // Each one goes to a name of its own, which may be another's, or nobody's.
        for file in 0..count {
            world.carry(&format!("n{file}"), &format!("to{file}"));
        }
        for file in order.into_iter().filter(|file| *file < count) {
            let to = format!("n{}", names[file]);
            world.carry(&format!("to{file}"), &to);
            let ino = world.tree[&to];
            world.differs(ino);
        }
        world.settle()?;
    }
}
