//! Unwinding: from the hook's caller outwards.

use core::ffi::c_void;
use core::sync::atomic::Ordering::Relaxed;

use super::rules::{self, Step};
use super::{Anchor, EVALUATION, IN_REGISTER, NativeFrame, Recursion, Stack};
use crate::guard::Guard;

/// Gathers the native frames. Takes no lock that the program can hold.
#[inline(never)]
pub fn unwind(_: &Guard, anchor: Anchor, stop_at_evaluation: bool, out: &mut Stack) {
    out.clear();
    let mut recursion = Recursion::new();
    let push = |frame: NativeFrame| recursion.repeats(frame.pc) || out.push(frame);
    if by_rules(anchor, stop_at_evaluation, push) == End::Unknown {
        out.clear();
        by_libgcc(anchor, stop_at_evaluation, out);
    }
}

/// How a walk by rules ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// At the outermost frame, or where the caller wanted no more.
    Whole,
    /// At a frame of the evaluation loop: where its return address lies, and what it is.
    Evaluation(usize, u64),
    /// At a frame that is beyond what rules can say.
    Unknown,
}

/// Walks by rules and calls `seen` with each frame until that says `false`.
#[inline(always)]
pub fn by_rules(
    anchor: Anchor,
    stop_at_evaluation: bool,
    mut seen: impl FnMut(NativeFrame) -> bool,
) -> End {
    let mut slot = anchor.sp;
    let (mut base, mut base_saved_at) = (anchor.bp, IN_REGISTER);
    loop {
        // SAFETY: `slot` is the hook's own return address, or one that the unwind tables of the
        // function inside it place on this thread's stack.
        let pc = unsafe { *(slot as *const u64) };
        if pc == 0 {
            return End::Whole;
        }
        let rule = rules::rule(pc);
        if rule.evaluation && stop_at_evaluation {
            return End::Evaluation(slot, pc);
        }
        // The stack pointer in the frame that `pc` returns into.
        let sp = slot + 8;
        let (frame_end, by_base) = match rule.step {
            Step::ByStack(offset) => (sp + offset, false),
            Step::ByBase(offset) => (base.wrapping_add(offset), true),
            Step::End => (0, false),
            Step::Unknown => return End::Unknown,
        };
        let base_known = by_base.then_some((base_saved_at, base));
        if !seen(NativeFrame { pc, slot, evaluation: rule.evaluation, base: base_known }) {
            return End::Whole;
        }
        if rule.step == Step::End {
            return End::Whole;
        }
        // Frames lie further and further out, each in its word's place.
        if frame_end <= sp || frame_end % 8 != 0 || frame_end - sp > 64 << 20 {
            return End::Unknown;
        }
        if rule.base_saved != 0 {
            base_saved_at = frame_end - rule.base_saved;
            // SAFETY: where the function's tables say that it saved rbp, inside its own frame.
            base = unsafe { *(base_saved_at as *const usize) };
        }
        slot = frame_end - 8;
    }
}

unsafe extern "C" {
    fn _Unwind_Backtrace(
        step: unsafe extern "C" fn(*mut c_void, *mut c_void) -> i32,
        state: *mut c_void,
    ) -> i32;
    fn _Unwind_GetIP(context: *mut c_void) -> usize;
    fn _Unwind_GetCFA(context: *mut c_void) -> usize;
    fn _Unwind_GetRegionStart(context: *mut c_void) -> usize;
}

const CONTINUE: i32 = 0;
const STOP: i32 = 4;

struct Walk<'a> {
    anchor: Anchor,
    stop_at_evaluation: bool,
    started: bool,
    out: &'a mut Stack,
}

unsafe extern "C" fn step(context: *mut c_void, state: *mut c_void) -> i32 {
    // SAFETY: `state` is the `Walk` that `by_libgcc` passed, alive during the call.
    let walk = unsafe { &mut *state.cast::<Walk>() };
    // SAFETY: the context is the unwinder's, valid during this call.
    let (pc, cfa, start) = unsafe {
        (_Unwind_GetIP(context), _Unwind_GetCFA(context), _Unwind_GetRegionStart(context))
    };
    if !walk.started {
        if cfa != walk.anchor.sp + 8 {
            // Frames of the shim itself. Past the anchor without meeting it: nothing to report.
            return if cfa > walk.anchor.sp + 8 { STOP } else { CONTINUE };
        }
        walk.started = true;
    }
    if pc == 0 {
        return STOP;
    }
    let evaluation = start != 0 && start == EVALUATION.load(Relaxed);
    if evaluation && walk.stop_at_evaluation {
        return STOP;
    }
    let frame = NativeFrame { pc: pc as u64, slot: cfa - 8, evaluation, base: None };
    if walk.out.push(frame) { CONTINUE } else { STOP }
}

fn by_libgcc(anchor: Anchor, stop_at_evaluation: bool, out: &mut Stack) {
    let mut walk = Walk { anchor, stop_at_evaluation, started: false, out };
    // SAFETY: the callback gets the state it expects; the unwinder reads this thread's stack, and
    // finds the tables without the loader's lock from glibc 2.35 on (`prepare` demands it).
    unsafe { _Unwind_Backtrace(step, (&raw mut walk).cast()) };
}
