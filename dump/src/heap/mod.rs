//! The heap snapshot: what a forked copy of the process found when it searched
//! its memory. Written as a whole, like a blob, but by the copy itself.
//!
//! The copy has looked at every live block and every Python object, and keeps
//! of them what a report needs: sums by site and state, the census of types,
//! and for what is worth explaining the path by which it is held. Strings are
//! kept once, in [`Heap::strings`]; everything refers to them by number.

mod decode;
mod encode;

use crate::record::Code;

/// What was found. All sizes are bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heap {
    /// Why it was taken.
    pub moment: Moment,
    /// Milliseconds since the start of recording.
    pub at_ms: u64,
    /// How long the program stood still for it, in microseconds.
    pub pause_us: u64,
    /// How long the copy searched, in milliseconds.
    pub search_ms: u64,
    /// How complete the search was.
    pub search: Search,
    /// Texts; the others refer to them by position.
    pub strings: Vec<String>,
    /// Code objects of [`Heap::frames`]; their `file` is one of `strings`.
    pub codes: Vec<Code>,
    /// Python frames that were running.
    pub frames: Vec<RunningFrame>,
    /// Types of Python objects, in no order.
    pub types: Vec<Type>,
    /// Live blocks by site and state, in order of site.
    pub sites: Vec<SiteState>,
    /// Objects and blocks that are named somewhere, each with its parent before it.
    pub nodes: Vec<Node>,
    /// Blocks with one explanation in common, most bytes first.
    pub groups: Vec<Group>,
    /// The garbage collector; `None`: it could not be read.
    pub collector: Option<Collector>,
    /// Resident memory by what it is; the rows add up to the resident set.
    pub memory: Vec<MemoryRow>,
    /// Heaps of the allocators, one by one.
    pub arenas: Vec<Arena>,
}

/// Why a snapshot was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Moment {
    /// Before the interpreter's teardown.
    #[default]
    Last = 0,
    /// Somebody asked.
    Asked = 1,
    /// The time had come.
    Timer = 2,
    /// Memory came close to its limit.
    Limit = 3,
}

/// How complete the search was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Search {
    /// The interpreter lock was held, or nobody held it: no object was half changed.
    pub at_rest: bool,
    /// Every live block is known; else (sampling, late start) free memory was searched too.
    pub all_blocks_known: bool,
    /// Python objects were understood.
    pub python: bool,
    /// Bytes searched for pointers.
    pub bytes: u64,
    /// Bytes that could not be read.
    pub unreadable: u64,
    /// Other threads, whose registers could not be searched.
    pub blind_threads: u64,
    /// Objects whose references could not be followed.
    pub failed_objects: u64,
    /// Live blocks.
    pub blocks: u64,
    /// Python objects.
    pub objects: u64,
    /// Of these, objects that the collector tracks.
    pub tracked: u64,
    /// Sentences for the reader.
    pub notes: Vec<String>,
}

/// Among the notes of a [`Search`]: sites and groups may be missing, the dump had no room for them.
pub const NO_ROOM: &str = "the snapshot had no room for everything that was found";

/// A Python frame that was running.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunningFrame {
    /// Position in [`Heap::codes`].
    pub code: u32,
    /// As [`crate::record::Frame::Python`] has it.
    pub instruction: u32,
    /// The thread's name, a string; the first thread is `MainThread`.
    pub thread: u32,
}

/// A type of Python objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Type {
    /// Its qualified name, a string.
    pub name: u32,
    /// Live objects.
    pub objects: u64,
    /// Their own blocks.
    pub bytes: u64,
    /// What would go with them: their retained size, objects within objects of the type counted once.
    pub retained: u64,
    /// The collector can follow its objects.
    pub tracked: bool,
    /// One of the nodes that is of it, plus one; 0: none was kept.
    pub sample: u32,
}

/// How live blocks are held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum State {
    /// Reached from a root of Python: a module, a running frame.
    #[default]
    Python = 0,
    /// Reached from native memory alone: static data, a thread's stack or local storage.
    Native = 1,
    /// Native blocks to which no pointer was found, and what only they hold.
    Leaked = 2,
    /// Python objects that nobody holds although their count says so, and what only they hold.
    Miscounted = 3,
    /// Rings of Python objects that nobody holds, and what only they hold.
    Cyclic = 4,
    /// Dead objects that the interpreter keeps for reuse.
    Parked = 5,
    /// Not searched for.
    Unknown = 6,
}

/// Live blocks of one site in one state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SiteState {
    /// The site.
    pub site: u32,
    /// How they are held.
    pub state: State,
    /// Blocks.
    pub blocks: u64,
    /// Bytes.
    pub bytes: u64,
}

