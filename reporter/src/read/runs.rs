//! From dumps to runs of a program: a run is a process with all that came of it.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use pyshim_dump::Dump;
use pyshim_dump::layout::{EndKind, MAGIC};

use crate::problem::Problem;

use super::{Loaded, load_all};

/// One run of a program.
#[derive(Debug)]
pub struct Run {
    /// Its processes; a parent comes before its children.
    pub dumps: Vec<Loaded>,
}

/// Loads every argument: a dump, the id of a process, or a folder, which stands for all dumps in it.
/// Dumps of processes that descend from each other are one run.
pub fn load_runs(arguments: &[String]) -> (Vec<Run>, Vec<Problem>) {
    let (mut paths, mut problems) = (Vec::new(), Vec::new());
    for argument in arguments {
        match Path::new(argument).is_dir() {
            true => match dumps_in(argument.as_ref()) {
                Ok(found) => paths.extend(found),
                Err(problem) => problems.push(problem),
            },
            false => paths.push(argument.clone()),
        }
    }
    let (dumps, more) = load_all(&paths);
    problems.extend(more);
    (group(dumps), problems)
}

/// The dumps in a folder, in order of their names. What else lies there is passed over, and so is a
/// packed dump that is not yet in its place (`NAME.part`).
fn dumps_in(folder: &Path) -> Result<Vec<String>, Problem> {
    let problem = |what: String| Problem::new(folder.display(), what);
    let entries =
        fs::read_dir(folder).map_err(|error| problem(format!("cannot be read: {error}")))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    let is_part = |path: &Path| path.extension().is_some_and(|extension| extension == "part");
    paths.retain(|path| path.is_file() && !is_part(path) && begins_as_dump(path));
    paths.sort();
    if paths.is_empty() {
        return Err(problem("there is no dump in this folder; name one that holds some".into()));
    }
    // Paths are shown and opened as texts from here on, like those of the command line.
    paths
        .into_iter()
        .map(|path| path.into_os_string().into_string())
        .collect::<Result<_, _>>()
        .map_err(|path| problem(format!("the name {} is no UTF-8; rename it", path.display())))
}

fn begins_as_dump(path: &Path) -> bool {
    let mut magic = [0; MAGIC.len()];
    File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && magic == MAGIC
}

/// Puts processes with those that they descend from.
fn group(mut dumps: Vec<Loaded>) -> Vec<Run> {
    dumps.sort_by_key(|loaded| (loaded.dump.started_unix_ns, loaded.dump.pid));
    let mut runs: Vec<Run> = Vec::new();
    for loaded in dumps {
        // Ids come again, and are the same in every container: of several, the last to begin.
        let origin = runs
            .iter_mut()
            .filter_map(|run| {
                let began = |it: &Loaded| it.dump.started_unix_ns;
                let last = run.dumps.iter().filter(|it| is_origin(it, &loaded)).map(began).max()?;
                Some((last, run))
            })
            .max_by_key(|(began, _)| *began);
        match origin {
            Some((_, run)) => run.dumps.push(loaded),
            None => runs.push(Run { dumps: vec![loaded] }),
        }
    }
    runs
}

/// Whether `one` is the process that started `other`, or the same one before it became another
/// program.
fn is_origin(one: &Loaded, other: &Loaded) -> bool {
    let (one, other) = (&one.dump, &other.dump);
    if one.pid == other.pid {
        let replaced = one.end.is_none_or(|end| end.kind == EndKind::Exec);
        return replaced && one.started_ticks == other.started_ticks;
    }
    let lived = one.end.map_or(one.heartbeat_ns, |end| end.at_ns);
    // A process that was killed gave its last sign of life a while before.
    let until = one.started_unix_ns.saturating_add(lived).saturating_add(SILENCE_NS);
    let is_parent = one.pid == other.parent_pid
        && (one.started_unix_ns..=until).contains(&other.started_unix_ns);
    is_parent || is_elder(one, other)
}

/// What the setting begins with that says what a process descends from: `PID.TICKS,…`, its parent first.
const ELDERS: &str = "elders=";

