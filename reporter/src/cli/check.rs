//! `reporter check`: gates for a benchmark or a test suite.

use clap::Args;

use crate::analyze::diff::check as hold;
use crate::analyze::diff::result::{Asked, Limit, Metric, Watch};
use crate::problem::Problem;
use crate::view::Paint;
use crate::view::diff::{Form, json, junit, markdown, text};

use super::diff::{FormName, load, symbols};
use super::limits::{self, Increase};
use super::{EXCEEDED, Streams, WRONG, complain, print};

/// Hold a run to limits, and to what earlier runs needed
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    reporter check pyshim.*.dump --max-peak 200MiB --max-growth 10KiB/s\n  \
    reporter check new.dump --baseline main.1.dump --baseline main.2.dump --max-increase 10%\n  \
    reporter check new.dump --baseline main/ --max-increase allocated=5% --format junit > memory.xml\n\n\
    Several dumps are several runs of the same work, and their mean counts; dumps of a process and of\n\
    its children are one run; a folder stands for all dumps in it. With two baselines or more the noise\n\
    between them is measured, and what is within it exceeds no gate. Changes up to 3 % (of growth,\n\
    25 %), and at least 4 KiB, 64 blocks, 1 KiB/s, count as noise without measurement; of that 2/N is\n\
    left with N > 2 baselines.\n\n\
    --max-increase holds for the sum over all sites and for each site alone; a part is one of the\n\
    baseline's sum. METRIC is survivors, surviving-blocks, allocated, allocated-blocks, peak, growth or\n\
    mapped. Without it a part is one of survivors, mapped, allocated and peak, a size one of survivors,\n\
    mapped and peak, a number one of surviving blocks. With a baseline and no gate it is 10%.\n\n\
    Exit status: 0 all gates hold, 1 a gate was exceeded, 2 the input or the call was wrong, or a gate\n\
    cannot be told from these dumps")]
pub struct Arguments {
    /// Dumps to check, folders of them, or ids of processes that run
    #[arg(required = true, value_name = "DUMP")]
    dumps: Vec<String>,
    /// A run to compare with; give several to have the noise measured
    #[arg(long, value_name = "OLD")]
    baseline: Vec<String>,
    /// Bytes that may be leaked for good, by the heap snapshot
    #[arg(long, value_name = "SIZE", value_parser = limits::size)]
    max_leak: Option<u64>,
    /// How fast live memory may grow after start-up, such as 10KiB/s
    #[arg(long, value_name = "SIZE/s", value_parser = limits::speed)]
    max_growth: Option<f64>,
    /// Bytes that may be live at once
    #[arg(long, value_name = "SIZE", value_parser = limits::size)]
    max_peak: Option<u64>,
    /// Bytes, or blocks, that may survive
    #[arg(long, value_name = "SIZE|COUNT", value_parser = limits::size_or_count)]
    max_survivors: Option<Limit>,
    /// Bytes, or blocks, that may be allocated in all
    #[arg(long, value_name = "SIZE|COUNT", value_parser = limits::size_or_count)]
    max_allocated: Option<Limit>,
    /// What may be added to the baseline; may be given again and again [default with a baseline: 10%]
    #[arg(long, value_name = "[METRIC=]PERCENT|SIZE|COUNT", value_parser = limits::increase)]
    max_increase: Vec<Increase>,
    /// How the report is written
    #[arg(long, value_enum, default_value = "text")]
    format: FormName,
    /// Sites to name for each exceeded gate
    #[arg(long, value_name = "N", default_value_t = 5)]
    top: usize,
}

impl Arguments {
    fn gates(&self) -> Result<Vec<Asked>, Problem> {
        let mut gates = Vec::new();
        let mut ask = |watch, limit| gates.push(Asked { watch, limit });
        if let Some(size) = self.max_leak {
            ask(Watch::Leak, Limit::Bytes(size));
        }
        if let Some(speed) = self.max_growth {
            ask(Watch::Total(Metric::Growth), Limit::Rate(speed));
        }
        if let Some(size) = self.max_peak {
            ask(Watch::Total(Metric::Peak), Limit::Bytes(size));
        }
        for (limit, bytes, blocks) in [
            (self.max_survivors, Metric::Survivors, Metric::SurvivingBlocks),
            (self.max_allocated, Metric::Allocated, Metric::AllocatedBlocks),
        ] {
            match limit {
                Some(limit @ Limit::Blocks(_)) => ask(Watch::Total(blocks), limit),
                Some(limit) => ask(Watch::Total(bytes), limit),
                None => {}
            }
        }
        for increase in &self.max_increase {
            metrics(increase).iter().for_each(|&it| ask(Watch::Increase(it), increase.limit));
        }
        match (self.baseline.is_empty(), gates.is_empty()) {
            (true, _) if !self.max_increase.is_empty() => {
                let what = "needs something to compare with; add --baseline OLD.dump";
                Err(Problem::new("--max-increase", what))
            }
            (true, true) => {
                let what = "no gate is given; add one, such as --max-peak 200MiB, or --baseline OLD.dump --max-increase 10%";
                Err(Problem::new("check", what))
            }
            (false, true) => {
                let increase = Increase { metric: None, limit: Limit::Percent(10.0) };
                let asked =
                    |&it: &Metric| Asked { watch: Watch::Increase(it), limit: increase.limit };
                Ok(metrics(&increase).iter().map(asked).collect())
            }
            _ => Ok(gates),
        }
    }
}

/// What an increase is of.
fn metrics(increase: &Increase) -> &'static [Metric] {
    use Metric::{Allocated, AllocatedBlocks, Growth, Mapped, Peak, SurvivingBlocks, Survivors};
    match (increase.metric, increase.limit) {
        (None, Limit::Percent(_)) => &[Survivors, Mapped, Allocated, Peak],
        (None, Limit::Bytes(_)) => &[Survivors, Mapped, Peak],
        (None, Limit::Blocks(_)) => &[SurvivingBlocks],
        (None, Limit::Rate(_)) => &[Growth],
        (Some(Survivors), _) => &[Survivors],
        (Some(SurvivingBlocks), _) => &[SurvivingBlocks],
        (Some(Allocated), _) => &[Allocated],
        (Some(AllocatedBlocks), _) => &[AllocatedBlocks],
        (Some(Peak), _) => &[Peak],
        (Some(Growth), _) => &[Growth],
        (Some(Mapped), _) => &[Mapped],
    }
}

/// The verb.
pub fn check(arguments: &Arguments, streams: &mut Streams) -> u8 {
    let gates = match arguments.gates() {
        Ok(gates) => gates,
        Err(problem) => {
            complain(&problem, streams);
            return WRONG;
        }
    };
    let new = load(arguments.dumps.iter(), streams);
    let old = load(arguments.baseline.iter(), streams);
    let (Some(new), Some(old)) = (new, old) else { return WRONG };
    let mut symbols = symbols(old.iter().chain(&new));
    let check = match hold(&new, &old, &gates, arguments.top, &mut symbols) {
        Ok(check) => check,
        Err(problem) => {
            complain(&problem, streams);
            return WRONG;
        }
    };
    let report = match Form::from(arguments.format) {
        Form::Text => text::check(&check, Paint(streams.colour_out)),
        Form::Json => json::check(&check),
        Form::Markdown => markdown::check(&check),
        Form::Junit => junit::check(&check),
    };
    std::mem::forget(symbols);
    match print(&report, streams) {
        super::FINE if check.exceeded() > 0 => EXCEEDED,
        status => status,
    }
}
