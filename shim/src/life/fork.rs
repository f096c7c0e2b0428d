//! What a fork does: it finds every lock at rest, and the child begins anew.

use core::sync::atomic::{AtomicBool, Ordering::Relaxed, Ordering::SeqCst};

use crate::collector::{self, ROUNDS, modules};
use crate::guard::{Guard, thread};
use crate::sites::{self, SITES};
use crate::store::{self, STORE};
use crate::{epoch, heap, log, mappings, native, park, peak, python, snapshot, sys};

use super::start::{create_dump, write_process};
use super::tend::look_soon;
use super::{PID, SETTINGS, START_NS, end, recording, since_start_ns, stop};

/// A forked child that has not needed a dump yet.
static UNBORN: AtomicBool = AtomicBool::new(false);

pub(super) extern "C" fn before_handler() {
    before_fork();
}

pub(super) extern "C" fn in_parent_handler() {
    after_fork_in_parent();
    // Nobody counts this process's threads; a handler may create one.
    if recording()
        && !python::found()
        && let Some(guard) = Guard::enter()
    {
        collector::not_before(0);
        collector::ensure(&guard, since_start_ns());
    }
}

pub(super) extern "C" fn in_child_handler() {
    after_fork_in_child();
}

/// Brings every lock of the shim to rest, so that a child finds them whole. Until the fork is done this
/// thread stays inside the shim: a signal handler that comes meanwhile, or another handler of the
/// fork, must not come to the locks.
pub fn before_fork() {
    let forks = &thread().forks;
    if forks.get() > 0 {
        // Such a one forks.
        return forks.set(forks.get() + 1);
    }
    if !recording() {
        return;
    }
    let Some(guard) = Guard::enter() else {
        // A signal handler that interrupted the shim itself must not wait for this very thread.
        let request = collector::stand_still();
        if request != 0 {
            thread().parked.set(request);
        }
        return;
    };
    collector::stop(&guard);
    ROUNDS.hold();
    SITES.hold();
    STORE.hold();
    mappings::hold();
    python::arenas::hold();
    native::paths::hold();
    modules::hold();
    log::hold();
    SETTINGS.hold();
    snapshot::hold();
    heap::HEAP.hold();
    forks.set(1);
    guard.keep();
}

fn release_locks() {
    heap::HEAP.release();
    snapshot::release();
    SETTINGS.release();
    log::release();
    modules::release();
    native::paths::release();
    python::arenas::release();
    mappings::release();
    STORE.release();
    SITES.release();
    ROUNDS.release();
}

/// The parent goes on as before; the collector comes back later.
pub fn after_fork_in_parent() {
    let thread = thread();
    match thread.forks.get() {
        0 => park::go_on(thread.parked.replace(0)),
        1 => {
            release_locks();
            thread.forks.set(0);
            look_soon(thread);
            drop(Guard::kept());
        }
        forks => thread.forks.set(forks - 1),
    }
}

/// In a child that a signal handler forked inside the shim: it comes back there, and records nothing.
fn come_back() {
    if recording() {
        // The locks are as they were at some moment of the parent's.
        park::be_alone();
        collector::gone();
        store::abandon_file(thread());
        stop();
    }
}

/// The child lets go of all that is its parent's.
pub fn after_fork_in_child() {
    let this = thread();
    match this.forks.get() {
        0 => return come_back(),
        1 => {}
        forks => {
            this.forks.set(forks - 1);
            return come_back();
        }
    }
    release_locks();
    this.forks.set(0);
    park::forget();
    this.parked.set(0);
    look_soon(this);
    let guard = Guard::kept();
    PID.store(sys::pid(), Relaxed);
    START_NS.store(sys::monotonic_ns(), Relaxed);
    end::is_far();
    epoch::fork();
    collector::gone();
    collector::after_start();
    sites::hand_down_origins();
    STORE.lock().forget();
    collector::discard();
    modules::forget();
    mappings::forget();
    snapshot::forget();
    SITES.lock().reset();
    peak::reset(thread());
    store::be_alone(thread());
    store::header().site_count.store(1, Relaxed);
    // Its dump comes later: a child that soon becomes another program needs none.
    UNBORN.store(true, SeqCst);
    drop(guard);
}

/// Whether this is a child that has not needed a dump yet.
#[inline]
pub(super) fn is_unborn() -> bool {
    UNBORN.load(Relaxed)
}

/// A forked child that lives this long is not about to become another program.
const CHILDHOOD_NS: u64 = 20_000_000;

#[inline]
pub(super) fn be_born_in_time() {
    if is_unborn() && since_start_ns() > CHILDHOOD_NS {
        be_born();
    }
}

/// From here on the child has a dump of its own; what it counted so far goes into it.
pub(super) fn be_born() {
    if !UNBORN.swap(false, SeqCst) {
        return;
    }
    if peak::THREADS.load(Relaxed) > 1 {
        store::header().inexact.store(1, Relaxed);
    }
    if !create_dump(true) {
        return stop();
    }
    write_process(python::found());
    collector::round(false);
}
