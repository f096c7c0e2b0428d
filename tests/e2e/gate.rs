//! `reporter diff` and `reporter check` over dumps of real processes: what changed in a program is
//! named with its line, and nothing else is.

use std::path::Path;
use std::process::{Command, Output};

use pyshim_tests::{Interpreter, Ran, Run, interpreters, on_every_interpreter, program, reporter};
use serde_json::Value;

/// The benchmark as it stands.
fn benchmark() -> String {
    std::fs::read_to_string(program("gate.py")).expect("the program")
}

/// With a line that keeps five megabytes.
fn leaking() -> String {
    let line = "        row = parse(number)\n";
    let text =
        benchmark().replace(line, &format!("{line}        LEAKED.append(bytearray(2500))\n"));
    assert_ne!(text, benchmark());
    // A list of its own: what another grows to is paid by whoever appends next.
    text.replace("KEPT = []\n", "KEPT = []\nLEAKED = []\n")
}

/// The name of the line with `words` in it.
fn site(text: &str, words: &str, function: &str) -> String {
    let line = 1 + text.lines().position(|line| line.contains(words)).expect("the line");
    format!("app.py:{line} {function}")
}

fn leak_site() -> String {
    site(&leaking(), "bytearray(2500)", "load")
}

/// 40 lines further down, and with lines inserted into its functions.
fn moved() -> String {
    let text =
        benchmark().replace("KEPT = []\n", &format!("{}KEPT = []\n", "# moved\n".repeat(40)));
    let text = text.replace("    total = 0\n", "    total = 0\n    assert not total\n");
    let line = "        row = parse(number)\n";
    text.replace(line, &format!("        assert rows\n{line}"))
}

/// A run of a text as `app.py`, in a folder of its own.
fn run(interpreter: &Interpreter, text: &str, noise: u32, arguments: &[&str]) -> Ran {
    let python = interpreter.path.to_str().expect("UTF-8");
    let run = Run::new([&[python, "app.py"], arguments].concat());
    std::fs::write(run.dir().join("app.py"), text).expect("the program is written");
    // The order of hashes is noise of its own, which no limit is meant for.
    run.env("NOISE", &noise.to_string()).env("PYTHONHASHSEED", "0").shim().success()
}

