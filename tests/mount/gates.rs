//! Hooks that decide what leaves: not one byte of a file is on the wire before its gate has let it pass.

use anyhow::{Context as _, Result, ensure};
use fsd_tests::drive::Drive;
use fsd_tests::servers::Variables;
use fsd_tests::store::{Store, on_a_dir, on_s3};
use fsd_tests::until;
use serde_json::Value;

use super::hooks::{picture, ready_hooks};

/// A drive before whose store the hook `sharpness` is a gate, as `gate` says.
fn gated(store: &Store, variables: Variables, gate: &str) -> Result<Drive> {
    let hook = std::path::Path::new(&ready_hooks()).canonicalize()?;
    let (hook, url) = (hook.display(), store.url());
    let text = format!(
        "state_dir = \"STATE\"\n[[share]]\nname = \"cam\"\nmount = \"MOUNT\"\nurl = \"{url}\"\nupload_delay = \"100ms\"\n\
         [[hook]]\ndir = \"{hook}/sharpness\"\nresults_folder = \"results\"\ngate = {gate}\n"
    );
    Drive::configured(&text)?.with_variables(variables).started()
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
