//! Blocks with one explanation in common.
//!
//! What is held is explained by the node that holds it: for each site with much
//! live memory, some of its blocks are drawn, and the deepest node that
//! dominates most of them is their holder. What nobody holds is explained by
//! whatever among it nobody else refers to.

use hashbrown::HashMap;
use pyshim_dump::heap::{Group, Member, State};

use crate::python::objects as py;
use crate::snapshot::dominators::Dominators;
use crate::snapshot::naming::Naming;
use crate::snapshot::nodes::{NO_TYPE, NONE, TypeId, bits};
use crate::snapshot::objects::Shape;
use crate::snapshot::search::{is_blocker, phase};
use crate::{epoch, live};

/// Sites whose holders are looked for.
const MOST_SITES: usize = 1024;
/// Blocks drawn of each.
const DRAWN: usize = 32;
/// Of a hundred drawn blocks, those that a holder must dominate.
const MOST_OF: usize = 75;
/// Groups of what nobody holds.
const MOST_GROUPS: usize = 256;

/// The state of each position.
pub fn states(naming: &Naming) -> Vec<State> {
    let graph = &naming.found.graph;
    let mut states = vec![State::Unknown; graph.order.len()];
    let ends = graph.phases.iter().skip(1).map(|phase| phase.0 as usize).chain([states.len()]);
    for (&(from, phase), end) in graph.phases.iter().zip(ends) {
        states[from as usize..end].fill(match phase {
            phase::PYTHON | phase::INTERPRETER => State::Python,
            phase::NATIVE | phase::STACKS => State::Native,
            _ => State::Unknown,
        });
    }
    states
}

/// A draw of blocks of one site in one state.
struct Draw {
    blocks: u64,
    bytes: u64,
    seen: u64,
    positions: Vec<u32>,
}

/// What makes a group: the holder, the state, and the site where each is a group of its own.
type Explanation = (u32, State, u32);

/// Explains what is held.
pub fn held(naming: &mut Naming, dominators: &Dominators, states: &[State]) -> Vec<Group> {
    let draws = draw(naming, states);
    let mut groups: HashMap<Explanation, (Group, u32)> = HashMap::new();
    for ((site, state), draw) in draws {
        for (holder, share) in holders(naming, dominators, &draw.positions) {
            let part = |sum: u64| (sum as f64 * share.part).round() as u64;
            let member = Member { site, blocks: part(draw.blocks), bytes: part(draw.bytes) };
            // Without a holder in common each site is a group of its own.
            let alone = if holder == NONE { site } else { 0 };
            let (group, sample) = groups
                .entry((holder, state, alone))
                .or_insert_with(|| (Group::default(), share.sample));
            group.state = state;
            group.blocks += member.blocks;
            group.bytes += member.bytes;
            if group.members.iter().all(|other| other.bytes < member.bytes) {
                group.site = site;
                group.age_ms = share.age_ms;
                *sample = share.sample;
            }
            group.members.push(member);
        }
    }
    let mut groups: Vec<(Explanation, (Group, u32))> = groups.into_iter().collect();
    groups.sort_by_key(|(key, (group, _))| (core::cmp::Reverse(group.bytes), *key));
    groups
        .into_iter()
        .map(|((holder, _, _), (mut group, sample))| {
            group.members.sort_by_key(|member| (core::cmp::Reverse(member.bytes), member.site));
            group.holder = if holder == NONE { 0 } else { naming.node(holder) };
            finish(naming, &mut group, sample, holder);
            group
        })
        .collect()
}

/// Names what leads a group.
fn finish(naming: &mut Naming, group: &mut Group, sample: u32, holder: u32) {
    group.sample = naming.node(sample);
    let node = naming.found.graph.order[sample as usize];
    let type_ = naming.world.nodes.types[node as usize];
    group.type_ = if type_ == NO_TYPE { 0 } else { u32::from(type_) + 1 };
    group.leaders = group.members.first().map_or(0, |member| member.blocks);
    let shape = shape(naming, sample, holder);
    group.shape = naming.strings.id(&shape);
    // The dict may lie above the holder: a dictionary object and its dict are one for people.
    let mut near = vec![holder];
    while let Some(&at) = near.last().filter(|&&at| at != NONE && near.len() < 4) {
        near.push(naming.found.graph.parent[at as usize]);
    }
    // Above is a root: it lies below.
    if near.last() == Some(&NONE) {
        near.push(below_holder(naming, sample, holder));
    }
    if near.iter().any(|&at| at != NONE && naming.holds_own_key(at))
        && let Some(at) = (group.holder as usize).checked_sub(1)
        && let Some(node) = naming.nodes.get_mut(at)
    {
        node.holds_own_key = true;
    }
}

