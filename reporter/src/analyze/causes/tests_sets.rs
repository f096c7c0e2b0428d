//! Which sets of blocks become one cause.

use pyshim_dump::heap::{NodeKind, State, Step};
use pyshim_dump::record::{Frame, Origin};

use super::tests::{report, with};
use crate::testing::heap::Snapshot;
use crate::testing::{Maker, Numbers};

/// A run of a minute with a site for each speed in bytes a second, at lines 1, 2, 3, …
fn sites(speeds: &[u64]) -> Maker {
    let mut maker = Maker::new();
    maker.process("3.11.7", &["python", "app.py"]);
    let mut all = Vec::new();
    for (line, &speed) in (1..).zip(speeds) {
        let code = maker.code("app.py", line, "work");
        let frames = [Frame::Python { code, instruction: 0, entry: true }];
        let site = maker.site(Origin::PythonSmall, &frames, Numbers::live(100, 60 * speed));
        all.push((site, speed));
    }
    maker.exited(0, 60_000_000_000).sealed();
    for second in 0..60u64 {
        let changes: Vec<(u32, u64)> = all.iter().map(|it| (it.0, it.1 * second)).collect();
        maker.point(second * 1000, &changes);
    }
    maker
}

#[test]
fn bookkeeping_of_a_holder_is_part_of_what_it_holds() {
    let mut maker = sites(&[10_000, 2_000]);
    let mut snapshot = Snapshot::default();
    let module = snapshot.root(NodeKind::Module, "app");
    let outer = snapshot.object(module, Step::Global, "STATE", "dict");
    let inner = snapshot.object(outer, Step::Key, "'rows'", "list");
    let row = snapshot.object(inner, Step::Index, "0", "str");
    snapshot.group(State::Python, inner, row, &[(1, 100, 600_000)]);
    snapshot.group(State::Python, outer, inner, &[(2, 100, 120_000)]);
    let found = report(&[with(&mut maker, snapshot)]);
    assert_eq!(found.causes.len(), 1, "{:#?}", found.causes);
    assert_eq!(found.causes[0].bytes, 720_000);
    let holder = found.causes[0].holder.as_deref();
    assert_eq!(holder, Some("app.STATE['rows'] (list) → str"));
}

#[test]
fn two_holders_below_one_module_are_two_causes() {
    let mut maker = sites(&[10_000, 8_000]);
    let mut snapshot = Snapshot::default();
    let module = snapshot.root(NodeKind::Module, "app");
    for (site, name) in [(1, "LOG"), (2, "CACHE")] {
        let holder = snapshot.object(module, Step::Global, name, "list");
        let row = snapshot.object(holder, Step::Index, "0", "str");
        snapshot.group(State::Python, holder, row, &[(site, 100, 600_000)]);
    }
    let found = report(&[with(&mut maker, snapshot)]);
    let holders: Vec<_> = found.causes.iter().filter_map(|it| it.holder.as_deref()).collect();
    assert_eq!(holders, ["module app → LOG (list) → str", "module app → CACHE (list) → str"]);
}

#[test]
fn bytes_of_a_site_count_once() {
    // Half of the site is leaked, half is held.
    let mut maker = sites(&[10_000]);
    let mut snapshot = Snapshot::default();
    let module = snapshot.root(NodeKind::Module, "app");
    let holder = snapshot.object(module, Step::Global, "LOG", "list");
    let row = snapshot.object(holder, Step::Index, "0", "str");
    snapshot.group(State::Python, holder, row, &[(1, 75, 450_000)]);
    snapshot.group(State::Leaked, 0, 0, &[(1, 25, 150_000)]);
    let found = report(&[with(&mut maker, snapshot)]);
    let speeds: Vec<f64> = found.causes.iter().map(|it| it.growth.per_second).collect();
    assert_eq!(speeds.len(), 2, "{:#?}", found.causes);
    assert!((speeds[0] - 7_500.0).abs() < 50.0 && (speeds[1] - 2_500.0).abs() < 50.0, "{speeds:?}");
}

#[test]
fn growth_at_ever_new_sites_is_put_together() {
    let mut maker = Maker::new();
    maker.process("3.11.7", &["python", "app.py"]);
    let outer = maker.code("app.py", 21, "plugin");
    let mut all = Vec::new();
    for number in 0..59 {
        let code = maker.code(&format!("plugin_{number}.py"), 2, "<module>");
        let frame = |code| Frame::Python { code, instruction: 0, entry: false };
        let frames = [frame(code), frame(outer)];
        all.push(maker.site(Origin::PythonSmall, &frames, Numbers::live(10, 50_000)));
    }
    maker.exited(0, 60_000_000_000).sealed();
    for second in 0..60u64 {
        let site = (second as usize).checked_sub(1).and_then(|at| all.get(at));
        let changes: Vec<(u32, u64)> = site.map(|&site| (site, 50_000)).into_iter().collect();
        maker.point(second * 1000, &changes);
    }
    let mut snapshot = Snapshot::default();
    let module = snapshot.root(NodeKind::Module, "plugin_7");
    let data = snapshot.object(module, Step::Global, "DATA", "list");
    for &site in &all {
        snapshot.group(State::Python, 0, data, &[(site, 10, 50_000)]);
    }
    let found = report(&[with(&mut maker, snapshot)]);
    assert_eq!(found.causes.len(), 1, "{:#?}", found.causes);
    let cause = &found.causes[0];
    let frames = &cause.site.as_ref().unwrap().stack;
    assert!(format!("{frames:?}").contains("line: Some(21)"), "{frames:?}");
    assert!(cause.holder.as_deref().unwrap().starts_with("sys.modules: many modules"), "{cause:?}");
    assert!((cause.growth.per_second - 50_000.0).abs() < 1_000.0, "{:?}", cause.growth);
}

