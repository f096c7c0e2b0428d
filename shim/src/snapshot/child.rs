//! The copy of the process: searches, writes down what it found, and ends.
//!
//! It has one thread, no descriptors of the program, and memory of its own; it
//! calls nothing but the system and traverse functions of types. Whatever
//! happens to it, the program does not notice.

use pyshim_dump::heap::{
    Collector, Group, Heap, Moment, NO_ROOM, Node, RunningFrame, Search, SiteState, State, Type,
};
use pyshim_dump::record::Code;

use hashbrown::HashMap;

use crate::python::layout::Layout;
use crate::python::objects::{self as py, Objects};
use crate::python::{self, code};
use crate::snapshot::content::Reader;
use crate::snapshot::dominators::{Dominators, dominators};
use crate::snapshot::fields::Fields;
use crate::snapshot::graph::{Bits, World};
use crate::snapshot::inputs::Inputs;
use crate::snapshot::memory::Map;
use crate::snapshot::naming::Naming;
use crate::snapshot::nodes::{NO_TYPE, NONE, Nodes, bits};
use crate::snapshot::objects::{Known, Types, find_items, recognise};
use crate::snapshot::retained::{self, Retained};
use crate::snapshot::search::search;
use crate::snapshot::{fault, garbage, groups, table, unlisted};

/// What is known of the interpreter; nothing if there is none, or its layout is not known.
pub struct Interpreter {
    /// Offsets of frames and text.
    pub layout: &'static Layout,
    /// Offsets of other objects.
    pub objects: &'static Objects,
    /// Addresses of types.
    pub known: Known,
    /// Where the collector keeps its state; 0: not known.
    pub gc: usize,
}

/// Searches the heap.
pub fn explore(map: &Map, inputs: &Inputs, interpreter: Option<&Interpreter>) -> Heap {
    let mut nodes = Nodes::gather();
    let unreadable = nodes.cut_unreadable(map);
    let layout = interpreter.map_or(&py::OBJECTS[0], |one| one.objects);
    let mut types = Types::new(interpreter.map_or(Known::default(), |one| one.known), layout);
    if interpreter.is_some() {
        recognise(&mut nodes, &mut types, map);
    }
    let table = table::table(map, &nodes, inputs);
    let unicode = interpreter.map_or(python::layout::UNICODE_NEW, |one| one.layout.unicode);
    let reader = Reader { map, layout, unicode };
    let mut world = World {
        nodes: &mut nodes,
        types: &mut types,
        map,
        fields: Fields::new(inputs),
        accounted: Bits::default(),
        heap: Vec::new(),
        named: Bits::default(),
    };
    if !inputs.all_blocks_known {
        world.heap = unlisted::heap(map, inputs);
        if let Some(one) = interpreter.filter(|one| one.gc != 0) {
            fault::protect(|| unlisted::enter_tracked(&mut world, one.objects, one.gc));
        }
    }
    if interpreter.is_some() {
        find_items(world.nodes, world.types, map);
    }
    let garbage = if interpreter.is_some() { garbage::mark(&mut world) } else { 0 };
    let found = search(&mut world, &reader, inputs);
    let dominators = dominators(&found.graph, found.held);
    let retained = Retained::of(&found, &dominators, &world);
    let mut naming = Naming::new(&world, reader, &found, inputs, &retained);
    let mut states = groups::states(&naming);
    let mut groups = Vec::new();
    // Even if naming one thing fails, the others are told.
    fault::protect(|| groups = groups::held(&mut naming, &dominators, &states));
    fault::protect(|| groups.extend(groups::unheld(&mut naming, &mut states)));
    let mut heap = Heap { memory: table.rows, arenas: table.arenas, ..Heap::default() };
    groups.sort_by_key(|group| core::cmp::Reverse(group.bytes));
    heap.groups = groups;
    heap.sites = sites(&naming, &states);
    fault::protect(|| heap.types = census(&mut naming, &dominators));
    fault::protect(|| frames(&mut naming, inputs, interpreter, &mut heap));
    heap.collector = interpreter.and_then(|one| collector(one, map, &naming, garbage, &states));
    heap.search = Search {
        all_blocks_known: inputs.all_blocks_known,
        python: interpreter.is_some(),
        bytes: found.graph.searched,
        unreadable,
        failed_objects: found.graph.failed.len() as u64,
        notes: failures(&naming),
        blocks: u64::from(naming.world.nodes.blocks()),
        objects: count(&naming, bits::OBJECT),
        tracked: count(&naming, bits::TRACKED),
        ..Search::default()
    };
    heap.strings = naming.strings.list;
    heap.nodes = naming.nodes;
    let positions = naming.positions;
    drop(retained);
    let counts = retained::counts(&found, &dominators, &world);
    for (node, &position) in heap.nodes.iter_mut().zip(&positions) {
        node.retained_count = counts.get(position as usize).copied().unwrap_or(0).into();
    }
    heap
}

