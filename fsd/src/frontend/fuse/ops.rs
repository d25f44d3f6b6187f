//! The kernel's requests, each handed to the vfs.

use std::ffi::OsStr;
use std::future::Future;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Waker};
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, FileType, Filesystem, FopenFlags, INodeNo,
    InitFlags, KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs,
    ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use super::data::DataPaths;
use super::killed::killed;
use super::map::{self, NodeIds};
use super::polling::Polling;
use super::reply::{GENERATION, dots, names_behind, reply_empty, reply_entry, reply_sized, said};
use crate::types::FileKind;
use crate::vfs::{
    AttrChange, Caller, Entry, HandedOut, HandleId, NAME_BYTES_MAX, OpenHow, RenameHow, Seek, Vfs,
    VfsError, WriteHow, XattrHow, is_acl,
};

/// Entries that one request for a directory's content may take: with names of common length what fits into the 32 KiB that the C
/// library asks for; and with attributes.
const DIR_PAGE: usize = 800;
const DIR_PLUS_PAGE: usize = 192;
/// Backing files lie on a disk, not on another stacked file system.
const STACK_DEPTH: u32 = 1;
/// How long the kernel may believe the attributes of a file that it has just made and writes by itself: until it has opened it, so that
/// it need not ask at once.
const CREATED_TTL: Duration = Duration::from_millis(10);
/// How long the kernel may believe that a name is not there; it is told of those that come from the cloud no sooner.
const ABSENT_TTL: Duration = Duration::from_secs(1);
const STATFS_BLOCK_BYTES: u32 = 4096;

/// One share, as the kernel sees it.
#[derive(Debug)]
pub(super) struct Drive {
    vfs: Arc<Vfs>,
    nodes: NodeIds,
    ttl: Duration,
    /// Reads are answered from here, so that no read pays for fresh memory.
    buffer: Mutex<Vec<u8>>,
    polling: Arc<Polling>,
    paths: Arc<DataPaths>,
    /// Whether there are access control lists.
    acl: bool,
}

fn caller(request: &Request, umask: u32) -> Caller {
    Caller { uid: request.uid(), gid: request.gid(), umask }
}

fn handle(fh: FileHandle) -> HandleId {
    HandleId(fh.0)
}

fn open_how(flags: i32) -> OpenHow {
    OpenHow {
        read: flags & libc::O_ACCMODE != libc::O_WRONLY,
        write: flags & libc::O_ACCMODE != libc::O_RDONLY,
        truncate: flags & libc::O_TRUNC != 0,
        append: flags & libc::O_APPEND != 0,
    }
}

/// What the kernel calls the file of `entry` from here on: what it is told of that must not be told of one that somebody still reads.
fn node_of(nodes: &NodeIds, paths: &DataPaths, entry: &Entry) -> INodeNo {
    let node = nodes.node(entry.ino);
    if paths.size_replaced(node, entry.content).is_none() {
        return node;
    }
    nodes.renew(node);
    nodes.node(entry.ino)
}

impl Drive {
    pub(super) fn new(
        vfs: Arc<Vfs>,
        nodes: NodeIds,
        ttl: Duration,
        polling: Arc<Polling>,
        paths: Arc<DataPaths>,
        acl: bool,
    ) -> Self {
        Self { vfs, nodes, ttl, buffer: Mutex::default(), polling, paths, acl }
    }

