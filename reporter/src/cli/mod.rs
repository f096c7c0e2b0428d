//! The verbs: from a command line to an exit status.

mod ask;
mod check;
mod diff;
mod limits;
mod run;
mod summarize;
mod why;

use std::ffi::OsString;
use std::io::{self, Write};

use clap::{Parser, Subcommand, ValueEnum};

use crate::analyze::report::By;
use crate::problem::Problem;
use crate::view::{self, Format};

/// Where a verb writes.
pub struct Streams<'a> {
    /// Standard output: the report and nothing else.
    pub out: &'a mut dyn Write,
    /// Standard error: what goes wrong.
    pub err: &'a mut dyn Write,
    /// Whether `out` shows colours.
    pub colour_out: bool,
    /// Whether `err` shows colours.
    pub colour_err: bool,
}

/// All is well.
pub const FINE: u8 = 0;
/// A gate was exceeded.
pub const EXCEEDED: u8 = 1;
/// The input or the call was wrong.
pub const WRONG: u8 = 2;

#[derive(Parser)]
#[command(
    name = "reporter",
    version,
    about = "Says what Python and native memory a program holds, where it was allocated, and what grows",
    after_help = "Examples:\n  \
        reporter run -- python app.py\n  \
        reporter summarize pyshim.4242.dump\n  \
        reporter diff before.dump after.dump\n  \
        reporter check after.dump --baseline before.dump --max-increase 10%\n\n\
        Exit status: 0 fine, 1 a gate was exceeded, 2 the input or the call was wrong"
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Summarize(summarize::Arguments),
    Run(run::Arguments),
    Diff(diff::Arguments),
    Check(check::Arguments),
    Why(why::Arguments),
    Snapshot(ask::Snapshot),
    Mark(ask::Mark),
}

#[derive(Clone, Copy, ValueEnum)]
enum FormatName {
    Text,
    Json,
    Markdown,
}

impl From<FormatName> for Format {
    fn from(name: FormatName) -> Format {
        match name {
            FormatName::Text => Format::Text,
            FormatName::Json => Format::Json,
            FormatName::Markdown => Format::Markdown,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ByName {
    /// The place in the program that allocates
    Site,
    /// The type of the objects, as the heap snapshot found them
    Type,
    /// The library that allocates
    Library,
    /// What holds it, as the heap snapshot found it
    Holder,
}

impl From<ByName> for By {
    fn from(name: ByName) -> By {
        match name {
            ByName::Site => By::Site,
            ByName::Type => By::Type,
            ByName::Library => By::Library,
            ByName::Holder => By::Holder,
        }
    }
}

/// Runs the program; returns its exit status.
pub fn main(arguments: impl IntoIterator<Item = OsString>, streams: &mut Streams) -> u8 {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return usage(&error, streams),
    };
    match cli.verb {
        Verb::Summarize(arguments) => summarize::summarize(&arguments, streams),
        Verb::Run(arguments) => run::run(&arguments, streams),
        Verb::Diff(arguments) => diff::diff(&arguments, streams),
        Verb::Check(arguments) => check::check(&arguments, streams),
        Verb::Why(arguments) => why::why(&arguments, streams),
        Verb::Snapshot(arguments) => ask::snapshot(&arguments, streams),
        Verb::Mark(arguments) => ask::mark(&arguments, streams),
    }
}

fn usage(error: &clap::Error, streams: &mut Streams) -> u8 {
    if error.use_stderr() {
        let text = error.render().to_string();
        let _ = match text.strip_prefix("error: ") {
            Some(text) => write!(streams.err, "reporter: {text}"),
            None => write!(streams.err, "{text}"),
        };
        return WRONG;
    }
    let text = match streams.colour_out {
        true => error.render().ansi().to_string(),
        false => error.render().to_string(),
    };
    print(&text, streams)
}

/// Writes a report to standard output. A reader that closes the pipe early has read enough.
fn print(text: &str, streams: &mut Streams) -> u8 {
    match streams.out.write_all(text.as_bytes()).and_then(|()| streams.out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain(
                &Problem::new("standard output", format!("cannot be written: {error}")),
                streams,
            );
            WRONG
        }
        _ => FINE,
    }
}

/// One line about what went wrong.
fn complain(problem: &Problem, streams: &mut Streams) {
    let _ = writeln!(streams.err, "reporter: {problem}");
}

fn render(report: &crate::analyze::report::Report, format: Format, colour: bool) -> String {
    match format {
        Format::Text => view::text::render(report, view::Paint(colour)),
        Format::Json => view::json::render(report),
        Format::Markdown => view::markdown::render(report),
    }
}
