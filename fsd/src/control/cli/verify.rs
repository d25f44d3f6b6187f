//! `fsd verify`

use std::path::PathBuf;

use super::super::api::types::{WorkKind, WorkStart};
use super::find::{self, DaemonArgs};
use super::output::{count, print, print_json};
use super::work::{outcome, text, until_over};
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
    let path = args.path.as_ref().and(found.path.clone());
    let start = WorkStart { path, deep: args.deep, ..WorkStart::of(WorkKind::Verify) };
    let ended = until_over(&found.client, &start).await?;
    if args.json {
        print_json(&ended)?;
    } else {
        print(&text(&ended))?;
    }
    outcome(&ended)?;
    match ended.found {
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
