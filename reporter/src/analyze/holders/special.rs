//! Holders that people know by a name of their own. Only what belongs to the
//! language and its standard library is known here.

use pyshim_dump::heap::{NodeKind, Step};

use super::roots::Root;
use super::steps::{head, plain, tail, type_words};
use super::{Holder, Nature, Stop};

/// The words for a path that is one of these.
pub fn told(path: &[Stop], at: usize, root: &Root) -> Option<Holder> {
    let weak_keys = path.iter().any(|stop| stop.node.holds_own_key);
    let found = traceback(path, at, root)
        .or_else(|| decorated(path, at))
        .or_else(|| task(path, at))
        .or_else(|| interned(path, at))
        .or_else(|| library(path, at, root))
        .or_else(|| per_thread(path, at));
    if !weak_keys {
        return found;
    }
    let below = found.unwrap_or_else(|| plain(path, at, root));
    Some(Holder {
        text: format!("WeakKeyDictionary whose values hold their keys: {}", below.text),
        nature: Nature::WeakKeys,
        ..below
    })
}

/// Where no single node holds all of it, only how one is held is known. `modules` are the names of
/// all modules that begin a path.
pub fn without_one_holder(path: &[Stop], modules: &[&str], told: Holder) -> Holder {
    let first = path.first().filter(|stop| stop.node.kind == NodeKind::Module);
    // A module has one variable of a name: what many variables hold is held by many modules. So it
    // is if there are many whose names differ in a number only.
    let direct = path.len() <= 2 && path.last().is_some_and(|it| it.node.step == Step::Global);
    let alike = |name: &str| modules.iter().filter(|other| pattern(other) == pattern(name)).count();
    if told.nature == Nature::Named
        && first.is_some_and(|stop| direct || stop.label.contains(digit) && alike(stop.label) >= 3)
    {
        return Holder {
            text: format!("sys.modules: many modules, such as {}", told.text),
            subject: "sys.modules".into(),
            nature: Nature::Modules,
        };
    }
    Holder { text: format!("several; one of them {}", told.text), ..told }
}

fn digit(letter: char) -> bool {
    letter.is_ascii_digit()
}

/// A name without its numbers.
fn pattern(name: &str) -> String {
    name.chars().filter(|&letter| !digit(letter)).collect()
}

fn with_tail(mut text: String, path: &[Stop], at: usize) -> String {
    for part in tail(path, at) {
        text.push_str(" → ");
        text.push_str(&part);
    }
    text
}

/// An exception that somebody keeps holds the frames of its traceback, with all of their variables.
fn traceback(path: &[Stop], at: usize, root: &Root) -> Option<Holder> {
    let first = path.iter().position(|stop| stop.type_name == "traceback")?;
    // What is above it is the exception, where that is known.
    let exception = path.get(first)?.node.step == Step::Attribute || first > 1;
    let above = first.checked_sub(if exception { 2 } else { 1 })?;
    let (kept, subject, _) = head(path, above.min(at.max(above)), root);
    let last = path.iter().rposition(|stop| stop.node.step == Step::Local);
    let variable = last.and_then(|last| {
        let (stop, frame) = (path.get(last)?, path.get(last.checked_sub(1)?)?);
        let of = if frame.name.is_empty() { String::new() } else { format!(" of {}", frame.name) };
        Some(with_tail(format!(" → local '{}'{of}", stop.label), path, last))
    });
    let rest = variable.unwrap_or_else(|| with_tail(String::new(), path, first));
    Some(Holder {
        text: format!("traceback of an exception kept in {kept}{rest}"),
        subject,
        nature: Nature::Traceback,
    })
}

/// A cache made by a decorator of functools.
fn decorated(path: &[Stop], at: usize) -> Option<Holder> {
    let to_holder = path.get(..=at)?;
    let found = to_holder.iter().rposition(|it| it.type_name == "functools._lru_cache_wrapper")?;
    let stop = path.get(found)?;
    let name = if stop.name.is_empty() { stop.label } else { stop.name };
    let subject = format!("functools.lru_cache of {name}");
    // Its own links and keys say nothing.
    let text = with_tail(subject.clone(), path, at.max(found));
    Some(Holder { text, subject, nature: Nature::CacheDecorator })
}

