//! Where a signal handler interrupted the shim and forks, the collector is first
//! brought to a place where all that it holds is whole.
//!
//! The forked child has no collector. A lock that it held stays held there, and the child comes
//! back to code that wants it. The collector parks between two rounds and where it waits for a
//! lock, never in the middle of a change; so the child may take what it held.

use core::sync::atomic::{
    AtomicBool, AtomicU32,
    Ordering::{Relaxed, SeqCst},
};

use crate::sys;

/// The number of the request under way; 0: none.
static WANTED: AtomicU32 = AtomicU32::new(0);
/// The request that the collector heeds, or heeded last.
static HEEDED: AtomicU32 = AtomicU32::new(0);
static REQUESTS: AtomicU32 = AtomicU32::new(0);
/// Set in a child that was forked inside the shim.
static ALONE: AtomicBool = AtomicBool::new(false);

/// A round takes milliseconds. It never ends if it waits for the loader's lock, and the program
/// has that one; it holds no other then.
const PATIENCE_NS: u64 = 200_000_000;

/// Asks the collector to park, and waits until it does, for a while. The result goes to [`go_on`].
pub fn ask(wake: impl Fn()) -> u32 {
    let request = REQUESTS.fetch_add(1, SeqCst).wrapping_add(1).max(1);
    if WANTED.compare_exchange(0, request, SeqCst, SeqCst).is_err() {
        // Another thread forks in the same way just now.
        return 0;
    }
    let until = sys::monotonic_ns() + PATIENCE_NS;
    while sys::monotonic_ns() < until {
        wake();
        let heeded = HEEDED.load(SeqCst);
        if heeded == request {
            break;
        }
        sys::futex_wait(&HEEDED, heeded, 1_000_000);
    }
    request
}

/// The fork is done; the collector goes on.
pub fn go_on(request: u32) {
    if request != 0 {
        WANTED.store(0, SeqCst);
        sys::futex_wake(&WANTED);
    }
}

/// Called by the collector where it may stay.
pub fn heed() {
    loop {
        let request = WANTED.load(SeqCst);
        if request == 0 {
            return;
        }
        HEEDED.store(request, SeqCst);
        sys::futex_wake(&HEEDED);
        sys::futex_wait(&WANTED, request, 50_000_000);
    }
}

/// Whether somebody wants the collector to park.
#[inline]
pub fn is_wanted() -> bool {
    WANTED.load(Relaxed) != 0
}

/// In a forked child: what a thread of the parent asked for there, nobody wants here.
pub fn forget() {
    WANTED.store(0, SeqCst);
}

/// In a child that was forked inside the shim: this thread is the only one there is.
pub fn be_alone() {
    forget();
    ALONE.store(true, SeqCst);
}

/// Whether nobody else can hold a lock.
#[inline]
pub fn is_alone() -> bool {
    ALONE.load(Relaxed)
}

#[cfg(test)]
mod tests {
    use super::{ask, go_on, heed, is_wanted};
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
    use std::thread;

    #[test]
    fn the_other_thread_stands_still() {
        static STEPS: AtomicU64 = AtomicU64::new(0);
        static DONE: AtomicBool = AtomicBool::new(false);
        let other = thread::spawn(|| {
            while !DONE.load(SeqCst) {
                heed();
                STEPS.fetch_add(1, SeqCst);
            }
        });
        for _ in 0..200 {
            let request = ask(|| ());
            assert!(is_wanted());
            let steps = STEPS.load(SeqCst);
            thread::yield_now();
            assert_eq!(STEPS.load(SeqCst), steps);
            go_on(request);
        }
        DONE.store(true, SeqCst);
        other.join().expect("it ends");
    }
}
