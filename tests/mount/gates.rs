//! Hooks that decide what leaves: not one byte of a file is on the wire before its gate has let it pass.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fsd_tests::drive::Drive;
use fsd_tests::servers::Variables;
use fsd_tests::store::{Store, on_a_dir, on_azure, on_s3};
use fsd_tests::until;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::hooks::{picture, ready_hooks};

/// A drive before whose store the hook `sharpness` is a gate, as `gate` says.
fn gated(store: &Store, variables: Variables, gate: &str) -> Result<Drive> {
    let hook = Path::new(&ready_hooks()).canonicalize()?;
    let (hook, url) = (hook.display(), store.url());
    let text = format!(
        "state_dir = \"STATE\"\n[[share]]\nname = \"cam\"\nmount = \"MOUNT\"\nurl = \"{url}\"\nupload_delay = \"100ms\"\n\
         [[hook]]\ndir = \"{hook}/sharpness\"\nresults_folder = \"results\"\ngate = {gate}\n"
    );
    Drive::configured(&text)?.with_variables(variables).started()
}

/// The same with `privacy-blur`, and a local share for originals.
fn blurring(store: &Store, variables: Variables) -> Result<Drive> {
    let hook = Path::new(&ready_hooks()).canonicalize()?;
    let (hook, url) = (hook.display(), store.url());
    let text = format!(
        "state_dir = \"STATE\"\n[[share]]\nname = \"cam\"\nmount = \"MOUNT\"\nurl = \"{url}\"\nupload_delay = \"100ms\"\n\
         [[share]]\nname = \"vault\"\nmount = \"MOUNT-vault\"\nlocal = true\n\
         [[hook]]\ndir = \"{hook}/privacy-blur\"\nshares = [\"cam\"]\nresults_folder = \"results\"\n\
         gate = {{ originals_share = \"vault\" }}\n\
         [[hook]]\ndir = \"{hook}/thumbnail\"\nshares = [\"cam\"]\nresults_folder = \"results\"\n"
    );
    let drive = Drive::configured(&text)?.with_variables(variables);
    std::fs::create_dir_all(vault(&drive, ""))?;
    drive.started()
}

/// Where the original of `name` is kept.
fn vault(drive: &Drive, name: &str) -> PathBuf {
    let mount = format!("{}-vault", drive.mount().display());
    if name.is_empty() { mount.into() } else { Path::new(&mount).join("cam").join(name) }
}

/// How much a picture changes from one pixel to the next.
fn detail(picture: &[u8]) -> Result<f64> {
    let luma = image::load_from_memory(picture)?.into_luma8();
    let rows = luma.rows().map(|row| row.map(|pixel| f64::from(pixel.0[0])).collect::<Vec<_>>());
    let steps: Vec<f64> = rows
        .flat_map(|row| row.windows(2).map(|two| (two[0] - two[1]).abs()).collect::<Vec<_>>())
        .collect();
    Ok(steps.iter().sum::<f64>() / steps.len() as f64)
}

/// The worker that runs hooks dies, if there is one.
fn kill_the_worker(drive: &Drive) -> Result<bool> {
    let status = drive.json(&["status"])?;
    let Some(pid) = status["worker"]["pid"].as_i64() else { return Ok(false) };
    Ok(kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGKILL).is_ok())
}

fn drop_picture(drive: &Drive, name: &str, to: &str) -> Result<()> {
    std::fs::copy(picture(name), drive.path(to))?;
    Ok(())
}

fn code(drive: &Drive, name: &str) -> Result<Value> {
    Ok(drive.json(&["explain", &drive.path(name).to_string_lossy()])?["queue"]["code"].clone())
}

/// Names of objects that are no results.
fn objects(store: &Store) -> Result<Vec<String>> {
    let files = store.files()?.into_keys();
    Ok(files.filter(|key| !key.starts_with("results/")).collect())
}

#[test]
fn what_a_gate_holds_back_waits_for_a_person_and_the_rest_goes_up() -> Result<()> {
    on_a_dir(|store| {
        let mut drive = gated(store, store.variables(), "{ hold_if = [\"blurred\"] }")?;
        drop_picture(&drive, "clock_motion.png", "blurred.png")?;
        drop_picture(&drive, "chelsea.png", "sharp.png")?;
        std::fs::write(drive.path("note.txt"), "no picture")?;
        until("it is held back", || Ok(code(&drive, "blurred.png")? == "held-back"))?;
        until("the others are there", || Ok(objects(store)? == ["note.txt", "sharp.png"]))?;
        drive.crash()?;
        let said = drive.json(&["explain", &drive.path("blurred.png").to_string_lossy()])?;
        ensure!(
            said["gates"][0]["verdict"] == "hold" && said["gates"][0]["why"] == "blurred",
            "{said}"
        );
        ensure!(drive.run(&["wait"])?.status.code() == Some(7), "it waits for a person");
        ensure!(objects(store)? == ["note.txt", "sharp.png"], "it is still held back");
        drive.json(&["hooks", "verdict", "pass", &drive.path("blurred.png").to_string_lossy()])?;
        drive.wait()?;
        ensure!(objects(store)? == ["blurred.png", "note.txt", "sharp.png"], "it may leave now");
        // Another version is another matter.
        drop_picture(&drive, "clock_motion.png", "sharp.png")?;
        until("it is held back", || Ok(code(&drive, "sharp.png")? == "held-back"))?;
        let there = store.get("sharp.png")?.context("the earlier version")?;
        ensure!(there == std::fs::read(picture("chelsea.png"))?, "the earlier version stays");
        Ok(())
    })
}

