//! From a file's bytes to pixels. Whatever the bytes are, the result is a picture within the limits or an error.

use std::io::Cursor;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbaImage};

use crate::protocol::{Failure, FailureKind};

/// Decodes a picture the right way up, and says in what format it came. Of an animation it is the first frame. `memory_bytes_max` bounds
/// what decoding holds at its peak.
pub(crate) fn decode(
    bytes: &[u8],
    pixels_max: u64,
    memory_bytes_max: u64,
) -> Result<(RgbaImage, ImageFormat), Failure> {
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
            "decoding this {} needs more than the {memory_bytes_max} bytes of memory that the hook \
             and its worker allow: {limit}",
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
            "decoding {width} x {height} pixels needs {peak} bytes of memory; \
             the hook and its worker allow {memory_bytes_max}"
        )));
    }
    if format == ImageFormat::Jpeg && !jpeg_has_an_end(bytes) {
        return Err(bad("the JPEG is cut off".to_owned()));
    }
    let mut image = DynamicImage::from_decoder(decoder).map_err(failed)?;
    image.apply_orientation(orientation);
    Ok((image.into_rgba8(), format))
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

#[cfg(test)]
mod tests {
    use image::{ImageFormat, Rgb, RgbImage};

    use super::*;

    const PIXELS_MAX: u64 = 1_000_000;
    const MEMORY_MAX: u64 = 64 << 20;
    const FORMATS: [ImageFormat; 6] = [
        ImageFormat::Bmp,
        ImageFormat::Gif,
        ImageFormat::Jpeg,
        ImageFormat::Png,
        ImageFormat::Tiff,
        ImageFormat::WebP,
    ];

    fn encoded(format: ImageFormat) -> Vec<u8> {
        let noise = |x: u32, y: u32| u8::try_from((x * 7919 + y * 104_729) % 251).unwrap();
        let image = RgbImage::from_fn(61, 43, |x, y| Rgb([noise(x, y), noise(y, x), 90]));
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    fn failure(bytes: &[u8]) -> Failure {
        decode(bytes, PIXELS_MAX, MEMORY_MAX).expect_err("no picture")
    }

    #[test]
    fn every_format_is_read() {
        for format in FORMATS {
            let (image, found) = decode(&encoded(format), PIXELS_MAX, MEMORY_MAX).unwrap();
            assert_eq!((image.dimensions(), found), ((61, 43), format));
        }
    }

    #[test]
    fn a_file_that_is_cut_off_is_bad_wherever_the_cut_is() {
        for format in FORMATS {
            let bytes = encoded(format);
            // The last bytes of some formats say nothing about pixels.
            for keep in [1, 4, 12, 40, bytes.len() / 3, bytes.len() / 2, bytes.len() - 40] {
                let found = decode(&bytes[..keep], PIXELS_MAX, MEMORY_MAX);
                let kind =
                    found.map(|(image, _)| image.dimensions()).map_err(|failure| failure.kind);
                assert_eq!(
                    kind,
                    Err(FailureKind::BadInput),
                    "{format:?}, {keep} of {}",
                    bytes.len()
                );
            }
        }
        let jpeg = encoded(ImageFormat::Jpeg);
        assert_eq!(failure(&jpeg[..jpeg.len() - 2]).detail, "the JPEG is cut off");
    }

    #[test]
    fn what_is_no_picture_is_bad() {
        assert_eq!(failure(b"").detail, "the file is empty");
        let text = failure(b"Dear Sir or Madam");
        assert_eq!(text.detail, "the file is in no picture format that fsd reads");
        assert_eq!(text.kind, FailureKind::BadInput);
    }

    #[test]
    fn damaged_bytes_give_a_picture_or_an_error_and_nothing_worse() {
        for format in FORMATS {
            let sound = encoded(format);
            for at in (0..sound.len()).step_by(sound.len().div_ceil(150)) {
                let mut bytes = sound.clone();
                bytes[at] ^= 0x55;
                let _ = decode(&bytes, PIXELS_MAX, MEMORY_MAX);
            }
        }
    }

    #[test]
    fn a_bomb_is_refused_by_its_header() {
        // 30,000 x 30,000 pixels in a PNG of a few bytes.
        let mut bomb = encoded(ImageFormat::Png);
        bomb[16..24].copy_from_slice(&[0, 0, 0x75, 0x30, 0, 0, 0x75, 0x30]);
        let crc = png_crc(&bomb[12..29]);
        bomb[29..33].copy_from_slice(&crc.to_be_bytes());
        let found = failure(&bomb);
        assert_eq!(found.kind, FailureKind::OverLimit);
        assert_eq!(
            found.detail,
            "the picture has 30000 x 30000 pixels; input.max_pixels = 1000000"
        );
        let found = decode(&bomb, 1 << 30, MEMORY_MAX).expect_err("over memory");
        assert_eq!(found.kind, FailureKind::OverLimit, "{found:?}");
        assert!(found.detail.contains("67108864"), "{found:?}");
    }

    fn png_crc(bytes: &[u8]) -> u32 {
        let step = |crc: u32, _| if crc & 1 == 1 { 0xEDB8_8320 ^ (crc >> 1) } else { crc >> 1 };
        let byte = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), step);
        !bytes.iter().fold(!0, byte)
    }

    #[test]
    fn a_picture_comes_the_right_way_up() {
        let jpeg = encoded(ImageFormat::Jpeg);
        // Orientation 6: the camera was turned to the left.
        let exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
        let length = u16::try_from(exif.len() + 2).unwrap().to_be_bytes();
        let turned = [&jpeg[..2], &[0xFF, 0xE1], &length, exif, &jpeg[2..]].concat();
        let (upright, _) = decode(&jpeg, PIXELS_MAX, MEMORY_MAX).unwrap();
        let (turned, _) = decode(&turned, PIXELS_MAX, MEMORY_MAX).unwrap();
        assert_eq!(turned.dimensions(), (43, 61));
        assert_eq!(turned, image::imageops::rotate90(&upright));
    }
}
