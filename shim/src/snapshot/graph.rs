//! Who refers to whom: from the roots through everything that is reached, and
//! then through what is not.
//!
//! A container's references to objects come from its own traverse function. All
//! other memory is searched word by word: whatever looks like the address of a
//! block is taken for a reference to it. What is reached is numbered in order
//! ("positions"), with its edges kept in that order.

use core::ffi::{c_int, c_void};

use hashbrown::{HashMap, HashSet};

use crate::python::objects as py;
use crate::snapshot::fault;
use crate::snapshot::fields::{self, Fields};
use crate::snapshot::memory::Map;
use crate::snapshot::nodes::{NONE, Nodes, TypeId, bits};
use crate::snapshot::objects::{LONG, Shape, Types};
use crate::snapshot::search::phase::{INTERPRETER, UNLISTED};
use crate::snapshot::stale;

/// The graph as far as it was searched.
pub struct Graph {
    /// Node at each position.
    pub order: Vec<u32>,
    /// Position of each node; [`NONE`]: not searched.
    pub position: Vec<u32>,
    /// Position from which each position was reached first; [`NONE`]: a root.
    pub parent: Vec<u32>,
    /// The phases, in order, and the position from which on each reached what it did.
    pub phases: Vec<(u32, u8)>,
    /// Where each position's edges begin; one more than there are positions.
    pub first_edge: Vec<u32>,
    /// Nodes that are referred to.
    pub edges: Vec<u32>,
    /// References found to each node that is an object, wherever they are; 255: that many or more.
    pub found: Vec<u8>,
    /// Bytes searched.
    pub searched: u64,
    /// Nodes whose references could not be followed.
    pub failed: Vec<u32>,
    /// Regions in which only the address of a block's beginning counts: those of the C library, whose
    /// allocator keeps addresses of free memory between blocks.
    pub strict: HashSet<u32>,
    /// Memory of the interpreter's that leads to native blocks, which was not followed yet.
    pub later: Vec<(usize, usize)>,
    /// Running frames by node: where each begins, where its variables do, where it ends.
    pub frames: HashMap<u32, (usize, usize, usize)>,
    /// Memory of which these parts are searched alone, by node.
    pub gaps: HashMap<u32, Vec<(usize, usize)>>,
}

/// So many places before its turn a node in the queue is fetched from memory.
const SOON: u32 = 8;

/// Where the words of a piece of memory may lead.
#[derive(Clone, Copy)]
pub enum Lead {
    /// To all there is.
    Anywhere,
    /// To objects alone.
    Objects,
    /// To what Python's allocators gave; the rest comes later.
    Python,
    /// To blocks that are no objects: of this object, whose traverse function names the others, but
    /// for those that can be in no ring.
    Blocks(u32),
    /// To blocks that are no objects: of this object, which refers to no others.
    Copies(u32),
    /// To all there is: of this object.
    From(u32),
}

/// What the search works on.
pub struct World<'a> {
    /// All nodes.
    pub nodes: &'a mut Nodes,
    /// All types.
    pub types: &'a mut Types,
    /// The memory.
    pub map: &'a Map,
    /// Which words of objects are addresses.
    pub fields: Fields<'a>,
    /// Objects that are held by those that the collector tracks, and by nothing else.
    pub accounted: Bits,
    /// Where not every block is listed: the memory in which others may lie ([`unlisted::heap`]).
    pub heap: Vec<(usize, usize)>,
    /// What words in that memory are not to lead to ([`unlisted::named`]).
    pub named: Bits,
}

/// A set of nodes.
#[derive(Default)]
pub struct Bits(Vec<u64>);

impl Bits {
    /// Takes a node in.
    pub fn add(&mut self, node: usize) {
        if self.0.len() <= node / 64 {
            self.0.resize(node / 64 + 1, 0);
        }
        self.0[node / 64] |= 1 << (node % 64);
    }

    /// Whether a node is in it.
    #[inline]
    pub fn has(&self, node: u32) -> bool {
        self.0.get(node as usize / 64).is_some_and(|word| word >> (node % 64) & 1 != 0)
    }
}

type Visit = extern "C" fn(usize, *mut c_void) -> c_int;
type Traverse = unsafe extern "C" fn(usize, Visit, *mut c_void) -> c_int;

