//! The life of the process: how recording begins, what a fork does to it, the
//! moment before the interpreter's teardown, and the end.

use core::ffi::{c_char, c_int, c_void};
use core::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst,
};

use pyshim_dump::layout::{BlobKind, EndKind};
use pyshim_dump::record::{Process, Record};

use crate::collector::{self, ROUNDS, census, gauges, modules};
use crate::guard::{Guard, Thread, thread};
use crate::native::{self, Anchor, Extent};
use crate::python::{self, walk};
use crate::settings::{self, Follow, Settings, Snapshots};
use crate::sites::{self, SITES};
use crate::spin::SpinLock;
use crate::store::{self, Failure, Identity, STORE};
use crate::{
    epoch, gate, heap, live, log, mappings, park, peak, real, record, sample, snapshot, sys,
};

/// What the hooks do.
static PHASE: AtomicU8 = AtomicU8::new(PASSIVE);
const PASSIVE: u8 = 0;
const RECORDING: u8 = 1;
/// No interpreter yet; one may be loaded later.
const WATCHING: u8 = 2;

/// Whether `dlopen` was called: only then can an interpreter have appeared.
pub static OPENED: AtomicBool = AtomicBool::new(false);

/// The process that records; not ours between `vfork` and `exec`.
static PID: AtomicU32 = AtomicU32::new(0);
/// When this process's recording began, and when the first one's did (epochs count from there).
static START_NS: AtomicU64 = AtomicU64::new(0);
static EPOCH_START_NS: AtomicU64 = AtomicU64::new(0);
/// A forked child that has not needed a dump yet.
static UNBORN: AtomicBool = AtomicBool::new(false);
static FINAL_TAKEN: AtomicBool = AtomicBool::new(false);
static THREAD_KEY: AtomicU32 = AtomicU32::new(u32::MAX);
static MAIN_INTERPRETER: AtomicUsize = AtomicUsize::new(0);

/// Nothing of Python's asks for the collector: there is no interpreter, or its allocators are not
/// recorded.
static UNTENDED: AtomicBool = AtomicBool::new(false);

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

/// Runs before `main`, after the C library is set up.
#[cfg(not(test))]
#[used]
#[unsafe(link_section = ".init_array")]
static START: extern "C" fn(c_int, *const *const c_char, *const *const c_char) = start;

#[cfg_attr(test, allow(dead_code))]
extern "C" fn start(_: c_int, _: *const *const c_char, _: *const *const c_char) {
    let Some(guard) = Guard::enter() else { return };
    real::resolve();
    snapshot::prepare();
    if !heap::prepare() {
        return;
    }
    let mut settings = Settings::read(|name, value, wanted| {
        if !parent_is_shimmed() {
            log::complain(name, value, wanted);
        }
    });
    settings.begin_in(&sys::read_link(b"/proc/self/cwd\0"));
    log::set(settings.log.as_deref());
    if settings.follow == Follow::None {
        leave_children_alone();
    }
    let follow = settings.follow;
    *SETTINGS.lock() = settings;
    let python = real::symbol(libc::RTLD_DEFAULT, c"PyMem_SetAllocator") != 0;
    if python || follow == Follow::All {
        begin(&guard, python.then_some(libc::RTLD_DEFAULT));
    } else {
        native::prepare();
        enter(WATCHING);
    }
}

/// Whether the parent process has this library too, and so has said already what there was to say.
fn parent_is_shimmed() -> bool {
    let maps = sys::read_file(format!("/proc/{}/maps\0", sys::parent_pid()).as_bytes());
    maps.windows(LIBRARY.len()).any(|window| window == LIBRARY)
}

const LIBRARY: &[u8] = b"/libpyshim.so";

