//! The engine in a simulation, from seeds that are always the same. New ones are for `cargo xtask sim`, which still finds something now and
//! then.

use anyhow::Result;
use fsd_tests::sim::{Tally, run};

const STEPS: u64 = 400;
/// The first ones, and some that have found something once.
const SEEDS: [u64; 17] = [
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    8,
    9,
    10,
    11,
    12,
    10_725_933_478_189,
    23_372_104_356_931,
    29_987_485_740_681,
    31_406_359_527_149,
    459_622_141_819,
];

#[test]
fn the_engine_keeps_its_promises_from_known_seeds() -> Result<()> {
    let mut tally = Tally::default();
    for seed in SEEDS {
        tally += run(seed, STEPS)?;
    }
    anyhow::ensure!(tally.crashes > 0 && tally.faults > 0, "nothing went wrong: {tally:?}");
    Ok(())
}
