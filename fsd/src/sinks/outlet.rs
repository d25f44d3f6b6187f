//! The one way to tell a sink something, whatever it is.

use std::fmt::Debug;
use std::path::PathBuf;

use async_trait::async_trait;

use super::message::Message;

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

/// Who we are: a name and a password; of NATS, a token has no name.
pub(super) type Login = Option<(Option<String>, String)>;
