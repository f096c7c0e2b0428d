//! Forked children and pools of them.

use std::os::unix::process::ExitStatusExt;

use pyshim_dump::Amount;
use pyshim_dump::layout::EndKind;
use pyshim_tests::compare::{assert_made, compare, ever_made_by, finish, made_by};
use pyshim_tests::{Interpreter, Run, compile, on_every_interpreter, program};

use super::{B1000, B2000, B3000, EXITED, assert_all_defined, ended, ends};

#[test]
fn a_forked_child_has_a_dump_of_its_own() {
    on_every_interpreter(|python| {
        let ran = compare(|| Run::python(python, "life/fork.py"));
        let (parent, children) = ran.parent_and_children();
        let [child] = &children[..] else { panic!("{:?}", ran.dumps) };
        assert_eq!((parent.forked, child.forked), (false, true));

        assert_made(&parent, "life/fork.py", "of_parent", 2500, B1000);
        assert_eq!(ever_made_by(&parent, "of_child"), Amount::default());
        assert_eq!(parent.inherited_freed, Amount::default());

        assert_made(child, "life/fork.py", "of_child", 1000, B3000);
        assert_eq!(ever_made_by(child, "of_parent"), Amount::default());
        let freed = child.inherited_freed;
        assert!(freed.blocks >= 1500 && freed.bytes >= 1500 * B1000, "{freed:?}");
        assert_eq!((ended(&parent), ended(child)), (EXITED, Some((EndKind::Exit, 4))));
    });
}

#[test]
fn a_child_forks_again() {
    on_every_interpreter(|python| {
        let ran = compare(|| Run::python(python, "life/fork_fork.py"));
        let dumps = ran.all_dumps();
        assert_eq!(dumps.len(), 3, "{:?}", ran.dumps);
        for (name, size, end) in [
            ("of_first", B1000, (EndKind::Exit, 0)),
            ("of_second", B2000, (EndKind::Exit, 8)),
            ("of_third", B3000, (EndKind::QuickExit, 9)),
        ] {
            let own = dumps.iter().find(|dump| !made_by(dump, name).is_empty()).expect("its dump");
            assert_made(own, "life/fork_fork.py", name, 1000, size);
            let others = dumps.iter().filter(|dump| dump.pid != own.pid);
            let leaked: u64 = others.map(|dump| ever_made_by(dump, name).blocks).sum();
            assert_eq!(leaked, 0, "{name} in another process's dump");
            assert_eq!(ended(own), Some(end), "{name}");
        }
    });
}

fn pool(python: &Interpreter, method: &str, processes: usize) {
    let ran = compare(|| Run::python(python, "life/pool.py").arg(method));
    let dumps = ran.all_dumps();
    assert_eq!(dumps.len(), processes, "{:?}", ran.dumps);
    for dump in &dumps {
        let argv = &dump.process.argv;
        assert!(ended(dump).is_some_and(|end| end.1 == 0), "{argv:?}: {:?}", dump.end);
    }
    let worked: u64 =
        dumps.iter().map(|dump| ever_made_by(dump, "work.<locals>.<genexpr>").blocks).sum();
    let named: u64 = dumps.iter().map(|dump| ever_made_by(dump, "<genexpr>").blocks).sum();
    assert!(worked + named >= 39 * 200, "work was seen: {worked} {named}");
}

#[test]
fn a_pool_of_forked_processes() {
    on_every_interpreter(|python| pool(python, "fork", 4));
}

#[test]
fn a_pool_of_spawned_processes() {
    // With the resource tracker.
    on_every_interpreter(|python| pool(python, "spawn", 5));
}

#[test]
fn a_pool_of_processes_from_a_forkserver() {
    on_every_interpreter(|python| pool(python, "forkserver", 6));
}

