//! Which stacks' blocks survived: merged by name, grouped, ranked.

use std::collections::{BTreeSet, HashMap};

use crate::read::Loaded;
use crate::symbolize::Symbols;

use super::Options;
use super::figures::{Ledger, rank};
use super::growth::{NONE, Trend};
use super::names::{FrameId, Identity, Names};
use super::report::{By, Figures, Group, Site, Source, Survivor, Total, Window};
use super::roles::{self, Role};
use super::stacks::{Location, RawStack, Stacks};

/// What [`survivors`] finds.
pub struct Found {
    /// Ranked, those of the heaps first.
    pub groups: Vec<Group>,
    /// Ranked; only on request.
    pub survivors: Vec<Survivor>,
    /// Over all.
    pub total: Total,
    /// How growth was told from start-up.
    pub window: Window,
}

/// Puts the stacks of all dumps into groups.
pub fn survivors(
    dumps: &[Loaded],
    stacks: &Stacks,
    names: &mut Names,
    symbols: &mut Symbols,
    options: &Options,
) -> Found {
    let ledger = Ledger::new(dumps, stacks, options);
    let mut work = Work { dumps, stacks, symbols, names, ledger, options };
    let groups = work.groups();
    let survivors = options.survivors.map_or(Vec::new(), |most| work.survivors(most));
    Found { groups, survivors, total: work.ledger.total, window: work.ledger.window }
}

struct Work<'a> {
    dumps: &'a [Loaded],
    stacks: &'a Stacks,
    symbols: &'a mut Symbols,
    names: &'a mut Names,
    ledger: Ledger<'a>,
    options: &'a Options<'a>,
}

/// What makes stacks one group. Mappings and blocks of a heap are never one.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Key {
    /// The innermost native function of the program, and the innermost Python line.
    Site { mapping: bool, unknown: bool, native: Option<Identity>, python: Option<Identity> },
    /// The same by address: a group too small for its names to be looked up.
    Address { mapping: bool, unknown: bool, native: Option<u32>, python: Option<u32> },
    /// A library.
    Library { mapping: bool, name: String },
}

/// Stacks that belong together.
struct Set {
    members: Vec<u32>,
    figures: Figures,
}

