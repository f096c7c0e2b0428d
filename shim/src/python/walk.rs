//! Walking the calling thread's own Python frames, in memory.
//!
//! Nothing is paid per Python call, no interpreter function runs that could
//! allocate or count references, and the frames belong to this thread, so they
//! hold still. The hot walk reads one word or two for each frame and hashes
//! them; [`collect`] walks again to define a new site.

use core::sync::atomic::{
    AtomicIsize, AtomicPtr, AtomicU8, AtomicU32, AtomicUsize, Ordering::Relaxed, Ordering::Release,
};

use super::current;
use super::layout::{Entry, FrameRoot, Instr, Layout, OWNED_BY_GENERATOR};
use pyshim_dump::record::NOT_BEGUN;

use crate::gate;
use crate::guard::{Guard, thread_pointer};
use crate::record::Lock;
use crate::sys;

/// Python frames kept of one stack.
pub const MAX_PYTHON: usize = 192;

/// Frames that are looked through for the beginning of an evaluation loop.
const MOST_LOOKED_AT: usize = 1 << 16;

/// The interpreter that is walked; null: none, or its layout is unknown.
static LAYOUT: AtomicPtr<Layout> = AtomicPtr::new(core::ptr::null_mut());
/// `PyGILState_GetThisThreadState`.
static THREAD_STATE: AtomicUsize = AtomicUsize::new(0);
/// From 3.12: the thread state attached to this thread, right in sub-interpreters too.
static ATTACHED_STATE: AtomicUsize = AtomicUsize::new(0);
/// Before 3.12: the thread state of whichever thread holds the interpreter lock.
static HOLDERS_STATE: AtomicUsize = AtomicUsize::new(0);
/// The runtime's `finalizing` field; a word that is zero as long as it is not known.
pub static FINALIZING: AtomicPtr<usize> = AtomicPtr::new(NEVER.as_ptr());
static NEVER: AtomicUsize = AtomicUsize::new(0);
/// The same word until stock was taken of what the teardown frees.
static STOCK_IS_DUE: AtomicPtr<usize> = AtomicPtr::new(NEVER.as_ptr());
/// From 3.12: where that word lies, from the thread pointer on; 0: not known.
static ATTACHED_AT: AtomicIsize = AtomicIsize::new(0);
/// Before 3.12: where the runtime keeps its word; 0: not known.
static HOLDER_AT: AtomicUsize = AtomicUsize::new(0);
/// Address of `PyCode_Type`.
static CODE_TYPE: AtomicUsize = AtomicUsize::new(0);

/// Whether the layout has shown itself right: 0 not yet, 1 yes, 2 it is wrong.
static TRUSTED: AtomicU8 = AtomicU8::new(0);
static FAILED_TRIALS: AtomicU8 = AtomicU8::new(0);

/// What [`set_interpreter`] needs.
pub struct Interpreter {
    /// Offsets.
    pub layout: &'static Layout,
    /// Address of `PyGILState_GetThisThreadState`.
    pub thread_state: usize,
    /// Address of `PyThreadState_GetUnchecked` or its older name, from 3.12; else 0.
    pub attached_state: usize,
    /// Address of `_PyThreadState_UncheckedGet` before 3.12, where it tells who holds the lock; else 0.
    pub holders_state: usize,
    /// Address of the runtime's `finalizing` field; 0: unknown.
    pub finalizing: usize,
    /// Address of `PyCode_Type`.
    pub code_type: usize,
    /// Whether it was loaded with the program, not later.
    pub from_start: bool,
}

/// Compares what is read directly with what the interpreter's functions say, and leaves it if it is
/// not the same. Called with each new stack.
pub fn prove_shortcuts() {
    let at = ATTACHED_AT.load(Relaxed);
    // SAFETY: the word that the interpreter's function reads, in this thread's static storage.
    if at != 0 && attached_by_call() != unsafe { load(thread_pointer().wrapping_add_signed(at)) } {
        ATTACHED_AT.store(0, Relaxed);
    }
    let (holder, at) = (HOLDERS_STATE.load(Relaxed), HOLDER_AT.load(Relaxed));
    if holder != 0 && at != 0 {
        // SAFETY: the word of the runtime that the function reads, and that function.
        let (before, by_call, after) = unsafe {
            let by_call = core::mem::transmute::<usize, extern "C" fn() -> usize>(holder);
            (load::<usize>(at), by_call(), load::<usize>(at))
        };
        // Another thread may take the lock meanwhile.
        if before == after && by_call != before {
            HOLDER_AT.store(0, Relaxed);
        }
    }
}

