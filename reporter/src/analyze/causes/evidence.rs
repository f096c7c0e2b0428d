//! A set of blocks that grows becomes a cause: its evidence in sentences.

use pyshim_dump::Amount;
use pyshim_dump::heap::{Collector, Group, Heap, State};

use crate::analyze::holders::{self, Holder, Nature};
use crate::units::{bytes, count, counted};

use super::candidates::Candidate;
use super::cause::{Cause, Confidence, Kind};
use super::places::Places;
use super::scene::Scene;
use super::{freed_by_teardown, rate, words};

/// The cause that a set is.
pub fn cause(scene: &Scene, places: &mut Places, candidate: &Candidate, kind: Kind) -> Cause {
    let group = scene.heap.and_then(|heap| candidate.group(heap));
    let type_name = scene.heap.zip(group).map(|(heap, group)| heap.type_name(group.type_));
    let type_name = type_name.filter(|name| !name.is_empty() && candidate.common.is_none());
    let type_name = type_name.map(holders::plain);
    let all_known = scene.heap.is_none_or(|heap| heap.search.all_blocks_known);
    let mut cause = Cause {
        kind,
        confidence: match candidate.state {
            // Somebody may hold it, or have held it: the search could not tell.
            State::Unknown if kind != Kind::Mapping && !all_known => Confidence::Possible,
            state => scene.confidence(state, &candidate.trend, candidate.leaders),
        },
        bytes: candidate.bytes,
        blocks: candidate.blocks,
        leaders: candidate.leaders,
        growth: rate(&candidate.trend),
        type_name: type_name.map(str::to_owned),
        site: Some(match candidate.common {
            Some(line) => places.site_from(scene.at, candidate.site, line),
            None => {
                let site = leading_site(candidate, kind, type_name);
                let site = extension_site(scene, places, candidate, kind, site);
                places.site(scene.at, site)
            }
        }),
        holder: candidate.held.as_ref().map(|held| held.text.clone()),
        ..Cause::default()
    };
    if let (Kind::Cycles, Some(heap), Some(group)) = (kind, scene.heap, group)
        && group.blocker != 0
    {
        let name = holders::plain(heap.type_name(group.blocker));
        cause.holder = Some(format!("C type without gc support: {name}"));
    }
    let lines = match (kind, scene.heap) {
        (Kind::Mapping, _) => mapping(scene, candidate),
        (_, None) => Vec::new(),
        (_, Some(heap)) => searched(heap, group, candidate, kind),
    };
    cause.evidence.extend(lines);
    if candidate.common.is_some() {
        cause.evidence.push(format!(
            "it is allocated at {} that are new each time: by code made at run time, or ever other ways to the same line",
            counted(candidate.members.len() as u64, "site"),
        ));
    }
    if kind != Kind::Mapping {
        if let Some(freed) = freed_by_teardown(scene, candidate)
            && matches!(kind, Kind::NativeLeak | Kind::NativeHeld)
        {
            cause.evidence.extend(teardown(candidate, kind, freed));
            // Whatever freed them knew them: most of it is lost to the search alone.
            if kind == Kind::NativeLeak && freed.blocks > candidate.blocks / 2 {
                cause.confidence = cause.confidence.min(Confidence::Likely);
            }
        }
        let gaps = scene.gaps(candidate.leaders);
        match (scene.heap, gaps.is_empty()) {
            (None, _) => cause.evidence.extend(gaps),
            (_, false) => {
                cause.evidence.push(format!("the search is partial: {}", gaps.join(", ")))
            }
            _ => {}
        }
    }
    let held = candidate.held.as_ref();
    cause.advice = words::advice(&cause, candidate.state, held, scene.heap.zip(group));
    cause.tools = words::tools(&cause);
    cause
}

/// What the interpreter's teardown has to say of native blocks.
fn teardown(candidate: &Candidate, kind: Kind, freed: Amount) -> Option<String> {
    let leak = kind == Kind::NativeLeak;
    // A few of the same site may have come and gone meanwhile.
    if freed.blocks <= candidate.blocks / 50 {
        return leak.then(|| "all of it outlives the interpreter's teardown".to_owned());
    }
    let whose = if leak { ": something still knew these" } else { "" };
    Some(format!(
        "{} of them, {}, were freed by the interpreter's teardown{whose}",
        count(freed.blocks),
        bytes(freed.bytes),
    ))
}

/// The site to show. Small containers are recycled without the allocator being asked, so that their
/// site may be another one's; and a ring of small objects is best known by what it keeps. What has
/// most of the bytes tells then.
fn leading_site(candidate: &Candidate, kind: Kind, type_name: Option<&str>) -> u32 {
    const RECYCLED: [&str; 5] = ["list", "tuple", "dict", "float", "frame"];
    if !matches!(kind, Kind::ReferenceLeak | Kind::Cycles) {
        return candidate.site;
    }
    let own = candidate.members.iter().find(|member| member.site == candidate.site);
    let own = own.map_or(0, |member| member.bytes);
    let largest = candidate.members.iter().max_by_key(|member| member.bytes);
    let recycled = type_name.is_some_and(|name| RECYCLED.contains(&name));
    let small = own < candidate.bytes / 10 && (recycled || kind == Kind::Cycles);
    largest.filter(|_| small).map_or(candidate.site, |member| member.site)
}

/// An object from a free list has a stack without the extension that made it; what it holds was
/// allocated from the same line, and may tell.
fn extension_site(
    scene: &Scene,
    places: &mut Places,
    candidate: &Candidate,
    kind: Kind,
    site: u32,
) -> u32 {
    const LOOKED_AT: usize = 16;
    let (native, line) = places.place(scene.at, site);
    if kind != Kind::ReferenceLeak || native.is_some() {
        return site;
    }
    let mut members = candidate.members.iter().take(LOOKED_AT).map(|member| member.site);
    let other = members.find(|&other| {
        let place = places.place(scene.at, other);
        place.0.is_some() && place.1 == line
    });
    other.unwrap_or(site)
}

