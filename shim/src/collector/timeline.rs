//! Live memory of every site at a bounded number of moments.

use pyshim_dump::amount;
use pyshim_dump::blob::{Change, PointWriter, TimelineWriter};
use pyshim_dump::layout::{BlobKind, Gauge, Lost};

use super::gauges;
use crate::hash::mix;
use crate::life;
use crate::store::{self, STORE};

use core::sync::atomic::Ordering::Relaxed;

/// Points kept; at this number every second one is dropped, and the time between two doubles.
const MOST_POINTS: usize = 128;
const FIRST_INTERVAL_NS: u64 = 100_000_000;
/// Points may take this fraction of the time: there may be a hundred thousand sites.
const SHARE: u64 = 100;
/// Writing all of them anew may take this one.
const WRITE_SHARE: u64 = 400;

/// The timeline so far.
pub struct Keeper {
    timeline: TimelineWriter,
    /// What was live at each site ([`condensed`]).
    last: Vec<u64>,
    interval_ns: u64,
    next_ns: u64,
    /// When the points are to be written again.
    next_write_ns: u64,
}

impl Keeper {
    /// Nothing yet.
    pub const fn new() -> Keeper {
        Keeper {
            timeline: TimelineWriter::new(),
            last: Vec::new(),
            interval_ns: FIRST_INTERVAL_NS,
            next_ns: 0,
            next_write_ns: 0,
        }
    }

    /// Takes a point if it is time, or if it is the last chance.
    pub fn round(&mut self, now_ns: u64, last: bool) {
        if now_ns < self.next_ns && !last {
            return;
        }
        self.next_ns = now_ns + self.interval_ns;
        let point = self.point(now_ns);
        self.timeline.push(point);
        if self.timeline.count() >= MOST_POINTS {
            self.timeline.halve();
            self.interval_ns *= 2;
        }
        let taken_ns = life::since_start_ns();
        let cost = taken_ns.saturating_sub(now_ns);
        self.next_ns = self.next_ns.max(now_ns + cost * SHARE);
        if last || taken_ns >= self.next_write_ns {
            self.write();
            let cost = life::since_start_ns().saturating_sub(taken_ns);
            self.next_write_ns = taken_ns + cost * WRITE_SHARE;
        }
    }

    fn write(&self) {
        let blob = self.timeline.encode();
        if STORE.lock().write_blob(BlobKind::Timeline, &blob).is_err() {
            store::lose(Lost::Growth);
        }
    }

    fn point(&mut self, now_ns: u64) -> PointWriter {
        let rss = gauges::resident();
        let header = store::header();
        // Once stock was taken, the readings are those of that moment.
        if header.final_ns.load(Relaxed) == 0 {
            header.gauges[Gauge::Rss as usize].store(rss, Relaxed);
        }
        header.gauges[Gauge::PeakRss as usize].fetch_max(rss, Relaxed);
        let mut point = PointWriter::default();
        (point.at_ms, point.rss) = (now_ns / 1_000_000, rss);
        self.last.resize(store::site_count() as usize, 0);
        for ((site, totals), last) in (0..).zip(store::all_totals()).zip(&mut self.last) {
            point.allocated_blocks = point.allocated_blocks.wrapping_add(totals.0.0);
            point.allocated_bytes = point.allocated_bytes.wrapping_add(totals.0.1);
            let (blocks, bytes) = store::left(totals);
            let live = condensed(blocks, bytes);
            if *last != live {
                *last = live;
                point.change(Change { site, bytes, blocks });
            }
        }
        point
    }
}

/// Both in one word: as they are, or a hash of what has no room in it.
fn condensed(blocks: u64, bytes: u64) -> u64 {
    amount::pack(blocks, bytes).unwrap_or_else(|| mix(blocks, bytes) | amount::FULL)
}
