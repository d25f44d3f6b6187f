//! Extended attributes.

use super::{Difference, Result, Vfs, VfsError, acl, state};
use crate::meta::Tx;
use crate::types::{Ino, Time};

const NAME_BYTES_MAX: usize = 255;
/// The longest value; the kernel's limit, too.
pub const XATTR_BYTES_MAX: usize = 64 * 1024;
/// What there is beside access control lists; xattr(7).
const NAMESPACES: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];

/// Whether an attribute must be new, or must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XattrHow {
    /// Either.
    Any,
    /// It must be new.
    Create,
    /// It must be there.
    Replace,
}

impl Vfs {
    /// The value of an attribute.
    ///
    /// # Errors
    /// [`VfsError::NoAttribute`].
    pub fn xattr(&self, ino: Ino, name: &[u8]) -> Result<Vec<u8>> {
        check_namespace(name)?;
        if name == state::ATTRIBUTE {
            return self.state_words(ino);
        }
        self.meta.read(|tx| tx.xattr(ino, name))?.ok_or(VfsError::NoAttribute)
    }

    /// The names of all attributes.
    ///
    /// # Errors
    /// If the metadata store fails.
    pub fn xattr_names(&self, ino: Ino) -> Result<Vec<Vec<u8>>> {
        Ok(self.meta.read(|tx| tx.xattrs(ino))?.into_keys().collect())
    }

    /// Sets an attribute.
    ///
    /// # Errors
    /// [`VfsError::AttributeExists`] or [`VfsError::NoAttribute`] as `how` asks, [`VfsError::TooLarge`].
    pub fn set_xattr(&self, ino: Ino, name: &[u8], value: &[u8], how: XattrHow) -> Result<()> {
        self.change_xattr(ino, name, Some(value), how)
    }

    /// Removes an attribute.
    ///
    /// # Errors
    /// [`VfsError::NoAttribute`].
    pub fn remove_xattr(&self, ino: Ino, name: &[u8]) -> Result<()> {
        self.change_xattr(ino, name, None, XattrHow::Replace)
    }

    fn change_xattr(
        &self,
        ino: Ino,
        name: &[u8],
        value: Option<&[u8]>,
        how: XattrHow,
    ) -> Result<()> {
        let change = self.xattr_change(ino, name, value, how)?;
        self.meta.write(move |tx| change.make(tx))?;
        self.events.differs.notify_one();
        Ok(())
    }

    /// A change of an attribute, for a transaction that does more; who makes it notifies [`crate::events::Events::differs`].
    ///
    /// # Errors
    /// If nobody may make it.
    pub fn xattr_change(
        &self,
        ino: Ino,
        name: &[u8],
        value: Option<&[u8]>,
        how: XattrHow,
    ) -> Result<XattrChange> {
        if name.len() > NAME_BYTES_MAX || value.is_some_and(|value| value.len() > XATTR_BYTES_MAX) {
            return Err(VfsError::TooLarge);
        }
        check_namespace(name)?;
        if name == state::ATTRIBUTE {
            return Err(VfsError::Reserved);
        }
        let share = self.writable_share(ino)?;
        let (difference, now) = (self.difference(share), self.clock.wall());
        let (name, value) = (name.to_vec(), value.map(<[u8]>::to_vec));
        Ok(XattrChange { ino, name, value, how, difference, now })
    }
}

/// See [`Vfs::xattr_change`].
#[derive(Clone, Debug)]
pub struct XattrChange {
    ino: Ino,
    name: Vec<u8>,
    value: Option<Vec<u8>>,
    how: XattrHow,
    difference: Difference,
    now: Time,
}

impl XattrChange {
    /// Makes it.
    ///
    /// # Errors
    /// [`VfsError::NoEntry`] if the file is gone; [`VfsError::AttributeExists`] and [`VfsError::NoAttribute`] where that was not meant.
    pub fn make(self, tx: &Tx<'_>) -> Result<()> {
        let Self { ino, name, value, how, difference, now } = self;
        let mut inode = tx.inode(ino)?.ok_or(VfsError::NoEntry)?;
        match (how, tx.xattr(ino, &name)?.is_some()) {
            (XattrHow::Create, true) => return Err(VfsError::AttributeExists),
            (XattrHow::Replace, false) => return Err(VfsError::NoAttribute),
            (XattrHow::Any | XattrHow::Create | XattrHow::Replace, _) => {}
        }
        let value = match value {
            Some(value) if is_acl(&name) => acl::set(&mut inode, &name, &value)?,
            value => value,
        };
        tx.set_xattr(ino, &name, value.as_deref())?;
        inode.attr.ctime = now;
        inode.attrs += 1;
        tx.put_inode(&inode)?;
        difference.note(tx, ino)
    }
}

/// Whether the attribute `name` is an access control list.
#[must_use]
pub fn is_acl(name: &[u8]) -> bool {
    name == acl::ACCESS || name == acl::DEFAULT
}

fn check_namespace(name: &[u8]) -> Result<()> {
    // On FUSE, labels come from the policy. Who lists files asks for it with each, unless he is told that there is no such thing.
    if name == b"security.selinux" {
        return Err(VfsError::Unsupported("this attribute"));
    }
    let known = NAMESPACES.iter().any(|space| name.len() > space.len() && name.starts_with(space));
    if known || is_acl(name) { Ok(()) } else { Err(VfsError::Unsupported("this attribute")) }
}
