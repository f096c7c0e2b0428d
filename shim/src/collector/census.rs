//! Sizes and ages of the live blocks, by site.

use pyshim_dump::blob::CensusWriter;
use pyshim_dump::histogram;
use pyshim_dump::layout::{BlobKind, Lost};

use super::gauges;
use crate::hash::scatter;
use crate::live::SITE_BITS;
use crate::store::{self, STORE};
use crate::{epoch, heap, life, live};

/// A census, with the readings of the process, may take this fraction of the time.
const SHARE: u64 = 400;
/// Between two, and before the first: most programs that end sooner do so by themselves, and one is
/// taken then.
const SHORTEST_INTERVAL_NS: u64 = 1_000_000_000;

/// When to take the next one.
pub struct Keeper {
    next_ns: u64,
}

impl Keeper {
    /// None taken yet.
    pub const fn new() -> Keeper {
        Keeper { next_ns: SHORTEST_INTERVAL_NS }
    }

    /// Takes a census if it is time.
    pub fn round(&mut self, now_ns: u64) {
        if now_ns < self.next_ns {
            return;
        }
        take(BlobKind::Census);
        if store::header().final_ns.load(core::sync::atomic::Ordering::Relaxed) == 0 {
            gauges::take();
        }
        let cost = life::since_start_ns().saturating_sub(now_ns);
        self.next_ns = now_ns + (cost * SHARE).max(SHORTEST_INTERVAL_NS);
    }
}

/// Takes a census of all live blocks.
pub fn take(kind: BlobKind) {
    if heap::exhausted() {
        return store::lose(Lost::Growth);
    }
    let forked_at = epoch::FORKED_AT.load(core::sync::atomic::Ordering::Relaxed);
    let mut ages = Ages::new(life::since_epoch_ms());
    let mut sites = Sites::new(store::site_count() as usize);
    let mut alike = Alike::new();
    let mut done = |kind: Kind, blocks| {
        sites.of(kind.site).count(kind.size as u64, ages.of(kind.epoch), blocks);
    };
    live::visit(|block| {
        if block.epoch >= forked_at {
            alike.count(Kind::of(&block), &mut done);
        }
    });
    alike.rest(done);
    let census = sites.encode(life::since_start_ns() / 1_000_000);
    if STORE.lock().write_blob(kind, &census).is_err() {
        store::lose(Lost::Growth);
    }
}

/// What blocks are counted together by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kind {
    site: u32,
    epoch: u16,
    size: usize,
}

/// Sizes from here on have no room in a word beside the rest.
const LARGEST: usize = 1 << (64 - SITE_BITS - 16);

impl Kind {
    fn of(block: &live::Block) -> Kind {
        Kind { site: block.site, epoch: block.epoch, size: block.size }
    }

    fn word(self) -> u64 {
        (self.size as u64) << 16 << SITE_BITS
            | u64::from(self.epoch) << SITE_BITS
            | u64::from(self.site)
    }

    fn of_word(word: u64) -> Kind {
        Kind {
            site: word as u32 & ((1 << SITE_BITS) - 1),
            epoch: (word >> SITE_BITS) as u16,
            size: (word >> 16 >> SITE_BITS) as usize,
        }
    }
}

/// Blocks that are counted together: where there are many of one kind, each costs a look.
struct Alike {
    /// Kinds, as words, and their blocks.
    kinds: Vec<(u64, u64)>,
}

const ALIKE: usize = 2048;

impl Alike {
    fn new() -> Alike {
        Alike { kinds: vec![(0, 0); ALIKE] }
    }

    /// Counts a block. What gives way to its kind is `done`.
    #[inline(always)]
    fn count(&mut self, kind: Kind, mut done: impl FnMut(Kind, u64)) {
        let word = kind.word();
        let at = (scatter(word) >> 48) as usize % ALIKE;
        let Some((known, blocks)) = self.kinds.get_mut(at).filter(|_| kind.size < LARGEST) else {
            return done(kind, 1);
        };
        if *known != word {
            if *blocks != 0 {
                done(Kind::of_word(*known), *blocks);
            }
            (*known, *blocks) = (word, 0);
        }
        *blocks += 1;
    }

    /// All that are not done yet.
    fn rest(&self, mut done: impl FnMut(Kind, u64)) {
        let rest = self.kinds.iter().filter(|(_, blocks)| *blocks != 0);
        rest.for_each(|&(kind, blocks)| done(Kind::of_word(kind), blocks));
    }
}

/// An age in milliseconds, and its bucket.
type Age = (u64, u16);

/// The ages of epochs: blocks have few different ones.
struct Ages {
    now_ms: u64,
    known: [Option<(u16, Age)>; 64],
}

impl Ages {
    fn new(now_ms: u64) -> Ages {
        Ages { now_ms, known: [None; 64] }
    }

    fn of(&mut self, epoch: u16) -> Age {
        let place = &mut self.known[epoch as usize % 64];
        if let Some((known, age)) = *place
            && known == epoch
        {
            return age;
        }
        let ms = self.now_ms.saturating_sub(epoch::to_ms(epoch));
        let age = (ms, histogram::bucket(ms));
        *place = Some((epoch, age));
        age
    }
}

/// What was counted of each site that has live blocks.
struct Sites {
    /// Which of the counts are a site's, from one on.
    places: Vec<u32>,
    counts: Vec<Counts>,
}

/// Most sites have blocks of one size and age: a bucket is in the upper 16 bits of the first word, its
/// blocks in the others.
struct Counts {
    largest: u64,
    oldest_ms: u64,
    size: u64,
    age: u64,
    more: Option<Box<More>>,
}

