//! System calls, made raw: they reach the kernel past every interposed
//! function (ours too), set no `errno` and need no thread-local storage.

use core::arch::asm;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// A failed system call's error number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

/// # Safety
/// The arguments must be what the system call `number` accepts.
unsafe fn syscall(number: i64, args: [usize; 6]) -> Result<usize, Errno> {
    let result: isize;
    // SAFETY: the caller vouches for the arguments; the kernel clobbers rcx and r11 only.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") args[0], in("rsi") args[1], in("rdx") args[2],
            in("r10") args[3], in("r8") args[4], in("r9") args[5],
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    if (-4095..0).contains(&result) { Err(Errno(-result as i32)) } else { Ok(result as usize) }
}

/// Private zeroed memory; pages cost nothing until they are touched, and never
/// become huge ones (a table that is touched here and there must stay small).
pub fn reserve(len: usize) -> Result<*mut u8, Errno> {
    let base = reserve_for_file(len)?;
    note_mapping(base as usize, len);
    Ok(base)
}

/// The same, over which a file will be mapped: it does not count as memory of our own.
pub fn reserve_for_file(len: usize) -> Result<*mut u8, Errno> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new anonymous mapping at an address of the kernel's choice touches nothing that exists.
    let base =
        unsafe { syscall(libc::SYS_mmap, [0, len, prot as usize, flags as usize, usize::MAX, 0])? };
    if len >= 2 << 20 {
        // SAFETY: the range was mapped just above; the advice changes no content.
        let _ = unsafe {
            syscall(libc::SYS_madvise, [base, len, libc::MADV_NOHUGEPAGE as usize, 0, 0, 0])
        };
    }
    Ok(base as *mut u8)
}

/// Address space that may not be touched yet.
pub fn reserve_inaccessible(len: usize) -> Result<*mut u8, Errno> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: as in `reserve`.
    let base = unsafe {
        syscall(libc::SYS_mmap, [0, len, libc::PROT_NONE as usize, flags as usize, usize::MAX, 0])?
    };
    Ok(base as *mut u8)
}

/// Maps `len` bytes of `fd` from `offset`, shared, over `at`.
///
/// # Safety
/// `at..at + len` must be address space of our own, and nobody may hold a
/// reference into it that the new content would break.
pub unsafe fn map_file_over(at: *mut u8, len: usize, fd: i32, offset: u64) -> Result<(), Errno> {
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_SHARED | libc::MAP_FIXED;
    // SAFETY: the caller owns the range.
    unsafe {
        syscall(
            libc::SYS_mmap,
            [at as usize, len, prot as usize, flags as usize, fd as usize, offset as usize],
        )?;
    }
    Ok(())
}

/// Replaces what is mapped at `at` by private zeroed memory.
///
/// # Safety
/// As for [`map_file_over`].
pub unsafe fn map_zero_over(at: *mut u8, len: usize) -> Result<(), Errno> {
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE;
    // SAFETY: the caller owns the range.
    unsafe {
        syscall(libc::SYS_mmap, [at as usize, len, prot as usize, flags as usize, usize::MAX, 0])?;
    }
    Ok(())
}

/// # Safety
/// The range must be ours and out of use.
pub unsafe fn unmap(at: *mut u8, len: usize) {
    forget_mapping(at as usize);
    // SAFETY: the caller owns the range. A failure leaves it mapped, which costs address space only.
    let _ = unsafe { syscall(libc::SYS_munmap, [at as usize, len, 0, 0, 0, 0]) };
}

/// Opens the file that `path`, which ends in a zero byte, names.
pub fn open(path: &[u8], flags: i32, mode: u32) -> Result<i32, Errno> {
    if path.last() != Some(&0) {
        return Err(Errno(libc::EINVAL));
    }
    let flags = flags | libc::O_CLOEXEC;
    let at = libc::AT_FDCWD as isize as usize;
    // SAFETY: `path` is a string that ends in zero, as was just checked.
    unsafe {
        syscall(libc::SYS_openat, [at, path.as_ptr() as usize, flags as usize, mode as usize, 0, 0])
            .map(|fd| fd as i32)
    }
}

