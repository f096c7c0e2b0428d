//! `reporter summarize`: what survived.

use clap::Args;

use crate::analyze::report::{By, Moment, Report};
use crate::analyze::{self, Options};
use crate::problem::Problem;
use crate::read::{self, Loaded};
use crate::symbolize::Symbols;
use crate::view::Format;

use super::{ByName, FormatName, Streams, WRONG, complain, print, render};

/// Show what survived: allocation sites ranked by growth, then by bytes
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    reporter summarize pyshim.4242.dump\n  \
    reporter summarize 4242                        # a process that runs\n  \
    reporter summarize pyshim.*.dump --top 20      # a tree of processes, merged\n  \
    reporter summarize pyshim.4242.dump --format json | jq '.survivors[0]'")]
pub struct Arguments {
    /// Dumps, or ids of processes that run; several are merged
    #[arg(required = true, value_name = "DUMP|PID")]
    dumps: Vec<String>,
    /// How the report is written
    #[arg(long, value_enum, default_value = "text")]
    format: FormatName,
    /// Entries to show [default: 10; in JSON 10 groups and 1000 survivors]
    #[arg(long, value_name = "N")]
    top: Option<usize>,
    /// What is put together into one entry
    #[arg(long, value_enum, default_value = "site")]
    by: ByName,
    /// List what was live at the peak instead of what survived
    #[arg(long)]
    peak: bool,
    /// Count growth from the moment of this name (see reporter mark)
    #[arg(long, value_name = "MARK")]
    since: Option<String>,
}

/// Entries that a person reads.
pub const TOP: usize = 10;

/// The verb.
pub fn summarize(arguments: &Arguments, streams: &mut Streams) -> u8 {
    let by = By::from(arguments.by);
    let (dumps, problems) = read::load_all(&arguments.dumps);
    problems.iter().for_each(|problem| complain(problem, streams));
    if dumps.is_empty() {
        return WRONG;
    }
    let moment = if arguments.peak { Moment::Peak } else { Moment::Last };
    let format = Format::from(arguments.format);
    if let Some(problem) = unanswerable(&dumps, by, arguments.since.as_deref()) {
        complain(&problem, streams);
        return WRONG;
    }
    let since = arguments.since.as_deref();
    let report = report(dumps, &problems, arguments.top, by, moment, format, since);
    let status = print(&render(&report, format, streams.colour_out), streams);
    // The report names what it lacks; who only looks at the status must hear of it too.
    if problems.is_empty() { status } else { WRONG }
}

/// Stacks that JSON has unless told otherwise: a program can have a hundred thousand.
const SURVIVORS: usize = 1000;

/// Why the dumps cannot answer.
fn unanswerable(dumps: &[Loaded], by: By, since: Option<&str>) -> Option<Problem> {
    let first = dumps.first()?;
    if matches!(by, By::Type | By::Holder) && dumps.iter().all(|it| it.dump.heap.is_none()) {
        let word = if by == By::Type { "--by type" } else { "--by holder" };
        let what = "needs a heap snapshot, and there is none; reporter snapshot PID takes one of a running process";
        return Some(Problem::new(word, what));
    }
    let since = since?;
    let labels = || dumps.iter().flat_map(|it| it.dump.marks.iter().map(|mark| mark.1.as_str()));
    if labels().any(|label| label == since) {
        return None;
    }
    let mut known: Vec<&str> = labels().collect();
    known.sort_unstable();
    known.dedup();
    let what = match known.is_empty() {
        true => format!("{} has no marks; reporter mark PID LABEL sets one", first.path.display()),
        false => format!("no moment has this name; there are {}", known.join(", ")),
    };
    Some(Problem::new(since, what))
}

/// The report of `dumps`, beside which `problems` could not be read.
pub fn report(
    mut dumps: Vec<Loaded>,
    problems: &[Problem],
    top: Option<usize>,
    by: By,
    moment: Moment,
    format: Format,
    since: Option<&str>,
) -> Report {
    // Parents begin before their children.
    dumps.sort_by_key(|loaded| (loaded.dump.started_unix_ns, loaded.dump.pid));
    let mut symbols = Symbols::new(dumps.iter().filter_map(|it| it.root.clone()).collect());
    let survivors = (format == Format::Json).then_some(top.unwrap_or(SURVIVORS));
    let options = Options { top: top.unwrap_or(TOP), by, moment, survivors, since };
    let notes = problems.iter().map(|problem| format!("left out: {problem}")).collect();
    let report = analyze::summarize(&dumps, &mut symbols, &options, notes);
    // Freeing a hundred megabytes of names would only delay the end.
    std::mem::forget(symbols);
    report
}
