//! Retained sizes: what would go with each position.

use hashbrown::HashMap;

use crate::snapshot::dominators::Dominators;
use crate::snapshot::graph::World;
use crate::snapshot::nodes::NONE;
use crate::snapshot::search::Found;

/// Bytes that hang from each position.
pub struct Retained {
    bytes: Vec<u32>,
    /// Those that 32 bits do not hold.
    large: HashMap<u32, u64>,
}

impl Retained {
    /// Adds up what is held.
    pub fn of(found: &Found, dominators: &Dominators, world: &World) -> Retained {
        let mut sums = Retained { bytes: vec![0; found.held], large: HashMap::new() };
        // What dominates a position lies on the way on which it was reached first, so before it.
        for at in (0..found.held).rev() {
            sums.add(at, world.nodes.bytes(found.graph.order[at]));
            let up = dominators.of(at);
            if let (true, Some(bytes)) = (up != NONE, sums.get(at)) {
                sums.add(up as usize, bytes);
            }
        }
        sums
    }

    fn add(&mut self, at: usize, bytes: u64) {
        let sum = self.get(at).unwrap_or(0) + bytes;
        self.bytes[at] = u32::try_from(sum).unwrap_or(u32::MAX);
        if sum >= u32::MAX.into() {
            self.large.insert(at as u32, sum);
        }
    }

    /// Of a position, if it is held.
    pub fn get(&self, at: usize) -> Option<u64> {
        Some(match *self.bytes.get(at)? {
            u32::MAX => self.large.get(&(at as u32)).copied().unwrap_or(u32::MAX.into()),
            bytes => bytes.into(),
        })
    }
}

/// How many blocks and objects hang from each position that is held, itself included; of a forked
/// process without those that its parent allocated.
pub fn counts(found: &Found, dominators: &Dominators, world: &World) -> Vec<u32> {
    let held = found.graph.order.iter().take(dominators.count());
    let own = |&node: &u32| u32::try_from(world.nodes.number(node)).unwrap_or(u32::MAX);
    let mut counts: Vec<u32> = held.map(own).collect();
    for at in (0..counts.len()).rev() {
        let up = dominators.of(at);
        if up != NONE {
            counts[up as usize] = counts[up as usize].saturating_add(counts[at]);
        }
    }
    counts
}
