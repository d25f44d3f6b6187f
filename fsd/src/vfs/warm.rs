//! Bringing files here before somebody asks for them: on demand, and for what is pinned again and again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, stream};
use policies::units::show_bytes;

use super::{Result, Share, Vfs, VfsError, Work};
use crate::cache::Eviction;
use crate::types::{Ino, chain};

/// Files that are fetched at once.
const FILES_AT_ONCE: usize = 8;
/// Between two looks at whether what is pinned is here, and is what the cloud has; longer if a look takes long.
const PINS_PAUSE: Duration = Duration::from_secs(60);
const PINS_PAUSE_OF_LOOK: u32 = 10;

/// What became of files that were to be evicted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evicted {
    /// Files that went.
    pub files: u64,
    /// Bytes of disk that they took.
    pub bytes: u64,
    /// Files that stay, since somebody has them open.
    pub open: u64,
    /// Files that stay, since they are not uploaded, or something waits for them.
    pub not_uploaded: u64,
    /// Files that stay, since they are pinned.
    pub pinned: u64,
}

/// A file, and how many bytes of it are not here.
type Missing = (Ino, u64);

/// A pattern of what is pinned, and how much of it is here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pinned {
    /// The pattern, relative to the root of the share.
    pub pattern: String,
    /// Files that it stands for, as far as their names are known.
    pub files: u64,
    /// How long they are together.
    pub bytes: u64,
    /// How much of that is here.
    pub bytes_here: u64,
}

impl Vfs {
    /// Brings all of the files at and below `tops`, as far as there is room.
    pub async fn warm_below(self: &Arc<Self>, tops: Vec<Ino>, work: &Work) {
        let warm = async {
            for top in tops {
                if let Err(error) = self.warm_all(top, work).await {
                    work.failed(|| chain(&error));
                }
            }
        };
        work.run(warm).await;
    }

    async fn warm_all(self: &Arc<Self>, top: Ino, work: &Work) -> Result<()> {
        let (files, failed) = self.all_files_below(top).await?;
        for (dir, error) in failed {
            work.failed(|| format!("{}: {}", self.shown(dir), chain(&error)));
        }
        let vfs = self.clone();
        let missing = move || vfs.missing_of(files);
        let missing = self.tasks.blocking(missing).await??;
        let (fits, rest) = self.part_fitting(missing);
        if let Some((first, _)) = rest.first() {
            let bytes: u64 = rest.iter().map(|(_, bytes)| bytes).sum();
            work.expect(rest.len() as u64, bytes);
            work.failed(|| {
                format!(
                    "{} and {} more files, {}, are not fetched: the cache keeps {} of what is read, and more would push out what was \
                     fetched just before",
                    self.shown(*first),
                    rest.len() - 1,
                    show_bytes(bytes),
                    show_bytes(self.cache.readable_bytes_max())
                )
            });
        }
        self.warm_files(fits, work).await;
        Ok(())
    }

    /// Parts what is missing into what the cache can keep, and the rest.
    fn part_fitting(&self, missing: Vec<Missing>) -> (Vec<Missing>, Vec<Missing>) {
        let mut left = self.cache.readable_bytes_max();
        missing.into_iter().partition(|&(_, bytes)| {
            let fits = bytes <= left;
            left -= if fits { bytes } else { 0 };
            fits
        })
    }

    /// Those of `files` that are not all here, each with what is missing, in bytes.
    fn missing_of(&self, files: impl IntoIterator<Item = Ino>) -> Result<Vec<Missing>> {
        let mut missing = Vec::new();
        for ino in files {
            let Ok(inode) = self.inode(ino) else { continue };
            let bytes = inode.attr.size.saturating_sub(self.cache.bytes_here(&inode)?);
            if bytes > 0 && inode.object.is_some() {
                missing.push((ino, bytes));
            }
        }
        Ok(missing)
    }

    async fn warm_files(self: &Arc<Self>, missing: Vec<Missing>, work: &Work) {
        missing.iter().for_each(|&(_, bytes)| work.expect(1, bytes));
        stream::iter(missing)
            .for_each_concurrent(FILES_AT_ONCE, |(ino, _)| async move {
                match self.warm_file(ino, work).await {
                    Ok(()) | Err(VfsError::NoEntry) => work.did_file(),
                    Err(error) => {
                        work.failed(|| format!("{}: {}", self.shown(ino), chain(&error)));
                    }
                }
            })
            .await;
    }

    async fn warm_file(self: &Arc<Self>, ino: Ino, work: &Work) -> Result<()> {
        let inode = self.known(ino).await?;
        Ok(self.cache.bring_all(&inode, |bytes| work.did_bytes(bytes)).await?)
    }

    /// Evicts what is here of the files at and below `top`, as far as it can go.
    ///
    /// # Errors
    /// If the metadata store fails.
    pub fn evict_below(&self, top: Ino) -> Result<Evicted> {
        self.finish_closed()?;
        self.cache.remember_waiting()?;
        let mut evicted = Evicted::default();
        for ino in self.files_below(top)? {
            match self.cache.evict_unused(ino)? {
                Eviction::Gone(bytes) => {
                    evicted.files += 1;
                    evicted.bytes += bytes;
                }
                Eviction::NotHere => {}
                Eviction::Open => evicted.open += 1,
                Eviction::NotUploaded => evicted.not_uploaded += 1,
                Eviction::Pinned => evicted.pinned += 1,
            }
        }
        Ok(evicted)
    }

