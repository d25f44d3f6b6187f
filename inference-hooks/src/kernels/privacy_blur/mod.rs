//! A copy of a picture in which given rectangles are blurred beyond recognition. The blur is a triangle filter, across
//! and then down, in whole numbers, so GPU and CPU agree to the bit.

mod cpu;

#[cfg(feature = "gpu")]
#[cfg(test)]
mod tests;

use super::{CpuTwin, Run};
use crate::hook::{FieldType, ParamType};

pub(super) const CPU_TWIN: CpuTwin = CpuTwin {
    name: "privacy-blur",
    params: &[
        ("masks", ParamType::Rects),
        ("radius_min", ParamType::U32),
        ("strength", ParamType::F32),
    ],
    fields: &[("masks", FieldType::U32), ("radius", FieldType::U32)],
    image: true,
    columns: &[],
    bytes_per_pixel: 4,
    // Whole numbers throughout.
    #[cfg(feature = "gpu")]
    tolerance: super::Apart { channel: 0, relative: 0.0 },
    run: Run::Image(cpu::run),
};