fn searched(heap: &Heap, group: Option<&Group>, candidate: &Candidate, kind: Kind) -> Vec<String> {
    let search = &heap.search;
    let held = candidate.held.as_ref();
    let mut lines = match kind {
        Kind::NativeHeld | Kind::PythonHeld if candidate.state == State::Unknown => vec![
            "words in memory of which it is not known whose it is lead to these: who holds them is not known"
                .to_owned(),
        ],
        Kind::NativeLeak => vec![format!(
            "no pointer to any of these blocks is left in {} searched",
            bytes(search.bytes)
        )],
        Kind::NativeHeld if candidate.state == State::Python => vec![format!(
            "{} points to it and does not own it: all of it outlives the interpreter's teardown",
            held.map_or("Python", |held| held.subject.as_str()),
        )],
        Kind::NativeHeld => vec![match held {
            Some(held) => format!("no Python object refers to it; reached from {}", held.subject),
            None => "no Python object refers to it; native memory does".to_owned(),
        }],
        Kind::ReferenceLeak => reference(heap, group),
        Kind::PythonHeld => reachable(heap, candidate.holder, held),
        Kind::Cycles => cycles(heap, group),
        _ => Vec::new(),
    };
    let others = candidate.blocks.saturating_sub(candidate.leaders);
    if others > 0 && matches!(kind, Kind::NativeLeak | Kind::ReferenceLeak) {
        lines.push(format!(
            "{} lead, with {} that only they hold",
            counted(candidate.leaders, "block"),
            counted(others, "more block"),
        ));
    }
    lines
}

fn reference(heap: &Heap, group: Option<&Group>) -> Vec<String> {
    let mut lines = vec![
        "nothing refers to these objects any more, and yet their reference counts are not zero"
            .to_owned(),
    ];
    if let Some(group) = group.filter(|group| group.counted > group.found) {
        let at = heap.node(group.sample).map_or(0, |node| node.address);
        let place = if at == 0 { String::new() } else { format!(" at 0x{at:x}") };
        lines.push(format!(
            "of the one{place}, {} counted and {} found in {} searched",
            counted(group.counted, "reference"),
            count(group.found),
            bytes(heap.search.bytes),
        ));
    }
    lines
}

fn reachable(heap: &Heap, holder: u32, held: Option<&Holder>) -> Vec<String> {
    let Some(held) = held else {
        return vec!["reachable from Python; the path to it was not kept".into()];
    };
    let mut lines = Vec::new();
    let holder = heap.node(holder);
    match holder.filter(|holder| holder.retained > 0) {
        Some(holder) => lines.push(format!(
            "{} holds {} in {} that would go with it",
            held.subject,
            bytes(holder.retained),
            counted(holder.retained_count, "block"),
        )),
        None => lines.push(format!("reachable from {}", held.subject)),
    }
    if holder.is_none() && held.nature != Nature::Modules {
        lines.push("no single object holds all of it".into());
    }
    lines
}

fn cycles(heap: &Heap, group: Option<&Group>) -> Vec<String> {
    let mut lines = vec!["nothing outside refers to these rings of objects".to_owned()];
    if let Some(group) = group.filter(|group| group.blocker != 0) {
        lines.push(format!(
            "type {} takes no part in garbage collection, and closes the ring",
            holders::plain(heap.type_name(group.blocker)),
        ));
    }
    let Some(collector) = &heap.collector else { return lines };
    lines.extend(hidden(heap, group, collector));
    let [young, middle, old] = collector.thresholds;
    if !collector.enabled {
        lines.push("garbage collection is disabled (gc.disable())".into());
    } else if young == 0 {
        lines.push("the collector's first threshold is 0: it never runs".into());
    } else {
        let [first, second, third] = collector.counts;
        lines.push(format!(
            "the collector's thresholds are {young}, {middle}, {old}; its counts {first}, {second}, {third}"
        ));
    }
    if collector.garbage_frozen > 0 {
        lines.push(format!(
            "{} are frozen (gc.freeze()): no collection looks at them",
            counted(collector.garbage_frozen, "object"),
        ));
    }
    let takes = collector.garbage_objects.saturating_sub(collector.garbage_frozen);
    lines.push(match takes {
        0 => "a full collection would free nothing of it".into(),
        objects => format!(
            "one full collection would free {}, {}",
            counted(objects, "object"),
            bytes(collector.garbage_bytes),
        ),
    });
    lines
}

/// What the collector does not find although nobody holds it: some type does not say what it holds.
fn hidden(heap: &Heap, group: Option<&Group>, collector: &Collector) -> Option<String> {
    let group =
        group.filter(|group| group.blocker == 0 && group.leaders > collector.garbage_objects)?;
    let mut types: Vec<&str> =
        heap.path(group.sample).iter().map(|node| heap.type_name(node.type_)).collect();
    types.push(heap.type_name(group.type_));
    types.retain(|name| !name.is_empty());
    types.dedup();
    (!types.is_empty()).then(|| {
        format!(
            "the collector does not see them as unreachable: a type among {} does not visit what it holds (tp_traverse)",
            types.join(", ")
        )
    })
}

fn mapping(scene: &Scene, candidate: &Candidate) -> Vec<String> {
    let mut lines = vec![format!(
        "{} of {} that did not go through an allocator",
        counted(candidate.blocks, "mapping"),
        bytes(candidate.bytes),
    )];
    lines.extend(super::resident::mapped(scene));
    lines
}
