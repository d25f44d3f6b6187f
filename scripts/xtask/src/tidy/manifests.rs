//! What the manifests and the dependency tree must and must not hold.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};

use super::Finding;

/// A member, by its folder and its package, and the crates of ours that it may be built on.
const MEMBERS: &[(&str, &str, &[&str])] = &[
    ("policies", "policies", &[]),
    ("inference-hooks", "inference-hooks", &[]),
    ("fsd", "fsd", &["inference-hooks", "policies"]),
    ("tests", "fsd-tests", &["fsd", "inference-hooks", "policies"]),
    ("scripts/xtask", "xtask", &[]),
];

/// A view of the dependency tree, and crates that must not be in it.
const ABSENT: &[(&[&str], &[&str])] = &[
    (&["-p", "policies"], &["tokio", "reqwest", "rusqlite", "rand"]),
    (&["-p", "inference-hooks", "--no-default-features"], &["wgpu", "naga"]),
    (&["-p", "inference-hooks"], &["tokio", "reqwest", "object_store"]),
    (&["--workspace"], &["openssl", "openssl-sys", "native-tls", "aws-lc-rs", "aws-lc-sys"]),
];

/// Manifests and trees that break a rule.
pub(super) fn check(root: &Path) -> anyhow::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for (folder, _, may) in MEMBERS {
        let path = Path::new(folder).join("Cargo.toml");
        let text =
            fs::read_to_string(root.join(&path)).with_context(|| format!("read {path:?}"))?;
        findings.extend(dependencies(&path, &text, may));
    }
    for (view, absent) in ABSENT {
        let present = tree(root, view)?;
        for name in absent.iter().filter(|name| present.iter().any(|present| present == *name)) {
            let says =
                format!("`cargo tree {}` shows {name}, which must stay absent", view.join(" "));
            findings.push(Finding { path: "Cargo.lock".into(), line: 1, says });
        }
    }
    Ok(findings)
}

/// Versions stand in the workspace's manifest only, and members use only what they may.
fn dependencies(path: &Path, text: &str, may: &[&str]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut in_dependencies = false;
    for (index, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if let Some(section) = line.strip_prefix('[') {
            in_dependencies = section.trim_end_matches(']').ends_with("dependencies");
            continue;
        }
        let Some((key, value)) = line.split_once('=').filter(|_| in_dependencies) else { continue };
        let name = key.split('.').next().unwrap_or_default().trim();
        let mut note =
            |says| findings.push(Finding { path: path.to_owned(), line: index + 1, says });
        if !key.trim().ends_with(".workspace") && !value.contains("workspace = true") {
            note(format!("the version of {name} belongs into [workspace.dependencies]"));
        }
        if MEMBERS.iter().any(|(_, package, _)| *package == name) && !may.contains(&name) {
            note(format!("{name} may not be used here"));
        }
    }
    findings
}

/// Names of all crates that are linked into what `view` selects.
fn tree(root: &Path, view: &[&str]) -> anyhow::Result<Vec<String>> {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args([
            "tree",
            "--locked",
            "--offline",
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ])
        .args(view)
        .current_dir(root)
        .output()
        .context("run cargo tree")?;
    ensure!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    let listing = String::from_utf8_lossy(&output.stdout);
    Ok(listing.lines().filter_map(|line| Some(line.split(' ').next()?.to_owned())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_unwanted_members_are_found() {
        let text = "[package]\nname = \"x\"\nversion = \"1\"\n[dependencies]\nserde.workspace = true\ntokio = \"1\"\n\
            fsd.workspace = true\n[dev-dependencies]\nwgpu = { workspace = true, optional = true }\n";
        let found: Vec<_> =
            dependencies(Path::new("p"), text, &[]).into_iter().map(|f| (f.line, f.says)).collect();
        assert_eq!(
            found,
            [
                (6, "the version of tokio belongs into [workspace.dependencies]".to_owned()),
                (7, "fsd may not be used here".to_owned()),
            ]
        );
    }
}
