//! What every object store does alike, in-process, emulated, or a real one named by `FSD_TEST_REMOTE`
//! (an URL; its credentials are taken from the environment). Each sentence of [`CASES`] runs on each store.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fsd::clock::{Clock, SystemClock};
use fsd::remote::{
    CircuitOpen, Condition, Link, Object, Opened, Pacers, Page, PartId, Remote, RemoteError,
    RemoteUrl, open,
};
use fsd::tasks::Tasks;
use fsd::types::{ETag, Key, Metadata};
use fsd_tests::servers::{Azurite, BUCKET, GcsServer, S3Server, Variables, env};
use futures::FutureExt as _;
use futures::future::LocalBoxFuture;

/// A store under test.
struct Store {
    /// Where the suite may write, without a slash at the end.
    base: String,
    variables: Variables,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Dir,
    S3,
    Gcs,
    Azure,
}

impl Store {
    /// The part of the store that belongs to one case.
    fn open(&self, place: &str) -> Opened {
        if let (Kind::Dir, Some(base)) = (self.kind, self.base.strip_prefix("file://")) {
            std::fs::create_dir_all(format!("{base}/{place}")).unwrap();
        }
        self.open_at(&format!("{}/{place}", self.base), &self.variables)
    }

    fn open_at(&self, url: &str, variables: &Variables) -> Opened {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let url: RemoteUrl = url.parse().unwrap();
        let tasks = Tasks::new(tokio::runtime::Handle::current());
        open(&url, &env(variables), Pacers::unlimited(&clock), clock, &tasks).unwrap()
    }

    /// The store's top, with another bucket or directory, which is not there.
    fn elsewhere(&self) -> String {
        match self.kind {
            Kind::Dir => format!("{}/not-there", self.base),
            Kind::S3 => "s3://fsd-tests-not-there".into(),
            Kind::Gcs => "gs://fsd-tests-not-there".into(),
            Kind::Azure => "az://fsd-tests-not-there".into(),
        }
    }
}

/// A case's own part of a store.
struct Part<'a> {
    store: &'a Store,
    remote: Arc<dyn Remote>,
}

impl Part<'_> {
    async fn put(&self, key: &str, body: &str) -> ETag {
        let body = Bytes::copy_from_slice(body.as_bytes());
        self.remote.put(&k(key), body, &Metadata::new(), &Condition::Always).await.unwrap()
    }

    async fn text(&self, key: &str) -> Result<String, RemoteError> {
        let bytes = self.remote.get(&k(key), 0..1 << 20, None).await?;
        Ok(String::from_utf8(bytes.to_vec()).unwrap())
    }

    /// All of one level, in order: objects and prefixes.
    async fn list(&self, prefix: &str) -> (Vec<Object>, Vec<String>) {
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

    async fn names(&self, prefix: &str) -> Vec<String> {
        let (objects, prefixes) = self.list(prefix).await;
        let keys = objects.iter().map(|object| object.key.as_str().to_owned());
        let mut names: Vec<_> = keys.chain(prefixes).collect();
        names.sort();
        names
    }
}

fn k(key: &str) -> Key {
    Key::from_raw(key)
}

fn meta(pairs: &[(&str, &str)]) -> Metadata {
    pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
}

/// Fails the case unless `result` is this error.
macro_rules! assert_fails {
    ($result:expr, $error:ident) => {{
        let result = $result;
        assert!(matches!(result, Err(RemoteError::$error { .. })), "{result:?}");
    }};
}

type Case = for<'a> fn(Part<'a>) -> LocalBoxFuture<'a, ()>;

macro_rules! cases {
    ($($name:ident),* $(,)?) => { [$((stringify!($name), (|part| $name(part).boxed_local()) as Case)),*] };
}

const CASES: [(&str, Case); 20] = cases![
    what_was_put_is_read_back_with_its_metadata,
    metadata_is_replaced_by_a_put_and_kept_by_nothing_else,
    a_range_ends_where_the_object_ends,
    a_missing_object_is_not_found,
    a_put_happens_only_if_its_condition_holds,
    a_delete_happens_only_if_its_condition_holds,
    a_get_fails_if_the_version_is_another,
    a_directory_has_a_marker_of_its_own,
    a_marker_is_not_listed_beside_its_directory,
    a_file_and_a_directory_of_one_name_do_not_replace_each_other,
    a_level_is_listed_page_by_page,
    metadata_in_a_listing_is_the_objects,
    odd_keys_are_themselves_or_refused,
    hostile_keys_are_refused,
    a_copy_has_the_metadata_given,
    metadata_changes_alone,
    parts_make_an_object_when_completed,
    completing_again_finds_what_was_made,
    completing_keeps_to_its_condition,
    a_missing_container_is_not_an_empty_one,
];

