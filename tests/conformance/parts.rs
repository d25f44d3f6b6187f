//! Uploads in parts.

use bytes::Bytes;
use fsd::remote::{Condition, PartId, Remote, RemoteError, Source};
use fsd::types::{ETag, Key, Metadata, Sha256};

use crate::store::{Kind, Part, assert_fails, k, meta};

/// Parts that any store takes: all but the last of the smallest size.
pub(crate) fn parts_of(remote: &dyn Remote) -> Vec<Bytes> {
    let size = usize::try_from(remote.limits().part_bytes_min).unwrap().max(70_000);
    let part = |fill: u8| (0..=250).map(|b| b ^ fill).cycle().take(size).collect();
    vec![part(1), part(2), Bytes::from_static(b"the end")]
}

pub(crate) async fn upload(
    part: &Part<'_>,
    key: &Key,
    metadata: &Metadata,
) -> (fsd::remote::UploadId, Vec<PartId>) {
    let remote = &part.remote;
    let id = remote.multipart_create(key, metadata).await.unwrap();
    let mut done = vec![None; 3];
    for (number, body) in [(2, 2), (0, 1), (1, 1), (0, 0)] {
        let body = parts_of(&**remote)[body].clone().into();
        let sent = remote.multipart_put(key, &id, number, body).await.unwrap();
        done[usize::try_from(number).unwrap()] = Some(sent);
    }
    (id, done.into_iter().map(Option::unwrap).collect())
}

pub(crate) async fn parts_make_an_object_when_completed(part: Part<'_>) {
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

pub(crate) async fn parts_of_an_upload_that_was_given_up_stand_in_nobodys_way(part: Part<'_>) {
    let remote = &part.remote;
    let (metadata, body) = (meta(&[("color", "red")]), Bytes::from_static(b"new"));
    let etag = remote.put(&k("from"), body.clone().into(), &metadata, &Condition::Absent).await;
    let etag = etag.unwrap();
    for (name, copies) in [("put", false), ("copied", true), ("dir/", false)] {
        let key = k(name);
        let body = if key.is_dir() { Bytes::new() } else { body.clone() };
        // A directory's marker may be the same blob as a file.
        let file = k(name.trim_end_matches('/'));
        let (id, _) = upload(&part, &file, &meta(&[])).await;
        remote.multipart_abort(&file, &id).await.unwrap();
        let sent = match copies {
            true => remote.copy(&k("from"), &etag, &key, &metadata, &Condition::Absent).await,
            false => remote.put(&key, body.clone().into(), &metadata, &Condition::Absent).await,
        };
        let sent = sent.unwrap();
        let found = remote.head(&key).await.unwrap();
        assert_eq!((found.etag, found.metadata.as_ref()), (sent, Some(&metadata)), "{name}");
        assert_eq!(found.size, body.len() as u64, "{name}");
        if !key.is_dir() {
            assert_eq!(remote.get(&key, 0..99, None).await.unwrap(), body, "{name}");
        }
        let again = remote.put(&key, body.clone().into(), &metadata, &Condition::Absent).await;
        assert_fails!(again, Precondition);
    }
}

pub(crate) async fn completing_again_finds_what_was_made(part: Part<'_>) {
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

pub(crate) async fn completing_keeps_to_its_condition(part: Part<'_>) {
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

/// Parts of the object in place become parts of its next version; only what changed is sent.
pub(crate) async fn parts_of_the_version_before_are_used_again(part: Part<'_>) {
    let (remote, key) = (&part.remote, k("changed"));
    let before = meta(&[("mtime", "1700000000.5")]);
    let (id, parts) = upload(&part, &key, &before).await;
    let complete = remote.multipart_complete(&key, &id, &parts, &before, &Condition::Absent);
    let etag = complete.await.unwrap();
    let bodies = parts_of(&**remote);

    let after = meta(&[("mtime", "1700000001.5")]);
    let size = bodies[0].len() as u64;
    let source = |number: u64, etag: &ETag| Source {
        key: key.clone(),
        etag: etag.clone(),
        range: number * size..number * size + bodies[usize::try_from(number).unwrap()].len() as u64,
        part: Some(parts[usize::try_from(number).unwrap()].clone()),
        sha256: Some(Sha256::of(&bodies[usize::try_from(number).unwrap()])),
    };
    let id = remote.multipart_create(&key, &after).await.unwrap();
    let first = remote.multipart_copy(&key, &id, 0, &source(0, &etag)).await;
    if part.store.kind == Kind::Gcs {
        // Google's interface has no such thing.
        assert_fails!(first, Unsupported);
        return;
    }
    let changed = bodies[2].clone();
    let sent = remote.multipart_put(&key, &id, 1, bodies[0].clone().into()).await.unwrap();
    let last = remote.multipart_copy(&key, &id, 2, &source(2, &etag)).await.unwrap();
    let parts = [first.unwrap(), sent, last];
    let condition = Condition::Match(etag.clone());
    let new = remote.multipart_complete(&key, &id, &parts, &after, &condition).await.unwrap();
    let whole = [bodies[0].clone(), bodies[0].clone(), changed].concat();
    assert!(remote.get(&key, 0..1 << 30, Some(&new)).await.unwrap() == whole);
    assert_eq!(remote.head(&key).await.unwrap().metadata, Some(after.clone()));

    // Of another version nothing is taken.
    part.put("changed", "by somebody else").await;
    let id = remote.multipart_create(&key, &after).await.unwrap();
    let copied = match remote.multipart_copy(&key, &id, 0, &source(0, &new)).await {
        Ok(copied) => {
            let condition = Condition::Match(new);
            remote.multipart_complete(&key, &id, &[copied], &after, &condition).await.map(drop)
        }
        refused => refused.map(drop),
    };
    assert_fails!(copied, Precondition);
    assert_eq!(part.text("changed").await.unwrap(), "by somebody else");
}
