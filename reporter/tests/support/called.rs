//! The program from arguments to output.

use std::ffi::OsString;

use pyshim_reporter::cli::{self, Streams};

/// What the program said.
pub struct Said {
    /// The exit status.
    pub status: u8,
    /// On stdout.
    pub out: String,
    /// On stderr.
    pub err: String,
}

/// Runs the program, within this process.
pub fn reporter(arguments: &[&str]) -> Said {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut streams =
        Streams { out: &mut out, err: &mut err, colour_out: false, colour_err: false };
    let all = ["reporter"].iter().chain(arguments).map(OsString::from);
    let status = cli::main(all, &mut streams);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said { status, out: text(out), err: text(err) }
}
