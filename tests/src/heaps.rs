//! Programs that leave a heap snapshot, and reading it.

use std::path::Path;
use std::time::{Duration, Instant};

use pyshim_dump::Dump;
use pyshim_dump::heap::{Heap, State};

use crate::{Interpreter, Ran, Run, interpreters, long, on_every_interpreter, read};

/// The short set: an old, a middle and a new version, where there are any of them.
const SHORT: [u32; 3] = [8, 12, 15];

/// Runs `test` on every interpreter if the long set is to run, else on a few.
pub fn on_some_interpreters(test: impl Fn(&Interpreter) + std::panic::RefUnwindSafe) {
    let short = |one: &Interpreter| SHORT.contains(&one.minor);
    let any = interpreters().iter().any(short);
    on_every_interpreter(|interpreter| {
        if long() || !any || short(interpreter) {
            test(interpreter);
        }
    });
}

/// A program text to run with a snapshot at its end, however short it is.
pub fn program(interpreter: &Interpreter, text: &str) -> Run {
    let run = Run::new([interpreter.path.as_path(), "program.py".as_ref()]);
    std::fs::write(run.dir().join("program.py"), text).expect("the program is written");
    run.env("PYSHIM_SNAPSHOT", "exit")
}

/// The snapshot of the one dump there must be: the copy may still search when the program has ended.
pub fn heap(ran: &Ran) -> Heap {
    dump_with_heap(ran, ran.dump_path()).1
}

/// The same with one of several dumps, and that.
pub fn dump_with_heap(ran: &Ran, path: &Path) -> (Dump, Heap) {
    let began = Instant::now();
    loop {
        let mut dump = read(path);
        let state = dump.snapshots;
        assert_eq!(state.failed, 0, "{state:?}; {}", ran.stderr());
        if state.running.is_none()
            && let Some(heap) = dump.heap.take()
        {
            return (dump, heap);
        }
        assert!(began.elapsed() < Duration::from_secs(60), "no snapshot came: {state:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Blocks and bytes in a state.
pub fn in_state(heap: &Heap, state: State) -> (u64, u64) {
    let sites = heap.sites.iter().filter(|one| one.state == state);
    sites.fold((0, 0), |sum, one| (sum.0 + one.blocks, sum.1 + one.bytes))
}

/// Live objects of a type.
pub fn objects(heap: &Heap, type_name: &str) -> u64 {
    let fits = |one: &&pyshim_dump::heap::Type| heap.text(one.name) == type_name;
    heap.types.iter().filter(fits).map(|one| one.objects).sum()
}
