//! Gates: limits that a run must keep, and the sites that are to blame where it does not.

use std::cmp::Reverse;

use crate::problem::Problem;
use crate::read::Run;
use crate::symbolize::Symbols;

use super::leaks::{Leak, Leaks, leaks};
use super::result::{Asked, Blamed, Change, Check, Gate, Limit, Metric, Unit, Verdict, Watch};
use super::sites::Sites;
use super::{Measured, noise_of, notes, reconcile, side};

/// Holds `new` runs to the gates; increases are counted from the `old` ones. At most `top` sites are
/// named for a gate. What cannot be told is a problem, not a pass.
pub fn check(
    new: &[Run],
    old: &[Run],
    asked: &[Asked],
    top: usize,
    symbols: &mut Symbols,
) -> Result<Check, Problem> {
    let mut leaked = Leaks::default();
    if asked.iter().any(|asked| asked.watch == Watch::Leak) {
        for run in new {
            let found = leaks(run, symbols)?;
            leaked.bytes = leaked.bytes.saturating_add(found.bytes);
            leaked.list.extend(found.list);
            leaked.notes.extend(found.notes);
        }
    }
    let runs: Vec<&Run> = old.iter().chain(new).collect();
    let mut sites = Sites::new(&runs, symbols);
    reconcile(&mut sites, old.len());
    let measured = Measured::new(&sites, old.len());
    let mut bench = Bench { sites, measured, old: old.len(), top, symbols };
    let mut gates = Vec::new();
    for &asked in asked {
        gates.push(match asked.watch {
            Watch::Leak => leak(asked, &leaked, new.len(), top),
            Watch::Total(Metric::Growth) => bench.growth(asked)?,
            Watch::Total(metric) => bench.total(asked, metric),
            Watch::Increase(metric) => bench.increase(asked, metric)?,
        });
    }
    gates.sort_by_key(|gate| !gate.exceeded);
    let mut notes = notes(old, new, bench.symbols);
    leaked.notes.retain(|note| !notes.contains(note));
    notes.extend(leaked.notes);
    Ok(Check { new: side(new), old: side(old), noise: noise_of(old, new), gates, notes })
}

fn too_short(option: &str) -> Problem {
    let what = "a run is too short to tell growth from start-up (2 s at least), or waited all the time; let it work longer, or leave this gate out";
    Problem::new(option, what)
}

/// Blocks that nothing will ever free, by the runs' mean.
fn leak(asked: Asked, leaked: &Leaks, runs: usize, top: usize) -> Gate {
    let allowed = amount(asked.limit, 0.0);
    let new = leaked.bytes as f64 / runs.max(1) as f64;
    let exceeded = new > allowed;
    let mut worst: Vec<&Leak> = leaked.list.iter().filter(|_| exceeded).collect();
    worst.sort_by_key(|leak| Reverse(leak.bytes));
    let blamed = |leak: &&Leak| Blamed {
        place: leak.place.clone(),
        old: None,
        new: leak.bytes as f64,
        alone: leak.bytes as f64 > allowed,
        kind: Some(leak.kind.clone()),
    };
    Gate {
        asked,
        unit: Unit::Bytes,
        allowed,
        old: None,
        new,
        tolerance: 0.0,
        in_all: exceeded,
        exceeded,
        sites: worst.iter().take(top).map(blamed).collect(),
    }
}

/// The limit as a figure, where the baseline's total is `total`.
fn amount(limit: Limit, total: f64) -> f64 {
    match limit {
        Limit::Bytes(number) | Limit::Blocks(number) => number as f64,
        Limit::Rate(rate) => rate,
        Limit::Percent(percent) => total * percent / 100.0,
    }
}

struct Bench<'a, 'b> {
    sites: Sites<'a>,
    measured: Measured,
    old: usize,
    top: usize,
    symbols: &'b mut Symbols,
}

impl Bench<'_, '_> {
    fn change(&self, metric: Metric) -> Change {
        self.measured.total(metric).copied().unwrap_or(Change {
            metric,
            old: None,
            new: None,
            tolerance: 0.0,
            verdict: Verdict::Quiet,
        })
    }

