//! Two runs side by side, and gates that a run must pass. Never prints.

mod align;
mod gates;
mod leaks;
mod lines;
pub mod noise;
mod paths;
mod peaks;
pub mod result;
mod sampling;
mod sites;

use std::collections::{BTreeSet, HashMap};

use crate::read::{Loaded, Run};
use crate::symbolize::Symbols;

use super::completeness::{INEXACT, completeness};
use super::growth;
use super::process::process;
use super::report::Completeness;

pub use gates::check;
use noise::Figure;
use result::{Change, Comparison, Metric, Noise, Presence, Side, SiteChange, Verdict};
use sites::{Sample, Sites};

/// Compares runs; sites at which nothing changed beyond noise are only counted.
pub fn compare(old: &[Run], new: &[Run], symbols: &mut Symbols) -> Comparison {
    let runs: Vec<&Run> = old.iter().chain(new).collect();
    let mut sites = Sites::new(&runs, symbols);
    reconcile(&mut sites, old.len());
    let measured = Measured::new(&sites, old.len());
    let changed = measured.ranked(Metric::Survivors, |changes| {
        changes.iter().any(|change| change.verdict != Verdict::Quiet)
    });
    let totals = measured.totals.clone();
    let quiet = sites.list.len() - changed.len();
    let list = changed.into_iter().map(|site| {
        let changes = measured.sites.get(site).cloned().unwrap_or_default();
        // The stack that is shown is the one behind what makes the site worth showing.
        let telling = changes.iter().find(|change| change.verdict != Verdict::Quiet);
        let metric = telling.map_or(Metric::Survivors, |change| change.metric);
        let place = sites.place(site, old.len(), metric, symbols);
        SiteChange { place, presence: presence(&sites, site, old.len()), changes }
    });
    let list = list.collect();
    Comparison {
        old: side(old),
        new: side(new),
        noise: noise_of(old, new),
        totals,
        sites: list,
        quiet,
        notes: notes(old, new, symbols),
    }
}

/// A site that is gone and one that is new, in the same functions and with the same figures, are one
/// whose line was not recognized.
fn reconcile(sites: &mut Sites, old: usize) {
    let mut gone: HashMap<sites::Around, Vec<usize>> = HashMap::new();
    for (index, site) in sites.list.iter().enumerate() {
        if let (Some(around), Presence::Gone) = (&site.around, presence(sites, index, old)) {
            gone.entry(around.clone()).or_default().push(index);
        }
    }
    let mut merged = Vec::new();
    for index in 0..sites.list.len() {
        let Some(site) = sites.list.get(index) else { continue };
        let candidates = site.around.as_ref().and_then(|around| gone.get_mut(around));
        let Some(candidates) = candidates.filter(|_| presence(sites, index, old) == Presence::New)
        else {
            continue;
        };
        let figures = Figures { sites, old };
        let same = |&other: &usize| {
            let Some(other) = figures.sites.list.get(other) else { return false };
            let (before, after) = (other.samples.get(..old), site.samples.get(old..));
            let both: Vec<Sample> = before.into_iter().chain(after).flatten().copied().collect();
            let metrics = metrics(site.mapping).iter();
            let quiet = |metric| figures.change(metric, &both, false).verdict == Verdict::Quiet;
            metrics.copied().all(quiet)
        };
        if let Some(at) = candidates.iter().position(same) {
            merged.push((candidates.remove(at), index));
        }
    }
    for &(site, other) in &merged {
        sites.merge(site, other);
    }
    let taken: BTreeSet<usize> = merged.into_iter().map(|it| it.1).collect();
    let mut index = 0..;
    sites.list.retain(|_| index.next().is_none_or(|index| !taken.contains(&index)));
}

/// The figures of a site.
fn metrics(mapping: bool) -> &'static [Metric] {
    if mapping { &[Metric::Mapped] } else { &Metric::HEAP }
}

fn noise_of(old: &[Run], new: &[Run]) -> Noise {
    Noise { old: old.len(), new: new.len(), measured: old.len() > 1 }
}

fn side(runs: &[Run]) -> Side {
    let processes = |run: &Run| run.dumps.iter().map(process).collect();
    Side { runs: runs.iter().map(processes).collect() }
}

fn presence(sites: &Sites, site: usize, old: usize) -> Presence {
    let samples = sites.list.get(site).map_or(&[][..], |site| &site.samples);
    let (before, after) = samples.split_at(old.min(samples.len()));
    let here = |samples: &[Sample]| samples.iter().any(|it| it.allocated.blocks > 0);
    match (here(before), here(after)) {
        (false, true) => Presence::New,
        (true, false) => Presence::Gone,
        _ => Presence::Both,
    }
}

