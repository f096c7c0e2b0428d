//! Hooks before Python's own allocators, set with `PyMem_SetAllocator`.
//!
//! They are set before the interpreter starts. `PYTHONMALLOC` and development
//! mode then replace them, so they are set once more when it has started.
//! Others may stand above or below (tracemalloc, the debug hooks): a layer only
//! knows what it found below itself, and the outermost one records.

use core::arch::naked_asm;
use core::ffi::{CStr, c_int, c_void};

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};

use pyshim_dump::record::{Origin, Record};

use super::{arenas, passing, state, walk};
use crate::collector;
use crate::guard::Guard;
use crate::life;
use crate::native::Anchor;
use crate::quick::{self, Domain, Freed};
use crate::real::symbol;
use crate::record::{self, Lock};
use crate::{gate, sample, sites, snapshot, store, sys};

/// `PyMemAllocatorEx` (`cpython/pymem.h`), the same from 3.5 on.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Allocator {
    context: *mut c_void,
    pub(super) malloc: unsafe extern "C" fn(*mut c_void, usize) -> *mut c_void,
    pub(super) calloc: unsafe extern "C" fn(*mut c_void, usize, usize) -> *mut c_void,
    pub(super) realloc: unsafe extern "C" fn(*mut c_void, *mut c_void, usize) -> *mut c_void,
    pub(super) free: unsafe extern "C" fn(*mut c_void, *mut c_void),
}

/// `PyMemAllocatorDomain`.
const RAW: c_int = 0;
const MEM: c_int = 1;
const OBJECT: c_int = 2;

/// Sizes that pymalloc serves itself (`SMALL_REQUEST_THRESHOLD`).
pub const PYMALLOC_LARGEST: usize = 512;

static GET: AtomicUsize = AtomicUsize::new(0);
static SET: AtomicUsize = AtomicUsize::new(0);
static IS_INITIALIZED: AtomicUsize = AtomicUsize::new(0);

type Get = unsafe extern "C" fn(c_int, *mut Allocator);

/// Finds what [`install`] needs.
pub fn find(handle: *mut c_void) {
    let names: [(&AtomicUsize, &CStr); 3] = [
        (&GET, c"PyMem_GetAllocator"),
        (&SET, c"PyMem_SetAllocator"),
        (&IS_INITIALIZED, c"Py_IsInitialized"),
    ];
    for (slot, name) in names {
        slot.store(symbol(handle, name), Relaxed);
    }
    arenas::find(handle);
}

/// Layers are never freed: another allocator may have kept a copy of one.
static LAYERS: AtomicU32 = AtomicU32::new(0);
const MOST_LAYERS: u32 = 8;

/// Puts our layer on top of each domain.
pub fn install() {
    let (get, set) = (GET.load(Relaxed), SET.load(Relaxed));
    if get == 0 || set == 0 || LAYERS.fetch_add(1, SeqCst) >= MOST_LAYERS {
        return;
    }
    // SAFETY: the functions of these names and types.
    let (get, set): (Get, Get) = unsafe { (core::mem::transmute(get), core::mem::transmute(set)) };
    let mut raw_below = 0;
    for domain in [RAW, MEM, OBJECT] {
        let mut below = core::mem::MaybeUninit::<Allocator>::uninit();
        // SAFETY: a known domain is always filled in.
        let below = unsafe {
            get(domain, below.as_mut_ptr());
            below.assume_init()
        };
        // Whole before anybody can see it, and for good.
        let context: *mut Allocator = Box::into_raw(Box::new(below));
        let domain_is = if domain == RAW { Lock::Unknown } else { Lock::Held };
        if domain == RAW {
            raw_below = below.malloc as usize;
        }
        // Without a context it is an allocator of the interpreter's own; if it is not that of raw
        // blocks, it is pymalloc (or mimalloc, which asks the kernel alone).
        let is_pymalloc = below.context.is_null() && below.malloc as usize != raw_below;
        let mut ours = functions(context, domain_is, sample::is_on(), is_pymalloc);
        // SAFETY: the interpreter copies the five words.
        unsafe { set(domain, &mut ours) };
    }
    INSTALLED.store(true, SeqCst);
    arenas::install();
}

