//! The one place where the parts meet: builds them, starts them, stops them in reverse.

mod hooks;

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use nix::fcntl::{Flock, FlockArg};
use policies::{EventKind, Gate, Rate, Schedule};
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::cache::{self, Cache, Defaults, Limits, Store};
use crate::clock::{Clock, SystemClock};
use crate::config::{CacheConfig, Config, FREE_BYTES_MIN, ShareConfig, StoreConfig};
use crate::control::api;
use crate::control::cli::{Program, Start, Vars};
use crate::control::ops::{self, Gateway, MountedShare, UnmountRequest};
use crate::events::Events;
use crate::frontend::fuse::{self, Mount, MountOptions};
use crate::hooks::Rule;
use crate::meta::{Meta, MetaError};
use crate::pace::{LaneParts, Paces, Way};
use crate::remote::{self, Env, Opened, Pacer, Pacers, RemoteError, RemoteUrl};
use crate::rng::Rng;
use crate::sinks::{self, Sink, SinkConfig};
use crate::sync::report::{self, Reporter};
use crate::sync::{self, Receipts, Sync};
use crate::tasks::{self, Tasks};
use crate::types::{Attr, FileKind, ShareId};
use crate::vfs::{self, Vfs};

/// How long the first question to a store may take; after that the store counts as unreachable.
const CHECK_PATIENCE: Duration = Duration::from_secs(15);
/// How long tasks may take to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(10);
/// How often mounts are looked at: has somebody unmounted one?
const MOUNTS_POLL: Duration = Duration::from_millis(200);
/// The folder with receipts, in the state directory.
const RECEIPTS: &str = "receipts";
const LOCK_FILE: &str = "lock";

/// The program around the commands.
#[derive(Debug)]
pub struct Fsd {
    vars: Vars,
}

impl Fsd {
    /// The program, in an environment that is read once, here.
    #[must_use]
    pub fn new(vars: Vars) -> Self {
        Self { vars }
    }
}

impl Program for Fsd {
    fn serve(&self, start: Start) -> anyhow::Result<()> {
        start_logging(&self.vars);
        refuse_own_mount(&start.config.state_dir)?;
        let _lock = take_state_dir(&start.config.state_dir)?;
        let foreground = tasks::foreground().context("start threads")?;
        let background = tasks::background().context("start threads")?;
        let env: Env = self.vars.clone().into_iter().collect();
        let served = foreground.block_on(serve(start, env, background.handle().clone()));
        background.shutdown_timeout(STOP_PATIENCE);
        foreground.shutdown_timeout(STOP_PATIENCE);
        served
    }

    fn hook_worker(&self) -> anyhow::Result<()> {
        match inference_hooks::worker_main() {
            code if code == ExitCode::SUCCESS => Ok(()),
            code => bail!("the hook worker failed: {code:?}"),
        }
    }
}

fn start_logging(vars: &Vars) {
    let filter = vars.get("FSD_LOG").map_or("info,fuser=error,sled=warn", String::as_str);
    let filter = tracing_subscriber::EnvFilter::new(filter);
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    // A second start in one process (tests) keeps the first one's log.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colours)
        // It would be told to the same place, and a thread that can't do so panics: no full disk may end a mount.
        .log_internal_errors(false)
        .try_init();
}

/// Bodies of uploads come and go: what they took goes back to the system at once. Said when all is open: what is allocated large at the
/// start (sled's tables, mostly never touched) is to come as maps of its own, not from a heap whose zeros have to be written.
fn give_large_memory_back() {
    const LARGE_BYTES: libc::c_int = 6 << 20;
    #[expect(unsafe_code, reason = "there is no other way to say it to the allocator")]
    // SAFETY: the call takes two numbers; the allocator is in use since long, so that it has nothing to set up, and sets an integer.
    let done = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BYTES) };
    if done == 0 {
        tracing::debug!("the allocator keeps what was freed");
    }
}

/// How long a start waits for the daemon before it to end.
const LOCK_TRIES: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(100);
/// Open files that root may have, whatever its limit says.
const DESCRIPTORS: u64 = 1 << 20;