/// From now on, frames of this interpreter are walked.
pub fn set_interpreter(interpreter: &Interpreter) {
    THREAD_STATE.store(interpreter.thread_state, Relaxed);
    ATTACHED_STATE.store(interpreter.attached_state, Relaxed);
    HOLDERS_STATE.store(interpreter.holders_state, Relaxed);
    let attached = current::attached_offset(interpreter.attached_state, interpreter.from_start);
    ATTACHED_AT.store(attached.unwrap_or(0), Relaxed);
    HOLDER_AT.store(current::holder_address(interpreter.holders_state).unwrap_or(0), Relaxed);
    prove_shortcuts();
    if interpreter.finalizing != 0 {
        FINALIZING.store(interpreter.finalizing as *mut usize, Relaxed);
        STOCK_IS_DUE.store(interpreter.finalizing as *mut usize, Relaxed);
    }
    CODE_TYPE.store(interpreter.code_type, Relaxed);
    LAYOUT.store(core::ptr::from_ref(interpreter.layout).cast_mut(), Release);
}

/// The layout of the interpreter that is walked.
pub fn layout() -> Option<&'static Layout> {
    // SAFETY: null, or a layout that lives for the whole program.
    unsafe { LAYOUT.load(Relaxed).as_ref() }
}

/// A thread's Python stack, found but not yet walked.
#[derive(Clone, Copy)]
pub struct Top {
    layout: &'static Layout,
    frame: usize,
    /// The thread's state.
    pub tstate: usize,
    /// The interpreter that the thread runs.
    pub interpreter: usize,
}

/// # Safety
/// `address` must be readable for a `T`.
#[inline(always)]
unsafe fn load<T: Copy>(address: usize) -> T {
    // SAFETY: the caller's promise; fields of C structures are aligned.
    unsafe { *(address as *const T) }
}

/// The key of the calling thread's stack, and whether it holds the interpreter lock; `None` where
/// that is not simple. Not to be called before the layout was proved ([`gate::UNPROVED`]).
#[inline(always)]
pub fn quick_key(lock: Lock) -> Option<(Key, bool)> {
    let layout = layout()?;
    let mut tstate = lock_holders_state(layout, lock);
    let held = tstate != 0;
    if finalizing() != 0 || (lock == Lock::Held && !held) {
        return None;
    }
    if !held {
        tstate = own_state();
        if tstate == 0 {
            return Some((NO_KEY, false));
        }
    }
    // SAFETY: this is the calling thread's state, and the layout was proved.
    let top = unsafe { top_of(layout, tstate) };
    // (A closure would be a function of its own.)
    let key = if let Some(top) = &top { top.key() } else { NO_KEY };
    Some((key, held))
}

/// Whether the calling thread, of which nothing is known, holds the interpreter lock for sure.
#[inline(always)]
pub fn holds_lock() -> bool {
    layout().is_some_and(|layout| lock_holders_state(layout, Lock::Unknown) != 0)
}

/// The state that the calling thread holds the interpreter lock with; 0: it may not hold it.
///
/// From 3.12 on a thread's word for the state is set after it took the lock, and cleared before it
/// drops it (`_PyThreadState_Attach`, `_PyEval_ReleaseLock` in `Python/pystate.c` and
/// `Python/ceval_gil.c`). Before, there is only the runtime's word for all threads.
#[inline(always)]
fn lock_holders_state(layout: &Layout, lock: Lock) -> usize {
    let at = ATTACHED_AT.load(Relaxed);
    if at != 0 {
        // SAFETY: as in `prove_shortcuts`.
        return unsafe { load(thread_pointer().wrapping_add_signed(at)) };
    }
    let at = HOLDER_AT.load(Relaxed);
    // The state that it names may be another thread's, at its end: only who holds the lock may look.
    if at == 0 || lock == Lock::Unknown {
        return 0;
    }
    // SAFETY: the word of the runtime, a static object, that its function reads.
    let tstate: usize = unsafe { load(at) };
    // SAFETY: as in `state_under_lock`.
    let is_ours =
        || unsafe { load::<usize>(tstate + layout.tstate_thread as usize) } == thread_pointer();
    if tstate != 0 && is_ours() { tstate } else { 0 }
}

