//! Which hooks may look at a version.

use policies::{EventKind, Verdict};
use serde_json::json;

use super::rules::{Rule, path_text};
use crate::meta::{Inode, MetaError, Said, Tx};

/// A version of a file, and the hooks that see it.
pub(super) struct Arrived<'r> {
    inode: Inode,
    /// Of its first name, for people.
    path: String,
    seeing: Vec<&'r Rule>,
    said: Vec<Said>,
}

impl<'r> Arrived<'r> {
    /// What is known of the version that `inode` is.
    pub(super) fn of(tx: &Tx<'_>, rules: &'r [Rule], inode: Inode) -> Result<Self, MetaError> {
        let paths = tx.all_paths(inode.ino)?;
        let sees = |rule: &&Rule| paths.iter().any(|p| rule.sees(inode.share, p, inode.attr.size));
        let seeing = rules.iter().filter(sees).collect();
        let path = paths.first().map(|path| path_text(path)).unwrap_or_default();
        let said = tx.said(inode.ino, inode.content)?;
        Ok(Self { inode, path, seeing, said })
    }

    /// Logs that it has arrived.
    pub(super) fn log(&self, tx: &Tx<'_>, now: i64) -> Result<(), MetaError> {
        let Inode { share, content, attr, .. } = &self.inode;
        let data = json!({ "bytes": attr.size, "version": content });
        tx.log_event(EventKind::Arrived, (*share, &self.path), None, &data, now)
    }

    /// The hooks that may look at it. What is derived from an original must not leave either: while a gate has still to put something in
    /// its place, such gates alone see it. One that may send it to another share, where other gates are, sees what all other gates of this
    /// one let pass. And what a hook made itself, or has spoken about, needs no other look.
    pub(super) fn lookers(&self) -> impl Iterator<Item = &'r Rule> {
        let passes = |rule: &Rule| {
            let word = Said::of(&self.said, rule.hook.name());
            word.is_some_and(|said| said.verdict == Verdict::Pass)
        };
        let is_original = self.seeing.iter().any(|rule| rule.replaces() && !passes(rule));
        let decides = |rule: &Rule| rule.gate_of(self.inode.share).is_some() && !rule.routes();
        let is_open = self.seeing.iter().any(|rule| decides(rule) && !passes(rule));
        self.seeing.iter().copied().filter(move |rule| {
            let has_spoken = self.said.iter().any(|said| said.hook == rule.hook.name());
            !has_spoken
                && match (rule.replaces(), rule.routes()) {
                    (true, _) => true,
                    (false, true) => !is_open,
                    (false, false) => !is_original,
                }
        })
    }

    /// Makes a job of `rule` for it, unless there is one: when it is due, when that was found out, and its rank.
    pub(super) fn add_job(
        &self,
        tx: &Tx<'_>,
        rule: &Rule,
        at: (i64, i64, i64),
    ) -> Result<bool, MetaError> {
        let (name, version) = (rule.hook.name(), rule.hook.version().as_str());
        tx.add_job(name, version, self.inode.ino, self.inode.content, &self.path, at)
    }
}
