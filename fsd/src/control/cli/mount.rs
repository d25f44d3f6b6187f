//! `fsd mount`, which is also how `mount(8)` mounts: `mount -t fuse.fsd URL DIR -o …`, and lines of `/etc/fstab`.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use nix::mount::MsFlags;

use super::daemon::{self, DaemonizeArgs};
use super::{Context, Exit, Failure, Outcome};
use crate::config::file::{CacheSection, File, HookSection, ShareSection};
use crate::config::{Config, Problem};
use crate::types::fnv1a;
use policies::ScheduleSection;

#[derive(Debug, clap::Args)]
pub(super) struct MountArgs {
    /// Where the files live: az://CONTAINER/PREFIX, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or file:///PATH
    url: String,
    /// Where to mount them: a directory that exists
    dir: PathBuf,
    /// Keep cached files and all state here; by default a directory of the URL's own
    #[arg(long, value_name = "DIR")]
    cache_dir: Option<PathBuf>,
    /// The most that cached files may take, such as 64GiB
    #[arg(long, value_name = "SIZE")]
    cache_size: Option<String>,
    /// Let nothing be changed
    #[arg(long)]
    read_only: bool,
    /// Let other users in, as far as modes and owners do
    #[arg(long)]
    allow_other: bool,
    /// Run the hook of this folder, or all hooks in the folders in it; can be given again
    #[arg(long, value_name = "DIR")]
    hooks: Vec<PathBuf>,
    /// Upload at most so fast: 10Mbit/s, 1MiB/s, unlimited, or off for no uploads at all
    #[arg(long, value_name = "RATE")]
    bwlimit_up: Option<String>,
    /// Download at most so fast; off for no downloads
    #[arg(long, value_name = "RATE")]
    bwlimit_down: Option<String>,
    /// Ask the store again for the names of a directory that is read when the last answer is so old; 60s if left out
    #[arg(long, value_name = "TIME")]
    refresh_after: Option<String>,
    /// Ask the store so often for changes in all directories that are known here, such as 15m; off if left out
    #[arg(long, value_name = "TIME")]
    refresh_every: Option<String>,
    /// Believe the store's certificate by the authorities in this PEM file too
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    #[command(flatten)]
    daemonize: DaemonizeArgs,
    /// The same as options of mount(8): ro, noexec, nopassthrough, noacl, allow_other, cache_dir=DIR, cache_size=SIZE, hooks=DIR, bwlimit_up=RATE,
    /// bwlimit_down=RATE, refresh_after=TIME, refresh_every=TIME, ca_file=FILE; and what a share is set to in a configuration file: upload_delay=1m, conflicts=local-wins, deletes=trash, …
    #[arg(short, value_name = "OPTIONS", value_delimiter = ',')]
    options: Vec<String>,
    /// What mount(8) gives to all its helpers
    #[command(flatten)]
    helper: HelperArgs,
}

#[derive(Debug, clap::Args)]
struct HelperArgs {
    #[arg(short = 's', hide = true)]
    sloppy: bool,
    #[arg(short = 'f', hide = true)]
    fake: bool,
    #[arg(short = 'n', hide = true)]
    no_mtab: bool,
    #[arg(short = 'v', hide = true)]
    verbose: bool,
    #[arg(short = 't', hide = true)]
    kind: Option<String>,
}

/// Options that `mount(8)` and `/etc/fstab` use among themselves, or that say what is so anyway.
const FOR_OTHERS: &[&str] = &[
    "_netdev",
    "async",
    "atime",
    "auto",
    "defaults",
    "dev",
    "diratime",
    "group",
    "loud",
    "noatime",
    "noauto",
    "nodev",
    "nodiratime",
    "nofail",
    "nosuid",
    "nouser",
    "owner",
    "relatime",
    "rw",
    "suid",
    "user",
    "users",
];

pub(super) fn mount(args: &MountArgs, context: &Context<'_>) -> Outcome {
    if args.options.iter().any(|option| option == "remount") {
        return remount(args);
    }
    let file = file(args, context)?;
    let config = Config::check(&file, jiff::tz::db()).map_err(explain)?;
    check_dir(&args.dir)?;
    if args.helper.fake { Ok(()) } else { daemon::start(config, &args.daemonize, context) }
}

