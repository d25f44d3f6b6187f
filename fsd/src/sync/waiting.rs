//! What of a share is due, in the order in which it is to be begun.

use std::collections::{BTreeSet, VecDeque};

use policies::Order;
use policies::order::Claim;

use super::Work;
use super::rules::Rules;
use crate::meta::{Item, Meta, MetaError};
use crate::types::{Ino, ShareId};

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
    deletions: VecDeque<Work>,
}

impl Waiting {
    /// Up to `count` of each kind.
    pub(super) fn find(
        meta: &Meta,
        share: ShareId,
        rules: Rules,
        now: i64,
        count: usize,
    ) -> Result<Self, MetaError> {
        meta.read(|tx| {
            let by_rank = tx.due_items(share, now, count)?;
            let newest = match rules.order {
                Order::Oldest => Vec::new(),
                Order::Newest => tx.newest_items(share, now, count)?,
            };
            let deletions = tx.due_tombstones(share, now, count)?;
            let first = by_rank.iter().filter(|item| item.rank < 0).count();
            let inos = |items: Vec<Item>| items.into_iter().map(|item| item.ino).collect();
            Ok(Self {
                share,
                later: tx.next_due(share, now)?,
                rules,
                first,
                by_rank: inos(by_rank),
                newest: inos(newest),
                deletions: deletions.into_iter().map(|t| Work::Delete(t.share, t.key)).collect(),
            })
        })
    }

    /// What the share asks for, beside others.
    pub(super) fn claim(&self, busy: &BTreeSet<(ShareId, Work)>) -> Claim {
        Claim {
            priority: self.rules.priority,
            weight: self.rules.weight,
            busy: busy.iter().filter(|(share, _)| *share == self.share).count(),
            waits: !self.by_rank.is_empty() || !self.deletions.is_empty(),
        }
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
        while self.deletions.front().is_some_and(|work| busy.contains(&(share, work.clone()))) {
            self.deletions.pop_front();
        }
    }

    /// What is next. Deletions come behind files, but each fourth place is theirs.
    pub(super) fn take(&mut self, turn: u64) -> Option<Work> {
        const DELETION_EVERY: u64 = 4;
        if turn.is_multiple_of(DELETION_EVERY)
            && let Some(work) = self.deletions.pop_front()
        {
            return Some(work);
        }
        let takes_newest = self.first == 0 && self.rules.order.takes_newest(turn);
        let newest = if takes_newest { self.newest.pop_front() } else { None };
        let ino = newest.or_else(|| {
            self.first = self.first.saturating_sub(1);
            self.by_rank.pop_front()
        });
        ino.map(Work::Item).or_else(|| self.deletions.pop_front())
    }
}
