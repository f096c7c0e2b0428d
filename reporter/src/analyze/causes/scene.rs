//! One process: what is known of it before causes are looked for.

use std::collections::HashMap;

use pyshim_dump::heap::{Heap, State};
use pyshim_dump::layout::Gauge;
use pyshim_dump::{Amount, Dump};

use crate::analyze::course::{Course, Weight};
use crate::analyze::growth::{NONE, Times, Trend, trends};
use crate::analyze::stacks::last;

use super::cause::Confidence;

/// A process, and the times of its run.
pub struct Scene<'a> {
    /// Position of its dump.
    pub at: usize,
    /// The dump.
    pub dump: &'a Dump,
    /// The snapshot in it.
    pub heap: Option<&'a Heap>,
    /// Start-up and end.
    pub times: Times,
    /// Live bytes of the heaps.
    pub live: u64,
    /// How fast these grow.
    pub growth: Trend,
    /// Bytes of each site in the snapshot, over all states.
    pub found: HashMap<u32, u64>,
    /// What is live of each site at a moment before the last one, if the scene ends there.
    until: Option<Vec<Amount>>,
}

impl<'a> Scene<'a> {
    /// Of a dump.
    pub fn new(at: usize, dump: &'a Dump, times: Times) -> Scene<'a> {
        Scene::at(at, dump, times, dump.heap.as_ref(), None)
    }

    /// The same as it stood at a point of the timeline, with so much live of each site.
    pub fn until(&self, point: usize, live: Vec<Amount>) -> Scene<'a> {
        let times = self.times.until(self.dump, point);
        let heap = self.heap.filter(|heap| heap.at_ms <= times.end_ms());
        Scene::at(self.at, self.dump, times, heap, Some(live))
    }

    fn at(
        at: usize,
        dump: &'a Dump,
        times: Times,
        heap: Option<&'a Heap>,
        until: Option<Vec<Amount>>,
    ) -> Scene<'a> {
        let mut found: HashMap<u32, u64> = HashMap::new();
        for one in heap.iter().flat_map(|heap| &heap.sites) {
            let sum = found.entry(one.site).or_default();
            *sum = sum.saturating_add(one.bytes);
        }
        let (live, growth) = (0, Trend::default());
        let mut scene = Scene { at, dump, heap, times, live, growth, found, until };
        let sites = 0..dump.sites.len() as u32;
        let heaps: Vec<u32> =
            sites.clone().map(|site| if scene.is_mapping(site) { NONE } else { 0 }).collect();
        scene.live = sites
            .filter(|&site| !scene.is_mapping(site))
            .fold(0, |sum, site| sum.saturating_add(scene.last(site).bytes));
        if scene.times.separated {
            let bytes = |site| scene.last(site as u32).bytes;
            let all = trends(dump, &scene.times, &heaps, 1, bytes);
            scene.growth = all.first().copied().unwrap_or_default();
        }
        scene
    }

    /// Whether a site's blocks are address space.
    pub fn is_mapping(&self, site: u32) -> bool {
        let stack = self.dump.sites.get(site as usize).and_then(|site| site.stack.as_ref());
        stack.is_some_and(|stack| stack.origin.is_mapping())
    }

    /// What of a site is live at the end.
    pub fn last(&self, site: u32) -> Amount {
        match &self.until {
            Some(live) => live.get(site as usize).copied().unwrap_or_default(),
            None => last(self.dump, site as usize),
        }
    }

    /// The part that `bytes` are of what the snapshot found of a site.
    pub fn part(&self, site: u32, bytes: u64) -> f64 {
        match self.found.get(&site) {
            Some(&all) if all > 0 => (bytes as f64 / all as f64).min(1.0),
            _ => 1.0,
        }
    }

    /// Courses of sets of sites.
    pub fn courses(&self, weights: &[Weight], count: usize) -> Vec<Course> {
        let bytes = |site| self.last(site as u32).bytes;
        Course::of_sites(self.dump, &self.times, weights, count, bytes)
    }

    /// Seconds over which growth was looked at.
    pub fn window_s(&self) -> f64 {
        self.times.end_ms().saturating_sub(self.times.startup_ms()) as f64 / 1e3
    }

    /// Seconds of the run.
    pub fn run_s(&self) -> f64 {
        self.times.end_ms() as f64 / 1e3
    }

    /// A reading; 0: there is none.
    pub fn gauge(&self, gauge: Gauge) -> u64 {
        self.dump.gauge(gauge)
    }

    /// What keeps the search from being a proof about a group with so many leading blocks.
    pub fn gaps(&self, leaders: u64) -> Vec<String> {
        let Some(heap) = self.heap else {
            return vec![match self.dump.heap {
                Some(_) => "the heap snapshot came after that: who held it is not known".into(),
                None => "no heap snapshot: who holds it is not known".into(),
            }];
        };
        let search = &heap.search;
        let mut gaps = Vec::new();
        if !search.at_rest {
            gaps.push("objects were being changed while it was taken".to_owned());
        }
        if !search.all_blocks_known {
            gaps.push("not every block is known to pyshim".into());
        }
        if search.unreadable > 0 {
            gaps.push(format!("{} bytes could not be read", search.unreadable));
        }
        if search.failed_objects > 0 {
            gaps.push(format!("references of {} objects not followed", search.failed_objects));
        }
        if search.blind_threads.saturating_mul(16) > leaders {
            gaps.push(format!("registers of {} threads not searched", search.blind_threads));
        }
        let age = self.times.end_ms().saturating_sub(heap.at_ms);
        if age > (self.times.end_ms() / 5).max(2_000) {
            gaps.push(format!("it was taken {} s before the end", age / 1000));
        }
        gaps
    }

    /// How far a cause with this trend is to be believed.
    pub fn confidence(&self, state: State, trend: &Trend, leaders: u64) -> Confidence {
        let rate = trend.rate();
        let clear = rate.per_second > 4.0 * rate.error;
        let long = self.points() >= 10;
        let explained = self.heap.is_some() && state != State::Unknown;
        match (explained, clear && long) {
            (true, true) if self.gaps(leaders).is_empty() => Confidence::Certain,
            (_, true) => Confidence::Likely,
            (true, false) if clear || long => Confidence::Likely,
            _ => Confidence::Possible,
        }
    }

    /// Points of the timeline after the start-up.
    fn points(&self) -> usize {
        self.times.points().saturating_sub(self.times.startup_points()) + 1
    }
}
