//! Kernels and batches: what several files in one dispatch gain, the shaders beside their CPU twins, and what a card would need at least.
//! No daemon is asked. Without a GPU the shaders run on Vulkan in software, which tells what a batch saves and not what a card does.

use std::fs::File;
use std::io::Cursor;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use image::{ImageFormat, Rgb, RgbImage};
use inference_hooks::{
    BATCH_FILES_MAX, Bound, Card, Hook, HookSource, WorkerConfig, WorkerProcess, typical_costs,
};
use serde_json::Value;

use super::{DEADLINE, missed};

/// How many times faster a batch of small pictures has to be than as many dispatches.
const GAIN_BAR: f64 = 3.0;
/// The best of so many rounds, in which one follows the other.
const ROUNDS: usize = 3;
/// A card of a data centre.
const CARD: Card = Card { memory_bytes_per_second: 3e12, operations_per_second: 60e12 };
/// The way to it: PCI Express 4.0 with 16 lanes.
const BUS_BYTES_PER_SECOND: f64 = 25e9;

/// What it found, but for what it skipped, which it counts.
pub(super) fn run(program: &Path, hooks: &Path, small: &[Vec<u8>]) -> Result<usize> {
    cpu_batches(program, hooks, small)?;
    let skips = usize::from(!worker_batches(program, hooks)?) + usize::from(!kernels(program)?);
    on_paper()?;
    Ok(skips)
}

/// The worker alone on its CPU twin, with files one by one and in batches.
#[expect(clippy::print_stdout, reason = "the figures are the output")]
fn cpu_batches(program: &Path, hooks: &Path, small: &[Vec<u8>]) -> Result<()> {
    let hook = Hook::parse(HookSource::read(&hooks.join(super::HOOK))?)?;
    let mut worker = WorkerProcess::spawn(program, &WorkerConfig::default())?;
    worker.load(&hook)?;
    let sizes = [1, 4, 16, BATCH_FILES_MAX];
    let best = best_of(&mut worker, &hook, small, &sizes)?;
    for (size, seconds) in sizes.iter().zip(&best) {
        println!(
            "worker alone, {} on the CPU, batches of {size}: {:.0} files/s, {:.2} of one by one",
            hook.name(),
            small.len() as f64 / seconds,
            best[0] / seconds
        );
    }
    Ok(())
}

/// Thumbnails by a worker on an adapter, from files to files. False if there is none.
#[expect(clippy::print_stdout, reason = "the figures are the output")]
fn worker_batches(program: &Path, hooks: &Path) -> Result<bool> {
    let hook = Hook::parse(HookSource::read(&hooks.join("thumbnail"))?)?;
    let config = WorkerConfig { allow_software_adapter: true, ..Default::default() };
    let mut worker = WorkerProcess::spawn(program, &config)?;
    let adapter = match &worker.hello().adapter {
        Ok(adapter) => adapter.name.clone(),
        Err(why) => {
            println!("SKIP: thumbnails by a worker: {why}");
            return Ok(false);
        }
    };
    worker.load(&hook)?;
    for side in [64, 1024] {
        let files: Vec<_> = (0..64).map(|number| jpeg(side, number)).collect::<Result<_>>()?;
        let best = best_of(&mut worker, &hook, &files, &[1, BATCH_FILES_MAX])?;
        println!(
            "worker on {adapter}, thumbnails of 64 JPEGs of {side} x {side}: {:.1} ms one by one, {:.1} ms in a batch, {:.2} times as fast",
            best[0] * 1e3,
            best[1] * 1e3,
            best[0] / best[1]
        );
    }
    Ok(true)
}