/// Takes this library out of `LD_PRELOAD`, so that child processes run without it.
fn leave_children_alone() {
    // SAFETY: the constructor runs before the program's threads; both strings end in zero, and the
    // value is copied by `setenv`.
    unsafe {
        let value = libc::getenv(c"LD_PRELOAD".as_ptr());
        if value.is_null() {
            return;
        }
        let value = core::ffi::CStr::from_ptr(value).to_string_lossy().into_owned();
        let others: Vec<&str> = value
            .split([':', ' '])
            .filter(|path| !path.is_empty() && !path.ends_with("libpyshim.so"))
            .collect();
        if others.is_empty() {
            libc::unsetenv(c"LD_PRELOAD".as_ptr());
        } else {
            let mut rest = others.join(":").into_bytes();
            rest.push(0);
            libc::setenv(c"LD_PRELOAD".as_ptr(), rest.as_ptr().cast(), 1);
        }
    }
}

/// With a limit below this the tables would take what the program needs itself.
const LEAST_ADDRESS_SPACE: u64 = 256 << 20;

/// Sets everything up and starts to record. `interpreter` is a handle in which it is found.
fn begin(guard: &Guard, interpreter: Option<*mut c_void>) {
    let now = sys::monotonic_ns();
    START_NS.store(now, Relaxed);
    EPOCH_START_NS.store(now, Relaxed);
    PID.store(sys::pid(), Relaxed);
    if sys::address_space_limit() < LEAST_ADDRESS_SPACE || !(live::prepare() && store::prepare()) {
        log::say("too little address space for its tables: nothing is recorded");
        return stop();
    }
    collector::prepare();
    collector::after_start();
    let (extent, hook_python) = {
        let settings = SETTINGS.lock();
        sample::set(settings.sample, settings.seed);
        (settings.native, settings.python)
    };
    let extent = if native::prepare() { extent } else { Extent::Off };
    record::EXTENT.store(extent as u8, Relaxed);
    gate::set(gate::NOT_LEAF, extent != Extent::Leaf && !sample::is_on());
    if !create_dump(false) {
        return stop();
    }
    // SAFETY: the handlers live as long as the process; runs once.
    unsafe {
        libc::pthread_atfork(
            Some(before_fork_handler),
            Some(after_fork_in_parent_handler),
            Some(after_fork_in_child_handler),
        );
        on_exit(exited, core::ptr::null_mut());
        let mut key = 0;
        if libc::pthread_key_create(&mut key, Some(thread_ended)) == 0 {
            THREAD_KEY.store(key, Relaxed);
        }
    }
    if let Some(handle) = interpreter {
        python::find(handle);
        if !hook_python {
            python::hooks::only_watch();
        }
        python::hooks::install();
    }
    write_process(interpreter.is_some());
    collector::round(false);
    enter(RECORDING);
    if interpreter.is_none() || !hook_python {
        UNTENDED.store(true, SeqCst);
        // No allocation of Python's will start it, and nothing here is a lock of the C library.
        collector::not_before(0);
        collector::ensure(guard, since_start_ns());
    }
}

unsafe extern "C" {
    fn on_exit(handler: extern "C" fn(c_int, *mut c_void), argument: *mut c_void) -> c_int;
}

/// Creates the dump of this process. Says why not, if not.
fn create_dump(forked: bool) -> bool {
    let executable = sys::read_link(b"/proc/self/exe\0");
    let program = executable.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    let (template, sample_mean) = {
        let settings = SETTINGS.lock();
        (settings.out.clone(), settings.sample)
    };
    let path = settings::expand(&template, sys::pid(), program);
    let identity = Identity {
        pid: sys::pid(),
        parent_pid: sys::parent_pid(),
        started_unix_ns: sys::unix_ns(),
        started_ticks: start_ticks(),
        sample_mean,
        forked,
    };
    let made = STORE.lock().create(&path, &identity);
    if let Err(failure) = made {
        let reason = match failure {
            Failure::System(errno) => format!("{} (error {})", describe(errno.0), errno.0),
            Failure::SizeLimit => "the limit on file sizes leaves no room".into(),
            Failure::Moved | Failure::NoFile => "the file is gone".into(),
            Failure::NoRoom => "there is no room for it".into(),
        };
        let path = String::from_utf8_lossy(&path);
        log::say(&format!(
            "cannot create {path}: {reason}; nothing is recorded (PYSHIM_OUT names another place)"
        ));
        return false;
    }
    // Site 0 is always there.
    store::header().site_count.fetch_max(1, Relaxed);
    true
}

