//! What a hook looks at, as words for a shader.

use std::borrow::Cow;

use image::RgbaImage;

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

    /// What a shader finds from `file.offset` on: [`super::file::words_of`] its shape, in bytes.
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
