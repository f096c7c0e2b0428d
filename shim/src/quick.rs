//! The hot path at its shortest: where nearly every block of exact mode passes.
//!
//! ```text
//! gate → guard → real allocator → Python key → native path → its site → live table → counters
//! gate → live table → counters → real free
//! ```
//!
//! It knows the ordinary alone: a stack that was seen before, a block of the live table's small
//! classes; and one that an outer allocator asked for, which is nothing to count. Whatever else it meets it
//! leaves untouched, for the long way ([`crate::record`]), which
//! does the same and knows all: before the block is made, or with the block in hand. So every look
//! comes before the first thing that changes. Where the thread holds the interpreter lock, additions
//! to a site's counters are plain ones: for native blocks too; and where it has counters of its own.

use core::ffi::c_void;

use pyshim_dump::record::Origin;

use crate::guard::{self, Guard};
use crate::live::Look;
use crate::native::{Anchor, paths};
use crate::python::hooks::PYMALLOC_LARGEST;
use crate::python::{state, walk};
use crate::record::{self, Lock};
use crate::store::Side;
use crate::{epoch, gate, life, live, peak, store};

/// Which allocator is asked.
#[derive(Clone, Copy)]
pub enum Domain {
    /// The C library's.
    Native,
    /// Python's raw one.
    Raw,
    /// Python's others, which are asked under the interpreter lock.
    Object,
    /// The same from 3.13 on ([`walk::prepare_direct`]).
    Direct,
}

impl Domain {
    /// Where a block of `size` bytes comes from.
    #[inline(always)]
    pub fn origin(self, size: usize) -> Origin {
        match self {
            Domain::Native => Origin::Native,
            Domain::Raw => Origin::Raw,
            _ if size <= PYMALLOC_LARGEST => Origin::PythonSmall,
            _ => Origin::PythonLarge,
        }
    }

    /// Whether its callers hold the interpreter lock.
    #[inline(always)]
    pub fn lock(self) -> Lock {
        match self {
            Domain::Native | Domain::Raw => Lock::Unknown,
            Domain::Object | Domain::Direct => Lock::Held,
        }
    }
}

/// Has the real allocator make a block, and records it; `None`: nothing was done, the long way.
///
/// The stack is looked at when the block is there: so little has to be kept over the call, and the
/// block's place in the live table is on its way from memory meanwhile.
#[inline(always)]
pub fn allocate(
    domain: Domain,
    size: usize,
    anchor: Anchor,
    real: impl FnOnce() -> *mut c_void,
) -> Option<*mut c_void> {
    match enter(domain) {
        Way::Quick(guard) => {
            let block = real();
            if !block.is_null() {
                came(&guard, domain, block as usize, size, anchor);
            }
            Some(block)
        }
        Way::Inside => Some(real()),
        Way::Long => None,
    }
}

/// Has the real allocator move a block, and records it; `None`: nothing was done, the long way.
#[inline(always)]
pub fn reallocate(
    domain: Domain,
    block: usize,
    size: usize,
    anchor: Anchor,
    real: impl FnOnce() -> *mut c_void,
) -> Option<*mut c_void> {
    let Way::Quick(guard) = enter(domain) else { return None };
    let Look::Here(place) = live::look(block) else { return None };
    let held = domain.lock().is_held();
    let counter = store::counter(guard.thread, place.site, Side::Went, held)?;
    if !peak::shrink_simply(guard.thread, place.size) {
        return None;
    }
    // Before the real call: the old address may be another thread's as soon as that returns.
    place.clear();
    let moved = real();
    if moved.is_null() {
        place.put_back();
        peak::grow(guard.thread, place.size);
    } else {
        counter.add_one(place.size);
        came(&guard, domain, moved as usize, size, anchor);
    }
    Some(moved)
}

/// How an allocation goes on.
enum Way {
    /// From here on a signal handler that allocates must not meet what is under way.
    Quick(Guard),
    /// What asks is inside the shim: an allocator that another one has asked. Theirs is one block.
    Inside,
    /// There is something to see to before the block is made.
    Long,
}

#[inline(always)]
fn enter(domain: Domain) -> Way {
    if !gate::is_plain_exact() || state::finalizing() != 0 {
        return Way::Long;
    }
    let Some(guard) = Guard::enter() else { return Way::Inside };
    if domain.lock() == Lock::Unknown && life::untended() && !guard.thread.is_calm() {
        return Way::Long;
    }
    Way::Quick(guard)
}

/// Records a block that was made.
#[inline(always)]
fn came(guard: &Guard, domain: Domain, address: usize, size: usize, anchor: Anchor) {
    let lock = domain.lock();
    let Some((site, held)) = site(guard, domain, size, anchor) else {
        return record::allocated(guard, address, size, domain.origin(size), anchor, lock);
    };
    let held = lock == Lock::Held || held;
    let Some(counter) = store::counter(guard.thread, site, Side::Came, held) else {
        return record::allocated(guard, address, size, domain.origin(size), anchor, lock);
    };
    if !live::enter(address, size, site, epoch::now()) {
        return came_otherwise(guard, address, size, site, held);
    }
    counter.add_one(size);
    peak::grow(guard.thread, size);
    if lock == Lock::Held && guard.thread.is_time() {
        life::tick(guard);
    }
}

/// The end of the way for blocks that are large, or where a block lay that was not seen to go.
#[inline(never)]
fn came_otherwise(guard: &Guard, address: usize, size: usize, site: u32, held: bool) {
    if record::entered(address, size, site) {
        store::add_any(site, Side::Came, (1, size as u64), held, true);
        peak::grow(guard.thread, size);
    }
}

/// The site of an allocation at `anchor`, if that was seen before, and whether the thread holds the
/// interpreter lock.
#[inline(always)]
fn site(guard: &Guard, domain: Domain, size: usize, anchor: Anchor) -> Option<(u32, bool)> {
    let paths = paths::of(guard)?;
    let early = |hint| paths::expect(paths, anchor, hint);
    let (python, expected, held) = match domain {
        Domain::Direct => walk::direct_key(early).map(|(key, node)| (key, node, true))?,
        _ => walk::quick_key(domain.lock(), early)?,
    };
    Some((paths::quick_site(guard, expected, anchor, python, domain.origin(size))?, held))
}

/// What [`freed`] did.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Freed {
    /// It counted the block.
    Counted,
    /// Nothing, and there is nothing to do: such a block is not recorded. (A large one of Python's was
    /// counted where Python's allocator was asked to free it, which asks the C library's.)
    Unknown,
    /// Nothing: the long way.
    Not,
}

/// Counts a block that is about to be freed.
#[inline(always)]
pub fn freed(address: usize, lock: Lock) -> Freed {
    if !gate::is_plain_exact() {
        return Freed::Not;
    }
    // The teardown's first free must not be counted before stock was taken.
    if state::stock_is_due() {
        return Freed::Not;
    }
    let place = match live::look(address) {
        Look::Here(place) => place,
        Look::Unknown => return Freed::Unknown,
        Look::Special => return Freed::Not,
    };
    let thread = guard::thread();
    let Some(counter) = store::counter(thread, place.site, Side::Went, lock.is_held()) else {
        return Freed::Not;
    };
    if !peak::shrink_simply(thread, place.size) {
        return Freed::Not;
    }
    place.clear();
    counter.add_one(place.size);
    Freed::Counted
}
