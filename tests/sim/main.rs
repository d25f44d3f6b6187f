//! The engine in a simulation: a few seeds that are always the same, and some that are new each time.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use fsd_tests::sim::{Tally, run};

const STEPS: u64 = 400;
const SEEDS: u64 = 12;

fn run_from(first: u64) -> Result<()> {
    let mut tally = Tally::default();
    for seed in first..first + SEEDS {
        tally += run(seed, STEPS)?;
    }
    anyhow::ensure!(tally.crashes > 0 && tally.faults > 0, "nothing went wrong: {tally:?}");
    Ok(())
}

#[test]
fn the_engine_keeps_its_promises_from_known_seeds() -> Result<()> {
    run_from(1)
}

#[test]
fn the_engine_keeps_its_promises_from_new_seeds() -> Result<()> {
    #[expect(clippy::disallowed_methods, reason = "a seed that nobody tried yet")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    run_from(now.as_secs() << 8)
}
