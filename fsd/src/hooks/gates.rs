//! What a gate says of a version, from where its job stands.

use inference_hooks::JobOutput;
use policies::{GateRule, Verdict};
use serde_json::Value;

use super::rules::Rule;
use crate::meta::{Job, JobState, MetaError, Said, Tx};
use crate::types::{Ino, ShareId};

/// What `rule` says of the version that `job` is about; nothing if it is no gate, or can't tell yet.
pub(super) fn word(rule: &Rule, job: &Job, now: i64) -> Option<Said> {
    let gate = &rule.gate.as_ref()?.rule;
    match (job.state, &job.result) {
        (JobState::Done, Some(result)) => {
            let verdict = gate.verdict(|name| is_true(result, name));
            if verdict == Verdict::Pass && rule.replaces() {
                // It has spoken about the version that took this one's place.
                return None;
            }
            let why = match verdict {
                Verdict::Pass => String::new(),
                // It is gone with its version, or a person has said otherwise.
                Verdict::Route => return None,
                Verdict::Hold => true_ones(&gate.hold_if, result),
                Verdict::Drop => true_ones(&gate.drop_if, result),
            };
            Some(Said { hook: rule.hook.name().to_owned(), verdict, why, at: now })
        }
        (JobState::Failed | JobState::Parked, _) => {
            let why = job.error.as_deref().unwrap_or("it failed");
            Some(fallback(rule, gate, why, now))
        }
        // Of a version that is gone.
        (JobState::Done, None) | (JobState::Waiting | JobState::Running, _) => None,
    }
}

/// What a gate says of a version that it does not look at.
pub(super) fn no_word(rule: &Rule, job: &Job) -> Option<Said> {
    rule.gate.as_ref()?;
    let why = job.error.clone().unwrap_or_default();
    let hook = rule.hook.name().to_owned();
    Some(Said { hook, verdict: Verdict::Pass, why, at: job.changed })
}

/// What goes to another share, and to which.
pub(super) enum Moving {
    /// The original: what the hook made takes its place.
    Original(ShareId),
    /// The file.
    All(ShareId),
}

/// Whether a version is not to leave as it is, after what a hook has said in `output`.
pub(super) fn keeps_back(rule: &Rule, output: &JobOutput) -> bool {
    let Some(gate) = &rule.gate else { return false };
    gate.originals.is_some() || verdict(&gate.rule, output) != Verdict::Pass
}

fn verdict(gate: &GateRule, output: &JobOutput) -> Verdict {
    gate.verdict(|name| output.fields.get(name) == Some(&Value::Bool(true)))
}

/// What goes to another share after what a hook has said in `output`.
pub(super) fn moving(rule: &Rule, output: &JobOutput) -> Option<Moving> {
    let gate = rule.gate.as_ref()?;
    match verdict(&gate.rule, output) {
        Verdict::Pass => gate.originals.map(Moving::Original),
        Verdict::Route => gate.route.map(Moving::All),
        Verdict::Hold | Verdict::Drop => None,
    }
}

/// What is said for a gate that can say nothing itself.
pub(super) fn fallback(rule: &Rule, gate: &GateRule, why: &str, now: i64) -> Said {
    let (hook, why) = (rule.hook.name().to_owned(), why.to_owned());
    Said { hook, verdict: gate.fallback, why, at: now }
}

/// Stores what is said of a version, and has the queue look at it, and the hooks that waited for that.
pub(super) fn speak(tx: &Tx<'_>, (ino, content): (Ino, u64), said: &Said) -> Result<(), MetaError> {
    let Some(inode) = tx.inode(ino)?.filter(|inode| inode.content == content) else {
        return Ok(());
    };
    tx.put_said(ino, content, said)?;
    if said.verdict == Verdict::Pass {
        tx.arrived_before(ino, content, said.at)?;
    }
    tx.differs(ino, inode.share, said.at, said.at)
}

/// Has a gate whose job is over say what that job came to, if it has said nothing; a job that came to nothing is run again.
pub(super) fn speak_again(
    tx: &Tx<'_>,
    rule: &Rule,
    share: ShareId,
    (ino, content): (Ino, u64),
    now: i64,
) -> Result<(), MetaError> {
    let name = rule.hook.name();
    if rule.gate_of(share).is_none() || tx.said(ino, content)?.iter().any(|said| said.hook == name)
    {
        return Ok(());
    }
    let is_it = |job: &&Job| job.hook == name && job.content == content;
    let jobs = tx.jobs_of(ino)?;
    let Some(job) = jobs.iter().find(is_it) else { return Ok(()) };
    match word(rule, job, now) {
        Some(said) => speak(tx, (ino, content), &said),
        None if job.state == JobState::Done => {
            tx.put_job(&Job { state: JobState::Waiting, due: now, ..job.clone() })
        }
        None => Ok(()),
    }
}

fn is_true(result: &str, name: &str) -> bool {
    let result: Value = serde_json::from_str(result).unwrap_or_default();
    result["result"][name] == Value::Bool(true)
}

fn true_ones(names: &[String], result: &str) -> String {
    let names: Vec<_> =
        names.iter().filter(|name| is_true(result, name)).map(String::as_str).collect();
    names.join(", ")
}