/// The innermost Python frame of the calling thread, if it has one and it may be read.
#[inline(always)]
pub fn top(_: &Guard, lock: Lock) -> Option<Top> {
    let layout = layout()?;
    if TRUSTED.load(Relaxed) != 1 && !try_layout(layout) {
        return None;
    }
    let tstate = match lock {
        Lock::Held => state_under_lock(layout),
        Lock::Unknown => thread_state(),
    };
    if tstate == 0 || !may_walk(tstate) {
        return None;
    }
    // SAFETY: the interpreter says that this is the calling thread's state, so it is alive and only
    // this thread changes its frames; `TRUSTED` says that the offsets fit this interpreter.
    unsafe { top_of(layout, tstate) }
}

/// # Safety
/// `tstate` must be the calling thread's state, and the layout be proved.
#[inline(always)]
unsafe fn top_of(layout: &'static Layout, tstate: usize) -> Option<Top> {
    // SAFETY: the caller's promise.
    unsafe {
        let mut frame: usize = load(tstate + layout.tstate_frame as usize);
        if layout.root == FrameRoot::CFrame {
            if frame == 0 {
                return None;
            }
            frame = load(frame + layout.cframe_current as usize);
        }
        (frame != 0).then(|| Top { layout, frame, tstate, interpreter: load(tstate + INTERPRETER) })
    }
}

/// `prev`, `next`, `interp`: the first three words of every thread state from 3.8 to 3.15.
pub const INTERPRETER: usize = 16;

/// The state that the calling thread runs with, which holds the interpreter lock.
///
/// Before 3.12 a thread's own state is that of the first interpreter that it ran, and only the
/// runtime's word for the lock's holder tells of a sub-interpreter. That word is believed where it
/// names this very thread: a caller that breaks the rule and does not hold the lock must not make
/// us walk another thread's frames.
#[inline(always)]
fn state_under_lock(layout: &Layout) -> usize {
    let (holder, at) = (HOLDERS_STATE.load(Relaxed), HOLDER_AT.load(Relaxed));
    if holder != 0 {
        // SAFETY: the word of the runtime, a static object, that the function below reads; or the
        // address of that function, of this type.
        let tstate: usize = unsafe {
            if at != 0 {
                load(at)
            } else {
                core::mem::transmute::<usize, extern "C" fn() -> usize>(holder)()
            }
        };
        if tstate != 0 {
            // SAFETY: `Lock::Held` means that this thread is the holder, so the state is its own and
            // alive. Where a caller breaks that rule, the holder is in the middle of its work, not
            // at its end, and the state is a block of the heap, which is readable either way.
            let thread: usize = unsafe { load(tstate + layout.tstate_thread as usize) };
            if thread == thread_pointer() {
                return tstate;
            }
        }
    }
    thread_state()
}

#[inline(always)]
fn thread_state() -> usize {
    let at = ATTACHED_AT.load(Relaxed);
    let tstate = if at != 0 {
        // SAFETY: as in `prove_shortcuts`.
        unsafe { load(thread_pointer().wrapping_add_signed(at)) }
    } else {
        attached_by_call()
    };
    if tstate != 0 {
        return tstate;
    }
    own_state()
}

/// The state that this thread was given first, which it keeps without the lock.
#[inline(always)]
fn own_state() -> usize {
    // SAFETY: the address of a function of this type, which reads a thread-specific value; it may be
    // called at any time, with or without the interpreter lock.
    let own: extern "C" fn() -> usize = unsafe { core::mem::transmute(THREAD_STATE.load(Relaxed)) };
    own()
}

