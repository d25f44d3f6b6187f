//! From durations to medians, and from those to a table.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use super::client::{Sizes, Unit, Work};
use super::subject::Kind;

/// All that was measured.
#[derive(Debug, Default)]
pub(super) struct Figures(BTreeMap<Work, BTreeMap<Kind, Vec<Duration>>>);

impl Figures {
    pub(super) fn extend(&mut self, kind: Kind, figures: Vec<(Work, Duration)>) {
        for (work, took) in figures {
            self.0.entry(work).or_default().entry(kind).or_default().push(took);
        }
    }

    /// A line for each work, one more for each that the peer does faster, and one for each figure that is little
    /// worth because its runs differ much. A ratio over one means that ours is faster. Of the peer's variants the one
    /// that is fastest at that work counts.
    pub(super) fn table(&self, sizes: Sizes) -> String {
        let mut table = format!(
            "{:<32} {:>14} {:>14} {:>10} {:>22} {:>12}\n",
            "work", "disk", "ours", "ours/disk", "rclone (best variant)", "ours/rclone"
        );
        let (mut losses, mut noise) = (String::new(), String::new());
        for (&work, kinds) in &self.0 {
            let medians = kinds.iter().filter_map(|(&kind, took)| Some((kind, median(took)?)));
            let medians: BTreeMap<Kind, Duration> = medians.collect();
            let peers = medians.iter().filter(|(kind, _)| matches!(kind, Kind::Rclone(_)));
            let peer = peers.min_by_key(|(_, took)| **took).map(|(&kind, &took)| (kind, took));
            let (disk, ours) = (medians.get(&Kind::Disk), medians.get(&Kind::Fsd));
            let shown = |took: Option<&Duration>| {
                took.map_or("-".to_owned(), |&took| shown(took, work.unit(sizes)))
            };
            let ratio = |theirs: Option<Duration>| match (ours, theirs) {
                (Some(ours), Some(theirs)) => {
                    format!("{:.2}", theirs.as_secs_f64() / ours.as_secs_f64())
                }
                (None, _) | (_, None) => "-".to_owned(),
            };
            let shown_peer = peer.map_or("-".to_owned(), |(kind, took)| match kind {
                Kind::Rclone(mode) => format!("{} {mode:>6}", shown(Some(&took))),
                Kind::Disk | Kind::Fsd => shown(Some(&took)),
            });
            let (of_disk, of_peer) = (ratio(disk.copied()), ratio(peer.map(|(_, took)| took)));
            let _ = writeln!(
                table,
                "{:<32} {:>14} {:>14} {of_disk:>10} {shown_peer:>22} {of_peer:>12}",
                work.name(),
                shown(disk),
                shown(ours),
            );
            if let (Some(ours), Some((kind, theirs))) = (ours, peer)
                && *ours > theirs
            {
                let _ = writeln!(losses, "loss: {}: {of_peer} of {kind}", work.name());
            }
            for (kind, took) in kinds.iter().filter(|(_, took)| is_noisy(took)) {
                let runs = took.iter().map(|&took| self::shown(took, work.unit(sizes)));
                let runs: Vec<_> = runs.collect();
                let _ = writeln!(noise, "noise: {}: {kind}: {}", work.name(), runs.join(", "));
            }
        }
        table + &losses + &noise
    }
}

fn median(took: &[Duration]) -> Option<Duration> {
    let mut sorted = took.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied()
}

/// Whether the runs differ by more than a factor of two.
fn is_noisy(took: &[Duration]) -> bool {
    let (least, most) = (took.iter().min(), took.iter().max());
    least.zip(most).is_some_and(|(&least, &most)| most > 2 * least)
}

fn shown(took: Duration, unit: Unit) -> String {
    let rate = |amount: u64| amount as f64 / took.as_secs_f64();
    match unit {
        Unit::MibPerSecond(mib) => format!("{:.0} MiB/s", rate(mib)),
        Unit::FilesPerSecond(files) => format!("{:.0} files/s", rate(files)),
        Unit::Seconds => format!("{:.2} s", took.as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::super::rclone::CacheMode;
    use super::*;

    #[test]
    fn the_median_counts_and_the_best_variant_of_the_peer() {
        let mut figures = Figures::default();
        let mut add = |kind, work, seconds: [u64; 3]| {
            let took = seconds.map(|seconds| (work, Duration::from_secs(seconds)));
            figures.extend(kind, took.into());
        };
        add(Kind::Disk, Work::WriteBig, [1, 9, 2]);
        add(Kind::Fsd, Work::WriteBig, [4, 4, 4]);
        add(Kind::Rclone(CacheMode::Writes), Work::WriteBig, [8, 8, 8]);
        add(Kind::Rclone(CacheMode::Full), Work::WriteBig, [9, 9, 1]);
        add(Kind::Fsd, Work::StoreBig, [5, 5, 5]);
        add(Kind::Rclone(CacheMode::Full), Work::StoreBig, [3, 4, 5]);
        let table = figures.table(Sizes::divided_by(NonZeroU64::MIN));
        let lines: Vec<Vec<&str>> =
            table.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
        let wanted = [
            "write big to close 512 MiB/s 256 MiB/s 0.50 128 MiB/s writes 2.00",
            "write big until in the store - 5.00 s - 4.00 s full 0.80",
            "loss: write big until in the store: 0.80 of rclone full",
            "noise: write big to close: disk: 1024 MiB/s, 114 MiB/s, 512 MiB/s",
            "noise: write big to close: rclone full: 114 MiB/s, 114 MiB/s, 1024 MiB/s",
        ];
        assert_eq!(lines.iter().map(|words| words.join(" ")).collect::<Vec<_>>(), wanted);
    }
}
