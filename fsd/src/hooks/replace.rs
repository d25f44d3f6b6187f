//! The picture that a gate makes takes the place of the one that arrived, which is kept in a share that nothing leaves.

use std::fs::File;

use inference_hooks::JobOutput;
use policies::Verdict;

use super::engine::JobEngine;
use super::jobs::{Outcome, after};
use super::kept::Folder;
use super::results::Elsewhere;
use super::rules::Rule;
use super::run::Names;
use super::{results, telling};
use crate::meta::{Inode, Job, Said};
use crate::types::ShareId;
use crate::vfs::{Result, VfsError};

impl JobEngine {
    /// Keeps `original`, what the file of `job` holds, in the share `originals`, and puts the picture of `output` in its place.
    pub(super) async fn replace(
        &self,
        (rule, job): (&Rule, &Job),
        (inode, path): (&Inode, &Names),
        (original, originals): (&File, ShareId),
        mut output: JobOutput,
    ) -> Result<Outcome> {
        let said = self.meta.read(|tx| tx.said(inode.ino, inode.content))?;
        if said.iter().any(|said| said.hook.is_empty() && said.verdict != Verdict::Pass) {
            return Ok(Outcome::Superseded("a person has said that it does not leave"));
        }
        let derived = output.derived.pop().ok_or(VfsError::Invalid("the hook made no picture"))?;
        let data = derived.read()?;
        let share = self.vfs.share(inode.share)?;
        let folder = Folder::of(&self.vfs, self.vfs.share(originals)?, share, inode, path).await?;
        let kept = folder.keep(&self.vfs, inode, original, job.arrived).await?;
        let is_at = Some(Elsewhere::Original(&kept.shown));
        let mark = results::mark(&self.vfs, rule, inode.ino, &output.fields)?;
        let json = results::apply(&self.vfs, rule, share, inode, path, output, is_at).await?;
        let (ino, at, json) = (inode.ino, self.millis(), json.to_string());
        let hook = rule.hook.name().to_owned();
        let why = format!("the original is {}", kept.shown);
        let said = Said { hook, verdict: Verdict::Pass, why, at };
        let version = rule.hook.version().as_str().to_owned();
        let done = after(Job { version, ..job.clone() }, Outcome::Result(json.clone()), 0, at);
        let rule = rule.clone();
        let replaced = self.vfs.replace(ino, inode.content, &data, move |tx, content| {
            mark.make(tx)?;
            tx.put_said(ino, content, &said)?;
            tx.put_job(&done)?;
            tx.job_is_of(done.id, (ino, content))?;
            Ok(telling::outcome(tx, &rule, &done)?)
        });
        Ok(match replaced.await? {
            Some(_) => Outcome::Elsewhere(json),
            // It is another version by now, or becomes one.
            None => Outcome::Busy,
        })
    }
}
