//! Thousands of files go at once.

use anyhow::{Context as _, Result, ensure};
use fsd_tests::drive::Drive;
use fsd_tests::files::{content, run};
use fsd_tests::proxy::Network;
use fsd_tests::store::on_s3;
use fsd_tests::until;

#[test]
fn a_tree_that_is_removed_takes_few_requests_and_what_others_changed_stays() -> Result<()> {
    const DIRS: usize = 3;
    const FILES: usize = 500;
    on_s3(|store| {
        let (proxy, variables) = store.behind_a_proxy()?;
        let drive = Drive::over(store)?.with_variables(variables).started()?;
        for dir in 0..DIRS {
            std::fs::create_dir_all(drive.path(&format!("tree/d{dir}")))?;
            for file in 0..FILES {
                let name = format!("tree/d{dir}/f {file}");
                std::fs::write(drive.path(&name), content(&name, 1, 10))?;
            }
        }
        drive.wait()?;
        ensure!(store.files()?.len() == DIRS * FILES, "all are there");
        for dir in 0..DIRS {
            ensure!(drive.path(&format!("tree/d{dir}")).read_dir()?.count() == FILES, "listed");
        }
        // What nobody here has seen.
        proxy.set(Network::Refusing);
        store.put("tree/d1/f 7", b"theirs")?;
        let before = store.requests().context("a server")?;
        let tree = drive.path("tree");
        run(std::process::Command::new("rm").arg("-rf").arg(&tree))?;
        proxy.set(Network::Up);
        drive.wait()?;
        let requests = store.requests().context("a server")? - before;
        let left: Vec<_> = store.files()?.into_iter().collect();
        ensure!(left == [("tree/d1/f 7".to_owned(), b"theirs".to_vec())], "{left:?}");
        ensure!(requests < 200, "{requests} requests for {} objects", DIRS * FILES);
        until("it is seen again", || {
            Ok(std::fs::read(drive.path("tree/d1/f 7")).is_ok_and(|body| body == b"theirs"))
        })
    })
}

#[test]
fn what_the_rule_keeps_is_not_deleted_with_many_others() -> Result<()> {
    const FILES: usize = 40;
    for rule in ["keep", "trash"] {
        on_s3(|store| {
            let drive = Drive::over(store)?.with(&["-o", &format!("deletes={rule}")]).started()?;
            std::fs::create_dir(drive.path("tree"))?;
            for file in 0..FILES {
                let name = format!("tree/{file}");
                std::fs::write(drive.path(&name), content(&name, 1, 10))?;
            }
            drive.wait()?;
            std::fs::remove_dir_all(drive.path("tree"))?;
            drive.wait()?;
            let trash = drive.json(&["trash", "list"])?;
            let thrown = trash.as_array().map_or(0, Vec::len);
            // The directory goes there too.
            let expected = if rule == "keep" { (FILES, 0) } else { (0, FILES + 1) };
            let kept = store.files()?.into_keys().filter(|key| key.starts_with("tree/")).count();
            let found = (kept, thrown);
            ensure!(found == expected, "{rule}: {found:?} are there and in the trash");
            Ok(())
        })?;
    }
    Ok(())
}
