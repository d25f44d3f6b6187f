//! `fsd explain`

use std::path::PathBuf;

use policies::units::show_bytes;

use super::super::api::hooks::GateWord;
use super::super::api::types::{Explanation, ItemState};
use super::find::{self, DaemonArgs};
use super::output::{ago, count, fact, print, print_json};
use super::{Context, Outcome};

#[derive(Debug, clap::Args)]
pub(super) struct ExplainArgs {
    /// A file in a mount
    path: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn explain(args: &ExplainArgs, context: &Context<'_>) -> Outcome {
    let found = find::daemon(&DaemonArgs::default(), Some(&args.path), context).await?;
    let path = found.path.as_ref().unwrap_or(&args.path);
    let known = found.client.explain(path).await?;
    if args.json { print_json(&known) } else { print(&text(&known)) }
}

fn text(known: &Explanation) -> String {
    let mut text = String::new();
    let (bytes, here) = (show_bytes(known.bytes), show_bytes(known.bytes_here));
    fact(&mut text, "file", &format!("{}, {}", known.path.display(), known.kind));
    let conflict = if known.conflict { ", put aside: both sides had changed" } else { "" };
    fact(&mut text, "state", &format!("{}{conflict}", known.state));
    fact(&mut text, "size", &format!("{bytes}, {here} here"));
    if let Some(pattern) = &known.pinned_by {
        fact(&mut text, "pinned", &format!("by {pattern:?} in {}", known.share));
    }
    let open = match (known.handles, known.writers) {
        (0, _) => "by nobody".to_owned(),
        (handles, writers) => format!("{}, {writers} for writing", count(handles.into(), "handle")),
    };
    fact(&mut text, "open", &open);
    let way = match &known.daemon_path {
        None => "the kernel reads and writes by itself".to_owned(),
        Some(why) => format!("through the daemon: {why}"),
    };
    if known.kind == "file" {
        fact(&mut text, "way", &way);
    }
    match &known.object {
        None => fact(&mut text, "object", "none"),
        Some(object) => {
            let holds = if object.current { "up to date" } else { "an older version, or none" };
            let etag = object.etag.as_deref().unwrap_or("no version");
            fact(&mut text, "object", &format!("{:?}, {etag}, {holds}", object.key));
        }
    }
    for GateWord { hook, verdict, why, at } in &known.gates {
        let who = hook.as_deref().unwrap_or("a person");
        let why = if why.is_empty() { String::new() } else { format!(": {why}") };
        fact(&mut text, "gate", &format!("{who} says {verdict}{why}, {}", ago(*at)));
    }
    if let Some(item) = &known.queue {
        let state = match item.state {
            ItemState::Waiting => "waits",
            ItemState::Sending => "is being sent",
            ItemState::Writing => "waits until it is closed",
            ItemState::Parked => "parked until a person acts",
            ItemState::Cancelled => "held back by a person",
        };
        let code = item.code.as_ref().map(|code| format!(" ({code})")).unwrap_or_default();
        let error = item.error.as_ref().map(|error| format!(": {error}{code}"));
        let error = error.unwrap_or_default();
        let tries = count(item.tries.into(), "failed attempt");
        fact(&mut text, "queue", &format!("{state}, changed {}, {tries}{error}", ago(item.since)));
    }
    fact(&mut text, "bytes", &known.bytes_are);
    fact(&mut text, "next", &known.next);
    text
}