/// A layer's functions, above the allocator that `context` is: pymalloc or another one.
fn functions(
    context: *mut Allocator,
    lock: Lock,
    sampled: bool,
    above_pymalloc: bool,
) -> Allocator {
    let context = context.cast();
    match (lock, sampled) {
        (Lock::Unknown, false) => Allocator {
            context,
            malloc: raw_malloc,
            calloc: raw_calloc,
            realloc: raw_realloc,
            free: raw_free,
        },
        (Lock::Held, false) if walk::prepare_direct() => Allocator {
            context,
            malloc: direct_malloc,
            calloc: direct_calloc,
            realloc: direct_realloc,
            free: object_free,
        },
        (Lock::Held, false) => Allocator {
            context,
            malloc: object_malloc,
            calloc: object_calloc,
            realloc: object_realloc,
            free: object_free,
        },
        (Lock::Unknown, true) => Allocator {
            context,
            malloc: passing::raw_malloc,
            calloc: passing::raw_calloc,
            realloc: passing::raw_realloc,
            free: passing::raw_free,
        },
        (Lock::Held, true) => Allocator {
            context,
            malloc: if above_pymalloc { passing::pymalloc_malloc } else { passing::object_malloc },
            calloc: if above_pymalloc { passing::pymalloc_calloc } else { passing::object_calloc },
            realloc: passing::object_realloc,
            free: passing::object_free,
        },
    }
}

static INSTALLED: AtomicBool = AtomicBool::new(false);
/// Whether somebody took the hooks out for a while.
static ABSENT: AtomicBool = AtomicBool::new(false);
/// Whether the interpreter has come up with our hooks in place.
static SETTLED: AtomicBool = AtomicBool::new(false);
/// Only the ends of watched blocks matter; nothing is recorded here (`PYSHIM_PYTHON=0`).
static ONLY_WATCHING: AtomicBool = AtomicBool::new(false);

/// From now on the hooks only look for the ends of watched blocks.
pub fn only_watch() {
    ONLY_WATCHING.store(true, SeqCst);
    gate::set(gate::ONLY_WATCHING, true);
}

/// Whether blocks of Python's allocators are recorded.
pub fn record() -> bool {
    !ONLY_WATCHING.load(Relaxed)
}

/// Whether frees of Python's blocks can be relied on to arrive: until the interpreter is up,
/// `PYTHONMALLOC` may have replaced the hooks.
pub fn settled() -> bool {
    SETTLED.load(Relaxed)
}

/// Sets the hooks again if something replaced them: the interpreter as it came up, or whoever
/// put back what it had found before (`tracemalloc.stop`). Called with each new stack.
pub fn look_after(_: &Guard, origin: Origin) {
    if !INSTALLED.load(Relaxed) {
        return;
    }
    // What asks for Python's blocks comes by way of them.
    if SETTLED.load(Relaxed) && origin.is_python() {
        return;
    }
    let is_up = is_up();
    if in_place() == Some(false) {
        install();
        // Code may have died meanwhile without our hearing of it.
        sites::forget_codes();
        if SETTLED.load(Relaxed) {
            ABSENT.store(true, Relaxed);
        }
    }
    // (Until it is up it may set others again, and what it allocates by them is not to be missed.)
    if is_up {
        SETTLED.store(true, SeqCst);
    }
}

/// Whether the interpreter is up.
fn is_up() -> bool {
    let up = IS_INITIALIZED.load(Relaxed);
    // SAFETY: the function of this name and type; it only reads a static variable.
    up != 0 && unsafe { core::mem::transmute::<usize, unsafe extern "C" fn() -> c_int>(up)() } != 0
}

