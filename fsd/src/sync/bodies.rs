//! Bodies of uploads: how much of them may be in memory, and buffers that serve one body after the other while there are uploads.
//! New memory for each part cost a third of an upload's processor time: the kernel fills each page of it with zeros first.

use std::mem::take;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Semaphore, SemaphorePermit};

const KIB: usize = 1024;
/// Shorter ones come from the heap, which keeps such memory by itself.
const KEPT_BYTES_MIN: usize = 1 << 20;

/// Room for bodies.
#[derive(Debug)]
pub(super) struct Bodies {
    /// In KiB.
    room: Semaphore,
    room_kib: u32,
    spare: Arc<Mutex<Spare>>,
}

#[derive(Debug, Default)]
struct Spare {
    /// Uploads that have room; without any, nothing is kept.
    rooms: usize,
    /// All bodies and all that is kept for others.
    bytes: usize,
    bytes_max: usize,
    buffers: Vec<Vec<u8>>,
}

/// Room for one body, until it is dropped.
#[derive(Debug)]
pub(super) struct Room<'a> {
    _permit: Option<SemaphorePermit<'a>>,
    spare: Arc<Mutex<Spare>>,
}

/// A body's memory, which goes back to the others when nobody sends it any more.
#[derive(Debug)]
struct Lent {
    bytes: Vec<u8>,
    spare: Arc<Mutex<Spare>>,
}

impl Bodies {
    /// Room for `kib` KiB.
    pub(super) fn new(kib: u32) -> Self {
        let spare = Spare { bytes_max: kib as usize * KIB, ..Spare::default() };
        Self {
            room: Semaphore::new(kib as usize),
            room_kib: kib,
            spare: Arc::new(Mutex::new(spare)),
        }
    }

    /// Waits until there is room for `length` bytes; a body that is larger than all of it waits for all of it.
    pub(super) async fn room(&self, length: u64) -> Room<'_> {
        let kib = u32::try_from(length.div_ceil(KIB as u64)).unwrap_or(u32::MAX).min(self.room_kib);
        // The semaphore is never closed.
        let permit = self.room.acquire_many(kib).await.ok();
        lock(&self.spare).rooms += 1;
        Room { _permit: permit, spare: self.spare.clone() }
    }
}

impl Room<'_> {
    /// A body of `length` bytes that `fill` makes.
    pub(super) fn body<E>(
        &self,
        length: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<Bytes, E> {
        let bytes = lock(&self.spare).lend(length);
        let mut lent = Lent { bytes, spare: self.spare.clone() };
        fill(&mut lent.bytes)?;
        Ok(Bytes::from_owner(lent))
    }
}

impl Spare {
    /// A buffer of `length` bytes: one that is kept, or a new one in the place of those that are too small.
    fn lend(&mut self, length: usize) -> Vec<u8> {
        let fits = |buffer: &Vec<u8>| length >= KEPT_BYTES_MIN && buffer.capacity() >= length;
        if let Some(place) = self.buffers.iter().position(fits) {
            let mut buffer = self.buffers.swap_remove(place);
            buffer.resize(length, 0);
            return buffer;
        }
        while self.bytes + length > self.bytes_max
            && let Some(buffer) = self.buffers.pop()
        {
            self.bytes -= buffer.capacity();
        }
        let buffer = vec![0; length];
        self.bytes += buffer.capacity();
        buffer
    }

    fn take_back(&mut self, buffer: Vec<u8>) {
        if self.rooms > 0 && buffer.capacity() >= KEPT_BYTES_MIN && self.bytes <= self.bytes_max {
            self.buffers.push(buffer);
        } else {
            self.bytes -= buffer.capacity();
        }
    }

    fn forget(&mut self) {
        self.bytes -= self.buffers.drain(..).map(|buffer| buffer.capacity()).sum::<usize>();
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        let mut spare = lock(&self.spare);
        spare.rooms -= 1;
        if spare.rooms == 0 {
            spare.forget();
        }
    }
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let bytes = take(&mut self.bytes);
        lock(&self.spare).take_back(bytes);
    }
}

fn lock(spare: &Mutex<Spare>) -> MutexGuard<'_, Spare> {
    spare.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(byte: u8) -> impl FnOnce(&mut [u8]) -> Result<(), std::io::Error> {
        move |buffer| {
            buffer.fill(byte);
            Ok(())
        }
    }

    #[tokio::test]
    async fn memory_serves_again_while_there_are_uploads_and_is_free_after_them() {
        let bodies = Bodies::new(4096);
        let room = bodies.room(1 << 21).await;
        let first = room.body(1 << 21, of(1)).unwrap();
        let place = first.as_ptr();
        assert!(first.iter().all(|byte| *byte == 1));
        drop(first);
        let second = room.body((1 << 21) - 5, of(2)).unwrap();
        assert_eq!(second.as_ptr(), place);
        assert!(second.len() == (1 << 21) - 5 && second.iter().all(|byte| *byte == 2));
        drop(second);
        assert_eq!(lock(&bodies.spare).buffers.len(), 1);
        drop(room);
        assert!(lock(&bodies.spare).buffers.is_empty());
    }

    #[tokio::test]
    async fn one_that_is_still_sent_after_its_upload_is_given_back_too() {
        let bodies = Bodies::new(4096);
        let room = bodies.room(1 << 21).await;
        let body = room.body(1 << 21, of(1)).unwrap();
        drop(room);
        drop(body);
        assert!(lock(&bodies.spare).buffers.is_empty());
    }

    #[tokio::test]
    async fn what_is_kept_makes_way_for_bodies_that_it_is_too_small_for() {
        let bodies = Bodies::new(4096);
        let room = bodies.room(3 << 20).await;
        let small: Vec<_> = (0..3).map(|_| room.body(1 << 20, of(1)).unwrap()).collect();
        drop(small);
        assert_eq!(lock(&bodies.spare).buffers.len(), 3);
        let large = room.body(3 << 20, of(2)).unwrap();
        assert_eq!((large.len(), lock(&bodies.spare).bytes), (3 << 20, 4 << 20));
        drop(large);
        drop(room);
        assert_eq!(lock(&bodies.spare).bytes, 0);
    }

    #[tokio::test]
    async fn who_asks_for_more_than_there_is_gets_all_of_it() {
        let bodies = Bodies::new(16);
        let room = bodies.room(1 << 30).await;
        assert_eq!(bodies.room.available_permits(), 0);
        drop(room);
        assert_eq!(bodies.room.available_permits(), 16);
    }
}
