//! From an argument to a dump in memory: which file, and is it whole.

mod locate;
pub mod process;
pub mod runs;
pub mod snapshot;

use std::collections::HashSet;
use std::fs;
use std::io;
use std::mem::offset_of;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use pyshim_dump::layout::{Header, MAGIC};
use pyshim_dump::{Dump, Error};

pub use locate::locate;
pub use process::State;
pub use runs::{Run, load_runs};

use crate::problem::Problem;

/// A dump with what only its surroundings can tell.
#[derive(Debug)]
pub struct Loaded {
    /// The file.
    pub path: PathBuf,
    /// Its content.
    pub dump: Dump,
    /// Whether the process runs, or how it ended.
    pub state: State,
    /// Where the process' own view of the file system is, if it can be reached.
    pub root: Option<PathBuf>,
    /// What a reader should know of it: a snapshot that did not come.
    pub notes: Vec<String>,
}

/// Loads every argument; each a path or a process id. A file named twice counts once.
pub fn load_all(arguments: &[String]) -> (Vec<Loaded>, Vec<Problem>) {
    let (mut loaded, mut problems) = (Vec::new(), Vec::new());
    let mut seen = HashSet::new();
    for argument in arguments {
        let found = locate::locate(argument).and_then(|path| {
            let identity = fs::metadata(&path).map(|meta| (meta.dev(), meta.ino()));
            match identity {
                Ok(identity) if !seen.insert(identity) => Ok(None),
                _ => load(&path).map(Some),
            }
        });
        match found {
            Ok(dump) => loaded.extend(dump),
            Err(problem) => problems.push(problem),
        }
    }
    (loaded, problems)
}

/// Loads the dump at `path`.
pub fn load(path: &Path) -> Result<Loaded, Problem> {
    load_after(path, snapshot::PATIENCE)
}

/// The same without waiting for a snapshot that is being taken.
pub fn load_as_it_is(path: &Path) -> Result<Loaded, Problem> {
    load_after(path, Duration::ZERO)
}

fn load_after(path: &Path, patience: Duration) -> Result<Loaded, Problem> {
    let whole = || parse(path).map_err(|what| Problem::new(path.display(), what));
    let (mut dump, mut notes) = (whole()?, Vec::new());
    if dump.snapshots.running.is_some() {
        // The process may have ended; its copy still searches.
        notes.extend(snapshot::wait(path, patience));
        dump = whole()?;
    }
    let state = process::state(&dump, path);
    let root = match state {
        State::Running => Some(PathBuf::from(format!("/proc/{}/root", dump.pid))),
        _ => None,
    };
    Ok(Loaded { path: path.to_owned(), dump, state, root, notes })
}

/// Pause before a file that does not hold together is read again.
const PAUSE: Duration = Duration::from_millis(25);
/// How often it is read before it counts as damaged.
const ATTEMPTS: usize = 20;

/// A process that runs changes its dump under the reader: what was read may mix two moments. Such
/// a file is another one when it is read again; a damaged one stays as it is.
fn parse(path: &Path) -> Result<Dump, String> {
    let mut bytes = bytes(path)?;
    let mut attempt = 0;
    loop {
        let error = match Dump::parse(&bytes) {
            Ok(dump) => return Ok(dump),
            Err(error) => error,
        };
        attempt += 1;
        if attempt == ATTEMPTS || !matches!(error, Error::Truncated { .. } | Error::Corrupt { .. })
        {
            return Err(error.to_string());
        }
        sleep(PAUSE);
        let again = self::bytes(path)?;
        if again == bytes {
            return Err(error.to_string());
        }
        bytes = again;
    }
}

fn bytes(path: &Path) -> Result<Vec<u8>, String> {
    let meta = fs::metadata(path).map_err(|error| explain(&error))?;
    if meta.is_dir() {
        return Err("is a directory; name the dumps in it, such as DIRECTORY/*.dump".into());
    }
    if !meta.is_file() {
        return Err("is not a regular file; name a dump, such as pyshim.4242.dump".into());
    }
    let mut bytes = fs::read(path).map_err(|error| explain(&error))?;
    for _ in 0..ATTEMPTS {
        if is_steady(path, &bytes) {
            break;
        }
        sleep(PAUSE);
        bytes = fs::read(path).map_err(|error| explain(&error))?;
    }
    Ok(bytes)
}

/// Whether no amount went from one place of the file to another while this was read (it would be in
/// both, or in neither). Where a process was killed just then, that shows in the dump.
fn is_steady(path: &Path, bytes: &[u8]) -> bool {
    let place = offset_of!(Header, moves);
    let Some(then) = bytes.get(place..place + 8).filter(|_| bytes.starts_with(&MAGIC)) else {
        return true;
    };
    let mut now = [0; 8];
    let read = fs::File::open(path).and_then(|file| file.read_exact_at(&mut now, place as u64));
    read.is_err() || (then == now && now[0] & 1 == 0)
}

fn explain(error: &io::Error) -> String {
    let what = error.to_string();
    let what = what.split(" (os error").next().unwrap_or("");
    match error.kind() {
        io::ErrorKind::NotFound => {
            "no such file; name a dump, such as pyshim.4242.dump, or the id of a running process"
                .to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            format!(
                "may not be read ({what}); it belongs to the user of its process: ask as that user"
            )
        }
        _ => format!("cannot be read: {what}"),
    }
}

#[cfg(test)]
mod tests {
    use pyshim_dump::layout::HEADER_LEN;

    use super::*;

    /// While amounts are on their way in the arrays, the file is read again.
    #[test]
    fn what_moves_is_read_when_it_has_moved() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("it.dump");
        let place = offset_of!(Header, moves);
        let mut content = vec![0; 2 * HEADER_LEN];
        content[..MAGIC.len()].copy_from_slice(&MAGIC);
        content[place] = 3;
        fs::write(&path, &content).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                sleep(2 * PAUSE);
                let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
                file.write_at(&[4], place as u64).unwrap();
            });
            assert_eq!(bytes(&path).unwrap()[place], 4);
        });
        // What was read is not what stands there any more.
        assert!(!is_steady(&path, &content));
        content[place] = 4;
        assert!(is_steady(&path, &content));
    }
}
