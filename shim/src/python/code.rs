//! Reading code objects: their names and line tables, copied at first sight.

use super::layout::Layout;

/// A code object's content.
pub struct Code {
    /// `co_filename`.
    pub file: String,
    /// `co_qualname`, or `co_name` before 3.11.
    pub name: String,
    /// `co_firstlineno`.
    pub first_line: u32,
    /// `co_linetable`, or `co_lnotab` before 3.10.
    pub table: Vec<u8>,
}

/// Line tables and names beyond this are damage, not content.
const LARGEST: usize = 16 << 20;

/// # Safety
/// `code` must be a code object of the interpreter that `layout` describes, alive for the call.
pub unsafe fn read(layout: &Layout, code: usize) -> Option<Code> {
    // SAFETY: the caller's promise covers the object and what its fields point to.
    unsafe {
        let first_line = load::<i32>(code + layout.code_firstlineno as usize).max(0) as u32;
        Some(Code {
            file: text(layout, load(code + layout.code_filename as usize))?,
            name: text(layout, load(code + layout.code_name as usize))?,
            first_line,
            table: bytes(layout, load(code + layout.code_linetable as usize))?,
        })
    }
}

/// # Safety
/// As for [`read`].
unsafe fn load<T: Copy>(address: usize) -> T {
    // SAFETY: the caller's promise; fields of C structures are aligned.
    unsafe { *(address as *const T) }
}

/// # Safety
/// `object` must be zero or a `bytes` object.
unsafe fn bytes(layout: &Layout, object: usize) -> Option<Vec<u8>> {
    if object == 0 {
        return None;
    }
    let unicode = &layout.unicode;
    // SAFETY: a bytes object holds `ob_size` bytes from its data offset on.
    unsafe {
        let len: usize = load(object + unicode.bytes_size as usize);
        if len > LARGEST {
            return None;
        }
        let data = (object + unicode.bytes_data as usize) as *const u8;
        Some(core::slice::from_raw_parts(data, len).to_vec())
    }
}

/// # Safety
/// `object` must be zero or a `str` object.
unsafe fn text(layout: &Layout, object: usize) -> Option<String> {
    if object == 0 {
        return None;
    }
    let unicode = &layout.unicode;
    // SAFETY: a compact string holds `length` characters of `kind` bytes from its data offset on.
    unsafe {
        let len: usize = load(object + unicode.length as usize);
        let state: u32 = load(object + unicode.state as usize);
        if len > LARGEST || !unicode.is_compact(state) {
            return None;
        }
        let kind = unicode.kind(state);
        let data = object + unicode.data(state);
        Some(match kind {
            1 => {
                let bytes = core::slice::from_raw_parts(data as *const u8, len);
                bytes.iter().map(|&byte| char::from(byte)).collect()
            }
            2 => core::slice::from_raw_parts(data as *const u16, len)
                .iter()
                .map(|&unit| char::from_u32(u32::from(unit)).unwrap_or(char::REPLACEMENT_CHARACTER))
                .collect(),
            4 => core::slice::from_raw_parts(data as *const u32, len)
                .iter()
                .map(|&unit| char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER))
                .collect(),
            _ => return None,
        })
    }
}
