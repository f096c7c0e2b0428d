//! What grew after start-up, and how fast.
//!
//! Start-up is the first fifth of the run, but at least a second and at most
//! thirty. From then on a line is laid through the live bytes by least squares.
//! A rising line alone is no growth that goes on: what rises is looked at again,
//! point by point ([`super::course`]).

use std::collections::HashMap;

use pyshim_dump::Dump;

use super::copied::Copied;
use super::course::{Course, Weight};
use super::report::{Rate, Window};

/// A run shorter than this is all start-up, unless it has many points all the same. (The shim makes no last
/// snapshot of it then, if it is small: nothing asks who holds what grew.)
pub const SHORT_MS: u64 = 2_000;
/// Points after the start-up that make a line worth laying.
const FEW: usize = 8;
/// Points without which no line can be laid with an error to it.
const FEWEST: usize = 3;

/// What does not belong to any entity.
pub const NONE: u32 = u32::MAX;

/// The times of a run.
#[derive(Clone, Debug)]
pub struct Times {
    startup_ms: u64,
    end_ms: u64,
    /// Points of the timeline that belong to the run: those of the teardown do not.
    points: usize,
    /// Of these, the first after start-up.
    first: usize,
    /// Whether growth can be told from start-up.
    pub separated: bool,
}

impl Times {
    /// Those of a dump.
    pub fn of(dump: &Dump) -> Times {
        let end_ns = dump.final_ns.or(dump.end.map(|end| end.at_ns)).unwrap_or(dump.heartbeat_ns);
        let end_ms = end_ns / 1_000_000;
        let startup_ms = (end_ms / 5).clamp(1_000, 30_000);
        let points = &dump.timeline.points;
        // Damage may have put them out of order; nothing below may rely on it. A point of the last
        // millisecond may be one of the teardown already; the end is a point of its own.
        let count = points.iter().take_while(|point| point.at_ms < end_ms).count();
        let first = points.iter().take(count).take_while(|point| point.at_ms <= startup_ms).count();
        let after = count - first + usize::from(end_ms > startup_ms);
        let enough = if end_ms < SHORT_MS { FEW } else { FEWEST };
        let separated = after >= enough;
        Times { startup_ms, end_ms, points: count, first, separated }
    }

    /// Those of each dump, growth counted from the last moment of this name. A process without one counts
    /// from the same time of day, if it had begun by then.
    pub fn since_mark<'a>(
        dumps: impl Iterator<Item = &'a Dump> + Clone,
        label: Option<&str>,
    ) -> Vec<Times> {
        let own = |dump: &Dump| {
            let mark = dump.marks.iter().rev().find(|mark| Some(mark.1.as_str()) == label);
            mark.map(|mark| mark.0)
        };
        let time = |dump: &Dump| Some(dump.started_unix_ns.saturating_add(own(dump)?));
        let last = dumps.clone().filter_map(time).max();
        let times = |dump: &'a Dump| {
            let others = || last?.checked_sub(dump.started_unix_ns);
            match own(dump).or_else(others) {
                Some(at_ns) => Times::of(dump).since(dump, at_ns / 1_000_000),
                None => Times::of(dump),
            }
        };
        dumps.map(times).collect()
    }

    /// The same with growth counted from a later moment.
    fn since(mut self, dump: &Dump, since_ms: u64) -> Times {
        self.startup_ms = since_ms.min(self.end_ms);
        let points = dump.timeline.points.iter().take(self.points);
        self.first = points.take_while(|point| point.at_ms <= self.startup_ms).count();
        let after = self.points - self.first + usize::from(self.end_ms > self.startup_ms);
        self.separated = after >= FEWEST;
        self
    }

    /// The same for a run that ends at this point of the timeline already.
    pub fn until(&self, dump: &Dump, point: usize) -> Times {
        let end_ms = dump.timeline.points.get(point).map_or(self.end_ms, |point| point.at_ms);
        let points = point.min(self.points);
        let after = points.saturating_sub(self.first) + 1;
        Times { end_ms, points, separated: self.separated && after >= FEWEST, ..self.clone() }
    }

    /// Points of the timeline that belong to the run.
    pub fn points(&self) -> usize {
        self.points
    }

    /// Of these, those of the start-up.
    pub fn startup_points(&self) -> usize {
        self.first
    }

    /// When the start-up ended, in milliseconds.
    pub fn startup_ms(&self) -> u64 {
        self.startup_ms
    }

    /// When the run ended, in milliseconds.
    pub fn end_ms(&self) -> u64 {
        self.end_ms
    }

    /// For the reader.
    pub fn window(&self) -> Window {
        Window { separated: self.separated, startup_s: self.startup_ms as f64 / 1e3 }
    }
}

