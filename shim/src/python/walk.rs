//! Walking the calling thread's own Python frames, in memory.
//!
//! Nothing is paid per Python call, no interpreter function runs that could
//! allocate or count references, and the frames belong to this thread, so they
//! hold still. The hot walk reads one word or two for each frame and hashes
//! them; [`Top::frames`] walks again to define a new site.

use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::frame::{PythonFrame, View, read_frame};
use super::layout::{Entry, FrameRoot, Instr, Layout};
use super::state::{
    INTERPRETER, attached_word, layout, load, lock_holders_state, may_walk, own_state,
    state_under_lock, thread_state,
};
use super::trial;
use crate::guard::Guard;
use crate::record::Lock;

/// Python frames kept of one stack.
pub const MAX_PYTHON: usize = 192;

/// Frames that are looked through for the beginning of an evaluation loop.
const MOST_LOOKED_AT: usize = 1 << 16;

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

/// The key of the calling thread's stack, what `early` makes of [`Key::top`] before the stack is walked,
/// and whether the thread holds the interpreter lock; `None` where that is not simple. Not to be called
/// before the layout was proved ([`gate::UNPROVED`]), if there is one, nor while the interpreter
/// finalizes.
#[inline(always)]
pub fn quick_key<T>(lock: Lock, early: impl FnOnce(u64) -> T) -> Option<(Key, T, bool)> {
    let Some(layout) = layout() else {
        return (lock == Lock::Unknown).then(|| (NO_KEY, early(NO_KEY.top), false));
    };
    let mut tstate = lock_holders_state(layout, lock);
    let held = tstate != 0;
    if lock == Lock::Held && !held {
        return None;
    }
    if !held {
        tstate = own_state();
        if tstate == 0 {
            return Some((NO_KEY, early(NO_KEY.top), false));
        }
    }
    // SAFETY: this is the calling thread's state, and the layout was proved.
    let top = unsafe { top_of(layout, tstate) };
    // (A closure would be a function of its own.)
    let (key, result) =
        if let Some(top) = &top { top.key_and(early) } else { (NO_KEY, early(NO_KEY.top)) };
    Some((key, result, held))
}

/// What [`direct_key`] needs of a [`Layout`]; all on one cache line.
#[repr(C, align(64))]
struct Direct {
    frame: AtomicUsize,
    instr: AtomicUsize,
    previous: AtomicUsize,
}

static DIRECT: Direct = Direct {
    frame: AtomicUsize::new(0),
    instr: AtomicUsize::new(0),
    previous: AtomicUsize::new(0),
};

/// Prepares [`direct_key`] for the interpreter, which is known by now; `false` where it must not be asked:
/// before 3.13, and where the thread's state can only be had by a call.
pub fn prepare_direct() -> bool {
    let fits = |layout: &&Layout| {
        layout.root == FrameRoot::Direct
            && layout.instr == Instr::Pointer
            && attached_word().is_some()
    };
    let Some(layout) = layout().filter(fits) else { return false };
    DIRECT.frame.store(layout.tstate_frame as usize, Relaxed);
    DIRECT.instr.store(layout.frame_instr as usize, Relaxed);
    DIRECT.previous.store(layout.frame_previous as usize, Relaxed);
    true
}

/// The same of a thread that holds the interpreter lock, where the way to its frames needs no question
/// ([`prepare_direct`]).
#[inline(always)]
pub fn direct_key<T>(early: impl FnOnce(u64) -> T) -> Option<(Key, T)> {
    let tstate = attached_word().filter(|&tstate| tstate != 0)?;
    // SAFETY: this is the calling thread's state, and the layout, of which these are, was proved.
    let frame: usize = unsafe { load(tstate + DIRECT.frame.load(Relaxed)) };
    if frame == 0 {
        return Some((NO_KEY, early(NO_KEY.top)));
    }
    let instr = DIRECT.instr.load(Relaxed);
    // SAFETY: `key_of` asks about frames alone, which have this field.
    Some(key_of(frame, DIRECT.previous.load(Relaxed), early, |frame| unsafe {
        load(frame + instr)
    }))
}

/// The innermost Python frame of the calling thread, if it has one and it may be read.
#[inline(always)]
pub fn top(_: &Guard, lock: Lock) -> Option<Top> {
    let layout = layout()?;
    if !trial::is_passed() && !trial::pass(layout) {
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
    // this thread changes its frames; the trial showed that the offsets fit this interpreter.
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
        self.key_and(|_| ()).0
    }

    /// [`Key::top`] alone.
    pub fn word(&self) -> u64 {
        let fields = self.fields();
        fields.word(&fields.raw(self.frame))
    }

    /// The same as [`Top::key`], with what `early` makes of [`Key::top`] before the walk.
    #[inline(always)]
    fn key_and<T>(&self, early: impl FnOnce(u64) -> T) -> (Key, T) {
        let layout = self.layout;
        let instr = layout.frame_instr as usize;
        let previous = layout.frame_previous as usize;
        match layout.instr {
            // The instruction's address lies inside the code object: it names both.
            Instr::Pointer => {
                key_of(self.frame, previous, early, |frame| {
                    // SAFETY: `key_of` asks about frames alone, which have this field.
                    unsafe { load(frame + instr) }
                })
            }
            Instr::LastiBytes | Instr::LastiUnits => {
                let code = layout.frame_code as usize;
                key_of(self.frame, previous, early, |frame| {
                    // SAFETY: as above.
                    let (code, at) =
                        unsafe { (load::<u64>(frame + code), load::<u32>(frame + instr)) };
                    code.rotate_left(24) ^ u64::from(at)
                })
            }
        }
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

/// A polynomial of the words of all frames from `frame` on. It waits for the next frame's address alone:
/// a multiplication takes less than a look at memory.
#[inline(always)]
fn key_of<T>(
    mut frame: usize,
    previous: usize,
    early: impl FnOnce(u64) -> T,
    word: impl Fn(usize) -> u64,
) -> (Key, T) {
    let top = word(frame);
    let result = early(top);
    let (mut hash, mut left) = (0u64, MAX_PYTHON / 4);
    while left > 0 {
        left -= 1;
        for _ in 0..4 {
            hash = polynomial(hash, word(frame));
            // SAFETY: frames of this thread, linked by the interpreter, which does not run while
            // this thread is here; the last one's link is null.
            frame = unsafe { load(frame + previous) };
            if frame == 0 {
                return (Key { hash, top }, result);
            }
        }
    }
    (Key { hash, top }, result)
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
    let Some(layout) = layout().filter(|_| trial::is_passed()) else { return };
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
