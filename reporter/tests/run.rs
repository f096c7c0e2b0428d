//! The verb `run`, on real processes. No shim is needed for what it promises beside the recording.

mod support;

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// A library that may be loaded before all others and does nothing by that.
fn harmless() -> PathBuf {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let libc = maps
        .split_ascii_whitespace()
        .find(|word| word.contains("/libc.so") || word.contains("/libc-"));
    PathBuf::from(libc.expect("a C library"))
}

fn reporter(folder: &Path) -> Command {
    // (What a shell has in the background ignores SIGINT, and a shell in it cannot undo that.)
    let mut command = Command::new("env");
    command.args(["--default-signal=INT,QUIT", env!("CARGO_BIN_EXE_reporter")]);
    command.current_dir(folder).env("PYSHIM_LIB", harmless());
    for name in ["LD_PRELOAD", "PYSHIM_OUT", "PYSHIM_SAMPLE", "PYSHIM_NATIVE", "PYSHIM_FOLLOW"] {
        command.env_remove(name);
    }
    command
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn shell(script: &str) -> Output {
    let folder = folder();
    reporter(folder.path()).args(["run", "--", "/bin/sh", "-c", script]).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn the_status_is_that_of_the_program() {
    for (script, status) in
        [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143), ("kill -KILL $$", 137)]
    {
        assert_eq!(shell(script).status.code(), Some(status), "{script}");
    }
}

#[test]
fn the_program_has_stdin_and_stdout_for_itself() {
    let folder = folder();
    fs::write(folder.path().join("in"), "hello\n").unwrap();
    let mut command = reporter(folder.path());
    command.stdin(fs::File::open(folder.path().join("in")).unwrap());
    let output = command.args(["run", "--", "cat"]).output().unwrap();
    assert_eq!(text(&output.stdout), "hello\n");
}

#[test]
fn signals_to_the_reporter_reach_the_program() {
    for signal in ["TERM", "HUP", "INT", "USR1"] {
        // (A signal that comes right before the shell's own `wait` would be heard after it.)
        let script = format!(
            "trap 'exit 9' {signal}; kill -{signal} $PPID; \
             for _ in $(seq 600); do sleep 0.1; done"
        );
        assert_eq!(shell(&script).status.code(), Some(9), "{signal}");
    }
}

#[test]
fn what_is_ignored_stays_ignored() {
    let folder = folder();
    let inner = "kill -HUP $$; echo lived";
    let outer =
        format!("trap '' HUP; exec {} run -- /bin/sh -c '{inner}'", env!("CARGO_BIN_EXE_reporter"));
    let mut command = Command::new("/bin/sh");
    command.current_dir(folder.path()).env("PYSHIM_LIB", harmless());
    let output = command.args(["-c", &outer]).output().unwrap();
    assert_eq!(text(&output.stdout), "lived\n");
}

#[test]
fn settings_reach_the_program() {
    let folder = folder();
    let options =
        ["--out", "x.%p.dump", "--sample", "512KiB", "--native", "full", "--follow", "all"];
    let output = reporter(folder.path())
        .env("LD_PRELOAD", harmless())
        .arg("run")
        .args(options)
        .args(["--", "env"])
        .output()
        .unwrap();
    let out = text(&output.stdout);
    let preload = format!("LD_PRELOAD={0}:{0}", harmless().display());
    let place = format!("PYSHIM_OUT={}/x.%p.dump", folder.path().canonicalize().unwrap().display());
    for line in
        [&preload, &place, "PYSHIM_SAMPLE=524288", "PYSHIM_NATIVE=full", "PYSHIM_FOLLOW=all"]
    {
        assert!(out.lines().any(|it| it == line), "{line}: {out}");
    }
}

#[test]
fn what_is_not_asked_for_is_not_set() {
    let folder = folder();
    let output = reporter(folder.path()).args(["run", "--", "env"]).output().unwrap();
    assert!(!text(&output.stdout).contains("PYSHIM_SAMPLE"));
}

#[test]
fn new_dumps_are_shown_and_old_ones_are_not() {
    let folder = folder();
    fs::write(folder.path().join("pyshim.1.dump"), "old").unwrap();
    fs::write(folder.path().join("made"), support::leaky().bytes()).unwrap();
    let script = "echo out; cp made pyshim.4242.dump";
    let output =
        reporter(folder.path()).args(["run", "--", "/bin/sh", "-c", script]).output().unwrap();
    assert_eq!(text(&output.stdout), "out\n");
    let said = text(&output.stderr);
    assert!(said.starts_with("\napp.py · CPython 3.11.7 · pid 4242"), "{said}");
    assert!(said.ends_with("kept: pyshim.4242.dump\n"), "{said}");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_dump_whose_name_was_taken_is_found() {
    let folder = folder();
    fs::write(folder.path().join("made"), support::leaky().bytes()).unwrap();
    // As the shim does when there is an `out.dump`.
    for name in ["out.dump", "out.dump.1", "out.dump.2"] {
        let script = format!("cp made {name}");
        let mut command = reporter(folder.path());
        command.args(["run", "--out", "out.dump", "--", "/bin/sh", "-c", &script]);
        let said = text(&command.output().unwrap().stderr);
        assert!(said.ends_with(&format!("\nkept: {name}\n")), "{said}");
    }
}

#[test]
fn nothing_that_a_terminal_obeys_is_said_of_what_was_kept() {
    let folder = folder();
    fs::write(folder.path().join("made"), support::leaky().bytes()).unwrap();
    let mut command = reporter(folder.path());
    command.args(["run", "--out", "\x1b[2J.dump", "--", "/bin/sh", "-c"]);
    let said = text(&command.arg("cp made \"$(printf '\\033[2J.dump')\"").output().unwrap().stderr);
    assert!(said.ends_with("\nkept: \u{fffd}[2J.dump\n"), "{said}");
}

#[test]
fn without_a_dump_it_is_said_how_to_learn_why() {
    let said = text(&shell("exit 0").stderr);
    assert!(said.contains("no dump was written") && said.lines().count() == 1, "{said}");
    assert!(said.contains("PYSHIM_LOG=stderr says why"), "{said}");
}

#[test]
fn a_dump_that_cannot_be_read_does_not_change_the_status() {
    let output = shell("echo x > pyshim.9.dump; exit 3");
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("pyshim.9.dump: not a pyshim dump"));
}

#[test]
fn no_summary_says_nothing() {
    let folder = folder();
    let output =
        reporter(folder.path()).args(["run", "--no-summary", "--", "true"]).output().unwrap();
    assert_eq!((text(&output.stdout), text(&output.stderr)), (String::new(), String::new()));
}

#[test]
fn what_cannot_start_is_one_line() {
    let folder = folder();
    fs::write(folder.path().join("plain"), "x").unwrap();
    let call = |command: &mut Command| {
        let output = command.output().unwrap();
        let said = text(&output.stderr);
        assert_eq!((output.status.code(), said.lines().count()), (Some(2), 1), "{said}");
        said
    };
    let run = |program: &str| call(reporter(folder.path()).args(["run", "--", program]));
    assert!(run("no-such-program-here").contains("command not found"));
    assert!(run("./plain").contains("may not be executed"));
    let place = call(reporter(folder.path()).args(["run", "--out", "none/%p", "--", "true"]));
    assert!(place.contains("its folder does not exist"), "{place}");
    let library =
        call(reporter(folder.path()).env("PYSHIM_LIB", "/nowhere").args(["run", "--", "true"]));
    assert!(library.contains("PYSHIM_LIB must name"), "{library}");
}

#[test]
fn the_library_is_found_beside_the_reporter() {
    let folder = folder();
    let bin = folder.path().join("bin");
    let lib = folder.path().join("lib/pyshim");
    fs::create_dir_all(&bin).unwrap();
    fs::create_dir_all(&lib).unwrap();
    // By a process of its own: a child that another test forks meanwhile would hold a copy of ours open,
    // and what is open for writing cannot be run.
    let mut copy = Command::new("cp");
    copy.arg(env!("CARGO_BIN_EXE_reporter")).arg(bin.join("reporter"));
    assert!(copy.status().unwrap().success());
    let run = || {
        let mut command = Command::new(bin.join("reporter"));
        command.arg0("reporter").env_remove("PYSHIM_LIB").env_remove("LD_PRELOAD");
        command.current_dir(folder.path()).args(["run", "--", "env"]).output().unwrap()
    };
    assert!(text(&run().stderr).contains("libpyshim.so: not found in"));
    fs::copy(harmless(), lib.join("libpyshim.so")).unwrap();
    let out = text(&run().stdout);
    let line = format!("LD_PRELOAD={}", lib.canonicalize().unwrap().join("libpyshim.so").display());
    assert!(out.contains(&line), "{out}");
}
