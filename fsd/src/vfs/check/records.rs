//! Names and records of the metadata store.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::{Result, Vfs, VfsError, Work};
use super::{Code, Finding};
use crate::events::Invalidation;
use crate::meta::{Inode, NewInode, StrayName, Tx};
use crate::types::{Attr, FileKind, Ino, Key, Time, chain, key_names_path};

/// Inodes whose names are looked for in one transaction.
const WINDOW: u64 = 50_000;
/// Where what has no name gets one, in the root of its share.
const LOST_AND_FOUND: &[u8] = b"lost+found";
const DIR_PERM: u32 = 0o700;

/// What became of a nameless inode.
enum Named {
    /// It has a name, or is gone, since.
    Never,
    /// The cloud has it: it is seen again by the name that it has there. The number of its backing file.
    Forgotten(u64),
    /// It has a name in this directory, which may be new.
    In(Ino),
}

impl Vfs {
    /// Looks at all names and records, wherever they belong to.
    pub(super) async fn check_records(self: &Arc<Self>, repair: bool, work: &Work) -> Result<()> {
        let youngest = self.meta.read(|tx| tx.youngest_inode())?.0;
        let mut anew = BTreeSet::new();
        for from in (0..=youngest).step_by(usize::try_from(WINDOW).unwrap_or(usize::MAX)) {
            let vfs = self.clone();
            let look = move || {
                vfs.meta.scan(|tx| -> Result<_> {
                    let numbers = from..from + WINDOW;
                    Ok((tx.stray_names(numbers.clone())?, tx.nameless(numbers)?))
                })
            };
            let (strays, nameless) = self.tasks.blocking(look).await??;
            for stray in strays {
                anew.extend(self.check_stray(stray, repair, work)?);
            }
            for ino in nameless {
                anew.extend(self.check_nameless(ino, repair, work)?);
            }
        }
        for dir in anew {
            if let Err(error) = self.ask_anew(dir).await {
                work.failed(|| format!("{}: {}", self.shown(dir), chain(&error)));
            }
        }
        for (table, ino) in self.meta.scan(|tx| tx.unknown_owners())? {
            if repair {
                self.meta.write(move |tx| tx.forget_owner(ino))?;
            }
            work.find(Finding {
                code: Code::UnknownOwner,
                at: format!("inode {ino}"),
                what: format!("it is not there, and there is a record of it in «{table}»"),
                repaired: repair,
            });
        }
        Ok(())
    }

    /// Lists a directory that lost a name which the store may have.
    async fn ask_anew(self: &Arc<Self>, dir: Ino) -> Result<()> {
        self.cache.unlist(dir);
        let dir = self.inode(dir)?;
        let merged = self.cache.relist(&dir, self.millis()).await?;
        self.announce(dir.share, merged);
        Ok(())
    }

    /// Returns directories that are to be listed anew.
    fn check_stray(&self, stray: StrayName, repair: bool, work: &Work) -> Result<Vec<Ino>> {
        let StrayName { parent, name, ino, has_parent } = stray;
        let shown = String::from_utf8_lossy(&name).into_owned();
        let (code, at, what) = match has_parent {
            true => (
                Code::StrayName,
                format!("{}/{shown}", self.shown(parent)),
                format!("it names inode {ino}, which is not there"),
            ),
            false => (
                Code::StrayParent,
                format!("{shown} (inode {ino})"),
                format!("its directory, inode {parent}, is not there"),
            ),
        };
        if repair {
            let lost = name.clone();
            self.meta.write(move |tx| tx.remove_entry(parent, &lost))?;
            self.announce_name(parent, &name);
        }
        work.find(Finding { code, at, what, repaired: repair });
        match (has_parent, repair) {
            (true, true) => Ok(vec![parent]),
            // What it named has no name any more, if it is there.
            (false, true) => self.check_nameless(ino, repair, work),
            (_, false) => Ok(Vec::new()),
        }
    }

    /// Returns directories that are to be listed anew.
    fn check_nameless(&self, ino: Ino, repair: bool, work: &Work) -> Result<Vec<Ino>> {
        let Some(inode) = self.meta.read(|tx| nameless(tx, ino))? else { return Ok(Vec::new()) };
        let anew = if repair { self.name_again(&inode)? } else { Vec::new() };
        work.find(Finding {
            code: Code::Nameless,
            at: format!("inode {ino}"),
            what: format!("a {:?} of {} bytes has no name", inode.attr.kind, inode.attr.size),
            repaired: repair,
        });
        Ok(anew)
    }

    fn name_again(&self, inode: &Inode) -> Result<Vec<Ino>> {
        let share = self.share(inode.share)?;
        let (ino, root) = (inode.ino, share.root);
        let (difference, now) = (self.difference(share), self.clock.wall());
        let named = self.meta.write(move |tx| -> Result<Named> {
            let Some(inode) = nameless(tx, ino)? else { return Ok(Named::Never) };
            if is_in_cloud(tx, &inode)? {
                tx.remove_alias(ino, now)?;
                tx.remove_inode(ino)?;
                return Ok(Named::Forgotten(inode.backing));
            }
            let dir = lost_and_found(tx, root, &inode, now)?;
            difference.note(tx, dir)?;
            tx.add_entry(dir, format!("#{ino}").as_bytes(), ino)?;
            if inode.attr.kind == FileKind::Dir {
                let mut above = tx.dir(dir)?;
                above.attr.nlink += 1;
                tx.put_inode(&above)?;
            }
            difference.note(tx, ino)?;
            Ok(Named::In(dir))
        })?;
        match named {
            Named::Never => {}
            Named::Forgotten(backing) => {
                if backing > 0 {
                    self.cache.forget(ino, backing);
                }
                return Ok(self.dir_of_object(inode)?.into_iter().collect());
            }
            Named::In(dir) => {
                self.announce_name(root, LOST_AND_FOUND);
                self.events.invalidate(&Invalidation::Inode { share: share.id, ino: dir });
                self.events.differs.notify_one();
            }
        }
        Ok(Vec::new())
    }

