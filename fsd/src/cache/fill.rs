//! Misses: blocks that are not here are fetched in ranges, many at once, and two readers of one block cost one request.

use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use super::backing::{Base, Progress, State};
use super::present::{BLOCK_BYTES, blocks_of, bytes_of};
use super::sums::sum_of;
use super::{Backing, Cache, CacheError, Result, Trouble};
use crate::meta::Inode;
use crate::types::Ino;

/// The largest single request.
const FETCH_BYTES_MAX: u64 = 4 << 20;
/// A file up to this length comes in one piece.
const WHOLE_BYTES_MAX: u64 = 1 << 20;
/// A request for data may take this long in all.
const FETCH_DEADLINE: Duration = Duration::from_secs(60);
const READ_AHEAD_BYTES_MAX: u64 = 16 << 20;
const _: () = assert!(FETCH_BYTES_MAX.is_multiple_of(BLOCK_BYTES), "a request is whole blocks");

/// A reader's place: grows on sequential reading, stays out of the way of random reading. Pure.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadAhead {
    next: u64,
    window: u64,
}

impl ReadAhead {
    /// What to fetch beyond a read of `range`. The kernel's own read-ahead may bring reads a little out of
    /// order, so a read close before the expected place counts as sequential.
    pub fn after(&mut self, range: &Range<u64>) -> Range<u64> {
        let slack = BLOCK_BYTES.max(self.window);
        let sequential = range.start.abs_diff(self.next) <= slack;
        self.window = match sequential {
            true => (self.window * 2).clamp(2 * BLOCK_BYTES, READ_AHEAD_BYTES_MAX),
            false => 0,
        };
        self.next = range.end;
        range.end..range.end + self.window
    }
}

/// How often, and how long, it is waited for the record of a version that we are about to make ourselves.
const OWN_CHANGE_LOOKS: u32 = 10;
const OWN_CHANGE_PAUSE: Duration = Duration::from_millis(100);

impl Cache {
    /// Makes sure that bytes `range` of `backing` are here.
    ///
    /// # Errors
    /// If they can't be fetched; the cloud's refusal is shared by all who wait for the same blocks.
    ///
    /// # Cancel safety
    /// Fetches that were begun go on.
    pub async fn ensure(self: &Arc<Self>, backing: &Arc<Backing>, range: Range<u64>) -> Result<()> {
        while !backing.has(&range) {
            self.make_room(missing_bytes(backing, &range)).await?;
            all_of(self.start_fetches(backing, &range)).await?;
        }
        Ok(())
    }

    /// Whether the first byte is here, or there is none, or it can't be kept here.
    #[must_use]
    pub fn has_start(&self, backing: &Backing) -> bool {
        !backing.kept || backing.has(&(0..1))
    }

    /// Begins fetching bytes `range`, if they fit at once, without waiting.
    pub fn prefetch(self: &Arc<Self>, backing: &Arc<Backing>, range: Range<u64>) {
        if range.is_empty()
            || backing.is_whole()
            || !self.has_room_to_read(range.end - range.start).unwrap_or(false)
        {
            return;
        }
        drop(self.start_fetches(backing, &range));
    }

    /// Brings all of `inode`, a part at a time, and tells `came` how many bytes more are here.
    ///
    /// # Errors
    /// [`CacheError::Full`] if there is no room without waiting; if something can't be fetched.
    pub async fn bring_all(
        self: &Arc<Self>,
        inode: &Inode,
        came: impl Fn(u64) + Send + Sync,
    ) -> Result<()> {
        let (cache, ino, size) = (self.clone(), inode.ino, inode.attr.size);
        let backing = self.tasks.blocking(move || cache.backing(ino)).await??;
        let mut at = 0;
        while at < size && !backing.is_whole() {
            let part = at..size.min(at + READ_AHEAD_BYTES_MAX);
            at = part.end;
            let missing = missing_bytes(&backing, &part);
            if missing > 0 {
                if !self.make_room_to_read(missing)? {
                    return Err(CacheError::Full);
                }
                all_of(self.start_fetches(&backing, &part)).await?;
                came(missing.min(part.end - part.start));
            }
        }
        if !backing.is_saved() {
            self.remember_soon(backing);
        }
        Ok(())
    }