#[inline(always)]
fn attached_by_call() -> usize {
    let attached = ATTACHED_STATE.load(Relaxed);
    if attached == 0 {
        return 0;
    }
    // SAFETY: the address of a function of this type, which reads a thread-local variable.
    unsafe { core::mem::transmute::<usize, extern "C" fn() -> usize>(attached)() }
}

/// Thread states that were seen, with the ids of their threads in the system: as the teardown begins
/// the interpreter no longer lists those of other threads.
static SEEN: [(AtomicU32, AtomicUsize); 256] =
    [const { (AtomicU32::new(0), AtomicUsize::new(0)) }; 256];

/// Remembers the calling thread's state. Called with each new stack, so it may cost something.
pub fn remember(tstate: usize) {
    let place = (tstate >> 6) % SEEN.len();
    for (thread, state) in SEEN.iter().cycle().skip(place).take(16) {
        let known = thread.load(Relaxed);
        if state.load(Relaxed) == tstate {
            return;
        }
        if known == 0 || !sys::thread_exists(known) {
            state.store(tstate, Relaxed);
            thread.store(sys::thread_id(), Relaxed);
            return;
        }
    }
}

/// States of threads that still exist.
pub fn remembered(exists: impl Fn(u32) -> bool) -> Vec<usize> {
    let seen = SEEN.iter().map(|(thread, state)| (thread.load(Relaxed), state.load(Relaxed)));
    seen.filter(|&(thread, state)| state != 0 && exists(thread)).map(|(_, state)| state).collect()
}

/// Whether this thread runs Python now, as far as the interpreter says.
pub fn attached() -> bool {
    layout().is_some() && TRUSTED.load(Relaxed) == 1 && attached_by_call() != 0
}

/// While the interpreter ends, other threads' states may be freed under them.
#[inline(always)]
fn may_walk(tstate: usize) -> bool {
    let finalizing = finalizing();
    finalizing == 0 || finalizing == tstate
}

/// The thread state that ends the interpreter; 0 while none does.
#[inline(always)]
pub fn finalizing() -> usize {
    // SAFETY: a field of `_PyRuntime`, a static object of the interpreter, which stays loaded; or a
    // static word of ours.
    unsafe { AtomicUsize::from_ptr(FINALIZING.load(Relaxed)).load(Relaxed) }
}

/// Whether the teardown has begun and no stock was taken yet.
#[inline(always)]
pub fn stock_is_due() -> bool {
    // SAFETY: as in `finalizing`.
    unsafe { AtomicUsize::from_ptr(STOCK_IS_DUE.load(Relaxed)).load(Relaxed) != 0 }
}

/// In a forked child, which takes its own.
pub fn stock_was_not_taken() {
    STOCK_IS_DUE.store(FINALIZING.load(Relaxed), Relaxed);
}

/// It was taken: once is enough.
pub fn stock_was_taken() {
    STOCK_IS_DUE.store(NEVER.as_ptr(), Relaxed);
}

/// Whether the calling thread, which holds the lock of a sub-interpreter, tears that down because
/// the main interpreter `main` is about to end (from 3.14 on, before [`finalizing`] tells).
#[cold]
pub fn ends_sub_interpreter(main: usize) -> bool {
    let Some(layout) = layout().filter(|layout| layout.interp_finalizing != 0) else {
        return false;
    };
    let tstate = thread_state();
    if tstate == 0 || main == 0 {
        return false;
    }
    // SAFETY: the calling thread's state and its interpreter, which it holds the lock of, and the
    // main interpreter, a static object; the offsets lie inside them.
    unsafe {
        let interpreter: usize = load(tstate + INTERPRETER);
        interpreter != main
            && load::<usize>(interpreter + layout.interp_finalizing as usize) == tstate
            && load::<i32>(main + layout.interp_begun as usize) != 0
    }
}

/// What the hot walk yields.
#[derive(Clone, Copy)]
pub struct Key {
    /// Of all frames.
    pub hash: u64,
    /// Of the innermost one.
    pub top: u64,
}

/// Of a thread without Python frames.
pub const NO_KEY: Key = Key { hash: 0, top: 0 };

