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
//! blocks do not cost a quarter of themselves:
//!
//! | class | sizes      | window | slot     |
//! |-------|------------|--------|----------|
//! | small | 0..128     | 16     | 4 bytes  |
//! | mid   | 128..4096  | 128    | 8 bytes  |
//! | large | 4096..     | 4096   | 16 bytes |

mod ahead;
mod here;
mod quick;
mod visit;

use core::sync::atomic::{
    AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::Release,
};

use crate::epoch::{self, Birth, GENERATION_AT};
use crate::sys;

pub use ahead::arena_came;
pub use here::{HERE, SHIFT, may_hold};
use here::{came, went};
pub use quick::{Look, enter, look};
pub use visit::{rename, visit, visit_addresses};

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
const SITE_MASK: u32 = (1 << SITE_BITS) - 1;

#[repr(C)]
struct Leaf {
    small: [AtomicU32; SMALL_SLOTS],
    mid: [AtomicU64; MID_SLOTS],
    large: [[AtomicU64; 2]; LARGE_SLOTS],
}

// A small slot: bits 0..20 site, 20..27 size, 27..32 generation; nothing is there if it is zero,
// for generations are counted from one. Generation zero with a size: a block that is only watched.
const SMALL_SIZE_AT: u32 = 20;
const SMALL_WATCHED: u32 = 1 << SMALL_SIZE_AT;

// The others: bits 0..20 site, 20..36 epoch, 36 watched, 63 present.
// Between: mid 40..52 size and 52..55 which sixteenth of the window; large 40..48 which
// 16 bytes of the window, and the size in the second word.
const EPOCH_AT: u32 = 20;
const WATCHED: u64 = 1 << 36;
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
fn small(leaf: &Leaf, address: usize) -> &AtomicU32 {
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

/// Whether a mid slot has the block at `address`, not none or another one of its window.
#[inline(always)]
fn is_mid(slot: u64, address: usize) -> bool {
    slot != 0 && (slot >> MID_OFFSET_AT) & 7 == mid_offset(address)
}

/// The same of the first word of a large one.
#[inline(always)]
fn is_large(slot: u64, address: usize) -> bool {
    slot != 0 && (slot >> LARGE_OFFSET_AT) & 0xff == large_offset(address)
}

#[inline(always)]
fn small_slot(size: usize, site: u32, birth: Birth) -> u32 {
    site | (size as u32) << SMALL_SIZE_AT | birth.generation()
}

#[inline(always)]
fn wide_slot(site: u32, birth: Birth) -> u64 {
    PRESENT | u64::from(site) | u64::from(birth.epoch()) << EPOCH_AT
}

#[inline(always)]
fn mid_slot(address: usize, size: usize, site: u32, birth: Birth) -> u64 {
    wide_slot(site, birth) | (size as u64) << SIZE_AT | mid_offset(address) << MID_OFFSET_AT
}

#[inline(always)]
fn mid_size(slot: u64) -> usize {
    (slot >> SIZE_AT) as usize & (LARGE_SIZE - 1)
}

/// Writes a word that is this thread's; what was there.
#[inline(always)]
fn put(word: &AtomicU64, value: u64) -> u64 {
    let old = word.load(Relaxed);
    word.store(value, Relaxed);
    old
}

fn unpack(slot: u64, size: usize) -> Block {
    Block {
        site: slot as u32 & SITE_MASK,
        size,
        epoch: (slot >> EPOCH_AT) as u16,
        watched: slot & WATCHED != 0,
        only_watched: false,
    }
}

#[inline(always)]
fn unpack_small(slot: u32) -> Block {
    let generation = slot >> GENERATION_AT;
    Block {
        site: slot & SITE_MASK,
        size: (slot >> SMALL_SIZE_AT) as usize & (MID_SIZE - 1),
        epoch: epoch::of(generation),
        watched: generation == 0,
        only_watched: generation == 0,
    }
}

/// Why a block found no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoPlace;

/// Enters a block that was just allocated. Returns a block that the table still
/// held there, and its address: its free was not seen.
#[inline(always)]
pub fn insert(
    address: usize,
    size: usize,
    site: u32,
    birth: Birth,
) -> Result<Option<(usize, Block)>, NoPlace> {
    if address & 15 != 0 {
        return Err(NoPlace);
    }
    let leaf = match leaf(address) {
        Some(leaf) => leaf,
        None => new_leaf(address).ok_or(NoPlace)?,
    };
    came(address);
    let place = small(leaf, address);
    let old = place.load(Relaxed);
    if size < MID_SIZE {
        place.store(small_slot(size, site, birth), Relaxed);
        if old == 0 {
            return Ok(None);
        }
        went(address);
        return Ok(Some((address, unpack_small(old))));
    }
    let here = match old {
        0 => None,
        _ => remove(address).map(|block| (address, block)),
    };
    // Two that are as large do not begin in one window: what is there is no more, wherever it began.
    let window = if size < LARGE_SIZE {
        let old = put(mid(leaf, address), mid_slot(address, size, site, birth));
        let at = address & !127 | ((old >> MID_OFFSET_AT) as usize & 7) << 4;
        (old != 0).then(|| (at, unpack(old, mid_size(old))))
    } else {
        let [place, size_at] = large(leaf, address);
        let old_size = put(size_at, size as u64) as usize;
        let offset = large_offset(address) << LARGE_OFFSET_AT;
        let old = put(place, wide_slot(site, birth) | offset);
        let at = address & !4095 | ((old >> LARGE_OFFSET_AT) as usize & 0xff) << 4;
        (old != 0).then(|| (at, unpack(old, old_size)))
    };
    if let Some((at, _)) = window {
        went(at);
    }
    Ok(here.or(window))
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
        return Some(unpack_small(slot));
    }
    let place = mid(leaf, address);
    let slot = place.load(Relaxed);
    if is_mid(slot, address) {
        place.store(0, Relaxed);
        went(address);
        return Some(unpack(slot, mid_size(slot)));
    }
    let place = large(leaf, address);
    let slot = place[0].load(Relaxed);
    if is_large(slot, address) {
        let size = place[1].load(Relaxed) as usize;
        place[0].store(0, Relaxed);
        went(address);
        return Some(unpack(slot, size));
    }
    None
}

