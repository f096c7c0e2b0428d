//! The full stack of a new site: Python's frames and native ones in one.
//!
//! As of Python's frames ([`super::stack`]), the last stack is kept, and what it shares with the one
//! at hand is not made anew: its outer parts ([`native::paths::Part`]), if they are the same ones and as
//! many Python frames lie outside them, which are the same too.

use pyshim_dump::record::Frame;

use super::stack::PythonStack;
use super::{Place, word};
use crate::guard::Guard;
use crate::hash::mix;
use crate::native::{self, Anchor, Recursion, Stack, paths};

/// A part of the stack that is kept, and what lies outside it.
#[derive(Clone, Copy)]
struct Level {
    part: paths::Part,
    /// So many Python frames are not inside it, nor in it.
    python: usize,
    /// Its innermost frames, and which of them only repeat those inside it.
    first: First,
    /// How many frames there are up to here, and their hash.
    frames: usize,
    hash: u64,
}

/// The innermost frames of a part: so many that whether those further out are repetitions does not depend
/// on what is inside the part ([`Recursion`]).
#[derive(Clone, Copy, Default)]
struct First {
    pcs: [u64; 3],
    repeats: [bool; 3],
    count: usize,
}

impl First {
    fn see(&mut self, pc: u64, repeats: bool) {
        if let (Some(place), Some(other)) =
            (self.pcs.get_mut(self.count), self.repeats.get_mut(self.count))
        {
            (*place, *other) = (pc, repeats);
            self.count += 1;
        }
    }

    /// Whether they are the same repetitions with these frames inside.
    fn is_same(&self, mut inside: Recursion) -> bool {
        let mut pairs = self.pcs.iter().zip(&self.repeats);
        self.count == self.pcs.len() && pairs.all(|(&pc, &is)| inside.repeats(pc) == is)
    }
}

/// See the module.
pub struct FullStack {
    /// The parts of the stack at hand, innermost first.
    parts: Vec<paths::Part>,
    /// The parts that are kept, and all frames of them. Outermost first.
    levels: Vec<Level>,
    frames: Vec<Frame>,
    /// Frames that are to come behind those that are kept, innermost first.
    fresh: Vec<Frame>,
    /// For each part of theirs: how many are inside it, how many Python frames lie outside that.
    fresh_parts: Vec<(usize, usize, First)>,
    /// Native frames alone.
    native: Stack,
}

impl FullStack {
    /// No frames.
    pub const fn new() -> FullStack {
        FullStack {
            parts: Vec::new(),
            levels: Vec::new(),
            frames: Vec::new(),
            fresh: Vec::new(),
            fresh_parts: Vec::new(),
            native: Stack::new(),
        }
    }
}

impl FullStack {
    /// Takes in a thread's stack, whose Python frames are those of `python`; so many levels of these are
    /// the `same` as before. How many frames are, and whether some were left out at the outer end.
    pub fn follow(
        &mut self,
        guard: &Guard,
        place: &Place,
        python: &PythonStack,
        same: usize,
    ) -> (usize, bool) {
        self.parts.clear();
        let parts = &mut self.parts;
        let (anchor, hint) = (place.anchor, place.hint);
        if paths::parts(guard, anchor, place.top, hint, |part| parts.push(part)) {
            return (0, self.follow_anew(guard, anchor, python));
        }
        let pairs = self.levels.iter().zip(parts.iter().rev());
        let shared = pairs.take_while(|(level, part)| level.part == **part).count();
        self.fresh.clear();
        self.fresh_parts.clear();
        let mut runs = Runs::new(python, anchor.sp);
        let mut recursion = Recursion::new();
        let mut kept = 0;
        for (index, part) in self.parts.iter().enumerate() {
            let outside = self.parts.len() - index;
            let level = self.levels.get(outside - 1).filter(|_| outside <= shared);
            let is_same = |level: &Level| {
                level.python == runs.left
                    && runs.left <= same
                    && level.first.is_same(recursion.clone())
            };
            if level.is_some_and(is_same) {
                kept = outside;
                break;
            }
            let (start, left) = (self.fresh.len(), runs.left);
            let (mut first, fresh) = (First::default(), &mut self.fresh);
            let is_kept = paths::recall_all(guard, part.anchor, part.hint, |pc, slot| {
                let repeats = recursion.repeats(pc);
                first.see(pc, repeats);
                if !repeats {
                    runs.meet(pc, slot, fresh);
                }
            });
            if !is_kept {
                return (0, self.follow_anew(guard, anchor, python));
            }
            self.fresh_parts.push((start, left, first));
        }
        if kept == 0 {
            runs.rest(&mut self.fresh);
        }
        self.levels.truncate(kept);
        let last = self.levels.last();
        let (frames, mut hash) = last.map_or((0, 0), |level| (level.frames, level.hash));
        self.frames.truncate(frames);
        let mut end = self.fresh.len();
        for (part, &(start, python, first)) in self.parts.iter().zip(&self.fresh_parts).rev() {
            for frame in self.fresh.get(start..end).unwrap_or_default().iter().rev() {
                hash = mix(hash, word(frame));
                self.frames.push(*frame);
            }
            self.levels.push(Level { part: *part, python, first, frames: self.frames.len(), hash });
            end = start;
        }
        (frames, false)
    }

