//! The Python stack of a new site, told from the stack before.
//!
//! Two stacks that are defined one after the other mostly share all but their
//! innermost frames, be it on one thread or on two that do the same. So the last
//! stack is kept, outermost frame first, with what was made of each frame; a
//! frame that is the same word for word, with the same frames outside it, means
//! the same, as long as no code object died in between.

use pyshim_dump::record::Frame;

use super::codes::Codes;
use super::line::Line;
use super::{Place, word};
use crate::hash::mix;
use crate::native::Extent;
use crate::python::frame::View;
use crate::python::walk::{MAX_PYTHON, RawFrame, Top, polynomial};

/// A frame of the interpreter, and what lies outside it.
#[derive(Clone, Copy)]
struct Level {
    raw: RawFrame,
    /// A frame of Python code: its code object, and what is shown of it.
    run: Option<(usize, Run)>,
    /// More keys may be listed with its code object.
    open: bool,
    /// Where the innermost evaluation loop keeps its frame that began since the last frame of
    /// Python code, seen from outside; 0: none did.
    boundary: usize,
    /// Whether it, or any frame outside it, is one of Python code.
    any: bool,
    /// How many frames are shown up to here, and their hash.
    shown: usize,
    hash: u64,
    /// The [`polynomial`] of these frames, and what it multiplies with
    /// that of frames inside them.
    sum: u64,
    power: u64,
}

/// A frame of Python code.
#[derive(Clone, Copy)]
pub struct Run {
    /// What is shown of it; nothing where the interpreter itself would not show it.
    pub shown: Option<Frame>,
    /// Whether an evaluation loop begins with it.
    pub entry: bool,
    /// Where that loop keeps its own frame; 0: not known.
    pub boundary: usize,
}

const OUTSIDE: Level = Level {
    raw: RawFrame::NONE,
    run: None,
    open: false,
    boundary: 0,
    any: false,
    shown: 0,
    hash: 0,
    sum: 0,
    power: 1,
};

/// How a stack lies beside the one before.
#[derive(Clone, Copy, Default)]
pub struct Followed {
    /// So many outermost frames of the interpreter are the same, and so many that are shown.
    pub same: usize,
    pub shown: usize,
    /// Frames were left out at the outer end.
    pub truncated: bool,
}

/// See the module.
pub struct PythonStack {
    /// The frames of the stack at hand that are not those of `levels`, innermost first.
    fresh: Vec<RawFrame>,
    /// Outermost first.
    levels: Vec<Level>,
    /// Which level a frame may be, by a hash of its address.
    places: [u8; PLACES],
    /// The levels that are open.
    open: Vec<u8>,
    shown: Vec<Frame>,
}

const PLACES: usize = 512;
// A level's number fits.
const _: () = assert!(MAX_PYTHON <= 255);

fn place_of(frame: usize) -> usize {
    (frame >> 3) % PLACES
}

impl PythonStack {
    /// No frames.
    pub const fn new() -> PythonStack {
        PythonStack {
            fresh: Vec::new(),
            levels: Vec::new(),
            places: [0; PLACES],
            open: Vec::new(),
            shown: Vec::new(),
        }
    }

    /// Nothing of the last stack holds any more.
    pub fn clear(&mut self) {
        self.levels.clear();
        self.open.clear();
        self.shown.clear();
    }

    /// Lays the stack of `top` beside the last one: how many outermost frames are the same. The others
    /// are `fresh` then. `None` where there are too many frames.
    ///
    /// Where an inner part of the stack meets a frame of the last one, `hash`, the polynomial of the
    /// whole stack, tells whether all frames from there on outwards are the same: what the inner part
    /// adds to it is known, and so is what those frames did. Nor are they read, but to see whether they
    /// lie where they did, if that matters (`in_place`).
    fn compare(&mut self, top: &Top, hash: u64, in_place: bool) -> Option<usize> {
        let fields = top.fields();
        let fresh = &mut self.fresh;
        fresh.clear();
        let (mut frame, mut inner) = (top.first(), 0u64);
        while frame != 0 && fresh.len() <= MAX_PYTHON {
            let same = self.places[place_of(frame)] as usize + 1;
            let known = self.levels.get(..same).unwrap_or_default();
            // Of a stack of so many frames or more, the polynomial is not that of all.
            if let Some(level) = known.last().filter(|_| fresh.len() + same < MAX_PYTHON)
                && level.raw.is_at(frame)
                && inner.wrapping_mul(level.power).wrapping_add(level.sum) == hash
                && (!in_place || fields.are_at(frame, known.iter().rev().map(|level| &level.raw)))
            {
                return Some(same);
            }
            let raw = fields.raw(frame);
            inner = polynomial(inner, fields.word(&raw));
            fresh.push(raw);
            frame = fields.previous(frame);
        }
        (frame == 0 && fresh.len() <= MAX_PYTHON).then_some(0)
    }