/// Growth of one entity in one process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Trend {
    /// Live bytes when the start-up ended.
    pub startup_bytes: u64,
    /// It rises still: it is no cache that has filled, and not cleared now and then.
    pub goes_on: bool,
    /// Bytes per second since the start-up.
    pub slope: f64,
    /// Square of the standard error of that.
    pub variance: f64,
}

impl Trend {
    /// Of both together.
    pub fn add(&mut self, other: &Trend) {
        self.startup_bytes = self.startup_bytes.saturating_add(other.startup_bytes);
        self.goes_on |= other.goes_on;
        self.slope += other.slope;
        self.variance += other.variance;
    }

    /// As a rate with its error.
    pub fn rate(&self) -> Rate {
        Rate { per_second: self.slope, error: self.variance.sqrt() }
    }

    /// It rises by more than its noise.
    pub fn rises(&self) -> bool {
        let rate = self.rate();
        rate.per_second > 0.0 && rate.per_second > 2.0 * rate.error
    }
}

/// Trends of `entities`, each a set of sites: `entity_of` says to which a site belongs, `last` how
/// many of its bytes are live at the end.
pub fn trends(
    dump: &Dump,
    times: &Times,
    entity_of: &[u32],
    entities: usize,
    last: impl Fn(usize) -> u64,
) -> Vec<Trend> {
    let mut fit = Fit::new(dump, times, entity_of, entities);
    let copied = Copied::of(dump, times);
    for (index, point) in dump.timeline.points.iter().take(times.points).enumerate() {
        if index == times.first {
            fit.begin();
        }
        for change in &point.changes {
            fit.set(change.site as usize, copied.kept(change));
        }
        fit.step(index >= times.first);
    }
    if times.points == times.first {
        fit.begin();
    }
    for site in 0..entity_of.len() {
        fit.set(site, last(site));
    }
    fit.step(true);
    let mut trends = fit.finish();
    look_again(dump, times, entity_of, &mut trends, last);
    trends
}

/// Judges what seems to rise by its whole course. The rest keeps its line, which needs no judging.
fn look_again(
    dump: &Dump,
    times: &Times,
    entity_of: &[u32],
    trends: &mut [Trend],
    last: impl Fn(usize) -> u64,
) {
    let rising = trends.iter().enumerate().filter(|(_, trend)| trend.rises());
    let places: HashMap<u32, usize> = rising.zip(0..).map(|(it, at)| (it.0 as u32, at)).collect();
    let weight = |(site, entity): (usize, &u32)| {
        let course = *places.get(entity)?;
        Some(Weight { site: site as u32, course, part: 1.0 })
    };
    let weights: Vec<Weight> = entity_of.iter().enumerate().filter_map(weight).collect();
    let courses = Course::of_sites(dump, times, &weights, places.len(), last);
    for (entity, at) in places {
        if let (Some(trend), Some(course)) = (trends.get_mut(entity as usize), courses.get(at)) {
            *trend = course.trend();
        }
    }
}

/// Least squares, fed with changes: what does not change costs nothing.
struct Fit<'a> {
    entity_of: &'a [u32],
    sites: Vec<u64>,
    lines: Vec<Line>,
    /// Sums of the centred times before each point.
    before: Vec<f64>,
    /// Sum of their squares.
    spread: f64,
    at: usize,
}

#[derive(Clone, Copy, Default)]
struct Line {
    bytes: i64,
    startup: i64,
    since: usize,
    sum: f64,
    squares: f64,
    product: f64,
}

