//! The size of an input, as expressions see it.

/// A decoded input's size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Shape {
    /// A picture.
    Image {
        /// Width and height.
        size: [u32; 2],
    },
    /// A table.
    Table {
        /// Its rows.
        rows: u32,
        /// Its columns of numbers.
        cols: u32,
        /// From the first row to the last; none without a time column.
        seconds: Option<f32>,
    },
}

impl Shape {
    /// The values behind the first names of expressions.
    pub(super) fn values(self) -> Vec<f64> {
        match self {
            Self::Image { size } => {
                let [width, height] = size.map(f64::from);
                vec![width, height, width * height]
            }
            Self::Table { rows, cols, seconds } => {
                let (rows, cols) = (f64::from(rows), f64::from(cols));
                let timed = f64::from(u8::from(seconds.is_some()));
                vec![rows, cols, rows * cols, seconds.unwrap_or_default().into(), timed]
            }
        }
    }
}
