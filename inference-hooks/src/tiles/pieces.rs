//! What can be had in pieces. Sound in WAV and bytes are read piece by piece; all else is decoded as a whole, and cut.

use image::RgbaImage;

use super::{Place, Span};
use crate::audio::{Audio, Wav};
use crate::gpu::Subject;
use crate::hook::Shape;
use crate::protocol::Failure;
use crate::raw::{Raw, length_of};
use crate::source::Source;
use crate::table::Table;

/// A file that is cut into tiles.
pub(crate) trait Pieces {
    /// What is in a tile.
    type Piece: Subject;

    /// Its size.
    fn shape(&self) -> Shape;

    /// The size of a tile.
    fn outline(&self, place: Place) -> Shape;

    /// What is in a tile.
    fn piece(&self, place: Place) -> Result<Self::Piece, Failure>;
}

impl Pieces for RgbaImage {
    type Piece = RgbaImage;

    fn shape(&self) -> Shape {
        Subject::shape(self)
    }

    fn outline(&self, place: Place) -> Shape {
        Shape::Image { size: sides(place).map(|span| span.len) }
    }

    fn piece(&self, place: Place) -> Result<Self::Piece, Failure> {
        let [x, y] = sides(place);
        Ok(image::imageops::crop_imm(self, x.start, y.start, x.len, y.len).to_image())
    }
}

/// Across and down.
pub(super) fn sides(place: Place) -> [Span; 2] {
    match place {
        Place::Plane { spans, .. } => spans,
        Place::Line { span, .. } => [span, Span::whole(1)],
    }
}

impl Pieces for Table {
    type Piece = Table;

    fn shape(&self) -> Shape {
        Table::shape(self)
    }

    fn outline(&self, place: Place) -> Shape {
        let Span { start, len, .. } = place.span();
        self.shape_of_rows(start, len)
    }

    fn piece(&self, place: Place) -> Result<Self::Piece, Failure> {
        let Span { start, len, .. } = place.span();
        Ok(self.with_rows(start, len))
    }
}

impl Pieces for Audio {
    type Piece = Audio;

    fn shape(&self) -> Shape {
        Audio::shape(self)
    }

    fn outline(&self, place: Place) -> Shape {
        self.format().with_frames(place.span().len).shape()
    }

    fn piece(&self, place: Place) -> Result<Self::Piece, Failure> {
        let Span { start, len, .. } = place.span();
        Ok(self.with_frames(start, len))
    }
}

impl Pieces for Wav {
    type Piece = Audio;

    fn shape(&self) -> Shape {
        self.format().shape()
    }

    fn outline(&self, place: Place) -> Shape {
        self.format().with_frames(place.span().len).shape()
    }

    fn piece(&self, place: Place) -> Result<Self::Piece, Failure> {
        let Span { start, len, .. } = place.span();
        self.read(start, len)
    }
}

/// A file as it is, on the disk.
#[derive(Debug)]
pub(crate) struct RawFile {
    source: Source,
    length: u32,
}

impl RawFile {
    pub(crate) fn new(source: Source) -> Result<Self, Failure> {
        Ok(Self { length: length_of(&source)?, source })
    }

    /// How many bytes it has.
    pub(crate) fn length(&self) -> u32 {
        self.length
    }
}

impl Pieces for RawFile {
    type Piece = Raw;

    fn shape(&self) -> Shape {
        Shape::Bytes { length: self.length }
    }

    fn outline(&self, place: Place) -> Shape {
        Shape::Bytes { length: place.span().len }
    }

    fn piece(&self, place: Place) -> Result<Self::Piece, Failure> {
        let Span { start, len, .. } = place.span();
        Raw::read_piece(&self.source, start, len)
    }
}
