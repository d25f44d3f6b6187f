//! `fsd warm`, `fsd scrub`, `fsd refresh`, `fsd check` and `fsd work`: what takes long, shown until it is over or left to itself.

use std::path::{Path, PathBuf};

use indicatif::ProgressBar;
use policies::units::show_bytes;

use super::super::api::Client;
use super::super::api::types::{Changes, Finding, WorkId, WorkKind, WorkProgress, WorkStart};
use super::find::{self, DaemonArgs};
use super::output::{bytes_bar, count, count_bar, print, print_json, table};
use super::{Context, Exit, Failure, Outcome};

#[derive(Debug, clap::Args)]
pub(super) struct WorkArgs {
    /// A file or directory in a mount
    path: PathBuf,
    #[command(flatten)]
    how: HowArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct RefreshArgs {
    /// A file or directory in a mount; everything if left out
    path: Option<PathBuf>,
    /// Also directories that nobody looked at yet: walks all there is
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    how: HowArgs,
    #[command(flatten)]
    daemon: DaemonArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct CheckArgs {
    /// A file or directory in a mount; everything if left out
    path: Option<PathBuf>,
    /// Mend what needs no decision, and take in what the store has
    #[arg(long)]
    repair: bool,
    #[command(flatten)]
    how: HowArgs,
    #[command(flatten)]
    daemon: DaemonArgs,
}

/// How long work is asked for.
#[derive(Debug, clap::Args)]
pub(super) struct HowArgs {
    /// Return at once; `fsd work` shows how far it is. Else it stops when this command goes
    #[arg(long)]
    background: bool,
    /// Print JSON: how it stood at the end
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct UnderWayArgs {
    /// Stop the work of this number; what it did stays
    #[arg(long, value_name = "NUMBER")]
    stop: Option<u64>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: DaemonArgs,
}

pub(super) async fn work(kind: WorkKind, args: &WorkArgs, context: &Context<'_>) -> Outcome {
    let found = find::daemon(&DaemonArgs::default(), Some(&args.path), context).await?;
    let path = found.path.clone().or_else(|| Some(args.path.clone()));
    begin(&found.client, WorkStart { path, ..WorkStart::of(kind) }, &args.how).await
}

pub(super) async fn refresh(args: &RefreshArgs, context: &Context<'_>) -> Outcome {
    let found = find::daemon(&args.daemon, args.path.as_deref(), context).await?;
    let path = args.path.as_ref().and(found.path.clone());
    let start = WorkStart { path, all: args.all, ..WorkStart::of(WorkKind::Refresh) };
    begin(&found.client, start, &args.how).await
}

pub(super) async fn check(args: &CheckArgs, context: &Context<'_>) -> Outcome {
    let found = find::daemon(&args.daemon, args.path.as_deref(), context).await?;
    let path = args.path.as_ref().and(found.path.clone());
    let start = WorkStart { path, repair: args.repair, ..WorkStart::of(WorkKind::Check) };
    begin(&found.client, start, &args.how).await
}

/// `fsd work`
pub(super) async fn under_way(args: &UnderWayArgs, context: &Context<'_>) -> Outcome {
    let found = find::daemon(&args.daemon, None, context).await?;
    let works = match args.stop {
        Some(id) => vec![found.client.stop_work(WorkId { id }).await?],
        None => found.status.work,
    };
    if args.json {
        return print_json(&works);
    }
    let rows: Vec<_> = works.iter().map(row).collect();
    print(&table(["number", "what", "done", "path"], &rows))
}

fn row(progress: &WorkProgress) -> [String; 4] {
    let done = format!("{} of {}", progress.files_done, progress.files);
    [progress.id.to_string(), progress.kind.word().to_owned(), done, shown(&progress.path)]
}

fn shown(path: &Path) -> String {
    if path.as_os_str().is_empty() { "everything".to_owned() } else { path.display().to_string() }
}

async fn begin(client: &Client, start: WorkStart, how: &HowArgs) -> Outcome {
    if how.background {
        let id = client.start_work(&WorkStart { background: true, ..start }).await?;
        return match how.json {
            true => print_json(&id),
            false => print(&format!("under way, as number {}\n", id.id)),
        };
    }
    let ended = until_over(client, &start).await?;
    if how.json {
        print_json(&ended)?;
    } else {
        print(&text(&ended))?;
    }
    outcome(&ended)
}

/// Begins work, and shows how far it is until it is over; `Ctrl-C` stops it.
pub(super) async fn until_over(
    client: &Client,
    start: &WorkStart,
) -> Result<WorkProgress, Failure> {
    let id = client.start_work(start).await?;
    let bar = match start.kind {
        WorkKind::Warm | WorkKind::Scrub | WorkKind::Verify => bytes_bar(),
        WorkKind::Refresh | WorkKind::Recover | WorkKind::Check => count_bar(),
    };
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

/// How a command ends whose work ended so.
pub(super) fn outcome(ended: &WorkProgress) -> Outcome {
    // What a verification finds has an exit code of its own.
    let is_verification = ended.kind == WorkKind::Verify;
    let left = if is_verification { 0 } else { ended.found.saturating_sub(ended.repaired) };
    match (ended.stopped, ended.problems + left) {
        (true, _) => Err(Failure::new(Exit::Unfinished, "stopped; what was done until then stays")),
        (false, 0) => Ok(()),
        (false, problems) => {
            Err(Failure::new(Exit::Unfinished, format!("{} remained", count(problems, "problem"))))
        }
    }
}

fn show(bar: &ProgressBar, progress: &WorkProgress) {
    let files = format!("{} of {}", progress.files_done, count(progress.files, "file"));
    let (length, position, message) = match progress.kind {
        WorkKind::Warm | WorkKind::Scrub | WorkKind::Verify => {
            (progress.bytes, progress.bytes_done, files)
        }
        WorkKind::Refresh | WorkKind::Recover => {
            let message = format!("looked at; {}", changes(progress.changes));
            (progress.files, progress.files_done, message)
        }
        WorkKind::Check => {
            let message = format!("looked at; found: {}", progress.found);
            (progress.files, progress.files_done, message)
        }
    };
    bar.set_length(length);
    bar.set_position(position);
    bar.set_message(message);
}

/// What work did, in lines.
pub(super) fn text(ended: &WorkProgress) -> String {
    let WorkProgress { files, files_done, .. } = *ended;
    let bytes = || show_bytes(ended.bytes_done);
    let mut text = match ended.kind {
        WorkKind::Warm => {
            format!("fetched: {files_done} of {}, {}\n", count(files, "file"), bytes())
        }
        WorkKind::Scrub => {
            format!("looked at: {files_done} of {}, {}\n", count(files, "file"), bytes())
        }
        WorkKind::Verify => {
            format!("compared: {files_done} of {}, {}\n", count(files, "file"), bytes())
        }
        WorkKind::Refresh => format!(
            "looked at: {files_done} of {files} known directories\n{}\n",
            changes(ended.changes)
        ),
        WorkKind::Recover => format!(
            "asked for: {files_done} of {files} directories and attributes of files\n{}\n",
            changes(ended.changes)
        ),
        WorkKind::Check => format!(
            "looked at: {files_done} of {files} directories and names\nfound: {}, repaired: {}\n",
            ended.found, ended.repaired
        ),
    };
    for finding in &ended.findings {
        text.push_str(&line_of(ended.kind, finding));
    }
    if ended.mended > 0 {
        text.push_str(&format!("mended: {}\n", count(ended.mended, "block")));
    }
    if ended.unproven > 0 {
        let files = count(ended.unproven, "file");
        text.push_str(&format!("unproven: {files}, of whose content nothing is known\n"));
    }
    for line in &ended.told {
        text.push_str(&format!("problem: {}\n", line.escape_debug()));
    }
    text
}

fn line_of(kind: WorkKind, finding: &Finding) -> String {
    let Finding { code, at, what, repair, repaired } = finding;
    if kind == WorkKind::Verify {
        return format!("{code}: {}: {}\n", at.escape_debug(), what.escape_debug());
    }
    let done = match (repaired, repair) {
        (true, Some(repair)) => format!("repaired: {repair}"),
        (true, None) => "repaired".to_owned(),
        (false, Some(repair)) => format!("with --repair: {repair}"),
        (false, None) => "no repair without loss: a person has to decide".to_owned(),
    };
    format!("{code}: {}: {}; {done}\n", at.escape_debug(), what.escape_debug())
}

fn changes(Changes { added, changed, gone }: Changes) -> String {
    format!("new: {added}, changed: {changed}, gone: {gone}")
}
