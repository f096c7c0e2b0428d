//! The hot path at its shortest: where nearly every block of exact mode passes.
//!
//! ```text
//! gate → guard → Python key → native path → its site → real allocator → live table → counters
//! gate → live table → counters → real free
//! ```
//!
//! It knows the ordinary alone: a stack that was seen before, a block of the live table's small
//! classes. Whatever else it meets it leaves untouched, for the long way ([`crate::record`]), which
//! does the same and knows all. So every look comes before the first thing that changes, and
//! nothing has to be kept over a call but what the end needs. Where the thread holds the
//! interpreter lock, additions to a site's counters are plain ones: for native blocks too.

use core::ffi::c_void;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use pyshim_dump::record::Origin;

use crate::guard::{self, Guard};
use crate::native::{Anchor, paths};
use crate::python::{state, walk};
use crate::record::{self, Lock};
use crate::{epoch, gate, life, live, peak, store};

/// An allocation whose site was found the quick way.
pub struct Known {
    /// From the look on: a signal handler that allocates must not meet it.
    guard: Guard,
    site: u32,
    /// Whether the thread holds the interpreter lock.
    held: bool,
}

/// Looks an allocation up at `anchor`, before the real allocator is asked; `None`: the long way.
#[inline(always)]
pub fn look(origin: Origin, anchor: Anchor, lock: Lock) -> Option<Known> {
    if !gate::is_plain_exact() {
        return None;
    }
    let guard = Guard::enter()?;
    if lock == Lock::Unknown && life::untended() && !guard.thread.is_calm() {
        return None;
    }
    let (python, held) = walk::quick_key(lock)?;
    let site = paths::quick_site(&guard, anchor, python, origin)?;
    Some(Known { guard, site, held })
}

impl Known {
    /// Has the real allocator make the block, and records it.
    #[inline(always)]
    pub fn allocate(
        self,
        size: usize,
        lock: Lock,
        real: impl FnOnce() -> *mut c_void,
    ) -> *mut c_void {
        let block = real();
        if !block.is_null() {
            self.came(block as usize, size, lock);
        }
        block
    }

    #[inline(always)]
    fn came(&self, address: usize, size: usize, lock: Lock) {
        let entered = live::enter(address, size, self.site, epoch::now());
        if !entered && !record::entered(address, size, self.site) {
            return;
        }
        let counters = store::counters(self.site);
        if lock == Lock::Held || self.held {
            add(&counters.held.allocated_blocks, 1);
            add(&counters.held.allocated_bytes, size as u64);
        } else {
            counters.free.allocated_blocks.fetch_add(1, Relaxed);
            counters.free.allocated_bytes.fetch_add(size as u64, Relaxed);
        }
        peak::grow(self.guard.thread, size);
        if lock == Lock::Held && self.guard.thread.is_time() {
            life::tick(&self.guard);
        }
    }
}

/// An allocation in the place of a block, both found the quick way.
pub struct Moving {
    known: Known,
    place: live::Place,
}

/// Looks up a block that is about to be moved, and where; `None`: nothing was done, the long way.
#[inline(always)]
pub fn look_at_both(block: usize, origin: Origin, anchor: Anchor, lock: Lock) -> Option<Moving> {
    let known = look(origin, anchor, lock)?;
    let place = live::look(block)?;
    let is_simple = peak::shrink_simply(known.guard.thread, place.size);
    is_simple.then_some(Moving { known, place })
}

impl Moving {
    /// Has the real allocator move the block, and records it.
    #[inline(always)]
    pub fn reallocate(
        self,
        size: usize,
        lock: Lock,
        real: impl FnOnce() -> *mut c_void,
    ) -> *mut c_void {
        // Before the real call: the old address may be another thread's as soon as that returns.
        self.place.clear();
        let block = real();
        if block.is_null() {
            self.place.put_back();
            peak::grow(self.known.guard.thread, self.place.size);
        } else {
            gone(&self.place, lock == Lock::Held || self.known.held);
            self.known.came(block as usize, size, lock);
        }
        block
    }
}

/// Counts a block that is about to be freed; `false`: nothing was done, the long way.
#[inline(always)]
pub fn freed(address: usize, lock: Lock) -> bool {
    if !gate::is_plain_exact() {
        return false;
    }
    // The teardown's first free must not be counted before stock was taken.
    if state::stock_is_due() {
        return false;
    }
    let Some(place) = live::look(address) else { return false };
    if !peak::shrink_simply(guard::thread(), place.size) {
        return false;
    }
    place.clear();
    gone(&place, lock == Lock::Held || state::holds_lock());
    true
}

#[inline(always)]
fn gone(place: &live::Place, held: bool) {
    let counters = store::counters(place.site);
    if held {
        add(&counters.held.freed_blocks, 1);
        add(&counters.held.freed_bytes, place.size as u64);
    } else {
        counters.free.freed_blocks.fetch_add(1, Relaxed);
        counters.free.freed_bytes.fetch_add(place.size as u64, Relaxed);
    }
}

/// Under the interpreter lock there is one writer, who needs no atomic addition.
#[inline(always)]
fn add(counter: &AtomicU64, amount: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(amount), Relaxed);
}
