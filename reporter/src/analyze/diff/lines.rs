//! Which lines of two runs are the same, although they moved.
//!
//! A dump has no source text, and the files may have changed since. It has the
//! line table of each function, though: for every line with code, where on the
//! line each instruction's text begins and ends (before CPython 3.11 how many
//! bytes of code it has). That is the line's *shape*. Functions are matched by
//! file and name, and the lines of a function by their sequence: of texts where
//! the files are still those that ran, else of shapes, else (another version of
//! the interpreter) of distances from the function's first line. Shapes of
//! before 3.11 are often alike; what they part wrongly, `reconcile` puts together.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;

use pyshim_dump::record::Code;

use crate::python::lines::{TableKind, runs};
use crate::read::Loaded;
use crate::symbolize::Symbols;

use super::align::{Likeness, align};
use super::paths::{Place, relocate};

/// The same for the same line in every run.
pub type LineId = u32;
/// The same for the same function in every run.
pub type FunctionId = u32;

/// A file of the program or a library, the same in every run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct FileId(u32);

/// All lines with code of all runs.
#[derive(Default)]
pub struct Lines {
    /// For each line, its function.
    function_of: Vec<FunctionId>,
    functions_known: FunctionId,
    /// Names are compared without the classes and functions around them: before CPython 3.11 code
    /// objects did not know these.
    short_names: bool,
    places: HashMap<Place, FileId>,
    /// For each file of the program its path in the run that came last.
    own: BTreeMap<u32, String>,
    /// The script that the process before ran.
    script: Option<FileId>,
    functions: HashMap<(FileId, String), Vec<Known>>,
    /// For each dump, its functions by file and name.
    dumps: Vec<HashMap<(String, String), Vec<Placed>>>,
}

/// A function as it was in the run that came last.
struct Known {
    id: FunctionId,
    function: Rc<Function>,
    ids: Vec<LineId>,
}

/// A function with the ids of its lines, both in ascending order.
struct Placed {
    function: Rc<Function>,
    ids: Vec<LineId>,
}

/// A function of a dump.
struct Function {
    /// Of code objects with the same name in the same file, which.
    first_line: u32,
    /// Its lines with code.
    lines: Vec<u32>,
    /// What the instructions of each look like.
    shapes: Vec<u64>,
    /// Shapes can be compared with those of the same dialect.
    dialect: u32,
    file: String,
    name: String,
    directory: Rc<str>,
    started_unix_ns: u64,
}

/// Shapes made of columns, which are the same in every version that has them.
const COLUMNS: u32 = 0;

