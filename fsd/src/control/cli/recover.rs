//! `fsd recover`

use std::path::PathBuf;

use policies::units::{show_bytes, show_duration};
use serde::Serialize;

use super::super::api::types::{GatewayReport, WorkKind, WorkProgress, WorkStart};
use super::find::{self, DaemonArgs};
use super::output::{count, print, print_json};
use super::work::{outcome, text, until_over};
use super::{Context, Outcome};

#[derive(Debug, clap::Args)]
pub(super) struct RecoverArgs {
    /// A directory in a mount; everything if left out
    path: Option<PathBuf>,
    /// Only show what gateways had not uploaded, and ask for nothing else
    #[arg(long)]
    reports: bool,
    /// Print JSON: how it stood at the end, and what gateways had not uploaded
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: DaemonArgs,
}

#[derive(Serialize)]
struct Recovered {
    work: Option<WorkProgress>,
    gateways: Vec<GatewayReport>,
}

pub(super) async fn recover(args: &RecoverArgs, context: &Context<'_>) -> Outcome {
    let found = find::daemon(&args.daemon, args.path.as_deref(), context).await?;
    let path = args.path.as_ref().and(found.path.clone());
    let start = WorkStart { path: path.clone(), ..WorkStart::of(WorkKind::Recover) };
    let work = match args.reports {
        true => None,
        false => Some(until_over(&found.client, &start).await?),
    };
    let gateways = found.client.reports(path.as_deref()).await?;
    let ended = work.as_ref().map_or(Ok(()), outcome);
    if args.json {
        print_json(&Recovered { work, gateways })?;
    } else {
        let mut lines = work.as_ref().map(text).unwrap_or_default();
        gateways.iter().for_each(|report| lines.push_str(&lines_of(report)));
        if gateways.is_empty() {
            lines.push_str("no gateway has told here of files that were not uploaded\n");
        }
        print(&lines)?;
    }
    ended
}

fn lines_of(report: &GatewayReport) -> String {
    let GatewayReport { gateway, share, this, .. } = report;
    let this = if *this { ", which is this one" } else { "" };
    let mut lines = format!("gateway {gateway}{this}, share {share}: ");
    if let Some(error) = &report.error {
        lines.push_str(&format!("its report can't be read: {error}\n"));
        return lines;
    }
    let age = show_duration(std::time::Duration::from_secs(report.age_seconds));
    let stopped = if report.stopped { ", when it was stopped" } else { "" };
    lines.push_str(&format!(
        "{} not uploaded ({}), {} not made, as it told {age} ago{stopped}\n",
        count(report.items, "item"),
        show_bytes(report.bytes),
        count(report.deletions, "deletion")
    ));
    for file in &report.dirty {
        let here = if file.arrived { "  in the store by now" } else { "" };
        let (path, bytes, mtime) = (file.path.escape_debug(), show_bytes(file.bytes), file.mtime);
        lines.push_str(&format!("  {path}  {bytes}  {mtime}{here}\n"));
    }
    let untold = report.items.saturating_sub(report.dirty.len() as u64);
    if untold > 0 {
        lines.push_str(&format!("  and {untold} more, which are not named\n"));
    }
    lines
}