impl Top {
    /// Hashes the stack. Frames of C functions count too; they do not hurt.
    #[inline(always)]
    pub fn key(&self) -> Key {
        let layout = self.layout;
        let instr = layout.frame_instr as usize;
        match layout.instr {
            // The instruction's address lies inside the code object: it names both.
            Instr::Pointer => self.key_of(|frame| {
                // SAFETY: `key_of` asks about frames alone, which have this field.
                unsafe { load(frame + instr) }
            }),
            Instr::LastiBytes | Instr::LastiUnits => {
                let code = layout.frame_code as usize;
                self.key_of(|frame| {
                    // SAFETY: as above.
                    let (code, at) =
                        unsafe { (load::<u64>(frame + code), load::<u32>(frame + instr)) };
                    code.rotate_left(24) ^ u64::from(at)
                })
            }
        }
    }

    /// A polynomial of the words of all frames. It waits for the next frame's address alone: a
    /// multiplication takes less than a look at memory.
    #[inline(always)]
    fn key_of(&self, word: impl Fn(usize) -> u64) -> Key {
        let previous = self.layout.frame_previous as usize;
        let top = word(self.frame);
        let (mut frame, mut hash) = (self.frame, 0u64);
        for _ in 0..MAX_PYTHON / 4 {
            for _ in 0..4 {
                hash = polynomial(hash, word(frame));
                // SAFETY: frames of this thread, linked by the interpreter, which does not run while
                // this thread is here; the last one's link is null.
                frame = unsafe { load(frame + previous) };
                if frame == 0 {
                    return Key { hash, top };
                }
            }
        }
        Key { hash, top }
    }

    /// Where on the C stack the innermost evaluation loop keeps its own frame; 0: not known.
    pub fn first_boundary(&self) -> usize {
        self.boundary_from(self.frame)
    }

    /// The same for the loop that runs `frame`, however many frames further out it began: without
    /// it, native frames of callers could not be told from those of what is called.
    pub fn boundary_from(&self, mut frame: usize) -> usize {
        let (Some(at), Entry::Owners(_)) = (self.layout.frame_owner, self.layout.entry) else {
            return 0;
        };
        for _ in 0..MOST_LOOKED_AT {
            if frame == 0 {
                return 0;
            }
            // SAFETY: as in `key`.
            unsafe {
                if self.layout.entry.is_boundary(load(frame + at as usize)) {
                    return frame;
                }
                frame = load(frame + self.layout.frame_previous as usize);
            }
        }
        0
    }

    /// All frames, innermost first. Returns the frame that comes next if there are more.
    pub fn frames(&self, out: &mut Vec<RawFrame>) -> usize {
        let fields = self.fields();
        let mut frame = self.frame;
        while frame != 0 && out.len() < MAX_PYTHON {
            out.push(fields.raw(frame));
            frame = fields.previous(frame);
        }
        frame
    }

    /// The innermost frame.
    pub fn first(&self) -> usize {
        self.frame
    }

    /// How to read the frames of this stack.
    pub fn fields(&self) -> Fields<'_> {
        let layout = self.layout;
        let instr_mask = match layout.instr {
            Instr::Pointer => u64::MAX,
            Instr::LastiBytes | Instr::LastiUnits => u64::from(u32::MAX),
        };
        Fields {
            code: layout.frame_code as usize,
            instr: layout.frame_instr as usize,
            instr_mask,
            by_code: layout.instr != Instr::Pointer,
            owner: layout.frame_owner.unwrap_or(0) as usize,
            owner_mask: if layout.frame_owner.is_some() { 0xff } else { 0 },
            previous: layout.frame_previous as usize,
            stack: core::marker::PhantomData,
        }
    }

    /// What a frame of [`Top::frames`] is.
    pub fn view(&self, raw: &RawFrame) -> View {
        // SAFETY: as in `key`.
        unsafe { read_frame(self.layout, raw.frame) }
    }
}

/// A number without a pattern, five more than a multiple of eight: its powers are all different, and
/// polynomials of different words are equal by chance alone.
const FACTOR: u64 = 0xd6e8_feb8_6659_fd95;

