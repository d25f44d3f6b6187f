//! Multipart uploads: those under way with their finished parts, those that are to be given up, and of what parts objects were made.

use rusqlite::{Row, params};

use super::inodes::unsigned;
use super::{Result, Tx};
use crate::types::{Digest, Ino, Key, Sha256, ShareId};

/// A multipart upload under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Multipart {
    /// The inode.
    pub ino: Ino,
    /// Its share.
    pub share: ShareId,
    /// The key that it will have.
    pub key: Key,
    /// The store's name for the upload.
    pub upload: String,
    /// The content version that is uploaded.
    pub content: u64,
    /// Its length.
    pub size: u64,
    /// The length of each part but the last.
    pub part_bytes: u64,
}

/// A part that the store has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its number, from 0.
    pub number: u32,
    /// The store's name for it.
    pub id: String,
    /// What is in it, if that is known.
    pub digest: Option<Sha256>,
}

/// An upload that nobody will complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Abandoned {
    /// The share.
    pub share: ShareId,
    /// The key that it was to have.
    pub key: Key,
    /// The store's name for it.
    pub upload: String,
}

fn part(row: &Row<'_>) -> rusqlite::Result<Part> {
    let digest = row.get::<_, Option<Vec<u8>>>(2)?;
    Ok(Part {
        number: row.get(0)?,
        id: row.get(1)?,
        digest: digest.and_then(|bytes| Sha256::from_bytes(&bytes)),
    })
}

impl Tx<'_> {
    /// The multipart upload of `ino` that is under way, with the parts that are finished.
    ///
    /// # Errors
    /// If the store fails.
    pub fn multipart(&self, ino: Ino) -> Result<Option<(Multipart, Vec<Part>)>> {
        let number = [ino.0.cast_signed()];
        let found = self.one("SELECT * FROM multipart WHERE ino = ?1", number, |r| {
            Ok(Multipart {
                ino,
                share: ShareId(r.get("share")?),
                key: Key::from_raw(r.get::<_, String>("object_key")?),
                upload: r.get("upload")?,
                content: unsigned(r, "content")?,
                size: unsigned(r, "size")?,
                part_bytes: unsigned(r, "part_bytes")?,
            })
        })?;
        let Some(multipart) = found else { return Ok(None) };
        let sql = "SELECT number, id, digest FROM part WHERE ino = ?1 ORDER BY number";
        Ok(Some((multipart, self.all(sql, number, part)?)))
    }

    /// Records a multipart upload that the store has begun; if the inode is not there any more, that it is to be given up. So is one that
    /// was under way.
    ///
    /// # Errors
    /// If the store fails.
    pub fn begin_multipart(&self, multipart: &Multipart) -> Result<()> {
        let Multipart { ino, share, key, upload, content, size, part_bytes } = multipart;
        self.abandon_multipart(*ino)?;
        if self.inode(*ino)?.is_none() {
            let sql = "INSERT OR IGNORE INTO abandoned VALUES (?1, ?2, ?3)";
            self.run(sql, params![share.0, key.as_str(), upload])?;
            return Ok(());
        }
        self.run(
            "INSERT INTO multipart VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                ino.0.cast_signed(),
                share.0,
                key.as_str(),
                upload,
                content.cast_signed(),
                size.cast_signed(),
                part_bytes.cast_signed()
            ],
        )?;
        Ok(())
    }

    /// Records a finished part of `upload`, if that still is under way.
    ///
    /// # Errors
    /// If the store fails.
    pub fn add_part(&self, ino: Ino, upload: &str, part: &Part) -> Result<()> {
        let Part { number, id, digest } = part;
        let digest = digest.as_ref().map(|digest| &digest.bytes()[..]);
        self.run(
            "INSERT OR REPLACE INTO part SELECT ?1, ?2, ?3, ?4 FROM multipart WHERE ino = ?1 AND upload = ?5",
            params![ino.0.cast_signed(), number, id, digest, upload],
        )?;
        Ok(())
    }

    /// Ends the upload of `ino`, which became an object: its parts are what that is made of. Parts of the object before count no more.
    ///
    /// # Errors
    /// If the store fails.
    pub fn complete_multipart(&self, ino: Ino) -> Result<()> {
        self.forget_object_parts(ino)?;
        let number = [ino.0.cast_signed()];
        self.run(
            "INSERT INTO object_part SELECT ino, number, id, digest FROM part WHERE ino = ?1 AND digest IS NOT NULL",
            number,
        )?;
        self.end_multipart(ino)
    }

    /// Records that the upload of `ino`, if there is one, is to be given up.
    ///
    /// # Errors
    /// If the store fails.
    pub fn abandon_multipart(&self, ino: Ino) -> Result<()> {
        let sql = "INSERT OR IGNORE INTO abandoned SELECT share, object_key, upload FROM multipart WHERE ino = ?1";
        if self.run(sql, [ino.0.cast_signed()])? > 0 {
            self.end_multipart(ino)?;
        }
        Ok(())
    }

    fn end_multipart(&self, ino: Ino) -> Result<()> {
        self.run("DELETE FROM multipart WHERE ino = ?1", [ino.0.cast_signed()])?;
        self.run("DELETE FROM part WHERE ino = ?1", [ino.0.cast_signed()])?;
        Ok(())
    }

    /// Uploads of `share` that are to be given up.
    ///
    /// # Errors
    /// If the store fails.
    pub fn abandoned(&self, share: ShareId) -> Result<Vec<Abandoned>> {
        let sql = "SELECT object_key, upload FROM abandoned WHERE share = ?1";
        self.all(sql, [share.0], |r| {
            Ok(Abandoned { share, key: Key::from_raw(r.get::<_, String>(0)?), upload: r.get(1)? })
        })
    }

    /// An upload was given up.
    ///
    /// # Errors
    /// If the store fails.
    pub fn end_abandoned(&self, abandoned: &Abandoned) -> Result<()> {
        let Abandoned { share, key, upload } = abandoned;
        self.run(
            "DELETE FROM abandoned WHERE share = ?1 AND object_key = ?2 AND upload = ?3",
            params![share.0, key.as_str(), upload],
        )?;
        Ok(())
    }

    /// The parts that the object on record for `ino` was made of; none if they are not known, or are not those whose digest it has.
    ///
    /// # Errors
    /// If the store fails.
    pub fn object_parts(&self, ino: Ino) -> Result<Vec<Part>> {
        let object = self.inode(ino)?.and_then(|inode| inode.object);
        let digest = object.and_then(|object| object.digest);
        let Some(Digest { part_bytes: Some(part_bytes), .. }) = digest else {
            return Ok(Vec::new());
        };
        let sql = "SELECT number, id, digest FROM object_part WHERE ino = ?1 ORDER BY number";
        let parts = self.all(sql, [ino.0.cast_signed()], part)?;
        let sums = parts.iter().filter_map(|part| part.digest);
        let are_its = Some(Digest::of_parts(sums, part_bytes)) == digest;
        Ok(if are_its { parts } else { Vec::new() })
    }

    /// Forgets of what parts the object of `ino` was made.
    ///
    /// # Errors
    /// If the store fails.
    pub fn forget_object_parts(&self, ino: Ino) -> Result<()> {
        self.run("DELETE FROM object_part WHERE ino = ?1", [ino.0.cast_signed()])?;
        Ok(())
    }
}
