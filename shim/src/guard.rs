//! The guard: one thread-local word that says "this thread is inside the shim".
//!
//! Whoever records must show a [`Guard`], so "no hook re-enters" is checked by
//! the compiler. The thread's block is placed with the initial-exec model, by
//! hand: reading it is one instruction and can neither allocate nor lock, and
//! nothing in it has a destructor.

use core::arch::{asm, global_asm};
use core::cell::Cell;
use core::sync::atomic::AtomicU32;

use crate::native::paths::PathCache;

/// What the shim keeps for each thread. All zero at the thread's start.
#[repr(C, align(64))]
pub struct Thread {
    inside: Cell<u32>,
    /// Allocations until the next look at the clock.
    pub until_tick: Cell<u32>,
    /// Bytes that this thread may allocate, and free, before it adds what it did to the process's total;
    /// both begin with the same.
    pub may_grow: Cell<usize>,
    /// See `may_grow`.
    pub may_shrink: Cell<usize>,
    /// Native call paths seen on this thread; null until the first.
    pub paths: Cell<*mut PathCache>,
    /// Where this thread counts ([`crate::store::enter`]); null: that is not known yet.
    pub table: Cell<*const AtomicU32>,
    /// Bytes until the next sample; only in sampled mode.
    pub until_sample: Cell<i64>,
    /// Whether this thread is counted in `peak::THREADS` and will be taken out at its end.
    pub known: Cell<Known>,
    /// Set while this thread cannot have a path cache (no memory).
    pub no_paths: Cell<u32>,
    /// The stack pointer at the entry of a hook that has no register left to pass it in.
    pub entry: Cell<usize>,
    /// The frame pointer, likewise.
    pub entry_base: Cell<usize>,
    /// State of the generator that draws samples.
    pub random: Cell<u64>,
    /// The hash of the Python stack that the quick way leaves to the long way; 0: it left none.
    pub python_key: Cell<u64>,
    /// That of the native stack, where full ones are recorded.
    pub native_key: Cell<u64>,
    /// Forks of this thread that are under way ([`crate::life::before_fork`]): the first holds the locks.
    pub forks: Cell<u32>,
    /// By what request the collector stands still for a fork of this thread; 0: by none.
    pub parked: Cell<u32>,
    /// A descriptor of the dump that this thread has open, and one more; 0: none.
    pub dump: Cell<i32>,
}

/// What a thread is to the totals.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
#[repr(u32)]
pub enum Known {
    /// Not counted yet.
    #[default]
    Not = 0,
    /// Counted.
    In = 1,
    /// Taken out again: it is ending, and what it still does nobody hears of later.
    Gone = 2,
}

/// As much as is reserved below.
const _: () = assert!(size_of::<Thread>() == 128);

/// Where [`Thread::inside`] is in the thread's block.
pub const INSIDE: usize = core::mem::offset_of!(Thread, inside);
/// Where [`Thread::until_sample`] is.
pub const UNTIL_SAMPLE: usize = core::mem::offset_of!(Thread, until_sample);

global_asm!(
    ".section .tbss.pyshim_thread,\"awT\",@nobits",
    ".balign 64",
    ".globl pyshim_thread",
    ".hidden pyshim_thread",
    ".type pyshim_thread, @object",
    ".size pyshim_thread, 128",
    "pyshim_thread:",
    ".zero 128",
    ".text",
);

/// The calling thread's block.
#[inline(always)]
pub fn thread() -> &'static Thread {
    let block: *const Thread;
    // SAFETY: reads the thread pointer and a link-time constant; no memory is written.
    unsafe {
        asm!(
            "mov {0}, qword ptr fs:0",
            "add {0}, qword ptr [rip + pyshim_thread@GOTTPOFF]",
            out(reg) block,
            options(pure, readonly, nostack),
        );
    }
    // SAFETY: the block lives as long as its thread, which is the one that runs this; its
    // fields are cells, its size and alignment are those reserved above, and zero is valid.
    unsafe { &*block }
}

/// The thread pointer. A thread other than the first has its block at the end of its stack.
#[inline(always)]
pub fn thread_pointer() -> usize {
    let pointer: usize;
    // SAFETY: reads the thread pointer, which is kept in its own first word.
    unsafe { asm!("mov {0}, qword ptr fs:0", out(reg) pointer, options(pure, readonly, nostack)) };
    pointer
}

/// Proof that this thread is inside the shim, and was not before.
pub struct Guard {
    /// The calling thread's block.
    pub thread: &'static Thread,
}

impl Thread {
    /// Counts an allocation; whether it is time for another look at the clock.
    #[inline(always)]
    pub fn is_time(&self) -> bool {
        let (left, is_time) = self.until_tick.get().overflowing_sub(1);
        self.until_tick.set(left);
        if is_time {
            self.begin_anew();
        }
        is_time
    }

    /// The same where another way looks at the clock: whether it is not time. That way counts the
    /// allocation otherwise.
    #[inline(always)]
    pub fn is_calm(&self) -> bool {
        let left = self.until_tick.get();
        if left != 0 {
            self.until_tick.set(left - 1);
        }
        left != 0
    }

    #[cold]
    #[inline(never)]
    fn begin_anew(&self) {
        self.until_tick.set(TICK - 1);
    }
}

/// Allocations of a thread between two looks at the clock.
const TICK: u32 = 8192;

impl Guard {
    /// Enters the shim; `None` if this thread is inside already.
    #[inline(always)]
    pub fn enter() -> Option<Guard> {
        let thread = thread();
        if thread.inside.get() != 0 {
            return None;
        }
        thread.inside.set(1);
        Some(Guard { thread })
    }

    /// Stays inside the shim until [`Guard::kept`] is let go.
    pub fn keep(self) {
        core::mem::forget(self);
    }

    /// The guard that this thread kept.
    pub fn kept() -> Guard {
        Guard { thread: thread() }
    }

    /// Enters for good: for threads of the shim's own.
    pub fn enter_forever() -> core::mem::ManuallyDrop<Guard> {
        let thread = thread();
        thread.inside.set(1);
        core::mem::ManuallyDrop::new(Guard { thread })
    }
}

impl Drop for Guard {
    #[inline(always)]
    fn drop(&mut self) {
        self.thread.inside.set(0);
    }
}
