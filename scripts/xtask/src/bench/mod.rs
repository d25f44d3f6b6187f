//! `cargo xtask bench quick`: ours, the local disk and a peer in one run, as ratios.
//!
//! Each work is done on one subject after the other before the next work begins, so that noise hits all alike. Every
//! round starts with empty caches and an empty store; a figure is the median of all rounds.

mod client;
mod mount;
mod rclone;
mod subject;
mod table;

use std::fs;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use tempfile::TempDir;

use client::{Sizes, Step};
use rclone::CacheMode;
use subject::{Kind, Programs, Subject};
use table::Figures;

const ROUNDS: usize = 3;

/// Set to a program that is to be measured instead of the one that cargo builds.
const PROGRAM: &str = "FSD_BIN";

/// Measures and prints a table.
///
/// # Errors
/// If a program can't be had, or a drive fails. That a peer is missing is none: it is said and left out.
pub(crate) fn quick(root: &Path, smaller: NonZeroU64) -> anyhow::Result<()> {
    let sizes = Sizes::divided_by(smaller);
    let place = root.join("target/bench");
    fs::create_dir_all(&place).with_context(|| format!("make {}", place.display()))?;
    let programs = Programs { fsd: program(root)?, rclone: found_rclone(&place) };
    let mut kinds = vec![Kind::Disk, Kind::Fsd];
    if programs.rclone.is_some() {
        kinds.extend([Kind::Rclone(CacheMode::Writes), Kind::Rclone(CacheMode::Full)]);
    }
    print_circumstances(&place, &programs, &kinds, sizes);

    let folder = TempDir::with_prefix_in("run-", &place).context("make a folder")?;
    let mut figures = Figures::default();
    for round in 0..ROUNDS {
        eprintln!("round {} of {ROUNDS}", round + 1);
        kinds.rotate_left(usize::from(round > 0));
        let folder = folder.path().join(format!("round-{}", round + 1));
        fs::create_dir(&folder).context("make a folder")?;
        measure(&kinds, &programs, &folder, sizes, &mut figures)?;
    }
    folder.close().context("clean up")?;
    println!("\n{}", figures.table(sizes));
    Ok(())
}

fn measure(
    kinds: &[Kind],
    programs: &Programs,
    folder: &Path,
    sizes: Sizes,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let subjects = kinds.iter().map(|&kind| Subject::start(kind, programs, folder));
    let mut subjects = subjects.collect::<anyhow::Result<Vec<_>>>()?;
    for step in Step::WARM {
        for subject in &subjects {
            figures.extend(subject.kind(), step.measure(subject, sizes)?);
        }
    }
    for subject in &mut subjects {
        subject.restart_fresh(programs)?;
    }
    for step in Step::COLD {
        for subject in &subjects {
            figures.extend(subject.kind(), step.measure(subject, sizes)?);
        }
    }
    for subject in &subjects {
        client::verify(subject, sizes)
            .with_context(|| format!("read back through {}", subject.kind()))?;
    }
    subjects.into_iter().try_for_each(Subject::stop)
}

/// The release build of this tree, or what [`PROGRAM`] names.
fn program(root: &Path) -> anyhow::Result<PathBuf> {
    if let Some(program) = std::env::var_os(PROGRAM) {
        return Ok(program.into());
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--release", "--package", "fsd"])
        .args(["--target-dir", "target"])
        .current_dir(root)
        .status()
        .context("run cargo")?;
    ensure!(built.success(), "fsd does not build");
    Ok(root.join("target/release/fsd"))
}

fn found_rclone(place: &Path) -> Option<PathBuf> {
    rclone::find(place).inspect_err(|error| println!("SKIP: no rclone: {error:#}")).ok()
}

fn print_circumstances(place: &Path, programs: &Programs, kinds: &[Kind], sizes: Sizes) {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!("linux {}, {cores} cores, in {}", kernel.trim(), place.display());
    println!("big: one file of {} MiB; small: {} files of 4 KiB", sizes.big_mib(), sizes.small());
    println!("each figure is the median of {ROUNDS} rounds; store: a directory on the same disk");
    println!("disk: a plain directory, which is the limit for what is cached");
    for kind in kinds {
        if let Some(command) = kind.command_line(programs) {
            println!("{kind}: {command}");
        }
    }
    if !client::can_drop_caches() {
        println!("SKIP: only root can drop the kernel's caches, so warm and cold reads are hot");
    }
}
