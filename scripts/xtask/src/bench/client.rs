//! What an application does on a drive, with a stopwatch.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use super::subject::Subject;

const MIB: u64 = 1 << 20;
/// Memory that a step may need, as a multiple of the big file: the drive's pages and those of the file below it.
const CLAIM_FACTOR: u64 = 2;
const BLOCK_BYTES: usize = 1 << 20;
const SMALL_BYTES: usize = 4096;
const DROP_CACHES: &str = "/proc/sys/vm/drop_caches";

/// How long the store may take to have everything, and how often we look.
const STORED_MAX: Duration = Duration::from_secs(600);
const STORED_POLL: Duration = Duration::from_millis(20);

/// How much is written and read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    big_blocks: u64,
    small_files: u64,
    cold_files: u64,
}

impl Sizes {
    /// The full sizes, or a part of them.
    pub(super) fn divided_by(divisor: NonZeroU64) -> Self {
        let part = |whole: u64| (whole / divisor).max(1);
        Self { big_blocks: part(1024), small_files: part(5000), cold_files: part(500) }
    }

    pub(super) fn big_mib(self) -> u64 {
        self.big_blocks
    }

    pub(super) fn small(self) -> u64 {
        self.small_files
    }
}

/// One line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Work {
    WriteBig,
    StoreBig,
    ReadBigWarm,
    ReadBigHot,
    CreateSmall,
    StoreSmall,
    ReadSmallWarm,
    StatSmall,
    ReadBigCold,
    ReadSmallCold,
}

/// How a line counts.
#[derive(Clone, Copy, Debug)]
pub(super) enum Unit {
    MibPerSecond(u64),
    FilesPerSecond(u64),
    Seconds,
}

impl Work {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::WriteBig => "write big to close",
            Self::StoreBig => "write big until in the store",
            Self::ReadBigWarm => "read big warm",
            Self::ReadBigHot => "read big hot",
            Self::CreateSmall => "create small",
            Self::StoreSmall => "create small until in the store",
            Self::ReadSmallWarm => "read small warm",
            Self::StatSmall => "stat small",
            Self::ReadBigCold => "read big cold",
            Self::ReadSmallCold => "read small cold",
        }
    }

    pub(super) fn unit(self, sizes: Sizes) -> Unit {
        match self {
            Self::WriteBig | Self::ReadBigWarm | Self::ReadBigHot | Self::ReadBigCold => {
                Unit::MibPerSecond(sizes.big_blocks)
            }
            Self::CreateSmall | Self::ReadSmallWarm | Self::StatSmall => {
                Unit::FilesPerSecond(sizes.small_files)
            }
            Self::ReadSmallCold => Unit::FilesPerSecond(sizes.cold_files),
            Self::StoreBig | Self::StoreSmall => Unit::Seconds,
        }
    }
}

/// What is done on one subject without a pause.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    WriteBig,
    ReadBig,
    CreateSmall,
    ReadSmall,
    StatSmall,
    ReadBigCold,
    ReadSmallCold,
}

impl Step {
    /// On a drive that wrote the files itself: its cache has them, and what "warm" lacks is only the kernel's caches.
    pub(super) const WARM: [Self; 5] =
        [Self::WriteBig, Self::ReadBig, Self::CreateSmall, Self::ReadSmall, Self::StatSmall];
    /// On a drive that has nothing but the store. For the disk it is the same as warm.
    pub(super) const COLD: [Self; 2] = [Self::ReadBigCold, Self::ReadSmallCold];

