use std::sync::Mutex;

use clap::CommandFactory;

use super::super::api::types::WaitProgress;
use super::super::tests::{Scripted, Served};
use super::*;
use crate::config::StoreConfig;

/// A program that only notes what it was to run.
#[derive(Default)]
struct Noting(Mutex<Vec<Config>>);

impl Program for Noting {
    fn serve(&self, start: Start) -> anyhow::Result<()> {
        self.0.lock().unwrap().push(start.config);
        Ok(())
    }

    fn hook_worker(&self) -> anyhow::Result<()> {
        anyhow::bail!("no hooks here")
    }
}

/// Runs a command line, with daemons looked for in `run` in `dir`.
fn command(line: &[&str], dir: &Path, program: &Noting) -> Outcome {
    let run = dir.join("run");
    let dir = run.to_str().unwrap();
    let vars: Vars =
        [("FSD_RUNTIME_DIR", dir), ("HOME", "/home/me"), ("XDG_STATE_HOME", "/home/me/state")]
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
    let arguments = as_commands(line.iter().map(OsString::from).collect());
    let cli = Cli::try_parse_from(&arguments)
        .map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
    let context = Context { vars: &vars, program, arguments: arguments[1..].to_vec() };
    dispatch(&cli.command, &context)
}

/// Runs a command line while the test's daemons answer.
async fn ask(line: &[&str], dir: &Path) -> Outcome {
    let line: Vec<String> = line.iter().map(|&word| word.to_owned()).collect();
    let dir = dir.to_owned();
    tokio::task::spawn_blocking(move || {
        let line: Vec<&str> = line.iter().map(String::as_str).collect();
        command(&line, &dir, &Noting::default())
    })
    .await
    .unwrap()
}

fn failure(outcome: Outcome) -> (Exit, String) {
    let failure = outcome.unwrap_err();
    (failure.exit, failure.to_string())
}

/// The configuration that a mount command asks for.
fn mounted(line: &[&str]) -> Config {
    let dir = tempfile::tempdir().unwrap();
    let program = Noting::default();
    command(line, dir.path(), &program).unwrap_or_else(|failure| panic!("{failure}"));
    program.0.into_inner().unwrap().remove(0)
}

#[test]
fn the_commands_fit_together() {
    Cli::command().debug_assert();
}

#[test]
fn a_mount_is_a_configuration_with_one_share() {
    let temp = tempfile::tempdir().unwrap();
    let (dir, hooks) = (temp.path().join("mnt"), temp.path().join("hooks"));
    for path in [&dir, &hooks.join("a"), &hooks.join("b")] {
        std::fs::create_dir_all(path).unwrap();
    }
    for hook in ["a", "b"] {
        std::fs::write(hooks.join(hook).join("hook.toml"), "").unwrap();
    }
    let (dir, hooks) = (dir.to_str().unwrap(), hooks.to_str().unwrap());
    let by_flags = mounted(&[
        "fsd",
        "mount",
        "s3://box/in/cam 1/",
        dir,
        "--cache-dir",
        "/srv/fsd",
        "--cache-size",
        "1GiB",
        "--read-only",
        "--allow-other",
        "--hooks",
        hooks,
        "--bwlimit-up",
        "64kbit",
    ]);
    let share = &by_flags.shares[0];
    assert_eq!((share.name.as_str(), share.mount.to_str()), ("cam-1", Some(dir)));
    assert_eq!(share.store, StoreConfig::Cloud { url: "s3://box/in/cam 1".parse().unwrap() });
    assert!(share.read_only && share.allow_other);
    assert_eq!(by_flags.cache.disk_bytes_max, 1 << 30);
    assert_eq!(by_flags.upload, "64kbit".parse::<policies::Rate>().unwrap().into());
    let dirs: Vec<_> =
        by_flags.hooks.iter().map(|hook| hook.dir.strip_prefix(hooks).unwrap()).collect();
    assert_eq!(dirs, [Path::new("a"), Path::new("b")]);

    let options = format!(
        "rw,ro,nofail,_netdev,x-systemd.automount,allow_other,cache_dir=/srv/fsd,cache_size=1GiB,hooks={hooks},bwlimit_up=64kbit"
    );
    let by_options =
        mounted(&["fsd", "mount", "fsd#s3://box/in/cam 1/", dir, "-o", &options, "-v", "-n"]);
    assert_eq!(by_options, by_flags);
    // What mount(8) makes of `users`.
    let by_users =
        mounted(&["fsd", "mount", "s3://box", dir, "-o", "rw,noexec,nosuid,nodev,users"]);
    assert!(by_users.shares[0].no_exec && !by_flags.shares[0].no_exec);
}

