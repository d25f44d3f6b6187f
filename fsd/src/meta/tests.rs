use std::sync::Arc;

use super::*;
use crate::types::{Attr, ETag, FileKind, Key, Sha256, Time};

struct Fixture {
    meta: Arc<Meta>,
    share: Share,
    _dir: tempfile::TempDir,
}

fn attr(kind: FileKind) -> Attr {
    let time = Time::default();
    let nlink = if kind == FileKind::Dir { 2 } else { 1 };
    Attr {
        kind,
        perm: 0o644,
        uid: 0,
        gid: 0,
        size: 0,
        atime: time,
        mtime: time,
        ctime: time,
        rdev: 0,
        nlink,
    }
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let meta = Arc::new(Meta::open(dir.path()).unwrap());
    let share = meta.write(|tx| tx.add_share("s", "file:///x", attr(FileKind::Dir))).unwrap();
    Fixture { meta, share, _dir: dir }
}

impl Fixture {
    fn make(&self, parent: Ino, name: &str, kind: FileKind) -> Ino {
        let new = NewInode::made_here(self.share.id, attr(kind));
        let name = name.as_bytes().to_vec();
        let create =
            move |tx: &Tx<'_>| tx.create(&mut tx.dir(parent)?, &name, new, Time::default());
        self.meta.write(create).unwrap().ino
    }

    fn rename(&self, from: (Ino, &str), to: (Ino, &str)) -> Result<Replaced, TreeError> {
        let (from, to) = ((from.0, from.1.to_owned()), (to.0, to.1.to_owned()));
        self.meta.write(move |tx| {
            tx.rename((from.0, from.1.as_bytes()), (to.0, to.1.as_bytes()), false, Time::default())
        })
    }

    fn path(&self, ino: Ino) -> Option<String> {
        let path = self.meta.read(|tx| tx.path(ino)).unwrap()?;
        Some(path.iter().map(|n| String::from_utf8_lossy(n)).collect::<Vec<_>>().join("/"))
    }

    fn nlink(&self, ino: Ino) -> u32 {
        self.meta.read(|tx| tx.inode(ino)).unwrap().unwrap().attr.nlink
    }
}

#[test]
fn a_change_that_fails_leaves_nothing_and_its_neighbours_everything() {
    let fixture = fixture();
    let root = fixture.share.root;
    std::thread::scope(|scope| {
        for worker in 0..8 {
            let fixture = &fixture;
            scope.spawn(move || {
                for turn in 0..50 {
                    let name = format!("{worker}-{turn}").into_bytes();
                    let fails = turn % 3 == 0;
                    let changed = fixture.meta.write(move |tx| {
                        tx.add_entry(root, &name, root)?;
                        if fails { Err(TreeError::NotEmpty) } else { Ok(()) }
                    });
                    assert_eq!(changed.is_err(), fails);
                }
            });
        }
    });
    let entries = fixture.meta.read(|tx| tx.entries(root, 0, 1000)).unwrap();
    let kept = (0..50).filter(|turn| turn % 3 != 0).count();
    assert_eq!(entries.len(), 8 * kept);
    assert!(entries.iter().all(|entry| {
        let turn: u32 =
            String::from_utf8_lossy(&entry.name).split_once('-').unwrap().1.parse().unwrap();
        !turn.is_multiple_of(3)
    }));
}

#[test]
fn what_was_committed_is_there_after_opening_again_and_numbers_are_not_reused() {
    let fixture = fixture();
    let root = fixture.share.root;
    let first = fixture.make(root, "a", FileKind::File);
    fixture.meta.write(move |tx| tx.remove_inode(first)).unwrap();
    let again = Meta::open(fixture._dir.path()).unwrap();
    assert_eq!(again.read(|tx| tx.share("s")).unwrap(), Some(fixture.share.clone()));
    assert_eq!(again.read(|tx| tx.inode(first)).unwrap(), None);
    let second = fixture.make(root, "b", FileKind::File);
    assert!(second > first);
}

