//! The engine in a simulation, from seeds that are always the same. New ones are for `cargo xtask sim`, which still finds something now and
//! then.

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
