//! The heap snapshot: a forked copy of the process searches its memory and
//! writes into the dump who holds what. The program itself pauses for the fork.
//!
//! The stations, in order: [`inputs`] is what the copy is told, [`threads`] which Python frames run, [`memory`] the
//! map of its addresses, [`nodes`] its blocks by number, [`objects`] tells which
//! of them are Python's, [`fields`] and [`stale`] which of their words are none, [`garbage`] what its collector would take, [`search`]
//! and [`graph`] who refers to whom, [`unlisted`] what the table of live blocks lacks, [`dominators`] what hangs from what,
//! [`groups`] what has one explanation, [`naming`] and [`words`] (with
//! [`content`]) what people call it, [`table`] where resident memory is.
//! [`child`] does these one after another; [`fault`] keeps it going.

mod child;
mod content;
mod dominators;
mod fault;
mod fields;
mod garbage;
mod graph;
mod groups;
mod inputs;
mod memory;
mod naming;
mod nodes;
mod objects;
mod retained;
mod search;
mod stale;
mod table;
mod threads;
mod unlisted;
mod words;

use core::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::Release,
    Ordering::SeqCst,
};

use pyshim_dump::heap::Moment;
use pyshim_dump::layout::{Gauge, SnapshotFailure, SnapshotState};

use crate::guard::{Guard, thread_pointer};
use crate::packing;
use crate::python;
use crate::spin::SpinLock;
use crate::store::{self, STORE};
use crate::{gate, heap, life, mappings, peak, sample, sys};

pub use child::Interpreter;
pub use objects::Known;

use inputs::{Inputs, Thread};
use memory::Map;

/// A snapshot was asked for; the next allocation under the interpreter lock takes it.
static WANTED: AtomicBool = AtomicBool::new(false);
/// Which, as a [`Moment`].
static WANTED_FOR: AtomicU32 = AtomicU32::new(0);
/// When it was asked for.
static WANTED_SINCE: AtomicU64 = AtomicU64::new(0);
/// The request that is being answered.
static ANSWERING: AtomicU32 = AtomicU32::new(0);
/// So many threads are about to make a copy, whose id is not known yet: one, but for a moment.
static TAKING: AtomicU32 = AtomicU32::new(0);
/// What was found out beforehand.
static PREPARED: SpinLock<Prepared> = SpinLock::new(Prepared::new());
/// The first thread's pointer.
static MAIN_THREAD: AtomicUsize = AtomicUsize::new(0);

/// What takes too long to find out while the program waits.
struct Prepared {
    threads: Vec<Thread>,
    /// Other threads than ours, and whether one of them was running.
    others: u32,
    running: bool,
    smaps: Vec<u8>,
}

impl Prepared {
    const fn new() -> Prepared {
        Prepared { threads: Vec::new(), others: 0, running: false, smaps: Vec::new() }
    }
}

/// So long the allocating threads have to take it, before the collector does.
const PATIENCE_NS: u64 = 120_000_000;
/// Bytes of thread-local storage that are searched below the first thread's pointer.
const LOCAL_STORAGE: usize = 64 << 10;
/// Room for a snapshot in the dump: within these limits, a byte for so many live ones.
const ROOM: (usize, usize) = (512 << 10, 4 << 20);
const BYTES_PER_ROOM: usize = 16;
/// A copy that takes longer than this is ended.
const LONGEST_S: u64 = 60;

/// Called by the first thread, at the start.
pub fn prepare() {
    MAIN_THREAD.store(thread_pointer(), Relaxed);
}

/// Whether a snapshot waits for an allocation under the interpreter lock.
#[inline(always)]
pub fn wanted() -> bool {
    WANTED.load(Relaxed)
}

/// No longer; whether one was.
fn unwant() -> bool {
    gate::set(gate::SNAPSHOT, false);
    WANTED.swap(false, SeqCst)
}

/// Takes the snapshot that waits. Called under the interpreter lock.
#[cold]
#[inline(never)]
pub fn take_wanted(guard: &Guard) {
    take_if_wanted(guard, true);
}

fn take_if_wanted(guard: &Guard, under_lock: bool) {
    TAKING.fetch_add(1, SeqCst);
    if unwant() {
        if !under_lock {
            // Nobody allocates: as good as asleep.
            look_at_threads(&mut PREPARED.lock());
        }
        take(guard, child::moment(WANTED_FOR.load(Relaxed)), under_lock);
    }
    TAKING.fetch_sub(1, SeqCst);
}

