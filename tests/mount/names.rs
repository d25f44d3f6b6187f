//! Renames of what is uploaded, and names of every kind.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use anyhow::{Result, ensure};
use fsd_tests::drive::Drive;
use fsd_tests::files::{content, same, shell, tree};
use fsd_tests::store::{on_each_store, on_s3};
use fsd_tests::until;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

fn write(drive: &Drive, names: &[&str]) -> Result<()> {
    for name in names {
        std::fs::write(drive.path(name), content(name, 1, 2000))?;
    }
    Ok(())
}

fn rename(drive: &Drive, from: &str, to: &str) -> Result<()> {
    Ok(std::fs::rename(drive.path(from), drive.path(to))?)
}

#[test]
fn renames_of_uploaded_files_end_with_the_same_names_in_the_store() -> Result<()> {
    on_each_store(|store| {
        let drive = Drive::mounted(store)?;
        for dir in ["tree", "tree/below", "tree/empty", "other"] {
            std::fs::create_dir(drive.path(dir))?;
        }
        write(&drive, &["a", "b", "c", "d", "e", "f", "g", "h", "i", "gone", "same"])?;
        write(&drive, &["tree/x", "tree/below/y", "tree/below/z", "other/x"])?;
        drive.wait()?;
        let exchange = RenameFlags::RENAME_EXCHANGE;
        renameat2(AT_FDCWD, &drive.path("a"), AT_FDCWD, &drive.path("b"), exchange)?;
        // A ring of three, a chain, one over another, and one that comes back.
        for (from, to) in [("c", "t"), ("d", "c"), ("e", "d"), ("t", "e")] {
            rename(&drive, from, to)?;
        }
        for (from, to) in [("f", "f1"), ("g", "f"), ("h", "g"), ("i", "gone")] {
            rename(&drive, from, to)?;
        }
        rename(&drive, "same", "elsewhere")?;
        rename(&drive, "elsewhere", "same")?;
        std::fs::remove_file(drive.path("b"))?;
        std::fs::write(drive.path("b"), b"a new one under an old name")?;
        let mut expected = tree(&drive.mount())?;
        drive.wait()?;
        same("files", &store.files()?, &expected)?;

        rename(&drive, "tree", "moved")?;
        rename(&drive, "other", "tree")?;
        rename(&drive, "moved/below", "tree/below")?;
        rename(&drive, "moved/x", "x")?;
        write(&drive, &["tree/below/new"])?;
        expected = tree(&drive.mount())?;
        drive.wait()?;
        same("trees", &store.files()?, &expected)?;
        renameat2(AT_FDCWD, &drive.path("tree"), AT_FDCWD, &drive.path("moved"), exchange)?;
        renameat2(AT_FDCWD, &drive.path("moved/x"), AT_FDCWD, &drive.path("x"), exchange)?;
        expected = tree(&drive.mount())?;
        drive.wait()?;
        same("exchanged trees", &store.files()?, &expected)?;
        let left: Vec<String> =
            store.keys()?.into_iter().filter(|key| key.starts_with(".fsd/")).collect();
        ensure!(left.is_empty() || store.folder().is_some(), "left aside: {left:?}");
        let fresh = Drive::mounted(store)?;
        same("a fresh mount", &tree(&fresh.mount())?, &expected)?;
        ensure!(fresh.path("tree/empty").is_dir(), "an empty directory is still there");
        Ok(())
    })
}

#[test]
fn renames_while_uploads_run_lose_nothing() -> Result<()> {
    on_each_store(|store| {
        let drive = Drive::mounted(store)?;
        std::fs::create_dir(drive.path("dir0"))?;
        for round in 0..6 {
            let (dir, next) = (format!("dir{round}"), format!("dir{}", round + 1));
            for n in 0..25 {
                let name = format!("{dir}/r{round}-{n}");
                std::fs::write(drive.path(&name), content(&name, 1, 20_000))?;
            }
            until("uploads have begun", || Ok(store.keys()?.iter().any(|k| k.starts_with(&dir))))?;
            for n in 0..24 {
                let there = drive.path(&format!("{dir}/r{round}-{}", n + 1));
                let here = drive.path(&format!("{dir}/r{round}-{n}"));
                match n % 3 {
                    0 => {
                        renameat2(AT_FDCWD, &here, AT_FDCWD, &there, RenameFlags::RENAME_EXCHANGE)?
                    }
                    1 => std::fs::rename(here, drive.path(&format!("{dir}/s{round}-{n}")))?,
                    _ => {}
                }
            }
            rename(&drive, &dir, &next)?;
        }
        let expected = tree(&drive.mount())?;
        ensure!(expected.len() == 150, "{} files", expected.len());
        drive.wait()?;
        same("the store", &store.files()?, &expected)
    })
}

fn names_in(dir: &Path) -> Result<BTreeMap<OsString, Vec<u8>>> {
    dir.read_dir()?
        .map(|entry| {
            let entry = entry?;
            Ok((entry.file_name(), std::fs::read(entry.path())?))
        })
        .collect()
}

