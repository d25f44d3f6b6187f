//! The command line of bubblewrap: what a sandbox shows, and what it takes away. Pure, but for [`check`].

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{self, Stdio};

use super::child::Started;
use super::contract::{HOOK, INPUT, INPUT_JSON, OUTPUT};
use super::folder::RunFolder;
use crate::client::JobError;
use crate::hook::{Command, Limits, Program};

const BUBBLEWRAP: &str = "/usr/bin/bwrap";
/// Of util-linux; it is run within the sandbox, where limits count its processes alone.
const PRLIMIT: &str = "/usr/bin/prlimit";

/// What programs need to run, as far as the host has it.
const SHOWN: &[&str] = &[
    "/bin",
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/pki",
    "/etc/ssl",
    "/lib",
    "/lib32",
    "/lib64",
    "/sbin",
    "/usr",
];
/// What they need to find others in the network.
const SHOWN_WITH_NETWORK: &[&str] =
    &["/etc/gai.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/resolv.conf", "/etc/services"];
/// What every program is without.
const TAKEN: [&str; 10] = [
    "--unshare-all",
    "--unshare-user",
    "--disable-userns",
    "--die-with-parent",
    "--new-session",
    "--hostname",
    "fsd-hook",
    "--cap-drop",
    "ALL",
    "--clearenv",
];
const OPEN_FILES_MAX: u32 = 256;

/// Whether this machine can run a command hook.
pub(super) fn check(command: &Command) -> Result<(), JobError> {
    for (tool, package) in [(BUBBLEWRAP, "bubblewrap"), (PRLIMIT, "util-linux")] {
        if !Path::new(tool).exists() {
            let why = format!("{tool}, which holds programs in, is not here: install {package}");
            return Err(JobError::NoEngine(why));
        }
    }
    match &command.program {
        Program::OfHost(path) if !path.exists() => {
            let path = path.display();
            Err(JobError::HookBroken(format!("command.program: {path} is not on this machine")))
        }
        Program::OfHost(_) | Program::OfHook(_) => Ok(()),
    }
}

/// Whether this machine lets bubblewrap make a sandbox: some forbid users their own namespaces.
pub(super) fn try_it(user: Option<u32>) -> Result<(), JobError> {
    let mut line = Line(Vec::new());
    line.add(TAKEN);
    show(&mut line, SHOWN);
    line.add(["--proc", "/proc", "--", "/usr/bin/true"]);
    let mut command = bubblewrap(user);
    let output = command.args(line.0).stdin(Stdio::null()).output().map_err(JobError::start)?;
    if output.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&output.stderr);
    Err(JobError::NoEngine(format!(
        "bubblewrap can't make a sandbox on this machine ({}): version 0.8 is needed, and user namespaces",
        why.trim()
    )))
}

fn bubblewrap(user: Option<u32>) -> process::Command {
    let mut command = process::Command::new(BUBBLEWRAP);
    command.env_clear().current_dir("/");
    if let Some(user) = user {
        // Root is above the limit of processes, and would be at home in whatever it got out to.
        command.uid(user).gid(user);
    }
    command
}

/// A command hook as what is to be started.
pub(super) fn start(
    command: &Command,
    limits: Limits,
    folder: &RunFolder,
    variables: Vec<(String, OsString)>,
) -> Result<Started, JobError> {
    check(command)?;
    let mut start = bubblewrap(folder.user());
    start.args(arguments(command, limits, folder.path(), variables));
    // It dies with us, and everything in its namespace of processes with it.
    Ok(Started { command: start, end: None })
}

