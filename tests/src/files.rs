//! Trees of files, and content that shows whether it is whole.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use fsd::rng::Rng;

/// The content of version `version` of the file `name`: a line that says so, and bytes that follow from it.
#[must_use]
pub fn content(name: &str, version: u64, length: usize) -> Vec<u8> {
    let seed = name
        .bytes()
        .fold(version, |seed, byte| (seed ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let mut content = format!("{name}\n{version}\n{length}\n").into_bytes();
    content.extend(noise(seed, length));
    content
}

/// The version that `bytes` are.
///
/// # Errors
/// If they are not wholly one version.
pub fn version_of(bytes: &[u8]) -> Result<u64> {
    let mut lines = bytes.splitn(4, |&byte| byte == b'\n');
    let mut line = || -> Result<String> {
        Ok(String::from_utf8(lines.next().context("the head is torn")?.to_vec())?)
    };
    let (name, version, length) = (line()?, line()?.parse()?, line()?.parse()?);
    ensure!(content(&name, version, length) == bytes, "{name} is torn: {} bytes", bytes.len());
    Ok(version)
}

/// Bytes that follow from `seed`.
#[must_use]
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut rng = Rng::new(seed);
    let mut noise = Vec::with_capacity(length + 8);
    while noise.len() < length {
        noise.extend(rng.next_u64().to_le_bytes());
    }
    noise.truncate(length);
    noise
}

/// All files below `dir` by path, with what is in them; of a symbolic link, where it points.
///
/// # Errors
/// If something can't be read.
pub fn tree(dir: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    walk(dir, "", &mut files)?;
    Ok(files)
}

fn walk(dir: &Path, prefix: &str, files: &mut BTreeMap<String, Vec<u8>>) -> Result<()> {
    for entry in dir.read_dir().with_context(|| format!("{dir:?}"))? {
        let entry = entry?;
        let path = entry.path();
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            walk(&path, &format!("{name}/"), files)?;
        } else if kind.is_symlink() {
            files.insert(name, path.read_link()?.as_os_str().as_bytes().to_vec());
        } else {
            let content = std::fs::read(&path).with_context(|| format!("{path:?}"))?;
            files.insert(name, content);
        }
    }
    Ok(())
}

/// Fails, with the names that differ, if `found` is not `expected`.
///
/// # Errors
/// What differs.
pub fn same(
    what: &str,
    found: &BTreeMap<String, Vec<u8>>,
    expected: &BTreeMap<String, Vec<u8>>,
) -> Result<()> {
    let names = found.keys().chain(expected.keys());
    let mut differing: Vec<String> = names
        .filter(|name| found.get(*name) != expected.get(*name))
        .map(|name| {
            let shown = |content: Option<&Vec<u8>>| match content {
                None => "nothing".to_owned(),
                Some(content) => format!("{} bytes", content.len()),
            };
            let (here, there) = (found.get(name), expected.get(name));
            let at = here.zip(there).and_then(|(a, b)| a.iter().zip(b).position(|(a, b)| a != b));
            let at = at.map_or_else(String::new, |at| {
                let zeros = here.is_some_and(|here| here[at..].iter().all(|&byte| byte == 0));
                format!(", from byte {at} on{}", if zeros { ", all zeros" } else { "" })
            });
            format!("{name}: {} for {}{at}", shown(here), shown(there))
        })
        .collect();
    differing.dedup();
    ensure!(differing.is_empty(), "{what}: {differing:#?}");
    Ok(())
}

/// Runs a program and returns what it prints.
///
/// # Errors
/// What it says if it fails.
pub fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?}: {}\n{printed}{said}", output.status);
    }
    Ok(printed)
}

/// Runs a line of shell in `dir`.
///
/// # Errors
/// What it says if it fails.
pub fn shell(dir: &Path, line: &str) -> Result<String> {
    run(Command::new("sh").args(["-euc", line]).current_dir(dir))
}
