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
