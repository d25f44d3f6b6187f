//! Sensor readings summed up by window of time: extremes, moments, percentiles, and the readings that stand out. All
//! choices, of windows, percentiles and anomalies, are made by the same 32-bit steps on GPU and CPU; only sums differ.

mod cpu;

#[cfg(test)]
mod tests;

use super::{Cost, CpuTwin, Run};
use crate::hook::{CellType, FieldType, Hook, ParamType, Shape};

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
    cost,
};

/// `sum_up` looks at each cell 15 times, `find_anomalies` 6 times: four times for each percentile. A window's cells come from a cache
/// after the first look. Beside the cells each window costs the same, however few it has: bins that are emptied and counted, and sums
/// of 256 invocations.
fn cost(hook: &Hook, shape: Shape) -> Cost {
    // Its place (1), whether it is there (7), the loop (2).
    const LOOK: u64 = 1 + 7 + 2;
    // One of four looks for a percentile: a key in order of the numbers (4), or of a distance (5), and its bin (5).
    const RANK: u64 = LOOK + 4 + 5 + 5;
    // Count, lowest and highest (3), three percentiles, sum (3) and squares (4).
    const SUM_UP: u64 = LOOK + 3 + 3 * 4 * RANK + LOOK + 3 + LOOK + 4;
    // The median distance, the mean and the furthest (7), those beyond the threshold (7).
    const FIND: u64 = 4 * RANK + LOOK + 7 + LOOK + 7;
    // Bins emptied by 256, half of them looked at by one.
    const BINS: u64 = 256 + 128 * 5;
    // 256 in a tree of 255 additions with their places.
    const TREE: u64 = 256 + 255 * 4;
    // Of both passes: where the window is, for each of 256; bins of four percentiles; six trees, two counts.
    const WINDOW: u64 = 2 * 256 * 10 + 4 * 4 * BINS + 6 * TREE + 2 * 256;
    // Of times, a step of the search for an edge of a window, of which each invocation looks for two in each pass.
    const SEARCH: u64 = 2 * 2 * 256 * 6;
    // What `tell` does with a row of the derived table.
    const TELL: u64 = 12;
    let Shape::Table { rows, cols, seconds } = shape else { return Cost::default() };
    let Ok([columns, windows]) = hook.output_size(shape) else { return Cost::default() };
    let (windows, cells) = (u64::from(windows), u64::from(rows) * u64::from(cols));
    let steps = if seconds.is_some() { u64::from(rows.max(1).ilog2()) + 1 } else { 0 };
    let times_bytes = if seconds.is_some() { u64::from(rows) * 4 } else { 0 };
    // The values, and a bit for each.
    let cells_bytes = cells * 4 + u64::from(cols) * u64::from(rows.div_ceil(32)) * 4;
    let (table_bytes, report_bytes) =
        (windows * u64::from(columns) * 4, hook.output().fields.len() as u64 * 4);
    Cost {
        // Both passes read the table; the derived one is written, read, completed and read.
        memory_bytes: (cells_bytes + times_bytes) * 2 + table_bytes * 4 + report_bytes,
        operations: cells * (SUM_UP + FIND) + windows * (WINDOW + steps * SEARCH + TELL),
        bus_bytes: cells_bytes + times_bytes + table_bytes + report_bytes,
    }
}
