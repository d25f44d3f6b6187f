//! `fsd warm` and `fsd scrub`

use std::path::PathBuf;

use indicatif::ProgressBar;
use policies::units::show_bytes;

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
    let id = found.client.start_work(&WorkStart { kind, path }).await?;
    let bar = bytes_bar();
    let stop = tokio::signal::ctrl_c();
    tokio::pin!(stop);
    let mut stopping = false;
    let ended = loop {
        tokio::select! {
            progress = found.client.work(id) => {
                let progress = progress?;
                show(&bar, &progress);
                if progress.over {
                    break progress;
                }
            }
            _ = &mut stop, if !stopping => {
                stopping = true;
                found.client.stop_work(id).await?;
            }
        }
    };
    bar.finish_and_clear();
    if args.json {
        print_json(&ended)?;
    } else {
        print(&text(&ended))?;
    }
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

fn text(ended: &WorkProgress) -> String {
    let verb = match ended.kind {
        WorkKind::Warm => "fetched",
        WorkKind::Scrub => "looked at",
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
    for line in &ended.told {
        text.push_str(&format!("problem: {}\n", line.escape_debug()));
    }
    text
}
