//! What a store's answer means: errors by what the caller can do, and the values that all of them send.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use md5::{Digest as _, Md5};
use object_store::client::HttpError;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::http::{Reply, SendError};
use super::xml::{Element, XmlError};
use super::{BoxError, ETag, RemoteError, Result};
use crate::types::{Key, Metadata, Time};

/// What of a store's message is kept.
const MESSAGE_CHARS_MAX: usize = 500;

const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const PATH: &AsciiSet = &QUERY.remove(b'/');

/// A store's own words about an error.
#[derive(Debug)]
pub(super) struct StoreError {
    status: StatusCode,
    code: String,
    message: String,
}

/// A request that can't be made, or an answer that can't be understood.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProtocolError {
    #[error("a key is not empty, and no segment of it is `.` or `..`")]
    Key,
    #[error("metadata {name} is not a plain header: name and value must be printable ASCII")]
    Metadata { name: String },
    #[error("a file and a directory can't have the same name")]
    Kind,
    #[error("the answer has {got} bytes where it says {said}")]
    Length { got: u64, said: u64 },
    #[error("the answer lacks {0}")]
    Lacks(&'static str),
    #[error(transparent)]
    Xml(#[from] XmlError),
}

/// Makes errors of one store, about one key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Errors<'a> {
    pub(super) store: &'a str,
    pub(super) key: &'a Key,
}

impl Errors<'_> {
    /// What an answer that is no success means.
    pub(super) fn of_reply(self, reply: &Reply) -> RemoteError {
        self.of_error(StoreError::read(reply))
    }

    /// What an error means that stands in an answer.
    pub(super) fn of_code(self, status: StatusCode, code: &str, message: &str) -> RemoteError {
        let (code, message) = (code.to_owned(), message.chars().take(MESSAGE_CHARS_MAX).collect());
        self.of_error(StoreError { status, code, message })
    }

    fn of_error(self, error: StoreError) -> RemoteError {
        match error.code.as_str() {
            "NoSuchBucket" | "ContainerNotFound" | "ContainerBeingDeleted" => self.no_container(),
            "NoSuchKey" | "NoSuchUpload" | "BlobNotFound" => self.not_found(),
            "ExpiredToken"
            | "InvalidToken"
            | "TokenRefreshRequired"
            | "InvalidAuthenticationInfo" => self.denied(error),
            "BadDigest"
            | "XAmzContentSHA256Mismatch"
            | "XAmzContentChecksumMismatch"
            | "Md5Mismatch"
            | "Crc64Mismatch" => self.damaged(error),
            "RequestTimeout" | "IncompleteBody" | "OperationAborted" | "OperationTimedOut" => {
                self.unreachable(error)
            }
            "BlobAlreadyExists" | "ConditionalRequestConflict" => self.precondition(),
            code => match error.status.as_u16() {
                304 => self.precondition(),
                // An answer to a head can't say more: something else is going on there.
                409 if code.is_empty() => self.unreachable(error),
                // Azure also says 412 to who lacks a lease.
                412 if !code.starts_with("Lease") => self.precondition(),
                401 | 403 => self.denied(error),
                408 | 429 | 500 | 502..=504 => self.unreachable(error),
                _ => self.rejected(error),
            },
        }
    }

    /// What it means that there is no answer.
    pub(super) fn of_send(self, error: SendError) -> RemoteError {
        match error {
            SendError::Connection(_) | SendError::Stalled => self.unreachable(error),
            SendError::TooLarge { .. } | SendError::Malformed(_) => self.rejected(error),
        }
    }

    /// What it means that no credentials could be had. `ambient`: they were sought on the machine's own
    /// network, where silence means that there are none.
    pub(super) fn of_credentials(self, error: object_store::Error, ambient: bool) -> RemoteError {
        let first: &(dyn std::error::Error + 'static) = &error;
        let offline = std::iter::successors(Some(first), |error| error.source())
            .any(<dyn std::error::Error>::is::<HttpError>);
        if offline && !ambient { self.unreachable(error) } else { self.denied(error) }
    }

    pub(super) fn unreachable(self, source: impl Into<BoxError>) -> RemoteError {
        RemoteError::Unreachable { store: self.store.into(), source: source.into() }
    }

    pub(super) fn denied(self, source: impl Into<BoxError>) -> RemoteError {
        RemoteError::Denied { store: self.store.into(), source: source.into() }
    }

    pub(super) fn rejected(self, source: impl Into<BoxError>) -> RemoteError {
        let (store, key) = (self.store.into(), self.key.clone());
        RemoteError::Rejected { store, key, source: source.into() }
    }

    pub(super) fn occupied(self, source: impl Into<BoxError>) -> RemoteError {
        let (store, key) = (self.store.into(), self.key.clone());
        RemoteError::Occupied { store, key, source: source.into() }
    }

    pub(super) fn damaged(self, source: impl Into<BoxError>) -> RemoteError {
        let (store, key) = (self.store.into(), self.key.clone());
        RemoteError::Damaged { store, key, source: source.into() }
    }

    pub(super) fn unsupported(self, what: &'static str) -> RemoteError {
        RemoteError::Unsupported { store: self.store.into(), what }
    }

    pub(super) fn no_container(self) -> RemoteError {
        RemoteError::NoContainer { store: self.store.into() }
    }

    pub(super) fn not_found(self) -> RemoteError {
        RemoteError::NotFound { key: self.key.clone() }
    }

    pub(super) fn precondition(self) -> RemoteError {
        RemoteError::Precondition { key: self.key.clone() }
    }

    /// Reads an XML answer.
    pub(super) fn xml(self, body: &Bytes) -> Result<Element<'_>> {
        Element::parse(body).map_err(|error| self.rejected(ProtocolError::from(error)))
    }

    /// Something that every such answer has.
    pub(super) fn need<T>(self, value: Option<T>, what: &'static str) -> Result<T> {
        value.ok_or_else(|| self.rejected(ProtocolError::Lacks(what)))
    }
}

