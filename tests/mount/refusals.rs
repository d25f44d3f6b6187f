//! What can't work says so, and harms nothing.

use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use fsd_tests::drive::Drive;
use fsd_tests::files::{noise, same, shell, tree};
use fsd_tests::servers::Variables;
use fsd_tests::store::{Store, on_a_dir, on_azure, on_s3};
use fsd_tests::until;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// Why `drive` does not start.
fn refusal(mut drive: Drive) -> Result<String> {
    match drive.start() {
        Ok(()) => anyhow::bail!("it starts"),
        Err(why) => Ok(format!("{why:#}")),
    }
}

fn says(what: &str, said: &str, words: &[&str]) -> Result<()> {
    let missing: Vec<_> = words.iter().filter(|word| !said.contains(**word)).collect();
    ensure!(missing.is_empty(), "{what}: no {missing:?} in: {said}");
    Ok(())
}

#[test]
fn a_state_directory_belongs_to_one_daemon() -> Result<()> {
    on_a_dir(|store| {
        let drive = Drive::mounted(store)?;
        let (other, state) = (Drive::over(store)?, drive.state());
        let mut command = other.command()?;
        command.args(["mount", store.url()]).arg(other.mount()).arg("--cache-dir").arg(&state);
        let output = command.output()?;
        ensure!(!output.status.success(), "{output:?}");
        says("a second daemon", &String::from_utf8_lossy(&output.stderr), &["another fsd"])?;
        std::fs::write(drive.path("f"), b"goes on")?;
        drive.wait()
    })
}

#[test]
fn a_state_directory_is_not_on_a_drive_of_ours() -> Result<()> {
    on_a_dir(|store| {
        let (drive, other) = (Drive::mounted(store)?, Drive::over(store)?);
        std::fs::create_dir(drive.path("deep"))?;
        symlink(drive.path("deep"), other.state().join("link"))?;
        for state in [drive.path("deep/not/there"), drive.mount(), other.state().join("link/new")] {
            let mut command = other.command()?;
            command.args(["mount", store.url()]).arg(other.mount()).arg("--cache-dir").arg(&state);
            let output = command.output()?;
            ensure!(!output.status.success(), "{output:?}");
            let said = String::from_utf8_lossy(&output.stderr);
            says(&state.to_string_lossy(), &said, &["which is a drive of fsd", "--cache-dir"])?;
        }
        ensure!(drive.path("deep").read_dir()?.next().is_none(), "nothing is made there");
        Ok(())
    })
}

#[test]
fn a_place_to_mount_must_be_free() -> Result<()> {
    on_a_dir(|store| {
        let drive = Drive::over(store)?;
        std::fs::remove_dir(drive.mount())?;
        says("missing", &refusal(drive)?, &["does not exist", "mkdir -p"])?;

        let drive = Drive::over(store)?;
        std::fs::remove_dir(drive.mount())?;
        std::fs::write(drive.mount(), b"a file")?;
        says("a file", &refusal(drive)?, &["not a directory"])?;

        let (first, second) = (Drive::mounted(store)?, Drive::over(store)?);
        let mut command = second.command()?;
        command.args(["mount", store.url()]).arg(first.mount());
        let output = command.arg("--cache-dir").arg(second.state()).output()?;
        ensure!(!output.status.success(), "{output:?}");
        says("in use", &String::from_utf8_lossy(&output.stderr), &["something is mounted there"])?;
        ensure!(first.is_mounted()?, "the first mount is untouched");

        let mut dead = Drive::mounted(store)?;
        std::fs::write(dead.path("f"), b"x")?;
        dead.kill()?;
        ensure!(dead.is_mounted().is_err(), "a dead mount answers nothing");
        dead.start()?;
        ensure!(std::fs::read(dead.path("f"))? == b"x", "a dead mount is taken over");
        Ok(())
    })
}

fn with(store: &Store, name: &str, change: impl Fn(&str) -> String) -> Variables {
    let mut variables = store.variables();
    for (key, value) in &mut variables {
        if key == name {
            *value = change(value);
        }
    }
    variables
}

fn wrong_store(url: &str, variables: Variables, words: &[&str]) -> Result<()> {
    let output = Drive::configured("")?.with_variables(variables);
    let state = output.state();
    let mut command = output.command()?;
    command.args(["mount", url]).arg(output.mount()).arg("--cache-dir").arg(state);
    let said = command.output()?;
    ensure!(!said.status.success(), "{said:?}");
    says(url, &String::from_utf8_lossy(&said.stderr), words)
}

