//! Gates that send files to another share.

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fsd_tests::drive::Drive;
use fsd_tests::store::{Store, on_a_dir};
use fsd_tests::until;

use super::hooks::{picture, ready_hooks};

/// A drive that uploads to `store`, whose blurred pictures go to a share that uploads to `rejects`.
fn sorting(store: &Store, rejects: &Store) -> Result<Drive> {
    gated(store, rejects, "")
}

/// The same with `more` in its gate.
fn gated(store: &Store, rejects: &Store, more: &str) -> Result<Drive> {
    let hook = Path::new(&ready_hooks()).canonicalize()?;
    let (hook, url, other) = (hook.display(), store.url(), rejects.url());
    let text = format!(
        "state_dir = \"STATE\"\n[[share]]\nname = \"cam\"\nmount = \"MOUNT\"\nurl = \"{url}\"\nupload_delay = \"100ms\"\n\
         [[share]]\nname = \"rejects\"\nmount = \"MOUNT-rejects\"\nurl = \"{other}\"\nupload_delay = \"100ms\"\n\
         [[hook]]\ndir = \"{hook}/sharpness\"\nshares = [\"cam\"]\nresults_folder = \"results\"\n\
         gate = {{ route_if = [\"blurred\"], route_share = \"rejects\"{more} }}\n"
    );
    let drive = Drive::configured(&text)?.with_variables(store.variables());
    std::fs::create_dir_all(rejected(&drive, ""))?;
    drive.started()
}

/// Where the file `name` goes if it is blurred.
fn rejected(drive: &Drive, name: &str) -> PathBuf {
    let mount = PathBuf::from(format!("{}-rejects", drive.mount().display()));
    if name.is_empty() { mount } else { mount.join("cam").join(name) }
}

/// The keys of a store's files but for those of results.
fn objects(store: &Store) -> Result<BTreeSet<String>> {
    Ok(store.files()?.into_keys().filter(|key| !key.starts_with("results/")).collect())
}

fn names(folder: &Path) -> Result<BTreeSet<String>> {
    std::fs::read_dir(folder)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect()
}

/// A blurred picture, each `number` another file; most of it behind the picture, so that it takes a while to copy.
fn blurred(number: usize) -> Result<Vec<u8>> {
    let mut bytes = std::fs::read(picture("clock_motion.png"))?;
    bytes.resize(4 << 20, 7);
    bytes.extend_from_slice(&number.to_le_bytes());
    Ok(bytes)
}

#[test]
fn what_a_gate_sends_elsewhere_is_there_with_all_that_was_known_of_it_and_nowhere_else()
-> Result<()> {
    on_a_dir(|store| {
        on_a_dir(|rejects| {
            let drive = sorting(store, rejects)?;
            std::fs::create_dir(drive.path("line"))?;
            let content = blurred(0)?;
            // Under another name nobody looks at it until it is whole.
            std::fs::write(drive.path("line/new"), &content)?;
            xattr::set(drive.path("line/new"), "user.part", b"7")?;
            std::fs::rename(drive.path("line/new"), drive.path("line/a.png"))?;
            let mut reader = std::fs::File::open(drive.path("line/a.png"))?;
            std::fs::hard_link(drive.path("line/a.png"), drive.path("line/same.png"))?;
            std::fs::copy(picture("chelsea.png"), drive.path("line/sharp.png"))?;
            until("it is elsewhere", || Ok(rejected(&drive, "line/a.png").exists()))?;
            until("it is gone", || Ok(names(&drive.path("line"))? == ["sharp.png".into()].into()))?;
            drive.wait()?;
            ensure!(objects(store)? == ["line/sharp.png".into()].into(), "{:?}", objects(store)?);
            ensure!(objects(rejects)? == ["cam/line/a.png".into()].into());
            ensure!(rejects.get("cam/line/a.png")?.context("no object")? == content);
            let attribute = |name| xattr::get(rejected(&drive, "line/a.png"), name);
            ensure!(attribute("user.part")?.as_deref() == Some(b"7".as_slice()));
            let result = attribute("user.fsd.hook.sharpness")?.context("no result")?;
            ensure!(String::from_utf8_lossy(&result).contains("\"blurred\":true"));
            let sidecar = std::fs::read_to_string(drive.path("results/line/a.png.sharpness.json"))?;
            ensure!(sidecar.contains("\"routed\": \"rejects:cam/line/a.png\""), "{sidecar}");
            let path = rejected(&drive, "line/a.png").to_string_lossy().into_owned();
            let results = drive.json(&["hooks", "results", &path])?;
            ensure!(results[0]["fields"]["blurred"] == true, "{results}");
            let events = drive.run(&["events", "--kind", "verdict"])?.stdout;
            let events = String::from_utf8_lossy(&events).into_owned();
            ensure!(events.contains("route") && events.contains("line/a.png"), "{events}");
            let mut read = Vec::new();
            reader.read_to_end(&mut read)?;
            ensure!(read == content, "whoever had it open reads on");

            // The same once more is there already; another one takes nobody's place.
            for (number, count) in [(0, 1), (1, 2)] {
                std::fs::write(drive.path("line/a.png"), blurred(number)?)?;
                until("it is gone", || Ok(!drive.path("line/a.png").exists()))?;
                let there = names(&rejected(&drive, "line"))?;
                ensure!(there.len() == count && there.contains("a.png"), "{there:?}");
            }
            drive.wait()?;
            ensure!(objects(rejects)?.len() == 2 && objects(store)?.len() == 1);
            ensure!(rejects.get("cam/line/a.png")?.context("no object")? == content);

            // A person's word goes before a gate's.
            ensure!(drive.run(&["hooks", "pause", "sharpness"])?.status.success());
            std::fs::write(drive.path("wanted.png"), blurred(2)?)?;
            let wanted = drive.path("wanted.png").to_string_lossy().into_owned();
            until("it waits", || {
                Ok(drive.json(&["explain", &wanted])?["queue"]["code"] == "gated")
            })?;
            drive.json(&["hooks", "verdict", "pass", &wanted])?;
            ensure!(drive.run(&["hooks", "resume", "sharpness"])?.status.success());
            drive.wait()?;
            ensure!(objects(store)?.contains("wanted.png") && drive.path("wanted.png").exists());
            ensure!(!rejected(&drive, "wanted.png").exists());
            Ok(())
        })
    })
}

