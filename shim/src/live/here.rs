//! What sampled mode asks before it looks into the live table.
//!
//! There nearly every block that is freed is not in the table, and the table
//! would only be read to find that out, with a cache miss or a page fault each.
//! So a small table counts what is in the large one by some bits of the address: neighbours share a
//! cache line of it, so that it takes none from the program's data. What that cannot tell from an
//! entry, for it lies a multiple of 4 MiB from one, a second one does, which counts by a hash. A count
//! that is full stays.

use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

use crate::hash::scatter;
use crate::sample;

type Counts = [AtomicU8; 1 << HERE_BITS];

/// The counts; the code in [`crate::gate`] reads them too.
pub static HERE: Counts = [const { AtomicU8::new(0) }; 1 << HERE_BITS];
static BY_HASH: Counts = [const { AtomicU8::new(0) }; 1 << HERE_BITS];
const HERE_BITS: u32 = 16;
/// How far an address is shifted: a place counts what is in 64 bytes (and in what lies a multiple of
/// 4 MiB from there). The code in [`crate::gate`] takes 16 bits of what is left.
pub const SHIFT: u32 = 6;

fn counts(address: usize) -> [&'static AtomicU8; 2] {
    // Neither index can be too large, so the checks fold away.
    let hash = scatter(address as u64) >> (u64::BITS - HERE_BITS);
    [&HERE[(address >> SHIFT) & (HERE.len() - 1)], &BY_HASH[hash as usize]]
}

/// Whether a block at `address` may be in the live table; to be asked in sampled mode alone.
pub fn may_hold(address: usize) -> bool {
    counts(address).iter().all(|count| count.load(Relaxed) != 0)
}

/// A block came to the live table.
#[inline(always)]
pub fn came(address: usize) {
    if sample::is_on() {
        change(address, |count| (count < u8::MAX).then(|| count + 1));
    }
}

/// A block left the live table.
#[inline(always)]
pub fn went(address: usize) {
    if sample::is_on() {
        change(address, |count| (count != 0 && count < u8::MAX).then(|| count - 1));
    }
}

fn change(address: usize, to: impl Fn(u8) -> Option<u8>) {
    for count in counts(address) {
        let _ = count.fetch_update(Relaxed, Relaxed, &to);
    }
}
