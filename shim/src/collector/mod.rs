//! What is not done on the allocating thread: a thread of the shim's own takes
//! new definitions from the channel into the log, and notes modules, timeline
//! and census.
//!
//! The thread runs beside the program but is no part of it: all signals are
//! blocked in it, its descriptors are its own, and it holds the guard for good.
//! It ends before every fork of the program (an interpreter counts its threads
//! there, and warns) and starts again a little later.

pub mod census;
pub mod gauges;
pub mod modules;
pub mod timeline;

use core::ffi::c_void;
use core::sync::atomic::{
    AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst,
};
use std::sync::OnceLock;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use pyshim_dump::record::Record;

use crate::guard::{Guard, thread_pointer};
use crate::sites::SITES;
use crate::spin::{Locked, SpinLock};
use crate::store::{self, Batch, STORE};
use crate::{epoch, life, park, snapshot, sys};

/// Batches of definitions that the channel holds.
const CHANNEL: usize = 64;
/// Between two rounds of the thread. A killed process has lost at most this much, but for points of
/// the timeline.
const ROUND_NS: u64 = 40_000_000;
/// After a fork the thread stays away for this long.
const AFTER_FORK_NS: u64 = 100_000_000;
/// A program that ends sooner than this never sees the thread.
const AFTER_START_NS: u64 = 20_000_000;

static LINE: OnceLock<(Sender<Batch>, Receiver<Batch>)> = OnceLock::new();

/// What the rounds keep between them.
pub struct Rounds {
    /// Live memory over time.
    pub timeline: timeline::Keeper,
    /// Sizes and ages.
    pub census: census::Keeper,
    /// Program files.
    pub modules: modules::Keeper,
}

/// See [`Rounds`]; taken by the thread, and by whoever ends the process.
pub static ROUNDS: SpinLock<Rounds> = SpinLock::new(Rounds {
    timeline: timeline::Keeper::new(),
    census: census::Keeper::new(),
    modules: modules::Keeper::new(),
});

/// Sets the channel up.
pub fn prepare() {
    LINE.get_or_init(|| bounded(CHANNEL));
}

/// Puts a batch of definitions into the channel, or gives it back. Neither waits nor
/// allocates: the receiving side never blocks on the channel, so nobody is woken.
pub fn send(batch: Batch) -> Result<(), Batch> {
    match LINE.get() {
        Some((sender, _)) => sender.try_send(batch).map_err(|error| match error {
            TrySendError::Full(batch) | TrySendError::Disconnected(batch) => batch,
        }),
        None => Err(batch),
    }
}

/// The batches in the channel.
pub fn received() -> impl Iterator<Item = Batch> {
    LINE.get().into_iter().flat_map(|(_, receiver)| receiver.try_iter().take(CHANNEL))
}

/// In a forked child: what its parent was about to write is the parent's.
pub fn discard() {
    received().for_each(drop);
    *ROUNDS.lock() = Rounds {
        timeline: timeline::Keeper::new(),
        census: census::Keeper::new(),
        modules: modules::Keeper::new(),
    };
}

/// One round. Called by the thread, and once more before stock is taken.
pub fn round(last: bool) {
    let now = life::since_start_ns();
    let header = store::header();
    header.heartbeat_ns.store(now, Relaxed);
    epoch::advance(life::since_epoch_ms());
    epoch::merge_if_crowded();
    let mut rounds = definitions(now);
    let rounds = &mut *rounds;
    rounds.timeline.round(now, last);
    if !last {
        rounds.census.round(now);
    }
}

/// At the end, after stock was taken: what was defined meanwhile.
pub fn last_definitions() {
    drop(definitions(life::since_start_ns()));
}

/// Brings what is new of modules and sites into the log.
fn definitions(now: u64) -> Locked<'static, Rounds> {
    // The loader's lock is taken here, so none of ours may be held.
    let modules = modules::look();
    let mut rounds = ROUNDS.lock();
    if let Some(modules) = modules {
        rounds.modules.note(modules, now);
    }
    let mut sites = SITES.lock();
    let mut store = STORE.lock();
    if store.exists() {
        let batches = sites.take_definitions();
        // New stacks need not wait until these are written.
        drop(sites);
        batches.into_iter().for_each(|batch| store.append(batch));
        // Threads want counters of their own at sites that are not new.
        store.make_further_room();
    }
    rounds
}

/// Writes down the name that somebody gave to this moment.
fn take_marks() {
    let beside = &store::header().beside;
    let marked = beside.marked.load(SeqCst);
    if marked == beside.noted.load(Relaxed) {
        return;
    }
    let len = (beside.mark_len.load(Relaxed) as usize).min(beside.mark.len());
    let label: Vec<u8> = beside.mark.iter().take(len).map(|byte| byte.load(Relaxed)).collect();
    let label = String::from_utf8_lossy(&label).into_owned();
    let mut sites = SITES.lock();
    sites.announce(&Record::Mark { at_ns: life::since_start_ns(), label });
    // Who is told that it is noted may ask for it at once.
    sites.write_out(&mut STORE.lock());
    drop(sites);
    beside.noted.store(marked, SeqCst);
}

// `pthread.h`; the crate has it not for this system.
unsafe extern "C" {
    fn pthread_setcancelstate(state: i32, old: *mut i32) -> i32;
}
const PTHREAD_CANCEL_DISABLE: i32 = 1;

/// What there is of the thread. Whoever makes it [`STARTING`] or [`ENDING`] is alone with that, and is
/// inside the shim: nobody who waits for it is the same thread.
static STATE: AtomicU8 = AtomicU8::new(ABSENT);
const ABSENT: u8 = 0;
const STARTING: u8 = 1;
const RUNNING: u8 = 2;
const ENDING: u8 = 3;

