//! The heap snapshot against what others say of the same programs: the collector, LeakSanitizer, the
//! allocators themselves, and a search without any cleverness.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use pyshim_dump::heap::{MemoryKind, State};
use pyshim_tests::heaps::{heap, in_state, objects, on_some_interpreters};
use pyshim_tests::{Interpreter, Ran, Run, compile, long, reporter, root};
use serde::Deserialize;
use serde_json::Value;

/// A program of `tests/programs/crosscheck`, with a snapshot at its end.
fn python(interpreter: &Interpreter, name: &str) -> Run {
    Run::python(interpreter, &format!("crosscheck/{name}")).env("PYSHIM_SNAPSHOT", "exit")
}

/// What `reporter why` says.
fn why(ran: &Ran, target: &str) -> Value {
    let output = Command::new(reporter())
        .args(["why", "--format", "json"])
        .arg(ran.dump_path())
        .arg(target)
        .output()
        .expect("the reporter runs");
    assert!(output.status.success(), "{target}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// What LeakSanitizer finds: blocks and bytes. `None`: it does not work here.
fn sanitized(name: &str) -> Option<(u64, u64)> {
    let program = compile(name, &["-fsanitize=leak", "-pthread"]);
    let output = Command::new(program).env_remove("LD_PRELOAD").output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    let Some(summary) = said.lines().find(|line| line.starts_with("SUMMARY: LeakSanitizer:"))
    else {
        // It ends a program in which it finds something with a status of its own.
        let silent = output.status.success() && said.is_empty();
        return silent.then_some((0, 0));
    };
    let numbers: Vec<u64> =
        summary.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [bytes, blocks] = numbers[..] else { panic!("{summary}") };
    Some((blocks, bytes))
}

fn lost_as_the_sanitizer_says(name: &str) {
    let name = format!("crosscheck/{name}.c");
    let Some(expected) = sanitized(&name) else {
        return println!("not covered here: LeakSanitizer cannot look at {name}");
    };
    let program = compile(&name, &["-pthread"]);
    for native in ["leaf", "full"] {
        let ran = Run::new([&program])
            .env("PYSHIM_FOLLOW", "all")
            .env("PYSHIM_NATIVE", native)
            .env("PYSHIM_SNAPSHOT", "exit")
            .shim()
            .success();
        let heap = heap(&ran);
        let found = in_state(&heap, State::Leaked);
        assert_eq!(found, expected, "{name}: blocks and bytes; {:?}", heap.sites);
    }
}

#[test]
fn blocks_are_lost_as_the_sanitizer_says() {
    lost_as_the_sanitizer_says("lost_blocks");
}

#[test]
fn lists_are_lost_as_the_sanitizer_says() {
    lost_as_the_sanitizer_says("lost_list");
}

#[test]
fn trees_are_lost_as_the_sanitizer_says() {
    lost_as_the_sanitizer_says("lost_tree");
}

#[test]
fn rings_are_lost_as_the_sanitizer_says() {
    lost_as_the_sanitizer_says("lost_ring");
}

#[test]
fn static_data_holds_as_the_sanitizer_says() {
    lost_as_the_sanitizer_says("held_static");
}

#[test]
fn a_stack_holds_as_the_sanitizer_says() {
    lost_as_the_sanitizer_says("held_stack");
}

#[test]
fn addresses_inside_of_blocks_hold_as_the_sanitizer_says() {
    lost_as_the_sanitizer_says("held_inside");
}

#[test]
fn threads_hold_as_the_sanitizer_says() {
    lost_as_the_sanitizer_says("held_thread");
}

/// What `crosscheck/graph.py` says of one of its objects.
#[derive(Deserialize)]
struct Chosen {
    #[serde(rename = "type")]
    type_name: String,
    address: u64,
    referrers: HashSet<u64>,
    distance: usize,
    objgraph: Option<usize>,
}

/// What `crosscheck/graph.py` says.
#[derive(Deserialize)]
struct Known {
    types: BTreeMap<String, u64>,
    objects: Vec<Chosen>,
    referents: HashMap<String, Vec<u64>>,
}

impl Known {
    /// Whether `to` is among the referents of `from`, or of what these refer to.
    fn leads(&self, from: u64, to: u64) -> bool {
        let mut now = vec![from];
        for _ in 0..3 {
            let referents = |at: &u64| self.referents.get(&at.to_string()).into_iter().flatten();
            let next: Vec<u64> = now.iter().flat_map(referents).copied().collect();
            if next.contains(&to) {
                return true;
            }
            now = next;
        }
        false
    }
}

/// Objects of these types come and go with the counting itself, are not all tracked, or are static.
const NOT_COMPARED: [&str; 8] = [
    "dict",
    "tuple",
    "list",
    "frame",
    "frozenset",
    "type",
    "Counter",
    "builtin_function_or_method",
];

/// A folder with objgraph, if it can be had.
fn objgraph(interpreter: &Interpreter) -> Option<PathBuf> {
    const VERSION: &str = "objgraph==3.6.2";
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?;
    let folder = cache.join("pyshim").join(format!("{VERSION}-3.{}", interpreter.minor));
    if !folder.join("objgraph.py").exists() {
        if !long() {
            return None;
        }
        let output = Command::new(&interpreter.path)
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target"])
            .arg(&folder)
            .arg(VERSION)
            .current_dir(root())
            .output();
        output.ok().filter(|output| output.status.success())?;
    }
    Some(folder)
}

fn graph(interpreter: &Interpreter, objgraph: Option<&Path>) -> (Ran, Known) {
    let mut run = python(interpreter, "graph.py");
    if let Some(folder) = objgraph {
        run = run.arg(folder.to_str().expect("UTF-8"));
    }
    let ran = run.shim().success();
    let known = serde_json::from_str(&ran.stdout()).expect("what it says is JSON");
    (ran, known)
}

#[test]
fn objects_by_type_are_the_collectors() {
    on_some_interpreters(|interpreter| {
        let (ran, known) = graph(interpreter, None);
        let heap = heap(&ran);
        let (mut compared, mut wrong) = (0, Vec::new());
        for (name, &counted) in &known.types {
            // Types are named by their last component there.
            let whole: Vec<&str> = heap
                .types
                .iter()
                .map(|one| heap.text(one.name))
                .filter(|whole| whole == name || whole.ends_with(&format!(".{name}")))
                .collect();
            let mut names = whole.clone();
            names.dedup();
            if NOT_COMPARED.contains(&name.as_str()) || names.len() != 1 {
                continue;
            }
            let found = objects(&heap, names[0]);
            // Some of a type need not be tracked, and the end of the program frees a few, or makes them.
            if found.abs_diff(counted) > counted / 50 + 2 {
                wrong.push(format!("{found} of {name}, not {counted}"));
            }
            compared += 1;
        }
        assert_eq!(wrong, Vec::<String>::new(), "CPython {}", interpreter.version);
        assert!(compared > 40, "CPython {}: {compared} types compared", interpreter.version);
    });
}

#[test]
fn paths_are_made_of_referrers() {
    on_some_interpreters(|interpreter| {
        let folder = objgraph(interpreter);
        if folder.is_none() {
            println!("not covered here: objgraph on CPython {}", interpreter.version);
        }
        let (ran, known) = graph(interpreter, folder.as_deref());
        heap(&ran);
        assert!(known.objects.len() > 25, "{} objects", known.objects.len());
        for one in &known.objects {
            let said = format!("CPython {}: {}", interpreter.version, one.type_name);
            let found = why(&ran, &one.type_name);
            let ways = found["ways"].as_array().expect("ways");
            let path = ways.first().and_then(|way| way["path"].as_array()).expect("a path");
            let hex = |stop: &Value| {
                let text = stop["address"].as_str()?.strip_prefix("0x")?;
                u64::from_str_radix(text, 16).ok()
            };
            let addresses: Vec<u64> = path.iter().filter_map(hex).collect();
            assert_eq!(addresses.len(), path.len(), "{said}: {path:#?}");
            let [.., parent, own] = addresses[..] else { panic!("{said}: {path:#?}") };
            assert_eq!(own, one.address, "{said}: {path:#?}");
            // The one before the last refers to it, or to something that does: its dict, a cell.
            let direct = one.referrers.contains(&parent);
            assert!(direct || known.leads(parent, own), "{said}: {path:#?}");
            assert!(known.leads(parent, own), "{said}: referents do not lead there; {path:#?}");
            // People's names leave steps out; more than the shortest there are never.
            assert!(path.len() - 1 <= one.distance, "{said}: {} steps; {path:#?}", one.distance);
            if let Some(length) = one.objgraph {
                assert!(path.len() - 1 <= length, "{said}: objgraph has {length}; {path:#?}");
            }
        }
    });
}

#[test]
fn retained_sizes_are_those_of_a_search_without_the_object() {
    on_some_interpreters(|interpreter| {
        for seed in 1..=if long() { 5 } else { 2 } {
            let ran = python(interpreter, "retained.py").arg(&seed.to_string()).shim().success();
            heap(&ran);
            let known: BTreeMap<String, u64> =
                serde_json::from_str(&ran.stdout()).expect("what it says is JSON");
            assert!(known.len() > 20, "{} objects", known.len());
            let wrong: Vec<String> = known
                .iter()
                .map(|(name, &expected)| (name, expected, number(&why(&ran, name)["retained"])))
                .filter(|(_, expected, found)| found != expected)
                .map(|(name, expected, found)| format!("{name}: {found}, not {expected}"))
                .collect();
            assert_eq!(wrong, Vec::<String>::new(), "CPython {}, {seed}", interpreter.version);
        }
    });
}

/// The value of an attribute in a line of `malloc_info`'s XML that has all of `texts`; of the last such.
fn last_of(xml: &str, texts: &[&str], attribute: &str) -> u64 {
    let fits = |line: &&str| texts.iter().all(|text| line.contains(text));
    let line = xml.lines().rfind(fits).unwrap_or_else(|| panic!("{texts:?} not in {xml}"));
    let value = line.split(&format!("{attribute}=\"")).nth(1).and_then(|it| it.split('"').next());
    value.and_then(|it| it.parse().ok()).unwrap_or_else(|| panic!("{attribute} not in {line}"))
}

/// A number of `sys._debugmallocstats`: `# bytes in … = 1,234`.
fn stated(text: &str, name: &str) -> u64 {
    let line = text.lines().find(|line| line.contains(name));
    let line = line.unwrap_or_else(|| panic!("{name} not in {text}"));
    let value = line.rsplit('=').next().unwrap_or_default().trim().replace(',', "");
    value.parse().unwrap_or_else(|_| panic!("{line}"))
}

fn within_5_percent(what: &str, found: u64, expected: u64) {
    assert!(found.abs_diff(expected) <= expected / 20, "{what}: {found}, not {expected}");
}

#[test]
fn what_is_free_is_free_by_the_allocators_account() {
    on_some_interpreters(|interpreter| {
        let ran = python(interpreter, "slack.py").shim().success();
        let heap = heap(&ran);
        let row = |kind: MemoryKind| {
            let row = heap.memory.iter().find(|row| row.kind == kind);
            row.unwrap_or_else(|| panic!("no such row: {:?}", heap.memory)).resident
        };
        let version = &interpreter.version;
        let said: Value = serde_json::from_str(&ran.stdout()).expect("what it says is JSON");
        let libc = row(MemoryKind::LibcSlack);
        within_5_percent(
            &format!("CPython {version}: free by mallinfo2"),
            libc,
            number(&said["fordblks"]),
        );
        let xml = std::fs::read_to_string(ran.dir().join("malloc_info.xml")).expect("its file");
        let mut free = last_of(&xml, &["<total", "\"rest\""], "size");
        // Newer C libraries have no such bins any more.
        if xml.contains("\"fast\"") {
            free += last_of(&xml, &["<total", "\"fast\""], "size");
        }
        within_5_percent(&format!("CPython {version}: free by malloc_info"), libc, free);
        let heaps = heap.arenas.iter().filter(|arena| arena.kind < 2);
        within_5_percent(
            &format!("CPython {version}: the heaps by malloc_info"),
            heaps.map(|arena| arena.resident).sum(),
            last_of(&xml, &["<system", "\"current\""], "size"),
        );
        // pymalloc does not speak while its functions are hooked; it does the same work without.
        let stats = python(interpreter, "slack.py").bare().success().stderr();
        let used = stated(&stats, "bytes in allocated blocks");
        let total = stated(&stats, "bytes in available blocks")
            + stated(&stats, "bytes lost to pool headers")
            + stated(&stats, "bytes lost to quantization")
            + stated(&stats, "bytes lost to arena alignment");
        within_5_percent(
            &format!("CPython {version}: free by sys._debugmallocstats"),
            row(MemoryKind::PymallocSlack),
            total,
        );
        let pymalloc = heap.arenas.iter().find(|arena| arena.kind == 2).expect("pymalloc");
        within_5_percent(&format!("CPython {version}: pymalloc's blocks"), pymalloc.live, used);
    });
}
