//! How each drive is served.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::kind::Kind;
use super::programs::Programs;
use crate::bench::store::BUCKET;

/// For a store that checks no signatures.
const KEY: &str = "fsd-bench-key";

/// The directories and addresses that a drive is served with.
#[derive(Clone, Debug)]
pub(super) struct Places {
    pub(super) mount: PathBuf,
    pub(super) cache: PathBuf,
    /// What the floor shows.
    pub(super) below: PathBuf,
    /// Host and port of the store, and of a database.
    pub(super) store: String,
    pub(super) database: String,
}

impl Places {
    /// For showing a command.
    fn named() -> Self {
        Self {
            mount: "DIR".into(),
            cache: "CACHE".into(),
            below: "BELOW".into(),
            store: "STORE".into(),
            database: "REDIS".into(),
        }
    }
}

/// How its drive is served, with names for the directories.
pub(in crate::bench) fn shown(kind: Kind, programs: &Programs) -> Option<String> {
    let command = serving(kind, programs, &Places::named())?;
    let program = Path::new(command.get_program()).file_name()?.to_string_lossy().into_owned();
    let words = command.get_args().map(|word| word.to_string_lossy().into_owned());
    Some([program].into_iter().chain(words).collect::<Vec<_>>().join(" "))
}

/// The command that serves the drive in the foreground.
pub(super) fn serving(kind: Kind, programs: &Programs, places: &Places) -> Option<Command> {
    let Places { mount, cache, below, store, .. } = places;
    let mut command = Command::new(programs.path(kind));
    match kind {
        Kind::Disk | Kind::Store => return None,
        Kind::Floor => {
            let source = format!("source={},cache=always,timeout=86400", below.display());
            command.args(["-f", "-o", &source]).arg(mount);
        }
        Kind::Fsd => {
            command.arg("mount").arg(format!("s3://{BUCKET}")).arg(mount);
            command.arg("--cache-dir").arg(cache);
        }
        // Uploads begin as soon after a close as ours. Nobody else writes to the store, as its manual wants it for fast
        // fingerprints.
        Kind::Rclone(mode) => {
            command.arg("mount").arg(format!("store:{BUCKET}")).arg(mount);
            command.arg("--cache-dir").arg(cache);
            command.args(["--vfs-write-back", "1s", "--vfs-fast-fingerprint"]);
            command.args(["--vfs-cache-mode", &mode.to_string()]);
        }
        Kind::JuiceFs => {
            command.args(["mount", "--writeback", "--no-usage-report", "--cache-dir"]).arg(cache);
            command.arg(database(places)).arg(mount);
        }
        Kind::S3fs => {
            command.arg(BUCKET).arg(mount).args(["-f", "-o", "use_path_request_style"]);
            command.args(["-o", &format!("url=http://{store}")]);
            command.args(["-o", &format!("use_cache={}", cache.display())]);
            command.args(["-o", "max_stat_cache_size=200000,parallel_count=16"]);
        }
    }
    set_environment(&mut command, places);
    Some(command)
}

/// What makes a new JuiceFS.
pub(super) fn formatting(programs: &Programs, places: &Places) -> Command {
    let mut command = Command::new(programs.path(Kind::JuiceFs));
    command.args(["format", "--storage", "s3", "--trash-days", "0", "--no-update", "--bucket"]);
    command.arg(format!("http://{}/{BUCKET}", places.store));
    command.args(["--access-key", KEY, "--secret-key", KEY]);
    command.arg(database(places)).arg("bench");
    set_environment(&mut command, places);
    command
}

fn database(places: &Places) -> String {
    format!("redis://{}/1", places.database)
}

/// No settings of this machine: neither ours nor a peer's.
fn set_environment(command: &mut Command, places: &Places) {
    let endpoint = format!("http://{}", places.store);
    let variables = [
        ("AWS_ACCESS_KEY_ID", KEY),
        ("AWS_SECRET_ACCESS_KEY", KEY),
        ("AWSACCESSKEYID", KEY),
        ("AWSSECRETACCESSKEY", KEY),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ENDPOINT_URL", &endpoint),
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("RCLONE_CONFIG", ""),
        ("RCLONE_CONFIG_STORE_TYPE", "s3"),
        ("RCLONE_CONFIG_STORE_PROVIDER", "Other"),
        ("RCLONE_CONFIG_STORE_ENDPOINT", &endpoint),
        ("RCLONE_CONFIG_STORE_ACCESS_KEY_ID", KEY),
        ("RCLONE_CONFIG_STORE_SECRET_ACCESS_KEY", KEY),
        ("RCLONE_CONFIG_STORE_NO_CHECK_BUCKET", "true"),
    ];
    command.envs(variables).env_remove("AWS_PROFILE").env_remove("AWS_SESSION_TOKEN");
    for proxy in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        command.env_remove(proxy);
    }
}