    /// Pins what `pattern` stands for in `share`: it is fetched, kept fresh, and never evicted.
    ///
    /// # Errors
    /// [`VfsError::Invalid`] if it is no pattern.
    pub fn pin(&self, share: &Share, pattern: &str) -> Result<()> {
        policies::Pins::new(vec![pattern.to_owned()])
            .map_err(|_| VfsError::Invalid("no glob can be read from it"))?;
        let (id, pattern) = (share.id, pattern.to_owned());
        self.meta.write(move |tx| tx.pin(id, &pattern))?;
        self.cache.load_pins()?;
        self.pinned.notify_one();
        Ok(())
    }

    /// Ends a pin; tells whether there was one.
    ///
    /// # Errors
    /// If the metadata store fails.
    pub fn unpin(&self, share: &Share, pattern: &str) -> Result<bool> {
        let (id, pattern) = (share.id, pattern.to_owned());
        let was_there = self.meta.write(move |tx| tx.unpin(id, &pattern))?;
        self.cache.load_pins()?;
        Ok(was_there)
    }

    /// The pins of `share`, and how much of each is here.
    ///
    /// # Errors
    /// If the metadata store fails.
    pub fn pins(&self, share: &Share) -> Result<Vec<Pinned>> {
        let pins = self.cache.pins(share.id);
        let of_pattern =
            |pattern: &String| Pinned { pattern: pattern.clone(), ..Pinned::default() };
        let mut pinned: Vec<Pinned> = pins.patterns().iter().map(of_pattern).collect();
        if pinned.is_empty() {
            return Ok(pinned);
        }
        let mut files = BTreeSet::new();
        for path in pins.tops() {
            if let Some(top) = self.meta.scan(|tx| tx.at_path(share.root, &path))? {
                files.extend(self.pinned_below(top)?);
            }
        }
        for ino in files {
            let Ok(inode) = self.inode(ino) else { continue };
            let pattern = self.meta.read(|tx| self.cache.pinned_by(tx, &inode))?;
            if let Some(of) = pinned.iter_mut().find(|of| Some(&of.pattern) == pattern.as_ref()) {
                of.files += 1;
                of.bytes += inode.attr.size;
                of.bytes_here += self.cache.bytes_here(&inode)?;
            }
        }
        Ok(pinned)
    }

    /// The files at and below `top` that are pinned, as far as their names are known.
    fn pinned_below(&self, top: Ino) -> Result<Vec<Ino>> {
        let mut pinned = Vec::new();
        for ino in self.files_below(top)? {
            let Ok(inode) = self.inode(ino) else { continue };
            if self.meta.read(|tx| self.cache.pinned_by(tx, &inode))?.is_some() {
                pinned.push(ino);
            }
        }
        Ok(pinned)
    }

    /// Keeps what is pinned here and fresh, in the background, until everything stops. To be called after [`Vfs::recover`].
    pub fn keep_pins(self: &Arc<Self>) {
        self.tasks.spawn("vfs.pins", self.clone().keep_pinned());
    }

    async fn keep_pinned(self: Arc<Self>) {
        loop {
            let began = self.clock.monotonic();
            for share in self.shares().filter(|share| !share.local) {
                if let Err(error) = self.bring_pinned(share).await {
                    tracing::warn!(
                        share = share.name,
                        error = chain(&error),
                        "what is pinned may not be here"
                    );
                }
            }
            let took = self.clock.monotonic().saturating_sub(began);
            tokio::select! {
                () = self.tasks.cancelled() => return,
                () = self.pinned.notified() => {}
                () = self.clock.sleep(PINS_PAUSE.max(took * PINS_PAUSE_OF_LOOK)) => {}
            }
        }
    }

    /// What lies at `path`, after a look at whether the cloud has another version of it.
    async fn top_of_pin(self: &Arc<Self>, share: &Share, path: &[Vec<u8>]) -> Result<Ino> {
        if let Some((_, above)) = path.split_last() {
            let dir = self.resolve(share.root, above).await?;
            self.open_dir(dir).await?;
        }
        self.resolve(share.root, path).await
    }

    async fn bring_pinned(self: &Arc<Self>, share: &Share) -> Result<()> {
        let pins = self.cache.pins(share.id);
        let mut files = BTreeSet::new();
        for path in pins.tops() {
            // What is not there may come; a link that is down is no news. Both are tried again.
            let Ok(top) = self.top_of_pin(share, &path).await else { continue };
            for (dir, error) in self.list_below(top, |path| pins.may_cover_below(path)).await? {
                tracing::debug!(%dir, error = chain(&error), "a directory with pins could not be listed");
            }
            let vfs = self.clone();
            files.extend(self.tasks.blocking(move || vfs.pinned_below(top)).await??);
        }
        let (vfs, work) = (self.clone(), Work::default());
        let missing = self.tasks.blocking(move || vfs.missing_of(files)).await??;
        self.warm_files(missing, &work).await;
        let progress = work.progress();
        if progress.problems > 0 {
            tracing::warn!(
                share = share.name,
                files = progress.problems,
                first = progress.told.first(),
                "files that are pinned are not here"
            );
        }
        Ok(())
    }
}
