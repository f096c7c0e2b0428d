//! Where the resident memory is.

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
