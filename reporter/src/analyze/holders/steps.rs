//! The steps of a path, one by one.

use pyshim_dump::heap::{NodeKind, Step};

use super::roots::Root;
use super::{Holder, Nature, Stop, is_transparent, plain as without_main};

/// Parts of a path behind the holder that are told.
const TAIL: usize = 6;
/// Parts of a path to the holder that are told.
const HEAD: usize = 8;

/// The path as it is: to the holder at `at` step by step, from there on by types.
pub fn plain(path: &[Stop], at: usize, root: &Root) -> Holder {
    let (mut text, subject, nature) = head(path, at, root);
    for part in tail(path, at) {
        text.push_str(" → ");
        text.push_str(&part);
    }
    Holder { text, subject, nature }
}

/// The path to the stop at `at`: its words, what one would bound or clear, and of what nature it is.
pub fn head(path: &[Stop], at: usize, root: &Root) -> (String, String, Nature) {
    let mut nature = root.nature;
    let mut parts: Vec<String> = Vec::new();
    let mut expression = root.module.clone().map(|module| (module, 0usize));
    let mut subject = root.text.clone();
    // The last name that tells without what is before it.
    let mut whole_name = String::new();
    for (index, stop) in path.iter().enumerate().take(at + 1).skip(1) {
        if is_transparent(stop) {
            continue;
        }
        let mut kind = match stop.type_name {
            "" => String::new(),
            name => format!(" ({})", type_words(name)),
        };
        if index < at && hides(stop) {
            kind = format!(" (C type without gc support: {})", stop.type_name);
        }
        let step = step(stop, path.get(..index).unwrap_or_default(), root);
        nature = step.nature.unwrap_or(nature);
        expression = expression
            .zip(step.expression)
            .map(|((text, length), more)| (format!("{text}{more}"), length + 1));
        if let Some(whole) = step.whole {
            // Such a name tells without what is before it.
            parts.clear();
            subject.clone_from(&whole);
            whole_name.clone_from(&whole);
            parts.push(format!("{whole}{kind}"));
            continue;
        }
        subject = match &expression {
            Some((text, _)) => plain_name(text),
            None if step.word.is_empty() || step.word.starts_with('[') => {
                let inside = subject.split_once(" in ").map_or(subject.as_str(), |it| it.1);
                format!("the {} in {inside}", type_words(stop.type_name))
            }
            None if whole_name.is_empty() => step.word.clone(),
            None => format!("{} of {whole_name}", step.word),
        };
        nature = nature.inside();
        parts.push(match step.word.is_empty() {
            true => type_words(stop.type_name),
            false => format!("{}{kind}", step.word),
        });
    }
    if parts.len() > HEAD {
        let end = parts.len() - HEAD / 2;
        parts.splice(HEAD / 2..end, ["…".to_owned()]);
    }
    // What can be imported is written as one would write it; a module and one name stay as they are.
    if let (Some((text, length)), Some(module)) = (&expression, &root.module)
        && *length > 0
        && module != "__main__"
        && (*length > 1 || matches!(module.as_str(), "gc" | "sys"))
    {
        let kind = path.get(at).map_or("", |stop| stop.type_name);
        let kind = if kind.is_empty() { String::new() } else { format!(" ({})", type_words(kind)) };
        return (format!("{text}{kind}"), subject, nature);
    }
    let begins = parts.first().is_some_and(|first| is_whole(first));
    if !root.text.is_empty() && !begins {
        parts.insert(0, root.text.clone());
    }
    (parts.join(" → "), subject, nature)
}

/// Whether a part needs no root before it.
fn is_whole(part: &str) -> bool {
    ["local '", "closure cell '", "default argument '", "functools."]
        .iter()
        .any(|start| part.starts_with(start))
}

/// A step in words.
#[derive(Default)]
struct Words {
    /// Its name; empty: only its type is worth telling.
    word: String,
    /// The same for somebody who sees nothing of what is before.
    whole: Option<String>,
    /// As one would write it behind an expression.
    expression: Option<String>,
    nature: Option<Nature>,
}

/// Something that has a frame of its own, and waits.
fn is_suspended(stop: &Stop) -> bool {
    matches!(stop.type_name, "coroutine" | "generator" | "async_generator")
}

/// An object of an extension's type that holds others without telling the collector.
fn hides(stop: &Stop) -> bool {
    !stop.tracked && stop.node.kind == NodeKind::Object && stop.type_name.contains('.')
}

