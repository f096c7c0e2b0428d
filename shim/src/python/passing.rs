//! The hooks of sampled mode: what may pass goes straight on ([`crate::gate`]),
//! the rest to the hooks of exact mode.

use core::arch::naked_asm;
use core::ffi::c_void;
use core::mem::offset_of;

use super::hooks::{self, Allocator};
use crate::gate::{GATE, call_below, drawn, unless_drawn, unless_due, unless_gated, unless_known};
use crate::guard::{INSIDE, UNTIL_SAMPLE};
use crate::live;
use crate::python::state::STOCK_IS_DUE;

/// A domain's functions for new blocks, and those of exact mode, which take what may not pass. `$is_small`
/// goes to label 3, straight on to the allocator below, where that cannot ask another one for the
/// block.
macro_rules! new_blocks {
    ($malloc:ident, $calloc:ident, $behind_malloc:path, $behind_calloc:path, $is_small:ident) => {
        #[unsafe(naked)]
        pub(super) unsafe extern "C" fn $malloc(context: *mut c_void, size: usize) -> *mut c_void {
            naked_asm!(
                ".cfi_startproc",
                concat!(unless_gated!(), unless_drawn!("rsi"), $is_small!("rsi")),
                call_below!(),
                drawn!("rsi"),
                "2: jmp {behind}",
                ".cfi_endproc",
                gate = sym GATE,
                inside = const INSIDE,
                left = const UNTIL_SAMPLE,
                real = const offset_of!(Allocator, malloc),
                behind = sym $behind_malloc,
            )
        }

        #[unsafe(naked)]
        pub(super) unsafe extern "C" fn $calloc(
            context: *mut c_void,
            count: usize,
            size: usize,
        ) -> *mut c_void {
            naked_asm!(
                ".cfi_startproc",
                unless_gated!(),
                "mov rax, rsi",
                "imul rax, rdx",
                "jo 2f",
                concat!(unless_drawn!("rax"), $is_small!("rax")),
                call_below!(),
                drawn!("rax"),
                "2: jmp {behind}",
                ".cfi_endproc",
                gate = sym GATE,
                inside = const INSIDE,
                left = const UNTIL_SAMPLE,
                real = const offset_of!(Allocator, calloc),
                behind = sym $behind_calloc,
            )
        }
    };
}

/// Of any allocator.
macro_rules! never {
    ($size:literal) => {
        ""
    };
}

/// Of pymalloc: what it does not hand on lies in its arenas, which are no blocks. (What it asks for to
/// keep their list may then be drawn as a block of its own, every few thousand arenas.)
macro_rules! if_small {
    ($size:literal) => {
        concat!("cmp ", $size, ", 512\njbe 3f\n")
    };
}

const _: () = assert!(hooks::PYMALLOC_LARGEST == 512);

/// A domain's functions for blocks that are there.
macro_rules! old_blocks {
    ($realloc:ident, $free:ident) => {
        #[unsafe(naked)]
        pub(super) unsafe extern "C" fn $realloc(
            context: *mut c_void,
            block: *mut c_void,
            size: usize,
        ) -> *mut c_void {
            naked_asm!(
                ".cfi_startproc",
                concat!(unless_gated!(), unless_known!("esi"), unless_drawn!("rdx")),
                call_below!(),
                drawn!("rdx"),
                "2: jmp {behind}",
                ".cfi_endproc",
                gate = sym GATE,
                shift = const live::SHIFT,
                here = sym live::HERE,
                inside = const INSIDE,
                left = const UNTIL_SAMPLE,
                real = const offset_of!(Allocator, realloc),
                behind = sym hooks::$realloc,
            )
        }

        #[unsafe(naked)]
        pub(super) unsafe extern "C" fn $free(context: *mut c_void, block: *mut c_void) {
            naked_asm!(
                ".cfi_startproc",
                concat!(unless_gated!(), unless_due!(), unless_known!("esi")),
                "mov rax, qword ptr [rdi + {real}]",
                "mov rdi, qword ptr [rdi]",
                "jmp rax",
                "2: jmp {behind}",
                ".cfi_endproc",
                gate = sym GATE,
                due = sym STOCK_IS_DUE,
                shift = const live::SHIFT,
                here = sym live::HERE,
                real = const offset_of!(Allocator, free),
                behind = sym hooks::$free,
            )
        }
    };
}

new_blocks!(raw_malloc, raw_calloc, hooks::raw_malloc, hooks::raw_calloc, never);
old_blocks!(raw_realloc, raw_free);
new_blocks!(object_malloc, object_calloc, hooks::object_malloc, hooks::object_calloc, never);
new_blocks!(pymalloc_malloc, pymalloc_calloc, hooks::object_malloc, hooks::object_calloc, if_small);
old_blocks!(object_realloc, object_free);
