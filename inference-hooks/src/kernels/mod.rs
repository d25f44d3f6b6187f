//! The ready hooks' CPU twins. Each gives what the shaders of its hook give, within the tolerance that its parity
//! test names, so a machine without a GPU loses speed and nothing else.

mod cost;
mod privacy_blur;
mod sharpness;
mod telemetry;
mod thumbnail;

use image::RgbaImage;
use serde_json::{Map, Value};

use crate::hook::{CellType, FieldType, Hook, Kind, ParamType, ParamValue, Params, Rect, Shape};
use crate::table::Table;

pub use cost::{Bound, Card, Cost, TypicalCost, typical_costs};

#[cfg(feature = "gpu")]
pub(crate) mod apart;
#[cfg(feature = "gpu")]
#[cfg(test)]
mod parity;

/// All CPU twins; a hook names one as `cpu = "builtin:NAME"`.
pub(crate) const TWINS: &[CpuTwin] =
    &[privacy_blur::CPU_TWIN, sharpness::CPU_TWIN, telemetry::CPU_TWIN, thumbnail::CPU_TWIN];

/// Native code that stands in for a hook's shaders.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CpuTwin {
    pub(crate) name: &'static str,
    /// The parameters it reads.
    pub(crate) params: &'static [(&'static str, ParamType)],
    /// The fields it gives.
    pub(crate) fields: &'static [(&'static str, FieldType)],
    /// Whether it gives a picture.
    pub(crate) image: bool,
    /// The columns of the table it gives.
    pub(crate) columns: &'static [(&'static str, CellType)],
    /// Working memory for each pixel or cell of the input, beside the input and the result.
    pub(crate) bytes_per_pixel: u64,
    /// How far the shaders may be from it.
    #[cfg(feature = "gpu")]
    pub(crate) tolerance: Apart,
    pub(crate) run: Run,
    /// What the shaders of a hook that names it do to an input of a size.
    pub(crate) cost: fn(&Hook, Shape) -> Cost,
}

/// The code of a CPU twin.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Run {
    Image(fn(&CpuInput<'_>) -> CpuOutput),
    Table(fn(&TableInput<'_>) -> CpuOutput),
}

impl Run {
    /// Whether it works on that kind of input.
    pub(crate) fn is_of(self, kind: &Kind) -> bool {
        match self {
            Self::Image(_) => matches!(kind, Kind::Image),
            Self::Table(_) => matches!(kind, Kind::Table(_)),
        }
    }
}

/// A distance between two results, or the most that it may be.
#[cfg(feature = "gpu")]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Apart {
    /// For each channel of each pixel, of 255.
    pub(crate) channel: u8,
    /// For each number, relative to the larger one or to 1.
    pub(crate) relative: f64,
}

#[cfg(feature = "gpu")]
impl Apart {
    /// Whether it is no more than `tolerance`.
    pub(crate) fn is_within(self, tolerance: Self) -> bool {
        self.channel <= tolerance.channel && self.relative <= tolerance.relative
    }

    /// The larger of each.
    pub(crate) fn worst(self, other: Self) -> Self {
        Self {
            channel: self.channel.max(other.channel),
            relative: self.relative.max(other.relative),
        }
    }
}

/// What a CPU twin works on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CpuInput<'a> {
    pub(crate) image: &'a RgbaImage,
    pub(crate) params: &'a Params,
    pub(crate) output_size: [u32; 2],
}

/// What a CPU twin for tables works on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TableInput<'a> {
    pub(crate) table: &'a Table,
    pub(crate) params: &'a Params,
    /// How many rows the derived table has.
    pub(crate) out_rows: u32,
}

/// What a CPU twin gives.
#[derive(Debug, Default)]
pub(crate) struct CpuOutput {
    pub(crate) image: Option<RgbaImage>,
    /// The rows of a derived table, as shaders write them.
    pub(crate) rows: Vec<u32>,
    pub(crate) fields: Map<String, Value>,
}

impl CpuInput<'_> {
    fn f32(&self, name: &str) -> f32 {
        f32_param(self.params, name)
    }

    fn u32(&self, name: &str) -> u32 {
        u32_param(self.params, name)
    }

    /// A parameter of type `rects`.
    fn rects(&self, name: &str) -> &[Rect] {
        rects_param(self.params, name)
    }
}

/// A parameter of type `rects`. Loading the hook has made sure that it is there.
fn rects_param<'p>(params: &'p Params, name: &str) -> &'p [Rect] {
    match params.get(name) {
        Some(ParamValue::Rects(rects)) => rects,
        other => unreachable!("checked at load: {name} is {other:?}"),
    }
}

/// The sides of a picture and of what is derived of it, and how many pixels both have, for a cost.
fn sides(hook: &Hook, shape: Shape) -> Option<Sides> {
    let Shape::Image { size } = shape else { return None };
    let [width, height] = size.map(u64::from);
    let [out_width, out_height] = hook.output_size(shape).ok()?.map(u64::from);
    let (pixels, out_pixels) = (width * height, out_width * out_height);
    Some(Sides { width, height, pixels, out_width, out_height, out_pixels })
}

struct Sides {
    width: u64,
    height: u64,
    pixels: u64,
    out_width: u64,
    out_height: u64,
    out_pixels: u64,
}

/// A parameter of type `f32`. Loading the hook has made sure that it is there.
fn f32_param(params: &Params, name: &str) -> f32 {
    match params.get(name) {
        Some(ParamValue::F32(value)) => *value,
        other => unreachable!("checked at load: {name} is {other:?}"),
    }
}

/// A parameter of type `u32`.
fn u32_param(params: &Params, name: &str) -> u32 {
    match params.get(name) {
        Some(ParamValue::U32(value)) => *value,
        other => unreachable!("checked at load: {name} is {other:?}"),
    }
}

/// A pixel as the shaders see it: four numbers from 0 to 1.
fn unpack(pixel: [u8; 4]) -> [f32; 4] {
    pixel.map(|channel| f32::from(channel) / 255.0)
}

/// The way back, as `pack4x8unorm` rounds.
fn pack(pixel: [f32; 4]) -> [u8; 4] {
    #[expect(clippy::cast_possible_truncation, reason = "clamped to 0..=255")]
    pixel.map(|channel| (channel.clamp(0.0, 1.0) * 255.0 + 0.5).floor() as u8)
}
