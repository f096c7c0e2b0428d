//! Processes that fork, exec, start threads and end in every way: they behave
//! as without the shim, and each that ran Python leaves a dump of its own.

use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

use pyshim_dump::layout::{EndKind, Lost};
use pyshim_dump::{Amount, Dump};
use pyshim_tests::compare::{assert_made, compare, compare_with, ever_made_by, finish, made_by};
use pyshim_tests::{Interpreter, Run, compile, on_every_interpreter, program};

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

fn children(python: &Interpreter) -> Run {
    let fixed = compile("static.c", &["-static"]);
    Run::python(python, "life/children.py").arg(fixed.to_str().expect("UTF-8"))
}

#[test]
fn child_programs_leave_a_dump_if_they_run_python() {
    on_every_interpreter(|python| {
        let ran = compare(|| children(python));
        let dumps = ran.all_dumps();
        let argv: Vec<_> = dumps.iter().map(|dump| dump.process.argv.join(" ")).collect();
        assert_eq!(dumps.len(), 4, "{argv:#?}");
        let exited = |status| Some((EndKind::Exit, status));
        assert_eq!(ends(&dumps), [EXITED, EXITED, exited(6), exited(6)]);
    });
}

#[test]
fn children_are_followed_as_told() {
    on_every_interpreter(|python| {
        let ran = compare(|| children(python).env("PYSHIM_FOLLOW", "none"));
        ran.dump();
        let ran = compare(|| children(python).env("PYSHIM_FOLLOW", "all"));
        // Those of before, and sh (three times, of system and of popen too), true, echo.
        let programs: Vec<_> =
            ran.all_dumps().iter().map(|dump| dump.process.executable.clone()).collect();
        let shells = programs.iter().filter(|path| path.ends_with("sh")).count();
        assert!(programs.len() >= 10 && shells >= 3, "{programs:#?}");
    });
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
fn two_thousand_threads_come_and_go() {
    on_every_interpreter(|python| {
        let ran = compare(|| Run::python(python, "life/threads.py"));
        assert_eq!(ended(&ran.dump()), EXITED);
        assert_made(&ran.dump(), "life/threads.py", "keep", 2000, B1000);
    });
}

#[test]
fn daemon_threads_allocate_to_the_end() {
    on_every_interpreter(|python| {
        // 3.10 alone crashes now and then by itself; it must not more often.
        for _ in 0..if python.minor == 10 { 12 } else { 4 } {
            let ran = Run::python(python, "life/daemons.py").shim();
            assert_eq!((ran.output.status.code(), &*ran.stdout()), (Some(0), "main ends\n"));
            assert_eq!(ran.stderr(), "");
            assert_eq!(ended(&ran.dump()), EXITED);
        }
    });
}

/// What `life/ends.py` made is in the dump whatever the end.
fn ends_with(way: &str, end: Option<(EndKind, i32)>, signal: Option<i32>) {
    on_every_interpreter(|python| {
        let ran = compare(|| Run::python(python, "life/ends.py").arg(way));
        assert_eq!(ran.output.status.signal(), signal);
        let dump = ran.dump();
        assert_made(&dump, "life/ends.py", "keep", 3000, B1000);
        assert_eq!(ended(&dump), end, "{way}");
    });
}

#[test]
fn os_exit_is_noted() {
    ends_with("_exit", Some((EndKind::QuickExit, 7)), None);
}

#[test]
fn sys_exit_is_noted() {
    ends_with("exit", Some((EndKind::Exit, 3)), None);
    ends_with("message", Some((EndKind::Exit, 1)), None);
}

#[test]
fn an_uncaught_exception_is_noted() {
    ends_with("raise", Some((EndKind::Exit, 1)), None);
}

#[test]
fn a_handled_signal_is_an_exit() {
    ends_with("handler", Some((EndKind::Exit, 5)), None);
}

#[test]
fn what_sigterm_ends_is_complete() {
    ends_with("SIGTERM", None, Some(libc::SIGTERM));
}

#[test]
fn what_sigkill_ends_is_complete() {
    ends_with("SIGKILL", None, Some(libc::SIGKILL));
}

#[test]
fn what_crashes_is_complete() {
    ends_with("SIGSEGV", None, Some(libc::SIGSEGV));
    ends_with("fault", None, Some(libc::SIGSEGV));
}

#[test]
fn what_aborts_is_complete() {
    ends_with("abort", None, Some(libc::SIGABRT));
}

#[test]
fn an_interrupt_is_as_ever() {
    on_every_interpreter(|python| {
        let ran = compare(|| Run::python(python, "life/ends.py").arg("SIGINT"));
        // The interpreter finalizes, then ends itself by the signal.
        assert_eq!(ran.output.status.signal(), Some(libc::SIGINT));
        assert_made(&ran.dump(), "life/ends.py", "keep", 3000, B1000);
    });
}

#[test]
fn exec_ends_one_dump_and_begins_another() {
    on_every_interpreter(|python| {
        let ran = compare(|| Run::python(python, "life/exec.py").arg("python"));
        let dumps = ran.all_dumps();
        assert_eq!(ends(&dumps), [EXITED, Some((EndKind::Exec, 0))], "{:?}", ran.dumps);
        assert_eq!(dumps[0].pid, dumps[1].pid);
        for dump in &dumps {
            assert_made(dump, "life/exec.py", "keep", 3000, B1000);
        }
        for other in ["true", "path"] {
            let ran = compare(|| Run::python(python, "life/exec.py").arg(other));
            assert_eq!(ended(&ran.dump()), Some((EndKind::Exec, 0)));
            assert_made(&ran.dump(), "life/exec.py", "keep", 3000, B1000);
        }
    });
}

#[test]
fn a_failed_exec_changes_nothing() {
    on_every_interpreter(|python| {
        let ran = compare(|| Run::python(python, "life/exec.py").arg("fails"));
        assert_eq!(ended(&ran.dump()), EXITED);
        assert_made(&ran.dump(), "life/exec.py", "keep", 3000, B1000);
        assert_made(&ran.dump(), "life/exec.py", "keep_after", 2000, B2000);
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

#[test]
fn a_program_is_a_file_an_argument_a_module_or_standard_input() {
    on_every_interpreter(|python| {
        let path = python.path.to_str().expect("UTF-8");
        let file = program("life/hello.py");
        let text = std::fs::read_to_string(&file).expect("the program's source");
        let folder = file.parent().and_then(|dir| dir.to_str()).expect("UTF-8");

        let ran = compare(|| Run::new([path, "-c", &text, "argument"]));
        assert_made(&ran.dump(), "life/hello.py", "keep", 3000, B1000);
        let ran = compare(|| Run::new([path, "-m", "hello"]).env("PYTHONPATH", folder));
        assert_made(&ran.dump(), "life/hello.py", "keep", 3000, B1000);
        let ran = compare_with(
            || Run::new([path, "-"]),
            |command| {
                let input = std::fs::File::open(&file).expect("the program's source");
                command.stdin(Stdio::from(input));
            },
        );
        assert_made(&ran.dump(), "life/hello.py", "keep", 3000, B1000);
    });
}

#[test]
fn setuid_programs_run() {
    on_every_interpreter(|python| {
        let ran = compare(|| Run::python(python, "life/setuid.py").arg("root"));
        // On a busy machine a child may live long enough before its `exec` to have a dump.
        let (parent, _) = ran.parent_and_children();
        assert_eq!(ended(&parent), EXITED);
    });
}

#[test]
fn setuid_programs_run_for_a_child_that_gave_up_its_rights() {
    on_every_interpreter(|python| {
        let ran = compare(|| Run::python(python, "life/setuid.py").arg("nobody"));
        // On a busy machine a child may live long enough before its `exec` to have a dump.
        let (parent, _) = ran.parent_and_children();
        assert_eq!(ended(&parent), EXITED);
    });
}

#[test]
fn the_programs_descriptors_are_its_own() {
    on_every_interpreter(|python| {
        let ran = compare(|| Run::python(python, "life/descriptors.py"));
        assert!(ran.stdout().ends_with("intact\n"), "{}", ran.stdout());
        let dump = ran.dump();
        assert_eq!(ended(&dump), EXITED);
        assert!(dump.sites.len() > 9000, "{} sites", dump.sites.len());
        assert_all_defined(&dump);
    });
}

#[test]
fn a_relative_path_is_one_from_the_start() {
    on_every_interpreter(|python| {
        let ran = compare(|| {
            let run = Run::python(python, "life/chdir.py");
            std::fs::create_dir(run.dir().join("folder")).expect("a folder");
            run.env("PYSHIM_OUT", "folder/%e.%p.%%")
        });
        let folder = std::fs::read_dir(ran.dir().join("folder")).expect("the folder");
        let files: Vec<_> = folder.map(|entry| entry.expect("an entry").path()).collect();
        let [file] = &files[..] else { panic!("{files:?}") };
        let dump = pyshim_tests::read(file);
        let name = file.file_name().and_then(|name| name.to_str()).expect("UTF-8");
        assert!(
            name.starts_with("python") && name.ends_with(&format!(".{}.%", dump.pid)),
            "{name}"
        );
        assert_eq!(ended(&dump), EXITED);
        assert_made(&dump, "life/chdir.py", "keep", 3000, B1000);
        assert_all_defined(&dump);
    });
}

#[test]
fn a_childs_relative_path_is_one_from_the_start_too() {
    on_every_interpreter(|python| {
        let ran = compare(|| {
            let run = Run::python(python, "life/chdir_fork.py");
            std::fs::create_dir(run.dir().join("folder")).expect("a folder");
            run.env("PYSHIM_OUT", "folder/%p.dump")
        });
        assert!(ran.dumps.is_empty(), "{:?}", ran.dumps);
        let folder = std::fs::read_dir(ran.dir().join("folder")).expect("the folder");
        let read = |entry: std::io::Result<std::fs::DirEntry>| entry.expect("an entry").path();
        let dumps: Vec<Dump> = folder.map(|entry| pyshim_tests::read(&read(entry))).collect();
        assert_eq!(dumps.len(), 2);
        for dump in &dumps {
            let name = if dump.forked { "of_child" } else { "of_parent" };
            assert_made(dump, "life/chdir_fork.py", name, 1000, B1000);
        }
    });
}

#[test]
fn a_dump_never_overwrites() {
    on_every_interpreter(|python| {
        let run = Run::python(python, "life/hello.py").env("PYSHIM_OUT", "one.dump");
        std::fs::write(run.dir().join("one.dump"), "not yours").expect("a file");
        std::os::unix::fs::symlink("elsewhere", run.dir().join("one.dump.1")).expect("a link");
        let output = finish(run.shimmed());
        let ran = run.ran(output).success();
        assert_eq!(std::fs::read(ran.dir().join("one.dump")).expect("a file"), b"not yours");
        assert!(!ran.dir().join("elsewhere").exists());
        let dump = pyshim_tests::read(&ran.dir().join("one.dump.2"));
        assert_made(&dump, "life/hello.py", "keep", 3000, B1000);
        use std::os::unix::fs::PermissionsExt;
        let file = std::fs::metadata(ran.dir().join("one.dump.2")).expect("the dump");
        assert_eq!(file.permissions().mode() & 0o777, 0o600);
    });
}
