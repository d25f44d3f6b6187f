//! The least that can be between a program and a store: what the store alone is measured with.

use std::io::{BufReader, Read};
use std::net::TcpStream;

use anyhow::{Context, ensure};
use serde::Deserialize;

use super::BUCKET;
use super::http::{Head, encoded, write};

const BUFFER_BYTES: usize = 1 << 20;

/// What a client needs of a page.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listing {
    #[serde(default)]
    contents: Vec<Listed>,
    next_continuation_token: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    key: String,
    size: Option<u64>,
    last_modified: String,
    #[serde(rename = "ETag")]
    etag: String,
}

/// One connection.
#[derive(Debug)]
pub(in crate::bench) struct Client {
    to: TcpStream,
    from: BufReader<TcpStream>,
}

impl Client {
    pub(super) fn connect(address: &str) -> anyhow::Result<Self> {
        let to = TcpStream::connect(address).context("connect to the store")?;
        to.set_nodelay(true)?;
        let from = BufReader::with_capacity(BUFFER_BYTES, to.try_clone()?);
        Ok(Self { to, from })
    }

    pub(super) fn request(
        &mut self,
        method: &str,
        target: &str,
        headers: &str,
    ) -> anyhow::Result<Vec<u8>> {
        let head = self.ask(method, target, headers, &[])?;
        head.read_body(&mut self.from)
    }

    /// Puts an object.
    pub(in crate::bench) fn put(&mut self, key: &str, body: &[u8]) -> anyhow::Result<()> {
        let headers = format!("Content-Length: {}\r\n", body.len());
        let head = self.ask("PUT", &target(key), &headers, body)?;
        head.read_body(&mut self.from).map(drop)
    }

    /// Reads an object, keeps nothing of it, and says how long it was.
    pub(in crate::bench) fn get(&mut self, key: &str) -> anyhow::Result<u64> {
        let head = self.ask("GET", &target(key), "", &[])?;
        let mut left = head.length()?;
        let length = left;
        let part = |left: u64| usize::try_from(left).unwrap_or(BUFFER_BYTES).min(BUFFER_BYTES);
        let mut buffer = vec![0; part(left)];
        while left > 0 {
            let read = self.from.read(&mut buffer[..part(left)]).context("read an object")?;
            ensure!(read > 0, "an object ends early");
            left -= read as u64;
        }
        Ok(length)
    }

    /// Lists all that begins with `prefix`, a page after the other, reads it as `object_store` does, and says how many there are.
    pub(in crate::bench) fn list(&mut self, prefix: &str) -> anyhow::Result<usize> {
        let (mut listed, mut token) = (Vec::new(), String::new());
        loop {
            let query = format!("list-type=2&prefix={prefix}{token}");
            let page = self.request("GET", &format!("/{BUCKET}?{query}"), "")?;
            let page: Listing = quick_xml::de::from_reader(&*page).context("read a listing")?;
            listed.extend(page.contents);
            let Some(next) = page.next_continuation_token else {
                let complete = |of: &&Listed| {
                    of.size.is_some()
                        && !of.etag.is_empty()
                        && !of.last_modified.is_empty()
                        && !of.key.is_empty()
                };
                return Ok(listed.iter().filter(complete).count());
            };
            token = format!("&continuation-token={}", encoded(&next));
        }
    }

    fn ask(
        &mut self,
        method: &str,
        target: &str,
        headers: &str,
        body: &[u8],
    ) -> anyhow::Result<Head> {
        let head = format!("{method} {target} HTTP/1.1\r\nHost: store\r\n{headers}");
        write(&mut self.to, &head, std::iter::once(body))?;
        let head = Head::read(&mut self.from)?.context("the store closed the connection")?;
        ensure!(head.line.contains(" 20"), "{method} {target}: {}", head.line);
        Ok(head)
    }
}

fn target(key: &str) -> String {
    format!("/{BUCKET}/{}", encoded(key))
}