/// Each open file takes a descriptor here too: as many as the system lets us have.
fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, most)| {
        let more = most.max(DESCRIPTORS);
        setrlimit(Resource::RLIMIT_NOFILE, more, more)
            .or_else(|_| setrlimit(Resource::RLIMIT_NOFILE, most, most))
    });
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

/// A state directory in a mount of ours would wait for the daemon whose cache it is to be, or fill another one's.
fn refuse_own_mount(dir: &Path) -> anyhow::Result<()> {
    // The directory may not be there yet, but what it will be in is.
    let real = dir.ancestors().find_map(|above| {
        let real = above.canonicalize().ok()?;
        Some(real.join(dir.strip_prefix(above).ok()?))
    });
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let own = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let at = words.next()?.replace("\\040", " ");
        Some((PathBuf::from(at), words.next()? == "fuse.fsd"))
    });
    let real = real.unwrap_or_else(|| dir.to_owned());
    let innermost =
        own.filter(|(at, _)| real.starts_with(at)).max_by_key(|(at, _)| at.components().count());
    if let Some((at, true)) = innermost {
        bail!(
            "the state directory {} is in {}, which is a drive of fsd: choose one on a local disk with --cache-dir, or `state_dir`",
            dir.display(),
            at.display()
        );
    }
    Ok(())
}

/// Takes the state directory for this process: two daemons on one would tear each other's files.
fn take_state_dir(dir: &Path) -> anyhow::Result<Flock<File>> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("make the state directory {}", dir.display()))?;
    let path = dir.join(LOCK_FILE);
    let mut options = OpenOptions::new();
    let file =
        options.write(true).create(true).truncate(false).mode(0o600).open(&path).with_context(
            || {
                format!(
                    "write in the state directory {}: choose another with --cache-dir",
                    dir.display()
                )
            },
        )?;
    let mut locked = Flock::lock(file, FlockArg::LockExclusiveNonblock);
    for _ in 0..LOCK_TRIES {
        // One that was just unmounted takes a moment to end.
        let Err((file, nix::errno::Errno::EWOULDBLOCK)) = locked else { break };
        std::thread::sleep(LOCK_PAUSE);
        locked = Flock::lock(file, FlockArg::LockExclusiveNonblock);
    }
    locked.map_err(|(_, error)| {
        if error == nix::errno::Errno::EWOULDBLOCK {
            anyhow::anyhow!(
                "another fsd uses the state directory {}: stop it, or choose another with --cache-dir",
                dir.display()
            )
        } else {
            anyhow::Error::new(error).context(format!("lock {}", path.display()))
        }
    })
}

/// A share with all that was opened for it.
struct OpenShare {
    config: ShareConfig,
    id: ShareId,
    root: crate::types::Ino,
    url: Option<String>,
    opened: Option<(Opened, Pacers)>,
}

/// What all parts stand on.
struct Ground {
    env: Env,
    clock: Arc<dyn Clock>,
    tasks: Tasks,
    /// For what nobody waits for.
    background: Tasks,
    events: Arc<Events>,
    meta: Arc<Meta>,
}

