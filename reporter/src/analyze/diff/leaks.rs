//! What is leaked for good, by the heap snapshot.

use pyshim_dump::Mode;
use pyshim_dump::heap::{Group, Heap, State};

use crate::analyze::causes::Places;
use crate::analyze::names::Names;
use crate::analyze::report::Moment;
use crate::analyze::stacks::Stacks;
use crate::problem::Problem;
use crate::read::{Loaded, Run};
use crate::symbolize::Symbols;

use super::result::Place;
use super::sites;

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
pub fn leaks(run: &Run, symbols: &mut Symbols) -> Result<Vec<Leak>, Problem> {
    let heaps: Vec<&Heap> = run.dumps.iter().map(snapshot).collect::<Result<_, _>>()?;
    let mut stacks = Stacks::default();
    run.dumps.iter().for_each(|loaded| stacks.add(&loaded.dump, symbols, Moment::Last));
    let mut names = Names::default();
    let mut found = Vec::new();
    for (at, (loaded, heap)) in run.dumps.iter().zip(heaps).enumerate() {
        for group in &heap.groups {
            let Some(kind) = kind(heap, group) else { continue };
            let mut places = Places::new(&run.dumps, &mut stacks, &mut names, symbols);
            let site = places.site(at, group.site);
            let place = sites::place(site, &loaded.dump.process.directory, false);
            found.push(Leak { kind: kind.to_owned(), bytes: group.bytes, place });
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
    loaded.dump.heap.as_ref().ok_or_else(|| {
        problem("holds no heap snapshot, which alone can tell a leak; record it with PYSHIM_SNAPSHOT=exit and a version of pyshim that takes snapshots, or leave out --max-leak")
    })
}

/// The kind of a group that nothing will free. Rings that wait for the next collection are none.
fn kind(heap: &Heap, group: &Group) -> Option<&'static str> {
    match group.state {
        State::Leaked => Some("native-leak"),
        State::Miscounted => Some("reference-leak"),
        State::Cyclic => {
            let collected = heap.collector.as_ref().is_some_and(|it| it.enabled);
            (group.blocker != 0 || !collected).then_some("cycles")
        }
        _ => None,
    }
}
