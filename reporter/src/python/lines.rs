//! Line tables of code objects: from an instruction to its line and column.
//!
//! Three encodings: `co_lnotab` up to 3.9 (`Objects/lnotab_notes.txt`), the
//! `co_linetable` of PEP 626 in 3.10, and that of PEP 657 from 3.11 on
//! (`Objects/locations.md`, later `InternalDocs/code_objects.md`). Any bytes
//! are decoded without panicking; what makes no sense has no position.

/// Which encoding a table has; the numbers are those of the dump format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableKind {
    /// 3.8 and 3.9.
    Lnotab,
    /// 3.10.
    Lines310,
    /// From 3.11.
    Locations,
}

impl TableKind {
    /// The encoding that a dump's number stands for.
    pub fn from_u8(value: u8) -> Option<TableKind> {
        Some(match value {
            0 => TableKind::Lnotab,
            1 => TableKind::Lines310,
            2 => TableKind::Locations,
            _ => return None,
        })
    }
}

/// Where an instruction comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Line, counted from one; 0: the instruction belongs to no line.
    pub line: u32,
    /// Byte of the UTF-8 line, counted from zero; from 3.11 on.
    pub column: Option<u32>,
}

/// Instructions on end that come from the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Where they end, in bytes of bytecode.
    pub end: i64,
    /// Their line, counted from one; `None`: they belong to no line.
    pub line: Option<i64>,
    /// Byte of the UTF-8 line at which their text begins, counted from zero; from 3.11 on.
    pub column: Option<u64>,
    /// The same of its end, which may be on a later line.
    pub end_column: Option<u64>,
}

/// The position of the instruction at `lasti` bytes of bytecode.
pub fn position(kind: TableKind, table: &[u8], first_line: u32, lasti: u32) -> Option<Position> {
    let run = runs(kind, table, first_line).find(|run| i64::from(lasti) < run.end)?;
    let column = run.column.and_then(|column| u32::try_from(column).ok());
    Some(Position { line: u32::try_from(run.line.unwrap_or(0)).ok()?, column })
}

/// All runs of a table, in the order of their instructions; ends where the table makes no sense.
pub fn runs(kind: TableKind, table: &[u8], first_line: u32) -> Runs<'_> {
    Runs { kind, table, end: 0, line: i64::from(first_line), over: false }
}

/// What [`runs`] gives.
#[derive(Clone, Debug)]
pub struct Runs<'a> {
    kind: TableKind,
    /// What is not decoded yet.
    table: &'a [u8],
    end: i64,
    line: i64,
    over: bool,
}

impl Iterator for Runs<'_> {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        match self.kind {
            TableKind::Lnotab => self.lnotab(),
            TableKind::Lines310 => self.lines(),
            TableKind::Locations => self.locations(),
        }
    }
}

impl Runs<'_> {
    fn pair(&mut self) -> Option<(i64, i8)> {
        let (&[on, lines], rest) = self.table.split_first_chunk::<2>()?;
        self.table = rest;
        Some((i64::from(on), lines as i8))
    }

    /// Pairs of bytes: instructions on, lines on (signed). The last line has no end in the table.
    fn lnotab(&mut self) -> Option<Run> {
        if self.over {
            return None;
        }
        let mut run = Run { end: i64::MAX, line: Some(self.line), column: None, end_column: None };
        match self.pair() {
            Some((on, lines)) => {
                self.end += on;
                self.line += i64::from(lines);
                run.end = self.end;
            }
            None => self.over = true,
        }
        Some(run)
    }

    /// Pairs of bytes: length of a run of instructions, lines on (signed; -128: no line).
    fn lines(&mut self) -> Option<Run> {
        let (length, lines) = self.pair()?;
        self.end += length;
        let none = lines == -128;
        if !none {
            self.line += i64::from(lines);
        }
        let line = (!none).then_some(self.line);
        Some(Run { end: self.end, line, column: None, end_column: None })
    }

    /// Entries of a head byte (1, four bits of code, three bits of length) and what the code says.
    fn locations(&mut self) -> Option<Run> {
        let mut bytes = self.table.iter().copied();
        let head = bytes.next()?;
        if head & 0x80 == 0 {
            return None;
        }
        let code = u32::from(head >> 3 & 15);
        self.end += (i64::from(head & 7) + 1) * 2;
        let (on, column, end_column) = match code {
            15 => (None, None, None),
            14 => {
                let on = signed(&mut bytes)?;
                let _end_line = unsigned(&mut bytes)?;
                // Columns are kept plus one, so that zero can mean none.
                let column = unsigned(&mut bytes)?.checked_sub(1);
                (Some(on), column, unsigned(&mut bytes)?.checked_sub(1))
            }
            13 => (Some(signed(&mut bytes)?), None, None),
            10..=12 => {
                let (column, end_column) = (bytes.next()?, bytes.next()?);
                (Some(i64::from(code) - 10), Some(column.into()), Some(end_column.into()))
            }
            _ => {
                let second = bytes.next()?;
                let column = u64::from(code << 3) | u64::from(second >> 4 & 7);
                (Some(0), Some(column), Some(column + u64::from(second & 15)))
            }
        };
        let left = bytes.len();
        self.table = self.table.get(self.table.len() - left..).unwrap_or_default();
        self.line += on.unwrap_or(0);
        Some(Run { end: self.end, line: on.map(|_| self.line), column, end_column })
    }
}

