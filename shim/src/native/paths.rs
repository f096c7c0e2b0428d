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
use crate::{record, sites};

pub use super::cache::PathCache;
use super::cache::{FREE, Further, Node, Path};
use super::unwind::{End, Reached, Stop, by_rules};
use super::{Anchor, Extent, MAX_NATIVE, NativeFrame, Recursion, Stack};
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

/// The frames of the path that [`key`] found at this very call, without repetitions; `at_hand` as it
/// said. `false` if it is not kept.
pub fn recall(guard: &Guard, anchor: Anchor, hint: u64, at_hand: bool, out: &mut Stack) -> bool {
    if at_hand && let Some(cache) = of(guard) {
        out.copy(cache.frames());
        return true;
    }
    out.clear();
    let mut recursion = Recursion::new();
    recall_all(guard, anchor, hint, |pc, slot| {
        if !recursion.repeats(pc) {
            out.push((pc, slot));
        }
    })
}

/// Calls `seen` with all frames of a path, or of a [`Part`]: return address, and where it lies.
#[inline(always)]
pub fn recall_all(
    guard: &Guard,
    anchor: Anchor,
    hint: u64,
    mut seen: impl FnMut(u64, usize),
) -> bool {
    let cache = guard.thread.paths.get();
    if cache.is_null() {
        return false;
    }
    let mut frame = |(pc, slot)| {
        if pc != 0 {
            seen(pc, slot);
        }
    };
    // What ended the path is the last word, so each address waits for the next word; 0: none does.
    let mut last = (0, 0);
    let word = |word: u64, slot: usize, is_address: bool| {
        frame(last);
        last = if is_address { (word, slot) } else { (0, 0) };
    };
    // SAFETY: the thread's own cache; only this thread uses it, inside the guard.
    let found = unsafe { (*cache).follow(anchor, place_key(anchor, hint), word) };
    let Ok(path) = found else { return false };
    if !path.ended() {
        frame(last);
    }
    true
}

/// Key of the native stack at `anchor`, and whether its frames are at hand. `hint` should differ where
/// the native path is likely to (the Python instruction that runs).
#[inline(always)]
pub fn key(guard: &Guard, anchor: Anchor, python: Option<Top>, hint: u64) -> (u64, bool) {
    let key = place_key(anchor, hint);
    let cache = guard.thread.paths.get();
    if !cache.is_null() {
        // SAFETY: the thread's own cache; only this thread uses it, inside the guard.
        if let Some(path) = unsafe { (*cache).find(anchor, key) } {
            return (path.hash, false);
        }
    }
    let learned = learn(guard, anchor, Stop::new(anchor, python), key, false);
    (learned.hash, learned.at_hand)
}

/// A part of a full stack. It is kept in parts: what is inside the innermost evaluation loop, which is
/// all where full stacks are not recorded, and from there on such as begin with a frame of a loop and
/// end before another one. So stacks that share their outer frames share what is known of these.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Where it begins: as if a hook had been called there.
    pub anchor: Anchor,
    /// As in [`key`].
    pub hint: u64,
    /// Of its return addresses.
    pub hash: u64,
}

/// Frames that an outer part has at least, if there are so many.
const PART: usize = 16;
/// Parts of one stack, and frames after which no more is looked up.
const MOST_PARTS: usize = 64;
const MOST_FRAMES: usize = 2 * MAX_NATIVE;

/// Key of the full stack, whose innermost part is the path that [`key`] is of.
pub fn full_key(guard: &Guard, anchor: Anchor, python: Option<Top>, hint: u64) -> u64 {
    let mut all = 0;
    parts(guard, anchor, python, hint, |part| all = mix(all, part.hash));
    all
}

/// Calls `seen` with each part of the full stack, innermost first, until there are [`MOST_FRAMES`]:
/// `true` if that is not all.
#[inline(always)]
pub fn parts(
    guard: &Guard,
    anchor: Anchor,
    python: Option<Top>,
    hint: u64,
    seen: impl FnMut(Part),
) -> bool {
    let look = |at: Anchor, hint, is_first| {
        let key = place_key(at, hint);
        // SAFETY: the thread's own cache; the path is there.
        let known = of(guard).and_then(|cache| unsafe {
            cache.find(at, key).map(|path| (path.hash, path.further(at)))
        });
        known.or_else(|| {
            let stop = if is_first { Stop::new(at, python) } else { Stop::outer(anchor, PART) };
            let learned = learn(guard, at, stop, key, true);
            Some((learned.hash, learned.further))
        })
    };
    go_through_parts(anchor, hint, look, seen).unwrap_or(true)
}

