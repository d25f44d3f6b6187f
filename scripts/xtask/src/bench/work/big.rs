//! One large file, from its start to its end.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use super::{Bench, MIB, Measured, Watch, noise, rate, stamp};
use crate::bench::row::Row;
use crate::bench::sizes::Sizes;
use crate::bench::subject::Subject;

const BLOCK_BYTES: usize = 1 << 20;

pub(super) fn path(subject: &Subject) -> PathBuf {
    subject.dir().join("big")
}

pub(super) fn synced_path(subject: &Subject) -> PathBuf {
    subject.dir().join("synced")
}

pub(super) fn prepare(bench: &Bench, subject: &Subject) -> anyhow::Result<bool> {
    let is_missing = !path(subject).exists();
    if is_missing {
        write_file(&path(subject), bench.sizes.big_mib)?;
    }
    Ok(is_missing)
}

pub(super) fn prepare_synced(bench: &Bench, subject: &Subject) -> anyhow::Result<bool> {
    let is_missing = !synced_path(subject).exists();
    if is_missing {
        write_file(&synced_path(subject), bench.sizes.synced_mib)?.sync_all()?;
    }
    Ok(is_missing)
}

pub(super) fn write(bench: &Bench, subject: &mut Subject) -> anyhow::Result<Measured> {
    let mib = bench.sizes.big_mib;
    let (counts, cpu) = (subject.counts()?, subject.cpu_seconds()?);
    let watch = Watch::start();
    drop(write_file(&path(subject), mib)?);
    let mut figures = vec![(Row::WriteBig, mib as f64 / watch.seconds())];
    let stored = subject.until_stored(&watch, counts, mib * MIB)?;
    figures.extend(stored.map(|took| (Row::StoreBig, took.as_secs_f64())));
    let spent = subject.cpu_seconds()?.zip(cpu);
    figures.extend(spent.map(|(after, before)| (Row::CpuBig, after - before)));
    Ok(figures)
}

pub(super) fn write_synced(bench: &Bench, subject: &mut Subject) -> anyhow::Result<Measured> {
    let mib = bench.sizes.synced_mib;
    let speed = rate(mib, || Ok(write_file(&synced_path(subject), mib)?.sync_all()?))?;
    Ok(vec![(Row::WriteSynced, speed)])
}

pub(super) fn read(bench: &Bench, subject: &mut Subject) -> anyhow::Result<Measured> {
    let (path, mib) = (path(subject), bench.sizes.big_mib);
    let warm = rate(mib, || read_file(&path, mib))?;
    let hot = rate(mib, || read_file(&path, mib))?;
    Ok(vec![(Row::ReadBigWarm, warm), (Row::ReadBigHot, hot)])
}

pub(super) fn read_cold(bench: &Bench, subject: &mut Subject) -> anyhow::Result<Measured> {
    let (path, mib) = (path(subject), bench.sizes.big_mib);
    Ok(vec![(Row::ReadBigCold, rate(mib, || read_file(&path, mib))?)])
}

/// Checks every byte of the file, if there is one.
///
/// # Errors
/// If something else is in it.
pub(in crate::bench) fn verify(subject: &Subject, sizes: Sizes) -> anyhow::Result<()> {
    if !path(subject).exists() {
        return Ok(());
    }
    let mut file = File::open(path(subject))?;
    let mut found = vec![0; BLOCK_BYTES];
    let mut wanted = noise(BLOCK_BYTES);
    for index in 0..sizes.big_mib {
        file.read_exact(&mut found)?;
        stamp(&mut wanted, index);
        ensure!(found == wanted, "block {index} is not what was written");
    }
    ensure!(file.read(&mut found)? == 0, "the file is longer than what was written");
    Ok(())
}

fn write_file(path: &Path, mib: u64) -> anyhow::Result<File> {
    let mut block = noise(BLOCK_BYTES);
    let mut file = File::create_new(path).context("create a file")?;
    for index in 0..mib {
        stamp(&mut block, index);
        file.write_all(&block).context("write")?;
    }
    Ok(file)
}

fn read_file(path: &Path, mib: u64) -> anyhow::Result<()> {
    let mut file = File::open(path).context("open a file")?;
    let mut block = vec![0; BLOCK_BYTES];
    for _ in 0..mib {
        file.read_exact(&mut block).context("read")?;
    }
    Ok(())
}
