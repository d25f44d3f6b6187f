//! What is done to the workspace by command: `cargo xtask ci`, `tidy`, `bench`.
#![expect(clippy::print_stdout, reason = "its findings are its output")]

mod bench;
mod ci;
mod tidy;

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask COMMAND
  ci    everything that must hold before a commit, as the CI runs it
  tidy  the rules of the tree that no compiler checks
  bench quick [--smaller N]
        the drive against the disk below it and against rclone; N divides all sizes";

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
        ["bench", "quick"] => bench(NonZeroU64::MIN),
        ["bench", "quick", "--smaller", divisor] => match divisor.parse() {
            Ok(divisor) => bench(divisor),
            Err(_) => Ok(usage()),
        },
        _ => Ok(usage()),
    }
}

fn bench(smaller: NonZeroU64) -> anyhow::Result<ExitCode> {
    bench::quick(&workspace_dir(), smaller)?;
    Ok(ExitCode::SUCCESS)
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
}

fn workspace_dir() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}
