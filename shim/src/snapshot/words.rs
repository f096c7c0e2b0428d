//! How one object holds another, in the words that people have for it.

use pyshim_dump::heap::Step;

use crate::python::objects::{self as py, flags};
use crate::snapshot::content::Reader;

/// A step from a parent to its child.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Way {
    /// What kind of step.
    pub step: Step,
    /// Its name.
    pub label: String,
    /// Its number.
    pub detail: u64,
}

impl Way {
    fn named(step: Step, label: impl Into<String>) -> Way {
        Way { step, label: label.into(), detail: 0 }
    }

    fn at(step: Step, detail: usize) -> Way {
        Way { step, label: String::new(), detail: detail as u64 }
    }
}

/// How the object `parent` holds the object `child`.
pub fn way(reader: &Reader, parent: usize, child: usize) -> Way {
    let type_ = reader.type_of(parent);
    let kind = reader.flags(type_);
    if kind & flags::DICT != 0
        && let Some(way) = in_dict(reader, parent, child)
    {
        return way;
    }
    if kind & flags::LIST != 0 {
        let (size, items) = (reader.word(parent, py::SIZE), reader.word(parent, py::LIST_ITEMS));
        if let Some(at) = (0..size.min(1 << 24)).find(|&at| reader.word(items, at * 8) == child) {
            return Way::at(Step::Index, at);
        }
    }
    if kind & flags::TUPLE != 0 {
        let items = reader.tuple(parent);
        if let Some(at) = items.iter().position(|&item| item == child) {
            return Way::at(Step::Index, at);
        }
    }
    if let Some(way) = in_function(reader, parent, child) {
        return way;
    }
    if let Some(name) = context_variable(reader, parent, child) {
        return Way::named(Step::Key, format!("'{name}'"));
    }
    let mut found = None;
    reader.attributes(parent, |key, value| {
        if value == child {
            found = reader.text(key);
        }
        found.is_none()
    });
    if let Some(name) = found {
        return Way::named(Step::Attribute, name);
    }
    if reader.dict_of(parent) == Some(child)
        || (kind & flags::TYPE != 0 && reader.word(parent, py::TYPE_DICT) == child)
        || (is_module(reader, parent) && reader.word(parent, py::MODULE_DICT) == child)
    {
        return Way::named(Step::Attribute, "__dict__");
    }
    if let Some(name) = member(reader, parent, child) {
        return Way::named(Step::Attribute, name);
    }
    if let Some(way) = in_frame(reader, parent, child) {
        return way;
    }
    if ["set", "frozenset", "collections.deque"].contains(&reader.type_name(type_).as_str()) {
        return Way::named(Step::Member, "");
    }
    Way::default()
}

/// The name of the context variable whose value `child` is: nodes of a context's tree (`hamt.c`) have
/// variables and values in turn.
fn context_variable(reader: &Reader, parent: usize, child: usize) -> Option<String> {
    const MOST: usize = 64;
    /// `PyContextVar.var_name`.
    const NAME: usize = 16;
    if !is_builtin(reader, parent, "hamt_bitmap_node")
        && !is_builtin(reader, parent, "hamt_collision_node")
    {
        return None;
    }
    let value =
        (py::SIZE..py::SIZE + MOST * 8).step_by(8).find(|&at| reader.word(parent, at) == child)?;
    let variable = reader.word(parent, value - 8);
    let is_variable = reader.type_name(reader.type_of(variable)).ends_with("ContextVar");
    reader.text(reader.word(variable, NAME)).filter(|_| is_variable)
}

/// Whether an object's type is called `module`, or is made from the one that is.
pub fn is_module(reader: &Reader, object: usize) -> bool {
    let mut type_ = reader.type_of(object);
    for _ in 0..16 {
        if type_ == 0 {
            return false;
        }
        if reader.map.c_string(reader.word(type_, py::TYPE_NAME)).as_deref() == Some("module") {
            return true;
        }
        type_ = reader.word(type_, py::TYPE_BASE);
    }
    false
}

fn in_dict(reader: &Reader, dict: usize, child: usize) -> Option<Way> {
    let mut found = None;
    reader.dict(dict, |key, value| {
        if value == child {
            found = Some(Way::named(Step::Key, key_text(reader, key)));
        } else if key == child {
            found = Some(Way::named(Step::AsKey, ""));
        }
        found.is_none()
    });
    found
}

