//! What stays in the cache: patterns of paths, for each share.

use std::collections::BTreeMap;

use rusqlite::params;

use super::{Result, Tx};
use crate::types::ShareId;

impl Tx<'_> {
    /// All patterns, by share.
    ///
    /// # Errors
    /// If the store fails.
    pub fn pins(&self) -> Result<BTreeMap<ShareId, Vec<String>>> {
        let sql = "SELECT share, pattern FROM pin ORDER BY share, pattern";
        let mut pins = BTreeMap::<ShareId, Vec<String>>::new();
        for (share, pattern) in self.all(sql, [], |r| Ok((ShareId(r.get(0)?), r.get(1)?)))? {
            pins.entry(share).or_default().push(pattern);
        }
        Ok(pins)
    }

    /// Adds a pattern.
    ///
    /// # Errors
    /// If the store fails.
    pub fn pin(&self, share: ShareId, pattern: &str) -> Result<()> {
        self.run("INSERT OR IGNORE INTO pin VALUES (?1, ?2)", params![share.0, pattern])?;
        Ok(())
    }

    /// Removes a pattern; tells whether it was there.
    ///
    /// # Errors
    /// If the store fails.
    pub fn unpin(&self, share: ShareId, pattern: &str) -> Result<bool> {
        let sql = "DELETE FROM pin WHERE share = ?1 AND pattern = ?2";
        Ok(self.run(sql, params![share.0, pattern])? > 0)
    }
}
