//! From the sites of the dumps to distinct stacks, before anything native is looked up.
//!
//! A stack is a list of locations: a line of a Python function, or an offset
//! into a program file. Sites of several processes, or of one file loaded at
//! several addresses, meet here.

use std::collections::HashMap;

use pyshim_dump::record::Frame;
use pyshim_dump::{Amount, Dump, Stack};

use crate::python::{self, PythonFrame};
use crate::symbolize::{ModuleId, Symbols};

use super::report::{Moment, Source};
use super::roles::{self, Role};

/// One frame, wherever in memory it was.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Location {
    /// Python code.
    Python(PythonFrame),
    /// A return address in a program file.
    Native {
        /// The file.
        module: ModuleId,
        /// Whose code it is.
        role: Role,
        /// The address in the file.
        offset: u64,
    },
    /// A return address in no program file that is known.
    Nowhere {
        /// The address.
        pc: u64,
    },
}

/// Position of a [`Location`] in [`Stacks::locations`].
pub type LocationId = u32;

/// Blocks of one stack.
#[derive(Clone, Debug)]
pub struct RawStack {
    /// Where the blocks come from.
    pub source: Source,
    /// Innermost first; the shim's own left out.
    pub locations: Vec<LocationId>,
    /// Frames were left out at the outer end.
    pub truncated: bool,
    /// Dump and site, of each site with this stack.
    pub sites: Vec<(u32, u32)>,
    /// Live at the moment of the report.
    pub live: Amount,
    /// Live in the end, if there was a teardown before.
    pub outlives: Amount,
    /// Live at the peak.
    pub peak: Amount,
}

/// All stacks with live blocks.
#[derive(Default)]
pub struct Stacks {
    /// The distinct stacks.
    pub list: Vec<RawStack>,
    /// The distinct locations.
    pub locations: Vec<Location>,
    /// Working directory of the process that a location was first seen in.
    directories: Vec<u32>,
    /// For each dump, the stack of each site.
    pub stack_of: Vec<Vec<u32>>,
    ids: HashMap<Location, LocationId>,
    known: HashMap<(Source, bool, Vec<LocationId>), u32>,
}

/// Live blocks of a site before the teardown; of a process that began none, as they stand.
pub fn last(dump: &Dump, site: usize) -> Amount {
    let Some(site) = dump.sites.get(site) else { return Amount::default() };
    if dump.final_ns.is_some() { site.last } else { site.totals.live() }
}

/// What was live at a site at the moment of a report.
pub fn at_moment(dump: &Dump, site: usize, moment: Moment) -> Amount {
    match moment {
        Moment::Last => last(dump, site),
        Moment::Peak => dump.sites.get(site).map_or(Amount::default(), |site| site.peak),
    }
}

impl Stacks {
    /// Takes the sites of `dump` that have blocks at the moment.
    pub fn add(&mut self, dump: &Dump, symbols: &mut Symbols, moment: Moment) {
        self.add_some(dump, symbols, moment, |_, live| live != Amount::default());
    }

    /// Takes the sites of `dump` at which anything was ever allocated.
    pub fn add_all(&mut self, dump: &Dump, symbols: &mut Symbols) {
        self.add_some(dump, symbols, Moment::Last, |site, _| {
            site.totals.allocated != Amount::default()
        });
    }

    fn add_some(
        &mut self,
        dump: &Dump,
        symbols: &mut Symbols,
        moment: Moment,
        wanted: impl Fn(&pyshim_dump::Site, Amount) -> bool,
    ) {
        let number = self.stack_of.len() as u32;
        let mut stack_of = vec![super::growth::NONE; dump.sites.len()];
        let mut places = Places { dump, number, native: HashMap::new(), python: HashMap::new() };
        for (id, (site, slot)) in dump.sites.iter().zip(&mut stack_of).enumerate() {
            let live = at_moment(dump, id, moment);
            if !wanted(site, live) {
                continue;
            }
            let (source, truncated, locations) = match &site.stack {
                Some(stack) => {
                    let locations = places.locations(self, symbols, stack);
                    (Source::of(stack.origin), stack.truncated, locations)
                }
                None => (Source::Unknown, false, Vec::new()),
            };
            let position = self.position(source, truncated, locations);
            *slot = position;
            let Some(known) = self.list.get_mut(position as usize) else { continue };
            known.sites.push((number, id as u32));
            add(&mut known.live, live);
            if dump.final_ns.is_some() {
                add(&mut known.outlives, site.totals.live());
            }
            add(&mut known.peak, site.peak);
        }
        self.stack_of.push(stack_of);
    }