    /// The same where the parts are not all kept, or are too many; whether frames were left out.
    fn follow_anew(&mut self, guard: &Guard, anchor: Anchor, python: &PythonStack) -> bool {
        self.clear();
        self.fresh.clear();
        native::unwind(guard, anchor, native::Stop::new(anchor, None), &mut self.native);
        let mut runs = Runs::new(python, anchor.sp);
        for &(pc, slot) in self.native.frames() {
            runs.meet(pc, slot, &mut self.fresh);
        }
        runs.rest(&mut self.fresh);
        self.frames.extend(self.fresh.iter().rev());
        self.native.truncated
    }

    /// Nothing of the last stack holds any more; whether there was one.
    pub fn clear(&mut self) -> bool {
        let some = !self.frames.is_empty();
        self.levels.clear();
        self.frames.clear();
        some
    }

    /// All frames, outermost first.
    pub fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// Hash of them.
    pub fn hash(&self) -> u64 {
        match self.levels.last() {
            Some(level) => mix(level.hash, level.frames as u64),
            None => mix(hash_of(&self.frames), self.frames.len() as u64),
        }
    }
}

/// The hash of frames that are in order, outermost first.
pub fn hash_of(frames: &[Frame]) -> u64 {
    frames.iter().fold(0, |hash, frame| mix(hash, word(frame)))
}

/// Python's frames, innermost first, as the native ones are met that ran them: a frame of the evaluation
/// loop gives way to the frames of Python code that ran in it.
struct Runs<'a> {
    python: &'a PythonStack,
    /// So many levels of it are still to come.
    left: usize,
    /// Where the next loop keeps its own frame; 0: not known.
    boundary: usize,
    /// The stack pointer at the hook.
    start: usize,
}

impl Runs<'_> {
    fn new(python: &PythonStack, start: usize) -> Runs<'_> {
        let left = python.levels();
        Runs { python, left, boundary: python.boundary(left), start }
    }

    fn meet(&mut self, pc: u64, slot: usize, out: &mut Vec<Frame>) {
        // Where the loop is split into several functions, its frame on the stack still tells.
        let passed = self.boundary > self.start && self.boundary < slot;
        let evaluation = native::is_evaluation(pc);
        if evaluation || passed {
            for (level, run) in self.python.innermost_first(self.left) {
                out.extend(run.shown);
                self.left = level;
                if run.entry {
                    break;
                }
            }
            self.boundary = self.python.boundary(self.left);
        }
        if !evaluation {
            out.push(Frame::Native { pc });
        }
    }

    /// What no native frame ran.
    fn rest(&mut self, out: &mut Vec<Frame>) {
        out.extend(self.python.innermost_first(self.left).filter_map(|(_, run)| run.shown));
        self.left = 0;
    }
}
