//! The verbs about files in the cache: pin, warm, scrub, evict, explain.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use policies::pins;
use tokio::sync::Notify;

use super::OperationError;
use super::gateway::{Gateway, MountedShare, item_of_written, timestamp};
use super::works::{Begun, progress};
use crate::control::api::types as api;
use crate::meta::Inode;
use crate::types::{FileKind, Ino, ShareId};
use crate::vfs::{Explained, Pinned, Reach, VfsError, Work};

/// How long a question for progress lasts before it is answered anyway.
const WORK_PATIENCE: Duration = Duration::from_millis(500);

/// Work of which nobody asked for so long how far it is, is left.
const LEFT_AFTER: Duration = Duration::from_secs(10);

impl Gateway {
    pub(super) fn all_pins(&self) -> Result<Vec<api::Pin>, OperationError> {
        let mut pins = Vec::new();
        for mount in &self.parts.mounts {
            let share = self.parts.vfs.share(mount.share).map_err(failed)?;
            let of_share = self.parts.vfs.pins(share).map_err(failed)?;
            pins.extend(of_share.into_iter().map(|pinned| pin(mount, pinned)));
        }
        Ok(pins)
    }

    pub(super) async fn change_pin(
        &self,
        change: &api::PinChange,
    ) -> Result<api::Pin, OperationError> {
        let api::PinChange { path, pinned } = change;
        let (mount, below) = self.mount_of(path)?;
        let text = below.to_str().ok_or_else(|| {
            OperationError::Nonsense(format!("{} is not UTF-8: pin what it is in", path.display()))
        })?;
        let vfs = &self.parts.vfs;
        let share = vfs.share(mount.share).map_err(failed)?;
        let literal = pins::literal(text);
        if !pinned {
            let was_there = vfs.unpin(share, &literal).map_err(failed)?
                || vfs.unpin(share, text).map_err(failed)?;
            let pattern = text.to_owned();
            return match was_there {
                true => Ok(pin(mount, Pinned { pattern, ..Pinned::default() })),
                false => Err(OperationError::Nonsense(format!(
                    "{} is not pinned by this path; `fsd pin` shows what is",
                    path.display()
                ))),
            };
        }
        if share.local {
            return Err(OperationError::Nonsense(format!(
                "{} is on a local share, of which all is here",
                path.display()
            )));
        }
        let pattern = match self.find(path).await {
            Ok(_) => literal,
            Err(OperationError::NoFile { .. }) if pins::is_pattern(text) => text.to_owned(),
            Err(error) => return Err(error),
        };
        match vfs.pin(share, &pattern) {
            Ok(()) => {}
            Err(VfsError::Invalid(why)) => {
                return Err(OperationError::Nonsense(format!("{}: {why}", path.display())));
            }
            Err(error) => return Err(failed(error)),
        }
        let now = vfs.pins(share).map_err(failed)?;
        let now = now.into_iter().find(|pinned| pinned.pattern == pattern);
        Ok(pin(mount, now.unwrap_or_default()))
    }

    pub(super) async fn begin_work(
        &self,
        start: &api::WorkStart,
    ) -> Result<api::WorkId, OperationError> {
        let api::WorkStart { kind, path, all, background, repair, deep } = start.clone();
        let tops = self.tops(kind, path.as_deref()).await?;
        // What belongs to no file is looked at where all files are.
        let is_root = |top: &Ino| self.parts.mounts.iter().any(|mount| mount.root == *top);
        let whole = tops.iter().all(is_root);
        let reach = if all { Reach::All } else { Reach::Known };
        let work = Arc::new(Work::default());
        let (path, asked) = (path.unwrap_or_default(), Arc::new(Notify::new()));
        let begun = Begun { kind, path, work: work.clone(), asked };
        if !background {
            self.stop_when_left(begun.clone());
        }
        let id = self.works.add(begun);
        let vfs = self.parts.vfs.clone();
        let tasks = vfs.tasks().clone();
        tasks.clone().spawn("control.work", async move {
            let run = async {
                match kind {
                    api::WorkKind::Warm => vfs.warm_below(tops, &work).await,
                    api::WorkKind::Scrub => vfs.scrub_below(tops, &work).await,
                    api::WorkKind::Refresh => vfs.refresh_below(tops, reach, &work).await,
                    api::WorkKind::Recover => vfs.rebuild_below(tops, &work).await,
                    api::WorkKind::Verify => vfs.verify_below(tops, deep, &work).await,
                    api::WorkKind::Check => vfs.check_below(tops, whole, repair, &work).await,
                }
            };
            tokio::select! {
                () = run => {}
                () = tasks.cancelled() => work.stop(),
            }
        });
        Ok(api::WorkId { id })
    }

