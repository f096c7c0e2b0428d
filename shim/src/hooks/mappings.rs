//! `mmap`, `munmap`, `mremap`, `shmat`, `shmdt`.

use core::arch::naked_asm;
use core::ffi::{c_int, c_void};

use pyshim_dump::record::Origin;

use crate::guard::{Guard, Thread, thread};
use crate::native::Anchor;
use crate::{life, mappings, real};

/// See `mmap(2)`.
///
/// # Safety
/// As for the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
#[unsafe(naked)]
pub unsafe extern "C" fn mmap(
    at: *mut c_void,
    len: usize,
    protection: c_int,
    flags: c_int,
    fd: c_int,
    offset: i64,
) -> *mut c_void {
    // All six registers are taken, so the stack pointer goes into the thread's block.
    naked_asm!(
        "mov r11, qword ptr [rip + pyshim_thread@GOTTPOFF]",
        "mov qword ptr fs:[r11 + {entry}], rsp",
        "mov qword ptr fs:[r11 + {entry_base}], rbp",
        "jmp {behind}",
        entry = const core::mem::offset_of!(Thread, entry),
        entry_base = const core::mem::offset_of!(Thread, entry_base),
        behind = sym mmap_at,
    )
}

/// See `mmap(2)`; the same on 64-bit machines.
///
/// # Safety
/// As for the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
#[unsafe(naked)]
pub unsafe extern "C" fn mmap64(
    at: *mut c_void,
    len: usize,
    protection: c_int,
    flags: c_int,
    fd: c_int,
    offset: i64,
) -> *mut c_void {
    naked_asm!("jmp {mmap}", mmap = sym mmap)
}

unsafe extern "C" fn mmap_at(
    at: *mut c_void,
    len: usize,
    protection: c_int,
    flags: c_int,
    fd: c_int,
    offset: i64,
) -> *mut c_void {
    let (sp, bp) = (thread().entry.get(), thread().entry_base.get());
    let Some(mmap) = real::mmap() else { return libc::MAP_FAILED };
    let guard = if life::recording() { Guard::enter() } else { None };
    // SAFETY: the program's own call.
    let mapped = unsafe { mmap(at, len, protection, flags, fd, offset) };
    if let Some(guard) = guard.filter(|_| mapped != libc::MAP_FAILED) {
        // What a fixed mapping lands on is gone.
        mappings::add(&guard, mapped as usize, len, Origin::Mapping, Anchor { sp, bp });
    }
    mapped
}

/// See `munmap(2)`.
///
/// # Safety
/// As for the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn munmap(at: *mut c_void, len: usize) -> c_int {
    let Some(munmap) = real::munmap() else { return -1 };
    let guard = if life::recording() { Guard::enter() } else { None };
    let taken = guard.as_ref().map(|guard| mappings::take(guard, at as usize, len));
    // SAFETY: the program's own call.
    let result = unsafe { munmap(at, len) };
    if let (Some(guard), Some(taken), true) = (&guard, taken, result != 0) {
        mappings::put_back(guard, taken);
    }
    result
}

/// See `mremap(2)`.
///
/// # Safety
/// As for the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
#[unsafe(naked)]
pub unsafe extern "C" fn mremap(
    at: *mut c_void,
    old: usize,
    new: usize,
    flags: c_int,
    to: *mut c_void,
) -> *mut c_void {
    naked_asm!(
        "mov r9, rsp",
        "mov r11, qword ptr [rip + pyshim_thread@GOTTPOFF]",
        "mov qword ptr fs:[r11 + {entry_base}], rbp",
        "jmp {behind}",
        entry_base = const core::mem::offset_of!(Thread, entry_base),
        behind = sym mremap_at,
    )
}

unsafe extern "C" fn mremap_at(
    at: *mut c_void,
    old: usize,
    new: usize,
    flags: c_int,
    to: *mut c_void,
    sp: usize,
) -> *mut c_void {
    let bp = thread().entry_base.get();
    let Some(mremap) = real::mremap() else { return libc::MAP_FAILED };
    let guard = if life::recording() { Guard::enter() } else { None };
    let keeps = flags & libc::MREMAP_DONTUNMAP != 0;
    let taken =
        guard.as_ref().filter(|_| !keeps).map(|guard| mappings::take(guard, at as usize, old));
    // SAFETY: the program's own call.
    let moved = unsafe { mremap(at, old, new, flags, to) };
    if let Some(guard) = &guard {
        if moved != libc::MAP_FAILED {
            mappings::add(guard, moved as usize, new, Origin::Mapping, Anchor { sp, bp });
        } else if let Some(taken) = taken {
            mappings::put_back(guard, taken);
        }
    }
    moved
}

/// See `shmat(2)`.
///
/// # Safety
/// As for the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
#[unsafe(naked)]
pub unsafe extern "C" fn shmat(id: c_int, at: *const c_void, flags: c_int) -> *mut c_void {
    naked_asm!("mov rcx, rsp", "mov r8, rbp", "jmp {behind}", behind = sym shmat_at)
}

unsafe extern "C" fn shmat_at(
    id: c_int,
    at: *const c_void,
    flags: c_int,
    sp: usize,
    bp: usize,
) -> *mut c_void {
    let Some(shmat) = real::shmat() else { return libc::MAP_FAILED };
    let guard = if life::recording() { Guard::enter() } else { None };
    // SAFETY: the program's own call.
    let mapped = unsafe { shmat(id, at, flags) };
    if let Some(guard) = guard.filter(|_| mapped != libc::MAP_FAILED)
        && let Some(len) = segment_size(id)
    {
        mappings::add(&guard, mapped as usize, len, Origin::SharedMemory, Anchor { sp, bp });
    }
    mapped
}

fn segment_size(id: c_int) -> Option<usize> {
    // SAFETY: all-zero bytes are a valid `shmid_ds`, which is plain data.
    let mut segment: libc::shmid_ds = unsafe { core::mem::zeroed() };
    // SAFETY: IPC_STAT writes one `shmid_ds`; errno is put back.
    unsafe {
        let errno = *libc::__errno_location();
        let result = libc::shmctl(id, libc::IPC_STAT, &mut segment);
        *libc::__errno_location() = errno;
        (result == 0).then_some(segment.shm_segsz)
    }
}

/// See `shmdt(2)`.
///
/// # Safety
/// As for the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn shmdt(at: *const c_void) -> c_int {
    let Some(shmdt) = real::shmdt() else { return -1 };
    let guard = if life::recording() { Guard::enter() } else { None };
    // Before the real call: the address may be another thread's as soon as that returns.
    let taken = guard.as_ref().map(|guard| mappings::detach(guard, at as usize));
    // SAFETY: the program's own call.
    let result = unsafe { shmdt(at) };
    if let (Some(guard), Some(taken), true) = (&guard, taken, result != 0) {
        mappings::put_back(guard, taken);
    }
    result
}
