//! What must be seen to now and then while the program runs.

use core::ffi::c_void;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::Relaxed};

use crate::collector::{self, ROUNDS, modules};
use crate::guard::{Guard, Known, Thread, thread};
use crate::native::{self, Anchor};
use crate::python::{self, state};
use crate::sites::{self, Place, SITES};
use crate::store::{self, STORE};
use crate::{epoch, peak, sys};

use super::fork::{be_born_in_time, is_unborn};
use super::{PID, recording, since_epoch_ms, since_start_ns};

/// Nothing of Python's asks for the collector: there is no interpreter, or its allocators are not
/// recorded.
pub(super) static UNTENDED: AtomicBool = AtomicBool::new(false);
static THREAD_KEY: AtomicU32 = AtomicU32::new(u32::MAX);
pub(super) static MAIN_INTERPRETER: AtomicUsize = AtomicUsize::new(0);

/// Called where a stack is seen for the first time: rare enough for all that
/// must be looked at now and then.
pub fn on_new_site(guard: &Guard, place: &Place) {
    be_born_in_time();
    tend_collector(guard, place.anchor);
    if let Some(interpreter) = place.top.map(|top| top.interpreter) {
        let main = MAIN_INTERPRETER.load(Relaxed);
        if main == 0 {
            MAIN_INTERPRETER.store(python::main_interpreter(), Relaxed);
        } else if main != interpreter {
            sites::have_several_locks();
        }
    }
    python::hooks::look_after(guard, place.origin);
}

/// Called every few thousand allocations under the interpreter lock.
#[cold]
#[inline(never)]
pub fn tick(guard: &Guard) {
    be_born_in_time();
    epoch::advance(since_epoch_ms());
    if state::finalizing() == 0 {
        collector::ensure(guard, since_start_ns());
        if collector::is_missing() {
            // It is too early for it; a program that does little from now on needs it too.
            guard.thread.until_tick.set(SOON);
        }
    }
}

/// Whether allocations of native code must do what Python's do elsewhere.
#[inline(always)]
pub fn untended() -> bool {
    UNTENDED.load(Relaxed)
}

/// Called every few thousand allocations of native code, where [`untended`].
#[cold]
#[inline(never)]
pub fn native_tick(guard: &Guard, anchor: Anchor) {
    be_born_in_time();
    epoch::advance(since_epoch_ms());
    tend_collector(guard, anchor);
}

/// Allocations that pass before another look; the next one is then not the second of a pair again.
const SOON: u32 = 16;

/// After a fork the collector is not there: the next allocations shall bring it back, where there are few too.
pub(super) fn look_soon(thread: &Thread) {
    thread.until_tick.set(SOON);
}

/// Starts the collector from an allocation of native code, where nothing else does. The program's
/// own code may create threads wherever it runs; the C library and the loader, which call the
/// allocator too, hold locks there that creating one may want.
fn tend_collector(guard: &Guard, anchor: Anchor) {
    if !untended() || !collector::is_missing() || state::finalizing() != 0 {
        return;
    }
    if native::is_own_code(anchor.caller()) {
        collector::ensure(guard, since_start_ns());
    } else {
        // Soon again: every thousandth allocation may be the C library's.
        guard.thread.until_tick.set(SOON);
    }
}

/// Counts a thread in, and asks to hear of its end.
#[inline]
pub fn know_thread(thread: &Thread) {
    if thread.known.get() == Known::Not {
        thread.known.set(Known::In);
        peak::THREADS.fetch_add(1, Relaxed);
        store::enter(thread);
        let key = THREAD_KEY.load(Relaxed);
        if key != u32::MAX {
            // SAFETY: the key was created; a value that is not null makes the destructor run.
            unsafe { libc::pthread_setspecific(key, core::ptr::from_ref(thread).cast()) };
        }
    }
}

/// From here on the ends of threads are known.
pub(super) fn hear_of_threads() {
    let mut key = 0;
    // SAFETY: the destructor lives as long as the process; runs once.
    if unsafe { libc::pthread_key_create(&mut key, Some(thread_ended)) } == 0 {
        THREAD_KEY.store(key, Relaxed);
    }
}

extern "C" fn thread_ended(_: *mut c_void) {
    let guard = Guard::enter();
    let thread = thread();
    peak::leave(thread);
    store::leave(thread);
    if let Some(guard) = &guard {
        native::paths::release_cache(guard);
    }
    // What other destructors allocate after this must not begin a new cache.
    thread.no_paths.set(1);
}

/// Program files are about to change, or have just done so.
pub fn modules_change() {
    if !recording() || sys::pid() != PID.load(Relaxed) || is_unborn() {
        return;
    }
    let Some(_guard) = Guard::enter() else { return };
    let Some(look) = modules::look() else {
        // The sites so far belong to the files as they are.
        if let (Some(mut sites), Some(mut store)) = (SITES.try_lock(), STORE.try_lock()) {
            sites.write_out(&mut store);
        }
        return;
    };
    // Never wait here: the loader's lock may be held further out on this very thread, and the
    // collector may wait for it.
    if let Some(mut rounds) = ROUNDS.try_lock() {
        rounds.modules.note(look, since_start_ns());
    } else {
        modules::forget();
    }
}
