//! Blobs: what is rewritten as a whole, because it changes shape over time.

use crate::reader::{Amount, Totals};
use crate::varint::{Input, put, unzigzag, zigzag};

/// Live memory of every site at a bounded number of moments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timeline {
    /// In order of time.
    pub points: Vec<Point>,
}

/// A moment of the [`Timeline`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Point {
    /// Milliseconds since the start.
    pub at_ms: u64,
    /// Resident set, in bytes.
    pub rss: u64,
    /// Bytes allocated so far, freed ones included.
    pub allocated_bytes: u64,
    /// Blocks allocated so far, freed ones included.
    pub allocated_blocks: u64,
    /// Sites whose live memory is not what it was at the point before, in order of site.
    pub changes: Vec<Change>,
}

/// Live memory of one site.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// The site.
    pub site: u32,
    /// Live bytes.
    pub bytes: u64,
    /// Live blocks.
    pub blocks: u64,
}

impl Timeline {
    /// Drops every second point; what changed at a dropped point moves to the next.
    pub fn halve(&mut self) {
        let mut kept = Vec::with_capacity(self.points.len() / 2 + 1);
        let mut points = core::mem::take(&mut self.points).into_iter();
        while let Some(first) = points.next() {
            let Some(mut second) = points.next() else {
                kept.push(first);
                break;
            };
            second.changes = merge(&first.changes, &second.changes);
            kept.push(second);
        }
        self.points = kept;
    }

    /// The bytes of the blob.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out, self.points.len() as u64);
        for point in &self.points {
            put(&mut out, point.at_ms);
            put(&mut out, point.rss);
            put(&mut out, point.allocated_bytes);
            put(&mut out, point.allocated_blocks);
            put(&mut out, point.changes.len() as u64);
            let mut last = 0i64;
            for change in &point.changes {
                put(&mut out, zigzag(i64::from(change.site) - last));
                last = i64::from(change.site);
                put(&mut out, change.bytes);
                put(&mut out, change.blocks);
            }
        }
        out
    }

    /// Reads what [`Timeline::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Option<Timeline> {
        let mut input = Input(bytes);
        let count = input.count()?;
        let mut points = Vec::with_capacity(count);
        for _ in 0..count {
            let mut point = Point {
                at_ms: input.int()?,
                rss: input.int()?,
                allocated_bytes: input.int()?,
                allocated_blocks: input.int()?,
                changes: Vec::new(),
            };
            let changes = input.count()?;
            let mut last = 0i64;
            for _ in 0..changes {
                last = last.checked_add(unzigzag(input.int()?))?;
                point.changes.push(Change {
                    site: last.try_into().ok()?,
                    bytes: input.int()?,
                    blocks: input.int()?,
                });
            }
            points.push(point);
        }
        Some(Timeline { points })
    }
}

/// Both lists, the later one's word counting where they speak of the same site.
fn merge(earlier: &[Change], later: &[Change]) -> Vec<Change> {
    let mut out = Vec::with_capacity(earlier.len() + later.len());
    let mut rest = later.iter().peekable();
    for change in earlier {
        while let Some(next) = rest.next_if(|next| next.site < change.site) {
            out.push(*next);
        }
        match rest.next_if(|next| next.site == change.site) {
            Some(next) => out.push(*next),
            None => out.push(*change),
        }
    }
    out.extend(rest);
    out
}

/// Sizes and ages of the blocks that were live at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Milliseconds since the start.
    pub at_ms: u64,
    /// In order of site.
    pub sites: Vec<SiteCensus>,
}

/// The live blocks of one site.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SiteCensus {
    /// The site.
    pub site: u32,
    /// Largest block, in bytes.
    pub largest: u64,
    /// Age of the oldest, in milliseconds.
    pub oldest_ms: u64,
    /// Size buckets ([`crate::histogram`]) in order, with the number of blocks in each.
    pub sizes: Vec<(u16, u64)>,
    /// The same of ages in milliseconds.
    pub ages: Vec<(u16, u64)>,
}

impl Census {
    /// The bytes of the blob.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = CensusWriter::new(self.at_ms, self.sites.len());
        for site in &self.sites {
            writer.site((site.site, site.largest, site.oldest_ms), &site.sizes, &site.ages);
        }
        writer.finish()
    }

    /// Reads what [`Census::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Option<Census> {
        let mut input = Input(bytes);
        let at_ms = input.int()?;
        let count = input.count()?;
        let mut sites = Vec::with_capacity(count);
        let mut last = 0i64;
        for _ in 0..count {
            last = last.checked_add(unzigzag(input.int()?))?;
            sites.push(SiteCensus {
                site: last.try_into().ok()?,
                largest: input.int()?,
                oldest_ms: input.int()?,
                sizes: buckets(&mut input)?,
                ages: buckets(&mut input)?,
            });
        }
        Some(Census { at_ms, sites })
    }
}

