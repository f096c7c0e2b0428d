//! Heap snapshots: one to begin with, and changes that leave it readable.

use libfuzzer_sys::fuzzer_mutate;
use pyshim_dump::heap::{
    Arena, Collector, Group, Heap, Member, MemoryKind, MemoryRow, Moment, Node, NodeKind,
    RunningFrame, Search, SiteState, State, Step, Type,
};
use pyshim_dump::record::Code;

use crate::dice::Dice;

const STATES: [State; 7] = [
    State::Python,
    State::Native,
    State::Leaked,
    State::Miscounted,
    State::Cyclic,
    State::Parked,
    State::Unknown,
];

const KINDS: [NodeKind; 9] = [
    NodeKind::Object,
    NodeKind::Block,
    NodeKind::Module,
    NodeKind::Frame,
    NodeKind::Static,
    NodeKind::Stack,
    NodeKind::ThreadLocal,
    NodeKind::Mapping,
    NodeKind::Interpreter,
];

const STEPS: [Step; 12] = [
    Step::Inside,
    Step::Attribute,
    Step::Key,
    Step::AsKey,
    Step::Index,
    Step::Member,
    Step::Local,
    Step::Closure,
    Step::Default,
    Step::Word,
    Step::Root,
    Step::Global,
];

/// Changes one thing.
pub fn change(heap: &mut Heap, dice: &mut Dice) {
    match dice.roll(20) {
        0 => rearrange(&mut heap.strings, dice),
        1 => rearrange(&mut heap.codes, dice),
        2 => rearrange(&mut heap.frames, dice),
        3 => rearrange(&mut heap.types, dice),
        4 => rearrange(&mut heap.sites, dice),
        5 | 6 => rearrange(&mut heap.nodes, dice),
        7 => rearrange(&mut heap.groups, dice),
        8 => rearrange(&mut heap.memory, dice),
        9 => rearrange(&mut heap.arenas, dice),
        10 => change_text(heap, dice),
        11 => change_code(heap, dice),
        12 => change_sums(heap, dice),
        13 | 14 => change_group(heap, dice),
        _ => change_node(heap, dice),
    }
}

/// Order, length, and what is there twice.
fn rearrange<T: Clone>(list: &mut Vec<T>, dice: &mut Dice) {
    if list.is_empty() {
        return;
    }
    let (one, other) = (dice.roll(list.len()), dice.roll(list.len()));
    match dice.roll(8) {
        0 | 1 => list.swap(one, other),
        2 | 3 => drop(list.remove(one)),
        4 => list.truncate(one),
        _ => list.insert(other, list[one].clone()),
    }
}

fn change_text(heap: &mut Heap, dice: &mut Dice) {
    let count = heap.strings.len();
    let Some(text) = heap.strings.get_mut(dice.roll(count)) else { return };
    let mut bytes = std::mem::take(text).into_bytes();
    grow_or_change(&mut bytes);
    *text = String::from_utf8_lossy(&bytes).into_owned();
}

fn grow_or_change(bytes: &mut Vec<u8>) {
    let len = bytes.len();
    bytes.resize(len + 16, 0);
    let len = fuzzer_mutate(bytes, len, len + 16);
    bytes.truncate(len);
}

fn change_code(heap: &mut Heap, dice: &mut Dice) {
    let count = heap.codes.len();
    if let Some(code) = heap.codes.get_mut(dice.roll(count)) {
        match dice.roll(5) {
            0 => code.file = dice.id(),
            1 => code.first_line = dice.number() as u32,
            2 => code.table_kind = dice.roll(4) as u8,
            _ => grow_or_change(&mut code.table),
        }
    }
    let count = heap.frames.len();
    if let Some(frame) = heap.frames.get_mut(dice.roll(count)) {
        match dice.roll(4) {
            0 => frame.code = dice.id(),
            1 => frame.instruction = dice.number() as u32,
            2 => frame.thread = dice.id(),
            _ => {}
        }
    }
}

fn change_sums(heap: &mut Heap, dice: &mut Dice) {
    let place = dice.roll(16);
    match dice.roll(6) {
        0 => heap.at_ms = dice.number(),
        1 => heap.search = search(dice),
        2 => heap.collector = (dice.roll(3) > 0).then(|| collector(dice)),
        3 => {
            if let Some(one) = heap.types.get_mut(place) {
                let sample = dice.id();
                *one = Type { objects: dice.number(), bytes: dice.number(), sample, ..one.clone() };
                one.retained = dice.number();
                one.name = dice.id();
            }
        }
        4 => {
            if let Some(one) = heap.sites.get_mut(place) {
                let state = dice.of(&STATES);
                let (blocks, bytes) = (dice.number(), dice.number());
                *one = SiteState { site: dice.id(), state, blocks, bytes };
            }
        }
        _ => {
            if let Some(row) = heap.memory.get_mut(place) {
                row.resident = dice.number();
            }
            if let Some(arena) = heap.arenas.get_mut(place) {
                let (resident, live) = (dice.number(), dice.number());
                *arena = Arena { kind: dice.roll(4) as u8, resident, live, ..*arena };
                arena.top = dice.number();
            }
        }
    }
}