#[test]
fn wrong_credentials_and_missing_buckets_are_told_at_once() -> Result<()> {
    on_s3(|store| {
        let wrong = with(store, "AWS_SECRET_ACCESS_KEY", |_| "wrong".to_owned());
        wrong_store(store.url(), wrong, &["check the account, the key"])?;
        wrong_store("s3://not-there", store.variables(), &["make it first"])
    })?;
    on_azure(|store| {
        let wrong = |text: &str| text.replace("Eby8", "Eby9");
        let wrong = with(store, "AZURE_STORAGE_CONNECTION_STRING", wrong);
        wrong_store(store.url(), wrong, &["check the account, the key"])?;
        wrong_store("az://not-there", store.variables(), &["make it first"])
    })?;
    on_a_dir(|_| wrong_store("file:///not/there", Variables::new(), &["make it first"]))
}

#[test]
fn a_store_that_begins_to_refuse_loses_nothing() -> Result<()> {
    on_s3(|store| {
        let mut drive = Drive::over(store)?.with(&["--bwlimit-up", "off"]).started()?;
        std::fs::write(drive.path("f"), b"x")?;
        ensure!(drive.mount().read_dir()?.count() == 1, "its names are known");
        ensure!(drive.terminate()?.success(), "{}", drive.log());
        let wrong = with(store, "AWS_SECRET_ACCESS_KEY", |_| "wrong".to_owned());
        let mut drive = drive.with_variables(wrong).with(&[]).started()?;
        ensure!(std::fs::read(drive.path("f"))? == b"x", "what is here can be read");
        std::fs::write(drive.path("g"), b"y")?;
        until("the refusal is shown", || {
            Ok(drive.json(&["status"])?["mounts"][0]["link"]["state"] == "denied")
        })?;
        let status = drive.json(&["status"])?;
        ensure!(status["queue"]["parked"] == 0, "{status:#}");
        ensure!(drive.terminate()?.success(), "{}", drive.log());
        let drive = drive.with_variables(store.variables()).started()?;
        drive.wait()?;
        same("the store", &store.files()?, &tree(&drive.mount())?)
    })
}

/// A disk of its own below the state directory `place`, if there can be one.
fn disk_at(place: &Path) -> Option<Disk<'_>> {
    let disk = Disk::at(place, "48m");
    disk.inspect_err(|why| println!("SKIP: no disk of its own: {why}")).ok()
}

/// A disk of its own below a state directory, gone when dropped.
struct Disk<'a>(&'a Path);

impl<'a> Disk<'a> {
    fn at(place: &'a Path, size: &str) -> Result<Self> {
        let data = format!("size={size}");
        mount(Some("tmpfs"), place, Some("tmpfs"), MsFlags::empty(), Some(data.as_str()))?;
        Ok(Self(place))
    }

    fn set_read_only(&self, read_only: bool) -> Result<()> {
        let mut flags = MsFlags::MS_REMOUNT;
        flags.set(MsFlags::MS_RDONLY, read_only);
        Ok(mount(None::<&str>, self.0, None::<&str>, flags, None::<&str>)?)
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        // Nothing that happens here tells anything about the test.
        let _ = umount2(self.0, MntFlags::MNT_DETACH);
    }
}

#[test]
fn a_full_cache_disk_is_told_to_the_writer_and_passes() -> Result<()> {
    on_a_dir(|store| {
        let text = format!(
            "state_dir = \"STATE\"\n[cache]\nfree_min = \"0B\"\n[upload]\ndefault = \"off\"\n\
             [[share]]\nname = \"a\"\nmount = \"MOUNT\"\nurl = \"{}\"\n",
            store.url()
        );
        let drive = Drive::configured(&text)?;
        let state = drive.state();
        let Some(disk) = disk_at(&state) else { return Ok(()) };
        let mut drive = drive.started()?;
        std::fs::write(drive.path("small"), noise(1, 1000))?;
        let mut full = None;
        for n in 0..60 {
            if let Err(error) = std::fs::write(drive.path(&format!("f{n}")), noise(n, 1 << 20)) {
                full = error.raw_os_error();
                break;
            }
        }
        ensure!(full == Some(libc::ENOSPC), "{full:?}");
        ensure!(std::fs::read(drive.path("small"))? == noise(1, 1000), "it can be read");
        for n in 0..4 {
            std::fs::remove_file(drive.path(&format!("f{n}"))).context("delete on a full disk")?;
        }
        std::fs::write(drive.path("again"), noise(9, 1 << 20)).context("write after that")?;
        drive.crash()?;
        ensure!(std::fs::read(drive.path("again"))? == noise(9, 1 << 20), "after a crash");
        // Detached first: what is mounted in the drive's folder would keep it from being removed.
        drop(disk);
        drop(drive);
        Ok(())
    })
}

