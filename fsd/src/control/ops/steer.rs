//! The verbs that steer what goes up: the queue, and the pace.

use std::path::Path;

use policies::Rate;
use policies::pace::Reason;

use super::OperationError;
use super::gateway::{Gateway, is_at_or_below, timestamp};
use crate::control::api::lists::LIST_MAX;
use crate::control::api::steer as api;
use crate::meta::{Item, MetaError, Tx};
use crate::pace::{LaneState, Way};
use crate::sync::{Place, Receipt};
use crate::types::{Ino, ShareId};

impl Gateway {
    pub(super) async fn change_queue(
        &self,
        change: &api::QueueChange,
    ) -> Result<api::QueueChanged, OperationError> {
        let items = match change {
            api::QueueChange::Pause { share } => self.pause(share.as_deref(), true)?,
            api::QueueChange::Resume { share } => self.pause(share.as_deref(), false)?,
            api::QueueChange::Cancel { path } => {
                let cancelled = self.change_items(path, |_, item| {
                    (!item.held).then_some(Item { held: true, parked: false, ..item })
                });
                let cancelled = cancelled.await?;
                cancelled.iter().for_each(|ino| self.parts.sync.stop(*ino));
                cancelled.len() as u64
            }
            api::QueueChange::First { path } => {
                let first = self.change_items(path, |now, item| {
                    // Who is put first last is first. What a person wants first is held back no more.
                    Some(Item { rank: -now, due: item.due.min(now), held: false, ..item })
                });
                first.await?.len() as u64
            }
            api::QueueChange::Retry { path: Some(path) } => {
                let retried = self.change_items(path, |now, item| {
                    let waits = item.held || item.parked || item.tries > 0;
                    waits.then_some(Item { held: false, parked: false, tries: 0, due: now, ..item })
                });
                retried.await?.len() as u64
            }
            api::QueueChange::Retry { path: None } => {
                let now = self.parts.clock.wall().millis();
                self.parts.meta.write(move |tx| tx.retry_all(now))? as u64
            }
        };
        self.parts.events.differs.notify_one();
        self.parts.events.settled.notify_waiters();
        Ok(api::QueueChanged { items })
    }

    fn pause(&self, share: Option<&str>, paused: bool) -> Result<u64, OperationError> {
        let id = share.map(|name| self.share_of(name)).transpose()?;
        if !self.parts.paces.pause(id, paused)? {
            let share = share.unwrap_or_default();
            return Err(OperationError::Nonsense(format!(
                "nothing of {share:?} goes up: it is local"
            )));
        }
        Ok(self.parts.meta.scan(|tx| tx.item_counts(id))?.items)
    }

    /// Changes the items of what is at and below `path` as `change` says; returns those that it did.
    async fn change_items(
        &self,
        path: &Path,
        change: impl Fn(i64, Item) -> Option<Item> + Send + 'static,
    ) -> Result<Vec<Ino>, OperationError> {
        let top = self.find(path).await?;
        self.parts.vfs.finish_closed().map_err(|e| OperationError::Failed(e.into()))?;
        let now = self.parts.clock.wall().millis();
        let below = self.parts.meta.scan(|tx| items_below(tx, top))?;
        if below.is_empty() {
            return Err(OperationError::Nonsense(format!(
                "nothing of {} waits to be uploaded",
                path.display()
            )));
        }
        Ok(self.parts.meta.write(move |tx| -> Result<_, MetaError> {
            let mut changed = Vec::new();
            for ino in below {
                let Some(item) = tx.item(ino)?.and_then(|item| change(now, item)) else { continue };
                tx.put_item(&item)?;
                changed.push(ino);
            }
            Ok(changed)
        })?)
    }

    /// Shares, those that go first first.
    pub(super) fn shares_by_priority(&self) -> Vec<ShareId> {
        let mut shares: Vec<ShareId> = self.parts.mounts.iter().map(|mount| mount.share).collect();
        shares.sort_by_key(|share| std::cmp::Reverse(self.parts.sync.rules(*share).priority));
        shares
    }

    /// Why nothing of `share`, or of anything, goes up, if it is for the pace.
    pub(super) fn held_by_pace(&self, share: Option<ShareId>) -> Option<String> {
        let is_meant = |state: &LaneState| {
            let (of, way) = state.id;
            way == Way::Up && (share.is_none() || of.is_none() || of == share)
        };
        let mut held = self.parts.paces.states().into_iter().filter(is_meant);
        let held = held.find(|state| state.rate == Rate::Paused)?;
        let whose = held.id.0.map_or_else(String::new, |id| format!(" of {}", self.share_name(id)));
        Some(match held.reason {
            Reason::Paused => format!("uploads{whose} are paused: `fsd queue resume` goes on"),
            Reason::Spent => format!("the budget{whose} for uploads is spent"),
            Reason::ByHand => format!("the pace of uploads{whose} was set to off by hand"),
            Reason::Schedule => format!("the schedule pauses uploads{whose} now"),
        })
    }

