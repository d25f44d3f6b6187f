//! `fsd config`

use std::path::PathBuf;

use clap::Subcommand;

use super::Outcome;
use super::output::{count, print};
use crate::config::{Config, EXAMPLE};

#[derive(Debug, clap::Args)]
pub(super) struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Check a configuration file, and show everything that is wrong with it
    Check {
        /// The file
        file: PathBuf,
    },
    /// Print a file that sets everything there is to set, with comments
    Example,
}

pub(super) fn config(args: &ConfigArgs) -> Outcome {
    match &args.command {
        ConfigCommand::Check { file } => {
            let config = Config::read(file, jiff::tz::db())?;
            let number = |length: usize| u64::try_from(length).unwrap_or(u64::MAX);
            let shares = count(number(config.shares.len()), "share");
            let hooks = count(number(config.hooks.len()), "hook");
            print(&format!("{} is right: {shares}, {hooks}\n", file.display()))
        }
        ConfigCommand::Example => print(EXAMPLE),
    }
}