/// The last one, before the teardown or the end. `smaps` is the text of the process's map.
pub fn take_last(guard: &Guard, smaps: Vec<u8>, live_bytes: u64, under_lock: bool) {
    // (Of a shorter run the reporter names no cause, so nobody asks who holds what grew.)
    const SHORT_NS: u64 = 2_000_000_000;
    const SMALL: u64 = 16 << 20;
    let settings = life::snapshots();
    let small = || life::since_start_ns() < SHORT_NS && in_use(live_bytes) < SMALL;
    if !settings.last || (!settings.always && small()) || has_let_go(live_bytes) {
        return;
    }
    abandon();
    let mut prepared = PREPARED.lock();
    look_at_threads(&mut prepared);
    prepared.smaps = smaps;
    drop(prepared);
    take(guard, Moment::Last, under_lock);
}

/// Of live bytes those that take memory, as last read: mappings are often made for what may come, and
/// touched in part.
fn in_use(live_bytes: u64) -> u64 {
    let mapped = mappings::covered(0, usize::MAX) as u64;
    let resident = store::header().gauges[Gauge::Mapped as usize].load(Relaxed);
    live_bytes.saturating_sub(mapped) + resident
}

/// Live bytes when the last snapshot was taken.
static LIVE_THEN: AtomicU64 = AtomicU64::new(0);

/// Whether the program has let go, for its end, of much that an earlier snapshot saw. That one says
/// who held it, and this one would stand in its place.
fn has_let_go(live_bytes: u64) -> bool {
    const MUCH: u64 = 1 << 20;
    let then = LIVE_THEN.load(Relaxed);
    let beside = &store::header().beside;
    let failed = beside.state.load(Relaxed) == SnapshotState::Failed as u32;
    !failed && live_bytes < then.saturating_sub((then / 10).max(MUCH))
}

/// The collector's round: what is asked of the process, and what became of the last snapshot.
pub fn round(guard: &Guard, now_ns: u64) {
    reap();
    let beside = &store::header().beside;
    if WANTED.load(Relaxed) {
        if now_ns.saturating_sub(WANTED_SINCE.load(Relaxed)) > PATIENCE_NS {
            take_if_wanted(guard, false);
        }
        return;
    }
    // (It says that it is done before it has ended, which takes long where much memory is let go; what
    // it was asked for counts as answered after that.)
    if TAKING.load(SeqCst) != 0
        || beside.pid.load(Relaxed) != 0
        || beside.state.load(Relaxed) == SnapshotState::Running as u32
    {
        return;
    }
    let asked = beside.asked.load(Relaxed);
    if asked != beside.answered.load(Relaxed) {
        ANSWERING.store(asked, Relaxed);
        return want(Moment::Asked, now_ns);
    }
    let settings = life::snapshots();
    let last = beside.began_ns.load(Relaxed);
    if settings.every_ns != 0 && now_ns.saturating_sub(last) >= settings.every_ns {
        return want(Moment::Timer, now_ns);
    }
    if settings.at_percent != 0 && close_to_limit(settings.at_percent, now_ns) {
        want(Moment::Limit, now_ns);
    }
}

fn want(moment: Moment, now_ns: u64) {
    let smaps = memory::smaps();
    let mut prepared = PREPARED.lock();
    look_at_threads(&mut prepared);
    prepared.smaps = smaps;
    drop(prepared);
    store::header().beside.began_ns.store(now_ns, Relaxed);
    WANTED_FOR.store(moment as u32, Relaxed);
    WANTED_SINCE.store(now_ns, Relaxed);
    WANTED.store(true, SeqCst);
    gate::set(gate::SNAPSHOT, true);
}

/// Whether memory has come close to its limit for the first time.
fn close_to_limit(percent: u64, now_ns: u64) -> bool {
    static DONE: AtomicBool = AtomicBool::new(false);
    static LOOKED: AtomicU64 = AtomicU64::new(0);
    if DONE.load(Relaxed) || now_ns.saturating_sub(LOOKED.load(Relaxed)) < 1_000_000_000 {
        return false;
    }
    LOOKED.store(now_ns, Relaxed);
    let limit = crate::collector::gauges::memory_limit();
    if limit == 0 || crate::collector::gauges::resident() < limit / 100 * percent {
        return false;
    }
    DONE.store(true, Relaxed);
    true
}

