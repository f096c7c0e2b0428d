//! The moment before the interpreter's teardown, and the end.

use core::ffi::{c_int, c_void};
use core::sync::atomic::{AtomicBool, Ordering::Relaxed, Ordering::SeqCst};

use pyshim_dump::layout::{BlobKind, EndKind};

use crate::collector::{self, census, gauges};
use crate::guard::Guard;
use crate::python::{self, state};
use crate::sites;
use crate::store::{self, Moment, STORE};
use crate::{peak, snapshot, sys};

use super::fork::{be_born, is_unborn};
use super::tend::MAIN_INTERPRETER;
use super::{PASSIVE, PID, RECORDING, enter, recording, since_start_ns};

static FINAL_TAKEN: AtomicBool = AtomicBool::new(false);

/// Whether the interpreter's teardown has begun; the first to see it takes stock.
#[inline(always)]
pub fn check_final(guard: &Guard) {
    if state::finalizing() != 0 && !FINAL_TAKEN.load(Relaxed) {
        take_final(guard);
    }
    check_sub_interpreter(guard);
}

/// The same where the teardown begins with the sub-interpreters that live. Another thread that ends
/// one of its own meanwhile is still a part of the program.
#[inline(always)]
fn check_sub_interpreter(guard: &Guard) {
    if sites::SEVERAL_LOCKS.load(Relaxed)
        && !FINAL_TAKEN.load(Relaxed)
        && state::ends_sub_interpreter(MAIN_INTERPRETER.load(Relaxed))
        && sys::thread_id() == PID.load(Relaxed)
    {
        take_final(guard);
    }
}

/// The last moment that matters: the interpreter frees nearly everything after it.
#[cold]
#[inline(never)]
fn take_final(guard: &Guard) {
    if FINAL_TAKEN.swap(true, SeqCst) || sys::pid() != PID.load(Relaxed) {
        return;
    }
    be_born();
    if !recording() {
        return;
    }
    python::hooks::note_absence();
    let live = store::note_moment(Moment::Last);
    store::header().final_ns.store(since_start_ns().max(1), SeqCst);
    let smaps = gauges::take();
    snapshot::take_last(guard, smaps, live, true);
    collector::round(true);
    census::take(BlobKind::FinalCensus);
    let_daemon_threads_go();
    state::stock_was_taken();
}

/// Daemon threads that wait for the interpreter lock of CPython 3.10 look every 5 ms whether they
/// must end; one that next looks between the end of the interpreter and that of the process reads
/// what was freed, and crashes. As the teardown takes a little longer with us than without, that is
/// let happen before it, while they may still look. Naps are counted, not time: a process that is
/// held up as a whole has not let them look. On a busy machine they come to it one after another,
/// so each that goes is a reason to wait for the next.
fn let_daemon_threads_go() {
    if state::layout().is_none_or(|layout| layout.minor != 10) {
        return;
    }
    let mut others = other_threads();
    let mut naps = 0;
    for _ in 0..MOST_NAPS {
        if others == 0 || naps == NAPS_TO_LOOK {
            return;
        }
        sys::sleep_ns(NAP_NS);
        let left = other_threads();
        naps = if left < others { 0 } else { naps + 1 };
        others = left;
    }
}
/// A nap takes some 60 us longer than it is to.
const NAP_NS: u64 = 200_000;
/// Their interval (`sys.getswitchinterval`), and a little for the scheduler.
const NAPS_TO_LOOK: u32 = 28;
/// However many threads there are: 100 ms.
const MOST_NAPS: u32 = 400;

/// Registered before anything else, so it runs after every other handler and destructor.
pub(super) extern "C" fn exited(status: c_int, _: *mut c_void) {
    end(EndKind::Exit, status);
}

/// The process ends, or becomes another program. `true` if that was noted.
pub fn end(kind: EndKind, status: i32) -> bool {
    // Between `vfork` and `exec` the memory is the parent's, and so is the dump.
    if !recording() || sys::pid() != PID.load(Relaxed) {
        return false;
    }
    let Some(guard) = Guard::enter() else {
        // A signal handler that interrupted the shim itself: this very thread may hold any lock.
        return note_end(kind, status);
    };
    if is_unborn() {
        // Nothing was recorded in this child, or nothing that is worth a dump.
        if kind == EndKind::Exec || store::site_count() <= 1 {
            return false;
        }
        be_born();
        if !recording() {
            return false;
        }
    }
    let stock_taken = store::header().final_ns.load(Relaxed) != 0;
    if stock_taken {
        collector::last_definitions();
    } else {
        let smaps = gauges::take();
        if kind != EndKind::Exec {
            snapshot::take_last(&guard, smaps, peak::live_bytes(), python::holds_lock());
        }
        census::take(BlobKind::Census);
        collector::round(true);
    }
    note_end(kind, status);
    // The interpreter is gone, and where its daemon threads live, time is short: CPython 3.10 lets
    // one that waits for the interpreter lock read what was freed if the process is not gone within
    // some 2 ms. Nor is it certain that they count no more.
    if !(stock_taken && other_threads() > 0) {
        STORE.lock().seal();
    }
    if kind != EndKind::Exec {
        STORE.lock().finish(!snapshot::is_running());
        snapshot::linger();
    }
    drop(guard);
    true
}

/// Writes down the end, and records no more.
fn note_end(kind: EndKind, status: i32) -> bool {
    let header = store::header();
    header.end_status.store(status, Relaxed);
    header.end_ns.store(since_start_ns(), Relaxed);
    header.end_kind.store(kind as u32, SeqCst);
    enter(PASSIVE);
    true
}

/// How many threads the process has besides this one and the collector; some, if that is not told.
fn other_threads() -> u64 {
    let own = 1 + u64::from(!collector::is_missing());
    sys::thread_count().map_or(1, |count| count.saturating_sub(own))
}

/// `exec` failed: the process goes on as it was.
pub fn not_ended() {
    let guard = Guard::enter();
    if guard.is_some() {
        STORE.lock().unseal();
    }
    if other_threads() > 0 {
        // What they allocated and freed meanwhile was not seen.
        store::header().inexact.store(1, Relaxed);
    }
    store::header().end_kind.store(EndKind::None as u32, SeqCst);
    enter(RECORDING);
    drop(guard);
}

/// In a forked child the moment is still to come.
pub(super) fn is_far() {
    FINAL_TAKEN.store(false, Relaxed);
    state::stock_was_not_taken();
}