    pub(super) fn measure(
        self,
        subject: &Subject,
        sizes: Sizes,
    ) -> anyhow::Result<Vec<(Work, Duration)>> {
        let dir = subject.dir();
        let (big, small) = (big_path(dir), small_dir(dir));
        match self {
            Self::WriteBig | Self::CreateSmall => sync(),
            Self::ReadBig
            | Self::ReadSmall
            | Self::StatSmall
            | Self::ReadBigCold
            | Self::ReadSmallCold => drop_caches(),
        }
        claim_memory(sizes);
        let figures = match self {
            Self::WriteBig => {
                let watch = Watch::start();
                write_big(&big, sizes.big_blocks)?;
                let closed = (Work::WriteBig, watch.elapsed());
                let stored = |store: &Path| has(&big_path(store), sizes.big_blocks * MIB);
                let stored = until_stored(subject, &watch, stored)?;
                [closed].into_iter().chain(stored.map(|took| (Work::StoreBig, took))).collect()
            }
            Self::ReadBig => {
                let warm = timed(|| read_big(&big, sizes.big_blocks))?;
                let hot = timed(|| read_big(&big, sizes.big_blocks))?;
                vec![(Work::ReadBigWarm, warm), (Work::ReadBigHot, hot)]
            }
            Self::CreateSmall => {
                fs::create_dir(&small).context("make a directory")?;
                let watch = Watch::start();
                create_small(&small, sizes.small_files)?;
                let closed = (Work::CreateSmall, watch.elapsed());
                let stored = |store: &Path| have_small(&small_dir(store), sizes.small_files);
                let stored = until_stored(subject, &watch, stored)?;
                [closed].into_iter().chain(stored.map(|took| (Work::StoreSmall, took))).collect()
            }
            Self::ReadSmall => {
                vec![(Work::ReadSmallWarm, timed(|| read_small(&small, sizes.small_files))?)]
            }
            Self::StatSmall => {
                vec![(Work::StatSmall, timed(|| stat_small(&small, sizes.small_files))?)]
            }
            Self::ReadBigCold => {
                vec![(Work::ReadBigCold, timed(|| read_big(&big, sizes.big_blocks))?)]
            }
            Self::ReadSmallCold => {
                vec![(Work::ReadSmallCold, timed(|| read_small(&small, sizes.cold_files))?)]
            }
        };
        Ok(figures)
    }
}

/// Checks every byte of the big file.
pub(super) fn verify(subject: &Subject, sizes: Sizes) -> anyhow::Result<()> {
    let mut file = File::open(big_path(subject.dir()))?;
    let mut found = vec![0; BLOCK_BYTES];
    let mut wanted = noise(BLOCK_BYTES);
    for index in 0..sizes.big_blocks {
        file.read_exact(&mut found)?;
        stamp(&mut wanted, index);
        ensure!(found == wanted, "block {index} is not what was written");
    }
    ensure!(file.read(&mut found)? == 0, "the file is longer than what was written");
    Ok(())
}

/// Whether this process may empty the kernel's caches.
pub(super) fn can_drop_caches() -> bool {
    OpenOptions::new().write(true).open(DROP_CACHES).is_ok()
}

fn drop_caches() {
    sync(); // what is not on the disk yet can't be dropped
    let _ = fs::write(DROP_CACHES, "3"); // without the right to do it; said once at the start
}

/// Takes memory and lets it go again. A virtual machine may have given its free memory back to the host, and gets it
/// again at a speed that says nothing about a drive.
fn claim_memory(sizes: Sizes) {
    let bytes = usize::try_from(CLAIM_FACTOR * sizes.big_blocks * MIB).unwrap_or(0);
    std::hint::black_box(vec![1_u8; bytes]);
}

fn sync() {
    nix::unistd::sync();
}

fn big_path(dir: &Path) -> PathBuf {
    dir.join("big")
}

fn small_dir(dir: &Path) -> PathBuf {
    dir.join("small")
}

fn small_path(dir: &Path, index: u64) -> PathBuf {
    dir.join(format!("{index:05}.dat"))
}

fn write_big(path: &Path, blocks: u64) -> anyhow::Result<()> {
    let mut block = noise(BLOCK_BYTES);
    let mut file = File::create_new(path).context("create a file")?;
    for index in 0..blocks {
        stamp(&mut block, index);
        file.write_all(&block).context("write")?;
    }
    Ok(())
}

