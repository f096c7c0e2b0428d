//! Whatever stands beneath or above the shim's hooks, and however the
//! interpreter came into the process: each block is counted, once.

use pyshim_dump::layout::Gauge;
use pyshim_dump::record::Origin;
use pyshim_dump::{Amount, Dump};
use pyshim_tests::compare::{
    assert_made, compare, ever_made_by, function, has_look_up_cache, made_by,
};
use pyshim_tests::heaps::on_some_interpreters;
use pyshim_tests::{
    Interpreter, Ran, Run, compile, on_every_interpreter, program, read, summarize,
};
use serde_json::Value;

/// Sizes as `sys.getsizeof` has them.
const SMALL: u64 = 97;
const LARGE: u64 = 1033;
/// The buffer of a `bytearray` of 800 bytes, which may have room for more.
const GROWN: u64 = 801;

/// What `blocks.py` keeps, to the byte, with nothing counted in native code as well.
fn assert_blocks(dump: &Dump) {
    assert_made(dump, "blocks.py", "small", 5000, SMALL);
    assert_made(dump, "blocks.py", "large", 5000, LARGE);
    let made = made_by(dump, "grown").into_values();
    let made = made.fold(Amount::default(), |sum, one| sum + one);
    let cache = if has_look_up_cache(dump) { 2 } else { 0 };
    assert!((2000..=2000 + cache).contains(&made.blocks), "grown: {made:?}");
    assert!((2000 * GROWN..2000 * 2 * GROWN).contains(&made.bytes), "grown: {made:?}");
    // Those that were freed were counted once too.
    let ever = ever_made_by(dump, "large");
    assert!((8000..=8000 + cache).contains(&ever.blocks), "{ever:?}");
    assert!((8000 * LARGE..=8000 * LARGE + cache * 32).contains(&ever.bytes), "{ever:?}");
}

fn with(python: &Interpreter, environment: &[(&str, &str)], argument: &str) -> Ran {
    compare(|| {
        let run = Run::python(python, "blocks.py").arg(argument);
        environment.iter().fold(run, |run, (name, value)| run.env(name, value))
    })
}

#[test]
fn as_it_comes() {
    on_every_interpreter(|python| assert_blocks(&with(python, &[], "").dump()));
}

#[test]
fn the_c_librarys_malloc_for_all() {
    on_every_interpreter(|python| {
        assert_blocks(&with(python, &[("PYTHONMALLOC", "malloc")], "").dump());
    });
}

#[test]
fn malloc_with_debug_hooks() {
    on_every_interpreter(|python| {
        assert_blocks(&with(python, &[("PYTHONMALLOC", "malloc_debug")], "").dump());
    });
}

#[test]
fn pymalloc_with_debug_hooks() {
    on_every_interpreter(|python| {
        assert_blocks(&with(python, &[("PYTHONMALLOC", "pymalloc_debug")], "").dump());
        assert_blocks(&with(python, &[("PYTHONMALLOC", "debug")], "").dump());
    });
}

#[test]
fn development_mode() {
    on_every_interpreter(|python| {
        assert_blocks(&with(python, &[("PYTHONDEVMODE", "1")], "").dump());
    });
}

#[test]
fn without_the_python_hooks_only_large_blocks_are_seen() {
    on_every_interpreter(|python| {
        let dump = with(python, &[("PYSHIM_PYTHON", "0")], "").dump();
        assert_made(&dump, "blocks.py", "large", 5000, LARGE);
        // pymalloc's table of its arenas may be full here, and is asked of `malloc`.
        let made = made_by(&dump, "small");
        let sum = made.values().fold(Amount::default(), |sum, &one| sum + one);
        assert!(sum.blocks <= 1 && sum.bytes <= 8192, "what small made: {made:?}");
        let dump = with(python, &[("PYSHIM_PYTHON", "0"), ("PYTHONMALLOC", "malloc")], "").dump();
        assert_made(&dump, "blocks.py", "large", 5000, LARGE);
        assert_made(&dump, "blocks.py", "small", 5000, SMALL);
    });
}