/// Makes a store of the format 5 of one of this format.
const BACK_TO_5: &str = "DROP TABLE event; DROP TABLE sink; DROP INDEX job_hook; ALTER TABLE arrival DROP COLUMN again; \
     DROP TABLE paused_hook; DROP INDEX job_rank; ALTER TABLE job DROP COLUMN rank; CREATE INDEX job_state ON job (state, due); \
     DROP TABLE verdict;";

#[test]
fn the_format_before_is_brought_up_to_this_one() {
    let fixture = fixture();
    let ino = fixture.make(fixture.share.root, "a", FileKind::File);
    let before = fixture.meta.read(|tx| tx.inode(ino)).unwrap();
    let dir = fixture._dir;
    drop(fixture.meta);
    let connection = rusqlite::Connection::open(dir.path().join("meta.sqlite")).unwrap();
    connection.execute_batch(BACK_TO_5).unwrap();
    connection
        .execute_batch(
            "DROP TABLE alias; DROP TABLE link; DROP TABLE pin; DROP TABLE object_part; DROP TABLE abandoned; \
             ALTER TABLE part DROP COLUMN digest; \
             ALTER TABLE inode DROP COLUMN object_digest; ALTER TABLE inode DROP COLUMN rdev; \
             DROP TABLE conflict; DROP TABLE trash; DROP TABLE kept; ALTER TABLE tombstone DROP COLUMN since; \
             ALTER TABLE tombstone DROP COLUMN code; DROP INDEX item_rank; DROP TABLE paused; DROP TABLE spent; DROP TABLE receipt; ALTER TABLE item DROP COLUMN rank; \
             ALTER TABLE item DROP COLUMN code; ALTER TABLE writing DROP COLUMN published; \
             PRAGMA user_version = 1;",
        )
        .unwrap();
    drop(connection);
    let meta = Meta::open(dir.path()).unwrap();
    assert_eq!(meta.read(|tx| tx.inode(ino)).unwrap(), before);
    assert_eq!(meta.read(|tx| tx.aliases(ino)).unwrap(), []);
}

#[test]
fn an_upload_under_way_in_the_format_before_digests_goes_on() {
    let fixture = fixture();
    let ino = fixture.make(fixture.share.root, "a", FileKind::File);
    let upload = upload(&fixture, ino, "u");
    let part = Part { number: 0, id: "e".into(), digest: Some(Sha256::of(b"x")) };
    let (begun, done) = (upload.clone(), part.clone());
    let store = move |tx: &Tx<'_>| -> Result<()> {
        tx.begin_multipart(&begun)?;
        tx.add_part(ino, "u", &done)
    };
    fixture.meta.write(store).unwrap();
    let dir = fixture._dir;
    drop(fixture.meta);
    let connection = rusqlite::Connection::open(dir.path().join("meta.sqlite")).unwrap();
    connection.execute_batch(BACK_TO_5).unwrap();
    let back = "DROP TABLE object_part; DROP TABLE abandoned; ALTER TABLE part DROP COLUMN digest; \
         ALTER TABLE inode DROP COLUMN object_digest; PRAGMA user_version = 4;";
    connection.execute_batch(back).unwrap();
    drop(connection);
    let meta = Meta::open(dir.path()).unwrap();
    let expected = (upload, vec![Part { digest: None, ..part }]);
    assert_eq!(meta.read(|tx| tx.multipart(ino)).unwrap(), Some(expected));
    meta.write(move |tx| tx.abandon_multipart(ino)).unwrap();
    assert_eq!(meta.read(|tx| tx.abandoned(fixture.share.id)).unwrap().len(), 1);
}

fn upload(fixture: &Fixture, ino: Ino, name: &str) -> Multipart {
    Multipart {
        ino,
        share: fixture.share.id,
        key: Key::from_raw("a"),
        upload: name.into(),
        content: 1,
        size: 9,
        part_bytes: 5,
    }
}