fn describe(errno: i32) -> &'static str {
    match errno {
        libc::EACCES | libc::EPERM => "permission denied",
        libc::ENOENT => "no such folder",
        libc::ENOSPC | libc::EDQUOT => "no room on the disk",
        libc::EROFS => "read-only file system",
        libc::EMFILE | libc::ENFILE => "too many open files",
        libc::EFBIG => "the limit on file sizes leaves no room",
        _ => "the system refused",
    }
}

/// Field 22 of `/proc/self/stat`; the name before it may hold anything, so count from its end.
fn start_ticks() -> u64 {
    let stat = sys::read_file(b"/proc/self/stat\0");
    let text = String::from_utf8_lossy(&stat);
    let Some((_, rest)) = text.rsplit_once(')') else { return 0 };
    rest.split_ascii_whitespace().nth(19).and_then(|ticks| ticks.parse().ok()).unwrap_or(0)
}

/// Writes down what the process is.
fn write_process(python: bool) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let line = sys::read_file(b"/proc/self/cmdline\0");
    let line = line.strip_suffix(&[0]).unwrap_or(&line);
    let settings = SETTINGS.lock().describe();
    let process = Process {
        executable: text(&sys::read_link(b"/proc/self/exe\0")),
        argv: line.split(|&byte| byte == 0).map(text).collect(),
        directory: text(&sys::read_link(b"/proc/self/cwd\0")),
        python: if python { python::version() } else { String::new() },
        settings,
    };
    let mut sites = SITES.lock();
    sites.announce(&Record::Process(process));
    for note in notes() {
        sites.announce(&Record::Note { text: note });
    }
}

/// What a reader of the report should know from the start.
fn notes() -> Vec<String> {
    let mut notes = Vec::new();
    notes.extend(python::trouble());
    notes.extend(native::trouble());
    notes
}

/// Called where a stack is seen for the first time: rare enough for all that
/// must be looked at now and then.
pub fn on_new_site(guard: &Guard, anchor: Anchor, interpreter: Option<usize>) {
    be_born_in_time();
    tend_collector(guard, anchor);
    if let Some(interpreter) = interpreter {
        let main = MAIN_INTERPRETER.load(Relaxed);
        if main == 0 {
            MAIN_INTERPRETER.store(python::main_interpreter(), Relaxed);
        } else if main != interpreter {
            sites::SEVERAL_LOCKS.store(true, SeqCst);
            gate::set(gate::SEVERAL_LOCKS, true);
        }
    }
    python::hooks::look_after(guard);
}

/// Called every few thousand allocations under the interpreter lock.
#[cold]
#[inline(never)]
pub fn tick(guard: &Guard) {
    be_born_in_time();
    epoch::advance(since_epoch_ms());
    if walk::finalizing() == 0 {
        collector::ensure(guard, since_start_ns());
        if collector::is_missing() {
            // It is too early for it; a program that does little from now on needs it too.
            guard.thread.until_tick.set(SOON);
        }
    }
}

/// Whether allocations of native code must do what Python's do elsewhere.
#[inline(always)]
pub fn untended() -> bool {
    UNTENDED.load(Relaxed)
}

/// Called every few thousand allocations of native code, where [`untended`].
#[cold]
#[inline(never)]
pub fn native_tick(guard: &Guard, anchor: Anchor) {
    be_born_in_time();
    epoch::advance(since_epoch_ms());
    tend_collector(guard, anchor);
}

