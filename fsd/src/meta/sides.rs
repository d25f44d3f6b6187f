//! What rules have made of both sides' versions: conflicts that nobody has settled yet, the trash inside a store, and objects that stay
//! there though their files were deleted here. Times are milliseconds since 1970.

use rusqlite::{Row, params};

use super::inodes::{limit, unsigned};
use super::{Result, Tx};
use crate::types::{ETag, Ino, Key, ShareId};

/// Both sides had changed a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Its number; never given twice.
    pub id: i64,
    /// The share.
    pub share: ShareId,
    /// The file's path in the share when it happened, with slashes.
    pub path: Vec<u8>,
    /// The word of the rule by which it went on.
    pub rule: String,
    /// When.
    pub at: i64,
    /// The file that our version is now; none if it was set aside, or took the other's place.
    pub ino: Option<Ino>,
    /// The file that our version is in, in the folder `conflicts`.
    pub aside: Option<String>,
    /// How long our version is.
    pub size: u64,
    /// Our version's attributes, as an object's metadata would say them: JSON.
    pub attrs: String,
    /// The version of the object that ours was made from; none if ours was new.
    pub base: Option<ETag>,
    /// The cloud's version.
    pub their_etag: ETag,
    /// How long that is.
    pub their_size: u64,
    /// When the store took it in.
    pub their_mtime: i64,
}

/// An object in the trash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trashed {
    /// The share.
    pub share: ShareId,
    /// Where it is now.
    pub key: Key,
    /// The key that it had.
    pub path: Key,
    /// Its version.
    pub etag: ETag,
    /// Its length in bytes.
    pub size: u64,
    /// When its file was deleted.
    pub at: i64,
}

fn conflict(row: &Row<'_>) -> rusqlite::Result<Conflict> {
    Ok(Conflict {
        id: row.get("id")?,
        share: ShareId(row.get("share")?),
        path: row.get("path")?,
        rule: row.get("rule")?,
        at: row.get("at")?,
        ino: row.get::<_, Option<i64>>("ino")?.map(|ino| Ino(ino.cast_unsigned())),
        aside: row.get("aside")?,
        size: unsigned(row, "size")?,
        attrs: row.get("attrs")?,
        base: row.get::<_, Option<String>>("base")?.map(ETag),
        their_etag: ETag(row.get("their_etag")?),
        their_size: unsigned(row, "their_size")?,
        their_mtime: row.get("their_mtime")?,
    })
}

fn trashed(row: &Row<'_>) -> rusqlite::Result<Trashed> {
    Ok(Trashed {
        share: ShareId(row.get("share")?),
        key: Key::from_raw(row.get::<_, String>("object_key")?),
        path: Key::from_raw(row.get::<_, String>("path")?),
        etag: ETag(row.get("etag")?),
        size: unsigned(row, "size")?,
        at: row.get("at")?,
    })
}

