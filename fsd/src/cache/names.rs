//! Names that are not here yet: directories are listed when first asked for, a single name costs a probe, attributes a head request.
//!
//! A listing is old when it arrives: meanwhile we may have uploaded, deleted or renamed. So a listing only ever adds names;
//! what it would change or take away is asked for by name first, and taken over only if our record is still the one that was doubted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use futures::StreamExt as _;
use futures::stream;

use super::{Cache, Result, Store, lock};
use crate::meta::{Inode, NewInode, ObjectRecord, Tx};
use crate::remote::{Object, RemoteError};
use crate::types::{
    Attr, FileKind, Ino, Key, PosixMeta, ShareId, Time, name_of_segment, segment_of_name,
};

const HEADS_AT_ONCE: usize = 32;
/// Below the root of a share: objects that stand aside while others move.
const RESERVED: &str = ".fsd";

/// Attributes of what carries none.
#[derive(Clone, Copy, Debug)]
pub struct Defaults {
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits of files.
    pub file_perm: u32,
    /// Permission bits of directories.
    pub dir_perm: u32,
}

/// What a look at the cloud changed here; the kernel must be told.
#[derive(Clone, Debug, Default)]
pub struct Merged {
    /// Inodes with new content or attributes, and directories with new names.
    pub inodes: Vec<Ino>,
    /// Names that went. Those that came are none of them: the kernel keeps no absence, and one that is in use by the time it
    /// is told to forget the name loses its working directory.
    pub names: Vec<(Ino, Vec<u8>)>,
}

/// One look at a directory at a time.
#[derive(Debug, Default)]
pub(super) struct Listings {
    looking: Mutex<BTreeMap<Ino, Arc<tokio::sync::Mutex<()>>>>,
    probes: Mutex<BTreeMap<Ino, u32>>,
    gone: Arc<Mutex<Gone>>,
    ended: AtomicU64,
}

/// Objects that we deleted while somebody looks at the cloud: what the look shows of them is older.
#[derive(Debug, Default)]
struct Gone {
    looks: usize,
    keys: BTreeSet<(ShareId, Key)>,
}

impl Gone {
    /// Whether `key` is gone; if it is a directory's, whether anything below it is.
    fn has(&self, share: ShareId, key: &Key) -> bool {
        let found = self.keys.range((share, key.clone())..).next();
        found.is_some_and(|(gone_share, gone)| {
            *gone_share == share
                && (gone == key || key.is_dir() && gone.as_str().starts_with(key.as_str()))
        })
    }
}

/// A look at the cloud, until it is dropped.
struct Look(Arc<Mutex<Gone>>);

impl Look {
    fn begin(gone: &Arc<Mutex<Gone>>) -> Self {
        lock(gone).looks += 1;
        Self(gone.clone())
    }
}

impl Drop for Look {
    fn drop(&mut self) {
        let mut gone = lock(&self.0);
        gone.looks -= 1;
        if gone.looks == 0 {
            gone.keys.clear();
        }
    }
}

/// An inode whose object is not, or not any more, what its record says.
#[derive(Debug)]
struct Doubt {
    ino: Ino,
    object: ObjectRecord,
}

/// What the cloud says of a doubt.
#[derive(Debug)]
struct Answer {
    doubt: Doubt,
    object: Option<Object>,
    defaults: Defaults,
}

impl Cache {
    /// Whether all names of `dir` are known here: it was listed at or after `since`, or made here, or nothing of it is in the cloud.
    #[must_use]
    pub fn is_listed(&self, dir: &Inode, since: i64) -> bool {
        let listed = || self.index.listed(dir.ino).or(dir.is_made_here().then_some(0));
        dir.object.is_none() || listed().is_some_and(|at| at >= since)
    }

    /// How many listings came to an end: who saw another number before it did not find a name may find it now.
    #[must_use]
    pub fn listings_ended(&self) -> u64 {
        self.names.ended.load(Ordering::Acquire)
    }

