//! Keys that a step touches are held while it runs, so that what happens to one key happens in order.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::types::{Key, ShareId};

#[derive(Debug, Default)]
pub(super) struct Keys {
    held: Mutex<BTreeSet<(ShareId, Key)>>,
    released: Notify,
}

/// Keys that are held until this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    keys: Arc<Keys>,
    mine: Vec<(ShareId, Key)>,
}

impl Keys {
    /// Waits until none of `wanted` is held by another, then holds all of them.
    pub(super) async fn hold(self: &Arc<Self>, share: ShareId, wanted: Vec<Key>) -> Held {
        let wanted: BTreeSet<(ShareId, Key)> = wanted.into_iter().map(|key| (share, key)).collect();
        loop {
            let released = self.released.notified();
            tokio::pin!(released);
            // From here on a release wakes us, so none is missed between the look and the wait.
            released.as_mut().enable();
            {
                let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
                if held.is_disjoint(&wanted) {
                    held.extend(wanted.iter().cloned());
                    return Held { keys: self.clone(), mine: wanted.into_iter().collect() };
                }
            }
            released.await;
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut held = self.keys.held.lock().unwrap_or_else(PoisonError::into_inner);
        for key in &self.mine {
            held.remove(key);
        }
        drop(held);
        self.keys.released.notify_waiters();
    }
}
