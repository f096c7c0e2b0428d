//! The dump file: arrays and header mapped shared, log and blobs beside them.
//!
//! The arrays always have memory behind them, so counting never asks whether
//! there is a file. Where the file holds an array, its pages are mapped over
//! that memory, with room on disk reserved first: a full disk then shows as a
//! failed reservation here and not as a SIGBUS in the program.
//!
//! No descriptor is kept: the program may close any of them and open its own
//! file under the same number. The file is opened anew by its absolute path,
//! and its identity checked, each time that it must grow.

mod blobs;
mod file;
mod further;
mod log;
mod seal;
mod tally;

use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering::Relaxed, Ordering::Release};
use std::collections::VecDeque;

use pyshim_dump::layout::{
    Counters, Further, Growth, HEADER_LEN, Header, LOG_EXTENT_MAX, LOG_EXTENT_MIN, Lost, Moments,
};

use crate::guard::Thread;
use crate::park;
use crate::spin::SpinLock;
use crate::sys::{self, Errno};

pub use blobs::HeapPlace;
pub use file::Identity;
use further::MAX_FURTHER;
pub use further::{be_alone, enter, leave};
pub use log::Batch;
pub use tally::{
    Moment, Side, add_any, add_wide, all_totals, counter, left, live, note_moment, take_wide,
};

/// Sites that the arrays have room for.
pub const MAX_SITES: u32 = 1 << 18;

static HEADER: AtomicPtr<Header> = AtomicPtr::new(core::ptr::null_mut());
static COUNTERS: AtomicPtr<Counters> = AtomicPtr::new(core::ptr::null_mut());
static MOMENTS: AtomicPtr<Moments> = AtomicPtr::new(core::ptr::null_mut());
/// Grows with the sites that need one, and the threads that want one of their own ([`further`]).
static FURTHER: AtomicPtr<Further> = AtomicPtr::new(core::ptr::null_mut());
/// Elements of it that the file holds.
static FURTHER_CAPACITY: AtomicU32 = AtomicU32::new(0);
/// Sites that may be given out: those whose counters the file holds.
static CAPACITY: AtomicU32 = AtomicU32::new(0);

/// The file, for whoever makes it grow.
pub static STORE: SpinLock<Store> = SpinLock::new(Store::new());

/// See the module.
pub struct Store {
    /// Absolute path, ending in a zero byte; empty: there is no file.
    path: Vec<u8>,
    identity: (u64, u64),
    array_extents: u32,
    further_extents: u32,
    /// Sites whose counters the file holds.
    file_sites: u32,
    log_extents: u32,
    log: *mut u8,
    log_capacity: usize,
    log_used: usize,
    /// When to try again to make the file grow after that failed (`sys::monotonic_ns`).
    again_ns: u64,
    /// What the log had no room for, and the bytes of all.
    unwritten: VecDeque<Batch>,
    unwritten_bytes: usize,
    /// So many bytes of the first of these lie in the log already, beyond what is read of it.
    copied: usize,
}

// SAFETY: the raw pointer is a mapping of the process, not tied to a thread.
unsafe impl Send for Store {}

impl Store {
    const fn new() -> Store {
        Store {
            path: Vec::new(),
            identity: (0, 0),
            array_extents: 0,
            further_extents: 0,
            file_sites: 0,
            log_extents: 0,
            log: core::ptr::null_mut(),
            log_capacity: 0,
            log_used: 0,
            again_ns: 0,
            unwritten: VecDeque::new(),
            unwritten_bytes: 0,
            copied: 0,
        }
    }

    /// Whether there is a file, and it is this process's.
    pub fn exists(&self) -> bool {
        !self.path.is_empty() && !park::is_alone()
    }

    /// In a forked child: lets go of the parent's file. Everything counted from
    /// now on is the child's own.
    pub fn forget(&mut self) {
        if !leave_file() {
            crate::life::stop();
        }
        if !self.log.is_null() {
            LOG_WINDOW.store(0, Relaxed);
            // SAFETY: the window is ours alone.
            unsafe { sys::unmap(self.log, self.log_capacity) };
        }
        // The old path's memory goes back to our own heap.
        *self = Store::new();
        // Until there is a file, the memory behind the arrays holds all that may come.
        CAPACITY.store(MAX_SITES, Relaxed);
        FURTHER_CAPACITY.store(MAX_FURTHER, Relaxed);
    }
}

/// Why there is no dump, or why it did not grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The system said no.
    System(Errno),
    /// The file is not where it was.
    Moved,
    /// The limit on file sizes leaves no room.
    SizeLimit,
    /// There is no file.
    NoFile,
    /// There was no room a moment ago.
    NoRoom,
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Failure {
        Failure::System(errno)
    }
}

/// Sets up the memory that is counted in; `false` if there is none.
pub fn prepare() -> bool {
    fn reserve<T>(array: &AtomicPtr<T>, items: usize) -> bool {
        let memory = sys::reserve_for_file(items * size_of::<T>());
        memory.map(|memory| array.store(memory.cast(), Release)).is_ok()
    }
    let sites = MAX_SITES as usize;
    // A header is no more than its page.
    let header = sys::reserve_for_file(HEADER_LEN);
    header.map(|header| HEADER.store(header.cast(), Release)).is_ok()
        && reserve(&COUNTERS, sites)
        && reserve(&MOMENTS, sites)
        && reserve(&FURTHER, MAX_FURTHER as usize)
        && further::prepare()
}

