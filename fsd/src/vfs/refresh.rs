//! Bringing in what changed in the cloud: when an operator asks for it, and again and again where a share says so.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Result, Share, Vfs, VfsError, Work};
use crate::meta::Inode;
use crate::types::{FileKind, Ino, chain};

/// Which directories a refresh goes into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Those of which names are known here: a share is not walked through that nobody looked at.
    Known,
    /// All there are.
    All,
}

impl Vfs {
    /// Asks the cloud for what is new, changed or gone at and below `tops`. What was changed here stays.
    pub async fn refresh_below(self: &Arc<Self>, tops: Vec<Ino>, reach: Reach, work: &Work) {
        work.run(self.refresh_all(tops, reach, work)).await;
    }

    /// Refreshes each share that asks for it, again and again, until everything stops. To be called after [`Vfs::recover`].
    pub fn keep_refreshing(self: &Arc<Self>) {
        for share in self.shares().filter(|share| !share.local) {
            if share.refresh_every.is_some() {
                self.tasks.spawn("vfs.refresh", self.clone().keep_refreshed(share.clone()));
            }
        }
    }

    async fn keep_refreshed(self: Arc<Self>, share: Share) {
        let Some(every) = share.refresh_every else { return };
        loop {
            let work = Work::default();
            let pass = async {
                self.clock.sleep(every).await;
                self.refresh_all(vec![share.root], Reach::Known, &work).await;
            };
            tokio::select! {
                () = self.tasks.cancelled() => return,
                () = pass => {}
            }
            let progress = work.progress();
            if progress.problems > 0 {
                tracing::warn!(
                    share = share.name,
                    problems = progress.problems,
                    first = progress.told.first(),
                    "what changed in the cloud may not be seen here yet"
                );
            }
            tracing::debug!(share = share.name, changes = ?progress.changes, "looked for changes");
        }
    }

    async fn refresh_all(self: &Arc<Self>, tops: Vec<Ino>, reach: Reach, work: &Work) {
        let since = self.millis();
        let unseen = Mutex::default();
        self.walk(tops, work, |at| self.refresh_one(at, since, reach, work, &unseen)).await;
        // What is in them was looked at meanwhile; the deepest were found last.
        let unseen: Vec<Ino> = unseen.into_inner().unwrap_or_else(PoisonError::into_inner);
        for dir in unseen.into_iter().rev() {
            if let Err(error) = self.refresh_unseen(dir, work).await {
                work.failed(|| format!("{}: {}", self.shown(dir), chain(&error)));
            }
        }
    }

    /// Refreshes a file, or a directory without what is below. Returns the directories in it that are to be looked at too, and adds to
    /// `unseen` those that the cloud does not show any more.
    async fn refresh_one(
        self: &Arc<Self>,
        at: Ino,
        since: i64,
        reach: Reach,
        work: &Work,
        unseen: &Mutex<Vec<Ino>>,
    ) -> Result<Vec<Ino>> {
        let inode = self.inode(at)?;
        let is_dir = inode.attr.kind == FileKind::Dir;
        let mut merged = if !is_dir {
            self.cache.refresh(&inode).await?
        } else if reach == Reach::All || self.cache.is_listed(&inode, 0) {
            self.cache.relist(&inode, since).await?
        } else {
            self.cache.ask_each(&inode).await?
        };
        work.saw(merged.changes);
        unseen.lock().unwrap_or_else(PoisonError::into_inner).append(&mut merged.unseen);
        self.announce(inode.share, merged);
        if !is_dir {
            return Ok(Vec::new());
        }
        let vfs = self.clone();
        let wanted = move |dir: &Inode| Ok(reach == Reach::All || vfs.is_dir_known(dir)?);
        let vfs = self.clone();
        self.tasks.blocking(move || vfs.dirs_in(at, wanted)).await?
    }

    /// A directory goes with all that was in it.
    async fn refresh_unseen(&self, dir: Ino, work: &Work) -> Result<()> {
        let dir = match self.inode(dir) {
            Err(VfsError::NoEntry) => return Ok(()),
            inode => inode?,
        };
        let merged = self.cache.ask_unseen(&dir).await?;
        work.saw(merged.changes);
        self.announce(dir.share, merged);
        Ok(())
    }

    /// Whether any names of `dir` are known here.
    fn is_dir_known(&self, dir: &Inode) -> Result<bool> {
        Ok(self.cache.is_listed(dir, 0) || self.meta.scan(|tx| tx.has_entries(dir.ino))?)
    }
}
