//! From requests to answers, as S3 gives them. Signatures are not checked: that is not what is measured.

use std::fmt::Write;
use std::ops::Range;

use super::Refusal;
use super::date;
use super::http::{Head, decoded};
use super::listing::{self, escaped, unescaped};
use super::objects::{Body, Conditions, Headers, Object, Objects};

/// Headers that an object keeps, beside those of [`META`].
const KEPT: [&str; 3] = ["content-type", "content-encoding", "cache-control"];
const META: &str = "x-amz-meta-";

/// What goes back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: &'static str,
    pub(super) headers: String,
    pub(super) body: Body,
    pub(super) range: Range<usize>,
}

impl Answer {
    fn empty(status: &'static str) -> Self {
        Self { status, headers: String::new(), body: Body::default(), range: 0..0 }
    }

    fn tagged(etag: &str) -> Self {
        Self { headers: format!("ETag: \"{etag}\"\r\n"), ..Self::empty("200 OK") }
    }

    fn xml(inner: &str) -> Self {
        let text = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{inner}");
        let range = 0..text.len();
        let headers = "Content-Type: application/xml\r\n".to_owned();
        Self { headers, body: Body::new(text.into()), range, ..Self::empty("200 OK") }
    }

    pub(super) fn text(text: &str) -> Self {
        let body = Body::new(text.into());
        Self { range: 0..body.len(), body, ..Self::empty("200 OK") }
    }

    /// The answer to who asks for what can't be had.
    pub(super) fn refusing(refusal: Refusal) -> Self {
        let (status, code) = match refusal {
            Refusal::NoKey => ("404 Not Found", "NoSuchKey"),
            Refusal::NoUpload => ("404 Not Found", "NoSuchUpload"),
            Refusal::Precondition => ("412 Precondition Failed", "PreconditionFailed"),
            Refusal::Unchanged => return Self::empty("304 Not Modified"),
            Refusal::Range => ("416 Range Not Satisfiable", "InvalidRange"),
            Refusal::Malformed => ("400 Bad Request", "InvalidRequest"),
            Refusal::Unknown => ("501 Not Implemented", "NotImplemented"),
        };
        let text = format!("<Error><Code>{code}</Code><Message>{code}</Message></Error>");
        Self { status, ..Self::xml(&text) }
    }
}

/// A request, taken apart.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: String,
    /// Without the bucket; empty if it is the bucket that is meant.
    key: String,
    query: Vec<(String, String)>,
    head: Head,
    body: Vec<u8>,
}

