//! From positions in the graph to the nodes of a report, each with the path by
//! which it is held. What people do not think of is left out on the way: the
//! dict of a module, the block behind a list, the cell of a closure.

use hashbrown::HashMap;
use pyshim_dump::heap::{Node, NodeKind, Step};

use crate::python::objects::{self as py, flags};
use crate::snapshot::content::Reader;
use crate::snapshot::graph::World;
use crate::snapshot::inputs::Inputs;
use crate::snapshot::nodes::{NO_TYPE, NONE, bits};
use crate::snapshot::objects::Shape;
use crate::snapshot::retained::Retained;
use crate::snapshot::search::{Found, Root};
use crate::snapshot::words::{self, Way};

/// Paths longer than this are cut in the middle.
const LONGEST: usize = 60;
/// Nodes that a snapshot keeps.
const MOST_NODES: usize = 1 << 16;

/// Texts, each kept once.
#[derive(Default)]
pub struct Strings {
    /// In order of first use; the first is empty.
    pub list: Vec<String>,
    known: HashMap<String, u32>,
}

impl Strings {
    /// The number of a text.
    pub fn id(&mut self, text: &str) -> u32 {
        if self.list.is_empty() {
            self.list.push(String::new());
            self.known.insert(String::new(), 0);
        }
        if let Some(&id) = self.known.get(text) {
            return id;
        }
        let id = self.list.len() as u32;
        self.list.push(text.to_owned());
        self.known.insert(text.to_owned(), id);
        id
    }
}

/// Makes nodes.
pub struct Naming<'a, 'w> {
    /// What was searched.
    pub world: &'a World<'w>,
    /// Reads objects.
    pub reader: Reader<'a>,
    /// What the search found.
    pub found: &'a Found,
    /// What the process said.
    pub inputs: &'a Inputs,
    /// Retained bytes and blocks of each position.
    pub retained: &'a Retained,
    /// Texts.
    pub strings: Strings,
    /// The nodes so far.
    pub nodes: Vec<Node>,
    /// The position of each node.
    pub positions: Vec<u32>,
    /// Position in the graph to node, plus one.
    known: HashMap<u32, u32>,
}

impl<'a, 'w> Naming<'a, 'w> {
    /// No nodes yet.
    pub fn new(
        world: &'a World<'w>,
        reader: Reader<'a>,
        found: &'a Found,
        inputs: &'a Inputs,
        retained: &'a Retained,
    ) -> Self {
        let mut strings = Strings::default();
        strings.id("");
        Naming {
            world,
            reader,
            found,
            inputs,
            retained,
            strings,
            nodes: Vec::new(),
            positions: Vec::new(),
            known: HashMap::new(),
        }
    }

    fn node_at(&self, position: u32) -> u32 {
        self.found.graph.order[position as usize]
    }

    fn is_object(&self, position: u32) -> bool {
        self.world.nodes.has(self.node_at(position), bits::OBJECT)
    }

    fn address(&self, position: u32) -> usize {
        self.world.nodes.object(self.node_at(position))
    }

    /// The node of a position, plus one, with all that it hangs from; 0: no room for it.
    pub fn node(&mut self, position: u32) -> u32 {
        // An object and its dict are one for people.
        if self.is_object(position)
            && self.reader.is(self.address(position), flags::DICT)
            && let Some(above) = self.holder(position)
            && self.is_object(above)
            && self.is_dict_of(self.address(above), self.address(position))
        {
            return self.node(above);
        }
        let mut chain = vec![position];
        let mut at = position;
        while !self.known.contains_key(&at) {
            at = self.found.graph.parent[at as usize];
            if at == NONE {
                break;
            }
            chain.push(at);
        }
        if self.nodes.len() + chain.len().min(LONGEST) > MOST_NODES {
            return 0;
        }
        // A list of a million nodes is told by its beginning and its end.
        if chain.len() > LONGEST {
            let end = chain.len() - LONGEST / 2;
            chain.drain(LONGEST / 2..end);
        }
        let mut before = 0;
        for &at in chain.iter().rev() {
            if !self.known.contains_key(&at) {
                let mut node = self.make(at);
                // What was cut out of the middle is one step.
                if node.parent == 0 && before != 0 {
                    node.parent = before;
                    node.step = Step::Inside;
                }
                self.nodes.push(node);
                self.positions.push(at);
                self.known.insert(at, self.nodes.len() as u32);
            }
            before = self.known.get(&at).copied().unwrap_or(0);
        }
        self.known.get(&position).copied().unwrap_or(0)
    }