    /// What the blocks of one site are, and its locations; for sites without live blocks, which are
    /// not listed.
    pub fn of_site(
        &mut self,
        dump: &Dump,
        number: usize,
        site: u32,
        symbols: &mut Symbols,
    ) -> (Source, Vec<LocationId>) {
        let Some(stack) = dump.sites.get(site as usize).and_then(|site| site.stack.as_ref()) else {
            return (Source::Unknown, Vec::new());
        };
        let number = number as u32;
        let mut places = Places { dump, number, native: HashMap::new(), python: HashMap::new() };
        (Source::of(stack.origin), places.locations(self, symbols, stack))
    }

    fn position(&mut self, source: Source, truncated: bool, locations: Vec<LocationId>) -> u32 {
        let list = &mut self.list;
        *self.known.entry((source, truncated, locations)).or_insert_with_key(|key| {
            list.push(RawStack {
                source,
                locations: key.2.clone(),
                truncated,
                sites: Vec::new(),
                live: Amount::default(),
                outlives: Amount::default(),
                peak: Amount::default(),
            });
            list.len() as u32 - 1
        })
    }

    fn intern(&mut self, location: Location, dump: u32) -> LocationId {
        let Stacks { locations, directories, ids, .. } = self;
        *ids.entry(location).or_insert_with_key(|location| {
            locations.push(location.clone());
            directories.push(dump);
            locations.len() as u32 - 1
        })
    }

    /// A location.
    pub fn location(&self, id: LocationId) -> Option<&Location> {
        self.locations.get(id as usize)
    }

    /// The dump that a location was first seen in.
    pub fn dump_of(&self, id: LocationId) -> usize {
        self.directories.get(id as usize).map_or(0, |&dump| dump as usize)
    }
}

/// Adds `more` to `sum`.
pub fn add(sum: &mut Amount, more: Amount) {
    sum.blocks = sum.blocks.saturating_add(more.blocks);
    sum.bytes = sum.bytes.saturating_add(more.bytes);
}

/// The frames of one dump, each looked at once.
struct Places<'a> {
    dump: &'a Dump,
    number: u32,
    /// Every module that holds an address, in the order of their loading.
    native: HashMap<u64, Vec<(u32, LocationId)>>,
    python: HashMap<(u32, u32), LocationId>,
}

impl Places<'_> {
    fn locations(
        &mut self,
        stacks: &mut Stacks,
        symbols: &mut Symbols,
        stack: &Stack,
    ) -> Vec<LocationId> {
        let mut out = Vec::new();
        for frame in self.dump.frames(stack) {
            let id = match frame {
                Frame::Native { pc } => self.native(stacks, symbols, stack.modules_known, pc),
                Frame::Python { code, instruction, .. } => self.python(stacks, code, instruction),
            };
            let shim =
                matches!(stacks.location(id), Some(Location::Native { role: Role::Shim, .. }));
            if !(shim && out.is_empty()) {
                out.push(id);
            }
        }
        out
    }

    fn python(&mut self, stacks: &mut Stacks, code: u32, instruction: u32) -> LocationId {
        *self.python.entry((code, instruction)).or_insert_with(|| {
            let frame = python::frame(self.dump, code, instruction);
            stacks.intern(Location::Python(frame), self.number)
        })
    }

    fn native(
        &mut self,
        stacks: &mut Stacks,
        symbols: &mut Symbols,
        modules_known: u32,
        pc: u64,
    ) -> LocationId {
        let (dump, number) = (self.dump, self.number);
        let all = self.native.entry(pc).or_insert_with(|| {
            let interpreter =
                (!dump.process.python.is_empty()).then_some(dump.process.executable.as_str());
            // The address that a call returns to may be the first behind the module.
            let call = pc.wrapping_sub(1);
            let holds = |module: &&pyshim_dump::Module| {
                module.loaded.start <= call && call < module.loaded.end
            };
            let mut all = Vec::new();
            for module in dump.modules.iter().filter(holds) {
                let loaded = &module.loaded;
                let location = Location::Native {
                    module: symbols.module(loaded),
                    role: roles::of_module(&loaded.path, interpreter),
                    offset: pc.wrapping_sub(loaded.bias),
                };
                all.push((loaded.id, stacks.intern(location, number)));
            }
            if all.is_empty() {
                all.push((0, stacks.intern(Location::Nowhere { pc }, number)));
            }
            all
        });
        // As `Dump::module_of`: the latest that was known, else the first that came later.
        let known = all.iter().rev().find(|(module, _)| *module < modules_known);
        known.or(all.first()).map_or(0, |&(_, location)| location)
    }
}

