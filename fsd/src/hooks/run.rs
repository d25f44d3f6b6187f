//! One job: a hook on one version of one file.

use std::error::Error;
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;

use inference_hooks::{Advice, Change, Context, JobOutput};
use policies::Verdict;

use super::engine::JobEngine;
use super::gates::Moving;
use super::jobs::{ANOTHER_VERSION, Outcome};
use super::rules::Rule;
use super::{gates, media, results};
use crate::meta::{Inode, Job, MetaError, Said, Tx};
use crate::types::{Ino, chain};
use crate::vfs::{VfsError, XattrChange};

/// How often a job is tried again whose file could not be read or whose result could not be written.
const RETRIES_OF_FILES: u32 = 10;

/// A path from the root of a share.
pub(super) type Names = Vec<Vec<u8>>;

/// How a try ended.
pub(super) struct Ended {
    pub(super) outcome: Outcome,
    /// How often another one may follow.
    pub(super) retries_max: u32,
    /// What is to be stored with it.
    pub(super) mark: Option<Box<XattrChange>>,
}

impl From<Outcome> for Ended {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, retries_max: 0, mark: None }
    }
}

impl JobEngine {
    pub(super) async fn run_job(&self, rule: &Rule, job: &Job) -> Ended {
        let (original, output) = match self.look(rule, job).await {
            Ok(looked) => looked,
            Err(ended) => return ended,
        };
        let is_kept_back = gates::keeps_back(rule, &output);
        match self.apply(rule, job, &original, output).await {
            Ok(ended) => ended,
            Err(error) if is_kept_back => self.keep_back(rule, job, &error),
            Err(error) => of_files(&error),
        }
    }

    /// A gate has said that a version does not leave as it is, and what follows from that fails: it waits here, whatever the gate's fallback
    /// is, and that is tried until it works.
    fn keep_back(&self, rule: &Rule, job: &Job, error: &VfsError) -> Ended {
        let hook = rule.hook.name().to_owned();
        let why = format!("what the hook says of it can't be done yet: {}", chain(error));
        let version = (job.ino, job.content);
        let now = self.millis();
        let said = Said { hook, verdict: Verdict::Hold, why: why.clone(), at: now };
        let spoken = self.meta.write(move |tx| -> Result<(), MetaError> {
            let before = tx.said(version.0, version.1)?;
            let is_old = |old: &Said| (&old.hook, &old.why) == (&said.hook, &said.why);
            if before.iter().any(is_old) { Ok(()) } else { gates::speak(tx, version, &said) }
        });
        match spoken {
            Ok(()) => Outcome::Failed { advice: Advice::Later, error: why }.into(),
            Err(error) => of_files(&error),
        }
    }

    /// What the hook says of the version that `job` is about, and that version.
    async fn look(&self, rule: &Rule, job: &Job) -> Result<(File, JobOutput), Ended> {
        let (name, version) = (rule.hook.name(), rule.hook.version().as_str());
        let has_job = |tx: &Tx<'_>| tx.has_job(name, version, job.ino, job.content);
        if job.version != version && self.meta.read(has_job).map_err(|e| of_files(&e))? {
            return Err(Outcome::Superseded(ANOTHER_VERSION).into());
        }
        let (inode, path) = self.file_of(job)?;
        let bytes_max = rule.hook.input().bytes_max;
        let input = self.vfs.snapshot(inode.ino, bytes_max).await.map_err(|error| {
            if !matches!(error, VfsError::TooLarge) {
                return of_files(&error);
            }
            let error = format!("the file has more than the {bytes_max} bytes that the hook takes");
            Outcome::Failed { advice: Advice::ParkFile, error }.into()
        })?;
        // It may have changed while it was copied.
        self.file_of(job)?;
        let original = input.try_clone().map_err(|error| of_files(&error))?;
        if !rule.media_types.is_empty() {
            let found = media::type_of(&original, &job.path).map_err(|error| of_files(&error))?;
            if !media::is_wanted(found, &rule.media_types) {
                return Err(Outcome::NotWanted(found).into());
            }
        }
        let (hook, input) = (rule.hook.clone(), OwnedFd::from(input));
        let said = match rule.is_program() {
            true => {
                let context = self.context(job, &inode, &path).map_err(|error| of_files(&error))?;
                self.worker.run_program(hook, input, context).await
            }
            false => self.worker.run(hook, input).await,
        };
        let output = said.map_err(|error| {
            let outcome = Outcome::Failed { advice: error.advice(), error: chain(&error) };
            Ended { retries_max: rule.hook.limits().retries_max, ..outcome.into() }
        })?;
        Ok((original, output))
    }

    /// Makes files and attributes of what the hook has said, if the version is still there. Jobs about files of one path have their turn one
    /// after the other: the last version's result is the one that stays.
    async fn apply(
        &self,
        rule: &Rule,
        job: &Job,
        original: &File,
        output: JobOutput,
    ) -> Result<Ended, VfsError> {
        let _alone = self.turns.of(&job.path).lock().await;
        let (inode, path) = match self.file_of(job) {
            Ok(found) => found,
            Err(ended) => return Ok(ended),
        };
        let at = (&inode, &path);
        match gates::moving(rule, &output) {
            Some(Moving::Original(to)) => {
                return Ok(self.replace((rule, job), at, (original, to), output).await?.into());
            }
            Some(Moving::All(to)) => {
                return Ok(self.route((rule, job), at, (original, to), output).await?.into());
            }
            None => {}
        }
        let share = self.vfs.share(inode.share)?;
        let mark = results::mark(&self.vfs, rule, inode.ino, &output.fields)?;
        let json = results::apply(&self.vfs, rule, share, &inode, &path, output, None).await?;
        Ok(Ended { mark: Some(Box::new(mark)), ..Outcome::Result(json.to_string()).into() })
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

    /// The file of a job, if it still is the version that arrived and nobody is about to change it.
    fn file_of(&self, job: &Job) -> Result<(Inode, Names), Ended> {
        let (ino, content): (Ino, u64) = (job.ino, job.content);
        let found = self.meta.read(|tx| -> Result<_, MetaError> {
            let inode = tx.inode(ino)?.filter(|inode| inode.content == content);
            Ok(match (inode, tx.path(ino)?) {
                (Some(_), Some(_)) if tx.is_writing(ino)? => Err(Outcome::Busy.into()),
                (Some(inode), Some(path)) => Ok((inode, path)),
                _ => Err(Outcome::Superseded("the file changed or went away before").into()),
            })
        });
        found.map_err(|error| of_files(&error))?
    }
}

/// Something failed that has to do with files, not with the hook.
fn of_files(error: &dyn Error) -> Ended {
    let outcome = Outcome::Failed { advice: Advice::Retry, error: chain(error) };
    Ended { retries_max: RETRIES_OF_FILES, ..outcome.into() }
}
