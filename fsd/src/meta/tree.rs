//! Names: directory entries, and link, unlink and rename as changes of one transaction.

use rusqlite::{Row, params};

use super::inodes::{COLUMNS, inode, kind_of_number, limit, unsigned};
use super::{Inode, Lost, MetaError, NewInode, ObjectRecord, Result, Tx};
use crate::types::{FileKind, Ino, Time, fnv1a};

/// A directory entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dentry {
    /// The name.
    pub name: Vec<u8>,
    /// What it names.
    pub ino: Ino,
    /// Its place in the directory: a reader that saw it goes on behind it, whatever came or went meanwhile.
    pub cookie: u64,
}

/// A directory entry, of a reader who wants to know no more of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The entry; of a further name of a file, with that file's number.
    pub entry: Dentry,
    /// What kind of file it is.
    pub kind: FileKind,
    /// See [`Inode::attrs_known`].
    pub attrs_known: bool,
    /// Its length in bytes.
    pub size: u64,
}

/// Why a name could not be changed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TreeError {
    /// The store failed.
    #[error(transparent)]
    Meta(#[from] MetaError),
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
    /// A directory can't go below itself.
    #[error("a directory can't be moved below itself")]
    IntoItself,
}

/// What a rename took the place of.
#[derive(Clone, Debug)]
pub struct Replaced {
    /// The file that was moved, as it is now.
    pub moved: Inode,
    /// What lost its name.
    pub lost: Option<Lost>,
}

/// What names in a directory name and is not known without asking the cloud.
const UNKNOWN: &str = "FROM dentry d CROSS JOIN inode i ON i.ino = d.ino WHERE d.parent = ?1 \
     AND i.object_key IS NOT NULL AND (i.attrs_known = 0 OR i.kind = 3 AND i.target IS NULL)";

/// The place of `name` in any directory: FNV-1a, mixed, 62 bits, above the places of `.` and `..`.
#[must_use]
pub fn cookie_of_name(name: &[u8]) -> u64 {
    let mut hash = fnv1a(name.iter().copied());
    hash ^= hash >> 32;
    hash = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (hash >> 2).max(3)
}

fn dentry(row: &Row<'_>) -> rusqlite::Result<Dentry> {
    Ok(Dentry {
        name: row.get("name")?,
        ino: Ino(unsigned(row, "ino")?),
        cookie: unsigned(row, "cookie")?,
    })
}