    /// Says that the object `key` was deleted, before that is recorded: a look that is under way may still show it.
    pub fn deleted(&self, share: ShareId, key: &Key) {
        let mut gone = lock(&self.names.gone);
        if gone.looks > 0 {
            gone.keys.insert((share, key.clone()));
        }
    }

    /// Lists `dir` unless that was done at or after `since`; one that was listed before stays as it is if the cloud does not answer.
    ///
    /// # Errors
    /// If the cloud does not answer and `dir` was never listed.
    pub async fn list(&self, dir: &Inode, since: i64) -> Result<Merged> {
        let (Some(store), Some(object)) = (self.stores.get(&dir.share), &dir.object) else {
            return Ok(Merged::default());
        };
        let turn = lock(&self.names.looking).entry(dir.ino).or_default().clone();
        let _turn = turn.lock().await;
        if self.is_listed(dir, since) {
            return Ok(Merged::default());
        }
        let began = self.clock.wall().secs;
        let listed = self.list_now(store, dir, &object.key).await;
        lock(&self.names.looking).remove(&dir.ino);
        match listed {
            Ok(merged) => {
                self.index.set_listed(dir.ino, Some(began));
                self.names.ended.fetch_add(1, Ordering::Release);
                lock(&self.names.probes).remove(&dir.ino);
                Ok(merged)
            }
            Err(error) if self.is_listed(dir, 0) => {
                tracing::debug!(dir = %dir.ino, error = &error as &dyn std::error::Error, "the old listing stays");
                Ok(Merged::default())
            }
            Err(error) => Err(error),
        }
    }

    /// Whether so many names of `dir` were probed for that it is worth a listing: the second time, the fourth, the eighth, since one
    /// may have failed.
    pub fn is_worth_listing(&self, dir: Ino) -> bool {
        let mut probes = lock(&self.names.probes);
        let count = probes.entry(dir).or_default();
        *count += 1;
        *count > 1 && count.is_power_of_two()
    }

    /// Looks for one name in a directory that was not listed.
    ///
    /// # Errors
    /// If the cloud does not answer.
    pub async fn probe(&self, dir: &Inode, name: &[u8]) -> Result<Merged> {
        let (Some(store), Some(object)) = (self.stores.get(&dir.share), &dir.object) else {
            return Ok(Merged::default());
        };
        let _look = Look::begin(&self.names.gone);
        let key = Key::from_raw(format!("{}{}", object.key, segment_of_name(name)));
        let prefix = Key::from_raw(format!("{key}/"));
        let (file, marker, below) = futures::join!(
            store.remote.head(&key),
            store.remote.head(&prefix),
            store.remote.list(&prefix, None)
        );
        let below = below?;
        let mut found = Vec::new();
        if let Some(marker) = absent_is_none(marker)? {
            found.push(Found::dir(marker.key.clone(), Some(marker)));
        } else if !below.objects.is_empty() || !below.prefixes.is_empty() {
            found.push(Found::dir(prefix, None));
        } else if let Some(file) = absent_is_none(file)? {
            found.push(Found::object(file));
        }
        Ok(self.add(dir.ino, found, &store.defaults)?.0)
    }

    /// Reads the attributes of those of `inos` that a listing showed and nobody asked for yet.
    ///
    /// # Errors
    /// If the cloud does not answer.
    pub async fn read_attrs(&self, inos: &[Ino]) -> Result<Merged> {
        let mut doubts = Vec::new();
        self.meta.read(|tx| -> Result<()> {
            for &ino in inos {
                if let Some(Inode { attrs_known: false, object: Some(object), .. }) =
                    tx.inode(ino)?
                {
                    doubts.push(Doubt { ino, object });
                }
            }
            Ok(())
        })?;
        self.settle(doubts).await
    }

    /// Asks the cloud about one file, and takes over what changed there.
    ///
    /// # Errors
    /// If the cloud does not answer.
    pub async fn refresh(&self, inode: &Inode) -> Result<Merged> {
        let Some(object) = inode.object.clone() else { return Ok(Merged::default()) };
        self.settle(vec![Doubt { ino: inode.ino, object }]).await
    }

