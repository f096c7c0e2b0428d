//! What is noise: measured on the old runs where there are several, else a tolerance.
//!
//! With two old runs or more, the figures of a site vary from run to run by
//! their standard deviation. A difference of the means is noise up to Student's
//! t (two-sided, 99 %) times the standard error that follows from it. Two runs
//! say little about the spread: t would be 63.7 and hide whatever is noisy at
//! all, so that then 95 % have to do (12.7). Five runs say much more (4.6).
//!
//! With one old run nothing is measured, and 3 % of a figure (a quarter of a
//! speed) pass for noise, and at least 4 KiB, 64 blocks, 1 KiB/s. So they do with
//! two, which may agree by chance; of N old runs that agree, 2/N of this is left.

use super::result::{Change, Metric, Unit, Verdict};

/// One figure as each run has it.
pub struct Figure<'a> {
    /// Of what.
    pub metric: Metric,
    /// The old runs; `None` where a run cannot tell.
    pub old: &'a [Option<f64>],
    /// The new runs.
    pub new: &'a [Option<f64>],
    /// Sums, over the old and over the new runs, of the variance that a run itself tells of its figure: of
    /// a sampled estimate, of a slope.
    pub variances: (f64, f64),
    /// What the figure is known within at best.
    pub resolution: f64,
}

