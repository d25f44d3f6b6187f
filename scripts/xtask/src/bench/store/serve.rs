//! The program that is the store: a thread for each connection.

use std::io::{BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Context;

use super::CONTROL;
use super::Refusal;
use super::http::{Head, write};
use super::objects::{Body, Conditions, Objects};
use super::s3::{Answer, Request};
use crate::bench::work::noise;

const BUFFER_BYTES: usize = 128 << 10;

#[derive(Debug, Default)]
struct Shared {
    objects: Mutex<Objects>,
    latency_ms: AtomicU64,
    requests: AtomicU64,
    bytes_out: AtomicU64,
}

/// Serves on a free port, whose address is the first line that it prints, until it is killed.
///
/// # Errors
/// If there is no port to be had.
#[expect(clippy::print_stdout, reason = "who starts it reads the address there")]
pub(crate) fn run() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").context("a free port")?;
    println!("{}", listener.local_addr()?);
    serve(&listener)
}

fn serve(listener: &TcpListener) -> anyhow::Result<()> {
    let shared = Arc::new(Shared::default());
    for socket in listener.incoming() {
        let (socket, shared) = (socket.context("accept")?, Arc::clone(&shared));
        thread::spawn(move || {
            if let Err(error) = converse(socket, &shared) {
                eprintln!("the store: {error:#}");
            }
        });
    }
    Ok(())
}

fn converse(mut socket: TcpStream, shared: &Shared) -> anyhow::Result<()> {
    socket.set_nodelay(true)?;
    let mut from = BufReader::with_capacity(BUFFER_BYTES, socket.try_clone()?);
    // A client may go away without a word.
    while let Ok(Some(head)) = Head::read(&mut from) {
        if head.header("expect").is_some() {
            socket.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let is_control = head.line.split(' ').nth(1).is_some_and(|path| path.starts_with(CONTROL));
        let Ok(body) = head.read_body(&mut from) else { return Ok(()) };
        let request = Request::new(head, body)?;
        let is_head = request.method == "HEAD";
        let answer = if is_control { control(&request, shared) } else { object(request, shared) };
        let Answer { status, headers, body, range } = answer;
        let bytes = range.len();
        let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {bytes}\r\n");
        let pieces = if is_head { Vec::new() } else { body.pieces(range) };
        if !is_head && !is_control {
            shared.bytes_out.fetch_add(bytes as u64, Ordering::Relaxed);
        }
        if write(&mut socket, &head, pieces.iter().copied()).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

fn object(request: Request, shared: &Shared) -> Answer {
    shared.requests.fetch_add(1, Ordering::Relaxed);
    let latency = shared.latency_ms.load(Ordering::Relaxed);
    if latency > 0 {
        thread::sleep(Duration::from_millis(latency));
    }
    let mut objects = shared.objects.lock().unwrap_or_else(PoisonError::into_inner);
    request.perform(&mut objects).unwrap_or_else(Answer::refusing)
}

fn control(request: &Request, shared: &Shared) -> Answer {
    let number = |name| request.query(name).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let mut objects = shared.objects.lock().unwrap_or_else(PoisonError::into_inner);
    match request.control_word() {
        "counts" => {
            let (count, bytes) = objects.totals();
            let requests = shared.requests.load(Ordering::Relaxed);
            let bytes_out = shared.bytes_out.load(Ordering::Relaxed);
            Answer::text(&format!("{count} {bytes} {requests} {bytes_out}"))
        }
        "latency" => {
            shared.latency_ms.store(number("ms"), Ordering::Relaxed);
            Answer::text("")
        }
        "fill" => {
            let body = Body::new(noise(usize::try_from(number("bytes")).unwrap_or(0)));
            let prefix = request.query("prefix").unwrap_or_default();
            for index in 0..number("count") {
                let key = format!("{prefix}{index:05}.dat");
                // Without conditions nothing is refused.
                let _ = objects.put(key, body.clone(), Vec::new(), Conditions::default());
            }
            Answer::text("")
        }
        _ => Answer::refusing(Refusal::Unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::super::client::Client;
    use super::*;

    fn start() -> Client {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        thread::spawn(move || serve(&listener));
        Client::connect(&address).unwrap()
    }

    fn text(client: &mut Client, method: &str, target: &str, headers: &str) -> String {
        String::from_utf8(client.request(method, target, headers).unwrap()).unwrap()
    }

    #[test]
    fn what_is_put_is_listed_read_and_copied() {
        let mut client = start();
        client.put("dir/a b&c", b"0123456789").unwrap();
        client.put("dir/d", b"").unwrap();
        assert_eq!(client.list("dir/").unwrap(), 2);
        let listing = text(&mut client, "GET", "/fsd-bench?list-type=2&delimiter=/", "");
        assert!(listing.contains("<CommonPrefixes><Prefix>dir/</Prefix></CommonPrefixes>"));
        assert_eq!(client.get("dir/a b&c").unwrap(), 10);
        let source = "/fsd-bench/dir/a%20b%26c";
        for (range, wanted) in [("2-4", "234"), ("8-", "89"), ("-3", "789"), ("7-99", "789")] {
            let range = format!("Range: bytes={range}\r\n");
            assert_eq!(text(&mut client, "GET", source, &range), wanted);
        }
        let copy = format!("x-amz-copy-source: {source}\r\n");
        assert!(text(&mut client, "PUT", "/fsd-bench/e", &copy).contains("<ETag>"));
        assert_eq!(text(&mut client, "GET", "/fsd-bench/e", ""), "0123456789");
        client.request("DELETE", "/fsd-bench/e", "").unwrap();
        assert!(client.get("e").is_err());
    }

    #[test]
    fn conditions_are_kept() {
        let mut client = start();
        let new = "If-None-Match: *\r\nContent-Length: 0\r\n";
        client.request("PUT", "/fsd-bench/a", new).unwrap();
        assert!(client.request("PUT", "/fsd-bench/a", new).is_err());
        assert!(client.request("GET", "/fsd-bench/a", "If-Match: \"other\"\r\n").is_err());
    }

    #[test]
    fn pages_follow_each_other_and_all_is_counted() {
        let mut client = start();
        client.request("POST", "/-/fill?prefix=w/&count=2500&bytes=3", "").unwrap();
        assert_eq!(client.list("w/").unwrap(), 2500);
        let counts = text(&mut client, "GET", "/-/counts", "");
        assert!(counts.starts_with("2500 7500 3 "), "{counts}");
    }
}
