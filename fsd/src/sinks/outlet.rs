//! The one way to tell a sink something, whatever it is.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;

use super::jsonl::JsonLines;
use super::message::Message;
use super::mqtt::Mqtt;
use super::nats::Nats;
use super::target::{Access, SinkConfig, Target};
use super::webhook::Webhook;
use crate::clock::Clock;

pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What takes events.
#[async_trait]
pub(super) trait Outlet: Debug + Send {
    /// Tells them in order, each once at least.
    ///
    /// # Errors
    /// [`Undelivered`] says how many are sure to have arrived.
    ///
    /// # Cancel safety
    /// Some may have arrived.
    async fn deliver(&mut self, messages: &[Message]) -> Result<(), Undelivered>;
}

/// A delivery that came to an end before its time.
#[derive(Debug)]
pub(super) struct Undelivered {
    /// The first of the messages, so many, have arrived.
    pub(super) taken: usize,
    pub(super) error: DeliveryError,
}

/// Why a sink did not take something.
#[derive(Debug, thiserror::Error)]
pub(super) enum DeliveryError {
    #[error("it can't be reached")]
    Unreachable(#[source] BoxError),
    #[error("it refuses: {0}")]
    Refused(String),
    #[error("it did not answer in time")]
    Late,
}

impl DeliveryError {
    pub(super) fn after(self, taken: usize) -> Undelivered {
        Undelivered { taken, error: self }
    }
}

/// Why there is no sink.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum SinkError {
    #[error("can't read {}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("{} has no {what}", path.display())]
    Bad { path: PathBuf, what: &'static str },
    #[error(
        "its secret must be one of those that Standard Webhooks has: `whsec_` and 24 to 64 bytes in base64, or a text as long"
    )]
    Key,
    #[error("TLS can't be set up")]
    Tls(#[source] BoxError),
}

/// Makes ready to tell what `config` says; nothing is sent yet.
pub(super) fn open(
    config: &SinkConfig,
    gateway: &str,
    clock: &Arc<dyn Clock>,
) -> Result<Box<dyn Outlet>, SinkError> {
    let access = &config.access;
    let secret = access.secret_file.as_deref().map(secret).transpose()?;
    Ok(match &config.target {
        Target::Webhook { url, batch } => {
            Box::new(Webhook::new(url, *batch, secret.as_deref(), access, clock)?)
        }
        Target::Mqtt { server, topic } => {
            let login = login(access, secret);
            let id = format!("fsd-{gateway}-{}", config.name);
            Box::new(Mqtt::new(server, topic, (id, gateway), login, access, clock)?)
        }
        Target::Nats { server, subject, stored } => {
            Box::new(Nats::new(server, (subject, *stored), gateway, login(access, secret), access)?)
        }
        Target::File { path } => Box::new(JsonLines::new(path.clone())),
    })
}

/// Who we are: a name and a password; of NATS, a token has no name.
pub(super) type Login = Option<(Option<String>, String)>;

fn login(access: &Access, secret: Option<String>) -> Login {
    match (&access.user, secret) {
        (None, None) => None,
        (user, secret) => Some((user.clone(), secret.unwrap_or_default())),
    }
}

fn secret(path: &Path) -> Result<String, SinkError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| SinkError::File { path: path.to_owned(), source })?;
    match text.trim() {
        "" => Err(SinkError::Bad { path: path.to_owned(), what: "secret in it" }),
        text => Ok(text.to_owned()),
    }
}
