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
    /// The bytes of the blob.
    pub fn encode(&self) -> Vec<u8> {
        self.writer().encode()
    }

    /// The same, to be gone on with.
    pub fn writer(&self) -> TimelineWriter {
        let mut writer = TimelineWriter::new();
        for point in &self.points {
            let mut written = PointWriter {
                at_ms: point.at_ms,
                rss: point.rss,
                allocated_bytes: point.allocated_bytes,
                allocated_blocks: point.allocated_blocks,
                ..PointWriter::default()
            };
            point.changes.iter().for_each(|&change| written.change(change));
            writer.push(written);
        }
        writer
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
                point.changes.push(change(&mut input, &mut last)?);
            }
            points.push(point);
        }
        Some(Timeline { points })
    }
}

/// A [`Point`] whose changes are as the blob has them: in a fifth of the room.
#[derive(Clone, Debug, Default)]
pub struct PointWriter {
    /// As in [`Point`], like the next three.
    pub at_ms: u64,
    /// See there.
    pub rss: u64,
    /// See there.
    pub allocated_bytes: u64,
    /// See there.
    pub allocated_blocks: u64,
    count: u64,
    changes: Vec<u8>,
    last: i64,
}

impl PointWriter {
    /// The next change, in order of site.
    #[inline]
    pub fn change(&mut self, change: Change) {
        put(&mut self.changes, zigzag(i64::from(change.site) - self.last));
        put(&mut self.changes, change.bytes);
        put(&mut self.changes, change.blocks);
        self.last = i64::from(change.site);
        self.count += 1;
    }

    fn changes(&self) -> impl Iterator<Item = Change> {
        let (mut input, mut last) = (Input(&self.changes), 0);
        core::iter::from_fn(move || change(&mut input, &mut last))
    }

    /// The point, with changes since the one before the `earlier` one, which is left out: where both
    /// speak of the same site, its own word counts.
    fn since(self, earlier: &PointWriter) -> PointWriter {
        let mut merged = PointWriter { count: 0, changes: Vec::new(), last: 0, ..self };
        let mut rest = self.changes().peekable();
        for change in earlier.changes() {
            while let Some(next) = rest.next_if(|next| next.site < change.site) {
                merged.change(next);
            }
            merged.change(rest.next_if(|next| next.site == change.site).unwrap_or(change));
        }
        rest.for_each(|change| merged.change(change));
        merged
    }
}

/// A [`Timeline`] that goes on.
#[derive(Clone, Debug, Default)]
pub struct TimelineWriter {
    points: Vec<PointWriter>,
}

impl TimelineWriter {
    /// Without points.
    pub const fn new() -> TimelineWriter {
        TimelineWriter { points: Vec::new() }
    }

    /// How many points there are.
    pub fn count(&self) -> usize {
        self.points.len()
    }

    /// The next point.
    pub fn push(&mut self, mut point: PointWriter) {
        point.changes.shrink_to_fit();
        self.points.push(point);
    }

    /// Drops every second point; what changed at a dropped point moves to the next.
    pub fn halve(&mut self) {
        let mut points = core::mem::take(&mut self.points).into_iter();
        while let Some(first) = points.next() {
            self.push(match points.next() {
                Some(second) => second.since(&first),
                None => first,
            });
        }
    }

    /// The bytes of the blob.
    pub fn encode(&self) -> Vec<u8> {
        let changes: usize = self.points.iter().map(|point| point.changes.len()).sum();
        let mut out = Vec::with_capacity(10 + 50 * self.points.len() + changes);
        put(&mut out, self.points.len() as u64);
        for point in &self.points {
            put(&mut out, point.at_ms);
            put(&mut out, point.rss);
            put(&mut out, point.allocated_bytes);
            put(&mut out, point.allocated_blocks);
            put(&mut out, point.count);
            out.extend_from_slice(&point.changes);
        }
        out
    }
}

