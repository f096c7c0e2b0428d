//! Whether an interpreter's frames lie as its layout says: proved on the first stack that there is,
//! reading through the kernel. A wrong offset then costs the Python frames, not the process.

use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

use pyshim_dump::record::Record;

use super::frame;
use super::layout::{FrameRoot, Layout};
use super::state::{load, thread_state};
use crate::sites::SITES;
use crate::{gate, sys};

/// Whether the layout has shown itself right: 0 not yet, 1 yes, 2 it is wrong.
static TRUSTED: AtomicU8 = AtomicU8::new(0);
static FAILED_TRIALS: AtomicU8 = AtomicU8::new(0);

/// Whether it was proved.
#[inline(always)]
pub(super) fn is_passed() -> bool {
    TRUSTED.load(Relaxed) == 1
}

/// Proves it, if it can be proved now.
#[cold]
pub(super) fn pass(layout: &'static Layout) -> bool {
    if TRUSTED.load(Relaxed) == 2 {
        return false;
    }
    match trial(layout) {
        None => false,
        Some(true) => {
            TRUSTED.store(1, Relaxed);
            gate::set(gate::UNPROVED, false);
            true
        }
        Some(false) => {
            // A frame may be half made at some moment; at sixteen it is not.
            if FAILED_TRIALS.fetch_add(1, Relaxed) >= 16 && TRUSTED.swap(2, Relaxed) != 2 {
                let text = "no Python frames: those of this interpreter do not lie where they should, or \
                            the system lets nobody look";
                SITES.lock().announce(&Record::Note { text: text.to_owned() });
            }
            false
        }
    }
}

fn careful(address: usize) -> Option<usize> {
    let mut word = [0u8; 8];
    sys::read_memory(address as u64, &mut word).then(|| usize::from_le_bytes(word))
}

/// The first `_PyCFrame` lies in the thread state, this near to its start.
const FIRST_CFRAME: usize = 512;

/// `None` if this thread has no Python frame now.
fn trial(layout: &Layout) -> Option<bool> {
    let tstate = thread_state();
    if tstate == 0 {
        return None;
    }
    // SAFETY: every version's thread state is larger than any of the offsets that are tried.
    let first: usize = unsafe { load(tstate + layout.tstate_frame as usize) };
    if first == 0 {
        return None;
    }
    let mut frame = Some(first);
    if layout.root == FrameRoot::CFrame {
        frame = if first.wrapping_sub(tstate) < FIRST_CFRAME {
            // SAFETY: the first `_PyCFrame` is a part of the thread state itself.
            Some(unsafe { load(first + layout.cframe_current as usize) })
        } else {
            careful(first + layout.cframe_current as usize)
        };
    }
    if frame == Some(0) {
        return None;
    }
    let mut codes = 0;
    for _ in 0..10_000 {
        let Some(at) = frame else { return Some(false) };
        if at == 0 {
            return if codes > 0 { Some(true) } else { None };
        }
        let owner = layout.frame_owner.and_then(|offset| {
            careful((at + offset as usize) & !7)
                .map(|word| (word >> (((at + offset as usize) & 7) * 8)) as u8)
        });
        if !owner.is_some_and(|owner| layout.entry.is_boundary(owner)) {
            let code = careful(at + layout.frame_code as usize).unwrap_or(0);
            match careful((code & layout.code_mask as usize) + 8) {
                Some(kind) if frame::is_code_type(kind) => codes += 1,
                _ => return Some(false),
            }
        }
        frame = careful(at + layout.frame_previous as usize);
    }
    Some(false)
}
