//! Objects that may be there since an upload whose answer was lost.

use rusqlite::{Row, params};

use super::inodes::unsigned;
use super::{Result, Tx};
use crate::types::{Ino, Key, ShareId};

impl Tx<'_> {
    /// Says that `ino` may come to have an object `key`: it is about to be sent, and the answer may be lost.
    ///
    /// # Errors
    /// If the store fails.
    pub fn attempt(&self, ino: Ino, share: ShareId, key: &Key) -> Result<()> {
        let sql = "INSERT OR IGNORE INTO attempt VALUES (?1, ?2, ?3)";
        self.run(sql, params![share.0, key.as_str(), ino.0.cast_signed()])?;
        Ok(())
    }

    /// Whether anybody may have an object `key` by [`Tx::attempt`].
    ///
    /// # Errors
    /// If the store fails.
    pub fn is_attempted(&self, share: ShareId, key: &Key) -> Result<bool> {
        let sql = "SELECT 1 FROM attempt WHERE share = ?1 AND object_key = ?2 LIMIT 1";
        Ok(self.one(sql, params![share.0, key.as_str()], |_| Ok(()))?.is_some())
    }

    /// Ends what [`Tx::attempt`] has begun: `ino` has the object `kept`, or none, and whatever it may have elsewhere is to be
    /// deleted.
    ///
    /// # Errors
    /// If the store fails.
    pub fn end_attempts(
        &self,
        ino: Ino,
        share: ShareId,
        kept: Option<&Key>,
        due: i64,
    ) -> Result<()> {
        let number = [ino.0.cast_signed()];
        let read = |r: &Row<'_>| Ok(Key::from_raw(r.get::<_, String>(0)?));
        let keys = self.all("SELECT object_key FROM attempt WHERE ino = ?1", number, read)?;
        for key in keys.iter().filter(|key| Some(*key) != kept) {
            self.bury(share, key, None, ino, due)?;
        }
        if !keys.is_empty() {
            self.run("DELETE FROM attempt WHERE ino = ?1", number)?;
        }
        Ok(())
    }

    /// Buries what no record has but somebody may have by [`Tx::attempt`], where a store with real directories can't have it beside `key`:
    /// a file on the way to it, or anything below the place of a file. Tells how much that was; it is no attempt from then on.
    ///
    /// # Errors
    /// If the store fails.
    pub fn bury_attempts_around(&self, share: ShareId, key: &Key, now: i64) -> Result<usize> {
        let place = key.as_str().trim_end_matches('/');
        let mut found = Vec::new();
        let read = |r: &Row<'_>| {
            Ok((Key::from_raw(r.get::<_, String>("object_key")?), Ino(unsigned(r, "ino")?)))
        };
        let above = place.match_indices('/').map(|(slash, _)| &place[..slash]);
        for file in above.chain(key.is_dir().then_some(place)) {
            let sql = "SELECT object_key, ino FROM attempt WHERE share = ?1 AND object_key = ?2";
            found.extend(self.all(sql, params![share.0, file], read)?);
        }
        if !key.is_dir() {
            let dir = Key::from_raw(format!("{place}/"));
            let sql = "SELECT object_key, ino FROM attempt WHERE share = ?1 AND object_key >= ?2 AND object_key < ?3";
            found.extend(self.all(sql, params![share.0, dir.as_str(), dir.end_of_dir()], read)?);
        }
        let mut buried = 0;
        for (there, ino) in found {
            if self.inode_by_key(share, &there)?.is_some() {
                continue;
            }
            self.bury(share, &there, None, ino, now)?;
            let sql = "DELETE FROM attempt WHERE share = ?1 AND object_key = ?2 AND ino = ?3";
            self.run(sql, params![share.0, there.as_str(), ino.0.cast_signed()])?;
            buried += 1;
        }
        Ok(buried)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::Meta;

    #[test]
    fn what_may_stand_in_the_way_is_buried_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let meta = Meta::open(folder.path()).unwrap();
        let share = ShareId(1);
        let attempted = ["a", "a/b", "a/b/c", "a/b/c/d", "a/bc", "b/", "b/x"];
        let buried_around = |key: &str| {
            let key = Key::from_raw(key);
            meta.write(move |tx| -> Result<Vec<String>> {
                for (n, there) in attempted.iter().enumerate() {
                    tx.attempt(Ino(n as u64 + 10), share, &Key::from_raw(*there))?;
                }
                let count = tx.bury_attempts_around(share, &key, 0)?;
                let buried = tx.tombstones(100)?;
                assert_eq!(count, buried.len());
                for tombstone in &buried {
                    assert!(!tx.is_attempted(share, &tombstone.key)?);
                    tx.remove_tombstone(share, &tombstone.key)?;
                }
                Ok(buried.into_iter().map(|tombstone| tombstone.key.as_str().to_owned()).collect())
            })
            .unwrap()
        };
        assert_eq!(buried_around("a/b/c"), ["a", "a/b", "a/b/c/d"]);
        assert_eq!(buried_around("a/b/"), ["a", "a/b"]);
        assert_eq!(buried_around("b"), ["b/", "b/x"]);
        assert!(buried_around("c").is_empty());
    }
}
