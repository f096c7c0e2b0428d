//! Paths that a thread has unwound, to be recognized without unwinding.
//!
//! A path is a list of words that lay on the stack, with their addresses, and the
//! stack pointer at the hook. If that is the same and all words are there again,
//! the stack is the same. That is sound inductively: the same return address means
//! the same function at the same instruction, whose frame has a fixed size, so the
//! next return address lies where it did. A frame addressed by rbp has no fixed
//! size; there the place that held its rbp is one of the words, or rbp itself.
//!
//! Paths that begin alike are told apart where they part: the place of a path is
//! found by the first word in which it differs from the one before, as in a trie.

use core::cell::Cell;

use pyshim_dump::record::Origin;

use crate::guard::{Guard, Thread};
use crate::hash::mix;
use crate::spin::SpinLock;
use crate::{sites, sys};

use super::unwind::{End, Stop, by_rules};
use super::{Anchor, IN_REGISTER, MAX_NATIVE, NativeFrame, Recursion, Stack, unwind};
use crate::python::walk::{Key, Top};

/// Paths that a thread keeps at most.
const PATHS: usize = 8192;
/// Words that they may have together. (Most of the memory of a cache is never touched.)
const WORDS: usize = 32_768;
/// Words of the longest path that is kept: two of a frame at most.
const LONGEST: usize = 2 * MAX_NATIVE + 1;

/// A word of the stack that must be as it was.
#[derive(Clone, Copy)]
struct Check {
    address: usize,
    value: u64,
}

/// A path; its words lie in [`PathCache::words`].
#[repr(C, align(64))]
struct Path {
    key: u64,
    hash: u64,
    /// The stack pointer at the hook.
    sp: usize,
    /// rbp at the hook, if a frame is addressed by that.
    base: usize,
    has_base: bool,
    /// The last word is not one of its frames but what ended it: a frame of the evaluation loop.
    ended: bool,
    count: u16,
    /// Words that there is room for at `first`.
    room: u16,
    first: u32,
    /// The site that this path had last, with what it was looked up by, and when ([`sites::era`]).
    met: Cell<u32>,
    met_by: Cell<u64>,
    met_in: Cell<u32>,
}

/// How many times a path may part from another one to be found.
const PARTINGS: usize = 16;

/// The paths of one thread. All zero is an empty cache.
pub struct PathCache {
    paths: [Path; PATHS],
    words: [Check; WORDS],
    /// Whether the word of that number is no return address but a saved rbp.
    is_base: [bool; WORDS],
    /// Words in use.
    used: usize,
    next_free: *mut PathCache,
}

const _: () = assert!(size_of::<Path>() == 64);

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

/// Paths of different length end at different depths: the stack pointer tells them apart.
#[inline(always)]
fn place_key(anchor: Anchor, hint: u64) -> u64 {
    mix(hint ^ (anchor.sp as u64) << 16, anchor.caller()) | 1
}

impl PathCache {
    #[inline(always)]
    fn place(key: u64) -> usize {
        key as usize >> 1 & (PATHS - 1)
    }

    #[inline(always)]
    fn words_of(&self, path: &Path) -> &[Check] {
        let first = path.first as usize;
        self.words.get(first..first + path.count as usize).unwrap_or_default()
    }

    /// The path that the stack at `anchor` is, or else the key that it is to be kept by.
    #[inline(always)]
    fn find(&self, anchor: Anchor, mut key: u64) -> Result<&Path, u64> {
        for _ in 0..PARTINGS {
            let path = &self.paths[PathCache::place(key)];
            if path.key != key || path.sp != anchor.sp {
                break;
            }
            match self.parting(path, anchor) {
                None => return Ok(path),
                Some((at, word)) => key = mix(key ^ at, word) | 1,
            }
        }
        Err(key)
    }

    /// The first word that is not as it was, with its address; `None`: the path holds. To be asked where
    /// the stack pointer is the path's.
    #[inline(always)]
    fn parting(&self, path: &Path, anchor: Anchor) -> Option<(u64, u64)> {
        if path.has_base && path.base != anchor.bp {
            return Some((0, anchor.bp as u64));
        }
        let parts = |check: &Check| {
            // SAFETY: every earlier check held, so the frame inside this word is the one that
            // was unwound, and its tables place the word on this thread's stack.
            let word = unsafe { *(check.address as *const u64) };
            (word != check.value).then_some((check.address as u64, word))
        };
        let (fours, rest) = self.words_of(path).as_chunks::<4>();
        for four in fours {
            for check in four {
                if let Some(parting) = parts(check) {
                    return Some(parting);
                }
            }
        }
        rest.iter().find_map(parts)
    }

    /// Keeps a path that has just been learned and whose words lie at the end of those in use.
    fn keep(&mut self, mut path: Path) {
        let place = &mut self.paths[PathCache::place(path.key)];
        if place.room >= path.count {
            (path.first, path.room) = (place.first, place.room);
            let (from, to) = (self.used, path.first as usize);
            self.words.copy_within(from..from + path.count as usize, to);
            self.is_base.copy_within(from..from + path.count as usize, to);
        } else {
            self.used += path.count as usize;
        }
        *place = path;
    }

    /// Makes room for the words of any path: by forgetting all of them, where there is none.
    fn make_room(&mut self) {
        if self.used + LONGEST > WORDS {
            self.used = 0;
            for path in &mut self.paths {
                (path.key, path.room) = (0, 0);
            }
        }
    }
}