#[test]
fn the_state_of_a_url_is_always_in_the_same_place() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().to_str().unwrap();
    let state_dir = |url| mounted(&["fsd", "mount", url, dir]).state_dir;
    let place = state_dir("s3://box/a/b");
    assert_eq!(place, state_dir("s3://box/a/b/"));
    assert_ne!(place, state_dir("s3://box/a-b"));
    assert_eq!(place.file_name().unwrap(), "b-a2d1793bf3607273");
}

#[test]
fn mount_helpers_are_understood() {
    let words = |line: &[&str]| {
        let line = as_commands(line.iter().map(OsString::from).collect());
        line.into_iter().map(|word| word.into_string().unwrap()).collect::<Vec<_>>()
    };
    let expected = ["fsd", "mount", "--daemon", "s3://box", "/mnt", "-o", "rw,dev"];
    assert_eq!(words(&["/sbin/mount.fuse.fsd", "s3://box", "/mnt", "-o", "rw,dev"]), expected);
    assert_eq!(words(&["fsd", "s3://box", "/mnt", "-o", "rw,dev"]), expected);
    assert_eq!(words(&["/usr/bin/fsd", "status"]), ["/usr/bin/fsd", "status"]);
    assert_eq!(words(&[]), ["fsd"]);
}

#[test]
fn a_wrong_mount_is_explained_in_its_own_words() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().to_str().unwrap();
    let cases: &[(&[&str], &str)] = &[
        (&["http://x", dir], "fsd: URL is \"http://x\": a remote is az://container/prefix"),
        (
            &["s3://box", dir, "--cache-size", "1KiB"],
            "fsd: --cache-size is \"1KiB\": the smallest useful cache",
        ),
        (&["s3://box", dir, "--bwlimit-down", "x"], "fsd: --bwlimit-down is \"x\": a number"),
        (
            &["s3://box", dir, "-o", "lazytime"],
            "fsd: there is no option \"lazytime\"\nhint: options are ro",
        ),
        (
            &["s3://box", "/no/such/dir"],
            "fsd: /no/such/dir does not exist\nhint: make it with `mkdir -p /no/such/dir`",
        ),
        (&["s3://box", dir, "--hooks", dir], "has a hook.toml"),
        (&["s3://box", dir, "--cache-dir", dir], "fsd: DIR is"),
        (&["s3://box"], "required arguments were not provided"),
    ];
    for (line, says) in cases {
        let line = [&["fsd", "mount"], *line].concat();
        let (exit, text) = failure(command(&line, temp.path(), &Noting::default()));
        assert_eq!(exit, Exit::Usage, "{line:?}");
        assert!(text.contains(says), "{line:?}: {text}");
    }
}

#[test]
fn a_configuration_file_is_run_or_explained() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("fsd.toml");
    let line = ["fsd", "run", "-c", path.to_str().unwrap()];
    std::fs::write(&path, crate::config::EXAMPLE).unwrap();
    assert_eq!(mounted(&line).shares.len(), 2);
    command(&["fsd", "config", "check", line[3]], temp.path(), &Noting::default()).unwrap();
    std::fs::write(&path, "state_dir = \"here\"\n").unwrap();
    for line in [line, ["fsd", "config", "check", line[3]]] {
        let (exit, text) = failure(command(&line, temp.path(), &Noting::default()));
        assert_eq!(exit, Exit::Config);
        assert!(
            text.contains("fsd.toml has 2 mistakes") && text.contains("hint: `fsd config example`"),
            "{text}"
        );
    }
}

