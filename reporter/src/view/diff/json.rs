//! For programs: the contracts `pyshim.diff/1` and `pyshim.check/1`, which only grow.

use serde::Serialize;
use serde_json::{Number, Value};

use crate::analyze::diff::result::{self, Limit, Presence, Unit, Verdict};
use crate::analyze::diff::result::{Check, Comparison};
use crate::view::json::{Object, Place, Process, Site, places};

use super::name;

/// A comparison with its first `top` sites.
pub fn comparison(comparison: &Comparison, top: usize) -> String {
    let mut out = Object::new();
    out.field("schema", &"pyshim.diff/1");
    sides(&mut out, &comparison.old, &comparison.new);
    out.field("noise", &Noise::of(comparison.noise));
    out.list("totals", comparison.totals.iter().map(Change::of));
    out.field("sites_changed", &comparison.sites.len());
    out.field("sites_quiet", &comparison.quiet);
    out.list("sites", comparison.sites.iter().take(top).map(SiteChange::of));
    out.field("notes", &comparison.notes);
    out.end()
}

/// A check.
pub fn check(check: &Check) -> String {
    let mut out = Object::new();
    out.field("schema", &"pyshim.check/1");
    sides(&mut out, &check.old, &check.new);
    out.field("noise", &Noise::of(check.noise));
    out.field("exceeded", &check.exceeded());
    out.list("gates", check.gates.iter().map(Gate::of));
    out.field("notes", &check.notes);
    out.end()
}

fn sides(out: &mut Object, old: &result::Side, new: &result::Side) {
    let runs = |side: &'_ result::Side| -> Vec<Value> {
        let run = |processes: &Vec<_>| {
            let processes: Vec<Process> = processes.iter().map(Process::of).collect();
            serde_json::to_value(processes).unwrap_or(Value::Null)
        };
        side.runs.iter().map(run).collect()
    };
    out.list("old", runs(old).into_iter());
    out.list("new", runs(new).into_iter());
}

#[derive(Serialize)]
struct Noise {
    old_runs: usize,
    new_runs: usize,
    measured: bool,
}

impl Noise {
    fn of(noise: result::Noise) -> Noise {
        Noise { old_runs: noise.old, new_runs: noise.new, measured: noise.measured }
    }
}

#[derive(Serialize)]
struct Change {
    metric: &'static str,
    unit: &'static str,
    old: Option<Number>,
    new: Option<Number>,
    difference: Option<Number>,
    tolerance: Option<Number>,
    verdict: &'static str,
}

/// Whole numbers as such.
fn number(value: f64) -> Option<Number> {
    match value.fract() == 0.0 && value.abs() < 9e15 {
        true => Some(Number::from(value as i64)),
        false => Number::from_f64(value),
    }
}

fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Bytes => "bytes",
        Unit::Blocks => "blocks",
        Unit::Rate => "bytes_per_second",
    }
}

impl Change {
    fn of(change: &result::Change) -> Change {
        let both = change.old.zip(change.new);
        Change {
            metric: change.metric.name(),
            unit: unit(change.metric.unit()),
            old: change.old.and_then(number),
            new: change.new.and_then(number),
            difference: both.and_then(|(old, new)| number(new - old)),
            tolerance: both.and_then(|_| number(change.tolerance)),
            verdict: match change.verdict {
                Verdict::Quiet => "quiet",
                Verdict::More => "more",
                Verdict::Less => "less",
            },
        }
    }
}

#[derive(Serialize)]
struct SiteChange<'a> {
    name: String,
    presence: &'static str,
    mapping: bool,
    changes: Vec<Change>,
    site: Site<'a>,
    stack: Vec<Place>,
}

impl<'a> SiteChange<'a> {
    fn of(site: &'a result::SiteChange) -> SiteChange<'a> {
        SiteChange {
            name: name(&site.place),
            presence: match site.presence {
                Presence::Both => "both",
                Presence::New => "new",
                Presence::Gone => "gone",
            },
            mapping: site.place.mapping,
            changes: site.changes.iter().map(Change::of).collect(),
            site: Site::of(&site.place.site, true),
            stack: places(&site.place.site),
        }
    }
}

#[derive(Serialize)]
struct Gate<'a> {
    gate: &'static str,
    metric: Option<&'static str>,
    limit: LimitAs,
    unit: &'static str,
    allowed: Option<Number>,
    old: Option<Number>,
    new: Option<Number>,
    tolerance: Option<Number>,
    exceeded: bool,
    exceeded_in_all: bool,
    sites: Vec<Blamed<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum LimitAs {
    Bytes(u64),
    Blocks(u64),
    BytesPerSecond(f64),
    Percent(f64),
}

#[derive(Serialize)]
struct Blamed<'a> {
    name: String,
    old: Option<Number>,
    new: Option<Number>,
    exceeds_alone: bool,
    kind: Option<&'a str>,
    mapping: bool,
    site: Site<'a>,
    stack: Vec<Place>,
}

impl<'a> Gate<'a> {
    fn of(gate: &'a result::Gate) -> Gate<'a> {
        let blamed = |blamed: &'a result::Blamed| Blamed {
            name: name(&blamed.place),
            old: blamed.old.and_then(number),
            new: number(blamed.new),
            exceeds_alone: blamed.alone,
            kind: blamed.kind.as_deref(),
            mapping: blamed.place.mapping,
            site: Site::of(&blamed.place.site, true),
            stack: places(&blamed.place.site),
        };
        Gate {
            gate: gate.option(),
            metric: gate.metric().map(result::Metric::name),
            limit: match gate.asked.limit {
                Limit::Bytes(bytes) => LimitAs::Bytes(bytes),
                Limit::Blocks(blocks) => LimitAs::Blocks(blocks),
                Limit::Rate(rate) => LimitAs::BytesPerSecond(rate),
                Limit::Percent(percent) => LimitAs::Percent(percent),
            },
            unit: unit(gate.unit),
            allowed: number(gate.allowed),
            old: gate.old.and_then(number),
            new: number(gate.new),
            tolerance: number(gate.tolerance),
            exceeded: gate.exceeded,
            exceeded_in_all: gate.in_all,
            sites: gate.sites.iter().map(blamed).collect(),
        }
    }
}
