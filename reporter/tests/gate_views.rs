//! What the views make of a comparison and a check that were put together by hand. `BLESS=1` writes
//! the golden files anew; one that is missing fails.

#[path = "support/documented.rs"]
mod documented;
#[path = "support/golden.rs"]
mod golden;

use std::rc::Rc;

use golden::golden;
use pyshim_dump::Amount;
use pyshim_reporter::analyze::diff::result::{
    Asked, Blamed, Change, Check, Comparison, Gate, Limit, Metric, Noise, Place, Presence, Side,
    SiteChange, Unit, Verdict, Watch,
};
use pyshim_reporter::analyze::report::{Frame, Process, Site};
use pyshim_reporter::analyze::roles::Role;
use pyshim_reporter::read::State;
use pyshim_reporter::view::Paint;
use pyshim_reporter::view::diff::{json, junit, markdown, text};

fn python(file: &str, line: u32, function: &str, source: Option<&str>) -> Rc<Frame> {
    Rc::new(Frame::Python {
        file: file.into(),
        line: Some(line),
        column: None,
        function: function.into(),
        source: source.map(str::to_owned),
    })
}

/// Full of what the formats would obey.
fn native() -> Rc<Frame> {
    Rc::new(Frame::Native {
        module: "/srv/app/rowpack.so".into(),
        function: Some("std::vector<row&>::\"grow\"|```</failure>\u{1b}[2J".into()),
        file: None,
        line: None,
        offset: 0x1234,
        inlined: false,
        role: Role::Program,
    })
}

fn process(pid: u32) -> Process {
    Process {
        dump: format!("pyshim.{pid}.dump"),
        pid,
        parent: 1,
        program: "app.py".into(),
        argv: vec!["python".into(), "app.py".into()],
        executable: "/opt/py/bin/python3.12".into(),
        directory: "/srv/app".into(),
        python: Some("3.12.1".into()),
        started_unix_ns: 1_709_294_400_000_000_000,
        duration_ns: 12_000_000_000,
        state: State::Exited(0),
        forked: false,
        inherited_freed: Amount::default(),
        finalized: true,
        sampled: None,
    }
}

fn place(native: Option<Rc<Frame>>, line: u32, mapping: bool) -> Place {
    let own = python("/srv/app/app.py", line, "load", Some("rows.append(parse(line))"));
    let inner = python("/v/lib/python3.12/json/decoder.py", 353, "raw_decode", None);
    let stack = native.iter().chain([&inner, &own]).cloned().collect();
    let site = Site { id: format!("{line:016x}"), stack, truncated: false };
    let (inner, own, directory) = (Some(inner), Some(own), "/srv/app".into());
    Place { native, inner, own, directory, mapping, site }
}

fn change(metric: Metric, old: f64, new: f64, tolerance: f64) -> Change {
    let verdict = match new - old {
        more if more > tolerance => Verdict::More,
        less if -less > tolerance => Verdict::Less,
        _ => Verdict::Quiet,
    };
    Change { metric, old: Some(old), new: Some(new), tolerance, verdict }
}

fn changes(old: f64, new: f64) -> Vec<Change> {
    vec![
        change(Metric::Survivors, old, new, 4096.0),
        change(Metric::SurvivingBlocks, old / 64.0, new / 64.0, 64.0),
        change(Metric::Allocated, old * 3.0, new * 2.0, 65_536.0),
        change(Metric::AllocatedBlocks, old, old, 64.0),
        change(Metric::Peak, old, new, 1e5),
        change(Metric::Growth, 100.5, 5_000.25, 1024.0),
    ]
}

fn comparison() -> Comparison {
    let mut totals = changes(10_485_760.0, 14_680_064.0);
    totals.push(change(Metric::Mapped, 0.0, 0.0, 4096.0));
    let mapped = vec![change(Metric::Mapped, 8_388_608.0, 0.0, 4096.0)];
    let site = |place, presence, changes| SiteChange { place, presence, changes };
    Comparison {
        old: Side { runs: vec![vec![process(1)], vec![process(2)], vec![process(3)]] },
        new: Side { runs: vec![vec![process(4), process(5)]] },
        noise: Noise { old: 3, new: 1, measured: true },
        totals,
        sites: vec![
            site(place(Some(native()), 31, false), Presence::Both, changes(1e6, 4e6)),
            site(place(None, 99, false), Presence::New, changes(0.0, 90_112.0)),
            site(place(None, 120, true), Presence::Gone, mapped),
        ],
        quiet: 1_234,
        notes: vec!["the interpreter differs: CPython 3.11.7 against <CPython> 3.12.1".into()],
    }
}

