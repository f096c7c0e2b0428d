//! Native frames: from a program file and an address in it to functions.
//!
//! A file is opened when the first of its addresses is asked for, and each
//! address is looked up once.

mod image;
mod name;
mod source;

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use pyshim_dump::record::Module;

use image::{Image, Trouble};
pub use source::Sources;

/// One function that an address lies in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct NativeLine {
    /// Its name, if there is one.
    pub function: Option<String>,
    /// Its source file.
    pub file: Option<String>,
    /// The line in it.
    pub line: Option<u32>,
    /// The compiler put it into the next outer one.
    pub inlined: bool,
}

/// A program file, the same over all dumps of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModuleId(u32);

/// The program files that the stacks of a report lie in.
pub struct Symbols {
    modules: Vec<Known>,
    ids: HashMap<(String, Vec<u8>), ModuleId>,
    found: HashMap<(ModuleId, u64), Vec<NativeLine>>,
    roots: Vec<PathBuf>,
    notes: BTreeSet<String>,
    sources: Sources,
}

struct Known {
    path: String,
    build_id: Vec<u8>,
    /// `None`: nobody asked yet.
    image: Option<Result<Image, Trouble>>,
}

impl Known {
    /// The file, opened at the first call.
    fn image(&mut self, roots: &[PathBuf], notes: &mut BTreeSet<String>) -> Option<&Image> {
        let Known { path, build_id, image } = self;
        let image = image.get_or_insert_with(|| {
            let image = open(roots, path, build_id);
            notes.extend(image.as_ref().err().and_then(|trouble| note(path, *trouble)));
            image
        });
        image.as_ref().ok()
    }
}

impl Default for Symbols {
    fn default() -> Symbols {
        Symbols::new(Vec::new())
    }
}

impl Symbols {
    /// Looks for files below each of `roots`, those of the processes, and where they are not found there in the
    /// file system: a container has others by the same names.
    pub fn new(mut roots: Vec<PathBuf>) -> Symbols {
        roots.push(PathBuf::from("/"));
        Symbols {
            modules: Vec::new(),
            ids: HashMap::new(),
            found: HashMap::new(),
            roots,
            notes: BTreeSet::new(),
            sources: Sources::default(),
        }
    }

    /// The id of a module.
    pub fn module(&mut self, module: &Module) -> ModuleId {
        let key = (module.path.clone(), module.build_id.clone());
        *self.ids.entry(key).or_insert_with(|| {
            self.modules.push(Known {
                path: module.path.clone(),
                build_id: module.build_id.clone(),
                image: None,
            });
            ModuleId(self.modules.len() as u32 - 1)
        })
    }

    /// Its path in the traced process.
    pub fn path(&self, module: ModuleId) -> &str {
        self.modules.get(module.0 as usize).map_or("", |known| &known.path)
    }

    /// The functions that the call before the return address `offset` lies in, innermost first;
    /// nothing where that is not known.
    pub fn functions(&mut self, module: ModuleId, offset: u64) -> &[NativeLine] {
        let Symbols { modules, found, roots, notes, .. } = self;
        found.entry((module, offset)).or_insert_with(|| {
            let image = modules.get_mut(module.0 as usize).and_then(|it| it.image(roots, notes));
            // The call may be the last instruction of its function: the address it returns to is
            // then already the next one's.
            image.map_or(Vec::new(), |image| image.lookup(offset.wrapping_sub(1)))
        })
    }

    /// The static variable that `offset` lies in, if that is known.
    pub fn variable(&mut self, module: ModuleId, offset: u64) -> Option<String> {
        let Symbols { modules, roots, notes, .. } = self;
        modules.get_mut(module.0 as usize)?.image(roots, notes)?.variable(offset)
    }

    /// A line of source, unless the file was written after the moment `unix_ns`.
    pub fn source_as_of(
        &mut self,
        directory: &str,
        file: &str,
        line: u32,
        unix_ns: u64,
    ) -> Option<String> {
        self.sources.line_as_of(&self.roots, directory, file, line, unix_ns)
    }

    /// What could not be looked up, and why.
    pub fn notes(&self) -> impl Iterator<Item = &str> {
        self.notes.iter().map(String::as_str)
    }
}

fn open(roots: &[PathBuf], path: &str, build_id: &[u8]) -> Result<Image, Trouble> {
    let inside = Path::new(path).strip_prefix("/").map_err(|_| Trouble::Missing)?;
    let mut first = Err(Trouble::Missing);
    for root in roots {
        match (Image::open(&root.join(inside), build_id), &first) {
            (Ok(image), _) => return Ok(image),
            (Err(trouble), Err(Trouble::Missing)) => first = Err(trouble),
            _ => {}
        }
    }
    first
}

fn note(path: &str, trouble: Trouble) -> Option<String> {
    // The kernel's own code is in no file.
    if !path.starts_with('/') {
        return None;
    }
    Some(match trouble {
        Trouble::Missing => {
            format!("{path} is not here: its native frames are given as offsets into it")
        }
        Trouble::Unreadable => {
            format!("{path} cannot be read: its native frames are given as offsets into it")
        }
        Trouble::Changed => format!(
            "{path} is not the build that ran (the build ids differ): its native frames are given as offsets into it"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(path: &str, build_id: &[u8]) -> Module {
        Module { path: path.into(), build_id: build_id.to_vec(), ..Module::default() }
    }

    #[test]
    fn a_file_that_is_gone_gives_no_names_and_one_note() {
        let mut symbols = Symbols::default();
        let gone = symbols.module(&module("/nowhere/lib.so", &[1]));
        assert_eq!(symbols.module(&module("/nowhere/lib.so", &[1])), gone);
        assert_ne!(symbols.module(&module("/nowhere/lib.so", &[2])), gone);
        assert!(symbols.functions(gone, 0x10).is_empty());
        assert!(symbols.functions(gone, 0x20).is_empty());
        assert_eq!(symbols.notes().count(), 1);
        let vdso = symbols.module(&module("linux-vdso.so.1", &[]));
        assert!(symbols.functions(vdso, 0).is_empty());
        assert_eq!(symbols.notes().count(), 1);
    }
}
