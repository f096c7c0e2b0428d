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

/// Whether the collector may be waiting for the loader's lock; it holds no other then.
static AT_LOADER: AtomicBool = AtomicBool::new(false);

/// The collector never parks if it waits for the loader's lock, and the program has that one.
const PATIENCE_NS: u64 = 200_000_000;
/// A round takes milliseconds, and more where many processes want the processor. What is in the middle of
/// a change is waited for, unless something is wrong.
const LONGEST_NS: u64 = 2_000_000_000;

/// Asks the collector to park, and waits until it does, for a while. The result goes to [`go_on`].
pub fn ask(wake: impl Fn()) -> u32 {
    let request = REQUESTS.fetch_add(1, SeqCst).wrapping_add(1).max(1);
    if WANTED.compare_exchange(0, request, SeqCst, SeqCst).is_err() {
        // Another thread forks in the same way just now.
        return 0;
    }
    let begun = sys::monotonic_ns();
    loop {
        wake();
        let heeded = HEEDED.load(SeqCst);
        let waited = sys::monotonic_ns() - begun;
        let longest = if AT_LOADER.load(SeqCst) { PATIENCE_NS } else { LONGEST_NS };
        if heeded == request || waited > longest {
            break;
        }
        sys::futex_wait(&HEEDED, heeded, 1_000_000);
    }
    request
}

/// Called by the collector before it asks for the loader's lock, and when it has it.
pub fn at_loader(is: bool) {
    AT_LOADER.store(is, SeqCst);
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

/// In a child that was forked inside the shim: this thread is the only one there is. What the shim was
/// about to do it does to the end, but the dump is the parent's.
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
    use super::{HEEDED, PATIENCE_NS, ask, at_loader, go_on, heed, is_wanted};
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
    use std::thread;
    use std::time::{Duration, Instant};

    const PATIENCE: Duration = Duration::from_nanos(PATIENCE_NS);

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

        // One that is in the middle of something is waited for.
        let slow = thread::spawn(|| {
            thread::sleep(2 * PATIENCE);
            heed();
        });
        let request = ask(|| ());
        assert_eq!(HEEDED.load(SeqCst), request);
        go_on(request);
        slow.join().expect("it ends");

        // One that may wait for what this thread has is not.
        at_loader(true);
        let begun = Instant::now();
        let request = ask(|| ());
        assert_ne!(HEEDED.load(SeqCst), request);
        assert!(begun.elapsed() >= PATIENCE);
        go_on(request);
        at_loader(false);
    }
}
