//! Refresh and recovery of many objects: figures, not laws. `cargo nextest run -p fsd-tests --test mount scale --run-ignored only --no-capture`

use anyhow::{Context as _, Result, ensure};
use fsd::clock::{Clock as _, SystemClock};
use fsd_tests::drive::Drive;
use fsd_tests::store::on_s3;

const DIRS: usize = 100;
const FILES: usize = 500;

fn resident_mib(drive: &Drive) -> Result<u64> {
    let status = drive.json(&["status"])?;
    Ok(status["memory"]["bytes_resident"].as_u64().context("it is told")? >> 20)
}

#[test]
#[ignore = "takes minutes, and shows figures only"]
fn fifty_thousand_objects() -> Result<()> {
    on_s3(|store| {
        for n in 0..DIRS * FILES {
            store.put(&format!("d{}/file-{n}", n % DIRS), format!("{n}").as_bytes())?;
        }
        let drive = Drive::over(store)?.with(&["--refresh-after", "10h"]).started()?;
        let clock = SystemClock::new();
        let timed = |what: &str, arguments: &[&str]| -> Result<serde_json::Value> {
            let (before, requests) = (clock.monotonic(), store.requests().unwrap_or(0));
            let said = drive.json(arguments)?;
            let took = clock.monotonic().saturating_sub(before);
            let requests = store.requests().unwrap_or(0) - requests;
            println!(
                "{what}: {took:.1?}, {requests} requests, {} MiB resident",
                resident_mib(&drive)?
            );
            Ok(said)
        };
        println!("at the start: {} MiB resident", resident_mib(&drive)?);
        let recovered = timed("recover", &["recover"])?;
        ensure!(recovered["work"]["problems"] == 0, "{recovered:#}");
        let added = recovered["work"]["changes"]["added"].as_u64();
        // The root may have been listed already.
        ensure!(added >= Some((DIRS * FILES) as u64), "{recovered:#}");
        timed("recover again", &["recover"])?;
        timed("refresh, nothing new", &["refresh"])?;
        for n in 0..DIRS * 10 {
            store.put(&format!("d{}/file-{n}", n % DIRS), b"changed")?;
            store.delete(&format!("d{}/file-{}", n % DIRS, n + DIRS * 100))?;
            store.put(&format!("d{}/new-{n}", n % DIRS), b"new")?;
        }
        let refreshed = timed("refresh, of 1,000 each new, changed, gone", &["refresh"])?;
        let expected = serde_json::json!({ "added": 1000, "changed": 1000, "gone": 1000 });
        ensure!(refreshed["changes"] == expected, "{refreshed:#}");
        let checked = timed("check", &["check"])?;
        ensure!(checked["found"] == 0, "{checked:#}");
        Ok(())
    })
}
