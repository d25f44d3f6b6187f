//! The cache as its operator steers it: pin, warm, evict, explain, scrub.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use fsd_tests::drive::Drive;
use fsd_tests::files::noise;
use fsd_tests::proxy::Network;
use fsd_tests::store::{on_each_store, on_s3};
use fsd_tests::until;
use serde_json::Value;

const MIB: usize = 1 << 20;

fn state(drive: &Drive, name: &str) -> Result<String> {
    let value = xattr::get(drive.path(name), "user.fsd.state")?.context("there is a state")?;
    Ok(String::from_utf8(value)?)
}

fn explained(drive: &Drive, name: &str) -> Result<Value> {
    drive.json(&["explain", &drive.path(name).to_string_lossy()])
}

fn verb(drive: &Drive, verb: &str, name: &str) -> Result<Value> {
    drive.json(&[verb, &drive.path(name).to_string_lossy()])
}

/// The only backing file of so many bytes.
fn backing_of(drive: &Drive, bytes: usize) -> Result<PathBuf> {
    let mut found = Vec::new();
    for folder in drive.state().join("data").read_dir()? {
        for file in folder?.path().read_dir()? {
            let path = file?.path();
            if path.metadata()?.len() == bytes as u64 {
                found.push(path);
            }
        }
    }
    ensure!(found.len() == 1, "{found:?}");
    found.pop().context("one")
}

#[test]
fn a_file_tells_where_its_newest_version_is() -> Result<()> {
    on_s3(|store| {
        let (proxy, variables) = store.behind_a_proxy()?;
        let body = noise(1, 3 * MIB);
        store.put("dir/cold", &body)?;
        let drive = Drive::over(store)?.with_variables(variables).started()?;
        ensure!(state(&drive, "dir/cold")? == "cloud-only");
        let mut part = [0; 10];
        File::open(drive.path("dir/cold"))?.read_exact_at(&mut part, 0)?;
        ensure!(state(&drive, "dir/cold")? == "partial");
        let known = explained(&drive, "dir/cold")?;
        ensure!(
            known["object"]["key"] == "dir/cold" && known["bytes_here"].as_u64() < Some(3 << 20),
            "{known}"
        );
        ensure!(known["daemon_path"].is_string(), "{known}");
        let warmed = verb(&drive, "warm", "dir")?;
        ensure!(warmed["files_done"] == 1 && warmed["problems"] == 0, "{warmed}");
        ensure!(state(&drive, "dir/cold")? == "synced");
        verb(&drive, "pin", "dir")?;
        ensure!(state(&drive, "dir/cold")? == "synced,pinned");
        proxy.set(Network::Refusing);
        std::fs::write(drive.path("dir/new"), b"new")?;
        ensure!(state(&drive, "dir/new")? == "dirty,pinned");
        let known = explained(&drive, "dir/new")?;
        ensure!(known["queue"]["action"] == "upload" && known["object"].is_null(), "{known}");
        // While the link is down what is warm is read, and what is dirty does not go.
        ensure!(std::fs::read(drive.path("dir/cold"))? == body, "it reads as other bytes");
        let evicted = verb(&drive, "evict", "")?;
        ensure!(evicted["files"] == 0 && evicted["pinned"].as_u64() > Some(0), "{evicted}");
        drive.run(&["unpin", &drive.path("dir").to_string_lossy()])?;
        // The kernel tells of the last close a moment later.
        until("what can go is gone", || Ok(verb(&drive, "evict", "")?["files"] == 1))?;
        let evicted = verb(&drive, "evict", "")?;
        ensure!(evicted["files"] == 0 && evicted["not_uploaded"] == 1, "{evicted}");
        ensure!(state(&drive, "dir/cold")? == "cloud-only" && state(&drive, "dir/new")? == "dirty");
        proxy.set(Network::Up);
        drive.wait()?;
        ensure!(state(&drive, "dir/new")? == "synced");
        ensure!(
            xattr::set(drive.path("dir/new"), "user.fsd.state", b"x").is_err(),
            "nobody sets it"
        );
        ensure!(xattr::list(drive.path("dir/new"))?.count() == 0, "copies do not take it along");
        let text = String::from_utf8(
            drive.run(&["explain", &drive.path("dir/new").to_string_lossy()])?.stdout,
        )?;
        ensure!(text.contains("state   synced\n") && text.contains("up to date"), "{text}");
        Ok(())
    })
}

