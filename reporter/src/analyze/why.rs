//! Why something is alive: the shortest path from a root, what would go with
//! it, and how many share that path.

use std::collections::{BTreeSet, HashMap};

use pyshim_dump::heap::{Group, Heap, NodeKind, State};
use pyshim_dump::layout::SnapshotFailure;
use pyshim_dump::{Amount, Dump};

use crate::problem::Problem;
use crate::read::Loaded;
use crate::symbolize::Symbols;

use super::causes::Places;
use super::completeness::INEXACT;
use super::growth::SHORT_MS;
use super::holders::{self, Holders};
use super::names::Names;
use super::report::{Moment, Site};
use super::stacks::{Stacks, add};

/// The answer.
#[derive(Clone, Debug, Default)]
pub struct Why {
    /// What was asked for, as it was understood.
    pub subject: String,
    /// Live objects or blocks of it.
    pub objects: u64,
    /// Their own bytes.
    pub bytes: u64,
    /// What would go with them, if that is known.
    pub retained: Option<u64>,
    /// Where they were allocated, if that was asked.
    pub site: Option<Site>,
    /// The ways in which they are held, most bytes first.
    pub ways: Vec<Way>,
    /// What a reader should know.
    pub notes: Vec<String>,
}

/// One way in which some of them are held.
#[derive(Clone, Debug, Default)]
pub struct Way {
    /// What is meant: held, leaked, …
    pub state: &'static str,
    /// How many share it; nothing: it is known of the one at the path's end.
    pub share: Option<u64>,
    /// Bytes of these, with what only they hold.
    pub bytes: u64,
    /// Who holds them, in words.
    pub holder: Option<String>,
    /// The path to one of them, root first.
    pub path: Vec<Stop>,
}

/// A stop of a path.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    /// How it is reached, and what it is.
    pub words: String,
    /// Where it is; 0: nowhere.
    pub address: u64,
    /// Its own size.
    pub bytes: u64,
    /// What would go with it, itself included.
    pub retained: u64,
    /// The number of blocks in that.
    pub retained_count: u64,
}

/// Ways that are told.
const WAYS: usize = 8;

/// The answer for a type, a site or an address.
pub fn why(loaded: &Loaded, symbols: &mut Symbols, target: &str) -> Result<Why, Problem> {
    let path = loaded.path.display();
    let Some(heap) = &loaded.dump.heap else {
        let reason = loaded.notes.first().cloned().unwrap_or_else(|| why_none(&loaded.dump));
        return Err(Problem::new(
            path,
            format!("has no heap snapshot, so nothing says who holds what: {reason}"),
        ));
    };
    let mut found = Work { loaded, heap, symbols }.answer(target)?;
    found.notes.extend(missing(loaded, heap));
    Ok(found)
}

/// Why a dump has no snapshot, or what to do for one.
fn why_none(dump: &Dump) -> String {
    let snapshots = &dump.snapshots;
    let end_ms = dump.end.map(|end| end.at_ns / 1_000_000);
    match end_ms {
        _ if snapshots.failed > 0 => format!("it came to nothing, {}", failure(snapshots.failure)),
        None => "reporter snapshot PID takes one of a running process; one that is killed leaves none of its end".into(),
        Some(at) if at < SHORT_MS => "a process that was short and small leaves one if PYSHIM_SNAPSHOT=exit is set".into(),
        Some(_) => "at its end a process leaves one unless PYSHIM_SNAPSHOT says otherwise".into(),
    }
}

/// Why a snapshot came to nothing, by its number ([`SnapshotFailure`]).
pub fn failure(number: u32) -> &'static str {
    match number {
        it if it == SnapshotFailure::Fork as u32 => "the process could not be copied",
        it if it == SnapshotFailure::Room as u32 => {
            "there is no room for it in the dump's file system"
        }
        it if it == SnapshotFailure::Ended as u32 => {
            "the copy was ended, too slow or for want of memory"
        }
        it if it == SnapshotFailure::Write as u32 => "the copy could not write",
        _ => "the process does not say why",
    }
}

/// What the search, and the dump, may lack.
fn missing(loaded: &Loaded, heap: &Heap) -> BTreeSet<String> {
    let dump = &loaded.dump;
    let notes = loaded.notes.iter().chain(&heap.search.notes).chain(&dump.notes).cloned();
    notes.chain(dump.inexact.then(|| INEXACT.to_owned())).collect()
}

