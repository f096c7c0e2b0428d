//! Definitions on their way to the collector, in order.
//!
//! They are written as the dump's log has them, into a batch; full batches go through the channel.
//! What is in none yet is taken from here ([`Line::take`]) when somebody comes for it.

use std::collections::VecDeque;

use pyshim_dump::record::{self, Before, Frame, Record, SiteHead};

use crate::collector;
use crate::store::{Batch, STORE, Store};

/// A batch of so many bytes is full.
const FULL: usize = 16 << 10;
/// Room for what makes it full.
const ROOM: usize = FULL + (2 << 10);

/// Batches that may wait for the collector.
const MOST_WAITING: usize = 64;

/// See the module.
pub struct Line {
    batch: Batch,
    /// What the channel had no room for.
    backlog: VecDeque<Batch>,
    /// The stack of the last site in the batch, outermost first, and its id.
    said: Vec<Frame>,
    said_id: u32,
    /// So many frames of the stack at hand are those of `said`.
    agrees: usize,
}

impl Line {
    /// Nothing announced yet.
    pub const fn new() -> Line {
        Line {
            batch: Batch::NONE,
            backlog: VecDeque::new(),
            said: Vec::new(),
            said_id: 0,
            agrees: 0,
        }
    }

    /// The stack at hand changed but for its `shown` outermost frames.
    pub fn agrees_up_to(&mut self, shown: usize) {
        self.agrees = self.agrees.min(shown);
    }

    /// Announces a site with its `frames` (the stack at hand, if that is `whole`), outermost first. Only
    /// what differs from the site before, if that is in the same batch, is written.
    pub fn announce_site(&mut self, site: &SiteHead, frames: &[Frame], whole: bool) {
        if !whole {
            self.agrees = 0;
        }
        let known = self.agrees.min(frames.len()).min(self.said.len());
        let rest = frames.get(known..).unwrap_or_default();
        let alike = self.said.get(known..).unwrap_or_default().iter().zip(rest);
        let shared = known + alike.take_while(|(old, new)| old == new).count();
        let fresh = frames.get(shared..).unwrap_or_default();
        self.said.truncate(shared);
        self.said.extend_from_slice(fresh);
        self.agrees = if whole { frames.len() } else { 0 };
        let before = Before { id: self.said_id, frames: shared };
        self.said_id = site.id;
        record::write_site(self.batch.begun(ROOM), site, before, fresh.iter().rev().copied());
        self.announced();
    }

    /// Announces anything but a site.
    pub fn announce(&mut self, record: &Record) {
        // It refers to nothing, whatever was written before it.
        record::write(self.batch.begun(ROOM), &mut record::Context::new(), record);
        self.announced();
    }

    /// Hands a full batch on. What the channel has no room for waits here, in order; nothing blocks
    /// and nothing is dropped.
    fn announced(&mut self) {
        self.batch.count += 1;
        if self.batch.bytes.len() < FULL {
            return;
        }
        let batch = self.end_batch();
        if !self.backlog.is_empty() {
            self.backlog.push_back(batch);
        } else if let Err(batch) = collector::send(batch) {
            self.backlog.push_back(batch);
        }
        // Nobody takes them: do it here.
        if self.backlog.len() >= MOST_WAITING {
            self.write_out(&mut STORE.lock());
        }
    }

    /// The batch so far. The next one refers to nothing in it.
    fn end_batch(&mut self) -> Batch {
        self.said.clear();
        (self.said_id, self.agrees) = (0, 0);
        let mut batch = core::mem::replace(&mut self.batch, Batch::NONE);
        record::end_batch(&mut batch.bytes);
        batch
    }

    /// All that is under way, in order. Whoever takes it must hold the store, which it goes into.
    pub fn take(&mut self) -> Vec<Batch> {
        let mut all: Vec<Batch> = collector::received().collect();
        all.extend(self.backlog.drain(..));
        if self.batch.count > 0 {
            all.push(self.end_batch());
        }
        all
    }

    /// Brings everything that is under way into the log.
    pub fn write_out(&mut self, store: &mut Store) {
        // A forked child has no file at first: what it defines waits for it.
        if store.exists() {
            self.take().into_iter().for_each(|batch| store.append(batch));
        }
    }
}
