//! Gates: without the word of some hooks no content leaves.
//!
//! Invariant: what they speak about is a version of a content; one that changes is another, of which nobody has said anything.

use policies::gate::{Leave, decide};
use policies::{Gate, Verdict};

use super::error::SyncError;
use super::plan::Subject;
use super::worker::Worker;
use crate::meta::{MetaError, Said};
use crate::types::{FileKind, ShareId};

impl Worker {
    /// Whether the content of `subject` may leave.
    ///
    /// # Errors
    /// [`SyncError::Gated`] and [`SyncError::KeptHere`] if not.
    pub(super) fn ask_gates(&self, share: ShareId, subject: &Subject) -> Result<(), SyncError> {
        let gates = &self.rules.get(&share).map_or(&[][..], |rules| &rules.gates);
        let (inode, file) = (&subject.inode, subject.file);
        if gates.is_empty() || inode.attr.kind != FileKind::File {
            return Ok(());
        }
        let content = inode.content;
        // The cloud has it already: only attributes, or a name, are new.
        if inode.object.as_ref().is_some_and(|o| o.etag.is_some() && o.content == content) {
            return Ok(());
        }
        let (paths, said) = self.meta.read(|tx| -> Result<_, MetaError> {
            Ok((tx.all_paths(file)?, tx.said(file, content)?))
        })?;
        let seeing: Vec<&Gate> = gates
            .iter()
            .filter(|gate| paths.iter().any(|path| gate.sees(path, inode.attr.size)))
            .collect();
        let word_of = |hook: &str| Said::of(&said, hook).map(|said| said.verdict);
        let words = seeing.iter().map(|gate| word_of(&gate.hook));
        // A person's counts also where no gate sees the file.
        match decide(words.chain(word_of("").map(Some))) {
            Leave::Now => Ok(()),
            Leave::Not(verdict) => Err(kept_here(&said, verdict)),
            Leave::Waits => {
                let silent = seeing.iter().find(|gate| word_of(&gate.hook).is_none());
                let hook = silent.map(|gate| gate.hook.clone()).unwrap_or_default();
                let (now, of) = (self.millis(), hook.clone());
                let is_new =
                    self.meta.write(move |tx| tx.look_at_again(file, content, &of, now))?;
                if is_new {
                    self.events.arrived.notify_one();
                }
                Err(SyncError::Gated { hook })
            }
        }
    }
}

fn kept_here(said: &[Said], verdict: Verdict) -> SyncError {
    let said = said.iter().find(|said| said.verdict == verdict);
    let (who, why) = match said {
        Some(Said { hook, why, .. }) if hook.is_empty() => ("a person".to_owned(), why.clone()),
        Some(Said { hook, why, .. }) => (format!("the hook {hook}"), why.clone()),
        None => Default::default(),
    };
    SyncError::KeptHere { who, verdict, why }
}