async fn what_was_put_is_read_back_with_its_metadata(part: Part<'_>) {
    let remote = &part.remote;
    let metadata = meta(&[
        ("mode", "33184"),
        ("uid", "0"),
        ("gid", "0"),
        ("mtime", "1700000000.123456789"),
        ("ctime", "1700000001.5"),
        ("xattr", "%7B%22user%2Ea%22%3A%22Yg%3D%3D%22%7D"),
        ("color", "red and \"blue\""),
    ]);
    let body = Bytes::from_static(b"hello\0world");
    let etag =
        remote.put(&k("a/b/c.txt"), body.clone(), &metadata, &Condition::Always).await.unwrap();
    let object = remote.head(&k("a/b/c.txt")).await.unwrap();
    assert_eq!((object.key.as_str(), object.size), ("a/b/c.txt", 11));
    assert_eq!(object.etag, etag);
    assert_eq!(object.metadata.as_ref(), Some(&metadata));
    assert_eq!(remote.get(&k("a/b/c.txt"), 0..11, Some(&etag)).await.unwrap(), body);

    let (objects, prefixes) = part.list("a/b/").await;
    assert_eq!(prefixes, [""; 0]);
    assert_eq!(objects.len(), 1);
    assert_eq!((objects[0].key.as_str(), objects[0].size), ("a/b/c.txt", 11));
    assert_eq!(objects[0].etag, etag);
    assert!(objects[0].modified.secs > 1_600_000_000);
    assert_eq!(part.names("").await, ["a/"]);
    assert_eq!(part.names("a/").await, ["a/b/"]);
    assert_eq!(part.names("a/b").await.len(), usize::from(part.store.kind != Kind::Dir));
    assert_eq!(part.names("nothing/").await, [""; 0]);
}

async fn metadata_is_replaced_by_a_put_and_kept_by_nothing_else(part: Part<'_>) {
    let remote = &part.remote;
    let metadata = meta(&[("color", "red")]);
    remote.put(&k("x"), Bytes::new(), &metadata, &Condition::Always).await.unwrap();
    let put = remote.put(&k("x"), Bytes::new(), &meta(&[]), &Condition::Always).await.unwrap();
    let object = remote.head(&k("x")).await.unwrap();
    assert_eq!((object.size, object.etag), (0, put));
    assert_eq!(object.metadata, Some(meta(&[])));
    if part.store.kind != Kind::Dir {
        let not_ascii = meta(&[("name", "ä")]);
        let put = remote.put(&k("y"), Bytes::new(), &not_ascii, &Condition::Always).await;
        assert_fails!(put, Rejected);
        assert_fails!(remote.head(&k("y")).await, NotFound);
    }
}

async fn a_range_ends_where_the_object_ends(part: Part<'_>) {
    part.put("ten", "0123456789").await;
    part.put("none", "").await;
    for (key, range, expected) in [
        ("ten", 0..10, "0123456789"),
        ("ten", 3..5, "34"),
        ("ten", 0..1, "0"),
        ("ten", 5..100, "56789"),
        ("ten", 9..10, "9"),
        ("ten", 10..20, ""),
        ("ten", 100..200, ""),
        ("ten", 4..4, ""),
        ("none", 0..10, ""),
        ("none", 0..0, ""),
    ] {
        let got = part.remote.get(&k(key), range.clone(), None).await.unwrap();
        assert_eq!(got, expected, "{key} {range:?}");
    }
}

async fn a_missing_object_is_not_found(part: Part<'_>) {
    let (remote, key) = (&part.remote, k("no/such"));
    assert_fails!(remote.head(&key).await, NotFound);
    assert_fails!(remote.get(&key, 0..5, None).await, NotFound);
    assert_fails!(remote.get(&key, 0..0, None).await, NotFound);
    assert_fails!(remote.head(&k("no/")).await, NotFound);
    let version = ETag("x".into());
    let copied = remote.copy(&key, &version, &k("to"), &meta(&[]), &Condition::Always).await;
    assert_fails!(copied, NotFound);
    remote.delete(&key, &Condition::Always).await.unwrap();
    remote.delete(&key, &Condition::Match(ETag("x".into()))).await.unwrap();
    part.put("file", "x").await;
    assert_fails!(remote.head(&k("file/below")).await, NotFound);
    remote.delete(&k("file/below"), &Condition::Always).await.unwrap();
}

async fn a_put_happens_only_if_its_condition_holds(part: Part<'_>) {
    let put = async |body: &'static str, condition| {
        part.remote.put(&k("x"), Bytes::from_static(body.as_bytes()), &meta(&[]), &condition).await
    };
    assert_fails!(put("0", Condition::Match(ETag("x".into()))).await, Precondition);
    let first = put("1", Condition::Absent).await.unwrap();
    assert_fails!(put("2", Condition::Absent).await, Precondition);
    let third = put("3", Condition::Match(first.clone())).await.unwrap();
    assert_ne!(first, third);
    assert_fails!(put("4", Condition::Match(first)).await, Precondition);
    assert_eq!(part.text("x").await.unwrap(), "3");
    put("5", Condition::Always).await.unwrap();
    assert_eq!(part.text("x").await.unwrap(), "5");
}

