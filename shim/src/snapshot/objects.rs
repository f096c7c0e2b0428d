//! Which blocks are Python objects, and of which type.
//!
//! An object is recognised by the pointer to its type, whether the collector
//! tracks it or not, and a type by being an instance of `type` or of a class
//! made from it. Nothing here changes or calls anything.

use hashbrown::HashMap;

use crate::python::objects::{self as py, Objects, flags};
use crate::snapshot::fields;
use crate::snapshot::memory::Map;
use crate::snapshot::nodes::{NO_TYPE, Nodes, TypeId, bits};

/// What is known of a type.
#[derive(Clone, Debug)]
pub struct TypeInfo {
    /// The type object.
    pub address: usize,
    /// `tp_flags`.
    pub flags: u64,
    /// `tp_traverse`; 0: none.
    pub traverse: usize,
    /// `tp_basicsize`.
    pub size: usize,
    /// Whether its objects end with their fields: it has no items, nor values behind the fields.
    pub ends: bool,
    /// [`bits`] that its objects have.
    pub bits: u8,
    /// How its objects are made up, as far as it matters here.
    pub shape: Shape,
}

/// Types whose objects are treated in a way of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// None of the others.
    Plain,
    /// Text: only its head can point anywhere.
    Text,
    /// `list` and what is made from it.
    List,
    /// A weak reference: what it refers to is not held by it.
    Weak,
    /// A module.
    Module,
    /// A type.
    Type,
    /// A dict.
    Dict,
    /// A set, frozen or not.
    Set,
    /// A running or finished frame.
    Frame,
}

/// Where the interpreter's own types are, to tell their objects.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known {
    /// `PyType_Type`.
    pub type_type: usize,
    /// `_PyWeakref_RefType`.
    pub weak_reference: usize,
    /// `PyModule_Type`.
    pub module: usize,
    /// `PyFloat_Type`.
    pub float: usize,
    /// `PyComplex_Type`.
    pub complex: usize,
    /// `PyFrame_Type`.
    pub frame: usize,
    /// `PySet_Type` and `PyFrozenSet_Type`.
    pub sets: [usize; 2],
}

/// `Py_TPFLAGS_LONG_SUBCLASS`.
pub const LONG: u64 = 1 << 24;
/// `Py_TPFLAGS_READY`.
const READY: u64 = 1 << 12;
/// More references than this are no count: something else lies there, or the object is immortal.
const IMMORTAL: u64 = 1 << 28;
/// Types beyond this number are one.
const MOST_TYPES: usize = NO_TYPE as usize - 1;

/// The types seen so far.
pub struct Types {
    /// In order of first sight.
    pub list: Vec<TypeInfo>,
    by_address: HashMap<usize, TypeId>,
    /// Recent answers; most words asked about are no types.
    recent: Vec<(usize, TypeId)>,
    /// Some objects of each type.
    pub samples: Vec<Vec<u32>>,
    known: Known,
    /// Where the interpreter keeps what.
    pub layout: &'static Objects,
}

const RECENT: usize = 1024;
/// Objects of each type that are kept as samples.
const SAMPLES: usize = 128;

impl Types {
    /// None yet.
    pub fn new(known: Known, layout: &'static Objects) -> Types {
        Types {
            list: Vec::new(),
            by_address: HashMap::new(),
            recent: vec![(0, NO_TYPE); RECENT],
            samples: Vec::new(),
            known,
            layout,
        }
    }

    /// The type at `address`; [`NO_TYPE`] if there is none.
    #[inline]
    pub fn at(&mut self, map: &Map, address: usize) -> TypeId {
        if address & 7 != 0 || address < 4096 {
            return NO_TYPE;
        }
        let place = (address >> 4) % RECENT;
        let (recent, answer) = self.recent[place];
        if recent == address {
            return answer;
        }
        let answer = match self.by_address.get(&address) {
            Some(&known) => known,
            None => {
                let found = self.look(map, address);
                self.by_address.insert(address, found);
                found
            }
        };
        self.recent[place] = (address, answer);
        answer
    }

