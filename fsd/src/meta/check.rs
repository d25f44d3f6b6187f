//! Rows that do not fit together. None should ever be found; a disk that lies or an old copy of the store makes them.

use std::ops::Range;

use rusqlite::{Row, params};

use super::inodes::unsigned;
use super::{Result, Tx};
use crate::types::Ino;

/// Tables whose rows belong to an inode, and by which column.
const BELONGING: [(&str, &str); 10] = [
    ("item", "ino"),
    ("presence", "ino"),
    ("writing", "ino"),
    ("xattr", "ino"),
    ("attempt", "ino"),
    ("alias", "ino"),
    ("alias", "file"),
    ("multipart", "ino"),
    ("part", "ino"),
    ("object_part", "ino"),
];

/// A name that leads nowhere, or nowhere from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StrayName {
    /// The directory that it is in.
    pub parent: Ino,
    /// The name.
    pub name: Vec<u8>,
    /// What it names.
    pub ino: Ino,
    /// The directory is there, and what it names is not; else it is the other way round, or neither is there.
    pub has_parent: bool,
}

fn ino(row: &Row<'_>) -> rusqlite::Result<Ino> {
    Ok(Ino(unsigned(row, 0)?))
}

impl Tx<'_> {
    /// Those of the inodes `numbers` that should have a name, and have none.
    ///
    /// # Errors
    /// If the store fails.
    pub fn nameless(&self, numbers: Range<u64>) -> Result<Vec<Ino>> {
        let sql = "SELECT ino FROM inode i WHERE ino >= ?1 AND ino < ?2 AND nlink > 0 \
             AND NOT EXISTS (SELECT 1 FROM dentry d WHERE d.ino = i.ino) AND ino NOT IN (SELECT root FROM share)";
        self.all(sql, params![numbers.start.cast_signed(), numbers.end.cast_signed()], ino)
    }

    /// Names in the directories `numbers` that name nothing, or are in nothing.
    ///
    /// # Errors
    /// If the store fails.
    pub fn stray_names(&self, numbers: Range<u64>) -> Result<Vec<StrayName>> {
        let sql = "SELECT parent, name, ino, EXISTS (SELECT 1 FROM inode i WHERE i.ino = d.parent) AS has_parent \
             FROM dentry d WHERE parent >= ?1 AND parent < ?2 \
             AND (NOT has_parent OR NOT EXISTS (SELECT 1 FROM inode i WHERE i.ino = d.ino))";
        let read = |row: &Row<'_>| {
            Ok(StrayName {
                parent: Ino(unsigned(row, 0)?),
                name: row.get(1)?,
                ino: Ino(unsigned(row, 2)?),
                has_parent: row.get(3)?,
            })
        };
        self.all(sql, params![numbers.start.cast_signed(), numbers.end.cast_signed()], read)
    }

    /// Inodes that are not there, and of which something is noted.
    ///
    /// # Errors
    /// If the store fails.
    pub fn unknown_owners(&self) -> Result<Vec<(&'static str, Ino)>> {
        let mut found = Vec::new();
        for (table, column) in BELONGING {
            let sql = format!(
                "SELECT DISTINCT {column} FROM {table} WHERE {column} NOT IN (SELECT ino FROM inode)"
            );
            found.extend(self.all(&sql, [], ino)?.into_iter().map(|ino| (table, ino)));
        }
        Ok(found)
    }

    /// Forgets what is noted of `ino`, if it is not there.
    ///
    /// # Errors
    /// If the store fails.
    pub fn forget_owner(&self, ino: Ino) -> Result<()> {
        if self.inode(ino)?.is_some() {
            return Ok(());
        }
        // Its parts lie in the store, and are paid for.
        self.abandon_multipart(ino)?;
        for (table, column) in BELONGING {
            self.run(&format!("DELETE FROM {table} WHERE {column} = ?1"), [ino.0.cast_signed()])?;
        }
        Ok(())
    }

    /// How many names the inode `ino` has by the names that are there: of a directory, two and one for each directory in it.
    ///
    /// # Errors
    /// If the store fails.
    pub fn count_links(&self, ino: Ino, is_dir: bool) -> Result<u32> {
        let sql = match is_dir {
            true => {
                "SELECT 2 + count(*) FROM dentry d CROSS JOIN inode i ON i.ino = d.ino WHERE d.parent = ?1 AND i.kind = 2"
            }
            false => {
                "SELECT count(*) FROM dentry WHERE ino = ?1 OR ino IN (SELECT ino FROM alias WHERE file = ?1)"
            }
        };
        Ok(self.one(sql, [ino.0.cast_signed()], |row| row.get(0))?.unwrap_or(0))
    }
}