async fn a_delete_happens_only_if_its_condition_holds(part: Part<'_>) {
    let (remote, key) = (&part.remote, k("d/x"));
    let old = part.put("d/x", "1").await;
    let new = part.put("d/x", "2").await;
    assert_fails!(remote.delete(&key, &Condition::Match(old.clone())).await, Precondition);
    assert_fails!(remote.delete(&key, &Condition::Absent).await, Precondition);
    assert_eq!(part.text("d/x").await.unwrap(), "2");
    remote.delete(&key, &Condition::Match(new)).await.unwrap();
    assert_fails!(remote.head(&key).await, NotFound);
    remote.delete(&key, &Condition::Match(old)).await.unwrap();
    remote.delete(&key, &Condition::Absent).await.unwrap();
}

async fn a_get_fails_if_the_version_is_another(part: Part<'_>) {
    let (remote, key) = (&part.remote, k("x"));
    let old = part.put("x", "old").await;
    let new = part.put("x", "newer").await;
    assert_eq!(remote.get(&key, 0..3, Some(&new)).await.unwrap(), "new");
    for range in [0..3, 3..9, 9..12, 0..0] {
        assert_fails!(remote.get(&key, range.clone(), Some(&old)).await, Precondition);
    }
    assert_eq!(remote.get(&key, 9..12, Some(&new)).await.unwrap(), "");
}

async fn a_directory_has_a_marker_of_its_own(part: Part<'_>) {
    let (remote, dir) = (&part.remote, k("dir/"));
    let metadata = meta(&[("mode", "16872"), ("mtime", "1700000000.25")]);
    let etag = remote.put(&dir, Bytes::new(), &metadata, &Condition::Absent).await.unwrap();
    let found = remote.head(&dir).await.unwrap();
    assert_eq!((found.key.as_str(), found.size), ("dir/", 0));
    assert_eq!(found.etag, etag);
    let told = |object: Object| {
        let mut metadata = object.metadata.unwrap();
        metadata.remove("hdi_isfolder");
        metadata
    };
    assert_eq!(told(found), metadata);
    assert_fails!(
        remote.put(&dir, Bytes::new(), &metadata, &Condition::Absent).await,
        Precondition
    );

    // What is in the directory does not change the marker.
    part.put("dir/file", "x").await;
    assert_eq!(remote.head(&dir).await.unwrap().etag, etag);
    let metadata = meta(&[("mode", "16877")]);
    let changed = remote.set_metadata(&dir, &metadata, &etag).await.unwrap();
    let found = remote.head(&dir).await.unwrap();
    assert_eq!(found.etag, changed);
    assert_eq!(told(found), metadata);

    part.put("plain", "x").await;
    assert_fails!(remote.head(&k("plain/")).await, NotFound);
    remote.delete(&k("plain/"), &Condition::Always).await.unwrap();
    assert_eq!(part.text("plain").await.unwrap(), "x");

    remote.delete(&k("dir/file"), &Condition::Always).await.unwrap();
    remote.delete(&dir, &Condition::Match(changed)).await.unwrap();
    assert_fails!(remote.head(&dir).await, NotFound);
    assert_eq!(part.names("").await, ["plain"]);
}

async fn a_marker_is_not_listed_beside_its_directory(part: Part<'_>) {
    let remote = &part.remote;
    for dir in ["empty/", "full/", "full/below/"] {
        remote.put(&k(dir), Bytes::new(), &meta(&[]), &Condition::Always).await.unwrap();
    }
    part.put("full/file", "x").await;
    part.put("full-not", "x").await;
    part.put("implied/file", "x").await;
    assert_eq!(part.names("").await, ["empty/", "full-not", "full/", "implied/"]);
    assert_eq!(part.names("full/").await, ["full/below/", "full/file"]);
    assert_eq!(part.names("empty/").await, [""; 0]);
    let (objects, _) = part.list("").await;
    assert_eq!(objects.len(), 1);
}

