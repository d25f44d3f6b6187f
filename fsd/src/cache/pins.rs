//! What is pinned is never evicted.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use policies::Pins;

use super::{Cache, Result};
use crate::meta::{Inode, Tx};
use crate::types::ShareId;

impl Cache {
    /// Takes over the pins that are stored.
    ///
    /// # Errors
    /// If the metadata store fails.
    pub fn load_pins(&self) -> Result<()> {
        let mut pins = BTreeMap::new();
        for (share, patterns) in self.meta.read(|tx| tx.pins())? {
            match Pins::new(patterns) {
                Ok(of_share) => drop(pins.insert(share, of_share)),
                // They were read before they were stored.
                Err(error) => tracing::error!(%error, "the pins of a share can't be read"),
            }
        }
        *self.pins.write().unwrap_or_else(PoisonError::into_inner) = pins;
        Ok(())
    }

    /// The pins of `share`.
    #[must_use]
    pub fn pins(&self, share: ShareId) -> Pins {
        let pins = self.pins.read().unwrap_or_else(PoisonError::into_inner);
        pins.get(&share).cloned().unwrap_or_default()
    }

    /// The pattern by which `inode` is pinned, if it is.
    ///
    /// # Errors
    /// If the metadata store fails.
    pub fn pinned_by(&self, tx: &Tx<'_>, inode: &Inode) -> Result<Option<String>> {
        let pins = self.pins.read().unwrap_or_else(PoisonError::into_inner);
        let Some(pins) = pins.get(&inode.share) else { return Ok(None) };
        for name in tx.aliases(inode.ino)?.into_iter().chain([inode.ino]) {
            let path = tx.path(name)?;
            if let Some(pattern) = path.as_deref().and_then(|path| pins.covering(path)) {
                return Ok(Some(pattern.to_owned()));
            }
        }
        Ok(None)
    }
}
