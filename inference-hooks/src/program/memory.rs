//! What a program and all it started have in memory. The kernel bounds each process; this bounds them together, where we may
//! not make a control group.

use std::fs;

/// The most processes looked at; there is a limit to processes, too.
const PROCESSES_MAX: usize = 10_000;

/// What a process and those below it have in memory. Pages that they share count for each of them.
pub(super) fn resident(process: u32) -> u64 {
    let mut kibibytes = 0;
    let mut below = vec![process];
    let mut seen = 0;
    while let Some(process) = below.pop() {
        seen += 1;
        // One that has ended meanwhile has none.
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        let resident =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.strip_suffix("kB"));
        kibibytes += resident.and_then(|number| number.trim().parse::<u64>().ok()).unwrap_or(0);
        for thread in fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten()
        {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            below.extend(children.split(' ').filter_map(|child| child.parse::<u32>().ok()));
        }
        if seen > PROCESSES_MAX {
            break;
        }
    }
    kibibytes << 10
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn what_children_have_counts() {
        // It holds 64 MiB in a child, and says so.
        let script = "import os, time\nif os.fork() == 0:\n  held = b'x' * (64 << 20)\n  print('held', flush=True)\ntime.sleep(60)";
        let mut child = Command::new("/usr/bin/python3")
            .args(["-c", script])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = [0; 4];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut line).unwrap();
        let found = resident(child.id());
        let alone = resident(child.id() + 1_000_000);
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id()));
        for child in children.unwrap().split_whitespace() {
            Command::new("kill").args(["-KILL", child]).status().unwrap();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!((64 << 20..128 << 20).contains(&found), "{found}");
        assert_eq!(alone, 0, "there is no such process");
    }
}
