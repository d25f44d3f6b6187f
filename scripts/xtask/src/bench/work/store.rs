//! What the store gives to a client that is hardly one: whether it is what limits the others.

use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow};

use super::{LATENCY, MIB, Measured, Watch, claim_memory, cold, noise, rate};
use crate::bench::row::Row;
use crate::bench::sizes::{SMALL_BYTES, Sizes};
use crate::bench::store::Store;

const CONNECTIONS: u64 = 8;
const BUSY_REQUESTS: u64 = 40_000;

/// Figures on one connection, with the names of the lines that they limit, and requests a second on several.
///
/// # Errors
/// If the store does not answer.
pub(in crate::bench) fn measure(sizes: Sizes, folder: &Path) -> anyhow::Result<(Measured, f64)> {
    let store = Store::start()?;
    cold::fill(&store, sizes)?;
    let mut client = store.client()?;
    claim_memory(folder, 2 * sizes.big_mib)?;
    let big = noise(usize::try_from(MIB)?).repeat(usize::try_from(sizes.big_mib)?);
    let small = noise(SMALL_BYTES);
    let key = |index: u64| format!("small/{index:05}.dat");
    let mut figures = vec![
        (Row::WriteBig, rate(sizes.big_mib, || client.put("big", &big))?),
        (Row::ReadBigCold, rate(sizes.big_mib, || client.get("big").map(drop))?),
        (
            Row::CreateSmall,
            rate(sizes.small_files, || {
                (0..sizes.small_files).try_for_each(|index| client.put(&key(index), &small))
            })?,
        ),
        (
            Row::ReadSmallUnlisted,
            rate(sizes.small_files, || {
                (0..sizes.small_files).try_for_each(|index| client.get(&key(index)).map(drop))
            })?,
        ),
    ];
    let prefix = format!("{}/", cold::WIDE);
    for (row, latency) in [(Row::ListCold, Duration::ZERO), (Row::ListColdFar, LATENCY)] {
        store.set_latency(latency)?;
        let mut listed = 0;
        let speed = rate(sizes.wide_entries, || {
            listed = client.list(&prefix)?;
            Ok(())
        })?;
        anyhow::ensure!(listed as u64 == sizes.wide_entries, "the store lists {listed} objects");
        figures.push((row, speed));
    }
    store.set_latency(Duration::ZERO)?;
    Ok((figures, busy(&store, sizes)?))
}

fn busy(store: &Store, sizes: Sizes) -> anyhow::Result<f64> {
    let watch = Watch::start();
    thread::scope(|scope| {
        let workers = (0..CONNECTIONS).map(|_| {
            scope.spawn(|| -> anyhow::Result<()> {
                let mut client = store.client()?;
                for index in 0..BUSY_REQUESTS / CONNECTIONS {
                    client.get(&format!("small/{:05}.dat", index % sizes.small_files))?;
                }
                Ok(())
            })
        });
        let workers: Vec<_> = workers.collect();
        workers.into_iter().try_for_each(|worker| {
            worker.join().map_err(|_| anyhow!("a thread panicked"))?.context("ask the store")
        })
    })?;
    Ok(BUSY_REQUESTS as f64 / watch.seconds())
}
