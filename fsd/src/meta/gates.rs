//! What gates have said of versions of files. Times are milliseconds since 1970.

use policies::{EventKind, Verdict};
use rusqlite::{Row, params};
use serde_json::json;

use super::inodes::unsigned;
use super::{Result, Tx};
use crate::types::Ino;

/// A gate's word about a version of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The hook; empty for a person, whose word goes before any other.
    pub hook: String,
    /// What it said.
    pub verdict: Verdict,
    /// Why, for people to read.
    pub why: String,
    /// When.
    pub at: i64,
}

impl Said {
    /// What counts for the gate `hook` of what was said: a person's word, else its own.
    #[must_use]
    pub fn of<'a>(said: &'a [Self], hook: &str) -> Option<&'a Self> {
        let by = |hook: &str| said.iter().find(|said| said.hook == hook);
        by("").or_else(|| by(hook))
    }
}

fn said(row: &Row<'_>) -> rusqlite::Result<Said> {
    Ok(Said {
        hook: row.get("hook")?,
        // What can't be read holds the file back.
        verdict: row.get::<_, String>("verdict")?.parse().unwrap_or_default(),
        why: row.get("why")?,
        at: row.get("at")?,
    })
}

impl Tx<'_> {
    /// Stores what a gate says of version `content` of `ino`, in place of what it said before; what was said of earlier versions goes.
    ///
    /// # Errors
    /// If the store fails.
    pub fn put_said(&self, ino: Ino, content: u64, said: &Said) -> Result<()> {
        let number = ino.0.cast_signed();
        let sql = "DELETE FROM verdict WHERE ino = ?1 AND content < ?2";
        self.run(sql, params![number, content.cast_signed()])?;
        let Said { hook, verdict, why, at } = said;
        self.run(
            "INSERT OR REPLACE INTO verdict VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![number, content.cast_signed(), hook, verdict.to_string(), why, at],
        )?;
        let hook = Some(hook.as_str()).filter(|hook| !hook.is_empty());
        let data = json!({ "verdict": verdict.to_string(), "why": why });
        self.log_event_of(EventKind::Verdict, ino, hook, &data, *at)
    }

    /// What gates have said of version `content` of `ino`.
    ///
    /// # Errors
    /// If the store fails.
    pub fn said(&self, ino: Ino, content: u64) -> Result<Vec<Said>> {
        let sql = "SELECT * FROM verdict WHERE ino = ?1 AND content = ?2 ORDER BY hook";
        self.all(sql, params![ino.0.cast_signed(), content.cast_signed()], said)
    }

    /// Files whose versions some gate has still to speak about since before `before`, as far as jobs tell: of the hook, the file, its version.
    ///
    /// # Errors
    /// If the store fails.
    pub fn late_jobs(&self, hook: &str, before: i64) -> Result<Vec<(Ino, u64)>> {
        let sql = "SELECT ino, content FROM job WHERE hook = ?1 AND state IN ('waiting', 'running') AND arrived < ?2 \
             AND NOT EXISTS (SELECT 1 FROM verdict WHERE verdict.ino = job.ino AND verdict.content = job.content \
             AND verdict.hook = job.hook)";
        self.all(sql, params![hook, before], |r| Ok((Ino(unsigned(r, 0)?), unsigned(r, 1)?)))
    }

    /// Has the arrival of version `content` of `ino` looked at, unless it is about to be or a job of `hook` is under way.
    ///
    /// # Errors
    /// If the store fails.
    pub fn look_at_again(&self, ino: Ino, content: u64, hook: &str, now: i64) -> Result<bool> {
        let sql = "SELECT EXISTS (SELECT 1 FROM arrival WHERE ino = ?1) OR EXISTS \
             (SELECT 1 FROM job WHERE ino = ?1 AND content = ?2 AND hook = ?3 AND state IN ('waiting', 'running'))";
        let number = ino.0.cast_signed();
        let is_seen = self.one(sql, params![number, content.cast_signed(), hook], |r| r.get(0))?;
        if is_seen.unwrap_or(false) {
            return Ok(false);
        }
        self.arrived_before(ino, content, now)?;
        Ok(true)
    }

    /// The paths of all names of the file `ino`.
    ///
    /// # Errors
    /// If the store fails.
    pub fn all_paths(&self, ino: Ino) -> Result<Vec<Vec<Vec<u8>>>> {
        let mut paths = Vec::from_iter(self.path(ino)?);
        for alias in self.aliases(ino)? {
            paths.extend(self.path(alias)?);
        }
        Ok(paths)
    }
}
