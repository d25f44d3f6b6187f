//! A small picture by area average: each pixel of the result is the mean of all it covers, partly covered pixels by
//! their share, transparent ones without their colour. The mean is of the stored (sRGB) values, as in most viewers.

mod cpu;

#[cfg(feature = "gpu")]
#[cfg(test)]
mod tests;

use super::{CpuTwin, Run};
use crate::hook::FieldType;

pub(super) const CPU_TWIN: CpuTwin = CpuTwin {
    name: "thumbnail",
    params: &[],
    fields: &[("width", FieldType::U32), ("height", FieldType::U32)],
    image: true,
    columns: &[],
    bytes_per_pixel: 0,
    // Sums of the same numbers in the same order, but a GPU may fuse a multiplication with an addition.
    #[cfg(feature = "gpu")]
    tolerance: super::Apart { channel: 1, relative: 0.0 },
    run: Run::Image(cpu::run),
};
