//! From a report to what a reader sees. Never computes.

mod causes;
pub mod diff;
pub mod json;
pub mod markdown;
mod stack;
mod table;
pub mod text;
pub mod why;
pub use crate::units;

/// How a report is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For a terminal.
    #[default]
    Text,
    /// For programs: the contract `pyshim.summary/1`.
    Json,
    /// For issues and reviews.
    Markdown,
}

/// Whether to use colours.
#[derive(Clone, Copy, Debug, Default)]
pub struct Paint(pub bool);

impl Paint {
    /// What should catch the eye.
    pub fn strong(self, text: &str) -> String {
        self.with("1", text)
    }

    /// What should not.
    pub fn faint(self, text: &str) -> String {
        self.with("2", text)
    }

    fn with(self, code: &str, text: &str) -> String {
        match self.0 && !text.is_empty() {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }
}

/// A text from the dump, without what a terminal would obey.
pub fn clean(text: &str) -> String {
    text.chars()
        .map(|letter| match letter {
            '\t' => ' ',
            letter if letter.is_control() => '\u{fffd}',
            letter => letter,
        })
        .collect()
}