impl Tx<'_> {
    /// What `name` names in `parent`.
    ///
    /// # Errors
    /// If the store fails.
    pub fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Option<Ino>> {
        let cookie = cookie_of_name(name).cast_signed();
        let sql = "SELECT ino FROM dentry WHERE parent = ?1 AND cookie = ?2 AND name = ?3";
        self.one(sql, params![parent.0.cast_signed(), cookie, name], |r| {
            Ok(Ino(unsigned(r, "ino")?))
        })
    }

    /// Up to `count` entries of `parent` behind the place `after`.
    ///
    /// # Errors
    /// If the store fails.
    pub fn entries(&self, parent: Ino, after: u64, count: usize) -> Result<Vec<Dentry>> {
        self.old_entries(parent, Ino(i64::MAX.cast_unsigned()), after, count)
    }

    /// As [`Tx::entries`], with the file that each one names.
    ///
    /// # Errors
    /// If the store fails.
    pub fn entries_and_files(
        &self,
        parent: Ino,
        after: u64,
        count: usize,
    ) -> Result<Vec<(Dentry, Inode)>> {
        let sql = "SELECT i.*, d.name, d.ino, d.cookie FROM dentry d CROSS JOIN inode i \
             ON i.ino = coalesce((SELECT file FROM alias a WHERE a.ino = d.ino), d.ino) \
             WHERE d.parent = ?1 AND d.cookie > ?2 ORDER BY d.cookie LIMIT ?3";
        self.all(sql, params![parent.0.cast_signed(), after.cast_signed(), limit(count)], |row| {
            let (name, ino) = (row.get(COLUMNS)?, Ino(unsigned(row, COLUMNS + 1)?));
            Ok((Dentry { name, ino, cookie: unsigned(row, COLUMNS + 2)? }, inode(row)?))
        })
    }

    /// As [`Tx::entries`], with what a reader of names alone wants to know of each file.
    ///
    /// # Errors
    /// If the store fails.
    pub fn entries_and_kinds(&self, parent: Ino, after: u64, count: usize) -> Result<Vec<Listed>> {
        let sql = "SELECT d.name, i.ino, d.cookie, i.kind, i.attrs_known, i.size FROM dentry d CROSS JOIN inode i \
             ON i.ino = coalesce((SELECT file FROM alias a WHERE a.ino = d.ino), d.ino) \
             WHERE d.parent = ?1 AND d.cookie > ?2 ORDER BY d.cookie LIMIT ?3";
        self.all(sql, params![parent.0.cast_signed(), after.cast_signed(), limit(count)], |row| {
            let entry = Dentry {
                name: row.get(0)?,
                ino: Ino(unsigned(row, 1)?),
                cookie: unsigned(row, 2)?,
            };
            let kind = kind_of_number(row.get(3)?);
            Ok(Listed { entry, kind, attrs_known: row.get(4)?, size: unsigned(row, 5)? })
        })
    }

    /// Entries of `parent` behind the place `after` that name inodes up to `youngest`, at most `count`.
    ///
    /// # Errors
    /// If the store fails.
    pub fn old_entries(
        &self,
        parent: Ino,
        youngest: Ino,
        after: u64,
        count: usize,
    ) -> Result<Vec<Dentry>> {
        let sql = "SELECT * FROM dentry WHERE parent = ?1 AND cookie > ?2 AND ino <= ?3 ORDER BY cookie LIMIT ?4";
        let (parent, after) = (parent.0.cast_signed(), after.cast_signed());
        self.all(sql, params![parent, after, youngest.0.cast_signed(), limit(count)], dentry)
    }

    /// Entries of `parent` that are among the next `count` names of inodes behind `after`, the lowest inode first.
    ///
    /// # Errors
    /// If the store fails.
    pub fn entries_by_ino(&self, parent: Ino, after: Ino, count: usize) -> Result<Vec<Dentry>> {
        let sql = "SELECT * FROM (SELECT * FROM dentry WHERE ino > ?2 ORDER BY ino LIMIT ?3) WHERE parent = ?1";
        self.all(sql, params![parent.0.cast_signed(), after.0.cast_signed(), limit(count)], dentry)
    }

    /// Up to `count` directories in `parent` behind the place `after`, each with its place.
    ///
    /// # Errors
    /// If the store fails.
    pub fn dirs_in(&self, parent: Ino, after: u64, count: usize) -> Result<Vec<(u64, Inode)>> {
        let sql = "SELECT i.*, d.cookie FROM dentry d CROSS JOIN inode i ON i.ino = d.ino \
             WHERE d.parent = ?1 AND d.cookie > ?2 AND i.kind = 2 ORDER BY d.cookie LIMIT ?3";
        let read = |row: &Row<'_>| Ok((unsigned(row, COLUMNS)?, inode(row)?));
        self.all(sql, params![parent.0.cast_signed(), after.cast_signed(), limit(count)], read)
    }

    /// Up to `count` inodes that names in `parent` behind the place `after` name and of which only the cloud knows attributes, or the
    /// target, each with its place.
    ///
    /// # Errors
    /// If the store fails.
    pub fn unknown_in(&self, parent: Ino, after: u64, count: usize) -> Result<Vec<(u64, Ino)>> {
        let sql = format!(
            "SELECT d.cookie, i.ino {UNKNOWN} AND d.cookie > ?2 ORDER BY d.cookie LIMIT ?3"
        );
        let read = |row: &Row<'_>| Ok((unsigned(row, 0)?, Ino(unsigned(row, 1)?)));
        self.all(&sql, params![parent.0.cast_signed(), after.cast_signed(), limit(count)], read)
    }

    /// How many there are of [`Tx::unknown_in`].
    ///
    /// # Errors
    /// If the store fails.
    pub fn count_unknown(&self, parent: Ino) -> Result<u64> {
        let sql = format!("SELECT count(*) {UNKNOWN}");
        Ok(self.one(&sql, [parent.0.cast_signed()], |row| unsigned(row, 0))?.unwrap_or(0))
    }

    /// Whether `parent` has any entry.
    ///
    /// # Errors
    /// If the store fails.
    pub fn has_entries(&self, parent: Ino) -> Result<bool> {
        Ok(!self.entries(parent, 0, 1)?.is_empty())
    }

    /// A directory and a name that `ino` has, if it has any.
    ///
    /// # Errors
    /// If the store fails.
    pub fn a_name(&self, ino: Ino) -> Result<Option<(Ino, Vec<u8>)>> {
        let sql = "SELECT parent, name FROM dentry WHERE ino = ?1 ORDER BY parent, name LIMIT 1";
        self.one(sql, [ino.0.cast_signed()], |r| Ok((Ino(unsigned(r, "parent")?), r.get("name")?)))
    }

    /// The names from the root of its share down to `ino`; none if it has no name any more.
    ///
    /// # Errors
    /// If the store fails.
    pub fn path(&self, ino: Ino) -> Result<Option<Vec<Vec<u8>>>> {
        let mut names = Vec::new();
        let mut at = ino;
        while let Some((parent, name)) = self.a_name(at)? {
            names.push(name);
            at = parent;
        }
        names.reverse();
        let is_root =
            self.one("SELECT 1 FROM share WHERE root = ?1", [at.0.cast_signed()], |_| Ok(()))?;
        Ok(is_root.map(|()| names))
    }

    /// What lies at the path `names` below `top`, if it is known here.
    ///
    /// # Errors
    /// If the store fails.
    pub fn at_path(&self, top: Ino, names: &[Vec<u8>]) -> Result<Option<Ino>> {
        let mut at = top;
        for name in names {
            match self.lookup(at, name)? {
                Some(ino) => at = self.file_of(ino)?,
                None => return Ok(None),
            }
        }
        Ok(Some(at))
    }

    /// Makes an inode with a name in a directory that [`Tx::dir`] gave.
    ///
    /// # Errors
    /// [`TreeError::Exists`] if the name is taken.
    pub fn create(
        &self,
        dir: &mut Inode,
        name: &[u8],
        new: NewInode,
        now: Time,
    ) -> Result<Inode, TreeError> {
        if self.lookup(dir.ino, name)?.is_some() {
            return Err(TreeError::Exists);
        }
        let ino = self.add_inode(&new)?;
        self.add_entry(dir.ino, name, ino)?;
        if new.attr.kind == FileKind::Dir {
            dir.attr.nlink += 1;
        }
        self.touch(dir, now)?;
        Ok(new.with_number(ino))
    }

    /// Takes the name `name` from `parent`. The file stays, with one name less.
    ///
    /// # Errors
    /// [`TreeError::IsDir`] or [`TreeError::NotDir`] if it is not of the kind asked for, [`TreeError::NotEmpty`].
    pub fn unlink(
        &self,
        parent: Ino,
        name: &[u8],
        dir: bool,
        now: Time,
    ) -> Result<Lost, TreeError> {
        let ino = self.lookup(parent, name)?.ok_or(TreeError::NoEntry)?;
        let inode = self.inode(ino)?.ok_or(TreeError::NoEntry)?;
        match (inode.attr.kind == FileKind::Dir, dir) {
            (true, false) => return Err(TreeError::IsDir),
            (false, true) => return Err(TreeError::NotDir),
            (true, true) if self.has_entries(ino)? => return Err(TreeError::NotEmpty),
            (true, true) | (false, false) => {}
        }
        let lost = self.take_name(parent, name, ino, now)?.ok_or(TreeError::NoEntry)?;
        let mut above = self.dir(parent)?;
        if dir {
            above.attr.nlink = above.attr.nlink.saturating_sub(1);
        }
        self.keep_when_empty(&mut above, now)?;
        self.touch(&mut above, now)?;
        Ok(lost)
    }

    /// A directory that the cloud shows only by what is in it stays when a user takes the last name from it: it gets a marker.
    fn keep_when_empty(&self, dir: &mut Inode, now: Time) -> Result<()> {
        let implied = |object: &ObjectRecord| object.etag.is_none() && object.key.is_dir();
        if dir.object.as_ref().is_some_and(implied) && !self.has_entries(dir.ino)? {
            dir.attrs += 1;
            self.put_inode(dir)?;
            self.differs(dir.ino, dir.share, now.millis(), now.millis())?;
        }
        Ok(())
    }

    /// Moves a name, over one that may be there already (unless `no_replace`).
    ///
    /// # Errors
    /// As POSIX `rename`: [`TreeError::IsDir`], [`TreeError::NotDir`], [`TreeError::NotEmpty`], [`TreeError::IntoItself`], …
    pub fn rename(
        &self,
        from: (Ino, &[u8]),
        to: (Ino, &[u8]),
        no_replace: bool,
        now: Time,
    ) -> Result<Replaced, TreeError> {
        let ino = self.lookup(from.0, from.1)?.ok_or(TreeError::NoEntry)?;
        let file = self.file_of(ino)?;
        let moved = self.inode(file)?.ok_or(TreeError::NoEntry)?;
        let is_dir = moved.attr.kind == FileKind::Dir;
        if is_dir && self.is_below(to.0, ino)? {
            return Err(TreeError::IntoItself);
        }
        let lost = match self.lookup(to.0, to.1)? {
            Some(_) if no_replace => return Err(TreeError::Exists),
            // Of one file, as POSIX has it, both names stay.
            Some(there) if self.file_of(there)? == file => {
                return Ok(Replaced { moved, lost: None });
            }
            Some(there) => {
                let there = self.inode(there)?.ok_or(TreeError::NoEntry)?;
                match (is_dir, there.attr.kind == FileKind::Dir) {
                    (true, false) => return Err(TreeError::NotDir),
                    (false, true) => return Err(TreeError::IsDir),
                    (true, true) | (false, false) => {}
                }
                Some(self.unlink(to.0, to.1, is_dir, now)?)
            }
            None => None,
        };
        self.remove_entry(from.0, from.1)?;
        self.add_entry(to.0, to.1, ino)?;
        let moved = self.moved(file, now)?;
        let mut old_dir = self.dir(from.0)?;
        old_dir.attr.nlink = old_dir.attr.nlink.saturating_sub(u32::from(is_dir));
        self.keep_when_empty(&mut old_dir, now)?;
        self.touch(&mut old_dir, now)?;
        let mut new_dir = self.dir(to.0)?;
        new_dir.attr.nlink += u32::from(is_dir);
        self.touch(&mut new_dir, now)?;
        Ok(Replaced { moved, lost })
    }

    /// Swaps what two names name.
    ///
    /// # Errors
    /// [`TreeError::NoEntry`] if one is not there, [`TreeError::IntoItself`] if a directory would come to lie below itself.
    pub fn exchange(
        &self,
        a: (Ino, &[u8]),
        b: (Ino, &[u8]),
        now: Time,
    ) -> Result<[Inode; 2], TreeError> {
        let find = |at: (Ino, &[u8])| -> Result<Inode, TreeError> {
            let ino = self.lookup(at.0, at.1)?.ok_or(TreeError::NoEntry)?;
            self.inode(ino)?.ok_or(TreeError::NoEntry)
        };
        let (at_a, at_b) = (find(a)?, find(b)?);
        if self.is_below(b.0, at_a.ino)? || self.is_below(a.0, at_b.ino)? {
            return Err(TreeError::IntoItself);
        }
        for (at, ino) in [(a, at_b.ino), (b, at_a.ino)] {
            self.remove_entry(at.0, at.1)?;
            self.add_entry(at.0, at.1, ino)?;
        }
        let a_is_dir = u32::from(at_a.attr.kind == FileKind::Dir);
        let b_is_dir = u32::from(at_b.attr.kind == FileKind::Dir);
        for (dir, lost, won) in [(a.0, a_is_dir, b_is_dir), (b.0, b_is_dir, a_is_dir)] {
            let mut dir = self.dir(dir)?;
            dir.attr.nlink = dir.attr.nlink + won - lost;
            self.touch(&mut dir, now)?;
        }
        let moved = |inode: &Inode| self.moved(self.file_of(inode.ino)?, now);
        Ok([moved(&at_a)?, moved(&at_b)?])
    }

    /// The file `ino`, one of whose names was moved.
    fn moved(&self, ino: Ino, now: Time) -> Result<Inode, TreeError> {
        let mut file = self.inode(ino)?.ok_or(TreeError::NoEntry)?;
        file.attr.ctime = now;
        self.put_inode(&file)?;
        Ok(file)
    }

    /// Adds a name for an inode without any other change.
    ///
    /// # Errors
    /// If the store fails, or the name is taken.
    pub fn add_entry(&self, parent: Ino, name: &[u8], ino: Ino) -> Result<()> {
        self.run(
            "INSERT INTO dentry VALUES (?1, ?2, ?3, ?4)",
            params![
                parent.0.cast_signed(),
                cookie_of_name(name).cast_signed(),
                name,
                ino.0.cast_signed()
            ],
        )?;
        Ok(())
    }

    /// Makes files with names in `parent`, a whole page of a listing at once; those whose name is taken are left out. Tells how many
    /// were not.
    ///
    /// # Errors
    /// If the store fails.
    pub fn add_files(&self, parent: Ino, files: &[(Vec<u8>, NewInode)]) -> Result<usize> {
        let first = self.youngest_inode()?.0 + 1;
        // In the order of their places, names that share a page of the database come one after the other.
        let mut places: Vec<_> = files
            .iter()
            .zip(first..)
            .map(|(file, ino)| (cookie_of_name(&file.0), ino, file))
            .collect();
        places.sort_unstable_by_key(|(cookie, ino, _)| (*cookie, *ino));
        let mut rows = Vec::with_capacity(files.len());
        for (cookie, ino, (name, new)) in places {
            let is_new = self.run(
                "INSERT OR IGNORE INTO dentry VALUES (?1, ?2, ?3, ?4)",
                params![parent.0.cast_signed(), cookie.cast_signed(), name, ino.cast_signed()],
            )? > 0;
            rows.extend(is_new.then_some((Some(Ino(ino)), new)));
        }
        rows.sort_unstable_by_key(|(ino, _)| *ino);
        self.add_numbered(&rows)?;
        Ok(rows.len())
    }

    /// Removes a name without any other change.
    ///
    /// # Errors
    /// If the store fails.
    pub fn remove_entry(&self, parent: Ino, name: &[u8]) -> Result<()> {
        let cookie = cookie_of_name(name).cast_signed();
        self.run(
            "DELETE FROM dentry WHERE parent = ?1 AND cookie = ?2 AND name = ?3",
            params![parent.0.cast_signed(), cookie, name],
        )?;
        Ok(())
    }

    /// The directory `ino`.
    ///
    /// # Errors
    /// [`TreeError::NotDir`], or [`TreeError::NoEntry`] if it is gone.
    pub fn dir(&self, ino: Ino) -> Result<Inode, TreeError> {
        match self.inode(ino)? {
            Some(inode) if inode.attr.kind != FileKind::Dir => Err(TreeError::NotDir),
            Some(inode) if inode.attr.nlink > 0 => Ok(inode),
            Some(_) | None => Err(TreeError::NoEntry),
        }
    }

    fn touch(&self, dir: &mut Inode, now: Time) -> Result<()> {
        dir.attr.mtime = now;
        dir.attr.ctime = now;
        let sql = "UPDATE inode SET nlink = ?2, mtime_s = ?3, mtime_n = ?4, ctime_s = ?3, ctime_n = ?4 WHERE ino = ?1";
        self.run(sql, params![dir.ino.0.cast_signed(), dir.attr.nlink, now.secs, now.nanos])?;
        Ok(())
    }

    pub(super) fn lose_name(&self, inode: &mut Inode, now: Time) -> Result<()> {
        let is_dir = inode.attr.kind == FileKind::Dir;
        inode.attr.nlink = if is_dir { 0 } else { inode.attr.nlink.saturating_sub(1) };
        inode.attr.ctime = now;
        self.put_inode(inode)
    }

    fn is_below(&self, ino: Ino, above: Ino) -> Result<bool> {
        let mut at = Some(ino);
        while let Some(here) = at {
            if here == above {
                return Ok(true);
            }
            at = self.a_name(here)?.map(|(parent, _)| parent);
        }
        Ok(false)
    }
}
