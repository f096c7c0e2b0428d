//! Everything that the shim knows of CPython.
//!
//! [`layout`] is data: where the fields are, for each minor version.
//! [`walk`] and [`code`] read frames and code objects with it; [`hooks`] stands
//! before Python's own allocators. No function of the interpreter that may
//! allocate, count references or take a lock is ever called.

pub mod code;
pub mod debug_offsets;
pub mod hooks;
pub mod layout;
pub mod walk;

use core::ffi::{CStr, c_char, c_void};
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering::Relaxed};

use crate::native;
use crate::real::symbol;
use layout::Layout;

static FOUND: AtomicBool = AtomicBool::new(false);
static VERSION: AtomicPtr<c_char> = AtomicPtr::new(core::ptr::null_mut());
static MAIN: AtomicUsize = AtomicUsize::new(0);
/// Why there are no Python frames; 0: there are.
static TROUBLE: AtomicUsize = AtomicUsize::new(0);
const UNKNOWN_VERSION: usize = 1;
const FREE_THREADED: usize = 2;
const NO_SYMBOLS: usize = 3;

/// Whether there is an interpreter.
pub fn found() -> bool {
    FOUND.load(Relaxed)
}

/// Takes up the interpreter that is found in `handle`.
pub fn find(handle: *mut c_void) {
    FOUND.store(true, Relaxed);
    hooks::find(handle);
    MAIN.store(symbol(handle, c"PyInterpreterState_Main"), Relaxed);
    native::EVALUATION.store(symbol(handle, c"_PyEval_EvalFrameDefault"), Relaxed);
    let version = symbol(handle, c"Py_GetVersion");
    if version != 0 {
        // SAFETY: the function of this name and type; it formats a static string.
        let version: extern "C" fn() -> *const c_char = unsafe { core::mem::transmute(version) };
        VERSION.store(version().cast_mut(), Relaxed);
    }
    if let Err(trouble) = prepare_walk(handle) {
        TROUBLE.store(trouble, Relaxed);
    }
}

fn prepare_walk(handle: *mut c_void) -> Result<(), usize> {
    let full = full_version();
    if full.contains("free-threading") || full.contains("experimental free") {
        return Err(FREE_THREADED);
    }
    let minor = minor(&version()).ok_or(UNKNOWN_VERSION)?;
    let known = layout::for_minor(minor).ok_or(UNKNOWN_VERSION)?;
    let runtime = symbol(handle, c"_PyRuntime");
    let layout = refine(known, runtime);
    let interpreter = walk::Interpreter {
        layout,
        thread_state: symbol(handle, c"PyGILState_GetThisThreadState"),
        attached_state: match minor {
            0..=11 => 0,
            12 => symbol(handle, c"_PyThreadState_UncheckedGet"),
            _ => symbol(handle, c"PyThreadState_GetUnchecked"),
        },
        holders_state: match minor {
            0..=11 => symbol(handle, c"_PyThreadState_UncheckedGet"),
            _ => 0,
        },
        finalizing: match runtime {
            0 => 0,
            runtime => runtime + layout.runtime_finalizing as usize,
        },
        code_type: symbol(handle, c"PyCode_Type"),
    };
    if interpreter.thread_state == 0 || interpreter.code_type == 0 {
        return Err(NO_SYMBOLS);
    }
    walk::set_interpreter(&interpreter);
    Ok(())
}

/// From 3.13 on the interpreter describes itself; its word counts more than the table's.
fn refine(known: &'static Layout, runtime: usize) -> &'static Layout {
    if known.minor < 13 || runtime == 0 {
        return known;
    }
    // SAFETY: `_PyRuntime` begins with its description, and is many times this long.
    let bytes = unsafe { core::slice::from_raw_parts(runtime as *const u8, debug_offsets::LENGTH) };
    match debug_offsets::read(bytes, known.minor) {
        Some(overrides) => Box::leak(Box::new(overrides.apply(known))),
        None => known,
    }
}

fn full_version() -> String {
    let version = VERSION.load(Relaxed);
    if version.is_null() {
        return String::new();
    }
    // SAFETY: the interpreter's own static string.
    unsafe { CStr::from_ptr(version) }.to_string_lossy().into_owned()
}

/// The interpreter's version, such as `3.11.7`.
pub fn version() -> String {
    let full = full_version();
    full.split_ascii_whitespace().next().unwrap_or("").trim_end_matches('+').to_owned()
}

fn minor(version: &str) -> Option<u8> {
    let mut parts = version.split('.');
    (parts.next() == Some("3")).then_some(())?;
    let digits: String =
        parts.next()?.chars().take_while(|letter| letter.is_ascii_digit()).collect();
    digits.parse().ok()
}

/// The main interpreter; 0 while there is none.
pub fn main_interpreter() -> usize {
    let main = MAIN.load(Relaxed);
    if main == 0 {
        return 0;
    }
    // SAFETY: the function of this name and type; it reads a static variable.
    let main: extern "C" fn() -> usize = unsafe { core::mem::transmute(main) };
    main()
}

/// What keeps Python frames from being recorded.
pub fn trouble() -> Option<String> {
    let version = version();
    match TROUBLE.load(Relaxed) {
        0 => None,
        FREE_THREADED => Some(format!(
            "no Python frames: CPython {version} without the global lock is not supported"
        )),
        UNKNOWN_VERSION => Some(format!(
            "no Python frames: the layout of CPython {version} is not known to this pyshim"
        )),
        _ => Some("no Python frames: the interpreter does not export what is needed".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn minors_are_read() {
        assert_eq!(super::minor("3.11.7"), Some(11));
        assert_eq!(super::minor("3.15.0a3"), Some(15));
        assert_eq!(super::minor("3.14rc1"), Some(14));
        assert_eq!(super::minor("2.7.18"), None);
        assert_eq!(super::minor(""), None);
    }
}
