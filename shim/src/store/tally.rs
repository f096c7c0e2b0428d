//! Counting: blocks and bytes that came and went, of each site.
//!
//! Both are in one word ([`amount`]). Under the interpreter lock one thread at a time adds to a site's
//! [`Counters`](pyshim_dump::layout::Counters), and needs no atomic addition. All else goes into the
//! site's [`Further`], which it is given when it first needs one. A word that is full is poured out
//! there.

use core::arch::asm;
use core::sync::atomic::{
    AtomicPtr, AtomicU32, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release, fence,
};

use pyshim_dump::amount::{self, FULL};
use pyshim_dump::layout::{BEYOND, Further, Lost, Moments, Tally, Wide};

use super::{COUNTERS, FURTHER, MAX_FURTHER, MAX_SITES, MOMENTS, counters, header, lose};
use crate::sys;

/// Where in [`FURTHER`] a site has its place; 0: nowhere yet.
static PLACES: AtomicPtr<AtomicU32> = AtomicPtr::new(core::ptr::null_mut());

/// Whether something came or went.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// It was allocated.
    Came,
    /// It was freed.
    Went,
}

pub(super) fn prepare() -> bool {
    let memory = sys::reserve(MAX_SITES as usize * size_of::<AtomicU32>());
    memory.map(|memory| PLACES.store(memory.cast(), Release)).is_ok()
}

/// In a forked child.
pub(super) fn forget() -> bool {
    let places = PLACES.load(Relaxed).cast();
    // SAFETY: a mapping of our own, of atomics for which zero is valid; the child has one thread.
    unsafe { sys::map_zero_over(places, MAX_SITES as usize * size_of::<AtomicU32>()).is_ok() }
}

#[inline(always)]
fn place_of(site: u32) -> &'static AtomicU32 {
    // SAFETY: MAX_SITES items are mapped until the end; the mask keeps the index below.
    unsafe { &*PLACES.load(Relaxed).add((site & (MAX_SITES - 1)) as usize) }
}

/// What is at a place that [`place_of`] says.
#[inline(always)]
fn at(place: u32) -> &'static Further {
    // SAFETY: MAX_FURTHER items are mapped until the end, and no place is given out beyond these.
    unsafe { &*FURTHER.load(Relaxed).add(place as usize) }
}

#[inline(always)]
fn further(site: u32) -> &'static Further {
    match place_of(site).load(Relaxed) {
        0 => new_further(site),
        place => at(place),
    }
}

/// Gives a site its place. Anybody may be here, a signal handler too: nothing waits.
#[cold]
#[inline(never)]
fn new_further(site: u32) -> &'static Further {
    let count = &header().further_count;
    // (The first place is nobody's.)
    count.fetch_max(1, Relaxed);
    let place = count.fetch_add(1, Relaxed);
    if place >= MAX_FURTHER {
        count.store(MAX_FURTHER, Relaxed);
        lose(Lost::Blocks);
        return at(0);
    }
    match place_of(site).compare_exchange(0, place, Relaxed, Relaxed) {
        Ok(_) => {
            at(place).owner.store(site + 1, Relaxed);
            at(place)
        }
        // Another thread was first; its place serves, and this one is nobody's.
        Err(place) => at(place),
    }
}

