//! The live table: from a block's address to its site, size and age.
//!
//! A radix table without locks. The address belongs to whoever holds the block:
//! its slot is written after the real allocation returned and cleared before
//! the real free, so no two threads ever write the same slot at the same time,
//! and whatever the program does to hand a block to another thread orders the
//! slot too. Nothing is added to the program's blocks.
//!
//! One leaf serves [`LEAF_SPAN`] bytes of addresses with three arrays, by the
//! size of the block. Blocks of at least `n` bytes start at least `n` bytes
//! apart, so one slot for each aligned window of `n` bytes is enough, and large
//! blocks do not cost a sixteenth of themselves:
//!
//! | class | sizes      | window | slot     |
//! |-------|------------|--------|----------|
//! | small | 0..128     | 16     | 8 bytes  |
//! | mid   | 128..4096  | 128    | 8 bytes  |
//! | large | 4096..     | 4096   | 16 bytes |

use core::sync::atomic::{
    AtomicPtr, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::Release,
};

use crate::{sample, sys};

/// Addresses that one leaf serves.
const LEAF_SPAN: usize = 1 << LEAF_BITS;
/// Its logarithm.
pub const LEAF_BITS: u32 = 25;
const ADDRESS_BITS: u32 = 47;
/// Leaves that all addresses have.
pub const LEAVES: usize = 1 << (ADDRESS_BITS - LEAF_BITS);

const SMALL_SLOTS: usize = LEAF_SPAN / 16;
const MID_SLOTS: usize = LEAF_SPAN / 128;
const LARGE_SLOTS: usize = LEAF_SPAN / 4096;

const MID_SIZE: usize = 128;
const LARGE_SIZE: usize = 4096;

/// Site ids have this many bits.
pub const SITE_BITS: u32 = 20;

#[repr(C)]
struct Leaf {
    small: [AtomicU64; SMALL_SLOTS],
    mid: [AtomicU64; MID_SLOTS],
    large: [[AtomicU64; 2]; LARGE_SLOTS],
}

// A slot: bits 0..20 site, 20..36 epoch, 36 watched, 37 only watched, 63 present.
// Between: small 40..47 size; mid 40..52 size and 52..55 which sixteenth of the
// window; large 40..48 which 16 bytes of the window, and the size in the second word.
const EPOCH_AT: u32 = 20;
const WATCHED: u64 = 1 << 36;
const ONLY_WATCHED: u64 = 1 << 37;
const SIZE_AT: u32 = 40;
const MID_OFFSET_AT: u32 = 52;
const LARGE_OFFSET_AT: u32 = 40;
const PRESENT: u64 = 1 << 63;

/// What the table knows of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its site.
    pub site: u32,
    /// Its size in bytes, as asked for.
    pub size: usize,
    /// When it was allocated ([`crate::epoch`]).
    pub epoch: u16,
    /// Somebody wants to know when it is freed.
    pub watched: bool,
    /// It is here for that alone, and counted nowhere.
    pub only_watched: bool,
}

static ROOT: AtomicPtr<AtomicPtr<Leaf>> = AtomicPtr::new(core::ptr::null_mut());
/// Leaves made so far.
pub static LEAF_COUNT: AtomicUsize = AtomicUsize::new(0);

/// Sets the table up; `false` if there is no address space for it.
pub fn prepare() -> bool {
    match sys::reserve(LEAVES * size_of::<AtomicPtr<Leaf>>()) {
        Ok(root) => {
            ROOT.store(root.cast(), Release);
            true
        }
        Err(_) => false,
    }
}

#[inline(always)]
fn entry(address: usize) -> Option<&'static AtomicPtr<Leaf>> {
    let root = ROOT.load(Relaxed);
    let index = address >> LEAF_BITS;
    if root.is_null() || index >= LEAVES {
        return None;
    }
    // SAFETY: the root has LEAVES entries, is never unmapped, and zero is a null pointer.
    Some(unsafe { &*root.add(index) })
}

#[inline(always)]
fn leaf(address: usize) -> Option<&'static Leaf> {
    let leaf = entry(address)?.load(Relaxed);
    if leaf.is_null() {
        return None;
    }
    // SAFETY: a leaf is a mapping of `size_of::<Leaf>()` zeroed bytes that is never unmapped. It
    // was mapped before its pointer was stored, and page tables need no fence.
    Some(unsafe { &*leaf })
}