static STOPPING: AtomicU32 = AtomicU32::new(0);
static HANDLE: AtomicU64 = AtomicU64::new(0);
static THREAD_ID: AtomicU32 = AtomicU32::new(0);
/// The thread's pointer to its local storage, which lies at the top of its stack.
static TOP: AtomicUsize = AtomicUsize::new(0);
const STACK: usize = 256 << 10;
static NOT_BEFORE: AtomicU64 = AtomicU64::new(0);

/// The thread may start from `ns` after the start on.
pub fn not_before(ns: u64) {
    NOT_BEFORE.store(ns, Relaxed);
}

/// Sets the earliest time after the start of the process.
pub fn after_start() {
    not_before(AFTER_START_NS);
}

/// Whether the thread does not run.
#[inline]
pub fn is_missing() -> bool {
    STATE.load(Relaxed) == ABSENT
}

fn change(from: u8, to: u8) -> bool {
    STATE.compare_exchange(from, to, SeqCst, SeqCst).is_ok()
}

/// Starts the thread if it does not run and may. The caller must be where
/// `pthread_create` may be called: not inside the C library or the loader.
pub fn ensure(guard: &Guard, now_ns: u64) {
    if !is_missing() || now_ns < NOT_BEFORE.load(Relaxed) || !life::recording() {
        return;
    }
    if !change(ABSENT, STARTING) {
        return;
    }
    if start(guard) {
        STATE.store(RUNNING, SeqCst);
    } else {
        not_before(now_ns + 1_000_000_000);
        STATE.store(ABSENT, SeqCst);
    }
}

fn start(_: &Guard) -> bool {
    STOPPING.store(0, SeqCst);
    // SAFETY: plain C data, initialized by the calls below before use; the new thread starts with
    // the mask that is in force, and the old mask is put back.
    unsafe {
        let mut attributes: libc::pthread_attr_t = core::mem::zeroed();
        if libc::pthread_attr_init(&mut attributes) != 0 {
            return false;
        }
        libc::pthread_attr_setstacksize(&mut attributes, STACK);
        let mut all: libc::sigset_t = core::mem::zeroed();
        let mut before: libc::sigset_t = core::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
        let mut handle: libc::pthread_t = 0;
        let errno = *libc::__errno_location();
        let result = libc::pthread_create(&mut handle, &attributes, run, core::ptr::null_mut());
        *libc::__errno_location() = errno;
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, core::ptr::null_mut());
        libc::pthread_attr_destroy(&mut attributes);
        HANDLE.store(handle, SeqCst);
        result == 0
    }
}

extern "C" fn run(_: *mut c_void) -> *mut c_void {
    let guard = Guard::enter_forever();
    THREAD_ID.store(sys::thread_id(), SeqCst);
    TOP.store(thread_pointer(), SeqCst);
    sys::own_descriptors();
    // SAFETY: the name is a string that ends in zero.
    unsafe { libc::prctl(libc::PR_SET_NAME, c"pyshim".as_ptr()) };
    while STOPPING.load(SeqCst) == 0 {
        park::heed();
        // (While the process tries to become another program nothing is recorded. It may stay this one.)
        if life::recording() {
            round(false);
            take_marks();
            snapshot::round(&guard, life::since_start_ns());
        }
        sys::futex_wait(&STOPPING, 0, ROUND_NS);
    }
    core::ptr::null_mut()
}

/// Ends the thread and waits until it is gone for the kernel too. For threads that are inside the shim,
/// and were not before.
pub fn stop(_: &Guard) {
    while !change(RUNNING, ENDING) {
        if is_missing() {
            return;
        }
        // Another thread starts it, or ends it: two may fork at once.
        sys::yield_now();
    }
    STOPPING.store(1, SeqCst);
    sys::futex_wake(&STOPPING);
    let handle = HANDLE.load(SeqCst);
    // SAFETY: `start` created the thread, joinable, before the state was RUNNING. It is joined once: here,
    // by whoever made the state ENDING, which it is until the next one may be started.
    // Whoever forks and is to be cancelled must not be here, where the C library would do it.
    unsafe {
        let mut before = 0;
        pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &mut before);
        libc::pthread_join(handle, core::ptr::null_mut());
        pthread_setcancelstate(before, &mut before);
    }
    let tid = THREAD_ID.load(SeqCst);
    let mut tries = 0;
    while tid != 0 && sys::thread_exists(tid) && tries < 1000 {
        sys::yield_now();
        tries += 1;
    }
    not_before(life::since_start_ns() + AFTER_FORK_NS);
    STATE.store(ABSENT, SeqCst);
}

/// Brings the thread to a place where all that it holds is whole: for a fork by a thread that may
/// hold any lock. What [`park::go_on`] wants; 0: there is no thread.
pub fn stand_still() -> u32 {
    if is_missing() { 0 } else { park::ask(|| sys::futex_wake(&STOPPING)) }
}

/// The thread's id in the system; 0: it never ran.
pub fn thread_id() -> u32 {
    THREAD_ID.load(SeqCst)
}

/// Where the thread's stack lies: start and end; nothing if it does not run.
pub fn stack() -> Option<(usize, usize)> {
    let top = TOP.load(SeqCst);
    (!is_missing())
        .then(|| (top.saturating_sub(STACK + 8192) & !4095, (top + 4096).next_multiple_of(4096)))
}

/// Whether the calling thread is this one.
pub fn is_this_thread() -> bool {
    !is_missing() && sys::thread_id() == thread_id()
}

/// In a forked child there is no such thread.
pub fn gone() {
    STATE.store(ABSENT, SeqCst);
}
