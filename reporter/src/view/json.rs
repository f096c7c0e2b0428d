//! The report for programs: the contract `pyshim.summary/1`, which only grows.

mod causes;

use std::collections::BTreeMap;

use pyshim_dump::Amount;
use serde::Serialize;

use crate::analyze::report::{self, By, Frame, Moment, Report};
use crate::analyze::roles::Role;
use crate::read::State;

use super::units;

/// The whole report. A line for each of the many, so that it reads and compares well all the same.
pub fn render(report: &Report) -> String {
    let growth = report.total.growth;
    let mut out = Object::new();
    out.field("schema", &"pyshim.summary/1");
    out.field("process", &report.processes.first().map(Process::of));
    out.list("processes", report.processes.iter().map(Process::of));
    out.field(
        "moment",
        &match report.moment {
            Moment::Last => "last",
            Moment::Peak => "peak",
        },
    );
    out.field("verdict", &causes::Verdict::of(&report.verdict));
    out.list("causes", report.causes.iter().map(causes::Cause::of));
    out.field("memory", &Memory::of(&report.memory));
    out.field("peak", &report.peak.map(|peak| Peak { bytes: peak.bytes, at_s: peak.at_s }));
    out.field(
        "growth",
        &Growth {
            separated: report.window.separated,
            startup_s: report.window.startup_s,
            bytes_per_second: growth.map(|growth| growth.per_second),
            standard_error: growth.map(|growth| growth.error),
        },
    );
    out.field(
        "total",
        &Total {
            bytes: report.total.heap.bytes,
            blocks: report.total.heap.blocks,
            mapped_bytes: report.total.mapped.bytes,
            outlives_teardown: report.total.outlives.map(Blocks::of),
        },
    );
    out.field(
        "by",
        &match report.by {
            By::Site => "site",
            By::Library => "library",
            By::Type => "type",
            By::Holder => "holder",
        },
    );
    out.list("types", report.types.iter().map(causes::Type::of));
    out.list("holders", report.holders.iter().map(causes::Holder::of));
    out.list("groups", report.groups.iter().map(Group::of));
    out.list("survivors", report.survivors.iter().map(Survivor::of));
    out.field("completeness", &Completeness::of(report));
    out.end()
}

/// A JSON object, field by field.
pub(super) struct Object(String);

impl Object {
    pub(super) fn new() -> Object {
        Object("{".into())
    }

    fn name(&mut self, name: &str) {
        let comma = if self.0.ends_with('{') { "" } else { "," };
        self.0.push_str(&format!("{comma}\n\"{name}\": "));
    }

    fn value(&mut self, value: &impl Serialize) {
        // Structures of texts and numbers always become JSON.
        self.0.push_str(&serde_json::to_string(value).unwrap_or_else(|_| "null".into()));
    }

    pub(super) fn field(&mut self, name: &str, value: &impl Serialize) {
        self.name(name);
        self.value(value);
    }

    pub(super) fn list(&mut self, name: &str, values: impl Iterator<Item = impl Serialize>) {
        self.name(name);
        self.0.push('[');
        for (index, value) in values.enumerate() {
            self.0.push_str(if index > 0 { ",\n  " } else { "\n  " });
            self.value(&value);
        }
        self.0.push_str("\n]");
    }

    pub(super) fn end(mut self) -> String {
        self.0.push_str("\n}\n");
        self.0
    }
}

#[derive(Serialize)]
pub(super) struct Process<'a> {
    pid: u32,
    parent_pid: u32,
    program: &'a str,
    argv: &'a [String],
    executable: &'a str,
    directory: &'a str,
    python: Option<&'a str>,
    started: String,
    duration_s: f64,
    end: End,
    forked: bool,
    inherited_freed: Blocks,
    dump: &'a str,
}

#[derive(Serialize)]
struct End {
    kind: &'static str,
    status: Option<i32>,
}

#[derive(Serialize)]
struct Blocks {
    bytes: u64,
    blocks: u64,
}