/// Writes a [`Census`] site by site.
#[derive(Clone, Debug)]
pub struct CensusWriter {
    out: Vec<u8>,
    last: i64,
}

impl CensusWriter {
    /// Of so many sites.
    pub fn new(at_ms: u64, sites: usize) -> CensusWriter {
        let mut out = Vec::with_capacity(16 + sites * 12);
        put(&mut out, at_ms);
        put(&mut out, sites as u64);
        CensusWriter { out, last: 0 }
    }

    /// The next one in order: its id, largest block and the age of its oldest, then its buckets.
    pub fn site(
        &mut self,
        (site, largest, oldest_ms): (u32, u64, u64),
        sizes: &[(u16, u64)],
        ages: &[(u16, u64)],
    ) {
        put(&mut self.out, zigzag(i64::from(site) - self.last));
        self.last = i64::from(site);
        put(&mut self.out, largest);
        put(&mut self.out, oldest_ms);
        for buckets in [sizes, ages] {
            put(&mut self.out, buckets.len() as u64);
            for &(bucket, count) in buckets {
                put(&mut self.out, u64::from(bucket));
                put(&mut self.out, count);
            }
        }
    }

    /// The bytes of the blob.
    pub fn finish(self) -> Vec<u8> {
        self.out
    }
}

/// What the arrays held when nothing changed any more, in a twentieth of the room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// In order of site, from 0 on.
    pub sites: Vec<SiteNumbers>,
}

/// The numbers of one site.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SiteNumbers {
    /// What came and went.
    pub totals: Totals,
    /// Live at the peak.
    pub peak: Amount,
    /// Live before the interpreter's teardown.
    pub last: Amount,
}

impl Numbers {
    /// The bytes of the blob for so many sites.
    pub fn encode(count: usize, site: impl Fn(usize) -> SiteNumbers) -> Vec<u8> {
        let mut out = Vec::with_capacity(count * 12);
        put(&mut out, count as u64);
        for site in (0..count).map(site) {
            for amount in [site.totals.allocated, site.totals.freed, site.peak, site.last] {
                put(&mut out, amount.blocks);
                put(&mut out, amount.bytes);
            }
        }
        out
    }

    /// Reads what [`Numbers::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Option<Numbers> {
        let mut input = Input(bytes);
        let count = input.count()?;
        let mut sites = Vec::with_capacity(count);
        for _ in 0..count {
            let mut amount = || Some(Amount { blocks: input.int()?, bytes: input.int()? });
            let totals = Totals { allocated: amount()?, freed: amount()? };
            sites.push(SiteNumbers { totals, peak: amount()?, last: amount()? });
        }
        Some(Numbers { sites })
    }
}

fn buckets(input: &mut Input) -> Option<Vec<(u16, u64)>> {
    let count = input.count()?;
    (0..count).map(|_| Some((input.int()?.try_into().ok()?, input.int()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(at_ms: u64, changes: &[(u32, u64)]) -> Point {
        let changes =
            changes.iter().map(|&(site, bytes)| Change { site, bytes, blocks: 1 }).collect();
        Point { at_ms, changes, ..Point::default() }
    }

    #[test]
    fn a_halved_timeline_keeps_the_latest_of_each_site() {
        let mut timeline = Timeline {
            points: vec![
                point(1, &[(1, 10), (5, 1)]),
                point(2, &[(1, 20), (7, 3)]),
                point(3, &[(2, 9)]),
            ],
        };
        timeline.halve();
        assert_eq!(
            timeline.points,
            vec![point(2, &[(1, 20), (5, 1), (7, 3)]), point(3, &[(2, 9)])]
        );
        assert_eq!(Timeline::decode(&timeline.encode()), Some(timeline));
    }

    #[test]
    fn a_census_comes_back_and_a_cut_one_does_not() {
        let census = Census {
            at_ms: 77,
            sites: vec![SiteCensus {
                site: 9,
                largest: 4096,
                oldest_ms: 60,
                sizes: vec![(3, 1), (40, 2)],
                ages: vec![(1, 3)],
            }],
        };
        let bytes = census.encode();
        assert_eq!(Census::decode(&bytes), Some(census));
        for len in 0..bytes.len() {
            assert_eq!(Census::decode(&bytes[..len]), None);
        }
    }
}
