//! Arrivals (a version of a file that its writer closed) and the hook jobs made of them.
//! Times are milliseconds since 1970.

use rusqlite::{Row, params};
use serde::{Deserialize, Serialize};

use super::inodes::{limit, unsigned};
use super::{Result, Tx};
use crate::types::Ino;

/// The rank of jobs about what has just arrived: they go first.
pub const ARRIVED: i64 = 0;
/// The rank of jobs about what was there already.
pub const THERE_ALREADY: i64 = 1;
const RANKS: [i64; 2] = [ARRIVED, THERE_ALREADY];

/// A job's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JobId(pub i64);

/// Where a job stands.
///
/// ```text
/// Waiting ─start► Running ─ok► Done
///    ▲               ├─failed, tries left► Waiting
///    ├── by hand ── Parked ◄─ no tries left, or the hook is broken
///    └── by hand ── Failed ◄─ the hook can make nothing of the file
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// It will run when it is due.
    Waiting,
    /// A worker has it. After a crash it waits again.
    Running,
    /// Its result is applied.
    Done,
    /// The hook can make nothing of this file; another try would end the same.
    Failed,
    /// It was given up until a person acts.
    Parked,
}

impl JobState {
    /// The word in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Parked => "parked",
        }
    }

    fn read(word: &str) -> Self {
        match word {
            "running" => Self::Running,
            "done" => Self::Done,
            "failed" => Self::Failed,
            "parked" => Self::Parked,
            _ => Self::Waiting,
        }
    }
}

/// One hook on one version of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Its number.
    pub id: JobId,
    /// The hook.
    pub hook: String,
    /// The hook's version: a digest of its folder.
    pub version: String,
    /// The file.
    pub ino: Ino,
    /// The file's content version.
    pub content: u64,
    /// The file's path in its share when the job was made, for people to read.
    pub path: String,
    /// Where it stands.
    pub state: JobState,
    /// Tries that failed.
    pub tries: u32,
    /// When it may run, ms since 1970.
    pub due: i64,
    /// When the file arrived, ms since 1970.
    pub arrived: i64,
    /// When its state changed last, ms since 1970.
    pub changed: i64,
    /// Why the last try failed.
    pub error: Option<String>,
    /// The hook's result: JSON.
    pub result: Option<String>,
}

/// A version of a file that hooks have to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The file.
    pub ino: Ino,
    /// Its content version.
    pub content: u64,
    /// It arrived before: only the look is new.
    pub again: bool,
}

fn job(row: &Row<'_>) -> rusqlite::Result<Job> {
    Ok(Job {
        id: JobId(row.get("id")?),
        hook: row.get("hook")?,
        version: row.get("version")?,
        ino: Ino(unsigned(row, "ino")?),
        content: unsigned(row, "content")?,
        path: row.get("path")?,
        state: JobState::read(&row.get::<_, String>("state")?),
        tries: row.get("tries")?,
        due: row.get("due")?,
        arrived: row.get("arrived")?,
        changed: row.get("changed")?,
        error: row.get("error")?,
        result: row.get("result")?,
    })
}