#[test]
fn what_each_thread_of_a_function_has_is_one_cause() {
    let mut maker = sites(&[10_000, 9_000, 2_000, 8_000, 500]);
    let mut snapshot = Snapshot::default();
    for (site, thread, function, variable) in [
        (1, "worker-1", "work", "rows"),
        (2, "worker-2", "work", "rows"),
        (3, "worker-1", "work", "seen"),
        (4, "worker-1", "other", "rows"),
        (5, "worker-1", "wait", "self"),
    ] {
        let frame = snapshot.frame("app.py", 7, function, thread);
        let rows = snapshot.object(frame, Step::Local, variable, "list");
        let row = snapshot.object(rows, Step::Index, "0", "str");
        snapshot.group(State::Python, 0, row, &[(site, 100, 60 * 1_000)]);
    }
    let found = report(&[with(&mut maker, snapshot)]);
    let speeds: Vec<f64> = found.causes.iter().map(|it| it.growth.per_second.round()).collect();
    assert_eq!(speeds, [21_500.0, 8_000.0], "{:#?}", found.causes);
    let holder = found.causes[0].holder.as_deref().unwrap_or_default();
    assert!(holder.contains("local 'rows' of work()"), "{holder}");
}

#[test]
fn weak_references_to_what_is_held_belong_to_it() {
    for (references, causes) in [(100, 1), (40, 2)] {
        let mut maker = sites(&[10_000, 1_000]);
        let mut snapshot = Snapshot::default();
        let module = snapshot.root(NodeKind::Module, "app");
        let cache = snapshot.object(module, Step::Global, "CACHE", "list");
        let row = snapshot.object(cache, Step::Index, "0", "app.Row");
        snapshot.group(State::Python, cache, row, &[(1, 100, 600_000)]);
        let all = snapshot.object(module, Step::Global, "ALL", "_weakrefset.WeakSet");
        let set = snapshot.object(all, Step::Attribute, "data", "set");
        let one = snapshot.object(set, Step::Index, "0", "weakref.ReferenceType");
        snapshot.group(State::Python, set, one, &[(2, references, 60_000)]);
        let found = report(&[with(&mut maker, snapshot)]);
        assert_eq!(found.causes.len(), causes, "{:#?}", found.causes);
        assert_eq!(found.causes[0].leaders, 100);
    }
}

#[test]
fn a_few_that_have_several_holders_are_part_of_the_largest() {
    for (speed, causes) in [(500, 1), (5_000, 2)] {
        let mut maker = sites(&[10_000, speed]);
        let mut snapshot = Snapshot::default();
        let module = snapshot.root(NodeKind::Module, "app");
        let cache = snapshot.object(module, Step::Global, "CACHE", "dict");
        let row = snapshot.object(cache, Step::Key, "'a'", "list");
        let name = snapshot.object(row, Step::Index, "0", "str");
        snapshot.group(State::Python, cache, row, &[(1, 100, 600_000)]);
        snapshot.group(State::Python, 0, name, &[(2, 100, 60 * speed)]);
        let found = report(&[with(&mut maker, snapshot)]);
        assert_eq!(found.causes.len(), causes, "{:#?}", found.causes);
    }
}

#[test]
fn a_window_whose_rings_wait_for_the_collector_does_not_grow() {
    for (age_ms, garbage, causes) in [(3_000, 900, 0), (40_000, 900, 1), (3_000, 0, 2)] {
        let mut maker = sites(&[10_000]);
        let mut snapshot = Snapshot::default();
        let module = snapshot.root(NodeKind::Module, "app");
        let window = snapshot.object(module, Step::Global, "WINDOW", "collections.deque");
        let job = snapshot.object(window, Step::Index, "0", "app.Job");
        snapshot.group(State::Python, window, job, &[(1, 33, 200_000)]);
        snapshot.0.groups[0].age_ms = age_ms;
        snapshot.group(State::Cyclic, 0, 0, &[(1, 67, 400_000)]);
        if let Some(collector) = &mut snapshot.0.collector {
            (collector.garbage_objects, collector.garbage_bytes) = (garbage, 400_000);
        }
        let found = report(&[with(&mut maker, snapshot)]);
        assert_eq!(found.causes.len(), causes, "{age_ms} {garbage}: {:#?}", found.causes);
    }
}
