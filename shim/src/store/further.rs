//! Where sites are counted beside the interpreter lock: their [`Further`].
//!
//! A site is given its first one when it first needs it; anybody may count there, atomically. A few
//! threads at a time have a table of their own ([`Thread::table`]): it says in which `Further` of a site
//! that thread alone counts, in the words called `own`. So threads at one site share no cache line, and
//! need no atomic addition. Those of the first `Further` are for the thread that made it; others claim
//! one more, which the first leads to. When a thread ends, its table is the next one's, with what it
//! leads to.

use core::mem::offset_of;
use core::sync::atomic::{
    AtomicPtr, AtomicU32, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
};

use pyshim_dump::layout::{self, Further, Lost, Tally};

use super::{FURTHER, MAX_SITES, further_fits, header, lose};
use crate::guard::Thread;
use crate::sys;

/// Tables: that of threads without one of their own, and those of threads.
const TABLES: u32 = 16;

/// Places that threads may claim beside the first ones; some more where several come to it at once.
const MOST_CLAIMED: u32 = 1 << 15;
/// Places of [`FURTHER`]: one for each site, and those that are claimed.
pub(super) const MAX_FURTHER: u32 =
    layout::FURTHER.holding(MAX_SITES as u64 + MOST_CLAIMED as u64) as u32;

/// The tables, one behind the other: each leads from a site to where it is counted ([`Entry`]). In the
/// first one are the first places of all sites, and the words of them that are for any thread.
static ENTRIES: AtomicPtr<AtomicU32> = AtomicPtr::new(core::ptr::null_mut());
/// A bit for each table that is a thread's, and the first one.
static TAKEN: AtomicU32 = AtomicU32::new(1);
static CLAIMED: AtomicU32 = AtomicU32::new(0);

const TABLE: usize = MAX_SITES as usize;
const BYTES: usize = TABLES as usize * TABLE * size_of::<AtomicU32>();

/// What a table has of a site: where the tally lies in [`FURTHER`], in bytes; 0: nowhere yet.
#[derive(Clone, Copy)]
struct Entry(u32);

const FREE: u32 = offset_of!(Further, free) as u32;
const OWN: u32 = offset_of!(Further, own) as u32;
const EACH: u32 = size_of::<Further>() as u32;

// They differ in one bit, and all have room in a word.
const _: () = assert!(FREE & OWN == 0 && OWN.is_power_of_two() && FREE < EACH && OWN < EACH);
const _: () = assert!(MAX_FURTHER < u32::MAX / EACH);

impl Entry {
    const fn new(place: u32, tally: u32) -> Entry {
        Entry(place * EACH + tally)
    }

    fn further(self) -> &'static Further {
        at(self.0 / EACH)
    }

    /// The tally, and whether it is one thread's alone.
    #[inline(always)]
    fn tally(self) -> (&'static Tally, bool) {
        // SAFETY: MAX_FURTHER items are mapped until the end, no place is given out beyond these, and
        // an entry leads to one of the two tallies at such a place.
        let tally = unsafe { &*FURTHER.load(Relaxed).byte_add(self.0 as usize).cast() };
        (tally, self.0 & OWN != 0)
    }
}

pub(super) fn prepare() -> bool {
    sys::reserve(BYTES).map(|memory| ENTRIES.store(memory.cast(), Release)).is_ok()
}

/// In a forked child: no site has anything.
pub(super) fn forget() -> bool {
    CLAIMED.store(0, Relaxed);
    // SAFETY: a mapping of our own, of atomics for which zero is valid; the child has one thread.
    unsafe { sys::map_zero_over(ENTRIES.load(Relaxed).cast(), BYTES).is_ok() }
}

/// In a forked child: there is no thread but this one.
pub fn be_alone(thread: &Thread) {
    TAKEN.store(1 | 1 << number_of(thread), Relaxed);
}

/// Gives the thread a table: one of its own, if there is one left.
pub fn enter(thread: &Thread) {
    let lowest_free = |taken: u32| {
        let number = taken.trailing_ones();
        (number < TABLES).then_some(taken | 1 << number)
    };
    let taken = TAKEN.fetch_update(Acquire, Relaxed, lowest_free);
    let number = taken.map_or(0, |taken| taken.trailing_ones() as usize);
    thread.table.set(ENTRIES.load(Relaxed).wrapping_add(number * TABLE));
}

/// The thread ends: its table is another's.
pub fn leave(thread: &Thread) {
    let number = number_of(thread);
    // A signal handler may count here at any time.
    thread.table.set(ENTRIES.load(Relaxed));
    TAKEN.fetch_and(!(1 << number) | 1, Release);
}

/// Whether the thread has a table of its own.
#[cfg(test)]
pub(super) fn is_own(thread: &Thread) -> bool {
    number_of(thread) != 0
}

fn number_of(thread: &Thread) -> usize {
    let before = (thread.table.get() as usize).checked_sub(ENTRIES.load(Relaxed) as usize);
    before.unwrap_or(0) / (TABLE * size_of::<AtomicU32>())
}

