//! What an application does on a drive, with a stopwatch.

mod big;
mod cold;
mod mapped;
mod memory;
mod names;
mod programs;
mod random;
mod small;
mod steps;
mod store;

use std::fs::{self, OpenOptions};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;

use super::row::Row;
use super::sizes::Sizes;
use super::subject::{Programs, Rest, Subject};
use super::watch::Watch;

pub(super) use big::verify;
pub(super) use cold::{fill, make_wide};
pub(crate) use names::{WORD as NAMES_WORD, run as run_names};
pub(super) use programs::Sources;
pub(super) use steps::{AFTER_ALL, EACH_ROUND, Step};
pub(super) use store::measure as measure_store;

const MIB: u64 = 1 << 20;
/// What each request takes more if the store is far.
const LATENCY: Duration = Duration::from_millis(20);
const DROP_CACHES: &str = "/proc/sys/vm/drop_caches";
/// Work that can be cut short ends then; what counts is the rate.
const WORK_MAX: Duration = Duration::from_secs(2);
/// How often somebody looks whether it is time to end.
const LOOK_EVERY: u64 = 16;

/// Figures of one step.
pub(super) type Measured = Vec<(Row, f64)>;

/// What all work shares.
#[derive(Debug)]
pub(super) struct Bench {
    pub(super) sizes: Sizes,
    pub(super) programs: Programs,
    pub(super) sources: Sources,
    /// On the plain disk.
    pub(super) folder: PathBuf,
}

impl Bench {
    /// Does one step on one subject, from making what it needs to its figures and until the subject is idle again. Says
    /// how long the work itself took, too.
    ///
    /// # Errors
    /// What fails on the drive.
    pub(super) fn perform(
        &self,
        step: &Step,
        subject: &mut Subject,
    ) -> anyhow::Result<(Measured, Duration)> {
        if (step.prepare)(self, subject)? {
            subject.settle(Rest::Uploads)?;
        }
        if step.is_fresh {
            subject.restart_fresh(&self.programs)?;
            subject.settle(Rest::Little)?;
        }
        sync(); // what is not on the disk yet can't be dropped, and writing it would disturb
        if step.is_dropped {
            drop_caches();
        }
        claim_memory(&self.folder, (step.claims_mib)(self.sizes))?;
        let watch = Watch::start();
        let measured = (step.measure)(self, subject);
        let took = watch.elapsed();
        subject.settle(step.leaves)?;
        Ok((measured?, took))
    }
}

/// Whether this process may empty the kernel's caches.
pub(super) fn can_drop_caches() -> bool {
    OpenOptions::new().write(true).open(DROP_CACHES).is_ok()
}

fn drop_caches() {
    let _ = fs::write(DROP_CACHES, "3"); // without the right to do it; said once at the start
}

/// Takes pages as a file does, and lets them go again, so that the next who needs some gets these. A virtual machine may
/// have given its free memory back to the host, and gets it again at a speed that says nothing about a drive. Reading a
/// file without content takes pages and leaves the disk alone; other kinds of memory do not come back as pages of files.
fn claim_memory(folder: &Path, mib: u64) -> anyhow::Result<()> {
    let mut file = tempfile::tempfile_in(folder).context("make a file")?;
    file.set_len(mib * MIB).context("make a file longer")?;
    let mut block = vec![0; usize::try_from(MIB)?];
    for _ in 0..mib {
        file.read_exact(&mut block).context("read a file without content")?;
    }
    Ok(())
}

fn sync() {
    nix::unistd::sync();
}

/// Bytes without a pattern, the same in each run.
pub(super) fn noise(length: usize) -> Vec<u8> {
    let mut random = Random::new(1);
    let words = std::iter::repeat_with(|| random.next().to_le_bytes());
    words.flatten().take(length).collect()
}

/// Makes a block differ from all others.
fn stamp(block: &mut [u8], index: u64) {
    let bytes = index.to_le_bytes();
    let length = bytes.len().min(block.len());
    block[..length].copy_from_slice(&bytes[..length]);
}

/// Numbers without a pattern, the same in each run.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(0x9e37_79b9_7f4a_7c15 ^ seed.wrapping_mul(0x2545_f491_4f6c_dd1d))
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }
}

fn seconds(work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    let watch = Watch::start();
    work()?;
    Ok(watch.seconds())
}

/// How much of `amount` is done in a second.
fn rate(amount: u64, work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    Ok(amount as f64 / seconds(work)?)
}

/// Does `work` for each number below `count`, or for fewer if that takes too long; says how many a second.
fn rate_of_each(
    count: u64,
    most: Duration,
    mut work: impl FnMut(u64) -> anyhow::Result<()>,
) -> anyhow::Result<f64> {
    let watch = Watch::start();
    let mut done = 0;
    while done < count && (!done.is_multiple_of(LOOK_EVERY) || watch.elapsed() < most) {
        work(done)?;
        done += 1;
    }
    Ok(done as f64 / watch.seconds())
}

/// Does `work` while the store is far.
fn far<T>(subject: &Subject, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let store = subject.store().context("it has no store")?;
    store.set_latency(LATENCY)?;
    let done = work();
    store.set_latency(Duration::ZERO)?;
    done
}
