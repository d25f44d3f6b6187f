//! Who is told of what happens.

use std::collections::BTreeSet;

use policies::{EventFilter, EventKind};

use super::super::file::{ShareSection, SinkSection};
use super::super::problem::ProblemKind;
use super::super::{BATCH_MAX, SINKS_MAX};
use super::{Findings, has, is_name, no_such_share, without_secrets};
use crate::sinks::{Access, SinkConfig, Target, TargetError, Topic};

pub(super) fn sinks(
    sections: &[SinkSection],
    shares: &[ShareSection],
    findings: &mut Findings,
) -> Vec<SinkConfig> {
    if sections.len() > SINKS_MAX {
        findings.note("sink", sections.len().to_string(), ProblemKind::TooManySinks);
    }
    let mut sinks: Vec<SinkConfig> = Vec::new();
    for (index, section) in sections.iter().enumerate() {
        let key = |name: &str| format!("sink.{index}.{name}");
        if !is_name(&section.name) {
            findings.note(key("name"), &section.name, ProblemKind::Name);
        }
        if let Some(other) = sinks.iter().position(|sink| sink.name == section.name) {
            let other_key = format!("sink.{other}.name");
            findings.note(key("name"), &section.name, ProblemKind::Taken { other_key });
        }
        let target = target(&key, section, findings);
        let mut path = |name: &str, path: &Option<std::path::PathBuf>| {
            path.as_deref().map(|path| findings.absolute(key(name), path))
        };
        let access = Access {
            user: section.user.clone(),
            secret_file: path("secret_file", &section.secret_file),
            ca_file: path("ca_file", &section.ca_file),
        };
        let filter = filter(&key, section, (&target, shares), findings);
        sinks.push(SinkConfig { name: section.name.clone(), target, filter, access });
    }
    sinks
}

fn target(key: &impl Fn(&str) -> String, section: &SinkSection, findings: &mut Findings) -> Target {
    let topic = section.topic.as_deref();
    let topic = findings.read(key("topic"), topic, None, |text| text.parse::<Topic>().map(Some));
    let mut target = Target::at(&section.url, topic).unwrap_or_else(|error| {
        findings.note(key("url"), without_secrets(&section.url), TargetError::into(error));
        Target::File { path: "/".into() }
    });
    let mut not_of_this = |name: &str, is_written: bool, of| {
        if is_written {
            findings.note(key(name), "", ProblemKind::NotOfThisSink { of });
        }
    };
    let is_broker = matches!(target, Target::Mqtt { .. } | Target::Nats { .. });
    not_of_this("topic", section.topic.is_some() && !is_broker, "brokers");
    match &mut target {
        Target::Webhook { batch, .. } => {
            not_of_this("stored", section.stored.is_some(), "NATS");
            not_of_this("user", section.user.is_some(), "brokers");
            *batch = section.batch.unwrap_or(*batch);
            if !(1..=BATCH_MAX).contains(batch) {
                findings.note(key("batch"), batch.to_string(), ProblemKind::Batch);
            }
        }
        Target::Nats { stored, .. } => {
            not_of_this("batch", section.batch.is_some(), "web hooks");
            *stored = section.stored.unwrap_or(*stored);
        }
        Target::Mqtt { .. } | Target::File { .. } => {
            not_of_this("batch", section.batch.is_some(), "web hooks");
            not_of_this("stored", section.stored.is_some(), "NATS");
        }
    }
    target
}

fn filter(
    key: &impl Fn(&str) -> String,
    section: &SinkSection,
    (target, all): (&Target, &[ShareSection]),
    findings: &mut Findings,
) -> EventFilter {
    let kinds = section.events.as_ref().map(|words| {
        let mut kinds = BTreeSet::new();
        for (at, word) in words.iter().enumerate() {
            let read = |text: &str| text.parse::<EventKind>().map(Some);
            kinds.extend(findings.read(key(&format!("events.{at}")), Some(word), None, read));
        }
        kinds
    });
    for (at, name) in section.shares.iter().flatten().enumerate() {
        if !has(all, name) {
            findings.note(key(&format!("shares.{at}")), name, no_such_share(all));
        }
    }
    // Nothing of a local share leaves unless somebody has named it.
    let with_store = || all.iter().filter(|share| !share.local).map(|share| share.name.clone());
    let shares = match &section.shares {
        Some(names) => Some(names.iter().cloned().collect()),
        None if target.leaves() => Some(with_store().collect()),
        None => None,
    };
    let hooks = section.hooks.as_ref().map(|names| names.iter().cloned().collect());
    EventFilter { kinds, shares, hooks }
}
