//! A gateway is lost with its cache: what the cloud knows comes back, and what it does not is told.

use std::fs::{File, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, lchown, symlink};
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use fsd_tests::drive::Drive;
use fsd_tests::files::{noise, shell};
use fsd_tests::proxy::Network;
use fsd_tests::store::{Store, on_azure, on_s3};
use fsd_tests::until;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::Value;

const REPORTS: &str = ".fsd/gateways/";

/// A tree with all that POSIX knows.
fn fill(drive: &Drive) -> Result<()> {
    std::fs::create_dir_all(drive.path("scans/deep/er"))?;
    std::fs::set_permissions(drive.path("scans"), Permissions::from_mode(0o2750))?;
    std::fs::write(drive.path("scans/deep/a.dcm"), noise(1, 50_000))?;
    std::fs::set_permissions(drive.path("scans/deep/a.dcm"), Permissions::from_mode(0o640))?;
    lchown(drive.path("scans/deep/a.dcm"), Some(1234), Some(2345))?;
    xattr::set(drive.path("scans/deep/a.dcm"), "user.patient", b"7")?;
    std::fs::write(drive.path("scans/once"), b"two names")?;
    std::fs::hard_link(drive.path("scans/once"), drive.path("scans/deep/er/twice"))?;
    shell(&drive.mount(), "setfacl -m u:1000:rwx,d:g:33:rx scans/deep/er")?;
    symlink("../once", drive.path("scans/deep/link"))?;
    mkfifo(&drive.path("pipe"), Mode::from_bits_truncate(0o640))?;
    let past = SystemTime::UNIX_EPOCH + Duration::new(1_500_000_000, 123_456_789);
    File::options().write(true).open(drive.path("scans/once"))?.set_modified(past)?;
    Ok(())
}

/// Looks at the tree, without bytes of files.
fn check(drive: &Drive) -> Result<()> {
    let of = |name: &str| drive.path(name).symlink_metadata().context(name.to_owned());
    let dcm = of("scans/deep/a.dcm")?;
    ensure!((dcm.mode() & 0o7777, dcm.uid(), dcm.gid()) == (0o640, 1234, 2345), "{dcm:?}");
    ensure!(dcm.len() == 50_000 && of("scans")?.mode() & 0o7777 == 0o2750);
    let value = xattr::get(drive.path("scans/deep/a.dcm"), "user.patient")?;
    ensure!(value.as_deref() == Some(b"7"), "{value:?}");
    let (once, twice) = (of("scans/once")?, of("scans/deep/er/twice")?);
    ensure!(once.ino() == twice.ino() && once.nlink() == 2, "one file: {once:?} {twice:?}");
    ensure!((once.mtime(), once.mtime_nsec()) == (1_500_000_000, 123_456_789), "{once:?}");
    ensure!(drive.path("scans/deep/link").read_link()?.to_str() == Some("../once"));
    let lists = shell(&drive.mount(), "getfacl -cnp scans/deep/er")?;
    ensure!(lists.contains("user:1000:rwx") && lists.contains("default:group:33:r-x"), "{lists}");
    let pipe = of("pipe")?.mode();
    ensure!(pipe & 0o170_000 == 0o010_000 && pipe & 0o777 == 0o640, "{pipe:o}");
    Ok(())
}

fn report_of(store: &Store) -> Result<Option<Value>> {
    let keys = store.reserved_keys()?;
    let Some(key) = keys.iter().find(|key| key.starts_with(REPORTS)) else { return Ok(None) };
    Ok(store.get(key)?.and_then(|body| serde_json::from_slice(&body).ok()))
}

