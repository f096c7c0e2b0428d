//! Sampling: a Poisson process on allocated bytes.
//!
//! Every byte is drawn with the same small chance, so a block of `s` bytes is
//! taken with probability `p = 1 - exp(-s / mean)` and stands for `1 / p` blocks
//! of `s / p` bytes: unbiased for every size. The weight depends on the size
//! alone, so the free computes the same one again.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::gate;
use crate::guard::{Guard, Thread};

/// Mean bytes between two samples; 0: every block is recorded.
static MEAN: AtomicU64 = AtomicU64::new(0);
static SEED: AtomicU64 = AtomicU64::new(0);
/// From one thread's seed to the next one's.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// What a sampled block stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weight {
    /// Blocks.
    pub blocks: u64,
    /// Bytes.
    pub bytes: u64,
}

/// What becomes of a block.
pub enum Draw {
    /// Every block is recorded.
    All,
    /// It was drawn.
    Taken(Weight),
    /// It was not.
    Passed,
}

/// Sets the mean; 0 for exact. `seed` makes the draws of a run repeatable; without one they
/// differ from process to process.
pub fn set(mean: u64, seed: Option<u64>) {
    // Where the kernel put this variable is as good as random, and the clock where it does not.
    let chance = || core::ptr::from_ref(&SEED) as u64 ^ (crate::sys::monotonic_ns() << 20);
    SEED.store(seed.map_or_else(chance, |seed| seed.wrapping_add(1).wrapping_mul(STEP)), Relaxed);
    MEAN.store(mean, Relaxed);
    gate::set(gate::EXACT, mean == 0);
    if mean != 0 {
        gate::set(gate::UNPROVED | gate::NO_NATIVE, false);
    }
}

/// Whether blocks are drawn.
#[inline(always)]
pub fn is_on() -> bool {
    MEAN.load(Relaxed) != 0
}

/// Decides about a block of `size` bytes.
#[inline(always)]
pub fn draw(guard: &Guard, size: usize) -> Draw {
    let mean = MEAN.load(Relaxed);
    if mean == 0 {
        return Draw::All;
    }
    let left = guard.thread.until_sample.get() - size as i64;
    guard.thread.until_sample.set(left);
    if left >= 0 {
        return Draw::Passed;
    }
    drawn(guard.thread, size, mean)
}

#[cold]
fn drawn(thread: &Thread, size: usize, mean: u64) -> Draw {
    if thread.random.get() == 0 {
        // The first allocation of a thread: nothing was drawn for it yet.
        thread.random.set(mix(SEED.fetch_add(STEP, Relaxed)));
        thread.until_sample.set(gap(thread, mean) - size as i64);
        if thread.until_sample.get() >= 0 {
            return Draw::Passed;
        }
    }
    // The process has no memory: what is left of a gap after the block does not matter.
    thread.until_sample.set(gap(thread, mean));
    weight(size, mean).map_or(Draw::Passed, Draw::Taken)
}

/// The finalizer of splitmix64: seeds that differ in one bit lead to unlike states. Never 0,
/// of which xorshift makes nothing else.
fn mix(seed: u64) -> u64 {
    let mut x = seed;
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (x ^ (x >> 31)).max(1)
}

/// Bytes to the next sample, exponentially distributed.
fn gap(thread: &Thread, mean: u64) -> i64 {
    // xorshift64*: 53 good bits are enough for a draw.
    let mut x = thread.random.get();
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    thread.random.set(x);
    let bits = x.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11;
    let uniform = (bits as f64 + 1.0) / (1u64 << 53) as f64;
    (-uniform.ln() * mean as f64) as i64
}

/// What a recorded block of `size` bytes stands for; `None` in exact mode.
#[inline(always)]
pub fn weight_of(size: usize) -> Option<Weight> {
    let mean = MEAN.load(Relaxed);
    if mean == 0 { None } else { weight(size, mean) }
}

#[cold]
fn weight(size: usize, mean: u64) -> Option<Weight> {
    let chance = -(-(size as f64) / mean as f64).exp_m1();
    if chance <= 0.0 {
        return None;
    }
    let blocks = (1.0 / chance).round();
    Some(Weight { blocks: blocks as u64, bytes: (size as f64 / chance).round() as u64 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_unbiased() {
        let mean = 512 << 10;
        for size in [16usize, 1000, 100_000, 10 << 20] {
            let chance = 1.0 - (-(size as f64) / mean as f64).exp();
            let weight = weight(size, mean).unwrap();
            let expected = weight.bytes as f64 * chance;
            assert!((expected / size as f64 - 1.0).abs() < 1e-3, "{size}");
        }
        assert_eq!(weight(0, mean), None);
    }
}
