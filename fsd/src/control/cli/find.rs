//! Which daemon a command means.

use std::path::{Component, Path, PathBuf};

use super::super::api::Client;
use super::super::api::types::Status;
use super::{Context, Exit, Failure};

/// Which daemon is asked, where there are several.
#[derive(Debug, Default, clap::Args)]
pub(super) struct DaemonArgs {
    /// Ask the daemon that has this mount, where several run
    #[arg(long, value_name = "DIR")]
    mount: Option<PathBuf>,
}

/// A daemon that answered, and how it is.
pub(super) struct Found {
    pub(super) client: Client,
    pub(super) status: Status,
    /// The path that was asked for, as the daemon knows it.
    pub(super) path: Option<PathBuf>,
}

/// The daemon whose mount contains `path`; without one that of `--mount`; without that the only one.
pub(super) async fn daemon(
    args: &DaemonArgs,
    path: Option<&Path>,
    context: &Context<'_>,
) -> Result<Found, Failure> {
    let mut daemons = running(context).await?;
    if daemons.is_empty() {
        return Err(Failure::new(Exit::NoDaemon, "no fsd is running for this user")
            .hint("start one with `fsd mount URL DIR` or `fsd run -c FILE`"));
    }
    if let Some(wanted) = path.or(args.mount.as_deref()) {
        for path in spellings(wanted)? {
            // Of mounts in one another, the innermost.
            let depth = |status: &Status| {
                let above = status.mounts.iter().filter(|mount| path.starts_with(&mount.mount));
                above.map(|mount| mount.mount.components().count()).max()
            };
            let found = daemons.iter().enumerate().filter_map(|(at, (_, s))| Some((depth(s)?, at)));
            if let Some((_, at)) = found.max() {
                let (client, status) = daemons.remove(at);
                return Ok(Found { client, status, path: Some(path) });
            }
        }
        let message = format!("{} is in no mount of fsd", wanted.display());
        return Err(Failure::new(Exit::NoDaemon, message).hint("`fsd status` shows the mounts"));
    }
    if daemons.len() > 1 {
        let mounts = daemons.iter().flat_map(|(_, status)| &status.mounts);
        let mounts: Vec<_> = mounts.map(|mount| mount.mount.display().to_string()).collect();
        let message = format!("{} daemons are running, with {}", daemons.len(), mounts.join(", "));
        return Err(Failure::new(Exit::Usage, message).hint("say which one with --mount DIR"));
    }
    let (client, status) = daemons.remove(0);
    Ok(Found { client, status, path: None })
}

/// All daemons of this user that answer.
async fn running(context: &Context<'_>) -> Result<Vec<(Client, Status)>, Failure> {
    let sockets = context.runtime_dir()?.sockets().map_err(anyhow::Error::new)?;
    let mut daemons = Vec::new();
    for socket in sockets {
        let client = Client::new(&socket)?;
        match client.status().await {
            Ok(status) => daemons.push((client, status)),
            Err(error) => eprintln!("fsd: passed over: {:#}", anyhow::Error::new(error)),
        }
    }
    Ok(daemons)
}

/// How a mount may be called that contains `path`: as it is written, then with links followed. The first needs no
/// answer of the file system, which may be the one that hangs.
fn spellings(path: &Path) -> Result<impl Iterator<Item = PathBuf>, Failure> {
    if path.to_str().is_none() {
        let message = format!("{} is not UTF-8", path.display());
        return Err(Failure::new(Exit::Usage, message).hint("ask for the directory it is in"));
    }
    let written = std::path::absolute(path).map_err(anyhow::Error::new)?;
    let is_plain = written.components().all(|part| part != Component::ParentDir);
    let followed = written.clone();
    let followed = std::iter::once_with(move || followed.canonicalize().ok()).flatten();
    Ok(is_plain.then_some(written).into_iter().chain(followed))
}