    /// A figure of the new runs against a limit.
    fn total(&mut self, asked: Asked, metric: Metric) -> Gate {
        let change = self.change(metric);
        let (allowed, new) = (amount(asked.limit, 0.0), change.new.unwrap_or(0.0));
        let exceeded = new > allowed;
        Gate {
            asked,
            unit: metric.unit(),
            allowed,
            old: change.old,
            new,
            tolerance: 0.0,
            in_all: exceeded,
            exceeded,
            sites: if exceeded { self.largest(metric, allowed) } else { Vec::new() },
        }
    }

    /// Growth counts as far as it is certain, and only if it has not ended.
    fn growth(&mut self, asked: Asked) -> Result<Gate, Problem> {
        let runs = self.sites.totals.get(self.old..).unwrap_or_default();
        if !self.sites.separated.iter().skip(self.old).all(|&separated| separated) {
            return Err(too_short("--max-growth"));
        }
        let variance = runs.iter().map(|run| run.trend.variance).sum::<f64>();
        let tolerance = 2.0 * variance.sqrt() / runs.len().max(1) as f64;
        let goes_on = runs.iter().any(|run| run.trend.goes_on);
        let mut gate = self.total(asked, Metric::Growth);
        gate.exceeded = gate.new - tolerance > gate.allowed && goes_on;
        (gate.in_all, gate.tolerance) = (gate.exceeded, tolerance);
        if !gate.exceeded {
            gate.sites.clear();
        }
        Ok(gate)
    }

    /// What was added to a figure, in all and at each site.
    fn increase(&mut self, asked: Asked, metric: Metric) -> Result<Gate, Problem> {
        let change = self.change(metric);
        let (Some(old), Some(new)) = (change.old, change.new) else {
            return Err(too_short("--max-increase growth"));
        };
        // Part of nothing would be nothing: mappings are held against all that survives.
        let base = match metric {
            Metric::Mapped => old + self.change(Metric::Survivors).old.unwrap_or(0.0),
            _ => old,
        };
        let allowed = amount(asked.limit, base.max(0.0));
        let exceeds =
            |change: &Change| change.verdict == Verdict::More && change.difference() > allowed;
        let in_all = exceeds(&change);
        let mut sites: Vec<(usize, bool, f64)> = Vec::new();
        for (site, changes) in self.measured.sites.iter().enumerate() {
            let Some(change) = changes.iter().find(|change| change.metric == metric) else {
                continue;
            };
            if change.verdict == Verdict::More && (in_all || exceeds(change)) {
                sites.push((site, exceeds(change), change.difference()));
            }
        }
        sites.sort_by(|a, b| b.1.cmp(&a.1).then(b.2.total_cmp(&a.2)));
        let exceeded = in_all || sites.iter().any(|it| it.1);
        let sites = self.blame(metric, sites.into_iter().map(|it| (it.0, it.1)));
        Ok(Gate {
            asked,
            unit: metric.unit(),
            allowed,
            old: Some(old),
            new,
            tolerance: change.tolerance,
            in_all,
            exceeded,
            sites,
        })
    }

    /// The sites with most of a figure.
    fn largest(&mut self, metric: Metric, allowed: f64) -> Vec<Blamed> {
        let value = |changes: &Vec<Change>| {
            changes.iter().find(|change| change.metric == metric).and_then(|change| change.new)
        };
        let values = self.measured.sites.iter().map(value).enumerate();
        let mut sites: Vec<(usize, f64)> =
            values.filter_map(|(site, new)| Some((site, new.filter(|&new| new > 0.0)?))).collect();
        sites.sort_by(|a, b| b.1.total_cmp(&a.1));
        self.blame(metric, sites.into_iter().map(|(site, new)| (site, new > allowed)))
    }

    fn blame(&mut self, metric: Metric, sites: impl Iterator<Item = (usize, bool)>) -> Vec<Blamed> {
        let mut blamed = Vec::new();
        for (site, alone) in sites.take(self.top) {
            let changes = self.measured.sites.get(site).map_or(&[][..], Vec::as_slice);
            let change = changes.iter().find(|change| change.metric == metric);
            let (old, new) = change.map_or((None, None), |change| (change.old, change.new));
            let place = self.sites.place(site, self.old, metric, self.symbols);
            blamed.push(Blamed { place, old, new: new.unwrap_or(0.0), alone, kind: None });
        }
        blamed
    }
}