async fn a_file_and_a_directory_of_one_name_do_not_replace_each_other(part: Part<'_>) {
    let (remote, none) = (&part.remote, meta(&[]));
    let both = matches!(part.store.kind, Kind::S3 | Kind::Gcs);
    let check = |written: Result<ETag, RemoteError>| match written {
        Ok(_) => assert!(both),
        Err(error) => assert!(!both && matches!(error, RemoteError::Occupied { .. }), "{error:?}"),
    };
    part.put("file", "content").await;
    let marked = meta(&[("mode", "16832")]);
    remote.put(&k("dir/"), Bytes::new(), &marked, &Condition::Always).await.unwrap();
    for condition in [Condition::Always, Condition::Absent] {
        check(remote.put(&k("file/"), Bytes::new(), &none, &condition).await);
        remote.delete(&k("file/"), &Condition::Always).await.unwrap();
        assert_eq!(part.text("file").await.unwrap(), "content");
        check(remote.put(&k("dir"), Bytes::from_static(b"x"), &none, &condition).await);
        remote.delete(&k("dir"), &Condition::Always).await.unwrap();
    }
    let file = remote.head(&k("file")).await.unwrap().etag;
    check(remote.copy(&k("file"), &file, &k("dir"), &none, &Condition::Always).await);
    assert_eq!(remote.head(&k("dir/")).await.unwrap().metadata.unwrap()["mode"], "16832");
}

async fn metadata_in_a_listing_is_the_objects(part: Part<'_>) {
    let given = [
        meta(&[]),
        meta(&[("mode", "33188"), ("mtime", "1600000000.123456789")]),
        meta(&[("odd", "<a> & \"b\" 'c'  d %41 &lt; \\"), ("empty_no", "x")]),
    ];
    for (n, metadata) in given.iter().enumerate() {
        let (key, body) = (k(&format!("m{n}")), Bytes::from_static(b"x"));
        part.remote.put(&key, body, metadata, &Condition::Always).await.unwrap();
    }
    let (objects, _) = part.list("").await;
    assert_eq!(objects.len(), given.len());
    let told = matches!(part.store.kind, Kind::Dir | Kind::Azure);
    for (listed, given) in objects.into_iter().zip(given) {
        // Azurite says nothing of an object that has none.
        assert!(listed.metadata.is_some() == told || given.is_empty());
        if let Some(metadata) = listed.metadata {
            let head = part.remote.head(&listed.key).await.unwrap();
            assert_eq!(Some(metadata), head.metadata);
        }
    }
}

async fn a_level_is_listed_page_by_page(part: Part<'_>) {
    let part = &part;
    let names: Vec<_> = (0..1100).map(|n| format!("d/{n:04}")).collect();
    for chunk in names.chunks(50) {
        futures::future::join_all(chunk.iter().map(|name| part.put(name, "x"))).await;
    }
    for n in 0..30 {
        part.put(&format!("d/{n:04}-sub/x"), "x").await;
    }
    let (objects, prefixes) = part.list("d/").await;
    let listed: Vec<_> = objects.iter().map(|object| object.key.as_str()).collect();
    assert_eq!(listed, names);
    assert_eq!(prefixes.len(), 30);
    if part.store.kind == Kind::Dir {
        // Its pages are larger.
        let base = part.store.base.strip_prefix("file://").unwrap();
        let many = format!("{base}/a_level_is_listed_page_by_page/many");
        std::fs::create_dir(&many).unwrap();
        for n in 0..10_500 {
            std::fs::write(format!("{many}/{n}"), "").unwrap();
        }
        let first = part.remote.list(&k("many/"), None).await.unwrap();
        assert_eq!(first.objects.len(), 10_000);
        let keys = part.names("many/").await;
        assert_eq!((keys.len(), &*keys[10_499]), (10_500, "many/9999"));
    }
}

async fn odd_keys_are_themselves_or_refused(part: Part<'_>) {
    let mut odd = vec![
        "o/a b",
        "o/a+b",
        "o/a%41",
        "o/a%",
        "o/ä€😀",
        "o/a&b<c>\"d'",
        "o/#?",
        "o/~*!()[]{}|^`;:@=,$",
        "o/.hidden",
        "o/a..b",
        "o/ space ",
        "o/...",
    ];
    match part.store.kind {
        Kind::Dir => odd.extend(["o/a\\b", "o/tab\there", "o/line\nbreak"]),
        Kind::S3 | Kind::Gcs => {
            odd.extend(["o/a\\b", "o/tab\there", "o/line\r\nbreak", "o/\u{1}", "o//x", "o///"])
        }
        // Azure itself takes a backslash for a slash, and no control characters.
        Kind::Azure => odd.extend(["o//x"]),
    }
    for key in &odd {
        part.put(key, key).await;
    }
    let (objects, prefixes) = part.list("o/").await;
    let listed: std::collections::BTreeSet<_> = objects.iter().map(|o| o.key.as_str()).collect();
    let direct = |key: &&&str| !key[2..].contains('/');
    assert_eq!(listed, odd.iter().filter(direct).copied().collect());
    assert_eq!(prefixes.len(), usize::from(part.store.kind != Kind::Dir), "{prefixes:?}");
    for key in &odd {
        assert_eq!(part.text(key).await.unwrap(), *key);
        assert_eq!(part.remote.head(&k(key)).await.unwrap().size, key.len() as u64);
        let etag = part.remote.head(&k(key)).await.unwrap().etag;
        let (none, always) = (meta(&[]), Condition::Always);
        part.remote.copy(&k(key), &etag, &k("copy"), &none, &always).await.unwrap();
        assert_eq!(part.text("copy").await.unwrap(), *key);
    }
    for key in &odd {
        part.remote.delete(&k(key), &Condition::Always).await.unwrap();
    }
    assert_eq!(part.list("o/").await.0, []);
}

