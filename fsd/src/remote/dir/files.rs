//! The blocking side of a directory as a store.
//!
//! Invariant: a file appears under its key whole and synced, by a rename; its directory is synced after.
//! Invariant: no path leaves the root: every step is taken below an open directory, and none through a link.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2, renameat};
use nix::sys::stat::{FileStat, Mode, fstat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::native;
use crate::remote::reply::Errors;
use crate::remote::{
    Condition, ETag, Object, Page, PageToken, PartId, RemoteError, Result, Source, UploadId,
};
use crate::rng::Rng;
use crate::types::{Key, Metadata, Time};

/// Where files are written before they have a name. Never listed.
const STAGING: &str = ".fsd-tmp";

const PAGE_ENTRIES_MAX: usize = 10_000;

/// A staged file this old belongs to nobody any more: its writer died.
const STAGED_AGE_MAX: Duration = Duration::from_secs(24 * 3600);

/// Why a key is no path.
#[derive(Debug, thiserror::Error)]
pub(super) enum PathError {
    #[error("a segment of a file's path is not empty, `.`, `..` or {STAGING}")]
    Segment,
    #[error("a directory has no content")]
    Content,
    #[error("a part or an upload is not called that")]
    Name,
}

/// The root of the store.
#[derive(Debug)]
pub(super) struct Files {
    root: PathBuf,
    name: String,
    rng: Mutex<Rng>,
    started: Time,
    /// The root was once seen as the top of a mounted file system.
    mounted: AtomicBool,
    /// Leftovers were looked for.
    swept: AtomicBool,
    /// Held from the look at a condition to the change that depends on it; beside it the file lock in the
    /// staging directory, for other processes.
    changing: Mutex<()>,
}

/// A file without a name in the store. Dropped, it is removed.
#[derive(Debug)]
pub(super) struct Staged {
    file: File,
    staging: File,
    name: String,
}

impl Drop for Staged {
    fn drop(&mut self) {
        // After the rename there is nothing to remove, and the name is never used again.
        let _ = unlinkat(&self.staging, self.name.as_str(), UnlinkatFlags::NoRemoveDir);
    }
}

/// What is locked while a condition is looked at and the change made.
struct Changing<'a> {
    _thread: MutexGuard<'a, ()>,
    _process: Option<File>,
}

/// A key's place: the directory it is in, and its name there.
struct Place<'k> {
    parent: File,
    name: &'k str,
}

