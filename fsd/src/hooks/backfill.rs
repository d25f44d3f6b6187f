//! Hooks look at what was there before they were: as after arrivals, but behind these.

use std::sync::Arc;

use super::AT_ONCE;
use super::arrived::Arrived;
use super::rules::Rule;
use crate::meta::{Meta, MetaError, THERE_ALREADY};
use crate::types::{FileKind, Ino};

/// What a hook is to look at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Begun {
    /// Files that it will look at.
    pub files: u64,
    /// Files whose versions it has a job for already, done or not.
    pub had: u64,
}

/// Makes jobs of the hook `hook` for those of `files` that it may look at and has not.
///
/// # Errors
/// If the metadata store fails; what was made until then stays.
pub fn begin(
    meta: &Meta,
    rules: &Arc<[Rule]>,
    hook: &str,
    files: &[Ino],
    now: i64,
) -> Result<Begun, MetaError> {
    let mut begun = Begun::default();
    for files in files.chunks(AT_ONCE) {
        let (rules, hook, files) = (rules.clone(), hook.to_owned(), files.to_vec());
        let part = meta.write(move |tx| -> Result<Begun, MetaError> {
            let mut begun = Begun::default();
            for ino in files {
                let Some(inode) = tx.inode(ino)?.filter(|i| i.attr.kind == FileKind::File) else {
                    continue;
                };
                let version = Arrived::of(tx, &rules, inode)?;
                if let Some(rule) = version.lookers().find(|rule| rule.hook.name() == hook) {
                    let is_new = version.add_job(tx, rule, (now, now, THERE_ALREADY))?;
                    begun.files += u64::from(is_new);
                    begun.had += u64::from(!is_new);
                }
            }
            Ok(begun)
        })?;
        begun.files += part.files;
        begun.had += part.had;
    }
    Ok(begun)
}
