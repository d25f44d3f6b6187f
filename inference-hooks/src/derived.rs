//! What a hook made of a file, as files to lie beside it.

use image::RgbaImage;

use crate::encode::{Written, encode};
use crate::hook::{ImageFormat, ImageOutput, TableOutput};
use crate::protocol::{DerivedInfo, Failure, FailureKind};
use crate::table::{Labels, write};

/// A derived file: what is said of it, and its content.
pub(crate) type Derived = (DerivedInfo, Vec<u8>);

/// A derived picture, of one that came as `came`.
pub(crate) fn picture(
    output: &ImageOutput,
    image: RgbaImage,
    came: image::ImageFormat,
) -> Result<Derived, Failure> {
    let written = Written::of(output.format, came);
    let bytes = encode(image, written).map_err(|error| {
        let detail = format!("the derived picture cannot be written: {error}");
        Failure::new(FailureKind::OverLimit, detail)
    })?;
    let suffix = match output.format {
        ImageFormat::Same { .. } => format!("{}.{}", output.suffix, written.extension()),
        ImageFormat::Png | ImageFormat::Jpeg { .. } => output.suffix.clone(),
    };
    let media_type = written.media_type().to_owned();
    Ok((DerivedInfo { suffix, media_type }, bytes))
}

/// A derived table, of rows as shaders leave them.
pub(crate) fn table(
    output: &TableOutput,
    rows: &[u32],
    labels: &dyn Labels,
) -> Result<Derived, Failure> {
    let media_type = output.format.media_type().to_owned();
    let info = DerivedInfo { suffix: output.suffix.clone(), media_type };
    Ok((info, write(output, rows, labels)?))
}