impl Files {
    pub(super) fn new(root: &Path, name: String, now: Time) -> Self {
        Self {
            root: root.to_owned(),
            name,
            rng: Mutex::new(Rng::seeded_by(now)),
            started: now,
            mounted: AtomicBool::new(false),
            swept: AtomicBool::new(false),
            changing: Mutex::new(()),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    fn errors<'a>(&'a self, key: &'a Key) -> Errors<'a> {
        Errors { store: &self.name, key }
    }

    pub(super) fn unreachable(&self, error: io::Error) -> RemoteError {
        self.errors(&Key::from_raw("")).unreachable(error)
    }

    pub(super) fn unsupported(&self, what: &'static str) -> RemoteError {
        self.errors(&Key::from_raw("")).unsupported(what)
    }

    /// What an error of the file system means to the caller. A file that is not there is not there only
    /// if the root is.
    pub(super) fn error(&self, key: &Key, error: io::Error) -> RemoteError {
        let errors = self.errors(key);
        match error.raw_os_error().map(Errno::from_raw) {
            // A file where a directory should be, or a link: nothing of ours is behind it.
            Some(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => match self.root() {
                Ok(_) => errors.not_found(),
                Err(error) => error,
            },
            Some(Errno::EACCES | Errno::EPERM | Errno::EROFS) => errors.denied(error),
            Some(
                Errno::ENAMETOOLONG
                | Errno::EINVAL
                | Errno::EISDIR
                | Errno::EEXIST
                | Errno::ENOTEMPTY
                | Errno::EXDEV
                | Errno::EILSEQ
                | Errno::EFBIG
                | Errno::E2BIG,
            ) => errors.rejected(error),
            // A full disk is cleared, a lost server comes back.
            _ => errors.unreachable(error),
        }
    }

    /// The root, opened; an error if it is not there, or no longer what it was.
    pub(super) fn root(&self) -> Result<File> {
        let key = Key::from_raw("");
        let errors = self.errors(&key);
        let opened = File::open(&self.root).and_then(|root| {
            let stat = root.metadata()?;
            let above = std::fs::metadata(self.root.join(".."))?;
            Ok((stat.is_dir(), (stat.dev(), stat.ino()), (above.dev(), above.ino()), root))
        });
        match opened {
            Ok((true, here, above, root)) => {
                if here.0 != above.0 || here == above {
                    self.mounted.store(true, Ordering::Relaxed);
                } else if self.mounted.load(Ordering::Relaxed) {
                    // The disk was unmounted: what it leaves is not the store.
                    return Err(errors.no_container());
                }
                Ok(root)
            }
            Ok((false, ..)) => Err(errors.no_container()),
            Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                Some(Errno::ENOENT | Errno::ENOTDIR) => Err(errors.no_container()),
                Some(Errno::EACCES | Errno::EPERM) => Err(errors.denied(error)),
                _ => Err(errors.unreachable(error)),
            },
        }
    }

    /// Where a key is. The directories on the way there must exist, or are made.
    fn place<'k>(&self, key: &'k Key, make: bool) -> Result<Place<'k>> {
        let path = key.as_str().strip_suffix('/').unwrap_or(key.as_str());
        let hostile = |segment: &str| matches!(segment, "" | "." | "..") || segment.contains('\0');
        if path.split('/').any(hostile) || path.split('/').next() == Some(STAGING) {
            return Err(self.errors(key).rejected(PathError::Segment));
        }
        let (dirs, name) = path.rsplit_once('/').unwrap_or((".", path));
        let root = self.root()?;
        let parent = match open_below(&root, dirs, OFlag::O_DIRECTORY) {
            Err(error) if make && error.kind() == ErrorKind::NotFound => make_dirs(root, dirs),
            opened => opened,
        };
        let parent = parent.map_err(|error| match error.raw_os_error().map(Errno::from_raw) {
            // A file or somebody's link is where the directory should be.
            Some(Errno::ENOTDIR | Errno::ELOOP) if make => self.errors(key).occupied(error),
            _ => self.error(key, error),
        })?;
        Ok(Place { parent, name })
    }

    /// The file or directory that stands for a key.
    pub(super) fn open(&self, key: &Key) -> Result<(File, Object)> {
        let place = self.place(key, false)?;
        self.open_at(key, &place)
    }

    fn open_at(&self, key: &Key, place: &Place<'_>) -> Result<(File, Object)> {
        let error = |error| self.error(key, error);
        let (flags, kind) = match key.is_dir() {
            true => (OFlag::O_DIRECTORY, libc::S_IFDIR),
            // What was a pipe a moment later would else keep us waiting.
            false => (OFlag::O_NONBLOCK, libc::S_IFREG),
        };
        let checked = |stat: nix::Result<FileStat>| match stat {
            Ok(stat) if stat.st_mode & libc::S_IFMT == kind => Ok(stat),
            Ok(_) => Err(self.errors(key).not_found()),
            Err(errno) => Err(error(errno.into())),
        };
        // To open somebody's socket or device is no way to learn that it is one.
        checked(fstatat(&place.parent, place.name, AtFlags::AT_SYMLINK_NOFOLLOW))?;
        let file = open_below(&place.parent, place.name, flags).map_err(error)?;
        let stat = checked(fstat(&file))?;
        let (size, etag) = match key.is_dir() {
            true => (0, native::etag_of_dir(&file, &stat)),
            false => (stat.st_size.unsigned_abs(), native::etag(&stat)),
        };
        let modified = native::time(stat.st_mtime, stat.st_mtime_nsec);
        let metadata = Some(native::read(&file, &stat));
        let object = Object { key: key.clone(), size, etag, modified, metadata };
        Ok((file, object))
    }

    pub(super) fn head(&self, key: &Key) -> Result<Object> {
        let place = self.place(key, false)?;
        if key.is_dir() && is_left_over(&place.parent, place.name) {
            return Err(self.errors(key).not_found());
        }
        Ok(self.open_at(key, &place)?.1)
    }

