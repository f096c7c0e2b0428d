//! Why memory grows: from the timeline, the counters and the heap snapshot to
//! causes, each with its evidence.
//!
//! Growth, not size, makes a cause. Blocks with one explanation grow together
//! ([`candidates`], [`merge`]); what is resident beyond live blocks has causes
//! of its own ([`resident`]); what grew may have been let go right before the end
//! ([`release`]); and where nothing grows, much may still come and go ([`churn`]).

mod candidates;
mod cause;
mod churn;
mod everywhere;
mod evidence;
mod merge;
mod places;
mod release;
mod resident;
mod scene;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_sets;
mod words;

use std::collections::HashSet;

use pyshim_dump::Amount;
use pyshim_dump::heap::{Heap, State};
use pyshim_dump::layout::Gauge;

use crate::analyze::growth::{self, Times, Trend};
use crate::analyze::report::{Rate, Source};

pub use cause::{Cause, Confidence, Forecast, Kind, Verdict};
pub use places::Places;

use super::Options;
use candidates::Candidate;
use scene::Scene;

/// A cause that is a smaller part of all growth is not worth a line.
const TINY: f64 = 0.01;

/// The causes over all processes, and the verdict.
pub fn causes(mut places: Places, options: &Options) -> (Vec<Cause>, Verdict) {
    let dumps = places.dumps;
    let mut causes: Vec<Cause> = Vec::new();
    let (mut growth, mut variance, mut known) = (0.0, 0.0, false);
    let mut verdict = Verdict::default();
    let times = Times::since_mark(dumps.iter().map(|loaded| &loaded.dump), options.since);
    for (at, (loaded, times)) in dumps.iter().zip(times).enumerate() {
        let scene = Scene::new(at, &loaded.dump, times);
        if !scene.times.separated {
            continue;
        }
        known = true;
        let (mut own, heaps) = of_process(&scene, &mut places);
        let beyond = own.iter().filter(|it| it.kind == Kind::Mapping || is_retention(it));
        let beyond: f64 = beyond.map(|cause| cause.growth.per_second.max(0.0)).sum();
        growth += heaps.slope + beyond;
        variance += heaps.variance;
        if dumps.len() > 1 {
            own.iter_mut().for_each(|cause| cause.pid = Some(loaded.dump.pid));
        } else {
            verdict.forecast = forecast(&scene, growth.max(sum(&own)));
        }
        causes.extend(own);
    }
    let mut causes = together(causes);
    let all = growth.max(sum(&causes));
    for cause in &mut causes {
        let counts = cause.kind != Kind::Churn && cause.growth.per_second > 0.0 && all > 0.0;
        cause.share = counts.then(|| cause.growth.per_second / all);
    }
    causes.retain(|cause| cause.share.is_none_or(|share| share >= TINY));
    causes.sort_by(|a, b| {
        let key = |it: &Cause| if it.share.is_some() { it.growth.per_second } else { 0.0 };
        key(b).total_cmp(&key(a)).then(b.bytes.cmp(&a.bytes))
    });
    let growing = causes.iter().any(|cause| cause.share.is_some());
    verdict.kind = causes.first().map_or(Kind::None, |cause| cause.kind);
    verdict.growing = known.then_some(growing);
    verdict.growth = known.then_some(Rate { per_second: growth, error: variance.sqrt() });
    verdict.explained =
        growing.then(|| causes.iter().filter_map(|cause| cause.share).sum::<f64>().min(1.0));
    if !growing {
        verdict.forecast = None;
    }
    (causes, verdict)
}

fn is_retention(cause: &Cause) -> bool {
    cause.kind == Kind::AllocatorRetention
}

fn sum(causes: &[Cause]) -> f64 {
    let growing = causes.iter().filter(|cause| cause.kind != Kind::Churn);
    growing.map(|cause| cause.growth.per_second.max(0.0)).sum()
}

