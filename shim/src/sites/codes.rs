//! Code objects: an id for each content, and which raw keys pass through each
//! one that lives.

use hashbrown::HashMap;
use pyshim_dump::layout::Lost;
use pyshim_dump::record::{Code, Record};

use super::line::Line;
use crate::python::{code, state};
use crate::{hash, live, store};

/// A code object in more raw keys than this is not worth a list of them.
const MOST_KEYS: usize = 256;

/// Different code objects that are told apart; a program may make new ones without end.
const MOST_CODES: usize = 1 << 18;

/// Stands for code objects of which nothing is known.
fn unknown() -> code::Code {
    store::lose(Lost::Code);
    code::Code { file: "?".into(), name: "?".into(), first_line: 0, table: Vec::new() }
}

fn content_of(code: &code::Code) -> u64 {
    let content = hash::bytes(u64::from(code.first_line), code.file.as_bytes());
    hash::bytes(hash::bytes(content, code.name.as_bytes()), &code.table)
}

/// A code object at an address.
struct Known {
    id: u32,
    /// Raw keys that pass through it; full: too many to list.
    keys: Vec<u64>,
}

/// See the module.
pub struct Codes {
    maps: Option<Maps>,
}

#[derive(Default)]
struct Maps {
    /// Code objects alive, by address.
    by_address: HashMap<usize, Known>,
    /// Code ids by content.
    by_content: HashMap<u64, u32>,
    /// Text ids by content.
    texts: HashMap<u64, u32>,
}

/// Which raw keys are void.
pub enum Forgotten {
    /// All: too many passed through a code object to know which.
    Everything,
    /// These.
    Keys(Vec<u64>),
}

impl Codes {
    /// None known.
    pub const fn new() -> Codes {
        Codes { maps: None }
    }

    fn maps(&mut self) -> &mut Maps {
        self.maps.get_or_insert_with(Maps::default)
    }

    /// The id of the code object at `address`, which a frame of this thread runs; `key` passes
    /// through it. Also whether further keys may have to be listed. It is read again unless it is
    /// `trusted` that its end would have been seen.
    pub fn id(&mut self, address: usize, trusted: bool, key: u64, line: &mut Line) -> (u32, bool) {
        if trusted && let Some(known) = self.maps().by_address.get_mut(&address) {
            return (known.id, known.pass(key));
        }
        let id = self.read(address, line);
        // From now on its end must be noticed.
        live::watch(address);
        // (Keys that passed through what was there before are void when this dies: so nothing is lost where
        // it is the same.)
        let fresh = || Known { id, keys: Vec::new() };
        let known = self.maps().by_address.entry(address).or_insert_with(fresh);
        known.id = id;
        (id, known.pass(key))
    }

    /// Lists `key` with a code object that is known; whether further ones may have to be.
    pub fn pass(&mut self, address: usize, key: u64) -> bool {
        self.maps().by_address.get_mut(&address).is_some_and(|known| known.pass(key))
    }

    fn read(&mut self, address: usize, line: &mut Line) -> u32 {
        let Some(layout) = state::layout() else { return 0 };
        // SAFETY: the walk found a frame of this thread that runs this code object, so it is alive.
        let read = unsafe { code::read(layout, address) };
        let mut read = read.unwrap_or_else(unknown);
        let maps = self.maps();
        let full = maps.by_content.len() >= MOST_CODES;
        if full && !maps.by_content.contains_key(&content_of(&read)) {
            read = unknown();
        }
        let content = content_of(&read);
        if let Some(&id) = maps.by_content.get(&content) {
            return id;
        }
        let id = maps.by_content.len() as u32;
        maps.by_content.insert(content, id);
        let file = self.text_id(read.file, line);
        line.announce(&Record::Code(Code {
            id,
            file,
            name: read.name,
            first_line: read.first_line,
            table_kind: layout.line_table as u8,
            table: read.table,
        }));
        id
    }

    fn text_id(&mut self, text: String, line: &mut Line) -> u32 {
        let key = hash::bytes(1, text.as_bytes());
        let texts = &mut self.maps().texts;
        if let Some(&id) = texts.get(&key) {
            return id;
        }
        let id = texts.len() as u32;
        texts.insert(key, id);
        line.announce(&Record::Text { id, text });
        id
    }

    /// The code object at `address` dies.
    pub fn forget(&mut self, address: usize) -> Forgotten {
        match self.maps().by_address.remove(&address) {
            Some(known) if known.keys.len() >= MOST_KEYS => Forgotten::Everything,
            Some(known) => Forgotten::Keys(known.keys),
            None => Forgotten::Keys(Vec::new()),
        }
    }

    /// Code may have died unseen.
    pub fn forget_addresses(&mut self) {
        self.maps().by_address.clear();
    }
}

impl Known {
    fn pass(&mut self, key: u64) -> bool {
        if self.keys.len() < MOST_KEYS && self.keys.last() != Some(&key) {
            self.keys.push(key);
        }
        self.keys.len() < MOST_KEYS
    }
}
