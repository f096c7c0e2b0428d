//! What the views make of a report that was put together by hand. `BLESS=1` writes the golden
//! files anew; one that is missing fails.

#[path = "support/documented.rs"]
mod documented;
#[path = "support/golden.rs"]
mod golden;

use std::rc::Rc;

use golden::golden;
use pyshim_dump::Amount;
use pyshim_reporter::analyze::causes::{Cause, Confidence, Forecast, Kind, Verdict};
use pyshim_reporter::analyze::report::{
    By, Completeness, Figures, Frame, Group, HolderRow, Memory, Moment, Peak, Percentiles, Process,
    Rate, Report, Site, Source, Survivor, Total, TypeRow, Window,
};
use pyshim_reporter::analyze::roles::Role;
use pyshim_reporter::read::State;
use pyshim_reporter::view::{Paint, json, markdown, text};

fn python(file: &str, line: u32, function: &str, source: Option<&str>) -> Rc<Frame> {
    Rc::new(Frame::Python {
        file: file.into(),
        line: Some(line),
        column: Some(4),
        function: function.into(),
        source: source.map(str::to_owned),
    })
}

fn native(
    module: &str,
    function: Option<&str>,
    place: Option<(&str, u32)>,
    role: Role,
) -> Rc<Frame> {
    Rc::new(Frame::Native {
        module: module.into(),
        function: function.map(str::to_owned),
        file: place.map(|place| place.0.to_owned()),
        line: place.map(|place| place.1),
        offset: 0x1234,
        inlined: false,
        role,
    })
}

fn main_frame() -> Rc<Frame> {
    python("/srv/app/app.py", 120, "main", None)
}

fn leak() -> Group {
    let stack = vec![
        native("/lib/libc.so.6", Some("__libc_calloc"), None, Role::Runtime),
        native(
            "/srv/app/rowpack.so",
            Some("pack_row"),
            Some(("/src/rowpack.c", 212)),
            Role::Program,
        ),
        native("/opt/py/bin/python3.11", Some("cfunction_call"), None, Role::Interpreter),
        python("/srv/app/app.py", 88, "encode", Some("body = rowpack.pack(row)")),
        main_frame(),
    ];
    let live = Amount { blocks: 41_210, bytes: 388 << 20 };
    Group {
        label: None,
        stacks: 12,
        figures: Figures {
            origin: Source::Native,
            live,
            interval: Some((350 << 20, 430 << 20)),
            share: Some(0.24),
            startup_bytes: Some(8 << 20),
            grown_bytes: Some(380 << 20),
            growth: Some(Rate { per_second: 629_145.6, error: 50_000.0 }),
            growing: true,
            age_ms: Some(Percentiles { p50: 360_000, p99: 715_000, max: 722_000 }),
            size: Some(Percentiles { p50: 9_870, p99: 9_870, max: 9_870 }),
            outlives: Some(live),
            peak: live,
        },
        heaviest: Site { id: "0123456789abcdef".into(), stack, truncated: false },
    }
}

fn cache() -> Group {
    let stack = vec![
        native("/opt/py/bin/python3.11", Some("_PyObject_GC_New"), None, Role::Interpreter),
        native(
            "/opt/py/bin/python3.11",
            Some("PyDict_New"),
            Some(("dictobject.c", 7)),
            Role::Interpreter,
        ),
        python("/srv/app/app.py", 31, "load", Some("rows.append(parse(line))")),
        main_frame(),
    ];
    Group {
        label: None,
        stacks: 1,
        figures: Figures {
            origin: Source::Python,
            live: Amount { blocks: 380_112, bytes: 1_181_116_006 },
            interval: None,
            share: Some(0.72),
            startup_bytes: Some(1_181_000_000),
            grown_bytes: Some(116_006),
            growth: Some(Rate { per_second: 10.0, error: 60.0 }),
            growing: false,
            age_ms: Some(Percentiles { p50: 700_000, p99: 720_000, max: 722_000 }),
            size: Some(Percentiles { p50: 232, p99: 1_184, max: 4_096 }),
            outlives: Some(Amount { blocks: 3, bytes: 600 }),
            peak: Amount { blocks: 380_200, bytes: 1_182_000_000 },
        },
        heaviest: Site { id: "fedcba9876543210".into(), stack, truncated: true },
    }
}