impl Figure<'_> {
    /// Compares it.
    pub fn change(&self) -> Change {
        let known = |runs: &[Option<f64>]| -> Vec<f64> { runs.iter().flatten().copied().collect() };
        let (old, new) = (known(self.old), known(self.new));
        let (old_mean, new_mean) = (mean(&old), mean(&new));
        let mut change = Change {
            metric: self.metric,
            old: old_mean,
            new: new_mean,
            tolerance: 0.0,
            verdict: Verdict::Quiet,
        };
        let (Some(was), Some(is)) = (old_mean, new_mean) else { return change };
        let shares = 1.0 / old.len() as f64 + 1.0 / new.len() as f64;
        let measured = spread(&old, &new)
            .map_or(0.0, |(variance, freedom)| student(freedom) * (variance * shares).sqrt());
        // A mean of n runs has 1/n² of the sum of their variances; the difference of two, both. The sides
        // are kept apart: one may be sampled otherwise, or have a site that the other one has not.
        let of_mean = |sum: f64, runs: &[f64]| sum / (runs.len() as f64).powi(2);
        let variance = of_mean(self.variances.0, &old) + of_mean(self.variances.1, &new);
        let told = CERTAIN * variance.sqrt();
        let allowed = allowance(self.metric, was, old.len());
        change.tolerance = allowed.max(measured).max(told).max(self.resolution);
        change.verdict = match is - was {
            more if more > change.tolerance => Verdict::More,
            less if -less > change.tolerance => Verdict::Less,
            _ => Verdict::Quiet,
        };
        change
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The variance within both sides together, and its degrees of freedom.
fn spread(old: &[f64], new: &[f64]) -> Option<(f64, usize)> {
    let squares = |values: &[f64]| {
        let mean = mean(values).unwrap_or(0.0);
        values.iter().map(|value| (value - mean).powi(2)).sum::<f64>()
    };
    let freedom = old.len().saturating_sub(1) + new.len().saturating_sub(1);
    (freedom > 0).then(|| ((squares(old) + squares(new)) / freedom as f64, freedom))
}

/// Student's t by degrees of freedom: 99 % of a normal variable lie within so many estimated standard
/// deviations; for one degree, 95 %.
fn student(freedom: usize) -> f64 {
    const TABLE: [f64; 20] = [
        12.706, 9.925, 5.841, 4.604, 4.032, 3.707, 3.499, 3.355, 3.250, 3.169, 3.106, 3.055, 3.012,
        2.977, 2.947, 2.921, 2.898, 2.878, 2.861, 2.845,
    ];
    freedom.checked_sub(1).and_then(|at| TABLE.get(at)).copied().unwrap_or(2.845)
}

/// So many standard errors that a run tells of itself are noise: one in a thousand lies further off,
/// of the thousand sites that a sampled run has.
const CERTAIN: f64 = 3.3;

/// Part of the old figure that may change unnoticed where nothing measures the noise: how often an
/// interpreter allocates while it starts was seen to vary by 2.5 %.
pub const TOLERANCE: f64 = 0.03;
/// The same of a speed, which depends on that of the machine.
pub const TOLERANCE_OF_GROWTH: f64 = 0.25;

/// What may change unnoticed, whatever was measured. A few runs are alike by chance: a table that is
/// resized in one run of four shows in two old ones less often than not. (What the interpreter
/// allocates until it is up varies by 1 % with the seed of its hashes.)
fn allowance(metric: Metric, old: f64, runs: usize) -> f64 {
    let part = if metric == Metric::Growth { TOLERANCE_OF_GROWTH } else { TOLERANCE };
    let least = match metric.unit() {
        Unit::Bytes => 4096.0,
        Unit::Blocks => 64.0,
        Unit::Rate => 1024.0,
    };
    (old.abs() * part).max(least) * (2.0 / runs as f64).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(old: &[f64], new: &[f64]) -> Change {
        let some = |values: &[f64]| values.iter().copied().map(Some).collect::<Vec<_>>();
        let (old, new) = (some(old), some(new));
        let metric = Metric::Survivors;
        Figure { metric, old: &old, new: &new, variances: (0.0, 0.0), resolution: 0.0 }.change()
    }

    #[test]
    fn one_baseline_has_a_tolerance() {
        assert_eq!(change(&[1e6], &[1.029e6]).verdict, Verdict::Quiet);
        assert_eq!(change(&[1e6], &[1.031e6]).verdict, Verdict::More);
        assert_eq!(change(&[1e6], &[0.969e6]).verdict, Verdict::Less);
        assert_eq!(change(&[0.0], &[4096.0]).verdict, Verdict::Quiet);
        assert_eq!(change(&[0.0], &[4097.0]).verdict, Verdict::More);
    }

    #[test]
    fn several_baselines_measure_the_noise() {
        let noisy = [100_000.0, 140_000.0, 120_000.0];
        assert_eq!(change(&noisy, &[180_000.0]).verdict, Verdict::Quiet);
        assert_eq!(change(&noisy, &[400_000.0]).verdict, Verdict::More);
        // What they agree on may still change a little: the less, the more they are.
        let steady = [1e6; 4];
        assert_eq!(change(&steady, &[1.015e6]).verdict, Verdict::Quiet);
        assert_eq!(change(&steady, &[1.0151e6]).verdict, Verdict::More);
        assert_eq!(change(&steady[..2], &[1.03e6]).verdict, Verdict::Quiet);
        assert_eq!(change(&steady[..2], &[1.0301e6]).verdict, Verdict::More);
    }

    #[test]
    fn a_site_that_only_some_runs_have_is_noise_as_well() {
        assert_eq!(change(&[0.0, 50_000.0], &[60_000.0]).verdict, Verdict::Quiet);
        assert_eq!(change(&[0.0, 0.0], &[60_000.0]).verdict, Verdict::More);
    }

    #[test]
    fn nothing_to_compare_is_quiet() {
        assert_eq!(change(&[], &[5.0]).verdict, Verdict::Quiet);
        assert_eq!((change(&[], &[5.0]).old, change(&[], &[5.0]).new), (None, Some(5.0)));
    }

    #[test]
    fn what_a_run_says_of_its_own_error_counts() {
        let figure = |variance| Figure {
            metric: Metric::Growth,
            old: &[Some(0.0)],
            new: &[Some(50_000.0)],
            variances: (variance, variance),
            resolution: 0.0,
        };
        assert_eq!(figure(1e6).change().verdict, Verdict::More);
        assert_eq!(figure(1e9).change().verdict, Verdict::Quiet);
    }

    /// Runs that do not know a site are sure of that; those that do are not.
    #[test]
    fn each_side_has_its_own_error() {
        let (old, new) = ([Some(0.0); 10], [Some(1e6)]);
        let tolerance = |variances| {
            let metric = Metric::Survivors;
            let figure = Figure { metric, old: &old, new: &new, variances, resolution: 0.0 };
            figure.change().tolerance
        };
        assert_eq!(tolerance((0.0, 1e12)), CERTAIN * 1e6);
        assert_eq!(tolerance((1e12, 0.0)), CERTAIN * 1e5);
        assert_eq!(tolerance((9e10, 4e12)), CERTAIN * (9e8f64 + 4e12).sqrt());
    }

    /// Figures drawn around one mean are seldom called different, and a large step always is.
    #[test]
    fn false_alarms_are_rare() {
        let mut seed = 3u64;
        let mut draw = move || {
            let mut sum = 0.0;
            for _ in 0..12 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                sum += (seed >> 11) as f64 / (1u64 << 53) as f64;
            }
            1e6 + 1e5 * (sum - 6.0)
        };
        for (baselines, expected) in [(2, 0.05), (3, 0.01), (5, 0.01), (10, 0.01)] {
            let rounds = 4_000;
            let mut alarms = 0;
            for _ in 0..rounds {
                let old: Vec<f64> = (0..baselines).map(|_| draw()).collect();
                alarms += u32::from(change(&old, &[draw()]).verdict != Verdict::Quiet);
            }
            let part = f64::from(alarms) / f64::from(rounds);
            assert!((part - expected).abs() < expected * 0.6, "{baselines} baselines: {part}");
        }
        let old: Vec<f64> = (0..5).map(|_| draw()).collect();
        assert_eq!(change(&old, &[2e6]).verdict, Verdict::More);
    }
}