    /// Opens the object, if it is the version expected.
    pub(super) fn open_version(&self, key: &Key, expect: Option<&ETag>) -> Result<File> {
        let (file, object) = self.open(key)?;
        match expect {
            Some(expected) if *expected != object.etag => Err(self.errors(key).precondition()),
            Some(_) | None => Ok(file),
        }
    }

    /// Up to `bytes` of an open object. Somebody else may write into the file, not beside it as we do: then what was read is
    /// not of the version expected.
    pub(super) fn read_version(
        &self,
        key: &Key,
        file: &File,
        at: u64,
        bytes: usize,
        expect: Option<&ETag>,
    ) -> Result<Vec<u8>> {
        let piece = read_at(file, at, bytes).map_err(|error| self.error(key, error))?;
        match expect {
            Some(expected) if *expected != self.etag_of(key, file)? => {
                Err(self.errors(key).precondition())
            }
            Some(_) | None => Ok(piece),
        }
    }

    pub(super) fn etag_of(&self, key: &Key, file: &File) -> Result<ETag> {
        let stat = fstat(file).map_err(|errno| self.error(key, errno.into()))?;
        Ok(if key.is_dir() { native::etag_of_dir(file, &stat) } else { native::etag(&stat) })
    }

    /// One page, in the order of names.
    pub(super) fn list(&self, prefix: &Key, page: Option<&PageToken>) -> Result<Page> {
        let at_root = prefix.as_str().is_empty();
        let opened = match at_root {
            true => self.root(),
            false => self.open(prefix).map(|(file, _)| file),
        };
        let dir = match opened {
            Err(RemoteError::NotFound { .. }) => return Ok(Page::default()),
            opened => opened?,
        };
        let error = |error: Errno| self.error(prefix, error.into());
        let mut entries =
            Dir::openat(&dir, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty())
                .map_err(error)?;
        // The first names behind the last page's, and one more to tell whether there is another page.
        let mut names = BTreeSet::new();
        for entry in entries.iter() {
            let entry = entry.map_err(error)?;
            let Ok(name) = entry.file_name().to_str() else {
                tracing::debug!(store = self.name, ?entry, "a name that is not UTF-8 is no key");
                continue;
            };
            let hidden = matches!(name, "." | "..") || at_root && name == STAGING;
            if hidden || page.is_some_and(|page| name <= page.0.as_str()) {
                continue;
            }
            if entry.file_type().is_none_or(|kind| matches!(kind, Type::File | Type::Directory)) {
                names.insert(name.to_owned());
            }
            if names.len() > PAGE_ENTRIES_MAX + 1 {
                names.pop_last();
            }
        }
        let mut listed = Page::default();
        if names.len() > PAGE_ENTRIES_MAX {
            names.pop_last();
            listed.next = names.last().cloned().map(PageToken);
        }
        for name in names {
            self.list_entry(prefix, &dir, &name, &mut listed)?;
        }
        Ok(listed)
    }

