//! Looks at what is cached whether it still is what it was, and mends it from the cloud.

use std::sync::Arc;
use std::time::Duration;

use super::{Result, Vfs, Work};
use crate::cache::{Backing, CacheError, Eviction};
use crate::meta::Inode;
use crate::types::{Digest, Digester, FileKind, Ino, chain};

/// Blocks that are looked at in one go.
const BLOCKS_AT_ONCE: u64 = 64;
/// Between two looks at everything that nobody asked for, and how fast these are, in bytes a second.
const PAUSE: Duration = Duration::from_secs(7 * 86_400);
const RATE: u64 = 32 << 20;

impl Vfs {
    /// Looks at what is here of the files at and below `tops`.
    pub async fn scrub_below(self: &Arc<Self>, tops: Vec<Ino>, work: &Work) {
        let scrub = async {
            for top in tops {
                self.scrub_all(top, work, None).await;
            }
        };
        work.run(scrub).await;
    }

    /// Looks at everything now and then, slowly, until everything stops.
    pub(super) async fn keep_scrubbing(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = self.tasks.cancelled() => return,
                () = self.clock.sleep(PAUSE) => {}
            }
            for share in self.shares() {
                let work = Work::default();
                self.scrub_all(share.root, &work, Some(RATE)).await;
                let progress = work.progress();
                tracing::info!(
                    share = share.name,
                    bytes = progress.bytes_done,
                    mended = progress.mended,
                    problems = progress.problems,
                    "looked at what is cached"
                );
            }
        }
    }

    async fn scrub_all(self: &Arc<Self>, top: Ino, work: &Work, rate: Option<u64>) {
        let scrub = async {
            let vfs = self.clone();
            let files = self.tasks.blocking(move || vfs.here_below(top)).await??;
            files.iter().for_each(|&(_, bytes)| work.expect(1, bytes));
            for (ino, _) in files {
                if let Err(error) = self.scrub_file(ino, work, rate).await {
                    work.failed(|| format!("{}: {}", self.shown(ino), chain(&error)));
                }
                work.did_file();
            }
            Result::<(), super::VfsError>::Ok(())
        };
        if let Err(error) = scrub.await {
            work.failed(|| chain(&error));
        }
    }

    /// The files at and below `top`, each with how much of it is here, in bytes.
    fn here_below(&self, top: Ino) -> Result<Vec<(Ino, u64)>> {
        let mut here = Vec::new();
        for ino in self.files_below(top)? {
            if let Ok(inode) = self.inode(ino) {
                here.push((ino, self.cache.bytes_here(&inode)?));
            }
        }
        Ok(here)
    }

    async fn scrub_file(self: &Arc<Self>, ino: Ino, work: &Work, rate: Option<u64>) -> Result<()> {
        let inode = self.inode(ino)?;
        let here = self.cache.bytes_here(&inode)?;
        let clean = self.is_clean(&inode)?;
        if inode.attr.kind != FileKind::File || clean && here == 0 {
            return Ok(());
        }
        // Also of what is not uploaded it shows whether all of it is still here.
        let backing = self.cache.backing(ino)?;
        if !clean {
            work.did_bytes(here);
            return Ok(());
        }
        // Of a file that is wholly here it is known what all of it must be. Checksums of blocks are taken at the first look, and do not tell
        // what happened before that.
        let sent = inode.object.as_ref().and_then(|object| object.digest);
        let sent = sent.filter(|_| backing.is_whole());
        let mut digester = sent.as_ref().map(Digester::like);
        let mut bad = Vec::new();
        let mut at = 0;
        while at * crate::cache::BLOCK_BYTES < inode.attr.size {
            let (vfs, of, file) = (self.clone(), inode.clone(), backing.clone());
            let check = move || {
                let each = |bytes: &[u8]| {
                    if let Some(digester) = &mut digester {
                        digester.update(bytes);
                    }
                };
                let checked = vfs.cache.check_blocks(&file, &of, at, BLOCKS_AT_ONCE, each);
                (checked, digester)
            };
            let mut checked;
            (checked, digester) = self.tasks.blocking(check).await?;
            at += BLOCKS_AT_ONCE;
            work.did_bytes(checked.bytes);
            bad.append(&mut checked.bad);
            if let Some(rate) = rate {
                let pause = Duration::from_secs_f64(checked.bytes as f64 / rate as f64);
                self.clock.sleep(pause).await;
            }
        }
        // What was changed meanwhile tells nothing.
        if self.is_clean(&inode)? {
            let was_good = bad.is_empty();
            for block in bad {
                self.mend(&inode, &backing, block, work).await?;
            }
            let is_what_was_sent = match (sent, digester) {
                (Some(sent), Some(digester)) if was_good => digester.finish() == sent,
                // With what was mended it is another one.
                (Some(sent), _) => self.reads_as(&inode, &backing, sent).await?,
                (None, _) => true,
            };
            if is_what_was_sent {
                self.cache.keep_sums(&backing);
            } else if self.is_clean(&inode)? {
                drop(backing);
                self.drop_what_was_not_sent(ino, work)?;
            }
        }
        Ok(())
    }

    async fn reads_as(
        &self,
        inode: &Inode,
        backing: &Arc<Backing>,
        digest: Digest,
    ) -> Result<bool> {
        let (cache, file, of) = (self.cache.clone(), backing.clone(), inode.clone());
        let look = move || cache.verify_cached(&file, &of, Some(&digest), |_| {}).is_none();
        Ok(self.tasks.blocking(look).await?)
    }

    fn drop_what_was_not_sent(self: &Arc<Self>, ino: Ino, work: &Work) -> Result<()> {
        tracing::error!(%ino, path = self.shown(ino), "a cached file is not what was sent: the disk may be failing");
        match self.cache.evict_bad(ino)? {
            Eviction::Open => {
                work.failed(|| {
                    format!(
                        "{}: what is here is not what was sent, and stays as long as it is open",
                        self.shown(ino)
                    )
                });
                self.drop_bad(ino);
            }
            Eviction::Gone(_) | Eviction::NotHere => work.did_mend(),
            // It was changed meanwhile.
            Eviction::NotUploaded | Eviction::Pinned => {}
        }
        Ok(())
    }

    async fn mend(
        self: &Arc<Self>,
        inode: &Inode,
        backing: &Arc<Backing>,
        block: u64,
        work: &Work,
    ) -> Result<()> {
        let ino = inode.ino;
        tracing::error!(%ino, path = self.shown(ino), block, "a cached block is not what it was: the disk may be failing");
        let mended = match self.cache.fetch_block(inode, block).await {
            Ok(data) => match self.put_back(inode, backing, block, &data)? {
                true => {
                    let file = backing.clone();
                    let sync = move || file.file().sync_data();
                    self.tasks.blocking(sync).await?.map_err(CacheError::from)
                }
                false => return Ok(()),
            },
            Err(error) => Err(error),
        };
        match mended {
            Ok(()) => work.did_mend(),
            Err(error) => {
                work.failed(|| {
                    format!("{}: block {block} is bad: {}", self.shown(ino), chain(&error))
                });
                self.drop_bad(ino);
            }
        }
        Ok(())
    }

    /// Puts `data` in the place of a bad block; false if the file is not what it was when it was looked at.
    fn put_back(&self, inode: &Inode, backing: &Backing, block: u64, data: &[u8]) -> Result<bool> {
        // Whoever opens it for writing must pass this lock.
        let files = self.handles.files();
        let is_written = files.get(&inode.ino).is_some_and(|open| open.stamp.is_some());
        if is_written || !self.is_clean(inode)? {
            return Ok(false);
        }
        self.cache.mend_block(backing, inode, block, data)?;
        Ok(true)
    }

    /// Better nothing of it is here than something that is wrong: as soon as nobody has it open.
    fn drop_bad(self: &Arc<Self>, ino: Ino) {
        const TRIES: u32 = 20;
        const PAUSE: Duration = Duration::from_millis(500);
        let vfs = self.clone();
        self.tasks.spawn("vfs.bad", async move {
            for _ in 0..TRIES {
                match vfs.cache.evict_bad(ino) {
                    Ok(Eviction::Open) => vfs.clock.sleep(PAUSE).await,
                    Ok(_) | Err(_) => return,
                }
            }
        });
    }

    /// Whether `inode` still is what it was, uploaded, and nobody writes it.
    pub(super) fn is_clean(&self, inode: &Inode) -> Result<bool> {
        self.meta.read(|tx| {
            let now = tx.inode(inode.ino)?;
            let same = |now: &Inode| {
                now.is_uploaded() && (now.content, now.backing) == (inode.content, inode.backing)
            };
            Ok(now.as_ref().is_some_and(same) && !tx.is_writing(inode.ino)?)
        })
    }
}
