//! Native frames of the calling thread.
//!
//! Unwinding costs a hundred nanoseconds a frame; seeing that a stack is the
//! same as last time costs half of one. So each thread keeps the paths that it
//! unwound: where on the stack each return address lay, relative to the stack
//! pointer at the hook, and what it was. A path whose every return address is
//! found in its place again needs no unwinding. That is sound inductively: the
//! same return address means the same function at the same instruction, whose
//! frame has a fixed size, so the next return address lies where it did. Frames
//! addressed by rbp have no fixed size; for those the saved rbp is checked too.

use core::ffi::c_void;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use crate::guard::Guard;
use crate::hash::mix;
use crate::spin::SpinLock;
use crate::sys;

/// Frames kept of one native stack.
pub const MAX_NATIVE: usize = 96;

/// The stack as it was when a hook was called.
#[derive(Clone, Copy, Debug)]
pub struct Anchor {
    /// The stack pointer: points at the hook's return address.
    pub sp: usize,
}

impl Anchor {
    /// The address that the hook returns to.
    #[inline(always)]
    pub fn caller(self) -> u64 {
        // SAFETY: `sp` is the stack pointer at the entry of the hook that is running, so the word
        // there is its return address.
        unsafe { *(self.sp as *const u64) }
    }
}

/// How much of the native stack is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Extent {
    /// Nothing.
    Off = 0,
    /// What lies above the innermost Python frame; all of it on a thread without one.
    Leaf = 1,
    /// All of it.
    Full = 2,
}

/// One native frame as the unwinder saw it.
#[derive(Clone, Copy, Debug, Default)]
pub struct NativeFrame {
    /// Return address.
    pub pc: u64,
    /// Where it lies on the stack.
    pub slot: usize,
    /// Whether it is a frame of the interpreter's evaluation loop.
    pub evaluation: bool,
}

/// A native stack, innermost first.
pub struct Stack {
    frames: [NativeFrame; MAX_NATIVE],
    len: usize,
    /// Frames were left out at the outer end.
    pub truncated: bool,
}

impl Stack {
    /// No frames.
    pub const fn new() -> Stack {
        const NONE: NativeFrame = NativeFrame { pc: 0, slot: 0, evaluation: false };
        Stack { frames: [NONE; MAX_NATIVE], len: 0, truncated: false }
    }

    /// The frames.
    pub fn frames(&self) -> &[NativeFrame] {
        self.frames.get(..self.len).unwrap_or_default()
    }
}

/// Start of `_PyEval_EvalFrameDefault`; 0 where there is no interpreter.
pub static EVALUATION: AtomicUsize = AtomicUsize::new(0);
/// Whether unwinding takes no lock here (glibc 2.35 or later).
pub static LOCK_FREE: AtomicBool = AtomicBool::new(false);

unsafe extern "C" {
    fn _Unwind_Backtrace(
        step: unsafe extern "C" fn(*mut c_void, *mut c_void) -> i32,
        state: *mut c_void,
    ) -> i32;
    fn _Unwind_GetIP(context: *mut c_void) -> usize;
    fn _Unwind_GetCFA(context: *mut c_void) -> usize;
    fn _Unwind_GetGR(context: *mut c_void, register: i32) -> usize;
    fn _Unwind_GetRegionStart(context: *mut c_void) -> usize;
}

const RBP: i32 = 6;
const CONTINUE: i32 = 0;
const STOP: i32 = 4;

struct Walk<'a> {
    anchor: Anchor,
    stop_at_evaluation: bool,
    started: bool,
    out: &'a mut Stack,
    /// For each frame, its rbp if the frame looks addressed by it, else 0.
    bases: [usize; MAX_NATIVE],
}

unsafe extern "C" fn step(context: *mut c_void, state: *mut c_void) -> i32 {
    // SAFETY: `state` is the `Walk` that `unwind` passed, alive during the call.
    let walk = unsafe { &mut *state.cast::<Walk>() };
    // SAFETY: the context is the unwinder's, valid during this call, as are the next ones.
    let (pc, cfa) = unsafe { (_Unwind_GetIP(context), _Unwind_GetCFA(context)) };
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
    // SAFETY: as above.
    let (start, base) = unsafe { (_Unwind_GetRegionStart(context), _Unwind_GetGR(context, RBP)) };
    let evaluation = start != 0 && start == EVALUATION.load(Relaxed);
    if evaluation && walk.stop_at_evaluation {
        return STOP;
    }
    let index = walk.out.len;
    let Some(place) = walk.out.frames.get_mut(index) else {
        walk.out.truncated = true;
        return STOP;
    };
    *place = NativeFrame { pc: pc as u64, slot: cfa - 8, evaluation };
    if let Some(place) = walk.bases.get_mut(index) {
        *place = base;
    }
    walk.out.len = index + 1;
    CONTINUE
}

