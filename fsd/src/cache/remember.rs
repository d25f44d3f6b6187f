//! What is here of clean files is noted in the index, after their bytes are on the disk.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::index::FileRecord;
use super::{Backing, Cache, CacheError, Result, lock};

/// Between two times that is noted what is here of closed files, and how many of them don't wait for that.
const REMEMBER_PAUSE: Duration = Duration::from_millis(100);
const REMEMBER_AT_ONCE: usize = 128;
/// So many files are synced one by one; of more, the whole disk is.
const SYNC_ALONE_MAX: usize = 8;

impl Cache {
    /// Notes, when the last handle of a clean file is closed or its upload is done, what is here of it.
    /// The bytes are made durable before the record names them.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn remember(&self, backing: &Backing) -> Result<()> {
        self.remember_all(&[backing])
    }

    /// As [`Cache::remember`], in the background and with others: to sync each file alone is what takes the time.
    pub fn remember_soon(self: &Arc<Self>, backing: Arc<Backing>) {
        let waiting = {
            let mut unnoted = lock(&self.unnoted);
            unnoted.push(backing);
            unnoted.len()
        };
        // Whoever finds nobody at work begins. Each keeps its backing file open, so not too many wait for a pause to end.
        let alone = !self.remembering.swap(true, Ordering::AcqRel);
        if !alone && waiting != REMEMBER_AT_ONCE {
            return;
        }
        let cache = self.clone();
        self.tasks.spawn("cache.remember", async move {
            loop {
                let remembering = cache.clone();
                let remembered = cache.tasks.blocking(move || remembering.remember_waiting()).await;
                if let Err(error) = remembered.map_err(CacheError::from).flatten() {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "what is here of some files could not be noted"
                    );
                }
                if !alone {
                    return;
                }
                cache.clock.sleep(REMEMBER_PAUSE).await;
                cache.remembering.store(false, Ordering::Release);
                if lock(&cache.unnoted).is_empty() || cache.remembering.swap(true, Ordering::AcqRel)
                {
                    return;
                }
            }
        });
    }

    /// Notes what waits for that, and so is not held open any more.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn remember_waiting(&self) -> Result<()> {
        let unnoted = std::mem::take(&mut *lock(&self.unnoted));
        self.remember_all(&unnoted.iter().map(AsRef::as_ref).collect::<Vec<_>>())
    }

    fn remember_all(&self, backings: &[&Backing]) -> Result<()> {
        // What comes in from here on is unsaved again, and not in these maps.
        let taken: Vec<_> = backings.iter().map(|backing| backing.take_unsaved()).collect();
        let unsaved: Vec<&Backing> = backings
            .iter()
            .zip(&taken)
            .filter_map(|(b, (unsaved, ..))| unsaved.then_some(*b))
            .collect();
        let synced = match unsaved.len() {
            ..=SYNC_ALONE_MAX => unsaved.iter().try_for_each(|backing| backing.file.sync_data()),
            _ => sync_disk_of(&self.data),
        };
        if let Err(error) = synced {
            unsaved.iter().for_each(|backing| backing.state().unsaved = true);
            return Err(error.into());
        }
        let used = self.clock.wall().secs;
        for (backing, (_, blocks, sums)) in backings.iter().zip(taken) {
            let record = FileRecord { backing: backing.number, used, sums, blocks };
            self.index.put_file(backing.ino, &record);
            self.account(backing)?;
            self.used_now(backing.ino);
        }
        Ok(())
    }
}

fn sync_disk_of(dir: &Path) -> io::Result<()> {
    Ok(nix::unistd::syncfs(std::fs::File::open(dir)?)?)
}