/// tracemalloc's own records are native blocks of the same lines; Python's blocks are exact.
fn assert_python_blocks(dump: &Dump) {
    for (name, size) in [("small", SMALL), ("large", LARGE)] {
        let made = made_by(dump, name);
        let python = made
            .iter()
            .filter(|(origin, _)| matches!(origin, Origin::PythonSmall | Origin::PythonLarge));
        let sum = python.fold(Amount::default(), |sum, (_, &one)| sum + one);
        let cache = if has_look_up_cache(dump) { 2 } else { 0 };
        assert!((5000..=5000 + cache).contains(&sum.blocks), "{name}: {made:?}");
        assert!((5000 * size..=5000 * size + cache * 32).contains(&sum.bytes), "{name}: {made:?}");
        // Records and a table of them: nothing near to the blocks themselves.
        let rest = made.iter().filter(|(origin, _)| !origin.is_python() || **origin == Origin::Raw);
        let rest = rest.fold(Amount::default(), |sum, (_, &one)| sum + one);
        assert!(rest.bytes < 1_500_000, "{name}: {made:?}");
    }
}

#[test]
fn tracemalloc_starts_and_stops() {
    on_every_interpreter(|python| {
        for argument in ["trace", "trace-stop", "trace-restart"] {
            assert_python_blocks(&with(python, &[], argument).dump());
        }
    });
}

#[test]
fn tracemalloc_runs_from_the_start() {
    on_every_interpreter(|python| {
        assert_python_blocks(&with(python, &[("PYTHONTRACEMALLOC", "5")], "").dump());
        assert_python_blocks(&with(python, &[("PYTHONTRACEMALLOC", "5")], "trace-stop").dump());
    });
}

#[test]
fn tracemalloc_and_debug_hooks_together() {
    on_every_interpreter(|python| {
        for malloc in ["malloc", "debug", "malloc_debug"] {
            let environment = [("PYTHONMALLOC", malloc), ("PYTHONTRACEMALLOC", "1")];
            assert_exact_or_honest(&with(python, &environment, "trace").dump());
        }
        let environment = [("PYTHONDEVMODE", "1"), ("PYTHONTRACEMALLOC", "1")];
        assert_exact_or_honest(&with(python, &environment, "trace-restart").dump());
    });
}

/// `tracemalloc.stop` puts back what it found when it started, which was before our hooks were set
/// again: what is allocated after that is not seen, and the dump must say so.
fn assert_exact_or_honest(dump: &Dump) {
    let honest =
        dump.inexact && dump.notes.iter().any(|note| note.contains("were replaced for a while"));
    if !honest {
        assert_python_blocks(dump);
    }
}

/// Folder, file and major.minor of the interpreter's libpython.
struct Library {
    prefix: String,
    folder: String,
    file: String,
    name: String,
}

fn library(python: &Interpreter) -> Library {
    let prefix = python.path.parent().and_then(|bin| bin.parent()).expect("a prefix");
    let name = format!("python3.{}", python.minor);
    let folder = prefix.join("lib");
    let file = folder.join(format!("lib{name}.so.1.0"));
    assert!(file.exists(), "{} is not there", file.display());
    let text = |path: &std::path::Path| path.to_str().expect("UTF-8").to_owned();
    Library { prefix: text(prefix), folder: text(&folder), file: text(&file), name }
}

fn on_every_shared(test: impl Fn(&Interpreter, &Library) + std::panic::RefUnwindSafe) {
    on_every_interpreter(|python| {
        if python.shared {
            test(python, &library(python));
        }
    });
}

fn embedded(python: &Library, command: &[&str], rounds: &str) -> Run {
    let [embed, rest @ ..] = command else { panic!("no program") };
    let blocks = program("blocks.py");
    let blocks = blocks.to_str().expect("UTF-8");
    Run::new([&[*embed, blocks, rounds], rest].concat()).env("PYTHONHOME", &python.prefix)
}

#[test]
fn an_interpreter_loaded_by_hand() {
    let embed = compile("embed.c", &["-ldl"]);
    let embed = embed.to_str().expect("UTF-8");
    on_every_shared(|_, library| {
        for how in ["local", "global"] {
            let ran = compare(|| embedded(library, &[embed, &library.file, how], "1"));
            assert_eq!(ran.output.status.code(), Some(5), "{}", ran.stderr());
            assert_blocks(&ran.dump());
        }
    });
}