async fn serve(start: Start, env: Env, background: Handle) -> anyhow::Result<()> {
    let Start { config, runtime_dir, ready } = start;
    raise_descriptor_limit();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let tasks = Tasks::new(Handle::current());
    let background = tasks.on(background);
    refuse_to_forget(&config.state_dir)?;
    let meta = Arc::new(Meta::open(&config.state_dir)?);
    let ground = Ground { env, clock, tasks, background, events: Arc::default(), meta };
    let pacers = Pacers {
        up: Pacer::new(ground.clock.clone(), rate_now(&config.upload, &ground.clock), None),
        down: Pacer::new(ground.clock.clone(), rate_now(&config.download, &ground.clock), None),
    };
    let mut shares = Vec::new();
    for share in &config.shares {
        shares.push(open_share(share, &ground, &pacers).await?);
    }
    let rules = hooks::rules(&config.hooks, &shares)?;
    let gates = hooks::gates(&shares, &rules);
    let (meta, clock) = (ground.meta.clone(), ground.clock.clone());
    let paces = Paces::start(lanes(&config, &pacers, &shares), meta, clock, &ground.tasks)?;
    let (cache, vfs) = open_files(&config, &ground, &shares, &rules)?;
    let gateway = name_of_gateway(&ground)?;
    let sync = Arc::new(start_sync(&config, &ground, &cache, &shares, gates, gateway.clone()));
    let reporter = start_reports(&ground, &shares, gateway.clone());
    let sinks = start_sinks(&config, &ground, gateway.clone())?;
    let hooks = hooks::start(&ground, &config, &vfs, rules, !sinks.is_empty())?;

    let (ask, asked) = mpsc::channel(1);
    let mounts = mount_all(&shares, &vfs)?;
    vfs.learn_roots();
    vfs.keep_pins();
    vfs.keep_refreshing();
    let operations = Gateway::new(ops::Parts {
        meta: ground.meta.clone(),
        cache,
        vfs,
        sync,
        hooks,
        sinks,
        events: ground.events.clone(),
        clock: ground.clock.clone(),
        pacers,
        paces,
        mounts: shares.iter().zip(&mounts).map(|(share, mount)| mounted(share, mount)).collect(),
        unmount: ask,
        gateway,
    });
    let socket = runtime_dir.listen(std::process::id()).context("listen for commands")?;
    let stop_serving = CancellationToken::new();
    let serving = api::serve(socket, Arc::new(operations), stop_serving.clone());
    ground.tasks.spawn("control.api", async move {
        if let Err(error) = serving.await {
            tracing::error!(%error, "commands are not answered any more");
        }
    });
    give_large_memory_back();
    ready.up();
    let unmounted = until_the_end(mounts, asked, ground.clock.as_ref()).await;
    stop_serving.cancel();
    reporter.finish().await;
    ground.tasks.shutdown(STOP_PATIENCE).await;
    unmounted
}

/// Without its metadata store a state directory is but files without names: a new store beside them would be the end of them.
fn refuse_to_forget(state_dir: &Path) -> anyhow::Result<()> {
    if Meta::exists(state_dir).context("look for the metadata store")? {
        return Ok(());
    }
    let files = cache::backing_files(state_dir).context("look for files in the cache")?;
    ensure!(
        files == 0,
        "{dir} has lost its metadata store, `meta.sqlite`, but has files in `data` ({files}), which may be the only copy: put the store back, \
         with its `meta.sqlite-wal`, or move `data` elsewhere to begin anew",
        dir = state_dir.display()
    );
    Ok(())
}

/// Opens the cache and the file system, and brings together what a crash left apart.
fn open_files(
    config: &Config,
    ground: &Ground,
    shares: &[OpenShare],
    rules: &[Rule],
) -> anyhow::Result<(Arc<Cache>, Arc<Vfs>)> {
    let Ground { clock, tasks, events, meta, .. } = ground;
    let CacheConfig { disk_bytes_max, high_mark, low_mark, free_bytes_min, .. } = config.cache;
    let free_bytes_min = reserve_on(&config.state_dir, free_bytes_min)?;
    let cache = Arc::new(Cache::open(cache::Parts {
        dir: config.state_dir.clone(),
        limits: Limits { disk_bytes_max, high_mark, low_mark, free_bytes_min },
        meta: meta.clone(),
        stores: shares.iter().filter_map(store_of).collect(),
        clock: clock.clone(),
        tasks: tasks.clone(),
    })?);
    let vfs = Vfs::new(vfs::Parts {
        meta: meta.clone(),
        cache: cache.clone(),
        events: events.clone(),
        clock: clock.clone(),
        tasks: tasks.clone(),
        shares: shares.iter().map(|share| vfs_share(share, rules, &config.sinks)).collect(),
    });
    vfs.count_usage()?;
    let recovered = vfs.recover()?;
    if recovered != vfs::Recovered::default() {
        tracing::warn!(?recovered, "the last run did not stop cleanly");
    }
    Ok((cache, vfs))
}

/// What stays free of the disk below `dir`: of a small disk the default would be all.
fn reserve_on(dir: &Path, configured: u64) -> anyhow::Result<u64> {
    const DEFAULT_PARTS_MAX: u64 = 20;
    if configured != FREE_BYTES_MIN {
        return Ok(configured);
    }
    let disk =
        nix::sys::statvfs::statvfs(dir).context("look at the disk of the state directory")?;
    let total = disk.blocks().saturating_mul(disk.fragment_size());
    Ok(configured.min(total / DEFAULT_PARTS_MAX))
}

