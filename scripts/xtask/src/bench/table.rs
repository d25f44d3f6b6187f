//! The table, in Markdown.

use std::collections::BTreeSet;

use super::figures::{Figures, Verdict, bar_shown, shown};
use super::row::Row;
use super::subject::Kind;

/// A line for each row that has a figure; how many bars are missed.
pub(super) fn table(figures: &Figures, kinds: &[Kind]) -> (String, usize) {
    let families = families(kinds);
    let mut head = vec!["work", "unit"];
    head.extend(&families);
    head.extend(["ours/disk", "ours/floor", "ours/best peer", "bar", ""]);
    let mut lines = vec![line(&head), line(&vec!["---"; head.len()])];
    let mut missed = 0;
    for row in figures.rows() {
        let spec = row.spec();
        let mut cells = vec![spec.name.to_owned(), spec.unit.name().to_owned()];
        cells.extend(families.iter().map(|family| cell(figures, row, family)));
        let of = |theirs| figures.times_as_good(row, theirs).map_or("–".to_owned(), shown);
        cells.push(of(figures.median(row, Kind::Disk)));
        cells.push(of(figures.median(row, Kind::Floor)));
        cells.push(of(figures.best(row, Kind::is_peer).map(|(_, best)| best)));
        let bars = spec.bars.iter().map(|&bar| bar_shown(bar, spec.unit));
        cells.push(bars.collect::<Vec<_>>().join("; "));
        let verdicts = spec.bars.iter().map(|&bar| figures.verdict(row, bar));
        let verdicts = verdicts.map(|verdict| match verdict {
            Verdict::Met => "met",
            Verdict::Missed => "**MISSED**",
            Verdict::Open => "?",
        });
        let verdicts: Vec<&str> = verdicts.collect();
        missed += verdicts.iter().filter(|verdict| verdict.contains("MISSED")).count();
        cells.push(verdicts.join("; "));
        lines.push(line(&cells));
    }
    (lines.join("\n"), missed)
}

/// Without repetition, in the order of the kinds; the store comes last.
fn families(kinds: &[Kind]) -> Vec<&'static str> {
    let sorted: BTreeSet<Kind> = kinds.iter().copied().chain([Kind::Store]).collect();
    let mut families: Vec<&str> = sorted.into_iter().map(Kind::family).collect();
    families.dedup();
    families
}

/// The figure of a family: of its variants the best, with its name.
fn cell(figures: &Figures, row: Row, family: &str) -> String {
    match figures.best(row, |kind| kind.family() == family) {
        Some((Kind::Rclone(mode), figure)) => format!("{} ({mode})", shown(figure)),
        Some((_, figure)) => shown(figure),
        None => "–".to_owned(),
    }
}

fn line<T: AsRef<str>>(cells: &[T]) -> String {
    let cells: Vec<&str> = cells.iter().map(AsRef::as_ref).collect();
    format!("| {} |", cells.join(" | "))
}

#[cfg(test)]
mod tests {
    use super::super::subject::CacheMode;
    use super::*;

    #[test]
    fn a_row_has_figures_ratios_and_a_verdict() {
        let (writes, full) = (Kind::Rclone(CacheMode::Writes), Kind::Rclone(CacheMode::Full));
        let mut figures = Figures::default();
        for (kind, figure) in
            [(Kind::Disk, 1000.0), (Kind::Fsd, 800.0), (writes, 200.0), (full, 99.0)]
        {
            figures.add(Row::WriteBig, kind, figure);
        }
        figures.add(Row::ReadBigCold, Kind::Store, 3000.0);
        let (table, missed) = table(&figures, &[full, Kind::Disk, Kind::Fsd, writes]);
        assert_eq!(
            table.lines().collect::<Vec<_>>(),
            [
                "| work | unit | disk | ours | rclone | store | ours/disk | ours/floor | ours/best peer | bar |  |",
                "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
                "| write big to close | MiB/s | 1000 | 800 | 200 (writes) | – | 0.80 | – | 4.00 | 0.9 disk | **MISSED** |",
            ]
        );
        assert_eq!(missed, 1);
    }
}