/// Whether our hooks are reached: they are on top, or below somebody's who hands calls down.
/// `None` where there is no interpreter to ask.
fn in_place() -> Option<bool> {
    let get = GET.load(Relaxed);
    if get == 0 {
        return None;
    }
    // SAFETY: the function of this name and type, which reads static variables.
    let get: Get = unsafe { core::mem::transmute(get) };
    // SAFETY: as above; a known domain is always filled in.
    let top = unsafe {
        let mut top = core::mem::MaybeUninit::<Allocator>::uninit();
        get(OBJECT, top.as_mut_ptr());
        top.assume_init()
    };
    Some(reaches(top.malloc as usize, top.context as usize, 4))
}

/// Whether an allocator leads to ours. tracemalloc's context is the allocator below it
/// (`Modules/_tracemalloc.c`, later `Python/tracemalloc.c`); the debug hooks' has it after one word
/// (`debug_alloc_api_t` in `Objects/obmalloc.c`). Anything else is read through the kernel, so a
/// guess costs nothing.
fn reaches(malloc: usize, context: usize, depth: u32) -> bool {
    let ours = [
        object_malloc as *const (),
        direct_malloc as *const (),
        passing::object_malloc as *const (),
        passing::pymalloc_malloc as *const (),
    ];
    if ours.iter().any(|&it| it as usize == malloc) {
        return true;
    }
    depth > 0
        && [0, 8].into_iter().any(|offset| {
            let mut words = [0u8; 16];
            if !sys::read_memory((context + offset) as u64, &mut words) {
                return false;
            }
            let word = |at: usize| {
                words
                    .get(at..at + 8)
                    .and_then(|bytes| bytes.try_into().ok())
                    .map_or(0, usize::from_le_bytes)
            };
            word(8) != 0 && reaches(word(8), word(0), depth - 1)
        })
}

/// Has the report say it, if the hooks were out of place for a while, or are now.
pub fn note_absence() {
    if ABSENT.load(Relaxed) || (SETTLED.load(Relaxed) && in_place() == Some(false)) {
        store::header().inexact.store(1, Relaxed);
        let text = "Python's allocators were replaced for a while (tracemalloc.stop under \
                    PYTHONTRACEMALLOC and debug hooks does that): what was allocated or freed \
                    meanwhile is not in here";
        sites::SITES.lock().announce(&Record::Note { text: text.to_owned() });
    }
}

/// Exports nothing: a function that hands on its stack pointer and jumps.
macro_rules! entry {
    ($name:ident($($arg:ident: $kind:ty),*), $sp:literal, $bp:literal, $behind:ident) => {
        #[unsafe(naked)]
        pub(super) unsafe extern "C" fn $name($($arg: $kind),*) -> *mut c_void {
            naked_asm!(
                concat!("mov ", $sp, ", rsp"),
                concat!("mov ", $bp, ", rbp"),
                "jmp {behind}",
                behind = sym $behind,
            )
        }
    };
}

entry!(raw_malloc(context: *mut c_void, size: usize), "rdx", "rcx", raw_malloc_at);
entry!(raw_calloc(context: *mut c_void, count: usize, size: usize), "rcx", "r8", raw_calloc_at);
entry!(raw_realloc(context: *mut c_void, block: *mut c_void, size: usize), "rcx", "r8", raw_realloc_at);
entry!(object_malloc(context: *mut c_void, size: usize), "rdx", "rcx", object_malloc_at);
entry!(object_calloc(context: *mut c_void, count: usize, size: usize), "rcx", "r8", object_calloc_at);
entry!(object_realloc(context: *mut c_void, block: *mut c_void, size: usize), "rcx", "r8", object_realloc_at);

entry!(direct_malloc(context: *mut c_void, size: usize), "rdx", "rcx", direct_malloc_at);
entry!(direct_calloc(context: *mut c_void, count: usize, size: usize), "rcx", "r8", direct_calloc_at);
entry!(direct_realloc(context: *mut c_void, block: *mut c_void, size: usize), "rcx", "r8", direct_realloc_at);