#[test]
fn what_is_pinned_is_fetched_kept_fresh_and_never_evicted() -> Result<()> {
    on_s3(|store| {
        let body = noise(1, 5 * MIB);
        store.put("keep/a.dcm", &body)?;
        store.put("keep/deep/b.dcm", &noise(2, MIB))?;
        store.put("keep/c.txt", &noise(3, MIB))?;
        let mut drive = Drive::over(store)?.with(&["--cache-size", "64MiB"]).started()?;
        let glob = drive.path("keep/**/*.dcm").to_string_lossy().into_owned();
        drive.json(&["pin", &glob])?;
        let all_here = || {
            let pins = drive.json(&["pin"])?;
            Ok(pins[0]["files"] == 2 && pins[0]["bytes_here"] == 6 * MIB)
        };
        until("what is pinned is here", all_here)?;
        ensure!(state(&drive, "keep/c.txt")? == "cloud-only", "what is not pinned is not fetched");
        drive.restart()?;
        // Much more goes through the cache than it holds.
        for n in 0..12 {
            std::fs::write(drive.path(&format!("f{n}")), noise(n, 10 * MIB))?;
        }
        drive.wait()?;
        ensure!(state(&drive, "keep/a.dcm")? == "synced,pinned");
        ensure!(std::fs::read(drive.path("keep/a.dcm"))? == body, "it reads as other bytes");
        // A new version comes by itself, and so does a new file.
        store.put("keep/a.dcm", &noise(7, 4 * MIB))?;
        store.put("keep/new/d.dcm", &noise(8, MIB))?;
        drive.restart()?;
        until("the new versions are here", || {
            let pins = drive.json(&["pin"])?;
            Ok(pins[0]["files"] == 3 && pins[0]["bytes_here"] == 6 * MIB)
        })?;
        ensure!(std::fs::read(drive.path("keep/a.dcm"))? == noise(7, 4 * MIB), "the new version");
        for bad in ["nowhere", "a["] {
            let said = drive.run(&["pin", &drive.path(bad).to_string_lossy()])?;
            ensure!(!said.status.success() && !said.stderr.is_empty(), "{bad}");
        }
        Ok(())
    })
}

#[test]
fn a_warm_up_can_be_stopped_and_says_what_it_could_not_do() -> Result<()> {
    on_s3(|store| {
        for n in 0..40 {
            store.put(&format!("d/f{n}"), &noise(n, MIB))?;
        }
        let drive = Drive::over(store)?.with(&["--bwlimit-down", "2MiB/s"]).started()?;
        let mut warm = drive
            .command()?
            .args(["warm", "--json"])
            .arg(drive.path("d"))
            .stdout(std::process::Stdio::piped())
            .spawn()?;
        until("it is under way", || {
            let status = drive.json(&["status"])?;
            Ok(status["work"][0]["bytes_done"].as_u64() > Some(0))
        })?;
        let pid = nix::unistd::Pid::from_raw(i32::try_from(warm.id())?);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT)?;
        ensure!(warm.wait()?.code() == Some(7), "it says that it is not finished");
        let status = drive.json(&["status"])?;
        ensure!(status["work"].as_array().is_some_and(Vec::is_empty), "{status}");
        ensure!(
            status["cache"]["bytes_used"].as_u64() < Some(30 << 20),
            "it was stopped: {status}"
        );
        drop(drive);
        for n in 0..40 {
            store.put(&format!("e/f{n}"), &noise(n, 2 * MIB))?;
        }
        let drive = Drive::over(store)?.with(&["--cache-size", "64MiB"]).started()?;
        let warmed = drive.run(&["warm", "--json", &drive.path("e").to_string_lossy()])?;
        let warmed: Value = serde_json::from_slice(&warmed.stdout)?;
        // What fits is here, and of the rest it is said that it does not fit.
        ensure!(warmed["files"] == 40 && warmed["over"] == true, "{warmed}");
        let told = warmed["told"][0].as_str().unwrap_or_default();
        ensure!(
            warmed["problems"] == 1 && told.contains("are not fetched: the cache keeps 54.3 MiB"),
            "{warmed}"
        );
        ensure!(warmed["files_done"].as_u64() > Some(20), "{warmed}");
        let used = drive.json(&["status"])?["cache"]["bytes_used"].as_u64();
        ensure!(used <= Some(64 << 20), "{used:?}");
        Ok(())
    })
}

