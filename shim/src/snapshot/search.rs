//! The search itself: where it begins, and in which order.
//!
//! Roots that people know come first, so that paths begin with them: modules
//! and running frames, then the interpreter's own state, then static data of
//! other program files and memory that the program mapped, then thread-local
//! storage and stacks, then memory that nobody was seen to map. What is not
//! reached by then nobody holds.

use hashbrown::HashMap;

use crate::python::objects::flags;
use crate::snapshot::content::Reader;
use crate::snapshot::graph::{Graph, World};
use crate::snapshot::inputs::Inputs;
use crate::snapshot::memory::Backing;
use crate::snapshot::nodes::{Extra, NONE, bits};
use crate::snapshot::objects::Shape;
use crate::snapshot::unlisted;

/// Phases, in order.
pub mod phase {
    /// From modules and frames.
    pub const PYTHON: u8 = 1;
    /// From the interpreter's own state.
    pub const INTERPRETER: u8 = 2;
    /// From static data and mappings.
    pub const NATIVE: u8 = 3;
    /// From stacks and thread-local storage.
    pub const STACKS: u8 = 4;
    /// From memory of which nobody knows whose it is.
    pub const UNLISTED: u8 = 5;
    /// Not reached from anywhere.
    pub const NOBODY: u8 = 6;
}

/// A root.
#[derive(Clone, Debug)]
pub enum Root {
    /// A module, by its name in `sys.modules`.
    Module(String),
    /// A running frame, by position in the inputs.
    Frame(usize),
    /// Static data of a file of the map.
    Static(u32),
    /// The interpreter's own state, and which part of it, if that is known.
    Interpreter(&'static str),
    /// A thread's stack, by its id in the system.
    Stack(u32),
    /// Thread-local storage.
    ThreadLocal,
    /// Memory that the program mapped, by the mapping's site.
    Mapping(u32),
}

impl Root {
    /// What it is, in words.
    pub fn kind(&self) -> &'static str {
        match self {
            Root::Module(_) => "a module",
            Root::Frame(_) => "a frame",
            Root::Static(_) => "static data",
            Root::Interpreter(_) => "the interpreter's state",
            Root::Stack(_) => "a stack",
            Root::ThreadLocal => "thread-local storage",
            Root::Mapping(_) => "mapped memory",
        }
    }
}

/// What the search found.
pub struct Found {
    /// The graph.
    pub graph: Graph,
    /// Roots by node.
    pub roots: HashMap<u32, Root>,
    /// Positions reached from roots; those after belong to nobody.
    pub held: usize,
}

/// Searches everything.
pub fn search(world: &mut World, reader: &Reader, inputs: &Inputs) -> Found {
    let mut found = Found { graph: Graph::new(world.nodes), roots: HashMap::new(), held: 0 };
    modules(&mut found, world, reader);
    frames(&mut found, world, inputs);
    found.graph.run(world, phase::PYTHON, true);
    if has_callbacks(world, inputs.atexit) {
        let root = Root::Interpreter("atexit callbacks");
        region(&mut found, world, root, phase::INTERPRETER, inputs.atexit, inputs.atexit + 8);
    }
    if let Some((from, to)) = signal_handlers(world, inputs) {
        let root = Root::Interpreter("signal handlers");
        region(&mut found, world, root, phase::INTERPRETER, from, to);
    }
    statics(&mut found, world, inputs, Whose::Interpreter);
    found.graph.run(world, phase::INTERPRETER, true);
    // A word that somebody left in the data of a library shall not take what an extension keeps.
    statics(&mut found, world, inputs, Whose::Program);
    found.graph.run(world, phase::NATIVE, true);
    statics(&mut found, world, inputs, Whose::Libraries);
    for &(start, len, site) in &inputs.mappings {
        for (from, to) in world.map.memory_in(start, start.saturating_add(len)) {
            region(&mut found, world, Root::Mapping(site), phase::NATIVE, from, to);
        }
    }
    found.graph.run(world, phase::NATIVE, true);
    stacks(&mut found, world, inputs);
    found.graph.run(world, phase::STACKS, true);
    if inputs.all_blocks_known {
        // Nobody can say whose that is, and much of it is what somebody left.
        unknown_mappings(&mut found, world, inputs);
        found.graph.run(world, phase::STACKS, true);
    }
    // The interpreter's state has lists of what is free, and words that nobody clears: of all who may
    // hold an extension's block it is the last.
    for (from, to) in core::mem::take(&mut found.graph.later) {
        region(&mut found, world, Root::Interpreter(""), phase::STACKS, from, to);
    }
    found.graph.run(world, phase::STACKS, true);
    if !inputs.all_blocks_known {
        world.named = unlisted::named(&found, world);
        unlisted::search(&mut found, world);
        found.graph.run(world, phase::UNLISTED, true);
    }
    found.held = found.graph.order.len();
    // The rest, each for itself: who refers to whom among them is looked at later.
    for node in 0..world.nodes.count() {
        if world.nodes.is_block(node) || world.nodes.is_unlisted(node) {
            found.graph.reach(node, NONE, phase::NOBODY);
        }
    }
    found.graph.run(world, phase::NOBODY, false);
    // Objects outside all blocks may have come up in the end.
    found.graph.grow(world.nodes.count() as usize);
    found
}

