//! The end of a dump: a sum over everything that will not change any more.

use core::mem::offset_of;
use core::sync::atomic::Ordering::{Relaxed, Release};

use pyshim_dump::layout::{self, ExtentKind, Header, SEALED_LEN, SITES};

use super::{COUNTERS, FURTHER, HEADER, MOMENTS, Part, Store, header};
use crate::{packing, sys};

/// Where the header says whether it is sealed; the sum comes behind that.
const SEAL_AT: usize = offset_of!(Header, sealed);
const _: () = assert!(offset_of!(Header, sealed_crc) == SEAL_AT + 4 && SEAL_AT + 8 <= SEALED_LEN);

impl Store {
    /// Sums everything up, once nothing will change any more. A thread that was in the middle of
    /// counting gets time to finish; if the sums still differ, the dump stays without one.
    pub fn seal(&mut self) {
        let header = header();
        for _ in 0..5 {
            let sum = self.sum();
            sys::yield_now();
            if self.sum() == sum {
                // A signal may end the process between any two of these: it is sealed when it says so,
                // and not before the sum is there.
                header.sealed_crc.store(sum, Release);
                return header.sealed.store(1, Release);
            }
        }
    }

    fn sum(&self) -> u32 {
        let mut crc = crc32fast::Hasher::new();
        // SAFETY: the header is HEADER_LEN readable bytes, and this is its beginning.
        let head =
            unsafe { core::slice::from_raw_parts(HEADER.load(Relaxed).cast::<u8>(), SEALED_LEN) };
        let (before, from) = head.split_at(SEAL_AT);
        crc.update(before);
        // As it will be, with the sum itself taken for zero.
        crc.update(&1u32.to_le_bytes());
        crc.update(&0u32.to_le_bytes());
        crc.update(from.get(8..).unwrap_or_default());
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
