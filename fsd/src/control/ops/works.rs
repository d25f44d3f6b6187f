//! Long work that operators began, by number.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::OperationError;
use crate::control::api::types as api;
use crate::vfs::{Finding, Work};

/// Work that is over is remembered for those who asked for it, up to so many.
const OVER_KEPT_MAX: usize = 100;

/// Long work, by its number.
#[derive(Debug, Default)]
pub(super) struct Works(Mutex<(u64, BTreeMap<u64, Begun>)>);

#[derive(Clone, Debug)]
pub(super) struct Begun {
    pub(super) kind: api::WorkKind,
    pub(super) path: PathBuf,
    pub(super) work: Arc<Work>,
    /// Who began it was told how far it is.
    pub(super) asked: Arc<Notify>,
}

impl Works {
    fn lock(&self) -> MutexGuard<'_, (u64, BTreeMap<u64, Begun>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, begun: Begun) -> u64 {
        let mut works = self.lock();
        let (last, all) = &mut *works;
        *last += 1;
        all.insert(*last, begun);
        let over: Vec<u64> =
            all.iter().filter(|(_, begun)| begun.work.progress().over).map(|(&id, _)| id).collect();
        for id in over.iter().take(over.len().saturating_sub(OVER_KEPT_MAX)) {
            all.remove(id);
        }
        *last
    }

    pub(super) fn get(&self, id: u64) -> Result<Begun, OperationError> {
        self.lock().1.get(&id).cloned().ok_or(OperationError::NoWork { id })
    }

    /// What is under way.
    pub(super) fn under_way(&self) -> Vec<api::WorkProgress> {
        let works = self.lock();
        let all = works.1.iter().map(|(&id, begun)| progress(id, begun));
        all.filter(|progress| !progress.over).collect()
    }
}

pub(super) fn progress(id: u64, begun: &Begun) -> api::WorkProgress {
    let now = begun.work.progress();
    api::WorkProgress {
        id,
        kind: begun.kind,
        path: begun.path.clone(),
        files: now.files,
        files_done: now.files_done,
        bytes: now.bytes,
        bytes_done: now.bytes_done,
        mended: now.mended,
        unproven: now.unproven,
        changes: api::Changes {
            added: now.changes.added,
            changed: now.changes.changed,
            gone: now.changes.gone,
        },
        found: now.found.0,
        repaired: now.found.1,
        findings: match now.over {
            true => now.findings.into_iter().map(finding).collect(),
            false => Vec::new(),
        },
        problems: now.problems,
        told: now.told,
        over: now.over,
        stopped: now.stopped,
    }
}

fn finding(found: Finding) -> api::Finding {
    let Finding { code, at, what, repaired } = found;
    let repair = code.repair().map(str::to_owned);
    api::Finding { code: code.word().to_owned(), at, what, repair, repaired }
}
