//! What a hook looks at, as words for a shader.

use std::borrow::Cow;

use image::RgbaImage;

use super::plan::File;
use crate::hook::Shape;
use crate::table::Table;

/// A decoded file.
pub(crate) trait Subject {
    /// Its size.
    fn shape(&self) -> Shape;

    /// Rows that it should have and has not.
    fn left_out(&self) -> u32 {
        0
    }

    /// What a shader finds from `file.offset` on: [`words_of`] its shape, in bytes.
    fn bytes(&self) -> Cow<'_, [u8]>;
}

impl Subject for RgbaImage {
    fn shape(&self) -> Shape {
        Shape::Image { size: [self.width(), self.height()] }
    }

    fn bytes(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(self.as_raw())
    }
}

impl Subject for Table {
    fn shape(&self) -> Shape {
        Table::shape(self)
    }

    fn left_out(&self) -> u32 {
        self.untimed
    }

    fn bytes(&self) -> Cow<'_, [u8]> {
        Cow::Owned(self.words().into_iter().flat_map(u32::to_le_bytes).collect())
    }
}

/// How many words an input of that shape has.
pub(super) fn words_of(shape: Shape) -> u64 {
    match shape {
        Shape::Image { size: [width, height] } => u64::from(width) * u64::from(height),
        Shape::Table { rows, cols, seconds } => {
            let (rows, cols) = (u64::from(rows), u64::from(cols));
            let times = if seconds.is_some() { rows } else { 0 };
            cols * (rows + rows.div_ceil(32)) + times
        }
    }
}

/// The larger in each respect.
pub(super) fn larger(a: Shape, b: Shape) -> Shape {
    match (a, b) {
        (Shape::Image { size: a }, Shape::Image { size: b }) => {
            Shape::Image { size: [a[0].max(b[0]), a[1].max(b[1])] }
        }
        (
            Shape::Table { rows, cols, seconds },
            Shape::Table { rows: rows_b, cols: cols_b, seconds: seconds_b },
        ) => {
            let longer = seconds.unwrap_or_default().max(seconds_b.unwrap_or_default());
            let seconds = seconds.or(seconds_b).map(|_| longer);
            Shape::Table { rows: rows.max(rows_b), cols: cols.max(cols_b), seconds }
        }
        // A hook takes one kind.
        (a, _) => a,
    }
}

/// The members of `File` in a shader for pictures.
pub(super) const IMAGE_MEMBERS: &[&str] =
    &["offset", "len", "width", "height", "out_offset", "out_len", "out_width", "out_height"];
/// The members of `File` in a shader for tables.
pub(super) const TABLE_MEMBERS: &[&str] = &[
    "offset",
    "len",
    "rows",
    "cols",
    "valid_offset",
    "time_offset",
    "timed",
    "untimed",
    "out_offset",
    "out_rows",
];

/// The values of these members.
pub(super) fn members(file: &File) -> Vec<u32> {
    let [columns, rows] = file.out_size;
    match file.shape {
        Shape::Image { size: [width, height] } => {
            let (out_width, out_height) = (columns, rows);
            let (len, out_len) = (width * height, out_width * out_height);
            vec![file.offset, len, width, height, file.out_offset, out_len, out_width, out_height]
        }
        Shape::Table { rows: in_rows, cols, seconds } => {
            let valid = file.offset + in_rows * cols;
            let time = valid + in_rows.div_ceil(32) * cols;
            let timed = u32::from(seconds.is_some());
            let out_offset = file.out_offset / columns.max(1);
            vec![
                file.offset,
                in_rows * cols,
                in_rows,
                cols,
                valid,
                time,
                timed,
                file.left_out,
                out_offset,
                rows,
            ]
        }
    }
}
