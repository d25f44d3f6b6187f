//! `fsd pin` and `fsd unpin`

use std::path::PathBuf;

use policies::units::show_bytes;

use super::super::api::types::{Pin, PinChange};
use super::find::{self, DaemonArgs};
use super::output::{count, print, print_json, table};
use super::{Context, Outcome};

#[derive(Debug, clap::Args)]
pub(super) struct PinArgs {
    /// Files or directories in a mount, or globs (in quotes): `*` stays within a name, `**` does not
    paths: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: DaemonArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct UnpinArgs {
    /// Paths and globs, as `fsd pin` shows them
    #[arg(required = true)]
    paths: Vec<PathBuf>,
}

pub(super) async fn pin(args: &PinArgs, context: &Context<'_>) -> Outcome {
    let mut pins = Vec::new();
    for path in &args.paths {
        let found = find::daemon(&args.daemon, Some(path), context).await?;
        let path = found.path.clone().unwrap_or_else(|| path.clone());
        pins.push(found.client.set_pin(&PinChange { path, pinned: true }).await?);
    }
    if args.paths.is_empty() {
        pins = find::daemon(&args.daemon, None, context).await?.client.pins().await?;
    }
    if args.json {
        return print_json(&pins);
    }
    let rows: Vec<_> = pins.iter().map(row).collect();
    print(&table(["pinned", "share", "files", "here"], &rows))
}

pub(super) async fn unpin(args: &UnpinArgs, context: &Context<'_>) -> Outcome {
    for path in &args.paths {
        let found = find::daemon(&DaemonArgs::default(), Some(path), context).await?;
        let path = found.path.clone().unwrap_or_else(|| path.clone());
        found.client.set_pin(&PinChange { path, pinned: false }).await?;
    }
    Ok(())
}

fn row(pin: &Pin) -> [String; 4] {
    let files = format!("{}, {}", count(pin.files, "file"), show_bytes(pin.bytes));
    [pin.path.display().to_string(), pin.share.clone(), files, show_bytes(pin.bytes_here)]
}
