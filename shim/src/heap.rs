//! The shim's own memory: taken from the kernel, never from the program's heap.
//!
//! Every `Vec` and map of the shim lives here, so nothing that the shim does
//! can re-enter the hooked allocator or wait for a lock of the C library.

use core::alloc::{GlobalAlloc, Layout};
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::spin::SpinLock;
use crate::sys;

/// Bytes that the shim holds for its own records.
pub static HELD: AtomicUsize = AtomicUsize::new(0);

/// Address space set aside at the start. When the kernel gives no more, what is
/// under way finishes in here, and [`exhausted`] keeps anything new from starting:
/// Rust collections abort when they get no memory, so they must always get it.
const RESERVE: usize = 8 << 20;
static RESERVE_AT: AtomicUsize = AtomicUsize::new(0);
static RESERVE_USED: AtomicUsize = AtomicUsize::new(0);

/// Sets the reserve aside; `false` if not even that is to be had.
pub fn prepare() -> bool {
    match sys::reserve(RESERVE) {
        Ok(base) => {
            RESERVE_AT.store(base as usize, Ordering::Relaxed);
            true
        }
        Err(_) => false,
    }
}

/// Whether the reserve was touched: nothing that needs new memory may start.
pub fn exhausted() -> bool {
    RESERVE_USED.load(Ordering::Relaxed) != 0
}

/// Whole pages from the kernel, or from the reserve.
fn pages(size: usize) -> *mut u8 {
    match sys::reserve(size) {
        Ok(base) => {
            HELD.fetch_add(size, Ordering::Relaxed);
            base
        }
        Err(_) => {
            let used = RESERVE_USED.fetch_add(size, Ordering::Relaxed);
            let base = RESERVE_AT.load(Ordering::Relaxed);
            if base == 0 || used + size > RESERVE {
                return core::ptr::null_mut();
            }
            (base + used) as *mut u8
        }
    }
}

fn is_reserve(base: *mut u8) -> bool {
    let reserve = RESERVE_AT.load(Ordering::Relaxed);
    (reserve..reserve + RESERVE).contains(&(base as usize))
}

fn give_back(base: *mut u8, size: usize) -> bool {
    if is_reserve(base) {
        return false;
    }
    HELD.fetch_sub(size, Ordering::Relaxed);
    // SAFETY: the range came from `pages` and its owner is done with it.
    unsafe { sys::unmap(base, size) };
    true
}

/// Makes whole pages more or fewer without copying them; `None` if that cannot be.
fn resize(base: *mut u8, size: usize, wanted: usize) -> Option<*mut u8> {
    if is_reserve(base) {
        return None;
    }
    // SAFETY: the range came from `pages`, and its owner hands it over.
    let moved = unsafe { sys::resize(base, size, wanted) }.ok()?;
    HELD.fetch_add(wanted.wrapping_sub(size), Ordering::Relaxed);
    Some(moved)
}

/// The kernel as a source of pages.
struct Pages;

// SAFETY: `alloc` hands out memory that nobody else has, `free` takes exactly that back.
unsafe impl dlmalloc::Allocator for Pages {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        (pages(size), size, 0)
    }

    fn remap(&self, _: *mut u8, _: usize, _: usize, _: bool) -> *mut u8 {
        core::ptr::null_mut()
    }

    fn free_part(&self, _: *mut u8, _: usize, _: usize) -> bool {
        false
    }

    fn free(&self, base: *mut u8, size: usize) -> bool {
        give_back(base, size)
    }

    fn can_release_part(&self, _: u32) -> bool {
        false
    }

    fn allocates_zeros(&self) -> bool {
        true
    }

    fn page_size(&self) -> usize {
        4096
    }
}

/// From this size on a block has pages of its own, which go back to the kernel with it: the arrays of a
/// snapshot's search are freed one by one, and their sum would count as the copy's memory.
const OWN_PAGES: usize = 1 << 20;

fn has_own_pages(layout: Layout) -> bool {
    layout.size() >= OWN_PAGES && layout.align() <= 4096
}

/// The Rust heap of this library.
pub struct Heap {
    inner: SpinLock<dlmalloc::Dlmalloc<Pages>>,
}