    /// Takes in a thread's stack, through which `key` passes. Unless it is `trusted` that the end of
    /// every code object is seen, all are read anew.
    pub fn follow(
        &mut self,
        place: &Place,
        trusted: bool,
        codes: &mut Codes,
        line: &mut Line,
        key: u64,
    ) -> Followed {
        let Some(top) = place.top else {
            self.clear();
            return Followed::default();
        };
        if !trusted {
            self.clear();
        }
        let mut beyond = 0;
        let in_place = place.extent == Extent::Full;
        let same = self.compare(&top, place.python, in_place).unwrap_or_else(|| {
            // Without its outer end a stack cannot be laid beside another.
            self.clear();
            self.fresh.clear();
            beyond = top.frames(&mut self.fresh);
            0
        });
        self.open.retain(|&at| {
            let level = self.levels.get_mut(at as usize).filter(|_| (at as usize) < same);
            let Some(level) = level else { return false };
            level.open = level.run.is_some_and(|(code, _)| codes.pass(code, key));
            level.open
        });
        let last = same.checked_sub(1).and_then(|last| self.levels.get(last));
        let mut outside = last.copied().unwrap_or(OUTSIDE);
        let shown = outside.shown;
        self.shown.truncate(shown);
        let count = same + self.fresh.len();
        let fields = top.fields();
        for index in same..count {
            let Some(&raw) = self.fresh.get(count - 1 - index) else { break };
            let mut level = Level { raw, run: None, open: false, ..outside };
            level.power = polynomial(0, outside.power);
            level.sum = fields.word(&raw).wrapping_mul(level.power).wrapping_add(outside.sum);
            match top.view(&raw) {
                View::Boundary(address) => level.boundary = address,
                View::Other => {}
                View::Python(frame) => {
                    let (mut entry, mut boundary) = (frame.entry, 0);
                    if outside.boundary != 0 {
                        (entry, boundary) = (true, outside.boundary);
                    } else if !outside.any {
                        // Frames are left out, but the loop is the same.
                        (entry, boundary) = (true, top.boundary_from(beyond));
                    }
                    // Often the stack before ran the same code here, at another line.
                    let before = self.levels.get(index).filter(|old| !old.open);
                    let code = match before.and_then(|old| old.run) {
                        Some((code, Run { shown: Some(Frame::Python { code: id, .. }), .. }))
                            if code == frame.code =>
                        {
                            id
                        }
                        _ => {
                            let (id, open) = codes.id(frame.code, trusted, key, line);
                            level.open = open;
                            id
                        }
                    };
                    let shown = Frame::Python { code, instruction: frame.instruction, entry };
                    level.run = Some((
                        frame.code,
                        Run { shown: (!frame.incomplete).then_some(shown), entry, boundary },
                    ));
                    (level.boundary, level.any) = (0, true);
                    if !frame.incomplete {
                        level.shown += 1;
                        level.hash = mix(level.hash, word(&shown));
                        self.shown.push(shown);
                    }
                }
            }
            self.places[place_of(raw.address())] = index as u8;
            if level.open {
                self.open.push(index as u8);
            }
            match self.levels.get_mut(index) {
                Some(place) => *place = level,
                None => self.levels.push(level),
            }
            outside = level;
        }
        self.levels.truncate(count);
        Followed { same, shown, truncated: beyond != 0 }
    }

    /// Frames of Python code that are shown, outermost first.
    pub fn shown(&self) -> &[Frame] {
        &self.shown
    }

    /// How many frames of the interpreter there are.
    pub fn levels(&self) -> usize {
        self.levels.len()
    }

    /// Those frames of Python code that are among the `levels` outermost ones, innermost first, and how
    /// many are outside each.
    pub fn innermost_first(&self, levels: usize) -> impl Iterator<Item = (usize, Run)> {
        let levels = self.levels.get(..levels).unwrap_or_default();
        levels.iter().enumerate().rev().filter_map(|(at, level)| Some((at, level.run?.1)))
    }

    /// Where the innermost loop that runs any of these keeps its own frame; 0: not known.
    pub fn boundary(&self, levels: usize) -> usize {
        let mut all = self.innermost_first(levels).map(|(_, run)| run.boundary);
        all.find(|&at| at != 0).unwrap_or_default()
    }

    /// Hash of the frames that are shown.
    pub fn hash(&self) -> u64 {
        self.levels.last().map_or(0, |level| mix(level.hash, level.shown as u64))
    }
}
