//! The tables and their version. What a column means is written down in `docs/formats.md`.

use std::path::Path;

use rusqlite::Connection;

use super::{MetaError, Result};

const FORMAT: i64 = 4;
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
  ctime_s INTEGER NOT NULL, ctime_n INTEGER NOT NULL, young INTEGER NOT NULL);
CREATE TABLE presence (ino INTEGER PRIMARY KEY, blocks BLOB NOT NULL);
CREATE TABLE item (
  ino INTEGER PRIMARY KEY, share INTEGER NOT NULL, since INTEGER NOT NULL, due INTEGER NOT NULL,
  tries INTEGER NOT NULL, parked INTEGER NOT NULL, error TEXT);
CREATE INDEX item_due ON item (share, parked, due);
CREATE TABLE tombstone (
  share INTEGER NOT NULL, object_key TEXT NOT NULL, etag TEXT, ino INTEGER NOT NULL, due INTEGER NOT NULL,
  tries INTEGER NOT NULL, parked INTEGER NOT NULL, error TEXT, PRIMARY KEY (share, object_key)) WITHOUT ROWID;
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

/// Checksums of what was uploaded, its parts, and uploads that are to be given up, since format 4.
const DIGESTS: &str = "
ALTER TABLE inode ADD COLUMN object_digest BLOB;
ALTER TABLE part ADD COLUMN digest BLOB;
ALTER TABLE multipart ADD COLUMN begun INTEGER NOT NULL DEFAULT 0;
CREATE TABLE abandoned (
  share INTEGER NOT NULL, object_key TEXT NOT NULL, upload TEXT NOT NULL, begun INTEGER NOT NULL,
  PRIMARY KEY (share, object_key, upload, begun)) WITHOUT ROWID;
CREATE TABLE object_part (
  ino INTEGER NOT NULL, number INTEGER NOT NULL, id TEXT NOT NULL, digest BLOB NOT NULL, PRIMARY KEY (ino, number)) WITHOUT ROWID;
";

/// Devices: in format 1 there were none.
const RDEV: &str = "ALTER TABLE inode ADD COLUMN rdev INTEGER NOT NULL DEFAULT 0;";

pub(super) fn migrate(connection: &mut Connection, path: &Path) -> Result<()> {
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let steps: &[&str] = match found {
        FORMAT => return Ok(()),
        0 => &[TABLES, LINKS, PINS, DIGESTS],
        1 => &[RDEV, LINKS, PINS, DIGESTS],
        2 => &[PINS, DIGESTS],
        3 => &[DIGESTS],
        _ => return Err(MetaError::NewerFormat { path: path.to_owned(), found, known: FORMAT }),
    };
    let tx = connection.transaction()?;
    steps.iter().try_for_each(|step| tx.execute_batch(step))?;
    tx.pragma_update(None, "application_id", APPLICATION_ID)?;
    tx.pragma_update(None, "user_version", FORMAT)?;
    Ok(tx.commit()?)
}