    /// Reads what is here and fetches what is not. What can't be kept, on a full or broken disk, is passed on all the same.
    ///
    /// # Errors
    /// If it can't be fetched.
    pub async fn read(
        self: &Arc<Self>,
        backing: &Arc<Backing>,
        ahead: Range<u64>,
        range: Range<u64>,
    ) -> Result<Vec<u8>> {
        let size = backing.file().metadata()?.len();
        let clip = |r: &Range<u64>| r.start.min(size)..r.end.min(size);
        let (asked, ahead) = (clip(&range), clip(&ahead));
        if !backing.kept {
            return self.read_through(backing, asked).await;
        }
        if !backing.is_whole() {
            let wanted = if size <= WHOLE_BYTES_MAX { 0..size } else { asked.clone() };
            match self.bring(backing, &wanted, ahead).await {
                Ok(()) => {}
                Err(CacheError::Full | CacheError::Disk(_)) => {
                    return self.read_through(backing, asked).await;
                }
                Err(error) => return Err(error),
            }
        }
        match read_here(backing, range) {
            Err(CacheError::Disk(error)) => {
                tracing::warn!(ino = %backing.ino, %error, "the cache disk can't be read: the cloud is asked");
                self.read_through(backing, asked).await
            }
            read => read,
        }
    }

    /// Fetches what is missing of `wanted`, if it fits without waiting, and what may be asked for next beside it.
    async fn bring(
        self: &Arc<Self>,
        backing: &Arc<Backing>,
        wanted: &Range<u64>,
        ahead: Range<u64>,
    ) -> Result<()> {
        if backing.has(wanted) {
            self.prefetch(backing, ahead);
            return Ok(());
        }
        if !self.make_room_to_read(missing_bytes(backing, wanted))? {
            return Err(CacheError::Full);
        }
        let fetches = self.start_fetches(backing, wanted);
        self.prefetch(backing, ahead);
        all_of(fetches).await?;
        self.ensure(backing, wanted.clone()).await
    }

    /// Bytes `range`, with what is not here from the cloud and not kept.
    async fn read_through(&self, backing: &Backing, range: Range<u64>) -> Result<Vec<u8>> {
        let mut buffer = Vec::new();
        for blocks in pieces(blocks_of(&range)) {
            let bytes = bytes_of(&blocks);
            let bytes = bytes.start.max(range.start)..bytes.end.min(range.end);
            let (fetched, content) = self.fetch_bytes(backing, bytes.clone()).await?;
            let state = backing.state();
            let mut piece = match read_here(backing, bytes.clone()) {
                Ok(piece) => piece,
                // The cloud has all of it.
                Err(_) if content.is_some() => {
                    buffer.extend_from_slice(&fetched);
                    continue;
                }
                Err(error) => return Err(error),
            };
            for run in state.present.missing(blocks) {
                let part = within(bytes.start, &bytes_of(&run), fetched.len().min(piece.len()));
                piece[part.clone()].copy_from_slice(&fetched[part]);
            }
            buffer.append(&mut piece);
        }
        Ok(buffer)
    }

