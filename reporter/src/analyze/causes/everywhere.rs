//! Growth that is at no site: code that is made at run time allocates at ever
//! new ones, of which none grows.
//!
//! What grew and no candidate explains is put together by the lines of Python
//! that its stacks have in common; the innermost that has most of it stands
//! for all.

use std::collections::HashMap;

use pyshim_dump::heap::{Member, State};

use crate::analyze::course::{Course, Weight};
use crate::analyze::growth::Trend;
use crate::analyze::stacks::LocationId;

use super::candidates::{Candidate, words};
use super::places::Places;
use super::scene::Scene;

/// The part of the growth that has to be unexplained.
const MUCH: f64 = 0.25;
/// The part of that which a line has to have.
const MOST: f64 = 0.6;
/// Fewer sites than this are looked at one by one.
const FEW: usize = 16;

/// The growth that is at no site, if there is much of it.
pub fn candidate(scene: &Scene, places: &mut Places, found: &[Candidate]) -> Option<Candidate> {
    let all = &scene.growth;
    let explained: f64 = found.iter().filter(|it| !it.mapping).map(|it| it.trend.slope).sum();
    if !all.rises() || !all.goes_on || all.slope - explained < MUCH * all.slope {
        return None;
    }
    let grown = grown(scene, found);
    let total: u64 = grown.iter().map(|it| it.1).sum();
    if grown.len() < FEW || total == 0 {
        return None;
    }
    // How much passed through each line, and how far inside it is.
    let mut lines: HashMap<LocationId, (u64, f64)> = HashMap::new();
    for &(site, bytes) in &grown {
        let stack = places.python_lines(scene.at, site);
        for (depth, &line) in stack.iter().enumerate() {
            // Once for each stack: recursion passes through a line many times.
            if stack.iter().take(depth).all(|&other| other != line) {
                let sum = lines.entry(line).or_default();
                sum.0 = sum.0.saturating_add(bytes);
                sum.1 += depth as f64 * bytes as f64;
            }
        }
    }
    let depth = |sum: &(u64, f64)| sum.1 / sum.0.max(1) as f64;
    let most = lines.iter().filter(|(_, sum)| sum.0 as f64 >= MOST * total as f64);
    let (&line, _) = most.min_by(|a, b| depth(a.1).total_cmp(&depth(b.1)).then(a.0.cmp(b.0)))?;
    let members: Vec<Member> = grown
        .iter()
        .filter(|(site, _)| places.python_lines(scene.at, *site).contains(&line))
        .map(|&(site, _)| {
            let live = scene.last(site);
            Member { site, blocks: live.blocks, bytes: live.bytes }
        })
        .collect();
    whole(scene, places, line, members)
}

/// Sites that have more now than when the start-up ended, and are in no candidate.
fn grown(scene: &Scene, found: &[Candidate]) -> Vec<(u32, u64)> {
    let mut before: HashMap<u32, u64> = HashMap::new();
    let points = scene.dump.timeline.points.iter().take(scene.times.startup_points());
    for change in points.flat_map(|point| &point.changes) {
        before.insert(change.site, change.bytes);
    }
    let known: std::collections::HashSet<u32> =
        found.iter().flat_map(|it| &it.members).map(|member| member.site).collect();
    (0..scene.dump.sites.len() as u32)
        .filter(|site| !known.contains(site) && !scene.is_mapping(*site))
        .filter_map(|site| {
            let more =
                scene.last(site).bytes.saturating_sub(before.get(&site).copied().unwrap_or(0));
            (more > 0).then_some((site, more))
        })
        .collect()
}

/// As a candidate, held as most of it is.
fn whole(
    scene: &Scene,
    places: &mut Places,
    line: LocationId,
    mut members: Vec<Member>,
) -> Option<Candidate> {
    members.sort_by_key(|member| (std::cmp::Reverse(member.bytes), member.site));
    let site = members.first()?.site;
    let course = |site| Weight { site, course: 0, part: 1.0 };
    let weights: Vec<Weight> = members.iter().map(|member| course(member.site)).collect();
    let course: Course = scene.courses(&weights, 1).into_iter().next()?;
    let trend: Trend = course.trend();
    if !trend.rises() || !trend.goes_on {
        return None;
    }
    let own: std::collections::HashSet<u32> = members.iter().map(|member| member.site).collect();
    let mut states: HashMap<State, u64> = HashMap::new();
    for one in scene.heap.iter().flat_map(|heap| &heap.sites).filter(|it| own.contains(&it.site)) {
        let sum = states.entry(one.state).or_default();
        *sum = sum.saturating_add(one.bytes);
    }
    let state = states.into_iter().max_by_key(|&(state, bytes)| (bytes, state));
    let state = state.map_or(State::Unknown, |it| it.0);
    let group = scene.heap.and_then(|heap| {
        let groups = heap.groups.iter().enumerate();
        let mut of_these = groups.filter(|(_, it)| it.state == state && own.contains(&it.site));
        of_these.next().map(|(at, _)| at)
    });
    let sum = |get: fn(&Member) -> u64| members.iter().map(get).fold(0, u64::saturating_add);
    let (blocks, bytes) = (sum(|it| it.blocks), sum(|it| it.bytes));
    let mut candidate = Candidate {
        state,
        mapping: false,
        group,
        holder: 0,
        held: None,
        site,
        type_: 0,
        place: places.place(scene.at, site),
        members,
        leaders: blocks,
        blocks,
        bytes,
        course,
        trend,
        common: Some(line),
    };
    candidate.held = words(scene, places, &candidate);
    Some(candidate)
}
