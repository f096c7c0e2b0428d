//! Causes of dumps that were put together by hand.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use object::{Object, ObjectSymbol};
use pyshim_dump::blob::{Change, Point};
use pyshim_dump::heap::{MemoryKind, MemoryRow, NodeKind, State, Step};
use pyshim_dump::layout::Gauge;
use pyshim_dump::record::{Frame, Origin};

use super::*;
use crate::analyze::report::Report;
use crate::analyze::{Options, summarize};
use crate::read::{self, Loaded};
use crate::symbolize::Symbols;
use crate::testing::heap::Snapshot;
use crate::testing::{Maker, Numbers, leaky};

/// Sites of [`leaky`].
const LEAK: u32 = 1;
const SMALL: u32 = 2;

fn loaded(maker: &Maker) -> Loaded {
    let state = read::State::Exited(0);
    let path = PathBuf::from("a.dump");
    Loaded { path, dump: maker.dump(), state, root: None, notes: Vec::new() }
}

pub fn report(makers: &[&Maker]) -> Report {
    let dumps: Vec<Loaded> = makers.iter().map(|maker| loaded(maker)).collect();
    let options = Options { top: 10, ..Options::default() };
    summarize(&dumps, &mut Symbols::default(), &options, Vec::new())
}

/// [`leaky`], with its leak and its cache explained.
fn explained() -> (Maker, Snapshot) {
    let mut snapshot = Snapshot::default();
    let module = snapshot.root(NodeKind::Module, "app");
    let cache = snapshot.object(module, Step::Global, "CACHE", "dict");
    let rows = snapshot.object(cache, Step::Key, "'a'", "list");
    let row = snapshot.object(rows, Step::Index, "3", "dict");
    snapshot.group(State::Leaked, 0, 0, &[(LEAK, 1000, 1_024_000)]);
    snapshot.group(State::Python, cache, row, &[(SMALL, 3000, 192_000)]);
    (leaky(), snapshot)
}

pub fn with(maker: &mut Maker, snapshot: Snapshot) -> &Maker {
    maker.heap = Some(snapshot.0);
    maker
}

#[test]
fn a_leak_and_a_cache_are_told_apart() {
    let (mut maker, snapshot) = explained();
    let found = report(&[with(&mut maker, snapshot)]);
    let [leak, cache] = found.causes.as_slice() else { panic!("{:#?}", found.causes) };
    assert_eq!((leak.kind, leak.confidence), (Kind::NativeLeak, Confidence::Certain));
    assert_eq!((leak.bytes, leak.blocks), (1_024_000, 1000));
    assert!((leak.growth.per_second - 17_000.0).abs() < 100.0, "{:?}", leak.growth);
    assert!(leak.evidence[0].contains("no pointer to any of these"), "{:?}", leak.evidence);
    assert!(leak.advice.contains("rowpack.so"), "{}", leak.advice);
    assert_eq!((cache.kind, cache.confidence), (Kind::PythonHeld, Confidence::Certain));
    let holder = "module app → CACHE (dict) → [str] → list → dict";
    assert_eq!(cache.holder.as_deref(), Some(holder));
    assert!(cache.advice.contains("bound or clear app.CACHE"), "{}", cache.advice);
    assert_eq!(cache.type_name.as_deref(), Some("dict"));
    assert_eq!(found.verdict.kind, Kind::NativeLeak);
    assert_eq!(found.verdict.growing, Some(true));
    assert!(found.verdict.explained.unwrap() > 0.97, "{:?}", found.verdict);
    let shares: f64 = found.causes.iter().filter_map(|cause| cause.share).sum();
    assert!(shares <= 1.0 + 1e-9, "{shares}");
}

#[test]
fn without_a_snapshot_nobody_is_certain() {
    let found = report(&[&leaky()]);
    assert_eq!(found.causes.len(), 2);
    for cause in &found.causes {
        assert!(cause.confidence < Confidence::Certain);
        assert!(cause.evidence.iter().any(|it| it.contains("no heap snapshot")), "{cause:?}");
        assert_eq!(cause.holder, None);
    }
    assert_eq!(found.causes[0].kind, Kind::NativeLeak);
    assert_eq!(found.causes[1].kind, Kind::PythonHeld);
}

