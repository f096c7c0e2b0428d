//! What needs a heap snapshot: causes in JSON, `why`, `--by type`, and asking a running process.

#[path = "support/called.rs"]
mod called;
#[path = "support/documented.rs"]
mod documented;
mod support;

use std::fs::{self, File, OpenOptions};
use std::mem::offset_of;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use called::reporter;
use pyshim_dump::heap::{NodeKind, SiteState, State, Step};
use pyshim_dump::layout::{Beside, Header, SnapshotState};
use pyshim_dump::record::{Frame, Origin, Record};
use serde_json::Value;
use support::heap::Snapshot;
use support::{Maker, Numbers, leaky};
use tempfile::TempDir;

/// [`leaky`] with a snapshot that explains its leak and its cache.
fn explained() -> Maker {
    let mut snapshot = Snapshot::default();
    let module = snapshot.root(NodeKind::Module, "app");
    let cache = snapshot.object(module, Step::Global, "CACHE", "dict");
    let rows = snapshot.object(cache, Step::Key, "'a'", "list");
    let row = snapshot.object(rows, Step::Index, "3", "app.models.Row");
    snapshot.group(State::Leaked, 0, 0, &[(1, 1000, 1_024_000)]);
    snapshot.group(State::Python, cache, row, &[(2, 3000, 192_000)]);
    let mut maker = leaky();
    maker.heap = Some(snapshot.0);
    maker
}

fn written(maker: &Maker) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.dump");
    fs::write(&path, maker.bytes()).unwrap();
    (folder, path)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn causes_in_json_keep_to_the_contract() {
    let (_folder, path) = written(&explained());
    let said = reporter(&["summarize", text(&path), "--format", "json"]);
    assert_eq!((said.status, said.err.as_str()), (0, ""));
    let value: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(value["verdict"]["kind"], "native-leak");
    assert_eq!(value["verdict"]["growing"], true);
    assert!(value["verdict"]["growth_bytes_per_second"].as_f64().unwrap() > 20_000.0);
    let causes = value["causes"].as_array().unwrap();
    assert_eq!(causes.len(), 2);
    let [leak, cache] = [&causes[0], &causes[1]];
    for field in ["kind", "confidence", "bytes", "blocks", "growth_bytes_per_second", "share"] {
        assert!(!leak[field].is_null(), "{field}");
    }
    assert_eq!((&leak["type"], &leak["holder"]), (&Value::Null, &Value::Null));
    assert_eq!(leak["site"]["native"][0]["module"], "/srv/app/rowpack.so");
    assert_eq!(leak["site"]["python"][0]["line"], 88);
    assert!(leak["evidence"][0].as_str().unwrap().starts_with("no pointer to any"));
    assert_eq!(cache["type"], "app.models.Row");
    assert_eq!(cache["holder"], "module app → CACHE (dict) → [str] → list → app.models.Row");
    assert!(!cache["advice"].as_str().unwrap().is_empty());
    let types = value["types"].as_array().unwrap();
    assert!(types.iter().any(|one| one["name"] == "app.models.Row" && one["objects"] == 10));
    assert_eq!(value["holders"][0]["bytes"], 1_024_000);
}

#[test]
fn why_a_type_is_alive() {
    let (_folder, path) = written(&explained());
    for name in ["Row", "models.Row", "app.models.Row"] {
        let said = reporter(&["why", text(&path), name]);
        assert_eq!((said.status, said.err.as_str()), (0, ""), "{name}");
        assert!(said.out.starts_with("app.models.Row   10 objects"), "{}", said.out);
        assert!(said.out.contains("3 000 of them"), "{}", said.out);
        assert!(said.out.contains("held by   module app → CACHE (dict)"), "{}", said.out);
        let path: Vec<&str> = said.out.lines().filter(|line| line.contains("retains")).collect();
        assert_eq!(path.len(), 3, "{}", said.out);
        assert!(path[2].contains("→ [3] (app.models.Row)"), "{}", said.out);
    }
}

#[test]
fn why_a_line_or_an_address_is_alive() {
    let (_folder, path) = written(&explained());
    let line = reporter(&["why", text(&path), "app.py:31", "--format", "json"]);
    assert_eq!((line.status, line.err.as_str()), (0, ""));
    documented::assert_documented(&line.out);
    let value: Value = serde_json::from_str(&line.out).unwrap();
    assert_eq!(value["objects"], 3000);
    assert_eq!(value["ways"][0]["share"], 3000);
    assert_eq!(value["ways"][0]["path"].as_array().unwrap().len(), 4);
    let id = value["site"]["id"].as_str().unwrap().to_owned();
    let by_id = reporter(&["why", text(&path), &id, "--format", "json"]);
    let by_id: Value = serde_json::from_str(&by_id.out).unwrap();
    assert_eq!(by_id["ways"], value["ways"]);
    let address = value["ways"][0]["path"][3]["address"].as_str().unwrap();
    let said = reporter(&["why", text(&path), address]);
    assert!(said.out.starts_with("the app.models.Row at 0x7f"), "{}", said.out);
    let leak = reporter(&["why", text(&path), "app.py:88"]);
    assert!(leak.out.contains("leaked: no pointer to it is left"), "{}", leak.out);
}