impl Lines {
    /// For dumps of these processes, to be added in this order.
    pub fn new<'a>(dumps: impl Iterator<Item = &'a Loaded> + Clone) -> Lines {
        let qualified = |loaded: &Loaded| minor(loaded) >= 11;
        let short_names = dumps.clone().any(qualified) && !dumps.clone().all(qualified);
        Lines { short_names, ..Lines::default() }
    }

    /// Takes the functions of a dump, and finds them in those that came before.
    pub fn add(&mut self, loaded: &Loaded, symbols: &mut Symbols) {
        let files = self.files(loaded);
        let mut by_name: BTreeMap<(&str, &str), Vec<Rc<Function>>> = BTreeMap::new();
        for (file, name, codes) in self.group(loaded) {
            by_name.entry((file, name)).or_default().push(Rc::new(function(loaded, file, &codes)));
        }
        let mut placed = HashMap::new();
        for ((file, name), functions) in by_name {
            let Some(&id) = files.get(file) else { continue };
            let name = self.name(name).to_owned();
            let known = self.functions.entry((id, name.clone())).or_default();
            let ids = Ids { of_lines: &mut self.function_of, functions: &mut self.functions_known };
            let found = place(known, &functions, ids, symbols);
            placed.insert((file.to_owned(), name), found);
        }
        self.dumps.push(placed);
    }

    /// A line of a function of a dump.
    pub fn id(&self, dump: usize, file: &str, function: &str, line: u32) -> Option<LineId> {
        let key = (file.to_owned(), self.name(function).to_owned());
        let candidates = self.dumps.get(dump)?.get(&key)?;
        // Of functions that share a line, the inner one.
        candidates.iter().rev().find_map(|placed| {
            let at = placed.function.lines.binary_search(&line).ok()?;
            placed.ids.get(at).copied()
        })
    }

    /// The function that a line is in.
    pub fn function(&self, line: LineId) -> Option<FunctionId> {
        self.function_of.get(line as usize).copied()
    }

    fn name<'a>(&self, name: &'a str) -> &'a str {
        match self.short_names {
            true => name.rsplit('.').next().unwrap_or(name),
            false => name,
        }
    }

    /// Code objects that are one function: same file, name and first line. Names in ascending order
    /// of their lines.
    fn group<'a>(&self, loaded: &'a Loaded) -> Vec<(&'a str, &'a str, Vec<&'a Code>)> {
        let mut groups: BTreeMap<(&str, &str, u32), Vec<&Code>> = BTreeMap::new();
        for code in loaded.dump.codes.iter().flatten() {
            let Some(Some(file)) = loaded.dump.texts.get(code.file as usize) else { continue };
            let key = (file.as_str(), self.name(&code.name), code.first_line);
            groups.entry(key).or_default().push(code);
        }
        groups.into_iter().map(|((file, name, _), codes)| (file, name, codes)).collect()
    }

    /// The files of a dump, by the name that its code objects have for them.
    fn files<'a>(&mut self, loaded: &'a Loaded) -> HashMap<&'a str, FileId> {
        let dump = &loaded.dump;
        let names: BTreeSet<&str> = dump
            .codes
            .iter()
            .flatten()
            .filter_map(|code| dump.texts.get(code.file as usize)?.as_deref())
            .collect();
        let places: Vec<(&str, Place)> = names
            .into_iter()
            .map(|name| (name, Place::of(name, &dump.process.directory)))
            .collect();
        let own = |place: &Place| match place {
            Place::Own(path) => Some(path.clone()),
            _ => None,
        };
        let now: Vec<String> = places.iter().filter_map(|(_, place)| own(place)).collect();
        let now: BTreeSet<&str> = now.iter().map(String::as_str).collect();
        let before: BTreeMap<&str, u32> =
            self.own.iter().map(|(&id, path)| (path.as_str(), id)).collect();
        let moved: Vec<(String, u32)> = relocate(&before.keys().copied().collect(), &now)
            .into_iter()
            .filter_map(|(now, was)| Some((now.to_owned(), *before.get(was)?)))
            // A file that was here before keeps its place.
            .filter(|(now, _)| !self.places.contains_key(&Place::Own(now.clone())))
            .collect();
        for (path, id) in moved {
            self.places.insert(Place::Own(path), FileId(id));
        }
        // A script under another name is still what was run.
        let script = script(loaded, &now);
        if let (Some(path), Some(before)) = (script, self.script) {
            let still_there = self.own.get(&before.0).is_some_and(|was| now.contains(was.as_str()));
            if !still_there {
                self.places.entry(Place::Own(path.to_owned())).or_insert(before);
            }
        }
        let mut found = HashMap::new();
        for (name, place) in places {
            let path = own(&place);
            let next = FileId(self.places.len() as u32);
            let id = *self.places.entry(place).or_insert(next);
            if let Some(path) = path {
                if script == Some(path.as_str()) {
                    self.script = Some(id);
                }
                self.own.insert(id.0, path);
            }
            found.insert(name, id);
        }
        found
    }
}

/// The first argument that is a file whose code ran.
fn script<'a>(loaded: &Loaded, files: &BTreeSet<&'a str>) -> Option<&'a str> {
    let process = &loaded.dump.process;
    process.argv.iter().skip(1).find_map(|argument| match Place::of(argument, &process.directory) {
        Place::Own(path) => files.get(path.as_str()).copied(),
        _ => None,
    })
}

/// Of the interpreter; 0 if the process runs none.
pub fn minor(loaded: &Loaded) -> u32 {
    let version = &loaded.dump.process.python;
    version.split('.').nth(1).and_then(|minor| minor.parse().ok()).unwrap_or(0)
}

