//! Where a thread keeps the paths that it has unwound ([`super::paths`]).

use core::cell::Cell;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::{Anchor, MAX_NATIVE};
use crate::spin::SpinLock;
use crate::{sites, sys};

/// Words of the longest path that is kept: two of a frame at most.
const LONGEST: usize = 2 * MAX_NATIVE + 1;

/// How many paths a cache has room for, and words they may have together: little at first, and more
/// when that is too little. (What is not used is never touched.)
const SIZES: [(usize, usize); 3] = [(1 << 10, 1 << 13), (1 << 13, 1 << 16), (1 << 15, 1 << 18)];

/// Caches of more than the first size may have so many bytes together, however many threads there are.
const MOST_BYTES: usize = 48 << 20;
static LARGER_BYTES: AtomicUsize = AtomicUsize::new(0);

/// A word of the stack that must be as it was.
#[derive(Clone, Copy)]
struct Check {
    address: usize,
    value: u64,
}

/// A path; its words lie in [`PathCache::words`].
#[derive(Clone)]
#[repr(C, align(64))]
pub struct Path {
    /// What it is found by.
    pub key: u64,
    /// Of its return addresses.
    pub hash: u64,
    /// The stack pointer at the hook.
    sp: usize,
    /// rbp at the hook, if a frame is addressed by that.
    pub base: usize,
    /// See `base`.
    pub has_base: bool,
    /// The last word is not one of its frames but what ended it: a frame of the evaluation loop.
    pub ended: bool,
    count: u16,
    /// Words that there is room for at `first`.
    room: u16,
    /// The shard of the site's key.
    shard: Cell<u16>,
    first: u32,
    /// The era of that shard when the site was found ([`sites::era`]).
    era: Cell<u32>,
    /// What the site was looked up by.
    by: Cell<u64>,
    /// The site that this path led to last.
    site: Cell<u32>,
}

const _: () = assert!(size_of::<Path>() == 64);

impl Path {
    /// A path that has no words yet.
    pub fn new(key: u64, sp: usize) -> Path {
        Path {
            key,
            hash: 1,
            sp,
            base: 0,
            has_base: false,
            ended: false,
            count: 0,
            room: 0,
            shard: Cell::new(0),
            first: 0,
            era: Cell::new(0),
            by: Cell::new(0),
            site: Cell::new(0),
        }
    }

    /// The site that it led to when it was last looked up by `by`, if that is still so.
    #[inline(always)]
    pub fn site(&self, by: u64) -> Option<u32> {
        let is_known =
            self.by.get() == by && self.era.get() == sites::era(self.shard.get() as usize);
        is_known.then(|| self.site.get())
    }

    /// Remembers a site for [`Path::site`], with the shard of its key and that one's era when it was
    /// looked up.
    #[inline(always)]
    pub fn remember(&self, by: u64, site: u32, (shard, era): (u16, u32)) {
        self.by.set(by);
        self.site.set(site);
        self.shard.set(shard);
        self.era.set(era);
    }
}

/// How many times a path may part from another one to be found.
const PARTINGS: usize = 16;

/// The paths of one thread: at the start of the mapping that its arrays are in.
pub struct PathCache {
    /// A power of two of them.
    paths: &'static mut [Path],
    words: &'static mut [Check],
    /// Whether the word of that number is no return address but a saved rbp.
    is_base: &'static mut [bool],
    /// Words in use.
    used: usize,
    /// Paths that gave way to others.
    displaced: usize,
    /// Which of [`SIZES`] it has.
    size: usize,
    next_free: *mut PathCache,
}

/// Caches for threads to come, of threads that ended.
pub static FREE: SpinLock<FreeList> = SpinLock::new(FreeList(core::ptr::null_mut()));

/// See [`FREE`].
pub struct FreeList(*mut PathCache);

// SAFETY: the caches in the list belong to no thread.
unsafe impl Send for FreeList {}

