//! In which order files were used: of the last ones it is in memory. There may be millions of others; when the longest unused are looked
//! for, the index is asked for them.

use std::num::NonZeroUsize;

use lru::LruCache;

use crate::types::Ino;

/// Files whose place in the order is in memory.
const RECENT_MAX: NonZeroUsize = NonZeroUsize::new(1 << 18).unwrap();
/// How many of the longest unused the index is asked for at once: it has to look at all its records for that.
pub(super) const OLD_MAX: usize = 1 << 16;

/// The order of use.
#[derive(Debug)]
pub(super) struct Recency {
    /// When each was used, seconds since 1970.
    recent: LruCache<Ino, i64>,
    /// Some of those used before all of these, the longest unused last.
    old: Vec<Ino>,
    /// There may be more of them.
    more: bool,
}

impl Default for Recency {
    fn default() -> Self {
        Self::with_room(RECENT_MAX)
    }
}

impl Recency {
    fn with_room(room: NonZeroUsize) -> Self {
        Self { recent: LruCache::new(room), old: Vec::new(), more: false }
    }

    /// How many places there are in memory.
    pub(super) fn room(&self) -> usize {
        self.recent.cap().get()
    }

    /// Says that `ino` is used now. Returns whose place it takes, and when that was used: only the index knows of it from here on.
    pub(super) fn used(&mut self, ino: Ino, now: i64) -> Option<(Ino, i64)> {
        let displaced = self.recent.push(ino, now).filter(|(displaced, _)| *displaced != ino);
        self.more |= displaced.is_some();
        displaced
    }

    /// Says that `ino` was used before all that is known until now; if there is room for it.
    pub(super) fn was_first(&mut self, ino: Ino) {
        if self.old.len() < OLD_MAX {
            self.old.push(ino);
        }
    }

    /// Says that the index has records of files that were used before all that is known.
    pub(super) fn has_more(&mut self) {
        self.more = true;
    }

    pub(super) fn forget(&mut self, ino: Ino) {
        self.recent.pop(&ino);
    }

    /// Whether [`Recency::remember_old`] is to be called before [`Recency::longest_unused`].
    pub(super) fn wants_old(&self) -> bool {
        self.more && self.old.is_empty()
    }

    pub(super) fn is_recent(&self, ino: Ino) -> bool {
        self.recent.contains(&ino)
    }

    /// Takes in the longest unused of those that are not recent, the longest unused first.
    pub(super) fn remember_old(&mut self, old: impl DoubleEndedIterator<Item = Ino>) {
        self.old = old.rev().collect();
        self.more = !self.old.is_empty();
    }

    /// Up to `count` files, the longest unused first. Those that are not recent are only told once.
    pub(super) fn longest_unused(&mut self, count: usize) -> Vec<Ino> {
        let at = self.old.len().saturating_sub(count);
        let mut found = self.old.split_off(at);
        found.reverse();
        let rest = count - found.len();
        found.extend(self.recent.iter().rev().take(rest).map(|(&ino, _)| ino));
        found
    }

    /// Takes back what [`Recency::longest_unused`] told and nobody looked at.
    pub(super) fn not_looked_at(&mut self, rest: &[Ino]) {
        let old = rest.iter().rev().filter(|ino| !self.recent.contains(ino));
        self.old.extend(old);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inos(numbers: impl IntoIterator<Item = u64>) -> Vec<Ino> {
        numbers.into_iter().map(Ino).collect()
    }

    #[test]
    fn the_longest_unused_come_first_also_those_that_only_the_index_knows() {
        let mut recency = Recency::with_room(NonZeroUsize::new(3).unwrap());
        let displaced: Vec<_> =
            (1..=5).filter_map(|n| recency.used(Ino(n), n.cast_signed())).collect();
        assert_eq!(displaced, [(Ino(1), 1), (Ino(2), 2)]);
        assert!(recency.wants_old());
        recency.remember_old(inos([1, 2]).into_iter());
        assert!(!recency.wants_old());
        let found = recency.longest_unused(4);
        assert_eq!(found, inos([1, 2, 3, 4]));
        recency.not_looked_at(&found[1..]);
        assert_eq!(recency.used(Ino(3), 9), None);
        assert_eq!(recency.longest_unused(9), inos([2, 4, 5, 3]));
        assert!(recency.wants_old());
        recency.remember_old(std::iter::empty());
        assert!(!recency.wants_old());
    }

    #[test]
    fn what_was_never_noted_as_used_comes_before_all_else() {
        let mut recency = Recency::default();
        recency.used(Ino(1), 1);
        recency.was_first(Ino(7));
        assert_eq!(recency.longest_unused(2), inos([7, 1]));
    }
}
