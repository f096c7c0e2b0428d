//! The course of live bytes over a run, point by point: does it rise, and does
//! it go on?
//!
//! Three things rise and are no leak: a cache that fills, what is cleared now
//! and then, and noise. So the rise must go on in the last half and quarter of
//! the time, it must not have been given back, it must not have come in one
//! step, and the error of its slope allows for points that depend on the ones
//! before them.

use pyshim_dump::Dump;

use super::copied::Copied;
use super::growth::{Times, Trend};

/// The part of a site that belongs to a course.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weight {
    /// The site.
    pub site: u32,
    /// Position of the course.
    pub course: usize,
    /// From 0 to 1.
    pub part: f64,
}

/// Bytes at each moment of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Course {
    /// Seconds since the start.
    pub seconds: Vec<f64>,
    /// Bytes at that time.
    pub bytes: Vec<f64>,
    /// The first point that counts; the one before it is the level at which the start-up ended.
    pub first: usize,
}

impl Course {
    /// Those of sets of sites; `last` says how many bytes of a site are live at the end.
    pub fn of_sites(
        dump: &Dump,
        times: &Times,
        weights: &[Weight],
        courses: usize,
        last: impl Fn(usize) -> u64,
    ) -> Vec<Course> {
        if courses == 0 {
            return Vec::new();
        }
        let points = dump.timeline.points.get(..times.points()).unwrap_or_default();
        let copied = Copied::of(dump, times);
        let mut seconds: Vec<f64> = points.iter().map(|point| point.at_ms as f64 / 1e3).collect();
        seconds.push(times.end_ms() as f64 / 1e3);
        let empty = Course { seconds, bytes: Vec::new(), first: times.startup_points() };
        let mut out = vec![empty; courses];
        let mut parts: Vec<&Weight> = weights.iter().collect();
        parts.sort_by_key(|weight| weight.site);
        // A damaged snapshot may name sites that are none.
        let mut now = vec![0u64; dump.sites.len()];
        let mut level = vec![0.0; courses];
        let mut set = |level: &mut Vec<f64>, site: u32, bytes: u64| {
            let Some(old) = now.get_mut(site as usize) else { return };
            if *old == bytes {
                return;
            }
            let from = parts.partition_point(|weight| weight.site < site);
            for weight in parts.iter().skip(from).take_while(|weight| weight.site == site) {
                if let Some(level) = level.get_mut(weight.course) {
                    *level += (bytes as f64 - *old as f64) * weight.part;
                }
            }
            *old = bytes;
        };
        let note = |out: &mut Vec<Course>, level: &[f64]| {
            out.iter_mut()
                .zip(level)
                .for_each(|(course, &level)| course.bytes.push(level.max(0.0)));
        };
        for point in points {
            for change in &point.changes {
                set(&mut level, change.site, copied.kept(change));
            }
            note(&mut out, &level);
        }
        for at in 0..parts.len() {
            let Some(site) = parts.get(at).map(|weight| weight.site) else { continue };
            set(&mut level, site, last(site as usize));
        }
        note(&mut out, &level);
        out
    }

    /// What was live when the start-up ended.
    pub fn startup(&self) -> f64 {
        self.first.checked_sub(1).and_then(|at| self.bytes.get(at)).copied().unwrap_or(0.0)
    }

    /// What is live at the end.
    pub fn end(&self) -> f64 {
        self.bytes.last().copied().unwrap_or(0.0)
    }

    /// Seconds and bytes of the points after the start-up.
    fn counted(&self) -> (&[f64], &[f64]) {
        let from = self.first.min(self.bytes.len());
        (self.seconds.get(from..).unwrap_or_default(), self.bytes.get(from..).unwrap_or_default())
    }

    /// Its slope, and whether that goes on.
    pub fn trend(&self) -> Trend {
        let (seconds, bytes) = self.counted();
        let startup = self.startup();
        let startup_bytes = startup as u64;
        if seconds.len() < 3 {
            return Trend { startup_bytes, ..Trend::default() };
        }
        let (slope, variance) = line(seconds, bytes, startup);
        let goes_on = self.goes_on(seconds, bytes, startup) || self.floor_goes_on(seconds, bytes);
        Trend { startup_bytes, goes_on, slope, variance }
    }