fn arguments(
    command: &Command,
    limits: Limits,
    folder: &Path,
    variables: Vec<(String, OsString)>,
) -> Vec<OsString> {
    let bounds = &command.bounds;
    let mut line = Line(Vec::new());
    line.add(TAKEN);
    if bounds.network {
        line.add(["--share-net"]);
    }
    show(&mut line, SHOWN);
    if bounds.network {
        show(&mut line, SHOWN_WITH_NETWORK);
    }
    line.add(["--proc", "/proc", "--dev", "/dev"]);
    let scratch = bounds.output_bytes_max.to_string();
    for tmpfs in ["/dev/shm", "/tmp"] {
        line.add(["--size", &scratch, "--tmpfs", tmpfs]);
    }
    for (how, name, place) in [
        ("--ro-bind", "hook", HOOK),
        ("--ro-bind", "input", INPUT),
        ("--ro-bind", "input.json", INPUT_JSON),
        ("--bind", "output", OUTPUT),
    ] {
        line.0.extend([how.into(), folder.join(name).into(), place.into()]);
    }
    // These two are folders in memory that bubblewrap leaves writable.
    line.add(["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", OUTPUT]);
    for (name, value) in variables {
        line.0.extend(["--setenv".into(), name.into(), value]);
    }
    line.add(["--", PRLIMIT]);
    let (cpu, memory) = (bounds.cpu_seconds_max, limits.memory_bytes_max);
    // The first process of the sandbox is bubblewrap's.
    let processes = bounds.processes_max + 1;
    for (name, limit) in [
        ("as", memory.to_string()),
        ("core", "0".to_owned()),
        // At the first the program is told, at the second it is killed.
        ("cpu", format!("{cpu}:{}", cpu + 1)),
        ("fsize", bounds.output_bytes_max.to_string()),
        ("nofile", OPEN_FILES_MAX.to_string()),
        ("nproc", processes.to_string()),
    ] {
        line.0.push(format!("--{name}={limit}").into());
    }
    line.add(["--"]);
    line.0.push(match &command.program {
        Program::OfHook(name) => format!("{HOOK}/{name}").into(),
        Program::OfHost(path) => path.into(),
    });
    line.0.extend(command.arguments.iter().map(OsString::from));
    line.0
}

fn show(line: &mut Line, places: &[&str]) {
    for place in places {
        line.add(["--ro-bind-try", place, place]);
    }
}

struct Line(Vec<OsString>);

impl Line {
    fn add<'a>(&mut self, words: impl IntoIterator<Item = &'a str>) {
        self.0.extend(words.into_iter().map(OsString::from));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::hook::Bounds;

    fn line(network: bool) -> String {
        let bounds = Bounds::small(network);
        let program = Program::OfHook("count.py".to_owned());
        let command = Command { program, arguments: vec!["-n".to_owned()], bounds };
        let limits =
            Limits { run_max: Duration::from_secs(1), memory_bytes_max: 1_000_000, retries_max: 0 };
        let variables = vec![("FSD_HOOK".to_owned(), "lines".into())];
        let words = arguments(&command, limits, Path::new("/run/x"), variables);
        words.join(" ".as_ref()).into_string().unwrap()
    }

    #[test]
    fn a_sandbox_takes_everything_and_gives_little_back() {
        let line = line(false);
        for words in [
            "--unshare-all --unshare-user --disable-userns --die-with-parent --new-session",
            "--cap-drop ALL --clearenv --ro-bind-try /bin /bin",
            "--ro-bind-try /usr /usr",
            "--ro-bind /run/x/hook /hook --ro-bind /run/x/input /input",
            "--bind /run/x/output /output --remount-ro /dev --remount-ro / ",
            "--size 9000 --tmpfs /tmp",
            "--setenv FSD_HOOK lines -- /usr/bin/prlimit --as=1000000 --core=0 --cpu=7:8 --fsize=9000",
            "--nproc=9 -- /hook/count.py -n",
        ] {
            assert!(line.contains(words), "{words}: {line}");
        }
        for words in ["--share-net", "resolv.conf", "/home", "/var", "/run ", "--dev-bind"] {
            assert!(!line.contains(words), "{words}: {line}");
        }
        assert_eq!(line.matches("--bind ").count(), 1, "one folder is writable: {line}");
    }

    #[test]
    fn a_granted_network_brings_the_names_of_others() {
        let line = line(true);
        assert!(line.contains("--share-net") && line.contains("/etc/resolv.conf"), "{line}");
    }
}
