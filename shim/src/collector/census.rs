//! Sizes and ages of the live blocks, by site.

use pyshim_dump::blob::CensusWriter;
use pyshim_dump::histogram;
use pyshim_dump::layout::{BlobKind, Lost};

use super::gauges;
use crate::store::{self, STORE};
use crate::{epoch, heap, life, live};

/// A census, with the readings of the process, may take this fraction of the time.
const SHARE: u64 = 100;
const SHORTEST_INTERVAL_NS: u64 = 1_000_000_000;

/// When to take the next one.
pub struct Keeper {
    next_ns: u64,
}

impl Keeper {
    /// None taken yet.
    pub const fn new() -> Keeper {
        Keeper { next_ns: 0 }
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
    let now_ms = life::since_epoch_ms();
    let forked_at = epoch::FORKED_AT.load(core::sync::atomic::Ordering::Relaxed);
    let mut sites = Sites::new(store::site_count() as usize);
    live::visit(|block| {
        if block.epoch >= forked_at {
            let age_ms = now_ms.saturating_sub(epoch::to_ms(block.epoch));
            sites.of(block.site).count(block.size as u64, age_ms);
        }
    });
    let census = sites.encode(life::since_start_ns() / 1_000_000);
    if STORE.lock().write_blob(kind, &census).is_err() {
        store::lose(Lost::Growth);
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
    fn count(&mut self, size: u64, age_ms: u64) {
        self.largest = self.largest.max(size);
        self.oldest_ms = self.oldest_ms.max(age_ms);
        if !count_first(&mut self.size, histogram::bucket(size)) {
            let more = self.more.get_or_insert_default();
            count(&mut more.sizes, histogram::bucket(size));
        }
        if !count_first(&mut self.age, histogram::bucket(age_ms)) {
            let more = self.more.get_or_insert_default();
            count(&mut more.ages, histogram::bucket(age_ms));
        }
    }
}

/// Counts a block in the first bucket if it is that one's, or there is none yet.
fn count_first(first: &mut u64, bucket: u16) -> bool {
    let is_its = *first == 0 || *first >> 48 == u64::from(bucket);
    if is_its {
        *first = u64::from(bucket) << 48 | ((*first & BLOCKS) + 1);
    }
    is_its
}

/// A site has few distinct sizes and ages, and the last one seen often comes again.
fn count(buckets: &mut Vec<(u16, u64)>, bucket: u16) {
    match buckets.iter_mut().rev().find(|(known, _)| *known == bucket) {
        Some((_, count)) => *count += 1,
        None => buckets.push((bucket, 1)),
    }
}

/// All buckets in order.
fn buckets(first: u64, more: &[(u16, u64)], out: &mut Vec<(u16, u64)>) {
    out.clear();
    out.push(((first >> 48) as u16, first & BLOCKS));
    out.extend_from_slice(more);
    out.sort_unstable();
}

#[cfg(test)]
mod tests {
    use pyshim_dump::blob::{Census, SiteCensus};

    use super::*;

    #[test]
    fn every_block_is_in_a_bucket_of_its_site() {
        let mut sites = Sites::new(3);
        for (site, size, age_ms) in
            [(7, 100, 5), (1, 3, 9), (7, 9, 5), (7, 100, 1), (7, 9, 70), (1, 3, 9), (7, 0, 1)]
        {
            sites.of(site).count(size, age_ms);
        }
        let one = |site, largest, oldest_ms, sizes: &[_], ages: &[_]| SiteCensus {
            site,
            largest,
            oldest_ms,
            sizes: sizes.to_vec(),
            ages: ages.to_vec(),
        };
        let (hundred, seventy) = (histogram::bucket(100), histogram::bucket(70));
        let expected = [
            one(1, 3, 9, &[(3, 2)], &[(9, 2)]),
            one(7, 100, 70, &[(0, 1), (9, 2), (hundred, 2)], &[(1, 2), (5, 2), (seventy, 1)]),
        ];
        let census = Census::decode(&sites.encode(4)).unwrap();
        assert_eq!((census.at_ms, census.sites), (4, expected.to_vec()));
    }
}
