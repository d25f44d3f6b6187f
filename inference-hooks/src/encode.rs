//! From pixels to the bytes of a derived file.

use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder, ImageError, RgbaImage};

use crate::hook::ImageFormat;

/// A picture as a file, and its media type.
pub(crate) fn encode(
    image: &RgbaImage,
    format: ImageFormat,
) -> Result<(Vec<u8>, &'static str), ImageError> {
    let (width, height) = image.dimensions();
    let mut bytes = Vec::new();
    match format {
        ImageFormat::Png => {
            PngEncoder::new_with_quality(&mut bytes, CompressionType::Fast, FilterType::Adaptive)
                .write_image(image.as_raw(), width, height, ExtendedColorType::Rgba8)?;
            Ok((bytes, "image/png"))
        }
        ImageFormat::Jpeg { quality } => {
            let (pixels, _) = image.as_raw().as_chunks::<4>();
            let opaque: Vec<u8> = pixels.iter().flat_map(|pixel| over_white(*pixel)).collect();
            JpegEncoder::new_with_quality(&mut bytes, quality).write_image(
                &opaque,
                width,
                height,
                ExtendedColorType::Rgb8,
            )?;
            Ok((bytes, "image/jpeg"))
        }
    }
}

fn over_white([red, green, blue, alpha]: [u8; 4]) -> [u8; 3] {
    let alpha = u32::from(alpha);
    [red, green, blue].map(|channel| {
        let mixed = (u32::from(channel) * alpha + 255 * (255 - alpha) + 127) / 255;
        u8::try_from(mixed).unwrap_or(u8::MAX)
    })
}