    /// Whether the floor rises all the time, and goes on: what is copied to grow may be seen twice at any
    /// part of the points.
    fn floor_goes_on(&self, seconds: &[f64], bytes: &[f64]) -> bool {
        let floor = floor_of(bytes);
        let startup = floor.first().map_or(0.0, |&first| first.min(self.startup()));
        let lowest = |quarter: usize| {
            let part = floor.get(floor.len() * quarter / 4..floor.len() * (quarter + 1) / 4);
            part.unwrap_or_default().iter().copied().fold(f64::INFINITY, f64::min)
        };
        let step = (self.end() - startup) / 12.0;
        (1..4).all(|quarter| lowest(quarter) - lowest(quarter - 1) >= step)
            && self.goes_on(seconds, &floor, startup)
    }

    fn goes_on(&self, seconds: &[f64], bytes: &[f64], startup: f64) -> bool {
        let end = self.end();
        let grown = end - startup;
        if grown <= 0.0 {
            return false;
        }
        let (begin, over) = match (self.first.checked_sub(1), seconds.last()) {
            (Some(at), Some(&over)) => (self.seconds.get(at).copied().unwrap_or(0.0), over),
            (None, Some(&over)) => (0.0, over),
            _ => return false,
        };
        // What is there twice for a moment, while it is copied, is no saw: it has no slope.
        let smooth = without_spikes(bytes);
        let rough = Saw::of(bytes, startup);
        let (saw, bytes) = match rough.is_fine() {
            true => (rough, bytes),
            false => (Saw::of(&smooth, startup), &smooth[..]),
        };
        let level_at = |part: f64| {
            let time = begin + (over - begin) * part;
            let after = seconds.partition_point(|&second| second <= time);
            let Some(at) = after.checked_sub(1) else { return startup };
            bytes.get(at).copied().unwrap_or(startup)
        };
        // Steady growth brings a half and a quarter of it there.
        let still = match saw.is_fine() {
            true => quarters_rise(bytes),
            false => end - level_at(0.5) >= grown / 8.0 && end - level_at(0.75) >= grown / 24.0,
        };
        still && !saw.was_given_back(bytes, grown) && !came_at_once(bytes, startup, grown)
    }
}

/// Without what stands out for one point alone: the median of each three in a row.
fn without_spikes(bytes: &[f64]) -> Vec<f64> {
    let mut smooth = bytes.to_vec();
    for (three, slot) in bytes.windows(3).zip(smooth.iter_mut().skip(1)) {
        if let &[a, b, c] = three {
            *slot = a.max(b).min(a.min(b).max(c));
        }
    }
    smooth
}

/// The lowest of each five in a row; the last is the end itself.
fn floor_of(bytes: &[f64]) -> Vec<f64> {
    let around = |at: usize| bytes.get(at.saturating_sub(2)..(at + 3).min(bytes.len()));
    let lowest =
        |at: usize| around(at).unwrap_or_default().iter().copied().fold(f64::INFINITY, f64::min);
    let mut floor: Vec<f64> = (0..bytes.len()).map(lowest).collect();
    if let (Some(slot), Some(&end)) = (floor.last_mut(), bytes.last()) {
        *slot = end;
    }
    floor
}

/// Whether the last quarter goes higher than the one before, and both than the second, by a good part of
/// what lies between the first and the last. The highest points count: what is copied to grow is there
/// twice at some of them, and more or less often in each quarter.
fn quarters_rise(bytes: &[f64]) -> bool {
    let mut highest = [0.0f64; 4];
    for (at, high) in highest.iter_mut().enumerate() {
        let part = bytes.get(bytes.len() * at / 4..bytes.len() * (at + 1) / 4).unwrap_or_default();
        *high = part.iter().copied().fold(0.0, f64::max);
    }
    let [first, second, third, last] = highest;
    let risen = last - first;
    risen > 0.0 && last - second >= risen / 4.0 && last - third >= risen / 12.0
}

