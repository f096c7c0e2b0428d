//! The hook before pymalloc's arena allocator: arenas back small blocks and are not blocks
//! themselves.

use core::ffi::c_void;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::collections::BTreeMap;

use crate::collector::gauges::ARENAS;
use crate::guard::Guard;
use crate::real::symbol;
use crate::spin::SpinLock;
use crate::{heap, life, live, sample};

/// `PyObjectArenaAllocator` (`cpython/objimpl.h`).
#[repr(C)]
#[derive(Clone, Copy)]
struct ArenaAllocator {
    context: *mut c_void,
    alloc: unsafe extern "C" fn(*mut c_void, usize) -> *mut c_void,
    free: unsafe extern "C" fn(*mut c_void, *mut c_void, usize),
}

static GET: AtomicUsize = AtomicUsize::new(0);
static SET: AtomicUsize = AtomicUsize::new(0);

type Function = unsafe extern "C" fn(*mut ArenaAllocator);

/// Finds what [`install`] needs.
pub fn find(handle: *mut c_void) {
    GET.store(symbol(handle, c"PyObject_GetArenaAllocator"), Relaxed);
    SET.store(symbol(handle, c"PyObject_SetArenaAllocator"), Relaxed);
}

/// Arenas, and the pieces of Python's own stacks from 3.11 on: address to size.
static KNOWN: SpinLock<BTreeMap<usize, usize>> = SpinLock::new(BTreeMap::new());

/// All arenas: start and end.
pub fn known() -> Vec<(usize, usize)> {
    KNOWN.lock().iter().map(|(&at, &size)| (at, at + size)).collect()
}

/// For the time of a fork.
pub fn hold() {
    KNOWN.hold();
}

/// After it, on both sides.
pub fn release() {
    KNOWN.release();
}

/// The arena allocator below ours.
static ARENA_BELOW: AtomicUsize = AtomicUsize::new(0);

/// Counts pymalloc's arenas: they back small blocks and are not blocks themselves.
pub fn install() {
    let (get, set) = (GET.load(Relaxed), SET.load(Relaxed));
    if get == 0 || set == 0 || ARENA_BELOW.load(Relaxed) != 0 {
        return;
    }
    // SAFETY: the functions of these names and types.
    let (get, set): (Function, Function) =
        unsafe { (core::mem::transmute(get), core::mem::transmute(set)) };
    let mut below = core::mem::MaybeUninit::<ArenaAllocator>::uninit();
    // SAFETY: it is always filled in.
    let below = unsafe {
        get(below.as_mut_ptr());
        below.assume_init()
    };
    let context: *mut ArenaAllocator = Box::into_raw(Box::new(below));
    ARENA_BELOW.store(context as usize, SeqCst);
    let mut ours = ArenaAllocator { context: context.cast(), alloc: arena_alloc, free: arena_free };
    // SAFETY: the interpreter copies the three words.
    unsafe { set(&mut ours) };
}

unsafe extern "C" fn arena_alloc(context: *mut c_void, size: usize) -> *mut c_void {
    // SAFETY: the context is the allocator below, which `install` leaked.
    let below = unsafe { &*context.cast::<ArenaAllocator>() };
    // Its mapping is not a block: with the guard, the hook of `mmap` passes it through.
    let guard = Guard::enter();
    // SAFETY: the interpreter's own call, handed down.
    let arena = unsafe { (below.alloc)(below.context, size) };
    if !arena.is_null() {
        ARENAS.fetch_add(size as u64, Relaxed);
        if life::recording() && !sample::is_on() {
            live::arena_came(arena as usize, size);
        }
        if !heap::exhausted() {
            KNOWN.lock().insert(arena as usize, size);
        }
    }
    drop(guard);
    arena
}

unsafe extern "C" fn arena_free(context: *mut c_void, arena: *mut c_void, size: usize) {
    // SAFETY: as above.
    let below = unsafe { &*context.cast::<ArenaAllocator>() };
    let guard = Guard::enter();
    KNOWN.lock().remove(&(arena as usize));
    // SAFETY: as above.
    unsafe { (below.free)(below.context, arena, size) };
    drop(guard);
    ARENAS.fetch_sub(size as u64, Relaxed);
}
