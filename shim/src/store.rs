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

use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering::Relaxed, Ordering::Release};
use std::collections::VecDeque;

use pyshim_dump::layout::{
    BlobKind, Counters, ExtentKind, HEADER_LEN, Header, LOG_EXTENT_MAX, LOG_EXTENT_MIN, Lost,
    MAGIC, MAJOR, MAX_EXTENTS, MINOR, Moments, SEALED_LEN, sites_through,
};

use crate::packing;
use crate::spin::SpinLock;
use crate::sys::{self, Errno};

/// Sites that the arrays have room for.
pub const MAX_SITES: u32 = 1 << 18;

static HEADER: AtomicPtr<Header> = AtomicPtr::new(core::ptr::null_mut());
static COUNTERS: AtomicPtr<Counters> = AtomicPtr::new(core::ptr::null_mut());
static MOMENTS: AtomicPtr<Moments> = AtomicPtr::new(core::ptr::null_mut());
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

/// Whole records of the log, none of which refers to one in another batch.
pub struct Batch {
    /// The records.
    pub bytes: Vec<u8>,
    /// How many there are.
    pub count: u64,
}

/// Where the log has no room, so many bytes of records wait until it has.
const MOST_UNWRITTEN: usize = 8 << 20;

/// While there is no room, every new stack would ask for some.
const BACK_OFF_NS: u64 = 100_000_000;

// SAFETY: the raw pointer is a mapping of the process, not tied to a thread.
unsafe impl Send for Store {}

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
    let counters = sys::reserve_for_file(MAX_SITES as usize * size_of::<Counters>());
    let moments = sys::reserve_for_file(MAX_SITES as usize * size_of::<Moments>());
    let header = sys::reserve_for_file(HEADER_LEN);
    let (Ok(counters), Ok(moments), Ok(header)) = (counters, moments, header) else {
        return false;
    };
    COUNTERS.store(counters.cast(), Release);
    MOMENTS.store(moments.cast(), Release);
    HEADER.store(header.cast(), Release);
    true
}

/// Whether another site id can be given out as things are.
pub fn has_room() -> bool {
    site_count() < CAPACITY.load(Relaxed)
}

