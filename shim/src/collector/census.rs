//! Sizes and ages of the live blocks, by site.

use hashbrown::HashMap;
use pyshim_dump::blob::{Census, SiteCensus};
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
    let mut sites: HashMap<u32, Counts> = HashMap::new();
    live::visit(|block| {
        if block.epoch < forked_at {
            return;
        }
        let age_ms = now_ms.saturating_sub(epoch::to_ms(block.epoch));
        let counts = sites.entry(block.site).or_default();
        counts.largest = counts.largest.max(block.size as u64);
        counts.oldest_ms = counts.oldest_ms.max(age_ms);
        count(&mut counts.sizes, histogram::bucket(block.size as u64));
        count(&mut counts.ages, histogram::bucket(age_ms));
    });
    let mut census = Census { at_ms: life::since_start_ns() / 1_000_000, sites: Vec::new() };
    for (site, mut counts) in sites {
        counts.sizes.sort_unstable();
        counts.ages.sort_unstable();
        census.sites.push(SiteCensus {
            site,
            largest: counts.largest,
            oldest_ms: counts.oldest_ms,
            sizes: counts.sizes,
            ages: counts.ages,
        });
    }
    census.sites.sort_unstable_by_key(|site| site.site);
    if STORE.lock().write_blob(kind, &census.encode()).is_err() {
        store::lose(Lost::Growth);
    }
}

#[derive(Default)]
struct Counts {
    largest: u64,
    oldest_ms: u64,
    sizes: Vec<(u16, u64)>,
    ages: Vec<(u16, u64)>,
}

/// Blocks of a site have few distinct sizes and ages, and the last one seen often comes again.
fn count(buckets: &mut Vec<(u16, u64)>, bucket: u16) {
    match buckets.iter_mut().rev().find(|(known, _)| *known == bucket) {
        Some((_, count)) => *count += 1,
        None => buckets.push((bucket, 1)),
    }
}