#[test]
fn a_line_may_have_very_many_sites() {
    const SITES: u32 = 50_000;
    let mut maker = Maker::new();
    maker.process("3.12.1", &["python", "x.py"]).exited(0, 60_000_000_000).sealed();
    let [inner, outer, last] = [7, 8, 9].map(|line| maker.code("x.py", line, "f"));
    let mut snapshot = Snapshot::default();
    for number in 1..=SITES {
        // Each size once, in no order.
        let bytes = 1 + u64::from(number) * 7_919 % u64::from(SITES);
        let caller = if bytes == u64::from(SITES) { last } else { outer };
        let frame = |code| Frame::Python { code, instruction: 0, entry: true };
        let frames = [frame(inner), frame(caller)];
        let site = maker.site(Origin::PythonSmall, &frames, Numbers::live(2, 2 * bytes));
        for state in [State::Python, State::Cyclic] {
            snapshot.0.sites.push(SiteState { site, state, blocks: 1, bytes });
        }
    }
    maker.heap = Some(snapshot.0);
    let (_folder, path) = written(&maker);
    let begun = Instant::now();
    let said = reporter(&["why", text(&path), "x.py:7", "--format", "json"]);
    // To look at all of them for each comparison takes minutes.
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    let value: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(value["objects"], 2 * SITES);
    assert_eq!(value["bytes"], u64::from(SITES) * u64::from(SITES + 1));
    assert_eq!(value["site"]["python"][1]["line"], 9, "the one with most bytes");
}

#[test]
fn what_is_not_there_is_said() {
    let (_folder, path) = written(&explained());
    for (target, said) in [
        ("Rwo", "did you mean app.models.Row?"),
        ("app.py:9999", "no site has such"),
        ("0x1234", "keeps no object or block at this address"),
        ("0xzz", "is no address"),
    ] {
        let found = reporter(&["why", text(&path), target]);
        assert_eq!((found.status, found.out.as_str()), (2, ""), "{target}");
        assert!(found.err.contains(said) && found.err.lines().count() == 1, "{}", found.err);
    }
    let (_folder, bare) = written(&leaky());
    for arguments in
        [&["why", text(&bare), "dict"][..], &["summarize", text(&bare), "--by", "type"]]
    {
        let found = reporter(arguments);
        assert_eq!(found.status, 2);
        assert!(found.err.contains("heap snapshot"), "{}", found.err);
    }
}

#[test]
fn types_and_holders_are_tables() {
    let (_folder, path) = written(&explained());
    let types = reporter(&["summarize", text(&path), "--by", "type"]);
    assert!(types.out.contains("OBJECTS"), "{}", types.out);
    assert!(types.out.lines().any(|line| line.ends_with("app.models.Row")), "{}", types.out);
    let holders = reporter(&["summarize", text(&path), "--by", "holder"]);
    assert!(holders.out.contains("188 KiB"), "{}", holders.out);
    assert!(holders.out.contains("module app → CACHE (dict)"), "{}", holders.out);
}

#[test]
fn growth_is_counted_since_a_mark() {
    let mut maker = leaky();
    maker.record(&Record::Mark { at_ns: 30_000_000_000, label: "warm".into() });
    let (_folder, path) = written(&maker);
    let said = reporter(&["summarize", text(&path), "--since", "warm", "--format", "json"]);
    let value: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(value["survivors"][0]["startup_bytes"], 30 * 17_000);
    let wrong = reporter(&["summarize", text(&path), "--since", "cold"]);
    assert_eq!(wrong.status, 2);
    assert!(wrong.err.contains("there are warm"), "{}", wrong.err);
}

/// What was live at the leak of [`leaky`] when growth began to count, in a process that was marked after 30
/// seconds and one that began so many seconds after that one.
fn startup_bytes(later_s: u64) -> Value {
    let (mut marked, mut other) = (leaky(), leaky());
    let began = marked.dump().started_unix_ns;
    marked.record(&Record::Mark { at_ns: 30_000_000_000, label: "warm".into() });
    other.put64(offset_of!(Header, started_unix_ns), began + later_s * 1_000_000_000);
    let ((_one, marked), (_two, other)) = (written(&marked), written(&other));
    let dumps = [text(&marked), text(&other)];
    let arguments = ["summarize", dumps[0], dumps[1], "--since", "warm", "--format", "json"];
    let value: Value = serde_json::from_str(&reporter(&arguments).out).unwrap();
    value["survivors"][0]["startup_bytes"].clone()
}

