//! `cargo xtask bench hooks`: how long a hook takes beyond its own work, and how many files a second it looks at, with the bars that it
//! must reach; and what kernels and batches take without a daemon. The share is a local one: what uploads take is measured elsewhere. Ours and what it is measured against run in one process tree, one after the other.

#![expect(clippy::disallowed_methods, reason = "it measures in real time")]

mod kernels;

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use image::{ImageFormat, Rgb, RgbImage};
use inference_hooks::{Hook, HookSource, WorkerConfig, WorkerProcess};
use serde_json::Value;
use tempfile::TempDir;

/// How long a file is quiet before it is looked at.
const QUIET: Duration = Duration::from_millis(100);
/// Files whose latency is measured, one after the other.
const ONE_BY_ONE: usize = 200;
/// Files a second that must be kept up with.
const PER_SECOND: usize = 1_000;
/// For so long.
const SECONDS: usize = 10;
const DEADLINE: Duration = Duration::from_secs(60);
const HOOK: &str = "sharpness";

#[expect(clippy::print_stdout, reason = "the figures are the output")]
fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let program = arguments.next().context("the program to measure")?.canonicalize()?;
    let hooks = arguments.next().context("the folder with ready hooks")?.canonicalize()?;
    let place = arguments.next().context("a folder to work in")?;
    let arrivals: usize = match arguments.next() {
        Some(count) => count.to_string_lossy().parse()?,
        None => 0,
    };
    let files = pictures(4_000)?;
    println!("{} pictures of {} bytes, hook {HOOK} on the CPU", files.len(), median_len(&files));
    let hook = Hook::parse(HookSource::read(&hooks.join(HOOK))?)?;
    let bare = bare_loop(&program, &hook, &files)?;
    println!(
        "bare loop: {:.0} files/s, {:.2} ms each at the median",
        bare.per_second, bare.median_ms
    );

    let skips = kernels::run(&program, &hooks, &files)?;

    let drive = Drive::start(&program, &hooks, &place)?;
    latency(&drive, &files[..ONE_BY_ONE], bare.median_ms)?;
    let burst = burst(&drive, "burst", &files)?;
    println!(
        "burst of {} files: {burst:.0} files/s looked at, {:.2} of the bare loop",
        files.len(),
        burst / bare.per_second
    );
    sustained(&drive, &files)?;
    if arrivals > 0 {
        paused(&drive, &files, arrivals)?;
    }
    println!("{skips} skips");
    Ok(())
}

/// Noise, which no format can make small: about 4 KiB each, and all different.
fn pictures(count: usize) -> Result<Vec<Vec<u8>>> {
    const SIDE: u32 = 36;
    let mut state = 1_u32;
    let mut byte = || {
        // Numerical Recipes' generator; its high bits are noise enough.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    let picture = |_| {
        let picture = RgbImage::from_fn(SIDE, SIDE, |_, _| Rgb([byte(), byte(), byte()]));
        let mut bytes = Vec::new();
        picture.write_to(&mut std::io::Cursor::new(&mut bytes), ImageFormat::Png)?;
        Ok(bytes)
    };
    (0..count).map(picture).collect()
}

fn median_len(files: &[Vec<u8>]) -> usize {
    let mut lens: Vec<_> = files.iter().map(Vec::len).collect();
    lens.sort_unstable();
    lens[lens.len() / 2]
}

struct Bare {
    per_second: f64,
    median_ms: f64,
}

/// The worker alone, on files that lie there.
fn bare_loop(program: &Path, hook: &Hook, files: &[Vec<u8>]) -> Result<Bare> {
    let folder = TempDir::new()?;
    let mut paths = Vec::new();
    for (number, file) in files.iter().enumerate() {
        paths.push(folder.path().join(number.to_string()));
        std::fs::write(&paths[number], file)?;
    }
    let mut worker = WorkerProcess::spawn(program, &WorkerConfig::default())?;
    worker.load(hook)?;
    let mut times = Vec::new();
    let began = Instant::now();
    for path in &paths {
        let one = Instant::now();
        worker.run(hook, OwnedFd::from(File::open(path)?), DEADLINE)?;
        times.push(one.elapsed());
    }
    let per_second = files.len() as f64 / began.elapsed().as_secs_f64();
    Ok(Bare { per_second, median_ms: millis(percentile(&mut times, 50)) })
}

fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    times[(times.len() * percent / 100).min(times.len() - 1)]
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[expect(clippy::print_stdout, reason = "the figures are the output")]
fn latency(drive: &Drive, files: &[Vec<u8>], kernel_ms: f64) -> Result<()> {
    let mut times = Vec::new();
    for (number, bytes) in files.iter().enumerate() {
        let path = drive.mount().join(format!("one-{number}.png"));
        std::fs::write(&path, bytes)?;
        let closed = Instant::now();
        while xattr::get(&path, format!("user.fsd.hook.{HOOK}"))?.is_none() {
            ensure!(closed.elapsed() < DEADLINE, "{} is never looked at", path.display());
            std::thread::sleep(Duration::from_micros(500));
        }
        times.push(closed.elapsed());
    }
    let mut over = |percent| millis(percentile(&mut times, percent)) - millis(QUIET) - kernel_ms;
    let (p50, p99) = (over(50), over(99));
    println!(
        "close to verdict, over {} ms of quiet and {kernel_ms:.2} ms of work: p50 {p50:.1} ms (bar 5{}), p99 {p99:.1} ms (bar 20{})",
        QUIET.as_millis(),
        missed(p50 > 5.0),
        missed(p99 > 20.0)
    );
    Ok(())
}

fn missed(is_missed: bool) -> &'static str {
    if is_missed { ", MISSED" } else { "" }
}

/// All at once; files a second from the first open to the last result.
fn burst(drive: &Drive, folder: &str, files: &[Vec<u8>]) -> Result<f64> {
    let dir = drive.mount().join(folder);
    std::fs::create_dir(&dir)?;
    let before = drive.done()?;
    let began = Instant::now();
    for (number, bytes) in files.iter().enumerate() {
        std::fs::write(dir.join(format!("{number}.png")), bytes)?;
    }
    drive.until_done(before + files.len() as u64)?;
    Ok(files.len() as f64 / began.elapsed().as_secs_f64())
}

#[expect(clippy::print_stdout, reason = "the figures are the output")]
fn sustained(drive: &Drive, files: &[Vec<u8>]) -> Result<()> {
    let dir = drive.mount().join("sustained");
    std::fs::create_dir(&dir)?;
    let before = drive.done()?;
    let total = PER_SECOND * SECONDS;
    let began = Instant::now();
    for number in 0..total {
        std::fs::write(dir.join(format!("{number}.png")), &files[number % files.len()])?;
        let due = Duration::from_secs(1) * u32::try_from(number)? / u32::try_from(PER_SECOND)?;
        std::thread::sleep(due.saturating_sub(began.elapsed()));
    }
    let written = began.elapsed();
    let behind = before + total as u64 - drive.done()?;
    drive.until_done(before + total as u64)?;
    let all = began.elapsed();
    println!(
        "{total} arrivals written in {:.1} s ({:.0}/s); {behind} were not looked at by then, all were {:.1} s after that: {:.0}/s (bar {PER_SECOND}{})",
        written.as_secs_f64(),
        total as f64 / written.as_secs_f64(),
        (all - written).as_secs_f64(),
        total as f64 / all.as_secs_f64(),
        missed(all.as_secs_f64() > SECONDS as f64 * 1.1)
    );
    Ok(())
}