/// The polynomial of a frame that `word` stands for and of those inside it, of which it is `inner`.
#[inline(always)]
pub fn polynomial(inner: u64, word: u64) -> u64 {
    inner.wrapping_add(word).wrapping_mul(FACTOR)
}

/// How to read the frames of one stack, without a question for each.
pub struct Fields<'a> {
    code: usize,
    instr: usize,
    /// The bits of the word there that count: some versions have an `int`.
    instr_mask: u64,
    /// Whether the instruction's place needs the code object beside it ([`Fields::word`]).
    by_code: bool,
    owner: usize,
    owner_mask: u64,
    previous: usize,
    stack: core::marker::PhantomData<&'a Top>,
}

impl Fields<'_> {
    /// The frame outside `frame`, which must be one of the stack; 0: none.
    #[inline(always)]
    pub fn previous(&self, frame: usize) -> usize {
        // SAFETY: as in `Top::key_of`.
        unsafe { load(frame + self.previous) }
    }

    /// What a frame adds to the stack's polynomial, as in [`Top::key`].
    #[inline(always)]
    pub fn word(&self, raw: &RawFrame) -> u64 {
        // (An owner is beside the instruction.)
        let instruction = raw.state & (u64::MAX >> 8) & self.instr_mask;
        if self.by_code { raw.code.rotate_left(24) ^ instruction } else { instruction }
    }

    /// Whether the frames from `frame` on outwards are at these places, and there are no more.
    pub fn are_at<'a>(&self, mut frame: usize, places: impl Iterator<Item = &'a RawFrame>) -> bool {
        for place in places {
            if frame == 0 || !place.is_at(frame) {
                return false;
            }
            frame = self.previous(frame);
        }
        frame == 0
    }

    /// A frame of the stack, word for word.
    #[inline(always)]
    pub fn raw(&self, frame: usize) -> RawFrame {
        // SAFETY: as in `Top::key_of`; fields follow the `int` that is one.
        unsafe {
            let owner = u64::from(load::<u8>(frame + self.owner)) & self.owner_mask;
            let instruction = load::<u64>(frame + self.instr) & self.instr_mask;
            // An address has 47 bits.
            RawFrame { frame, code: load(frame + self.code), state: instruction ^ owner << 56 }
        }
    }
}

/// A frame word for word: where it lies, what it runs, at which instruction, and whose it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RawFrame {
    frame: usize,
    code: u64,
    state: u64,
}

impl RawFrame {
    /// No frame.
    pub const NONE: RawFrame = RawFrame { frame: 0, code: 0, state: 0 };

    /// Where it lies.
    pub fn address(&self) -> usize {
        self.frame
    }

    /// Whether it lies there.
    #[inline(always)]
    pub fn is_at(&self, frame: usize) -> bool {
        self.frame == frame
    }
}

/// Calls `seen` with the address of every Python frame of a thread state, innermost first.
///
/// # Safety
/// The thread must hold still: only in a copy of the process, where nothing else runs.
pub unsafe fn frames_of(tstate: usize, mut seen: impl FnMut(usize, PythonFrame)) {
    let Some(layout) = layout().filter(|_| TRUSTED.load(Relaxed) == 1) else { return };
    // SAFETY: the caller's promise; the offsets were proved on this interpreter.
    unsafe {
        let mut frame: usize = load(tstate + layout.tstate_frame as usize);
        if layout.root == FrameRoot::CFrame {
            if frame == 0 {
                return;
            }
            frame = load(frame + layout.cframe_current as usize);
        }
        for _ in 0..100_000 {
            if frame == 0 {
                return;
            }
            if let View::Python(python) = read_frame(layout, frame) {
                seen(frame, python);
            }
            frame = load(frame + layout.frame_previous as usize);
        }
    }
}

/// A frame of Python code.
#[derive(Clone, Copy, Debug)]
pub struct PythonFrame {
    /// Address of the code object.
    pub code: usize,
    /// Offset of the running instruction, in bytes of bytecode.
    pub instruction: u32,
    /// Whether a C evaluation loop begins with it, as far as the frame itself tells.
    pub entry: bool,
    /// Whether the interpreter itself would not show it: its function is being called, but has not
    /// come to its first line.
    pub incomplete: bool,
}