    fn make(&mut self, position: u32) -> Node {
        let graph_node = self.node_at(position);
        let mut node = Node { step: Step::Root, ..self.bare(position) };
        if let Some(root) = self.found.roots.get(&graph_node) {
            self.name_root(&mut node, root, graph_node);
            return node;
        }
        let Some(up) = self.holder(position) else { return node };
        let (parent, way) = self.way(up, position);
        node.parent = self.known.get(&parent).copied().unwrap_or(0);
        node.step = way.step;
        node.label = self.strings.id(&way.label);
        node.detail = way.detail;
        node
    }

    fn bare(&mut self, position: u32) -> Node {
        let graph_node = self.node_at(position);
        let retained = self.retained.get(position as usize).unwrap_or_default();
        let object = self.is_object(position);
        let type_ = self.world.nodes.types[graph_node as usize];
        let name = match object {
            true if self.is_interned(position) => "interned strings".to_owned(),
            true => words::name(&self.reader, self.address(position)),
            false => String::new(),
        };
        Node {
            kind: if object { NodeKind::Object } else { NodeKind::Block },
            address: self.address(position) as u64,
            type_: if type_ == NO_TYPE { 0 } else { u32::from(type_) + 1 },
            bytes: self.world.nodes.bytes(graph_node),
            retained,
            site: match self.world.nodes.is_own(graph_node) {
                true => self.world.nodes.site(graph_node) + 1,
                false => 0,
            },
            name: self.strings.id(&name),
            ..Node::default()
        }
    }

    fn name_root(&mut self, node: &mut Node, root: &Root, graph_node: u32) {
        node.address = self.world.nodes.object(graph_node) as u64;
        match root {
            Root::Module(name) => {
                node.kind = NodeKind::Module;
                node.label = self.strings.id(name);
            }
            Root::Frame(at) => {
                node.kind = NodeKind::Frame;
                node.detail = *at as u64;
            }
            Root::Static(file) => {
                node.kind = NodeKind::Static;
                let path = self.world.map.files.get(*file as usize).cloned().unwrap_or_default();
                node.name = self.strings.id(&path);
            }
            Root::Interpreter(part) => {
                node.kind = NodeKind::Interpreter;
                node.label = self.strings.id(part);
            }
            Root::Stack(thread) => {
                node.kind = NodeKind::Stack;
                node.detail = (*thread).into();
            }
            Root::ThreadLocal => node.kind = NodeKind::ThreadLocal,
            Root::Mapping(site) => {
                node.kind = NodeKind::Mapping;
                node.site = if *site == 0 { 0 } else { site + 1 };
            }
        }
    }

    /// The nearest position above that is an object or a root; blocks between belong to it. For a
    /// block that is no object, simply what is above.
    fn holder(&self, position: u32) -> Option<u32> {
        let parent =
            |at: u32| Some(self.found.graph.parent[at as usize]).filter(|&parent| parent != NONE);
        let mut up = parent(position)?;
        if !self.is_object(position) {
            return Some(up);
        }
        // A chain of blocks with no object at its end is the path itself.
        let direct = up;
        for _ in 0..4 {
            if self.is_object(up) || self.found.roots.contains_key(&self.node_at(up)) {
                return Some(up);
            }
            up = parent(up)?;
        }
        Some(direct)
    }

    /// From which node it is told, and how: `up` or something above it.
    fn way(&self, up: u32, position: u32) -> (u32, Way) {
        let child = self.address(position);
        if let Some(root) = self.found.roots.get(&self.node_at(up))
            && !self.is_object(up)
        {
            return (up, self.way_from_root(root, up, position));
        }
        if !self.is_object(up) || !self.is_object(position) {
            return (up, self.word(up, position));
        }
        let reader = &self.reader;
        let parent = self.address(up);
        let mut way = words::way(reader, parent, child);
        let Some(above) = self.holder(up) else { return (up, way) };
        let above_object = if self.is_object(above) { self.address(above) } else { 0 };
        if reader.is(parent, flags::DICT) && way.step == Step::Key && above_object != 0 {
            if self.is_dict_of(above_object, parent) {
                way.step = if words::is_module(reader, above_object) {
                    Step::Global
                } else {
                    Step::Attribute
                };
                way.label = way.label.trim_matches('\'').to_owned();
                return (above, way);
            }
            if reader.word(above_object, reader.layout.function_kwdefaults as usize) == parent
                && words::way(reader, above_object, parent).label == "__kwdefaults__"
            {
                way.step = Step::Default;
                way.label = way.label.trim_matches('\'').to_owned();
                return (above, way);
            }
        }
        if reader.is(parent, flags::TUPLE) && way.step == Step::Index && above_object != 0 {
            let index = way.detail as usize;
            match words::way(reader, above_object, parent).label.as_str() {
                "__defaults__" => {
                    let label = words::parameter(reader, above_object, index).unwrap_or_default();
                    return (above, Way { step: Step::Default, label, detail: 0 });
                }
                "__closure__" => {
                    let label =
                        words::free_variable(reader, above_object, index).unwrap_or_default();
                    return (above, Way { step: Step::Closure, label, detail: 0 });
                }
                _ => {}
            }
        }
        // A cell is its variable.
        if reader.word(parent, py::CELL_CONTENT) == child
            && way.step == Step::Inside
            && let Some(&known) = self.known.get(&up)
            && let Some(cell) = self.nodes.get(known as usize - 1)
            && matches!(cell.step, Step::Closure | Step::Local)
        {
            let label = self.strings.list.get(cell.label as usize).cloned().unwrap_or_default();
            let above = (cell.parent as usize).checked_sub(1).and_then(|at| self.positions.get(at));
            let above = above.copied().unwrap_or(up);
            return (above, Way { step: cell.step, label, detail: 0 });
        }
        (up, way)
    }