/// Allocations that pass before another look; the next one is then not the second of a pair again.
const SOON: u32 = 16;

/// Starts the collector from an allocation of native code, where nothing else does. The program's
/// own code may create threads wherever it runs; the C library and the loader, which call the
/// allocator too, hold locks there that creating one may want.
fn tend_collector(guard: &Guard, anchor: Anchor) {
    if !untended() || !collector::is_missing() || walk::finalizing() != 0 {
        return;
    }
    if native::is_own_code(anchor.caller()) {
        collector::ensure(guard, since_start_ns());
    } else {
        // Soon again: every thousandth allocation may be the C library's.
        guard.thread.until_tick.set(SOON);
    }
}

/// Counts a thread in, and asks to hear of its end.
#[inline]
pub fn know_thread(thread: &Thread) {
    if thread.known.get() == 0 {
        thread.known.set(1);
        peak::THREADS.fetch_add(1, Relaxed);
        let key = THREAD_KEY.load(Relaxed);
        if key != u32::MAX {
            // SAFETY: the key was created; a value that is not null makes the destructor run.
            unsafe { libc::pthread_setspecific(key, core::ptr::from_ref(thread).cast()) };
        }
    }
}

extern "C" fn thread_ended(_: *mut c_void) {
    let guard = Guard::enter();
    let thread = thread();
    peak::leave(thread);
    if let Some(guard) = &guard {
        native::paths::release_cache(guard);
    }
    // What other destructors allocate after this must not begin a new cache.
    thread.no_paths.set(1);
}

/// In a program that has no interpreter yet: the first allocation that an
/// interpreter loaded by `dlopen` makes itself is the sign that it runs.
#[inline(always)]
pub fn watch_for_interpreter(anchor: Anchor) {
    if PHASE.load(Relaxed) == WATCHING && OPENED.load(Relaxed) {
        look_for_interpreter(anchor);
    }
}

#[cold]
fn look_for_interpreter(anchor: Anchor) {
    let Some(guard) = Guard::enter() else { return };
    let Some(handle) = native::libpython_of(anchor.caller()) else { return };
    if real::symbol(handle, c"PyMem_SetAllocator") == 0 {
        return;
    }
    if PHASE.compare_exchange(WATCHING, PASSIVE, SeqCst, SeqCst).is_ok() {
        begin(&guard, Some(handle));
    }
}

/// Whether the interpreter's teardown has begun; the first to see it takes stock.
#[inline(always)]
pub fn check_final(guard: &Guard) {
    if walk::finalizing() != 0 && !FINAL_TAKEN.load(Relaxed) {
        take_final(guard);
    }
    check_sub_interpreter(guard);
}

/// The same where the teardown begins with the sub-interpreters that live. Another thread that ends
/// one of its own meanwhile is still a part of the program.
#[inline(always)]
fn check_sub_interpreter(guard: &Guard) {
    if sites::SEVERAL_LOCKS.load(Relaxed)
        && !FINAL_TAKEN.load(Relaxed)
        && walk::ends_sub_interpreter(MAIN_INTERPRETER.load(Relaxed))
        && sys::thread_id() == PID.load(Relaxed)
    {
        take_final(guard);
    }
}

/// The last moment that matters: the interpreter frees nearly everything after it.
#[cold]
#[inline(never)]
fn take_final(guard: &Guard) {
    if FINAL_TAKEN.swap(true, SeqCst) || sys::pid() != PID.load(Relaxed) {
        return;
    }
    be_born();
    if !recording() {
        return;
    }
    python::hooks::note_absence();
    let mut live = 0;
    for site in 0..store::site_count() {
        let (blocks, bytes) = store::live(site);
        live += bytes;
        let last = &store::moments(site).last;
        last.bytes.store(bytes, Relaxed);
        last.blocks.store(blocks, Relaxed);
    }
    store::header().final_ns.store(since_start_ns().max(1), SeqCst);
    let smaps = gauges::take();
    snapshot::take_last(guard, smaps, live, true);
    collector::round(true);
    census::take(BlobKind::FinalCensus);
    let_daemon_threads_go();
    walk::stock_was_taken();
}

