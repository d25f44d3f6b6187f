//! `fsd status`

use policies::units::show_bytes;

use super::super::api::types::{Engine, Hook, Link, LostAndFound, Mount, Pace, Status};
use super::events;
use super::find::{self, DaemonArgs};
use super::output::{ago, amount, count, fact, print, print_json, table};
use super::{Context, Outcome};

#[derive(Debug, clap::Args)]
pub(super) struct StatusArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: DaemonArgs,
}

pub(super) async fn status(args: &StatusArgs, context: &Context<'_>) -> Outcome {
    let found = find::daemon(&args.daemon, None, context).await?;
    if args.json { print_json(&found.status) } else { print(&text(&found.status)) }
}

fn text(status: &Status) -> String {
    let mut text = table(
        ["mount", "share", "store", "link"],
        &status.mounts.iter().map(mount).collect::<Vec<_>>(),
    );
    text.push_str(&notes(status));
    text.push('\n');
    let cache = &status.cache;
    fact(
        &mut text,
        "cache",
        &format!(
            "{} of {}, {}, {} not uploaded",
            show_bytes(cache.bytes_used),
            show_bytes(cache.bytes_max),
            count(cache.files, "file"),
            show_bytes(cache.bytes_dirty)
        ),
    );
    let memory = &status.memory;
    let pages = show_bytes(memory.bytes_metadata);
    let most = show_bytes(memory.bytes_metadata_max);
    let resident = show_bytes(memory.bytes_resident);
    fact(&mut text, "memory", &format!("{resident}, of it inodes and names {pages} of {most}"));
    let queue = &status.queue;
    let waiting = amount(queue.items, queue.bytes);
    fact(
        &mut text,
        "queue",
        &format!(
            "{waiting}, {} sent now, {} parked, {} cancelled{}",
            queue.in_flight,
            queue.parked,
            queue.cancelled,
            kept_here(queue.kept_here)
        ),
    );
    fact(&mut text, "up", &pace(&status.rates.up));
    fact(&mut text, "down", &pace(&status.rates.down));
    if let Some(worker) = &status.worker {
        let sandbox = worker.sandbox.join(", ");
        fact(
            &mut text,
            "worker",
            &format!("process {}, {}, {sandbox}", worker.pid, worker.adapter),
        );
    }
    for limit in &status.programs {
        fact(&mut text, "program", limit);
    }
    let process =
        format!("fsd {}, process {}, started {}", status.version, status.pid, ago(status.started));
    fact(&mut text, "daemon", &process);
    if !status.hooks.is_empty() {
        text.push('\n');
        text.push_str(&hooks(&status.hooks));
    }
    text
}

fn kept_here(files: u64) -> String {
    if files > 0 { format!(", {files} to stay here") } else { String::new() }
}

/// What is not as it should be, and quotas.
fn notes(status: &Status) -> String {
    let mut text = String::new();
    if let Some(LostAndFound { dir, files }) = &status.cache.lost_and_found {
        let files = count(*files, "file");
        text.push_str(&format!(
            "LOST NAMES: the metadata store had lost changes; {files} without a name in {}: move them away\n",
            dir.display()
        ));
    }
    for mount in &status.mounts {
        if let Some(why) = &mount.daemon_path {
            text.push_str(&format!(
                "{}: slower, content goes through the daemon: {why}\n",
                mount.share
            ));
        }
    }
    text.push_str(&events::troubles(&status.sinks));
    for mount in &status.mounts {
        if let Some(since) = mount.late_since {
            let since = ago(since);
            text.push_str(&format!(
                "{}: LATE, something waits since {since}: see `fsd queue`\n",
                mount.share
            ));
        }
        for quota in mount.quotas.iter().filter_map(|quota| Some((quota, quota.bytes_max?))) {
            let (quota, most) = quota;
            let used = show_bytes(quota.bytes_used);
            let most = show_bytes(most);
            text.push_str(&format!("{}: user {} has {used} of {most}\n", mount.share, quota.uid));
        }
    }
    text
}