/// A key as it would be written: quoted text, a small number, or its type's name.
pub fn key_text(reader: &Reader, key: usize) -> String {
    if let Some(text) = reader.text(key) {
        return format!("'{text}'");
    }
    let type_ = reader.type_of(key);
    if reader.flags(type_) & 1 << 24 != 0
        && let Some(number) = small_int(reader, key)
    {
        return number.to_string();
    }
    format!("<{}>", reader.type_name(type_))
}

/// An `int` of up to two digits of 30 bits (`cpython/longintrepr.h`): the size's sign is the
/// number's until 3.11, from 3.12 on the two lowest bits of the tag are.
fn small_int(reader: &Reader, object: usize) -> Option<i64> {
    let size = reader.word(object, py::SIZE);
    let (digits, sign) = if reader.layout.minor >= 12 {
        (size >> 3, [1, 0, -1, 0][size & 3])
    } else {
        ((size as isize).unsigned_abs(), (size as isize).signum() as i64)
    };
    let digit = |at: usize| reader.map.read::<u32>(object + 24 + 4 * at).map(i64::from);
    match digits {
        0 => Some(0),
        1 => Some(sign * digit(0)?),
        2 => Some(sign * (digit(0)? | digit(1)? << 30)),
        _ => None,
    }
}

/// A number that is not negative.
pub fn integer(reader: &Reader, object: usize) -> Option<u64> {
    small_int(reader, object).and_then(|value| value.try_into().ok())
}

/// Whether an object's type has this very name and is one of the interpreter's own.
fn is_builtin(reader: &Reader, object: usize, name: &str) -> bool {
    let type_ = reader.type_of(object);
    reader.flags(type_) & flags::HEAP_TYPE == 0
        && reader.map.c_string(reader.word(type_, py::TYPE_NAME)).as_deref() == Some(name)
}

fn in_function(reader: &Reader, parent: usize, child: usize) -> Option<Way> {
    if !is_builtin(reader, parent, "function") {
        return None;
    }
    let layout = reader.layout;
    let field = |offset: u16| reader.word(parent, offset as usize);
    if field(layout.function_closure) == child {
        return Some(Way::named(Step::Attribute, "__closure__"));
    }
    if field(layout.function_defaults) == child {
        return Some(Way::named(Step::Attribute, "__defaults__"));
    }
    if field(layout.function_kwdefaults) == child {
        return Some(Way::named(Step::Attribute, "__kwdefaults__"));
    }
    if field(layout.function_code) == child {
        return Some(Way::named(Step::Attribute, "__code__"));
    }
    None
}

/// The name of the variable that the cell at `index` of a function's closure is.
pub fn free_variable(reader: &Reader, function: usize, index: usize) -> Option<String> {
    let code = reader.word(function, reader.layout.function_code as usize);
    let names = variables(reader, code);
    let layout = reader.layout;
    let free = if layout.code_cellvars == 0 {
        reader.map.read::<i32>(code + layout.code_freevars as usize)?.max(0) as usize
    } else {
        reader.tuple(reader.word(code, layout.code_freevars as usize)).len()
    };
    names.get(names.len().checked_sub(free)? + index).cloned()
}

/// The name of the parameter that a default at `index` of `__defaults__` belongs to.
pub fn parameter(reader: &Reader, function: usize, index: usize) -> Option<String> {
    let code = reader.word(function, reader.layout.function_code as usize);
    let defaults = reader.word(function, reader.layout.function_defaults as usize);
    let count = reader.tuple(defaults).len();
    // co_argcount is the first field of a code object that is not of the object's head.
    let arguments: i32 = argument_count(reader, code)?;
    let first = (arguments.max(0) as usize).checked_sub(count)?;
    variables(reader, code).get(first + index).cloned()
}

/// `co_argcount`: right behind the head until 3.10, later behind the constants, the names, the exception
/// table and the flags.
fn argument_count(reader: &Reader, code: usize) -> Option<i32> {
    let at = match reader.layout.minor {
        ..=10 => 16,
        11 => 56,
        _ => 52,
    };
    reader.map.read(code + at)
}

/// Names of a code object's variables, in the order of their places in a frame.
pub fn variables(reader: &Reader, code: usize) -> Vec<String> {
    let layout = reader.layout;
    let mut tuples = vec![reader.word(code, layout.code_names as usize)];
    if layout.code_cellvars != 0 {
        tuples.push(reader.word(code, layout.code_cellvars as usize));
        tuples.push(reader.word(code, layout.code_freevars as usize));
    }
    let names = tuples.into_iter().flat_map(|tuple| reader.tuple(tuple));
    names.map(|name| reader.text(name).unwrap_or_default()).collect()
}

