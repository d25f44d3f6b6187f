//! The lines of the table: what each counts, and what ours must reach.

/// One line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Row {
    WriteBig,
    StoreBig,
    WriteSynced,
    ReadBigWarm,
    ReadBigHot,
    RandomRead,
    RandomMixed,
    RandomMixedDeep,
    RandomMapped,
    CreateSmall,
    StoreSmall,
    StoreSmallFar,
    CreateSynced,
    ReadSmallWarm,
    ReadSmallHot,
    StatSmall,
    ListLong,
    ListAgain,
    Tar,
    Copy,
    Rsync,
    RsyncAgain,
    GitClone,
    GitStatus,
    ListCold,
    ListColdFar,
    ReadBigCold,
    FirstBytes,
    RandomCold,
    RandomColdFetched,
    ReadSmallFar,
    ReadSmallUnlisted,
    CpuBig,
    CpuSmall,
    MemoryIdle,
    MemoryPeak,
    MemoryPeakAll,
    Names,
    NamesMany,
    Remove,
}

/// How a line counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    MibPerSecond,
    FilesPerSecond,
    EntriesPerSecond,
    OpsPerSecond,
    Seconds,
    CpuSeconds,
    Milliseconds,
    Mib,
    /// Bytes that came for each that was asked for.
    Times,
}

impl Unit {
    pub(super) fn more_is_better(self) -> bool {
        match self {
            Self::MibPerSecond
            | Self::FilesPerSecond
            | Self::EntriesPerSecond
            | Self::OpsPerSecond => true,
            Self::Seconds | Self::CpuSeconds | Self::Milliseconds | Self::Mib | Self::Times => {
                false
            }
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::MibPerSecond => "MiB/s",
            Self::FilesPerSecond => "files/s",
            Self::EntriesPerSecond => "entries/s",
            Self::OpsPerSecond => "ops/s",
            Self::Seconds => "s",
            Self::CpuSeconds => "CPU s",
            Self::Milliseconds => "ms",
            Self::Mib => "MiB",
            Self::Times => "×",
        }
    }
}

/// What ours must reach. A share is how many times as good ours must be: for a rate ours by theirs, for a time theirs by
/// ours.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Bar {
    /// A share of the plain directory.
    Native(f64),
    /// A share of the floor.
    Floor(f64),
    /// A time that is at most so many times that of the floor.
    FloorTimes(f64),
    /// A share of the best peer.
    Peer(f64),
    /// A share of the store alone.
    Store(f64),
    /// The lesser of a share of the floor and one of the store alone.
    FloorOrStore(f64, f64),
    /// A figure that is at most this.
    AtMost(f64),
}

/// A line's words and bars.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spec {
    pub(super) name: &'static str,
    pub(super) unit: Unit,
    pub(super) bars: &'static [Bar],
    /// Whether the quick run has it.
    pub(super) is_quick: bool,
}

const fn spec(name: &'static str, unit: Unit, bars: &'static [Bar]) -> Spec {
    Spec { name, unit, bars, is_quick: false }
}

const fn quick(name: &'static str, unit: Unit, bars: &'static [Bar]) -> Spec {
    Spec { name, unit, bars, is_quick: true }
}