/// The first dict on the way from a holder down to a block.
fn below_holder(naming: &Naming, sample: u32, holder: u32) -> u32 {
    let graph = &naming.found.graph;
    let mut first = NONE;
    let mut at = sample;
    let mut steps = 0;
    while at != NONE && at != holder && steps < 1000 {
        let node = graph.order[at as usize];
        if naming.world.nodes.has(node, bits::OBJECT)
            && naming.reader.is(naming.world.nodes.object(node), py::flags::DICT)
        {
            first = at;
        }
        at = graph.parent[at as usize];
        steps += 1;
    }
    first
}

/// Draws blocks of the sites with most live memory.
fn draw(naming: &Naming, states: &[State]) -> Vec<((u32, State), Draw)> {
    let graph = &naming.found.graph;
    let nodes = &naming.world.nodes;
    let mut sums: HashMap<(u32, State), (u64, u64)> = HashMap::new();
    let blocks = || {
        (0..naming.found.held).filter_map(|at| {
            let node = graph.order[at];
            nodes.is_own(node).then(|| (at, node, (nodes.site(node), states[at])))
        })
    };
    for (_, node, key) in blocks() {
        let sum = sums.entry(key).or_default();
        sum.0 += nodes.number(node);
        sum.1 += nodes.bytes(node);
    }
    let mut order: Vec<((u32, State), (u64, u64))> = sums.into_iter().collect();
    order.sort_by_key(|(key, sum)| (core::cmp::Reverse(sum.1), *key));
    order.truncate(MOST_SITES);
    let mut draws: HashMap<(u32, State), Draw> = order
        .iter()
        .map(|&(key, (blocks, bytes))| {
            (key, Draw { blocks, bytes, seen: 0, positions: Vec::new() })
        })
        .collect();
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    for (at, _, key) in blocks() {
        let Some(draw) = draws.get_mut(&key) else { continue };
        draw.seen += 1;
        if draw.positions.len() < DRAWN {
            draw.positions.push(at as u32);
        } else {
            // Each block has the same chance to be among the drawn.
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let place = (random % draw.seen) as usize;
            if let Some(slot) = draw.positions.get_mut(place) {
                *slot = at as u32;
            }
        }
    }
    order.into_iter().filter_map(|(key, _)| draws.remove(&key).map(|draw| (key, draw))).collect()
}

/// Dominators of a position, outermost first, itself left out unless it is alone.
fn chain(dominators: &Dominators, position: u32) -> Vec<u32> {
    let mut chain = Vec::new();
    let mut at = dominators.of(position as usize);
    while at != NONE && chain.len() < 1 << 20 {
        chain.push(at);
        at = dominators.of(at as usize);
    }
    chain.reverse();
    chain
}

/// The drawn blocks that one holder has.
struct Share {
    /// Of all drawn ones.
    part: f64,
    /// One of them.
    sample: u32,
    /// See [`Group::age_ms`].
    age_ms: u64,
}

/// Holders of the drawn blocks.
fn holders(naming: &Naming, dominators: &Dominators, drawn: &[u32]) -> Vec<(u32, Share)> {
    let chains: Vec<Vec<u32>> = drawn.iter().map(|&at| chain(dominators, at)).collect();
    let mut found = Vec::new();
    let all: Vec<usize> = (0..drawn.len()).collect();
    descend(naming, &chains, all, 0, NONE, drawn.len(), &mut found);
    found
        .into_iter()
        .filter_map(|(holder, part)| {
            let sample = drawn[*part.first()?];
            let age_ms = age_ms(naming, part.iter().map(|&at| drawn[at]));
            Some((holder, Share { part: part.len() as f64 / drawn.len() as f64, sample, age_ms }))
        })
        .collect()
}

/// The age of nine in ten of these, so far as the live table tells; at least 1.
fn age_ms(naming: &Naming, positions: impl Iterator<Item = u32>) -> u64 {
    let now = epoch::to_ms(epoch::now().epoch());
    let born = |at: u32| {
        let node = naming.found.graph.order[at as usize];
        live::born(naming.world.nodes.address(node))
    };
    let age = |epoch| now.saturating_sub(epoch::to_ms(epoch));
    let mut ages: Vec<u64> = positions.filter_map(born).map(age).collect();
    ages.sort_unstable();
    ages.get(ages.len() * 9 / 10).map_or(0, |&age| age.max(1))
}

