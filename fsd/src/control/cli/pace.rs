//! `fsd pace`

use std::time::Duration;

use clap::Subcommand;
use policies::Rate;
use policies::units::{parse_duration, show_bytes};

use super::super::api::steer::{BudgetState, PaceChange, PaceReason, PaceState};
use super::find::{self, DaemonArgs};
use super::output::{print, print_json, table};
use super::{Context, Outcome};

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct PaceArgs {
    #[command(subcommand)]
    command: Option<PaceCommand>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: DaemonArgs,
}

#[derive(Debug, Subcommand)]
enum PaceCommand {
    /// Set a pace in place of the schedule's, also for transfers under way
    Set {
        /// The share; all of the gateway if left out
        share: Option<String>,
        /// Upload at most so fast: 10Mbit/s, 1MiB/s, unlimited, or off
        #[arg(long, value_name = "RATE", required_unless_present = "down")]
        up: Option<Rate>,
        /// Download at most so fast
        #[arg(long, value_name = "RATE")]
        down: Option<Rate>,
        /// For so long, such as 2h; until it is reset, or the daemon ends, if left out
        #[arg(long = "for", value_name = "DURATION", value_parser = some_time)]
        lasts: Option<Duration>,
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        daemon: DaemonArgs,
    },
    /// Go back to the schedule
    Reset {
        /// The share; the gateway's own pace if left out
        share: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        daemon: DaemonArgs,
    },
}

/// A duration that is not over as it begins.
fn some_time(text: &str) -> Result<Duration, String> {
    match parse_duration(text) {
        Ok(Duration::ZERO) => {
            Err("that is over at once; `fsd pace reset` goes back to the schedule".to_owned())
        }
        Ok(duration) => Ok(duration),
        Err(error) => Err(error.to_string()),
    }
}

pub(super) async fn pace(args: &PaceArgs, context: &Context<'_>) -> Outcome {
    let (paces, json) = match &args.command {
        None => {
            let client = find::daemon(&args.daemon, None, context).await?.client;
            (client.paces().await?, args.json)
        }
        Some(PaceCommand::Set { share, up, down, lasts, json, daemon }) => {
            let change = PaceChange {
                share: share.clone(),
                up: up.map(|rate| rate.to_string()),
                down: down.map(|rate| rate.to_string()),
                seconds: lasts.map(|lasts| lasts.as_secs().max(1)),
                reset: false,
            };
            (find::daemon(daemon, None, context).await?.client.set_pace(&change).await?, *json)
        }
        Some(PaceCommand::Reset { share, json, daemon }) => {
            let change = PaceChange { share: share.clone(), reset: true, ..PaceChange::default() };
            (find::daemon(daemon, None, context).await?.client.set_pace(&change).await?, *json)
        }
    };
    if json {
        return print_json(&paces);
    }
    let rows: Vec<_> = paces.iter().map(row).collect();
    print(&table(["share", "way", "rate", "set by", "until", "today", "this month"], &rows))
}

fn row(pace: &PaceState) -> [String; 7] {
    let budget = |budget: &Option<BudgetState>| match budget {
        None => String::new(),
        Some(budget) => format!("{} of {}", show_bytes(budget.spent), show_bytes(budget.bytes)),
    };
    let reason = match pace.reason {
        PaceReason::Paused => "a pause",
        PaceReason::Budget => "the budget, which is spent",
        PaceReason::ByHand => "hand",
        PaceReason::Schedule => "the configuration",
    };
    [
        pace.share.clone().unwrap_or_else(|| "(all)".to_owned()),
        pace.way.clone(),
        pace.rate.clone(),
        reason.to_owned(),
        pace.until.map_or_else(String::new, |at| at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()),
        budget(&pace.day),
        budget(&pace.month),
    ]
}
