//! What changed in the store comes in when an operator asks for it.

use std::fs::{File, Permissions};
use std::io::Read as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use fsd_tests::drive::Drive;
use fsd_tests::files::{noise, tree};
use fsd_tests::proxy::Network;
use fsd_tests::store::{Store, on_each_store, on_s3};
use fsd_tests::until;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// Nothing comes in by itself within the time of a test.
const BY_ITSELF_NEVER: [&str; 2] = ["--refresh-after", "1h"];

fn names(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in dir.read_dir()? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn read(drive: &Drive, name: &str) -> Result<Vec<u8>> {
    std::fs::read(drive.path(name)).with_context(|| name.to_owned())
}

fn refresh(drive: &Drive, name: &str) -> Result<Value> {
    drive.json(&["refresh", &drive.path(name).to_string_lossy()])
}

/// Files in directories that are looked at, and in one that is not.
fn filled(store: &Store) -> Result<()> {
    let files = ["kept", "changed", "same", "deleted", "mode"].map(|name| format!("dir/{name}"));
    for key in files.iter().map(String::as_str).chain(["gone/a", "gone/deep/b", "unseen/c"]) {
        store.put(key, key.as_bytes())?;
    }
    Ok(())
}

#[test]
fn a_refresh_brings_in_what_changed_and_keeps_what_is_ours() -> Result<()> {
    on_each_store(|store| {
        filled(store)?;
        let options = [&BY_ITSELF_NEVER[..], &["--bwlimit-up", "off"]].concat();
        let drive = Drive::over(store)?.with(&options).started()?;
        for (name, count) in [("", 3), ("dir", 5), ("gone", 2), ("gone/deep", 1)] {
            ensure!(names(&drive.path(name))?.len() == count, "{name}");
        }
        ensure!(
            read(&drive, "dir/same")? == b"dir/same" && read(&drive, "gone/deep/b")?.len() == 11
        );
        let mut open = File::open(drive.path("dir/changed"))?;
        let mut first = [0; 3];
        open.read_exact(&mut first)?;
        std::fs::set_permissions(drive.path("dir/mode"), Permissions::from_mode(0o600))?;
        std::fs::write(drive.path("dir/ours"), b"ours")?;

        store.put("dir/changed", b"and longer than before")?;
        store.put("dir/same", b"dir/SAME")?;
        store.put("dir/new", b"new")?;
        store.put("dir/below/new", b"new too")?;
        for key in ["dir/deleted", "gone/a", "gone/deep/b"] {
            store.delete(key)?;
        }
        ensure!(names(&drive.path("dir"))?.len() == 6, "nothing comes in by itself");
        let refreshed = refresh(&drive, "")?;
        ensure!(refreshed["problems"] == 0 && refreshed["over"] == true, "{refreshed}");

        let expected = ["below", "changed", "kept", "mode", "new", "ours", "same"];
        ensure!(names(&drive.path("dir"))? == expected, "{:?}", names(&drive.path("dir"))?);
        ensure!(!drive.path("dir/deleted").exists() && !drive.path("gone/deep/b").exists());
        // A directory in a directory stays when it is empty.
        ensure!(store.folder().is_some() || !drive.path("gone").exists(), "{refreshed}");
        let mut rest = Vec::new();
        open.read_to_end(&mut rest)?;
        ensure!([&first, &*rest].concat() == b"dir/changed", "who has it open has its version");
        // As long as somebody has it open, all have the version that he has.
        drop(open);
        ensure!(read(&drive, "dir/changed")? == b"and longer than before");
        ensure!(
            read(&drive, "dir/same")? == b"dir/SAME"
                && read(&drive, "dir/below/new")? == b"new too"
        );
        ensure!(drive.path("dir/mode").metadata()?.mode() & 0o777 == 0o600, "our mode is kept");
        ensure!(read(&drive, "dir/ours")? == b"ours");
        let changes = &refreshed["changes"];
        ensure!(changes["changed"] == 2 && changes["added"] == 2, "{refreshed}");
        // The root, `dir`, `gone` and `gone/deep`; not `unseen`, nor what is new.
        ensure!(refreshed["files"] == 4, "only what is known is listed again: {refreshed}");
        let again = refresh(&drive, "")?;
        ensure!(again["changes"]["added"] == 0 && again["changes"]["gone"] == 0, "{again}");

        let all = drive.json(&["refresh", "--all", &drive.mount().to_string_lossy()])?;
        ensure!(all["changes"]["added"] == 1, "what is in `unseen`, and nothing else: {all}");
        Ok(())
    })
}

#[test]
fn a_file_alone_is_refreshed_and_a_wrong_path_is_told() -> Result<()> {
    on_each_store(|store| {
        filled(store)?;
        let drive = Drive::over(store)?.with(&BY_ITSELF_NEVER).started()?;
        ensure!(
            read(&drive, "dir/same")? == b"dir/same" && read(&drive, "dir/kept")? == b"dir/kept"
        );
        store.put("dir/same", b"dir/SAME")?;
        store.put("dir/kept", b"dir/KEPT")?;
        let one = refresh(&drive, "dir/same")?;
        ensure!(one["changes"]["changed"] == 1 && one["files"] == 1, "{one}");
        ensure!(
            read(&drive, "dir/same")? == b"dir/SAME" && read(&drive, "dir/kept")? == b"dir/kept"
        );
        // The directory was never listed: each name that is known is asked for.
        ensure!(refresh(&drive, "dir")?["changes"]["changed"] == 1);
        ensure!(read(&drive, "dir/kept")? == b"dir/KEPT");
        store.delete("dir/kept")?;
        ensure!(
            refresh(&drive, "dir/kept")?["changes"]["gone"] == 1
                && !drive.path("dir/kept").exists()
        );
        let said = drive.run(&["refresh", &drive.path("nowhere").to_string_lossy()])?;
        ensure!(said.status.code() == Some(5), "{said:?}");
        Ok(())
    })
}

#[test]
fn a_refresh_that_can_not_be_done_says_what_failed_and_changes_nothing() -> Result<()> {
    on_s3(|store| {
        filled(store)?;
        let (proxy, variables) = store.behind_a_proxy()?;
        let drive =
            Drive::over(store)?.with(&BY_ITSELF_NEVER).with_variables(variables).started()?;
        let before = tree(&drive.mount())?;
        store.delete("dir/deleted")?;
        proxy.set(Network::Refusing);
        let said = drive.run(&["refresh", "--json", &drive.mount().to_string_lossy()])?;
        let refreshed: Value = serde_json::from_slice(&said.stdout)?;
        ensure!(said.status.code() == Some(7), "{said:?}");
        ensure!(refreshed["problems"] == 1, "what is below it is not asked for: {refreshed}");
        ensure!(refreshed["told"].to_string().contains("can't be reached"), "{refreshed}");
        ensure!(tree(&drive.mount())? == before, "nothing is missing");
        proxy.set(Network::Up);
        until("it works again", || Ok(refresh(&drive, "").is_ok()))?;
        ensure!(!drive.path("dir/deleted").exists());
        Ok(())
    })
}

#[test]
fn a_share_may_be_refreshed_again_and_again() -> Result<()> {
    on_s3(|store| {
        store.put("dir/a", &noise(1, 1000))?;
        let options = [&BY_ITSELF_NEVER[..], &["--refresh-every", "10s"]].concat();
        let drive = Drive::over(store)?.with(&options).started()?;
        ensure!(read(&drive, "dir/a")? == noise(1, 1000) && names(&drive.path("dir"))? == ["a"]);
        store.put("dir/a", &noise(2, 1000))?;
        store.put("dir/b", b"b")?;
        until("both are seen", || {
            Ok(names(&drive.path("dir"))? == ["a", "b"] && read(&drive, "dir/a")? == noise(2, 1000))
        })
    })
}

#[test]
fn a_refresh_can_be_stopped() -> Result<()> {
    on_s3(|store| {
        for n in 0..300 {
            store.put(&format!("dir/a-file-with-a-name-that-takes-its-time-{n}"), b"x")?;
        }
        let mut drive = Drive::over(store)?.with(&BY_ITSELF_NEVER).started()?;
        ensure!(names(&drive.path("dir"))?.len() == 300);
        ensure!(drive.terminate()?.success(), "{}", drive.log());
        drive.set_options(&["--bwlimit-down", "1KiB/s"]);
        drive.start()?;
        let mut command = drive.command()?;
        let command = command.arg("refresh").arg(drive.path("dir")).stdout(Stdio::piped());
        let mut process = command.stderr(Stdio::piped()).spawn()?;
        until("it is under way", || Ok(drive.json(&["status"])?["work"][0]["kind"] == "refresh"))?;
        kill(Pid::from_raw(i32::try_from(process.id())?), Signal::SIGINT)?;
        ensure!(process.wait()?.code() == Some(7), "it says that it is not finished");
        let work = &drive.json(&["status"])?["work"];
        ensure!(work.as_array().is_some_and(Vec::is_empty), "{work}");
        let mut buffer = [0; 1];
        File::open(drive.path("dir/a-file-with-a-name-that-takes-its-time-7"))?
            .read_exact_at(&mut buffer, 0)?;
        ensure!(buffer == *b"x");
        Ok(())
    })
}

#[test]
fn a_file_that_became_a_directory_and_a_directory_that_became_a_file_come_with_one_refresh()
-> Result<()> {
    on_each_store(|store| {
        store.put("top/file", b"file")?;
        store.put("top/dir/deep/in", b"in")?;
        let drive = Drive::over(store)?.with(&BY_ITSELF_NEVER).started()?;
        ensure!(read(&drive, "top/file")? == b"file");
        ensure!(names(&drive.path("top"))? == ["dir", "file"]);
        ensure!(
            names(&drive.path("top/dir/deep"))? == ["in"]
                && read(&drive, "top/dir/deep/in")? == b"in"
        );
        store.delete("top/file")?;
        store.put("top/file/in", b"in too")?;
        store.delete("top/dir/deep/in")?;
        if let Some(folder) = store.folder() {
            std::fs::remove_dir_all(folder.join("top/dir"))?;
        }
        store.put("top/dir", b"a file")?;
        let refreshed = refresh(&drive, "")?;
        ensure!(refreshed["problems"] == 0, "{refreshed}");
        ensure!(read(&drive, "top/file/in")? == b"in too", "{refreshed}");
        ensure!(read(&drive, "top/dir")? == b"a file", "{refreshed}");
        Ok(())
    })
}
