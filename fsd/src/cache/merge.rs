//! What a look at the cloud means for our records: in one transaction, without any other look.

use std::collections::BTreeMap;

use super::Result;
use crate::meta::{Inode, NewInode, ObjectRecord, Tx};
use crate::remote::Object;
use crate::types::{
    Attr, Digest, FileKind, Ino, Key, PosixMeta, ShareId, Time, link, name_of_segment,
};

/// Below the root of a share: objects that stand aside while others move.
const RESERVED: &str = ".fsd";

/// Attributes of what carries none.
#[derive(Clone, Copy, Debug)]
pub struct Defaults {
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits of files.
    pub file_perm: u32,
    /// Permission bits of directories.
    pub dir_perm: u32,
}

/// What a look at the cloud changed here; the kernel must be told.
#[derive(Clone, Debug, Default)]
pub struct Merged {
    /// Inodes with new content or attributes, and directories with new names.
    pub inodes: Vec<Ino>,
    /// Directories that were listed for the first time: they have new names, of which nobody can know a part already.
    pub attributes: Vec<Ino>,
    /// Names that went. Those that came are none of them: the kernel believes in absence for a second only, and one that is in use by
    /// the time it is told to forget the name loses its working directory.
    pub names: Vec<(Ino, Vec<u8>)>,
    /// Directories that a whole listing did not show, and that stay since something is in them here.
    pub unseen: Vec<Ino>,
    /// Names that are a file here and a directory there, or the other way: they come when what is here has gone.
    pub taken: Vec<(Ino, Vec<u8>)>,
    /// How much it was.
    pub changes: Changes,
}

/// How many files and directories a look at the cloud changed here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Names that came.
    pub added: u64,
    /// Objects that are another version now.
    pub changed: u64,
    /// Names that went.
    pub gone: u64,
}

/// An inode whose object is not, or not any more, what its record says.
#[derive(Debug)]
pub(super) struct Doubt {
    pub(super) ino: Ino,
    pub(super) object: ObjectRecord,
    /// A whole listing did not show it.
    pub(super) unseen: bool,
}

/// What the cloud says of a doubt.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) doubt: Doubt,
    pub(super) object: Option<Object>,
    /// Something lies below it, so that it is a directory also without a marker.
    pub(super) has_more: bool,
    pub(super) defaults: Defaults,
}

/// Makes the record what the cloud's `answer` says, if it still is the one that was doubted. Returns also the backing file that
/// counts no more.
pub(super) fn take_over(tx: &Tx<'_>, answer: Answer, now: Time) -> Result<(Merged, Option<u64>)> {
    let Answer { doubt: Doubt { ino, object: doubted, unseen }, object, has_more, defaults } =
        answer;
    let mut merged = Merged::default();
    let Some(mut inode) = tx.inode(ino)? else { return Ok((merged, None)) };
    let untouched = inode.object.as_ref() == Some(&doubted)
        && tx.item(ino)?.is_none()
        && !tx.is_writing(tx.file_of(ino)?)?;
    if !untouched {
        return Ok((merged, None));
    }
    let Some(object) = object else { return gone(tx, inode, unseen && !has_more, has_more, now) };
    let same = doubted.etag.as_ref() == Some(&object.etag);
    if same && inode.attrs_known {
        return Ok((merged, None));
    }
    let backing = inode.backing;
    // Whoever changes the object under one of several names makes another file of it.
    if let Some(file) = tx.remove_alias(ino, now)? {
        merged.inodes.push(file.ino);
        merged.names.extend(tx.a_name(ino)?);
    }
    if !same {
        merged.names.extend(part(tx, &mut inode, now)?);
    }
    take_object(&mut inode, &object, !same, &defaults);
    tx.put_inode(&inode)?;
    for (name, value) in xattrs_of(&object) {
        tx.set_xattr(ino, &name, Some(&value))?;
    }
    if let Some(file) = link_again(tx, &inode, &object)? {
        merged.inodes.push(file);
        merged.names.extend(tx.a_name(ino)?);
    }
    merged.inodes.push(ino);
    merged.changes.changed += u64::from(!same);
    Ok((merged, (!same).then_some(backing)))
}

