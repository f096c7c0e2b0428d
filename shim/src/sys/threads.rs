//! Threads, their signals, and waiting.

use core::sync::atomic::AtomicU32;

use super::{Errno, numbers_in, pid, syscall};

/// The calling thread.
pub fn thread_id() -> u32 {
    // SAFETY: no arguments, cannot fail.
    unsafe { syscall(libc::SYS_gettid, [0; 6]) }.map_or(0, |tid| tid as u32)
}

/// Whether a thread of this process still exists for the kernel.
pub fn thread_exists(tid: u32) -> bool {
    // SAFETY: signal 0 is never delivered.
    let asked = unsafe { syscall(libc::SYS_tgkill, [pid() as usize, tid as usize, 0, 0, 0, 0]) };
    asked != Err(Errno(libc::ESRCH))
}

/// How many threads the process has, by the links of the kernel's folder of them.
pub fn thread_count() -> Option<u64> {
    // SAFETY: plain C data.
    let mut stat: libc::stat = unsafe { core::mem::zeroed() };
    let path = c"/proc/self/task";
    let arguments =
        [libc::AT_FDCWD as usize, path.as_ptr() as usize, &raw mut stat as usize, 0, 0, 0];
    // SAFETY: a path that ends in zero and room for the answer.
    unsafe { syscall(libc::SYS_newfstatat, arguments) }.ok()?;
    (stat.st_nlink as u64).checked_sub(2)
}

/// Ids of the process's threads.
pub fn threads() -> Vec<u32> {
    numbers_in(b"/proc/self/task\0").unwrap_or_default()
}

/// Gives the processor away.
pub fn yield_now() {
    // SAFETY: no arguments, no effect on memory.
    let _ = unsafe { syscall(libc::SYS_sched_yield, [0; 6]) };
}

/// Sleeps.
pub fn sleep_ns(ns: u64) {
    let nobody = AtomicU32::new(0);
    futex_wait(&nobody, 0, ns);
}

/// Waits until `word` is not `expected`, somebody wakes it, or the time is over.
pub fn futex_wait(word: &AtomicU32, expected: u32, timeout_ns: u64) {
    let time = libc::timespec {
        tv_sec: (timeout_ns / 1_000_000_000) as i64,
        tv_nsec: (timeout_ns % 1_000_000_000) as i64,
    };
    // SAFETY: the word and the time outlive the call.
    let _ = unsafe {
        syscall(
            libc::SYS_futex,
            [
                word.as_ptr() as usize,
                (libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG) as usize,
                expected as usize,
                &raw const time as usize,
                0,
                0,
            ],
        )
    };
}

/// Wakes whoever waits on `word`.
pub fn futex_wake(word: &AtomicU32) {
    // SAFETY: the word outlives the call.
    let _ = unsafe {
        syscall(
            libc::SYS_futex,
            [
                word.as_ptr() as usize,
                (libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG) as usize,
                i32::MAX as usize,
                0,
                0,
                0,
            ],
        )
    };
}

/// Blocks all signals of this thread; returns what was blocked before.
pub fn block_signals() -> u64 {
    let (all, mut before) = (u64::MAX, 0u64);
    // SAFETY: the kernel reads and writes eight bytes each.
    let _ = unsafe {
        syscall(
            libc::SYS_rt_sigprocmask,
            [
                libc::SIG_SETMASK as usize,
                &raw const all as usize,
                &raw mut before as usize,
                8,
                0,
                0,
            ],
        )
    };
    before
}

/// Puts back what [`block_signals`] returned.
pub fn restore_signals(mask: u64) {
    // SAFETY: as above.
    let _ = unsafe {
        syscall(
            libc::SYS_rt_sigprocmask,
            [libc::SIG_SETMASK as usize, &raw const mask as usize, 0, 8, 0, 0],
        )
    };
}

/// Lets all signals of this thread through.
pub fn unblock_signals() {
    restore_signals(0);
}

/// Sets what a signal does in this process, and lets it through.
pub fn set_signal(signal: i32, action: usize) {
    // SAFETY: plain C data; only called in a copy of the process, whose signals are nobody's.
    unsafe {
        let mut wanted: libc::sigaction = core::mem::zeroed();
        wanted.sa_sigaction = action;
        wanted.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER;
        libc::sigaction(signal, &wanted, core::ptr::null_mut());
    }
}
