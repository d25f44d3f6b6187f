//! What happened, in order, and how far each sink has got. Times are milliseconds since 1970.
//!
//! Invariant: an event is stored in the transaction that makes it true. Who has read up to a number will not see a smaller one later:
//! there is one writer, and numbers grow.

use policies::event::{EventFilter, EventKind};
use rusqlite::{Row, params};

use super::inodes::{limit, unsigned};
use super::{Result, Tx};
use crate::types::{Ino, ShareId};

/// Something that happened to a file.
#[derive(Clone, Debug, PartialEq)]
pub struct LoggedEvent {
    /// Its number: each has a greater one than those before.
    pub seq: i64,
    /// When.
    pub at: i64,
    /// What.
    pub kind: EventKind,
    /// The share's name.
    pub share: String,
    /// The file's path in the share at that time, for people to read.
    pub path: String,
    /// The hook, if it was one.
    pub hook: Option<String>,
    /// What there is to say: a JSON object.
    pub data: String,
}

impl LoggedEvent {
    /// Whether `filter` means it.
    #[must_use]
    pub fn is_meant_by(&self, filter: &EventFilter) -> bool {
        filter.takes(self.kind, &self.share, self.hook.as_deref())
    }
}

/// How far a sink has got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SinkPlace {
    /// The last event that it has taken, or does not want.
    pub seq: i64,
    /// Events that were dropped before it could take them.
    pub missed: u64,
}

fn event(row: &Row<'_>) -> rusqlite::Result<Option<LoggedEvent>> {
    // What a newer fsd logged means nothing to this one.
    let Ok(kind) = row.get::<_, String>("kind")?.parse() else { return Ok(None) };
    Ok(Some(LoggedEvent {
        seq: row.get("seq")?,
        at: row.get("at")?,
        kind,
        share: row.get("share")?,
        path: row.get("path")?,
        hook: row.get("hook")?,
        data: row.get("data")?,
    }))
}

impl Tx<'_> {
    /// Logs what happened to a file of `share` at `path`.
    ///
    /// # Errors
    /// If the store fails.
    pub fn log_event(
        &self,
        kind: EventKind,
        (share, path): (ShareId, &str),
        hook: Option<&str>,
        data: &serde_json::Value,
        at: i64,
    ) -> Result<()> {
        self.run(
            "INSERT INTO event SELECT NULL, ?1, ?2, name, ?3, ?4, ?5 FROM share WHERE id = ?6",
            params![at, kind.as_str(), path, hook, data.to_string(), share.0],
        )?;
        Ok(())
    }

    /// Logs what happened to the file `ino`, under its first name.
    ///
    /// # Errors
    /// If the store fails.
    pub fn log_event_of(
        &self,
        kind: EventKind,
        ino: Ino,
        hook: Option<&str>,
        data: &serde_json::Value,
        at: i64,
    ) -> Result<()> {
        let Some(inode) = self.inode(ino)? else { return Ok(()) };
        let names = self.path(ino)?.unwrap_or_default();
        let path = String::from_utf8_lossy(&names.join(&b'/')).into_owned();
        self.log_event(kind, (inode.share, &path), hook, data, at)
    }

    /// The first `count` events behind the number `seq`, and the last number that was looked at.
    ///
    /// # Errors
    /// If the store fails.
    pub fn events_behind(&self, seq: i64, count: usize) -> Result<(Vec<LoggedEvent>, i64)> {
        let sql = "SELECT * FROM event WHERE seq > ?1 ORDER BY seq LIMIT ?2";
        self.some_events(sql, seq, count)
    }

    /// The last `count` events before the number `seq`, the latest first, and the last number that was looked at.
    ///
    /// # Errors
    /// If the store fails.
    pub fn events_before(&self, seq: i64, count: usize) -> Result<(Vec<LoggedEvent>, i64)> {
        let sql = "SELECT * FROM event WHERE seq < ?1 ORDER BY seq DESC LIMIT ?2";
        self.some_events(sql, seq, count)
    }

    fn some_events(&self, sql: &str, seq: i64, count: usize) -> Result<(Vec<LoggedEvent>, i64)> {
        let rows = self.all(sql, params![seq, limit(count)], |row| {
            Ok((row.get::<_, i64>("seq")?, event(row)?))
        })?;
        let last = rows.last().map_or(seq, |(seq, _)| *seq);
        Ok((rows.into_iter().filter_map(|(_, event)| event).collect(), last))
    }

    /// The numbers of the first event that is still there and of the last one that ever was.
    ///
    /// # Errors
    /// If the store fails.
    pub fn event_range(&self) -> Result<(i64, i64)> {
        let last = "SELECT seq FROM sqlite_sequence WHERE name = 'event'";
        let last = self.one(last, [], |r| r.get(0))?.unwrap_or(0);
        let first = self.one("SELECT min(seq) FROM event", [], |r| r.get::<_, Option<i64>>(0))?;
        Ok((first.flatten().unwrap_or(last + 1), last))
    }

    /// How far the sink `name` has got, if it is known.
    ///
    /// # Errors
    /// If the store fails.
    pub fn sink_place(&self, name: &str) -> Result<Option<SinkPlace>> {
        self.one("SELECT seq, missed FROM sink WHERE name = ?1", [name], |r| {
            Ok(SinkPlace { seq: r.get("seq")?, missed: unsigned(r, "missed")? })
        })
    }

    /// Stores how far the sink `name` has got.
    ///
    /// # Errors
    /// If the store fails.
    pub fn put_sink_place(&self, name: &str, place: SinkPlace) -> Result<()> {
        let SinkPlace { seq, missed } = place;
        self.run(
            "INSERT OR REPLACE INTO sink VALUES (?1, ?2, ?3)",
            params![name, seq, missed.cast_signed()],
        )?;
        Ok(())
    }

    /// Forgets sinks other than `names`.
    ///
    /// # Errors
    /// If the store fails.
    pub fn keep_sinks(&self, names: &[String]) -> Result<()> {
        let known = self.all("SELECT name FROM sink", [], |r| r.get::<_, String>(0))?;
        for name in known.iter().filter(|name| !names.contains(name)) {
            self.run("DELETE FROM sink WHERE name = ?1", [name])?;
        }
        Ok(())
    }

    /// Forgets at most `count` events from before `before` up to the number `seq`; tells how many.
    ///
    /// # Errors
    /// If the store fails.
    pub fn forget_events(&self, before: i64, seq: i64, count: usize) -> Result<usize> {
        let sql = "DELETE FROM event WHERE seq IN \
             (SELECT seq FROM event WHERE seq <= ?2 AND at < ?1 ORDER BY seq LIMIT ?3)";
        self.run(sql, params![before, seq, limit(count)])
    }
}
