//! Pages of the table that a new arena's blocks will need, taken from the kernel at once.
//!
//! A slot is looked at before it is written: is there a block whose free was not seen? So a page that
//! nobody has touched costs two page faults, one that shows zeros and one that makes room. An arena's
//! blocks will touch all the pages of their class, and pymalloc asks for an arena when it has filled
//! the others: what lies in the last one tells which class to expect. Where that is wrong, pages lie
//! idle (a quarter of the arena), or are taken one by one as everywhere else.

use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::{LEAF_SPAN, leaf, new_leaf, small};
use crate::sys;

/// The last arena; null before the first, and in a child of a fork it is the parent's.
static LAST: AtomicUsize = AtomicUsize::new(0);

/// Arenas have this size or more. From 3.11 on pieces of Python's own stacks are asked for as they are.
const SMALLEST: usize = 256 << 10;
/// Addresses that one page of small slots serves: one of pymalloc's pools from 3.10 on, four before.
const PAGE_SPAN: usize = 4096 / size_of::<u32>() * 16;
/// How many places of the last arena are looked at, and how many of them must have small blocks.
const LOOKS: usize = 16;
const ENOUGH: usize = 12;

/// To be called when pymalloc was given an arena of `len` bytes, as all are, before it has blocks there.
pub fn arena_came(start: usize, len: usize) {
    if len < SMALLEST {
        return;
    }
    let last = LAST.swap(start, Relaxed);
    if last == 0 || !is_mostly_small(last, len) {
        return;
    }
    let end = start.saturating_add(len);
    let mut at = start;
    while at < end {
        let next = end.min((at + 1).next_multiple_of(LEAF_SPAN));
        take(at, next);
        at = next;
    }
}

/// Whether most places of an arena that was filled have small blocks.
fn is_mostly_small(start: usize, len: usize) -> bool {
    let places = (0..LOOKS).map(|at| (start + len / LOOKS * at).next_multiple_of(PAGE_SPAN));
    let found = places.filter(|&pool| {
        // The first block of a pool lies behind its header of 48 bytes.
        leaf(pool).is_some_and(|leaf| {
            (0..256).step_by(16).any(|offset| small(leaf, pool + offset).load(Relaxed) != 0)
        })
    });
    found.count() >= ENOUGH
}

/// Takes the pages for small blocks from `start` to `end`, which lie in one leaf, unless they are there: asking
/// for a page that is there takes a fifth of what making it takes.
fn take(start: usize, end: usize) {
    let Some(leaf) = leaf(start).or_else(|| new_leaf(start)) else { return };
    let slot = |address| core::ptr::from_ref(small(leaf, address));
    let (first, last) = (slot(start), slot(end - 1));
    let len = last as usize + size_of::<u32>() - first as usize;
    if sys::touched_bytes(first as usize, first as usize + len) < len as u64 / 2 {
        sys::take_pages(first.cast(), len);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::TURN;
    use super::super::{MID_SIZE, insert, prepare, remove};
    use super::*;
    use crate::epoch;

    const ARENA: usize = 1 << 20;

    /// How many pages of small slots of an arena are there.
    fn taken(start: usize) -> usize {
        let is_there = |at: &usize| {
            leaf(*at).is_some_and(|leaf| {
                let slot = core::ptr::from_ref(small(leaf, *at)) as usize;
                sys::touched_bytes(slot, slot + 1) > 0
            })
        };
        (start..start + ARENA).step_by(PAGE_SPAN).filter(is_there).count()
    }

    /// Fills an arena with blocks, as pymalloc does, and empties it.
    fn filled(start: usize, size: usize, then: impl FnOnce()) {
        let birth = epoch::birth(epoch::now().epoch());
        let blocks = || {
            let pools = (start.next_multiple_of(PAGE_SPAN)..start + ARENA).step_by(PAGE_SPAN);
            pools.flat_map(|pool| (pool + 48..pool + PAGE_SPAN - size).step_by(size))
        };
        for block in blocks() {
            assert_eq!(insert(block, size, 1, birth), Ok(None));
        }
        then();
        for block in blocks() {
            assert!(remove(block).is_some());
        }
    }

    #[test]
    fn an_arena_of_small_blocks_leads_to_pages_for_the_next() {
        let _turn = TURN.lock().unwrap();
        assert!(prepare());
        // An arena that begins anywhere, and its neighbour in the next leaf.
        let first = 0x6666_0000_0000 + LEAF_SPAN - ARENA - 4096;
        let (second, third) = (first + ARENA, first + 40 * ARENA);
        arena_came(first, ARENA);
        assert_eq!(taken(first), 0);
        // (A piece of a stack of Python's comes in between.)
        filled(first, 64, || {
            arena_came(second + ARENA, 16 << 10);
            arena_came(second, ARENA);
        });
        assert_eq!(taken(second), ARENA / PAGE_SPAN);
        // The second had blocks of another class: its pages lie idle, the third has none.
        filled(second, MID_SIZE, || arena_came(third, ARENA));
        assert_eq!(taken(third), 0);
    }
}
