//! What each wrong answer means to the caller, and that it leaves nothing half done.

use bytes::Bytes;
use fsd::remote::{Condition, RemoteError};
use fsd::types::ETag;
use fsd_tests::servers::{BUCKET, Fault, S3Server};

use crate::store::{Kind, Store, k, meta, runtime};

/// More than are tried.
const MANY: usize = 8;

/// A fault, and what comes of a put and of a get of a known version. `Ok`: nothing is noticed, since nothing is wrong.
const CASES: [(Fault, &str, &str); 19] = [
    (Fault::Status(400, "BadDigest"), "Damaged", "Damaged"),
    (Fault::Status(401, ""), "Denied", "Denied"),
    (Fault::Status(403, "AccessDenied"), "Denied", "Denied"),
    (Fault::Status(403, "RequestTimeTooSkewed"), "Denied", "Denied"),
    (Fault::Status(404, "NoSuchKey"), "NotFound", "NotFound"),
    (Fault::Status(404, "NoSuchBucket"), "NoContainer", "NoContainer"),
    // Not the store's word: a proxy's, or a portal's.
    (Fault::Status(404, ""), "Rejected", "Rejected"),
    (Fault::Status(409, "OperationAborted"), "Unreachable", "Unreachable"),
    (Fault::Status(409, "ConditionalRequestConflict"), "Precondition", "Precondition"),
    (Fault::Status(412, "PreconditionFailed"), "Precondition", "Precondition"),
    (Fault::Status(429, "SlowDown"), "Unreachable", "Unreachable"),
    (Fault::Status(500, "InternalError"), "Unreachable", "Unreachable"),
    (Fault::Status(503, ""), "Unreachable", "Unreachable"),
    (Fault::Reset, "Unreachable", "Unreachable"),
    (Fault::LostAnswer, "Unreachable", "Unreachable"),
    (Fault::HalfAnswer, "Ok", "Unreachable"),
    (Fault::ShortAnswer, "Ok", "Unreachable"),
    (Fault::OtherVersion, "Ok", "Precondition"),
    // So this server calls a body that is not the one that was signed.
    (Fault::Damaged, "Unreachable", "Ok"),
];

fn name<T>(result: &Result<T, RemoteError>) -> String {
    let debug = match result {
        Ok(_) => "Ok".to_owned(),
        Err(error) => format!("{error:?}"),
    };
    debug.split([' ', '(', '{']).next().unwrap_or_default().to_owned()
}

#[test]
fn each_wrong_answer_has_its_meaning() {
    let server = S3Server::start();
    let base = format!("s3://{BUCKET}");
    let store = Store { base, variables: server.variables(), kind: Kind::S3 };
    runtime().block_on(async {
        for (number, (fault, put_is, get_is)) in CASES.into_iter().enumerate() {
            let place = format!("case-{number}");
            let (key, none, old) = (k("x"), meta(&[]), Bytes::from_static(b"the old content"));
            let fresh = || store.open(&place).remote;
            let first = fresh().put(&key, old.clone().into(), &none, &Condition::Absent).await;
            let etag: ETag = first.unwrap();

            server.fail_next(fault, MANY);
            let got = fresh().get(&key, 0..15, Some(&etag)).await;
            assert_eq!(name(&got), get_is, "get, {fault:?}: {got:?}");
            server.fail_next(fault, MANY);
            let new = Bytes::from_static(b"the new content");
            let put = fresh().put(&key, new.clone().into(), &none, &Condition::Match(etag)).await;
            assert_eq!(name(&put), put_is, "put, {fault:?}: {put:?}");

            server.fail_next(fault, 0);
            let there = fresh().get(&key, 0..100, None).await.unwrap();
            let served = !matches!(fault, Fault::Status(..) | Fault::Reset | Fault::Damaged);
            assert_eq!(there, if served { new } else { old }, "{fault:?}");
        }
    });
}