#[test]
fn work_ends_with_the_command_that_began_it_unless_it_is_left_to_itself() -> Result<()> {
    on_s3(|store| {
        for n in 0..40 {
            store.put(&format!("d/f{n}"), &noise(n, MIB))?;
        }
        let drive = Drive::over(store)?.with(&["--bwlimit-down", "500KiB/s"]).started()?;
        let works = || -> Result<Vec<Value>> {
            Ok(drive.json(&["work"])?.as_array().cloned().unwrap_or_default())
        };
        let dir = drive.path("d").to_string_lossy().into_owned();
        let mut warm = drive.command()?.args(["warm", &dir]).spawn()?;
        until("it is under way", || Ok(works()?.len() == 1))?;
        warm.kill()?;
        warm.wait()?;
        until("it ends by itself", || Ok(works()?.is_empty()))?;
        let id = drive.json(&["warm", "--background", &dir])?["id"].to_string();
        std::thread::sleep(std::time::Duration::from_secs(12));
        let going_on = works()?;
        ensure!(going_on.len() == 1 && going_on[0]["kind"] == "warm", "{going_on:?}");
        drive.json(&["work", "--stop", &id])?;
        until("it is stopped", || Ok(works()?.is_empty()))
    })
}

#[test]
fn a_pin_follows_a_renamed_directory_and_stays_with_the_name_of_a_file() -> Result<()> {
    on_s3(|store| {
        for key in ["keep/a", "keep/deep/b", "raw/c.dcm", "file"] {
            store.put(key, &noise(1, MIB))?;
        }
        let mut drive = Drive::mounted(store)?;
        for name in ["keep", "raw/*.dcm", "file"] {
            verb(&drive, "pin", name)?;
        }
        let pins = |drive: &Drive| -> Result<Vec<String>> {
            let pins = drive.json(&["pin"])?;
            let paths =
                pins.as_array().context("a list")?.iter().filter_map(|p| p["path"].as_str());
            let mount = drive.mount().to_string_lossy().into_owned() + "/";
            Ok(paths.map(|path| path.replace(&mount, "")).collect())
        };
        std::fs::create_dir(drive.path("old"))?;
        std::fs::rename(drive.path("keep"), drive.path("old/kept [1]"))?;
        std::fs::rename(drive.path("raw"), drive.path("raw-old"))?;
        // As editors save.
        std::fs::rename(drive.path("file"), drive.path("file~"))?;
        std::fs::write(drive.path("file"), b"new")?;
        ensure!(pins(&drive)? == ["file", "old/kept [[]1[]]", "raw/*.dcm"], "{:?}", pins(&drive)?);
        drive.wait()?;
        until("it is here", || Ok(state(&drive, "old/kept [1]/deep/b")? == "synced,pinned"))?;
        ensure!(state(&drive, "file")? == "synced,pinned");
        ensure!(!state(&drive, "raw-old/c.dcm")?.contains("pinned"), "a glob is about names");
        drive.restart()?;
        ensure!(state(&drive, "old/kept [1]/a")? == "synced,pinned", "also after a start");
        std::fs::rename(drive.path("old"), drive.path("above"))?;
        ensure!(pins(&drive)?[0] == "above/kept [[]1[]]", "{:?}", pins(&drive)?);
        Ok(())
    })
}