#[test]
fn what_can_not_move_yet_is_held_back_whatever_the_fallback_says_and_moves_for_the_same_people()
-> Result<()> {
    on_a_dir(|store| {
        on_a_dir(|rejects| {
            let drive = gated(store, rejects, ", fallback = \"pass\", timeout = \"1s\"")?;
            // Where a folder is needed.
            std::fs::write(rejected(&drive, "").join("cam"), "in the way")?;
            let ward = drive.path("ward");
            std::fs::create_dir(&ward)?;
            std::fs::set_permissions(&ward, Permissions::from_mode(0o750))?;
            let long = format!("{}.png", "n".repeat(251));
            std::fs::write(ward.join(&long), blurred(0)?)?;
            let file = ward.join(&long).to_string_lossy().into_owned();
            until("it is held back", || {
                let queue = drive.json(&["explain", &file])?["queue"].clone();
                let why = queue["error"].as_str().unwrap_or_default();
                Ok(queue["code"] == "held-back" && why.contains("can't be done yet"))
            })?;
            std::thread::sleep(Duration::from_secs(3));
            ensure!(objects(store)?.is_empty(), "{:?}", objects(store)?);
            std::fs::remove_file(rejected(&drive, "").join("cam"))?;
            let there = rejected(&drive, "ward").join(&long);
            until("it has moved", || Ok(there.exists() && !ward.join(&long).exists()))?;
            let mode = |path: &Path| Ok::<_, anyhow::Error>(path.metadata()?.mode() & 0o7777);
            ensure!(mode(&rejected(&drive, "ward"))? == 0o750);
            ensure!(mode(&drive.path("results/ward"))? == 0o750);
            drive.wait()?;
            ensure!(objects(store)?.is_empty(), "{:?}", objects(store)?);
            ensure!(rejects.get(&format!("cam/ward/{long}"))?.context("no object")? == blurred(0)?);
            Ok(())
        })
    })
}

#[test]
fn whatever_crashes_what_is_sent_elsewhere_arrives_once_and_leaves_from_there_alone() -> Result<()>
{
    const ROUNDS: usize = 6;
    const FILES: usize = 5;
    on_a_dir(|store| {
        on_a_dir(|rejects| {
            let mut drive = sorting(store, rejects)?;
            for round in 0..ROUNDS {
                for number in (0..FILES).map(|file| round * FILES + file) {
                    std::fs::write(drive.path(&format!("{number}.png")), blurred(number)?)?;
                }
                std::thread::sleep(Duration::from_millis(40 * round as u64));
                drive.crash()?;
            }
            let all = || (0..ROUNDS * FILES).map(|number| format!("{number}.png"));
            until("all are elsewhere", || {
                Ok(all().all(|name| !drive.path(&name).exists())
                    && names(&rejected(&drive, ""))?.contains("cam")
                    && names(&rejected(&drive, "").join("cam"))? == all().collect())
            })?;
            drive.wait()?;
            ensure!(objects(store)?.is_empty(), "{:?}", objects(store)?);
            for (number, name) in all().enumerate() {
                let there = rejects.get(&format!("cam/{name}"))?.context("no object")?;
                ensure!(there == blurred(number)?, "{name}");
            }
            ensure!(objects(rejects)?.len() == ROUNDS * FILES, "{:?}", objects(rejects)?);
            Ok(())
        })
    })
}