/// Closes a descriptor that we opened.
pub fn close(fd: i32) {
    // SAFETY: closing is memory-safe whatever the descriptor.
    let _ = unsafe { syscall(libc::SYS_close, [fd as usize, 0, 0, 0, 0, 0]) };
}

/// Removes the file that `path`, which ends in a zero byte, names.
pub fn unlink(path: &[u8]) {
    if path.last() == Some(&0) {
        // SAFETY: `path` is a string that ends in zero.
        let _ = unsafe { syscall(libc::SYS_unlink, [path.as_ptr() as usize, 0, 0, 0, 0, 0]) };
    }
}

/// Reads up to `buffer.len()` bytes.
pub fn read(fd: i32, buffer: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the buffer is writable for its whole length.
    unsafe {
        syscall(libc::SYS_read, [fd as usize, buffer.as_mut_ptr() as usize, buffer.len(), 0, 0, 0])
    }
}

/// Writes to a descriptor; what does not fit is left out.
pub fn write(fd: i32, bytes: &[u8]) {
    // SAFETY: the bytes are readable for their whole length.
    let _ = unsafe {
        syscall(libc::SYS_write, [fd as usize, bytes.as_ptr() as usize, bytes.len(), 0, 0, 0])
    };
}

/// Makes sure that the file has room, so that a later write through a mapping
/// can not raise SIGBUS for want of it.
pub fn allocate(fd: i32, offset: u64, len: u64) -> Result<(), Errno> {
    // SAFETY: no memory is involved.
    let result = unsafe {
        syscall(libc::SYS_fallocate, [fd as usize, 0, offset as usize, len as usize, 0, 0])
    };
    match result {
        Ok(_) => Ok(()),
        Err(Errno(libc::EOPNOTSUPP)) => write_zeros(fd, offset, len),
        Err(error) => Err(error),
    }
}

/// Makes a file longer, without taking room on disk.
pub fn truncate(fd: i32, len: u64) -> Result<(), Errno> {
    // SAFETY: no memory is involved; nothing beyond the old end is mapped.
    unsafe { syscall(libc::SYS_ftruncate, [fd as usize, len as usize, 0, 0, 0, 0]) }.map(|_| ())
}

/// What `posix_fallocate` does on a file system that cannot reserve.
fn write_zeros(fd: i32, offset: u64, len: u64) -> Result<(), Errno> {
    let zeros = [0u8; 4096];
    let mut done = 0;
    while done < len {
        let part = (len - done).min(4096) as usize;
        write_at(fd, offset + done, zeros.get(..part).unwrap_or_default())?;
        done += part as u64;
    }
    Ok(())
}

/// Whether a descriptor is a terminal.
pub fn is_terminal(fd: i32) -> bool {
    let mut termios = [0u8; 64];
    // SAFETY: TCGETS writes the kernel's `termios`, which is 36 bytes.
    unsafe {
        syscall(
            libc::SYS_ioctl,
            [fd as usize, libc::TCGETS as usize, termios.as_mut_ptr() as usize, 0, 0, 0],
        )
        .is_ok()
    }
}

/// The whole of a file, such as one of `/proc`; empty if it cannot be read.
pub fn read_file(path: &[u8]) -> Vec<u8> {
    read_file_sized(path, 0)
}

/// The same with room for so many bytes from the start: no memory is mapped while it is read.
pub fn read_file_sized(path: &[u8], room: usize) -> Vec<u8> {
    let mut content = Vec::with_capacity(room);
    let Ok(fd) = open(path, libc::O_RDONLY, 0) else { return content };
    let mut buffer = [0u8; 4096];
    while let Ok(count @ 1..) = read(fd, &mut buffer) {
        content.extend_from_slice(buffer.get(..count).unwrap_or_default());
    }
    close(fd);
    content
}

