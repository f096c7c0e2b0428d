//! Whether the process of a dump still runs.

use std::fs::{self, File};
use std::io::Read;
use std::mem::offset_of;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pyshim_dump::Dump;
use pyshim_dump::layout::{EndKind, HEADER_LEN, Header};

/// What became of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It runs.
    Running,
    /// `exit`, or a return from `main`, with this status.
    Exited(i32),
    /// `_exit` with this status.
    QuickExited(i32),
    /// It became another program.
    Replaced,
    /// It ended without an exit: a signal, or the machine.
    Died,
}

/// A sign of life this young may still be one of a process that we cannot see.
const FRESH: Duration = Duration::from_secs(2);

/// The state of the process that writes, or wrote, the dump at `path`.
pub fn state(dump: &Dump, path: &Path) -> State {
    if let Some(end) = dump.end {
        return match end.kind {
            EndKind::Exit => State::Exited(end.status),
            EndKind::QuickExit => State::QuickExited(end.status),
            EndKind::Exec => State::Replaced,
            EndKind::None => State::Died,
        };
    }
    let visible = fs::read_to_string(format!("/proc/{}/stat", dump.pid))
        .ok()
        .and_then(|stat| parse_stat(&stat))
        .is_some_and(|stat| stat.ticks == dump.started_ticks && !stat.dead);
    if visible || (is_fresh(dump) && beats(path, dump.heartbeat_ns)) {
        State::Running
    } else {
        State::Died
    }
}

/// Of `/proc/PID/stat`.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    dead: bool,
    ticks: u64,
}

fn parse_stat(stat: &str) -> Option<Stat> {
    // The second field is the name in parentheses, and may hold any character.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let dead = matches!(fields.next()?, "Z" | "X" | "x");
    Some(Stat { dead, ticks: fields.nth(18)?.parse().ok()? })
}

fn is_fresh(dump: &Dump) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seen = Duration::from_nanos(dump.started_unix_ns.saturating_add(dump.heartbeat_ns));
    now.abs_diff(seen) < FRESH
}

/// The process may live in another container, where its id means nothing here. Its heart tells: a
/// process that was killed a moment ago has a young sign of life too, but no further one.
fn beats(path: &Path, last: u64) -> bool {
    for _ in 0..20 {
        match heartbeat(path) {
            Some(now) if now != last => return true,
            Some(_) => sleep(Duration::from_millis(50)),
            None => return false,
        }
    }
    false
}

fn heartbeat(path: &Path) -> Option<u64> {
    let mut header = [0; HEADER_LEN];
    File::open(path).ok()?.read_exact(&mut header).ok()?;
    let bytes = header.get(offset_of!(Header, heartbeat_ns)..)?.first_chunk::<8>()?;
    Some(u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        let fields = "R 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 777 0 0";
        let stat = parse_stat(&format!("42 (a) b (c) {fields}")).unwrap();
        assert_eq!(stat, Stat { dead: false, ticks: 777 });
        assert!(parse_stat(&format!("42 (x) {}", fields.replace('R', "Z"))).unwrap().dead);
        assert_eq!(parse_stat("42 (x) R 1"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn our_own_stat_reads() {
        let stat = fs::read_to_string("/proc/self/stat").unwrap();
        assert!(!parse_stat(&stat).unwrap().dead);
    }
}
