//! From the bytes of a dump to its content.

use core::mem::{offset_of, size_of};

use crate::blob::{Census, Timeline};
use crate::error::Error;
use crate::heap::Heap;
use crate::layout::{
    BLOBS, Beside, BlobCopy, BlobKind, BlobSlot, Counters, EndKind, Extent, ExtentKind, GAUGES,
    Gauge, HEADER_LEN, Header, LOSSES, Lost, MAGIC, MAJOR, MAX_EXTENTS, Moments, SEALED_LEN,
    SITES_FIRST, Snapshot, SnapshotState, Tally, sites_through,
};
use crate::record::{self, Code, Frame, Origin, Process, Record, Step};

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
    /// Highest number of live bytes seen; the recorded peak lies within 1 % of it.
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
    /// Innermost first.
    pub frames: Vec<Frame>,
    /// Modules with a lower id were known when it was defined; a native address belongs to the latest
    /// of these that holds it.
    pub modules_known: u32,
}

impl Dump {
    /// Reads a dump. Never panics, whatever the bytes.
    pub fn parse(bytes: &[u8]) -> Result<Dump, Error> {
        let file = File { bytes };
        file.check_identity()?;
        file.check_seal()?;

        let mut dump = Dump {
            pid: file.u32(offset_of!(Header, pid)),
            parent_pid: file.u32(offset_of!(Header, parent_pid)),
            started_unix_ns: file.u64(offset_of!(Header, started_unix_ns)),
            started_ticks: file.u64(offset_of!(Header, started_ticks)),
            mode: match file.u64(offset_of!(Header, sample_mean)) {
                0 => Mode::Exact,
                mean => Mode::Sampled(mean),
            },
            forked: file.u32(offset_of!(Header, forked)) != 0,
            inexact: file.u32(offset_of!(Header, inexact)) != 0,
            heartbeat_ns: file.u64(offset_of!(Header, heartbeat_ns)),
            end: file.end()?,
            final_ns: Some(file.u64(offset_of!(Header, final_ns))).filter(|&ns| ns != 0),
            peak_ns: None,
            peak_seen: file.u64(offset_of!(Header, peak_seen)),
            inherited_freed: Amount {
                blocks: file.u64(offset_of!(Header, inherited_freed_blocks)),
                bytes: file.u64(offset_of!(Header, inherited_freed_bytes)),
            },
            process: Process::default(),
            codes: Vec::new(),
            texts: Vec::new(),
            modules: Vec::new(),
            sites: Vec::new(),
            notes: Vec::new(),
            marks: Vec::new(),
            timeline: Timeline::default(),
            census: None,
            final_census: None,
            heap: None,
            snapshots: file.snapshots(),
            file_len: bytes.len() as u64,
            gauges: [0; GAUGES],
            lost: [0; LOSSES],
        };
        for (index, gauge) in dump.gauges.iter_mut().enumerate() {
            *gauge = file.u64(offset_of!(Header, gauges) + index * 8);
        }
        for (index, lost) in dump.lost.iter_mut().enumerate() {
            *lost = file.u64(offset_of!(Header, lost) + index * 8);
        }

        let extents = file.extents()?;
        dump.read_arrays(&file, &extents)?;
        dump.read_log(&file, &extents)?;
        if let Some(bytes) = file.blob(BlobKind::Timeline)? {
            dump.timeline = Timeline::decode(bytes).ok_or(file.corrupt_blob(BlobKind::Timeline))?;
        }
        if let Some(bytes) = file.blob(BlobKind::Census)? {
            dump.census = Some(Census::decode(bytes).ok_or(file.corrupt_blob(BlobKind::Census))?);
        }
        if let Some(bytes) = file.blob(BlobKind::FinalCensus)? {
            dump.final_census =
                Some(Census::decode(bytes).ok_or(file.corrupt_blob(BlobKind::FinalCensus))?);
        }
        dump.heap = file.heap()?;
        Ok(dump)
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

    fn modules_known(&self) -> u32 {
        self.modules.last().map_or(0, |module| module.loaded.id.saturating_add(1))
    }

    fn read_arrays(&mut self, file: &File, extents: &[Piece]) -> Result<(), Error> {
        let count = file.u32(offset_of!(Header, site_count)) as usize;
        let peak_bank = file.u32(offset_of!(Header, peak_bank));
        if peak_bank > 2 {
            return Err(file.corrupt("the peak", offset_of!(Header, peak_bank)));
        }
        if peak_bank > 0 {
            let at = offset_of!(Header, peak_ns) + (peak_bank as usize - 1) * 8;
            self.peak_ns = Some(file.u64(at));
        }
        let counters = Array::new(file, extents, ExtentKind::Counters, size_of::<Counters>())?;
        let moments = Array::new(file, extents, ExtentKind::Moments, size_of::<Moments>())?;
        if count > counters.len() || count > moments.len() {
            return Err(file.corrupt("the number of sites", offset_of!(Header, site_count)));
        }
        self.sites.reserve_exact(count);
        for id in 0..count {
            let (at, moment) = (counters.offset(id), moments.offset(id));
            let (Some(at), Some(moment)) = (at, moment) else {
                return Err(file.corrupt("the number of sites", offset_of!(Header, site_count)));
            };
            let held = file.tally(at + offset_of!(Counters, held));
            let free = file.tally(at + offset_of!(Counters, free));
            let peak = match peak_bank {
                0 => Amount::default(),
                bank => file.amount(
                    moment
                        + offset_of!(Moments, peak)
                        + (bank as usize - 1) * size_of::<Snapshot>(),
                ),
            };
            self.sites.push(Site {
                stack: None,
                totals: Totals {
                    allocated: held.allocated + free.allocated,
                    freed: held.freed + free.freed,
                },
                peak,
                last: file.amount(moment + offset_of!(Moments, last)),
            });
        }
        Ok(())
    }

    fn read_log(&mut self, file: &File, extents: &[Piece]) -> Result<(), Error> {
        let log = file.log(extents)?;
        let (mut rest, mut context) = (log.as_slice(), record::Context::default());
        loop {
            let at = log.len() - rest.len();
            let bad = Error::Corrupt {
                what: "a record of the log, counted from its start,",
                offset: at as u64,
            };
            match record::read(&mut rest, &mut context) {
                Step::End => return Ok(()),
                Step::Bad => return Err(bad),
                Step::Record(None) => {}
                Step::Record(Some(record)) => self.take(record).ok_or(bad)?,
            }
        }
    }

    /// Ids are given in order. A definition whose room could not be had is missing, and the log goes
    /// on with the next one that found room: a gap is no damage.
    fn take(&mut self, record: Record) -> Option<()> {
        match record {
            Record::Process(process) => self.process = process,
            Record::Text { id, text } => place(&mut self.texts, id, text),
            Record::Code(code) => place(&mut self.codes, code.id, code),
            Record::Module(module) => {
                // They come in order; where one is missing, the file could not grow when it came.
                if module.id < self.modules_known() {
                    return None;
                }
                self.modules.push(Module { loaded: module, unloaded_ns: None });
            }
            Record::Unload { id, at_ns } => {
                let module = self.modules.iter_mut().find(|module| module.loaded.id == id);
                if let Some(module) = module {
                    module.unloaded_ns = Some(at_ns);
                }
            }
            Record::Site { id, origin, truncated, frames } => {
                let modules_known = self.modules_known();
                // A site may be defined in the log before the header counts it; it has no counters yet.
                if let Some(site) = self.sites.get_mut(id as usize) {
                    site.stack = Some(Stack { origin, truncated, frames, modules_known });
                }
            }
            Record::Note { text } => {
                if !self.notes.contains(&text) {
                    self.notes.push(text);
                }
            }
            Record::Mark { at_ns, label } => self.marks.push((at_ns, label)),
        }
        Some(())
    }
}

/// What comes this far beyond the last one is passed over: a few bytes of the file shall not ask for
/// gigabytes.
const LARGEST_GAP: usize = 1 << 16;

fn place<T>(list: &mut Vec<Option<T>>, id: u32, value: T) {
    let id = id as usize;
    if id >= list.len() && id <= list.len() + LARGEST_GAP {
        list.resize_with(id + 1, || None);
    }
    if let Some(place) = list.get_mut(id) {
        *place = Some(value);
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

/// An extent, checked to lie inside the file.
#[derive(Clone, Copy)]
struct Piece {
    kind: u32,
    index: u32,
    offset: usize,
    len: usize,
}

/// An array spread over extents that double in length.
struct Array {
    pieces: Vec<(u64, usize)>,
    item: usize,
    len: usize,
}

impl Array {
    fn new(file: &File, extents: &[Piece], kind: ExtentKind, item: usize) -> Result<Array, Error> {
        let mut array = Array { pieces: Vec::new(), item, len: 0 };
        for piece in extents.iter().filter(|piece| piece.kind == kind as u32) {
            let first = array.len as u64;
            let wanted = sites_through(array.pieces.len() as u32);
            let items = (piece.len / item) as u64;
            if piece.index as usize != array.pieces.len() || first + items != wanted {
                return Err(file.corrupt("the list of extents", offset_of!(Header, extents)));
            }
            array.pieces.push((first, piece.offset));
            array.len = wanted as usize;
        }
        Ok(array)
    }

    fn len(&self) -> usize {
        self.len
    }

    fn offset(&self, id: usize) -> Option<usize> {
        let piece = match id / SITES_FIRST as usize {
            0 => 0,
            chunks => chunks.ilog2() as usize + 1,
        };
        let &(first, offset) = self.pieces.get(piece)?;
        Some(offset + (id - first as usize) * self.item)
    }
}

/// The bytes of the file, with loads that never fail: what is not there is zero.
struct File<'a> {
    bytes: &'a [u8],
}

impl<'a> File<'a> {
    fn u32(&self, at: usize) -> u32 {
        let bytes = self.bytes.get(at..).and_then(|rest| rest.first_chunk::<4>());
        bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
    }

    fn u64(&self, at: usize) -> u64 {
        let bytes = self.bytes.get(at..).and_then(|rest| rest.first_chunk::<8>());
        bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }

    fn amount(&self, at: usize) -> Amount {
        Amount {
            bytes: self.u64(at + offset_of!(Snapshot, bytes)),
            blocks: self.u64(at + offset_of!(Snapshot, blocks)),
        }
    }

    fn tally(&self, at: usize) -> Totals {
        Totals {
            allocated: Amount {
                blocks: self.u64(at + offset_of!(Tally, allocated_blocks)),
                bytes: self.u64(at + offset_of!(Tally, allocated_bytes)),
            },
            freed: Amount {
                blocks: self.u64(at + offset_of!(Tally, freed_blocks)),
                bytes: self.u64(at + offset_of!(Tally, freed_bytes)),
            },
        }
    }

    fn corrupt(&self, what: &'static str, at: usize) -> Error {
        Error::Corrupt { what, offset: at as u64 }
    }

    fn corrupt_blob(&self, kind: BlobKind) -> Error {
        let what = match kind {
            BlobKind::Timeline => "the timeline",
            BlobKind::Census => "the census",
            BlobKind::FinalCensus => "the last census",
        };
        self.corrupt(what, offset_of!(Header, blobs) + kind as usize * size_of::<BlobSlot>())
    }

    fn check_identity(&self) -> Result<(), Error> {
        if self.bytes.is_empty() {
            return Err(Error::Empty);
        }
        let shared = self.bytes.len().min(MAGIC.len());
        if self.bytes.get(..shared) != MAGIC.get(..shared) {
            return Err(Error::Foreign);
        }
        let have = self.bytes.len() as u64;
        if self.bytes.len() < HEADER_LEN {
            return Err(Error::Truncated { have, need: HEADER_LEN as u64 });
        }
        let version = self.u32(offset_of!(Header, major));
        let (major, minor) = (version as u16, (version >> 16) as u16);
        if major != MAJOR {
            return Err(Error::Version { major, minor });
        }
        let identity = self.bytes.get(..offset_of!(Header, identity_crc)).unwrap_or_default();
        if crc32fast::hash(identity) != self.u32(offset_of!(Header, identity_crc))
            || self.u32(offset_of!(Header, header_len)) as usize != HEADER_LEN
        {
            return Err(self.corrupt("the header", 0));
        }
        let need = self.u64(offset_of!(Header, file_len));
        if have < need {
            return Err(Error::Truncated { have, need });
        }
        Ok(())
    }

    /// Once sealed, header and arrays have a checksum too.
    fn check_seal(&self) -> Result<(), Error> {
        match self.u32(offset_of!(Header, sealed)) {
            0 => return Ok(()),
            1 => {}
            _ => return Err(self.corrupt("the seal", offset_of!(Header, sealed))),
        }
        let mut crc = crc32fast::Hasher::new();
        let at = offset_of!(Header, sealed_crc);
        crc.update(self.bytes.get(..at).unwrap_or_default());
        crc.update(&[0; 4]);
        crc.update(self.bytes.get(at + 4..SEALED_LEN).unwrap_or_default());
        for piece in self.extents()? {
            if piece.kind == ExtentKind::Counters as u32 || piece.kind == ExtentKind::Moments as u32
            {
                crc.update(self.slice(piece.offset, piece.len).unwrap_or_default());
            }
        }
        if crc.finalize() != self.u32(at) {
            return Err(self.corrupt("the header or the counters", at));
        }
        Ok(())
    }

    fn end(&self) -> Result<Option<End>, Error> {
        let kind = match self.u32(offset_of!(Header, end_kind)) {
            0 => return Ok(None),
            1 => EndKind::Exit,
            2 => EndKind::QuickExit,
            3 => EndKind::Exec,
            _ => return Err(self.corrupt("the way it ended", offset_of!(Header, end_kind))),
        };
        Ok(Some(End {
            kind,
            status: self.u32(offset_of!(Header, end_status)) as i32,
            at_ns: self.u64(offset_of!(Header, end_ns)),
        }))
    }

    fn slice(&self, offset: usize, len: usize) -> Option<&'a [u8]> {
        self.bytes.get(offset..offset.checked_add(len)?)
    }

    fn extents(&self) -> Result<Vec<Piece>, Error> {
        let table = offset_of!(Header, extents);
        let count = self.u32(offset_of!(Header, extent_count)) as usize;
        if count > MAX_EXTENTS {
            return Err(self.corrupt("the list of extents", table));
        }
        let mut extents = Vec::with_capacity(count);
        for index in 0..count {
            let at = table + index * size_of::<Extent>();
            let offset = self.u64(at + offset_of!(Extent, offset));
            let len = self.u64(at + offset_of!(Extent, len));
            let piece = Piece {
                kind: self.u32(at + offset_of!(Extent, kind)),
                index: self.u32(at + offset_of!(Extent, index)),
                offset: usize::try_from(offset).unwrap_or(usize::MAX),
                len: usize::try_from(len).unwrap_or(usize::MAX),
            };
            if self.slice(piece.offset, piece.len).is_none() {
                return Err(self.corrupt("the list of extents", at));
            }
            extents.push(piece);
        }
        Ok(extents)
    }

    fn log(&self, extents: &[Piece]) -> Result<Vec<u8>, Error> {
        let at = offset_of!(Header, log_len);
        let len = usize::try_from(self.u64(at)).unwrap_or(usize::MAX);
        if len > self.bytes.len() {
            return Err(self.corrupt("the length of the log", at));
        }
        let mut log = Vec::with_capacity(len);
        for piece in extents.iter().filter(|piece| piece.kind == ExtentKind::Log as u32) {
            let take = piece.len.min(len - log.len());
            log.extend_from_slice(self.slice(piece.offset, take).unwrap_or_default());
        }
        if log.len() < len {
            return Err(self.corrupt("the length of the log", at));
        }
        Ok(log)
    }

    fn blob(&self, kind: BlobKind) -> Result<Option<&'a [u8]>, Error> {
        const { assert!((BlobKind::FinalCensus as usize) < BLOBS) };
        let slot = offset_of!(Header, blobs) + kind as usize * size_of::<BlobSlot>();
        self.slot(slot).map_err(|_| self.corrupt_blob(kind))
    }

