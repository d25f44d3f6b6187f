//! In which order files go up. Small ones before large ones, but nothing waits for ever: what is large is handicapped by the time that
//! it will take, and by an hour at most, so that whatever comes an hour later stands behind it.
//!
//! The place of a file does not change while it waits. So a million of them can stand in an index, and the first is found at once.

use std::str::FromStr;

use crate::sides::{WordError, of_word};

/// So many bytes count as a millisecond of waiting: about what a link of 64 Mbit/s takes for them.
pub const BYTES_PER_MILLISECOND: u64 = 8 << 10;

/// The most by which a large file stands behind a small one that differs since the same moment.
pub const HANDICAP_MILLIS_MAX: i64 = 3_600_000;

/// Of so many files that are begun, one is that which stands first by its rank, even if the newest go first.
const OLDEST_EVERY: u64 = 4;

/// Which files of a share go first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Order {
    /// Those that wait longest, the small ones before the large ones: by [`rank`].
    #[default]
    Oldest,
    /// Those that were changed last; but every fourth is the one that waits longest.
    Newest,
}

impl FromStr for Order {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        of_word(text, &[("oldest", Self::Oldest), ("newest", Self::Newest)])
    }
}

/// The place in the queue of a file of `size` bytes that differs since `since`, in milliseconds: the lowest is first.
///
/// ```
/// use policies::order::{HANDICAP_MILLIS_MAX, rank};
/// assert!(rank(1_000, 4 << 10) < rank(0, 1 << 30), "small before large");
/// assert!(rank(0, u64::MAX) <= rank(HANDICAP_MILLIS_MAX, 0), "but not for ever");
/// ```
#[must_use]
pub fn rank(since: i64, size: u64) -> i64 {
    let handicap = i64::try_from(size / BYTES_PER_MILLISECOND).unwrap_or(i64::MAX);
    since.saturating_add(handicap.min(HANDICAP_MILLIS_MAX))
}

impl Order {
    /// Whether the file that is begun as number `turn` is to be taken from the newest.
    #[must_use]
    pub fn takes_newest(self, turn: u64) -> bool {
        self == Self::Newest && !turn.is_multiple_of(OLDEST_EVERY)
    }
}

/// What a share asks of the places for transfers at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The higher, the sooner.
    pub priority: i32,
    /// Among shares of one priority: how many places one has beside those of another.
    pub weight: u32,
    /// Places that it has.
    pub busy: usize,
    /// Whether anything waits.
    pub waits: bool,
}

/// Whose turn it is to get a place that is free; none if nothing waits. A share that has none goes first, whatever its priority: so
/// nobody waits for ever. Then the one of the highest priority, and among such the one with the fewest places for its weight.
/// `turn` counts the places that were given: where all is equal, shares take turns.
#[must_use]
pub fn next(claims: &[Claim], turn: u64) -> Option<usize> {
    let count = claims.len().max(1);
    let start = usize::try_from(turn % count as u64).unwrap_or(0);
    let waiting = claims.iter().enumerate().filter(|(_, claim)| claim.waits);
    let best = waiting.min_by(|(at, a), (bt, b)| {
        let place = |at: usize| (at + count - start) % count;
        let weight = |claim: &Claim| u64::from(claim.weight.max(1));
        // Fractions are compared without dividing.
        let share = (a.busy as u64 * weight(b)).cmp(&(b.busy as u64 * weight(a)));
        (a.busy > 0)
            .cmp(&(b.busy > 0))
            .then(b.priority.cmp(&a.priority))
            .then(share)
            .then(place(*at).cmp(&place(*bt)))
    });
    best.map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const IDLE: Claim = Claim { priority: 0, weight: 1, busy: 0, waits: true };

    #[test]
    fn a_place_goes_to_who_has_none_then_by_priority_then_by_weight() {
        let urgent = Claim { priority: 5, busy: 3, ..IDLE };
        assert_eq!(next(&[urgent, IDLE], 0), Some(1));
        let busy = Claim { busy: 1, ..IDLE };
        assert_eq!(next(&[busy, urgent], 0), Some(1));
        let heavy = Claim { weight: 3, busy: 2, ..IDLE };
        assert_eq!(next(&[busy, heavy], 0), Some(1));
        assert_eq!(next(&[busy, Claim { busy: 4, ..heavy }], 0), Some(0));
        assert_eq!(next(&[Claim { waits: false, ..urgent }, busy], 0), Some(1));
        assert_eq!(next(&[Claim { waits: false, ..urgent }], 0), None);
        assert_eq!(next(&[], 7), None);
        let turns: Vec<_> = (0..4).filter_map(|turn| next(&[IDLE, IDLE], turn)).collect();
        assert_eq!(turns, [0, 1, 0, 1]);
    }

    proptest! {
        #[test]
        fn small_goes_before_large_and_nothing_waits_longer_than_the_handicap(
            since in -10_000_000_000i64..10_000_000_000, later in 0i64..100_000_000, size: u64, other: u64,
        ) {
            prop_assert!(rank(since, size.min(other)) <= rank(since, size.max(other)));
            if later >= HANDICAP_MILLIS_MAX {
                prop_assert!(rank(since, size) <= rank(since + later, other));
            }
        }

        #[test]
        fn whatever_keeps_coming_each_file_has_its_turn(
            sizes in prop::collection::vec(0u64..1 << 40, 1..20), step in 1_000i64..600_000, newest: bool,
        ) {
            // One file arrives and one is sent at each step: the queue stays as long as it is.
            let order = if newest { Order::Newest } else { Order::Oldest };
            let mut queue: Vec<(i64, u64)> = sizes.iter().map(|&size| (0, size)).collect();
            let (mut now, mut turn) = (0, 0);
            let steps = (HANDICAP_MILLIS_MAX / step + 2 + queue.len() as i64) * 4;
            for _ in 0..steps {
                now += step;
                queue.push((now, 0));
                let by_rank = |&&(since, size): &&(i64, u64)| rank(since, size);
                let first = match order.takes_newest(turn) {
                    true => queue.iter().max_by_key(|(since, _)| *since),
                    false => queue.iter().min_by_key(by_rank),
                };
                let first = *first.unwrap();
                let at = queue.iter().position(|other| *other == first).unwrap();
                queue.remove(at);
                turn += 1;
            }
            prop_assert!(queue.iter().all(|(since, _)| *since > 0), "{queue:?}");
        }

        #[test]
        fn every_share_that_waits_gets_a_place(
            wanted in prop::collection::vec((-5i32..5, 0u32..9), 1..16), places in 16usize..32,
        ) {
            let claim = |&(priority, weight): &(i32, u32)| Claim { priority, weight, ..IDLE };
            let mut claims: Vec<Claim> = wanted.iter().map(claim).collect();
            for turn in 0..places {
                let at = next(&claims, turn as u64).unwrap();
                claims[at].busy += 1;
            }
            prop_assert!(claims.iter().all(|claim| claim.busy > 0), "{claims:?}");
        }
    }
}
