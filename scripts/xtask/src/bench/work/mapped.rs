//! A file as memory.
#![expect(unsafe_code, reason = "the kernel's way to have a file as memory is not safe by itself")]

use std::ffi::c_void;
use std::fs::File;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::ptr::NonNull;

use anyhow::Context;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// Shared with the file. Nobody else may have the file open while this is.
#[derive(Debug)]
pub(super) struct Mapped {
    start: NonNull<c_void>,
    bytes: usize,
}

impl Mapped {
    pub(super) fn new(file: &File, bytes: usize) -> anyhow::Result<Self> {
        let length = NonZeroUsize::new(bytes).context("an empty file can't be mapped")?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: without an address the kernel chooses a place that nothing else has.
        let start = unsafe { mmap(None, length, protection, MapFlags::MAP_SHARED, file, 0) };
        Ok(Self { start: start.context("map a file")?, bytes })
    }

    pub(super) fn get_mut(&mut self, range: Range<usize>) -> Option<&mut [u8]> {
        let start = self.start.cast::<u8>().as_ptr();
        // SAFETY: it is mapped from `start` for `bytes` until it is dropped, and `self` is borrowed as long as this is.
        unsafe { std::slice::from_raw_parts_mut(start, self.bytes) }.get_mut(range)
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: it was mapped so, and nothing borrows from it any more.
        let _ = unsafe { munmap(self.start, self.bytes) }; // fails only for what was not mapped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_in_memory_is_in_the_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), [0; 8192]).unwrap();
        let open = File::options().read(true).write(true).open(file.path()).unwrap();
        let mut mapped = Mapped::new(&open, 8192).unwrap();
        mapped.get_mut(4096..4100).unwrap().copy_from_slice(b"here");
        assert!(mapped.get_mut(8192..8193).is_none());
        drop(mapped);
        assert_eq!(std::fs::read(file.path()).unwrap()[4096..4100], *b"here");
    }
}
