//! Comparisons and checks as a reader sees them. Never computes.

pub mod json;
pub mod junit;
pub mod markdown;
pub mod text;

use crate::analyze::diff::result::{
    Blamed, Change, Comparison, Gate, Limit, Metric, Noise, Place, Presence, Side, SiteChange,
    Unit, Verdict, Watch,
};

use super::units::{bytes, count, counted, nanoseconds, rate, signed_bytes};
use super::{clean, stack};

/// How a comparison or a check is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// For a terminal.
    Text,
    /// For programs: the contracts `pyshim.diff/1` and `pyshim.check/1`.
    Json,
    /// For a pull request's comment.
    Markdown,
    /// For the test report of a CI system.
    Junit,
}

/// A figure in its unit.
fn figure(unit: Unit, value: f64) -> String {
    let size = value.abs().round() as u64;
    match unit {
        Unit::Rate => rate(value),
        Unit::Bytes => bytes(size),
        Unit::Blocks => counted(size, "block"),
    }
}

/// A figure that may not be known.
fn known(unit: Unit, value: Option<f64>) -> String {
    value.map_or("?".into(), |value| figure(unit, value))
}

/// A difference, always with its sign.
fn difference(unit: Unit, value: f64) -> String {
    match unit {
        Unit::Rate => rate(value),
        Unit::Bytes => signed_bytes(value.round() as i64),
        Unit::Blocks => {
            let sign = if value < 0.0 { '−' } else { '+' };
            format!("{sign}{}", counted(value.abs().round() as u64, "block"))
        }
    }
}

/// A difference with what it is of.
fn more(change: &Change) -> String {
    let (unit, value) = (change.metric.unit(), change.difference());
    let more = difference(unit, value);
    match unit {
        Unit::Blocks => {
            let number = more.split(" block").next().unwrap_or(&more);
            format!("{number} {}", words(change.metric))
        }
        _ => format!("{more} {}", words(change.metric)),
    }
}

/// A difference as part of what was there, where that says something.
fn part(old: Option<f64>, new: f64) -> Option<String> {
    let old = old.filter(|&old| old > 0.0)?;
    let percent = (new - old) / old * 100.0;
    let sign = if percent < 0.0 { '−' } else { '+' };
    let size = percent.abs();
    Some(match size {
        size if size < 0.05 => return None,
        size if size < 9.95 => format!("{sign}{size:.1} %"),
        size if size < 1000.0 => format!("{sign}{size:.0} %"),
        _ => format!("× {}", count((new / old).round() as u64)),
    })
}

/// The words for a metric.
fn words(metric: Metric) -> &'static str {
    match metric {
        Metric::Survivors => "survivors",
        Metric::SurvivingBlocks => "surviving blocks",
        Metric::Allocated => "allocated",
        Metric::AllocatedBlocks => "allocated blocks",
        Metric::Peak => "peak",
        Metric::Growth => "growth",
        Metric::Mapped => "mapped",
    }
}

/// A site in a few words: the program's line, and what was called there.
fn name(place: &Place) -> String {
    let brief = |frame: &_| stack::brief(frame, &place.directory);
    let frames = [&place.own, &place.inner, &place.native];
    let mut names = frames.into_iter().flatten().map(|frame| brief(frame));
    let Some(first) = names.next() else {
        return place.site.stack.first().map_or("stack not recorded".into(), |it| brief(it));
    };
    let inside: Vec<String> = names.collect();
    match inside.is_empty() {
        true => first,
        false => format!("{first} ({})", inside.join(", ")),
    }
}

/// The changes of a site that are more than noise, what matters most first.
fn changed(site: &SiteChange) -> Vec<&Change> {
    const ORDER: [Metric; 7] = [
        Metric::Survivors,
        Metric::Mapped,
        Metric::Growth,
        Metric::Peak,
        Metric::Allocated,
        Metric::SurvivingBlocks,
        Metric::AllocatedBlocks,
    ];
    let changes = ORDER.iter().filter_map(|&metric| site.change(metric));
    changes.filter(|change| change.verdict != Verdict::Quiet).collect()
}

/// Old and new figure.
fn both(change: &Change) -> String {
    let unit = change.metric.unit();
    format!("{} → {}", known(unit, change.old), known(unit, change.new))
}

fn presence(presence: Presence) -> Option<&'static str> {
    match presence {
        Presence::Both => None,
        Presence::New => Some("new"),
        Presence::Gone => Some("gone"),
    }
}

