//! As much of HTTP/1.1 as object stores and their clients speak.

use std::io::{BufRead, Read, Write};
use std::net::TcpStream;

use anyhow::{Context, bail, ensure};

/// Longer ones are nobody's whom we know.
const LINE_BYTES_MAX: u64 = 64 << 10;
/// Up to here a head and a body go out in one write.
const ONE_WRITE_BYTES_MAX: usize = 64 << 10;

/// What comes before a body: the first line, and the headers with their names in lower case.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) line: String,
    pub(super) headers: Vec<(String, String)>,
}

impl Head {
    /// Reads one; `None` if the other side has closed the connection.
    pub(super) fn read(from: &mut impl BufRead) -> anyhow::Result<Option<Self>> {
        let first = read_line(from)?;
        if first.is_empty() {
            return Ok(None);
        }
        let mut headers = Vec::new();
        loop {
            let line = read_line(from)?;
            if line.is_empty() {
                return Ok(Some(Self { line: first, headers }));
            }
            let (name, value) = line.split_once(':').context("a header has a colon")?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }

    /// How many bytes follow, if they are not in chunks.
    pub(super) fn length(&self) -> anyhow::Result<u64> {
        let text = self.header("content-length").unwrap_or("0");
        text.parse().with_context(|| format!("content-length: {text}"))
    }

    /// Reads what follows, whatever its coding.
    pub(super) fn read_body(&self, from: &mut impl BufRead) -> anyhow::Result<Vec<u8>> {
        let in_chunks = self.header("transfer-encoding").is_some_and(|coding| coding == "chunked");
        let body = if in_chunks { read_chunks(from)? } else { read_exactly(from, self.length()?)? };
        // Chunks of Amazon's own, which carry signatures, lie within those of HTTP.
        let signed = self.header("x-amz-content-sha256");
        match signed.is_some_and(|sum| sum.starts_with("STREAMING-")) {
            true => read_chunks(&mut &*body),
            false => Ok(body),
        }
    }
}

fn read_line(from: &mut impl BufRead) -> anyhow::Result<String> {
    let mut line = String::new();
    from.by_ref().take(LINE_BYTES_MAX).read_line(&mut line).context("read a line")?;
    line.truncate(line.trim_end_matches(['\r', '\n']).len());
    Ok(line)
}

fn read_exactly(from: &mut impl BufRead, bytes: u64) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::with_capacity(usize::try_from(bytes)?);
    from.by_ref().take(bytes).read_to_end(&mut body).context("read a body")?;
    ensure!(body.len() as u64 == bytes, "a body ends early");
    Ok(body)
}

fn read_chunks(from: &mut impl BufRead) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = read_line(from)?;
        let digits = line.split(';').next().unwrap_or_default();
        let bytes = u64::from_str_radix(digits.trim(), 16).context("the length of a chunk")?;
        if bytes == 0 {
            while !read_line(from)?.is_empty() {} // trailers, which say nothing that we check
            return Ok(body);
        }
        body.append(&mut read_exactly(from, bytes)?);
        read_line(from)?;
    }
}

/// Writes a head, which lacks the empty line at its end, and the pieces of a body.
pub(super) fn write<'a>(
    to: &mut TcpStream,
    head: &str,
    body: impl Iterator<Item = &'a [u8]> + Clone,
) -> anyhow::Result<()> {
    let bytes: usize = body.clone().map(<[u8]>::len).sum();
    let mut first = format!("{head}\r\n").into_bytes();
    if bytes <= ONE_WRITE_BYTES_MAX {
        body.for_each(|piece| first.extend_from_slice(piece));
        return to.write_all(&first).context("write");
    }
    to.write_all(&first).context("write a head")?;
    body.into_iter().try_for_each(|piece| to.write_all(piece)).context("write a body")
}

/// Turns `%2F` into `/`, and `+` into a space in a query.
pub(super) fn decoded(text: &str, is_query: bool) -> anyhow::Result<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    loop {
        match rest {
            [] => break,
            [b'%', high, low, after @ ..] => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let (Some(high), Some(low)) = (digit(*high), digit(*low)) else {
                    bail!("{text:?} has a percent sign without digits");
                };
                bytes.push(u8::try_from(high * 16 + low)?);
                rest = after;
            }
            [b'+', after @ ..] if is_query => {
                bytes.push(b' ');
                rest = after;
            }
            [byte, after @ ..] => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).context("a key is UTF-8")
}

/// The opposite, for all that is not surely harmless.
pub(super) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_comes_whole_or_in_chunks_or_in_signed_chunks() {
        let read = |text: &str| {
            let mut from = text.as_bytes();
            let head = Head::read(&mut from).unwrap().unwrap();
            String::from_utf8(head.read_body(&mut from).unwrap()).unwrap()
        };
        assert_eq!(read("PUT / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"), "abc");
        let chunks = "3\r\nabc\r\n2;chunk-signature=f\r\nde\r\n0\r\nx-amz-checksum: 1\r\n\r\n";
        let plain = format!("PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
        assert_eq!(read(&plain), "abcde");
        let signed = format!(
            "PUT / HTTP/1.1\r\nx-amz-content-sha256: STREAMING-X\r\nContent-Length: {}\r\n\r\n{chunks}",
            chunks.len()
        );
        assert_eq!(read(&signed), "abcde");
        assert!(Head::read(&mut "".as_bytes()).unwrap().is_none());
    }

    #[test]
    fn keys_come_through_the_coding_unchanged() {
        let key = "a b/ü+%&?.txt";
        assert_eq!(decoded(&encoded(key), false).unwrap(), key);
        assert_eq!(decoded("a+b%20c", true).unwrap(), "a b c");
        assert!(decoded("%zz", false).is_err());
    }
}