fn name_of_gateway(ground: &Ground) -> Result<String, MetaError> {
    let name = format!("{:08x}", Rng::seeded_by(ground.clock.wall()).next_u64() >> 32);
    ground.meta.write(move |tx| tx.gateway(|| name))
}

fn start_sync(
    config: &Config,
    ground: &Ground,
    cache: &Arc<Cache>,
    shares: &[OpenShare],
    mut gates: BTreeMap<ShareId, Vec<Gate>>,
    gateway: String,
) -> Sync {
    let Ground { clock, background, events, meta, .. } = ground;
    let delays = shares.iter().map(|share| share.config.upload_delay);
    let links = shares.iter().filter_map(|share| {
        let (opened, pacers) = share.opened.as_ref()?;
        Some((share.id, (opened.link.clone(), pacers.up.clone())))
    });
    let rules = shares.iter().map(|share| {
        let gates = gates.remove(&share.id).unwrap_or_default();
        (share.id, share.config.rules.clone().with_gates(gates))
    });
    sync::start(sync::Parts {
        meta: meta.clone(),
        cache: cache.clone(),
        events: events.clone(),
        clock: clock.clone(),
        tasks: background.clone(),
        rng: Rng::seeded_by(clock.wall()),
        gateway,
        delay_max: delays.max().unwrap_or_default(),
        links: links.collect(),
        rules: rules.collect(),
        receipts: Some(Receipts::new(
            config.state_dir.join(RECEIPTS),
            config.receipts.clone(),
            meta.clone(),
        )),
    })
}

/// Lets what is not uploaded be told in each store that may be written to.
fn start_reports(ground: &Ground, shares: &[OpenShare], gateway: String) -> Arc<Reporter> {
    let Ground { clock, background, meta, .. } = ground;
    let stores = shares.iter().filter(|share| !share.config.read_only).filter_map(|share| {
        let (opened, pacers) = share.opened.as_ref()?;
        Some((share.id, (opened.remote.clone(), pacers.up.clone())))
    });
    Reporter::start(report::Parts {
        meta: meta.clone(),
        clock: clock.clone(),
        tasks: background.clone(),
        gateway,
        stores: stores.collect(),
    })
}

fn start_sinks(
    config: &Config,
    ground: &Ground,
    gateway: String,
) -> anyhow::Result<Vec<Arc<Sink>>> {
    let Ground { clock, background, events, meta, .. } = ground;
    let started = sinks::start(sinks::Parts {
        meta: meta.clone(),
        events: events.clone(),
        clock: clock.clone(),
        tasks: background.clone(),
        gateway,
        rules: config.events,
        sinks: config.sinks.clone(),
    });
    started.context("start telling others what happens")
}

async fn open_share(
    config: &ShareConfig,
    ground: &Ground,
    pacers: &Pacers,
) -> anyhow::Result<OpenShare> {
    let Ground { env, clock, tasks, meta, .. } = ground;
    let (url, opened) = match &config.store {
        StoreConfig::Local => (None, None),
        StoreConfig::Cloud { url } => {
            let parsed: &RemoteUrl = url;
            let share_pacers = Pacers {
                up: share_pacer(config, &config.upload, clock, &pacers.up),
                down: share_pacer(config, &config.download, clock, &pacers.down),
            };
            let env = match &config.ca_file {
                Some(file) => &env.with_ca_file(file),
                None => env,
            };
            let opened = remote::open(parsed, env, share_pacers.clone(), clock.clone(), tasks)?;
            (Some(parsed.to_string()), Some((opened, share_pacers)))
        }
    };
    let text = url.clone().unwrap_or_default();
    let name = config.name.clone();
    let known = meta.read(|tx| tx.share(&name))?;
    if let Some(known) = &known
        && known.url != text
    {
        bail!(
            "the state directory knows the share {name} with {}, not {}: what is not uploaded yet belongs there; \
             give the new place another name or another state directory",
            shown_url(&known.url),
            shown_url(&text),
        );
    }
    if let Some((opened, _)) = &opened {
        check_store(opened, &name, known.is_some(), clock.as_ref()).await?;
    }
    let share = match known {
        Some(share) => share,
        None => {
            let now = clock.wall();
            let (owner, url) = (defaults(), text);
            meta.write(move |tx| -> Result<_, MetaError> {
                let root = Attr::new(FileKind::Dir, owner.dir_perm, (owner.uid, owner.gid), now);
                tx.add_share(&name, &url, root)
            })?
        }
    };
    Ok(OpenShare { config: config.clone(), id: share.id, root: share.root, url, opened })
}

