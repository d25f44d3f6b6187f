//! How much work is done.

use std::num::NonZeroU64;

/// Bytes of a small file, and of each random access.
pub(super) const SMALL_BYTES: usize = 4096;
/// Bytes of a file of which only the first are read.
pub(super) const FIRST_BYTES: u64 = 4 << 20;
/// How many of those there are.
pub(super) const FIRST_FILES: u64 = 8;

/// Counts; the full ones, or a part of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// The big file, in MiB.
    pub(super) big_mib: u64,
    /// The file that is synced and then accessed in random order, in MiB.
    pub(super) synced_mib: u64,
    pub(super) small_files: u64,
    pub(super) synced_files: u64,
    /// Entries of the directory that has many.
    pub(super) wide_entries: u64,
    /// Small files that are read from a cold cache, with latency and without.
    pub(super) far_files: u64,
    pub(super) unlisted_files: u64,
    /// Files of the tree that programs copy.
    pub(super) tree_files: u64,
    pub(super) cold_accesses: u64,
    /// Accesses to a warm file; they end early if they take long.
    pub(super) accesses: u64,
    /// Times that a process makes a directory and a file in it, renames and removes the file.
    pub(super) names: u64,
}

impl Sizes {
    pub(super) fn divided_by(divisor: NonZeroU64) -> Self {
        let part = |whole: u64| (whole / divisor).max(1);
        Self {
            big_mib: part(1024),
            synced_mib: part(256),
            small_files: part(5000),
            synced_files: part(1000),
            wide_entries: part(50_000),
            far_files: part(1000),
            unlisted_files: part(500),
            tree_files: part(2000),
            cold_accesses: part(256),
            accesses: part(100_000),
            names: part(2000),
        }
    }

    /// What the words in the table mean.
    pub(super) fn legend(self) -> Vec<String> {
        vec![
            format!("big: one file of {} MiB; written with fsync: one of {} MiB, in which the random accesses of 4 KiB are", self.big_mib, self.synced_mib),
            format!("small: {} files of 4 KiB; with fsync: {}; cold and far: up to {}, one by one; near and unlisted: {}", self.small_files, self.synced_files, self.far_files, self.unlisted_files),
            format!("wide: a directory with {} entries; trees for programs: {} files", self.wide_entries, self.tree_files),
            "warm: the kernel's caches are empty and the drive's are not; hot: neither is; cold: the drive starts with nothing".to_owned(),
            "far: each request to the store takes 20 ms more; near: none does".to_owned(),
            "names: make a directory and a file in it, rename the file, remove it".to_owned(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smaller_sizes_are_never_nothing() {
        let sizes = Sizes::divided_by(NonZeroU64::MAX);
        assert_eq!((sizes.big_mib, sizes.small_files, sizes.far_files), (1, 1, 1));
    }
}
