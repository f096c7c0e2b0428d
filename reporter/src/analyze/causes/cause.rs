//! What a cause is, and the verdict over all of them.

use crate::analyze::report::{Rate, Site};

/// Why memory grows, or does not. The words are stable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Native blocks to which no pointer is left.
    NativeLeak,
    /// Native blocks that only native memory refers to.
    NativeHeld,
    /// Python objects with more references counted than exist.
    ReferenceLeak,
    /// Python objects, and what they own, that can be reached from Python.
    PythonHeld,
    /// Rings that nobody holds and that the collector has not taken.
    Cycles,
    /// Free inside an allocator, and still resident.
    AllocatorRetention,
    /// Memory that did not go through an allocator.
    Mapping,
    /// Much is allocated, almost nothing survives.
    Churn,
    /// Nothing grows.
    #[default]
    None,
}

impl Kind {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::NativeLeak => "native-leak",
            Kind::NativeHeld => "native-held",
            Kind::ReferenceLeak => "reference-leak",
            Kind::PythonHeld => "python-held",
            Kind::Cycles => "cycles",
            Kind::AllocatorRetention => "allocator-retention",
            Kind::Mapping => "mapping",
            Kind::Churn => "churn",
            Kind::None => "none",
        }
    }
}

/// How far a cause is to be believed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Confidence {
    /// It fits what was seen; so may something else.
    #[default]
    Possible,
    /// A trend over enough time.
    Likely,
    /// Proven by a complete search of the memory.
    Certain,
}

impl Confidence {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Confidence::Possible => "possible",
            Confidence::Likely => "likely",
            Confidence::Certain => "certain",
        }
    }
}

/// A reason why memory grows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cause {
    /// Which.
    pub kind: Kind,
    /// How sure.
    pub confidence: Confidence,
    /// Live bytes.
    pub bytes: u64,
    /// Live blocks.
    pub blocks: u64,
    /// Of these, the blocks that lead: those of the type, or those that nobody holds.
    pub leaders: u64,
    /// How fast it grows; of churn, how fast it is allocated.
    pub growth: Rate,
    /// Its part of all growth; nothing for what does not grow.
    pub share: Option<f64>,
    /// The type of the Python objects that lead.
    pub type_name: Option<String>,
    /// Where most of it was allocated.
    pub site: Option<Site>,
    /// Who holds it.
    pub holder: Option<String>,
    /// What shows it, in sentences.
    pub evidence: Vec<String>,
    /// What to do about it, in a sentence.
    pub advice: String,
    /// Which tool of Python's would have shown it, and which not.
    pub tools: String,
    /// The process, where there are several.
    pub pid: Option<u32>,
}

/// The answer in short.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// The kind of the first cause.
    pub kind: Kind,
    /// Whether memory grows; not known of a run that is all start-up.
    pub growing: Option<bool>,
    /// How fast all that is live or kept grows.
    pub growth: Option<Rate>,
    /// The part of it that the causes explain.
    pub explained: Option<f64>,
    /// When the limit of the process' memory will be reached.
    pub forecast: Option<Forecast>,
    /// What else is to be said of it, in sentences.
    pub remarks: Vec<String>,
}

/// When memory will be at its limit, if it goes on like this.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Forecast {
    /// The limit.
    pub limit: u64,
    /// Seconds from the end of the recording.
    pub seconds: f64,
}
