//! Objects that may be there since an upload whose answer was lost, and that stand where something else has to be.

use rusqlite::{Row, params};

use super::{Result, Tx};
use crate::types::{Ino, Key, ShareId};

impl Tx<'_> {
    /// Buries what no record has but somebody may have by [`Tx::attempt`], where a store with real directories can't have it beside `key`:
    /// a file on the way to it, or anything below the place of a file. Tells how much that was; it is no attempt from then on.
    ///
    /// # Errors
    /// If the store fails.
    pub fn bury_attempts_around(&self, share: ShareId, key: &Key, now: i64) -> Result<usize> {
        let place = key.as_str().trim_end_matches('/');
        let mut found = Vec::new();
        let read = |r: &Row<'_>| {
            let ino = Ino(r.get::<_, i64>("ino")?.cast_unsigned());
            Ok((Key::from_raw(r.get::<_, String>("object_key")?), ino))
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