/// Further buckets.
#[derive(Default)]
struct More {
    sizes: Vec<(u16, u64)>,
    ages: Vec<(u16, u64)>,
}

const BLOCKS: u64 = (1 << 48) - 1;

impl Sites {
    fn new(count: usize) -> Sites {
        Sites { places: vec![0; count], counts: Vec::with_capacity(count) }
    }

    fn of(&mut self, site: u32) -> &mut Counts {
        let site = site as usize;
        // One that was defined meanwhile.
        if site >= self.places.len() {
            self.places.resize(site + 1, 0);
        }
        let place = &mut self.places[site];
        if *place == 0 {
            self.counts.push(Counts { largest: 0, oldest_ms: 0, size: 0, age: 0, more: None });
            *place = self.counts.len() as u32;
        }
        &mut self.counts[*place as usize - 1]
    }

    fn encode(self, at_ms: u64) -> Vec<u8> {
        let mut writer = CensusWriter::new(at_ms, self.counts.len());
        let (mut sizes, mut ages) = (Vec::new(), Vec::new());
        for (site, &place) in self.places.iter().enumerate() {
            let counts = (place as usize).checked_sub(1).and_then(|place| self.counts.get(place));
            let Some(counts) = counts else { continue };
            let more = counts.more.as_deref();
            buckets(counts.size, more.map_or(&[], |more| &more.sizes), &mut sizes);
            buckets(counts.age, more.map_or(&[], |more| &more.ages), &mut ages);
            let site = (site as u32, counts.largest, counts.oldest_ms);
            writer.site(site, &sizes, &ages);
        }
        writer.finish()
    }
}

impl Counts {
    fn count(&mut self, size: u64, (age_ms, age): Age, blocks: u64) {
        self.largest = self.largest.max(size);
        self.oldest_ms = self.oldest_ms.max(age_ms);
        let size = histogram::bucket(size);
        if !count_first(&mut self.size, size, blocks) {
            count(&mut self.more.get_or_insert_default().sizes, size, blocks);
        }
        if !count_first(&mut self.age, age, blocks) {
            count(&mut self.more.get_or_insert_default().ages, age, blocks);
        }
    }
}

/// Counts blocks in the first bucket if it is theirs, or there is none yet.
fn count_first(first: &mut u64, bucket: u16, blocks: u64) -> bool {
    let is_its = *first == 0 || *first >> 48 == u64::from(bucket);
    if is_its {
        *first = u64::from(bucket) << 48 | ((*first & BLOCKS) + blocks);
    }
    is_its
}

/// A site has few distinct sizes and ages, and the last one seen often comes again.
fn count(buckets: &mut Vec<(u16, u64)>, bucket: u16, blocks: u64) {
    match buckets.iter_mut().rev().find(|(known, _)| *known == bucket) {
        Some((_, count)) => *count += blocks,
        None => buckets.push((bucket, blocks)),
    }
}

/// All buckets in order.
fn buckets(first: u64, more: &[(u16, u64)], out: &mut Vec<(u16, u64)>) {
    out.clear();
    out.push(((first >> 48) as u16, first & BLOCKS));
    if !more.is_empty() {
        out.extend_from_slice(more);
        out.sort_unstable();
    }
}

#[cfg(test)]
mod tests {
    use pyshim_dump::blob::{Census, SiteCensus};

    use super::*;

    #[test]
    fn every_block_is_in_a_bucket_of_its_site() {
        let mut sites = Sites::new(3);
        let (mut alike, mut ages) = (Alike::new(), Ages::new(0));
        let mut expected = vec![(7, 100, 5, 70_000), (1, 3, 9, 2), (7, 9, 5, 1)];
        expected.extend([(7, 100, 1, 1), (7, 9, 70, 1), (7, 0, 1, 3), (1, 3, 9, 40)]);
        expected.push((9, LARGEST + 5, 65_535, 2));
        let blocks = expected.iter().flat_map(|&(site, size, epoch, blocks)| {
            core::iter::repeat_n(Kind { site, epoch, size }, blocks)
        });
        // (As if an epoch were a millisecond.)
        let mut done = |kind: Kind, blocks| {
            let age = (u64::from(kind.epoch), histogram::bucket(u64::from(kind.epoch)));
            sites.of(kind.site).count(kind.size as u64, age, blocks);
        };
        blocks.for_each(|kind| alike.count(kind, &mut done));
        alike.rest(done);
        let one = |site, largest, oldest_ms, sizes: &[_], ages: &[_]| SiteCensus {
            site,
            largest,
            oldest_ms,
            sizes: sizes.to_vec(),
            ages: ages.to_vec(),
        };
        let (hundred, seventy) = (histogram::bucket(100), histogram::bucket(70));
        let (large, oldest) = (histogram::bucket(LARGEST as u64 + 5), histogram::bucket(65_535));
        let expected = [
            one(1, 3, 9, &[(3, 42)], &[(9, 42)]),
            one(
                7,
                100,
                70,
                &[(0, 3), (9, 2), (hundred, 70_001)],
                &[(1, 4), (5, 70_001), (seventy, 1)],
            ),
            one(9, LARGEST as u64 + 5, 65_535, &[(large, 2)], &[(oldest, 2)]),
        ];
        let census = Census::decode(&sites.encode(4)).unwrap();
        assert_eq!((census.at_ms, census.sites), (4, expected.to_vec()));
        // Epochs that share a place are told apart.
        for epoch in [1, 65, 1, 64, 0] {
            let mut later = Ages::new(1_000_000);
            later.of(1);
            let ms = 1_000_000 - epoch::to_ms(epoch);
            assert_eq!(later.of(epoch), (ms, histogram::bucket(ms)));
        }
        assert_eq!(ages.of(9).0, 0);
    }
}