/// `mount -o remount,ro` and `rw`: the kernel alone lets nothing be changed, or lets it again. All else stays as it was mounted.
fn remount(args: &MountArgs) -> Outcome {
    let mut flags =
        MsFlags::MS_REMOUNT | MsFlags::MS_NODEV | MsFlags::MS_NOSUID | MsFlags::MS_NOATIME;
    for option in &args.options {
        match option.as_str() {
            "ro" => flags.insert(MsFlags::MS_RDONLY),
            "rw" => flags.remove(MsFlags::MS_RDONLY),
            "noexec" => flags.insert(MsFlags::MS_NOEXEC),
            "exec" => flags.remove(MsFlags::MS_NOEXEC),
            _ => {}
        }
    }
    let none = None::<&str>;
    nix::mount::mount(none, &args.dir, none, flags, none)
        .with_context(|| format!("remount {}", args.dir.display()))?;
    Ok(())
}

/// The arguments as the file that would say the same.
fn file(args: &MountArgs, context: &Context<'_>) -> Result<File, Failure> {
    let url = args.url.strip_prefix("fsd#").unwrap_or(&args.url);
    let mut share = ShareSection {
        name: name_of(url),
        mount: settled(&args.dir)?,
        url: Some(url.to_owned()),
        read_only: args.read_only,
        allow_other: args.allow_other,
        refresh_after: args.refresh_after.clone(),
        refresh_every: args.refresh_every.clone(),
        ..ShareSection::default()
    };
    let mut cache_dir = args.cache_dir.clone();
    let mut cache_size = args.cache_size.clone();
    let mut ca_file = args.ca_file.clone();
    let mut hooks = args.hooks.clone();
    let (mut up, mut down) = (args.bwlimit_up.clone(), args.bwlimit_down.clone());
    for option in args.options.iter().filter(|option| !option.is_empty()) {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let given = || Some(value.to_owned());
        if let Some(setting) = setting(&mut share, name) {
            *setting = given();
            continue;
        }
        match name {
            "ro" => share.read_only = true,
            "allow_other" => share.allow_other = true,
            "exec" => share.no_exec = false,
            "noexec" => share.no_exec = true,
            "nopassthrough" => share.passthrough = Some(false),
            "noacl" => share.acl = Some(false),
            "acl" => share.acl = Some(true),
            "cache_dir" => cache_dir = Some(value.into()),
            "cache_size" => cache_size = given(),
            "hooks" => hooks.push(value.into()),
            "bwlimit_up" => up = given(),
            "bwlimit_down" => down = given(),
            "refresh_after" => share.refresh_after = given(),
            "refresh_every" => share.refresh_every = given(),
            "ca_file" => ca_file = Some(value.into()),
            "comment" => {}
            name if FOR_OTHERS.contains(&name) || name.starts_with("x-") || args.helper.sloppy => {}
            name => {
                let hint = format!(
                    "options are ro, noexec, nopassthrough, noacl, allow_other, cache_dir=, cache_size=, hooks=, bwlimit_up=, bwlimit_down=, refresh_after=, refresh_every=, ca_file=, {}=",
                    SETTINGS.join("=, ")
                );
                return Err(
                    Failure::new(Exit::Usage, format!("there is no option {name:?}")).hint(hint)
                );
            }
        }
    }
    share.ca_file = ca_file.map(|file| settled(&file)).transpose()?;
    let state_dir = match cache_dir {
        Some(dir) => settled(&dir)?,
        None => state_dir_of(url, context)?,
    };
    Ok(File {
        state_dir: Some(state_dir),
        cache: CacheSection { disk_max: cache_size, ..CacheSection::default() },
        upload: ScheduleSection { default: up, ..ScheduleSection::default() },
        download: ScheduleSection { default: down, ..ScheduleSection::default() },
        share: vec![share],
        hook: hook_sections(&hooks)?,
        ..File::default()
    })
}

/// Settings of a share that are options too.
const SETTINGS: &[&str] = &[
    "upload_delay",
    "fsync",
    "fsync_wait",
    "offline_reads",
    "offline_wait",
    "order",
    "alert_after",
    "conflicts",
    "conflicts_retention",
    "deletes",
    "trash_retention",
];

/// The setting of `share` that the option `name` sets.
fn setting<'s>(share: &'s mut ShareSection, name: &str) -> Option<&'s mut Option<String>> {
    Some(match name {
        "upload_delay" => &mut share.upload_delay,
        "fsync" => &mut share.fsync,
        "fsync_wait" => &mut share.fsync_wait,
        "offline_reads" => &mut share.offline_reads,
        "offline_wait" => &mut share.offline_wait,
        "order" => &mut share.order,
        "alert_after" => &mut share.alert_after,
        "conflicts" => &mut share.conflicts,
        "conflicts_retention" => &mut share.conflicts_retention,
        "deletes" => &mut share.deletes,
        "trash_retention" => &mut share.trash_retention,
        _ => return None,
    })
}

