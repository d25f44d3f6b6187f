//! The daemon is killed, and nothing that was acknowledged is lost or torn.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fsd::rng::Rng;
use fsd_tests::drive::Drive;
use fsd_tests::files::{content, noise, same, tree, version_of};
use fsd_tests::store::{Store, on_a_dir, on_azure, on_each_store};
use fsd_tests::until;

const ROUNDS: u64 = 4;
const NAMES: u64 = 30;
const WRITES_A_ROUND: u64 = 60;

/// What a writer knows of its files.
#[derive(Debug, Default)]
struct Written {
    /// The version that each file has since its writer was told so.
    acknowledged: BTreeMap<String, u64>,
    /// Files whose writer was cut off in the middle, which may have anything in them since.
    interrupted: BTreeSet<String>,
}

#[derive(Debug, Default)]
struct Writer {
    written: Mutex<Written>,
    count: AtomicU64,
}

impl Writer {
    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes until it can't: half of the files in place, half beside and renamed.
    fn write(&self, mount: &Path, rng: &mut Rng) {
        loop {
            let by_rename = rng.below(2) == 0;
            let name = format!("{}{}", if by_rename { "r" } else { "p" }, rng.below(NAMES));
            let version = self.written().acknowledged.get(&name).copied().unwrap_or(0) + 1;
            let magnitude = 1 << (3 + rng.below(16));
            let length = usize::try_from(rng.below(magnitude)).unwrap_or(0);
            let body = content(&name, version, length);
            let beside = mount.join(format!("tmp-{name}"));
            let done = if by_rename {
                std::fs::write(&beside, body)
                    .and_then(|()| std::fs::rename(&beside, mount.join(&name)))
            } else {
                // Nobody may take what is half written for a version.
                self.written().interrupted.insert(name.clone());
                std::fs::write(mount.join(&name), body)
            };
            let mut written = self.written();
            match done {
                Ok(()) => {
                    written.interrupted.remove(&name);
                    written.acknowledged.insert(name, version);
                    self.count.fetch_add(1, Ordering::SeqCst);
                }
                Err(_) => {
                    written.interrupted.insert(name);
                    return;
                }
            }
        }
    }
}

/// Reads the store over and over: every object is whole, and never older than before.
fn watch(store: &Store, writer: &Writer, over: &AtomicBool) -> Result<u64> {
    let mut newest = BTreeMap::new();
    let mut ever_interrupted = BTreeSet::new();
    let mut looks = 0;
    while !over.load(Ordering::SeqCst) {
        for key in store.keys()? {
            let Some(body) = store.get(&key)? else { continue };
            ever_interrupted.extend(writer.written().interrupted.iter().cloned());
            if key.ends_with('/')
                || key.starts_with("tmp-")
                || (key.starts_with('p') && ever_interrupted.contains(&key))
            {
                continue;
            }
            looks += 1;
            let version = version_of(&body)?;
            let before = newest.insert(key.clone(), version).unwrap_or(0);
            ensure!(before <= version, "{key}: {version} after {before}");
        }
    }
    Ok(looks)
}

fn look(drive: &Drive, writer: &Writer) -> Result<()> {
    let written = writer.written();
    for (name, &version) in &written.acknowledged {
        let body = std::fs::read(drive.path(name)).with_context(|| format!("{name} is lost"))?;
        if !written.interrupted.contains(name) {
            ensure!(version_of(&body)? == version, "{name} is not version {version}");
        } else if name.starts_with('r') {
            let found = version_of(&body)?;
            ensure!([version, version + 1].contains(&found), "{name}: {found} for {version}");
        }
    }
    Ok(())
}

#[test]
fn a_killed_daemon_loses_nothing_and_no_object_is_ever_torn() -> Result<()> {
    on_each_store(|store| {
        let mut drive = Drive::mounted(store)?;
        let (writer, over) = (Writer::default(), AtomicBool::new(false));
        let looks = std::thread::scope(|scope| -> Result<u64> {
            let watcher = scope.spawn(|| watch(store, &writer, &over));
            let run = (1..=ROUNDS).try_for_each(|round| -> Result<()> {
                let mount = drive.mount();
                let until_written = writer.count.load(Ordering::SeqCst) + WRITES_A_ROUND;
                let writer = &writer;
                let writing = scope.spawn(move || writer.write(&mount, &mut Rng::new(round)));
                until("enough is written", || {
                    Ok(writer.count.load(Ordering::SeqCst) >= until_written
                        || writing.is_finished())
                })?;
                drive.kill()?;
                ensure!(writing.join().is_ok(), "the writer panicked");
                drive.start()?;
                look(&drive, writer).with_context(|| format!("round {round}"))?;
                if round % 2 == 0 {
                    drive.wait()?;
                }
                Ok(())
            });
            over.store(true, Ordering::SeqCst);
            let watched = watcher.join().map_err(|_| anyhow::anyhow!("the watcher panicked"))?;
            run?;
            watched
        })?;
        drive.wait()?;
        look(&drive, &writer)?;
        println!("{looks} objects looked at over {}", store.url());
        same("the store", &store.files()?, &tree(&drive.mount())?)
    })
}

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
