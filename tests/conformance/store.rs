//! Stores under test, and what cases of theirs say and ask.

use std::sync::Arc;

use bytes::Bytes;
use fsd::clock::{Clock, SystemClock};
use fsd::remote::{Condition, Object, Opened, Pacers, Page, Remote, RemoteError, RemoteUrl, open};
use fsd::tasks::Tasks;
use fsd::types::{ETag, Key, Metadata};
use fsd_tests::servers::{Variables, env};

/// A store under test.
pub(crate) struct Store {
    /// Where the suite may write, without a slash at the end.
    pub(crate) base: String,
    pub(crate) variables: Variables,
    pub(crate) kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Dir,
    S3,
    Gcs,
    Azure,
}

impl Store {
    /// The part of the store that belongs to one case.
    pub(crate) fn open(&self, place: &str) -> Opened {
        if let (Kind::Dir, Some(base)) = (self.kind, self.base.strip_prefix("file://")) {
            std::fs::create_dir_all(format!("{base}/{place}")).unwrap();
        }
        self.open_at(&format!("{}/{place}", self.base), &self.variables)
    }

    pub(crate) fn open_at(&self, url: &str, variables: &Variables) -> Opened {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let url: RemoteUrl = url.parse().unwrap();
        let tasks = Tasks::new(tokio::runtime::Handle::current());
        open(&url, &env(variables), Pacers::unlimited(&clock), clock, &tasks).unwrap()
    }

    /// The store's top, with another bucket or directory, which is not there.
    pub(crate) fn elsewhere(&self) -> String {
        match self.kind {
            Kind::Dir => format!("{}/not-there", self.base),
            Kind::S3 => "s3://fsd-tests-not-there".into(),
            Kind::Gcs => "gs://fsd-tests-not-there".into(),
            Kind::Azure => "az://fsd-tests-not-there".into(),
        }
    }
}

/// A case's own part of a store.
pub(crate) struct Part<'a> {
    pub(crate) store: &'a Store,
    pub(crate) remote: Arc<dyn Remote>,
}

impl Part<'_> {
    pub(crate) async fn put(&self, key: &str, body: &str) -> ETag {
        let body = Bytes::copy_from_slice(body.as_bytes());
        self.remote.put(&k(key), body.into(), &Metadata::new(), &Condition::Always).await.unwrap()
    }

    pub(crate) async fn text(&self, key: &str) -> Result<String, RemoteError> {
        let bytes = self.remote.get(&k(key), 0..1 << 20, None).await?;
        Ok(String::from_utf8(bytes.to_vec()).unwrap())
    }

    /// All of one level, in order: objects and prefixes.
    pub(crate) async fn list(&self, prefix: &str) -> (Vec<Object>, Vec<String>) {
        let (mut objects, mut prefixes) = (Vec::new(), Vec::new());
        let mut token = None;
        loop {
            let page: Page = self.remote.list(&k(prefix), token.as_ref()).await.unwrap();
            objects.extend(page.objects);
            prefixes.extend(page.prefixes.iter().map(|key| key.as_str().to_owned()));
            token = page.next;
            if token.is_none() {
                break;
            }
        }
        prefixes.sort();
        (objects, prefixes)
    }

    pub(crate) async fn names(&self, prefix: &str) -> Vec<String> {
        let (objects, prefixes) = self.list(prefix).await;
        let keys = objects.iter().map(|object| object.key.as_str().to_owned());
        let mut names: Vec<_> = keys.chain(prefixes).collect();
        names.sort();
        names
    }
}

pub(crate) fn k(key: &str) -> Key {
    Key::from_raw(key)
}

pub(crate) fn meta(pairs: &[(&str, &str)]) -> Metadata {
    pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
}

/// Fails the case unless `result` is this error.
macro_rules! assert_fails {
    ($result:expr, $error:ident) => {{
        let result = $result;
        assert!(matches!(result, Err(RemoteError::$error { .. })), "{result:?}");
    }};
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

pub(crate) fn skip(why: &str) {
    eprintln!("SKIP: {why}");
}

pub(crate) use assert_fails;
