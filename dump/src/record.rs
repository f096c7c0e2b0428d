//! The record log: definitions, each written once and never changed.
//!
//! They come in batches: `len: u32`, `crc: u32`, then `len` bytes of records, which the CRC-32 covers.
//! A record is its kind (a byte), the length of its content, and that. Integers but those of a batch
//! are LEB128 ([`crate::varint`]). Readers pass over kinds that they do not know.

use crate::varint::{Input, put, put_bytes, unzigzag, zigzag};

/// A stack is never deeper; more frames than this are damage.
pub const MOST_FRAMES: usize = 4096;

/// Bytes before a batch's records.
pub const FRAMING: usize = 8;

/// Which allocator a site's blocks come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Origin {
    /// The C library's allocator, called by native code.
    Native = 0,
    /// Python's raw allocator, which ends in the C library's.
    Raw = 1,
    /// A Python block that pymalloc serves from its arenas.
    PythonSmall = 2,
    /// A Python block too large for pymalloc, which ends in the C library's allocator.
    PythonLarge = 3,
    /// A memory mapping made by the program.
    Mapping = 4,
    /// A System V shared memory segment.
    SharedMemory = 5,
}

impl Origin {
    /// The origin that `value` stands for.
    pub fn from_u8(value: u8) -> Option<Origin> {
        Some(match value {
            0 => Origin::Native,
            1 => Origin::Raw,
            2 => Origin::PythonSmall,
            3 => Origin::PythonLarge,
            4 => Origin::Mapping,
            5 => Origin::SharedMemory,
            _ => return None,
        })
    }

    /// Whether the block was asked of one of Python's allocators.
    pub fn is_python(self) -> bool {
        matches!(self, Origin::Raw | Origin::PythonSmall | Origin::PythonLarge)
    }

    /// Whether it is address space rather than a block of a heap.
    pub fn is_mapping(self) -> bool {
        matches!(self, Origin::Mapping | Origin::SharedMemory)
    }
}

/// [`Frame::Python::instruction`] of a frame whose first instruction is yet to come.
pub const NOT_BEGUN: u32 = u32::MAX;

/// One frame of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Frame {
    /// Native code; the address that the call returns to.
    Native {
        /// Address in the traced process.
        pc: u64,
    },
    /// Python code.
    Python {
        /// Id of a [`Record::Code`].
        code: u32,
        /// Offset of the running instruction in bytes of bytecode.
        instruction: u32,
        /// Whether a C evaluation loop begins with this frame, so that the next outer frame is native.
        entry: bool,
    },
}

/// What is known of the process; written first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// The executable's path.
    pub executable: String,
    /// The arguments.
    pub argv: Vec<String>,
    /// Working directory.
    pub directory: String,
    /// The interpreter's version, such as `3.11.7`; empty where there is none.
    pub python: String,
    /// Settings in force, as `name=value`.
    pub settings: Vec<String>,
}

/// A loaded program file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Module {
    /// Position among the modules of this dump.
    pub id: u32,
    /// Its path.
    pub path: String,
    /// The GNU build id, or nothing.
    pub build_id: Vec<u8>,
    /// What is added to the file's own addresses.
    pub bias: u64,
    /// First address of its program code.
    pub start: u64,
    /// One past the last.
    pub end: u64,
    /// When it was first seen, nanoseconds since the start.
    pub loaded_ns: u64,
}

/// A code object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Code {
    /// Position among the code objects of this dump.
    pub id: u32,
    /// Id of the [`Record::Text`] that is its file name.
    pub file: u32,
    /// Qualified name (name before CPython 3.11).
    pub name: String,
    /// Line of its first instruction's statement.
    pub first_line: u32,
    /// Encoding of `table`; the reader knows which there are.
    pub table_kind: u8,
    /// Map from instruction to line and column.
    pub table: Vec<u8>,
}

