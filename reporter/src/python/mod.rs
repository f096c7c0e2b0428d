//! Python frames: from a code object and an instruction to a position.

pub mod lines;

use lines::TableKind;
use pyshim_dump::Dump;
use pyshim_dump::record::{Code, NOT_BEGUN};

/// A Python frame as a person knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PythonFrame {
    /// The file as the code object names it; empty where it is not known.
    pub file: String,
    /// The line, if it is known.
    pub line: Option<u32>,
    /// Byte of the UTF-8 line, counted from zero; from CPython 3.11 on.
    pub column: Option<u32>,
    /// Qualified name (name before CPython 3.11).
    pub function: String,
}

/// The frame that runs `instruction` of the code object `id`.
pub fn frame(dump: &Dump, id: u32, instruction: u32) -> PythonFrame {
    let Some(Some(code)) = dump.codes.get(id as usize) else {
        // Its definition had not reached the log when the process was killed.
        return PythonFrame { function: "?".into(), ..PythonFrame::default() };
    };
    let file = dump.texts.get(code.file as usize).cloned().flatten().unwrap_or_default();
    let (line, column) = place(code, instruction);
    PythonFrame { file, line, column, function: code.name.clone() }
}

/// Line and column; where the table does not tell, the line at which the function begins.
pub fn place(code: &Code, instruction: u32) -> (Option<u32>, Option<u32>) {
    let kind = match code.table_kind {
        0 => Some(TableKind::Lnotab),
        1 => Some(TableKind::Lines310),
        2 => Some(TableKind::Locations),
        _ => None,
    };
    let found = kind
        .filter(|_| instruction != NOT_BEGUN)
        .and_then(|kind| lines::position(kind, &code.table, code.first_line, instruction));
    match found.filter(|position| position.line != 0) {
        Some(position) => (Some(position.line), position.column),
        None => (Some(code.first_line).filter(|&line| line != 0), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Maker;

    #[test]
    fn a_frame_without_a_table_is_where_its_function_begins() {
        let mut maker = Maker::new();
        let code = maker.code("app.py", 31, "load");
        let found = frame(&maker.dump(), code, 12);
        assert_eq!((found.file.as_str(), found.function.as_str()), ("app.py", "load"));
        assert_eq!((found.line, found.column), (Some(31), None));
    }

    #[test]
    fn a_frame_without_a_code_object_is_no_trouble() {
        let found = frame(&Maker::new().dump(), 7, 0);
        assert_eq!((found.function.as_str(), found.line), ("?", None));
    }
}