    /// Stops work of which nobody wants to know any more how far it is: who began it was killed.
    fn stop_when_left(&self, begun: Begun) {
        let (clock, tasks) = (self.parts.clock.clone(), self.parts.vfs.tasks().clone());
        tasks.clone().spawn("control.left", async move {
            loop {
                let ended = begun.work.ended.notified();
                if begun.work.progress().over {
                    return;
                }
                tokio::select! {
                    () = ended => return,
                    () = tasks.cancelled() => return,
                    () = begun.asked.notified() => {}
                    () = clock.sleep(LEFT_AFTER) => {
                        tracing::info!(kind = begun.kind.word(), "work is stopped, since who began it is gone");
                        return begun.work.stop();
                    }
                }
            }
        });
    }

    /// What long work is to be done on: what lies at `path`, or all shares that it makes sense for.
    async fn tops(
        &self,
        kind: api::WorkKind,
        path: Option<&Path>,
    ) -> Result<Vec<Ino>, OperationError> {
        let needs_cloud = match kind {
            api::WorkKind::Refresh | api::WorkKind::Recover => true,
            api::WorkKind::Warm
            | api::WorkKind::Scrub
            | api::WorkKind::Check
            | api::WorkKind::Verify => false,
        };
        let fits = |mount: &&MountedShare| !needs_cloud || mount.url.is_some();
        if let Some(path) = path {
            let (mount, _) = self.mount_of(path)?;
            if !fits(&mount) {
                let why = "is on a local share: there is no store that anything could come from";
                return Err(OperationError::Nonsense(format!("{} {why}", path.display())));
            }
            return Ok(vec![self.find(path).await?]);
        }
        let tops: Vec<Ino> =
            self.parts.mounts.iter().filter(fits).map(|mount| mount.root).collect();
        match tops.is_empty() {
            true => Err(OperationError::Nonsense("all shares are local".to_owned())),
            false => Ok(tops),
        }
    }

    pub(super) async fn progress_of(
        &self,
        api::WorkId { id }: api::WorkId,
    ) -> Result<api::WorkProgress, OperationError> {
        let begun = self.works.get(id)?;
        begun.asked.notify_one();
        let ended = begun.work.ended.notified();
        if !begun.work.progress().over {
            tokio::select! {
                () = ended => {}
                () = self.parts.clock.sleep(WORK_PATIENCE) => {}
            }
        }
        Ok(progress(id, &begun))
    }

    pub(super) fn end_work(
        &self,
        api::WorkId { id }: api::WorkId,
    ) -> Result<api::WorkProgress, OperationError> {
        let begun = self.works.get(id)?;
        begun.work.stop();
        Ok(progress(id, &begun))
    }

    pub(super) async fn evict_below(&self, path: &Path) -> Result<api::Evicted, OperationError> {
        let top = self.find(path).await?;
        let vfs = self.parts.vfs.clone();
        let evict = self.parts.vfs.tasks().blocking(move || vfs.evict_below(top)).await;
        let evicted = evict.map_err(VfsError::from).flatten().map_err(failed)?;
        Ok(api::Evicted {
            files: evicted.files,
            bytes: evicted.bytes,
            open: evicted.open,
            not_uploaded: evicted.not_uploaded,
            pinned: evicted.pinned,
        })
    }

    pub(super) async fn explain_file(
        &self,
        path: &Path,
    ) -> Result<api::Explanation, OperationError> {
        let ino = self.find(path).await?;
        self.parts.vfs.finish_closed().map_err(failed)?;
        let known = self.parts.vfs.explain(ino).map_err(failed)?;
        let (mount, _) = self.mount_of(path)?;
        let inode = &known.inode;
        let queue = self.parts.meta.scan(|tx| match tx.item(ino)? {
            Some(item) => self.item(tx, item),
            None if tx.is_writing(ino)? => self.item(tx, item_of_written(inode)),
            None => Ok(None),
        })?;
        let is_file = inode.attr.kind == FileKind::File;
        let daemon_path = match mount.daemon_path.borrow().clone() {
            Some(why) => Some(why),
            None if is_file && !known.whole => Some("not all of it is here".to_owned()),
            None => None,
        };
        Ok(api::Explanation {
            path: path.to_owned(),
            share: mount.name.clone(),
            inode: ino.0,
            kind: kind(inode.attr.kind).to_owned(),
            state: known.standing.state.word().to_owned(),
            conflict: known.standing.conflict,
            pinned_by: known.standing.pinned_by.clone(),
            bytes: inode.attr.size,
            bytes_here: known.standing.bytes_here,
            handles: known.open.0,
            writers: known.open.1,
            daemon_path,
            object: inode.object.as_ref().map(|object| api::ExplainedObject {
                key: object.key.to_string(),
                etag: object.etag.as_ref().map(ToString::to_string),
                current: inode.is_uploaded(),
            }),
            gates: self.gate_words(ino, inode.content)?,
            bytes_are: bytes_are(&known, inode),
            next: self.what_next(mount.share, queue.as_ref(), inode.is_uploaded()),
            queue,
        })
    }