/// The target of a symbolic link, such as `/proc/self/exe`.
pub fn read_link(path: &[u8]) -> Vec<u8> {
    let mut buffer = [0u8; 4096];
    if path.last() != Some(&0) {
        return Vec::new();
    }
    // SAFETY: `path` ends in zero, and the buffer is writable for its whole length.
    let len = unsafe {
        syscall(
            libc::SYS_readlink,
            [path.as_ptr() as usize, buffer.as_mut_ptr() as usize, buffer.len(), 0, 0, 0],
        )
    };
    buffer.get(..len.unwrap_or(0)).unwrap_or_default().to_vec()
}

/// Our own mappings, to tell how much of the resident set is ours.
static MAPPINGS: [[AtomicUsize; 2]; 512] = [const { [const { AtomicUsize::new(0) }; 2] }; 512];

fn note_mapping(base: usize, len: usize) {
    for [at, size] in &MAPPINGS {
        if at.compare_exchange(0, base, Relaxed, Relaxed).is_ok() {
            size.store(len, Relaxed);
            return;
        }
    }
}

fn forget_mapping(base: usize) {
    for [at, size] in &MAPPINGS {
        if at.load(Relaxed) == base {
            size.store(0, Relaxed);
            at.store(0, Relaxed);
            return;
        }
    }
}

/// Resident bytes of our own mappings.
pub fn own_resident() -> u64 {
    let mut bytes = 0;
    for [at, size] in &MAPPINGS {
        let (base, len) = (at.load(Relaxed), size.load(Relaxed));
        if base == 0 || len == 0 {
            continue;
        }
        let mut pages = vec![0u8; len.div_ceil(4096)];
        if resident(base as *const u8, &mut pages) {
            bytes += pages.iter().filter(|page| **page & 1 != 0).count() as u64 * 4096;
        }
    }
    bytes
}

/// Writes all of `bytes` at `offset`.
pub fn write_at(fd: i32, offset: u64, bytes: &[u8]) -> Result<(), Errno> {
    let mut done = 0;
    while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
        // SAFETY: `rest` is readable for its whole length.
        let wrote = unsafe {
            syscall(
                libc::SYS_pwrite64,
                [fd as usize, rest.as_ptr() as usize, rest.len(), offset as usize + done, 0, 0],
            )?
        };
        if wrote == 0 {
            return Err(Errno(libc::ENOSPC));
        }
        done += wrote;
    }
    Ok(())
}

