//! Uploads in parts that nobody will complete are given up at the store, which would keep their parts, and charge for them.
//!
//! Invariant: only our own, and ours is what the store gave us the name of. An upload whose name was lost with the answer never gets a
//! part, so it costs nothing; nothing tells it from one that somebody else has just begun, so it is let be.

use std::time::Duration;

use tokio::sync::watch;

use super::error::SyncError;
use super::worker::Worker;
use crate::meta::MetaError;
use crate::remote::{Link, LinkState, RemoteRef, UploadId};
use crate::types::ShareId;

/// How often is looked whether there are any.
const EVERY: Duration = Duration::from_secs(600);

impl Worker {
    /// Gives up what is to be given up, again and again, whenever the store of `share` can be reached.
    pub(super) async fn keep_giving_up(
        &self,
        share: ShareId,
        mut link: watch::Receiver<LinkState>,
    ) {
        loop {
            if link.wait_for(|now| now.link == Link::Online).await.is_err() {
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
            let (key, upload) = (&abandoned.key, UploadId(abandoned.upload.clone()));
            remote.multipart_abort(key, &upload).await?;
            tracing::info!(%key, upload = upload.0, "an upload was given up");
            self.meta.write(move |tx| -> Result<(), MetaError> { tx.end_abandoned(&abandoned) })?;
        }
        Ok(())
    }
}
