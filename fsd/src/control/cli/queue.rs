//! `fsd queue`

use policies::units::show_bytes;

use super::super::api::types::{Action, ItemState, LIST_DEFAULT, LIST_MAX, QueueItem};
use super::find::{self, DaemonArgs};
use super::output::{ago, amount, print, print_json, table};
use super::{Context, Exit, Failure, Outcome};

#[derive(Debug, clap::Args)]
pub(super) struct QueueArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Show at most so many items
    #[arg(long, default_value_t = LIST_DEFAULT)]
    limit: usize,
    #[command(flatten)]
    daemon: DaemonArgs,
}

pub(super) async fn queue(args: &QueueArgs, context: &Context<'_>) -> Outcome {
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
    eprintln!("{shown} shown of {}, {} parked", amount(totals.items, totals.bytes), totals.parked);
    Ok(())
}

fn row(item: &QueueItem) -> [String; 8] {
    let state = match item.state {
        ItemState::Waiting => "waiting",
        ItemState::Sending => "sending",
        ItemState::Writing => "open",
        ItemState::Parked => "parked",
    };
    let action = match item.action {
        Action::Upload => "upload",
        Action::Metadata => "metadata",
        Action::Move => "move",
        Action::Delete => "delete",
    };
    [
        state.to_owned(),
        action.to_owned(),
        show_bytes(item.bytes_sent),
        show_bytes(item.bytes),
        ago(item.since),
        item.tries.to_string(),
        format!("{}/{}", item.share, item.path.trim_start_matches('/')),
        item.error.clone().unwrap_or_default(),
    ]
}
