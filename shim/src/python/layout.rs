//! Where CPython keeps what the walk reads: one row of offsets for each minor
//! version, taken from its headers by `scripts/python-layout`.
//!
//! A minor version never changes these within itself. A version that is not
//! here gets native frames only, and the report says so.

/// How the thread state leads to the innermost frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameRoot {
    /// 3.8 to 3.10: `PyThreadState.frame`, a `PyFrameObject`.
    Object,
    /// 3.11 and 3.12: `PyThreadState.cframe->current_frame`.
    CFrame,
    /// From 3.13: `PyThreadState.current_frame`.
    Direct,
}

/// How a frame says which instruction runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instr {
    /// 3.8 and 3.9: `f_lasti`, an `int` of bytes.
    LastiBytes,
    /// 3.10: `f_lasti`, an `int` of two-byte code units.
    LastiUnits,
    /// From 3.11: a pointer into the code (`prev_instr`, `instr_ptr` from 3.13).
    Pointer,
}

/// The encoding of a code object's line table; the numbers are those of `dump/FORMAT.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum LineTable {
    /// 3.8 and 3.9: `co_lnotab`.
    Lnotab = 0,
    /// 3.10: `co_linetable` of PEP 626.
    Lines310 = 1,
    /// From 3.11: `co_linetable` of PEP 657, with columns.
    Locations = 2,
}

/// `FRAME_OWNED_BY_GENERATOR`, the same in every version that has owners.
pub const OWNED_BY_GENERATOR: u8 = 1;

/// How to tell where a C evaluation loop begins among the Python frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// 3.8 to 3.10: every frame has a loop of its own.
    EveryFrame,
    /// 3.11: `_PyInterpreterFrame.is_entry`, a `bool`.
    Flag {
        /// Its offset.
        offset: u16,
    },
    /// From 3.12: a frame that the loop keeps on the C stack, known by its owner.
    Owners(&'static [u8]),
}

impl Entry {
    /// Whether a frame with this owner is such a frame of the loop itself.
    #[inline]
    pub fn is_boundary(self, owner: u8) -> bool {
        matches!(self, Entry::Owners(owners) if owners.contains(&owner))
    }
}

/// Where `str` and `bytes` objects keep their content (`cpython/unicodeobject.h`, `cpython/bytesobject.h`).
#[derive(Clone, Copy, Debug)]
pub struct UnicodeLayout {
    /// `PyASCIIObject.length`.
    pub length: u16,
    /// `PyASCIIObject.state`; bits 2 to 4 are the kind, bit 5 compact, bit 6 ascii.
    pub state: u16,
    /// Size of `PyASCIIObject`, after which an ASCII string begins.
    pub ascii_data: u16,
    /// Size of `PyCompactUnicodeObject`, after which any other begins.
    pub compact_data: u16,
    /// `PyVarObject.ob_size`.
    pub bytes_size: u16,
    /// `PyBytesObject.ob_sval`.
    pub bytes_data: u16,
}

impl UnicodeLayout {
    /// Bytes of a character.
    pub fn kind(&self, state: u32) -> u32 {
        (state >> 2) & 7
    }

    /// Whether the characters follow the object's head.
    pub fn is_compact(&self, state: u32) -> bool {
        state & 1 << 5 != 0
    }

    /// Where they begin.
    pub fn data(&self, state: u32) -> usize {
        if state & 1 << 6 != 0 { self.ascii_data as usize } else { self.compact_data as usize }
    }
}

/// Offsets in bytes, for one minor version.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// The `8` of 3.8.
    pub minor: u8,
    /// How to get at the innermost frame.
    pub root: FrameRoot,
    /// `PyThreadState.frame`, `.cframe` or `.current_frame` (`cpython/pystate.h`).
    pub tstate_frame: u16,
    /// `PyThreadState.thread_id`: `pthread_self` of the thread that it was made for.
    pub tstate_thread: u16,
    /// `_PyCFrame.current_frame`, where there is one.
    pub cframe_current: u16,
    /// `f_back` or `previous` (`cpython/frameobject.h`, `internal/pycore_frame.h`).
    pub frame_previous: u16,
    /// `f_code` or `f_executable`.
    pub frame_code: u16,
    /// What makes that word a pointer: from 3.14 its low bits are a tag.
    pub code_mask: u64,
    /// How the frame says which instruction runs.
    pub instr: Instr,
    /// `f_lasti`, `prev_instr` or `instr_ptr`.
    pub frame_instr: u16,
    /// `_PyInterpreterFrame.owner`, a `char`.
    pub frame_owner: Option<u16>,
    /// How a C evaluation loop's first frame is known.
    pub entry: Entry,
    /// `PyCodeObject.co_filename` (`cpython/code.h`).
    pub code_filename: u16,
    /// `co_qualname`; `co_name` before 3.11.
    pub code_name: u16,
    /// `co_firstlineno`.
    pub code_firstlineno: u16,
    /// `co_linetable`; `co_lnotab` before 3.10.
    pub code_linetable: u16,
    /// `co_code_adaptive`, where the instructions are; from 3.11.
    pub code_start: u16,
    /// `_co_firsttraceable`, an `int` of two-byte code units; from 3.11. What runs before it is no
    /// line of the function's yet.
    pub code_first_traceable: u16,
    /// How `code_linetable` is encoded.
    pub line_table: LineTable,
    /// `_PyRuntimeState._finalizing` (`internal/pycore_runtime.h`): the ending thread's state.
    pub runtime_finalizing: u16,
    /// `PyInterpreterState.finalizing` (`internal/pycore_interp_structs.h`), an `int`: in the main
    /// interpreter, not zero once its end was asked for. From 3.14, where sub-interpreters end
    /// before `runtime_finalizing` says so; else 0.
    pub interp_begun: u16,
    /// `PyInterpreterState._finalizing`: the state of the thread that ends it. From 3.14; else 0.
    pub interp_finalizing: u16,
    /// Strings.
    pub unicode: UnicodeLayout,
}