/// A definition in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// The process.
    Process(Process),
    /// A text that several records name.
    Text {
        /// Position among the texts of this dump.
        id: u32,
        /// The text.
        text: String,
    },
    /// A code object.
    Code(Code),
    /// A program file was loaded.
    Module(Module),
    /// A program file was unloaded.
    Unload {
        /// The module.
        id: u32,
        /// When, nanoseconds since the start.
        at_ns: u64,
    },
    /// An allocation site.
    Site {
        /// Index into the arrays of counters.
        id: u32,
        /// Where its blocks come from.
        origin: Origin,
        /// Frames were left out at the outer end.
        truncated: bool,
        /// Id of the [`Record::Path`] that has its inner frames; 0: it has all itself.
        path: u32,
        /// The others, innermost first.
        frames: Vec<Frame>,
    },
    /// Something that the reader of a report should know.
    Note {
        /// A sentence.
        text: String,
    },
    /// A moment that somebody named.
    Mark {
        /// When, nanoseconds since the start.
        at_ns: u64,
        /// Its name.
        label: String,
    },
    /// Native frames that sites have in common.
    Path {
        /// Position among the paths of this dump, from 1 on.
        id: u32,
        /// Frames were left out at the outer end.
        truncated: bool,
        /// Addresses that calls return to, innermost first.
        pcs: Vec<u64>,
    },
}

const PROCESS: u8 = 1;
const TEXT: u8 = 2;
const CODE: u8 = 3;
const MODULE: u8 = 4;
const UNLOAD: u8 = 5;
const SITE: u8 = 6;
const NOTE: u8 = 7;
const MARK: u8 = 8;
const PATH: u8 = 9;

/// Begins a batch with room for so many bytes of records, to be written after what is in it.
pub fn begin_batch(room: usize) -> Vec<u8> {
    let mut batch = Vec::with_capacity(FRAMING + room);
    batch.extend_from_slice(&[0; FRAMING]);
    batch
}

/// Makes a batch a piece of the log. It gets no more records then.
pub fn end_batch(batch: &mut [u8]) {
    if let Some((framing, records)) = batch.split_first_chunk_mut::<FRAMING>() {
        let (len, crc) = (records.len() as u32, crc32fast::hash(records));
        *framing = ((u64::from(crc) << 32) | u64::from(len)).to_le_bytes();
    }
}

/// Takes the records of one batch from the front of `log`. `None`: it ends here; an error: the bytes
/// are no batch.
pub fn read_batch<'a>(log: &mut &'a [u8]) -> Option<Result<&'a [u8], Damaged>> {
    if log.is_empty() {
        return None;
    }
    let read = || {
        let (framing, rest) = log.split_first_chunk::<FRAMING>()?;
        let framing = u64::from_le_bytes(*framing);
        let (len, crc) = (framing as u32 as usize, (framing >> 32) as u32);
        let records = rest.get(..len).filter(|records| crc32fast::hash(records) == crc)?;
        Some((records, rest.get(len..)?))
    };
    let Some((records, rest)) = read() else { return Some(Err(Damaged)) };
    *log = rest;
    Some(Ok(records))
}

/// The bytes are not what they were, or never were what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged;

/// What a writer and a reader of a batch remember of it: neighbouring sites
/// mostly differ at the inner end, so a site only says how many outer frames
/// it shares with the one before, and how far its id is from that one's.
#[derive(Clone, Debug, Default)]
pub struct Context {
    last: Vec<Frame>,
    last_id: u32,
}

impl Context {
    /// Nothing to refer to.
    pub const fn new() -> Context {
        Context { last: Vec::new(), last_id: 0 }
    }
}

