//! The tables and their version. What a column means is written down in `docs/formats.md`.

use std::path::Path;

use rusqlite::Connection;

use super::{MetaError, Result};

const FORMAT: i64 = 8;
const APPLICATION_ID: i64 = 0x6673_6431; // "fsd1"

const TABLES: &str = "
CREATE TABLE identity (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE share (
  id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, root INTEGER NOT NULL, url TEXT NOT NULL);
CREATE TABLE inode (
  ino INTEGER PRIMARY KEY AUTOINCREMENT, share INTEGER NOT NULL, kind INTEGER NOT NULL,
  perm INTEGER NOT NULL, uid INTEGER NOT NULL, gid INTEGER NOT NULL, size INTEGER NOT NULL,
  atime_s INTEGER NOT NULL, atime_n INTEGER NOT NULL,
  mtime_s INTEGER NOT NULL, mtime_n INTEGER NOT NULL,
  ctime_s INTEGER NOT NULL, ctime_n INTEGER NOT NULL,
  nlink INTEGER NOT NULL, target BLOB,
  content INTEGER NOT NULL, attrs INTEGER NOT NULL, backing INTEGER NOT NULL, attrs_known INTEGER NOT NULL,
  object_key TEXT, object_etag TEXT, object_content INTEGER, object_attrs INTEGER,
  rdev INTEGER NOT NULL DEFAULT 0);
CREATE UNIQUE INDEX inode_object ON inode (share, object_key) WHERE object_key IS NOT NULL;
CREATE INDEX inode_unlinked ON inode (ino) WHERE nlink = 0;
CREATE TABLE dentry (
  parent INTEGER NOT NULL, cookie INTEGER NOT NULL, name BLOB NOT NULL, ino INTEGER NOT NULL,
  PRIMARY KEY (parent, cookie, name)) WITHOUT ROWID;
CREATE INDEX dentry_ino ON dentry (ino);
CREATE TABLE xattr (
  ino INTEGER NOT NULL, name BLOB NOT NULL, value BLOB NOT NULL, PRIMARY KEY (ino, name)) WITHOUT ROWID;
CREATE TABLE writing (
  ino INTEGER PRIMARY KEY, size INTEGER NOT NULL, mtime_s INTEGER NOT NULL, mtime_n INTEGER NOT NULL,
  ctime_s INTEGER NOT NULL, ctime_n INTEGER NOT NULL, young INTEGER NOT NULL, published INTEGER);
CREATE TABLE presence (ino INTEGER PRIMARY KEY, blocks BLOB NOT NULL);
CREATE TABLE item (
  ino INTEGER PRIMARY KEY, share INTEGER NOT NULL, since INTEGER NOT NULL, due INTEGER NOT NULL,
  tries INTEGER NOT NULL, parked INTEGER NOT NULL, error TEXT,
  rank INTEGER NOT NULL DEFAULT 0, code TEXT);
CREATE INDEX item_due ON item (share, parked, due);
CREATE TABLE tombstone (
  share INTEGER NOT NULL, object_key TEXT NOT NULL, etag TEXT, ino INTEGER NOT NULL, due INTEGER NOT NULL,
  tries INTEGER NOT NULL, parked INTEGER NOT NULL, error TEXT, since INTEGER NOT NULL DEFAULT 0, code TEXT,
  PRIMARY KEY (share, object_key)) WITHOUT ROWID;
CREATE INDEX tombstone_due ON tombstone (share, parked, due);
CREATE TABLE attempt (
  share INTEGER NOT NULL, object_key TEXT NOT NULL, ino INTEGER NOT NULL, PRIMARY KEY (share, object_key, ino)) WITHOUT ROWID;
CREATE INDEX attempt_ino ON attempt (ino);
CREATE TABLE multipart (
  ino INTEGER PRIMARY KEY, share INTEGER NOT NULL, object_key TEXT NOT NULL, upload TEXT NOT NULL,
  content INTEGER NOT NULL, size INTEGER NOT NULL, part_bytes INTEGER NOT NULL);
CREATE TABLE part (ino INTEGER NOT NULL, number INTEGER NOT NULL, id TEXT NOT NULL, PRIMARY KEY (ino, number)) WITHOUT ROWID;
CREATE TABLE arrival (seq INTEGER PRIMARY KEY AUTOINCREMENT, ino INTEGER NOT NULL, content INTEGER NOT NULL, due INTEGER NOT NULL);
CREATE INDEX arrival_ino ON arrival (ino);
CREATE TABLE job (
  id INTEGER PRIMARY KEY AUTOINCREMENT, hook TEXT NOT NULL, version TEXT NOT NULL,
  ino INTEGER NOT NULL, content INTEGER NOT NULL, path TEXT NOT NULL, state TEXT NOT NULL,
  tries INTEGER NOT NULL, due INTEGER NOT NULL, arrived INTEGER NOT NULL, changed INTEGER NOT NULL, error TEXT, result TEXT,
  UNIQUE (hook, version, ino, content));
CREATE INDEX job_state ON job (state, due);
CREATE INDEX job_ino ON job (ino);
";

/// Hard links, since format 2.
const LINKS: &str = "
CREATE TABLE alias (ino INTEGER PRIMARY KEY, file INTEGER NOT NULL);
CREATE INDEX alias_file ON alias (file);
CREATE TABLE link (id TEXT PRIMARY KEY, ino INTEGER NOT NULL, content INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX link_ino ON link (ino);
";

/// Pins, since format 3.
const PINS: &str = "CREATE TABLE pin (share INTEGER NOT NULL, pattern TEXT NOT NULL, PRIMARY KEY (share, pattern)) WITHOUT ROWID;";

/// Rules about what both sides have, since format 4.
const SIDES: &str = "
CREATE TABLE conflict (
  id INTEGER PRIMARY KEY AUTOINCREMENT, share INTEGER NOT NULL, path BLOB NOT NULL, rule TEXT NOT NULL, at INTEGER NOT NULL,
  ino INTEGER, aside TEXT, size INTEGER NOT NULL, attrs TEXT NOT NULL, base TEXT,
  their_etag TEXT NOT NULL, their_size INTEGER NOT NULL, their_mtime INTEGER NOT NULL);
CREATE TABLE trash (
  share INTEGER NOT NULL, object_key TEXT NOT NULL, path TEXT NOT NULL, etag TEXT NOT NULL, size INTEGER NOT NULL,
  at INTEGER NOT NULL, PRIMARY KEY (share, object_key)) WITHOUT ROWID;
CREATE INDEX trash_at ON trash (share, at);
CREATE TABLE kept (
  share INTEGER NOT NULL, object_key TEXT NOT NULL, etag TEXT NOT NULL, PRIMARY KEY (share, object_key)) WITHOUT ROWID;
";

/// How the queue is ordered and held back, since format 4.
const QUEUE: &str = "
CREATE INDEX item_rank ON item (share, parked, rank);
CREATE TABLE paused (share INTEGER PRIMARY KEY);
CREATE TABLE spent (lane TEXT PRIMARY KEY, date TEXT NOT NULL, day INTEGER NOT NULL, month INTEGER NOT NULL) WITHOUT ROWID;
";

/// What went up and has no line in the file of receipts yet, since format 4.
const RECEIPTS: &str = "
CREATE TABLE receipt (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, share TEXT NOT NULL, path BLOB NOT NULL, object_key TEXT NOT NULL, size INTEGER,
  sha256 TEXT, etag TEXT NOT NULL, at INTEGER NOT NULL);
";

/// What was not stored before format 4: when a file was deleted, where an item stands, what kind of failure it was.
const COLUMNS: &str = "
ALTER TABLE tombstone ADD COLUMN since INTEGER NOT NULL DEFAULT 0;
UPDATE tombstone SET since = due;
ALTER TABLE tombstone ADD COLUMN code TEXT;
ALTER TABLE item ADD COLUMN rank INTEGER NOT NULL DEFAULT 0;
UPDATE item SET rank = since;
ALTER TABLE item ADD COLUMN code TEXT;
ALTER TABLE writing ADD COLUMN published INTEGER;
";

/// Checksums of what was uploaded, its parts, and uploads that are to be given up, since format 5.
const DIGESTS: &str = "
ALTER TABLE inode ADD COLUMN object_digest BLOB;
ALTER TABLE part ADD COLUMN digest BLOB;
CREATE TABLE abandoned (
  share INTEGER NOT NULL, object_key TEXT NOT NULL, upload TEXT NOT NULL,
  PRIMARY KEY (share, object_key, upload)) WITHOUT ROWID;
CREATE TABLE object_part (
  ino INTEGER NOT NULL, number INTEGER NOT NULL, id TEXT NOT NULL, digest BLOB NOT NULL, PRIMARY KEY (ino, number)) WITHOUT ROWID;
";

/// What gates have said, since format 6.
const GATES: &str = "
CREATE TABLE verdict (
  ino INTEGER NOT NULL, content INTEGER NOT NULL, hook TEXT NOT NULL, verdict TEXT NOT NULL, why TEXT NOT NULL, at INTEGER NOT NULL,
  PRIMARY KEY (ino, content, hook)) WITHOUT ROWID;
";

/// What hooks do first, and which ones rest, since format 7.
const HOOKS: &str = "
ALTER TABLE job ADD COLUMN rank INTEGER NOT NULL DEFAULT 0;
DROP INDEX job_state;
CREATE INDEX job_rank ON job (state, rank, due);
CREATE TABLE paused_hook (hook TEXT PRIMARY KEY) WITHOUT ROWID;
";

/// What happened and who was told of it, since format 8; an arrival that is looked at again is no news; what waits for a hook is found quickly.
const EVENTS: &str = "
CREATE TABLE event (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, kind TEXT NOT NULL, share TEXT NOT NULL, path TEXT NOT NULL,
  hook TEXT, data TEXT NOT NULL);
CREATE TABLE sink (name TEXT PRIMARY KEY, seq INTEGER NOT NULL, missed INTEGER NOT NULL) WITHOUT ROWID;
ALTER TABLE arrival ADD COLUMN again INTEGER NOT NULL DEFAULT 0;
CREATE INDEX job_hook ON job (hook, state, rank, due);
";

/// Devices: in format 1 there were none.
const RDEV: &str = "ALTER TABLE inode ADD COLUMN rdev INTEGER NOT NULL DEFAULT 0;";

pub(super) fn migrate(connection: &mut Connection, path: &Path) -> Result<()> {
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let steps: &[&str] = match found {
        FORMAT => return Ok(()),
        0 => &[TABLES, LINKS, PINS, SIDES, QUEUE, RECEIPTS, DIGESTS, GATES, HOOKS, EVENTS],
        1 => &[RDEV, LINKS, PINS, COLUMNS, SIDES, QUEUE, RECEIPTS, DIGESTS, GATES, HOOKS, EVENTS],
        2 => &[PINS, COLUMNS, SIDES, QUEUE, RECEIPTS, DIGESTS, GATES, HOOKS, EVENTS],
        3 => &[COLUMNS, SIDES, QUEUE, RECEIPTS, DIGESTS, GATES, HOOKS, EVENTS],
        4 => &[DIGESTS, GATES, HOOKS, EVENTS],
        5 => &[GATES, HOOKS, EVENTS],
        6 => &[HOOKS, EVENTS],
        7 => &[EVENTS],
        _ => return Err(MetaError::NewerFormat { path: path.to_owned(), found, known: FORMAT }),
    };
    let tx = connection.transaction()?;
    steps.iter().try_for_each(|step| tx.execute_batch(step))?;
    tx.pragma_update(None, "application_id", APPLICATION_ID)?;
    tx.pragma_update(None, "user_version", FORMAT)?;
    Ok(tx.commit()?)
}
