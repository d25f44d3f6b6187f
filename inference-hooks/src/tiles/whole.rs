//! From what is said of each tile to what is said of the file.

use image::RgbaImage;
use serde_json::{Map, Value};

use super::{Layout, Pieces, Place, Span};
use crate::gpu::GpuOutput;
use crate::hook::{CellType, Combine, ExprError, Hook, Shape, Tiles};

/// What a hook gives for a file, put together of what it gives for its tiles.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) image: Option<RgbaImage>,
    /// The rows of all tiles, one tile after the other; what points into a tile points into the file here.
    pub(crate) rows: Vec<u32>,
    pub(crate) fields: Map<String, Value>,
}

impl Whole {
    /// How many rows the derived table has.
    pub(crate) fn rows_of(
        hook: &Hook,
        pieces: &impl Pieces,
        layout: &Layout,
    ) -> Result<u64, ExprError> {
        if hook.output().table.is_none() {
            return Ok(0);
        }
        let rows = |index| {
            let [_, rows] = hook.output_size(pieces.outline(layout.place(index)))?;
            Ok(u64::from(rows))
        };
        (0..layout.count()).map(rows).sum()
    }

    /// What it takes, also when it is written.
    pub(crate) fn memory_bytes(hook: &Hook, shape: Shape, rows: u64) -> u64 {
        let columns = hook.output().table.as_ref().map_or(0, |table| table.columns.len() as u64);
        let pixels = match (shape, &hook.output().image) {
            (Shape::Image { size: [width, height] }, Some(_)) => {
                u64::from(width) * u64::from(height)
            }
            (_, _) => 0,
        };
        // Words, and again, longer, as text.
        pixels * 4 + rows * columns * (4 + 24)
    }

    pub(crate) fn new(hook: &Hook, shape: Shape) -> Self {
        let image = match (shape, &hook.output().image) {
            (Shape::Image { size: [width, height] }, Some(_)) => {
                Some(RgbaImage::new(width, height))
            }
            (_, _) => None,
        };
        Self { image, rows: Vec::new(), fields: Map::new() }
    }

    /// Takes what is said of the next tile.
    pub(crate) fn add(&mut self, hook: &Hook, tiles: &Tiles, place: Place, output: GpuOutput) {
        if let (Some(image), Some(tile)) = (&mut self.image, &output.image) {
            stitch(image, tile, super::pieces::sides(place));
        }
        let columns = hook.output().table.iter().flat_map(|table| &table.columns);
        let Span { start, len, .. } = place.span();
        let words = columns.cycle().zip(output.rows).map(|((_, kind), word)| match kind {
            CellType::Time | CellType::Position if word < len => start + word,
            CellType::Time | CellType::Position => u32::MAX,
            CellType::U32 | CellType::I32 | CellType::F32 | CellType::Bool | CellType::Column => {
                word
            }
        });
        self.rows.extend(words);
        for ((name, value), how) in output.fields.into_iter().zip(&tiles.combine) {
            let value = match self.fields.remove(&name) {
                Some(so_far) => combined(*how, so_far, value),
                None => value,
            };
            self.fields.insert(name, value);
        }
    }
}

/// Copies the part of a tile that is no other tile's.
fn stitch(image: &mut RgbaImage, tile: &RgbaImage, [x, y]: [Span; 2]) {
    let place = |width: u32, x: u32, y: u32| {
        let start = (u64::from(y) * u64::from(width) + u64::from(x)) * 4;
        usize::try_from(start).unwrap_or(usize::MAX)
    };
    let bytes = x.inner_len as usize * 4;
    let (width, tile_width) = (image.width(), tile.width());
    for row in y.inner..y.inner + y.inner_len {
        let from = place(tile_width, x.inner, row);
        let to = place(width, x.start + x.inner, y.start + row);
        let from = tile.as_raw().get(from..from + bytes);
        let to = image.get_mut(to..to + bytes);
        if let (Some(from), Some(to)) = (from, to) {
            to.copy_from_slice(from);
        }
    }
}

/// One value of two. What is not there, `null`, makes a sum that is not there, and is no lowest or highest.
fn combined(how: Combine, a: Value, b: Value) -> Value {
    let is_true = |value: &Value| value.as_bool() == Some(true);
    match how {
        Combine::Any => (is_true(&a) || is_true(&b)).into(),
        Combine::All => (is_true(&a) && is_true(&b)).into(),
        Combine::Sum => sum(&a, &b),
        Combine::Min | Combine::Max => match (a.as_f64(), b.as_f64()) {
            // Whole numbers of 32 bits are exact in 64.
            (Some(left), Some(right)) if (left <= right) == (how == Combine::Min) => a,
            (Some(_), None) => a,
            (_, _) => b,
        },
    }
}

/// In 64 bits, whatever the tiles count in.
fn sum(a: &Value, b: &Value) -> Value {
    if let (Some(a), Some(b)) = (a.as_u64(), b.as_u64()) {
        a.saturating_add(b).into()
    } else if let (Some(a), Some(b)) = (a.as_i64(), b.as_i64()) {
        a.saturating_add(b).into()
    } else if let (Some(a), Some(b)) = (a.as_f64(), b.as_f64()) {
        (a + b).into()
    } else {
        Value::Null
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_become_one() {
        for (how, values, expected) in [
            (
                Combine::Sum,
                json!([4_294_967_295_u32, 4_294_967_295_u32, 1]),
                json!(8_589_934_591_u64),
            ),
            (Combine::Sum, json!([5, -7, 1]), json!(-1)),
            (Combine::Sum, json!([0.5, 0.25, 1.0]), json!(1.75)),
            (Combine::Sum, json!([0.5, null, 1.0]), json!(null)),
            (Combine::Min, json!([3, -2, 7]), json!(-2)),
            (Combine::Max, json!([3, -2, 7]), json!(7)),
            (Combine::Max, json!([null, 0.5, null, 0.25]), json!(0.5)),
            (Combine::Min, json!([null, 0.5, null, 0.25]), json!(0.25)),
            (Combine::Max, json!([null, null]), json!(null)),
            (Combine::Any, json!([false, true, false]), json!(true)),
            (Combine::Any, json!([false, false]), json!(false)),
            (Combine::All, json!([true, true]), json!(true)),
            (Combine::All, json!([true, false, true]), json!(false)),
        ] {
            let found = values.as_array().unwrap().clone().into_iter();
            let found = found.reduce(|a, b| combined(how, a, b)).unwrap();
            assert_eq!(found, expected, "{how:?} {values}");
        }
    }
}