#[cold]
fn new_leaf(address: usize) -> Option<&'static Leaf> {
    let entry = entry(address)?;
    let fresh: *mut Leaf = sys::reserve(size_of::<Leaf>()).ok()?.cast();
    match entry.compare_exchange(core::ptr::null_mut(), fresh, Release, Relaxed) {
        Ok(_) => {
            LEAF_COUNT.fetch_add(1, Relaxed);
        }
        // SAFETY: another thread was first; nobody has seen this mapping.
        Err(_) => unsafe { sys::unmap(fresh.cast(), size_of::<Leaf>()) },
    }
    leaf(address)
}

#[inline(always)]
fn small(leaf: &Leaf, address: usize) -> &AtomicU64 {
    // The mask keeps the index in range, so the check folds away.
    &leaf.small[(address >> 4) & (SMALL_SLOTS - 1)]
}

#[inline(always)]
fn mid(leaf: &Leaf, address: usize) -> &AtomicU64 {
    &leaf.mid[(address >> 7) & (MID_SLOTS - 1)]
}

#[inline(always)]
fn large(leaf: &Leaf, address: usize) -> &[AtomicU64; 2] {
    &leaf.large[(address >> 12) & (LARGE_SLOTS - 1)]
}

#[inline(always)]
fn mid_offset(address: usize) -> u64 {
    (address as u64 >> 4) & 7
}

#[inline(always)]
fn large_offset(address: usize) -> u64 {
    (address as u64 >> 4) & 0xff
}

fn unpack(slot: u64, size: usize) -> Block {
    Block {
        site: slot as u32 & ((1 << SITE_BITS) - 1),
        size,
        epoch: (slot >> EPOCH_AT) as u16,
        watched: slot & WATCHED != 0,
        only_watched: slot & ONLY_WATCHED != 0,
    }
}

/// In sampled mode nearly every block that is freed is not here, and the radix table would only be
/// read to find that out, with a cache miss or a page fault each. So a small table counts what is
/// here by a hash of the address; a count that is full stays.
static HERE: [AtomicU8; 1 << HERE_BITS] = [const { AtomicU8::new(0) }; 1 << HERE_BITS];
const HERE_BITS: u32 = 16;

#[inline(always)]
fn here(address: usize) -> &'static AtomicU8 {
    let hash = (address as u64 >> 4).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - HERE_BITS);
    // The shift keeps the index in range, so the check folds away.
    &HERE[hash as usize & (HERE.len() - 1)]
}

/// Whether a block at `address` may be here; to be asked in sampled mode alone.
#[inline(always)]
pub fn may_hold(address: usize) -> bool {
    here(address).load(Relaxed) != 0
}

#[inline(always)]
fn came(address: usize) {
    if sample::is_on() {
        let more = |count: u8| (count < u8::MAX).then(|| count + 1);
        let _ = here(address).fetch_update(Relaxed, Relaxed, more);
    }
}

#[inline(always)]
fn went(address: usize) {
    if sample::is_on() {
        let less = |count: u8| (count != 0 && count < u8::MAX).then(|| count - 1);
        let _ = here(address).fetch_update(Relaxed, Relaxed, less);
    }
}

/// Why a block found no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoPlace;

/// Enters a block that was just allocated. Returns a block that the table still
/// held there: its free was not seen.
#[inline(always)]
pub fn insert(
    address: usize,
    size: usize,
    site: u32,
    epoch: u16,
) -> Result<Option<Block>, NoPlace> {
    if address & 15 != 0 {
        return Err(NoPlace);
    }
    let leaf = match leaf(address) {
        Some(leaf) => leaf,
        None => new_leaf(address).ok_or(NoPlace)?,
    };
    came(address);
    let mut slot = PRESENT | u64::from(site) | u64::from(epoch) << EPOCH_AT;
    let place = small(leaf, address);
    if size < MID_SIZE {
        slot |= (size as u64) << SIZE_AT;
        let old = place.load(Relaxed);
        place.store(slot, Relaxed);
        if old == 0 {
            return Ok(None);
        }
        went(address);
        return Ok(Some(unpack(old, (old >> SIZE_AT) as usize & (MID_SIZE - 1))));
    }
    let mut stale = None;
    if place.load(Relaxed) != 0 {
        stale = remove(address);
    }
    if size < LARGE_SIZE {
        slot |= (size as u64) << SIZE_AT | mid_offset(address) << MID_OFFSET_AT;
        mid(leaf, address).store(slot, Relaxed);
    } else {
        let place = large(leaf, address);
        place[1].store(size as u64, Relaxed);
        place[0].store(slot | large_offset(address) << LARGE_OFFSET_AT, Relaxed);
    }
    Ok(stale)
}