    /// Writes `data` at `offset` if the file is wholly here and there is room; false if not.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn write_here(&self, backing: &Backing, offset: u64, data: &[u8]) -> Result<bool> {
        let bytes = data.len() as u64;
        if !backing.is_whole() || !self.pause_before(bytes).is_zero() || !self.has_room(bytes)? {
            return Ok(false);
        }
        backing.file.write_all_at(data, offset)?;
        self.wrote(backing, bytes)?;
        Ok(true)
    }

    /// Writes `data` at `offset`. Blocks that are covered only in part are fetched first.
    ///
    /// # Errors
    /// [`CacheError::Full`] if there is no room, even after a while; else as [`Cache::ensure`].
    pub async fn write(
        self: &Arc<Self>,
        backing: &Arc<Backing>,
        offset: u64,
        data: &[u8],
    ) -> Result<()> {
        let end = offset + data.len() as u64;
        self.make_room(data.len() as u64).await?;
        let pause = self.pause_before(data.len() as u64);
        if !pause.is_zero() {
            self.clock.sleep(pause).await;
        }
        let size = backing.file().metadata()?.len();
        if !backing.is_whole() {
            // Of the first block what lies before the data is kept, of the last what lies behind.
            let kept_before = offset - offset % BLOCK_BYTES..offset;
            let kept_behind = end..size.min(end.next_multiple_of(BLOCK_BYTES));
            for kept in [kept_before, kept_behind] {
                if !kept.is_empty() && kept.start < size {
                    self.ensure(backing, kept).await?;
                }
            }
        }
        let mut state = backing.state();
        backing.file.write_all_at(data, offset)?;
        if !backing.is_whole() {
            // Between the old end and the new data is a hole: it is here, as zeros.
            let from = offset.min(size.next_multiple_of(BLOCK_BYTES));
            let written = from / BLOCK_BYTES..end.div_ceil(BLOCK_BYTES);
            backing.mark(&mut state, written, size.max(end));
        }
        drop(state);
        self.wrote(backing, data.len() as u64)
    }

    /// Sets the length to `size`. The block that is cut is fetched first.
    ///
    /// # Errors
    /// As [`Cache::write`].
    pub async fn truncate(self: &Arc<Self>, backing: &Arc<Backing>, size: u64) -> Result<()> {
        if backing.is_whole() {
            backing.file.set_len(size)?;
        } else {
            let old = backing.file().metadata()?.len();
            let cut = size.min(old);
            if !cut.is_multiple_of(BLOCK_BYTES) {
                self.ensure(backing, cut - 1..cut).await?;
            }
            let mut state = backing.state();
            backing.file.set_len(size)?;
            // Behind the cut nothing comes from the cloud any more.
            let beyond = cut.div_ceil(BLOCK_BYTES)..blocks_of(&(0..size.max(old))).end;
            backing.mark(&mut state, beyond, size);
        }
        self.account(backing)
    }

    /// Counts a write as new bytes, which is too much where it overwrites; so the exact count is taken now and then, and at close.
    fn wrote(&self, backing: &Backing, bytes: u64) -> Result<()> {
        const EXACT_AFTER_BYTES: u64 = 16 << 20;
        if backing.estimated.fetch_add(bytes, Ordering::Relaxed) + bytes > EXACT_AFTER_BYTES {
            return self.account(backing);
        }
        backing.accounted.fetch_add(bytes, Ordering::Relaxed);
        self.used.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Starts a fetch for what is missing of `range` and not under way; returns all fetches that touch it. Into what stands for a file
    /// that the disk did not take in nothing is fetched: it would be kept in memory, and noted as if the disk had it.
    fn start_fetches(
        self: &Arc<Self>,
        backing: &Arc<Backing>,
        range: &Range<u64>,
    ) -> Vec<watch::Receiver<Progress>> {
        if !backing.kept {
            let refusal = io::Error::from_raw_os_error(libc::EROFS);
            return vec![watch::channel(Progress::Failed(refusal.into())).1];
        }
        let mut state = backing.state();
        let blocks = blocks_of(range);
        for run in state.present.missing(blocks.clone()) {
            for gap in without_in_flight(&state, run) {
                for piece in pieces(gap) {
                    let (tell, told) = watch::channel(Progress::Running);
                    state.in_flight.push((piece.clone(), told));
                    let bytes = (piece.end - piece.start) * BLOCK_BYTES;
                    self.incoming.fetch_add(bytes, Ordering::Relaxed);
                    let (cache, backing) = (self.clone(), backing.clone());
                    self.tasks.spawn("cache.fetch", async move {
                        let fetched = cache.fetch(&backing, &piece).await;
                        cache.incoming.fetch_sub(bytes, Ordering::Relaxed);
                        backing.state().in_flight.retain(|(blocks, _)| *blocks != piece);
                        tell.send_replace(match fetched {
                            Ok(()) => Progress::Done,
                            Err(error) => Progress::Failed(error),
                        });
                    });
                }
            }
        }
        let touches = |run: &Range<u64>| run.start < blocks.end && blocks.start < run.end;
        state
            .in_flight
            .iter()
            .filter(|(run, _)| touches(run))
            .map(|(_, told)| told.clone())
            .collect()
    }

    async fn fetch(&self, backing: &Backing, blocks: &Range<u64>) -> Result<()> {
        let bytes = bytes_of(blocks);
        let (data, content) = self.fetch_bytes(backing, bytes.clone()).await?;
        let mut state = backing.state();
        // A write may have come in between: what it wrote is newer than what was fetched.
        for run in state.present.missing(blocks.clone()) {
            let part = within(bytes.start, &bytes_of(&run), data.len());
            backing.file.write_all_at(&data[part.clone()], bytes.start + part.start as u64)?;
            let Some(content) = content else { continue };
            for block in run {
                let part = within(bytes.start, &bytes_of(&(block..block + 1)), data.len());
                state.sums.add(content, block, sum_of(&data[part]));
            }
        }
        let size = backing.file.metadata()?.len();
        backing.mark(&mut state, blocks.clone(), size);
        drop(state);
        self.account(backing)
    }

    /// What the cloud has of bytes `range`, behind the object's end nothing; and which version of the file that is, if it is all
    /// of one.
    pub(super) async fn fetch_bytes(
        &self,
        backing: &Backing,
        range: Range<u64>,
    ) -> Result<(Bytes, Option<u64>)> {
        let mut left = OWN_CHANGE_LOOKS;
        loop {
            let inode = self.meta.read(|tx| tx.inode(backing.ino))?;
            match self.fetch_of(backing, inode.as_ref(), range.clone()).await {
                Err(error) if error.trouble() == Trouble::Stale && left > 0 => {
                    let (now, differs) = self.meta.read(|tx| -> Result<_> {
                        Ok((tx.inode(backing.ino)?, tx.item(backing.ino)?.is_some()))
                    })?;
                    // We may have just given it other attributes ourselves, which makes another version of it.
                    let object = |inode: Option<Inode>| inode.and_then(|inode| inode.object);
                    if object(now) == object(inode) {
                        if !differs {
                            return Err(error);
                        }
                        self.clock.sleep(OWN_CHANGE_PAUSE).await;
                    }
                    left -= 1;
                }
                fetched => return fetched,
            }
        }
    }

    async fn fetch_of(
        &self,
        backing: &Backing,
        inode: Option<&Inode>,
        range: Range<u64>,
    ) -> Result<(Bytes, Option<u64>)> {
        let lost = || CacheError::Lost(backing.ino);
        let now = inode.filter(|inode| inode.backing == backing.number);
        let clean = now.filter(|inode| inode.is_uploaded());
        let content = clean.map(|inode| inode.content);
        let object_bytes = clean.map_or(backing.state().object_bytes, |inode| inode.attr.size);
        let bytes = range.start.min(object_bytes)..range.end.min(object_bytes);
        if bytes.is_empty() {
            return Ok((Bytes::new(), None));
        }
        let now = now.and_then(Base::of);
        let base = now.as_ref().or(backing.base.get()).ok_or_else(lost)?;
        Ok((self.get(backing.ino, base, bytes).await?, content))
    }

    /// Bytes `range` of the object that `base` names: all of them.
    pub(super) async fn get(&self, ino: Ino, base: &Base, range: Range<u64>) -> Result<Bytes> {
        let remote = self.remote(base.share).ok_or(CacheError::Lost(ino))?;
        let data = tokio::select! {
            biased;
            data = remote.get(&base.key, range.clone(), base.etag.as_ref()) => data?,
            () = self.clock.sleep(FETCH_DEADLINE) => return Err(CacheError::Deadline),
        };
        if data.len() as u64 != range.end - range.start {
            tracing::error!(%ino, ?range, got = data.len(), "the object is shorter than its listing said");
            return Err(CacheError::Lost(ino));
        }
        Ok(data)
    }
}