#[test]
fn an_interpreter_linked_in() {
    on_every_shared(|_, library| {
        let flags = [
            "-DLINKED",
            &format!("-L{}", library.folder),
            &format!("-l{}", library.name),
            &format!("-Wl,-rpath,{}", library.folder),
        ];
        let embed = compile("embed.c", &flags);
        let ran = compare(|| embedded(library, &[embed.to_str().expect("UTF-8")], "1"));
        assert_eq!(ran.output.status.code(), Some(5), "{}", ran.stderr());
        assert_blocks(&ran.dump());
    });
}

#[test]
fn an_interpreter_that_starts_twice() {
    let embed = compile("embed.c", &["-ldl"]);
    let embed = embed.to_str().expect("UTF-8");
    on_every_shared(|_, library| {
        for malloc in ["pymalloc", "malloc", "debug"] {
            let ran = compare(|| {
                embedded(library, &[embed, &library.file, "global"], "2")
                    .env("PYTHONMALLOC", malloc)
            });
            assert_eq!(ran.output.status.code(), Some(5), "{}", ran.stderr());
            // Survivors are those before the first teardown or the second: never both added up.
            let dump = ran.dump();
            let large = made_by(&dump, "large").into_values();
            let large = large.fold(Amount::default(), |sum, one| sum + one);
            let cache = if has_look_up_cache(&dump) { 2 } else { 0 };
            assert!((5000..=5000 + cache).contains(&large.blocks), "{large:?}");
        }
    });
}

