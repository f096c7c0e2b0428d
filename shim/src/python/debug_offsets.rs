//! What CPython says of itself: `_Py_DebugOffsets`, with which `_PyRuntime`
//! begins from 3.13 on (`internal/pycore_runtime.h`, from 3.14
//! `internal/pycore_debug_offsets.h`).
//!
//! The structure grows between minor versions and is fixed within one, so each
//! has a mirror of its own: where in the structure the wanted offsets stand.
//! `scripts/python-layout --check` compares them with the headers.

use super::layout::{Layout, UnicodeLayout};

/// `_Py_Debug_Cookie`.
const COOKIE: &[u8; 8] = b"xdebugpy";
const VERSION: usize = 8;
const FREE_THREADED: usize = 16;

/// As many bytes of `_PyRuntime` as [`read`] looks at in any version.
pub const LENGTH: usize = 744;

/// The offsets that an interpreter states; they stand above those of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overrides {
    /// `runtime_state.finalizing`.
    pub runtime_finalizing: u16,
    /// `thread_state.current_frame`.
    pub tstate_frame: u16,
    /// `interpreter_frame.previous`.
    pub frame_previous: u16,
    /// `interpreter_frame.executable`.
    pub frame_code: u16,
    /// `interpreter_frame.instr_ptr`.
    pub frame_instr: u16,
    /// `interpreter_frame.owner`.
    pub frame_owner: u16,
    /// `code_object.filename`.
    pub code_filename: u16,
    /// `code_object.qualname`.
    pub code_name: u16,
    /// `code_object.linetable`.
    pub code_linetable: u16,
    /// `code_object.firstlineno`.
    pub code_firstlineno: u16,
    /// `code_object.co_code_adaptive`.
    pub code_start: u16,
    /// `bytes_object.ob_size`.
    pub bytes_size: u16,
    /// `bytes_object.ob_sval`.
    pub bytes_data: u16,
    /// `unicode_object.state`.
    pub unicode_state: u16,
    /// `unicode_object.length`.
    pub unicode_length: u16,
    /// `unicode_object.asciiobject_size`.
    pub unicode_ascii_data: u16,
}

impl Overrides {
    /// The row of the table with what the interpreter says in its place.
    pub fn apply(&self, row: &Layout) -> Layout {
        Layout {
            runtime_finalizing: self.runtime_finalizing,
            tstate_frame: self.tstate_frame,
            frame_previous: self.frame_previous,
            frame_code: self.frame_code,
            frame_instr: self.frame_instr,
            frame_owner: Some(self.frame_owner),
            code_filename: self.code_filename,
            code_name: self.code_name,
            code_linetable: self.code_linetable,
            code_firstlineno: self.code_firstlineno,
            code_start: self.code_start,
            unicode: UnicodeLayout {
                length: self.unicode_length,
                state: self.unicode_state,
                ascii_data: self.unicode_ascii_data,
                bytes_size: self.bytes_size,
                bytes_data: self.bytes_data,
                ..row.unicode
            },
            ..*row
        }
    }
}

/// Where a field stands in `_Py_DebugOffsets` of 3.13, 3.14 and 3.15.
struct Field {
    name: &'static str,
    at: [u16; 3],
}

const fn field(name: &'static str, at: [u16; 3]) -> Field {
    Field { name, at }
}

const FINALIZING: Field = field("runtime_state.finalizing", [32, 32, 32]);
const CURRENT_FRAME: Field = field("thread_state.current_frame", [184, 208, 208]);
const PREVIOUS: Field = field("interpreter_frame.previous", [232, 256, 320]);
const EXECUTABLE: Field = field("interpreter_frame.executable", [240, 264, 328]);
const INSTR_PTR: Field = field("interpreter_frame.instr_ptr", [248, 272, 336]);
const OWNER: Field = field("interpreter_frame.owner", [264, 288, 352]);
const FILENAME: Field = field("code_object.filename", [280, 320, 384]);
const QUALNAME: Field = field("code_object.qualname", [296, 336, 400]);
const LINETABLE: Field = field("code_object.linetable", [304, 344, 408]);
const FIRSTLINENO: Field = field("code_object.firstlineno", [312, 352, 416]);
const CODE_ADAPTIVE: Field = field("code_object.co_code_adaptive", [344, 384, 448]);
const BYTES_SIZE: Field = field("bytes_object.ob_size", [520, 600, 696]);
const BYTES_DATA: Field = field("bytes_object.ob_sval", [528, 608, 704]);
const STATE: Field = field("unicode_object.state", [544, 624, 720]);
const LENGTH_OF: Field = field("unicode_object.length", [552, 632, 728]);
const ASCII_SIZE: Field = field("unicode_object.asciiobject_size", [560, 640, 736]);

