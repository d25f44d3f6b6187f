//! Hooks look at what was there before they were: as after arrivals, but behind these.

use super::rules::{Rule, path_text};
use super::{AT_ONCE, THERE_ALREADY};
use crate::meta::{Job, JobState, Meta, MetaError};
use crate::types::{FileKind, Ino};

/// What a hook is to look at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Begun {
    /// Files that it will look at.
    pub files: u64,
    /// Files whose versions it has a job for already, done or not.
    pub had: u64,
}

/// Makes jobs of `rule` for those of `files` that it sees and has not looked at.
///
/// # Errors
/// If the metadata store fails; what was made until then stays.
pub fn begin(meta: &Meta, rule: &Rule, files: &[Ino], now: i64) -> Result<Begun, MetaError> {
    let mut begun = Begun::default();
    for files in files.chunks(AT_ONCE) {
        let (rule, files) = (rule.clone(), files.to_vec());
        let part = meta.write(move |tx| -> Result<Begun, MetaError> {
            let mut begun = Begun::default();
            for ino in files {
                let Some(inode) = tx.inode(ino)?.filter(|i| i.attr.kind == FileKind::File) else {
                    continue;
                };
                let paths = tx.all_paths(ino)?;
                let Some(path) =
                    paths.iter().find(|path| rule.sees(inode.share, path, inode.attr.size))
                else {
                    continue;
                };
                let (name, version) = (rule.hook.name(), rule.hook.version().as_str());
                let (text, at) = (path_text(path), (now, THERE_ALREADY));
                let is_new = tx.add_job(name, version, ino, inode.content, &text, at)?;
                let jobs = if is_new { Vec::new() } else { tx.jobs_of(ino)? };
                let came_to_nothing = jobs.into_iter().find(|job| {
                    let is_it = job.hook == name && job.version == version;
                    is_it
                        && job.content == inode.content
                        && job.state == JobState::Done
                        && job.result.is_none()
                });
                let again = came_to_nothing.is_some();
                if let Some(job) = came_to_nothing {
                    tx.put_job(&Job { state: JobState::Waiting, due: now, ..job })?;
                }
                begun.files += u64::from(is_new || again);
                begun.had += u64::from(!is_new && !again);
            }
            Ok(begun)
        })?;
        begun.files += part.files;
        begun.had += part.had;
    }
    Ok(begun)
}
