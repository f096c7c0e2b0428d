//! Paths that a thread has unwound, to be recognized without unwinding.
//!
//! A path is a list of words that lay on the stack, at distances from the stack
//! pointer at the hook. If all of them are there again, the stack is the same.
//! That is sound inductively: the same return address means the same function
//! at the same instruction, whose frame has a fixed size, so the next return
//! address lies where it did. A frame addressed by rbp has no fixed size; there
//! the place that held its rbp is one of the words, kept relative to the stack
//! pointer because its value is an address of the stack.

use crate::guard::Guard;
use crate::hash::mix;
use crate::spin::SpinLock;
use crate::sys;

use super::{Anchor, IN_REGISTER, Stack, unwind};

const PATHS: usize = 1024;
const CHECKS: usize = 16 * 1024;

/// A word of the stack that must be as it was.
#[derive(Clone, Copy)]
struct Check {
    /// Bytes above the anchor; [`REGISTER`]: not a word of the stack but rbp at the hook.
    offset: u32,
    /// All ones if the word is an address of the stack itself, kept relative to the anchor.
    relative: u32,
    value: u64,
}

const REGISTER: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Path {
    key: u64,
    hash: u64,
    first: u32,
    count: u32,
}

/// The paths of one thread. All zero is an empty cache.
pub struct PathCache {
    paths: [Path; PATHS],
    checks: [Check; CHECKS],
    used: u32,
    next_free: *mut PathCache,
}

/// Caches of threads that ended, for threads to come.
static FREE: SpinLock<FreeList> = SpinLock::new(FreeList(core::ptr::null_mut()));

struct FreeList(*mut PathCache);

// SAFETY: the caches in the list belong to no thread.
unsafe impl Send for FreeList {}

#[cold]
fn new_cache(guard: &Guard) -> Option<&'static mut PathCache> {
    let thread = guard.thread;
    if thread.no_paths.get() != 0 {
        return None;
    }
    crate::life::know_thread(thread);
    let mut cache = {
        let mut free = FREE.lock();
        let cache = free.0;
        if !cache.is_null() {
            // SAFETY: the list holds caches that nobody else uses, and it is locked.
            free.0 = unsafe { (*cache).next_free };
        }
        cache
    };
    if cache.is_null() {
        match sys::reserve(size_of::<PathCache>()) {
            Ok(fresh) => cache = fresh.cast(),
            Err(_) => {
                thread.no_paths.set(1);
                return None;
            }
        }
    }
    thread.paths.set(cache);
    // SAFETY: a mapping of the right size, zeroed or used before, that is now this thread's alone.
    Some(unsafe { &mut *cache })
}

/// Gives the thread's cache back; called when it ends.
pub fn release_cache(guard: &Guard) {
    let cache = guard.thread.paths.replace(core::ptr::null_mut());
    if !cache.is_null() {
        let mut free = FREE.lock();
        // SAFETY: the cache was this thread's alone.
        unsafe { (*cache).next_free = free.0 };
        free.0 = cache;
    }
}

/// For the time of a fork.
pub fn hold() {
    FREE.hold();
    super::rules::hold();
}

/// After it, on both sides.
pub fn release() {
    super::rules::release();
    FREE.release();
}

/// Key of the native stack at `anchor`. `hint` should differ where the native
/// path is likely to (the Python instruction that runs).
#[inline(always)]
pub fn key(guard: &Guard, anchor: Anchor, stop_at_evaluation: bool, hint: u64) -> u64 {
    let key = mix(hint, anchor.caller()) | 1;
    let cache = guard.thread.paths.get();
    if !cache.is_null() {
        // SAFETY: the thread's own cache; only this thread uses it, inside the guard.
        let cache = unsafe { &*cache };
        let path = &cache.paths[key as usize >> 1 & (PATHS - 1)];
        if path.key == key && cache.holds(path, anchor) {
            return path.hash;
        }
    }
    learn(guard, anchor, stop_at_evaluation, key)
}

impl PathCache {
    #[inline(always)]
    fn holds(&self, path: &Path, anchor: Anchor) -> bool {
        let first = path.first as usize;
        let Some(checks) = self.checks.get(first..first + path.count as usize) else {
            return false;
        };
        for check in checks {
            let word = if check.offset == REGISTER {
                anchor.bp as u64
            } else {
                // SAFETY: every earlier check held, so the frame inside this word is the one that
                // was unwound, and its tables place the word on this thread's stack.
                unsafe { *((anchor.sp + check.offset as usize) as *const u64) }
            };
            let base = anchor.sp as u64 & i64::from(check.relative as i32) as u64;
            if word.wrapping_sub(base) != check.value {
                return false;
            }
        }
        true
    }

    fn push(&mut self, check: Check) {
        if let Some(place) = self.checks.get_mut(self.used as usize) {
            *place = check;
            self.used += 1;
        }
    }
}

/// Unwinds, and keeps the path.
#[cold]
#[inline(never)]
fn learn(guard: &Guard, anchor: Anchor, stop_at_evaluation: bool, key: u64) -> u64 {
    let mut stack = Stack::new();
    unwind(guard, anchor, stop_at_evaluation, &mut stack);
    let frames = stack.frames();
    let mut hash = 1;
    for frame in frames {
        hash = mix(hash, frame.pc);
    }
    let cache = guard.thread.paths.get();
    // SAFETY: the thread's own cache; the reference ends with this call.
    let cache = if cache.is_null() { new_cache(guard) } else { Some(unsafe { &mut *cache }) };
    let Some(cache) = cache.filter(|_| stack.certain) else { return hash };
    // Two checks a frame at most, and one for the frame at which unwinding stopped.
    if cache.used as usize + 2 * frames.len() + 2 > CHECKS {
        cache.used = 0;
        cache.paths.fill(Path { key: 0, hash: 0, first: 0, count: 0 });
    }
    let first = cache.used;
    let distance = |slot: usize| (slot - anchor.sp) as u32;
    for frame in frames {
        cache.push(Check { offset: distance(frame.slot), relative: 0, value: frame.pc });
        if let Some((saved_at, base)) = frame.base {
            let offset = if saved_at == IN_REGISTER { REGISTER } else { distance(saved_at) };
            let value = (base as u64).wrapping_sub(anchor.sp as u64);
            cache.push(Check { offset, relative: u32::MAX, value });
        }
    }
    if let Some((slot, pc)) = stack.stopped_at {
        cache.push(Check { offset: distance(slot), relative: 0, value: pc });
    }
    let count = cache.used - first;
    cache.paths[key as usize >> 1 & (PATHS - 1)] = Path { key, hash, first, count };
    hash
}
