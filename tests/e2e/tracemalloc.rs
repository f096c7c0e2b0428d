//! Line by line the dump agrees with tracemalloc's own snapshot of the same moment,
//! on code of the standard library at work.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use pyshim_dump::record::{Frame, Origin};
use pyshim_dump::{Amount, Dump};
use pyshim_reporter::python;
use pyshim_tests::{Interpreter, Run, interpreters, long, on_every_interpreter, program, read};

type Lines = BTreeMap<(String, u32), Amount>;

/// tracemalloc's records, which lie below it: one of 16 bytes for each block (from 3.9
/// on), one of 24 for each line, and from 3.15 on a copy of each file's name, made at the
/// first line of the file. It asks Python's raw allocator for them, at the traced line.
fn is_bookkeeping(live: Amount, file: &str) -> bool {
    let records = |blocks: u64, bytes: u64| (16 * blocks..=24 * blocks).contains(&bytes);
    let copy = file.len() as u64 + 1;
    records(live.blocks, live.bytes)
        || live.blocks > 0 && live.bytes >= copy && records(live.blocks - 1, live.bytes - copy)
}

/// Python blocks by the line of the innermost Python frame.
fn lines(dump: &Dump) -> Lines {
    let mut lines = Lines::new();
    for site in &dump.sites {
        let Some(stack) = site.stack.as_ref().filter(|stack| stack.origin.is_python()) else {
            continue;
        };
        let innermost = dump.frames(stack).find_map(|frame| match frame {
            Frame::Python { code, instruction, .. } => Some((code, instruction)),
            Frame::Native { .. } => None,
        });
        let Some((code, instruction)) = innermost else { continue };
        let frame = python::frame(dump, code, instruction);
        if stack.origin == Origin::Raw && is_bookkeeping(site.totals.live(), &frame.file) {
            continue;
        }
        let sum = lines.entry((frame.file, frame.line.unwrap_or(0))).or_default();
        *sum = *sum + site.totals.live();
    }
    lines
}

fn traced(path: &Path) -> Lines {
    let text = std::fs::read_to_string(path).expect("tracemalloc's lines");
    let line = |line: &str| {
        let mut fields = line.splitn(4, ' ');
        let mut number = || fields.next()?.parse::<u64>().ok();
        let (bytes, blocks, line) = (number()?, number()?, number()?);
        Some(((fields.next()?.to_owned(), line as u32), Amount { blocks, bytes }))
    };
    text.lines().map(|one| line(one).expect("a line of the snapshot")).collect()
}

fn near(found: u64, expected: u64) -> bool {
    found.abs_diff(expected) <= expected / 100
}

/// The short set: an old, a middle and a new version, where there are any of them.
const SHORT: [u32; 3] = [8, 12, 15];

fn check(interpreter: &Interpreter, workload: &str, view: &str) {
    let short = |one: &Interpreter| SHORT.contains(&one.minor);
    if !long() && !short(interpreter) && interpreters().iter().any(short) {
        return;
    }
    let ran = Run::python(interpreter, "snapshot.py").arg(workload).arg(view).shim();
    assert_eq!(ran.output.status.signal(), Some(libc::SIGKILL), "{}", ran.stderr());
    let before = lines(&read(&ran.dir().join("before")));
    let found = lines(&ran.dump());
    let traced = traced(&ran.dir().join("traced"));
    // What the program itself does goes on after the snapshot.
    let own = program("snapshot.py").to_string_lossy().into_owned();
    let is_main = |line: u32| {
        let source = std::fs::read_to_string(&own).expect("the program's source");
        let main =
            source.lines().position(|line| line.starts_with("class Tracer")).expect("its end");
        line as usize > main
    };
    let compared = |(file, line): &(String, u32)| {
        let older = before.get(&(file.clone(), *line)).is_some_and(|older| older.blocks > 0);
        !older && file != "<unknown>" && !(file.ends_with("snapshot.py") && is_main(*line))
    };
    let mut wrong = Vec::new();
    let (mut sum, mut expected_sum, mut large) = (Amount::default(), Amount::default(), 0);
    let all = traced.keys().chain(found.keys()).filter(|line| compared(line));
    let all: std::collections::BTreeSet<_> = all.collect();
    for line in all {
        let expected = traced.get(line).copied().unwrap_or_default();
        let got = found.get(line).copied().unwrap_or_default();
        sum = sum + got;
        expected_sum = expected_sum + expected;
        if expected.bytes.max(got.bytes) < 4096 {
            continue;
        }
        large += 1;
        if !near(got.bytes, expected.bytes) || !near(got.blocks, expected.blocks) {
            wrong.push(format!("{}:{}: {got:?} instead of {expected:?}", line.0, line.1));
        }
    }
    if !near(sum.bytes, expected_sum.bytes) || !near(sum.blocks, expected_sum.blocks) {
        wrong.push(format!("in all {sum:?} instead of {expected_sum:?}"));
    }
    println!("{workload}, {view}, {}: {large} lines, {expected_sum:?}", interpreter.version);
    assert!(
        expected_sum.bytes > 500_000 && large >= 5,
        "too little: {large} lines, {expected_sum:?}"
    );
    assert!(
        wrong.is_empty(),
        "{workload}, {view}, CPython {}, {large} lines:\n{}",
        interpreter.version,
        wrong.join("\n")
    );
}

/// The same twice: by the line that asked the allocator for the block, and as
/// tracemalloc is, where an object that comes from a free list counts at the line that took it.
macro_rules! workloads {
    ($($(#[$attribute:meta])* $name:ident: $workload:literal,)*) => {
        mod blocks {
            $(#[test]
            $(#[$attribute])*
            fn $name() {
                super::on_every_interpreter(|one| super::check(one, $workload, "blocks"));
            })*
        }

        mod objects {
            // Run them with `cargo test -- --ignored` to see how far it goes.
            $(#[test]
            #[ignore = "a limit: an object from a free list keeps the line that first asked for it"]
            fn $name() {
                super::on_every_interpreter(|one| super::check(one, $workload, "objects"));
            })*
        }
    };
}

workloads! {
    json_in_c_and_in_python: "json",
    the_parser_and_the_compiler: "ast",
    xml_trees_and_documents: "xml",
    mail: "email",
    rows_and_numbers: "database",
    text_and_arguments: "text",
    dates_and_logs: "objects",
}
