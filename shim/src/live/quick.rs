//! The live table for [`crate::quick`]: blocks of the small classes where nothing is
//! out of the ordinary. What is left out here is done by the rest of the table.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use super::*;

/// The leaf of an address, with the address in units of 16 bytes; `None` if there is no leaf, or
/// the address is none of a block.
#[inline(always)]
fn leaf_of(address: usize) -> Option<(&'static Leaf, usize)> {
    // What is too large and what is not aligned both end up too large.
    let unit = address.rotate_right(4);
    let index = unit >> (LEAF_BITS - 4);
    if index >= LEAVES {
        return None;
    }
    // SAFETY: recording begins when `prepare` has made the root, which has LEAVES entries, and this
    // is asked while blocks are recorded.
    let leaf = unsafe { &*ROOT.load(Relaxed).add(index) }.load(Relaxed);
    // SAFETY: as in `leaf`.
    unsafe { leaf.as_ref() }.map(|leaf| (leaf, unit))
}

/// Enters a block that was just allocated, in a process that records; `false`: nothing was done, it is not so simple.
#[inline(always)]
pub fn enter(address: usize, size: usize, site: u32, birth: Birth) -> bool {
    let Some((leaf, unit)) = leaf_of(address) else { return false };
    let place = &leaf.small[unit & (SMALL_SLOTS - 1)];
    if place.load(Relaxed) != 0 {
        return false;
    }
    if size < MID_SIZE {
        place.store(small_slot(size, site, birth), Relaxed);
        return true;
    }
    if size < LARGE_SIZE {
        let place = mid(leaf, address);
        if place.load(Relaxed) != 0 {
            return false;
        }
        place.store(mid_slot(address, size, site, birth), Relaxed);
        return true;
    }
    false
}

/// Where a block is entered that may simply be taken out.
pub struct Place {
    /// Its site.
    pub site: u32,
    /// Its size in bytes, as asked for.
    pub size: usize,
    slot: Slot,
}

/// A slot, and what is in it.
enum Slot {
    Small(&'static AtomicU32, u32),
    Mid(&'static AtomicU64, u64),
}

impl Place {
    /// Takes the block out.
    #[inline(always)]
    pub fn clear(&self) {
        match self.slot {
            Slot::Small(slot, _) => slot.store(0, Relaxed),
            Slot::Mid(slot, _) => slot.store(0, Relaxed),
        }
    }

    /// Enters it again.
    #[cold]
    pub fn put_back(&self) {
        match self.slot {
            Slot::Small(slot, block) => slot.store(block, Relaxed),
            Slot::Mid(slot, block) => slot.store(block, Relaxed),
        }
    }
}

/// What is known of a block that is about to be freed.
pub enum Look {
    /// It may simply be taken out.
    Here(Place),
    /// Nothing: it was recorded by another address, or not at all.
    Unknown,
    /// There is more to it.
    Special,
}

/// Finds a block that is about to be freed, in a process that records.
#[inline(always)]
pub fn look(address: usize) -> Look {
    let Some((leaf, unit)) = leaf_of(address) else { return Look::Unknown };
    let place = &leaf.small[unit & (SMALL_SLOTS - 1)];
    let slot = place.load(Relaxed);
    if slot != 0 {
        if epoch::is_special(slot >> GENERATION_AT) {
            return Look::Special;
        }
        let size = (slot >> SMALL_SIZE_AT) as usize & (MID_SIZE - 1);
        return Look::Here(Place { site: slot & SITE_MASK, size, slot: Slot::Small(place, slot) });
    }
    let place = mid(leaf, address);
    let slot = place.load(Relaxed);
    if !is_mid(slot, address) {
        let slot = large(leaf, address)[0].load(Relaxed);
        return if is_large(slot, address) { Look::Special } else { Look::Unknown };
    }
    if slot & WATCHED != 0 || ((slot >> EPOCH_AT) as u16) < epoch::FORKED_AT.load(Relaxed) {
        return Look::Special;
    }
    let (site, size) = (slot as u32 & SITE_MASK, mid_size(slot));
    Look::Here(Place { site, size, slot: Slot::Mid(place, slot) })
}
