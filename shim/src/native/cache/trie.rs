//! The trie of a cache of paths: its nodes and their words.
//!
//! A node has words of the stack that are the same on every path through it, and then one where
//! paths part; what is behind that is found by the word that is there. So a look reads each word of
//! the path once, from the innermost on, and no word before those inside it were found to be right.
//! Where words lie is told from the stack pointer on, which takes two bytes for each.
//!
//! A node is looked for in one place. Where two want the same, one is put aside, into the place beside
//! it, and whoever misses it has it brought back: nobody unwinds a stack because of that.

use core::cell::Cell;

use crate::hash::scatter;
use crate::live::SITE_BITS;
use crate::native::{Anchor, MAX_NATIVE};
use crate::sites;
use crate::store::MAX_SITES;

/// Words of the longest path that is kept: two of a frame at most, and what ended it.
pub(super) const LONGEST: usize = 2 * MAX_NATIVE + 1;

/// Words that a node has itself.
const OWN: usize = 8;
/// Words of a further piece, which is a cache line.
pub(super) const PIECE: usize = 6;

/// A place on the stack: so many words from the stack pointer on.
pub(super) type Place = u16;

/// The place of a word that is none of the stack: rbp at the hook. Paths part there.
pub(super) const REGISTER: Place = Place::MAX;

/// What is at a place; of the register too.
///
/// # Safety
/// Either the place is [`REGISTER`], or all words of its path that come before it are there.
#[inline(always)]
pub(super) unsafe fn word_at(anchor: Anchor, place: Place) -> u64 {
    if place == REGISTER {
        return anchor.bp as u64;
    }
    // SAFETY: every word before it is as it was, so the frame inside it is the one that was
    // unwound, and its tables place the word on this thread's stack.
    unsafe { *(anchor.sp as *const u64).add(place as usize) }
}

/// A word of a path that is to be kept.
#[derive(Clone, Copy)]
pub(super) struct Word {
    pub(super) place: Place,
    pub(super) value: u64,
    /// It is no return address but a saved rbp, or rbp itself.
    pub(super) is_base: bool,
}

/// What is known of the stack from one parting of paths to the next, or to their end.
///
/// The second of its two cache lines are the words.
#[derive(Clone)]
#[repr(C, align(128))]
pub struct Node {
    /// What it is found by; 0: it is none.
    pub(super) key: u64,
    pub(super) behind: Behind,
    /// When it was put in its place ([`Trie::turn`]).
    turn: u16,
    /// Which is the first of its further pieces, and how many there are. All lie within
    /// [`Trie::pieces`].
    first: u16,
    pieces: u8,
    /// Words it has, and pieces that there is room for at `first`.
    count: u8,
    room: u8,
    /// A bit for each of its own words that is no return address.
    bases: u8,
    /// Its own words: where they lie, and what they are. Where there are fewer, what is always so on
    /// its path.
    places: [Place; OWN],
    values: [u64; OWN],
}

const _: () = assert!(size_of::<Node>() == 128 && LONGEST <= u8::MAX as usize);

/// Further words of a node, as its own.
#[derive(Clone)]
#[repr(C, align(64))]
pub(super) struct Piece {
    values: [u64; PIECE],
    places: [Place; PIECE],
    bases: u8,
}

const _: () = assert!(size_of::<Piece>() == 64);

/// What comes behind the words of a node. (With a tag of its own, so that zero is an end.)
#[derive(Clone)]
#[repr(u8)]
pub(super) enum Behind {
    /// A path ends.
    End(Path) = 0,
    /// Paths part at the word that lies at `place`; with that word, `id` leads on.
    Fork { place: Place, id: u64, is_base: bool },
}

/// A path at its end.
#[derive(Clone)]
pub struct Path {
    /// Of all its return addresses.
    pub hash: u64,
    /// The site that it led to: what that was looked up by, the era of its key's shard then
    /// ([`sites::era`]), and the site. Where full stacks are recorded none is remembered, and this is
    /// where the next part begins: bits 0..16 its place, 16..32 that of the rbp there, 32.. the frames
    /// of this one.
    by: Cell<u64>,
    era: Cell<u32>,
    /// Bits 0..20 the site, 20..28 the shard; 31: [`Path::ended`].
    site: Cell<u32>,
}

/// What comes further out than a part of a full stack.
pub struct Further {
    /// Where the next part begins, as if a hook had been called there.
    pub anchor: Anchor,
    /// The frames of the part before it.
    pub frames: usize,
}

/// Those bits of it that a site can have.
const SITE: u32 = MAX_SITES - 1;
const ENDED: u32 = 1 << 31;

impl Path {
    /// One whose last word is none of its frames, if it `ended` so.
    pub fn new(hash: u64, ended: bool) -> Path {
        let site = if ended { ENDED } else { 0 };
        Path { hash, by: Cell::new(0), era: Cell::new(0), site: Cell::new(site) }
    }

