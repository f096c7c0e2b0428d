//! Which words of objects are addresses of memory that is no object, and which
//! only look like it.
//!
//! An object's memory is searched word by word, and not all of its words are
//! fields: room at its end that nothing uses, digits, bytecode. What was left
//! there of the memory's life before may lead to a native block, which then
//! would look held. Objects of one type tell: the same place of all of them is
//! an address of native memory, or is not. Where most are objects, memory that
//! was freed, or numbers, one that leads to a native block is stale.

use hashbrown::HashMap;
use pyshim_dump::record::Origin;

use crate::python::objects as py;
use crate::snapshot::graph::World;
use crate::snapshot::inputs::Inputs;
use crate::snapshot::nodes::{Nodes, TypeId, bits};

/// What is known of the places of objects so far.
pub struct Fields<'a> {
    /// By type and offset: stale or not.
    known: HashMap<(TypeId, usize), bool>,
    /// pymalloc's arenas: what lies there and is no block was freed.
    arenas: &'a [(usize, usize)],
}

/// Fewer words than this say nothing.
const FEW: u32 = 8;
/// A place is stale if so many times more words are something else.
const TIMES: u32 = 3;
/// Words at the end of an object of variable size that are looked at.
const TAIL: usize = 32;

impl<'a> Fields<'a> {
    /// Nothing looked at yet.
    pub fn new(inputs: &'a Inputs) -> Fields<'a> {
        Fields { known: HashMap::new(), arenas: &inputs.arenas }
    }
}

/// Whether the word at `address` in the object `from`, which leads to the block `to`, is stale.
pub fn is_stale(world: &mut World, from: u32, address: usize, to: u32) -> bool {
    if world.nodes.has(to, bits::OBJECT) {
        return false;
    }
    let type_ = world.nodes.types[from as usize];
    let Some(info) = world.types.list.get(type_ as usize) else { return false };
    // Behind the fields of the type all words are alike.
    let size = world.map.read::<usize>(info.address + py::TYPE_BASICSIZE).unwrap_or(0);
    let Some(offset) = address.checked_sub(world.nodes.object(from)) else { return false };
    let offset = offset.min(size.max(16));
    if let Some(&known) = world.fields.known.get(&(type_, offset)) {
        return known;
    }
    let found = look(world, type_, offset, offset == size.max(16));
    world.fields.known.insert((type_, offset), found);
    found
}

/// Whether a block came from native code, and is not Python's own.
pub fn is_native(nodes: &Nodes, block: u32) -> bool {
    nodes.origin(block) == Some(Origin::Native)
}

fn look(world: &World, type_: TypeId, offset: usize, tail: bool) -> bool {
    let Some(samples) = world.types.samples.get(type_ as usize) else { return false };
    let (mut blocks, mut other) = (0u32, 0u32);
    for &node in samples {
        let at = world.nodes.object(node);
        let end = world.nodes.address(node) + world.nodes.len(node);
        for word in 0..if tail { TAIL } else { 1 } {
            let place = at.wrapping_add(offset) + word * 8;
            if place + 8 > end {
                break;
            }
            match world.map.read::<usize>(place & !7).map_or(Word::Neither, |it| word_of(world, it))
            {
                Word::Block => blocks += 1,
                Word::Other => other += 1,
                Word::Neither => {}
            }
        }
    }
    other >= FEW && other > blocks * TIMES
}

enum Word {
    /// The address of a block that is no object.
    Block,
    /// An object, something that was freed, or no address.
    Other,
    /// Nothing, or an address of other memory.
    Neither,
}

fn word_of(world: &World, word: usize) -> Word {
    if word == 0 {
        return Word::Neither;
    }
    if let Some(block) = world.nodes.block_at(word) {
        return match world.nodes.has(block, bits::OBJECT) {
            true if world.nodes.object(block) == word => Word::Other,
            false if !world.nodes.has(block, bits::OBJECT) => Word::Block,
            _ => Word::Neither,
        };
    }
    let arenas = world.fields.arenas;
    let after = arenas.partition_point(|arena| arena.0 <= word);
    let freed = after.checked_sub(1).is_some_and(|at| word < arenas[at].1);
    if freed || world.map.find(word).is_none() { Word::Other } else { Word::Neither }
}
