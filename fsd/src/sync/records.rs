//! The records that a plan depends on, read in one transaction; and what follows from them alone.

use super::plan::{Occupant, Step, Subject};
use crate::meta::{Inode, MetaError, ObjectRecord, Tx};
use crate::types::{FileKind, Ino, Key, ShareId, key_names_path, key_of_path, name_of_segment};

/// The key that `step` puts an object to which the file is not known to have.
pub(super) fn new_key<'s>(subject: &Subject, step: &'s Step) -> Option<&'s Key> {
    let Step::Put { key, .. } = step else { return None };
    let known = subject.inode.object.as_ref().filter(|object| object.etag.is_some());
    known.is_none_or(|object| object.key != *key).then_some(key)
}

/// All records that a plan for `ino` depends on; none if it is gone.
pub(super) fn subject(tx: &Tx<'_>, ino: Ino) -> Result<Option<(ShareId, Subject)>, MetaError> {
    let Some(mut inode) = tx.inode(ino)? else { return Ok(None) };
    let (share, file) = (inode.share, tx.file_of(ino)?);
    if file != ino {
        let Some(behind) = tx.inode(file)? else { return Ok(None) };
        inode = Inode { ino, object: inode.object, ..behind };
    }
    let path = tx.path(ino)?.filter(|_| inode.attr.nlink > 0);
    let dir = inode.attr.kind == FileKind::Dir;
    let wanted = path.as_ref().map(|path| key_of_path(names(path), dir));
    let at_home = match (&path, &inode.object) {
        (Some(path), Some(object)) => path.is_empty() || key_names_path(&object.key, names(path)),
        _ => false,
    };
    let (mut occupant, mut tombstone) = (None, None);
    if let Some(Ok(key)) = &wanted {
        occupant = occupant_of(tx, share, key, ino)?;
        if occupant.is_none() {
            occupant = occupant_on_the_way(tx, share, key, &inode)?;
        }
        tombstone = tx.tombstone(share, key)?.and_then(|t| t.etag);
        if tombstone.is_none() {
            tombstone = tx.kept_object(share, key)?;
        }
    }
    let (writing, above) = (tx.is_unpublished(file)?, moved_above(tx, ino)?);
    let subject = Subject { inode, file, wanted, at_home, writing, above, occupant, tombstone };
    Ok(Some((share, subject)))
}

/// The uppermost directory above `ino` whose record is of another name.
fn moved_above(tx: &Tx<'_>, ino: Ino) -> Result<Option<Ino>, MetaError> {
    let (mut above, mut path, mut at) = (Vec::new(), Vec::new(), ino);
    while let Some((parent, name)) = tx.a_name(at)? {
        above.push(parent);
        path.push(name);
        at = parent;
    }
    path.reverse();
    // The first one is the root, which has no name.
    for (depth, &dir) in above.iter().rev().enumerate().skip(1) {
        let object = tx.inode(dir)?.and_then(|dir| dir.object);
        if object.is_some_and(|object| !key_names_path(&object.key, names(&path[..depth]))) {
            return Ok(Some(dir));
        }
    }
    Ok(None)
}

fn names(path: &[Vec<u8>]) -> impl Iterator<Item = &[u8]> {
    path.iter().map(Vec::as_slice)
}

/// The keys that `step` touches.
pub(super) fn keys_of(subject: &Subject, step: &Step) -> Vec<Key> {
    let current = subject.inode.object.as_ref().map(|object| object.key.clone());
    let mut keys: Vec<Key> =
        current.into_iter().chain(subject.wanted.clone().and_then(Result::ok)).collect();
    if let Step::Aside { from, to, .. } = step {
        keys.extend([from.clone(), to.clone()]);
    }
    keys
}

fn occupant_of(
    tx: &Tx<'_>,
    share: ShareId,
    key: &Key,
    ino: Ino,
) -> Result<Option<Occupant>, MetaError> {
    let Some(other) = tx.inode_by_key(share, key)?.filter(|other| other.ino != ino) else {
        return Ok(None);
    };
    let dir = other.attr.kind == FileKind::Dir;
    let home = tx.path(other.ino)?.and_then(|path| key_of_path(names(&path), dir).ok());
    let can_go_home = match &home {
        Some(home) => tx.inode_by_key(share, home)?.is_none() && !is_dir_there(tx, share, home)?,
        None => false,
    };
    let etag = other.object.and_then(|object| object.etag);
    Ok(Some(Occupant {
        ino: other.ino,
        key: key.clone(),
        etag,
        kind: other.attr.kind,
        can_go_home,
    }))
}

/// Whether an object lies below the place of the file `key`.
fn is_dir_there(tx: &Tx<'_>, share: ShareId, key: &Key) -> Result<bool, MetaError> {
    let dir = Key::from_raw(format!("{key}/"));
    Ok(!key.is_dir() && tx.inode_below(share, &dir)?.is_some())
}

/// The file whose object, perhaps the subject's own, stands where a directory on the way to `key` has to be, or the other way
/// round: not every store can have both.
fn occupant_on_the_way(
    tx: &Tx<'_>,
    share: ShareId,
    key: &Key,
    inode: &Inode,
) -> Result<Option<Occupant>, MetaError> {
    let stands = |inode: Inode| match inode.object {
        Some(ObjectRecord { key, etag: etag @ Some(_), .. }) => {
            Some(Occupant { ino: inode.ino, key, etag, kind: inode.attr.kind, can_go_home: false })
        }
        Some(_) | None => None,
    };
    for (slash, _) in key.as_str().match_indices('/') {
        let above = Key::from_raw(&key.as_str()[..slash]);
        if let Some(occupant) = tx.inode_by_key(share, &above)?.and_then(stands) {
            return Ok(Some(occupant));
        }
    }
    let is_below = inode.object.as_ref().is_some_and(|object| object.key.is_below(key));
    if is_below {
        return Ok(stands(inode.clone()));
    }
    if key.is_dir() {
        return Ok(None);
    }
    let dir = Key::from_raw(format!("{key}/"));
    match tx.inode_below(share, &dir)?.and_then(|other| other.object) {
        Some(object) => occupant_of(tx, share, &object.key, inode.ino),
        None => Ok(None),
    }
}

/// Whether a file that differs has the name that `key` stands for: it will replace the object.
pub(super) fn is_wanted(tx: &Tx<'_>, share: ShareId, key: &Key) -> Result<bool, MetaError> {
    let Some(mut at) = tx.root_of(share)? else { return Ok(false) };
    for segment in key.as_str().trim_end_matches('/').split('/') {
        match tx.lookup(at, &name_of_segment(segment))? {
            Some(ino) => at = ino,
            None => return Ok(false),
        }
    }
    let is_dir = tx.inode(at)?.is_some_and(|inode| inode.attr.kind == FileKind::Dir);
    Ok(is_dir == key.is_dir() && tx.item(at)?.is_some_and(|item| !item.parked && !item.held))
}
