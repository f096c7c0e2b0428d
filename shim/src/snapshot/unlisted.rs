//! What the live table does not list: where only some blocks were drawn, or some were lost.
//!
//! Objects that the collector tracks are found by its own lists, and what these refer to by their traverse
//! functions; so paths from roots lead through objects that were not drawn to blocks that were. What is left of the heap is
//! memory of which nobody knows whose it is: native code's, rooms of lists, what was freed. A block to
//! which a word there leads has somebody who knows it, or had: of such a one nothing is said.

use crate::python::objects::{self as py, Objects};
use crate::snapshot::graph::{Bits, Graph, World};
use crate::snapshot::inputs::Inputs;
use crate::snapshot::memory::{Backing, Map};
use crate::snapshot::nodes::{Extra, NONE, Nodes, bits};
use crate::snapshot::search::{Found, Root, phase};

/// The memory in which blocks may lie, by its ranges, in order: without a file, private, and nobody's data or
/// stack.
pub fn heap(map: &Map, inputs: &Inputs) -> Vec<(usize, usize)> {
    let mut ranges = Vec::new();
    for (at, region) in map.regions.iter().enumerate() {
        let start = match map.image_part(at) {
            Some((_, end)) => end,
            None => region.start,
        };
        let is_stack = |start| {
            let mut threads = inputs.threads.iter();
            threads.any(|thread| (start..region.end).contains(&thread.stack))
        };
        if region.readable
            && region.writable
            && !region.shared
            && matches!(region.backing, Backing::Anonymous | Backing::Brk)
            && start < region.end
            && !is_stack(start)
        {
            ranges.extend(inputs.without_shim(start, region.end));
        }
    }
    ranges
}

/// Enters the objects that the collector of the interpreter tracks, whose state is at `gc`.
pub fn enter_tracked(world: &mut World, layout: &Objects, gc: usize) {
    let lists = (0..3).map(|at| gc + layout.gc_generations as usize + at * py::GENERATION);
    for head in lists.chain([gc + layout.gc_permanent as usize]) {
        let follow = |at: usize| world.map.read::<usize>(at).map(|it| it & !layout.next_flags());
        let (mut at, mut all) = (head, Vec::new());
        // Each one's link back proves that this is a list.
        while let Some(next) = follow(at).filter(|&next| next != head && next != 0)
            && world.map.read::<usize>(next + 8).is_some_and(|back| back & !3 == at)
            && all.len() < MOST_TRACKED
        {
            all.push(next + py::GC_HEAD);
            at = next;
        }
        for object in all {
            world.object(object);
        }
    }
}

const MOST_TRACKED: usize = 1 << 26;

/// What objects that nobody holds so far lead to, and what that leads to. Many of these words lie in rooms of
/// lists and dicts, which are not listed either: found there, they say nothing. Whoever knows the object
/// that has the room leads on.
pub fn named(found: &Found, world: &mut World) -> Bits {
    let mut graph = Graph::new(world.nodes);
    // What is held is not looked at.
    graph.position.clone_from(&found.graph.position);
    for node in 0..world.nodes.count() {
        if world.nodes.has(node, bits::OBJECT) && !world.nodes.has(node, bits::PARKED) {
            graph.reach(node, NONE, phase::NOBODY);
        }
    }
    graph.run(world, phase::NOBODY, true);
    let mut named = Bits::default();
    for (at, &node) in (0..).zip(&graph.order) {
        let others = graph.targets(at).iter().filter(|&&other| other != node);
        others.for_each(|&other| named.add(other as usize));
    }
    named
}

/// Searches what is left of the heap.
pub fn search(found: &mut Found, world: &mut World) {
    let known = Known::of(world.nodes);
    for (from, to) in world.heap.clone() {
        let node = world.nodes.add(Extra { address: from, len: to - from });
        found.graph.gaps.insert(node, known.gaps(world.nodes, from, to));
        found.graph.reach(node, NONE, phase::UNLISTED);
        found.roots.insert(node, Root::Mapping(0));
    }
}

/// Where what is known lies.
struct Known {
    /// Objects that are no listed blocks: first address, and the one after the last. In order.
    objects: Vec<(usize, usize)>,
}

impl Known {
    fn of(nodes: &Nodes) -> Known {
        let mut objects: Vec<_> =
            nodes.unlisted().map(|it| (it.address, it.address + it.len)).collect();
        objects.sort_unstable();
        Known { objects }
    }

    /// What of a range is neither a block nor an object.
    fn gaps(&self, nodes: &Nodes, from: usize, to: usize) -> Vec<(usize, usize)> {
        let first = self.objects.partition_point(|it| it.1 <= from);
        let mut objects =
            self.objects[first..].iter().copied().take_while(|it| it.0 < to).peekable();
        let mut blocks = nodes
            .blocks_in(from, to)
            .map(|it| (nodes.address(it), nodes.address(it) + nodes.len(it)))
            .peekable();
        let (mut at, mut gaps) = (from, Vec::new());
        loop {
            let next = match (objects.peek(), blocks.peek()) {
                (Some(object), Some(block)) if object < block => objects.next(),
                (_, Some(_)) => blocks.next(),
                _ => objects.next(),
            };
            let Some((start, end)) = next else { break };
            if at < start {
                gaps.push((at, start));
            }
            at = at.max(end);
        }
        if at < to {
            gaps.push((at, to));
        }
        gaps
    }
}
