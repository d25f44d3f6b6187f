//! Files that the kernel writes by itself: what they take is counted now and then.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use super::{Result, Vfs};
use crate::cache::Backing;

/// Between two looks at how files grow that the kernel writes by itself.
const COUNT_PAUSE: Duration = Duration::from_millis(500);

impl Vfs {
    /// Counts, as long as there are any, files that grow without our doing, until everything stops.
    pub(super) async fn keep_counting(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = self.tasks.cancelled() => return,
                () = self.handles.handed_out.notified() => {}
            }
            loop {
                tokio::select! {
                    () = self.tasks.cancelled() => return,
                    () = self.clock.sleep(COUNT_PAUSE) => {}
                }
                match self.count_written() {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(error) => {
                        tracing::warn!(
                            error = &error as &dyn Error,
                            "what is being written can't be counted"
                        );
                    }
                }
            }
        }
    }

    /// Counts what files that are being written take, and makes room for it; how many there are.
    fn count_written(&self) -> Result<usize> {
        let written: Vec<Arc<Backing>> = {
            let files = self.handles.files();
            files.values().filter(|o| o.stamp.is_some()).map(|o| o.backing.clone()).collect()
        };
        written.iter().try_for_each(|backing| self.cache.account(backing))?;
        self.cache.trim()?;
        Ok(written.len())
    }
}