/// All figures with what changed.
struct Measured {
    /// Of each site.
    sites: Vec<Vec<Change>>,
    /// Of all together.
    totals: Vec<Change>,
}

impl Measured {
    /// Of these sites, whose first `old` runs are the old ones.
    fn new(sites: &Sites, old: usize) -> Measured {
        let figures = Figures { sites, old };
        let of_site = |site: &sites::Site| -> Vec<Change> {
            metrics(site.mapping)
                .iter()
                .map(|&metric| figures.change(metric, &site.samples, false))
                .collect()
        };
        let mut totals: Vec<Change> = Metric::HEAP
            .iter()
            .map(|&metric| figures.change(metric, &sites.totals, true))
            .collect();
        totals.push(figures.change(Metric::Mapped, &sites.mapped, true));
        Measured { sites: sites.list.iter().map(of_site).collect(), totals }
    }

    fn total(&self, metric: Metric) -> Option<&Change> {
        self.totals.iter().find(|change| change.metric == metric)
    }

    /// Sites that are wanted: those that changed in `metric` first, by how much; then by what else
    /// changed.
    fn ranked(&self, metric: Metric, wanted: impl Fn(&[Change]) -> bool) -> Vec<usize> {
        let mut ranked: Vec<usize> = (0..self.sites.len())
            .filter(|&site| self.sites.get(site).is_some_and(|changes| wanted(changes)))
            .collect();
        let weight = |&site: &usize| {
            let changes = self.sites.get(site).map_or(&[][..], Vec::as_slice);
            let size = |metric| {
                let change = changes.iter().find(|change| change.metric == metric);
                let change = change.filter(|it| it.verdict != Verdict::Quiet);
                change.map_or(0, |change| change.difference().abs() as u64)
            };
            // Address space is worth less than memory that is used.
            let first = size(metric).max(size(Metric::Mapped) / 16);
            std::cmp::Reverse((first, size(Metric::Peak), size(Metric::Allocated)))
        };
        ranked.sort_by_key(weight);
        ranked
    }
}

/// From samples to figures.
struct Figures<'a> {
    sites: &'a Sites<'a>,
    old: usize,
}

impl Figures<'_> {
    fn change(&self, metric: Metric, samples: &[Sample], total: bool) -> Change {
        let values: Vec<Option<f64>> =
            samples.iter().enumerate().map(|(run, it)| self.value(metric, run, it)).collect();
        let (old, new) = values.split_at(self.old.min(values.len()));
        let variances: Vec<f64> = samples.iter().map(|sample| variance(metric, sample)).collect();
        let (before, after) = variances.split_at(self.old.min(variances.len()));
        let variances = (before.iter().sum(), after.iter().sum());
        let resolution = self.resolution(metric, total);
        let mut change = Figure { metric, old, new, variances, resolution }.change();
        if metric == Metric::Growth && !total && !self.matters(samples, change.verdict) {
            change.verdict = Verdict::Quiet;
        }
        change
    }

    fn value(&self, metric: Metric, run: usize, sample: &Sample) -> Option<f64> {
        let separated = self.sites.separated.get(run) == Some(&true);
        match metric {
            Metric::Survivors | Metric::Mapped => Some(sample.survived.bytes as f64),
            Metric::SurvivingBlocks => Some(sample.survived.blocks as f64),
            Metric::Allocated => Some(sample.allocated.bytes as f64),
            Metric::AllocatedBlocks => Some(sample.allocated.blocks as f64),
            Metric::Peak => Some(sample.peak as f64),
            Metric::Growth => separated.then_some(sample.trend.slope),
        }
    }

    /// The whole's peak is seen within 1/256. What each site had then is noted within 1 % of it, or
    /// within 4 % where noting it more often would take too much of the time.
    fn resolution(&self, metric: Metric, total: bool) -> f64 {
        if metric != Metric::Peak {
            return 0.0;
        }
        let highest = self.sites.totals.iter().map(|sum| sum.peak).max().unwrap_or(0) as f64;
        if total { highest / 256.0 } else { highest / 25.0 }
    }

    /// Whether the growth on the side where it is larger is more than a cache that fills.
    fn matters(&self, samples: &[Sample], verdict: Verdict) -> bool {
        let runs = match verdict {
            Verdict::More => self.old..samples.len(),
            _ => 0..self.old,
        };
        let whole = self.sites.totals.get(runs.clone()).unwrap_or_default();
        let samples = samples.get(runs).unwrap_or_default();
        samples.iter().zip(whole).any(|(sample, whole)| {
            growth::matters(&sample.trend, sample.survived.bytes, whole.survived.bytes)
        })
    }
}