/// What could not be searched.
fn failures(naming: &Naming) -> Vec<String> {
    let nodes = &naming.world.nodes;
    let names = naming.found.graph.failed.iter().take(8).map(|&node| {
        if nodes.has(node, bits::OBJECT) {
            let type_ = naming.reader.type_of(nodes.object(node));
            let name = naming.reader.type_name(type_);
            let (at, len) = (nodes.object(node), nodes.len(node));
            format!("an object of type {name} at {at:#x} ({len} bytes) could not be searched")
        } else {
            let what = naming.found.roots.get(&node).map_or("a block", |root| root.kind());
            format!("{what} of {} bytes could not be searched", nodes.len(node))
        }
    });
    names.collect()
}

fn count(naming: &Naming, bit: u8) -> u64 {
    let nodes = &naming.world.nodes;
    let is_one =
        |&node: &u32| nodes.has(node, bit) && (nodes.is_block(node) || nodes.is_unlisted(node));
    (0..nodes.count()).filter(is_one).count() as u64
}

/// All live blocks by site and state.
fn sites(naming: &Naming, states: &[State]) -> Vec<SiteState> {
    let nodes = &naming.world.nodes;
    let mut sums: HashMap<(u32, State), (u64, u64)> = HashMap::new();
    for node in (0..nodes.blocks()).filter(|&node| nodes.is_own(node)) {
        let state = match naming.found.graph.position[node as usize] {
            NONE => State::Unknown,
            position => states[position as usize],
        };
        let sum = sums.entry((nodes.site(node), state)).or_default();
        sum.0 += nodes.number(node);
        sum.1 += nodes.bytes(node);
    }
    let mut sites: Vec<SiteState> = sums
        .into_iter()
        .map(|((site, state), (blocks, bytes))| SiteState { site, state, blocks, bytes })
        .collect();
    sites.sort_by_key(|one| (one.site, one.state));
    sites
}

/// Types further up than this are not looked at to tell nested objects of one type.
const NESTED: usize = 16;

/// Objects by type. Positions in the list are those that nodes refer to.
fn census(naming: &mut Naming, dominators: &Dominators) -> Vec<Type> {
    let mut types = vec![Type::default(); naming.world.types.list.len()];
    let mut best: Vec<(u64, u32)> = vec![(0, NONE); types.len()];
    let graph = &naming.found.graph;
    let nodes = &naming.world.nodes;
    for (at, &node) in graph.order.iter().enumerate() {
        let type_ = nodes.types[node as usize];
        if type_ == NO_TYPE || nodes.has(node, bits::PARKED) {
            continue;
        }
        let one = &mut types[type_ as usize];
        one.objects += u64::from(!nodes.is_inherited(node));
        one.bytes += nodes.bytes(node);
        let Some(retained) = naming.retained.get(at) else {
            one.retained += nodes.bytes(node);
            continue;
        };
        if retained > best[type_ as usize].0 {
            best[type_ as usize] = (retained, at as u32);
        }
        let mut up = dominators.of(at);
        let mut nested = false;
        for _ in 0..NESTED {
            if up == NONE {
                break;
            }
            nested |= nodes.types[graph.order[up as usize] as usize] == type_;
            up = dominators.of(up as usize);
        }
        if !nested {
            one.retained += retained;
        }
    }
    // The largest of the types with most to them get a node, to ask after.
    let mut order: Vec<usize> = (0..types.len()).collect();
    order.sort_by_key(|&at| core::cmp::Reverse(types[at].retained.max(types[at].bytes)));
    for &at in order.iter().take(512) {
        if best[at].1 != NONE {
            types[at].sample = naming.node(best[at].1);
        }
    }
    for (at, one) in types.iter_mut().enumerate() {
        let info = &naming.world.types.list[at];
        one.tracked = info.bits & bits::CONTAINER != 0;
        let name = naming.reader.type_name(info.address);
        one.name = naming.strings.id(&name);
    }
    types
}

