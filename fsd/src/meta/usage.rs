//! What the files of each user take, in the shares where that is limited: counted by the database itself, in each transaction that
//! changes it, and from the start anew.

use rusqlite::params;

use super::inodes::unsigned;
use super::{Result, Tx};
use crate::types::ShareId;

const COUNTED: &str = "
CREATE TEMP TABLE IF NOT EXISTS counted (share INTEGER PRIMARY KEY);
CREATE TEMP TABLE IF NOT EXISTS usage (
  share INTEGER NOT NULL, uid INTEGER NOT NULL, bytes INTEGER NOT NULL, PRIMARY KEY (share, uid)) WITHOUT ROWID;
CREATE TEMP TRIGGER IF NOT EXISTS usage_made AFTER INSERT ON main.inode
  WHEN new.kind = 1 AND new.share IN (SELECT share FROM counted) BEGIN
  INSERT INTO usage VALUES (new.share, new.uid, new.size) ON CONFLICT DO UPDATE SET bytes = bytes + excluded.bytes;
END;
CREATE TEMP TRIGGER IF NOT EXISTS usage_gone AFTER DELETE ON main.inode
  WHEN old.kind = 1 AND old.share IN (SELECT share FROM counted) BEGIN
  UPDATE usage SET bytes = bytes - old.size WHERE share = old.share AND uid = old.uid;
END;
CREATE TEMP TRIGGER IF NOT EXISTS usage_changed AFTER UPDATE OF size, uid, kind ON main.inode
  WHEN (new.size <> old.size OR new.uid <> old.uid OR new.kind <> old.kind) AND new.share IN (SELECT share FROM counted) BEGIN
  UPDATE usage SET bytes = bytes - old.size WHERE old.kind = 1 AND share = old.share AND uid = old.uid;
  INSERT INTO usage SELECT new.share, new.uid, new.size WHERE new.kind = 1
    ON CONFLICT DO UPDATE SET bytes = bytes + excluded.bytes;
END;
";

impl Tx<'_> {
    /// Counts from here on what the files of each user take in `share`. Only a transaction that writes sees it.
    ///
    /// # Errors
    /// If the store fails.
    pub fn count_usage(&self, share: ShareId) -> Result<()> {
        self.0.execute_batch(COUNTED)?;
        self.run("INSERT OR IGNORE INTO counted VALUES (?1)", [share.0])?;
        let sum = "INSERT OR REPLACE INTO usage SELECT share, uid, sum(size) FROM inode WHERE kind = 1 AND share = ?1 GROUP BY uid";
        self.run(sum, [share.0])?;
        Ok(())
    }

    /// Bytes that the files of the user `uid` take in `share`, by their lengths, if they are counted there.
    ///
    /// # Errors
    /// If the store fails, or nothing is counted.
    pub fn usage(&self, share: ShareId, uid: u32) -> Result<u64> {
        let sql = "SELECT bytes FROM usage WHERE share = ?1 AND uid = ?2";
        Ok(self.one(sql, params![share.0, uid], |r| unsigned(r, 0))?.unwrap_or(0))
    }

    /// Users and the bytes that their files take in `share`.
    ///
    /// # Errors
    /// If the store fails, or nothing is counted.
    pub fn usages(&self, share: ShareId) -> Result<Vec<(u32, u64)>> {
        let sql = "SELECT uid, bytes FROM usage WHERE share = ?1 ORDER BY uid";
        self.all(sql, [share.0], |r| Ok((r.get(0)?, unsigned(r, 1)?)))
    }
}
