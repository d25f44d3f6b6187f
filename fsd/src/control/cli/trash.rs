//! `fsd trash`

use std::path::PathBuf;

use clap::Subcommand;
use policies::units::show_bytes;

use super::super::api::sides::{Restored, Trashed};
use super::find::{self, DaemonArgs};
use super::output::{ago, count, print, print_json, table};
use super::{Context, Exit, Failure, Outcome};

#[derive(Debug, clap::Args)]
pub(super) struct TrashArgs {
    #[command(subcommand)]
    command: TrashCommand,
}

#[derive(Debug, Subcommand)]
enum TrashCommand {
    /// Show what was deleted and can be got back
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        daemon: DaemonArgs,
    },
    /// Bring files back, to where they were
    Restore {
        /// A file that was deleted, or a directory with such files
        path: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Delete all of it for good
    Empty {
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        daemon: DaemonArgs,
    },
}

pub(super) async fn trash(args: &TrashArgs, context: &Context<'_>) -> Outcome {
    match &args.command {
        TrashCommand::List { json, daemon } => {
            let trashed = find::daemon(daemon, None, context).await?.client.trash().await?;
            if *json {
                return print_json(&trashed);
            }
            let rows: Vec<_> = trashed.iter().map(row).collect();
            print(&table(["file", "size", "deleted", "until"], &rows))
        }
        TrashCommand::Restore { path, json } => {
            let found = find::daemon(&DaemonArgs::default(), Some(path), context).await?;
            let path = found.path.clone().unwrap_or_else(|| path.clone());
            let restored: Restored = found.client.restore(path).await?;
            if *json {
                print_json(&restored)?;
            } else {
                print(&format!("{} restored\n", count(restored.files, "file")))?;
            }
            match restored.left.as_slice() {
                [] => Ok(()),
                left => Err(Failure::new(
                    Exit::Unfinished,
                    format!("these stay in the trash:\n{}", left.join("\n")),
                )),
            }
        }
        TrashCommand::Empty { json, daemon } => {
            let emptied = find::daemon(daemon, None, context).await?.client.empty_trash().await?;
            match json {
                true => print_json(&emptied),
                false => print(&format!("{} deleted\n", count(emptied.objects, "object"))),
            }
        }
    }
}

fn row(trashed: &Trashed) -> [String; 4] {
    [
        trashed.path.display().to_string(),
        show_bytes(trashed.bytes),
        ago(trashed.deleted),
        trashed.until.strftime("%Y-%m-%d").to_string(),
    ]
}
