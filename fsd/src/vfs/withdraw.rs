//! A version that is removed under all its names, if it is still the one that is meant.

use super::name::opened;
use super::{Opened, Result, Vfs};
use crate::meta::Tx;
use crate::types::Ino;

impl Vfs {
    /// Removes the file `ino` under all its names if it is version `content` and not open for writing; whether it was. `with` is done
    /// before, in the same transaction.
    ///
    /// # Errors
    /// If the store fails; [`super::VfsError::ReadOnly`].
    pub fn withdraw(
        &self,
        ino: Ino,
        content: u64,
        with: impl FnOnce(&Tx<'_>) -> Result<()> + Send + 'static,
    ) -> Result<bool> {
        let share = self.writable_share(ino)?;
        let (difference, now) = (self.difference(share), self.clock.wall());
        let files = self.handles.files();
        let open = *opened(&files).get(&ino).unwrap_or(&Opened::Not);
        let done = self.meta.write(move |tx| -> Result<_> {
            let found = tx.inode(ino)?.filter(|now| now.attr.nlink > 0 && now.content == content);
            if found.is_none() || tx.is_writing(ino)? {
                return Ok(None);
            }
            with(tx)?;
            let (mut names, mut gone) = (Vec::new(), None);
            while let Some((parent, name)) = tx.a_name(ino)? {
                let lost = tx.unlink(parent, &name, false, now)?;
                gone = difference.note_gone(tx, lost, open)?;
                names.push((parent, name));
            }
            Ok(Some((names, gone)))
        })?;
        let Some((names, gone)) = done else { return Ok(false) };
        self.fetch_rest(&files, Some(ino));
        drop(files);
        for (parent, name) in names {
            self.announce_name(parent, &name);
        }
        self.after_removal(gone);
        Ok(true)
    }
}
