//! Memory of our own, and looking at the program's.

use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::{Errno, close, open, pid, read_at, syscall};

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
    use_small_pages(base, len);
    Ok(base as *mut u8)
}

/// Has the kernel use no large pages for a new range of our own.
fn use_small_pages(base: usize, len: usize) {
    if len >= LARGE_PAGE {
        let advice = libc::MADV_NOHUGEPAGE as usize;
        // SAFETY: the advice changes no content.
        let _ = unsafe { syscall(libc::SYS_madvise, [base, len, advice, 0, 0, 0]) };
    }
}

/// As [`reserve`], from the start of a large page on.
pub fn reserve_aligned(len: usize) -> Result<*mut u8, Errno> {
    let room = reserve_for_file(len + LARGE_PAGE)? as usize;
    let base = room.next_multiple_of(LARGE_PAGE);
    let (end, room_end) = ((base + len).next_multiple_of(4096), room + len + LARGE_PAGE);
    for (at, len) in [(room, base - room), (end, room_end.saturating_sub(end))] {
        if len > 0 {
            // SAFETY: a part of the mapping just made, which nobody knows yet.
            let _ = unsafe { syscall(libc::SYS_munmap, [at, len, 0, 0, 0, 0]) };
        }
    }
    note_mapping(base, len);
    Ok(base as *mut u8)
}

/// Has the kernel use large pages, where it gives any, for a range of our own that will be in use all
/// over.
pub fn use_large_pages(at: *const u8, len: usize) {
    let advice = libc::MADV_HUGEPAGE as usize;
    // SAFETY: the advice changes no content.
    let _ = unsafe { syscall(libc::SYS_madvise, [at as usize, len, advice, 0, 0, 0]) };
}

/// As [`reserve`], for what will be in use all over.
pub fn reserve_taken(len: usize) -> Result<*mut u8, Errno> {
    let base = reserve(len)?;
    take_pages(base, len);
    Ok(base)
}

/// Takes the pages of a range of our own before they are touched: half as expensive as one by one where
/// each is read before it is written, which is two page faults. A kernel before 5.14 does not know how,
/// and the range stays as it was.
pub fn take_pages(at: *const u8, len: usize) {
    let (start, end) = (at as usize & !4095, (at as usize + len).next_multiple_of(4096));
    let advice = libc::MADV_POPULATE_WRITE as usize;
    // SAFETY: the advice changes no content.
    let _ = unsafe { syscall(libc::SYS_madvise, [start, end - start, advice, 0, 0, 0]) };
}

/// The kernel's large pages on this architecture.
pub const LARGE_PAGE: usize = 2 << 20;

/// Address space that may not be touched yet.
pub fn reserve_inaccessible(len: usize) -> Result<*mut u8, Errno> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: as in `reserve_for_file`.
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
    use_small_pages(at as usize, len);
    Ok(())
}

/// # Safety
/// The range must be ours and out of use.
pub unsafe fn unmap(at: *mut u8, len: usize) {
    forget_mapping(at as usize);
    // SAFETY: the caller owns the range. A failure leaves it mapped, which costs address space only.
    let _ = unsafe { syscall(libc::SYS_munmap, [at as usize, len, 0, 0, 0, 0]) };
}