struct Work<'a> {
    loaded: &'a Loaded,
    heap: &'a Heap,
    symbols: &'a mut Symbols,
}

impl Work<'_> {
    fn answer(&mut self, target: &str) -> Result<Why, Problem> {
        if let Some(hex) = target.strip_prefix("0x") {
            let address = u64::from_str_radix(hex, 16);
            let address = address.map_err(|_| Problem::new(target, "is no address"))?;
            return self.address(address).ok_or_else(|| {
                Problem::new(target, "the snapshot keeps no object or block at this address; it keeps those on the paths of what it explains, see reporter summarize")
            });
        }
        if let Some(found) = self.site(target) {
            return Ok(found);
        }
        self.type_(target).ok_or_else(|| self.nothing(target))
    }

    fn address(&mut self, address: u64) -> Option<Why> {
        let covers = |start: u64, bytes: u64| start <= address && address - start < bytes.max(1);
        let nodes = || (1u32..).zip(&self.heap.nodes).filter(|(_, node)| node.address != 0);
        let exact = nodes().find(|(_, node)| node.address == address);
        let (at, node) = exact.or_else(|| nodes().find(|(_, it)| covers(it.address, it.bytes)))?;
        let site = node.site.checked_sub(1);
        let group = self.heap.groups.iter().find(|group| {
            group.sample == at || Some(group.site) == site && group.type_ == node.type_
        });
        let state = group.map_or(State::Python, |group| group.state);
        let way = Way {
            state: state_words(state),
            share: group.map(|group| group.leaders),
            bytes: node.retained.max(node.bytes),
            holder: self.holder(group.map_or(0, |group| group.holder), at),
            path: self.path(at),
        };
        let name = holders::plain(self.heap.type_name(node.type_)).to_owned();
        Some(Why {
            subject: match name.as_str() {
                "" => format!("the block at 0x{:x}", node.address),
                name => format!("the {name} at 0x{:x}", node.address),
            },
            objects: 1,
            bytes: node.bytes,
            retained: Some(node.retained),
            site: site.map(|site| self.stack(site)),
            ways: vec![way],
            notes: Vec::new(),
        })
    }

    fn type_(&mut self, target: &str) -> Option<Why> {
        let matches: Vec<u32> = (1u32..)
            .zip(&self.heap.types)
            .filter(|(_, one)| is_suffix(self.heap.text(one.name), target))
            .map(|(at, _)| at)
            .collect();
        let types: Vec<_> =
            matches.iter().filter_map(|&at| self.heap.types.get(at as usize - 1)).collect();
        if types.is_empty() {
            return None;
        }
        let names: BTreeSet<&str> =
            types.iter().map(|one| holders::plain(self.heap.text(one.name))).collect();
        let mut found = Why {
            subject: names.into_iter().collect::<Vec<_>>().join(", "),
            objects: types.iter().fold(0, |sum, one| sum.saturating_add(one.objects)),
            bytes: types.iter().fold(0, |sum, one| sum.saturating_add(one.bytes)),
            retained: Some(types.iter().fold(0, |sum, one| sum.saturating_add(one.retained))),
            ..Why::default()
        };
        let groups = self.groups(|group| matches.contains(&group.type_));
        found.ways = groups.into_iter().map(|group| self.way(group, None)).collect();
        if found.ways.is_empty() {
            let samples: Vec<u32> =
                types.iter().map(|one| one.sample).filter(|&sample| sample != 0).collect();
            found.ways = samples.into_iter().map(|sample| self.sampled(sample)).collect();
        }
        if found.ways.is_empty() {
            found.notes.push(
                "the snapshot keeps no path to one of them: they hold too little to be explained"
                    .into(),
            );
        }
        Some(found)
    }

    fn site(&mut self, target: &str) -> Option<Why> {
        let mut sites = self.sites_of(target);
        if sites.is_empty() {
            return None;
        }
        let amounts = self.amounts();
        let amount = |site: u32| amounts.get(&site).copied().unwrap_or_default();
        sites.sort_by_cached_key(|&site| (std::cmp::Reverse(amount(site).bytes), site));
        let mut all = Amount::default();
        sites.iter().for_each(|&site| add(&mut all, amount(site)));
        let mut found = Why {
            subject: target.to_owned(),
            objects: all.blocks,
            bytes: all.bytes,
            site: sites.first().map(|&site| self.stack(site)),
            ..Why::default()
        };
        let own: BTreeSet<u32> = sites.iter().copied().collect();
        let groups = self.groups(|group| {
            own.contains(&group.site) || group.members.iter().any(|it| own.contains(&it.site))
        });
        found.ways = groups.into_iter().map(|group| self.way(group, Some(&own))).collect();
        if found.ways.is_empty() {
            let node = (1u32..).zip(&self.heap.nodes);
            let mut of_site =
                node.filter(|(_, node)| node.site > 0 && own.contains(&(node.site - 1)));
            let sample = of_site.next().map(|(at, _)| at);
            found.ways = sample.map(|sample| self.sampled(sample)).into_iter().collect();
        }
        if found.ways.is_empty() {
            found.notes.push(match all.blocks {
                0 => "none of its blocks was live when the snapshot was taken".into(),
                _ => {
                    "the snapshot keeps no path to its blocks: they hold too little to be explained"
                        .into()
                }
            });
        }
        Some(found)
    }

    /// What the snapshot found of each site, over all states.
    fn amounts(&self) -> HashMap<u32, Amount> {
        let mut amounts: HashMap<u32, Amount> = HashMap::new();
        for one in &self.heap.sites {
            let amount = Amount { blocks: one.blocks, bytes: one.bytes };
            add(amounts.entry(one.site).or_default(), amount);
        }
        amounts
    }

    /// Sites by id, or by `file:line` of the innermost Python frame, failing that of any.
    fn sites_of(&mut self, target: &str) -> Vec<u32> {
        let dump = &self.loaded.dump;
        let is_id = target.len() == 16 && target.bytes().all(|it| it.is_ascii_hexdigit());
        let place =
            target.rsplit_once(':').and_then(|(file, line)| Some((file, line.parse().ok()?)));
        if !is_id && place.is_none() {
            return Vec::new();
        }
        let known: BTreeSet<u32> = self.heap.sites.iter().map(|one| one.site).collect();
        let sites: Vec<u32> =
            (0..dump.sites.len() as u32).filter(|it| known.contains(it)).collect();
        let (mut inner, mut any) = (Vec::new(), Vec::new());
        let mut stacks = Stacks::default();
        stacks.add(dump, self.symbols, Moment::Last);
        let mut names = Names::default();
        let dumps = std::slice::from_ref(self.loaded);
        let mut places = Places::new(dumps, &mut stacks, &mut names, self.symbols);
        for site in sites {
            match place {
                Some((file, line)) => match places.lines(0, site, file, line) {
                    Some(0) => inner.push(site),
                    Some(_) => any.push(site),
                    None => {}
                },
                None if places.site(0, site).id == target => inner.push(site),
                None => {}
            }
        }
        if inner.is_empty() { any } else { inner }
    }

    fn stack(&mut self, site: u32) -> Site {
        let mut stacks = Stacks::default();
        let mut names = Names::default();
        stacks.stack_of.push(Vec::new());
        let dumps = std::slice::from_ref(self.loaded);
        Places::new(dumps, &mut stacks, &mut names, self.symbols).site(0, site)
    }

    fn groups(&self, wanted: impl Fn(&Group) -> bool) -> Vec<Group> {
        let mut groups: Vec<Group> =
            self.heap.groups.iter().filter(|group| wanted(group)).cloned().collect();
        groups.sort_by_key(|group| std::cmp::Reverse(group.bytes));
        groups.truncate(WAYS);
        groups
    }

    fn way(&mut self, group: Group, sites: Option<&BTreeSet<u32>>) -> Way {
        let own = sites.map(|sites| {
            let members = group.members.iter().filter(|member| sites.contains(&member.site));
            members.fold((0u64, 0u64), |sum, it| (sum.0 + it.blocks, sum.1 + it.bytes))
        });
        let last = if group.sample != 0 { group.sample } else { group.holder };
        Way {
            state: state_words(group.state),
            share: Some(own.map_or(group.leaders, |own| own.0)),
            bytes: own.map_or(group.bytes, |own| own.1),
            holder: self.holder(group.holder, last),
            path: self.path(last),
        }
    }

    fn sampled(&mut self, sample: u32) -> Way {
        let node = self.heap.node(sample);
        Way {
            state: state_words(State::Python),
            share: None,
            bytes: node.map_or(0, |node| node.retained.max(node.bytes)),
            holder: self.holder(sample, sample),
            path: self.path(sample),
        }
    }

    fn holder(&mut self, holder: u32, sample: u32) -> Option<String> {
        let mut holders =
            Holders { dump: &self.loaded.dump, heap: self.heap, symbols: self.symbols };
        holders.describe(holder, sample).map(|held| held.text)
    }

    fn path(&mut self, last: u32) -> Vec<Stop> {
        let first = self.heap.path(last).first().map(|node| node.kind);
        if matches!(first, None | Some(NodeKind::Object | NodeKind::Block)) {
            // Nobody holds it: there is no path.
            return Vec::new();
        }
        let mut holders =
            Holders { dump: &self.loaded.dump, heap: self.heap, symbols: self.symbols };
        let words = holders.stops(last);
        let nodes = self.heap.path(last);
        nodes
            .iter()
            .zip(words)
            .map(|(node, words)| Stop {
                words,
                address: node.address,
                bytes: node.bytes,
                retained: node.retained,
                retained_count: node.retained_count,
            })
            .collect()
    }

    /// What might have been meant.
    fn nothing(&self, target: &str) -> Problem {
        let wanted = target.rsplit('.').next().unwrap_or(target).to_lowercase();
        let mut near: Vec<(u64, &str)> = self
            .heap
            .types
            .iter()
            .map(|one| (one.bytes, self.heap.text(one.name)))
            .filter(|(_, name)| is_near(&name.to_lowercase(), &wanted))
            .collect();
        near.sort_by_key(|it| std::cmp::Reverse(it.0));
        let near: Vec<&str> = near.iter().take(5).map(|it| it.1).collect();
        let hint = match near.is_empty() {
            true => "reporter summarize --by type lists the types".to_owned(),
            false => format!("did you mean {}?", near.join(", ")),
        };
        Problem::new(
            target,
            format!("no live object is of such a type, and no site has such an id or line; {hint}"),
        )
    }
}

