//! Somebody else changes the store.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use fsd_tests::drive::Drive;
use fsd_tests::files::{same, tree};
use fsd_tests::store::{on_a_dir, on_each_store};
use fsd_tests::until;

/// Starts anew with no listing remembered, so that all names are asked for again.
pub(crate) fn look_anew(drive: &mut Drive) -> Result<()> {
    let status = drive.terminate()?;
    ensure!(status.success(), "{status}: {}", drive.log());
    std::fs::remove_dir_all(drive.state().join("index"))?;
    drive.start()
}

fn names(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in dir.read_dir()? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

#[test]
fn changes_made_elsewhere_are_seen() -> Result<()> {
    on_each_store(|store| {
        for key in ["dir/changed", "dir/deleted", "dir/kept", "top"] {
            store.put(key, key.as_bytes())?;
        }
        let mut drive = Drive::mounted(store)?;
        std::fs::write(drive.path("dir/ours"), b"ours")?;
        let before = tree(&drive.mount())?;
        drive.wait()?;
        same("before", &before, &store.files()?)?;
        store.put("dir/changed", b"and longer than before")?;
        store.put("dir/ours", b"ours, as others want it")?;
        store.delete("dir/deleted")?;
        store.put("dir/new/below", b"new")?;
        look_anew(&mut drive)?;
        same("after", &tree(&drive.mount())?, &store.files()?)?;
        ensure!(names(&drive.path("dir"))? == ["changed", "kept", "new", "ours"], "names");
        let queue = drive.json(&["queue"])?;
        ensure!(queue["totals"]["items"] == 0, "what came from there does not go back: {queue:#}");
        Ok(())
    })
}

#[test]
fn what_is_written_while_somebody_reads_the_version_before_is_kept() -> Result<()> {
    on_a_dir(|store| {
        let drive = Drive::mounted(store)?;
        std::fs::write(drive.path("log"), b"first\n")?;
        drive.wait()?;
        let mut readers = Vec::new();
        let mut expected = b"first\n".to_vec();
        for turn in 0..3 {
            readers.push((File::open(drive.path("log"))?, expected));
            expected = format!("theirs {turn}\n").into_bytes();
            store.put("log", &expected)?;
            drive.json(&["refresh", &drive.mount().to_string_lossy()])?;
            ensure!(std::fs::read(drive.path("log"))? == expected, "what is opened now is theirs");
            expected.extend(b"ours\n");
            File::options().append(true).open(drive.path("log"))?.write_all(b"ours\n")?;
            ensure!(std::fs::read(drive.path("log"))? == expected, "and what was written to it");
            drive.wait()?;
            ensure!(store.get("log")?.as_ref() == Some(&expected), "which went up");
        }
        for (mut reader, expected) in readers {
            let mut read = Vec::new();
            reader.read_to_end(&mut read)?;
            ensure!(read == expected, "who opened it before reads on: {read:?}");
        }
        Ok(())
    })
}

#[test]
fn a_file_that_both_sides_changed_is_kept_twice() -> Result<()> {
    on_each_store(|store| {
        store.put("both.txt", b"first")?;
        store.put("deleted-there", b"first")?;
        store.put("deleted-here", b"first")?;
        let mut drive = Drive::mounted(store)?;
        let read = tree(&drive.mount())?;
        ensure!(read.len() == 3, "{read:?}");
        ensure!(drive.terminate()?.success(), "{}", drive.log());
        drive.set_options(&["--bwlimit-up", "off"]);
        drive.start()?;
        std::fs::write(drive.path("both.txt"), b"ours")?;
        std::fs::write(drive.path("new.txt"), b"our new one")?;
        std::fs::write(drive.path("deleted-there"), b"ours, still wanted")?;
        std::fs::remove_file(drive.path("deleted-here"))?;
        store.put("both.txt", b"theirs")?;
        store.put("new.txt", b"their new one")?;
        store.put("deleted-here", b"theirs, still wanted")?;
        store.delete("deleted-there")?;
        ensure!(drive.terminate()?.success(), "{}", drive.log());
        drive.set_options(&[]);
        drive.start()?;
        drive.wait()?;
        let files = store.files()?;
        let text =
            |key: &str| files.get(key).map(|body| String::from_utf8_lossy(body).into_owned());
        ensure!(text("both.txt").as_deref() == Some("theirs"), "{files:?}");
        ensure!(text("new.txt").as_deref() == Some("their new one"), "{files:?}");
        ensure!(text("deleted-there").as_deref() == Some("ours, still wanted"), "{files:?}");
        ensure!(text("deleted-here").as_deref() == Some("theirs, still wanted"), "{files:?}");
        let conflict = |stem: &str| {
            let prefix = format!("{stem} (conflict ");
            let found = files.keys().find(|key| key.starts_with(&prefix) && key.ends_with(").txt"));
            found.and_then(|key| text(key)).with_context(|| format!("{stem}: {:?}", files.keys()))
        };
        ensure!(conflict("both")? == "ours" && conflict("new")? == "our new one", "{files:?}");
        ensure!(files.len() == 6, "{files:?}");
        look_anew(&mut drive)?;
        same("the mount", &tree(&drive.mount())?, &files)
    })
}

#[test]
fn objects_of_others_that_are_renamed_keep_their_names_though_the_daemon_dies_at_it() -> Result<()>
{
    on_each_store(|store| {
        let mut expected = BTreeMap::new();
        for n in 0..60 {
            let body = format!("{n}").into_bytes();
            store.put(&format!("old/f{n}"), &body)?;
            expected.insert(format!("new/f{n}"), body);
        }
        let mut drive = Drive::mounted(store)?;
        ensure!(drive.path("old").read_dir()?.count() == 60, "all names");
        std::fs::rename(drive.path("old"), drive.path("new"))?;
        for round in 1..4 {
            until("some are there", || {
                let keys = store.keys()?;
                Ok(keys.iter().filter(|key| key.starts_with("new/f")).count() > round * 10)
            })?;
            drive.crash()?;
        }
        drive.wait()?;
        same("the mount", &tree(&drive.mount())?, &expected)?;
        same("the store", &store.files()?, &expected)
    })
}

#[test]
fn what_is_on_its_way_to_another_directory_is_not_seen_where_it_was() -> Result<()> {
    on_each_store(|store| {
        let mut drive = Drive::mounted(store)?;
        std::fs::create_dir_all(drive.path("above/old/below"))?;
        std::fs::write(drive.path("above/old/below/file"), b"body")?;
        drive.wait()?;
        // As long as it is open, it stays where it is in the store.
        let open = File::options().append(true).open(drive.path("above/old/below/file"))?;
        std::fs::rename(drive.path("above/old"), drive.path("above/new"))?;
        until("the directories have moved, and only the file is left", || {
            Ok(drive.json(&["status"])?["queue"]["items"] == 1)
        })?;
        drive.kill()?;
        std::fs::remove_dir_all(drive.state().join("index"))?;
        drive.start()?;
        ensure!(names(&drive.path("above"))? == ["new"], "{:?}", names(&drive.path("above"))?);
        ensure!(std::fs::metadata(drive.path("above/old")).is_err(), "its old name is there");
        drop(open);
        drive.wait()?;
        let expected = [("above/new/below/file".to_owned(), b"body".to_vec())];
        same("the store", &store.files()?, &expected.into())
    })
}

#[test]
fn a_directory_that_others_made_by_a_name_stays_when_its_last_file_goes_here() -> Result<()> {
    on_each_store(|store| {
        for key in ["emptied/file", "left/file", "theirs/file"] {
            store.put(key, b"x")?;
        }
        let drive = Drive::mounted(store)?;
        ensure!(tree(&drive.mount())?.len() == 3);
        std::fs::remove_file(drive.path("emptied/file"))?;
        std::fs::rename(drive.path("left/file"), drive.path("file"))?;
        drive.wait()?;
        store.delete("theirs/file")?;
        drive.json(&["refresh", &drive.mount().to_string_lossy()])?;
        for name in ["emptied", "left"] {
            ensure!(drive.path(name).is_dir(), "{name} is gone, though nobody removed it");
        }
        // In a directory store a directory is one by itself.
        ensure!(store.folder().is_some() || !drive.path("theirs").exists());
        std::fs::remove_dir(drive.path("emptied"))?;
        drive.wait()?;
        ensure!(!drive.path("emptied").exists() && !store.keys()?.contains(&"emptied/".to_owned()));
        Ok(())
    })
}

/// They write into the file that we made, and not another one in its place.
#[test]
fn what_others_write_into_our_files_of_a_directory_survives_what_is_done_here() -> Result<()> {
    on_a_dir(|store| {
        let folder = store.folder().context("a directory")?.to_owned();
        let mut drive = Drive::over(store)?.with(&["--refresh-after", "1h"]).started()?;
        let names = ["removed", "moved", "dir/moved", "over", "by"];
        std::fs::create_dir(drive.path("dir"))?;
        for name in names {
            std::fs::write(drive.path(name), name)?;
        }
        drive.wait()?;
        for name in &names[..4] {
            let mut file = File::options().append(true).open(folder.join(name))?;
            file.write_all(b" and theirs")?;
        }
        std::fs::remove_file(drive.path("removed"))?;
        std::fs::rename(drive.path("moved"), drive.path("moved.new"))?;
        std::fs::rename(drive.path("dir"), drive.path("dir.new"))?;
        std::fs::rename(drive.path("by"), drive.path("over"))?;
        drive.wait()?;
        look_anew(&mut drive)?;
        let files = store.files()?;
        let has = |body: &str| files.values().any(|found| found == body.as_bytes());
        for name in &names[..4] {
            ensure!(has(&format!("{name} and theirs")), "theirs of {name} is lost: {files:?}");
        }
        for ours in ["moved", "dir/moved", "by"] {
            ensure!(has(ours), "ours of {ours} is lost: {files:?}");
        }
        same("the mount", &tree(&drive.mount())?, &files)
    })
}
