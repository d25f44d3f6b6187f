//! What differs from the cloud: items («inode X differs»), tombstones (objects whose file is gone).
//! Times are milliseconds since 1970.

use std::collections::BTreeSet;

use policies::order;
use rusqlite::{Row, params};

use super::inodes::{limit, unsigned};
use super::{Result, Tx};
use crate::types::{ETag, Ino, Key, ShareId};

/// An inode that differs from what the cloud has of it. It says nothing about how: that is in the records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The inode.
    pub ino: Ino,
    /// Its share.
    pub share: ShareId,
    /// When it began to differ, ms since 1970.
    pub since: i64,
    /// When it may be worked on, ms since 1970.
    pub due: i64,
    /// Tries that failed.
    pub tries: u32,
    /// It needs a person: nothing more is tried until it changes or is retried by hand.
    pub parked: bool,
    /// A person holds it back: nothing is tried until he lets it go, whatever becomes of the file.
    pub held: bool,
    /// Why the last try failed.
    pub error: Option<String>,
    /// What kind of failure that was.
    pub code: Option<String>,
    /// Its place in the queue, the lowest first; below zero if a person put it first.
    pub rank: i64,
}

/// An object whose file is gone here, and is to be deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tombstone {
    /// The share.
    pub share: ShareId,
    /// The object.
    pub key: Key,
    /// The version that the deleted file was, as far as that was stored.
    pub etag: Option<ETag>,
    /// The deleted file: what it was at other times goes too.
    pub ino: Ino,
    /// When its name went, ms since 1970.
    pub since: i64,
    /// When it may be worked on, ms since 1970.
    pub due: i64,
    /// Tries that failed.
    pub tries: u32,
    /// It needs a person.
    pub parked: bool,
    /// Why the last try failed.
    pub error: Option<String>,
    /// What kind of failure that was.
    pub code: Option<String>,
}

/// How much waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ItemCounts {
    /// Inodes that differ, parked ones included.
    pub items: u64,
    /// Objects to delete.
    pub tombstones: u64,
    /// Of both: what needs a person.
    pub parked: u64,
    /// What a person holds back.
    pub held: u64,
    /// What is to stay here, beside all of these.
    pub kept: u64,
    /// Bytes of files whose content is not uploaded.
    pub bytes: u64,
}

/// The code of what is to stay here: it waits for nobody.
pub const STAYS_HERE: &str = "stays-here";

/// In the column `parked`.
const PARKED: i64 = 1;
const HELD: i64 = 2;
/// Above so many items that are due, they are read in the order of their ranks; below, all are read and sorted.
const DUE_SORTED_MAX: i64 = 1024;

fn item(row: &Row<'_>) -> rusqlite::Result<Item> {
    Ok(Item {
        ino: Ino(unsigned(row, "ino")?),
        share: ShareId(row.get("share")?),
        since: row.get("since")?,
        due: row.get("due")?,
        tries: row.get("tries")?,
        parked: row.get::<_, i64>("parked")? == PARKED,
        held: row.get::<_, i64>("parked")? == HELD,
        error: row.get("error")?,
        code: row.get("code")?,
        rank: row.get("rank")?,
    })
}

fn tombstone(row: &Row<'_>) -> rusqlite::Result<Tombstone> {
    Ok(Tombstone {
        share: ShareId(row.get("share")?),
        key: Key::from_raw(row.get::<_, String>("object_key")?),
        etag: row.get::<_, Option<String>>("etag")?.map(ETag),
        ino: Ino(unsigned(row, "ino")?),
        since: row.get("since")?,
        due: row.get("due")?,
        tries: row.get("tries")?,
        parked: row.get("parked")?,
        error: row.get("error")?,
        code: row.get("code")?,
    })
}

/// Tables of what waits for a moment, and which rows do: said so that an index finds those that are due late.
const WAITING: [(&str, &str); 4] = [
    ("item", "share IN (SELECT id FROM share) AND parked IN (0, 1, 2)"),
    ("tombstone", "share IN (SELECT id FROM share) AND parked IN (0, 1)"),
    ("arrival", "true"),
    ("job", "state = 'waiting'"),
];