    /// What happens next with a file, and when.
    fn what_next(&self, share: ShareId, item: Option<&api::QueueItem>, uploaded: bool) -> String {
        let Some(item) = item else {
            let local = self.mount_with(share).is_some_and(|mount| mount.link.is_none());
            return match (local, uploaded) {
                (true, _) => "nothing: it stays on this machine",
                (false, true) => "nothing: the store has it as it is",
                (false, false) => "nothing",
            }
            .to_owned();
        };
        let when = |due: Option<jiff::Timestamp>| match due {
            Some(due) if due > timestamp(self.parts.clock.wall()) => {
                format!("at {}", due.strftime("%Y-%m-%dT%H:%M:%SZ"))
            }
            Some(_) | None => "as soon as it is its turn".to_owned(),
        };
        let remedy = item.remedy.as_deref().unwrap_or("`fsd queue retry` tries it again");
        match item.state {
            api::ItemState::Parked => format!("nothing until a person acts: {remedy}"),
            api::ItemState::Cancelled => {
                "nothing: it is held back until `fsd queue retry` lets it go".to_owned()
            }
            api::ItemState::Writing => "it goes up when its last writer closes it".to_owned(),
            api::ItemState::Sending => "it is being sent".to_owned(),
            api::ItemState::Waiting => match self.blocked(Some(share)) {
                Some(why) => format!("it goes up when that ends: {why}"),
                None if item.tries > 0 => format!("it is tried again {}", when(item.due)),
                None => format!("it goes up {}", when(item.due)),
            },
        }
    }

    /// The mount that `path` is in, and the path below it.
    pub(super) fn mount_of<'p>(
        &self,
        path: &'p Path,
    ) -> Result<(&MountedShare, &'p Path), OperationError> {
        let in_mount = |mount: &&MountedShare| path.starts_with(&mount.path);
        let mounts = self.parts.mounts.iter().filter(in_mount);
        let deepest = mounts.max_by_key(|mount| mount.path.as_os_str().len());
        let mount = deepest.ok_or_else(|| OperationError::NoMount { path: path.to_owned() })?;
        Ok((mount, path.strip_prefix(&mount.path).unwrap_or(Path::new(""))))
    }
}

fn pin(mount: &MountedShare, pinned: Pinned) -> api::Pin {
    let Pinned { pattern, files, bytes, bytes_here } = pinned;
    let path = match pattern.as_str() {
        "" => mount.path.clone(),
        pattern => mount.path.join(pattern),
    };
    api::Pin { share: mount.name.clone(), path, files, bytes, bytes_here }
}

/// Where the bytes of a file are.
fn bytes_are(known: &Explained, inode: &Inode) -> String {
    let here = known.standing.bytes_here;
    let all = here >= inode.attr.size;
    let is_file = inode.attr.kind == FileKind::File;
    let has_object = inode.object.as_ref().is_some_and(|object| object.etag.is_some());
    match (is_file, inode.is_uploaded()) {
        (false, _) => "it has none".to_owned(),
        (true, true) if all => "here and in the store".to_owned(),
        (true, true) if here == 0 => "in the store only".to_owned(),
        (true, true) => "in the store, and in part here".to_owned(),
        (true, false) if all => "here only".to_owned(),
        (true, false) if has_object => {
            "what was written is here only; the rest is in the store".to_owned()
        }
        (true, false) => {
            "here in part, and the rest is nowhere any more: `fsd check` says more".to_owned()
        }
    }
}

fn kind(kind: FileKind) -> &'static str {
    match kind {
        FileKind::File => "file",
        FileKind::Dir => "directory",
        FileKind::Symlink => "symbolic link",
        FileKind::Fifo => "pipe",
        FileKind::Socket => "socket",
        FileKind::CharDevice => "character device",
        FileKind::BlockDevice => "block device",
    }
}

fn failed(error: VfsError) -> OperationError {
    OperationError::Failed(error.into())
}
