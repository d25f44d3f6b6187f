//! What can go wrong, by what the caller can do. Front ends translate it once.

use crate::cache::CacheError;
use crate::meta::{MetaError, TreeError};

/// Why an operation failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum VfsError {
    /// There is no such name or inode.
    #[error("there is no such file")]
    NoEntry,
    /// The name is taken.
    #[error("the name is taken")]
    Exists,
    /// A directory was needed.
    #[error("that is not a directory")]
    NotDir,
    /// Anything but a directory was needed.
    #[error("that is a directory")]
    IsDir,
    /// The directory has entries.
    #[error("the directory is not empty")]
    NotEmpty,
    /// The arguments make no sense together.
    #[error("{0}")]
    Invalid(&'static str),
    /// The share is read-only.
    #[error("the share is read-only")]
    ReadOnly,
    /// That handle is not open, or not for this.
    #[error("the handle is not open for that")]
    BadHandle,
    /// A name has at most 255 bytes.
    #[error("the name has more than 255 bytes")]
    NameTooLong,
    /// This can't be had here.
    #[error("{0} is not supported")]
    Unsupported(&'static str),
    /// That is not allowed, whoever asks.
    #[error("{0}")]
    Denied(&'static str),
    /// The name belongs to fsd.
    #[error("the name belongs to fsd")]
    Reserved,
    /// There is no such extended attribute.
    #[error("there is no such attribute")]
    NoAttribute,
    /// No data there: behind the last of it, or the end of the file.
    #[error("no data there")]
    NoData,
    /// The extended attribute is there already.
    #[error("the attribute is there already")]
    AttributeExists,
    /// A value is too large.
    #[error("the value is too large")]
    TooLarge,
    /// The owner's files take as much as they may.
    #[error("the owner's files take as much as they may: `fsd status` shows quotas")]
    Quota,
    /// It is durable here, but was not uploaded in time.
    #[error("it was not uploaded in time; it is durable here, and goes up when it can")]
    NotUploaded,
    /// The cache could not serve.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The metadata store could not serve.
    #[error(transparent)]
    Meta(#[from] MetaError),
}

impl From<TreeError> for VfsError {
    fn from(error: TreeError) -> Self {
        match error {
            TreeError::Meta(error) => Self::Meta(error),
            TreeError::NoEntry => Self::NoEntry,
            TreeError::Exists => Self::Exists,
            TreeError::NotDir => Self::NotDir,
            TreeError::IsDir => Self::IsDir,
            TreeError::NotEmpty => Self::NotEmpty,
            TreeError::IntoItself => Self::Invalid("a directory can't be moved below itself"),
        }
    }
}

impl From<std::io::Error> for VfsError {
    fn from(error: std::io::Error) -> Self {
        Self::Cache(error.into())
    }
}

/// The result of an operation.
pub type Result<T, E = VfsError> = std::result::Result<T, E>;