/// Makes the file `ino` what the cloud's `object` is, and lets what is here of it count no more, nor its item. Returns also the backing
/// file that it had.
pub(super) fn yield_to(
    tx: &Tx<'_>,
    ino: Ino,
    object: &Object,
    defaults: &Defaults,
    now: Time,
) -> Result<(Merged, Option<u64>)> {
    let mut merged = Merged::default();
    let Some(mut inode) = tx.inode(ino)? else { return Ok((merged, None)) };
    let (share, backing, before) = (inode.share, inode.backing, inode.object.take());
    if let Some(ObjectRecord { key, etag: Some(etag), .. }) = before
        && key != object.key
    {
        tx.bury(share, &key, Some(&etag), ino, now.millis())?;
    }
    tx.end_attempts(ino, share, Some(&object.key), now.millis())?;
    tx.abandon_multipart(ino)?;
    tx.set_presence(ino, None)?;
    tx.remove_item(ino)?;
    take_object(&mut inode, object, true, defaults);
    tx.put_inode(&inode)?;
    for name in tx.xattrs(ino)?.into_keys() {
        tx.set_xattr(ino, &name, None)?;
    }
    for (name, value) in xattrs_of(object) {
        tx.set_xattr(ino, &name, Some(&value))?;
    }
    merged.inodes.push(ino);
    merged.names.extend(tx.a_name(ino)?);
    Ok((merged, Some(backing)))
}

/// The object of `inode` is not there any more.
fn gone(
    tx: &Tx<'_>,
    mut inode: Inode,
    unseen: bool,
    has_more: bool,
    now: Time,
) -> Result<(Merged, Option<u64>)> {
    let mut merged = Merged::default();
    let Inode { ino, backing, .. } = inode;
    let is_dir = inode.attr.kind == FileKind::Dir;
    let has_marker = inode.object.as_ref().is_some_and(|object| object.etag.is_some());
    let has_entries = is_dir && tx.has_entries(ino)?;
    // A directory without a marker lives as long as something is in it, here or there.
    if is_dir && (has_more || has_entries || !has_marker && !unseen) {
        inode.attrs_known = true;
        tx.put_inode(&inode)?;
        merged.unseen.extend((unseen && has_entries).then_some(ino));
        return Ok((merged, None));
    }
    let name = tx.a_name(ino)?;
    merged.names.extend(name.clone());
    merged.changes.gone += u64::from(name.is_some());
    if let Some((parent, _)) = name
        && is_dir
        && let Some(mut above) = tx.inode(parent)?
    {
        above.attr.nlink = above.attr.nlink.saturating_sub(1);
        tx.put_inode(&above)?;
    }
    match tx.lose(ino, now)? {
        Some(file) => {
            merged.inodes.push(file.ino);
            Ok((merged, None))
        }
        None => Ok((merged, Some(backing))),
    }
}

impl Merged {
    pub(super) fn append(&mut self, mut other: Self) {
        self.inodes.append(&mut other.inodes);
        self.names.append(&mut other.names);
        self.attributes.append(&mut other.attributes);
        self.unseen.append(&mut other.unseen);
        self.taken.append(&mut other.taken);
        self.changes.add(other.changes);
    }
}

impl Changes {
    /// Counts `other` in.
    pub fn add(&mut self, other: Self) {
        let Self { added, changed, gone } = other;
        self.added += added;
        self.changed += changed;
        self.gone += gone;
    }
}

/// What a listing or a probe showed.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) key: Key,
    object: Option<Object>,
}

impl Found {
    pub(super) fn dir(key: Key, object: Option<Object>) -> Self {
        Self { key, object }
    }