/// The site's place in a table, where its [`Entry`] stands.
#[inline(always)]
fn cell(table: *const AtomicU32, site: u32) -> &'static AtomicU32 {
    // SAFETY: a table has MAX_SITES items, which are mapped until the end; the mask keeps the index below.
    unsafe { &*table.add((site & (MAX_SITES - 1)) as usize) }
}

/// Where it stands whether a site has anything; 0: it has not.
#[inline(always)]
pub(super) fn known(site: u32) -> &'static AtomicU32 {
    cell(ENTRIES.load(Relaxed), site)
}

/// The same of so many sites, in order.
pub(super) fn all_known(count: u32) -> &'static [AtomicU32] {
    // SAFETY: as in `cell`.
    unsafe { core::slice::from_raw_parts(ENTRIES.load(Relaxed), count.min(MAX_SITES) as usize) }
}

/// What is at a place that was given out.
fn at(place: u32) -> &'static Further {
    // SAFETY: MAX_FURTHER items are mapped until the end, and no place is given out beyond these.
    unsafe { &*FURTHER.load(Relaxed).add(place as usize) }
}

/// All that a site has.
pub(super) fn all(site: u32) -> impl Iterator<Item = &'static Further> {
    let first = Some(known(site).load(Acquire)).filter(|&entry| entry != 0);
    core::iter::successors(first.map(|entry| Entry(entry).further()), |it| {
        Some(it.next.load(Acquire)).filter(|&next| next != 0).map(at)
    })
}

/// Where the thread counts blocks of a site beside the interpreter lock, and whether it alone does there;
/// `None`: not before [`any_tally`] was asked. (It calls nothing: see [`crate::peak::shrink_simply`].)
#[inline(always)]
pub(super) fn tally(thread: &Thread, site: u32) -> Option<(&'static Tally, bool)> {
    let table = thread.table.get();
    if table.is_null() {
        return None;
    }
    let entry = cell(table, site).load(Relaxed);
    (entry != 0).then(|| Entry(entry).tally())
}

/// The same, of a site that may have nothing, or nothing for this thread.
pub(super) fn any_tally(thread: &Thread, site: u32) -> (&'static Tally, bool) {
    if let Some(known) = tally(thread, site) {
        return known;
    }
    let first = first(thread, site);
    // A thread that made the first one has it.
    if let Some(known) = tally(thread, site) {
        return known;
    }
    match claim(thread, first, site) {
        Some(own) => own.tally(),
        None => (&first.free, false),
    }
}

/// The first place of a site, which is made for the calling thread if there is none.
pub(super) fn first(thread: &Thread, site: u32) -> &'static Further {
    match known(site).load(Acquire) {
        0 => new_first(thread, site),
        entry => Entry(entry).further(),
    }
}

/// Anybody may be here, a signal handler too: nothing waits.
#[cold]
#[inline(never)]
fn new_first(thread: &Thread, site: u32) -> &'static Further {
    let count = &header().further_count;
    // (The first place of all is nobody's.)
    count.fetch_max(1, Relaxed);
    let place = count.fetch_add(1, Relaxed);
    if place >= MAX_FURTHER {
        count.store(MAX_FURTHER, Relaxed);
        lose(Lost::Blocks);
        return at(0);
    }
    match known(site).compare_exchange(0, Entry::new(place, FREE).0, AcqRel, Acquire) {
        Ok(_) => {
            at(place).owner.store(site + 1, Relaxed);
            if number_of(thread) != 0 {
                cell(thread.table.get(), site).store(Entry::new(place, OWN).0, Relaxed);
            }
            at(place)
        }
        // Another thread was first; its place serves, and this one is nobody's.
        Err(entry) => Entry(entry).further(),
    }
}

/// One more place for a site that has its `first`, for a thread with a table of its own. `None` where the
/// file has no room for it now (the collector makes some), or too many were claimed.
fn claim(thread: &Thread, first: &'static Further, site: u32) -> Option<Entry> {
    if number_of(thread) == 0 {
        return None;
    }
    if CLAIMED.load(Relaxed) >= MOST_CLAIMED {
        // (What a signal handler interrupted may count there still: so the table is nobody's.)
        thread.table.set(ENTRIES.load(Relaxed));
        return None;
    }
    let more = |used| further_fits(used).then_some(used + 1);
    let place = header().further_count.fetch_update(Relaxed, Relaxed, more).ok()?;
    CLAIMED.fetch_add(1, Relaxed);
    let further = at(place);
    further.owner.store(site + 1, Relaxed);
    let join = |next| {
        further.next.store(next, Relaxed);
        Some(place)
    };
    // (It never says no.)
    let _ = first.next.fetch_update(AcqRel, Relaxed, join);
    let own = Entry::new(place, OWN);
    cell(thread.table.get(), site).store(own.0, Relaxed);
    Some(own)
}
