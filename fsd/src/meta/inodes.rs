//! Inodes, their extended attributes, the record of what is open for writing, and presence maps of dirty files.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use rusqlite::{OptionalExtension, Row, RowIndex, ToSql, params};

use super::{MetaError, Result, Tx};
use crate::types::{Attr, Digest, ETag, FileKind, Ino, Key, ShareId, Time};

/// Columns of the table `inode`.
pub(super) const COLUMNS: usize = 25;
/// Rows that one statement inserts when there are many: to begin and end one takes as long as a row.
const ROWS_AT_ONCE: usize = 32;
static INSERT_ONE: LazyLock<String> = LazyLock::new(|| insert_rows(1));
static INSERT_MANY: LazyLock<String> = LazyLock::new(|| insert_rows(ROWS_AT_ONCE));

fn insert_rows(rows: usize) -> String {
    let row = format!("({})", ["?"; COLUMNS].join(", "));
    format!("INSERT INTO inode VALUES {}", vec![row; rows].join(", "))
}

/// What the cloud has of an inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectRecord {
    /// The key; of a directory, that of its marker, which is also the prefix of what is below.
    pub key: Key,
    /// The version; none for a directory that has no marker.
    pub etag: Option<ETag>,
    /// The inode's content version that the object holds.
    pub content: u64,
    /// The inode's attribute version that the object's metadata holds.
    pub attrs: u64,
    /// What its content is, if that is known.
    pub digest: Option<Digest>,
}

impl ObjectRecord {
    /// That of a directory without a marker.
    #[must_use]
    pub fn implied(key: Key) -> Self {
        Self { key, etag: None, content: 0, attrs: 0, digest: None }
    }
}

/// An inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inode {
    /// Its number.
    pub ino: Ino,
    /// The share that it lives in.
    pub share: ShareId,
    /// Its attributes. While it is open for writing, the backing file knows size and times better.
    pub attr: Attr,
    /// A symbolic link's target; none until it was fetched.
    pub target: Option<Vec<u8>>,
    /// Counts changes of the content.
    pub content: u64,
    /// Counts changes of the attributes and extended attributes.
    pub attrs: u64,
    /// Which backing file is the current one: counts how often a new one was begun.
    pub backing: u64,
    /// False for what a listing showed, until the object's metadata was read.
    pub attrs_known: bool,
    /// What the cloud has of it.
    pub object: Option<ObjectRecord>,
}

impl Inode {
    /// Whether the cloud holds this very content. Attributes may still differ.
    #[must_use]
    pub fn is_uploaded(&self) -> bool {
        self.object.as_ref().is_some_and(|o| o.etag.is_some() && o.content == self.content)
    }

    /// Whether this is a directory that was made here, so that its names are known here; what others add comes with its next
    /// listing. One that came from the cloud has no content version.
    #[must_use]
    pub fn is_made_here(&self) -> bool {
        self.attr.kind == FileKind::Dir && self.content > 0
    }
}

/// An inode that is about to be made.
#[derive(Clone, Debug)]
pub struct NewInode {
    /// The share that it will live in.
    pub share: ShareId,
    /// Its attributes.
    pub attr: Attr,
    /// A symbolic link's target.
    pub target: Option<Vec<u8>>,
    /// See [`Inode::attrs_known`].
    pub attrs_known: bool,
    /// What the cloud has of it already.
    pub object: Option<ObjectRecord>,
    /// See [`Inode::backing`].
    pub backing: u64,
    /// See [`Inode::content`] and [`Inode::attrs`].
    pub version: u64,
}

impl NewInode {
    /// An inode that the cloud does not know.
    #[must_use]
    pub fn made_here(share: ShareId, attr: Attr) -> Self {
        let (target, object) = (None, None);
        Self { share, attr, target, attrs_known: true, object, backing: 0, version: 0 }
    }

    pub(super) fn with_number(self, ino: Ino) -> Inode {
        let Self { share, attr, target, attrs_known, object, backing, version } = self;
        Inode {
            ino,
            share,
            attr,
            target,
            content: version,
            attrs: version,
            backing,
            attrs_known,
            object,
        }
    }
}

/// A share as the store knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// Its number.
    pub id: ShareId,
    /// The inode of its root directory.
    pub root: Ino,
    /// Where its objects are; empty for a local share.
    pub url: String,
}