async fn hostile_keys_are_refused(part: Part<'_>) {
    let everywhere = ["", "..", "../x", "a/../../x", "a/./b", "./a", "a/.."];
    let in_a_directory = ["/etc/passwd", "a//b", ".fsd-tmp/x", ".fsd-tmp/", "a\0b"];
    let more = if part.store.kind == Kind::Dir { &in_a_directory[..] } else { &[] };
    for key in everywhere.iter().chain(more) {
        let (remote, key) = (&part.remote, k(key));
        let put = remote.put(&key, Bytes::new(), &meta(&[]), &Condition::Always).await;
        assert_fails!(put, Rejected);
        assert_fails!(remote.get(&key, 0..1, None).await, Rejected);
        assert_fails!(remote.head(&key).await, Rejected);
        assert_fails!(remote.delete(&key, &Condition::Always).await, Rejected);
    }
}

async fn a_copy_has_the_metadata_given(part: Part<'_>) {
    let remote = &part.remote;
    let metadata = meta(&[("color", "red"), ("mtime", "1700000000")]);
    let body = Bytes::from_static(b"content");
    let old = meta(&[("color", "blue"), ("size", "small")]);
    let (from, to) = (k("from #1"), k("to/here"));
    let source = remote.put(&from, body.clone(), &old, &Condition::Always).await.unwrap();
    let there = part.put("to/here", "old").await;
    let other = ETag(format!("{}0", there.0));
    for (expect, condition) in [
        (&source, Condition::Absent),
        (&source, Condition::Match(other.clone())),
        (&other, Condition::Always),
        (&other, Condition::Match(there.clone())),
    ] {
        let copied = remote.copy(&from, expect, &to, &metadata, &condition).await;
        assert_fails!(copied, Precondition);
        assert_eq!(part.text("to/here").await.unwrap(), "old");
    }
    let there = Condition::Match(there);
    let etag = remote.copy(&from, &source, &to, &metadata, &there).await.unwrap();
    let copied = remote.head(&k("to/here")).await.unwrap();
    assert_eq!((copied.size, copied.etag), (7, etag.clone()));
    assert_eq!(copied.metadata, Some(metadata));
    assert_eq!(remote.get(&k("to/here"), 0..9, Some(&etag)).await.unwrap(), body);
}

async fn metadata_changes_alone(part: Part<'_>) {
    let (remote, key) = (&part.remote, k("x"));
    let old = part.put("x", "content").await;
    let metadata = meta(&[("mode", "33188"), ("mtime", "1600000000.000000001"), ("color", "red")]);
    let etag = remote.set_metadata(&key, &metadata, &old).await.unwrap();
    let found = remote.head(&key).await.unwrap();
    assert_eq!(found.metadata, Some(metadata.clone()));
    assert_eq!((found.size, found.etag), (7, etag.clone()));
    assert_eq!(part.text("x").await.unwrap(), "content");
    let fresh = part.put("x", "another").await;
    assert_fails!(remote.set_metadata(&key, &metadata, &etag).await, Precondition);
    assert_eq!(remote.head(&key).await.unwrap().etag, fresh);
}

/// Parts that any store takes: all but the last of the smallest size.
fn parts_of(remote: &dyn Remote) -> Vec<Bytes> {
    let size = usize::try_from(remote.limits().part_bytes_min).unwrap().max(70_000);
    let part = |fill: u8| (0..=250).map(|b| b ^ fill).cycle().take(size).collect();
    vec![part(1), part(2), Bytes::from_static(b"the end")]
}

async fn upload(
    part: &Part<'_>,
    key: &Key,
    metadata: &Metadata,
) -> (fsd::remote::UploadId, Vec<PartId>) {
    let remote = &part.remote;
    let id = remote.multipart_create(key, metadata).await.unwrap();
    let mut done = vec![None; 3];
    for (number, body) in [(2, 2), (0, 1), (1, 1), (0, 0)] {
        let body = parts_of(&**remote)[body].clone();
        let sent = remote.multipart_put(key, &id, number, body).await.unwrap();
        done[usize::try_from(number).unwrap()] = Some(sent);
    }
    (id, done.into_iter().map(Option::unwrap).collect())
}

