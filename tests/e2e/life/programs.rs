//! Programs that run others, become others, or are started in their own way.

use std::process::{Command, Stdio};

use pyshim_dump::layout::EndKind;
use pyshim_tests::compare::{assert_made, compare, compare_with};
use pyshim_tests::{
    Interpreter, Run, compile, interpreters, library, on_every_interpreter, program, reporter,
};

use super::{B1000, B2000, EXITED, ended, ends};

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

/// The reporter sets the shim up, wherever that is, and prints the report of what it ran.
#[test]
fn the_reporter_runs_a_program() {
    let folder = tempfile::tempdir().expect("a folder");
    // `%p` means the process in a name, not here.
    let folder = folder.path().join("100%pure");
    std::fs::create_dir(&folder).expect("a folder in it");
    let python = &interpreters()[0];
    let output = Command::new(reporter())
        .args(["run", "--"])
        .arg(&python.path)
        .args(["-c", "kept = [bytes(1000) for _ in range(3000)]; print(len(kept))"])
        .current_dir(&folder)
        .env("PYSHIM_LIB", library())
        .output()
        .expect("the reporter runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(0), &b"3000\n"[..]), "{said}");
    assert!(said.contains("live before the interpreter's teardown: "), "{said}");
    let names: Vec<_> = std::fs::read_dir(&folder)
        .expect("the folder")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
        .collect();
    let [name] = &names[..] else { panic!("{names:?}") };
    assert!(name.starts_with("pyshim.") && name.ends_with(".dump"), "{name}");
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
