//! Names, records, files and the store are compared, and what does not fit is mended without losing anything.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use fsd_tests::drive::Drive;
use fsd_tests::files::{noise, run, same, shell, tree};
use fsd_tests::store::{on_each_store, on_s3};
use fsd_tests::until;
use serde_json::Value;

/// What a check says, and how it ends.
fn checked(drive: &Drive, arguments: &[&str]) -> Result<(Value, Option<i32>)> {
    let said = drive.run(&[&["check", "--json"], arguments].concat())?;
    let json = serde_json::from_slice(&said.stdout).with_context(|| format!("{said:?}"))?;
    Ok((json, said.status.code()))
}

/// The words of all that is left.
fn left(checked: &Value) -> BTreeSet<String> {
    let findings = checked["findings"].as_array().cloned().unwrap_or_default();
    let left = findings.iter().filter(|finding| finding["repaired"] == false);
    left.filter_map(|finding| finding["code"].as_str().map(str::to_owned)).collect()
}

fn words(words: &[&str]) -> BTreeSet<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// Changes the metadata store behind the back of its daemon, which does not run.
fn damage(drive: &Drive, sql: &str) -> Result<String> {
    run(Command::new("sqlite3").arg(drive.state().join("meta.sqlite")).arg(sql))
}

fn ino_of(name: &str) -> String {
    format!("(SELECT ino FROM dentry WHERE name = CAST('{name}' AS BLOB))")
}

/// The backing file of `ino`.
fn backing(drive: &Drive, ino: u64) -> Result<PathBuf> {
    let folder = drive.state().join("data").join(format!("{:02x}", ino % 256));
    for file in folder.read_dir()? {
        let path = file?.path();
        let name = path.file_name().context("a name")?.to_string_lossy().into_owned();
        if name.starts_with(&format!("{ino}.")) {
            return Ok(path);
        }
    }
    anyhow::bail!("inode {ino} has no backing file")
}

fn ino(drive: &Drive, name: &str) -> Result<u64> {
    let known = drive.json(&["explain", &drive.path(name).to_string_lossy()])?;
    known["inode"].as_u64().with_context(|| format!("{known}"))
}

#[test]
fn nothing_is_found_where_nothing_is_wrong() -> Result<()> {
    on_each_store(|store| {
        for key in ["theirs/a", "theirs/deep/b", "top"] {
            store.put(key, key.as_bytes())?;
        }
        let mut drive = Drive::mounted(store)?;
        let line = "mkdir -p d/e; echo one > d/one; ln d/one d/e/two; ln -s one d/link; mkfifo d/pipe; mv d/e moved; \
             cp -r theirs mine; mv theirs/a theirs/c; echo more >> top; mkdir empty; rm -r mine/deep; ls -R > /dev/null";
        shell(&drive.mount(), line)?;
        let (busy, _) = checked(&drive, &[])?;
        ensure!(busy["problems"] == 0 && left(&busy).is_empty(), "while it uploads: {busy:#}");
        drive.wait()?;
        for key in ["theirs/c", "theirs/deep/b"] {
            store.delete(key)?;
        }
        store.put("theirs/deep/er/new", b"new")?;
        drive.json(&["refresh", &drive.mount().to_string_lossy()])?;
        for _ in 0..2 {
            let (clean, code) = checked(&drive, &[])?;
            ensure!(clean["found"] == 0 && code == Some(0), "{clean:#}");
            drive.restart()?;
        }
        let (one, code) = checked(&drive, &[&drive.path("d/one").to_string_lossy()])?;
        ensure!(one["files"] == 1 && code == Some(0), "{one}");
        Ok(())
    })
}