    pub(super) fn object(object: Object) -> Self {
        Self { key: object.key.clone(), object: Some(object) }
    }
}

pub(super) enum Added {
    New,
    Doubtful(Doubt),
    Known,
    /// By what is of the other kind, a file or a directory.
    Taken,
}

impl Added {
    /// Whether what is here under the name of `key` is a file and not a directory, or the other way.
    pub(super) fn is_of_another_kind(&self, key: &Key) -> bool {
        match self {
            Self::Taken => true,
            Self::Doubtful(doubt) => doubt.object.key.is_dir() != key.is_dir(),
            Self::New | Self::Known => false,
        }
    }
}

/// Whether nothing is known of any key from the first to the last of `found`, nor of what lies below: the usual case of a first listing.
pub(super) fn is_untouched(tx: &Tx<'_>, share: ShareId, found: &[Found]) -> Result<bool> {
    let bare = || found.iter().map(|found| found.key.as_str().trim_end_matches('/'));
    let Some((first, last)) = bare().min().zip(bare().max()) else { return Ok(true) };
    Ok(!tx.is_known_between(share, &Key::from_raw(first), &Key::from_raw(last))?)
}

/// Parts what was found into what a listing shows of plain files, and all else.
pub(super) fn part_plain(found: Vec<Found>) -> (Vec<Found>, Vec<Found>) {
    found.into_iter().partition(|Found { key, object }| {
        !key.is_dir() && object.as_ref().is_some_and(|object| object.metadata.is_none())
    })
}

/// Adds plain files whose names are not taken; tells how many. They must be untouched: see [`is_untouched`].
pub(super) fn add_plain(
    tx: &Tx<'_>,
    parent: &Inode,
    plain: Vec<Found>,
    defaults: &Defaults,
    now: Time,
) -> Result<usize> {
    let named = plain.into_iter().filter_map(|Found { key, object }| {
        let name = name_in(parent, &key)?;
        Some((name, new_inode(parent.share, key, object.as_ref(), defaults, now)))
    });
    Ok(tx.add_files(parent.ino, &named.collect::<Vec<_>>())?)
}

/// Adds what was found, unless it is known. `untouched`: see [`is_untouched`].
pub(super) fn add_one(
    tx: &Tx<'_>,
    parent: &Inode,
    found: Found,
    untouched: bool,
    defaults: &Defaults,
    now: Time,
) -> Result<Added> {
    let Found { key, object } = found;
    let share = parent.share;
    if !untouched && let Some(known) = known_one(tx, share, &key, object.as_ref())? {
        return Ok(known);
    }
    let Some(name) = name_in(parent, &key) else { return Ok(Added::Known) };
    if let Some(ino) = tx.lookup(parent.ino, &name)? {
        let is_dir = tx.inode(ino)?.is_some_and(|known| known.attr.kind == FileKind::Dir);
        return Ok(if is_dir == key.is_dir() { Added::Known } else { Added::Taken });
    }
    if !untouched && tx.is_in_motion(share, &key)? {
        return Ok(Added::Known);
    }
    if !untouched && let Some(kept) = tx.kept_object(share, &key)? {
        // Its file was deleted here: it is shown again only if somebody changes it.
        if object.as_ref().is_none_or(|object| object.etag == kept) {
            return Ok(Added::Known);
        }
        tx.forget_kept(share, &key)?;
    }
    let new = new_inode(share, key, object.as_ref(), defaults, now);
    let ino = tx.add_inode(&new)?;
    for (name, value) in object.iter().flat_map(xattrs_of) {
        tx.set_xattr(ino, &name, Some(&value))?;
    }
    tx.add_entry(parent.ino, &name, ino)?;
    if let Some(object) = object.as_ref().filter(|object| object.metadata.is_some())
        && let Some(inode) = tx.inode(ino)?
    {
        link_again(tx, &inode, object)?;
    }
    if new.attr.kind == FileKind::Dir {
        let mut parent = tx.inode(parent.ino)?.unwrap_or_else(|| parent.clone());
        parent.attr.nlink += 1;
        tx.put_inode(&parent)?;
    }
    Ok(Added::New)
}