fn function(loaded: &Loaded, file: &str, codes: &[&Code]) -> Function {
    let mut lines: BTreeMap<u32, Vec<(u64, u64)>> = BTreeMap::new();
    let mut columns = false;
    for code in codes {
        lines.entry(code.first_line).or_default();
        let Some(kind) = TableKind::from_u8(code.table_kind) else { continue };
        let mut begin = 0;
        for run in runs(kind, &code.table, code.first_line) {
            // The last line of the oldest tables has no end.
            let length = if run.end == i64::MAX { 0 } else { run.end - begin };
            begin = run.end;
            let Some(line) = run.line.and_then(|line| u32::try_from(line).ok()) else { continue };
            let marks = lines.entry(line).or_default();
            match (run.column, run.end_column) {
                (Some(column), end) => {
                    columns = true;
                    marks.push((column, end.unwrap_or(0)));
                }
                _ => marks.push((length.unsigned_abs(), 0)),
            }
        }
    }
    let shape = |marks: &mut Vec<(u64, u64)>| {
        if columns {
            // How often and in which order is the compiler's choice.
            marks.sort_unstable();
            marks.dedup();
        }
        hash(marks)
    };
    Function {
        first_line: codes.first().map_or(0, |code| code.first_line),
        shapes: lines.values_mut().map(shape).collect(),
        lines: lines.into_keys().collect(),
        dialect: if columns { COLUMNS } else { minor(loaded).max(1) },
        file: file.to_owned(),
        name: codes.first().map_or(String::new(), |code| code.name.clone()),
        directory: loaded.dump.process.directory.as_str().into(),
        started_unix_ns: loaded.dump.started_unix_ns,
    }
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

impl Function {
    fn offset(&self, at: usize) -> Option<i64> {
        self.lines.get(at).map(|&line| i64::from(line) - i64::from(self.first_line))
    }

    /// Whether it has the same lines, as far as the tables tell.
    fn is_like(&self, other: &Function) -> bool {
        let offsets =
            |it: &Function| -> Vec<_> { (0..it.lines.len()).map(|at| it.offset(at)).collect() };
        self.dialect == other.dialect
            && self.shapes == other.shapes
            && offsets(self) == offsets(other)
    }

    /// The texts of its lines, if the file is still the one that ran.
    fn texts(&self, symbols: &mut Symbols) -> Option<Vec<String>> {
        let short = self.name.rsplit('.').next().unwrap_or("");
        let text = |&line: &u32| {
            let known =
                symbols.source_as_of(&self.directory, &self.file, line, self.started_unix_ns);
            // A module begins on a line that may be empty, or be none.
            let begins = short == "<module>" && line <= self.first_line;
            known.or_else(|| begins.then(String::new))
        };
        let texts: Vec<String> = self.lines.iter().map(text).collect::<Option<_>>()?;
        // Times of files can be set: a function's first line must look right, too.
        let first = self.lines.binary_search(&self.first_line).ok().and_then(|at| texts.get(at))?;
        let right = short.starts_with('<') || first.starts_with('@') || first.contains(short);
        (right && texts.iter().any(|text| !text.is_empty())).then_some(texts)
    }
}

/// Ids that were given.
struct Ids<'a> {
    of_lines: &'a mut Vec<FunctionId>,
    functions: &'a mut FunctionId,
}

/// Gives the lines of `functions` the ids that they have in `known`, and new ones else. All have the
/// same name, in the same file.
fn place(
    known: &mut Vec<Known>,
    functions: &[Rc<Function>],
    ids: Ids,
    symbols: &mut Symbols,
) -> Vec<Placed> {
    let matched = match (known.len(), functions) {
        (1, [_]) => vec![Some(0)],
        (0, _) => vec![None; functions.len()],
        _ => match_functions(known, functions, symbols),
    };
    let mut placed = Vec::new();
    for (function, was) in functions.iter().zip(matched) {
        let before = was.and_then(|was| known.get(was));
        let lines = match before {
            Some(before) => match_lines(&before.function, function, symbols),
            None => vec![None; function.lines.len()],
        };
        let id = before.map_or(*ids.functions, |before| before.id);
        *ids.functions = (*ids.functions).max(id + 1);
        let line = |was: Option<usize>| {
            was.and_then(|was| before?.ids.get(was).copied()).unwrap_or_else(|| {
                ids.of_lines.push(id);
                ids.of_lines.len() as LineId - 1
            })
        };
        let lines: Vec<LineId> = lines.into_iter().map(line).collect();
        let now = Known { id, function: Rc::clone(function), ids: lines.clone() };
        match was.and_then(|was| known.get_mut(was)) {
            Some(slot) => *slot = now,
            None => known.push(now),
        }
        placed.push(Placed { function: Rc::clone(function), ids: lines });
    }
    known.sort_by_key(|known| known.function.first_line);
    placed
}

/// Lambdas of a function, methods of one name before CPython 3.11: told by their content.
fn match_functions(
    known: &[Known],
    functions: &[Rc<Function>],
    symbols: &mut Symbols,
) -> Vec<Option<usize>> {
    let unchanged = |(old, new): (&Known, &Rc<Function>)| {
        old.function.first_line == new.first_line && old.function.is_like(new)
    };
    if known.len() == functions.len() && known.iter().zip(functions).all(unchanged) {
        return (0..functions.len()).map(Some).collect();
    }
    let old: Vec<_> = known.iter().map(|it| (&*it.function, it.function.texts(symbols))).collect();
    let new: Vec<_> = functions.iter().map(|it| (&**it, it.texts(symbols))).collect();
    align(old.len(), new.len(), |a, b| {
        let (Some((old, old_text)), Some((new, new_text))) = (old.get(a), new.get(b)) else {
            return Likeness::None;
        };
        let same = match (old_text, new_text) {
            (Some(old), Some(new)) => old == new,
            _ => old.is_like(new),
        };
        match (same, old.first_line == new.first_line) {
            (false, _) => Likeness::None,
            (true, false) => Likeness::Same,
            (true, true) => Likeness::Unmoved,
        }
    })
}

