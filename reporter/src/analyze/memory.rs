//! Where the resident memory is.

use pyshim_dump::heap::{Heap, MemoryKind};
use pyshim_dump::layout::Gauge;
use pyshim_dump::record::Origin;
use pyshim_dump::{Amount, Dump};

use super::report::Memory;
use super::stacks::last;

/// The table of one process or of several together.
pub fn memory<'a>(dumps: impl Iterator<Item = &'a Dump>) -> Memory {
    let mut sum = Memory::default();
    for dump in dumps {
        let one = of(dump);
        sum.live_python = sum.live_python.saturating_add(one.live_python);
        sum.live_native = sum.live_native.saturating_add(one.live_native);
        sum.live_unknown = sum.live_unknown.saturating_add(one.live_unknown);
        for (sum, one) in [
            (&mut sum.rss, one.rss),
            (&mut sum.peak_rss, one.peak_rss),
            (&mut sum.retained_pymalloc, one.retained_pymalloc),
            (&mut sum.retained_libc, one.retained_libc),
            (&mut sum.mapped, one.mapped),
            (&mut sum.shared, one.shared),
            (&mut sum.files, one.files),
            (&mut sum.thread_stacks, one.thread_stacks),
            (&mut sum.code, one.code),
            (&mut sum.shim, one.shim),
        ] {
            // What one process has no reading of remains in what is unexplained of it.
            *sum = match (*sum, one) {
                (Some(sum), Some(one)) => Some(sum.saturating_add(one)),
                (sum, one) => sum.or(one),
            };
        }
    }
    sum.unexplained = unexplained(&sum);
    sum
}

fn of(dump: &Dump) -> Memory {
    let counted = by_counters(dump);
    // A snapshot looked at every page; one that is old is of another time.
    let ends_ms = dump.final_ns.unwrap_or(dump.heartbeat_ns) / 1_000_000;
    let fresh = |heap: &&Heap| ends_ms.saturating_sub(heap.at_ms) <= (ends_ms / 20).max(2_000);
    match dump.heap.as_ref().filter(fresh).filter(|heap| !heap.memory.is_empty()) {
        Some(heap) => by_pages(&counted, heap),
        None => counted,
    }
}

/// The table of the snapshot, which adds up to what was resident then.
fn by_pages(counted: &Memory, heap: &Heap) -> Memory {
    let row = |kind: MemoryKind| {
        let rows = heap.memory.iter().filter(|row| row.kind == kind);
        rows.fold(0u64, |sum, row| sum.saturating_add(row.resident))
    };
    let some = |kind| Some(row(kind)).filter(|&bytes| bytes > 0);
    let all = heap.memory.iter().fold(0u64, |sum, row| sum.saturating_add(row.resident));
    Memory {
        rss: Some(all),
        peak_rss: counted.peak_rss.map(|peak| peak.max(all)),
        live_python: row(MemoryKind::Python),
        live_native: row(MemoryKind::Native),
        live_unknown: 0,
        retained_pymalloc: Some(row(MemoryKind::PymallocSlack)),
        retained_libc: Some(row(MemoryKind::LibcSlack)),
        mapped: Some(row(MemoryKind::Mapped)),
        shared: some(MemoryKind::Shared),
        thread_stacks: Some(row(MemoryKind::Stacks)),
        code: Some(row(MemoryKind::Code)),
        files: some(MemoryKind::Files),
        shim: Some(row(MemoryKind::Shim)),
        unexplained: None,
    }
}