/// Waits for the end of all `fetches`.
async fn all_of(fetches: Vec<watch::Receiver<Progress>>) -> Result<()> {
    for mut fetch in fetches {
        let ended = fetch.wait_for(|progress| !matches!(progress, Progress::Running));
        match ended.await.as_deref() {
            Ok(Progress::Done | Progress::Running) => {}
            Ok(Progress::Failed(error)) => return Err(error.clone()),
            Err(_) => return Err(CacheError::Deadline),
        }
    }
    Ok(())
}

fn missing_bytes(backing: &Backing, range: &Range<u64>) -> u64 {
    let missing = backing.state().present.missing(blocks_of(range));
    missing.iter().map(|run| (run.end - run.start) * BLOCK_BYTES).sum()
}

fn read_here(backing: &Backing, range: Range<u64>) -> Result<Vec<u8>> {
    let mut buffer = vec![0; usize::try_from(range.end - range.start).unwrap_or(0)];
    let count = backing.read_at(&mut buffer, range.start)?;
    buffer.truncate(count);
    Ok(buffer)
}

/// Where `bytes` are in a buffer of `length` bytes that begins at `start`; empty if they are not in it.
fn within(start: u64, bytes: &Range<u64>, length: usize) -> Range<usize> {
    let place = |at: u64| usize::try_from(at.saturating_sub(start)).unwrap_or(length).min(length);
    place(bytes.start)..place(bytes.end)
}

