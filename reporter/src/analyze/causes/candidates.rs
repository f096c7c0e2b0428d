//! What may be a cause: sets of blocks with one explanation that grow.
//!
//! A set's growth is the sum over its sites of the site's growth times the part
//! of the site's live bytes that is in the set. What no group of the snapshot
//! names is taken by its place in the program.

use std::collections::HashMap;

use pyshim_dump::heap::{Group, Heap, Member, State};

use crate::analyze::course::{Course, Weight};
use crate::analyze::growth::{NONE, Trend, trends};
use crate::analyze::holders::{Holder, Holders};
use crate::analyze::stacks::LocationId;

use super::everywhere;
use super::places::{Place, Places};
use super::scene::Scene;

/// Growth below this is not looked at by itself.
const LITTLE: u64 = 4 << 10;

/// A set of blocks that grows.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// How its blocks are held.
    pub state: State,
    /// They are address space.
    pub mapping: bool,
    /// The group of the snapshot that leads, by position.
    pub group: Option<usize>,
    /// The node that holds all, plus one; 0: none.
    pub holder: u32,
    /// Words for who holds it.
    pub held: Option<Holder>,
    /// The site that leads.
    pub site: u32,
    /// The type that leads, plus one; 0: no object.
    pub type_: u32,
    /// Its place in the program.
    pub place: Place,
    /// Blocks by site.
    pub members: Vec<Member>,
    /// Blocks that lead.
    pub leaders: u64,
    /// All blocks.
    pub blocks: u64,
    /// All bytes.
    pub bytes: u64,
    /// Its bytes over time.
    pub course: Course,
    /// The growth of these.
    pub trend: Trend,
    /// Its sites are ever new ones; this line is what their stacks have in common.
    pub common: Option<LocationId>,
}

impl Candidate {
    /// The group that leads.
    pub fn group<'h>(&self, heap: &'h Heap) -> Option<&'h Group> {
        heap.groups.get(self.group?)
    }
}

/// All of a process, fastest first.
pub fn candidates(scene: &Scene, places: &mut Places) -> Vec<Candidate> {
    let groups = scene.heap.map_or(&[][..], |heap| &heap.groups);
    let mut found: Vec<Candidate> =
        groups.iter().enumerate().map(|(at, group)| of_group(at, group)).collect();
    found.extend(rest(scene, places));
    let mut weights = Vec::new();
    for (course, candidate) in found.iter().enumerate() {
        weights.extend(candidate.members.iter().map(|member| Weight {
            site: member.site,
            course,
            part: match candidate.mapping {
                true => 1.0,
                false => scene.part(member.site, member.bytes),
            },
        }));
    }
    let courses = scene.courses(&weights, found.len());
    for (candidate, course) in found.iter_mut().zip(courses) {
        candidate.trend = course.trend();
        candidate.course = course;
    }
    found.retain(|it| it.trend.rises() && it.trend.goes_on);
    for candidate in &mut found {
        candidate.place = places.place(scene.at, candidate.site);
        candidate.held = words(scene, places, candidate);
    }
    found.extend(everywhere::candidate(scene, places, &found));
    found.sort_by(|a, b| b.trend.slope.total_cmp(&a.trend.slope).then(a.site.cmp(&b.site)));
    found
}

/// Words for who holds it.
pub fn words(scene: &Scene, places: &mut Places, candidate: &Candidate) -> Option<Holder> {
    let heap = scene.heap?;
    let group = candidate.group(heap)?;
    let mut holders = Holders { dump: scene.dump, heap, symbols: places.symbols };
    match group.state {
        State::Python | State::Native => {
            let holder = if candidate.common.is_some() { 0 } else { group.holder };
            holders.describe(holder, group.sample)
        }
        _ => None,
    }
}

fn of_group(at: usize, group: &Group) -> Candidate {
    Candidate {
        state: group.state,
        mapping: false,
        group: Some(at),
        holder: group.holder,
        held: None,
        site: group.site,
        type_: group.type_,
        place: (None, None),
        members: group.members.clone(),
        leaders: group.leaders,
        blocks: group.blocks,
        bytes: group.bytes,
        course: Course::default(),
        trend: Trend::default(),
        common: None,
    }
}

/// What grows and is in no group, by place and state.
fn rest(scene: &Scene, places: &mut Places) -> Vec<Candidate> {
    let count = scene.dump.sites.len();
    // First all that is of one place together: many small sites may be one that grows.
    let mut keys: HashMap<(Place, bool), u32> = HashMap::new();
    let mut entity_of = vec![NONE; count];
    for (site, slot) in entity_of.iter_mut().enumerate() {
        let site = site as u32;
        if scene.last(site).bytes > 0 {
            let key = (places.place(scene.at, site), scene.is_mapping(site));
            let next = keys.len() as u32;
            *slot = *keys.entry(key).or_insert(next);
        }
    }
    let bytes = |site| scene.last(site as u32).bytes;
    let rising: Vec<bool> = trends(scene.dump, &scene.times, &entity_of, keys.len(), bytes)
        .iter()
        .map(|trend| {
            trend.rises() && trend.goes_on && trend.slope * scene.window_s() > LITTLE as f64
        })
        .collect();
    let rises = |site: u32| {
        let entity = entity_of.get(site as usize).copied().unwrap_or(NONE);
        rising.get(entity as usize).copied().unwrap_or(false)
    };
    let mut out: HashMap<(u32, State), Candidate> = HashMap::new();
    let mut order = Vec::new();
    let mut add = |site: u32, state: State, blocks: u64, bytes: u64| {
        let Some(&entity) = entity_of.get(site as usize) else { return };
        let candidate = out.entry((entity, state)).or_insert_with(|| {
            order.push((entity, state));
            let mapping = scene.is_mapping(site);
            let group = Group { state, site, ..Group::default() };
            Candidate { group: None, mapping, ..of_group(0, &group) }
        });
        candidate.members.push(Member { site, blocks, bytes });
        candidate.blocks = candidate.blocks.saturating_add(blocks);
        candidate.leaders = candidate.blocks;
        candidate.bytes = candidate.bytes.saturating_add(bytes);
    };
    let mut named: HashMap<(u32, State), (u64, u64)> = HashMap::new();
    for group in scene.heap.iter().flat_map(|heap| &heap.groups) {
        for member in &group.members {
            let sum = named.entry((member.site, group.state)).or_default();
            *sum = (sum.0.saturating_add(member.blocks), sum.1.saturating_add(member.bytes));
        }
    }
    for one in scene.heap.iter().flat_map(|heap| &heap.sites) {
        let (blocks, bytes) = named.get(&(one.site, one.state)).copied().unwrap_or_default();
        let left = one.bytes.saturating_sub(bytes);
        if rises(one.site) && left > one.bytes / 50 && !scene.is_mapping(one.site) {
            add(one.site, one.state, one.blocks.saturating_sub(blocks).max(1), left);
        }
    }
    for site in (0..count as u32).filter(|&site| rises(site)) {
        if !scene.found.contains_key(&site) || scene.is_mapping(site) {
            let live = scene.last(site);
            add(site, State::Unknown, live.blocks, live.bytes);
        }
    }
    let take = |key: (u32, State)| {
        let mut candidate = out.remove(&key)?;
        candidate.members.sort_by_key(|it| (std::cmp::Reverse(it.bytes), it.site));
        candidate.site = candidate.members.first().map_or(0, |member| member.site);
        Some(candidate)
    };
    order.into_iter().filter_map(take).collect()
}