/// Daemon threads that wait for the interpreter lock of CPython 3.10 look every 5 ms whether they
/// must end; one that next looks between the end of the interpreter and that of the process reads
/// what was freed, and crashes. As the teardown takes a little longer with us than without, that is
/// let happen before it, while they may still look.
fn let_daemon_threads_go() {
    if walk::layout().is_none_or(|layout| layout.minor != 10) {
        return;
    }
    let until = since_start_ns() + DAEMONS_LOOK_NS;
    while other_threads() && since_start_ns() < until {
        sys::sleep_ns(200_000);
    }
}
/// Their interval (`sys.getswitchinterval`), and a little for the scheduler.
const DAEMONS_LOOK_NS: u64 = 7_000_000;

/// Registered before anything else, so it runs after every other handler and destructor.
extern "C" fn exited(status: c_int, _: *mut c_void) {
    end(EndKind::Exit, status);
}

/// The process ends, or becomes another program. `true` if that was noted.
pub fn end(kind: EndKind, status: i32) -> bool {
    // Between `vfork` and `exec` the memory is the parent's, and so is the dump.
    if !recording() || sys::pid() != PID.load(Relaxed) {
        return false;
    }
    let Some(guard) = Guard::enter() else {
        // A signal handler that interrupted the shim itself: this very thread may hold any lock.
        return note_end(kind, status);
    };
    if UNBORN.load(Relaxed) {
        // Nothing was recorded in this child, or nothing that is worth a dump.
        if kind == EndKind::Exec || store::site_count() <= 1 {
            return false;
        }
        be_born();
        if !recording() {
            return false;
        }
    }
    let stock_taken = store::header().final_ns.load(Relaxed) != 0;
    if stock_taken {
        collector::last_definitions();
    } else {
        let smaps = gauges::take();
        if kind != EndKind::Exec {
            snapshot::take_last(&guard, smaps, peak::live_bytes(), python::holds_lock());
        }
        census::take(BlobKind::Census);
        collector::round(true);
    }
    note_end(kind, status);
    // The interpreter is gone, and where its daemon threads live, time is short: CPython 3.10 lets
    // one that waits for the interpreter lock read what was freed if the process is not gone within
    // some 2 ms. Nor is it certain that they count no more.
    if !(stock_taken && other_threads()) {
        STORE.lock().seal();
    }
    if kind != EndKind::Exec {
        STORE.lock().finish(!snapshot::is_running());
        snapshot::linger();
    }
    drop(guard);
    true
}

/// Writes down the end, and records no more.
fn note_end(kind: EndKind, status: i32) -> bool {
    let header = store::header();
    header.end_status.store(status, Relaxed);
    header.end_ns.store(since_start_ns(), Relaxed);
    header.end_kind.store(kind as u32, SeqCst);
    enter(PASSIVE);
    true
}

/// Whether the process has threads besides this one and the collector.
fn other_threads() -> bool {
    sys::thread_count().is_none_or(|count| count > 1 + u64::from(!collector::is_missing()))
}

/// `exec` failed: the process goes on as it was.
pub fn not_ended() {
    let guard = Guard::enter();
    if guard.is_some() {
        STORE.lock().unseal();
    }
    store::header().end_kind.store(EndKind::None as u32, SeqCst);
    enter(RECORDING);
    drop(guard);
}

