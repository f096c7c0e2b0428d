//! Puts heap snapshots together for tests.

#![allow(dead_code)]

use pyshim_dump::heap::{
    Collector, Group, Heap, Member, Node, NodeKind, RunningFrame, Search, SiteState, State, Step,
    Type,
};
use pyshim_dump::record::Code;

/// A snapshot in the making: complete, of 20 MiB, taken at 59.9 s.
pub struct Snapshot(pub Heap);

impl Default for Snapshot {
    fn default() -> Snapshot {
        Snapshot(Heap {
            at_ms: 59_900,
            search: Search {
                at_rest: true,
                all_blocks_known: true,
                python: true,
                bytes: 20 << 20,
                blocks: 10_000,
                objects: 5_000,
                tracked: 3_000,
                ..Search::default()
            },
            strings: vec![String::new()],
            collector: Some(Collector {
                enabled: true,
                thresholds: [700, 10, 10],
                ..Collector::default()
            }),
            ..Heap::default()
        })
    }
}

impl Snapshot {
    /// The number of a text.
    pub fn text(&mut self, text: &str) -> u32 {
        let strings = &mut self.0.strings;
        let known = strings.iter().position(|one| one == text);
        known.unwrap_or_else(|| {
            strings.push(text.into());
            strings.len() - 1
        }) as u32
    }

    /// A type, position plus one.
    pub fn type_(&mut self, name: &str) -> u32 {
        if name.is_empty() {
            return 0;
        }
        let name = self.text(name);
        let types = &mut self.0.types;
        let known = types.iter().position(|one| one.name == name);
        known.unwrap_or_else(|| {
            types.push(Type { name, objects: 10, bytes: 100, tracked: true, ..Type::default() });
            types.len() - 1
        }) as u32
            + 1
    }

    fn push(&mut self, node: Node) -> u32 {
        self.0.nodes.push(node);
        self.0.nodes.len() as u32
    }

    /// A root.
    pub fn root(&mut self, kind: NodeKind, label: &str) -> u32 {
        let label = self.text(label);
        self.push(Node { kind, label, step: Step::Root, ..Node::default() })
    }

    /// A running frame as a root.
    pub fn frame(&mut self, file: &str, line: u32, function: &str, thread: &str) -> u32 {
        let (file, thread) = (self.text(file), self.text(thread));
        let code = Code {
            id: self.0.codes.len() as u32,
            file,
            name: function.into(),
            first_line: line,
            table_kind: 9,
            table: Vec::new(),
        };
        let same = |it: &Code| it.name == code.name && it.file == file && it.first_line == line;
        let known = self.0.codes.iter().position(same);
        let code = known.unwrap_or_else(|| {
            self.0.codes.push(code);
            self.0.codes.len() - 1
        }) as u32;
        self.0.frames.push(RunningFrame { code, instruction: 0, thread });
        let detail = self.0.frames.len() as u64 - 1;
        let step = Step::Root;
        self.push(Node { kind: NodeKind::Frame, detail, step, ..Node::default() })
    }

    /// An object below another node. A label that is a number is a position.
    pub fn object(&mut self, parent: u32, step: Step, label: &str, type_: &str) -> u32 {
        let detail = label.parse().unwrap_or(0);
        let (label, type_) = (self.text(label), self.type_(type_));
        let address = 0x7f00_0000_0000 + 64 * self.0.nodes.len() as u64;
        self.push(Node {
            address,
            type_,
            parent,
            step,
            label,
            detail,
            bytes: 64,
            retained: 4_000,
            retained_count: 50,
            ..Node::default()
        })
    }

    /// Gives the last node a name of its own.
    pub fn named(&mut self, name: &str) -> &mut Snapshot {
        let name = self.text(name);
        self.0.nodes.last_mut().unwrap().name = name;
        self
    }

    /// A group over whole sites, each with its blocks and bytes; the first leads.
    pub fn group(&mut self, state: State, holder: u32, sample: u32, sites: &[(u32, u64, u64)]) {
        let members: Vec<Member> =
            sites.iter().map(|&(site, blocks, bytes)| Member { site, blocks, bytes }).collect();
        for member in &members {
            let Member { site, blocks, bytes } = *member;
            self.0.sites.push(SiteState { site, state, blocks, bytes });
        }
        self.0.groups.push(Group {
            state,
            site: members[0].site,
            type_: self.0.node(sample).map_or(0, |node| node.type_),
            holder,
            sample,
            leaders: members[0].blocks,
            blocks: members.iter().map(|member| member.blocks).sum(),
            bytes: members.iter().map(|member| member.bytes).sum(),
            members,
            ..Group::default()
        });
    }
}
