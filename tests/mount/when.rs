//! When hooks look at files, at which, and that they do not look at each other's results for ever.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fsd_tests::drive::Drive;
use fsd_tests::store::{Store, on_a_dir};
use fsd_tests::until;
use serde_json::Value;

use super::hooks::{picture, ready_hooks};

/// A drive with ready hooks: the name of each, and what else its section says.
fn drive(store: &Store, hooks: &[(&str, &str)]) -> Result<Drive> {
    let folder = Path::new(&ready_hooks()).canonicalize()?;
    let section = |(name, rest): &(&str, &str)| {
        format!("[[hook]]\ndir = \"{}/{name}\"\n{rest}\n", folder.display())
    };
    let sections: String = hooks.iter().map(section).collect();
    Drive::configured(&format!(
        "state_dir = \"STATE\"\n[[share]]\nname = \"cam\"\nmount = \"MOUNT\"\nurl = \"{}\"\nupload_delay = \"100ms\"\n{sections}",
        store.url()
    ))
}

fn jobs(drive: &Drive) -> Result<Vec<Value>> {
    Ok(drive.json(&["hooks", "jobs"])?.as_array().context("no list")?.clone())
}

#[test]
fn a_hook_for_a_media_type_goes_by_what_is_in_the_file() -> Result<()> {
    on_a_dir(|store| {
        let rest = "match = [\"*\"]\nmime = [\"image/*\"]\nresults_folder = \"results\"\ngate = {}";
        let drive = drive(store, &[("sharpness", rest)])?.started()?;
        std::fs::copy(picture("chelsea.png"), drive.path("picture.bin"))?;
        std::fs::write(drive.path("text.png"), "this only says that it is a picture")?;
        std::fs::write(drive.path("table.csv"), "a,b\n1,2\n")?;
        until("the picture is looked at", || {
            Ok(store.get("results/picture.bin.sharpness.json")?.is_some())
        })?;
        let job_of = |name: &str| -> Result<Value> {
            jobs(&drive)?.into_iter().find(|job| job["path"] == name).context("no job")
        };
        until("the table is none of its own", || Ok(job_of("table.csv")?["state"] == "done"))?;
        let why = job_of("table.csv")?["error"].clone();
        ensure!(why == "it is text/csv, which the hook does not look at", "{why}");
        until("what the gate does not look at leaves", || Ok(store.get("table.csv")?.is_some()))?;
        // A text without a type of its own is what it is called: the hook looks, and says that it is no picture.
        until("it is held back", || Ok(job_of("text.png")?["state"] == "failed"))?;
        ensure!(store.get("text.png")?.is_none(), "the gate can't say anything of it");
        ensure!(store.get("results/table.csv.sharpness.json")?.is_none(), "there is no result");
        Ok(())
    })
}

#[test]
fn who_writes_again_and_again_is_looked_at_when_he_is_done() -> Result<()> {
    on_a_dir(|store| {
        let rest = "debounce = \"2s\"\nresults_folder = \"results\"";
        let mut drive = drive(store, &[("sharpness", rest)])?.started()?;
        for name in ["clock_motion.png", "rocket.jpg", "chelsea.png"] {
            std::fs::copy(picture(name), drive.path("a.png"))?;
            std::thread::sleep(Duration::from_millis(700));
        }
        drive.crash()?;
        drive.wait()?;
        let results: Vec<_> =
            drive.json(&["hooks", "results"])?.as_array().context("no list")?.clone();
        ensure!(results.len() == 1 && results[0]["fields"]["blurred"] == false, "{results:?}");
        let looks = jobs(&drive)?.into_iter().filter(|job| job["error"].is_null()).count();
        ensure!(looks == 1, "the earlier ones were never looked at");
        Ok(())
    })
}

#[test]
fn a_hook_that_looks_now_and_then_looks_at_all_that_came_since() -> Result<()> {
    on_a_dir(|store| {
        let rest = "every = \"4s\"\nresults_folder = \"results\"";
        let drive = drive(store, &[("sharpness", rest)])?.started()?;
        for number in 0..4 {
            std::fs::copy(picture("chelsea.png"), drive.path(&format!("{number}.png")))?;
        }
        drive.wait()?;
        let arrived_at = |job: &Value| -> Result<i64> {
            let text = job["changed"].as_str().context("no time")?;
            Ok(text.parse::<jiff::Timestamp>()?.as_second())
        };
        let jobs = jobs(&drive)?;
        ensure!(jobs.len() == 4 && jobs.iter().all(|job| job["state"] == "done"), "{jobs:?}");
        for job in &jobs {
            ensure!(arrived_at(job)? % 4 <= 2, "at whole multiples of it, or shortly after: {job}");
        }
        Ok(())
    })
}

