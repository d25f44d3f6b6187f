//! POSIX access control lists: acl(5). The kernel decides by them; what modes and lists mean to each other is kept here. They are
//! extended attributes, in the kernel's own format: version 2, then tag, permissions and id of each entry, little-endian.

use std::collections::BTreeMap;

use super::{Result, VfsError};
use crate::meta::{Inode, Tx};
use crate::types::{FileKind, Ino};

/// The list that decides.
pub(super) const ACCESS: &[u8] = b"system.posix_acl_access";
/// Of a directory: what is made in it begins with this list.
pub(super) const DEFAULT: &[u8] = b"system.posix_acl_default";

const VERSION: u32 = 2;

/// Who an entry is for, in the order in which entries stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Tag {
    Owner,
    User(u32),
    OwningGroup,
    Group(u32),
    Mask,
    Other,
}

impl Tag {
    fn read(tag: u16, id: u32) -> Option<Self> {
        Some(match tag {
            0x01 => Self::Owner,
            0x02 => Self::User(id),
            0x04 => Self::OwningGroup,
            0x08 => Self::Group(id),
            0x10 => Self::Mask,
            0x20 => Self::Other,
            _ => return None,
        })
    }

    fn write(self) -> (u16, u32) {
        const NO_ID: u32 = u32::MAX;
        match self {
            Self::Owner => (0x01, NO_ID),
            Self::User(id) => (0x02, id),
            Self::OwningGroup => (0x04, NO_ID),
            Self::Group(id) => (0x08, id),
            Self::Mask => (0x10, NO_ID),
            Self::Other => (0x20, NO_ID),
        }
    }
}

/// A list that is whole: it has an owner, a group, others, and a mask if it needs one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Acl(BTreeMap<Tag, u16>);

impl Acl {
    /// The list in an attribute; none if it is no such list.
    pub(super) fn read(value: &[u8]) -> Option<Self> {
        let (version, entries) = value.split_first_chunk::<4>()?;
        let (entries, []) = entries.as_chunks::<8>() else { return None };
        if u32::from_le_bytes(*version) != VERSION {
            return None;
        }
        let mut list = BTreeMap::new();
        for &[t0, t1, p0, p1, i0, i1, i2, i3] in entries {
            let id = u32::from_le_bytes([i0, i1, i2, i3]);
            let perm = u16::from_le_bytes([p0, p1]);
            let tag = Tag::read(u16::from_le_bytes([t0, t1]), id)?;
            if perm > 7 || list.insert(tag, perm).is_some() {
                return None;
            }
        }
        let has = |tag| list.contains_key(&tag);
        let named = list.keys().any(|tag| matches!(tag, Tag::User(_) | Tag::Group(_)));
        let whole = has(Tag::Owner) && has(Tag::OwningGroup) && has(Tag::Other);
        (whole && (!named || has(Tag::Mask))).then_some(Self(list))
    }

    pub(super) fn write(&self) -> Vec<u8> {
        let mut value = VERSION.to_le_bytes().to_vec();
        for (&tag, &perm) in &self.0 {
            let (tag, id) = tag.write();
            value.extend([tag.to_le_bytes(), perm.to_le_bytes()].concat());
            value.extend(id.to_le_bytes());
        }
        value
    }

    /// Whether permission bits alone say the same.
    fn is_mode(&self) -> bool {
        self.0.len() == 3
    }

    /// The entry that the group's permission bits stand for.
    fn group(&self) -> Tag {
        if self.0.contains_key(&Tag::Mask) { Tag::Mask } else { Tag::OwningGroup }
    }

    /// The entries that owner's, group's and others' bits stand for, each with how far its bits are shifted.
    fn classes(&self) -> [(Tag, u32); 3] {
        [(Tag::Owner, 6), (self.group(), 3), (Tag::Other, 0)]
    }

    /// The permission bits that stand for it, in place of the lower nine of `perm`.
    fn perm(&self, perm: u32) -> u32 {
        let bits = |(tag, shift)| self.0.get(&tag).map_or(0, |&bits| u32::from(bits) << shift);
        self.classes().into_iter().map(bits).fold(perm & !0o777, |all, bits| all | bits)
    }

    /// The list after `chmod`.
    fn with_perm(mut self, perm: u32) -> Self {
        for (tag, shift) in self.classes() {
            self.0.insert(tag, bits_of(perm, shift));
        }
        self
    }

    /// The list of what is made with the permissions `perm` in a directory with this default.
    fn inherited(mut self, perm: u32) -> Self {
        for (tag, shift) in self.classes() {
            self.0.entry(tag).and_modify(|bits| *bits &= bits_of(perm, shift));
        }
        self
    }
}