/// Asks a store whether it is there. One that can't be reached may come later. One that refuses is an error, unless
/// files of it are here already: those must be had, whatever the store says.
async fn check_store(
    opened: &Opened,
    name: &str,
    known: bool,
    clock: &dyn Clock,
) -> anyhow::Result<()> {
    let checked = tokio::select! {
        checked = opened.remote.check() => checked,
        () = clock.sleep(CHECK_PATIENCE) => {
            tracing::warn!(share = name, "the store did not answer in time: starting without it");
            return Ok(());
        }
    };
    match checked {
        Ok(()) => Ok(()),
        Err(error @ RemoteError::Unreachable { .. }) => {
            tracing::warn!(
                share = name,
                error = &error as &dyn std::error::Error,
                "starting without the store"
            );
            Ok(())
        }
        Err(error) if known => {
            tracing::error!(
                share = name,
                error = &error as &dyn std::error::Error,
                "starting without the store"
            );
            Ok(())
        }
        Err(error) => {
            let remedy = match &error {
                RemoteError::Denied { .. } => "check the account, the key and the machine's clock",
                RemoteError::NoContainer { .. } => "make it first, or check its name",
                RemoteError::NotFound { .. }
                | RemoteError::Precondition { .. }
                | RemoteError::Unreachable { .. }
                | RemoteError::Occupied { .. }
                | RemoteError::Unsupported { .. }
                | RemoteError::Damaged { .. }
                | RemoteError::Rejected { .. } => "check the URL and the endpoint",
            };
            Err(anyhow::Error::new(error).context(format!("open the share {name} ({remedy})")))
        }
    }
}

fn shown_url(url: &str) -> &str {
    if url.is_empty() { "no store" } else { url }
}

fn defaults() -> Defaults {
    let umask = nix::sys::stat::umask(nix::sys::stat::Mode::empty());
    nix::sys::stat::umask(umask);
    Defaults {
        uid: nix::unistd::geteuid().as_raw(),
        gid: nix::unistd::getegid().as_raw(),
        file_perm: 0o666 & !umask.bits(),
        dir_perm: 0o777 & !umask.bits(),
    }
}

fn store_of(share: &OpenShare) -> Option<(ShareId, Store)> {
    let (opened, pacers) = share.opened.as_ref()?;
    let (remote, down) = (opened.remote.clone(), Some(pacers.down.clone()));
    Some((share.id, Store { remote, defaults: defaults(), down }))
}

fn vfs_share(share: &OpenShare, rules: &[Rule], sinks: &[SinkConfig]) -> vfs::Share {
    let name = &share.config.name;
    let is_told = |sink: &SinkConfig| sink.filter.takes(EventKind::Arrived, name, None);
    vfs::Share {
        id: share.id,
        name: share.config.name.clone(),
        root: share.root,
        local: share.opened.is_none(),
        read_only: share.config.read_only,
        upload_delay: share.config.upload_delay,
        offline_wait: share.config.offline_wait,
        fsync_wait: share.config.fsync_wait,
        listing_age_max: share.config.refresh_after,
        refresh_every: share.config.refresh_every,
        hooked: rules.iter().any(|rule| rule.shares.contains(&share.id))
            || sinks.iter().any(is_told),
        quotas: share.config.quotas.clone(),
    }
}

