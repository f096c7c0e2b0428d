//! The hot path at its shortest: where nearly every block of exact mode passes.
//!
//! ```text
//! gate → guard → Python key → real allocator → native path → its site → live table → counters
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
use crate::native::Anchor;
use crate::native::paths::{self, Expected};
use crate::python::hooks::PYMALLOC_LARGEST;
use crate::python::state;
use crate::python::walk::{self, Key};
use crate::record::{self, Lock};
use crate::store::Side;
use crate::{epoch, gate, life, live, peak, sites, store};

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
/// The Python stack is walked before: what tells the site then comes from memory while the real allocator
/// works.
#[inline(always)]
pub fn allocate(
    domain: Domain,
    size: usize,
    anchor: Anchor,
    real: impl FnOnce() -> *mut c_void,
) -> Option<*mut c_void> {
    match enter(domain) {
        Way::Quick(guard) => {
            let seen = look(&guard, domain, anchor);
            let block = real();
            if !block.is_null() {
                came(&guard, domain, block as usize, size, anchor, seen);
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
    let seen = look(&guard, domain, anchor);
    let moved = real();
    if moved.is_null() {
        place.put_back();
        peak::grow(guard.thread, place.size);
    } else {
        counter.add_one(place.size);
        came(&guard, domain, moved as usize, size, anchor, seen);
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

/// What is known of a stack before the block is made.
struct Seen<'a> {
    python: Key,
    /// Where its native path may be.
    native: Expected<'a>,
    /// Whether the thread holds the interpreter lock.
    held: bool,
}

/// Walks the Python stack, and has what tells the site come from memory; `None`: the long way.
#[inline(always)]
fn look<'a>(guard: &'a Guard, domain: Domain, anchor: Anchor) -> Option<Seen<'a>> {
    let paths = paths::of(guard)?;
    let early = |hint| paths::expect(paths, anchor, hint);
    let (python, native, held) = match domain {
        Domain::Direct => walk::direct_key(early).map(|(key, node)| (key, node, true))?,
        _ => walk::quick_key(domain.lock(), early)?,
    };
    sites::expect(python.hash);
    Some(Seen { python, native, held })
}

/// The site of an allocation whose stack is `seen`, if that was before, and whether the thread holds
/// the interpreter lock.
#[inline(always)]
fn site(
    guard: &Guard,
    domain: Domain,
    size: usize,
    anchor: Anchor,
    seen: Option<Seen>,
) -> Option<(u32, bool)> {
    let Seen { python, native, held } = seen?;
    Some((paths::quick_site(guard, native, anchor, python, domain.origin(size))?, held))
}

/// Records a block that was made.
#[inline(always)]
fn came(
    guard: &Guard,
    domain: Domain,
    address: usize,
    size: usize,
    anchor: Anchor,
    seen: Option<Seen>,
) {
    let lock = domain.lock();
    let Some((site, held)) = site(guard, domain, size, anchor, seen) else {
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