#[test]
fn a_partial_search_says_so() {
    for (break_it, said) in [
        ((|it| it.0.search.blind_threads = 200) as fn(&mut Snapshot), "200 threads"),
        (|it| it.0.search.at_rest = false, "being changed"),
        (|it| it.0.search.all_blocks_known = false, "not every block"),
        (|it| it.0.search.unreadable = 4096, "4096 bytes"),
        (|it| it.0.at_ms = 20_000, "before the end"),
    ] {
        let (mut maker, mut snapshot) = explained();
        break_it(&mut snapshot);
        let found = report(&[with(&mut maker, snapshot)]);
        let leak = &found.causes[0];
        assert_eq!(leak.confidence, Confidence::Likely, "{said}");
        assert!(leak.evidence.iter().any(|line| line.contains(said)), "{said}: {leak:?}");
    }
    // A handful of blind threads cannot hide a thousand blocks.
    let (mut maker, mut snapshot) = explained();
    snapshot.0.search.blind_threads = 3;
    let found = report(&[with(&mut maker, snapshot)]);
    assert_eq!(found.causes[0].confidence, Confidence::Certain);
}

/// A run of a minute with one site, whose bytes a function of time gives.
fn one_site(origin: Origin, bytes: impl Fn(u64) -> u64) -> Maker {
    let mut maker = Maker::new();
    maker.process("3.11.7", &["python", "app.py"]);
    let code = maker.code("app.py", 7, "work");
    let frames = [Frame::Python { code, instruction: 0, entry: true }];
    let site = maker.site(origin, &frames, Numbers::live(1000, bytes(60)));
    maker.exited(0, 60_000_000_000).sealed();
    for second in 0..60 {
        maker.point(second * 1000, &[(site, bytes(second))]);
    }
    maker
}

#[test]
fn what_does_not_grow_has_no_cause() {
    let steady: fn(u64) -> u64 = |_| 10 << 20;
    let saw: fn(u64) -> u64 = |second| (second % 7) << 20;
    for bytes in [steady, saw] {
        let found = report(&[&one_site(Origin::PythonLarge, bytes)]);
        assert_eq!(found.causes, []);
        assert_eq!((found.verdict.kind, found.verdict.growing), (Kind::None, Some(false)));
    }
}

#[test]
fn a_short_run_has_no_verdict() {
    let mut maker = Maker::new();
    maker.exited(0, 500_000_000);
    let found = report(&[&maker]);
    assert_eq!((found.verdict.kind, found.verdict.growing), (Kind::None, None));
}

#[test]
fn rings_are_a_cause_when_nobody_takes_them() {
    let ring = |enabled: bool| {
        let mut maker = one_site(Origin::PythonSmall, |second| second * 10_000);
        let mut snapshot = Snapshot::default();
        let node = snapshot.object(0, Step::Inside, "", "__main__.Node");
        snapshot.group(State::Cyclic, 0, node, &[(1, 1000, 600_000)]);
        let collector = snapshot.0.collector.as_mut().unwrap();
        collector.enabled = enabled;
        (collector.garbage_objects, collector.garbage_bytes) = (900, 600_000);
        report(&[with(&mut maker, snapshot)])
    };
    let off = ring(false);
    assert_eq!(off.causes[0].kind, Kind::Cycles);
    assert_eq!(off.causes[0].type_name.as_deref(), Some("Node"));
    assert!(off.causes[0].evidence.iter().any(|it| it.contains("disabled")), "{:?}", off.causes);
    assert!(off.causes[0].advice.contains("gc.enable()"));
    assert_eq!(ring(true).causes, [], "the collector will take them when there are more");
}

#[test]
fn a_reference_too_many_is_counted() {
    let mut maker = one_site(Origin::PythonSmall, |second| second * 10_000);
    let mut snapshot = Snapshot::default();
    let node = snapshot.object(0, Step::Inside, "", "__main__.Parcel");
    snapshot.group(State::Miscounted, 0, node, &[(1, 1000, 600_000)]);
    (snapshot.0.groups[0].counted, snapshot.0.groups[0].found) = (2, 1);
    let found = report(&[with(&mut maker, snapshot)]);
    assert_eq!(found.causes[0].kind, Kind::ReferenceLeak);
    let evidence = found.causes[0].evidence.join("\n");
    assert!(evidence.contains("2 references counted and 1 found"), "{evidence}");
}

#[test]
fn mappings_that_grow_are_a_cause() {
    let found = report(&[&one_site(Origin::Mapping, |second| second << 16)]);
    assert_eq!(found.causes[0].kind, Kind::Mapping);
    assert!(found.causes[0].advice.contains("munmap"), "{}", found.causes[0].advice);
}

/// A point with a resident set.
fn resident(at_s: u64, rss: u64, bytes: u64, allocated: u64) -> Point {
    let changes = vec![Change { site: 1, bytes, blocks: 1 }];
    Point { at_ms: at_s * 1000, rss, allocated_bytes: allocated, changes, ..Point::default() }
}