impl World<'_> {
    /// The node of an object that something refers to; entered if it is new. `None`: no object.
    pub fn object(&mut self, address: usize) -> Option<u32> {
        if let Some(node) = self.nodes.object_at(address) {
            return Some(node);
        }
        if self.nodes.block_at(address).is_some() || address & 7 != 0 {
            return None;
        }
        let type_ = self.types.at(self.map, self.map.read::<usize>(address + py::TYPE)?);
        let info = self.types.list.get(type_ as usize)?;
        let (flags, gc) = (info.bits, info.flags & py::flags::HAVE_GC != 0);
        let heap = info.flags & py::flags::HEAP_TYPE != 0;
        let mut flags = flags;
        // Static objects have no head of the collector's; one that was made before the hooks has.
        if gc && (heap || info.shape != Shape::Type) && self.is_tracked(address) {
            flags |= bits::TRACKED;
        }
        let len = self.len_of_unlisted(address, type_);
        Some(self.nodes.add_object(address, len, type_, flags))
    }

    /// The length of an object of the heap that is no listed block, as far as it can hold addresses; 0: it is
    /// static, or all are listed.
    fn len_of_unlisted(&self, address: usize, type_: TypeId) -> usize {
        let after = self.heap.partition_point(|range| range.0 <= address);
        let Some(range) = after.checked_sub(1).map(|at| self.heap[at]) else { return 0 };
        let Some(info) = self.types.list.get(type_ as usize) else { return 0 };
        let room = range.1.saturating_sub(address);
        // What has letters for items has no addresses there; in digits there may be one.
        let items = match info.flags & (LONG | py::flags::BYTES | py::flags::UNICODE) {
            LONG => 16,
            0 => {
                let read = |at: usize| self.map.read::<usize>(at).unwrap_or(0);
                let count = (read(address + py::SIZE) as isize).unsigned_abs();
                read(info.address + py::TYPE_ITEMSIZE).saturating_mul(count)
            }
            _ => 0,
        };
        let len = info.size.saturating_add(items);
        if len <= room { len } else { info.size.min(room) }
    }

    fn is_tracked(&self, address: usize) -> bool {
        let next = self.map.read::<usize>(address.wrapping_sub(py::GC_HEAD)).unwrap_or(0);
        let next = next & !self.types.layout.next_flags();
        // The next one's link leads back here, but for the bits that are flags.
        next != 0
            && next & 7 == 0
            && self
                .map
                .read::<usize>(next + 8)
                .is_some_and(|back| back & !3 == address - py::GC_HEAD)
    }

    /// Whether an object is a type that was not made at run time: the collector leaves those alone,
    /// and the traverse function ends the process when it is called on one.
    pub fn is_static_type(&self, node: u32) -> bool {
        let type_ = self.nodes.types[node as usize] as usize;
        self.types.list.get(type_).is_some_and(|info| info.shape == Shape::Type)
            && self
                .map
                .read::<u64>(self.nodes.object(node) + py::TYPE_FLAGS)
                .is_none_or(|flags| flags & py::flags::HEAP_TYPE == 0)
    }

    /// The native block whose address an `int` is: ctypes gives addresses as numbers.
    fn address_in_number(&self, node: u32) -> Option<u32> {
        let info = self.types.list.get(self.nodes.types[node as usize] as usize)?;
        if info.flags & LONG == 0 {
            return None;
        }
        // The number of digits, of 30 bits each, and the sign: `ob_size`, from 3.12 on `lv_tag`.
        let object = self.nodes.object(node);
        // One of a single digit has 4 bytes less than two words.
        let room =
            (self.nodes.address(node) + self.nodes.len(node)).wrapping_sub(object + py::SIZE);
        if !(12..=usize::MAX / 2).contains(&room) {
            return None;
        }
        // SAFETY: words of the object, of which at most the last four bytes lie behind its block; if
        // they are not mapped after all, the fault is caught.
        let [size, digits] = unsafe { *((object + py::SIZE) as *const [u64; 2]) };
        let low = digits & 0xffff_ffff;
        let address = match size {
            1 | 8 => low,
            2 | 16 if room >= 16 => low | (digits >> 32) << 30,
            _ => return None,
        };
        let block = self.nodes.block_at(address as usize)?;
        (self.nodes.address(block) == address as usize
            && !self.nodes.has(block, bits::OBJECT)
            && fields::is_native(self.nodes, block))
        .then_some(block)
    }

    /// Whether the word at `address`, a field of the object `from`, is a reference to the object `to`
    /// that its traverse function does not name: what can be in no ring need not be named, and much
    /// else is not.
    fn is_unvisited(&self, from: u32, address: usize, word: usize, to: u32) -> bool {
        let type_ = self.types.list.get(self.nodes.types[from as usize] as usize);
        let size = type_.map(|it| it.size);
        self.nodes.object(to) == word
            && address.wrapping_sub(self.nodes.object(from)) < size.unwrap_or(0)
    }

    /// Calls `seen` with every object that a container refers to. `false`: it could not be followed.
    pub fn traverse(&self, node: u32, seen: &mut dyn FnMut(usize)) -> bool {
        let type_ = self.nodes.types[node as usize];
        let Some(info) = self.types.list.get(type_ as usize) else { return true };
        if info.traverse == 0 || !self.nodes.has(node, bits::CONTAINER) || self.is_static_type(node)
        {
            return true;
        }
        extern "C" fn visit(object: usize, seen: *mut c_void) -> c_int {
            // SAFETY: the pointer is to the reference below, which outlives the traversal.
            let seen = unsafe { &mut *seen.cast::<&mut dyn FnMut(usize)>() };
            seen(object);
            0
        }
        let mut seen = seen;
        let seen: *mut &mut dyn FnMut(usize) = &raw mut seen;
        // SAFETY: `tp_traverse` of the object's own type, called as a collection would call it, in a
        // copy of the process in which nothing else runs; the caller is under `fault::protect`.
        unsafe {
            let traverse: Traverse = core::mem::transmute(info.traverse);
            traverse(self.nodes.object(node), visit, seen.cast());
        }
        true
    }
}