    async fn list_now(&self, store: &Store, dir: &Inode, prefix: &Key) -> Result<Merged> {
        let _look = Look::begin(&self.names.gone);
        let mut merged = Merged::default();
        let mut doubts = Vec::new();
        let mut seen = BTreeSet::new();
        let mut token = None;
        loop {
            let page = store.remote.list(prefix, token.as_ref()).await?;
            let dirs = page.prefixes.into_iter().map(|key| Found::dir(key, None));
            let found: Vec<Found> =
                dirs.chain(page.objects.into_iter().map(Found::object)).collect();
            seen.extend(found.iter().map(|f| f.key.clone()));
            let (more, doubted) = self.add(dir.ino, found, &store.defaults)?;
            merged.append(more);
            doubts.extend(doubted);
            token = page.next;
            if token.is_none() {
                break;
            }
        }
        doubts.extend(self.missing(dir.ino, prefix, &seen)?);
        merged.append(self.settle(doubts).await?);
        Ok(merged)
    }

    /// Adds what is new; returns what seems to have changed.
    fn add(
        &self,
        dir: Ino,
        found: Vec<Found>,
        defaults: &Defaults,
    ) -> Result<(Merged, Vec<Doubt>)> {
        let (defaults, gone) = (*defaults, self.names.gone.clone());
        let now = self.clock.wall();
        self.meta.write(move |tx| {
            let mut merged = Merged::default();
            let mut doubts = Vec::new();
            let Some(parent) = tx.inode(dir)? else { return Ok((merged, doubts)) };
            let gone = lock(&gone);
            let news = |found: &Found| !gone.has(parent.share, &found.key);
            for found in found.into_iter().filter(news) {
                match add_one(tx, &parent, found, &defaults, now)? {
                    Added::New => merged.inodes = vec![dir],
                    Added::Doubtful(doubt) => doubts.push(doubt),
                    Added::Known => {}
                }
            }
            Ok((merged, doubts))
        })
    }

    /// Clean inodes in `dir` whose object a whole listing did not show.
    fn missing(&self, dir: Ino, prefix: &Key, seen: &BTreeSet<Key>) -> Result<Vec<Doubt>> {
        const AT_ONCE: usize = 1000;
        let mut missing = Vec::new();
        self.meta.read(|tx| -> Result<()> {
            let mut at = 0;
            loop {
                let entries = tx.entries(dir, at, AT_ONCE)?;
                let Some(last) = entries.last() else { return Ok(()) };
                at = last.cookie;
                for entry in entries {
                    let Some(Inode { ino, object: Some(object), .. }) = tx.inode(entry.ino)? else {
                        continue;
                    };
                    let bare = Key::from_raw(object.key.as_str().trim_end_matches('/'));
                    let is_seen = seen.contains(&object.key) || seen.contains(&bare);
                    if !is_seen
                        && object.key.as_str().starts_with(prefix.as_str())
                        && tx.item(ino)?.is_none()
                    {
                        missing.push(Doubt { ino, object });
                    }
                }
            }
        })?;
        Ok(missing)
    }

    /// Asks the cloud about each doubt, and takes over what it says.
    async fn settle(&self, doubts: Vec<Doubt>) -> Result<Merged> {
        let mut answers = stream::iter(doubts)
            .map(|doubt| async move {
                let share = self.meta.read(|tx| tx.inode(doubt.ino))?.map(|inode| inode.share);
                let Some(store) = share.and_then(|share| self.stores.get(&share)) else {
                    return Ok(None);
                };
                let object = absent_is_none(store.remote.head(&doubt.object.key).await)?;
                Ok(Some(Answer { doubt, object, defaults: store.defaults }))
            })
            .buffer_unordered(HEADS_AT_ONCE);
        let mut merged = Merged::default();
        while let Some(answer) = answers.next().await {
            let answer: Result<Option<Answer>> = answer;
            if let Some(answer) = answer? {
                merged.append(self.take_over(answer)?);
            }
        }
        Ok(merged)
    }

