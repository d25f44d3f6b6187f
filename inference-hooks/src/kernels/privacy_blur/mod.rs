//! A copy of a picture in which given rectangles are blurred beyond recognition. The blur is a triangle filter, across
//! and then down, in whole numbers, so GPU and CPU agree to the bit.

mod cpu;

#[cfg(feature = "gpu")]
#[cfg(test)]
mod tests;

use super::{Cost, CpuTwin, Run, f32_param, rects_param, sides, u32_param};
use crate::hook::{FieldType, Hook, ParamType, Shape};

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
    cost,
};

/// Each pass takes `2 * radius + 1` pixels for each that it blurs, of which all but one come from a cache. `across` blurs what the masks
/// cover and `radius` rows above and below, `down` what they cover; the rest is copied. Masks that overlap are counted twice.
fn cost(hook: &Hook, shape: Shape) -> Cost {
    // Where (4, and 1 for the row), its weight (3), four bytes out of a word, times the weight and added (8), the loop (2).
    const TAP: u64 = 4 + 1 + 3 + 4 + 8 + 2;
    // Whether a mask covers a pixel: its edges in pixels (12), and eight comparisons.
    const MASK: u64 = 12 + 8;
    // Four sums, rounded and divided, into a word.
    const PIXEL: u64 = 4 * 2 + 4;
    let Some(sides) = sides(hook, shape) else { return Cost::default() };
    let longer = sides.width.max(sides.height);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "as in the shader")]
    let share = (f32_param(hook.params(), "strength") * longer as f32) as u64;
    let radius = share.max(u32_param(hook.params(), "radius_min").into()).clamp(1, 1024);
    let masks = rects_param(hook.params(), "masks");
    let covered = |reach: u64| {
        let pixels = masks.iter().map(|mask| {
            let width = f64::from(mask.right - mask.left) * sides.width as f64;
            let height = f64::from(mask.bottom - mask.top) * sides.height as f64;
            width * (height + 2.0 * reach as f64).min(sides.height as f64)
        });
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        let pixels = pixels.sum::<f64>().ceil() as u64;
        pixels.min(sides.pixels)
    };
    let (across, down) = (covered(radius), covered(0));
    let blurred = across + down;
    Cost {
        // `across` reads and writes what it blurs; `down` reads that, or the picture where nothing is blurred, and writes all.
        memory_bytes: (across * 2 + sides.pixels * 2) * 4,
        operations: blurred * ((2 * radius + 1) * TAP + PIXEL)
            + sides.pixels * 2 * masks.len() as u64 * MASK,
        bus_bytes: (sides.pixels + sides.out_pixels) * 4,
    }
}
