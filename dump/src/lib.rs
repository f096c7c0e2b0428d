//! The dump: what the shim writes and the reporter reads.
//!
//! The format is specified in `FORMAT.md`; [`layout`] is the part that lives in
//! a shared mapping, [`record`] the part that is appended, [`blob`] the part
//! that is replaced as a whole. [`Dump::parse`] reads all three.
//!
//! This crate knows no Python, no ELF and no terminal, and decodes any bytes
//! without panicking.

#![forbid(unsafe_code)]

pub mod amount;
pub mod blob;
mod error;
pub mod heap;
pub mod histogram;
pub mod layout;
mod reader;
pub mod record;
pub mod varint;

pub use error::Error;
pub use reader::{Amount, Dump, End, Mode, Module, Packed, Site, Snapshots, Stack, Totals, pack};
