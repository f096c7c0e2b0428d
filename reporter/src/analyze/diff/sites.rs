//! Sites of all runs together: which are the same, and what each run has at them.
//!
//! A site is a place in the program: the innermost native function of the
//! program, the innermost Python line, and, where that is a library's, the line
//! of the program's own that led there. What led to it further out does not
//! part sites, or every rename of a caller would make all below it new.

mod natives;
mod shown;

use std::collections::HashMap;

use pyshim_dump::Amount;

use crate::analyze::growth::{self, NONE, Times, Trend};
use crate::analyze::names::Names;
use crate::analyze::process::sampled;
use crate::analyze::report::{Frame, Source};
use crate::analyze::roles::Role;
use crate::analyze::stacks::{Location, LocationId, Stacks, add, last};
use crate::read::{Loaded, Run};
use crate::symbolize::Symbols;

use super::lines::{FunctionId, LineId, Lines, minor};
use super::paths;
use super::peaks::{self, Lives, Peak};
use super::sampling::Variance;
use natives::Natives;
pub use shown::place;

/// What one run has at a site.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// What survived.
    pub survived: Amount,
    /// What was allocated.
    pub allocated: Amount,
    /// Bytes that were live at the peak.
    pub peak: u64,
    /// How it grew after start-up.
    pub trend: Trend,
    /// Variances of all these but the trend, which has its own; 0: every block was counted.
    pub errors: Errors,
}

/// How far sampling may have figures from the truth.
#[derive(Clone, Copy, Debug, Default)]
pub struct Errors {
    /// Of what survived.
    pub survived: Variance,
    /// Of what was allocated.
    pub allocated: Variance,
    /// Of the bytes at the peak.
    pub peak: f64,
}

impl Sample {
    fn add(&mut self, other: &Sample) {
        add(&mut self.survived, other.survived);
        add(&mut self.allocated, other.allocated);
        self.peak = self.peak.saturating_add(other.peak);
        self.trend.add(&other.trend);
        self.errors.survived.add(other.errors.survived);
        self.errors.allocated.add(other.errors.allocated);
        self.errors.peak += other.errors.peak;
    }
}

/// What makes two stacks one site.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    mapping: bool,
    unknown: bool,
    native: Option<(String, Option<String>)>,
    inner: Option<LineId>,
    own: Option<LineId>,
}

/// What two sites share if only the line may be another.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Around {
    mapping: bool,
    native: Option<(String, Option<String>)>,
    inner: Option<FunctionId>,
    own: Option<FunctionId>,
}

/// A site of one or more runs.
pub struct Site {
    /// The functions that it is in; `None` if there are none.
    pub around: Option<Around>,
    /// Address space rather than blocks of a heap.
    pub mapping: bool,
    /// For each run, what it has here.
    pub samples: Vec<Sample>,
    /// The run and the stacks with blocks here.
    stacks: Vec<(usize, u32)>,
    /// What each process has here at its peak, in order of the dumps.
    peaks: Vec<Peak>,
}

/// All sites of all runs.
pub struct Sites<'a> {
    /// In order of their first.
    pub list: Vec<Site>,
    /// For each run, the sum over sites of the heaps.
    pub totals: Vec<Sample>,
    /// For each run, the sum over mappings.
    pub mapped: Vec<Sample>,
    /// For each run, whether it was long enough to tell growth from start-up.
    pub separated: Vec<bool>,
    dumps: Vec<(usize, &'a Loaded)>,
    stacks: Stacks,
    names: Names,
    lines: Lines,
    natives: Natives,
    short_comprehensions: bool,
}

/// A line that is in no code object that is known.
const NO_LINE: LineId = LineId::MAX;

