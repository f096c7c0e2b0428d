//! Types and holders of the heap snapshot as tables.

use std::fmt::Write;

use crate::analyze::report::Report;

use super::markdown::escape;
use super::units::{bytes, count};
use super::{Paint, clean};

/// A table: three columns of figures, then a text from the dump.
pub struct Table {
    heads: [&'static str; 4],
    rows: Vec<([String; 3], String)>,
}

/// The census of types.
pub fn types(report: &Report) -> Table {
    let rows = report
        .types
        .iter()
        .map(|row| ([count(row.objects), bytes(row.bytes), bytes(row.retained)], row.name.clone()));
    Table { heads: ["OBJECTS", "OWN", "RETAINED", "TYPE"], rows: rows.collect() }
}

/// What holds most.
pub fn holders(report: &Report) -> Table {
    let rows = report.holders.iter().map(|row| {
        let retained = row.retained.map_or(String::new(), bytes);
        ([count(row.blocks), bytes(row.bytes), retained], row.holder.clone())
    });
    Table { heads: ["BLOCKS", "BYTES", "RETAINED", "HELD BY"], rows: rows.collect() }
}

impl Table {
    /// For a terminal.
    pub fn text(&self, out: &mut String, paint: Paint) {
        let [one, two, three, last] = self.heads;
        let head = format!("{one:>12} {two:>9} {three:>9}  {last}");
        let _ = write!(out, "\n{}\n", paint.strong(&head));
        for ([one, two, three], last) in &self.rows {
            let _ = writeln!(out, "{one:>12} {two:>9} {three:>9}  {}", clean(last));
        }
    }

    /// As Markdown.
    pub fn markdown(&self, out: &mut String) {
        let heads = self.heads.join(" | ").to_lowercase();
        let _ = writeln!(out, "| {heads} |\n|--:|--:|--:|:--|");
        for ([one, two, three], last) in &self.rows {
            let _ = writeln!(out, "| {one} | {two} | {three} | {} |", escape(last));
        }
    }
}
