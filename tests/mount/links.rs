//! Hard links: several names of one file.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;

use anyhow::{Result, ensure};
use fsd_tests::drive::Drive;
use fsd_tests::files::same;
use fsd_tests::store::on_each_store;

use crate::elsewhere::look_anew;
use crate::posix::errno;

#[test]
fn a_file_with_several_names_is_one_file_here_and_an_object_under_each_name_there() -> Result<()> {
    on_each_store(|store| {
        let mut drive = Drive::mounted(store)?;
        let path = |name: &str| drive.path(name);
        let file = |name: &str| drive.path(name).metadata();
        std::fs::write(path("a"), b"one")?;
        std::fs::create_dir(path("dir"))?;
        std::fs::hard_link(path("a"), path("dir/b"))?;
        std::fs::hard_link(path("dir/b"), path("c"))?;
        ensure!(
            errno(std::fs::hard_link(path("a"), path("c"))) == Some(libc::EEXIST),
            "it is taken"
        );
        ensure!(
            errno(std::fs::hard_link(path("dir"), path("d"))) == Some(libc::EPERM),
            "a directory"
        );
        ensure!(file("a")?.nlink() == 3 && file("a")?.ino() == file("dir/b")?.ino(), "one file");
        OpenOptions::new().append(true).open(path("dir/b"))?.write_all(b" two")?;
        ensure!(std::fs::read(path("c"))? == b"one two", "written under another name");
        // POSIX: a rename of a file over itself does nothing.
        std::fs::rename(path("a"), path("c"))?;
        ensure!(file("a")?.nlink() == 3, "both names stay");
        drive.wait()?;
        for name in ["a", "dir/b", "c"] {
            ensure!(store.get(name)?.as_deref() == Some(b"one two"), "{name} in the store");
        }
        let fresh = Drive::mounted(store)?;
        let ino = fresh.path("c").metadata()?.ino();
        for name in ["a", "dir/b", "c"] {
            let found = fresh.path(name).metadata()?;
            ensure!(std::fs::read(fresh.path(name))? == b"one two", "{name} on a fresh mount");
            ensure!(found.ino() == ino, "{name} on a fresh mount: {found:?}");
        }
        ensure!(fresh.path("a").metadata()?.nlink() == 3, "its names are counted");
        std::fs::write(fresh.path("a"), b"from a fresh mount")?;
        ensure!(std::fs::read(fresh.path("c"))? == b"from a fresh mount", "still one file");
        fresh.wait()?;
        ensure!(store.get("dir/b")?.as_deref() == Some(b"from a fresh mount"), "in the store");
        drop(fresh);

        look_anew(&mut drive)?;
        let path = |name: &str| drive.path(name);
        ensure!(path("").read_dir()?.count() + path("dir").read_dir()?.count() == 4, "all names");
        ensure!(std::fs::read(path("a"))? == b"from a fresh mount", "a change from elsewhere");
        // The first name goes, then another one moves.
        std::fs::remove_file(path("a"))?;
        std::fs::rename(path("c"), path("dir/c"))?;
        std::fs::write(path("dir/c"), b"three")?;
        ensure!(std::fs::read(path("dir/b"))? == b"three", "still one file");
        drive.wait()?;
        let expected = ["dir/b", "dir/c"].map(|name| (name.to_owned(), b"three".to_vec()));
        same("the store", &store.files()?, &expected.into())?;
        std::fs::remove_file(path("dir/b"))?;
        ensure!(path("dir/c").metadata()?.nlink() == 1, "one name is left");
        drive.wait()?;
        same("the store", &store.files()?, &[("dir/c".into(), b"three".to_vec())].into())
    })
}
