//! The report for a terminal.

use std::fmt::Write;

use crate::analyze::report::{By, Figures, Group, Memory, Moment, Percentiles, Process, Report};
use crate::read::State;

use super::units::{bytes, count, counted, milliseconds, nanoseconds, rate, share, signed_bytes};
use super::{Paint, causes, clean, stack, table};

/// The whole report.
pub fn render(report: &Report, paint: Paint) -> String {
    let mut out = String::new();
    header(&mut out, report, paint);
    if report.moment == Moment::Last {
        out.push('\n');
        for line in causes::lines(report, paint) {
            let _ = writeln!(out, "{}", line.trim_end());
        }
    }
    sums(&mut out, report);
    match report.by {
        By::Type => table::types(report).text(&mut out, paint),
        By::Holder => table::holders(report).text(&mut out, paint),
        By::Site | By::Library => survivors(&mut out, report, paint),
    }
    notes(&mut out, report, paint);
    out
}

/// What opens a report: the process, its memory, and why that grows.
pub fn head(report: &Report, paint: Paint) -> String {
    let mut out = String::new();
    header(&mut out, report, paint);
    out.push('\n');
    for line in causes::lines(report, paint) {
        let _ = writeln!(out, "{}", line.trim_end());
    }
    notes(&mut out, report, paint);
    out
}

/// The places that allocated.
fn survivors(out: &mut String, report: &Report, paint: Paint) {
    let directory = report.processes.first().map_or("", |process| process.directory.as_str());
    let mut heading = String::new();
    for (number, group) in report.groups.iter().enumerate() {
        let this = section(report, &group.figures);
        if this != heading {
            let _ = write!(out, "\n{}\n", paint.strong(&this));
            heading = this;
        }
        entry(out, number + 1, group, directory, paint);
    }
    if report.groups.is_empty() && report.total.groups_left == 0 {
        out.push_str("\nnothing survived\n");
    }
    if report.total.groups_left > 0 {
        let left = counted(report.total.groups_left as u64, "more place");
        let line = format!(
            "… {left} with {} in {} (--top N shows more)",
            bytes(report.total.left.bytes),
            counted(report.total.left.blocks, "block"),
        );
        let _ = write!(out, "\n{}\n", paint.faint(&line));
    }
}

/// What became of a process.
pub fn state(state: State) -> String {
    match state {
        State::Running => "running".into(),
        State::Exited(status) => format!("exited {status}"),
        State::QuickExited(status) => format!("exited {status} (_exit)"),
        State::Replaced => "became another program (exec)".into(),
        State::Died => "ended without exit: killed by a signal, or the machine stopped".into(),
    }
}

fn header(out: &mut String, report: &Report, paint: Paint) {
    match report.processes.as_slice() {
        [process] => {
            let mut parts = vec![paint.strong(&clean(&process.program))];
            parts.extend(process.python.as_ref().map(|it| format!("CPython {}", clean(it))));
            parts.push(format!("pid {}", process.pid));
            parts.extend(life(process));
            let _ = writeln!(out, "{}", parts.join(" · "));
        }
        processes => {
            let number =
                counted(processes.len() as u64, "process").replace("processs", "processes");
            let _ = writeln!(out, "{}", paint.strong(&number));
            for process in processes {
                let mut parts = vec![
                    format!("  pid {}", process.pid),
                    clean(&process.program),
                    process
                        .python
                        .as_ref()
                        .map_or("no Python".into(), |it| format!("CPython {}", clean(it))),
                ];
                parts.extend(life(process));
                let _ = writeln!(out, "{}", parts.join(" · "));
            }
        }
    }
    if let Some(line) = memory(&report.memory) {
        let _ = writeln!(out, "{line}");
    }
}

/// The peak, and the sums of what is listed below.
fn sums(out: &mut String, report: &Report) {
    out.push('\n');
    if let Some(peak) = report.peak {
        let mut line = format!("peak {} live", bytes(peak.bytes));
        if let Some(at) = peak.at_s {
            let _ = write!(line, " after {}", milliseconds((at * 1e3) as u64));
        }
        if let Some(rss) = report.memory.peak_rss {
            let _ = write!(line, " · at most {} resident", bytes(rss));
        }
        let _ = writeln!(out, "{line}");
    }
    totals(out, report);
}