#[inline(always)]
fn allocate(
    domain: Domain,
    size: usize,
    sp: usize,
    bp: usize,
    real: impl FnOnce() -> *mut c_void,
) -> *mut c_void {
    if !life::recording() || ONLY_WATCHING.load(Relaxed) {
        return real();
    }
    let lock = domain.lock();
    let Some(guard) = Guard::enter() else { return real() };
    if lock == Lock::Held {
        life::check_final(&guard);
        if snapshot::wanted() {
            snapshot::take_wanted(&guard);
        }
    }
    let block = real();
    if !block.is_null() {
        record::allocated(
            &guard,
            block as usize,
            size,
            domain.origin(size),
            Anchor { sp, bp },
            lock,
        );
    }
    block
}

#[inline(always)]
fn reallocate(
    domain: Domain,
    block: *mut c_void,
    size: usize,
    sp: usize,
    bp: usize,
    real: impl FnOnce() -> *mut c_void,
) -> *mut c_void {
    if !life::recording() || ONLY_WATCHING.load(Relaxed) {
        return real();
    }
    let lock = domain.lock();
    let guard = Guard::enter();
    if let (Some(guard), Lock::Held) = (&guard, lock) {
        life::check_final(guard);
    }
    // Before the real call: the old address may be another thread's as soon as that returns.
    let known = if block.is_null() { None } else { record::taken(block as usize) };
    let moved = real();
    if !moved.is_null() {
        if let Some(known) = &known {
            record::gone(known, lock);
        }
        if let Some(guard) = &guard {
            record::allocated(
                guard,
                moved as usize,
                size,
                domain.origin(size),
                Anchor { sp, bp },
                lock,
            );
        }
    } else if let Some(known) = known {
        record::not_gone(block as usize, &known);
    }
    moved
}

/// A domain's functions for new blocks and for blocks that move.
macro_rules! blocks {
    ($domain:expr, $malloc:ident, $calloc:ident, $realloc:ident) => {
        unsafe extern "C" fn $malloc(
            context: *mut c_void,
            size: usize,
            sp: usize,
            bp: usize,
        ) -> *mut c_void {
            #[inline(never)]
            unsafe extern "C" fn the_long_way(
                context: *mut c_void,
                size: usize,
                sp: usize,
                bp: usize,
            ) -> *mut c_void {
                // SAFETY: the context is the layer below, which `install` leaked.
                let below = unsafe { &*context.cast::<Allocator>() };
                // SAFETY: the program's own call, handed down.
                allocate($domain, size, sp, bp, || unsafe { (below.malloc)(below.context, size) })
            }
            let real = || {
                // SAFETY: as above.
                let below = unsafe { &*context.cast::<Allocator>() };
                // SAFETY: as above.
                unsafe { (below.malloc)(below.context, size) }
            };
            match quick::allocate($domain, size, Anchor { sp, bp }, real) {
                Some(block) => block,
                // SAFETY: our caller's promises.
                None => unsafe { the_long_way(context, size, sp, bp) },
            }
        }

        unsafe extern "C" fn $calloc(
            context: *mut c_void,
            count: usize,
            size: usize,
            sp: usize,
            bp: usize,
        ) -> *mut c_void {
            #[inline(never)]
            unsafe extern "C" fn the_long_way(
                context: *mut c_void,
                count: usize,
                size: usize,
                sp: usize,
                bp: usize,
            ) -> *mut c_void {
                // SAFETY: as above.
                let below = unsafe { &*context.cast::<Allocator>() };
                // SAFETY: as above.
                allocate($domain, count.wrapping_mul(size), sp, bp, || unsafe {
                    (below.calloc)(below.context, count, size)
                })
            }
            let total = count.wrapping_mul(size);
            let real = || {
                // SAFETY: as above.
                let below = unsafe { &*context.cast::<Allocator>() };
                // SAFETY: as above.
                unsafe { (below.calloc)(below.context, count, size) }
            };
            match quick::allocate($domain, total, Anchor { sp, bp }, real) {
                Some(block) => block,
                // SAFETY: our caller's promises.
                None => unsafe { the_long_way(context, count, size, sp, bp) },
            }
        }

        unsafe extern "C" fn $realloc(
            context: *mut c_void,
            block: *mut c_void,
            size: usize,
            sp: usize,
            bp: usize,
        ) -> *mut c_void {
            #[inline(never)]
            unsafe extern "C" fn the_long_way(
                context: *mut c_void,
                block: *mut c_void,
                size: usize,
                sp: usize,
                bp: usize,
            ) -> *mut c_void {
                // SAFETY: as above.
                let below = unsafe { &*context.cast::<Allocator>() };
                // SAFETY: as above.
                reallocate($domain, block, size, sp, bp, || unsafe {
                    (below.realloc)(below.context, block, size)
                })
            }
            /// Of no block: an allocation.
            #[inline(never)]
            unsafe extern "C" fn of_nothing(
                context: *mut c_void,
                size: usize,
                sp: usize,
                bp: usize,
            ) -> *mut c_void {
                let nothing = core::ptr::null_mut();
                let real = || {
                    // SAFETY: as above.
                    let below = unsafe { &*context.cast::<Allocator>() };
                    // SAFETY: as above.
                    unsafe { (below.realloc)(below.context, nothing, size) }
                };
                match quick::allocate($domain, size, Anchor { sp, bp }, real) {
                    Some(block) => block,
                    // SAFETY: our caller's promises.
                    None => unsafe { the_long_way(context, nothing, size, sp, bp) },
                }
            }
            let (at, anchor) = (block as usize, Anchor { sp, bp });
            let real = || {
                // SAFETY: as above.
                let below = unsafe { &*context.cast::<Allocator>() };
                // SAFETY: as above.
                unsafe { (below.realloc)(below.context, block, size) }
            };
            match quick::reallocate($domain, at, size, anchor, real) {
                Some(moved) => moved,
                // SAFETY: our caller's promises.
                None if block.is_null() => unsafe { of_nothing(context, size, sp, bp) },
                // SAFETY: as above.
                None => unsafe { the_long_way(context, block, size, sp, bp) },
            }
        }
    };
}