    fn take_over(&self, answer: Answer) -> Result<Merged> {
        let Answer { doubt: Doubt { ino, object: doubted }, object, defaults } = answer;
        let (merged, stale) = self.meta.write(move |tx| -> Result<_> {
            let mut merged = Merged::default();
            let Some(mut inode) = tx.inode(ino)? else { return Ok((merged, None)) };
            let untouched = inode.object.as_ref() == Some(&doubted)
                && tx.item(ino)?.is_none()
                && !tx.is_writing(ino)?;
            if !untouched {
                return Ok((merged, None));
            }
            let backing = inode.backing;
            match object {
                Some(object) => {
                    let same = doubted.etag.as_ref() == Some(&object.etag);
                    if same && inode.attrs_known {
                        return Ok((merged, None));
                    }
                    take_object(&mut inode, &object, !same, &defaults);
                    tx.put_inode(&inode)?;
                    for (name, value) in xattrs_of(&object) {
                        tx.set_xattr(ino, &name, Some(&value))?;
                    }
                    merged.inodes.push(ino);
                    Ok((merged, (!same).then_some(backing)))
                }
                // A directory without a marker lives as long as something is in it.
                None if inode.attr.kind == FileKind::Dir
                    && (doubted.etag.is_none() || tx.has_entries(ino)?) =>
                {
                    inode.attrs_known = true;
                    tx.put_inode(&inode)?;
                    Ok((merged, None))
                }
                None => {
                    if let Some((parent, name)) = tx.a_name(ino)? {
                        tx.remove_entry(parent, &name)?;
                        merged.names.push((parent, name));
                    }
                    tx.remove_inode(ino)?;
                    Ok((merged, Some(backing)))
                }
            }
        })?;
        if let Some(backing) = stale {
            self.forget(ino, backing);
        }
        Ok(merged)
    }
}

impl Merged {
    fn append(&mut self, mut other: Self) {
        self.inodes.append(&mut other.inodes);
        self.names.append(&mut other.names);
    }
}

/// What a listing or a probe showed.
#[derive(Debug)]
struct Found {
    key: Key,
    object: Option<Object>,
}

impl Found {
    fn dir(key: Key, object: Option<Object>) -> Self {
        Self { key, object }
    }

    fn object(object: Object) -> Self {
        Self { key: object.key.clone(), object: Some(object) }
    }
}

enum Added {
    New,
    Doubtful(Doubt),
    Known,
}

fn add_one(
    tx: &Tx<'_>,
    parent: &Inode,
    found: Found,
    defaults: &Defaults,
    now: Time,
) -> Result<Added> {
    let Found { key, object } = found;
    let share = parent.share;
    let as_dir = Key::from_raw(format!("{}/", key.as_str().trim_end_matches('/')));
    for known in [&key, &as_dir] {
        if let Some(Inode { ino, object: Some(record), .. }) = tx.inode_by_key(share, known)? {
            let changed = object.as_ref().is_some_and(|o| record.etag.as_ref() != Some(&o.etag));
            // A listing shows a directory's marker as a prefix, without a version.
            let doubtful = changed && !key.is_dir();
            return Ok(if doubtful {
                Added::Doubtful(Doubt { ino, object: record })
            } else {
                Added::Known
            });
        }
    }
    let Some(name) = name_in(parent, &key) else { return Ok(Added::Known) };
    if tx.lookup(parent.ino, &name)?.is_some() || tx.is_in_motion(share, &key)? {
        return Ok(Added::Known);
    }
    let mut inode = blank(share, key, defaults, now);
    if let Some(object) = &object {
        take_object(&mut inode, object, false, defaults);
    }
    let new = NewInode {
        attrs_known: inode.attrs_known,
        object: inode.object,
        ..NewInode::made_here(share, inode.attr)
    };
    let ino = tx.add_inode(&new)?;
    for (name, value) in object.iter().flat_map(xattrs_of) {
        tx.set_xattr(ino, &name, Some(&value))?;
    }
    tx.add_entry(parent.ino, &name, ino)?;
    if new.attr.kind == FileKind::Dir {
        let mut parent = tx.inode(parent.ino)?.unwrap_or_else(|| parent.clone());
        parent.attr.nlink += 1;
        tx.put_inode(&parent)?;
    }
    Ok(Added::New)
}