/// How long, how it ended, where it came from.
fn life(process: &Process) -> Vec<String> {
    let mut parts = vec![nanoseconds(process.duration_ns), state(process.state)];
    if process.forked {
        parts.push(format!("forked by {}", process.parent));
    }
    if process.inherited_freed.blocks > 0 {
        parts.push(format!(
            "freed {} ({}) of its parent's",
            counted(process.inherited_freed.blocks, "block"),
            bytes(process.inherited_freed.bytes),
        ));
    }
    if let Some(mean) = process.sampled {
        parts.push(format!("sampled, one in {}", bytes(mean)));
    }
    parts
}

fn memory(memory: &Memory) -> Option<String> {
    let optional = |name, value: Option<u64>| Some((name, value?));
    let rows = [
        Some(("Python objects", memory.live_python)),
        Some(("native blocks", memory.live_native)),
        Some(("blocks of unknown stacks", memory.live_unknown)).filter(|row| row.1 > 0),
        optional("free in pymalloc", memory.retained_pymalloc),
        optional("free in the C library", memory.retained_libc),
        optional("mappings", memory.mapped),
        optional("shared memory", memory.shared),
        optional("mapped files", memory.files),
        optional("code", memory.code),
        optional("thread stacks", memory.thread_stacks),
        optional("pyshim itself", memory.shim),
    ];
    let all = rows.into_iter().flatten().filter(|row| row.1 > 0);
    let rows = all.map(|(name, value)| format!("{name} {}", bytes(value)));
    let mut line = rows.collect::<Vec<_>>().join(" + ");
    let Some(rss) = memory.rss else {
        let any = memory.live_python + memory.live_native > 0;
        return any.then(|| wrapped(&format!("live: {line}")));
    };
    match memory.unexplained {
        Some(rest) if rest < 0 => {
            let _ = write!(line, " − asked for but not resident {}", bytes(rest.unsigned_abs()));
        }
        Some(rest) => {
            let _ = write!(line, " + unexplained {}", bytes(rest as u64));
        }
        None => {}
    }
    Some(wrapped(&format!("resident {} = {line}", bytes(rss))))
}

/// A sum in lines that fit, each further one beginning with its sign.
fn wrapped(sum: &str) -> String {
    const WIDE: usize = 98;
    let (mut out, mut length) = (String::new(), 0);
    let signs = sum.replace(" + ", "\n+ ").replace(" − ", "\n− ");
    for part in signs.lines() {
        let own = part.chars().count() + 1;
        if length > 0 && length + own > WIDE {
            out.push_str("\n    ");
            length = 4;
        } else if length > 0 {
            out.push(' ');
        }
        out.push_str(part);
        length += own;
    }
    out
}

fn totals(out: &mut String, report: &Report) {
    let total = &report.total;
    let when = moment(report);
    let _ = write!(
        out,
        "{when} {} in {} from {}",
        bytes(total.heap.bytes),
        counted(total.heap.blocks, "block"),
        counted(total.stacks as u64, "stack"),
    );
    if total.mapped.blocks > 0 {
        let mapped = counted(total.mapped.blocks, "mapping");
        let _ = write!(out, ", and {mapped} of {}", bytes(total.mapped.bytes));
    }
    if let Some(outlives) = total.outlives {
        let _ = write!(out, "; {} outlive the teardown", bytes(outlives.bytes));
    }
    out.push('\n');
}

/// Which moment the list is of.
pub fn moment(report: &Report) -> &'static str {
    if report.moment == Moment::Peak {
        return "live at the peak:";
    }
    match report.processes.as_slice() {
        [process] if process.finalized => "live before the interpreter's teardown:",
        [process] if process.state == State::Running => "live now:",
        _ => "live at the end:",
    }
}

/// The heading that an entry stands under.
fn section(report: &Report, figures: &Figures) -> String {
    if figures.origin.is_mapping() {
        return "MAPPED   address space, apart from the blocks above".into();
    }
    if report.moment == Moment::Peak {
        return "LIVE AT THE PEAK".into();
    }
    if !report.window.separated {
        return "SURVIVED".into();
    }
    if !figures.growing {
        return "STEADY".into();
    }
    let startup = milliseconds((report.window.startup_s * 1e3) as u64);
    let speed =
        report.total.growth.map_or(String::new(), |it| format!("{} in all, ", rate(it.per_second)));
    format!("GROWING   {speed}counted after {startup} of start-up")
}