/// The frames of the path that [`key`] found at this very call; `false` if it is not kept.
pub fn recall(guard: &Guard, anchor: Anchor, hint: u64, out: &mut Stack) -> bool {
    let cache = guard.thread.paths.get();
    if cache.is_null() {
        return false;
    }
    // SAFETY: as in `key`.
    let cache = unsafe { &*cache };
    let Ok(path) = cache.find(anchor, place_key(anchor, hint)) else { return false };
    out.clear();
    let mut recursion = Recursion::new();
    let words = cache.words_of(path);
    let words = words.get(..words.len() - usize::from(path.ended)).unwrap_or_default();
    let is_base = cache.is_base.get(path.first as usize..).unwrap_or_default();
    for (check, _) in words.iter().zip(is_base).filter(|(_, is_base)| !**is_base) {
        if !recursion.repeats(check.value) {
            out.push(NativeFrame { pc: check.value, ..NativeFrame::default() });
        }
    }
    true
}

/// Key of the native stack at `anchor`. `hint` should differ where the native
/// path is likely to (the Python instruction that runs).
#[inline(always)]
pub fn key(guard: &Guard, anchor: Anchor, python: Option<Top>, hint: u64) -> u64 {
    let mut key = place_key(anchor, hint);
    let cache = guard.thread.paths.get();
    if !cache.is_null() {
        // SAFETY: the thread's own cache; only this thread uses it, inside the guard.
        match unsafe { &*cache }.find(anchor, key) {
            Ok(path) => return path.hash,
            Err(place) => key = place,
        }
    }
    learn(guard, anchor, python, key)
}

/// The site of an allocation at `anchor` under the Python stack `python`, if this path was seen before
/// and so was the stack.
#[inline(always)]
pub fn quick_site(
    thread: &'static Thread,
    anchor: Anchor,
    python: Key,
    origin: Origin,
) -> Option<u32> {
    // SAFETY: the thread's own cache, or null; only this thread uses it, and it is not in the shim.
    let cache = unsafe { thread.paths.get().as_ref() }?;
    let path = cache.find(anchor, place_key(anchor, python.top)).ok()?;
    // Mostly the stack is the same too, for the instruction is.
    let by = python.hash.wrapping_add((origin as u64) << 60);
    if path.met_by.get() == by && path.met_in.get() == sites::era() {
        return Some(path.met.get());
    }
    let site = sites::find(sites::key(python.hash, path.hash, origin))?;
    path.met.set(site);
    path.met_by.set(by);
    path.met_in.set(sites::era());
    Some(site)
}

/// Walks, and keeps the path in the place of whichever had the same.
#[inline(never)]
fn learn(guard: &Guard, anchor: Anchor, python: Option<Top>, key: u64) -> u64 {
    let stop = Stop::new(anchor, python);
    let cache = guard.thread.paths.get();
    // SAFETY: the thread's own cache; the reference ends with this call.
    let cache = if cache.is_null() { new_cache(guard) } else { Some(unsafe { &mut *cache }) };
    let Some(cache) = cache else { return walk_anew(guard, anchor, stop) };
    cache.make_room();
    let first = cache.used as u32;
    let (has_base, base, ended) = (false, 0, false);
    let (sp, room) = (anchor.sp, LONGEST as u16);
    let met = (Cell::new(0), Cell::new(0), Cell::new(0));
    let (met, met_by, met_in) = met;
    let mut path = Path {
        key,
        hash: 1,
        sp,
        base,
        has_base,
        ended,
        count: 0,
        room,
        first,
        met,
        met_by,
        met_in,
    };
    let words = cache.words.get_mut(cache.used..).unwrap_or_default();
    let is_base = cache.is_base.get_mut(cache.used..).unwrap_or_default();
    let mut places = words.iter_mut().zip(is_base);
    let mut count = 0;
    let mut push = |address, value, is_base| {
        if let Some(place) = places.next() {
            (*place.0, *place.1) = (Check { address, value }, is_base);
            count += 1;
        }
    };
    let mut frames = 0;
    let mut recursion = Recursion::new();
    let end = by_rules(anchor, stop, |frame| {
        if frames == MAX_NATIVE {
            return false;
        }
        frames += 1;
        if !recursion.repeats(frame.pc) {
            path.hash = mix(path.hash, frame.pc);
        }
        push(frame.slot, frame.pc, false);
        match frame.base {
            None => {}
            Some((IN_REGISTER, base)) => (path.has_base, path.base) = (true, base),
            Some((at, base)) => push(at, base as u64, true),
        }
        true
    });
    match end {
        // What ended it may lie elsewhere the next time, which makes the path no less true.
        End::Whole | End::Lost => {}
        End::Evaluation(slot, pc) => {
            push(slot, pc, false);
            path.ended = true;
        }
    }
    (path.count, path.room) = (count, count);
    let hash = path.hash;
    cache.keep(path);
    hash
}

/// The hash of a stack that cannot be kept.
#[cold]
fn walk_anew(guard: &Guard, anchor: Anchor, stop: Stop) -> u64 {
    let mut stack = Stack::new();
    unwind(guard, anchor, stop, &mut stack);
    stack.frames().iter().fold(1, |hash, frame| mix(hash, frame.pc))
}