/// In a forked child: what it counts from now on is not its parent's. `false` if that failed.
pub fn leave_file() -> bool {
    let mut maps = ranges().into_iter().map(|(start, end)| (start as *mut u8, end - start));
    // SAFETY: the ranges are our own, made of atomics for which zero is valid; the child has one
    // thread, which is here.
    maps.all(|(at, len)| unsafe { sys::map_zero_over(at, len).is_ok() }) && further::forget()
}

/// The same in a child that was forked inside the shim, and comes back to whatever `thread` was doing
/// there: nothing of that may reach the parent's file.
pub fn abandon_file(thread: &Thread) {
    leave_file();
    // (No file can be so large, with some more.)
    header().file_len.store(i64::MAX as u64, Relaxed);
    let window = LOG_WINDOW.load(Relaxed);
    if window != 0 {
        let (at, len) = (window & !4095, 1 << (window & 4095));
        // SAFETY: the window is the log's alone, of which any bytes are valid; nobody else is here.
        let _ = unsafe { sys::map_zero_over(at as *mut u8, len) };
    }
    let fd = thread.dump.get() - 1;
    if fd >= 0 {
        sys::make_useless(fd);
    }
}

/// Where the log's window is, for whoever cannot take the lock: its address, which is a page's, and as
/// what power of two it is long; 0: there is none.
static LOG_WINDOW: AtomicUsize = AtomicUsize::new(0);
const _: () = assert!(LOG_EXTENT_MIN.is_power_of_two() && LOG_EXTENT_MAX.is_power_of_two());

/// Whether another site id can be given out as things are.
pub fn has_room() -> bool {
    site_count() < CAPACITY.load(Relaxed) && has_further_room()
}

/// Whether the file holds all of [`Further`] that may be needed until somebody asks again.
fn has_further_room() -> bool {
    further_fits(header().further_count.load(Relaxed))
}

/// Whether it holds one more than are `used`, and some for sites that are to come or need their first.
fn further_fits(used: u32) -> bool {
    (used + LEAST_FURTHER + used / 16).min(MAX_FURTHER) <= FURTHER_CAPACITY.load(Relaxed)
}

/// Each new site may need one, and older ones at any time.
const LEAST_FURTHER: u32 = 32;

/// Where the arrays and the header lie: start and end.
pub fn ranges() -> [(usize, usize); 4] {
    fn range<T>(array: &AtomicPtr<T>, len: usize) -> (usize, usize) {
        let at = array.load(Relaxed) as usize;
        (at, at + len)
    }
    let sites = MAX_SITES as usize;
    [
        range(&COUNTERS, sites * size_of::<Counters>()),
        range(&MOMENTS, sites * size_of::<Moments>()),
        range(&FURTHER, MAX_FURTHER as usize * size_of::<Further>()),
        range(&HEADER, HEADER_LEN),
    ]
}

/// The header. [`prepare`] succeeded before anything is recorded.
#[inline(always)]
pub fn header() -> &'static Header {
    // SAFETY: HEADER_LEN bytes, mapped until the end, all atomics; zero is valid for each.
    unsafe { &*HEADER.load(Relaxed) }
}

/// The counters of a site.
#[inline(always)]
pub fn counters(site: u32) -> &'static Counters {
    // SAFETY: MAX_SITES items are mapped until the end; the mask keeps the index below.
    unsafe { &*COUNTERS.load(Relaxed).add((site & (MAX_SITES - 1)) as usize) }
}

/// Sites given out so far.
pub fn site_count() -> u32 {
    header().site_count.load(Relaxed)
}

/// Counts something that was not recorded.
#[cold]
pub fn lose(reason: Lost) {
    header().lost[reason as usize].fetch_add(1, Relaxed);
}

/// A part of one of the arrays.
struct Part<T> {
    at: *mut T,
    /// Its length in bytes.
    len: usize,
}

impl<T> Part<T> {
    /// That of an extent, as far as the array has it.
    fn new(array: &AtomicPtr<T>, growth: Growth, index: u32) -> Part<T> {
        let (first, end) = (growth.before(index) as usize, growth.through(index) as usize);
        let at = array.load(Relaxed).wrapping_add(first);
        Part { at, len: (end - first) * size_of::<T>() }
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: the array has these sites (`new`) and stays mapped to the end.
        unsafe { core::slice::from_raw_parts(self.at.cast(), self.len) }
    }

    /// Maps a piece of the file over it and puts back what was there in its first `used` items; in the
    /// others nothing was.
    fn map(&self, used: usize, fd: i32, offset: u64) -> Result<(), Failure> {
        let at: *mut u8 = self.at.cast();
        let used = (used * size_of::<T>()).min(self.len);
        // SAFETY: `prepare` reserved the arrays, `grow_arrays` keeps within them; they stay readable and
        // writable, and any bytes are valid for their atomics. What another thread counts between
        // the two copies is lost; the caller of `create` notes that where there can be one.
        unsafe {
            let before = core::slice::from_raw_parts(at, used).to_vec();
            sys::map_file_over(at, self.len, fd, offset)?;
            core::ptr::copy_nonoverlapping(before.as_ptr(), at, used);
        }
        Ok(())
    }
}
