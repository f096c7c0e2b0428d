//! Why it grows: the head of the report.

use std::rc::Rc;

use crate::analyze::causes::{Cause, Kind};
use crate::analyze::report::{Frame, Report, Site};
use crate::analyze::roles::{self, Role};
use crate::analyze::{TOO_FEW, TOO_SHORT};

use super::units::{bytes, count, counted, milliseconds, rate, share};
use super::{Paint, clean, stack};

/// Columns that a line of prose may have.
const WIDE: usize = 98;
/// Where the text of an entry begins.
const INDENT: usize = 3;
/// And the text behind its key words.
const KEY: usize = 10;

/// The lines of the section; none where nobody asked for causes.
pub fn lines(report: &Report, paint: Paint) -> Vec<String> {
    let mut out = vec![heading(report, paint)];
    let directory = report.processes.first().map_or("", |process| process.directory.as_str());
    for (number, cause) in report.causes.iter().enumerate() {
        out.push(head(number + 1, cause, paint));
        out.extend(
            body(cause, directory, paint).into_iter().map(|line| format!("{:INDENT$}{line}", "")),
        );
    }
    out.extend(closing(report).into_iter().map(|line| format!("{:INDENT$}{line}", "")));
    out
}

/// The heading, with the answer in short.
pub fn heading(report: &Report, paint: Paint) -> String {
    let (title, rest) = title(report);
    format!("{}   {rest}", paint.strong(title))
}

/// The heading in two parts.
pub fn title(report: &Report) -> (&'static str, String) {
    let verdict = &report.verdict;
    let speed = verdict.growth.map_or(0.0, |growth| growth.per_second);
    let explained = verdict.explained.unwrap_or(0.0);
    match verdict.growing {
        None => {
            let few = report.completeness.notes.iter().any(|note| note == TOO_FEW);
            let why = if few { TOO_FEW } else { TOO_SHORT };
            ("WHY IT GROWS", format!("not known: {why}"))
        }
        Some(true) => {
            let growing = report.causes.iter().filter(|cause| cause.share.is_some()).count();
            let causes = match growing {
                1 => "one cause is".to_owned(),
                number => format!("{} causes are", number_word(number)),
            };
            let speed = rate(speed).trim_start_matches('+').to_owned();
            let part = if explained >= 0.995 { "all".into() } else { share(explained) };
            ("WHY IT GROWS", format!("{speed}, {causes} {part} of it"))
        }
        Some(false) if report.causes.iter().any(|cause| cause.kind != Kind::Churn) => {
            ("WHAT IS KEPT", "live memory does not grow".into())
        }
        Some(false) => {
            let error = verdict.growth.map_or(0.0, |growth| growth.error);
            let rose = verdict.growth.is_some_and(|growth| growth.per_second > 2.0 * growth.error);
            let so = if rose { "did not go on" } else { "is no growth" };
            let error = match rate(2.0 * error) {
                text if error > 0.0 => format!(" ± {}", text.trim_start_matches('+')),
                _ => String::new(),
            };
            ("NOTHING GROWS", format!("{}{error} after start-up, which {so}", rate(speed)))
        }
    }
}

fn number_word(number: usize) -> String {
    const WORDS: [&str; 10] =
        ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];
    WORDS.get(number).map_or_else(|| number.to_string(), |&word| word.to_owned())
}

fn head(number: usize, cause: &Cause, paint: Paint) -> String {
    let name = format!("{number:<2} {:<18} {:>8}", cause.kind.name(), bytes(cause.bytes));
    format!("{}   {}", paint.strong(&name), facts(cause).join(" · "))
}

/// What stands beside the bytes of a cause.
pub fn facts(cause: &Cause) -> Vec<String> {
    let mut facts = Vec::new();
    match &cause.type_name {
        Some(name) => facts.push(format!("{} {}", count(cause.leaders), clean(name))),
        None if cause.blocks > 0 => {
            let what = if cause.kind == Kind::Mapping { "mapping" } else { "block" };
            facts.push(counted(cause.blocks, what));
        }
        None => {}
    }
    if cause.kind == Kind::Churn {
        facts.push(format!("{} allocated", rate(cause.growth.per_second).trim_start_matches('+')));
    } else if cause.growth.per_second > 0.0 {
        facts.push(rate(cause.growth.per_second));
    }
    facts.extend(cause.share.map(share));
    facts.push(cause.confidence.name().to_owned());
    facts.extend(cause.pid.map(|pid| format!("pid {pid}")));
    facts
}