/// Where the arrays and the header lie: start and end.
pub fn ranges() -> [(usize, usize); 3] {
    let range = |at: usize, len: usize| (at, at + len);
    let sites = MAX_SITES as usize;
    [
        range(COUNTERS.load(Relaxed) as usize, sites * size_of::<Counters>()),
        range(MOMENTS.load(Relaxed) as usize, sites * size_of::<Moments>()),
        range(HEADER.load(Relaxed) as usize, HEADER_LEN),
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

/// The moments of a site.
#[inline(always)]
pub fn moments(site: u32) -> &'static Moments {
    // SAFETY: as for `counters`.
    unsafe { &*MOMENTS.load(Relaxed).add((site & (MAX_SITES - 1)) as usize) }
}

/// Live blocks and bytes of a site. Exact when the site is quiet.
pub fn live(site: u32) -> (u64, u64) {
    let counters = counters(site);
    let (held, free) = (&counters.held, &counters.free);
    // Freed before allocated: a block that comes and goes in between is then counted live, never negative.
    let freed_blocks =
        held.freed_blocks.load(Relaxed).wrapping_add(free.freed_blocks.load(Relaxed));
    let freed_bytes = held.freed_bytes.load(Relaxed).wrapping_add(free.freed_bytes.load(Relaxed));
    let blocks =
        held.allocated_blocks.load(Relaxed).wrapping_add(free.allocated_blocks.load(Relaxed));
    let bytes = held.allocated_bytes.load(Relaxed).wrapping_add(free.allocated_bytes.load(Relaxed));
    (blocks.saturating_sub(freed_blocks), bytes.saturating_sub(freed_bytes))
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

impl Store {
    const fn new() -> Store {
        Store {
            path: Vec::new(),
            identity: (0, 0),
            array_extents: 0,
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

    /// Whether there is a file.
    pub fn exists(&self) -> bool {
        !self.path.is_empty()
    }

    /// Creates the file; counters that are not zero by now are kept.
    pub fn create(&mut self, path: &[u8], identity: &Identity) -> Result<(), Failure> {
        let (path, fd) = create_new(path)?;
        let made = self.fill(fd, identity);
        let known = sys::identity(fd);
        sys::close(fd);
        match (made, known) {
            (Ok(()), Some(known)) => {
                self.path = path;
                self.identity = known;
                Ok(())
            }
            (result, _) => {
                sys::unlink(&path);
                self.forget();
                result.and(Err(Failure::Moved))
            }
        }
    }

    fn fill(&mut self, fd: i32, identity: &Identity) -> Result<(), Failure> {
        let header = header();
        header.file_len.store(0, Relaxed);
        let at = self.grow_file(fd, HEADER_LEN as u64)?;
        let copy = {
            // SAFETY: the header is HEADER_LEN bytes of plain memory.
            let bytes = unsafe {
                core::slice::from_raw_parts(HEADER.load(Relaxed).cast::<u8>(), HEADER_LEN)
            };
            bytes.to_vec()
        };
        // SAFETY: the header page is ours; the same bytes are put back below. References to it
        // are to atomics, which stay mapped throughout.
        unsafe { sys::map_file_over(HEADER.load(Relaxed).cast(), HEADER_LEN, fd, at)? };
        // SAFETY: the page is writable, `copy` has HEADER_LEN bytes, and nobody else records yet
        // (creation runs before recording starts, or in a child of one thread).
        unsafe {
            core::ptr::copy_nonoverlapping(copy.as_ptr(), HEADER.load(Relaxed).cast(), HEADER_LEN);
        }
        self.array_extents = 0;
        self.log_extents = 0;
        self.log_used = 0;
        header.extent_count.store(0, Relaxed);
        header.log_len.store(0, Relaxed);
        while self.file_sites == 0 || self.file_sites < header.site_count.load(Relaxed) {
            self.grow_arrays(fd)?;
        }
        self.grow_log(fd)?;
        identity.write();
        Ok(())
    }

    /// Adds `len` bytes to the file, with room on disk. Returns where they start.
    fn grow_file(&mut self, fd: i32, len: u64) -> Result<u64, Failure> {
        let header = header();
        let at = header.file_len.load(Relaxed);
        if at + len > sys::file_size_limit() {
            return Err(Failure::SizeLimit);
        }
        sys::allocate(fd, at, len)?;
        header.file_len.store(at + len, Release);
        Ok(at)
    }

    fn add_extent(
        &mut self,
        kind: ExtentKind,
        index: u32,
        offset: u64,
        len: u64,
    ) -> Result<(), Failure> {
        let header = header();
        let count = header.extent_count.load(Relaxed);
        let extent = header.extents.get(count as usize).ok_or(Failure::SizeLimit)?;
        extent.kind.store(kind as u32, Relaxed);
        extent.index.store(index, Relaxed);
        extent.offset.store(offset, Relaxed);
        extent.len.store(len, Relaxed);
        header.extent_count.store(count + 1, Release);
        Ok(())
    }

    /// Doubles the number of sites that the file holds.
    fn grow_arrays(&mut self, fd: i32) -> Result<(), Failure> {
        let index = self.array_extents;
        let first = if index == 0 { 0 } else { sites_through(index - 1) } as usize;
        let sites = sites_through(index) as usize - first;
        if first + sites > MAX_SITES as usize {
            return Err(Failure::SizeLimit);
        }
        // Room for both before either is listed: the reader wants as many of one as of the other.
        if header().extent_count.load(Relaxed) as usize + 2 > MAX_EXTENTS {
            return Err(Failure::SizeLimit);
        }
        let counters = Part::<Counters>::new(&COUNTERS, first, sites);
        let moments = Part::<Moments>::new(&MOMENTS, first, sites);
        let counters_at = self.grow_file(fd, counters.len as u64)?;
        let moments_at = self.grow_file(fd, moments.len as u64)?;
        // Sites that are counted before there is a file.
        let used = (header().site_count.load(Relaxed) as usize).saturating_sub(first).min(sites);
        counters.map(used, fd, counters_at)?;
        moments.map(used, fd, moments_at)?;
        self.add_extent(ExtentKind::Counters, index, counters_at, counters.len as u64)?;
        self.add_extent(ExtentKind::Moments, index, moments_at, moments.len as u64)?;
        self.array_extents = index + 1;
        self.file_sites = (first + sites) as u32;
        CAPACITY.store(self.file_sites, Release);
        Ok(())
    }

    fn grow_log(&mut self, fd: i32) -> Result<(), Failure> {
        // Small ones as long as there are few: what is not used of the last one is lost.
        let doublings = self.log_extents.min(4) + self.log_extents.saturating_sub(12).min(4);
        let len = (LOG_EXTENT_MIN << doublings).min(LOG_EXTENT_MAX);
        let at = self.grow_file(fd, len)?;
        let window = sys::reserve_inaccessible(len as usize)?;
        // SAFETY: the window was reserved just now and nobody knows it.
        unsafe { sys::map_file_over(window, len as usize, fd, at)? };
        self.add_extent(ExtentKind::Log, self.log_extents, at, len)?;
        if !self.log.is_null() {
            // SAFETY: the old window is full, and only this lock's holder uses it.
            unsafe { sys::unmap(self.log, self.log_capacity) };
        }
        self.log_extents += 1;
        self.log = window;
        self.log_capacity = len as usize;
        self.log_used = 0;
        Ok(())
    }

    fn with_file<T>(
        &mut self,
        work: impl FnOnce(&mut Store, i32) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        if self.path.is_empty() {
            return Err(Failure::NoFile);
        }
        let fd = sys::open(&self.path, libc::O_RDWR | libc::O_NOFOLLOW, 0)?;
        let result = if sys::identity(fd) == Some(self.identity) {
            work(self, fd)
        } else {
            Err(Failure::Moved)
        };
        sys::close(fd);
        result
    }

    /// Makes sure that another site id can be given out.
    pub fn make_room(&mut self) -> bool {
        has_room() || self.grow(Store::grow_arrays).is_ok()
    }

    /// Makes the file larger, or notes that it cannot be.
    fn grow(&mut self, more: fn(&mut Store, i32) -> Result<(), Failure>) -> Result<(), Failure> {
        let now = sys::monotonic_ns();
        if now < self.again_ns {
            return Err(Failure::NoRoom);
        }
        let grown = self.with_file(more);
        if grown.is_err() {
            lose(Lost::Growth);
            self.again_ns = now + BACK_OFF_NS;
        }
        grown
    }

    /// Appends records. What finds no room counts as lost, and is tried again with the next batch.
    pub fn append(&mut self, batch: Batch) {
        let lost = &header().lost[Lost::Definitions as usize];
        lost.fetch_add(batch.count, Relaxed);
        if self.unwritten_bytes + batch.bytes.len() > MOST_UNWRITTEN {
            return;
        }
        self.unwritten_bytes += batch.bytes.len();
        self.unwritten.push_back(batch);
        while let Some(batch) = self.unwritten.pop_front() {
            if self.write(&batch.bytes).is_err() {
                return self.unwritten.push_front(batch);
            }
            self.unwritten_bytes -= batch.bytes.len();
            lost.fetch_sub(batch.count, Relaxed);
        }
    }

    /// Writes the records, or what is left of them after it failed.
    fn write(&mut self, records: &[u8]) -> Result<(), Failure> {
        let header = header();
        let committed = header.log_len.load(Relaxed);
        let mut rest = records.get(self.copied..).unwrap_or_default();
        while !rest.is_empty() {
            let room = self.log_capacity - self.log_used;
            if room == 0 {
                self.copied = records.len() - rest.len();
                self.grow(Store::grow_log)?;
                continue;
            }
            let (now, later) = rest.split_at(rest.len().min(room));
            // SAFETY: the window has `room` writable bytes from here on, and the lock is held.
            unsafe {
                core::ptr::copy_nonoverlapping(
                    now.as_ptr(),
                    self.log.add(self.log_used),
                    now.len(),
                );
            }
            self.log_used += now.len();
            rest = later;
        }
        self.copied = 0;
        // Only now does the reader see them.
        header.log_len.store(committed + records.len() as u64, Release);
        Ok(())
    }

    /// Replaces a blob: the copy that is not read is written, then the two change places.
    pub fn write_blob(&mut self, kind: BlobKind, bytes: &[u8]) -> Result<(), Failure> {
        let slot = &header().blobs[kind as usize];
        let active = slot.active.load(Relaxed);
        let index = if active == 1 { 1 } else { 0 };
        let copy = &slot.copies[index];
        self.with_file(|store, fd| {
            if copy.capacity.load(Relaxed) < bytes.len() as u64 {
                let len = bytes.len() as u64;
                // Those that are replaced come back larger.
                let more = if kind == BlobKind::FinalCensus { 0 } else { len / 2 };
                let capacity = (len + more).next_multiple_of(4096);
                let at = store.grow_file(fd, capacity)?;
                copy.offset.store(at, Relaxed);
                copy.capacity.store(capacity, Relaxed);
            }
            sys::write_at(fd, copy.offset.load(Relaxed), bytes)?;
            Ok(())
        })?;
        copy.len.store(bytes.len() as u64, Relaxed);
        copy.crc.store(crc32fast::hash(bytes), Relaxed);
        slot.active.store(index as u64 + 1, Release);
        Ok(())
    }

    /// Room for a heap snapshot of up to `len` bytes: where it may be written by a copy of this
    /// process. It takes no disk before that.
    pub fn room_for_heap(&mut self, len: usize) -> Result<HeapPlace, Failure> {
        let slot = &header().beside.heap;
        let index = if slot.active.load(Relaxed) == 1 { 1 } else { 0 };
        let copy = &slot.copies[index];
        if copy.capacity.load(Relaxed) < len as u64 {
            let len = len.next_multiple_of(4096) as u64;
            self.with_file(|_, fd| {
                let header = header();
                let at = header.file_len.load(Relaxed);
                if at + len > sys::file_size_limit() {
                    return Err(Failure::SizeLimit);
                }
                sys::truncate(fd, at + len)?;
                header.file_len.store(at + len, Release);
                copy.offset.store(at, Relaxed);
                copy.capacity.store(len, Relaxed);
                Ok(())
            })?;
        }
        Ok(HeapPlace { path: self.path.clone(), identity: self.identity, index })
    }

    /// Sums everything up, once nothing will change any more. A thread that was in the middle of
    /// counting gets time to finish; if the sums still differ, the dump stays without one.
    pub fn seal(&mut self) {
        let header = header();
        header.sealed.store(1, Relaxed);
        header.sealed_crc.store(0, Relaxed);
        for _ in 0..5 {
            let sum = self.sum();
            sys::yield_now();
            if self.sum() == sum {
                return header.sealed_crc.store(sum, Release);
            }
        }
        header.sealed.store(0, Release);
    }

    fn sum(&self) -> u32 {
        let mut crc = crc32fast::Hasher::new();
        // SAFETY: the header is HEADER_LEN readable bytes, and this is its beginning.
        crc.update(unsafe {
            core::slice::from_raw_parts(HEADER.load(Relaxed).cast::<u8>(), SEALED_LEN)
        });
        for index in 0..self.array_extents {
            let first = if index == 0 { 0 } else { sites_through(index - 1) } as usize;
            let sites = sites_through(index) as usize - first;
            crc.update(Part::<Counters>::new(&COUNTERS, first, sites).bytes());
            crc.update(Part::<Moments>::new(&MOMENTS, first, sites).bytes());
        }
        crc.finalize()
    }

    /// After [`Store::seal`], at the end of the process: the dump may shrink. `alone`: no copy of the
    /// process is at work on a snapshot.
    pub fn finish(&self, alone: bool) {
        if header().sealed.load(Relaxed) != 0 && self.exists() {
            packing::process_is_done(&self.path, self.identity, alone);
        }
    }

    /// Undoes [`Store::seal`]: the process lives on (a failed `exec`).
    pub fn unseal(&mut self) {
        header().sealed.store(0, Release);
    }

    /// In a forked child: lets go of the parent's file. Everything counted from
    /// now on is the child's own.
    pub fn forget(&mut self) {
        if !leave_file() {
            crate::life::stop();
        }
        if !self.log.is_null() {
            // SAFETY: the window is ours alone.
            unsafe { sys::unmap(self.log, self.log_capacity) };
        }
        // The old path's memory goes back to our own heap.
        *self = Store::new();
        // Until there is a file, the memory behind the arrays holds all that may come.
        CAPACITY.store(MAX_SITES, Relaxed);
    }
}

/// In a forked child: what it counts from now on is not its parent's. `false` if that failed.
pub fn leave_file() -> bool {
    let maps = [
        (COUNTERS.load(Relaxed).cast(), MAX_SITES as usize * size_of::<Counters>()),
        (MOMENTS.load(Relaxed).cast(), MAX_SITES as usize * size_of::<Moments>()),
        (HEADER.load(Relaxed).cast(), HEADER_LEN),
    ];
    // SAFETY: the ranges are our own, made of atomics for which zero is valid; the child has one
    // thread, which is here.
    maps.into_iter().all(|(at, len)| unsafe { sys::map_zero_over(at, len).is_ok() })
}

/// Where a heap snapshot may be written.
pub struct HeapPlace {
    path: Vec<u8>,
    identity: (u64, u64),
    index: usize,
}

impl HeapPlace {
    /// Bytes that it holds.
    pub fn room(&self) -> usize {
        header().beside.heap.copies[self.index].capacity.load(Relaxed) as usize
    }

    /// Writes a snapshot and makes it the one that is read.
    pub fn write(&self, bytes: &[u8]) -> bool {
        let slot = &header().beside.heap;
        let copy = &slot.copies[self.index];
        let Ok(fd) = sys::open(&self.path, libc::O_RDWR | libc::O_NOFOLLOW, 0) else {
            return false;
        };
        let at = copy.offset.load(Relaxed);
        let written = sys::identity(fd) == Some(self.identity)
            && bytes.len() <= self.room()
            && sys::write_at(fd, at, bytes).is_ok();
        sys::close(fd);
        if written {
            copy.len.store(bytes.len() as u64, Relaxed);
            copy.crc.store(crc32fast::hash(bytes), Relaxed);
            slot.active.store(self.index as u64 + 1, Release);
        }
        written
    }

    /// Nothing more will be written.
    pub fn finish(&self) {
        packing::copy_is_done(&self.path, self.identity);
    }
}

/// A part of one of the arrays.
struct Part<T> {
    at: *mut T,
    /// Its length in bytes.
    len: usize,
}

impl<T> Part<T> {
    /// Of sites that the array has.
    fn new(array: &AtomicPtr<T>, first: usize, sites: usize) -> Part<T> {
        let at = array.load(Relaxed).wrapping_add(first);
        Part { at, len: sites * size_of::<T>() }
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

/// What does not change about a dump.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// The process.
    pub pid: u32,
    /// Its parent.
    pub parent_pid: u32,
    /// Now, in Unix time.
    pub started_unix_ns: u64,
    /// Field 22 of `/proc/self/stat`.
    pub started_ticks: u64,
    /// Mean bytes between samples; 0: exact.
    pub sample_mean: u64,
    /// A forked child.
    pub forked: bool,
}

impl Identity {
    fn write(&self) {
        let at = HEADER.load(Relaxed);
        // SAFETY: the header page is writable, and only its creator, who runs this alone, writes
        // these fields; no reference to them is alive in the shim, which never reads them.
        unsafe {
            (*at).magic = MAGIC;
            (*at).major = MAJOR;
            (*at).minor = MINOR;
            (*at).header_len = HEADER_LEN as u32;
            (*at).pid = self.pid;
            (*at).parent_pid = self.parent_pid;
            (*at).started_unix_ns = self.started_unix_ns;
            (*at).started_ticks = self.started_ticks;
            (*at).sample_mean = self.sample_mean;
            (*at).forked = u32::from(self.forked);
            let identity = core::slice::from_raw_parts(
                at.cast::<u8>(),
                core::mem::offset_of!(Header, identity_crc),
            );
            (*at).identity_crc = crc32fast::hash(identity);
        }
    }
}

/// Creates a file that was not there: `path`, or the first of `path.1`, `path.2`, … that is free.
fn create_new(path: &[u8]) -> Result<(Vec<u8>, i32), Failure> {
    for attempt in 0..1000u32 {
        let mut name = path.to_vec();
        if attempt > 0 {
            name.extend_from_slice(format!(".{attempt}").as_bytes());
        }
        name.push(0);
        let flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW;
        match sys::open(&name, flags, 0o600) {
            Ok(fd) => return Ok((name, fd)),
            Err(Errno(libc::EEXIST)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Failure::System(Errno(libc::EEXIST)))
}
