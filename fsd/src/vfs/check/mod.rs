//! Whether names, records, files and the cloud fit together; what can be mended without losing anything is, if that is asked for.
//!
//! Nothing of it should ever be found: what it finds comes from disks that lie, from an older copy of the metadata store that was put back,
//! or from a mistake of ours. It works while everything runs: each look is one transaction, or is taken again before anything is changed.

mod cloud;
mod files;
mod records;

use std::sync::Arc;

use super::{Result, Vfs, VfsError, Work};
use crate::cache::Difference;
use crate::types::{FileKind, Ino, chain};

/// Entries that are looked at in one go.
const PAGE: usize = 1000;

/// What kind of thing does not fit. Its word never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// A file or directory that should have a name has none.
    Nameless,
    /// A name names nothing.
    StrayName,
    /// A name is in no directory.
    StrayParent,
    /// Something is noted of an inode that is not there.
    UnknownOwner,
    /// A file or directory counts other names than it has.
    LinkCount,
    /// It differs from the cloud, and nothing says that it is to be uploaded.
    NotQueued,
    /// The bytes of a file that nobody else has are not there.
    BytesLost,
    /// Some of the bytes of a file that nobody else has are not there.
    BytesShort,
    /// What is noted of the blocks of a file that nobody else has can't be read.
    BlocksUnknown,
    /// What is cached is not there, or not as it is noted.
    CachedWrong,
    /// A backing file belongs to nothing.
    StrayFile,
    /// What the cache takes is counted wrong.
    Miscounted,
    /// The cloud has another version than the record says.
    ObjectChanged,
    /// The cloud does not have what the record says.
    ObjectGone,
    /// An object stands aside, and nobody moves it.
    Aside,
    /// A file is not what is on record of it: a verification found that.
    Differs(Difference),
}

impl Code {
    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Nameless => "nameless",
            Self::StrayName => "stray-name",
            Self::StrayParent => "stray-parent",
            Self::UnknownOwner => "unknown-owner",
            Self::LinkCount => "link-count",
            Self::NotQueued => "not-queued",
            Self::BytesLost => "bytes-lost",
            Self::BytesShort => "bytes-short",
            Self::BlocksUnknown => "blocks-unknown",
            Self::CachedWrong => "cached-wrong",
            Self::StrayFile => "stray-file",
            Self::Miscounted => "miscounted",
            Self::ObjectChanged => "object-changed",
            Self::ObjectGone => "object-gone",
            Self::Aside => "aside",
            Self::Differs(what) => what.code(),
        }
    }

    /// What a repair does about it; none if a person has to.
    #[must_use]
    pub fn repair(self) -> Option<&'static str> {
        Some(match self {
            Self::Nameless => {
                "what the store has is seen again by its own name; all else gets one in lost+found"
            }
            Self::StrayName => "the name goes, and the directory is asked for anew",
            Self::StrayParent => "the name goes; what it named gets one in lost+found",
            Self::UnknownOwner => "what is noted goes",
            Self::LinkCount => "its names are counted again",
            Self::NotQueued => "it is put into the queue",
            Self::CachedWrong => "it goes from the cache, and is fetched anew",
            Self::StrayFile => "it is moved to lost+found in the state directory",
            Self::Miscounted => "it is counted again",
            Self::ObjectChanged | Self::ObjectGone => "what the store says comes in",
            Self::BytesLost
            | Self::BytesShort
            | Self::BlocksUnknown
            | Self::Aside
            | Self::Differs(_) => return None,
        })
    }
}

/// Something that does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What kind of thing.
    pub code: Code,
    /// Where: a path in the share, or what else names it.
    pub at: String,
    /// What about it.
    pub what: String,
    /// It was mended.
    pub repaired: bool,
}

impl Vfs {
    /// Looks at all at and below `tops`; at what belongs to no file too, if `whole`. Mends what can be if `repair`.
    pub async fn check_below(
        self: &Arc<Self>,
        tops: Vec<Ino>,
        whole: bool,
        repair: bool,
        work: &Work,
    ) {
        let check = async {
            if let Err(error) = self.finish_closed() {
                work.failed(|| chain(&error));
            }
            if whole {
                self.check_whole(&tops, repair, work).await;
            }
            self.walk(tops, work, |at| self.check_one(at, repair, work)).await;
        };
        work.run(check).await;
    }

    async fn check_whole(self: &Arc<Self>, tops: &[Ino], repair: bool, work: &Work) {
        if let Err(error) = self.check_records(repair, work).await {
            work.failed(|| format!("names and records: {}", chain(&error)));
        }
        if let Err(error) = self.check_strays(repair, work).await {
            work.failed(|| format!("backing files: {}", chain(&error)));
        }
        for &top in tops {
            if let Err(error) = self.check_aside(top, work).await {
                work.failed(|| format!("objects that stand aside: {}", chain(&error)));
            }
        }
    }

    async fn check_one(self: &Arc<Self>, at: Ino, repair: bool, work: &Work) -> Result<Vec<Ino>> {
        let inode = self.inode(at)?;
        if inode.attr.kind != FileKind::Dir {
            self.check_inode(at, repair, work)?;
            return Ok(Vec::new());
        }
        let mut behind = 0;
        loop {
            let entries = self.meta.scan(|tx| tx.entries(at, behind, PAGE))?;
            let Some(last) = entries.last() else { break };
            behind = last.cookie;
            work.expect(entries.len() as u64, 0);
            for entry in entries {
                match self.check_inode(entry.ino, repair, work) {
                    Ok(()) | Err(VfsError::NoEntry) => {}
                    Err(error) => {
                        work.failed(|| format!("{}: {}", self.shown(entry.ino), chain(&error)));
                    }
                }
                work.did_file();
            }
            // Others want to look too.
            tokio::task::yield_now().await;
        }
        self.compare_with_cloud(&inode, repair, work).await?;
        let vfs = self.clone();
        self.tasks.blocking(move || vfs.dirs_in(at, |_| Ok(true))).await?
    }
}
