//! The fixed part of a dump: the header page and the mapped arrays.
//!
//! The shim maps these structures shared and updates them in place, so they are
//! `repr(C)` and made of atomics; the reader never maps them, it takes the
//! offsets from the same definitions. All integers are little-endian.

use core::mem::{offset_of, size_of};
use core::sync::atomic::{AtomicI32, AtomicU8, AtomicU32, AtomicU64};

/// The first eight bytes of every dump. The high bit and the line endings catch
/// a transfer that took the file for text.
pub const MAGIC: [u8; 8] = *b"\x89PYSHIM\n";

/// Version of the format. A reader refuses another major; a new minor only adds.
pub const MAJOR: u16 = 4;
/// See [`MAJOR`].
pub const MINOR: u16 = 0;

/// Size of the header, and alignment of every extent.
pub const HEADER_LEN: usize = 4096;

/// Extents a dump can have. Those of the log grow up to [`LOG_EXTENT_MAX`], those of the arrays
/// without end, so this is never the limit that is met.
pub const MAX_EXTENTS: usize = 96;

/// Smallest and largest extent of the log, in bytes.
pub const LOG_EXTENT_MIN: u64 = 64 << 10;
/// See [`LOG_EXTENT_MIN`].
pub const LOG_EXTENT_MAX: u64 = 16 << 20;

/// How an array grows, extent by extent.
#[derive(Clone, Copy, Debug)]
pub struct Growth {
    /// Items of its first extent. Each further one doubles the array up to [`DOUBLED`], ...
    pub first: u32,
    /// ... and makes it larger by one part of so many from there on.
    pub part: u64,
}

/// See [`Growth`].
pub const DOUBLED: u64 = 16 << 10;

/// Growth of [`Counters`] and [`Moments`].
pub const SITES: Growth = Growth { first: 1024, part: 8 };
/// Growth of [`Further`].
pub const FURTHER: Growth = Growth { first: 128, part: 4 };

impl Growth {
    /// The number of items that extents `0..=index` hold together.
    pub const fn through(self, index: u32) -> u64 {
        let (mut items, mut at) = (self.first as u64, 0);
        while at < index {
            let more = if items < DOUBLED { items } else { items / self.part };
            items += more.next_multiple_of(self.first as u64);
            at += 1;
        }
        items
    }

    /// The number of items of the smallest array that holds `least`.
    pub const fn holding(self, least: u64) -> u64 {
        let mut index = 0;
        while self.through(index) < least {
            index += 1;
        }
        self.through(index)
    }

    /// The number of items that extents before `index` hold together.
    pub const fn before(self, index: u32) -> u64 {
        if index == 0 { 0 } else { self.through(index - 1) }
    }
}

/// What an extent holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ExtentKind {
    /// Array of [`Counters`], one for each site id.
    Counters = 1,
    /// Array of [`Moments`], one for each site id.
    Moments = 2,
    /// A piece of the record log.
    Log = 3,
    /// Array of [`Further`], in the order in which sites needed one.
    Further = 4,
}

/// A piece of the file.
#[repr(C)]
pub struct Extent {
    /// An [`ExtentKind`].
    pub kind: AtomicU32,
    /// Position among the extents of its kind.
    pub index: AtomicU32,
    /// Where it starts, in bytes from the start of the file.
    pub offset: AtomicU64,
    /// How long it is, in bytes.
    pub len: AtomicU64,
}

/// Blobs: byte strings that are rewritten as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum BlobKind {
    /// Live bytes by site over time: [`crate::blob::Timeline`].
    Timeline = 0,
    /// Sizes and ages of the live blocks, taken now and then while the process runs: [`crate::blob::Census`].
    Census = 1,
    /// The same at the moment before the interpreter's teardown.
    FinalCensus = 2,
    /// The counters and moments of a dump that was packed: [`crate::blob::Numbers`].
    Numbers = 3,
}

