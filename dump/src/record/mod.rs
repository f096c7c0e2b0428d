//! The record log: definitions, each written once and never changed.
//!
//! They come in batches (`batch`): `len: u32`, `crc: u32`, then `len` bytes of records, which the
//! CRC-32 covers. A record is its kind (a byte), the length of its content, and that, as `write` writes
//! and `read` reads it. Integers but those of a batch are LEB128 ([`crate::varint`]). Readers pass over
//! kinds that they do not know.

mod batch;
mod read;
mod write;

pub use batch::{Damaged, FRAMING, begin_batch, end_batch, read_batch};
pub use read::{Step, read};
pub use write::{Before, SiteHead, write, write_site};

use crate::varint::{unzigzag, zigzag};

/// A stack is never deeper; more frames than this are damage.
pub const MOST_FRAMES: usize = 4096;

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

/// A bit beside the origin.
const TRUNCATED: u8 = 0x80;

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

/// A number as its difference to another one that is mostly near it.
fn difference(from: u64, to: u64) -> u64 {
    zigzag(to.wrapping_sub(from) as i64)
}

/// The inverse of [`difference`].
fn apart(from: u64, difference: u64) -> u64 {
    from.wrapping_add(unzigzag(difference) as u64)
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