/// The lines below the head of a cause.
pub fn body(cause: &Cause, directory: &str, paint: Paint) -> Vec<String> {
    let mut out = Vec::new();
    if let Some(site) = &cause.site {
        out.extend(stack::lines(&brief(site), directory, paint));
    }
    if let Some(holder) = &cause.holder {
        let key = if cause.kind == Kind::Cycles { "because" } else { "held by" };
        out.extend(entry(key, holder));
    }
    for (index, line) in cause.evidence.iter().enumerate() {
        out.extend(entry(if index == 0 { "evidence" } else { "" }, line));
    }
    if !cause.advice.is_empty() {
        out.extend(entry("so", &cause.advice));
    }
    if !cause.tools.is_empty() {
        out.extend(entry("elsewhere", &cause.tools).into_iter().map(|line| paint.faint(&line)));
    }
    out
}

/// The frames that tell where: native code that asked for it, the line of Python, and the program's
/// own line where that is another.
fn brief(site: &Site) -> Site {
    let is_python = |frame: &Frame| matches!(frame, Frame::Python { .. });
    let mut stack = native_ends(site);
    let mut python = site.stack.iter().filter(|frame| is_python(frame));
    let innermost = python.next();
    stack.extend(innermost.cloned());
    if innermost.is_some_and(|frame| is_library(frame)) {
        stack.extend(python.find(|frame| !is_library(frame)).cloned());
    }
    if stack.is_empty() {
        return site.clone();
    }
    Site { stack, id: site.id.clone(), truncated: false }
}

/// Of the native code between the allocator and Python: the two innermost frames, from the first on
/// that has a name, and the one that Python called.
fn native_ends(site: &Site) -> Vec<Rc<Frame>> {
    let below = site.stack.iter().take_while(|frame| matches!(***frame, Frame::Native { .. }));
    let own: Vec<&Rc<Frame>> = below.filter(|frame| is_own(frame)).collect();
    let has_name = |frame: &Frame| matches!(frame, Frame::Native { function: Some(_), .. });
    let from = own.iter().position(|frame| has_name(frame)).unwrap_or(0);
    let mut ends: Vec<Rc<Frame>> = own.iter().skip(from).take(2).map(|it| Rc::clone(it)).collect();
    if own.len() > from + 2 {
        ends.extend(own.last().map(|it| Rc::clone(it)));
    }
    ends
}

/// Native code that is neither plumbing nor calls C functions for Python code.
fn is_own(frame: &Frame) -> bool {
    match frame {
        Frame::Native { role: Role::Program, module, .. } => !roles::is_bridge(module),
        _ => false,
    }
}

fn is_library(frame: &Frame) -> bool {
    match frame {
        Frame::Python { file, .. } => {
            file.contains("/site-packages/")
                || file.contains("/dist-packages/")
                || roles::library(file, "") == "standard library"
        }
        Frame::Native { .. } => false,
    }
}

/// A key word and its text, which goes on in further lines.
fn entry(key: &str, text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    for word in clean(text).split(' ') {
        let length = line.chars().count() + word.chars().count() + 1;
        if !line.is_empty() && length > WIDE - INDENT - KEY - 1 {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    let mut key = key;
    lines
        .into_iter()
        .map(|line| {
            let line = format!("{key:KEY$} {line}");
            key = "";
            line
        })
        .collect()
}

/// What else is to be said: the limit of memory, what is steady.
pub fn closing(report: &Report) -> Vec<String> {
    let verdict = &report.verdict;
    let mut out: Vec<String> = verdict.remarks.iter().flat_map(|it| entry("", it)).collect();
    if let Some(forecast) = verdict.forecast {
        out.extend(entry(
            "forecast",
            &format!(
                "at this speed the limit of {} is reached in {}",
                bytes(forecast.limit),
                milliseconds((forecast.seconds * 1e3).clamp(0.0, 1e18) as u64),
            ),
        ));
    }
    out
}
