//! Names that are not here yet: directories are listed when first asked for, a single name costs a probe, attributes a head request.
//!
//! A listing is old when it arrives: meanwhile we may have uploaded, deleted or renamed. So a listing only ever adds names;
//! what it would change or take away is asked for by name first, and taken over only if our record is still the one that was doubted.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use futures::StreamExt as _;
use futures::stream;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::merge::{
    Added, Answer, Defaults, Doubt, Found, Merged, add_one, add_plain, is_untouched, name_in,
    part_plain, take_over, yield_to,
};
use super::{Cache, Result, Store, lock};
use crate::meta::{Inode, MetaError, Tx};
use crate::remote::{Object, Page, Remote, RemoteError};
use crate::types::{Ino, Key, ShareId, segment_of_name};

pub(super) const HEADS_AT_ONCE: usize = 32;
/// What counts for the answer to a head request where it is paced: it has no body, but headers.
const HEAD_BYTES: usize = 1024;
/// What seems to have changed or gone is asked about when there is so much of it.
const DOUBTS_MAX: usize = 1000;
/// Pages of a listing that wait until they are stored.
const PAGES_AHEAD: usize = 4;
/// Pages that are stored in one transaction: names are in no order there, so that each page changes much of the database; but others
/// who want to write wait for it.
const PAGES_AT_ONCE: u64 = 4;

/// One look at a directory at a time.
#[derive(Debug, Default)]
pub(super) struct Listings {
    looking: Mutex<BTreeMap<Ino, Arc<Looking>>>,
    probes: Mutex<BTreeMap<Ino, u32>>,
    gone: Arc<Mutex<Gone>>,
    ended: AtomicU64,
}

#[derive(Debug, Default)]
struct Looking {
    turn: tokio::sync::Mutex<()>,
    pages: AtomicU64,
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
        if self.keys.is_empty() {
            return false;
        }
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

impl Cache {
    /// Whether all names of `dir` are known here: it was listed at or after `since` (milliseconds since 1970), or made here, or nothing
    /// of it is in the cloud.
    #[must_use]
    pub fn is_listed(&self, dir: &Inode, since: i64) -> bool {
        let listed = || self.index.listed(dir.ino).or(dir.is_made_here().then_some(0));
        // One that is from the future tells of a clock that was set back since.
        let in_time =
            |at: i64| at >= since && (since == 0 || at <= self.clock.wall().millis() + 1000);
        dir.object.is_none() || listed().is_some_and(in_time)
    }

    /// How many listings came to an end: who saw another number before it did not find a name may find it now.
    #[must_use]
    pub fn listings_ended(&self) -> u64 {
        self.names.ended.load(Ordering::Acquire)
    }