#[test]
fn a_gate_that_can_say_nothing_has_its_fallback_speak() -> Result<()> {
    for (fallback, leaves) in [("hold", false), ("drop", false), ("pass", true)] {
        on_a_dir(|store| {
            let drive =
                gated(store, store.variables(), &format!("{{ fallback = \"{fallback}\" }}"))?;
            std::fs::write(drive.path("broken.png"), "this is no picture")?;
            drop_picture(&drive, "chelsea.png", "good.png")?;
            until("the good one is there", || Ok(objects(store)?.contains(&"good.png".into())))?;
            if leaves {
                drive.wait()?;
            } else {
                let word = if fallback == "hold" { "held-back" } else { "stays-here" };
                until("it is kept here", || Ok(code(&drive, "broken.png")? == word))?;
            }
            ensure!(objects(store)?.contains(&"broken.png".into()) == leaves, "{fallback}");
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn not_one_byte_is_on_the_wire_before_the_verdict_whatever_is_killed() -> Result<()> {
    on_s3(|store| {
        let (proxy, variables) = store.behind_a_proxy()?;
        let mut drive = gated(store, variables, "{ drop_if = [\"blurred\"] }")?;
        let before = proxy.bytes_up();
        let content = std::fs::read(picture("clock_motion.png"))?;
        for round in 0..6 {
            for number in 0..5 {
                let name = format!("{round}-{number}.png");
                std::fs::write(drive.path(&name), &content)?;
                std::fs::rename(drive.path(&name), drive.path(&format!("moved-{name}")))?;
            }
            drive.crash()?;
        }
        until("all are kept here", || {
            let items = drive.json(&["queue"])?["items"].as_array().cloned().unwrap_or_default();
            let kept = items.iter().filter(|item| item["code"] == "stays-here").count();
            Ok(kept == 30)
        })?;
        ensure!(objects(store)?.is_empty(), "{:?}", objects(store)?);
        // Results go up, and no picture: one alone has more bytes than all of them.
        let sent = proxy.bytes_up() - before;
        ensure!(sent < content.len() as u64, "{sent} bytes went up");
        ensure!(drive.path("moved-0-0.png").exists(), "what stays here is here");
        Ok(())
    })
}

#[test]
fn what_a_gate_makes_takes_the_place_of_the_original_which_stays_here() -> Result<()> {
    on_a_dir(|store| {
        let drive = blurring(store, store.variables())?;
        std::fs::create_dir(drive.path("ward"))?;
        for name in ["rocket.jpg", "chelsea.png"] {
            drop_picture(&drive, name, &format!("ward/{name}"))?;
        }
        xattr::set(drive.path("ward/rocket.jpg"), "user.patient", b"7")?;
        let mut reader = std::fs::File::open(drive.path("ward/rocket.jpg"))?;
        drive.wait()?;
        let original = std::fs::read(picture("rocket.jpg"))?;
        let there = store.files()?;
        for name in ["rocket.jpg", "chelsea.png"] {
            let (before, path) = (std::fs::read(picture(name))?, format!("ward/{name}"));
            let after = there.get(&path).context("no object")?;
            ensure!(
                *after == std::fs::read(drive.path(&path))?,
                "the drive shows what the cloud has"
            );
            ensure!(detail(after)? < detail(&before)? / 2.0, "{name} is blurred");
            ensure!(image::guess_format(after)? == image::guess_format(&before)?, "{name}");
            ensure!(
                std::fs::read(vault(&drive, &path))? == before,
                "the original of {name} is here"
            );
            let thumbnail = there.get(&format!("results/ward/{name}.thumb.jpg"));
            let thumbnail = thumbnail.context("no thumbnail of what took its place")?;
            ensure!(
                detail(thumbnail)? < detail(&before)? / 2.0,
                "it is one of the blurred picture"
            );
        }
        let path = drive.path("ward/rocket.jpg").to_string_lossy().into_owned();
        let results = drive.json(&["hooks", "results", &path, "--hook", "privacy-blur"])?;
        ensure!(
            results[0]["fields"]["masks"] == 1,
            "what was said is of what took its place: {results}"
        );
        // What can't be blurred is held back, and no hook is shown it, not even by hand.
        std::fs::write(drive.path("ward/none.png"), "no picture")?;
        until("it is held back", || Ok(code(&drive, "ward/none.png")? == "held-back"))?;
        let none = drive.path("ward/none.png").to_string_lossy().into_owned();
        let begun = drive.json(&["hooks", "run", "thumbnail", &none])?;
        ensure!(begun["files"] == 0 && begun["had"] == 0, "{begun}");
        std::fs::remove_file(drive.path("ward/none.png"))?;
        let elsewhere = vault(&drive, "ward/rocket.jpg").to_string_lossy().into_owned();
        let refused = drive.run(&["hooks", "verdict", "drop", &elsewhere])?;
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        ensure!(!refused.status.success() && said.contains("no hook is a gate"), "{said}");
        let kept = xattr::get(vault(&drive, "ward/rocket.jpg"), "user.patient")?;
        ensure!(kept.as_deref() == Some(b"7"), "its attributes are kept");
        let mut read = Vec::new();
        reader.rewind()?;
        reader.read_to_end(&mut read)?;
        ensure!(read == original, "whoever had it open reads on");
        // What is written now is added to the picture that is there, and is another version, whose original takes nobody's place.
        std::fs::OpenOptions::new()
            .append(true)
            .open(drive.path("ward/rocket.jpg"))?
            .write_all(b"more")?;
        drop(reader);
        drive.wait()?;
        ensure!(std::fs::read(vault(&drive, "ward/rocket.jpg"))? == original);
        let mut originals: Vec<_> = std::fs::read_dir(vault(&drive, "ward"))?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<Result<_>>()?;
        originals.sort();
        ensure!(originals.len() == 3 && originals[1].starts_with("rocket (2"), "{originals:?}");
        let second = std::fs::read(vault(&drive, &format!("ward/{}", originals[1])))?;
        let first = there.get("ward/rocket.jpg").context("no object")?;
        ensure!(second == [first.as_slice(), b"more"].concat(), "it is what was there, and more");
        Ok(())
    })
}

/// With this variable so many pictures arrive.
const ARRIVALS: &str = "FSD_TEST_ARRIVALS";
const ARRIVALS_DEFAULT: usize = 20;
const KILLS: u32 = 4;

fn blurred_under_kills(store: &Store, count: usize) -> Result<()> {
    let (proxy, variables) = store.behind_a_proxy()?;
    proxy.keep();
    let mut drive = blurring(store, variables)?;
    let mut originals = BTreeMap::new();
    let (base, scan) =
        (std::fs::read(picture("rocket.jpg"))?, std::fs::read(picture("chelsea.png"))?);
    for number in 0..count {
        let (bytes, name) = match number % 2 {
            0 => (&base, format!("{number:03}.jpg")),
            _ => (&scan, format!("{number:03}.png")),
        };
        // Behind its end a picture may have anything.
        let body =
            [bytes.as_slice(), format!("this is original {number:03} and no other").as_bytes()]
                .concat();
        std::fs::write(drive.path(&name), &body)?;
        originals.insert(name, body);
    }
    let mut kills = [0, 0];
    for _ in 0..KILLS {
        std::thread::sleep(Duration::from_millis(250));
        kills[0] += u32::from(kill_the_worker(&drive)?);
        std::thread::sleep(Duration::from_millis(150));
        drive.crash()?;
        kills[1] += 1;
    }
    drive.wait()?;
    let there = store.files()?;
    let (mut blurred, mut sent) = (0, 0);
    for (name, body) in &originals {
        let after = there.get(name).with_context(|| format!("no object {name}"))?;
        blurred += usize::from(detail(after)? < detail(body)? / 2.0);
        ensure!(std::fs::read(vault(&drive, name))? == *body, "the original of {name}");
        let end = &body[body.len() - 24..];
        let middle = &body[body.len() / 2..][..48];
        sent += usize::from(proxy.has_seen(end) || proxy.has_seen(middle));
        ensure!(proxy.has_seen(&after[after.len() / 2..][..48]), "the proxy sees what goes up");
    }
    let kept = std::fs::read_dir(vault(&drive, "").join("cam"))?.count();
    println!(
        "{}: {count} pictures arrived, the worker died {} times and the daemon {}; {blurred} are blurred there, {kept} originals here, of {sent} \
         anything on the wire",
        store.url(),
        kills[0],
        kills[1]
    );
    ensure!((blurred, kept, sent) == (count, count, 0), "of {count}: {blurred}, {kept}, {sent}");
    let results = drive.json(&["hooks", "results", "--hook", "privacy-blur", "--limit", "1000"])?;
    let results = results.as_array().context("no list of results")?;
    let of: BTreeSet<_> = results.iter().filter_map(|result| result["path"].as_str()).collect();
    ensure!((results.len(), of.len()) == (count, count), "a result of each, once: {results:?}");
    Ok(())
}

fn arrivals() -> Result<usize> {
    let Some(count) = std::env::var_os(ARRIVALS) else { return Ok(ARRIVALS_DEFAULT) };
    count.to_string_lossy().parse().with_context(|| format!("{ARRIVALS} is a number"))
}

#[test]
fn what_azure_gets_is_blurred_every_one_whatever_is_killed() -> Result<()> {
    on_azure(|store| blurred_under_kills(store, arrivals()?))
}

#[test]
fn what_s3_gets_is_blurred_every_one_whatever_is_killed() -> Result<()> {
    on_s3(|store| blurred_under_kills(store, arrivals()?))
}
