//! The daemon is killed at random moments under load, again and again: every closed file is whole, here and in the cloud, and no version
//! ever goes backwards there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fsd::rng::Rng;
use fsd_tests::drive::Drive;
use fsd_tests::files::{content, same, tree, version_of};
use fsd_tests::store::{Store, on_a_dir, on_azure, on_s3};

/// With this variable so many kills are done over each store, and the figures are printed.
const KILLS: &str = "FSD_TEST_KILLS";
const KILLS_DEFAULT: u64 = 5;
const WRITERS: u64 = 2;
const NAMES_OF_EACH: u64 = 20;
/// Above what goes in one request, so that it goes in parts.
const LARGE_BYTES: u64 = 18 << 20;

/// What a writer knows of its files.
#[derive(Debug, Default)]
struct Written {
    /// The version that each file has since its writer was told so; none of a file that is deleted.
    acknowledged: BTreeMap<String, Option<u64>>,
    /// The last version that was ever begun of each.
    begun: BTreeMap<String, u64>,
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

    /// Does what it does with one file after the other, until it can't.
    fn write(&self, mount: &Path, number: u64, rng: &mut Rng) {
        while self.change_one(mount, number, rng).is_ok() {
            self.count.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Writes a file in place (`p`), writes it beside and renames it (`r`), or deletes it.
    fn change_one(&self, mount: &Path, number: u64, rng: &mut Rng) -> std::io::Result<()> {
        let by_rename = rng.below(2) == 0;
        let letter = if by_rename { 'r' } else { 'p' };
        let name = format!("{letter}{number}-{}", rng.below(NAMES_OF_EACH));
        let version = {
            let mut written = self.written();
            let begun = written.begun.entry(name.clone()).or_default();
            *begun += 1;
            let version = *begun;
            written.interrupted.insert(name.clone());
            version
        };
        let is_deletion =
            rng.below(8) == 0 && matches!(self.written().acknowledged.get(&name), Some(Some(_)));
        if is_deletion {
            std::fs::remove_file(mount.join(&name))?;
        } else {
            let magnitude = if rng.below(40) == 0 { LARGE_BYTES } else { 1 << (3 + rng.below(16)) };
            let length = usize::try_from(rng.below(magnitude)).unwrap_or(0);
            let body = content(&name, version, length);
            if by_rename {
                let beside = mount.join(format!("tmp-{name}"));
                std::fs::write(&beside, body)?;
                std::fs::rename(&beside, mount.join(&name))?;
            } else {
                std::fs::write(mount.join(&name), body)?;
            }
        }
        let mut written = self.written();
        written.interrupted.remove(&name);
        written.acknowledged.insert(name, (!is_deletion).then_some(version));
        Ok(())
    }

    /// Whether each file is what its writer was told.
    fn look(&self, drive: &Drive) -> Result<()> {
        let mut written = self.written();
        let Written { acknowledged, begun, interrupted } = &mut *written;
        for (name, version) in acknowledged.iter_mut() {
            let path = drive.path(name);
            let found = match std::fs::read(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                body => Some(body.with_context(|| format!("{name} can't be read"))?),
            };
            if !interrupted.contains(name) {
                let found = found.map(|body| version_of(&body)).transpose()?;
                ensure!(found == *version, "{name} is version {found:?}, not {version:?}");
            } else if name.starts_with('r') {
                // Renamed or deleted it is what it was or what it was to become.
                let found = found.map(|body| version_of(&body)).transpose()?;
                let expected = [*version, begun.get(name).copied(), None];
                ensure!(expected.contains(&found), "{name}: {found:?} of {expected:?}");
                *version = found;
            }
        }
        // Whoever was cut off knows by now what became of his file; of one in place anything.
        interrupted.retain(|name| name.starts_with('p'));
        Ok(())
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
            if key.ends_with('/') || key.starts_with("tmp-") {
                continue;
            }
            let may_be_torn = key.starts_with('p') && ever_interrupted.contains(&key);
            let version = match version_of(&body) {
                Err(_) if may_be_torn => continue,
                version => version?,
            };
            looks += 1;
            let before = newest.insert(key.clone(), version).unwrap_or(0);
            ensure!(before <= version, "{key}: {version} after {before}");
        }
    }
    Ok(looks)
}

fn killed_again_and_again(store: &Store, kills: u64) -> Result<()> {
    let mut drive = Drive::mounted(store)?;
    let (writer, over) = (Writer::default(), AtomicBool::new(false));
    let mut rng = Rng::new(kills);
    let mut starts_cut = 0;
    let looks = std::thread::scope(|scope| -> Result<u64> {
        let watcher = scope.spawn(|| watch(store, &writer, &over));
        let run = (0..kills).try_for_each(|round| -> Result<()> {
            let mount = drive.mount();
            let writer = &writer;
            let writing: Vec<_> = (0..WRITERS)
                .map(|number| {
                    let (mount, mut rng) = (mount.clone(), Rng::new(round * WRITERS + number));
                    scope.spawn(move || writer.write(&mount, number, &mut rng))
                })
                .collect();
            sleep(Duration::from_millis(rng.below(1500)));
            drive.kill()?;
            ensure!(writing.into_iter().all(|writing| writing.join().is_ok()), "a writer panicked");
            if rng.below(4) == 0 {
                drive.start_and_kill(Duration::from_millis(rng.below(400)))?;
                starts_cut += 1;
            }
            drive.start()?;
            writer.look(&drive).with_context(|| format!("after kill {round}"))?;
            if round % 8 == 7 {
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
    writer.look(&drive)?;
    let count = writer.count.load(Ordering::SeqCst);
    ensure!(count > 0 && looks > 0, "{count} changes, {looks} objects");
    println!(
        "{}: {kills} kills under load and {starts_cut} while it started, {count} changes, {looks} objects looked at",
        store.url()
    );
    same("the store", &store.files()?, &tree(&drive.mount())?)
}

fn kills() -> Result<u64> {
    let Some(kills) = std::env::var_os(KILLS) else { return Ok(KILLS_DEFAULT) };
    kills.to_string_lossy().parse().with_context(|| format!("{KILLS} is a number"))
}

#[test]
fn a_killed_daemon_loses_nothing_and_no_object_is_ever_torn_over_s3() -> Result<()> {
    on_s3(|store| killed_again_and_again(store, kills()?))
}

#[test]
fn a_killed_daemon_loses_nothing_and_no_object_is_ever_torn_over_azure() -> Result<()> {
    on_azure(|store| killed_again_and_again(store, kills()?))
}

#[test]
fn a_killed_daemon_loses_nothing_and_no_object_is_ever_torn_over_a_directory() -> Result<()> {
    on_a_dir(|store| killed_again_and_again(store, kills()?))
}