    fn look(&mut self, map: &Map, address: usize) -> TypeId {
        if self.list.len() >= MOST_TYPES || !self.is_type(map, address) {
            return NO_TYPE;
        }
        let flags = map.read::<u64>(address + py::TYPE_FLAGS).unwrap_or(0);
        let traverse = map.read::<usize>(address + py::TYPE_TRAVERSE).unwrap_or(0);
        let shape = self.shape(map, address, flags);
        let container = flags & flags::HAVE_GC != 0 && traverse != 0;
        let number = flags & LONG != 0 || [self.known.float, self.known.complex].contains(&address);
        let leaf = flags & flags::HAVE_GC == 0 && (number || flags & flags::BYTES != 0);
        let mut bits = 0;
        if container {
            bits |= bits::CONTAINER;
        }
        if leaf {
            bits |= bits::LEAF;
        }
        let read = |offset| map.read::<usize>(address + offset).unwrap_or(0);
        let size = read(py::TYPE_BASICSIZE);
        let ends = read(py::TYPE_ITEMSIZE) == 0 && size >= 16 && flags & flags::INLINE_VALUES == 0;
        self.list.push(TypeInfo { address, flags, traverse, size, ends, bits, shape });
        (self.list.len() - 1) as TypeId
    }

    fn shape(&self, map: &Map, address: usize, flags: u64) -> Shape {
        if flags & flags::TYPE != 0 {
            return Shape::Type;
        } else if flags & flags::DICT != 0 {
            return Shape::Dict;
        } else if flags & flags::LIST != 0 {
            return Shape::List;
        } else if flags & flags::UNICODE != 0 {
            return Shape::Text;
        } else if address == self.known.frame {
            return Shape::Frame;
        }
        let mut at = address;
        for _ in 0..32 {
            if at == self.known.weak_reference && at != 0 {
                return Shape::Weak;
            }
            if self.known.sets.contains(&at) && at != 0 {
                return Shape::Set;
            }
            if at == self.known.module && at != 0 {
                return Shape::Module;
            }
            match map.read::<usize>(at + py::TYPE_BASE) {
                Some(base @ 1..) => at = base,
                _ => break,
            }
        }
        Shape::Plain
    }

    /// Whether an object's type is `type`, or a class whose own type is.
    fn is_type(&self, map: &Map, address: usize) -> bool {
        if address == self.known.type_type {
            return true;
        }
        if !map.readable(address, py::TYPE_DICTOFFSET) {
            return false;
        }
        let flags = map.read::<u64>(address + py::TYPE_FLAGS).unwrap_or(0);
        let size = map.read::<usize>(address + py::TYPE_BASICSIZE).unwrap_or(0);
        if flags & READY == 0 || !(16..1 << 24).contains(&size) {
            return false;
        }
        let mut meta = address;
        for _ in 0..8 {
            match map.read::<usize>(meta + py::TYPE) {
                Some(up) if up == self.known.type_type => return true,
                Some(up) if up != meta && map.readable(up, py::TYPE_DICTOFFSET) => {
                    let flags = map.read::<u64>(up + py::TYPE_FLAGS).unwrap_or(0);
                    if flags & flags::TYPE == 0 {
                        return false;
                    }
                    meta = up;
                }
                _ => return false,
            }
        }
        false
    }

    /// Keeps an object as a sample of its type: the first ones, and later ones in the place of some.
    fn sample(&mut self, type_: TypeId, node: u32) {
        let at = type_ as usize;
        if self.samples.len() <= at {
            self.samples.resize(at + 1, Vec::new());
        }
        let kept = &mut self.samples[at];
        if kept.len() < SAMPLES {
            kept.push(node);
        } else {
            // Any number that jumps about will do.
            let place = (node.wrapping_mul(0x9e37_79b9) >> 16) as usize;
            if let Some(slot) = kept.get_mut(place % (8 * SAMPLES)) {
                *slot = node;
            }
        }
    }

    /// The object's reference count; `None` if it is immortal.
    pub fn count(&self, word: u64) -> Option<u64> {
        let count = if self.layout.minor >= 12 { word & 0xffff_ffff } else { word };
        (count < IMMORTAL).then_some(count)
    }

