//! Sets of blocks with one explanation become one.

use std::collections::{HashMap, HashSet};

use pyshim_dump::heap::{Heap, Member, NodeKind, State};

use crate::analyze::stacks::LocationId;

use super::candidates::Candidate;
use super::places::Places;
use super::scene::Scene;

/// Members of a set whose lines are looked at.
const LINES: usize = 32;

/// Puts together what belongs together. What is given and what is returned is in order of growth.
pub fn merge(scene: &Scene, places: &mut Places, found: Vec<Candidate>) -> Vec<Candidate> {
    let mut out: Vec<(Candidate, HashSet<LocationId>)> = Vec::new();
    for candidate in found {
        let lines = lines(scene, places, &candidate);
        let into = out
            .iter()
            .position(|(larger, known)| belongs(scene.heap, larger, known, &candidate, &lines));
        match into.and_then(|at| out.get_mut(at)) {
            Some((larger, known)) => {
                absorb(larger, candidate);
                known.extend(lines);
            }
            None => out.push((candidate, lines)),
        }
    }
    let mut out: Vec<Candidate> = out.into_iter().map(|it| it.0).collect();
    out.sort_by(|a, b| b.trend.slope.total_cmp(&a.trend.slope).then(a.site.cmp(&b.site)));
    out
}

/// The innermost Python lines that allocated most of it.
fn lines(scene: &Scene, places: &mut Places, candidate: &Candidate) -> HashSet<LocationId> {
    let mut members: Vec<&Member> = candidate.members.iter().collect();
    members.sort_by_key(|member| std::cmp::Reverse(member.bytes));
    members.iter().take(LINES).filter_map(|it| places.line(scene.at, it.site)).collect()
}

/// Whether the smaller of two is part of the larger one's explanation.
fn belongs(
    heap: Option<&Heap>,
    larger: &Candidate,
    known: &HashSet<LocationId>,
    smaller: &Candidate,
    lines: &HashSet<LocationId>,
) -> bool {
    if larger.mapping || smaller.mapping {
        return larger.mapping && smaller.mapping && larger.place == smaller.place;
    }
    let same_state = larger.state == smaller.state;
    if same_state && larger.place == smaller.place && larger.holder == smaller.holder {
        return true;
    }
    if same_state && larger.holder != 0 && larger.holder == smaller.holder {
        return true;
    }
    // Each thread or context has values of its own, all put there by one line.
    let subject = |it: &Candidate| it.held.as_ref().map(|held| held.subject.clone());
    let same_subject = subject(larger).is_some() && subject(larger) == subject(smaller);
    if same_state && same_subject && larger.place == smaller.place {
        return true;
    }
    let (a, b) = (larger.trend.slope, smaller.trend.slope);
    if let (true, Some(heap)) = (same_state, heap) {
        // One holds the other: what the outer one keeps of itself is bookkeeping of the inner one, or
        // the inner one is a small part. With both large they are two.
        let nested = above(heap, larger.holder, smaller.holder)
            || above(heap, smaller.holder, larger.holder);
        if nested && b <= 0.5 * a {
            return true;
        }
        // Others hold some of these, the larger one's holder the one that was looked at.
        let sample = smaller.group(heap).map_or(0, |it| it.sample);
        if smaller.holder == 0 && above(heap, larger.holder, sample) && b <= 0.1 * a {
            return true;
        }
        let no_holder = larger.holder == 0 && smaller.holder == 0;
        if no_holder && (same_subject || of_one_function(heap, larger, smaller)) {
            return true;
        }
    }
    if heap.is_some_and(|heap| shadows(heap, larger, smaller)) {
        return true;
    }
    // What came from the same lines and grows with it: tables that get larger, keys, texts.
    let shared = lines.iter().any(|line| known.contains(line));
    let compatible = same_state
        || smaller.state == State::Unknown
        || smaller.state == State::Parked
        || smaller.group.is_none() && smaller.state == State::Python
        || larger.state == State::Leaked && smaller.state == State::Native && b < 0.1 * a;
    let both_held = larger.holder != 0 && smaller.holder != 0;
    // One line of Python may call several functions that each forget a block of their own.
    let both_lost =
        same_state && larger.state == State::Leaked && larger.place.0 != smaller.place.0;
    shared && compatible && !((both_held || both_lost) && b > 0.1 * a) && b <= a
}

