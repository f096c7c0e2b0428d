//! Where a thread keeps the paths that it has unwound ([`super::paths`]): a [`trie`], which lies in a
//! mapping of its own, grows, and is handed on when its thread ends.

mod trie;

use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
use core::cell::Cell;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::{Anchor, IN_REGISTER, NativeFrame};
use crate::hash::mix;
use crate::spin::SpinLock;
use crate::sys;

use trie::{Behind, Check, FOUR, LONGEST, PARTINGS, Trie, Word, are_there, behind};
pub use trie::{Node, Path};

/// Keeping a path takes no more fours than this: its own, and those of a node that is split.
const MOST_FOURS: usize = 2 * LONGEST.div_ceil(FOUR);

/// How many nodes a cache has room for, and fours of words they may have together: little at first,
/// and more when that is too little. (What is not used is never touched.)
const SIZES: [(usize, usize); 3] = [(1 << 10, 1 << 10), (1 << 13, 1 << 13), (1 << 15, 1 << 15)];

/// Caches of more than the first size may have so many bytes together, however many threads there are.
const MOST_BYTES: usize = 48 << 20;
static LARGER_BYTES: AtomicUsize = AtomicUsize::new(0);

/// The paths of one thread: at the start of the mapping that its arrays are in.
pub struct PathCache {
    trie: Trie,
    /// What rbp was at the hook: one of the words that paths may part at.
    register: Cell<usize>,
    /// Which of [`SIZES`] it has.
    size: usize,
    next_free: *mut PathCache,
    /// A path that is to be kept.
    path: Words,
    /// What a node had that is split for it.
    split: Words,
}

/// Words of a path in order, innermost first.
struct Words {
    words: [Word; LONGEST],
    len: usize,
}

impl Words {
    fn push(&mut self, word: Word) {
        if let Some(place) = self.words.get_mut(self.len) {
            *place = word;
            self.len += 1;
        }
    }

    fn all(&self) -> &[Word] {
        self.words.get(..self.len).unwrap_or_default()
    }
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

/// Where a look at the trie ended without a path.
pub struct Missed {
    /// The key of the node that is not there, or that has another word.
    key: u64,
    /// Words that were right before that node's, forks included.
    before: usize,
    /// The node that has another word, and how many of its words were right.
    parted: Option<(usize, usize)>,
}

impl PathCache {
    /// One that a thread left, or a small one; `None` if there is no memory.
    pub fn any() -> Option<*mut PathCache> {
        let left = FREE.lock().pop();
        left.or_else(|| PathCache::map(0))
    }

    /// Where in a cache's mapping its arrays begin, and the bytes of all. Nodes that fill large pages begin
    /// with one: what is looked up lies all over them. (What is left free before them is never touched.)
    const fn offsets(size: usize) -> [usize; 4] {
        let (nodes, fours) = SIZES[size];
        let len = nodes * size_of::<Node>();
        let align = if len < sys::LARGE_PAGE { align_of::<Node>() } else { sys::LARGE_PAGE };
        let first = size_of::<PathCache>().next_multiple_of(align);
        let second = first + len;
        let third = second + fours * size_of::<[Check; FOUR]>();
        [first, second, third, third + fours]
    }

    fn map(size: usize) -> Option<*mut PathCache> {
        let [nodes, fours, bases, len] = PathCache::offsets(size);
        let base = sys::reserve_aligned(len).ok()?;
        if fours - nodes >= sys::LARGE_PAGE {
            sys::use_large_pages(base.wrapping_add(nodes), fours - nodes);
        }
        // SAFETY: a zeroed mapping of `len` bytes, aligned to a page, so that the cache and each array
        // lie inside it and are aligned; zero is valid for what the arrays hold, and for all of the
        // cache but what is written here. (As a whole it is too large for a thread with a small stack.)
        // It is unmapped with the cache.
        unsafe {
            use core::slice::from_raw_parts_mut;
            let cache: *mut PathCache = base.cast();
            (&raw mut (*cache).trie).write(Trie {
                nodes: from_raw_parts_mut(base.add(nodes).cast(), SIZES[size].0),
                fours: from_raw_parts_mut(base.add(fours).cast(), SIZES[size].1),
                bases: from_raw_parts_mut(base.add(bases).cast(), SIZES[size].1),
                used: 0,
                displaced: 0,
                ids: 0,
            });
            (&raw mut (*cache).size).write(size);
            Some(cache)
        }
    }

