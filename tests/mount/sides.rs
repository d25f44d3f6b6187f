//! What a share's rules make of files that both sides changed, and of files that are deleted.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use fsd_tests::drive::Drive;
use fsd_tests::files::{same, tree};
use fsd_tests::store::{Store, on_each_store};
use fsd_tests::until;
use serde_json::Value;

use super::elsewhere::look_anew;

/// A drive by whose rule `rule` a file `dir/a.txt` goes on that both sides changed.
fn after_conflict(store: &Store, rule: &str) -> Result<Drive> {
    store.put("dir/a.txt", b"first")?;
    let mut drive = Drive::over(store)?.with(&["-o", rule]).started()?;
    ensure!(std::fs::read(drive.path("dir/a.txt"))? == b"first", "read");
    ensure!(drive.terminate()?.success(), "{}", drive.log());
    drive.set_options(&["-o", rule, "--bwlimit-up", "off"]);
    drive.start()?;
    std::fs::write(drive.path("dir/a.txt"), b"this gateway's")?;
    let hour = Duration::from_secs(3600);
    let file = std::fs::File::options().write(true).open(drive.path("dir/a.txt"))?;
    file.set_modified(SystemTime::UNIX_EPOCH + hour)?;
    drop(file);
    store.put("dir/a.txt", b"theirs")?;
    ensure!(drive.terminate()?.success(), "{}", drive.log());
    drive.set_options(&["-o", rule]);
    drive.start()?;
    drive.wait()?;
    Ok(drive)
}

fn conflicts(drive: &Drive) -> Result<Vec<Value>> {
    Ok(drive.json(&["conflicts"])?.as_array().context("a list")?.clone())
}

fn settle(drive: &Drive, name: &str, keep: &str) -> Result<()> {
    let path = drive.path(name);
    let path = path.to_str().context("UTF-8")?;
    drive.json(&["conflicts", "settle", path, "--keep", keep])?;
    ensure!(conflicts(drive)?.is_empty(), "it is settled");
    drive.wait()
}

fn text(path: &Path) -> Result<String> {
    Ok(String::from_utf8(std::fs::read(path)?)?)
}

/// The mount and the store have the same files.
fn equal(drive: &Drive, store: &Store) -> Result<()> {
    let mut there = store.files()?;
    there.retain(|key, _| !key.starts_with(".fsd"));
    same("the mount", &tree(&drive.mount())?, &there)
}

#[test]
fn a_conflict_that_kept_both_is_listed_and_settled() -> Result<()> {
    on_each_store(|store| {
        let drive = after_conflict(store, "conflicts=keep-both")?;
        let [conflict] = conflicts(&drive)?.try_into().ok().context("one conflict")?;
        ensure!(conflict["path"] == drive.path("dir/a.txt").to_str().context("UTF-8")?);
        ensure!(conflict["ours"]["bytes"] == 14 && conflict["theirs"]["bytes"] == 6);
        ensure!(conflict["ours"]["modified"] == "1970-01-01T01:00:00Z", "{conflict:#}");
        let kept = conflict["kept_as"].as_str().context("a path")?.to_owned();
        ensure!(text(Path::new(&kept))? == "this gateway's", "{conflict:#}");
        ensure!(text(&drive.path("dir/a.txt"))? == "theirs", "the cloud's keeps the name");
        settle(&drive, "dir/a.txt", "mine")?;
        ensure!(text(&drive.path("dir/a.txt"))? == "this gateway's", "mine goes on");
        ensure!(!Path::new(&kept).exists(), "under one name");
        equal(&drive, store)
    })
}

#[test]
fn where_ours_wins_it_takes_the_place_of_the_version_that_was_seen() -> Result<()> {
    on_each_store(|store| {
        let drive = after_conflict(store, "conflicts=local-wins")?;
        ensure!(store.get("dir/a.txt")?.as_deref() == Some(b"this gateway's"), "ours is there");
        let [conflict] = conflicts(&drive)?.try_into().ok().context("one conflict")?;
        ensure!(conflict["rule"] == "local-wins" && conflict["theirs"]["bytes"] == 6);
        let path = drive.path("dir/a.txt");
        let path = path.to_str().context("UTF-8")?;
        let refused = drive.run(&["conflicts", "settle", path, "--keep", "theirs"])?;
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        ensure!(
            refused.status.code() == Some(2) && said.contains("only the store itself"),
            "{said}"
        );
        settle(&drive, "dir/a.txt", "mine")?;
        equal(&drive, store)
    })
}

