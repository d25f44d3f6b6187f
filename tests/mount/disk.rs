//! A cache disk that fails.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use fsd_tests::drive::Drive;
use fsd_tests::files::{noise, shell};
use fsd_tests::store::{on_a_dir, on_s3};
use fsd_tests::until;
use serde_json::Value;
use tempfile::TempDir;

const MIB: usize = 1 << 20;

/// A small disk of its own, in a file.
struct Disk {
    path: PathBuf,
    _image: TempDir,
}

impl Disk {
    /// None if this machine can't have one; says so.
    #[expect(clippy::print_stdout, reason = "a skip is told where it is counted")]
    fn mounted_on(path: PathBuf) -> Result<Option<Self>> {
        let image = TempDir::with_prefix("fsd-disk-")?;
        let made = "truncate -s 200M image && mkfs.ext4 -q image && mount -o loop image \"$0\"";
        let mut made_by = Command::new("sh");
        let made = made_by.args(["-ec", made]).arg(&path).current_dir(image.path()).output()?;
        if !made.status.success() {
            println!("SKIP: no loop device: {}", String::from_utf8_lossy(&made.stderr));
            return Ok(None);
        }
        Ok(Some(Self { path, _image: image }))
    }

    /// As the kernel does after an error: what is open stays open, nothing is written any more.
    fn fail(&self) -> Result<()> {
        let path = self.path.display();
        shell(Path::new("/"), &format!("mount -o remount,abort,errors=remount-ro {path}"))?;
        Ok(())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        while nix::mount::umount2(&self.path, nix::mount::MntFlags::MNT_DETACH).is_ok() {}
    }
}

#[test]
fn a_cache_disk_that_can_not_be_written_any_more_does_not_keep_files_from_being_read() -> Result<()>
{
    on_s3(|store| {
        let mut drive = Drive::over(store)?;
        let Some(disk) = Disk::mounted_on(drive.state())? else { return Ok(()) };
        let bodies: Vec<_> = (0..4).map(|n| noise(n, 3 * MIB)).collect();
        for (n, body) in bodies.iter().enumerate() {
            store.put(&format!("f{n}"), body)?;
        }
        drive.start()?;
        ensure!(drive.mount().read_dir()?.count() == 4, "its names are known");
        ensure!(std::fs::read(drive.path("f0"))? == bodies[0], "f0 reads as other bytes");
        std::fs::write(drive.path("new"), b"new")?;
        drive.wait()?;
        disk.fail()?;
        for (n, body) in bodies.iter().enumerate() {
            ensure!(
                std::fs::read(drive.path(&format!("f{n}")))? == *body,
                "f{n} reads as other bytes"
            );
        }
        ensure!(std::fs::read(drive.path("new"))? == b"new", "what was written before is read");
        for line in
            ["echo x > other", "echo x >> f1", "echo x >> new", "rm f2", "mkdir d", "mv f2 g"]
        {
            ensure!(shell(&drive.mount(), line).is_err(), "{line} says that it was done");
        }
        ensure!(drive.mount().read_dir()?.count() == 5, "nothing came and nothing went");
        let warmed = drive.run(&["warm", "--json", &drive.path("f3").to_string_lossy()])?;
        let warmed: Value = serde_json::from_slice(&warmed.stdout)?;
        ensure!(
            warmed["problems"] == 1 && warmed["bytes_done"] == 0,
            "what can't be kept is not fetched: {warmed}"
        );
        ensure!(drive.log().contains("the cache disk can't take a file in"), "{}", drive.log());
        drive.terminate()?;
        ensure!(store.files()?.len() == 5, "the store has what it had");
        Ok(())
    })
}

#[test]
fn a_log_that_can_t_be_written_ends_no_mount() -> Result<()> {
    on_a_dir(|store| {
        let drive = Drive::over(store)?;
        let (mount, state) = (drive.mount(), drive.state());
        let mut daemon = drive
            .command()?
            .args(["mount", store.url()])
            .arg(&mount)
            .arg("--cache-dir")
            .arg(&state)
            .env("FSD_LOG", "debug")
            .stdout(Stdio::null())
            .stderr(File::options().write(true).open("/dev/full")?)
            .spawn()?;
        until("it answers or ended", || {
            Ok(drive.json(&["status"]).is_ok() || daemon.try_wait()?.is_some())
        })?;
        ensure!(daemon.try_wait()?.is_none(), "it ended");
        std::fs::write(mount.join("file"), noise(1, 5000))?;
        drive.wait()?;
        ensure!(std::fs::read(mount.join("file"))? == noise(1, 5000), "it works");
        ensure!(
            drive.run(&["umount", &mount.display().to_string()])?.status.success(),
            "unmounted"
        );
        ensure!(daemon.wait()?.success(), "it ended well");
        Ok(())
    })
}