/// Where the stacks of the threads are in use.
fn look_at_threads(prepared: &mut Prepared) {
    prepared.threads.clear();
    prepared.others = 0;
    prepared.running = false;
    let own = sys::thread_id();
    for id in sys::threads() {
        if id == own || id == crate::collector::thread_id() {
            continue;
        }
        prepared.others += 1;
        let text = sys::read_file(format!("/proc/self/task/{id}/syscall\0").as_bytes());
        let text = String::from_utf8_lossy(&text);
        let fields: Vec<&str> = text.split_ascii_whitespace().collect();
        // number, six arguments, stack pointer, program counter; or the word "running"
        let stack = match fields.len() {
            9 => fields.get(7),
            3 => fields.get(1),
            _ => None,
        };
        let stack = stack
            .and_then(|word| usize::from_str_radix(word.trim_start_matches("0x"), 16).ok())
            .filter(|&stack| stack != 0);
        match stack {
            Some(stack) => prepared.threads.push(Thread { id, stack: stack.saturating_sub(128) }),
            None => prepared.running = true,
        }
    }
}

/// Forks, and has the copy search.
fn take(_: &Guard, moment: Moment, under_lock: bool) {
    let beside = &store::header().beside;
    let room = (peak::live_bytes() as usize / BYTES_PER_ROOM).clamp(ROOM.0, ROOM.1);
    let began = sys::monotonic_ns();
    LIVE_THEN.store(peak::live_bytes(), Relaxed);
    beside.began_ns.store(life::since_start_ns(), Relaxed);
    let place = match STORE.lock().room_for_heap(room) {
        Ok(place) => place,
        Err(_) => return fail(SnapshotFailure::Room),
    };
    beside.state.store(SnapshotState::Running as u32, SeqCst);
    packing::copy_begins();
    let sp = stack_pointer();
    let mask = sys::block_signals();
    // The copy must find these whole.
    mappings::hold();
    python::arenas::hold();
    let prepared = PREPARED.lock();
    heap::HEAP.hold();
    let forked = sys::fork_quietly();
    heap::HEAP.release();
    python::arenas::release();
    mappings::release();
    match forked {
        Ok(0) => {
            let pause_us = (sys::monotonic_ns() - began) / 1000;
            run(&prepared, moment, under_lock, sp, pause_us, place);
        }
        Ok(pid) => {
            drop(prepared);
            beside.pid.store(pid, SeqCst);
            sys::restore_signals(mask);
        }
        Err(_) => {
            drop(prepared);
            sys::restore_signals(mask);
            fail(SnapshotFailure::Fork);
        }
    }
}

fn fail(failure: SnapshotFailure) {
    let beside = &store::header().beside;
    beside.failure.store(failure as u32, Relaxed);
    beside.failed.fetch_add(1, Relaxed);
    beside.state.store(SnapshotState::Failed as u32, SeqCst);
    // Last: whoever sees the answer sees what it is.
    beside.answered.store(ANSWERING.load(Relaxed), Release);
}

/// Looks whether the copy has ended.
pub fn reap() {
    let beside = &store::header().beside;
    let pid = beside.pid.load(SeqCst);
    if pid == 0 || !sys::has_ended(pid) {
        return;
    }
    // This is its last word, unless somebody has begun another one meanwhile: then its id is gone.
    let state = beside.state.load(SeqCst);
    if beside.pid.compare_exchange(pid, 0, SeqCst, SeqCst).is_err() {
        return;
    }
    if state == SnapshotState::Running as u32 {
        fail(SnapshotFailure::Ended);
    } else {
        beside.answered.store(ANSWERING.load(Relaxed), Release);
    }
}

/// Ends a copy that still searches: a later one is worth more. Whoever sees its end must not take it for
/// a failure.
fn abandon() {
    unwant();
    // (A moment.)
    for _ in 0..MOST_NAPS {
        if TAKING.load(SeqCst) == 0 {
            break;
        }
        sys::sleep_ns(NAP_NS);
    }
    let beside = &store::header().beside;
    let pid = beside.pid.load(SeqCst);
    if pid != 0 && !sys::has_ended(pid) {
        let (running, none) = (SnapshotState::Running as u32, SnapshotState::None as u32);
        let _ = beside.state.compare_exchange(running, none, SeqCst, SeqCst);
        sys::kill(pid);
        while !sys::has_ended(pid) {
            sys::yield_now();
        }
    }
    beside.pid.store(0, SeqCst);
}

const NAP_NS: u64 = 1_000_000;
/// A second.
const MOST_NAPS: u32 = 1000;

/// Whether a copy of the process searches.
pub fn is_running() -> bool {
    let pid = store::header().beside.pid.load(Relaxed);
    pid != 0 && !sys::has_ended(pid)
}

