//! What a report says; filled in by [`super::summarize`], shown by the views.

use std::rc::Rc;

use pyshim_dump::Amount;
use pyshim_dump::record::Origin;

use crate::read::State;

use super::causes::{Cause, Verdict};
use super::roles::Role;

/// The whole of a report.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The processes that the dumps are of.
    pub processes: Vec<Process>,
    /// The moment whose live blocks are listed.
    pub moment: Moment,
    /// What `groups` are grouped by.
    pub by: By,
    /// Why memory grows, worst first.
    pub causes: Vec<Cause>,
    /// The same in short.
    pub verdict: Verdict,
    /// Where the resident memory is.
    pub memory: Memory,
    /// All that is listed, and what of it was left out.
    pub total: Total,
    /// How growth was told from start-up.
    pub window: Window,
    /// The highest number of live bytes; nothing where several processes had theirs at several times.
    pub peak: Option<Peak>,
    /// Sites, or libraries, ranked.
    pub groups: Vec<Group>,
    /// The types of Python objects, most retained bytes first; of the heap snapshots.
    pub types: Vec<TypeRow>,
    /// Holders, most bytes first; of the heap snapshots.
    pub holders: Vec<HolderRow>,
    /// Stacks, ranked; only filled in on request.
    pub survivors: Vec<Survivor>,
    /// What is missing from it.
    pub completeness: Completeness,
}

/// A moment of a process' life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Moment {
    /// Before the interpreter's teardown; failing that, the last that is known.
    #[default]
    Last,
    /// When most was live.
    Peak,
}

/// What sites are grouped by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum By {
    /// The place in the program that allocates.
    #[default]
    Site,
    /// The library that it belongs to.
    Library,
    /// The type of the objects.
    Type,
    /// What holds it.
    Holder,
}

/// One of the processes.
#[derive(Clone, Debug)]
pub struct Process {
    /// The dump.
    pub dump: String,
    /// Its id.
    pub pid: u32,
    /// Its parent's id when it started.
    pub parent: u32,
    /// What people call it: the script, the module, the command.
    pub program: String,
    /// Its arguments.
    pub argv: Vec<String>,
    /// The executable's path.
    pub executable: String,
    /// Its working directory.
    pub directory: String,
    /// The interpreter's version, if there is an interpreter.
    pub python: Option<String>,
    /// When recording began, nanoseconds of Unix time.
    pub started_unix_ns: u64,
    /// How long it ran, or when it gave its last sign of life, in nanoseconds.
    pub duration_ns: u64,
    /// What became of it.
    pub state: State,
    /// It began as a copy of its parent, whose blocks are not counted again.
    pub forked: bool,
    /// What it freed of its parent's blocks.
    pub inherited_freed: Amount,
    /// The interpreter began its teardown.
    pub finalized: bool,
    /// Mean bytes between samples; `None`: every block was recorded.
    pub sampled: Option<u64>,
}

/// Bytes of resident memory by what they are; `None` where the dump has no figure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Resident set.
    pub rss: Option<u64>,
    /// Largest resident set.
    pub peak_rss: Option<u64>,
    /// Live blocks of Python's allocators.
    pub live_python: u64,
    /// Live blocks that native code allocated.
    pub live_native: u64,
    /// Live blocks whose stack is not known.
    pub live_unknown: u64,
    /// Free inside pymalloc's arenas.
    pub retained_pymalloc: Option<u64>,
    /// Free inside the C library's heaps.
    pub retained_libc: Option<u64>,
    /// Resident pages of the program's own mappings.
    pub mapped: Option<u64>,
    /// Resident pages of shared memory, where that is told apart.
    pub shared: Option<u64>,
    /// Resident pages of files that are no programs, where that is told apart.
    pub files: Option<u64>,
    /// Resident pages of thread stacks.
    pub thread_stacks: Option<u64>,
    /// Resident pages of program files.
    pub code: Option<u64>,
    /// Resident pages of the shim.
    pub shim: Option<u64>,
    /// What the rows above leave of the resident set. Negative: more was asked for than is resident.
    pub unexplained: Option<i64>,
}

/// Sums over all sites, also those that are not listed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Total {
    /// Blocks of the heaps.
    pub heap: Amount,
    /// Mappings, in address space.
    pub mapped: Amount,
    /// What of the heap outlives the interpreter's teardown, if there was one.
    pub outlives: Option<Amount>,
    /// How fast the heap grows.
    pub growth: Option<Rate>,
    /// Groups of the heaps' blocks that are not listed.
    pub groups_left: usize,
    /// What is in these.
    pub left: Amount,
    /// Stacks, listed or not, before native frames are merged by their names.
    pub stacks: usize,
}

/// How growth was told from start-up.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Window {
    /// Whether the run was long enough for it.
    pub separated: bool,
    /// End of the start-up, seconds since the start; of the process that ran longest.
    pub startup_s: f64,
}

/// The highest number of live bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Peak {
    /// Live bytes.
    pub bytes: u64,
    /// When, in seconds since the start.
    pub at_s: Option<f64>,
}

/// A trend, with its uncertainty.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rate {
    /// Bytes per second.
    pub per_second: f64,
    /// Standard error of it.
    pub error: f64,
}

