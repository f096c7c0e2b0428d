//! Why something is alive, as text and as JSON.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::analyze::why::{Stop, Way, Why};

use super::units::{bytes, count, counted};
use super::{Paint, clean, stack};

/// For a terminal.
pub fn text(why: &Why, directory: &str, paint: Paint) -> String {
    let mut out = String::new();
    let mut facts = vec![counted(why.objects, "object"), format!("{} own", bytes(why.bytes))];
    facts.extend(why.retained.filter(|&it| it > 0).map(|it| format!("{} retained", bytes(it))));
    let _ = writeln!(out, "{}   {}", paint.strong(&clean(&why.subject)), facts.join(" · "));
    if let Some(site) = &why.site {
        for line in stack::lines(site, directory, paint) {
            let _ = writeln!(out, "   {line}");
        }
    }
    for (number, way) in why.ways.iter().enumerate() {
        let share = match way.share {
            Some(share) => format!("{} of them", count(share)),
            None => "one of them".into(),
        };
        let _ = write!(out, "\n{:<2} {}", number + 1, paint.strong(&share));
        let _ = writeln!(out, " · {} · {}", bytes(way.bytes), way.state);
        if let Some(holder) = &way.holder {
            let _ = writeln!(out, "   held by   {}", clean(holder));
        }
        for (at, line) in path(way).into_iter().enumerate() {
            let key = if at == 0 { "path" } else { "" };
            let _ = writeln!(out, "   {key:<9} {line}");
        }
    }
    for note in &why.notes {
        let _ = writeln!(out, "\n{}", clean(note));
    }
    out
}

/// Lines of a path that are shown at its beginning and at its end.
const ENDS: usize = 12;

fn path(way: &Way) -> Vec<String> {
    let words = |(at, stop): (usize, &Stop)| {
        let arrow = if at == 0 { "" } else { "→ " };
        format!("{arrow}{}", clean(&stop.words))
    };
    let words: Vec<String> = way.path.iter().enumerate().map(words).collect();
    let width = words.iter().map(|it| it.chars().count()).filter(|&it| it <= 56).max().unwrap_or(0);
    let line = |(stop, words): (&Stop, &String)| match stop.retained {
        0 => words.clone(),
        retained => format!(
            "{words:width$}  retains {} in {}",
            bytes(retained),
            counted(stop.retained_count, "block")
        ),
    };
    let mut lines: Vec<String> = way.path.iter().zip(&words).map(line).collect();
    if lines.len() > 2 * ENDS {
        let left = lines.len() - 2 * ENDS;
        lines.splice(ENDS..lines.len() - ENDS, [format!("… {left} more")]);
    }
    lines
}

/// For programs.
pub fn json(why: &Why) -> String {
    let stop = |stop: &Stop| {
        json!({
            "words": stop.words,
            "address": (stop.address != 0).then(|| format!("0x{:x}", stop.address)),
            "bytes": stop.bytes,
            "retained": stop.retained,
            "retained_blocks": stop.retained_count,
        })
    };
    let way = |way: &Way| {
        json!({
            "state": way.state,
            "share": way.share,
            "bytes": way.bytes,
            "holder": way.holder,
            "path": way.path.iter().map(stop).collect::<Vec<Value>>(),
        })
    };
    let value = json!({
        "schema": "pyshim.why/1",
        "subject": why.subject,
        "objects": why.objects,
        "bytes": why.bytes,
        "retained": why.retained,
        "site": why.site.as_ref().map(super::json::site),
        "ways": why.ways.iter().map(way).collect::<Vec<Value>>(),
        "notes": why.notes,
    });
    let mut text = serde_json::to_string_pretty(&value).unwrap_or_default();
    text.push('\n');
    text
}
