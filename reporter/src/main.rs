//! `reporter`: reads what `libpyshim.so` wrote.

#![forbid(unsafe_code)]

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use pyshim_reporter::cli::{self, Streams};

fn main() -> ExitCode {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let mut streams = Streams {
        colour_out: !plain && io::stdout().is_terminal(),
        colour_err: !plain && io::stderr().is_terminal(),
        out: &mut io::stdout().lock(),
        err: &mut io::stderr(),
    };
    ExitCode::from(cli::main(std::env::args_os(), &mut streams))
}
