//! What is written anew as a whole: timeline, census, heap snapshot.

use core::sync::atomic::Ordering::{Relaxed, Release};

use pyshim_dump::layout::BlobKind;

use super::{Failure, Store, header};
use crate::{packing, sys};

impl Store {
    /// Replaces a blob: the copy that is not read is written, then the two change places.
    pub fn write_blob(&mut self, kind: BlobKind, bytes: &[u8]) -> Result<(), Failure> {
        let slot = &header().blobs[kind as usize];
        let active = slot.active.load(Relaxed);
        let index = if active == 1 { 1 } else { 0 };
        let copy = &slot.copies[index];
        self.with_file(|store, fd| {
            if copy.capacity.load(Relaxed) < bytes.len() as u64 {
                let len = bytes.len() as u64;
                // Those that are replaced come back larger.
                let more = if kind == BlobKind::FinalCensus { 0 } else { len / 2 };
                let capacity = (len + more).next_multiple_of(4096);
                let at = store.grow_file(fd, capacity)?;
                copy.offset.store(at, Relaxed);
                copy.capacity.store(capacity, Relaxed);
            }
            sys::write_at(fd, copy.offset.load(Relaxed), bytes)?;
            Ok(())
        })?;
        copy.len.store(bytes.len() as u64, Relaxed);
        copy.crc.store(crc32fast::hash(bytes), Relaxed);
        slot.active.store(index as u64 + 1, Release);
        Ok(())
    }

    /// Room for a heap snapshot of up to `len` bytes: where it may be written by a copy of this
    /// process. It takes no disk before that.
    pub fn room_for_heap(&mut self, len: usize) -> Result<HeapPlace, Failure> {
        let slot = &header().beside.heap;
        let index = if slot.active.load(Relaxed) == 1 { 1 } else { 0 };
        let copy = &slot.copies[index];
        if copy.capacity.load(Relaxed) < len as u64 {
            let len = len.next_multiple_of(4096) as u64;
            self.with_file(|_, fd| {
                let header = header();
                let at = header.file_len.load(Relaxed);
                if at + len > sys::file_size_limit() {
                    return Err(Failure::SizeLimit);
                }
                sys::truncate(fd, at + len)?;
                header.file_len.store(at + len, Release);
                copy.offset.store(at, Relaxed);
                copy.capacity.store(len, Relaxed);
                Ok(())
            })?;
        }
        Ok(HeapPlace { path: self.path.clone(), identity: self.identity, index })
    }
}

/// Where a heap snapshot may be written.
pub struct HeapPlace {
    path: Vec<u8>,
    identity: (u64, u64),
    index: usize,
}

impl HeapPlace {
    /// Bytes that it holds.
    pub fn room(&self) -> usize {
        header().beside.heap.copies[self.index].capacity.load(Relaxed) as usize
    }

    /// Writes a snapshot and makes it the one that is read.
    pub fn write(&self, bytes: &[u8]) -> bool {
        let slot = &header().beside.heap;
        let copy = &slot.copies[self.index];
        let Ok(fd) = sys::open(&self.path, libc::O_RDWR | libc::O_NOFOLLOW, 0) else {
            return false;
        };
        let at = copy.offset.load(Relaxed);
        let written = sys::identity(fd) == Some(self.identity)
            && bytes.len() <= self.room()
            && sys::write_at(fd, at, bytes).is_ok();
        sys::close(fd);
        if written {
            copy.len.store(bytes.len() as u64, Relaxed);
            copy.crc.store(crc32fast::hash(bytes), Relaxed);
            slot.active.store(self.index as u64 + 1, Release);
        }
        written
    }

    /// Nothing more will be written.
    pub fn finish(&self) {
        packing::copy_is_done(&self.path, self.identity);
    }
}
