//! Receipts: one line of JSON for each version of a file that went up.
//!
//! Invariant: a receipt is stored in the transaction that counts the version as uploaded, and goes from there only when its line is on
//! the disk. So none is missing; after a crash one may be written twice, and readers pass over the second.

use std::fs::{DirBuilder, File};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::lines;
use crate::meta::{Meta, MetaError, UploadedVersion};

/// The file that lines are added to.
const CURRENT: &str = "receipts.jsonl";
/// Receipts that are written between two looks.
const WRITTEN_AT_ONCE: usize = 1000;
/// The longest line that is believed to be one.
const LINE_BYTES_MAX: u64 = 64 << 10;

/// How receipts are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiptRules {
    /// A file that has grown to so many bytes is closed, and another one begun.
    pub file_bytes_max: u64,
    /// How many files are kept: the oldest go.
    pub files_max: usize,
}

impl Default for ReceiptRules {
    fn default() -> Self {
        Self { file_bytes_max: 16 << 20, files_max: 16 }
    }
}

/// A version of a file that went up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Its number: each has a greater one than those before.
    pub seq: i64,
    /// The share.
    pub share: String,
    /// The file's path in the share when it was uploaded.
    pub path: String,
    /// The object's key, below the share's URL.
    pub key: String,
    /// How long it is; not known if the store's answer was lost and the file has changed since.
    pub size: Option<u64>,
    /// SHA-256 in hexadecimal, if that is known: of its bytes; of a file that went up in parts, of the parts' sums, with `-` and their
    /// length in bytes behind it.
    pub sha256: Option<String>,
    /// What the store calls it.
    pub etag: String,
    /// When the answer was stored.
    pub at: jiff::Timestamp,
}

/// Where a reader is: a file, and bytes in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The number that the file's name has; the current one has none.
    pub file: Option<i64>,
    /// Bytes before it.
    pub offset: u64,
    /// The last number that was read.
    pub seq: i64,
}

/// The files with receipts.
#[derive(Debug)]
pub struct Receipts {
    dir: PathBuf,
    rules: ReceiptRules,
    meta: Arc<Meta>,
    writing: Mutex<()>,
}

/// Why receipts could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ReceiptError {
    /// The metadata store failed.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// The disk failed.
    #[error("the disk with the receipts failed")]
    Disk(#[from] io::Error),
}

impl Receipts {
    /// Those in the folder `dir`, which is made when the first is written.
    #[must_use]
    pub fn new(dir: PathBuf, rules: ReceiptRules, meta: Arc<Meta>) -> Self {
        Self { dir, rules, meta, writing: Mutex::default() }
    }