/// The child's peak is its own.
#[test]
fn a_child_has_a_peak_of_its_own() {
    on_every_interpreter(|python| {
        let ran = compare(|| Run::python(python, "life/child_in_waves.py"));
        let (parent, children) = ran.parent_and_children();
        let [child] = &children[..] else { panic!("{:?}", ran.dumps) };
        assert!(parent.peak_seen > 40_000_000, "{}", parent.peak_seen);
        assert!((15_000_000..17_000_000).contains(&child.peak_seen), "{}", child.peak_seen);
        let noted = child.sites.iter().map(|site| site.peak.bytes).sum::<u64>();
        assert!(noted.abs_diff(child.peak_seen) < child.peak_seen / 20, "{noted}");
    });
}

/// Whatever the process was at when the signal came, its dump is whole.
#[test]
fn pools_that_are_ended() {
    on_every_interpreter(|python| {
        let run = Run::python(python, "life/ended_pools.py");
        let output = finish(run.shimmed());
        let ran = run.ran(output).success();
        assert_eq!(ran.stdout(), "1770\n".repeat(5));
        // (One that was ended before it had begun left none.)
        assert!((6..=16).contains(&ran.all_dumps().len()), "{:?}", ran.dumps);
    });
}

/// What is freed after the interpreter's end is counted as well as all else.
#[test]
fn what_goes_after_the_end_is_counted() {
    on_every_interpreter(|python| {
        let run = Run::new([&python.path.to_string_lossy(), "-c", "import hashlib, decimal, ssl"]);
        let dump = run.shim().success().dump();
        assert!(!dump.inexact, "{:?}", dump.notes);
    });
}

/// What is defined after a fork reaches the dump, although only Python's allocators, which are not
/// recorded, are busy.
#[test]
fn the_collector_comes_back_where_python_is_not_recorded() {
    on_every_interpreter(|python| {
        let run = Run::python(python, "life/fork_then_killed.py").env("PYSHIM_PYTHON", "0");
        let output = finish(run.shimmed());
        let ran = run.ran(output);
        assert_eq!(ran.output.status.signal(), Some(libc::SIGKILL), "{}", ran.stderr());
        assert_all_defined(&ran.parent_and_children().0);
    });
}

#[test]
fn the_collector_comes_back_in_programs_without_python() {
    let made = compile("fork_then_killed.c", &[]);
    let run = Run::new([made.to_str().expect("UTF-8")]).env("PYSHIM_FOLLOW", "all");
    let output = finish(run.shimmed());
    let ran = run.ran(output);
    assert_eq!(ran.output.status.signal(), Some(libc::SIGKILL), "{}", ran.stdout());
    let (parent, children) = ran.parent_and_children();
    let [child] = &children[..] else { panic!("{:?}", ran.dumps) };
    for (dump, size) in [(&parent, 1003), (child, 1001)] {
        assert_all_defined(dump);
        let one = Amount { blocks: 1, bytes: size };
        assert!(dump.sites.iter().any(|site| site.totals.live() == one), "{size}");
    }
}

#[test]
fn a_prefork_server_serves() {
    on_every_interpreter(|python| {
        let ran = compare(|| Run::python(python, "life/prefork.py"));
        let (parent, children) = ran.parent_and_children();
        assert_eq!(ended(&parent), EXITED);
        // A worker that served nothing allocated something all the same.
        assert_eq!(ends(&children), [EXITED, EXITED, EXITED]);
        let kept = children.iter().flat_map(|child| made_by(child, "remember").into_values());
        let kept = kept.fold(Amount::default(), |sum, one| sum + one);
        assert_eq!(kept, Amount { blocks: 150, bytes: 150 * 5033 });
        assert_eq!(made_by(&parent, "remember").len(), 0);
    });
}

#[test]
fn a_fork_is_one_of_a_single_thread() {
    on_every_interpreter(|python| {
        let file = program("life/warnings_are_errors.py");
        let file = file.to_str().expect("UTF-8");
        let path = python.path.to_str().expect("UTF-8");
        let ran = compare(|| Run::new([path, "-W", "error", file]));
        assert_eq!(ran.output.status.code(), Some(0), "{}", ran.stderr());
        assert_eq!(ran.dumps.len(), 13);
    });
}
