//! Whether a picture is sharp and well exposed: the variance of the Laplacian over its luma, and the luma's
//! histogram. All sums are whole numbers, so GPU and CPU differ only in the last few divisions.

mod cpu;

#[cfg(feature = "gpu")]
#[cfg(test)]
mod tests;

use super::{Cost, CpuTwin, Run, sides};
use crate::hook::{FieldType, Hook, ParamType, Shape};

pub(super) const CPU_TWIN: CpuTwin = CpuTwin {
    name: "sharpness",
    params: &[
        ("blurred_below", ParamType::F32),
        ("dark_fraction_max", ParamType::F32),
        ("bright_fraction_max", ParamType::F32),
        ("dark_luma", ParamType::U32),
        ("bright_luma", ParamType::U32),
    ],
    fields: &[
        ("laplacian_variance", FieldType::F32),
        ("luma_mean", FieldType::F32),
        ("luma_p5", FieldType::U32),
        ("luma_p50", FieldType::U32),
        ("luma_p95", FieldType::U32),
        ("dark_fraction", FieldType::F32),
        ("bright_fraction", FieldType::F32),
        ("blurred", FieldType::Bool),
        ("underexposed", FieldType::Bool),
        ("overexposed", FieldType::Bool),
    ],
    image: false,
    columns: &[],
    bytes_per_pixel: 0,
    // The sums are exact on both; the shader divides and subtracts in 32-bit floats, the twin in 64.
    #[cfg(feature = "gpu")]
    tolerance: super::Apart { channel: 0, relative: 1e-5 },
    run: Run::Image(cpu::run),
    cost,
};

/// `gather` looks at each pixel and its four neighbours, whose brightness it works out anew; the neighbours come from a cache. The
/// histogram of a picture, a kilobyte, stays in one too. `judge` looks at its 256 bins.
fn cost(hook: &Hook, shape: Shape) -> Cost {
    // Its place (3), three bytes out of a word, weighted (3), added with a half (3), shifted (1).
    const LUMA: u64 = 3 + 3 + 3 + 3 + 1;
    // The neighbours' places (6), the Laplacian (5), its bin (1), both sums (5), the loop (2).
    const PIXEL: u64 = 5 * LUMA + 6 + 5 + 1 + 5 + 2;
    // Three ranks (12), dark, bright, all (8).
    const BIN: u64 = 12 + 8;
    // The bins and two sums of two words, and what is said.
    const HISTOGRAM_BYTES: u64 = (256 + 4) * 4;
    let Some(sides) = sides(hook, shape) else { return Cost::default() };
    let report_bytes = hook.output().fields.len() as u64 * 4;
    Cost {
        memory_bytes: sides.pixels * 4 + HISTOGRAM_BYTES * 2 + report_bytes,
        operations: sides.pixels * PIXEL + 256 * BIN,
        bus_bytes: sides.pixels * 4 + report_bytes,
    }
}
