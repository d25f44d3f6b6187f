use std::ops::Range;

use image::{Rgba, RgbaImage};
use serde_json::Map;

use super::super::{CpuInput, CpuOutput, pack, unpack};

pub(super) fn run(input: &CpuInput<'_>) -> CpuOutput {
    let [width, height] = input.output_size;
    let mut small = RgbaImage::new(width, height);
    for y in 0..height {
        let mut sums = vec![[0.0_f32; 4]; width as usize];
        for (row, weight) in covered(y, input.image.height(), height) {
            for x in 0..width {
                let across = average_across(input.image, row, x, width);
                add(&mut sums[x as usize], across, weight / input.image.height() as f32);
            }
        }
        for (x, [red, green, blue, alpha]) in (0..width).zip(sums) {
            let opaque = if alpha > 0.0 { 1.0 / alpha } else { 0.0 };
            let pixel = [red * opaque, green * opaque, blue * opaque, alpha];
            small.put_pixel(x, y, Rgba(pack(pixel)));
        }
    }
    let size = [
        ("width".to_owned(), input.image.width().into()),
        ("height".to_owned(), input.image.height().into()),
    ];
    CpuOutput { image: Some(small), rows: Vec::new(), fields: Map::from_iter(size) }
}

/// The mean over the part of a source row that column `x` of the result covers; colours weighted by alpha.
fn average_across(image: &RgbaImage, row: u32, x: u32, width: u32) -> [f32; 4] {
    let mut sum = [0.0; 4];
    for (column, weight) in covered(x, image.width(), width) {
        let [red, green, blue, alpha] = unpack(image.get_pixel(column, row).0);
        let pixel = [red * alpha, green * alpha, blue * alpha, alpha];
        add(&mut sum, pixel, weight / image.width() as f32);
    }
    sum
}

/// The source lines that line `at` of `small` covers, each with its share in units of 1/`small` of a line.
fn covered(at: u32, large: u32, small: u32) -> impl Iterator<Item = (u32, f32)> {
    let (large, small) = (u64::from(large), u64::from(small));
    let Range { start, end } = u64::from(at) * large..(u64::from(at) + 1) * large;
    (start / small..end.div_ceil(small)).map(move |line| {
        let share = ((line + 1) * small).min(end) - (line * small).max(start);
        (u32::try_from(line).unwrap_or(u32::MAX), share as f32)
    })
}

fn add(sum: &mut [f32; 4], pixel: [f32; 4], weight: f32) {
    for (sum, channel) in sum.iter_mut().zip(pixel) {
        *sum += channel * weight;
    }
}