    /// Whether a word can be the reference count of an object.
    #[inline]
    fn plausible(&self, map: &Map, word: u64) -> bool {
        let low = word & 0xffff_ffff;
        let above = match self.layout.minor {
            // Sixteen bits of overflow, then sixteen of flags, stand above the count.
            14.. => (word >> 32) & 0xffff == 0 && word >> 48 < 256,
            12.. => word >> 32 == 0,
            _ => word >> 32 == 0 && low < IMMORTAL,
        };
        // From 3.12 on what is immortal has the sign bit.
        above && !(IMMORTAL..1 << 31).contains(&low) && !is_address(map, word)
    }
}

/// Whether a word leads somewhere. In an executable that is not position-independent pointers are as small
/// as counts: a list of classes looks like an object of the second one, counted by the first.
#[inline]
fn is_address(map: &Map, word: u64) -> bool {
    word >= 4096 && word & 7 == 0 && map.readable(word as usize, 8)
}

/// So many blocks before their turn they are fetched from memory.
pub const AHEAD: u32 = 64;

/// Finds the objects among the blocks. (Debug hooks lie below ours: what they put before a block is
/// no part of it here.)
pub fn recognise(nodes: &mut Nodes, types: &mut Types, map: &Map) {
    for node in 0..nodes.blocks() {
        nodes.prefetch(node + AHEAD);
        let (start, len) = (nodes.address(node), nodes.len(node));
        let mut shift = 0;
        // Without a collector's head; with one; with two words more before that (3.11 and later).
        while shift <= 32 && shift + 16 <= len {
            // SAFETY: the block is readable (checked by `cut_unreadable`), and this lies within.
            let (count, type_) = unsafe {
                (*((start + shift) as *const u64), *((start + shift + py::TYPE) as *const usize))
            };
            if types.plausible(map, count) {
                let found = types.at(map, type_);
                if found != NO_TYPE && fits(types, found, start, shift) {
                    let mut flags = types.list[found as usize].bits;
                    if shift > 0 {
                        // SAFETY: the head lies before the object, in the block.
                        let next = unsafe { *((start + shift - py::GC_HEAD) as *const usize) };
                        if next != 0 {
                            flags |= bits::TRACKED;
                        }
                    }
                    if types.count(count) == Some(0) {
                        flags |= bits::PARKED;
                    }
                    nodes.become_object(node, shift, found, flags);
                    types.sample(found, node);
                    break;
                }
            }
            shift += 16;
        }
    }
}

/// Finds the blocks in which lists and dicts keep their items. Their traverse functions name these; other
/// words in there are what was left of the block's life before.
pub fn find_items(nodes: &mut Nodes, types: &Types, map: &Map) {
    for node in 0..nodes.count() {
        let Some(info) = types.list.get(nodes.types[node as usize] as usize) else { continue };
        let place = match info.shape {
            Shape::List => py::LIST_ITEMS,
            Shape::Dict => py::DICT_KEYS,
            _ => continue,
        };
        // A dead one's room was freed, and may be somebody else's by now.
        if nodes.has(node, bits::PARKED) {
            continue;
        }
        let Some(items) = map.read::<usize>(nodes.object(node) + place) else { continue };
        if let Some(block) = nodes.block_at(items)
            && nodes.address(block) == items
            && !nodes.has(block, bits::OBJECT)
            && !fields::is_native(nodes, block)
        {
            nodes.bits[block as usize] |= bits::ITEMS;
        }
    }
}

/// Whether an object of this type can begin this far into a block.
fn fits(types: &Types, type_: TypeId, start: usize, shift: usize) -> bool {
    let info = &types.list[type_ as usize];
    if info.flags & flags::HAVE_GC == 0 {
        return shift == 0;
    }
    let wanted = match info.flags & (flags::MANAGED_DICT | flags::MANAGED_WEAKREF) {
        0 => 16,
        _ if types.layout.minor >= 11 => 32,
        _ => 16,
    };
    if shift != wanted {
        return false;
    }
    // SAFETY: the head lies in the block.
    let next = unsafe { *((start + shift - py::GC_HEAD) as *const usize) };
    next & 7 & !types.layout.next_flags() == 0
}