#[test]
fn a_mark_holds_for_the_other_processes() {
    assert_eq!(startup_bytes(10), (30 + 20) * 17_000);
    // One that began after it has its own start-up, a fifth of its minute.
    assert_eq!(startup_bytes(31), (30 + 12) * 17_000);
}

/// A dump whose process is this one, so that it runs.
fn running() -> (TempDir, PathBuf) {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields = stat.rsplit_once(')').unwrap().1;
    let ticks = fields.split_ascii_whitespace().nth(19).unwrap().parse().unwrap();
    let mut maker = Maker::new();
    maker.put32(offset_of!(Header, pid), std::process::id());
    maker.put64(offset_of!(Header, started_ticks), ticks).heartbeat(60_000_000_000);
    written(&maker)
}

fn word(file: &File, field: usize) -> u32 {
    let mut bytes = [0; 4];
    file.read_exact_at(&mut bytes, (offset_of!(Header, beside) + field) as u64).unwrap();
    u32::from_le_bytes(bytes)
}

fn set(file: &File, field: usize, value: u32) {
    file.write_all_at(&value.to_le_bytes(), (offset_of!(Header, beside) + field) as u64).unwrap();
}

/// Answers as a process does, once `asked` has been raised.
fn answer(path: &Path, asked: usize, answer: impl FnOnce(&File, u32) + Send + 'static) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    thread::spawn(move || {
        while word(&file, asked) == 0 {
            thread::yield_now();
        }
        let number = word(&file, asked);
        answer(&file, number);
    });
}

#[test]
fn a_snapshot_is_asked_for_and_waited_for() {
    let (_folder, path) = running();
    answer(&path, offset_of!(Beside, asked), |file, number| {
        set(file, offset_of!(Beside, state), SnapshotState::Running as u32);
        set(file, offset_of!(Beside, pid), std::process::id());
        set(file, offset_of!(Beside, answered), number);
        set(file, offset_of!(Beside, taken), 1);
        set(file, offset_of!(Beside, state), SnapshotState::Done as u32);
    });
    let said = reporter(&["snapshot", text(&path)]);
    assert_eq!(said.status, 0, "{}", said.err);
    assert!(
        said.out.contains("WHY IT GROWS") || said.out.contains("NOTHING GROWS"),
        "{}",
        said.out
    );
}

#[test]
fn a_snapshot_that_came_to_nothing_is_an_error() {
    let (_folder, path) = running();
    answer(&path, offset_of!(Beside, asked), |file, number| {
        set(file, offset_of!(Beside, failed), 1);
        set(file, offset_of!(Beside, failure), 2);
        set(file, offset_of!(Beside, answered), number);
        set(file, offset_of!(Beside, state), SnapshotState::Failed as u32);
    });
    let said = reporter(&["snapshot", text(&path)]);
    assert_eq!((said.status, said.out.as_str()), (2, ""));
    assert!(said.err.contains("no room"), "{}", said.err);
    let none = reporter(&["snapshot", text(&path), "--timeout", "0"]);
    assert_eq!(none.status, 2);
    assert!(none.err.contains("--timeout"), "{}", none.err);
}

#[test]
fn a_moment_is_named() {
    let (_folder, path) = running();
    answer(&path, offset_of!(Beside, marked), |file, number| {
        set(file, offset_of!(Beside, noted), number);
    });
    let said = reporter(&["mark", text(&path), "after warm-up"]);
    assert_eq!((said.status, said.out.as_str(), said.err.as_str()), (0, "", ""));
    let file = File::open(&path).unwrap();
    let mut label = [0; 13];
    let at = offset_of!(Header, beside) + offset_of!(Beside, mark);
    file.read_exact_at(&mut label, at as u64).unwrap();
    assert_eq!(&label, b"after warm-up");
    assert_eq!(word(&file, offset_of!(Beside, mark_len)), 13);
    let long = reporter(&["mark", text(&path), &"x".repeat(200)]);
    assert_eq!(long.status, 2);
}

#[test]
fn nothing_is_asked_of_a_process_that_has_ended() {
    let (_folder, path) = written(&leaky());
    for verb in [&["snapshot", text(&path)][..], &["mark", text(&path), "x"]] {
        let said = reporter(verb);
        assert_eq!(said.status, 2);
        assert!(said.err.contains("has ended"), "{}", said.err);
    }
}