fn mount_all(shares: &[OpenShare], vfs: &Arc<Vfs>) -> anyhow::Result<Vec<Mount>> {
    let mut mounts = Vec::new();
    for share in shares {
        let options = MountOptions {
            source: share.url.clone().unwrap_or_else(|| share.config.name.clone()),
            allow_other: share.config.allow_other,
            no_exec: share.config.no_exec,
            passthrough: share.config.passthrough,
            acl: share.config.acl,
            read_only: share.config.read_only,
        };
        mounts.push(fuse::mount(vfs, share.id, &share.config.mount, &options)?);
    }
    Ok(mounts)
}

fn mounted(share: &OpenShare, mount: &Mount) -> MountedShare {
    MountedShare {
        share: share.id,
        name: share.config.name.clone(),
        root: share.root,
        url: share.url.clone(),
        path: mount.path().to_owned(),
        read_only: share.config.read_only,
        daemon_path: mount.daemon_path(),
        link: share.opened.as_ref().map(|(opened, _)| opened.link.clone()),
    }
}

fn share_pacer(
    config: &ShareConfig,
    schedule: &Schedule,
    clock: &Arc<dyn Clock>,
    above: &Arc<Pacer>,
) -> Arc<Pacer> {
    let rate = rate_now(schedule, clock);
    Pacer::weighted(clock.clone(), rate, Some(above.clone()), config.rules.weight)
}

fn rate_now(schedule: &Schedule, clock: &Arc<dyn Clock>) -> Rate {
    let now = clock.wall();
    let now = jiff::Timestamp::new(now.secs, now.nanos.cast_signed());
    schedule.rate_at(now.unwrap_or(jiff::Timestamp::UNIX_EPOCH))
}

/// All that has a pace of its own.
fn lanes(config: &Config, pacers: &Pacers, shares: &[OpenShare]) -> Vec<LaneParts> {
    let both = |share, name: &str, pacers: &Pacers, (up, down): (&Schedule, &Schedule)| {
        let lane = |way, word, schedule: &Schedule, pacer: &Arc<Pacer>| LaneParts {
            id: (share, way),
            name: format!("{name}{word}"),
            schedule: schedule.clone(),
            pacer: pacer.clone(),
        };
        [lane(Way::Up, "up", up, &pacers.up), lane(Way::Down, "down", down, &pacers.down)]
    };
    let mut lanes = Vec::from(both(None, "", pacers, (&config.upload, &config.download)));
    for OpenShare { config, id, opened, .. } in shares {
        if let Some((_, pacers)) = opened {
            let name = format!("{}/", config.name);
            lanes.extend(both(Some(*id), &name, pacers, (&config.upload, &config.download)));
        }
    }
    lanes
}

/// Until a signal comes or the last mount is gone; then takes all mounts away.
async fn until_the_end(
    mounts: Vec<Mount>,
    mut asked: mpsc::Receiver<UnmountRequest>,
    clock: &dyn Clock,
) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let mut hangup = signal(SignalKind::hangup()).context("listen for SIGHUP")?;
    let mut mounts: BTreeMap<PathBuf, Mount> =
        mounts.into_iter().map(|mount| (mount.path().to_owned(), mount)).collect();
    while !mounts.is_empty() {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => break,
            Some((path, tell)) = asked.recv() => {
                let unmounted = unmount_one(&mut mounts, &path).await.map(|()| mounts.len());
                // The asker may have gone away.
                let _ = tell.send(unmounted);
            }
            () = clock.sleep(MOUNTS_POLL) => {
                let (over, rest) = mounts.into_iter().partition(|(_, mount)| mount.is_over());
                mounts = rest;
                leave(over).await;
            }
        }
    }
    leave(mounts).await;
    Ok(())
}

async fn leave(mounts: BTreeMap<PathBuf, Mount>) {
    for (path, mount) in mounts {
        match unmount(mount).await {
            Ok(()) => tracing::info!(path = %path.display(), "unmounted"),
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "could not be unmounted");
            }
        }
    }
}

async fn unmount_one(mounts: &mut BTreeMap<PathBuf, Mount>, path: &Path) -> std::io::Result<()> {
    let mount = mounts.remove(path).ok_or(std::io::ErrorKind::NotFound)?;
    unmount(mount).await
}

async fn unmount(mount: Mount) -> std::io::Result<()> {
    tokio::task::spawn_blocking(move || mount.unmount()).await.map_err(std::io::Error::other)?
}