/// The variable of a frame that holds `child`, itself or in a cell. `locals` is where they begin.
pub fn local(reader: &Reader, code: usize, locals: usize, child: usize) -> Option<Way> {
    for (at, name) in variables(reader, code).into_iter().enumerate() {
        let value = reader.word(locals, at * 8) & !3;
        let in_cell = value != 0
            && is_builtin(reader, value, "cell")
            && reader.word(value, py::CELL_CONTENT) == child;
        if value == child || in_cell {
            return Some(Way::named(Step::Local, name));
        }
    }
    None
}

/// Frames, and generators and coroutines, which have one in them.
fn in_frame(reader: &Reader, parent: usize, child: usize) -> Option<Way> {
    let layout = reader.layout;
    let frame = if is_builtin(reader, parent, "frame") {
        match layout.frame_object_frame {
            0 => parent,
            at => reader.word(parent, at as usize),
        }
    } else if ["generator", "coroutine", "async_generator"]
        .iter()
        .any(|name| is_builtin(reader, parent, name))
    {
        match layout.minor {
            ..=10 => reader.word(parent, layout.generator_frame as usize),
            _ => parent + layout.generator_frame as usize,
        }
    } else {
        return None;
    };
    let known = crate::python::state::layout()?;
    let code = reader.word(frame, known.frame_code as usize) & known.code_mask as usize;
    local(reader, code, frame + layout.frame_locals as usize, child)
}

/// `PyMemberDef.type` of members that are objects (`descrobject.h`).
const OBJECTS: [i32; 2] = [6, 16];

/// The name of the C member that holds `child`, if the type declares it.
fn member(reader: &Reader, parent: usize, child: usize) -> Option<String> {
    let mut type_ = reader.type_of(parent);
    for _ in 0..32 {
        let mut at = reader.word(type_, py::TYPE_MEMBERS);
        // Name, type, offset, flags, documentation; the last has no name.
        for _ in 0..256 {
            let name = if at == 0 { 0 } else { reader.word(at, 0) };
            if name == 0 {
                break;
            }
            let kind: i32 = reader.map.read(at + 8)?;
            let offset = reader.word(at, 16);
            if OBJECTS.contains(&kind) && reader.word(parent, offset) == child {
                return reader.map.c_string(name);
            }
            at += 40;
        }
        type_ = reader.word(type_, py::TYPE_BASE);
        if type_ == 0 {
            break;
        }
    }
    None
}

/// What an object is called, if it is something that has a name.
pub fn name(reader: &Reader, object: usize) -> String {
    let layout = reader.layout;
    let found = if is_builtin(reader, object, "function") {
        let module = reader.text(function_module(reader, object)).unwrap_or_default();
        let name = reader.text(reader.word(object, layout.function_qualname as usize));
        name.map(|name| if module.is_empty() { name } else { format!("{module}.{name}") })
    } else if reader.is(object, flags::TYPE) {
        Some(reader.type_name(object))
    } else if is_module(reader, object) {
        let dict = reader.word(object, py::MODULE_DICT);
        reader.value(dict, "__name__").and_then(|name| reader.text(name))
    } else {
        let mut found = None;
        // Wrappers such as caches name what they wrap; threads and tasks have a name of their own.
        reader.attributes(object, |key, value| {
            match reader.text(key).as_deref() {
                Some("__wrapped__") => found = Some(name(reader, value)),
                Some("__qualname__" | "_name") if found.is_none() => found = reader.text(value),
                _ => {}
            }
            true
        });
        found.or_else(|| generator_name(reader, object))
    };
    found.unwrap_or_default()
}

/// `func_module`: behind the dict and the weak references.
fn function_module(reader: &Reader, function: usize) -> usize {
    reader.word(function, reader.layout.function_dict as usize + 16)
}

/// The code's name of a generator or a coroutine.
fn generator_name(reader: &Reader, object: usize) -> Option<String> {
    let generator = ["generator", "coroutine", "async_generator"]
        .iter()
        .any(|one| is_builtin(reader, object, one));
    if !generator {
        return None;
    }
    let known = crate::python::state::layout()?;
    let layout = reader.layout;
    let frame = match layout.minor {
        ..=10 => reader.word(object, layout.generator_frame as usize),
        _ => object + layout.generator_frame as usize,
    };
    let code = reader.word(frame, known.frame_code as usize) & known.code_mask as usize;
    reader.text(reader.word(code, known.code_name as usize))
}
