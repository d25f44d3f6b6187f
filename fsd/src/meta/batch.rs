//! One writer, group commit: a change is a closure over the transaction, so what it checks and what it changes can't drift apart.
//! Whoever gets the writer runs all changes that wait, each in a savepoint of its own, and commits them as one.
//!
//! A commit is in the kernel, and nobody waits for the disk while he has the writer: who needs that syncs the log after it.
//! The log holds all that was committed and is not yet, synced, in the database itself.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;

use super::{MetaError, Result, Tx};

/// The writer's end of the store.
pub(super) struct Writer {
    waiting: Mutex<Vec<Box<dyn Job>>>,
    connection: Mutex<Connection>,
    log: File,
}

trait Job: Send {
    /// Runs the change; false asks for a rollback of it.
    fn run(&mut self, tx: &Tx<'_>) -> bool;
    /// The commit's outcome; nothing was stored if it failed.
    fn finish(self: Box<Self>, commit: std::result::Result<(), Arc<rusqlite::Error>>);
}

type Slot<T, E> = Arc<Mutex<Option<std::result::Result<T, E>>>>;

struct Change<F, T, E> {
    change: Option<F>,
    outcome: Option<std::result::Result<T, E>>,
    slot: Slot<T, E>,
}

impl<F, T, E> Job for Change<F, T, E>
where
    F: FnOnce(&Tx<'_>) -> std::result::Result<T, E> + Send,
    T: Send,
    E: From<MetaError> + Send,
{
    fn run(&mut self, tx: &Tx<'_>) -> bool {
        self.outcome = self.change.take().map(|change| change(tx));
        matches!(self.outcome, Some(Ok(_)))
    }

    fn finish(self: Box<Self>, commit: std::result::Result<(), Arc<rusqlite::Error>>) {
        let outcome = match (self.outcome, commit) {
            (Some(Ok(_)) | None, Err(error)) => Some(Err(MetaError::Commit(error).into())),
            (outcome, _) => outcome,
        };
        *self.slot.lock().unwrap_or_else(PoisonError::into_inner) = outcome;
    }
}

impl Writer {
    /// The writer of the database at `path`, which has a log by now.
    pub(super) fn new(connection: Connection, path: &Path) -> std::io::Result<Self> {
        let mut log = path.as_os_str().to_owned();
        log.push("-wal");
        let log = File::open(log)?;
        // The names of the database and of its log.
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()?;
        Ok(Self { waiting: Mutex::default(), connection: Mutex::new(connection), log })
    }

    /// The connection, if nobody has it: its pages are those of the last commit already, another's are read anew after each.
    pub(super) fn idle(&self) -> Option<MutexGuard<'_, Connection>> {
        self.connection.try_lock().ok()
    }

    /// Lets the disk begin to write what was committed.
    pub(super) fn begin_sync(&self) {
        const ALL: libc::off64_t = 0;
        #[expect(unsafe_code, reason = "nix does not have it")]
        // SAFETY: the call takes numbers only, and the descriptor is open as long as `log` is.
        let _ = unsafe {
            // Whether it worked shows when the log is synced.
            libc::sync_file_range(self.log.as_raw_fd(), 0, ALL, libc::SYNC_FILE_RANGE_WRITE)
        };
    }

    /// Makes all that was committed until now survive a power cut.
    pub(super) fn sync(&self) -> Result<()> {
        self.log.sync_data().map_err(|error| MetaError::Sync(Arc::new(error)))
    }

    pub(super) fn write<T, E>(
        &self,
        change: impl FnOnce(&Tx<'_>) -> std::result::Result<T, E> + Send + 'static,
    ) -> std::result::Result<T, E>
    where
        T: Send + 'static,
        E: From<MetaError> + Send + 'static,
    {
        let slot = Slot::<T, E>::default();
        let job = Change { change: Some(change), outcome: None, slot: slot.clone() };
        lock(&self.waiting)?.push(Box::new(job));
        // Behind this lock either another thread has committed our change with its own, or we are the one.
        let connection = lock(&self.connection)?;
        let take = |slot: &Slot<T, E>| slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(outcome) = take(&slot) {
            return outcome;
        }
        let jobs = std::mem::take(&mut *lock(&self.waiting)?);
        commit(&connection, jobs);
        take(&slot).unwrap_or_else(|| Err(MetaError::WriterDied.into()))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> Result<MutexGuard<'_, T>> {
    mutex.lock().map_err(|_| MetaError::WriterDied)
}

fn commit(connection: &Connection, mut jobs: Vec<Box<dyn Job>>) {
    let outcome = run_all(connection, &mut jobs).map_err(Arc::new);
    if outcome.is_err() && !connection.is_autocommit() {
        // The transaction is lost either way; an error here would say the same again.
        let _ = connection.execute_batch("ROLLBACK");
    }
    for job in jobs {
        job.finish(outcome.clone());
    }
}

fn run_all(connection: &Connection, jobs: &mut [Box<dyn Job>]) -> rusqlite::Result<()> {
    let run = |sql| connection.prepare_cached(sql)?.execute([]).map(drop);
    let tx = Tx(connection);
    run("BEGIN IMMEDIATE")?;
    if let [job] = jobs {
        return run(if job.run(&tx) { "COMMIT" } else { "ROLLBACK" });
    }
    for job in jobs.iter_mut() {
        run("SAVEPOINT change")?;
        if !job.run(&tx) {
            run("ROLLBACK TO change")?;
        }
        run("RELEASE change")?;
    }
    run("COMMIT")
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}