impl Tx<'_> {
    /// Records that version `content` of `ino` has arrived, to be looked at from `due` on. An older
    /// version that was not looked at yet gives way.
    ///
    /// # Errors
    /// If the store fails.
    pub fn arrived(&self, ino: Ino, content: u64, due: i64) -> Result<()> {
        self.add_arrival(ino, content, due, false)
    }

    /// Has version `content` of `ino`, which arrived before, looked at again.
    ///
    /// # Errors
    /// If the store fails.
    pub fn arrived_before(&self, ino: Ino, content: u64, due: i64) -> Result<()> {
        let sql =
            "SELECT EXISTS (SELECT 1 FROM arrival WHERE ino = ?1 AND content = ?2 AND NOT again)";
        let number = ino.0.cast_signed();
        let is_news = self.one(sql, params![number, content.cast_signed()], |r| r.get(0))?;
        self.add_arrival(ino, content, due, !is_news.unwrap_or(false))
    }

    fn add_arrival(&self, ino: Ino, content: u64, due: i64, again: bool) -> Result<()> {
        self.run("DELETE FROM arrival WHERE ino = ?1", [ino.0.cast_signed()])?;
        self.run(
            "INSERT INTO arrival (ino, content, due, again) VALUES (?1, ?2, ?3, ?4)",
            params![ino.0.cast_signed(), content.cast_signed(), due, again],
        )?;
        Ok(())
    }

    /// Arrivals that are due at `now` and are not open for writing again, in the order they came.
    ///
    /// # Errors
    /// If the store fails.
    pub fn due_arrivals(&self, now: i64, count: usize) -> Result<Vec<Arrival>> {
        let sql = "SELECT * FROM arrival WHERE due <= ?1 \
             AND ino NOT IN (SELECT ino FROM writing) ORDER BY seq LIMIT ?2";
        self.all(sql, params![now, limit(count)], |r| {
            let (ino, content) = (Ino(unsigned(r, "ino")?), unsigned(r, "content")?);
            Ok(Arrival { ino, content, again: r.get("again")? })
        })
    }

    /// The jobs of an arrival are made.
    ///
    /// # Errors
    /// If the store fails.
    pub fn end_arrival(&self, ino: Ino, content: u64) -> Result<()> {
        let sql = "DELETE FROM arrival WHERE ino = ?1 AND content = ?2";
        self.run(sql, params![ino.0.cast_signed(), content.cast_signed()])?;
        Ok(())
    }

    /// When the next arrival, or a job of one of `hooks`, behind `now` becomes due.
    ///
    /// # Errors
    /// If the store fails.
    pub fn next_job_due(&self, hooks: &[String], now: i64) -> Result<Option<i64>> {
        let arrival = "SELECT min(due) FROM arrival WHERE due > ?1";
        let arrival = self.one(arrival, [now], |r| r.get::<_, Option<i64>>(0))?.flatten();
        let mut next = Vec::from_iter(arrival);
        for hook in hooks {
            for rank in RANKS {
                let sql = "SELECT due FROM job INDEXED BY job_hook \
                     WHERE hook = ?1 AND state = 'waiting' AND rank = ?2 AND due > ?3 ORDER BY due LIMIT 1";
                next.extend(self.one(sql, params![hook, rank, now], |r| r.get::<_, i64>(0))?);
            }
        }
        Ok(next.into_iter().min())
    }

    /// Makes a job, unless this version of the hook has one for this version of the file; one that came to nothing waits again. Those of
    /// what has just arrived, rank 0, go first. `at` is when it is due, and when the file arrived.
    ///
    /// # Errors
    /// If the store fails.
    pub fn add_job(
        &self,
        hook: &str,
        version: &str,
        ino: Ino,
        content: u64,
        path: &str,
        (due, now, rank): (i64, i64, i64),
    ) -> Result<bool> {
        let added = self.run(
            "INSERT INTO job (hook, version, ino, content, path, state, tries, due, arrived, changed, rank) \
             VALUES (?1, ?2, ?3, ?4, ?5, 'waiting', 0, ?8, ?6, ?6, ?7) ON CONFLICT (hook, version, ino, content) \
             DO UPDATE SET state = 'waiting', due = ?8 WHERE state = 'done' AND result IS NULL",
            params![hook, version, ino.0.cast_signed(), content.cast_signed(), path, now, rank, due],
        )?;
        Ok(added > 0)
    }

    /// Whether there is a job of this version of the hook for this version of the file.
    ///
    /// # Errors
    /// If the store fails.
    pub fn has_job(&self, hook: &str, version: &str, ino: Ino, content: u64) -> Result<bool> {
        let sql =
            "SELECT 1 FROM job WHERE hook = ?1 AND version = ?2 AND ino = ?3 AND content = ?4";
        let of = params![hook, version, ino.0.cast_signed(), content.cast_signed()];
        Ok(self.one(sql, of, |_| Ok(()))?.is_some())
    }

    /// Has a hook rest, whose jobs wait from here on, or go on.
    ///
    /// # Errors
    /// If the store fails.
    pub fn pause_hook(&self, hook: &str, paused: bool) -> Result<()> {
        let sql = match paused {
            true => "INSERT OR IGNORE INTO paused_hook VALUES (?1)",
            false => "DELETE FROM paused_hook WHERE hook = ?1",
        };
        self.run(sql, [hook])?;
        Ok(())
    }

    /// The hooks that rest.
    ///
    /// # Errors
    /// If the store fails.
    pub fn paused_hooks(&self) -> Result<Vec<String>> {
        self.all("SELECT hook FROM paused_hook", [], |r| r.get(0))
    }

    /// Stores where a job stands.
    ///
    /// # Errors
    /// If the store fails.
    pub fn put_job(&self, job: &Job) -> Result<()> {
        self.run(
            "UPDATE job SET state = ?2, tries = ?3, due = ?4, changed = ?5, error = ?6, result = ?7, version = ?8 \
             WHERE id = ?1",
            params![
                job.id.0,
                job.state.as_str(),
                job.tries,
                job.due,
                job.changed,
                job.error,
                job.result,
                job.version
            ],
        )?;
        Ok(())
    }

    /// Waiting jobs of one of `hooks` that are due at `now`, at most `count`: the oldest of the first rank first.
    ///
    /// # Errors
    /// If the store fails.
    pub fn due_jobs(&self, hooks: &[String], now: i64, count: usize) -> Result<Vec<Job>> {
        let mut due = Vec::new();
        // What waits for other hooks, and may be a lot, is passed over without a look.
        for hook in hooks {
            for rank in RANKS {
                let sql = "SELECT * FROM job INDEXED BY job_hook \
                     WHERE hook = ?1 AND state = 'waiting' AND rank = ?2 AND due <= ?3 ORDER BY due LIMIT ?4";
                let found = self.all(sql, params![hook, rank, now, limit(count)], job)?;
                due.extend(found.into_iter().map(|job| (rank, job)));
            }
        }
        due.sort_by_key(|(rank, job)| (*rank, job.due, job.id));
        Ok(due.into_iter().map(|(_, job)| job).take(count).collect())
    }

    /// Has jobs wait no longer that no hook of `hooks` will ever do: they are done, without a result. Tells how many.
    ///
    /// # Errors
    /// If the store fails.
    pub fn end_jobs_but_of(&self, hooks: &[String], why: &str, now: i64) -> Result<usize> {
        let hooks = serde_json::Value::from(hooks).to_string();
        let sql = "UPDATE job SET state = 'done', error = ?2, changed = ?3 \
             WHERE state = 'waiting' AND hook NOT IN (SELECT value FROM json_each(?1))";
        self.run(sql, params![hooks, why, now])
    }

    /// Jobs of one hook or of all, of one state or of all, the newest first.
    ///
    /// # Errors
    /// If the store fails.
    pub fn jobs(
        &self,
        hook: Option<&str>,
        state: Option<JobState>,
        count: usize,
    ) -> Result<Vec<Job>> {
        let sql = "SELECT * FROM job WHERE (?1 IS NULL OR hook = ?1) AND (?2 IS NULL OR state = ?2) ORDER BY id DESC LIMIT ?3";
        self.all(sql, params![hook, state.map(JobState::as_str), limit(count)], job)
    }

    /// Jobs with a result, the newest of those before `id` first.
    ///
    /// # Errors
    /// If the store fails.
    pub fn results_before(&self, id: Option<JobId>, count: usize) -> Result<Vec<Job>> {
        let sql =
            "SELECT * FROM job WHERE id < ?1 AND result IS NOT NULL ORDER BY id DESC LIMIT ?2";
        self.all(sql, params![id.map_or(i64::MAX, |id| id.0), limit(count)], job)
    }

    /// What the job `id` said is true of version `content` of `ino`, which took the place of the one that it looked at, or is the same in
    /// another share.
    ///
    /// # Errors
    /// If the store fails.
    pub fn job_is_of(&self, id: JobId, (ino, content): (Ino, u64)) -> Result<()> {
        self.run(
            "UPDATE job SET ino = ?2, content = ?3 WHERE id = ?1",
            params![id.0, ino.0.cast_signed(), content.cast_signed()],
        )?;
        Ok(())
    }

    /// The job `id`.
    ///
    /// # Errors
    /// If the store fails.
    pub fn job(&self, id: JobId) -> Result<Option<Job>> {
        self.one("SELECT * FROM job WHERE id = ?1", [id.0], job)
    }

    /// All jobs of a file, the newest first.
    ///
    /// # Errors
    /// If the store fails.
    pub fn jobs_of(&self, ino: Ino) -> Result<Vec<Job>> {
        self.all("SELECT * FROM job WHERE ino = ?1 ORDER BY id DESC", [ino.0.cast_signed()], job)
    }

    /// How many jobs each hook has in each state.
    ///
    /// # Errors
    /// If the store fails.
    pub fn job_counts(&self) -> Result<Vec<(String, JobState, u64)>> {
        let sql = "SELECT hook, state, count(*) AS jobs FROM job GROUP BY hook, state";
        self.all(sql, [], |r| {
            let state = JobState::read(&r.get::<_, String>("state")?);
            Ok((r.get("hook")?, state, unsigned(r, "jobs")?))
        })
    }

    /// Arrivals that no job was made of yet.
    ///
    /// # Errors
    /// If the store fails.
    pub fn arrival_count(&self) -> Result<u64> {
        Ok(self.one("SELECT count(*) AS n FROM arrival", [], |r| unsigned(r, "n"))?.unwrap_or(0))
    }

    /// Inodes that hooks have still to look at, once for each look.
    ///
    /// # Errors
    /// If the store fails.
    pub fn unseen(&self) -> Result<Vec<Ino>> {
        let sql = "SELECT ino FROM arrival UNION ALL SELECT ino FROM job WHERE state IN ('waiting', 'running')";
        self.all(sql, [], |r| Ok(Ino(unsigned(r, 0)?)))
    }

    /// Lets jobs that ran when the daemon died wait again.
    ///
    /// # Errors
    /// If the store fails.
    pub fn requeue_running_jobs(&self) -> Result<usize> {
        self.run("UPDATE job SET state = 'waiting' WHERE state = 'running'", [])
    }

    /// Lets failed and parked jobs (one, or all of a hook, or all) wait again; tells how many.
    ///
    /// # Errors
    /// If the store fails.
    pub fn retry_jobs(&self, id: Option<JobId>, hook: Option<&str>, now: i64) -> Result<usize> {
        self.run(
            "UPDATE job SET state = 'waiting', tries = 0, due = ?3, changed = ?3 \
             WHERE state IN ('failed', 'parked') AND (?1 IS NULL OR id = ?1) AND (?2 IS NULL OR hook = ?2)",
            params![id.map(|i| i.0), hook, now],
        )
    }
}