/// At the end of the process: in a container's first process the copy would end with it.
pub fn linger() {
    const LONGEST_NS: u64 = 15_000_000_000;
    let pid = store::header().beside.pid.load(Relaxed);
    if pid == 0 || sys::pid() != 1 {
        return;
    }
    let began = sys::monotonic_ns();
    while !sys::has_ended(pid) && sys::monotonic_ns() - began < LONGEST_NS {
        sys::sleep_ns(2_000_000);
    }
}

/// For the time of a fork of the program's.
pub fn hold() {
    PREPARED.hold();
}

/// After it, on both sides.
pub fn release() {
    PREPARED.release();
}

/// In a forked child of the program: the copy is its parent's.
pub fn forget() {
    unwant();
    TAKING.store(0, Relaxed);
    LIVE_THEN.store(0, Relaxed);
}

fn stack_pointer() -> usize {
    let sp: usize;
    // SAFETY: reads a register.
    unsafe { core::arch::asm!("mov {0}, rsp", out(reg) sp, options(nomem, nostack)) };
    sp
}

/// The copy's whole life.
fn run(
    prepared: &Prepared,
    moment: Moment,
    under_lock: bool,
    sp: usize,
    pause_us: u64,
    place: store::HeapPlace,
) -> ! {
    sys::become_quiet_copy(LONGEST_S);
    fault::install();
    let began = sys::monotonic_ns();
    let at_ms = life::since_start_ns() / 1_000_000;
    let maps = b"/proc/self/maps\0";
    let room = sys::read_file(maps).len() * 2;
    let text = sys::read_file_sized(maps, room);
    // What the shim frees from here on was its own all the same.
    let before = sys::own_mappings();
    let mut map = Map::parse(&sys::text(&text));
    let smaps = if prepared.smaps.is_empty() { memory::smaps() } else { prepared.smaps.clone() };
    map.take_resident(&Map::parse(&sys::text(&smaps)));
    let mut inputs = gather(prepared, sp);
    inputs.own.extend(before);
    // It is told with some to spare, which another thread's stack may be.
    inputs.own.extend(crate::collector::stack().and_then(|(from, to)| {
        let region = map.find(from + (to - from) / 2)?;
        Some((from.max(region.start), to.min(region.end)))
    }));
    inputs.sort(&map);
    let interpreter = python::for_snapshot();
    if interpreter.is_some() {
        let threads: Vec<u32> = inputs.threads.iter().map(|thread| thread.id).collect();
        fault::protect(|| threads::frames(&map, &threads, &mut inputs.frames));
    }
    let mut heap = child::explore(&map, &inputs, interpreter.as_ref());
    heap.moment = moment;
    heap.at_ms = at_ms;
    heap.pause_us = pause_us;
    heap.search.notes.extend(core::mem::take(&mut *fault::DEFECTS.lock()));
    heap.search.at_rest = under_lock || !prepared.running;
    heap.search.blind_threads = prepared.others.into();
    heap.search_ms = (sys::monotonic_ns() - began) / 1_000_000;
    let bytes = child::fit(&mut heap, place.room());
    let beside = &store::header().beside;
    if !bytes.is_empty() && place.write(&bytes) {
        beside.taken.fetch_add(1, Relaxed);
        beside.state.store(SnapshotState::Done as u32, SeqCst);
    } else {
        fail(SnapshotFailure::Write);
    }
    place.finish();
    loop {
        sys::exit_group(0);
    }
}

fn gather(prepared: &Prepared, sp: usize) -> Inputs {
    let own_stack = if crate::collector::is_this_thread() {
        // The shim's own thread holds nothing of the program's.
        None
    } else {
        Some(Thread { id: sys::thread_id(), stack: sp })
    };
    let mut own = sys::own_mappings();
    own.extend(store::ranges());
    let mut threads: Vec<Thread> = own_stack.into_iter().collect();
    threads.extend_from_slice(&prepared.threads);
    Inputs {
        runtime: python::runtime(),
        atexit: python::atexit_callbacks(),
        frames: Vec::new(),
        threads,
        main_thread_pointer: MAIN_THREAD.load(Relaxed),
        local_storage: LOCAL_STORAGE,
        mappings: mappings::all(),
        own,
        arenas: python::arenas::known(),
        all_blocks_known: !sample::is_on()
            && store::header().inexact.load(Relaxed) == 0
            && python::hooks::record(),
    }
}
