//! The daemon is killed, and nothing that was acknowledged is lost or torn.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use fsd_tests::drive::Drive;
use fsd_tests::files::{content, noise, same, tree};
use fsd_tests::store::{on_a_dir, on_azure, on_each_store};
use fsd_tests::until;

#[test]
fn a_deleted_file_does_not_come_back_after_a_crash() -> Result<()> {
    on_each_store(|store| {
        let mut drive = Drive::mounted(store)?;
        for round in 0..6_u64 {
            let names: Vec<String> = (0..40).map(|n| format!("d{round}/f{n}")).collect();
            std::fs::create_dir(drive.path(&format!("d{round}")))?;
            for name in &names {
                std::fs::write(drive.path(name), content(name, 1, 3000))?;
            }
            // Some are uploaded by now, some are on their way, some wait.
            let some = format!("d{round}/");
            until("uploads have begun", || {
                Ok(store.keys()?.iter().any(|key| key.starts_with(&some) && !key.ends_with('/')))
            })?;
            if round % 2 == 0 {
                drive.kill()?;
                drive.start()?;
            }
            for (at, name) in names.iter().enumerate() {
                if at % 2 == 0 {
                    std::fs::remove_file(drive.path(name))?;
                } else {
                    std::fs::rename(drive.path(name), drive.path(&format!("{name}.new")))?;
                }
            }
            if round % 2 == 1 {
                drive.crash()?;
            }
        }
        drive.wait()?;
        let expected = (0..6)
            .flat_map(|round| (0..40).filter(|n| n % 2 == 1).map(move |n| format!("d{round}/f{n}")))
            .map(|name| (format!("{name}.new"), content(&name, 1, 3000)))
            .collect();
        same("the mount", &tree(&drive.mount())?, &expected)?;
        same("the store", &store.files()?, &expected)
    })
}

#[test]
fn an_upload_in_parts_goes_on_after_a_crash() -> Result<()> {
    const MIB: usize = 1 << 20;
    on_azure(|store| {
        let mut drive = Drive::over(store)?.with(&["--bwlimit-up", "8MiB/s"]).started()?;
        let body = noise(7, 40 * MIB + 12345);
        std::fs::write(drive.path("large"), &body)?;
        let sent = |drive: &Drive| -> Result<u64> {
            let queue = drive.json(&["queue"])?;
            Ok(queue["items"][0]["bytes_sent"].as_u64().unwrap_or(0))
        };
        until("a part is sent", || Ok(sent(&drive)? >= 8 * MIB as u64))?;
        let before = sent(&drive)?;
        ensure!(store.get("large")?.is_none(), "a part of a file is no object");
        drive.crash()?;
        ensure!(sent(&drive)? >= before, "what was sent counts on: {} < {before}", sent(&drive)?);
        drive.wait()?;
        ensure!(store.get("large")?.as_ref() == Some(&body), "the object is not the file");
        Ok(())
    })
}

#[test]
fn a_program_that_outlives_the_daemon_loses_nothing_of_what_it_writes() -> Result<()> {
    on_a_dir(|store| {
        let mut drive = Drive::mounted(store)?;
        std::fs::write(drive.path("cold"), noise(0, 300_000))?;
        drive.wait()?;
        let mut file = File::create(drive.path("open"))?;
        let mut expected = noise(1, 100_000);
        file.write_all(&expected)?;
        std::fs::write(drive.path("closed"), noise(2, 1000))?;
        drive.kill()?;
        // With passthrough the kernel goes on writing for it, without it there is nobody to do so.
        let goes_on = file.write_all(&noise(3, 5000)).is_ok();
        if goes_on {
            expected.extend(noise(3, 5000));
        }
        drive.start()?;
        ensure!(std::fs::read(drive.path("closed"))? == noise(2, 1000), "what was closed is whole");
        if goes_on {
            let queue = drive.json(&["queue"])?;
            let open =
                queue["items"].as_array().into_iter().flatten().find(|item| item["path"] == "open");
            ensure!(open.is_some_and(|item| item["state"] == "writing"), "{queue:#}");
            for n in 4..8 {
                file.write_all_at(&noise(n, 3000), expected.len() as u64)?;
                expected.extend(noise(n, 3000));
                if n == 5 {
                    // Opened, changed and closed by somebody else, it is still open.
                    File::options().append(true).open(drive.path("open"))?.write_all(b"x")?;
                    expected.push(b'x');
                }
                sleep(Duration::from_millis(900));
            }
            until("the mount shows what is written", || {
                Ok(std::fs::read(drive.path("open"))? == expected)
            })?;
        }
        drop(file);
        drive.wait()?;
        ensure!(std::fs::read(drive.path("open"))? == expected, "what was open is as it was left");
        same("the store", &store.files()?, &tree(&drive.mount())?)
    })
}
