//! Types and holders of the heap snapshot as tables.

use std::fmt::Write;

use crate::analyze::report::Report;

use super::units::{bytes, count};
use super::{Paint, clean};

/// The census of types.
pub fn types(out: &mut String, report: &Report, paint: Paint) {
    let head = format!("{:>12} {:>9} {:>9}  TYPE", "OBJECTS", "OWN", "RETAINED");
    let _ = write!(out, "\n{}\n", paint.strong(&head));
    for row in &report.types {
        let _ = writeln!(
            out,
            "{:>12} {:>9} {:>9}  {}",
            count(row.objects),
            bytes(row.bytes),
            bytes(row.retained),
            clean(&row.name),
        );
    }
}

/// What holds most.
pub fn holders(out: &mut String, report: &Report, paint: Paint) {
    let head = format!("{:>12} {:>9} {:>9}  HELD BY", "BLOCKS", "BYTES", "RETAINED");
    let _ = write!(out, "\n{}\n", paint.strong(&head));
    for row in &report.holders {
        let _ = writeln!(
            out,
            "{:>12} {:>9} {:>9}  {}",
            count(row.blocks),
            bytes(row.bytes),
            row.retained.map_or(String::new(), bytes),
            clean(&row.holder),
        );
    }
}