    pub(super) async fn some_receipts(
        &self,
        filter: &api::ReceiptFilter,
    ) -> Result<api::Receipts, OperationError> {
        let Some(receipts) = self.parts.sync.receipts().cloned() else {
            return Ok(api::Receipts::default());
        };
        let place = match filter.from.as_deref().map(serde_json::from_str::<Place>) {
            None => Place::default(),
            Some(Ok(place)) => place,
            Some(Err(_)) => {
                return Err(OperationError::Nonsense("`from` is no place to go on from".into()));
            }
        };
        let below = filter.path.as_deref().map(|path| self.mount_of(path)).transpose()?;
        let below = below.map(|(mount, below)| {
            (mount.name.clone(), below.to_string_lossy().trim_end_matches('/').to_owned())
        });
        let since = filter.since;
        let is_wanted = move |receipt: &Receipt| {
            let is_below = below.as_ref().is_none_or(|(share, path)| {
                let rest = receipt.path.strip_prefix(path.as_str());
                let at = rest.is_some_and(|rest| {
                    path.is_empty() || rest.is_empty() || rest.starts_with('/')
                });
                receipt.share == *share && at
            });
            is_below && since.is_none_or(|since| receipt.at >= since)
        };
        let read = move || {
            receipts.write()?;
            receipts.read(place, LIST_MAX, is_wanted)
        };
        let read = self.parts.vfs.tasks().blocking(read).await;
        let failed =
            |error: Box<dyn std::error::Error + Send + Sync>| OperationError::Failed(error);
        let (found, next) = read.map_err(|e| failed(e.into()))?.map_err(|e| failed(e.into()))?;
        let shown = |receipt: Receipt| {
            let Receipt { seq, share, path, key, size, sha256, etag, at } = receipt;
            api::Receipt { seq, share, path, key, size, sha256, etag, at }
        };
        // A place is numbers only, which JSON can always say.
        let next = next.and_then(|place| serde_json::to_string(&place).ok());
        Ok(api::Receipts { receipts: found.into_iter().map(shown).collect(), next })
    }

    pub(super) fn all_paces(&self) -> Vec<api::PaceState> {
        self.parts.paces.states().into_iter().map(|state| self.pace(state)).collect()
    }

    fn pace(&self, state: LaneState) -> api::PaceState {
        let LaneState { id: (share, way), rate, reason, until, spent, budget: (day, month) } =
            state;
        let budget = |bytes: Option<u64>, spent: Option<u64>| {
            bytes.map(|bytes| api::BudgetState { bytes, spent: spent.unwrap_or(0) })
        };
        api::PaceState {
            share: share.map(|share| self.share_name(share)),
            way: match way {
                Way::Up => "up".to_owned(),
                Way::Down => "down".to_owned(),
            },
            rate: rate.to_string(),
            reason: match reason {
                Reason::Paused => api::PaceReason::Paused,
                Reason::Spent => api::PaceReason::Budget,
                Reason::ByHand => api::PaceReason::ByHand,
                Reason::Schedule => api::PaceReason::Schedule,
            },
            until,
            day: budget(day, spent.map(|spent| spent.day)),
            month: budget(month, spent.map(|spent| spent.month)),
        }
    }

    pub(super) fn change_pace(
        &self,
        change: &api::PaceChange,
    ) -> Result<Vec<api::PaceState>, OperationError> {
        let share = change.share.as_deref().map(|name| self.share_of(name)).transpose()?;
        let until = match change.seconds {
            None => None,
            Some(seconds) => {
                let span = std::time::Duration::from_secs(seconds);
                let end = timestamp(self.parts.clock.wall()).checked_add(span);
                Some(end.map_err(|_| OperationError::Nonsense("that is too long".to_owned()))?)
            }
        };
        let mut any = false;
        for (way, text) in [(Way::Up, &change.up), (Way::Down, &change.down)] {
            let rate = text.as_deref().map(str::parse::<Rate>).transpose();
            let rate = rate.map_err(|error| OperationError::Nonsense(error.to_string()))?;
            if rate.is_none() && !change.reset {
                continue;
            }
            any = true;
            if !self.parts.paces.set((share, way), rate, until)? {
                let share = change.share.clone().unwrap_or_default();
                return Err(OperationError::Nonsense(format!(
                    "nothing of {share:?} passes: it is local"
                )));
            }
        }
        if !any {
            return Err(OperationError::Nonsense(
                "say a rate for `up`, for `down`, or both".into(),
            ));
        }
        Ok(self.all_paces())
    }

    /// The share of this name.
    fn share_of(&self, name: &str) -> Result<ShareId, OperationError> {
        let found = self.parts.mounts.iter().find(|mount| mount.name == name);
        found.map(|mount| mount.share).ok_or_else(|| {
            let names: Vec<_> = self.parts.mounts.iter().map(|mount| mount.name.clone()).collect();
            OperationError::Nonsense(format!(
                "there is no share {name:?}; there is {}",
                names.join(", ")
            ))
        })
    }
}

/// What waits of what is at and below `top`.
pub(super) fn items_below(tx: &Tx<'_>, top: Ino) -> Result<Vec<Ino>, MetaError> {
    // A file waits by itself, and under its further names.
    let mut below: Vec<Ino> = Vec::new();
    let aliases = tx.aliases(top)?;
    for ino in std::iter::once(top).chain(aliases) {
        below.extend(tx.item(ino)?.map(|item| item.ino));
    }
    if !tx.has_entries(top)? {
        return Ok(below);
    }
    for item in tx.items(usize::MAX)? {
        if item.ino != top && is_at_or_below(tx, item.ino, top)? {
            below.push(item.ino);
        }
    }
    Ok(below)
}
