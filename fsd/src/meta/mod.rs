//! The precious store: what only this gateway knows. SQLite in WAL mode, one writer with group commit, any number of readers.
//!
//! Invariant: what [`Meta::write`] answered survives the death of the process; after [`Meta::sync`] a power cut too.
//! Invariant: inode numbers are never given twice.

mod arrivals;
mod attempts;
mod batch;
mod check;
mod checkpoint;
mod event_log;
mod gates;
mod inodes;
mod links;
mod log;
mod pins;
mod queue;
mod receipts;
mod schema;
mod sides;
mod tree;
mod uploads;
mod usage;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use self::batch::Writer;
use crate::types::Ino;

pub use self::arrivals::{ARRIVED, Arrival, Job, JobId, JobState, THERE_ALREADY};
pub use self::check::StrayName;
pub use self::event_log::{LoggedEvent, SinkPlace};
pub use self::gates::Said;
pub use self::inodes::{Inode, NewInode, ObjectRecord, Share, Stamp, Uploaded};
pub use self::links::Lost;
pub use self::queue::{Item, ItemCounts, STAYS_HERE, Tombstone};
pub use self::receipts::UploadedVersion;
pub use self::sides::{Conflict, Trashed};
pub use self::tree::{Dentry, Listed, Replaced, TreeError, cookie_of_name};
pub use self::uploads::{Abandoned, Multipart, Part};

/// Why the store could not answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum MetaError {
    /// The database could not be opened.
    #[error("can't open {path}")]
    Open {
        /// Where it should be.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: Arc<rusqlite::Error>,
    },
    /// The database was written by a newer fsd.
    #[error("{path} has format {found}; this fsd knows formats up to {known}: use a newer fsd")]
    NewerFormat {
        /// The database.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// The newest format known here.
        known: i64,
    },
    /// The database was not closed, and its log is gone.
    #[error(
        "{path} has lost its log, {path}-wal, and with it the last changes: put the log back, or remove {held} to go on without (files whose \
         names are lost come to `lost+found` beside it)"
    )]
    LogLost {
        /// The database.
        path: PathBuf,
        /// What says that it was not closed.
        held: PathBuf,
    },
    /// A statement failed.
    #[error("the metadata store failed")]
    Sql(#[source] Arc<rusqlite::Error>),
    /// A commit failed; nothing of it was stored.
    #[error("the metadata store could not commit")]
    Commit(#[source] Arc<rusqlite::Error>),
    /// What was committed could not be put on the disk.
    #[error("the metadata store could not be synced")]
    Sync(#[source] Arc<std::io::Error>),
    /// A record is not what it must be.
    #[error("inode {ino} is damaged: {what}")]
    Damaged {
        /// Which inode.
        ino: Ino,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A thread died while it wrote. Restart the daemon.
    #[error("a write to the metadata store died; restart the daemon")]
    WriterDied,
}

impl MetaError {
    /// Whether the disk under the store is full.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::Open { source, .. } | Self::Sql(source) | Self::Commit(source) => {
                source.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
            }
            Self::Sync(error) => error.kind() == std::io::ErrorKind::StorageFull,
            Self::NewerFormat { .. }
            | Self::LogLost { .. }
            | Self::Damaged { .. }
            | Self::WriterDied => false,
        }
    }
}

impl From<rusqlite::Error> for MetaError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(Arc::new(error))
    }
}

/// A result of the store.
pub type Result<T, E = MetaError> = std::result::Result<T, E>;

/// One transaction: everything read and changed through it is one state of the store.
#[derive(Debug)]
pub struct Tx<'a>(&'a Connection);

/// The precious store.
#[derive(Debug)]
pub struct Meta {
    path: PathBuf,
    /// A file that is there until the store is closed: then there must be a log.
    held: PathBuf,
    writer: Writer,
    readers: Mutex<Vec<Connection>>,
}

const FILE: &str = "meta.sqlite";
const LOG: &str = "meta.sqlite-wal";
const HELD: &str = "meta.open";
const STATEMENTS_CACHED: usize = 128;
/// What pages of the database may take in memory, over all connections; the longest unused go.
const PAGE_BYTES_MAX: u64 = 24 << 20;
/// Of these, pages of the writer's connection, and of each of the others, in KiB.
const WRITER_KIB_MAX: u32 = 16 << 10;
const READER_KIB_MAX: u32 = 2 << 10;
const READERS_KEPT_MAX: usize = 16;

