//! The end of a dump: a sum over everything that will not change any more.

use core::sync::atomic::Ordering::{Relaxed, Release};

use pyshim_dump::layout::{self, ExtentKind, SEALED_LEN, SITES};

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
        // In the order in which the list has them. (What the file says is believed as far as we know of
        // it ourselves: others may write there.)
        let count = header().extent_count.load(Relaxed) as usize;
        for extent in header().extents.iter().take(count) {
            let (kind, index) = (extent.kind.load(Relaxed), extent.index.load(Relaxed));
            let (is_of_sites, is_further) =
                (index < self.array_extents, index < self.further_extents);
            if kind == ExtentKind::Counters as u32 && is_of_sites {
                crc.update(Part::new(&COUNTERS, SITES, index).bytes());
            } else if kind == ExtentKind::Moments as u32 && is_of_sites {
                crc.update(Part::new(&MOMENTS, SITES, index).bytes());
            } else if kind == ExtentKind::Further as u32 && is_further {
                crc.update(Part::new(&FURTHER, layout::FURTHER, index).bytes());
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
