//! From bytes, whatever they are, to a snapshot.

use super::{
    Arena, Collector, Group, Heap, Member, MemoryKind, MemoryRow, Moment, Node, NodeKind,
    RunningFrame, Search, SiteState, State, Step, Type, VERSION,
};
use crate::record::Code;
use crate::varint::Input;

impl Heap {
    /// Whether these are bytes of another version of the encoding.
    pub(crate) fn is_foreign(bytes: &[u8]) -> bool {
        Input(bytes).int().is_some_and(|version| version != VERSION)
    }

    /// Reads what [`Heap::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Option<Heap> {
        let mut input = Input(bytes);
        let input = &mut input;
        if input.int()? != VERSION {
            return None;
        }
        Some(Heap {
            moment: one_of(input, &[Moment::Last, Moment::Asked, Moment::Timer, Moment::Limit])?,
            at_ms: input.int()?,
            pause_us: input.int()?,
            search_ms: input.int()?,
            search: Search::get(input)?,
            strings: list(input, |input| input.text())?,
            codes: list(input, |input| {
                Some(Code {
                    id: input.int32()?,
                    file: input.int32()?,
                    name: input.text()?,
                    first_line: input.int32()?,
                    table_kind: input.int()?.try_into().ok()?,
                    table: input.bytes()?.to_vec(),
                })
            })?,
            frames: list(input, |input| {
                Some(RunningFrame {
                    code: input.int32()?,
                    instruction: input.int32()?,
                    thread: input.int32()?,
                })
            })?,
            types: list(input, |input| {
                Some(Type {
                    name: input.int32()?,
                    objects: input.int()?,
                    bytes: input.int()?,
                    retained: input.int()?,
                    tracked: flag(input)?,
                    sample: input.int32()?,
                })
            })?,
            sites: list(input, |input| {
                Some(SiteState {
                    site: input.int32()?,
                    state: state(input)?,
                    blocks: input.int()?,
                    bytes: input.int()?,
                })
            })?,
            nodes: nodes(input)?,
            groups: list(input, Group::get)?,
            collector: match input.int()? {
                0 => None,
                1 => Some(Collector::get(input)?),
                _ => return None,
            },
            memory: list(input, |input| {
                Some(MemoryRow {
                    kind: one_of(input, &MEMORY_KINDS)?,
                    resident: input.int()?,
                    regions: input.int()?,
                })
            })?,
            arenas: list(input, |input| {
                Some(Arena {
                    address: input.int()?,
                    kind: input.int()?.try_into().ok()?,
                    resident: input.int()?,
                    live: input.int()?,
                    blocks: input.int()?,
                    top: input.int()?,
                })
            })?,
        })
    }
}

impl Search {
    fn get(input: &mut Input) -> Option<Search> {
        let flags = input.int()?;
        Some(Search {
            at_rest: flags & 1 != 0,
            all_blocks_known: flags & 2 != 0,
            python: flags & 4 != 0,
            bytes: input.int()?,
            unreadable: input.int()?,
            blind_threads: input.int()?,
            failed_objects: input.int()?,
            blocks: input.int()?,
            objects: input.int()?,
            tracked: input.int()?,
            notes: list(input, |input| input.text())?,
        })
    }
}

impl Node {
    fn get(input: &mut Input) -> Option<Node> {
        Some(Node {
            kind: one_of(input, &NODE_KINDS)?,
            address: input.int()?,
            type_: input.int32()?,
            bytes: input.int()?,
            retained: input.int()?,
            retained_count: input.int()?,
            site: input.int32()?,
            parent: input.int32()?,
            step: one_of(input, &STEPS)?,
            label: input.int32()?,
            detail: input.int()?,
            name: input.int32()?,
            holds_own_key: flag(input)?,
        })
    }
}

impl Group {
    fn get(input: &mut Input) -> Option<Group> {
        Some(Group {
            state: state(input)?,
            site: input.int32()?,
            type_: input.int32()?,
            holder: input.int32()?,
            sample: input.int32()?,
            shape: input.int32()?,
            leaders: input.int()?,
            blocks: input.int()?,
            bytes: input.int()?,
            counted: input.int()?,
            found: input.int()?,
            blocker: input.int32()?,
            age_ms: input.int()?,
            members: list(input, |input| {
                Some(Member { site: input.int32()?, blocks: input.int()?, bytes: input.int()? })
            })?,
        })
    }
}

impl Collector {
    fn get(input: &mut Input) -> Option<Collector> {
        let enabled = flag(input)?;
        let mut three = || Some([input.int()?, input.int()?, input.int()?]);
        let (counts, thresholds) = (three()?, three()?);
        Some(Collector {
            enabled,
            counts,
            thresholds,
            frozen: input.int()?,
            garbage_objects: input.int()?,
            garbage_bytes: input.int()?,
            garbage_frozen: input.int()?,
        })
    }
}

fn list<T>(input: &mut Input, each: impl Fn(&mut Input) -> Option<T>) -> Option<Vec<T>> {
    let count = input.count()?;
    (0..count).map(|_| each(input)).collect()
}

fn flag(input: &mut Input) -> Option<bool> {
    one_of(input, &[false, true])
}

/// An item by its position in `all`.
fn one_of<T: Copy>(input: &mut Input, all: &[T]) -> Option<T> {
    all.get(usize::try_from(input.int()?).ok()?).copied()
}

fn state(input: &mut Input) -> Option<State> {
    let all = [
        State::Python,
        State::Native,
        State::Leaked,
        State::Miscounted,
        State::Cyclic,
        State::Parked,
        State::Unknown,
    ];
    one_of(input, &all)
}

/// Each node's parent comes before it: a damaged file must not make a path endless.
fn nodes(input: &mut Input) -> Option<Vec<Node>> {
    let count = input.count()?;
    let mut nodes = Vec::with_capacity(count.min(1 << 16));
    for at in 0..count {
        let node = Node::get(input)?;
        if node.parent as usize > at {
            return None;
        }
        nodes.push(node);
    }
    Some(nodes)
}

const MEMORY_KINDS: [MemoryKind; 11] = [
    MemoryKind::Python,
    MemoryKind::Native,
    MemoryKind::PymallocSlack,
    MemoryKind::LibcSlack,
    MemoryKind::Mapped,
    MemoryKind::Shared,
    MemoryKind::Stacks,
    MemoryKind::Code,
    MemoryKind::Files,
    MemoryKind::Shim,
    MemoryKind::Other,
];

const NODE_KINDS: [NodeKind; 9] = [
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