/// Goes through the parts of a full stack. `look` tells of where one begins, and whether it is the first,
/// its hash and what comes further out. `None` where it does not know, else as [`parts`].
#[inline(always)]
fn go_through_parts(
    mut anchor: Anchor,
    mut hint: u64,
    mut look: impl FnMut(Anchor, u64, bool) -> Option<(u64, Option<Further>)>,
    mut seen: impl FnMut(Part),
) -> Option<bool> {
    let mut frames = 0;
    for count in 0..MOST_PARTS {
        let (hash, further) = look(anchor, hint, count == 0)?;
        seen(Part { anchor, hint, hash });
        let Some(further) = further else { return Some(false) };
        frames += further.frames;
        if frames >= MOST_FRAMES {
            break;
        }
        (anchor, hint) = (further.anchor, 0);
    }
    Some(true)
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
    // Mostly the stack is the same too, for the instruction is. (Of a part of a full stack, no site is.)
    let by = sites::part(python.hash, origin);
    if let Some(site) = path.site(by) {
        return Some(site);
    }
    if record::extent() == Extent::Full {
        return full_site(guard, cache, path, anchor, python.hash, origin);
    }
    let key = sites::key(python.hash, path.hash, origin);
    let now = sites::shard_now(key);
    let Some(site) = sites::find(key) else { return unknown(guard, python.hash) };
    path.remember(by, site, now);
    Some(site)
}

/// The same where full stacks are recorded, of which `path` is the innermost part.
#[inline(never)]
fn full_site(
    guard: &Guard,
    cache: &PathCache,
    path: &Path,
    anchor: Anchor,
    python: u64,
    origin: Origin,
) -> Option<u32> {
    let native = known_parts(cache, path, anchor);
    let site = native.and_then(|native| sites::find(sites::key(python, native, origin)));
    site.or_else(|| {
        guard.thread.native_key.set(native.unwrap_or_default());
        unknown(guard, python)
    })
}

/// The [`full_key`] of a stack whose innermost part is `path`, if the others are known.
#[inline(always)]
fn known_parts(cache: &PathCache, path: &Path, anchor: Anchor) -> Option<u64> {
    let look = |at: Anchor, hint, is_first| {
        // SAFETY: the thread's own cache; `path` was found at the first place, and what is found is there.
        unsafe {
            let path = if is_first { path } else { cache.find(at, place_key(at, hint))? };
            Some((path.hash, path.further(at)))
        }
    };
    let mut all = 0;
    go_through_parts(anchor, 0, look, |part| all = mix(all, part.hash))?;
    Some(all)
}

/// The long way comes next, and need not walk the Python stack again.
#[cold]
#[inline(never)]
fn unknown(guard: &Guard, python: u64) -> Option<u32> {
    guard.thread.python_key.set(python);
    None
}

/// What is known of a path that was not found at once.
struct Learned {
    hash: u64,
    /// Where the next part of a full stack begins, if it is one.
    further: Option<Further>,
    /// It was walked, so that the cache has its frames at hand.
    at_hand: bool,
}

/// Walks, and keeps the path.
#[inline(never)]
fn learn(guard: &Guard, anchor: Anchor, stop: Stop, key: u64, full: bool) -> Learned {
    let mut cache = guard.thread.paths.get();
    if cache.is_null() {
        match new_cache(guard) {
            Some(fresh) => cache = fresh,
            None => {
                let walked = walk(anchor, stop, full, |_, _| {});
                return Learned { hash: walked.hash, further: walked.further, at_hand: false };
            }
        }
    }
    let cache = with_room(guard, cache);
    // SAFETY: as in `key`.
    let missed = match unsafe { cache.follow(anchor, key, |_, _, _| {}) } {
        // (Nodes of it were put aside for others.)
        Ok(path) => {
            // SAFETY: the path was found to be there.
            let further = if full { unsafe { path.further(anchor) } } else { None };
            return Learned { hash: path.hash, further, at_hand: false };
        }
        Err(missed) => missed,
    };
    cache.begin(anchor.sp);
    let walked = walk(anchor, stop, full, |frame, repeats| cache.frame(frame, repeats));
    let mut path = Path::new(walked.hash, walked.before.is_some());
    if let Some(place) = &walked.before {
        cache.word(place.slot, place.pc, false);
        if let Some(further) = &walked.further {
            path = cache.part(path, further.frames, place);
        }
    }
    cache.keep(&missed, path);
    Learned { hash: walked.hash, further: walked.further, at_hand: true }
}

/// What a walk found.
struct Walked {
    hash: u64,
    /// The frame before which it ended, if that is a part of the path: what ended a path otherwise may
    /// lie elsewhere the next time, which makes the path no less true.
    before: Option<Reached>,
    /// Where the next part begins.
    further: Option<Further>,
}

/// Walks to the end of a path, or of a part of a `full` stack. Calls `seen` with each frame, and whether
/// it only repeats those inside it.
#[inline(always)]
fn walk(
    anchor: Anchor,
    stop: Stop,
    full: bool,
    mut seen: impl FnMut(&NativeFrame, bool),
) -> Walked {
    let (mut frames, mut hash) = (0, 1);
    let mut recursion = Recursion::new();
    let end = by_rules(anchor, stop, |frame| {
        if frames == MAX_NATIVE {
            return false;
        }
        frames += 1;
        let repeats = recursion.repeats(frame.pc);
        if !repeats {
            hash = mix(hash, frame.pc);
        }
        seen(&frame, repeats);
        true
    });
    let before = match end {
        End::Before(place) if full || place.is_evaluation => Some(place),
        _ => None,
    };
    let further = before
        .as_ref()
        .filter(|_| full)
        .map(|place| Further { anchor: Anchor { sp: place.slot, bp: place.base.1 }, frames });
    Walked { hash, before, further }
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
