//! Files as they are: bytes, four to a word.

use crate::hook::Shape;
use crate::protocol::{Failure, FailureKind};
use crate::source::Source;

/// A file, or a piece of one, in memory.
#[derive(Debug)]
pub(crate) struct Raw {
    length: u32,
    /// With zeros up to a whole word.
    padded: Vec<u8>,
}

impl Raw {
    /// Reads a whole file.
    pub(crate) fn read(source: &Source, memory_bytes_max: u64) -> Result<Self, Failure> {
        let length = length_of(source)?;
        if u64::from(length) > memory_bytes_max {
            let detail = format!(
                "the file has {length} bytes; the hook and its worker allow {memory_bytes_max} bytes of memory"
            );
            return Err(Failure::new(FailureKind::OverLimit, detail));
        }
        Self::read_piece(source, 0, length)
    }

    /// Reads `length` bytes from `start` on.
    pub(crate) fn read_piece(source: &Source, start: u32, length: u32) -> Result<Self, Failure> {
        let bytes = length as usize;
        let mut padded = vec![0; bytes.next_multiple_of(4)];
        source.fill(start.into(), &mut padded[..bytes])?;
        Ok(Self { length, padded })
    }

    /// One byte: what hooks are tried on.
    #[cfg(feature = "gpu")]
    pub(crate) fn smallest() -> Self {
        Self { length: 1, padded: vec![0; 4] }
    }

    /// Its size, as expressions see it.
    pub(crate) fn shape(&self) -> Shape {
        Shape::Bytes { length: self.length }
    }

    /// Its bytes.
    pub(crate) fn length(&self) -> u32 {
        self.length
    }

    /// What shaders see.
    pub(crate) fn padded(&self) -> &[u8] {
        &self.padded
    }
}

/// How many bytes a file has: shaders count in 32 bits.
pub(crate) fn length_of(source: &Source) -> Result<u32, Failure> {
    u32::try_from(source.length()).map_err(|_| {
        let detail =
            format!("the file has {} bytes; shaders count up to 2^32 - 1", source.length());
        Failure::new(FailureKind::OverLimit, detail)
    })
}
