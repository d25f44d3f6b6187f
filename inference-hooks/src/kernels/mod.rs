//! The ready hooks' CPU twins. Each gives what the shaders of its hook give, within the tolerance that its parity
//! test names, so a machine without a GPU loses speed and nothing else.

mod privacy_blur;
mod sharpness;
mod telemetry;
mod thumbnail;

use image::RgbaImage;
use serde_json::{Map, Value};

use crate::hook::{CellType, FieldType, ParamType, ParamValue, Params, Rect};
use crate::table::Table;

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
}

/// The code of a CPU twin.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Run {
    Image(fn(&CpuInput<'_>) -> CpuOutput),
    Table(fn(&TableInput<'_>) -> CpuOutput),
}

impl Run {
    pub(crate) fn is_of_table(self) -> bool {
        matches!(self, Self::Table(_))
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
        match self.params.get(name) {
            Some(ParamValue::Rects(rects)) => rects,
            other => unreachable!("checked at load: {name} is {other:?}"),
        }
    }
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