/// Device and inode of an open file.
pub fn identity(fd: i32) -> Option<(u64, u64)> {
    // SAFETY: all-zero bytes are a valid `stat`, which is plain data.
    let mut stat: libc::stat = unsafe { core::mem::zeroed() };
    // SAFETY: the kernel writes one `stat`; the glibc layout is the kernel's on x86-64.
    unsafe { syscall(libc::SYS_fstat, [fd as usize, &raw mut stat as usize, 0, 0, 0, 0]) }.ok()?;
    Some((stat.st_dev, stat.st_ino))
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

fn clock(id: i32) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `clock_gettime` writes one timespec; it neither locks nor allocates.
    unsafe { libc::clock_gettime(id, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Nanoseconds of a clock that only runs forward.
pub fn monotonic_ns() -> u64 {
    clock(libc::CLOCK_MONOTONIC)
}

/// Nanoseconds of Unix time.
pub fn unix_ns() -> u64 {
    clock(libc::CLOCK_REALTIME)
}

/// The process, asked of the kernel (a child of `vfork` has its own id in its parent's memory).
pub fn pid() -> u32 {
    // SAFETY: no arguments, cannot fail.
    unsafe { syscall(libc::SYS_getpid, [0; 6]) }.map_or(0, |pid| pid as u32)
}

/// The parent process.
pub fn parent_pid() -> u32 {
    // SAFETY: no arguments, cannot fail.
    unsafe { syscall(libc::SYS_getppid, [0; 6]) }.map_or(0, |pid| pid as u32)
}

/// The calling thread.
pub fn thread_id() -> u32 {
    // SAFETY: no arguments, cannot fail.
    unsafe { syscall(libc::SYS_gettid, [0; 6]) }.map_or(0, |tid| tid as u32)
}

/// Whether a thread of this process still exists for the kernel.
pub fn thread_exists(tid: u32) -> bool {
    // SAFETY: signal 0 is never delivered.
    let asked = unsafe { syscall(libc::SYS_tgkill, [pid() as usize, tid as usize, 0, 0, 0, 0]) };
    asked != Err(Errno(libc::ESRCH))
}

/// How many threads the process has, by the links of the kernel's folder of them.
pub fn thread_count() -> Option<u64> {
    // SAFETY: plain C data.
    let mut stat: libc::stat = unsafe { core::mem::zeroed() };
    let path = c"/proc/self/task";
    let arguments =
        [libc::AT_FDCWD as usize, path.as_ptr() as usize, &raw mut stat as usize, 0, 0, 0];
    // SAFETY: a path that ends in zero and room for the answer.
    unsafe { syscall(libc::SYS_newfstatat, arguments) }.ok()?;
    (stat.st_nlink as u64).checked_sub(2)
}

/// Gives the processor away.
pub fn yield_now() {
    // SAFETY: no arguments, no effect on memory.
    let _ = unsafe { syscall(libc::SYS_sched_yield, [0; 6]) };
}

/// Waits until `word` is not `expected`, somebody wakes it, or the time is over.
pub fn futex_wait(word: &core::sync::atomic::AtomicU32, expected: u32, timeout_ns: u64) {
    let time = libc::timespec {
        tv_sec: (timeout_ns / 1_000_000_000) as i64,
        tv_nsec: (timeout_ns % 1_000_000_000) as i64,
    };
    // SAFETY: the word and the time outlive the call.
    let _ = unsafe {
        syscall(
            libc::SYS_futex,
            [
                word.as_ptr() as usize,
                (libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG) as usize,
                expected as usize,
                &raw const time as usize,
                0,
                0,
            ],
        )
    };
}

/// Wakes whoever waits on `word`.
pub fn futex_wake(word: &core::sync::atomic::AtomicU32) {
    // SAFETY: the word outlives the call.
    let _ = unsafe {
        syscall(
            libc::SYS_futex,
            [
                word.as_ptr() as usize,
                (libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG) as usize,
                i32::MAX as usize,
                0,
                0,
                0,
            ],
        )
    };
}

/// Gives the calling thread a descriptor table of its own, empty.
/// Files that it opens are then invisible to the program, and the program's
/// `close` cannot take them away.
pub fn own_descriptors() -> bool {
    const CLOSE_RANGE_UNSHARE: usize = 2;
    // SAFETY: descriptors only; the caller is a thread that uses none of the program's.
    unsafe {
        syscall(libc::SYS_close_range, [0, u32::MAX as usize, CLOSE_RANGE_UNSHARE, 0, 0, 0]).is_ok()
    }
}

/// Which pages of a range have been touched: one byte a page, low bit set.
pub fn resident(at: *const u8, pages: &mut [u8]) -> bool {
    // SAFETY: the kernel writes one byte for each page of the range, and `pages` has as many.
    unsafe {
        syscall(
            libc::SYS_mincore,
            [at as usize, pages.len() * 4096, pages.as_mut_ptr() as usize, 0, 0, 0],
        )
        .is_ok()
    }
}

/// Copies memory of this process that may not be mapped.
pub fn read_memory(address: u64, buffer: &mut [u8]) -> bool {
    let local = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let remote = libc::iovec { iov_base: address as *mut _, iov_len: buffer.len() };
    // SAFETY: the local vector is our buffer; the kernel checks the remote one.
    let copied = unsafe {
        syscall(
            libc::SYS_process_vm_readv,
            [pid() as usize, &raw const local as usize, 1, &raw const remote as usize, 1, 0],
        )
    };
    copied == Ok(buffer.len())
}

/// Our own mappings: start and end.
pub fn own_mappings() -> Vec<(usize, usize)> {
    let mut ranges = Vec::with_capacity(MAPPINGS.len());
    for [at, size] in &MAPPINGS {
        let (at, size) = (at.load(Relaxed), size.load(Relaxed));
        if at != 0 && size != 0 {
            ranges.push((at, (at + size).next_multiple_of(4096)));
        }
    }
    ranges
}

/// Ids of the process's threads.
pub fn threads() -> Vec<u32> {
    let mut ids = Vec::new();
    let Ok(fd) = open(b"/proc/self/task\0", libc::O_RDONLY | libc::O_DIRECTORY, 0) else {
        return ids;
    };
    let mut buffer = [0u8; 4096];
    loop {
        // SAFETY: the buffer is writable for its whole length.
        let read = unsafe {
            syscall(
                libc::SYS_getdents64,
                [fd as usize, buffer.as_mut_ptr() as usize, buffer.len(), 0, 0, 0],
            )
        };
        let Ok(len @ 1..) = read else { break };
        let mut at = 0;
        // inode, offset, length of the entry, kind, name
        while let Some(entry) = buffer.get(at..len).filter(|entry| entry.len() > 19) {
            let size = usize::from(u16::from_le_bytes([entry[16], entry[17]]));
            let name = entry.get(19..size).unwrap_or_default();
            let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
            ids.extend(core::str::from_utf8(name).ok().and_then(|name| name.parse::<u32>().ok()));
            if size == 0 {
                break;
            }
            at += size;
        }
    }
    close(fd);
    ids
}

/// Blocks all signals of this thread; returns what was blocked before.
pub fn block_signals() -> u64 {
    let (all, mut before) = (u64::MAX, 0u64);
    // SAFETY: the kernel reads and writes eight bytes each.
    let _ = unsafe {
        syscall(
            libc::SYS_rt_sigprocmask,
            [
                libc::SIG_SETMASK as usize,
                &raw const all as usize,
                &raw mut before as usize,
                8,
                0,
                0,
            ],
        )
    };
    before
}

/// Puts back what [`block_signals`] returned.
pub fn restore_signals(mask: u64) {
    // SAFETY: as above.
    let _ = unsafe {
        syscall(
            libc::SYS_rt_sigprocmask,
            [libc::SIG_SETMASK as usize, &raw const mask as usize, 0, 8, 0, 0],
        )
    };
}

/// Copies the process, without handlers and without a signal at the copy's end: the program's
/// `wait` does not see it. Returns 0 in the copy.
pub fn fork_quietly() -> Result<u32, Errno> {
    // SAFETY: no flags: the copy has its own memory and stack.
    unsafe { syscall(libc::SYS_clone, [0; 6]) }.map(|pid| pid as u32)
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

/// Sleeps.
pub fn sleep_ns(ns: u64) {
    let nobody = core::sync::atomic::AtomicU32::new(0);
    futex_wait(&nobody, 0, ns);
}

/// In a copy of the process: lets go of its files, tells the kernel that this one goes first when
/// memory is short, leaves no core, and ends it after `seconds`.
pub fn become_quiet_copy(seconds: u64) {
    // SAFETY: descriptors, limits and a timer of this process alone; the structures outlive the calls.
    unsafe {
        let _ = syscall(libc::SYS_close_range, [0, u32::MAX as usize, 0, 0, 0, 0]);
        let none = [0u64; 2];
        let core = libc::RLIMIT_CORE as usize;
        let _ = syscall(libc::SYS_prlimit64, [0, core, &raw const none as usize, 0, 0, 0]);
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

/// Sets what a signal does in this process, and lets it through.
pub fn set_signal(signal: i32, action: usize) {
    // SAFETY: plain C data; only called in a copy of the process, whose signals are nobody's.
    unsafe {
        let mut wanted: libc::sigaction = core::mem::zeroed();
        wanted.sa_sigaction = action;
        wanted.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER;
        libc::sigaction(signal, &wanted, core::ptr::null_mut());
    }
}

/// Lets all signals of this thread through.
pub fn unblock_signals() {
    restore_signals(0);
}

/// Ends the process.
pub fn exit_group(status: i32) {
    // SAFETY: does not return, and touches no memory of ours.
    let _ = unsafe { syscall(libc::SYS_exit_group, [status as usize, 0, 0, 0, 0, 0]) };
}
