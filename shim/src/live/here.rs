//! What sampled mode asks before it looks into the live table.
//!
//! There nearly every block that is freed is not in the table, and the table
//! would only be read to find that out, with a cache miss or a page fault each.
//! So a small table counts what is in the large one by some bits of the address: neighbours share a
//! cache line of it, so that it takes none from the program's data. A count that is full stays.

use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

use crate::sample;

/// The counts; the code in [`crate::gate`] reads them too.
pub static HERE: [AtomicU8; 1 << HERE_BITS] = [const { AtomicU8::new(0) }; 1 << HERE_BITS];
const HERE_BITS: u32 = 16;
/// How far an address is shifted: a place counts what is in 64 bytes (and in what lies a multiple of
/// 4 MiB from there). The code in [`crate::gate`] takes 16 bits of what is left.
pub const SHIFT: u32 = 6;

#[inline(always)]
fn here(address: usize) -> &'static AtomicU8 {
    // The mask keeps the index in range, so the check folds away.
    &HERE[(address >> SHIFT) & (HERE.len() - 1)]
}

/// Whether a block at `address` may be in the live table; to be asked in sampled mode alone.
#[inline(always)]
pub fn may_hold(address: usize) -> bool {
    here(address).load(Relaxed) != 0
}

/// A block came to the live table.
#[inline(always)]
pub fn came(address: usize) {
    if sample::is_on() {
        let more = |count: u8| (count < u8::MAX).then(|| count + 1);
        let _ = here(address).fetch_update(Relaxed, Relaxed, more);
    }
}

/// A block left the live table.
#[inline(always)]
pub fn went(address: usize) {
    if sample::is_on() {
        let less = |count: u8| (count != 0 && count < u8::MAX).then(|| count - 1);
        let _ = here(address).fetch_update(Relaxed, Relaxed, less);
    }
}