impl Heap {
    const fn new() -> Heap {
        Heap { inner: SpinLock::new(dlmalloc::Dlmalloc::new_with_allocator(Pages)) }
    }

    /// For the time of a fork: no other thread is in the middle of a change.
    pub fn hold(&self) {
        self.inner.hold();
    }

    /// After the fork, on both sides.
    pub fn release(&self) {
        self.inner.release();
    }
}

// SAFETY: dlmalloc meets the contract, and the lock makes each call exclusive; pages are nobody else's,
// and a layout tells which of the two a block came from.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if has_own_pages(layout) {
            return pages(layout.size());
        }
        // SAFETY: the layout is the caller's, with the caller's promises.
        unsafe { self.inner.lock().malloc(layout.size(), layout.align()) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if has_own_pages(layout) {
            // Zero already: neither the kernel nor the reserve gives a page twice.
            return pages(layout.size());
        }
        // SAFETY: as above.
        unsafe { self.inner.lock().calloc(layout.size(), layout.align()) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if has_own_pages(layout) {
            give_back(block, layout.size());
            return;
        }
        // SAFETY: the block came from this heap with this layout.
        unsafe { self.inner.lock().free(block, layout.size(), layout.align()) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise: not zero, and no overflow when it is rounded up.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        let own_pages = [has_own_pages(layout), has_own_pages(wanted)];
        if own_pages == [false, false] {
            // SAFETY: the block came from this heap with this layout.
            return unsafe {
                self.inner.lock().realloc(block, layout.size(), layout.align(), size)
            };
        }
        if own_pages == [true, true]
            && let Some(moved) = resize(block, layout.size(), size)
        {
            return moved;
        }
        // SAFETY: `wanted` is valid as the caller promises; both blocks are as long as is copied, and
        // different; the old one is given back as what it came from.
        unsafe {
            let new = self.alloc(wanted);
            if !new.is_null() {
                core::ptr::copy_nonoverlapping(block, new, layout.size().min(size));
                self.dealloc(block, layout);
            }
            new
        }
    }
}

/// The heap; in unit tests the test harness keeps the usual one.
#[cfg_attr(not(test), global_allocator)]
pub static HEAP: Heap = Heap::new();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_do_not_overlap() {
        let heap = Heap::new();
        let mut blocks = Vec::new();
        for round in 0..2000usize {
            let layout = Layout::from_size_align(1 + round * 37 % 60_000, 16).unwrap();
            // SAFETY: the size is not zero; the block is written within its size and freed once.
            unsafe {
                let block = heap.alloc(layout);
                assert!(!block.is_null() && (block as usize).is_multiple_of(16));
                block.write_bytes(round as u8, layout.size());
                blocks.push((block, layout, round as u8));
                if round % 3 == 0 {
                    let (block, layout, byte) = blocks.swap_remove(round % blocks.len());
                    assert!((0..layout.size()).all(|at| *block.add(at) == byte));
                    heap.dealloc(block, layout);
                }
            }
        }
    }

    #[test]
    fn blocks_keep_their_content_when_their_size_changes() {
        let heap = Heap::new();
        let sizes =
            [100, OWN_PAGES - 1, OWN_PAGES, 3 * OWN_PAGES, OWN_PAGES + 5, 4096, 2 * OWN_PAGES];
        let mut layout = Layout::from_size_align(16, 16).unwrap();
        // SAFETY: each block is written within its size, and freed with the layout it has then.
        unsafe {
            let mut block = heap.alloc_zeroed(layout);
            block.write_bytes(7, 16);
            for size in sizes {
                block = heap.realloc(block, layout, size);
                layout = Layout::from_size_align(size, 16).unwrap();
                assert!((0..16).all(|at| *block.add(at) == 7), "{size}");
                block.add(size - 1).write(1);
            }
            heap.dealloc(block, layout);
            let zeroed = heap.alloc_zeroed(layout);
            assert!((0..layout.size()).all(|at| *zeroed.add(at) == 0));
            heap.dealloc(zeroed, layout);
        }
    }
}
