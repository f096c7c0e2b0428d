//! What a hook asks first: whether anything is out of the ordinary.
//!
//! Every reason to look closer is a bit of one word. In sampled mode calls pass without a look
//! while there is none; in exact mode, where the only one is that it is exact, they go the quick
//! way ([`crate::quick`]).
//!
//! In sampled mode nearly no block is drawn. To see that one is not takes a dozen
//! instructions, in registers that no function has to save: written in assembly,
//! since a function that may also record saves six registers first.
//!
//! What is skipped is what the long way does for blocks that are not drawn:
//! nothing but looking at these reasons. The teardown is seen at frees alone
//! ([`unless_due`]); what is allocated before the first one is not drawn, so
//! that nobody can tell.

use core::sync::atomic::{AtomicU32, Ordering::Relaxed, Ordering::SeqCst};

/// The reasons; calls pass while there is none.
pub static GATE: AtomicU32 = AtomicU32::new(EXACT | NOT_RECORDING | UNPROVED);

/// Every block is recorded.
pub const EXACT: u32 = 1;
/// Nothing is recorded, or not yet.
pub const NOT_RECORDING: u32 = 2;
/// Python's blocks are not recorded, only watched.
pub const ONLY_WATCHING: u32 = 4;
/// A heap snapshot waits for a safe point.
pub const SNAPSHOT: u32 = 8;
/// Interpreters with locks of their own.
pub const SEVERAL_LOCKS: u32 = 16;

/// In exact mode: there is an interpreter, and the layout of its frames has not shown itself right.
pub const UNPROVED: u32 = 32;
/// In exact mode: native stacks are not recorded.
pub const NO_NATIVE: u32 = 64;

/// Whether this is exact mode, and nothing is out of the ordinary.
#[inline(always)]
pub fn is_plain_exact() -> bool {
    GATE.load(Relaxed) == EXACT
}

/// Adds a reason, or takes it away.
pub fn set(reason: u32, is: bool) {
    match is {
        true => GATE.fetch_or(reason, SeqCst),
        false => GATE.fetch_and(!reason, SeqCst),
    };
}

/// Goes to label 2 if there is a reason. Operand: `gate`.
macro_rules! unless_gated {
    () => {
        "cmp dword ptr [rip + {gate}], 0\njne 2f\n"
    };
}

/// Takes a block of `$size` bytes from what is left; goes to label 4 if it is drawn, or is larger
/// than any. Goes to label 3 instead if the thread is inside the shim: what an allocator asks of
/// another is one block. Changes r11. Operands: `inside` and `left`, the places of
/// `Thread::inside` and `Thread::until_sample`.
macro_rules! unless_drawn {
    ($size:literal) => {
        concat!(
            "mov r11, qword ptr [rip + pyshim_thread@GOTTPOFF]\n",
            "cmp dword ptr fs:[r11 + {inside}], 0\njne 3f\n",
            "sub qword ptr fs:[r11 + {left}], ",
            $size,
            "\njb 4f\n",
        )
    };
}

/// Label 4: puts back what [`unless_drawn`] took.
macro_rules! drawn {
    ($size:literal) => {
        concat!("4: add qword ptr fs:[r11 + {left}], ", $size, "\n")
    };
}

/// Goes to label 2 if the block may be in the live table; `$block` is the lower half of its address.
/// Changes rax and r10. Operands: `shift` and `here`, as in [`crate::live`].
macro_rules! unless_known {
    ($block:literal) => {
        concat!(
            "mov eax, ",
            $block,
            "\nshr eax, {shift}\nmovzx eax, ax\n",
            "lea r10, [rip + {here}]\ncmp byte ptr [r10 + rax], 0\njne 2f\n",
        )
    };
}

/// Calls the allocator below, whose context and then functions are where rdi points, inside the
/// shim, and returns; label 3: goes on to it. To follow [`unless_drawn`]. Operand: `real`, the
/// function's place.
macro_rules! call_below {
    () => {
        concat!(
            "mov dword ptr fs:[r11 + {inside}], 1\n",
            "mov rax, qword ptr [rdi + {real}]\nmov rdi, qword ptr [rdi]\n",
            "sub rsp, 8\n.cfi_adjust_cfa_offset 8\ncall rax\n",
            "add rsp, 8\n.cfi_adjust_cfa_offset -8\n",
            "mov r11, qword ptr [rip + pyshim_thread@GOTTPOFF]\n",
            "mov dword ptr fs:[r11 + {inside}], 0\nret\n",
            "3: mov rax, qword ptr [rdi + {real}]\nmov rdi, qword ptr [rdi]\njmp rax\n",
        )
    };
}

/// Goes to label 2 if the interpreter's teardown has begun and no stock was taken yet. Changes r10.
/// Operand: `due`, the variable that says where to look.
macro_rules! unless_due {
    () => {
        "mov r10, qword ptr [rip + {due}]\ncmp qword ptr [r10], 0\njne 2f\n"
    };
}

pub(crate) use {call_below, drawn, unless_drawn, unless_due, unless_gated, unless_known};
