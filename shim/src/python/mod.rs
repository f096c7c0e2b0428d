//! Everything that the shim knows of CPython.
//!
//! [`layout`] is data: where the fields are, for each minor version.
//! [`state`] tells which thread state is whose, [`walk`], [`frame`] and [`code`] read frames and
//! code objects, [`trial`] proves that they lie as it says; [`hooks`] stands
//! before Python's own allocators. No function of the interpreter that may
//! allocate, count references or take a lock is ever called.

pub mod arenas;
pub mod code;
mod current;
pub mod debug_offsets;
pub mod frame;
pub mod hooks;
pub mod layout;
pub mod objects;
mod passing;
pub mod state;
mod trial;
pub mod walk;

use core::ffi::{CStr, c_char, c_void};
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering::Relaxed};

use crate::real::symbol;
use crate::{native, sites};
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
    find_names(handle);
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
        // Nobody holds a lock: counters are added to by many at once.
        sites::have_several_locks();
        return Err(FREE_THREADED);
    }
    let minor = minor(&version()).ok_or(UNKNOWN_VERSION)?;
    let known = layout::for_minor(minor).ok_or(UNKNOWN_VERSION)?;
    let runtime = symbol(handle, c"_PyRuntime");
    let layout = refine(known, runtime);
    let interpreter = state::Interpreter {
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
        from_start: handle == libc::RTLD_DEFAULT,
    };
    if interpreter.thread_state == 0 || interpreter.code_type == 0 {
        return Err(NO_SYMBOLS);
    }
    state::set_interpreter(&interpreter);
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

/// Functions and objects of the interpreter that the heap snapshot needs, by address.
struct Names {
    runtime: AtomicUsize,
    interpreters: AtomicUsize,
    next_interpreter: AtomicUsize,
    threads: AtomicUsize,
    next_thread: AtomicUsize,
    type_type: AtomicUsize,
    weak_reference: AtomicUsize,
    module: AtomicUsize,
    float: AtomicUsize,
    complex: AtomicUsize,
    frame: AtomicUsize,
    set: AtomicUsize,
    frozen_set: AtomicUsize,
}

static NAMES: Names = Names {
    runtime: AtomicUsize::new(0),
    interpreters: AtomicUsize::new(0),
    next_interpreter: AtomicUsize::new(0),
    threads: AtomicUsize::new(0),
    next_thread: AtomicUsize::new(0),
    type_type: AtomicUsize::new(0),
    weak_reference: AtomicUsize::new(0),
    module: AtomicUsize::new(0),
    float: AtomicUsize::new(0),
    complex: AtomicUsize::new(0),
    frame: AtomicUsize::new(0),
    set: AtomicUsize::new(0),
    frozen_set: AtomicUsize::new(0),
};

fn find_names(handle: *mut c_void) {
    let names: [(&AtomicUsize, &CStr); 13] = [
        (&NAMES.runtime, c"_PyRuntime"),
        (&NAMES.interpreters, c"PyInterpreterState_Head"),
        (&NAMES.next_interpreter, c"PyInterpreterState_Next"),
        (&NAMES.threads, c"PyInterpreterState_ThreadHead"),
        (&NAMES.next_thread, c"PyThreadState_Next"),
        (&NAMES.type_type, c"PyType_Type"),
        (&NAMES.weak_reference, c"_PyWeakref_RefType"),
        (&NAMES.module, c"PyModule_Type"),
        (&NAMES.float, c"PyFloat_Type"),
        (&NAMES.complex, c"PyComplex_Type"),
        (&NAMES.frame, c"PyFrame_Type"),
        (&NAMES.set, c"PySet_Type"),
        (&NAMES.frozen_set, c"PyFrozenSet_Type"),
    ];
    for (slot, name) in names {
        slot.store(symbol(handle, name), Relaxed);
    }
}

/// Address of `_PyRuntime`; 0: there is none.
pub fn runtime() -> usize {
    NAMES.runtime.load(Relaxed)
}

/// Where the interpreter keeps what in its objects; `None` if frames cannot be read either.
pub fn object_layout() -> Option<&'static objects::Objects> {
    objects::for_minor(state::layout()?.minor)
}

/// Calls one of the interpreter's functions that follow a link.
fn follow(function: &AtomicUsize, from: usize) -> usize {
    let function = function.load(Relaxed);
    if function == 0 {
        return 0;
    }
    // SAFETY: one of the four functions that take a state or nothing, and read a pointer in it; the
    // states are alive, for this is a copy of the process in which nothing runs.
    let function: extern "C" fn(usize) -> usize = unsafe { core::mem::transmute(function) };
    function(from)
}

/// All thread states, each with its number of the thread. Only in a copy of the process.
/// `threads` are the ids of the process's threads: states that were seen in one of them count too.
pub fn thread_states(threads: &[u32]) -> Vec<(usize, u64)> {
    let mut states = Vec::new();
    let Some(layout) = object_layout() else { return states };
    let mut interpreter = follow(&NAMES.interpreters, 0);
    while interpreter != 0 && states.len() < 1 << 16 {
        let mut state = follow(&NAMES.threads, interpreter);
        while state != 0 && states.len() < 1 << 16 {
            // SAFETY: a field of a thread state.
            let thread = unsafe { *((state + layout.tstate_thread_id as usize) as *const u64) };
            states.push((state, thread));
            state = follow(&NAMES.next_thread, state);
        }
        interpreter = follow(&NAMES.next_interpreter, interpreter);
    }
    for state in state::remembered(|thread| threads.contains(&thread)) {
        if states.iter().all(|known| known.0 != state) {
            // SAFETY: as above; if the state is gone after all, the fault is caught.
            let thread = unsafe { *((state + layout.tstate_thread_id as usize) as *const u64) };
            states.push((state, thread));
        }
    }
    states
}

/// Address of the main interpreter's word for what `atexit` is to call; 0: not known.
pub fn atexit_callbacks() -> usize {
    match (main_interpreter(), object_layout()) {
        (base @ 1.., Some(layout)) if layout.atexit != 0 => base + layout.atexit as usize,
        _ => 0,
    }
}

/// Whether the calling thread holds the interpreter lock, as far as can be told.
pub fn holds_lock() -> bool {
    state::attached()
}

/// What the heap snapshot needs to know; `None` if there is no interpreter that is understood.
pub fn for_snapshot() -> Option<crate::snapshot::Interpreter> {
    let layout = state::layout()?;
    let objects = object_layout()?;
    let at = |name: &AtomicUsize| name.load(Relaxed);
    let known = crate::snapshot::Known {
        type_type: at(&NAMES.type_type),
        weak_reference: at(&NAMES.weak_reference),
        module: at(&NAMES.module),
        float: at(&NAMES.float),
        complex: at(&NAMES.complex),
        frame: at(&NAMES.frame),
        sets: [at(&NAMES.set), at(&NAMES.frozen_set)],
    };
    if known.type_type == 0 {
        return None;
    }
    // Until 3.8 the collector is the runtime's, later the interpreter's.
    let base = if layout.minor <= 8 { runtime() } else { main_interpreter() };
    let gc = if base == 0 { 0 } else { base + objects.gc as usize };
    Some(crate::snapshot::Interpreter { layout, objects, known, gc })
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