#[test]
fn any_name_comes_back_from_the_store() -> Result<()> {
    on_each_store(|store| {
        let mut names: Vec<Vec<u8>> = [
            "%",
            "100%",
            "%41",
            "%2F",
            "a%2fb",
            "%%",
            "#",
            "?",
            "a?b=c&d",
            "back\\slash",
            "dot.",
            "dots...",
            ".hidden",
            "...",
            " ",
            " lead",
            "trail ",
            "new\nline",
            "tab\t",
            "\u{1}",
            "\u{7f}",
            "\u{85}",
            "ü",
            "u\u{308}",
            "日本語",
            "😀",
            "\"quoted\"",
            "<tag>",
            "a&b",
            "a+b",
            "a;b",
            "a:b",
            "a*b",
            "a|b",
            "~",
            "{}",
            "[]",
            "^",
            "`",
            "'",
            "$HOME",
            "-rf",
            "con",
            "nul.txt",
            "..a",
            "a..",
            ".fsd-x",
            "\u{feff}bom",
            "\u{202e}rtl",
            "a\u{200b}b",
        ]
        .map(|name| name.as_bytes().to_vec())
        .into();
        names.extend([b"\xff\xfe".to_vec(), b"latin\xe9".to_vec(), b"\xe2\x82".to_vec()]);
        names.extend([
            vec![b'n'; 255],
            "ü".repeat(127).into_bytes(),
            "%41".repeat(85).into_bytes(),
        ]);
        let drive = Drive::mounted(store)?;
        let mut expected = BTreeMap::new();
        for name in names {
            let name = OsString::from_vec(name);
            let body = content(&name.to_string_lossy(), 1, 10);
            std::fs::create_dir_all(drive.path("files"))?;
            std::fs::create_dir_all(drive.path("dirs").join(&name))?;
            std::fs::write(drive.path("files").join(&name), &body)?;
            std::fs::write(drive.path("dirs").join(&name).join("inside"), &body)?;
            expected.insert(name, body);
        }
        let too_long_there = store.folder().is_some();
        if too_long_there {
            // An escape is three letters, and a directory takes no more than 255.
            expected.remove(&OsString::from("%41".repeat(85)));
            std::fs::remove_file(drive.path("files").join("%41".repeat(85)))?;
            std::fs::remove_dir_all(drive.path("dirs").join("%41".repeat(85)))?;
        }
        drive.wait()?;
        let fresh = Drive::mounted(store)?;
        let found = names_in(&fresh.path("files"))?;
        ensure!(found == expected, "files: {:?}", differing(&found, &expected));
        for (name, body) in &expected {
            let inside = fresh.path("dirs").join(name).join("inside");
            ensure!(std::fs::read(&inside)? == *body, "{inside:?}");
        }
        ensure!(fresh.path("dirs").read_dir()?.count() == expected.len(), "directories");
        // Each by itself, asked for by name, with nothing listed before.
        let asked = Drive::mounted(store)?;
        for (name, body) in &expected {
            let file = asked.path("files").join(name);
            ensure!(std::fs::read(&file)? == *body, "{file:?}");
        }
        Ok(())
    })
}

fn differing(
    found: &BTreeMap<OsString, Vec<u8>>,
    expected: &BTreeMap<OsString, Vec<u8>>,
) -> Vec<OsString> {
    let names = found.keys().chain(expected.keys());
    names.filter(|name| found.get(*name) != expected.get(*name)).cloned().collect()
}

#[test]
fn a_path_too_long_for_a_key_parks_that_file_only() -> Result<()> {
    on_s3(|store| {
        let drive = Drive::mounted(store)?;
        let deep = ["d"; 6].map(|d| d.repeat(200)).join("/");
        std::fs::create_dir_all(drive.path(&deep))?;
        std::fs::write(drive.path(&deep).join("file"), b"too deep")?;
        write(&drive, &["short"])?;
        let waited = drive.run(&["wait", "--timeout", "60s"])?;
        ensure!(waited.status.code() == Some(7), "{waited:?}");
        let queue = drive.json(&["queue"])?;
        ensure!(queue["totals"]["parked"] == 2 && queue["totals"]["items"] == 2, "{queue:#}");
        let why = queue["items"][0]["error"].as_str().unwrap_or_default();
        ensure!(why.contains("1024"), "{queue:#}");
        ensure!(store.files()?.contains_key("short"), "others are uploaded");
        std::fs::rename(drive.path(&deep).join("file"), drive.path("file"))?;
        std::fs::remove_dir(drive.path(&deep))?;
        drive.wait()?;
        same("the store", &store.files()?, &tree(&drive.mount())?)
    })
}

#[test]
fn a_deleted_tree_is_gone_with_its_directories_also_on_another_machine() -> Result<()> {
    on_each_store(|store| {
        let drive = Drive::mounted(store)?;
        shell(
            &drive.mount(),
            "mkdir -p flat deep/a/b/c && for i in $(seq 40); do echo $i > flat/$i; echo $i > deep/a/b/$i; done",
        )?;
        drive.wait()?;
        shell(&drive.mount(), "rm -rf flat deep")?;
        drive.wait()?;
        let left = shell(&Drive::mounted(store)?.mount(), "find . -mindepth 1")?;
        ensure!(left.is_empty(), "still there: {left}");
        Ok(())
    })
}

#[test]
fn a_file_takes_the_place_of_a_directory_whose_file_takes_its_place() -> Result<()> {
    on_each_store(|store| {
        let drive = Drive::mounted(store)?;
        let path = |name: &str| drive.path(name);
        std::fs::create_dir(path("place"))?;
        std::fs::write(path("file"), b"first")?;
        std::fs::write(path("place/below"), b"second")?;
        drive.wait()?;
        std::fs::rename(path("file"), path("aside"))?;
        std::fs::rename(path("place/below"), path("file"))?;
        std::fs::remove_dir(path("place"))?;
        std::fs::rename(path("aside"), path("place"))?;
        drive.wait()?;
        let expected = [("place", "first"), ("file", "second")];
        let expected = expected.map(|(name, body)| (name.to_owned(), body.as_bytes().to_vec()));
        same("the store", &store.files()?, &expected.into())
    })
}
