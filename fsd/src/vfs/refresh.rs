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

/// What can be settled only when all below was looked at.
#[derive(Debug, Default)]
struct Later {
    /// Directories that the cloud does not show any more.
    unseen: Vec<Ino>,
    /// Names that are of another kind there.
    taken: Vec<(Ino, Vec<u8>)>,
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
        let later = Mutex::default();
        self.walk(tops, work, |at| self.refresh_one(at, since, reach, work, &later)).await;
        // What is in them was looked at meanwhile; the deepest were found last.
        let Later { unseen, taken } = later.into_inner().unwrap_or_else(PoisonError::into_inner);
        for dir in unseen.into_iter().rev() {
            if let Err(error) = self.refresh_unseen(dir, work).await {
                work.failed(|| format!("{}: {}", self.shown(dir), chain(&error)));
            }
        }
        for (dir, name) in taken {
            if let Err(error) = self.refresh_taken(dir, &name, work).await {
                work.failed(|| format!("{}: {}", self.shown(dir), chain(&error)));
            }
        }
    }

    /// Refreshes a file, or a directory without what is below. Returns the directories in it that are to be looked at too, and adds to
    /// `later` what can be settled only when these are done.
    async fn refresh_one(
        self: &Arc<Self>,
        at: Ino,
        since: i64,
        reach: Reach,
        work: &Work,
        later: &Mutex<Later>,
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
        {
            let mut later = later.lock().unwrap_or_else(PoisonError::into_inner);
            later.unseen.append(&mut merged.unseen);
            later.taken.append(&mut merged.taken);
        }
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

    /// A name that was a file here and is a directory there, or the other way: what is there comes if what was here has gone.
    async fn refresh_taken(&self, dir: Ino, name: &[u8], work: &Work) -> Result<()> {
        let at = || self.meta.read(|tx| tx.lookup(dir, name));
        if let Some(known) = at()?
            && self.inode(known)?.attr.kind == FileKind::Dir
        {
            self.refresh_unseen(known, work).await?;
        }
        if at()?.is_none() {
            let dir = self.inode(dir)?;
            let merged = self.cache.probe(&dir, name).await?;
            work.saw(merged.changes);
            self.announce(dir.share, merged);
        }
        Ok(())
    }

    /// Whether any names of `dir` are known here.
    fn is_dir_known(&self, dir: &Inode) -> Result<bool> {
        Ok(self.cache.is_listed(dir, 0) || self.meta.scan(|tx| tx.has_entries(dir.ino))?)
    }
}
