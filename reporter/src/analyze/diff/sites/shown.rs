//! A site as it is shown: which of its stacks says most.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::analyze::report::{self, Frame};
use crate::analyze::roles::Role;
use crate::analyze::stacks::{Location, LocationId, last};
use crate::read::Loaded;
use crate::symbolize::Symbols;

use super::super::lines::LineId;
use super::super::paths::Place as Where;
use super::super::result::{Metric, Place};
use super::{NO_LINE, Site, Sites};

/// Stacks of a site with the same Python lines.
#[derive(Default)]
struct Telling {
    /// What they gained from the old runs to the new ones.
    change: f64,
    /// The one that is shown, and what it has.
    dump: usize,
    stack: u32,
    amount: f64,
}

impl Sites<'_> {
    /// A site for the report, with the stack that has most of what changed in `metric` between the
    /// first `old` runs and the others.
    pub fn place(
        &mut self,
        site: usize,
        old: usize,
        metric: Metric,
        symbols: &mut Symbols,
    ) -> Place {
        let Some(known) = self.list.get(site) else { return Place::default() };
        let mapping = known.mapping;
        let Some((dump, stack)) = self.telling(known, old, metric) else {
            return Place::default();
        };
        let Some(&(_, loaded)) = self.dumps.get(dump) else { return Place::default() };
        let Some(raw) = self.stacks.list.get(stack as usize) else { return Place::default() };
        let (source, truncated, locations) = (raw.source, raw.truncated, raw.locations.clone());

        let (directory, as_of) = (&loaded.dump.process.directory, loaded.dump.started_unix_ns);
        let (mut ids, mut shown) = (Vec::new(), Vec::new());
        for &location in &locations {
            let frames = self.names.of(&self.stacks, symbols, location).to_vec();
            for &frame in &frames {
                let source =
                    |_, file: &str, line| symbols.source_as_of(directory, file, line, as_of);
                shown.extend(self.names.show(frame, source));
            }
            ids.extend(frames);
        }
        let id = self.names.site_id(source, &ids);
        place(report::Site { id, stack: shown, truncated }, directory, mapping)
    }

    /// Of the stacks of a site the one with most of the change, in the newest dump that has it.
    fn telling(&self, site: &Site, old: usize, metric: Metric) -> Option<(usize, u32)> {
        let new = self.totals.len() - old;
        let mut changes: BTreeMap<Vec<LineId>, Telling> = BTreeMap::new();
        for &(dump, stack) in &site.stacks {
            let &(run, loaded) = self.dumps.get(dump)?;
            let amount = self.amount(dump, loaded, stack, metric);
            let entry = changes.entry(self.callers(dump, stack)).or_default();
            entry.change += match run < old {
                true => -amount / old as f64,
                false => amount / new as f64,
            };
            // Dumps come in order: the last is the newest. Of its stacks the heaviest.
            if entry.dump < dump || entry.amount <= amount {
                (entry.dump, entry.stack, entry.amount) = (dump, stack, amount);
            }
        }
        let whole: f64 = changes.values().map(|it| it.change).sum();
        let size = |it: &&Telling| it.change * whole.signum();
        let most = changes.values().max_by(|a, b| size(a).total_cmp(&size(b)))?;
        Some((most.dump, most.stack))
    }

    /// What a dump has at one stack.
    fn amount(&self, dump: usize, loaded: &Loaded, stack: u32, metric: Metric) -> f64 {
        let Some(raw) = self.stacks.list.get(stack as usize) else { return 0.0 };
        let here = raw.sites.iter().filter(|it| it.0 as usize == dump);
        let amount = |&(_, id): &(u32, u32)| {
            let Some(site) = loaded.dump.sites.get(id as usize) else { return 0 };
            match metric {
                Metric::SurvivingBlocks => last(&loaded.dump, id as usize).blocks,
                Metric::Allocated => site.totals.allocated.bytes,
                Metric::AllocatedBlocks => site.totals.allocated.blocks,
                Metric::Peak => site.peak.bytes,
                Metric::Survivors | Metric::Growth | Metric::Mapped => {
                    last(&loaded.dump, id as usize).bytes
                }
            }
        };
        here.map(amount).fold(0u64, u64::saturating_add) as f64
    }

    /// The Python lines of a stack, the same in every run.
    fn callers(&self, dump: usize, stack: u32) -> Vec<LineId> {
        let Some(raw) = self.stacks.list.get(stack as usize) else { return Vec::new() };
        let line = |&id: &LocationId| match self.stacks.location(id) {
            Some(Location::Python(frame)) => {
                let line = frame.line.unwrap_or(0);
                Some(self.lines.id(dump, &frame.file, &frame.function, line).unwrap_or(NO_LINE))
            }
            _ => None,
        };
        raw.locations.iter().filter_map(line).collect()
    }
}

/// What names a site, of its stack.
pub fn place(site: report::Site, directory: &str, mapping: bool) -> Place {
    let is_python = |frame: &&Rc<Frame>| matches!(***frame, Frame::Python { .. });
    let is_program =
        |frame: &&Rc<Frame>| matches!(***frame, Frame::Native { role: Role::Program, .. });
    let is_own = |frame: &&Rc<Frame>| match &***frame {
        Frame::Python { file, .. } => matches!(Where::of(file, directory), Where::Own(_)),
        Frame::Native { .. } => false,
    };
    let leaf = site.stack.iter().take_while(|frame| !is_python(frame));
    let native = leaf.clone().find(is_program).cloned();
    let inner = site.stack.iter().find(is_python).cloned();
    let own = site.stack.iter().find(is_own).filter(|own| inner.as_ref() != Some(own)).cloned();
    Place { native, inner, own, directory: directory.to_owned(), mapping, site }
}
