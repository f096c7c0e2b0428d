//! The life of the process: how recording begins ([`start`]), what must be seen to while it
//! runs ([`tend`]), what a fork does to it ([`fork`]), and the moment before the interpreter's
//! teardown, and the end ([`end`]).

mod end;
mod fork;
mod start;
mod tend;

use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};

use crate::settings::{Settings, Snapshots};
use crate::spin::SpinLock;
use crate::{gate, sys};

pub use end::{check_final, end, not_ended};
pub use fork::{after_fork_in_child, after_fork_in_parent, before_fork};
pub use start::{OPENED, watch_for_interpreter};
pub use tend::{know_thread, modules_change, native_tick, on_new_site, tick, untended};

/// What the hooks do.
static PHASE: AtomicU8 = AtomicU8::new(PASSIVE);
const PASSIVE: u8 = 0;
const RECORDING: u8 = 1;
/// No interpreter yet; one may be loaded later.
const WATCHING: u8 = 2;

/// The process that records; not ours between `vfork` and `exec`.
static PID: AtomicU32 = AtomicU32::new(0);
/// When this process's recording began, and when the first one's did (epochs count from there).
static START_NS: AtomicU64 = AtomicU64::new(0);
static EPOCH_START_NS: AtomicU64 = AtomicU64::new(0);

static SETTINGS: SpinLock<Settings> = SpinLock::new(Settings::new());

/// When heap snapshots are taken.
pub fn snapshots() -> Snapshots {
    SETTINGS.lock().snapshots
}

/// Whether hooks record.
#[inline(always)]
pub fn recording() -> bool {
    PHASE.load(Relaxed) == RECORDING
}

fn enter(phase: u8) {
    PHASE.store(phase, SeqCst);
    gate::set(gate::NOT_RECORDING, phase != RECORDING);
}

/// Records no more: something that cannot be mended went wrong, or the end has come.
pub fn stop() {
    enter(PASSIVE);
}

/// Nanoseconds since recording began.
pub fn since_start_ns() -> u64 {
    sys::monotonic_ns().saturating_sub(START_NS.load(Relaxed))
}

/// Milliseconds since epochs began.
pub fn since_epoch_ms() -> u64 {
    sys::monotonic_ns().saturating_sub(EPOCH_START_NS.load(Relaxed)) / 1_000_000
}
