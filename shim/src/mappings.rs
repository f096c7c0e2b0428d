//! Memory that the program maps itself: ranges, which can be split.

use std::collections::BTreeMap;

use core::sync::atomic::Ordering::Relaxed;

use pyshim_dump::layout::Lost;
use pyshim_dump::record::Origin;

use crate::guard::Guard;
use crate::native::Anchor;
use crate::spin::SpinLock;
use crate::{heap, record, store};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    len: usize,
    site: u32,
}

/// Start to range. A `BTreeMap` allocates in the shim's own heap.
static RANGES: SpinLock<Ranges> = SpinLock::new(Ranges(BTreeMap::new()));

struct Ranges(BTreeMap<usize, Range>);

/// Pieces that were taken out, with their starts.
pub struct Taken(Vec<(usize, Range)>);

const PAGE: usize = 4096;

impl Ranges {
    /// Takes `start..end` out. A range that sticks out on a side keeps that side.
    fn take(&mut self, start: usize, end: usize) -> Vec<(usize, Range)> {
        let first = match self.0.range(..start).next_back() {
            Some((&at, range)) if at + range.len > start => at,
            _ => start,
        };
        let touched: Vec<(usize, Range)> =
            self.0.range(first..end).map(|(&at, &range)| (at, range)).collect();
        let mut taken = Vec::with_capacity(touched.len());
        for (at, range) in touched {
            self.0.remove(&at);
            let (from, to) = (at.max(start), (at + range.len).min(end));
            if at < from {
                self.0.insert(at, Range { len: from - at, ..range });
            }
            if to < at + range.len {
                self.0.insert(to, Range { len: at + range.len - to, ..range });
            }
            // How many ranges there are of it now, to count blocks.
            taken.push((from, Range { len: to - from, ..range }));
        }
        taken
    }
}

/// Records a new mapping; what it covers is gone.
pub fn add(guard: &Guard, start: usize, len: usize, origin: Origin, anchor: Anchor) {
    let len = len.next_multiple_of(PAGE);
    if heap::exhausted() {
        return store::lose(Lost::Mappings);
    }
    let site = record::site(guard, origin, anchor);
    let mut ranges = RANGES.lock();
    let before = ranges.0.len();
    let gone = ranges.take(start, start + len);
    count_taken(&gone, before, ranges.0.len());
    ranges.0.insert(start, Range { len, site });
    drop(ranges);
    let tally = &store::counters(site).free;
    tally.allocated_blocks.fetch_add(1, Relaxed);
    tally.allocated_bytes.fetch_add(len as u64, Relaxed);
}

/// Bytes leave with each piece; a block leaves with the last piece of a range,
/// and cutting a range in two makes one more.
fn count_taken(taken: &[(usize, Range)], before: usize, after: usize) {
    for (_, range) in taken {
        store::counters(range.site).free.freed_bytes.fetch_add(range.len as u64, Relaxed);
    }
    let Some((_, first)) = taken.first() else { return };
    if after > before {
        store::counters(first.site).free.allocated_blocks.fetch_add(1, Relaxed);
        return;
    }
    // Whole ranges went: those strictly inside, and the outer ones unless something of them stayed.
    for (_, range) in taken.iter().take(before - after) {
        store::counters(range.site).free.freed_blocks.fetch_add(1, Relaxed);
    }
}

/// Takes a range out before it is unmapped.
pub fn take(_: &Guard, start: usize, len: usize) -> Taken {
    let mut ranges = RANGES.lock();
    if ranges.0.is_empty() {
        return Taken(Vec::new());
    }
    let before = ranges.0.len();
    let taken = ranges.take(start, start.saturating_add(len.next_multiple_of(PAGE)));
    count_taken(&taken, before, ranges.0.len());
    Taken(taken)
}

/// Puts ranges back: they were not unmapped after all.
pub fn put_back(_: &Guard, taken: Taken) {
    let mut ranges = RANGES.lock();
    for (at, range) in taken.0 {
        ranges.0.insert(at, range);
        let tally = &store::counters(range.site).free;
        tally.allocated_bytes.fetch_add(range.len as u64, Relaxed);
        tally.allocated_blocks.fetch_add(1, Relaxed);
    }
}

/// A shared memory segment was detached.
pub fn detach(_: &Guard, start: usize) {
    let mut ranges = RANGES.lock();
    if let Some(range) = ranges.0.remove(&start) {
        let tally = &store::counters(range.site).free;
        tally.freed_blocks.fetch_add(1, Relaxed);
        tally.freed_bytes.fetch_add(range.len as u64, Relaxed);
    }
}

/// For the time of a fork.
pub fn hold() {
    RANGES.hold();
}

/// After it, on both sides.
pub fn release() {
    RANGES.release();
}

/// In a forked child: its parent's mappings are its parent's.
pub fn forget() {
    RANGES.lock().0.clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(list: &[(usize, usize)]) -> Ranges {
        Ranges(list.iter().map(|&(at, len)| (at, Range { len, site: 1 })).collect())
    }

    fn left(ranges: &Ranges) -> Vec<(usize, usize)> {
        ranges.0.iter().map(|(&at, range)| (at, range.len)).collect()
    }

    #[test]
    fn a_range_is_cut_where_it_is_unmapped() {
        let mut table = ranges(&[(100, 100)]);
        assert_eq!(table.take(120, 150).len(), 1);
        assert_eq!(left(&table), [(100, 20), (150, 50)]);
        table.take(0, 110);
        assert_eq!(left(&table), [(110, 10), (150, 50)]);
        table.take(115, 160);
        assert_eq!(left(&table), [(110, 5), (160, 40)]);
        table.take(0, 1000);
        assert_eq!(left(&table), []);
        assert!(table.take(0, 1000).is_empty());
    }
}
