//! How far a hook's shaders and its CPU twin are apart, on pictures that are the same each time.

use image::{Rgba, RgbaImage};
use serde_json::{Map, Value};

use super::{Apart, CpuInput, CpuOutput, Run, TableInput};
use crate::gpu::GpuOutput;
use crate::hook::{CellType, Hook, Shape};
use crate::table::Table;

/// A picture that is the same each time: slopes, noise, hard edges and transparency.
pub(crate) fn picture([width, height]: [u32; 2]) -> RgbaImage {
    RgbaImage::from_fn(width, height, |x, y| {
        let noise = (x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(2_246_822_519)).rotate_left(13);
        let [noise, alpha, ..] = noise.wrapping_mul(3_266_489_917).to_le_bytes();
        let slope = u8::try_from(x * 255 / width).unwrap_or(u8::MAX);
        let edge = if (x / 37 + y / 23) % 2 == 0 { 255 } else { 0 };
        let alpha = if y % 11 == 0 { alpha } else { 255 };
        Rgba([slope, noise, edge, alpha])
    })
}

/// What the CPU twin of `hook` gives for `image`; none if it has no twin, or no result of that size.
pub(crate) fn on_cpu(hook: &Hook, image: &RgbaImage) -> Option<CpuOutput> {
    let Run::Image(run) = hook.cpu_twin()?.run else { return None };
    let size = [image.width(), image.height()];
    let output_size = hook.output_size(Shape::Image { size }).ok()?;
    Some(run(&CpuInput { image, params: hook.params(), output_size }))
}

/// The same for a table.
pub(crate) fn table_on_cpu(hook: &Hook, table: &Table) -> Option<CpuOutput> {
    let Run::Table(run) = hook.cpu_twin()?.run else { return None };
    let [_, out_rows] = hook.output_size(table.shape()).ok()?;
    Some(run(&TableInput { table, params: hook.params(), out_rows }))
}

/// How far two results are apart.
///
/// # Errors
/// Says what one has and the other has not.
pub(crate) fn apart(found: &GpuOutput, expected: &CpuOutput) -> Result<Apart, String> {
    let channel = match (&found.image, &expected.image) {
        (None, None) => 0,
        (Some(found), Some(expected)) if found.dimensions() == expected.dimensions() => {
            let pairs = found.as_raw().iter().zip(expected.as_raw());
            pairs.map(|(found, expected)| found.abs_diff(*expected)).max().unwrap_or(0)
        }
        (found, expected) => {
            let size = |image: &Option<RgbaImage>| image.as_ref().map(RgbaImage::dimensions);
            return Err(format!("pictures of {:?} and {:?}", size(found), size(expected)));
        }
    };
    let fields = fields_apart(&found.fields, &expected.fields)?;
    Ok(Apart { channel, relative: fields })
}

/// How far two derived tables of a hook are apart.
///
/// # Errors
/// Says where they say something else.
pub(crate) fn tables_apart(hook: &Hook, found: &[u32], expected: &[u32]) -> Result<f64, String> {
    if found.len() != expected.len() {
        return Err(format!("{} and {} words of rows", found.len(), expected.len()));
    }
    let columns = hook.output().table.iter().flat_map(|table| &table.columns).cycle();
    let mut worst = 0.0_f64;
    for ((name, kind), (at, (found, expected))) in
        columns.zip(found.iter().zip(expected).enumerate())
    {
        let (number, twin) = (f32::from_bits(*found), f32::from_bits(*expected));
        if *kind == CellType::F32 && number.is_finite() && twin.is_finite() {
            let scale = number.abs().max(twin.abs()).max(1.0);
            worst = worst.max(f64::from((number - twin).abs()) / f64::from(scale));
        } else if found != expected && !(*kind == CellType::F32 && number.is_nan() && twin.is_nan())
        {
            return Err(format!("{name} at word {at}: {found} and {expected}"));
        }
    }
    Ok(worst)
}

fn fields_apart(found: &Map<String, Value>, expected: &Map<String, Value>) -> Result<f64, String> {
    if !found.keys().eq(expected.keys()) {
        return Err(format!("fields {:?} and {:?}", found.keys(), expected.keys()));
    }
    let mut worst = 0.0_f64;
    for ((name, found), expected) in found.iter().zip(expected.values()) {
        match (found.as_f64(), expected.as_f64()) {
            (Some(found), Some(expected)) => {
                let scale = found.abs().max(expected.abs()).max(1.0);
                worst = worst.max((found - expected).abs() / scale);
            }
            (_, _) if found == expected => {}
            (_, _) => return Err(format!("{name}: {found} and {expected}")),
        }
    }
    Ok(worst)
}
