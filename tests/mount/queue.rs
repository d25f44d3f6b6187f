//! What waits, and how an operator steers it.

use anyhow::{Context as _, Result, ensure};
use fsd::types::Sha256;
use fsd_tests::drive::Drive;
use fsd_tests::store::{Store, on_a_dir, on_each_store};
use fsd_tests::until;
use serde_json::Value;

fn paths(queue: &Value) -> Vec<String> {
    let items = queue["items"].as_array().cloned().unwrap_or_default();
    items.iter().filter_map(|item| Some(item["path"].as_str()?.to_owned())).collect()
}

fn drive_with(store: &Store, more: &str) -> Result<Drive> {
    Drive::configured(&format!(
        "state_dir = \"STATE\"\n[[share]]\nname = \"s\"\nmount = \"MOUNT\"\nurl = \"{}\"\n{more}\n",
        store.url()
    ))?
    .started()
}

#[test]
fn what_is_cancelled_is_held_back_over_changes_and_restarts_until_it_is_retried() -> Result<()> {
    on_each_store(|store| {
        let mut drive = Drive::mounted(store)?;
        drive.json(&["queue", "pause"])?;
        std::fs::create_dir(drive.path("dir"))?;
        for name in ["dir/a", "dir/b", "c"] {
            std::fs::write(drive.path(name), name)?;
        }
        let (dir, file) = (drive.path("dir"), drive.path("dir/a"));
        let (dir, file) = (dir.to_str().context("UTF-8")?, file.to_str().context("UTF-8")?);
        drive.json(&["queue", "cancel", dir])?;
        drive.json(&["queue", "resume"])?;
        until("the other one is there", || Ok(store.files()?.contains_key("c")))?;
        std::fs::write(drive.path("dir/a"), "changed since")?;
        drive.crash()?;
        let queue = drive.json(&["queue"])?;
        ensure!(queue["totals"]["cancelled"] == 3, "{queue:#}");
        ensure!(store.files()?.len() == 1, "{:?}", store.files()?.keys());
        let explained = drive.json(&["explain", file])?;
        ensure!(explained["queue"]["state"] == "cancelled", "{explained:#}");
        ensure!(explained["bytes_are"] == "here only", "{explained:#}");
        ensure!(
            explained["next"].as_str().is_some_and(|next| next.contains("retry")),
            "{explained:#}"
        );
        let waited = drive.run(&["wait", "--timeout", "5s"])?;
        ensure!(waited.status.code() == Some(7), "waiting does not help: {waited:?}");
        drive.json(&["queue", "retry", file])?;
        until("that one is there", || Ok(store.files()?.contains_key("dir/a")))?;
        ensure!(!store.files()?.contains_key("dir/b"), "only that one");
        drive.json(&["queue", "retry", "--all"])?;
        drive.wait()?;
        ensure!(store.get("dir/a")?.as_deref() == Some(b"changed since"), "its last version");
        ensure!(store.files()?.len() == 3, "all");
        Ok(())
    })
}

#[test]
fn small_files_go_before_large_ones_and_what_is_put_first_before_all() -> Result<()> {
    on_a_dir(|store| {
        let drive = drive_with(store, "")?;
        drive.json(&["queue", "pause"])?;
        for (name, bytes) in
            [("large", 40 << 20), ("middle", 4 << 20), ("small", 10), ("last", 90 << 20)]
        {
            std::fs::write(drive.path(name), vec![7; bytes])?;
        }
        let shown = paths(&drive.json(&["queue"])?);
        ensure!(shown == ["small", "middle", "large", "last"], "{shown:?}");
        for name in ["large", "last"] {
            let path = drive.path(name);
            drive.json(&["queue", "first", path.to_str().context("UTF-8")?])?;
        }
        let shown = paths(&drive.json(&["queue"])?);
        ensure!(shown == ["last", "large", "small", "middle"], "{shown:?}");
        drive.json(&["queue", "resume"])?;
        drive.wait()
    })
}