/// A name for the share, out of the last part of its URL that has one.
fn name_of(url: &str) -> String {
    let (_, place) = url.split_once("://").unwrap_or(("", url));
    let last = place.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let kept: String = last
        .chars()
        .map(|ch| if ch.is_ascii_alphanumeric() || "-_.".contains(ch) { ch } else { '-' })
        .skip_while(|ch| !ch.is_ascii_alphanumeric())
        .take(64)
        .collect();
    if kept.is_empty() { "drive".to_owned() } else { kept }
}

/// Where the state of a URL is kept: always in the same place, since files that are not uploaded yet lie there.
fn state_dir_of(url: &str, context: &Context<'_>) -> Result<PathBuf, Failure> {
    let base = if super::super::api::socket::current_uid() == 0 {
        PathBuf::from("/var/lib/fsd-mounts")
    } else {
        let xdg = context.var("XDG_STATE_HOME").map(PathBuf::from);
        let home = || Some(Path::new(context.var("HOME")?).join(".local/state"));
        let base = xdg.or_else(home).ok_or_else(|| {
            Failure::new(Exit::Usage, "there is no home directory to keep the state in")
                .hint("say where with --cache-dir DIR")
        })?;
        base.join("fsd-mounts")
    };
    let url = url.trim_end_matches('/');
    Ok(base.join(format!("{}-{:016x}", name_of(url), fnv1a(url.bytes()))))
}

/// Each folder that has a `hook.toml`, or whose folders have one.
fn hook_sections(dirs: &[PathBuf]) -> Result<Vec<HookSection>, Failure> {
    let mut sections = Vec::new();
    for dir in dirs {
        let dir = settled(dir)?;
        let is_hook = |dir: &PathBuf| dir.join("hook.toml").is_file();
        let mut found = vec![dir.clone()];
        if !is_hook(&dir) {
            let entries =
                dir.read_dir().with_context(|| format!("look for hooks in {}", dir.display()))?;
            found = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_hook).collect();
            found.sort();
        }
        if found.is_empty() {
            let message = format!("neither {} nor a folder in it has a hook.toml", dir.display());
            return Err(Failure::new(Exit::Usage, message));
        }
        sections.extend(found.into_iter().map(|dir| HookSection { dir, ..HookSection::default() }));
    }
    Ok(sections)
}

/// An absolute path, as the kernel will show it. The last part is not looked at: it may be a mount that hangs.
fn settled(path: &Path) -> Result<PathBuf, Failure> {
    if path.to_str().is_none() {
        return Err(Failure::new(Exit::Usage, format!("{} is not UTF-8", path.display())));
    }
    let absolute = std::path::absolute(path).with_context(|| format!("find {}", path.display()))?;
    match (absolute.parent(), absolute.file_name()) {
        (Some(parent), Some(name)) => {
            Ok(parent.canonicalize().map_or_else(|_| absolute.clone(), |parent| parent.join(name)))
        }
        _ => Ok(absolute.canonicalize().unwrap_or(absolute)), // the root, or a path that ends in `..`
    }
}

fn check_dir(dir: &Path) -> Outcome {
    let shown = dir.display();
    match dir.symlink_metadata() {
        Ok(found) if !found.is_dir() => {
            Err(Failure::new(Exit::Usage, format!("{shown} is not a directory")))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let failure = Failure::new(Exit::Usage, format!("{shown} does not exist"));
            Err(failure.hint(format!("make it with `mkdir -p {shown}`")))
        }
        Ok(_) | Err(_) => Ok(()), // a mount left behind by a daemon that died answers nothing but errors
    }
}

/// Mistakes by the names of the arguments.
fn explain(problems: Vec<Problem>) -> Failure {
    let argument = |key: &str| match key {
        "share.0.url" => "URL".to_owned(),
        "share.0.mount" => "DIR".to_owned(),
        "share.0.refresh_after" => "--refresh-after".to_owned(),
        "share.0.refresh_every" => "--refresh-every".to_owned(),
        "share.0.ca_file" => "--ca-file".to_owned(),
        "state_dir" => "--cache-dir".to_owned(),
        "cache.disk_max" => "--cache-size".to_owned(),
        "upload.default" => "--bwlimit-up".to_owned(),
        "download.default" => "--bwlimit-down".to_owned(),
        key if key.starts_with("hook.") => "--hooks".to_owned(),
        key => match key.strip_prefix("share.0.") {
            Some(option) => format!("-o {option}"),
            None => key.to_owned(),
        },
    };
    let line = |problem: Problem| {
        format!("{} is {:?}: {}", argument(&problem.key), problem.value, problem.kind)
    };
    let lines: Vec<_> = problems.into_iter().map(line).collect();
    Failure::new(Exit::Usage, lines.join("\nfsd: "))
}
