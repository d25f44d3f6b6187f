//! What a program and its children take of the machine.

use std::fs;

use anyhow::Context;

/// In `/proc`, time counts in these, whatever the kernel's own clock.
const TICKS_PER_SECOND: f64 = 100.0;
const KIB_PER_MIB: f64 = 1024.0;

/// A line of `/proc/PID/stat`, what is of use in it.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    pid: u32,
    parent: u32,
    /// Spent by itself, and by children that have ended.
    ticks: u64,
}

/// CPU seconds so far of `pid`, its children and theirs.
pub(super) fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    Ok(tree(pid)?.iter().map(|stat| stat.ticks).sum::<u64>() as f64 / TICKS_PER_SECOND)
}

/// Their memory in MiB: now for `VmRSS`, the most so far for `VmHWM`.
pub(super) fn memory_mib(pid: u32, field: &str) -> anyhow::Result<f64> {
    let kib = tree(pid)?.into_iter().map(|stat| {
        let text = fs::read_to_string(format!("/proc/{}/status", stat.pid)).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
        let number = line.trim_start_matches(':').trim().trim_end_matches(" kB");
        number.parse::<f64>().unwrap_or(0.0)
    });
    Ok(kib.sum::<f64>() / KIB_PER_MIB)
}

fn tree(root: u32) -> anyhow::Result<Vec<Stat>> {
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc").context("list /proc")? {
        let path = entry?.path().join("stat");
        // Not each entry is a process, and one may end meanwhile.
        all.extend(fs::read_to_string(path).ok().and_then(|text| parse(&text)));
    }
    let mut tree: Vec<Stat> = all.extract_if(.., |stat| stat.pid == root).collect();
    let mut at = 0;
    while let Some(pid) = tree.get(at).map(|stat| stat.pid) {
        tree.extend(all.extract_if(.., |stat| stat.parent == pid));
        at += 1;
    }
    Ok(tree)
}

fn parse(text: &str) -> Option<Stat> {
    let (pid, _) = text.split_once(' ')?;
    // The name before the last parenthesis may hold anything.
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = fields.get(11..15)?.iter().map(|field| field.parse::<u64>().ok());
    Some(Stat {
        pid: pid.parse().ok()?,
        parent: fields.get(1)?.parse().ok()?,
        ticks: ticks.sum::<Option<u64>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_whatever_the_name() {
        let line = "42 (a (b) 1 2) S 7 42 42 0 -1 4 1 0 0 0 10 20 3 4 20 0 5 0 99";
        assert_eq!(parse(line), Some(Stat { pid: 42, parent: 7, ticks: 37 }));
    }

    #[test]
    fn this_process_takes_memory() {
        assert!(memory_mib(std::process::id(), "VmHWM").unwrap() > 0.5);
    }
}