fn without_in_flight(state: &State, run: Range<u64>) -> Vec<Range<u64>> {
    let mut gaps = vec![run];
    for (busy, _) in &state.in_flight {
        gaps = gaps
            .into_iter()
            .flat_map(|gap| [gap.start..gap.end.min(busy.start), gap.start.max(busy.end)..gap.end])
            .filter(|gap| !gap.is_empty())
            .collect();
    }
    gaps
}

fn pieces(blocks: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let step = FETCH_BYTES_MAX / BLOCK_BYTES;
    let end = blocks.end;
    (blocks.start..end)
        .step_by(usize::try_from(step).unwrap_or(1))
        .map(move |start| start..(start + step).min(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_ahead_grows_on_sequential_and_vanishes_on_random_reading() {
        let mut ahead = ReadAhead::default();
        let mut window = 0;
        for block in 0..10 {
            let range = block * BLOCK_BYTES..(block + 1) * BLOCK_BYTES;
            let next = ahead.after(&range);
            assert_eq!(next.start, range.end);
            assert!(next.end - next.start >= window, "it never shrinks");
            window = next.end - next.start;
        }
        assert_eq!(window, READ_AHEAD_BYTES_MAX);
        let far = 1 << 30;
        assert!(ahead.after(&(far..far + 4096)).is_empty());
        assert!(ahead.after(&(far * 2..far * 2 + 4096)).is_empty());
        assert!(ahead.after(&(far..far + 4096)).is_empty());
    }

    #[test]
    fn a_gap_is_what_nobody_fetches() {
        let (_, told) = watch::channel(Progress::Running);
        let mut state = State::new(super::super::Presence::default(), 0, None);
        state.in_flight = vec![(2..4, told.clone()), (6..7, told)];
        assert_eq!(without_in_flight(&state, 0..10), [0..2, 4..6, 7..10]);
        assert_eq!(without_in_flight(&state, 2..4), []);
    }
}
