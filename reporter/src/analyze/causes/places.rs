//! Names for the sites of causes.

use std::collections::HashMap;

use crate::analyze::names::Names;
use crate::analyze::report::{Frame, Site, Source};
use crate::analyze::roles::Role;
use crate::analyze::stacks::{Location, LocationId, Stacks};
use crate::read::Loaded;
use crate::symbolize::Symbols;

/// The place in the program that a site stands for: its innermost native code, its innermost line
/// of Python.
pub type Place = (Option<LocationId>, Option<LocationId>);

/// Looks up sites.
pub struct Places<'a> {
    /// All dumps.
    pub dumps: &'a [Loaded],
    /// Their stacks.
    pub stacks: &'a mut Stacks,
    /// Names of their frames.
    pub names: &'a mut Names,
    /// Names of native code.
    pub symbols: &'a mut Symbols,
    /// Sites that were looked up, by dump and site.
    known: HashMap<(usize, u32), (Source, Vec<LocationId>)>,
}

impl<'a> Places<'a> {
    /// Nothing was looked up yet.
    pub fn new(
        dumps: &'a [Loaded],
        stacks: &'a mut Stacks,
        names: &'a mut Names,
        symbols: &'a mut Symbols,
    ) -> Places<'a> {
        Places { dumps, stacks, names, symbols, known: HashMap::new() }
    }

    /// Whether a Python frame of a site is this line: its position among the site's Python frames.
    pub fn lines(&mut self, dump: usize, site: u32, file: &str, line: u32) -> Option<usize> {
        let (_, locations) = self.locations(dump, site);
        let python = locations.iter().filter_map(|&id| match self.stacks.location(id)? {
            Location::Python(frame) => Some(frame),
            _ => None,
        });
        let is_file =
            |own: &str| own == file || own.strip_suffix(file).is_some_and(|it| it.ends_with('/'));
        let mut python = python.map(|frame| frame.line == Some(line) && is_file(&frame.file));
        python.position(|is_line| is_line)
    }

    /// The locations of a site, innermost first.
    fn locations(&mut self, dump: usize, site: u32) -> (Source, Vec<LocationId>) {
        let Places { dumps, stacks, symbols, known, .. } = self;
        let found = known.entry((dump, site)).or_insert_with(|| {
            let listed = stacks.stack_of.get(dump).and_then(|sites| sites.get(site as usize));
            match listed.and_then(|&at| stacks.list.get(at as usize)) {
                Some(stack) => (stack.source, stack.locations.clone()),
                None => {
                    let loaded = dumps.get(dump).map(|loaded| &loaded.dump);
                    loaded
                        .map_or_else(Default::default, |it| stacks.of_site(it, dump, site, symbols))
                }
            }
        });
        found.clone()
    }

    /// What a site's blocks are.
    pub fn source(&mut self, dump: usize, site: u32) -> Source {
        self.locations(dump, site).0
    }

    /// The place in the program.
    pub fn place(&mut self, dump: usize, site: u32) -> Place {
        let (_, locations) = self.locations(dump, site);
        let native = locations.iter().copied().find(|&id| {
            matches!(
                self.stacks.location(id),
                Some(Location::Native { role: Role::Program, .. } | Location::Nowhere { .. })
            )
        });
        (native, self.python(&locations))
    }

    fn python(&self, locations: &[LocationId]) -> Option<LocationId> {
        let mut all = locations.iter().copied();
        all.find(|&id| matches!(self.stacks.location(id), Some(Location::Python(_))))
    }

    /// Its frames of Python, innermost first.
    pub fn python_lines(&mut self, dump: usize, site: u32) -> Vec<LocationId> {
        let (_, mut locations) = self.locations(dump, site);
        locations.retain(|&id| matches!(self.stacks.location(id), Some(Location::Python(_))));
        locations
    }

    /// The line of Python that is innermost.
    pub fn line(&mut self, dump: usize, site: u32) -> Option<LocationId> {
        let (_, locations) = self.locations(dump, site);
        self.python(&locations)
    }

    /// The stack with names and source lines.
    pub fn site(&mut self, dump: usize, site: u32) -> Site {
        let (source, locations) = self.locations(dump, site);
        self.named(dump, site, source, &locations)
    }

    /// The same without what is inside of a line.
    pub fn site_from(&mut self, dump: usize, site: u32, line: LocationId) -> Site {
        let (source, locations) = self.locations(dump, site);
        let from = locations.iter().position(|&it| it == line).unwrap_or(0);
        self.named(dump, site, source, locations.get(from..).unwrap_or_default())
    }

    fn named(&mut self, dump: usize, site: u32, source: Source, locations: &[LocationId]) -> Site {
        let truncated = self.dumps.get(dump).and_then(|it| it.dump.sites.get(site as usize));
        let truncated = truncated.and_then(|it| it.stack.as_ref()).is_some_and(|it| it.truncated);
        let Places { dumps, stacks, symbols, names, .. } = self;
        names.site(dumps, stacks, symbols, (source, locations, truncated), true)
    }

    /// Whether a native function whose name contains one of these is in the stack.
    pub fn calls(&mut self, dump: usize, site: u32, functions: &[&str]) -> bool {
        let stack = self.site(dump, site).stack;
        stack.iter().any(|frame| match &**frame {
            Frame::Native { function: Some(name), .. } => {
                functions.iter().any(|function| name.contains(function))
            }
            _ => false,
        })
    }
}