/// What a node is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum NodeKind {
    /// A Python object.
    #[default]
    Object = 0,
    /// A block that is no Python object.
    Block = 1,
    /// Root: a module in `sys.modules`; the label is its name.
    Module = 2,
    /// Root: a running frame; `detail` is its position in [`Heap::frames`].
    Frame = 3,
    /// Root: static data of a program file, at `address`; `name` is the file's path.
    Static = 4,
    /// Root: a thread's stack; `detail` is the thread's id in the system.
    Stack = 5,
    /// Root: thread-local storage.
    ThreadLocal = 6,
    /// Root: memory that the program mapped itself.
    Mapping = 7,
    /// Root: the interpreter's own state.
    Interpreter = 8,
}

/// How a node is reached from its parent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Step {
    /// Not known more closely: somewhere in the parent.
    #[default]
    Inside = 0,
    /// An attribute; the label is its name.
    Attribute = 1,
    /// A value of a dict; the label is its key's text, quoted if it is a string.
    Key = 2,
    /// The key of a dict itself.
    AsKey = 3,
    /// An item; `detail` is its position.
    Index = 4,
    /// A member of a set, a deque, or another container without positions.
    Member = 5,
    /// A local variable; the label is its name.
    Local = 6,
    /// A variable of an enclosing function, in the closure; the label is its name.
    Closure = 7,
    /// A default argument; the label is the parameter's name.
    Default = 8,
    /// A word of native memory; `detail` is its offset in the parent.
    Word = 9,
    /// A root: there is no parent.
    Root = 10,
    /// A global variable of a module: an attribute whose dict was left out.
    Global = 11,
}

/// Something that a report may name. Its path is the chain of parents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub kind: NodeKind,
    /// Where it is; 0 for some roots.
    pub address: u64,
    /// Position in [`Heap::types`] plus one; 0: no object.
    pub type_: u32,
    /// Its own size.
    pub bytes: u64,
    /// All that only it holds, itself included.
    pub retained: u64,
    /// The number of objects and blocks in that.
    pub retained_count: u64,
    /// The site of its block plus one; 0: it has none.
    pub site: u32,
    /// Position of the parent plus one; 0: a root, or nobody holds it.
    pub parent: u32,
    /// How it is reached from there.
    pub step: Step,
    /// A string: what `step` or `kind` says it is.
    pub label: u32,
    /// A number: what `step` or `kind` says it is.
    pub detail: u64,
    /// A string that names the object itself: the qualified name of a function, a class, a generator
    /// or a coroutine, the name of a module, the path of a static root's file; 0: the empty one.
    pub name: u32,
    /// A weak key of this dict is itself held by the value that belongs to it.
    pub holds_own_key: bool,
}

/// Blocks of one site in a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// The site.
    pub site: u32,
    /// Its blocks in the group.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Blocks with one explanation in common.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// The explanation.
    pub state: State,
    /// The site that leads: of the blocks that nobody holds, or with most bytes in the group.
    pub site: u32,
    /// Position in [`Heap::types`] of what leads, plus one; 0: no object.
    pub type_: u32,
    /// The node that holds all of it, plus one ([`State::Python`], [`State::Native`]); 0: none.
    pub holder: u32,
    /// One of the blocks that lead, as a node, plus one; 0: none.
    pub sample: u32,
    /// A string: how one gets from the holder to the sample, such as `[str] → list → dict`.
    pub shape: u32,
    /// Blocks that lead.
    pub leaders: u64,
    /// All blocks.
    pub blocks: u64,
    /// All bytes.
    pub bytes: u64,
    /// [`State::Miscounted`]: references that the sample's count says there are.
    pub counted: u64,
    /// And those that were found.
    pub found: u64,
    /// [`State::Cyclic`]: position in [`Heap::types`], plus one, of the type that takes no part in
    /// garbage collection and so keeps the ring; 0: the collector would take it.
    pub blocker: u32,
    /// Nine in ten of the leading site's blocks that were looked at are this old at most, in
    /// milliseconds; 0: not known ([`State::Python`] and [`State::Native`] alone).
    pub age_ms: u64,
    /// The blocks by site, most bytes first.
    pub members: Vec<Member>,
}

/// The state of Python's garbage collector.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collector {
    /// `gc.isenabled()`.
    pub enabled: bool,
    /// `gc.get_count()`.
    pub counts: [u64; 3],
    /// `gc.get_threshold()`.
    pub thresholds: [u64; 3],
    /// Objects that `gc.freeze()` set aside.
    pub frozen: u64,
    /// Objects that one full collection would find unreachable.
    pub garbage_objects: u64,
    /// Their blocks and what only they hold.
    pub garbage_bytes: u64,
    /// Of the objects, those that are frozen and so never collected.
    pub garbage_frozen: u64,
}