impl Graph {
    /// Nothing searched yet.
    pub fn new(nodes: &Nodes) -> Graph {
        let count = nodes.count() as usize;
        let mut first_edge = Vec::with_capacity(count + 1024);
        first_edge.push(0);
        Graph {
            order: Vec::with_capacity(count + 1024),
            position: vec![NONE; count],
            parent: Vec::with_capacity(count + 1024),
            phases: Vec::new(),
            first_edge,
            edges: Vec::new(),
            found: vec![0; count],
            searched: 0,
            failed: Vec::new(),
            frames: HashMap::new(),
            gaps: HashMap::new(),
            strict: HashSet::new(),
            later: Vec::new(),
        }
    }

    /// Whether a node was searched, or waits for it.
    pub fn knows(&self, node: u32) -> bool {
        self.position.get(node as usize).is_some_and(|&position| position != NONE)
    }

    /// In which phase a position was reached.
    pub fn phase(&self, position: u32) -> u8 {
        self.phases.iter().rev().find(|phase| phase.0 <= position).map_or(0, |phase| phase.1)
    }

    /// Nodes that the one at a position refers to.
    pub fn targets(&self, position: u32) -> &[u32] {
        let at = position as usize;
        &self.edges[self.first_edge[at] as usize..self.first_edge[at + 1] as usize]
    }

    /// Makes room for nodes that came up during the search.
    pub fn grow(&mut self, count: usize) {
        if self.position.len() < count {
            self.position.resize(count, NONE);
            self.found.resize(count, 0);
        }
    }

    /// Puts a node into the queue, unless it was there before.
    pub fn reach(&mut self, node: u32, parent: u32, phase: u8) {
        if node as usize >= self.position.len() {
            self.grow(node as usize + 1);
        }
        let slot = &mut self.position[node as usize];
        if *slot == NONE {
            *slot = self.order.len() as u32;
            if self.phases.last().is_none_or(|last| last.1 != phase) {
                self.phases.push((self.order.len() as u32, phase));
            }
            self.order.push(node);
            self.parent.push(parent);
        }
    }

    /// Searches everything in the queue, and what that leads to.
    pub fn run(&mut self, world: &mut World, phase: u8, follow: bool) {
        while self.first_edge.len() <= self.order.len() {
            let fine = fault::protect(|| {
                while self.first_edge.len() <= self.order.len() {
                    self.one(world, phase, follow);
                }
            });
            if !fine {
                // What was found of its references so far stays.
                let at = self.first_edge.len() - 1;
                if let Some(&node) = self.order.get(at) {
                    if world.nodes.is_block(node)
                        && world.nodes.has(node, bits::OBJECT)
                        && !world.nodes.has(node, bits::SEARCHED_BY_WORDS)
                    {
                        if world.is_tracked(world.nodes.object(node)) {
                            // Its traverse function does not work here: search it word by word.
                            world.nodes.search_by_words(node);
                        } else {
                            // It only looked like an object: search it again as a block.
                            world.nodes.not_an_object(node);
                        }
                        continue;
                    }
                    // An object that the collector does not track may be none at all.
                    if !world.nodes.has(node, bits::OBJECT) || world.nodes.has(node, bits::TRACKED)
                    {
                        self.failed.push(node);
                    }
                    self.close(world, at as u32, phase, follow);
                }
            }
        }
    }

