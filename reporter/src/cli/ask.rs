//! `reporter snapshot` and `reporter mark`: what is asked of a running process,
//! through its dump.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use pyshim_dump::layout::MARK_LEN;

use crate::analyze::report::{By, Moment};
use crate::analyze::why::failure;
use crate::problem::Problem;
use crate::read::snapshot::{Board, lives, reached, until};
use crate::read::{self, State};
use crate::view::{self, Format, Paint};

use super::summarize::report;
use super::{FINE, Streams, WRONG, complain, print};

/// Have a running process search its heap, and show why it grows
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    reporter snapshot 4242\n  \
    reporter snapshot pyshim.4242.dump --timeout 120\n\n\
    The process stands still for the time of a fork; a copy of it does the rest.")]
pub struct Snapshot {
    /// The process, or its dump
    #[arg(value_name = "PID|DUMP")]
    process: String,
    /// Seconds to wait for it
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u64,
}

/// Name this moment of a running process; summarize --since counts growth from it
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    reporter mark 4242 warmed-up\n  \
    reporter summarize 4242 --since warmed-up")]
pub struct Mark {
    /// The process, or its dump
    #[arg(value_name = "PID|DUMP")]
    process: String,
    /// The name
    label: String,
    /// Seconds to wait until it is noted
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    timeout: u64,
}

/// The verb `snapshot`.
pub fn snapshot(arguments: &Snapshot, streams: &mut Streams) -> u8 {
    let patience = Duration::from_secs(arguments.timeout);
    let outcome = running(&arguments.process).and_then(|process| {
        take(&process, patience, streams)?;
        read::load(&process.path)
    });
    match outcome {
        Ok(loaded) => {
            let found = report(vec![loaded], &[], None, By::Site, Moment::Last, Format::Text, None);
            print(&view::text::head(&found, Paint(streams.colour_out)), streams)
        }
        Err(problem) => {
            complain(&problem, streams);
            WRONG
        }
    }
}

/// The verb `mark`.
pub fn mark(arguments: &Mark, streams: &mut Streams) -> u8 {
    let outcome = running(&arguments.process).and_then(|process| note(&process, arguments));
    match outcome {
        Ok(()) => FINE,
        Err(problem) => {
            complain(&problem, streams);
            WRONG
        }
    }
}

/// A process that is asked something.
struct Process {
    /// Its dump.
    path: PathBuf,
    /// Its id, if it is seen from here.
    pid: Option<u32>,
}

impl Process {
    fn has_ended(&self) -> bool {
        self.pid.is_some_and(|pid| !lives(pid))
    }

    fn ended(&self) -> Problem {
        Problem::new(self.path.display(), "its process ended before it had answered")
    }
}

/// One that runs.
fn running(argument: &str) -> Result<Process, Problem> {
    let path = read::locate(argument)?;
    let loaded = read::load_as_it_is(&path)?;
    match loaded.state {
        State::Running => {
            Ok(Process { path, pid: Some(loaded.dump.pid).filter(|&pid| lives(pid)) })
        }
        _ => Err(Problem::new(
            path.display(),
            "its process has ended, nothing can be asked of it; reporter summarize shows what it left",
        )),
    }
}

fn take(process: &Process, patience: Duration, streams: &mut Streams) -> Result<(), Problem> {
    let path = &process.path;
    let failed = |what: String| Problem::new(path.display(), what);
    let board = open(path)?;
    let explain = |error: io::Error| failed(format!("cannot be asked: {error}"));
    let before = board.standing().map_err(explain)?;
    let number = board.ask().map_err(explain)?;
    let mut said = false;
    let mut now = before;
    let done = until(patience, || {
        now = board.standing()?;
        let searching = now.running && lives(now.pid);
        if searching && !said {
            said = true;
            let _ = writeln!(streams.err, "reporter: the heap is being searched …");
        }
        Ok(reached(now.answered, number) && !now.running || process.has_ended())
    })
    .map_err(explain)?;
    if done && !reached(now.answered, number) {
        return Err(process.ended());
    }
    if !done {
        return Err(failed(format!(
            "no snapshot came within {} s; --timeout waits longer",
            patience.as_secs()
        )));
    }
    if now.failed != before.failed && now.taken == before.taken {
        return Err(failed(format!("the snapshot came to nothing: {}", failure(now.failure))));
    }
    Ok(())
}

fn open(path: &Path) -> Result<Board, Problem> {
    Board::open(path, true).map_err(|error| {
        let what = format!("cannot be written to ({error}); who may write the dump may ask, so ask as the user of the process");
        Problem::new(path.display(), what)
    })
}

fn note(process: &Process, arguments: &Mark) -> Result<(), Problem> {
    let path = &process.path;
    let failed = |what: String| Problem::new(path.display(), what);
    let label = arguments.label.as_str();
    if label.is_empty() || label.len() > MARK_LEN {
        return Err(Problem::new(label, format!("a label has 1 to {MARK_LEN} bytes")));
    }
    if label.trim() != label || label.chars().any(char::is_control) {
        let what = "a label has no control characters, and begins and ends with none that is blank";
        return Err(Problem::new(format!("{label:?}"), what));
    }
    let board = open(path)?;
    let explain = |error: io::Error| failed(format!("cannot be asked: {error}"));
    let number = board.mark(label).map_err(explain)?;
    let patience = Duration::from_secs(arguments.timeout);
    let done = || Ok(board.noted(number)? || process.has_ended());
    match until(patience, done).map_err(explain)? {
        true if board.noted(number).map_err(explain)? => Ok(()),
        true => Err(process.ended()),
        false => Err(failed(format!("not noted within {} s", patience.as_secs()))),
    }
}
