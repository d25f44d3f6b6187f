//! Objects, markers, keys, conditions, listings.

use bytes::Bytes;
use fsd::remote::{Condition, Link, Object, RemoteError};
use fsd::types::ETag;

use crate::store::{Kind, Part, assert_fails, k, meta};

pub(crate) async fn what_was_put_is_read_back_with_its_metadata(part: Part<'_>) {
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
    let etag = remote
        .put(&k("a/b/c.txt"), body.clone().into(), &metadata, &Condition::Always)
        .await
        .unwrap();
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

pub(crate) async fn metadata_is_replaced_by_a_put_and_kept_by_nothing_else(part: Part<'_>) {
    let remote = &part.remote;
    let metadata = meta(&[("color", "red")]);
    remote.put(&k("x"), Bytes::new().into(), &metadata, &Condition::Always).await.unwrap();
    let put =
        remote.put(&k("x"), Bytes::new().into(), &meta(&[]), &Condition::Always).await.unwrap();
    let object = remote.head(&k("x")).await.unwrap();
    assert_eq!((object.size, object.etag), (0, put));
    assert_eq!(object.metadata, Some(meta(&[])));
    if part.store.kind != Kind::Dir {
        let not_ascii = meta(&[("name", "ä")]);
        let put = remote.put(&k("y"), Bytes::new().into(), &not_ascii, &Condition::Always).await;
        assert_fails!(put, Rejected);
        assert_fails!(remote.head(&k("y")).await, NotFound);
    }
}

pub(crate) async fn a_range_ends_where_the_object_ends(part: Part<'_>) {
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

pub(crate) async fn a_missing_object_is_not_found(part: Part<'_>) {
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

pub(crate) async fn a_put_happens_only_if_its_condition_holds(part: Part<'_>) {
    let put = async |body: &'static str, condition| {
        part.remote
            .put(&k("x"), Bytes::from_static(body.as_bytes()).into(), &meta(&[]), &condition)
            .await
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

pub(crate) async fn a_delete_happens_only_if_its_condition_holds(part: Part<'_>) {
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

pub(crate) async fn a_get_fails_if_the_version_is_another(part: Part<'_>) {
    let (remote, key) = (&part.remote, k("x"));
    let old = part.put("x", "old").await;
    let new = part.put("x", "newer").await;
    assert_eq!(remote.get(&key, 0..3, Some(&new)).await.unwrap(), "new");
    for range in [0..3, 3..9, 9..12, 0..0] {
        assert_fails!(remote.get(&key, range.clone(), Some(&old)).await, Precondition);
    }
    assert_eq!(remote.get(&key, 9..12, Some(&new)).await.unwrap(), "");
}

pub(crate) async fn a_directory_has_a_marker_of_its_own(part: Part<'_>) {
    let (remote, dir) = (&part.remote, k("dir/"));
    let metadata = meta(&[("mode", "16872"), ("mtime", "1700000000.25")]);
    let etag = remote.put(&dir, Bytes::new().into(), &metadata, &Condition::Absent).await.unwrap();
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
        remote.put(&dir, Bytes::new().into(), &metadata, &Condition::Absent).await,
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

pub(crate) async fn a_marker_is_not_listed_beside_its_directory(part: Part<'_>) {
    let remote = &part.remote;
    for dir in ["empty/", "full/", "full/below/"] {
        remote.put(&k(dir), Bytes::new().into(), &meta(&[]), &Condition::Always).await.unwrap();
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

pub(crate) async fn a_file_and_a_directory_of_one_name_do_not_replace_each_other(part: Part<'_>) {
    let (remote, none) = (&part.remote, meta(&[]));
    let both = matches!(part.store.kind, Kind::S3 | Kind::Gcs);
    let check = |written: Result<ETag, RemoteError>| match written {
        Ok(_) => assert!(both),
        Err(error) => assert!(!both && matches!(error, RemoteError::Occupied { .. }), "{error:?}"),
    };
    part.put("file", "content").await;
    let marked = meta(&[("mode", "16832")]);
    remote.put(&k("dir/"), Bytes::new().into(), &marked, &Condition::Always).await.unwrap();
    for condition in [Condition::Always, Condition::Absent] {
        check(remote.put(&k("file/"), Bytes::new().into(), &none, &condition).await);
        remote.delete(&k("file/"), &Condition::Always).await.unwrap();
        assert_eq!(part.text("file").await.unwrap(), "content");
        check(remote.put(&k("dir"), Bytes::from_static(b"x").into(), &none, &condition).await);
        remote.delete(&k("dir"), &Condition::Always).await.unwrap();
    }
    let file = remote.head(&k("file")).await.unwrap().etag;
    check(remote.copy(&k("file"), &file, &k("dir"), &none, &Condition::Always).await);
    assert_eq!(remote.head(&k("dir/")).await.unwrap().metadata.unwrap()["mode"], "16832");
}

pub(crate) async fn metadata_in_a_listing_is_the_objects(part: Part<'_>) {
    let given = [
        meta(&[]),
        meta(&[("mode", "33188"), ("mtime", "1600000000.123456789")]),
        meta(&[("odd", "<a> & \"b\" 'c'  d %41 &lt; \\"), ("empty_no", "x")]),
    ];
    for (n, metadata) in given.iter().enumerate() {
        let (key, body) = (k(&format!("m{n}")), Bytes::from_static(b"x"));
        part.remote.put(&key, body.into(), metadata, &Condition::Always).await.unwrap();
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

pub(crate) async fn a_level_is_listed_page_by_page(part: Part<'_>) {
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

pub(crate) async fn odd_keys_are_themselves_or_refused(part: Part<'_>) {
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

pub(crate) async fn hostile_keys_are_refused(part: Part<'_>) {
    let everywhere = ["", "..", "../x", "a/../../x", "a/./b", "./a", "a/.."];
    let in_a_directory = ["/etc/passwd", "a//b", ".fsd-tmp/x", ".fsd-tmp/", "a\0b"];
    let more = if part.store.kind == Kind::Dir { &in_a_directory[..] } else { &[] };
    for key in everywhere.iter().chain(more) {
        let (remote, key) = (&part.remote, k(key));
        let put = remote.put(&key, Bytes::new().into(), &meta(&[]), &Condition::Always).await;
        assert_fails!(put, Rejected);
        assert_fails!(remote.get(&key, 0..1, None).await, Rejected);
        assert_fails!(remote.head(&key).await, Rejected);
        assert_fails!(remote.delete(&key, &Condition::Always).await, Rejected);
    }
}

pub(crate) async fn a_copy_has_the_metadata_given(part: Part<'_>) {
    let remote = &part.remote;
    let metadata = meta(&[("color", "red"), ("mtime", "1700000000")]);
    let body = Bytes::from_static(b"content");
    let old = meta(&[("color", "blue"), ("size", "small")]);
    let (from, to) = (k("from #1"), k("to/here"));
    let source = remote.put(&from, body.clone().into(), &old, &Condition::Always).await.unwrap();
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

pub(crate) async fn metadata_changes_alone(part: Part<'_>) {
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

pub(crate) async fn a_missing_container_is_not_an_empty_one(part: Part<'_>) {
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
        assert_fails!(
            fresh().put(&key, Bytes::new().into(), &empty, &condition).await,
            NoContainer
        );
    }
    let mut opened = store.open_at(&store.elsewhere(), &store.variables);
    assert_fails!(opened.remote.head(&key).await, NoContainer);
    opened.link.wait_for(|now| now.link == Link::NoContainer).await.unwrap();
}
