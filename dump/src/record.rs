//! The record log: definitions, each written once and never changed.
//!
//! A record is `len: u32`, `crc: u32`, `kind: u8`, then `len` bytes; the CRC-32
//! covers the kind and the bytes. Integers in them are LEB128 ([`crate::varint`]).
//! Readers pass over kinds that they do not know.

use crate::varint::{Input, put, put_bytes, unzigzag, zigzag};

/// A stack is never deeper; more frames than this are damage.
pub const MOST_FRAMES: usize = 4096;

/// Bytes before a record's content.
pub const FRAMING: usize = 9;

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
        /// Innermost first.
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
}

const PROCESS: u8 = 1;
const TEXT: u8 = 2;
const CODE: u8 = 3;
const MODULE: u8 = 4;
const UNLOAD: u8 = 5;
const SITE: u8 = 6;
const NOTE: u8 = 7;
const MARK: u8 = 8;

/// What a writer and a reader of the log remember of it: neighbouring sites
/// mostly differ at the inner end, so a site only says how many outer frames
/// it shares with the one before.
#[derive(Clone, Debug, Default)]
pub struct Context {
    last: Vec<Frame>,
}

impl Context {
    /// Nothing to refer to.
    pub const fn new() -> Context {
        Context { last: Vec::new() }
    }
}

/// Appends `record`, framing included. Start anew with an empty context where
/// the record before this one may not be in the log.
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
        Record::Site { id, origin, truncated, frames } => {
            let same = context.last.iter().rev().zip(frames.iter().rev());
            let shared = same.take_while(|(one, other)| one == other).count();
            let others = frames[..frames.len() - shared].iter().copied();
            put_site(out, (*id, *origin, *truncated), shared, others);
            context.last.clone_from(frames);
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
    };
    end(out, start, kind);
}

/// Appends a site, whose writer knows how many outer frames it has in common with the site before
/// it in the log; `frames` are the others, innermost first. What `write` remembers is not told.
pub fn write_site(
    out: &mut Vec<u8>,
    site: (u32, Origin, bool),
    shared: usize,
    frames: impl ExactSizeIterator<Item = Frame>,
) {
    let start = begin(out);
    put_site(out, site, shared, frames);
    end(out, start, SITE);
}

fn put_site(
    out: &mut Vec<u8>,
    (id, origin, truncated): (u32, Origin, bool),
    shared: usize,
    frames: impl ExactSizeIterator<Item = Frame>,
) {
    put(out, u64::from(id));
    out.push(origin as u8);
    out.push(u8::from(truncated));
    put(out, shared as u64);
    put_frames(out, frames);
}

fn begin(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; FRAMING]);
    start
}

fn end(out: &mut [u8], start: usize, kind: u8) {
    let len = (out.len() - start - FRAMING) as u32;
    out[start + 8] = kind;
    let crc = crc32fast::hash(&out[start + 8..]);
    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
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
                put(out, zigzag(pc.wrapping_sub(last) as i64) << 1);
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
            last = last.wrapping_add(unzigzag(head >> 1) as u64);
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

/// What [`read`] found at the front of the log.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// A record; `None` for a kind that this version does not know.
    Record(Option<Record>),
    /// The log ends here.
    End,
    /// The bytes are no record.
    Bad,
}

/// Takes one record from the front of `log`.
pub fn read(log: &mut &[u8], context: &mut Context) -> Step {
    if log.is_empty() {
        return Step::End;
    }
    let Some((framing, rest)) = log.split_first_chunk::<8>() else { return Step::Bad };
    let len = u32::from_le_bytes([framing[0], framing[1], framing[2], framing[3]]) as usize;
    let crc = u32::from_le_bytes([framing[4], framing[5], framing[6], framing[7]]);
    let Some(checked) = rest.get(..len.saturating_add(1)) else { return Step::Bad };
    if crc32fast::hash(checked) != crc {
        return Step::Bad;
    }
    let Some((&kind, content)) = checked.split_first() else { return Step::Bad };
    *log = rest.get(checked.len()..).unwrap_or_default();
    if !(PROCESS..=MARK).contains(&kind) {
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
            let (id, origin) = (input.int32()?, Origin::from_u8(input.byte()?)?);
            let truncated = input.byte()? != 0;
            let shared = usize::try_from(input.int()?).ok()?;
            let mut frames = frames(input)?;
            let first = context.last.len().checked_sub(shared)?;
            frames.extend_from_slice(context.last.get(first..)?);
            if frames.len() > MOST_FRAMES {
                return None;
            }
            context.last.clone_from(&frames);
            Record::Site { id, origin, truncated, frames }
        }
        NOTE => Record::Note { text: input.text()? },
        MARK => Record::Mark { at_ns: input.int()?, label: input.text()? },
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
                frames: vec![
                    Frame::Native { pc: 0x7f00_0000_1234 },
                    Frame::Native { pc: 0x5500_0000_1234 },
                    Frame::Python { code: 7, instruction: 18, entry: false },
                    Frame::Python { code: u32::MAX >> 1, instruction: 0, entry: true },
                ],
            },
            Record::Site {
                id: 13,
                origin: Origin::Native,
                truncated: false,
                frames: vec![
                    Frame::Native { pc: 0x7f00_0000_9999 },
                    Frame::Python { code: 7, instruction: 18, entry: false },
                    Frame::Python { code: u32::MAX >> 1, instruction: 0, entry: true },
                ],
            },
            Record::Note { text: "no frames".into() },
            Record::Mark { at_ns: 5, label: "warm".into() },
        ]
    }

    #[test]
    fn records_come_back() {
        let (mut log, mut context) = (Vec::new(), Context::default());
        for record in samples() {
            write(&mut log, &mut context, &record);
        }
        let (mut rest, mut context) = (log.as_slice(), Context::default());
        for record in samples() {
            assert_eq!(read(&mut rest, &mut context), Step::Record(Some(record)));
        }
        assert_eq!(read(&mut rest, &mut context), Step::End);
    }

    #[test]
    fn a_changed_byte_is_noticed() {
        for record in samples() {
            let mut log = Vec::new();
            write(&mut log, &mut Context::default(), &record);
            for at in 0..log.len() {
                let mut bent = log.clone();
                bent[at] ^= 0x10;
                assert_eq!(
                    read(&mut bent.as_slice(), &mut Context::default()),
                    Step::Bad,
                    "byte {at} of {record:?}"
                );
            }
        }
    }

    #[test]
    fn unknown_kinds_are_passed_over() {
        let mut log = Vec::new();
        write(&mut log, &mut Context::default(), &Record::Note { text: "x".into() });
        log[8] = 200;
        let crc = crc32fast::hash(&log[8..]);
        log[4..8].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(read(&mut log.as_slice(), &mut Context::default()), Step::Record(None));
    }
}