impl Row {
    pub(super) fn spec(self) -> Spec {
        use Bar::{AtMost, Floor, FloorOrStore, FloorTimes, Native, Peer, Store};
        use Unit::{
            CpuSeconds, EntriesPerSecond, FilesPerSecond, Mib, MibPerSecond, Milliseconds,
            OpsPerSecond, Seconds, Times,
        };
        match self {
            Self::WriteBig => quick("write big to close", MibPerSecond, &[Native(0.9)]),
            Self::StoreBig => quick("write big until in the store", Seconds, &[]),
            Self::WriteSynced => spec("write and fsync", MibPerSecond, &[Native(0.9)]),
            Self::ReadBigWarm => quick("read big warm", MibPerSecond, &[Native(0.95)]),
            Self::ReadBigHot => quick("read big hot", MibPerSecond, &[Native(0.88)]),
            Self::RandomRead => spec("random read", OpsPerSecond, &[Native(0.95)]),
            Self::RandomMixed => spec("random 60/40, depth 1", OpsPerSecond, &[Native(0.95)]),
            Self::RandomMixedDeep => spec("random 60/40, depth 8", OpsPerSecond, &[Native(0.8)]),
            Self::RandomMapped => spec("random 60/40 by mmap", OpsPerSecond, &[Native(0.95)]),
            Self::CreateSmall => quick("create small", FilesPerSecond, &[Floor(0.6), Peer(6.0)]),
            Self::StoreSmall => quick("create small until in the store", Seconds, &[Peer(5.0)]),
            Self::StoreSmallFar => {
                spec("create small until in the store, far", Seconds, &[Peer(5.0)])
            }
            Self::CreateSynced => spec("create small with fsync", FilesPerSecond, &[Floor(0.6)]),
            Self::ReadSmallWarm => quick("read small warm", FilesPerSecond, &[Floor(0.8)]),
            Self::ReadSmallHot => spec("read small hot", FilesPerSecond, &[Floor(0.9)]),
            Self::StatSmall => quick("stat small", FilesPerSecond, &[Floor(1.0)]),
            Self::ListLong => spec("ls -lR small", FilesPerSecond, &[Floor(1.0)]),
            Self::ListAgain => spec("list wide again", EntriesPerSecond, &[Floor(1.0)]),
            Self::Tar => spec("tar x", Seconds, &[FloorTimes(2.0)]),
            Self::Copy => spec("cp -r", Seconds, &[FloorTimes(2.0)]),
            Self::Rsync => spec("rsync -a", Seconds, &[FloorTimes(2.0)]),
            Self::RsyncAgain => spec("rsync -a again", Seconds, &[FloorTimes(1.2)]),
            Self::GitClone => spec("git clone", Seconds, &[FloorTimes(2.0)]),
            Self::GitStatus => spec("git status", Seconds, &[FloorTimes(1.0)]),
            Self::ListCold => spec("list wide cold", EntriesPerSecond, &[Store(0.5)]),
            Self::ListColdFar => spec("list wide cold, far", EntriesPerSecond, &[Store(0.9)]),
            Self::ReadBigCold => quick("read big cold", MibPerSecond, &[FloorOrStore(1.05, 0.8)]),
            Self::FirstBytes => spec("first 4 KiB cold, far", Milliseconds, &[AtMost(24.0)]),
            Self::RandomCold => spec("random read cold", OpsPerSecond, &[Peer(2.0)]),
            Self::RandomColdFetched => {
                spec("random read cold, bytes per byte", Times, &[AtMost(32.0)])
            }
            Self::ReadSmallFar => {
                spec("read small cold, far, listed", FilesPerSecond, &[Peer(10.0)])
            }
            Self::ReadSmallUnlisted => {
                quick("read small cold, near, unlisted", FilesPerSecond, &[])
            }
            Self::CpuBig => spec("CPU: write big until in the store", CpuSeconds, &[AtMost(0.6)]),
            Self::CpuSmall => {
                spec("CPU: create small until in the store", CpuSeconds, &[AtMost(2.0)])
            }
            Self::MemoryIdle => spec("memory: idle", Mib, &[AtMost(20.0)]),
            Self::MemoryPeak => spec("memory: peak of big and small", Mib, &[AtMost(64.0)]),
            Self::MemoryPeakAll => spec("memory: peak of all", Mib, &[]),
            Self::Names => spec("names, 1 process", OpsPerSecond, &[Floor(0.3)]),
            Self::NamesMany => spec("names, 4 processes", OpsPerSecond, &[Floor(0.8)]),
            Self::Remove => spec("rm -rf", FilesPerSecond, &[]),
        }
    }
}
