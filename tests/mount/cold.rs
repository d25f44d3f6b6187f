//! Reading what is only in the store.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::FileExt as _;

use anyhow::{Context as _, Result, ensure};
use fsd_tests::drive::Drive;
use fsd_tests::files::{content, noise};
use fsd_tests::proxy::Network;
use fsd_tests::store::{Store, on_each_store, on_s3};
use fsd_tests::until;

const FILES: u64 = 40;
/// What one takes on a disk with blocks of 4 KiB.
const FILE_DISK_BYTES: u64 = 4096;

fn name(number: u64) -> String {
    format!("many/f{number:02}")
}

fn fill(store: &Store) -> Result<()> {
    (0..FILES).try_for_each(|n| store.put(&name(n), &content(&name(n), 1, 3000)))
}

fn read(drive: &Drive, number: u64) -> Result<()> {
    let name = name(number);
    let found = std::fs::read(drive.path(&name)).with_context(|| format!("read {name}"))?;
    ensure!(found == content(&name, 1, 3000), "{name} reads as other bytes");
    Ok(())
}

fn cached(drive: &Drive) -> Result<u64> {
    let used = drive.json(&["status"])?["cache"]["bytes_used"].as_u64();
    Ok(used.context("status has no cache.bytes_used")? / FILE_DISK_BYTES)
}

/// The one after next is asked for at half of what was fetched ahead, so somebody notices.
fn until_link(drive: &Drive, state: &str) -> Result<()> {
    until(&format!("the link is {state}"), || {
        Ok(drive.json(&["status"])?["mounts"][0]["link"]["state"] == state)
    })
}

#[test]
fn whoever_reads_small_files_one_after_the_other_finds_the_next_ones_here() -> Result<()> {
    on_s3(|store| {
        fill(store)?;
        let (proxy, variables) = store.behind_a_proxy()?;
        let drive = Drive::over(store)?.with_variables(variables).started()?;
        ensure!(drive.path("many").read_dir()?.count() == 40, "its names are known");
        (0..3).try_for_each(|n| read(&drive, n))?;
        until("the next ones are here", || Ok(cached(&drive)? >= 10))?;
        proxy.set(Network::Refusing);
        (3..9).try_for_each(|n| read(&drive, n))?;
        until_link(&drive, "offline")?;
        proxy.set(Network::Up);
        until_link(&drive, "online")?;
        (9..FILES).try_for_each(|n| read(&drive, n))
    })
}

#[test]
fn whoever_reads_here_and_there_gets_what_was_asked_for() -> Result<()> {
    on_s3(|store| {
        fill(store)?;
        let drive = Drive::mounted(store)?;
        ensure!(drive.path("many").read_dir()?.count() == 40, "its names are known");
        let before = store.requests();
        let asked = [0, 30, 15];
        asked.into_iter().try_for_each(|n| read(&drive, n))?;
        let requests = store.requests().zip(before).map(|(now, before)| now - before);
        ensure!(requests.is_none_or(|count| count <= 3), "{requests:?} requests for 3 files");
        ensure!(cached(&drive)? == 3, "{} files are cached", cached(&drive)?);
        Ok(())
    })
}

#[test]
fn a_file_that_was_replaced_in_the_store_is_opened_as_it_is_now() -> Result<()> {
    on_each_store(|store| {
        let news = [("shorter", 100), ("longer", 70_000), ("large", 3 << 20)];
        for name in ["shorter", "longer", "large", "gone"] {
            store.put(name, &noise(1, 5000))?;
        }
        let drive = Drive::mounted(store)?;
        ensure!(drive.path("").read_dir()?.count() == 4, "its names are known");
        for (name, bytes) in news {
            ensure!(drive.path(name).metadata()?.len() == 5000, "{name} is known");
            store.put(name, &noise(2, bytes))?;
        }
        store.delete("gone")?;
        for (name, bytes) in news {
            let mut file = File::open(drive.path(name)).with_context(|| format!("open {name}"))?;
            ensure!(file.metadata()?.len() == bytes as u64, "{name} has its new size");
            let mut found = Vec::new();
            file.read_to_end(&mut found).with_context(|| format!("read {name}"))?;
            ensure!(found == noise(2, bytes), "{name} has its new content");
        }
        let gone = File::open(drive.path("gone")).err().map(|error| error.kind());
        ensure!(gone == Some(ErrorKind::NotFound), "what is gone opens as {gone:?}");
        Ok(())
    })
}

const LARGE: usize = 30 << 20;

#[test]
fn what_was_replaced_while_part_of_it_was_here_is_read_anew() -> Result<()> {
    on_each_store(|store| {
        store.put("large", &noise(1, LARGE))?;
        store.put("gone", &noise(1, LARGE))?;
        let drive = Drive::mounted(store)?;
        for name in ["large", "gone"] {
            File::open(drive.path(name))?.read_exact_at(&mut [0; 1000], 0)?;
        }
        store.put("large", &noise(2, LARGE))?;
        store.delete("gone")?;
        until("it is read as it is now", || {
            let read = std::fs::read(drive.path("large"));
            ensure!(read.as_ref().map_or(true, |read| *read == noise(2, LARGE)), "other bytes");
            Ok(read.is_ok())
        })?;
        until("it is gone here too", || {
            let read = std::fs::read(drive.path("gone"));
            ensure!(read.is_err(), "it is read though it is nowhere");
            Ok(read.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound))
        })
    })
}

#[test]
fn what_is_here_of_a_changed_file_is_kept_though_the_rest_is_gone() -> Result<()> {
    on_each_store(|store| {
        for name in ["replaced.bin", "deleted.bin"] {
            store.put(name, &noise(1, LARGE))?;
        }
        let drive = Drive::mounted(store)?;
        let change = |name: &str| -> Result<()> {
            let file = File::options().write(true).open(drive.path(name))?;
            Ok(file.write_all_at(b"HELLO", 10 << 20)?)
        };
        change("replaced.bin")?;
        store.put("replaced.bin", b"of somebody else")?;
        change("deleted.bin")?;
        store.delete("deleted.bin")?;
        drive.wait()?;
        let files = store.files()?;
        ensure!(
            files.get("replaced.bin").is_some_and(|body| body == b"of somebody else"),
            "theirs"
        );
        ensure!(std::fs::read(drive.path("replaced.bin"))? == b"of somebody else", "theirs, here");
        ensure!(!files.contains_key("deleted.bin"), "what was deleted is there");
        let ours: Vec<_> = files.iter().filter(|(name, _)| name.contains("(incomplete ")).collect();
        ensure!(ours.len() == 2, "kept are {:?}", files.keys());
        for (name, body) in ours {
            ensure!(name.ends_with(".bin"), "{name}");
            ensure!(body.len() == LARGE && body[10 << 20..].starts_with(b"HELLO"), "{name}");
            ensure!(std::fs::read(drive.path(name))? == *body, "{name} here");
        }
        Ok(())
    })
}