const UNICODE_OLD: UnicodeLayout = UnicodeLayout {
    length: 16,
    state: 32,
    ascii_data: 48,
    compact_data: 72,
    bytes_size: 16,
    bytes_data: 32,
};

/// From 3.12 strings have no `wstr` any more.
pub const UNICODE_NEW: UnicodeLayout =
    UnicodeLayout { ascii_data: 40, compact_data: 56, ..UNICODE_OLD };

const V8: Layout = Layout {
    minor: 8,
    root: FrameRoot::Object,
    tstate_frame: 24,
    tstate_thread: 176,
    cframe_current: 0,
    frame_previous: 24,
    frame_code: 32,
    code_mask: !0,
    instr: Instr::LastiBytes,
    frame_instr: 104,
    frame_owner: None,
    entry: Entry::EveryFrame,
    code_filename: 104,
    code_name: 112,
    code_firstlineno: 40,
    code_linetable: 120,
    code_start: 0,
    code_first_traceable: 0,
    line_table: LineTable::Lnotab,
    runtime_finalizing: 16,
    interp_begun: 0,
    interp_finalizing: 0,
    unicode: UNICODE_OLD,
};

const V9: Layout = Layout { minor: 9, ..V8 };

const V10: Layout = Layout {
    minor: 10,
    instr: Instr::LastiUnits,
    frame_instr: 96,
    line_table: LineTable::Lines310,
    ..V9
};

const V11: Layout = Layout {
    minor: 11,
    root: FrameRoot::CFrame,
    tstate_frame: 56,
    tstate_thread: 152,
    cframe_current: 8,
    frame_previous: 48,
    frame_code: 32,
    code_mask: !0,
    instr: Instr::Pointer,
    frame_instr: 56,
    frame_owner: Some(69),
    entry: Entry::Flag { offset: 68 },
    code_filename: 112,
    code_name: 128,
    code_firstlineno: 72,
    code_linetable: 136,
    code_start: 184,
    code_first_traceable: 168,
    line_table: LineTable::Locations,
    runtime_finalizing: 24,
    interp_begun: 0,
    interp_finalizing: 0,
    unicode: UNICODE_OLD,
};

const V12: Layout = Layout {
    minor: 12,
    tstate_thread: 136,
    cframe_current: 0,
    frame_previous: 8,
    frame_code: 0,
    frame_owner: Some(70),
    entry: Entry::Owners(&[3]),
    code_firstlineno: 68,
    code_start: 192,
    code_first_traceable: 176,
    unicode: UNICODE_NEW,
    ..V11
};

const V13: Layout = Layout {
    minor: 13,
    root: FrameRoot::Direct,
    tstate_frame: 72,
    tstate_thread: 152,
    code_start: 200,
    code_first_traceable: 184,
    runtime_finalizing: 608,
    ..V12
};

const V14: Layout = Layout {
    minor: 14,
    // `_PyStackRef`: two bits of tag (`internal/pycore_stackref.h`).
    code_mask: !3,
    frame_owner: Some(74),
    // `FRAME_OWNED_BY_INTERPRETER`; `FRAME_OWNED_BY_CSTACK` is 4 now.
    entry: Entry::Owners(&[3]),
    code_start: 208,
    code_first_traceable: 192,
    runtime_finalizing: 784,
    interp_begun: 7320,
    interp_finalizing: 7392,
    ..V13
};

const V15: Layout = Layout {
    minor: 15,
    tstate_thread: 176,
    runtime_finalizing: 912,
    interp_begun: 7312,
    interp_finalizing: 7384,
    ..V14
};

/// All versions that are known.
pub static LAYOUTS: &[Layout] = &[V8, V9, V10, V11, V12, V13, V14, V15];

/// The row of 3.`minor`.
pub fn for_minor(minor: u8) -> Option<&'static Layout> {
    LAYOUTS.iter().find(|layout| layout.minor == minor)
}