    fn list_entry(&self, prefix: &Key, dir: &File, name: &str, page: &mut Page) -> Result<()> {
        let stat = match fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            // It vanished since.
            Err(Errno::ENOENT) => return Ok(()),
            stat => stat.map_err(|error| self.error(prefix, error.into()))?,
        };
        let key = Key::from_raw(format!("{prefix}{name}"));
        match stat.st_mode & libc::S_IFMT {
            libc::S_IFDIR if is_left_over(dir, name) => {}
            libc::S_IFDIR => page.prefixes.push(Key::from_raw(format!("{key}/"))),
            libc::S_IFREG => page.objects.push(Object {
                key,
                size: stat.st_size.unsigned_abs(),
                etag: native::etag(&stat),
                modified: native::time(stat.st_mtime, stat.st_mtime_nsec),
                metadata: self.listed_metadata(dir, name, &stat),
            }),
            _ => {}
        }
        Ok(())
    }

    /// The metadata of a file that was listed; none if it can't be read, or is another file by now.
    fn listed_metadata(&self, dir: &File, name: &str, stat: &FileStat) -> Option<Metadata> {
        let file = open_below(dir, name, OFlag::O_NONBLOCK).ok()?;
        let same = fstat(&file).is_ok_and(|now| native::etag(&now) == native::etag(stat));
        same.then(|| native::read(&file, stat))
    }

    fn staging(&self) -> Result<File> {
        let key = Key::from_raw(STAGING);
        let error = |error: io::Error| self.error(&key, error);
        let root = self.root()?;
        let staging = match open_below(&root, STAGING, OFlag::O_DIRECTORY) {
            Err(missing) if missing.kind() == ErrorKind::NotFound => {
                match mkdirat(&root, STAGING, Mode::S_IRWXU) {
                    Ok(()) | Err(Errno::EEXIST) => {}
                    Err(errno) => return Err(error(errno.into())),
                }
                open_below(&root, STAGING, OFlag::O_DIRECTORY).map_err(error)?
            }
            opened => {
                let staging = opened.map_err(error)?;
                self.sweep(&staging);
                staging
            }
        };
        Ok(staging)
    }

    /// Removes, once, what writers that died have left. What can't be removed stays for the next start.
    fn sweep(&self, staging: &File) {
        if self.swept.swap(true, Ordering::Relaxed) {
            return;
        }
        let age_max = i64::try_from(STAGED_AGE_MAX.as_secs()).unwrap_or(i64::MAX);
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        let Ok(mut entries) = Dir::openat(staging, ".", flags, Mode::empty()) else { return };
        for entry in entries.iter().flatten() {
            let name = entry.file_name();
            let stat = fstatat(staging, name, AtFlags::AT_SYMLINK_NOFOLLOW);
            let old = stat.is_ok_and(|stat| stat.st_mtime < self.started.secs - age_max);
            if old && name.to_bytes().starts_with(b"put-") {
                let _ = unlinkat(staging, name, UnlinkatFlags::NoRemoveDir);
            }
            // Only an upload without a part: whoever owns it loses nothing by it.
            if old && name.to_bytes().starts_with(b"parts-") {
                let _ = unlinkat(staging, name, UnlinkatFlags::RemoveDir);
            }
        }
    }

    /// A new file without a name in the store.
    pub(super) fn stage(&self, key: &Key) -> Result<Staged> {
        let staging = self.staging()?;
        let number = self.rng.lock().unwrap_or_else(PoisonError::into_inner).next_u64();
        let name = format!("put-{number:016x}");
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_RDWR;
        let file = open_with(&staging, &name, flags, Mode::S_IRUSR | Mode::S_IWUSR);
        Ok(Staged { file: file.map_err(|error| self.error(key, error))?, staging, name })
    }

    /// Writes a small object in one go.
    pub(super) fn put(
        &self,
        key: &Key,
        body: &[u8],
        metadata: &Metadata,
        condition: &Condition,
    ) -> Result<ETag> {
        let staged = self.append(self.stage(key)?, body)?;
        self.commit(staged, key, metadata, condition)
    }

    pub(super) fn append(&self, mut staged: Staged, piece: &[u8]) -> Result<Staged> {
        match staged.file.write_all(piece) {
            Ok(()) => Ok(staged),
            Err(error) => Err(self.error(&Key::from_raw(STAGING), error)),
        }
    }

    /// Gives a staged file its name, if the condition holds.
    pub(super) fn commit(
        &self,
        staged: Staged,
        key: &Key,
        metadata: &Metadata,
        condition: &Condition,
    ) -> Result<ETag> {
        let error = |error: io::Error| self.error(key, error);
        native::apply(&staged.file, metadata).map_err(error)?;
        staged.file.sync_all().map_err(error)?;
        let place = self.place(key, true)?;
        let changing = self.changing(&staged.staging);
        remove_made(&place.parent, place.name);
        self.verify(key, &place, condition)?;
        match renameat(&staged.staging, staged.name.as_str(), &place.parent, place.name) {
            Ok(()) => {}
            // Somebody removed the directory just now; the next try makes it again.
            Err(Errno::ENOENT) => return Err(self.errors(key).unreachable(Errno::ENOENT)),
            Err(errno @ (Errno::EISDIR | Errno::ENOTEMPTY | Errno::EEXIST)) => {
                return Err(self.errors(key).occupied(errno));
            }
            Err(errno) => return Err(error(errno.into())),
        }
        let etag = self.etag_of(key, &staged.file)?;
        drop(changing);
        place.parent.sync_all().map_err(error)?;
        Ok(etag)
    }

    fn changing(&self, staging: &File) -> Changing<'_> {
        let thread = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let flags = OFlag::O_CREAT | OFlag::O_RDWR;
        let process = open_with(staging, "lock", flags, Mode::S_IRUSR | Mode::S_IWUSR)
            .and_then(|file| file.lock().map(|()| file));
        // A file system without locks still has ours.
        Changing { _thread: thread, _process: process.ok() }
    }

    /// Fails if what is in place is not as `condition` says.
    fn verify(&self, key: &Key, place: &Place<'_>, condition: &Condition) -> Result<()> {
        let found = || match self.open_at(key, place) {
            Err(RemoteError::NotFound { .. }) => Ok(None),
            found => found.map(Some),
        };
        let holds = match condition {
            Condition::Always => true,
            // A directory that nobody marked came with the files in it.
            Condition::Absent if key.is_dir() => {
                found()?.is_none_or(|(file, _)| !native::is_marked(&file))
            }
            Condition::Absent => {
                match fstatat(&place.parent, place.name, AtFlags::AT_SYMLINK_NOFOLLOW) {
                    Err(_) => true,
                    Ok(stat) => match stat.st_mode & libc::S_IFMT {
                        libc::S_IFREG => false,
                        libc::S_IFDIR => return Err(self.errors(key).occupied(Errno::EISDIR)),
                        // A link or a pipe is no object, so that it is no version of one either.
                        _ => return Err(self.errors(key).occupied(Errno::EEXIST)),
                    },
                }
            }
            Condition::Match(etag) => found()?.is_some_and(|(_, object)| object.etag == *etag),
        };
        if holds { Ok(()) } else { Err(self.errors(key).precondition()) }
    }

    /// Makes a directory, or marks the one that is there.
    pub(super) fn put_dir(
        &self,
        key: &Key,
        metadata: &Metadata,
        condition: &Condition,
    ) -> Result<ETag> {
        let error = |error: io::Error| self.error(key, error);
        let staging = self.staging()?;
        let place = self.place(key, true)?;
        let _changing = self.changing(&staging);
        self.verify(key, &place, condition)?;
        match mkdirat(&place.parent, place.name, Mode::from_bits_truncate(0o755)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(error(errno.into())),
        }
        let dir = open_below(&place.parent, place.name, OFlag::O_DIRECTORY);
        let dir = dir.map_err(|error| self.errors(key).occupied(error))?;
        native::apply(&dir, metadata).and_then(|()| dir.sync_all()).map_err(error)?;
        place.parent.sync_all().map_err(error)?;
        self.etag_of(key, &dir)
    }

    pub(super) fn copy(
        &self,
        from: &Key,
        expect: &ETag,
        to: &Key,
        metadata: &Metadata,
        condition: &Condition,
    ) -> Result<ETag> {
        let (mut source, object) = self.open(from)?;
        if object.etag != *expect {
            return Err(self.errors(from).precondition());
        }
        if from.is_dir() || to.is_dir() {
            return self.put_dir(to, metadata, condition);
        }
        let mut staged = self.stage(to)?;
        io::copy(&mut source, &mut staged.file).map_err(|error| self.error(from, error))?;
        // Somebody may write into the file itself.
        if self.etag_of(from, &source)? != *expect {
            return Err(self.errors(from).precondition());
        }
        self.commit(staged, to, metadata, condition)
    }

    pub(super) fn set_metadata(
        &self,
        key: &Key,
        metadata: &Metadata,
        expect: &ETag,
    ) -> Result<ETag> {
        let staging = self.staging()?;
        let place = self.place(key, false)?;
        let _changing = self.changing(&staging);
        let (file, object) = self.open_at(key, &place)?;
        if object.etag != *expect {
            return Err(self.errors(key).precondition());
        }
        native::apply(&file, metadata)
            .and_then(|()| file.sync_all())
            .map_err(|error| self.error(key, error))?;
        self.etag_of(key, &file)
    }

    pub(super) fn delete(&self, key: &Key, condition: &Condition) -> Result<()> {
        let place = match self.place(key, false) {
            Err(RemoteError::NotFound { .. }) => return Ok(()),
            place => place?,
        };
        let staging = self.staging()?;
        let _changing = self.changing(&staging);
        let file = match self.open_at(key, &place) {
            Err(RemoteError::NotFound { .. }) => return Ok(()),
            found => found?.0,
        };
        self.verify(key, &place, condition)?;
        let flag = if key.is_dir() { UnlinkatFlags::RemoveDir } else { UnlinkatFlags::NoRemoveDir };
        let deleted = match unlinkat(&place.parent, place.name, flag) {
            // Objects below it keep a directory, until they go too; its marker goes.
            Err(Errno::ENOTEMPTY | Errno::EEXIST) => {
                native::note_made(&file);
                native::unmark(&file)
            }
            Err(Errno::ENOENT) => Ok(()),
            result => result.map_err(io::Error::from),
        };
        deleted.and_then(|()| place.parent.sync_all()).map_err(|error| self.error(key, error))?;
        self.remove_made_above(key);
        Ok(())
    }

    /// Removes the directories that were made only for what was in them. What can't be removed stays: it is empty, or not ours.
    fn remove_made_above(&self, key: &Key) {
        let mut path = key.as_str().trim_end_matches('/');
        while let Some((dir, _)) = path.rsplit_once('/') {
            path = dir;
            let key = Key::from_raw(format!("{dir}/"));
            let Ok(place) = self.place(&key, false) else { return };
            let Ok(dir) = open_below(&place.parent, place.name, OFlag::O_DIRECTORY) else { return };
            let removed = || unlinkat(&place.parent, place.name, UnlinkatFlags::RemoveDir).is_ok();
            if !native::was_made(&dir) || !removed() {
                return;
            }
        }
    }

    pub(super) fn upload_begin(&self, key: &Key) -> Result<UploadId> {
        if key.is_dir() {
            return Err(self.errors(key).rejected(PathError::Content));
        }
        let staging = self.staging()?;
        let number = self.rng.lock().unwrap_or_else(PoisonError::into_inner).next_u64();
        let name = format!("parts-{number:016x}");
        mkdirat(&staging, name.as_str(), Mode::S_IRWXU)
            .map_err(io::Error::from)
            .and_then(|()| staging.sync_all())
            .map_err(|error| self.error(key, error))?;
        Ok(UploadId(name))
    }

    pub(super) fn upload_part(
        &self,
        key: &Key,
        id: &UploadId,
        number: u32,
        staged: Staged,
    ) -> Result<PartId> {
        let error = |error: io::Error| self.error(key, error);
        let upload = self.upload(key, id)?;
        let name = format!("{number:010}");
        staged.file.sync_all().map_err(error)?;
        renameat(&staged.staging, staged.name.as_str(), &upload, name.as_str())
            .map_err(io::Error::from)
            .and_then(|()| upload.sync_all())
            .map_err(error)?;
        Ok(PartId(name))
    }

    /// A part out of a file that is here: blocks are shared where the disk can.
    pub(super) fn upload_copy(
        &self,
        key: &Key,
        id: &UploadId,
        number: u32,
        source: &Source,
    ) -> Result<PartId> {
        let Source { key: from, etag, range, .. } = source;
        let error = |error: io::Error| self.error(from, error);
        let mut file = self.open_version(from, Some(etag))?;
        let mut staged = self.stage(key)?;
        file.seek(SeekFrom::Start(range.start)).map_err(error)?;
        let mut bytes = (&file).take(range.end - range.start);
        let copied = io::copy(&mut bytes, &mut staged.file).map_err(error)?;
        // Somebody may write into the file itself.
        if copied != range.end - range.start || self.etag_of(from, &file)? != *etag {
            return Err(self.errors(from).precondition());
        }
        self.upload_part(key, id, number, staged)
    }

    pub(super) fn upload_end(
        &self,
        key: &Key,
        id: &UploadId,
        parts: &[PartId],
        metadata: &Metadata,
        condition: &Condition,
    ) -> Result<ETag> {
        let completed = self.upload(key, id).and_then(|upload| {
            let mut staged = self.stage(key)?;
            for part in parts {
                if part.0.is_empty() || !part.0.bytes().all(|b| b.is_ascii_digit()) {
                    return Err(self.errors(key).rejected(PathError::Name));
                }
                open_below(&upload, &part.0, OFlag::empty())
                    .and_then(|mut part| io::copy(&mut part, &mut staged.file))
                    .map_err(|error| self.error(key, error))?;
            }
            self.commit(staged, key, metadata, condition)
        });
        let etag = match completed {
            // Perhaps we completed it before, and the answer was lost: then what is in place is ours.
            Err(error @ (RemoteError::NotFound { .. } | RemoteError::Precondition { .. })) => {
                match self.head(key) {
                    Ok(found)
                        if !metadata.is_empty() && found.metadata.as_ref() == Some(metadata) =>
                    {
                        found.etag
                    }
                    Ok(_) | Err(_) => return Err(error),
                }
            }
            completed => completed?,
        };
        self.upload_drop(key, id)?;
        Ok(etag)
    }

    pub(super) fn upload_drop(&self, key: &Key, id: &UploadId) -> Result<()> {
        match self.upload(key, id) {
            Err(RemoteError::NotFound { .. }) => return Ok(()),
            upload => drop(upload?),
        }
        // The name was checked, and the staging directory is ours alone.
        match std::fs::remove_dir_all(self.root.join(STAGING).join(&id.0)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(self.error(key, error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// The directory of an upload's parts.
    fn upload(&self, key: &Key, id: &UploadId) -> Result<File> {
        let number = id.0.strip_prefix("parts-");
        if !number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_hexdigit())) {
            return Err(self.errors(key).rejected(PathError::Name));
        }
        let staging = self.staging()?;
        open_below(&staging, &id.0, OFlag::O_DIRECTORY).map_err(|error| self.error(key, error))
    }
}

fn read_at(file: &File, at: u64, bytes_max: usize) -> io::Result<Vec<u8>> {
    let there = usize::try_from(file.metadata()?.len().saturating_sub(at)).unwrap_or(usize::MAX);
    let bytes = bytes_max.min(there);
    let mut piece = vec![0; bytes];
    let mut read = 0;
    while read < bytes {
        match file.read_at(&mut piece[read..], at + read as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    piece.truncate(read);
    Ok(piece)
}

/// Opens for reading what is at `path` below `dir`, through no link.
fn open_below(dir: &File, path: &str, flags: OFlag) -> io::Result<File> {
    open_with(dir, path, flags | OFlag::O_RDONLY, Mode::empty())
}

fn open_with(dir: &File, path: &str, flags: OFlag, mode: Mode) -> io::Result<File> {
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .mode(mode)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    let fd: OwnedFd = openat2(dir, OsStr::new(path), how)?;
    Ok(File::from(fd))
}

/// Whether `name` is a directory that was made only for what was in it, and so is all that is left in it. A crash may leave such;
/// in a store without directories there would be nothing.
fn is_left_over(parent: &File, name: &str) -> bool {
    made_dir(parent, name).is_some_and(|(dir, names)| names.iter().all(|n| is_left_over(&dir, n)))
}

/// A directory that was made only for what was in it, and the names of that.
fn made_dir(parent: &File, name: &str) -> Option<(File, Vec<String>)> {
    let dir = open_below(parent, name, OFlag::O_DIRECTORY).ok()?;
    if !native::was_made(&dir) {
        return None;
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
    let mut entries = Dir::openat(&dir, ".", flags, Mode::empty()).ok()?;
    let names = entries.iter().flatten().map(|e| e.file_name().to_string_lossy().into_owned());
    let names = names.filter(|name| !matches!(name.as_str(), "." | "..")).collect();
    Some((dir, names))
}

/// Removes what [`is_left_over`]: no file could come in its place.
fn remove_made(parent: &File, name: &str) {
    let Some((dir, names)) = made_dir(parent, name) else { return };
    names.iter().for_each(|name| remove_made(&dir, name));
    // One that is not empty stays.
    let _ = unlinkat(parent, name, UnlinkatFlags::RemoveDir);
}

/// Makes the directories of `path` that are missing, and opens the last one.
fn make_dirs(root: File, path: &str) -> io::Result<File> {
    let mut dir = root;
    for name in path.split('/') {
        let next = match open_below(&dir, name, OFlag::O_DIRECTORY) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                match mkdirat(&dir, name, Mode::from_bits_truncate(0o755)) {
                    Ok(()) => {
                        native::note_made(&open_below(&dir, name, OFlag::O_DIRECTORY)?);
                        dir.sync_all()?;
                    }
                    Err(Errno::EEXIST) => {}
                    Err(errno) => return Err(errno.into()),
                }
                open_below(&dir, name, OFlag::O_DIRECTORY)?
            }
            opened => opened?,
        };
        dir = next;
    }
    Ok(dir)
}