    /// The directory in which the object of `inode` is seen.
    fn dir_of_object(&self, inode: &Inode) -> Result<Option<Ino>> {
        let Some(object) = &inode.object else { return Ok(None) };
        let key = object.key.as_str().trim_end_matches('/');
        let above = key.rsplit_once('/').map_or(String::new(), |(above, _)| format!("{above}/"));
        let above = Key::from_raw(above);
        Ok(self.meta.read(|tx| tx.inode_by_key(inode.share, &above))?.map(|dir| dir.ino))
    }

    /// Looks at the record of what a name names, and at its backing file.
    pub(super) fn check_inode(&self, ino: Ino, repair: bool, work: &Work) -> Result<()> {
        let files = self.handles.files();
        let is_open = files.contains_key(&ino);
        let (inode, unqueued, links) = self.meta.scan(|tx| -> Result<_> {
            let inode = tx.inode(ino)?.ok_or(VfsError::NoEntry)?;
            let unqueued = self.unqueued(tx, &inode)?;
            let is_alias = tx.file_of(ino)? != ino;
            let links = tx.count_links(ino, inode.attr.kind == FileKind::Dir)?;
            let links = (!is_alias && links != inode.attr.nlink).then_some(links);
            Ok((inode, unqueued, links))
        })?;
        drop(files);
        if let Some(what) = unqueued {
            if repair {
                let difference = self.difference(self.share(inode.share)?);
                self.meta.write(move |tx| difference.note(tx, ino))?;
                self.events.differs.notify_one();
            }
            let (at, what) = (self.shown(ino), what.to_owned());
            work.find(Finding { code: Code::NotQueued, at, what, repaired: repair });
        }
        if let Some(links) = links {
            if repair {
                self.meta.write(move |tx| -> Result<()> {
                    let mut inode = tx.inode(ino)?.ok_or(VfsError::NoEntry)?;
                    inode.attr.nlink = tx.count_links(ino, inode.attr.kind == FileKind::Dir)?;
                    Ok(tx.put_inode(&inode)?)
                })?;
                self.events.invalidate(&Invalidation::Attributes { share: inode.share, ino });
            }
            let what = format!("it counts {} names, and has {links}", inode.attr.nlink);
            let at = self.shown(ino);
            work.find(Finding { code: Code::LinkCount, at, what, repaired: repair });
        }
        if inode.attr.kind == FileKind::File && !is_open {
            self.check_file(&inode, repair, work)?;
        }
        Ok(())
    }

    /// How `inode` differs from the cloud, if nothing says that it is to be uploaded.
    fn unqueued(&self, tx: &Tx<'_>, inode: &Inode) -> Result<Option<&'static str>> {
        let share = self.share(inode.share)?;
        let ino = inode.ino;
        let file = tx.file_of(ino)?;
        if share.local || ino == share.root || tx.item(ino)?.is_some() || tx.is_writing(file)? {
            return Ok(None);
        }
        let Some(path) = tx.path(ino)? else { return Ok(None) };
        let Some(of) = tx.inode(file)? else { return Ok(None) };
        let is_dir = inode.attr.kind == FileKind::Dir;
        let Some(object) = &inode.object else { return Ok(Some("the store does not have it")) };
        let differs = if !is_dir && (object.etag.is_none() || object.content != of.content) {
            Some("the store has other content")
        } else if object.attrs != of.attrs {
            Some("the store has other attributes")
        } else if !key_names_path(&object.key, path.iter().map(Vec::as_slice)) {
            Some("the store has it under another name")
        } else {
            None
        };
        Ok(differs)
    }
}

/// The inode, if it should have a name and has none.
fn nameless(tx: &Tx<'_>, ino: Ino) -> Result<Option<Inode>> {
    Ok(match tx.nameless(ino.0..ino.0 + 1)?.is_empty() {
        true => None,
        false => tx.inode(ino)?,
    })
}

/// Whether nothing of `inode` is lost with its record.
fn is_in_cloud(tx: &Tx<'_>, inode: &Inode) -> Result<bool> {
    let ino = inode.ino;
    let waits = tx.item(ino)?.is_some() || tx.is_writing(ino)?;
    let has_more = inode.attr.kind == FileKind::Dir && tx.has_entries(ino)?;
    let is_alias = tx.file_of(ino)? != ino;
    let is_known = match inode.attr.kind == FileKind::Dir {
        true => inode.object.is_some(),
        false => inode.is_uploaded() || is_alias,
    };
    Ok(is_known && !waits && !has_more && tx.aliases(ino)?.is_empty())
}

/// The directory for what has no name, made if it is not there.
fn lost_and_found(tx: &Tx<'_>, root: Ino, lost: &Inode, now: Time) -> Result<Ino> {
    let mut above = tx.dir(root)?;
    if let Some(there) = tx.lookup(root, LOST_AND_FOUND)? {
        let is_dir = tx.inode(there)?.is_some_and(|inode| inode.attr.kind == FileKind::Dir);
        return is_dir.then_some(there).ok_or(VfsError::Invalid(
            "a file called lost+found is where the directory for what has no name must be: rename it",
        ));
    }
    let owner = (above.attr.uid, above.attr.gid);
    let attr = Attr::new(FileKind::Dir, DIR_PERM, owner, now);
    let new = NewInode { version: 1, ..NewInode::made_here(lost.share, attr) };
    Ok(tx.create(&mut above, LOST_AND_FOUND, new, now)?.ino)
}