/// Whether the smaller one is weak references to what the larger one is: as many as there are of
/// some object in it, and little.
fn shadows(heap: &Heap, larger: &Candidate, smaller: &Candidate) -> bool {
    const LITTLE: f64 = 0.15;
    let as_many = |one: u64, other: u64| one.abs_diff(other) <= one.max(other) / 32;
    // Where the table leads, each other block is a weak reference.
    let mut counts = larger.members.iter().map(|member| member.blocks).chain([larger.leaders]);
    smaller.trend.slope < LITTLE * larger.trend.slope
        && is_weak(heap, smaller)
        && counts.any(|it| as_many(it, smaller.leaders) || as_many(it, smaller.blocks))
}

/// Whether both are what the threads of one function have: each has values of its own in its
/// variables, and what it needs for itself, its locks and its own frames.
fn of_one_function(heap: &Heap, larger: &Candidate, smaller: &Candidate) -> bool {
    let (a, b) = (larger.trend.slope, smaller.trend.slope);
    let Some((outer, inner)) = running(heap, larger).zip(running(heap, smaller)) else {
        return false;
    };
    outer == inner || outer.0 == inner.0 && b <= 0.5 * a || b <= 0.06 * a
}

/// The code that runs where the variable is that holds a sample, and the variable: nothing if it is
/// no local variable of a function that runs.
fn running<'a>(heap: &'a Heap, candidate: &Candidate) -> Option<(u32, &'a str)> {
    let group = candidate.group(heap)?;
    let path = heap.path(group.sample);
    let (root, variable) = (path.first()?, path.get(1)?);
    if root.kind != NodeKind::Frame {
        return None;
    }
    let frame = heap.frames.get(usize::try_from(root.detail).ok()?)?;
    Some((frame.code, heap.text(variable.label)))
}

/// Whether it is weak references, or the bookkeeping of a container of such: there are as many as
/// somebody else keeps objects alive.
fn is_weak(heap: &Heap, candidate: &Candidate) -> bool {
    const CONTAINERS: [&str; 3] =
        ["_weakrefset.WeakSet", "weakref.WeakValueDictionary", "weakref.WeakKeyDictionary"];
    // (`weakref` alone, until 3.8.)
    let led_by = heap.type_name(candidate.type_);
    let of_container = || {
        let path = heap.path(candidate.holder);
        path.iter().any(|node| CONTAINERS.contains(&heap.type_name(node.type_)))
    };
    candidate.state == State::Python
        && (led_by == "weakref" || led_by.starts_with("weakref.") || of_container())
}

/// Whether the node `outer` is on the path to `inner`, both plus one, and more than a root.
fn above(heap: &Heap, outer: u32, inner: u32) -> bool {
    let is_object = heap.node(outer).is_some_and(|node| node.kind == NodeKind::Object);
    if outer == 0 || !is_object {
        return false;
    }
    let mut at = inner;
    while let Some(node) = heap.node(at) {
        at = node.parent;
        if at == outer {
            return true;
        }
    }
    false
}

/// Makes one set a part of another.
pub fn absorb(larger: &mut Candidate, smaller: Candidate) {
    let mut members: HashMap<u32, Member> =
        larger.members.iter().map(|member| (member.site, *member)).collect();
    for member in &smaller.members {
        let sum = members.entry(member.site).or_insert(Member { blocks: 0, bytes: 0, ..*member });
        sum.blocks = sum.blocks.saturating_add(member.blocks);
        sum.bytes = sum.bytes.saturating_add(member.bytes);
    }
    larger.members = members.into_values().collect();
    larger.members.sort_by_key(|it| (std::cmp::Reverse(it.bytes), it.site));
    let alike = larger.state == smaller.state && larger.type_ == smaller.type_;
    if alike && larger.group.is_some() == smaller.group.is_some() {
        larger.leaders = larger.leaders.saturating_add(smaller.leaders);
    }
    larger.blocks = larger.blocks.saturating_add(smaller.blocks);
    larger.bytes = larger.bytes.saturating_add(smaller.bytes);
    for (sum, more) in larger.course.bytes.iter_mut().zip(&smaller.course.bytes) {
        *sum += more;
    }
    larger.trend = larger.course.trend();
}
