//! JUnit XML, which CI systems show as tests: one test case for each gate.

use std::fmt::Write;

use crate::analyze::diff::result::{Change, Check, Comparison, Verdict};
use crate::view::{Paint, clean, stack};

use super::{blamed, both, difference, figures, gate, more, name, outcome, words};

/// A test case.
struct Case {
    name: String,
    /// What failed in one line, and in many.
    failure: Option<(String, String)>,
}

/// A comparison: one case for each figure, which fails where it became larger, in all or at a site.
pub fn comparison(comparison: &Comparison, top: usize) -> String {
    let case = |total: &Change| {
        let metric = total.metric;
        let mut lines = Vec::new();
        if total.verdict == Verdict::More {
            lines.push(format!("in all: {}", both(total)));
        }
        let larger = |change: &Change| change.verdict == Verdict::More;
        let sites: Vec<_> = comparison
            .sites
            .iter()
            .filter_map(|site| Some((site, site.change(metric).filter(|it| larger(it))?)))
            .take(top)
            .collect();
        for (site, change) in &sites {
            let more = difference(metric.unit(), change.difference());
            lines.push(format!("{}: {more} ({})", name(&site.place), both(change)));
            let stack = stack::lines(&site.place.site, &site.place.directory, Paint(false));
            lines.extend(stack.iter().map(|line| format!("    {line}")));
        }
        let message = match sites.first() {
            Some((site, change)) => format!("{} at {}", more(change), name(&site.place)),
            None => format!("{} {}", words(metric), both(total)),
        };
        let failure = (!lines.is_empty()).then(|| (message, lines.join("\n")));
        Case { name: words(metric).to_owned(), failure }
    };
    let told = |change: &&Change| change.old.is_some() && change.new.is_some();
    let cases: Vec<Case> = comparison.totals.iter().filter(told).map(case).collect();
    suite("pyshim.diff", &cases, &outcome(comparison))
}

/// A check: one case for each gate.
pub fn check(check: &Check) -> String {
    let cases: Vec<Case> = check
        .gates
        .iter()
        .map(|one| {
            let mut lines = vec![figures(one)];
            for site in &one.sites {
                lines.push(format!("{}: {}", name(&site.place), blamed(site, one)));
                let stack = stack::lines(&site.place.site, &site.place.directory, Paint(false));
                lines.extend(stack.iter().map(|line| format!("    {line}")));
            }
            let most = one.sites.first().map(|site| format!("; most at {}", name(&site.place)));
            let message = format!("{}{}", figures(one), most.unwrap_or_default());
            Case { name: gate(one), failure: one.exceeded.then(|| (message, lines.join("\n"))) }
        })
        .collect();
    suite("pyshim.check", &cases, "")
}

fn suite(name: &str, cases: &[Case], said: &str) -> String {
    let failures = cases.iter().filter(|case| case.failure.is_some()).count();
    let numbers = format!("tests=\"{}\" failures=\"{failures}\"", cases.len());
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(out, "<testsuites name=\"pyshim\" {numbers}>");
    let _ = writeln!(out, "  <testsuite name=\"{name}\" {numbers} errors=\"0\" skipped=\"0\">");
    for case in cases {
        let _ = write!(out, "    <testcase classname=\"{name}\" name=\"{}\"", escape(&case.name));
        let _ = match &case.failure {
            None => writeln!(out, "/>"),
            Some((message, lines)) => writeln!(
                out,
                ">\n      <failure message=\"{}\">{}</failure>\n    </testcase>",
                escape(message),
                lines.lines().map(escape).collect::<Vec<_>>().join("\n"),
            ),
        };
    }
    if !said.is_empty() {
        let _ = writeln!(out, "    <system-out>{}</system-out>", escape(said));
    }
    out.push_str("  </testsuite>\n</testsuites>\n");
    out
}

/// One line as XML has it, in texts and in attributes.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in clean(text).chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            // No characters of XML.
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            letter => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_a_dump_ends_the_markup() {
        assert_eq!(escape("<a & \"b\" 'c'>"), "&lt;a &amp; &quot;b&quot; &apos;c&apos;&gt;");
        assert_eq!(escape("a\nb\u{0}\u{ffff}"), "a\u{fffd}b\u{fffd}\u{fffd}");
    }
}
