//! What people do with programs that others wrote: unpack, copy, synchronise, clone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, ensure};

use super::{Bench, Measured, Random, noise, rate, seconds};
use crate::bench::row::Row;
use crate::bench::sizes::Sizes;
use crate::bench::subject::Subject;

const FILES_PER_DIR: u64 = 25;
const FILE_BYTES_MAX: u64 = 16 << 10;
/// Longer than a second, which is how exactly git knows the time of its index.
const INDEX_SETTLES: Duration = Duration::from_millis(1200);
/// So that the repository is the same in each run.
const DATE: &str = "2024-01-01T00:00:00Z";

/// What is copied: a tree, the same as an archive, and as a repository. On the plain disk.
#[derive(Debug)]
pub(in crate::bench) struct Sources {
    tree: PathBuf,
    archive: PathBuf,
    repository: PathBuf,
}

impl Sources {
    pub(in crate::bench) fn make(folder: &Path, sizes: Sizes) -> anyhow::Result<Self> {
        let place = |name: &str| folder.join(name);
        let (tree, archive) = (place("tree"), place("tree.tar"));
        let repository = place("repository");
        make_tree(&tree, sizes.tree_files)?;
        run(Command::new("tar").arg("cf").arg(&archive).arg("-C").arg(&tree).arg("."))?;
        run(Command::new("cp").arg("-r").arg(&tree).arg(&repository))?;
        for words in [
            &["init", "--quiet", "--initial-branch=main"][..],
            &["add", "--all"],
            &["commit", "--quiet", "--message=all"],
        ] {
            run(git(&repository).args(words))?;
        }
        Ok(Self { tree, archive, repository })
    }
}

fn make_tree(root: &Path, files: u64) -> anyhow::Result<()> {
    let mut random = Random::new(3);
    let content = noise(usize::try_from(2 * FILE_BYTES_MAX)?);
    for number in 0..files {
        let dir = number / FILES_PER_DIR;
        let dir = root.join(format!("part-{}/group-{dir:03}", dir % 10));
        fs::create_dir_all(&dir).context("make a directory")?;
        let start = usize::try_from(random.below(FILE_BYTES_MAX))?;
        let bytes = usize::try_from(1 + random.below(FILE_BYTES_MAX))?;
        let path = dir.join(format!("file-{number:05}.txt"));
        fs::write(path, &content[start..start + bytes]).context("write a file")?;
    }
    Ok(())
}

pub(super) fn tar(bench: &Bench, subject: &mut Subject) -> anyhow::Result<Measured> {
    let to = subject.dir().join("unpacked");
    fs::create_dir(&to).context("make a directory")?;
    let mut command = Command::new("tar");
    command.arg("xf").arg(&bench.sources.archive).arg("-C").arg(to);
    Ok(vec![(Row::Tar, seconds(|| run(&mut command))?)])
}

pub(super) fn copy(bench: &Bench, subject: &mut Subject) -> anyhow::Result<Measured> {
    let mut command = copying(bench, &subject.dir().join("copied"));
    Ok(vec![(Row::Copy, seconds(|| run(&mut command))?)])
}

pub(super) fn rsync(bench: &Bench, subject: &mut Subject) -> anyhow::Result<Measured> {
    Ok(vec![(Row::Rsync, seconds(|| run(&mut rsyncing(bench, subject)))?)])
}

pub(super) fn prepare_rsync(bench: &Bench, subject: &Subject) -> anyhow::Result<bool> {
    let is_missing = !subject.dir().join("synchronised").exists();
    if is_missing {
        run(&mut rsyncing(bench, subject))?;
    }
    Ok(is_missing)
}

pub(super) fn rsync_again(bench: &Bench, subject: &mut Subject) -> anyhow::Result<Measured> {
    load("rsync")?;
    // What it compares with is not what is measured.
    run(Command::new("ls").arg("-lR").arg(&bench.sources.tree))?;
    Ok(vec![(Row::RsyncAgain, seconds(|| run(&mut rsyncing(bench, subject)))?)])
}