/// The next change, where `last` is the site of the one before.
fn change(input: &mut Input, last: &mut i64) -> Option<Change> {
    *last = last.checked_add(unzigzag(input.int()?))?;
    Some(Change { site: (*last).try_into().ok()?, bytes: input.int()?, blocks: input.int()? })
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

/// How an amount of a site stands to what was allocated there. Mostly nothing of it was freed, or all.
mod stands {
    /// It is nothing.
    pub const NONE: u8 = 0;
    /// It is as much.
    pub const ALL: u8 = 1;
    /// It is what was not freed.
    pub const LEFT: u8 = 2;
    /// It is told.
    pub const OTHERWISE: u8 = 3;
}

impl Numbers {
    /// The bytes of the blob for these sites.
    pub fn encode(sites: impl ExactSizeIterator<Item = SiteNumbers>) -> Vec<u8> {
        let mut out = Vec::with_capacity(sites.len() * 6);
        put(&mut out, sites.len() as u64);
        for SiteNumbers { totals, peak, last } in sites {
            let put_amount = |out: &mut Vec<u8>, amount: Amount| {
                put(out, amount.blocks);
                put(out, amount.bytes);
            };
            let stands = |amount: Amount, left: Amount| match amount {
                Amount { blocks: 0, bytes: 0 } => stands::NONE,
                _ if amount == totals.allocated => stands::ALL,
                _ if amount == left => stands::LEFT,
                _ => stands::OTHERWISE,
            };
            let (nothing, live) = (Amount::default(), totals.live());
            let others = [(totals.freed, nothing), (peak, live), (last, live)];
            let others = others.map(|(amount, left)| (stands(amount, left), amount));
            let [freed, peak, last] = others.map(|(stands, _)| stands);
            out.push(freed | peak << 2 | last << 4);
            put_amount(&mut out, totals.allocated);
            for (_, amount) in others.iter().filter(|(stands, _)| *stands == stands::OTHERWISE) {
                put_amount(&mut out, *amount);
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
            let head = input.byte()?;
            let mut told = || Some(Amount { blocks: input.int()?, bytes: input.int()? });
            let allocated = told()?;
            let mut amount = |at: u8, left: Amount| {
                Some(match head >> at & 3 {
                    stands::NONE => Amount::default(),
                    stands::ALL => allocated,
                    stands::LEFT => left,
                    _ => told()?,
                })
            };
            let totals = Totals { allocated, freed: amount(0, Amount::default())? };
            let (peak, last) = (amount(2, totals.live())?, amount(4, totals.live())?);
            sites.push(SiteNumbers { totals, peak, last });
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

    #[test]
    fn numbers_come_back() {
        let some = [(0, 0), (1, 48), (3, 100), (4, 148), (5, u64::MAX), (7, 248)];
        let amount = |at: usize| Amount { blocks: some[at].0, bytes: some[at].1 };
        let all = (0..6usize.pow(4)).map(|at| SiteNumbers {
            totals: Totals { allocated: amount(at % 6), freed: amount(at / 6 % 6) },
            peak: amount(at / 36 % 6),
            last: amount(at / 216),
        });
        let sites: Vec<SiteNumbers> = all.collect();
        let bytes = Numbers::encode(sites.iter().copied());
        assert_eq!(Numbers::decode(&bytes), Some(Numbers { sites: sites.clone() }));
        assert_eq!(Numbers::decode(&bytes[..bytes.len() - 1]), None);
        // As most are: nothing is told but what was allocated.
        let live = |freed| {
            let totals = Totals { allocated: amount(3), freed };
            SiteNumbers { totals, peak: totals.live(), last: totals.live() }
        };
        for freed in [amount(0), amount(3)] {
            assert_eq!(Numbers::encode([live(freed)].into_iter()).len(), 1 + 1 + 1 + 2);
        }
    }

    fn point(at_ms: u64, changes: &[(u32, u64)]) -> Point {
        let changes =
            changes.iter().map(|&(site, bytes)| Change { site, bytes, blocks: 1 }).collect();
        Point { at_ms, changes, ..Point::default() }
    }

    #[test]
    fn a_halved_timeline_keeps_the_latest_of_each_site() {
        let points = vec![
            point(1, &[(1, 10), (5, 1), (9, 300)]),
            point(2, &[(1, 20), (7, 3), (u32::MAX, 1)]),
            point(3, &[(2, 9)]),
        ];
        let mut writer = Timeline { points: points.clone() }.writer();
        let timeline = Timeline::decode(&writer.encode()).unwrap();
        assert_eq!(timeline.points, points);
        assert_eq!(timeline.encode(), writer.encode());
        writer.halve();
        assert_eq!(writer.count(), 2);
        let expected = vec![
            point(2, &[(1, 20), (5, 1), (7, 3), (9, 300), (u32::MAX, 1)]),
            point(3, &[(2, 9)]),
        ];
        assert_eq!(Timeline::decode(&writer.encode()), Some(Timeline { points: expected }));
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