impl Tx<'_> {
    /// Records a conflict; its number is given here.
    ///
    /// # Errors
    /// If the store fails.
    pub fn add_conflict(&self, conflict: &Conflict) -> Result<()> {
        let Conflict { id: _, share, path, rule, at, ino, aside, size, attrs, base, .. } = conflict;
        let Conflict { their_etag, their_size, their_mtime, .. } = conflict;
        self.run(
            "INSERT INTO conflict VALUES (NULL, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
            params![
                share.0,
                path,
                rule,
                at,
                ino.map(|ino| ino.0.cast_signed()),
                aside,
                size.cast_signed(),
                attrs,
                base.as_ref().map(|etag| &etag.0),
                their_etag.0,
                their_size.cast_signed(),
                their_mtime
            ],
        )?;
        Ok(())
    }

    /// Conflicts that are not settled, the latest first.
    ///
    /// # Errors
    /// If the store fails.
    pub fn conflicts(&self, count: usize) -> Result<Vec<Conflict>> {
        self.all("SELECT * FROM conflict ORDER BY id DESC LIMIT ?1", [limit(count)], conflict)
    }

    /// The conflict `id`.
    ///
    /// # Errors
    /// If the store fails.
    pub fn conflict(&self, id: i64) -> Result<Option<Conflict>> {
        self.one("SELECT * FROM conflict WHERE id = ?1", [id], conflict)
    }

    /// Forgets a conflict: it is settled.
    ///
    /// # Errors
    /// If the store fails.
    pub fn remove_conflict(&self, id: i64) -> Result<()> {
        self.run("DELETE FROM conflict WHERE id = ?1", [id])?;
        Ok(())
    }

    /// Records that an object lies in the trash.
    ///
    /// # Errors
    /// If the store fails.
    pub fn add_trashed(&self, trashed: &Trashed) -> Result<()> {
        let Trashed { share, key, path, etag, size, at } = trashed;
        self.run(
            "INSERT OR REPLACE INTO trash VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![share.0, key.as_str(), path.as_str(), etag.0, size.cast_signed(), at],
        )?;
        Ok(())
    }

    /// What of `share` lies in the trash since before `until`, the oldest first.
    ///
    /// # Errors
    /// If the store fails.
    pub fn trashed(&self, share: ShareId, until: i64, count: usize) -> Result<Vec<Trashed>> {
        let sql = "SELECT * FROM trash WHERE share = ?1 AND at < ?2 ORDER BY at LIMIT ?3";
        self.all(sql, params![share.0, until, limit(count)], trashed)
    }

    /// What lies in the trash of the object that had the key `path`, or of those below it; the latest first.
    ///
    /// # Errors
    /// If the store fails.
    pub fn trashed_at(&self, share: ShareId, path: &Key) -> Result<Vec<Trashed>> {
        let below = format!("{}/", path.as_str().trim_end_matches('/'));
        let sql = "SELECT * FROM trash WHERE share = ?1 AND (path = ?2 OR substr(path, 1, length(?3)) = ?3) ORDER BY at DESC";
        self.all(sql, params![share.0, path.as_str(), below], trashed)
    }

    /// What lies in the trash of the directories that `path` was in; the latest first.
    ///
    /// # Errors
    /// If the store fails.
    pub fn trashed_above(&self, share: ShareId, path: &Key) -> Result<Vec<Trashed>> {
        let sql = "SELECT * FROM trash WHERE share = ?1 AND path = ?2 ORDER BY at DESC";
        let mut above = Vec::new();
        for (at, _) in path.as_str().match_indices('/') {
            above.extend(self.all(sql, params![share.0, &path.as_str()[..=at]], trashed)?);
        }
        Ok(above)
    }

    /// The object `key` is not in the trash any more.
    ///
    /// # Errors
    /// If the store fails.
    pub fn remove_trashed(&self, share: ShareId, key: &Key) -> Result<()> {
        let sql = "DELETE FROM trash WHERE share = ?1 AND object_key = ?2";
        self.run(sql, params![share.0, key.as_str()])?;
        Ok(())
    }

    /// Says that the object `key`, version `etag`, stays in the store though its file was deleted here.
    ///
    /// # Errors
    /// If the store fails.
    pub fn keep_object(&self, share: ShareId, key: &Key, etag: &ETag) -> Result<()> {
        let sql = "INSERT OR REPLACE INTO kept VALUES (?1, ?2, ?3)";
        self.run(sql, params![share.0, key.as_str(), etag.0])?;
        Ok(())
    }

    /// The version of the object `key` that stays in the store though its file was deleted here.
    ///
    /// # Errors
    /// If the store fails.
    pub fn kept_object(&self, share: ShareId, key: &Key) -> Result<Option<ETag>> {
        let sql = "SELECT etag FROM kept WHERE share = ?1 AND object_key = ?2";
        self.one(sql, params![share.0, key.as_str()], |row| Ok(ETag(row.get(0)?)))
    }

    /// The object `key` is somebody's again, or another version.
    ///
    /// # Errors
    /// If the store fails.
    pub fn forget_kept(&self, share: ShareId, key: &Key) -> Result<()> {
        let sql = "DELETE FROM kept WHERE share = ?1 AND object_key = ?2";
        self.run(sql, params![share.0, key.as_str()])?;
        Ok(())
    }
}
