//! From dumps to a report. Never prints.

pub mod causes;
mod census;
mod completeness;
mod copied;
mod course;
pub mod diff;
mod estimates;
mod figures;
pub mod growth;
pub mod holders;
mod memory;
mod names;
mod percentiles;
mod process;
pub mod report;
pub mod roles;
mod stacks;
mod survivors;
pub mod why;

use crate::read::Loaded;
use crate::symbolize::Symbols;

use causes::Places;
use growth::Times;
use names::Names;
use report::{By, Moment, Peak, Report};
use stacks::Stacks;

/// What is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'a> {
    /// Groups to list, of blocks and of mappings each.
    pub top: usize,
    /// What sites are grouped by.
    pub by: By,
    /// The moment whose live blocks are listed.
    pub moment: Moment,
    /// Whether stacks are listed on their own too, and how many.
    pub survivors: Option<usize>,
    /// The name of the moment from which growth is counted.
    pub since: Option<&'a str>,
}

/// The report of one dump, or of several together. `notes` are sentences for its reader.
pub fn summarize(
    dumps: &[Loaded],
    symbols: &mut Symbols,
    options: &Options,
    notes: Vec<String>,
) -> Report {
    let bare = || dumps.iter().map(|loaded| &loaded.dump);
    let stacks = |moment, symbols: &mut Symbols| {
        let mut stacks = Stacks::default();
        dumps.iter().for_each(|loaded| stacks.add(&loaded.dump, symbols, moment));
        stacks
    };
    let (mut last, mut names) = (stacks(Moment::Last, symbols), Names::default());
    let found = match options.moment {
        Moment::Last => survivors::survivors(dumps, &last, &mut names, symbols, options),
        Moment::Peak => {
            let peak = stacks(Moment::Peak, symbols);
            survivors::survivors(dumps, &peak, &mut Names::default(), symbols, options)
        }
    };
    let places = Places::new(dumps, &mut last, &mut names, symbols);
    let (causes, verdict) = causes::causes(places, options);
    let mut notes = notes;
    let census = census::census(dumps, symbols, options);
    notes.extend(dumps.iter().flat_map(|loaded| loaded.notes.iter().cloned()));
    notes.extend(symbols.notes().map(str::to_owned));
    notes.extend(remarks(dumps, options.since));
    notes.extend(dumps.iter().any(|it| it.dump.inexact).then(|| completeness::INEXACT.to_owned()));
    Report {
        causes,
        verdict,
        processes: dumps.iter().map(process::process).collect(),
        moment: options.moment,
        by: options.by,
        memory: memory::memory(bare()),
        total: found.total,
        window: found.window,
        peak: peak(dumps),
        groups: found.groups,
        types: census.types,
        holders: census.holders,
        survivors: found.survivors,
        completeness: completeness::completeness(bare(), notes),
    }
}

/// The peak of one process. Those of several are at several times and do not add up.
fn peak(dumps: &[Loaded]) -> Option<Peak> {
    let [Loaded { dump, .. }] = dumps else { return None };
    let at_s = dump.peak_ns.map(|ns| ns as f64 / 1e9);
    (dump.peak_seen > 0).then_some(Peak { bytes: dump.peak_seen, at_s })
}

/// Why growth cannot be told.
pub const TOO_SHORT: &str = "the run is too short to tell growth from start-up";
/// The same of a run that took long enough: a process that forks, and waits without allocating, has no
/// thread of the shim's that would look.
pub const TOO_FEW: &str = "too few moments were recorded to tell growth from start-up";

/// What a reader must know to read the figures right.
fn remarks(dumps: &[Loaded], since: Option<&str>) -> Vec<String> {
    let mut remarks = Vec::new();
    // Of the runs themselves: a list of the peak has no growth, however long they were.
    let times = Times::since_mark(dumps.iter().map(|loaded| &loaded.dump), since);
    if !times.iter().any(|times| times.separated) {
        let long = times.iter().any(|times| times.end_ms() >= growth::SHORT_MS);
        remarks.push(if long { TOO_FEW } else { TOO_SHORT }.to_owned());
    }
    if !dumps.iter().all(|loaded| completeness::has_python_blocks(&loaded.dump)) {
        let what = "blocks of Python's own allocators were not recorded (PYSHIM_PYTHON=0): what grows there is not told, and is told as free";
        remarks.push(what.to_owned());
    }
    if let Some(mean) = dumps.iter().filter_map(|loaded| process::sampled(&loaded.dump)).max() {
        let unseen = estimates::unseen(mean);
        remarks.push(format!(
            "sampled, with {mean} bytes on average from one sample to the next: bytes and blocks are estimates, and a site of less than {unseen} bytes may not be seen"
        ));
    }
    if dumps.len() > 1
        && dumps.iter().any(|loaded| loaded.dump.gauge(pyshim_dump::layout::Gauge::Rss) > 0)
    {
        remarks.push(
            "resident sets are added up: pages that the processes share are counted in each"
                .to_owned(),
        );
    }
    remarks
}
