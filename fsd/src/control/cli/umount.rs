//! `fsd umount`

use std::path::PathBuf;
use std::time::Duration;

use super::find::{self, DaemonArgs};
use super::output::count;
use super::wait;
use super::{Context, Exit, Failure, Outcome};
use crate::control::api::Client;

/// How long a daemon that has nothing left to do may take to end.
const END_MAX: Duration = Duration::from_secs(30);

/// How often we look whether it has.
const END_POLL: Duration = Duration::from_millis(20);

#[derive(Debug, clap::Args)]
pub(super) struct UmountArgs {
    /// Wait first until everything in it is uploaded
    #[arg(long)]
    wait: bool,
    /// Where it is mounted
    dir: PathBuf,
}

pub(super) async fn umount(args: &UmountArgs, context: &Context<'_>) -> Outcome {
    let found = find::daemon(&DaemonArgs::default(), Some(&args.dir), context).await?;
    let dir = found.path.unwrap_or_else(|| args.dir.clone());
    let Some(mount) = found.status.mounts.into_iter().find(|mount| mount.mount == dir) else {
        let message = format!("{} is inside a mount of fsd, but not one itself", dir.display());
        return Err(Failure::new(Exit::Usage, message).hint("`fsd status` shows the mounts"));
    };
    if args.wait {
        wait::until_uploaded(&found.client, Some(&mount.mount), None).await?.1?;
    }
    let unmounted = found.client.unmount(&mount.mount).await?;
    if unmounted.items_left > 0 {
        let left = count(unmounted.items_left, "item");
        eprintln!(
            "fsd: not uploaded yet, of all shares: {left}; kept until the share is mounted again"
        );
    }
    if unmounted.daemon_ends { until_ended(&found.client).await } else { Ok(()) }
}

/// Waits for the end of the daemon, so that the next one finds everything free.
async fn until_ended(client: &Client) -> Outcome {
    let mut poll = tokio::time::interval(END_POLL);
    let ended = async {
        while std::os::unix::net::UnixStream::connect(client.socket()).is_ok() {
            poll.tick().await;
        }
    };
    tokio::time::timeout(END_MAX, ended).await.map_err(|_| {
        Failure::new(Exit::Failed, "the mount is gone, but its daemon does not end")
            .hint("its log says more")
    })
}