impl<'a> Fit<'a> {
    fn new(dump: &Dump, times: &Times, entity_of: &'a [u32], entities: usize) -> Fit<'a> {
        let used = dump.timeline.points.get(times.first..times.points).unwrap_or_default();
        let mut seconds: Vec<f64> = used.iter().map(|point| point.at_ms as f64 / 1e3).collect();
        seconds.push(times.end_ms as f64 / 1e3);
        let mean = seconds.iter().sum::<f64>() / seconds.len().max(1) as f64;
        let mut before = vec![0.0];
        let (mut sum, mut spread) = (0.0, 0.0);
        for second in &seconds {
            sum += second - mean;
            spread += (second - mean).powi(2);
            before.push(sum);
        }
        let lines = vec![Line::default(); entities];
        Fit { entity_of, sites: vec![0; entity_of.len()], lines, before, spread, at: 0 }
    }

    /// The start-up is over: what is live now is the level that growth is counted from.
    fn begin(&mut self) {
        for line in &mut self.lines {
            line.startup = line.bytes;
        }
    }

    fn set(&mut self, site: usize, bytes: u64) {
        let Some(&entity) = self.entity_of.get(site) else { return };
        let (Some(old), Some(line)) =
            (self.sites.get_mut(site), self.lines.get_mut(entity as usize))
        else {
            return;
        };
        if *old == bytes {
            return;
        }
        line.settle(self.at, &self.before);
        line.bytes = line.bytes.wrapping_add(bytes.wrapping_sub(*old) as i64);
        *old = bytes;
    }

    fn step(&mut self, counts: bool) {
        self.at += usize::from(counts);
    }

    fn finish(mut self) -> Vec<Trend> {
        let points = self.at as f64;
        let (at, before, spread) = (self.at, &self.before, self.spread);
        let trend = |line: &mut Line| {
            line.settle(at, before);
            let levels = Trend { startup_bytes: line.startup.max(0) as u64, ..Trend::default() };
            if at < FEWEST || spread <= 0.0 {
                return levels;
            }
            let slope = line.product / spread;
            let around_mean = line.squares - line.sum * line.sum / points;
            let residual = (around_mean - slope * line.product).max(0.0);
            Trend { slope, variance: residual / (points - 2.0) / spread, ..levels }
        };
        self.lines.iter_mut().map(trend).collect()
    }
}

impl Line {
    /// Adds the points up to `at`, at all of which it stood where it stands.
    fn settle(&mut self, at: usize, before: &[f64]) {
        if at > self.since {
            // Counted from the start-up's level: large equal parts would eat the digits.
            let bytes = (self.bytes.wrapping_sub(self.startup)) as f64;
            let count = (at - self.since) as f64;
            self.sum += bytes * count;
            self.squares += bytes * bytes * count;
            let times = before.get(at).zip(before.get(self.since)).map_or(0.0, |(b, a)| b - a);
            self.product += bytes * times;
            self.since = at;
        }
    }
}

/// Whether a trend is more than noise, large enough to matter, and not over. `live_bytes` is what is
/// live at its end, `total_bytes` the same of the whole heap.
pub fn matters(trend: &Trend, live_bytes: u64, total_bytes: u64) -> bool {
    const ENOUGH: u64 = 64 << 10;
    let grown = live_bytes.saturating_sub(trend.startup_bytes);
    let large = grown >= ENOUGH || (grown > 0 && grown >= total_bytes / 100);
    large && trend.goes_on && trend.rises()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::run_of;

    fn trend(seconds: u64, bytes: impl Fn(f64) -> u64) -> (Times, Trend) {
        let points: Vec<(u64, u64)> =
            (0..=seconds * 10).map(|tenth| (tenth * 100, bytes(tenth as f64 / 10.0))).collect();
        let dump = run_of(seconds * 1000, &points);
        let times = Times::of(&dump);
        let end = bytes(seconds as f64);
        let trends = trends(&dump, &times, &[0], 1, |_| end);
        (times, trends[0])
    }

    #[test]
    fn a_steady_rise_is_measured() {
        let (times, trend) = trend(100, |t| 5_000 + (t * 1000.0) as u64);
        assert!(times.separated);
        assert!((trend.slope - 1000.0).abs() < 1.0, "{trend:?}");
        assert!(trend.rate().error < 1.0, "{trend:?}");
        assert_eq!(trend.startup_bytes, 25_000, "after a fifth of the run");
        assert!(matters(&trend, 105_000, 105_000));
    }

    #[test]
    fn what_came_at_start_up_does_not_grow() {
        let (_, trend) = trend(100, |t| if t < 10.0 { (t * 1e6) as u64 } else { 10_000_000 });
        assert_eq!(trend.startup_bytes, 10_000_000);
        assert_eq!(trend.slope, 0.0);
        assert!(!matters(&trend, 10_000_000, 10_000_000));
    }

    #[test]
    fn a_cache_that_has_filled_does_not_grow() {
        for full in [30.0, 40.0, 60.0, 75.0] {
            let (_, trend) = trend(100, |t| (t.min(full) * 1e6) as u64);
            assert!(trend.slope > 0.0, "its line does rise: {trend:?}");
            assert!(!matters(&trend, 40_000_000, 40_000_000), "full at {full} s: {trend:?}");
        }
    }

    #[test]
    fn noise_is_not_growth() {
        let (_, trend) = trend(100, |t| 1_000_000 + ((t * 10.0) as u64 * 7919 % 1000) * 1000);
        assert!(!matters(&trend, 1_400_000, 1_400_000), "{trend:?}");
    }

    #[test]
    fn what_grows_and_is_cleared_does_not_grow() {
        for (period, seconds) in [(3.0, 100), (17.0, 100), (35.0, 100), (1.0, 8), (2.6, 8)] {
            let saw = |t: f64| 5_000_000 + ((t % period) / period * 4e6) as u64;
            let (_, trend) = trend(seconds, saw);
            let end = saw(seconds as f64);
            assert!(!matters(&trend, end, end), "{period} of {seconds} s: {trend:?}");
        }
    }

    #[test]
    fn a_leak_below_a_saw_grows() {
        let both = |t: f64| ((t % 3.0) * 1e5) as u64 + (t * 1e5) as u64;
        for seconds in [20, 60] {
            let (_, trend) = trend(seconds, both);
            assert!(matters(&trend, both(seconds as f64), 1 << 20), "{seconds} s: {trend:?}");
        }
    }

    #[test]
    fn a_leak_in_steps_grows() {
        let (_, trend) = trend(20, |t| (t / 2.0) as u64 * 500_000);
        assert!(matters(&trend, 5_000_000, 5_000_000), "{trend:?}");
    }

    #[test]
    fn one_step_is_no_growth() {
        for at in [5.0, 10.0, 17.0] {
            let (_, trend) = trend(20, |t| if t < at { 1_000 } else { 5_000_000 });
            assert!(!matters(&trend, 5_000_000, 5_000_000), "at {at} s: {trend:?}");
        }
    }

    #[test]
    fn a_walk_without_direction_is_no_growth() {
        for mut seed in 1..=20u64 {
            let mut level = 10_000_000.0;
            let points: Vec<(u64, u64)> = (0..80)
                .map(|tenth| {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
                    // It comes back to its level, as what is bounded does.
                    level +=
                        (10_000_000.0 - level) * 0.3 + ((seed >> 40) as f64 / 1e4 - 800.0) * 1e3;
                    (tenth * 100, level as u64)
                })
                .collect();
            let dump = run_of(8_000, &points);
            let times = Times::of(&dump);
            let trend = trends(&dump, &times, &[0], 1, |_| level as u64)[0];
            assert!(!matters(&trend, level as u64, 10_000_000), "{trend:?}");
        }
    }

    #[test]
    fn a_short_run_is_all_start_up() {
        let dump = run_of(1_500, &[(100, 1), (200, 2), (1_400, 3)]);
        assert!(!Times::of(&dump).separated);
        assert!(!Times::of(&run_of(0, &[])).separated);
        let (times, _) = trend(1, |_| 1);
        assert!(!times.separated);
    }

    #[test]
    fn the_teardown_is_no_shrinking() {
        let points: Vec<(u64, u64)> =
            (0..120).map(|s| (s * 1000, if s < 100 { s } else { 0 })).collect();
        let mut dump = run_of(120_000, &points);
        dump.final_ns = Some(100_000_000_000);
        let times = Times::of(&dump);
        let trend = trends(&dump, &times, &[0], 1, |_| 100)[0];
        assert!((trend.slope - 1.0).abs() < 1e-9, "{trend:?}");
    }

    #[test]
    fn entities_add_their_sites() {
        let mut dump = run_of(10_000, &[]);
        for second in 0..10u64 {
            let change = |site, bytes| pyshim_dump::blob::Change { site, bytes, blocks: 1 };
            dump.timeline.points.push(pyshim_dump::blob::Point {
                at_ms: second * 1000,
                changes: vec![change(0, second * 10), change(1, 1000 - second * 10), change(9, 5)],
                ..Default::default()
            });
        }
        let times = Times::of(&dump);
        let last = |site: usize| [100, 900][site];
        let both = trends(&dump, &times, &[0, 0], 1, last);
        assert!(both[0].slope.abs() < 1e-9, "{both:?}");
        let apart = trends(&dump, &times, &[1, NONE], 2, last);
        assert!((apart[1].slope - 10.0).abs() < 1e-9, "{apart:?}");
        assert_eq!(apart[0].slope, 0.0);
    }
}
