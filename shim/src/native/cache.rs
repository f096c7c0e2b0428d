//! Where a thread keeps the paths that it has unwound ([`super::paths`]): a trie.
//!
//! A node has words of the stack that are the same on every path through it, and then one where
//! paths part; what is behind that is found by the word that is there. So a look reads each word of
//! the path once, from the innermost on, and no word before those inside it were found to be right.

use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
use core::cell::Cell;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::{Anchor, IN_REGISTER, MAX_NATIVE, NativeFrame};
use crate::hash::{mix, scatter};
use crate::spin::SpinLock;
use crate::{sites, sys};

/// Words of the longest path that is kept: two of a frame at most, and what ended it.
const LONGEST: usize = 2 * MAX_NATIVE + 1;

/// Words lie in fours, a cache line each: a node has one, and more elsewhere if it must.
const FOUR: usize = 4;
/// Keeping a path takes no more fours than this: its own, and those of a node that is split.
const MOST_FOURS: usize = 2 * LONGEST.div_ceil(FOUR);

/// How many nodes a cache has room for, and fours of words they may have together: little at first,
/// and more when that is too little. (What is not used is never touched.)
const SIZES: [(usize, usize); 3] = [(1 << 10, 1 << 10), (1 << 13, 1 << 13), (1 << 15, 1 << 15)];

/// Caches of more than the first size may have so many bytes together, however many threads there are.
const MOST_BYTES: usize = 48 << 20;
static LARGER_BYTES: AtomicUsize = AtomicUsize::new(0);

/// A word of the stack that must be as it was.
#[derive(Clone, Copy)]
struct Check {
    address: usize,
    value: u64,
}

/// A word of a path that is to be kept.
#[derive(Clone, Copy)]
struct Word {
    check: Check,
    /// It is no return address but a saved rbp, or rbp itself.
    is_base: bool,
}

/// What is known of the stack from one parting of paths to the next, or to their end.
///
/// The second of its two cache lines are words, so that reading these need not wait for the first.
#[derive(Clone)]
#[repr(C, align(128))]
pub struct Node {
    /// What it is found by; 0: it is none.
    key: u64,
    /// The stack pointer at the hook.
    sp: usize,
    behind: Behind,
    /// Which is the first of its further fours, and how many there are. All lie within
    /// [`Trie::fours`].
    first: u32,
    fours: u8,
    /// Words it has, and fours that there is room for at `first`.
    count: u8,
    room: u8,
    /// As in [`Trie::bases`], of `words`.
    bases: u8,
    /// The first words; where there are fewer, what is always so on its path.
    words: [Check; FOUR],
}

impl Node {
    /// Whether it is that of `key` on the path that `anchor` is on. (What is none has no stack pointer.)
    #[inline(always)]
    fn is_of(&self, key: u64, anchor: Anchor) -> bool {
        self.key == key && self.sp == anchor.sp
    }
}

const _: () = assert!(size_of::<Node>() == 128 && LONGEST <= u8::MAX as usize);

/// What comes behind the words of a node. (With a tag of its own, so that zero is an end.)
#[derive(Clone)]
#[repr(u8)]
enum Behind {
    /// A path ends.
    End(Path) = 0,
    /// Paths part at the word that lies at `address`; with that word, `id` leads on.
    Fork { address: usize, id: u64, is_base: bool },
}

/// A path at its end.
#[derive(Clone)]
pub struct Path {
    /// Of all its return addresses.
    pub hash: u64,
    /// The last word is none of its frames but what ended it: a frame of the evaluation loop.
    pub ended: bool,
    /// The site that it led to: what that was looked up by, the shard of its key, and the era of that
    /// shard then ([`sites::era`]).
    by: Cell<u64>,
    site: Cell<u32>,
    era: Cell<u32>,
    shard: Cell<u8>,
}

impl Path {
    fn new(hash: u64, ended: bool) -> Path {
        Path {
            hash,
            ended,
            by: Cell::new(0),
            site: Cell::new(0),
            era: Cell::new(0),
            shard: Cell::new(0),
        }
    }

    /// The site that it led to when it was last looked up by `by`, if that is still so.
    #[inline(always)]
    pub fn site(&self, by: u64) -> Option<u32> {
        let is_known = self.by.get() == by && self.era.get() == sites::era(self.shard.get());
        is_known.then(|| self.site.get())
    }

    /// Remembers a site for [`Path::site`], with the shard of its key and that one's era when it was
    /// looked up.
    #[inline(always)]
    pub fn remember(&self, by: u64, site: u32, (shard, era): (u8, u32)) {
        self.by.set(by);
        self.site.set(site);
        self.shard.set(shard);
        self.era.set(era);
    }
}

/// How many times a path may part from others.
const PARTINGS: usize = 24;

/// The key of what comes behind a fork.
#[inline(always)]
fn behind(id: u64, word: u64) -> u64 {
    scatter(id ^ word)
}

