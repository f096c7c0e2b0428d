//! For a pull request's comment.

use std::fmt::Write;

use crate::analyze::diff::result::{Check, Comparison, Gate, Place, SiteChange, Verdict};
use crate::view::markdown::escape;
use crate::view::units::{count, counted};
use crate::view::{Paint, clean, stack};

use super::{
    blamed, both, changed, difference, figures, gate, known, name, noise, outcome, part, presence,
    side, words,
};

/// A comparison: a table of the sums, one of the sites, their stacks folded away.
pub fn comparison(comparison: &Comparison, top: usize) -> String {
    let mut out = format!("### Memory: {}\n\n", outcome(comparison));
    let (old, new) = (escape(&side(&comparison.old)), escape(&side(&comparison.new)));
    let _ = writeln!(out, "old: {old}  \nnew: {new}\n");
    out.push_str("| | old | new | change |\n|:--|--:|--:|--:|\n");
    for change in &comparison.totals {
        let (Some(_), Some(new)) = (change.old, change.new) else { continue };
        let unit = change.metric.unit();
        let verdict = match change.verdict {
            Verdict::Quiet => "within noise".to_owned(),
            _ => {
                let part = part(change.old, new).map_or(String::new(), |it| format!(" ({it})"));
                format!("**{}**{part}", difference(unit, change.difference()))
            }
        };
        let (old, new) = (known(unit, change.old), known(unit, change.new));
        let _ = writeln!(out, "| {} | {old} | {new} | {verdict} |", words(change.metric));
    }
    let (shown, left) = comparison.sites.split_at(top.min(comparison.sites.len()));
    if !shown.is_empty() {
        out.push('\n');
        sites(&mut out, shown);
        stacks(&mut out, "Stacks", shown.iter().map(|site| (&site.place, head(site))));
    }
    if !left.is_empty() {
        let title = counted(left.len() as u64, "more site");
        folded(&mut out, &title, |out| sites(out, left));
    }
    notes(&mut out, std::iter::once(noise(comparison.noise)).chain(comparison.notes.clone()));
    out
}

fn sites(out: &mut String, sites: &[SiteChange]) {
    out.push_str("| site | what | change | old → new |\n|:--|:--|--:|:--|\n");
    for site in sites {
        for (row, change) in changed(site).into_iter().enumerate() {
            let name = match row {
                0 => head(site),
                _ => String::new(),
            };
            let more = difference(change.metric.unit(), change.difference());
            let what = words(change.metric);
            let _ = writeln!(out, "| {} | {what} | {more} | {} |", escape(&name), both(change));
        }
    }
}

fn head(site: &SiteChange) -> String {
    let what = presence(site.presence).map_or(String::new(), |it| format!(" · {it}"));
    format!("{}{what}", name(&site.place))
}

fn stacks<'a>(out: &mut String, title: &str, of: impl Iterator<Item = (&'a Place, String)>) {
    folded(out, title, |out| {
        for (number, (place, head)) in of.enumerate() {
            let gap = if number > 0 { "\n" } else { "" };
            let _ = writeln!(out, "{gap}{}\n\n```", escape(&head));
            for line in stack::lines(&place.site, &place.directory, Paint(false)) {
                // Nothing from the dump may end the block.
                let _ = writeln!(out, "{}", line.replace("```", "'''"));
            }
            out.push_str("```\n");
        }
    });
}

/// What is there to be opened. The empty lines make Markdown of what is inside.
fn folded(out: &mut String, title: &str, inside: impl FnOnce(&mut String)) {
    let _ = write!(out, "\n<details><summary>{title}</summary>\n\n");
    inside(out);
    out.push_str("\n</details>\n");
}

fn notes(out: &mut String, lines: impl Iterator<Item = String>) {
    let lines: Vec<String> = lines.filter(|line| !line.is_empty()).collect();
    if !lines.is_empty() {
        out.push('\n');
        lines.iter().for_each(|line| {
            let _ = writeln!(out, "- {}", escape(line));
        });
    }
}

/// A check: a table of the gates, and the sites of those that were exceeded.
pub fn check(check: &Check) -> String {
    let all = counted(check.gates.len() as u64, "gate");
    let mut out = match check.exceeded() {
        0 => format!("### Memory: all of {all} hold\n\n"),
        some => format!("### Memory: {} of {all} exceeded\n\n", count(some as u64)),
    };
    let _ = writeln!(out, "run: {}  ", escape(&side(&check.new)));
    if !check.old.runs.is_empty() {
        let _ = writeln!(out, "baseline: {}  ", escape(&side(&check.old)));
    }
    out.push_str("\n| | gate | figures |\n|:--|:--|:--|\n");
    for one in &check.gates {
        let mark = if one.exceeded { "**exceeded**" } else { "ok" };
        let _ = writeln!(out, "| {mark} | {} | {} |", escape(&gate(one)), escape(&figures(one)));
    }
    for one in check.gates.iter().filter(|one| !one.sites.is_empty()) {
        exceeded(&mut out, one);
    }
    notes(&mut out, std::iter::once(noise(check.noise)).chain(check.notes.clone()));
    out
}

fn exceeded(out: &mut String, one: &Gate) {
    let _ = write!(out, "\n**{}**\n\n| site | |\n|:--|--:|\n", escape(&gate(one)));
    for site in &one.sites {
        let name = escape(&name(&site.place));
        let _ = writeln!(out, "| {name} | {} |", escape(&blamed(site, one)));
    }
    stacks(out, "Stacks", one.sites.iter().map(|site| (&site.place, clean(&name(&site.place)))));
}
