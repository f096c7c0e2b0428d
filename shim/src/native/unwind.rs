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
    /// At a frame of the evaluation loop.
    evaluation: bool,
    /// Return addresses from here on are not looked at.
    above: usize,
}

/// Address of `__libc_stack_end`; 0: not known.
pub static STACK_END: AtomicUsize = AtomicUsize::new(0);

/// No thread's stack is larger.
const LARGEST_STACK: usize = 1 << 30;

impl Stop {
    /// `python` is the thread's Python stack, if unwinding is to stop at it.
    pub fn new(anchor: Anchor, python: Option<Top>) -> Stop {
        let mut above = stack_end(anchor.sp);
        if let Some(top) = python {
            // Where the evaluation loop is split into several functions, its frame still tells.
            let boundary = top.first_boundary();
            if boundary > anchor.sp {
                above = above.min(boundary);
            }
        }
        Stop { evaluation: python.is_some(), above }
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
    by_rules(anchor, stop, |frame| recursion.repeats(frame.pc) || out.push(frame));
}

/// How a walk by rules ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// At the outermost frame, or where the caller wanted no more.
    Whole,
    /// At a frame of the evaluation loop: where its return address lies, and what it is.
    Evaluation(usize, u64),
    /// At a frame that is beyond what rules can say, or at the end of the stack.
    Lost,
}

/// Walks by rules and calls `seen` with each frame until that says `false`.
#[inline(always)]
pub fn by_rules(anchor: Anchor, stop: Stop, mut seen: impl FnMut(NativeFrame) -> bool) -> End {
    let mut slot = anchor.sp;
    let (mut base, mut base_saved_at) = (anchor.bp, IN_REGISTER);
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
        let rule = rules::rule(pc);
        if rule.evaluation && stop.evaluation {
            return End::Evaluation(slot, pc);
        }
        // The stack pointer in the frame that `pc` returns into.
        let sp = slot + 8;
        let (frame_end, by_base) = match rule.step {
            Step::ByStack(offset) => (sp + offset, false),
            Step::ByBase(offset) => (base.wrapping_add(offset), true),
            Step::End => (0, false),
            Step::Unknown => return End::Lost,
        };
        let base_known = by_base.then_some((base_saved_at, base));
        if !seen(NativeFrame { pc, slot, evaluation: rule.evaluation, base: base_known }) {
            return End::Whole;
        }
        if rule.step == Step::End {
            return End::Whole;
        }
        // Frames lie further and further out, each in its word's place.
        if frame_end < sp || !frame_end.is_multiple_of(8) || frame_end > stop.above {
            return End::Lost;
        }
        if rule.base_saved != 0 {
            base_saved_at = frame_end.wrapping_sub(rule.base_saved);
            if base_saved_at < anchor.sp {
                return End::Lost;
            }
            // SAFETY: where the function's tables say that it saved rbp, inside its own frame.
            base = unsafe { *(base_saved_at as *const usize) };
        }
        slot = frame_end - 8;
    }
}