#[test]
fn where_the_cloud_wins_ours_can_be_had_back() -> Result<()> {
    on_each_store(|store| {
        for keep in ["mine", "both", "theirs"] {
            let mut drive = after_conflict(store, "conflicts=cloud-wins")?;
            ensure!(text(&drive.path("dir/a.txt"))? == "theirs", "the cloud's is here");
            ensure!(store.get("dir/a.txt")?.as_deref() == Some(b"theirs"), "and there");
            drive.crash()?;
            let [conflict] = conflicts(&drive)?.try_into().ok().context("one conflict")?;
            ensure!(conflict["until"].is_string() && conflict["kept_as"].is_null());
            settle(&drive, "dir/a.txt", keep)?;
            let mut all: Vec<_> = tree(&drive.mount())?.into_values().collect();
            all.sort();
            let expected: &[&[u8]] = match keep {
                "mine" => &[b"this gateway's"],
                "both" => &[b"theirs", b"this gateway's"],
                _ => &[b"theirs"],
            };
            ensure!(all == expected, "{keep}: {all:?}");
            if keep == "mine" {
                let modified = drive.path("dir/a.txt").metadata()?.modified()?;
                ensure!(modified == SystemTime::UNIX_EPOCH + Duration::from_secs(3600), "its time");
            }
            let left = std::fs::read_dir(drive.state().join("conflicts"))?.count();
            ensure!(left == 0, "{left} files are still set aside");
            equal(&drive, store)?;
            for key in store.keys()?.iter().filter(|key| !key.ends_with('/')) {
                store.delete(key)?;
            }
        }
        Ok(())
    })
}

#[test]
fn what_was_set_aside_goes_when_its_time_is_over() -> Result<()> {
    on_each_store(|store| {
        let mut drive = after_conflict(store, "conflicts=cloud-wins")?;
        ensure!(conflicts(&drive)?.len() == 1, "it is known");
        ensure!(drive.terminate()?.success(), "{}", drive.log());
        drive.set_options(&["-o", "conflicts=cloud-wins,conflicts_retention=1ms"]);
        drive.start()?;
        until("it went", || Ok(conflicts(&drive)?.is_empty()))?;
        ensure!(drive.state().join("conflicts").read_dir()?.count() == 0, "the file went too");
        ensure!(text(&drive.path("dir/a.txt"))? == "theirs", "the other stays");
        Ok(())
    })
}