#[test]
fn what_an_allocator_keeps_is_a_cause() {
    // Sixty megabytes live for the first half; the resident set never falls.
    let mut maker = one_site(Origin::PythonSmall, |_| 1 << 20);
    let live = |second| if second < 30 { 60 << 20 } else { 1 << 20 };
    maker.timeline.points = (0..60).map(|at| resident(at, 80 << 20, live(at), 0)).collect();
    maker.gauge(Gauge::Rss, 80 << 20).gauge(Gauge::PymallocArenas, 61 << 20);
    let found = report(&[&maker]);
    assert_eq!(found.causes[0].kind, Kind::AllocatorRetention);
    assert_eq!(found.causes[0].bytes, 60 << 20);
    assert!(found.causes[0].evidence.join("\n").contains("pymalloc"));
    assert_eq!(found.verdict.growing, Some(false), "it is kept, and does not grow");
    // Given back: no cause.
    let rss = |second| live(second) + (20 << 20);
    maker.timeline.points = (0..60).map(|at| resident(at, rss(at), live(at), 0)).collect();
    maker.gauge(Gauge::PymallocArenas, 1 << 20);
    assert_eq!(report(&[&maker]).causes, []);
}

#[test]
fn slack_that_grows_is_a_cause() {
    let mut maker = one_site(Origin::Native, |_| 1 << 20);
    maker.timeline.points =
        (0..60).map(|at| resident(at, (20 << 20) + (at << 20), 1 << 20, 0)).collect();
    let mut snapshot = Snapshot::default();
    let row = |kind, resident| MemoryRow { kind, resident, regions: 1 };
    snapshot.0.memory = vec![row(MemoryKind::LibcSlack, 58 << 20), row(MemoryKind::Code, 20 << 20)];
    let found = report(&[with(&mut maker, snapshot)]);
    assert_eq!(found.causes[0].kind, Kind::AllocatorRetention);
    assert!(found.causes[0].evidence.join("\n").contains("libc"), "{:?}", found.causes);
    let speed = found.causes[0].growth.per_second;
    assert!((speed - 1048576.0).abs() < 60_000.0, "{speed}");
}

/// A return address in a function that begins threads, in a library of that folder.
fn begins_threads(folder: &Path, maker: &mut Maker) -> u64 {
    const AT: u64 = 0x7f00_0000_0000;
    fs::write(folder.join("threads.c"), "int my_start_new_thread(void) { return 1; }").unwrap();
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-o", "threads.so", "threads.c"]).current_dir(folder);
    assert!(cc.status().unwrap().success());
    let path = folder.join("threads.so");
    let bytes = fs::read(&path).unwrap();
    let elf = object::File::parse(&*bytes).unwrap();
    let symbol = elf.symbols().find(|it| it.name() == Ok("my_start_new_thread")).unwrap();
    maker.module(path.to_str().unwrap(), AT, 0x1_0000);
    AT + symbol.address() + 1
}

/// A run of a minute that begins a thread each second, with 512 KiB of its stack resident. What else is
/// resident grows by `more` a second; `slack` is free in the C library.
fn threads_that_stay(more: u64, slack: u64) -> Report {
    let folder = tempfile::tempdir().unwrap();
    let mut maker = Maker::new();
    maker.process("3.11.7", &["python", "app.py"]);
    let pc = begins_threads(folder.path(), &mut maker);
    let code = maker.code("app.py", 7, "work");
    let frames = [Frame::Native { pc }, Frame::Python { code, instruction: 0, entry: true }];
    maker.site(Origin::Native, &frames, Numbers::live(60, 60 << 10));
    maker.exited(0, 60_000_000_000).sealed();
    let rss = |second: u64| (40 << 20) + second * ((512 << 10) + more);
    maker.timeline.points = (0..60).map(|at| resident(at, rss(at), at << 10, 0)).collect();
    let mut snapshot = Snapshot::default();
    let row = |kind, resident| MemoryRow { kind, resident, regions: 60 };
    snapshot.0.memory = vec![row(MemoryKind::LibcSlack, slack), row(MemoryKind::Stacks, 30 << 20)];
    report(&[with(&mut maker, snapshot)])
}

