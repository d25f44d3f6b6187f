//! The picture that a gate makes takes the place of the one that arrived, which is kept in a share that nothing leaves.
//!
//! Invariant: the original is kept, and on the disk, before anything takes its place, and it takes nobody's.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use inference_hooks::JobOutput;
use policies::Verdict;

use super::engine::JobEngine;
use super::jobs::{Outcome, after};
use super::rules::{Rule, path_text};
use super::run::Names;
use super::{results, telling};
use crate::meta::{Inode, Job, Said};
use crate::types::aside::{marked, stamp};
use crate::types::{Ino, ShareId};
use crate::vfs::{
    AttrChange, Caller, HandleId, OpenHow, RenameHow, Result, SetTime, Share, Vfs, VfsError,
    WriteHow, XattrHow,
};

const CHUNK_BYTES: usize = 4 << 20;
/// Names that are tried for an original before that is given up.
const NAMES_MAX: u32 = 1000;

impl JobEngine {
    /// Keeps `original`, what the file of `job` holds, in the share `originals`, and puts the picture of `output` in its place.
    pub(super) async fn replace(
        &self,
        (rule, job): (&Rule, &Job),
        (inode, path): (&Inode, &Names),
        (original, originals): (&File, ShareId),
        mut output: JobOutput,
    ) -> Result<Outcome> {
        let said = self.meta.read(|tx| tx.said(inode.ino, inode.content))?;
        if said.iter().any(|said| said.hook.is_empty() && said.verdict != Verdict::Pass) {
            return Ok(Outcome::Superseded("a person has said that it does not leave"));
        }
        let derived = output.derived.pop().ok_or(VfsError::Invalid("the hook made no picture"))?;
        let data = derived.read()?;
        let share = self.vfs.share(inode.share)?;
        let folder = Folder::of(&self.vfs, self.vfs.share(originals)?, share, inode, path).await?;
        let kept = folder.keep(&self.vfs, inode, original, job.arrived).await?;
        let json = results::apply(&self.vfs, rule, share, inode, path, output, Some(&kept)).await?;
        let (ino, at, json) = (inode.ino, self.millis(), json.to_string());
        let hook = rule.hook.name().to_owned();
        let why = format!("the original is {kept}");
        let said = Said { hook, verdict: Verdict::Pass, why, at };
        let version = rule.hook.version().as_str().to_owned();
        let done = after(Job { version, ..job.clone() }, Outcome::Result(json.clone()), 0, at);
        let rule = rule.clone();
        let replaced = self.vfs.replace(ino, inode.content, &data, move |tx, content| {
            tx.put_said(ino, content, &said)?;
            tx.put_job(&done)?;
            tx.job_is_of(done.id, content)?;
            telling::outcome(tx, &rule, &done)
        });
        Ok(match replaced.await? {
            Some(_) => Outcome::Replaced(json),
            // It is another version by now, or becomes one.
            None => Outcome::Busy,
        })
    }
}

/// Where an original goes.
struct Folder {
    ino: Ino,
    name: Vec<u8>,
    /// For people.
    shown: String,
    caller: Caller,
}

impl Folder {
    /// Its path below its share's name, in the share `to`.
    async fn of(
        vfs: &Arc<Vfs>,
        to: &Share,
        from: &Share,
        inode: &Inode,
        path: &[Vec<u8>],
    ) -> Result<Self> {
        let caller = Caller { uid: inode.attr.uid, gid: inode.attr.gid, umask: 0 };
        let (name, folders) = path.split_last().ok_or(VfsError::NoEntry)?;
        let names = [&[from.name.clone().into_bytes()], folders].concat();
        let ino = results::folder(vfs, to.root, &names, caller).await?;
        let shown = format!("{}:{}", to.name, path_text(&names));
        Ok(Self { ino, name: name.clone(), shown, caller })
    }

    /// Keeps `content` under its name, or under one that nothing else has; which one. What is there already stays as it is.
    async fn keep(
        &self,
        vfs: &Arc<Vfs>,
        inode: &Inode,
        content: &File,
        arrived: i64,
    ) -> Result<String> {
        // Of an earlier try there may be a part.
        let part = format!(".fsd-original-{}-{}", inode.ino, inode.content).into_bytes();
        match vfs.unlink(self.ino, &part) {
            Ok(()) | Err(VfsError::NoEntry) => {}
            Err(error) => return Err(error),
        }
        self.write(vfs, &part, inode, content).await?;
        let at = stamp(arrived.div_euclid(1000));
        for number in 0..NAMES_MAX {
            let name = match number {
                0 => self.name.clone(),
                1 => marked(&self.name, &at),
                _ => marked(&self.name, &format!("{at} {number}")),
            };
            let moved =
                vfs.rename((self.ino, &part), (self.ino, &name), RenameHow::NoReplace).await;
            match moved {
                Ok(()) => vfs.announce_name(self.ino, &name),
                Err(VfsError::Exists) if self.is_same(vfs, &name, content).await? => {
                    vfs.unlink(self.ino, &part)?;
                }
                Err(VfsError::Exists) => continue,
                Err(error) => return Err(error),
            }
            vfs.barrier()?;
            return Ok(format!("{}/{}", self.shown, String::from_utf8_lossy(&name)));
        }
        Err(VfsError::Exists)
    }

    async fn write(
        &self,
        vfs: &Arc<Vfs>,
        name: &[u8],
        inode: &Inode,
        content: &File,
    ) -> Result<()> {
        let (ino, _, handle) =
            vfs.create(self.ino, name, 0o600, self.caller, OpenHow::default())?;
        let written = copy(vfs, content, handle).await;
        vfs.release(handle)?;
        written?;
        for name in vfs.xattr_names(inode.ino)? {
            if name.starts_with(b"user.") && !name.starts_with(b"user.fsd.") {
                vfs.set_xattr(ino, &name, &vfs.xattr(inode.ino, &name)?, XattrHow::Any)?;
            }
        }
        let mtime = Some(SetTime::To(inode.attr.mtime));
        let perm = Some(inode.attr.perm);
        vfs.set_attr(ino, AttrChange { perm, mtime, ..AttrChange::default() }).await?;
        Ok(())
    }

    async fn is_same(&self, vfs: &Arc<Vfs>, name: &[u8], content: &File) -> Result<bool> {
        let found = vfs.lookup(self.ino, name).await?;
        if found.attr.size != content.metadata()?.len() {
            return Ok(false);
        }
        let read = OpenHow { read: true, ..OpenHow::default() };
        let handle = vfs.open(found.ino, read).await?;
        let same = are_same(vfs, content, handle).await;
        vfs.release(handle)?;
        same
    }
}

async fn copy(vfs: &Arc<Vfs>, content: &File, to: HandleId) -> Result<()> {
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut at = 0;
    loop {
        let read = read_chunk(content, &mut buffer, at)?;
        if read.is_empty() {
            return vfs.fsync(to);
        }
        vfs.write(to, at, read, WriteHow::default()).await?;
        at += read.len() as u64;
    }
}

async fn are_same(vfs: &Arc<Vfs>, content: &File, other: HandleId) -> Result<bool> {
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut at = 0;
    loop {
        let read = read_chunk(content, &mut buffer, at)?;
        let there = vfs.read(other, at, u32::try_from(read.len()).unwrap_or(u32::MAX)).await?;
        if read.is_empty() || there != read {
            return Ok(read == there);
        }
        at += read.len() as u64;
    }
}

fn read_chunk<'a>(content: &File, buffer: &'a mut [u8], at: u64) -> io::Result<&'a [u8]> {
    let read = content.read_at(buffer, at)?;
    Ok(&buffer[..read])
}