impl std::error::Error for StoreError {}

/// An answer without a body has no words, and some have no code.
impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status)?;
        if !self.code.is_empty() {
            write!(f, " {}", self.code)?;
        }
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        Ok(())
    }
}

impl StoreError {
    fn read(reply: &Reply) -> Self {
        let document = Element::parse(&reply.body).ok();
        let text = |name| document.as_ref().and_then(|d| d.text_of(name)).unwrap_or_default();
        let header = |name: &str| text_header(&reply.headers, name).unwrap_or_default();
        let code = match header("x-ms-error-code") {
            "" => text("Code"),
            code => code,
        };
        let message = match header("x-amz-bucket-region") {
            region if reply.status.is_redirection() && !region.is_empty() => {
                format!("the bucket is in region {region}: set AWS_REGION")
            }
            _ => text("Message").chars().take(MESSAGE_CHARS_MAX).collect(),
        };
        Self { status: reply.status, code: code.to_owned(), message }
    }
}

/// A header's text.
pub(super) fn text_header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok()).filter(|text| !text.is_empty())
}

/// A version as a header or a listing spells it, without its quotes.
pub(super) fn etag(text: &str) -> ETag {
    ETag(text.strip_prefix("W/").unwrap_or(text).trim_matches('"').to_owned())
}

/// The text of a header that carries a version.
pub(super) fn quoted(etag: &ETag) -> String {
    format!("\"{etag}\"")
}

/// The object's length: of a head's answer, or from the range of a get's.
pub(super) fn content_length(headers: &HeaderMap) -> Option<u64> {
    text_header(headers, "content-length").and_then(|text| text.parse().ok())
}

/// Fails if less came than the answer says that it is: what is missing would look like an object's end.
pub(super) fn check_length(reply: &Reply) -> Result<(), ProtocolError> {
    let range = text_header(&reply.headers, "content-range");
    let range =
        range.and_then(|text| text.strip_prefix("bytes ")?.split_once('/')?.0.split_once('-'));
    let number = |text: &str| text.parse::<u64>().ok();
    let Some((first, last)) = range.and_then(|(first, last)| number(first).zip(number(last)))
    else {
        return Ok(());
    };
    let (got, said) = (reply.body.len() as u64, (last + 1).saturating_sub(first));
    if got == said { Ok(()) } else { Err(ProtocolError::Length { got, said }) }
}

/// A time as headers (RFC 1123) and listings (RFC 3339 or RFC 1123) spell it.
pub(super) fn time(text: &str) -> Option<Time> {
    let stamp = text
        .parse::<jiff::Timestamp>()
        .ok()
        .or_else(|| Some(jiff::fmt::rfc2822::parse(text).ok()?.timestamp()))?;
    Some(Time::from(std::time::SystemTime::from(stamp)))
}

