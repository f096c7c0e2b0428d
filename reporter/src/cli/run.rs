//! `reporter run`: a program under the shim, then its report.

mod child;
mod dumps;
mod shim;

use std::ffi::OsString;
use std::io;
use std::path::Path;

use clap::{Args, ValueEnum};

use crate::analyze::report::{By, Moment};
use crate::problem::Problem;
use crate::read::{self, State};
use crate::view::{Format, Paint, clean, text};

use super::summarize::report;
use super::{Streams, WRONG, complain};

/// Run a program under the shim and show what survived, on standard error
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    reporter run -- python app.py\n  \
    reporter run --out /tmp/%e.%p.dump --sample 512KiB -- gunicorn app:app\n\n\
    The exit status is that of the program, or 128 and the number of the signal that ended it.")]
pub struct Arguments {
    /// Where the dumps go: %p is the process id, %e the program [default: pyshim.%p.dump]
    #[arg(long, value_name = "TEMPLATE")]
    out: Option<OsString>,
    /// Mean bytes between two samples, such as 512KiB; or exact, the default
    #[arg(long, value_name = "SIZE", value_parser = shim::sample)]
    sample: Option<String>,
    /// Native frames to record [default: leaf]
    #[arg(long, value_enum)]
    native: Option<Native>,
    /// Children to record [default: python]
    #[arg(long, value_enum)]
    follow: Option<Follow>,
    /// Only record; print no report
    #[arg(long)]
    no_summary: bool,
    /// Entries to show
    #[arg(long, value_name = "N", default_value_t = super::summarize::TOP)]
    top: usize,
    /// The program and its arguments
    #[arg(required = true, last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Native {
    /// Frames above the innermost Python frame
    Leaf,
    /// All frames
    Full,
    /// None
    Off,
}

#[derive(Clone, Copy, ValueEnum)]
enum Follow {
    /// Those that run Python
    Python,
    /// All that the shim can be loaded into
    All,
    /// None
    None,
}

impl Arguments {
    /// What is set in the environment of the program.
    fn settings(&self) -> Vec<(&'static str, OsString)> {
        let native = self.native.map(|native| match native {
            Native::Leaf => "leaf",
            Native::Full => "full",
            Native::Off => "off",
        });
        let follow = self.follow.map(|follow| match follow {
            Follow::Python => "python",
            Follow::All => "all",
            Follow::None => "none",
        });
        let mut settings = Vec::new();
        settings.extend(self.sample.as_ref().map(|it| ("PYSHIM_SAMPLE", it.into())));
        settings.extend(native.map(|it| ("PYSHIM_NATIVE", it.into())));
        settings.extend(follow.map(|it| ("PYSHIM_FOLLOW", it.into())));
        settings
    }
}

/// The verb.
pub fn run(arguments: &Arguments, streams: &mut Streams) -> u8 {
    match record(arguments, streams) {
        Ok(status) => status,
        Err(problem) => {
            complain(&problem, streams);
            WRONG
        }
    }
}

fn record(arguments: &Arguments, streams: &mut Streams) -> Result<u8, Problem> {
    let Some((program, rest)) = arguments.command.split_first() else {
        return Err(Problem::new("run", "no program is given; put it behind --"));
    };
    let preload = shim::preload()?;
    let template = arguments.out.clone().or_else(|| std::env::var_os("PYSHIM_OUT"));
    let template = template.filter(|template| !template.is_empty());
    let template = dumps::Template::new(template.unwrap_or_else(|| "pyshim.%p.dump".into()))?;
    let before = template.matching();

    let mut command = std::process::Command::new(program);
    command.args(rest).env("LD_PRELOAD", preload).env("PYSHIM_OUT", template.path());
    command.envs(arguments.settings());
    let status = child::run(command).map_err(|error| not_started(program.as_ref(), &error))?;

    if !arguments.no_summary {
        let mut paths = template.matching();
        paths.retain(|path, identity| before.get(path) != Some(identity));
        summary(paths.into_keys().collect(), arguments.top, &template, streams);
    }
    Ok(status)
}

fn not_started(program: &Path, error: &io::Error) -> Problem {
    let name = program.display();
    match error.kind() {
        io::ErrorKind::NotFound => {
            Problem::new(name, "command not found; give the path of a program, or a name in PATH")
        }
        io::ErrorKind::PermissionDenied => {
            Problem::new(name, "may not be executed; give a program, such as python and a script")
        }
        _ => Problem::new(name, format!("cannot be started: {error}")),
    }
}

/// Standard output belongs to the program, so all of this goes to standard error.
fn summary(
    paths: Vec<std::path::PathBuf>,
    top: usize,
    template: &dumps::Template,
    streams: &mut Streams,
) {
    if paths.is_empty() {
        let what = "no dump was written; the program runs no Python (see --follow all), is static or setuid, or cannot be recorded (PYSHIM_LOG=stderr says why)";
        complain(&Problem::new(template.path().display(), what), streams);
        return;
    }
    let (mut dumps, mut problems) = (Vec::new(), Vec::new());
    for path in paths {
        match read::load(&path) {
            Ok(dump) => dumps.push(dump),
            Err(problem) => problems.push(problem),
        }
    }
    problems.iter().for_each(|problem| complain(problem, streams));
    if dumps.is_empty() {
        return;
    }
    let running = dumps.iter().filter(|loaded| loaded.state == State::Running).count();
    let names: Vec<String> = dumps.iter().map(|it| clean(&it.path.display().to_string())).collect();
    let report = report(dumps, &problems, Some(top), By::Site, Moment::Last, Format::Text, None);
    let mut out = format!("\n{}", text::render(&report, Paint(streams.colour_err)));
    if running > 0 {
        out.push_str("\nsome of these processes run on: summarize their dumps again later\n");
    }
    out.push_str(&format!("\nkept: {}\n", names.join(" ")));
    let _ = streams.err.write_all(out.as_bytes());
}