    /// # Safety
    /// The cache must be no thread's any more.
    pub unsafe fn unmap(cache: *mut PathCache) {
        // SAFETY: `map` wrote it; nobody refers to it.
        unsafe {
            let size = (*cache).size;
            let [nodes, .., len] = PathCache::offsets(size);
            if size > 0 {
                LARGER_BYTES.fetch_sub(len - nodes, Relaxed);
            }
            sys::unmap(cache.cast(), len);
        }
    }

    /// A larger cache with the same paths; `None` if there is no room for one.
    pub fn grown(&mut self) -> Option<*mut PathCache> {
        self.trie.displaced = 0;
        let size = self.size + 1;
        if size >= SIZES.len() {
            return None;
        }
        let [nodes, .., len] = PathCache::offsets(size);
        let bytes = len - nodes;
        let fresh = match LARGER_BYTES.fetch_add(bytes, Relaxed) + bytes > MOST_BYTES {
            true => None,
            false => PathCache::map(size),
        };
        let Some(fresh) = fresh else {
            LARGER_BYTES.fetch_sub(bytes, Relaxed);
            return None;
        };
        // SAFETY: nobody else has seen it.
        let cache = unsafe { &mut *fresh };
        let (from, to) = (self.register.as_ptr() as usize, cache.register.as_ptr() as usize);
        self.trie.copy_to(&mut cache.trie, |address| if address == from { to } else { address });
        Some(fresh)
    }

    /// Where the node of `key` is, if there is one; it comes from memory meanwhile.
    #[inline(always)]
    pub fn expect(&self, key: u64) -> &Node {
        let node = self.trie.at(key);
        let line: *const i8 = core::ptr::from_ref(node).cast();
        // SAFETY: no address is wrong for it; every processor of this architecture has the instruction.
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(line);
            _mm_prefetch::<_MM_HINT_T0>(line.wrapping_add(64));
        }
        node
    }

    /// The path that the stack at `anchor` is, which begins with the node of `key`.
    ///
    /// # Safety
    /// The cache must be the calling thread's.
    #[inline(always)]
    pub unsafe fn find(&self, anchor: Anchor, key: u64) -> Option<&Path> {
        // SAFETY: the caller's promise.
        unsafe { self.find_from(self.trie.at(key), anchor, key) }
    }

