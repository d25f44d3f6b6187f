//! Many small files in one directory.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use super::programs::{self, run};
use super::{Bench, Measured, Watch, far, noise, rate, stamp};
use crate::bench::row::Row;
use crate::bench::sizes::SMALL_BYTES;
use crate::bench::subject::Subject;

pub(super) fn dir(subject: &Subject) -> PathBuf {
    subject.dir().join("small")
}

pub(super) fn path(dir: &Path, index: u64) -> PathBuf {
    dir.join(format!("{index:05}.dat"))
}

pub(super) fn prepare(bench: &Bench, subject: &Subject) -> anyhow::Result<bool> {
    let is_missing = !dir(subject).exists();
    if is_missing {
        fs::create_dir(dir(subject)).context("make a directory")?;
        create_all(&dir(subject), bench.sizes.small_files, false)?;
    }
    Ok(is_missing)
}

pub(super) fn create(bench: &Bench, subject: &mut Subject) -> anyhow::Result<Measured> {
    let (dir, count) = (dir(subject), bench.sizes.small_files);
    let (counts, cpu) = (subject.counts()?, subject.cpu_seconds()?);
    fs::create_dir(&dir).context("make a directory")?;
    let watch = Watch::start();
    create_all(&dir, count, false)?;
    let mut figures = vec![(Row::CreateSmall, count as f64 / watch.seconds())];
    let stored = subject.until_stored(&watch, counts, count * SMALL_BYTES as u64)?;
    figures.extend(stored.map(|took| (Row::StoreSmall, took.as_secs_f64())));
    let spent = subject.cpu_seconds()?.zip(cpu);
    figures.extend(spent.map(|(after, before)| (Row::CpuSmall, after - before)));
    Ok(figures)
}

/// As [`create`], with the store far away.
pub(super) fn create_far(bench: &Bench, subject: &mut Subject) -> anyhow::Result<Measured> {
    let (dir, count) = (subject.dir().join("small-far"), bench.sizes.small_files);
    let counts = subject.counts()?;
    fs::create_dir(&dir).context("make a directory")?;
    let stored = far(subject, || {
        let watch = Watch::start();
        create_all(&dir, count, false)?;
        subject.until_stored(&watch, counts, count * SMALL_BYTES as u64)
    })?;
    Ok(stored.map(|took| (Row::StoreSmallFar, took.as_secs_f64())).into_iter().collect())
}

pub(super) fn create_synced(bench: &Bench, subject: &mut Subject) -> anyhow::Result<Measured> {
    let dir = subject.dir().join("small-synced");
    fs::create_dir(&dir).context("make a directory")?;
    let count = bench.sizes.synced_files;
    Ok(vec![(Row::CreateSynced, rate(count, || create_all(&dir, count, true))?)])
}

pub(super) fn read(bench: &Bench, subject: &mut Subject) -> anyhow::Result<Measured> {
    let (dir, count) = (dir(subject), bench.sizes.small_files);
    let all = || (0..count).try_for_each(|index| read_one(&dir, index));
    Ok(vec![(Row::ReadSmallWarm, rate(count, all)?), (Row::ReadSmallHot, rate(count, all)?)])
}

pub(super) fn stat(bench: &Bench, subject: &mut Subject) -> anyhow::Result<Measured> {
    let (dir, count) = (dir(subject), bench.sizes.small_files);
    let speed = rate(count, || {
        (0..count).try_for_each(|index| {
            let bytes = fs::metadata(path(&dir, index)).context("stat")?.len();
            ensure!(bytes == SMALL_BYTES as u64, "file {index} has {bytes} bytes");
            Ok(())
        })
    })?;
    Ok(vec![(Row::StatSmall, speed)])
}

pub(super) fn list_long(bench: &Bench, subject: &mut Subject) -> anyhow::Result<Measured> {
    programs::load("ls")?;
    let mut command = Command::new("ls");
    command.arg("-lR").arg(dir(subject)).env("LC_ALL", "C");
    let speed = rate(bench.sizes.small_files, || run(&mut command))?;
    Ok(vec![(Row::ListLong, speed)])
}

pub(super) fn read_one(dir: &Path, index: u64) -> anyhow::Result<()> {
    let mut found = Vec::with_capacity(SMALL_BYTES);
    let mut file = File::open(path(dir, index)).context("open a file")?;
    file.read_to_end(&mut found).context("read")?;
    ensure!(
        found.len() == SMALL_BYTES && found.starts_with(&index.to_le_bytes()),
        "file {index} is not what was written"
    );
    Ok(())
}

fn create_all(dir: &Path, count: u64, is_synced: bool) -> anyhow::Result<()> {
    let mut content = noise(SMALL_BYTES);
    for index in 0..count {
        stamp(&mut content, index);
        let mut file = File::create_new(path(dir, index)).context("create a file")?;
        file.write_all(&content).context("write")?;
        if is_synced {
            file.sync_all().context("sync")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_found_and_what_is_not_is_missed() {
        let folder = tempfile::tempdir().unwrap();
        create_all(folder.path(), 3, false).unwrap();
        (0..3).try_for_each(|index| read_one(folder.path(), index)).unwrap();
        assert!(read_one(folder.path(), 3).is_err());
        fs::copy(path(folder.path(), 1), path(folder.path(), 2)).unwrap();
        assert!(read_one(folder.path(), 2).is_err());
        fs::write(path(folder.path(), 1), "short").unwrap();
        assert!(read_one(folder.path(), 1).is_err());
    }
}