#[test]
fn without_a_daemon_commands_say_so() {
    let temp = tempfile::tempdir().unwrap();
    for line in [&["fsd", "status"][..], &["fsd", "wait"], &["fsd", "umount", "/mnt"]] {
        let (exit, text) = failure(command(line, temp.path(), &Noting::default()));
        assert_eq!(exit, Exit::NoDaemon);
        assert!(
            text.starts_with("fsd: no fsd is running for this user\nhint: start one"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn the_daemon_is_found_by_a_path_in_its_mount() {
    let one = Served::new(Scripted::new(&["/mnt/one"], Vec::new()));
    let dir = one.dir.path().to_owned();
    assert!(ask(&["fsd", "queue"], &dir).await.is_ok());
    let other_dir = tempfile::tempdir().unwrap();
    // The second daemon's socket stands beside the first's.
    let two = Served::in_dir(other_dir, 8, Scripted::new(&["/mnt/two"], Vec::new()));
    std::os::unix::fs::symlink(two.dir.path().join("run/8.sock"), dir.join("run/8.sock")).unwrap();
    let (exit, text) = failure(ask(&["fsd", "queue"], &dir).await);
    assert_eq!(exit, Exit::Usage);
    assert!(
        text.contains("2 daemons are running, with /mnt/one, /mnt/two\nhint: say which"),
        "{text}"
    );
    assert!(ask(&["fsd", "queue", "--mount", "/mnt/two", "--limit", "7"], &dir).await.is_ok());
    assert!(ask(&["fsd", "wait", "/mnt/two/x"], &dir).await.is_ok());
    assert_eq!(two.asked(), ["queue 7", "wait Some(\"/mnt/two/x\")"]);
    let (exit, text) = failure(ask(&["fsd", "wait", "/mnt/twofold"], &dir).await);
    assert_eq!(
        (exit, text.lines().next().unwrap()),
        (Exit::NoDaemon, "fsd: /mnt/twofold is in no mount of fsd")
    );
}

#[tokio::test]
async fn waiting_ends_when_all_is_uploaded_or_nothing_else_can_be() {
    let left = |items, parked| WaitProgress { items, bytes: 10 * items, parked, blocked: None };
    let served = Served::new(Scripted::new(&["/mnt/a"], vec![left(2, 0), left(1, 0)]));
    assert!(ask(&["fsd", "wait"], served.dir.path()).await.is_ok());
    assert_eq!(served.asked().len(), 3);

    let served = Served::new(Scripted::new(&["/mnt/a"], vec![left(2, 1), left(1, 1)]));
    let (exit, text) = failure(ask(&["fsd", "wait", "--json"], served.dir.path()).await);
    assert_eq!((exit, served.asked().len()), (Exit::Unfinished, 2));
    assert!(text.contains("1 item waits for a person"), "{text}");

    let blocked = WaitProgress { blocked: Some("offline".to_owned()), ..left(2, 0) };
    let served = Served::new(Scripted::new(&["/mnt/a"], vec![blocked; 100_000]));
    let (exit, text) = failure(ask(&["fsd", "wait", "--timeout", "50ms"], served.dir.path()).await);
    assert_eq!(exit, Exit::Unfinished);
    assert!(text.contains("2 items, 20 B are still to be uploaded: offline"), "{text}");
}

#[tokio::test]
async fn a_mount_is_taken_away_after_its_uploads() {
    let served = Served::new(Scripted::new(&["/mnt/a", "/mnt/busy"], Vec::new()));
    let dir = served.dir.path().to_owned();
    let (exit, text) = failure(ask(&["fsd", "umount", "/mnt/busy"], &dir).await);
    assert_eq!(
        (exit, text.as_str()),
        (Exit::Busy, "fsd: /mnt/busy is in use\nhint: close what uses it, and try again\n")
    );
    let (exit, _) = failure(ask(&["fsd", "umount", "/mnt/a/inner"], &dir).await);
    assert_eq!(exit, Exit::Usage);
    assert!(ask(&["fsd", "umount", "--wait", "/mnt/a"], &dir).await.is_ok());
    assert_eq!(served.asked(), ["unmount /mnt/busy", "wait Some(\"/mnt/a\")", "unmount /mnt/a"]);
}

#[tokio::test]
async fn hooks_are_shown_and_tried_again() {
    let served = Served::new(Scripted::new(&["/mnt/a"], Vec::new()));
    let dir = served.dir.path();
    assert!(ask(&["fsd", "status"], dir).await.is_ok());
    assert!(ask(&["fsd", "hooks", "list"], dir).await.is_ok());
    assert!(ask(&["fsd", "hooks", "jobs", "--state", "parked", "--json"], dir).await.is_ok());
    assert!(ask(&["fsd", "hooks", "retry", "--all"], dir).await.is_ok());
    assert_eq!(failure(ask(&["fsd", "hooks", "jobs", "--hook", "x"], dir).await).0, Exit::NotFound);
    assert_eq!(failure(ask(&["fsd", "hooks", "retry", "9"], dir).await).0, Exit::NotFound);
    assert_eq!(failure(ask(&["fsd", "hooks", "retry"], dir).await).0, Exit::Usage);
    assert_eq!(failure(ask(&["fsd", "hooks", "results", "/mnt/a/x"], dir).await).0, Exit::NotFound);
}
