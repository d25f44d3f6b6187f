//! `cargo xtask bench`: ours, the local disk, a floor and peers in one run, as ratios with bars.
//!
//! Each step is done on one subject after the other before the next begins, so that noise hits all alike; the others are
//! idle meanwhile. Every round starts with empty caches and empty stores; a figure is the median of all rounds.

mod figures;
mod options;
mod report;
mod row;
mod sizes;
mod store;
mod subject;
mod table;
mod watch;
mod work;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use tempfile::TempDir;

use self::figures::Figures;
use self::options::Options;
use self::report::Report;
use self::row::Row;
use self::sizes::Sizes;
use self::subject::{Kind, Programs, Subject};
use self::watch::Watch;
use self::work::{Bench, Sources, Step};

pub(crate) use store::{WORD as STORE_WORD, run as run_store};
pub(crate) use work::{NAMES_WORD, run_names};

/// A peer that needs longer than this for a step is not asked to do it again.
const PEER_STEP_MAX: Duration = Duration::from_secs(5);

/// Measures as `words` say, and prints a table.
///
/// # Errors
/// If ours can't be had, or fails at something. A peer that is missing or fails is none: it is said and left out.
pub(crate) fn run(root: &Path, words: &[&str]) -> anyhow::Result<()> {
    let options = Options::parse(words)?;
    let sizes = Sizes::divided_by(options.smaller);
    let place = root.join("target/bench");
    fs::create_dir_all(&place).with_context(|| format!("make {}", place.display()))?;
    subject::raise_limits()?;
    let mut report = Report::new(&options, sizes, &place)?;
    let programs = Programs::new(root, &place);
    let kinds = available(&options, &programs, &mut report)?;

    let folder = TempDir::with_prefix_in("run-", &place).context("make a folder")?;
    let sources = Sources::make(folder.path(), sizes)?;
    let bench = Bench { sizes, programs, sources, folder: folder.path().to_owned() };
    let mut run = Run {
        options: &options,
        bench,
        report,
        figures: Figures::default(),
        slow: BTreeSet::new(),
        failures: 0,
    };
    for round in 0..options.rounds {
        eprintln!("round {} of {}", round + 1, options.rounds);
        let mut kinds = kinds.clone();
        let turn = round % kinds.len();
        kinds.rotate_left(turn);
        let folder = folder.path().join(format!("round-{}", round + 1));
        fs::create_dir(&folder).context("make a folder")?;
        run.round(&kinds, &folder, round + 1 == options.rounds)?;
    }

    let (table, missed) = table::table(&run.figures, &kinds);
    let text = run.report.text(&table, missed, &run.figures.noise());
    print(&text);
    options.write.as_deref().map_or(Ok(()), |path| report::write(path, &text))?;
    folder.close().context("clean up")?;
    ensure!(run.failures == 0, "ours failed at {} steps", run.failures);
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the table is the output")]
fn print(text: &str) {
    println!("{text}");
}

/// Those that can be had.
fn available(
    options: &Options,
    programs: &Programs,
    report: &mut Report,
) -> anyhow::Result<Vec<Kind>> {
    let mut kinds = Vec::new();
    for &kind in &options.kinds {
        match programs.prepare(kind) {
            Ok(version) => {
                report.note(kind, programs, &version);
                kinds.push(kind);
            }
            Err(error) if kind == Kind::Fsd => return Err(error),
            Err(error) => report.skip(&format!("{kind}: {error:#}")),
        }
    }
    ensure!(!kinds.is_empty(), "there is nobody to measure");
    Ok(kinds)
}

struct Run<'a> {
    options: &'a Options,
    bench: Bench,
    report: Report,
    figures: Figures,
    /// Who took long for a step, by its first row.
    slow: BTreeSet<(Row, Kind)>,
    /// Steps that ours did not do.
    failures: usize,
}

impl Run<'_> {
    fn round(&mut self, kinds: &[Kind], folder: &Path, is_last: bool) -> anyhow::Result<()> {
        self.measure_store()?;
        let mut subjects = Vec::new();
        for &kind in kinds {
            match self.start(kind, folder) {
                Ok(subject) => subjects.push(subject),
                Err(error) if kind.is_peer() => self.report.skip(&format!("{kind}: {error:#}")),
                Err(error) => return Err(error.context(format!("start {kind}"))),
            }
        }
        for step in work::EACH_ROUND {
            self.step(step, &mut subjects);
        }
        for subject in subjects.iter().filter(|subject| subject.kind() == Kind::Fsd) {
            work::verify(subject, self.bench.sizes).context("read back")?;
        }
        for step in work::AFTER_ALL.iter().filter(|_| is_last) {
            (0..self.options.rounds).for_each(|_| self.step(step, &mut subjects));
        }
        subjects.into_iter().try_for_each(Subject::stop)
    }

    fn measure_store(&mut self) -> anyhow::Result<()> {
        let (figures, busy) = work::measure_store(self.bench.sizes, &self.bench.folder)?;
        eprintln!("  the store alone answers {busy:.0} small requests/s on several connections");
        for (row, figure) in figures {
            eprintln!("  the store alone: {}: {}", row.spec().name, figures::shown(figure));
            if self.options.wants(row) {
                self.figures.add(row, Kind::Store, figure);
            }
        }
        Ok(())
    }

    fn start(&self, kind: Kind, folder: &Path) -> anyhow::Result<Subject> {
        let sizes = self.bench.sizes;
        let subject = Subject::start(kind, &self.bench.programs, folder, |store| {
            if kind.shows_objects() { work::fill(store, sizes) } else { Ok(()) }
        })?;
        if self.options.wants(Row::ListCold) || self.options.wants(Row::ListAgain) {
            work::make_wide(&subject, sizes)?;
        }
        Ok(subject)
    }

    fn step(&mut self, step: &Step, subjects: &mut [Subject]) {
        let Some(&first) = step.rows.iter().find(|row| self.options.wants(**row)) else { return };
        for subject in subjects.iter_mut().filter(|subject| (step.suits)(subject.kind())) {
            let kind = subject.kind();
            if !step.makes_data && self.slow.contains(&(first, kind)) {
                continue;
            }
            let watch = Watch::start();
            match self.bench.perform(step, subject) {
                Ok((figures, took)) => {
                    self.note(kind, &figures);
                    if kind.is_peer() && took > PEER_STEP_MAX {
                        self.slow.insert((first, kind));
                    }
                }
                Err(error) => {
                    self.failures += usize::from(kind == Kind::Fsd);
                    self.report.skip(&format!("{kind}: {}: {error:#}", first.spec().name));
                }
            }
            eprintln!("    {kind} took {:.1} s in all", watch.elapsed().as_secs_f64());
        }
    }

    fn note(&mut self, kind: Kind, figures: &[(Row, f64)]) {
        for &(row, figure) in figures.iter().filter(|(row, _)| self.options.wants(*row)) {
            let spec = row.spec();
            eprintln!("  {}: {kind}: {} {}", spec.name, figures::shown(figure), spec.unit.name());
            self.figures.add(row, kind, figure);
        }
    }
}
