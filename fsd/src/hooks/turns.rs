//! Whose turn it is.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use tokio::sync::Mutex;

/// Turns that are taken one after the other, by path.
pub(super) struct Turns([Mutex<()>; 64]);

impl Default for Turns {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::new(())))
    }
}

impl Turns {
    /// The turn of `path`; others may share it.
    pub(super) fn of(&self, path: &str) -> &Mutex<()> {
        let mut hasher = DefaultHasher::new();
        path.hash(&mut hasher);
        let turn = hasher.finish() % self.0.len() as u64;
        &self.0[usize::try_from(turn).unwrap_or(0)]
    }
}