impl Work<'_> {
    fn groups(&mut self) -> Vec<Group> {
        let keys = match self.options.by {
            By::Library => (0..self.stacks.list.len()).map(|it| self.library_key(it)).collect(),
            By::Site | By::Type | By::Holder => self.site_keys(),
        };
        let mut labels = HashMap::new();
        for (stack, key) in keys.iter().enumerate() {
            if let Key::Library { name, .. } = key {
                labels.insert(stack as u32, name.clone());
            }
        }
        let mut sets = self.sets(keys);
        sets.sort_by_key(|set| set.figures.origin.is_mapping());
        let heaps = sets.iter().filter(|set| !set.figures.origin.is_mapping()).count();
        let mappings = sets.split_off(heaps);
        let top = self.options.top;
        for left in sets.iter().skip(top) {
            super::stacks::add(&mut self.ledger.total.left, left.figures.live);
            self.ledger.total.groups_left += 1;
        }
        let shown = sets.into_iter().take(top).chain(mappings.into_iter().take(top));
        shown
            .map(|set| {
                let label = set.members.first().and_then(|first| labels.get(first).cloned());
                self.group(set, label)
            })
            .collect()
    }

    fn group(&mut self, set: Set, label: Option<String>) -> Group {
        let Set { members, mut figures } = set;
        self.ledger.distributions(&mut figures, self.stacks, &members);
        let merged = self.merge(&members);
        let bytes = |members: &Vec<u32>| -> u64 {
            let list = members.iter().filter_map(|&it| self.stacks.list.get(it as usize));
            list.fold(0, |sum, stack| sum.saturating_add(stack.live.bytes))
        };
        // Of equals the first, so that the same dump always gives the same report.
        let heaviest = merged.iter().rev().max_by_key(|members| bytes(members));
        let heaviest = heaviest.and_then(|members| members.first().copied());
        Group {
            label,
            stacks: merged.len(),
            figures,
            heaviest: heaviest.map_or(Site::default(), |stack| self.site(stack, true)),
        }
    }

    fn survivors(&mut self, most: usize) -> Vec<Survivor> {
        let all: Vec<u32> = (0..self.stacks.list.len() as u32).collect();
        let merged = self.merge(&all);
        let mut sets = self.measured(merged);
        sets.truncate(most);
        sets.into_iter()
            .map(|Set { members, mut figures }| {
                self.ledger.distributions(&mut figures, self.stacks, &members);
                let site =
                    members.first().map_or(Site::default(), |&stack| self.site(stack, false));
                Survivor { site, figures }
            })
            .collect()
    }

    /// Puts stacks with the same source and names together, in order of their first.
    fn merge(&mut self, members: &[u32]) -> Vec<Vec<u32>> {
        let mut places: HashMap<(Source, Vec<Identity>), usize> = HashMap::new();
        let mut merged: Vec<Vec<u32>> = Vec::new();
        for &member in members {
            let Some(stack) = self.stacks.list.get(member as usize) else { continue };
            let frames = self.names.stack(self.stacks, self.symbols, &stack.locations);
            let identities = frames.iter().map(|&frame| self.names.identity(frame)).collect();
            let next = merged.len();
            let place = *places.entry((stack.source, identities)).or_insert(next);
            match merged.get_mut(place) {
                Some(known) => known.push(member),
                None => merged.push(vec![member]),
            }
        }
        // The heaviest leads: what differs within one line, such as the column, is shown of it.
        let bytes = |it: &u32| self.stacks.list.get(*it as usize).map_or(0, |it| it.live.bytes);
        for members in &mut merged {
            members.sort_by_key(|it| std::cmp::Reverse(bytes(it)));
        }
        merged
    }

    fn sets(&self, keys: Vec<Key>) -> Vec<Set> {
        let mut places: HashMap<Key, usize> = HashMap::new();
        let mut members: Vec<Vec<u32>> = Vec::new();
        for (stack, key) in keys.into_iter().enumerate() {
            let next = members.len();
            let place = *places.entry(key).or_insert(next);
            match members.get_mut(place) {
                Some(known) => known.push(stack as u32),
                None => members.push(vec![stack as u32]),
            }
        }
        self.measured(members)
    }

    /// Sets of stacks with their figures, ranked.
    fn measured(&self, members: Vec<Vec<u32>>) -> Vec<Set> {
        let mut entity_of = vec![NONE; self.stacks.list.len()];
        for (entity, members) in members.iter().enumerate() {
            for &stack in members {
                if let Some(slot) = entity_of.get_mut(stack as usize) {
                    *slot = entity as u32;
                }
            }
        }
        let trends = self.ledger.trends(self.stacks, &entity_of, members.len());
        let measure = |(members, trend): (Vec<u32>, &Trend)| {
            let figures = self.ledger.figures(self.stacks, &members, trend);
            Set { members, figures }
        };
        let mut sets: Vec<Set> = members.into_iter().zip(&trends).map(measure).collect();
        sets.sort_by(|a, b| rank(&a.figures, &b.figures));
        sets
    }

    fn library_key(&self, stack: usize) -> Key {
        let Some(stack) = self.stacks.list.get(stack) else {
            return Key::Library { mapping: false, name: String::new() };
        };
        let directory = |location: u32| {
            let dump = self.dumps.get(self.stacks.dump_of(location));
            dump.map_or("", |loaded| loaded.dump.process.directory.as_str())
        };
        // What a module is made of belongs to whoever imports it, not to the import machinery.
        let importer = self.python(stack).find(|it| !roles::is_import_machinery(it.1));
        let python = importer.or_else(|| self.innermost_python(stack));
        let name = match (self.program_native(stack), python) {
            (Some((id, module)), _) => roles::library(self.symbols.path(module), directory(id)),
            (None, Some((id, file))) => roles::library(file, directory(id)),
            (None, None) if stack.source == Source::Unknown => "stack not recorded".into(),
            (None, None) => "interpreter".into(),
        };
        Key::Library { mapping: stack.source.is_mapping(), name }
    }

    fn program_native(&self, stack: &RawStack) -> Option<(u32, crate::symbolize::ModuleId)> {
        stack.locations.iter().find_map(|&id| match self.stacks.location(id)? {
            Location::Native { module, role: Role::Program, .. } => Some((id, *module)),
            _ => None,
        })
    }

    fn innermost_python<'b>(&'b self, stack: &'b RawStack) -> Option<(u32, &'b str)> {
        self.python(stack).next()
    }

    fn python<'b>(&'b self, stack: &'b RawStack) -> impl Iterator<Item = (u32, &'b str)> {
        stack.locations.iter().filter_map(|&id| match self.stacks.location(id)? {
            Location::Python(frame) => Some((id, frame.file.as_str())),
            _ => None,
        })
    }

    /// Names are looked up for groups that may be shown; looking up all would make a report of ten
    /// sites wait for the debug information of a hundred libraries.
    fn site_keys(&mut self) -> Vec<Key> {
        let keys: Vec<Key> = self.stacks.list.iter().map(|stack| self.address_key(stack)).collect();
        if self.options.survivors.is_some() {
            return (0..self.stacks.list.len()).map(|stack| self.site_key(stack)).collect();
        }
        let sets = self.sets(keys.clone());
        let few = self.options.top.saturating_mul(8).max(64);
        let mut chosen: BTreeSet<u32> = BTreeSet::new();
        chosen.extend(sets.iter().take(few).flat_map(|set| &set.members));
        let mut by_bytes: Vec<&Set> = sets.iter().collect();
        by_bytes.sort_by_key(|set| std::cmp::Reverse(set.figures.live.bytes));
        chosen.extend(by_bytes.iter().take(few).flat_map(|set| &set.members));
        keys.into_iter()
            .enumerate()
            .map(|(stack, key)| match chosen.contains(&(stack as u32)) {
                true => self.site_key(stack),
                false => key,
            })
            .collect()
    }

    fn address_key(&self, stack: &RawStack) -> Key {
        Key::Address {
            mapping: stack.source.is_mapping(),
            unknown: stack.source == Source::Unknown,
            native: self.program_native(stack).map(|it| it.0),
            python: self.innermost_python(stack).map(|it| it.0),
        }
    }

    fn site_key(&mut self, stack: usize) -> Key {
        let Work { stacks, symbols, names, .. } = self;
        let Some(stack) = stacks.list.get(stack) else {
            return Key::Site { mapping: false, unknown: true, native: None, python: None };
        };
        let (mut native, mut fallback, mut python) = (None, None, None);
        for &id in &stack.locations {
            match stacks.location(id) {
                Some(Location::Python(_)) if python.is_none() => {
                    let frame = names.of(stacks, symbols, id).first().copied();
                    python = frame.map(|frame| names.identity(frame));
                }
                Some(Location::Native { role: Role::Program, .. }) if native.is_none() => {
                    let frames: Vec<FrameId> = names.of(stacks, symbols, id).to_vec();
                    let own = frames.iter().find(|&&frame| names.is_program(frame));
                    native = own.map(|&frame| names.identity(frame));
                    // Only containers so far; they stand for the program if it never comes.
                    fallback = fallback.or(frames.first().map(|&frame| names.identity(frame)));
                }
                _ => {}
            }
            if native.is_some() && python.is_some() {
                break;
            }
        }
        Key::Site {
            mapping: stack.source.is_mapping(),
            unknown: stack.source == Source::Unknown,
            native: native.or(fallback),
            python,
        }
    }

    /// A stack as it is shown, on request with the source lines of its Python frames.
    fn site(&mut self, stack: u32, with_source: bool) -> Site {
        let Work { dumps, stacks, symbols, names, .. } = self;
        let Some(stack) = stacks.list.get(stack as usize) else { return Site::default() };
        let whole = (stack.source, stack.locations.as_slice(), stack.truncated);
        names.site(dumps, stacks, symbols, whole, with_source)
    }
}