/// What is known of the object `key`, as a file or as a directory, beside what was found of it.
fn known_one(
    tx: &Tx<'_>,
    share: ShareId,
    key: &Key,
    object: Option<&Object>,
) -> Result<Option<Added>> {
    let as_dir = Key::from_raw(format!("{}/", key.as_str().trim_end_matches('/')));
    for known in [key, &as_dir] {
        if let Some(Inode { ino, object: Some(record), .. }) = tx.inode_by_key(share, known)? {
            let changed = object.is_some_and(|o| record.etag.as_ref() != Some(&o.etag));
            // A listing shows a directory's marker as a prefix, without a version.
            let doubtful = changed && !key.is_dir();
            return Ok(Some(if doubtful {
                Added::Doubtful(Doubt { ino, object: record, unseen: false })
            } else {
                Added::Known
            }));
        }
    }
    Ok(None)
}

/// Before `file` becomes what somebody else put under its own name: its further names go on with what they have in the cloud, as
/// files of their own. One whose upload is not done stays, since nobody else has what it was to be. Returns the names.
fn part(tx: &Tx<'_>, file: &mut Inode, now: Time) -> Result<Vec<(Ino, Vec<u8>)>> {
    let mut names = Vec::new();
    for ino in tx.aliases(file.ino)? {
        let Some(Inode { object: Some(object), .. }) = tx.inode(ino)? else { continue };
        let is_uploaded = object.etag.is_some() && object.content == file.content;
        if !is_uploaded || tx.item(ino)?.is_some() {
            tx.differs(ino, file.share, now.millis(), now.millis())?;
            continue;
        }
        tx.remove_alias(ino, now)?;
        for (name, value) in tx.xattrs(file.ino)? {
            tx.set_xattr(ino, &name, Some(&value))?;
        }
        let attr = Attr { nlink: 1, ..file.attr };
        let (content, attrs) = (object.content, object.attrs);
        let alone =
            Inode { ino, attr, content, attrs, backing: 0, object: Some(object), ..file.clone() };
        tx.put_inode(&alone)?;
        names.extend(tx.a_name(ino)?);
        file.attr.nlink -= 1;
    }
    Ok(names)
}

/// Makes `inode` a further name of a file that is known here, if its `object` says that it is one and nothing has changed since.
/// Returns the file.
fn link_again(tx: &Tx<'_>, inode: &Inode, object: &Object) -> Result<Option<Ino>> {
    let said = object.metadata.as_ref().and_then(|metadata| metadata.get(link::NAME));
    let Some(id) = said.and_then(|said| link::read(said, &object.key)) else { return Ok(None) };
    if inode.attr.kind == FileKind::Dir {
        return Ok(None);
    }
    match tx.linked(id)? {
        Some(file) if file.ino == inode.ino => Ok(None),
        Some(mut file)
            if file.share == inode.share
                && file.attr.kind == inode.attr.kind
                && file.attr.size == inode.attr.size
                && file.is_uploaded()
                && tx.aliases(inode.ino)?.is_empty() =>
        {
            // From here on the file's versions are counted.
            let mut alias = inode.clone();
            if let Some(object) = &mut alias.object {
                (object.content, object.attrs) = (file.content, file.attrs);
            }
            tx.put_inode(&alias)?;
            tx.add_alias(inode.ino, &mut file)?;
            Ok(Some(file.ino))
        }
        Some(_) => Ok(None),
        None => {
            tx.set_linked(id, inode)?;
            Ok(None)
        }
    }
}