    /// Searches the next node in the queue.
    fn one(&mut self, world: &mut World, phase: u8, follow: bool) {
        let at = self.first_edge.len() as u32 - 1;
        let node = self.order[at as usize];
        if let Some(&soon) = self.order.get((at + SOON) as usize) {
            world.nodes.prefetch(soon);
        }
        self.search(world, node);
        self.close(world, at, phase, follow);
    }

    fn close(&mut self, world: &World, at: u32, phase: u8, follow: bool) {
        let from = self.first_edge[at as usize] as usize;
        if phase == UNLISTED {
            // What others hold has its holders: a word that somebody left is not one more.
            let begin = self.phases.last().map_or(0, |last| last.0);
            let mut kept = from;
            for edge in from..self.edges.len() {
                let position = self.position.get(self.edges[edge] as usize).copied();
                if position.is_none_or(|it| it == NONE || it >= begin) {
                    self.edges[kept] = self.edges[edge];
                    kept += 1;
                }
            }
            self.edges.truncate(kept);
        }
        let is_gap = self.gaps.contains_key(&self.order[at as usize]);
        self.first_edge.push(self.edges.len() as u32);
        if follow {
            for edge in from..self.edges.len() {
                let node = self.edges[edge];
                // By the collector's reckoning nobody refers to garbage: a word that looks like it is
                // stale.
                let is_spared = is_gap && world.named.has(node);
                if !world.nodes.has(node, bits::GARBAGE) && !is_spared {
                    self.reach(node, at, phase);
                }
            }
        }
    }

    /// Adds the edges of one node. Never inlined: a fault in here must find the queue as it was written,
    /// not in registers.
    #[inline(never)]
    fn search(&mut self, world: &mut World, node: u32) {
        // What is dead may hold addresses that are nobody's any more.
        if world.nodes.has(node, bits::LEAF | bits::PARKED) {
            if !world.nodes.has(node, bits::PARKED)
                && let Some(block) = world.address_in_number(node)
            {
                self.edges.push(block);
            }
            return;
        }
        if let Some(&(start, locals, end)) = self.frames.get(&node) {
            // The frame's own fields are counted, but hold nothing: its globals are its module's.
            let kept = self.edges.len();
            self.words(world, start, locals, 0..0, Lead::Objects);
            self.edges.truncate(kept);
            // Variables, and what is being computed, are objects.
            return self.words(world, locals, end, 0..0, Lead::Objects);
        }
        if let Some(gaps) = self.gaps.get_mut(&node).map(core::mem::take) {
            for (from, to) in gaps {
                self.words(world, from, to, 0..0, Lead::Anywhere);
            }
            return;
        }
        let object = world.nodes.has(node, bits::OBJECT);
        if object {
            let mut new = Vec::new();
            world.traverse(node, &mut |address| match world.nodes.object_at(address) {
                Some(other) => self.edges.push(other),
                None => new.push(address),
            });
            for address in new {
                if let Some(other) = world.object(address) {
                    self.edges.push(other);
                }
            }
        }
        let start = world.nodes.address(node);
        let mut end = start + world.nodes.len(node);
        let mut skip = 0..0;
        let mut strict = self.strict.contains(&node);
        let mut lead = match world.nodes.has(node, bits::ITEMS) {
            true => Lead::Objects,
            false if self.phase(self.position[node as usize]) == INTERPRETER => Lead::Python,
            false => Lead::Anywhere,
        };
        if object {
            let at = world.nodes.object(node);
            let info = &world.types.list[world.nodes.types[node as usize] as usize];
            let (shape, flags) = (info.shape, info.flags);
            if world.is_static_type(node) {
                // All that it refers to are objects; what looks like a native block lies behind it.
                return self.words(world, at, at + py::TYPE_SIZE, 0..0, Lead::Objects);
            }
            // Behind the fields of a type without items is what was there before.
            if info.ends {
                end = end.min(at + info.size);
            }
            // Values of attributes lie behind, which the traverse function names, and bytes about
            // their order, which look like addresses where the heap lies low: they count, no more.
            if flags & py::flags::INLINE_VALUES != 0 && world.nodes.has(node, bits::CONTAINER) {
                let (kept, fields) = (self.edges.len(), end.min(at + info.size));
                self.words(world, fields, end, 0..0, Lead::Objects);
                self.edges.truncate(kept);
                end = fields;
            }
            match shape {
                // Its target is not held by it, nor are its neighbours in the list of references.
                Shape::Weak => return,
                // Text may have copies of itself, which are no objects.
                Shape::Text => {
                    return self.words(world, start, end.min(at + 72), 0..0, Lead::Copies(node));
                }
                Shape::List | Shape::Dict | Shape::Set => stale::clear(self, world, shape, at),
                // What is left of a computation on it that ended is on a finished frame's stack.
                Shape::Frame => end = end.min(frame_end(world, at)),
                // It has flags and version numbers, where the heap lies low they look like addresses
                // within blocks; what it owns it has by the beginning.
                Shape::Type => strict = true,
                _ => {}
            }
            if flags & py::flags::HAVE_GC != 0 {
                skip = at - py::GC_HEAD..at;
            }
            // Where there is a traverse function, references to objects are its word.
            lead = match world.nodes.has(node, bits::CONTAINER) {
                true => Lead::Blocks(node),
                false => Lead::From(node),
            };
        }
        let kept = self.edges.len();
        self.words(world, start, end, skip, lead);
        if strict {
            let exact = |edge: u32| {
                let target = world.nodes.address(edge);
                let object = match world.nodes.has(edge, bits::OBJECT) {
                    true => world.nodes.object(edge),
                    false => target,
                };
                (start..end.saturating_sub(7))
                    .step_by(8)
                    .filter_map(|at| world.map.read::<usize>(at))
                    .any(|word| word == target || word == object)
            };
            let found: Vec<u32> = self.edges.drain(kept..).filter(|&edge| exact(edge)).collect();
            self.edges.extend(found);
        }
    }

