//! How far sampling may have the figures of a site from the truth.
//!
//! A block of `s` bytes is drawn with the probability `p = 1 - exp(-s / mean)`, and then stands for
//! `s / p` bytes. That is `s` on average; the mean of its square is `p (s / p)²`, so the variance is
//! `s² / p - s² = s² (1 - p) / p`. Each block is drawn for itself: the variances add up. `n` blocks of
//! `s` bytes, `b = n s` in all, have `b s (1 - p) / p`, and as a number of blocks, `1 / p` for each that was
//! drawn, `n (1 - p) / p`.
//!
//! For `s` a site's blocks have their mean size, `b / n` by its estimates. Of small ones `s (1 - p) / p` is
//! about `mean`, as if the samples were a count of Poisson's; of large ones it is nothing, for they are
//! always drawn. Sites differ much in that, so a sum over sites has the sum of their variances, and not
//! that of its own mean size.

use pyshim_dump::Amount;

/// Variances of an estimate; 0: it is exact.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Variance {
    /// Of the number of blocks.
    pub blocks: f64,
    /// Of their bytes.
    pub bytes: f64,
}

impl Variance {
    /// Of what a site has, where `mean` bytes lie between two samples.
    pub fn of(amount: Amount, mean: u64) -> Variance {
        if amount.blocks == 0 || amount.bytes == 0 {
            return Variance::default();
        }
        let (blocks, bytes) = (amount.blocks as f64, amount.bytes as f64);
        let size = bytes / blocks;
        // (1 - p) / p
        let odds = 1.0 / (size / mean as f64).exp_m1();
        Variance { blocks: blocks * odds, bytes: bytes * size * odds }
    }

    /// Adds that of another site, or of another process.
    pub fn add(&mut self, other: Variance) {
        self.blocks += other.blocks;
        self.bytes += other.bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEAN: u64 = 512 << 10;

    /// Many draws of blocks of one size vary by what is said.
    #[test]
    fn what_is_drawn_varies_as_it_should() {
        let mut seed = 7u64;
        let mut uniform = move || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 11) as f64 / (1u64 << 53) as f64
        };
        for (size, blocks) in [(MEAN / 16, 200), (MEAN, 20), (3 * MEAN, 20)] {
            let chance = 1.0 - (-(size as f64) / MEAN as f64).exp();
            let rounds = 4_000;
            let (mut sum, mut squares) = (0.0, 0.0);
            for _ in 0..rounds {
                let drawn = (0..blocks).filter(|_| uniform() < chance).count() as f64;
                sum += drawn / chance;
                squares += (drawn / chance - blocks as f64).powi(2);
            }
            let (mean, variance) = (sum / f64::from(rounds), squares / f64::from(rounds));
            assert!((mean / blocks as f64 - 1.0).abs() < 0.02, "{size}: {mean}");
            let said = Variance::of(Amount { blocks, bytes: blocks * size }, MEAN);
            assert!((said.blocks / variance - 1.0).abs() < 0.1, "{size}: {variance} {said:?}");
            let of_bytes = variance * (size as f64).powi(2);
            assert!((said.bytes / of_bytes - 1.0).abs() < 0.1, "{size}: {of_bytes} {said:?}");
        }
    }

    #[test]
    fn nothing_and_the_largest_are_certain() {
        assert_eq!(Variance::of(Amount::default(), MEAN), Variance::default());
        let large = Variance::of(Amount { blocks: 5, bytes: 500 * MEAN }, MEAN);
        assert!(large.bytes < 1.0, "{large:?}");
    }
}
