//! The verbs `diff` and `check` from arguments to output, over dumps that were put together by hand.

#[path = "support/called.rs"]
mod called;
mod support;

use std::fs;
use std::mem::offset_of;
use std::path::PathBuf;

use called::reporter;
use pyshim_dump::heap::{Collector, NO_ROOM, SiteState, State};
use pyshim_dump::layout::{Beside, Header, SnapshotState};
use pyshim_dump::record::{Frame, Origin};
use serde_json::Value;
use support::heap::Snapshot;
use support::{Maker, Numbers, leaky};
use tempfile::TempDir;

/// Dumps in a folder of their own.
struct Folder(TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    fn put(&self, name: &str, maker: &Maker) -> String {
        let path: PathBuf = self.0.path().join(name);
        fs::write(&path, maker.bytes()).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

/// A program whose line 31 keeps some bytes in blocks of 100, besides a megabyte of line 9.
fn keeps(pid: u32, bytes: u64) -> Maker {
    let mut maker = Maker::new();
    // Not the parent of any other.
    maker.put32(offset_of!(Header, pid), 1000 + pid);
    maker.process("3.12.1", &["python", "app.py"]);
    let load = maker.function("app.py", "load", 30, &[(31, 8)]);
    let table = maker.function("app.py", "table", 8, &[(9, 4)]);
    let python = |code| Frame::Python { code, instruction: 0, entry: false };
    maker.site(Origin::PythonSmall, &[python(load)], Numbers::live(bytes / 100, bytes));
    maker.site(Origin::PythonLarge, &[python(table)], Numbers::live(1, 1_000_000));
    maker.peak(1_000_000 + bytes, 1_000_000).exited(0, 1_500_000_000).sealed();
    maker
}

fn json(arguments: &[&str]) -> (u8, Value) {
    let mut all = arguments.to_vec();
    all.extend(["--format", "json"]);
    let said = reporter(&all);
    assert_eq!(said.err, "");
    (said.status, serde_json::from_str(&said.out).unwrap())
}

/// Exit status 2, nothing on stdout, one line that says what is wrong.
fn assert_refused(arguments: &[&str], words: &[&str]) {
    let said = reporter(arguments);
    assert_eq!((said.status, said.out.as_str()), (2, ""), "{arguments:?}: {}", said.err);
    assert_eq!(said.err.lines().count(), 1, "{}", said.err);
    assert!(said.err.starts_with("reporter: "), "{}", said.err);
    for word in words {
        assert!(said.err.contains(word), "{word}: {}", said.err);
    }
}

#[test]
fn equal_runs_have_no_difference() {
    let folder = Folder::new();
    let (old, new) = (folder.put("a", &keeps(1, 50_000)), folder.put("b", &keeps(2, 50_000)));
    let said = reporter(&["diff", &old, &new]);
    assert_eq!((said.status, said.err.as_str()), (0, ""));
    assert!(said.out.contains("no difference beyond noise at 2 sites"), "{}", said.out);
    let (status, value) = json(&["diff", &old, &new]);
    assert_eq!((status, &value["schema"]), (0, &"pyshim.diff/1".into()));
    assert_eq!(value["sites"].as_array().unwrap().len(), 0);
}

#[test]
fn a_change_is_named_with_both_figures() {
    let folder = Folder::new();
    let (old, new) = (folder.put("a", &keeps(1, 50_000)), folder.put("b", &keeps(2, 80_000)));
    let (status, value) = json(&["diff", &old, &new]);
    assert_eq!(status, 0, "diff is no gate");
    let site = &value["sites"][0];
    assert_eq!((&site["name"], &site["presence"]), (&"app.py:31 load".into(), &"both".into()));
    let change = &site["changes"][0];
    assert_eq!(change["metric"], "survivors");
    assert_eq!((&change["old"], &change["new"]), (&50_000.into(), &80_000.into()));
    assert_eq!((&change["difference"], &change["verdict"]), (&30_000.into(), &"more".into()));
    assert_eq!(value["totals"][0]["new"], 1_080_000);
    let (_, value) = json(&["diff", &new, &old]);
    assert_eq!(value["sites"][0]["changes"][0]["verdict"], "less");
}

#[test]
fn several_baselines_measure_the_noise() {
    let folder = Folder::new();
    let olds = [50_000, 70_000, 62_000]
        .map(|bytes| folder.put(&format!("old{bytes}"), &keeps(bytes as u32, bytes)));
    let new = folder.put("new", &keeps(2, 90_000));
    let (_, value) = json(&["diff", &olds[0], &new]);
    assert_eq!(value["sites_changed"], 1, "one baseline knows nothing of noise");
    let (_, value) = json(&["diff", &olds[0], &new, "--old", &olds[1], "--old", &olds[2]]);
    assert_eq!((&value["sites_changed"], &value["noise"]["measured"]), (&0.into(), &true.into()));
    let far = folder.put("far", &keeps(3, 900_000));
    let (_, value) = json(&["diff", &olds[0], &far, "--old", &olds[1], "--old", &olds[2]]);
    assert_eq!(value["sites_changed"], 1);
    // A run named twice says nothing about noise.
    let (_, value) = json(&["diff", &olds[0], &new, "--old", &olds[0]]);
    assert_eq!((&value["sites_changed"], &value["noise"]["old_runs"]), (&1.into(), &1.into()));
}

#[test]
fn a_folder_stands_for_its_dumps() {
    let (olds, news) = (Folder::new(), Folder::new());
    olds.put("a.dump", &keeps(1, 50_000));
    olds.put("b.dump", &keeps(2, 50_000));
    let new = news.put("c.dump", &keeps(3, 50_000));
    let folder = olds.0.path().to_str().unwrap();
    let (_, value) = json(&["diff", folder, &new]);
    assert_eq!(value["old"].as_array().unwrap().len(), 2);
    let empty = Folder::new();
    assert_refused(&["diff", empty.0.path().to_str().unwrap(), &new], &["no dump in this folder"]);
}

/// The one gate of a check, as JSON.
fn gate(arguments: &[&str]) -> (u8, Value) {
    let mut all = vec!["check"];
    all.extend(arguments);
    let (status, value) = json(&all);
    assert_eq!(value["schema"], "pyshim.check/1");
    assert_eq!(value["gates"].as_array().unwrap().len(), 1);
    let gate = value["gates"][0].clone();
    assert_eq!(status == 1, gate["exceeded"] == true, "{gate}");
    (status, gate)
}

#[test]
fn each_gate_opens_and_closes() {
    let folder = Folder::new();
    let new = folder.put("new", &keeps(1, 200_000));
    let old = folder.put("old", &keeps(2, 100_000));
    let baseline = ["--baseline", &old];
    for (option, holds, exceeded) in [
        ("--max-peak", "2MiB", "1MiB"),
        ("--max-survivors", "2MiB", "1MiB"),
        ("--max-survivors", "2001", "2000"),
        ("--max-allocated", "2MiB", "1MiB"),
        ("--max-allocated", "2001", "2000"),
        ("--max-increase", "survivors=10%", "survivors=9%"),
        ("--max-increase", "survivors=100000B", "survivors=99999B"),
        ("--max-increase", "surviving-blocks=1000", "surviving-blocks=999"),
        ("--max-increase", "allocated=10%", "allocated=5%"),
        ("--max-increase", "allocated-blocks=100%", "allocated-blocks=99%"),
        ("--max-increase", "peak=10%", "peak=5%"),
        ("--max-increase", "1000", "999"),
    ] {
        let of = |limit| gate(&[&[&new, option, limit][..], &baseline].concat());
        // A part counts from the baseline's sum, 1.1 MB.
        assert_eq!(of(holds).0, 0, "{option} {holds}");
        let (status, found) = of(exceeded);
        assert_eq!(status, 1, "{option} {exceeded}");
        assert_eq!(format!("--{}", found["gate"].as_str().unwrap()), option);
        let sites = found["sites"].as_array().unwrap();
        assert!(sites.iter().any(|it| it["name"] == "app.py:31 load"), "{found}");
        assert!(found["new"].as_f64().unwrap() > 0.0 && found["old"].is_number());
    }
}

/// The verdicts on bytes that survive, in all and at sites, of two runs that are sampled at 512 KiB. Each
/// has so many bytes in one block and in mappings of 64 KiB, and 4 MiB in small blocks.
fn verdicts(old: u64, new: u64) -> Vec<Value> {
    let folder = Folder::new();
    let run = |bytes: u64| {
        let mut maker = keeps(bytes as u32, 4 << 20);
        maker.put64(offset_of!(Header, sample_mean), 512 << 10);
        let large = (Origin::PythonLarge, 50, 1);
        for (origin, line, blocks) in [large, (Origin::Mapping, 60, bytes >> 16)] {
            let code = maker.code("app.py", line, "make");
            let frame = Frame::Python { code, instruction: 0, entry: false };
            maker.site(origin, &[frame], Numbers::live(blocks, bytes));
        }
        maker
    };
    let (old, new) = (folder.put("old", &run(old)), folder.put("new", &run(new)));
    let (_, found) = json(&["diff", &old, &new]);
    let sites = found["sites"].as_array().unwrap();
    let sites = sites.iter().flat_map(|site| site["changes"].as_array().unwrap());
    let changes = found["totals"].as_array().unwrap().iter().chain(sites);
    let survives = |it: &&Value| it["metric"] == "survivors" || it["metric"] == "mapped";
    changes.filter(survives).map(|it| it["verdict"].clone()).collect()
}

/// Large blocks are always drawn, and mappings all counted. What small ones leave uncertain in the sum is
/// theirs alone: 1.4 MiB in each run by standard deviation, so that some 7 MiB are noise.
#[test]
fn what_sampling_is_sure_of_is_no_noise() {
    assert_eq!(verdicts(8 << 20, 9 << 20), ["quiet", "more", "more", "more"]);
    assert_eq!(verdicts(8 << 20, 17 << 20), ["more", "more", "more", "more"]);
}

/// The peak of a parent of a minute with two children of a second and a half, which begin after so many
/// seconds; and the part of line 31 in it.
fn peak(began: [u64; 2]) -> (u64, u64) {
    let folder = Folder::new();
    let mut parent = keeps(1, 100_000);
    parent.put32(offset_of!(Header, pid), 1).exited(0, 60_000_000_000);
    let start = parent.dump().started_unix_ns;
    folder.put("parent", &parent);
    for (pid, began) in [2, 3].into_iter().zip(began) {
        let mut child = keeps(pid, 200_000);
        child.put32(offset_of!(Header, pid), pid).put32(offset_of!(Header, parent_pid), 1);
        child.put64(offset_of!(Header, started_unix_ns), start + began * 1_000_000_000);
        folder.put(&format!("child {pid}"), &child);
    }
    let of = |value: &Value, field: &str, is: &str| {
        value.as_array().unwrap().iter().find(|it| it[field] == is).unwrap().clone()
    };
    let (elsewhere, path) = (Folder::new(), folder.0.path().to_str().unwrap());
    let old = elsewhere.put("old", &keeps(9, 100));
    let (_, found) = json(&["diff", &old, path]);
    let site = of(&found["sites"], "name", "app.py:31 load");
    let peak = |changes: &Value| of(changes, "metric", "peak")["new"].as_u64().unwrap();
    (peak(&found["totals"]), peak(&site["changes"]))
}

#[test]
fn peaks_add_up_where_processes_live_at_the_same_time() {
    assert_eq!(peak([5, 6]), (3_500_000, 500_000));
    assert_eq!(peak([5, 7]), (2_300_000, 300_000));
}

#[test]
fn growth_is_gated_as_far_as_it_is_certain() {
    let folder = Folder::new();
    let path = folder.put("a", &leaky());
    // 20 kB each second for a minute, by two sites.
    assert_eq!(gate(&[&path, "--max-growth", "30KiB/s"]).0, 0);
    let (status, found) = gate(&[&path, "--max-growth", "1MiB/min"]);
    assert_eq!((status, &found["unit"]), (1, &"bytes_per_second".into()));
    assert!(found["sites"][0]["name"].as_str().unwrap().starts_with("app.py:88 encode"));
    let short = folder.put("b", &keeps(7, 1000));
    assert_refused(&["check", &short, "--max-growth", "1KiB/s"], &["too short"]);
}

#[test]
fn one_site_alone_can_exceed_an_increase() {
    let folder = Folder::new();
    let old = folder.put("old", &keeps(1, 50_000));
    let mut maker = Maker::new();
    maker.process("3.12.1", &["python", "app.py"]);
    let load = maker.function("app.py", "load", 30, &[(31, 8)]);
    let python = Frame::Python { code: load, instruction: 0, entry: false };
    maker.site(Origin::PythonSmall, &[python], Numbers::live(3000, 300_000));
    maker.peak(300_000, 1).exited(0, 1_500_000_000).sealed();
    let new = folder.put("new", &maker);
    let (status, found) = gate(&[&new, "--baseline", &old, "--max-increase", "survivors=10%"]);
    assert_eq!((status, &found["exceeded_in_all"]), (1, &false.into()), "the sum fell");
    let sites = found["sites"].as_array().unwrap();
    assert_eq!((sites.len(), &sites[0]["exceeds_alone"]), (1, &true.into()));
}

#[test]
fn a_baseline_alone_is_a_gate() {
    let folder = Folder::new();
    let (old, new) = (folder.put("a", &keeps(1, 10_000)), folder.put("b", &keeps(2, 500_000)));
    let said = reporter(&["check", &new, "--baseline", &old]);
    assert_eq!(said.status, 1);
    assert!(said.out.contains("EXCEEDED max-increase survivors 10%"), "{}", said.out);
    assert!(said.out.contains("app.py:31 load   +479 KiB (9.8 KiB → 488 KiB)"), "{}", said.out);
    assert_eq!(reporter(&["check", &old, "--baseline", &new]).status, 0, "less is fine");
}

/// A run of [`keeps`] whose line 31 lost some bytes.
fn lost(bytes: u64) -> (Maker, Snapshot) {
    let mut snapshot = Snapshot::default();
    snapshot.group(State::Leaked, 0, 0, &[(1, bytes / 100, bytes)]);
    (keeps(1, bytes), snapshot)
}

#[test]
fn a_leak_is_gated_where_every_block_is_known() {
    let folder = Folder::new();
    let (mut maker, snapshot) = lost(50_000);
    maker.heap = Some(snapshot.0);
    let path = folder.put("a", &maker);
    assert_eq!(gate(&[&path, "--max-leak", "50000B"]).0, 0);
    let (status, found) = gate(&[&path, "--max-leak", "49999B"]);
    assert_eq!((status, &found["new"]), (1, &50_000.into()));
    let site = &found["sites"][0];
    let named = (&site["name"], &site["kind"]);
    assert_eq!(named, (&"app.py:31 load".into(), &"native-leak".into()));
    // Of a sampled run only what was drawn is in the snapshot.
    maker.put64(offset_of!(Header, sample_mean), 512 << 10);
    let sampled = folder.put("b", &maker);
    assert_refused(&["check", &sampled, "--max-leak", "1GiB"], &[&sampled, "is sampled"]);
}

/// Groups are the largest alone; what leaks bit by bit in a thousand places counts all the same.
#[test]
fn leaks_of_no_group_count() {
    let folder = Folder::new();
    let (mut maker, mut snapshot) = lost(50_000);
    let states = [State::Leaked, State::Miscounted, State::Cyclic, State::Python, State::Parked];
    for state in states {
        snapshot.0.sites.push(SiteState { site: 2, state, blocks: 10, bytes: 1_000 });
    }
    maker.heap = Some(snapshot.0);
    let path = folder.put("a", &maker);
    assert_eq!(gate(&[&path, "--max-leak", "52000B"]).0, 0);
    let (status, found) = gate(&[&path, "--max-leak", "51999B"]);
    assert_eq!((status, &found["new"]), (1, &52_000.into()));
    if let Some(heap) = &mut maker.heap {
        heap.search.notes.push(NO_ROOM.into());
    }
    let cut = folder.put("b", &maker);
    assert_refused(&["check", &cut, "--max-leak", "1GiB"], &[&cut, "no room in its snapshot"]);
}

#[test]
fn rings_that_no_collection_takes_are_leaks() {
    let folder = Folder::new();
    let bytes = |collector: Collector, blocker| {
        let mut snapshot = Snapshot::default();
        snapshot.group(State::Cyclic, 0, 0, &[(1, 500, 50_000)]);
        snapshot.0.groups[0].blocker = blocker;
        snapshot.0.collector = Some(collector);
        let mut maker = keeps(1, 50_000);
        maker.heap = Some(snapshot.0);
        let (_, found) = gate(&[&folder.put("a", &maker), "--max-leak", "1MiB"]);
        found["new"].as_u64().unwrap()
    };
    let thresholds = [700, 10, 10];
    let runs = Collector { enabled: true, thresholds, garbage_objects: 500, ..Default::default() };
    assert_eq!(bytes(runs.clone(), 0), 0, "the next collection takes them");
    assert_eq!(bytes(runs.clone(), 1), 50_000, "a type keeps them");
    for (collector, why) in [
        (Collector { garbage_objects: 2_000, ..runs.clone() }, "all was let go of at the end"),
        (Collector { thresholds: [50_000, 20, 100], ..runs.clone() }, "it begins later"),
        (Collector { garbage_frozen: 1, ..runs.clone() }, "one is frozen"),
    ] {
        assert_eq!(bytes(collector, 0), 0, "{why}");
    }
    for (collector, why) in [
        (Collector { enabled: false, ..runs.clone() }, "it is disabled"),
        (Collector { thresholds: [0, 10, 10], ..runs.clone() }, "it never begins"),
        (Collector { thresholds: [700, 10, 100_000], ..runs.clone() }, "no full one comes"),
        (Collector { garbage_frozen: 500, ..runs }, "they are frozen"),
    ] {
        assert_eq!(bytes(collector, 0), 50_000, "{why}");
    }
}

#[test]
fn an_older_snapshot_tells_no_leak() {
    let folder = Folder::new();
    let beside = |field| offset_of!(Header, beside) + field;
    let (mut maker, snapshot) = lost(50_000);
    let taken_ns = snapshot.0.at_ms * 1_000_000;
    maker.heap = Some(snapshot.0);
    // One that came to nothing before does not matter.
    maker.put32(beside(offset_of!(Beside, failed)), 1);
    maker.put64(beside(offset_of!(Beside, began_ns)), taken_ns);
    assert_eq!(gate(&[&folder.put("a", &maker), "--max-leak", "1MiB"]).0, 0);
    maker.put64(beside(offset_of!(Beside, began_ns)), taken_ns + 1_000_000);
    let failed = folder.put("b", &maker);
    assert_refused(&["check", &failed, "--max-leak", "1MiB"], &[&failed, "an older heap snapshot"]);
    maker.put32(beside(offset_of!(Beside, state)), SnapshotState::Running as u32);
    maker.put32(beside(offset_of!(Beside, pid)), 4_294_967_294);
    let ended = folder.put("c", &maker);
    assert_refused(
        &["check", &ended, "--max-leak", "1MiB"],
        &[&ended, "ended before it had finished"],
    );
}

#[test]
fn what_the_dumps_lack_is_said() {
    let folder = Folder::new();
    let (mut maker, mut snapshot) = lost(50_000);
    snapshot.0.search.notes.push("a block could not be searched".into());
    maker.heap = Some(snapshot.0);
    maker.note("stacks are cut").put32(offset_of!(Header, inexact), 1);
    let whole = folder.put("a", &keeps(2, 50_000));
    let lacking = folder.put("b", &maker);
    maker.put32(offset_of!(Header, pid), 7);
    let other = folder.put("c", &maker);
    let notes = |arguments: &[&str]| json(arguments).1["notes"].clone();
    let inexact = "figures are not exact, some blocks came or went while they could not be counted";
    let of = |side: &str, what: &str| format!("the {side} side: {what}");
    let (cut, partial) = ("stacks are cut", "a block could not be searched");
    assert_eq!(notes(&["diff", &whole, &whole.clone()]), Value::Array(vec![]));
    assert_eq!(
        notes(&["diff", &whole, &lacking]),
        Value::from(vec![of("new", inexact), of("new", cut)])
    );
    assert_eq!(
        notes(&["diff", &lacking, &whole]),
        Value::from(vec![of("old", inexact), of("old", cut)])
    );
    assert_eq!(
        notes(&["diff", &lacking, &other]),
        Value::from(vec![of("old", inexact), of("new", inexact), cut.into()])
    );
    assert_eq!(
        notes(&["check", &lacking, "--max-leak", "1MiB"]),
        Value::from(vec![of("new", inexact), cut.into(), partial.into()])
    );
    let mut why = notes(&["why", &lacking, "app.py:31"]);
    let why = why.as_array_mut().unwrap();
    assert!(
        [inexact, cut, partial].iter().all(|note| why.contains(&Value::from(*note))),
        "{why:?}"
    );
}

#[test]
fn wrong_calls_are_refused() {
    let folder = Folder::new();
    let path = folder.put("a", &keeps(1, 10_000));
    assert_refused(&["check", &path], &["no gate is given", "--max-peak"]);
    assert_refused(&["check", &path, "--max-increase", "10%"], &["--baseline"]);
    assert_refused(&["check", &path, "--max-leak", "0"], &[&path, "no heap snapshot"]);
    assert_refused(&["check", "/nowhere.dump", "--max-peak", "1MiB"], &["/nowhere.dump"]);
    assert_refused(&["check", &path, "--baseline", "/nowhere.dump"], &["/nowhere.dump"]);
    assert_refused(&["diff", &path, "/nowhere.dump"], &["/nowhere.dump"]);
    let damaged = folder.0.path().join("damaged");
    fs::write(&damaged, "no dump").unwrap();
    assert_refused(&["diff", damaged.to_str().unwrap(), &path], &["damaged"]);
    for (option, value) in [
        ("--max-peak", "much"),
        ("--max-growth", "1MiB"),
        ("--max-increase", "ten%"),
        ("--max-survivors", "-1"),
    ] {
        let said = reporter(&["check", &path, &format!("{option}={value}")]);
        assert_eq!((said.status, said.out.as_str()), (2, ""));
        assert!(said.err.starts_with("reporter: ") && said.err.contains(option), "{}", said.err);
    }
}

#[test]
fn both_verbs_explain_themselves() {
    for verb in ["diff", "check"] {
        let said = reporter(&[verb, "--help"]);
        assert_eq!((said.status, said.err.as_str()), (0, ""));
        assert!(said.out.contains("Examples:") && said.out.contains("xit status"), "{}", said.out);
    }
}