/// Unwinds from the caller of the hook outwards. Takes no lock and allocates
/// nothing where [`LOCK_FREE`] holds.
#[inline(never)]
fn unwind<'a>(anchor: Anchor, stop_at_evaluation: bool, out: &'a mut Stack) -> Walk<'a> {
    out.len = 0;
    out.truncated = false;
    let mut walk =
        Walk { anchor, stop_at_evaluation, started: false, out, bases: [0; MAX_NATIVE] };
    // SAFETY: the callback gets the state it expects; libgcc's unwinder reads this thread's stack.
    unsafe { _Unwind_Backtrace(step, (&raw mut walk).cast()) };
    walk
}

/// The native frames, for the definition of a site.
pub fn collect(_: &Guard, anchor: Anchor, stop_at_evaluation: bool, out: &mut Stack) {
    unwind(anchor, stop_at_evaluation, out);
}

const PATHS: usize = 1024;
const CHECKS: usize = 16 * 1024;

/// A word of the stack that must be as it was.
#[derive(Clone, Copy)]
struct Check {
    /// Bytes above the anchor.
    offset: u32,
    /// All ones if the word is an address of the stack itself, kept relative to the anchor.
    relative: u32,
    value: u64,
}

#[derive(Clone, Copy)]
struct Path {
    key: u64,
    hash: u64,
    first: u32,
    count: u32,
}

/// The paths that a thread has unwound. All zero is an empty cache.
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
fn cache_for(guard: &Guard) -> Option<&'static mut PathCache> {
    let thread = guard.thread;
    if thread.no_paths.get() != 0 {
        return None;
    }
    let reused = {
        let mut free = FREE.lock();
        let cache = free.0;
        if !cache.is_null() {
            // SAFETY: the list holds caches that nobody else uses, and it is locked.
            free.0 = unsafe { (*cache).next_free };
        }
        cache
    };
    let cache = if reused.is_null() {
        match sys::reserve(size_of::<PathCache>()) {
            Ok(cache) => cache.cast(),
            Err(_) => {
                thread.no_paths.set(1);
                return None;
            }
        }
    } else {
        reused
    };
    thread.paths.set(cache);
    // SAFETY: a mapping of the right size, zeroed or used before, that is now this thread's alone.
    Some(unsafe { &mut *cache })
}

/// Gives the thread's cache back; called when it ends.
pub fn release(guard: &Guard) {
    let cache = guard.thread.paths.replace(core::ptr::null_mut());
    if !cache.is_null() {
        let mut free = FREE.lock();
        // SAFETY: the cache was this thread's alone.
        unsafe { (*cache).next_free = free.0 };
        free.0 = cache;
    }
}

/// In a forked child: another thread may have been in the middle of the list.
pub fn lock_for_fork() {
    FREE.hold();
}

/// After the fork, on both sides.
pub fn unlock_after_fork() {
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
            // SAFETY: every earlier check held, so the frame below this word is the one that was
            // unwound, and the word lies in its caller's part of this thread's stack.
            let word = unsafe { *((anchor.sp + check.offset as usize) as *const u64) };
            let base = anchor.sp as u64 & (i64::from(check.relative as i32) as u64);
            if word.wrapping_sub(base) != check.value {
                return false;
            }
        }
        true
    }

    fn push(&mut self, check: Check) -> bool {
        let Some(place) = self.checks.get_mut(self.used as usize) else { return false };
        *place = check;
        self.used += 1;
        true
    }
}

