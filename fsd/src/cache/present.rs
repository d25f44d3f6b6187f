//! Which blocks of a file are here. Pure.

use std::collections::BTreeMap;
use std::ops::Range;

/// A block: the unit of presence.
pub const BLOCK_BYTES: u64 = 128 * 1024;

/// The blocks that hold bytes `range`.
#[must_use]
pub(super) fn blocks_of(range: &Range<u64>) -> Range<u64> {
    range.start / BLOCK_BYTES..range.end.div_ceil(BLOCK_BYTES)
}

/// The bytes of `blocks`.
#[must_use]
pub(super) fn bytes_of(blocks: &Range<u64>) -> Range<u64> {
    blocks.start * BLOCK_BYTES..blocks.end.saturating_mul(BLOCK_BYTES)
}

/// A set of blocks, kept as runs: a file read from front to back has one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Presence {
    /// Start to end, disjoint, never touching.
    runs: BTreeMap<u64, u64>,
}

impl Presence {
    /// Adds `blocks`.
    pub(super) fn insert(&mut self, blocks: Range<u64>) {
        if blocks.is_empty() {
            return;
        }
        let Range { mut start, mut end } = blocks;
        let touching: Vec<(u64, u64)> = self
            .runs
            .range(..=end)
            .rev()
            .take_while(|&(_, &run_end)| run_end >= start)
            .map(|(&s, &e)| (s, e))
            .collect();
        for (run_start, run_end) in touching {
            start = start.min(run_start);
            end = end.max(run_end);
            self.runs.remove(&run_start);
        }
        self.runs.insert(start, end);
    }

    /// The runs of `blocks` that are not in the set.
    #[must_use]
    pub(super) fn missing(&self, blocks: Range<u64>) -> Vec<Range<u64>> {
        let mut missing = Vec::new();
        let mut at = blocks.start;
        let first = self.runs.range(..=blocks.start).next_back().map_or(blocks.start, |(&s, _)| s);
        for (&start, &end) in self.runs.range(first..blocks.end.max(first)) {
            if start > at {
                missing.push(at..start.min(blocks.end));
            }
            at = at.max(end);
        }
        if at < blocks.end {
            missing.push(at..blocks.end);
        }
        missing
    }

    /// Bytes in the set, of a file that is `size` long.
    #[must_use]
    pub(super) fn bytes(&self, size: u64) -> u64 {
        let clipped = |(&start, &end): (&u64, &u64)| {
            let Range { start, end } = bytes_of(&(start..end));
            end.min(size).saturating_sub(start)
        };
        self.runs.iter().map(clipped).sum()
    }

    /// Whether all of `blocks` are in the set.
    #[must_use]
    pub(super) fn contains(&self, blocks: &Range<u64>) -> bool {
        blocks.is_empty()
            || self
                .runs
                .range(..=blocks.start)
                .next_back()
                .is_some_and(|(_, &end)| end >= blocks.end)
    }

    /// The set as bytes: `object_bytes`, then each run's start and end, all little-endian 64 bits.
    #[must_use]
    pub(super) fn encode(&self, object_bytes: u64) -> Vec<u8> {
        let numbers = self.runs.iter().flat_map(|(&start, &end)| [start, end]);
        std::iter::once(object_bytes).chain(numbers).flat_map(u64::to_le_bytes).collect()
    }

    /// The set and `object_bytes`; none if the bytes are no such set.
    #[must_use]
    pub(super) fn decode(bytes: &[u8]) -> Option<(Self, u64)> {
        let (words, []) = bytes.as_chunks::<8>() else { return None };
        let (first, rest) = words.split_first()?;
        let (pairs, []) = rest.as_chunks::<2>() else { return None };
        let mut runs = BTreeMap::new();
        let mut last = None;
        for [start, end] in pairs {
            let (start, end) = (u64::from_le_bytes(*start), u64::from_le_bytes(*end));
            if start >= end || last.is_some_and(|last| start <= last) {
                return None;
            }
            last = Some(end);
            runs.insert(start, end);
        }
        Some((Self { runs }, u64::from_le_bytes(*first)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_agrees_with_a_plain_set(runs in prop::collection::vec((0u64..60, 0u64..12), 0..20), ask in (0u64..60, 0u64..20)) {
            let mut presence = Presence::default();
            let mut model = BTreeSet::new();
            for (start, len) in runs {
                presence.insert(start..start + len);
                model.extend(start..start + len);
            }
            let ask = ask.0..ask.0 + ask.1;
            let missing: BTreeSet<u64> = presence.missing(ask.clone()).into_iter().flatten().collect();
            let expected: BTreeSet<u64> = ask.clone().filter(|b| !model.contains(b)).collect();
            prop_assert_eq!(presence.contains(&ask), expected.is_empty());
            prop_assert_eq!(missing, expected);
            prop_assert_eq!(Presence::decode(&presence.encode(77)), Some((presence, 77)));
        }
    }

    #[test]
    fn damaged_bytes_are_no_set() {
        let words = |words: &[u64]| words.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>();
        for bytes in
            [vec![], vec![1, 2, 3], words(&[9, 4]), words(&[9, 4, 4]), words(&[9, 0, 4, 4, 8])]
        {
            assert_eq!(Presence::decode(&bytes), None);
        }
    }
}