#[test]
fn a_block_that_the_disk_forgot_is_found_and_mended() -> Result<()> {
    on_each_store(|store| {
        let (fetched, written) = (noise(1, 3 * MIB + 5), noise(2, 2 * MIB));
        store.put("fetched", &fetched)?;
        let drive = Drive::mounted(store)?;
        ensure!(std::fs::read(drive.path("fetched"))? == fetched, "it reads as other bytes");
        std::fs::write(drive.path("written"), &written)?;
        drive.wait()?;
        // Of what was written here the first look takes the sums.
        ensure!(verb(&drive, "scrub", "")?["mended"] == 0, "nothing is wrong");
        let reader = File::open(drive.path("written"))?;
        for (bytes, at) in [(fetched.len(), 3 * MIB - 50), (written.len(), 70_000)] {
            let file = File::options().write(true).open(backing_of(&drive, bytes)?)?;
            file.write_all_at(b"damaged", at as u64)?;
            file.sync_all()?;
        }
        let scrubbed = verb(&drive, "scrub", "")?;
        ensure!(
            scrubbed["mended"] == 2 && scrubbed["problems"] == 0,
            "{scrubbed}\n{}",
            drive.log()
        );
        ensure!(drive.log().contains("a cached block is not what it was"), "{}", drive.log());
        let mut found = vec![0; written.len()];
        reader.read_exact_at(&mut found, 0)?;
        ensure!(found == written, "an open file is mended too");
        ensure!(
            std::fs::read(drive.path("fetched"))? == fetched,
            "mended, it reads as other bytes"
        );
        Ok(())
    })
}

#[test]
fn what_was_damaged_before_anybody_looked_is_fetched_anew_and_never_goes_up() -> Result<()> {
    on_each_store(|store| {
        let written = noise(2, 2 * MIB);
        let drive = Drive::mounted(store)?;
        std::fs::write(drive.path("written"), &written)?;
        drive.wait()?;
        let file = File::options().write(true).open(backing_of(&drive, written.len())?)?;
        file.write_all_at(b"damaged", 70_000)?;
        file.sync_all()?;
        let verified = drive.run(&["verify", &drive.path("written").to_string_lossy()])?;
        ensure!(verified.status.code() == Some(8), "{verified:?}");
        let scrubbed = verb(&drive, "scrub", "")?;
        ensure!(scrubbed["mended"] == 1 && scrubbed["problems"] == 0, "{scrubbed}");
        ensure!(drive.log().contains("is not what was sent"), "{}", drive.log());
        ensure!(std::fs::read(drive.path("written"))? == written, "it reads as other bytes");
        drive.json(&["verify", "--deep", &drive.mount().to_string_lossy()])?;
        ensure!(verb(&drive, "scrub", "")?["mended"] == 0, "all is well");
        Ok(())
    })
}

#[test]
fn a_bad_block_that_nobody_can_mend_is_not_shown() -> Result<()> {
    on_s3(|store| {
        let (proxy, variables) = store.behind_a_proxy()?;
        let body = noise(1, MIB);
        store.put("a", &body)?;
        let drive = Drive::over(store)?.with_variables(variables).started()?;
        ensure!(std::fs::read(drive.path("a"))? == body, "it reads as other bytes");
        ensure!(verb(&drive, "scrub", "")?["problems"] == 0, "nothing is wrong");
        File::options().write(true).open(backing_of(&drive, MIB)?)?.write_all_at(b"bad", 5000)?;
        proxy.set(Network::Refusing);
        let said = drive.run(&["scrub", "--json", &drive.mount().to_string_lossy()])?;
        let scrubbed: Value = serde_json::from_slice(&said.stdout)?;
        ensure!(scrubbed["problems"] == 1 && said.status.code() == Some(7), "{scrubbed}");
        until("it is gone", || Ok(state(&drive, "a")? == "cloud-only"))?;
        ensure!(std::fs::read(drive.path("a")).is_err(), "bad bytes were shown");
        proxy.set(Network::Up);
        until("it can be read again", || {
            Ok(std::fs::read(drive.path("a")).is_ok_and(|found| found == body))
        })
    })
}
