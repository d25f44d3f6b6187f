//! From pixels to the bytes of a derived file.

use std::io::Cursor;

use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{DynamicImage, ExtendedColorType, ImageEncoder, ImageError, RgbaImage};

use crate::hook::ImageFormat;

/// What a picture is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// With loss; transparency turns white.
    Jpeg { quality: u8 },
    /// In any other format, without loss.
    As(image::ImageFormat),
}

impl Written {
    /// What a hook wants of a picture that came as `came`.
    pub(crate) fn of(wanted: ImageFormat, came: image::ImageFormat) -> Self {
        match (wanted, came) {
            (ImageFormat::Jpeg { quality }, _)
            | (ImageFormat::Same { quality }, image::ImageFormat::Jpeg) => Self::Jpeg { quality },
            (ImageFormat::Png, _) => Self::As(image::ImageFormat::Png),
            (ImageFormat::Same { .. }, came) => Self::As(came),
        }
    }

    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::Jpeg { .. } => image::ImageFormat::Jpeg.to_mime_type(),
            Self::As(format) => format.to_mime_type(),
        }
    }

    /// What its name ends with, for a suffix that does not say.
    pub(crate) fn extension(self) -> &'static str {
        let format = match self {
            Self::Jpeg { .. } => image::ImageFormat::Jpeg,
            Self::As(format) => format,
        };
        format.extensions_str().first().copied().unwrap_or_default()
    }
}

/// A picture as a file.
pub(crate) fn encode(image: RgbaImage, written: Written) -> Result<Vec<u8>, ImageError> {
    let (width, height) = image.dimensions();
    let mut bytes = Vec::new();
    match written {
        Written::As(image::ImageFormat::Png) => {
            PngEncoder::new_with_quality(&mut bytes, CompressionType::Fast, FilterType::Adaptive)
                .write_image(image.as_raw(), width, height, ExtendedColorType::Rgba8)?;
        }
        Written::As(format) => {
            DynamicImage::from(image).write_to(&mut Cursor::new(&mut bytes), format)?;
        }
        Written::Jpeg { quality } => {
            let (pixels, _) = image.as_raw().as_chunks::<4>();
            let opaque: Vec<u8> = pixels.iter().flat_map(|pixel| over_white(*pixel)).collect();
            JpegEncoder::new_with_quality(&mut bytes, quality).write_image(
                &opaque,
                width,
                height,
                ExtendedColorType::Rgb8,
            )?;
        }
    }
    Ok(bytes)
}

fn over_white([red, green, blue, alpha]: [u8; 4]) -> [u8; 3] {
    let alpha = u32::from(alpha);
    [red, green, blue].map(|channel| {
        let mixed = (u32::from(channel) * alpha + 255 * (255 - alpha) + 127) / 255;
        u8::try_from(mixed).unwrap_or(u8::MAX)
    })
}

#[cfg(test)]
mod tests {
    use image::ImageFormat as Format;

    use super::*;
    use crate::decode::decode;

    #[test]
    fn a_picture_is_written_as_it_came_and_nothing_is_lost_but_by_jpeg() {
        let level = |at: u32| u8::try_from(at * 6).unwrap();
        let image = RgbaImage::from_fn(40, 30, |x, y| image::Rgba([level(x), level(y), 7, 255]));
        for came in
            [Format::Jpeg, Format::Png, Format::WebP, Format::Tiff, Format::Bmp, Format::Gif]
        {
            let written = Written::of(ImageFormat::Same { quality: 95 }, came);
            let bytes = encode(image.clone(), written).unwrap();
            let (again, format) = decode(&bytes, 1 << 20, 64 << 20).unwrap();
            assert_eq!((format, again.dimensions()), (came, (40, 30)));
            assert_eq!(written.media_type(), came.to_mime_type());
            // A GIF has few colours.
            if !matches!(came, Format::Jpeg | Format::Gif) {
                assert!(again == image, "{came:?}");
            }
        }
        let png = Written::of(ImageFormat::Png, Format::Jpeg);
        assert_eq!((png.extension(), png.media_type()), ("png", "image/png"));
    }
}
