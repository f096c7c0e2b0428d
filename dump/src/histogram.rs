//! Log-linear buckets: sixteen to a power of two, so a value is known within 1/16.
//!
//! Small enough to keep for every site; the reader hands them to a real
//! histogram for percentiles.

/// Number of buckets that cover all of `u64`.
pub const BUCKETS: u16 = 16 + 60 * 16;

/// The bucket of `value`.
pub const fn bucket(value: u64) -> u16 {
    if value < 16 {
        return value as u16;
    }
    let exponent = 63 - value.leading_zeros();
    let sub = (value >> (exponent - 4)) & 15;
    ((exponent - 3) as u16) * 16 + sub as u16
}

/// The smallest value of a bucket; `u64::MAX` for one that does not exist.
pub const fn lowest(bucket: u16) -> u64 {
    if bucket < 16 {
        return bucket as u64;
    }
    if bucket >= BUCKETS + 16 {
        return u64::MAX;
    }
    let exponent = (bucket / 16) as u32 + 3;
    if exponent > 63 {
        return u64::MAX;
    }
    (1 << exponent) | ((bucket as u64 % 16) << (exponent - 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_starts_at_its_lowest_value() {
        for index in 0..BUCKETS {
            let low = lowest(index);
            assert_eq!(bucket(low), index);
            if low > 0 {
                assert_eq!(bucket(low - 1), index - 1);
            }
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }
}