/// What resident memory is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum MemoryKind {
    /// Live blocks of Python's allocators.
    Python = 0,
    /// Live blocks that native code allocated.
    Native = 1,
    /// Free inside pymalloc's arenas.
    PymallocSlack = 2,
    /// Free inside the C library's heaps, and its bookkeeping.
    LibcSlack = 3,
    /// Memory that the program mapped itself.
    Mapped = 4,
    /// Shared memory.
    Shared = 5,
    /// Thread stacks.
    Stacks = 6,
    /// Program files: code and data.
    Code = 7,
    /// Other files that are mapped.
    Files = 8,
    /// pyshim itself.
    Shim = 9,
    /// What is none of these.
    #[default]
    Other = 10,
}

/// Resident memory of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryRow {
    /// What it is.
    pub kind: MemoryKind,
    /// Resident bytes.
    pub resident: u64,
    /// Regions.
    pub regions: u64,
}

/// One heap of an allocator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arena {
    /// Where it starts.
    pub address: u64,
    /// 0: the C library's first heap, 1: one of its further arenas, 2: pymalloc's arenas together.
    pub kind: u8,
    /// Resident bytes.
    pub resident: u64,
    /// Live bytes.
    pub live: u64,
    /// Live blocks.
    pub blocks: u64,
    /// Resident bytes beyond the last live block: what is free at the top.
    pub top: u64,
}

/// The version of the encoding. A reader takes another for none at all.
const VERSION: u64 = 1;

impl Heap {
    /// A text; empty if there is none of that number.
    pub fn text(&self, id: u32) -> &str {
        self.strings.get(id as usize).map_or("", String::as_str)
    }

    /// A node by position plus one, as the fields of this module have it.
    pub fn node(&self, plus_one: u32) -> Option<&Node> {
        self.nodes.get((plus_one as usize).checked_sub(1)?)
    }

    /// A type's name by position plus one; empty for 0.
    pub fn type_name(&self, plus_one: u32) -> &str {
        let found = (plus_one as usize).checked_sub(1).and_then(|at| self.types.get(at));
        found.map_or("", |one| self.text(one.name))
    }

    /// The path to a node (position plus one), root first, itself last.
    pub fn path(&self, plus_one: u32) -> Vec<&Node> {
        let mut path = Vec::new();
        let mut at = plus_one;
        while let Some(node) = self.node(at) {
            path.push(node);
            // Parents come before their children (checked when read), so this ends.
            at = node.parent;
        }
        path.reverse();
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Heap {
        Heap {
            moment: Moment::Limit,
            at_ms: 5,
            search: Search { at_rest: true, notes: vec!["so".into()], ..Search::default() },
            strings: vec![String::new(), "CACHE".into(), "dict".into()],
            codes: vec![Code {
                id: 0,
                file: 1,
                name: "main".into(),
                first_line: 3,
                table_kind: 2,
                table: vec![1, 2],
            }],
            frames: vec![RunningFrame { code: 0, instruction: 8, thread: 1 }],
            types: vec![Type { name: 2, objects: 4, tracked: true, ..Type::default() }],
            sites: vec![SiteState { site: 7, state: State::Cyclic, blocks: 1, bytes: 300 }],
            nodes: vec![
                Node { kind: NodeKind::Module, step: Step::Root, ..Node::default() },
                Node { parent: 1, type_: 1, step: Step::Global, label: 1, ..Node::default() },
            ],
            groups: vec![Group {
                state: State::Miscounted,
                counted: 2,
                members: vec![Member { site: 7, blocks: 1, bytes: 300 }],
                ..Group::default()
            }],
            collector: Some(Collector { thresholds: [700, 10, 10], ..Collector::default() }),
            memory: vec![MemoryRow { kind: MemoryKind::Other, resident: 4096, regions: 1 }],
            arenas: vec![Arena { kind: 2, live: 9, ..Arena::default() }],
            ..Heap::default()
        }
    }

    #[test]
    fn a_snapshot_comes_back_and_a_cut_one_does_not() {
        let heap = sample();
        let bytes = heap.encode();
        assert_eq!(Heap::decode(&bytes), Some(heap));
        for len in 0..bytes.len() {
            assert_eq!(Heap::decode(&bytes[..len]), None, "{len} bytes");
        }
    }

    #[test]
    fn a_path_leads_from_the_root() {
        let heap = sample();
        let labels: Vec<&str> = heap.path(2).iter().map(|node| heap.text(node.label)).collect();
        assert_eq!(labels, ["", "CACHE"]);
        assert_eq!(heap.type_name(1), "dict");
        assert!(heap.path(9).is_empty());
    }

    #[test]
    fn a_parent_that_comes_later_is_damage() {
        let mut heap = sample();
        heap.nodes[0].parent = 2;
        assert_eq!(Heap::decode(&heap.encode()), None);
    }
}
