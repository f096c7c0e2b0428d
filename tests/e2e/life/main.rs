//! Processes that fork, exec, start threads and end in every way: they behave
//! as without the shim, and each that ran Python leaves a dump of its own.

mod ends;
mod files;
mod forks;
mod programs;
mod threads;

use pyshim_dump::Dump;
use pyshim_dump::layout::{EndKind, Lost};

/// A block of `bytes(1000)`, as `sys.getsizeof` has it.
const B1000: u64 = 1033;
const B2000: u64 = 2033;
const B3000: u64 = 3033;

fn ended(dump: &Dump) -> Option<(EndKind, i32)> {
    dump.end.map(|end| (end.kind, end.status))
}

fn ends(dumps: &[Dump]) -> Vec<Option<(EndKind, i32)>> {
    let mut ends: Vec<_> = dumps.iter().map(ended).collect();
    ends.sort_by_key(|end| end.map(|(kind, status)| (kind as u32, status)));
    ends
}

/// Site 0 is that of blocks without a site.
fn assert_all_defined(dump: &Dump) {
    let without: Vec<usize> =
        (1..dump.sites.len()).filter(|&id| dump.sites[id].stack.is_none()).collect();
    let lost = (dump.lost(Lost::Definitions), dump.lost(Lost::Growth), dump.lost(Lost::Blocks));
    assert!(
        without.is_empty(),
        "{} of {} sites have no definition; lost {lost:?}",
        without.len(),
        dump.sites.len()
    );
}

const EXITED: Option<(EndKind, i32)> = Some((EndKind::Exit, 0));