#[test]
fn results_of_one_hook_are_arrivals_for_another_but_not_for_ever() -> Result<()> {
    on_a_dir(|store| {
        let thumbnail = ("thumbnail", "results_folder = \"thumbs\"\nmatch = [\"*.jpg\"]");
        let blur = ("privacy-blur", "results_folder = \"blurred\"\nmatch = [\"*.jpg\"]");
        let mut refused = drive(store, &[thumbnail, blur])?;
        let error = refused.start().err().context("it has started")?.to_string();
        let says = format!("{error}\n{}", refused.log());
        ensure!(says.contains("could look at each other's results, or"), "{says}");
        let chain = ("sharpness", "results_folder = \"sharp\"\nmatch = [\"thumbs/*.thumb.jpg\"]");
        let drive = drive(store, &[thumbnail, chain])?.started()?;
        std::fs::copy(picture("rocket.jpg"), drive.path("a.jpg"))?;
        drive.wait()?;
        let files: Vec<_> = store.files()?.into_keys().collect();
        ensure!(
            files
                == [
                    "a.jpg",
                    "sharp/thumbs/a.jpg.thumb.jpg.sharpness.json",
                    "thumbs/a.jpg.thumb.jpg",
                    "thumbs/a.jpg.thumbnail.json"
                ],
            "{files:?}"
        );
        Ok(())
    })
}

#[test]
fn a_changed_folder_is_used_at_once_and_a_broken_one_not_at_all() -> Result<()> {
    on_a_dir(|store| {
        let folder = tempfile::TempDir::with_prefix("fsd-hook-")?;
        for entry in Path::new(&ready_hooks()).join("sharpness").read_dir()? {
            let entry = entry?;
            std::fs::copy(entry.path(), folder.path().join(entry.file_name()))?;
        }
        let drive = Drive::configured(&format!(
            "state_dir = \"STATE\"\n[[share]]\nname = \"cam\"\nmount = \"MOUNT\"\nurl = \"{}\"\nupload_delay = \"100ms\"\n\
             [[hook]]\ndir = \"{}\"\nresults_folder = \"results\"\nalert_if = [\"blurred = true\"]\n",
            store.url(),
            folder.path().display()
        ))?
        .started()?;
        let hook = || -> Result<Value> {
            drive.json(&["hooks", "list"])?.get(0).cloned().context("no hook")
        };
        let blurred = |name: &str| -> Result<Value> {
            std::fs::copy(picture("chelsea.png"), drive.path(name))?;
            drive.wait()?;
            let path = drive.path(name).to_string_lossy().into_owned();
            Ok(drive.json(&["hooks", "results", &path])?[0]["fields"]["blurred"].clone())
        };
        ensure!(blurred("a.png")? == false, "by the parameters of the folder");
        let first = hook()?["version"].clone();
        std::fs::write(folder.path().join("params.toml"), "blurred_below = 1e9\n")?;
        until("it is another version", || Ok(hook()?["version"] != first))?;
        ensure!(blurred("b.png")? == true, "by those of now");
        let second = hook()?["version"].clone();
        for (file, broken, says) in [
            ("params.toml", "blurred_below = \"no number\"\n", "blurred_below"),
            ("sharpness.wgsl", "this is no shader\n", "sharpness.wgsl"),
            ("hook.toml", "[hook]\nname = \"other\"\n", "hook.toml"),
        ] {
            let good = std::fs::read(folder.path().join(file))?;
            std::fs::write(folder.path().join(file), broken)?;
            until("it says so", || {
                Ok(hook()?["unusable"].as_str().is_some_and(|why| why.contains(says)))
            })?;
            ensure!(hook()?["version"] == second, "the version before goes on");
            ensure!(blurred(&format!("{file}.png"))? == true, "and works");
            std::fs::write(folder.path().join(file), good)?;
            until("all is well", || Ok(hook()?["unusable"].is_null()))?;
        }
        let status = String::from_utf8(drive.run(&["status"])?.stdout)?;
        ensure!(!status.contains("broken"), "{status}");
        Ok(())
    })
}
