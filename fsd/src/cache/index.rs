//! The rebuildable store (sled): what is here of clean files, when each was used, when a directory was listed. All of it can be
//! lost at any moment and costs only requests: a record that is missing or old means «not here».
//!
//! sled stalls now and then, so changes wait in memory and a thread of its own writes them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::sums::Sums;
use crate::types::Ino;

/// What is here of a clean file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileRecord {
    /// The backing file that this is about.
    pub(crate) backing: u64,
    /// When it was used last, seconds since 1970.
    pub(crate) used: i64,
    /// Checksums of blocks.
    pub(crate) sums: Sums,
    /// The encoded presence map; empty means whole.
    pub(crate) blocks: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Slot {
    File(Ino),
    Listed(Ino),
}

#[derive(Debug, Default)]
struct Waiting {
    changes: BTreeMap<Slot, Option<Vec<u8>>>,
    writing: BTreeMap<Slot, Option<Vec<u8>>>,
    stopping: bool,
}

#[derive(Debug)]
struct Shared {
    waiting: Mutex<Waiting>,
    wake: Condvar,
    files: sled::Tree,
    listed: sled::Tree,
}

/// The rebuildable store.
#[derive(Debug)]
pub(crate) struct Index {
    shared: Arc<Shared>,
    thread: Option<std::thread::JoinHandle<()>>,
    db: sled::Db,
}

const WRITE_DELAY: Duration = Duration::from_millis(200);

impl Index {
    /// Opens the store in `dir`; one that is damaged is put away and begun anew.
    pub(crate) fn open(dir: &Path) -> std::io::Result<Self> {
        let db = match open_db(dir) {
            Ok(db) => db,
            Err(error) => {
                tracing::warn!(%error, dir = %dir.display(), "the cache index is damaged: starting cold");
                std::fs::remove_dir_all(dir)?;
                open_db(dir).map_err(std::io::Error::other)?
            }
        };
        let tree = |name| db.open_tree(name).map_err(std::io::Error::other);
        let shared = Arc::new(Shared {
            waiting: Mutex::default(),
            wake: Condvar::new(),
            files: tree("files")?,
            listed: tree("listed")?,
        });
        let thread = {
            let shared = shared.clone();
            std::thread::Builder::new()
                .name("cache.index".into())
                .spawn(move || shared.write_all())?
        };
        Ok(Self { shared, thread: Some(thread), db })
    }

    pub(crate) fn file(&self, ino: Ino) -> Option<FileRecord> {
        self.shared.get(&Slot::File(ino)).and_then(|bytes| decode(&bytes))
    }

    pub(crate) fn put_file(&self, ino: Ino, record: &FileRecord) {
        self.shared.put(Slot::File(ino), Some(encode(record)));
    }

    pub(crate) fn remove_file(&self, ino: Ino) {
        self.shared.put(Slot::File(ino), None);
    }

    /// Up to `count` files that were used last, the longest unused first, of those whose backing file `is_current`.
    pub(crate) fn newest(
        &self,
        count: usize,
        is_current: impl Fn(Ino, u64) -> bool,
    ) -> Vec<(i64, Ino)> {
        let mut newest = BinaryHeap::new();
        for (ino, record) in self.files().filter(|(ino, record)| is_current(*ino, record.backing)) {
            newest.push(Reverse((record.used, ino)));
            if newest.len() > count {
                newest.pop();
            }
        }
        let newest = newest.into_sorted_vec().into_iter().rev();
        newest.map(|Reverse(file)| file).collect()
    }

    /// Up to `count` files that are the longest unused, these first, of those that are `wanted`.
    pub(crate) fn oldest(&self, count: usize, wanted: impl Fn(Ino) -> bool) -> Vec<Ino> {
        let mut oldest = BinaryHeap::new();
        for (ino, record) in self.files().filter(|(ino, _)| wanted(*ino)) {
            oldest.push((record.used, ino));
            if oldest.len() > count {
                oldest.pop();
            }
        }
        oldest.into_sorted_vec().into_iter().map(|(_, ino)| ino).collect()
    }

    /// All records that are written.
    fn files(&self) -> impl Iterator<Item = (Ino, FileRecord)> {
        let read = |pair: sled::Result<(sled::IVec, sled::IVec)>| {
            let (key, value) = pair.ok()?;
            let ino = Ino(u64::from_be_bytes(key.as_ref().try_into().ok()?));
            Some((ino, decode(&value)?))
        };
        self.shared.files.iter().filter_map(read)
    }

    /// When the directory was listed whole, milliseconds since 1970.
    pub(crate) fn listed(&self, dir: Ino) -> Option<i64> {
        let bytes = self.shared.get(&Slot::Listed(dir))?;
        Some(i64::from_le_bytes(bytes.as_slice().try_into().ok()?))
    }