/// A step, below the stops `above`.
fn step(stop: &Stop, above: &[Stop], root: &Root) -> Words {
    let mut over = above.iter().rev().filter(|it| !is_transparent(it));
    let parent = over.next();
    let label = stop.label;
    let from = |parent: Option<&Stop>| parent.map_or("", |parent| parent.name).to_owned();
    match stop.node.step {
        Step::Global | Step::Attribute if !label.is_empty() => Words {
            word: label.to_owned(),
            expression: Some(format!(".{label}")),
            ..Words::default()
        },
        Step::Key => {
            let word = format!("[{label}]");
            Words { expression: Some(word.clone()), word, ..Words::default() }
        }
        Step::Index => {
            let word = format!("[{}]", stop.node.detail);
            Words { expression: Some(word.clone()), word, ..Words::default() }
        }
        Step::Local => {
            let (owner, nature) = match parent {
                Some(parent) if parent.node.kind == NodeKind::Object => {
                    // Until 3.10 a generator has its frame as an object of its own.
                    let owner = match parent.type_name {
                        "frame" => over.next().filter(|it| is_suspended(it)).unwrap_or(parent),
                        _ => parent,
                    };
                    let what = format!(" of {} {}", type_words(owner.type_name), owner.name);
                    (what.trim_end().to_owned(), Nature::Suspended)
                }
                _ => (root.frame.clone(), Nature::Local),
            };
            Words {
                whole: Some(format!("local '{label}'{owner}")),
                nature: Some(nature),
                ..Words::default()
            }
        }
        Step::Closure => {
            // The variable belongs to the function around the one that uses it.
            let inner = from(parent);
            let outer = inner.rsplit_once(".<locals>").map_or(inner.as_str(), |it| it.0);
            let of = if outer.is_empty() { String::new() } else { format!(" of {outer}") };
            Words {
                whole: Some(format!("closure cell '{label}'{of}")),
                nature: Some(Nature::Closure),
                ..Words::default()
            }
        }
        Step::Default => Words {
            whole: Some(format!("default argument '{label}' of {}", from(parent))),
            nature: Some(Nature::Closure),
            ..Words::default()
        },
        _ => Words::default(),
    }
}

/// The words of each stop by itself.
pub fn each(path: &[Stop], root: &Root) -> Vec<String> {
    let words = |(index, stop): (usize, &Stop)| {
        let kind = match (stop.type_name, stop.name) {
            ("", _) if stop.node.kind == NodeKind::Block => "block".to_owned(),
            (kind, "") => type_words(kind),
            (kind, name) => format!("{} {name}", type_words(kind)),
        };
        if index == 0 && !matches!(stop.node.kind, NodeKind::Object | NodeKind::Block) {
            return root.text.clone();
        }
        let step = step(stop, path.get(..index).unwrap_or_default(), root);
        match step.whole.unwrap_or(step.word) {
            word if word.is_empty() => kind,
            word => format!("{word} ({kind})"),
        }
    };
    path.iter().enumerate().map(words).collect()
}

/// What is behind the holder, by types; three neighbours and more that say the same once: the links
/// of a chain. (Two are no chain: an array that shares the memory of another, say.)
pub fn tail(path: &[Stop], at: usize) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    let mut repeats = 0;
    for stop in path.iter().skip(at + 1).filter(|stop| !is_transparent(stop)) {
        let label = stop.label;
        let mut said = match stop.node.step {
            Step::Key => vec![format!("[{}]", key_type(label)), type_words(stop.type_name)],
            Step::Attribute | Step::Global if !label.is_empty() => {
                vec![format!("{label} ({})", type_words(stop.type_name))]
            }
            Step::Closure => {
                vec![format!("closure cell '{label}' ({})", type_words(stop.type_name))]
            }
            Step::Default => {
                vec![format!("default argument '{label}' ({})", type_words(stop.type_name))]
            }
            Step::Local => vec![format!("local '{label}' ({})", type_words(stop.type_name))],
            _ => vec![type_words(stop.type_name)],
        };
        if is_suspended(stop)
            && let (Some(last), false) = (said.last_mut(), stop.name.is_empty())
        {
            last.push_str(&format!(" {}", stop.name));
        }
        said.retain(|part| !part.is_empty());
        if !parts.ends_with(&said) {
            repeats = 0;
            parts.extend(said);
            continue;
        }
        repeats += 1;
        match repeats {
            1 => parts.extend(said),
            2 => parts.truncate(parts.len() - said.len()),
            _ => {}
        }
    }
    if parts.len() > TAIL {
        let end = parts.len() - TAIL / 2;
        parts.splice(TAIL / 2..end, ["…".to_owned()]);
    }
    parts
}

/// The type of a key by its text: quoted, a number, or `<type>`.
fn key_type(label: &str) -> String {
    if label.starts_with('\'') {
        return "str".into();
    }
    if label.trim_start_matches('-').bytes().all(|it| it.is_ascii_digit()) && !label.is_empty() {
        return "int".into();
    }
    without_main(label.trim_start_matches('<').trim_end_matches('>')).to_owned()
}

/// A type's name as people say it.
pub fn type_words(name: &str) -> String {
    match name {
        "_asyncio.Task" | "asyncio.tasks.Task" => "asyncio task".into(),
        "functools._lru_cache_wrapper" => "functools.lru_cache".into(),
        name => without_main(name).to_owned(),
    }
}

fn plain_name(expression: &str) -> String {
    without_main(expression).to_owned()
}
