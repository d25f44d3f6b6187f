//! How long lists are.

/// The most entries of one list.
pub const LIST_MAX: usize = 10_000;

/// The entries of one list unless said otherwise.
pub const LIST_DEFAULT: usize = 100;

pub(super) fn list_default() -> usize {
    LIST_DEFAULT
}
