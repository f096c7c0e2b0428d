//! Many threads, and threads that outlive the interpreter.

use pyshim_tests::compare::{assert_made, compare};
use pyshim_tests::{Run, on_every_interpreter};

use super::{B1000, EXITED, ended};

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