#[test]
fn code_that_dies_never_lends_its_name() {
    let environments: [&[(&str, &str)]; 8] = [
        &[],
        &[("PYTHONMALLOC", "malloc")],
        &[("PYTHONMALLOC", "debug")],
        &[("PYTHONMALLOC", "malloc_debug")],
        &[("PYTHONDEVMODE", "1")],
        &[("PYTHONTRACEMALLOC", "1")],
        &[("PYTHONTRACEMALLOC", "1"), ("PYTHONMALLOC", "debug")],
        &[("PYSHIM_PYTHON", "0")],
    ];
    on_every_interpreter(|python| {
        let mut wrong = Vec::new();
        for environment in environments {
            for argument in ["", "trace"] {
                let ran = compare(|| {
                    let run = Run::python(python, "codes.py").arg(argument);
                    environment.iter().fold(run, |run, (name, value)| run.env(name, value))
                });
                let dump = ran.dump();
                // A block that only `made_N` makes, by its size.
                let (mut right, mut other) = (0, Vec::new());
                for site in &dump.sites {
                    let made = site.totals.allocated;
                    let size = made.bytes.checked_div(made.blocks).unwrap_or(0);
                    let Some((name, _)) = function(&dump, site) else { continue };
                    if made.blocks == 1 && (5033..6033).contains(&size) {
                        if name == format!("made_{}", size - 5033) {
                            right += 1;
                        } else if name.starts_with("made_") || name == "<module>" {
                            other.push(format!("{size} by {name}"));
                        }
                    }
                }
                // Where the hooks were taken out, the report must say so; a wrong name is wrong anyway.
                let absent =
                    dump.notes.iter().any(|note| note.contains("were replaced for a while"));
                if (right < 1000 && !absent) || !other.is_empty() {
                    other.truncate(3);
                    wrong.push(format!("{environment:?} {argument}: {right} right; {other:?}"));
                }
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    });
}

/// Only what is resident of a program's own mappings is in the table of memory.
#[test]
fn mappings_are_a_row_of_the_resident_set() {
    on_every_interpreter(|python| {
        let script = "\
import mmap
whole = mmap.mmap(-1, 48 << 20)
half = mmap.mmap(-1, 64 << 20)
gone = mmap.mmap(-1, 128 << 20)
for one, pages in (whole, 48 << 8), (half, 16 << 8), (gone, 128 << 8):
    for page in range(pages):
        one[page << 12] = 1
gone.close()
";
        let path = python.path.to_str().expect("UTF-8");
        let dump = Run::new([path, "-c", script]).shim().success().dump();
        let mapped = dump.gauge(Gauge::Mapped);
        assert!((64 << 20..66 << 20).contains(&mapped), "{mapped}");
        assert!(dump.gauge(Gauge::Rss) > mapped, "{mapped}");
    });
}

#[test]
fn ages_are_told() {
    on_some_interpreters(|interpreter| {
        let ran = Run::python(interpreter, "ages.py").env("PYSHIM_FOLLOW", "all").shim().success();
        let mut told = 0;
        for line in ran.stdout().lines() {
            let known: serde_json::Map<String, Value> = serde_json::from_str(line).expect("JSON");
            let pid = known["pid"].as_u64().expect("a number");
            let dump =
                ran.dumps.iter().find(|path| read(path).pid as u64 == pid).expect("its dump");
            let report = summarize(&[dump]);
            for (function, age) in known.iter().filter(|(name, _)| *name != "pid") {
                let said = format!("CPython {}, {pid}, {function}", interpreter.version);
                let is_it = |one: &&Value| one["site"]["python"][0]["function"] == **function;
                let groups = report["groups"].as_array().expect("groups");
                let found = groups.iter().filter(is_it).max_by_key(|one| one["blocks"].as_u64());
                let found = found.unwrap_or_else(|| panic!("{said}: not there"));
                assert!(found["blocks"].as_u64() >= Some(3000), "{said}: {found:#}");
                let (age, p50) = (age.as_f64().expect("seconds"), found["age_s"]["p50"].as_f64());
                let p50 = p50.unwrap_or_else(|| panic!("{said}: {found:#}"));
                // 40 % at worst, a 24th of the run for the youngest; and it ends a little later.
                assert!(
                    (age * 0.9 - 0.1..age * 1.45 + 0.6).contains(&p50),
                    "{said}: {p50}, not {age}"
                );
                told += 1;
            }
        }
        assert_eq!(told, 4);
    });
}

/// The most that lived, and what did: known to 1 %, or for sites to 4 % where a program is starting.
/// More stacks than are listed with a code object: none of them outlives it.
#[test]
fn a_function_called_from_everywhere_is_forgotten_with_all_its_stacks() {
    on_every_interpreter(|python| {
        let ran = compare(|| Run::python(python, "called_from_everywhere.py"));
        let dump = ran.dump();
        for number in 0..12 {
            let own = made_by(&dump, &format!("made_{number}"));
            let own = own.into_values().fold(Amount::default(), |sum, one| sum + one);
            let truth = Amount { blocks: 400, bytes: 400 * (3033 + number) };
            assert_eq!(own, truth, "CPython {}: made_{number}", python.version);
        }
    });
}

#[test]
fn the_peak_is_told() {
    on_every_interpreter(|python| {
        for allocator in ["pymalloc", "malloc"] {
            let ran = compare(|| Run::python(python, "peaks.py").env("PYTHONMALLOC", allocator));
            let said: Vec<u64> =
                ran.stdout().split_whitespace().map(|it| it.parse().expect("a number")).collect();
            let [ground, wave] = said[..] else { panic!("{said:?}") };
            let dump = ran.dump();
            let all = |wanted: &dyn Fn(&str) -> bool| {
                let sites = dump.sites.iter();
                let own = sites.filter(|&it| wanted(function(&dump, it).map_or("", |it| it.0)));
                own.fold(Amount::default(), |sum, site| sum + site.peak)
            };
            let cache = if has_look_up_cache(&dump) { 2 } else { 0 };
            let found = (all(&|name| name == "ground"), all(&|name| name == "wave"));
            let what = format!("CPython {}, {allocator}: {found:?}", python.version);
            assert!((ground..=ground + cache).contains(&found.0.blocks), "{what}");
            assert!((wave - wave / 25..=wave + cache).contains(&found.1.blocks), "{what}");
            // What is not known beforehand hardly changed meanwhile.
            let rest = all(&|name| name != "ground" && name != "wave").bytes;
            let truth = ground * LARGE + wave * 10_033 + rest;
            let seen = dump.peak_seen;
            assert!(seen.abs_diff(truth) < truth / 100, "{what}: {seen} instead of {truth}");
        }
    });
}