/// Whether `other` descends from `one`, with others between that left no dump.
fn is_elder(one: &Dump, other: &Dump) -> bool {
    let elders = other.process.settings.iter().find_map(|it| it.strip_prefix(ELDERS));
    let known = format!("{}.{}", one.pid, one.started_ticks);
    one.started_ticks != 0
        && one.started_unix_ns <= other.started_unix_ns
        && elders.is_some_and(|elders| elders.split(',').any(|it| it == known))
}

/// Longest time between the last sign of life and the end of a process.
const SILENCE_NS: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use pyshim_dump::End;
    use pyshim_dump::layout::Header;

    use super::*;
    use crate::read::State;
    use crate::testing::Maker;

    fn loaded(pid: u32, parent: u32, began_s: u64, lived_s: u64) -> Loaded {
        let mut maker = Maker::new();
        maker.put32(offset_of!(Header, pid), pid).put32(offset_of!(Header, parent_pid), parent);
        maker.put64(offset_of!(Header, started_unix_ns), began_s * 1_000_000_000);
        maker.put64(offset_of!(Header, started_ticks), began_s);
        maker.exited(0, lived_s * 1_000_000_000);
        let path = format!("pyshim.{pid}.dump").into();
        Loaded { path, dump: maker.dump(), state: State::Exited(0), root: None, notes: Vec::new() }
    }

    fn pids(dumps: Vec<Loaded>) -> Vec<Vec<u32>> {
        let pids = |run: &Run| run.dumps.iter().map(|it| it.dump.pid).collect();
        group(dumps).iter().map(pids).collect()
    }

    #[test]
    fn a_child_belongs_to_its_parents_run() {
        let dumps = vec![
            loaded(11, 10, 105, 2),
            loaded(10, 1, 100, 20),
            loaded(12, 11, 106, 1),
            loaded(20, 1, 101, 20),
        ];
        assert_eq!(pids(dumps), [vec![10, 11, 12], vec![20]]);
    }

    #[test]
    fn a_shell_between_two_processes_leaves_them_one_run() {
        let (first, mut second) = (loaded(10, 1, 100, 20), loaded(12, 11, 106, 1));
        second.dump.process.settings = vec!["elders=11.105,10.100,1.0".into()];
        let mut other = loaded(13, 11, 106, 1);
        // Of the same id, but a process that began at another time.
        other.dump.process.settings = vec!["elders=11.105,10.99".into()];
        assert_eq!(pids(vec![first, second, other]), [vec![10, 12], vec![13]]);
    }

    #[test]
    fn runs_of_a_container_have_the_same_ids() {
        let dumps = vec![
            loaded(7, 1, 100, 10),
            loaded(8, 7, 101, 2),
            loaded(7, 1, 200, 10),
            loaded(8, 7, 201, 2),
        ];
        assert_eq!(pids(dumps), [vec![7, 8], vec![7, 8]]);
    }

    #[test]
    fn a_program_that_became_another_is_one_run() {
        let (mut before, mut after) = (loaded(7, 1, 100, 5), loaded(7, 1, 105, 10));
        after.dump.started_ticks = before.dump.started_ticks;
        before.dump.end = before.dump.end.map(|end| End { kind: EndKind::Exec, ..end });
        assert_eq!(pids(vec![before, after]), [vec![7, 7]]);
    }

    #[test]
    fn a_folder_stands_for_its_dumps() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap().to_owned();
        let (runs, problems) = load_runs(std::slice::from_ref(&path));
        assert!(runs.is_empty());
        assert!(problems[0].to_string().contains("there is no dump in this folder"));
        fs::write(folder.path().join("notes.txt"), "no dump").unwrap();
        fs::write(folder.path().join("b.dump"), Maker::new().bytes()).unwrap();
        fs::write(folder.path().join("b.dump.part"), Maker::new().bytes()).unwrap();
        let (runs, problems) = load_runs(&[path]);
        assert_eq!((runs.len(), problems.len()), (1, 0));
    }
}