/// Goes down from `holder`, which dominates `part`, as long as most of it stays together.
fn descend(
    naming: &Naming,
    chains: &[Vec<u32>],
    part: Vec<usize>,
    mut depth: usize,
    mut holder: u32,
    all: usize,
    found: &mut Vec<(u32, Vec<usize>)>,
) {
    let whole = part.len();
    let mut on_way = part.clone();
    let mut path = Vec::new();
    loop {
        let mut next: HashMap<u32, Vec<usize>> = HashMap::new();
        for &at in &on_way {
            if let Some(&down) = chains[at].get(depth) {
                next.entry(down).or_default().push(at);
            }
        }
        let mut next: Vec<(u32, Vec<usize>)> = next.into_iter().collect();
        next.sort_by_key(|(down, part)| (core::cmp::Reverse(part.len()), *down));
        let largest = next.first().map_or(0, |(_, part)| part.len());
        if largest * 100 >= whole * MOST_OF {
            let (down, _) = next.swap_remove(0);
            holder = down;
            path.push(down);
            depth += 1;
            on_way.retain(|&at| chains[at].get(depth - 1) == Some(&down));
            continue;
        }
        // A few that together have nearly all: each is a holder of its own.
        let few: usize = next.iter().take(3).map(|(_, part)| part.len()).sum();
        let clear = next.iter().take(3).all(|(_, part)| part.len() * 4 >= chains.len());
        if next.len() > 1 && clear && few * 100 >= whole * 90 && all == chains.len() {
            for (down, part) in next.into_iter().take(3) {
                descend(naming, chains, part, depth + 1, down, part_of(all), found);
            }
            return;
        }
        break;
    }
    found.push((settle(naming, &path, holder), part));
}

/// Only the first branching counts.
fn part_of(all: usize) -> usize {
    all + 1
}

/// The holder that a person would name: of a chain of equal ones what holds the first, and an object
/// rather than a block of its own.
fn settle(naming: &Naming, path: &[u32], holder: u32) -> u32 {
    let nodes = &naming.world.nodes;
    let graph = &naming.found.graph;
    let object = |at: u32| nodes.has(graph.order[at as usize], bits::OBJECT);
    // Objects are alike by their type, blocks by their site.
    let kind = |at: u32| {
        let node = graph.order[at as usize];
        match object(at) {
            true => (true, u32::from(nodes.types[node as usize])),
            false => (false, nodes.kind(node)),
        }
    };
    let kinds: Vec<(bool, u32)> = path.iter().map(|&at| kind(at)).collect();
    let mut end = path.len();
    for period in 1..=6 {
        let mut run = 0;
        while run + period < kinds.len()
            && kinds[kinds.len() - 1 - run] == kinds[kinds.len() - 1 - run - period]
        {
            run += 1;
        }
        if run >= 3 * period && run + period >= 6 {
            end = (kinds.len() - run - period).max(1);
            break;
        }
    }
    let path = &path[..end];
    // A block behind the last object is the object's own storage, unless native code holds it.
    let behind = path.iter().rev().take_while(|&&at| !object(at)).count();
    match path.iter().rev().find(|&&at| object(at)) {
        Some(&last) if behind <= 3 => last,
        _ => path.last().copied().unwrap_or(holder),
    }
}

/// The types on the way from a holder to a block: `[str] → list → dict`.
fn shape(naming: &Naming, sample: u32, holder: u32) -> String {
    let graph = &naming.found.graph;
    let nodes = &naming.world.nodes;
    let mut parts: Vec<String> = Vec::new();
    let mut at = sample;
    let mut steps = 0;
    while at != NONE && at != holder && steps < 10_000 {
        let node = graph.order[at as usize];
        if nodes.has(node, bits::OBJECT) {
            let type_ = naming.reader.type_of(nodes.object(node));
            let name = naming.reader.type_name(type_);
            if parts.last() != Some(&name) {
                parts.push(name);
            }
        }
        at = graph.parent[at as usize];
        steps += 1;
    }
    if at == holder && holder != NONE && !parts.is_empty() {
        let node = graph.order[holder as usize];
        if nodes.has(node, bits::OBJECT) {
            let holder = nodes.object(node);
            if naming.reader.is(holder, py::flags::DICT) {
                let mut key = None;
                naming.reader.dict(holder, |one, _| {
                    key = Some(naming.reader.type_name(naming.reader.type_of(one)));
                    false
                });
                parts.push(format!("[{}]", key.unwrap_or_default()));
            } else if naming.reader.is(holder, py::flags::LIST | py::flags::TUPLE) {
                parts.push("[…]".to_owned());
            }
        }
    }
    parts.reverse();
    if parts.len() > 8 {
        let end = parts.len() - 4;
        parts.splice(3..end, ["…".to_owned()]);
    }
    parts.join(" → ")
}