fn a_lost_gateway(store: &Store) -> Result<()> {
    let mut lost = Drive::mounted(store)?;
    fill(&lost)?;
    lost.wait()?;
    ensure!(lost.terminate()?.success(), "{}", lost.log());
    lost.set_options(&["--bwlimit-up", "20KiB/s"]);
    lost.start()?;
    std::fs::write(lost.path("scans/never arrived"), noise(2, 4 << 20))?;
    until("it is told what is not uploaded", || {
        let report = report_of(store)?;
        Ok(report.is_some_and(|report| report["dirty"][0]["path"] == "scans/never arrived"))
    })?;
    ensure!(!lost.path(".fsd").exists(), "nobody sees what is told");
    let names = lost.mount().read_dir()?.map(|entry| Ok(entry?.file_name()));
    let names = names.collect::<Result<Vec<_>>>()?;
    ensure!(names.len() == 2, "{names:?}");
    ensure!(std::fs::create_dir(lost.path(".fsd")).is_err(), "it is reserved");
    lost.kill()?;

    let (proxy, variables) = store.behind_a_proxy()?;
    let drive = Drive::over(store)?.with_variables(variables).started()?;
    let recovered = drive.json(&["recover", &drive.mount().to_string_lossy()])?;
    let work = &recovered["work"];
    ensure!(work["problems"] == 0 && work["over"] == true, "{recovered:#}");
    let [told] = recovered["gateways"].as_array().context("a list")?.as_slice() else {
        anyhow::bail!("{recovered:#}")
    };
    ensure!(told["this"] == false && told["items"] == 1 && told["stopped"] == false, "{told:#}");
    let file = &told["dirty"][0];
    ensure!(file["path"] == "scans/never arrived" && file["arrived"] == false, "{told:#}");
    ensure!(file["bytes"] == 4 << 20 && told["age_seconds"].as_u64() < Some(600), "{told:#}");
    proxy.set(Network::Refusing);
    // The kernel knows nothing yet: all of this comes from what was learned.
    check(&drive)?;
    let said = drive.run(&["recover", "--reports"])?;
    ensure!(!said.status.success(), "reports are in the store: {said:?}");
    proxy.set(Network::Up);
    until("it is told in words", || {
        let text = String::from_utf8(drive.run(&["recover"])?.stdout)?;
        Ok(text.contains("scans/never arrived  4.0 MiB") && text.contains(" ago"))
    })?;
    Ok(())
}

#[test]
fn what_the_cloud_knows_comes_back_and_what_it_does_not_is_told() -> Result<()> {
    on_s3(a_lost_gateway)?;
    on_azure(a_lost_gateway)
}

#[test]
fn what_was_on_its_way_and_has_arrived_is_told_so() -> Result<()> {
    on_s3(|store| {
        let mut drive = Drive::over(store)?.with(&["--bwlimit-up", "100KiB/s"]).started()?;
        std::fs::write(drive.path("file"), noise(1, 1 << 20))?;
        until("it is told", || Ok(report_of(store)?.is_some()))?;
        drive.wait()?;
        drive.kill()?;
        let drive = Drive::mounted(store)?;
        let told = &drive.json(&["recover"])?["gateways"][0];
        ensure!(told["dirty"][0]["arrived"] == true, "{told:#}");
        Ok(())
    })
}

#[test]
fn a_clean_stop_tells_what_was_left() -> Result<()> {
    on_s3(|store| {
        let mut drive = Drive::over(store)?.with(&["--bwlimit-up", "20KiB/s"]).started()?;
        std::fs::write(drive.path("file"), noise(1, 1 << 20))?;
        ensure!(drive.terminate()?.success(), "{}", drive.log());
        let report = report_of(store)?.context("it is told")?;
        ensure!(report["stopped"] == true && report["dirty"][0]["path"] == "file", "{report:#}");
        drive.set_options(&[]);
        drive.start()?;
        drive.wait()?;
        ensure!(drive.terminate()?.success(), "{}", drive.log());
        let report = report_of(store)?.context("it is told")?;
        ensure!(report["items"] == 0 && report["dirty"] == serde_json::json!([]), "{report:#}");
        Ok(())
    })
}

#[test]
fn what_was_never_dirty_for_long_is_not_heard_of() -> Result<()> {
    on_s3(|store| {
        let mut drive = Drive::mounted(store)?;
        std::fs::write(drive.path("file"), b"small")?;
        drive.wait()?;
        ensure!(drive.terminate()?.success(), "{}", drive.log());
        let report = report_of(store)?;
        ensure!(report.is_none(), "{report:?}");
        Ok(())
    })
}

#[test]
fn a_recovery_that_dies_goes_on_where_it_was() -> Result<()> {
    const FILES: u32 = 600;
    on_s3(|store| {
        for n in 0..FILES {
            store.put(&format!("d{}/f{n}", n % 6), &noise(u64::from(n), 10))?;
        }
        let mut drive = Drive::over(store)?.with(&["--bwlimit-down", "64KiB/s"]).started()?;
        let mut command = drive.command()?;
        let command = command.arg("recover").arg(drive.mount());
        let mut process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        until("half of it is known", || {
            let done = drive.json(&["status"])?["work"][0]["files_done"].as_u64();
            Ok(done > Some(u64::from(FILES / 2)))
        })?;
        drive.kill()?;
        process.wait()?;
        let before = store.requests().context("they are counted")?;
        drive.set_options(&[]);
        drive.start()?;
        let work = &drive.json(&["recover"])?["work"];
        ensure!(work["problems"] == 0, "{work:#}");
        let asked = store.requests().context("they are counted")? - before;
        ensure!(asked < FILES * 3 / 4, "what is known is asked for again: {asked}");
        let before = store.requests();
        drive.json(&["recover"])?;
        let again = store.requests().zip(before).map(|(now, before)| now - before);
        ensure!(again < Some(20), "all is known: {again:?}");
        Ok(())
    })
}
