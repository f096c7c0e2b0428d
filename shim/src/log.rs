//! Messages: to where `PYSHIM_LOG` says, or to a terminal. Never to stdout, and
//! never into a file that the program's own stderr was sent to.

use crate::spin::SpinLock;
use crate::sys;

/// Where messages go.
static TARGET: SpinLock<Target> = SpinLock::new(Target::Terminal);

enum Target {
    Terminal,
    Stderr,
    File(Vec<u8>),
}

/// Sets the target from the value of `PYSHIM_LOG`.
pub fn set(value: Option<&[u8]>) {
    let target = match value {
        None => Target::Terminal,
        Some(word) if is_word(word) => Target::Stderr,
        Some(path) => {
            let mut path = path.to_vec();
            path.push(0);
            Target::File(path)
        }
    };
    *TARGET.lock() = target;
}

/// Whether a value of `PYSHIM_LOG` is no path.
pub fn is_word(value: &[u8]) -> bool {
    matches!(value, b"1" | b"stderr")
}

/// Says something that the user of the shim should know.
#[cold]
pub fn say(message: &str) {
    let line = format!("pyshim[{}]: {message}\n", sys::pid());
    match &*TARGET.lock() {
        Target::Terminal => {
            if sys::is_terminal(2) {
                sys::write(2, line.as_bytes());
            }
        }
        Target::Stderr => sys::write(2, line.as_bytes()),
        Target::File(path) => {
            let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_APPEND;
            if let Ok(fd) = sys::open(path, flags, 0o600) {
                sys::write(fd, line.as_bytes());
                sys::close(fd);
            }
        }
    }
}

/// Says that a setting is wrong: on stderr, whatever the target.
pub fn complain(name: &str, value: &str, wanted: &str) {
    let line =
        format!("pyshim: {name}={value} is not understood (wanted: {wanted}); the default holds\n");
    sys::write(2, line.as_bytes());
}

/// In a forked child: the lock may have been held by a thread that is not there.
pub fn hold() {
    TARGET.hold();
}

/// After the fork, on both sides.
pub fn release() {
    TARGET.release();
}
