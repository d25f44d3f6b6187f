//! An object store in memory, in a process of its own: what it spends is not what a daemon spends.
//!
//! It is as thin as it can be, so that it is never what limits a figure; what it does alone is measured, too.

mod client;
mod date;
mod http;
mod listing;
mod objects;
mod s3;
mod serve;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};

pub(super) use client::Client;
pub(crate) use serve::run;

/// The word that makes of this program a store.
pub(crate) const WORD: &str = "bench-store";
/// The one bucket.
pub(super) const BUCKET: &str = "fsd-bench";
/// Where the store is asked about itself, and told what to do.
const CONTROL: &str = "/-/";

/// Why a request is refused.
#[derive(Clone, Copy, Debug)]
enum Refusal {
    NoKey,
    NoUpload,
    Precondition,
    Unchanged,
    Range,
    Malformed,
    Unknown,
}

/// A store that runs. Dropped, it has ended.
#[derive(Debug)]
pub(super) struct Store {
    process: Child,
    address: String,
}

/// What a store counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) objects: u64,
    pub(super) bytes: u64,
    pub(super) requests: u64,
    pub(super) bytes_out: u64,
}

impl Store {
    pub(super) fn start() -> anyhow::Result<Self> {
        let mut process = Command::new(std::env::current_exe().context("find this program")?)
            .arg(WORD)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("start a store")?;
        let mut address = String::new();
        let says = process.stdout.take().context("a store says its address")?;
        BufReader::new(says).read_line(&mut address).context("read a store's address")?;
        let address = address.trim_end().to_owned();
        let store = Self { process, address };
        ensure!(!store.address.is_empty(), "the store did not start");
        Ok(store)
    }

    /// Host and port.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn client(&self) -> anyhow::Result<Client> {
        Client::connect(&self.address)
    }

    /// Makes `count` objects of `bytes` each, as if somebody had put them there: `PREFIX00000.dat` and so on.
    pub(super) fn fill(&self, prefix: &str, count: u64, bytes: u64) -> anyhow::Result<()> {
        self.tell("POST", &format!("fill?prefix={prefix}&count={count}&bytes={bytes}")).map(drop)
    }

    /// How long each request is made to wait from now on.
    pub(super) fn set_latency(&self, latency: Duration) -> anyhow::Result<()> {
        self.tell("POST", &format!("latency?ms={}", latency.as_millis())).map(drop)
    }

    pub(super) fn counts(&self) -> anyhow::Result<Counts> {
        let text = self.tell("GET", "counts")?;
        let numbers = text.split_whitespace().map(str::parse).collect::<Result<Vec<u64>, _>>()?;
        let [objects, bytes, requests, bytes_out] = numbers[..] else {
            anyhow::bail!("the store counts {text:?}");
        };
        Ok(Counts { objects, bytes, requests, bytes_out })
    }

    fn tell(&self, method: &str, what: &str) -> anyhow::Result<String> {
        let body = self.client()?.request(method, &format!("{CONTROL}{what}"), "")?;
        String::from_utf8(body).context("a store says text")
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = self.process.kill(); // fails if it has ended
        let _ = self.process.wait();
    }
}
