//! Many files at once: they are decoded and written on all cores, and looked at together.
//!
//! Invariant: what is said of a file does not depend on what it came with. Whatever does not fit a share of the memory is looked at
//! again alone, with all of it, as a batch of one is.

use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::engine::{Decoded, Engines, Loaded, Looked, Output};
use crate::protocol::{Failure, FailureKind};

/// Files that are decoded or written at a time: with more, each would have little memory.
const LANES_MAX: usize = 8;
/// There is one for each so much of the files. It takes some 10 ms to decode; a thread for less, which is started and, on a busy machine,
/// waited for, costs more than it gives.
const LANE_FILE_BYTES: u64 = 1 << 20;
/// So much decoded content is looked at together at most. On its way to a GPU it takes several times as long as a dispatch, so that more
/// would gain little; and it would keep the first ones waiting for the last.
const TOGETHER_BYTES_MAX: u64 = 16 << 20;

/// How the memory is parted.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Shares {
    /// Files that are decoded or written at a time.
    lanes: usize,
    /// What each of these may have for that.
    lane_bytes_max: u64,
    /// Beyond so much that is decoded no other file is taken.
    together_bytes_max: u64,
}

impl Shares {
    /// Of so many files with so many bytes. One gets all. Of several those that are decoded have one half, and what decodes and writes the
    /// other.
    fn of(files: usize, bytes: u64, cores: usize, memory: u64) -> Self {
        if files == 1 {
            return Self { lanes: 1, lane_bytes_max: memory, together_bytes_max: memory };
        }
        let worth = usize::try_from(bytes / LANE_FILE_BYTES).unwrap_or(usize::MAX);
        let lanes = files.min(cores).min(worth).clamp(1, LANES_MAX);
        let lane_bytes_max = memory / 2 / lanes as u64;
        Self { lanes, lane_bytes_max, together_bytes_max: TOGETHER_BYTES_MAX.min(memory / 2) }
    }
}

impl Engines {
    /// Runs a hook on open files. `tell` hears of each, in their order, as soon as it is known of those that were looked at together.
    ///
    /// # Errors
    /// Those of `tell`, which end it.
    pub(crate) fn run<E>(
        &self,
        loaded: &Loaded,
        files: &[File],
        worker_bytes_max: u64,
        mut tell: impl FnMut(Result<Output, Failure>) -> Result<(), E>,
    ) -> Result<(), E> {
        // An eighth of the process is for the drivers, the compiled hooks and ourselves.
        let memory = loaded.hook.limits().memory_bytes_max.min(worker_bytes_max / 8 * 7);
        // The tiles of one file are enough for a dispatch.
        #[cfg(feature = "gpu")]
        if let Some(tiles) = loaded.hook.tiles() {
            let mut files = files.iter();
            return files.try_for_each(|file| tell(self.run_in_tiles(loaded, tiles, file, memory)));
        }
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let mut waiting = files;
        while !waiting.is_empty() {
            let bytes =
                waiting.iter().filter_map(|file| file.metadata().ok()).map(|data| data.len());
            let shares = Shares::of(waiting.len(), bytes.sum(), cores, memory);
            let said = self.run_together(loaded, waiting, shares);
            let (seen, rest) = waiting.split_at(said.len());
            for (file, said) in seen.iter().zip(said) {
                let is_over =
                    matches!(&said, Err(failure) if failure.kind == FailureKind::OverLimit);
                if is_over && waiting.len() > 1 {
                    let all = Shares::of(1, 0, cores, memory);
                    let alone = self.run_together(loaded, std::slice::from_ref(file), all);
                    alone.into_iter().try_for_each(&mut tell)?;
                } else {
                    tell(said)?;
                }
            }
            waiting = rest;
        }
        Ok(())
    }

