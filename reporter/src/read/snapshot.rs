//! A heap snapshot that is being taken: waiting for it, and asking for one.

use std::fs::{File, OpenOptions};
use std::io;
use std::mem::offset_of;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use pyshim_dump::layout::{Beside, Header, MARK_LEN, SnapshotState};

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(20);
/// What a copy has to finish in that is not there yet, or no more.
const GRACE: Duration = Duration::from_millis(300);
/// A snapshot that takes longer than this is not waited for.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The part of the header that others than the process write.
pub struct Board {
    file: File,
}

/// What stands there about snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// A copy of the process searches.
    pub running: bool,
    /// That copy.
    pub pid: u32,
    /// Snapshots that were finished.
    pub taken: u32,
    /// Snapshots that came to nothing.
    pub failed: u32,
    /// Why the last one of these did.
    pub failure: u32,
    /// The last request.
    pub asked: u32,
    /// The last request that was answered.
    pub answered: u32,
}

impl Board {
    /// Of the dump at `path`; to write on it, `ask`.
    pub fn open(path: &Path, ask: bool) -> io::Result<Board> {
        Ok(Board { file: OpenOptions::new().read(true).write(ask).open(path)? })
    }

    fn get(&self, field: usize) -> io::Result<u32> {
        let mut word = [0; 4];
        self.file.read_exact_at(&mut word, at(field))?;
        Ok(u32::from_le_bytes(word))
    }

    fn raise(&self, field: usize) -> io::Result<u32> {
        let next = self.get(field)?.wrapping_add(1);
        self.file.write_all_at(&next.to_le_bytes(), at(field))?;
        Ok(next)
    }

    /// What stands there now.
    pub fn standing(&self) -> io::Result<Standing> {
        // First: whoever answers has written the others before.
        let answered = self.get(offset_of!(Beside, answered))?;
        Ok(Standing {
            running: self.get(offset_of!(Beside, state))? == SnapshotState::Running as u32,
            pid: self.get(offset_of!(Beside, pid))?,
            taken: self.get(offset_of!(Beside, taken))?,
            failed: self.get(offset_of!(Beside, failed))?,
            failure: self.get(offset_of!(Beside, failure))?,
            asked: self.get(offset_of!(Beside, asked))?,
            answered,
        })
    }

    /// Asks for a snapshot; returns the number of the request.
    pub fn ask(&self) -> io::Result<u32> {
        self.raise(offset_of!(Beside, asked))
    }

    /// Names this moment; returns the number of the request. The label must fit.
    pub fn mark(&self, label: &str) -> io::Result<u32> {
        let bytes = label.as_bytes();
        let len = bytes.len().min(MARK_LEN) as u32;
        self.file.write_all_at(
            bytes.get(..len as usize).unwrap_or(bytes),
            at(offset_of!(Beside, mark)),
        )?;
        self.file.write_all_at(&len.to_le_bytes(), at(offset_of!(Beside, mark_len)))?;
        // Last: from now on the label is read.
        self.raise(offset_of!(Beside, marked))
    }

    /// Whether the label with this number was taken up.
    pub fn noted(&self, number: u32) -> io::Result<bool> {
        Ok(reached(self.get(offset_of!(Beside, noted))?, number))
    }
}

/// Whether a counter that may have wrapped has come to `number`.
pub fn reached(counter: u32, number: u32) -> bool {
    counter.wrapping_sub(number) as i32 >= 0
}

fn at(field: usize) -> u64 {
    (offset_of!(Header, beside) + field) as u64
}

/// Waits for the snapshot that a copy of the process is taking. Says why it is not there, if so.
pub fn wait(path: &Path, patience: Duration) -> Option<String> {
    let began = Instant::now();
    let board = Board::open(path, false).ok()?;
    let mut alive = began;
    loop {
        let standing = board.standing().ok()?;
        if !standing.running {
            return None;
        }
        if lives(standing.pid) {
            alive = Instant::now();
        } else if alive.elapsed() >= GRACE {
            return Some("the copy of the process that searched the heap ended before it had finished; the snapshot is missing or an older one".to_owned());
        }
        if began.elapsed() >= patience {
            return Some(format!(
                "the heap snapshot had not come after {} s; ask again later",
                patience.as_secs()
            ));
        }
        sleep(PAUSE);
    }
}

/// Whether a process is there, and no zombie.
pub fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_ascii_whitespace().next());
    state.is_some_and(|state| !matches!(state, "Z" | "X" | "x"))
}

/// Waits until `done` says so; `false` if that took longer than `patience`.
pub fn until(patience: Duration, mut done: impl FnMut() -> io::Result<bool>) -> io::Result<bool> {
    let began = Instant::now();
    while !done()? {
        if began.elapsed() >= patience {
            return Ok(false);
        }
        sleep(PAUSE);
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Maker;

    fn written() -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.dump");
        std::fs::write(&path, Maker::new().bytes()).unwrap();
        (folder, path)
    }

    fn set(path: &Path, field: usize, value: u32) {
        let file = OpenOptions::new().write(true).open(path).unwrap();
        file.write_all_at(&value.to_le_bytes(), at(field)).unwrap();
    }

    #[test]
    fn a_request_raises_its_counter() {
        let (_folder, path) = written();
        let board = Board::open(&path, true).unwrap();
        assert_eq!((board.ask().unwrap(), board.ask().unwrap()), (1, 2));
        assert_eq!(board.standing().unwrap().asked, 2);
        let number = board.mark("after warm-up").unwrap();
        assert!(!board.noted(number).unwrap());
        set(&path, offset_of!(Beside, noted), 1);
        assert!(board.noted(number).unwrap());
        let bytes = std::fs::read(&path).unwrap();
        let label = at(offset_of!(Beside, mark)) as usize;
        assert_eq!(&bytes[label..label + 13], b"after warm-up");
        assert!(reached(0, u32::MAX) && !reached(u32::MAX, 0));
    }

    #[test]
    fn only_a_copy_that_lives_is_waited_for() {
        let (_folder, path) = written();
        assert_eq!(wait(&path, PATIENCE), None, "none runs");
        set(&path, offset_of!(Beside, state), SnapshotState::Running as u32);
        set(&path, offset_of!(Beside, pid), 4_294_967_294);
        assert!(wait(&path, PATIENCE).unwrap().contains("ended before"));
        set(&path, offset_of!(Beside, pid), std::process::id());
        assert!(wait(&path, Duration::ZERO).unwrap().contains("had not come"));
    }
}
