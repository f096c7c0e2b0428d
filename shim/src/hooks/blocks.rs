//! `malloc` and its family.
//!
//! Each exported function is three instructions: it hands on the stack pointer (and the frame
//! pointer), which is where the native stack of the allocation begins, and jumps. The
//! function behind it then returns straight to the program. The most frequent ones
//! first look whether the call may pass ([`crate::gate`]).

use core::arch::naked_asm;
use core::ffi::{c_int, c_void};

use pyshim_dump::record::Origin;

use crate::gate::{GATE, drawn, unless_drawn, unless_gated, unless_known};
use crate::guard::{Guard, INSIDE, UNTIL_SAMPLE};
use crate::native::Anchor;
use crate::quick::{self, Domain, Freed};
use crate::record::{self, Lock};
use crate::{life, live, real};

/// Goes to label 2 if the block in rdi is of the early pool. Changes rax and r10.
macro_rules! unless_early {
    () => {
        "lea r10, [rip + {pool}]\nmov rax, rdi\nsub rax, r10\ncmp rax, {pool_len}\njb 2f\n"
    };
}

/// Exports `$name`, whose stack and frame pointers go into `$sp` and `$bp`, the arguments after its own.
macro_rules! export {
    ($(#[$doc:meta])* $name:ident($($arg:ident: $kind:ty),*) -> $result:ty, $sp:literal, $bp:literal, $behind:ident) => {
        $(#[$doc])*
        /// # Safety
        /// As for the C function of this name.
        #[cfg_attr(not(test), unsafe(no_mangle))]
        #[unsafe(naked)]
        pub unsafe extern "C" fn $name($($arg: $kind),*) -> $result {
            naked_asm!(
                concat!("mov ", $sp, ", rsp"),
                concat!("mov ", $bp, ", rbp"),
                "jmp {behind}",
                behind = sym $behind,
            )
        }
    };
}

/// See `malloc(3)`.
///
/// # Safety
/// As for the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
#[unsafe(naked)]
pub unsafe extern "C" fn malloc(size: usize) -> *mut c_void {
    naked_asm!(
        concat!(unless_gated!(), unless_drawn!("rdi")),
        "3: jmp qword ptr [rip + {table} + {real}]",
        drawn!("rdi"),
        "2: mov rsi, rsp",
        "mov rdx, rbp",
        "jmp {behind}",
        gate = sym GATE,
        inside = const INSIDE,
        left = const UNTIL_SAMPLE,
        table = sym real::TABLE,
        real = const real::MALLOC,
        behind = sym malloc_at,
    )
}

/// See `calloc(3)`.
///
/// # Safety
/// As for the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
#[unsafe(naked)]
pub unsafe extern "C" fn calloc(count: usize, size: usize) -> *mut c_void {
    naked_asm!(
        unless_gated!(),
        "mov rax, rdi",
        "imul rax, rsi",
        "jo 2f",
        unless_drawn!("rax"),
        "3: jmp qword ptr [rip + {table} + {real}]",
        drawn!("rax"),
        "2: mov rdx, rsp",
        "mov rcx, rbp",
        "jmp {behind}",
        gate = sym GATE,
        inside = const INSIDE,
        left = const UNTIL_SAMPLE,
        table = sym real::TABLE,
        real = const real::CALLOC,
        behind = sym calloc_at,
    )
}

/// See `realloc(3)`.
///
/// # Safety
/// As for the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
#[unsafe(naked)]
pub unsafe extern "C" fn realloc(block: *mut c_void, size: usize) -> *mut c_void {
    naked_asm!(
        concat!(unless_gated!(), unless_known!("edi"), unless_early!(), unless_drawn!("rsi")),
        "3: jmp qword ptr [rip + {table} + {real}]",
        drawn!("rsi"),
        "2: mov rdx, rsp",
        "mov rcx, rbp",
        "jmp {behind}",
        gate = sym GATE,
        shift = const live::SHIFT,
        here = sym live::HERE,
        pool = sym real::POOL_BYTES,
        pool_len = const real::POOL,
        inside = const INSIDE,
        left = const UNTIL_SAMPLE,
        table = sym real::TABLE,
        real = const real::REALLOC,
        behind = sym realloc_at,
    )
}

/// See `free(3)`.
///
/// # Safety
/// As for the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
#[unsafe(naked)]
pub unsafe extern "C" fn free(block: *mut c_void) {
    naked_asm!(
        concat!(unless_gated!(), unless_known!("edi"), unless_early!()),
        "jmp qword ptr [rip + {table} + {real}]",
        "2: jmp {behind}",
        gate = sym GATE,
        shift = const live::SHIFT,
        here = sym live::HERE,
        pool = sym real::POOL_BYTES,
        pool_len = const real::POOL,
        table = sym real::TABLE,
        real = const real::FREE,
        behind = sym free_behind,
    )
}

export! { /// See `reallocarray(3)`.
reallocarray(block: *mut c_void, count: usize, size: usize) -> *mut c_void, "rcx", "r8", reallocarray_at }
export! { /// See `posix_memalign(3)`.
posix_memalign(out: *mut *mut c_void, alignment: usize, size: usize) -> c_int, "rcx", "r8", posix_memalign_at }
export! { /// See `aligned_alloc(3)`.
aligned_alloc(alignment: usize, size: usize) -> *mut c_void, "rdx", "rcx", aligned_alloc_at }
export! { /// See `memalign(3)`.
memalign(alignment: usize, size: usize) -> *mut c_void, "rdx", "rcx", memalign_at }
export! { /// See `valloc(3)`.
valloc(size: usize) -> *mut c_void, "rsi", "rdx", valloc_at }
export! { /// See `pvalloc(3)`.
pvalloc(size: usize) -> *mut c_void, "rsi", "rdx", pvalloc_at }

/// Calls the real allocator and records the block that it returns.
#[inline(always)]
fn allocate(size: usize, sp: usize, bp: usize, real: impl FnOnce() -> *mut c_void) -> *mut c_void {
    if !life::recording() {
        life::watch_for_interpreter(Anchor { sp, bp });
        return real();
    }
    let Some(guard) = Guard::enter() else { return real() };
    let block = real();
    if !block.is_null() {
        record::allocated(
            &guard,
            block as usize,
            size,
            Origin::Native,
            Anchor { sp, bp },
            Lock::Unknown,
        );
    }
    block
}

#[inline(always)]
fn real_malloc(size: usize) -> *mut c_void {
    match real::malloc() {
        // SAFETY: the program's own call.
        Some(malloc) => unsafe { malloc(size) },
        None => real::early(size),
    }
}

#[inline(always)]
fn real_calloc(count: usize, size: usize) -> *mut c_void {
    match real::calloc() {
        // SAFETY: the program's own call.
        Some(calloc) => unsafe { calloc(count, size) },
        None => match count.checked_mul(size) {
            Some(size) => real::early(size),
            None => core::ptr::null_mut(),
        },
    }
}

unsafe extern "C" fn malloc_at(size: usize, sp: usize, bp: usize) -> *mut c_void {
    #[inline(never)]
    fn the_long_way(size: usize, sp: usize, bp: usize) -> *mut c_void {
        allocate(size, sp, bp, || real_malloc(size))
    }
    quick::allocate(Domain::Native, size, Anchor { sp, bp }, || real_malloc(size))
        .unwrap_or_else(|| the_long_way(size, sp, bp))
}

unsafe extern "C" fn calloc_at(count: usize, size: usize, sp: usize, bp: usize) -> *mut c_void {
    #[inline(never)]
    fn the_long_way(count: usize, size: usize, sp: usize, bp: usize) -> *mut c_void {
        allocate(count.wrapping_mul(size), sp, bp, || real_calloc(count, size))
    }
    let total = count.wrapping_mul(size);
    quick::allocate(Domain::Native, total, Anchor { sp, bp }, || real_calloc(count, size))
        .unwrap_or_else(|| the_long_way(count, size, sp, bp))
}

unsafe extern "C" fn aligned_alloc_at(
    alignment: usize,
    size: usize,
    sp: usize,
    bp: usize,
) -> *mut c_void {
    allocate(size, sp, bp, || match real::aligned_alloc() {
        // SAFETY: the program's own call.
        Some(aligned_alloc) => unsafe { aligned_alloc(alignment, size) },
        None => core::ptr::null_mut(),
    })
}

unsafe extern "C" fn memalign_at(
    alignment: usize,
    size: usize,
    sp: usize,
    bp: usize,
) -> *mut c_void {
    allocate(size, sp, bp, || match real::memalign() {
        // SAFETY: the program's own call.
        Some(memalign) => unsafe { memalign(alignment, size) },
        None => core::ptr::null_mut(),
    })
}

unsafe extern "C" fn valloc_at(size: usize, sp: usize, bp: usize) -> *mut c_void {
    allocate(size, sp, bp, || match real::valloc() {
        // SAFETY: the program's own call.
        Some(valloc) => unsafe { valloc(size) },
        None => core::ptr::null_mut(),
    })
}

unsafe extern "C" fn pvalloc_at(size: usize, sp: usize, bp: usize) -> *mut c_void {
    allocate(size, sp, bp, || match real::pvalloc() {
        // SAFETY: the program's own call.
        Some(pvalloc) => unsafe { pvalloc(size) },
        None => core::ptr::null_mut(),
    })
}

unsafe extern "C" fn posix_memalign_at(
    out: *mut *mut c_void,
    alignment: usize,
    size: usize,
    sp: usize,
    bp: usize,
) -> c_int {
    let mut result = libc::ENOMEM;
    allocate(size, sp, bp, || match real::posix_memalign() {
        Some(posix_memalign) => {
            // SAFETY: the program's own call.
            result = unsafe { posix_memalign(out, alignment, size) };
            // SAFETY: on success the call has written the block there.
            if result == 0 { unsafe { *out } } else { core::ptr::null_mut() }
        }
        None => core::ptr::null_mut(),
    });
    result
}

/// Moves a block: what is known of it goes before the real call, because its old
/// address may be another thread's as soon as that call returns.
#[inline(always)]
fn reallocate(
    block: *mut c_void,
    size: usize,
    sp: usize,
    bp: usize,
    real: impl FnOnce() -> *mut c_void,
) -> *mut c_void {
    if !life::recording() {
        return real();
    }
    let guard = Guard::enter();
    let known = if block.is_null() { None } else { record::taken(block as usize) };
    let moved = real();
    // A size of zero frees.
    if let Some(known) = known.as_ref().filter(|_| !moved.is_null() || size == 0) {
        record::gone(known, Lock::Unknown);
    }
    if !moved.is_null() {
        if let Some(guard) = &guard {
            record::allocated(
                guard,
                moved as usize,
                size,
                Origin::Native,
                Anchor { sp, bp },
                Lock::Unknown,
            );
        }
    } else if let Some(known) = known.filter(|_| size != 0) {
        record::not_gone(block as usize, &known);
    }
    moved
}

unsafe extern "C" fn realloc_at(
    block: *mut c_void,
    size: usize,
    sp: usize,
    bp: usize,
) -> *mut c_void {
    #[inline(never)]
    fn the_long_way(block: *mut c_void, size: usize, sp: usize, bp: usize) -> *mut c_void {
        if let Some(old) = real::early_size(block) {
            // SAFETY: a block of the pool, of `old` bytes.
            return unsafe { leave_pool(block, old, size, sp, bp) };
        }
        reallocate(block, size, sp, bp, || real_realloc(block, size))
    }
    let (at, anchor) = (block as usize, Anchor { sp, bp });
    // A size of zero frees.
    if size != 0
        && let Some(moved) =
            quick::reallocate(Domain::Native, at, size, anchor, || real_realloc(block, size))
    {
        return moved;
    }
    if block.is_null() {
        return realloc_nothing(size, sp, bp);
    }
    the_long_way(block, size, sp, bp)
}

/// `realloc` of no block: an allocation.
#[inline(never)]
fn realloc_nothing(size: usize, sp: usize, bp: usize) -> *mut c_void {
    #[inline(never)]
    fn the_long_way(size: usize, sp: usize, bp: usize) -> *mut c_void {
        allocate(size, sp, bp, || real_realloc(core::ptr::null_mut(), size))
    }
    let real = || real_realloc(core::ptr::null_mut(), size);
    quick::allocate(Domain::Native, size, Anchor { sp, bp }, real)
        .unwrap_or_else(|| the_long_way(size, sp, bp))
}

#[inline(always)]
fn real_realloc(block: *mut c_void, size: usize) -> *mut c_void {
    match real::realloc() {
        // SAFETY: the program's own call.
        Some(realloc) => unsafe { realloc(block, size) },
        None if block.is_null() => real::early(size),
        None => core::ptr::null_mut(),
    }
}

unsafe extern "C" fn reallocarray_at(
    block: *mut c_void,
    count: usize,
    size: usize,
    sp: usize,
    bp: usize,
) -> *mut c_void {
    let total = count.checked_mul(size);
    // An overflow fails and leaves the block: any size but zero says so.
    reallocate(block, total.unwrap_or(usize::MAX), sp, bp, || match (real::reallocarray(), total) {
        // SAFETY: the program's own call.
        (Some(reallocarray), _) => unsafe { reallocarray(block, count, size) },
        (None, Some(total)) => match real::realloc() {
            // SAFETY: what `reallocarray` is defined to do.
            Some(realloc) => unsafe { realloc(block, total) },
            None => core::ptr::null_mut(),
        },
        (None, None) => core::ptr::null_mut(),
    })
}

/// # Safety
/// `block` must be of the pool and have `old` bytes.
#[cold]
unsafe fn leave_pool(
    block: *mut c_void,
    old: usize,
    size: usize,
    sp: usize,
    bp: usize,
) -> *mut c_void {
    // SAFETY: no requirement beyond those of `malloc`.
    let moved = unsafe { malloc_at(size, sp, bp) };
    if !moved.is_null() {
        // SAFETY: both blocks have that many bytes and do not overlap.
        unsafe { core::ptr::copy_nonoverlapping(block.cast::<u8>(), moved.cast(), old.min(size)) };
    }
    moved
}

unsafe extern "C" fn free_behind(block: *mut c_void) {
    let is_real = match quick::freed(block as usize, Lock::Unknown) {
        Freed::Counted => true,
        Freed::Unknown => real::early_size(block).is_none(),
        Freed::Not => return free_the_long_way(block),
    };
    if is_real && let Some(free) = real::free() {
        // SAFETY: the program's own call.
        unsafe { free(block) };
    }
}

#[inline(never)]
fn free_the_long_way(block: *mut c_void) {
    if block.is_null() {
        return;
    }
    if record::freed(block as usize, Lock::Unknown).is_none() && real::early_size(block).is_some() {
        return;
    }
    if let Some(free) = real::free() {
        // SAFETY: the program's own call.
        unsafe { free(block) };
    }
}

/// See `free_sized(3)`, of C23: `free` with a promise that is not needed.
///
/// # Safety
/// As for the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn free_sized(block: *mut c_void, _size: usize) {
    // SAFETY: a block that may be given to `free_sized` may be given to `free`.
    unsafe { free(block) }
}

/// See `free_aligned_sized(3)`, of C23.
///
/// # Safety
/// As for the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn free_aligned_sized(block: *mut c_void, _alignment: usize, _size: usize) {
    // SAFETY: as for `free_sized`.
    unsafe { free(block) }
}
