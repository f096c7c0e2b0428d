//! Counting: blocks and bytes that came and went, of each site.
//!
//! Both are in one word ([`amount`]). Under the interpreter lock one thread at a time adds to a site's
//! [`Counters`](pyshim_dump::layout::Counters), and needs no atomic addition. All else goes into what
//! the site has [`further`]. A word that is full is poured out there.

use core::arch::asm;
use core::sync::atomic::{
    AtomicU32, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release, fence,
};

use pyshim_dump::amount::{self, FULL};
use pyshim_dump::layout::{BEYOND, Further, Moments, Tally, Wide};

use super::{COUNTERS, MAX_SITES, MOMENTS, counters, further, header};
use crate::guard::{Thread, thread};

/// Whether something came or went.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// It was allocated.
    Came,
    /// It was freed.
    Went,
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

/// A word of a site that has room for small blocks.
#[derive(Clone, Copy)]
pub struct Counter {
    cell: &'static AtomicU64,
    /// Nobody else adds to it.
    alone: bool,
}

/// Where the thread counts the next small block of a site; `held`: it holds the interpreter lock, of which
/// there is only one. `None`: not without more ado ([`add_any`]).
#[inline(always)]
pub fn counter(thread: &Thread, site: u32, side: Side, held: bool) -> Option<Counter> {
    let (tally, alone) = match held {
        true => (&counters(site).held, true),
        false => further::tally(thread, site)?,
    };
    let cell = cell(tally, side);
    (cell.load(Relaxed) & FULL == 0).then_some(Counter { cell, alone })
}

impl Counter {
    /// Counts one block of less than [`amount::LARGE`] bytes.
    #[inline(always)]
    pub fn add_one(self, size: usize) {
        add_word(self.cell, amount::one(size as u64), self.alone);
    }
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
    let (tally, alone) = match held {
        true => (&counters(site).held, alone),
        false => further::any_tally(thread(), site),
    };
    let cell = cell(tally, side);
    add_word(cell, word, alone);
    if cell.load(Relaxed) & FULL != 0 {
        pour(site, cell, side);
    }
}

/// Counts any amounts where there is room for them.
pub fn add_wide(site: u32, side: Side, blocks: u64, bytes: u64) {
    let wide = wide(further::first(thread(), site), side);
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
    let further = further::first(thread(), site);
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
        Row { held: &counters(site).held, place: further::known(site) }
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
    let (counters, moments) = unsafe {
        use core::slice::from_raw_parts;
        let (counters, moments) = (COUNTERS.load(Relaxed), MOMENTS.load(Relaxed));
        (from_raw_parts(counters, count as usize), from_raw_parts(moments, count as usize))
    };
    let rows = (0..count).zip(counters).zip(further::all_known(count)).zip(moments);
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
    let word = |tally: &'static Tally| amount::unpack(cell(tally, side).load(Relaxed));
    let both = |(a, b): Amounts, (c, d): Amounts| (a.wrapping_add(c), b.wrapping_add(d));
    further::all(site).fold(word(&counters(site).held), |sum, it| {
        let wide = wide(it, side);
        let wide = (wide.blocks.load(Relaxed), wide.bytes.load(Relaxed));
        [word(&it.free), word(&it.own), wide].into_iter().fold(sum, both)
    })
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
        let further = further::first(thread(), site);
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
        match counter(thread(), SITE, side, held) {
            Some(counter) => counter.add_one(SIZE),
            None => add_any(SITE, side, (1, SIZE as u64), held, true),
        }
    }

    /// Blocks come and go on four threads: one has the lock, two have tables of their own, one has neither.
    fn count_on_four_threads(each: u64) {
        std::thread::scope(|scope| {
            for (held, own) in [(true, false), (false, true), (false, true), (false, false)] {
                scope.spawn(move || {
                    if own {
                        further::enter(thread());
                        assert!(further::is_own(thread()));
                    }
                    for at in 0..each {
                        count(Side::Came, held);
                        if at > 0 {
                            count(Side::Went, held);
                        }
                    }
                    further::leave(thread());
                });
            }
            // What came is never read with what went meanwhile.
            for _ in 0..10_000 {
                assert!(live(SITE).0 < each / 2);
            }
        });
    }

    /// One test, because the counters are those of the process.
    #[test]
    fn full_words_lose_nothing() {
        assert!(crate::store::prepare());
        super::super::FURTHER_CAPACITY.store(further::MAX_FURTHER, Relaxed);
        let (each, large) = (5_000_000, 1 << 40);
        count_on_four_threads(each);
        assert_eq!(totals(SITE).0, (4 * each, 4 * each * SIZE as u64));
        assert_eq!(live(SITE), (4, 4 * SIZE as u64));
        // Each thread that alone counts somewhere does so at a place of its own, or at the first one; the
        // site owns them all. Threads that come later are their heirs.
        let places = || further::all(SITE).map(|it| &raw const *it).collect::<Vec<_>>();
        let before = places();
        assert!((2..=3).contains(&before.len()));
        assert!(further::all(SITE).all(|it| it.owner.load(Relaxed) == SITE + 1));
        let alone = further::all(SITE).filter(|it| it.own.allocated.load(Relaxed) != 0).count();
        assert_eq!(alone, 2);
        count_on_four_threads(each);
        assert_eq!(places()[..before.len()], before);
        let each = 2 * each;
        assert!(header().moves.load(Relaxed) >= 8);
        assert_eq!(totals(SITE).0, (4 * each, 4 * each * SIZE as u64));
        assert_eq!(live(SITE), (8, 8 * SIZE as u64));
        add_any(SITE, Side::Came, (1, large), true, true);
        add_any(SITE, Side::Came, (3, 5), false, true);
        add_wide(SITE, Side::Went, 9, 9);
        take_wide(SITE, Side::Went, 9, 9);
        assert_eq!(live(SITE), (12, 8 * SIZE as u64 + 5 + large));
        assert_eq!(live(SITE + 1), (0, 0));

        header().site_count.fetch_max(SITE + 2, Relaxed);
        let moments = |site: u32| rows().nth(site as usize).unwrap().2;
        let note_moment = |site, moment| note(site, &Row::of(site), moments(site), moment);
        let (few, word) = (SITE + 1, &moments(SITE + 1).peak[1]);
        for _ in 0..3 {
            counter(thread(), few, Side::Came, true).unwrap().add_one(50);
        }
        counter(thread(), few, Side::Went, true).unwrap().add_one(50);
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
        let first = further::first(thread(), SITE);
        assert_eq!(first.peak[1].bytes.load(Relaxed), 1 << 41);
        assert_eq!(first.last.blocks.load(Relaxed), 1 << 22);
        assert_eq!(note_moment(SITE, Moment::Last), live(SITE).1);
        assert_eq!(words.last.load(Relaxed), amount::pack(live(SITE).0, live(SITE).1).unwrap());
    }
}
