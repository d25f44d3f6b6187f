//! Hard links: further names of a file. Each name has its own object, so each further name has an inode of its own that only the
//! cloud's side knows: an alias of the file. Names name aliases; whoever works with files asks for the file behind.

use rusqlite::params;

use super::inodes::unsigned;
use super::{Inode, NewInode, Result, TreeError, Tx};
use crate::types::{Attr, FileKind, Ino, Time};

/// Of so many names one may take the place of a file's own that is removed.
const ALIASES_LOOKED_AT_MAX: usize = 32;

/// A name that was taken away.
#[derive(Clone, Debug)]
pub struct Lost {
    /// The file that lost it, as it is now.
    pub file: Inode,
    /// An alias that stands for nothing any more; its object, if it has one, is to be deleted.
    pub alias: Option<Inode>,
}

impl Tx<'_> {
    /// The file that `ino` is an alias of; `ino` itself if it is none.
    ///
    /// # Errors
    /// If the store fails.
    pub fn file_of(&self, ino: Ino) -> Result<Ino> {
        let sql = "SELECT file FROM alias WHERE ino = ?1";
        let file = self.one(sql, [ino.0.cast_signed()], |r| Ok(Ino(unsigned(r, 0)?)))?;
        Ok(file.unwrap_or(ino))
    }

    /// The aliases of the file `ino`.
    ///
    /// # Errors
    /// If the store fails.
    pub fn aliases(&self, ino: Ino) -> Result<Vec<Ino>> {
        let sql = "SELECT ino FROM alias WHERE file = ?1 ORDER BY ino";
        self.all(sql, [ino.0.cast_signed()], |r| Ok(Ino(unsigned(r, 0)?)))
    }

    /// Gives the file `ino` a further name.
    ///
    /// # Errors
    /// [`TreeError::IsDir`], [`TreeError::Exists`]; [`TreeError::NoEntry`] if it has no name any more.
    pub fn link(&self, ino: Ino, to: (Ino, &[u8]), now: Time) -> Result<Inode, TreeError> {
        let mut file = self.inode(ino)?.ok_or(TreeError::NoEntry)?;
        if file.attr.kind == FileKind::Dir {
            return Err(TreeError::IsDir);
        }
        if file.attr.nlink == 0 {
            return Err(TreeError::NoEntry);
        }
        let new = NewInode::made_here(file.share, Attr { nlink: 1, ..file.attr });
        let alias = self.create(&mut self.dir(to.0)?, to.1, new, now)?;
        file.attr.ctime = now;
        file.attrs += 1;
        self.add_alias(alias.ino, &mut file)?;
        Ok(file)
    }

    /// Makes the inode `alias` one of `file`.
    ///
    /// # Errors
    /// If the store fails.
    pub fn add_alias(&self, alias: Ino, file: &mut Inode) -> Result<()> {
        let sql = "INSERT INTO alias VALUES (?1, ?2)";
        self.run(sql, params![alias.0.cast_signed(), file.ino.0.cast_signed()])?;
        file.attr.nlink += 1;
        self.put_inode(file)
    }

    /// Makes `alias` an inode like others again. Returns the file that has a name less now; none if it was no alias.
    ///
    /// # Errors
    /// If the store fails.
    pub fn remove_alias(&self, alias: Ino, now: Time) -> Result<Option<Inode>> {
        let file = self.file_of(alias)?;
        if file == alias {
            return Ok(None);
        }
        self.run("DELETE FROM alias WHERE ino = ?1", [alias.0.cast_signed()])?;
        let Some(mut file) = self.inode(file)? else { return Ok(None) };
        self.lose_name(&mut file, now)?;
        Ok(Some(file))
    }

    /// Takes the name `name` of `ino`, an alias perhaps, from `parent`; none if the inode is gone.
    ///
    /// # Errors
    /// If the store fails.
    pub fn take_name(&self, parent: Ino, name: &[u8], ino: Ino, now: Time) -> Result<Option<Lost>> {
        self.take(parent, name, ino, false, now)
    }

    /// The same, of a file whose own object may be gone.
    fn take(
        &self,
        parent: Ino,
        name: &[u8],
        ino: Ino,
        is_gone: bool,
        now: Time,
    ) -> Result<Option<Lost>> {
        self.remove_entry(parent, name)?;
        let Some(inode) = self.inode(ino)? else { return Ok(None) };
        if let Some(file) = self.remove_alias(ino, now)? {
            return Ok(Some(Lost { file, alias: Some(inode) }));
        }
        let mut file = inode;
        let alias = self.take_place(&mut file, is_gone)?;
        self.lose_name(&mut file, now)?;
        Ok(Some(Lost { file, alias }))
    }

    /// Takes a name from `ino`, whose object is gone from the cloud and its bytes with it. The inode goes with its last name; returns the
    /// file behind, if it has others: it goes on with what the cloud has of these.
    ///
    /// # Errors
    /// If the store fails.
    pub fn lose(&self, ino: Ino, now: Time) -> Result<Option<Inode>> {
        let lost = match self.a_name(ino)? {
            Some((parent, name)) => self.take(parent, &name, ino, true, now)?,
            None => None,
        };
        let Some(Lost { file, alias }) = lost.filter(|lost| lost.file.attr.nlink > 0) else {
            self.remove_inode(ino)?;
            return Ok(None);
        };
        if let Some(alias) = alias {
            self.remove_inode(alias.ino)?;
        }
        self.differs(file.ino, file.share, now.millis(), now.millis())?;
        Ok(Some(file))
    }

    /// Puts `file` in the place of one of its aliases, which stands for nothing then. It takes over an object that holds the same;
    /// else its own has to be moved there. If that is gone, also one that is on its way elsewhere is taken over.
    fn take_place(&self, file: &mut Inode, is_gone: bool) -> Result<Option<Inode>> {
        let holds = |inode: &Inode| inode.object.as_ref().map(|o| (o.content, o.etag.is_some()));
        let mut found: Option<(Inode, bool)> = None;
        for ino in self.aliases(file.ino)?.into_iter().take(ALIASES_LOOKED_AT_MAX) {
            let Some(alias) = self.inode(ino)? else { continue };
            let same = holds(&alias).is_some_and(|(_, there)| there)
                && holds(&alias) == holds(file)
                && (is_gone || self.item(ino)?.is_none());
            if same || found.is_none() {
                found = Some((alias, same));
            }
            if same {
                break;
            }
        }
        let Some((mut alias, same)) = found else { return Ok(None) };
        let numbers = params![alias.ino.0.cast_signed(), file.ino.0.cast_signed()];
        self.run("DELETE FROM alias WHERE ino = ?1", [alias.ino.0.cast_signed()])?;
        self.run("UPDATE dentry SET ino = ?2 WHERE ino = ?1", numbers)?;
        if same {
            // Two inodes never have the same object, not even for a moment.
            let object = alias.object.take();
            self.put_inode(&alias)?;
            alias.object = std::mem::replace(&mut file.object, object);
            self.put_inode(file)?;
            self.put_inode(&alias)?;
        }
        Ok(Some(alias))
    }

    /// The file that this gateway knows by the link identity `id`, if it still holds what it held then.
    ///
    /// # Errors
    /// If the store fails.
    pub fn linked(&self, id: &str) -> Result<Option<Inode>> {
        let sql = "SELECT ino, content FROM link WHERE id = ?1";
        let read = |r: &rusqlite::Row<'_>| Ok((Ino(unsigned(r, 0)?), unsigned(r, 1)?));
        let Some((ino, content)) = self.one(sql, [id], read)? else { return Ok(None) };
        let file = self.inode(self.file_of(ino)?)?;
        Ok(file.filter(|file| file.content == content && file.attr.nlink > 0))
    }

    /// From now on the file `ino`, as it is, is known by the link identity `id`.
    ///
    /// # Errors
    /// If the store fails.
    pub fn set_linked(&self, id: &str, file: &Inode) -> Result<()> {
        self.run(
            "INSERT OR REPLACE INTO link VALUES (?1, ?2, ?3)",
            params![id, file.ino.0.cast_signed(), file.content.cast_signed()],
        )?;
        Ok(())
    }
}