    /// Writes what is stored and not written yet.
    ///
    /// # Durability
    /// What it wrote survives a power cut.
    ///
    /// # Errors
    /// If the disk or the metadata store fails; nothing is lost then.
    pub fn write(&self) -> Result<(), ReceiptError> {
        let _alone = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let stored = self.meta.read(|tx| tx.receipts(WRITTEN_AT_ONCE))?;
            let Some(last) = stored.last().map(|receipt| receipt.seq) else { return Ok(()) };
            let mut lines = Vec::new();
            for uploaded in stored {
                serde_json::to_writer(&mut lines, &receipt(uploaded)).map_err(io::Error::from)?;
                lines.push(b'\n');
            }
            self.append(&lines, last)?;
            self.meta.write(move |tx| tx.remove_receipts(last))?;
        }
    }

    fn append(&self, written: &[u8], last: i64) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        let path = self.dir.join(CURRENT);
        let length = lines::append(&path, 0o600, written)?;
        if length >= self.rules.file_bytes_max {
            std::fs::rename(&path, self.dir.join(format!("receipts-{last:020}.jsonl")))?;
            let closed = self.closed()?;
            let kept = self.rules.files_max.saturating_sub(1);
            for number in closed.iter().take(closed.len().saturating_sub(kept)) {
                std::fs::remove_file(self.path(Some(*number)))?;
            }
        }
        File::open(&self.dir)?.sync_all()
    }

    /// Receipts from `place` on for which `is_wanted`, at most `count`, and where to go on; none if that was all.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn read(
        &self,
        mut place: Place,
        count: usize,
        is_wanted: impl Fn(&Receipt) -> bool,
    ) -> Result<(Vec<Receipt>, Option<Place>), ReceiptError> {
        let mut found = Vec::new();
        let closed = self.closed()?;
        // The file that it was in may have got a number, or be gone, since.
        let (began_in, began_at) = (place.file, place.seq);
        let rest = |number: &i64| *number > began_at || Some(*number) == began_in;
        for file in closed.into_iter().filter(rest).map(Some).chain([None]) {
            if file != place.file {
                place = Place { file, offset: 0, seq: place.seq };
            }
            let opened = match File::open(self.path(file)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened?,
            };
            let mut reader = BufReader::new(opened);
            reader.seek(SeekFrom::Start(place.offset))?;
            let mut line = Vec::new();
            loop {
                line.clear();
                let read = reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
                if read == 0 {
                    break;
                }
                place.offset += read as u64;
                // What is torn was written again.
                let Ok(receipt) = serde_json::from_slice::<Receipt>(&line) else { continue };
                if receipt.seq <= place.seq {
                    continue;
                }
                place.seq = receipt.seq;
                if is_wanted(&receipt) {
                    found.push(receipt);
                }
                if found.len() >= count {
                    return Ok((found, Some(place)));
                }
            }
        }
        Ok((found, None))
    }

    /// Numbers of the files that are closed, the oldest first.
    fn closed(&self) -> io::Result<Vec<i64>> {
        let entries = match self.dir.read_dir() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut numbers = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix("receipts-"));
            let number = number.and_then(|rest| rest.strip_suffix(".jsonl")?.parse::<i64>().ok());
            numbers.extend(number);
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn path(&self, number: Option<i64>) -> PathBuf {
        match number {
            None => self.dir.join(CURRENT),
            Some(number) => self.dir.join(format!("receipts-{number:020}.jsonl")),
        }
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

fn receipt(uploaded: UploadedVersion) -> Receipt {
    let UploadedVersion { seq, share, path, key, size, sha256, etag, at } = uploaded;
    Receipt {
        seq,
        share,
        path: String::from_utf8_lossy(&path).into_owned(),
        key: key.to_string(),
        size,
        sha256,
        etag: etag.to_string(),
        at: jiff::Timestamp::from_millisecond(at).unwrap_or(jiff::Timestamp::UNIX_EPOCH),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::MetaError;
    use crate::types::{Attr, Digest, ETag, FileKind, Ino, Key, Sha256, ShareId, Time};

    struct Fixture {
        dir: tempfile::TempDir,
        meta: Arc<Meta>,
        share: ShareId,
        ino: Ino,
    }

    fn fixture() -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let meta = Arc::new(Meta::open(dir.path()).unwrap());
        let root = Attr::new(FileKind::Dir, 0o755, (0, 0), Time::default());
        let share = meta.write(move |tx| tx.add_share("cam", "s3://box", root)).unwrap();
        Fixture { dir, meta, share: share.id, ino: share.root }
    }

    impl Fixture {
        fn receipts(&self, file_bytes_max: u64, files_max: usize) -> Receipts {
            let rules = ReceiptRules { file_bytes_max, files_max };
            Receipts::new(self.dir.path().join("receipts"), rules, self.meta.clone())
        }

        fn upload(&self, key: &str) {
            let (share, ino, key) = (self.share, self.ino, Key::from_raw(key));
            let stored = self.meta.write(move |tx| -> Result<(), MetaError> {
                let digest = Some(Digest::whole(Sha256::of(b"abc")));
                tx.add_receipt(share, ino, &key, (Some(5), digest), &ETag("e".into()), 7)
            });
            stored.unwrap();
        }
    }

    fn keys(receipts: &Receipts, count: usize) -> Vec<String> {
        let (mut keys, mut place) = (Vec::new(), Some(Place::default()));
        while let Some(at) = place {
            let (found, next) = receipts.read(at, count, |_| true).unwrap();
            keys.extend(found.into_iter().map(|receipt| receipt.key));
            place = next;
        }
        keys
    }

    #[test]
    fn what_went_up_is_read_once_though_it_was_written_twice_or_torn() {
        let fixture = fixture();
        let receipts = fixture.receipts(1 << 20, 4);
        fixture.upload("a");
        fixture.upload("b");
        receipts.write().unwrap();
        let path = receipts.path(None);
        let lines = std::fs::read_to_string(&path).unwrap();
        // Died before it was forgotten, and again in the middle of a line.
        let half = &lines[..lines.len() / 2 + 20];
        std::fs::write(&path, format!("{lines}{half}")).unwrap();
        fixture.upload("c");
        receipts.write().unwrap();
        assert_eq!(keys(&receipts, 100), ["a", "b", "c"]);
        assert_eq!(keys(&receipts, 1), ["a", "b", "c"], "page by page");
        let json: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
        let expected = serde_json::json!({
            "seq": 1, "share": "cam", "path": "", "key": "a", "size": 5, "etag": "e",
            "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            "at": "1970-01-01T00:00:00.007Z",
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn files_are_closed_when_they_are_long_and_the_oldest_go() {
        let fixture = fixture();
        let receipts = fixture.receipts(1, 3);
        for key in ["a", "b", "c", "d", "e"] {
            fixture.upload(key);
            receipts.write().unwrap();
        }
        assert_eq!(keys(&receipts, 1), ["d", "e"], "two are closed, the third is to come");
        // Who reads goes on where he was, whatever the file is called by then.
        let (found, place) = receipts.read(Place::default(), 1, |_| true).unwrap();
        assert_eq!(found[0].key, "d");
        fixture.upload("f");
        receipts.write().unwrap();
        let (found, _) = receipts.read(place.unwrap(), 9, |_| true).unwrap();
        let keys: Vec<_> = found.into_iter().map(|receipt| receipt.key).collect();
        assert_eq!(keys, ["e", "f"]);
    }
}