#[test]
fn stacks_of_threads_are_told_once() {
    let kinds = |found: &Report| found.causes.iter().map(|it| it.kind).collect::<Vec<_>>();
    // As much is free as stacks have grown: it was so from the beginning.
    let found = threads_that_stay(0, 24 << 20);
    assert_eq!(kinds(&found), [Kind::Mapping], "{:#?}", found.causes);
    assert!(found.causes[0].evidence[0].contains("of 60 threads"), "{:?}", found.causes);
    // Both grow.
    let found = threads_that_stay(1 << 20, 60 << 20);
    assert_eq!(kinds(&found), [Kind::AllocatorRetention, Kind::Mapping], "{:#?}", found.causes);
    let speed = |at: usize| found.causes[at].growth.per_second / f64::from(1 << 20);
    assert!((speed(0) - 1.0).abs() < 0.1 && (speed(1) - 0.5).abs() < 0.1, "{:#?}", found.causes);
    let evidence = &found.causes[0].evidence[0];
    assert!(evidence.contains("beyond live blocks and stacks of threads"), "{evidence}");
}

#[test]
fn much_that_does_not_survive_is_churn() {
    let mut maker = Maker::new();
    maker.process("3.11.7", &["python", "app.py"]);
    let code = maker.code("app.py", 7, "work");
    let frames = [Frame::Python { code, instruction: 0, entry: true }];
    let all = (60_000_000, 60 << 30);
    let numbers = Numbers { allocated: all, freed: all, last: (0, 0), peak: (0, 0) };
    let site = maker.site(Origin::PythonLarge, &frames, numbers);
    maker.exited(0, 60_000_000_000).sealed();
    for second in 0..60 {
        maker.point(second * 1000, &[(site, (second % 2) * 100_000)]);
    }
    let found = report(&[&maker]);
    assert_eq!(found.causes[0].kind, Kind::Churn);
    assert_eq!((found.verdict.kind, found.verdict.growing), (Kind::Churn, Some(false)));
    assert!(found.causes[0].evidence.join("\n").contains("µs on average"), "{:?}", found.causes);
}

#[test]
fn the_limit_is_forecast() {
    let (mut maker, snapshot) = explained();
    maker.gauge(Gauge::MemoryLimit, (24 << 20) + 20_200 * 600);
    let found = report(&[with(&mut maker, snapshot)]);
    let forecast = found.verdict.forecast.unwrap();
    assert!((forecast.seconds - 600.0).abs() < 10.0, "{forecast:?}");
}

#[test]
fn the_same_cause_of_two_processes_is_one() {
    let (mut maker, snapshot) = explained();
    let one = with(&mut maker, snapshot);
    let found = report(&[one, one]);
    assert_eq!(found.causes.len(), 2);
    assert_eq!(found.causes[0].bytes, 2_048_000);
    assert_eq!(found.verdict.forecast, None);
}

/// A run of a minute that ends with a teardown, with one native site of 1,000 blocks, of which the
/// teardown frees some; the snapshot explains them.
fn torn_down(state: State, freed: u64) -> Report {
    let mut maker = Maker::new();
    maker.process("3.11.7", &["python", "app.py"]);
    let code = maker.code("app.py", 7, "work");
    let frames = [Frame::Python { code, instruction: 0, entry: true }];
    let numbers = Numbers { freed: (freed, freed * 1024), ..Numbers::live(1000, 1_024_000) };
    let site = maker.site(Origin::Native, &frames, numbers);
    maker.exited(0, 60_000_000_000).sealed();
    for second in 0..60 {
        maker.point(second * 1000, &[(site, second * 17_000)]);
    }
    let mut snapshot = Snapshot::default();
    let holder = match state {
        State::Native => snapshot.root(NodeKind::ThreadLocal, ""),
        _ => 0,
    };
    snapshot.group(state, holder, holder, &[(site, 1000, 1_024_000)]);
    report(&[with(&mut maker, snapshot)])
}

#[test]
fn what_only_the_teardown_frees_is_told_apart() {
    let evidence = |found: &Report| found.causes[0].evidence.join("\n");
    let none = torn_down(State::Leaked, 0);
    assert!(evidence(&none).contains("all of it outlives the interpreter's teardown"));
    assert_eq!(none.causes[0].confidence, Confidence::Certain);
    let some = torn_down(State::Leaked, 400);
    assert!(
        evidence(&some).contains("400 of them, 400 KiB, were freed by the interpreter's teardown"),
        "{}",
        evidence(&some)
    );
    assert_eq!(some.causes[0].confidence, Confidence::Certain);
    let most = torn_down(State::Leaked, 900);
    assert_eq!(
        (most.causes[0].kind, most.causes[0].confidence),
        (Kind::NativeLeak, Confidence::Likely)
    );
    let held = torn_down(State::Native, 1000);
    assert_eq!(held.causes[0].kind, Kind::NativeHeld);
    assert!(
        evidence(&held).contains("000 of them, 1000 KiB, were freed by the interpreter's teardown"),
        "{}",
        evidence(&held)
    );
    assert!(!evidence(&torn_down(State::Native, 0)).contains("teardown"));
}