/// One side in a line: what ran, how often.
fn side(side: &Side) -> String {
    let first = side.runs.first().and_then(|run| run.first());
    let Some(first) = first else { return "nothing".into() };
    let mut parts = vec![clean(&first.program)];
    parts.extend(first.python.as_ref().map(|python| format!("CPython {}", clean(python))));
    match side.runs.as_slice() {
        [run] => {
            parts.push(format!("pid {}", first.pid));
            if run.len() > 1 {
                parts.push(format!("{} processes", run.len()));
            }
            parts.push(nanoseconds(first.duration_ns));
        }
        runs => parts.push(format!("{} runs", runs.len())),
    }
    if let Some(mean) = first.sampled {
        parts.push(format!("sampled, one in {}", bytes(mean)));
    }
    parts.join(" · ")
}

/// How noise was told.
fn noise(noise: Noise) -> String {
    match noise {
        Noise { old: 0, .. } => String::new(),
        Noise { old, measured: true, .. } => {
            format!("noise was measured on {old} old runs; changes within it are left out")
        }
        _ => {
            "one old run: changes up to 3 % (of growth, 25 %), and at least 4 KiB, 64 blocks, 1 KiB/s, count as noise; more old runs measure it".into()
        }
    }
}

/// What a comparison comes to, in a few words.
fn outcome(comparison: &Comparison) -> String {
    let all = comparison.sites.len() + comparison.quiet;
    match comparison.sites.len() {
        0 => format!("no difference beyond noise at {}", counted(all as u64, "site")),
        some => format!("{} of {} changed", count(some as u64), counted(all as u64, "site")),
    }
}

/// A gate as it was asked for.
fn gate(gate: &Gate) -> String {
    let limit = match gate.asked.limit {
        Limit::Bytes(size) => bytes(size),
        Limit::Blocks(number) => counted(number, "block"),
        Limit::Rate(speed) => rate(speed).trim_start_matches('+').to_owned(),
        Limit::Percent(percent) => format!("{percent}%"),
    };
    match gate.asked.watch {
        Watch::Increase(metric) => format!("{} {} {limit}", gate.option(), words(metric)),
        _ => format!("{} {limit}", gate.option()),
    }
}

/// What came of a gate, in one sentence with both figures.
fn figures(gate: &Gate) -> String {
    let allowed = figure(gate.unit, gate.allowed);
    let allowed = allowed.trim_start_matches('+');
    let Some(old) = gate.old.filter(|_| matches!(gate.asked.watch, Watch::Increase(_))) else {
        let new = figure(gate.unit, gate.new);
        return format!("{new}, {allowed} allowed{}", doubt(gate, gate.new - gate.allowed));
    };
    let more = difference(gate.unit, gate.new - old);
    let percent = part(Some(old), gate.new).map_or(String::new(), |it| format!(", {it}"));
    let (old, new) = (figure(gate.unit, old), figure(gate.unit, gate.new));
    let whose = if gate.exceeded && !gate.in_all { "; a site alone exceeds it" } else { "" };
    let doubt = doubt(gate, gate.new - gate.old.unwrap_or(0.0) - gate.allowed);
    format!("{old} → {new} ({more}{percent}), +{allowed} allowed{whose}{doubt}")
}

#[cfg(test)]
#[test]
fn a_gate_that_holds_by_its_noise_says_so() {
    let limit = Limit::Rate(1024.0);
    let asked = crate::analyze::diff::result::Asked { watch: Watch::Total(Metric::Growth), limit };
    let gate = |new, tolerance, exceeded| Gate {
        asked,
        unit: Unit::Rate,
        allowed: 1024.0,
        old: None,
        new,
        tolerance,
        in_all: exceeded,
        exceeded,
        sites: Vec::new(),
    };
    let says = |new, tolerance, exceeded| figures(&gate(new, tolerance, exceeded));
    assert!(says(512.0, 0.0, false).ends_with(" allowed"));
    assert!(says(4096.0, 0.0, true).ends_with(" allowed"));
    assert!(says(4096.0, 8192.0, false).ends_with("; within the noise, ±8.0 KiB/s"));
    assert!(says(4096.0, 10.0, false).ends_with("; it does not go on"));
}

/// Why a gate holds although its figure is above the limit.
fn doubt(gate: &Gate, above: f64) -> String {
    if gate.exceeded || above <= 0.0 {
        return String::new();
    }
    let noise = figure(gate.unit, gate.tolerance);
    match above <= gate.tolerance {
        true => format!("; within the noise, ±{}", noise.trim_start_matches('+')),
        false => "; it does not go on".into(),
    }
}

/// A site that a gate names, with both figures.
fn blamed(blamed: &Blamed, gate: &Gate) -> String {
    let unit = gate.unit;
    let mut parts = Vec::new();
    parts.extend(blamed.kind.as_ref().map(|kind| clean(kind)));
    match blamed.old.filter(|_| matches!(gate.asked.watch, Watch::Increase(_))) {
        Some(old) => parts.push(format!(
            "{} ({} → {})",
            difference(unit, blamed.new - old),
            figure(unit, old),
            figure(unit, blamed.new)
        )),
        None => parts.push(figure(unit, blamed.new)),
    }
    parts.join(" ")
}
