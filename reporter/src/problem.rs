//! What went wrong, in one line that says what to do.

use std::fmt;

/// A failure that ends a verb, or one of its inputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// A path, a process id, an option: what the sentence is about.
    pub subject: String,
    /// What is wrong, and what to do about it.
    pub what: String,
}

impl Problem {
    /// A problem with `subject`.
    pub fn new(subject: impl fmt::Display, what: impl fmt::Display) -> Problem {
        Problem { subject: one_line(subject), what: one_line(what) }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.subject, self.what)
    }
}

impl std::error::Error for Problem {}

/// A file name may hold line ends and terminal sequences; a message may not.
fn one_line(text: impl fmt::Display) -> String {
    text.to_string().chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_one_line() {
        let problem = Problem::new("a\nb\x1b[2J", "it is\tnot there");
        assert_eq!(problem.to_string().lines().count(), 1);
        assert!(!problem.to_string().contains('\x1b'));
    }
}
