//! Where a thread keeps the paths that it has unwound ([`super::paths`]): a [`trie`], which lies in a
//! mapping of its own, grows, and is handed on when its thread ends.

mod trie;

use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::unwind::Reached;
use super::{Anchor, IN_REGISTER, NativeFrame, Stack};
use crate::hash::mix;
use crate::spin::SpinLock;
use crate::sys;

use trie::{Behind, LONGEST, PARTINGS, PIECE, Piece, Place, REGISTER, Trie, Word, behind, word_at};
pub use trie::{Further, Node, Path};

/// Keeping a path takes no more pieces than this: its own, and those of a node that is split.
const MOST_PIECES: usize = 2 * LONGEST.div_ceil(PIECE);

/// How many nodes a cache has room for, and pieces of words they may have together: little at first,
/// and more when that is too little. (What is not used is never touched.)
const SIZES: [(usize, usize); 3] = [(1 << 10, 1 << 10), (1 << 13, 1 << 13), (1 << 15, 1 << 15)];

// A node tells its first piece in sixteen bits.
const _: () = assert!(SIZES[SIZES.len() - 1].1 <= 1 << 16);

/// Caches of more than the first size may have so many bytes together, however many threads there are.
const MOST_BYTES: usize = 48 << 20;
static LARGER_BYTES: AtomicUsize = AtomicUsize::new(0);

/// The paths of one thread: at the start of the mapping that its arrays are in.
pub struct PathCache {
    trie: Trie,
    /// Which of [`SIZES`] it has.
    size: usize,
    next_free: *mut PathCache,
    /// A path that is to be kept.
    path: Words,
    /// Its frames, without repetitions.
    frames: Stack,
    /// The stack pointer at its hook.
    sp: usize,
    /// A word of it has no [`Place`].
    is_beyond: bool,
    /// What a node had that is split for it.
    split: Words,
}

/// Words of a path in order, innermost first.
struct Words {
    words: [Word; LONGEST],
    len: usize,
}

impl Words {
    #[inline(always)]
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
    const fn offsets(size: usize) -> [usize; 3] {
        let (nodes, pieces) = SIZES[size];
        let len = nodes * size_of::<Node>();
        let align = if len < sys::LARGE_PAGE { align_of::<Node>() } else { sys::LARGE_PAGE };
        let first = size_of::<PathCache>().next_multiple_of(align);
        let second = first + len;
        [first, second, second + pieces * size_of::<Piece>()]
    }

