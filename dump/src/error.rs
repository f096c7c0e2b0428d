use core::fmt;

/// Why bytes are not a dump that can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// Nothing in it.
    Empty,
    /// It does not begin as a dump does.
    Foreign,
    /// Written by a format that this reader does not know.
    Version {
        /// Major version of the dump.
        major: u16,
        /// Minor version of the dump.
        minor: u16,
    },
    /// Shorter than it says of itself.
    Truncated {
        /// Bytes there are.
        have: u64,
        /// Bytes there should be.
        need: u64,
    },
    /// Something in it contradicts itself.
    Corrupt {
        /// Which part.
        what: &'static str,
        /// Where, in bytes from the start of the file.
        offset: u64,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Empty => {
                write!(out, "the file is empty: the process ended before it wrote a dump")
            }
            Error::Foreign => write!(out, "not a pyshim dump (it does not begin with \\x89PYSHIM)"),
            Error::Version { major, minor } => write!(
                out,
                "dump format {major}.{minor}, and this reporter reads {}.x: use the reporter of the pyshim that wrote it",
                crate::layout::MAJOR
            ),
            Error::Truncated { have, need } => write!(
                out,
                "truncated: {have} of {need} bytes are there; copy the file again, or ask for a new run"
            ),
            Error::Corrupt { what, offset } => write!(
                out,
                "corrupt: {what} at byte {offset} does not hold together; copy the file again, or ask for a new run"
            ),
        }
    }
}

impl std::error::Error for Error {}
