//! Whole trees in and out, by the programs that people use.

use std::path::Path;

use anyhow::{Result, ensure};
use fsd_tests::drive::Drive;
use fsd_tests::files::{same, shell, tree};
use fsd_tests::store::{Store, on_a_dir, on_azure, on_each_store};
use tempfile::TempDir;

/// A tree with all that an object can't carry by itself.
fn make_source(dir: &Path) -> Result<()> {
    shell(
        dir,
        "mkdir -p source/deep/er source/empty source/private
         cd source
         seq 1 1000 > deep/numbers; head -c 300000 /dev/urandom > deep/er/large; : > nothing
         printf x > 'with space ü'; cp deep/numbers tool; chmod 0755 tool; chmod 0600 'with space ü'
         chmod 0700 private; chmod 2770 empty; chown 1234:4321 deep/numbers private
         ln -s deep/numbers link; ln -s /nowhere dangling; chown -h 11:22 dangling
         setfattr -n user.colour -v blue nothing; setfattr -n user.bytes -v 0x00ff0a deep
         for i in $(seq 1 200); do echo $i > deep/er/f$i; done
         touch -d '2001-02-03 04:05:06.123456789' deep/numbers
         touch -h -d '1999-12-31 23:59:59.999999999' link
         touch -d '1969-07-20 20:17:40.5' tool
         touch -d '2020-01-01 00:00:00.000000001' empty deep/er deep private",
    )?;
    Ok(())
}

/// What rsync would still change.
fn left(from: &Path, to: &Path) -> Result<String> {
    let line = format!("rsync -naHAXi --checksum --delete {}/ {}/", from.display(), to.display());
    shell(Path::new("/"), &line)
}

#[test]
fn a_tree_comes_back_as_it_was_also_on_another_machine() -> Result<()> {
    on_each_store(|store| {
        let here = TempDir::new()?;
        make_source(here.path())?;
        let source = here.path().join("source");
        let drive = Drive::mounted(store)?;
        shell(here.path(), &format!("cp -a source {}/", drive.mount().display()))?;
        let there = drive.path("source");
        ensure!(left(&source, &there)?.is_empty(), "cp -a: {}", left(&source, &there)?);
        let again = format!("rsync -aHAXi {}/ {}/", source.display(), there.display());
        let again = shell(here.path(), &again)?;
        ensure!(again.is_empty(), "a second rsync finds work: {again}");
        drive.wait()?;
        let expected = tree(here.path())?;
        same("the store", &store.files()?, &expected)?;
        let fresh = Drive::mounted(store)?;
        let there = fresh.path("source");
        ensure!(left(&source, &there)?.is_empty(), "a fresh mount: {}", left(&source, &there)?);
        let back = TempDir::new()?;
        shell(back.path(), &format!("cp -a {} back", there.display()))?;
        let back = left(&source, &back.path().join("back"))?;
        ensure!(back.is_empty(), "back: {back}");
        let queue = fresh.json(&["queue"])?;
        ensure!(queue["totals"]["items"] == 0, "reading changes nothing: {queue}");
        Ok(())
    })
}

fn git_repository(dir: &Path) -> Result<()> {
    shell(
        dir,
        "git init -q repo && cd repo
         git config user.email a@b; git config user.name n; git config gc.auto 0
         mkdir -p src/a/b; for i in $(seq 1 150); do seq $i $((i * 7)) > src/a/f$i; done
         git add . && git commit -qm one
         for i in $(seq 1 50); do echo more >> src/a/f$i; done; git mv src/a/f99 src/a/b/f99
         git commit -qam two; git tag v1; git gc -q",
    )?;
    Ok(())
}

#[test]
fn git_clones_commits_and_finds_nothing_wrong() -> Result<()> {
    on_a_dir(|store| {
        let here = TempDir::new()?;
        git_repository(here.path())?;
        let mut drive = Drive::mounted(store)?;
        let origin = here.path().join("repo");
        shell(&drive.mount(), &format!("git clone -q {} clone", origin.display()))?;
        let clean = "git -c safe.directory=* fsck --full --strict 2>&1 | grep -v 'dangling\\|Checking' || true
                     git status --porcelain";
        let said = shell(&drive.path("clone"), clean)?;
        ensure!(said.is_empty(), "{said}");
        shell(
            &drive.path("clone"),
            "git config user.email a@b; git config user.name n
             git checkout -q -b work; for i in $(seq 1 20); do echo x >> src/a/f$i; git commit -qam $i; done
             git rebase -q --onto HEAD~10 HEAD~5 || git rebase --abort; git gc -q --aggressive",
        )?;
        let said = shell(&drive.path("clone"), clean)?;
        ensure!(said.is_empty(), "after work: {said}");
        drive.wait()?;
        same("the store", &store.files()?, &tree(&drive.mount())?)?;
        drive.restart()?;
        let said = shell(&drive.path("clone"), clean)?;
        ensure!(said.is_empty(), "after a restart: {said}");
        let fresh = Drive::mounted(store)?;
        // The index knows inode numbers and ctimes, which are others on another machine.
        let said = shell(&fresh.path("clone"), &format!("git status -s; {clean}"))?;
        ensure!(said.is_empty(), "on a fresh mount: {said}");
        Ok(())
    })
}

