//! To a file, a line of JSON each. Who moves it away (logrotate) finds a new one begun with the next event.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use async_trait::async_trait;

use super::message::Message;
use super::outlet::{DeliveryError, Outlet, Undelivered};

#[derive(Debug)]
pub(super) struct JsonLines {
    path: PathBuf,
}

impl JsonLines {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Adds lines; they are on the disk then.
    fn append(&self, messages: &[Message]) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let mut file = options.read(true).append(true).create(true).mode(0o640).open(&self.path)?;
        let mut lines = Vec::new();
        if is_torn(&mut file)? {
            lines.push(b'\n');
        }
        for message in messages {
            lines.extend_from_slice(&message.json);
            lines.push(b'\n');
        }
        file.write_all(&lines)?;
        file.sync_all()
    }
}

/// Whether somebody died in the middle of the last line.
fn is_torn(file: &mut File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last != [b'\n'])
}

#[async_trait]
impl Outlet for JsonLines {
    async fn deliver(&mut self, messages: &[Message]) -> Result<(), Undelivered> {
        let (lines, messages) = (Self { path: self.path.clone() }, messages.to_vec());
        let written = tokio::task::spawn_blocking(move || lines.append(&messages)).await;
        let written = written.map_err(io::Error::other).and_then(|written| written);
        written.map_err(|error| DeliveryError::Unreachable(error.into()).after(0))
    }
}
