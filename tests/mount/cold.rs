//! Reading what is only in the store.

use anyhow::{Context as _, Result, ensure};
use fsd_tests::drive::Drive;
use fsd_tests::files::content;
use fsd_tests::proxy::Network;
use fsd_tests::store::{Store, on_s3};
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
