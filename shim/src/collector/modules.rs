//! The list of loaded program files, kept true over `dlopen` and `dlclose`.

use core::ffi::{CStr, c_void};

use pyshim_dump::record::{Module, Record};

use crate::{collector, native, park, sites, sys};

/// A loaded file as the loader tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    path: Vec<u8>,
    build_id: Vec<u8>,
    bias: u64,
    start: u64,
    end: u64,
}

/// What the loader said.
pub struct Look {
    loaded: Vec<Loaded>,
    /// How often it had loaded and unloaded something by then.
    counts: (u64, u64),
}

/// Counts of loads and unloads at the last look.
static SEEN: crate::spin::SpinLock<(u64, u64)> = crate::spin::SpinLock::new((0, 0));

/// Asks the loader, whose lock is taken meanwhile. `None` if nothing changed.
pub fn look() -> Option<Look> {
    let before = *SEEN.lock();
    let is_collector = collector::is_this_thread();
    let mut search = Search { before, now: (0, 0), loaded: Vec::new(), is_collector };
    if is_collector {
        park::at_loader(true);
    }
    // SAFETY: the callback gets the state it expects and only reads what the loader shows it.
    unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut search).cast()) };
    if search.now == search.before {
        return None;
    }
    *SEEN.lock() = search.now;
    Some(Look { loaded: search.loaded, counts: search.now })
}

struct Search {
    before: (u64, u64),
    now: (u64, u64),
    loaded: Vec<Loaded>,
    is_collector: bool,
}

unsafe extern "C" fn visit(info: *mut libc::dl_phdr_info, _: usize, state: *mut c_void) -> i32 {
    // SAFETY: the loader passes a valid description, and `state` is the `Search` of `look`.
    let (info, search) = unsafe { (&*info, &mut *state.cast::<Search>()) };
    if search.is_collector {
        park::at_loader(false);
    }
    search.now = (info.dlpi_adds, info.dlpi_subs);
    if search.now == search.before {
        return 1;
    }
    let mut loaded = Loaded {
        path: if info.dlpi_name.is_null() {
            Vec::new()
        } else {
            // SAFETY: the loader's names end in zero.
            unsafe { CStr::from_ptr(info.dlpi_name) }.to_bytes().to_vec()
        },
        build_id: Vec::new(),
        bias: info.dlpi_addr,
        start: u64::MAX,
        end: 0,
    };
    if loaded.path.is_empty() {
        loaded.path = sys::read_link(b"/proc/self/exe\0");
    }
    for index in 0..usize::from(info.dlpi_phnum) {
        // SAFETY: the table has `dlpi_phnum` entries.
        let header = unsafe { &*info.dlpi_phdr.add(index) };
        let start = info.dlpi_addr.wrapping_add(header.p_vaddr);
        if header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_X != 0 {
            loaded.start = loaded.start.min(start);
            loaded.end = loaded.end.max(start.wrapping_add(header.p_memsz));
        } else if header.p_type == libc::PT_NOTE {
            // SAFETY: a note segment is mapped for its whole length.
            let notes =
                unsafe { core::slice::from_raw_parts(start as *const u8, header.p_memsz as usize) };
            if let Some(id) = build_id(notes) {
                loaded.build_id = id.to_vec();
            }
        }
    }
    if loaded.start < loaded.end {
        search.loaded.push(loaded);
    }
    0
}

/// The GNU build id among ELF notes.
fn build_id(mut notes: &[u8]) -> Option<&[u8]> {
    const NT_GNU_BUILD_ID: u32 = 3;
    loop {
        let word = |at: usize| -> Option<u32> {
            Some(u32::from_le_bytes(notes.get(at..at + 4)?.try_into().ok()?))
        };
        let (name, content, kind) = (word(0)? as usize, word(4)? as usize, word(8)?);
        let content_at = 12 + name.next_multiple_of(4);
        let end = content_at + content;
        if kind == NT_GNU_BUILD_ID && notes.get(12..16) == Some(b"GNU\0") {
            return notes.get(content_at..end);
        }
        notes = notes.get(end.next_multiple_of(4)..)?;
    }
}

/// What was written of modules.
pub struct Keeper {
    known: Vec<(Loaded, bool)>,
    /// Of the look that it is of.
    counts: (u64, u64),
}

impl Keeper {
    /// Nothing yet.
    pub const fn new() -> Keeper {
        Keeper { known: Vec::new(), counts: (0, 0) }
    }

    /// Writes down what is new and what is gone. Two threads that looked may come here in another order.
    pub fn note(&mut self, look: Look, now_ns: u64) {
        let (old, new) = (self.counts, look.counts);
        if new.0 + new.1 < old.0 + old.1 {
            return;
        }
        self.counts = new;
        let mut sites = sites::SITES.lock();
        for (id, (module, here)) in self.known.iter_mut().enumerate() {
            if *here && !look.loaded.contains(module) {
                *here = false;
                sites.announce(&Record::Unload { id: id as u32, at_ns: now_ns });
            }
        }
        let mut replaced = false;
        for module in look.loaded {
            if self.known.iter().any(|(known, here)| *here && *known == module) {
                continue;
            }
            let mut before = self.known.iter().rev().map(|(known, _)| known);
            let before = before.find(|it| it.start < module.end && module.start < it.end);
            replaced |= before.is_some_and(|before| *before != module);
            sites.announce(&Record::Module(Module {
                id: self.known.len() as u32,
                path: String::from_utf8_lossy(&module.path).into_owned(),
                build_id: module.build_id.clone(),
                bias: module.bias,
                start: module.start,
                end: module.end,
                loaded_ns: now_ns,
            }));
            self.known.push((module, true));
        }
        drop(sites);
        if new.1 != old.1 || replaced {
            // Another file may be mapped where the old one was, or is.
            native::forget_rules();
            sites::files_changed(replaced);
        }
    }
}

/// In a forked child the whole list must be written anew.
pub fn forget() {
    *SEEN.lock() = (0, 0);
}

/// For the time of a fork.
pub fn hold() {
    SEEN.hold();
}

/// After it, on both sides.
pub fn release() {
    SEEN.release();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_id_is_found_among_notes() {
        let mut notes = Vec::new();
        for (kind, name, content) in [(1u32, b"GNU\0", vec![1u8; 16]), (3, b"GNU\0", vec![7; 20])] {
            notes.extend_from_slice(&4u32.to_le_bytes());
            notes.extend_from_slice(&(content.len() as u32).to_le_bytes());
            notes.extend_from_slice(&kind.to_le_bytes());
            notes.extend_from_slice(name);
            notes.extend_from_slice(&content);
        }
        assert_eq!(build_id(&notes), Some([7u8; 20].as_slice()));
        assert_eq!(build_id(&notes[..40]), None);
        assert_eq!(build_id(&[]), None);
    }

    #[test]
    fn this_program_is_loaded() {
        let look = look().unwrap();
        let here = this_program_is_loaded as *const () as u64;
        assert!(look.loaded.iter().any(|module| module.start <= here && here < module.end));
    }
}
