//! Small accesses to a large file, in random order.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;

use anyhow::{Context, anyhow};

use super::mapped::Mapped;
use super::{Bench, MIB, Measured, Random, WORK_MAX, Watch, big, noise, rate_of_each};
use crate::bench::row::Row;
use crate::bench::sizes::SMALL_BYTES;
use crate::bench::subject::{Rest, Subject};

/// Out of ten accesses; the others are writes.
const READS_IN_TEN: u64 = 6;
const THREADS: u64 = 8;
const BLOCK: u64 = SMALL_BYTES as u64;

pub(super) fn warm(bench: &Bench, subject: &mut Subject) -> anyhow::Result<Measured> {
    let path = big::synced_path(subject);
    let bytes = bench.sizes.synced_mib * MIB;
    let count = bench.sizes.accesses;
    let file = File::open(&path).context("open a file")?;
    let read = access(&file, bytes, count, 1, |_| true)?;
    let mixed = mixed(&path, bytes, count, 1)?;
    let watch = Watch::start();
    let deep: anyhow::Result<f64> = thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS)
            .map(|seed| {
                let path = &path;
                scope.spawn(move || -> anyhow::Result<f64> {
                    let watch = Watch::start();
                    Ok(self::mixed(path, bytes, count / THREADS, 2 + seed)? * watch.seconds())
                })
            })
            .collect();
        let done = workers.into_iter().map(|worker| {
            worker.join().map_err(|_| anyhow!("a thread of the benchmark panicked"))?
        });
        done.sum()
    });
    let deep = deep? / watch.seconds();
    let mapped = access_mapped(&path, bytes, count)?;
    Ok(vec![
        (Row::RandomRead, read),
        (Row::RandomMixed, mixed),
        (Row::RandomMixedDeep, deep),
        (Row::RandomMapped, mapped),
    ])
}

pub(super) fn cold(bench: &Bench, subject: &mut Subject) -> anyhow::Result<Measured> {
    let bytes = bench.sizes.big_mib * MIB;
    let count = bench.sizes.cold_accesses;
    let before = subject.counts()?;
    let file = File::open(big::path(subject)).context("open a file")?;
    let speed = access(&file, bytes, count, 7, |_| true)?;
    let mut figures = vec![(Row::RandomCold, speed)];
    if subject.kind().has_store() {
        subject.settle(Rest::Little)?; // what is on its way is fetched, too
        let fetched = subject.counts()?.bytes_out - before.bytes_out;
        figures.push((Row::RandomColdFetched, fetched as f64 / (count * BLOCK) as f64));
    }
    Ok(figures)
}

fn mixed(path: &Path, bytes: u64, count: u64, seed: u64) -> anyhow::Result<f64> {
    let file = File::options().read(true).write(true).open(path).context("open a file")?;
    access(&file, bytes, count, seed, |random| random.below(10) < READS_IN_TEN)
}

fn access(
    file: &File,
    bytes: u64,
    count: u64,
    seed: u64,
    reads: impl Fn(&mut Random) -> bool,
) -> anyhow::Result<f64> {
    let mut random = Random::new(seed);
    let mut block = noise(SMALL_BYTES);
    rate_of_each(count, WORK_MAX, |_| {
        let at = random.below(bytes / BLOCK) * BLOCK;
        match reads(&mut random) {
            true => file.read_exact_at(&mut block, at).context("read"),
            false => file.write_all_at(&block, at).context("write"),
        }
    })
}

fn access_mapped(path: &Path, bytes: u64, count: u64) -> anyhow::Result<f64> {
    let file = File::options().read(true).write(true).open(path).context("open a file")?;
    let mut mapped = Mapped::new(&file, usize::try_from(bytes)?)?;
    let mut random = Random::new(20);
    let mut block = noise(SMALL_BYTES);
    let blocks = bytes / BLOCK;
    rate_of_each(count, WORK_MAX, |_| {
        let at = usize::try_from(random.below(blocks) * BLOCK)?;
        let place = mapped.get_mut(at..at + SMALL_BYTES).context("a place in the file")?;
        match random.below(10) < READS_IN_TEN {
            true => block.copy_from_slice(place),
            false => place.copy_from_slice(&block),
        }
        Ok(())
    })
}
