//! Containers by the machine's own runtime: podman and docker for images that they know by name, runc for a root folder.
//! Nothing is fetched: an image is there, or its hook can't run.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{fs, io};

use serde_json::{Value, json};

use super::child::Started;
use super::contract::{HOOK, INPUT, INPUT_JSON, OUTPUT};
use super::folder::RunFolder;
use crate::client::JobError;
use crate::hook::{Container, Image, Limits, Runtime};

/// Where the programs of runtimes are.
const FOLDERS: &[&str] = &["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"];
/// The file in the folder of a run that says what ends its container.
const END: &str = "end.json";
const OPEN_FILES_MAX: u64 = 256;
const CGROUPS: &str = "/sys/fs/cgroup";
/// Below the root of each hierarchy.
const OUR_CGROUP: &str = "fsd-hooks";

type Variables = Vec<(String, OsString)>;

/// Whether this machine can run a container hook.
pub(super) fn check(container: &Container) -> Result<(), JobError> {
    runtime(container).map(drop)
}

/// A container hook as what is to be started.
pub(super) fn start(
    container: &Container,
    limits: Limits,
    folder: &RunFolder,
    variables: Variables,
) -> Result<Started, JobError> {
    let program = runtime(container)?;
    let user = folder.user().unwrap_or_else(|| nix::unistd::Uid::effective().as_raw());
    let name = name_of(folder.path());
    let (command, end) = match &container.image {
        Image::Root(root) => {
            let config = config(container, limits, (root, folder.path(), user), &name, &variables);
            let text = config.to_string();
            fs::write(folder.path().join("config.json"), text).map_err(JobError::start)?;
            (runc(&program, folder.path(), &name), no_cgroups(&name))
        }
        Image::Named(image) => {
            let mut line = arguments(container, limits, (folder.path(), user), &name, variables);
            line.push(image.into());
            line.extend(container.command.iter().map(OsString::from));
            let mut command = Command::new(&program);
            command.args(line);
            let program = program.display().to_string();
            (command, [&program, "rm", "--force", &name].map(str::to_owned).into())
        }
    };
    let text = json!(end).to_string();
    fs::write(folder.path().join(END), text).map_err(JobError::start)?;
    Ok(Started { command, end: command_of(&end) })
}

/// Ends the container of a run that an earlier daemon left, if it left one.
pub(super) fn end_left_over(folder: &Path) {
    let Ok(text) = fs::read(folder.join(END)) else { return };
    let words: Vec<String> = serde_json::from_slice(&text).unwrap_or_default();
    if let Some(mut command) = command_of(&words) {
        // A runtime that is gone has no containers either.
        let _ = quiet(&mut command);
    }
}

fn command_of(words: &[String]) -> Option<Command> {
    let (program, arguments) = words.split_first()?;
    let mut command = Command::new(program);
    command.args(arguments);
    Some(command)
}

fn quiet(command: &mut Command) -> io::Result<bool> {
    let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().map(|status| status.success())
}

/// Folders of runs are unlike, also those of several gateways.
fn name_of(folder: &Path) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, folder.as_os_str().as_encoded_bytes());
    let hex: String = digest.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("fsd-hook-{hex}")
}

/// The runtime that runs a hook here.
fn runtime(container: &Container) -> Result<PathBuf, JobError> {
    let none = |why: String| Err(JobError::NoEngine(why));
    let of_names = [("podman", Runtime::Podman), ("docker", Runtime::Docker)];
    let wanted: Vec<&str> = match (&container.image, container.runtime) {
        (Image::Root(root), _) if !root.is_dir() => {
            let root = root.display();
            let why = format!("container.image: there is no folder {root} on this machine");
            return Err(JobError::HookBroken(why));
        }
        (Image::Root(_), _) if !nix::unistd::Uid::effective().is_root() => {
            return none(
                "runc runs a root folder as root only: run fsd as root, or use podman".to_owned(),
            );
        }
        (Image::Root(_), _) => vec!["runc"],
        (Image::Named(_), Runtime::Auto) => of_names.iter().map(|(name, _)| *name).collect(),
        (Image::Named(_), asked) => {
            of_names.iter().filter(|(_, it)| *it == asked).map(|(name, _)| *name).collect()
        }
    };
    let there =
        wanted.iter().flat_map(|name| FOLDERS.iter().map(move |at| Path::new(at).join(name)));
    let there: Vec<_> = there.filter(|path| path.exists()).collect();
    if there.is_empty() {
        return none(format!("no container runtime is here: install {}", wanted.join(" or ")));
    }
    let mut silent = Vec::new();
    for program in there {
        match quiet(Command::new(&program).arg(if program.ends_with("runc") {
            "--version"
        } else {
            "info"
        })) {
            Ok(true) => return Ok(program),
            Ok(false) | Err(_) => silent.push(program.display().to_string()),
        }
    }
    none(format!("{} does not answer: is its daemon running?", silent.join(" or ")))
}

