//! Sensor readings summed up by window of time: extremes, moments, percentiles, and the readings that stand out. All
//! choices, of windows, percentiles and anomalies, are made by the same 32-bit steps on GPU and CPU; only sums differ.

mod cpu;

#[cfg(test)]
mod tests;

use super::{CpuTwin, Run};
use crate::hook::{CellType, FieldType, ParamType};

pub(super) const CPU_TWIN: CpuTwin = CpuTwin {
    name: "telemetry",
    params: &[
        ("window_seconds", ParamType::F32),
        ("window_rows", ParamType::U32),
        ("z_threshold", ParamType::F32),
        ("deviation_min", ParamType::F32),
    ],
    fields: &[
        ("rows", FieldType::U32),
        ("columns", FieldType::U32),
        ("windows", FieldType::U32),
        ("missing", FieldType::U32),
        ("anomalies", FieldType::U32),
        ("worst_z", FieldType::F32),
    ],
    image: false,
    columns: &[
        ("start", CellType::Time),
        ("column", CellType::Column),
        ("count", CellType::U32),
        ("missing", CellType::U32),
        ("min", CellType::F32),
        ("max", CellType::F32),
        ("mean", CellType::F32),
        ("deviation", CellType::F32),
        ("p50", CellType::F32),
        ("p95", CellType::F32),
        ("p99", CellType::F32),
        ("anomalies", CellType::U32),
        ("worst_z", CellType::F32),
    ],
    // A copy of a window's values, and of their distances.
    bytes_per_pixel: 8,
    // The shader adds up in 32-bit floats, the twin in 64.
    #[cfg(feature = "gpu")]
    tolerance: super::Apart { channel: 0, relative: 1e-4 },
    run: Run::Table(cpu::run),
};