    fn heap(&self) -> Result<Option<Heap>, Error> {
        let at = offset_of!(Header, beside) + offset_of!(Beside, heap);
        let damage = self.corrupt("the heap snapshot", at);
        match self.slot(at) {
            Ok(None) => Ok(None),
            Ok(Some(bytes)) => Heap::decode(bytes).map(Some).ok_or(damage),
            Err(Damaged) => Err(damage),
        }
    }

    fn snapshots(&self) -> Snapshots {
        let at = offset_of!(Header, beside);
        let running = self.u32(at + offset_of!(Beside, state)) == SnapshotState::Running as u32;
        Snapshots {
            running: running.then(|| self.u32(at + offset_of!(Beside, pid))),
            began_ns: self.u64(at + offset_of!(Beside, began_ns)),
            taken: self.u32(at + offset_of!(Beside, taken)),
            failed: self.u32(at + offset_of!(Beside, failed)),
            failure: self.u32(at + offset_of!(Beside, failure)),
        }
    }

    fn slot(&self, slot: usize) -> Result<Option<&'a [u8]>, Damaged> {
        let copy = match self.u64(slot + offset_of!(BlobSlot, active)) {
            0 => return Ok(None),
            active @ 1..=2 => slot + (active as usize - 1) * size_of::<BlobCopy>(),
            _ => return Err(Damaged),
        };
        let offset = self.u64(copy + offset_of!(BlobCopy, offset));
        let len = self.u64(copy + offset_of!(BlobCopy, len));
        let bytes = usize::try_from(offset).ok().zip(usize::try_from(len).ok());
        let bytes = bytes.and_then(|(offset, len)| self.slice(offset, len));
        match bytes {
            Some(bytes) if crc32fast::hash(bytes) == self.u32(copy + offset_of!(BlobCopy, crc)) => {
                Ok(Some(bytes))
            }
            _ => Err(Damaged),
        }
    }
}

/// The bytes that a slot names are not there, or not what they were.
struct Damaged;
