//! Backing files.

use std::sync::Arc;
use std::time::Duration;

use super::super::{Result, Vfs, Work};
use super::{Code, Finding};
use crate::cache::BackingTrouble;
use crate::meta::Inode;

/// A backing file is there a moment before its record, and a moment after it.
const STRAY_PAUSE: Duration = Duration::from_secs(1);
/// What is being written is counted late.
const MISCOUNT_BYTES_MIN: u64 = 16 << 20;

impl Vfs {
    /// Looks at the backing file of a file that nobody has open.
    pub(super) fn check_file(&self, inode: &Inode, repair: bool, work: &Work) -> Result<()> {
        let ino = inode.ino;
        let precious = self.meta.scan(|tx| -> Result<_> {
            if tx.file_of(ino)? != ino || tx.is_writing(ino)? {
                return Ok(None);
            }
            let map = if inode.is_uploaded() { None } else { Some(tx.presence(ino)?) };
            Ok(Some(map))
        })?;
        // An alias has none of its own.
        let Some(precious) = precious else { return Ok(()) };
        let is_precious = precious.is_some();
        let Some(trouble) = self.cache.backing_trouble(inode, precious)? else { return Ok(()) };
        let has_same = |now: &Inode| (now.content, now.backing) == (inode.content, inode.backing);
        let now = self.meta.read(|tx| tx.inode(ino))?;
        if !now.as_ref().is_some_and(|now| has_same(now) && now.is_uploaded() != is_precious) {
            return Ok(());
        }
        let size = inode.attr.size;
        let (code, what) = match (is_precious, trouble) {
            (true, BackingTrouble::Missing) => (
                Code::BytesLost,
                "it is not uploaded, and its bytes are gone from the disk".to_owned(),
            ),
            (true, BackingTrouble::Length { here }) => (
                Code::BytesShort,
                format!("it is not uploaded, and the disk has {here} of its {size} bytes"),
            ),
            (true, BackingTrouble::Map) => (
                Code::BlocksUnknown,
                "it is not uploaded, and which part of it is here can't be read".to_owned(),
            ),
            (false, BackingTrouble::Missing) => {
                (Code::CachedWrong, "what is cached of it is gone from the disk".to_owned())
            }
            (false, BackingTrouble::Length { here }) => {
                (Code::CachedWrong, format!("what is cached has {here} bytes, and it has {size}"))
            }
            (false, BackingTrouble::Map) => {
                (Code::CachedWrong, "which part of it is cached can't be read".to_owned())
            }
        };
        let repaired = repair && !is_precious && self.cache.drop_cached(ino)?;
        work.find(Finding { code, at: self.shown(ino), what, repaired });
        Ok(())
    }

    /// Looks for backing files that belong to nothing, and counts what all take.
    pub(super) async fn check_strays(self: &Arc<Self>, repair: bool, work: &Work) -> Result<()> {
        let cache = self.cache.clone();
        let first = self.tasks.blocking(move || cache.strays()).await??;
        if !first.is_empty() {
            self.clock.sleep(STRAY_PAUSE).await;
            let cache = self.cache.clone();
            let again = self.tasks.blocking(move || cache.strays()).await??;
            for stray in again.into_iter().filter(|stray| first.contains(stray)) {
                work.find(Finding {
                    code: Code::StrayFile,
                    at: stray.path.display().to_string(),
                    what: format!("it takes {} bytes, and belongs to no file", stray.bytes),
                    repaired: repair && self.cache.move_stray_away(&stray)?,
                });
            }
        }
        let cache = self.cache.clone();
        let wrong = self.tasks.blocking(move || cache.miscounted()).await??;
        let is_written = !self.meta.read(|tx| tx.all_writing())?.is_empty();
        if wrong.unsigned_abs() >= MISCOUNT_BYTES_MIN && !is_written {
            if repair {
                self.cache.count_again(wrong);
            }
            let direction = if wrong > 0 { "more" } else { "less" };
            work.find(Finding {
                code: Code::Miscounted,
                at: "the cache".to_owned(),
                what: format!(
                    "{} bytes {direction} are counted than files take",
                    wrong.unsigned_abs()
                ),
                repaired: repair,
            });
        }
        Ok(())
    }
}