/// What tells whether a backing file changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Length in bytes.
    pub size: u64,
    /// `st_mtim`.
    pub mtime: Time,
    /// `st_ctim`.
    pub ctime: Time,
    /// The file was changed so shortly before that the next change may leave the same times: count it as changed.
    pub young: bool,
}

/// Proof that the cloud holds what a backing file holds, and that nobody waits for it: permission to evict it.
#[must_use = "without it the file stays"]
#[derive(Debug)]
pub struct Uploaded {
    ino: Ino,
    backing: u64,
}

impl Uploaded {
    /// The inode.
    #[must_use]
    pub fn ino(&self) -> Ino {
        self.ino
    }

    /// The backing file that may go.
    #[must_use]
    pub fn backing(&self) -> u64 {
        self.backing
    }
}

pub(super) fn unsigned(row: &Row<'_>, column: impl RowIndex) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(i64::cast_unsigned)
}

/// A number of rows, for SQL.
pub(super) fn limit(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn time(row: &Row<'_>, secs: usize) -> rusqlite::Result<Time> {
    Ok(Time { secs: row.get(secs)?, nanos: row.get(secs + 1)? })
}

fn kind_number(kind: FileKind) -> u8 {
    match kind {
        FileKind::File => 1,
        FileKind::Dir => 2,
        FileKind::Symlink => 3,
        FileKind::Fifo => 4,
        FileKind::Socket => 5,
        FileKind::CharDevice => 6,
        FileKind::BlockDevice => 7,
    }
}

pub(super) fn kind_of_number(number: u8) -> FileKind {
    match number {
        2 => FileKind::Dir,
        3 => FileKind::Symlink,
        4 => FileKind::Fifo,
        5 => FileKind::Socket,
        6 => FileKind::CharDevice,
        7 => FileKind::BlockDevice,
        _ => FileKind::File,
    }
}

/// Reads a row of `writing`.
fn stamp(row: &Row<'_>) -> rusqlite::Result<Stamp> {
    Ok(Stamp {
        size: unsigned(row, "size")?,
        mtime: time(row, 2)?,
        ctime: time(row, 4)?,
        young: row.get("young")?,
    })
}

/// Reads a row of the table in the order of its columns: to find each by its name takes longer than all else.
pub(super) fn inode(row: &Row<'_>) -> rusqlite::Result<Inode> {
    let object = match row.get::<_, Option<String>>(19)? {
        None => None,
        Some(key) => Some(ObjectRecord {
            key: Key::from_raw(key),
            etag: row.get::<_, Option<String>>(20)?.map(ETag),
            content: unsigned(row, 21)?,
            attrs: unsigned(row, 22)?,
            digest: row.get::<_, Option<Vec<u8>>>(24)?.and_then(|bytes| Digest::decode(&bytes)),
        }),
    };
    Ok(Inode {
        ino: Ino(unsigned(row, 0)?),
        share: ShareId(row.get(1)?),
        attr: Attr {
            kind: kind_of_number(row.get(2)?),
            perm: row.get(3)?,
            uid: row.get(4)?,
            gid: row.get(5)?,
            size: unsigned(row, 6)?,
            atime: time(row, 7)?,
            mtime: time(row, 9)?,
            ctime: time(row, 11)?,
            nlink: row.get(13)?,
            rdev: row.get(23)?,
        },
        target: row.get(14)?,
        content: unsigned(row, 15)?,
        attrs: unsigned(row, 16)?,
        backing: unsigned(row, 17)?,
        attrs_known: row.get(18)?,
        object,
    })
}

impl Tx<'_> {
    pub(super) fn one<T>(
        &self,
        sql: &str,
        params: impl rusqlite::Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>> {
        Ok(self.0.prepare_cached(sql)?.query_row(params, read).optional()?)
    }

    pub(super) fn all<T>(
        &self,
        sql: &str,
        params: impl rusqlite::Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        Ok(self.0.prepare_cached(sql)?.query_map(params, read)?.collect::<rusqlite::Result<_>>()?)
    }

    pub(super) fn run(&self, sql: &str, params: impl rusqlite::Params) -> Result<usize> {
        Ok(self.0.prepare_cached(sql)?.execute(params)?)
    }

    /// The name of this gateway in objects' metadata: `make` gives it at the first start.
    ///
    /// # Errors
    /// If the store fails.
    pub fn gateway(&self, make: impl FnOnce() -> String) -> Result<String> {
        let found =
            self.one("SELECT value FROM identity WHERE name = 'gateway'", [], |r| r.get(0))?;
        if let Some(name) = found {
            return Ok(name);
        }
        let name = make();
        self.run("INSERT INTO identity VALUES ('gateway', ?1)", [&name])?;
        Ok(name)
    }

    /// The share called `name`.
    ///
    /// # Errors
    /// If the store fails.
    pub fn share(&self, name: &str) -> Result<Option<Share>> {
        self.one("SELECT id, root, url FROM share WHERE name = ?1", [name], |r| {
            Ok(Share {
                id: ShareId(r.get("id")?),
                root: Ino(unsigned(r, "root")?),
                url: r.get("url")?,
            })
        })
    }

    /// The root directory of a share.
    ///
    /// # Errors
    /// If the store fails.
    pub fn root_of(&self, share: ShareId) -> Result<Option<Ino>> {
        self.one("SELECT root FROM share WHERE id = ?1", [share.0], |r| {
            Ok(Ino(unsigned(r, "root")?))
        })
    }

    /// Makes a share with its root directory.
    ///
    /// # Errors
    /// If the store fails.
    pub fn add_share(&self, name: &str, url: &str, root: Attr) -> Result<Share> {
        self.run("INSERT INTO share (name, root, url) VALUES (?1, 0, ?2)", params![name, url])?;
        let id = ShareId(u32::try_from(self.0.last_insert_rowid()).unwrap_or(u32::MAX));
        let key = ObjectRecord::implied(Key::from_raw(""));
        let object = (!url.is_empty()).then_some(key);
        let root = self.add_inode(&NewInode {
            share: id,
            attr: root,
            target: None,
            attrs_known: true,
            object,
            backing: 0,
            version: 0,
        })?;
        self.run("UPDATE share SET root = ?2 WHERE id = ?1", params![id.0, root.0.cast_signed()])?;
        Ok(Share { id, root, url: url.to_owned() })
    }

    /// The inode `ino`.
    ///
    /// # Errors
    /// If the store fails.
    pub fn inode(&self, ino: Ino) -> Result<Option<Inode>> {
        self.one("SELECT * FROM inode WHERE ino = ?1", [ino.0.cast_signed()], inode)
    }

    /// The youngest number that an inode has, or had.
    ///
    /// # Errors
    /// If the store fails.
    pub fn youngest_inode(&self) -> Result<Ino> {
        let sql = "SELECT seq FROM sqlite_sequence WHERE name = 'inode'";
        Ok(self.one(sql, [], |r| Ok(Ino(unsigned(r, 0)?)))?.unwrap_or(Ino(0)))
    }

    /// The inode whose object has `key`.
    ///
    /// # Errors
    /// If the store fails.
    pub fn inode_by_key(&self, share: ShareId, key: &Key) -> Result<Option<Inode>> {
        let sql = "SELECT * FROM inode WHERE share = ?1 AND object_key = ?2";
        self.one(sql, params![share.0, key.as_str()], inode)
    }

    /// The first inode that has an object below the directory `key` (which ends in `/`), whatever names say.
    ///
    /// # Errors
    /// If the store fails.
    pub fn inode_below(&self, share: ShareId, key: &Key) -> Result<Option<Inode>> {
        let sql = "SELECT * FROM inode WHERE share = ?1 AND object_key > ?2 AND object_key < ?3 \
             AND object_etag IS NOT NULL ORDER BY object_key LIMIT 1";
        self.one(sql, params![share.0, key.as_str(), key.end_of_dir()], inode)
    }

    /// Makes an inode; its number was never used before.
    ///
    /// # Errors
    /// If the store fails.
    pub fn add_inode(&self, new: &NewInode) -> Result<Ino> {
        self.insert_inodes(&INSERT_ONE, &[(None, new)])?;
        Ok(Ino(self.0.last_insert_rowid().cast_unsigned()))
    }

    /// Makes many inodes, with numbers that were never used before.
    ///
    /// # Errors
    /// If the store fails.
    pub(super) fn add_numbered(&self, rows: &[(Option<Ino>, &NewInode)]) -> Result<()> {
        let (many, rest) = rows.as_chunks::<ROWS_AT_ONCE>();
        many.iter().try_for_each(|rows| self.insert_inodes(&INSERT_MANY, rows))?;
        rest.iter().try_for_each(|row| self.insert_inodes(&INSERT_ONE, &[*row]))
    }

    /// Inserts rows of `inode` with `sql`, which has places for so many.
    fn insert_inodes(&self, sql: &str, rows: &[(Option<Ino>, &NewInode)]) -> Result<()> {
        let mut statement = self.0.prepare_cached(sql)?;
        let mut place = 0;
        for (ino, new) in rows {
            let NewInode { share, attr, target, attrs_known, object, backing, version } = new;
            let object = object.as_ref();
            let mut bind = |value: &dyn ToSql| {
                place += 1;
                statement.raw_bind_parameter(place, value)
            };
            bind(&ino.map(|ino| ino.0.cast_signed()))?;
            bind(&share.0)?;
            bind(&kind_number(attr.kind))?;
            bind(&attr.perm)?;
            bind(&attr.uid)?;
            bind(&attr.gid)?;
            bind(&attr.size.cast_signed())?;
            for time in [attr.atime, attr.mtime, attr.ctime] {
                bind(&time.secs)?;
                bind(&time.nanos)?;
            }
            bind(&attr.nlink)?;
            bind(target)?;
            bind(&version.cast_signed())?;
            bind(&version.cast_signed())?;
            bind(&backing.cast_signed())?;
            bind(attrs_known)?;
            bind(&object.map(|o| o.key.as_str()))?;
            bind(&object.and_then(|o| o.etag.as_ref()).map(|e| e.0.as_str()))?;
            bind(&object.map(|o| o.content.cast_signed()))?;
            bind(&object.map(|o| o.attrs.cast_signed()))?;
            bind(&attr.rdev)?;
            bind(&object.and_then(|o| o.digest).map(|digest| digest.encode()))?;
        }
        statement.raw_execute()?;
        Ok(())
    }

    /// Stores all of `inode` over what is there.
    ///
    /// # Errors
    /// If the store fails, or the inode is gone.
    pub fn put_inode(&self, inode: &Inode) -> Result<()> {
        let Inode { ino, share: _, attr, target, content, attrs, backing, attrs_known, object } =
            inode;
        let object = object.as_ref();
        let changed = self.run(
            "UPDATE inode SET kind = ?2, perm = ?3, uid = ?4, gid = ?5, size = ?6, atime_s = ?7, atime_n = ?8, \
             mtime_s = ?9, mtime_n = ?10, ctime_s = ?11, ctime_n = ?12, nlink = ?13, target = ?14, content = ?15, \
             attrs = ?16, backing = ?17, attrs_known = ?18, object_key = ?19, object_etag = ?20, \
             object_content = ?21, object_attrs = ?22, rdev = ?23, object_digest = ?24 WHERE ino = ?1",
            params![
                ino.0.cast_signed(),
                kind_number(attr.kind),
                attr.perm,
                attr.uid,
                attr.gid,
                attr.size.cast_signed(),
                attr.atime.secs,
                attr.atime.nanos,
                attr.mtime.secs,
                attr.mtime.nanos,
                attr.ctime.secs,
                attr.ctime.nanos,
                attr.nlink,
                target,
                content.cast_signed(),
                attrs.cast_signed(),
                backing.cast_signed(),
                attrs_known,
                object.map(|o| o.key.as_str()),
                object.and_then(|o| o.etag.as_ref()).map(|e| e.0.as_str()),
                object.map(|o| o.content.cast_signed()),
                object.map(|o| o.attrs.cast_signed()),
                attr.rdev,
                object.and_then(|o| o.digest).map(|digest| digest.encode()),
            ],
        )?;
        if changed == 0 {
            Err(MetaError::Damaged { ino: *ino, what: "it is gone" })
        } else {
            Ok(())
        }
    }

    /// Forgets an inode and all that hangs on it but its names.
    ///
    /// # Errors
    /// If the store fails.
    pub fn remove_inode(&self, ino: Ino) -> Result<()> {
        let number = [ino.0.cast_signed()];
        self.run("DELETE FROM inode WHERE ino = ?1", number)?;
        self.run("DELETE FROM xattr WHERE ino = ?1", number)?;
        self.run("DELETE FROM writing WHERE ino = ?1", number)?;
        self.run("DELETE FROM presence WHERE ino = ?1", number)?;
        self.run("DELETE FROM item WHERE ino = ?1", number)?;
        // What may be in the cloud of it is to be deleted, whoever removes it.
        self.run(
            "INSERT INTO tombstone SELECT share, object_key, NULL, ino, 0, 0, 0, NULL, 0, NULL FROM attempt WHERE ino = ?1 \
             ON CONFLICT (share, object_key) DO NOTHING",
            number,
        )?;
        self.run("DELETE FROM attempt WHERE ino = ?1", number)?;
        self.run("DELETE FROM arrival WHERE ino = ?1", number)?;
        self.run("DELETE FROM verdict WHERE ino = ?1", number)?;
        self.run("DELETE FROM alias WHERE ino = ?1", number)?;
        self.run("DELETE FROM link WHERE ino = ?1", number)?;
        self.forget_object_parts(ino)?;
        self.abandon_multipart(ino)?;
        Ok(())
    }

    /// Inodes without a name: left over by handles that a crash closed.
    ///
    /// # Errors
    /// If the store fails.
    pub fn unlinked(&self) -> Result<Vec<Ino>> {
        self.all("SELECT ino FROM inode WHERE nlink = 0", [], |r| Ok(Ino(unsigned(r, "ino")?)))
    }

    /// Numbers of all inodes with the backing file that each has now.
    ///
    /// # Errors
    /// If the store fails.
    pub fn backings(&self) -> Result<BTreeMap<Ino, u64>> {
        let read = |r: &Row<'_>| Ok((Ino(unsigned(r, "ino")?), unsigned(r, "backing")?));
        Ok(self
            .all("SELECT ino, backing FROM inode WHERE kind = 1 AND backing > 0", [], read)?
            .into_iter()
            .collect())
    }

    /// Permission to evict `ino`, if the cloud has all of it and nobody waits for it: not open for writing,
    /// no upload pending, no hook pending.
    ///
    /// # Errors
    /// If the store fails.
    pub fn uploaded(&self, ino: Ino) -> Result<Option<Uploaded>> {
        let Some(inode) = self.inode(ino)? else { return Ok(None) };
        let waits = self.one(
            "SELECT EXISTS (SELECT 1 FROM writing WHERE ino = ?1) OR EXISTS (SELECT 1 FROM item WHERE ino = ?1) \
             OR EXISTS (SELECT 1 FROM arrival WHERE ino = ?1) \
             OR EXISTS (SELECT 1 FROM job WHERE ino = ?1 AND state IN ('waiting', 'running'))",
            [ino.0.cast_signed()],
            |r| r.get::<_, bool>(0),
        )?;
        let free = waits == Some(false) && inode.is_uploaded();
        Ok(free.then_some(Uploaded { ino, backing: inode.backing }))
    }

    /// All extended attributes of `ino`.
    ///
    /// # Errors
    /// If the store fails.
    pub fn xattrs(&self, ino: Ino) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
        let read = |r: &Row<'_>| Ok((r.get(0)?, r.get(1)?));
        let sql = "SELECT name, value FROM xattr WHERE ino = ?1";
        Ok(self.all(sql, [ino.0.cast_signed()], read)?.into_iter().collect())
    }

    /// One extended attribute of `ino`.
    ///
    /// # Errors
    /// If the store fails.
    pub fn xattr(&self, ino: Ino, name: &[u8]) -> Result<Option<Vec<u8>>> {
        let sql = "SELECT value FROM xattr WHERE ino = ?1 AND name = ?2";
        self.one(sql, params![ino.0.cast_signed(), name], |r| r.get(0))
    }

    /// Sets an extended attribute, or removes it; tells whether it was there.
    ///
    /// # Errors
    /// If the store fails.
    pub fn set_xattr(&self, ino: Ino, name: &[u8], value: Option<&[u8]>) -> Result<bool> {
        let was_there = self.run(
            "DELETE FROM xattr WHERE ino = ?1 AND name = ?2",
            params![ino.0.cast_signed(), name],
        )? > 0;
        if let Some(value) = value {
            self.run(
                "INSERT INTO xattr VALUES (?1, ?2, ?3)",
                params![ino.0.cast_signed(), name, value],
            )?;
        }
        Ok(was_there)
    }

    /// Records that `ino` is open for writing and what its backing file was like before.
    ///
    /// # Errors
    /// If the store fails.
    pub fn begin_writing(&self, ino: Ino, stamp: &Stamp) -> Result<()> {
        let Stamp { size, mtime, ctime, young } = stamp;
        self.run(
            "INSERT OR REPLACE INTO writing VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, NULL)",
            params![
                ino.0.cast_signed(),
                size.cast_signed(),
                mtime.secs,
                mtime.nanos,
                ctime.secs,
                ctime.nanos,
                young
            ],
        )?;
        Ok(())
    }

    /// Ends the record of [`Tx::begin_writing`].
    ///
    /// # Errors
    /// If the store fails.
    pub fn end_writing(&self, ino: Ino) -> Result<()> {
        self.run("DELETE FROM writing WHERE ino = ?1", [ino.0.cast_signed()])?;
        Ok(())
    }

    /// Whether `ino` is open for writing.
    ///
    /// # Errors
    /// If the store fails.
    pub fn is_writing(&self, ino: Ino) -> Result<bool> {
        let found =
            self.one("SELECT 1 FROM writing WHERE ino = ?1", [ino.0.cast_signed()], |_| Ok(()))?;
        Ok(found.is_some())
    }

    /// Says that the version `content` of `ino`, which is open for writing, may go up as long as its backing file is as `stamp` says.
    ///
    /// # Errors
    /// If the store fails.
    pub fn publish(&self, ino: Ino, stamp: &Stamp, content: u64) -> Result<()> {
        self.begin_writing(ino, stamp)?;
        self.run(
            "UPDATE writing SET published = ?2 WHERE ino = ?1",
            params![ino.0.cast_signed(), content.cast_signed()],
        )?;
        Ok(())
    }

    /// Takes back what [`Tx::publish`] said: the file is written further.
    ///
    /// # Errors
    /// If the store fails.
    pub fn unpublish(&self, ino: Ino) -> Result<()> {
        self.run("UPDATE writing SET published = NULL WHERE ino = ?1", [ino.0.cast_signed()])?;
        Ok(())
    }

    /// Whether `ino` is open for writing and its version is not one that [`Tx::publish`] let go.
    ///
    /// # Errors
    /// If the store fails.
    pub fn is_unpublished(&self, ino: Ino) -> Result<bool> {
        let sql = "SELECT 1 FROM writing JOIN inode USING (ino) WHERE ino = ?1 AND published IS NOT inode.content";
        Ok(self.one(sql, [ino.0.cast_signed()], |_| Ok(()))?.is_some())
    }

    /// What the backing file was like before it was opened for writing, if it is open for writing.
    ///
    /// # Errors
    /// If the store fails.
    pub fn writing(&self, ino: Ino) -> Result<Option<Stamp>> {
        self.one("SELECT * FROM writing WHERE ino = ?1", [ino.0.cast_signed()], stamp)
    }

    /// Inodes of cloud shares that are open for writing and differ from the cloud by nothing else.
    ///
    /// # Errors
    /// If the store fails.
    pub fn only_written(&self) -> Result<Vec<Ino>> {
        let sql = "SELECT ino FROM writing JOIN inode USING (ino) JOIN share ON share.id = inode.share \
             WHERE share.url <> '' AND nlink > 0 AND ino NOT IN (SELECT ino FROM item)";
        self.all(sql, [], |r| Ok(Ino(unsigned(r, 0)?)))
    }

    /// All that was open for writing when the daemon stopped, with its stamp from before.
    ///
    /// # Errors
    /// If the store fails.
    pub fn all_writing(&self) -> Result<Vec<(Ino, Stamp)>> {
        self.all("SELECT * FROM writing", [], |r| Ok((Ino(unsigned(r, 0)?), stamp(r)?)))
    }

    /// The presence map of a dirty file that is partly here; none means that it is wholly here.
    ///
    /// # Errors
    /// If the store fails.
    pub fn presence(&self, ino: Ino) -> Result<Option<Vec<u8>>> {
        self.one("SELECT blocks FROM presence WHERE ino = ?1", [ino.0.cast_signed()], |r| r.get(0))
    }

    /// Stores or removes the presence map of a dirty file.
    ///
    /// # Errors
    /// If the store fails.
    pub fn set_presence(&self, ino: Ino, blocks: Option<&[u8]>) -> Result<()> {
        match blocks {
            None => self.run("DELETE FROM presence WHERE ino = ?1", [ino.0.cast_signed()])?,
            Some(blocks) => self.run(
                "INSERT OR REPLACE INTO presence VALUES (?1, ?2)",
                params![ino.0.cast_signed(), blocks],
            )?,
        };
        Ok(())
    }
}