impl Request {
    pub(super) fn new(head: Head, body: Vec<u8>) -> anyhow::Result<Self> {
        let mut words = head.line.split(' ');
        let method = words.next().unwrap_or_default().to_owned();
        let target = words.next().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let path = decoded(path.trim_start_matches('/'), false)?;
        let key = path.split_once('/').map_or("", |(_, key)| key).to_owned();
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let query = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decoded(name, true)?, decoded(value, true)?))
        });
        let query = query.collect::<anyhow::Result<_>>()?;
        Ok(Self { method, key, query, head, body })
    }

    pub(super) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }

    /// What stands where the key would, in a request that is for the store itself.
    pub(super) fn control_word(&self) -> &str {
        &self.key
    }

    fn conditions(&self) -> Conditions<'_> {
        let header = |name| self.head.header(name);
        Conditions { if_match: header("if-match"), if_none_match: header("if-none-match") }
    }

    fn kept_headers(&self) -> Headers {
        let kept = |name: &str| name.starts_with(META) || KEPT.contains(&name);
        self.head.headers.iter().filter(|(name, _)| kept(name)).cloned().collect()
    }

    /// Does what is asked.
    pub(super) fn perform(self, objects: &mut Objects) -> Result<Answer, Refusal> {
        if self.key.is_empty() { self.on_bucket(objects) } else { self.on_key(objects) }
    }

    fn on_bucket(self, objects: &mut Objects) -> Result<Answer, Refusal> {
        match &*self.method {
            "HEAD" | "PUT" => Ok(Answer::empty("200 OK")),
            "GET" if self.query("location").is_some() => {
                Ok(Answer::xml("<LocationConstraint>us-east-1</LocationConstraint>"))
            }
            "GET" if self.query("uploads").is_some() => Ok(Answer::xml(
                "<ListMultipartUploadsResult><IsTruncated>false</IsTruncated></ListMultipartUploadsResult>",
            )),
            "GET" => Ok(Answer::xml(&listing::page(|name| self.query(name), objects))),
            "POST" if self.query("delete").is_some() => {
                let text = String::from_utf8_lossy(&self.body);
                let keys = text.split("<Key>").skip(1).filter_map(|rest| rest.split('<').next());
                for key in keys {
                    objects.delete(&unescaped(key), Conditions::default())?;
                }
                Ok(Answer::xml("<DeleteResult></DeleteResult>"))
            }
            _ => Err(Refusal::Unknown),
        }
    }

    fn on_key(mut self, objects: &mut Objects) -> Result<Answer, Refusal> {
        let id = self.query("uploadId").map(str::to_owned);
        let key = std::mem::take(&mut self.key);
        match (&*self.method, id) {
            ("GET" | "HEAD", None) => self.read(objects.get(&key)?),
            ("PUT", Some(id)) => {
                let part = self.query("partNumber").and_then(|part| part.parse().ok());
                let part = part.ok_or(Refusal::Malformed)?;
                let source = self.copied(objects)?;
                let is_copy = source.is_some();
                let body = source.map_or_else(|| Body::new(self.body), |(body, _)| body);
                let etag = objects.put_part(&id, part, body)?;
                Ok(if is_copy {
                    copy_result("CopyPartResult", &etag)
                } else {
                    Answer::tagged(&etag)
                })
            }
            ("PUT", None) => match self.copied(objects)? {
                Some((body, headers)) => {
                    let replaces = self.head.header("x-amz-metadata-directive") == Some("REPLACE");
                    let headers = if replaces { self.kept_headers() } else { headers };
                    let etag = objects.put(key, body, headers, Conditions::default())?;
                    Ok(copy_result("CopyObjectResult", &etag))
                }
                None => {
                    let body = Body::new(std::mem::take(&mut self.body));
                    let etag = objects.put(key, body, self.kept_headers(), self.conditions())?;
                    Ok(Answer::tagged(&etag))
                }
            },
            ("POST", None) if self.query("uploads").is_some() => {
                let id = objects.begin_upload(self.kept_headers());
                Ok(Answer::xml(&format!(
                    "<InitiateMultipartUploadResult><Key>{}</Key><UploadId>{id}</UploadId></InitiateMultipartUploadResult>",
                    escaped(&key)
                )))
            }
            ("POST", Some(id)) => {
                let etag = objects.end_upload(&id, key, self.conditions())?;
                Ok(Answer::xml(&format!(
                    "<CompleteMultipartUploadResult><ETag>\"{etag}\"</ETag></CompleteMultipartUploadResult>"
                )))
            }
            ("DELETE", Some(id)) => {
                objects.abort_upload(&id);
                Ok(Answer::empty("204 No Content"))
            }
            ("DELETE", None) => {
                objects.delete(&key, self.conditions())?;
                Ok(Answer::empty("204 No Content"))
            }
            _ => Err(Refusal::Unknown),
        }
    }

    fn read(&self, object: &Object) -> Result<Answer, Refusal> {
        let conditions = self.conditions();
        Conditions { if_none_match: None, ..conditions }.check(Some(object))?;
        conditions.check(Some(object)).map_err(|_| Refusal::Unchanged)?;
        let length = object.body.len();
        let range = self.head.header("range").map(|range| wanted(range, length)).transpose()?;
        let modified = date::http(object.modified);
        let mut headers = format!(
            "ETag: \"{}\"\r\nLast-Modified: {modified}\r\nAccept-Ranges: bytes\r\n",
            object.etag
        );
        for (name, value) in &object.headers {
            let _ = write!(headers, "{name}: {value}\r\n");
        }
        if let Some(Range { start, end }) = &range {
            let _ = write!(headers, "Content-Range: bytes {start}-{}/{length}\r\n", end - 1);
        }
        let status = if range.is_some() { "206 Partial Content" } else { "200 OK" };
        let range = range.unwrap_or(0..length);
        Ok(Answer { status, headers, body: object.body.clone(), range })
    }

    /// What the request copies, if it does.
    fn copied(&self, objects: &Objects) -> Result<Option<(Body, Headers)>, Refusal> {
        let header = |name| self.head.header(name);
        let Some(source) = header("x-amz-copy-source") else { return Ok(None) };
        let source = decoded(source, false).map_err(|_| Refusal::Malformed)?;
        let path = source.trim_start_matches('/');
        let object = objects.get(path.split_once('/').ok_or(Refusal::Malformed)?.1)?;
        let if_match = header("x-amz-copy-source-if-match");
        Conditions { if_match, ..Conditions::default() }.check(Some(object))?;
        let body = match header("x-amz-copy-source-range") {
            Some(range) => {
                Body::new(object.body.pieces(wanted(range, object.body.len())?).concat())
            }
            None => object.body.clone(),
        };
        Ok(Some((body, object.headers.clone())))
    }
}

fn copy_result(tag: &str, etag: &str) -> Answer {
    let modified = date::iso(std::time::UNIX_EPOCH);
    Answer::xml(&format!(
        "<{tag}><ETag>\"{etag}\"</ETag><LastModified>{modified}</LastModified></{tag}>"
    ))
}

/// `bytes=1-2`, `bytes=1-`, or `bytes=-2`.
fn wanted(range: &str, length: usize) -> Result<Range<usize>, Refusal> {
    let (first, last) = range
        .strip_prefix("bytes=")
        .and_then(|range| range.split_once('-'))
        .ok_or(Refusal::Range)?;
    let number = |text: &str| text.parse::<usize>().map_err(|_| Refusal::Range);
    let range = match (first, last) {
        ("", last) => length.saturating_sub(number(last)?)..length,
        (first, "") => number(first)?..length,
        (first, last) => number(first)?..number(last)?.saturating_add(1).min(length),
    };
    if range.is_empty() { Err(Refusal::Range) } else { Ok(range) }
}
