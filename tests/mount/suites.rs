//! Suites that others wrote for file systems.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use fsd_tests::drive::Drive;
use fsd_tests::files::{run, same, tree};
use fsd_tests::store::on_a_dir;

use crate::ends::Helper;

/// Features that only other systems have are left out. A read-only remount needs that nobody has a file open, or one without a
/// name, which some tests leave behind for a while: those that remount come first.
const PJDFSTEST: &str = r#"
[features]
posix_fallocate = {}
rename_ctime = {}
utime_now = {}
utimensat = {}
[settings]
naptime = 0.01
allow_remount = REMOUNT
[dummy_auth]
entries = [["nobody", "nogroup"], ["daemon", "daemon"]]
"#;

/// No system tells how many names a file may have, so that is not tried.
const SKIPPED: &str = "link::link_count_max";

const FSX: &str = "
flen = 1048576
[opsize]
max = 65536
[weights]
close_open = 1
invalidate = 1
truncate = 3
fsync = 1
fdatasync = 1
read = 10
write = 10
mapread = 5
mapwrite = 5
punch_hole = 3
sendfile = 2
posix_fallocate = 2
copy_file_range = 3
";

fn is_there(program: &str) -> bool {
    let there = Command::new(program).arg("--version").output().is_ok_and(|o| o.status.success());
    if !there {
        println!("SKIP: {program} is not installed: scripts/test does it");
    }
    there
}

#[test]
fn pjdfstest_passes() -> Result<()> {
    if !is_there("pjdfstest") {
        return Ok(());
    }
    on_a_dir(|store| {
        let Some(_helper) = Helper::put()? else { return Ok(()) };
        let drive = Drive::over(store)?.with(&["--allow-other"]).started()?;
        // Its own arithmetic fails where the longest path is a multiple of its step.
        let place = drive.path("a place for tests");
        std::fs::create_dir(&place)?;
        let test = |remount: bool, pattern: &[&str]| -> Result<String> {
            let configuration = drive.state().join("pjdfstest.toml");
            std::fs::write(&configuration, PJDFSTEST.replace("REMOUNT", &remount.to_string()))?;
            let mut command = Command::new("pjdfstest");
            command.arg("-c").arg(&configuration).arg("-p").arg(&place).args(["-s", "/dev/shm"]);
            let output = command.args(pattern).output()?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            ensure!(output.status.success(), "{text}");
            Ok(text)
        };
        let text = test(true, &["erofs"])?;
        ensure!(text.contains("Summary: 0 failed, 0 skipped, 13 passed"), "{text}");
        let text = test(false, &[])?;
        let skipped = text.lines().filter(|line| line.ends_with("skipped"));
        let skipped: Vec<_> = skipped.filter(|line| !line.contains("::erofs_")).collect();
        ensure!(skipped.len() == 1 && skipped[0].starts_with(SKIPPED), "{skipped:?}");
        ensure!(text.contains("Summary: 0 failed, 14 skipped, 384 passed"), "{text}");
        drive.wait()
    })
}

#[test]
fn fsx_finds_nothing() -> Result<()> {
    if !is_there("fsx") {
        return Ok(());
    }
    on_a_dir(|store| {
        let mut drive = Drive::mounted(store)?;
        let configuration = drive.state().join("fsx.toml");
        std::fs::write(&configuration, FSX)?;
        let exercise = |seed: u32, path: &Path| -> Result<()> {
            let mut command = Command::new("fsx");
            command.args(["-N", "1500", "-S", &seed.to_string(), "-f"]).arg(&configuration);
            run(command.arg("-P").arg(drive.state()).arg(path)).map(drop)
        };
        for seed in 1..=6 {
            exercise(seed, &drive.path(&format!("f{seed}")))?;
        }
        drive.wait()?;
        let before = tree(&drive.mount())?;
        ensure!(before.len() == 6, "{:?}", before.keys());
        same("the store", &store.files()?, &before)?;
        drive.crash()?;
        same("after a crash", &tree(&drive.mount())?, &before)
    })
}
