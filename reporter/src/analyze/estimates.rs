//! How far the bytes of a sampled run can be trusted.
//!
//! A block of `s` bytes is taken with probability `p = 1 - exp(-s / mean)` and stands for
//! `s / p` bytes. The variance of a sum of those is estimated by the sum of
//! `(1 - p) · (s / p)²` over the blocks taken; the sizes are in the census, within 1/16,
//! which is much finer than the variance is known.
//!
//! A site has few samples, often two or three, and a normal interval of so few covers far
//! less than it says. What was taken is as good as a count of Poisson's, in units of
//! variance by sum: of small blocks this is exact. Jeffreys' interval of a count covers
//! 95 % on average over all rates.

use pyshim_dump::blob::SiteCensus;
use pyshim_dump::histogram::lowest;

/// 95 % of a normal variable lie within so many standard deviations.
const NORMAL: f64 = 1.96;

/// A site that was never sampled has less than this many means, with 95 %: `exp(-3)` of
/// those that have as much are not seen.
const UNSEEN: u64 = 3;

/// Bytes that a site may have without being in a report, with 95 %.
pub fn unseen(mean: u64) -> u64 {
    mean.saturating_mul(UNSEEN)
}

/// An estimate of several sites, as it adds up.
#[derive(Clone, Copy, Debug, Default)]
pub struct Estimate {
    bytes: f64,
    variance: f64,
    /// Bytes of the blocks taken: these at least are there.
    certain: f64,
}

impl Estimate {
    /// Adds a site of a dump sampled with `mean` (0: exact) whose estimate is `bytes`.
    pub fn add(&mut self, bytes: u64, mean: u64, census: Option<&SiteCensus>) {
        let bytes = bytes as f64;
        self.bytes += bytes;
        if mean == 0 {
            self.certain += bytes;
            return;
        }
        let sums = census.map(|it| Estimate::of_blocks(&it.sizes, mean));
        match sums.filter(|sums| sums.bytes > 0.0) {
            // The census may be a little older than the counters: only what it says of a byte counts.
            Some(sums) => {
                self.variance += bytes * sums.variance / sums.bytes;
                self.certain += bytes * sums.certain / sums.bytes;
            }
            None => self.variance += bytes * mean as f64,
        }
    }

    fn of_blocks(sizes: &[(u16, u64)], mean: u64) -> Estimate {
        let mut sums = Estimate::default();
        for &(bucket, blocks) in sizes {
            let size = lowest(bucket).max(1) as f64;
            let passed = (-size / mean as f64).exp();
            let weight = size / -(-size / mean as f64).exp_m1();
            sums.bytes += blocks as f64 * weight;
            sums.variance += blocks as f64 * passed * weight * weight;
            sums.certain += blocks as f64 * size;
        }
        sums
    }

    /// The 95 % interval; nothing where all is exact.
    pub fn interval(&self) -> Option<(u64, u64)> {
        if self.variance <= 0.0 || self.bytes <= 0.0 {
            return None;
        }
        let unit = self.variance / self.bytes;
        let (low, high) = jeffreys(self.bytes / unit);
        Some(((low * unit).max(self.certain) as u64, (high * unit).max(self.bytes) as u64))
    }
}

/// Jeffreys' 95 % interval of the rate of which `count` is seen: quantiles of the gamma
/// distribution of shape `count + 1/2`, by Wilson and Hilferty's approximation.
fn jeffreys(count: f64) -> (f64, f64) {
    let shape = count + 0.5;
    let quantile = |z: f64| {
        let root = 1.0 - 1.0 / (9.0 * shape) + z / (9.0 * shape).sqrt();
        shape * root.max(0.0).powi(3)
    };
    (quantile(-NORMAL), quantile(NORMAL))
}

#[cfg(test)]
mod tests {
    use pyshim_dump::histogram::bucket;

    use super::*;

    const MEAN: u64 = 512 << 10;

    fn census(sizes: &[(u64, u64)]) -> SiteCensus {
        let sizes = sizes.iter().map(|&(size, blocks)| (bucket(size), blocks)).collect();
        SiteCensus { site: 1, largest: 0, oldest_ms: 0, sizes, ages: Vec::new() }
    }

    fn of(bytes: u64, sizes: &[(u64, u64)]) -> (u64, u64) {
        let mut estimate = Estimate::default();
        estimate.add(bytes, MEAN, Some(&census(sizes)));
        estimate.interval().unwrap()
    }

    #[test]
    fn quantiles_are_those_of_the_gamma_distribution() {
        // Half the chi-squared quantiles of 2 · count + 1 degrees of freedom, from tables.
        for (count, low, high) in [(2.0, 0.416, 6.416), (10.0, 5.141, 17.739), (50.0, 37.66, 65.34)]
        {
            let found = jeffreys(count);
            assert!((found.0 / low - 1.0).abs() < 0.05, "{count}: {found:?}");
            assert!((found.1 / high - 1.0).abs() < 0.02, "{count}: {found:?}");
        }
    }

    #[test]
    fn small_blocks_are_a_poisson_count() {
        // Four samples: four means, and 95 % for 1.35 to 9.51 of them.
        let (low, high) = of(4 * MEAN, &[(64, 4)]);
        assert!((low as f64 / MEAN as f64 - 1.35).abs() < 0.03, "{low}");
        assert!((high as f64 / MEAN as f64 - 9.51).abs() < 0.03, "{high}");
    }

    #[test]
    fn large_blocks_are_nearly_certain() {
        let size = 16 * MEAN;
        let (low, high) = of(10 * size, &[(size, 10)]);
        assert!(low >= 10 * size - 10 && high < 10 * size + MEAN, "{low} to {high}");
    }

    #[test]
    fn what_was_taken_is_there() {
        // A block of one mean is taken with 63 %.
        let weight = (MEAN as f64 / (1.0 - (-1.0f64).exp())) as u64;
        let (low, high) = of(weight, &[(MEAN, 1)]);
        assert!(low + 1 >= MEAN && high > weight, "{low} to {high}");
    }

    #[test]
    fn exact_figures_have_no_interval() {
        let mut estimate = Estimate::default();
        estimate.add(1000, 0, Some(&census(&[(100, 10)])));
        assert_eq!(estimate.interval(), None);
        estimate.add(4 * MEAN, MEAN, None);
        let (low, high) = estimate.interval().unwrap();
        assert!(low >= 1000 && high > 4 * MEAN);
    }

    #[test]
    fn intervals_cover_what_they_say() {
        // Small blocks: the exact probability that Poisson's count leads to an interval that
        // covers the truth, over truths of 2 to 64 means.
        let mut all = Vec::new();
        for tenths in 20..640 {
            let truth = f64::from(tenths) / 10.0;
            let mut chance = (-truth).exp();
            // Of a site that was not seen the report says what it can have at most.
            let mut covered = if truth <= UNSEEN as f64 { chance } else { 0.0 };
            for count in 1..200 {
                chance *= truth / f64::from(count);
                let (low, high) = jeffreys(f64::from(count));
                covered += if (low..=high).contains(&truth) { chance } else { 0.0 };
            }
            assert!((0.91..0.99).contains(&covered), "{truth}: {covered}");
            all.push(covered);
        }
        let mean = all.iter().sum::<f64>() / all.len() as f64;
        assert!((mean - 0.95).abs() < 0.01, "{mean}");
    }
}
