//! What one full collection would find unreachable, by the collector's own
//! reckoning: objects all of whose counted references come from each other.
//!
//! The same reckoning tells which objects are accounted for: all references that
//! they count come from objects that the collector tracks. Any other word that
//! leads to one is borrowed or stale, and holds nothing.

use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::python::objects as py;
use crate::snapshot::fault;
use crate::snapshot::graph::World;
use crate::snapshot::nodes::bits;
use crate::snapshot::objects::AHEAD;

/// Marks the garbage among the objects that the collector tracks. Returns how many there are.
pub fn mark(world: &mut World) -> u64 {
    let tracked: Vec<u32> = (0..world.nodes.count())
        .filter(|&node| {
            world.nodes.has(node, bits::TRACKED)
                && !world.nodes.has(node, bits::PARKED)
                && !world.is_static_type(node)
        })
        .collect();
    // References that do not come from tracked objects; an immortal one has no end of them.
    let mut outside: Vec<i32> = vec![i32::MAX; world.nodes.count() as usize];
    for node in (0..world.nodes.count()).filter(|&node| world.nodes.has(node, bits::OBJECT)) {
        world.nodes.prefetch(node + AHEAD);
        let word = world.map.read::<u64>(world.nodes.object(node) + py::REFCOUNT).unwrap_or(0);
        if let Some(count) = world.types.count(word) {
            outside[node as usize] = count as i32;
        }
    }
    each(world, &tracked, |world, node| {
        let outside = &mut outside;
        world.traverse(node, &mut |address| {
            if let Some(other) = world.nodes.object_at(address) {
                let left = &mut outside[other as usize];
                if *left != i32::MAX {
                    *left -= 1;
                }
            }
        });
    });
    for (node, &left) in outside.iter().enumerate() {
        if left <= 0 {
            world.accounted.add(node);
        }
    }
    // What is referred to from elsewhere lives, and so does what it leads to.
    let alive = |left: i32| left > 0;
    let mut queue: Vec<u32> =
        tracked.iter().copied().filter(|&node| alive(outside[node as usize])).collect();
    let mut living = vec![false; world.nodes.count() as usize];
    queue.iter().for_each(|&node| living[node as usize] = true);
    while !queue.is_empty() {
        let batch = core::mem::take(&mut queue);
        each(world, &batch, |world, node| {
            let (queue, living) = (&mut queue, &mut living);
            world.traverse(node, &mut |address| {
                if let Some(other) = world.nodes.object_at(address) {
                    let lives = &mut living[other as usize];
                    if !*lives && world.nodes.has(other, bits::TRACKED) {
                        *lives = true;
                        queue.push(other);
                    }
                }
            });
        });
    }
    let mut garbage = 0;
    for &node in &tracked {
        if !living[node as usize] {
            world.nodes.bits[node as usize] |= bits::GARBAGE;
            garbage += 1;
        }
    }
    garbage
}

/// Calls `work` for each node; one at which a fault happens is left where it was.
fn each(world: &mut World, nodes: &[u32], mut work: impl FnMut(&World, u32)) {
    // An atomic, so that it stands in memory and not in a register when a fault happens.
    let at = AtomicUsize::new(0);
    while at.load(Relaxed) < nodes.len() {
        let fine = fault::protect(|| {
            while let Some(&node) = nodes.get(at.load(Relaxed)) {
                if let Some(&soon) = nodes.get(at.load(Relaxed) + AHEAD as usize) {
                    world.nodes.prefetch(soon);
                }
                work(world, node);
                at.fetch_add(1, Relaxed);
            }
        });
        if !fine {
            at.fetch_add(1, Relaxed);
        }
    }
}
