use serde::{Deserialize, Serialize};

/// A point in time as the file system keeps it: seconds since 1970 (64 bits, may be negative) and nanoseconds.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Time {
    /// Whole seconds since 1970-01-01T00:00:00Z.
    pub secs: i64,
    /// Nanoseconds after `secs`, below 1,000,000,000.
    pub nanos: u32,
}

impl Time {
    /// Whole milliseconds since 1970.
    #[must_use]
    pub fn millis(self) -> i64 {
        self.secs * 1000 + i64::from(self.nanos / 1_000_000)
    }
}

impl From<std::time::SystemTime> for Time {
    fn from(time: std::time::SystemTime) -> Self {
        match time.duration_since(std::time::UNIX_EPOCH) {
            Ok(after) => Self {
                secs: i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
                nanos: after.subsec_nanos(),
            },
            Err(before) => {
                let before = before.duration();
                let secs = -i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
                match before.subsec_nanos() {
                    0 => Self { secs, nanos: 0 },
                    nanos => Self { secs: secs - 1, nanos: 1_000_000_000 - nanos },
                }
            }
        }
    }
}

impl From<Time> for std::time::SystemTime {
    fn from(time: Time) -> Self {
        let nanos = std::time::Duration::from_nanos(u64::from(time.nanos));
        let secs = std::time::Duration::from_secs(time.secs.unsigned_abs());
        let whole = if time.secs < 0 {
            std::time::UNIX_EPOCH.checked_sub(secs)
        } else {
            std::time::UNIX_EPOCH.checked_add(secs)
        };
        whole.and_then(|t| t.checked_add(nanos)).unwrap_or(std::time::UNIX_EPOCH)
    }
}

/// What an inode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FileKind {
    /// A regular file: one object.
    File,
    /// A directory: a prefix, with a marker object for its attributes.
    Dir,
    /// A symbolic link: an object that holds the target.
    Symlink,
    /// A named pipe, as the three below: an empty object whose metadata says what it is.
    Fifo,
    /// A socket's name.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

impl FileKind {
    /// The `S_IFMT` bits of `st_mode` for this kind.
    #[must_use]
    pub fn mode_bits(self) -> u32 {
        match self {
            Self::File => libc::S_IFREG,
            Self::Dir => libc::S_IFDIR,
            Self::Symlink => libc::S_IFLNK,
            Self::Fifo => libc::S_IFIFO,
            Self::Socket => libc::S_IFSOCK,
            Self::CharDevice => libc::S_IFCHR,
            Self::BlockDevice => libc::S_IFBLK,
        }
    }

    /// The kind named by the `S_IFMT` bits of a mode, if they name one.
    #[must_use]
    pub fn from_mode(mode: u32) -> Option<Self> {
        match mode & libc::S_IFMT {
            libc::S_IFREG => Some(Self::File),
            libc::S_IFDIR => Some(Self::Dir),
            libc::S_IFLNK => Some(Self::Symlink),
            libc::S_IFIFO => Some(Self::Fifo),
            libc::S_IFSOCK => Some(Self::Socket),
            libc::S_IFCHR => Some(Self::CharDevice),
            libc::S_IFBLK => Some(Self::BlockDevice),
            _ => None,
        }
    }
}

/// An inode's attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attr {
    /// What it is.
    pub kind: FileKind,
    /// Permission bits, with setuid, setgid and sticky: the low 12 bits of `st_mode`.
    pub perm: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Length in bytes.
    pub size: u64,
    /// Last access.
    pub atime: Time,
    /// Last change of the content.
    pub mtime: Time,
    /// Last change of content or attributes.
    pub ctime: Time,
    /// Number of names; for a directory 2 plus its subdirectories.
    pub nlink: u32,
    /// Which device a device node stands for, as the kernel packs major and minor into 32 bits; else 0.
    pub rdev: u32,
}

impl Attr {
    /// Those of what is made now, empty.
    #[must_use]
    pub fn new(kind: FileKind, perm: u32, (uid, gid): (u32, u32), now: Time) -> Self {
        let nlink = if kind == FileKind::Dir { 2 } else { 1 };
        let (atime, mtime, ctime) = (now, now, now);
        Self { kind, perm, uid, gid, size: 0, atime, mtime, ctime, nlink, rdev: 0 }
    }
}