    /// The same where [`PathCache::expect`] was asked for the `node`.
    ///
    /// # Safety
    /// As for [`PathCache::find`].
    #[inline(always)]
    pub unsafe fn find_from<'a>(
        &'a self,
        mut node: &'a Node,
        anchor: Anchor,
        mut key: u64,
    ) -> Option<&'a Path> {
        self.register.set(anchor.bp);
        for _ in 0..PARTINGS {
            if !node.is_of(key, anchor) {
                return None;
            }
            // SAFETY: the words before these are as they were.
            if !unsafe { are_there(&node.words) } {
                return None;
            }
            for four in self.trie.fours_of(node) {
                // SAFETY: as above.
                if !unsafe { are_there(four) } {
                    return None;
                }
            }
            match &node.behind {
                Behind::End(path) => return Some(path),
                Behind::Fork { address, id, .. } => {
                    // SAFETY: as above.
                    key = behind(*id, unsafe { *(*address as *const u64) });
                    node = self.trie.at(key);
                }
            }
        }
        None
    }

    /// The same, with all that is known where there is none. What `seen` gets are the words on the
    /// way, innermost first, and whether each is a return address.
    ///
    /// # Safety
    /// As for [`PathCache::find`].
    pub unsafe fn follow(
        &self,
        anchor: Anchor,
        mut key: u64,
        mut seen: impl FnMut(u64, bool),
    ) -> Result<&Path, Missed> {
        self.register.set(anchor.bp);
        let mut before = 0;
        for _ in 0..PARTINGS {
            let Some(node) = self.trie.node(key, anchor) else { break };
            for (at, word) in self.trie.words(node).enumerate() {
                // SAFETY: as in `find`.
                if unsafe { *(word.check.address as *const u64) } != word.check.value {
                    let parted = Some((self.trie.place(key), at));
                    return Err(Missed { key, before, parted });
                }
                seen(word.check.value, !word.is_base);
            }
            let (address, id, is_base) = match &node.behind {
                Behind::End(path) => return Ok(path),
                Behind::Fork { address, id, is_base } => (*address, *id, *is_base),
            };
            // SAFETY: as above.
            let word = unsafe { *(address as *const u64) };
            seen(word, !is_base);
            before += node.count as usize + 1;
            key = behind(id, word);
        }
        Err(Missed { key, before, parted: None })
    }

    /// Whether there is room for the words of any path.
    pub fn has_room(&self) -> bool {
        self.trie.used + MOST_FOURS <= self.trie.fours.len()
    }

    /// Whether many nodes give way to others, for it is small.
    pub fn is_crowded(&self) -> bool {
        self.trie.displaced > self.trie.nodes.len() / 4
    }

    /// Makes room by forgetting all paths.
    pub fn clear(&mut self) {
        self.trie.used = 0;
        for node in &mut *self.trie.nodes {
            (node.key, node.sp, node.room) = (0, 0, 0);
        }
    }

    /// Begins a path that is to be kept.
    pub fn begin(&mut self) {
        self.path.len = 0;
    }

    /// Adds a frame to it.
    pub fn frame(&mut self, frame: &NativeFrame) {
        self.word(frame.slot, frame.pc, false);
        match frame.base {
            None => {}
            Some((IN_REGISTER, base)) => {
                self.word(self.register.as_ptr() as usize, base as u64, true);
            }
            Some((at, base)) => self.word(at, base as u64, true),
        }
    }

    /// Adds a word to it.
    pub fn word(&mut self, address: usize, value: u64, is_base: bool) {
        self.path.push(Word { check: Check { address, value }, is_base });
    }

    /// Keeps the path, where a look for it `missed` it.
    pub fn keep(&mut self, sp: usize, missed: &Missed, hash: u64, ended: bool) {
        let trie = &mut self.trie;
        let path = self.path.all();
        let Some(always) = path.first().map(|word| word.check) else { return };
        let rest = |from: usize| path.get(from..).unwrap_or_default();
        let end = Behind::End(Path::new(hash, ended));
        let words = [always; FOUR];
        let (first, fours, count, room, bases) = (0, 0, 0, 0, 0);
        let leaf = |key| Node { key, sp, behind: end, first, fours, count, room, bases, words };
        let Some((place, right)) = missed.parted else {
            return trie.put(leaf(missed.key), rest(missed.before), always);
        };
        // The node is split at the word that is another one: what it had behind that word stays
        // what it was, under another key.
        let Some(split) = trie.nodes.get(place).cloned() else { return };
        self.split.len = 0;
        trie.words(&split).for_each(|word| self.split.push(word));
        let words = self.split.all();
        let (Some(old), Some(new)) = (words.get(right), path.get(missed.before + right)) else {
            // One is the beginning of the other: there is no word that tells them apart.
            return;
        };
        if old.check.address != new.check.address || old.check.value == new.check.value {
            return;
        }
        trie.ids += 1;
        let id = mix(trie.ids, split.key);
        let (address, is_base) = (old.check.address, old.is_base);
        let fork = Node { behind: Behind::Fork { address, id, is_base }, ..split };
        trie.put(fork, words.get(..right).unwrap_or_default(), always);
        let others = Node { key: behind(id, old.check.value), ..split };
        trie.put(others, words.get(right + 1..).unwrap_or_default(), always);
        let leaf = leaf(behind(id, new.check.value));
        trie.put(leaf, rest(missed.before + right + 1), always);
    }
}

#[cfg(test)]
mod tests;
