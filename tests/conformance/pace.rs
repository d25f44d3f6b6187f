//! How fast bodies go.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fsd::clock::{Clock, SystemClock};
use fsd::remote::{Condition, Pacers, RemoteUrl, open};
use fsd::tasks::Tasks;
use fsd_tests::servers::{BUCKET, S3Server, Variables, env};

use crate::store::{k, meta, runtime};

/// Run it by name, and look: `cargo test -p fsd-tests --test conformance -- --ignored --nocapture pace`.
#[test]
#[ignore = "it measures time"]
fn the_pace_is_kept_on_the_wire() {
    let server = S3Server::start();
    let root = tempfile::tempdir().unwrap();
    let dir = format!("file://{}", root.path().display());
    runtime().block_on(async {
        for (url, variables) in
            [(format!("s3://{BUCKET}"), server.variables()), (dir, Variables::new())]
        {
            let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
            let pacers = Pacers::unlimited(&clock);
            let tasks = Tasks::new(tokio::runtime::Handle::current());
            let url: RemoteUrl = url.parse().unwrap();
            let remote = open(&url, &env(&variables), pacers.clone(), Arc::clone(&clock), &tasks);
            let remote = remote.unwrap().remote;
            let body = Bytes::from(vec![7; 1_000_000]);
            let (key, metadata) = (k("x"), meta(&[]));
            for rate in ["200kB/s", "1MB/s", "unlimited"] {
                pacers.up.set_rate(rate.parse().unwrap());
                pacers.down.set_rate(rate.parse().unwrap());
                let start = clock.monotonic();
                remote.put(&key, body.clone().into(), &metadata, &Condition::Always).await.unwrap();
                let up = clock.monotonic() - start;
                let got = remote.get(&key, 0..1_000_000, None).await.unwrap();
                let down = clock.monotonic() - start - up;
                assert!(got == body);
                eprintln!("{remote} at {rate}: 1 MB up in {up:?}, down in {down:?}");
            }
            // A pause in the middle of a body, longer than any server waits: then on.
            pacers.up.set_rate("1MB/s".parse().unwrap());
            let (put, ()) = tokio::join!(
                remote.put(&key, body.clone().into(), &metadata, &Condition::Always),
                async {
                    clock.sleep(Duration::from_millis(300)).await;
                    pacers.up.set_rate("off".parse().unwrap());
                    clock.sleep(Duration::from_secs(70)).await;
                    pacers.up.set_rate("unlimited".parse().unwrap());
                },
            );
            eprintln!("{remote}: a put over a pause of 70 s: {put:?}");
        }
    });
}