#[test]
fn of_uploads_only_what_is_under_way_belongs_to_a_file_and_all_else_is_given_up() {
    let fixture = fixture();
    let ino = fixture.make(fixture.share.root, "a", FileKind::File);
    let part = Part { number: 0, id: "e".into(), digest: None };
    let begin = |name: &str| {
        let upload = upload(&fixture, ino, name);
        fixture.meta.write(move |tx| tx.begin_multipart(&upload)).unwrap();
    };
    let add = |name: &'static str| {
        let part = part.clone();
        fixture.meta.write(move |tx| tx.add_part(ino, name, &part)).unwrap();
    };
    let parts = || fixture.meta.read(|tx| tx.multipart(ino)).unwrap().map(|(_, parts)| parts);
    let given_up = || {
        let all = fixture.meta.read(|tx| tx.abandoned(fixture.share.id)).unwrap();
        all.into_iter().map(|abandoned| abandoned.upload).collect::<Vec<_>>()
    };
    begin("first");
    add("first");
    assert_eq!(parts(), Some(vec![part.clone()]));
    begin("second");
    add("first");
    assert_eq!(parts(), Some(vec![]), "what comes late is no part of another upload");
    assert_eq!(given_up(), ["first"]);
    fixture.meta.write(move |tx| tx.remove_inode(ino)).unwrap();
    add("second");
    begin("third");
    assert_eq!(parts(), None);
    assert_eq!(given_up(), ["first", "second", "third"]);
    let unknown = fixture.meta.read(|tx| tx.unknown_owners()).unwrap();
    assert_eq!(unknown, [], "nothing that a check takes for a mistake");
}

#[test]
fn a_newer_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(Meta::open(dir.path()).unwrap());
    let connection = rusqlite::Connection::open(dir.path().join("meta.sqlite")).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    let error = Meta::open(dir.path()).unwrap_err();
    assert!(matches!(error, MetaError::NewerFormat { found: 99, .. }), "{error}");
}

#[test]
fn a_rename_moves_counts_links_and_replaces_only_its_like() {
    let fixture = fixture();
    let root = fixture.share.root;
    let dir = fixture.make(root, "dir", FileKind::Dir);
    let below = fixture.make(dir, "below", FileKind::Dir);
    let file = fixture.make(below, "file", FileKind::File);
    assert_eq!((fixture.nlink(root), fixture.nlink(dir)), (3, 3));
    assert!(matches!(fixture.rename((root, "dir"), (below, "x")), Err(TreeError::IntoItself)));
    assert!(matches!(fixture.rename((dir, "below"), (root, "dir")), Err(TreeError::NotEmpty)));
    assert!(matches!(fixture.rename((below, "file"), (root, "dir")), Err(TreeError::IsDir)));
    fixture.rename((dir, "below"), (root, "up")).unwrap();
    assert_eq!(fixture.path(file).as_deref(), Some("up/file"));
    assert_eq!((fixture.nlink(root), fixture.nlink(dir)), (4, 2));
    let other = fixture.make(root, "other", FileKind::File);
    let replaced = fixture.rename((below, "file"), (root, "other")).unwrap();
    assert_eq!(replaced.lost.map(|lost| (lost.file.ino, lost.file.attr.nlink)), Some((other, 0)));
    assert_eq!(fixture.path(file).as_deref(), Some("other"));
    assert_eq!(fixture.path(other), None);
    fixture.rename((root, "up"), (root, "dir")).unwrap();
    assert_eq!(fixture.nlink(root), 3);
}

#[test]
fn a_directory_is_read_in_pages_whatever_comes_and_goes() {
    let fixture = fixture();
    let root = fixture.share.root;
    for number in 0..300 {
        fixture.make(root, &format!("f{number}"), FileKind::File);
    }
    let mut seen = Vec::new();
    let mut at = 0;
    loop {
        let page = fixture.meta.read(|tx| tx.entries(root, at, 7)).unwrap();
        let Some(last) = page.last() else { break };
        at = last.cookie;
        for entry in page {
            seen.push(entry.name.clone());
            fixture.meta.write(move |tx| tx.remove_entry(root, &entry.name)).unwrap();
        }
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 300);
}