#[inline(always)]
fn cell(tally: &'static Tally, side: Side) -> &'static AtomicU64 {
    match side {
        Side::Came => &tally.allocated,
        Side::Went => &tally.freed,
    }
}

fn wide(further: &'static Further, side: Side) -> &'static Wide {
    match side {
        Side::Came => &further.allocated,
        Side::Went => &further.freed,
    }
}

/// Where the next small block of a site is counted by a thread that holds the interpreter lock, or by
/// any; `None`: not without more ado ([`add_any`]).
#[inline(always)]
pub fn counter(site: u32, side: Side, held: bool) -> Option<&'static AtomicU64> {
    let tally = match held {
        true => &counters(site).held,
        false => match place_of(site).load(Relaxed) {
            0 => return None,
            place => &at(place).free,
        },
    };
    let cell = cell(tally, side);
    (cell.load(Relaxed) & FULL == 0).then_some(cell)
}

/// Counts one block of less than [`amount::LARGE`] bytes. `alone`: the thread holds the interpreter
/// lock, of which there is only one.
#[inline(always)]
pub fn add_one(counter: &AtomicU64, size: usize, alone: bool) {
    add_word(counter, amount::one(size as u64), alone);
}

#[inline(always)]
fn add_word(counter: &AtomicU64, word: u64, alone: bool) {
    if alone {
        // SAFETY: nobody else adds to it meanwhile but a signal handler on this thread, which may free a
        // block of the same site: so it is one instruction.
        unsafe {
            asm!(
                "add qword ptr [{}], {}",
                in(reg) counter.as_ptr(),
                in(reg) word,
                options(nostack),
            );
        }
    } else {
        counter.fetch_add(word, Relaxed);
    }
}

/// Counts any amounts. `held`: the calling thread holds an interpreter lock; `alone`: there is only one.
pub fn add_any(site: u32, side: Side, (blocks, bytes): (u64, u64), held: bool, alone: bool) {
    let Some(word) = amount::some(blocks, bytes) else {
        return add_wide(site, side, blocks, bytes);
    };
    let tally = if held { &counters(site).held } else { &further(site).free };
    let cell = cell(tally, side);
    add_word(cell, word, held && alone);
    if cell.load(Relaxed) & FULL != 0 {
        pour(site, cell, side);
    }
}

/// Counts any amounts where there is room for them.
pub fn add_wide(site: u32, side: Side, blocks: u64, bytes: u64) {
    let wide = wide(further(site), side);
    wide.blocks.fetch_add(blocks, Relaxed);
    wide.bytes.fetch_add(bytes, Relaxed);
}

/// Takes back what [`add_wide`] counted.
pub fn take_wide(site: u32, side: Side, blocks: u64, bytes: u64) {
    add_wide(site, side, blocks.wrapping_neg(), bytes.wrapping_neg());
}

/// Empties a word that is full. Where another thread is at it with any word, the next addition does:
/// there is room for as much again.
#[cold]
#[inline(never)]
fn pour(site: u32, cell: &'static AtomicU64, side: Side) {
    let further = further(site);
    let moves = &header().moves;
    let turn = moves.load(Relaxed);
    if !turn.is_multiple_of(2) || moves.compare_exchange(turn, turn + 1, Acquire, Relaxed).is_err()
    {
        return;
    }
    fence(Release);
    let (blocks, bytes) = amount::unpack(cell.swap(0, Relaxed));
    let wide = wide(further, side);
    wide.blocks.fetch_add(blocks, Relaxed);
    wide.bytes.fetch_add(bytes, Relaxed);
    moves.store(turn + 2, Release);
}

/// Blocks and bytes.
type Amounts = (u64, u64);

/// Where a site is counted.
struct Row {
    held: &'static Tally,
    place: &'static AtomicU32,
}

impl Row {
    fn of(site: u32) -> Row {
        Row { held: &counters(site).held, place: place_of(site) }
    }

    /// The words of what came and what went, where there is nothing else.
    #[inline(always)]
    fn only_words(&self) -> Option<(u64, u64)> {
        // What went is read before what came: a block that comes and goes in between is then counted
        // live, never negative.
        let went = self.held.freed.load(Acquire);
        let came = self.held.allocated.load(Acquire);
        // Looked at last: no word is poured out before the site has a place.
        (self.place.load(Acquire) == 0).then_some((came, went))
    }
}

/// What came and what went of a site. Exact when the site is quiet.
#[inline]
fn totals(site: u32) -> (Amounts, Amounts) {
    totals_of(site, &Row::of(site))
}

#[inline(always)]
fn totals_of(site: u32, row: &Row) -> (Amounts, Amounts) {
    match row.only_words() {
        Some((came, went)) => (amount::unpack(came), amount::unpack(went)),
        None => totals_of_several(site),
    }
}

/// The same of every site so far, in order.
pub fn all_totals() -> impl Iterator<Item = (Amounts, Amounts)> {
    rows().map(|(site, row, _)| totals_of(site, &row))
}

/// Every site so far. (Looked for once: who goes through all has no more to do for each than to read.)
fn rows() -> impl Iterator<Item = (u32, Row, &'static Moments)> {
    let count = super::site_count().min(MAX_SITES);
    // SAFETY: MAX_SITES items of each are mapped until the end.
    let (counters, moments, places) = unsafe {
        use core::slice::from_raw_parts;
        let (counters, moments) = (COUNTERS.load(Relaxed), MOMENTS.load(Relaxed));
        let (places, len) = (PLACES.load(Relaxed), count as usize);
        (from_raw_parts(counters, len), from_raw_parts(moments, len), from_raw_parts(places, len))
    };
    let rows = (0..count).zip(counters).zip(places).zip(moments);
    rows.map(|(((site, counters), place), moments)| {
        (site, Row { held: &counters.held, place }, moments)
    })
}

#[inline(never)]
fn totals_of_several(site: u32) -> (Amounts, Amounts) {
    let mut last = ((0, 0), (0, 0));
    for _ in 0..ATTEMPTS {
        let turn = header().moves.load(Acquire);
        // (In the order of [`Row::only_words`].)
        let went = sum(site, Side::Went);
        last = (sum(site, Side::Came), went);
        fence(Acquire);
        if turn.is_multiple_of(2) && header().moves.load(Relaxed) == turn {
            break;
        }
    }
    last
}

/// Moving amounts takes nanoseconds; whoever does may be made to wait in the middle.
const ATTEMPTS: usize = 1000;

fn sum(site: u32, side: Side) -> Amounts {
    let held = amount::unpack(cell(&counters(site).held, side).load(Relaxed));
    let further = at(place_of(site).load(Relaxed));
    let free = amount::unpack(cell(&further.free, side).load(Relaxed));
    let wide = wide(further, side);
    let all = [held, free, (wide.blocks.load(Relaxed), wide.bytes.load(Relaxed))];
    all.iter().fold((0, 0), |sum, it| (sum.0.wrapping_add(it.0), sum.1.wrapping_add(it.1)))
}

/// Live blocks and bytes of a site. Exact when the site is quiet.
#[inline]
pub fn live(site: u32) -> Amounts {
    left(totals(site))
}

/// What is live of [`totals`].
#[inline]
pub fn left((came, went): (Amounts, Amounts)) -> Amounts {
    (came.0.saturating_sub(went.0), came.1.saturating_sub(went.1))
}

/// A moment whose live blocks are kept.
#[derive(Clone, Copy)]
pub enum Moment {
    /// A peak, in one of its two banks.
    Peak(usize),
    /// Before the interpreter's teardown.
    Last,
}

/// Keeps what is live at every site; the bytes of all.
pub fn note_moment(moment: Moment) -> u64 {
    rows().map(|(site, row, moments)| note(site, &row, moments, moment)).sum()
}

#[inline(always)]
fn note(site: u32, row: &Row, moments: &Moments, moment: Moment) -> u64 {
    let cell = match moment {
        Moment::Peak(bank) => &moments.peak[bank & 1],
        Moment::Last => &moments.last,
    };
    // No more went than came, so neither part of the words borrows from the other.
    let word = row.only_words().map(|(came, went)| came.wrapping_sub(went));
    if let Some(word) = word.filter(|word| word & FULL == 0) {
        cell.store(word, Relaxed);
        return amount::unpack(word).1;
    }
    note_amounts(site, cell, moment, live(site))
}

#[inline(never)]
fn note_amounts(site: u32, cell: &AtomicU64, moment: Moment, (blocks, bytes): Amounts) -> u64 {
    let word = amount::pack(blocks, bytes).unwrap_or_else(|| {
        let further = further(site);
        let wide = match moment {
            Moment::Peak(bank) => &further.peak[bank & 1],
            Moment::Last => &further.last,
        };
        wide.blocks.store(blocks, Relaxed);
        wide.bytes.store(bytes, Relaxed);
        BEYOND
    });
    cell.store(word, Relaxed);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const SITE: u32 = 7;
    const SIZE: usize = 100_000;

    fn count(side: Side, held: bool) {
        match counter(SITE, side, held) {
            Some(counter) => add_one(counter, SIZE, held),
            None => add_any(SITE, side, (1, SIZE as u64), held, true),
        }
    }

    /// One test, because the counters are those of the process.
    #[test]
    fn full_words_lose_nothing() {
        assert!(crate::store::prepare());
        // One thread has the lock, three have not.
        let (each, large) = (5_000_000, 1 << 40);
        std::thread::scope(|scope| {
            for held in [true, false, false, false] {
                scope.spawn(move || {
                    for at in 0..each {
                        count(Side::Came, held);
                        if at > 0 {
                            count(Side::Went, held);
                        }
                    }
                });
            }
            // What came is never read with what went meanwhile.
            for _ in 0..10_000 {
                assert!(live(SITE).0 < each / 2);
            }
        });
        assert!(header().moves.load(Relaxed) >= 8);
        assert_eq!(totals(SITE).0, (4 * each, 4 * each * SIZE as u64));
        assert_eq!(live(SITE), (4, 4 * SIZE as u64));
        add_any(SITE, Side::Came, (1, large), true, true);
        add_any(SITE, Side::Came, (3, 5), false, true);
        add_wide(SITE, Side::Went, 9, 9);
        take_wide(SITE, Side::Went, 9, 9);
        assert_eq!(live(SITE), (8, 4 * SIZE as u64 + 5 + large));
        // Only one place was given out, and the site owns it.
        let place = place_of(SITE).load(Relaxed);
        assert_eq!(at(place).owner.load(Relaxed), SITE + 1);
        assert_eq!(live(SITE + 1), (0, 0));

        header().site_count.fetch_max(SITE + 2, Relaxed);
        let moments = |site: u32| rows().nth(site as usize).unwrap().2;
        let note_moment = |site, moment| note(site, &Row::of(site), moments(site), moment);
        let (few, word) = (SITE + 1, &moments(SITE + 1).peak[1]);
        for _ in 0..3 {
            add_one(counter(few, Side::Came, true).unwrap(), 50, true);
        }
        add_one(counter(few, Side::Went, true).unwrap(), 50, true);
        assert_eq!(note_moment(few, Moment::Peak(1)), 100);
        assert_eq!(amount::unpack(word.load(Relaxed)), (2, 100));
        assert_eq!(all_totals().nth(few as usize), Some(totals(few)));
        assert_eq!(all_totals().nth(SITE as usize), Some(totals(SITE)));

        let words = moments(SITE);
        for (moment, amounts) in [
            (Moment::Peak(0), (5, 5)),
            (Moment::Peak(1), (1, 1 << 41)),
            (Moment::Last, (1 << 22, 1)),
        ] {
            let cell = match moment {
                Moment::Peak(bank) => &words.peak[bank],
                Moment::Last => &words.last,
            };
            assert_eq!(note_amounts(SITE, cell, moment, amounts), amounts.1);
        }
        assert_eq!(amount::unpack(words.peak[0].load(Relaxed)), (5, 5));
        let beyond = [&words.peak[1], &words.last].map(|word| word.load(Relaxed));
        assert_eq!(beyond, [BEYOND; 2]);
        assert_eq!(at(place).peak[1].bytes.load(Relaxed), 1 << 41);
        assert_eq!(at(place).last.blocks.load(Relaxed), 1 << 22);
        assert_eq!(note_moment(SITE, Moment::Last), live(SITE).1);
        assert_eq!(words.last.load(Relaxed), amount::pack(live(SITE).0, live(SITE).1).unwrap());
    }
}