/// Takes a block out that is about to be freed; `None` if it is not known.
#[inline(always)]
pub fn remove(address: usize) -> Option<Block> {
    if address & 15 != 0 {
        return None;
    }
    let leaf = leaf(address)?;
    let place = small(leaf, address);
    let slot = place.load(Relaxed);
    if slot != 0 {
        place.store(0, Relaxed);
        went(address);
        return Some(unpack(slot, (slot >> SIZE_AT) as usize & (MID_SIZE - 1)));
    }
    let place = mid(leaf, address);
    let slot = place.load(Relaxed);
    if slot != 0 && (slot >> MID_OFFSET_AT) & 7 == mid_offset(address) {
        place.store(0, Relaxed);
        went(address);
        return Some(unpack(slot, (slot >> SIZE_AT) as usize & (LARGE_SIZE - 1)));
    }
    let place = large(leaf, address);
    let slot = place[0].load(Relaxed);
    if slot != 0 && (slot >> LARGE_OFFSET_AT) & 0xff == large_offset(address) {
        let size = place[1].load(Relaxed) as usize;
        place[0].store(0, Relaxed);
        went(address);
        return Some(unpack(slot, size));
    }
    None
}

/// Marks the block at `address`, so that its free is noticed even if it is not
/// known otherwise. `false` if that is not possible.
pub fn watch(address: usize) -> bool {
    if address & 15 != 0 {
        return false;
    }
    let Some(leaf) = leaf(address).or_else(|| new_leaf(address)) else { return false };
    let place = small(leaf, address);
    let slot = place.load(Relaxed);
    if slot != 0 {
        place.store(slot | WATCHED, Relaxed);
        return true;
    }
    let mid = mid(leaf, address);
    let slot = mid.load(Relaxed);
    if slot != 0 && (slot >> MID_OFFSET_AT) & 7 == mid_offset(address) {
        mid.store(slot | WATCHED, Relaxed);
        return true;
    }
    let large = &large(leaf, address)[0];
    let slot = large.load(Relaxed);
    if slot != 0 && (slot >> LARGE_OFFSET_AT) & 0xff == large_offset(address) {
        large.store(slot | WATCHED, Relaxed);
        return true;
    }
    came(address);
    place.store(PRESENT | WATCHED | ONLY_WATCHED, Relaxed);
    true
}

/// Visits every block that is counted. Blocks that come and go meanwhile may or
/// may not be seen.
pub fn visit(mut seen: impl FnMut(Block)) {
    visit_addresses(|_, block| seen(block));
}

/// The same with the blocks' addresses: in order from one [`LEAF_SPAN`] of addresses to the next,
/// not within.
pub fn visit_addresses(mut seen: impl FnMut(usize, Block)) {
    let root = ROOT.load(Relaxed);
    if root.is_null() {
        return;
    }
    let mut pages = vec![0u8; LEAVES * 8 / 4096];
    let root_bytes: *const u8 = root.cast();
    if !sys::resident(root_bytes, &mut pages) {
        return;
    }
    let touched: Vec<usize> =
        pages.iter().enumerate().filter(|(_, page)| **page & 1 != 0).map(|(at, _)| at).collect();
    for page in touched {
        for index in page * 512..(page + 1) * 512 {
            if let Some(leaf) = leaf(index << LEAF_BITS) {
                visit_leaf(leaf, index << LEAF_BITS, &mut seen);
            }
        }
    }
}

