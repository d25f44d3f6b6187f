//! `fsd receipts`

use std::path::PathBuf;

use jiff::Timestamp;
use policies::units::parse_duration;

use super::super::api::steer::ReceiptFilter;
use super::find::{self, DaemonArgs};
use super::output::print;
use super::{Context, Failure, Outcome};

#[derive(Debug, clap::Args)]
pub(super) struct ReceiptsArgs {
    /// Only of this file, or what is below this directory, in a mount
    path: Option<PathBuf>,
    /// Only of what went up since then: 2026-11-26T10:00:00Z, or so long ago: 2h, 7d
    #[arg(long, value_name = "TIME", value_parser = parse_since)]
    since: Option<Timestamp>,
    /// It is JSON in any case, a line each
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: DaemonArgs,
}

fn parse_since(text: &str) -> Result<Timestamp, String> {
    if let Ok(ago) = parse_duration(text) {
        return Timestamp::now().checked_sub(ago).map_err(|error| error.to_string());
    }
    text.parse()
        .map_err(|_| "a time is 2026-11-26T10:00:00Z, or how long ago it was: 2h, 7d".into())
}

pub(super) async fn receipts(args: &ReceiptsArgs, context: &Context<'_>) -> Outcome {
    let found = find::daemon(&args.daemon, args.path.as_deref(), context).await?;
    let path = args.path.as_ref().and(found.path.clone());
    let mut filter = ReceiptFilter { path, since: args.since, from: None };
    loop {
        let page = found.client.receipts(&filter).await?;
        let mut text = String::new();
        for receipt in &page.receipts {
            let line = serde_json::to_string(receipt).map_err(anyhow::Error::new);
            text.push_str(&line.map_err(Failure::from)?);
            text.push('\n');
        }
        print(&text)?;
        filter.from = page.next;
        if filter.from.is_none() {
            return Ok(());
        }
    }
}