#[test]
fn a_tar_archive_unpacks_to_what_was_packed() -> Result<()> {
    on_azure(|store| {
        let here = TempDir::new()?;
        make_source(here.path())?;
        shell(here.path(), "tar cf source.tar source && tar czf source.tgz source")?;
        let drive = Drive::mounted(store)?;
        shell(here.path(), &format!("cp source.tar source.tgz {}/", drive.mount().display()))?;
        shell(
            &drive.mount(),
            "tar xf source.tar && tar cf again.tar source && tar xzf source.tgz",
        )?;
        shell(
            here.path(),
            &format!("diff -r --no-dereference source {}/source", drive.mount().display()),
        )?;
        drive.wait()?;
        same("the store", &store.files()?, &tree(&drive.mount())?)
    })
}

/// Works in a database, and tells what is in it then.
const DATABASE: &str = r#"
import sqlite3, sys
path, mode = sys.argv[1:]
db = sqlite3.connect(path, isolation_level=None)
assert db.execute(f"pragma journal_mode={mode}").fetchone()[0] == mode, "the mode is refused"
db.execute("create table if not exists t (k integer primary key, v blob)")
for round in range(20):
    db.execute("begin")
    db.executemany("insert into t (v) values (?)", [(bytes([round]) * 500,) for _ in range(100)])
    db.execute("delete from t where k % 7 = ?", (round % 7,))
    db.execute("commit" if round % 3 else "rollback")
db.execute("vacuum")
assert db.execute("pragma integrity_check").fetchone()[0] == "ok"
print(db.execute("select count(*), sum(k) from t").fetchone())
db.close()
"#;

#[test]
fn a_database_works_in_every_journal_mode() -> Result<()> {
    on_a_dir(|store| {
        let here = TempDir::new()?;
        std::fs::write(here.path().join("work.py"), DATABASE)?;
        let mut drive = Drive::mounted(store)?;
        for mode in ["delete", "truncate", "wal"] {
            let work = |path: &Path| {
                let line = format!("python3 work.py {} {mode}", path.join(mode).display());
                shell(here.path(), &line)
            };
            ensure!(work(&drive.mount())? == work(here.path())?, "{mode}");
        }
        drive.wait()?;
        drive.restart()?;
        let found = shell(
            &drive.mount(),
            "for db in delete truncate wal; do sqlite3 $db 'pragma integrity_check; select count(*) from t'; done",
        )?;
        let expected = shell(
            here.path(),
            "for db in delete truncate wal; do sqlite3 $db 'pragma integrity_check; select count(*) from t'; done",
        )?;
        ensure!(found == expected, "{found} for {expected}");
        drive.wait()?;
        same("the store", &store.files()?, &tree(&drive.mount())?)
    })
}

fn save_as_editors_do(drive: &Drive, text: &str) -> Result<()> {
    use std::io::Write as _;
    let (temporary, name) = (drive.path(".letter.swp"), drive.path("letter"));
    let mut file = std::fs::File::create_new(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    drop(file);
    std::fs::rename(temporary, name)?;
    std::fs::File::open(drive.mount())?.sync_all()?;
    Ok(())
}

#[test]
fn a_file_saved_by_rename_is_one_object_with_the_new_content() -> Result<()> {
    on_each_store(|store: &Store| {
        let drive = Drive::mounted(store)?;
        for version in 0..4 {
            let text = format!("version {version}");
            save_as_editors_do(&drive, &text)?;
            if version % 2 == 0 {
                drive.wait()?;
                let expected = [("letter".to_owned(), text.into_bytes())].into();
                same("the store", &store.files()?, &expected)?;
            }
        }
        drive.wait()?;
        same("the store", &store.files()?, &[("letter".into(), b"version 3".to_vec())].into())
    })
}
