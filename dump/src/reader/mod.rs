//! From the bytes of a dump to its content.
//!
//! `file` finds the parts and checks them, `parse` makes the content of them,
//! `frames` keeps the stacks. `pack` takes a dump apart and puts it together
//! without the room that only a running process needs.

mod file;
mod frames;
mod pack;
mod parse;

pub use pack::{Packed, pack};

use crate::amount;
use crate::blob::{Census, Timeline};
use crate::heap::Heap;
use crate::layout::{EndKind, GAUGES, Gauge, LOSSES, Lost};
use crate::record::{self, Code, Frame, Origin, Process};

/// The content of a dump.
#[derive(Clone, Debug)]
pub struct Dump {
    /// The process id.
    pub pid: u32,
    /// The parent's process id when it started.
    pub parent_pid: u32,
    /// When recording began, nanoseconds of Unix time.
    pub started_unix_ns: u64,
    /// Start of the process as in field 22 of `/proc/PID/stat`.
    pub started_ticks: u64,
    /// Exact or sampled.
    pub mode: Mode,
    /// A forked child: what was allocated before the fork is its parent's.
    pub forked: bool,
    /// Counters may be off by what raced at a late start.
    pub inexact: bool,
    /// Last sign of life, nanoseconds since the start.
    pub heartbeat_ns: u64,
    /// How it ended; `None` while it runs, or if it was killed.
    pub end: Option<End>,
    /// When the interpreter's teardown began, nanoseconds since the start.
    pub final_ns: Option<u64>,
    /// When the recorded peak was, nanoseconds since the start.
    pub peak_ns: Option<u64>,
    /// Highest number of live bytes seen. What sites have as their peak lies within 1 % of it where a
    /// time is known.
    pub peak_seen: u64,
    /// What a forked child freed of its parent's blocks.
    pub inherited_freed: Amount,
    /// What is known of the process, once it was written.
    pub process: Process,
    /// Code objects by id.
    pub codes: Vec<Option<Code>>,
    /// Texts by id.
    pub texts: Vec<Option<String>>,
    /// Modules in the order of their ids.
    pub modules: Vec<Module>,
    /// Sites by id.
    pub sites: Vec<Site>,
    /// Sentences for the reader of a report.
    pub notes: Vec<String>,
    /// Named moments: nanoseconds since the start, and the name.
    pub marks: Vec<(u64, String)>,
    /// Live memory over time.
    pub timeline: Timeline,
    /// Sizes and ages, as last taken while the process ran.
    pub census: Option<Census>,
    /// Sizes and ages before the teardown.
    pub final_census: Option<Census>,
    /// What the last heap snapshot found.
    pub heap: Option<Heap>,
    /// The state of heap snapshots.
    pub snapshots: Snapshots,
    /// Bytes of the file.
    pub file_len: u64,
    paths: Vec<Option<Path>>,
    frames: frames::Tree,
    gauges: [u64; GAUGES],
    lost: [u64; LOSSES],
}

/// The state of heap snapshots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Snapshots {
    /// The copy of the process that searches now, if one does.
    pub running: Option<u32>,
    /// When the last one began, nanoseconds since the start.
    pub began_ns: u64,
    /// How many were finished.
    pub taken: u32,
    /// How many came to nothing.
    pub failed: u32,
    /// Why the last one of these did: a [`crate::layout::SnapshotFailure`] as a number.
    pub failure: u32,
}

/// Exact or sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Every block is recorded.
    Exact,
    /// Blocks are drawn, with this mean of bytes between two; counters are unbiased estimates.
    Sampled(u64),
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// The way.
    pub kind: EndKind,
    /// Exit status, for an exit.
    pub status: i32,
    /// When, nanoseconds since the start.
    pub at_ns: u64,
}

/// A number of blocks and of the bytes in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Blocks.
    pub blocks: u64,
    /// Bytes.
    pub bytes: u64,
}

/// What came and went at a site.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// All that was allocated.
    pub allocated: Amount,
    /// What of it was freed.
    pub freed: Amount,
}

impl Totals {
    /// What of it is live.
    pub fn live(&self) -> Amount {
        Amount {
            blocks: self.allocated.blocks.saturating_sub(self.freed.blocks),
            bytes: self.allocated.bytes.saturating_sub(self.freed.bytes),
        }
    }
}

/// A module with its life.
#[derive(Clone, Debug)]
pub struct Module {
    /// What was loaded.
    pub loaded: record::Module,
    /// When it was unloaded, nanoseconds since the start.
    pub unloaded_ns: Option<u64>,
}

/// An allocation site.
#[derive(Clone, Debug, Default)]
pub struct Site {
    /// Its stack; `None` if its definition never reached the log.
    pub stack: Option<Stack>,
    /// Counters as they stand.
    pub totals: Totals,
    /// Live at the peak.
    pub peak: Amount,
    /// Live before the interpreter's teardown.
    pub last: Amount,
}

/// The definition of a site.
#[derive(Clone, Debug)]
pub struct Stack {
    /// Where its blocks come from.
    pub origin: Origin,
    /// Frames were left out at the outer end.
    pub truncated: bool,
    /// Modules with a lower id were known when it was defined; a native address belongs to the latest
    /// of these that holds it.
    pub modules_known: u32,
    /// Its [`Path`]; 0: none.
    path: u32,
    innermost: frames::Node,
}

/// Native frames that sites have in common: their innermost ones.
#[derive(Clone, Debug)]
struct Path {
    /// Frames were left out at the outer end.
    truncated: bool,
    /// Addresses that calls return to, innermost first.
    pcs: Box<[u64]>,
}

impl Dump {
    /// The frames of a stack of this dump, innermost first.
    pub fn frames(&self, stack: &Stack) -> impl Iterator<Item = Frame> + '_ {
        let path = self.path(stack.path).map_or(&[][..], |path| &path.pcs);
        let natives = path.iter().map(|&pc| Frame::Native { pc });
        natives.chain(self.frames.from(stack.innermost))
    }

    fn path(&self, id: u32) -> Option<&Path> {
        self.paths.get(id as usize)?.as_ref()
    }

    /// A reading of the process, in bytes.
    pub fn gauge(&self, gauge: Gauge) -> u64 {
        self.gauges.get(gauge as usize).copied().unwrap_or(0)
    }

    /// How often something was not recorded.
    pub fn lost(&self, reason: Lost) -> u64 {
        self.lost.get(reason as usize).copied().unwrap_or(0)
    }

    /// The module that held `pc` when `stack` was defined; failing that, the first loaded there later
    /// (a definition can reach the log before the module that was just loaded).
    pub fn module_of(&self, stack: &Stack, pc: u64) -> Option<&Module> {
        let holds = |module: &&Module| module.loaded.start <= pc && pc < module.loaded.end;
        let known = |module: &Module| module.loaded.id < stack.modules_known;
        let (known, later) = self.modules.split_at(self.modules.partition_point(known));
        known.iter().rev().find(holds).or_else(|| later.iter().find(holds))
    }
}

impl Amount {
    /// That of a word.
    fn of(word: u64) -> Amount {
        let (blocks, bytes) = amount::unpack(word);
        Amount { blocks, bytes }
    }
}

impl core::ops::Add for Amount {
    type Output = Amount;

    fn add(self, other: Amount) -> Amount {
        Amount {
            blocks: self.blocks.wrapping_add(other.blocks),
            bytes: self.bytes.wrapping_add(other.bytes),
        }
    }
}