/// Whether `target` is a qualified name, or the end of it.
fn is_suffix(name: &str, target: &str) -> bool {
    name == target || name.strip_suffix(target).is_some_and(|before| before.ends_with('.'))
}

/// Whether two names look alike: one in the other, letters that changed places, or few letters apart.
fn is_near(name: &str, wanted: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    let inside =
        wanted.len() >= 3 && (last.contains(wanted) || wanted.contains(last) && last.len() >= 3);
    let sorted = |text: &str| {
        let mut letters: Vec<char> = text.chars().collect();
        letters.sort_unstable();
        letters
    };
    inside || sorted(last) == sorted(wanted) || distance(last, wanted) <= 1 + wanted.len() / 5
}

/// Letters to change, add or leave out.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (at, letter) in a.chars().enumerate() {
        let mut last = at;
        let mut next = vec![at + 1];
        for (other, above) in b.iter().zip(row.iter().skip(1)) {
            let left = next.last().copied().unwrap_or(0);
            next.push((last + usize::from(letter != *other)).min(above + 1).min(left + 1));
            last = *above;
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

/// A state in words.
pub fn state_words(state: State) -> &'static str {
    match state {
        State::Python => "held",
        State::Native => "held by native memory alone",
        State::Leaked => "leaked: no pointer to it is left",
        State::Miscounted => "nobody holds it, its reference count says otherwise",
        State::Cyclic => "a ring that nobody holds",
        State::Parked => "dead, kept by the interpreter for reuse",
        State::Unknown => "not searched for",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_named_by_its_end() {
        assert!(is_suffix("app.models.Row", "Row") && is_suffix("app.models.Row", "models.Row"));
        assert!(is_suffix("dict", "dict") && !is_suffix("OrderedDict", "Dict"));
    }

    #[test]
    fn names_are_alike() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert!(is_near("app.parcel", "parcle") && is_near("collections.ordereddict", "dict"));
        assert!(!is_near("int", "parcel"));
    }
}
