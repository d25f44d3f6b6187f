//! The cache disk lost something that nobody else has: it is said, and nothing more is lost.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use fsd_tests::drive::Drive;
use fsd_tests::files::noise;
use fsd_tests::store::on_a_dir;
use fsd_tests::until;

const PAUSED: &[&str] = &["--bwlimit-up", "off"];

/// Backing files below `dir` with something in them.
fn files_below(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in dir.read_dir().with_context(|| dir.display().to_string())? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.append(&mut files_below(&entry.path())?);
        } else if entry.metadata()?.len() > 0 {
            found.push(entry.path());
        }
    }
    Ok(found)
}

fn remove_store(drive: &Drive) -> Result<()> {
    for entry in drive.state().read_dir()? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("meta.sqlite") {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[test]
fn without_its_metadata_store_it_does_not_start_over_files_that_nobody_else_has() -> Result<()> {
    on_a_dir(|store| {
        let mut drive = Drive::over(store)?.with(PAUSED).started()?;
        std::fs::write(drive.path("scan"), noise(1, 100_000))?;
        ensure!(drive.terminate()?.success(), "{}", drive.log());
        let kept = drive.state().join("kept");
        std::fs::create_dir(&kept)?;
        for name in ["meta.sqlite", "meta.sqlite-wal"] {
            if drive.state().join(name).exists() {
                std::fs::copy(drive.state().join(name), kept.join(name))?;
            }
        }
        remove_store(&drive)?;
        for _ in 0..2 {
            let refused = drive.start().err().context("it started")?.to_string();
            ensure!(refused.contains("meta.sqlite") && refused.contains("data"), "{refused}");
            ensure!(
                files_below(&drive.state().join("data"))?.len() == 1,
                "the file is still there"
            );
        }
        for entry in kept.read_dir()? {
            let entry = entry?;
            std::fs::copy(entry.path(), drive.state().join(entry.file_name()))?;
        }
        drive.start()?;
        ensure!(std::fs::read(drive.path("scan"))? == noise(1, 100_000), "it is back");
        Ok(())
    })
}

#[test]
fn what_the_metadata_store_has_forgotten_is_set_aside() -> Result<()> {
    on_a_dir(|store| {
        let mut drive = Drive::over(store)?.with(PAUSED).started()?;
        std::fs::write(drive.path("old"), noise(1, 50_000))?;
        ensure!(drive.terminate()?.success(), "{}", drive.log());
        let (db, copy) = (drive.state().join("meta.sqlite"), drive.state().join("copy"));
        std::fs::copy(&db, &copy)?;
        drive.start()?;
        std::fs::write(drive.path("new"), noise(2, 60_000))?;
        std::fs::remove_file(drive.path("old"))?;
        std::fs::write(drive.path("old"), noise(3, 70_000))?;
        ensure!(drive.terminate()?.success(), "{}", drive.log());
        remove_store(&drive)?;
        std::fs::rename(copy, db)?;
        drive.start()?;
        let mut aside = Vec::new();
        for path in files_below(&drive.state().join("lost+found"))? {
            aside.push(std::fs::read(path)?);
        }
        aside.sort_by_key(Vec::len);
        ensure!(aside == [noise(2, 60_000), noise(3, 70_000)], "{} files", aside.len());
        ensure!(drive.log().contains("lost+found"), "{}", drive.log());
        Ok(())
    })
}

#[test]
fn a_file_whose_end_is_gone_is_an_error_and_not_a_short_file() -> Result<()> {
    on_a_dir(|store| {
        let mut drive = Drive::over(store)?.with(PAUSED).started()?;
        std::fs::write(drive.path("scan"), noise(1, 100_000))?;
        ensure!(drive.terminate()?.success(), "{}", drive.log());
        let backing = files_below(&drive.state().join("data"))?;
        File::options().write(true).open(&backing[0])?.set_len(10_000)?;
        drive.set_options(&[]);
        drive.start()?;
        ensure!(std::fs::read(drive.path("scan")).is_err(), "it can't be read as if it were whole");
        until("its item is parked", || Ok(drive.json(&["status"])?["queue"]["parked"] == 1))?;
        let path = drive.path("scan").display().to_string();
        ensure!(!drive.run(&["scrub", &path])?.status.success(), "scrub says it");
        ensure!(store.files()?.is_empty(), "nothing goes up");
        Ok(())
    })
}

#[test]
fn a_name_that_the_store_never_took_can_be_deleted() -> Result<()> {
    for rule in ["deletes=propagate", "deletes=keep", "deletes=trash"] {
        on_a_dir(|store| {
            let drive = Drive::over(store)?.with(&["-o", rule]).started()?;
            let long = "\\".repeat(100);
            for name in [".fsd-tmp", &long] {
                std::fs::write(drive.path(name), b"x")?;
            }
            until("they are parked", || Ok(drive.json(&["status"])?["queue"]["parked"] == 2))?;
            for name in [".fsd-tmp", &long] {
                std::fs::remove_file(drive.path(name))?;
            }
            drive.wait().context(rule)
        })?;
    }
    Ok(())
}

#[test]
fn a_metadata_store_that_was_not_closed_and_has_lost_its_log_is_refused() -> Result<()> {
    on_a_dir(|store| {
        let mut drive = Drive::over(store)?.with(PAUSED).started()?;
        std::fs::write(drive.path("scan"), noise(1, 100_000))?;
        ensure!(drive.json(&["status"])?["cache"]["lost_and_found"].is_null(), "nothing is lost");
        drive.kill()?;
        let (log, kept) = (drive.state().join("meta.sqlite-wal"), drive.state().join("kept"));
        std::fs::rename(&log, &kept)?;
        for _ in 0..2 {
            let refused = drive.start().err().context("it started")?.to_string();
            ensure!(
                refused.contains("meta.sqlite-wal") && refused.contains("meta.open"),
                "{refused}"
            );
        }
        std::fs::copy(&kept, &log)?;
        drive.start()?;
        ensure!(std::fs::read(drive.path("scan"))? == noise(1, 100_000), "it is back");
        drive.kill()?;
        std::fs::remove_file(&log)?;
        std::fs::remove_file(drive.state().join("meta.open"))?;
        drive.start()?;
        let lost = &drive.json(&["status"])?["cache"]["lost_and_found"];
        ensure!(lost["files"] == 1, "{lost}");
        let said = drive.run(&["status"])?.stdout;
        ensure!(String::from_utf8_lossy(&said).contains("LOST NAMES"), "people are told");
        let aside = files_below(&drive.state().join("lost+found"))?;
        ensure!(aside.len() == 1 && std::fs::read(&aside[0])? == noise(1, 100_000), "it is there");
        Ok(())
    })
}