#[test]
fn only_what_the_cloud_has_and_nobody_waits_for_may_be_evicted() {
    let fixture = fixture();
    let ino = fixture.make(fixture.share.root, "a", FileKind::File);
    let share = fixture.share.id;
    let may = || fixture.meta.read(|tx| tx.uploaded(ino)).unwrap().is_some();
    assert!(!may(), "it was never uploaded");
    let put = move |content| {
        move |tx: &Tx<'_>| -> Result<()> {
            let mut inode = tx.inode(ino)?.unwrap();
            let etag = Some(crate::types::ETag("e".into()));
            inode.object = Some(ObjectRecord {
                key: Key::from_raw("a"),
                etag,
                content,
                attrs: 0,
                digest: None,
            });
            tx.put_inode(&inode)
        }
    };
    fixture.meta.write(put(7)).unwrap();
    assert!(!may(), "another version was uploaded");
    fixture.meta.write(put(0)).unwrap();
    assert!(may());
    fixture.meta.write(move |tx| tx.differs(ino, share, 0, 0)).unwrap();
    assert!(!may(), "it waits in the queue");
    fixture.meta.write(move |tx| tx.remove_item(ino)).unwrap();
    fixture.meta.write(move |tx| tx.arrived(ino, 0, 0)).unwrap();
    assert!(!may(), "hooks have not seen it");
    fixture.meta.write(move |tx| tx.end_arrival(ino, 0)).unwrap();
    let stamp = Stamp { size: 0, mtime: Time::default(), ctime: Time::default(), young: false };
    fixture.meta.write(move |tx| tx.begin_writing(ino, &stamp)).unwrap();
    assert!(!may(), "somebody writes");
    fixture.meta.write(move |tx| tx.end_writing(ino)).unwrap();
    assert!(may());
}

#[test]
fn what_waits_follows_a_clock_that_is_set_back() {
    let fixture = fixture();
    let (share, root) = (fixture.share.id, fixture.share.root);
    let [soon, late] = ["soon", "late"].map(|name| fixture.make(root, name, FileKind::File));
    let due = |ino| fixture.meta.read(|tx| tx.item(ino)).unwrap().unwrap().due;
    fixture
        .meta
        .write(move |tx| -> Result<()> {
            tx.differs(soon, share, 900_000, 901_000)?;
            tx.differs(late, share, 900_000, 950_000)?;
            tx.hasten_by(890_000, 10_000)
        })
        .unwrap();
    assert_eq!((due(soon), due(late)), (11_000, 60_000));
    fixture.meta.write(|tx| tx.hasten_to(30_000)).unwrap();
    assert_eq!((due(soon), due(late)), (11_000, 30_000));
}

#[test]
fn a_file_whose_object_is_gone_goes_on_with_what_the_cloud_has_of_its_other_name() {
    let fixture = fixture();
    let (root, share) = (fixture.share.root, fixture.share.id);
    let ino = fixture.make(root, "a", FileKind::File);
    fixture
        .meta
        .write(move |tx| -> Result<(), TreeError> {
            let file = tx.link(ino, (root, b"b"), Time::default())?;
            let alias = tx.lookup(root, b"b")?.unwrap();
            for (ino, key) in [(ino, "a"), (alias, "b")] {
                let mut inode = tx.inode(ino)?.unwrap();
                inode.object = Some(ObjectRecord {
                    key: Key::from_raw(key),
                    etag: Some(ETag(key.into())),
                    content: file.content,
                    attrs: file.attrs,
                    digest: None,
                });
                tx.put_inode(&inode)?;
                // The other one is on its way elsewhere.
                tx.differs(ino, share, 0, 0)?;
            }
            let left = tx.lose(ino, Time::default())?.unwrap();
            assert_eq!(left.object.map(|object| object.key), Some(Key::from_raw("b")));
            assert_eq!((tx.lookup(root, b"a")?, tx.lookup(root, b"b")?), (None, Some(ino)));
            assert!(tx.item(ino)?.is_some() && tx.inode(alias)?.is_none());
            tx.attempt(ino, share, &Key::from_raw("c"))?;
            assert!(tx.lose(ino, Time::default())?.is_none());
            assert!(tx.inode(ino)?.is_none() && tx.lookup(root, b"b")?.is_none());
            assert!(tx.tombstone(share, &Key::from_raw("c"))?.is_some(), "it may be there");
            Ok(())
        })
        .unwrap();
}
