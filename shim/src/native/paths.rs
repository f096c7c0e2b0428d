//! Paths that a thread has unwound, to be recognized without unwinding.
//!
//! A path is a list of words that lay on the stack, with their places from the stack
//! pointer at the hook on. If that is the same and all words are there again,
//! the stack is the same. That is sound inductively: the same return address means
//! the same function at the same instruction, whose frame has a fixed size, so the
//! next return address lies where it did. A frame addressed by rbp has no fixed
//! size; there the place that held its rbp is one of the words, or rbp itself.
//! (The stack pointer is a part of the key that a path is found by, which is a hash.)

use pyshim_dump::record::Origin;

use crate::guard::Guard;
use crate::hash::{mix, scatter};
use crate::sites;

pub use super::cache::PathCache;
use super::cache::{FREE, Node};
use super::unwind::{End, Stop, by_rules};
use super::{Anchor, MAX_NATIVE, NativeFrame, Recursion, Stack, unwind};
use crate::python::walk::{Key, Top};

#[cold]
fn new_cache(guard: &Guard) -> Option<*mut PathCache> {
    let thread = guard.thread;
    if thread.no_paths.get() != 0 {
        return None;
    }
    crate::life::know_thread(thread);
    let cache = PathCache::any();
    match cache {
        Some(cache) => thread.paths.set(cache),
        None => thread.no_paths.set(1),
    }
    cache
}

/// Gives the thread's cache back; called when it ends.
pub fn release_cache(guard: &Guard) {
    let cache = guard.thread.paths.replace(core::ptr::null_mut());
    if !cache.is_null() {
        // SAFETY: the cache was this thread's alone.
        unsafe { FREE.lock().push(cache) };
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

/// Paths of different length end at different depths: the stack pointer tells them apart.
#[inline(always)]
fn place_key(anchor: Anchor, hint: u64) -> u64 {
    // (Addresses differ in few bits: without a multiplication each, some would cancel out.)
    let native = scatter(anchor.sp as u64 ^ anchor.caller().rotate_left(32));
    scatter(hint ^ native.rotate_left(32))
}

/// The frames of the path that [`key`] found at this very call; `false` if it is not kept.
pub fn recall(guard: &Guard, anchor: Anchor, hint: u64, out: &mut Stack) -> bool {
    let cache = guard.thread.paths.get();
    if cache.is_null() {
        return false;
    }
    out.clear();
    let mut recursion = Recursion::new();
    let mut frame = |pc: u64| {
        if pc != 0 && !recursion.repeats(pc) {
            out.push(NativeFrame { pc, ..NativeFrame::default() });
        }
    };
    // What ended the path is the last word, so each address waits for the next word; 0: none does.
    let mut last = 0;
    let seen = |word: u64, is_address: bool| {
        frame(last);
        last = if is_address { word } else { 0 };
    };
    // SAFETY: the thread's own cache; only this thread uses it, inside the guard.
    let found = unsafe { (*cache).follow(anchor, place_key(anchor, hint), seen) };
    let Ok(path) = found else { return false };
    if !path.ended() {
        frame(last);
    }
    true
}

/// Key of the native stack at `anchor`. `hint` should differ where the native
/// path is likely to (the Python instruction that runs).
#[inline(always)]
pub fn key(guard: &Guard, anchor: Anchor, python: Option<Top>, hint: u64) -> u64 {
    let key = place_key(anchor, hint);
    let cache = guard.thread.paths.get();
    if !cache.is_null() {
        // SAFETY: the thread's own cache; only this thread uses it, inside the guard.
        if let Some(path) = unsafe { (*cache).find(anchor, key) } {
            return path.hash;
        }
    }
    learn(guard, anchor, python, key)
}

/// Where a path is looked up, and by what.
#[derive(Clone, Copy)]
pub struct Expected<'a> {
    cache: &'a PathCache,
    node: &'a Node,
    key: u64,
}

/// The thread's paths; `None` where it has none yet.
#[inline(always)]
pub fn of(guard: &Guard) -> Option<&PathCache> {
    // SAFETY: the thread's own cache, or null; only this thread uses it, inside the guard.
    unsafe { guard.thread.paths.get().as_ref() }
}

/// Has the beginning of the path at `anchor` come from memory; `hint` as in [`key`].
#[inline(always)]
pub fn expect(cache: &PathCache, anchor: Anchor, hint: u64) -> Expected<'_> {
    let key = place_key(anchor, hint);
    Expected { cache, node: cache.expect(key), key }
}