/// The metadata in headers that begin with `prefix`.
pub(super) fn metadata(headers: &HeaderMap, prefix: &str) -> Metadata {
    let of_header = |(name, value): (&HeaderName, &HeaderValue)| {
        let name = name.as_str().strip_prefix(prefix)?;
        Some((name.to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
    };
    headers.iter().filter_map(of_header).collect()
}

/// Puts metadata into headers that begin with `prefix`.
pub(super) fn put_metadata(
    headers: &mut HeaderMap,
    prefix: &str,
    metadata: &Metadata,
) -> Result<(), ProtocolError> {
    for (name, value) in metadata {
        let plain = value.bytes().all(|b| (b' '..=b'~').contains(&b)) && value.trim() == value;
        let header = HeaderName::try_from(format!("{prefix}{name}"));
        match (header, HeaderValue::try_from(value)) {
            (Ok(header), Ok(value)) if plain => headers.insert(header, value),
            (Ok(_) | Err(_), Ok(_) | Err(_)) => {
                return Err(ProtocolError::Metadata { name: name.clone() });
            }
        };
    }
    Ok(())
}

/// The sum of a body, by which stores without a stronger one know whether it came as it was sent.
pub(super) fn content_md5(headers: &mut HeaderMap, body: &[u8]) {
    let sum = BASE64.encode(Md5::digest(body));
    headers.extend(
        HeaderValue::try_from(sum).map(|sum| (HeaderName::from_static("content-md5"), sum)),
    );
}

/// `range` as a header's value; it must not be empty.
pub(super) fn range_value(range: &std::ops::Range<u64>) -> String {
    format!("bytes={}-{}", range.start, range.end.saturating_sub(1))
}

/// A key as a part of an URL. One with a segment `.` or `..` has none: clients and servers resolve it.
pub(super) fn key_path(key: &str) -> Result<String, ProtocolError> {
    if key.is_empty() || key.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err(ProtocolError::Key);
    }
    Ok(utf8_percent_encode(key, PATH).to_string())
}

/// Parameters as the part of an URL behind `?`.
pub(super) fn query(parameters: &[(&str, &str)]) -> String {
    let pair = |(name, value): &(&str, &str)| {
        let [name, value] = [name, value].map(|text| utf8_percent_encode(text, QUERY));
        format!("{name}={value}")
    };
    parameters.iter().map(pair).collect::<Vec<_>>().join("&")
}

/// A percent-encoded text of a listing. `form`: a space may be written `+`.
pub(super) fn decoded(text: &str, form: bool) -> String {
    let text = if form { text.replace('+', " ") } else { text.to_owned() };
    percent_decode_str(&text).decode_utf8_lossy().into_owned()
}

/// `text` inside an XML element.
pub(super) fn xml_text(text: &str) -> String {
    quick_xml::escape::escape(text).into_owned()
}

/// The value of a header that sets the type of a body, by name.
pub(super) fn content_type(headers: &mut HeaderMap, value: &'static str) {
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(value));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, code: &str) -> Reply {
        let body = match code {
            "" => String::new(),
            code => format!("<Error><Code>{code}</Code><Message>no</Message></Error>"),
        };
        let status = StatusCode::from_u16(status).unwrap();
        Reply { status, headers: HeaderMap::new(), body: body.into() }
    }

    #[test]
    fn an_error_says_what_the_caller_can_do() {
        let cases = [
            (404, "NoSuchKey", "NotFound"),
            (404, "NoSuchUpload", "NotFound"),
            (404, "NoSuchBucket", "NoContainer"),
            (404, "BlobNotFound", "NotFound"),
            (404, "ContainerNotFound", "NoContainer"),
            (409, "ContainerBeingDeleted", "NoContainer"),
            // A proxy's or a portal's 404 is not the store's word.
            (404, "", "Rejected"),
            (401, "", "Denied"),
            (403, "AccessDenied", "Denied"),
            (403, "RequestTimeTooSkewed", "Denied"),
            (400, "ExpiredToken", "Denied"),
            (400, "RequestTimeout", "Unreachable"),
            (400, "InvalidArgument", "Rejected"),
            (400, "BadDigest", "Damaged"),
            (400, "Md5Mismatch", "Damaged"),
            (400, "IncompleteBody", "Unreachable"),
            (408, "", "Unreachable"),
            (409, "", "Unreachable"),
            (429, "", "Unreachable"),
            (500, "InternalError", "Unreachable"),
            (501, "NotImplemented", "Rejected"),
            (503, "SlowDown", "Unreachable"),
            (304, "", "Precondition"),
            (412, "PreconditionFailed", "Precondition"),
            (412, "LeaseIdMissing", "Rejected"),
            (409, "BlobAlreadyExists", "Precondition"),
            (409, "SnapshotsPresent", "Rejected"),
            (301, "PermanentRedirect", "Rejected"),
        ];
        let key = Key::from_raw("k");
        for (status, code, expected) in cases {
            let error = Errors { store: "s3://b", key: &key }.of_reply(&reply(status, code));
            assert!(format!("{error:?}").starts_with(expected), "{status} {code}: {error:?}");
        }
    }

    #[test]
    fn keys_are_encoded_letter_by_letter() {
        assert_eq!(key_path("a b/ä%+~*").unwrap(), "a%20b/%C3%A4%25%2B~%2A");
        assert_eq!(key_path("a//b/").unwrap(), "a//b/");
        for key in ["", "..", "a/../b", "./a", "a/."] {
            assert!(key_path(key).is_err(), "{key}");
        }
        assert_eq!(decoded("a+b%2B%20", true), "a b+ ");
        assert_eq!(decoded("a+b%2B%20", false), "a+b+ ");
    }

    #[test]
    fn times_of_headers_and_listings_mean_the_same() {
        for text in ["Tue, 14 Nov 2023 22:13:20 GMT", "2023-11-14T22:13:20.000Z"] {
            assert_eq!(time(text), Some(Time { secs: 1_700_000_000, nanos: 0 }), "{text}");
        }
        assert_eq!(time("soon"), None);
    }

    #[test]
    fn metadata_that_is_no_header_is_refused() {
        for (name, value) in [("a b", "x"), ("a", "ä"), ("a", "x\n"), ("a", " x"), ("ä", "x")] {
            let metadata = Metadata::from([(name.into(), value.into())]);
            assert!(
                put_metadata(&mut HeaderMap::new(), "x-amz-meta-", &metadata).is_err(),
                "{name}"
            );
        }
    }
}