/// Appends `record` to a batch. Each begins with an empty context.
pub fn write(out: &mut Vec<u8>, context: &mut Context, record: &Record) {
    let start = begin(out);
    let kind = match record {
        Record::Process(process) => {
            put_bytes(out, process.executable.as_bytes());
            put_texts(out, &process.argv);
            put_bytes(out, process.directory.as_bytes());
            put_bytes(out, process.python.as_bytes());
            put_texts(out, &process.settings);
            PROCESS
        }
        Record::Text { id, text } => {
            put(out, u64::from(*id));
            put_bytes(out, text.as_bytes());
            TEXT
        }
        Record::Code(code) => {
            put(out, u64::from(code.id));
            put(out, u64::from(code.file));
            put_bytes(out, code.name.as_bytes());
            put(out, u64::from(code.first_line));
            out.push(code.table_kind);
            put_bytes(out, &code.table);
            CODE
        }
        Record::Module(module) => {
            put(out, u64::from(module.id));
            put_bytes(out, module.path.as_bytes());
            put_bytes(out, &module.build_id);
            put(out, module.bias);
            put(out, module.start);
            put(out, module.end.wrapping_sub(module.start));
            put(out, module.loaded_ns);
            MODULE
        }
        Record::Unload { id, at_ns } => {
            put(out, u64::from(*id));
            put(out, *at_ns);
            UNLOAD
        }
        &Record::Site { id, origin, truncated, path, ref frames } => {
            let same = context.last.iter().rev().zip(frames.iter().rev());
            let shared = same.take_while(|(one, other)| one == other).count();
            let others = frames[..frames.len() - shared].iter().copied();
            let site = SiteHead { id, origin, truncated, path };
            put_site(out, &site, Beside { id: context.last_id, frames: shared }, others);
            context.last.clone_from(frames);
            context.last_id = id;
            SITE
        }
        Record::Note { text } => {
            put_bytes(out, text.as_bytes());
            NOTE
        }
        Record::Mark { at_ns, label } => {
            put(out, *at_ns);
            put_bytes(out, label.as_bytes());
            MARK
        }
        Record::Path { id, truncated, pcs } => {
            put(out, u64::from(*id));
            out.push(u8::from(*truncated));
            put(out, pcs.len() as u64);
            let mut last = 0;
            for &pc in pcs {
                put(out, difference(last, pc));
                last = pc;
            }
            PATH
        }
    };
    end(out, start, kind);
}

/// A site, but for its frames.
#[derive(Clone, Copy, Debug)]
pub struct SiteHead {
    /// As in [`Record::Site`].
    pub id: u32,
    /// As in [`Record::Site`].
    pub origin: Origin,
    /// As in [`Record::Site`].
    pub truncated: bool,
    /// As in [`Record::Site`].
    pub path: u32,
}

/// How a site lies beside the one before it in the batch.
#[derive(Clone, Copy, Debug)]
pub struct Beside {
    /// The id of that; 0: there is none.
    pub id: u32,
    /// So many outer frames are the same.
    pub frames: usize,
}

/// Appends a site, whose writer knows what it has in common with the one before it in the batch; `frames`
/// are its other frames, innermost first. What `write` remembers is not told.
pub fn write_site(
    out: &mut Vec<u8>,
    site: &SiteHead,
    beside: Beside,
    frames: impl ExactSizeIterator<Item = Frame>,
) {
    let start = begin(out);
    put_site(out, site, beside, frames);
    end(out, start, SITE);
}

fn put_site(
    out: &mut Vec<u8>,
    site: &SiteHead,
    beside: Beside,
    frames: impl ExactSizeIterator<Item = Frame>,
) {
    put(out, difference(u64::from(beside.id), u64::from(site.id)));
    out.push(site.origin as u8 | if site.truncated { TRUNCATED } else { 0 });
    put(out, u64::from(site.path));
    put(out, beside.frames as u64);
    put_frames(out, frames);
}

/// A bit beside the origin.
const TRUNCATED: u8 = 0x80;

/// A number as its difference to another one that is mostly near it.
fn difference(from: u64, to: u64) -> u64 {
    zigzag(to.wrapping_sub(from) as i64)
}

/// The inverse of [`difference`].
fn apart(from: u64, difference: u64) -> u64 {
    from.wrapping_add(unzigzag(difference) as u64)
}

/// Kind and length of the content, as most have it.
const HEAD: usize = 2;

fn begin(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; HEAD]);
    start
}

fn end(out: &mut Vec<u8>, start: usize, kind: u8) {
    let len = out.len() - start - HEAD;
    if let Some([place_of_kind, place_of_len]) = out.get_mut(start..start + HEAD) {
        (*place_of_kind, *place_of_len) = (kind, len as u8);
    }
    if len >= 0x80 {
        let mut longer = Vec::with_capacity(10);
        put(&mut longer, len as u64);
        out.splice(start + 1..start + HEAD, longer);
    }
}

fn put_texts(out: &mut Vec<u8>, texts: &[String]) {
    put(out, texts.len() as u64);
    for text in texts {
        put_bytes(out, text.as_bytes());
    }
}

