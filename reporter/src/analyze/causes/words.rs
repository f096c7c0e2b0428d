//! What to do about a cause, and which other tool would have shown it.

use pyshim_dump::heap::{Group, Heap, State};

use crate::analyze::holders::{Holder, Nature};
use crate::analyze::report::Frame;
use crate::analyze::roles::{self, Role};

use super::cause::{Cause, Kind};

/// One line that a person can act on.
pub fn advice(
    cause: &Cause,
    state: State,
    held: Option<&Holder>,
    group: Option<(&Heap, &Group)>,
) -> String {
    match cause.kind {
        Kind::NativeLeak => format!(
            "Python's gc and tracemalloc cannot see this; {} must free it",
            culprit(cause).unwrap_or_else(|| "whoever allocates here".into()),
        ),
        Kind::NativeHeld if state == State::Python => format!(
            "Python cannot free it, and clearing {} would lose it: call the library's own function that frees it",
            held.map_or("what points to it", |held| held.subject.as_str()),
        ),
        Kind::NativeHeld => match held {
            Some(held) if held.nature == Nature::Stack => format!(
                "what runs on {} points to it: let it end, or bound what it keeps; Python cannot free it",
                held.subject
            ),
            Some(held) => format!("bound or clear {}; Python cannot free it", held.subject),
            None => {
                "bound or clear the native structure that keeps it; Python cannot free it".into()
            }
        },
        Kind::ReferenceLeak => format!(
            "a Py_DECREF{} is missing in {}; gc.collect() will not help",
            if has_buffer(cause) { " or a PyBuffer_Release" } else { "" },
            culprit(cause).unwrap_or_else(|| "an extension that had this object".into()),
        ),
        Kind::PythonHeld => reachable(held),
        Kind::Cycles => cycles(group),
        Kind::Mapping => format!(
            "no allocator knows of it: {} must unmap or close it (close(), munmap)",
            culprit(cause).unwrap_or_else(|| "whoever maps it here".into()),
        ),
        // Who finds these knows what to say.
        Kind::AllocatorRetention | Kind::Churn | Kind::None => cause.advice.clone(),
    }
}

/// Whether C code may have a `Py_buffer` of such an object, which holds a reference.
fn has_buffer(cause: &Cause) -> bool {
    const TYPES: [&str; 5] = ["bytes", "bytearray", "memoryview", "array.array", "mmap.mmap"];
    cause.type_name.as_deref().is_some_and(|name| TYPES.contains(&name))
}

/// The extension or library that allocated, with its function, and who of another library called it;
/// the line of Python if that called the C function itself.
fn culprit(cause: &Cause) -> Option<String> {
    let stack = &cause.site.as_ref()?.stack;
    let mut bridged = false;
    let mut own: Vec<(&str, Option<&str>)> = Vec::new();
    for frame in stack {
        match &**frame {
            Frame::Native { module, .. } if roles::is_bridge(module) => bridged = true,
            Frame::Native { module, function, role: Role::Program, .. } if !bridged => {
                own.push((roles::file_name(module), function.as_deref()));
            }
            Frame::Native { .. } => {}
            Frame::Python { file, line: Some(line), .. } if bridged && own.is_empty() => {
                return Some(format!("the caller at {}:{line}", roles::file_name(file)));
            }
            Frame::Python { .. } if own.is_empty() => {}
            Frame::Python { .. } => break,
        }
    }
    let words = |(module, function): (&str, Option<&str>)| match function {
        Some(function) => format!("{function} in {module}"),
        None => module.to_owned(),
    };
    let innermost = own.iter().find(|it| it.1.is_some()).or(own.first()).copied()?;
    let caller = own.iter().rfind(|it| it.0 != innermost.0).copied();
    Some(match caller {
        Some(caller) => format!("{}, or its caller {},", words(innermost), words(caller)),
        None => words(innermost),
    })
}

