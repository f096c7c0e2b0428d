//! Programs whose survivors are known: live bytes and blocks must be right to the byte.
//!
//! Each program prints what each of its functions `keep_…` keeps. A block belongs
//! to the innermost such function of its native stack.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use pyshim_dump::record::{Frame, Origin};
use pyshim_dump::{Amount, Dump, Mode, Stack};
use pyshim_tests::{Run, compile};

/// Functions of a program by address, from its symbol table.
struct Functions(BTreeMap<u64, String>);

impl Functions {
    fn of(program: &Path) -> Functions {
        let output = Command::new("nm")
            .args(["--defined-only", "--demangle"])
            .arg(program)
            .output()
            .expect("nm runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut functions = BTreeMap::new();
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let mut fields = line.splitn(3, ' ');
            let (Some(at), Some(kind), Some(name)) = (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            if matches!(kind, "t" | "T" | "w" | "W") {
                let at = u64::from_str_radix(at, 16).expect("an address");
                functions.insert(at, name.split('(').next().unwrap_or(name).to_owned());
            }
        }
        Functions(functions)
    }

    /// The function that the call before `return_address` belongs to.
    fn name(&self, return_address: u64) -> Option<&str> {
        self.0.range(..return_address).next_back().map(|(_, name)| name.as_str())
    }

    /// The innermost `keep_…` of a stack.
    fn keeper(&self, dump: &Dump, stack: &Stack, program: &Path) -> Option<&str> {
        dump.frames(stack).find_map(|frame| {
            let Frame::Native { pc } = frame else { return None };
            let module = dump.module_of(stack, pc - 1)?;
            if Path::new(&module.loaded.path) != program {
                return None;
            }
            self.name(pc - module.loaded.bias).filter(|name| name.starts_with("keep_"))
        })
    }
}

type Kept = BTreeMap<(String, String), Amount>;

fn expected(stdout: &str) -> Kept {
    let mut kept = Kept::new();
    for line in stdout.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let [kind, function, blocks, bytes] = fields[..] else { panic!("{line}") };
        let number = |text: &str| text.parse().expect("a number");
        let amount = Amount { blocks: number(blocks), bytes: number(bytes) };
        kept.insert((kind.to_owned(), function.to_owned()), amount);
    }
    assert!(!kept.is_empty(), "the program says nothing");
    kept
}

fn found(dump: &Dump, program: &Path) -> Kept {
    let functions = Functions::of(program);
    let mut kept = Kept::new();
    for site in &dump.sites {
        let live = site.totals.live();
        let Some(stack) = site.stack.as_ref() else {
            assert_eq!(live, Amount::default(), "blocks of an unknown site");
            continue;
        };
        let Some(function) = functions.keeper(dump, stack, program) else { continue };
        let kind = match stack.origin {
            Origin::Native => "heap",
            Origin::Mapping | Origin::SharedMemory => "mapped",
            other => panic!("{other:?} in a program without Python"),
        };
        let sum = kept.entry((kind.to_owned(), function.to_owned())).or_default();
        *sum = *sum + live;
    }
    kept
}

/// Runs it several ways and compares each function's live bytes and blocks.
#[test]
fn errno_is_left_alone() {
    let program = compile("errno.c", &["-O0"]);
    let ran = Run::new([&program]).env("PYSHIM_FOLLOW", "all").shim().success();
    assert_eq!(ran.stderr(), "");
    let count = ran.dump().sites.len();
    assert!(count > 20, "{count} stacks");
}

fn check(name: &str, flags: &[&str]) {
    let program = compile(name, flags);
    let mut failures = Vec::new();
    for native in ["leaf", "full"] {
        let ran = Run::new([&program])
            .env("PYSHIM_FOLLOW", "all")
            .env("PYSHIM_NATIVE", native)
            .shim()
            .success();
        assert_eq!(ran.stderr(), "");
        let dump = ran.dump();
        assert_eq!(dump.mode, Mode::Exact);
        assert!(!dump.inexact, "{:?}", dump.notes);
        let (expected, found) = (expected(&ran.stdout()), found(&dump, &program));
        for (what, &amount) in &expected {
            let got = found.get(what).copied().unwrap_or_default();
            if got != amount {
                failures.push(format!("{native}: {what:?}: {got:?} instead of {amount:?}"));
            }
        }
        for (what, &got) in found.iter().filter(|(what, _)| !expected.contains_key(what)) {
            if got != Amount::default() {
                failures.push(format!("{native}: {what:?}: {got:?} unannounced"));
            }
        }
    }
    assert!(failures.is_empty(), "{name}:\n{}", failures.join("\n"));
}

#[test]
fn every_function_of_the_heap() {
    check("exact_functions.c", &[]);
}

#[test]
fn every_form_of_new() {
    check("exact_new.cpp", &["-std=c++17"]);
}

#[test]
fn mappings_cut_at_every_place() {
    check("exact_mappings.c", &[]);
}

#[test]
fn threads_and_their_heirs() {
    check("exact_threads.c", &["-pthread"]);
}

#[test]
fn frames_of_any_size() {
    check("exact_frames.c", &[]);
    check("exact_frames.c", &["-fno-omit-frame-pointer"]);
    check("exact_frames.c", &["-O0"]);
}

#[test]
fn more_blocks_than_a_word_holds() {
    check("exact_many.c", &["-pthread"]);
}

/// What one library allocated is not told as what another did that was loaded where it had been.
#[test]
fn libraries_at_one_address() {
    let program = compile("plugins.c", &[]);
    let library = |size: u64| {
        let flags = ["-shared", "-fPIC", &format!("-DSIZE={size}")];
        (compile("plugins.c", &flags).to_str().expect("a path").to_owned(), size)
    };
    let [one, other] = [library(100), library(1000)];
    for native in ["leaf", "full"] {
        let turns = [&one, &other, &one, &one, &other];
        let run = Run::new([&program]).env("PYSHIM_FOLLOW", "all").env("PYSHIM_NATIVE", native);
        let ran = turns.iter().fold(run, |run, (path, _)| run.arg(path)).shim().success();
        let (stdout, dump) = (ran.stdout(), ran.dump());
        let places: Vec<&str> = stdout.lines().collect();
        assert!(places.iter().all(|place| *place == places[0]), "not one address: {stdout}");
        for (path, size) in [&one, &other] {
            let blocks = turns.iter().filter(|(turn, _)| turn == path).count() as u64 * 100;
            let expected = Amount { blocks, bytes: blocks * size };
            let of_library = |stack: &Stack| {
                dump.frames(stack).any(|frame| {
                    let Frame::Native { pc } = frame else { return false };
                    dump.module_of(stack, pc - 1).is_some_and(|it| it.loaded.path == *path)
                })
            };
            let sites =
                dump.sites.iter().filter(|site| site.stack.as_ref().is_some_and(of_library));
            let found = sites.fold(Amount::default(), |sum, site| sum + site.totals.live());
            assert_eq!(found, expected, "{native}: {path}");
        }
    }
}
