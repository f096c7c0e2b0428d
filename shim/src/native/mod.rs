//! Native frames of the calling thread.
//!
//! Two ways:
//! 1. [`paths`]: the thread has unwound this very path before, and a look at
//!    the words on its stack proves that it is the same: half a nanosecond a frame.
//! 2. [`rules`]: how each return address leads to the next was learned from the
//!    program's unwind tables once: a few nanoseconds a frame.

mod cache;
pub mod paths;
mod rules;
mod unwind;

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

pub use rules::{forget as forget_rules, is_evaluation};
pub use unwind::{Stop, unwind};

/// Frames kept of one native stack.
pub const MAX_NATIVE: usize = 96;

/// The stack as it was when a hook was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// The stack pointer: points at the hook's return address.
    pub sp: usize,
    /// The frame pointer register, which may hold anything.
    pub bp: usize,
}

impl Anchor {
    /// The address that the hook returns to.
    #[inline(always)]
    pub fn caller(self) -> u64 {
        // SAFETY: `sp` is the stack pointer at the entry of the hook that is running, so the word
        // there is its return address.
        unsafe { *(self.sp as *const u64) }
    }
}

/// How much of the native stack is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Extent {
    /// Nothing.
    Off = 0,
    /// What lies above the innermost Python frame; all of it on a thread without one.
    Leaf = 1,
    /// All of it.
    Full = 2,
}

/// One native frame.
#[derive(Clone, Copy, Debug, Default)]
pub struct NativeFrame {
    /// Return address.
    pub pc: u64,
    /// Where it lies on the stack.
    pub slot: usize,
    /// If the frame is addressed by rbp: where the value that rbp has in it was saved
    /// ([`IN_REGISTER`]: nowhere, it was in the register), and that value.
    pub base: Option<(usize, usize)>,
}

/// See [`NativeFrame::base`].
pub const IN_REGISTER: usize = 0;

/// A native stack, innermost first: return addresses, and where they lie.
pub struct Stack {
    frames: [(u64, usize); MAX_NATIVE],
    len: usize,
    /// Frames were left out at the outer end.
    pub truncated: bool,
}

impl Stack {
    /// No frames.
    pub const fn new() -> Stack {
        Stack { frames: [(0, 0); MAX_NATIVE], len: 0, truncated: false }
    }

    /// The frames.
    pub fn frames(&self) -> &[(u64, usize)] {
        self.frames.get(..self.len).unwrap_or_default()
    }

    fn clear(&mut self) {
        self.len = 0;
        self.truncated = false;
    }

    /// `false` once there is no room.
    #[inline(always)]
    fn push(&mut self, frame: (u64, usize)) -> bool {
        match self.frames.get_mut(self.len) {
            Some(place) => {
                *place = frame;
                self.len += 1;
                true
            }
            None => {
                self.truncated = true;
                false
            }
        }
    }

    fn copy(&mut self, other: &Stack) {
        let known = self.frames.get_mut(..other.len).zip(other.frames.get(..other.len));
        if let Some((to, from)) = known {
            to.copy_from_slice(from);
        }
        (self.len, self.truncated) = (other.len, other.truncated);
    }
}

/// Finds out which frames only repeat a recursion: a function that calls itself from one place, or
/// two that call each other. They are left out, so that a parser's depth does not make a thousand
/// sites of one.
#[derive(Clone)]
pub struct Recursion {
    last: [u64; 3],
}

impl Recursion {
    /// At the innermost frame.
    pub const fn new() -> Recursion {
        Recursion { last: [0; 3] }
    }

    /// Takes the next frame outwards; whether it is a repetition.
    #[inline(always)]
    pub fn repeats(&mut self, pc: u64) -> bool {
        let [one, two, three] = self.last;
        self.last = [pc, one, two];
        pc == one || (pc == two && one == three)
    }
}

/// Start of `_PyEval_EvalFrameDefault`; 0 where there is no interpreter.
pub static EVALUATION: AtomicUsize = AtomicUsize::new(0);
/// Whether unwinding takes no lock here (glibc 2.35 or later).
static LOCK_FREE: AtomicBool = AtomicBool::new(false);
/// `_dl_find_object`, which glibc has from 2.35 on.
static FIND_OBJECT: AtomicUsize = AtomicUsize::new(0);

