//! What gateways, this one and others, told in the stores of what they had not uploaded.

use std::path::Path;

use super::OperationError;
use super::gateway::{Gateway, MountedShare, timestamp};
use crate::control::api::types as api;
use crate::sync::report::{self, Dirty, Report};
use crate::types::Time;

impl Gateway {
    pub(super) async fn told_by_gateways(
        &self,
        path: Option<&Path>,
    ) -> Result<Vec<api::GatewayReport>, OperationError> {
        let mounts: Vec<&MountedShare> = match path {
            Some(path) => vec![self.mount_of(path)?.0],
            None => self.parts.mounts.iter().collect(),
        };
        let mut reports = Vec::new();
        for mount in mounts {
            let Some(remote) = self.parts.cache.remote(mount.share) else { continue };
            let told = report::read(remote.as_ref()).await;
            for told in told.map_err(|error| OperationError::Failed(error.into()))? {
                reports.push(match told.report {
                    Ok(report) => self.of_gateway(mount, told.gateway, report)?,
                    Err(why) => api::GatewayReport {
                        share: mount.name.clone(),
                        gateway: told.gateway,
                        error: Some(why),
                        ..api::GatewayReport::default()
                    },
                });
            }
        }
        Ok(reports)
    }

    fn of_gateway(
        &self,
        mount: &MountedShare,
        gateway: String,
        report: Report,
    ) -> Result<api::GatewayReport, OperationError> {
        let age = timestamp(self.parts.clock.wall()).duration_since(report.written);
        let dirty = report.dirty.into_iter().map(|dirty| self.of_file(mount, dirty));
        Ok(api::GatewayReport {
            this: gateway == self.parts.gateway,
            share: mount.name.clone(),
            gateway,
            written: Some(report.written),
            age_seconds: u64::try_from(age.as_secs()).unwrap_or(0),
            stopped: report.stopped,
            items: report.items,
            deletions: report.deletions,
            bytes: report.bytes,
            dirty: dirty.collect::<Result<_, _>>()?,
            error: None,
        })
    }

    /// Whether the store has got a file since it was told that it had not, as far as that is known here.
    fn of_file(
        &self,
        mount: &MountedShare,
        dirty: Dirty,
    ) -> Result<api::DirtyFile, OperationError> {
        let Dirty { path, size, mtime, uploaded: _ } = dirty;
        let names: Vec<Vec<u8>> = path.split('/').map(|name| name.as_bytes().to_vec()).collect();
        let known = self.parts.meta.scan(|tx| match tx.at_path(mount.root, &names)? {
            Some(ino) => tx.inode(ino),
            None => Ok(None),
        })?;
        let is_it = |time: Time| timestamp(time) == mtime;
        let arrived = known.is_some_and(|inode| {
            inode.is_uploaded() && inode.attr.size == size && is_it(inode.attr.mtime)
        });
        Ok(api::DirtyFile { path, bytes: size, mtime, arrived })
    }
}
