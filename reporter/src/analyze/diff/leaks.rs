//! What is leaked for good, by the heap snapshot.

use std::collections::BTreeSet;

use pyshim_dump::Mode;
use pyshim_dump::heap::{Group, Heap, NO_ROOM, State};

use crate::analyze::causes::{Places, takes_rings};
use crate::analyze::names::Names;
use crate::analyze::report::Moment;
use crate::analyze::stacks::Stacks;
use crate::problem::Problem;
use crate::read::{Loaded, Run};
use crate::symbolize::Symbols;

use super::result::Place;
use super::sites;

/// What nothing will ever free.
#[derive(Clone, Debug, Default)]
pub struct Leaks {
    /// All of its bytes.
    pub bytes: u64,
    /// The largest of it, with a place to each.
    pub list: Vec<Leak>,
    /// What the searches have to say, each once.
    pub notes: BTreeSet<String>,
}

/// Bytes of one explanation that nothing will ever free.
#[derive(Clone, Debug)]
pub struct Leak {
    /// The kind of cause: `native-leak`, `reference-leak`, `cycles`.
    pub kind: String,
    /// Its bytes.
    pub bytes: u64,
    /// Where they were allocated.
    pub place: Place,
}

/// The leaks of a run; a problem where one of its dumps cannot tell.
pub fn leaks(run: &Run, symbols: &mut Symbols) -> Result<Leaks, Problem> {
    let heaps: Vec<&Heap> = run.dumps.iter().map(snapshot).collect::<Result<_, _>>()?;
    let mut stacks = Stacks::default();
    run.dumps.iter().for_each(|loaded| stacks.add(&loaded.dump, symbols, Moment::Last));
    let mut names = Names::default();
    let mut found = Leaks::default();
    for (at, (loaded, heap)) in run.dumps.iter().zip(heaps).enumerate() {
        found.bytes = found.bytes.saturating_add(bytes(heap));
        found.notes.extend(heap.search.notes.iter().cloned());
        for group in &heap.groups {
            let Some(kind) = kind(heap, group) else { continue };
            let mut places = Places::new(&run.dumps, &mut stacks, &mut names, symbols);
            let site = places.site(at, group.site);
            let place = sites::place(site, &loaded.dump.process.directory, false);
            found.list.push(Leak { kind: kind.to_owned(), bytes: group.bytes, place });
        }
    }
    Ok(found)
}

/// The heap snapshot of a process, which alone can tell a leak, if it knows every block.
fn snapshot(loaded: &Loaded) -> Result<&Heap, Problem> {
    let problem = |what: &str| Problem::new(loaded.path.display(), what);
    if let Mode::Sampled(_) = loaded.dump.mode {
        let what = "is sampled: a leaked block that was not drawn is not in its snapshot; record it with PYSHIM_SAMPLE=exact, or leave out --max-leak";
        return Err(problem(what));
    }
    if let Some(note) = loaded.notes.first() {
        return Err(problem(&format!(
            "{note}; without it no leak can be told, leave out --max-leak"
        )));
    }
    let Some(heap) = &loaded.dump.heap else {
        let what = "holds no heap snapshot, which alone can tell a leak; record it with PYSHIM_SNAPSHOT=exit and a version of pyshim that takes snapshots, or leave out --max-leak";
        return Err(problem(what));
    };
    let last = &loaded.dump.snapshots;
    if last.failed > 0 && last.began_ns / 1_000_000 > heap.at_ms {
        let what = "holds an older heap snapshot, the last one came to nothing: what leaked since cannot be told; leave out --max-leak";
        return Err(problem(what));
    }
    if heap.search.notes.iter().any(|note| note == NO_ROOM) {
        let what = "had no room in its snapshot for everything that was found, and leaks may be what was left out; leave out --max-leak";
        return Err(problem(what));
    }
    Ok(heap)
}

/// What nothing will free: by sites, all of which are there; of groups there are the largest alone.
fn bytes(heap: &Heap) -> u64 {
    let all = !takes_rings(heap);
    let sites = heap.sites.iter().filter(|site| match site.state {
        State::Leaked | State::Miscounted => true,
        State::Cyclic => all,
        _ => false,
    });
    // Which rings are kept by a type, only groups know.
    let kept = heap.groups.iter().filter(|it| !all && it.state == State::Cyclic && it.blocker != 0);
    let bytes = sites.map(|site| site.bytes).chain(kept.map(|group| group.bytes));
    bytes.fold(0, u64::saturating_add)
}

/// The kind of a group that nothing will free. Rings that wait for the next collection are none.
fn kind(heap: &Heap, group: &Group) -> Option<&'static str> {
    match group.state {
        State::Leaked => Some("native-leak"),
        State::Miscounted => Some("reference-leak"),
        State::Cyclic => (group.blocker != 0 || !takes_rings(heap)).then_some("cycles"),
        _ => None,
    }
}
