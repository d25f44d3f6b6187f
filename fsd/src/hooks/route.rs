//! What a gate sends to another share moves there: it is there, whole, before it is gone from where it arrived.

use std::fs::File;

use inference_hooks::JobOutput;
use policies::{EventKind, Verdict};
use serde_json::json;

use super::engine::JobEngine;
use super::jobs::{Outcome, after};
use super::kept::Folder;
use super::results::Elsewhere;
use super::rules::Rule;
use super::run::Names;
use super::{results, telling};
use crate::meta::{Inode, Job};
use crate::types::ShareId;
use crate::vfs::Result;

impl JobEngine {
    /// Moves `content`, what the file of `job` holds, to the share `to`, below the name of its own, with all that its names stood for.
    pub(super) async fn route(
        &self,
        (rule, job): (&Rule, &Job),
        (inode, path): (&Inode, &Names),
        (content, to): (&File, ShareId),
        output: JobOutput,
    ) -> Result<Outcome> {
        let said = self.meta.read(|tx| tx.said(inode.ino, inode.content))?;
        if said.iter().any(|said| said.hook.is_empty()) {
            return Ok(Outcome::Superseded("a person has said what becomes of it"));
        }
        let share = self.vfs.share(inode.share)?;
        let folder = Folder::of(&self.vfs, self.vfs.share(to)?, share, inode, path).await?;
        let kept = folder.keep(&self.vfs, inode, content, job.arrived).await?;
        let mark = results::mark(&self.vfs, rule, kept.ino, &output.fields)?;
        let is_at = Some(Elsewhere::Routed(&kept.shown));
        let json = results::apply(&self.vfs, rule, share, inode, path, output, is_at).await?;
        let (at, json) = (self.millis(), json.to_string());
        let version = rule.hook.version().as_str().to_owned();
        let done = after(Job { version, ..job.clone() }, Outcome::Result(json.clone()), 0, at);
        let (rule, kept_ino) = (rule.clone(), kept.ino);
        let event = json!({ "verdict": Verdict::Route.to_string(), "why": format!("it is {}", kept.shown) });
        let gone = self.vfs.withdraw(inode.ino, inode.content, move |tx| {
            mark.make(tx)?;
            tx.put_job(&done)?;
            telling::outcome(tx, &rule, &done)?;
            tx.log_event_of(EventKind::Verdict, done.ino, Some(&done.hook), &event, at)?;
            let Some(there) = tx.inode(kept_ino)? else { return Ok(()) };
            // The same may have come, and gone there, before.
            match tx.has_job(&done.hook, &done.version, kept_ino, there.content)? {
                true => Ok(()),
                false => Ok(tx.job_is_of(done.id, (kept_ino, there.content))?),
            }
        })?;
        // Else it is another version by now, or becomes one.
        Ok(if gone { Outcome::Elsewhere(json) } else { Outcome::Busy })
    }
}