/// Looks what the C library offers. `false` if native frames cannot be had safely.
pub fn prepare() -> bool {
    let find = crate::real::symbol(libc::RTLD_DEFAULT, c"_dl_find_object");
    let end = crate::real::symbol(libc::RTLD_DEFAULT, c"__libc_stack_end");
    unwind::STACK_END.store(end, Relaxed);
    FIND_OBJECT.store(find, Relaxed);
    LOCK_FREE.store(find != 0, Relaxed);
    find != 0
}

/// What keeps native frames from being recorded.
pub fn trouble() -> Option<String> {
    (!LOCK_FREE.load(Relaxed))
        .then(|| "no native frames: before glibc 2.35 unwinding takes the loader's lock".to_owned())
}

/// `struct dl_find_object` (`dlfcn.h`), and room for what may be added to it.
#[repr(C)]
struct Found {
    flags: u64,
    map_start: usize,
    map_end: usize,
    link_map: *const LinkMap,
    eh_frame: *const u8,
    rest: [u64; 9],
}

/// The public head of `struct link_map` (`link.h`).
#[repr(C)]
struct LinkMap {
    base: usize,
    name: *const core::ffi::c_char,
}

/// What the loader knows of the file that holds the code at `address`. Takes no lock.
fn find_object(address: u64) -> Option<Found> {
    let find = FIND_OBJECT.load(Relaxed);
    if find == 0 {
        return None;
    }
    let mut found = core::mem::MaybeUninit::<Found>::zeroed();
    // SAFETY: the function of this name and type; it writes one structure, which is smaller than
    // ours, and zero is valid for every field.
    unsafe {
        let find: extern "C" fn(usize, *mut Found) -> i32 = core::mem::transmute(find);
        (find(address as usize, found.as_mut_ptr()) == 0).then(|| found.assume_init())
    }
}

/// Whether `address` lies in code that is neither the C library's nor the loader's.
pub fn is_own_code(address: u64) -> bool {
    let Some(found) = find_object(address) else { return false };
    // SAFETY: as in `libpython_of`.
    let path = unsafe {
        if found.link_map.is_null() || (*found.link_map).name.is_null() {
            return false;
        }
        core::ffi::CStr::from_ptr((*found.link_map).name).to_bytes()
    };
    let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    !(name.starts_with(b"libc.so") || name.starts_with(b"ld-linux"))
}

/// A handle for the library that holds the code at `address`, if that is a
/// libpython. Of no other: the call may come from the loader at work, which must
/// not be entered again, while code of a libpython only runs once it is loaded.
pub fn libpython_of(address: u64) -> Option<*mut core::ffi::c_void> {
    let map = find_object(address)?.link_map;
    // SAFETY: the loader's description of a loaded library, whose name ends in zero.
    unsafe {
        if map.is_null() || (*map).name.is_null() {
            return None;
        }
        let path = core::ffi::CStr::from_ptr((*map).name).to_bytes();
        let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
        if !name.starts_with(b"libpython") {
            return None;
        }
        let handle = libc::dlopen((*map).name, libc::RTLD_LAZY | libc::RTLD_NOLOAD);
        (!handle.is_null()).then_some(handle)
    }
}

#[cfg(test)]
mod tests {
    use super::Recursion;

    #[test]
    fn a_recursion_is_folded() {
        let folded = |pcs: &[u64]| -> Vec<u64> {
            let mut recursion = Recursion::new();
            pcs.iter().copied().filter(|&pc| !recursion.repeats(pc)).collect()
        };
        assert_eq!(folded(&[1, 2, 2, 2, 3]), [1, 2, 3]);
        assert_eq!(folded(&[1, 2, 1, 2, 1, 2, 3]), [1, 2, 1, 3]);
        assert_eq!(folded(&[1, 2, 3, 1, 2, 3]), [1, 2, 3, 1, 2, 3]);
    }
}