/// What leads a group of blocks that nobody holds.
struct Lead {
    state: State,
    node: u32,
    counted: u64,
    found: u64,
}

/// Explains what nobody holds, and says so in `states`.
pub fn unheld(naming: &mut Naming, states: &mut [State]) -> Vec<Group> {
    let leads = leads(naming);
    let held = naming.found.held;
    let graph = &naming.found.graph;
    let nodes = &naming.world.nodes;
    // The group of each position beyond `held`.
    let mut owner = vec![NONE; graph.order.len() - held];
    let mut groups: Vec<(Group, u32, HashMap<u32, Member>)> = Vec::new();
    let mut known: HashMap<(u32, State, TypeId), u32> = HashMap::new();
    let mut queue = Vec::new();
    for lead in leads {
        let position = graph.position[lead.node as usize];
        if owner[position as usize - held] != NONE {
            continue;
        }
        let type_ = nodes.types[lead.node as usize];
        let site = nodes.site(lead.node);
        let group = *known.entry((site, lead.state, type_)).or_insert_with(|| {
            let group = Group {
                state: lead.state,
                site,
                type_: if type_ == NO_TYPE { 0 } else { u32::from(type_) + 1 },
                counted: lead.counted,
                found: lead.found,
                ..Group::default()
            };
            groups.push((group, position, HashMap::new()));
            groups.len() as u32 - 1
        });
        groups[group as usize].0.leaders += nodes.number(lead.node);
        owner[position as usize - held] = group;
        queue.push(position);
        while let Some(at) = queue.pop() {
            let node = graph.order[at as usize];
            let (group, _, members) = &mut groups[group as usize];
            if nodes.is_own(node) {
                let site = nodes.site(node);
                let member = members.entry(site).or_insert(Member { site, ..Member::default() });
                member.blocks += nodes.number(node);
                member.bytes += nodes.bytes(node);
            }
            states[at as usize] = group.state;
            if group.state == State::Cyclic
                && group.blocker == 0
                && !nodes.has(node, bits::GARBAGE)
                && nodes.has(node, bits::OBJECT)
                && blocks(naming, node)
            {
                group.blocker = u32::from(nodes.types[node as usize]) + 1;
            }
            let told = graph.targets(at);
            let untold = match group.state {
                State::Cyclic if !nodes.has(node, bits::GARBAGE) => untold(naming, node),
                _ => Vec::new(),
            };
            for &to in told.iter().chain(&untold) {
                let to = graph.position[to as usize];
                if to == NONE || (to as usize) < held {
                    continue;
                }
                let slot = &mut owner[to as usize - held];
                if *slot == NONE {
                    *slot = owner_of(&known, site, lead.state, type_);
                    queue.push(to);
                }
            }
        }
    }
    let mut done: Vec<(Group, u32)> = groups
        .into_iter()
        .map(|(mut group, sample, members)| {
            group.members = members.into_values().collect();
            group.members.sort_by_key(|member| (core::cmp::Reverse(member.bytes), member.site));
            group.blocks = group.members.iter().map(|member| member.blocks).sum();
            group.bytes = group.members.iter().map(|member| member.bytes).sum();
            // What the collector would take anyway has no type in its way.
            if group.state == State::Cyclic
                && naming.world.nodes.has(naming.found.graph.order[sample as usize], bits::GARBAGE)
            {
                group.blocker = 0;
            }
            (group, sample)
        })
        .collect();
    // (What a forked process was forked with is its parent's to tell.)
    done.retain(|(group, _)| group.blocks > 0);
    done.sort_by_key(|(group, sample)| (core::cmp::Reverse(group.bytes), *sample));
    done.truncate(MOST_GROUPS);
    done.into_iter()
        .map(|(mut group, sample)| {
            group.sample = naming.node(sample);
            group
        })
        .collect()
}

fn owner_of(
    known: &HashMap<(u32, State, TypeId), u32>,
    site: u32,
    state: State,
    type_: TypeId,
) -> u32 {
    known.get(&(site, state, type_)).copied().unwrap_or(NONE)
}