async fn parts_make_an_object_when_completed(part: Part<'_>) {
    let (remote, key) = (&part.remote, k("big/file"));
    let metadata = meta(&[("mode", "33188"), ("mtime", "1700000000.5"), ("color", "red")]);
    let (id, parts) = upload(&part, &key, &metadata).await;
    assert_fails!(remote.head(&key).await, NotFound);
    assert_eq!(part.list("big/").await.0, []);
    let etag =
        remote.multipart_complete(&key, &id, &parts, &metadata, &Condition::Absent).await.unwrap();
    let whole = parts_of(&**remote).concat();
    let found = remote.head(&key).await.unwrap();
    assert_eq!((found.size, found.etag), (whole.len() as u64, etag.clone()));
    assert_eq!(found.metadata, Some(metadata));
    let got = remote.get(&key, 0..1 << 30, Some(&etag)).await.unwrap();
    assert!(got == whole);

    let (id, _) = upload(&part, &k("given/up"), &meta(&[])).await;
    remote.multipart_abort(&k("given/up"), &id).await.unwrap();
    remote.multipart_abort(&k("given/up"), &id).await.unwrap();
    assert_fails!(remote.head(&k("given/up")).await, NotFound);
}

async fn completing_again_finds_what_was_made(part: Part<'_>) {
    let (remote, key) = (&part.remote, k("x"));
    let metadata = meta(&[("mtime", "1700000000.5")]);
    let (id, parts) = upload(&part, &key, &metadata).await;
    let complete = async |condition: Condition| {
        remote.multipart_complete(&key, &id, &parts, &metadata, &condition).await
    };
    let etag = complete(Condition::Absent).await.unwrap();
    assert_eq!(complete(Condition::Absent).await.unwrap(), etag);
    if part.store.kind != Kind::Azure {
        // Azure makes the same blob of the same blocks once more.
        assert_eq!(complete(Condition::Always).await.unwrap(), etag);
        part.put("x", "another").await;
        assert_fails!(complete(Condition::Always).await, NotFound);
    }
}

async fn completing_keeps_to_its_condition(part: Part<'_>) {
    let (remote, key) = (&part.remote, k("x"));
    let metadata = meta(&[("mtime", "1700000000.5")]);
    let (id, parts) = upload(&part, &key, &metadata).await;
    let complete = async |condition: Condition| {
        remote.multipart_complete(&key, &id, &parts, &metadata, &condition).await
    };
    assert_fails!(complete(Condition::Match(ETag("x".into()))).await, Precondition);
    if part.store.kind != Kind::Azure {
        // On Azure a put forgets the blob's blocks.
        let other = part.put("x", "other").await;
        assert_fails!(complete(Condition::Absent).await, Precondition);
        assert_eq!(part.text("x").await.unwrap(), "other");
        complete(Condition::Match(other)).await.unwrap();
    } else {
        complete(Condition::Absent).await.unwrap();
        let (id, parts) = upload(&part, &key, &metadata).await;
        let late = meta(&[("mtime", "1700000001")]);
        let completed =
            remote.multipart_complete(&key, &id, &parts, &late, &Condition::Absent).await;
        assert_fails!(completed, Precondition);
    }
}

async fn a_missing_container_is_not_an_empty_one(part: Part<'_>) {
    let store = part.store;
    // Each asks a store of its own: after one such answer the breaker would only say it again.
    let fresh = || store.open_at(&store.elsewhere(), &store.variables).remote;
    let (key, dir, empty) = (k("x"), k("x/"), meta(&[]));
    assert_fails!(fresh().check().await, NoContainer);
    assert_fails!(fresh().head(&key).await, NoContainer);
    assert_fails!(fresh().head(&dir).await, NoContainer);
    assert_fails!(fresh().get(&key, 0..1, None).await, NoContainer);
    assert_fails!(fresh().list(&k(""), None).await, NoContainer);
    assert_fails!(fresh().list(&dir, None).await, NoContainer);
    assert_fails!(fresh().delete(&key, &Condition::Always).await, NoContainer);
    for condition in [Condition::Always, Condition::Absent] {
        assert_fails!(fresh().put(&key, Bytes::new(), &empty, &condition).await, NoContainer);
    }
    let mut opened = store.open_at(&store.elsewhere(), &store.variables);
    assert_fails!(opened.remote.head(&key).await, NoContainer);
    opened.link.wait_for(|link| *link == Link::NoContainer).await.unwrap();
}

