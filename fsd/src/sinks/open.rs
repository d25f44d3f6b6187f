//! From what the configuration says of a sink to what tells it.

use std::path::Path;
use std::sync::Arc;

use super::jsonl::JsonLines;
use super::mqtt::Mqtt;
use super::nats::Nats;
use super::outlet::{Login, Outlet, SinkError};
use super::target::{Access, SinkConfig, Target};
use super::webhook::Webhook;
use crate::clock::Clock;

/// Makes ready to tell what `config` says; nothing is sent yet.
pub(super) fn outlet(
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