/// Frames share most of their address with the one before, and code ids are
/// small: the low bit tells native from Python, the rest is the delta or the id.
fn put_frames(out: &mut Vec<u8>, frames: impl ExactSizeIterator<Item = Frame>) {
    put(out, frames.len() as u64);
    let mut last = 0u64;
    for frame in frames {
        match frame {
            Frame::Native { pc } => {
                // Addresses have 48 bits, so the shift loses nothing.
                put(out, difference(last, pc) << 1);
                last = pc;
            }
            Frame::Python { code, instruction, entry } => {
                put(out, u64::from(code) << 2 | u64::from(entry) << 1 | 1);
                put(out, u64::from(instruction));
            }
        }
    }
}

fn frames(input: &mut Input) -> Option<Vec<Frame>> {
    let count = input.count()?;
    let mut frames = Vec::with_capacity(count);
    let mut last = 0u64;
    for _ in 0..count {
        let head = input.int()?;
        frames.push(if head & 1 == 0 {
            last = apart(last, head >> 1);
            Frame::Native { pc: last }
        } else {
            Frame::Python {
                code: (head >> 2).try_into().ok()?,
                instruction: input.int32()?,
                entry: head & 2 != 0,
            }
        });
    }
    Some(frames)
}

fn texts(input: &mut Input) -> Option<Vec<String>> {
    let count = input.count()?;
    (0..count).map(|_| input.text()).collect()
}

/// What [`read`] found at the front of a batch's records.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// A record; `None` for a kind that this version does not know.
    Record(Option<Record>),
    /// They end here.
    End,
    /// The bytes are no record.
    Bad,
}

/// Takes one record from the front of a batch's.
pub fn read(records: &mut &[u8], context: &mut Context) -> Step {
    let mut input = Input(records);
    let Some(kind) = input.byte() else { return Step::End };
    let Some(content) = input.bytes() else { return Step::Bad };
    *records = input.0;
    if !(PROCESS..=PATH).contains(&kind) {
        return Step::Record(None);
    }
    match decode(kind, content, context) {
        Some(record) => Step::Record(Some(record)),
        None => Step::Bad,
    }
}