fn search(dice: &mut Dice) -> Search {
    Search {
        at_rest: dice.roll(2) > 0,
        all_blocks_known: dice.roll(2) > 0,
        python: dice.roll(2) > 0,
        bytes: dice.number(),
        unreadable: dice.number(),
        blind_threads: dice.number(),
        failed_objects: dice.number(),
        blocks: dice.number(),
        objects: dice.number(),
        tracked: dice.number(),
        notes: vec!["so".into(); dice.roll(3)],
    }
}

fn collector(dice: &mut Dice) -> Collector {
    Collector {
        enabled: dice.roll(2) > 0,
        counts: [dice.number(), dice.number(), dice.number()],
        thresholds: [dice.number(), 10, dice.number()],
        frozen: dice.number(),
        garbage_objects: dice.number(),
        garbage_bytes: dice.number(),
        garbage_frozen: dice.number(),
    }
}

fn change_node(heap: &mut Heap, dice: &mut Dice) {
    let at = dice.roll(heap.nodes.len());
    let Some(node) = heap.nodes.get_mut(at) else { return };
    match dice.roll(11) {
        0 => node.kind = dice.of(&KINDS),
        1 => node.type_ = dice.id(),
        2 => node.bytes = dice.number(),
        3 => node.retained = dice.number(),
        4 => node.retained_count = dice.number(),
        5 => node.site = dice.id(),
        // Now and then one that comes later, which is damage.
        6 => node.parent = dice.roll(at + 2) as u32,
        7 => node.step = dice.of(&STEPS),
        8 => node.label = dice.id(),
        9 => node.name = dice.id(),
        _ => {
            node.detail = dice.number();
            node.holds_own_key ^= true;
        }
    }
}

fn change_group(heap: &mut Heap, dice: &mut Dice) {
    let count = heap.groups.len();
    let Some(group) = heap.groups.get_mut(dice.roll(count)) else { return };
    match dice.roll(13) {
        0 => group.state = dice.of(&STATES),
        1 => group.site = dice.id(),
        2 => group.type_ = dice.id(),
        3 => group.holder = dice.id(),
        4 => group.sample = dice.id(),
        5 => group.shape = dice.id(),
        6 => group.leaders = dice.number(),
        7 => group.blocks = dice.number(),
        8 => group.bytes = dice.number(),
        9 => (group.counted, group.found) = (dice.number(), dice.number()),
        10 => group.blocker = dice.id(),
        11 => group.age_ms = dice.number(),
        _ => match group.members.is_empty() {
            true => group.members.push(Member { site: dice.id(), blocks: 1, bytes: dice.number() }),
            false => rearrange(&mut group.members, dice),
        },
    }
}

/// A snapshot that has something of everything.
pub fn first() -> Heap {
    let strings = ["", "app", "CACHE", "dict", "app.Session", "[str] → dict", "app.py", "pool-3"];
    let node = |kind, step, parent, type_, label| Node {
        kind,
        step,
        parent,
        type_,
        label,
        address: 0x7f00_0000_1000,
        bytes: 232,
        retained: 9000,
        retained_count: 3,
        site: 2,
        ..Node::default()
    };
    let group = |state, holder, sample| Group {
        state,
        site: 1,
        type_: 1,
        holder,
        sample,
        shape: 5,
        leaders: 2,
        blocks: 3,
        bytes: 9000,
        counted: 2,
        found: 1,
        members: vec![Member { site: 1, blocks: 3, bytes: 9000 }],
        ..Group::default()
    };
    let a_type = |name, sample| Type { name, objects: 4, bytes: 900, sample, ..Type::default() };
    Heap {
        moment: Moment::Asked,
        at_ms: 80,
        pause_us: 900,
        search_ms: 20,
        search: Search { at_rest: true, all_blocks_known: true, python: true, ..Search::default() },
        strings: strings.map(String::from).into(),
        codes: vec![Code {
            id: 0,
            file: 6,
            name: "load".into(),
            first_line: 31,
            table_kind: 2,
            table: vec![0x80, 0x02, 0x0c],
        }],
        frames: vec![RunningFrame { code: 0, instruction: 2, thread: 7 }],
        types: vec![a_type(3, 2), a_type(4, 4)],
        sites: [State::Python, State::Leaked, State::Cyclic]
            .map(|state| SiteState { site: 1, state, blocks: 3, bytes: 9000 })
            .into(),
        nodes: vec![
            node(NodeKind::Module, Step::Root, 0, 0, 1),
            node(NodeKind::Object, Step::Global, 1, 1, 2),
            node(NodeKind::Frame, Step::Root, 0, 0, 0),
            node(NodeKind::Object, Step::Local, 3, 2, 2),
            node(NodeKind::Object, Step::Key, 2, 2, 4),
            node(NodeKind::Static, Step::Root, 0, 0, 0),
            node(NodeKind::Block, Step::Word, 6, 0, 0),
        ],
        groups: vec![
            group(State::Python, 2, 5),
            group(State::Native, 6, 7),
            group(State::Leaked, 0, 7),
            group(State::Miscounted, 0, 4),
            group(State::Cyclic, 0, 4),
        ],
        collector: Some(Collector { thresholds: [700, 10, 10], ..Collector::default() }),
        memory: [MemoryKind::Python, MemoryKind::Native, MemoryKind::PymallocSlack]
            .map(|kind| MemoryRow { kind, resident: 1 << 20, regions: 2 })
            .into(),
        arenas: [0, 1, 2]
            .map(|kind| Arena { kind, resident: 1 << 20, live: 1 << 19, ..Arena::default() })
            .into(),
    }
}
