//! From a path in the heap snapshot to the words that people have for what
//! holds memory: `module app → CACHE (dict) → [str] → list`, `closure cell
//! 'rows' of app.make_handler`, `static variable g_cache in libfoo.so`.

mod roots;
mod special;
mod steps;
#[cfg(test)]
mod tests;

use pyshim_dump::Dump;
use pyshim_dump::heap::{Heap, Node, NodeKind, Step};

use crate::symbolize::Symbols;

use roots::Root;

/// What holds memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holder {
    /// The whole path, root first.
    pub text: String,
    /// What a person would bound or clear: an expression, or a description of the variable.
    pub subject: String,
    /// What kind of holder it is.
    pub nature: Nature,
}

/// What kind of holder it is, as far as advice depends on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Nature {
    /// A variable or an attribute that can be reached by its name.
    #[default]
    Named,
    /// A local variable of a function that runs.
    Local,
    /// A variable of an enclosing function, or a default argument.
    Closure,
    /// A cache that a decorator keeps.
    CacheDecorator,
    /// A dictionary with weak keys whose values hold these keys.
    WeakKeys,
    /// The traceback of an exception that is kept.
    Traceback,
    /// A local variable of a generator or a coroutine that is suspended.
    Suspended,
    /// What such a variable holds.
    InSuspended,
    /// A task of an event loop.
    Task,
    /// Handlers of a logger.
    LoggingHandlers,
    /// A registry of callbacks.
    Callbacks,
    /// The dictionary of `sys.intern`.
    Interned,
    /// Values of one thread or one context.
    PerThread,
    /// The registry of imported modules.
    Modules,
    /// Native memory.
    Native,
    /// The stack of a thread itself.
    Stack,
    /// The interpreter itself.
    Interpreter,
}

impl Nature {
    /// Of what something of this nature holds.
    fn inside(self) -> Nature {
        match self {
            Nature::Suspended => Nature::InSuspended,
            Nature::Stack => Nature::Native,
            other => other,
        }
    }
}

/// Finds words for the nodes of a snapshot.
pub struct Holders<'a, 's> {
    /// The dump that the snapshot is in.
    pub dump: &'a Dump,
    /// The snapshot.
    pub heap: &'a Heap,
    /// Names static variables.
    pub symbols: &'s mut Symbols,
}

/// A step of a path, with what is needed to tell it.
#[derive(Clone, Debug)]
pub(super) struct Stop<'a> {
    pub(super) node: &'a Node,
    pub(super) type_name: &'a str,
    pub(super) label: &'a str,
    pub(super) name: &'a str,
    /// The collector can follow objects of its type.
    pub(super) tracked: bool,
}

impl<'a> Holders<'a, '_> {
    /// What holds the node `sample` (position plus one), of which the node `holder` holds all of its
    /// kind; 0: no single one does. Nothing for what nobody holds.
    pub fn describe(&mut self, holder: u32, sample: u32) -> Option<Holder> {
        let last = if sample == 0 { holder } else { sample };
        let path = self.path(last);
        let first = path.first()?;
        if matches!(first.node.kind, NodeKind::Object | NodeKind::Block) {
            return None;
        }
        let held = self.heap.node(holder);
        let is_held = |stop: &Stop| held.is_some_and(|held| std::ptr::eq(held, stop.node));
        let at = match path.iter().position(is_held) {
            Some(at) => at,
            // Another way leads to the sample, or its path was cut: the holder's own is told then.
            None if holder != 0 && sample != 0 => return self.describe(holder, 0),
            // The names at the path's beginning; what comes behind them is one of many.
            None => {
                let named = |stop: &&Stop| {
                    use Step::{Attribute, Closure, Default, Global, Local};
                    matches!(stop.node.step, Global | Attribute | Closure | Local | Default)
                };
                path.iter().skip(1).take_while(named).count().clamp(1, path.len().max(2) - 1)
            }
        };
        let root = self.root(&path);
        let told =
            special::told(&path, at, &root).unwrap_or_else(|| steps::plain(&path, at, &root));
        if holder != 0 {
            return Some(told);
        }
        let modules: Vec<&str> = self
            .heap
            .nodes
            .iter()
            .filter(|node| node.kind == NodeKind::Module)
            .map(|node| self.heap.text(node.label))
            .collect();
        Some(special::without_one_holder(&path, &modules, told))
    }

    /// The words of each stop on the path to a node, position plus one; nothing is left out.
    pub fn stops(&mut self, last: u32) -> Vec<String> {
        let path = self.path(last);
        let root = self.root(&path);
        steps::each(&path, &root)
    }

    /// The stops from the root to a node, position plus one.
    pub(super) fn path(&self, last: u32) -> Vec<Stop<'a>> {
        let heap: &'a Heap = self.heap;
        heap.path(last).into_iter().map(|node| stop(heap, node)).collect()
    }

    /// Words for the root of a path.
    fn root(&mut self, path: &[Stop]) -> Root {
        roots::root(self.dump, self.heap, self.symbols, path)
    }
}

fn stop<'a>(heap: &'a Heap, node: &'a Node) -> Stop<'a> {
    let kind = (node.type_ as usize).checked_sub(1).and_then(|at| heap.types.get(at));
    Stop {
        node,
        type_name: plain(heap.type_name(node.type_)),
        label: heap.text(node.label),
        name: plain(heap.text(node.name)),
        tracked: kind.is_none_or(|kind| kind.tracked),
    }
}

/// A name without the module that is the program itself.
pub fn plain(name: &str) -> &str {
    name.strip_prefix("__main__.").unwrap_or(name)
}

/// Whether a step leads nowhere new: the dict in which an object keeps its attributes, the block
/// in which a container keeps its items.
fn is_transparent(stop: &Stop) -> bool {
    stop.node.kind == NodeKind::Block
        || stop.node.step == Step::Attribute && matches!(stop.label, "__dict__" | "__closure__")
        || stop.type_name == "cell"
}
