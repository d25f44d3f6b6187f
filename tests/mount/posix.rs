//! What programs rely on.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, chown};
use std::time::{Duration, SystemTime};

use anyhow::{Result, ensure};
use fsd_tests::drive::Drive;
use fsd_tests::files::{content, noise, same, shell, tree};
use fsd_tests::store::{on_a_dir, on_each_store, on_s3};
use nix::fcntl::{AT_FDCWD, FallocateFlags, RenameFlags, fallocate, renameat2};
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use tempfile::TempDir;

pub(crate) fn errno<T>(result: std::io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

#[test]
fn a_file_without_a_name_lives_as_long_as_it_is_open() -> Result<()> {
    on_a_dir(|store| {
        let mut drive = Drive::mounted(store)?;
        let (name, other) = (drive.path("a"), drive.path("b"));
        let mut file = File::options().read(true).write(true).create_new(true).open(&name)?;
        file.write_all(b"first")?;
        std::fs::remove_file(&name)?;
        ensure!(errno(File::open(&name)) == Some(libc::ENOENT), "the name is gone");
        std::fs::write(&name, b"another")?;
        file.write_all(b" second")?;
        file.rewind()?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        ensure!(text == "first second" && file.metadata()?.nlink() == 0, "{text}");
        // The same by a rename over it.
        let mut over = File::open(&name)?;
        std::fs::write(&other, b"over")?;
        std::fs::rename(&other, &name)?;
        text.clear();
        over.read_to_string(&mut text)?;
        ensure!(text == "another" && std::fs::read(&name)? == b"over", "{text}");
        drive.crash()?;
        drop((file, over));
        drive.wait()?;
        same("the store", &store.files()?, &[("a".into(), b"over".to_vec())].into())
    })
}

#[test]
fn appends_of_several_handles_never_overwrite_each_other() -> Result<()> {
    on_a_dir(|store| {
        let drive = Drive::mounted(store)?;
        let path = drive.path("log");
        let written: Vec<_> = std::thread::scope(|scope| {
            let append = |n: u32| -> std::io::Result<()> {
                let mut file = OpenOptions::new().append(true).create(true).open(&path)?;
                (0..200).try_for_each(|line| file.write_all(format!("{n} {line:04}\n").as_bytes()))
            };
            let threads: Vec<_> = (0..4).map(|n| scope.spawn(move || append(n))).collect();
            threads.into_iter().map(|thread| thread.join().is_ok_and(|done| done.is_ok())).collect()
        });
        ensure!(written == [true; 4], "{written:?}");
        let text = std::fs::read_to_string(&path)?;
        let mut lines: Vec<&str> = text.lines().collect();
        ensure!(lines.len() == 800, "{} lines", lines.len());
        lines.sort_unstable();
        lines.dedup();
        ensure!(lines.len() == 800, "{} different lines", lines.len());
        Ok(())
    })
}

#[test]
fn names_are_taken_once_and_renames_keep_their_promises() -> Result<()> {
    on_a_dir(|store| {
        let drive = Drive::mounted(store)?;
        let path = |name| drive.path(name);
        std::fs::write(path("a"), b"a")?;
        std::fs::write(path("b"), b"b")?;
        ensure!(errno(File::create_new(path("a"))) == Some(libc::EEXIST), "O_EXCL");
        let no_replace = RenameFlags::RENAME_NOREPLACE;
        let refused = renameat2(AT_FDCWD, &path("a"), AT_FDCWD, &path("b"), no_replace);
        ensure!(refused == Err(nix::errno::Errno::EEXIST), "{refused:?}");
        renameat2(AT_FDCWD, &path("a"), AT_FDCWD, &path("c"), no_replace)?;
        renameat2(AT_FDCWD, &path("b"), AT_FDCWD, &path("c"), RenameFlags::RENAME_EXCHANGE)?;
        ensure!(std::fs::read(path("b"))? == b"a" && std::fs::read(path("c"))? == b"b", "exchange");
        std::fs::create_dir_all(path("dir/sub"))?;
        std::fs::create_dir(path("empty"))?;
        let rename = |from, to| errno(std::fs::rename(path(from), path(to)));
        ensure!(rename("dir", "dir/sub/x") == Some(libc::EINVAL), "below itself");
        ensure!(rename("empty", "dir") == Some(libc::ENOTEMPTY), "over what is not empty");
        ensure!(rename("b", "empty") == Some(libc::EISDIR), "a file over a directory");
        ensure!(rename("empty", "b") == Some(libc::ENOTDIR), "a directory over a file");
        ensure!(rename("nothing", "x") == Some(libc::ENOENT), "what is not there");
        ensure!(rename("b", "b").is_none(), "to itself");
        ensure!(errno(std::fs::remove_dir(path("dir"))) == Some(libc::ENOTEMPTY), "rmdir");
        ensure!(errno(std::fs::remove_dir(path("b"))) == Some(libc::ENOTDIR), "rmdir of a file");
        ensure!(errno(std::fs::remove_file(path("dir"))) == Some(libc::EISDIR), "unlink");
        std::fs::rename(path("dir"), path("empty"))?;
        ensure!(path("empty/sub").is_dir(), "a directory over an empty one");
        ensure!(std::fs::metadata(path("empty"))?.nlink() == 3, "links of a directory");
        Ok(())
    })
}

#[test]
fn attributes_are_kept_to_the_nanosecond() -> Result<()> {
    on_s3(|store| {
        let mut drive = Drive::mounted(store)?;
        let path = drive.path("file");
        std::fs::write(&path, b"x")?;
        let times: [(i64, i64); 9] = [
            (0, 0),
            (0, 1),
            (-1, 999_999_999),
            (-1, 1),
            (-14_182_940, 500_000_000),
            (1_700_000_000, 123_456_789),
            (4_102_444_800, 5),
            (32_503_680_000, 999_999_999),
            (-2_208_988_800, 7),
        ];
        for (secs, nanos) in times {
            let time = TimeSpec::new(secs, nanos);
            utimensat(AT_FDCWD, &path, &time, &time, UtimensatFlags::FollowSymlink)?;
            let found = path.metadata()?;
            ensure!(
                (found.mtime(), found.mtime_nsec()) == (secs, nanos),
                "{secs}.{nanos:09}: {found:?}"
            );
        }
        // While it is open for writing, before and after a write.
        let mut file = File::options().append(true).open(&path)?;
        let time = SystemTime::UNIX_EPOCH + Duration::new(1_600_000_000, 42);
        file.set_modified(time)?;
        ensure!(path.metadata()?.modified()? == time, "set through a handle");
        file.write_all(b"y")?;
        ensure!(path.metadata()?.modified()? > time, "a write is newer");
        file.set_modified(time)?;
        drop(file);
        ensure!(path.metadata()?.modified()? == time, "set after a write");
        std::fs::set_permissions(&path, Permissions::from_mode(0o4751))?;
        chown(&path, Some(12), Some(34))?;
        ensure!(path.metadata()?.mode() & 0o7777 == 0o751, "chown takes setuid away");
        std::fs::set_permissions(&path, Permissions::from_mode(0o2770))?;
        let check = |drive: &Drive| -> Result<()> {
            let found = drive.path("file").metadata()?;
            let is =
                (found.mode() & 0o7777, found.uid(), found.gid(), found.size(), found.modified()?);
            ensure!(is == (0o2770, 12, 34, 2, time), "{found:?}");
            Ok(())
        };
        check(&drive)?;
        drive.crash()?;
        check(&drive)?;
        drive.wait()?;
        check(&Drive::mounted(store)?)
    })
}

#[test]
fn extended_attributes_are_made_replaced_and_removed() -> Result<()> {
    on_s3(|store| {
        let drive = Drive::mounted(store)?;
        let path = drive.path("file");
        std::fs::write(&path, b"x")?;
        xattr::set(&path, "user.a", b"1")?;
        xattr::set(&path, "user.a", b"2")?;
        xattr::set(&path, "user.empty", b"")?;
        xattr::set(&path, "user.bytes", &[0, 255, 10, 13])?;
        xattr::set(&path, "user.gone", b"x")?;
        xattr::remove(&path, "user.gone")?;
        ensure!(errno(xattr::remove(&path, "user.gone")) == Some(libc::ENODATA), "removed twice");
        ensure!(xattr::get(&path, "user.gone")?.is_none(), "removed");
        let flags = "import os, errno
p = 'file'
def fails(e, f, *a):
    try: f(*a)
    except OSError as x: assert x.errno == e, x
    else: raise SystemExit('it works')
fails(errno.EEXIST, os.setxattr, p, 'user.a', b'3', os.XATTR_CREATE)
fails(errno.ENODATA, os.setxattr, p, 'user.b', b'3', os.XATTR_REPLACE)
os.setxattr(p, 'user.c', b'4', os.XATTR_CREATE)
os.setxattr(p, 'user.c', b'5', os.XATTR_REPLACE)
os.removexattr(p, 'user.c')
fails(errno.E2BIG, os.setxattr, p, 'user.big', b'x' * 70000)";
        std::fs::write(drive.state().join("flags.py"), flags)?;
        let script = drive.state().join("flags.py");
        shell(&drive.mount(), &format!("python3 {}", script.display()))?;
        let check = |drive: &Drive| -> Result<()> {
            let path = drive.path("file");
            let mut names: Vec<_> = xattr::list(&path)?.collect();
            names.sort();
            ensure!(names == ["user.a", "user.bytes", "user.empty"], "{names:?}");
            ensure!(xattr::get(&path, "user.a")?.as_deref() == Some(b"2"), "user.a");
            ensure!(
                xattr::get(&path, "user.bytes")?.as_deref() == Some(&[0, 255, 10, 13]),
                "bytes"
            );
            ensure!(xattr::get(&path, "user.empty")?.as_deref() == Some(b""), "user.empty");
            Ok(())
        };
        check(&drive)?;
        drive.wait()?;
        check(&Drive::mounted(store)?)
    })
}

#[test]
fn lengths_holes_and_maps_are_what_was_asked_for() -> Result<()> {
    on_a_dir(|store| {
        let drive = Drive::mounted(store)?;
        let file =
            File::options().read(true).write(true).create_new(true).open(drive.path("file"))?;
        let body = noise(1, 300_000);
        file.write_all_at(&body, 0)?;
        file.set_len(100_000)?;
        file.set_len(200_000)?;
        let mut expected = body[..100_000].to_vec();
        expected.resize(200_000, 0);
        ensure!(std::fs::read(drive.path("file"))? == expected, "cut and grown");
        file.write_all_at(b"far", 5_000_000)?;
        expected.resize(5_000_000, 0);
        expected.extend(b"far");
        file.sync_all()?;
        ensure!(std::fs::read(drive.path("file"))? == expected, "behind a hole");
        std::fs::write(drive.path("by-name"), &body)?;
        shell(&drive.mount(), "truncate -s 10 by-name; truncate -s 20 by-name")?;
        let mut short = body[..10].to_vec();
        short.resize(20, 0);
        ensure!(std::fs::read(drive.path("by-name"))? == short, "by name");
        let map = "import mmap
with open('mapped', 'w+b') as f:
    f.truncate(1 << 20)
    with mmap.mmap(f.fileno(), 1 << 20) as m:
        m[5:10] = b'hello'; m[(1 << 20) - 3:] = b'end'; m.flush()
with open('mapped', 'rb') as f, mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as m:
    assert m[5:10] == b'hello' and m[-3:] == b'end' and len(m) == 1 << 20";
        std::fs::write(drive.state().join("map.py"), map)?;
        shell(&drive.mount(), &format!("python3 {}", drive.state().join("map.py").display()))?;
        fallocate(&file, FallocateFlags::empty(), 0, 6_000_000)?;
        expected.resize(6_000_000, 0);
        drop(file);
        drive.wait()?;
        let files = store.files()?;
        ensure!(files.get("file") == Some(&expected), "the object is the file");
        let mapped =
            files.get("mapped").map(|m| (m.len(), m[5..10].to_vec(), m[m.len() - 3..].to_vec()));
        ensure!(mapped == Some((1 << 20, b"hello".to_vec(), b"end".to_vec())), "{mapped:?}");
        Ok(())
    })
}

#[test]
fn a_large_directory_is_read_while_it_is_emptied() -> Result<()> {
    const ENTRIES: usize = 10_000;
    on_a_dir(|store| {
        let drive = Drive::over(store)?.with(&["--bwlimit-up", "off"]).started()?;
        let dir = drive.path("dir");
        std::fs::create_dir(&dir)?;
        for n in 0..ENTRIES {
            File::create(dir.join(format!("entry-{n}")))?;
        }
        let mut seen = std::collections::BTreeSet::new();
        for (at, entry) in dir.read_dir()?.enumerate() {
            let entry = entry?;
            ensure!(seen.insert(entry.file_name()), "{entry:?} is there twice");
            if at % 2 == 0 {
                std::fs::remove_file(entry.path())?;
            }
        }
        ensure!(seen.len() == ENTRIES, "{} were seen", seen.len());
        ensure!(dir.read_dir()?.count() == ENTRIES / 2, "{} are left", dir.read_dir()?.count());
        shell(&drive.mount(), "rm -rf dir")?;
        ensure!(drive.mount().read_dir()?.count() == 0, "rm -rf");
        Ok(())
    })
}

#[test]
fn long_names_deep_paths_and_room_are_honest() -> Result<()> {
    on_a_dir(|store| {
        let drive = Drive::mounted(store)?;
        let longest = "n".repeat(255);
        std::fs::write(drive.path(&longest), b"x")?;
        ensure!(
            errno(File::create(drive.path(&"n".repeat(256)))) == Some(libc::ENAMETOOLONG),
            "256"
        );
        let deep = vec!["d"; 400].join("/");
        std::fs::create_dir_all(drive.path(&deep))?;
        std::fs::write(drive.path(&deep).join("f"), b"deep")?;
        ensure!(std::fs::read(drive.path(&deep).join("f"))? == b"deep", "deep");
        let room = nix::sys::statvfs::statvfs(&drive.mount())?;
        ensure!(room.blocks() > 0 && room.blocks_available() <= room.blocks_free(), "{room:?}");
        ensure!(room.blocks_free() <= room.blocks() && room.name_max() == 255, "{room:?}");
        drive.wait()?;
        same("the store", &store.files()?, &tree(&drive.mount())?)
    })
}

#[test]
fn what_was_synced_or_closed_is_there_after_a_crash() -> Result<()> {
    on_a_dir(|store| {
        let mut drive = Drive::mounted(store)?;
        let mut synced = File::create(drive.path("synced"))?;
        synced.write_all(&content("synced", 1, 100_000))?;
        synced.sync_all()?;
        synced.write_all(b"more")?;
        std::fs::write(drive.path("closed"), content("closed", 1, 100_000))?;
        std::fs::create_dir(drive.path("dir"))?;
        std::os::unix::fs::symlink("closed", drive.path("dir/link"))?;
        drive.crash()?;
        drop(synced);
        let mut expected = content("synced", 1, 100_000);
        expected.extend(b"more");
        let expected = [
            ("synced".to_owned(), expected),
            ("closed".to_owned(), content("closed", 1, 100_000)),
            ("dir/link".to_owned(), b"closed".to_vec()),
        ]
        .into();
        same("the mount", &tree(&drive.mount())?, &expected)?;
        let mut seek = File::open(drive.path("synced"))?;
        ensure!(seek.seek(SeekFrom::End(0))? == expected["synced"].len() as u64, "the length");
        drive.wait()?;
        same("the store", &store.files()?, &expected)
    })
}

/// Every mode of fallocate that FUSE passes on, copies within the drive, and a look at data and holes.
const RANGES: &str = r#"
set -e
fallocate -l 2M f
fallocate -n -o 2M -l 1M f
fallocate -p -o 8192 -l 100000 f
fallocate -z -o 300000 -l 5000 f
fallocate -z -n -o 1M -l 3M f
cp --sparse=never f g
python3 - <<'END'
import os
f = os.open('f', os.O_RDWR)
g = os.open('g', os.O_RDWR)
assert os.copy_file_range(f, g, 50000, 10000, 70000) == 50000
assert os.copy_file_range(g, g, 4096, 0, os.fstat(g).st_size) == 4096
assert os.copy_file_range(f, g, 4096, 10 << 20, 0) == 0
s = os.open('s', os.O_RDWR | os.O_CREAT | os.O_TRUNC)
os.pwrite(s, b'x' * 4096, 5 << 20)
os.ftruncate(s, 10 << 20)
assert os.lseek(s, 0, os.SEEK_DATA) == 5 << 20
assert os.lseek(s, 5 << 20, os.SEEK_HOLE) == (5 << 20) + 4096
try:
    os.lseek(s, 6 << 20, os.SEEK_DATA)
    raise SystemExit('data behind the data')
except OSError as error:
    assert error.errno == 6
END
"#;

#[test]
fn ranges_are_allocated_punched_and_copied() -> Result<()> {
    on_a_dir(|store| {
        let plain = TempDir::with_prefix("fsd-plain-")?;
        let drive = Drive::mounted(store)?;
        for dir in [plain.path(), &drive.mount()] {
            std::fs::write(dir.join("f"), noise(1, 1 << 20))?;
        }
        drive.wait()?;
        shell(plain.path(), RANGES)?;
        shell(&drive.mount(), RANGES)?;
        same("a plain directory", &tree(plain.path())?, &tree(&drive.mount())?)?;
        drive.wait()?;
        same("the store", &store.files()?, &tree(plain.path())?)?;
        // And on what is only in the cloud.
        let cold = Drive::mounted(store)?;
        shell(plain.path(), RANGES)?;
        shell(&cold.mount(), RANGES)?;
        same("a plain directory", &tree(plain.path())?, &tree(&cold.mount())?)?;
        cold.wait()?;
        same("the store", &store.files()?, &tree(plain.path())?)
    })
}

#[test]
fn pipes_sockets_and_devices_have_names_here_and_on_a_fresh_mount() -> Result<()> {
    on_each_store(|store| {
        let drive = Drive::mounted(store)?;
        shell(
            &drive.mount(),
            "mkfifo -m 640 pipe && mknod null c 1 3 && mknod disk b 259 1048575 \
             && python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"sock\")'",
        )?;
        let told = shell(&drive.mount(), "(echo through > pipe &) ; timeout 20 cat pipe")?;
        ensure!(told == "through\n", "through the pipe came {told:?}");
        let look = "stat -c '%n %F %a %t:%T' disk null pipe sock";
        let here = shell(&drive.mount(), look)?;
        ensure!(here.contains("disk block special file 644 103:fffff"), "{here}");
        drive.wait()?;
        let fresh = shell(&Drive::mounted(store)?.mount(), look)?;
        ensure!(fresh == here, "here\n{here}on a fresh mount\n{fresh}");
        Ok(())
    })
}

#[test]
fn a_sparse_file_takes_what_it_takes_on_the_disk() -> Result<()> {
    on_a_dir(|store| {
        let drive = Drive::mounted(store)?;
        let file = File::options().create_new(true).write(true).open(drive.path("sparse"))?;
        file.set_len(64 << 20)?;
        file.write_all_at(&[7; 4096], 32 << 20)?;
        file.sync_all()?;
        let kib = |name: &str| -> Result<u64> { Ok(drive.path(name).metadata()?.blocks() / 2) };
        ensure!((4..=256).contains(&kib("sparse")?), "{} KiB", kib("sparse")?);
        drop(file);
        std::fs::write(drive.path("full"), vec![1; 4 << 20])?;
        drive.wait()?;
        ensure!((4..=256).contains(&kib("sparse")?), "{} KiB", kib("sparse")?);
        ensure!(kib("full")? >= 4 << 10, "{} KiB", kib("full")?);
        let used = shell(&drive.mount(), "du -k sparse | cut -f1")?;
        ensure!(used.trim().parse::<u64>()? <= 256, "{used}");
        Ok(())
    })
}