/// Unwinds, and keeps the path.
#[cold]
#[inline(never)]
fn learn(guard: &Guard, anchor: Anchor, stop_at_evaluation: bool, key: u64) -> u64 {
    let mut stack = Stack::new();
    let walk = unwind(anchor, stop_at_evaluation, &mut stack);
    let bases = walk.bases;
    let frames = stack.frames();
    let mut hash = 1;
    for frame in frames {
        hash = mix(hash, frame.pc);
    }
    let cache = guard.thread.paths.get();
    // SAFETY: the thread's own cache; the reference ends with this call.
    let cache = if cache.is_null() { cache_for(guard) } else { Some(unsafe { &mut *cache }) };
    let Some(cache) = cache else { return hash };
    // Two checks a frame at most.
    if cache.used as usize + 2 * frames.len() > CHECKS {
        cache.used = 0;
        cache.paths.fill(Path { key: 0, hash: 0, first: 0, count: 0 });
    }
    let first = cache.used;
    let mut below = anchor.sp;
    for (index, frame) in frames.iter().enumerate() {
        let offset = (frame.slot - anchor.sp) as u32;
        let fits = cache.push(Check { offset, relative: 0, value: frame.pc });
        // A frame addressed by rbp keeps its caller's rbp right under its return address, which is
        // the next frame's slot. Its own rbp was saved by a callee: look where, and check it.
        let base = bases.get(index).copied().unwrap_or(0);
        if let Some(next) = frames.get(index + 1).filter(|next| base == next.slot.wrapping_sub(8)) {
            let _ = next;
            if let Some(at) = find_word(below, frame.slot, base as u64) {
                let offset = (at - anchor.sp) as u32;
                cache.push(Check {
                    offset,
                    relative: u32::MAX,
                    value: (base - anchor.sp) as u64,
                });
            }
        }
        if !fits {
            return hash;
        }
        below = frame.slot + 8;
    }
    let count = cache.used - first;
    cache.paths[key as usize >> 1 & (PATHS - 1)] = Path { key, hash, first, count };
    hash
}

/// Looks for a word of the stack between two addresses, from the upper one down.
fn find_word(low: usize, high: usize, word: u64) -> Option<usize> {
    let mut at = high;
    while at > low {
        at -= 8;
        // SAFETY: both bounds lie in this thread's stack, between the anchor and a frame just
        // unwound, and are aligned as stack slots are.
        if unsafe { *(at as *const u64) } == word {
            return Some(at);
        }
    }
    None
}

/// `_dl_find_object`, which glibc has from 2.35 on.
static FIND_OBJECT: AtomicUsize = AtomicUsize::new(0);

/// Looks what the C library offers.
pub fn prepare() {
    let find = crate::real::symbol(libc::RTLD_DEFAULT, c"_dl_find_object");
    FIND_OBJECT.store(find, Relaxed);
    LOCK_FREE.store(find != 0, Relaxed);
}

/// What keeps native frames from being recorded.
pub fn trouble() -> Option<String> {
    (!LOCK_FREE.load(Relaxed)).then(|| {
        "no native frames: unwinding takes the loader's lock before glibc 2.35".to_owned()
    })
}

/// `struct dl_find_object` (`dlfcn.h`).
#[repr(C)]
struct Found {
    flags: u64,
    map_start: usize,
    map_end: usize,
    link_map: *const LinkMap,
    rest: [u64; 10],
}

/// The public head of `struct link_map` (`link.h`).
#[repr(C)]
struct LinkMap {
    base: usize,
    name: *const core::ffi::c_char,
}

/// A handle for the library that holds the code at `address`.
pub fn library_of(address: u64) -> Option<*mut c_void> {
    let find = FIND_OBJECT.load(Relaxed);
    if find == 0 {
        return None;
    }
    let mut found = core::mem::MaybeUninit::<Found>::zeroed();
    // SAFETY: the function of this name and type; it takes no lock and writes one structure,
    // which is smaller than ours. The name of a loaded library ends in zero.
    unsafe {
        let find: extern "C" fn(usize, *mut Found) -> i32 = core::mem::transmute(find);
        if find(address as usize, found.as_mut_ptr()) != 0 {
            return None;
        }
        let map = (*found.as_ptr()).link_map;
        if map.is_null() || (*map).name.is_null() || *(*map).name == 0 {
            return None;
        }
        let handle = libc::dlopen((*map).name, libc::RTLD_LAZY | libc::RTLD_NOLOAD);
        (!handle.is_null()).then_some(handle)
    }
}