impl Meta {
    /// Whether there is a store in `dir`.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn exists(dir: &Path) -> std::io::Result<bool> {
        match std::fs::metadata(dir.join(FILE)) {
            Ok(file) => Ok(file.len() > 0),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Opens the store in `dir`, making it if it is not there.
    ///
    /// # Errors
    /// If the database can't be opened, was written by a newer fsd, or has lost its log.
    pub fn open(dir: &Path) -> Result<Self> {
        let (path, held) = (dir.join(FILE), dir.join(HELD));
        let opened = |source| MetaError::Open { path: path.clone(), source: Arc::new(source) };
        let failed = |error| MetaError::Sync(Arc::new(error));
        let is_there = |path: &Path| path.try_exists().map_err(failed);
        // A database without a log is one that was closed, to SQLite.
        if is_there(&path)? && is_there(&held)? && !is_there(&dir.join(LOG))? {
            return Err(MetaError::LogLost { path, held });
        }
        let mut connection = connect(&path).map_err(opened)?;
        configure(&connection, WRITER_KIB_MAX).map_err(opened)?;
        schema::migrate(&mut connection, &path)?;
        let own = reader(&path).map_err(opened)?;
        checkpoint::begin(&mut connection, own).map_err(failed)?;
        let writer = Writer::new(connection, &path).map_err(failed)?;
        std::fs::write(&held, b"").map_err(failed)?;
        Ok(Self { writer, readers: Mutex::default(), path, held })
    }

    /// Runs `change` in a transaction, with others that wait, and commits.
    ///
    /// # Durability
    /// What it stored survives the death of the process.
    ///
    /// # Errors
    /// The change's own error, which undoes the change; or the store's, then nothing was stored.
    pub fn write<T, E>(
        &self,
        change: impl FnOnce(&Tx<'_>) -> std::result::Result<T, E> + Send + 'static,
    ) -> std::result::Result<T, E>
    where
        T: Send + 'static,
        E: From<MetaError> + Send + 'static,
    {
        self.writer.write(change)
    }

    /// Lets the disk begin with what [`Meta::sync`] will wait for.
    pub fn begin_sync(&self) {
        self.writer.begin_sync();
    }

    /// Makes all that was written until now survive a power cut.
    ///
    /// # Errors
    /// If the disk fails: then nothing is promised.
    pub fn sync(&self) -> Result<()> {
        self.writer.sync()
    }

    /// Runs `look`, which is short, on one committed state of the store.
    ///
    /// # Errors
    /// What `look` says, or the store's.
    pub fn read<T, E: From<MetaError>>(
        &self,
        look: impl FnOnce(&Tx<'_>) -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        match self.writer.idle() {
            Some(connection) => run_look(&connection, look),
            None => self.scan(look),
        }
    }

    /// As [`Meta::read`], for a look at many records: it is in no writer's way.
    ///
    /// # Errors
    /// As [`Meta::read`].
    pub fn scan<T, E: From<MetaError>>(
        &self,
        look: impl FnOnce(&Tx<'_>) -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        let kept = self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match kept {
            Some(connection) => connection,
            None => reader(&self.path).map_err(MetaError::from)?,
        };
        let looked = run_look(&connection, look);
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if readers.len() < READERS_KEPT_MAX {
            readers.push(connection);
        }
        looked
    }

    /// Bytes that what is kept in memory of inodes and names takes, and may take.
    #[must_use]
    pub fn memory(&self) -> (u64, u64) {
        #[expect(unsafe_code, reason = "rusqlite does not have it")]
        // SAFETY: the call takes nothing and only reads a counter.
        let used = unsafe { rusqlite::ffi::sqlite3_memory_used() };
        (used.unsigned_abs(), PAGE_BYTES_MAX)
    }
}

impl Drop for Meta {
    fn drop(&mut self) {
        // Before SQLite takes the log away. If it stays, a log that is there is enough.
        if let Err(error) = std::fs::remove_file(&self.held) {
            tracing::warn!(%error, path = %self.held.display(), "could not be removed");
        }
    }
}

fn reader(path: &Path) -> rusqlite::Result<Connection> {
    let connection = connect(path)?;
    configure(&connection, READER_KIB_MAX)?;
    Ok(connection)
}

/// Opens the database for this process alone: its connections share their index of the log in memory, without a lock of the kernel's
/// for each transaction.
fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    log::register()
        .map_err(|code| rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None))?;
    Connection::open_with_flags_and_vfs(path, flags, log::VFS)
}

fn run_look<T, E: From<MetaError>>(
    connection: &Connection,
    look: impl FnOnce(&Tx<'_>) -> std::result::Result<T, E>,
) -> std::result::Result<T, E> {
    let run = |sql| -> Result<()> { Ok(connection.prepare_cached(sql)?.execute([]).map(drop)?) };
    run("BEGIN")?;
    let looked = look(&Tx(connection));
    run("COMMIT")?;
    looked
}

fn configure(connection: &Connection, kib_max: u32) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS_CACHED);
    // Else a statement whose plan might depend on what is bound is parsed anew each time.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.busy_timeout(std::time::Duration::from_secs(10))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "cache_size", -i64::from(kib_max))?;
    connection.pragma_update(None, "soft_heap_limit", PAGE_BYTES_MAX.cast_signed())?;
    connection.pragma_update(None, "temp_store", "MEMORY")
}

#[cfg(test)]
mod tests;
