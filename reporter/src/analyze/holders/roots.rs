//! Where a path begins.

use pyshim_dump::Dump;
use pyshim_dump::heap::{Heap, NodeKind, Step};

use crate::analyze::roles;
use crate::python;
use crate::symbolize::Symbols;

use super::{Nature, Stop};

/// The words for a root.
#[derive(Clone, Debug, Default)]
pub struct Root {
    /// As a path begins: `module app`; empty where the first step says it all.
    pub text: String,
    /// The module's name, of a module.
    pub module: Option<String>,
    /// Behind the name of a local variable: ` of worker() at app.py:88 in thread 'pool-3'`.
    pub frame: String,
    /// What advice to give, if no step of the path decides that.
    pub nature: Nature,
}

/// Of a path.
pub fn root(dump: &Dump, heap: &Heap, symbols: &mut Symbols, path: &[Stop]) -> Root {
    let Some(first) = path.first() else { return Root::default() };
    let native = |text: String| Root { text, nature: Nature::Native, ..Root::default() };
    match first.node.kind {
        NodeKind::Module => Root {
            text: format!("module {}", first.label),
            module: Some(first.label.to_owned()),
            ..Root::default()
        },
        NodeKind::Frame => frame(heap, first.node.detail),
        NodeKind::Static => native(variable(dump, symbols, path)),
        NodeKind::Stack => Root {
            text: match first.node.detail {
                0 => "the stack of a thread".into(),
                id => format!("the stack of thread {id}"),
            },
            nature: Nature::Stack,
            ..Root::default()
        },
        NodeKind::ThreadLocal => native("thread-local storage of a thread".into()),
        NodeKind::Mapping => native("memory that the program mapped itself".into()),
        NodeKind::Interpreter => Root {
            text: match first.label {
                "" => "the interpreter".into(),
                label => format!("the interpreter's {label}"),
            },
            nature: Nature::Interpreter,
            ..Root::default()
        },
        NodeKind::Object | NodeKind::Block => Root::default(),
    }
}

fn frame(heap: &Heap, at: u64) -> Root {
    let nature = Nature::Local;
    let frame = usize::try_from(at).ok().and_then(|at| heap.frames.get(at));
    let code = frame.and_then(|frame| heap.codes.get(frame.code as usize));
    let (Some(frame), Some(code)) = (frame, code) else {
        return Root { text: "a running function".into(), nature, ..Root::default() };
    };
    let file = roles::file_name(heap.text(code.file));
    let place = match python::place(code, frame.instruction).0 {
        Some(line) => format!("{file}:{line}"),
        None => file.to_owned(),
    };
    let thread = match heap.text(frame.thread) {
        "" => "a thread".into(),
        "MainThread" => "the main thread".into(),
        name => format!("thread '{name}'"),
    };
    let words = format!("{}() at {place} in {thread}", code.name);
    Root { text: words.clone(), frame: format!(" of {words}"), nature, ..Root::default() }
}

/// `static variable g_cache in libfoo.so`. The root is all static data of a file; the first step's
/// offset says where in it.
fn variable(dump: &Dump, symbols: &mut Symbols, path: &[Stop]) -> String {
    let Some(root) = path.first() else { return String::new() };
    // Where in it, only a first step says that was kept.
    let offset = path.get(1).filter(|next| next.node.step == Step::Word).map(|it| it.node.detail);
    let address = root.node.address.wrapping_add(offset.unwrap_or(0));
    let same = |module: &&pyshim_dump::Module| module.loaded.path == root.name;
    // Loaded more than once: the one before the data, and the nearest to it.
    let before = |module: &&pyshim_dump::Module| module.loaded.start <= address;
    let modules = || dump.modules.iter().rev().filter(same);
    let nearest = modules().filter(before).max_by_key(|module| module.loaded.start);
    let file = match roles::file_name(root.name) {
        "" => "a program file",
        name => name,
    };
    let Some(module) = nearest.or_else(|| modules().next()) else {
        return format!("static data of {file}");
    };
    if offset.is_none() {
        return format!("static data of {file}");
    }
    let inside = address.wrapping_sub(module.loaded.bias);
    let id = symbols.module(&module.loaded);
    match symbols.variable(id, inside) {
        Some(name) => format!("static variable {name} in {file}"),
        None => format!("static data of {file} at +0x{inside:x}"),
    }
}
