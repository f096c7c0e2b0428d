//! How the file comes to be, and grows.

use core::sync::atomic::Ordering::{Relaxed, Release};

use pyshim_dump::layout::{
    ExtentKind, FURTHER as FURTHER_GROWTH, HEADER_LEN, Header, LOG_EXTENT_MAX, LOG_EXTENT_MIN,
    Lost, MAGIC, MAJOR, MAX_EXTENTS, MINOR, SITES,
};

use super::{
    CAPACITY, COUNTERS, FURTHER, FURTHER_CAPACITY, Failure, HEADER, LOG_WINDOW, MAX_FURTHER,
    MAX_SITES, MOMENTS, Part, Store, has_further_room, header, lose, site_count,
};
use crate::guard::thread;
use crate::sys::{self, Errno};
use crate::{collector, park, peak};

/// Of one extent no more pages are taken beforehand than these bytes have.
const MOST_TAKEN: u64 = 1 << 20;

/// While there is no room, every new stack would ask for some.
const BACK_OFF_NS: u64 = 100_000_000;

/// A descriptor of the dump for the time of a call.
struct Opened(i32);

impl Opened {
    fn new(fd: i32) -> Opened {
        thread().dump.set(fd + 1);
        // A signal handler may have forked, or forks, between any two steps.
        if park::is_alone() {
            sys::make_useless(fd);
        }
        Opened(fd)
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        thread().dump.set(0);
        sys::close(self.0);
    }
}

impl Store {
    /// Creates the file; counters that are not zero by now are kept.
    pub fn create(&mut self, path: &[u8], identity: &Identity) -> Result<(), Failure> {
        match self.create_nameless(path, identity) {
            Some(made) => made,
            None => self.create_named(path, identity),
        }
    }

    /// Creates it without a name, which it gets when it is whole: a process that is killed meanwhile leaves
    /// nothing. `None`: not here (not every file system can, and it takes `/proc`).
    fn create_nameless(&mut self, path: &[u8], identity: &Identity) -> Option<Result<(), Failure>> {
        let folder = match path.iter().rposition(|&byte| byte == b'/') {
            Some(at) => path.get(..=at).unwrap_or_default().to_vec(),
            None => b"./".to_vec(),
        };
        let flags = libc::O_RDWR | libc::O_TMPFILE;
        let fd = sys::open(&[&folder[..], b"\0"].concat(), flags, 0o600).ok()?;
        let opened = Opened::new(fd);
        let made = self.fill(fd, identity);
        let known = sys::identity(fd);
        let named = match made {
            Ok(()) if !park::is_alone() => free_name(path, |name| sys::name_file(fd, name)),
            Ok(()) => Err(Failure::NoFile),
            Err(failure) => Err(failure),
        };
        drop(opened);
        match (named, known) {
            (Ok((name, ())), Some(known)) => {
                self.path = name;
                self.identity = known;
                Some(self.with_file(|store, fd| store.map_again(fd)))
            }
            (Err(Failure::System(_)) | Ok(_), _) => {
                self.forget();
                None
            }
            (Err(failure), _) => {
                self.forget();
                Some(Err(failure))
            }
        }
    }

    /// Maps all of a file that was just created once more, by its name: the map of the process, by which others find
    /// the dump, tells a mapping by the name that the file had then.
    fn map_again(&mut self, fd: i32) -> Result<(), Failure> {
        // SAFETY: the pieces are mapped where they are mapped already, by the same bytes, and nobody else
        // records yet (creation runs before recording starts, or in a child of one thread).
        let map = |at: *mut u8, len: usize, offset: u64| unsafe {
            sys::map_file_over(at, len, fd, offset)
        };
        map(HEADER.load(Relaxed).cast(), HEADER_LEN, 0)?;
        let count = header().extent_count.load(Relaxed) as usize;
        for extent in header().extents.iter().take(count) {
            let (kind, index) = (extent.kind.load(Relaxed), extent.index.load(Relaxed));
            let at: *mut u8 = match kind {
                it if it == ExtentKind::Counters as u32 => {
                    Part::new(&COUNTERS, SITES, index).at.cast()
                }
                it if it == ExtentKind::Moments as u32 => {
                    Part::new(&MOMENTS, SITES, index).at.cast()
                }
                it if it == ExtentKind::Further as u32 => {
                    Part::new(&FURTHER, FURTHER_GROWTH, index).at.cast()
                }
                _ => self.log,
            };
            map(at, extent.len.load(Relaxed) as usize, extent.offset.load(Relaxed))?;
        }
        Ok(())
    }

