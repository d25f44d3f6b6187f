//! To a file, a line of JSON each. Who moves it away (logrotate) finds a new one begun with the next event.

use std::io;
use std::path::PathBuf;

use async_trait::async_trait;

use super::message::Message;
use super::outlet::{DeliveryError, Outlet, Undelivered};
use crate::lines;

#[derive(Debug)]
pub(super) struct JsonLines {
    path: PathBuf,
}

impl JsonLines {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }
}

#[async_trait]
impl Outlet for JsonLines {
    async fn deliver(&mut self, messages: &[Message]) -> Result<(), Undelivered> {
        let path = self.path.clone();
        let lines: Vec<u8> = messages
            .iter()
            .flat_map(|message| [&message.json[..], b"\n"])
            .flatten()
            .copied()
            .collect();
        let written =
            tokio::task::spawn_blocking(move || lines::append(&path, 0o640, &lines)).await;
        let written = written.map_err(io::Error::other).and_then(|written| written);
        written.map(drop).map_err(|error| DeliveryError::Unreachable(error.into()).after(0))
    }
}
