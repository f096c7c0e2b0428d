//! The program as a child: signals that reach the reporter, and how it ends.

use std::fs;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::siginfo::{Cause, Origin};

const SIGNALS: [(i32, Signal); 6] = [
    (SIGINT, Signal::INT),
    (SIGTERM, Signal::TERM),
    (SIGHUP, Signal::HUP),
    (SIGQUIT, Signal::QUIT),
    (SIGUSR1, Signal::USR1),
    (SIGUSR2, Signal::USR2),
];

/// Runs `command` to its end; returns its exit status as a shell would.
pub fn run(mut command: Command) -> io::Result<u8> {
    // Handlers, as `exec` takes them away again: a signal set to be ignored would stay ignored in
    // the program. What was ignored before (`nohup`) the program must find ignored, too.
    let ignored = ignored();
    let caught = SIGNALS.iter().map(|it| it.0).filter(|signal| ignored >> (signal - 1) & 1 == 0);
    let mut signals = SignalsInfo::<WithOrigin>::new(caught)?;
    let handle = signals.handle();
    let started = command.spawn();
    let mut child = match started {
        Ok(child) => child,
        Err(error) => {
            handle.close();
            return Err(error);
        }
    };
    let pid = Pid::from_raw(child.id() as i32);
    let forward = thread::spawn(move || {
        for origin in &mut signals {
            let known = SIGNALS.iter().find(|it| it.0 == origin.signal).map(|it| it.1);
            if let (Some(signal), Some(pid), true) = (known, pid, is_ours_alone(&origin)) {
                // It may have ended a moment ago.
                let _ = kill_process(pid, signal);
            }
        }
    });
    let status = child.wait();
    handle.close();
    let _ = forward.join();
    status.map(code)
}

/// A key pressed at the terminal goes to the whole process group, the program included.
fn is_ours_alone(origin: &Origin) -> bool {
    origin.cause != Cause::Kernel
}

/// As a shell says it: 128 and the number of the signal.
fn code(status: ExitStatus) -> u8 {
    match (status.code(), status.signal()) {
        (Some(code), _) => code as u8,
        (None, Some(signal)) => (128 + signal) as u8,
        (None, None) => super::WRONG,
    }
}

/// The signals that this process ignores, from the lowest bit on.
fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