/// Number of blobs that the header has room for.
pub const BLOBS: usize = 8;

/// One of the two copies of a blob.
#[repr(C)]
pub struct BlobCopy {
    /// Where it starts in the file; 0: never written.
    pub offset: AtomicU64,
    /// Room, in bytes.
    pub capacity: AtomicU64,
    /// Length, in bytes.
    pub len: AtomicU64,
    /// CRC-32 of those bytes.
    pub crc: AtomicU32,
    /// Zero.
    pub pad: AtomicU32,
}

/// A blob: the copy that `active` names is whole, the other may be under work.
#[repr(C)]
pub struct BlobSlot {
    /// The two copies.
    pub copies: [BlobCopy; 2],
    /// 0: none yet; 1 or 2: the copy to read.
    pub active: AtomicU64,
}

/// How the process ended ([`Header::end_kind`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum EndKind {
    /// No end was seen: it runs, or it was killed.
    None = 0,
    /// `exit`, or a return from `main`.
    Exit = 1,
    /// `_exit`.
    QuickExit = 2,
    /// It became another program.
    Exec = 3,
}

/// Reasons for which something was not recorded ([`Header::lost`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Lost {
    /// Blocks without a place in the live table (no memory for it, or an odd address).
    Blocks = 0,
    /// Blocks whose stack found no room in the site table; counted at site 0.
    Sites = 1,
    /// Stacks whose definition has not reached the log (channel full, disk full).
    Definitions = 2,
    /// Blocks asked for by a signal handler that interrupted the shim itself.
    Reentered = 3,
    /// Times the dump could not grow.
    Growth = 4,
    /// Code objects that could not be read.
    Code = 5,
    /// Memory mappings that could not be recorded.
    Mappings = 6,
    /// Blocks allocated before the hooks were in place and freed since.
    Foreign = 7,
}

/// Number of loss counters that the header has room for.
pub const LOSSES: usize = 16;

/// Readings of the process as a whole, in bytes ([`Header::gauges`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Gauge {
    /// Resident set.
    Rss = 0,
    /// Largest resident set so far.
    PeakRss = 1,
    /// Memory that pymalloc holds in arenas.
    PymallocArenas = 2,
    /// Memory that the C library's heaps hold (`mallinfo2.arena`).
    LibcArena = 3,
    /// Blocks that the C library mapped one by one (`mallinfo2.hblkhd`).
    LibcMapped = 4,
    /// Free inside the C library's heaps (`mallinfo2.fordblks`).
    LibcFree = 5,
    /// Resident pages of program code and of data in files, as far as the program did not map them itself.
    Code = 6,
    /// Resident pages of thread stacks.
    Stacks = 7,
    /// Memory of the shim itself, resident.
    Shim = 8,
    /// Resident pages of mappings that the program made itself, whatever is mapped there.
    Mapped = 9,
    /// The least of the limits on the process' memory (control group, address space, data); 0: none.
    MemoryLimit = 10,
}

/// Number of gauges that the header has room for.
pub const GAUGES: usize = 24;

/// The header page.
#[repr(C)]
pub struct Header {
    // Written once, before the file gets its name; covered by `identity_crc`.
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// [`MAJOR`].
    pub major: u16,
    /// [`MINOR`].
    pub minor: u16,
    /// [`HEADER_LEN`].
    pub header_len: u32,
    /// The process.
    pub pid: u32,
    /// Its parent when it started.
    pub parent_pid: u32,
    /// When recording began, nanoseconds of Unix time.
    pub started_unix_ns: u64,
    /// Start of the process as in field 22 of `/proc/PID/stat`: tells a process from a later one of the same pid.
    pub started_ticks: u64,
    /// Mean bytes between samples; 0: every block is recorded.
    pub sample_mean: u64,
    /// Non-zero: a forked child; blocks older than the fork are its parent's.
    pub forked: u32,
    /// CRC-32 of the bytes before this field.
    pub identity_crc: u32,