/// The name that `key` gives to what lies directly in `parent`; none if a file tree can't have it.
pub(super) fn name_in(parent: &Inode, key: &Key) -> Option<Vec<u8>> {
    let prefix = parent.object.as_ref()?.key.as_str();
    let segment = key.as_str().strip_prefix(prefix)?.trim_end_matches('/');
    let name = name_of_segment(segment);
    let reserved = prefix.is_empty() && segment == RESERVED;
    let impossible = name.is_empty() || name == b"." || name == b".." || name.len() > 255;
    if impossible || segment.contains('/') || name.contains(&0) {
        tracing::warn!(%key, "an object has a key that no file name stands for: it is not shown");
        return None;
    }
    (!reserved).then_some(name)
}

fn new_inode(
    share: ShareId,
    key: Key,
    object: Option<&Object>,
    defaults: &Defaults,
    now: Time,
) -> NewInode {
    let mut inode = blank(share, key, defaults, now);
    if let Some(object) = object {
        take_object(&mut inode, object, false, defaults);
    }
    NewInode {
        attrs_known: inode.attrs_known,
        object: inode.object,
        ..NewInode::made_here(share, inode.attr)
    }
}

fn blank(share: ShareId, key: Key, defaults: &Defaults, now: Time) -> Inode {
    let (kind, perm) = match key.is_dir() {
        true => (FileKind::Dir, defaults.dir_perm),
        false => (FileKind::File, defaults.file_perm),
    };
    Inode {
        ino: Ino(0),
        share,
        attr: Attr::new(kind, perm, (defaults.uid, defaults.gid), now),
        target: None,
        content: 0,
        attrs: 0,
        backing: 0,
        attrs_known: false,
        object: Some(ObjectRecord::implied(key)),
    }
}

/// Makes `inode` what `object` is. `new_content`: what is here of the old content counts no more.
fn take_object(inode: &mut Inode, object: &Object, new_content: bool, defaults: &Defaults) {
    let attr = &mut inode.attr;
    if let Some(metadata) = &object.metadata {
        let posix = PosixMeta::read(metadata);
        let kind = if object.key.is_dir() { Some(FileKind::Dir) } else { posix.kind };
        attr.kind = kind.unwrap_or(FileKind::File);
        let default_perm =
            if attr.kind == FileKind::Dir { defaults.dir_perm } else { defaults.file_perm };
        attr.perm = posix.perm.unwrap_or(default_perm);
        attr.uid = posix.uid.unwrap_or(defaults.uid);
        attr.gid = posix.gid.unwrap_or(defaults.gid);
        attr.rdev = posix.rdev.unwrap_or(0);
        attr.mtime = posix.mtime.unwrap_or(object.modified);
        attr.ctime = posix.ctime.unwrap_or(object.modified);
        attr.atime = posix.atime.unwrap_or(attr.mtime);
        inode.attrs_known = true;
    } else {
        (attr.mtime, attr.ctime, attr.atime) = (object.modified, object.modified, object.modified);
        inode.attrs_known = false;
    }
    if attr.kind == FileKind::Dir {
        attr.nlink = attr.nlink.max(2);
    } else {
        attr.size = object.size;
    }
    if new_content && attr.kind != FileKind::Dir {
        inode.content += 1;
        inode.backing += 1;
        inode.target = None;
    }
    let bare = object.key.as_str().trim_end_matches('/');
    let key = if attr.kind == FileKind::Dir {
        Key::from_raw(format!("{bare}/"))
    } else {
        object.key.clone()
    };
    inode.object = Some(ObjectRecord {
        key,
        etag: Some(object.etag.clone()),
        content: inode.content,
        attrs: inode.attrs,
        digest: object.metadata.as_ref().and_then(Digest::read),
    });
}

fn xattrs_of(object: &Object) -> BTreeMap<Vec<u8>, Vec<u8>> {
    object.metadata.as_ref().map(|m| PosixMeta::read(m).xattrs).unwrap_or_default()
}
