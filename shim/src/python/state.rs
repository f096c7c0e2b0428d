//! Which thread state is the calling thread's, whether it holds the interpreter
//! lock, and whether the interpreter ends.

use core::sync::atomic::{
    AtomicIsize, AtomicPtr, AtomicU32, AtomicUsize, Ordering::Relaxed, Ordering::Release,
};

use super::layout::Layout;
use super::{current, frame, trial};
use crate::guard::thread_pointer;
use crate::record::Lock;
use crate::sys;

/// The interpreter that is walked; null: none, or its layout is unknown.
static LAYOUT: AtomicPtr<Layout> = AtomicPtr::new(core::ptr::null_mut());
/// `PyGILState_GetThisThreadState`.
static THREAD_STATE: AtomicUsize = AtomicUsize::new(0);
/// From 3.12: the thread state attached to this thread, right in sub-interpreters too.
static ATTACHED_STATE: AtomicUsize = AtomicUsize::new(0);
/// Before 3.12: the thread state of whichever thread holds the interpreter lock.
static HOLDERS_STATE: AtomicUsize = AtomicUsize::new(0);
/// The runtime's `finalizing` field; a word that is zero as long as it is not known.
static FINALIZING: AtomicPtr<usize> = AtomicPtr::new(NEVER.as_ptr());
static NEVER: AtomicUsize = AtomicUsize::new(0);
/// The same word until stock was taken of what the teardown frees.
pub static STOCK_IS_DUE: AtomicPtr<usize> = AtomicPtr::new(NEVER.as_ptr());
/// From 3.12: where that word lies, from the thread pointer on; 0: not known.
static ATTACHED_AT: AtomicIsize = AtomicIsize::new(0);
/// Before 3.12: where the runtime keeps its word; 0: not known.
static HOLDER_AT: AtomicUsize = AtomicUsize::new(0);

/// What [`set_interpreter`] needs.
pub struct Interpreter {
    /// Offsets.
    pub layout: &'static Layout,
    /// Address of `PyGILState_GetThisThreadState`.
    pub thread_state: usize,
    /// Address of `PyThreadState_GetUnchecked` or its older name, from 3.12; else 0.
    pub attached_state: usize,
    /// Address of `_PyThreadState_UncheckedGet` before 3.12, where it tells who holds the lock; else 0.
    pub holders_state: usize,
    /// Address of the runtime's `finalizing` field; 0: unknown.
    pub finalizing: usize,
    /// Address of `PyCode_Type`.
    pub code_type: usize,
    /// Whether it was loaded with the program, not later.
    pub from_start: bool,
}

/// From 3.12 on: the state that the calling thread is attached with, 0 if with none; `None` where it is not
/// known where that lies.
#[inline(always)]
pub(super) fn attached_word() -> Option<usize> {
    let at = ATTACHED_AT.load(Relaxed);
    // SAFETY: the word that the interpreter's function reads, in this thread's static storage.
    (at != 0).then(|| unsafe { load(thread_pointer().wrapping_add_signed(at)) })
}

/// Compares what is read directly with what the interpreter's functions say, and leaves it if it is
/// not the same. Called with each new stack.
pub fn prove_shortcuts() {
    if attached_word().is_some_and(|tstate| tstate != attached_by_call()) {
        ATTACHED_AT.store(0, Relaxed);
    }
    let (holder, at) = (HOLDERS_STATE.load(Relaxed), HOLDER_AT.load(Relaxed));
    if holder != 0 && at != 0 {
        // SAFETY: the word of the runtime that the function reads, and that function.
        let (before, by_call, after) = unsafe {
            let by_call = core::mem::transmute::<usize, extern "C" fn() -> usize>(holder);
            (load::<usize>(at), by_call(), load::<usize>(at))
        };
        // Another thread may take the lock meanwhile.
        if before == after && by_call != before {
            HOLDER_AT.store(0, Relaxed);
        }
    }
}