    fn create_named(&mut self, path: &[u8], identity: &Identity) -> Result<(), Failure> {
        let flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW;
        let (path, fd) = free_name(path, |name| sys::open(name, flags, 0o600))?;
        let opened = Opened::new(fd);
        let made = self.fill(fd, identity);
        let known = sys::identity(fd);
        drop(opened);
        match (made, known) {
            (Ok(()), Some(known)) => {
                self.path = path;
                self.identity = known;
                Ok(())
            }
            (result, _) => {
                if !park::is_alone() {
                    sys::unlink(&path);
                }
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
        self.further_extents = 0;
        while self.file_sites == 0 || self.file_sites < header.site_count.load(Relaxed) {
            self.grow_arrays(fd)?;
        }
        FURTHER_CAPACITY.store(0, Relaxed);
        while !has_further_room() {
            self.grow_further(fd)?;
        }
        self.grow_log(fd)?;
        identity.write();
        Ok(())
    }

    /// Adds `len` bytes to the file, with room on disk. Returns where they start.
    pub(super) fn grow_file(&mut self, fd: i32, len: u64) -> Result<u64, Failure> {
        let header = header();
        let at = header.file_len.load(Relaxed);
        if at + len > sys::file_size_limit() {
            return Err(Failure::SizeLimit);
        }
        sys::allocate(fd, at, len)?;
        header.file_len.store(at + len, Release);
        Ok(at)
    }

    /// The same for what will be mapped, and written to from its start on. A page of a file costs 4.2 us
    /// when it is first touched; written beforehand, many at a time, 0.8 us in all.
    fn grow_mapped(&mut self, fd: i32, len: u64) -> Result<u64, Failure> {
        let at = self.grow_file(fd, len)?;
        // (It has its room: whatever else goes wrong here, it serves.)
        let _ = sys::write_zeros(fd, at, len.min(MOST_TAKEN));
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

    /// Makes the file hold more sites.
    fn grow_arrays(&mut self, fd: i32) -> Result<(), Failure> {
        let index = self.array_extents;
        let (first, end) = (SITES.before(index) as usize, SITES.through(index) as usize);
        if end > MAX_SITES as usize {
            return Err(Failure::SizeLimit);
        }
        // Room for both before either is listed: the reader wants as many of one as of the other.
        if header().extent_count.load(Relaxed) as usize + 2 > MAX_EXTENTS {
            return Err(Failure::SizeLimit);
        }
        let counters = Part::new(&COUNTERS, SITES, index);
        let moments = Part::new(&MOMENTS, SITES, index);
        let counters_at = self.grow_mapped(fd, counters.len as u64)?;
        let moments_at = self.grow_mapped(fd, moments.len as u64)?;
        // Sites that are counted before there is a file.
        let used = (header().site_count.load(Relaxed) as usize).saturating_sub(first);
        counters.map(used, fd, counters_at)?;
        moments.map(used, fd, moments_at)?;
        self.add_extent(ExtentKind::Counters, index, counters_at, counters.len as u64)?;
        self.add_extent(ExtentKind::Moments, index, moments_at, moments.len as u64)?;
        self.array_extents = index + 1;
        self.file_sites = end as u32;
        CAPACITY.store(self.file_sites, Release);
        Ok(())
    }

    /// Makes the file hold more of [`FURTHER`].
    fn grow_further(&mut self, fd: i32) -> Result<(), Failure> {
        let index = self.further_extents;
        let (first, end) = (FURTHER_GROWTH.before(index), FURTHER_GROWTH.through(index));
        if end > u64::from(MAX_FURTHER) {
            return Err(Failure::SizeLimit);
        }
        let part = Part::new(&FURTHER, FURTHER_GROWTH, index);
        let at = self.grow_mapped(fd, part.len as u64)?;
        // Mostly none: they are given out before the file has room for them only where many sites need
        // one at a time, as in what a thread frees after the interpreter's end. Then others may be counting there, if there are any.
        let used = (header().further_count.load(Relaxed) as usize).saturating_sub(first as usize);
        let is_alone = peak::THREADS.load(Relaxed) <= 1 && !collector::is_this_thread();
        if used > 0 && self.exists() && !is_alone {
            header().inexact.store(1, Relaxed);
        }
        part.map(used, fd, at)?;
        self.add_extent(ExtentKind::Further, index, at, part.len as u64)?;
        self.further_extents = index + 1;
        FURTHER_CAPACITY.store(end as u32, Release);
        Ok(())
    }

    pub(super) fn grow_log(&mut self, fd: i32) -> Result<(), Failure> {
        // Small ones as long as there are few: what is not used of the last one is lost.
        let doublings = self.log_extents.min(4) + self.log_extents.saturating_sub(12).min(4);
        let len = (LOG_EXTENT_MIN << doublings).min(LOG_EXTENT_MAX);
        let at = self.grow_mapped(fd, len)?;
        let window = sys::reserve_inaccessible(len as usize)?;
        // SAFETY: the window was reserved just now and nobody knows it.
        unsafe { sys::map_file_over(window, len as usize, fd, at)? };
        self.add_extent(ExtentKind::Log, self.log_extents, at, len)?;
        LOG_WINDOW.store(window as usize | len.trailing_zeros() as usize, Relaxed);
        if park::is_alone() {
            // A signal handler forked before that was known.
            return Err(Failure::NoFile);
        }
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

    pub(super) fn with_file<T>(
        &mut self,
        work: impl FnOnce(&mut Store, i32) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        if !self.exists() {
            return Err(Failure::NoFile);
        }
        let fd = sys::open(&self.path, libc::O_RDWR | libc::O_NOFOLLOW, 0)?;
        let _opened = Opened::new(fd);
        if sys::identity(fd) != Some(self.identity) {
            return Err(Failure::Moved);
        }
        work(self, fd)
    }

    /// Makes sure that another site id can be given out.
    pub fn make_room(&mut self) -> bool {
        let has_sites = site_count() < CAPACITY.load(Relaxed);
        // (What is full for good is no failure of the file, which may grow for others.)
        let may_grow = SITES.through(self.array_extents) <= u64::from(MAX_SITES);
        (has_sites || may_grow && self.grow(Store::grow_arrays).is_ok()) && self.make_further_room()
    }

    /// Makes sure that sites can be given what they need further.
    pub fn make_further_room(&mut self) -> bool {
        while !has_further_room() {
            let may_grow = FURTHER_GROWTH.through(self.further_extents) <= u64::from(MAX_FURTHER);
            if !may_grow || self.grow(Store::grow_further).is_err() {
                return false;
            }
        }
        true
    }

    /// Makes the file larger, or notes that it cannot be.
    pub(super) fn grow(
        &mut self,
        more: fn(&mut Store, i32) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
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

/// Has `take` take a name that no file has: `path`, or the first of `path.1`, `path.2`, … that is free. The
/// name, which ends in zero, and what came of it.
fn free_name<T>(
    path: &[u8],
    mut take: impl FnMut(&[u8]) -> Result<T, Errno>,
) -> Result<(Vec<u8>, T), Failure> {
    for attempt in 0..1000u32 {
        let mut name = path.to_vec();
        if attempt > 0 {
            name.extend_from_slice(format!(".{attempt}").as_bytes());
        }
        name.push(0);
        match take(&name) {
            Ok(taken) => return Ok((name, taken)),
            Err(Errno(libc::EEXIST)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Failure::System(Errno(libc::EEXIST)))
}
