//! From measurements to medians, and from those to verdicts.

use std::collections::BTreeMap;

use super::row::{Bar, Row, Unit};
use super::subject::Kind;

/// Runs that differ by more than this are little worth.
const NOISE_MAX: f64 = 2.0;

/// All that was measured.
#[derive(Debug, Default)]
pub(super) struct Figures(BTreeMap<Row, BTreeMap<Kind, Vec<f64>>>);

/// What of ours came of a bar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Met,
    Missed,
    /// A figure is missing.
    Open,
}

impl Figures {
    pub(super) fn add(&mut self, row: Row, kind: Kind, figure: f64) {
        self.0.entry(row).or_default().entry(kind).or_default().push(figure);
    }

    /// Those with any figure of a subject.
    pub(super) fn rows(&self) -> impl Iterator<Item = Row> {
        let rows = self.0.iter().filter(|(_, kinds)| kinds.keys().any(|kind| *kind != Kind::Store));
        rows.map(|(&row, _)| row)
    }

    pub(super) fn median(&self, row: Row, kind: Kind) -> Option<f64> {
        let mut sorted = self.0.get(&row)?.get(&kind)?.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied()
    }

    /// The best of these.
    pub(super) fn best(&self, row: Row, of: impl Fn(Kind) -> bool) -> Option<(Kind, f64)> {
        let kinds = self.0.get(&row)?.keys().filter(|kind| of(**kind));
        let medians = kinds.filter_map(|&kind| Some((kind, self.median(row, kind)?)));
        medians.max_by(|(_, one), (_, other)| {
            let (one, other) = (*one, *other);
            if row.spec().unit.more_is_better() {
                one.total_cmp(&other)
            } else {
                other.total_cmp(&one)
            }
        })
    }

    /// How many times as good as theirs ours is.
    pub(super) fn times_as_good(&self, row: Row, theirs: Option<f64>) -> Option<f64> {
        let (ours, theirs) = (self.median(row, Kind::Fsd)?, theirs?);
        Some(if row.spec().unit.more_is_better() { ours / theirs } else { theirs / ours })
    }

    pub(super) fn verdict(&self, row: Row, bar: Bar) -> Verdict {
        let of = |kind| self.median(row, kind);
        let share = |theirs, least: f64| Some(self.times_as_good(row, theirs)? >= least);
        let is_met = match bar {
            Bar::Native(least) => share(of(Kind::Disk), least),
            Bar::Floor(least) => share(of(Kind::Floor), least),
            Bar::FloorTimes(most) => share(of(Kind::Floor), 1.0 / most),
            Bar::Peer(least) => share(self.best(row, Kind::is_peer).map(|(_, best)| best), least),
            Bar::Store(least) => share(of(Kind::Store), least),
            Bar::FloorOrStore(floor, store) => {
                let is_met = [share(of(Kind::Floor), floor), share(of(Kind::Store), store)];
                is_met.into_iter().flatten().reduce(|one, other| one || other)
            }
            Bar::AtMost(most) => of(Kind::Fsd).map(|ours| ours <= most),
        };
        match is_met {
            Some(true) => Verdict::Met,
            Some(false) => Verdict::Missed,
            None => Verdict::Open,
        }
    }

    /// A sentence for each figure whose runs differ much.
    pub(super) fn noise(&self) -> Vec<String> {
        let all = self.0.iter().flat_map(|(row, kinds)| {
            kinds.iter().map(move |(kind, figures)| (row.spec(), kind, figures))
        });
        let noisy = all.filter(|(_, _, figures)| is_noisy(figures));
        noisy
            .map(|(spec, kind, figures)| {
                let runs: Vec<String> = figures.iter().map(|&figure| shown(figure)).collect();
                format!("noise: {}: {kind}: {} {}", spec.name, runs.join(", "), spec.unit.name())
            })
            .collect()
    }
}

fn is_noisy(figures: &[f64]) -> bool {
    let least = figures.iter().copied().reduce(f64::min);
    let most = figures.iter().copied().reduce(f64::max);
    least.zip(most).is_some_and(|(least, most)| most > NOISE_MAX * least)
}

/// With as many digits as say something.
pub(super) fn shown(figure: f64) -> String {
    match figure {
        100.0.. => format!("{figure:.0}"),
        10.0.. => format!("{figure:.1}"),
        _ => format!("{figure:.2}"),
    }
}

/// A bar in words.
pub(super) fn bar_shown(bar: Bar, unit: Unit) -> String {
    match bar {
        Bar::Native(least) => format!("{least} disk"),
        Bar::Floor(least) => format!("{least} floor"),
        Bar::FloorTimes(most) => format!("≤ {most} × floor's time"),
        Bar::Peer(least) => format!("{least} × best peer"),
        Bar::Store(least) => format!("{least} store alone"),
        Bar::FloorOrStore(floor, store) => format!("{floor} floor or {store} store alone"),
        Bar::AtMost(most) => format!("≤ {most} {}", unit.name()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::subject::CacheMode;
    use super::*;

    fn figures(row: Row, all: &[(Kind, &[f64])]) -> Figures {
        let mut figures = Figures::default();
        for (kind, runs) in all {
            runs.iter().for_each(|&run| figures.add(row, *kind, run));
        }
        figures
    }

    #[test]
    fn the_median_counts_and_the_best_peer() {
        let (writes, full) = (Kind::Rclone(CacheMode::Writes), Kind::Rclone(CacheMode::Full));
        let rates: [(Kind, &[f64]); 4] = [
            (Kind::Disk, &[1.0, 9.0, 2.0]),
            (Kind::Fsd, &[1.9, 1.9, 1.9]),
            (writes, &[0.5, 0.3, 0.3]),
            (full, &[0.1, 0.2, 0.2]),
        ];
        let rate = figures(Row::WriteBig, &rates);
        assert_eq!(rate.median(Row::WriteBig, Kind::Disk), Some(2.0));
        assert_eq!(rate.best(Row::WriteBig, Kind::is_peer), Some((writes, 0.3)));
        assert_eq!(rate.verdict(Row::WriteBig, Bar::Native(0.9)), Verdict::Met);
        assert_eq!(rate.verdict(Row::WriteBig, Bar::Native(0.96)), Verdict::Missed);
        assert_eq!(rate.verdict(Row::WriteBig, Bar::Floor(0.9)), Verdict::Open);
        assert_eq!(rate.noise(), ["noise: write big to close: disk: 1.00, 9.00, 2.00 MiB/s"]);
        let time = figures(Row::Tar, &[(Kind::Floor, &[1.0]), (Kind::Fsd, &[2.1]), (full, &[6.3])]);
        assert_eq!(time.verdict(Row::Tar, Bar::FloorTimes(2.0)), Verdict::Missed);
        assert_eq!(time.verdict(Row::Tar, Bar::FloorTimes(2.2)), Verdict::Met);
        assert_eq!(time.times_as_good(Row::Tar, Some(6.3)), Some(6.3 / 2.1));
    }

    #[test]
    fn of_two_bars_the_lesser_is_enough() {
        let all: [(Kind, &[f64]); 3] =
            [(Kind::Floor, &[10.0]), (Kind::Store, &[5.0]), (Kind::Fsd, &[4.1])];
        let figures = figures(Row::ReadBigCold, &all);
        let verdict = |bar| figures.verdict(Row::ReadBigCold, bar);
        assert_eq!(verdict(Bar::FloorOrStore(1.05, 0.8)), Verdict::Met);
        assert_eq!(verdict(Bar::FloorOrStore(1.05, 0.9)), Verdict::Missed);
    }
}