    /// Searches memory word by word.
    pub fn words(
        &mut self,
        world: &mut World,
        start: usize,
        end: usize,
        skip: core::ops::Range<usize>,
        lead: Lead,
    ) {
        self.searched += (end.saturating_sub(start)) as u64;
        let mut at = start.next_multiple_of(8);
        let mut last = NONE;
        let mut word = 0;
        while at + 8 <= end {
            if skip.contains(&at) {
                at = skip.end;
                continue;
            }
            let before = word;
            // SAFETY: the caller names memory that is mapped readable; if it is not after all, the
            // fault is caught.
            word = unsafe { *(at as *const usize) };
            at += 8;
            if word < 4096 || word >> 47 != 0 {
                continue;
            }
            let listed = world.nodes.block_at(word);
            let Some(node) = listed.or_else(|| world.nodes.unlisted_at(word & !3)) else {
                continue;
            };
            if word >> 32 == 0 && stale::is_number(world, node, word, before) {
                continue;
            }
            if world.nodes.has(node, bits::OBJECT) {
                // The collector's head stands there: only its lists lead to it, and they hold nothing.
                if word < world.nodes.object(node) {
                    continue;
                }
                // From 3.14 on the two lowest bits of a reference on a frame's stack are a tag.
                if world.nodes.object(node) == word & !3 {
                    if node as usize >= self.found.len() {
                        self.grow(node as usize + 1);
                    }
                    let found = &mut self.found[node as usize];
                    *found = found.saturating_add(1);
                }
                if world.accounted.has(node) {
                    continue;
                }
                if let Lead::Copies(_) = lead {
                    continue;
                }
                if let Lead::Blocks(from) = lead
                    && !world.is_unvisited(from, at - 8, word, node)
                {
                    continue;
                }
            } else if let Lead::Objects = lead {
                continue;
            } else if world.nodes.has(node, bits::ITEMS)
                && !matches!(lead, Lead::Blocks(_) | Lead::From(_))
            {
                // A list or a dict has that; a word elsewhere was left there, as where the interpreter keeps
                // rooms for reuse.
                continue;
            } else if let Lead::Python = lead
                && fields::is_native(world.nodes, node)
            {
                if self.later.last() != Some(&(start, end)) {
                    self.later.push((start, end));
                }
                continue;
            } else if let Lead::Blocks(from) | Lead::Copies(from) | Lead::From(from) = lead
                && fields::is_stale(world, from, at - 8, node)
            {
                continue;
            }
            if node != last {
                self.edges.push(node);
                last = node;
            }
        }
    }
}

/// Where the variables of a frame object end, before 3.11, or what is being computed on them. (From
/// 3.11 on a frame object has neither.)
fn frame_end(world: &World, frame: usize) -> usize {
    let read = |at: usize| world.map.read::<usize>(frame + at).unwrap_or(0);
    let values = read(py::FRAME_VALUES);
    let used = match world.types.layout.minor {
        // The first free place, or null: it is finished, or it runs.
        8 | 9 => read(py::FRAME_TOP).saturating_sub(values),
        10 => {
            let depth = world.map.read::<i32>(frame + py::FRAME_DEPTH).unwrap_or(0);
            usize::try_from(depth).map_or(0, |depth| depth * 8)
        }
        _ => return usize::MAX,
    };
    values.saturating_add(used)
}