#[test]
fn what_is_deleted_goes_to_the_trash_and_comes_back() -> Result<()> {
    on_each_store(|store| {
        let mut drive = Drive::over(store)?.with(&["-o", "deletes=trash"]).started()?;
        std::fs::create_dir_all(drive.path("dir/deep"))?;
        for name in ["dir/a.txt", "dir/deep/b.txt", "moved", "stays"] {
            std::fs::write(drive.path(name), name)?;
        }
        std::fs::create_dir(drive.path("dir/empty"))?;
        for (dir, mode) in [("dir", 0o2750), ("dir/deep", 0o700), ("dir/empty", 0o1777)] {
            std::fs::set_permissions(drive.path(dir), Permissions::from_mode(mode))?;
        }
        drive.wait()?;
        let before = store.files()?;
        std::fs::rename(drive.path("moved"), drive.path("moved again"))?;
        drive.wait()?;
        let trash = |drive: &Drive| drive.json(&["trash", "list"]);
        ensure!(trash(&drive)?.as_array().is_some_and(Vec::is_empty), "a rename deletes nothing");
        std::fs::rename(drive.path("moved again"), drive.path("moved"))?;
        std::fs::remove_dir_all(drive.path("dir"))?;
        drive.wait()?;
        look_anew(&mut drive)?;
        ensure!(
            !drive.path("dir").exists() && drive.path("stays").exists(),
            "deleted files stay away"
        );
        let listed = trash(&drive)?;
        let listed = listed.as_array().context("a list")?;
        ensure!(listed.len() == 5, "{listed:#?}");
        let files = store.files()?;
        ensure!(!files.contains_key("dir/a.txt"), "{:?}", files.keys());
        for trashed in listed {
            let key = trashed["key"].as_str().context("a key")?;
            let is_there = key.ends_with('/') || files.contains_key(key);
            ensure!(key.starts_with(".fsd/trash/") && is_there, "{key}");
        }
        let dir = drive.path("dir/deep");
        let restored = drive.json(&["trash", "restore", dir.to_str().context("UTF-8")?])?;
        ensure!(restored["files"] == 1 && restored["directories"] == 2, "{restored}");
        let dir = drive.path("dir");
        let dir = dir.to_str().context("UTF-8")?;
        let restored = drive.json(&["trash", "restore", dir])?;
        ensure!(restored["files"] == 1 && restored["directories"] == 1, "{restored}");
        same("the mount", &tree(&drive.mount())?, &before)?;
        for (dir, mode) in [("dir", 0o2750), ("dir/deep", 0o700), ("dir/empty", 0o1777)] {
            let is = drive.path(dir).metadata()?.mode() & 0o7777;
            ensure!(is == mode, "{dir}: {is:o}");
        }
        drive.wait()?;
        // At once, without waiting.
        std::fs::remove_dir_all(drive.path("dir"))?;
        let restored = drive.json(&["trash", "restore", dir])?;
        ensure!(restored["files"] == 2 && restored["directories"] == 3, "{restored}");
        same("the mount", &tree(&drive.mount())?, &before)?;
        drive.wait()?;
        same("the store", &store.files()?, &before)?;
        std::fs::remove_file(drive.path("stays"))?;
        drive.wait()?;
        ensure!(drive.json(&["trash", "empty"])?["objects"] == 1, "one is deleted for good");
        ensure!(!store.keys()?.iter().any(|key| key.contains("stays")), "{:?}", store.keys()?);
        Ok(())
    })
}

#[test]
fn a_file_that_came_back_by_another_hand_is_not_restored_over() -> Result<()> {
    on_each_store(|store| {
        let drive = Drive::over(store)?.with(&["-o", "deletes=trash"]).started()?;
        std::fs::write(drive.path("a"), "first")?;
        drive.wait()?;
        std::fs::remove_file(drive.path("a"))?;
        drive.wait()?;
        std::fs::write(drive.path("a"), "second")?;
        let path = drive.path("a");
        let refused = drive.run(&["trash", "restore", path.to_str().context("UTF-8")?])?;
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        ensure!(refused.status.code() == Some(7) && said.contains("move it away"), "{said}");
        ensure!(text(&drive.path("a"))? == "second", "it is as it was");
        Ok(())
    })
}

#[test]
fn what_is_deleted_may_stay_in_the_store_and_is_not_shown_until_somebody_changes_it() -> Result<()>
{
    on_each_store(|store| {
        let mut drive = Drive::over(store)?.with(&["-o", "deletes=keep"]).started()?;
        for name in ["a", "b", "c", "d"] {
            std::fs::write(drive.path(name), name)?;
        }
        drive.wait()?;
        std::fs::rename(drive.path("d"), drive.path("e"))?;
        for name in ["a", "b", "c"] {
            std::fs::remove_file(drive.path(name))?;
        }
        drive.wait()?;
        let keys: Vec<String> = store.files()?.into_keys().collect();
        ensure!(keys == ["a", "b", "c", "e"], "{keys:?}");
        store.put("b", b"changed there")?;
        std::fs::write(drive.path("c"), "made anew")?;
        drive.wait()?;
        look_anew(&mut drive)?;
        let shown: Vec<String> = tree(&drive.mount())?.into_keys().collect();
        ensure!(shown == ["b", "c", "e"], "{shown:?}");
        ensure!(!drive.path("a").exists(), "nor by its name");
        ensure!(text(&drive.path("b"))? == "changed there", "b");
        ensure!(store.get("c")?.as_deref() == Some(b"made anew"), "a new file takes its place");
        ensure!(store.get("a")?.as_deref() == Some(b"a"), "and a is there");
        Ok(())
    })
}
