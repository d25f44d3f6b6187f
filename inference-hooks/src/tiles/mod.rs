//! Files that are looked at piece by piece: where the pieces lie, what they hold, and what is made of what is said of
//! them. Each piece is a file of a dispatch.

mod pieces;
mod whole;

use std::borrow::Cow;

use crate::gpu::Subject;
use crate::hook::{Shape, Tiles};

pub(crate) use pieces::{Pieces, RawFile};
pub(crate) use whole::Whole;

/// Where a tile lies along one axis of the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// Where it begins in the whole, overlap and all.
    pub(crate) start: u32,
    pub(crate) len: u32,
    /// Where that begins in the tile which is no other tile's.
    pub(crate) inner: u32,
    pub(crate) inner_len: u32,
}

/// Where a tile lies, and how large the whole is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Of rows, frames or bytes.
    Line { span: Span, whole: u32 },
    /// Of a picture: across and down.
    Plane { spans: [Span; 2], whole: [u32; 2] },
}

/// How a file is cut.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    whole: Place,
    size: u32,
    overlap: u32,
}

/// A piece of a file and where it lies; without a place it is the whole of a file that is not cut.
#[derive(Debug)]
pub(crate) struct Tile<S> {
    pub(crate) piece: S,
    pub(crate) place: Option<Place>,
}

/// A tile before it is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outline {
    pub(crate) shape: Shape,
    pub(crate) place: Place,
}

impl Span {
    fn whole(len: u32) -> Self {
        Self { start: 0, len, inner: 0, inner_len: len }
    }

    /// The span of tile `index`.
    fn of(index: u64, whole: u32, size: u32, overlap: u32) -> Self {
        let begin = index.saturating_mul(size.into()).min(whole.into());
        let begin = u32::try_from(begin).unwrap_or(whole);
        let inner_len = size.min(whole - begin);
        let inner = overlap.min(begin);
        let after = overlap.min(whole - begin - inner_len);
        Self { start: begin - inner, len: inner + inner_len + after, inner, inner_len }
    }
}

impl Place {
    /// The place of a file that is one tile.
    pub(crate) fn of_all(shape: Shape) -> Self {
        let line = |whole| Self::Line { span: Span::whole(whole), whole };
        match shape {
            Shape::Image { size } => Self::Plane { spans: size.map(Span::whole), whole: size },
            Shape::Table { rows, .. } => line(rows),
            Shape::Audio { frames, .. } => line(frames),
            Shape::Bytes { length } => line(length),
        }
    }

    /// The span of a tile of rows, frames or bytes; of a picture, that across.
    pub(crate) fn span(self) -> Span {
        match self {
            Self::Line { span, .. } => span,
            Self::Plane { spans: [across, _], .. } => across,
        }
    }
}

impl Layout {
    pub(crate) fn new(shape: Shape, tiles: &Tiles) -> Self {
        let Tiles { size, overlap, .. } = *tiles;
        Self { whole: Place::of_all(shape), size, overlap }
    }

    /// How many tiles there are; an empty file is one that is empty.
    pub(crate) fn count(&self) -> u64 {
        let along = |len: u32| u64::from(len.div_ceil(self.size)).max(1);
        match self.whole {
            Place::Line { whole, .. } => along(whole),
            Place::Plane { whole: [width, height], .. } => along(width) * along(height),
        }
    }

    /// Where tile `index` lies; of a picture they go by rows.
    pub(crate) fn place(&self, index: u64) -> Place {
        let Self { size, overlap, .. } = *self;
        match self.whole {
            Place::Line { whole, .. } => {
                Place::Line { span: Span::of(index, whole, size, overlap), whole }
            }
            Place::Plane { whole: [width, height], .. } => {
                let across = u64::from(width.div_ceil(size)).max(1);
                let spans = [
                    Span::of(index % across, width, size, overlap),
                    Span::of(index / across, height, size, overlap),
                ];
                Place::Plane { spans, whole: [width, height] }
            }
        }
    }
}

impl<S: Subject> Subject for Tile<S> {
    fn shape(&self) -> Shape {
        self.piece.shape()
    }

    fn left_out(&self) -> u32 {
        self.piece.left_out()
    }

    fn place(&self) -> Option<Place> {
        self.place
    }

    fn bytes(&self) -> Cow<'_, [u8]> {
        self.piece.bytes()
    }
}

impl Subject for Outline {
    fn shape(&self) -> Shape {
        self.shape
    }

    fn place(&self) -> Option<Place> {
        Some(self.place)
    }

    fn bytes(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(shape: Shape, size: u32, overlap: u32) -> Layout {
        Layout::new(shape, &Tiles { size, overlap, combine: Vec::new() })
    }

    fn spans(length: u32, size: u32, overlap: u32) -> Vec<[u32; 4]> {
        let layout = layout(Shape::Bytes { length }, size, overlap);
        let span = |index| {
            let Span { start, len, inner, inner_len } = layout.place(index).span();
            [start, len, inner, inner_len]
        };
        (0..layout.count()).map(span).collect()
    }

    #[test]
    fn tiles_overlap_where_the_file_has_more() {
        assert_eq!(spans(10, 4, 0), [[0, 4, 0, 4], [4, 4, 0, 4], [8, 2, 0, 2]]);
        assert_eq!(spans(10, 4, 1), [[0, 5, 0, 4], [3, 6, 1, 4], [7, 3, 1, 2]]);
        assert_eq!(spans(10, 4, 4), [[0, 8, 0, 4], [0, 10, 4, 4], [4, 6, 4, 2]]);
        assert_eq!(spans(4, 4, 4), [[0, 4, 0, 4]]);
        assert_eq!(spans(0, 4, 4), [[0, 0, 0, 0]]);
        let [.., last] = spans(u32::MAX, 1 << 30, 1 << 30)[..] else { panic!("no tile") };
        assert_eq!(last, [1 << 31, u32::MAX - (1 << 31), 1 << 30, (1 << 30) - 1]);
    }

    proptest::proptest! {
        #[test]
        fn the_inner_parts_of_all_tiles_are_the_whole(width in 1_u32..200, height in 1_u32..200, size in 1_u32..70, overlap in 0_u32..70) {
            let layout = layout(Shape::Image { size: [width, height] }, size, overlap.min(size));
            let mut seen = vec![0; (width * height) as usize];
            for index in 0..layout.count() {
                let Place::Plane { spans: [x, y], whole } = layout.place(index) else { panic!("no plane") };
                assert_eq!(whole, [width, height]);
                assert!(x.start + x.len <= width && y.start + y.len <= height);
                for row in 0..y.inner_len {
                    for column in 0..x.inner_len {
                        let (x, y) = (x.start + x.inner + column, y.start + y.inner + row);
                        seen[(y * width + x) as usize] += 1;
                    }
                }
            }
            assert!(seen.iter().all(|times| *times == 1));
        }
    }
}
