//! `fsd run`

use std::path::PathBuf;

use super::daemon::{self, DaemonizeArgs};
use super::{Context, Outcome};
use crate::config::Config;

#[derive(Debug, clap::Args)]
pub(super) struct RunArgs {
    /// The configuration file
    #[arg(short, long, value_name = "FILE", default_value = "/etc/fsd/fsd.toml")]
    config: PathBuf,
    #[command(flatten)]
    daemonize: DaemonizeArgs,
}

pub(super) fn run(args: &RunArgs, context: &Context<'_>) -> Outcome {
    let config = Config::read(&args.config, jiff::tz::db())?;
    daemon::start(config, &args.daemonize, context)
}
