//! The report for issues and reviews.

use std::fmt::Write;

use crate::analyze::report::{By, Moment, Report};

use super::units::{bytes, counted, nanoseconds, rate, share};
use super::{Paint, causes, clean, stack, table, text};

/// The whole report.
pub fn render(report: &Report) -> String {
    let mut out = String::new();
    for process in &report.processes {
        let mut parts = vec![format!("**{}**", escape(&process.program))];
        parts.extend(process.python.as_ref().map(|it| format!("CPython {}", escape(it))));
        parts.push(format!("pid {}", process.pid));
        parts.push(nanoseconds(process.duration_ns));
        parts.push(text::state(process.state));
        let _ = writeln!(out, "{}  ", parts.join(" · "));
    }
    if report.moment == Moment::Last {
        why(&mut out, report);
    }
    let total = &report.total.heap;
    let _ = writeln!(
        out,
        "{} {} in {}\n",
        text::moment(report),
        bytes(total.bytes),
        counted(total.blocks, "block")
    );
    match report.by {
        By::Type => table::types(report).markdown(&mut out),
        By::Holder => table::holders(report).markdown(&mut out),
        By::Site | By::Library => survivors(&mut out, report),
    }
    let notes = report.completeness.notes.iter().map(|note| escape(note)).chain(text::lost(report));
    let notes: Vec<String> = notes.map(|note| format!("- {note}\n")).collect();
    if !notes.is_empty() {
        let _ = write!(out, "\n### Notes\n\n{}", notes.concat());
    }
    out
}

/// The places that allocated: a table of all, then each.
fn survivors(out: &mut String, report: &Report) {
    groups(out, report);
    let directory = report.processes.first().map_or("", |process| process.directory.as_str());
    for (number, group) in report.groups.iter().enumerate() {
        let head = [bytes(group.figures.live.bytes)].into_iter().chain(text::facts(&group.figures));
        let label =
            group.label.as_ref().map_or(String::new(), |label| format!("{}: ", escape(label)));
        let head: Vec<String> = head.collect();
        let _ = writeln!(out, "\n### {}. {label}{}\n\n```", number + 1, head.join(" · "));
        for line in stack::lines(&group.heaviest, directory, Paint(false)) {
            // Nothing from the dump may end the block.
            let _ = writeln!(out, "{}", line.replace("```", "'''"));
        }
        out.push_str("```\n");
        for line in text::details(group) {
            let _ = writeln!(out, "\n{line}");
        }
    }
}

/// Why it grows.
fn why(out: &mut String, report: &Report) {
    let (title, rest) = causes::title(report);
    let mut letters = title.chars();
    let title: String =
        letters.next().into_iter().chain(letters.flat_map(char::to_lowercase)).collect();
    let _ = writeln!(out, "\n## {title}: {}", escape(&rest));
    let directory = report.processes.first().map_or("", |process| process.directory.as_str());
    for (number, cause) in report.causes.iter().enumerate() {
        let facts = causes::facts(cause).join(" · ");
        let (kind, size) = (cause.kind.name(), bytes(cause.bytes));
        let _ = writeln!(out, "\n### {}. {kind}: {size} · {}\n\n```", number + 1, escape(&facts));
        for line in causes::body(cause, directory, Paint(false)) {
            let _ = writeln!(out, "{}", line.trim_end().replace("```", "'''"));
        }
        out.push_str("```\n");
    }
    for line in causes::closing(report) {
        let _ = writeln!(out, "\n{}", escape(line.trim()));
    }
    out.push('\n');
}

fn groups(out: &mut String, report: &Report) {
    out.push_str("| # | bytes | blocks | growth | share | origin |\n|--:|--:|--:|--:|--:|:--|\n");
    for (number, group) in report.groups.iter().enumerate() {
        let it = &group.figures;
        let growth = it.growth.filter(|_| it.growing);
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} |",
            number + 1,
            bytes(it.live.bytes),
            it.live.blocks,
            growth.map_or(String::new(), |growth| rate(growth.per_second)),
            it.share.map_or(String::new(), share),
            it.origin.name(),
        );
    }
}

/// A text from the dump, without what Markdown would obey.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::new();
    for letter in clean(text).chars() {
        if matches!(letter, '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '#') {
            out.push('\\');
        }
        out.push(letter);
    }
    out
}
