//! Which part of `fsd` may import which: the layout as data.

use std::path::Path;

use super::Finding;
use super::source::Source;

/// Importable by all; they import nothing but `types`.
const LEAVES: &[&str] = &["types", "clock", "lines", "rng", "tasks", "telemetry"];

/// A part, and the parts (or crates of ours) that it may import. Leaves and the part itself are implied.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("main", &["app", "control::cli"]),
    ("app", &[EVERYTHING]),
    // The values that a config is checked into are the parts' own.
    (
        "config",
        &["cache", "exports", "frontend", "hooks", "policies", "remote", "sinks", "sync", "vfs"],
    ),
    ("frontend", &["vfs", "events"]),
    ("exports", &["policies"]),
    ("control::api", &["policies"]),
    ("control::api::server", &["control::api", "control::ops", "events"]),
    ("control::cli", &["control::api", "config", "inference_hooks", "policies"]),
    (
        "control::ops",
        &[
            "control::api",
            "vfs",
            "meta",
            "cache",
            "sync",
            "hooks",
            "sinks",
            "remote",
            "events",
            "pace",
            "policies",
        ],
    ),
    ("control::web", &["control::api"]),
    ("hooks", &["vfs", "meta", "events", "inference_hooks", "policies"]),
    ("sinks", &["meta", "events", "policies"]),
    ("sync", &["meta", "cache", "remote", "events", "policies"]),
    ("vfs", &["meta", "cache", "events", "policies"]),
    ("cache", &["meta", "policies", "remote"]),
    ("meta", &["policies"]),   // it keeps the queue in order
    ("remote", &["policies"]), // its pacer keeps a bucket
    ("events", &["meta"]),
    ("pace", &["meta", "policies", "remote"]),
];

const EVERYTHING: &str = "*";

/// Crates of ours that fsd is built on.
const CRATES: &[&str] = &["policies", "inference_hooks"];

/// Imports of a file of `fsd` that have no arrow.
pub(super) fn check(source: &Source) -> Vec<Finding> {
    let Some(module) = module_of(&source.path).filter(|_| !source.is_test()) else {
        return Vec::new();
    };
    let module: Vec<&str> = module.iter().map(String::as_str).collect();
    let Some(from) = part_of(&module) else {
        let says = format!("part {:?} has no row in the table of arrows", module.join("::"));
        return vec![Finding { path: source.path.clone(), line: 1, says }];
    };
    let mut findings: Vec<Finding> = Vec::new();
    for path in &source.paths {
        let segments: Vec<&str> = path.segments.iter().map(String::as_str).collect();
        let Some(target) = resolve(&module, &segments) else { continue };
        // What is no part stands below one: a name of the crate's root, or a module above several parts.
        let Some(to) = part_of(&target) else { continue };
        let finding = Finding {
            path: source.path.clone(),
            line: path.line,
            says: format!("{from} may not import {to}"),
        };
        if !allowed(from, to) && !findings.contains(&finding) {
            findings.push(finding);
        }
    }
    findings
}

fn allowed(from: &str, to: &str) -> bool {
    if from == to || to == "types" || (LEAVES.contains(&to) && !LEAVES.contains(&from)) {
        return true;
    }
    let row = MAY_IMPORT.iter().find(|(part, _)| *part == from);
    row.is_some_and(|(_, may)| may.contains(&EVERYTHING) || may.contains(&to))
}

/// The part that a module or an item belongs to: the longest row of the table that it starts with.
fn part_of(path: &[&str]) -> Option<&'static str> {
    let rows = MAY_IMPORT.iter().map(|(part, _)| *part).chain(LEAVES.iter().copied());
    let parts = rows.chain(CRATES.iter().copied());
    let segments = |part: &str| part.split("::").count();
    let within = |part: &&str| part.split("::").eq(path.iter().copied().take(segments(part)));
    parts.filter(within).max_by_key(|part| segments(part))
}

/// The module that a file of `fsd` is; none for the crate's root, for what only joins parts, and for other crates.
fn module_of(path: &Path) -> Option<Vec<String>> {
    let inner = path.strip_prefix("fsd/src").ok()?.with_extension("");
    let mut module: Vec<_> = inner.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if module.last().is_some_and(|name| name == "mod") {
        module.pop();
    }
    let joins_parts = module == ["lib"] || module == ["control"];
    (!joins_parts).then_some(module)
}

/// Where `path`, named in `module`, leads from the crate's root, or which crate of ours it starts with.
fn resolve<'a>(module: &[&'a str], path: &[&'a str]) -> Option<Vec<&'a str>> {
    match path {
        ["crate" | "fsd", rest @ ..] => Some(rest.to_vec()),
        ["super", ..] => {
            let ups = path.iter().take_while(|segment| **segment == "super").count();
            let base = module.get(..module.len().checked_sub(ups)?)?;
            Some([base, &path[ups..]].concat())
        }
        [first, ..] if CRATES.contains(first) => Some(path.to_vec()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> Vec<String> {
        check(&Source::parse(path, text).unwrap()).into_iter().map(|finding| finding.says).collect()
    }

    #[test]
    fn arrows_are_allowed_and_others_are_not() {
        let cases: &[(&str, &str, &[&str])] = &[
            ("vfs/ops/read.rs", "use crate::cache::Cache; use crate::types::Ino;", &[]),
            ("vfs/mod.rs", "use crate::sync::Queue;", &["vfs may not import sync"]),
            (
                "frontend/fuse/map.rs",
                "fn f() { crate::cache::x() }",
                &["frontend may not import cache"],
            ),
            ("cache/fill.rs", "use super::super::vfs::Vfs;", &["cache may not import vfs"]),
            ("cache/fill.rs", "use super::present::Present;", &[]),
            (
                "control/cli/status.rs",
                "use crate::control::{api::Status, ops::Operations};",
                &["control::cli may not import control::ops"],
            ),
            ("control/ops.rs", "use super::api::types::Status;", &[]),
            (
                "control/api/types.rs",
                "use super::server::serve;",
                &["control::api may not import control::api::server"],
            ),
            (
                "control/api/server.rs",
                "use super::types::Status; use crate::control::ops::Operations;",
                &[],
            ),
            ("sync/plan.rs", "use policies::Rate;", &[]),
            ("meta/tree.rs", "use policies::Rate;", &[]),
            ("meta/tree.rs", "use crate::cache::Cache;", &["meta may not import cache"]),
            ("clock.rs", "use crate::types::Time;", &[]),
            ("clock.rs", "use crate::rng::Rng;", &["clock may not import rng"]),
            ("main.rs", "use fsd::app; use fsd::vfs::Vfs;", &["main may not import vfs"]),
            ("app.rs", "use crate::{meta::Meta, frontend::fuse};", &[]),
            ("lib.rs", "pub use crate::vfs::Vfs;", &[]),
            ("control/tests.rs", "use crate::sync::Queue;", &[]),
            ("extra.rs", "", &["part \"extra\" has no row in the table of arrows"]),
        ];
        for (path, text, says) in cases {
            assert_eq!(findings(&format!("fsd/src/{path}"), text), *says, "{path}");
        }
    }

    #[test]
    fn no_arrow_of_the_table_leads_nowhere() {
        for (from, targets) in MAY_IMPORT {
            for target in targets.iter().filter(|target| **target != EVERYTHING) {
                let path: Vec<_> = target.split("::").collect();
                assert_eq!(part_of(&path), Some(*target), "{from} → {target}");
            }
        }
    }
}
