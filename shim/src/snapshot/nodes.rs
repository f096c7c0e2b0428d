//! Every live block as a numbered node, and from any address to its node.

use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

use hashbrown::HashMap;
use pyshim_dump::record::Origin;

use crate::epoch::Whose;
use crate::sites::NOWHERE;
use crate::snapshot::memory::Map;
use crate::{epoch, live, sample, sites, store};

/// No node.
pub const NONE: u32 = u32::MAX;

/// What is known of a node, one bit each.
pub mod bits {
    /// It is a Python object.
    pub const OBJECT: u8 = 1;
    /// The collector can follow it: its type has a traverse function.
    pub const CONTAINER: u8 = 2;
    /// The collector does follow it.
    pub const TRACKED: u8 = 4;
    /// Its content is no pointers: text, numbers.
    pub const LEAF: u8 = 8;
    /// One full collection would find it unreachable.
    pub const GARBAGE: u8 = 16;
    /// A dead object that is kept for reuse.
    pub const PARKED: u8 = 32;
    /// Following its references failed, and so its memory is searched like any other.
    pub const SEARCHED_BY_WORDS: u8 = 64;
    /// It is the room for items of a list or a dict: it leads to objects, and to nothing else.
    pub const ITEMS: u8 = 128;
}

/// A type by position in the census; objects have one.
pub type TypeId = u16;
/// No type.
pub const NO_TYPE: TypeId = TypeId::MAX;

/// What is no live block: static objects, roots.
#[derive(Clone, Copy, Debug)]
pub struct Extra {
    /// Where it is; 0 for a root that is nowhere.
    pub address: usize,
    /// Bytes that are searched.
    pub len: usize,
}

/// All nodes. Blocks come first, in order of address; then what is no block.
pub struct Nodes {
    /// Where each block begins, in steps of 16 bytes, without the bits above the lowest 32.
    start: Vec<u32>,
    /// From which block on which bits stand above those.
    above: Vec<(u32, usize)>,
    len: Vec<u16>,
    /// Lengths that 16 bits do not hold.
    long: HashMap<u32, usize>,
    /// The site of each block ([`PARENTS`], [`ELDERS`]).
    site: Vec<u32>,
    /// [`bits`] of each node.
    pub bits: Vec<u8>,
    /// The type of each node.
    pub types: Vec<TypeId>,
    /// How far into its block an object begins, in steps of 16 bytes.
    shift: Vec<u8>,
    extras: Vec<Extra>,
    by_address: HashMap<usize, u32>,
    /// Between these addresses lie the extras that are objects of the heap.
    unlisted: (usize, usize),
    index: Index,
}

/// The site is one of the process's from which this one was forked.
const PARENTS: u32 = 1 << 31;
/// The block is older than that process.
const ELDERS: u32 = u32::MAX;

/// The length of this many bytes or more stands elsewhere.
const LONG: u16 = u16::MAX;

/// Room is made at once for so many blocks; there may be more.
const MOST_EXPECTED: usize = 1 << 28;

/// From an address to the first block of its page.
struct Index {
    /// Leaf number to position in `pages` plus one, or where no block begins but one reaches into,
    /// [`REACHED`] and that one. Words of all kinds are looked up here: most lead nowhere.
    leaves: Vec<u32>,
    pages: Vec<Box<[u32; PAGES + 1]>>,
}

const PAGES: usize = 1 << (live::LEAF_BITS - 12);

/// See [`Index::leaves`].
const REACHED: u32 = 1 << 31;