    /// Tries a request at once; what has to wait goes on as a task.
    fn answer(&self, request: impl Future<Output = ()> + Send + 'static) {
        self.polling.seen();
        let mut request = Box::pin(request);
        let _runtime = self.vfs.tasks().handle().enter();
        if request.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            self.vfs.tasks().spawn("fuse.request", request);
        }
    }

    /// As [`Drive::answer`], for what changes nothing: given up when who asked is killed.
    fn tell(&self, asker: &Request, request: impl Future<Output = ()> + Send + 'static) {
        let killed = killed(asker.pid(), self.vfs.clock().clone());
        self.answer(async move {
            tokio::select! {
                biased;
                () = request => {}
                () = killed => {}
            }
        });
    }

    /// The name of an attribute, if there is such a thing here.
    fn attribute<'n>(&self, name: &'n OsStr) -> Result<&'n [u8], VfsError> {
        match name.as_bytes() {
            name if is_acl(name) && !self.acl => Err(VfsError::Unsupported("this attribute")),
            name => Ok(name),
        }
    }

    fn entry(
        &self,
        reply: ReplyEntry,
        found: Result<Entry, VfsError>,
        op: &'static str,
        parent: INodeNo,
    ) {
        reply_entry(reply, found, op, parent, (&self.nodes, &*self.vfs), self.ttl);
    }
}

