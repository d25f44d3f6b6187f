//! Work on names only, by several processes at once.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, ensure};

use super::{Bench, Measured, Watch};
use crate::bench::row::Row;
use crate::bench::subject::Subject;

/// The word that makes of this program one of the processes.
pub(crate) const WORD: &str = "bench-names";
/// Make a directory, make a file, rename it, remove it.
const OPS: f64 = 4.0;
const PROCESSES: u64 = 4;

pub(super) fn one(bench: &Bench, subject: &mut Subject) -> anyhow::Result<Measured> {
    Ok(vec![(Row::Names, by_processes(subject.dir(), 1, bench.sizes.names)?)])
}

pub(super) fn many(bench: &Bench, subject: &mut Subject) -> anyhow::Result<Measured> {
    let each = (bench.sizes.names / PROCESSES).max(1);
    Ok(vec![(Row::NamesMany, by_processes(subject.dir(), PROCESSES, each)?)])
}

fn by_processes(dir: &Path, processes: u64, count: u64) -> anyhow::Result<f64> {
    let program = std::env::current_exe().context("find this program")?;
    let dirs = (0..processes).map(|_| new_dir(dir)).collect::<anyhow::Result<Vec<_>>>()?;
    let watch = Watch::start();
    let started = dirs.iter().map(|dir| {
        let mut command = Command::new(&program);
        command.arg(WORD).arg(dir).arg(count.to_string());
        command.stdin(Stdio::null()).spawn().context("start a process")
    });
    let started = started.collect::<anyhow::Result<Vec<Child>>>()?;
    for mut process in started {
        ensure!(process.wait()?.success(), "a process failed");
    }
    Ok((processes * count) as f64 * OPS / watch.seconds())
}

fn new_dir(parent: &Path) -> anyhow::Result<PathBuf> {
    let names = (0..).map(|number| parent.join(format!("names-{number}")));
    let dir = names.into_iter().find(|dir: &PathBuf| !dir.exists()).context("a free name")?;
    fs::create_dir(&dir).context("make a directory")?;
    Ok(dir)
}

/// What one of the processes does.
///
/// # Errors
/// What the drive does not do.
pub(crate) fn run(dir: &Path, count: u64) -> anyhow::Result<()> {
    for number in 0..count {
        let dir = dir.join(number.to_string());
        fs::create_dir(&dir).context("make a directory")?;
        File::create_new(dir.join("a")).context("create a file")?;
        fs::rename(dir.join("a"), dir.join("b")).context("rename")?;
        fs::remove_file(dir.join("b")).context("remove a file")?;
    }
    Ok(())
}
