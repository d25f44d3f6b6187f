//! What of a share is due, in the order in which it is to be begun.

use std::collections::{BTreeSet, VecDeque};

use policies::Order;
use policies::order::Claim;

use super::Work;
use super::rules::Rules;
use crate::meta::{Item, Meta, MetaError};
use crate::types::{Ino, Key, ShareId};

/// From so many deletions on that are due they go by one request, where the store knows such.
const DELETIONS_TOGETHER_MIN: usize = 8;

/// What of a share is due; of much of it, the first.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) share: ShareId,
    /// When the next will be that is not.
    pub(super) later: Option<i64>,
    rules: Rules,
    /// Those that a person put first, then by rank.
    by_rank: VecDeque<Ino>,
    first: usize,
    /// Those that were changed last, if these go first.
    newest: VecDeque<Ino>,
    deletions: VecDeque<Key>,
    /// Deletions that go by one request, and how many that may be.
    together: Vec<Key>,
    together_max: usize,
}

impl Waiting {
    /// Up to `count` of each kind; of deletions as many as one request takes, `together_max`, if that is more.
    pub(super) fn find(
        meta: &Meta,
        share: ShareId,
        rules: Rules,
        now: i64,
        (count, together_max): (usize, usize),
    ) -> Result<Self, MetaError> {
        meta.read(|tx| {
            let by_rank = tx.due_items(share, now, count)?;
            let newest = match rules.order {
                Order::Oldest => Vec::new(),
                Order::Newest => tx.newest_items(share, now, count)?,
            };
            let deletions = tx.due_tombstones(share, now, count.max(together_max))?;
            let first = by_rank.iter().filter(|item| item.rank < 0).count();
            let inos = |items: Vec<Item>| items.into_iter().map(|item| item.ino).collect();
            Ok(Self {
                share,
                later: tx.next_due(share, now)?,
                rules,
                first,
                by_rank: inos(by_rank),
                newest: inos(newest),
                deletions: deletions.into_iter().map(|tombstone| tombstone.key).collect(),
                together: Vec::new(),
                together_max,
            })
        })
    }

    /// Puts deletions together that can go by one request, if there are enough of them; one such request at a time.
    pub(super) fn put_together(&mut self, busy: &BTreeSet<(ShareId, Work)>) {
        let share = self.share;
        if self.together_max <= 1 {
            return;
        }
        if busy.contains(&(share, Work::Deletions(share))) {
            return self.deletions.clear();
        }
        self.deletions.retain(|key| !busy.contains(&(share, Work::Delete(share, key.clone()))));
        if self.deletions.len() >= DELETIONS_TOGETHER_MIN {
            let keys = std::mem::take(&mut self.deletions);
            self.together = keys.into_iter().take(self.together_max).collect();
        }
    }

    /// What the share asks for, beside others.
    pub(super) fn claim(&self, busy: &BTreeSet<(ShareId, Work)>) -> Claim {
        Claim {
            priority: self.rules.priority,
            weight: self.rules.weight,
            busy: busy.iter().filter(|(share, _)| *share == self.share).count(),
            waits: self.waits(),
        }
    }

    /// Whether anything is left of it.
    pub(super) fn waits(&self) -> bool {
        !self.by_rank.is_empty() || !self.deletions.is_empty() || !self.together.is_empty()
    }

    /// Passes over what is worked on already.
    pub(super) fn drop_first_of(&mut self, busy: &BTreeSet<(ShareId, Work)>) {
        let share = self.share;
        let is_busy = |ino: &Ino| busy.contains(&(share, Work::Item(*ino)));
        while self.by_rank.front().is_some_and(is_busy) {
            self.by_rank.pop_front();
            self.first = self.first.saturating_sub(1);
        }
        while self.newest.front().is_some_and(is_busy) {
            self.newest.pop_front();
        }
        let is_going = |key: &Key| busy.contains(&(share, Work::Delete(share, key.clone())));
        while self.deletions.front().is_some_and(is_going) {
            self.deletions.pop_front();
        }
    }

    /// What is next; of deletions that go together, their keys too. Deletions come behind files, but each fourth place is theirs.
    pub(super) fn take(&mut self, turn: u64) -> Option<(Work, Vec<Key>)> {
        const DELETION_EVERY: u64 = 4;
        if turn.is_multiple_of(DELETION_EVERY)
            && let Some(work) = self.take_deletion()
        {
            return Some(work);
        }
        let takes_newest = self.first == 0 && self.rules.order.takes_newest(turn);
        let newest = if takes_newest { self.newest.pop_front() } else { None };
        let ino = newest.or_else(|| {
            self.first = self.first.saturating_sub(1);
            self.by_rank.pop_front()
        });
        ino.map(|ino| (Work::Item(ino), Vec::new())).or_else(|| self.take_deletion())
    }

    fn take_deletion(&mut self) -> Option<(Work, Vec<Key>)> {
        if !self.together.is_empty() {
            return Some((Work::Deletions(self.share), std::mem::take(&mut self.together)));
        }
        let key = self.deletions.pop_front()?;
        Some((Work::Delete(self.share, key), Vec::new()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(deletions: usize, together_max: usize) -> Waiting {
        Waiting {
            share: ShareId(1),
            later: None,
            rules: Rules::default(),
            by_rank: [Ino(1), Ino(2), Ino(3), Ino(4), Ino(5)].into(),
            first: 0,
            newest: VecDeque::new(),
            deletions: (0..deletions).map(|n| Key::from_raw(format!("k{n}"))).collect(),
            together: Vec::new(),
            together_max,
        }
    }

    /// What is begun one after the other, and of how many deletions each is.
    fn begun(mut waiting: Waiting, busy: &BTreeSet<(ShareId, Work)>) -> Vec<(char, usize)> {
        waiting.put_together(busy);
        let mut begun = Vec::new();
        for turn in 0.. {
            waiting.drop_first_of(busy);
            if !waiting.claim(busy).waits {
                break;
            }
            begun.extend(waiting.take(turn).map(|(work, keys)| match work {
                Work::Item(_) => ('i', keys.len()),
                Work::Delete(..) => ('d', keys.len()),
                Work::Deletions(_) => ('D', keys.len()),
            }));
        }
        begun
    }

    #[test]
    fn many_deletions_go_together_and_files_keep_their_places() {
        let none = BTreeSet::new();
        let files = |count| vec![('i', 0); count];
        let with = |first: (char, usize)| [vec![first], files(5)].concat();
        assert_eq!(begun(waiting(20, 1000), &none), with(('D', 20)));
        assert_eq!(begun(waiting(20, 9), &none), with(('D', 9)), "as many as one request takes");
        let apart = [vec![('d', 0)], files(3), vec![('d', 0)], files(2), vec![('d', 0)]].concat();
        assert_eq!(begun(waiting(3, 1000), &none), apart, "few go alone");
        let alone = begun(waiting(20, 1), &none);
        assert_eq!(alone.iter().filter(|begun| **begun == ('d', 0)).count(), 20);
    }

    #[test]
    fn one_request_for_many_is_under_way_and_takes_none_that_goes_alone() {
        let share = ShareId(1);
        let busy = BTreeSet::from([(share, Work::Deletions(share))]);
        assert_eq!(begun(waiting(20, 1000), &busy), [('i', 0); 5]);
        let busy = BTreeSet::from([(share, Work::Delete(share, Key::from_raw("k7")))]);
        assert_eq!(begun(waiting(20, 1000), &busy)[0], ('D', 19));
    }
}
