//! From a snapshot to its bytes.

use super::{Collector, Group, Heap, Node, Search, VERSION};
use crate::varint::{put, put_bytes};

impl Heap {
    /// The bytes of the snapshot.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Out(Vec::new());
        out.int(VERSION);
        out.int(self.moment as u64);
        out.int(self.at_ms);
        out.int(self.pause_us);
        out.int(self.search_ms);
        self.search.put(&mut out);
        out.list(&self.strings, |out, text| put_bytes(&mut out.0, text.as_bytes()));
        out.list(&self.codes, |out, code| {
            out.int(code.id.into());
            out.int(code.file.into());
            put_bytes(&mut out.0, code.name.as_bytes());
            out.int(code.first_line.into());
            out.int(code.table_kind.into());
            put_bytes(&mut out.0, &code.table);
        });
        out.list(&self.frames, |out, frame| {
            out.int(frame.code.into());
            out.int(frame.instruction.into());
            out.int(frame.thread.into());
        });
        out.list(&self.types, |out, one| {
            out.int(one.name.into());
            out.int(one.objects);
            out.int(one.bytes);
            out.int(one.retained);
            out.int(one.tracked.into());
            out.int(one.sample.into());
        });
        out.list(&self.sites, |out, one| {
            out.int(one.site.into());
            out.int(one.state as u64);
            out.int(one.blocks);
            out.int(one.bytes);
        });
        out.list(&self.nodes, |out, node| node.put(out));
        out.list(&self.groups, |out, group| group.put(out));
        match &self.collector {
            None => out.int(0),
            Some(collector) => {
                out.int(1);
                collector.put(&mut out);
            }
        }
        out.list(&self.memory, |out, row| {
            out.int(row.kind as u64);
            out.int(row.resident);
            out.int(row.regions);
        });
        out.list(&self.arenas, |out, arena| {
            for value in [arena.address, arena.kind.into(), arena.resident, arena.live] {
                out.int(value);
            }
            out.int(arena.blocks);
            out.int(arena.top);
        });
        out.0
    }
}

impl Search {
    fn put(&self, out: &mut Out) {
        let flags = u64::from(self.at_rest)
            | u64::from(self.all_blocks_known) << 1
            | u64::from(self.python) << 2;
        for value in [
            flags,
            self.bytes,
            self.unreadable,
            self.blind_threads,
            self.failed_objects,
            self.blocks,
            self.objects,
            self.tracked,
        ] {
            out.int(value);
        }
        out.list(&self.notes, |out, note| put_bytes(&mut out.0, note.as_bytes()));
    }
}

impl Node {
    fn put(&self, out: &mut Out) {
        for value in [
            self.kind as u64,
            self.address,
            self.type_.into(),
            self.bytes,
            self.retained,
            self.retained_count,
            self.site.into(),
            self.parent.into(),
            self.step as u64,
            self.label.into(),
            self.detail,
            self.name.into(),
            self.holds_own_key.into(),
        ] {
            out.int(value);
        }
    }
}

impl Group {
    fn put(&self, out: &mut Out) {
        for value in [
            self.state as u64,
            self.site.into(),
            self.type_.into(),
            self.holder.into(),
            self.sample.into(),
            self.shape.into(),
            self.leaders,
            self.blocks,
            self.bytes,
            self.counted,
            self.found,
            self.blocker.into(),
            self.age_ms,
        ] {
            out.int(value);
        }
        out.list(&self.members, |out, member| {
            out.int(member.site.into());
            out.int(member.blocks);
            out.int(member.bytes);
        });
    }
}

impl Collector {
    fn put(&self, out: &mut Out) {
        out.int(self.enabled.into());
        for value in self.counts.into_iter().chain(self.thresholds) {
            out.int(value);
        }
        for value in [self.frozen, self.garbage_objects, self.garbage_bytes, self.garbage_frozen] {
            out.int(value);
        }
    }
}

struct Out(Vec<u8>);

impl Out {
    fn int(&mut self, value: u64) {
        put(&mut self.0, value);
    }

    fn list<T>(&mut self, items: &[T], each: impl Fn(&mut Out, &T)) {
        self.int(items.len() as u64);
        for item in items {
            each(self, item);
        }
    }
}