fn ask(arguments: &[&str]) -> Output {
    Command::new(reporter()).args(arguments).output().expect("the reporter runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

fn path(ran: &Ran) -> &str {
    ran.dump_path().to_str().expect("UTF-8")
}

/// What `reporter diff --format json` says.
fn diff(arguments: &[&str]) -> Value {
    let output = ask(&[&["diff", "--format", "json"], arguments].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Each site that changed, with what did.
fn changed(found: &Value) -> Vec<String> {
    let of = |site: &Value| {
        let changes = site["changes"].as_array().expect("changes").iter();
        let changes = changes.filter(|change| change["verdict"] != "quiet");
        let figures = changes.map(|it| format!("{} {} {}", it["metric"], it["old"], it["new"]));
        let figures: Vec<String> = figures.collect();
        format!("{}: {}", site["name"], figures.join(", "))
    };
    found["sites"].as_array().expect("sites").iter().map(of).collect()
}

fn assert_quiet(found: &Value) {
    assert_eq!(found["sites_changed"], 0, "{:#?}", changed(found));
    let totals = found["totals"].as_array().expect("totals");
    assert!(totals.iter().all(|total| total["verdict"] == "quiet"), "{:#}", found["totals"]);
}

#[test]
fn the_same_program_twice_is_no_difference() {
    on_every_interpreter(|interpreter| {
        let [old, new] = [0, 1].map(|_| run(interpreter, &benchmark(), 100, &[]));
        assert_quiet(&diff(&[path(&old), path(&new)]));
        let output = ask(&["check", path(&new), "--baseline", path(&old)]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    });
}

#[test]
fn lines_that_moved_are_no_difference() {
    on_every_interpreter(|interpreter| {
        let old = run(interpreter, &benchmark(), 100, &[]);
        let new = run(interpreter, &moved(), 100, &[]);
        assert_quiet(&diff(&[path(&old), path(&new)]));
        // Without the sources the dumps have to tell.
        std::fs::remove_file(old.dir().join("app.py")).expect("it was there");
        assert_quiet(&diff(&[path(&old), path(&new)]));
    });
}

#[test]
fn a_source_that_was_changed_since_tells_nothing_wrong() {
    on_every_interpreter(|interpreter| {
        let old = run(interpreter, &benchmark(), 100, &[]);
        let new = run(interpreter, &moved(), 100, &[]);
        // A checkout of another commit at the same place, after the old run.
        std::fs::write(old.dir().join("app.py"), moved()).expect("it is written");
        assert_quiet(&diff(&[path(&old), path(&new)]));
    });
}

#[test]
fn a_leak_is_named_with_its_line() {
    on_every_interpreter(|interpreter| {
        let old = run(interpreter, &benchmark(), 100, &[]);
        let new = run(interpreter, &leaking(), 100, &[]);
        let found = diff(&[path(&old), path(&new)]);
        assert_eq!(found["sites_changed"], 1, "{:#?}", changed(&found));
        let site = &found["sites"][0];
        assert_eq!(site["presence"], "new");
        assert_eq!(site["name"], leak_site());
        let survivors = &site["changes"][0];
        let grown = survivors["difference"].as_u64().expect("a difference");
        // 2000 blocks, with their objects and the list.
        assert!((5_000_000..5_400_000).contains(&grown), "{grown}");

        let check = ["check", path(&new), "--baseline", path(&old), "--max-increase"];
        let output = ask(&[&check[..], &["10%"]].concat());
        let said = text(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{said}");
        let gate =
            said.lines().position(|line| line.starts_with("EXCEEDED max-increase survivors"));
        let named = said.lines().nth(gate.expect("the gate") + 1).expect("a site");
        assert!(named.trim_start().starts_with(&leak_site()), "{said}");
        assert!(named.contains("(0 B → ") && named.contains(" MiB)"), "{said}");
        let output = ask(&[&check[..], &["20MiB"]].concat());
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
        // What was taken out is no increase.
        let output = ask(&["check", path(&old), "--baseline", path(&new)]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    });
}

#[test]
fn what_is_noisy_between_baselines_is_quiet() {
    on_every_interpreter(|interpreter| {
        let [one, two, new] = [300, 500, 440].map(|it| run(interpreter, &benchmark(), it, &[]));
        let found = diff(&[path(&one), path(&new)]);
        assert_eq!(
            found["sites"][0]["name"],
            site(&benchmark(), "bytearray(900)", "noisy"),
            "one baseline measures nothing"
        );
        assert_quiet(&diff(&[path(&one), path(&new), "--old", path(&two)]));
        // The leak stands out from the noise beside it.
        let leak = run(interpreter, &leaking(), 440, &[]);
        let found = diff(&[path(&one), path(&leak), "--old", path(&two)]);
        assert_eq!(found["sites_changed"], 1, "{:#?}", changed(&found));
        assert_eq!(found["sites"][0]["name"], leak_site());
        let check = ["check", path(&leak), "--baseline", path(&one), "--baseline", path(&two)];
        assert_eq!(ask(&check).status.code(), Some(1));
    });
}

#[test]
fn versions_of_the_interpreter_match() {
    let [first, .., last] = interpreters() else { return };
    let old = run(first, &benchmark(), 100, &[]);
    let new = run(last, &leaking(), 100, &[]);
    let found = diff(&[path(&old), path(&new)]);
    let own: Vec<&str> = found["sites"]
        .as_array()
        .expect("sites")
        .iter()
        // What an interpreter does not keep, it may ask for in its own way.
        .filter(|site| site["presence"] != "both" && site["changes"][0]["verdict"] != "quiet")
        .filter_map(|site| site["name"].as_str().filter(|name| name.starts_with("app.py")))
        // Nor is what an import or the standard library needs the program's affair.
        .filter(|name| !name.contains("<module>") && !name.contains('('))
        .collect();
    assert_eq!(own, [leak_site()]);
}

#[test]
fn every_gate_opens_and_closes() {
    on_every_interpreter(|interpreter| {
        let new = run(interpreter, &benchmark(), 2000, &[]);
        for (option, holds, exceeded) in [
            ("--max-peak", "64MiB", "1MiB"),
            ("--max-survivors", "64MiB", "1MiB"),
            ("--max-survivors", "1000000", "1000"),
            ("--max-allocated", "1GiB", "1MiB"),
            ("--max-allocated", "10000000", "1000"),
        ] {
            let output = ask(&["check", path(&new), option, holds]);
            assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
            let output = ask(&["check", path(&new), option, exceeded]);
            let said = text(&output.stdout);
            assert_eq!(output.status.code(), Some(1), "{said}");
            assert!(
                said.contains(&format!("EXCEEDED {} ", option.trim_start_matches('-'))),
                "{said}"
            );
        }
        let output = ask(&["check", path(&new), "--max-peak", "1MiB"]);
        assert!(
            text(&output.stdout).contains(&site(&benchmark(), "bytearray(900)", "noisy")),
            "{}",
            text(&output.stdout)
        );
    });
}

#[test]
fn growth_is_gated_where_the_run_is_long_enough() {
    let interpreter = interpreters().last().expect("one");
    // 20 kB a hundred times a second, at most.
    let new = run(interpreter, &benchmark(), 0, &["3.5"]);
    let output = ask(&["check", path(&new), "--max-growth", "10KiB/s"]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}{}", text(&output.stderr));
    assert!(said.contains(&site(&benchmark(), "bytearray(20_000)", "serve")), "{said}");
    let output = ask(&["check", path(&new), "--max-growth", "100MiB/s"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    let short = run(interpreter, &benchmark(), 0, &[]);
    refused(&["check", path(&short), "--max-growth", "10KiB/s"], "too short");
}

/// What a shell starts is of the run of whoever started the shell: its memory adds to that.
#[test]
fn a_child_beyond_a_shell_is_of_the_same_run() {
    let interpreter = interpreters().last().expect("one");
    let python = interpreter.path.to_str().expect("UTF-8");
    let run = Run::new([python, "main.py"]);
    let main = format!(
        "import subprocess\nkept = bytes(1 << 20)\n\
         subprocess.run(\"'{python}' child.py; true\", shell=True, check=True)\n"
    );
    std::fs::write(run.dir().join("main.py"), main).expect("the program is written");
    std::fs::write(run.dir().join("child.py"), "kept = bytes(40 << 20)\n")
        .expect("so is the other");
    let ran = run.shim().success();
    assert_eq!(ran.dumps.len(), 2, "{:?}", ran.dumps);
    let paths: Vec<&str> = ran.dumps.iter().map(|it| it.to_str().expect("UTF-8")).collect();
    let output = ask(&["check", paths[0], paths[1], "--max-survivors", "30MiB"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
}

/// A program that loses blocks which it asked the C library for.
const LOST: &str = "\
import ctypes
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_size_t
libc.malloc.argtypes = [ctypes.c_size_t]
def lose():
    libc.malloc(4000)
for number in range(500):
    lose()
del number
";

#[test]
fn what_nothing_will_free_is_gated() {
    on_every_interpreter(|interpreter| {
        let python = interpreter.path.to_str().expect("UTF-8");
        let run = Run::new([python, "app.py"]);
        std::fs::write(run.dir().join("app.py"), LOST).expect("the program is written");
        // However short the program is.
        let ran = run.env("PYSHIM_SNAPSHOT", "exit").shim().success();
        let output = ask(&["check", path(&ran), "--max-leak", "1MiB"]);
        let said = text(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{said}{}", text(&output.stderr));
        assert!(said.contains("app.py:6"), "{said}");
        let output = ask(&["check", path(&ran), "--max-leak", "3MiB"]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    });
}

fn refused(arguments: &[&str], words: &str) {
    let output = ask(arguments);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(output.stdout.is_empty() && said.lines().count() == 1, "{said}");
    assert!(said.contains(words), "{said}");
}

#[test]
fn a_gate_that_cannot_be_told_is_an_error() {
    let interpreter = interpreters().last().expect("one");
    let new = run(interpreter, &benchmark(), 0, &[]);
    refused(&["check", path(&new)], "no gate is given");
    refused(&["check", path(&new), "--max-increase", "10%"], "--baseline");
    refused(&["check", path(&new), "--max-peak", "1GiB", "--baseline", "/nowhere"], "/nowhere");
}

#[test]
fn children_belong_to_their_parents_run() {
    on_every_interpreter(|interpreter| {
        let text = format!(
            "{}\nimport subprocess\nif not os.environ.get('CHILD'):\n    subprocess.run([sys.executable, __file__], env=dict(os.environ, CHILD='1'), check=True)\n",
            benchmark()
        );
        let [old, new] = [0, 1].map(|_| run(interpreter, &text, 100, &[]));
        assert_eq!(new.dumps.len(), 2, "{:?}", new.dumps);
        let folder = |ran: &Ran| ran.dir().to_str().expect("UTF-8").to_owned();
        let found = diff(&[&folder(&old), &folder(&new)]);
        assert_eq!(found["new"].as_array().map(Vec::len), Some(1));
        assert_eq!(found["new"][0].as_array().map(Vec::len), Some(2));
        assert_quiet(&found);
    });
}

/// What Python's own parser makes of JUnit XML: the names of the cases, and of those that failed.
fn junit(interpreter: &Interpreter, xml: &Path) -> (Vec<String>, Vec<String>) {
    let program = "import json, sys, xml.etree.ElementTree as tree
root = tree.parse(sys.argv[1]).getroot()
cases = list(root.iter('testcase'))
failed = [case for case in cases if case.find('failure') is not None]
suite = root.find('testsuite')
assert root.tag == 'testsuites' and int(suite.get('tests')) == len(cases)
assert int(suite.get('failures')) == len(failed)
assert all(case.get('classname') and case.find('failure').get('message') for case in failed)
print(json.dumps([[it.get('name') for it in cases], [''.join(it.itertext()) for it in failed]]))";
    let output = Command::new(&interpreter.path)
        .args(["-c", program])
        .arg(xml)
        .output()
        .expect("the interpreter runs");
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn reports_for_other_programs_are_well_formed() {
    let interpreter = interpreters().last().expect("one");
    let old = run(interpreter, &benchmark(), 100, &[]);
    let new = run(interpreter, &leaking(), 100, &[]);
    let place = leak_site();
    let xml = new.dir().join("report.xml");
    let check = ["check", path(&new), "--baseline", path(&old), "--max-increase", "10%"];
    let output = ask(&[&check[..], &["--max-peak", "1GiB", "--format", "junit"]].concat());
    assert_eq!(output.status.code(), Some(1));
    std::fs::write(&xml, &output.stdout).expect("it is written");
    let (cases, failed) = junit(interpreter, &xml);
    assert_eq!(cases.len(), 5, "{cases:?}");
    assert!(cases.contains(&"max-peak 1.0 GiB".to_owned()), "{cases:?}");
    assert!(failed.iter().any(|it| it.contains(&place) && it.contains("<module>")), "{failed:?}");

    let output = ask(&["diff", path(&old), path(&new), "--format", "junit"]);
    assert_eq!(output.status.code(), Some(0));
    std::fs::write(&xml, &output.stdout).expect("it is written");
    let (cases, failed) = junit(interpreter, &xml);
    assert!(cases.contains(&"survivors".to_owned()) && failed[0].contains(&place));

    let output = ask(&["diff", path(&old), path(&new), "--format", "markdown"]);
    let said = text(&output.stdout);
    assert!(said.starts_with("### Memory: 1 of "), "{said}");
    assert!(said.contains(&format!("| {place} · new | survivors | +")), "{said}");
    assert_eq!(said.matches("<details>").count(), said.matches("</details>").count());
    assert_eq!(said.matches("```").count() % 2, 0);
    // Each row of a table has as many cells as its head.
    let mut cells = None;
    for line in said.lines() {
        let count = line.replace("\\|", "").matches('|').count();
        let head = *cells.get_or_insert(count);
        match count {
            0 => cells = None,
            count => assert_eq!(count, head, "{line}"),
        }
    }
}