#[derive(Serialize)]
struct Memory {
    rss: Option<u64>,
    peak_rss: Option<u64>,
    live_python: u64,
    live_native: u64,
    live_unknown: u64,
    retained_pymalloc: Option<u64>,
    retained_libc: Option<u64>,
    mapped: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shared: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    files: Option<u64>,
    thread_stacks: Option<u64>,
    code: Option<u64>,
    shim: Option<u64>,
    unexplained: Option<i64>,
}

#[derive(Serialize)]
struct Peak {
    bytes: u64,
    at_s: Option<f64>,
}

#[derive(Serialize)]
struct Growth {
    separated: bool,
    startup_s: f64,
    bytes_per_second: Option<f64>,
    standard_error: Option<f64>,
}

#[derive(Serialize)]
struct Total {
    bytes: u64,
    blocks: u64,
    mapped_bytes: u64,
    outlives_teardown: Option<Blocks>,
}

#[derive(Serialize)]
struct Group<'a> {
    label: Option<&'a str>,
    stacks: usize,
    site: Site<'a>,
    stack: Vec<Place>,
    #[serde(flatten)]
    figures: Figures,
}

#[derive(Serialize)]
struct Survivor<'a> {
    site: Site<'a>,
    #[serde(flatten)]
    figures: Figures,
    stack: Vec<Place>,
    stack_truncated: bool,
}

#[derive(Serialize)]
struct Figures {
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_interval: Option<[u64; 2]>,
    blocks: u64,
    share: Option<f64>,
    startup_bytes: Option<u64>,
    grown_bytes: Option<i64>,
    growth_bytes_per_second: Option<f64>,
    growth_standard_error: Option<f64>,
    growing: bool,
    origin: &'static str,
    age_s: Option<Percentiles<f64>>,
    size: Option<Percentiles<u64>>,
    outlives_teardown: Option<Blocks>,
    peak: Blocks,
}

#[derive(Serialize)]
struct Percentiles<T> {
    p50: T,
    p99: T,
    max: T,
}

#[derive(Serialize)]
pub(super) struct Site<'a> {
    id: &'a str,
    python: Vec<PythonFrame<'a>>,
    native: Vec<NativeFrame<'a>>,
}

#[derive(Serialize)]
struct PythonFrame<'a> {
    file: Option<&'a str>,
    line: Option<u32>,
    column: Option<u32>,
    function: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'a str>,
}

#[derive(Serialize)]
struct NativeFrame<'a> {
    module: Option<&'a str>,
    function: Option<&'a str>,
    file: Option<&'a str>,
    line: Option<u32>,
    offset: u64,
    inlined: bool,
    role: &'static str,
}

/// A frame of the interleaved stack: its place in the site's list of its kind.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Place {
    Python(usize),
    Native(usize),
}

#[derive(Serialize)]
struct Completeness<'a> {
    exact: bool,
    lost: BTreeMap<&'a str, u64>,
    python_frames: bool,
    python_allocators: bool,
    native_frames: &'a str,
    sampled: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unseen_bytes: Option<u64>,
    notes: &'a [String],
}