    // Updated while the process runs.
    /// Bytes of the file that are in use.
    pub file_len: AtomicU64,
    /// Bytes of the log that are whole, over all its extents.
    pub log_len: AtomicU64,
    /// Extents in use.
    pub extent_count: AtomicU32,
    /// Site ids given so far; id 0 is always there.
    pub site_count: AtomicU32,
    /// Last sign of life, nanoseconds since the start.
    pub heartbeat_ns: AtomicU64,
    /// An [`EndKind`].
    pub end_kind: AtomicU32,
    /// The exit status that goes with it.
    pub end_status: AtomicI32,
    /// When it ended, nanoseconds since the start.
    pub end_ns: AtomicU64,
    /// When the interpreter's teardown began; 0: it has not.
    pub final_ns: AtomicU64,
    /// Non-zero: nothing changes any more, and `sealed_crc` holds.
    pub sealed: AtomicU32,
    /// CRC-32 of the header up to `beside` (this field taken as zero) and of all array extents in order.
    pub sealed_crc: AtomicU32,
    /// 0: no peak yet; 1 or 2: the element of [`Moments::peak`] to read.
    pub peak_bank: AtomicU32,
    /// Non-zero: counters may be off by what raced at a late start.
    pub inexact: AtomicU32,
    /// Live bytes at each of the two recorded peaks.
    pub peak_bytes: [AtomicU64; 2],
    /// Their times, nanoseconds since the start.
    pub peak_ns: [AtomicU64; 2],
    /// Highest number of live bytes seen.
    pub peak_seen: AtomicU64,
    /// Blocks of the parent that a forked child freed.
    pub inherited_freed_blocks: AtomicU64,
    /// Their bytes.
    pub inherited_freed_bytes: AtomicU64,
    /// Raised before and after amounts move from a word to a wide place: what was read of the arrays
    /// belongs together if this is even, and the same before and after.
    pub moves: AtomicU64,
    /// Elements of [`Further`] given out so far; the first is nobody's.
    pub further_count: AtomicU32,
    /// Zero.
    pub pad: AtomicU32,
    /// Losses by [`Lost`].
    pub lost: [AtomicU64; LOSSES],
    /// Readings by [`Gauge`].
    pub gauges: [AtomicU64; GAUGES],
    /// Blobs by [`BlobKind`].
    pub blobs: [BlobSlot; BLOBS],
    /// The extents.
    pub extents: [Extent; MAX_EXTENTS],
    /// The heap snapshot, and what others ask of the process. Not under the seal: a copy of the
    /// process may still write here when the process itself has ended.
    pub beside: Beside,
}

/// What is written by others than the process itself.
#[repr(C)]
pub struct Beside {
    /// The snapshot: [`crate::heap::Heap`].
    pub heap: BlobSlot,
    /// A [`SnapshotState`].
    pub state: AtomicU32,
    /// The copy of the process that searches, while one does.
    pub pid: AtomicU32,
    /// When it began, nanoseconds since the start.
    pub began_ns: AtomicU64,
    /// Snapshots that were finished.
    pub taken: AtomicU32,
    /// Snapshots that came to nothing.
    pub failed: AtomicU32,
    /// Why the last one of these did: a [`SnapshotFailure`].
    pub failure: AtomicU32,
    /// Raised by one by whoever wants a snapshot.
    pub asked: AtomicU32,
    /// The value of `asked` that was last answered.
    pub answered: AtomicU32,
    /// Raised by one by whoever has put a label into `mark`.
    pub marked: AtomicU32,
    /// The value of `marked` that was last taken up.
    pub noted: AtomicU32,
    /// Bytes of the label.
    pub mark_len: AtomicU32,
    /// [`DONE_PROCESS`] and [`DONE_COPY`]: who comes second packs the dump.
    pub done: AtomicU32,
    /// Zero.
    pub pad: AtomicU32,
    /// The label of a moment, UTF-8.
    pub mark: [AtomicU8; MARK_LEN],
}