/// Objects of one type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TypeRow {
    /// Its qualified name.
    pub name: String,
    /// Live objects.
    pub objects: u64,
    /// Their own bytes.
    pub bytes: u64,
    /// What would go with them.
    pub retained: u64,
}

/// What one holder holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HolderRow {
    /// Who holds it, in words.
    pub holder: String,
    /// Bytes of the blocks that it explains.
    pub bytes: u64,
    /// These blocks.
    pub blocks: u64,
    /// What would go with the holder, if that is known.
    pub retained: Option<u64>,
}

/// Sites that a person takes for one.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its name, where the stack is not its name.
    pub label: Option<String>,
    /// Distinct stacks in it.
    pub stacks: usize,
    /// Sums over these.
    pub figures: Figures,
    /// The one with most bytes.
    pub heaviest: Site,
}

/// Blocks that were allocated by one stack.
#[derive(Clone, Debug)]
pub struct Survivor {
    /// The stack.
    pub site: Site,
    /// How much, how long, how fast.
    pub figures: Figures,
}

/// A stack that allocated.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Site {
    /// The same for the same stack in another run.
    pub id: String,
    /// Innermost first.
    pub stack: Vec<Rc<Frame>>,
    /// Frames were left out at the outer end.
    pub truncated: bool,
}

/// How much, how long, how fast.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// Where the blocks come from; where several, most of the bytes.
    pub origin: Source,
    /// Live blocks and bytes at the moment of the report.
    pub live: Amount,
    /// Where its bytes lie with 95 %, if some were sampled.
    pub interval: Option<(u64, u64)>,
    /// Part of all heap bytes; `None` for mappings.
    pub share: Option<f64>,
    /// Bytes that were live at the end of the start-up.
    pub startup_bytes: Option<u64>,
    /// Bytes that came since.
    pub grown_bytes: Option<i64>,
    /// How fast.
    pub growth: Option<Rate>,
    /// The growth is more than noise, and large enough to matter.
    pub growing: bool,
    /// Ages of the blocks, in milliseconds.
    pub age_ms: Option<Percentiles>,
    /// Sizes of the blocks, in bytes.
    pub size: Option<Percentiles>,
    /// What outlives the interpreter's teardown, if there was one.
    pub outlives: Option<Amount>,
    /// Live when most was live in the process.
    pub peak: Amount,
}

/// Where blocks come from, as far as it matters to a reader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// Python's allocators for objects and their buffers.
    Python,
    /// Python's raw allocator.
    PythonRaw,
    /// The C library's allocator, called by native code.
    Native,
    /// A mapping.
    Mapping,
    /// A System V shared memory segment.
    SharedMemory,
    /// The definition of the site is missing.
    #[default]
    Unknown,
}

impl Source {
    /// Small and large blocks of Python are one.
    pub fn of(origin: Origin) -> Source {
        match origin {
            Origin::Native => Source::Native,
            Origin::Raw => Source::PythonRaw,
            Origin::PythonSmall | Origin::PythonLarge => Source::Python,
            Origin::Mapping => Source::Mapping,
            Origin::SharedMemory => Source::SharedMemory,
        }
    }

    /// Address space rather than blocks of a heap.
    pub fn is_mapping(self) -> bool {
        matches!(self, Source::Mapping | Source::SharedMemory)
    }

    /// The word for it in reports.
    pub fn name(self) -> &'static str {
        match self {
            Source::Python => "python",
            Source::PythonRaw => "python-raw",
            Source::Native => "native",
            Source::Mapping => "mapping",
            Source::SharedMemory => "shared-memory",
            Source::Unknown => "unknown",
        }
    }
}

/// A distribution, in short.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Percentiles {
    /// Half are no larger.
    pub p50: u64,
    /// 99 of 100 are no larger.
    pub p99: u64,
    /// None is larger.
    pub max: u64,
}

/// A frame of a stack.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// Python code.
    Python {
        /// The file as the code object names it.
        file: String,
        /// The line.
        line: Option<u32>,
        /// Byte of the UTF-8 line, counted from zero.
        column: Option<u32>,
        /// The function.
        function: String,
        /// The text of the line.
        source: Option<String>,
    },
    /// Native code.
    Native {
        /// Path of the program file; empty where the address lies in none.
        module: String,
        /// The function, if it has a name.
        function: Option<String>,
        /// Its source file.
        file: Option<String>,
        /// The line.
        line: Option<u32>,
        /// The return address, as an offset into the program file (or as it is, if in none).
        offset: u64,
        /// The compiler put it into the next outer one.
        inlined: bool,
        /// Whose code it is.
        role: Role,
    },
}

/// What is missing from a report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Completeness {
    /// Every block was counted.
    pub exact: bool,
    /// What was not recorded, by reason.
    pub lost: Vec<(&'static str, u64)>,
    /// There are Python frames.
    pub python_frames: bool,
    /// Python's own allocators were recorded.
    pub python_allocators: bool,
    /// Which native frames were recorded: `off`, `leaf`, `full`.
    pub native_frames: String,
    /// Bytes that a site may have without being seen, with 95 %; of a sampled run.
    pub unseen: Option<u64>,
    /// Sentences for the reader.
    pub notes: Vec<String>,
}