/// The best time in seconds for all files in batches of each size.
fn best_of(
    worker: &mut WorkerProcess,
    hook: &Hook,
    files: &[Vec<u8>],
    sizes: &[usize],
) -> Result<Vec<f64>> {
    let folder = tempfile::TempDir::new()?;
    let mut paths = Vec::new();
    for (number, file) in files.iter().enumerate() {
        paths.push(folder.path().join(number.to_string()));
        std::fs::write(&paths[number], file)?;
    }
    let mut best = vec![f64::INFINITY; sizes.len()];
    for _ in 0..ROUNDS {
        for (size, best) in sizes.iter().zip(&mut best) {
            let began = Instant::now();
            for paths in paths.chunks(*size) {
                let open = |path| Ok(OwnedFd::from(File::open(path)?));
                let inputs = paths.iter().map(open).collect::<Result<Vec<_>>>()?;
                let mut failed = None;
                worker.run_batch(hook, &inputs, DEADLINE, |said| {
                    failed = said.err().or(failed.take())
                });
                failed.map_or(Ok(()), Err)?;
            }
            *best = best.min(began.elapsed().as_secs_f64());
        }
    }
    Ok(best)
}

fn jpeg(side: u32, number: u32) -> Result<Vec<u8>> {
    let shade = |x: u32, y: u32| ((x * 7 + number) ^ (y * 5)).to_le_bytes()[0];
    let picture = RgbImage::from_fn(side, side, |x, y| Rgb([shade(x, y), shade(y, x), 90]));
    let mut bytes = Vec::new();
    picture.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Jpeg)?;
    Ok(bytes)
}

/// What the program's own test of an adapter says. False if there is none.
#[expect(clippy::print_stdout, reason = "the figures are the output")]
fn kernels(program: &Path) -> Result<bool> {
    let output = Command::new(program).args(["gpu", "--software", "--json"]).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found: Value = serde_json::from_slice(&output.stdout)?;
    let tested = &found["tested"]["Ok"];
    if tested.is_null() {
        println!("SKIP: kernels beside their twins: {}", found["tested"]["Err"]);
        return Ok(false);
    }
    let adapter = tested["adapter"]["name"].as_str().context("an adapter without a name")?;
    let batches = tested["batches"]["Ok"].as_array().context("no batches were timed")?;
    for batch in batches {
        let millis = |name: &str| batch[name].as_f64().context("no time");
        let (together, alone) = (millis("together_millis")?, millis("alone_millis")?);
        let (files, side) = (&batch["files"], &batch["side"]);
        let bar = match side.as_u64() == Some(64) {
            true => format!(" (bar {GAIN_BAR}{})", missed(alone / together < GAIN_BAR)),
            false => String::new(),
        };
        println!(
            "{adapter}, {files} thumbnails of {side} x {side}: {alone:.1} ms in {files} dispatches, {together:.1} ms in one, {:.1} times as fast{bar}",
            alone / together
        );
    }
    for kernel in tested["kernels"].as_array().context("no kernels were tested")? {
        ensure!(kernel["agrees"] == true, "{kernel}");
        let millis = |name: &str| kernel[name].as_f64().context("no time");
        let (gpu, cpu) = (millis("gpu_millis")?, millis("cpu_millis")?);
        println!(
            "{} on {adapter}: {gpu:.1} ms, CPU twin {cpu:.1} ms: the twin is {:.2} times as fast",
            kernel["hook"].as_str().unwrap_or_default(),
            gpu / cpu
        );
    }
    Ok(true)
}

#[expect(clippy::print_stdout, reason = "the figures are the output")]
fn on_paper() -> Result<()> {
    println!("on paper, for a card of 3 TB/s and 60 TFLOP/s:");
    for typical in typical_costs()? {
        let cost = typical.cost;
        let (floor, bound) = cost.floor(CARD);
        println!(
            "{}, {}: {:.1} MB moved, {:.2} G operations: {:.1} µs at least, bound by {}; to the card and back {:.1} MB, {:.0} µs at 25 GB/s",
            typical.hook,
            typical.input,
            cost.memory_bytes as f64 / 1e6,
            cost.operations as f64 / 1e9,
            floor * 1e6,
            match bound {
                Bound::Memory => "memory",
                Bound::Arithmetic => "arithmetic",
            },
            cost.bus_bytes as f64 / 1e6,
            cost.bus_bytes as f64 / BUS_BYTES_PER_SECOND * 1e6
        );
    }
    Ok(())
}
