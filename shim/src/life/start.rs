//! How recording begins.

use core::ffi::{c_char, c_int, c_void};
use core::sync::atomic::{AtomicBool, Ordering::Relaxed, Ordering::SeqCst};

use pyshim_dump::record::{Process, Record};

use crate::collector;
use crate::guard::Guard;
use crate::native::{self, Anchor, Extent};
use crate::settings::{self, Follow, Settings};
use crate::sites::SITES;
use crate::store::{self, Failure, Identity, STORE};
use crate::{gate, heap, live, log, python, real, record, sample, snapshot, sys};

use super::{
    EPOCH_START_NS, PASSIVE, PHASE, PID, RECORDING, SETTINGS, START_NS, WATCHING, end, enter, fork,
    since_start_ns, stop, tend,
};

/// Whether `dlopen` was called: only then can an interpreter have appeared.
pub static OPENED: AtomicBool = AtomicBool::new(false);

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
const LEAST_ADDRESS_SPACE: u64 = 384 << 20;

/// Sets everything up and starts to record. `interpreter` is a handle in which it is found.
fn begin(guard: &Guard, interpreter: Option<*mut c_void>) {
    let now = sys::monotonic_ns();
    START_NS.store(now, Relaxed);
    EPOCH_START_NS.store(now, Relaxed);
    PID.store(sys::pid(), Relaxed);
    if sys::data_limit() < LEAST_ADDRESS_SPACE || !(live::prepare() && store::prepare()) {
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
    gate::set(gate::NO_NATIVE, extent == Extent::Off && !sample::is_on());
    if !create_dump(false) {
        return stop();
    }
    // SAFETY: the handlers live as long as the process; runs once.
    unsafe {
        libc::pthread_atfork(
            Some(fork::before_handler),
            Some(fork::in_parent_handler),
            Some(fork::in_child_handler),
        );
        on_exit(end::exited, core::ptr::null_mut());
    }
    tend::hear_of_threads();
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
    if interpreter.is_none() {
        gate::set(gate::UNPROVED, false);
    }
    if interpreter.is_none() || !hook_python {
        tend::UNTENDED.store(true, SeqCst);
        // No allocation of Python's will start it, and nothing here is a lock of the C library.
        collector::not_before(0);
        collector::ensure(guard, since_start_ns());
    }
}

unsafe extern "C" {
    fn on_exit(handler: extern "C" fn(c_int, *mut c_void), argument: *mut c_void) -> c_int;
}

/// Creates the dump of this process. Says why not, if not.
pub(super) fn create_dump(forked: bool) -> bool {
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
        // (A forked child's dump is born later than the child.)
        started_unix_ns: sys::unix_ns().saturating_sub(since_start_ns()),
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

/// Field 22 of `/proc/self/stat`.
fn start_ticks() -> u64 {
    stat("self").map_or(0, |(_, ticks)| ticks)
}

/// The parent of a process, and when the process started (`proc_pid_stat(5)`, fields 4 and 22).
fn stat(process: &str) -> Option<(u32, u64)> {
    let stat = sys::read_file(format!("/proc/{process}/stat\0").as_bytes());
    // The name before them may hold anything, so count from its end.
    let text = sys::text(&stat);
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let parent = fields.nth(1)?.parse().ok()?;
    Some((parent, fields.nth(17)?.parse().ok()?))
}

/// The processes that this one descends from, as far as they live, its parent first: `PID.TICKS,…`. Some leave no
/// dump, such as a shell; by these it is known what lies beyond.
fn elders() -> String {
    const MOST: usize = 16;
    let mut elders = Vec::new();
    let mut next = Some(sys::parent_pid());
    while let Some(pid) = next.filter(|&pid| pid > 1 && elders.len() < MOST) {
        let Some((parent, ticks)) = stat(&pid.to_string()) else { break };
        elders.push(format!("{pid}.{ticks}"));
        next = Some(parent);
    }
    elders.join(",")
}

/// Writes down what the process is.
pub(super) fn write_process(python: bool) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let line = sys::read_file(b"/proc/self/cmdline\0");
    let line = line.strip_suffix(&[0]).unwrap_or(&line);
    let mut settings = SETTINGS.lock().describe();
    settings.push(format!("elders={}", elders()));
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
