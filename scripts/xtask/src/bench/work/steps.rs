//! What is done, in which order.

use super::{Bench, Measured, big, cold, memory, names, programs, random, small};
use crate::bench::row::Row;
use crate::bench::sizes::Sizes;
use crate::bench::subject::{Kind, Rest, Subject};

/// What is done on one subject without a pause.
#[derive(Clone, Copy)]
pub(in crate::bench) struct Step {
    pub(in crate::bench) rows: &'static [Row],
    /// Who can do it.
    pub(in crate::bench) suits: fn(Kind) -> bool,
    /// Whether what it makes is needed by others, so that it is done even by those who need long.
    pub(in crate::bench) makes_data: bool,
    /// Makes what the step needs, unless it is there; whether it had to.
    pub(super) prepare: fn(&Bench, &Subject) -> anyhow::Result<bool>,
    /// Whether the drive starts with nothing in its cache.
    pub(super) is_fresh: bool,
    /// Whether the kernel's caches are emptied.
    pub(super) is_dropped: bool,
    /// Memory that must be had beforehand, in MiB: the drive's pages, those of the file below it, what the store keeps.
    pub(super) claims_mib: fn(Sizes) -> u64,
    pub(super) leaves: Rest,
    pub(super) measure: fn(&Bench, &mut Subject) -> anyhow::Result<Measured>,
}

const PLAIN: Step = Step {
    rows: &[],
    suits: |_| true,
    makes_data: false,
    prepare: |_, _| Ok(false),
    is_fresh: false,
    is_dropped: false,
    claims_mib: |_| 0,
    leaves: Rest::Little,
    measure: |_, _| Ok(Vec::new()),
};

/// With the kernel's caches empty, and the drive's not.
const WARM: Step = Step { is_dropped: true, ..PLAIN };

/// What is to be uploaded afterwards.
const WRITES: Step = Step { leaves: Rest::Uploads, ..PLAIN };

/// On a drive that has nothing but the store. For a plain directory it is the same as warm.
const COLD: Step = Step { is_fresh: true, is_dropped: true, ..PLAIN };

/// In this order, each on one subject after the other.
pub(in crate::bench) const EACH_ROUND: &[Step] = &[
    Step { rows: &[Row::MemoryIdle], measure: |_, subject| memory::idle(subject), ..PLAIN },
    Step {
        rows: &[Row::WriteBig, Row::StoreBig, Row::CpuBig],
        makes_data: true,
        claims_mib: |sizes| 3 * sizes.big_mib,
        measure: big::write,
        ..PLAIN
    },
    Step {
        rows: &[Row::CreateSmall, Row::StoreSmall, Row::CpuSmall],
        makes_data: true,
        measure: small::create,
        ..PLAIN
    },
    Step {
        rows: &[Row::MemoryPeak],
        prepare: |bench, subject| {
            Ok(big::prepare(bench, subject)? | small::prepare(bench, subject)?)
        },
        measure: |_, subject| memory::peak(subject, Row::MemoryPeak),
        ..PLAIN
    },
    Step {
        rows: &[Row::ReadBigWarm, Row::ReadBigHot],
        prepare: big::prepare,
        claims_mib: |sizes| 2 * sizes.big_mib,
        measure: big::read,
        ..WARM
    },
    Step {
        rows: &[Row::WriteSynced],
        makes_data: true,
        claims_mib: |sizes| 3 * sizes.synced_mib,
        measure: big::write_synced,
        ..WRITES
    },
    Step {
        rows: &[Row::RandomRead, Row::RandomMixed, Row::RandomMixedDeep, Row::RandomMapped],
        prepare: big::prepare_synced,
        leaves: Rest::Uploads,
        measure: random::warm,
        ..WARM
    },
    Step {
        rows: &[Row::ReadSmallWarm, Row::ReadSmallHot],
        prepare: small::prepare,
        measure: small::read,
        ..WARM
    },
    Step { rows: &[Row::StatSmall], prepare: small::prepare, measure: small::stat, ..WARM },
    Step { rows: &[Row::ListLong], prepare: small::prepare, measure: small::list_long, ..WARM },
    Step {
        rows: &[Row::StoreSmallFar],
        suits: Kind::has_store,
        measure: small::create_far,
        ..WRITES
    },
    // Not soon after the large writes, which the disk's cache may still be busy with.
    Step { rows: &[Row::CreateSynced], measure: small::create_synced, ..WRITES },
    Step { rows: &[Row::Tar], measure: programs::tar, ..WRITES },
    Step { rows: &[Row::Copy], measure: programs::copy, ..WRITES },
    Step { rows: &[Row::Rsync], measure: programs::rsync, ..WRITES },
    Step {
        rows: &[Row::RsyncAgain],
        prepare: programs::prepare_rsync,
        measure: programs::rsync_again,
        ..WARM
    },
    Step { rows: &[Row::GitClone], measure: programs::git_clone, ..WRITES },
    Step {
        rows: &[Row::GitStatus],
        prepare: programs::prepare_clone,
        leaves: Rest::Uploads,
        measure: programs::git_status,
        ..WARM
    },
    Step {
        rows: &[Row::ListCold, Row::ListAgain],
        // JuiceFS never asks a store for names, and making them one by one would take minutes.
        suits: |kind| kind != Kind::JuiceFs,
        measure: cold::list,
        ..COLD
    },
    Step { rows: &[Row::ListColdFar], suits: Kind::shows_objects, measure: cold::list_far, ..COLD },
    Step {
        rows: &[Row::ReadBigCold],
        prepare: big::prepare,
        claims_mib: |sizes| 3 * sizes.big_mib,
        measure: big::read_cold,
        ..COLD
    },
    Step {
        rows: &[Row::RandomCold, Row::RandomColdFetched],
        prepare: big::prepare,
        measure: random::cold,
        ..COLD
    },
    Step {
        rows: &[Row::FirstBytes],
        suits: Kind::has_store,
        prepare: cold::prepare_first,
        measure: cold::first_bytes,
        ..COLD
    },
    Step {
        rows: &[Row::ReadSmallFar],
        suits: Kind::has_store,
        prepare: small::prepare,
        measure: cold::small_far,
        ..COLD
    },
    Step {
        rows: &[Row::ReadSmallUnlisted],
        prepare: small::prepare,
        measure: cold::small_unlisted,
        ..COLD
    },
    Step {
        rows: &[Row::MemoryPeakAll],
        measure: |_, subject| memory::peak(subject, Row::MemoryPeakAll),
        ..PLAIN
    },
];

/// What removes files: ext4 creates slowly for minutes afterwards. Done on the subjects of the last round, as often as
/// there are rounds.
pub(in crate::bench) const AFTER_ALL: &[Step] = &[
    Step { rows: &[Row::Names], measure: names::one, ..WRITES },
    Step { rows: &[Row::NamesMany], measure: names::many, ..WRITES },
    Step {
        rows: &[Row::Remove],
        prepare: programs::prepare_tree,
        measure: programs::remove,
        ..WRITES
    },
];
