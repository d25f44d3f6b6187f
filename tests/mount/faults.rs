//! A store that answers wrongly for a while: nothing is lost, and nothing waits for a person afterwards.

use anyhow::{Context as _, Result, ensure};
use fsd_tests::drive::Drive;
use fsd_tests::files::{content, noise, same, tree};
use fsd_tests::servers::Fault;
use fsd_tests::store::{Store, on_s3};

/// With so many requests something goes wrong each time.
const REQUESTS: usize = 5;

fn goes_on_after(store: &Store, faults: &[Fault]) -> Result<()> {
    let server = store.server().context("a server")?;
    let mut drive = Drive::over(store)?.with(&["--bwlimit-down", "1GiB/s"]).started()?;
    let write = |drive: &Drive, name: &str, version: u64| -> Result<()> {
        Ok(std::fs::write(drive.path(name), content(name, version, 3000))?)
    };
    for (round, fault) in faults.iter().enumerate() {
        for n in 0..6 {
            write(&drive, &format!("r{round}-{n}"), 1)?;
        }
        std::fs::write(drive.path(&format!("r{round}-large")), noise(1, 9 << 20))?;
        drive.wait()?;
        server.fail_next(*fault, REQUESTS);
        write(&drive, &format!("r{round}-new"), 1)?;
        write(&drive, &format!("r{round}-0"), 2)?;
        std::fs::rename(
            drive.path(&format!("r{round}-1")),
            drive.path(&format!("r{round}-renamed")),
        )?;
        std::fs::write(drive.path(&format!("r{round}-large")), noise(2, 9 << 20))?;
        if round % 3 == 1 {
            drive.crash()?;
        }
        std::os::unix::fs::chown(drive.path(&format!("r{round}-2")), Some(3), None)?;
        std::fs::remove_file(drive.path(&format!("r{round}-3")))?;
        drive.wait().with_context(|| format!("{fault:?}"))?;
        server.fail_next(*fault, 0);
        let what = format!("the store after {fault:?}");
        same(&what, &store.files()?, &tree(&drive.mount())?)?;
        let large = std::fs::read(drive.path(&format!("r{round}-large")))?;
        ensure!(large == noise(2, 9 << 20), "{what}: a large file is not what it was");
        let said = drive.run(&["verify"])?;
        ensure!(said.status.success(), "{what}: {}", String::from_utf8_lossy(&said.stdout));
    }
    let names = tree(&drive.mount())?;
    ensure!(names.len() == faults.len() * 7, "{:?}", names.keys());
    Ok(())
}

#[test]
fn a_store_that_fails_or_loses_answers_loses_nothing_of_ours() -> Result<()> {
    on_s3(|store| {
        goes_on_after(
            store,
            &[
                Fault::Status(500, "InternalError"),
                Fault::Status(503, "SlowDown"),
                Fault::Status(429, ""),
                Fault::Status(409, "OperationAborted"),
                Fault::Reset,
                Fault::LostAnswer,
                Fault::HalfAnswer,
            ],
        )
    })
}

#[test]
fn a_store_that_refuses_for_a_while_loses_nothing_of_ours() -> Result<()> {
    on_s3(|store| {
        goes_on_after(
            store,
            &[
                Fault::Status(403, "AccessDenied"),
                Fault::Status(403, "RequestTimeTooSkewed"),
                Fault::Status(412, "PreconditionFailed"),
            ],
        )
    })
}

#[test]
fn a_store_that_says_or_gets_something_else_loses_nothing_of_ours() -> Result<()> {
    on_s3(|store| goes_on_after(store, &[Fault::OtherVersion, Fault::ShortAnswer, Fault::Damaged]))
}

#[test]
fn a_condition_that_is_refused_though_it_holds_is_no_conflict() -> Result<()> {
    on_s3(|store| {
        let server = store.server().context("a server")?;
        let drive = Drive::over(store)?.started()?;
        let file = drive.path("a");
        std::fs::write(&file, content("a", 1, 3000))?;
        drive.wait()?;
        let refused = || server.fail_next(Fault::Status(412, "PreconditionFailed"), 1);
        refused();
        std::fs::write(&file, content("a", 2, 3000))?;
        drive.wait()?;
        same("the store", &store.files()?, &tree(&drive.mount())?)?;
        refused();
        std::os::unix::fs::chown(&file, Some(3), None)?;
        drive.wait()?;
        ensure!(
            std::os::unix::fs::MetadataExt::uid(&file.metadata()?) == 3,
            "the attribute is gone"
        );
        let said = drive.run(&["conflicts"])?;
        ensure!(said.stdout.is_empty(), "{}", String::from_utf8_lossy(&said.stdout));
        ensure!(tree(&drive.mount())?.keys().eq(["a"]), "a conflict");
        refused();
        std::fs::remove_file(&file)?;
        drive.wait()?;
        ensure!(store.files()?.is_empty(), "what was deleted is there");
        Ok(())
    })
}
