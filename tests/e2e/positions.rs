//! The Python line of a block: each kind of code keeps a block of a size of its
//! own, says where by the interpreter's own account, and the dump must agree.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use pyshim_dump::record::{Frame, Origin};
use pyshim_dump::{Amount, Dump, Site};
use pyshim_reporter::python::{self, PythonFrame};
use pyshim_tests::compare::{compare, made_by, survivors};
use pyshim_tests::{Interpreter, Ran, Run, long, on_every_interpreter};
use serde_json::Value;

/// The Python frames of a site, innermost first.
fn frames(dump: &Dump, site: &Site) -> Vec<PythonFrame> {
    let Some(stack) = site.stack.as_ref() else {
        assert_eq!(site.totals.allocated, Amount::default(), "a site without a definition");
        return Vec::new();
    };
    let python = dump.frames(stack).filter_map(|frame| match frame {
        Frame::Python { code, instruction, .. } => Some(python::frame(dump, code, instruction)),
        Frame::Native { .. } => None,
    });
    python.collect()
}

/// Sites at which one block survives, by its size.
fn single_blocks(dump: &Dump) -> BTreeMap<u64, Vec<&Site>> {
    let mut found: BTreeMap<u64, Vec<&Site>> = BTreeMap::new();
    for site in &dump.sites {
        let survived = survivors(dump, site);
        if survived.blocks == 1 {
            found.entry(survived.bytes).or_default().push(site);
        }
    }
    found
}

