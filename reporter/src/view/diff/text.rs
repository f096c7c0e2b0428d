//! For a terminal.

use std::fmt::Write;

use crate::analyze::diff::result::{Change, Check, Comparison, SiteChange, Verdict};
use crate::view::units::{count, counted};
use crate::view::{Paint, clean, stack};

use super::{
    blamed, both, changed, difference, figures, gate, known, more, name, noise, outcome, part,
    presence, side, words,
};

/// A comparison with its first `top` sites.
pub fn comparison(comparison: &Comparison, top: usize, paint: Paint) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "old  {}\nnew  {}\n", side(&comparison.old), side(&comparison.new));
    totals(&mut out, &comparison.totals, paint);
    let _ = write!(out, "\n{}\n", paint.strong(&outcome(comparison)));
    for (number, site) in comparison.sites.iter().take(top).enumerate() {
        entry(&mut out, number + 1, site, paint);
    }
    let left = comparison.sites.len().saturating_sub(top);
    if left > 0 {
        let left = counted(left as u64, "more site");
        let _ = write!(out, "\n{}\n", paint.faint(&format!("… {left} (--top N shows more)")));
    }
    let mut lines = vec![noise(comparison.noise)];
    lines.extend(comparison.notes.iter().map(|note| clean(note)));
    notes(&mut out, &lines, paint);
    out
}

fn totals(out: &mut String, totals: &[Change], paint: Paint) {
    for change in totals {
        let unit = change.metric.unit();
        let (Some(_), Some(new)) = (change.old, change.new) else { continue };
        let verdict = match change.verdict {
            Verdict::Quiet => "within noise".to_owned(),
            _ => {
                let part = part(change.old, new).map_or(String::new(), |it| format!("  {it}"));
                format!("{}{part}", difference(unit, change.difference()))
            }
        };
        let line = format!(
            "{:<17} {:>16} → {:<16} {verdict}",
            words(change.metric),
            known(unit, change.old),
            known(unit, change.new),
        );
        let _ = match change.verdict {
            Verdict::Quiet => writeln!(out, "{}", paint.faint(&line)),
            _ => writeln!(out, "{line}"),
        };
    }
}

fn entry(out: &mut String, number: usize, site: &SiteChange, paint: Paint) {
    let changes = changed(site);
    let Some((first, others)) = changes.split_first() else { return };
    let mut facts = vec![both(first)];
    facts.extend(presence(site.presence).map(str::to_owned));
    let _ = writeln!(out, "\n{number:>2}  {}   {}", paint.strong(&more(first)), facts.join(" · "));
    for line in stack::lines(&site.place.site, &site.place.directory, paint) {
        let _ = writeln!(out, "    {line}");
    }
    let others: Vec<String> =
        others.iter().map(|it| format!("{} {}", words(it.metric), both(it))).collect();
    if !others.is_empty() {
        let _ = writeln!(out, "    {}", paint.faint(&others.join(" · ")));
    }
}

fn notes(out: &mut String, lines: &[String], paint: Paint) {
    let lines: Vec<&String> = lines.iter().filter(|line| !line.is_empty()).collect();
    if !lines.is_empty() {
        let _ = write!(out, "\n{}\n", paint.strong("NOTES"));
        lines.iter().for_each(|line| {
            let _ = writeln!(out, "- {line}");
        });
    }
}

/// A check: each gate, and the sites that are to blame.
pub fn check(check: &Check, paint: Paint) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "run       {}", side(&check.new));
    if !check.old.runs.is_empty() {
        let _ = writeln!(out, "baseline  {}", side(&check.old));
    }
    out.push('\n');
    for one in &check.gates {
        let line = format!("{}   {}", gate(one), figures(one));
        let _ = match one.exceeded {
            true => writeln!(out, "{} {line}", paint.strong("EXCEEDED")),
            false => writeln!(out, "ok       {line}"),
        };
        for site in &one.sites {
            let _ = writeln!(out, "         {}   {}", name(&site.place), blamed(site, one));
        }
    }
    let all = check.gates.len();
    let last = match check.exceeded() {
        0 => format!("all of {} hold", counted(all as u64, "gate")),
        some => format!("{} of {} exceeded", count(some as u64), counted(all as u64, "gate")),
    };
    let _ = write!(out, "\n{}\n", paint.strong(&last));
    let mut lines = vec![noise(check.noise)];
    lines.extend(check.notes.iter().map(|note| clean(note)));
    notes(&mut out, &lines, paint);
    out
}