/// What a frame is.
pub enum View {
    /// One of Python code.
    Python(PythonFrame),
    /// The evaluation loop's own: where it lies.
    Boundary(usize),
    /// Neither.
    Other,
}

/// # Safety
/// `frame` must be a frame of the interpreter that `layout` describes, and hold still.
unsafe fn read_frame(layout: &Layout, frame: usize) -> View {
    // SAFETY: the caller's promise.
    unsafe {
        if let Some(at) = layout.frame_owner {
            let owner: u8 = load(frame + at as usize);
            if layout.entry.is_boundary(owner) {
                return View::Boundary(frame);
            }
        }
        let code = (load::<u64>(frame + layout.frame_code as usize) & layout.code_mask) as usize;
        if code == 0 || !is_code(code) || is_clean_up(layout, code) {
            return View::Other;
        }
        let instruction = match layout.instr {
            Instr::LastiBytes | Instr::LastiUnits => {
                let lasti: i32 = load(frame + layout.frame_instr as usize);
                let unit = if layout.instr == Instr::LastiUnits { 2 } else { 1 };
                u32::try_from(lasti).map_or(NOT_BEGUN, |lasti| lasti.wrapping_mul(unit))
            }
            Instr::Pointer => {
                let at: usize = load(frame + layout.frame_instr as usize);
                // Before its first instruction a frame points right before the code.
                let begun = at.checked_sub(code + layout.code_start as usize);
                begun.map_or(NOT_BEGUN, |lasti| lasti as u32)
            }
        };
        let entry = match layout.entry {
            Entry::EveryFrame => true,
            Entry::Flag { offset } => load::<u8>(frame + offset as usize) != 0,
            Entry::Owners(_) => false,
        };
        let incomplete = is_incomplete(layout, frame, code, instruction);
        View::Python(PythonFrame { code, instruction, entry, incomplete })
    }
}

/// `_PyFrame_IsIncomplete` of `internal/pycore_frame.h`: cells are made, and a generator is, before
/// a function's first line. They are its caller's, as in a traceback.
///
/// # Safety
/// As for [`read_frame`]; `code` must be what the frame runs.
unsafe fn is_incomplete(layout: &Layout, frame: usize, code: usize, instruction: u32) -> bool {
    let Some(owner) = layout.frame_owner else { return false };
    // SAFETY: the caller's promise.
    unsafe {
        let first: i32 = load(code + layout.code_first_traceable as usize);
        load::<u8>(frame + owner as usize) != OWNED_BY_GENERATOR
            && (instruction == NOT_BEGUN || i64::from(instruction) < 2 * i64::from(first))
    }
}

/// # Safety
/// `object` must be a Python object.
#[inline]
unsafe fn is_code(object: usize) -> bool {
    // SAFETY: an object's second word is its type.
    unsafe { load::<usize>(object + 8) == CODE_TYPE.load(Relaxed) }
}

/// Whether this is the code that a specialized call of a class leaves on the stack to check what
/// `__init__` returned (3.13 to 3.15). It is no code of the program's: it begins at line 0, and its
/// file name and its qualified name are one object.
///
/// # Safety
/// `code` must be a code object of the interpreter that `layout` describes.
unsafe fn is_clean_up(layout: &Layout, code: usize) -> bool {
    // SAFETY: fields of a code object.
    unsafe {
        load::<i32>(code + layout.code_firstlineno as usize) == 0
            && load::<usize>(code + layout.code_filename as usize)
                == load::<usize>(code + layout.code_name as usize)
    }
}

/// Proves the layout on the first stack that there is, reading through the
/// kernel: a wrong offset then costs the Python frames, not the process.
#[cold]
fn try_layout(layout: &'static Layout) -> bool {
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
            if FAILED_TRIALS.fetch_add(1, Relaxed) >= 16 {
                TRUSTED.store(2, Relaxed);
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
                Some(kind) if kind == CODE_TYPE.load(Relaxed) => codes += 1,
                _ => return Some(false),
            }
        }
        frame = careful(at + layout.frame_previous as usize);
    }
    Some(false)
}