/// How bytes fell.
struct Saw {
    /// By how much at most, below what they had reached.
    fall: f64,
    /// How high above the level after the start-up that was, or how deep it went.
    height: f64,
    /// How often by a quarter of that, from one point to the next.
    teeth: usize,
}

impl Saw {
    fn of(bytes: &[f64], startup: f64) -> Saw {
        let (mut peak, mut fall, mut height) = (startup, 0.0, 0.0);
        for &now in bytes {
            if now > peak {
                peak = now;
            } else if peak - now > fall {
                fall = peak - now;
                height = (peak - startup).max(fall);
            }
        }
        let falls = bytes.iter().zip(bytes.iter().skip(1)).map(|(before, now)| before - now);
        Saw { fall, height, teeth: falls.filter(|&one| one > fall / 4.0).count() }
    }

    /// So many teeth that each third of the course has a low point that counts.
    fn is_fine(&self) -> bool {
        self.fall > 0.0 && self.fall >= self.height / 3.0 && self.teeth >= 6
    }

    /// They once fell by half of their height or more, have not got much higher since, and their low
    /// points do not rise.
    fn was_given_back(&self, bytes: &[f64], grown: f64) -> bool {
        if self.fall < self.height / 2.0 || self.fall <= 0.0 || grown > 2.5 * self.height {
            return false;
        }
        let third = bytes.len() / 3;
        let lowest = |part: &[f64]| part.iter().copied().fold(f64::INFINITY, f64::min);
        let (early, late) = (bytes.get(..third), bytes.get(bytes.len() - third..));
        let rise = match (early, late) {
            (Some(early), Some(late)) if third > 0 => lowest(late) - lowest(early),
            _ => 0.0,
        };
        rise < if self.is_fine() { 0.25 } else { 0.75 } * self.fall
    }
}

/// One step is most of it: a table that was made larger, a file that was loaded. What is given back
/// later is no step: an array that is copied to grow is there twice meanwhile.
fn came_at_once(bytes: &[f64], startup: f64, grown: f64) -> bool {
    let mut lowest = f64::INFINITY;
    (0..bytes.len()).rev().any(|at| {
        lowest = bytes.get(at).map_or(lowest, |&now| lowest.min(now));
        let before = at.checked_sub(1).and_then(|at| bytes.get(at)).copied().unwrap_or(startup);
        lowest - before > 0.7 * grown
    })
}