fn entry(out: &mut String, number: usize, group: &Group, directory: &str, paint: Paint) {
    let figures = &group.figures;
    let mut head = format!("{:<10}", bytes(figures.live.bytes));
    if let Some(label) = &group.label {
        head.push_str(&format!(" {}  ", clean(label)));
    }
    let _ = writeln!(out, "{number:>2}  {} {}", paint.strong(&head), facts(figures).join(" · "));
    for line in stack::lines(&group.heaviest, directory, paint) {
        let _ = writeln!(out, "    {line}");
    }
    for line in details(group) {
        let _ = writeln!(out, "    {}", paint.faint(&line));
    }
}

/// What stands beside the bytes of an entry.
pub fn facts(figures: &Figures) -> Vec<String> {
    let what = if figures.origin.is_mapping() { "mapping" } else { "block" };
    let mut facts = Vec::new();
    if let Some((low, high)) = figures.interval {
        // What it lies between, rather than ±: of few samples, more is possible above than below.
        facts.push(format!("{} to {} with 95 %", bytes(low), bytes(high)));
    }
    facts.push(counted(figures.live.blocks, what));
    if let Some(growth) = figures.growth.filter(|_| figures.growing) {
        // Half the second digit: an error below that does not show in the figure.
        let error = match growth.error / growth.per_second {
            relative if relative > 0.05 => format!(" ± {}", share(relative)),
            _ => String::new(),
        };
        facts.push(format!("{}{error}", rate(growth.per_second)));
    }
    facts.extend(figures.share.map(share));
    facts.push(figures.origin.name().to_owned());
    facts
}

/// The lines below the stack of an entry.
pub fn details(group: &Group) -> Vec<String> {
    let figures = &group.figures;
    let mut lines = Vec::new();
    let line = |name: &str, it: &Percentiles, unit: fn(u64) -> String| match it.p50 == it.max {
        true => format!("{name} {}", unit(it.max)),
        false => format!("{name} p50 {} p99 {} max {}", unit(it.p50), unit(it.p99), unit(it.max)),
    };
    let mut distributions = Vec::new();
    distributions.extend(figures.size.as_ref().map(|it| line("size", it, bytes)));
    distributions.extend(figures.age_ms.as_ref().map(|it| line("age", it, milliseconds)));
    if !distributions.is_empty() {
        lines.push(distributions.join(" · "));
    }
    let mut rest = Vec::new();
    if let Some(grown) = figures.grown_bytes.filter(|_| figures.growing) {
        rest.push(format!("{} since start-up", signed_bytes(grown)));
    }
    if let Some(outlives) = figures.outlives.filter(|it| it.blocks > 0) {
        rest.push(match outlives == figures.live {
            true => "all of it outlives the teardown".into(),
            false => format!(
                "{} in {} outlive the teardown",
                bytes(outlives.bytes),
                counted(outlives.blocks, "block"),
            ),
        });
    }
    if group.stacks > 1 {
        rest.push(format!("in {} stacks, the heaviest shown", count(group.stacks as u64)));
    }
    if !rest.is_empty() {
        lines.push(rest.join(" · "));
    }
    lines
}

fn notes(out: &mut String, report: &Report, paint: Paint) {
    let mut lines: Vec<String> = report.completeness.notes.iter().map(|it| clean(it)).collect();
    lines.extend(lost(report));
    if lines.is_empty() {
        return;
    }
    let _ = write!(out, "\n{}\n", paint.strong("NOTES"));
    for line in lines {
        let _ = writeln!(out, "- {line}");
    }
}

/// What was not recorded, in a sentence.
pub fn lost(report: &Report) -> Option<String> {
    let words = |&(reason, number): &(&str, u64)| {
        let what = match reason {
            "blocks" => "blocks without a place in the table of live blocks",
            "sites" => "blocks whose stack found no place in the table of sites",
            "definitions" => "stacks that did not reach the dump",
            "reentered" => "blocks asked for by signal handlers",
            "growth" => "times the dump could not grow",
            "code" => "code objects that could not be read",
            "mappings" => "mappings",
            // Frees of blocks from before the hooks: nothing is missing from the list.
            "foreign" => return None,
            other => other,
        };
        Some(format!("{} {what}", count(number)))
    };
    let parts: Vec<String> = report.completeness.lost.iter().filter_map(words).collect();
    (!parts.is_empty()).then(|| format!("not recorded: {}", parts.join(", ")))
}
