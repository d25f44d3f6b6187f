//! Who may do what, and how much: access control lists, and quotas.

use anyhow::{Result, ensure};
use fsd_tests::drive::{Drive, can_mount};
use fsd_tests::files::shell;
use fsd_tests::store::{on_a_dir, on_s3};
use tempfile::TempDir;

/// Prints lists and modes after everything that changes them, and what another user gets to do.
const LISTS: &str = "
umask 027
chmod 755 .
mkdir d plain; chmod 755 d
setfacl -d -m u:1000:rwx,g:33:r-x d
touch d/file; mkdir d/dir; mkfifo d/pipe; ln -s x d/link; touch plain/file
find d plain ! -type l | sort | xargs getfacl
chmod 640 d/file; getfacl d/file
setfacl -m u:65534:rw,m::r d/file; stat -c '%a %n' d/file; getfacl d/file
setfacl -m m::rw d/file; stat -c '%a %n' d/file
as_nobody() { setpriv --reuid 65534 --regid 65534 --clear-groups sh -c \"$1\" 2>/dev/null && echo yes || echo no; }
echo text > d/file; as_nobody 'cat d/file'; as_nobody 'echo more >> d/file'; as_nobody 'cat plain/file'
setfacl -b d/file; getfacl d/file; as_nobody 'cat d/file'
setfacl -m u::rw,g::r,o::- d/file; getfacl d/file; stat -c '%a %n' d/file
setfacl -d -m u:5:r d/file 2>/dev/null && echo yes || echo no
setfacl -k d; getfacl d; mkdir d/after; getfacl d/after
cp -a d copy; find copy ! -type l | sort | xargs getfacl
chown 65534 d/dir; getfacl d/dir; as_nobody 'setfacl -m u:7:x d/dir'; getfacl d/dir";

#[test]
fn access_control_lists_are_those_of_the_disk_and_come_back() -> Result<()> {
    on_s3(|store| {
        let disk = TempDir::new()?;
        let drive = Drive::over(store)?.with(&["--allow-other"]).started()?;
        // What is above must let the other user through.
        for dir in [drive.mount().parent().unwrap_or(disk.path()), disk.path()] {
            shell(dir, "chmod 755 .")?;
        }
        let (here, wanted) = (shell(&drive.mount(), LISTS)?, shell(disk.path(), LISTS)?);
        ensure!(here == wanted, "on the drive:\n{here}\non the disk:\n{wanted}");
        drive.wait()?;
        drop(drive);
        let fresh = Drive::mounted(store)?;
        let list = "find d copy ! -type l | sort | xargs getfacl";
        let (here, wanted) = (shell(&fresh.mount(), list)?, shell(disk.path(), list)?);
        ensure!(here == wanted, "on a fresh mount:\n{here}\non the disk:\n{wanted}");
        Ok(())
    })
}

#[test]
fn without_access_control_lists_modes_alone_decide() -> Result<()> {
    const LISTS: &str = "
touch file; chmod 640 file
setfacl -m u:65534:rw file 2>&1 || true
getfacl -c file; ls -l file | cut -c1-11
setpriv --reuid 65534 --regid 65534 --clear-groups cat file 2>/dev/null && echo yes || echo no
getfattr -d -m - file";
    const WANTED: &str = "setfacl: file: Operation not supported
user::rw-
group::r--
other::---

-rw-r----- 
no
";
    on_a_dir(|store| {
        let drive = Drive::over(store)?.with(&["--allow-other", "-o", "noacl"]).started()?;
        shell(drive.mount().parent().unwrap_or(&drive.mount()), "chmod 755 .")?;
        let said = shell(&drive.mount(), LISTS)?;
        ensure!(said == WANTED, "{said}");
        Ok(())
    })
}

#[test]
fn nobody_gets_beyond_his_quota() -> Result<()> {
    if !can_mount() {
        return Ok(());
    }
    on_a_dir(|store| {
        let text = format!(
            "state_dir = \"STATE\"\n[[share]]\nname = \"a\"\nmount = \"MOUNT\"\nurl = \"{}\"\nallow_other = true\n\
             user_quota = \"20MiB\"\nuser_quotas = {{ 1234 = \"unlimited\" }}\n",
            store.url()
        );
        let mut drive = Drive::configured(&text)?.started()?;
        shell(&drive.mount(), "chmod 777 .; chmod 755 ..")?;
        let run = |drive: &Drive, user: u32, line: &str| {
            let line = format!(
                "setpriv --reuid {user} --regid {user} --clear-groups sh -euc '{line}' 2>&1 || true"
            );
            shell(&drive.mount(), &line)
        };
        let fill = |drive: &Drive, user, name: &str, mib: u32| {
            run(drive, user, &format!("dd if=/dev/zero of={name} bs=1M count={mib} status=none"))
        };
        ensure!(fill(&drive, 65534, "a", 15)?.is_empty(), "it fits");
        let said = fill(&drive, 65534, "b", 15)?;
        ensure!(said.contains("quota exceeded"), "{said}");
        ensure!(drive.path("b").metadata()?.len() == 5 << 20, "what fits is written");
        for line in [
            "truncate -s 7M b",
            "fallocate -l 7M b",
            "cp a c",
            "dd if=/dev/zero of=b bs=1 count=1 oflag=append conv=notrunc",
        ] {
            let said = run(&drive, 65534, line)?;
            ensure!(said.contains("quota exceeded"), "{line}: {said}");
        }
        let said = run(&drive, 65534, "rm -f c; echo abc 1<>a; truncate -s 14M a; echo x >> b")?;
        ensure!(said.is_empty(), "room was made: {said}");
        // Others have their own, some have none, and root has none.
        for (user, name) in [(1233, "d"), (1234, "e"), (0, "f")] {
            let said = fill(&drive, user, name, if user == 1233 { 19 } else { 30 })?;
            ensure!(said.is_empty(), "{user}: {said}");
        }
        let said = shell(&drive.mount(), "chown 1233 f 2>&1 || true")?;
        ensure!(said.contains("quota exceeded"), "{said}");
        // It is counted anew after a crash, and told.
        drive.crash()?;
        let said = fill(&drive, 1233, "g", 5)?;
        ensure!(said.contains("quota exceeded"), "{said}");
        let status = drive.json(&["status"])?;
        let nobody = status["mounts"][0]["quotas"].as_array().into_iter().flatten();
        let nobody: Vec<_> = nobody.filter(|quota| quota["uid"] == 65534).collect();
        ensure!(nobody.len() == 1 && nobody[0]["bytes_max"] == 20 << 20, "{status}");
        ensure!(nobody[0]["bytes_used"] == (19 << 20) + 2, "{status}");
        Ok(())
    })
}