#[test]
fn what_does_not_fit_is_found_and_mended_without_losing_anything() -> Result<()> {
    on_s3(|store| {
        let mut drive = Drive::mounted(store)?;
        shell(
            &drive.mount(),
            "mkdir dir sub; for f in seen gone-row cached kept changed deleted; do echo $f > dir/$f; done",
        )?;
        drive.wait()?;
        ensure!(drive.terminate()?.success(), "{}", drive.log());
        drive.set_options(&["--bwlimit-up", "off"]);
        drive.start()?;
        for (name, seed) in [("nameless", 1), ("unqueued", 2), ("short", 3)] {
            std::fs::write(drive.path(&format!("dir/{name}")), noise(seed, 10_000))?;
        }
        until("they are known", || Ok(drive.json(&["queue"])?["totals"]["items"] == 3))?;
        let (nameless, short) = (ino(&drive, "dir/nameless")?, ino(&drive, "dir/short")?);
        let cached = ino(&drive, "dir/cached")?;
        ensure!(drive.terminate()?.success(), "{}", drive.log());

        damage(&drive, &format!("DELETE FROM inode WHERE ino = {}", ino_of("gone-row")))?;
        damage(&drive, &format!("DELETE FROM item WHERE ino = {}", ino_of("unqueued")))?;
        damage(&drive, &format!("UPDATE inode SET nlink = 7 WHERE ino = {}", ino_of("sub")))?;
        damage(
            &drive,
            "DELETE FROM dentry WHERE name IN (CAST('nameless' AS BLOB), CAST('seen' AS BLOB))",
        )?;
        damage(
            &drive,
            "INSERT INTO xattr VALUES (999999, CAST('user.x' AS BLOB), CAST('y' AS BLOB))",
        )?;
        drive.start()?;
        File::options().write(true).open(backing(&drive, short)?)?.set_len(5000)?;
        File::options().write(true).open(backing(&drive, cached)?)?.set_len(2)?;
        std::fs::write(drive.state().join("data/07/77777.1"), b"whose is it?")?;
        store.put("dir/changed", b"CHANGED")?;
        store.delete("dir/deleted")?;
        store.put(".fsd/moving/4711", b"aside")?;

        let all = [
            "aside",
            "bytes-short",
            "cached-wrong",
            "link-count",
            "nameless",
            "not-queued",
            "object-changed",
            "object-gone",
            "stray-file",
            "stray-name",
            "unknown-owner",
        ];
        for _ in 0..2 {
            let (found, code) = checked(&drive, &[])?;
            ensure!(left(&found) == words(&all) && code == Some(7), "{found:#}");
            ensure!(found["found"] == 12 && found["repaired"] == 0, "{found:#}");
        }
        let (mended, code) = checked(&drive, &["--repair"])?;
        let stay = words(&["aside", "bytes-short"]);
        ensure!(left(&mended) == stay && code == Some(7), "{mended:#}\n{}", drive.log());
        let (again, _) = checked(&drive, &[])?;
        ensure!(left(&again) == stay && again["found"] == 2, "{again:#}");
        let text = String::from_utf8(drive.run(&["check"])?.stdout)?;
        ensure!(
            text.contains("bytes-short: dir/short: ") && text.contains("a person has to"),
            "{text}"
        );

        let lost = drive.path(&format!("lost+found/#{nameless}"));
        ensure!(std::fs::read(lost)? == noise(1, 10_000), "what had no name is whole");
        ensure!(std::fs::read(drive.path("dir/unqueued"))? == noise(2, 10_000));
        ensure!(std::fs::read(drive.path("dir/cached"))? == b"cached\n", "it is fetched anew");
        ensure!(std::fs::read(drive.path("dir/changed"))? == b"CHANGED");
        ensure!(!drive.path("dir/deleted").exists() && drive.path("sub").is_dir());
        for name in ["seen", "gone-row", "kept"] {
            ensure!(
                std::fs::read(drive.path(&format!("dir/{name}")))?
                    == format!("{name}\n").as_bytes()
            );
        }
        let aside = shell(&drive.state(), "cat lost+found/*/77777.1")?;
        ensure!(aside == "whose is it?", "{aside}");

        // A person decides: what is left of it is not wanted.
        std::fs::remove_file(drive.path("dir/short"))?;
        store.delete(".fsd/moving/4711")?;
        ensure!(drive.terminate()?.success(), "{}", drive.log());
        drive.set_options(&[]);
        drive.start()?;
        drive.wait()?;
        let (clean, code) = checked(&drive, &[])?;
        ensure!(clean["found"] == 0 && code == Some(0), "{clean:#}");
        same("the store", &store.files()?, &tree(&drive.mount())?)
    })
}