    fn is_dict_of(&self, object: usize, dict: usize) -> bool {
        let reader = &self.reader;
        (words::is_module(reader, object) && reader.word(object, py::MODULE_DICT) == dict)
            || (reader.is(object, flags::TYPE) && reader.word(object, py::TYPE_DICT) == dict)
            || reader.dict_of(object) == Some(dict)
    }

    fn way_from_root(&self, root: &Root, up: u32, position: u32) -> Way {
        if let Root::Frame(at) = root
            && let Some(frame) = self.inputs.frames.get(*at)
            && let Some(way) =
                words::local(&self.reader, frame.code, frame.locals, self.address(position))
        {
            return way;
        }
        self.word(up, position)
    }

    /// The word of a piece of memory that leads into a block.
    fn word(&self, up: u32, position: u32) -> Way {
        let (from, to) = (self.node_at(up), self.node_at(position));
        let nodes = &self.world.nodes;
        let start = nodes.address(from);
        let target = nodes.address(to)..nodes.address(to) + nodes.len(to).max(1);
        let object = nodes.object(to);
        for at in (0..nodes.len(from).min(1 << 26) / 8).map(|index| index * 8) {
            match self.world.map.read::<usize>(start + at) {
                Some(word) if target.contains(&word) || word == object => {
                    return Way { step: Step::Word, label: String::new(), detail: at as u64 };
                }
                Some(_) => {}
                None => break,
            }
        }
        Way::default()
    }

    /// Whether an object is the dict of `sys.intern`, the one that has each string under itself.
    fn is_interned(&self, position: u32) -> bool {
        const LOOKED_AT: usize = 64;
        let dict = self.address(position);
        if !self.reader.is(dict, flags::DICT) {
            return false;
        }
        let (mut looked, mut own) = (0, 0);
        self.reader.dict(dict, |key, value| {
            looked += 1;
            own += usize::from(key == value && self.reader.is(key, flags::UNICODE));
            looked < LOOKED_AT && own == looked
        });
        looked == LOOKED_AT && own == looked
    }

    /// Whether a dict has weak keys that are held by what their own values lead to: such an entry
    /// never goes.
    pub fn holds_own_key(&self, position: u32) -> bool {
        if !self.is_object(position) || !self.reader.is(self.address(position), flags::DICT) {
            return false;
        }
        let (mut looked, mut own) = (0, 0);
        self.reader.dict(self.address(position), |key, value| {
            let nodes = &self.world.nodes;
            let weak = nodes.object_at(key).is_some_and(|node| {
                let type_ = nodes.types[node as usize] as usize;
                self.world.types.list.get(type_).is_some_and(|info| info.shape == Shape::Weak)
            });
            let target = self.reader.word(key, py::WEAKREF_OBJECT);
            if weak
                && let (Some(from), Some(to)) = (nodes.object_at(value), nodes.object_at(target))
            {
                looked += 1;
                own += u32::from(self.leads_to(from, to));
            }
            looked < 16
        });
        looked > 0 && own * 2 > looked
    }

    /// Whether something near `from` refers to `to`.
    fn leads_to(&self, from: u32, to: u32) -> bool {
        const NEAR: usize = 400;
        let graph = &self.found.graph;
        let mut seen = vec![from];
        let mut at = 0;
        while let Some(&node) = seen.get(at) {
            at += 1;
            if node == to {
                return true;
            }
            let position = graph.position[node as usize];
            if position == NONE || seen.len() > NEAR {
                continue;
            }
            for &next in graph.targets(position) {
                // Types and modules lead everywhere.
                let everywhere = self.world.nodes.has(next, bits::OBJECT)
                    && self
                        .world
                        .types
                        .list
                        .get(self.world.nodes.types[next as usize] as usize)
                        .is_some_and(|info| matches!(info.shape, Shape::Type | Shape::Module));
                if !everywhere && !seen.contains(&next) {
                    seen.push(next);
                }
            }
        }
        false
    }
}
