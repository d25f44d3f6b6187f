//! What is done to the workspace by command: `cargo xtask ci`, `tidy`, `sim`, `bench`.
#![expect(clippy::print_stdout, reason = "its findings are its output")]

mod bench;
mod ci;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask COMMAND
  ci    everything that must hold before a commit, as the CI runs it
  tidy  the rules of the tree that no compiler checks
  sim   [--minutes N] [--seed N] [--steps N] [--broken NAME]
        the engine in a simulation: users, others in the cloud, faults and crashes at random, in virtual time. Without --seed,
        new seeds for so many minutes; FSD_LOG=info,fsd=debug,fsd_tests=debug tells what happens. --broken: with a mistake
        that has to be found: conditions, aside, marks, items, rescan or evict
  bench [quick] [--only WORDS] [--subjects NAMES] [--smaller N] [--rounds N] [--write FILE]
        the drive against the disk below it, a floor and peers, with the bars that it must reach. WORDS: rows with
        one of them in their names; NAMES: of disk,floor,ours,rclone,juicefs,s3fs; both separated by commas.
        --smaller divides all sizes; --write replaces the marked block of a Markdown file. quick: a few rows against
        disk and rclone
  bench hooks [ARRIVALS]
        what hooks take beyond their own work, and how many files a second they look at; kernels beside their twins, what batches
        gain, and what a card would need on paper. ARRIVALS: so many while they rest";

fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["ci"] => ci::run(&workspace_dir()),
        ["tidy"] => {
            let findings = tidy::check(&workspace_dir())?;
            findings.iter().for_each(|finding| println!("{finding}"));
            println!("tidy: {} findings", findings.len());
            Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        ["sim", ref options @ ..] => simulate(&workspace_dir(), options),
        ["bench", "hooks", ref arrivals @ ..] => bench_hooks(&workspace_dir(), arrivals),
        ["bench", ref options @ ..] => done(bench::run(&workspace_dir(), options)),
        [bench::STORE_WORD] => done(bench::run_store()),
        [bench::NAMES_WORD, dir, count] => done(bench::run_names(Path::new(dir), count.parse()?)),
        _ => Ok(usage()),
    }
}

fn simulate(workspace: &Path, options: &[&str]) -> anyhow::Result<ExitCode> {
    // Of the whole workspace, as the tests are built: of one package it would be with other features, and from the beginning.
    let mut cargo = std::process::Command::new(env!("CARGO"));
    cargo.current_dir(workspace).args(["build", "--quiet", "--workspace"]);
    anyhow::ensure!(cargo.status()?.success(), "it can't be built");
    let sim = std::env::current_exe()?.with_file_name("sim");
    let status = std::process::Command::new(sim).args(options).status()?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What is measured is built as it is released; what measures it need not be.
fn bench_hooks(workspace: &Path, arrivals: &[&str]) -> anyhow::Result<ExitCode> {
    for build in [
        &["build", "--quiet", "--release", "--package", "fsd"][..],
        &["build", "--quiet", "--workspace", "--bin", "bench-hooks"],
    ] {
        let mut cargo = std::process::Command::new(env!("CARGO"));
        anyhow::ensure!(cargo.current_dir(workspace).args(build).status()?.success(), "no build");
    }
    let place = workspace.join("target/bench");
    std::fs::create_dir_all(&place)?;
    let mut bench =
        std::process::Command::new(std::env::current_exe()?.with_file_name("bench-hooks"));
    bench.arg(workspace.join("target/release/fsd")).arg(workspace.join("inference-hooks/hooks"));
    let status = bench.arg(place).args(arrivals).status()?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn done(result: anyhow::Result<()>) -> anyhow::Result<ExitCode> {
    result.map(|()| ExitCode::SUCCESS)
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
}

fn workspace_dir() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}