/// The process has sealed its dump ([`Beside::done`]).
pub const DONE_PROCESS: u32 = 1;
/// The copy that searched has written what it found ([`Beside::done`]).
pub const DONE_COPY: u32 = 2;

/// The longest label of a moment, in bytes.
pub const MARK_LEN: usize = 128;

/// What is being done about a snapshot ([`Beside::state`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum SnapshotState {
    /// Nothing yet.
    None = 0,
    /// A copy of the process searches.
    Running = 1,
    /// The last one is there.
    Done = 2,
    /// The last one came to nothing.
    Failed = 3,
}

/// Why a snapshot came to nothing ([`Beside::failure`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum SnapshotFailure {
    /// It did not.
    None = 0,
    /// The process could not be copied.
    Fork = 1,
    /// No room in the dump.
    Room = 2,
    /// The copy was ended before it had finished: too slow, or killed for want of memory.
    Ended = 3,
    /// The copy could not write.
    Write = 4,
}

/// Where the part of the header ends that the seal covers.
pub const SEALED_LEN: usize = offset_of!(Header, beside);

const _: () = assert!(size_of::<Header>() <= HEADER_LEN);
const _: () = assert!(offset_of!(Header, identity_crc) == 52);
const _: () = assert!(size_of::<Extent>() == 24);
const _: () = assert!(size_of::<Counters>() == 16);
const _: () = assert!(size_of::<Moments>() == 24);
const _: () = assert!(size_of::<Further>() == 128);

/// Blocks and bytes that came and went, each in one word ([`crate::amount`]).
#[repr(C)]
pub struct Tally {
    /// Allocated.
    pub allocated: AtomicU64,
    /// Freed.
    pub freed: AtomicU64,
}

/// The counters of one site: what threads counted that held the interpreter's lock. One writer at a
/// time needs no atomic addition.
///
/// All else of a site is [`Further`], if there is anything.
#[repr(C)]
pub struct Counters {
    /// Counted under the interpreter lock.
    pub held: Tally,
}

/// Live blocks of a site at the moments that the report speaks of, each in one word
/// ([`crate::amount`]), or [`BEYOND`].
#[repr(C)]
pub struct Moments {
    /// At the peak; [`Header::peak_bank`] says which of the two is whole.
    pub peak: [AtomicU64; 2],
    /// Before the interpreter's teardown.
    pub last: AtomicU64,
}

/// A moment's amounts that have no room in a word: they are in [`Further`].
pub const BEYOND: u64 = u64::MAX;

/// Blocks and bytes that need no care.
#[repr(C)]
pub struct Wide {
    /// Blocks.
    pub blocks: AtomicU64,
    /// Bytes.
    pub bytes: AtomicU64,
}

/// What few sites need: counters of threads without the interpreter lock, and large numbers. A site's
/// totals are the sums of `held` and of what each of its `Further` has. Its moments are in the first one.
///
/// Two cache lines of its own, so that threads at different sites share none.
#[repr(C, align(128))]
pub struct Further {
    /// The site's id, and one; 0: nobody's.
    pub owner: AtomicU32,
    /// The next one of this site, as far as it is known; 0: there is none. For the process itself.
    pub next: AtomicU32,
    /// Counted by any thread.
    pub free: Tally,
    /// What came, as far as it is not in one of the words.
    pub allocated: Wide,
    /// What went, likewise.
    pub freed: Wide,
    /// Zero.
    pub pad: AtomicU64,
    /// Counted by one thread at a time, on a cache line without `free`.
    pub own: Tally,
    /// As in [`Moments`].
    pub peak: [Wide; 2],
    /// As in [`Moments`].
    pub last: Wide,
}

const _: () = assert!(offset_of!(Further, own) == 64);