/// Whether words of the stack are what they were.
///
/// # Safety
/// The words of their path that come before them must be.
#[inline(always)]
unsafe fn are_there(words: &[Check; FOUR]) -> bool {
    for check in words {
        // SAFETY: every word before it is as it was, so the frame inside it is the one that was
        // unwound, and its tables place the word on this thread's stack.
        if unsafe { *(check.address as *const u64) } != check.value {
            return false;
        }
    }
    true
}

/// The nodes and their words.
struct Trie {
    /// A power of two of them.
    nodes: &'static mut [Node],
    fours: &'static mut [[Check; FOUR]],
    /// A bit for each word of a four that is no return address.
    bases: &'static mut [u8],
    /// Fours in use.
    used: usize,
    /// Nodes that gave way to others.
    displaced: usize,
    /// Forks that were made.
    ids: u64,
}

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

/// As a node has them: no more than four words, filled up, and which of them are no addresses.
fn four(words: &[Word], always: Check) -> ([Check; FOUR], u8) {
    let (mut four, mut bases) = ([always; FOUR], 0);
    for (at, (check, word)) in four.iter_mut().zip(words).enumerate() {
        *check = word.check;
        bases |= u8::from(word.is_base) << at;
    }
    (four, bases)
}

impl Trie {
    #[inline(always)]
    fn place(&self, key: u64) -> usize {
        (key >> 32) as usize & (self.nodes.len() - 1)
    }

    /// Whichever node is where that of `key` would be.
    #[inline(always)]
    fn at(&self, key: u64) -> &Node {
        // SAFETY: `map` made a power of two of them, so the place is below their number.
        unsafe { self.nodes.get_unchecked(self.place(key)) }
    }

    /// The node of `key` on the path that `anchor` is on.
    #[inline(always)]
    fn node(&self, key: u64, anchor: Anchor) -> Option<&Node> {
        Some(self.at(key)).filter(|node| node.is_of(key, anchor))
    }

    /// The words of a node that it has not itself.
    #[inline(always)]
    fn fours_of(&self, node: &Node) -> &[[Check; FOUR]] {
        let first = node.first as usize;
        // SAFETY: `put` and `copy_to`, which alone write nodes, write none whose fours are not all there.
        unsafe { self.fours.get_unchecked(first..first + node.fours as usize) }
    }

    /// The words of a node.
    fn words<'a>(&'a self, node: &'a Node) -> impl Iterator<Item = Word> + 'a {
        let checks = node.words.iter().chain(self.fours_of(node).as_flattened());
        let bases = self.bases.get(node.first as usize..).unwrap_or_default();
        let bases = core::iter::once(&node.bases).chain(bases);
        let is_base = bases.flat_map(|bases| (0..FOUR).map(move |at| bases >> at & 1 != 0));
        let words = checks.zip(is_base).take(node.count as usize);
        words.map(|(&check, is_base)| Word { check, is_base })
    }

    /// Puts a node with `words` in the place of whichever is there. Its fours are filled up with what
    /// is `always` so on its path.
    fn put(&mut self, mut node: Node, words: &[Word], always: Check) {
        let place = self.place(node.key);
        let Some(old) = self.nodes.get_mut(place) else { return };
        let (own, further) = words.split_at(words.len().min(FOUR));
        (node.count, node.fours) = (words.len() as u8, further.len().div_ceil(FOUR) as u8);
        (node.words, node.bases) = four(own, always);
        (node.first, node.room) = (old.first, old.room);
        if node.room < node.fours {
            if self.used + node.fours as usize > self.fours.len() {
                return;
            }
            (node.first, node.room) = (self.used as u32, node.fours);
            self.used += node.fours as usize;
        }
        self.displaced += usize::from(old.key != 0 && old.key != node.key);
        let first = node.first as usize;
        *old = node;
        let places = self.fours.iter_mut().zip(self.bases.iter_mut()).skip(first);
        for (words, (place, bases)) in further.chunks(FOUR).zip(places) {
            (*place, *bases) = four(words, always);
        }
    }

    /// Copies everything to a larger trie, where addresses are what `moved` makes of them.
    fn copy_to(&self, to: &mut Trie, moved: impl Fn(usize) -> usize) {
        for node in self.nodes.iter().filter(|node| node.key != 0) {
            let moved_all =
                |four: [Check; FOUR]| four.map(|it| Check { address: moved(it.address), ..it });
            let mut copy = Node { first: to.used as u32, room: node.fours, ..node.clone() };
            copy.words = moved_all(copy.words);
            if let Behind::Fork { address, .. } = &mut copy.behind {
                *address = moved(*address);
            }
            let (from, len) = (node.first as usize, node.fours as usize);
            let place = to.place(copy.key);
            let (Some(place), Some(fours), Some(bases)) = (
                to.nodes.get_mut(place),
                to.fours.get_mut(to.used..to.used + len),
                to.bases.get_mut(to.used..to.used + len),
            ) else {
                return;
            };
            for (four, old) in fours.iter_mut().zip(self.fours_of(node)) {
                *four = moved_all(*old);
            }
            for (bases, old) in bases.iter_mut().zip(self.bases.iter().skip(from)) {
                *bases = *old;
            }
            *place = copy;
            to.used += len;
        }
        to.ids = self.ids;
    }
}

#[cfg(test)]
mod tests;