/// The command line of podman or docker, up to the image.
fn arguments(
    container: &Container,
    limits: Limits,
    (folder, user): (&Path, u32),
    name: &str,
    variables: Variables,
) -> Vec<OsString> {
    let bounds = &container.bounds;
    let (memory, output) = (limits.memory_bytes_max, bounds.output_bytes_max);
    let network = if bounds.network { "host" } else { "none" };
    let mut line: Vec<OsString> = [
        "run",
        "--rm",
        "--pull=never",
        "--read-only",
        "--cap-drop=all",
        "--security-opt=no-new-privileges",
    ]
    .map(OsString::from)
    .into();
    for option in [
        format!("--name={name}"),
        format!("--network={network}"),
        format!("--user={user}:{user}"),
        format!("--workdir={OUTPUT}"),
        format!("--memory={memory}"),
        format!("--memory-swap={memory}"),
        format!("--pids-limit={}", bounds.processes_max),
        format!("--ulimit=cpu={0}:{0}", bounds.cpu_seconds_max),
        format!("--ulimit=fsize={output}:{output}"),
        format!("--ulimit=nofile={OPEN_FILES_MAX}:{OPEN_FILES_MAX}"),
        "--ulimit=core=0:0".to_owned(),
        format!("--shm-size={output}"),
        format!("--tmpfs=/tmp:size={output}"),
    ] {
        line.push(option.into());
    }
    for (source, target, read_only) in shown(folder) {
        let mut mount = OsString::from("--mount=type=bind,source=");
        mount.push(source);
        mount.push(format!(",destination={target}{}", if read_only { ",readonly" } else { "" }));
        line.push(mount);
    }
    for (name, value) in variables {
        let mut variable = OsString::from(format!("--env={name}="));
        variable.push(value);
        line.push(variable);
    }
    line
}

