//! `fsd verify`

use std::path::PathBuf;

use super::super::api::types::{WorkKind, WorkProgress, WorkStart};
use super::find::{self, DaemonArgs};
use super::output::{count, print, print_json};
use super::work::{follow, outcome, text};
use super::{Context, Exit, Failure, Outcome};

#[derive(Debug, clap::Args)]
pub(super) struct VerifyArgs {
    /// A file or directory in a mount; without it, all mounts of the daemon
    path: Option<PathBuf>,
    /// Read the objects back too, and not only what they say of themselves
    #[arg(long)]
    deep: bool,
    /// Print JSON: how it stood at the end
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: DaemonArgs,
}

pub(super) async fn verify(args: &VerifyArgs, context: &Context<'_>) -> Outcome {
    let found = find::daemon(&args.daemon, args.path.as_deref(), context).await?;
    let paths: Vec<PathBuf> = match (&found.path, &args.path) {
        (Some(path), Some(_)) => vec![path.clone()],
        _ => found.status.mounts.iter().map(|mount| mount.mount.clone()).collect(),
    };
    let mut all: Option<WorkProgress> = None;
    for path in paths {
        let start = WorkStart { kind: WorkKind::Verify, path, deep: args.deep };
        let ended = follow(&found.client, &start).await?;
        let all = match &mut all {
            None => all.insert(ended),
            Some(all) => {
                add(all, ended);
                all
            }
        };
        if all.stopped {
            break;
        }
    }
    let Some(all) = all else { return Ok(()) };
    if args.json {
        print_json(&all)?;
    } else {
        print(&text(&all))?;
    }
    outcome(&all)?;
    match all.differences {
        0 => Ok(()),
        differences => {
            let message = format!("{} found", count(differences, "difference"));
            Err(Failure::new(Exit::Differs, message).hint(
                "`cache-…`: `fsd scrub` fetches it anew; `object-…`: somebody changed the store, or it failed: \
                 `fsd explain FILE` says what is on record",
            ))
        }
    }
}

/// Adds what came of another mount.
fn add(all: &mut WorkProgress, mut more: WorkProgress) {
    all.files += more.files;
    all.files_done += more.files_done;
    all.bytes += more.bytes;
    all.bytes_done += more.bytes_done;
    all.unproven += more.unproven;
    all.differences += more.differences;
    all.problems += more.problems;
    all.findings.append(&mut more.findings);
    all.told.append(&mut more.told);
    all.stopped |= more.stopped;
}
