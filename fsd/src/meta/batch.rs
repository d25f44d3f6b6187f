//! One writer, group commit: a change is a closure over the transaction, so what it checks and what it changes can't drift apart.
//! Whoever gets the writer runs all changes that wait, each in a savepoint of its own, and commits them as one.

use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;

use super::{MetaError, Result, Tx};

/// Whether a commit also survives a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Durability {
    /// Survives the death of the process: the bytes are in the kernel.
    Process,
    /// Survives a power cut: the bytes are on the disk.
    Power,
}

/// The writer's end of the store.
pub(super) struct Writer {
    waiting: Mutex<Vec<Box<dyn Job>>>,
    connection: Mutex<Connection>,
}

trait Job: Send {
    /// Runs the change; false asks for a rollback of it.
    fn run(&mut self, tx: &Tx<'_>) -> bool;
    fn durability(&self) -> Durability;
    /// The commit's outcome; nothing was stored if it failed.
    fn finish(self: Box<Self>, commit: std::result::Result<(), Arc<rusqlite::Error>>);
}

type Slot<T, E> = Arc<Mutex<Option<std::result::Result<T, E>>>>;

struct Change<F, T, E> {
    change: Option<F>,
    durability: Durability,
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

    fn durability(&self) -> Durability {
        self.durability
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
    pub(super) fn new(connection: Connection) -> Self {
        Self { waiting: Mutex::default(), connection: Mutex::new(connection) }
    }

    pub(super) fn write<T, E>(
        &self,
        durability: Durability,
        change: impl FnOnce(&Tx<'_>) -> std::result::Result<T, E> + Send + 'static,
    ) -> std::result::Result<T, E>
    where
        T: Send + 'static,
        E: From<MetaError> + Send + 'static,
    {
        let slot = Slot::<T, E>::default();
        let job = Change { change: Some(change), durability, outcome: None, slot: slot.clone() };
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

fn lock<T>(mutex: &Mutex<T>) -> Result<std::sync::MutexGuard<'_, T>> {
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
    let power = jobs.iter().any(|job| job.durability() == Durability::Power);
    if power {
        connection.pragma_update(None, "synchronous", "FULL")?;
    }
    let committed = run_transaction(connection, jobs, power);
    if power {
        connection.pragma_update(None, "synchronous", "NORMAL")?;
    }
    committed
}

fn run_transaction(
    connection: &Connection,
    jobs: &mut [Box<dyn Job>],
    power: bool,
) -> rusqlite::Result<()> {
    let run = |sql| connection.prepare_cached(sql)?.execute([]).map(drop);
    let tx = Tx(connection);
    run("BEGIN IMMEDIATE")?;
    if power {
        // SQLite syncs only a commit that wrote something; earlier commits ride along.
        run("UPDATE counter SET value = value + 1 WHERE name = 'barrier'")?;
    }
    let alone = jobs.len() == 1 && !power;
    for job in jobs.iter_mut() {
        if alone {
            if !job.run(&tx) {
                return run("ROLLBACK");
            }
            continue;
        }
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
