//! What a drive does not have yet.

use std::fs::{self, File};
use std::io::Read;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, ensure};

use super::{Bench, Measured, Watch, far, noise, rate, rate_of_each, small};
use crate::bench::row::Row;
use crate::bench::sizes::{FIRST_BYTES, FIRST_FILES, SMALL_BYTES, Sizes};
use crate::bench::store::Store;
use crate::bench::subject::Subject;

/// Reading far files one by one can be cut short.
const FAR_MAX: Duration = Duration::from_secs(3);
/// Between files of which only the first bytes are read, so that what is read ahead of one does not slow down the next.
const PAUSE: Duration = Duration::from_millis(300);

pub(super) const WIDE: &str = "wide";
const FIRST: &str = "first";

/// Puts objects into a new store, as if somebody else had.
///
/// # Errors
/// If the store does not answer.
pub(in crate::bench) fn fill(store: &Store, sizes: Sizes) -> anyhow::Result<()> {
    store.fill(&format!("{WIDE}/"), sizes.wide_entries, SMALL_BYTES as u64)?;
    store.fill(&format!("{FIRST}/"), FIRST_FILES, FIRST_BYTES)
}

/// Makes the directory with many entries for one that has no store.
///
/// # Errors
/// What the disk says.
pub(in crate::bench) fn make_wide(subject: &Subject, sizes: Sizes) -> anyhow::Result<()> {
    let Some(below) = subject.below() else { return Ok(()) };
    let dir = below.join(WIDE);
    fs::create_dir(&dir).context("make a directory")?;
    for index in 0..sizes.wide_entries {
        File::create_new(small::path(&dir, index)).context("create a file")?;
    }
    Ok(())
}

pub(super) fn list(bench: &Bench, subject: &mut Subject) -> anyhow::Result<Measured> {
    Ok(vec![
        (Row::ListCold, list_once(bench, subject)?),
        (Row::ListAgain, list_once(bench, subject)?),
    ])
}

pub(super) fn list_far(bench: &Bench, subject: &mut Subject) -> anyhow::Result<Measured> {
    Ok(vec![(Row::ListColdFar, far(subject, || list_once(bench, subject))?)])
}

fn list_once(bench: &Bench, subject: &Subject) -> anyhow::Result<f64> {
    let count = bench.sizes.wide_entries;
    rate(count, || {
        let found = fs::read_dir(subject.dir().join(WIDE)).context("open a directory")?.count();
        ensure!(found as u64 == count, "{found} entries instead of {count}");
        Ok(())
    })
}

/// For one that does not show the objects of others.
pub(super) fn prepare_first(_: &Bench, subject: &Subject) -> anyhow::Result<bool> {
    let dir = first_dir(subject);
    let is_missing = !dir.exists();
    if is_missing {
        fs::create_dir(&dir).context("make a directory")?;
        let content = noise(usize::try_from(FIRST_BYTES)?);
        for index in 0..FIRST_FILES {
            fs::write(small::path(&dir, index), &content).context("write a file")?;
        }
    }
    Ok(is_missing)
}

pub(super) fn first_bytes(_: &Bench, subject: &mut Subject) -> anyhow::Result<Measured> {
    let dir = first_dir(subject);
    ensure!(fs::read_dir(&dir).context("list")?.count() as u64 == FIRST_FILES, "files are missing");
    let mut took = far(subject, || {
        let each = (0..FIRST_FILES).map(|index| {
            sleep(PAUSE);
            let watch = Watch::start();
            let mut file = File::open(small::path(&dir, index)).context("open a file")?;
            file.read_exact(&mut [0; SMALL_BYTES]).context("read")?;
            Ok(watch.seconds() * 1000.0)
        });
        each.collect::<anyhow::Result<Vec<f64>>>()
    })?;
    took.sort_by(f64::total_cmp);
    Ok(vec![(Row::FirstBytes, took[took.len() / 2])])
}

pub(super) fn small_far(bench: &Bench, subject: &mut Subject) -> anyhow::Result<Measured> {
    let dir = small::dir(subject);
    let found = fs::read_dir(&dir).context("list")?.count() as u64;
    ensure!(found == bench.sizes.small_files, "there are {found} files");
    let count = bench.sizes.far_files.min(found);
    let speed =
        far(subject, || rate_of_each(count, FAR_MAX, |index| small::read_one(&dir, index)))?;
    Ok(vec![(Row::ReadSmallFar, speed)])
}

pub(super) fn small_unlisted(bench: &Bench, subject: &mut Subject) -> anyhow::Result<Measured> {
    let dir = small::dir(subject);
    let count = bench.sizes.unlisted_files.min(bench.sizes.small_files);
    let speed = rate(count, || (0..count).try_for_each(|index| small::read_one(&dir, index)))?;
    Ok(vec![(Row::ReadSmallUnlisted, speed)])
}

fn first_dir(subject: &Subject) -> PathBuf {
    subject.dir().join(FIRST)
}
