//! From a return address to the frame outside it, as the program's unwind
//! tables (`.eh_frame`) say: learned once for each return address, then kept in
//! a table that all threads read without a lock.

use core::ops::Range;
use core::sync::atomic::{
    AtomicPtr, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
};

use std::collections::BTreeMap;

use gimli::{
    BaseAddresses, CfaRule, EhFrame, EhFrameHdr, NativeEndian, RegisterRule, UnwindContext,
    UnwindSection, UnwindTableRow, X86_64,
};

use super::{EVALUATION, find_object};
use crate::hash::scatter;
use crate::spin::SpinLock;
use crate::{heap, sys};

/// How to step out of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The caller's frame begins this many bytes above the stack pointer.
    ByStack(usize),
    /// … above rbp.
    ByBase(usize),
    /// There is no caller.
    End,
    /// The tables say something that this does not understand.
    Unknown,
}

/// What is known of a return address, in a word: bits 0..2 the kind of step, 2 whether the function is
/// the interpreter's evaluation loop, 3 that it is known, 8..40 the step's bytes, 40..64 where rbp was saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule(u64);

const UNKNOWN: Rule = Rule::new(Step::Unknown, 0, false);

impl Rule {
    const EVALUATION: u64 = 1 << 2;
    const KNOWN: u64 = 1 << 3;

    const fn new(step: Step, base_saved: usize, evaluation: bool) -> Rule {
        let (kind, bytes) = match step {
            Step::ByStack(bytes) => (0, bytes),
            Step::ByBase(bytes) => (1, bytes),
            Step::End => (2, 0),
            Step::Unknown => (3, 0),
        };
        let evaluation = if evaluation { Rule::EVALUATION } else { 0 };
        let word = (base_saved as u64) << 40 | (bytes as u64 & 0xffff_ffff) << 8;
        Rule(word | evaluation | Rule::KNOWN | kind)
    }

    /// How to step out.
    #[inline(always)]
    pub fn step(self) -> Step {
        let bytes = (self.0 >> 8) as u32 as usize;
        match self.0 & 3 {
            0 => Step::ByStack(bytes),
            1 => Step::ByBase(bytes),
            2 => Step::End,
            _ => Step::Unknown,
        }
    }

    /// Where the caller's rbp was saved, in bytes below the caller's frame; 0: nowhere.
    #[inline(always)]
    pub fn base_saved(self) -> usize {
        (self.0 >> 40) as usize
    }

    /// Whether the function is the interpreter's evaluation loop.
    #[inline(always)]
    pub fn is_evaluation(self) -> bool {
        self.0 & Rule::EVALUATION != 0
    }
}

/// Return addresses and their rules, in slots; a power of two of them.
type Slots = [[AtomicU64; 2]];

/// Few at first: what is looked up all over a table should be near.
const FIRST_SLOTS: usize = 1 << 12;
const MOST_SLOTS: usize = 1 << 16;
static TABLE: AtomicPtr<&'static Slots> = AtomicPtr::new(core::ptr::null_mut());
static LEARNING: SpinLock<Learning> = SpinLock::new(Learning { used: 0, rows: BTreeMap::new() });

/// What whoever learns a rule needs.
struct Learning {
    /// Slots of the table in use.
    used: usize,
    /// Rows of the unwind tables that were read: by the address before which a row ends, where it begins
    /// and its rule. Most calls of a function lie in one.
    rows: BTreeMap<u64, (u64, Rule)>,
}

/// Rows that are kept.
const MOST_ROWS: usize = 1 << 15;

impl Learning {
    fn rule(&self, address: u64) -> Option<Rule> {
        let (_, &(start, rule)) = self.rows.range(address + 1..).next()?;
        (start <= address).then_some(rule)
    }

    fn keep(&mut self, row: Range<u64>, rule: Rule) {
        if self.rows.len() >= MOST_ROWS {
            self.rows.clear();
        }
        self.rows.insert(row.end, (row.start, rule));
    }

    fn enter(&mut self, pc: u64, rule: Rule) {
        make_room(self);
        self.used += usize::from(put(slots(), pc, rule.0));
    }
}

#[inline(always)]
fn slots() -> &'static Slots {
    // SAFETY: tables, and what leads to them, live until the end of the process once published.
    unsafe { TABLE.load(Acquire).as_ref() }.copied().unwrap_or_default()
}