/// Runs every case; says which fail.
fn conforms(store: &Store) {
    let runtime = runtime();
    let mut failed = Vec::new();
    for (name, case) in CASES {
        let run = async {
            let part = Part { store, remote: store.open(name).remote };
            let case = tokio::time::timeout(Duration::from_secs(120), case(part));
            let passed = AssertUnwindSafe(case).catch_unwind().await;
            if !matches!(passed, Ok(Ok(()))) {
                failed.push(name);
            }
        };
        runtime.block_on(run);
    }
    assert!(failed.is_empty(), "{}: {failed:?} of {} cases", store.base, CASES.len());
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn skip(why: &str) {
    eprintln!("SKIP: {why}");
}

#[test]
fn a_directory_is_a_remote() {
    let root = tempfile::tempdir().unwrap();
    let base = format!("file://{}", root.path().display());
    conforms(&Store { base, variables: Variables::new(), kind: Kind::Dir });
}

#[test]
fn s3_is_a_remote() {
    let server = S3Server::start();
    let base = format!("s3://{BUCKET}/pre fix");
    conforms(&Store { base, variables: server.variables(), kind: Kind::S3 });
}

#[test]
fn gcs_is_a_remote() {
    let server = GcsServer::start();
    let base = format!("gs://{BUCKET}/pre");
    conforms(&Store { base, variables: server.variables(), kind: Kind::Gcs });
}

#[test]
fn azure_is_a_remote() {
    match Azurite::start() {
        Ok(server) => {
            let base = format!("az://{BUCKET}/pre");
            conforms(&Store { base, variables: server.variables(), kind: Kind::Azure });
        }
        Err(missing) => skip(&missing),
    }
}

#[test]
fn a_store_of_yours_is_a_remote() {
    let Ok(base) = std::env::var("FSD_TEST_REMOTE") else {
        return skip("FSD_TEST_REMOTE names no store");
    };
    let kind = match base.split("://").next() {
        Some("s3") => Kind::S3,
        Some("gs") => Kind::Gcs,
        Some("az") => Kind::Azure,
        _ => Kind::Dir,
    };
    conforms(&Store { base, variables: std::env::vars().collect(), kind });
}

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
            let put = remote.put(&key, Bytes::new(), &metadata, &Condition::Always).await;
            assert_fails!(put, Denied);
            opened.link.wait_for(|link| *link == Link::Denied).await.unwrap();
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
            let put = opened.remote.put(&key, Bytes::new(), &metadata, &Condition::Always);
            assert_fails!(put.await, Unreachable);
            opened.link.wait_for(|link| *link == Link::Offline).await.unwrap();
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
        assert_eq!(*opened.link.borrow(), Link::Online);

        server.set_online(false);
        assert_fails!(remote.get(&k("x"), 0..1, None).await, Unreachable);
        opened.link.wait_for(|link| *link == Link::Offline).await.unwrap();
        let refused = remote.head(&k("x")).await;
        let Err(RemoteError::Unreachable { source, .. }) = refused else { panic!("{refused:?}") };
        assert!(source.is::<CircuitOpen>(), "{source:?}");

        server.set_online(true);
        opened.link.wait_for(|link| *link == Link::Online).await.unwrap();
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
        server.fail_next(2);
        assert_eq!(part.text("x").await.unwrap(), "1");
        server.fail_next(1);
        let before = server.requests();
        let body = Bytes::from_static(b"2");
        let put = part.remote.put(&k("x"), body, &meta(&[]), &Condition::Always).await;
        assert_fails!(put, Unreachable);
        assert_eq!(server.requests(), before + 1);
        assert_eq!(part.text("x").await.unwrap(), "1");
    });
}

