//! `fsd wait`

use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::ProgressBar;
use policies::units::parse_duration;

use super::super::api::Client;
use super::super::api::types::WaitProgress;
use super::find::{self, DaemonArgs};
use super::output::{amount, bytes_bar, count, print_json, stderr_is_terminal};
use super::{Context, Exit, Failure, Outcome};

#[derive(Debug, clap::Args)]
pub(super) struct WaitArgs {
    /// Wait for this file or directory only; for everything if left out
    path: Option<PathBuf>,
    /// Give up after this time, such as 30s or 5m
    #[arg(long, value_parser = parse_duration)]
    timeout: Option<Duration>,
    /// Print JSON: what is left at the end
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: DaemonArgs,
}

pub(super) async fn wait(args: &WaitArgs, context: &Context<'_>) -> Outcome {
    let found = find::daemon(&args.daemon, args.path.as_deref(), context).await?;
    let path = args.path.as_ref().and(found.path.as_deref());
    let (progress, outcome) = until_uploaded(&found.client, path, args.timeout).await?;
    if args.json {
        print_json(&progress)?;
    }
    outcome
}

/// Waits until all that is at and below `path` is uploaded, or it makes no sense to wait longer; says how it stood then.
pub(super) async fn until_uploaded(
    client: &Client,
    path: Option<&Path>,
    timeout: Option<Duration>,
) -> Result<(WaitProgress, Outcome), Failure> {
    let mut display = Display::new(stderr_is_terminal());
    let mut last = WaitProgress::default();
    let all = async {
        loop {
            last = client.wait(path).await?;
            display.show(&last);
            if last.items == last.parked {
                return Ok(());
            }
        }
    };
    let ended: Result<Outcome, _> =
        tokio::time::timeout(timeout.unwrap_or(Duration::MAX), all).await;
    display.finish();
    let Ok(ended) = ended else {
        let left = amount(last.items, last.bytes);
        let blocked = last.blocked.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        let message = format!("{left} are still to be uploaded{blocked}");
        return Ok((last, Err(Failure::new(Exit::Unfinished, message))));
    };
    ended?;
    let outcome = match last.parked {
        0 => Ok(()),
        parked => {
            let wait = if parked == 1 { "waits" } else { "wait" };
            let items = count(parked, "item");
            let message = format!("{items} {wait} for a person: parked, or held back");
            Err(Failure::new(Exit::Unfinished, message)
                .hint("`fsd queue` shows why, `fsd queue retry` lets it go"))
        }
    };
    Ok((last, outcome))
}

/// A bar on a terminal, lines elsewhere.
struct Display {
    bar: ProgressBar,
    on_terminal: bool,
    /// What is done and what is left.
    bytes_total: u64,
    blocked: Option<String>,
}

impl Display {
    fn new(on_terminal: bool) -> Self {
        let bar = bytes_bar();
        Self { bar, on_terminal, bytes_total: 0, blocked: None }
    }

    fn show(&mut self, progress: &WaitProgress) {
        // What arrives while we wait makes the way longer; it never takes back what is done.
        self.bytes_total = self.bytes_total.max(self.bar.position() + progress.bytes);
        self.bar.set_length(self.bytes_total);
        self.bar.set_position(self.bytes_total - progress.bytes);
        let items = format!("{} left", count(progress.items, "item"));
        let message = match &progress.blocked {
            None => items,
            Some(why) => format!("{items}, {why}"),
        };
        self.bar.set_message(message);
        if !self.on_terminal && progress.blocked != self.blocked {
            match &progress.blocked {
                Some(why) => eprintln!("fsd: nothing moves: {why}"),
                None => eprintln!("fsd: goes on"),
            }
        }
        self.blocked.clone_from(&progress.blocked);
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
