//! Blocks and bytes in one word, so that both are counted by one addition.
//!
//! The lower [`BYTE_BITS`] bits are the bytes, the others the blocks. Blocks that are counted there are
//! of less than [`LARGE`] bytes in the mean: so the highest bit is set, by their number, long before
//! their bytes have no room. Whoever finds it set moves what is there to where there is more room.

/// Bits for the bytes.
pub const BYTE_BITS: u32 = 41;
/// A word in which this is set is to be emptied. That leaves room for as much again.
pub const FULL: u64 = 1 << 63;
/// Blocks of so many bytes or more are counted elsewhere.
pub const LARGE: u64 = 1 << 18;

// Twice as many blocks as a word has that is just full.
const _: () = assert!((FULL >> BYTE_BITS) * 2 * LARGE <= 1 << BYTE_BITS);

/// The word for one block of less than [`LARGE`] bytes.
#[inline(always)]
pub const fn one(size: u64) -> u64 {
    1 << BYTE_BITS | size
}

/// The word for what is counted in one addition; `None`: not in a word.
#[inline(always)]
pub const fn some(blocks: u64, bytes: u64) -> Option<u64> {
    // (Few enough that several threads may add as many before one of them empties the word.)
    if blocks >= 1 << 12 || bytes > blocks * (LARGE - 1) {
        return None;
    }
    pack(blocks, bytes)
}

/// The word for any amounts; `None` if they do not fit into one.
#[inline(always)]
pub const fn pack(blocks: u64, bytes: u64) -> Option<u64> {
    if blocks >= FULL >> BYTE_BITS || bytes >= 1 << BYTE_BITS {
        return None;
    }
    Some(blocks << BYTE_BITS | bytes)
}

/// Blocks and bytes of a word.
#[inline(always)]
pub const fn unpack(word: u64) -> (u64, u64) {
    (word >> BYTE_BITS, word & ((1 << BYTE_BITS) - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_come_back() {
        for (blocks, bytes) in [(0, 0), (1, 0), (7, 100), ((1 << 22) - 1, (1 << 41) - 1)] {
            let word = pack(blocks, bytes).unwrap();
            assert_eq!((unpack(word), word & FULL), ((blocks, bytes), 0));
        }
        for (blocks, bytes) in [(1 << 22, 0), (0, 1 << 41), (u64::MAX, u64::MAX)] {
            assert_eq!(pack(blocks, bytes), None);
        }
        assert_eq!(Some(one(500)), some(1, 500));
        assert_eq!((some(1, LARGE), some(0, 1), some(1 << 12, 0)), (None, None, None));
    }

    /// As many of the largest blocks as there are in a word just before it is full, and as many again.
    #[test]
    fn bytes_never_reach_the_blocks() {
        let (blocks, largest) = ((1 << 22) - 1, LARGE - 1);
        assert_eq!(some(1, largest), Some(one(largest)));
        let all = one(largest) * blocks;
        assert_eq!((unpack(all), all & FULL), ((blocks, blocks * largest), 0));
        assert_ne!((all + one(0)) & FULL, 0);
        let twice = all.checked_add(all).unwrap();
        assert_eq!(unpack(twice), (2 * blocks, 2 * blocks * largest));
    }
}
