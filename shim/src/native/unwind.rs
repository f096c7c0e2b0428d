//! Unwinding by rules: from the hook's caller outwards.
//!
//! libgcc's unwinder is not asked where the rules end. It trusts what it finds:
//! under a greenlet, which begins on top of another one's stack, the words
//! further out are stale, and it follows them into the void.

use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::rules::{self, Step};
use super::{Anchor, IN_REGISTER, NativeFrame, Recursion, Stack};
use crate::guard::{Guard, thread_pointer};
use crate::python::walk::Top;

/// Where unwinding stops.
#[derive(Clone, Copy)]
pub struct Stop {
    /// At a frame of the evaluation loop, if so many frames are inside it.
    evaluation_from: usize,
    /// At a frame that is not inside this address of the stack.
    boundary: usize,
    /// Return addresses from here on are not looked at.
    above: usize,
}

/// [`Stop::evaluation_from`] where it does not.
const NEVER: usize = usize::MAX;

/// Address of `__libc_stack_end`; 0: not known.
pub static STACK_END: AtomicUsize = AtomicUsize::new(0);

/// No thread's stack is larger.
const LARGEST_STACK: usize = 1 << 30;

impl Stop {
    /// At the innermost frame of Python code that runs on the thread with the Python stack `python`; at
    /// the stack's end where there is none.
    pub fn new(anchor: Anchor, python: Option<Top>) -> Stop {
        let above = stack_end(anchor.sp);
        let Some(top) = python else {
            return Stop { evaluation_from: NEVER, boundary: NEVER, above };
        };
        // Where the evaluation loop is split into several functions, its frame still tells.
        let boundary = top.first_boundary();
        let boundary = if boundary > anchor.sp { boundary } else { NEVER };
        Stop { evaluation_from: 0, boundary, above }
    }

    /// At the next frame of the evaluation loop with so many frames inside it, on the stack of a hook.
    pub fn outer(hook: Anchor, evaluation_from: usize) -> Stop {
        Stop { evaluation_from, boundary: NEVER, above: stack_end(hook.sp) }
    }
}

/// The end of the stack that `sp` points into. The first thread's is known to the C library; any
/// other one's block of thread-local storage lies at the end of its stack.
fn stack_end(sp: usize) -> usize {
    let end = STACK_END.load(Relaxed);
    if end != 0 {
        // SAFETY: the loader's variable of this name, a pointer.
        let end = unsafe { *(end as *const usize) };
        if sp < end && end - sp < LARGEST_STACK {
            return end;
        }
    }
    let block = thread_pointer();
    if sp < block && block - sp < LARGEST_STACK {
        return block;
    }
    // A stack that the program made itself: no word beyond the next pages is trusted.
    sp.saturating_add(64 << 10)
}

/// Gathers the native frames. Takes no lock that the program can hold.
#[inline(never)]
pub fn unwind(_: &Guard, anchor: Anchor, stop: Stop, out: &mut Stack) {
    out.clear();
    let mut recursion = Recursion::new();
    by_rules(anchor, stop, |it| recursion.repeats(it.pc) || out.push((it.pc, it.slot)));
}

/// How a walk by rules ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// At the outermost frame.
    Whole,
    /// Before a frame that the caller does not want.
    Before(Reached),
    /// At a frame that is beyond what rules can say, or at the end of the stack.
    Lost,
}

/// A frame that a walk came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    /// Where its return address lies.
    pub slot: usize,
    /// The return address.
    pub pc: u64,
    /// Whether it is a frame of the evaluation loop at which the walk was to stop.
    pub is_evaluation: bool,
    /// Where the value that rbp has in it was saved, or [`IN_REGISTER`]; and that value.
    pub base: (usize, usize),
}

/// Walks by rules and calls `seen` with each frame until that says `false`.
#[inline(always)]
pub fn by_rules(anchor: Anchor, stop: Stop, mut seen: impl FnMut(NativeFrame) -> bool) -> End {
    let mut slot = anchor.sp;
    let (mut base, mut base_saved_at) = (anchor.bp, IN_REGISTER);
    let mut frames = 0;
    loop {
        if slot >= stop.above {
            return End::Lost;
        }
        // SAFETY: below the stack's end, `slot` is the hook's own return address, or one that the unwind tables of the
        // function inside it place on this thread's stack.
        let pc = unsafe { *(slot as *const u64) };
        if pc == 0 {
            return End::Whole;
        }
        let here = |is_evaluation| {
            End::Before(Reached { slot, pc, is_evaluation, base: (base_saved_at, base) })
        };
        if slot >= stop.boundary {
            return here(false);
        }
        let rule = rules::rule(pc);
        if rule.is_evaluation() && frames >= stop.evaluation_from {
            return here(true);
        }
        // The stack pointer in the frame that `pc` returns into.
        let sp = slot + 8;
        let (frame_end, by_base) = match rule.step() {
            Step::ByStack(offset) => (sp + offset, false),
            Step::ByBase(offset) => (base.wrapping_add(offset), true),
            Step::End => (0, false),
            Step::Unknown => return End::Lost,
        };
        let base_known = by_base.then_some((base_saved_at, base));
        if !seen(NativeFrame { pc, slot, base: base_known }) {
            return here(false);
        }
        if rule.step() == Step::End {
            return End::Whole;
        }
        // Frames lie further and further out, each in its word's place.
        if frame_end < sp || !frame_end.is_multiple_of(8) || frame_end > stop.above {
            return End::Lost;
        }
        if rule.base_saved() != 0 {
            base_saved_at = frame_end.wrapping_sub(rule.base_saved());
            if base_saved_at < anchor.sp {
                return End::Lost;
            }
            // SAFETY: where the function's tables say that it saved rbp, inside its own frame.
            base = unsafe { *(base_saved_at as *const usize) };
        }
        slot = frame_end - 8;
        frames += 1;
    }
}