/// The slots that a return address may be in, in order, without end; none if there are none.
#[inline(always)]
fn places(slots: &'static Slots, pc: u64) -> impl Iterator<Item = &'static [AtomicU64; 2]> {
    (home(pc)..).map_while(move |at| slots.get(at & slots.len().wrapping_sub(1)))
}

/// Puts a rule where it has its place; whether it was not there before. There must be an empty slot.
fn put(slots: &'static Slots, pc: u64, rule: u64) -> bool {
    for slot in places(slots, pc) {
        match slot[0].load(Relaxed) {
            0 => {
                slot[1].store(rule, Release);
                slot[0].store(pc, Release);
                return true;
            }
            known if known == pc => return false,
            _ => {}
        }
    }
    false
}

/// Publishes a table that has room for another rule, or empties the one that there is. Readers may still
/// be in the old one, so that stays.
fn make_room(learning: &mut Learning) {
    let old = slots();
    if learning.used * 2 < old.len() {
        return;
    }
    if old.len() >= MOST_SLOTS {
        return empty(learning);
    }
    let count = (old.len() * 2).max(FIRST_SLOTS);
    let Ok(memory) = sys::reserve_taken(count * size_of::<[AtomicU64; 2]>()) else {
        return empty(learning);
    };
    // SAFETY: that many zeroed pairs, mapped for good.
    let fresh: &'static Slots = unsafe { core::slice::from_raw_parts(memory.cast(), count) };
    for [pc, rule] in old.iter().filter(|slot| slot[0].load(Relaxed) != 0) {
        put(fresh, pc.load(Relaxed), rule.load(Relaxed));
    }
    TABLE.store(Box::into_raw(Box::new(fresh)), Release);
}

#[inline(always)]
fn home(pc: u64) -> usize {
    (scatter(pc) >> 48) as usize
}

/// The rule of a return address. Most are where they are looked for first.
#[inline(always)]
pub fn rule(pc: u64) -> Rule {
    let first = places(slots(), pc).next();
    match first.and_then(|slot| read(slot, pc)) {
        Some(rule) => rule,
        None => rule_further(pc),
    }
}

/// The rule in a slot, if it is that of `pc`.
#[inline(always)]
fn read([known, rule]: &[AtomicU64; 2], pc: u64) -> Option<Rule> {
    if known.load(Acquire) != pc {
        return None;
    }
    let rule = rule.load(Acquire);
    // The slot may be given away in between; the table is then being emptied.
    (known.load(Relaxed) == pc).then_some(Rule(rule))
}

#[inline(never)]
fn rule_further(pc: u64) -> Rule {
    let used = places(slots(), pc).take_while(|slot| slot[0].load(Relaxed) != 0);
    used.filter_map(|slot| read(slot, pc)).next().unwrap_or_else(|| learn(pc))
}

/// Bytes of the evaluation loop's code, as its unwind table says; 0: that was not read yet.
static EVALUATION_LEN: AtomicU64 = AtomicU64::new(0);

/// Whether a return address lies in the interpreter's evaluation loop.
#[inline(always)]
pub fn is_evaluation(pc: u64) -> bool {
    match EVALUATION_LEN.load(Relaxed) {
        0 => rule(pc).is_evaluation(),
        len => (pc - 1).wrapping_sub(EVALUATION.load(Relaxed) as u64) < len,
    }
}

#[cold]
#[inline(never)]
fn learn(pc: u64) -> Rule {
    if heap::exhausted() {
        return UNKNOWN;
    }
    // The call lies before the address that it returns to.
    let address = pc - 1;
    let known = LEARNING.lock().rule(address);
    let mut rows = Vec::new();
    if known.is_none() {
        look_up(address, &mut rows);
    }
    let rule = known.or(rows.first().map(|&(rule, _)| rule)).unwrap_or(UNKNOWN);
    let mut learning = LEARNING.lock();
    rows.into_iter().for_each(|(rule, row)| learning.keep(row, rule));
    learning.enter(pc, rule);
    rule
}

fn empty(learning: &mut Learning) {
    slots().iter().for_each(|slot| slot[0].store(0, Release));
    learning.used = 0;
}

/// Forgets all rules: other code may be mapped where they were learned.
pub fn forget() {
    let mut learning = LEARNING.lock();
    empty(&mut learning);
    learning.rows.clear();
    EVALUATION_LEN.store(0, Relaxed);
}

/// For the time of a fork.
pub fn hold() {
    LEARNING.hold();
}

/// After it, on both sides.
pub fn release() {
    LEARNING.release();
}

/// A row this far behind the first of its function is read with those that come after it, so many: the
/// way there is long, and a function that changes its frame for each call has a row for each.
const FAR: usize = 16;
const AFTER: usize = 64;

/// Reads the unwind tables of the file that holds the code at `address`. With its rule, which comes
/// first, and others that are met, comes for which addresses it holds; none if the tables say nothing.
fn look_up(address: u64, out: &mut Vec<(Rule, Range<u64>)>) -> Option<()> {
    let found = find_object(address + 1)?;
    let header = found.eh_frame as usize;
    if header < found.map_start || header >= found.map_end {
        return None;
    }
    let bytes = |from: usize| {
        // SAFETY: the tables lie in the loaded file's mapping, which ends at `map_end`; the file is
        // not unloaded while its code is on this thread's stack, and only table bytes are read.
        unsafe { core::slice::from_raw_parts(from as *const u8, found.map_end - from) }
    };
    let bases = BaseAddresses::default().set_eh_frame_hdr(header as u64);
    let parsed = EhFrameHdr::new(bytes(header), NativeEndian).parse(&bases, 8).ok()?;
    let gimli::Pointer::Direct(frames) = parsed.eh_frame_ptr() else { return None };
    let frames = frames as usize;
    if frames < found.map_start || frames >= found.map_end {
        return None;
    }
    let bases = bases.set_eh_frame(frames as u64);
    let section = EhFrame::new(bytes(frames), NativeEndian);
    let table = parsed.table()?;
    let fde = table.fde_for_address(&section, &bases, address, EhFrame::cie_from_offset).ok()?;
    if !fde.contains(address) || fde.is_signal_trampoline() {
        return None;
    }
    let evaluation = fde.initial_address() as usize == EVALUATION.load(Relaxed);
    if evaluation {
        EVALUATION_LEN.store(fde.len(), Relaxed);
    }
    let mut context = UnwindContext::new();
    let mut rows = fde.rows(&section, &bases, &mut context).ok()?;
    let mut before = 0;
    while let Some(row) = rows.next_row().ok()? {
        if row.contains(address) {
            out.push((rule_of(row, evaluation)?, row.start_address()..row.end_address()));
            break;
        }
        before += 1;
    }
    let after = if before < FAR { 0 } else { AFTER };
    for _ in 0..after {
        let row = rows.next_row().ok()??;
        let range = row.start_address()..row.end_address();
        out.extend(rule_of(row, evaluation).map(|rule| (rule, range)));
    }
    Some(())
}

/// What a row of the tables says; `None`: nothing that this understands.
fn rule_of(row: &UnwindTableRow<usize>, evaluation: bool) -> Option<Rule> {
    let base_saved = match row.register(X86_64::RBP) {
        Some(RegisterRule::Offset(offset)) => usize::try_from(-offset).ok()?,
        None | Some(RegisterRule::SameValue | RegisterRule::Undefined) => 0,
        Some(_) => return None,
    };
    let step = match row.register(X86_64::RA) {
        Some(RegisterRule::Undefined) => Step::End,
        Some(RegisterRule::Offset(-8)) => match *row.cfa() {
            CfaRule::RegisterAndOffset { register: X86_64::RSP, offset } => {
                Step::ByStack(usize::try_from(offset).ok()?)
            }
            CfaRule::RegisterAndOffset { register: X86_64::RBP, offset } => {
                Step::ByBase(usize::try_from(offset).ok()?)
            }
            _ => return None,
        },
        _ => return None,
    };
    let offset = match step {
        Step::ByStack(offset) | Step::ByBase(offset) => offset,
        _ => 8,
    };
    // What the packed form holds, and what a frame can be: its return address lies on an aligned word.
    let sane = offset % 8 == 0 && (8..1 << 31).contains(&offset) && base_saved < 1 << 23;
    sane.then_some(Rule::new(step, base_saved, evaluation))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_good_for_its_addresses_alone() {
        let mut learning = Learning { used: 0, rows: BTreeMap::new() };
        let rule = |offset| Rule::new(Step::ByStack(offset), 0, false);
        learning.keep(100..110, rule(8));
        learning.keep(110..120, rule(16));
        learning.keep(200..201, rule(24));
        let offsets = [99, 100, 109, 110, 119, 120, 199, 200, 201].map(|address| {
            let Step::ByStack(offset) = learning.rule(address)?.step() else { return None };
            Some(offset)
        });
        let (a, b, c) = (Some(8), Some(16), Some(24));
        assert_eq!(offsets, [None, a, a, b, b, None, None, c, None]);
    }

    #[test]
    fn rules_stay_while_their_table_grows() {
        let of = |at: usize| Rule::new(Step::ByStack(8 * at), 0, false);
        let pc = |at: usize| 0x7f00_0000_0000 + 5 * at as u64;
        let mut learning = LEARNING.lock();
        for at in 1..MOST_SLOTS / 2 {
            learning.enter(pc(at), of(at));
            learning.enter(pc(at), of(at));
            if at.is_multiple_of(1000) {
                assert!((1..=at).all(|at| rule(pc(at)) == of(at)));
            }
        }
        assert_eq!(slots().len(), MOST_SLOTS);
        let used = learning.used;
        assert!(used >= MOST_SLOTS / 2 - 1);
        // One more than there is room for: all others give way.
        (0..=MOST_SLOTS / 2 - used).for_each(|at| learning.enter(pc(MOST_SLOTS + at), of(at)));
        assert_eq!(learning.used, 1);
        empty(&mut learning);
    }

    #[test]
    fn rules_fit_a_word() {
        for step in [Step::ByStack(8), Step::ByBase(1 << 20), Step::End, Step::Unknown] {
            for (base_saved, evaluation) in [(0, true), (16, false), (4096, true)] {
                let rule = Rule::new(step, base_saved, evaluation);
                assert_eq!((rule.step(), rule.base_saved()), (step, base_saved));
                assert_eq!(rule.is_evaluation(), evaluation);
                assert_ne!(rule.0, 0);
            }
        }
    }
}