/// In the order in which they explain: what nobody refers to, then what is miscounted, then rings.
fn leads(naming: &Naming) -> Vec<Lead> {
    let held = naming.found.held;
    let graph = &naming.found.graph;
    let nodes = &naming.world.nodes;
    let mut referred = vec![false; graph.order.len() - held];
    for at in held..graph.order.len() {
        for &to in graph.targets(at as u32) {
            let to = graph.position[to as usize];
            if to != NONE && to as usize >= held && to as usize != at {
                referred[to as usize - held] = true;
            }
        }
    }
    let rest: Vec<u32> = graph.order[held..].to_vec();
    let mut leads = Vec::new();
    let lead = |state, node| Lead { state, node, counted: 0, found: 0 };
    let alone = |at: usize| !referred[at];
    for (at, &node) in rest.iter().enumerate() {
        if alone(at) && nodes.is_block(node) && !nodes.has(node, bits::OBJECT) {
            leads.push(lead(State::Leaked, node));
        }
    }
    // Those to which nothing refers first: they hold the others.
    for first in [true, false] {
        for (at, &node) in rest.iter().enumerate() {
            if alone(at) != first
                || !nodes.has(node, bits::OBJECT)
                || nodes.has(node, bits::GARBAGE)
            {
                continue;
            }
            let word = naming.world.map.read::<u64>(nodes.object(node) + py::REFCOUNT).unwrap_or(0);
            let found = u64::from(graph.found[node as usize]);
            match naming.world.types.count(word) {
                Some(0) => leads.push(lead(State::Parked, node)),
                Some(counted) if counted > found && found < u64::from(u8::MAX) => {
                    leads.push(Lead { state: State::Miscounted, node, counted, found });
                }
                _ => {}
            }
        }
    }
    // Of a ring the one leads that people made: what keeps it from being collected, an instance of
    // a class, a function or a generator, another container; text and numbers last.
    let mut rings: Vec<(u8, bool, u32)> = rest
        .iter()
        .filter(|&&node| nodes.has(node, bits::OBJECT))
        .map(|&node| (rank(naming, node), nodes.has(node, bits::GARBAGE), node))
        .collect();
    rings.sort_by_key(|&(rank, garbage, node)| (!garbage, rank, node));
    leads.extend(rings.into_iter().map(|(_, _, node)| lead(State::Cyclic, node)));
    for &node in &rest {
        if nodes.is_block(node) && !nodes.has(node, bits::OBJECT) {
            leads.push(lead(State::Leaked, node));
        }
    }
    leads
}

/// How well an object stands for a ring that it is in; less is better.
fn rank(naming: &Naming, node: u32) -> u8 {
    let nodes = &naming.world.nodes;
    let Some(info) = naming.world.types.list.get(nodes.types[node as usize] as usize) else {
        return 9;
    };
    if nodes.has(node, bits::LEAF) || info.shape == Shape::Text {
        8
    } else if !nodes.has(node, bits::GARBAGE) && blocks(naming, node) {
        0
    } else if info.flags & py::flags::HEAP_TYPE != 0 {
        1
    } else if info.shape == Shape::Type {
        2
    } else if info.flags & (py::flags::DICT | py::flags::LIST | py::flags::TUPLE) == 0 {
        // Functions before their cells, frames before what they hold.
        if naming.reader.type_name(info.address) == "cell" { 4 } else { 3 }
    } else {
        5
    }
}

/// Whether an object keeps a ring from being collected: it refers to others, but either its type
/// takes no part in garbage collection, or its traverse function does not tell.
fn blocks(naming: &Naming, node: u32) -> bool {
    is_blocker(naming.world, node) || !untold(naming, node).is_empty()
}

/// Objects whose addresses lie in a container although its traverse function does not name them.
/// Only among those that nobody holds.
fn untold(naming: &Naming, node: u32) -> Vec<u32> {
    let nodes = &naming.world.nodes;
    let graph = &naming.found.graph;
    // (A finished frame has on its stack what nobody cleared.)
    let shape = naming.world.types.list.get(nodes.types[node as usize] as usize);
    if !nodes.has(node, bits::CONTAINER)
        || !nodes.is_block(node)
        || shape.is_none_or(|info| info.shape == Shape::Frame)
    {
        return Vec::new();
    }
    let told = graph.targets(graph.position[node as usize]);
    let end = nodes.address(node) + nodes.len(node);
    (nodes.object(node) + 16..end.saturating_sub(7))
        .step_by(8)
        .filter_map(|at| nodes.object_at(naming.world.map.read::<usize>(at).unwrap_or(0)))
        .filter(|&other| {
            let at = graph.position[other as usize];
            other != node
                && at != NONE
                && at as usize >= naming.found.held
                && !told.contains(&other)
        })
        .collect()
}
