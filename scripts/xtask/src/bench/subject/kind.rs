//! Who there is.

use std::fmt;

/// Who does the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// A plain directory on the disk that holds the caches: the limit for data.
    Disk,
    /// libfuse's own example over such a directory: the limit for names.
    Floor,
    /// Ours.
    Fsd,
    /// A peer.
    Rclone(CacheMode),
    /// A peer whose names are in a database, and whose objects are its own.
    JuiceFs,
    /// A peer.
    S3fs,
    /// The store, asked by a client that is hardly one. It has no drive.
    Store,
}

/// What rclone keeps in its cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum CacheMode {
    /// Files that are written.
    Writes,
    /// Files that are written or read.
    Full,
}

impl Kind {
    /// All with a drive.
    pub(crate) const ALL: [Self; 7] = [
        Self::Disk,
        Self::Floor,
        Self::Fsd,
        Self::Rclone(CacheMode::Writes),
        Self::Rclone(CacheMode::Full),
        Self::JuiceFs,
        Self::S3fs,
    ];

    /// What it is called on the command line; variants share it.
    pub(crate) fn family(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Floor => "floor",
            Self::Fsd => "ours",
            Self::Rclone(_) => "rclone",
            Self::JuiceFs => "juicefs",
            Self::S3fs => "s3fs",
            Self::Store => "store",
        }
    }

    pub(crate) fn is_peer(self) -> bool {
        matches!(self, Self::Rclone(_) | Self::JuiceFs | Self::S3fs)
    }

    /// Whether its objects are files, so that it shows those of others.
    pub(crate) fn shows_objects(self) -> bool {
        matches!(self, Self::Fsd | Self::Rclone(_) | Self::S3fs)
    }

    pub(crate) fn has_store(self) -> bool {
        self.shows_objects() || self == Self::JuiceFs
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rclone(mode) => write!(f, "rclone {mode}"),
            Self::Disk | Self::Floor | Self::Fsd | Self::JuiceFs | Self::S3fs | Self::Store => {
                f.write_str(self.family())
            }
        }
    }
}

impl fmt::Display for CacheMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Writes => "writes",
            Self::Full => "full",
        })
    }
}