/// Whether the word for what `atexit` is to call is where it should be: from 3.14 on it leads to a list.
fn has_callbacks(world: &mut World, at: usize) -> bool {
    let Some(callbacks) = world.map.read::<usize>(at).filter(|_| at != 0) else { return false };
    world.types.layout.minor < 14
        || world.object(callbacks).is_some_and(|node| {
            let type_ = world.nodes.types[node as usize];
            world.types.list[type_ as usize].shape == Shape::List
        })
}

/// The modules of every interpreter: the values of `sys.modules`.
fn modules(found: &mut Found, world: &mut World, reader: &Reader) {
    let mut seen = Vec::new();
    for node in 0..world.nodes.count() {
        if !world.nodes.has(node, bits::OBJECT)
            || world.types.list[world.nodes.types[node as usize] as usize].shape != Shape::Module
        {
            continue;
        }
        let module = world.nodes.object(node);
        let dict = reader.word(module, crate::python::objects::MODULE_DICT);
        let name = reader.value(dict, "__name__").and_then(|name| reader.text(name));
        if name.as_deref() == Some("sys")
            && let Some(all) = reader.value(dict, "modules")
        {
            reader.dict(all, |key, module| {
                seen.push((reader.text(key).unwrap_or_default(), module));
                true
            });
        }
    }
    // The program's own first: of two paths of one length the first found is the one that is told.
    seen.sort_by_key(|(name, _)| name != "__main__");
    for (name, module) in seen {
        if let Some(node) = world.object(module)
            && !found.graph.knows(node)
        {
            found.graph.reach(node, NONE, phase::PYTHON);
            found.roots.insert(node, Root::Module(name));
        }
    }
}

fn frames(found: &mut Found, world: &mut World, inputs: &Inputs) {
    for (at, frame) in inputs.frames.iter().enumerate() {
        let node = world.nodes.add(Extra { address: frame.address, len: 0 });
        found.graph.reach(node, NONE, phase::PYTHON);
        found.roots.insert(node, Root::Frame(at));
        found.graph.frames.insert(node, (frame.address, frame.locals, frame.end));
    }
}

/// Adds a root that is a piece of memory.
fn region(found: &mut Found, world: &mut World, root: Root, phase: u8, from: usize, to: usize) {
    let node = world.nodes.add(Extra { address: from, len: to.saturating_sub(from) });
    if let Root::Static(file) = root
        && let Some(path) = world.map.files.get(file as usize)
        && path
            .rsplit('/')
            .next()
            .is_some_and(|name| ["libc.so", "libc-2"].iter().any(|it| name.starts_with(it)))
    {
        found.graph.strict.insert(node);
    }
    found.graph.reach(node, NONE, phase);
    found.roots.insert(node, root);
}

/// The file whose data holds an address, or lies right before it.
fn file_of(world: &World, address: usize) -> Option<u32> {
    let regions = &world.map.regions;
    let mut at = regions.partition_point(|region| region.start <= address).checked_sub(1)?;
    loop {
        match regions.get(at)?.backing {
            Backing::File(file) => return Some(file),
            Backing::Anonymous if regions.get(at.checked_sub(1)?)?.end == regions[at].start => {
                at -= 1
            }
            _ => return None,
        }
    }
}

/// Whose data a program file has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    Interpreter,
    /// The program's own, and its extension modules'.
    Program,
    /// Files that are called `lib…`, and the loader.
    Libraries,
}