/// Everything waits while the hook rests, and is seen once after that.
#[expect(clippy::print_stdout, reason = "the figures are the output")]
fn paused(drive: &Drive, files: &[Vec<u8>], arrivals: usize) -> Result<()> {
    let before = (drive.done()?, drive.resident()?);
    drive.fsd(&["hooks", "pause"])?;
    for number in 0..arrivals {
        let dir = drive.mount().join(format!("paused/{}", number / 1000));
        if number % 1000 == 0 {
            std::fs::create_dir_all(&dir)?;
        }
        std::fs::write(dir.join(format!("{number}.png")), &files[number % files.len()])?;
    }
    let waiting = drive.resident()?;
    let resumed = Instant::now();
    drive.fsd(&["hooks", "resume"])?;
    drive.until_done(before.0 + arrivals as u64)?;
    let took = resumed.elapsed();
    let jobs = drive.hook()?["jobs"].clone();
    ensure!(jobs["done"] == before.0 + arrivals as u64, "each once: {jobs}");
    println!(
        "{arrivals} arrivals while the hook rested: resident {} MiB before, {} MiB with all of them waiting, {} MiB at the end; {:.0}/s once it went on; jobs {jobs}",
        before.1 >> 20,
        waiting >> 20,
        drive.resident()? >> 20,
        arrivals as f64 / took.as_secs_f64()
    );
    Ok(())
}

/// A daemon with a share and a hook.
struct Drive {
    daemon: Child,
    folder: TempDir,
    program: PathBuf,
}

impl Drive {
    fn start(program: &Path, hooks: &Path, place: &Path) -> Result<Self> {
        let folder = TempDir::with_prefix_in("hooks-", place)?;
        let root = folder.path().to_owned();
        let at = |name: &str| root.join(name).display().to_string();
        std::fs::create_dir(at("mount"))?;
        std::fs::write(
            at("fsd.toml"),
            format!(
                "state_dir = \"{}\"\n[[share]]\nname = \"cam\"\nmount = \"{}\"\nlocal = true\nupload_delay = \"{}ms\"\n\
                 [[hook]]\ndir = \"{}/{HOOK}\"\nresults_folder = \"results\"\n",
                at("state"),
                at("mount"),
                QUIET.as_millis(),
                hooks.display()
            ),
        )?;
        let daemon = Command::new(program)
            .args(["run", "-c", &at("fsd.toml")])
            .env("FSD_RUNTIME_DIR", at("run"))
            .stdout(Stdio::null())
            .stderr(File::create(at("log"))?)
            .spawn()?;
        let drive = Self { daemon, program: program.to_owned(), folder };
        let began = Instant::now();
        while drive.fsd(&["status", "--json"]).is_err() {
            if began.elapsed() > DEADLINE {
                bail!("it does not start: {}", std::fs::read_to_string(at("log"))?);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(drive)
    }

    fn mount(&self) -> PathBuf {
        self.folder.path().join("mount")
    }

    fn fsd(&self, arguments: &[&str]) -> Result<Vec<u8>> {
        let output = Command::new(&self.program)
            .args(arguments)
            .env("FSD_RUNTIME_DIR", self.folder.path().join("run"))
            .output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(output.stdout)
    }

    fn hook(&self) -> Result<Value> {
        let hooks: Value = serde_json::from_slice(&self.fsd(&["hooks", "list", "--json"])?)?;
        hooks.get(0).cloned().context("no hook")
    }

    fn done(&self) -> Result<u64> {
        let hook = self.hook()?;
        for state in ["failed", "parked"] {
            ensure!(hook["jobs"][state] == 0, "{hook}");
        }
        hook["jobs"]["done"].as_u64().context("no number")
    }

    fn until_done(&self, jobs: u64) -> Result<()> {
        const PATIENCE: Duration = Duration::from_secs(1200);
        let began = Instant::now();
        while self.done()? < jobs {
            ensure!(began.elapsed() < PATIENCE, "{} of {jobs} jobs are done", self.done()?);
            // Each look takes a process, and a count of all jobs.
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    /// Bytes of memory that the daemon has.
    fn resident(&self) -> Result<u64> {
        let status: Value = serde_json::from_slice(&self.fsd(&["status", "--json"])?)?;
        status["memory"]["bytes_resident"].as_u64().context("no number")
    }
}

impl Drop for Drive {
    fn drop(&mut self) {
        // The mount goes with the daemon; a directory that is still one can't be removed.
        let _ = self.fsd(&["umount", &self.mount().to_string_lossy()]);
        let _ = self.daemon.wait();
    }
}
