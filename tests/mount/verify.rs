//! `fsd verify`: is what is on record, cached and in the store the same?

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use fsd_tests::drive::Drive;
use fsd_tests::files::noise;
use fsd_tests::store::{on_a_dir, on_each_store, on_s3};
use serde_json::Value;

const DIFFERS: i32 = 8;

/// What `fsd verify` says, and its exit code.
fn verify(drive: &Drive, options: &[&str]) -> Result<(Value, Option<i32>)> {
    let output = drive.run(&[&["verify", "--json"], options].concat())?;
    let said = serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    Ok((said, output.status.code()))
}

/// The codes and names of what differs, in order.
fn findings(said: &Value) -> Vec<String> {
    let text = |found: &Value, key: &str| found[key].as_str().unwrap_or_default().to_owned();
    let name = |path: String| path.rsplit('/').next().unwrap_or_default().to_owned();
    let all = said["findings"].as_array().into_iter().flatten();
    let mut all: Vec<_> =
        all.map(|found| format!("{} {}", text(found, "code"), name(text(found, "at")))).collect();
    all.sort();
    all
}

#[test]
fn what_was_uploaded_is_what_is_on_record_and_what_others_do_is_found() -> Result<()> {
    on_each_store(|store| {
        let mut drive = Drive::mounted(store)?;
        for (name, bytes) in [("small", 5000), ("empty", 0), ("large", (20 << 20) + 7)] {
            std::fs::write(drive.path(name), noise(1, bytes))?;
        }
        for name in ["gone", "changed"] {
            std::fs::write(drive.path(name), noise(2, 5000))?;
        }
        std::fs::hard_link(drive.path("small"), drive.path("link"))?;
        std::os::unix::fs::symlink("small", drive.path("symlink"))?;
        drive.wait()?;
        for options in [&[][..], &["--deep"]] {
            let (said, code) = verify(&drive, options)?;
            ensure!((findings(&said), code) == (vec![], Some(0)), "{said:#}");
            ensure!(said["unproven"] == 0 && said["files"] == 5, "{said:#}");
        }
        // Attributes make another version of it, with the same content; and so does another name.
        std::os::unix::fs::chown(drive.path("large"), Some(7), None)?;
        std::fs::rename(drive.path("small"), drive.path("renamed"))?;
        drive.wait()?;
        drive.restart()?;
        let (said, code) = verify(&drive, &["--deep"])?;
        ensure!((findings(&said), code) == (vec![], Some(0)), "{said:#}");

        store.delete("gone")?;
        store.put("changed", &noise(3, 5000))?;
        let (said, code) = verify(&drive, &[])?;
        let expected = ["object-missing gone", "object-version changed"];
        ensure!(findings(&said) == expected && code == Some(DIFFERS), "{said:#}");
        let one = drive.path("renamed");
        let (said, code) = verify(&drive, &[one.to_str().context("a path")?])?;
        ensure!((findings(&said), code) == (vec![], Some(0)), "{said:#}");
        Ok(())
    })
}

/// The backing files of a drive that are so long.
fn backing_files(drive: &Drive, bytes: usize) -> Result<Vec<PathBuf>> {
    fn walk(dir: &Path, bytes: u64, found: &mut Vec<PathBuf>) -> Result<()> {
        for entry in dir.read_dir()? {
            let entry = entry?;
            match entry.metadata()? {
                meta if meta.is_dir() => walk(&entry.path(), bytes, found)?,
                meta if meta.len() == bytes => found.push(entry.path()),
                _ => {}
            }
        }
        Ok(())
    }
    let mut found = Vec::new();
    walk(&drive.state().join("data"), bytes as u64, &mut found)?;
    Ok(found)
}

#[test]
fn what_the_cache_disk_forgot_is_found_and_scrub_mends_it() -> Result<()> {
    on_a_dir(|store| {
        let drive = Drive::mounted(store)?;
        let sizes = [("small", 5001), ("large", (9 << 20) + 3)];
        for (name, bytes) in sizes {
            std::fs::write(drive.path(name), noise(4, bytes))?;
        }
        drive.wait()?;
        drive.run(&["scrub", drive.mount().to_str().context("a path")?])?;
        for (name, bytes) in sizes {
            let files = backing_files(&drive, bytes)?;
            ensure!(files.len() == 1, "{files:?}");
            File::options().write(true).open(&files[0])?.write_all_at(b"rotten", 3000)?;
            let (said, code) = verify(&drive, &[])?;
            ensure!(findings(&said) == [format!("cache-content {name}")], "{said:#}");
            ensure!(code == Some(DIFFERS), "{code:?}");
            drive.run(&["scrub", drive.mount().to_str().context("a path")?])?;
            let (said, code) = verify(&drive, &[])?;
            ensure!((findings(&said), code) == (vec![], Some(0)), "{said:#}");
        }
        Ok(())
    })
}

#[test]
fn what_the_store_forgot_is_found_by_reading_it() -> Result<()> {
    on_s3(|store| {
        let drive = Drive::mounted(store)?;
        for (name, bytes) in [("small", 5000), ("large", 20 << 20), ("sound", 5000)] {
            std::fs::write(drive.path(name), noise(1, bytes))?;
        }
        drive.wait()?;
        let server = store.server().context("a server")?;
        ensure!(server.rot("small") && server.rot("large"), "both are there");
        let (said, code) = verify(&drive, &[])?;
        ensure!((findings(&said), code) == (vec![], Some(0)), "heads show nothing: {said:#}");
        let (said, code) = verify(&drive, &["--deep"])?;
        let expected = ["object-content large", "object-content small"];
        ensure!(findings(&said) == expected && code == Some(DIFFERS), "{said:#}");
        Ok(())
    })
}

#[test]
fn what_others_put_is_unproven_and_what_another_gateway_put_is_not() -> Result<()> {
    on_each_store(|store| {
        let mut first = Drive::mounted(store)?;
        std::fs::write(first.path("ours"), noise(1, 5000))?;
        first.wait()?;
        first.terminate()?;
        store.put("theirs", b"content")?;
        let second = Drive::mounted(store)?;
        for name in ["ours", "theirs"] {
            std::fs::read(second.path(name))?;
        }
        let (said, code) = verify(&second, &["--deep"])?;
        ensure!((findings(&said), code) == (vec![], Some(0)), "{said:#}");
        ensure!(said["files"] == 2 && said["unproven"] == 1, "{said:#}");
        Ok(())
    })
}
