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
use core::sync::atomic::AtomicU64;

use pyshim_dump::record::Origin;

use crate::guard::{self, Guard};
use crate::native::{Anchor, paths};
use crate::python::{state, walk};
use crate::record::{self, Lock};
use crate::store::Side;
use crate::{epoch, gate, life, live, peak, store};

/// An allocation whose site was found the quick way.
pub struct Known {
    /// From the look on: a signal handler that allocates must not meet it.
    guard: Guard,
    site: u32,
    /// Where it is counted.
    counter: &'static AtomicU64,
    /// Whether the thread holds the interpreter lock.
    held: bool,
}

/// Looks an allocation up at `anchor`, before the real allocator is asked; `None`: the long way.
#[inline(always)]
pub fn look(origin: Origin, anchor: Anchor, lock: Lock) -> Option<Known> {
    if !gate::is_plain_exact() {
        return None;
    }
    look_plainly(origin, anchor, lock)
}

/// The same once the gate was asked.
#[inline(always)]
fn look_plainly(origin: Origin, anchor: Anchor, lock: Lock) -> Option<Known> {
    let guard = Guard::enter()?;
    if lock == Lock::Unknown && life::untended() && !guard.thread.is_calm() {
        return None;
    }
    let (python, held) = walk::quick_key(lock)?;
    let site = paths::quick_site(&guard, anchor, python, origin)?;
    let counter = store::counter(site, Side::Came, lock == Lock::Held || held)?;
    Some(Known { guard, site, counter, held })
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
        let held = lock == Lock::Held || self.held;
        if live::enter(address, size, self.site, epoch::now()) {
            store::add_one(self.counter, size, held);
        } else if !self.came_otherwise(address, size, held) {
            return;
        }
        peak::grow(self.guard.thread, size);
        if lock == Lock::Held && self.guard.thread.is_time() {
            life::tick(&self.guard);
        }
    }
}

impl Known {
    /// For blocks that are large, or at an address whose last block was not seen to go; `false`: it is not
    /// recorded.
    #[inline(never)]
    fn came_otherwise(&self, address: usize, size: usize, held: bool) -> bool {
        let entered = record::entered(address, size, self.site);
        if entered {
            store::add_any(self.site, Side::Came, (1, size as u64), held, true);
        }
        entered
    }
}

/// An allocation in the place of a block, both found the quick way.
pub struct Moving {
    known: Known,
    place: live::Place,
    /// Where the old block is counted.
    counter: &'static AtomicU64,
}

/// Looks up a block that is about to be moved, and where; `None`: nothing was done, the long way. (The
/// block first: one that is large takes that way, and need not have looked for its stack.)
#[inline(always)]
pub fn look_at_both(block: usize, origin: Origin, anchor: Anchor, lock: Lock) -> Option<Moving> {
    if !gate::is_plain_exact() {
        return None;
    }
    let place = live::look(block)?;
    let known = look_plainly(origin, anchor, lock)?;
    let counter = store::counter(place.site, Side::Went, lock == Lock::Held || known.held)?;
    let is_simple = peak::shrink_simply(known.guard.thread, place.size);
    is_simple.then_some(Moving { known, place, counter })
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
            store::add_one(self.counter, self.place.size, lock == Lock::Held || self.known.held);
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
    let held = lock == Lock::Held || state::holds_lock();
    let Some(counter) = store::counter(place.site, Side::Went, held) else { return false };
    if !peak::shrink_simply(guard::thread(), place.size) {
        return false;
    }
    place.clear();
    store::add_one(counter, place.size, held);
    true
}
