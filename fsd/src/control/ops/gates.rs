//! The verbs about gates: what they have said, and a person's word in place of theirs.

use policies::Verdict;

use super::OperationError;
use super::gateway::{Gateway, timestamp_of_millis};
use super::steer::items_below;
use crate::control::api::hooks as api;
use crate::meta::{MetaError, Said};
use crate::types::{FileKind, Ino};

impl Gateway {
    pub(super) async fn speak_for_gates(
        &self,
        say: &api::Say,
    ) -> Result<api::Spoken, OperationError> {
        let verdict: Verdict = say.verdict.parse().map_err(|error| {
            OperationError::Nonsense(format!("{:?} is no verdict: {error}", say.verdict))
        })?;
        let top = self.find(&say.path).await?;
        let share = self.parts.meta.scan(|tx| tx.inode(top))?.map(|inode| inode.share);
        let rules = self.rules();
        let has_gate =
            share.is_some_and(|share| rules.iter().any(|rule| rule.gate_of(share).is_some()));
        self.parts.vfs.finish_closed().map_err(|e| OperationError::Failed(e.into()))?;
        let at = self.parts.clock.wall().millis();
        let files = self.parts.meta.write(move |tx| -> Result<u64, MetaError> {
            let mut files = 0;
            let said = Said { hook: String::new(), verdict, why: String::new(), at };
            for ino in items_below(tx, top)? {
                // What is said of a file is said of all its names.
                let Some(file) = tx.inode(tx.file_of(ino)?)? else { continue };
                // What a gate has held back that is none any more can still be let go.
                let has_said = || tx.said(file.ino, file.content).map(|said| !said.is_empty());
                if file.attr.kind == FileKind::File && (has_gate || has_said()?) {
                    tx.put_said(file.ino, file.content, &said)?;
                    if verdict == Verdict::Pass {
                        // There may be hooks that look at nothing that stays.
                        tx.arrived_before(file.ino, file.content, at)?;
                    }
                    tx.differs(file.ino, file.share, at, at)?;
                    files += 1;
                }
            }
            Ok(files)
        })?;
        if files == 0 && !has_gate {
            return Err(OperationError::Nonsense(format!(
                "no hook is a gate for {}; `fsd queue cancel` holds back what waits there",
                say.path.display()
            )));
        }
        if files == 0 {
            return Err(OperationError::Nonsense(format!(
                "no file of {} waits to be uploaded",
                say.path.display()
            )));
        }
        self.parts.events.differs.notify_one();
        self.parts.events.arrived.notify_one();
        self.parts.events.settled.notify_waiters();
        Ok(api::Spoken { files })
    }

    pub(super) fn gate_words(
        &self,
        file: Ino,
        content: u64,
    ) -> Result<Vec<api::GateWord>, OperationError> {
        let said = self.parts.meta.scan(|tx| tx.said(file, content))?;
        let word = |said: Said| api::GateWord {
            hook: Some(said.hook).filter(|hook| !hook.is_empty()),
            verdict: said.verdict.to_string(),
            why: said.why,
            at: timestamp_of_millis(said.at),
        };
        Ok(said.into_iter().map(word).collect())
    }
}
