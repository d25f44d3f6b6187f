//! `fsd events` and `fsd sinks`

use std::time::Duration;

use clap::Subcommand;
use serde_json::Value;

use super::super::api::lists::LIST_DEFAULT;
use super::super::api::sinks::{Event, EventQuery, Sink, SinkChange};
use super::find::{self, DaemonArgs};
use super::output::{ago, count, print, print_json, table};
use super::{Context, Failure, Outcome};

const FOLLOW_EVERY: Duration = Duration::from_millis(500);

#[derive(Debug, clap::Args)]
pub(super) struct EventsArgs {
    /// From this number on; if left out, the latest ones
    #[arg(long, value_name = "NUMBER")]
    from: Option<i64>,
    /// Only these: arrived, result, failed, verdict or alert
    #[arg(long)]
    kind: Option<String>,
    /// Only of files of this share
    #[arg(long)]
    share: Option<String>,
    /// Only of this hook
    #[arg(long)]
    hook: Option<String>,
    /// Show at most so many
    #[arg(long, default_value_t = LIST_DEFAULT)]
    limit: usize,
    /// Go on with what happens, until Ctrl-C
    #[arg(long)]
    follow: bool,
    /// Print JSON, a line each
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: DaemonArgs,
}

pub(super) async fn events(args: &EventsArgs, context: &Context<'_>) -> Outcome {
    let found = find::daemon(&args.daemon, None, context).await?;
    let EventsArgs { from, kind, share, hook, limit, .. } = args;
    let mut query = EventQuery {
        from: *from,
        kind: kind.clone(),
        share: share.clone(),
        hook: hook.clone(),
        limit: *limit,
    };
    let mut ticks = tokio::time::interval(FOLLOW_EVERY);
    loop {
        ticks.tick().await;
        let list = found.client.events(&query).await?;
        if let Some(from) = query.from.filter(|from| (1..list.first).contains(from)) {
            eprintln!(
                "fsd: {} before {} are not kept any more",
                count(list.first.abs_diff(from), "event"),
                list.first
            );
        }
        let mut text = String::new();
        for event in &list.events {
            text.push_str(&match args.json {
                true => serde_json::to_string(event)
                    .map_err(anyhow::Error::new)
                    .map_err(Failure::from)?,
                false => line(event),
            });
            text.push('\n');
        }
        print(&text)?;
        if !args.follow {
            return Ok(());
        }
        query.from = Some(list.next);
    }
}

/// An event in one line.
fn line(event: &Event) -> String {
    let Event { seq, at, kind, share, path, hook, data } = event;
    let hook = hook.as_deref().unwrap_or("-");
    let at = at.strftime("%Y-%m-%dT%H:%M:%SZ");
    format!("{seq:>8}  {at}  {kind:<8} {hook}  {share}/{path}  {}", summary(kind, data))
        .trim_end()
        .to_owned()
}

fn summary(kind: &str, data: &Value) -> String {
    let text = |name: &str| match &data[name] {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            data[name].to_string()
        }
    };
    match kind {
        "arrived" => format!("{} bytes", text("bytes")),
        "result" => fields(&data["result"]),
        "failed" => format!("{} after {} tries: {}", text("state"), text("tries"), text("error")),
        "verdict" => [text("verdict"), text("why")].join(" ").trim_end().to_owned(),
        "alert" => format!("{} ({})", text("condition"), fields(&data["result"])),
        _ => data.to_string(),
    }
}

fn fields(result: &Value) -> String {
    let fields = result.as_object().into_iter().flatten();
    let fields: Vec<_> = fields.map(|(name, value)| format!("{name}={value}")).collect();
    fields.join(" ")
}

#[derive(Debug, clap::Args)]
pub(super) struct SinksArgs {
    #[command(subcommand)]
    command: Option<SinksCommand>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    daemon: DaemonArgs,
}

#[derive(Debug, Subcommand)]
enum SinksCommand {
    /// Tell a sink again what happened
    Replay {
        /// Its name
        sink: String,
        /// From this event on, as `fsd events` numbers them
        #[arg(long, value_name = "NUMBER")]
        from: i64,
    },
    /// Do not tell a sink the one event that it does not take
    Skip {
        /// Its name
        sink: String,
    },
    /// Try a sink now that takes nothing
    Retry {
        /// Its name
        sink: String,
    },
}

pub(super) async fn sinks(args: &SinksArgs, context: &Context<'_>) -> Outcome {
    let found = find::daemon(&args.daemon, None, context).await?;
    let change = args.command.as_ref().map(|command| match command {
        SinksCommand::Replay { sink, from } => {
            SinkChange::Replay { sink: sink.clone(), from: *from }
        }
        SinksCommand::Skip { sink } => SinkChange::Skip { sink: sink.clone() },
        SinksCommand::Retry { sink } => SinkChange::Retry { sink: sink.clone() },
    });
    let sinks = match change {
        Some(change) => found.client.change_sink(&change).await?,
        None => found.client.sinks().await?,
    };
    if args.json { print_json(&sinks) } else { print(&sinks_text(&sinks)) }
}

fn sinks_text(sinks: &[Sink]) -> String {
    let row = |sink: &Sink| {
        let numbers = [sink.told, sink.behind, sink.missed].map(|number| number.to_string());
        let [told, behind, missed] = numbers;
        [sink.name.clone(), sink.target.clone(), told, behind, missed]
    };
    let rows: Vec<_> = sinks.iter().map(row).collect();
    let mut text = table(["sink", "target", "told", "behind", "missed"], &rows);
    text.push_str(&troubles(sinks));
    text
}

/// Sinks that are not as they should be, a line each.
pub(super) fn troubles(sinks: &[Sink]) -> String {
    let mut text = String::new();
    for Sink { name, behind, missed, error, failing_since, .. } in sinks {
        if let (Some(error), Some(since)) = (error, failing_since) {
            let waiting = count(*behind, "event");
            text.push_str(&format!(
                "sink {name}: {waiting} wait, it takes none since {}: {error}\n",
                ago(*since)
            ));
        }
        if *missed > 0 {
            let missed = count(*missed, "event");
            text.push_str(&format!("sink {name}: MISSED {missed}: it was away for too long\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_shown_in_one_line() {
        let event = Event {
            seq: 12,
            at: "2026-11-27T10:00:00Z".parse().unwrap(),
            kind: "alert".into(),
            share: "cam".into(),
            path: "a.jpg".into(),
            hook: Some("sharpness".into()),
            data: serde_json::json!({ "condition": "blurred = true", "result": { "blurred": true } }),
        };
        assert_eq!(
            line(&event),
            "      12  2026-11-27T10:00:00Z  alert    sharpness  cam/a.jpg  blurred = true (blurred=true)"
        );
    }

    #[test]
    fn a_sink_that_is_away_or_missed_something_is_shown() {
        let sink = Sink {
            name: "mes".into(),
            target: "https://mes/…".into(),
            seq: 3,
            behind: 2,
            told: 3,
            missed: 1,
            error: Some("it refuses: 500".into()),
            failing_since: Some("2026-11-27T10:00:00Z".parse().unwrap()),
        };
        let shown = sinks_text(&[sink]);
        assert!(shown.contains("mes   https://mes/…  3     2       1"), "{shown}");
        assert!(shown.contains("sink mes: 2 events wait, it takes none since"), "{shown}");
        assert!(shown.contains("ago: it refuses: 500\n"), "{shown}");
        assert!(shown.contains("MISSED 1 event:"), "{shown}");
    }
}