#[test]
fn what_waits_too_long_is_said_aloud() -> Result<()> {
    on_a_dir(|store| {
        let drive = drive_with(store, "upload_max = \"off\"\nalert_after = \"1s\"")?;
        std::fs::write(drive.path("a"), "a")?;
        until(
            "it is late",
            || Ok(drive.json(&["status"])?["mounts"][0]["late_since"].is_string()),
        )?;
        ensure!(drive.log().contains("waits for longer than `alert_after`"), "{}", drive.log());
        let status = drive.run(&["status"])?;
        let said = String::from_utf8_lossy(&status.stdout).into_owned();
        ensure!(said.contains("LATE"), "{said}");
        Ok(())
    })
}

#[test]
fn one_file_that_can_not_go_up_is_parked_with_a_code_and_the_others_go_on() -> Result<()> {
    on_a_dir(|store| {
        let drive = Drive::mounted(store)?;
        let mut deep = drive.mount();
        for _ in 0..11 {
            deep.push("d".repeat(100));
            std::fs::create_dir(&deep)?;
        }
        std::fs::write(deep.join("file"), "stays here")?;
        std::fs::write(drive.path("other"), "goes up")?;
        until("it is parked", || Ok(drive.json(&["queue"])?["totals"]["parked"] == 2))?;
        until("the other goes up", || Ok(store.files()?.contains_key("other")))?;
        let file = deep.join("file");
        let file = file.to_str().context("UTF-8")?;
        let explained = drive.json(&["explain", file])?;
        let item = &explained["queue"];
        ensure!(item["code"] == "path-too-long" && item["state"] == "parked", "{explained:#}");
        ensure!(
            item["remedy"].as_str().is_some_and(|text| text.contains("shorter")),
            "{explained:#}"
        );
        ensure!(
            explained["next"].as_str().is_some_and(|next| next.contains("shorter")),
            "{explained:#}"
        );
        Ok(())
    })
}

#[test]
fn what_went_up_has_a_receipt_though_the_daemon_dies() -> Result<()> {
    on_each_store(|store| {
        let mut drive = Drive::mounted(store)?;
        for round in 0..3 {
            for number in 0..20 {
                std::fs::write(drive.path(&format!("{round}-{number}")), vec![b'x'; number + 1])?;
            }
            until("some are there", || Ok(store.files()?.len() > round * 20 + 5))?;
            drive.crash()?;
        }
        drive.wait()?;
        std::fs::write(drive.path("0-0"), "again")?;
        drive.wait()?;
        let printed = drive.run(&["receipts"])?;
        ensure!(printed.status.success(), "{printed:?}");
        let lines = String::from_utf8(printed.stdout)?;
        let receipts: Vec<Value> =
            lines.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        let mut seqs: Vec<i64> = receipts.iter().filter_map(|r| r["seq"].as_i64()).collect();
        seqs.dedup();
        ensure!(seqs.len() == receipts.len() && seqs.is_sorted(), "{seqs:?}");
        for (key, body) in store.files()? {
            let last = receipts.iter().rev().find(|receipt| receipt["key"] == *key);
            let last = last.with_context(|| format!("no receipt for {key}"))?;
            ensure!(last["size"] == body.len() && last["path"] == *key, "{last:#}");
            ensure!(last["sha256"] == Sha256::of(&body).to_string(), "{last:#}");
        }
        let path = drive.path("0-0");
        let of_one = drive.run(&["receipts", path.to_str().context("UTF-8")?])?;
        ensure!(String::from_utf8(of_one.stdout)?.lines().count() >= 2, "both versions");
        let future = drive.run(&["receipts", "--since", "2100-01-01T00:00:00Z"])?;
        ensure!(future.status.success() && future.stdout.is_empty(), "{future:?}");
        Ok(())
    })
}
