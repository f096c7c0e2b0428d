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
    UnwindSection, X86_64,
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

/// What is known of a return address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// How to step out.
    pub step: Step,
    /// Where the caller's rbp was saved, in bytes below the caller's frame; 0: nowhere.
    pub base_saved: usize,
    /// Whether the function is the interpreter's evaluation loop.
    pub evaluation: bool,
}

const UNKNOWN: Rule = Rule { step: Step::Unknown, base_saved: 0, evaluation: false };

// Packed: bits 0..2 kind, 2 evaluation, 3 known, 8..40 offset in bytes, 40..64 base_saved.
impl Rule {
    fn pack(self) -> u64 {
        let (kind, offset) = match self.step {
            Step::ByStack(offset) => (0, offset),
            Step::ByBase(offset) => (1, offset),
            Step::End => (2, 0),
            Step::Unknown => (3, 0),
        };
        kind | u64::from(self.evaluation) << 2
            | 1 << 3
            | (offset as u64 & 0xffff_ffff) << 8
            | (self.base_saved as u64) << 40
    }

    fn unpack(word: u64) -> Rule {
        let offset = (word >> 8 & 0xffff_ffff) as usize;
        Rule {
            step: match word & 3 {
                0 => Step::ByStack(offset),
                1 => Step::ByBase(offset),
                2 => Step::End,
                _ => Step::Unknown,
            },
            base_saved: (word >> 40) as usize,
            evaluation: word & 4 != 0,
        }
    }
}

const SLOTS: usize = 1 << 16;
static TABLE: AtomicPtr<[AtomicU64; 2]> = AtomicPtr::new(core::ptr::null_mut());
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
}

fn slots() -> &'static [[AtomicU64; 2]] {
    let table = TABLE.load(Acquire);
    if table.is_null() {
        return &[];
    }
    // SAFETY: SLOTS zeroed pairs, mapped for good before the pointer was published.
    unsafe { core::slice::from_raw_parts(table, SLOTS) }
}

fn home(pc: u64) -> usize {
    (scatter(pc) >> 48) as usize
}

/// The rule of a return address.
#[inline]
pub fn rule(pc: u64) -> Rule {
    let slots = slots();
    let mut index = home(pc);
    while let Some(slot) = slots.get(index & (SLOTS - 1)) {
        let known = slot[0].load(Acquire);
        if known == pc {
            let rule = slot[1].load(Acquire);
            // A slot may be given away in between; the table is then being emptied.
            if slot[0].load(Relaxed) == pc {
                return Rule::unpack(rule);
            }
            break;
        }
        if known == 0 {
            break;
        }
        index += 1;
    }
    learn(pc)
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
    let (rule, row) = match known {
        Some(rule) => (rule, None),
        None => look_up(address).map_or((UNKNOWN, None), |(rule, row)| (rule, Some(row))),
    };
    let mut learning = LEARNING.lock();
    if let Some(row) = row {
        learning.keep(row, rule);
    }
    if TABLE.load(Relaxed).is_null() {
        match sys::reserve(SLOTS * size_of::<[AtomicU64; 2]>()) {
            Ok(table) => TABLE.store(table.cast(), Release),
            Err(_) => return rule,
        }
    }
    if learning.used * 2 > SLOTS {
        empty(&mut learning);
    }
    let slots = slots();
    let mut index = home(pc);
    while let Some(slot) = slots.get(index & (SLOTS - 1)) {
        match slot[0].load(Relaxed) {
            0 => {
                slot[1].store(rule.pack(), Release);
                slot[0].store(pc, Release);
                learning.used += 1;
                break;
            }
            known if known == pc => break,
            _ => index += 1,
        }
    }
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
}

/// For the time of a fork.
pub fn hold() {
    LEARNING.hold();
}

/// After it, on both sides.
pub fn release() {
    LEARNING.release();
}

/// Reads the unwind tables of the file that holds the code at `address`. With the rule comes for which
/// addresses it holds.
fn look_up(address: u64) -> Option<(Rule, Range<u64>)> {
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
    let mut context = UnwindContext::new();
    let row = fde.unwind_info_for_address(&section, &bases, &mut context, address).ok()?;
    let evaluation = fde.initial_address() as usize == EVALUATION.load(Relaxed);
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
    let row = row.start_address()..row.end_address();
    sane.then_some((Rule { step, base_saved, evaluation }, row))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_good_for_its_addresses_alone() {
        let mut learning = Learning { used: 0, rows: BTreeMap::new() };
        let rule = |offset| Rule { step: Step::ByStack(offset), ..UNKNOWN };
        learning.keep(100..110, rule(8));
        learning.keep(110..120, rule(16));
        learning.keep(200..201, rule(24));
        let offsets = [99, 100, 109, 110, 119, 120, 199, 200, 201].map(|address| {
            let Step::ByStack(offset) = learning.rule(address)?.step else { return None };
            Some(offset)
        });
        let (a, b, c) = (Some(8), Some(16), Some(24));
        assert_eq!(offsets, [None, a, a, b, b, None, None, c, None]);
    }

    #[test]
    fn rules_fit_a_word() {
        for step in [Step::ByStack(8), Step::ByBase(1 << 20), Step::End, Step::Unknown] {
            for (base_saved, evaluation) in [(0, true), (16, false), (4096, true)] {
                let rule = Rule { step, base_saved, evaluation };
                assert_eq!(Rule::unpack(rule.pack()), rule);
                assert_ne!(rule.pack(), 0);
            }
        }
    }
}
