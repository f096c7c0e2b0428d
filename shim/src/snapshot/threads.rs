//! The threads that run Python, and their frames.

use pyshim_dump::record::Origin;

use crate::python::objects::Objects;
use crate::python::{self, state, walk};
use crate::snapshot::inputs::Frame;
use crate::snapshot::memory::Map;
use crate::{epoch, live, sites};

/// All running Python frames. `threads` are the ids of the process's threads. Only in a copy of the
/// process, in which nothing else runs.
pub fn frames(map: &Map, threads: &[u32], frames: &mut Vec<Frame>) {
    let (Some(layout), Some(objects)) = (state::layout(), python::object_layout()) else { return };
    let mut states = python::thread_states(threads);
    if state::finalizing() != 0 {
        unlisted(map, objects, &mut states);
    }
    for (tstate, thread) in states {
        // SAFETY: this is a copy of the process, in which nothing else runs.
        unsafe {
            walk::frames_of(tstate, |address, frame| {
                let int = |at: u16| *((frame.code + at as usize) as *const i32) as usize;
                let locals = address + objects.frame_locals as usize;
                // Variables, then what is being computed.
                let slots = match layout.minor {
                    ..=10 => int(objects.code_nlocals) + 64,
                    11 => int(objects.code_nlocals) + int(objects.code_stack),
                    _ => int(objects.code_stack).saturating_sub(objects.frame_locals as usize / 8),
                };
                frames.push(Frame {
                    address,
                    locals,
                    end: locals + slots.min(1 << 16) * 8,
                    code: frame.code,
                    instruction: frame.instruction,
                    thread,
                });
            });
        }
    }
}

/// `PyThreadState` has so many bytes, in every version.
const STATE_SIZES: core::ops::Range<usize> = 200..4096;

/// Adds states that no list has any more: as the teardown begins, the interpreter takes those of
/// daemon threads out of its own. They are blocks of its raw allocator, and each says which
/// interpreter and which thread it belongs to.
fn unlisted(map: &Map, layout: &Objects, states: &mut Vec<(usize, u64)>) {
    let main = python::main_interpreter();
    let mut found = Vec::new();
    live::visit_addresses(|address, block| {
        let origin = sites::origin(block.site, epoch::whose(block.epoch));
        if !STATE_SIZES.contains(&block.size) || origin != Some(Origin::Raw) {
            return;
        }
        let read = |at: usize| map.read::<usize>(address + at).unwrap_or(0);
        let thread = read(layout.tstate_thread_id as usize);
        // A thread that lives has its own address at the start of its control block, twice.
        let lives = || [0, 16].iter().all(|at| map.read::<usize>(thread + at) == Some(thread));
        if main != 0 && read(state::INTERPRETER) == main && thread != 0 && lives() {
            found.push((address, thread as u64));
        }
    });
    found.retain(|state| states.iter().all(|known| known.0 != state.0));
    states.extend(found);
}
