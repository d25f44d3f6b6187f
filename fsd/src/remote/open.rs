//! From an URL and the environment to a store, with what stands around it.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;

use super::azure::Azure;
use super::breaker::{Breaker, LinkState};
use super::dir::Dir;
use super::env::Env;
use super::http::Http;
use super::pacer::Pacers;
use super::retrying::Retrying;
use super::s3::S3;
use super::url::{Place, RemoteUrl};
use super::{BoxError, RemoteRef, gcs};
use crate::clock::Clock;
use crate::rng::Rng;
use crate::tasks::Tasks;

/// Why a store can't be opened. Nothing was sent yet: it is the environment that is wrong.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Something is not set.
    #[error("{what} is not known: set {hint}")]
    Missing {
        /// What is missing.
        what: &'static str,
        /// How to set it.
        hint: &'static str,
    },
    /// Something is set to what it can't be.
    #[error("{what} is not usable: it must be {hint}")]
    Bad {
        /// What is wrong.
        what: &'static str,
        /// What it must be.
        hint: &'static str,
    },
    /// No such AWS profile.
    #[error(
        "there is no AWS profile {name:?} in ~/.aws/config or ~/.aws/credentials: check AWS_PROFILE"
    )]
    NoProfile {
        /// Its name.
        name: String,
    },
    /// The AWS profile gets its keys in a way that we don't know.
    #[error(
        "the AWS profile {name:?} has {kind} and no keys, which is not supported: set keys by \
         `eval \"$(aws configure export-credentials --profile {name} --format env)\"`"
    )]
    ProfileKind {
        /// Its name.
        name: String,
        /// The setting.
        kind: &'static str,
    },
    /// The AWS profile has half of a key.
    #[error("the AWS profile {name:?} lacks aws_access_key_id or aws_secret_access_key")]
    HalfAKey {
        /// Its name.
        name: String,
    },
    /// A file of settings can't be read.
    #[error("can't read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The settings make no client.
    #[error("the store's settings are wrong")]
    Client {
        /// What is wrong.
        #[source]
        source: BoxError,
    },
}

/// An open store.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The store.
    pub remote: RemoteRef,
    /// How it is to be reached, now and as it changes.
    pub link: watch::Receiver<LinkState>,
}

/// Opens the store at `url`. Nothing is sent: whether it is there, [`check`](super::Remote::check) tells.
///
/// # Errors
/// If the environment lacks something or has it wrong.
pub fn open(
    url: &RemoteUrl,
    env: &Env,
    pacers: Pacers,
    clock: Arc<dyn Clock>,
    tasks: &Tasks,
) -> Result<Opened, OpenError> {
    let name = url.to_string();
    let http = || Http::new(pacers.clone(), Arc::clone(&clock), env.authorities()?);
    let adapter: RemoteRef = match &url.place {
        Place::Azure { container } => {
            Arc::new(Azure::open(container, &url.prefix, name, env, http()?, Arc::clone(&clock))?)
        }
        Place::S3 { bucket } => {
            Arc::new(S3::open(bucket, &url.prefix, name, env, http()?, Arc::clone(&clock))?)
        }
        Place::Gcs { bucket } => {
            Arc::new(gcs::open(bucket, &url.prefix, name, env, http()?, Arc::clone(&clock))?)
        }
        Place::Dir { path } => Arc::new(Dir::new(path, name, pacers, &clock, tasks.clone())),
    };
    Ok(stack(adapter, &clock, tasks))
}

/// Puts the decorators around an adapter: `retrying(breaker(adapter))`. The breaker is inside, so that
/// each try counts for it, and its refusals cost no retries.
#[must_use]
pub fn stack(adapter: RemoteRef, clock: &Arc<dyn Clock>, tasks: &Tasks) -> Opened {
    let mut seeds = Rng::seeded_by(clock.wall());
    let mut rng = || Rng::new(seeds.next_u64());
    let breaker = Breaker::new(adapter, Arc::clone(clock), rng(), tasks.clone());
    let link = breaker.link();
    let remote = Retrying::new(Arc::new(breaker), Arc::clone(clock), rng());
    Opened { remote: Arc::new(remote), link }
}
