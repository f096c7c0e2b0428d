//! Live memory of every site at a bounded number of moments.

use pyshim_dump::blob::{Change, Point, Timeline};
use pyshim_dump::layout::{BlobKind, Gauge, Lost};

use super::gauges;
use crate::life;
use crate::store::{self, STORE};

use core::sync::atomic::Ordering::Relaxed;

/// Points kept; at this number every second one is dropped, and the time between two doubles.
const MOST_POINTS: usize = 128;
const FIRST_INTERVAL_NS: u64 = 100_000_000;
/// Points may take this fraction of the time: there may be a hundred thousand sites.
const SHARE: u64 = 100;

/// The timeline so far.
pub struct Keeper {
    timeline: Timeline,
    last: Vec<(u64, u64)>,
    interval_ns: u64,
    next_ns: u64,
}

impl Keeper {
    /// Nothing yet.
    pub const fn new() -> Keeper {
        Keeper {
            timeline: Timeline { points: Vec::new() },
            last: Vec::new(),
            interval_ns: FIRST_INTERVAL_NS,
            next_ns: 0,
        }
    }

    /// Takes a point if it is time, or if it is the last chance.
    pub fn round(&mut self, now_ns: u64, last: bool) {
        if now_ns < self.next_ns && !last {
            return;
        }
        self.next_ns = now_ns + self.interval_ns;
        let point = self.point(now_ns);
        self.timeline.points.push(point);
        if self.timeline.points.len() >= MOST_POINTS {
            self.timeline.halve();
            self.interval_ns *= 2;
        }
        let blob = self.timeline.encode();
        if STORE.lock().write_blob(BlobKind::Timeline, &blob).is_err() {
            store::lose(Lost::Growth);
        }
        let cost = life::since_start_ns().saturating_sub(now_ns);
        self.next_ns = self.next_ns.max(now_ns + cost * SHARE);
    }

    fn point(&mut self, now_ns: u64) -> Point {
        let rss = gauges::resident();
        let header = store::header();
        // Once stock was taken, the readings are those of that moment.
        if header.final_ns.load(Relaxed) == 0 {
            header.gauges[Gauge::Rss as usize].store(rss, Relaxed);
        }
        header.gauges[Gauge::PeakRss as usize].fetch_max(rss, Relaxed);
        let mut point = Point { at_ms: now_ns / 1_000_000, rss, ..Point::default() };
        let count = store::site_count();
        self.last.resize(count as usize, (0, 0));
        for (site, last) in (0..count).zip(&mut self.last) {
            let totals = store::totals(site);
            point.allocated_blocks = point.allocated_blocks.wrapping_add(totals.0.0);
            point.allocated_bytes = point.allocated_bytes.wrapping_add(totals.0.1);
            let (blocks, bytes) = store::left(totals);
            if *last != (blocks, bytes) {
                *last = (blocks, bytes);
                point.changes.push(Change { site, bytes, blocks });
            }
        }
        point
    }
}
