//! The link to the store is down.

use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use fsd::clock::{Clock as _, SystemClock};
use fsd_tests::drive::Drive;
use fsd_tests::files::{content, same, tree};
use fsd_tests::proxy::Network;
use fsd_tests::store::{Store, on_azure, on_s3};
use fsd_tests::until;

fn write(drive: &Drive, prefix: &str, count: u32) -> Result<()> {
    for n in 0..count {
        let name = format!("{prefix}{n}");
        std::fs::write(drive.path(&name), content(&name, 1, 5000))?;
    }
    Ok(())
}

fn list(drive: &Drive, dir: &str) -> std::io::Result<()> {
    drive.path(dir).read_dir()?.try_for_each(|name| name.map(drop))
}

fn an_outage(store: &Store, network: Network) -> Result<()> {
    store.put("known/old", b"known")?;
    store.put("unknown/old", b"unknown")?;
    let (proxy, variables) = store.behind_a_proxy()?;
    let mut drive = Drive::over(store)?.with_variables(variables).started()?;
    ensure!(std::fs::read(drive.path("known/old"))? == b"known", "the link is up");
    ensure!(drive.path("known").read_dir()?.count() == 1, "the link is up");
    // A crash may lose what was read or listed just now, since it can be had again.
    drive.restart()?;
    write(&drive, "before", 20)?;
    drive.wait()?;
    write(&drive, "on-their-way", 20)?;
    proxy.set(network);

    write(&drive, "during", 30)?;
    std::fs::rename(drive.path("before0"), drive.path("renamed"))?;
    std::fs::remove_file(drive.path("before1"))?;
    std::fs::write(drive.path("before2"), content("before2", 2, 100))?;
    ensure!(std::fs::read(drive.path("known/old"))? == b"known", "what is here can be read");
    ensure!(
        list(&drive, "unknown").is_err(),
        "a directory that nobody can list is not an empty one"
    );

    drive.crash()?;
    ensure!(std::fs::read(drive.path("known/old"))? == b"known", "also after a start offline");
    ensure!(list(&drive, "unknown").is_err(), "also after a start offline");
    write(&drive, "offline", 30)?;
    std::fs::rename(drive.path("offline0"), drive.path("offline-renamed"))?;
    until("the link is seen to be down", || {
        Ok(drive.json(&["status"])?["mounts"][0]["link"]["state"] == "offline")
    })?;
    let status = drive.json(&["status"])?;
    ensure!(status["queue"]["parked"] == 0, "an outage parks nothing: {status:#}");

    proxy.set(Network::Up);
    drive.wait()?;
    ensure!(std::fs::read(drive.path("unknown/old"))? == b"unknown", "the link is up again");
    same("the store", &store.files()?, &tree(&drive.mount())?)?;
    ensure!(store.files()?.len() == 101, "{} files", store.files()?.len());
    Ok(())
}

#[test]
fn work_goes_on_while_the_store_refuses_connections() -> Result<()> {
    on_azure(|store| an_outage(store, Network::Refusing))
}

#[test]
fn work_goes_on_while_the_network_swallows_everything() -> Result<()> {
    on_s3(|store| an_outage(store, Network::BlackHole))
}

/// The kernel lets go of one that waits for an answer only when he has it.
#[test]
fn a_program_that_is_killed_while_it_waits_for_the_cloud_ends_at_once() -> Result<()> {
    on_s3(|store| {
        store.put("cold", &content("cold", 1, 5000))?;
        store.put("dir/file", b"x")?;
        let (proxy, variables) = store.behind_a_proxy()?;
        let drive = Drive::over(store)?.with_variables(variables).started()?;
        ensure!(drive.path("").read_dir()?.count() == 2, "the link is up");
        proxy.set(Network::BlackHole);
        for (program, name) in [("ls", "dir"), ("stat", "dir/unknown"), ("cat", "cold")] {
            let mut waits = Command::new(program)
                .arg(drive.path(name))
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()?;
            sleep(Duration::from_millis(500));
            ensure!(waits.try_wait()?.is_none(), "{program} waits for the store");
            waits.kill()?;
            let since_killed = SystemClock::new();
            waits.wait()?;
            // What it waits for is given up after 20 s or later.
            let took = since_killed.monotonic();
            ensure!(took < Duration::from_secs(10), "{program} was there for {took:?} more");
        }
        Ok(())
    })
}

#[test]
fn a_request_whose_answer_was_lost_does_no_harm() -> Result<()> {
    on_s3(|store| {
        let (proxy, variables) = store.behind_a_proxy()?;
        let drive = Drive::over(store)?.with_variables(variables).started()?;
        for round in 0..8 {
            let prefix = format!("r{round}-");
            write(&drive, &prefix, 30)?;
            let requests = store.requests();
            until("requests are under way", || Ok(store.requests() > requests))?;
            proxy.set(Network::Refusing);
            for n in 0..30 {
                let name = drive.path(&format!("{prefix}{n}"));
                match n % 4 {
                    0 => std::fs::remove_file(name)?,
                    1 => std::fs::rename(name, drive.path(&format!("{prefix}{n}-new")))?,
                    2 => std::fs::write(name, content("x", round, 10))?,
                    _ => {}
                }
            }
            proxy.set(Network::Up);
        }
        drive.wait()?;
        same("the store", &store.files()?, &tree(&drive.mount())?)?;
        ensure!(store.files()?.len() == 8 * 22, "{} files", store.files()?.len());
        Ok(())
    })
}

#[test]
fn a_read_may_wait_for_the_link_while_others_go_on() -> Result<()> {
    on_s3(|store| {
        store.put("far", b"only there")?;
        let (proxy, variables) = store.behind_a_proxy()?;
        let options = ["-o", "offline_reads=wait,offline_wait=10m"];
        let drive = Drive::over(store)?.with_variables(variables).with(&options).started()?;
        ensure!(drive.path("far").metadata()?.len() == 10, "its name is known");
        proxy.set(Network::Refusing);
        let far = drive.path("far");
        let reading = std::thread::spawn(move || std::fs::read(far));
        until("the link is seen to be down", || {
            Ok(drive.json(&["status"])?["mounts"][0]["link"]["state"] == "offline")
        })?;
        std::fs::write(drive.path("here"), "written meanwhile")?;
        ensure!(std::fs::read(drive.path("here"))? == b"written meanwhile", "read meanwhile");
        ensure!(!reading.is_finished(), "it waits");
        proxy.set(Network::Up);
        let read = reading.join().map_err(|_| anyhow::anyhow!("the reader died"))?;
        ensure!(read? == b"only there", "it got what it waited for");
        drive.wait()
    })
}