fn nothing() -> Comparison {
    let totals = vec![
        change(Metric::Survivors, 1e6, 1e6, 2e4),
        Change { old: None, new: None, ..change(Metric::Growth, 0.0, 0.0, 0.0) },
    ];
    let side = |pid| Side { runs: vec![vec![process(pid)]] };
    let noise = Noise { old: 1, new: 1, measured: false };
    let (old, new) = (side(1), side(2));
    Comparison { old, new, noise, totals, sites: vec![], quiet: 1, notes: vec![] }
}

fn checked() -> Check {
    let gate = |watch, limit, unit, allowed, old, new: f64, exceeded, sites| Gate {
        asked: Asked { watch, limit },
        unit,
        allowed,
        old,
        new,
        tolerance: 4096.0,
        in_all: exceeded,
        exceeded,
        sites,
    };
    let blamed = |place, old, new, kind: Option<&str>| Blamed {
        place,
        old,
        new,
        alone: true,
        kind: kind.map(str::to_owned),
    };
    let mut alone = gate(
        Watch::Increase(Metric::SurvivingBlocks),
        Limit::Blocks(500),
        Unit::Blocks,
        500.0,
        Some(9_000.0),
        9_100.0,
        true,
        vec![blamed(place(None, 99, false), Some(0.0), 700.0, None)],
    );
    alone.in_all = false;
    Check {
        new: Side { runs: vec![vec![process(4)]] },
        old: Side { runs: vec![vec![process(1)], vec![process(2)]] },
        noise: Noise { old: 2, new: 1, measured: true },
        gates: vec![
            gate(
                Watch::Increase(Metric::Survivors),
                Limit::Percent(10.0),
                Unit::Bytes,
                1_048_576.0,
                Some(10_485_760.0),
                14_680_064.0,
                true,
                vec![blamed(place(Some(native()), 31, false), Some(1e6), 4e6, None)],
            ),
            alone,
            gate(
                Watch::Leak,
                Limit::Bytes(0),
                Unit::Bytes,
                0.0,
                None,
                2048.0,
                true,
                vec![blamed(place(None, 31, false), None, 2048.0, Some("native-leak"))],
            ),
            gate(
                Watch::Total(Metric::Growth),
                Limit::Rate(10_240.0),
                Unit::Rate,
                10_240.0,
                None,
                -512.5,
                false,
                vec![],
            ),
            gate(
                Watch::Total(Metric::Peak),
                Limit::Bytes(64 << 20),
                Unit::Bytes,
                67_108_864.0,
                Some(1e7),
                2e7,
                false,
                vec![],
            ),
        ],
        notes: vec![],
    }
}

#[test]
fn a_comparison_as_text() {
    golden("diff.txt", &text::comparison(&comparison(), 2, Paint(false)));
    golden("diff.ansi", &text::comparison(&comparison(), 10, Paint(true)));
    golden("diff-nothing.txt", &text::comparison(&nothing(), 10, Paint(false)));
}

#[test]
fn a_comparison_as_markdown() {
    golden("diff.md", &markdown::comparison(&comparison(), 2));
    golden("diff-nothing.md", &markdown::comparison(&nothing(), 2));
}

#[test]
fn a_comparison_as_json() {
    let json = json::comparison(&comparison(), usize::MAX);
    golden("diff.json", &json);
    documented::assert_documented(&json);
    let value: serde_json::Value =
        serde_json::from_str(&json::comparison(&comparison(), 1)).unwrap();
    assert_eq!((&value["schema"], &value["sites_changed"]), (&"pyshim.diff/1".into(), &3.into()));
    assert_eq!(value["sites"].as_array().unwrap().len(), 1);
}

#[test]
fn a_comparison_as_junit() {
    golden("diff.xml", &junit::comparison(&comparison(), usize::MAX));
    golden("diff-nothing.xml", &junit::comparison(&nothing(), usize::MAX));
}

#[test]
fn a_check_in_every_format() {
    golden("check.txt", &text::check(&checked(), Paint(false)));
    golden("check.ansi", &text::check(&checked(), Paint(true)));
    golden("check.md", &markdown::check(&checked()));
    let json = json::check(&checked());
    golden("check.json", &json);
    documented::assert_documented(&json);
    golden("check.xml", &junit::check(&checked()));
    let value: serde_json::Value = serde_json::from_str(&json::check(&checked())).unwrap();
    assert_eq!((&value["schema"], &value["exceeded"]), (&"pyshim.check/1".into(), &3.into()));
}

#[test]
fn nothing_from_a_dump_is_obeyed() {
    for report in [
        text::comparison(&comparison(), 10, Paint(false)),
        markdown::comparison(&comparison(), 10),
        junit::comparison(&comparison(), 10),
        text::check(&checked(), Paint(false)),
        markdown::check(&checked()),
        junit::check(&checked()),
    ] {
        assert!(!report.contains('\u{1b}'), "{report}");
    }
    for report in [junit::comparison(&comparison(), 10), junit::check(&checked())] {
        let ends = report.matches("</failure>").count();
        assert_eq!(ends, report.matches("<failure ").count(), "{report}");
    }
}
