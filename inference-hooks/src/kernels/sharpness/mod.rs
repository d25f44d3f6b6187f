//! Whether a picture is sharp and well exposed: the variance of the Laplacian over its luma, and the luma's
//! histogram. All sums are whole numbers, so GPU and CPU differ only in the last few divisions.

mod cpu;

#[cfg(feature = "gpu")]
#[cfg(test)]
mod tests;

use super::{CpuTwin, Run};
use crate::hook::{FieldType, ParamType};

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
};