/// From now on, frames of this interpreter are walked.
pub fn set_interpreter(interpreter: &Interpreter) {
    THREAD_STATE.store(interpreter.thread_state, Relaxed);
    ATTACHED_STATE.store(interpreter.attached_state, Relaxed);
    HOLDERS_STATE.store(interpreter.holders_state, Relaxed);
    let attached = current::attached_offset(interpreter.attached_state, interpreter.from_start);
    ATTACHED_AT.store(attached.unwrap_or(0), Relaxed);
    HOLDER_AT.store(current::holder_address(interpreter.holders_state).unwrap_or(0), Relaxed);
    prove_shortcuts();
    if interpreter.finalizing != 0 {
        FINALIZING.store(interpreter.finalizing as *mut usize, Relaxed);
        STOCK_IS_DUE.store(interpreter.finalizing as *mut usize, Relaxed);
    }
    frame::set_code_type(interpreter.code_type);
    LAYOUT.store(core::ptr::from_ref(interpreter.layout).cast_mut(), Release);
}

/// The layout of the interpreter that is walked.
pub fn layout() -> Option<&'static Layout> {
    // SAFETY: null, or a layout that lives for the whole program.
    unsafe { LAYOUT.load(Relaxed).as_ref() }
}

/// # Safety
/// `address` must be readable for a `T`.
#[inline(always)]
pub unsafe fn load<T: Copy>(address: usize) -> T {
    // SAFETY: the caller's promise; fields of C structures are aligned.
    unsafe { *(address as *const T) }
}

/// Whether the calling thread, of which nothing is known, holds the interpreter lock for sure.
#[inline(always)]
pub fn holds_lock() -> bool {
    layout().is_some_and(|layout| lock_holders_state(layout, Lock::Unknown) != 0)
}

/// The state that the calling thread holds the interpreter lock with; 0: it may not hold it.
///
/// From 3.12 on a thread's word for the state is set after it took the lock, and cleared before it
/// drops it (`_PyThreadState_Attach`, `_PyEval_ReleaseLock` in `Python/pystate.c` and
/// `Python/ceval_gil.c`). Before, there is only the runtime's word for all threads.
#[inline(always)]
pub(super) fn lock_holders_state(layout: &Layout, lock: Lock) -> usize {
    if let Some(tstate) = attached_word() {
        return tstate;
    }
    let at = HOLDER_AT.load(Relaxed);
    // The state that it names may be another thread's, at its end: only who holds the lock may look.
    if at == 0 || lock == Lock::Unknown {
        return 0;
    }
    // SAFETY: the word of the runtime, a static object, that its function reads.
    let tstate: usize = unsafe { load(at) };
    // SAFETY: as in `state_under_lock`.
    let is_ours =
        || unsafe { load::<usize>(tstate + layout.tstate_thread as usize) } == thread_pointer();
    if tstate != 0 && is_ours() { tstate } else { 0 }
}

/// `prev`, `next`, `interp`: the first three words of every thread state from 3.8 to 3.15.
pub const INTERPRETER: usize = 16;

/// The state that the calling thread runs with, which holds the interpreter lock.
///
/// Before 3.12 a thread's own state is that of the first interpreter that it ran, and only the
/// runtime's word for the lock's holder tells of a sub-interpreter. That word is believed where it
/// names this very thread: a caller that breaks the rule and does not hold the lock must not make
/// us walk another thread's frames.
#[inline(always)]
pub(super) fn state_under_lock(layout: &Layout) -> usize {
    let (holder, at) = (HOLDERS_STATE.load(Relaxed), HOLDER_AT.load(Relaxed));
    if holder != 0 {
        // SAFETY: the word of the runtime, a static object, that the function below reads; or the
        // address of that function, of this type.
        let tstate: usize = unsafe {
            if at != 0 {
                load(at)
            } else {
                core::mem::transmute::<usize, extern "C" fn() -> usize>(holder)()
            }
        };
        if tstate != 0 {
            // SAFETY: `Lock::Held` means that this thread is the holder, so the state is its own and
            // alive. Where a caller breaks that rule, the holder is in the middle of its work, not
            // at its end, and the state is a block of the heap, which is readable either way.
            let thread: usize = unsafe { load(tstate + layout.tstate_thread as usize) };
            if thread == thread_pointer() {
                return tstate;
            }
        }
    }
    thread_state()
}

#[inline(always)]
pub(super) fn thread_state() -> usize {
    let tstate = attached_word().unwrap_or_else(attached_by_call);
    if tstate != 0 {
        return tstate;
    }
    own_state()
}