fn by_counters(dump: &Dump) -> Memory {
    let gauge = |gauge| Some(dump.gauge(gauge)).filter(|&bytes| bytes != 0);
    let mut memory = Memory {
        rss: gauge(Gauge::Rss),
        peak_rss: gauge(Gauge::PeakRss),
        retained_libc: gauge(Gauge::LibcFree),
        mapped: gauge(Gauge::Mapped),
        thread_stacks: gauge(Gauge::Stacks),
        code: gauge(Gauge::Code),
        shim: gauge(Gauge::Shim),
        ..Memory::default()
    };
    let mut small = 0u64;
    for (id, site) in dump.sites.iter().enumerate() {
        let Amount { bytes, .. } = last(dump, id);
        let row = match site.stack.as_ref().map(|stack| stack.origin) {
            None => &mut memory.live_unknown,
            Some(Origin::Native) => &mut memory.live_native,
            Some(Origin::Raw | Origin::PythonLarge) => &mut memory.live_python,
            Some(Origin::PythonSmall) => {
                small = small.saturating_add(bytes);
                &mut memory.live_python
            }
            // Address space; what of it is resident has a reading of its own.
            Some(Origin::Mapping | Origin::SharedMemory) => continue,
        };
        *row = row.saturating_add(bytes);
    }
    memory.retained_pymalloc =
        gauge(Gauge::PymallocArenas).map(|arenas| arenas.saturating_sub(small));
    memory
}

fn unexplained(memory: &Memory) -> Option<i64> {
    let rows = [
        Some(memory.live_python),
        Some(memory.live_native),
        Some(memory.live_unknown),
        memory.retained_pymalloc,
        memory.retained_libc,
        memory.mapped,
        memory.shared,
        memory.files,
        memory.thread_stacks,
        memory.code,
        memory.shim,
    ];
    let explained = rows.into_iter().flatten().fold(0u64, u64::saturating_add);
    let rest = i128::from(memory.rss?) - i128::from(explained);
    Some(rest.clamp(i64::MIN.into(), i64::MAX.into()) as i64)
}

#[cfg(test)]
mod tests {
    use pyshim_dump::heap::MemoryRow;

    use super::*;
    use crate::testing::{Maker, leaky};

    #[test]
    fn the_rows_add_up_to_the_resident_set() {
        let dump = leaky().dump();
        let memory = memory([&dump].into_iter());
        assert_eq!(memory.live_native, 1_024_000);
        assert_eq!(memory.live_python, 272_000 + 4_000_000);
        assert_eq!(memory.retained_pymalloc, Some((1 << 20) - 192_000));
        let rows = memory.live_native
            + memory.live_python
            + memory.retained_pymalloc.unwrap()
            + memory.retained_libc.unwrap()
            + memory.mapped.unwrap()
            + memory.thread_stacks.unwrap()
            + memory.code.unwrap()
            + memory.shim.unwrap();
        let rss = memory.rss.unwrap() as i64;
        assert_eq!(rows as i64 + memory.unexplained.unwrap(), rss);
    }

    #[test]
    fn a_snapshot_has_the_table_of_its_pages() {
        let mut maker = leaky();
        let row = |kind, resident| MemoryRow { kind, resident, regions: 1 };
        maker.heap = Some(Heap {
            at_ms: 59_900,
            memory: vec![
                row(MemoryKind::Python, 4_000_000),
                row(MemoryKind::Native, 1_000_000),
                row(MemoryKind::Shared, 3_000),
                row(MemoryKind::Other, 77),
            ],
            ..Heap::default()
        });
        let found = memory([&maker.dump()].into_iter());
        assert_eq!(found.rss, Some(5_003_077));
        assert_eq!((found.live_python, found.shared, found.files), (4_000_000, Some(3_000), None));
        assert_eq!(found.unexplained, Some(77));
        maker.heap.as_mut().unwrap().at_ms = 10_000;
        let old = memory([&maker.dump()].into_iter());
        assert_eq!(old, memory([&leaky().dump()].into_iter()));
    }

    #[test]
    fn no_reading_is_no_row() {
        let memory = memory([&Maker::new().dump()].into_iter());
        assert_eq!(memory, Memory::default());
    }

    #[test]
    fn several_processes_add_up() {
        let one = leaky().dump();
        let both = memory([&one, &one].into_iter());
        assert_eq!(both.rss, Some(48 << 20));
        assert_eq!(both.unexplained, memory([&one].into_iter()).unexplained.map(|one| one * 2));
        let mut child = Maker::new();
        let child = child.gauge(Gauge::Rss, 1000).dump();
        let with_child = memory([&one, &child].into_iter());
        assert_eq!(with_child.rss, Some((24 << 20) + 1000));
        assert_eq!(with_child.code, Some(6 << 20));
    }
}
