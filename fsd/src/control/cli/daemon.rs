//! Starting a gateway: in this process, or in one of its own that outlives the command.
//!
//! With `--daemon` the command runs itself again, and its child writes [`UP`] to the pipe that is its stdout, or why it
//! failed. So the command ends when the mount is up, and says what went wrong if it is not. Nothing is forked: by
//! the time a gateway would, it has threads.

use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context as _;

use super::{Context, Exit, Failure, Outcome, Start};
use crate::config::Config;

/// What a child says on its stdout when all is well.
const UP: &str = "up";

/// The name of the log in the state directory of a daemon without a terminal.
const LOG: &str = "fsd.log";

/// How a gateway is started.
#[derive(Debug, clap::Args)]
pub(super) struct DaemonizeArgs {
    /// Return when the mount is up, and go on in the background, with a log in the state directory
    #[arg(long)]
    daemon: bool,
    /// Say on stdout when the mount is up, or why not
    #[arg(long, hide = true)]
    report_on_stdout: bool,
}

/// Tells whoever waits that the gateway is up.
#[derive(Debug)]
pub struct Ready {
    report_on_stdout: bool,
    says: String,
}

impl Ready {
    /// All mounts are up, and the gateway listens to commands.
    pub fn up(self) {
        if self.report_on_stdout {
            report(UP);
        }
        // Where it goes to may be full.
        let _ = writeln!(std::io::stderr(), "fsd: {}", self.says);
    }
}

/// Runs the gateway of `config`, here or in the background.
pub(super) fn start(config: Config, args: &DaemonizeArgs, context: &Context<'_>) -> Outcome {
    if args.daemon && !args.report_on_stdout {
        return start_in_background(&config, &context.arguments);
    }
    if args.report_on_stdout {
        // Away from the terminal and the directory of the caller. It fails only for the leader of a group, which a
        // child never is, and for a root directory that is gone.
        let _ = nix::unistd::setsid();
        let _ = nix::unistd::chdir("/");
    }
    let says = config
        .shares
        .iter()
        .map(|share| format!("{} is mounted on {}", share.name, share.mount.display()))
        .collect::<Vec<_>>()
        .join(", ");
    let ready = Ready { report_on_stdout: args.report_on_stdout, says };
    let served = context
        .runtime_dir()
        .and_then(|runtime_dir| Ok(context.program.serve(Start { config, runtime_dir, ready })?));
    if let Err(failure) = &served
        && args.report_on_stdout
    {
        report(&failure.to_string());
    }
    served
}

/// Tells the waiting parent, and lets go of the pipe. Once let go of, stdout takes all and shows nothing.
fn report(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "{text}").and_then(|()| stdout.flush()); // a parent that is gone needs no report
    if let Ok(null) = OpenOptions::new().write(true).open("/dev/null") {
        let _ = nix::unistd::dup2_stdout(null);
    }
}

fn start_in_background(config: &Config, arguments: &[OsString]) -> Outcome {
    let log_path = config.state_dir.join(LOG);
    let log = open_log(&log_path)?;
    let mut child = Command::new("/proc/self/exe")
        .arg0("fsd")
        .args(arguments)
        .arg("--report-on-stdout")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .context("start the daemon")?;
    let mut reports = BufReader::new(child.stdout.take().context("the daemon has no stdout")?);
    let mut text = String::new();
    reports.read_line(&mut text).context("wait for the daemon")?;
    if text.trim_end() == UP {
        return Ok(());
    }
    reports.read_to_string(&mut text).context("wait for the daemon")?;
    let ended = child.wait().context("wait for the daemon")?;
    let log = log_path.display();
    if text.is_empty() {
        let message = format!("the daemon ended before the mount was up: {ended}");
        return Err(Failure::new(Exit::Failed, message).hint(format!("{log} says more")));
    }
    let text = text.trim_end().trim_start_matches("fsd: ");
    let (message, hint) = text.split_once("\nhint: ").unwrap_or((text, ""));
    let hint = if hint.is_empty() { format!("{log} says more") } else { hint.to_owned() };
    Err(Failure::new(Exit::Failed, message).hint(hint))
}

fn open_log(path: &Path) -> anyhow::Result<File> {
    if let Some(dir) = path.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .with_context(|| format!("make the state directory {}", dir.display()))?;
    }
    let mut options = OpenOptions::new();
    options.create(true).append(true).mode(0o600);
    options.open(path).with_context(|| format!("open the log {}", path.display()))
}