/// Six bits a byte, low bits first; bit 6 says that more follow.
fn unsigned(bytes: &mut impl Iterator<Item = u8>) -> Option<u64> {
    let mut value = 0;
    for shift in (0..36).step_by(6) {
        let byte = bytes.next()?;
        value |= u64::from(byte & 63) << shift;
        if byte & 64 == 0 {
            return Some(value);
        }
    }
    None
}

/// The low bit is the sign.
fn signed(bytes: &mut impl Iterator<Item = u8>) -> Option<i64> {
    let value = unsigned(bytes)?;
    let size = i64::try_from(value >> 1).ok()?;
    Some(if value & 1 == 0 { size } else { -size })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by `scripts/line-fixtures` from code compiled by each interpreter: a line
    /// `version kind first_line table-in-hex` for a code object, and after it a line
    /// `lasti line column` for each instruction, as the interpreter itself decodes it.
    const FIXTURES: &str = include_str!("../../tests/data/lines.txt");

    #[test]
    fn positions_are_those_of_the_interpreter() {
        let mut table: Option<(String, TableKind, u32, Vec<u8>)> = None;
        let mut checked = std::collections::BTreeMap::<String, u32>::new();
        for row in FIXTURES.lines().filter(|row| !row.starts_with('#')) {
            let words: Vec<&str> = row.split(' ').collect();
            if let [version, kind, first, hex] = words[..] {
                let bytes = (0..hex.len() / 2)
                    .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
                    .collect();
                let kind = TableKind::from_u8(kind.parse().unwrap()).unwrap();
                table = Some((version.to_owned(), kind, first.parse().unwrap(), bytes));
                continue;
            }
            let [lasti, line, column] = words[..] else { panic!("{row}") };
            let (version, kind, first, bytes) = table.as_ref().unwrap();
            let lasti: u32 = lasti.parse().unwrap();
            let position = position(*kind, bytes, *first, lasti).unwrap();
            assert_eq!(position.line, line.parse().unwrap_or(0), "{version} {lasti}: {row}");
            assert_eq!(position.column, column.parse().ok(), "{version} {lasti}: {row}");
            *checked.entry(version.clone()).or_default() += 1;
        }
        assert!(checked.len() >= 6, "too few versions in the fixtures: {checked:?}");
    }

    #[test]
    fn no_bytes_panic() {
        let mut seed = 1u64;
        for _ in 0..20_000 {
            let mut bytes = [0u8; 24];
            for byte in &mut bytes {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                *byte = (seed >> 56) as u8;
            }
            for kind in [TableKind::Lnotab, TableKind::Lines310, TableKind::Locations] {
                for first in [0, 1, u32::MAX] {
                    let _ = position(kind, &bytes, first, (seed >> 40) as u32 % 200);
                }
            }
        }
    }
}
