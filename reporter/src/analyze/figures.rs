//! Sums over stacks: how much, how long, how fast.

use std::cmp::{Ordering, Reverse};

use pyshim_dump::Amount;
use pyshim_dump::blob::{Census, SiteCensus};

use crate::read::Loaded;

use super::Options;
use super::estimates::Estimate;
use super::growth::{self, NONE, Times, Trend};
use super::percentiles::Buckets;
use super::process;
use super::report::{Figures, Moment, Source, Total, Window};
use super::stacks::{Stacks, add, at_moment, last};

/// What sums are taken from.
pub struct Ledger<'a> {
    dumps: &'a [Loaded],
    moment: Moment,
    times: Vec<Times>,
    censuses: Vec<Index<'a>>,
    /// Sums over everything.
    pub total: Total,
    /// How growth was told from start-up.
    pub window: Window,
    finalized: bool,
    sizes: Buckets,
    ages: Buckets,
}

/// A census with the place of each site in it.
struct Index<'a> {
    census: Option<&'a Census>,
    places: Vec<u32>,
}

impl<'a> Index<'a> {
    fn new(census: Option<&'a Census>, sites: usize) -> Index<'a> {
        let mut places = vec![NONE; sites];
        for (place, site) in census.map_or(&[][..], |census| &census.sites).iter().enumerate() {
            if let Some(slot) = places.get_mut(site.site as usize) {
                *slot = place as u32;
            }
        }
        Index { census, places }
    }

    fn get(&self, site: u32) -> Option<&'a SiteCensus> {
        let place = *self.places.get(site as usize)?;
        self.census?.sites.get(place as usize)
    }
}

