//! Mixing words into a 64-bit key.

const K: u64 = 0x9e37_79b9_7f4a_7c15;

/// Folds `word` into `state`: both halves of a 128-bit product.
#[inline(always)]
pub const fn mix(state: u64, word: u64) -> u64 {
    let product = ((state ^ word) as u128).wrapping_mul(K as u128);
    // Adding a constant keeps zero from being a fixed point.
    (product as u64 ^ (product >> 64) as u64).wrapping_add(K)
}

/// Makes a number of `word` that looks like chance in its upper half: enough to find a place by.
#[inline(always)]
pub const fn scatter(word: u64) -> u64 {
    word.wrapping_mul(K)
}

/// Bytes to a key.
pub fn bytes(state: u64, bytes: &[u8]) -> u64 {
    let mut state = mix(state, bytes.len() as u64);
    let mut chunks = bytes.chunks_exact(8);
    for chunk in &mut chunks {
        if let Ok(word) = chunk.try_into() {
            state = mix(state, u64::from_le_bytes(word));
        }
    }
    let mut last = [0u8; 8];
    for (to, from) in last.iter_mut().zip(chunks.remainder()) {
        *to = *from;
    }
    mix(state, u64::from_le_bytes(last))
}