fn mapping() -> Group {
    Group {
        label: None,
        stacks: 1,
        figures: Figures {
            origin: Source::Mapping,
            live: Amount { blocks: 3, bytes: 96 << 20 },
            startup_bytes: Some(96 << 20),
            grown_bytes: Some(0),
            growth: Some(Rate::default()),
            outlives: Some(Amount::default()),
            peak: Amount { blocks: 3, bytes: 96 << 20 },
            ..Figures::default()
        },
        heaviest: Site {
            id: "00000000000000aa".into(),
            stack: vec![native("/srv/app/store.so", None, None, Role::Program), main_frame()],
            truncated: false,
        },
    }
}

fn process(pid: u32, state: State) -> Process {
    Process {
        dump: format!("pyshim.{pid}.dump"),
        pid,
        parent: 1,
        program: "app.py".into(),
        argv: vec!["python".into(), "app.py".into()],
        executable: "/opt/py/bin/python3.11".into(),
        directory: "/srv/app".into(),
        python: Some("3.11.7".into()),
        started_unix_ns: 1_709_294_400_000_000_000,
        duration_ns: 724_000_000_000,
        state,
        forked: false,
        inherited_freed: Amount::default(),
        finalized: true,
        sampled: None,
    }
}

fn causes() -> Vec<Cause> {
    vec![
        Cause {
            kind: Kind::PythonHeld,
            confidence: Confidence::Certain,
            bytes: 1_181_116_006,
            blocks: 1_200_000,
            leaders: 380_112,
            growth: Rate { per_second: 2_516_582.4, error: 40_000.0 },
            share: Some(0.78),
            type_name: Some("dict".into()),
            site: Some(cache().heaviest),
            holder: Some("module app → CACHE (dict) → [str] → list → dict".into()),
            evidence: vec![
                "app.CACHE holds 1.1 GiB in 1 200 000 blocks that would go with it".into(),
            ],
            advice: "reachable: gc.collect() will not help; bound or clear app.CACHE".into(),
            tools: "tracemalloc shows the line, objgraph.show_backrefs() the path; gc.collect() frees nothing".into(),
            pid: None,
        },
        Cause {
            kind: Kind::NativeLeak,
            confidence: Confidence::Likely,
            bytes: 388 << 20,
            blocks: 41_210,
            leaders: 41_210,
            growth: Rate { per_second: 629_145.6, error: 50_000.0 },
            share: Some(0.19),
            site: Some(leak().heaviest),
            evidence: vec![
                "no pointer to any of these blocks is left in 1.9 GiB searched".into(),
                "the search is partial: registers of 3 threads not searched".into(),
            ],
            advice: "Python's gc and tracemalloc cannot see this; pack_row in rowpack.so must free it".into(),
            tools: "gc, tracemalloc and objgraph show none of it".into(),
            ..Cause::default()
        },
    ]
}

fn report() -> Report {
    let groups = vec![leak(), cache(), mapping()];
    let survivor =
        |group: &Group| Survivor { site: group.heaviest.clone(), figures: group.figures.clone() };
    Report {
        processes: vec![process(4242, State::Exited(0))],
        causes: causes(),
        types: vec![
            TypeRow { name: "dict".into(), objects: 380_112, bytes: 88 << 20, retained: 1 << 30 },
            TypeRow { name: "app.Row".into(), objects: 41, bytes: 2_000, retained: 9_000 },
        ],
        holders: vec![HolderRow {
            holder: "module app → CACHE (dict) → [str] → list → dict".into(),
            bytes: 1_181_116_006,
            blocks: 380_112,
            retained: Some(1_182_000_000),
        }],
        verdict: Verdict {
            kind: Kind::PythonHeld,
            growing: Some(true),
            growth: Some(Rate { per_second: 3_250_585.6, error: 51_000.0 }),
            explained: Some(0.97),
            forecast: Some(Forecast { limit: 4 << 30, seconds: 700.0 }),
            remarks: Vec::new(),
        },
        moment: Moment::Last,
        by: By::Site,
        memory: Memory {
            rss: Some(2_040_109_466),
            peak_rss: Some(2_050_000_000),
            live_python: 1_181_116_006,
            live_native: 402 << 20,
            live_unknown: 0,
            retained_pymalloc: Some(150 << 20),
            retained_libc: Some(30 << 20),
            mapped: Some(96 << 20),
            shared: None,
            files: None,
            thread_stacks: None,
            code: Some(41 << 20),
            shim: Some(16 << 20),
            unexplained: Some(88_291_940),
        },
        total: Total {
            heap: Amount { blocks: 450_000, bytes: 1_640_000_000 },
            mapped: Amount { blocks: 3, bytes: 96 << 20 },
            outlives: Some(Amount { blocks: 41_213, bytes: 406_847_000 }),
            growth: Some(Rate { per_second: 629_155.6, error: 51_000.0 }),
            groups_left: 17,
            left: Amount { blocks: 28_678, bytes: 52_000_000 },
            stacks: 812,
        },
        window: Window { separated: true, startup_s: 30.0 },
        peak: Some(Peak { bytes: 1_640_100_000, at_s: Some(718.25) }),
        survivors: groups.iter().map(survivor).collect(),
        groups,
        completeness: Completeness {
            exact: false,
            lost: vec![("blocks", 2), ("foreign", 13_204)],
            python_frames: true,
            python_allocators: true,
            native_frames: "leaf".into(),
            unseen: Some(1_572_864),
            notes: vec!["/srv/app/store.so is not here".into()],
        },
    }
}

