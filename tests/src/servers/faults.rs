//! What can be wrong with a store's answers, and with what comes to it.

use std::collections::VecDeque;
use std::io;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use futures::stream;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use s3s::service::S3Service;
use s3s::{Body, HttpError};

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is answered with this status, and this code in a document, and not served.
    Status(u16, &'static str),
    /// The connection ends at once.
    Reset,
    /// It is served, and the connection ends before the answer.
    LostAnswer,
    /// It is served, and the connection ends in the middle of the answer.
    HalfAnswer,
    /// It is served, and what is in the answer ends too early.
    ShortAnswer,
    /// It is served, and the answer says that it is of another version.
    OtherVersion,
    /// A byte of what came is another.
    Damaged,
}

/// Faults of the next requests.
#[derive(Debug, Default)]
pub(super) struct Faults(Mutex<VecDeque<Fault>>);

impl Faults {
    pub(super) fn set(&self, fault: Fault, requests: usize) {
        let mut faults = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *faults = std::iter::repeat_n(fault, requests).collect();
    }

    pub(super) fn left(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub(super) fn take(&self) -> Option<Fault> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

fn cut() -> HttpError {
    HttpError::new(Box::new(io::Error::from(io::ErrorKind::ConnectionReset)))
}

/// Serves `request` with a fault.
pub(super) async fn serve(
    service: &S3Service,
    request: Request<Incoming>,
    fault: Fault,
) -> Result<Response<Body>, HttpError> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| cut())?.to_bytes();
    match fault {
        Fault::Status(status, code) => return Ok(refusal(status, code)),
        Fault::Reset => return Err(cut()),
        Fault::LostAnswer
        | Fault::HalfAnswer
        | Fault::ShortAnswer
        | Fault::OtherVersion
        | Fault::Damaged => {}
    }
    let body = if fault == Fault::Damaged { turned(&body) } else { body };
    let answer = service.call(Request::from_parts(parts, Body::from(body))).await?;
    let (mut parts, body) = answer.into_parts();
    let body = body.collect().await.map_err(|_| cut())?.to_bytes();
    let half = body.slice(..body.len() / 2);
    match fault {
        Fault::LostAnswer => Err(cut()),
        Fault::HalfAnswer => {
            let pieces = [Ok(Frame::data(half)), Err(io::Error::from(io::ErrorKind::BrokenPipe))];
            parts.headers.insert(header::CONTENT_LENGTH, body.len().into());
            Ok(Response::from_parts(parts, Body::http_body(StreamBody::new(stream::iter(pieces)))))
        }
        Fault::ShortAnswer if body.is_empty() => Ok(Response::from_parts(parts, Body::from(body))),
        Fault::ShortAnswer => {
            parts.headers.remove(header::CONTENT_LENGTH);
            Ok(Response::from_parts(parts, Body::from(half)))
        }
        Fault::OtherVersion => {
            if parts.headers.contains_key(header::ETAG) {
                parts.headers.insert(header::ETAG, HeaderValue::from_static("\"other\""));
            }
            Ok(Response::from_parts(parts, Body::from(body)))
        }
        Fault::Status(..) | Fault::Reset | Fault::Damaged => {
            Ok(Response::from_parts(parts, Body::from(body)))
        }
    }
}

fn refusal(status: u16, code: &str) -> Response<Body> {
    let document = match code {
        "" => String::new(),
        code => format!("<Error><Code>{code}</Code><Message>as was asked for</Message></Error>"),
    };
    let mut response = Response::new(Body::from(document));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::IM_A_TEAPOT);
    response
}

fn turned(body: &Bytes) -> Bytes {
    let mut bytes = body.to_vec();
    if let Some(byte) = bytes.first_mut() {
        *byte ^= 0x20;
    }
    bytes.into()
}
