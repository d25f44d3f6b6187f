//! Simulates the engine for as long as asked for, each time from a new seed.
#![expect(clippy::print_stdout, reason = "its tally is its output")]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use fsd_tests::sim::{Broken, Tally, run};

const USAGE: &str = "usage: sim [--minutes N] [--seed N] [--steps N] [--broken NAME]";

#[expect(clippy::disallowed_methods, reason = "how long it runs is for who waits for it")]
fn main() -> Result<()> {
    let (mut minutes, mut steps) = (1, 500);
    let mut seed = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() << 8;
    let (mut only, mut broken) = (false, None);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().context(USAGE)?;
        let number = || value.parse::<u64>().context(USAGE);
        match word.as_str() {
            "--minutes" => minutes = number()?,
            "--steps" => steps = number()?,
            "--seed" => (seed, only) = (number()?, true),
            "--broken" => broken = Some(Broken::named(&value).context(USAGE)?),
            _ => bail!(USAGE),
        }
    }
    let filter = std::env::var("FSD_LOG").unwrap_or("off".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).without_time().init();
    let begin = Instant::now();
    let (mut tally, mut runs) = (Tally::default(), 0);
    while runs == 0 || !only && begin.elapsed() < Duration::from_secs(60 * minutes) {
        tally += run(seed + runs, steps, broken)?;
        runs += 1;
    }
    let Tally { steps, requests, faults, crashes, seconds, digest } = tally;
    println!(
        "{runs} seeds from {seed}: {steps} steps, {requests} requests, {faults} of them went wrong, {crashes} crashes, \
         {} virtual hours, digest {digest:016x}, no violation",
        seconds / 3600
    );
    Ok(())
}