impl Nodes {
    /// Takes all live blocks.
    pub fn gather() -> Nodes {
        let live = |site| store::live(site).0 as usize;
        let blocks = (0..store::site_count()).map(live).sum::<usize>().min(MOST_EXPECTED) + 4096;
        let mut nodes = Nodes {
            // Room that is not used is no memory; to grow would leave holes.
            start: Vec::with_capacity(blocks),
            above: Vec::new(),
            len: Vec::with_capacity(blocks),
            long: HashMap::new(),
            site: Vec::with_capacity(blocks),
            bits: Vec::new(),
            types: Vec::new(),
            shift: Vec::new(),
            extras: Vec::new(),
            by_address: HashMap::new(),
            unlisted: (usize::MAX, 0),
            index: Index { leaves: vec![0; live::LEAVES], pages: Vec::new() },
        };
        let mut leaf = usize::MAX;
        let mut batch: Vec<(usize, usize, u32)> = Vec::new();
        live::visit_addresses(|address, block| {
            if address >> live::LEAF_BITS != leaf {
                nodes.take(leaf, &mut batch);
                leaf = address >> live::LEAF_BITS;
            }
            let site = match epoch::whose(block.epoch) {
                Whose::Own => block.site,
                Whose::Parents => block.site | PARENTS,
                Whose::Elders => ELDERS,
            };
            batch.push((address, block.size, site));
        });
        nodes.take(leaf, &mut batch);
        let count = nodes.start.len();
        nodes.bits = vec![0; count];
        nodes.types = vec![NO_TYPE; count];
        nodes.shift = vec![0; count];
        nodes
    }

    fn take(&mut self, leaf: usize, batch: &mut Vec<(usize, usize, u32)>) {
        if batch.is_empty() {
            return;
        }
        batch.sort_unstable_by_key(|block| block.0);
        let mut pages = Box::new([0u32; PAGES + 1]);
        let first = self.start.len() as u32;
        let mut page = 0;
        for (at, &(address, len, site)) in batch.iter().enumerate() {
            let own = (address >> 12) & (PAGES - 1);
            // The first block that begins in this page or after it.
            while page <= own {
                pages[page] = first + at as u32;
                page += 1;
            }
            if len < LONG.into() {
                self.len.push(len as u16);
            } else {
                self.long.insert(self.len.len() as u32, len);
                self.len.push(LONG);
            }
            // All blocks begin at multiples of 16, and those of a leaf have the rest in common.
            let high = address >> 36;
            if self.above.last().is_none_or(|last| last.1 != high) {
                self.above.push((self.start.len() as u32, high));
            }
            self.start.push((address >> 4) as u32);
            self.site.push(site);
        }
        let after = first + batch.len() as u32;
        pages[page..].fill(after);
        self.index.pages.push(pages);
        if let Some(slot) = self.index.leaves.get_mut(leaf) {
            *slot = self.index.pages.len() as u32;
        }
        // Leaves come in order: those in which blocks begin are overwritten.
        if let Some(&(address, len, _)) = batch.last().filter(|_| after <= REACHED) {
            let last = (address + len.max(1) - 1) >> live::LEAF_BITS;
            let reached = self.index.leaves.get_mut(leaf + 1..=last).unwrap_or_default();
            reached.fill(REACHED | (after - 1));
        }
        batch.clear();
    }

    /// Live blocks.
    pub fn blocks(&self) -> u32 {
        self.start.len() as u32
    }

    /// All nodes.
    pub fn count(&self) -> u32 {
        self.bits.len() as u32
    }

    /// Whether a node is a live block.
    #[inline]
    pub fn is_block(&self, node: u32) -> bool {
        (node as usize) < self.start.len()
    }

    /// Where a node's memory begins.
    #[inline]
    pub fn address(&self, node: u32) -> usize {
        match self.start.get(node as usize) {
            Some(&low) => self.high(node) << 36 | (low as usize) << 4,
            None => self.extra(node).address,
        }
    }

    /// The highest bits of a block's address. There are few ranges of addresses that blocks lie in.
    #[inline]
    fn high(&self, block: u32) -> usize {
        self.above.iter().rev().find(|range| range.0 <= block).map_or(0, |range| range.1)
    }

    /// How many blocks begin before an address.
    fn before(&self, address: usize) -> usize {
        let (mut from, mut to) = (0, self.start.len());
        while from < to {
            let middle = from + (to - from) / 2;
            if self.address(middle as u32) < address { from = middle + 1 } else { to = middle }
        }
        from
    }

    /// Bytes of a node's memory.
    #[inline]
    pub fn len(&self, node: u32) -> usize {
        match self.len.get(node as usize) {
            Some(&LONG) => self.long.get(&node).copied().unwrap_or(LONG.into()),
            Some(&len) => len as usize,
            None => self.extra(node).len,
        }
    }

