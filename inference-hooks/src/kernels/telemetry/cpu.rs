use std::ops::Range;

use serde_json::{Map, Value};

use super::super::{CpuOutput, TableInput, f32_param, u32_param};
use crate::table::Table;

/// No row: the row of the derived table is left out.
const NOWHERE: u32 = u32::MAX;
/// A distance that would overflow is told as this many deviations.
const Z_MAX: f32 = 1e6;

/// A row of the derived table.
struct Summary {
    start: u32,
    column: u32,
    count: u32,
    missing: u32,
    /// Minimum, maximum, mean, deviation and three percentiles.
    numbers: [f32; 7],
    anomalies: u32,
    worst_z: f32,
}

pub(super) fn run(input: &TableInput<'_>) -> CpuOutput {
    let table = input.table;
    let cols = u32::try_from(table.columns.len()).unwrap_or(u32::MAX);
    let seconds = table.seconds();
    let windows = input.out_rows / cols;
    let first = |window| first_row(input, seconds.as_deref(), window);
    let mut summaries = Vec::new();
    for window in 0..windows {
        let end = if window + 1 == windows { table.rows } else { first(window + 1) };
        for column in 0..cols {
            summaries.push(summary(input, first(window)..end, column));
        }
    }
    let filled = summaries.iter().filter(|row| row.column == 0 && row.start != NOWHERE).count();
    let missing: u64 = summaries.iter().map(|row| u64::from(row.missing)).sum();
    let untimed = u64::from(table.untimed) * u64::from(cols);
    let worst = summaries.iter().map(|row| row.worst_z).fold(0.0, f32::max);
    let fields: [(&str, Value); 6] = [
        ("rows", (table.rows + table.untimed).into()),
        ("columns", cols.into()),
        ("windows", filled.into()),
        ("missing", (missing + untimed).into()),
        ("anomalies", summaries.iter().map(|row| u64::from(row.anomalies)).sum::<u64>().into()),
        ("worst_z", worst.into()),
    ];
    let fields = fields.map(|(name, value)| (name.to_owned(), value));
    let rows = summaries.iter().flat_map(words).collect();
    CpuOutput { image: None, rows, fields: Map::from_iter(fields) }
}

/// The first row that is not before a window.
fn first_row(input: &TableInput<'_>, seconds: Option<&[f32]>, window: u32) -> u32 {
    let rows = input.table.rows;
    match seconds {
        None => window.saturating_mul(u32_param(input.params, "window_rows")).min(rows),
        Some(seconds) => {
            let start = window as f32 * f32_param(input.params, "window_seconds");
            let before = seconds.partition_point(|second| *second < start);
            u32::try_from(before).unwrap_or(rows)
        }
    }
}

fn summary(input: &TableInput<'_>, window: Range<u32>, column: u32) -> Summary {
    let mut values = values(input.table, &window, column);
    let rows = window.end.saturating_sub(window.start);
    let count = u32::try_from(values.len()).unwrap_or(rows);
    let mut summary = Summary {
        start: if rows == 0 { NOWHERE } else { window.start },
        column,
        count,
        missing: rows - count,
        numbers: [f32::NAN; 7],
        anomalies: 0,
        worst_z: 0.0,
    };
    if values.is_empty() {
        return summary;
    }
    values.sort_unstable_by(f32::total_cmp);
    let (min, max) = (values[0], values[values.len() - 1]);
    let mean = values.iter().copied().map(f64::from).sum::<f64>() / f64::from(count);
    let squares = values.iter().map(|value| (f64::from(*value) - mean).powi(2)).sum::<f64>();
    let deviation = (squares / f64::from(count)).sqrt();
    let [p50, p95, p99] = [50, 95, 99].map(|percent| percentile(&values, percent));
    summary.numbers = [min, max, narrow(mean), narrow(deviation), p50, p95, p99];

    let mut distances: Vec<_> = values.iter().map(|value| distance(*value, p50)).collect();
    distances.sort_unstable_by(f32::total_cmp);
    let usual = percentile(&distances, 50);
    let mean_distance = distances.iter().copied().map(f64::from).sum::<f64>() / f64::from(count);
    let spread = if usual == 0.0 { 1.2533 * narrow(mean_distance) } else { 1.4826 * usual };
    let scale = spread.max(f32_param(input.params, "deviation_min"));
    let limit = f32_param(input.params, "z_threshold") * scale;
    let usual_ones = distances.partition_point(|distance| *distance <= limit);
    summary.anomalies = u32::try_from(distances.len() - usual_ones).unwrap_or(count);
    let furthest = distances[distances.len() - 1];
    summary.worst_z = if furthest == 0.0 { 0.0 } else { (furthest / scale).min(Z_MAX) };
    summary
}

/// What is there of a column in a window.
fn values(table: &Table, window: &Range<u32>, column: u32) -> Vec<f32> {
    let values = &table.columns[column as usize].values;
    let window = values.get(window.start as usize..window.end as usize).unwrap_or_default();
    window.iter().copied().filter(|value| !value.is_nan()).collect()
}

/// The lowest of sorted values that at least `percent` of them do not exceed.
fn percentile(sorted: &[f32], percent: usize) -> f32 {
    sorted[(sorted.len() * percent).div_ceil(100).max(1) - 1]
}

/// As the shader has it: what is too small for a normal number is zero.
fn distance(a: f32, b: f32) -> f32 {
    let between = (a - b).abs();
    if between < f32::MIN_POSITIVE { 0.0 } else { between }
}

#[expect(clippy::cast_possible_truncation, reason = "to the nearest")]
fn narrow(number: f64) -> f32 {
    number as f32
}

fn words(row: &Summary) -> Vec<u32> {
    let mut words = vec![row.start, row.column, row.count, row.missing];
    words.extend(row.numbers.map(f32::to_bits));
    words.extend([row.anomalies, row.worst_z.to_bits()]);
    words
}
