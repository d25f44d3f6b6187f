//! What went up and has no line in the file of receipts yet.

use rusqlite::{Row, params};

use super::inodes::limit;
use super::{Result, Tx};
use crate::types::{Digest, ETag, Ino, Key, ShareId};

/// A version of a file that went up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadedVersion {
    /// Its number; never given twice, and each is greater than those before.
    pub seq: i64,
    /// The share's name.
    pub share: String,
    /// The file's path in the share when it was uploaded, with slashes.
    pub path: Vec<u8>,
    /// The object.
    pub key: Key,
    /// Its length in bytes.
    pub size: Option<u64>,
    /// Its digest as the object's metadata has it: SHA-256 in hexadecimal, of its bytes or of its parts' sums.
    pub sha256: Option<String>,
    /// Its version.
    pub etag: ETag,
    /// When that was stored, milliseconds since 1970.
    pub at: i64,
}

fn uploaded(row: &Row<'_>) -> rusqlite::Result<UploadedVersion> {
    Ok(UploadedVersion {
        seq: row.get("seq")?,
        share: row.get("share")?,
        path: row.get("path")?,
        key: Key::from_raw(row.get::<_, String>("object_key")?),
        size: row.get::<_, Option<i64>>("size")?.map(i64::cast_unsigned),
        sha256: row.get("sha256")?,
        etag: ETag(row.get("etag")?),
        at: row.get("at")?,
    })
}

impl Tx<'_> {
    /// Records that a version of the file `ino` went up.
    ///
    /// # Errors
    /// If the store fails.
    pub fn add_receipt(
        &self,
        share: ShareId,
        ino: Ino,
        key: &Key,
        (size, digest): (Option<u64>, Option<Digest>),
        etag: &ETag,
        at: i64,
    ) -> Result<()> {
        let path = self.path(ino)?.unwrap_or_default().join(&b'/');
        let size = size.map(u64::cast_signed);
        self.run(
            "INSERT INTO receipt SELECT NULL, name, ?2, ?3, ?4, ?7, ?5, ?6 FROM share WHERE id = ?1",
            params![share.0, path, key.as_str(), size, etag.0, at, digest.map(|digest| digest.to_string())],
        )?;
        Ok(())
    }

    /// The first `count` that are recorded.
    ///
    /// # Errors
    /// If the store fails.
    pub fn receipts(&self, count: usize) -> Result<Vec<UploadedVersion>> {
        self.all("SELECT * FROM receipt ORDER BY seq LIMIT ?1", [limit(count)], uploaded)
    }

    /// Those up to the number `last` are written.
    ///
    /// # Errors
    /// If the store fails.
    pub fn remove_receipts(&self, last: i64) -> Result<()> {
        self.run("DELETE FROM receipt WHERE seq <= ?1", [last])?;
        Ok(())
    }
}
