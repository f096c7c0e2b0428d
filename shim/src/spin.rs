//! A lock that a hook may take: it never sleeps in the C library, never
//! allocates, and can be reset in a forked child.
//!
//! Only code that holds the [`Guard`](crate::guard::Guard) takes it, so no
//! signal handler and no allocation can come back to it on the same thread.

use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU32, Ordering};

use crate::{collector, park, sys};

/// See the module.
pub struct SpinLock<T> {
    held: AtomicU32,
    value: UnsafeCell<T>,
}

// SAFETY: the value is only reached through `Locked`, of which there is one at a time.
unsafe impl<T: Send> Sync for SpinLock<T> {}

impl<T> SpinLock<T> {
    /// An open lock.
    pub const fn new(value: T) -> Self {
        SpinLock { held: AtomicU32::new(0), value: UnsafeCell::new(value) }
    }

    /// The lock, if nobody has it.
    pub fn try_lock(&self) -> Option<Locked<'_, T>> {
        match self.held.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => Some(Locked { lock: self }),
            Err(_) => None,
        }
    }

    /// The lock; whoever has it does a bounded amount of work.
    pub fn lock(&self) -> Locked<'_, T> {
        let mut tries = 0u32;
        loop {
            if let Some(locked) = self.try_lock() {
                return locked;
            }
            tries += 1;
            if tries < 64 { core::hint::spin_loop() } else { self.wait() }
        }
    }

    #[cold]
    fn wait(&self) {
        if park::is_alone() {
            // Whoever held it does not exist in this process, and left it whole.
            return self.release();
        }
        if park::is_wanted() && collector::is_this_thread() {
            park::heed();
        }
        sys::yield_now();
    }

    /// Takes the lock and keeps it until [`SpinLock::release`]: for the time of a fork.
    pub fn hold(&self) {
        core::mem::forget(self.lock());
    }

    /// Opens a lock taken by [`SpinLock::hold`].
    pub fn release(&self) {
        self.held.store(0, Ordering::Release);
    }
}

/// The value of a lock that is held.
pub struct Locked<'a, T> {
    lock: &'a SpinLock<T>,
}

impl<T> Deref for Locked<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: this `Locked` is the only one, so nobody writes the value.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for Locked<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this `Locked` is the only one, and it is borrowed for writing.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for Locked<'_, T> {
    fn drop(&mut self) {
        self.lock.held.store(0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::SpinLock;

    #[test]
    fn one_at_a_time() {
        static LOCK: SpinLock<u64> = SpinLock::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| *LOCK.lock() += 1));
            }
        });
        assert_eq!(*LOCK.lock(), 40_000);
        LOCK.hold();
        assert!(LOCK.try_lock().is_none());
        LOCK.release();
        assert!(LOCK.try_lock().is_some());
    }
}
