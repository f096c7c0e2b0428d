//! Where the resident memory is: every region once, so that the rows add up.

use pyshim_dump::heap::{Arena, MemoryKind, MemoryRow};
use pyshim_dump::record::Origin;

use crate::snapshot::inputs::Inputs;
use crate::snapshot::memory::{Backing, Map, Region};
use crate::snapshot::nodes::Nodes;
use crate::sys;

/// Blocks from this size on are looked at page by page: not all of them need be resident.
const LARGE: usize = 64 << 10;
/// `HEAP_MAX_SIZE` of glibc (`malloc/arena.c`): its further arenas begin at multiples of it.
const ARENA_STEP: usize = 64 << 20;

/// The rows, and the heaps of the allocators one by one.
pub struct Table {
    /// In order of kind.
    pub rows: Vec<MemoryRow>,
    /// In order of address.
    pub arenas: Vec<Arena>,
}

/// Live bytes of a region.
#[derive(Default)]
struct Live {
    python: u64,
    native: u64,
    blocks: u64,
    end: usize,
}

/// Makes the table.
pub fn table(map: &Map, nodes: &Nodes, inputs: &Inputs) -> Table {
    let mut table = Table { rows: Vec::new(), arenas: Vec::new() };
    let mut pymalloc = Arena { kind: 2, ..Arena::default() };
    for (at, region) in map.regions.iter().enumerate() {
        let mut left = region.resident;
        let own: u64 = if region.resident == 0 {
            0
        } else {
            sys::touched_bytes_within(&inputs.own, region.start, region.end)
        };
        let own = own.min(left);
        left -= own;
        if own > 0 {
            table.add(MemoryKind::Shim, own);
        }
        match region.backing {
            Backing::File(file) => {
                let path = map.files.get(file as usize).map_or("", String::as_str);
                let kind = if inputs.is_shim(path) || (region.shared && path.contains(".dump")) {
                    MemoryKind::Shim
                } else if map.is_program(file) {
                    MemoryKind::Code
                } else if region.shared && region.writable {
                    MemoryKind::Shared
                } else {
                    MemoryKind::Files
                };
                table.add(kind, left);
            }
            Backing::Kernel => table.add(MemoryKind::Code, left),
            Backing::Stack => table.add(MemoryKind::Stacks, left),
            Backing::Anonymous if region.shared => table.add(MemoryKind::Shared, left),
            Backing::Anonymous | Backing::Brk => {
                let mut rest = *region;
                if let Some((_, end)) = map.image_part(at) {
                    let part = sys::touched_bytes(region.start, end).min(left);
                    table.add(MemoryKind::Code, part);
                    left -= part;
                    rest.start = end;
                }
                if rest.start < rest.end {
                    table.heap(&rest, left, nodes, inputs, &mut pymalloc);
                }
            }
        }
    }
    if pymalloc.resident > 0 {
        table.arenas.push(pymalloc);
    }
    table.rows.sort_by_key(|row| row.kind);
    table
}

impl Table {
    fn add(&mut self, kind: MemoryKind, resident: u64) {
        if resident == 0 {
            return;
        }
        match self.rows.iter_mut().find(|row| row.kind == kind) {
            Some(row) => {
                row.resident += resident;
                row.regions += 1;
            }
            None => self.rows.push(MemoryRow { kind, resident, regions: 1 }),
        }
    }

    /// A region in which allocators' blocks may lie.
    fn heap(
        &mut self,
        region: &Region,
        mut left: u64,
        nodes: &Nodes,
        inputs: &Inputs,
        pymalloc: &mut Arena,
    ) {
        for &(start, len, _) in &inputs.mappings {
            let (from, to) = (start.max(region.start), (start + len).min(region.end));
            let part = sys::touched_bytes(from, to).min(left);
            self.add(MemoryKind::Mapped, part);
            left -= part;
        }
        for thread in &inputs.threads {
            if (region.start..region.end).contains(&thread.stack) {
                let top = if nodes.any_block_in(thread.stack, region.end) {
                    thread.stack
                } else {
                    region.end
                };
                let part = sys::touched_bytes(region.start, top).min(left);
                self.add(MemoryKind::Stacks, part);
                left -= part;
            }
        }
        let arenas = sys::touched_bytes_within(&inputs.arenas, region.start, region.end).min(left);
        let live = live(region, nodes, inputs);
        if arenas > 0 {
            let used = live.0.python.min(arenas);
            self.add(MemoryKind::Python, used);
            self.add(MemoryKind::PymallocSlack, arenas - used);
            pymalloc.resident += arenas;
            pymalloc.live += used;
            pymalloc.blocks += live.0.blocks;
            left -= arenas;
        }
        if live.1.blocks == 0 {
            let kind = if region.backing == Backing::Brk {
                MemoryKind::LibcSlack
            } else {
                MemoryKind::Other
            };
            return self.add(kind, left);
        }
        let whole = left;
        let python = live.1.python.min(left);
        self.add(MemoryKind::Python, python);
        left -= python;
        let native = live.1.native.min(left);
        self.add(MemoryKind::Native, native);
        left -= native;
        self.add(MemoryKind::LibcSlack, left);
        let kind = match region.backing {
            Backing::Brk => 0,
            _ if region.start.is_multiple_of(ARENA_STEP) => 1,
            // Blocks that the C library mapped one by one have no slack to speak of.
            _ => return,
        };
        let end = live.1.end.min(region.end).next_multiple_of(4096);
        self.arenas.push(Arena {
            address: region.start as u64,
            kind,
            resident: whole,
            live: python + native,
            blocks: live.1.blocks,
            top: sys::touched_bytes(end, region.end).min(left),
        });
    }
}

/// Live bytes inside pymalloc's arenas, and outside.
fn live(region: &Region, nodes: &Nodes, inputs: &Inputs) -> (Live, Live) {
    let (mut inside, mut outside) = (Live::default(), Live::default());
    let mut arenas = inputs.arenas.iter().peekable();
    for node in nodes.blocks_in(region.start, region.end) {
        let (address, len) = (nodes.address(node), nodes.len(node));
        while arenas.peek().is_some_and(|arena| arena.1 <= address) {
            arenas.next();
        }
        let in_arena = arenas.peek().is_some_and(|arena| arena.0 <= address);
        let bytes =
            if len >= LARGE { sys::touched_bytes(address, address + len) } else { len as u64 };
        let bytes = nodes.scaled(node, bytes);
        let origin = nodes.origin(node);
        let sum = if in_arena { &mut inside } else { &mut outside };
        sum.blocks += nodes.number(node);
        sum.end = sum.end.max(address + len);
        match origin {
            Some(Origin::Native) => sum.native += bytes,
            // (What lies in an arena is Python's, whatever else is known of it.)
            None if !in_arena => sum.native += bytes,
            _ => sum.python += bytes,
        }
    }
    (inside, outside)
}
