//! Much is allocated, and almost nothing survives.
//!
//! How long blocks live follows from how many there are and how fast they come
//! (Little's law): mean live bytes, divided by bytes allocated a second.

use std::collections::HashMap;

use crate::analyze::course::Weight;
use crate::analyze::report::Rate;
use crate::analyze::stacks::LocationId;
use crate::units::{bytes, count, counted, milliseconds, nanoseconds};

use super::cause::{Cause, Confidence, Kind};
use super::places::Places;
use super::scene::Scene;
use super::words;

/// Bytes a second below which nobody feels it.
const FAST: f64 = (96u64 << 20) as f64;
/// Blocks that live longer than this are work, not churn.
const SHORT_S: f64 = 0.020;
/// Sites with most allocated bytes that are looked at.
const LOOKED_AT: usize = 512;

/// Sites of one line.
#[derive(Default)]
struct Line {
    sites: Vec<u32>,
    allocated: u64,
    blocks: u64,
    live: u64,
}

/// The line that allocates most, if that is much and does not survive.
pub fn cause(scene: &Scene, places: &mut Places) -> Option<Cause> {
    let mut sites: Vec<(u32, u64)> = (0u32..)
        .zip(&scene.dump.sites)
        .map(|(id, site)| (id, site.totals.allocated.bytes))
        .filter(|&(id, allocated)| allocated > 0 && !scene.is_mapping(id))
        .collect();
    sites.sort_by_key(|&(id, allocated)| (std::cmp::Reverse(allocated), id));
    sites.truncate(LOOKED_AT);
    let mut lines: HashMap<Option<LocationId>, Line> = HashMap::new();
    for &(id, allocated) in &sites {
        let line = lines.entry(places.line(scene.at, id)).or_default();
        line.sites.push(id);
        line.allocated = line.allocated.saturating_add(allocated);
        let site = scene.dump.sites.get(id as usize)?;
        line.blocks = line.blocks.saturating_add(site.totals.allocated.blocks);
        line.live = line.live.saturating_add(scene.last(id).bytes);
    }
    let line = lines.into_values().max_by_key(|it| (it.allocated, it.sites.first().copied()))?;
    let per_second = line.allocated as f64 / scene.run_s();
    let weight = |&site: &u32| Weight { site, course: 0, part: 1.0 };
    let weights: Vec<Weight> = line.sites.iter().map(weight).collect();
    let course = scene.courses(&weights, 1).into_iter().next()?;
    let mean = course.bytes.iter().sum::<f64>() / course.bytes.len().max(1) as f64;
    let life_s = mean / per_second;
    if per_second < FAST || life_s > SHORT_S || line.live > line.allocated / 100 {
        return None;
    }
    let site = *line.sites.first()?;
    let mut cause = Cause {
        kind: Kind::Churn,
        confidence: Confidence::Likely,
        bytes: line.live,
        growth: Rate { per_second, error: 0.0 },
        site: Some(places.site(scene.at, site)),
        ..Cause::default()
    };
    cause.evidence.push(format!(
        "{} allocated in {}, {} a second; {} of it are live",
        bytes(line.allocated),
        counted(line.blocks, "block"),
        bytes(per_second as u64),
        bytes(line.live),
    ));
    cause.evidence.push(match life_s {
        life if life >= 0.001 => {
            format!("a block lives {} on average", nanoseconds((life * 1e9) as u64))
        }
        life => format!("a block lives {} µs on average", count((life * 1e6) as u64)),
    });
    let run = milliseconds(scene.times.end_ms());
    cause.evidence.push(format!("live memory does not grow over {run}: nothing leaks here"));
    cause.advice = "not a leak: make fewer temporary objects here, reuse them, or let something keep what a cache is to find again".into();
    cause.tools = words::tools(&cause);
    Some(cause)
}