fn told(ran: &Ran) -> Vec<Value> {
    let stdout = ran.stdout();
    let lines = stdout.lines().filter(|line| line.starts_with(['{', '[']));
    lines.map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

/// What is wrong with the frames that were found for what the program told.
fn compare_stacks(interpreter: &Interpreter, one: &Value, dump: &Dump, site: &Site) -> Vec<String> {
    let kind = one["kind"].as_str().expect("a kind");
    let mut wrong = Vec::new();
    let found = frames(dump, site);
    let truncated = site.stack.as_ref().is_some_and(|stack| stack.truncated);
    let expected: Vec<(String, u32, String)> =
        serde_json::from_value(one["stack"].clone()).expect("frames");
    if found.len() != expected.len() && !(truncated && found.len() >= 100) {
        wrong.push(format!("{kind}: {} frames instead of {}", found.len(), expected.len()));
    }
    for (depth, (frame, expected)) in found.iter().zip(&expected).enumerate() {
        let found = (frame.file.clone(), frame.line.unwrap_or(0), frame.function.clone());
        if found != *expected {
            wrong.push(format!("{kind}: frame {depth} is {found:?} instead of {expected:?}"));
            break;
        }
    }
    wrong
        .extend(beyond_the_loop(dump, site).map(|module| format!("{kind}: {module} is innermost")));
    if interpreter.minor >= 11 {
        let column = found.first().and_then(|frame| frame.column).map(|column| column + 1);
        match one["column"].as_u64() {
            Some(expected) if column.map(u64::from) != Some(expected) => {
                wrong.push(format!("{kind}: column {column:?} instead of {expected}"));
            }
            None if column.is_none() => wrong.push(format!("{kind}: no column")),
            _ => {}
        }
    }
    wrong
}

/// A block of `bytes` is made within the interpreter: a native frame of another library before the
/// first Python frame belongs to who called the evaluation loop, further out.
fn beyond_the_loop(dump: &Dump, site: &Site) -> Option<String> {
    let stack = site.stack.as_ref()?;
    let innermost = dump.frames(stack).map_while(|frame| match frame {
        Frame::Native { pc } => Some(dump.module_of(stack, pc - 1)?.loaded.path.clone()),
        Frame::Python { .. } => None,
    });
    innermost.into_iter().find(|module| !module.contains("python"))
}

fn check_positions(interpreter: &Interpreter, ran: Ran) {
    let ran = ran.success();
    let dump = ran.dump();
    assert!(dump.final_ns.is_some(), "the teardown was not seen: {:?}", dump.notes);
    let blocks = single_blocks(&dump);
    let told = told(&ran);
    assert!(told.len() > 90, "{}", ran.stderr());
    let mut wrong = Vec::new();
    for one in &told {
        let size = one["size"].as_u64().expect("a size");
        match blocks.get(&size).map(Vec::as_slice) {
            Some(&[site]) => wrong.extend(compare_stacks(interpreter, one, &dump, site)),
            Some(sites) => wrong.push(format!("{}: at {} sites", one["kind"], sites.len())),
            None => wrong.push(format!("{}: not found", one["kind"])),
        }
    }
    assert!(wrong.is_empty(), "CPython {}:\n{}", interpreter.version, wrong.join("\n"));
}

#[test]
fn every_kind_of_code() {
    on_every_interpreter(|interpreter| {
        let ran = Run::python(interpreter, "positions/every_kind.py").shim();
        check_positions(interpreter, ran);
    });
}

#[test]
fn every_kind_of_code_with_full_native_stacks() {
    on_every_interpreter(|interpreter| {
        let ran =
            Run::python(interpreter, "positions/every_kind.py").env("PYSHIM_NATIVE", "full").shim();
        check_positions(interpreter, ran);
    });
}

#[test]
fn every_kind_of_code_with_the_debug_allocators() {
    on_every_interpreter(|interpreter| {
        let ran = Run::python(interpreter, "positions/every_kind.py")
            .env("PYTHONMALLOC", "malloc")
            .shim();
        check_positions(interpreter, ran);
    });
}

/// Where Python frames are left out, native frames still come in their order.
#[test]
fn deep_stacks_are_in_order() {
    on_every_interpreter(|interpreter| {
        for extent in ["leaf", "full"] {
            let run = Run::python(interpreter, "positions/deep.py").env("PYSHIM_NATIVE", extent);
            let dump = run.shim().success().dump();
            let blocks = single_blocks(&dump);
            let stack = |size: u64| -> Vec<Frame> {
                match blocks.get(&(size + 33)).map(Vec::as_slice) {
                    Some(&[site]) => {
                        dump.frames(site.stack.as_ref().expect("a definition")).collect()
                    }
                    other => panic!("{extent}, {size}: at {:?} sites", other.map(<[_]>::len)),
                }
            };
            // Runs of native frames and of Python frames.
            let runs = |size: u64| -> Vec<usize> {
                let python = |frame: &Frame| matches!(frame, Frame::Python { .. });
                let same = |one: &Frame, other: &Frame| python(one) == python(other);
                stack(size).chunk_by(same).map(<[Frame]>::len).collect()
            };
            let version = &interpreter.version;
            let (shallow, deep, callback) = (runs(666_000), runs(888_000), runs(777_000));
            let what = format!("{version}, {extent}: {shallow:?}, {deep:?}, {callback:?}");
            // The same call of `bytes`, whatever the depth.
            assert!(shallow[0] == deep[0] && shallow[0] == callback[0], "{what}");
            // Before 3.11 each call of a Python function has native frames of its own.
            if extent == "full" && interpreter.minor < 11 {
                continue;
            }
            let expected = if extent == "leaf" { [2, 2, 2] } else { [5, 3, 5] };
            assert_eq!([shallow.len(), deep.len(), callback.len()], expected, "{what}");
        }
    });
}

/// What a stack shares with the one before is taken from it; the rest must still come in its place.
#[test]
fn native_calls_are_where_they_were_made() {
    on_every_interpreter(|interpreter| {
        let run = Run::python(interpreter, "positions/nested.py").env("PYSHIM_NATIVE", "full");
        let ran = run.shim().success();
        let dump = ran.dump();
        let blocks = single_blocks(&dump);
        let told: Vec<Nested> =
            serde_json::from_value(told(&ran).remove(0)).expect("sizes and names");
        assert_eq!(told.len(), 500);
        // Before 3.11 each call of a Python function has native frames of its own.
        let all = interpreter.minor >= 11;
        // Who called whom through native frames, by these.
        let mut calls = BTreeMap::new();
        for Nested { size, stack: mut expected } in told {
            let Some(&[site]) = blocks.get(&(size + 33)).map(Vec::as_slice) else {
                panic!("{expected:?}: not at one site");
            };
            let stack = site.stack.as_ref().expect("a definition");
            assert!(!all || !stack.truncated, "{expected:?}: truncated");
            let (mut found, mut natives) = (Vec::new(), Vec::new());
            for frame in dump.frames(stack) {
                match frame {
                    Frame::Native { pc } => natives.push(pc),
                    Frame::Python { code, instruction, .. } => {
                        let name = python::frame(&dump, code, instruction).function;
                        let name = name.rsplit('.').next().unwrap_or_default().to_owned();
                        if !natives.is_empty() {
                            let pair = (found.last().cloned(), name.clone());
                            let known = calls.entry(natives).or_insert_with(|| pair.clone());
                            assert!(!all || *known == pair, "{pair:?} by the frames of {known:?}");
                            found.push(None);
                            natives = Vec::new();
                        }
                        found.push(Some(name));
                    }
                }
            }
            // It is native code that makes the block, and that runs the program.
            expected.insert(0, None);
            assert_eq!(expected.pop(), Some(None));
            assert!(!all || !natives.is_empty());
            if !all {
                found.retain(Option::is_some);
                expected.retain(Option::is_some);
            }
            assert_eq!(found, expected, "CPython {}, {size}", interpreter.version);
        }
    });
}

/// What `positions/nested.py` tells of a block.
#[derive(serde::Deserialize)]
struct Nested {
    size: u64,
    stack: Vec<Option<String>>,
}

/// How deep a parser is must not make a thousand sites of one.
#[test]
fn a_recursion_is_one_stack() {
    on_every_interpreter(|interpreter| {
        for extent in ["leaf", "full"] {
            let sites = |deepest: &str| {
                let run = Run::python(interpreter, "positions/recursion.py").arg(deepest);
                let dump = run.env("PYSHIM_NATIVE", extent).shim().success().dump();
                // What the parser asks for: the rest of a program has other sites in each run.
                let parser = |site: &&Site| {
                    let innermost = frames(&dump, site).into_iter().next();
                    innermost.is_some_and(|frame| frame.function.ends_with("raw_decode"))
                };
                dump.sites.iter().filter(parser).count()
            };
            let (shallow, deep) = (sites("150"), sites("700"));
            let what =
                format!("CPython {}, {extent}: {shallow} sites, {deep}", interpreter.version);
            println!("{what}");
            assert!(shallow > 0 && deep < shallow + 8, "{what}");
        }
    });
}

/// Dead code objects leave their addresses to others; no block may be given to a wrong one.
#[test]
fn code_objects_at_the_same_address() {
    on_every_interpreter(|interpreter| {
        let ran = Run::python(interpreter, "positions/reused.py").shim().success();
        let addresses: u32 = ran.stdout().trim().parse().expect("a number");
        assert!(addresses < 500, "{addresses} addresses: too few were used again");
        let dump = ran.dump();
        let mut wrong = Vec::new();
        // The same line may be reached by several native paths, as the interpreter specializes.
        let mut made = std::collections::BTreeMap::<u64, (Amount, Amount)>::new();
        for site in &dump.sites {
            let frames = frames(&dump, site);
            let Some(name) = frames.first().map(|frame| frame.function.as_str()) else { continue };
            let Some(number) = name.strip_prefix("made_") else { continue };
            let number: u64 = number.parse().expect("a number");
            let file = format!("/no/such/made_{number}.py");
            let line = 2 + (number * 7 % 23) as u32;
            let size = 33 + 20000 + 16 * number;
            let all = site.totals.allocated;
            if all.bytes != all.blocks * size {
                // Blocks of this size are made in one function alone; smaller ones are the interpreter's.
                if all.bytes >= 20033 {
                    wrong.push(format!("{name} made {all:?}, not of {size} bytes"));
                }
                continue;
            }
            if frames[0].file != file || frames[0].line != Some(line) {
                wrong.push(format!("{name} is at {}:{:?}", frames[0].file, frames[0].line));
            }
            let sum = made.entry(number).or_default();
            *sum = (sum.0 + all, sum.1 + survivors(&dump, site));
        }
        for number in 0..1000 {
            // Once for each call, of which the last one's stays.
            let (calls, size) = (number % 20 + 1, 33 + 20000 + 16 * number);
            let wanted =
                (Amount { blocks: calls, bytes: calls * size }, Amount { blocks: 1, bytes: size });
            let found = made.get(&number).copied().unwrap_or_default();
            if found != wanted {
                wrong.push(format!("made_{number}: {found:?} instead of {wanted:?}"));
            }
        }
        assert!(wrong.is_empty(), "CPython {}:\n{}", interpreter.version, wrong.join("\n"));
    });
}

/// The interpreter hands an object from a free list to another line than the one
/// for which it asked the allocator: it belongs to the line that has it.
#[test]
#[ignore = "a limit: an object from a free list keeps the line that first asked for it"]
fn objects_from_free_lists() {
    const COUNT: u64 = 5000;
    on_every_interpreter(|interpreter| {
        let ran = Run::python(interpreter, "positions/free_lists.py").shim().success();
        let dump = ran.dump();
        let mut wrong = Vec::new();
        for kind in ["list", "tuple", "dict", "float"] {
            let blocks = |name: &str| {
                let made = made_by(&dump, &format!("{name}_{kind}"));
                made.values().map(|amount| amount.blocks).sum::<u64>()
            };
            let (kept, scratch) = (blocks("keep"), blocks("scratch"));
            if kept < COUNT * 99 / 100 || scratch > COUNT / 100 {
                wrong.push(format!("{kind}: {kept} of {COUNT}, and {scratch} where none is kept"));
            }
        }
        assert!(wrong.is_empty(), "CPython {}:\n{}", interpreter.version, wrong.join("\n"));
    });
}

/// Threads that have released the interpreter lock still stand at a Python line.
#[test]
fn native_blocks_without_the_lock() {
    on_every_interpreter(|interpreter| {
        let ran = Run::python(interpreter, "positions/native.py").shim().success();
        let dump = ran.dump();
        let places: Vec<(Origin, Amount, Option<PythonFrame>)> = dump
            .sites
            .iter()
            .filter_map(|site| {
                let origin = site.stack.as_ref()?.origin;
                Some((origin, survivors(&dump, site), frames(&dump, site).into_iter().next()))
            })
            .filter(|(_, survived, _)| survived.blocks > 0)
            .collect();
        let mut wrong = Vec::new();
        let told = told(&ran);
        assert!(told.len() >= 4, "{}", ran.stderr());
        for one in &told {
            let kind = one["kind"].as_str().expect("a kind");
            let (file, line, function): (String, u32, String) =
                serde_json::from_value(one["place"].clone()).expect("a place");
            let here = |frame: &Option<PythonFrame>| {
                frame.as_ref().is_some_and(|frame| {
                    frame.file == file && frame.line == Some(line) && frame.function == function
                })
            };
            let native = |origin| matches!(origin, Origin::Native | Origin::Raw);
            let size = one["size"].as_u64();
            let sum = places
                .iter()
                .filter(|(origin, survived, frame)| {
                    let fits = size.is_none_or(|size| survived.bytes == survived.blocks * size);
                    native(*origin) && fits && here(frame)
                })
                .fold(Amount::default(), |sum, (_, survived, _)| sum + *survived);
            if let Some(size) = size {
                let blocks = one["blocks"].as_u64().expect("a number");
                if sum != (Amount { blocks, bytes: blocks * size }) {
                    wrong
                        .push(format!("{kind}, {function}: {sum:?} instead of {blocks} of {size}"));
                }
                for (origin, survived, frame) in &places {
                    if survived.bytes == survived.blocks * size && !here(frame) {
                        wrong.push(format!(
                            "{kind}, {function}: {origin:?} {survived:?} at {frame:?}"
                        ));
                    }
                }
            } else if let Some(least) = one["at_least"].as_u64().filter(|&least| sum.bytes < least)
            {
                wrong.push(format!(
                    "{kind}, {function}:{line}: {sum:?}, not at least {least} bytes"
                ));
            }
        }
        assert!(wrong.is_empty(), "CPython {}:\n{}", interpreter.version, wrong.join("\n"));
    });
}

/// They change nothing for the program, and their blocks stand at their own lines.
#[test]
fn sub_interpreters() {
    on_every_interpreter(|interpreter| {
        let ran = compare(|| Run::python(interpreter, "positions/subinterpreters.py"));
        let told = told(&ran);
        assert!(!told.is_empty(), "no sub-interpreters in CPython {}", interpreter.version);
        let dump = ran.dump();
        let mut wrong = Vec::new();
        for one in &told {
            let (size, function): (u64, String) =
                serde_json::from_value(one.clone()).expect("a size and a function");
            let block = Amount { blocks: 1, bytes: size };
            let sites: Vec<&Site> =
                dump.sites.iter().filter(|site| site.totals.allocated == block).collect();
            let [site] = sites[..] else {
                wrong.push(format!("{function}: at {} sites", sites.len()));
                continue;
            };
            let survived = survivors(&dump, site);
            if survived != block {
                wrong.push(format!("{function}: {survived:?}"));
            }
            let frames = frames(&dump, site);
            let found = frames.first().map(|frame| frame.function.as_str());
            if found != Some(function.as_str()) {
                wrong.push(format!("{function}: {frames:?}"));
            }
        }
        assert!(wrong.is_empty(), "CPython {}:\n{}", interpreter.version, wrong.join("\n"));
    });
}

fn imports(python: &Path, module: &str) -> bool {
    let import = format!("import {module}");
    Command::new(python).args(["-c", &import]).output().is_ok_and(|out| out.status.success())
}

/// A virtual environment with `packages`, kept between runs of the long set.
fn environment(interpreter: &Interpreter, packages: &[&str]) -> Option<PathBuf> {
    let dir = std::env::temp_dir().join(format!("pyshim-greenlet-{}", interpreter.version));
    let python = dir.join("bin/python");
    if !packages.iter().all(|package| imports(&python, package)) {
        let made = Command::new(&interpreter.path).args(["-m", "venv"]).arg(&dir).output().ok()?;
        if !made.status.success() {
            return None;
        }
        let pip = ["-m", "pip", "install", "--quiet", "--only-binary=:all:"];
        let output = Command::new(&python).args(pip).args(packages).output().ok()?;
        if !output.status.success() {
            return None;
        }
    }
    Some(python)
}

/// Where greenlet is there: in the interpreter itself, or, in the long set, in an environment made for it.
#[test]
fn greenlets() {
    on_every_interpreter(|interpreter| {
        let mut with = interpreter.clone();
        if long() {
            for packages in [&["greenlet", "gevent"][..], &["greenlet"]] {
                if let Some(python) = environment(interpreter, packages) {
                    with.path = python;
                    break;
                }
            }
        }
        let (greenlet, gevent) = (imports(&with.path, "greenlet"), imports(&with.path, "gevent"));
        println!("{}: greenlet {greenlet}, gevent {gevent}", interpreter.version);
        if !greenlet {
            println!("{}: skipped, no greenlet", interpreter.version);
            return;
        }
        for extent in ["leaf", "full"] {
            let run = Run::python(&with, "positions/every_kind.py").env("PYSHIM_NATIVE", extent);
            let ran = run.shim();
            let told = told(&ran);
            let is = |kind: &str| told.iter().any(|one| one["kind"] == kind);
            assert!(is("after a greenlet"), "{}", ran.stderr());
            assert_eq!(is("after gevent"), gevent, "{}", ran.stderr());
            check_positions(&with, ran);
        }
    });
}
