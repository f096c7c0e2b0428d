//! A frame of Python code, as the interpreter keeps it.

use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use pyshim_dump::record::NOT_BEGUN;

use super::layout::{Entry, Instr, Layout, OWNED_BY_GENERATOR};
use super::state::load;

/// Address of `PyCode_Type`.
static CODE_TYPE: AtomicUsize = AtomicUsize::new(0);

/// Takes note of the address of `PyCode_Type`.
pub(super) fn set_code_type(address: usize) {
    CODE_TYPE.store(address, Relaxed);
}

/// Whether this is the type of code objects.
#[inline]
pub(super) fn is_code_type(address: usize) -> bool {
    address == CODE_TYPE.load(Relaxed)
}

/// A frame of Python code.
#[derive(Clone, Copy, Debug)]
pub struct PythonFrame {
    /// Address of the code object.
    pub code: usize,
    /// Offset of the running instruction, in bytes of bytecode.
    pub instruction: u32,
    /// Whether a C evaluation loop begins with it, as far as the frame itself tells.
    pub entry: bool,
    /// Whether the interpreter itself would not show it: its function is being called, but has not
    /// come to its first line.
    pub incomplete: bool,
}

/// What a frame is.
pub enum View {
    /// One of Python code.
    Python(PythonFrame),
    /// The evaluation loop's own: where it lies.
    Boundary(usize),
    /// Neither.
    Other,
}

/// # Safety
/// `frame` must be a frame of the interpreter that `layout` describes, and hold still.
pub(super) unsafe fn read_frame(layout: &Layout, frame: usize) -> View {
    // SAFETY: the caller's promise.
    unsafe {
        if let Some(at) = layout.frame_owner {
            let owner: u8 = load(frame + at as usize);
            if layout.entry.is_boundary(owner) {
                return View::Boundary(frame);
            }
        }
        let code = (load::<u64>(frame + layout.frame_code as usize) & layout.code_mask) as usize;
        if code == 0 || !is_code(code) || is_clean_up(layout, code) {
            return View::Other;
        }
        let instruction = match layout.instr {
            Instr::LastiBytes | Instr::LastiUnits => {
                let lasti: i32 = load(frame + layout.frame_instr as usize);
                let unit = if layout.instr == Instr::LastiUnits { 2 } else { 1 };
                u32::try_from(lasti).map_or(NOT_BEGUN, |lasti| lasti.wrapping_mul(unit))
            }
            Instr::Pointer => {
                let at: usize = load(frame + layout.frame_instr as usize);
                // Before its first instruction a frame points right before the code.
                let begun = at.checked_sub(code + layout.code_start as usize);
                begun.map_or(NOT_BEGUN, |lasti| lasti as u32)
            }
        };
        let entry = match layout.entry {
            Entry::EveryFrame => true,
            Entry::Flag { offset } => load::<u8>(frame + offset as usize) != 0,
            Entry::Owners(_) => false,
        };
        let incomplete = is_incomplete(layout, frame, code, instruction);
        View::Python(PythonFrame { code, instruction, entry, incomplete })
    }
}

/// `_PyFrame_IsIncomplete` of `internal/pycore_frame.h`: cells are made, and a generator is, before
/// a function's first line. They are its caller's, as in a traceback.
///
/// # Safety
/// As for [`read_frame`]; `code` must be what the frame runs.
unsafe fn is_incomplete(layout: &Layout, frame: usize, code: usize, instruction: u32) -> bool {
    let Some(owner) = layout.frame_owner else { return false };
    // SAFETY: the caller's promise.
    unsafe {
        let first: i32 = load(code + layout.code_first_traceable as usize);
        load::<u8>(frame + owner as usize) != OWNED_BY_GENERATOR
            && (instruction == NOT_BEGUN || i64::from(instruction) < 2 * i64::from(first))
    }
}

/// # Safety
/// `object` must be a Python object.
#[inline]
unsafe fn is_code(object: usize) -> bool {
    // SAFETY: an object's second word is its type.
    unsafe { is_code_type(load::<usize>(object + 8)) }
}

/// Whether this is the code that a specialized call of a class leaves on the stack to check what
/// `__init__` returned (3.13 to 3.15). It is no code of the program's: it begins at line 0, and its
/// file name and its qualified name are one object.
///
/// # Safety
/// `code` must be a code object of the interpreter that `layout` describes.
unsafe fn is_clean_up(layout: &Layout, code: usize) -> bool {
    // SAFETY: fields of a code object.
    unsafe {
        load::<i32>(code + layout.code_firstlineno as usize) == 0
            && load::<usize>(code + layout.code_filename as usize)
                == load::<usize>(code + layout.code_name as usize)
    }
}
