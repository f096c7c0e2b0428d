//! The process: its clock, its limits, its parent, and copies of it.

use super::{Errno, close, close_all, open, syscall, write};

/// Nanoseconds of a clock that only runs forward.
pub fn monotonic_ns() -> u64 {
    clock(libc::CLOCK_MONOTONIC)
}

/// Nanoseconds of Unix time.
pub fn unix_ns() -> u64 {
    clock(libc::CLOCK_REALTIME)
}

fn clock(id: i32) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `clock_gettime` writes one timespec; it neither locks nor allocates.
    unsafe { libc::clock_gettime(id, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The soft limit on a file's size; past it the kernel sends SIGXFSZ.
pub fn file_size_limit() -> u64 {
    limit(libc::RLIMIT_FSIZE as usize)
}

/// The soft limit on the process's address space.
pub fn address_space_limit() -> u64 {
    limit(libc::RLIMIT_AS as usize)
}

/// The soft limit on the memory that a process may map and write.
pub fn data_limit() -> u64 {
    limit(libc::RLIMIT_DATA as usize).min(address_space_limit())
}

fn limit(resource: usize) -> u64 {
    let mut limit = [0u64; 2];
    // SAFETY: the kernel writes two 64-bit words.
    let result = unsafe {
        syscall(libc::SYS_prlimit64, [0, resource, 0, limit.as_mut_ptr() as usize, 0, 0])
    };
    if result.is_ok() { limit[0] } else { u64::MAX }
}

/// The process, asked of the kernel (a child of `vfork` has its own id in its parent's memory).
pub fn pid() -> u32 {
    // SAFETY: no arguments, cannot fail.
    unsafe { syscall(libc::SYS_getpid, [0; 6]) }.map_or(0, |pid| pid as u32)
}

/// The user id that files are made with.
pub fn effective_user() -> u32 {
    // SAFETY: takes no argument.
    unsafe { syscall(libc::SYS_geteuid, [0; 6]) }.map_or(u32::MAX, |id| id as u32)
}

/// The parent process.
pub fn parent_pid() -> u32 {
    // SAFETY: no arguments, cannot fail.
    unsafe { syscall(libc::SYS_getppid, [0; 6]) }.map_or(0, |pid| pid as u32)
}

/// Copies the process, without handlers and without a signal at the copy's end: the program's
/// `wait` does not see it. Returns 0 in the copy.
pub fn fork_quietly() -> Result<u32, Errno> {
    // SAFETY: no flags: the copy has its own memory and stack.
    unsafe { syscall(libc::SYS_clone, [0; 6]) }.map(|pid| pid as u32)
}

/// In a copy of the process: lets go of its files, tells the kernel that this one goes first when
/// memory is short, leaves no core, and ends it after `seconds`.
pub fn become_quiet_copy(seconds: u64) {
    close_all();
    // SAFETY: limits and a timer of this process alone; the structures outlive the calls.
    unsafe {
        // (A limit of one byte: with none a core still goes to a program that collects them.)
        for least in [1u64, 0] {
            let limits = [least; 2];
            let core = libc::RLIMIT_CORE as usize;
            let set = syscall(libc::SYS_prlimit64, [0, core, &raw const limits as usize, 0, 0, 0]);
            if set.is_ok() {
                break;
            }
        }
        let name = c"pyshim-snapshot".as_ptr() as usize;
        let _ = syscall(libc::SYS_prctl, [libc::PR_SET_NAME as usize, name, 0, 0, 0, 0]);
        // Interval, then the first time.
        let timer = [0u64, 0, seconds, 0];
        let _ = syscall(libc::SYS_setitimer, [0, &raw const timer as usize, 0, 0, 0, 0]);
        let nice = 5usize;
        let _ = syscall(libc::SYS_setpriority, [0, 0, nice, 0, 0, 0]);
    }
    if let Ok(fd) = open(b"/proc/self/oom_score_adj\0", libc::O_WRONLY, 0) {
        write(fd, b"1000");
        close(fd);
    }
}

/// Whether a copy of [`fork_quietly`] has ended; it is gone then.
pub fn has_ended(pid: u32) -> bool {
    const WCLONE: usize = 0x8000_0000;
    // SAFETY: no memory is written.
    let waited = unsafe {
        syscall(libc::SYS_wait4, [pid as usize, 0, libc::WNOHANG as usize | WCLONE, 0, 0, 0])
    };
    waited != Ok(0)
}

/// Ends a copy.
pub fn kill(pid: u32) {
    // SAFETY: the id is that of our own child, which was not waited for yet.
    let _ = unsafe { syscall(libc::SYS_kill, [pid as usize, libc::SIGKILL as usize, 0, 0, 0, 0]) };
}

/// Ends the process.
pub fn exit_group(status: i32) {
    // SAFETY: does not return, and touches no memory of ours.
    let _ = unsafe { syscall(libc::SYS_exit_group, [status as usize, 0, 0, 0, 0, 0]) };
}
