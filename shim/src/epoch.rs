//! Birth times: an epoch in sixteen bits, for small blocks a generation in five.
//!
//! An epoch is exact to 64 ms at first, to 1/4096 of the elapsed time later, for
//! 99 days: a number of 64 ms ticks as a small floating-point value, twelve bits
//! of mantissa and four of exponent. It grows with time, so two can be compared.
//!
//! A generation is a span of epochs, known by its first. A new one begins every
//! 64th part of the elapsed time; when the 31 numbers run out, neighbours are
//! merged, those first whose span is the smallest part of their age
//! ([`merge`]). So an age is told to 40 per cent at worst, or a 24th of the
//! run, however long that is.

use core::sync::atomic::{
    AtomicBool, AtomicU16, AtomicU32, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
};

use crate::live;

/// Milliseconds of a tick.
const TICK_MS: u64 = 64;

/// Numbers of generations; number zero is none.
pub const GENERATION_COUNT: usize = 32;
/// Where a generation stands in 32 bits.
pub const GENERATION_AT: u32 = 27;
/// A generation lasts for one of so many parts of the elapsed time.
const PARTS: u64 = 64;
/// Merging leaves so many generations.
const MERGED_TO: usize = 16;
/// Numbers that are kept free for children to come.
const SPARE: u32 = 2;

/// The present, as in [`Birth`]; the clock is read elsewhere.
static NOW: AtomicU32 = AtomicU32::new(1 << GENERATION_AT);

/// In a forked child: older blocks are the parent's. Zero otherwise.
pub static FORKED_AT: AtomicU16 = AtomicU16::new(0);
/// What that was in the parent.
static PARENT_FORKED_AT: AtomicU16 = AtomicU16::new(0);

/// Whose block it is that was allocated in an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// This process's.
    Own,
    /// That of the process from which this one was forked.
    Parents,
    /// That of one further up.
    Elders,
}

/// See [`Whose`].
pub fn whose(epoch: u16) -> Whose {
    match epoch {
        _ if epoch >= FORKED_AT.load(Relaxed) => Whose::Own,
        _ if epoch >= PARENT_FORKED_AT.load(Relaxed) => Whose::Parents,
        _ => Whose::Elders,
    }
}

/// The first epoch of each generation.
static BEGAN: [AtomicU16; GENERATION_COUNT] = [const { AtomicU16::new(0) }; GENERATION_COUNT];
/// A bit for each generation whose blocks are not simply counted: those that are only watched, and in
/// a forked child its parent's.
static SPECIAL: AtomicU32 = AtomicU32::new(1);
/// A bit for each number that no block has.
static FREE: AtomicU32 = AtomicU32::new(!0b11);
/// Somebody begins or merges generations.
static BUSY: AtomicBool = AtomicBool::new(false);

/// When a block was allocated: the generation in the upper five bits, the epoch in the lower sixteen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Birth(u32);

impl Birth {
    fn new(generation: u32, epoch: u16) -> Birth {
        Birth(generation << GENERATION_AT | u32::from(epoch))
    }

    /// The generation, where it stands in a slot.
    #[inline(always)]
    pub fn generation(self) -> u32 {
        self.0 & !((1 << GENERATION_AT) - 1)
    }

    /// The epoch.
    #[inline(always)]
    pub fn epoch(self) -> u16 {
        self.0 as u16
    }
}

/// The birth of a block that is allocated now.
#[inline(always)]
pub fn now() -> Birth {
    Birth(NOW.load(Relaxed))
}

/// The birth of a block that was allocated in `epoch`.
#[cold]
pub fn birth(epoch: u16) -> Birth {
    let before = generations().filter(|&(_, began)| began <= epoch);
    let last = before.max_by_key(|&(_, began)| began);
    last.map_or(now(), |(generation, _)| Birth::new(generation, epoch))
}

/// The first epoch of a generation.
#[inline(always)]
pub fn of(generation: u32) -> u16 {
    BEGAN[generation as usize & (GENERATION_COUNT - 1)].load(Relaxed)
}

/// Whether blocks of a generation are only watched, or a forked child's parent's.
#[inline(always)]
pub fn is_special(generation: u32) -> bool {
    SPECIAL.load(Relaxed) >> (generation & 31) & 1 != 0
}

/// The epoch of a time since the start.
fn from_ms(ms: u64) -> u16 {
    let ticks = ms / TICK_MS;
    if ticks < 8192 {
        return ticks as u16;
    }
    // 13 significant bits, of which the first is implied.
    let exponent = 63 - ticks.leading_zeros() as u64 - 12;
    if exponent > 14 {
        return u16::MAX;
    }
    ((exponent + 1) << 12 | (ticks >> exponent & 0xfff)) as u16
}

/// The earliest time of an epoch, in milliseconds since the start.
pub fn to_ms(epoch: u16) -> u64 {
    let epoch = u64::from(epoch);
    if epoch < 8192 {
        return epoch * TICK_MS;
    }
    (((epoch & 0xfff) | 0x1000) << ((epoch >> 12) - 1)) * TICK_MS
}

/// Sets the present, never back.
pub fn advance(ms: u64) {
    let epoch = from_ms(ms);
    if epoch <= now().epoch() {
        return;
    }
    alone(|| {
        let generation = now().generation() >> GENERATION_AT;
        let due = ms.saturating_sub(to_ms(of(generation))) >= ms / PARTS;
        if !(due && FREE.load(Relaxed).count_ones() > SPARE && begin(epoch))
            && epoch > now().epoch()
        {
            NOW.store(Birth::new(generation, epoch).0, Relaxed);
        }
    });
}