#[test]
fn a_directory_holds_ordinary_files() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let root = tempfile::tempdir().unwrap();
    let base = format!("file://{}", root.path().display());
    let store = Store { base, variables: Variables::new(), kind: Kind::Dir };
    let at = |name: &str| root.path().join("native").join(name);
    runtime().block_on(async {
        let opened = store.open("native");
        let part = Part { store: &store, remote: Arc::clone(&opened.remote) };
        let remote = &part.remote;
        let metadata = meta(&[("mode", "33184"), ("mtime", "1700000000.123456789")]);
        remote.put(&k("f"), Bytes::from_static(b"x"), &metadata, &Condition::Always).await.unwrap();
        let stat = std::fs::metadata(at("f")).unwrap();
        assert_eq!(stat.mode(), 0o100_640);
        assert_eq!((stat.mtime(), stat.mtime_nsec()), (1_700_000_000, 123_456_789));

        // A symbolic link is a file that holds the target: nothing to follow.
        let link = meta(&[("mode", "41471"), ("is_symlink", "true")]);
        let target = Bytes::from_static(b"/etc/passwd");
        remote.put(&k("l"), target, &link, &Condition::Always).await.unwrap();
        assert!(std::fs::symlink_metadata(at("l")).unwrap().is_file());
        assert_eq!(remote.head(&k("l")).await.unwrap().metadata, Some(link));

        // What a crash left of directories that were made for a file makes way; what others put there does not.
        let (none, body) = (meta(&[]), Bytes::from_static(b"x"));
        for key in ["left/below/file", "kept/below/file"] {
            remote.put(&k(key), body.clone(), &none, &Condition::Absent).await.unwrap();
            std::fs::remove_file(at(key)).unwrap();
        }
        assert_fails!(remote.head(&k("left/")).await, NotFound);
        assert!(!part.list("").await.1.contains(&"left/".to_owned()));
        std::fs::create_dir(at("kept/theirs")).unwrap();
        remote.head(&k("kept/")).await.unwrap();
        remote.put(&k("left"), body.clone(), &none, &Condition::Absent).await.unwrap();
        assert!(at("left").is_file());
        assert_fails!(remote.put(&k("kept"), body, &none, &Condition::Absent).await, Occupied);
        assert!(at("kept/theirs").is_dir());
        std::fs::remove_dir_all(at("kept")).unwrap();
        std::fs::remove_file(at("left")).unwrap();

        // What others do to the files counts.
        std::fs::set_permissions(at("f"), std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(at("f"), "another").unwrap();
        let found = remote.head(&k("f")).await.unwrap();
        let told = found.metadata.unwrap();
        assert_eq!(told["mode"], "33152");
        assert_ne!(told["mtime"], "1700000000.123456789");
        std::fs::create_dir(at("theirs")).unwrap();
        std::fs::write(at("theirs/file"), "content").unwrap();
        assert_eq!(part.names("").await, ["f", "l", "theirs/"]);
        let found = remote.head(&k("theirs/file")).await.unwrap();
        assert_eq!(found.metadata.unwrap()["mode"], "33188");
        assert!(remote.head(&k("theirs/")).await.is_ok());

        // Their links and pipes are not ours.
        std::os::unix::fs::symlink("/etc", at("out")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", at("passwd")).unwrap();
        std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        assert_eq!(part.names("").await, ["f", "l", "theirs/"]);
        for key in ["out/passwd", "passwd", "socket", "out/"] {
            assert_fails!(remote.head(&k(key)).await, NotFound);
            assert_fails!(remote.get(&k(key), 0..9, None).await, NotFound);
        }
        let put = remote.put(&k("out/x"), Bytes::new(), &meta(&[]), &Condition::Always).await;
        assert_fails!(put, Occupied);
        assert!(!std::path::Path::new("/etc/x").exists());

        // A file and a directory can't share a name.
        let put = remote.put(&k("f/x"), Bytes::new(), &meta(&[]), &Condition::Always).await;
        assert_fails!(put, Occupied);
        let put = remote.put(&k("theirs"), Bytes::new(), &meta(&[]), &Condition::Always).await;
        assert_fails!(put, Occupied);
        let staged = std::fs::read_dir(at(".fsd-tmp")).unwrap();
        let staged: Vec<_> = staged.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(staged, ["lock"]);
    });
}

#[test]
fn an_unmounted_disk_is_not_an_empty_store() {
    let place = tempfile::tempdir().unwrap();
    let run = |program: &str, args: &[&str]| {
        let path = place.path().to_str().unwrap();
        let done = std::process::Command::new(program).args(args).arg(path).output();
        done.is_ok_and(|done| done.status.success())
    };
    if !run("mount", &["-t", "tmpfs", "tmpfs"]) {
        return skip("mounting needs a right that is not ours");
    }
    let base = format!("file://{}", place.path().display());
    let store = Store { base: base.clone(), variables: Variables::new(), kind: Kind::Dir };
    runtime().block_on(async {
        let opened = store.open_at(&base, &store.variables);
        let part = Part { store: &store, remote: opened.remote };
        part.put("x", "1").await;
        assert!(run("umount", &[]));
        assert_fails!(part.remote.list(&k(""), None).await, NoContainer);
        assert_fails!(part.remote.head(&k("x")).await, NoContainer);
        assert_fails!(part.remote.delete(&k("x"), &Condition::Always).await, NoContainer);
        let put = part.remote.put(&k("x"), Bytes::new(), &meta(&[]), &Condition::Always).await;
        assert_fails!(put, NoContainer);
    });
}

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
                remote.put(&key, body.clone(), &metadata, &Condition::Always).await.unwrap();
                let up = clock.monotonic() - start;
                let got = remote.get(&key, 0..1_000_000, None).await.unwrap();
                let down = clock.monotonic() - start - up;
                assert!(got == body);
                eprintln!("{remote} at {rate}: 1 MB up in {up:?}, down in {down:?}");
            }
            // A pause in the middle of a body, longer than any server waits: then on.
            pacers.up.set_rate("1MB/s".parse().unwrap());
            let (put, ()) = tokio::join!(
                remote.put(&key, body.clone(), &metadata, &Condition::Always),
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
