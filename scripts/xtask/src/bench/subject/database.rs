//! The database in which a peer keeps its names.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::Context;

use super::mount::until;
use super::programs::said;

/// A redis of our own. Dropped, it has ended.
#[derive(Debug)]
pub(super) struct Database {
    process: Child,
    pub(super) address: String,
}

impl Database {
    pub(super) fn start(folder: &Path) -> anyhow::Result<Self> {
        let free = TcpListener::bind("127.0.0.1:0").context("a free port")?;
        let port = free.local_addr()?.port().to_string();
        drop(free);
        let process = Command::new("redis-server")
            .args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--dir"])
            .arg(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("run redis-server")?;
        let database = Self { process, address: format!("127.0.0.1:{port}") };
        let answers = || said(Command::new("redis-cli").args(["-p", &port, "ping"])).is_ok();
        anyhow::ensure!(until(answers), "redis-server does not answer");
        Ok(database)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let _ = self.process.kill(); // fails if it has ended
        let _ = self.process.wait();
    }
}