/// Program files are about to change, or have just done so.
pub fn modules_change() {
    if !recording() || sys::pid() != PID.load(Relaxed) || UNBORN.load(Relaxed) {
        return;
    }
    let Some(_guard) = Guard::enter() else { return };
    let Some(look) = modules::look() else {
        // The sites so far belong to the files as they are.
        if let (Some(mut sites), Some(mut store)) = (SITES.try_lock(), STORE.try_lock()) {
            sites.write_out(&mut store);
        }
        return;
    };
    // Never wait here: the loader's lock may be held further out on this very thread, and the
    // collector may wait for it.
    if let Some(mut rounds) = ROUNDS.try_lock() {
        rounds.modules.note(look, since_start_ns());
    } else {
        modules::forget();
    }
}

extern "C" fn before_fork_handler() {
    before_fork();
}

extern "C" fn after_fork_in_parent_handler() {
    after_fork_in_parent();
    // Nobody counts this process's threads; a handler may create one.
    if recording()
        && !python::found()
        && let Some(guard) = Guard::enter()
    {
        collector::not_before(0);
        collector::ensure(&guard, since_start_ns());
    }
}

extern "C" fn after_fork_in_child_handler() {
    after_fork_in_child();
}

/// Whether this thread took the locks for a fork that is under way.
static FORKING: AtomicBool = AtomicBool::new(false);
/// The request by which the collector stands still for a fork that takes no lock; 0: none.
static PARKED: AtomicU32 = AtomicU32::new(0);

/// Brings every lock of the shim to rest, so that a child finds them whole.
pub fn before_fork() {
    if !recording() {
        return;
    }
    let Some(_guard) = Guard::enter() else {
        // A signal handler that interrupted the shim itself must not wait for this very thread.
        PARKED.store(collector::stand_still(), SeqCst);
        return;
    };
    collector::stop();
    ROUNDS.hold();
    SITES.hold();
    STORE.hold();
    mappings::hold();
    native::paths::hold();
    modules::hold();
    log::hold();
    SETTINGS.hold();
    heap::HEAP.hold();
    FORKING.store(true, SeqCst);
}

fn release_locks() {
    heap::HEAP.release();
    SETTINGS.release();
    log::release();
    modules::release();
    native::paths::release();
    mappings::release();
    STORE.release();
    SITES.release();
    ROUNDS.release();
}

/// The parent goes on as before; the collector comes back later.
pub fn after_fork_in_parent() {
    if FORKING.swap(false, SeqCst) {
        release_locks();
    } else {
        park::go_on(PARKED.swap(0, SeqCst));
    }
}

/// The child lets go of all that is its parent's.
pub fn after_fork_in_child() {
    if !FORKING.swap(false, SeqCst) {
        // The locks are as they were at some moment of the parent's.
        if recording() {
            park::be_alone();
            collector::gone();
            store::leave_file();
            stop();
        }
        return;
    }
    release_locks();
    let guard = Guard::enter();
    PID.store(sys::pid(), Relaxed);
    START_NS.store(sys::monotonic_ns(), Relaxed);
    FINAL_TAKEN.store(false, Relaxed);
    walk::stock_was_not_taken();
    epoch::fork();
    collector::gone();
    collector::after_start();
    STORE.lock().forget();
    collector::discard();
    modules::forget();
    mappings::forget();
    snapshot::forget();
    SITES.lock().reset();
    peak::reset(thread());
    store::header().site_count.store(1, Relaxed);
    // Its dump comes later: a child that soon becomes another program needs none.
    UNBORN.store(true, SeqCst);
    drop(guard);
}

/// A forked child that lives this long is not about to become another program.
const CHILDHOOD_NS: u64 = 20_000_000;

#[inline]
fn be_born_in_time() {
    if UNBORN.load(Relaxed) && since_start_ns() > CHILDHOOD_NS {
        be_born();
    }
}

/// From here on the child has a dump of its own; what it counted so far goes into it.
fn be_born() {
    if !UNBORN.swap(false, SeqCst) {
        return;
    }
    if peak::THREADS.load(Relaxed) > 1 {
        store::header().inexact.store(1, Relaxed);
    }
    if !create_dump(true) {
        return stop();
    }
    write_process(python::found());
    collector::round(false);
}
