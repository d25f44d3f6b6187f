//! `fsync` that waits until the version is uploaded.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;

use anyhow::{Context as _, Result, ensure};
use fsd_tests::drive::Drive;
use fsd_tests::files::noise;
use fsd_tests::proxy::Network;
use fsd_tests::store::{on_each_store, on_s3};

const OPTIONS: [&str; 2] = ["-o", "fsync=uploaded,fsync_wait=60s"];

#[test]
fn what_was_synced_is_in_the_store_though_the_file_stays_open() -> Result<()> {
    on_each_store(|store| {
        let mut drive = Drive::over(store)?.with(&OPTIONS).started()?;
        let mut file = File::create(drive.path("log"))?;
        for round in 1..4 {
            file.write_all(&noise(round, 100_000))?;
            file.sync_all()?;
            let expected: Vec<u8> = (1..=round).flat_map(|n| noise(n, 100_000)).collect();
            ensure!(store.get("log")?.as_deref() == Some(&*expected), "round {round}");
        }
        // What is written and not synced goes up when it is closed.
        file.write_all_at(b"over", 0)?;
        drop(file);
        drive.wait()?;
        ensure!(
            store.get("log")?.is_some_and(|body| body.starts_with(b"over")),
            "the last version"
        );
        // One that is only partly here is fetched, and one that is only read has nothing to wait for.
        ensure!(drive.terminate()?.success(), "{}", drive.log());
        std::fs::remove_dir_all(drive.state().join("index"))?;
        drive.start()?;
        let file = File::options().write(true).open(drive.path("log"))?;
        file.write_all_at(b"again", 200_000)?;
        file.sync_all()?;
        let there = store.get("log")?.context("it is there")?;
        ensure!(there.len() == 300_000 && &there[200_000..200_005] == b"again", "all of it");
        File::open(drive.path("log"))?.sync_all()?;
        drop(file);
        drive.crash()?;
        drive.wait()?;
        ensure!(store.get("log")?.as_deref() == Some(&*there), "it stays so");
        Ok(())
    })
}

#[test]
fn a_sync_that_can_not_reach_the_store_is_an_error_and_others_go_on() -> Result<()> {
    on_s3(|store| {
        let (proxy, variables) = store.behind_a_proxy()?;
        let options = ["-o", "fsync=uploaded,fsync_wait=3s"];
        let drive = Drive::over(store)?.with_variables(variables).with(&options).started()?;
        // What is there is known before the network goes: names that are new need no question then.
        ensure!(std::fs::read_dir(drive.mount())?.next().is_none(), "it is empty");
        proxy.set(Network::Refusing);
        let waiting: Vec<_> = (0..8)
            .map(|number| {
                let path = drive.path(&format!("f{number}"));
                std::thread::spawn(move || -> std::io::Result<()> {
                    let mut file = File::create(path)?;
                    file.write_all(b"here only")?;
                    file.sync_all()
                })
            })
            .collect();
        for number in 0..50 {
            std::fs::write(drive.path(&format!("other{number}")), "written meanwhile")?;
        }
        ensure!(std::fs::read(drive.path("other7"))? == b"written meanwhile", "read meanwhile");
        for thread in waiting {
            let synced = thread.join().map_err(|_| anyhow::anyhow!("it died"))?;
            let errno = synced.err().and_then(|error| error.raw_os_error());
            ensure!(errno == Some(libc::EIO), "{errno:?}");
        }
        proxy.set(Network::Up);
        drive.wait()?;
        ensure!(store.files()?.len() == 58, "all goes up when it can");
        let file = File::options().append(true).open(drive.path("f0"))?;
        file.sync_all()?;
        Ok(())
    })
}
