//! A simulation of the real engine: users, others in the cloud, a wire on which requests and answers get lost, hours offline, and
//! crashes at any moment, all at random from one seed, in virtual time. After each request the cloud is looked at: see `laws`.
//!
//! A crash leaves the disk as it is at that moment: the next gateway starts over a copy of it.

mod broken;
mod clock;
mod cloud;
mod gateway;
mod laws;
mod model;
mod walk;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use fsd::rng::Rng;
use tempfile::TempDir;

pub use self::broken::Broken;
use self::cloud::Cloud;
use self::gateway::Gateway;
use self::walk::Walk;

/// What of the walk is told when something is wrong.
const STEPS_TOLD: usize = 60;

/// What a simulation did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// What users and others did.
    pub steps: u64,
    /// Requests that the gateways sent.
    pub requests: u64,
    /// Of them, those that went wrong.
    pub faults: u64,
    /// Gateways that died.
    pub crashes: u64,
    /// Virtual seconds.
    pub seconds: u64,
    /// A hash of all that was done and asked for: the same for the same seed.
    pub digest: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.steps += other.steps;
        self.requests += other.requests;
        self.faults += other.faults;
        self.crashes += other.crashes;
        self.seconds += other.seconds;
        self.digest = self.digest.rotate_left(1) ^ other.digest;
    }
}

/// How a gateway's life ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Crash,
    Done,
}

/// Runs `steps` steps that follow from `seed`, of an engine that makes the mistake `broken`.
///
/// # Errors
/// What was violated, with the last steps before it, and the command that repeats it.
pub fn run(seed: u64, steps: u64, broken: Option<Broken>) -> Result<Tally> {
    let mut rng = Rng::new(seed);
    let cloud = Cloud::new(Rng::new(rng.next_u64()), broken);
    let mut walk = Walk::new(Rng::new(rng.next_u64()), cloud.clone(), broken);
    let mut disk = Disk::new()?;
    let (mut crashes, mut passed) = (0, Duration::ZERO);
    loop {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().start_paused(true).max_blocking_threads(1).build()?;
        let rng_of_life = Rng::new(rng.next_u64());
        let dir = disk.path();
        let gateway = || Gateway::start(&dir, &cloud, passed, rng_of_life, broken);
        let life = live(gateway, &cloud, &mut walk, steps);
        let lived = runtime.block_on(life);
        let told = || {
            let from = walk.trace.len().saturating_sub(STEPS_TOLD);
            let mistake = broken.map_or(String::new(), |it| format!(" --broken {}", it.name()));
            format!(
                "step {}, after {:#?}\ncargo xtask sim --seed {seed} --steps {steps}{mistake}",
                walk.steps,
                &walk.trace[from..]
            )
        };
        let (end, until) = lived.with_context(told)?;
        passed = until;
        cloud.laws(|laws| laws.ask_gateway(None));
        if end == End::Done {
            let (requests, faults) = cloud.counts();
            let seconds = passed.as_secs();
            let digest = cloud.digest();
            return Ok(Tally { steps: walk.steps, requests, faults, crashes, seconds, digest });
        }
        crashes += 1;
        disk.crash()?;
        walk.crashed();
        drop(runtime);
        disk.bury(rng.below(2) == 0)?;
    }
}

/// A gateway's life, and what its clock shows at the end.
async fn live(
    gateway: impl FnOnce() -> Result<Gateway>,
    cloud: &Cloud,
    walk: &mut Walk,
    steps: u64,
) -> Result<(End, Duration)> {
    let gateway = gateway().context("start a gateway")?;
    let clock = gateway.clock.clone();
    let walked = async {
        while walk.steps < steps {
            walk.step(&gateway).await?;
            obeyed(cloud)?;
        }
        walk.rest(&gateway).await?;
        obeyed(cloud)
    };
    let end = tokio::select! {
        biased;
        () = cloud.crashed.notified() => End::Crash,
        walked = walked => { walked?; End::Done }
    };
    obeyed(cloud)?;
    Ok((end, clock.monotonic()))
}

fn obeyed(cloud: &Cloud) -> Result<()> {
    let violations = cloud.laws(|laws| std::mem::take(&mut laws.violations));
    ensure!(violations.is_empty(), "{violations:#?}");
    Ok(())
}

/// Where Linux has a disk in memory.
const MEMORY: &str = "/dev/shm";
/// In a disk: what can be lost.
const INDEX: &str = "index";

/// Where gateways have their state.
#[derive(Debug)]
struct Disk {
    all: TempDir,
    number: u64,
}

impl Disk {
    fn new() -> Result<Self> {
        // In memory if that is there: nothing here depends on a disk that keeps what it was told to.
        let all = tempfile::tempdir_in(MEMORY).or_else(|_| tempfile::tempdir());
        let disk = Self { all: all.context("make a directory")?, number: 0 };
        std::fs::create_dir(disk.path())?;
        Ok(disk)
    }

    fn path(&self) -> PathBuf {
        self.all.path().join(self.number.to_string())
    }

    /// From now on there is a copy, without the index; what is there is left to the dead.
    fn crash(&mut self) -> Result<()> {
        let old = self.path();
        self.number += 1;
        std::fs::create_dir(self.path())?;
        let mut copy = std::process::Command::new("cp");
        copy.arg("--archive").arg("--sparse=always");
        for entry in std::fs::read_dir(&old)? {
            let entry = entry?;
            if entry.file_name() != INDEX {
                copy.arg(entry.path());
            }
        }
        let copied = copy.arg(self.path()).status().context("copy a disk")?;
        if !copied.success() {
            bail!("the disk could not be copied: {copied}");
        }
        Ok(())
    }

    /// Removes what the last one had, who is dead by now. How much of the index had reached the disk when he died depends on a thread
    /// and the machine: here it is all or nothing.
    fn bury(&self, keeps_index: bool) -> Result<()> {
        let old = self.all.path().join((self.number - 1).to_string());
        if keeps_index {
            std::fs::rename(old.join(INDEX), self.path().join(INDEX)).context("keep an index")?;
        }
        std::fs::remove_dir_all(old).context("remove a disk")
    }
}
