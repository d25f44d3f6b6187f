//! Large files go up in parts: what is finished is not sent again, whatever happens in between; of a changed file only what changed is.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fsd_tests::drive::Drive;
use fsd_tests::files::noise;
use fsd_tests::proxy::{Network, Proxy};
use fsd_tests::store::{Store, on_a_dir, on_azure, on_s3};
use fsd_tests::until;

const MIB: usize = 1 << 20;
/// The parts of a file that is not huge.
const PART: usize = 8 * MIB;
/// Heads of requests, and what is asked beside bodies.
const TALK_MAX: u64 = MIB as u64;

fn sent(drive: &Drive) -> Result<u64> {
    let queue = drive.json(&["queue"])?;
    Ok(queue["items"][0]["bytes_sent"].as_u64().unwrap_or(0))
}

/// What is noted of uploads and their parts is no mistake.
fn nothing_is_wrong(drive: &Drive) -> Result<()> {
    let checked = drive.run(&["check"])?;
    ensure!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
    Ok(())
}

/// Whole parts of the file that is uploaded, instead of eight: for figures.
const PARTS: &str = "FSD_TEST_PARTS";

/// Uploads a file of nine parts, and lets `interrupt` come in between.
fn goes_on_behind_the_last_part(
    store: &Store,
    interrupt: impl Fn(&mut Drive, &Proxy) -> Result<()>,
) -> Result<()> {
    let (proxy, variables) = store.behind_a_proxy()?;
    let parts = std::env::var(PARTS).map_or(Ok(8), |parts| parts.parse::<usize>())?;
    let drive = Drive::over(store)?.with_variables(variables);
    let mut drive = drive.with(&["--bwlimit-up", "16MiB/s"]).started()?;
    let body = noise(7, parts * PART + 12345);
    std::fs::write(drive.path("large"), &body)?;
    until("some parts are sent", || Ok(sent(&drive)? >= (parts * 3 / 8 * PART) as u64))?;
    ensure!(store.get("large")?.is_none(), "a part of a file is no object");
    let finished = sent(&drive)?;
    nothing_is_wrong(&drive)?;
    interrupt(&mut drive, &proxy)?;
    let before = proxy.bytes_up();
    proxy.set(Network::Up);
    drive.wait()?;
    let again = proxy.bytes_up() - before;
    let left = body.len() as u64 - finished;
    println!("{} bytes: {finished} were there before, {again} went up after", body.len());
    // At least three parts were finished; on a busy machine one may be cut and sent twice.
    ensure!(again <= left + PART as u64 + TALK_MAX, "{again} bytes went up, {left} were left");
    ensure!(store.get("large")?.as_ref() == Some(&body), "the object is not the file");
    nothing_is_wrong(&drive)
}

/// The power switch: nothing could be tidied up.
fn kill(drive: &mut Drive, proxy: &Proxy) -> Result<()> {
    proxy.set(Network::Refusing);
    drive.crash()
}

/// So long that connections, tries and probes are all over; and a start without a link in it.
fn long_offline(drive: &mut Drive, proxy: &Proxy) -> Result<()> {
    proxy.set(Network::Refusing);
    until("the link is seen to be down", || {
        Ok(drive.json(&["status"])?["mounts"][0]["link"]["state"] == "offline")
    })?;
    sleep(Duration::from_secs(5));
    drive.restart()?;
    sleep(Duration::from_secs(5));
    Ok(())
}

#[test]
fn after_a_crash_an_upload_to_s3_goes_on_behind_the_last_finished_part() -> Result<()> {
    on_s3(|store| goes_on_behind_the_last_part(store, kill))
}

#[test]
fn after_a_crash_an_upload_to_azure_goes_on_behind_the_last_finished_part() -> Result<()> {
    on_azure(|store| goes_on_behind_the_last_part(store, kill))
}

#[test]
fn after_an_outage_an_upload_to_s3_goes_on_behind_the_last_finished_part() -> Result<()> {
    on_s3(|store| goes_on_behind_the_last_part(store, long_offline))
}

#[test]
fn after_an_outage_an_upload_to_azure_goes_on_behind_the_last_finished_part() -> Result<()> {
    on_azure(|store| goes_on_behind_the_last_part(store, long_offline))
}

fn change(drive: &Drive, body: &mut [u8], at: usize, length: usize) -> Result<()> {
    let new = noise(at as u64, length);
    File::options().write(true).open(drive.path("large"))?.write_all_at(&new, at as u64)?;
    body[at..at + length].copy_from_slice(&new);
    Ok(())
}