    /// How many pages a listing of `dir` that is under way has brought.
    #[must_use]
    pub fn pages_listed(&self, dir: Ino) -> u64 {
        let looking = lock(&self.names.looking);
        looking.get(&dir).map_or(0, |looking| looking.pages.load(Ordering::Relaxed))
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
    pub async fn list(self: &Arc<Self>, dir: &Inode, since: i64) -> Result<Merged> {
        match self.relist(dir, since).await {
            Err(error) if self.is_listed(dir, 0) => {
                tracing::debug!(dir = %dir.ino, error = &error as &dyn std::error::Error, "the old listing stays");
                Ok(Merged::default())
            }
            listed => listed,
        }
    }

    /// As [`Cache::list`], for those who want to know if the cloud does not answer.
    ///
    /// # Errors
    /// If the cloud does not answer.
    pub async fn relist(self: &Arc<Self>, dir: &Inode, since: i64) -> Result<Merged> {
        let (Some(store), Some(object)) = (self.stores.get(&dir.share), &dir.object) else {
            return Ok(Merged::default());
        };
        let looking = lock(&self.names.looking).entry(dir.ino).or_default().clone();
        let _turn = looking.turn.lock().await;
        if self.is_listed(dir, since) {
            return Ok(Merged::default());
        }
        let began = self.clock.wall().millis();
        let is_first = !self.is_listed(dir, 0);
        let listed = self.list_now(store, dir, &object.key, &looking.pages).await;
        lock(&self.names.looking).remove(&dir.ino);
        let mut merged = listed?;
        if is_first {
            merged.inodes.retain(|ino| *ino != dir.ino);
            merged.attributes.push(dir.ino);
        }
        self.index.set_listed(dir.ino, Some(began));
        self.names.ended.fetch_add(1, Ordering::Release);
        lock(&self.names.probes).remove(&dir.ino);
        Ok(merged)
    }

    /// Asks the cloud about each name in `dir` that is known here, one by one: for one that was never listed, or that no listing shows.
    ///
    /// # Errors
    /// If the cloud does not answer.
    pub async fn ask_each(&self, dir: &Inode) -> Result<Merged> {
        let Some(object) = &dir.object else { return Ok(Merged::default()) };
        let youngest = self.meta.read(|tx| tx.youngest_inode())?;
        self.settle_missing(dir.ino, youngest, &object.key, &Seen::default()).await
    }

    /// Asks the cloud whether the directory `dir`, that no listing shows, is there at all.
    ///
    /// # Errors
    /// If the cloud does not answer.
    pub async fn ask_unseen(&self, dir: &Inode) -> Result<Merged> {
        let Some(object) = dir.object.clone() else { return Ok(Merged::default()) };
        self.settle(vec![Doubt { ino: dir.ino, object, unseen: true }]).await
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
        self.settle(self.unknown(inos)?).await
    }

    /// As [`Cache::read_attrs`], where nobody waits for it: at the pace of downloads.
    ///
    /// # Errors
    /// As [`Cache::read_attrs`].
    pub async fn read_attrs_at_pace(&self, inos: &[Ino]) -> Result<Merged> {
        let mut merged = Merged::default();
        for inos in inos.chunks(HEADS_AT_ONCE) {
            let doubts = self.unknown(inos)?;
            let share = inos.first().map(|&ino| self.meta.read(|tx| tx.inode(ino))).transpose()?;
            let store = share.flatten().and_then(|inode| self.stores.get(&inode.share));
            if let Some(pace) = store.and_then(|store| store.down.as_ref()) {
                pace.take_all(doubts.len() * HEAD_BYTES).await;
            }
            merged.append(self.settle(doubts).await?);
        }
        Ok(merged)
    }

    /// Those of `inos` of which only the cloud knows attributes.
    fn unknown(&self, inos: &[Ino]) -> Result<Vec<Doubt>> {
        let mut doubts = Vec::new();
        self.meta.read(|tx| -> Result<()> {
            for &ino in inos {
                if let Some(Inode { attrs_known: false, object: Some(object), .. }) =
                    tx.inode(ino)?
                {
                    doubts.push(Doubt { ino, object, unseen: false });
                }
            }
            Ok(())
        })?;
        Ok(doubts)
    }

    /// Asks the cloud about one file, and takes over what changed there.
    ///
    /// # Errors
    /// If the cloud does not answer.
    pub async fn refresh(&self, inode: &Inode) -> Result<Merged> {
        let Some(object) = inode.object.clone() else { return Ok(Merged::default()) };
        self.settle(vec![Doubt { ino: inode.ino, object, unseen: false }]).await
    }

    /// Makes the file `ino` what the cloud's `object` is, whatever is here of it, if `is_wanted`, in the same transaction, says so.
    ///
    /// # Errors
    /// If the metadata store fails.
    pub fn yield_to(
        &self,
        ino: Ino,
        object: Object,
        is_wanted: impl FnOnce(&Tx<'_>, &Inode) -> Result<bool, MetaError> + Send + 'static,
    ) -> Result<Option<Merged>> {
        let now = self.clock.wall();
        let stores: BTreeMap<ShareId, Defaults> =
            self.stores.iter().map(|(share, store)| (*share, store.defaults)).collect();
        let yielded = self.meta.write(move |tx| -> Result<_> {
            let Some(inode) = tx.inode(ino)? else { return Ok(None) };
            let Some(defaults) = stores.get(&inode.share) else { return Ok(None) };
            let wanted = is_wanted(tx, &inode)?;
            wanted.then(|| yield_to(tx, ino, &object, defaults, now)).transpose()
        })?;
        let Some((merged, backing)) = yielded else { return Ok(None) };
        if let Some(backing) = backing {
            self.forget(ino, backing);
        }
        Ok(Some(merged))
    }

    async fn list_now(
        self: &Arc<Self>,
        store: &Store,
        dir: &Inode,
        prefix: &Key,
        pages: &AtomicU64,
    ) -> Result<Merged> {
        let _look = Look::begin(&self.names.gone);
        let youngest = self.meta.read(|tx| tx.youngest_inode())?;
        let mut merged = Merged::default();
        let mut doubts = Vec::new();
        let mut seen = Seen::default();
        let mut is_whole = false;
        let (coming, mut pages_ahead) = mpsc::channel(PAGES_AHEAD);
        let _ends_with_us = AbortOnDropHandle::new(self.tasks.handle().spawn(fetch(
            store.remote.clone(),
            prefix.clone(),
            coming,
        )));
        while let Some(page) = pages_ahead.recv().await {
            let mut page = page?;
            let mut taken = 1;
            while taken < PAGES_AT_ONCE
                && let Ok(next) = pages_ahead.try_recv()
            {
                let next = next?;
                page.prefixes.extend(next.prefixes);
                page.objects.extend(next.objects);
                page.next = next.next;
                taken += 1;
            }
            is_whole = page.next.is_none();
            let dirs = page.prefixes.into_iter().map(|key| Found::dir(key, None));
            let found: Vec<Found> =
                dirs.chain(page.objects.into_iter().map(Found::object)).collect();
            found.iter().for_each(|found| seen.add(&found.key));
            let (cache, dir, defaults) = (self.clone(), dir.ino, store.defaults);
            let look = Look::begin(&self.names.gone);
            let add = move || {
                let _look = look; // it goes on if nobody waits for it any more
                cache.add(dir, found, &defaults)
            };
            let (more, doubted) = self.tasks.blocking(add).await??;
            merged.append(more);
            doubts.extend(doubted);
            pages.fetch_add(taken, Ordering::Relaxed);
            if doubts.len() >= DOUBTS_MAX {
                merged.append(self.settle(std::mem::take(&mut doubts)).await?);
            }
        }
        if !is_whole {
            return Err(std::io::Error::other("the listing was given up").into());
        }
        merged.append(self.settle(doubts).await?);
        merged.append(self.settle_missing(dir.ino, youngest, prefix, &seen).await?);
        Ok(merged)
    }

    /// Adds what is new; returns what seems to have changed.
    fn add(
        &self,
        dir: Ino,
        mut found: Vec<Found>,
        defaults: &Defaults,
    ) -> Result<(Merged, Vec<Doubt>)> {
        let (defaults, gone) = (*defaults, self.names.gone.clone());
        let now = self.clock.wall();
        self.meta.write(move |tx| {
            let mut merged = Merged::default();
            let mut doubts = Vec::new();
            let Some(parent) = tx.inode(dir)? else { return Ok((merged, doubts)) };
            let gone = lock(&gone);
            let untouched = is_untouched(tx, parent.share, &found)?;
            found.retain(|found| !gone.has(parent.share, &found.key));
            let (plain, others) = if untouched { part_plain(found) } else { (Vec::new(), found) };
            for found in others {
                let key = found.key.clone();
                let added = add_one(tx, &parent, found, untouched, &defaults, now)?;
                if added.is_of_another_kind(&key) {
                    merged.taken.extend(name_in(&parent, &key).map(|name| (dir, name)));
                }
                match added {
                    Added::New => {
                        merged.inodes = vec![dir];
                        merged.changes.added += 1;
                    }
                    Added::Doubtful(doubt) => doubts.push(doubt),
                    Added::Known | Added::Taken => {}
                }
            }
            if !plain.is_empty() {
                merged.inodes = vec![dir];
                // Behind directories: of a file and a directory with one name, the directory is shown.
                merged.changes.added += add_plain(tx, &parent, plain, &defaults, now)? as u64;
            }
            Ok((merged, doubts))
        })
    }

    /// Asks about what a whole listing of `dir` did not show.
    async fn settle_missing(
        &self,
        dir: Ino,
        youngest: Ino,
        prefix: &Key,
        seen: &Seen,
    ) -> Result<Merged> {
        let mut merged = Merged::default();
        let mut at = Some(0);
        while let Some(behind) = at {
            let (missing, last) = self.missing(dir, youngest, behind, prefix, seen)?;
            merged.append(self.settle(missing).await?);
            at = last;
        }
        Ok(merged)
    }

    /// Clean inodes in `dir` behind the place `behind` whose object a whole listing did not show, and that were there when it began; and
    /// where to go on, unless that was all.
    pub(super) fn missing(
        &self,
        dir: Ino,
        youngest: Ino,
        behind: u64,
        prefix: &Key,
        seen: &Seen,
    ) -> Result<(Vec<Doubt>, Option<u64>)> {
        self.meta.read(|tx| {
            let mut missing = Vec::new();
            let entries = tx.old_entries(dir, youngest, behind, DOUBTS_MAX)?;
            let last = entries.last().map(|entry| entry.cookie);
            for entry in entries {
                let Some(Inode { ino, object: Some(object), .. }) = tx.inode(entry.ino)? else {
                    continue;
                };
                let bare = Key::from_raw(object.key.as_str().trim_end_matches('/'));
                let is_seen = seen.has(&object.key) || seen.has(&bare);
                if !is_seen
                    && object.key.as_str().starts_with(prefix.as_str())
                    && tx.item(ino)?.is_none()
                {
                    missing.push(Doubt { ino, object, unseen: true });
                }
            }
            Ok((missing, last))
        })
    }

    /// Asks the cloud about each doubt, and takes over what it says.
    async fn settle(&self, doubts: Vec<Doubt>) -> Result<Merged> {
        let mut answers =
            stream::iter(doubts).map(|doubt| self.ask(doubt)).buffer_unordered(HEADS_AT_ONCE);
        let mut merged = Merged::default();
        while let Some(answer) = answers.next().await {
            if let Some(answer) = answer? {
                merged.append(self.take_over(answer)?);
            }
        }
        Ok(merged)
    }

    pub(super) async fn ask(&self, doubt: Doubt) -> Result<Option<Answer>> {
        let share = self.meta.read(|tx| tx.inode(doubt.ino))?.map(|inode| inode.share);
        let Some(store) = share.and_then(|share| self.stores.get(&share)) else { return Ok(None) };
        let key = &doubt.object.key;
        let object = absent_is_none(store.remote.head(key).await)?;
        // A directory is more than its marker.
        let is_gone = object.is_none() && (doubt.unseen || doubt.object.etag.is_some());
        let has_more = is_gone && key.is_dir() && {
            let page = store.remote.list(key, None).await?;
            !page.objects.is_empty() || !page.prefixes.is_empty()
        };
        Ok(Some(Answer { doubt, object, has_more, defaults: store.defaults }))
    }

    fn take_over(&self, answer: Answer) -> Result<Merged> {
        let (ino, now) = (answer.doubt.ino, self.clock.wall());
        let (merged, stale) = self.meta.write(move |tx| take_over(tx, answer, now))?;
        if let Some(backing) = stale {
            self.forget(ino, backing);
        }
        Ok(merged)
    }
}

/// Asks for page after page, while those that came are stored.
async fn fetch(
    remote: Arc<dyn Remote>,
    prefix: Key,
    pages: mpsc::Sender<Result<Page, RemoteError>>,
) {
    let mut next = None;
    loop {
        let page = remote.list(&prefix, next.as_ref()).await;
        next = page.as_ref().ok().and_then(|page| page.next.clone());
        // If nobody takes it, the listing is given up.
        if pages.send(page).await.is_err() || next.is_none() {
            return;
        }
    }
}

/// What a listing showed, as hashes: of a million objects the keys would take a hundred megabytes. Two that have the same hash, once in
/// 10^7 such listings, only keep one from being missed.
#[derive(Debug, Default)]
pub(super) struct Seen {
    hashes: HashSet<u64>,
    hasher: RandomState,
}

impl Seen {
    pub(super) fn add(&mut self, key: &Key) {
        self.hashes.insert(self.hasher.hash_one(key));
    }

    fn has(&self, key: &Key) -> bool {
        self.hashes.contains(&self.hasher.hash_one(key))
    }
}

fn absent_is_none(answer: Result<Object, RemoteError>) -> Result<Option<Object>, RemoteError> {
    match answer {
        Ok(object) => Ok(Some(object)),
        Err(RemoteError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
