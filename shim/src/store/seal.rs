//! The end of a dump: a sum over everything that will not change any more.

use core::sync::atomic::Ordering::{Relaxed, Release};

use pyshim_dump::layout::{
    self, Counters, ExtentKind, Further, Growth, Moments, SEALED_LEN, SITES,
};

use super::{COUNTERS, FURTHER, HEADER, MOMENTS, Part, Store, header};
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
        let part = |growth: Growth, index| {
            let first = growth.before(index) as usize;
            (first, growth.through(index) as usize - first)
        };
        // In the order in which the list has them.
        let count = header().extent_count.load(Relaxed) as usize;
        for extent in header().extents.iter().take(count) {
            let (kind, index) = (extent.kind.load(Relaxed), extent.index.load(Relaxed));
            if kind == ExtentKind::Counters as u32 {
                let (first, sites) = part(SITES, index);
                crc.update(Part::<Counters>::new(&COUNTERS, first, sites).bytes());
            } else if kind == ExtentKind::Moments as u32 {
                let (first, sites) = part(SITES, index);
                crc.update(Part::<Moments>::new(&MOMENTS, first, sites).bytes());
            } else if kind == ExtentKind::Further as u32 {
                let (first, places) = part(layout::FURTHER, index);
                crc.update(Part::<Further>::new(&FURTHER, first, places).bytes());
            }
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
