//! Why memory grew: each program of `tests/cases` is run, and the report must
//! name what its top says. The list of tests is made from the folder: a program
//! cannot be forgotten.
//!
//! Each program runs on one interpreter, chosen in turn so that all of them have
//! their share; with `PYSHIM_LONG` on all of them. `PYSHIM_CASE_SECONDS` is how
//! long each runs (default 8).
//!
//! The tests `bare` run the programs without the shim and measure that the
//! leaking ones do grow, and their controls do not. They are left out unless
//! `PYSHIM_LONG` or `--include-ignored` asks for them.

use std::process::Stdio;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed, Trial};
use pyshim_tests::cases::{self, Case, Summary};
use pyshim_tests::compare::{compare, finish};
use pyshim_tests::{Interpreter, Run, interpreters, long, root};
use serde_json::Value;

fn main() {
    let mut arguments = Arguments::from_args();
    // The programs sleep more than they work.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    arguments.test_threads.get_or_insert(2 * cores);
    let cases = cases::all();
    let mut trials = vec![
        Trial::test("a_case_for_each_kind", {
            let cases = cases.clone();
            move || a_case_for_each_kind(&cases)
        }),
        Trial::test("each_case_has_its_control", {
            let cases = cases.clone();
            move || each_case_has_its_control(&cases)
        }),
    ];
    for interpreter in interpreters() {
        let name = format!("watching_changes_no_count::{}", interpreter.version);
        trials.push(Trial::test(name, move || watching_changes_no_count(interpreter)));
    }
    for (case, interpreter) in pairs(&cases) {
        let name = format!("{}::{}", case.name, interpreter.version);
        let it = case.clone();
        let left_out = !long() && !SHORT.contains(&case.name.trim_end_matches("_control"));
        let trial = Trial::test(name.clone(), move || judged(&it, interpreter, None).map(|_| ()));
        trials.push(trial.with_ignored_flag(left_out));
        if SAMPLED.contains(&case.name.trim_end_matches("_control")) {
            let it = Case { certain: false, ..case.clone() };
            let judged = move || judged(&it, interpreter, Some("64KiB")).map(|_| ());
            trials.push(Trial::test(format!("sampled::{name}"), judged));
        }
        let bare =
            Trial::test(format!("bare::{name}"), move || measured(&case, interpreter).map(|_| ()));
        trials.push(bare.with_ignored_flag(!long()));
    }
    for (case, interpreter, what) in reals() {
        let role = if case.is_control() { "fixed" } else { "leaking" };
        let name = format!("{}::{role}", case.name);
        let (it, one, text) = (case.clone(), interpreter.clone(), what.clone());
        trials.push(Trial::test(format!("real::{name}"), move || {
            noted(&it, &one, &text, judged(&it, &one, None))
        }));
        let bare = move || noted(&case, &interpreter, &what, measured(&case, &interpreter));
        trials.push(Trial::test(format!("measured::{name}"), bare).with_ignored_flag(!long()));
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    let mut table = TABLE.lock().map_or_else(|broken| broken.into_inner().clone(), |it| it.clone());
    table.sort();
    table.iter().for_each(|row| println!("{row}"));
    conclusion.exit();
}

/// The short set: a program of each kind and its control.
const SHORT: [&str; 14] = [
    "churn_string",
    "closure_cell",
    "cycles_gc_off",
    "cycles_plain_type",
    "global_list",
    "held_static_array",
    "local_threads",
    "logging_handlers",
    "mapping_mmap",
    "native_malloc",
    "native_strdup",
    "ref_ctypes",
    "ref_str",
    "retention_pymalloc",
];

/// Those that a sampled run must explain as well, from one block in some hundred.
const SAMPLED: [&str; 6] =
    ["closure_cell", "cycles_gc_off", "global_dict", "global_list", "native_strdup", "ref_str"];

/// A line for each of the real leaks, for people.
static TABLE: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Notes how a real leak, or its fixed version, did.
fn noted(
    case: &Case,
    interpreter: &Interpreter,
    what: &str,
    result: Result<String, Failed>,
) -> Result<(), Failed> {
    let (name, version) = (&case.name, &interpreter.version);
    let role = if case.is_control() { "fixed" } else { "leaking" };
    let said = match &result {
        Ok(text) => format!("ok      {text}"),
        Err(failed) => {
            let text = failed.message().unwrap_or_default();
            // The first line of several says where; the table has that already.
            let line = text.lines().nth(1).or(text.lines().next()).unwrap_or_default();
            format!("FAILED  {:.100}", line.trim())
        }
    };
    let row = format!("{name:<20} {role:<8} {what:<22} {version:<8} {said}");
    TABLE.lock().map_err(|_| "another test panicked")?.push(row);
    result.map(|_| ())
}

/// The leaks of `tests/real` that `scripts/real-leaks` has installed, and listed in a file.
fn reals() -> Vec<(Case, Interpreter, String)> {
    let Some(list) = std::env::var_os("PYSHIM_REAL") else { return Vec::new() };
    let list = std::fs::read_to_string(list).expect("the list of PYSHIM_REAL");
    let read = |line: &str| {
        let fields: Vec<&str> = line.split('\t').collect();
        let [name, role, what, version, python] = fields[..] else { panic!("PYSHIM_REAL: {line}") };
        let path = root().join("tests/real").join(name).join("app.py");
        let case = Case::read(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        let case = Case { name: name.to_owned(), ..case };
        let minor = version.split('.').nth(1).and_then(|minor| minor.parse().ok());
        let interpreter = Interpreter {
            version: version.to_owned(),
            minor: minor.expect("a version has a minor"),
            // Of no interest here.
            shared: false,
            path: python.into(),
        };
        let case = if role == "fixed" { case.fixed() } else { case };
        (case, interpreter, what.to_owned())
    };
    list.lines().map(read).collect()
}

/// Which program runs on which interpreter.
fn pairs(cases: &[Case]) -> Vec<(Case, &'static Interpreter)> {
    let mut pairs = Vec::new();
    for (index, case) in cases.iter().enumerate() {
        let fit: Vec<_> = interpreters().iter().filter(|one| case.fits(one)).collect();
        match fit.len() {
            0 => println!("not covered here: {} fits no interpreter", case.name),
            _ if long() => pairs.extend(fit.into_iter().map(|one| (case.clone(), one))),
            // A case and its control follow each other, and so have different ones.
            many => pairs.push((case.clone(), fit[index % many])),
        }
    }
    pairs
}

fn seconds() -> f64 {
    std::env::var("PYSHIM_CASE_SECONDS").map_or(8.0, |it| it.parse().expect("seconds"))
}

fn a_case_for_each_kind(cases: &[Case]) -> Result<(), Failed> {
    let kinds = [
        "native-leak",
        "native-held",
        "reference-leak",
        "python-held",
        "cycles",
        "allocator-retention",
        "mapping",
        "churn",
        "none",
    ];
    let has = |kind: &str| cases.iter().any(|case| case.kinds == [kind]);
    let missing: Vec<&str> = kinds.into_iter().filter(|kind| !has(kind)).collect();
    let unknown = |kind: &&String| !kinds.contains(&kind.as_str());
    let unknown: Vec<_> = cases.iter().flat_map(|case| &case.kinds).filter(unknown).collect();
    if !missing.is_empty() || !unknown.is_empty() {
        return Err(format!("no case for {missing:?}; no kinds: {unknown:?}").into());
    }
    Ok(())
}

fn each_case_has_its_control(cases: &[Case]) -> Result<(), Failed> {
    let control = |case: &Case| {
        let name = format!("{}_control", case.name);
        cases.iter().any(|other| other.name == name && other.is_control())
    };
    let alone = cases.iter().filter(|case| !case.is_control() && !control(case));
    let alone: Vec<&str> = alone.map(|case| case.name.as_str()).collect();
    if alone.is_empty() { Ok(()) } else { Err(format!("without a control: {alone:?}").into()) }
}

/// The question: "a reference count changes as soon as I look at it". Not with this look.
fn watching_changes_no_count(interpreter: &Interpreter) -> Result<(), Failed> {
    let ran = compare(|| {
        Run::python(interpreter, "causes/refcounts.py").env("PYSHIM_SNAPSHOT", "every=1s")
    });
    let counts = ran.stdout().lines().filter(|line| line.contains("'instance': ")).count();
    if counts == 5 { Ok(()) } else { Err(format!("{counts} looks: {}", ran.stdout()).into()) }
}

/// Runs a program with the shim, sampled or exact, and judges what the reporter says.
fn judged(case: &Case, interpreter: &Interpreter, sample: Option<&str>) -> Result<String, Failed> {
    let run = case.run(interpreter, seconds());
    let run = sample.into_iter().fold(run, |run, mean| run.env("PYSHIM_SAMPLE", mean));
    let command = run.shimmed();
    let ran = run.ran(finish(command));
    if !case.killed && !ran.output.status.success() {
        return Err(format!("{}\n{}", ran.output.status, ran.stderr()).into());
    }
    let summaries: Result<Vec<Summary>, String> =
        ran.dumps.iter().map(|path| Summary::of(path)).collect();
    let summaries = summaries?;
    // Some have helpers with a dump of their own; theirs have a parent in the list.
    let pids: Vec<&Value> = summaries.iter().map(|one| &one.process["pid"]).collect();
    let first = summaries.iter().find(|one| !pids.contains(&&one.process["parent_pid"]));
    let Some(summary) = first else {
        return Err(format!("it left no dump; stderr: {}", ran.stderr()).into());
    };
    let wrong = case.judge(summary, ticks(&ran.stdout())?);
    if wrong.is_empty() {
        let kind = summary.verdict["kind"].as_str().unwrap_or_default();
        let holder = summary.causes.first().and_then(|first| first["holder"].as_str());
        return Ok(format!("{kind}  {:.100}", holder.unwrap_or_default()));
    }
    Err(format!(
        "{} on CPython {}:\n  {}\nverdict: {}\ncauses: {}\nmemory: {}\ngrowth: {}\nnotes: {}",
        case.path.display(),
        interpreter.version,
        wrong.join("\n  "),
        summary.verdict,
        summary.causes.iter().map(|cause| format!("{cause:#}")).collect::<String>(),
        summary.memory,
        summary.growth,
        summary.completeness["notes"],
    )
    .into())
}

/// How often the program ran, as it says itself.
fn ticks(stdout: &str) -> Result<u64, Failed> {
    let said = stdout.lines().find_map(|line| line.strip_prefix("ticks ")?.parse().ok());
    said.ok_or_else(|| format!("it did not say its ticks: {stdout}").into())
}

/// Runs a program without the shim: does its memory do what its top says?
fn measured(case: &Case, interpreter: &Interpreter) -> Result<String, Failed> {
    let seconds = seconds();
    let run = case.run(interpreter, seconds);
    let mut command = run.command();
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let began = Instant::now();
    let mut child = command.spawn()?;
    let status = format!("/proc/{}/status", child.id());
    let mut samples = Vec::new();
    while child.try_wait()?.is_none() {
        if let Some(bytes) = std::fs::read_to_string(&status).ok().as_deref().and_then(resident) {
            samples.push((began.elapsed().as_secs_f64(), bytes));
        }
        std::thread::sleep(Duration::from_millis(20));
        if began.elapsed().as_secs_f64() > 10.0 * seconds + 60.0 {
            child.kill()?;
            return Err("it hangs".into());
        }
    }
    let ran = run.ran(child.wait_with_output()?);
    if !case.killed && !ran.output.status.success() {
        return Err(format!("{}\n{}", ran.output.status, ran.stderr()).into());
    }
    // The least of a third: neither start-up nor a batch that comes and goes.
    // Counted from when its time began to run, which a busy machine puts off.
    let begun = samples.last().map_or(0.0, |last| last.0 - seconds);
    let within = |from: f64, to: f64| {
        let span = begun + from * seconds..begun + to * seconds;
        let inside = samples.iter().filter(|it| span.contains(&it.0));
        inside.map(|it| it.1).min().unwrap_or(0)
    };
    let grown = within(0.65, 0.95).saturating_sub(within(0.3, 0.6));
    let text = format!("{} grew by {} KiB in a third of its time", case.name, grown >> 10);
    println!("{text}");
    let enough = case.tick.map_or(5 << 20, |tick| tick * ticks(&ran.stdout()).unwrap_or(0) / 5);
    match case.kinds[0].as_str() {
        "none" | "churn" if grown > 1536 << 10 => Err(text.into()),
        "none" | "churn" => Ok(text),
        _ if grown < enough => Err(format!("{text}, not {} KiB", enough >> 10).into()),
        _ => Ok(text),
    }
}

/// Resident bytes in the text of `/proc/PID/status`.
fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}
