//! An object's metadata as a file's own attributes, and as the extended attribute that holds it word for word.

use std::collections::BTreeMap;
use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;

use nix::sys::stat::{FileStat, futimens};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown, geteuid};
use xattr::FileExt as _;

use crate::remote::ETag;
use crate::types::{Attr, FileKind, Metadata, PosixMeta, Time, VERSION_NAME, digest, fnv1a, link};

const XATTR: &str = "user.fsd.meta";
/// On a directory that was made only for what is in it.
const MADE: &str = "user.fsd.made";

/// The version of a file, from what tells two states of it apart.
pub(super) fn etag(stat: &FileStat) -> ETag {
    let FileStat { st_ino, st_size, st_mtime, st_mtime_nsec, st_ctime, st_ctime_nsec, .. } = *stat;
    ETag(format!(
        "{st_ino:x}-{st_size:x}-{st_mtime:x}.{st_mtime_nsec:x}-{st_ctime:x}.{st_ctime_nsec:x}"
    ))
}

/// The version of a directory: it changes with the attributes, not with what is in it.
pub(super) fn etag_of_dir(dir: &File, stat: &FileStat) -> ETag {
    let xattr = dir.get_xattr(XATTR).ok().flatten().unwrap_or_default();
    let attributes = format!("{:o}:{}:{}:", stat.st_mode, stat.st_uid, stat.st_gid);
    let hash = fnv1a(attributes.bytes().chain(xattr));
    ETag(format!("{:x}-{hash:x}", stat.st_ino))
}

/// Gives a file the attributes that `metadata` speaks of, as far as we may.
pub(super) fn apply(file: &File, metadata: &Metadata) -> io::Result<()> {
    let is_dir = file.metadata()?.is_dir();
    let posix = PosixMeta::read(metadata);
    write_xattr(file, metadata)?;
    if geteuid().is_root() && (posix.uid.is_some() || posix.gid.is_some()) {
        let owner = fchown(file, posix.uid.map(Uid::from_raw), posix.gid.map(Gid::from_raw));
        // A root without the right (a container's) goes on without.
        owner.or_else(|error| if error == nix::Error::EPERM { Ok(()) } else { Err(error) })?;
    }
    file.set_permissions(Permissions::from_mode(permissions(&posix, is_dir)))?;
    if let Some(mtime) = posix.mtime {
        let spec = |time: Time| TimeSpec::new(time.secs, i64::from(time.nanos));
        futimens(file, &spec(posix.atime.unwrap_or(mtime)), &spec(mtime))?;
    }
    Ok(())
}

/// Whether somebody gave a directory metadata through us.
pub(super) fn is_marked(file: &File) -> bool {
    file.get_xattr(XATTR).is_ok_and(|value| value.is_some())
}

/// Says that a directory was made only for what is in it. A file system without attributes does not remember.
pub(super) fn note_made(dir: &File) {
    let _ = dir.set_xattr(MADE, b"1");
}

/// Whether [`note_made`] was said, and no marker was put since.
pub(super) fn was_made(dir: &File) -> bool {
    dir.get_xattr(MADE).is_ok_and(|value| value.is_some()) && !is_marked(dir)
}

/// Takes the metadata away.
pub(super) fn unmark(file: &File) -> io::Result<()> {
    match file.remove_xattr(XATTR) {
        Err(error) if !is_unsupported(&error) && error.raw_os_error() != Some(libc::ENODATA) => {
            Err(error)
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The metadata of a file: as it was given, but for what was changed natively since; the native attributes,
/// if none was given or the file system can't hold it.
pub(super) fn read(file: &File, stat: &FileStat) -> Metadata {
    let attr = attributes(stat);
    let native = PosixMeta::write(&attr, &BTreeMap::new());
    let Some(mut given) = read_xattr(file) else { return native };
    let posix = PosixMeta::read(&given);
    let is_dir = attr.kind == FileKind::Dir;
    let mut changed = Vec::new();
    let is_link = posix.kind == Some(FileKind::Symlink);
    if posix.perm.is_some() && !is_link && permissions(&posix, is_dir) != attr.perm {
        changed.push("mode");
    }
    // A directory's time changes with every file in it.
    if posix.mtime.is_some_and(|given| !is_kept(given, attr.mtime)) && !is_dir {
        changed.extend(["mtime", "ctime"]);
        // Somebody wrote into it: it is no version of ours any more, whatever stands beside it.
        for of_content in [digest::NAME, VERSION_NAME, link::NAME] {
            given.remove(of_content);
        }
    }
    for name in changed {
        given.extend(native.get(name).map(|value| (name.to_owned(), value.clone())));
    }
    given
}

/// Whether `found` is what a file system keeps of the time `given`: some know no nanoseconds, others whole or even seconds only.
fn is_kept(given: Time, found: Time) -> bool {
    let same_second = given.secs == found.secs;
    let cut = |unit: u32| same_second && given.nanos / unit * unit == found.nanos;
    let even = found.nanos == 0 && given.secs - given.secs.rem_euclid(2) == found.secs;
    even || [1, 100, 1000, 1_000_000, 1_000_000_000].into_iter().any(cut)
}

/// The mode that a file gets. What we could not open again ourselves is widened.
fn permissions(posix: &PosixMeta, is_dir: bool) -> u32 {
    let (usual, needed) = if is_dir { (0o755, 0o700) } else { (0o644, 0o600) };
    let asked = posix.perm.filter(|_| posix.kind != Some(FileKind::Symlink)).unwrap_or(usual);
    if geteuid().is_root() { asked } else { asked | needed }
}

fn attributes(stat: &FileStat) -> Attr {
    let kind =
        if stat.st_mode & libc::S_IFMT == libc::S_IFDIR { FileKind::Dir } else { FileKind::File };
    Attr {
        kind,
        perm: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        size: stat.st_size.unsigned_abs(),
        atime: time(stat.st_atime, stat.st_atime_nsec),
        mtime: time(stat.st_mtime, stat.st_mtime_nsec),
        ctime: time(stat.st_ctime, stat.st_ctime_nsec),
        nlink: 1,
        rdev: 0,
    }
}

fn read_xattr(file: &File) -> Option<Metadata> {
    serde_json::from_slice(&file.get_xattr(XATTR).ok()??).ok()
}

fn write_xattr(file: &File, metadata: &Metadata) -> io::Result<()> {
    match file.set_xattr(XATTR, &serde_json::to_vec(metadata)?) {
        Err(error) if is_unsupported(&error) => Ok(()),
        result => result,
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS))
}

/// A time as `stat` has it.
pub(super) fn time(secs: i64, nanos: i64) -> Time {
    Time { secs, nanos: u32::try_from(nanos).unwrap_or(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_kept_as_finely_as_a_disk_can() {
        let given = Time { secs: 1_500_000_001, nanos: 123_456_789 };
        let of = |secs, nanos| Time { secs, nanos };
        for nanos in [123_456_789, 123_456_700, 123_456_000, 123_000_000, 0] {
            assert!(is_kept(given, of(1_500_000_001, nanos)), "{nanos}");
        }
        assert!(is_kept(given, of(1_500_000_000, 0)), "as FAT has it");
        for other in [of(1_500_000_001, 123_456_788), of(1_500_000_001, 500), of(1_500_000_002, 0)]
        {
            assert!(!is_kept(given, other), "{other:?}");
        }
    }
}
