//! The ends of a process, and what changes its program files.

use core::arch::naked_asm;
use core::ffi::{c_char, c_int, c_void};

use pyshim_dump::layout::EndKind;

use crate::{life, real};

/// See `_exit(2)`.
///
/// # Safety
/// As for the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn _exit(status: c_int) -> ! {
    life::end(EndKind::QuickExit, status);
    if let Some(exit) = real::_exit() {
        // SAFETY: the program's own call.
        unsafe { exit(status) };
    }
    loop {
        crate::sys::exit_group(status);
    }
}

/// See `_Exit(3)`: the same as `_exit`.
///
/// # Safety
/// As for the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn _Exit(status: c_int) -> ! {
    // SAFETY: the program's own call.
    unsafe { _exit(status) }
}

/// Marks the end of this program, calls `real`, and takes the mark back if that returns.
fn become_another(real: impl FnOnce() -> c_int) -> c_int {
    let marked = life::end(EndKind::Exec, 0);
    let result = real();
    if marked {
        life::not_ended();
    }
    result
}

/// See `execve(2)`.
///
/// # Safety
/// As for the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn execve(
    path: *const c_char,
    argv: *const *const c_char,
    envp: *const *const c_char,
) -> c_int {
    match real::execve() {
        // SAFETY: the program's own call.
        Some(execve) => become_another(|| unsafe { execve(path, argv, envp) }),
        None => -1,
    }
}

/// See `execv(3)`.
///
/// # Safety
/// As for the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn execv(path: *const c_char, argv: *const *const c_char) -> c_int {
    match real::execv() {
        // SAFETY: the program's own call.
        Some(execv) => become_another(|| unsafe { execv(path, argv) }),
        None => -1,
    }
}

/// See `execvp(3)`.
///
/// # Safety
/// As for the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn execvp(file: *const c_char, argv: *const *const c_char) -> c_int {
    match real::execvp() {
        // SAFETY: the program's own call.
        Some(execvp) => become_another(|| unsafe { execvp(file, argv) }),
        None => -1,
    }
}

/// See `execvpe(3)`.
///
/// # Safety
/// As for the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn execvpe(
    file: *const c_char,
    argv: *const *const c_char,
    envp: *const *const c_char,
) -> c_int {
    match real::execvpe() {
        // SAFETY: the program's own call.
        Some(execvpe) => become_another(|| unsafe { execvpe(file, argv, envp) }),
        None => -1,
    }
}

/// See `fexecve(3)`.
///
/// # Safety
/// As for the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn fexecve(
    fd: c_int,
    argv: *const *const c_char,
    envp: *const *const c_char,
) -> c_int {
    match real::fexecve() {
        // SAFETY: the program's own call.
        Some(fexecve) => become_another(|| unsafe { fexecve(fd, argv, envp) }),
        None => -1,
    }
}

/// See `_Fork(3)`: a fork that runs no handlers.
///
/// # Safety
/// As for the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn _Fork() -> c_int {
    let Some(fork) = real::_Fork() else { return -1 };
    life::before_fork();
    // SAFETY: the program's own call.
    let pid = unsafe { fork() };
    if pid == 0 {
        life::after_fork_in_child()
    } else {
        life::after_fork_in_parent()
    }
    pid
}

/// See `dlclose(3)`. What was allocated in the library is written down while its file is still known.
///
/// # Safety
/// As for the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn dlclose(handle: *mut c_void) -> c_int {
    let Some(dlclose) = real::dlclose() else { return -1 };
    life::modules_change();
    // SAFETY: the program's own call.
    let result = unsafe { dlclose(handle) };
    life::modules_change();
    result
}

/// See `dlopen(3)`. A jump, not a call: the loader looks at who calls it.
///
/// # Safety
/// As for the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
#[unsafe(naked)]
pub unsafe extern "C" fn dlopen(path: *const c_char, flags: c_int) -> *mut c_void {
    naked_asm!(
        "mov byte ptr [rip + {opened}], 1",
        "mov rax, qword ptr [rip + {real}]",
        "test rax, rax",
        "jne 2f",
        "push rdi",
        "push rsi",
        "push rax",
        "call {resolve}",
        "pop rax",
        "pop rsi",
        "pop rdi",
        "mov rax, qword ptr [rip + {real}]",
        "2:",
        "jmp rax",
        opened = sym life::OPENED,
        real = sym real::DLOPEN,
        resolve = sym resolve,
    )
}

extern "C" fn resolve() {
    real::resolve();
}