fn match_lines(old: &Function, new: &Function, symbols: &mut Symbols) -> Vec<Option<usize>> {
    if old.is_like(new) {
        return (0..new.lines.len()).map(Some).collect();
    }
    let texts = old.texts(symbols).zip(new.texts(symbols));
    let (old_lines, new_lines) = (old.lines.len(), new.lines.len());
    align(old_lines, new_lines, |a, b| {
        let unmoved = old.offset(a) == new.offset(b);
        let same = match &texts {
            Some((old, new)) => old.get(a) == new.get(b),
            None if old.dialect == new.dialect => old.shapes.get(a) == new.shapes.get(b),
            None => unmoved,
        };
        match (same, unmoved) {
            (false, _) => Likeness::None,
            (true, false) => Likeness::Same,
            (true, true) => Likeness::Unmoved,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::State;
    use crate::testing::Maker;

    fn loaded(maker: &Maker) -> Loaded {
        let path = "x.dump".into();
        Loaded { path, dump: maker.dump(), state: State::Exited(0), root: None, notes: Vec::new() }
    }

    fn maker(python: &str) -> Maker {
        let mut maker = Maker::new();
        maker.process(python, &["python", "app.py"]);
        maker
    }

    /// The ids of all lines that one function has in each of two dumps.
    fn ids(file: [&str; 2], lines: [&[(u32, u32)]; 2]) -> [Vec<Option<LineId>>; 2] {
        let dumps = [0, 1].map(|at: usize| {
            let mut maker = maker("3.12.1");
            let first = lines[at].first().map_or(1, |line| line.0) - 1;
            maker.function(file[at], "load", first, lines[at]);
            loaded(&maker)
        });
        let mut known = Lines::new(dumps.iter());
        let mut symbols = Symbols::default();
        dumps.iter().for_each(|dump| known.add(dump, &mut symbols));
        [0, 1]
            .map(|at| lines[at].iter().map(|line| known.id(at, file[at], "load", line.0)).collect())
    }

    #[test]
    fn a_function_that_moved_is_the_same() {
        let (old, new) = ([(11, 4), (12, 8), (13, 4)], [(41, 4), (42, 8), (43, 4)]);
        let [before, after] = ids(["/old/app.py", "/new/app.py"], [&old, &new]);
        assert!(before.iter().all(Option::is_some));
        assert_eq!(before, after);
    }

    #[test]
    fn a_line_inserted_into_a_function_is_new() {
        let (old, new) = ([(11, 4), (12, 8), (13, 5)], [(11, 4), (12, 20), (13, 8), (14, 5)]);
        let [before, after] = ids(["app.py", "app.py"], [&old, &new]);
        assert_eq!([after[0], after[2], after[3]], [before[0], before[1], before[2]]);
        assert!(!before.contains(&after[1]));
    }

    #[test]
    fn a_line_that_changed_where_it_stood_is_the_same() {
        let (old, new) = ([(11, 4), (12, 8), (13, 5)], [(21, 4), (22, 99), (23, 5)]);
        let [before, after] = ids(["app.py", "app.py"], [&old, &new]);
        assert_eq!(before, after);
    }

    #[test]
    fn another_file_is_another_function() {
        let lines = [(11, 4), (12, 8)];
        let [before, after] = ids(["/srv/a.py", "/srv/b.py"], [&lines, &lines]);
        assert!(before.iter().all(|id| !after.contains(id)));
    }

    #[test]
    fn a_script_under_another_name_is_the_same() {
        let mut known = Vec::new();
        for script in ["/w/old.py", "/w/new.py"] {
            let mut maker = Maker::new();
            maker.process("3.12.1", &["python", "-X", "dev", script]);
            maker.function(script, "load", 10, &[(11, 4)]);
            known.push(loaded(&maker));
        }
        let mut lines = Lines::new(known.iter());
        let mut symbols = Symbols::default();
        known.iter().for_each(|dump| lines.add(dump, &mut symbols));
        let id = lines.id(0, "/w/old.py", "load", 11);
        assert!(id.is_some());
        assert_eq!(id, lines.id(1, "/w/new.py", "load", 11));
    }

    #[test]
    fn names_of_old_interpreters_lack_their_classes() {
        let mut old = maker("3.10.1");
        old.function("app.py", "load", 10, &[(11, 4)]);
        let mut new = maker("3.12.1");
        new.function("app.py", "Store.load", 30, &[(31, 4)]);
        let dumps = [loaded(&old), loaded(&new)];
        let mut lines = Lines::new(dumps.iter());
        let mut symbols = Symbols::default();
        dumps.iter().for_each(|dump| lines.add(dump, &mut symbols));
        let id = lines.id(0, "app.py", "load", 11);
        assert!(id.is_some());
        assert_eq!(id, lines.id(1, "app.py", "Store.load", 31));
    }

    #[test]
    fn functions_of_one_name_are_told_by_their_content() {
        let (a, b) = ([(11, 4), (12, 30)], [(21, 7), (22, 40)]);
        let mut old = maker("3.12.1");
        old.function("app.py", "<lambda>", 11, &a);
        old.function("app.py", "<lambda>", 21, &b);
        let mut new = maker("3.12.1");
        // The first is gone, and the second stands where it was.
        new.function("app.py", "<lambda>", 11, &[(11, 7), (12, 40)]);
        let dumps = [loaded(&old), loaded(&new)];
        let mut lines = Lines::new(dumps.iter());
        let mut symbols = Symbols::default();
        dumps.iter().for_each(|dump| lines.add(dump, &mut symbols));
        let now = lines.id(1, "app.py", "<lambda>", 12);
        assert_eq!(now, lines.id(0, "app.py", "<lambda>", 22));
        assert_ne!(now, lines.id(0, "app.py", "<lambda>", 12));
    }

    /// Whatever is inserted and taken out, the lines that are left are the same.
    #[test]
    fn edits_elsewhere_in_a_function_part_no_line() {
        let mut seed = 11u64;
        let mut random = move |below: u32| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) as u32 % below
        };
        for _ in 0..300 {
            let begin = 2 + random(500);
            let old: Vec<(u32, u32)> = (0..1 + random(30)).map(|at| (begin + at, at)).collect();
            let (mut new, mut kept) = (Vec::new(), Vec::new());
            let mut line = 2 + random(500);
            for (at, &(_, column)) in old.iter().enumerate() {
                for _ in 0..random(2) * random(4) {
                    new.push((line, 1000 + random(1 << 20)));
                    line += 1;
                }
                if random(4) > 0 {
                    kept.push((at, new.len()));
                    new.push((line, column));
                    line += 1;
                }
            }
            let [before, after] = ids(["/old/app.py", "/new/app.py"], [&old, &new]);
            for (was, is) in kept {
                assert_eq!(before[was], after[is], "{old:?} {new:?}");
            }
            let distinct: BTreeSet<_> = after.iter().collect();
            assert_eq!(distinct.len(), after.len(), "two lines are never one");
        }
    }

    #[test]
    fn texts_tell_lines_of_one_shape_apart() {
        let folder = tempfile::tempdir().unwrap();
        let texts = [
            "def load():\n    a = f()\n    c = h()\n",
            "\n\ndef load():\n    a = f()\n    b = g()\n    c = h()\n",
        ];
        let mut dumps = Vec::new();
        let mut files = Vec::new();
        for (at, text) in texts.iter().enumerate() {
            let file = folder.path().join(format!("{at}/app.py"));
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, text).unwrap();
            let file = file.to_str().unwrap().to_owned();
            let first = [1, 3][at];
            let lines: Vec<(u32, u32)> =
                (first + 1..first + 1 + [2, 3][at]).map(|line| (line, 4)).collect();
            let mut maker = maker("3.12.1");
            // After the files were written.
            maker.put64(
                std::mem::offset_of!(pyshim_dump::layout::Header, started_unix_ns),
                u64::MAX / 2,
            );
            maker.function(&file, "load", first, &lines);
            dumps.push(loaded(&maker));
            files.push(file);
        }
        let mut lines = Lines::new(dumps.iter());
        let mut symbols = Symbols::default();
        dumps.iter().for_each(|dump| lines.add(dump, &mut symbols));
        let old = |line| lines.id(0, &files[0], "load", line);
        let new = |line| lines.id(1, &files[1], "load", line);
        assert_eq!((old(2), old(3)), (new(4), new(6)));
        assert!(new(5).is_some_and(|id| Some(id) != old(2) && Some(id) != old(3)));
    }
}
