//! The words for holders, over paths that were put together by hand.

use pyshim_dump::heap::{NodeKind, Step};

use super::*;
use crate::testing::Maker;
use crate::testing::heap::Snapshot;

fn of(snapshot: &Snapshot, holder: u32, sample: u32) -> Holder {
    let dump = Maker::new().dump();
    let mut symbols = Symbols::default();
    let mut holders = Holders { dump: &dump, heap: &snapshot.0, symbols: &mut symbols };
    holders.describe(holder, sample).expect("it is held")
}

/// A path of steps below a module: label, step, type; the one with a star is the holder.
fn path(module: &str, steps: &[(Step, &str, &str)]) -> Holder {
    let mut snapshot = Snapshot::default();
    let mut at = snapshot.root(NodeKind::Module, module);
    let mut holder = 0;
    for &(step, label, type_name) in steps {
        let (label, own) = match label.strip_prefix('*') {
            Some(label) => (label, true),
            None => (label, false),
        };
        at = snapshot.object(at, step, label, type_name);
        if own {
            holder = at;
        }
    }
    of(&snapshot, holder, at)
}

#[test]
fn a_global_and_what_is_in_it() {
    let found = path(
        "app",
        &[(Step::Global, "*CACHE", "dict"), (Step::Key, "'a'", "list"), (Step::Index, "0", "dict")],
    );
    assert_eq!(found.text, "module app → CACHE (dict) → [str] → list → dict");
    assert_eq!((found.subject.as_str(), found.nature), ("app.CACHE", Nature::Named));
    let own = path("__main__", &[(Step::Global, "*ROWS", "list"), (Step::Index, "3", "str")]);
    assert_eq!(own.text, "module __main__ → ROWS (list) → str");
    assert_eq!(own.subject, "ROWS");
}

#[test]
fn an_attribute_of_an_object_is_an_expression() {
    let steps = [
        (Step::Global, "APP", "app.App"),
        (Step::Attribute, "*sessions", "dict"),
        (Step::Key, "7", "app.Session"),
    ];
    let found = path("app", &steps);
    assert_eq!(found.text, "app.APP.sessions (dict) → [int] → app.Session");
    let main = path("__main__", &steps);
    assert_eq!(
        main.text,
        "module __main__ → APP (app.App) → sessions (dict) → [int] → app.Session"
    );
    assert_eq!(main.subject, "APP.sessions");
}

#[test]
fn handlers_of_a_logger() {
    let found = path(
        "logging",
        &[
            (Step::Global, "root", "logging.RootLogger"),
            (Step::Attribute, "*handlers", "list"),
            (Step::Index, "17", "logging.handlers.MemoryHandler"),
            (Step::Attribute, "buffer", "list"),
        ],
    );
    let expected = "logging.root.handlers[17] (logging.handlers.MemoryHandler) → buffer (list)";
    assert_eq!(found.text, expected);
    assert_eq!(found.nature, Nature::LoggingHandlers);
    assert_eq!(found.subject, "logging.root.handlers");
}

#[test]
fn closures_and_defaults() {
    let mut snapshot = Snapshot::default();
    let module = snapshot.root(NodeKind::Module, "app");
    let function = snapshot.object(module, Step::Global, "handler", "function");
    snapshot.named("app.make_handler.<locals>.handler");
    let rows = snapshot.object(function, Step::Closure, "rows", "list");
    let row = snapshot.object(rows, Step::Index, "0", "str");
    let found = of(&snapshot, rows, row);
    assert_eq!(found.text, "closure cell 'rows' of app.make_handler (list) → str");
    assert_eq!(found.nature, Nature::Closure);
    let add = snapshot.object(module, Step::Global, "add", "function");
    snapshot.named("app.add");
    let rows = snapshot.object(add, Step::Default, "rows", "list");
    assert_eq!(of(&snapshot, rows, 0).text, "default argument 'rows' of app.add (list)");
}

#[test]
fn a_local_of_a_running_function() {
    let mut snapshot = Snapshot::default();
    let frame = snapshot.frame("/srv/app/app.py", 88, "worker", "pool-3");
    let batch = snapshot.object(frame, Step::Local, "batch", "list");
    let row = snapshot.object(batch, Step::Index, "0", "str");
    let found = of(&snapshot, batch, row);
    let expected = "local 'batch' of worker() at app.py:88 in thread 'pool-3' (list) → str";
    assert_eq!((found.text.as_str(), found.nature), (expected, Nature::Local));
    let main = snapshot.frame("/srv/app/app.py", 3, "main", "MainThread");
    let rows = snapshot.object(main, Step::Local, "rows", "list");
    let expected = "local 'rows' of main() at app.py:3 in the main thread (list)";
    assert_eq!(of(&snapshot, rows, 0).text, expected);
}

#[test]
fn a_cache_of_a_decorator() {
    let mut snapshot = Snapshot::default();
    let module = snapshot.root(NodeKind::Module, "app");
    let class = snapshot.object(module, Step::Global, "App", "type");
    let wrapper = snapshot.object(class, Step::Attribute, "load", "functools._lru_cache_wrapper");
    snapshot.named("app.App.load");
    let cache = snapshot.object(wrapper, Step::Inside, "", "dict");
    let row = snapshot.object(cache, Step::Key, "7", "bytes");
    let found = of(&snapshot, cache, row);
    assert_eq!(found.text, "functools.lru_cache of app.App.load → [int] → bytes");
    assert_eq!(found.nature, Nature::CacheDecorator);
}