impl Tx<'_> {
    /// Says that `ino` and its aliases differ, and when that may be worked on. A failure from before is forgotten; who holds it back or
    /// has put it first has done so for what it becomes too.
    ///
    /// # Errors
    /// If the store fails.
    pub fn differs(&self, ino: Ino, share: ShareId, now: i64, due: i64) -> Result<()> {
        self.run(
            "INSERT INTO item SELECT ino, ?2, ?3, ?4, 0, 0, NULL, ?3 + min(size / ?5, ?6), NULL FROM inode WHERE ino = ?1 \
             ON CONFLICT (ino) DO UPDATE SET due = excluded.due, tries = 0, parked = CASE parked WHEN 2 THEN 2 ELSE 0 END, \
             error = NULL, code = NULL, rank = CASE WHEN rank < 0 THEN rank ELSE since + excluded.rank - excluded.since END",
            params![
                ino.0.cast_signed(),
                share.0,
                now,
                due,
                order::BYTES_PER_MILLISECOND.cast_signed(),
                order::HANDICAP_MILLIS_MAX
            ],
        )?;
        for alias in self.aliases(ino)? {
            self.differs(alias, share, now, due)?;
        }
        Ok(())
    }

    /// The item of `ino`.
    ///
    /// # Errors
    /// If the store fails.
    pub fn item(&self, ino: Ino) -> Result<Option<Item>> {
        self.one("SELECT * FROM item WHERE ino = ?1", [ino.0.cast_signed()], item)
    }

    /// `ino` differs no more: an upload of it that is under way is to be given up.
    ///
    /// # Errors
    /// If the store fails.
    pub fn remove_item(&self, ino: Ino) -> Result<()> {
        self.abandon_multipart(ino)?;
        self.run("DELETE FROM item WHERE ino = ?1", [ino.0.cast_signed()])?;
        Ok(())
    }

    /// Stores the outcome of a try.
    ///
    /// # Errors
    /// If the store fails.
    pub fn put_item(&self, item: &Item) -> Result<()> {
        let Item { ino, share: _, since: _, due, tries, parked, held, error, code, rank } = item;
        let parked = if *held { HELD } else { i64::from(*parked) };
        self.run(
            "UPDATE item SET due = ?2, tries = ?3, parked = ?4, error = ?5, code = ?6, rank = ?7 WHERE ino = ?1",
            params![ino.0.cast_signed(), due, tries, parked, error, code, rank],
        )?;
        Ok(())
    }

    /// Items of `share` that may be worked on at `now`, in the order of their ranks; none that is open for writing.
    ///
    /// # Errors
    /// If the store fails.
    pub fn due_items(&self, share: ShareId, now: i64, count: usize) -> Result<Vec<Item>> {
        // Each index is slow where the other is fast: one finds few that are due among many that are not, the other the first of many.
        let few = "SELECT count(*) FROM (SELECT 1 FROM item WHERE share = ?1 AND parked = 0 AND due <= ?2 LIMIT ?3)";
        let few = self.one(few, params![share.0, now, DUE_SORTED_MAX], |r| r.get::<_, i64>(0))?;
        let sql = match few.unwrap_or(0) < DUE_SORTED_MAX {
            true => {
                "SELECT * FROM item INDEXED BY item_due WHERE share = ?1 AND parked = 0 AND due <= ?2 \
                 AND ino NOT IN (SELECT ino FROM writing WHERE published IS NULL) ORDER BY rank LIMIT ?3"
            }
            false => {
                "SELECT * FROM item INDEXED BY item_rank WHERE share = ?1 AND parked = 0 AND due <= ?2 \
                 AND ino NOT IN (SELECT ino FROM writing WHERE published IS NULL) ORDER BY rank LIMIT ?3"
            }
        };
        self.all(sql, params![share.0, now, limit(count)], item)
    }

    /// As [`Tx::due_items`], but what became due last comes first.
    ///
    /// # Errors
    /// If the store fails.
    pub fn newest_items(&self, share: ShareId, now: i64, count: usize) -> Result<Vec<Item>> {
        let sql = "SELECT * FROM item INDEXED BY item_due WHERE share = ?1 AND parked = 0 AND due <= ?2 \
             AND ino NOT IN (SELECT ino FROM writing WHERE published IS NULL) ORDER BY due DESC LIMIT ?3";
        self.all(sql, params![share.0, now, limit(count)], item)
    }

    /// All items, in no order that means anything.
    ///
    /// # Errors
    /// If the store fails.
    pub fn items(&self, count: usize) -> Result<Vec<Item>> {
        self.all("SELECT * FROM item LIMIT ?1", [limit(count)], item)
    }

    /// Items of `share`: those that wait in the order of their ranks, then those that are parked, then those that are held back.
    ///
    /// # Errors
    /// If the store fails.
    pub fn ordered_items(&self, share: ShareId, count: usize) -> Result<Vec<Item>> {
        let sql = "SELECT * FROM item WHERE share = ?1 ORDER BY parked, rank LIMIT ?2";
        self.all(sql, params![share.0, limit(count)], item)
    }

    /// Since when the item of `share` differs that does so for longest, but for those that a person holds back.
    ///
    /// # Errors
    /// If the store fails.
    pub fn oldest_item(&self, share: ShareId) -> Result<Option<i64>> {
        let sql =
            "SELECT min(since) FROM item WHERE share = ?1 AND parked IN (0, 1) AND code IS NOT ?2";
        Ok(self.one(sql, params![share.0, STAYS_HERE], |r| r.get(0))?.flatten())
    }

    /// The shares whose uploads a person has paused; zero stands for all.
    ///
    /// # Errors
    /// If the store fails.
    pub fn paused(&self) -> Result<BTreeSet<ShareId>> {
        let read = |r: &Row<'_>| Ok(ShareId(r.get(0)?));
        Ok(self.all("SELECT share FROM paused", [], read)?.into_iter().collect())
    }

    /// What passed in `lane`: the day, bytes on it, bytes in its month.
    ///
    /// # Errors
    /// If the store fails.
    pub fn spent(&self, lane: &str) -> Result<Option<(String, u64, u64)>> {
        let sql = "SELECT date, day, month FROM spent WHERE lane = ?1";
        self.one(sql, [lane], |r| Ok((r.get(0)?, unsigned(r, 1)?, unsigned(r, 2)?)))
    }

    /// Stores what passed in `lane`.
    ///
    /// # Errors
    /// If the store fails.
    pub fn set_spent(&self, lane: &str, date: &str, day: u64, month: u64) -> Result<()> {
        self.run(
            "INSERT OR REPLACE INTO spent VALUES (?1, ?2, ?3, ?4)",
            params![lane, date, day.cast_signed(), month.cast_signed()],
        )?;
        Ok(())
    }

    /// Stores whether the uploads of `share` are paused.
    ///
    /// # Errors
    /// If the store fails.
    pub fn set_paused(&self, share: ShareId, paused: bool) -> Result<()> {
        let sql = match paused {
            true => "INSERT OR IGNORE INTO paused VALUES (?1)",
            false => "DELETE FROM paused WHERE share = ?1",
        };
        self.run(sql, [share.0])?;
        Ok(())
    }

    /// The first items of `share`, the oldest first.
    ///
    /// # Errors
    /// If the store fails.
    pub fn items_of(&self, share: ShareId, count: usize) -> Result<Vec<Item>> {
        let sql = "SELECT * FROM item WHERE share = ?1 ORDER BY since LIMIT ?2";
        self.all(sql, params![share.0, limit(count)], item)
    }

    /// When the next item or tombstone of `share` behind `now` becomes due.
    ///
    /// # Errors
    /// If the store fails.
    pub fn next_due(&self, share: ShareId, now: i64) -> Result<Option<i64>> {
        let next = |sql| {
            let due = self.one(sql, params![share.0, now], |r| r.get::<_, Option<i64>>(0));
            due.map(Option::flatten)
        };
        let item = next("SELECT min(due) FROM item WHERE share = ?1 AND parked = 0 AND due > ?2")?;
        let tombstone =
            next("SELECT min(due) FROM tombstone WHERE share = ?1 AND parked = 0 AND due > ?2")?;
        Ok(item.into_iter().chain(tombstone).min())
    }

    /// Lets everything that is parked, held back or waits after a failure be tried at once; tells how many there were.
    ///
    /// # Errors
    /// If the store fails.
    pub fn retry_all(&self, now: i64) -> Result<usize> {
        let items = self.run(
            "UPDATE item SET due = ?1, tries = 0, parked = 0 WHERE parked > 0 OR tries > 0",
            [now],
        )?;
        let tombstones = self.run(
            "UPDATE tombstone SET due = ?1, tries = 0, parked = 0 WHERE parked = 1 OR tries > 0",
            [now],
        )?;
        Ok(items + tombstones)
    }

    /// How much waits, in one share or in all.
    ///
    /// # Errors
    /// If the store fails.
    pub fn item_counts(&self, share: Option<ShareId>) -> Result<ItemCounts> {
        let share = share.map(|s| s.0);
        let counts = self.one(
            "SELECT count(*), coalesce(sum(item.parked = 1), 0), coalesce(sum(CASE WHEN inode.kind = 1 AND \
             (inode.object_etag IS NULL OR inode.object_content <> inode.content) THEN inode.size ELSE 0 END), 0), \
             coalesce(sum(item.parked = 2), 0), coalesce(sum(item.parked = 1 AND item.code IS ?2), 0) \
             FROM item JOIN inode USING (ino) WHERE ?1 IS NULL OR item.share = ?1",
            params![share, STAYS_HERE],
            |r| Ok([0, 1, 2, 3, 4].map(|column| r.get::<_, i64>(column))),
        )?;
        let gone = self.one(
            "SELECT count(*), coalesce(sum(parked), 0) FROM tombstone WHERE ?1 IS NULL OR share = ?1",
            [share],
            |r| Ok((r.get::<_, i64>(0)?, r.get::<_, i64>(1)?)),
        )?;
        let [items, parked, bytes, held, kept] = match counts {
            Some([items, parked, bytes, held, kept]) => [items?, parked?, bytes?, held?, kept?],
            None => [0; 5],
        };
        let (tombstones, parked_too) = gone.unwrap_or_default();
        Ok(ItemCounts {
            items: (items - kept).cast_unsigned(),
            tombstones: tombstones.cast_unsigned(),
            parked: (parked - kept + parked_too).cast_unsigned(),
            bytes: bytes.cast_unsigned(),
            held: held.cast_unsigned(),
            kept: kept.cast_unsigned(),
        })
    }

    /// Lets the objects of a deleted file go at once: nobody needs them any more.
    ///
    /// # Errors
    /// If the store fails.
    pub fn hasten_deletions(&self, ino: Ino) -> Result<()> {
        self.run("UPDATE tombstone SET due = 0 WHERE ino = ?1", [ino.0.cast_signed()])?;
        Ok(())
    }

    /// Says that the object `key` is to be deleted if it is the version `etag`, or any version of the file `ino`.
    ///
    /// # Errors
    /// If the store fails.
    pub fn bury(
        &self,
        share: ShareId,
        key: &Key,
        etag: Option<&ETag>,
        ino: Ino,
        due: i64,
    ) -> Result<()> {
        self.run(
            "INSERT INTO tombstone VALUES (?1, ?2, ?3, ?4, ?5, 0, 0, NULL, ?5, NULL) ON CONFLICT (share, object_key) DO UPDATE \
             SET etag = coalesce(excluded.etag, etag), due = excluded.due, tries = 0, parked = 0, error = NULL, code = NULL, \
             since = CASE ino WHEN excluded.ino THEN since ELSE excluded.since END, ino = excluded.ino",
            params![share.0, key.as_str(), etag.map(|e| e.0.as_str()), ino.0.cast_signed(), due],
        )?;
        Ok(())
    }

    /// Whether the object `key` (of a directory, any below it) may be there only since an upload is not stored yet, or until a
    /// deletion or a move is done: it is no news from the cloud.
    ///
    /// # Errors
    /// If the store fails.
    pub fn is_in_motion(&self, share: ShareId, key: &Key) -> Result<bool> {
        let from = key.as_str();
        let end = if key.is_dir() { key.end_of_dir() } else { format!("{from}\u{1}") };
        self.is_any_known(share, from, &end)
    }

    /// Whether anything is known of objects whose keys lie between `first` and `last` (without slashes at the end), or below these.
    ///
    /// # Errors
    /// If the store fails.
    pub fn is_known_between(&self, share: ShareId, first: &Key, last: &Key) -> Result<bool> {
        // Behind all that begins with a slash.
        let (from, end) = (first.as_str(), format!("{last}0"));
        let sql = "SELECT EXISTS (SELECT 1 FROM kept WHERE share = ?1 AND object_key >= ?2 AND object_key < ?3)";
        let is_kept = self.one(sql, params![share.0, from, end], |r| r.get(0))?.unwrap_or(false);
        Ok(is_kept || self.is_any_known(share, from, &end)?)
    }

    /// Whether anything is known of objects whose keys are at or behind `from` and before `end`.
    fn is_any_known(&self, share: ShareId, from: &str, end: &str) -> Result<bool> {
        let sql = "SELECT EXISTS (SELECT 1 FROM tombstone WHERE share = ?1 AND object_key >= ?2 AND object_key < ?3) \
             OR EXISTS (SELECT 1 FROM attempt WHERE share = ?1 AND object_key >= ?2 AND object_key < ?3) \
             OR EXISTS (SELECT 1 FROM inode WHERE share = ?1 AND object_key >= ?2 AND object_key < ?3)";
        Ok(self.one(sql, params![share.0, from, end], |r| r.get(0))?.unwrap_or(false))
    }

    /// Lets all that is due after `now` be due so many milliseconds earlier: the clock was set back.
    ///
    /// # Errors
    /// If the store fails.
    pub fn hasten_by(&self, millis: i64, now: i64) -> Result<()> {
        for (table, waits) in WAITING {
            let sql =
                format!("UPDATE {table} SET due = max(due - ?1, ?2) WHERE {waits} AND due > ?2");
            self.run(&sql, params![millis, now])?;
        }
        Ok(())
    }

    /// Lets nothing be due later than `latest`: a clock that was wrong when it was stored would have it wait for years.
    ///
    /// # Errors
    /// If the store fails.
    pub fn hasten_to(&self, latest: i64) -> Result<()> {
        for (table, waits) in WAITING {
            let sql = format!("UPDATE {table} SET due = ?1 WHERE {waits} AND due > ?1");
            self.run(&sql, [latest])?;
        }
        Ok(())
    }

    /// The tombstone on `key`.
    ///
    /// # Errors
    /// If the store fails.
    pub fn tombstone(&self, share: ShareId, key: &Key) -> Result<Option<Tombstone>> {
        let sql = "SELECT * FROM tombstone WHERE share = ?1 AND object_key = ?2";
        self.one(sql, params![share.0, key.as_str()], tombstone)
    }

    /// Whether anything below the directory `key` is still to be deleted.
    ///
    /// # Errors
    /// If the store fails.
    pub fn is_tombstone_below(&self, share: ShareId, key: &Key) -> Result<bool> {
        if !key.is_dir() {
            return Ok(false);
        }
        let sql = "SELECT EXISTS (SELECT 1 FROM tombstone WHERE share = ?1 AND object_key > ?2 AND object_key < ?3)";
        let range = params![share.0, key.as_str(), key.end_of_dir()];
        Ok(self.one(sql, range, |r| r.get(0))?.unwrap_or(false))
    }

    /// The object of a tombstone is gone, or is somebody's again: so is one that was to stay.
    ///
    /// # Errors
    /// If the store fails.
    pub fn remove_tombstone(&self, share: ShareId, key: &Key) -> Result<()> {
        let sql = "DELETE FROM tombstone WHERE share = ?1 AND object_key = ?2";
        self.run(sql, params![share.0, key.as_str()])?;
        self.forget_kept(share, key)?;
        Ok(())
    }

    /// Stores the outcome of a try.
    ///
    /// # Errors
    /// If the store fails.
    pub fn put_tombstone(&self, tombstone: &Tombstone) -> Result<()> {
        let Tombstone { share, key, etag: _, ino: _, since: _, due, tries, parked, error, code } =
            tombstone;
        self.run(
            "UPDATE tombstone SET due = ?3, tries = ?4, parked = ?5, error = ?6, code = ?7 WHERE share = ?1 AND object_key = ?2",
            params![share.0, key.as_str(), due, tries, parked, error, code],
        )?;
        Ok(())
    }

    /// Tombstones of `share` that may be worked on at `now`.
    ///
    /// # Errors
    /// If the store fails.
    pub fn due_tombstones(&self, share: ShareId, now: i64, count: usize) -> Result<Vec<Tombstone>> {
        let sql = "SELECT * FROM tombstone WHERE share = ?1 AND parked = 0 AND due <= ?2 ORDER BY due LIMIT ?3";
        self.all(sql, params![share.0, now, limit(count)], tombstone)
    }

    /// All tombstones.
    ///
    /// # Errors
    /// If the store fails.
    pub fn tombstones(&self, count: usize) -> Result<Vec<Tombstone>> {
        self.all("SELECT * FROM tombstone ORDER BY due LIMIT ?1", [limit(count)], tombstone)
    }
}
