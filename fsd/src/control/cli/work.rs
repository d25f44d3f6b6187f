//! `fsd warm` and `fsd scrub`

use std::path::PathBuf;

use indicatif::ProgressBar;
use policies::units::show_bytes;

use super::super::api::Client;
use super::super::api::types::{WorkKind, WorkProgress, WorkStart};
use super::find::{self, DaemonArgs};
use super::output::{bytes_bar, count, print, print_json};
use super::{Context, Exit, Failure, Outcome};

#[derive(Debug, clap::Args)]
pub(super) struct WorkArgs {
    /// A file or directory in a mount
    path: PathBuf,
    /// Print JSON: how it stood at the end
    #[arg(long)]
    json: bool,
}

pub(super) async fn work(kind: WorkKind, args: &WorkArgs, context: &Context<'_>) -> Outcome {
    let found = find::daemon(&DaemonArgs::default(), Some(&args.path), context).await?;
    let path = found.path.clone().unwrap_or_else(|| args.path.clone());
    let ended = follow(&found.client, &WorkStart { kind, path, deep: false }).await?;
    if args.json {
        print_json(&ended)?;
    } else {
        print(&text(&ended))?;
    }
    outcome(&ended)
}

/// Begins long work and shows how far it is, until it is over; Ctrl-C stops it.
pub(super) async fn follow(client: &Client, start: &WorkStart) -> Result<WorkProgress, Failure> {
    let id = client.start_work(start).await?;
    let bar = bytes_bar();
    let stop = tokio::signal::ctrl_c();
    tokio::pin!(stop);
    let mut stopping = false;
    let ended = loop {
        tokio::select! {
            progress = client.work(id) => {
                let progress = progress?;
                show(&bar, &progress);
                if progress.over {
                    break progress;
                }
            }
            _ = &mut stop, if !stopping => {
                stopping = true;
                client.stop_work(id).await?;
            }
        }
    };
    bar.finish_and_clear();
    Ok(ended)
}

pub(super) fn outcome(ended: &WorkProgress) -> Outcome {
    match (ended.stopped, ended.problems) {
        (true, _) => Err(Failure::new(Exit::Unfinished, "stopped; what was done until then stays")),
        (false, 0) => Ok(()),
        (false, problems) => {
            Err(Failure::new(Exit::Unfinished, format!("{} remained", count(problems, "problem"))))
        }
    }
}

fn show(bar: &ProgressBar, progress: &WorkProgress) {
    bar.set_length(progress.bytes);
    bar.set_position(progress.bytes_done);
    bar.set_message(format!("{} of {}", progress.files_done, count(progress.files, "file")));
}

pub(super) fn text(ended: &WorkProgress) -> String {
    let verb = match ended.kind {
        WorkKind::Warm => "fetched",
        WorkKind::Scrub => "looked at",
        WorkKind::Verify => "compared",
    };
    let mut text = format!(
        "{verb}: {} of {}, {}\n",
        ended.files_done,
        count(ended.files, "file"),
        show_bytes(ended.bytes_done)
    );
    if ended.mended > 0 {
        text.push_str(&format!("mended: {}\n", count(ended.mended, "block")));
    }
    if ended.unproven > 0 {
        let files = count(ended.unproven, "file");
        text.push_str(&format!("unproven: {files}, of whose content nothing is known\n"));
    }
    for found in &ended.findings {
        let (path, detail) = (found.path.to_string_lossy(), found.detail.escape_debug());
        text.push_str(&format!("{}: {}: {detail}\n", found.code, path.escape_debug()));
    }
    for line in &ended.told {
        text.push_str(&format!("problem: {}\n", line.escape_debug()));
    }
    text
}
