//! Definitions on their way to the collector, in order.

use std::collections::VecDeque;

use pyshim_dump::record::{Frame, Origin, Record};

use crate::collector;
use crate::store::{self, STORE};

/// Definitions that may wait for the collector.
const MOST_WAITING: usize = 4096;

/// What travels through the channel.
pub enum Definition {
    /// Anything but a site.
    Record(Record),
    /// A site.
    Site {
        /// Its id.
        id: u32,
        /// The allocator.
        origin: Origin,
        /// Frames were left out.
        truncated: bool,
        /// Outer frames that it shares with the site announced before it.
        shared: usize,
        /// The other frames, innermost first.
        frames: Vec<Frame>,
    },
}

/// See the module.
pub struct Line {
    /// What the channel had no room for.
    backlog: VecDeque<Definition>,
    /// The stack of the last site, outermost first.
    said: Vec<Frame>,
    /// So many frames of the Python stack at hand are those of `said`.
    agrees: usize,
}

impl Line {
    /// Nothing announced yet.
    pub const fn new() -> Line {
        Line { backlog: VecDeque::new(), said: Vec::new(), agrees: 0 }
    }

    /// The Python stack at hand changed but for its `shown` outermost frames.
    pub fn agrees_up_to(&mut self, shown: usize) {
        self.agrees = self.agrees.min(shown);
    }

    /// Announces a site: its frames are `python` and then `inner`, outermost first. Only what
    /// differs from the site before travels.
    pub fn announce_site(
        &mut self,
        (id, origin, truncated): (u32, Origin, bool),
        python: &[Frame],
        inner: impl Iterator<Item = Frame>,
    ) {
        if collector::begins_anew() {
            self.said.clear();
            self.agrees = 0;
        }
        let mut shared = self.agrees.min(python.len()).min(self.said.len());
        let rest = python.get(shared..).unwrap_or_default();
        let mut rest = rest.iter().copied().chain(inner).peekable();
        while let (Some(old), Some(new)) = (self.said.get(shared), rest.peek()) {
            if old != new {
                break;
            }
            shared += 1;
            rest.next();
        }
        self.said.truncate(shared);
        self.said.extend(rest);
        self.agrees = python.len();
        let frames = self.said.iter().skip(shared).rev().copied().collect();
        self.announce(Definition::Site { id, origin, truncated, shared, frames });
    }

    /// Hands a definition to the collector. What the channel has no room for
    /// waits here, in order; nothing blocks and nothing is dropped.
    pub fn announce(&mut self, definition: Definition) {
        if !self.backlog.is_empty() {
            self.backlog.push_back(definition);
        } else if let Err(definition) = collector::send(definition) {
            self.backlog.push_back(definition);
        }
        // Nobody drains: do it here.
        if self.backlog.len() >= MOST_WAITING {
            self.write_out(&mut STORE.lock());
        }
    }

    /// Brings everything that is under way into the log.
    pub fn write_out(&mut self, store: &mut store::Store) {
        collector::drain(store);
        while !self.backlog.is_empty() && store.exists() {
            while let Some(definition) = self.backlog.pop_front() {
                if let Err(definition) = collector::send(definition) {
                    self.backlog.push_front(definition);
                    break;
                }
            }
            collector::drain(store);
        }
    }
}
