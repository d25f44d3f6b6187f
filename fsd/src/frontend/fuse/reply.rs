//! What goes back to the kernel.

use std::time::Duration;

use fuser::{Errno, Generation, INodeNo, ReplyEmpty, ReplyEntry, ReplyXattr};

use super::map::{self, NodeIds, errno};
use crate::types::chain;
use crate::vfs::{Entry, Vfs, VfsError};

/// Inode numbers are never reused, so there is one generation.
pub(super) const GENERATION: Generation = Generation(0);
/// Places of `.` and `..`; names lie behind.
const DOT: u64 = 1;
const DOT_DOT: u64 = 2;

/// The errno of an error; what is not everyday business is logged.
pub(super) fn said(error: &VfsError, op: &'static str, node: INodeNo) -> Errno {
    let errno = errno(error);
    if !map::is_everyday(error) {
        tracing::warn!(op, ino = node.0, error = %chain(error), "a request failed");
    }
    errno
}

pub(super) fn reply_entry(
    reply: ReplyEntry,
    found: Result<Entry, VfsError>,
    op: &'static str,
    parent: INodeNo,
    (nodes, vfs): (&NodeIds, &Vfs),
    ttl: Duration,
) {
    match found {
        Ok(Entry { ino, attr, .. }) => {
            let attr = map::attr(nodes.node(ino), &attr, vfs.blocks(ino, &attr));
            reply.entry(&ttl, &attr, GENERATION);
        }
        Err(error) => reply.error(said(&error, op, parent)),
    }
}

pub(super) fn reply_empty(
    reply: ReplyEmpty,
    done: Result<(), VfsError>,
    op: &'static str,
    node: INodeNo,
) {
    match done {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(said(&error, op, node)),
    }
}

pub(super) fn reply_sized(reply: ReplyXattr, value: &[u8], size: u32) {
    match u32::try_from(value.len()) {
        Ok(length) if size == 0 => reply.size(length),
        Ok(length) if length <= size => reply.data(value),
        Ok(_) | Err(_) => reply.error(Errno::ERANGE),
    }
}

pub(super) fn names_behind(offset: u64) -> u64 {
    if offset <= DOT_DOT { 0 } else { offset }
}

/// `.` and `..`, as far as they lie behind `offset`.
pub(super) fn dots(
    here: INodeNo,
    above: INodeNo,
    offset: u64,
) -> impl Iterator<Item = (&'static str, INodeNo, u64)> {
    [(".", here, DOT), ("..", above, DOT_DOT)]
        .into_iter()
        .filter(move |&(_, _, place)| place > offset)
}
