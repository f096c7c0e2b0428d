//! What is in Python objects, read in memory: texts, dicts, names of types.
//! Slow and careful; for the few objects that a report names.

use crate::python::layout::UnicodeLayout;
use crate::python::objects::{self as py, DictKeys, Objects, flags};
use crate::snapshot::memory::Map;

/// Reads objects.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    /// The memory.
    pub map: &'a Map,
    /// Where the interpreter keeps what.
    pub layout: &'static Objects,
    /// Where it keeps text.
    pub unicode: UnicodeLayout,
}

/// Characters kept of a text.
const LONGEST: usize = 80;
/// Entries of a dict that are looked at.
const MOST_ENTRIES: usize = 1 << 22;

impl Reader<'_> {
    /// A word at an offset into an object.
    pub fn word(&self, object: usize, offset: usize) -> usize {
        self.map.read::<usize>(object.wrapping_add(offset)).unwrap_or(0)
    }

    /// The object's type.
    pub fn type_of(&self, object: usize) -> usize {
        self.word(object, py::TYPE)
    }

    /// `tp_flags` of a type.
    pub fn flags(&self, type_: usize) -> u64 {
        self.map.read(type_.wrapping_add(py::TYPE_FLAGS)).unwrap_or(0)
    }

    /// Whether an object's type has one of these flags.
    pub fn is(&self, object: usize, flags: u64) -> bool {
        object != 0 && self.flags(self.type_of(object)) & flags != 0
    }

    /// The content of a `str`, cut to a length fit for a report.
    pub fn text(&self, object: usize) -> Option<String> {
        if !self.is(object, flags::UNICODE) {
            return None;
        }
        let len: usize = self.map.read(object + self.unicode.length as usize)?;
        let state: u32 = self.map.read(object + self.unicode.state as usize)?;
        if !self.unicode.is_compact(state) {
            return None;
        }
        let data = object + self.unicode.data(state);
        let kind = self.unicode.kind(state) as usize;
        let mut text = String::new();
        for at in 0..len.min(LONGEST) {
            let unit = match kind {
                1 => self.map.read::<u8>(data + at)?.into(),
                2 => self.map.read::<u16>(data + 2 * at)?.into(),
                4 => self.map.read::<u32>(data + 4 * at)?,
                _ => return None,
            };
            text.push(char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        if len > LONGEST {
            text.push('…');
        }
        Some(text)
    }

    /// Items of a `tuple`.
    pub fn tuple(&self, object: usize) -> Vec<usize> {
        if !self.is(object, flags::TUPLE) {
            return Vec::new();
        }
        let size = self.word(object, py::SIZE).min(1 << 16);
        let first = self.layout.tuple_items as usize;
        (0..size).map(|at| self.word(object, first + 8 * at)).collect()
    }

    /// Looks at keys and values of a `dict` until `seen` says that it is enough.
    pub fn dict(&self, object: usize, mut seen: impl FnMut(usize, usize) -> bool) {
        if !self.is(object, flags::DICT) {
            return;
        }
        let keys = self.word(object, py::DICT_KEYS);
        let values = self.word(object, py::DICT_VALUES);
        let values = match values {
            0 => None,
            values => Some(values + self.layout.values_first as usize),
        };
        self.keys(keys, values, &mut seen);
    }

    /// Entries of a keys object; `values`: where the values are, if not beside the keys.
    fn keys(
        &self,
        keys: usize,
        values: Option<usize>,
        seen: &mut impl FnMut(usize, usize) -> bool,
    ) {
        if keys == 0 {
            return;
        }
        let count = self.word(keys, self.layout.keys_entries as usize).min(MOST_ENTRIES);
        let indices = keys + self.layout.keys_indices as usize;
        let (first, step, key_at) = match self.layout.keys {
            DictKeys::Sized => {
                let size = self.word(keys, 8);
                let width = match size {
                    0..=0xff => 1,
                    0x100..=0xffff => 2,
                    0x1_0000..=0xffff_ffff => 4,
                    _ => 8,
                };
                (indices + size.saturating_mul(width), 24, 8)
            }
            DictKeys::Kinds => {
                let log2: u8 = self.map.read(keys + 9).unwrap_or(0);
                let kind: u8 = self.map.read(keys + 10).unwrap_or(0);
                let first = indices + (1usize << (log2 & 63));
                if kind == 0 { (first, 24, 8) } else { (first, 16, 0) }
            }
        };
        for at in 0..count {
            let entry = first + at * step;
            let Some(key) = self.map.read::<usize>(entry + key_at) else { return };
            let value = match values {
                Some(values) => self.word(values, at * 8),
                None => self.word(entry, key_at + 8),
            };
            if key != 0 && value != 0 && !seen(key, value) {
                return;
            }
        }
    }

    /// The value that a dict has for a text key.
    pub fn value(&self, dict: usize, name: &str) -> Option<usize> {
        let mut found = None;
        self.dict(dict, |key, value| {
            if self.text(key).as_deref() == Some(name) {
                found = Some(value);
            }
            found.is_none()
        });
        found
    }

    /// Looks at the attributes that an object keeps in itself or in its dict.
    pub fn attributes(&self, object: usize, mut seen: impl FnMut(usize, usize) -> bool) {
        let type_ = self.type_of(object);
        let flags = self.flags(type_);
        if self.layout.minor >= 11 && flags & flags::MANAGED_DICT != 0 {
            let keys = self.word(type_, self.layout.type_cached_keys as usize);
            let (dict, values) = self.managed(object, type_, flags);
            if let Some(values) = values {
                self.keys(keys, Some(values), &mut seen);
            } else if dict != 0 {
                self.dict(dict, seen);
            }
        } else if let Some(dict) = self.dict_of(object) {
            self.dict(dict, seen);
        }
    }

    /// The dict, or the values kept in its place, of an object of 3.11 or later.
    fn managed(&self, object: usize, type_: usize, flags: u64) -> (usize, Option<usize>) {
        let first = self.layout.values_first as usize;
        match self.layout.minor {
            11 => match self.word(object, 0usize.wrapping_sub(32)) {
                0 => (self.word(object, 0usize.wrapping_sub(24)), None),
                values => (0, Some(values + first)),
            },
            12 => {
                // The lowest bit tells values from a dict.
                let word = self.word(object, 0usize.wrapping_sub(24));
                if word & 1 != 0 { (0, Some(word + 1 + first)) } else { (word, None) }
            }
            _ => {
                let dict = self.word(object, 0usize.wrapping_sub(24));
                let inline = object + self.word(type_, py::TYPE_BASICSIZE);
                // The fourth byte of the values says whether they are in use.
                let valid = self.map.read::<u8>(inline + 3).unwrap_or(0) != 0;
                if flags & flags::INLINE_VALUES != 0 && valid && dict == 0 {
                    (0, Some(inline + first))
                } else {
                    (dict, None)
                }
            }
        }
    }

    /// An object's `__dict__`, where it has one as an object.
    pub fn dict_of(&self, object: usize) -> Option<usize> {
        let type_ = self.type_of(object);
        let flags = self.flags(type_);
        if self.layout.minor >= 11 && flags & flags::MANAGED_DICT != 0 {
            return Some(self.managed(object, type_, flags).0).filter(|&dict| dict != 0);
        }
        let offset = self.word(type_, py::TYPE_DICTOFFSET) as isize;
        // Negative ones count from the end of objects of variable size.
        if offset <= 0 {
            return None;
        }
        Some(self.word(object, offset as usize)).filter(|&dict| self.is(dict, flags::DICT))
    }

    /// `module.qualname` of a type; `module` is left out for builtins.
    pub fn type_name(&self, type_: usize) -> String {
        let plain = self.map.c_string(self.word(type_, py::TYPE_NAME)).unwrap_or_default();
        if self.flags(type_) & flags::HEAP_TYPE == 0 {
            return plain;
        }
        let dict = self.word(type_, py::TYPE_DICT);
        let module = self.value(dict, "__module__").and_then(|module| self.text(module));
        let name = self.text(self.word(type_, self.layout.type_qualname as usize));
        match (module, name) {
            (Some(module), Some(name)) if module != "builtins" => format!("{module}.{name}"),
            (_, Some(name)) => name,
            _ => plain,
        }
    }
}