#[cfg(test)]
mod tests {
    use pyshim_dump::record::{Origin, Record};

    use super::*;
    use crate::testing::{EXTENSION, Maker, Numbers, leaky};

    fn stacks(makers: &[&Maker]) -> Stacks {
        let (mut stacks, mut symbols) = (Stacks::default(), Symbols::default());
        for maker in makers {
            stacks.add(&maker.dump(), &mut symbols, Moment::Last);
        }
        stacks
    }

    #[test]
    fn small_and_large_blocks_meet() {
        let found = stacks(&[&leaky()]);
        assert_eq!(found.list.len(), 4);
        let load = found.list.iter().find(|stack| stack.sites.len() == 2).unwrap();
        assert_eq!(load.live, Amount { blocks: 3010, bytes: 272_000 });
    }

    #[test]
    fn two_processes_of_one_program_meet_wherever_it_was_loaded() {
        let one = |base: u64| {
            let mut maker = Maker::new();
            maker.module("/x/lib.so", base, 0x1000);
            maker.site(Origin::Native, &[Frame::Native { pc: base + 0x10 }], Numbers::live(1, 8));
            maker
        };
        let found = stacks(&[&one(0x1000), &one(0x9000)]);
        assert_eq!(found.list.len(), 1);
        assert_eq!(found.list[0].live, Amount { blocks: 2, bytes: 16 });
    }

    #[test]
    fn a_reused_address_belongs_to_the_module_of_its_time() {
        let mut maker = Maker::new();
        let frame = [Frame::Native { pc: 0x1010 }];
        maker.module("/x/old.so", 0x1000, 0x1000);
        maker.site(Origin::Native, &frame, Numbers::live(1, 8));
        maker.record(&Record::Unload { id: 0, at_ns: 5 });
        maker.module("/x/new.so", 0x1000, 0x1000);
        maker.site(Origin::Native, &frame, Numbers::live(1, 16));
        assert_eq!(stacks(&[&maker]).list.len(), 2);
    }

    /// A site's frames are those of its path, and then its own; one that got lost leaves the others.
    #[test]
    fn sites_share_a_path() {
        let mut maker = Maker::new();
        maker.module("/x/lib.so", EXTENSION, 0x1000);
        let codes = ["load", "save"].map(|name| maker.code("app.py", 1, name));
        let pcs = vec![EXTENSION + 0x10, EXTENSION + 0x20];
        maker.record(&Record::Path { id: 1, truncated: true, pcs: pcs.clone() });
        for (path, code) in [(1, codes[0]), (1, codes[1]), (2, codes[1])] {
            let id = maker.nameless(Numbers::live(1, 8));
            let frames = vec![Frame::Python { code, instruction: 0, entry: true }];
            let (origin, truncated) = (Origin::PythonSmall, false);
            maker.record(&Record::Site { id, origin, truncated, path, frames });
        }
        let dump = maker.dump();
        let frames = |site: usize| -> Vec<Frame> {
            dump.frames(dump.sites[site].stack.as_ref().unwrap()).collect()
        };
        let own = |code| Frame::Python { code, instruction: 0, entry: true };
        let path: Vec<Frame> = pcs.iter().map(|&pc| Frame::Native { pc }).collect();
        assert_eq!(frames(1), [&path[..], &[own(codes[0])]].concat());
        assert_eq!(frames(2), [&path[..], &[own(codes[1])]].concat());
        assert_eq!(frames(3), [own(codes[1])]);
        let cut = [1, 2, 3].map(|site| dump.sites[site].stack.as_ref().unwrap().truncated);
        assert_eq!(cut, [true, true, false]);
    }

    #[test]
    fn the_shim_is_left_out_at_the_inner_end() {
        let mut maker = Maker::new();
        maker.module("/x/libpyshim.so", 0x1000, 0x1000);
        maker.module("/x/lib.so", EXTENSION, 0x1000);
        let frames = [0x1010, 0x1020, EXTENSION + 1].map(|pc| Frame::Native { pc });
        maker.site(Origin::Native, &frames, Numbers::live(1, 8));
        assert_eq!(stacks(&[&maker]).list[0].locations.len(), 1);
    }

    #[test]
    fn a_site_without_definition_is_kept() {
        let mut maker = Maker::new();
        maker.nameless(Numbers::live(2, 64));
        let found = stacks(&[&maker]);
        assert_eq!(found.list[0].source, Source::Unknown);
        assert!(found.list[0].locations.is_empty());
    }
}