fn mount(mount: &Mount) -> [String; 4] {
    let link = match &mount.link {
        Link::Local => "local".to_owned(),
        Link::Online => "online".to_owned(),
        Link::Offline { since, error } => format!("offline ({}): {error}", ago(*since)),
        Link::Denied { since, error } => format!("refused ({}): {error}", ago(*since)),
        Link::Missing { since, error } => format!("missing ({}): {error}", ago(*since)),
    };
    let link = if mount.read_only { format!("{link}, read-only") } else { link };
    let store = mount.url.clone().unwrap_or_else(|| "-".to_owned());
    [mount.mount.display().to_string(), mount.share.clone(), store, link]
}

fn pace(pace: &Pace) -> String {
    let allowed = match pace.allowed_bytes_per_second {
        None => "no limit".to_owned(),
        Some(0) => "paused".to_owned(),
        Some(bytes) => format!("at most {}/s", show_bytes(bytes)),
    };
    format!(
        "{}/s, {allowed}, {} since the start",
        show_bytes(pace.bytes_per_second),
        show_bytes(pace.bytes_total)
    )
}

/// A table of hooks, with those that can't run explained below it.
pub(super) fn hooks(hooks: &[Hook]) -> String {
    let rows: Vec<_> = hooks
        .iter()
        .map(|hook| {
            let engine = match (&hook.error, hook.engine) {
                (Some(_), _) => "broken",
                (None, None) => "not loaded",
                (None, Some(Engine::Gpu)) => "gpu",
                (None, Some(Engine::Cpu)) => "cpu",
                (None, Some(Engine::Command)) => "program",
                (None, Some(Engine::Container)) => "container",
            };
            let engine = if hook.paused { format!("{engine}, paused") } else { engine.to_owned() };
            let version = hook.version.chars().take(12).collect();
            let jobs = &hook.jobs;
            let jobs = [jobs.waiting, jobs.running, jobs.done, jobs.failed, jobs.parked];
            let [waiting, running, done, failed, parked] = jobs.map(|jobs| jobs.to_string());
            [hook.name.clone(), version, engine, waiting, running, done, failed, parked]
        })
        .collect();
    let names = ["hook", "version", "engine", "waiting", "running", "done", "failed", "parked"];
    let mut text = table(names, &rows);
    for (hook, error) in hooks.iter().filter_map(|hook| Some((hook, hook.error.as_ref()?))) {
        text.push_str(&format!("{}: {error}\n", hook.name));
    }
    for (hook, why) in hooks.iter().filter_map(|hook| Some((hook, hook.unusable.as_ref()?))) {
        text.push_str(&format!(
            "{}: its folder has changed and can't be used, the version before goes on: {why}\n",
            hook.name
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::tests;

    #[test]
    fn a_status_is_shown_on_one_page() {
        let shown = text(&tests::status(&["/mnt/cam".into()]));
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let lines: Vec<_> = shown.lines().map(words).collect();
        assert_eq!(lines[0], "MOUNT SHARE STORE LINK");
        assert!(lines[1].starts_with("/mnt/cam cam s3://box/a offline ("), "{shown}");
        assert!(lines[1].ends_with("ago): no route, read-only"), "{shown}");
        assert_eq!(lines[2], "cam: user 7 has 1.0 MiB of 2.0 MiB");
        assert_eq!(lines[4], "cache 1.0 GiB of 64.0 GiB, 1 file, 1.0 MiB not uploaded");
        assert_eq!(lines[5], "memory 30.0 MiB, of it inodes and names 5.0 MiB of 24.0 MiB");
        assert_eq!(lines[6], "queue 2 items, 1.0 MiB, 1 sent now, 0 parked, 0 cancelled");
        assert_eq!(lines[7], "up 1.0 KiB/s, at most 1.0 MiB/s, 3.0 MiB since the start");
        assert_eq!(lines[8], "down 0 B/s, no limit, 0 B since the start");
        assert_eq!(lines[9], "worker process 8, none: no Vulkan, no files, no network");
        assert_eq!(lines[10], "program no network");
        assert_eq!(lines[13], "HOOK VERSION ENGINE WAITING RUNNING DONE FAILED PARKED");
        assert_eq!(lines[14], "thumbnail 0123456789ab cpu 1 0 5 0 0");
    }
}
