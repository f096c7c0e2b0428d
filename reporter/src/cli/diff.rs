//! `reporter diff`: two runs side by side.

use clap::Args;

use crate::analyze::diff::compare;
use crate::problem::Problem;
use crate::read::{Run, load_runs};
use crate::symbolize::Symbols;
use crate::view::Paint;
use crate::view::diff::{Form, json, junit, markdown, text};

use super::{Streams, WRONG, complain, print};

/// Compare two runs: what survives, what is allocated, peak and growth, site by site
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    reporter diff before.dump after.dump\n  \
    reporter diff before.1.dump after.dump --old before.2.dump --old before.3.dump\n  \
    reporter diff before/ after/ --format markdown >> \"$GITHUB_STEP_SUMMARY\"\n\n\
    Each side may have several runs: a folder stands for all dumps in it, and --old and --new add more.\n\
    Dumps of a process and of its children are one run. Sites are matched although lines moved and the\n\
    checkout lies elsewhere. With two old runs or more the noise between them is measured, and changes\n\
    within it are not reported. Changes up to 3 % (of growth, 25 %), and at least 4 KiB, 64 blocks,\n\
    1 KiB/s, count as noise without measurement; of that 2/N is left with N > 2 old runs.\n\n\
    The exit status is 0 whether or not there are differences; reporter check is the gate.")]
pub struct Arguments {
    /// The old run: a dump, or a folder of dumps
    #[arg(value_name = "OLD")]
    first: String,
    /// The new run: a dump, or a folder of dumps
    #[arg(value_name = "NEW")]
    second: String,
    /// Another old run, to measure the noise; may be given again and again
    #[arg(long, value_name = "FILE")]
    old: Vec<String>,
    /// Another new run
    #[arg(long, value_name = "FILE")]
    new: Vec<String>,
    /// How the report is written
    #[arg(long, value_enum, default_value = "text")]
    format: FormName,
    /// Sites to show [default: 10; all in JSON and JUnit]
    #[arg(long, value_name = "N")]
    top: Option<usize>,
}

/// How a comparison is written.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum FormName {
    /// For a terminal
    Text,
    /// For programs
    Json,
    /// For a pull request's comment
    Markdown,
    /// For the test report of a CI system
    Junit,
}

impl From<FormName> for Form {
    fn from(name: FormName) -> Form {
        match name {
            FormName::Text => Form::Text,
            FormName::Json => Form::Json,
            FormName::Markdown => Form::Markdown,
            FormName::Junit => Form::Junit,
        }
    }
}

/// Sites that a person reads.
const TOP: usize = 10;

/// The verb.
pub fn diff(arguments: &Arguments, streams: &mut Streams) -> u8 {
    let old = load(std::iter::once(&arguments.first).chain(&arguments.old), streams);
    let new = load(std::iter::once(&arguments.second).chain(&arguments.new), streams);
    let (Some(old), Some(new)) = (old, new) else { return WRONG };
    let mut symbols = symbols(old.iter().chain(&new));
    let comparison = compare(&old, &new, &mut symbols);
    let top = arguments.top;
    let paint = Paint(streams.colour_out);
    let report = match Form::from(arguments.format) {
        Form::Text => text::comparison(&comparison, top.unwrap_or(TOP), paint),
        Form::Json => json::comparison(&comparison, top.unwrap_or(usize::MAX)),
        Form::Markdown => markdown::comparison(&comparison, top.unwrap_or(TOP)),
        Form::Junit => junit::comparison(&comparison, top.unwrap_or(usize::MAX)),
    };
    // Freeing a hundred megabytes of names would only delay the end.
    std::mem::forget(symbols);
    print(&report, streams)
}

/// Loads the runs of one side. A side that lacks a run would only seem to be smaller: then there is
/// no report.
pub fn load<'a>(
    arguments: impl Iterator<Item = &'a String>,
    streams: &mut Streams,
) -> Option<Vec<Run>> {
    let arguments: Vec<String> = arguments.cloned().collect();
    let (runs, problems): (_, Vec<Problem>) = load_runs(&arguments);
    problems.iter().for_each(|problem| complain(problem, streams));
    problems.is_empty().then_some(runs)
}

/// The names for all these runs.
pub fn symbols<'a>(runs: impl Iterator<Item = &'a Run>) -> Symbols {
    Symbols::new(runs.flat_map(|run| &run.dumps).filter_map(|it| it.root.clone()).collect())
}