/// Fields that a later minor version appended are left unread.
fn decode(kind: u8, content: &[u8], context: &mut Context) -> Option<Record> {
    let mut input = Input(content);
    let input = &mut input;
    Some(match kind {
        PROCESS => Record::Process(Process {
            executable: input.text()?,
            argv: texts(input)?,
            directory: input.text()?,
            python: input.text()?,
            settings: texts(input)?,
        }),
        TEXT => Record::Text { id: input.int32()?, text: input.text()? },
        CODE => Record::Code(Code {
            id: input.int32()?,
            file: input.int32()?,
            name: input.text()?,
            first_line: input.int32()?,
            table_kind: input.byte()?,
            table: input.bytes()?.to_vec(),
        }),
        MODULE => {
            let (id, path, build_id) = (input.int32()?, input.text()?, input.bytes()?.to_vec());
            let (bias, start) = (input.int()?, input.int()?);
            let end = start.wrapping_add(input.int()?);
            Record::Module(Module { id, path, build_id, bias, start, end, loaded_ns: input.int()? })
        }
        UNLOAD => Record::Unload { id: input.int32()?, at_ns: input.int()? },
        SITE => {
            let id = u32::try_from(apart(u64::from(context.last_id), input.int()?)).ok()?;
            let head = input.byte()?;
            let (origin, truncated) = (Origin::from_u8(head & !TRUNCATED)?, head & TRUNCATED != 0);
            let path = input.int32()?;
            let shared = usize::try_from(input.int()?).ok()?;
            let mut frames = frames(input)?;
            let first = context.last.len().checked_sub(shared)?;
            frames.extend_from_slice(context.last.get(first..)?);
            if frames.len() > MOST_FRAMES {
                return None;
            }
            context.last.clone_from(&frames);
            context.last_id = id;
            Record::Site { id, origin, truncated, path, frames }
        }
        NOTE => Record::Note { text: input.text()? },
        MARK => Record::Mark { at_ns: input.int()?, label: input.text()? },
        PATH => {
            let (id, truncated) = (input.int32()?, input.byte()? != 0);
            let count = input.count().filter(|&count| count <= MOST_FRAMES)?;
            let (mut pcs, mut last) = (Vec::with_capacity(count), 0);
            for _ in 0..count {
                last = apart(last, input.int()?);
                pcs.push(last);
            }
            Record::Path { id, truncated, pcs }
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<Record> {
        vec![
            Record::Process(Process {
                executable: "/usr/bin/python3".into(),
                argv: vec!["python".into(), "app.py".into()],
                directory: "/srv".into(),
                python: "3.12.1".into(),
                settings: vec!["native=leaf".into()],
            }),
            Record::Text { id: 3, text: "app.py".into() },
            Record::Code(Code {
                id: 7,
                file: 3,
                name: "load".into(),
                first_line: 31,
                table_kind: 2,
                table: vec![1, 2, 3],
            }),
            Record::Module(Module {
                id: 1,
                path: "/lib/libc.so.6".into(),
                build_id: vec![0xab; 20],
                bias: 0x7f00_0000_0000,
                start: 0x7f00_0000_1000,
                end: 0x7f00_0010_0000,
                loaded_ns: 12,
            }),
            Record::Unload { id: 1, at_ns: 99 },
            Record::Site {
                id: 12,
                origin: Origin::PythonLarge,
                truncated: true,
                path: 0,
                frames: vec![
                    Frame::Native { pc: 0x7f00_0000_1234 },
                    Frame::Native { pc: 0x5500_0000_1234 },
                    Frame::Python { code: 7, instruction: 18, entry: false },
                    Frame::Python { code: u32::MAX >> 1, instruction: 0, entry: true },
                ],
            },
            Record::Site {
                id: 11,
                origin: Origin::Native,
                truncated: false,
                path: 300,
                frames: vec![
                    Frame::Python { code: 7, instruction: 18, entry: false },
                    Frame::Python { code: u32::MAX >> 1, instruction: 0, entry: true },
                ],
            },
            Record::Note { text: "no frames".into() },
            Record::Mark { at_ns: 5, label: "warm".into() },
            Record::Path {
                id: 300,
                truncated: true,
                pcs: vec![0x7f00_0000_9999, 0x5500_0000_1234, 0x7f00_0000_9998],
            },
        ]
    }

    fn log() -> Vec<u8> {
        let (mut batch, mut context) = (begin_batch(0), Context::default());
        samples().iter().for_each(|record| write(&mut batch, &mut context, record));
        end_batch(&mut batch);
        batch
    }

    #[test]
    fn records_come_back() {
        let log = [log(), log()].concat();
        let mut rest = log.as_slice();
        for _ in 0..2 {
            let (mut records, mut context) =
                (read_batch(&mut rest).unwrap().unwrap(), Context::default());
            for record in samples() {
                assert_eq!(read(&mut records, &mut context), Step::Record(Some(record)));
            }
            assert_eq!(read(&mut records, &mut context), Step::End);
        }
        assert_eq!(read_batch(&mut rest), None);
    }

    #[test]
    fn long_content_has_a_long_length() {
        for len in [100, 127, 128, 300, 20_000] {
            let record = Record::Note { text: "x".repeat(len) };
            let mut batch = begin_batch(0);
            write(&mut batch, &mut Context::new(), &record);
            write(&mut batch, &mut Context::new(), &Record::Unload { id: 1, at_ns: 2 });
            let mut records = &batch[FRAMING..];
            let mut context = Context::new();
            assert_eq!(read(&mut records, &mut context), Step::Record(Some(record)));
            let last = Record::Unload { id: 1, at_ns: 2 };
            assert_eq!(read(&mut records, &mut context), Step::Record(Some(last)));
            assert_eq!(read(&mut records, &mut context), Step::End);
        }
    }

    #[test]
    fn a_changed_byte_is_noticed() {
        let log = log();
        for at in 0..log.len() {
            let mut bent = log.clone();
            bent[at] ^= 0x10;
            assert_eq!(read_batch(&mut bent.as_slice()), Some(Err(Damaged)), "byte {at}");
        }
    }

    #[test]
    fn unknown_kinds_are_passed_over() {
        let mut batch = begin_batch(0);
        write(&mut batch, &mut Context::default(), &Record::Note { text: "x".into() });
        batch[FRAMING] = 200;
        let mut records = &batch[FRAMING..];
        assert_eq!(read(&mut records, &mut Context::default()), Step::Record(None));
        assert_eq!(read(&mut records, &mut Context::default()), Step::End);
    }
}