#[test]
fn one_process_as_text() {
    golden("one.txt", &text::render(&report(), Paint(false)));
}

#[test]
fn one_process_in_colour() {
    golden("one.ansi", &text::render(&report(), Paint(true)));
}

#[test]
fn one_process_as_json() {
    let json = json::render(&report());
    golden("one.json", &json);
    documented::assert_documented(&json);
}

#[test]
fn one_process_as_markdown() {
    golden("one.md", &markdown::render(&report()));
}

#[test]
fn several_processes_as_text() {
    let mut report = report();
    report.processes = vec![
        process(4242, State::Running),
        Process {
            forked: true,
            parent: 4242,
            inherited_freed: Amount { blocks: 12, bytes: 4_000 },
            finalized: false,
            ..process(4250, State::Died)
        },
        Process { python: None, program: "tool".into(), ..process(4251, State::Replaced) },
        Process { sampled: Some(512 << 10), ..process(4252, State::QuickExited(3)) },
    ];
    report.peak = None;
    report.memory.unexplained = Some(-(5 << 20));
    golden("several.txt", &text::render(&report, Paint(false)));
}

#[test]
fn libraries_as_text() {
    let mut report = report();
    report.by = By::Library;
    report.groups[0].label = Some("rowpack.so".into());
    report.groups[1].label = Some("app.py".into());
    report.groups[2].label = Some("store.so".into());
    golden("libraries.txt", &text::render(&report, Paint(false)));
}

#[test]
fn types_and_holders_as_text() {
    let mut report = report();
    report.by = By::Type;
    golden("types.txt", &text::render(&report, Paint(false)));
    report.by = By::Holder;
    golden("holders.txt", &text::render(&report, Paint(false)));
}

#[test]
fn types_and_holders_as_markdown() {
    let mut report = report();
    report.types[1].name = "__main__.Row<a|b>".into();
    report.by = By::Type;
    golden("types.md", &markdown::render(&report));
    report.by = By::Holder;
    golden("holders.md", &markdown::render(&report));
}

#[test]
fn what_does_not_grow_as_text() {
    let mut report = report();
    report.causes.clear();
    report.verdict = Verdict {
        growing: Some(false),
        growth: Some(Rate { per_second: 120.0, error: 700.0 }),
        ..Verdict::default()
    };
    golden("steady.txt", &text::render(&report, Paint(false)));
    report.causes = vec![Cause {
        kind: Kind::AllocatorRetention,
        confidence: Confidence::Certain,
        bytes: 180 << 20,
        evidence: vec![
            "live blocks fell by 900 MiB from their peak, the resident set by 0 B".into(),
        ],
        advice: "call malloc_trim(0) after the work".into(),
        ..Cause::default()
    }];
    golden("kept.txt", &text::head(&report, Paint(false)));
}

#[test]
fn a_short_run_as_text() {
    let mut report = report();
    report.causes.clear();
    report.verdict = Verdict::default();
    report.window.separated = false;
    report.total.growth = None;
    report.total.groups_left = 0;
    for group in &mut report.groups {
        group.figures.growth = None;
        group.figures.growing = false;
    }
    report.groups.remove(2);
    golden("short.txt", &text::render(&report, Paint(false)));
}

#[test]
fn nothing_as_text_and_json() {
    let report = Report { processes: vec![process(7, State::Exited(0))], ..Report::default() };
    golden("nothing.txt", &text::render(&report, Paint(false)));
    golden("nothing.json", &json::render(&report));
}

#[test]
fn json_is_json() {
    let value: serde_json::Value = serde_json::from_str(&json::render(&report())).unwrap();
    assert_eq!(value["schema"], "pyshim.summary/1");
    assert_eq!(value["survivors"].as_array().unwrap().len(), 3);
}