impl<'a> Process<'a> {
    pub(super) fn of(process: &'a report::Process) -> Process<'a> {
        let (kind, status) = match process.state {
            State::Running => ("running", None),
            State::Exited(status) => ("exit", Some(status)),
            State::QuickExited(status) => ("_exit", Some(status)),
            State::Replaced => ("exec", None),
            State::Died => ("killed", None),
        };
        Process {
            pid: process.pid,
            parent_pid: process.parent,
            program: &process.program,
            argv: &process.argv,
            executable: &process.executable,
            directory: &process.directory,
            python: process.python.as_deref(),
            started: units::moment(process.started_unix_ns),
            duration_s: process.duration_ns as f64 / 1e9,
            end: End { kind, status },
            forked: process.forked,
            inherited_freed: Blocks::of(process.inherited_freed),
            dump: &process.dump,
        }
    }
}

impl Blocks {
    fn of(amount: Amount) -> Blocks {
        Blocks { bytes: amount.bytes, blocks: amount.blocks }
    }
}

impl Memory {
    fn of(memory: &report::Memory) -> Memory {
        Memory {
            rss: memory.rss,
            peak_rss: memory.peak_rss,
            live_python: memory.live_python,
            live_native: memory.live_native,
            live_unknown: memory.live_unknown,
            retained_pymalloc: memory.retained_pymalloc,
            retained_libc: memory.retained_libc,
            mapped: memory.mapped,
            shared: memory.shared,
            files: memory.files,
            thread_stacks: memory.thread_stacks,
            code: memory.code,
            shim: memory.shim,
            unexplained: memory.unexplained,
        }
    }
}

impl<'a> Group<'a> {
    fn of(group: &'a report::Group) -> Group<'a> {
        Group {
            label: group.label.as_deref(),
            stacks: group.stacks,
            site: Site::of(&group.heaviest, true),
            stack: places(&group.heaviest),
            figures: Figures::of(&group.figures),
        }
    }
}

impl<'a> Survivor<'a> {
    fn of(survivor: &'a report::Survivor) -> Survivor<'a> {
        Survivor {
            site: Site::of(&survivor.site, false),
            figures: Figures::of(&survivor.figures),
            stack: places(&survivor.site),
            stack_truncated: survivor.site.truncated,
        }
    }
}

impl Figures {
    fn of(figures: &report::Figures) -> Figures {
        let seconds = |ms: u64| ms as f64 / 1e3;
        Figures {
            bytes: figures.live.bytes,
            bytes_interval: figures.interval.map(|(low, high)| [low, high]),
            blocks: figures.live.blocks,
            share: figures.share,
            startup_bytes: figures.startup_bytes,
            grown_bytes: figures.grown_bytes,
            growth_bytes_per_second: figures.growth.map(|growth| growth.per_second),
            growth_standard_error: figures.growth.map(|growth| growth.error),
            growing: figures.growing,
            origin: figures.origin.name(),
            age_s: figures.age_ms.map(|it| Percentiles {
                p50: seconds(it.p50),
                p99: seconds(it.p99),
                max: seconds(it.max),
            }),
            size: figures.size.map(|it| Percentiles { p50: it.p50, p99: it.p99, max: it.max }),
            outlives_teardown: figures.outlives.map(Blocks::of),
            peak: Blocks::of(figures.peak),
        }
    }
}

impl<'a> Completeness<'a> {
    fn of(report: &'a Report) -> Completeness<'a> {
        let known = &report.completeness;
        Completeness {
            exact: known.exact,
            lost: known.lost.iter().copied().collect(),
            python_frames: known.python_frames,
            python_allocators: known.python_allocators,
            native_frames: &known.native_frames,
            sampled: report.processes.iter().find_map(|process| process.sampled),
            unseen_bytes: known.unseen,
            notes: &known.notes,
        }
    }
}

impl<'a> Site<'a> {
    pub(super) fn of(site: &'a report::Site, with_source: bool) -> Site<'a> {
        let mut out = Site { id: &site.id, python: Vec::new(), native: Vec::new() };
        for frame in &site.stack {
            match &**frame {
                Frame::Python { file, line, column, function, source } => {
                    out.python.push(PythonFrame {
                        file: Some(file.as_str()).filter(|file| !file.is_empty()),
                        line: *line,
                        column: *column,
                        function,
                        source: source.as_deref().filter(|_| with_source),
                    });
                }
                Frame::Native { module, function, file, line, offset, inlined, role } => {
                    out.native.push(NativeFrame {
                        module: Some(module.as_str()).filter(|module| !module.is_empty()),
                        function: function.as_deref(),
                        file: file.as_deref(),
                        line: *line,
                        offset: *offset,
                        inlined: *inlined,
                        role: match role {
                            Role::Program => "program",
                            Role::Interpreter => "interpreter",
                            Role::Runtime => "runtime",
                            Role::Shim => "shim",
                        },
                    });
                }
            }
        }
        out
    }
}

pub(super) fn places(site: &report::Site) -> Vec<Place> {
    let (mut python, mut native) = (0.., 0..);
    let mut place = |frame: &Frame| match frame {
        Frame::Python { .. } => python.next().map(Place::Python),
        Frame::Native { .. } => native.next().map(Place::Native),
    };
    site.stack.iter().filter_map(|frame| place(frame)).collect()
}

/// A site by itself.
pub fn site(site: &report::Site) -> serde_json::Value {
    serde_json::to_value(Site::of(site, true)).unwrap_or_default()
}