/// Makes a range longer or shorter, and moves it if it must.
///
/// # Safety
/// The range must be ours, and nobody may refer to it but the caller.
pub unsafe fn resize(at: *mut u8, len: usize, wanted: usize) -> Result<*mut u8, Errno> {
    let may_move = libc::MREMAP_MAYMOVE as usize;
    // SAFETY: the caller owns the range; what it moves to is of the kernel's choice.
    let moved = unsafe { syscall(libc::SYS_mremap, [at as usize, len, wanted, may_move, 0, 0])? };
    forget_mapping(at as usize);
    note_mapping(moved, wanted);
    Ok(moved as *mut u8)
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

/// Bytes of a range that have been touched, by whole pages: with those that were only read, which the kernel
/// does not count as resident.
pub fn touched_bytes(from: usize, to: usize) -> u64 {
    let (from, to) = (from & !4095, to.next_multiple_of(4096));
    if from >= to {
        return 0;
    }
    let mut pages = vec![0u8; (to - from) / 4096];
    match resident(from as *const u8, &mut pages) {
        true => pages.iter().filter(|page| **page & 1 != 0).count() as u64 * 4096,
        false => 0,
    }
}

/// Those parts of a range of private memory that were touched, whether they are resident now or swapped
/// out, and small gaps between; the whole of it where the kernel does not tell.
pub fn touched_parts(from: usize, to: usize) -> Vec<(usize, usize)> {
    // `/proc/PID/pagemap`: a word for each page, of which these bits say that it is there, or swapped out.
    const TOUCHED: u64 = 3 << 62;
    const AT_ONCE: usize = 8192;
    const GAP: usize = 64 << 10;
    let mut parts: Vec<(usize, usize)> = Vec::new();
    let Ok(fd) = open(b"/proc/self/pagemap\0", libc::O_RDONLY, 0) else { return vec![(from, to)] };
    let mut words = vec![0u8; AT_ONCE * 8];
    let mut page = from / 4096;
    let end = to.div_ceil(4096);
    while page < end {
        let wanted = (end - page).min(AT_ONCE) * 8;
        let read = read_at(fd, page as u64 * 8, &mut words[..wanted]).unwrap_or(0) / 8;
        if read == 0 {
            parts = vec![(from, to)];
            break;
        }
        for (at, word) in words.chunks_exact(8).take(read).enumerate() {
            if word.try_into().map_or(0, u64::from_le_bytes) & TOUCHED == 0 {
                continue;
            }
            let start = (page + at) * 4096;
            match parts.last_mut() {
                Some(last) if start - last.1 <= GAP => last.1 = start + 4096,
                _ => parts.push((start, start + 4096)),
            }
        }
        page += read;
    }
    close(fd);
    // The range may begin and end within a page.
    parts.iter_mut().for_each(|part| *part = (part.0.max(from), part.1.min(to)));
    parts
}

/// The same of those parts of `ranges`, starts and ends, that lie in `start..end`.
pub fn touched_bytes_within(ranges: &[(usize, usize)], start: usize, end: usize) -> u64 {
    ranges.iter().map(|&(from, to)| touched_bytes(from.max(start), to.min(end))).sum()
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
    match copied {
        // What a sandbox forbids, and may not know.
        Err(Errno(libc::EPERM | libc::ENOSYS)) => read_own_memory(address, buffer),
        copied => copied == Ok(buffer.len()),
    }
}

/// The same by the file of its memory.
fn read_own_memory(address: u64, buffer: &mut [u8]) -> bool {
    let Ok(fd) = open(b"/proc/self/mem\0", libc::O_RDONLY, 0) else { return false };
    let read = read_at(fd, address, buffer);
    close(fd);
    read == Ok(buffer.len())
}

/// The content of a file, mapped to be read.
pub struct FileMap {
    at: *const u8,
    len: usize,
}

impl FileMap {
    /// Maps `len` bytes, which is more than none.
    pub fn new(fd: i32, len: usize) -> Option<FileMap> {
        let (prot, flags) = (libc::PROT_READ, libc::MAP_PRIVATE | libc::MAP_POPULATE);
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
        let at = unsafe {
            syscall(libc::SYS_mmap, [0, len, prot as usize, flags as usize, fd as usize, 0])
        };
        at.ok().map(|at| FileMap { at: at as *const u8, len })
    }

    /// The bytes. Nobody may make the file shorter meanwhile.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `len` bytes were mapped readable, and stay so until this is dropped.
        unsafe { core::slice::from_raw_parts(self.at, self.len) }
    }
}

impl Drop for FileMap {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and the borrow in `bytes` ended.
        unsafe { unmap(self.at.cast_mut(), self.len) };
    }
}
