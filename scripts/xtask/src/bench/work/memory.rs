//! What a daemon keeps in memory.

use super::Measured;
use crate::bench::row::Row;
use crate::bench::subject::Subject;

pub(super) fn idle(subject: &Subject) -> anyhow::Result<Measured> {
    Ok(subject.memory_mib()?.map(|mib| (Row::MemoryIdle, mib)).into_iter().collect())
}

pub(super) fn peak(subject: &Subject, row: Row) -> anyhow::Result<Measured> {
    Ok(subject.peak_mib()?.map(|mib| (row, mib)).into_iter().collect())
}