/// Only pages that were touched hold anything; reading the others would only make page tables.
fn visit_leaf(leaf: &'static Leaf, base: usize, seen: &mut impl FnMut(usize, Block)) {
    let mut pages = vec![0u8; size_of::<Leaf>() / 4096];
    if !sys::resident((leaf as *const Leaf).cast(), &mut pages) {
        return;
    }
    let (small_pages, rest) = pages.split_at(size_of_val(&leaf.small) / 4096);
    let (mid_pages, large_pages) = rest.split_at(size_of_val(&leaf.mid) / 4096);
    let touched = |page: &u8| *page & 1 != 0;
    let pages = leaf.small.chunks(512).enumerate().zip(small_pages);
    for ((page, slots), _) in pages.filter(|(_, page)| touched(page)) {
        for (index, slot) in slots.iter().map(|slot| slot.load(Relaxed)).enumerate() {
            if slot & PRESENT != 0 && slot & ONLY_WATCHED == 0 {
                let block = unpack(slot, (slot >> SIZE_AT) as usize & (MID_SIZE - 1));
                seen(base + (page * 512 + index) * 16, block);
            }
        }
    }
    let pages = leaf.mid.chunks(512).enumerate().zip(mid_pages);
    for ((page, slots), _) in pages.filter(|(_, page)| touched(page)) {
        for (index, slot) in slots.iter().map(|slot| slot.load(Relaxed)).enumerate() {
            if slot & PRESENT != 0 {
                let at =
                    (page * 512 + index) * MID_SIZE + (slot >> MID_OFFSET_AT & 7) as usize * 16;
                seen(base + at, unpack(slot, (slot >> SIZE_AT) as usize & (LARGE_SIZE - 1)));
            }
        }
    }
    let pages = leaf.large.chunks(256).enumerate().zip(large_pages);
    for ((page, slots), _) in pages.filter(|(_, page)| touched(page)) {
        for (index, [slot, size]) in slots.iter().enumerate() {
            let slot = slot.load(Relaxed);
            if slot & PRESENT != 0 {
                let window = (page * 256 + index) * LARGE_SIZE;
                let at = window + (slot >> LARGE_OFFSET_AT & 0xff) as usize * 16;
                seen(base + at, unpack(slot, size.load(Relaxed) as usize));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One test, because the table is one for the process.
    #[test]
    fn blocks_of_every_size_come_back() {
        assert!(prepare());
        let base = 0x5555_0000_0000usize;
        let sizes = [0, 1, 127, 128, 2000, 4095, 4096, 1 << 20, 3 << 30];
        for (index, &size) in sizes.iter().enumerate() {
            let address = base + (index << 33) + 16 * index;
            assert_eq!(insert(address, size, index as u32, 7), Ok(None));
            // A neighbour that is not there must not be taken for it.
            assert_eq!(remove(address + 16), None);
            let mut found = Vec::new();
            visit_addresses(|at, block| {
                assert_eq!(at, address);
                found.push(block);
            });
            assert_eq!(found.len(), 1);
            let block = remove(address).unwrap();
            assert_eq!((block.site, block.size, block.epoch), (index as u32, size, 7));
            assert_eq!(block, found[0]);
            assert_eq!(remove(address), None);
        }

        // Packed blocks of one class do not share slots.
        for size in [16usize, 128, 144, 4096, 4112] {
            for n in 0..1000 {
                assert_eq!(insert(base + n * size, size, n as u32, 0), Ok(None));
            }
            for n in 0..1000 {
                assert_eq!(remove(base + n * size).map(|block| block.site), Some(n as u32));
            }
        }

        // A block whose free was missed is handed back when its address comes again.
        assert_eq!(insert(base, 64, 1, 0), Ok(None));
        assert_eq!(insert(base, 5000, 2, 0).unwrap().unwrap().site, 1);
        assert_eq!(remove(base).unwrap().size, 5000);

        // Watching works on known and on unknown blocks.
        assert!(watch(base));
        assert!(remove(base).unwrap().only_watched);
        assert_eq!(insert(base, 200, 3, 0), Ok(None));
        assert!(watch(base));
        let block = remove(base).unwrap();
        assert!(block.watched && !block.only_watched);

        assert_eq!(insert(base + 8, 64, 1, 0), Err(NoPlace));
    }
}