/// Merges generations where their numbers run out. It goes through the live table: for the collector.
pub fn merge_if_crowded() {
    if FREE.load(Relaxed).count_ones() <= SPARE {
        alone(merge);
    }
}

/// Starts a new generation for a forked child: every older block is its parent's.
pub fn fork() {
    // Whoever had it in the parent does not live here.
    BUSY.store(false, Relaxed);
    let next = now().epoch().saturating_add(1);
    if FREE.load(Relaxed) == 0 {
        merge();
    }
    PARENT_FORKED_AT.store(FORKED_AT.swap(next, Relaxed), Relaxed);
    SPECIAL.store(!0, Relaxed);
    begin(next);
}

fn alone(work: impl FnOnce()) {
    if !BUSY.swap(true, Acquire) {
        work();
        BUSY.store(false, Release);
    }
}

/// Begins a generation, if there is a number for it.
fn begin(epoch: u16) -> bool {
    let free = FREE.load(Relaxed);
    let generation = free.trailing_zeros();
    let Some(began) = BEGAN.get(generation as usize) else { return false };
    began.store(epoch, Relaxed);
    FREE.store(free & !(1 << generation), Relaxed);
    SPECIAL.fetch_and(!(1 << generation), Relaxed);
    NOW.store(Birth::new(generation, epoch).0, Relaxed);
    true
}

/// All generations that blocks may have, with their first epochs.
fn generations() -> impl Iterator<Item = (u32, u16)> {
    let free = FREE.load(Relaxed);
    (1..GENERATION_COUNT as u32).filter(move |at| free >> at & 1 == 0).map(|at| (at, of(at)))
}

fn merge() {
    let mut spans: Vec<(u32, u16)> = generations().collect();
    spans.sort_unstable_by_key(|&(_, began)| began);
    let mut to: [u8; GENERATION_COUNT] = core::array::from_fn(|at| at as u8);
    merged(&mut spans, FORKED_AT.load(Relaxed), &mut to);
    live::rename(&to);
    let gone = (0..).zip(to).filter(|&(at, to)| at != u32::from(to));
    let gone = gone.fold(0, |bits, (at, _)| bits | 1u32 << at);
    FREE.fetch_or(gone, Relaxed);
}

/// Which generation each of `spans`, in the order of time, becomes a part of. The last one, which still
/// goes on, stays, and so does the first of a forked child.
fn merged(spans: &mut Vec<(u32, u16)>, forked_at: u16, to: &mut [u8; GENERATION_COUNT]) {
    while spans.len() > MERGED_TO {
        let now = spans.last().map_or(0, |&(_, began)| to_ms(began)) + TICK_MS;
        // How large a part of its age a span would be, in thousandths.
        let cost = |at: usize| -> Option<u64> {
            let [(_, first), (_, second), (_, end)] = *spans.get(at..at + 3)? else { return None };
            let apart = first < forked_at && second >= forked_at;
            let (first, end) = (to_ms(first), to_ms(end));
            (!apart).then(|| (end - first) * 1000 / now.saturating_sub(first).max(1))
        };
        let best = (0..spans.len()).filter_map(|at| Some((cost(at)?, at))).min();
        let Some((_, at)) = best else { return };
        let (into, from) = (spans[at].0, spans.remove(at + 1).0);
        for name in to.iter_mut().filter(|name| u32::from(**name) == from) {
            *name = into as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_grow_and_come_back() {
        let mut last = 0;
        let mut ms = 0u64;
        while ms < 99 * 86_400_000 {
            let epoch = from_ms(ms);
            assert!(epoch >= last, "{ms}");
            last = epoch;
            let back = to_ms(epoch);
            assert!(back <= ms && ms - back <= 64 + ms / 4096, "{ms} {back}");
            ms += 1 + ms / 1000;
        }
        assert_eq!(from_ms(u64::MAX / 2), u16::MAX);
    }

    #[test]
    fn spans_stay_small_parts_of_their_ages() {
        // As `advance` and `merge` do it, on a clock of its own.
        let mut spans = vec![(1u32, 0u16)];
        let mut ms = 0;
        let forked_at = from_ms(100_000);
        let mut merges = 0;
        while ms < 30 * 86_400_000 {
            ms += 64 + ms / PARTS;
            let free = (1..32).filter(|name| spans.iter().all(|(span, _)| span != name));
            let free: Vec<u32> = free.collect();
            if free.len() as u32 <= SPARE {
                let mut to = core::array::from_fn(|at| at as u8);
                let before = spans.clone();
                merged(&mut spans, forked_at, &mut to);
                merges += 1;
                assert_eq!(spans.len(), MERGED_TO);
                for (name, began) in before {
                    let into = u32::from(to[name as usize]);
                    let first = spans.iter().find(|(span, _)| *span == into).expect("a span");
                    assert!(first.1 <= began, "a block cannot become younger");
                    assert!(first.1 >= forked_at || began < forked_at, "nor its parent's");
                }
            }
            let epoch = from_ms(ms);
            if epoch > spans[spans.len() - 1].1 {
                let free = (1..32).find(|name| spans.iter().all(|(span, _)| span != name));
                spans.push((free.expect("a number"), epoch));
            }
            // Not those of the first seconds, which are counted in a handful of ticks.
            for pair in spans.windows(2).filter(|_| ms > 60_000) {
                let (first, end) = (to_ms(pair[0].1), to_ms(pair[1].1));
                let most = ((ms - first) * 2 / 5).max(ms / 24);
                assert!(end - first <= most, "{first} to {end} at {ms}");
            }
        }
        // A few for each doubling of the time: 25 of those.
        assert!(merges < 100, "{merges}");
    }
}
