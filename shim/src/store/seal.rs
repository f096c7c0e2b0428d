//! The end of a dump: a sum over everything that will not change any more.

use core::sync::atomic::Ordering::{Relaxed, Release};

use pyshim_dump::layout::{Counters, Moments, SEALED_LEN, sites_through};

use super::{COUNTERS, HEADER, MOMENTS, Part, Store, header};
use crate::{packing, sys};

impl Store {
    /// Sums everything up, once nothing will change any more. A thread that was in the middle of
    /// counting gets time to finish; if the sums still differ, the dump stays without one.
    pub fn seal(&mut self) {
        let header = header();
        header.sealed.store(1, Relaxed);
        header.sealed_crc.store(0, Relaxed);
        for _ in 0..5 {
            let sum = self.sum();
            sys::yield_now();
            if self.sum() == sum {
                return header.sealed_crc.store(sum, Release);
            }
        }
        header.sealed.store(0, Release);
    }

    fn sum(&self) -> u32 {
        let mut crc = crc32fast::Hasher::new();
        // SAFETY: the header is HEADER_LEN readable bytes, and this is its beginning.
        crc.update(unsafe {
            core::slice::from_raw_parts(HEADER.load(Relaxed).cast::<u8>(), SEALED_LEN)
        });
        for index in 0..self.array_extents {
            let first = if index == 0 { 0 } else { sites_through(index - 1) } as usize;
            let sites = sites_through(index) as usize - first;
            crc.update(Part::<Counters>::new(&COUNTERS, first, sites).bytes());
            crc.update(Part::<Moments>::new(&MOMENTS, first, sites).bytes());
        }
        crc.finalize()
    }

    /// After [`Store::seal`], at the end of the process: the dump may shrink. `alone`: no copy of the
    /// process is at work on a snapshot.
    pub fn finish(&self, alone: bool) {
        if header().sealed.load(Relaxed) != 0 && self.exists() {
            packing::process_is_done(&self.path, self.identity, alone);
        }
    }

    /// Undoes [`Store::seal`]: the process lives on (a failed `exec`).
    pub fn unseal(&mut self) {
        header().sealed.store(0, Release);
    }
}
