//! What happens when a block comes and when it goes, whatever the block. (Most go a shorter way:
//! [`crate::quick`].)
//!
//! ```text
//! guard → real allocator → Python key → native key → site → counters → live table
//!                                                     live table → counters → real free
//! ```

use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

use pyshim_dump::layout::Lost;
use pyshim_dump::record::Origin;

use crate::guard::{self, Guard};
use crate::native::paths;
use crate::native::{Anchor, Extent};
use crate::python::state;
use crate::python::walk::{self, Key};
use crate::sites::{self, Place, SEVERAL_LOCKS};
use crate::store::Side;
use crate::{epoch, life, live, peak, sample, store};

/// Whether the calling thread holds the interpreter lock for sure.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    /// It does: Python's object and memory allocators demand it.
    Held,
    /// It may or may not.
    Unknown,
}

impl Lock {
    /// Whether it does, as far as the thread can tell.
    #[inline(always)]
    pub fn is_held(self) -> bool {
        self == Lock::Held || state::holds_lock()
    }
}

/// How much of native stacks is recorded: an [`Extent`].
pub static EXTENT: AtomicU8 = AtomicU8::new(Extent::Leaf as u8);

/// The same as an [`Extent`].
#[inline(always)]
pub fn extent() -> Extent {
    match EXTENT.load(Relaxed) {
        0 => Extent::Off,
        1 => Extent::Leaf,
        _ => Extent::Full,
    }
}

/// A block was allocated. To be called after the real allocator returned it:
/// before that the address may still be another block's.
#[cold]
#[inline(never)]
pub fn allocated(
    guard: &Guard,
    address: usize,
    size: usize,
    origin: Origin,
    anchor: Anchor,
    lock: Lock,
) {
    let known = (guard.thread.python_key.take(), guard.thread.native_key.take());
    let weight = match sample::draw(guard, size) {
        sample::Draw::All => None,
        sample::Draw::Taken(weight) => Some(weight),
        sample::Draw::Passed => return,
    };
    let site = site(guard, origin, anchor, lock, known);
    if !entered(address, size, site) {
        return;
    }
    let (blocks, bytes) = weight.map_or((1, size as u64), |weight| (weight.blocks, weight.bytes));
    add(site, Side::Came, (blocks, bytes), lock);
    peak::grow(guard.thread, bytes as usize);
    if (lock == Lock::Held || life::untended()) && guard.thread.is_time() {
        match lock {
            Lock::Held => life::tick(guard),
            Lock::Unknown => life::native_tick(guard, anchor),
        }
    }
}

/// Enters a block into the live table, whatever it finds there; `false` if it has no place.
#[inline(never)]
pub fn entered(address: usize, size: usize, site: u32) -> bool {
    match live::insert(address, size, site, epoch::now()) {
        Ok(None) => {}
        Ok(Some((at, stale))) => missed_free(at, &stale),
        Err(live::NoPlace) => {
            store::lose(Lost::Blocks);
            return false;
        }
    }
    true
}

/// A block is about to be freed. To be called before the real allocator gets it:
/// after that another thread may own the address. Needs no guard: it touches
/// only the block's own slot, and counters.
#[inline(always)]
pub fn freed(address: usize, lock: Lock) -> Option<live::Block> {
    let block = taken(address)?;
    gone(&block, lock);
    Some(block)
}

/// A block is about to be moved: as [`freed`], but it is counted until it is [`gone`]. Moving
/// megabytes takes so long that somebody looks at the counters meanwhile.
#[inline(always)]
pub fn taken(address: usize) -> Option<live::Block> {
    if !life::recording() {
        return None;
    }
    if sample::is_on() && !live::may_hold(address) {
        return None;
    }
    let block = live::remove(address)?;
    // Both are rare, and one test tells that neither is the case.
    if block.watched | (block.epoch < epoch::FORKED_AT.load(Relaxed)) {
        return taken_specially(address, block);
    }
    Some(block)
}

/// Counts a block that was [`taken`].
#[inline(always)]
pub fn gone(block: &live::Block, lock: Lock) {
    let (blocks, bytes) = match sample::weight_of(block.size) {
        None => (1, block.size as u64),
        Some(weight) => (weight.blocks, weight.bytes),
    };
    peak::shrink(guard::thread(), bytes as usize);
    add(block.site, Side::Went, (blocks, bytes), lock);
}

#[cold]
fn taken_specially(address: usize, block: live::Block) -> Option<live::Block> {
    if block.watched {
        let guard = Guard::enter();
        sites::code_freed(address);
        drop(guard);
    }
    if block.only_watched {
        return None;
    }
    if block.epoch < epoch::FORKED_AT.load(Relaxed) {
        let header = store::header();
        header.inherited_freed_blocks.fetch_add(1, Relaxed);
        header.inherited_freed_bytes.fetch_add(block.size as u64, Relaxed);
        return None;
    }
    Some(block)
}

/// The free of a block was not seen; its address came again. The caller is inside the shim.
#[cold]
fn missed_free(address: usize, block: &live::Block) {
    if block.watched {
        sites::code_freed(address);
    }
    if !block.only_watched && block.epoch >= epoch::FORKED_AT.load(Relaxed) {
        gone(block, Lock::Unknown);
    }
}

/// Puts back what was [`taken`]: the reallocation failed and the block stays.
#[cold]
pub fn not_gone(address: usize, block: &live::Block) {
    if live::insert(address, block.size, block.site, epoch::birth(block.epoch)).is_err() {
        gone(block, Lock::Unknown);
    }
}

/// The site of an allocation at `anchor`. `known`: the hashes of the Python stack and of the full native
/// one, each if it is known; else 0.
#[inline(always)]
pub fn site(guard: &Guard, origin: Origin, anchor: Anchor, lock: Lock, known: (u64, u64)) -> u32 {
    let top = walk::top(guard, lock);
    let Key { mut hash, top: mut hint } = walk::NO_KEY;
    // (A closure would be a function of its own.)
    if let Some(top) = &top {
        let key = match known.0 {
            0 => top.key(),
            hash => Key { hash, top: top.word() },
        };
        (hash, hint) = (key.hash, key.top);
    }
    let extent = extent();
    let (native, at_hand) = match extent {
        Extent::Off => (0, false),
        Extent::Leaf => paths::key(guard, anchor, top, hint),
        Extent::Full if known.1 != 0 => (known.1, false),
        Extent::Full => (paths::full_key(guard, anchor, top, hint), false),
    };
    let key = sites::key(hash, native, origin);
    match sites::find(key) {
        Some(site) => site,
        None => {
            let place = Place { anchor, top, python: hash, native, at_hand, hint, extent, origin };
            sites::define(guard, &place, key)
        }
    }
}

#[inline(always)]
fn add(site: u32, side: Side, amounts: (u64, u64), lock: Lock) {
    let alone = !SEVERAL_LOCKS.load(Relaxed);
    store::add_any(site, side, amounts, lock.is_held(), alone);
}