/// What a container sees of a run: the source, the place, and whether it can't write there.
fn shown(folder: &Path) -> [(PathBuf, &'static str, bool); 4] {
    let at = |name| folder.join(name);
    [
        (at("hook"), HOOK, true),
        (at("input"), INPUT, true),
        (at("input.json"), INPUT_JSON, true),
        (at("output"), OUTPUT, false),
    ]
}

/// Runc in a namespace of processes of its own, which ends with us: what runc starts would outlive it otherwise.
fn runc(program: &Path, folder: &Path, name: &str) -> Command {
    let mut command = Command::new("/usr/bin/setpriv");
    command.args(["--pdeathsig", "KILL", "--", "/usr/bin/unshare", "--fork", "--pid"]);
    command.args(["--kill-child=KILL", "--mount-proc", "--"]).arg(program);
    command.arg("--root").arg(folder.join("state")).args(["run", "--bundle"]).arg(folder).arg(name);
    command
}

/// What removes the control groups of a container of runc that was killed; those of one that ended are gone.
fn no_cgroups(name: &str) -> Vec<String> {
    let group = format!("*/{OUR_CGROUP}/{name}");
    // One level less where there is one hierarchy only.
    let words = [
        "find",
        CGROUPS,
        "-mindepth",
        "2",
        "-maxdepth",
        "3",
        "-type",
        "d",
        "-path",
        &group,
        "-delete",
    ];
    words.map(str::to_owned).into()
}

/// The bundle of runc: see the OCI runtime specification.
fn config(
    container: &Container,
    limits: Limits,
    (root, folder, user): (&Path, &Path, u32),
    name: &str,
    variables: &Variables,
) -> Value {
    let bounds = &container.bounds;
    let (memory, output) = (limits.memory_bytes_max, bounds.output_bytes_max);
    let environment = variables.iter().map(|(name, value)| {
        // JSON holds no other bytes; the variables of a sandbox have them as they are.
        format!("{name}={}", value.to_string_lossy())
    });
    let rlimit = |kind: &str, most: u64| json!({ "type": kind, "soft": most, "hard": most });
    let tmpfs = |place: &str| {
        let size = format!("size={output}");
        let options = ["nosuid", "nodev", "mode=1777", &size];
        json!({ "destination": place, "type": "tmpfs", "source": "tmpfs", "options": options })
    };
    let bind = |(source, place, read_only): (PathBuf, &str, bool)| {
        let access = if read_only { "ro" } else { "rw" };
        let options = ["bind", "nosuid", "nodev", access];
        json!({ "destination": place, "type": "none", "source": source, "options": options })
    };
    let dev = json!({ "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
        "options": ["nosuid", "noexec", "strictatime", "mode=755", "size=65536k"] });
    let proc = json!({ "destination": "/proc", "type": "proc", "source": "proc" });
    let mounts = [proc, dev, tmpfs("/dev/shm"), tmpfs("/tmp")];
    let mounts: Vec<_> = mounts.into_iter().chain(shown(folder).map(bind)).collect();
    let namespaces = ["pid", "ipc", "uts", "mount", "cgroup", "network"];
    let namespaces = namespaces.iter().filter(|kind| **kind != "network" || !bounds.network);
    let namespaces: Vec<_> = namespaces.map(|kind| json!({ "type": kind })).collect();
    json!({
        "ociVersion": "1.0.2",
        "root": { "path": root, "readonly": true },
        "hostname": "fsd-hook",
        "process": {
            "terminal": false,
            "user": { "uid": user, "gid": user },
            "args": container.command,
            "env": environment.collect::<Vec<_>>(),
            "cwd": OUTPUT,
            "noNewPrivileges": true,
            "capabilities": {},
            "rlimits": [
                rlimit("RLIMIT_CORE", 0),
                rlimit("RLIMIT_CPU", bounds.cpu_seconds_max),
                rlimit("RLIMIT_FSIZE", output),
                rlimit("RLIMIT_NOFILE", OPEN_FILES_MAX),
            ],
        },
        "mounts": mounts,
        "linux": {
            "namespaces": namespaces,
            "cgroupsPath": format!("/{OUR_CGROUP}/{name}"),
            "resources": {
                "devices": [{ "allow": false, "access": "rwm" }],
                "memory": { "limit": memory, "swap": memory },
                "pids": { "limit": bounds.processes_max },
            },
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/sched_debug", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::hook::Bounds;

    const LIMITS: Limits =
        Limits { run_max: Duration::from_secs(1), memory_bytes_max: 1_000_000, retries_max: 0 };

    fn container(network: bool) -> Container {
        let bounds = Bounds::small(network);
        let (image, runtime) = (Image::Named("tool:1".to_owned()), Runtime::Auto);
        Container { image, runtime, command: vec!["/bin/tool".to_owned()], bounds }
    }

    fn variables() -> Variables {
        vec![("FSD_HOOK".to_owned(), "lines".into())]
    }

    #[test]
    fn podman_and_docker_are_told_every_limit_and_fetch_nothing() {
        let line = |network| {
            let place = (Path::new("/run/x"), 65_534);
            let words = arguments(&container(network), LIMITS, place, "fsd-hook-1", variables());
            words.join(" ".as_ref()).into_string().unwrap()
        };
        let closed = line(false);
        for words in [
            "run --rm --pull=never --read-only --cap-drop=all --security-opt=no-new-privileges",
            "--network=none --user=65534:65534",
            "--memory=1000000 --memory-swap=1000000 --pids-limit=8",
            "--mount=type=bind,source=/run/x/input,destination=/input,readonly",
            "--mount=type=bind,source=/run/x/output,destination=/output --env=FSD_HOOK=lines",
        ] {
            assert!(closed.contains(words), "{words}: {closed}");
        }
        assert!(line(true).contains("--network=host"));
    }

    #[test]
    fn a_bundle_has_no_capabilities_and_one_place_to_write() {
        let bundle = |network| {
            let place = (Path::new("/image"), Path::new("/run/x"), 65_534);
            config(&container(network), LIMITS, place, "fsd-hook-1", &variables())
        };
        let closed = bundle(false);
        assert_eq!(closed["process"]["capabilities"], json!({}));
        assert_eq!(closed["root"], json!({ "path": "/image", "readonly": true }));
        assert_eq!(closed["linux"]["resources"]["pids"]["limit"], 8);
        assert_eq!(closed["linux"]["resources"]["memory"]["limit"], 1_000_000);
        let mounts = closed["mounts"].as_array().unwrap().iter();
        let is_writable =
            |mount: &&Value| mount["options"].as_array().is_some_and(|o| o.contains(&json!("rw")));
        let writable: Vec<_> = mounts.filter(is_writable).map(|m| &m["destination"]).collect();
        assert_eq!(writable, [OUTPUT]);
        let has_network =
            |config: &Value| config["linux"]["namespaces"].to_string().contains("network");
        assert!(has_network(&closed) && !has_network(&bundle(true)));
    }
}