#[test]
fn keys_that_keep_themselves() {
    let mut snapshot = Snapshot::default();
    let module = snapshot.root(NodeKind::Module, "app");
    let meta = snapshot.object(module, Step::Global, "META", "weakref.WeakKeyDictionary");
    let data = snapshot.object(meta, Step::Attribute, "data", "dict");
    snapshot.0.nodes[data as usize - 1].holds_own_key = true;
    let row = snapshot.object(data, Step::Key, "<weakref>", "app.Meta");
    let found = of(&snapshot, data, row);
    let start = "WeakKeyDictionary whose values hold their keys: app.META";
    assert!(found.text.starts_with(start), "{}", found.text);
    assert_eq!(found.nature, Nature::WeakKeys);
}

#[test]
fn a_traceback_keeps_the_variables_of_its_frames() {
    let mut snapshot = Snapshot::default();
    let module = snapshot.root(NodeKind::Module, "app");
    let errors = snapshot.object(module, Step::Global, "ERRORS", "list");
    let error = snapshot.object(errors, Step::Index, "4", "ValueError");
    let traceback = snapshot.object(error, Step::Attribute, "__traceback__", "traceback");
    let frame = snapshot.object(traceback, Step::Attribute, "tb_frame", "frame");
    let body = snapshot.object(frame, Step::Local, "body", "bytes");
    let found = of(&snapshot, errors, body);
    let expected = "traceback of an exception kept in module app → ERRORS (list) → local 'body'";
    assert!(found.text.starts_with(expected), "{}", found.text);
    assert_eq!((found.subject.as_str(), found.nature), ("app.ERRORS", Nature::Traceback));
}

#[test]
fn a_static_variable_without_its_file_is_an_offset() {
    let mut maker = Maker::new();
    maker.module("/srv/libfoo.so", 0x7000_0000, 0x1000);
    let dump = maker.dump();
    let mut snapshot = Snapshot::default();
    let root = snapshot.root(NodeKind::Static, "");
    snapshot.0.nodes[0].address = 0x7000_4000;
    snapshot.named("/srv/libfoo.so");
    let block = snapshot.object(root, Step::Word, "32", "");
    snapshot.0.nodes[block as usize - 1].kind = NodeKind::Block;
    let mut symbols = Symbols::default();
    let mut holders = Holders { dump: &dump, heap: &snapshot.0, symbols: &mut symbols };
    let found = holders.describe(block, 0).unwrap();
    assert_eq!(found.text, "static data of libfoo.so at +0x4020");
    assert_eq!(found.nature, Nature::Native);
}

#[test]
fn many_modules_are_the_registry_of_modules() {
    let mut snapshot = Snapshot::default();
    let module = snapshot.root(NodeKind::Module, "plugin_7");
    let data = snapshot.object(module, Step::Global, "DATA", "list");
    let found = of(&snapshot, 0, data);
    assert_eq!(found.text, "sys.modules: many modules, such as module plugin_7 → DATA (list)");
    let deep = snapshot.object(data, Step::Index, "3", "str");
    let found = of(&snapshot, 0, deep);
    let expected = "several; one of them module plugin_7 → DATA (list) → str";
    assert_eq!((found.text.as_str(), found.subject.as_str()), (expected, "plugin_7.DATA"));
    let alone = snapshot.root(NodeKind::Stack, "");
    assert_eq!(of(&snapshot, 0, alone).text, "several; one of them the stack of a thread");
}

#[test]
fn what_nobody_holds_has_no_holder() {
    let mut snapshot = Snapshot::default();
    let alone = snapshot.object(0, Step::Inside, "", "dict");
    let dump = Maker::new().dump();
    let mut symbols = Symbols::default();
    let mut holders = Holders { dump: &dump, heap: &snapshot.0, symbols: &mut symbols };
    assert_eq!(holders.describe(0, alone), None);
    assert_eq!(holders.describe(0, 0), None);
}

#[test]
fn a_suspended_generator_has_locals() {
    let mut snapshot = Snapshot::default();
    let module = snapshot.root(NodeKind::Module, "app");
    let generator = snapshot.object(module, Step::Global, "READER", "generator");
    snapshot.named("window");
    let rows = snapshot.object(generator, Step::Local, "rows", "list");
    let expected = "local 'rows' of generator window (list)";
    assert_eq!(of(&snapshot, rows, 0).text, expected);
    let frame = snapshot.object(generator, Step::Attribute, "gi_frame", "frame");
    let rows = snapshot.object(frame, Step::Local, "rows", "list");
    let found = of(&snapshot, rows, 0);
    assert_eq!((found.text.as_str(), found.nature), (expected, Nature::Suspended));
}

#[test]
fn a_type_that_hides_what_it_holds_is_named() {
    let mut snapshot = Snapshot::default();
    let module = snapshot.root(NodeKind::Module, "app");
    let hidden = snapshot.object(module, Step::Global, "BOX", "boxes.Plain");
    let list = snapshot.object(hidden, Step::Inside, "", "list");
    for one in &mut snapshot.0.types {
        one.tracked = false;
    }
    let found = of(&snapshot, list, 0);
    assert_eq!(found.text, "module app → BOX (C type without gc support: boxes.Plain) → list");
}