pub(super) fn git_clone(bench: &Bench, subject: &mut Subject) -> anyhow::Result<Measured> {
    Ok(vec![(Row::GitClone, seconds(|| run(&mut cloning(bench, subject)))?)])
}

pub(super) fn prepare_clone(bench: &Bench, subject: &Subject) -> anyhow::Result<bool> {
    let is_missing = !clone_dir(subject).exists();
    if is_missing {
        run(&mut cloning(bench, subject))?;
    }
    // The first look after a clone reads each file again that was made in the second in which the index was: chance, not speed.
    sleep(INDEX_SETTLES);
    run(&mut status(subject))?;
    Ok(is_missing)
}

pub(super) fn git_status(_: &Bench, subject: &mut Subject) -> anyhow::Result<Measured> {
    load("git")?;
    let mut command = status(subject);
    Ok(vec![(Row::GitStatus, seconds(|| run(&mut command))?)])
}

pub(super) fn prepare_tree(bench: &Bench, subject: &Subject) -> anyhow::Result<bool> {
    run(&mut copying(bench, &doomed(subject)))?;
    Ok(true)
}

pub(super) fn remove(bench: &Bench, subject: &mut Subject) -> anyhow::Result<Measured> {
    let mut command = Command::new("rm");
    command.arg("-rf").arg(doomed(subject));
    Ok(vec![(Row::Remove, rate(bench.sizes.tree_files, || run(&mut command))?)])
}

fn doomed(subject: &Subject) -> PathBuf {
    subject.dir().join("doomed")
}

fn clone_dir(subject: &Subject) -> PathBuf {
    subject.dir().join("cloned")
}

fn copying(bench: &Bench, to: &Path) -> Command {
    let mut command = Command::new("cp");
    command.arg("-r").arg(&bench.sources.tree).arg(to);
    command
}

fn rsyncing(bench: &Bench, subject: &Subject) -> Command {
    let mut command = Command::new("rsync");
    command.arg("-a").arg(bench.sources.tree.join("")).arg(subject.dir().join("synchronised"));
    command
}

/// As from another machine: between directories of one disk git would only make links.
fn cloning(bench: &Bench, subject: &Subject) -> Command {
    let mut command = git(subject.dir());
    command.args(["clone", "--quiet", "--no-local"]);
    command.arg(&bench.sources.repository).arg(clone_dir(subject));
    command
}

fn status(subject: &Subject) -> Command {
    let mut command = git(&clone_dir(subject));
    command.args(["status", "--porcelain"]);
    command
}

/// Without this machine's settings.
fn git(dir: &Path) -> Command {
    let mut command = Command::new("git");
    command.arg("-C").arg(dir);
    command.envs([
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_CONFIG_COUNT", "1"),
        ("GIT_CONFIG_KEY_0", "safe.directory"),
        ("GIT_CONFIG_VALUE_0", "*"),
        ("GIT_AUTHOR_NAME", "bench"),
        ("GIT_AUTHOR_EMAIL", "bench@localhost"),
        ("GIT_AUTHOR_DATE", DATE),
        ("GIT_COMMITTER_NAME", "bench"),
        ("GIT_COMMITTER_EMAIL", "bench@localhost"),
        ("GIT_COMMITTER_DATE", DATE),
    ]);
    command
}

/// Runs it to its end, and keeps nothing of what it prints.
pub(super) fn run(command: &mut Command) -> anyhow::Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).output();
    let output = output.with_context(|| format!("run {program}"))?;
    let says = String::from_utf8_lossy(&output.stderr);
    let says = says.lines().next().unwrap_or_default();
    ensure!(output.status.success(), "{program}: {}: {says}", output.status);
    Ok(())
}

/// Brings a program into the kernel's caches, from which it was dropped together with all else.
pub(super) fn load(program: &str) -> anyhow::Result<()> {
    run(Command::new(program).arg("--version"))
}
