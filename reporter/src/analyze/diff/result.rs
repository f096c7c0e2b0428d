//! What a comparison and a check say; filled in by [`super`], shown by the views.

use std::rc::Rc;

use crate::analyze::report::{Frame, Process, Site};

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Metric {
    /// Bytes that survived.
    Survivors,
    /// Blocks that survived.
    SurvivingBlocks,
    /// Bytes allocated in all.
    Allocated,
    /// Blocks allocated in all.
    AllocatedBlocks,
    /// Bytes that were live when most was live.
    Peak,
    /// Bytes per second after start-up.
    Growth,
    /// Address space of mappings that survived.
    Mapped,
}

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Blocks.
    Blocks,
    /// Bytes per second.
    Rate,
}

impl Metric {
    /// Those of the heaps, in the order of reports.
    pub const HEAP: [Metric; 6] = [
        Metric::Survivors,
        Metric::SurvivingBlocks,
        Metric::Allocated,
        Metric::AllocatedBlocks,
        Metric::Peak,
        Metric::Growth,
    ];

    /// The word for it in reports and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Survivors => "survivors",
            Metric::SurvivingBlocks => "surviving-blocks",
            Metric::Allocated => "allocated",
            Metric::AllocatedBlocks => "allocated-blocks",
            Metric::Peak => "peak",
            Metric::Growth => "growth",
            Metric::Mapped => "mapped",
        }
    }

    /// What its figures count.
    pub fn unit(self) -> Unit {
        match self {
            Metric::SurvivingBlocks | Metric::AllocatedBlocks => Unit::Blocks,
            Metric::Growth => Unit::Rate,
            _ => Unit::Bytes,
        }
    }
}

/// Whether a figure changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not beyond the noise, or nothing to compare with.
    Quiet,
    /// It is larger.
    More,
    /// It is smaller.
    Less,
}

/// One figure in both runs. Where a side has several runs, their mean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// Of what.
    pub metric: Metric,
    /// In the old runs; `None`: there are none, or they cannot tell.
    pub old: Option<f64>,
    /// In the new runs; `None`: they cannot tell.
    pub new: Option<f64>,
    /// Differences up to this are noise.
    pub tolerance: f64,
    /// Whether it changed.
    pub verdict: Verdict,
}

impl Change {
    /// New less old.
    pub fn difference(&self) -> f64 {
        self.new.unwrap_or(0.0) - self.old.unwrap_or(0.0)
    }
}

/// Where the tolerance comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Noise {
    /// Old runs.
    pub old: usize,
    /// New runs.
    pub new: usize,
    /// Two old runs or more: it was measured.
    pub measured: bool,
}

/// One side of a comparison.
#[derive(Clone, Debug, Default)]
pub struct Side {
    /// Its runs, each with its processes.
    pub runs: Vec<Vec<Process>>,
}

/// Whether a site is on both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// On both.
    Both,
    /// Only in the new runs.
    New,
    /// Only in the old runs.
    Gone,
}

/// A place in the program that allocates: what of a stack names it.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// The innermost native function of the program.
    pub native: Option<Rc<Frame>>,
    /// The innermost Python line.
    pub inner: Option<Rc<Frame>>,
    /// The innermost Python line outside of libraries; `None` if that is `inner`, or if there is none.
    pub own: Option<Rc<Frame>>,
    /// The working directory, from which files are named.
    pub directory: String,
    /// Address space rather than blocks of a heap.
    pub mapping: bool,
    /// The stack in which most of the change is.
    pub site: Site,
}

/// A site with what changed at it.
#[derive(Clone, Debug)]
pub struct SiteChange {
    /// Which.
    pub place: Place,
    /// On which side it is.
    pub presence: Presence,
    /// All its figures.
    pub changes: Vec<Change>,
}

impl SiteChange {
    /// The figure for a metric.
    pub fn change(&self, metric: Metric) -> Option<&Change> {
        self.changes.iter().find(|change| change.metric == metric)
    }
}

/// Two runs, or sets of runs, side by side.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    /// The old runs.
    pub old: Side,
    /// The new runs.
    pub new: Side,
    /// How noise was told.
    pub noise: Noise,
    /// Sums over all sites.
    pub totals: Vec<Change>,
    /// Sites at which something changed beyond noise, ranked.
    pub sites: Vec<SiteChange>,
    /// Sites of which nothing did.
    pub quiet: usize,
    /// Sentences for the reader.
    pub notes: Vec<String>,
}

/// A limit as it was given.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// So many bytes.
    Bytes(u64),
    /// So many blocks.
    Blocks(u64),
    /// Bytes per second.
    Rate(f64),
    /// Part of the baseline's total, in per cent.
    Percent(f64),
}

/// What a gate watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Watch {
    /// Bytes that nothing will ever free, by the heap snapshot.
    Leak,
    /// A figure of the new runs.
    Total(Metric),
    /// What a figure grew over the baseline's, in all and at each site.
    Increase(Metric),
}

/// A gate as it was asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Asked {
    /// What it watches.
    pub watch: Watch,
    /// What it allows.
    pub limit: Limit,
}

/// A site that a gate names.
#[derive(Clone, Debug)]
pub struct Blamed {
    /// Which.
    pub place: Place,
    /// Its figure in the baselines.
    pub old: Option<f64>,
    /// Its figure in the new runs.
    pub new: f64,
    /// It alone exceeds the gate.
    pub alone: bool,
    /// The kind of cause, where that is known.
    pub kind: Option<String>,
}

/// A gate with what came of it.
#[derive(Clone, Debug)]
pub struct Gate {
    /// What was asked.
    pub asked: Asked,
    /// What its figures count.
    pub unit: Unit,
    /// What the limit allows, in the unit of the figures; for an increase, what may be added.
    pub allowed: f64,
    /// The baselines' total.
    pub old: Option<f64>,
    /// The new runs' total.
    pub new: f64,
    /// Differences up to this are noise.
    pub tolerance: f64,
    /// The total exceeds it.
    pub in_all: bool,
    /// It was exceeded, by the total or at a site.
    pub exceeded: bool,
    /// The sites that contribute most; those that exceed it alone first.
    pub sites: Vec<Blamed>,
}

impl Gate {
    /// The option that asks for it.
    pub fn option(&self) -> &'static str {
        match self.asked.watch {
            Watch::Leak => "max-leak",
            Watch::Increase(_) => "max-increase",
            Watch::Total(Metric::Growth) => "max-growth",
            Watch::Total(Metric::Peak) => "max-peak",
            Watch::Total(Metric::Allocated | Metric::AllocatedBlocks) => "max-allocated",
            Watch::Total(_) => "max-survivors",
        }
    }

    /// The figure that it watches; the option alone tells it unless several are meant by one.
    pub fn metric(&self) -> Option<Metric> {
        match self.asked.watch {
            Watch::Leak => None,
            Watch::Total(metric) | Watch::Increase(metric) => Some(metric),
        }
    }
}

/// What became of all gates.
#[derive(Clone, Debug, Default)]
pub struct Check {
    /// The runs that are held to them.
    pub new: Side,
    /// Those that they are compared with.
    pub old: Side,
    /// How noise was told.
    pub noise: Noise,
    /// All gates; those that were exceeded first.
    pub gates: Vec<Gate>,
    /// Sentences for the reader.
    pub notes: Vec<String>,
}

impl Check {
    /// How many were exceeded.
    pub fn exceeded(&self) -> usize {
        self.gates.iter().filter(|gate| gate.exceeded).count()
    }
}
