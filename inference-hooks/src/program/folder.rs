//! The folder of one run: `hook/`, `input/NAME`, `input.json` and an empty `output/`. As root it is a tmpfs of its own, so
//! that a program can't fill the disk, and belongs to nobody; otherwise it is a plain folder that is looked at meanwhile.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statvfs::statvfs;
use nix::unistd::Uid;

use super::{Context, contract};
use crate::client::JobError;
use crate::hook::{Bounds, Hook};

/// Who programs are where the daemon is root.
pub(super) const NOBODY: u32 = 65_534;
/// Folders, `input.json`, and what a program needs for the time of a file that it renames.
const INODES_MORE: u64 = 64;
/// Beyond the output, so that one that is too large is seen and not only refused.
const BYTES_MORE: u64 = 1 << 20;

/// Where the folders of runs are.
#[derive(Debug)]
pub(super) struct Scratch {
    folder: PathBuf,
    next: AtomicU64,
    is_root: bool,
}

impl Scratch {
    /// Has `end` end what still runs in the folders that are left in `folder`, and clears them away. It is made when it is needed.
    pub(super) fn open(folder: &Path, end: impl Fn(&Path)) -> io::Result<Self> {
        match fs::read_dir(folder) {
            Ok(left) => {
                for left in left {
                    let left = left?.path();
                    end(&left);
                    clear(&left)?;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let folder = std::path::absolute(folder)?;
        Ok(Self { folder, next: AtomicU64::new(0), is_root: Uid::effective().is_root() })
    }

    /// The user that programs run as, if not as the daemon's.
    pub(super) fn user(&self) -> Option<u32> {
        self.is_root.then_some(NOBODY)
    }

    /// Whether runs have a tmpfs.
    pub(super) fn is_mounted(&self) -> bool {
        self.is_root
    }

    /// Makes the folder of a run.
    pub(super) fn folder(
        &self,
        hook: &Hook,
        bounds: &Bounds,
        input: OwnedFd,
        context: &Context,
    ) -> Result<RunFolder, JobError> {
        let mut input = File::from(input);
        let unreadable =
            |error: io::Error| JobError::Unreadable(format!("the file can't be read: {error}"));
        let bytes = input.metadata().map_err(unreadable)?.len();
        let most = hook.input().bytes_max;
        if bytes > most {
            let why = format!("the file has {bytes} bytes, more than input.max_bytes = {most}");
            return Err(JobError::OverLimit(why));
        }
        input.rewind().map_err(unreadable)?;
        let mut folder = self.make(hook, bounds, bytes).map_err(JobError::start)?;
        folder.fill(hook, &input, context).map_err(JobError::start)?;
        Ok(folder)
    }

    fn make(&self, hook: &Hook, bounds: &Bounds, input_bytes: u64) -> io::Result<RunFolder> {
        DirBuilder::new().recursive(true).create(&self.folder)?;
        fs::set_permissions(&self.folder, Permissions::from_mode(0o711))?;
        let path = self.folder.join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        DirBuilder::new().mode(0o755).create(&path)?;
        let folder = RunFolder {
            path,
            is_mounted: self.is_root,
            is_root: self.is_root,
            input_bytes,
            used_before: 0,
            output_bytes_max: bounds.output_bytes_max,
        };
        if self.is_root {
            let files = hook.source().files();
            let page = |bytes: u64| bytes.next_multiple_of(1 << 16);
            let own: u64 = files.values().map(|bytes| page(bytes.len() as u64)).sum();
            let bytes = own + page(input_bytes) + bounds.output_bytes_max + BYTES_MORE;
            let inodes = files.len() as u64 + u64::from(bounds.output_files_max) + INODES_MORE;
            let options = format!("size={bytes},nr_inodes={inodes},mode=0755");
            let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
            mount(Some("fsd-hook"), &folder.path, Some("tmpfs"), flags, Some(options.as_str()))?;
        }
        Ok(folder)
    }
}

/// The folder of a run; it goes with the value.
#[derive(Debug)]
pub(super) struct RunFolder {
    path: PathBuf,
    is_mounted: bool,
    is_root: bool,
    input_bytes: u64,
    /// Of the tmpfs, before the program starts.
    used_before: u64,
    output_bytes_max: u64,
}

impl RunFolder {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn output(&self) -> PathBuf {
        self.path.join("output")
    }

    pub(super) fn input_bytes(&self) -> u64 {
        self.input_bytes
    }

    /// The user that a program runs as, if not as the daemon's.
    pub(super) fn user(&self) -> Option<u32> {
        self.is_root.then_some(NOBODY)
    }

    fn fill(&mut self, hook: &Hook, input: &File, context: &Context) -> io::Result<()> {
        for name in ["hook", "input", "output"] {
            DirBuilder::new().mode(0o755).create(self.path.join(name))?;
        }
        for (name, bytes) in hook.source().files() {
            make_file(&self.path.join("hook").join(name), 0o555)?.write_all(bytes)?;
        }
        let to = self.path.join("input").join(contract::file_name(context));
        // A file that grows meanwhile is cut here: its next version is another job.
        io::copy(&mut input.take(self.input_bytes), &mut make_file(&to, 0o444)?)?;
        let told = contract::json(hook, self.input_bytes, context).to_string();
        make_file(&self.path.join("input.json"), 0o444)?.write_all(told.as_bytes())?;
        if let Some(user) = self.user() {
            chown(self.output(), Some(user), Some(user))?;
        }
        if self.is_mounted {
            self.used_before = used(&self.path, 0)?;
        }
        Ok(())
    }

    /// Whether the program has written more than it may. One that can't be looked at is full.
    pub(super) fn is_full(&self) -> bool {
        let used = match self.is_mounted {
            true => used(&self.path, self.used_before),
            false => bytes_below(&self.output(), self.output_bytes_max),
        };
        used.is_ok_and(|used| used > self.output_bytes_max)
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        // What is left is cleared away at the next start.
        let _ = clear(&self.path);
    }
}

fn make_file(path: &Path, mode: u32) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    // Whatever the umask is.
    file.set_permissions(Permissions::from_mode(mode))?;
    Ok(file)
}

fn clear(path: &Path) -> io::Result<()> {
    // It may be none.
    let _ = umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
    match path.symlink_metadata()?.is_dir() {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    }
}

/// What a file system has in use, beyond what it had `before`; everything, if it can take no more files.
fn used(path: &Path, before: u64) -> io::Result<u64> {
    let now = statvfs(path)?;
    if now.files_free() == 0 {
        return Ok(u64::MAX);
    }
    Ok(((now.blocks() - now.blocks_free()) * now.fragment_size()).saturating_sub(before))
}

/// What files take below a folder, counted until that is more than `enough`. Names that go away meanwhile are passed over.
fn bytes_below(folder: &Path, enough: u64) -> io::Result<u64> {
    let mut bytes = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let Ok(found) = entry.metadata() else { continue };
            // Each name costs something, too: there is no end of empty files.
            bytes += found.blocks() * 512 + 512;
            if found.is_dir() {
                folders.push(entry.path());
            }
            if bytes > enough {
                return Ok(bytes);
            }
        }
    }
    Ok(bytes)
}