/// A file of 100 MiB is changed in the middle, and grows; then only attributes change; then the daemon dies between two changes.
fn only_what_changed_goes_up(store: &Store) -> Result<()> {
    let (proxy, variables) = store.behind_a_proxy()?;
    let mut drive = Drive::over(store)?.with_variables(variables).started()?;
    let mut body = noise(3, 100 * MIB);
    std::fs::write(drive.path("large"), &body)?;
    drive.wait()?;
    let up = |drive: &Drive, what: &str, body: &[u8], parts: usize| -> Result<()> {
        let before = proxy.bytes_up();
        drive.wait()?;
        let sent = proxy.bytes_up() - before;
        let most = (parts * PART) as u64 + TALK_MAX;
        ensure!(sent <= most, "{what}: {sent} bytes went up, {most} would be too many");
        ensure!(store.get("large")?.as_deref() == Some(body), "{what}: the object is not the file");
        Ok(())
    };
    change(&drive, &mut body, 50 * MIB, MIB)?;
    up(&drive, "a MiB in the middle", &body, 1)?;
    change(&drive, &mut body, 16 * MIB - 10, 20)?;
    up(&drive, "over the border of two parts", &body, 2)?;

    let more = noise(9, MIB);
    File::options()
        .write(true)
        .open(drive.path("large"))?
        .write_all_at(&more, body.len() as u64)?;
    body.extend(more);
    up(&drive, "more at the end", &body, 1)?;

    let file = File::open(drive.path("large"))?;
    std::os::unix::fs::fchown(&file, Some(1), Some(1))?;
    up(&drive, "another owner", &body, 0)?;
    drive.crash()?;
    change(&drive, &mut body, 70 * MIB, 3)?;
    up(&drive, "after a crash", &body, 1)
}

#[test]
fn of_a_changed_file_only_the_changed_parts_go_up_to_s3() -> Result<()> {
    on_s3(only_what_changed_goes_up)
}

#[test]
fn of_a_changed_file_only_the_changed_parts_go_up_to_azure() -> Result<()> {
    on_azure(only_what_changed_goes_up)
}

#[test]
fn a_changed_file_in_a_directory_is_made_of_what_was_there() -> Result<()> {
    on_a_dir(|store| {
        let drive = Drive::mounted(store)?;
        let mut body = noise(3, 40 * MIB);
        std::fs::write(drive.path("large"), &body)?;
        drive.wait()?;
        change(&drive, &mut body, 20 * MIB, MIB)?;
        drive.wait()?;
        ensure!(store.get("large")?.as_ref() == Some(&body), "the object is not the file");
        Ok(())
    })
}

/// What nobody has read of a large file need not come down to go up again.
#[test]
fn of_a_file_that_is_mostly_not_here_only_the_changed_parts_move() -> Result<()> {
    on_s3(|store| {
        let (proxy, variables) = store.behind_a_proxy()?;
        let mut body = noise(5, 100 * MIB);
        store.put("large", &body)?;
        let mut drive = Drive::over(store)?.with_variables(variables).started()?;
        ensure!(drive.path("large").metadata()?.len() == body.len() as u64, "it is there");
        let (up, down) = (proxy.bytes_up(), proxy.bytes_down());
        change(&drive, &mut body, 50 * MIB + 77, MIB)?;
        drive.wait()?;
        let (up, down) = (proxy.bytes_up() - up, proxy.bytes_down() - down);
        ensure!(up <= (PART as u64) + TALK_MAX, "{up} bytes went up");
        ensure!(down <= 2 * (PART as u64) + TALK_MAX, "{down} bytes came down");
        ensure!(store.get("large")?.as_ref() == Some(&body), "the object is not the file");
        ensure!(std::fs::read(drive.path("large"))? == body, "the file is not what it was");
        drive.restart()?;
        ensure!(std::fs::read(drive.path("large"))? == body, "the file is not what it was");
        Ok(())
    })
}

/// Somebody else replaces a file while parts of ours were to come from it.
#[test]
fn a_changed_file_whose_rest_is_gone_is_kept_and_named_so() -> Result<()> {
    on_s3(|store| {
        let body = noise(6, 40 * MIB);
        store.put("large", &body)?;
        let (proxy, variables) = store.behind_a_proxy()?;
        let mut drive = Drive::over(store)?.with_variables(variables).started()?;
        ensure!(drive.path("large").metadata()?.len() == body.len() as u64, "it is there");
        let mut changed = body.clone();
        let file = File::options().write(true).open(drive.path("large"))?;
        change(&drive, &mut changed, 20 * MIB, MIB)?;
        proxy.set(Network::Refusing);
        drop(file);
        store.put("large", b"theirs")?;
        drive.crash()?;
        proxy.set(Network::Up);
        drive.wait()?;
        until("theirs is seen", || Ok(std::fs::read(drive.path("large"))? == b"theirs"))?;
        let kept = store.files()?.into_iter().find(|(name, _)| name.contains("(incomplete "));
        let (_, kept) = kept.ok_or_else(|| anyhow::anyhow!("{:?}", store.keys()))?;
        ensure!(kept.len() == changed.len(), "{} bytes are kept", kept.len());
        let mine = 20 * MIB..21 * MIB;
        ensure!(kept[mine.clone()] == changed[mine], "what was written here is kept");
        Ok(())
    })
}

#[test]
fn an_upload_that_nobody_will_complete_is_given_up_and_others_are_let_be() -> Result<()> {
    on_s3(|store| {
        let server = store.server().context("a server")?;
        let mut drive = Drive::over(store)?.with(&["--bwlimit-up", "16MiB/s"]).started()?;
        std::fs::write(drive.path("large"), noise(7, 8 * PART))?;
        until("a part is sent", || Ok(sent(&drive)? >= PART as u64))?;
        for key in ["large", "other"] {
            server.begin_upload(key);
        }
        std::fs::remove_file(drive.path("large"))?;
        drive.wait()?;
        drive.restart()?;
        until("ours is given up", || Ok(server.uploads().len() == 2))?;
        std::fs::write(drive.path("large"), noise(8, 2 * PART))?;
        drive.wait()?;
        let mut left = server.uploads();
        left.sort();
        ensure!(left == ["large", "other"], "{left:?}");
        Ok(())
    })
}