impl FreeList {
    /// Adds a cache.
    ///
    /// # Safety
    /// It must be no thread's any more.
    pub unsafe fn push(&mut self, cache: *mut PathCache) {
        // SAFETY: a cache that `map` made; nobody else refers to it.
        unsafe { (*cache).next_free = self.0 };
        self.0 = cache;
    }

    fn pop(&mut self) -> Option<*mut PathCache> {
        let cache = self.0;
        if cache.is_null() {
            return None;
        }
        // SAFETY: the list holds caches that nobody else uses, and it is locked.
        self.0 = unsafe { (*cache).next_free };
        Some(cache)
    }
}

impl PathCache {
    /// One that a thread left, or a small one; `None` if there is no memory.
    pub fn any() -> Option<*mut PathCache> {
        let left = FREE.lock().pop();
        left.or_else(|| PathCache::map(0))
    }

    /// Where in a cache's mapping its arrays begin, and the bytes of all.
    const fn offsets(size: usize) -> [usize; 4] {
        let (paths, words) = SIZES[size];
        let first = size_of::<PathCache>().next_multiple_of(align_of::<Path>());
        let second = first + paths * size_of::<Path>();
        let third = second + words * size_of::<Check>();
        [first, second, third, third + words]
    }

    fn map(size: usize) -> Option<*mut PathCache> {
        let [paths, words, is_base, len] = PathCache::offsets(size);
        let base = sys::reserve(len).ok()?;
        // SAFETY: a zeroed mapping of `len` bytes, aligned to a page, so that each array lies inside
        // it and is aligned; zero is valid for what they hold. It is unmapped with the cache.
        unsafe {
            use core::slice::from_raw_parts_mut;
            let cache: *mut PathCache = base.cast();
            cache.write(PathCache {
                paths: from_raw_parts_mut(base.add(paths).cast(), SIZES[size].0),
                words: from_raw_parts_mut(base.add(words).cast(), SIZES[size].1),
                is_base: from_raw_parts_mut(base.add(is_base).cast(), SIZES[size].1),
                used: 0,
                displaced: 0,
                size,
                next_free: core::ptr::null_mut(),
            });
            Some(cache)
        }
    }

    /// # Safety
    /// The cache must be no thread's any more.
    pub unsafe fn unmap(cache: *mut PathCache) {
        // SAFETY: `map` wrote it; nobody refers to it.
        unsafe {
            let size = (*cache).size;
            let [.., len] = PathCache::offsets(size);
            if size > 0 {
                LARGER_BYTES.fetch_sub(len, Relaxed);
            }
            sys::unmap(cache.cast(), len);
        }
    }

    /// A larger cache with the same paths; `None` if there is no room for one.
    pub fn grown(&mut self) -> Option<*mut PathCache> {
        self.displaced = 0;
        let size = self.size + 1;
        if size >= SIZES.len() {
            return None;
        }
        let [.., len] = PathCache::offsets(size);
        let fresh = match LARGER_BYTES.fetch_add(len, Relaxed) + len > MOST_BYTES {
            true => None,
            false => PathCache::map(size),
        };
        let Some(fresh) = fresh else {
            LARGER_BYTES.fetch_sub(len, Relaxed);
            return None;
        };
        // SAFETY: nobody else has seen it.
        let cache = unsafe { &mut *fresh };
        for path in self.paths.iter().filter(|path| path.key != 0) {
            let from = path.first as usize..path.first as usize + path.count as usize;
            let words = self.words.get(from.clone()).unwrap_or_default();
            let is_base = self.is_base.get(from).unwrap_or_default();
            let mut kept = path.clone();
            (kept.count, kept.room) = (0, 0);
            for (word, is_base) in words.iter().zip(is_base) {
                cache.push(&mut kept, word.address, word.value, *is_base);
            }
            cache.keep(kept);
        }
        cache.displaced = 0;
        Some(fresh)
    }

    #[inline(always)]
    fn place(&self, key: u64) -> usize {
        key as usize >> 1 & (self.paths.len() - 1)
    }

