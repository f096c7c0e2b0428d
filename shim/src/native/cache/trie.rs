//! The trie of a cache of paths: its nodes and their words.
//!
//! A node has words of the stack that are the same on every path through it, and then one where
//! paths part; what is behind that is found by the word that is there. So a look reads each word of
//! the path once, from the innermost on, and no word before those inside it were found to be right.

use core::cell::Cell;

use crate::hash::scatter;
use crate::native::{Anchor, MAX_NATIVE};
use crate::sites;

/// Words of the longest path that is kept: two of a frame at most, and what ended it.
pub(super) const LONGEST: usize = 2 * MAX_NATIVE + 1;

/// Words lie in fours, a cache line each: a node has one, and more elsewhere if it must.
pub(super) const FOUR: usize = 4;

/// A word of the stack that must be as it was.
#[derive(Clone, Copy)]
pub(super) struct Check {
    pub(super) address: usize,
    pub(super) value: u64,
}

/// A word of a path that is to be kept.
#[derive(Clone, Copy)]
pub(super) struct Word {
    pub(super) check: Check,
    /// It is no return address but a saved rbp, or rbp itself.
    pub(super) is_base: bool,
}

/// What is known of the stack from one parting of paths to the next, or to their end.
///
/// The second of its two cache lines are words, so that reading these need not wait for the first.
#[derive(Clone)]
#[repr(C, align(128))]
pub struct Node {
    /// What it is found by; 0: it is none.
    pub(super) key: u64,
    /// The stack pointer at the hook.
    pub(super) sp: usize,
    pub(super) behind: Behind,
    /// Which is the first of its further fours, and how many there are. All lie within
    /// [`Trie::fours`].
    pub(super) first: u32,
    pub(super) fours: u8,
    /// Words it has, and fours that there is room for at `first`.
    pub(super) count: u8,
    pub(super) room: u8,
    /// As in [`Trie::bases`], of `words`.
    pub(super) bases: u8,
    /// The first words; where there are fewer, what is always so on its path.
    pub(super) words: [Check; FOUR],
}

impl Node {
    /// Whether it is that of `key` on the path that `anchor` is on. (What is none has no stack pointer.)
    #[inline(always)]
    pub(super) fn is_of(&self, key: u64, anchor: Anchor) -> bool {
        self.key == key && self.sp == anchor.sp
    }
}

const _: () = assert!(size_of::<Node>() == 128 && LONGEST <= u8::MAX as usize);

/// What comes behind the words of a node. (With a tag of its own, so that zero is an end.)
#[derive(Clone)]
#[repr(u8)]
pub(super) enum Behind {
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
    pub(super) fn new(hash: u64, ended: bool) -> Path {
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
pub(super) const PARTINGS: usize = 24;

/// The key of what comes behind a fork.
#[inline(always)]
pub(super) fn behind(id: u64, word: u64) -> u64 {
    scatter(id ^ word)
}

/// Whether words of the stack are what they were.
///
/// # Safety
/// The words of their path that come before them must be.
#[inline(always)]
pub(super) unsafe fn are_there(words: &[Check; FOUR]) -> bool {
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
pub(super) struct Trie {
    /// A power of two of them.
    pub(super) nodes: &'static mut [Node],
    pub(super) fours: &'static mut [[Check; FOUR]],
    /// A bit for each word of a four that is no return address.
    pub(super) bases: &'static mut [u8],
    /// Fours in use.
    pub(super) used: usize,
    /// Nodes that gave way to others.
    pub(super) displaced: usize,
    /// Forks that were made.
    pub(super) ids: u64,
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
    pub(super) fn place(&self, key: u64) -> usize {
        (key >> 32) as usize & (self.nodes.len() - 1)
    }

    /// Whichever node is where that of `key` would be.
    #[inline(always)]
    pub(super) fn at(&self, key: u64) -> &Node {
        // SAFETY: `map` made a power of two of them, so the place is below their number.
        unsafe { self.nodes.get_unchecked(self.place(key)) }
    }

    /// The node of `key` on the path that `anchor` is on.
    #[inline(always)]
    pub(super) fn node(&self, key: u64, anchor: Anchor) -> Option<&Node> {
        Some(self.at(key)).filter(|node| node.is_of(key, anchor))
    }

    /// The words of a node that it has not itself.
    #[inline(always)]
    pub(super) fn fours_of(&self, node: &Node) -> &[[Check; FOUR]] {
        let first = node.first as usize;
        // SAFETY: `put` and `copy_to`, which alone write nodes, write none whose fours are not all there.
        unsafe { self.fours.get_unchecked(first..first + node.fours as usize) }
    }

    /// The words of a node.
    pub(super) fn words<'a>(&'a self, node: &'a Node) -> impl Iterator<Item = Word> + 'a {
        let checks = node.words.iter().chain(self.fours_of(node).as_flattened());
        let bases = self.bases.get(node.first as usize..).unwrap_or_default();
        let bases = core::iter::once(&node.bases).chain(bases);
        let is_base = bases.flat_map(|bases| (0..FOUR).map(move |at| bases >> at & 1 != 0));
        let words = checks.zip(is_base).take(node.count as usize);
        words.map(|(&check, is_base)| Word { check, is_base })
    }

    /// Puts a node with `words` in the place of whichever is there. Its fours are filled up with what
    /// is `always` so on its path.
    pub(super) fn put(&mut self, mut node: Node, words: &[Word], always: Check) {
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
    pub(super) fn copy_to(&self, to: &mut Trie, moved: impl Fn(usize) -> usize) {
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
