//! How a mount begins and ends.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use fsd_tests::drive::{Drive, can_mount, program};
use fsd_tests::files::{content, run, same, shell, tree};
use fsd_tests::store::{on_a_dir, on_each_store, on_s3};
use fsd_tests::until;

fn write(drive: &Drive, count: u32) -> Result<()> {
    for n in 0..count {
        let name = format!("f{n}");
        std::fs::write(drive.path(&name), content(&name, 1, 10_000))?;
    }
    Ok(())
}

#[test]
fn a_daemon_ends_cleanly_when_asked_and_goes_on_where_it_was() -> Result<()> {
    on_a_dir(|store| {
        let mut drive = Drive::mounted(store)?;
        write(&drive, 20)?;
        let status = drive.terminate()?;
        ensure!(status.success() && !drive.is_mounted()?, "SIGTERM: {status}: {}", drive.log());
        drive.start()?;
        ensure!(!drive.log().contains("did not stop cleanly"), "{}", drive.log());
        shell(Path::new("/"), &format!("umount {}", drive.mount().display()))?;
        ensure!(drive.ended()?.success() && !drive.is_mounted()?, "umount: {}", drive.log());
        drive.start()?;
        let held = File::open(drive.path("f0"))?;
        let status = drive.terminate()?;
        ensure!(status.success() && !drive.is_mounted()?, "with an open file: {status}");
        drop(held);
        drive.start()?;
        drive.wait()?;
        same("the store", &store.files()?, &tree(&drive.mount())?)?;
        ensure!(store.files()?.len() == 20, "{} files", store.files()?.len());
        Ok(())
    })
}

#[test]
fn what_is_still_open_for_writing_is_named() -> Result<()> {
    on_a_dir(|store| {
        let drive = Drive::mounted(store)?;
        let mut open = File::create(drive.path("open"))?;
        open.write_all(b"so far")?;
        let queue = drive.json(&["queue"])?;
        ensure!(queue["items"][0]["state"] == "writing", "{queue:#}");
        ensure!(queue["items"][0]["path"] == "open", "{queue:#}");
        ensure!(queue["totals"]["items"] == 1, "{queue:#}");
        drop(open);
        drive.wait()?;
        ensure!(drive.json(&["queue"])?["totals"]["items"] == 0, "it went up");
        Ok(())
    })
}

#[test]
fn umount_with_wait_uploads_everything_first() -> Result<()> {
    on_each_store(|store| {
        let mut drive = Drive::mounted(store)?;
        let mount = drive.mount();
        let path = mount.to_str().context("a path")?;
        let gone = drive.path("gone");
        std::fs::create_dir(&gone)?;
        for n in 0..100 {
            std::fs::write(gone.join(n.to_string()), b"x")?;
        }
        drive.wait()?;
        std::fs::remove_dir_all(&gone)?;
        let waited = drive.run(&["wait", path])?;
        ensure!(waited.status.success(), "{waited:?}");
        let left = store.keys()?;
        ensure!(!left.iter().any(|key| key.starts_with("gone/")), "wait PATH leaves {left:?}");
        write(&drive, 50)?;
        let expected = tree(&drive.mount())?;
        let unmounted = drive.run(&["umount", "--wait", path])?;
        ensure!(unmounted.status.success(), "{unmounted:?}");
        ensure!(drive.ended()?.success() && !drive.is_mounted()?, "{}", drive.log());
        same("the store", &store.files()?, &expected)
    })
}

#[test]
fn a_read_only_mount_changes_nothing() -> Result<()> {
    on_s3(|store| {
        store.put("dir/file", b"x")?;
        let drive = Drive::over(store)?.with(&["--read-only"]).started()?;
        ensure!(std::fs::read(drive.path("dir/file"))? == b"x", "it can be read");
        let refused = |result: std::io::Result<()>| {
            result.err().and_then(|error| error.raw_os_error()) == Some(libc::EROFS)
        };
        ensure!(refused(std::fs::write(drive.path("new"), b"x")), "create");
        ensure!(refused(std::fs::write(drive.path("dir/file"), b"y")), "write");
        ensure!(refused(std::fs::remove_file(drive.path("dir/file"))), "unlink");
        ensure!(refused(std::fs::create_dir(drive.path("d"))), "mkdir");
        ensure!(refused(std::fs::rename(drive.path("dir"), drive.path("d"))), "rename");
        ensure!(refused(xattr::set(drive.path("dir/file"), "user.a", b"x")), "setxattr");
        ensure!(store.keys()? == ["dir/file"], "{:?}", store.keys()?);
        Ok(())
    })
}