    /// What is said of the first of these files, as many as may be together.
    fn run_together(
        &self,
        loaded: &Loaded,
        files: &[File],
        shares: Shares,
    ) -> Vec<Result<Output, Failure>> {
        let (hook, memory) = (&loaded.hook, shares.lane_bytes_max);
        let kept = AtomicU64::new(0);
        let has_room = || kept.load(Ordering::Relaxed) < shares.together_bytes_max;
        let decoded = in_lanes(shares.lanes, files.iter(), has_room, |file| {
            let decoded = Decoded::read(hook, file, memory)?;
            kept.fetch_add(decoded.memory_bytes(), Ordering::Relaxed);
            Ok(decoded)
        });
        let inputs: Vec<_> = decoded.iter().filter_map(|decoded| decoded.as_ref().ok()).collect();
        let mut looked = self.look(loaded, &inputs).into_iter();
        let looked: Vec<Result<_, Failure>> = decoded
            .into_iter()
            .map(|decoded| {
                let decoded = decoded?;
                let none = || Failure::new(FailureKind::DeviceLost, "nothing was said of it");
                Ok((decoded, looked.next().ok_or_else(none)?))
            })
            .collect();
        in_lanes(
            shares.lanes,
            looked.into_iter(),
            || true,
            |looked| {
                let (decoded, looked) = looked?;
                let made = match looked {
                    #[cfg(feature = "gpu")]
                    Looked::Made(made) => made,
                    Looked::Twin(note) => decoded.on_cpu(hook, memory, note)?,
                    #[cfg(feature = "gpu")]
                    Looked::Failed(failure) => return Err(failure),
                };
                decoded.written(hook, made)
            },
        )
    }
}

/// `work` on each item while `goes_on`, on so many threads, of which this is one. The results are in the order of the items, from the
/// first one on.
fn in_lanes<T, R: Send>(
    lanes: usize,
    items: impl Iterator<Item = T> + Send,
    goes_on: impl Fn() -> bool + Sync,
    work: impl Fn(T) -> R + Sync,
) -> Vec<R> {
    let items = Mutex::new(items.enumerate());
    let next = || items.lock().unwrap_or_else(PoisonError::into_inner).next();
    let lane = || {
        let mut done = Vec::new();
        while goes_on() {
            let Some((number, item)) = next() else { break };
            done.push((number, work(item)));
        }
        done
    };
    let mut done = thread::scope(|scope| {
        // A thread that can't be started is one less.
        let start = |_| thread::Builder::new().spawn_scoped(scope, lane).ok();
        let others: Vec<_> = (1..lanes).filter_map(start).collect();
        let mut done = lane();
        for other in others {
            done.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        done
    });
    done.sort_unstable_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn one_file_has_all_memory_and_several_never_have_more() {
        let alone = Shares::of(1, GIB, 16, GIB);
        assert_eq!(alone, Shares { lanes: 1, lane_bytes_max: GIB, together_bytes_max: GIB });
        for files in [2, 3, 8, 64] {
            for cores in [1, 2, 16, 128] {
                for memory in [1 << 20, 256 << 20, 4 * GIB] {
                    let shares = Shares::of(files, GIB, cores, memory);
                    assert_eq!(shares.lanes, files.min(cores).min(LANES_MAX), "{shares:?}");
                    let lanes = shares.lanes as u64 * shares.lane_bytes_max;
                    assert!(lanes + shares.together_bytes_max <= memory, "{shares:?}");
                }
            }
        }
    }

    #[test]
    fn small_files_are_not_worth_a_thread() {
        let lanes = |files, bytes| Shares::of(files, bytes, 16, GIB).lanes;
        assert_eq!((lanes(64, 64 * 4096), lanes(64, 3 << 20), lanes(2, 3 << 20)), (1, 3, 2));
    }

    #[test]
    fn results_come_in_order_whoever_makes_them() {
        for lanes in [1, 2, 7] {
            let found = in_lanes(
                lanes,
                0..100,
                || true,
                |number| {
                    thread::sleep(std::time::Duration::from_micros((number * 37) % 200));
                    number * 2
                },
            );
            assert_eq!(found, Vec::from_iter((0..100).map(|number| number * 2)));
        }
    }

    #[test]
    fn what_is_not_begun_is_left_and_what_is_begun_is_done() {
        for lanes in [1, 4] {
            let begun = AtomicUsize::new(0);
            let goes_on = || begun.load(Ordering::SeqCst) < 10;
            let found = in_lanes(lanes, 0..100, goes_on, |number| {
                begun.fetch_add(1, Ordering::SeqCst);
                number
            });
            assert_eq!(found, Vec::from_iter(0..found.len()));
            assert!((10..10 + lanes).contains(&found.len()), "{found:?}");
        }
    }
}