    #[inline(always)]
    fn words_of(&self, path: &Path) -> &[Check] {
        let first = path.first as usize;
        self.words.get(first..first + path.count as usize).unwrap_or_default()
    }

    /// The path that the stack at `anchor` is, or else what `mix` makes of `key` where it parts from
    /// those that are kept: the key that it is to be kept by.
    ///
    /// # Safety
    /// The cache must be the calling thread's.
    #[inline(always)]
    pub unsafe fn find(
        &self,
        anchor: Anchor,
        mut key: u64,
        mix: impl Fn(u64, (u64, u64)) -> u64,
    ) -> Result<&Path, u64> {
        for _ in 0..PARTINGS {
            let Some(path) = self.paths.get(self.place(key)) else { break };
            if path.key != key || path.sp != anchor.sp {
                break;
            }
            // SAFETY: the path began where this one does, on this thread.
            match unsafe { self.parting(path, anchor) } {
                None => return Ok(path),
                Some(parting) => key = mix(key, parting),
            }
        }
        Err(key)
    }

    /// The first word that is not as it was, with its address (0: that word is rbp); `None`: the path
    /// holds.
    ///
    /// # Safety
    /// The stack pointer at the hook must be the path's, on the thread that unwound it.
    #[inline(always)]
    unsafe fn parting(&self, path: &Path, anchor: Anchor) -> Option<(u64, u64)> {
        if path.has_base && path.base != anchor.bp {
            return Some((0, anchor.bp as u64));
        }
        let parts = |check: &Check| {
            // SAFETY: every earlier check held, so the frame inside this word is the one that
            // was unwound, and its tables place the word on this thread's stack.
            let word = unsafe { *(check.address as *const u64) };
            (word != check.value).then_some((check.address as u64, word))
        };
        let (fours, rest) = self.words_of(path).as_chunks::<4>();
        for four in fours {
            for check in four {
                if let Some(parting) = parts(check) {
                    return Some(parting);
                }
            }
        }
        rest.iter().find_map(parts)
    }

    /// The return addresses of a path, innermost first.
    pub fn return_addresses(&self, path: &Path) -> impl Iterator<Item = u64> {
        let words = self.words_of(path);
        let words = words.get(..words.len() - usize::from(path.ended)).unwrap_or_default();
        let is_base = self.is_base.get(path.first as usize..).unwrap_or_default();
        let both = words.iter().zip(is_base);
        both.filter(|(_, is_base)| !**is_base).map(|(check, _)| check.value)
    }

    /// Whether there is room for the words of any path.
    pub fn has_room(&self) -> bool {
        self.used + LONGEST <= self.words.len()
    }

    /// Whether many paths give way to others, for it is small.
    pub fn is_crowded(&self) -> bool {
        self.displaced > self.paths.len() / 4
    }

    /// Makes room by forgetting all paths.
    pub fn clear(&mut self) {
        self.used = 0;
        for path in &mut *self.paths {
            (path.key, path.room) = (0, 0);
        }
    }

    /// Adds a word to a path that is to be kept next.
    pub fn push(&mut self, path: &mut Path, address: usize, value: u64, is_base: bool) {
        let at = self.used + path.count as usize;
        if let (Some(word), Some(base)) = (self.words.get_mut(at), self.is_base.get_mut(at)) {
            (*word, *base) = (Check { address, value }, is_base);
            path.count += 1;
        }
    }

    /// Keeps a path whose words were [`PathCache::push`]ed.
    pub fn keep(&mut self, mut path: Path) {
        let place = self.place(path.key);
        let Some(place) = self.paths.get_mut(place) else { return };
        self.displaced += usize::from(place.key != 0 && place.key != path.key);
        let count = path.count as usize;
        if place.room >= path.count {
            (path.first, path.room) = (place.first, place.room);
            let (from, to) = (self.used, path.first as usize);
            self.words.copy_within(from..from + count, to);
            self.is_base.copy_within(from..from + count, to);
        } else {
            (path.first, path.room) = (self.used as u32, path.count);
            self.used += count;
        }
        *place = path;
    }
}