/// The state that this thread was given first, which it keeps without the lock.
#[inline(always)]
pub(super) fn own_state() -> usize {
    // SAFETY: the address of a function of this type, which reads a thread-specific value; it may be
    // called at any time, with or without the interpreter lock.
    let own: extern "C" fn() -> usize = unsafe { core::mem::transmute(THREAD_STATE.load(Relaxed)) };
    own()
}

#[inline(always)]
fn attached_by_call() -> usize {
    let attached = ATTACHED_STATE.load(Relaxed);
    if attached == 0 {
        return 0;
    }
    // SAFETY: the address of a function of this type, which reads a thread-local variable.
    unsafe { core::mem::transmute::<usize, extern "C" fn() -> usize>(attached)() }
}

/// Thread states that were seen, with the ids of their threads in the system: as the teardown begins
/// the interpreter no longer lists those of other threads.
static SEEN: [(AtomicU32, AtomicUsize); 256] =
    [const { (AtomicU32::new(0), AtomicUsize::new(0)) }; 256];

/// Remembers the calling thread's state. Called with each new stack, so it may cost something.
pub fn remember(tstate: usize) {
    let place = (tstate >> 6) % SEEN.len();
    for (thread, state) in SEEN.iter().cycle().skip(place).take(16) {
        let known = thread.load(Relaxed);
        if state.load(Relaxed) == tstate {
            return;
        }
        if known == 0 || !sys::thread_exists(known) {
            state.store(tstate, Relaxed);
            thread.store(sys::thread_id(), Relaxed);
            return;
        }
    }
}

/// States of threads that still exist.
pub fn remembered(exists: impl Fn(u32) -> bool) -> Vec<usize> {
    let seen = SEEN.iter().map(|(thread, state)| (thread.load(Relaxed), state.load(Relaxed)));
    seen.filter(|&(thread, state)| state != 0 && exists(thread)).map(|(_, state)| state).collect()
}

/// Whether this thread runs Python now, as far as the interpreter says.
pub fn attached() -> bool {
    layout().is_some() && trial::is_passed() && attached_by_call() != 0
}

/// While the interpreter ends, other threads' states may be freed under them.
#[inline(always)]
pub(super) fn may_walk(tstate: usize) -> bool {
    let finalizing = finalizing();
    finalizing == 0 || finalizing == tstate
}

/// The thread state that ends the interpreter; 0 while none does.
#[inline(always)]
pub fn finalizing() -> usize {
    // SAFETY: a field of `_PyRuntime`, a static object of the interpreter, which stays loaded; or a
    // static word of ours.
    unsafe { AtomicUsize::from_ptr(FINALIZING.load(Relaxed)).load(Relaxed) }
}

/// Whether the teardown has begun and no stock was taken yet.
#[inline(always)]
pub fn stock_is_due() -> bool {
    // SAFETY: as in `finalizing`.
    unsafe { AtomicUsize::from_ptr(STOCK_IS_DUE.load(Relaxed)).load(Relaxed) != 0 }
}

/// In a forked child, which takes its own.
pub fn stock_was_not_taken() {
    STOCK_IS_DUE.store(FINALIZING.load(Relaxed), Relaxed);
}

/// It was taken: once is enough.
pub fn stock_was_taken() {
    STOCK_IS_DUE.store(NEVER.as_ptr(), Relaxed);
}

/// Whether the calling thread, which holds the lock of a sub-interpreter, tears that down because
/// the main interpreter `main` is about to end (from 3.14 on, before [`finalizing`] tells).
#[cold]
pub fn ends_sub_interpreter(main: usize) -> bool {
    let Some(layout) = layout().filter(|layout| layout.interp_finalizing != 0) else {
        return false;
    };
    let tstate = thread_state();
    if tstate == 0 || main == 0 {
        return false;
    }
    // SAFETY: the calling thread's state and its interpreter, which it holds the lock of, and the
    // main interpreter, a static object; the offsets lie inside them.
    unsafe {
        let interpreter: usize = load(tstate + INTERPRETER);
        interpreter != main
            && load::<usize>(interpreter + layout.interp_finalizing as usize) == tstate
            && load::<i32>(main + layout.interp_begun as usize) != 0
    }
}
