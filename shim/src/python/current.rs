//! Where the interpreter keeps the thread state that runs, read off the function
//! that returns it.
//!
//! `PyThreadState_GetUnchecked` and its older names are one load each; but in a
//! shared library from 3.12 on it is one through `__tls_get_addr`, twice as much
//! work as all the rest of a look at the thread. So its few instructions are
//! decoded, once: if they are what compilers make of such a load, the same word is
//! read directly. What the function itself returns decides whether that is right,
//! then and at every new stack.

use crate::guard::thread_pointer;
use crate::{real, sys};

/// Two instructions that may come first: a landing pad, and room on the stack.
const OPENINGS: [&[u8]; 2] = [&[0xf3, 0x0f, 0x1e, 0xfa], &[0x48, 0x83, 0xec, 0x08]];

/// Splits `expected` off.
fn after<'a>(code: &'a [u8], expected: &[u8]) -> Option<&'a [u8]> {
    code.strip_prefix(expected)
}

/// A signed 32-bit number, and what follows.
fn number(code: &[u8]) -> Option<(isize, &[u8])> {
    let (bytes, rest) = code.split_first_chunk::<4>()?;
    Some((i32::from_le_bytes(*bytes) as isize, rest))
}

fn word(address: usize) -> Option<usize> {
    let mut bytes = [0; 8];
    sys::read_memory(address as u64, &mut bytes).then(|| usize::from_le_bytes(bytes))
}

fn code_of(function: usize, bytes: &mut [u8; 48]) -> Option<&[u8]> {
    if function == 0 || !sys::read_memory(function as u64, bytes) {
        return None;
    }
    let mut code = &bytes[..];
    for opening in OPENINGS {
        code = after(code, opening).unwrap_or(code);
    }
    Some(code)
}

/// From 3.12 on: the distance of the thread-local word from the thread pointer, the same in every
/// thread. `from_start` says that the interpreter was loaded with the program: only then is its
/// thread-local storage at a fixed place.
pub fn attached_offset(function: usize, from_start: bool) -> Option<isize> {
    let mut bytes = [0; 48];
    let code = code_of(function, &mut bytes)?;
    let at = |rest: &[u8]| function + (48 - rest.len());
    // mov rax, fs:[offset]: in an executable.
    if let Some(rest) = after(code, &[0x64, 0x48, 0x8b, 0x04, 0x25]) {
        let (offset, rest) = number(rest)?;
        after(rest, &[0xc3])?;
        return Some(offset);
    }
    if !from_start {
        return None;
    }
    // lea rdi, [rip + index]; call __tls_get_addr; mov rax, [rax] (the general dynamic model of the
    // TLS ABI, whose padding is a part of it).
    let (index, rest) = number(after(code, &[0x66, 0x48, 0x8d, 0x3d])?)?;
    let index = at(rest).wrapping_add_signed(index);
    let (_, rest) = number(after(rest, &[0x66, 0x66, 0x48, 0xe8])?)?;
    after(rest, &[0x48, 0x8b, 0x00])?;
    let get = real::symbol(libc::RTLD_DEFAULT, c"__tls_get_addr");
    if get == 0 || word(index)? == 0 {
        return None;
    }
    // SAFETY: the loader's function of this name and type; the index is the one that the
    // interpreter's own code passes to it.
    let address = unsafe {
        let get: extern "C" fn(usize) -> usize = core::mem::transmute(get);
        get(index)
    };
    Some(address.wrapping_sub(thread_pointer()) as isize)
}

/// Before 3.12: the address of the runtime's word.
pub fn holder_address(function: usize) -> Option<usize> {
    let mut bytes = [0; 48];
    let code = code_of(function, &mut bytes)?;
    let at = |rest: &[u8]| function + (48 - rest.len());
    // mov rax, [rip + distance]
    let (distance, rest) = number(after(code, &[0x48, 0x8b, 0x05])?)?;
    let address = at(rest).wrapping_add_signed(distance);
    if after(rest, &[0xc3]).is_some() {
        return Some(address);
    }
    // The runtime's address first; then mov rax, [rax + offset].
    let (offset, rest) = number(after(rest, &[0x48, 0x8b, 0x80])?)?;
    after(rest, &[0xc3])?;
    Some(word(address)?.wrapping_add_signed(offset))
}
