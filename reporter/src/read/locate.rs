//! From an argument to the path of a dump.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Read;
use std::mem::offset_of;
use std::path::{Path, PathBuf};

use pyshim_dump::layout::{Header, MAGIC};

use crate::problem::Problem;

/// A path stands for itself, a number that is no file for the dump of that process.
pub fn locate(argument: &str) -> Result<PathBuf, Problem> {
    let path = Path::new(argument);
    let number = !argument.is_empty() && argument.bytes().all(|byte| byte.is_ascii_digit());
    if !number || fs::symlink_metadata(path).is_ok() {
        return Ok(path.to_owned());
    }
    dump_of(argument)
}

/// The dump that a process has mapped.
fn dump_of(pid: &str) -> Result<PathBuf, Problem> {
    let proc = Path::new("/proc").join(pid);
    if !proc.is_dir() {
        let what = format!(
            "neither a file nor a running process; give the path of its dump, such as pyshim.{pid}.dump"
        );
        return Err(Problem::new(pid, what));
    }
    let maps = fs::read_to_string(proc.join("maps")).map_err(|error| {
        let what = format!("the memory map of this process may not be read ({error}); ask as its user, or give the path of its dump");
        Problem::new(pid, what)
    })?;
    let mut seen = HashSet::new();
    let mut found = None;
    for mapping in maps.lines().filter_map(shared_file) {
        if !seen.insert(mapping.path) {
            continue;
        }
        let Some((path, owner)) = candidates(&proc, &mapping).find_map(opened) else { continue };
        // A forked child may still have its parent's dump mapped beside its own.
        if owner.to_string() == pid {
            return Ok(path);
        }
        found.get_or_insert(path);
    }
    found.ok_or_else(|| {
        Problem::new(
            pid,
            "this process has no dump; start it with reporter run, or with LD_PRELOAD=libpyshim.so",
        )
    })
}

/// One line of `/proc/PID/maps`.
struct Mapping<'a> {
    range: &'a str,
    path: &'a str,
}

fn shared_file(line: &str) -> Option<Mapping<'_>> {
    let mut fields = line.splitn(6, ' ');
    let (range, mode) = (fields.next()?, fields.next()?);
    let path = fields.nth(3)?.trim_start();
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    (mode.ends_with('s') && path.starts_with('/')).then_some(Mapping { range, path })
}

/// Where the file may be read: as the process sees it, as we see it, and by its mapping.
fn candidates<'a>(
    proc: &'a Path,
    mapping: &'a Mapping<'a>,
) -> impl Iterator<Item = PathBuf> + use<'a> {
    let inside = proc.join("root").join(mapping.path.trim_start_matches('/'));
    // Paths of our own are shown as they are: they can be typed again.
    [PathBuf::from(mapping.path), inside, proc.join("map_files").join(mapping.range)].into_iter()
}

/// The path again, if a dump is there, and the process that the dump is of.
fn opened(path: PathBuf) -> Option<(PathBuf, u32)> {
    const PID: usize = offset_of!(Header, pid);
    let mut head = [0; PID + 4];
    File::open(&path).ok()?.read_exact(&mut head).ok()?;
    let owner = head.last_chunk::<4>()?;
    head.starts_with(&MAGIC).then_some((path, u32::from_le_bytes(*owner)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_shared_mappings_of_files_are_looked_at() {
        let dump = "7f00-7f01 rw-s 00000000 08:01 12                  /srv/a b.dump (deleted)";
        let mapping = shared_file(dump).unwrap();
        assert_eq!((mapping.range, mapping.path), ("7f00-7f01", "/srv/a b.dump"));
        for line in [
            "7f00-7f01 r-xp 00000000 08:01 12 /usr/lib/libc.so.6",
            "7f00-7f01 rw-s 00000000 00:01 12",
            "7ffc-7ffd rw-p 00000000 00:00 0 [stack]",
            "",
        ] {
            assert!(shared_file(line).is_none(), "{line}");
        }
    }

    #[test]
    fn a_number_without_a_process_says_so() {
        let problem = locate("4294967294").unwrap_err();
        assert!(problem.what.starts_with("neither a file nor a running process"), "{problem}");
    }

    #[test]
    fn a_process_without_a_dump_says_so() {
        let pid = std::process::id().to_string();
        let problem = locate(&pid).unwrap_err();
        assert!(problem.what.starts_with("this process has no dump"), "{problem}");
    }
}