    fn map(size: usize) -> Option<*mut PathCache> {
        let [nodes, pieces, len] = PathCache::offsets(size);
        let base = sys::reserve_aligned(len).ok()?;
        let nodes_at = base.wrapping_add(nodes);
        if pieces - nodes >= sys::LARGE_PAGE {
            sys::use_large_pages(nodes_at, pieces - nodes);
        } else if size > 0 {
            // Those of a smaller one will lie all over them.
            sys::take_pages(nodes_at, pieces - nodes);
        }
        // SAFETY: a zeroed mapping of `len` bytes, aligned to a page, so that the cache and each array
        // lie inside it and are aligned; zero is valid for what the arrays hold, and for all of the
        // cache but what is written here. (As a whole it is too large for a thread with a small stack.)
        // It is unmapped with the cache.
        unsafe {
            use core::slice::from_raw_parts_mut;
            let cache: *mut PathCache = base.cast();
            (&raw mut (*cache).trie).write(Trie {
                nodes: from_raw_parts_mut(nodes_at.cast(), SIZES[size].0),
                mask: (SIZES[size].0 - 1) * size_of::<Node>(),
                pieces: from_raw_parts_mut(base.add(pieces).cast(), SIZES[size].1),
                used: 0,
                displaced: 0,
                puts: 0,
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
        self.trie.copy_to(&mut cache.trie);
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
        for _ in 0..PARTINGS {
            if node.key != key {
                return None;
            }
            // SAFETY: the words before these are as they were.
            if !unsafe { self.trie.all_there(node, anchor) } {
                return None;
            }
            match &node.behind {
                Behind::End(path) => return Some(path),
                Behind::Fork { place, id, .. } => {
                    // SAFETY: as above.
                    key = behind(*id, unsafe { word_at(anchor, *place) });
                    node = self.trie.at(key);
                }
            }
        }
        None
    }

    /// The same, with all that is known where there is none. What `seen` gets are the words on the
    /// way, innermost first, where each lies, and whether it is a return address.
    ///
    /// # Safety
    /// As for [`PathCache::find`].
    pub unsafe fn follow(
        &mut self,
        anchor: Anchor,
        mut key: u64,
        mut seen: impl FnMut(u64, usize, bool),
    ) -> Result<Path, Missed> {
        let slot = |place: Place| anchor.sp.wrapping_add(8 * place as usize);
        let mut before = 0;
        for _ in 0..PARTINGS {
            let Some(at) = self.trie.place(key) else { break };
            let Some(node) = self.trie.nodes.get(at) else { break };
            let mut right = 0;
            let all = self.trie.words(node, |word| {
                // SAFETY: as in `find`.
                let is_there = unsafe { word_at(anchor, word.place) } == word.value;
                if is_there {
                    right += 1;
                    seen(word.value, slot(word.place), !word.is_base);
                }
                is_there
            });
            if !all {
                return Err(Missed { key, before, parted: Some((at, right)) });
            }
            let (place, id, is_base) = match &node.behind {
                Behind::End(path) => return Ok(path.clone()),
                Behind::Fork { place, id, is_base } => (*place, *id, *is_base),
            };
            // SAFETY: as above.
            let word = unsafe { word_at(anchor, place) };
            seen(word, slot(place), !is_base);
            before += right + 1;
            key = behind(id, word);
        }
        Err(Missed { key, before, parted: None })
    }

    /// Whether there is room for the words of any path.
    pub fn has_room(&self) -> bool {
        self.trie.used + MOST_PIECES <= self.trie.pieces.len()
    }

    /// Whether many nodes give way to others, for it is small.
    pub fn is_crowded(&self) -> bool {
        self.trie.displaced > self.trie.nodes.len() / 4
    }

    /// Makes room by forgetting all paths.
    pub fn clear(&mut self) {
        self.trie.clear();
    }

    /// Begins a path that is to be kept, with the stack pointer at its hook.
    pub fn begin(&mut self, sp: usize) {
        self.path.len = 0;
        self.frames.clear();
        (self.sp, self.is_beyond) = (sp, false);
    }

    /// Adds a frame to it, which may only repeat those inside it.
    #[inline(always)]
    pub fn frame(&mut self, frame: &NativeFrame, repeats: bool) {
        if !repeats {
            self.frames.push((frame.pc, frame.slot));
        }
        self.word(frame.slot, frame.pc, false);
        if let Some((at, base)) = frame.base {
            self.word(at, base as u64, true);
        }
    }

    /// The frames of the path that was begun last, without repetitions.
    pub fn frames(&self) -> &Stack {
        &self.frames
    }

    /// Adds a word to it, which lies at `address`, or [`IN_REGISTER`].
    #[inline(always)]
    pub fn word(&mut self, address: usize, value: u64, is_base: bool) {
        match self.place(address) {
            Some(place) => self.path.push(Word { place, value, is_base }),
            None => self.is_beyond = true,
        }
    }

    #[inline(always)]
    fn place(&self, address: usize) -> Option<Place> {
        // What is too far away and what is not aligned both end up too large.
        let place = address.wrapping_sub(self.sp).rotate_right(3);
        if place < REGISTER as usize {
            return Some(place as Place);
        }
        (address == IN_REGISTER).then_some(REGISTER)
    }

    /// Makes `path` one of a part with so many `frames`, where the next part begins at `next`.
    pub fn part(&mut self, path: Path, frames: usize, next: &Reached) -> Path {
        match (self.place(next.slot), self.place(next.base.0)) {
            (Some(at), Some(base)) => path.part(frames, at, base),
            _ => {
                self.is_beyond = true;
                path
            }
        }
    }

    /// Keeps the path, where a look for it `missed` it.
    pub fn keep(&mut self, missed: &Missed, path: Path) {
        let words = self.path.all();
        let Some(&always) = words.first().filter(|_| !self.is_beyond) else { return };
        let rest = |from: usize| words.get(from..).unwrap_or_default();
        let end = Behind::End(path);
        let trie = &mut self.trie;
        let Some((place, right)) = missed.parted else {
            return put_rest(trie, missed.key, end, rest(missed.before), always);
        };
        // The node is split at the word that is another one: what it had behind that word stays
        // what it was, under another key.
        let Some(split) = trie.nodes.get(place).cloned() else { return };
        self.split.len = 0;
        trie.words(&split, |word| {
            self.split.push(word);
            true
        });
        let parted = self.split.all();
        let (Some(old), Some(new)) = (parted.get(right), words.get(missed.before + right)) else {
            // One is the beginning of the other: there is no word that tells them apart.
            return;
        };
        if old.place != new.place || old.value == new.value {
            return;
        }
        let id = new_id(trie, split.key);
        let fork = Behind::Fork { place: old.place, id, is_base: old.is_base };
        trie.put(split.key, fork, parted.get(..right).unwrap_or_default(), always);
        let others = parted.get(right + 1..).unwrap_or_default();
        trie.put(behind(id, old.value), split.behind, others, always);
        put_rest(trie, behind(id, new.value), end, rest(missed.before + right + 1), always);
    }
}

fn new_id(trie: &mut Trie, key: u64) -> u64 {
    trie.ids += 1;
    mix(trie.ids, key)
}

/// Puts the `words` up to a path's end under `key`. Where one is the register, paths part.
fn put_rest(trie: &mut Trie, mut key: u64, end: Behind, mut words: &[Word], always: Word) {
    while let Some(at) = words.iter().position(|word| word.place == REGISTER) {
        let (before, from) = words.split_at(at);
        let Some((word, rest)) = from.split_first() else { break };
        let id = new_id(trie, key);
        let fork = Behind::Fork { place: REGISTER, id, is_base: word.is_base };
        trie.put(key, fork, before, always);
        (key, words) = (behind(id, word.value), rest);
    }
    trie.put(key, end, words, always);
}

#[cfg(test)]
mod tests;