/// A task, and a coroutine that nobody awaits, where nothing with a name holds it.
fn task(path: &[Stop], at: usize) -> Option<Holder> {
    let named = path.iter().any(|it| it.node.step == Step::Global);
    let is_task = |stop: &Stop| type_words(stop.type_name) == "asyncio task";
    let found = path.iter().position(is_task)?;
    if named && found > at {
        return None;
    }
    let stop = path.get(found)?;
    let coroutine = path.iter().skip(found).find(|it| it.type_name == "coroutine");
    let of = match (coroutine.map(|it| it.name), stop.name) {
        (Some(name), _) if !name.is_empty() => format!(" of coroutine {name}"),
        (_, name) if !name.is_empty() => format!(" {name}"),
        _ => String::new(),
    };
    let subject = format!("asyncio task{of}");
    let text = with_tail(format!("{subject} that has not ended"), path, at.max(found));
    Some(Holder { text, subject, nature: Nature::Task })
}

/// Strings that `sys.intern` was given. An ordinary dictionary may have its keys as values too, so it
/// has to be the interpreter's own.
fn interned(path: &[Stop], at: usize) -> Option<Holder> {
    let own = matches!(path.first()?.node.kind, NodeKind::Interpreter | NodeKind::Static);
    let found = path.get(1).filter(|stop| own && stop.name == "interned strings")?;
    let subject = found.name.to_owned();
    let text = with_tail(subject.clone(), path, at.max(1));
    Some(Holder { text, subject, nature: Nature::Interned })
}

/// Registries of the standard library.
fn library(path: &[Stop], at: usize, root: &Root) -> Option<Holder> {
    let module = root.module.as_deref();
    let has = |label: &str| path.iter().any(|stop| stop.label == label);
    let interpreter = path.first()?.node.kind == NodeKind::Interpreter;
    let label = path.first()?.label;
    let callbacks = |subject: &str| Holder {
        text: with_tail(subject.to_owned(), path, at),
        subject: subject.to_owned(),
        nature: Nature::Callbacks,
    };
    match module {
        Some("weakref") if has("_registry") => return Some(callbacks("weakref.finalize registry")),
        Some("atexit") => return Some(callbacks("atexit callbacks")),
        Some("logging") if has("handlers") => {
            let (mut text, mut subject, _) = head(path, at, root);
            let behind = path.get(at + 1).filter(|next| {
                next.node.step == Step::Index
                    && path.get(at).is_some_and(|it| it.label == "handlers")
            });
            let mut from = at;
            if let Some(next) = behind {
                let list = text.rsplit_once(" (").map_or(text.as_str(), |it| it.0);
                subject = list.to_owned();
                text = format!("{list}[{}] ({})", next.node.detail, type_words(next.type_name));
                from = at + 1;
            }
            return Some(Holder {
                text: with_tail(text, path, from),
                subject,
                nature: Nature::LoggingHandlers,
            });
        }
        _ => {}
    }
    // Each handler often knows the one before it: the first one's place is what is said.
    ["atexit callbacks", "signal handlers"]
        .into_iter()
        .find(|&registry| interpreter && label == registry)
        .map(callbacks)
}

/// Values of a thread or a context.
fn per_thread(path: &[Stop], at: usize) -> Option<Holder> {
    let to_holder = path.get(..=at)?;
    let local = |stop: &Stop| {
        matches!(stop.type_name, "_thread._local" | "_thread._localdummy")
            || stop.label.starts_with("'thread.local.")
            || stop.label.starts_with("'_thread._local")
    };
    if let Some(found) = to_holder.iter().position(local) {
        let text = with_tail("values of a threading.local".into(), path, found);
        let subject = "the threading.local".into();
        return Some(Holder { text, subject, nature: Nature::PerThread });
    }
    let named = to_holder.iter().any(|it| it.node.step == Step::Global);
    let context = |stop: &Stop| {
        let last = stop.type_name.rsplit('.').next().unwrap_or("");
        last == "Context" || last == "ContextVar" || last.starts_with("hamt")
    };
    let found = path.iter().rposition(context).filter(|_| !named)?;
    let variable = path.get(found..)?.iter().find(|it| it.node.step == Step::Key);
    let name = match (variable, path.get(found)) {
        (Some(stop), _) => format!(" {}", stop.label),
        (None, Some(stop)) if !stop.name.is_empty() => format!(" '{}'", stop.name),
        _ => String::new(),
    };
    let subject = format!("ContextVar{name}");
    let text = with_tail(format!("value of {subject}"), path, found);
    Some(Holder { text, subject, nature: Nature::PerThread })
}
