//! From buckets to percentiles.

use hdrhistogram::Histogram;
use pyshim_dump::histogram::{BUCKETS, bucket, lowest};

use super::report::Percentiles;

/// Buckets of several sites, added up.
pub struct Buckets {
    counts: Vec<u64>,
    /// Buckets that are not zero.
    used: Vec<u16>,
    largest: u64,
}

impl Default for Buckets {
    fn default() -> Buckets {
        Buckets { counts: vec![0; usize::from(BUCKETS)], used: Vec::new(), largest: 0 }
    }
}

impl Buckets {
    /// Adds what one site has; `largest` is the largest of its values.
    pub fn add(&mut self, buckets: &[(u16, u64)], largest: u64) {
        for &(bucket, count) in buckets {
            let Some(sum) = self.counts.get_mut(usize::from(bucket)) else { continue };
            if *sum == 0 && count > 0 {
                self.used.push(bucket);
            }
            *sum = sum.saturating_add(count);
        }
        self.largest = self.largest.max(largest);
    }

    /// The percentiles of what was added; empties it.
    pub fn take(&mut self) -> Option<Percentiles> {
        let max = self.largest;
        // Two digits: the buckets themselves tell no more.
        let mut histogram = Histogram::<u64>::new_with_bounds(1, max.max(2), 2).ok()?;
        for bucket in self.used.drain(..) {
            let Some(count) = self.counts.get_mut(usize::from(bucket)) else { continue };
            histogram.saturating_record_n(typical(bucket, max), std::mem::take(count));
        }
        self.largest = 0;
        if histogram.is_empty() {
            return None;
        }
        // What stands for a bucket may be the largest value itself, which is known exactly.
        let at = |quantile: f64| match histogram.value_at_quantile(quantile) {
            value if histogram.equivalent(value, max) => max,
            value => histogram.lowest_equivalent(value),
        };
        Some(Percentiles { p50: at(0.5), p99: at(0.99), max })
    }
}

/// The value that stands for all of a bucket: its lowest, as sizes are mostly round; in the last
/// bucket the largest, which is known exactly.
fn typical(index: u16, max: u64) -> u64 {
    if index >= bucket(max) { max } else { lowest(index) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[u64]) -> Option<Percentiles> {
        let mut buckets = Buckets::default();
        for &value in values {
            buckets.add(&[(bucket(value), 1)], value);
        }
        let taken = buckets.take();
        assert_eq!(buckets.take(), None, "a second take finds nothing");
        taken
    }

    #[test]
    fn equal_values_are_exact() {
        for value in [0, 1, 17, 1000, 123_456_789, u64::from(u32::MAX)] {
            let expected = Percentiles { p50: value, p99: value, max: value };
            assert_eq!(of(&[value; 5]), Some(expected));
        }
    }

    #[test]
    fn percentiles_are_within_a_bucket() {
        let values: Vec<u64> = (1..=10_000).collect();
        let found = of(&values).unwrap();
        assert!(found.p50.abs_diff(5_000) <= 5_000 / 16, "{found:?}");
        assert!(found.p99.abs_diff(9_900) <= 9_900 / 16, "{found:?}");
        assert_eq!(found.max, 10_000);
    }

    #[test]
    fn odd_input_is_no_trouble() {
        assert_eq!(of(&[]), None);
        let mut buckets = Buckets::default();
        buckets.add(&[(u16::MAX, 3), (BUCKETS - 1, u64::MAX), (BUCKETS - 1, u64::MAX)], 5);
        assert_eq!(buckets.take().map(|found| found.max), Some(5));
        buckets.add(&[(3, 1)], u64::MAX);
        assert!(buckets.take().is_some());
    }
}