/// The causes in one process, and how its heaps grew.
fn of_process(scene: &Scene, places: &mut Places) -> (Vec<Cause>, Trend) {
    let found = candidates::candidates(scene, places);
    let merged = merge::merge(scene, places, found.clone());
    let matters = |it: &Candidate| {
        // Of what was merged, the end of the course is what counts.
        growth::matters(&it.trend, it.course.end() as u64, scene.live)
    };
    let mut causes: Vec<Cause> = merged
        .iter()
        .filter(|it| matters(it) && !is_window(scene, it))
        .filter_map(|candidate| {
            let kind = kind(scene, places, candidate)?;
            Some(evidence::cause(scene, places, candidate, kind))
        })
        .collect();
    causes.extend(resident::causes(scene, places, &found));
    let mut growth = scene.growth;
    if let Some(before) = release::before(scene) {
        let released = release::causes(&before, scene.times.end_ms(), places);
        if !released.is_empty() {
            // That its memory stays with the allocators for the moment until the end is no cause.
            causes.retain(|it| !is_retention(it));
            causes.extend(released);
            growth = before.growth;
        }
    }
    if causes.is_empty() {
        causes.extend(churn::cause(scene, places));
    }
    (causes, growth)
}

/// What kind of cause a set of blocks is.
fn kind(scene: &Scene, places: &mut Places, candidate: &Candidate) -> Option<Kind> {
    if candidate.mapping {
        return Some(Kind::Mapping);
    }
    Some(match candidate.state {
        State::Python if is_lent(scene, places, candidate) => Kind::NativeHeld,
        State::Python => Kind::PythonHeld,
        State::Native => Kind::NativeHeld,
        State::Leaked => Kind::NativeLeak,
        State::Miscounted => Kind::ReferenceLeak,
        State::Cyclic if is_collected(scene, candidate) => return None,
        State::Cyclic => Kind::Cycles,
        // Kept for reuse by the interpreter: bounded, and no explanation by itself.
        State::Parked => return None,
        State::Unknown => match places.source(scene.at, candidate.site) {
            Source::Python | Source::PythonRaw => Kind::PythonHeld,
            Source::Native if is_known_to_somebody(scene, candidate) => Kind::NativeHeld,
            // Python's teardown frees what Python's objects own.
            Source::Native if scene.dump.final_ns.is_some() && !outlives(scene, candidate) => {
                Kind::NativeHeld
            }
            _ => Kind::NativeLeak,
        },
    })
}

/// Whether a search that knew not every block found words that lead to these.
fn is_known_to_somebody(scene: &Scene, candidate: &Candidate) -> bool {
    let Some(heap) = scene.heap.filter(|heap| !heap.search.all_blocks_known) else { return false };
    let found = |site| heap.sites.iter().any(|it| it.site == site && it.state == State::Unknown);
    candidate.members.iter().any(|member| found(member.site))
}

/// Rings that the collector will take, and of which there are no more than it lets pile up: it waits
/// until there are a quarter as many new objects as old ones.
fn is_collected(scene: &Scene, candidate: &Candidate) -> bool {
    let Some(heap) = scene.heap else { return false };
    let blocked = candidate.group(heap).is_some_and(|it| it.blocker != 0);
    !blocked && collects(heap)
}

/// Whether the collector takes what garbage there is before long.
fn collects(heap: &Heap) -> bool {
    heap.collector.as_ref().is_some_and(|it| it.garbage_objects > 0) && keeps_up(heap)
}

/// Whether what rings there are at a moment wait for the collector, not for ever: it runs, full collections
/// come, and what is frozen is not most of them. (How many wait says nothing: what a program lets go of at
/// its end may be all that it had.)
pub fn takes_rings(heap: &Heap) -> bool {
    const NEVER: u64 = 1_000_000;
    let Some(collector) = &heap.collector else { return false };
    let [young, middle, old] = collector.thresholds;
    let runs =
        collector.enabled && (1..=NEVER).contains(&young) && middle.max(old) <= NEVER / 1_000;
    runs && collector.garbage_frozen <= collector.garbage_objects / 2
}

/// Whether the collector keeps up with the garbage, if there is any: it runs, may take all of it, and
/// no more has piled up than it lets.
fn keeps_up(heap: &Heap) -> bool {
    const SANE: u64 = 10_000;
    let Some(collector) = &heap.collector else { return false };
    let [young, middle, old] = collector.thresholds;
    let runs = collector.enabled && (1..=SANE).contains(&young) && middle.max(old) <= SANE / 100;
    let few = collector.garbage_objects < heap.search.tracked / 3;
    runs && collector.garbage_frozen == 0 && few
}