    /// Bytes that a node accounts for: those of its block, or of all that it was drawn for. A forked process
    /// does not account for what its parent allocated.
    #[inline]
    pub fn bytes(&self, node: u32) -> u64 {
        if !self.is_own(node) {
            return 0;
        }
        let len = self.len(node);
        sample::weight_of(len).map_or(len as u64, |weight| weight.bytes)
    }

    /// So many bytes of a block, times what it was drawn for.
    pub fn scaled(&self, node: u32, bytes: u64) -> u64 {
        let len = self.len(node);
        let scale = |to: u64| (u128::from(bytes) * u128::from(to) / len.max(1) as u128) as u64;
        sample::weight_of(len).map_or(bytes, |weight| scale(weight.bytes))
    }

    /// Blocks and objects that a node accounts for: itself, or all that it was drawn for.
    #[inline]
    pub fn number(&self, node: u32) -> u64 {
        if !sample::is_on() {
            return u64::from(!self.is_inherited(node));
        }
        if !self.is_own(node) {
            return 0;
        }
        sample::weight_of(self.len(node)).map_or(1, |weight| weight.blocks)
    }

    /// Whether a node is a live block that this process allocated.
    #[inline]
    pub fn is_own(&self, node: u32) -> bool {
        self.site.get(node as usize).is_some_and(|site| site & PARENTS == 0)
    }

    /// Whether it is one that a process further up allocated.
    #[inline]
    pub fn is_inherited(&self, node: u32) -> bool {
        self.is_block(node) && !self.is_own(node)
    }

    /// The site of a block that this process allocated; else none that there is.
    #[inline]
    pub fn site(&self, node: u32) -> u32 {
        if self.is_own(node) { self.site[node as usize] } else { NOWHERE }
    }

    /// What blocks of one site have in common, whosever that is.
    pub fn kind(&self, node: u32) -> u32 {
        self.site.get(node as usize).copied().unwrap_or(NONE)
    }

    /// Where a block came from, as far as that is known.
    pub fn origin(&self, node: u32) -> Option<Origin> {
        match *self.site.get(node as usize)? {
            ELDERS => None,
            site if site & PARENTS != 0 => sites::origin(site & !PARENTS, Whose::Parents),
            site => sites::origin(site, Whose::Own),
        }
    }

    fn extra(&self, node: u32) -> Extra {
        let at = node as usize - self.start.len();
        self.extras.get(at).copied().unwrap_or(Extra { address: 0, len: 0 })
    }

    /// Adds a node that is no block.
    pub fn add(&mut self, extra: Extra) -> u32 {
        let node = self.count();
        self.extras.push(extra);
        self.bits.push(0);
        self.types.push(NO_TYPE);
        self.shift.push(0);
        node
    }

    /// Adds an object that is no live block: a static one, or one that was there before the hooks; or one of
    /// the heap that is not listed, with its length.
    pub fn add_object(&mut self, address: usize, len: usize, type_: TypeId, flags: u8) -> u32 {
        let node = self.add(Extra { address, len });
        if len > 0 {
            let (first, last) = self.unlisted;
            self.unlisted = (first.min(address), last.max(address));
        }
        self.by_address.insert(address, node);
        self.become_object(node, 0, type_, flags);
        node
    }

    /// Says that a node is an object, `shift` bytes into its block.
    pub fn become_object(&mut self, node: u32, shift: usize, type_: TypeId, flags: u8) {
        let at = node as usize;
        self.bits[at] |= bits::OBJECT | flags;
        self.types[at] = type_;
        self.shift[at] = (shift / 16) as u8;
    }

    /// Takes [`Nodes::become_object`] back.
    pub fn not_an_object(&mut self, node: u32) {
        let at = node as usize;
        self.bits[at] = bits::SEARCHED_BY_WORDS;
        self.types[at] = NO_TYPE;
        self.shift[at] = 0;
    }

    /// From now on an object's references are looked for word by word.
    pub fn search_by_words(&mut self, node: u32) {
        let bits = &mut self.bits[node as usize];
        *bits = (*bits & !bits::CONTAINER) | bits::SEARCHED_BY_WORDS;
    }

