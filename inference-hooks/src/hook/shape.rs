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
    /// Sound.
    Audio {
        /// Its samples in each channel.
        frames: u32,
        /// Its channels, after mixing.
        channels: u32,
        /// Frames a second.
        sample_rate: u32,
        /// How long it is. Of a batch this is no quotient of the others.
        seconds: f64,
    },
    /// A file as it is.
    Bytes {
        /// Its bytes.
        length: u32,
    },
}

/// The first names of expressions, for each kind of input; their values are [`Shape::values`].
pub(super) const IMAGE_NAMES: &[&str] = &["width", "height", "len"];
pub(super) const TABLE_NAMES: &[&str] = &["rows", "cols", "len", "seconds", "timed"];
pub(super) const AUDIO_NAMES: &[&str] = &["frames", "channels", "sample_rate", "seconds", "len"];
pub(super) const BYTES_NAMES: &[&str] = &["length"];

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
            Self::Audio { frames, channels, sample_rate, seconds } => {
                let (frames, channels) = (f64::from(frames), f64::from(channels));
                vec![frames, channels, sample_rate.into(), seconds, frames * channels]
            }
            Self::Bytes { length } => vec![length.into()],
        }
    }
}