/// The site of an allocation at `anchor` under the Python stack `python`, if this path was seen before
/// and so was the stack.
#[inline(always)]
pub fn quick_site(
    guard: &Guard,
    expected: Expected,
    anchor: Anchor,
    python: Key,
    origin: Origin,
) -> Option<u32> {
    let Expected { cache, node, key } = expected;
    // SAFETY: the thread's own cache (`expect`).
    let Some(path) = (unsafe { cache.find_from(node, anchor, key) }) else {
        return unknown(guard, python.hash);
    };
    // Mostly the stack is the same too, for the instruction is.
    let by = sites::part(python.hash, origin);
    if let Some(site) = path.site(by) {
        return Some(site);
    }
    let key = sites::key(python.hash, path.hash, origin);
    let now = sites::shard_now(key);
    let Some(site) = sites::find(key) else { return unknown(guard, python.hash) };
    path.remember(by, site, now);
    Some(site)
}

/// The long way comes next, and need not walk the Python stack again.
#[cold]
#[inline(never)]
fn unknown(guard: &Guard, python: u64) -> Option<u32> {
    guard.thread.walked.set(python);
    None
}

/// Walks, and keeps the path.
#[inline(never)]
fn learn(guard: &Guard, anchor: Anchor, python: Option<Top>, key: u64) -> u64 {
    let mut cache = guard.thread.paths.get();
    if cache.is_null() {
        match new_cache(guard) {
            Some(fresh) => cache = fresh,
            None => return walk_anew(guard, anchor, Stop::new(anchor, python)),
        }
    }
    let cache = with_room(guard, cache);
    // SAFETY: as in `key`.
    let missed = match unsafe { cache.follow(anchor, key, |_, _| {}) } {
        // (Nodes of it were put aside for others.)
        Ok(path) => return path.hash,
        Err(missed) => missed,
    };
    let stop = Stop::new(anchor, python);
    let (mut frames, mut hash) = (0, 1);
    let mut recursion = Recursion::new();
    cache.begin(anchor.sp);
    let end = by_rules(anchor, stop, |frame| {
        if frames == MAX_NATIVE {
            return false;
        }
        frames += 1;
        if !recursion.repeats(frame.pc) {
            hash = mix(hash, frame.pc);
        }
        cache.frame(&frame);
        true
    });
    let mut ended = false;
    match end {
        // What ended it may lie elsewhere the next time, which makes the path no less true.
        End::Whole | End::Lost => {}
        End::Evaluation(slot, pc) => {
            cache.word(slot, pc, false);
            ended = true;
        }
    }
    cache.keep(&missed, hash, ended);
    hash
}

/// The thread's cache, or a larger one with its paths, so that there is room for one more.
fn with_room(guard: &Guard, mut cache: *mut PathCache) -> &'static mut PathCache {
    // SAFETY: the thread's own cache, which nobody else refers to; once there is a new one, nothing
    // leads to it any more.
    unsafe {
        if !(*cache).has_room() || (*cache).is_crowded() {
            if let Some(fresh) = (*cache).grown() {
                guard.thread.paths.set(fresh);
                PathCache::unmap(cache);
                cache = fresh;
            }
            if !(*cache).has_room() {
                (*cache).clear();
            }
        }
        &mut *cache
    }
}

/// The hash of a stack that cannot be kept.
#[cold]
fn walk_anew(guard: &Guard, anchor: Anchor, stop: Stop) -> u64 {
    let mut stack = Stack::new();
    unwind(guard, anchor, stop, &mut stack);
    stack.frames().iter().fold(1, |hash, frame| mix(hash, frame.pc))
}
