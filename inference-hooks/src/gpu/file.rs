//! Where the data of a file of a batch lies, as a shader is told.

use crate::hook::Shape;

/// Where a file's data lies. In the shader: `File`.
#[derive(Clone, Copy, Debug)]
pub(super) struct File {
    pub(super) shape: Shape,
    /// In words, as all offsets and lengths here.
    pub(super) offset: u32,
    pub(super) left_out: u32,
    pub(super) out_offset: u32,
    pub(super) out_size: [u32; 2],
}

impl File {
    pub(super) fn out_bytes(self) -> u64 {
        u64::from(self.out_size[0]) * u64::from(self.out_size[1]) * 4
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