#[test]
fn a_local_share_never_leaves() -> Result<()> {
    on_a_dir(|_| {
        let text =
            "state_dir = \"STATE\"\n[[share]]\nname = \"here\"\nmount = \"MOUNT\"\nlocal = true\n";
        let mut drive = Drive::configured(text)?.started()?;
        write(&drive, 20)?;
        std::fs::rename(drive.path("f0"), drive.path("renamed"))?;
        std::fs::remove_file(drive.path("f1"))?;
        let before = tree(&drive.mount())?;
        let status = drive.json(&["status"])?;
        ensure!(status["mounts"][0]["link"]["state"] == "local", "{status:#}");
        ensure!(status["queue"]["items"] == 0, "{status:#}");
        drive.crash()?;
        same("after a crash", &tree(&drive.mount())?, &before)?;
        drive.wait()
    })
}

/// What `mount` runs for a file system of ours, as long as this lives; one test at a time has it.
pub(crate) struct Helper(&'static Path);

impl Helper {
    /// None, and a word why, if it can't be put there.
    pub(crate) fn put() -> Result<Option<Self>> {
        let path = Path::new("/sbin/mount.fuse.fsd");
        let mut put = Err(std::io::ErrorKind::AlreadyExists.into());
        // A link to a program that is gone was left behind by tests that were killed.
        until("no other test mounts with mount(8)", || {
            if path.is_symlink() && !path.exists() {
                std::fs::remove_file(path)?;
            }
            put = std::os::unix::fs::symlink(program()?, path);
            Ok(!put.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::AlreadyExists))
        })?;
        if let Err(error) = put {
            println!("SKIP: {}: {error}", path.display());
            return Ok(None);
        }
        Ok(Some(Self(path)))
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // Nothing that happens here tells anything about the test.
        let _ = std::fs::remove_file(self.0);
    }
}

#[test]
fn mount_finds_its_helper() -> Result<()> {
    on_a_dir(|store| {
        let Some(_helper) = Helper::put()? else { return Ok(()) };
        let drive = Drive::over(store)?;
        let (mount, state) = (drive.mount(), drive.state());
        let options = format!("cache_dir={},cache_size=64MiB,noatime,_netdev", state.display());
        let mut command = std::process::Command::new("mount");
        command.args(["-t", "fuse.fsd", store.url()]).arg(&mount).args(["-o", &options]);
        drive.equip(&mut command);
        run(&mut command)?;
        ensure!(drive.is_mounted()?, "it is mounted when mount returns");
        write(&drive, 5)?;
        let path = mount.to_str().context("a path")?;
        let remount = |how: &str| shell(Path::new("/"), &format!("mount -o remount,{how} {path}"));
        remount("ro")?;
        let refused = std::fs::write(drive.path("f0"), b"x").err();
        ensure!(refused.is_some_and(|e| e.raw_os_error() == Some(libc::EROFS)), "remounted ro");
        remount("rw")?;
        std::fs::write(drive.path("f0"), content("f0", 2, 10))?;
        let unmounted = drive.run(&["umount", "--wait", path])?;
        ensure!(unmounted.status.success() && !drive.is_mounted()?, "{unmounted:?}");
        ensure!(store.files()?.len() == 5, "{} files", store.files()?.len());
        let mut command = std::process::Command::new("mount");
        command.args(["-t", "fuse.fsd", "-o", "no_such_option", store.url()]).arg(&mount);
        drive.equip(&mut command);
        ensure!(!command.output()?.status.success() && !drive.is_mounted()?, "a mistake is told");
        until("the daemon is gone", || Ok(!drive.run(&["status"])?.status.success()))
    })
}

#[test]
fn without_a_daemon_commands_say_so() -> Result<()> {
    if !can_mount() {
        return Ok(());
    }
    on_a_dir(|store| {
        let drive = Drive::over(store)?;
        for command in ["status", "queue", "wait"] {
            let output = drive.run(&[command])?;
            ensure!(output.status.code() == Some(4), "{command}: {output:?}");
        }
        Ok(())
    })
}

#[test]
fn what_is_mounted_after_an_unmount_stays() -> Result<()> {
    on_a_dir(|store| {
        let mut drive = Drive::mounted(store)?;
        let mount = drive.mount();
        shell(
            Path::new("/"),
            &format!("umount {0}; mount -t tmpfs none {0}; echo kept > {0}/kept", mount.display()),
        )?;
        ensure!(drive.ended()?.success(), "{}", drive.log());
        ensure!(std::fs::read(mount.join("kept"))? == b"kept\n", "the next mount is gone");
        shell(Path::new("/"), &format!("umount {}", mount.display())).map(drop)
    })
}