/// The name that `key` gives to what lies directly in `parent`; none if a file tree can't have it.
fn name_in(parent: &Inode, key: &Key) -> Option<Vec<u8>> {
    let prefix = parent.object.as_ref()?.key.as_str();
    let segment = key.as_str().strip_prefix(prefix)?.trim_end_matches('/');
    let name = name_of_segment(segment);
    let reserved = prefix.is_empty() && segment == RESERVED;
    let impossible = name.is_empty() || name == b"." || name == b".." || name.len() > 255;
    if impossible || segment.contains('/') || name.contains(&0) {
        tracing::warn!(%key, "an object has a key that no file name stands for: it is not shown");
        return None;
    }
    (!reserved).then_some(name)
}

fn blank(share: ShareId, key: Key, defaults: &Defaults, now: Time) -> Inode {
    let dir = key.is_dir();
    Inode {
        ino: Ino(0),
        share,
        attr: Attr {
            kind: if dir { FileKind::Dir } else { FileKind::File },
            perm: if dir { defaults.dir_perm } else { defaults.file_perm },
            uid: defaults.uid,
            gid: defaults.gid,
            size: 0,
            atime: now,
            mtime: now,
            ctime: now,
            nlink: if dir { 2 } else { 1 },
        },
        target: None,
        content: 0,
        attrs: 0,
        backing: 0,
        attrs_known: false,
        object: Some(ObjectRecord { key, etag: None, content: 0, attrs: 0 }),
    }
}

/// Makes `inode` what `object` is. `new_content`: what is here of the old content counts no more.
fn take_object(inode: &mut Inode, object: &Object, new_content: bool, defaults: &Defaults) {
    let attr = &mut inode.attr;
    if let Some(metadata) = &object.metadata {
        let posix = PosixMeta::read(metadata);
        let kind = if object.key.is_dir() { Some(FileKind::Dir) } else { posix.kind };
        attr.kind = kind.unwrap_or(FileKind::File);
        let default_perm =
            if attr.kind == FileKind::Dir { defaults.dir_perm } else { defaults.file_perm };
        attr.perm = posix.perm.unwrap_or(default_perm);
        attr.uid = posix.uid.unwrap_or(defaults.uid);
        attr.gid = posix.gid.unwrap_or(defaults.gid);
        attr.mtime = posix.mtime.unwrap_or(object.modified);
        attr.ctime = posix.ctime.unwrap_or(object.modified);
        attr.atime = posix.atime.unwrap_or(attr.mtime);
        inode.attrs_known = true;
    } else {
        (attr.mtime, attr.ctime, attr.atime) = (object.modified, object.modified, object.modified);
        inode.attrs_known = false;
    }
    if attr.kind == FileKind::Dir {
        attr.nlink = attr.nlink.max(2);
    } else {
        attr.size = object.size;
    }
    if new_content && attr.kind != FileKind::Dir {
        inode.content += 1;
        inode.backing += 1;
        inode.target = None;
    }
    let bare = object.key.as_str().trim_end_matches('/');
    let key = if attr.kind == FileKind::Dir {
        Key::from_raw(format!("{bare}/"))
    } else {
        object.key.clone()
    };
    inode.object = Some(ObjectRecord {
        key,
        etag: Some(object.etag.clone()),
        content: inode.content,
        attrs: inode.attrs,
    });
}

fn xattrs_of(object: &Object) -> BTreeMap<Vec<u8>, Vec<u8>> {
    object.metadata.as_ref().map(|m| PosixMeta::read(m).xattrs).unwrap_or_default()
}

fn absent_is_none(answer: Result<Object, RemoteError>) -> Result<Option<Object>, RemoteError> {
    match answer {
        Ok(object) => Ok(Some(object)),
        Err(RemoteError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
