//! Hooks that are programs, in a mounted gateway.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use fsd_tests::drive::Drive;
use fsd_tests::store::on_a_dir;
use fsd_tests::until;
use nix::unistd::Uid;
use tempfile::TempDir;

const HOOK: &str = r#"
[hook]
name = "lines"
api = 1
match = ["*.csv"]
[params]
most = { type = "u32", default = 100 }
[command]
program = "count.py"
[output.json]
fields = { lines = "u32", too_long = "bool" }
[limits]
retries = 0
"#;

const COUNT: &str = r#"#!/usr/bin/python3
import json, os, sys, time
told = json.load(open("/input.json"))
content = open(told["input"], "rb").read()
if content.startswith(b"not now") and told["change_type"] == "created":
    sys.exit(75)
if content.startswith(b"bad"):
    print("no header", file=sys.stderr)
    sys.exit(65)
time.sleep(0.5)
lines = content.count(b"\n")
json.dump({"lines": lines, "too_long": lines > told["params"]["most"]}, open("result.json", "w"))
open("summary.txt", "w").write(f"{told['share']}:{told['path']} {lines} {told['change_type']}\n")
"#;

/// A folder with the hook, which is in force for `most` lines at most.
fn gated(url: &str, hook: &Path) -> Result<Drive> {
    std::fs::write(hook.join("hook.toml"), HOOK)?;
    std::fs::write(hook.join("count.py"), COUNT)?;
    let text = format!(
        "state_dir = \"STATE\"\n[[share]]\nname = \"plant\"\nmount = \"MOUNT\"\nurl = \"{url}\"\nupload_delay = \"100ms\"\n\
         [[hook]]\ndir = \"{}\"\nresults_folder = \"results\"\nparams = {{ most = 3 }}\n\
         gate = {{ hold_if = [\"too_long\"], fallback = \"drop\" }}\n",
        hook.display()
    );
    Drive::configured(&text)
}

/// Processes of this hook, of any gateway.
fn programs() -> Result<usize> {
    let mut found = 0;
    for entry in std::fs::read_dir("/proc")? {
        let line = std::fs::read(entry?.path().join("cmdline")).unwrap_or_default();
        found += usize::from(String::from_utf8_lossy(&line).contains("/hook/count.py"));
    }
    Ok(found)
}

fn code(drive: &Drive, name: &str) -> Result<serde_json::Value> {
    Ok(drive.json(&["explain", &drive.path(name).to_string_lossy()])?["queue"]["code"].clone())
}

#[test]
fn a_program_decides_what_leaves_whatever_is_killed() -> Result<()> {
    if !Path::new("/usr/bin/bwrap").exists() {
        println!("SKIP: bubblewrap is not installed");
        return Ok(());
    }
    on_a_dir(|store| {
        let hook = TempDir::new()?;
        std::fs::set_permissions(hook.path(), std::fs::Permissions::from_mode(0o700))?;
        let mut drive =
            gated(store.url(), hook.path())?.with_variables(store.variables()).started()?;
        std::fs::create_dir(drive.path("line"))?;
        for number in 0..4 {
            std::fs::write(drive.path(&format!("line/short-{number}.csv")), "a\nb\n")?;
            std::fs::write(drive.path(&format!("line/long-{number}.csv")), "a\nb\nc\nd\n")?;
        }
        std::fs::write(drive.path("bad.csv"), "bad")?;
        std::fs::write(drive.path("later.csv"), "not now")?;
        std::fs::write(drive.path("note.txt"), "no table")?;
        // The hook folder is not what runs: its version is that of what was read.
        std::fs::write(hook.path().join("count.py"), "#!/bin/sh\nexit 1\n")?;
        until("programs run", || Ok(programs()? > 0))?;
        drive.kill()?;
        until("they end with the daemon", || Ok(programs()? == 0))?;
        std::fs::write(hook.path().join("count.py"), COUNT)?;
        drive.start()?;
        for number in 0..4 {
            let long = format!("line/long-{number}.csv");
            until("a long one is held back", || Ok(code(&drive, &long)? == "held-back"))?;
        }
        until("a bad one stays here", || Ok(code(&drive, "bad.csv")? == "stays-here"))?;
        let there = || -> Result<Vec<String>> {
            let files = store.files()?.into_keys();
            Ok(files.filter(|key| !key.starts_with("results/")).collect())
        };
        let short = (0..4).map(|number| format!("line/short-{number}.csv"));
        let expected: Vec<_> = short.chain(["note.txt".to_owned()]).collect();
        until("the others are there", || Ok(there()? == expected))?;
        // One that asks for another time has it, and is modified by then.
        until("it waits, and has spent no try", || {
            let waiting = drive.json(&["hooks", "jobs", "--state", "waiting"])?;
            let job = waiting[0].clone();
            Ok(job["path"] == "later.csv" && job["tries"] == 0 && !job["error"].is_null())
        })?;
        std::fs::write(drive.path("later.csv"), "not now\nbut now\n")?;
        until("it is there", || Ok(there()?.contains(&"later.csv".to_owned())))?;
        until("its results are, too", || {
            Ok(store.get("results/later.csv.summary.txt")?.is_some())
        })?;
        let summary = store.get("results/later.csv.summary.txt")?.context("no summary")?;
        ensure!(
            summary == b"plant:later.csv 2 modified\n",
            "{}",
            String::from_utf8_lossy(&summary)
        );
        let summary = std::fs::read_to_string(drive.path("results/line/short-0.csv.summary.txt"))?;
        ensure!(summary == "plant:line/short-0.csv 2 created\n", "{summary}");
        let path = drive.path("line/short-0.csv").to_string_lossy().into_owned();
        let results = drive.json(&["hooks", "results", &path])?;
        ensure!(
            results[0]["fields"]["lines"] == 2 && results[0]["engine"] == "command",
            "{results}"
        );
        let hooks = drive.json(&["hooks", "list"])?;
        ensure!(hooks[0]["engine"] == "command", "{hooks}");
        let failed = drive.json(&["hooks", "jobs", "--state", "failed"])?;
        ensure!(
            failed[0]["error"].as_str().is_some_and(|why| why.contains("no header")),
            "{failed}"
        );
        ensure!(drive.json(&["status"])?["worker"].is_null(), "no worker is started for programs");
        if Uid::effective().is_root() {
            until("no mount is left", || {
                let mounts = std::fs::read_to_string("/proc/self/mounts")?;
                let state = std::fs::metadata(drive.state())?;
                let ours = std::os::unix::fs::MetadataExt::ino(&state).to_string();
                Ok(!mounts
                    .lines()
                    .any(|line| line.contains("/run/fsd-hooks-") && line.contains(&ours)))
            })?;
        }
        Ok(())
    })
}
