//! Where the data of a file of a batch lies, as a shader is told.

use crate::hook::{Hook, Kind, Shape};
use crate::tiles::{Place, Span};

/// Where a file's data lies. In the shader: `File`.
#[derive(Clone, Copy, Debug)]
pub(super) struct File {
    pub(super) shape: Shape,
    /// In words, as all offsets and lengths here.
    pub(super) offset: u32,
    pub(super) left_out: u32,
    pub(super) out_offset: u32,
    pub(super) out_size: [u32; 2],
    /// Of a tile, where it lies in the whole.
    pub(super) place: Option<Place>,
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
        Shape::Audio { frames, channels, .. } => u64::from(frames) * u64::from(channels),
        Shape::Bytes { length } => u64::from(length.div_ceil(4)),
    }
}

/// A member of `File`: its name and its type.
type Member = (&'static str, &'static str);

const U32: &str = "u32";

/// The members of `File` in the shaders of a hook.
pub(super) fn members(hook: &Hook) -> impl Iterator<Item = &'static Member> {
    let place = hook.tiles().map_or(&[][..], |_| place_members(hook.kind()));
    kind_members(hook.kind()).iter().chain(place)
}

fn kind_members(kind: &Kind) -> &'static [Member] {
    match kind {
        Kind::Image => &[
            ("offset", U32),
            ("len", U32),
            ("width", U32),
            ("height", U32),
            ("out_offset", U32),
            ("out_len", U32),
            ("out_width", U32),
            ("out_height", U32),
        ],
        Kind::Table(_) => &[
            ("offset", U32),
            ("len", U32),
            ("rows", U32),
            ("cols", U32),
            ("valid_offset", U32),
            ("time_offset", U32),
            ("timed", U32),
            ("untimed", U32),
            ("out_offset", U32),
            ("out_rows", U32),
        ],
        Kind::Audio(_) => &[
            ("offset", U32),
            ("len", U32),
            ("frames", U32),
            ("channels", U32),
            ("sample_rate", U32),
            ("seconds", "f32"),
            ("out_offset", U32),
            ("out_rows", U32),
        ],
        Kind::Bytes => &[("offset", U32), ("length", U32), ("out_offset", U32), ("out_rows", U32)],
    }
}

fn place_members(kind: &Kind) -> &'static [Member] {
    match kind {
        Kind::Image => &[
            ("origin_x", U32),
            ("origin_y", U32),
            ("whole_width", U32),
            ("whole_height", U32),
            ("inner_x", U32),
            ("inner_y", U32),
            ("inner_width", U32),
            ("inner_height", U32),
        ],
        Kind::Table(_) | Kind::Audio(_) | Kind::Bytes => {
            &[("origin", U32), ("whole", U32), ("inner", U32), ("inner_len", U32)]
        }
    }
}

/// The values of these members.
pub(super) fn words(file: &File) -> Vec<u32> {
    let mut words = kind_words(file);
    match file.place {
        None => {}
        Some(Place::Line { span: Span { start, inner, inner_len, .. }, whole }) => {
            words.extend([start, whole, inner, inner_len]);
        }
        Some(Place::Plane { spans: [x, y], whole: [width, height] }) => {
            words.extend([x.start, y.start, width, height]);
            words.extend([x.inner, y.inner, x.inner_len, y.inner_len]);
        }
    }
    words
}

fn kind_words(file: &File) -> Vec<u32> {
    let File { shape, offset, .. } = *file;
    let [columns, rows] = file.out_size;
    // Rows of a derived table are counted in rows, pixels in words.
    let out_row = file.out_offset / columns.max(1);
    match shape {
        Shape::Image { size: [width, height] } => {
            let (out_width, out_height) = (columns, rows);
            let (len, out_len) = (width * height, out_width * out_height);
            vec![offset, len, width, height, file.out_offset, out_len, out_width, out_height]
        }
        Shape::Table { rows: in_rows, cols, seconds } => {
            let len = in_rows * cols;
            let valid = offset + len;
            let time = valid + in_rows.div_ceil(32) * cols;
            let timed = u32::from(seconds.is_some());
            let untimed = file.left_out;
            vec![offset, len, in_rows, cols, valid, time, timed, untimed, out_row, rows]
        }
        Shape::Audio { frames, channels, sample_rate, seconds } => {
            #[expect(clippy::cast_possible_truncation, reason = "to the nearest")]
            let seconds = (seconds as f32).to_bits();
            vec![offset, frames * channels, frames, channels, sample_rate, seconds, out_row, rows]
        }
        Shape::Bytes { length } => vec![offset, length, out_row, rows],
    }
}