/// Slope by least squares, and its variance. Points of a run depend on those before them, so that
/// there are fewer independent ones than points: the variance is that of as many as the correlation
/// of neighbours leaves.
fn line(seconds: &[f64], bytes: &[f64], base: f64) -> (f64, f64) {
    let count = seconds.len() as f64;
    let mean = seconds.iter().sum::<f64>() / count;
    let level = bytes.iter().map(|one| one - base).sum::<f64>() / count;
    let (mut spread, mut product) = (0.0, 0.0);
    for (second, one) in seconds.iter().zip(bytes) {
        spread += (second - mean).powi(2);
        product += (second - mean) * (one - base - level);
    }
    if spread <= 0.0 {
        return (0.0, 0.0);
    }
    let slope = product / spread;
    let rest: Vec<f64> = seconds
        .iter()
        .zip(bytes)
        .map(|(second, one)| one - base - level - slope * (second - mean))
        .collect();
    let squares: f64 = rest.iter().map(|it| it * it).sum();
    let neighbours: f64 = rest.iter().zip(rest.iter().skip(1)).map(|(a, b)| a * b).sum();
    let correlation = if squares > 0.0 { (neighbours / squares).clamp(0.0, 0.95) } else { 0.0 };
    let inflation = (1.0 + correlation) / (1.0 - correlation);
    (slope, squares / (count - 2.0) / spread * inflation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Maker, Numbers};

    #[test]
    fn a_course_is_made_of_parts_of_sites() {
        let mut maker = Maker::new();
        for _ in 0..4 {
            maker.nameless(Numbers::live(1, 8));
        }
        for second in 0..10u64 {
            maker.point(second * 1000, &[(0, second * 100), (3, 1_000)]);
        }
        maker.heartbeat(10_000_000_000);
        let dump = maker.dump();
        let times = Times::of(&dump);
        let weight = |site, course, part| Weight { site, course, part };
        let nowhere = weight(u32::MAX, 0, 1.0);
        let weights = [weight(0, 0, 0.25), weight(3, 0, 1.0), weight(0, 1, 0.75), nowhere];
        let last = |_| 1_000;
        let courses = Course::of_sites(&dump, &times, &weights, 2, last);
        assert_eq!(courses[0].bytes.first(), Some(&1_000.0));
        assert_eq!(courses[0].end(), 1_250.0);
        assert_eq!(courses[1].end(), 750.0);
        assert_eq!(courses[1].seconds.len(), 11);
        assert!((courses[1].trend().slope - 75.0).abs() < 1e-9);
        assert!((courses[0].trend().slope - 25.0).abs() < 1e-9);
    }

    fn goes_on(height: impl Fn(usize) -> f64) -> bool {
        let seconds: Vec<f64> = (0..80).map(|at| at as f64 / 10.0).collect();
        let bytes = (0..80).map(height).collect();
        Course { seconds, bytes, first: 0 }.trend().goes_on
    }

    #[test]
    fn what_is_copied_to_grow_goes_on() {
        // Now and then it is seen while both are there.
        assert!(goes_on(|at| at as f64 * if at % 5 == 2 { 2.0 } else { 1.0 }));
        assert!(goes_on(|at| at as f64 * if at % 2 == 1 { 2.0 } else { 1.0 }));
        assert!(goes_on(|at| at as f64 * if [20, 41, 52, 65].contains(&at) { 2.0 } else { 1.0 }));
    }

    /// The same sequence in each run, from 0 to 1.
    fn draws(mut state: u64) -> impl FnMut() -> f64 {
        move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f64 / (1u64 << 24) as f64
        }
    }

    #[test]
    fn whatever_part_of_the_points_sees_it_twice() {
        for part in [0.05, 0.1, 0.2, 0.3, 0.5] {
            let seen = (0..400).filter(|&seed| {
                let mut draw = draws(seed);
                let twice: Vec<bool> = (0..80).map(|at| draw() < part * at as f64 / 80.0).collect();
                goes_on(|at| at as f64 * if twice[at] && at < 79 { 2.0 } else { 1.0 })
            });
            assert!(seen.count() >= 397, "where {part} of the last are seen twice");
        }
    }

    #[test]
    fn noise_and_saws_of_any_pitch_do_not() {
        for seed in 0..400 {
            let mut draw = draws(seed);
            let noise: Vec<f64> = (0..80).map(|_| draw()).collect();
            assert!(
                !goes_on(|at| noise[at] * if noise[79 - at] > 0.6 { 5.0 } else { 1.0 }),
                "{seed}"
            );
            for pitch in [1.7, 2.3, 3.1, 4.7, 6.0, 10.0, 22.0] {
                let phase = noise[0] * pitch;
                let saw = |at: usize| (at as f64 + phase) % pitch + 0.3 * noise[at];
                assert!(!goes_on(saw), "seed {seed}, pitch {pitch}");
            }
        }
    }

    #[test]
    fn a_saw_or_a_step_does_not() {
        assert!(!goes_on(|at| (at % 10) as f64 * 100.0));
        assert!(!goes_on(|at| (at % 10) as f64 * 100.0 + at as f64));
        // Two teeth, of which the third third has no low point.
        assert!(!goes_on(|at| if at < 40 { at as f64 } else { at as f64 - 40.0 }));
        assert!(!goes_on(|at| if at < 60 { at as f64 / 10.0 } else { 500.0 + at as f64 }));
    }

    #[test]
    fn an_empty_course_is_no_trouble() {
        assert_eq!(Course::default().trend(), Trend::default());
    }
}
