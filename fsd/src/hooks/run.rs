//! One job: a hook on one version of one file.

use std::error::Error;
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;

use inference_hooks::{Advice, Change, Context, JobOutput};

use super::engine::{ANOTHER_VERSION, JobEngine};
use super::jobs::Outcome;
use super::rules::Rule;
use super::{gates, media, results};
use crate::meta::{Inode, Job, MetaError, Tx};
use crate::types::{Ino, chain};
use crate::vfs::VfsError;

/// How often a job is tried again whose file could not be read or whose result could not be written.
const RETRIES_OF_FILES: u32 = 10;

/// A path from the root of a share.
pub(super) type Names = Vec<Vec<u8>>;

impl JobEngine {
    pub(super) async fn run_job(&self, rule: &Rule, job: &Job) -> (Outcome, u32) {
        let (name, version) = (rule.hook.name(), rule.hook.version().as_str());
        if job.version != version {
            let has_job = |tx: &Tx<'_>| tx.has_job(name, version, job.ino, job.content);
            match self.meta.read(has_job) {
                Ok(true) => return (Outcome::Superseded(ANOTHER_VERSION), 0),
                Ok(false) => {}
                Err(error) => return (failed(&error), RETRIES_OF_FILES),
            }
        }
        let limits = rule.hook.limits();
        let retries = (limits.retries_max, RETRIES_OF_FILES);
        let (inode, path) = match self.file_of(job) {
            Ok(Ok(found)) => found,
            Ok(Err(outcome)) => return (outcome, 0),
            Err(error) => return (failed(&error), retries.1),
        };
        let input = match self.vfs.snapshot(inode.ino, rule.hook.input().bytes_max).await {
            Ok(file) => OwnedFd::from(file),
            Err(VfsError::TooLarge) => {
                let most = rule.hook.input().bytes_max;
                let error = format!("the file has more than the {most} bytes that the hook takes");
                return (Outcome::Failed { advice: Advice::ParkFile, error }, 0);
            }
            Err(error) => return (failed(&error), retries.1),
        };
        if let Ok(Err(outcome)) = self.file_of(job) {
            return (outcome, 0);
        }
        let original = match input.try_clone() {
            Ok(file) => File::from(file),
            Err(error) => return (failed(&error), retries.1),
        };
        if !rule.media_types.is_empty() {
            match media::type_of(&original, &job.path) {
                Ok(found) if media::is_wanted(found, &rule.media_types) => {}
                Ok(found) => return (Outcome::NotWanted(found), 0),
                Err(error) => return (failed(&error), retries.1),
            }
        }
        let context = match self.context(job, &inode, &path) {
            Ok(context) => context,
            Err(error) => return (failed(&error), retries.1),
        };
        let output = match self.worker.run(rule.hook.clone(), input, context).await {
            Ok(output) => output,
            Err(error) => {
                let advice = error.advice();
                return (Outcome::Failed { advice, error: chain(&error) }, retries.0);
            }
        };
        let applied = match gates::replacing(rule, &output) {
            Some(to) => self.replace((rule, job), (&inode, &path), (&original, to), output).await,
            None => self.apply(rule, &inode, &path, output).await,
        };
        match applied {
            Ok(outcome) => (outcome, 0),
            Err(error) => (failed(&error), retries.1),
        }
    }

    /// What a program is told of a file.
    fn context(&self, job: &Job, inode: &Inode, path: &Names) -> Result<Context, VfsError> {
        let jobs = self.meta.read(|tx| tx.jobs_of(job.ino))?;
        let is_earlier = |other: &Job| other.hook == job.hook && other.content < job.content;
        let change = match jobs.iter().any(is_earlier) {
            true => Change::Modified,
            false => Change::Created,
        };
        let share = self.vfs.share(inode.share)?.name.clone();
        Ok(Context { share, path: OsString::from_vec(path.join(&b'/')), change })
    }

    async fn apply(
        &self,
        rule: &Rule,
        inode: &Inode,
        path: &Names,
        output: JobOutput,
    ) -> Result<Outcome, VfsError> {
        let share = self.vfs.share(inode.share)?;
        let json = results::apply(&self.vfs, rule, share, inode, path, output, None).await?;
        Ok(Outcome::Result(json.to_string()))
    }

    /// The file of a job, if it still is the version that arrived and nobody is about to change it.
    fn file_of(&self, job: &Job) -> Result<Result<(Inode, Names), Outcome>, MetaError> {
        let (ino, content): (Ino, u64) = (job.ino, job.content);
        self.meta.read(|tx| {
            let inode = tx.inode(ino)?.filter(|inode| inode.content == content);
            Ok(match (inode, tx.path(ino)?) {
                (Some(_), Some(_)) if tx.is_writing(ino)? => Err(Outcome::Busy),
                (Some(inode), Some(path)) => Ok((inode, path)),
                _ => Err(Outcome::Superseded("the file changed or went away before")),
            })
        })
    }
}

fn failed(error: &dyn Error) -> Outcome {
    Outcome::Failed { advice: Advice::Retry, error: chain(error) }
}