    /// The same for a part of a full stack, with so many `frames`: the next begins `at` a place, and
    /// the rbp of its first frame is at `base`.
    pub(super) fn part(self, frames: usize, at: Place, base: Place) -> Path {
        self.by.set(u64::from(at) | u64::from(base) << 16 | (frames as u64) << 32);
        self
    }

    /// Where the part of a full stack begins that comes after this one.
    ///
    /// # Safety
    /// The path must be one of a full stack, and that at `anchor`.
    pub unsafe fn further(&self, anchor: Anchor) -> Option<Further> {
        if !self.ended() {
            return None;
        }
        let by = self.by.get();
        let sp = anchor.sp.wrapping_add(8 * (by as Place as usize));
        // SAFETY: all words of the path are there.
        let bp = unsafe { word_at(anchor, (by >> 16) as Place) } as usize;
        Some(Further { anchor: Anchor { sp, bp }, frames: (by >> 32) as usize })
    }

    /// Whether the last word is none of its frames but what ended it: a frame of the evaluation loop, or
    /// whichever the next part of a full stack begins with.
    pub fn ended(&self) -> bool {
        self.site.get() & ENDED != 0
    }

    /// The site that it led to when it was last looked up by `by`, if that is still so.
    #[inline(always)]
    pub fn site(&self, by: u64) -> Option<u32> {
        let site = self.site.get();
        let shard = (site >> SITE_BITS) as u8;
        let is_known = self.by.get() == by && self.era.get() == sites::era(shard);
        is_known.then_some(site & SITE)
    }

    /// Remembers a site for [`Path::site`], with the shard of its key and that one's era when it was
    /// looked up.
    #[inline(always)]
    pub fn remember(&self, by: u64, site: u32, (shard, era): (u8, u32)) {
        self.by.set(by);
        self.era.set(era);
        let ended = self.site.get() & ENDED;
        self.site.set(ended | u32::from(shard) << SITE_BITS | site);
    }
}

/// How many times a path may part from others.
pub(super) const PARTINGS: usize = 24;

/// The key of what comes behind a fork.
#[inline(always)]
pub(super) fn behind(id: u64, word: u64) -> u64 {
    scatter(id ^ word)
}

/// Whether words of the stack are what they were.
///
/// # Safety
/// The words of their path that come before them must be. None is the register.
#[inline(always)]
unsafe fn are_there(anchor: Anchor, places: &[Place], values: &[u64]) -> bool {
    for (place, value) in places.iter().zip(values) {
        // SAFETY: as in `word_at`.
        if unsafe { *(anchor.sp as *const u64).add(*place as usize) } != *value {
            return false;
        }
    }
    true
}

/// The nodes and their words.
pub(super) struct Trie {
    /// A power of two of them.
    pub(super) nodes: &'static mut [Node],
    /// Where in bytes the last of them is: what a key is masked with.
    pub(super) mask: usize,
    pub(super) pieces: &'static mut [Piece],
    /// Pieces in use.
    pub(super) used: usize,
    /// How often a node gave way to another one.
    pub(super) displaced: usize,
    /// How often a node was put in its place.
    pub(super) puts: usize,
    /// Forks that were made.
    pub(super) ids: u64,
}

/// As a node or a piece has them: no more than `N` words, filled up, and which of them are no addresses.
fn laid_out<const N: usize>(words: &[Word], always: Word) -> ([Place; N], [u64; N], u8) {
    let (mut places, mut values, mut bases) = ([always.place; N], [always.value; N], 0);
    for (at, word) in words.iter().enumerate().take(N) {
        places[at] = word.place;
        values[at] = word.value;
        bases |= u8::from(word.is_base) << at;
    }
    (places, values, bases)
}

impl Trie {
    /// Where the node of `key` is looked for, and where it may have been put aside for another one.
    fn places(&self, key: u64) -> [usize; 2] {
        let place = self.offset(key) / size_of::<Node>();
        [place, place ^ 1]
    }

    /// The same place in bytes, told by 32 bits of the key from the 32nd on.
    #[inline(always)]
    fn offset(&self, key: u64) -> usize {
        (key >> (u32::BITS - size_of::<Node>().ilog2())) as usize & self.mask
    }

    /// Whichever node is where that of `key` is looked for.
    #[inline(always)]
    pub(super) fn at(&self, key: u64) -> &Node {
        // SAFETY: the mask is where the last of a power of two of nodes is, so the offset is that of one.
        unsafe { &*self.nodes.as_ptr().byte_add(self.offset(key)) }
    }

    /// The place of the node of `key`, if there is one. If it was put aside it comes back for another one.
    pub(super) fn place(&mut self, key: u64) -> Option<usize> {
        let [place, aside] = self.places(key);
        let is_at = |at: usize| key != 0 && self.nodes.get(at).is_some_and(|node| node.key == key);
        if !is_at(place) {
            if !is_at(aside) {
                return None;
            }
            self.nodes.swap(place, aside);
            self.displaced += 1;
            let turn = self.turn();
            if let Some(node) = self.nodes.get_mut(place) {
                node.turn = turn;
            }
        }
        Some(place)
    }

