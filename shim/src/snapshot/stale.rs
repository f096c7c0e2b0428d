//! Words of containers that look like references and are none, taken out of the way.
//!
//! The copy may write into the program's memory: it is its own. What is cleared here are words
//! that happen to be the address of a block, in memory that belongs to one container.

use core::ops::Range;

use crate::python::objects::{self as py, DictKeys};
use crate::snapshot::graph::{Graph, World};
use crate::snapshot::nodes::bits;
use crate::snapshot::objects::Shape;

/// Clears what is stale in the memory of a container that is about to be searched.
pub fn clear(graph: &Graph, world: &World, shape: Shape, object: usize) {
    match shape {
        Shape::List => list(graph, world, object),
        Shape::Dict => dict(graph, world, object),
        Shape::Set => set(world, object),
        _ => {}
    }
}

/// A list's items lie in a block of their own, of which the part behind the last item is stale.
fn list(graph: &Graph, world: &World, object: usize) {
    let size = world.map.read::<usize>(object + py::SIZE).unwrap_or(0);
    let items = world.map.read::<usize>(object + py::LIST_ITEMS).unwrap_or(0);
    let Some(room) = unsearched(graph, world, items) else { return };
    let from = size.saturating_mul(8);
    if from < room.len() {
        each(world, items + from..room.end, 8);
    }
}

/// A dict keeps the hash of each key beside it, unless all are text (from 3.11 on); that of an `int`
/// is its value, which may be an address: of `id(row)`, say.
fn dict(graph: &Graph, world: &World, object: usize) {
    let layout = world.types.layout;
    let read = |at: usize| world.map.read::<usize>(at).unwrap_or(0);
    let keys = read(object + py::DICT_KEYS);
    let Some(room) = unsearched(graph, world, keys) else { return };
    let count = read(keys + layout.keys_entries as usize);
    let indices = keys + layout.keys_indices as usize;
    let first = match layout.keys {
        DictKeys::Sized => {
            let size = read(keys + 8);
            let width = match size {
                0..=0xff => 1,
                0x100..=0xffff => 2,
                0x1_0000..=0xffff_ffff => 4,
                _ => 8,
            };
            indices.saturating_add(size.saturating_mul(width))
        }
        DictKeys::Kinds => {
            let kind: u8 = world.map.read(keys + 10).unwrap_or(1);
            if kind != 0 {
                return;
            }
            let log2: u8 = world.map.read(keys + 9).unwrap_or(0);
            indices.saturating_add(1 << (log2 & 31))
        }
    };
    // An entry is hash, key, value.
    let end = first.saturating_add(count.saturating_mul(24)).min(room.end);
    each(world, first..end, 24);
}

/// A set keeps the hash of each element behind it, in a table in itself or elsewhere.
fn set(world: &World, object: usize) {
    let read = |at: usize| world.map.read::<usize>(at).unwrap_or(0);
    let (last, table) = (read(object + py::SET_MASK), read(object + py::SET_TABLE));
    let own = object + py::SET_SMALL_TABLE;
    let room = match world.nodes.block_at(table) {
        Some(block) => world.nodes.address(block) + world.nodes.len(block),
        None => return,
    };
    if table == own || world.nodes.block_at(table).map(|it| world.nodes.address(it)) == Some(table)
    {
        let end = table.saturating_add((last + 1).saturating_mul(16)).min(room);
        each(world, table + 8..end, 16);
        if table != own {
            // What was in there before the table grew.
            each(world, own..own + py::SET_SMALL, 8);
        }
    }
}

/// Whether a word that leads into a block of a heap that lies low is rather a number: lengths, counts
/// and nanoseconds are of the same size there. `before` is the word in front of it.
pub fn is_number(world: &World, node: u32, word: usize, before: usize) -> bool {
    /// Seconds since 1970: in 2001, and in 2039.
    const SECONDS: Range<usize> = 1_000_000_000..2_200_000_000;
    let object = world.nodes.has(node, bits::OBJECT) && world.nodes.object(node) == word & !3;
    if object || world.nodes.address(node) == word {
        return false;
    }
    let is_time = word < 1_000_000_000 && SECONDS.contains(&before);
    is_time || !word.is_multiple_of(8)
}

/// The block that begins at `address`, if it was not searched before.
fn unsearched(graph: &Graph, world: &World, address: usize) -> Option<Range<usize>> {
    let block = world.nodes.block_at(address)?;
    let whole = world.nodes.address(block) == address && !graph.knows(block);
    whole.then(|| address..address + world.nodes.len(block))
}

/// Clears those words, `step` bytes apart, that lead to a block.
fn each(world: &World, range: Range<usize>, step: usize) {
    let mut at = range.start;
    while at + 8 <= range.end {
        // SAFETY: words of a live block that is the container's own, readable and writable, in
        // memory of this copy alone; if it is neither after all, the fault is caught.
        unsafe {
            let word = at as *mut usize;
            // A page that need not be written is not copied either.
            if world.nodes.block_at(*word).is_some() {
                *word = 0;
            }
        }
        at += step;
    }
}