/// A window that moves on: what is held is young, and what was let go of waits for the collector, so
/// much of it that it may be all that grew at these lines.
fn is_window(scene: &Scene, candidate: &Candidate) -> bool {
    let held = matches!(candidate.state, State::Python | State::Native);
    let Some(heap) = scene.heap.filter(|heap| held && collects(heap)) else { return false };
    let age = candidate.group(heap).map_or(0, |it| it.age_ms);
    let looked_at = heap.at_ms.saturating_sub(scene.times.startup_ms());
    let young = age != 0 && age < looked_at / 2;
    let sites: HashSet<u32> = candidate.members.iter().map(|it| it.site).collect();
    let garbage = heap.sites.iter().filter(|it| it.state == State::Cyclic);
    let garbage = garbage.filter(|it| sites.contains(&it.site));
    let garbage = garbage.fold(0u64, |sum, it| sum.saturating_add(it.bytes));
    young && garbage as f64 >= candidate.trend.slope * scene.window_s()
}

/// What of it was freed between the last moment before the interpreter's teardown and the end of the
/// process, at least: of a site that is only in part in it, what is left may be the other part. `None`: there
/// was no teardown, or no end.
fn freed_by_teardown(scene: &Scene, candidate: &Candidate) -> Option<Amount> {
    if scene.dump.final_ns.is_none() || scene.dump.end.is_none() {
        return None;
    }
    let mut freed = Amount::default();
    for member in &candidate.members {
        let site = scene.dump.sites.get(member.site as usize);
        let left = site.map_or(Amount::default(), |site| site.totals.live());
        freed.blocks = freed.blocks.saturating_add(member.blocks.saturating_sub(left.blocks));
        freed.bytes = freed.bytes.saturating_add(member.bytes.saturating_sub(left.bytes));
    }
    Some(freed)
}

/// Whether nearly all of it is there after the teardown.
fn outlives(scene: &Scene, candidate: &Candidate) -> bool {
    let sites = candidate.members.iter().filter_map(|it| scene.dump.sites.get(it.site as usize));
    let after = sites.fold(0u64, |sum, site| sum.saturating_add(site.totals.live().bytes));
    scene.dump.final_ns.is_some() && after >= candidate.bytes / 10 * 9
}

/// Native blocks that an object of Python points to and does not own: all of them are there when
/// Python has torn down what pointed to them. A handle of a C library, say.
fn is_lent(scene: &Scene, places: &mut Places, candidate: &Candidate) -> bool {
    const LOOKED_AT: usize = 64;
    let typed = scene.heap.is_some_and(|heap| {
        candidate.group(heap).is_some_and(|it| !heap.type_name(it.type_).is_empty())
    });
    let mut members = candidate.members.iter().take(LOOKED_AT);
    candidate.group.is_some()
        && !typed
        && freed_by_teardown(scene, candidate).is_some_and(|it| it.blocks <= candidate.blocks / 50)
        && members.all(|it| places.source(scene.at, it.site) == Source::Native)
}

/// The same cause in several processes is one.
fn together(causes: Vec<Cause>) -> Vec<Cause> {
    let mut out: Vec<Cause> = Vec::new();
    for cause in causes {
        let same = |known: &&mut Cause| {
            let id = |it: &Cause| it.site.as_ref().map(|site| site.id.clone());
            cause.pid.is_some()
                && known.kind == cause.kind
                && known.holder == cause.holder
                && id(known) == id(&cause)
        };
        match out.iter_mut().find(same) {
            Some(known) => {
                known.bytes = known.bytes.saturating_add(cause.bytes);
                known.blocks = known.blocks.saturating_add(cause.blocks);
                known.leaders = known.leaders.saturating_add(cause.leaders);
                known.growth.per_second += cause.growth.per_second;
                known.growth.error = known.growth.error.hypot(cause.growth.error);
                known.confidence = known.confidence.min(cause.confidence);
                known.pid = None;
            }
            None => out.push(cause),
        }
    }
    out
}

/// When the process' limit will be reached.
fn forecast(scene: &Scene, per_second: f64) -> Option<Forecast> {
    let limit = scene.gauge(Gauge::MemoryLimit);
    let rss = scene.gauge(Gauge::Rss);
    if limit == 0 || rss == 0 || per_second <= 0.0 {
        return None;
    }
    Some(Forecast { limit, seconds: limit.saturating_sub(rss) as f64 / per_second })
}

/// The rate of a trend.
fn rate(trend: &Trend) -> Rate {
    trend.rate()
}