/// The epoch of the block at `address`, which must be known and hold still.
pub fn born(address: usize) -> Option<u16> {
    let leaf = leaf(address)?;
    let slot = small(leaf, address).load(Relaxed);
    if slot != 0 {
        return Some(unpack_small(slot).epoch);
    }
    let slot = mid(leaf, address).load(Relaxed);
    if is_mid(slot, address) {
        return Some(unpack(slot, 0).epoch);
    }
    let slot = large(leaf, address)[0].load(Relaxed);
    is_large(slot, address).then(|| unpack(slot, 0).epoch)
}

/// Marks the block at `address`, so that its free is noticed even if it is not known otherwise.
/// `false` if that is not possible; so it is with known blocks of less than [`MID_SIZE`] bytes.
pub fn watch(address: usize) -> bool {
    if address & 15 != 0 {
        return false;
    }
    let Some(leaf) = leaf(address).or_else(|| new_leaf(address)) else { return false };
    let small = small(leaf, address);
    let slot = small.load(Relaxed);
    if slot != 0 {
        return unpack_small(slot).watched;
    }
    let mid = mid(leaf, address);
    let slot = mid.load(Relaxed);
    if is_mid(slot, address) {
        mid.store(slot | WATCHED, Relaxed);
        return true;
    }
    let large = &large(leaf, address)[0];
    let slot = large.load(Relaxed);
    if is_large(slot, address) {
        large.store(slot | WATCHED, Relaxed);
        return true;
    }
    came(address);
    small.store(SMALL_WATCHED, Relaxed);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::epoch::GENERATION_COUNT;

    /// The table is one for the process: one test at a time.
    pub(super) static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());

    #[test]
    fn blocks_of_every_size_come_back() {
        let _turn = TURN.lock().unwrap();
        assert!(prepare());
        let base = 0x5555_0000_0000usize;
        let birth = epoch::birth(epoch::now().epoch());
        let sizes = [0, 1, 127, 128, 2000, 4095, 4096, 1 << 20, 3 << 30];
        for (index, &size) in sizes.iter().enumerate() {
            let address = base + (index << 33) + 16 * index;
            assert_eq!(insert(address, size, index as u32, birth), Ok(None));
            // A neighbour that is not there must not be taken for it.
            assert_eq!(remove(address + 16), None);
            assert_eq!((born(address), born(address + 16)), (Some(birth.epoch()), None));
            let mut found = Vec::new();
            visit_addresses(|at, block| {
                assert_eq!(at, address);
                found.push(block);
            });
            assert_eq!(found.len(), 1);
            let block = remove(address).unwrap();
            assert_eq!((block.site, block.size, block.epoch), (index as u32, size, birth.epoch()));
            assert_eq!(block, found[0]);
            assert_eq!(remove(address), None);
        }

        // Packed blocks of one class do not share slots.
        for size in [16usize, 128, 144, 4096, 4112] {
            for n in 0..1000 {
                assert_eq!(insert(base + n * size, size, n as u32, birth), Ok(None));
            }
            for n in 0..1000 {
                assert_eq!(remove(base + n * size).map(|block| block.site), Some(n as u32));
            }
        }

        // A block whose free was missed is handed back when its address comes again.
        assert_eq!(insert(base, 64, 1, birth), Ok(None));
        assert_eq!(insert(base, 5000, 2, birth).unwrap().unwrap().1.site, 1);
        assert_eq!(remove(base).unwrap().size, 5000);
        // So it is when another one of its window comes.
        for (size, other) in [(200, base + 32), (5000, base + 1024)] {
            assert_eq!(insert(base, size, 1, birth), Ok(None));
            assert!(size >= LARGE_SIZE || !enter(other, size, 2, birth));
            let (at, stale) = insert(other, size, 2, birth).unwrap().unwrap();
            assert_eq!((at, stale.site, stale.size), (base, 1, size));
            assert_eq!((remove(base), remove(other).unwrap().site), (None, 2));
        }

        // Watching works on known and on unknown blocks.
        assert!(watch(base));
        assert!(remove(base).unwrap().only_watched);
        assert_eq!(insert(base, 200, 3, birth), Ok(None));
        assert!(watch(base));
        let block = remove(base).unwrap();
        assert!(block.watched && !block.only_watched);

        // Renamed generations lead to where the new names lead.
        assert_eq!(insert(base + 64, 64, 1, birth), Ok(None));
        let mut to: [u8; GENERATION_COUNT] = core::array::from_fn(|at| at as u8);
        to[birth.generation() as usize >> GENERATION_AT] = 9;
        rename(&to);
        let slot = small(leaf(base).unwrap(), base + 64).load(Relaxed);
        assert_eq!((slot >> GENERATION_AT, slot & ((1 << SITE_BITS) - 1)), (9, 1));
        assert_eq!(remove(base + 64).map(|block| block.size), Some(64));

        assert_eq!(insert(base + 8, 64, 1, birth), Err(NoPlace));
    }
}
