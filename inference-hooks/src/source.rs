//! A file under a hook's eyes, read where it is wanted: what is larger than memory is never there as a whole.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use crate::protocol::{Failure, FailureKind};

/// An open file. It is read by place, since its descriptor shares its position with the daemon's.
#[derive(Debug)]
pub(crate) struct Source {
    file: File,
    length: u64,
}

impl Source {
    /// Takes a file of at most `bytes_max` bytes.
    pub(crate) fn new(file: &File, bytes_max: u64) -> Result<Self, Failure> {
        let file = file.try_clone().map_err(|error| unreadable(&error))?;
        let length = file.metadata().map_err(|error| unreadable(&error))?.len();
        if length > bytes_max {
            let detail = format!("the file is larger than input.max_bytes = {bytes_max}");
            return Err(Failure::new(FailureKind::OverLimit, detail));
        }
        Ok(Self { file, length })
    }

    /// How many bytes it has.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Fills `buffer` with what stands from `at` on; all of it must be there.
    pub(crate) fn fill(&self, at: u64, buffer: &mut [u8]) -> Result<(), Failure> {
        self.file.read_exact_at(buffer, at).map_err(|error| unreadable(&error))
    }

    /// All of it.
    pub(crate) fn read_all(&self) -> Result<Vec<u8>, Failure> {
        let mut bytes = vec![0; usize::try_from(self.length).unwrap_or(usize::MAX)];
        self.fill(0, &mut bytes)?;
        Ok(bytes)
    }

    /// Its bytes one after the other, from the first.
    pub(crate) fn bytes(&self) -> Bytes<'_> {
        Bytes { source: self, at: 0 }
    }
}

/// Reads a [`Source`] from its start to its end.
#[derive(Debug)]
pub(crate) struct Bytes<'a> {
    source: &'a Source,
    at: u64,
}

impl io::Read for Bytes<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.source.length - self.at;
        let wanted = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let read = self.source.file.read_at(&mut buffer[..wanted], self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// The failure for an error of the disk.
pub(crate) fn unreadable(error: &io::Error) -> Failure {
    Failure::new(FailureKind::Unreadable, format!("the file cannot be read: {error}"))
}