fn read_big(path: &Path, blocks: u64) -> anyhow::Result<()> {
    let mut file = File::open(path).context("open a file")?;
    let mut block = vec![0; BLOCK_BYTES];
    for _ in 0..blocks {
        file.read_exact(&mut block).context("read")?;
    }
    Ok(())
}

fn create_small(dir: &Path, count: u64) -> anyhow::Result<()> {
    let mut content = noise(SMALL_BYTES);
    for index in 0..count {
        stamp(&mut content, index);
        let mut file = File::create_new(small_path(dir, index)).context("create a file")?;
        file.write_all(&content).context("write")?;
    }
    Ok(())
}

fn read_small(dir: &Path, count: u64) -> anyhow::Result<()> {
    let mut wanted = noise(SMALL_BYTES);
    let mut found = Vec::with_capacity(SMALL_BYTES);
    for index in 0..count {
        stamp(&mut wanted, index);
        found.clear();
        let mut file = File::open(small_path(dir, index)).context("open a file")?;
        file.read_to_end(&mut found).context("read")?;
        ensure!(found == wanted, "file {index} is not what was written");
    }
    Ok(())
}

fn stat_small(dir: &Path, count: u64) -> anyhow::Result<()> {
    for index in 0..count {
        ensure!(has(&small_path(dir, index), SMALL_BYTES as u64), "file {index} is not there");
    }
    Ok(())
}

fn has(path: &Path, bytes: u64) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.len() == bytes)
}

/// Whether all small files are there. Their names are counted first, which costs little.
fn have_small(dir: &Path, count: u64) -> bool {
    let named = fs::read_dir(dir).map_or(0, Iterator::count);
    u64::try_from(named) == Ok(count) && stat_small(dir, count).is_ok()
}

/// The time since the start of `watch` at which the store has it, for a subject with a store.
fn until_stored(
    subject: &Subject,
    watch: &Watch,
    is_stored: impl Fn(&Path) -> bool,
) -> anyhow::Result<Option<Duration>> {
    let Some(store) = subject.store() else { return Ok(None) };
    while watch.elapsed() < STORED_MAX {
        if is_stored(store) {
            return Ok(Some(watch.elapsed()));
        }
        sleep(STORED_POLL);
    }
    bail!("the store of {} does not have all files after {STORED_MAX:?}", subject.kind())
}

/// Bytes without a pattern, the same in each run.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.flatten().take(length).collect()
}

/// Makes a block differ from all others.
fn stamp(block: &mut [u8], index: u64) {
    block[..8].copy_from_slice(&index.to_le_bytes());
}

fn timed(work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<Duration> {
    let watch = Watch::start();
    work()?;
    Ok(watch.elapsed())
}

#[derive(Debug)]
struct Watch(Instant);

impl Watch {
    #[expect(clippy::disallowed_methods, reason = "a benchmark measures the time that passes")]
    fn start() -> Self {
        Self(Instant::now())
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_found_and_what_is_not_is_missed() {
        let folder = tempfile::tempdir().unwrap();
        create_small(folder.path(), 3).unwrap();
        read_small(folder.path(), 3).unwrap();
        assert!(have_small(folder.path(), 3));
        assert!(!have_small(folder.path(), 4));
        fs::write(small_path(folder.path(), 1), noise(SMALL_BYTES)).unwrap();
        assert!(read_small(folder.path(), 3).is_err());
        fs::write(small_path(folder.path(), 1), "short").unwrap();
        assert!(!have_small(folder.path(), 3));
    }

    #[test]
    fn smaller_sizes_are_never_nothing() {
        let sizes = Sizes::divided_by(NonZeroU64::MAX);
        assert_eq!((sizes.big_blocks, sizes.small_files, sizes.cold_files), (1, 1, 1));
    }
}
