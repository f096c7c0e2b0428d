//! The reporter: from dumps to an answer.
//!
//! The folders are the stations that a dump passes, in their order: [`read`]
//! finds and loads it, [`symbolize`] and [`python`] name its frames,
//! [`analyze`] says what it means and never prints, [`view`] prints and never
//! computes, [`cli`] holds the verbs.

#![forbid(unsafe_code)]

pub mod analyze;
pub mod cli;
pub mod problem;
pub mod python;
pub mod read;
pub mod symbolize;
pub mod units;
pub mod view;

#[cfg(test)]
#[path = "../tests/support/mod.rs"]
mod testing;
