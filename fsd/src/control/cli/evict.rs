//! `fsd evict`

use std::path::PathBuf;

use policies::units::show_bytes;

use super::super::api::types::Evicted;
use super::find::{self, DaemonArgs};
use super::output::{count, print, print_json};
use super::{Context, Failure, Outcome};

#[derive(Debug, clap::Args)]
pub(super) struct EvictArgs {
    /// Files or directories in a mount
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn evict(args: &EvictArgs, context: &Context<'_>) -> Outcome {
    let mut all = Evicted::default();
    let mut failure = None;
    for path in &args.paths {
        let evicted = match one(path, context).await {
            Ok(evicted) => evicted,
            // The others go all the same.
            Err(error) => {
                failure.get_or_insert(error);
                continue;
            }
        };
        all.files += evicted.files;
        all.bytes += evicted.bytes;
        all.open += evicted.open;
        all.not_uploaded += evicted.not_uploaded;
        all.pinned += evicted.pinned;
    }
    if args.json {
        print_json(&all)?
    } else {
        print(&text(&all))?
    }
    failure.map_or(Ok(()), Err)
}

async fn one(path: &PathBuf, context: &Context<'_>) -> Result<Evicted, Failure> {
    let found = find::daemon(&DaemonArgs::default(), Some(path), context).await?;
    Ok(found.client.evict(found.path.as_ref().unwrap_or(path)).await?)
}

fn text(evicted: &Evicted) -> String {
    let mut text =
        format!("{} went, {}\n", count(evicted.files, "file"), show_bytes(evicted.bytes));
    for (files, why) in [
        (evicted.open, "open"),
        (evicted.not_uploaded, "not uploaded, or waited for"),
        (evicted.pinned, "pinned"),
    ] {
        if files > 0 {
            text.push_str(&format!("{} stay: {why}\n", count(files, "file")));
        }
    }
    text
}
