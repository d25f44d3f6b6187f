//! What a hook looks at, as words for a shader.

use std::borrow::Cow;

use image::RgbaImage;

use crate::audio::Audio;
use crate::hook::Shape;
use crate::raw::Raw;
use crate::table::Table;
use crate::tiles::Place;

/// A decoded file.
pub(crate) trait Subject {
    /// Its size.
    fn shape(&self) -> Shape;

    /// Rows that it should have and has not.
    fn left_out(&self) -> u32 {
        0
    }

    /// Where it lies in the whole, if it is a tile.
    fn place(&self) -> Option<Place> {
        None
    }

    /// What a shader finds from `file.offset` on: [`super::file::words_of`] its shape, in bytes.
    fn bytes(&self) -> Cow<'_, [u8]>;
}

impl<S: Subject> Subject for &S {
    fn shape(&self) -> Shape {
        (**self).shape()
    }

    fn left_out(&self) -> u32 {
        (**self).left_out()
    }

    fn place(&self) -> Option<Place> {
        (**self).place()
    }

    fn bytes(&self) -> Cow<'_, [u8]> {
        (**self).bytes()
    }
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

impl Subject for Audio {
    fn shape(&self) -> Shape {
        Audio::shape(self)
    }

    fn bytes(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(self.samples())
    }
}

impl Subject for Raw {
    fn shape(&self) -> Shape {
        Raw::shape(self)
    }

    fn bytes(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(self.padded())
    }
}
