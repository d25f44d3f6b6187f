//! A small picture by area average: each pixel of the result is the mean of all it covers, partly covered pixels by
//! their share, transparent ones without their colour. The mean is of the stored (sRGB) values, as in most viewers.

mod cpu;

#[cfg(feature = "gpu")]
#[cfg(test)]
mod tests;

use super::{Cost, CpuTwin, Run, Sides, sides};
use crate::hook::{FieldType, Hook, Shape};

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
    cost,
};

/// `across` looks at each pixel once for its column of the result, and at those on the edge of two columns twice; `down` does the same
/// with the rows that `across` has made narrow, 16 bytes a pixel.
fn cost(hook: &Hook, shape: Shape) -> Cost {
    // A byte out of a word, a conversion and a multiplication for each of four channels; its share of the column (9) of the width (1);
    // colours by alpha (3); times the share, and added (8); the loop (3).
    const ACROSS: u64 = 12 + 9 + 1 + 3 + 8 + 3;
    // Share (9) of the height (1), times that and added (8), the loop (3).
    const DOWN: u64 = 9 + 1 + 8 + 3;
    // Colours through alpha (4), four channels clamped, scaled, rounded and put into a word (16).
    const PIXEL: u64 = 4 + 16;
    let Some(Sides { width, height, pixels, out_width, out_height, out_pixels }) =
        sides(hook, shape)
    else {
        return Cost::default();
    };
    let narrow = out_width * height;
    let (across, down) = ((width + out_width) * height, (height + out_height) * out_width);
    Cost {
        memory_bytes: pixels * 4 + narrow * 16 * 2 + out_pixels * 4,
        operations: across * ACROSS + down * DOWN + out_pixels * PIXEL,
        bus_bytes: (pixels + out_pixels) * 4,
    }
}
