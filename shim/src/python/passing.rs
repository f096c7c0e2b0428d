//! The hooks of sampled mode: what may pass goes straight on ([`crate::gate`]),
//! the rest to the hooks of exact mode.

use core::arch::naked_asm;
use core::ffi::c_void;
use core::mem::offset_of;

use super::hooks::{self, Allocator};
use crate::gate::{
    GATE, call_below, drawn, unless_drawn, unless_final, unless_gated, unless_known,
};
use crate::guard::{INSIDE, UNTIL_SAMPLE};
use crate::live;
use crate::python::state::FINALIZING;

/// The four functions of a domain, and those of exact mode, which take what may not pass.
macro_rules! domain {
    ($malloc:ident, $calloc:ident, $realloc:ident, $free:ident) => {
        #[unsafe(naked)]
        pub(super) unsafe extern "C" fn $malloc(context: *mut c_void, size: usize) -> *mut c_void {
            naked_asm!(
                ".cfi_startproc",
                concat!(unless_gated!(), unless_drawn!("rsi")),
                call_below!(),
                drawn!("rsi"),
                "2: jmp {behind}",
                ".cfi_endproc",
                gate = sym GATE,
                inside = const INSIDE,
                left = const UNTIL_SAMPLE,
                real = const offset_of!(Allocator, malloc),
                behind = sym hooks::$malloc,
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
                unless_drawn!("rax"),
                call_below!(),
                drawn!("rax"),
                "2: jmp {behind}",
                ".cfi_endproc",
                gate = sym GATE,
                inside = const INSIDE,
                left = const UNTIL_SAMPLE,
                real = const offset_of!(Allocator, calloc),
                behind = sym hooks::$calloc,
            )
        }

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
                factor = const live::FACTOR,
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
                concat!(unless_gated!(), unless_final!(), unless_known!("esi")),
                "mov rax, qword ptr [rdi + {real}]",
                "mov rdi, qword ptr [rdi]",
                "jmp rax",
                "2: jmp {behind}",
                ".cfi_endproc",
                gate = sym GATE,
                finalizing = sym FINALIZING,
                factor = const live::FACTOR,
                shift = const live::SHIFT,
                here = sym live::HERE,
                real = const offset_of!(Allocator, free),
                behind = sym hooks::$free,
            )
        }
    };
}

domain!(raw_malloc, raw_calloc, raw_realloc, raw_free);
domain!(object_malloc, object_calloc, object_realloc, object_free);
