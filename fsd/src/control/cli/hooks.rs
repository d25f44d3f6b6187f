//! `fsd hooks`

use std::path::PathBuf;

use clap::Subcommand;

use super::super::api::hooks::{HookPause, HookRun, ResultFilter, Say};
use super::super::api::lists::{LIST_DEFAULT, LIST_MAX};
use super::super::api::types::{Engine, HookResult, Job, JobFilter, JobState, Retry};
use super::find::{self, DaemonArgs};
use super::output::{ago, count, print, print_json, table};
use super::{Context, Exit, Failure, Outcome, status};

#[derive(Debug, clap::Args)]
pub(super) struct HooksArgs {
    #[command(subcommand)]
    command: HooksCommand,
}

#[derive(Debug, Subcommand)]
enum HooksCommand {
    /// Show all hooks and how many jobs they have
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        daemon: DaemonArgs,
    },
    /// Show jobs, the latest first
    Jobs {
        /// Only those of this hook
        #[arg(long)]
        hook: Option<String>,
        /// Only those in this state
        #[arg(long)]
        state: Option<JobState>,
        /// Show at most so many
        #[arg(long, default_value_t = LIST_DEFAULT)]
        limit: usize,
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        daemon: DaemonArgs,
    },
    /// Show what hooks found in files that are there now, the latest first
    Results {
        /// Only in this file, or in all below this directory
        path: Option<PathBuf>,
        /// Only what this hook found
        #[arg(long)]
        hook: Option<String>,
        /// Only results with these fields: 'blurred = true and laplacian_variance < 80'
        #[arg(long = "where", value_name = "CONDITION")]
        condition: Option<String>,
        /// Show at most so many
        #[arg(long, default_value_t = LIST_DEFAULT)]
        limit: usize,
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        daemon: DaemonArgs,
    },
    /// Have a hook look at files that it has no result for, at what was there before it was
    Run {
        /// Its name, as `fsd hooks list` shows it
        hook: String,
        /// A file, or a directory for all below it
        path: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Have a hook rest: its jobs wait, also after a start, until `resume`
    Pause {
        /// Its name; all if left out
        hook: Option<String>,
        #[command(flatten)]
        daemon: DaemonArgs,
    },
    /// Have a hook go on that rests
    Resume {
        /// Its name; all if left out
        hook: Option<String>,
        #[command(flatten)]
        daemon: DaemonArgs,
    },
    /// Say whether files may leave, in place of the hooks that are gates for them: pass, hold or drop
    Verdict {
        /// pass, hold (until a person says something else) or drop (it stays here)
        verdict: policies::Verdict,
        /// A file, or a directory for all in it that waits
        path: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Try jobs again that failed or were parked
    Retry {
        /// The number of the job, as `fsd hooks jobs` shows it
        #[arg(required_unless_present = "all")]
        job: Option<u64>,
        /// All that failed or were parked
        #[arg(long, conflicts_with = "job")]
        all: bool,
        #[command(flatten)]
        daemon: DaemonArgs,
    },
}

pub(super) async fn hooks(args: &HooksArgs, context: &Context<'_>) -> Outcome {
    match &args.command {
        HooksCommand::List { json, daemon } => {
            let found = find::daemon(daemon, None, context).await?;
            let hooks = found.client.hooks().await?;
            if *json { print_json(&hooks) } else { print(&status::hooks(&hooks)) }
        }
        HooksCommand::Jobs { hook, state, limit, json, daemon } => {
            if *limit > LIST_MAX {
                return Err(Failure::new(Exit::Usage, format!("--limit is at most {LIST_MAX}")));
            }
            let found = find::daemon(daemon, None, context).await?;
            let filter = JobFilter { hook: hook.clone(), state: *state, limit: *limit };
            let jobs = found.client.hook_jobs(&filter).await?;
            if *json { print_json(&jobs) } else { print(&jobs_text(&jobs)) }
        }
        HooksCommand::Results { path, hook, condition, limit, json, daemon } => {
            let found = find::daemon(daemon, path.as_deref(), context).await?;
            let path = found.path.clone().or_else(|| path.clone());
            let (hook, condition, limit) = (hook.clone(), condition.clone(), *limit);
            let filter = ResultFilter { path, hook, condition, limit };
            let results = found.client.hook_results(&filter).await?;
            if *json { print_json(&results) } else { print(&results_text(&results)) }
        }
        HooksCommand::Run { hook, path, json } => {
            let found = find::daemon(&DaemonArgs::default(), Some(path), context).await?;
            let path = found.path.clone().unwrap_or_else(|| path.clone());
            let begun = found.client.run_hook(&HookRun { hook: hook.clone(), path }).await?;
            begun.problems.iter().for_each(|problem| eprintln!("fsd: {problem}"));
            match json {
                true => print_json(&begun),
                false => print(&format!(
                    "{} to be looked at; {} had a job already\n",
                    count(begun.files, "file"),
                    begun.had
                )),
            }
        }
        HooksCommand::Pause { hook, daemon } => rest(hook, true, daemon, context).await,
        HooksCommand::Resume { hook, daemon } => rest(hook, false, daemon, context).await,
        HooksCommand::Verdict { verdict, path, json } => {
            let found = find::daemon(&DaemonArgs::default(), Some(path), context).await?;
            let path = found.path.clone().unwrap_or_else(|| path.clone());
            let say = Say { path, verdict: verdict.to_string() };
            let spoken = found.client.say(&say).await?;
            match json {
                true => print_json(&spoken),
                false => print(&format!("{}: {verdict}\n", count(spoken.files, "file"))),
            }
        }
        HooksCommand::Retry { job, all: _, daemon } => {
            let found = find::daemon(daemon, None, context).await?;
            let retry = job.map_or(Retry::All, Retry::Job);
            let retried = found.client.hook_retry(&retry).await?;
            eprintln!("fsd: {} tried again", count(retried.jobs, "job"));
            Ok(())
        }
    }
}

async fn rest(
    hook: &Option<String>,
    paused: bool,
    daemon: &DaemonArgs,
    context: &Context<'_>,
) -> Outcome {
    let found = find::daemon(daemon, None, context).await?;
    let hooks = found.client.pause_hooks(&HookPause { hook: hook.clone(), paused }).await?;
    print(&status::hooks(&hooks))
}

fn jobs_text(jobs: &[Job]) -> String {
    let row = |job: &Job| {
        let state = match job.state {
            JobState::Waiting => "waiting",
            JobState::Running => "running",
            JobState::Done => "done",
            JobState::Failed => "failed",
            JobState::Parked => "parked",
        };
        [
            job.id.to_string(),
            job.hook.clone(),
            state.to_owned(),
            ago(job.changed),
            job.tries.to_string(),
            format!("{}/{}", job.share, job.path.trim_start_matches('/')),
            job.error.clone().unwrap_or_default(),
        ]
    };
    let rows: Vec<_> = jobs.iter().map(row).collect();
    table(["job", "hook", "state", "changed", "tries", "file", "error"], &rows)
}

fn results_text(results: &[HookResult]) -> String {
    let mut text = String::new();
    for result in results {
        let engine = match (result.engine, &result.adapter) {
            (Engine::Gpu, Some(adapter)) => format!("GPU {adapter}"),
            (Engine::Gpu, None) => "GPU".to_owned(),
            (Engine::Cpu, _) => "CPU".to_owned(),
            (Engine::Command, _) => "program".to_owned(),
            (Engine::Container, _) => "container".to_owned(),
        };
        let path = result.path.as_deref().map(|path| format!("{}: ", path.display()));
        let path = path.unwrap_or_default();
        text.push_str(&format!("{path}{} ({}, {engine})\n", result.hook, ago(result.at)));
        for (name, value) in &result.fields {
            text.push_str(&format!("  {name} = {value}\n"));
        }
        result.derived.iter().for_each(|file| text.push_str(&format!("  → {file}\n")));
    }
    text
}
