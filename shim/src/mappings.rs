//! Memory that the program maps itself: ranges, which can be split.

use std::collections::BTreeMap;

use pyshim_dump::layout::Lost;
use pyshim_dump::record::Origin;

use crate::guard::Guard;
use crate::native::Anchor;
use crate::record::Lock;
use crate::spin::SpinLock;
use crate::store::Side;
use crate::{heap, record, store};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    len: usize,
    site: u32,
}

/// Start to range. A `BTreeMap` allocates in the shim's own heap.
static RANGES: SpinLock<Ranges> = SpinLock::new(Ranges(BTreeMap::new()));

struct Ranges(BTreeMap<usize, Range>);

/// What was cut out of one range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cut {
    /// The range as it was.
    start: usize,
    whole: Range,
    /// Bytes that went.
    bytes: usize,
    /// Ranges that are left of it: none, one, or one on either side.
    left: usize,
}

impl Cut {
    /// Blocks that come, and go, with it: one leaves with the last piece of a range, and a range that
    /// is cut in two is one more.
    fn blocks(&self) -> (u64, u64) {
        match self.left {
            0 => (0, 1),
            1 => (0, 0),
            _ => (1, 0),
        }
    }
}

/// Cuts that can be undone.
pub struct Taken(Vec<Cut>);

const PAGE: usize = 4096;

impl Ranges {
    /// Takes `start..end` out. A range that sticks out on a side keeps that side.
    fn take(&mut self, start: usize, end: usize) -> Vec<Cut> {
        let first = match self.0.range(..start).next_back() {
            Some((&at, range)) if at + range.len > start => at,
            _ => start,
        };
        let touched: Vec<(usize, Range)> =
            self.0.range(first..end).map(|(&at, &range)| (at, range)).collect();
        let mut cuts = Vec::with_capacity(touched.len());
        for (at, whole) in touched {
            self.0.remove(&at);
            let (from, to) = (at.max(start), (at + whole.len).min(end));
            let mut cut = Cut { start: at, whole, bytes: to - from, left: 0 };
            if at < from {
                self.0.insert(at, Range { len: from - at, ..whole });
                cut.left += 1;
            }
            if to < at + whole.len {
                self.0.insert(to, Range { len: at + whole.len - to, ..whole });
                cut.left += 1;
            }
            cuts.push(cut);
        }
        cuts
    }

    /// Bytes of `start..end` that ranges cover.
    fn covered(&self, start: usize, end: usize) -> usize {
        let first = match self.0.range(..start).next_back() {
            Some((&at, _)) => at,
            None => start,
        };
        let parts = self.0.range(first..end);
        parts.map(|(&at, range)| (at + range.len).min(end).saturating_sub(at.max(start))).sum()
    }

    /// Makes ranges whole again.
    fn undo(&mut self, cuts: &[Cut]) {
        for cut in cuts {
            self.take(cut.start, cut.start + cut.whole.len);
            self.0.insert(cut.start, cut.whole);
        }
    }
}

/// Counts cuts.
fn count(cuts: &[Cut]) {
    for cut in cuts {
        let (came, went) = cut.blocks();
        store::add_wide(cut.whole.site, Side::Came, came, 0);
        store::add_wide(cut.whole.site, Side::Went, went, cut.bytes as u64);
    }
}

/// Records a new mapping; what it covers is gone.
pub fn add(guard: &Guard, start: usize, len: usize, origin: Origin, anchor: Anchor) {
    let len = len.next_multiple_of(PAGE);
    if heap::exhausted() {
        return store::lose(Lost::Mappings);
    }
    let site = record::site(guard, origin, anchor, Lock::Unknown, (0, 0));
    let mut ranges = RANGES.lock();
    count(&ranges.take(start, start + len));
    ranges.0.insert(start, Range { len, site });
    drop(ranges);
    store::add_wide(site, Side::Came, 1, len as u64);
}

/// Takes a range out before it is unmapped.
pub fn take(_: &Guard, start: usize, len: usize) -> Taken {
    let mut ranges = RANGES.lock();
    // The kernel refuses these, so nothing goes.
    if ranges.0.is_empty() || !start.is_multiple_of(PAGE) || len == 0 {
        return Taken(Vec::new());
    }
    let cuts = ranges.take(start, start.saturating_add(len.next_multiple_of(PAGE)));
    count(&cuts);
    Taken(cuts)
}

/// Puts ranges back: they were not unmapped after all.
pub fn put_back(_: &Guard, taken: Taken) {
    RANGES.lock().undo(&taken.0);
    for cut in taken.0 {
        let (came, went) = cut.blocks();
        store::take_wide(cut.whole.site, Side::Came, came, 0);
        store::take_wide(cut.whole.site, Side::Went, went, cut.bytes as u64);
    }
}

/// Takes out what begins at `start`, a shared memory segment that is about to be detached.
pub fn detach(_: &Guard, start: usize) -> Taken {
    let mut ranges = RANGES.lock();
    let Some(whole) = ranges.0.remove(&start) else { return Taken(Vec::new()) };
    let cuts = vec![Cut { start, whole, bytes: whole.len, left: 0 }];
    count(&cuts);
    Taken(cuts)
}

/// All of them: start, length, site.
pub fn all() -> Vec<(usize, usize, u32)> {
    RANGES.lock().0.iter().map(|(&start, range)| (start, range.len, range.site)).collect()
}

/// Bytes of `start..end` that the program mapped itself.
pub fn covered(start: usize, end: usize) -> usize {
    RANGES.lock().covered(start, end)
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
        let cuts = table.take(120, 150);
        assert_eq!((cuts[0].bytes, cuts[0].left), (30, 2));
        assert_eq!(left(&table), [(100, 20), (150, 50)]);
        table.undo(&cuts);
        assert_eq!(left(&table), [(100, 100)]);
        table.take(120, 150);
        table.take(0, 110);
        assert_eq!(left(&table), [(110, 10), (150, 50)]);
        table.take(115, 160);
        assert_eq!(left(&table), [(110, 5), (160, 40)]);
        table.take(0, 1000);
        assert_eq!(left(&table), []);
        assert!(table.take(0, 1000).is_empty());
    }

    #[test]
    fn what_ranges_cover_is_counted() {
        let table = ranges(&[(100, 100), (200, 50), (300, 10)]);
        assert_eq!(table.covered(0, 1000), 160);
        assert_eq!(table.covered(150, 305), 105);
        assert_eq!(table.covered(120, 130), 10);
        assert_eq!(table.covered(250, 300), 0);
        assert_eq!(table.covered(0, 100), 0);
    }
}
