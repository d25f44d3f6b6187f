//! Uploads in parts that nobody will complete are given up at the store, which would keep their parts, and charge for them.
//!
//! Invariant: only our own. Whose name is on record is ours. If the answer that would have told the name was lost, ours is an upload to
//! the very key, begun at the very time, that has no part after a while: nobody but us could send it one, and we don't know it.

use std::time::Duration;

use super::error::SyncError;
use super::worker::Worker;
use crate::meta::{Abandoned, MetaError};
use crate::remote::{Idle, Link, RemoteRef, UploadId};
use crate::types::ShareId;
use tokio::sync::watch;

/// How often is looked whether there are any.
const EVERY: Duration = Duration::from_secs(600);
/// How long an upload without a part may be somebody's who is about to send one.
const IDLE_MILLIS_MIN: i64 = 3_600_000;
/// How far a store's clock may be from ours: of more, stores refuse requests.
const CLOCKS_APART_MILLIS_MAX: i64 = 15 * 60_000;

impl Worker {
    /// Gives up what is to be given up, again and again, whenever the store of `share` can be reached.
    pub(super) async fn keep_giving_up(&self, share: ShareId, mut link: watch::Receiver<Link>) {
        loop {
            if link.wait_for(|link| *link == Link::Online).await.is_err() {
                return;
            }
            if let Some(remote) = self.cache.remote(share)
                && let Err(error) = self.give_up_all(share, remote).await
            {
                tracing::info!(%share, error = &error as &dyn std::error::Error, "uploads that are to be given up stay for now");
            }
            self.clock.sleep(EVERY).await;
        }
    }

    async fn give_up_all(&self, share: ShareId, remote: &RemoteRef) -> Result<(), SyncError> {
        for abandoned in self.meta.read(|tx| tx.abandoned(share))? {
            let Abandoned { key, upload, begun, .. } = &abandoned;
            let names = match upload {
                Some(upload) => vec![UploadId(upload.clone())],
                None if self.millis() - begun < IDLE_MILLIS_MIN => continue,
                None => {
                    let known = self.meta.read(|tx| tx.uploads_to(share, key))?;
                    let idle = remote.multipart_idle(key).await?.into_iter();
                    let ours = idle.filter(|idle| is_ours(idle, *begun, &known));
                    ours.map(|idle| idle.id).collect()
                }
            };
            for name in names {
                remote.multipart_abort(key, &name).await?;
                tracing::info!(%key, upload = name.0, "an upload was given up");
            }
            self.meta.write(move |tx| -> Result<(), MetaError> { tx.end_abandoned(&abandoned) })?;
        }
        Ok(())
    }
}

/// Whether `idle` is the upload that was asked for at `begun`, and not one of those that are `known`.
fn is_ours(idle: &Idle, begun: i64, known: &[String]) -> bool {
    let apart = (idle.begun.millis() - begun).abs();
    apart <= CLOCKS_APART_MILLIS_MAX && !known.iter().any(|known| known.ends_with(&idle.id.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Time;

    #[test]
    fn an_upload_of_another_time_or_one_that_is_under_way_is_not_taken_for_a_lost_one() {
        let idle = |secs| Idle { id: UploadId("u".into()), begun: Time { secs, nanos: 0 } };
        let begun = 1_000_000_000;
        assert!(is_ours(&idle(1_000_000), begun, &[]));
        assert!(is_ours(&idle(1_000_900), begun, &["v".into()]));
        assert!(!is_ours(&idle(1_000_000), begun, &["u".into()]));
        assert!(!is_ours(&idle(1_000_901), begun, &[]));
        assert!(!is_ours(&idle(999_099), begun, &[]));
    }
}