/// What a run itself says of the error of its figure.
fn variance(metric: Metric, sample: &Sample) -> f64 {
    match metric {
        Metric::Survivors | Metric::Mapped => sample.errors.survived.bytes,
        Metric::SurvivingBlocks => sample.errors.survived.blocks,
        Metric::Allocated => sample.errors.allocated.bytes,
        Metric::AllocatedBlocks => sample.errors.allocated.blocks,
        Metric::Peak => sample.errors.peak,
        Metric::Growth => sample.trend.variance,
    }
}

/// What a reader must know to read the figures right.
fn notes(old: &[Run], new: &[Run], symbols: &Symbols) -> Vec<String> {
    let dumps = |runs: &'_ [Run]| runs.iter().flat_map(|run| &run.dumps).map(process).collect();
    let (before, after): (Vec<_>, Vec<_>) = (dumps(old), dumps(new));
    let mut notes = Vec::new();
    let mut differ = |what: &str, of: &dyn Fn(&super::report::Process) -> String| {
        let all = |processes: &[super::report::Process]| -> BTreeSet<String> {
            processes.iter().map(of).collect()
        };
        let (before, after) = (all(&before), all(&after));
        if !old.is_empty() && before != after {
            let list = |set: BTreeSet<String>| set.into_iter().collect::<Vec<_>>().join(", ");
            notes.push(format!("{what} differs: {} against {}", list(before), list(after)));
        }
    };
    differ("the program", &|process| process.program.clone());
    differ("the interpreter", &|process| match &process.python {
        Some(python) => format!("CPython {python}"),
        None => "none".into(),
    });
    differ("sampling", &|process| match process.sampled {
        Some(mean) => format!("one sample in {mean} bytes"),
        None => "exact".into(),
    });
    let loaded = |runs: &'_ [Run]| -> BTreeSet<String> {
        let settings = |loaded: &Loaded| loaded.dump.process.settings.clone();
        let all = runs.iter().flat_map(|run| &run.dumps).flat_map(settings);
        all.filter(|it| it.starts_with("native=") || it.starts_with("python=")).collect()
    };
    let (was, is) = (loaded(old), loaded(new));
    if !old.is_empty() && was != is {
        let list = |set: BTreeSet<String>| set.into_iter().collect::<Vec<_>>().join(" ");
        notes.push(format!("settings of the shim differ: {} against {}", list(was), list(is)));
    }
    let known = [old, new].map(known);
    for ((runs, name), known) in [(old, "old"), (new, "new")].into_iter().zip(&known) {
        if !known.lost.iter().all(|it| it.0 == "foreign") {
            let lost = known.lost.iter().map(|(what, count)| format!("{what} {count}"));
            let lost = lost.collect::<Vec<_>>().join(", ");
            notes.push(format!("the {name} side is not complete; not recorded: {lost}"));
        }
        let dumps = || runs.iter().flat_map(|run| &run.dumps);
        if dumps().any(|it| it.dump.inexact) {
            notes.push(format!("the {name} side: {INEXACT}"));
        }
        if dumps().any(|it| it.state == crate::read::State::Running) {
            notes.push(format!(
                "a process of the {name} side still runs: its figures are as of now"
            ));
        }
    }
    let [before, after] = &known;
    notes.extend(said(old, &before.notes, &after.notes));
    notes.extend(symbols.notes().map(str::to_owned));
    notes
}

/// What is known of all dumps of a side.
fn known(runs: &[Run]) -> Completeness {
    let dumps = runs.iter().flat_map(|run| &run.dumps);
    let others = dumps.clone().flat_map(|loaded| loaded.notes.iter().cloned());
    completeness(dumps.map(|loaded| &loaded.dump), others)
}

/// What the dumps of the sides say of themselves; once where both say the same.
fn said(old: &[Run], before: &[String], after: &[String]) -> Vec<String> {
    let gone = before.iter().filter(|note| !after.contains(note));
    let gone = gone.map(|note| format!("the old side: {note}"));
    let now = after.iter().map(|note| match old.is_empty() || before.contains(note) {
        true => note.clone(),
        false => format!("the new side: {note}"),
    });
    gone.chain(now).collect()
}
