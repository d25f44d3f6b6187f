//! `fsd queue`

use std::path::PathBuf;

use clap::Subcommand;
use policies::units::show_bytes;

use super::super::api::lists::{LIST_DEFAULT, LIST_MAX};
use super::super::api::steer::QueueChange;
use super::super::api::types::{Action, ItemState, QueueItem};
use super::find::{self, DaemonArgs};
use super::output::{ago, amount, count, print, print_json, table};
use super::{Context, Exit, Failure, Outcome};

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct QueueArgs {
    #[command(subcommand)]
    command: Option<QueueCommand>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Show at most so many items
    #[arg(long, default_value_t = LIST_DEFAULT)]
    limit: usize,
    #[command(flatten)]
    daemon: DaemonArgs,
}

#[derive(Debug, Subcommand)]
enum QueueCommand {
    /// Let nothing go up until it is resumed, also after a restart
    Pause {
        /// The share; all of the gateway if left out
        share: Option<String>,
        #[command(flatten)]
        end: End,
    },
    /// Go on after a pause
    Resume {
        /// The share; ends the pause of all if left out
        share: Option<String>,
        #[command(flatten)]
        end: End,
    },
    /// Hold back a file, or what is below a directory: it stays here, and goes up only after `retry`
    Cancel {
        /// The file or directory, in a mount
        path: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Try again what was given up or held back
    Retry {
        /// What is at and below this path, in a mount
        #[arg(required_unless_present = "all")]
        path: Option<PathBuf>,
        /// Everything
        #[arg(long, conflicts_with = "path")]
        all: bool,
        #[command(flatten)]
        end: End,
    },
    /// Let a file, or what is below a directory, go before all else of its share
    First {
        /// The file or directory, in a mount
        path: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, clap::Args)]
struct End {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: DaemonArgs,
}

pub(super) async fn queue(args: &QueueArgs, context: &Context<'_>) -> Outcome {
    if let Some(command) = &args.command {
        return change(command, context).await;
    }
    if args.limit > LIST_MAX {
        return Err(Failure::new(Exit::Usage, format!("--limit is at most {LIST_MAX}")));
    }
    let found = find::daemon(&args.daemon, None, context).await?;
    let queue = found.client.queue(args.limit).await?;
    if args.json {
        return print_json(&queue);
    }
    let rows: Vec<_> = queue.items.iter().map(row).collect();
    print(&table(["state", "action", "sent", "of", "changed", "tries", "file", "error"], &rows))?;
    let (shown, totals) = (queue.items.len(), queue.totals);
    let all = amount(totals.items, totals.bytes);
    eprintln!("{shown} shown of {all}, {} parked, {} cancelled", totals.parked, totals.cancelled);
    for mount in found.status.mounts {
        if let Some(since) = mount.late_since {
            eprintln!("fsd: in {} something waits since {}", mount.share, ago(since));
        }
    }
    Ok(())
}

async fn change(command: &QueueCommand, context: &Context<'_>) -> Outcome {
    let none = DaemonArgs::default();
    let (daemon, path, json) = match command {
        QueueCommand::Pause { end, .. } | QueueCommand::Resume { end, .. } => {
            (&end.daemon, None, end.json)
        }
        QueueCommand::Retry { path, end, .. } => (&end.daemon, path.as_deref(), end.json),
        QueueCommand::Cancel { path, json } | QueueCommand::First { path, json } => {
            (&none, Some(path.as_path()), *json)
        }
    };
    let found = find::daemon(daemon, path, context).await?;
    let known = path.and(found.path);
    let change = match (command, known) {
        (QueueCommand::Pause { share, .. }, _) => QueueChange::Pause { share: share.clone() },
        (QueueCommand::Resume { share, .. }, _) => QueueChange::Resume { share: share.clone() },
        (QueueCommand::Cancel { path, .. }, known) => {
            QueueChange::Cancel { path: known.unwrap_or_else(|| path.clone()) }
        }
        (QueueCommand::First { path, .. }, known) => {
            QueueChange::First { path: known.unwrap_or_else(|| path.clone()) }
        }
        (QueueCommand::Retry { path, .. }, known) => {
            QueueChange::Retry { path: known.or_else(|| path.clone()) }
        }
    };
    let changed = found.client.change_queue(&change).await?;
    if json { print_json(&changed) } else { print(&format!("{}\n", count(changed.items, "item"))) }
}

fn row(item: &QueueItem) -> [String; 8] {
    let state = match item.state {
        ItemState::Waiting => "waiting",
        ItemState::Sending => "sending",
        ItemState::Writing => "open",
        ItemState::Parked => "parked",
        ItemState::Cancelled => "cancelled",
    };
    let action = match item.action {
        Action::Upload => "upload",
        Action::Metadata => "metadata",
        Action::Move => "move",
        Action::Delete => "delete",
    };
    let error = match (&item.code, &item.error) {
        (Some(code), Some(error)) => format!("{code}: {error}"),
        (_, error) => error.clone().unwrap_or_default(),
    };
    [
        state.to_owned(),
        action.to_owned(),
        show_bytes(item.bytes_sent),
        show_bytes(item.bytes),
        ago(item.since),
        item.tries.to_string(),
        format!("{}/{}", item.share, item.path.trim_start_matches('/')),
        error,
    ]
}
