//! Extended attributes.

use super::{Result, Vfs, VfsError};
use crate::types::Ino;

const NAME_BYTES_MAX: usize = 255;
const VALUE_BYTES_MAX: usize = 64 * 1024;
/// Kept by the kernel's rules for access control, which are not supported.
const ACL_PREFIX: &[u8] = b"system.";

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
        if name.starts_with(ACL_PREFIX) {
            return Err(VfsError::Unsupported("this attribute"));
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
        if value.len() > VALUE_BYTES_MAX || name.len() > NAME_BYTES_MAX {
            return Err(VfsError::TooLarge);
        }
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
        if name.starts_with(ACL_PREFIX) {
            return Err(VfsError::Unsupported("this attribute"));
        }
        let share = self.writable_share(ino)?;
        let (difference, now) = (self.difference(share), self.clock.wall());
        let (name, value) = (name.to_vec(), value.map(<[u8]>::to_vec));
        self.meta.write(move |tx| -> Result<()> {
            let mut inode = tx.inode(ino)?.ok_or(VfsError::NoEntry)?;
            match (how, tx.xattr(ino, &name)?.is_some()) {
                (XattrHow::Create, true) => return Err(VfsError::AttributeExists),
                (XattrHow::Replace, false) => return Err(VfsError::NoAttribute),
                (XattrHow::Any | XattrHow::Create | XattrHow::Replace, _) => {}
            }
            tx.set_xattr(ino, &name, value.as_deref())?;
            inode.attr.ctime = now;
            inode.attrs += 1;
            tx.put_inode(&inode)?;
            difference.note(tx, ino)
        })?;
        self.events.differs.notify_one();
        Ok(())
    }
}