#[test]
fn a_read_only_cache_disk_is_told_at_the_start() -> Result<()> {
    on_a_dir(|store| {
        let mut drive = Drive::over(store)?;
        let state = drive.state();
        let Some(disk) = disk_at(&state) else { return Ok(()) };
        disk.set_read_only(true)?;
        let started = drive.start();
        drop(disk);
        let said = started.err().map(|why| format!("{why:#}")).unwrap_or_default();
        says("read-only", &said, &["Read-only file system", "--cache-dir"])
    })
}

#[test]
fn what_is_no_object_stays_in_its_place_and_is_told() -> Result<()> {
    on_a_dir(|store| {
        let place = store.folder().context("it has a directory")?;
        symlink("/etc/passwd", place.join("link"))?;
        let drive = Drive::mounted(store)?;
        std::fs::write(drive.path("link"), b"ours")?;
        until("its item says why it waits", || {
            let queue = drive.json(&["queue"])?;
            let error = queue["items"][0]["error"].as_str().unwrap_or_default().to_owned();
            Ok(error.contains("something else stands"))
        })?;
        ensure!(place.join("link").is_symlink(), "the link is as it was");
        std::fs::remove_file(place.join("link"))?;
        drive.wait()?;
        ensure!(std::fs::read(place.join("link"))? == b"ours", "then it goes up");
        Ok(())
    })
}

#[test]
fn a_broken_configuration_is_told_with_its_place() -> Result<()> {
    on_a_dir(|_| {
        let refused = |text: &str| refusal(Drive::configured(text)?);
        says("no TOML", &refused("state_dir = ")?, &["exit status: 3"])?;
        says("no share", &refused("state_dir = \"STATE\"\n")?, &["share", "exit status: 3"])?;
        let unknown = refused(
            "stat_dir = \"STATE\"\n[[share]]\nname = \"a\"\nmount = \"MOUNT\"\nlocal = true\n",
        )?;
        says("an unknown key", &unknown, &["stat_dir", "exit status: 3"])?;
        let small = refused(
            "state_dir = \"STATE\"\n[cache]\ndisk_max = \"4KiB\"\n\
             [[share]]\nname = \"a\"\nmount = \"MOUNT\"\nlocal = true\n",
        )?;
        says("a small cache", &small, &["disk_max", "4KiB", "64"])?;
        let moved = refused(
            "state_dir = \"STATE\"\n[[share]]\nname = \"a\"\nmount = \"MOUNT\"\nurl = \"ftp://x\"\n",
        )?;
        says("no store", &moved, &["url", "ftp"])
    })
}

#[test]
fn a_share_keeps_its_store() -> Result<()> {
    on_a_dir(|store| {
        let mut drive = Drive::over(store)?.with(&["--bwlimit-up", "off"]).started()?;
        std::fs::write(drive.path("f"), b"belongs there")?;
        ensure!(drive.terminate()?.success(), "{}", drive.log());
        let elsewhere = tempfile::TempDir::new()?;
        let name = Path::new(store.url()).file_name().map(|name| name.to_owned());
        let other = elsewhere.path().join(name.unwrap_or_default());
        std::fs::create_dir(&other)?;
        let mut command = drive.command()?;
        command.arg("mount").arg(format!("file://{}", other.display())).arg(drive.mount());
        let output = command.arg("--cache-dir").arg(drive.state()).output()?;
        ensure!(!output.status.success(), "{output:?}");
        says("another store", &String::from_utf8_lossy(&output.stderr), &["belongs there"])?;
        ensure!(shell(&other, "ls")?.is_empty(), "nothing goes to the wrong place");
        Ok(())
    })
}