fn bits_of(perm: u32, shift: u32) -> u16 {
    u16::try_from(perm >> shift & 7).unwrap_or(0)
}

/// What something new gets of the default of its directory.
#[derive(Debug, Default)]
pub(super) struct Inherited {
    access: Option<Vec<u8>>,
    default: Option<Vec<u8>>,
}

impl Inherited {
    /// What is made in `dir` with the permissions `perm`: those that it really gets, and its lists. Without a default the umask counts.
    pub(super) fn of(
        tx: &Tx<'_>,
        dir: Ino,
        kind: FileKind,
        perm: u32,
        umask: u32,
    ) -> Result<(u32, Self)> {
        if kind == FileKind::Symlink {
            return Ok((perm, Self::default()));
        }
        let default = tx.xattr(dir, DEFAULT)?;
        let Some(acl) = default.as_deref().and_then(Acl::read) else {
            return Ok((perm & !umask, Self::default()));
        };
        let acl = acl.inherited(perm);
        let perm = acl.perm(perm);
        let access = (!acl.is_mode()).then(|| acl.write());
        let default = default.filter(|_| kind == FileKind::Dir);
        Ok((perm, Self { access, default }))
    }

    pub(super) fn store(&self, tx: &Tx<'_>, ino: Ino) -> Result<()> {
        for (name, value) in [(ACCESS, &self.access), (DEFAULT, &self.default)] {
            if let Some(value) = value {
                tx.set_xattr(ino, name, Some(value))?;
            }
        }
        Ok(())
    }
}

/// After `chmod`: the list says what the bits say.
pub(super) fn follow_perm(tx: &Tx<'_>, inode: &Inode) -> Result<()> {
    let value = tx.xattr(inode.ino, ACCESS)?;
    if let Some(acl) = value.as_deref().and_then(Acl::read) {
        tx.set_xattr(inode.ino, ACCESS, Some(&acl.with_perm(inode.attr.perm).write()))?;
    }
    Ok(())
}

/// What setting the list `name` to `value` means: what is stored of it, and the permission bits change with it.
///
/// # Errors
/// [`VfsError::Invalid`] if it is no list; a default is for directories only.
pub(super) fn set(inode: &mut Inode, name: &[u8], value: &[u8]) -> Result<Option<Vec<u8>>> {
    if name == DEFAULT && inode.attr.kind != FileKind::Dir {
        return Err(VfsError::Denied("only a directory has a default access control list"));
    }
    if inode.attr.kind == FileKind::Symlink {
        return Err(VfsError::Unsupported("an access control list of a symbolic link"));
    }
    // The kernel says so that a list is empty.
    if value.len() <= 4 {
        return Ok(None);
    }
    let acl = Acl::read(value).ok_or(VfsError::Invalid("not an access control list"))?;
    if name == DEFAULT {
        return Ok(Some(acl.write()));
    }
    inode.attr.perm = acl.perm(inode.attr.perm);
    Ok((!acl.is_mode()).then(|| acl.write()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn acl(entries: &[(Tag, u16)]) -> Acl {
        Acl(entries.iter().copied().collect())
    }

    const BASE: [(Tag, u16); 3] = [(Tag::Owner, 7), (Tag::OwningGroup, 5), (Tag::Other, 0)];

    #[test]
    fn bits_and_lists_say_the_same() {
        assert_eq!(acl(&BASE).perm(0o4777), 0o4750);
        let named = acl(&[BASE.as_slice(), &[(Tag::User(7), 6), (Tag::Mask, 6)]].concat());
        assert_eq!(named.perm(0), 0o760, "the mask stands for the group");
        let changed = named.clone().with_perm(0o640);
        assert_eq!((changed.perm(0), changed.0[&Tag::OwningGroup]), (0o640, 5));
        assert_eq!(named.inherited(0o644).perm(0), 0o640);
        assert_eq!(acl(&BASE).inherited(0o666).perm(0), 0o640);
    }

    #[test]
    fn what_is_no_list_is_refused() {
        let whole = acl(&BASE);
        assert_eq!(Acl::read(&whole.write()), Some(whole.clone()));
        let without_mask = acl(&[BASE.as_slice(), &[(Tag::Group(3), 1)]].concat());
        let without_owner = acl(&BASE[1..]);
        let mut twice = whole.write();
        twice.extend_from_within(4..12);
        let mut newer = whole.write();
        newer[0] = 3;
        for bad in [without_mask.write(), without_owner.write(), twice, newer, vec![2, 0], vec![]] {
            assert_eq!(Acl::read(&bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_break_it(value in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Some(acl) = Acl::read(&value) {
                prop_assert_eq!(Acl::read(&acl.write()), Some(acl));
            }
        }
    }
}