impl Filesystem for Drive {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        // Not FUSE_ATOMIC_O_TRUNC: with it a running program that is opened with O_RDONLY and O_TRUNC is emptied before the kernel
        // says ETXTBSY.
        let wanted = [
            InitFlags::FUSE_EXPORT_SUPPORT,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_HANDLE_KILLPRIV_V2,
            InitFlags::FUSE_CACHE_SYMLINKS,
            InitFlags::FUSE_DONT_MASK,
        ];
        let lists = self.acl.then_some(InitFlags::FUSE_POSIX_ACL);
        for flag in wanted.into_iter().chain(lists) {
            if config.add_capabilities(flag).is_err() {
                tracing::debug!(?flag, "this kernel does not have it");
            }
        }
        let stacked = config.set_max_stack_depth(STACK_DEPTH);
        if stacked.is_err() || config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).is_err() {
            self.paths.refuse("this kernel has no FUSE passthrough (Linux 6.9 has)".to_owned());
        }
        Ok(())
    }

    fn lookup(&self, asker: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let (vfs, nodes, ttl) = (self.vfs.clone(), self.nodes.clone(), self.ttl);
        let paths = self.paths.clone();
        let (dir, name) = (self.nodes.ino(parent), name.as_bytes().to_vec());
        self.tell(asker, async move {
            // NFS asks for these after the kernel forgot an inode.
            let found = match name.as_slice() {
                b"." => vfs.entry(dir),
                b".." => vfs.parent(dir).and_then(|ino| vfs.entry(ino)),
                _ => vfs.lookup(dir, &name).await,
            };
            if let Err(VfsError::NoEntry) = found {
                return reply.entry(&ABSENT_TTL, &map::absent(), GENERATION);
            }
            let node = found.as_ref().ok().map(|entry| node_of(&nodes, &paths, entry));
            let ttl = match (&found, node) {
                (Ok(entry), Some(node)) if entry.attrs_known => paths.ttl(node, ttl),
                (Ok(_) | Err(_), _) => Duration::ZERO,
            };
            reply_entry(reply, found, "lookup", parent, (&nodes, &*vfs), ttl);
        });
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        self.polling.seen();
        match self.vfs.entry(self.nodes.ino(ino)) {
            Ok(Entry { ino: file, mut attr, content, .. }) => {
                // Who still reads what was replaced reads all of that.
                attr.size = self.paths.size_replaced(ino, content).unwrap_or(attr.size);
                let blocks = self.vfs.blocks(file, &attr);
                reply.attr(&self.paths.ttl(ino, self.ttl), &map::attr(ino, &attr, blocks));
            }
            Err(error) => reply.error(said(&error, "getattr", ino)),
        }
    }

    fn setattr(
        &self,
        request: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let change = AttrChange {
            perm: mode.map(|mode| mode & 0o7777),
            uid,
            gid,
            size,
            atime: atime.map(map::set_time),
            mtime: mtime.map(map::set_time),
            kill_privileges: size.is_some() && request.uid() != 0,
        };
        let (vfs, node, ttl) = (self.vfs.clone(), self.nodes.ino(ino), self.ttl);
        let paths = self.paths.clone();
        self.answer(async move {
            match vfs.set_attr(node, change).await {
                Ok(attr) => {
                    let blocks = vfs.blocks(node, &attr);
                    reply.attr(&paths.ttl(ino, ttl), &map::attr(ino, &attr, blocks));
                }
                Err(error) => reply.error(said(&error, "setattr", ino)),
            }
        });
    }

    fn readlink(&self, asker: &Request, ino: INodeNo, reply: ReplyData) {
        let (vfs, node) = (self.vfs.clone(), self.nodes.ino(ino));
        self.tell(asker, async move {
            match vfs.read_link(node).await {
                Ok(target) => reply.data(&target),
                Err(error) => reply.error(said(&error, "readlink", ino)),
            }
        });
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let (dir, name) = (self.nodes.ino(parent), name.as_bytes());
        let (perm, caller) = (mode, caller(request, umask));
        let made = match FileKind::from_mode(mode) {
            Some(FileKind::File) | None => self
                .vfs
                .create(dir, name, perm, caller, OpenHow::default())
                .and_then(|(ino, _, handle)| {
                    self.vfs.release(handle)?;
                    self.vfs.entry(ino)
                }),
            Some(kind) => self.vfs.make_node(dir, name, kind, rdev, perm, caller),
        };
        self.entry(reply, made, "mknod", parent);
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let made = self.vfs.make_dir(
            self.nodes.ino(parent),
            name.as_bytes(),
            mode,
            caller(request, umask),
        );
        self.entry(reply, made, "mkdir", parent);
    }

    fn link(&self, _: &Request, ino: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let (node, dir) = (self.nodes.ino(ino), self.nodes.ino(parent));
        let made = self.vfs.link(node, dir, name.as_bytes());
        let ttl = self.paths.ttl(ino, self.ttl);
        reply_entry(reply, made, "link", parent, (&self.nodes, &*self.vfs), ttl);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.polling.seen();
        reply_empty(
            reply,
            self.vfs.unlink(self.nodes.ino(parent), name.as_bytes()),
            "unlink",
            parent,
        );
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (vfs, dir, name) = (self.vfs.clone(), self.nodes.ino(parent), name.as_bytes().to_vec());
        self.answer(async move {
            reply_empty(reply, vfs.remove_dir(dir, &name).await, "rmdir", parent);
        });
    }

    fn symlink(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let target = target.as_os_str().as_bytes();
        let made =
            self.vfs.symlink(self.nodes.ino(parent), name.as_bytes(), target, caller(request, 0));
        self.entry(reply, made, "symlink", parent);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let how = match flags {
            flags if flags.is_empty() => RenameHow::Replace,
            RenameFlags::RENAME_NOREPLACE => RenameHow::NoReplace,
            RenameFlags::RENAME_EXCHANGE => RenameHow::Exchange,
            _ => return reply.error(Errno::EINVAL),
        };
        let (vfs, from, to) =
            (self.vfs.clone(), self.nodes.ino(parent), self.nodes.ino(new_parent));
        let (name, new_name) = (name.as_bytes().to_vec(), new_name.as_bytes().to_vec());
        self.answer(async move {
            reply_empty(
                reply,
                vfs.rename((from, &name), (to, &new_name), how).await,
                "rename",
                parent,
            );
        });
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        self.polling.seen();
        let how = open_how(flags);
        match self.vfs.create(
            self.nodes.ino(parent),
            name.as_bytes(),
            mode,
            caller(request, umask),
            how,
        ) {
            Ok((ino, attr, handle)) => {
                let node = self.nodes.node(ino);
                let attr = map::attr(node, &attr, self.vfs.blocks(ino, &attr));
                let wanted = || self.vfs.handed_out(handle);
                let file = self.vfs.opened(handle);
                let content = file.as_ref().map(HandedOut::content);
                let begun = self.paths.begin((node, file), wanted, |file| reply.open_backing(file));
                // Nobody else has it open yet.
                let straight = begun.unwrap_or_default();
                let (fh, flags) = (FileHandle(handle.0), FopenFlags::FOPEN_NOFLUSH);
                match straight {
                    Some(id) => {
                        let flags = flags | straight_flags(&self.vfs, handle);
                        reply.created_passthrough(&CREATED_TTL, &attr, GENERATION, fh, flags, &id);
                    }
                    None => {
                        if let Some(content) = content {
                            self.paths.has_pages_of(node, content);
                        }
                        let flags = flags | FopenFlags::FOPEN_KEEP_CACHE;
                        reply.created(&self.ttl, &attr, GENERATION, fh, flags);
                    }
                }
            }
            Err(error) => reply.error(said(&error, "create", parent)),
        }
    }

    fn open(&self, asker: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let (vfs, nodes, how) = (self.vfs.clone(), self.nodes.clone(), open_how(flags.0));
        let paths = self.paths.clone();
        let open = async move {
            match vfs.open(nodes.ino(ino), how).await {
                Ok(handle) => {
                    let wanted = || vfs.handed_out(handle);
                    let file = vfs.opened(handle);
                    let content = file.as_ref().map(HandedOut::content);
                    let begun = paths.begin((ino, file), wanted, |file| reply.open_backing(file));
                    let Ok(straight) = begun else {
                        // The kernel looks the name up again, and finds a file of its own.
                        nodes.renew(ino);
                        let closed = vfs.release(handle);
                        return reply.error(
                            closed.map_or_else(|e| said(&e, "open", ino), |()| Errno::ESTALE),
                        );
                    };
                    let mut flags = FopenFlags::empty();
                    if !vfs.needs_flush(handle) {
                        flags |= FopenFlags::FOPEN_NOFLUSH;
                    }
                    let fh = FileHandle(handle.0);
                    match straight {
                        // Pages that the kernel kept when the file went through us may be older than the file: they go.
                        Some(id) => {
                            let flags = flags | straight_flags(&vfs, handle);
                            reply.opened_passthrough(fh, flags, &id);
                        }
                        None => {
                            if content.is_some_and(|content| paths.has_pages_of(ino, content)) {
                                flags |= FopenFlags::FOPEN_KEEP_CACHE;
                            }
                            reply.opened(fh, flags);
                        }
                    }
                }
                Err(error) => reply.error(said(&error, "open", ino)),
            }
        };
        // What empties the file goes to its end.
        if how.truncate {
            self.answer(open);
        } else {
            self.tell(asker, open);
        }
    }

    fn read(
        &self,
        asker: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.polling.seen();
        {
            let mut buffer = self.buffer.lock().unwrap_or_else(PoisonError::into_inner);
            let length = usize::try_from(size).unwrap_or(0);
            if buffer.len() < length {
                buffer.resize(length, 0);
            }
            match self.vfs.read_here(handle(fh), offset, &mut buffer[..length]) {
                Ok(Some(count)) => return reply.data(&buffer[..count]),
                Ok(None) => {}
                Err(error) => return reply.error(said(&error, "read", ino)),
            }
        }
        let vfs = self.vfs.clone();
        self.tell(asker, async move {
            match vfs.read(handle(fh), offset, size).await {
                Ok(data) => reply.data(&data),
                Err(error) => reply.error(said(&error, "read", ino)),
            }
        });
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        self.polling.seen();
        let how = WriteHow {
            kill_privileges: write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID),
            in_place: write_flags.contains(WriteFlags::FUSE_WRITE_CACHE),
        };
        match self.vfs.write_here(handle(fh), offset, data, how) {
            Ok(Some(written)) => return reply.written(written),
            Ok(None) => {}
            Err(error) => return reply.error(said(&error, "write", ino)),
        }
        let (vfs, data) = (self.vfs.clone(), data.to_vec());
        self.answer(async move {
            match vfs.write(handle(fh), offset, &data, how).await {
                Ok(written) => reply.written(written),
                Err(error) => reply.error(said(&error, "write", ino)),
            }
        });
    }

    fn flush(&self, _: &Request, ino: INodeNo, fh: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply_empty(reply, self.vfs.flush(handle(fh)), "flush", ino);
    }

    fn release(
        &self,
        _: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.polling.seen();
        self.paths.end(ino);
        reply_empty(reply, self.vfs.release(handle(fh)), "release", ino);
    }

    fn fsync(&self, _: &Request, ino: INodeNo, fh: FileHandle, _: bool, reply: ReplyEmpty) {
        let vfs = self.vfs.clone();
        // The disk may take its time: other requests go on meanwhile.
        self.vfs.tasks().spawn_blocking("fuse.fsync", move || {
            let durable = vfs.fsync(handle(fh));
            match vfs.fsync_wait(handle(fh)).filter(|_| durable.is_ok()) {
                None => reply_empty(reply, durable, "fsync", ino),
                Some(wait) => vfs.clone().tasks().spawn("fuse.fsync", async move {
                    reply_empty(reply, vfs.uploaded(handle(fh), wait).await, "fsync", ino);
                }),
            }
        });
    }

    fn fallocate(
        &self,
        _: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let vfs = self.vfs.clone();
        self.answer(async move {
            let done = vfs.allocate(handle(fh), mode, offset, length).await;
            reply_empty(reply, done, "fallocate", ino);
        });
    }

    fn lseek(
        &self,
        _: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        self.polling.seen();
        let seek = match whence {
            libc::SEEK_DATA => Seek::Data,
            libc::SEEK_HOLE => Seek::Hole,
            _ => return reply.error(Errno::EINVAL),
        };
        let offset = u64::try_from(offset).map_err(|_| VfsError::NoData);
        match offset.and_then(|offset| self.vfs.seek(handle(fh), offset, seek)) {
            Ok(found) => reply.offset(found.cast_signed()),
            Err(error) => reply.error(said(&error, "lseek", ino)),
        }
    }

    fn copy_file_range(
        &self,
        _: &Request,
        ino: INodeNo,
        fh_in: FileHandle,
        offset_in: u64,
        _: INodeNo,
        fh_out: FileHandle,
        offset_out: u64,
        length: u64,
        _: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let (vfs, from, to) =
            (self.vfs.clone(), (handle(fh_in), offset_in), (handle(fh_out), offset_out));
        self.answer(async move {
            match vfs.copy_range(from, to, length).await {
                Ok(copied) => reply.written(copied),
                Err(error) => reply.error(said(&error, "copy_file_range", ino)),
            }
        });
    }

    fn opendir(&self, asker: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let (vfs, node) = (self.vfs.clone(), self.nodes.ino(ino));
        self.tell(asker, async move {
            match vfs.open_dir(node).await {
                // The kernel keeps names, and is told when they change behind its back.
                Ok(()) => {
                    let flags = FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE;
                    reply.opened(FileHandle(0), flags);
                }
                Err(error) => reply.error(said(&error, "opendir", ino)),
            }
        });
    }

    fn readdir(
        &self,
        asker: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let (vfs, nodes, node) = (self.vfs.clone(), self.nodes.clone(), self.nodes.ino(ino));
        self.tell(asker, async move {
            let page = match vfs.read_names(node, names_behind(offset), DIR_PAGE).await {
                Ok(page) => page,
                Err(error) => return reply.error(said(&error, "readdir", ino)),
            };
            for (name, above, place) in dots(ino, nodes.node(page.parent), offset) {
                if reply.add(above, place, FileType::Directory, name) {
                    return reply.ok();
                }
            }
            for found in page.entries {
                let (entry, kind) = (found.entry, map::kind(found.kind));
                let name = OsStr::from_bytes(&entry.name);
                if reply.add(nodes.node(entry.ino), entry.cookie, kind, name) {
                    break;
                }
            }
            reply.ok();
        });
    }

    fn readdirplus(
        &self,
        asker: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let (vfs, nodes, node, ttl) =
            (self.vfs.clone(), self.nodes.clone(), self.nodes.ino(ino), self.ttl);
        let paths = self.paths.clone();
        self.tell(asker, async move {
            let page = match vfs.read_dir(node, names_behind(offset), DIR_PLUS_PAGE).await {
                Ok(page) => page,
                Err(error) => return reply.error(said(&error, "readdirplus", ino)),
            };
            for (name, above, place) in dots(ino, nodes.node(page.parent), offset) {
                let Ok(attr) = vfs.attr(nodes.ino(above)) else { continue };
                let attr = map::attr(above, &attr, vfs.blocks(nodes.ino(above), &attr));
                if reply.add(above, place, name, &ttl, &attr, GENERATION) {
                    return reply.ok();
                }
            }
            for entry in page.entries {
                let node = node_of(&nodes, &paths, &entry);
                // Of attributes that are not known the kernel believes nothing: it asks when somebody wants them.
                let ttl = match entry.attrs_known {
                    true => paths.ttl(node, ttl),
                    false => Duration::ZERO,
                };
                let name = OsStr::from_bytes(&entry.name);
                let attr = map::attr(node, &entry.attr, vfs.blocks(entry.ino, &entry.attr));
                if reply.add(node, entry.cookie, name, &ttl, &attr, GENERATION) {
                    break;
                }
            }
            reply.ok();
        });
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let vfs = self.vfs.clone();
        self.vfs.tasks().spawn_blocking("fuse.fsync", move || {
            reply_empty(reply, vfs.barrier(), "fsyncdir", ino);
        });
    }

    fn statfs(&self, _: &Request, ino: INodeNo, reply: ReplyStatfs) {
        match self.vfs.space(self.nodes.ino(ino)) {
            Ok(space) => {
                let blocks = |bytes: u64| bytes / u64::from(STATFS_BLOCK_BYTES);
                let (total, free) = (blocks(space.total), blocks(space.free));
                let names = u32::try_from(NAME_BYTES_MAX).unwrap_or(255);
                reply.statfs(
                    total,
                    free,
                    free,
                    0,
                    0,
                    STATFS_BLOCK_BYTES,
                    names,
                    STATFS_BLOCK_BYTES,
                );
            }
            Err(error) => reply.error(said(&error, "statfs", ino)),
        }
    }

    fn setxattr(
        &self,
        _: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _: u32,
        reply: ReplyEmpty,
    ) {
        let how = match flags {
            libc::XATTR_CREATE => XattrHow::Create,
            libc::XATTR_REPLACE => XattrHow::Replace,
            _ => XattrHow::Any,
        };
        let set = self
            .attribute(name)
            .and_then(|name| self.vfs.set_xattr(self.nodes.ino(ino), name, value, how));
        reply_empty(reply, set, "setxattr", ino);
    }

    fn getxattr(&self, _: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        self.polling.seen();
        match self.attribute(name).and_then(|name| self.vfs.xattr(self.nodes.ino(ino), name)) {
            Ok(value) => reply_sized(reply, &value, size),
            Err(error) => reply.error(said(&error, "getxattr", ino)),
        }
    }

    fn listxattr(&self, _: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        match self.vfs.xattr_names(self.nodes.ino(ino)) {
            Ok(names) => {
                let shown = names.into_iter().filter(|name| self.acl || !is_acl(name));
                let list: Vec<u8> = shown.flat_map(|name| name.into_iter().chain([0])).collect();
                reply_sized(reply, &list, size);
            }
            Err(error) => reply.error(said(&error, "listxattr", ino)),
        }
    }

    fn removexattr(&self, _: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let removed =
            self.attribute(name).and_then(|name| self.vfs.remove_xattr(self.nodes.ino(ino), name));
        reply_empty(reply, removed, "removexattr", ino);
    }
}

/// How a handle with a way straight to the backing file differs from others: each write of one that is watched comes to us.
fn straight_flags(vfs: &Vfs, handle: HandleId) -> FopenFlags {
    if vfs.is_watched(handle) { FopenFlags::FOPEN_DIRECT_IO } else { FopenFlags::empty() }
}
