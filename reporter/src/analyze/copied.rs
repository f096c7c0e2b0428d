//! Blocks that are copied to grow: an array that is made anew with each item,
//! a string that is joined. While that goes on there are two of them, and a
//! point of the timeline that falls into it sees twice what is kept.

use std::collections::HashMap;

use pyshim_dump::Dump;
use pyshim_dump::blob::Change;

use super::growth::Times;
use super::stacks::last;

/// Below this the second copy does not matter.
const LARGE: u64 = 1 << 20;
/// Blocks that a site keeps, at most, to count as one whose blocks are copied.
const FEW: u64 = 2;

/// How many blocks are kept of each site that has so many and, for moments, up to twice as many.
pub struct Copied(HashMap<u32, u64>);

/// The numbers of blocks of a site.
#[derive(Clone, Copy)]
struct Counts {
    now: u64,
    least: u64,
    most: u64,
    /// The least in the last third, and at the end.
    late: u64,
}

impl Copied {
    /// Those of a run.
    pub fn of(dump: &Dump, times: &Times) -> Copied {
        let points = dump.timeline.points.get(..times.points()).unwrap_or_default();
        let counted = times.points().saturating_sub(times.startup_points());
        let late = times.points() - counted / 3;
        let large = points.iter().flat_map(|point| &point.changes);
        let large = large.filter(|change| change.bytes >= LARGE && change.blocks <= 2 * FEW);
        let none = Counts { now: 0, least: u64::MAX, most: 0, late: u64::MAX };
        let mut sites: HashMap<u32, Counts> = large.map(|change| (change.site, none)).collect();
        if sites.is_empty() {
            return Copied(HashMap::new());
        }
        for (at, point) in points.iter().enumerate() {
            for change in &point.changes {
                if let Some(counts) = sites.get_mut(&change.site) {
                    counts.now = change.blocks;
                }
            }
            if at < times.startup_points() {
                continue;
            }
            for counts in sites.values_mut().filter(|counts| counts.now > 0) {
                counts.least = counts.least.min(counts.now);
                counts.most = counts.most.max(counts.now);
                if at >= late {
                    counts.late = counts.late.min(counts.now);
                }
            }
        }
        let kept = |(site, mut it): (u32, Counts)| {
            let end = last(dump, site as usize).blocks;
            if end > 0 {
                it.least = it.least.min(end);
                it.late = it.late.min(end);
            }
            let copied = it.least <= FEW && it.late == it.least && it.most <= 2 * it.least;
            (copied && it.most > it.least).then_some((site, it.least))
        };
        Copied(sites.into_iter().filter_map(kept).collect())
    }

    /// What is kept of the bytes of a site.
    pub fn kept(&self, change: &Change) -> u64 {
        match self.0.get(&change.site) {
            Some(&kept) if change.blocks > kept => {
                (u128::from(change.bytes) * u128::from(kept) / u128::from(change.blocks)) as u64
            }
            _ => change.bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Maker, Numbers};

    /// The last of the levels of a site that has so many blocks of 1 MiB times the second.
    fn kept(blocks: impl Fn(u64) -> u64) -> Vec<u64> {
        let mut maker = Maker::new();
        maker.nameless(Numbers::live(blocks(30), 30 << 20));
        let mut points = Vec::new();
        for second in 0..30 {
            maker.point(second * 1000, &[(1, 0)]);
            let (blocks, size) = (blocks(second), second << 20);
            points.push(Change { site: 1, bytes: blocks * size, blocks });
        }
        maker.heartbeat(30_000_000_000);
        let mut dump = maker.dump();
        for (point, change) in dump.timeline.points.iter_mut().zip(&points) {
            point.changes = vec![*change];
        }
        let copied = Copied::of(&dump, &Times::of(&dump));
        points.iter().map(|change| copied.kept(change) >> 20).collect()
    }

    #[test]
    fn a_second_copy_is_not_kept() {
        let once: Vec<u64> = (0..30).collect();
        assert_eq!(kept(|second| 1 + second % 2), once);
        assert_eq!(kept(|second| if second == 26 { 1 } else { 2 }), once);
        let two: Vec<u64> = (0..30).map(|second| 2 * second).collect();
        assert_eq!(kept(|second| 2 + second % 3), two);
    }

    #[test]
    fn more_blocks_are_more() {
        for blocks in [|second| 1 + second / 15, |second| second, |second| 2 + 3 * (second % 2)] {
            let all: Vec<u64> = (0..30).map(|second| blocks(second) * second).collect();
            assert_eq!(kept(blocks), all);
        }
    }
}
