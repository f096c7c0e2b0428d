//! What the copy is told of the process that it was made from.

use crate::snapshot::memory::Map;

/// A running frame.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The frame's address.
    pub address: usize,
    /// Where its variables begin.
    pub locals: usize,
    /// Where what it may use ends.
    pub end: usize,
    /// Its code object.
    pub code: usize,
    /// The running instruction.
    pub instruction: u32,
    /// The thread, as Python numbers it.
    pub thread: u64,
}

/// A thread of the process.
#[derive(Clone, Copy, Debug)]
pub struct Thread {
    /// Its id in the system.
    pub id: u32,
    /// From here on its stack is in use.
    pub stack: usize,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Inputs {
    /// Address of `_PyRuntime`; 0: there is no interpreter.
    pub runtime: usize,
    /// Address of the word that leads to the callbacks of `atexit`; 0: not known.
    pub atexit: usize,
    /// Python frames that run.
    pub frames: Vec<Frame>,
    /// Threads, this one first.
    pub threads: Vec<Thread>,
    /// The first thread's pointer to its local storage.
    pub main_thread_pointer: usize,
    /// Bytes of local storage below it, at most.
    pub local_storage: usize,
    /// The program's own mappings: start, length, site.
    pub mappings: Vec<(usize, usize, u32)>,
    /// The shim's own memory: start, end, in order.
    pub own: Vec<(usize, usize)>,
    /// pymalloc's arenas: start, end, in order.
    pub arenas: Vec<(usize, usize)>,
    /// Every live block is known.
    pub all_blocks_known: bool,
}

impl Inputs {
    /// Whether a file is the shim, or a dump.
    pub fn is_shim(&self, path: &str) -> bool {
        path.ends_with("/libpyshim.so")
    }

    /// What of a range is not the shim's own memory.
    pub fn without_shim(&self, start: usize, end: usize) -> Vec<(usize, usize)> {
        let mut parts = Vec::new();
        let mut from = start;
        for &(own_start, own_end) in &self.own {
            if own_end <= from || own_start >= end {
                continue;
            }
            if own_start > from {
                parts.push((from, own_start));
            }
            from = own_end;
        }
        if from < end {
            parts.push((from, end));
        }
        parts
    }

    /// Whether a range lies in the arenas of pymalloc.
    pub fn is_arena(&self, start: usize, end: usize) -> bool {
        self.arenas.iter().any(|&(from, to)| from < end && start < to)
    }

    /// Makes sure of the order that the others rely on.
    pub fn sort(&mut self, map: &Map) {
        self.own.sort_unstable();
        join(&mut self.own);
        self.arenas.sort_unstable();
        let readable = |&(start, len, _): &(usize, usize, u32)| map.readable(start, len.min(4096));
        self.mappings.retain(readable);
    }
}

/// Makes one of ranges, in order, that have something in common: it would count twice.
fn join(ranges: &mut Vec<(usize, usize)>) {
    ranges.dedup_by(|next, kept| {
        let meet = next.0 <= kept.1;
        if meet {
            kept.1 = kept.1.max(next.1);
        }
        meet
    });
}

#[cfg(test)]
mod tests {
    #[test]
    fn ranges_that_meet_are_joined() {
        let mut ranges = vec![(1, 3), (1, 3), (2, 5), (6, 9), (7, 8)];
        super::join(&mut ranges);
        assert_eq!(ranges, [(1, 5), (6, 9)]);
    }
}
