//! Stores that refuse, are away, or fail now and then.

use std::sync::Arc;

use bytes::Bytes;
use fsd::remote::{CircuitOpen, Condition, Link, RemoteError};
use fsd_tests::servers::{Azurite, BUCKET, Fault, S3Server};

use crate::store::{Kind, Part, Store, assert_fails, k, meta, runtime, skip};

#[test]
fn wrong_credentials_are_denied() {
    let mut subjects = vec![];
    let s3 = S3Server::start();
    for (name, value) in [("AWS_SECRET_ACCESS_KEY", "wrong"), ("AWS_ACCESS_KEY_ID", "NOBODY")] {
        let mut variables = s3.variables();
        variables.push((name.into(), value.into()));
        subjects.push(Store { base: format!("s3://{BUCKET}"), variables, kind: Kind::S3 });
    }
    let azurite = Azurite::start();
    match &azurite {
        Ok(azurite) => {
            let mut variables = azurite.variables();
            variables.push(("AZURE_STORAGE_KEY".into(), "d3Jvbmc=".into()));
            subjects.push(Store { base: format!("az://{BUCKET}"), variables, kind: Kind::Azure });
        }
        Err(missing) => skip(missing),
    }
    runtime().block_on(async {
        for store in subjects {
            let mut opened = store.open("denied");
            let remote = &opened.remote;
            let (key, metadata) = (k("x"), meta(&[]));
            assert_fails!(remote.check().await, Denied);
            assert_fails!(remote.head(&key).await, Denied);
            assert_fails!(remote.get(&key, 0..1, None).await, Denied);
            assert_fails!(remote.list(&k(""), None).await, Denied);
            let put = remote.put(&key, Bytes::new().into(), &metadata, &Condition::Always).await;
            assert_fails!(put, Denied);
            opened.link.wait_for(|now| now.link == Link::Denied).await.unwrap();
        }
    });
}

#[test]
fn a_store_that_is_away_is_unreachable() {
    let free_port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let set = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let nobody = format!("http://{free_port}");
    let subjects = [
        (
            format!("s3://{BUCKET}"),
            Kind::S3,
            vec![
                set("AWS_ENDPOINT_URL", &nobody),
                set("AWS_ACCESS_KEY_ID", "x"),
                set("AWS_SECRET_ACCESS_KEY", "x"),
            ],
        ),
        (
            format!("s3://{BUCKET}"),
            Kind::S3,
            vec![
                set("AWS_ENDPOINT_URL", "http://no-such-host.invalid"),
                set("AWS_ACCESS_KEY_ID", "x"),
                set("AWS_SECRET_ACCESS_KEY", "x"),
            ],
        ),
        (format!("gs://{BUCKET}"), Kind::Gcs, vec![set("STORAGE_EMULATOR_HOST", &nobody)]),
        (
            format!("az://{BUCKET}"),
            Kind::Azure,
            vec![
                set("AZURE_STORAGE_ENDPOINT", &format!("{nobody}/x")),
                set("AZURE_STORAGE_ACCOUNT", "x"),
                set("AZURE_STORAGE_KEY", "eA=="),
            ],
        ),
    ];
    runtime().block_on(async {
        for (base, kind, variables) in subjects {
            let store = Store { base, variables, kind };
            let mut opened = store.open("away");
            assert_fails!(opened.remote.check().await, Unreachable);
            assert_fails!(opened.remote.head(&k("x")).await, Unreachable);
            let (key, metadata) = (k("x"), meta(&[]));
            let put = opened.remote.put(&key, Bytes::new().into(), &metadata, &Condition::Always);
            assert_fails!(put.await, Unreachable);
            opened.link.wait_for(|now| now.link == Link::Offline).await.unwrap();
        }
    });
}

#[test]
fn offline_is_a_state_and_ends_by_itself() {
    let server = S3Server::start();
    let base = format!("s3://{BUCKET}");
    let store = Store { base, variables: server.variables(), kind: Kind::S3 };
    runtime().block_on(async {
        let mut opened = store.open("link");
        let remote = &opened.remote;
        assert_eq!(remote.to_string(), format!("retrying(breaker(s3://{BUCKET}/link))"));
        let part = Part { store: &store, remote: Arc::clone(remote) };
        part.put("x", "1").await;
        assert_eq!(opened.link.borrow().link, Link::Online);

        server.set_online(false);
        assert_fails!(remote.get(&k("x"), 0..1, None).await, Unreachable);
        opened.link.wait_for(|now| now.link == Link::Offline).await.unwrap();
        let refused = remote.head(&k("x")).await;
        let Err(RemoteError::Unreachable { source, .. }) = refused else { panic!("{refused:?}") };
        assert!(source.is::<CircuitOpen>(), "{source:?}");

        server.set_online(true);
        opened.link.wait_for(|now| now.link == Link::Online).await.unwrap();
        assert_eq!(part.text("x").await.unwrap(), "1");
    });
}

#[test]
fn a_failure_or_two_is_not_seen_and_a_put_is_tried_once() {
    let server = S3Server::start();
    let base = format!("s3://{BUCKET}");
    let store = Store { base, variables: server.variables(), kind: Kind::S3 };
    runtime().block_on(async {
        let opened = store.open("retries");
        let part = Part { store: &store, remote: Arc::clone(&opened.remote) };
        part.put("x", "1").await;
        server.fail_next(Fault::Status(503, "SlowDown"), 2);
        assert_eq!(part.text("x").await.unwrap(), "1");
        server.fail_next(Fault::Status(503, "SlowDown"), 1);
        let before = server.requests();
        let body = Bytes::from_static(b"2");
        let put = part.remote.put(&k("x"), body.into(), &meta(&[]), &Condition::Always).await;
        assert_fails!(put, Unreachable);
        assert_eq!(server.requests(), before + 1);
        assert_eq!(part.text("x").await.unwrap(), "1");
    });
}
