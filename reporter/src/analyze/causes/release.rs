//! What grew until the program was done, and was let go right before its last
//! moment: the variables of a function that returned, a pool that was shut
//! down. It does not survive, but it is why memory grew.

use pyshim_dump::Amount;

use crate::analyze::report::Source;
use crate::analyze::stacks::last;
use crate::units::{bytes, milliseconds};

use super::candidates::{self, Candidate};
use super::cause::{Cause, Kind};
use super::places::Places;
use super::scene::Scene;
use super::{evidence, merge};
use crate::analyze::growth;

/// The end of a run, as a part of it, in which letting go belongs to the end.
const END: u64 = 20;
/// It is at least so long.
const END_MS: u64 = 500;
/// Less than this does not matter.
const ENOUGH: u64 = 1 << 20;
/// The part of what had grown that has to be given back.
const MUCH: u64 = 10;
/// No more than one part of so many of it is left. A copy that was made in order to grow leaves half.
const LEFT: u64 = 4;

/// The process as it stood when most was live, if much of that was let go right before the end.
pub fn before<'a>(scene: &Scene<'a>) -> Option<Scene<'a>> {
    let dump = scene.dump;
    if dump.final_ns.is_none() && dump.end.is_none() {
        return None;
    }
    let end_ms = scene.times.end_ms();
    let since_ms = end_ms.saturating_sub((end_ms / END).max(END_MS));
    let points = dump.timeline.points.get(..scene.times.points())?;
    let (from, most) = levels(scene, points.len())
        .into_iter()
        .enumerate()
        .skip(scene.times.startup_points())
        .filter(|&(at, _)| at + 2 >= points.len() || points[at].at_ms >= since_ms)
        .max_by_key(|&(at, level)| (level, at))?;
    let sites = dump.sites.len();
    let end = (0..sites).fold(0u64, |sum, site| sum.saturating_add(last(dump, site).bytes));
    let startup = scene.times.startup_points().checked_sub(1);
    let startup = startup.and_then(|at| levels(scene, at + 1).pop()).unwrap_or(0);
    let given_back = most.saturating_sub(end);
    if given_back < ENOUGH || given_back < most.saturating_sub(startup) / MUCH {
        return None;
    }
    let mut live = vec![Amount::default(); sites];
    for change in points.iter().take(from + 1).flat_map(|point| &point.changes) {
        if let Some(slot) = live.get_mut(change.site as usize) {
            *slot = Amount { blocks: change.blocks, bytes: change.bytes };
        }
    }
    Some(scene.until(from, live))
}

/// Live bytes of all sites at each of the first points.
fn levels(scene: &Scene, points: usize) -> Vec<u64> {
    let mut now = vec![0u64; scene.dump.sites.len()];
    let mut level = 0u64;
    let step = |point: &pyshim_dump::blob::Point| {
        for change in &point.changes {
            if let Some(slot) = now.get_mut(change.site as usize) {
                level = level.wrapping_add(change.bytes).wrapping_sub(*slot);
                *slot = change.bytes;
            }
        }
        level
    };
    scene.dump.timeline.points.iter().take(points).map(step).collect()
}

/// Causes of what grew until then and is not there any more.
pub fn causes(before: &Scene, end_ms: u64, places: &mut Places) -> Vec<Cause> {
    if !before.times.separated {
        return Vec::new();
    }
    let found = candidates::candidates(before, places);
    let mut merged = merge::merge(before, places, found);
    let gone = |it: &Candidate| -> bool {
        let left = it.members.iter().map(|one| last(before.dump, one.site as usize).bytes);
        left.fold(0, u64::saturating_add) < it.bytes / LEFT
    };
    let matters = |it: &&Candidate| growth::matters(&it.trend, it.course.end() as u64, before.live);
    let ago = milliseconds(end_ms.saturating_sub(before.times.end_ms()));
    let cause = |candidate: &Candidate| {
        let kind = kind(before, places, candidate)?;
        let mut cause = evidence::cause(before, places, candidate, kind);
        let what = format!(
            "it had grown to {} and was let go {ago} before the end: a function returned, or somebody cleared it",
            bytes(candidate.bytes),
        );
        cause.evidence.insert(0, what);
        if before.heap.is_none() && kind != Kind::Mapping {
            cause.advice = "to see who holds it, take a snapshot while it grows: reporter snapshot PID, or PYSHIM_SNAPSHOT=every=10s".into();
        }
        Some(cause)
    };
    merged.retain(gone);
    if before.heap.is_none() {
        merged = together(merged);
    }
    merged.iter().filter(matters).filter_map(cause).collect()
}

/// What went together with something larger, or is of the same line of Python, was part of that: keys
/// of its tables, what its objects refer to.
fn together(found: Vec<Candidate>) -> Vec<Candidate> {
    const SMALLER: f64 = 0.6;
    let mut out: Vec<Candidate> = Vec::new();
    for one in found {
        let part = |larger: &&mut Candidate| {
            let same_line = larger.place.1.is_some() && larger.place.1 == one.place.1;
            larger.mapping == one.mapping
                && (same_line || one.trend.slope < SMALLER * larger.trend.slope)
        };
        match out.iter_mut().find(part) {
            Some(larger) => merge::absorb(larger, one),
            None => out.push(one),
        }
    }
    out
}

/// Somebody let go of it, so somebody had it; where Python called for it, most likely Python.
fn kind(before: &Scene, places: &mut Places, candidate: &Candidate) -> Option<Kind> {
    if candidate.mapping || before.heap.is_some() {
        return super::kind(before, places, candidate);
    }
    Some(match places.source(before.at, candidate.site) {
        Source::Native if candidate.place.1.is_none() => Kind::NativeHeld,
        _ => Kind::PythonHeld,
    })
}
