//! Birth times in sixteen bits: exact to 64 ms at first, to 1/4096 of the
//! elapsed time later, for 99 days.
//!
//! A number of 64 ms ticks as a small floating-point value, twelve bits of
//! mantissa and four of exponent; it grows with time, so two can be compared.

use core::sync::atomic::{AtomicU16, Ordering::Relaxed};

/// Milliseconds of a tick.
const TICK_MS: u64 = 64;

/// The present, for whoever allocates; the clock is read elsewhere.
pub static NOW: AtomicU16 = AtomicU16::new(0);

/// In a forked child: older blocks are the parent's. Zero otherwise.
pub static FORKED_AT: AtomicU16 = AtomicU16::new(0);

/// The epoch of a time since the start.
pub fn from_ms(ms: u64) -> u16 {
    let ticks = ms / TICK_MS;
    if ticks < 8192 {
        return ticks as u16;
    }
    // 13 significant bits, of which the first is implied.
    let exponent = 63 - ticks.leading_zeros() as u64 - 12;
    if exponent > 14 {
        return u16::MAX;
    }
    ((exponent + 1) << 12 | (ticks >> exponent & 0xfff)) as u16
}

/// The earliest time of an epoch, in milliseconds since the start.
pub fn to_ms(epoch: u16) -> u64 {
    let epoch = u64::from(epoch);
    if epoch < 8192 {
        return epoch * TICK_MS;
    }
    (((epoch & 0xfff) | 0x1000) << ((epoch >> 12) - 1)) * TICK_MS
}

/// Sets the present, never back.
pub fn advance(ms: u64) {
    NOW.fetch_max(from_ms(ms), Relaxed);
}

/// Starts a new epoch for a forked child: every older block is its parent's.
pub fn fork() {
    let next = NOW.load(Relaxed).saturating_add(1);
    NOW.store(next, Relaxed);
    FORKED_AT.store(next, Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_grow_and_come_back() {
        let mut last = 0;
        let mut ms = 0u64;
        while ms < 99 * 86_400_000 {
            let epoch = from_ms(ms);
            assert!(epoch >= last, "{ms}");
            last = epoch;
            let back = to_ms(epoch);
            assert!(back <= ms && ms - back <= 64 + ms / 4096, "{ms} {back}");
            ms += 1 + ms / 1000;
        }
        assert_eq!(from_ms(u64::MAX / 2), u16::MAX);
    }
}