    pub(crate) fn set_listed(&self, dir: Ino, at: Option<i64>) {
        self.shared.put(Slot::Listed(dir), at.map(|at| at.to_le_bytes().to_vec()));
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        self.shared.lock().stopping = true;
        self.shared.wake.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let _ = self.db.flush();
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tree(&self, slot: &Slot) -> (&sled::Tree, [u8; 8]) {
        match slot {
            Slot::File(ino) => (&self.files, ino.0.to_be_bytes()),
            Slot::Listed(ino) => (&self.listed, ino.0.to_be_bytes()),
        }
    }

    fn get(&self, slot: &Slot) -> Option<Vec<u8>> {
        {
            let waiting = self.lock();
            if let Some(change) = waiting.changes.get(slot).or_else(|| waiting.writing.get(slot)) {
                return change.clone();
            }
        }
        let (tree, key) = self.tree(slot);
        tree.get(key).ok().flatten().map(|value| value.to_vec())
    }

    fn put(&self, slot: Slot, value: Option<Vec<u8>>) {
        self.lock().changes.insert(slot, value);
        self.wake.notify_one();
    }

    fn write_all(&self) {
        loop {
            let (batch, stopping) = {
                let mut waiting = self.lock();
                while waiting.changes.is_empty() && !waiting.stopping {
                    waiting = self.wake.wait(waiting).unwrap_or_else(PoisonError::into_inner);
                }
                if !waiting.stopping {
                    // Changes of one file come in bursts: the last one counts.
                    let wait = self.wake.wait_timeout_while(waiting, WRITE_DELAY, |w| !w.stopping);
                    waiting = wait.unwrap_or_else(PoisonError::into_inner).0;
                }
                waiting.writing = std::mem::take(&mut waiting.changes);
                (waiting.writing.clone(), waiting.stopping)
            };
            let mut failed = None;
            for (slot, value) in batch {
                let (tree, key) = self.tree(&slot);
                let written = match value {
                    Some(value) => tree.insert(key, value).map(drop),
                    None => tree.remove(key).map(drop),
                };
                failed = written.err().or(failed);
            }
            if let Some(error) = failed {
                tracing::warn!(%error, "the cache index could not be written");
            }
            let mut waiting = self.lock();
            waiting.writing.clear();
            if stopping && waiting.changes.is_empty() {
                return;
            }
        }
    }
}

fn open_db(dir: &Path) -> sled::Result<sled::Db> {
    let config = sled::Config::new().path(dir).cache_capacity(16 << 20).flush_every_ms(Some(1000));
    // sled panics on some kinds of damage; that is damage too.
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| config.open())) {
        Ok(opened) => opened,
        Err(_) => Err(sled::Error::ReportableBug("sled panicked while opening".into())),
    }
}

/// In the first number of a record that has checksums. Without it, it has none: so were records at first.
const WITH_SUMS: u64 = 1 << 63;

fn encode(record: &FileRecord) -> Vec<u8> {
    let FileRecord { backing, used, sums, blocks } = record;
    let sums = sums.encode();
    let length = (sums.len() as u64).to_le_bytes();
    [&(backing | WITH_SUMS).to_le_bytes(), &used.to_le_bytes(), &length, &*sums, blocks].concat()
}

fn decode(bytes: &[u8]) -> Option<FileRecord> {
    let (backing, rest) = bytes.split_first_chunk::<8>()?;
    let (used, mut blocks) = rest.split_first_chunk::<8>()?;
    let backing = u64::from_le_bytes(*backing);
    let mut sums = Sums::default();
    if backing & WITH_SUMS != 0 {
        let (length, rest) = blocks.split_first_chunk::<8>()?;
        let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
        let (encoded, rest) = rest.split_at_checked(length)?;
        (sums, blocks) = (Sums::decode(encoded)?, rest);
    }
    Some(FileRecord {
        backing: backing & !WITH_SUMS,
        used: i64::from_le_bytes(*used),
        sums,
        blocks: blocks.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(backing: u64) -> FileRecord {
        FileRecord { backing, used: 5, sums: Sums::default(), blocks: vec![1, 2] }
    }

    #[test]
    fn a_record_survives_with_its_sums_and_without() {
        let mut with = record(7);
        with.sums.add(3, 5, 99);
        assert_eq!(decode(&encode(&with)), Some(with.clone()));
        let old = [&7u64.to_le_bytes()[..], &5i64.to_le_bytes()[..], &[1, 2]].concat();
        assert_eq!(decode(&old), Some(record(7)));
        assert_eq!(decode(&encode(&with)[..20]), None);
    }

    #[test]
    fn what_was_put_is_read_before_and_after_it_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let index = Index::open(dir.path()).unwrap();
        index.put_file(Ino(7), &record(3));
        index.put_file(Ino(8), &record(4));
        index.remove_file(Ino(8));
        index.set_listed(Ino(9), Some(42));
        assert_eq!(index.file(Ino(7)), Some(record(3)));
        drop(index);
        let index = Index::open(dir.path()).unwrap();
        assert_eq!(index.files().collect::<Vec<_>>(), [(Ino(7), record(3))]);
        assert_eq!(index.file(Ino(8)), None);
        assert_eq!(index.listed(Ino(9)), Some(42));
    }

    #[test]
    fn files_are_told_in_the_order_of_their_use() {
        let dir = tempfile::tempdir().unwrap();
        let index = Index::open(dir.path()).unwrap();
        for (ino, used) in [(1, 50), (2, 10), (3, 40), (4, 20), (5, 30)] {
            index.put_file(Ino(ino), &FileRecord { used, ..record(ino) });
        }
        drop(index);
        let index = Index::open(dir.path()).unwrap();
        let newest = index.newest(3, |ino, backing| ino.0 == backing && ino != Ino(3));
        assert_eq!(newest, [(20, Ino(4)), (30, Ino(5)), (50, Ino(1))]);
        assert_eq!(index.oldest(2, |ino| ino != Ino(4)), [Ino(2), Ino(5)]);
    }

    #[test]
    fn a_damaged_index_starts_cold() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index");
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("conf"), b"no sled").unwrap();
        std::fs::write(path.join("db"), [7; 5000]).unwrap();
        let index = Index::open(&path).unwrap();
        assert_eq!(index.file(Ino(1)), None);
    }
}
