//! What `life/ends.py` made is in the dump whatever the end.

use std::os::unix::process::ExitStatusExt;

use pyshim_dump::layout::EndKind;
use pyshim_tests::compare::{assert_made, compare};
use pyshim_tests::{Run, on_every_interpreter};

use super::{B1000, ended};

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

/// What a report needs is in the file all the time: how it grew, how long it ran, how old what is.
#[test]
fn what_sigkill_ends_is_explained() {
    on_every_interpreter(|python| {
        let ran = Run::python(python, "life/killed_while_it_grows.py").shim();
        assert_eq!(ran.output.status.signal(), Some(libc::SIGKILL));
        let report = ran.summary();
        let what = format!("CPython {}: {}", python.version, report["verdict"]);
        assert_eq!(report["verdict"]["kind"], "python-held", "{what}");
        assert_eq!(report["verdict"]["growing"], true, "{what}");
        let number = |value: &serde_json::Value| value.as_f64().unwrap_or(0.0);
        // A tick that is late is not made up for: so it grew, whatever the machine had to do.
        let kept: f64 = ran.stdout().trim().parse().expect("a number");
        let (run_s, speed) = (
            number(&report["process"]["duration_s"]),
            number(&report["verdict"]["growth_bytes_per_second"]),
        );
        assert!(run_s > 3.0, "{what}: {run_s} s");
        let truth = kept * B1000 as f64 / 4.0;
        assert!((0.7..1.4).contains(&(speed / truth)), "{what}: {speed} instead of {truth}");
        let age = number(&report["survivors"][0]["age_s"]["max"]);
        assert!((2.0..=run_s + 0.5).contains(&age), "{what}: {age} s old, of {run_s}");
    });
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
