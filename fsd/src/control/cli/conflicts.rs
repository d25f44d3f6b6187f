//! `fsd conflicts`

use std::path::PathBuf;

use clap::Subcommand;
use policies::units::show_bytes;

use super::super::api::sides::{Conflict, Keep, Settle};
use super::find::{self, DaemonArgs};
use super::output::{ago, print, print_json, table};
use super::{Context, Outcome};

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct ConflictsArgs {
    #[command(subcommand)]
    command: Option<ConflictsCommand>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: DaemonArgs,
}

#[derive(Debug, Subcommand)]
enum ConflictsCommand {
    /// Settle one: say which version goes on under the name
    Settle {
        /// The file, or what this gateway's version of it is kept as
        path: PathBuf,
        /// The version that goes on; the other one is deleted, or both stay
        #[arg(long)]
        keep: Keep,
        /// Print JSON: what it was
        #[arg(long)]
        json: bool,
    },
}

pub(super) async fn conflicts(args: &ConflictsArgs, context: &Context<'_>) -> Outcome {
    if let Some(ConflictsCommand::Settle { path, keep, json }) = &args.command {
        let found = find::daemon(&DaemonArgs::default(), Some(path), context).await?;
        let path = found.path.clone().unwrap_or_else(|| path.clone());
        let settled = found.client.settle_conflict(&Settle { path, keep: *keep }).await?;
        return if *json { print_json(&settled) } else { Ok(()) };
    }
    let found = find::daemon(&args.daemon, None, context).await?;
    let conflicts = found.client.conflicts().await?;
    if args.json {
        return print_json(&conflicts);
    }
    let rows: Vec<_> = conflicts.iter().map(row).collect();
    print(&table(["file", "when", "ours", "theirs", "rule", "ours is"], &rows))
}

fn row(conflict: &Conflict) -> [String; 6] {
    let ours = match (&conflict.kept_as, conflict.until) {
        (Some(path), _) => path.display().to_string(),
        (None, Some(until)) => format!("set aside until {}", until.strftime("%Y-%m-%d")),
        (None, None) => "in its place".to_owned(),
    };
    [
        conflict.path.display().to_string(),
        ago(conflict.at),
        show_bytes(conflict.ours.bytes),
        show_bytes(conflict.theirs.bytes),
        conflict.rule.clone(),
        ours,
    ]
}
