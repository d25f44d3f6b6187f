use std::ops::Range;

use image::{Rgba, RgbaImage};
use serde_json::Map;

use super::super::{CpuInput, CpuOutput};

/// As in the shader: the sums of a wider filter would leave 32 bits.
const RADIUS_MAX: u32 = 1024;

/// A mask in pixels.
struct Mask {
    columns: Range<u32>,
    rows: Range<u32>,
}

pub(super) fn run(input: &CpuInput<'_>) -> CpuOutput {
    let (width, height) = input.image.dimensions();
    let masks = masks(input, width, height);
    let radius = radius(input, width.max(height));
    // Lying on its side: then both filters read along rows, and memory is kind to them.
    let mut across = RgbaImage::new(height, width);
    for y in 0..height {
        let rows = y.saturating_sub(radius)..y.saturating_add(radius + 1);
        let hit = masks.iter().filter(|mask| overlap(&mask.rows, &rows));
        for columns in merged(hit.map(|mask| mask.columns.clone())) {
            let pixel = |x| input.image.get_pixel(x, y).0;
            triangle(pixel, width, columns, radius, |x, blurred| {
                across.put_pixel(y, x, Rgba(blurred));
            });
        }
    }
    let mut output = input.image.clone();
    for x in 0..width {
        let hit = masks.iter().filter(|mask| mask.columns.contains(&x));
        for rows in merged(hit.map(|mask| mask.rows.clone())) {
            let pixel = |y| across.get_pixel(y, x).0;
            triangle(pixel, height, rows, radius, |y, blurred| {
                output.put_pixel(x, y, Rgba(blurred));
            });
        }
    }
    let fields = [("masks".to_owned(), masks.len().into()), ("radius".to_owned(), radius.into())];
    CpuOutput { image: Some(output), rows: Vec::new(), fields: Map::from_iter(fields) }
}

/// How far the blur reaches: a share of the picture's longer side, but never less than a given number of pixels.
fn radius(input: &CpuInput<'_>, side: u32) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "saturates, and is clamped next")]
    let share = (input.f32("strength") * side as f32) as u32;
    share.max(input.u32("radius_min")).clamp(1, RADIUS_MAX)
}

/// Every pixel that a mask touches belongs to it.
fn masks(input: &CpuInput<'_>, width: u32, height: u32) -> Vec<Mask> {
    #[expect(clippy::cast_possible_truncation, reason = "fractions from 0 to 1 of a u32")]
    let range = |from: f32, to: f32, size: u32| {
        (from * size as f32).floor() as u32..((to * size as f32).ceil() as u32).min(size)
    };
    let pixels = input.rects("masks").iter().map(|rect| Mask {
        columns: range(rect.left, rect.right, width),
        rows: range(rect.top, rect.bottom, height),
    });
    pixels.collect()
}

fn overlap(one: &Range<u32>, other: &Range<u32>) -> bool {
    one.start < other.end && other.start < one.end
}

/// The union of ranges, as ranges that do not touch.
fn merged(ranges: impl Iterator<Item = Range<u32>>) -> Vec<Range<u32>> {
    let mut ranges: Vec<_> = ranges.filter(|range| !range.is_empty()).collect();
    ranges.sort_by_key(|range| range.start);
    let mut merged: Vec<Range<u32>> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            Some(_) | None => merged.push(range),
        }
    }
    merged
}

/// Weights 1, 2, …, `radius` + 1, …, 2, 1 over a line of `len` pixels whose ends go on for ever. From one pixel to the
/// next the weighted sum gains the `radius` + 1 pixels ahead and loses the `radius` + 1 pixels up to here, so the
/// cost does not depend on the radius.
fn triangle(
    pixel: impl Fn(u32) -> [u8; 4],
    len: u32,
    range: Range<u32>,
    radius: u32,
    mut put: impl FnMut(u32, [u8; 4]),
) {
    let reach = i64::from(radius);
    let at = |position: i64| {
        let inside = position.clamp(0, i64::from(len) - 1);
        pixel(u32::try_from(inside).unwrap_or(0)).map(u32::from)
    };
    let first = i64::from(range.start);
    let mut sum = [0; 4];
    let (mut ahead, mut behind) = ([0; 4], [0; 4]);
    for offset in 0..=reach {
        let weight = radius + 1 - u32::try_from(offset).unwrap_or(radius);
        add(&mut sum, at(first - offset), weight);
        if offset > 0 {
            add(&mut sum, at(first + offset), weight);
        }
        add(&mut behind, at(first - offset), 1);
        add(&mut ahead, at(first + offset + 1), 1);
    }
    let total = (radius + 1) * (radius + 1);
    for x in range {
        put(x, sum.map(|sum| u8::try_from((sum + total / 2) / total).unwrap_or(u8::MAX)));
        let here = i64::from(x);
        add(&mut sum, ahead, 1);
        subtract(&mut sum, behind);
        add(&mut behind, at(here + 1), 1);
        subtract(&mut behind, at(here - reach));
        add(&mut ahead, at(here + reach + 2), 1);
        subtract(&mut ahead, at(here + 1));
    }
}

fn add(sum: &mut [u32; 4], pixel: [u32; 4], weight: u32) {
    for (sum, channel) in sum.iter_mut().zip(pixel) {
        *sum += channel * weight;
    }
}

fn subtract(sum: &mut [u32; 4], pixel: [u32; 4]) {
    for (sum, channel) in sum.iter_mut().zip(pixel) {
        *sum -= channel;
    }
}
