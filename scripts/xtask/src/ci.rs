//! `cargo xtask ci`: all steps, each run whatever became of those before, and one line that sums them up.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::Context;

/// Steps and tests, by what became of them. A step without tests counts as one.
#[derive(Default)]
struct Tally {
    passed: usize,
    failed: usize,
    skipped: usize,
    failures: Vec<String>,
}

impl Tally {
    fn step(&mut self, name: &str, passed: bool) {
        if passed {
            self.passed += 1;
        } else {
            self.failed += 1;
            self.failures.push(name.to_owned());
        }
    }

    fn skip(&mut self, why: &str) {
        println!("SKIP: {why}");
        self.skipped += 1;
    }
}

const LINTS: &[(&str, &[&str])] = &[
    ("fmt", &["fmt", "--all", "--check"]),
    ("clippy", &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]),
    (
        "clippy, all features",
        &["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"],
    ),
    (
        "clippy, no GPU",
        &[
            "clippy",
            "-p",
            "inference-hooks",
            "--no-default-features",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ],
    ),
];

/// Runs everything in `root`.
pub(crate) fn run(root: &Path) -> anyhow::Result<ExitCode> {
    let mut tally = Tally::default();
    for (name, arguments) in LINTS {
        tally.step(name, cargo(root, name, arguments)?);
    }
    println!("\n== tidy");
    match super::tidy::check(root) {
        Ok(findings) => {
            findings.iter().for_each(|finding| println!("{finding}"));
            tally.step("tidy", findings.is_empty());
        }
        Err(error) => {
            println!("{error:#}");
            tally.step("tidy", false);
        }
    }
    if installed(root, "deny") {
        let arguments = ["deny", "--locked", "check", "bans", "licenses", "sources"];
        tally.step("deny", cargo(root, "deny", &arguments)?);
    } else {
        tally.skip("cargo-deny is not installed");
    }
    tests(root, &mut tally)?;
    doc_tests(root, &mut tally)?;
    let docs = command(root, &["doc", "--workspace", "--no-deps"])
        .env("RUSTDOCFLAGS", "-D warnings")
        .status()
        .context("run cargo doc")?;
    tally.step("doc", docs.success());

    println!("\n== summary");
    tally.failures.iter().for_each(|name| println!("FAILED: {name}"));
    println!("skips: {}", tally.skipped);
    println!("{} passed, {} failed, {} skipped", tally.passed, tally.failed, tally.skipped);
    Ok(if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn tests(root: &Path, tally: &mut Tally) -> anyhow::Result<()> {
    // The program that the end-to-end tests drive, with the features that the tests are built with.
    let built = cargo(root, "build", &["build", "--workspace"])?;
    tally.step("build", built);
    if !installed(root, "nextest") {
        println!("cargo-nextest is not installed: tests run without its time limits");
        let arguments = [
            "test",
            "--workspace",
            "--no-fail-fast",
            "--lib",
            "--bins",
            "--tests",
            "--",
            "--show-output",
        ];
        return libtest(root, "cargo test", &arguments, tally);
    }
    nextest(root, "nextest", &[], &[], tally)?;
    // The mount once more, with every byte through the daemon.
    let through_daemon = [("FSD_TEST_MOUNT_OPTIONS", "nopassthrough")];
    nextest(root, "nextest, no passthrough", &["-E", "binary(mount)"], &through_daemon, tally)
}

fn nextest(
    root: &Path,
    name: &str,
    filter: &[&str],
    variables: &[(&str, &str)],
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let report = target_dir(root).join("nextest/ci/junit.xml");
    let _ = fs::remove_file(&report); // an old one would be counted if there is no new one
    println!("\n== {name}");
    let arguments = ["nextest", "run", "--workspace", "--profile", "ci", "--no-tests", "warn"];
    let passed = command(root, &[&arguments, filter].concat())
        .envs(variables.iter().copied())
        .status()
        .context("run cargo")?
        .success();
    let report = fs::read_to_string(&report).unwrap_or_default();
    let counts = Counts::of_junit(&report);
    add(tally, name, passed, &counts);
    Ok(())
}

fn doc_tests(root: &Path, tally: &mut Tally) -> anyhow::Result<()> {
    libtest(root, "doc tests", &["test", "--workspace", "--doc", "--no-fail-fast"], tally)
}

fn libtest(root: &Path, name: &str, arguments: &[&str], tally: &mut Tally) -> anyhow::Result<()> {
    println!("\n== {name}");
    let mut child = command(root, arguments).stdout(Stdio::piped()).spawn().context("run cargo")?;
    let mut counts = Counts::default();
    for line in BufReader::new(child.stdout.take().context("no output")?).lines() {
        let line = line?;
        counts.add_libtest_line(&line);
        println!("{line}");
    }
    let passed = child.wait()?.success();
    add(tally, name, passed, &counts);
    Ok(())
}

fn add(tally: &mut Tally, name: &str, passed: bool, counts: &Counts) {
    counts.skips.iter().for_each(|why| tally.skip(why));
    tally.passed += counts.passed.saturating_sub(counts.skips.len());
    tally.failed += counts.failed;
    tally.skipped += counts.ignored;
    match (passed, counts.failed) {
        (true, _) => {}
        (false, 0) => tally.step(name, false), // it did not build, or did not run
        (false, failed) => tally.failures.push(format!("{name}: {failed} tests")),
    }
}

/// What a run of tests says of itself. A test that prints `SKIP: why` passed without testing.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: usize,
    failed: usize,
    ignored: usize,
    skips: Vec<String>,
}

impl Counts {
    fn of_junit(report: &str) -> Self {
        let number = |name: &str| -> usize {
            let totals =
                report.lines().find(|line| line.contains("<testsuites")).unwrap_or_default();
            let value = totals.split_once(&format!(" {name}=\"")).map(|(_, rest)| rest);
            value.and_then(|rest| rest.split('"').next()?.parse().ok()).unwrap_or_default()
        };
        let (failed, ignored) = (number("failures") + number("errors"), number("skipped"));
        let passed = number("tests").saturating_sub(failed + ignored);
        Self { passed, failed, ignored, skips: report.lines().filter_map(skip_in).collect() }
    }

    fn add_libtest_line(&mut self, line: &str) {
        self.skips.extend(skip_in(line));
        let Some((_, counts)) = line.split_once("test result: ") else { return };
        for part in counts.split([';', '.']) {
            let mut words = part.split_whitespace();
            let Some(number) = words.next().and_then(|word| word.parse::<usize>().ok()) else {
                continue;
            };
            match words.next() {
                Some("passed") => self.passed += number,
                Some("failed") => self.failed += number,
                Some("ignored") => self.ignored += number,
                Some(_) | None => {}
            }
        }
    }
}

fn skip_in(line: &str) -> Option<String> {
    line.split_once("SKIP: ").map(|(_, why)| why.trim_end().to_owned())
}

fn cargo(root: &Path, name: &str, arguments: &[&str]) -> anyhow::Result<bool> {
    println!("\n== {name}");
    Ok(command(root, arguments).status().with_context(|| format!("run cargo {name}"))?.success())
}

fn target_dir(root: &Path) -> PathBuf {
    root.join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

fn command(root: &Path, arguments: &[&str]) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(root).args(arguments).env("FSD_BIN", target_dir(root).join("debug/fsd"));
    command
}

fn installed(root: &Path, subcommand: &str) -> bool {
    let probe = command(root, &[subcommand, "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    probe.is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_junit_report_is_counted() {
        let report = "<?xml?>\n<testsuites name=\"n\" tests=\"6\" skipped=\"1\" failures=\"1\" errors=\"1\" uuid=\"x\">\n\
            <system-out>\ntest a ... SKIP: no GPU here\n</system-out>\n</testsuites>\n";
        let skips = vec!["no GPU here".to_owned()];
        assert_eq!(Counts::of_junit(report), Counts { passed: 3, failed: 2, ignored: 1, skips });
        assert_eq!(Counts::of_junit(""), Counts::default());
    }

    #[test]
    fn results_of_several_libtest_runs_add_up() {
        let mut counts = Counts::default();
        let line = "test result: FAILED. 3 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.28s";
        counts.add_libtest_line(line);
        counts.add_libtest_line("SKIP: no FUSE");
        counts.add_libtest_line(line);
        let skips = vec!["no FUSE".to_owned()];
        assert_eq!(counts, Counts { passed: 6, failed: 2, ignored: 4, skips });
    }
}