/// Writable memory that belongs to program files: their data, and what follows without a file.
fn statics(found: &mut Found, world: &mut World, inputs: &Inputs, whose: Whose) {
    let own = file_of(world, inputs.runtime);
    for at in 0..world.map.regions.len() {
        let one = world.map.regions[at];
        let Some((file, end)) = world.map.image_part(at) else { continue };
        if !(one.readable && one.writable)
            || one.shared
            || inputs.is_shim(&world.map.files[file as usize])
        {
            continue;
        }
        let name = world.map.files[file as usize].rsplit('/').next().unwrap_or_default();
        let found_whose = match own == Some(file) {
            true => Whose::Interpreter,
            false if name.starts_with("lib") || name.starts_with("ld-") => Whose::Libraries,
            false => Whose::Program,
        };
        if found_whose == whose {
            let (root, number) = match whose {
                Whose::Interpreter => (Root::Interpreter(""), phase::INTERPRETER),
                _ => (Root::Static(file), phase::NATIVE),
            };
            for (from, to) in inputs.without_shim(one.start, end) {
                region(found, world, root.clone(), number, from, to);
            }
        }
    }
}

/// Where the interpreter keeps the functions that handle signals. Every version has a table of them in its
/// static data: for each signal a flag that it has come, and an object; none for the number 0.
fn signal_handlers(world: &mut World, inputs: &Inputs) -> Option<(usize, usize)> {
    /// Linux has so many signals (`_NSIG` is one more).
    const SIGNALS: usize = 64;
    const STEP: usize = 16;
    let own = file_of(world, inputs.runtime)?;
    for at in 0..world.map.regions.len() {
        let one = world.map.regions[at];
        let part = world.map.image_part(at).filter(|part| part.0 == own);
        let Some((_, end)) = part.filter(|_| one.readable && one.writable && !one.shared) else {
            continue;
        };
        // Entries begin at any multiple of 8.
        for first in [one.start, one.start + 8] {
            let mut run = 0;
            for entry in (first..end.saturating_sub(STEP)).step_by(STEP) {
                let come = world.map.read::<u32>(entry).unwrap_or(u32::MAX);
                let function = world.map.read::<usize>(entry + 8).unwrap_or(0);
                let fits = come <= 1 && function > 4096 && function & 7 == 0;
                run = if fits { run + 1 } else { 0 };
                let begin = (entry + STEP).wrapping_sub(SIGNALS * STEP);
                if run == SIGNALS
                    && world.map.read::<usize>(begin - 8) == Some(0)
                    && (begin..=entry).step_by(STEP).all(|entry| {
                        let function = world.map.read::<usize>(entry + 8).unwrap_or(0);
                        world.object(function).is_some()
                    })
                {
                    return Some((begin, entry + STEP));
                }
            }
        }
    }
    None
}

/// Memory without a file in which no allocator's blocks lie, and that nobody was seen to map.
fn unknown_mappings(found: &mut Found, world: &mut World, inputs: &Inputs) {
    for at in 0..world.map.regions.len() {
        let mut one = world.map.regions[at];
        if one.backing == Backing::Anonymous
            && let Some((_, end)) = world.map.image_part(at)
        {
            one.start = end;
        }
        let heap = one.backing == Backing::Brk;
        if !(one.readable && one.writable)
            || one.shared
            || one.start >= one.end
            || !matches!(one.backing, Backing::Anonymous | Backing::Brk)
            || inputs.threads.iter().any(|thread| (one.start..one.end).contains(&thread.stack))
        {
            continue;
        }
        if heap || world.nodes.any_block_in(one.start, one.end) {
            continue;
        }
        for (from, to) in inputs.without_shim(one.start, one.end) {
            let known = inputs.mappings.iter().any(|one| one.0 <= from && to <= one.0 + one.1);
            if !known && !inputs.is_arena(from, to) {
                region(found, world, Root::Mapping(0), phase::STACKS, from, to);
            }
        }
    }
}

fn stacks(found: &mut Found, world: &mut World, inputs: &Inputs) {
    for thread in &inputs.threads {
        if let Some(one) = world.map.find(thread.stack).copied() {
            region(found, world, Root::Stack(thread.id), phase::STACKS, thread.stack, one.end);
        }
    }
    // The first thread's local storage lies where the loader put it.
    let pointer = inputs.main_thread_pointer;
    if let Some(one) = world.map.find(pointer).copied() {
        let from = pointer.saturating_sub(inputs.local_storage).max(one.start);
        let to = (pointer + CONTROL_BLOCK).min(one.end);
        region(found, world, Root::ThreadLocal, phase::STACKS, from, to);
    }
}

/// Bytes of `struct pthread` behind the thread pointer, at least.
const CONTROL_BLOCK: usize = 2304;

/// Whether an object is a class that takes no part in garbage collection but refers to others.
pub fn is_blocker(world: &World, node: u32) -> bool {
    let Some(info) = world.types.list.get(world.nodes.types[node as usize] as usize) else {
        return false;
    };
    world.nodes.has(node, bits::OBJECT)
        && info.flags & flags::HAVE_GC == 0
        && !world.nodes.has(node, bits::LEAF)
        && info.shape != Shape::Text
}