    /// Whether a node has one of these [`bits`].
    #[inline]
    pub fn has(&self, node: u32, bits: u8) -> bool {
        self.bits[node as usize] & bits != 0
    }

    /// The address of the object that a node is.
    #[inline]
    pub fn object(&self, node: u32) -> usize {
        self.address(node) + usize::from(self.shift[node as usize]) * 16
    }

    /// Has the memory of a node that comes soon brought near: each begins on a cache line of its own,
    /// and to wait for one after the other would be most of the work.
    #[inline]
    pub fn prefetch(&self, node: u32) {
        if self.is_block(node) {
            // SAFETY: a hint; an address that is not mapped does no harm.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(self.object(node) as *const i8) };
        }
    }

    /// The live block that holds `address`.
    #[inline]
    pub fn block_at(&self, address: usize) -> Option<u32> {
        let leaf = *self.index.leaves.get(address >> live::LEAF_BITS)?;
        if leaf == 0 {
            return None;
        }
        if leaf & REACHED != 0 {
            let at = leaf & !REACHED;
            return (address - self.address(at) < self.len(at)).then_some(at);
        }
        let pages = &self.index.pages[leaf as usize - 1];
        let page = (address >> 12) & (PAGES - 1);
        let (from, to) = (pages[page] as usize, pages[page + 1] as usize);
        // The last that begins at or before the address: in this page, or the one before its first.
        let mut after = from;
        if to > from {
            let low = (address >> 4) as u32;
            after += self.start[from..to].partition_point(|&start| start <= low);
        }
        let at = after.checked_sub(1)?;
        let inside = address.wrapping_sub(self.address(at as u32));
        (inside < self.len(at as u32).max(1)).then_some(at as u32)
    }

    /// The node of the object at exactly this address, if it is known as one.
    #[inline]
    pub fn object_at(&self, address: usize) -> Option<u32> {
        match self.block_at(address) {
            Some(node) => {
                (self.has(node, bits::OBJECT) && self.object(node) == address).then_some(node)
            }
            None if self.by_address.is_empty() => None,
            None => self.by_address.get(&address).copied(),
        }
    }

    /// The object of the heap at exactly this address that is no listed block, if it is known.
    #[inline]
    pub fn unlisted_at(&self, address: usize) -> Option<u32> {
        let (first, last) = self.unlisted;
        if address < first || address > last || address & 7 != 0 {
            return None;
        }
        self.by_address.get(&address).copied().filter(|&node| self.extra(node).len > 0)
    }

    /// Whether a node is one.
    pub fn is_unlisted(&self, node: u32) -> bool {
        !self.is_block(node) && self.has(node, bits::OBJECT) && self.extra(node).len > 0
    }

    /// All of those.
    pub fn unlisted(&self) -> impl Iterator<Item = Extra> {
        let all = self.blocks()..self.count();
        all.filter(|&node| self.is_unlisted(node)).map(|node| self.extra(node))
    }

    /// Whether a block begins in this range.
    pub fn any_block_in(&self, start: usize, end: usize) -> bool {
        let at = self.before(start);
        at < self.start.len() && self.address(at as u32) < end
    }

    /// The blocks that begin in a range.
    pub fn blocks_in(&self, start: usize, end: usize) -> core::ops::Range<u32> {
        self.before(start) as u32..self.before(end) as u32
    }

    /// Whether the memory of all blocks can be read; those of which it cannot are cut to nothing.
    pub fn cut_unreadable(&mut self, map: &Map) -> u64 {
        let mut lost = 0;
        let mut region = 0;
        for node in 0..self.start.len() {
            let (start, len) = (self.address(node as u32), self.len(node as u32));
            while map.regions.get(region).is_some_and(|one| one.end <= start) {
                region += 1;
            }
            let inside = map
                .regions
                .get(region)
                .is_some_and(|one| one.start <= start && start + len <= one.end && one.readable);
            if !inside && !map.readable(start, len) {
                lost += len as u64;
                self.len[node] = 0;
                self.long.remove(&(node as u32));
            }
        }
        lost
    }
}