/// Sets what came together of the peaks of each run's processes, which are in order of the dumps.
fn set_peaks(samples: &mut [Sample], peaks: &[Peak], dumps: &[(usize, &Loaded)], lives: &Lives) {
    let run = |peak: &Peak| dumps.get(peak.dump).map(|it| it.0);
    for peaks in peaks.chunk_by(|one, other| run(one) == run(other)) {
        let run = peaks.first().and_then(run);
        if let Some(sample) = run.and_then(|run| samples.get_mut(run)) {
            (sample.peak, sample.errors.peak) = lives.most(peaks);
        }
    }
}

impl<'a> Sites<'a> {
    /// The sites of these runs.
    pub fn new(runs: &[&'a Run], symbols: &mut Symbols) -> Sites<'a> {
        let dumps: Vec<(usize, &Loaded)> = runs
            .iter()
            .enumerate()
            .flat_map(|(run, it)| it.dumps.iter().map(move |loaded| (run, loaded)))
            .collect();
        let loaded = dumps.iter().map(|it| it.1);
        let inlines = |loaded: &Loaded| minor(loaded) >= 12;
        let mut sites = Sites {
            list: Vec::new(),
            totals: vec![Sample::default(); runs.len()],
            mapped: vec![Sample::default(); runs.len()],
            separated: vec![false; runs.len()],
            stacks: Stacks::default(),
            names: Names::default(),
            lines: Lines::new(loaded.clone()),
            natives: Natives::default(),
            // From CPython 3.12 on a list comprehension has no frame of its own.
            short_comprehensions: loaded.clone().any(inlines) && !loaded.clone().all(inlines),
            dumps,
        };
        for (_, loaded) in sites.dumps.clone() {
            sites.lines.add(loaded, symbols);
            sites.stacks.add_all(&loaded.dump, symbols);
            sites.natives.add(loaded);
        }
        sites.look_at_names(symbols);
        sites.gather(runs.len(), symbols);
        sites
    }

    /// Which native files have names.
    fn look_at_names(&mut self, symbols: &mut Symbols) {
        for stack in &self.stacks.list {
            for &id in native_part(&self.stacks, &stack.locations) {
                let Some(&Location::Native { module, role: Role::Program, .. }) =
                    self.stacks.location(id)
                else {
                    continue;
                };
                let frames = self.names.of(&self.stacks, symbols, id).to_vec();
                let has_name = frames.iter().any(|&frame| {
                    matches!(self.names.frame(frame), Some(Frame::Native { function: Some(_), .. }))
                });
                self.natives.saw(module, symbols.path(module), has_name);
            }
        }
    }

    fn gather(&mut self, runs: usize, symbols: &mut Symbols) {
        let mut places: HashMap<Key, u32> = HashMap::new();
        let mut whole = Vec::new();
        for index in 0..self.dumps.len() {
            let Some(&(run, loaded)) = self.dumps.get(index) else { continue };
            let stack_of = self.stacks.stack_of.get(index).cloned().unwrap_or_default();
            let mut of_stack: HashMap<u32, u32> = HashMap::new();
            let mut site_of = vec![NONE; stack_of.len()];
            for (slot, &stack) in site_of.iter_mut().zip(&stack_of).filter(|it| *it.1 != NONE) {
                *slot = *of_stack.entry(stack).or_insert_with(|| {
                    let key = self.key(index, stack, symbols);
                    let (mapping, around) = (key.mapping, self.around(&key));
                    let next = self.list.len() as u32;
                    let site = *places.entry(key).or_insert(next);
                    if site == next {
                        let samples = vec![Sample::default(); runs];
                        let (stacks, peaks) = (Vec::new(), Vec::new());
                        self.list.push(Site { around, mapping, samples, stacks, peaks });
                    }
                    if let Some(known) = self.list.get_mut(site as usize) {
                        known.stacks.push((index, stack));
                    }
                    site
                });
            }
            let variance = self.count(index, run, loaded, &site_of);
            whole.push(Peak { dump: index, bytes: loaded.dump.peak_seen, variance });
            self.grow(run, loaded, &site_of);
        }
        let lives = Lives::of(self.dumps.iter().map(|it| it.1));
        for site in &mut self.list {
            let peaks = std::mem::take(&mut site.peaks);
            set_peaks(&mut site.samples, &peaks, &self.dumps, &lives);
        }
        for site in &self.list {
            let sums = if site.mapping { &mut self.mapped } else { &mut self.totals };
            for (sum, sample) in sums.iter_mut().zip(&site.samples) {
                // Trends of the whole are laid through the whole: errors of sites are not independent.
                sum.add(&Sample { trend: Trend::default(), ..*sample });
            }
        }
        // Of all together it is known better than by their sum.
        set_peaks(&mut self.totals, &whole, &self.dumps, &lives);
    }

    /// Adds the counters of a dump. Returns the variance of its peak.
    fn count(&mut self, index: usize, run: usize, loaded: &Loaded, site_of: &[u32]) -> f64 {
        let dump = &loaded.dump;
        let mut at_peak = 0.0;
        let sum = |bytes: &dyn Fn(usize) -> u64| {
            (0..dump.sites.len()).fold(0u64, |sum, site| sum.saturating_add(bytes(site)))
        };
        let noted = |site: usize| dump.sites.get(site).map_or(0, |site| site.peak.bytes);
        // The peak is noted when it falls; a process that only ever grew has it at its end.
        let at_the_end = sum(&noted) < sum(&|site| last(dump, site).bytes);
        for (id, &place) in site_of.iter().enumerate() {
            let (Some(site), Some(counters)) =
                (self.list.get_mut(place as usize), dump.sites.get(id))
            else {
                continue;
            };
            let survived = last(dump, id);
            let allocated = counters.totals.allocated;
            let peak = if at_the_end { survived } else { counters.peak };
            // Mappings are never drawn: all of them are counted.
            let mean = sampled(dump).filter(|_| !site.mapping);
            let variance =
                |amount| mean.map_or(Variance::default(), |mean| Variance::of(amount, mean));
            let (bytes, of_peak) = (peak.bytes, variance(peak).bytes);
            at_peak += of_peak;
            peaks::add(&mut site.peaks, Peak { dump: index, bytes, variance: of_peak });
            let (survives, came) = (variance(survived), variance(allocated));
            let errors = Errors { survived: survives, allocated: came, peak: 0.0 };
            if let Some(sum) = site.samples.get_mut(run) {
                sum.add(&Sample { survived, allocated, errors, ..Sample::default() });
            }
        }
        at_peak
    }

    /// Adds the trends of a dump.
    fn grow(&mut self, run: usize, loaded: &Loaded, site_of: &[u32]) {
        let dump = &loaded.dump;
        let times = Times::of(dump);
        if !times.separated {
            return;
        }
        if let Some(separated) = self.separated.get_mut(run) {
            *separated = true;
        }
        let bytes = |site| last(dump, site).bytes;
        let trends = growth::trends(dump, &times, site_of, self.list.len(), bytes);
        for (site, trend) in self.list.iter_mut().zip(&trends) {
            if let Some(sample) = site.samples.get_mut(run) {
                sample.trend.add(trend);
            }
        }
        for (sums, mapping) in [(&mut self.totals, false), (&mut self.mapped, true)] {
            let belongs = |&site: &u32| {
                self.list.get(site as usize).is_some_and(|site| site.mapping == mapping)
            };
            let entity: Vec<u32> =
                site_of.iter().map(|site| if belongs(site) { 0 } else { NONE }).collect();
            let whole = growth::trends(dump, &times, &entity, 1, bytes);
            if let (Some(sum), Some(trend)) = (sums.get_mut(run), whole.first()) {
                sum.trend.add(trend);
            }
        }
    }

    fn key(&mut self, dump: usize, stack: u32, symbols: &mut Symbols) -> Key {
        let none = Key { mapping: false, unknown: true, native: None, inner: None, own: None };
        let Some(raw) = self.stacks.list.get(stack as usize) else { return none };
        let (mapping, unknown) = (raw.source.is_mapping(), raw.source == Source::Unknown);
        let locations = raw.locations.clone();
        let native = self.native(&locations, symbols);
        let frames = self.python(dump, &locations);
        let id = |at: Option<usize>| {
            let Some(Location::Python(frame)) =
                at.and_then(|at| self.stacks.location(*locations.get(at)?))
            else {
                return None;
            };
            let line = frame.line.unwrap_or(0);
            Some(self.lines.id(dump, &frame.file, &frame.function, line).unwrap_or(NO_LINE))
        };
        Key { mapping, unknown, native, inner: id(frames.0), own: id(frames.1) }
    }

    fn around(&self, key: &Key) -> Option<Around> {
        let function = |line: Option<LineId>| line.and_then(|line| self.lines.function(line));
        Some(Around {
            mapping: key.mapping,
            native: key.native.clone(),
            inner: Some(function(key.inner)?),
            own: function(key.own),
        })
    }

    /// Makes `other` a part of `site`.
    pub fn merge(&mut self, site: usize, other: usize) {
        let Some(taken) = self.list.get_mut(other) else { return };
        let (samples, stacks) =
            (std::mem::take(&mut taken.samples), std::mem::take(&mut taken.stacks));
        let Some(into) = self.list.get_mut(site) else { return };
        into.samples.iter_mut().zip(&samples).for_each(|(sum, sample)| sum.add(sample));
        into.stacks.extend(stacks);
        into.stacks.sort_unstable();
    }

    /// The innermost native function of the program that a stack has above its Python frames, as it is
    /// called in every build.
    fn native(
        &mut self,
        locations: &[LocationId],
        symbols: &mut Symbols,
    ) -> Option<(String, Option<String>)> {
        let Sites { stacks, names, natives, .. } = self;
        let mut fallback = None;
        for &id in native_part(stacks, locations) {
            let Some(Location::Native { role: Role::Program, .. }) = stacks.location(id) else {
                continue;
            };
            let frames = names.of(stacks, symbols, id).to_vec();
            let own = frames.iter().find(|&&frame| names.is_program(frame));
            let frame = own.or(frames.first()).and_then(|&frame| names.frame(frame));
            let found = frame.map(|frame| natives.key(frame));
            if own.is_some() {
                return found;
            }
            // Only containers so far; they stand for the program if it never comes.
            fallback = fallback.or(found);
        }
        fallback
    }

    /// Places in the stack of the innermost Python frame, and of the innermost outside of libraries
    /// unless that is the same one.
    fn python(&self, dump: usize, locations: &[LocationId]) -> (Option<usize>, Option<usize>) {
        let directory = self.dumps.get(dump).map_or("", |it| it.1.dump.process.directory.as_str());
        let mut inner = None;
        for (at, &id) in locations.iter().enumerate() {
            let Some(Location::Python(frame)) = self.stacks.location(id) else { continue };
            let comprehension = ["<listcomp>", "<dictcomp>", "<setcomp>"]
                .iter()
                .any(|name| frame.function.ends_with(name));
            if self.short_comprehensions && comprehension {
                continue;
            }
            let own = matches!(paths::Place::of(&frame.file, directory), paths::Place::Own(_));
            match inner {
                None if own => return (Some(at), None),
                None => inner = Some(at),
                Some(_) if own => return (inner, Some(at)),
                Some(_) => {}
            }
        }
        (inner, None)
    }
}

/// The frames of a stack above its innermost Python frame.
fn native_part<'a>(stacks: &Stacks, locations: &'a [LocationId]) -> &'a [LocationId] {
    let python = |id: &LocationId| matches!(stacks.location(*id), Some(Location::Python(_)));
    let until = locations.iter().position(python).unwrap_or(locations.len());
    locations.get(..until).unwrap_or_default()
}
