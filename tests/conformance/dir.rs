//! A directory as a store.

use std::sync::Arc;

use bytes::Bytes;
use fsd::remote::{Condition, RemoteError};
use fsd_tests::servers::Variables;

use crate::store::{Kind, Part, Store, assert_fails, k, meta, runtime, skip};

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
        remote
            .put(&k("f"), Bytes::from_static(b"x").into(), &metadata, &Condition::Always)
            .await
            .unwrap();
        let stat = std::fs::metadata(at("f")).unwrap();
        assert_eq!(stat.mode(), 0o100_640);
        assert_eq!((stat.mtime(), stat.mtime_nsec()), (1_700_000_000, 123_456_789));

        // A symbolic link is a file that holds the target: nothing to follow.
        let link = meta(&[("mode", "41471"), ("is_symlink", "true")]);
        let target = Bytes::from_static(b"/etc/passwd");
        remote.put(&k("l"), target.into(), &link, &Condition::Always).await.unwrap();
        assert!(std::fs::symlink_metadata(at("l")).unwrap().is_file());
        assert_eq!(remote.head(&k("l")).await.unwrap().metadata, Some(link));

        // What a crash left of directories that were made for a file makes way; what others put there does not.
        let (none, body) = (meta(&[]), Bytes::from_static(b"x"));
        for key in ["left/below/file", "kept/below/file"] {
            remote.put(&k(key), body.clone().into(), &none, &Condition::Absent).await.unwrap();
            std::fs::remove_file(at(key)).unwrap();
        }
        assert_fails!(remote.head(&k("left/")).await, NotFound);
        assert!(!part.list("").await.1.contains(&"left/".to_owned()));
        std::fs::create_dir(at("kept/theirs")).unwrap();
        remote.head(&k("kept/")).await.unwrap();
        remote.put(&k("left"), body.clone().into(), &none, &Condition::Absent).await.unwrap();
        assert!(at("left").is_file());
        assert_fails!(
            remote.put(&k("kept"), body.into(), &none, &Condition::Absent).await,
            Occupied
        );
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
        let put =
            remote.put(&k("out/x"), Bytes::new().into(), &meta(&[]), &Condition::Always).await;
        assert_fails!(put, Occupied);
        assert!(!std::path::Path::new("/etc/x").exists());

        // A file and a directory can't share a name.
        let put = remote.put(&k("f/x"), Bytes::new().into(), &meta(&[]), &Condition::Always).await;
        assert_fails!(put, Occupied);
        let put =
            remote.put(&k("theirs"), Bytes::new().into(), &meta(&[]), &Condition::Always).await;
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
        let put =
            part.remote.put(&k("x"), Bytes::new().into(), &meta(&[]), &Condition::Always).await;
        assert_fails!(put, NoContainer);
    });
}