/// Every mirrored field as (minor, name, position), for the check against the headers.
#[allow(dead_code, reason = "for scripts/python-layout and the tests")]
pub fn positions() -> impl Iterator<Item = (u8, &'static str, usize)> {
    const ALL: [Field; 16] = [
        FINALIZING,
        CURRENT_FRAME,
        PREVIOUS,
        EXECUTABLE,
        INSTR_PTR,
        OWNER,
        FILENAME,
        QUALNAME,
        LINETABLE,
        FIRSTLINENO,
        CODE_ADAPTIVE,
        BYTES_SIZE,
        BYTES_DATA,
        STATE,
        LENGTH_OF,
        ASCII_SIZE,
    ];
    let head = [("version", VERSION), ("free_threaded", FREE_THREADED)];
    [13, 14, 15].into_iter().enumerate().flat_map(move |(column, minor)| {
        let fields = ALL.into_iter().filter_map(move |field| {
            Some((minor, field.name, usize::from(*field.at.get(column)?)))
        });
        head.into_iter().map(move |(name, at)| (minor, name, at)).chain(fields)
    })
}

/// What the interpreter 3.`minor` says; `runtime` is the beginning of its
/// `_PyRuntime`. `None` if it is not one of the known versions, if it is another
/// version than `minor` or without the global lock, or if it makes no sense.
pub fn read(runtime: &[u8], minor: u8) -> Option<Overrides> {
    let column = usize::from(minor.checked_sub(13)?);
    if runtime.get(..COOKIE.len())? != COOKIE
        || word(runtime, VERSION)? >> 16 != 0x0300 | u64::from(minor)
        || word(runtime, FREE_THREADED)? != 0
    {
        return None;
    }
    let offset = |field: Field| {
        let at = *field.at.get(column)?;
        u16::try_from(word(runtime, at.into())?).ok()
    };
    Some(Overrides {
        runtime_finalizing: offset(FINALIZING)?,
        tstate_frame: offset(CURRENT_FRAME)?,
        frame_previous: offset(PREVIOUS)?,
        frame_code: offset(EXECUTABLE)?,
        frame_instr: offset(INSTR_PTR)?,
        frame_owner: offset(OWNER)?,
        code_filename: offset(FILENAME)?,
        code_name: offset(QUALNAME)?,
        code_linetable: offset(LINETABLE)?,
        code_firstlineno: offset(FIRSTLINENO)?,
        code_start: offset(CODE_ADAPTIVE)?,
        bytes_size: offset(BYTES_SIZE)?,
        bytes_data: offset(BYTES_DATA)?,
        unicode_state: offset(STATE)?,
        unicode_length: offset(LENGTH_OF)?,
        unicode_ascii_data: offset(ASCII_SIZE)?,
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    let eight = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(eight.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::python::layout;

    /// A `_PyRuntime` that states the offset 8 × its number for each field.
    fn runtime(minor: u8) -> Vec<u8> {
        let mut bytes = vec![0; LENGTH];
        for (number, (of, _, at)) in positions().enumerate() {
            if of == minor {
                bytes[at..at + 8].copy_from_slice(&(8 * number as u64).to_le_bytes());
            }
        }
        bytes[..8].copy_from_slice(COOKIE);
        bytes[8..16].copy_from_slice(&(0x0300_01f0 | u64::from(minor) << 16).to_le_bytes());
        bytes[16..24].fill(0);
        bytes
    }

    #[test]
    fn reads_each_version_by_its_own_mirror() {
        for minor in 13..=15 {
            let overrides = read(&runtime(minor), minor).unwrap();
            let first = 18 * u16::from(minor - 13) + 2;
            assert_eq!(overrides.runtime_finalizing, 8 * first);
            assert_eq!(overrides.unicode_ascii_data, 8 * (first + 15));
            let row = overrides.apply(layout::for_minor(minor).unwrap());
            assert_eq!(row.frame_owner, Some(overrides.frame_owner));
            assert_eq!(row.minor, minor);
        }
    }

    #[test]
    fn believes_nothing_that_does_not_fit() {
        let good = runtime(14);
        for minor in [0, 12, 13, 15, 16, 255] {
            assert_eq!(read(&good, minor), None);
        }
        for length in 0..good.len() {
            // Shorter than the last field: nothing; the last one ends before `LENGTH` here.
            let short = read(&good[..length], 14);
            assert_eq!(short.is_some(), length >= 648, "{length}");
        }
        let (mut cookie, mut threaded, mut large) = (good.clone(), good.clone(), good);
        cookie[0] = b'y';
        threaded[16] = 1;
        large[210] = 1;
        for bytes in [cookie, threaded, large] {
            assert_eq!(read(&bytes, 14), None);
        }
    }
}
