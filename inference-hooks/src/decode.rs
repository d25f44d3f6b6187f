//! From a file's bytes to pixels. Whatever the bytes are, the result is a picture within the limits or an error.

use std::io::Cursor;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbaImage};

use crate::protocol::{Failure, FailureKind};

/// Decodes a picture the right way up. Of an animation it is the first frame. `memory_bytes_max` bounds what
/// decoding holds at its peak.
pub(crate) fn decode(
    bytes: &[u8],
    pixels_max: u64,
    memory_bytes_max: u64,
) -> Result<RgbaImage, Failure> {
    let bad = |detail: String| Failure::new(FailureKind::BadInput, detail);
    let over = |detail: String| Failure::new(FailureKind::OverLimit, detail);
    if bytes.is_empty() {
        return Err(bad("the file is empty".to_owned()));
    }
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format();
    let mut reader = reader.map_err(|error| bad(format!("the file cannot be read: {error}")))?;
    let Some(format) = reader.format() else {
        return Err(bad("the file is in no picture format that fsd reads".to_owned()));
    };
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(memory_bytes_max);
    reader.limits(limits);
    let failed = |error| match error {
        ImageError::Limits(limit) => over(format!(
            "decoding this {} needs more than limits.memory = {memory_bytes_max} bytes: {limit}",
            name(format)
        )),
        other @ (ImageError::Decoding(_)
        | ImageError::Encoding(_)
        | ImageError::Parameter(_)
        | ImageError::Unsupported(_)
        | ImageError::IoError(_)) => bad(format!("the {} is damaged: {other}", name(format))),
    };
    let mut decoder = reader.into_decoder().map_err(failed)?;
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 {
        return Err(bad(format!("the {} has no pixels", name(format))));
    }
    if pixels > pixels_max {
        return Err(over(format!(
            "the picture has {width} x {height} pixels; input.max_pixels = {pixels_max}"
        )));
    }
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    // The compressed file, the decoder's own pixels, ours, and a turned copy of ours.
    let peak = (bytes.len() as u64)
        .saturating_add(decoder.total_bytes())
        .saturating_add(pixels * 4)
        .saturating_add(if orientation == Orientation::NoTransforms { 0 } else { pixels * 4 });
    if peak > memory_bytes_max {
        return Err(over(format!(
            "decoding {width} x {height} pixels needs {peak} bytes; \
             limits.memory = {memory_bytes_max}"
        )));
    }
    if format == ImageFormat::Jpeg && !jpeg_has_an_end(bytes) {
        return Err(bad("the JPEG is cut off".to_owned()));
    }
    let mut image = DynamicImage::from_decoder(decoder).map_err(failed)?;
    image.apply_orientation(orientation);
    Ok(image.into_rgba8())
}

fn name(format: ImageFormat) -> String {
    format!("{format:?}").to_uppercase()
}

/// Whether an end marker follows the first scan. The decoder fills what is missing with grey and says nothing. Before
/// the scan, thumbnails within segments have end markers of their own; in a scan 0xFF is escaped.
fn jpeg_has_an_end(bytes: &[u8]) -> bool {
    const START_OF_SCAN: u8 = 0xDA;
    const STANDALONE: std::ops::RangeInclusive<u8> = 0xD0..=0xD8;
    let mut rest = bytes;
    while let [0xFF, marker, after @ ..] = rest {
        rest = match (*marker, after) {
            (START_OF_SCAN, _) => return after.windows(2).any(|pair| pair == [0xFF, 0xD9]),
            (0xFF, _) => &rest[1..],
            (marker, _) if STANDALONE.contains(&marker) => after,
            (_, [high, low, ..]) => {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                after.get(length..).unwrap_or_default()
            }
            (_, _) => return false,
        };
    }
    false
}