/// The frames that were running, with their code.
fn frames(
    naming: &mut Naming,
    inputs: &Inputs,
    interpreter: Option<&Interpreter>,
    heap: &mut Heap,
) {
    let Some(interpreter) = interpreter else { return };
    let names = thread_names(naming);
    let mut known: HashMap<usize, u32> = HashMap::new();
    for frame in &inputs.frames {
        let id = *known.entry(frame.code).or_insert_with(|| {
            // SAFETY: a code object that a running frame refers to.
            let code = unsafe { code::read(interpreter.layout, frame.code) };
            let id = heap.codes.len() as u32;
            heap.codes.push(Code {
                id,
                file: code.as_ref().map_or(0, |code| naming.strings.id(&code.file)),
                name: code.as_ref().map_or(String::new(), |code| code.name.clone()),
                first_line: code.as_ref().map_or(0, |code| code.first_line),
                table_kind: interpreter.layout.line_table as u8,
                table: code.map_or(Vec::new(), |code| code.table),
            });
            id
        });
        let thread = names.get(&frame.thread).cloned().unwrap_or_default();
        heap.frames.push(RunningFrame {
            code: id,
            instruction: frame.instruction,
            thread: naming.strings.id(&thread),
        });
    }
}

/// Names of threads by Python's number for them: from `threading._active`.
fn thread_names(naming: &Naming) -> HashMap<u64, String> {
    let mut names = HashMap::new();
    let reader = &naming.reader;
    for (&node, root) in &naming.found.roots {
        let crate::snapshot::search::Root::Module(name) = root else { continue };
        if name != "threading" {
            continue;
        }
        let dict = reader.word(naming.world.nodes.object(node), py::MODULE_DICT);
        let Some(active) = reader.value(dict, "_active") else { continue };
        reader.dict(active, |_, thread| {
            let (mut ident, mut name) = (None, None);
            reader.attributes(thread, |key, value| {
                match reader.text(key).as_deref() {
                    Some("_ident") => ident = crate::snapshot::words::integer(reader, value),
                    Some("_name") => name = reader.text(value),
                    _ => {}
                }
                true
            });
            if let (Some(ident), Some(name)) = (ident, name) {
                names.insert(ident, name);
            }
            true
        });
    }
    names
}

/// The collector's own state.
fn collector(
    interpreter: &Interpreter,
    map: &Map,
    naming: &Naming,
    garbage: u64,
    states: &[State],
) -> Option<Collector> {
    let layout = interpreter.objects;
    let at = interpreter.gc;
    if at == 0 {
        return None;
    }
    let int = |offset: usize| map.read::<i32>(at + offset).map(|value| value.max(0) as u64);
    let mut collector = Collector {
        enabled: int(layout.gc_enabled as usize)? != 0,
        garbage_objects: garbage,
        ..Collector::default()
    };
    for generation in 0..3 {
        let base = layout.gc_generations as usize + generation * py::GENERATION;
        collector.thresholds[generation] = int(base + py::GENERATION_THRESHOLD)?;
        collector.counts[generation] = int(base + py::GENERATION_COUNT)?;
    }
    // A list of objects that leads back to its head.
    let head = at + layout.gc_permanent as usize;
    let mut frozen = hashbrown::HashSet::new();
    let mut next = map.read::<usize>(head)?;
    while next != head && next != 0 && frozen.insert(next + py::GC_HEAD) {
        next = map.read::<usize>(next)? & !layout.next_flags();
    }
    collector.frozen = frozen.len() as u64;
    let nodes = &naming.world.nodes;
    for (at, &node) in naming.found.graph.order.iter().enumerate() {
        if states[at] == State::Cyclic {
            collector.garbage_bytes += nodes.bytes(node);
        }
        if nodes.has(node, bits::GARBAGE) && frozen.contains(&nodes.object(node)) {
            collector.garbage_frozen += 1;
        }
    }
    Some(collector)
}

/// Drops what is worth least until the snapshot fits.
pub fn fit(heap: &mut Heap, room: usize) -> Vec<u8> {
    loop {
        let bytes = heap.encode();
        if bytes.len() <= room {
            return bytes;
        }
        if heap.sites.len() > 64 || heap.groups.len() > 64 {
            heap.sites.truncate(heap.sites.len() / 2);
            heap.groups.truncate(64.max(heap.groups.len() / 2));
            heap.groups.iter_mut().for_each(|group: &mut Group| group.members.truncate(64));
        } else if !heap.nodes.is_empty() {
            heap.nodes = Vec::<Node>::new();
            heap.groups.iter_mut().for_each(|group| {
                group.holder = 0;
                group.sample = 0;
            });
            heap.types.iter_mut().for_each(|one| one.sample = 0);
        } else if !heap.types.is_empty() {
            heap.types.clear();
        } else {
            return Vec::new();
        }
        if !heap.search.notes.iter().any(|note| note == NO_ROOM) {
            heap.search.notes.push(NO_ROOM.to_owned());
        }
    }
}

/// Which moment a number stands for.
pub fn moment(number: u32) -> Moment {
    match number {
        1 => Moment::Asked,
        2 => Moment::Timer,
        3 => Moment::Limit,
        _ => Moment::Last,
    }
}
