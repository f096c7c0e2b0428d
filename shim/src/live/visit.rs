//! Ways through the whole live table: the census, the snapshot, and the merging
//! of generations.

use core::sync::atomic::Ordering::Relaxed;

use super::{
    Block, LARGE_OFFSET_AT, LARGE_SIZE, LEAF_BITS, LEAVES, Leaf, MID_OFFSET_AT, MID_SIZE, PRESENT,
    ROOT, SIZE_AT, leaf, unpack, unpack_small,
};
use crate::epoch::{GENERATION_AT, GENERATION_COUNT};
use crate::sys;

/// Visits every block that is counted. Blocks that come and go meanwhile may or
/// may not be seen.
pub fn visit(mut seen: impl FnMut(Block)) {
    visit_addresses(|_, block| seen(block));
}

/// The same with the blocks' addresses: in order from one [`super::LEAF_SPAN`] of addresses to the
/// next, not within.
pub fn visit_addresses(mut seen: impl FnMut(usize, Block)) {
    leaves(|leaf, base| visit_leaf(leaf, base, &mut seen));
}

/// Writes `to[g]` wherever a block of less than [`MID_SIZE`] bytes has generation `g`. To be called
/// by one thread at a time.
pub fn rename(to: &[u8; GENERATION_COUNT]) {
    leaves(|leaf, _| {
        let Some(pages) = touched(leaf) else { return };
        for (slots, _) in leaf.small.chunks(SMALL_IN_PAGE).zip(pages).filter(|(_, page)| is(page)) {
            for place in slots {
                let slot = place.load(Relaxed);
                let generation = slot >> GENERATION_AT;
                let new = u32::from(to[generation as usize & (GENERATION_COUNT - 1)]);
                if new != generation {
                    let renamed = slot & ((1 << GENERATION_AT) - 1) | new << GENERATION_AT;
                    // Where the block went meanwhile, or another came, theirs stays.
                    let _ = place.compare_exchange(slot, renamed, Relaxed, Relaxed);
                }
            }
        }
    });
}

const SMALL_IN_PAGE: usize = 4096 / size_of::<u32>();
const MID_IN_PAGE: usize = 4096 / size_of::<u64>();
const LARGE_IN_PAGE: usize = 4096 / size_of::<[u64; 2]>();

fn leaves(mut seen: impl FnMut(&'static Leaf, usize)) {
    let root = ROOT.load(Relaxed);
    if root.is_null() {
        return;
    }
    let mut pages = vec![0u8; LEAVES * 8 / 4096];
    let root_bytes: *const u8 = root.cast();
    if !sys::resident(root_bytes, &mut pages) {
        return;
    }
    for (page, _) in pages.iter().enumerate().filter(|(_, page)| is(page)) {
        for index in page * 512..(page + 1) * 512 {
            if let Some(leaf) = leaf(index << LEAF_BITS) {
                seen(leaf, index << LEAF_BITS);
            }
        }
    }
}

/// Which pages of a leaf are in memory. Only those that were touched hold anything; reading the others
/// would only make page tables.
fn touched(leaf: &'static Leaf) -> Option<Vec<u8>> {
    let mut pages = vec![0u8; size_of::<Leaf>() / 4096];
    sys::resident((leaf as *const Leaf).cast(), &mut pages).then_some(pages)
}

fn is(page: &u8) -> bool {
    *page & 1 != 0
}

fn visit_leaf(leaf: &'static Leaf, base: usize, seen: &mut impl FnMut(usize, Block)) {
    let Some(pages) = touched(leaf) else { return };
    let (small_pages, rest) = pages.split_at(size_of_val(&leaf.small) / 4096);
    let (mid_pages, large_pages) = rest.split_at(size_of_val(&leaf.mid) / 4096);
    let pages = leaf.small.chunks(SMALL_IN_PAGE).enumerate().zip(small_pages);
    for ((page, slots), _) in pages.filter(|(_, page)| is(page)) {
        for (index, slot) in slots.iter().map(|slot| slot.load(Relaxed)).enumerate() {
            if slot == 0 {
                continue;
            }
            let block = unpack_small(slot);
            if !block.only_watched {
                seen(base + (page * SMALL_IN_PAGE + index) * 16, block);
            }
        }
    }
    let pages = leaf.mid.chunks(MID_IN_PAGE).enumerate().zip(mid_pages);
    for ((page, slots), _) in pages.filter(|(_, page)| is(page)) {
        for (index, slot) in slots.iter().map(|slot| slot.load(Relaxed)).enumerate() {
            if slot & PRESENT != 0 {
                let window = (page * MID_IN_PAGE + index) * MID_SIZE;
                let at = window + (slot >> MID_OFFSET_AT & 7) as usize * 16;
                seen(base + at, unpack(slot, (slot >> SIZE_AT) as usize & (LARGE_SIZE - 1)));
            }
        }
    }
    let pages = leaf.large.chunks(LARGE_IN_PAGE).enumerate().zip(large_pages);
    for ((page, slots), _) in pages.filter(|(_, page)| is(page)) {
        for (index, [slot, size]) in slots.iter().enumerate() {
            let slot = slot.load(Relaxed);
            if slot & PRESENT != 0 {
                let window = (page * LARGE_IN_PAGE + index) * LARGE_SIZE;
                let at = window + (slot >> LARGE_OFFSET_AT & 0xff) as usize * 16;
                seen(base + at, unpack(slot, size.load(Relaxed) as usize));
            }
        }
    }
}