fn reachable(held: Option<&Holder>) -> String {
    let Some(held) = held else {
        return "find who keeps it: objgraph.show_backrefs() on one; gc.collect() will not help"
            .into();
    };
    let what = &held.subject;
    let then = match held.nature {
        Nature::Named => format!("bound or clear {what}"),
        Nature::Local => format!("{what} lives as long as its function runs: bound or clear it"),
        Nature::Closure => {
            format!("{what} lives as long as its function: bound or clear it, or drop the function")
        }
        Nature::CacheDecorator => format!(
            "give {what} a maxsize, or call its cache_clear(); on a method it keeps each self"
        ),
        Nature::WeakKeys => {
            format!("let the values of {what} refer to their keys weakly, or not at all")
        }
        Nature::Traceback => {
            "keep the exception without its traceback (with_traceback(None)), or only its text"
                .into()
        }
        Nature::InSuspended => {
            format!("bound or clear {what}, which lives as long as that is suspended")
        }
        Nature::Suspended => format!("{what} is suspended: exhaust it, close() it, or await it"),
        Nature::Task => format!("await or cancel the {what}"),
        Nature::LoggingHandlers => {
            format!("add handlers once, not per call; removeHandler() takes one out of {what}")
        }
        Nature::Callbacks => format!("unregister what is no longer needed from the {what}"),
        Nature::Interned => {
            "sys.intern keeps a string for good from CPython 3.12 on: intern names, not data".into()
        }
        Nature::PerThread => format!("clear {what} when the thread or the task is done with it"),
        Nature::Modules => {
            "do not load code under ever new names; delete modules from sys.modules".into()
        }
        Nature::Native | Nature::Stack => {
            format!("{what} has references of its own: it must give them back")
        }
        Nature::Interpreter => format!("{what} has it: look for what was registered there"),
    };
    format!("reachable: gc.collect() will not help; {then}")
}

fn cycles(group: Option<(&Heap, &Group)>) -> String {
    if let Some((heap, group)) = group {
        if group.blocker != 0 {
            let name = heap.type_name(group.blocker);
            return format!(
                "type {name} needs Py_TPFLAGS_HAVE_GC and tp_traverse; until then break the ring by hand, gc.collect() will not help"
            );
        }
        if let Some(collector) = &heap.collector {
            if collector.garbage_frozen > collector.garbage_objects / 2 {
                return "freeze before there are rings: gc.collect() first, gc.freeze() then; gc.unfreeze() gives them back".into();
            }
            if !collector.enabled {
                return "call gc.enable(), or gc.collect() now and then; or break the rings (weakref)".into();
            }
            if collector.garbage_objects == 0 {
                return "gc.collect() will not free it: something in the ring hides it from the collector; break the ring by hand".into();
            }
        }
    }
    "lower gc.set_threshold(), or call gc.collect() now and then; or break the rings (weakref)"
        .into()
}

/// Which tool of Python's shows it.
pub fn tools(cause: &Cause) -> String {
    match cause.kind {
        Kind::NativeLeak | Kind::NativeHeld if cause.type_name.is_none() => {
            "gc, tracemalloc and objgraph show none of it"
        }
        Kind::NativeLeak | Kind::NativeHeld => {
            "tracemalloc shows the line, objgraph the number of objects; neither shows the native owner"
        }
        Kind::ReferenceLeak => {
            "tracemalloc shows the line, objgraph the growing type; gc finds no referrer, as there is none"
        }
        Kind::PythonHeld => {
            "tracemalloc shows the line, objgraph.show_backrefs() the path; gc.collect() frees nothing"
        }
        Kind::Cycles => {
            "gc.collect() counts what it frees, tracemalloc shows the line; objgraph finds no root"
        }
        Kind::AllocatorRetention => {
            "gc, tracemalloc and objgraph see less and less; sys._debugmallocstats() shows pymalloc's part"
        }
        Kind::Mapping => "gc, tracemalloc and objgraph show none of it; /proc/PID/smaps does",
        Kind::Churn => "tracemalloc and objgraph show what survives, which is almost nothing",
        Kind::None => "",
    }
    .to_owned()
}