    /// The place for the node of `key`: where it is, or where another one was. That is put aside, if
    /// what is there is older.
    fn make_place(&mut self, key: u64) -> usize {
        let [place, aside] = self.places(key);
        if self.place(key).is_some() {
            return place;
        }
        let age = |at: usize| {
            let node = self.nodes.get(at).filter(|node| node.key != 0);
            node.map(|node| self.turn().wrapping_sub(node.turn))
        };
        if let Some(old) = age(place) {
            let is_elder = |beside| beside > old;
            if age(aside).is_none_or(is_elder) {
                self.nodes.swap(place, aside);
            }
            self.displaced += 1;
        }
        place
    }

    /// The present, as nodes have it. It comes again when four million were put, and a node that old may
    /// then be taken for a young one.
    fn turn(&self) -> u16 {
        (self.puts / 64) as u16
    }

    /// Whether the words of a node are there. (Those of what is none are not: the first word of any
    /// path is a return address.)
    ///
    /// # Safety
    /// The words of its path that come before them must be.
    #[inline(always)]
    pub(super) unsafe fn all_there(&self, node: &Node, anchor: Anchor) -> bool {
        let (places, more_places) = node.places.split_at(OWN / 2);
        let (values, more_values) = node.values.split_at(OWN / 2);
        // SAFETY: the caller's promise; each is asked when those before it are there.
        unsafe {
            if !are_there(anchor, places, values) {
                return false;
            }
            if node.count as usize <= OWN / 2 {
                return true;
            }
            are_there(anchor, more_places, more_values)
                && self.pieces_of(node).iter().all(|it| are_there(anchor, &it.places, &it.values))
        }
    }

    /// The words of a node that it has not itself.
    #[inline(always)]
    fn pieces_of(&self, node: &Node) -> &[Piece] {
        let first = node.first as usize;
        // SAFETY: `put` and `copy_to`, which alone write nodes, write none whose pieces are not all there.
        unsafe { self.pieces.get_unchecked(first..first + node.pieces as usize) }
    }

    /// Calls `seen` with each word of a node, in order, until it says `false`; whether it never did.
    #[inline(always)]
    pub(super) fn words(&self, node: &Node, mut seen: impl FnMut(Word) -> bool) -> bool {
        let mut left = node.count as usize;
        let mut some = |places: &[Place], values: &[u64], bases: u8| {
            let now = left.min(places.len());
            left -= now;
            let mut words = places.iter().zip(values).take(now).enumerate();
            words.all(|(at, (&place, &value))| {
                seen(Word { place, value, is_base: bases >> at & 1 != 0 })
            })
        };
        some(&node.places, &node.values, node.bases)
            && self.pieces_of(node).iter().all(|it| some(&it.places, &it.values, it.bases))
    }

    /// Puts a node with `words`, none of which is the register. They are filled up with what is `always`
    /// so on its path.
    pub(super) fn put(&mut self, key: u64, behind: Behind, words: &[Word], always: Word) {
        let place = self.make_place(key);
        self.puts += 1;
        let turn = self.turn();
        let Some(old) = self.nodes.get_mut(place) else { return };
        let (own, further) = words.split_at(words.len().min(OWN));
        let (places, values, bases) = laid_out(own, always);
        let (count, pieces) = (words.len() as u8, further.len().div_ceil(PIECE) as u8);
        let (mut first, mut room) = (old.first, old.room);
        if room < pieces {
            if self.used + pieces as usize > self.pieces.len() {
                return;
            }
            (first, room) = (self.used as u16, pieces);
            self.used += pieces as usize;
        }
        *old = Node { key, behind, turn, first, pieces, count, room, bases, places, values };
        let places = self.pieces.iter_mut().skip(first as usize);
        for (words, piece) in further.chunks(PIECE).zip(places) {
            let (places, values, bases) = laid_out(words, always);
            *piece = Piece { values, places, bases };
        }
    }

    /// Forgets all nodes, and their words.
    pub(super) fn clear(&mut self) {
        self.used = 0;
        for node in &mut *self.nodes {
            (node.key, node.room) = (0, 0);
            (node.places, node.values) = ([0; OWN], [0; OWN]);
        }
    }

    /// Copies everything to a larger trie.
    pub(super) fn copy_to(&self, to: &mut Trie) {
        (to.ids, to.puts) = (self.ids, self.puts);
        for node in self.nodes.iter().filter(|node| node.key != 0) {
            let copy = Node { first: to.used as u16, room: node.pieces, ..node.clone() };
            let place = to.make_place(copy.key);
            let pieces = to.pieces.get_mut(to.used..to.used + node.pieces as usize);
            let (Some(place), Some(pieces)) = (to.nodes.get_mut(place), pieces) else { return };
            pieces.clone_from_slice(self.pieces_of(node));
            *place = copy;
            to.used += node.pieces as usize;
        }
    }
}