/// Its function for blocks that go.
macro_rules! frees {
    ($domain:expr, $free:ident) => {
        pub(super) unsafe extern "C" fn $free(context: *mut c_void, block: *mut c_void) {
            #[inline(never)]
            unsafe extern "C" fn the_long_way(context: *mut c_void, block: *mut c_void) {
                // SAFETY: as above.
                let below = unsafe { &*context.cast::<Allocator>() };
                if !block.is_null() && life::recording() {
                    before_free($domain.lock());
                    record::freed(block as usize, $domain.lock());
                }
                // SAFETY: as above.
                unsafe { (below.free)(below.context, block) }
            }
            if quick::freed(block as usize, $domain.lock()) == Freed::Not {
                // SAFETY: our caller's promises.
                return unsafe { the_long_way(context, block) };
            }
            // SAFETY: as above.
            let below = unsafe { &*context.cast::<Allocator>() };
            // SAFETY: as above.
            unsafe { (below.free)(below.context, block) }
        }
    };
}

blocks!(Domain::Raw, raw_malloc_at, raw_calloc_at, raw_realloc_at);
frees!(Domain::Raw, raw_free);
blocks!(Domain::Object, object_malloc_at, object_calloc_at, object_realloc_at);
blocks!(Domain::Direct, direct_malloc_at, direct_calloc_at, direct_realloc_at);
frees!(Domain::Object, object_free);

/// The teardown's first free must not be counted before stock was taken.
#[inline(always)]
fn before_free(lock: Lock) {
    if lock == Lock::Held && ONLY_WATCHING.load(Relaxed) {
        // Allocations are not recorded here, so this is what brings the collector back after a fork.
        if collector::is_missing()
            && let Some(guard) = Guard::enter()
        {
            life::tick(&guard);
        }
    }
    // (Nor that of a thread's state, which is a raw block.)
    if (state::finalizing() != 0 || sites::SEVERAL_LOCKS.load(Relaxed))
        && lock.is_held()
        && let Some(guard) = Guard::enter()
    {
        life::check_final(&guard);
    }
}