impl<'a> Ledger<'a> {
    /// Of the dumps that `stacks` were taken from.
    pub fn new(dumps: &'a [Loaded], stacks: &Stacks, options: &Options) -> Ledger<'a> {
        let moment = options.moment;
        let times = Times::since_mark(dumps.iter().map(|loaded| &loaded.dump), options.since);
        let censuses = dumps.iter().map(|Loaded { dump, .. }| {
            let census = match dump.final_ns {
                Some(_) => dump.final_census.as_ref().or(dump.census.as_ref()),
                None => dump.census.as_ref(),
            };
            let census = census.filter(|_| moment == Moment::Last);
            Index::new(census, dump.sites.len())
        });
        let mut window = Window::default();
        for one in times.iter().map(Times::window) {
            window.separated |= one.separated;
            window.startup_s = window.startup_s.max(one.startup_s);
        }
        window.separated &= moment == Moment::Last;
        let mut ledger = Ledger {
            dumps,
            moment,
            times,
            censuses: censuses.collect(),
            total: Total::default(),
            window,
            finalized: dumps.iter().any(|loaded| loaded.dump.final_ns.is_some()),
            sizes: Buckets::default(),
            ages: Buckets::default(),
        };
        ledger.total = ledger.sum(stacks);
        ledger
    }

    fn sum(&self, stacks: &Stacks) -> Total {
        let mut total = Total { stacks: stacks.list.len(), ..Total::default() };
        let mut outlives = Amount::default();
        for stack in &stacks.list {
            if stack.source.is_mapping() {
                add(&mut total.mapped, stack.live);
            } else {
                add(&mut total.heap, stack.live);
                add(&mut outlives, stack.outlives);
            }
        }
        total.outlives = self.tells_outlives().then_some(outlives);
        if self.window.separated {
            let entity = |stack: &super::stacks::RawStack| match stack.source.is_mapping() {
                true => NONE,
                false => 0,
            };
            let entity_of: Vec<u32> = stacks.list.iter().map(entity).collect();
            total.growth = self.trends(stacks, &entity_of, 1).first().map(Trend::rate);
        }
        total
    }

    fn tells_outlives(&self) -> bool {
        self.finalized && self.moment == Moment::Last
    }

    /// The trends of `entities` sets of stacks; `entity_of` says to which a stack belongs.
    pub fn trends(&self, stacks: &Stacks, entity_of: &[u32], entities: usize) -> Vec<Trend> {
        let mut sums = vec![Trend::default(); entities];
        if !self.window.separated {
            return sums;
        }
        for (index, (Loaded { dump, .. }, times)) in self.dumps.iter().zip(&self.times).enumerate()
        {
            let of_stack = |stack: &u32| entity_of.get(*stack as usize).copied().unwrap_or(NONE);
            let entity_of: Vec<u32> =
                stacks.stack_of.get(index).into_iter().flatten().map(of_stack).collect();
            if times.separated {
                let bytes = |site| last(dump, site).bytes;
                let trends = growth::trends(dump, times, &entity_of, entities, bytes);
                sums.iter_mut().zip(&trends).for_each(|(sum, trend)| sum.add(trend));
                continue;
            }
            // A process that was all start-up grew nothing since.
            for (site, &entity) in entity_of.iter().enumerate() {
                if let Some(sum) = sums.get_mut(entity as usize) {
                    let bytes = last(dump, site).bytes;
                    sum.startup_bytes = sum.startup_bytes.saturating_add(bytes);
                }
            }
        }
        sums
    }

    /// Sums over the stacks `members`, which grew by `trend`. Without [`Ledger::distributions`].
    pub fn figures(&self, stacks: &Stacks, members: &[u32], trend: &Trend) -> Figures {
        let mut figures = Figures::default();
        let mut outlives = Amount::default();
        let mut by_source = [0u64; 6];
        for stack in members.iter().filter_map(|&member| stacks.list.get(member as usize)) {
            add(&mut figures.live, stack.live);
            add(&mut figures.peak, stack.peak);
            add(&mut outlives, stack.outlives);
            if let Some(sum) = by_source.get_mut(stack.source as usize) {
                *sum = sum.saturating_add(stack.live.bytes).saturating_add(1);
            }
        }
        figures.origin = SOURCES
            .into_iter()
            .max_by_key(|&source| (by_source.get(source as usize).copied(), Reverse(source)))
            .unwrap_or_default();
        let total = self.total.heap.bytes;
        if !figures.origin.is_mapping() && total > 0 {
            figures.share = Some(figures.live.bytes as f64 / total as f64);
        }
        figures.outlives = self.tells_outlives().then_some(outlives);
        if self.window.separated {
            let grown = i128::from(figures.live.bytes) - i128::from(trend.startup_bytes);
            let grown = grown.clamp(i64::MIN.into(), i64::MAX.into()) as i64;
            figures.startup_bytes = Some(trend.startup_bytes);
            figures.grown_bytes = Some(grown);
            figures.growth = Some(trend.rate());
            figures.growing = growth::matters(trend, figures.live.bytes, total);
        }
        figures
    }

    /// Adds the distributions of sizes and ages over the stacks `members`, and how far their bytes
    /// can be trusted.
    pub fn distributions(&mut self, figures: &mut Figures, stacks: &Stacks, members: &[u32]) {
        let mut estimate = Estimate::default();
        for stack in members.iter().filter_map(|&member| stacks.list.get(member as usize)) {
            for &(dump, site) in &stack.sites {
                let census = self.censuses.get(dump as usize).and_then(|index| index.get(site));
                if let Some(Loaded { dump, .. }) = self.dumps.get(dump as usize) {
                    let bytes = at_moment(dump, site as usize, self.moment).bytes;
                    // Mappings are never drawn: all of them are counted.
                    let mean = process::sampled(dump).filter(|_| !stack.source.is_mapping());
                    estimate.add(bytes, mean.unwrap_or(0), census);
                }
                if let Some(census) = census {
                    self.sizes.add(&census.sizes, census.largest);
                    self.ages.add(&census.ages, census.oldest_ms);
                }
            }
        }
        figures.size = self.sizes.take();
        figures.age_ms = self.ages.take();
        figures.interval = estimate.interval();
    }
}

const SOURCES: [Source; 6] = [
    Source::Python,
    Source::PythonRaw,
    Source::Native,
    Source::Mapping,
    Source::SharedMemory,
    Source::Unknown,
];

/// What grows first, by how much it grew; then the rest, by its bytes.
pub fn rank(a: &Figures, b: &Figures) -> Ordering {
    let key = |it: &Figures| {
        let grown = if it.growing { it.grown_bytes.unwrap_or(0) } else { 0 };
        Reverse((it.growing, grown, it.live.bytes, it.live.blocks))
    };
    key(a).cmp(&key(b))
}
