//! fsd: an edge storage gateway that is mounted as a drive.

use std::process::ExitCode;

use fsd::app::Fsd;
use fsd::control::cli::{self, Vars};

fn main() -> ExitCode {
    let vars: Vars = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    cli::run(std::env::args_os(), &vars, &Fsd::new(vars.clone()))
}
