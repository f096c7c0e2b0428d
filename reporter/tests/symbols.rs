//! Names of native frames, from program files as compilers and distributions leave them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use object::{Object, ObjectSymbol};
use pyshim_dump::record::Module;
use pyshim_reporter::symbolize::{NativeLine, Symbols};
use tempfile::TempDir;

const SOURCE: &str = "\
#include <stdlib.h>
static inline __attribute__((always_inline)) void *inner(size_t n) {
    return malloc(n);
}
__attribute__((noinline)) static void *hidden(size_t n) {
    void *p = inner(n); *(volatile char *)p = 1; return p;
}
void *shown(size_t n) {
    void *p = hidden(n); *(volatile char *)p = 2; return p;
}
";

struct Library {
    _folder: TempDir,
    path: PathBuf,
    /// Start and end of the functions, as the full symbol table has them.
    hidden: (u64, u64),
    shown: (u64, u64),
    build_id: Vec<u8>,
}

fn tool(name: &str, arguments: &[&str], folder: &Path) {
    let status = Command::new(name).args(arguments).current_dir(folder).status();
    assert!(status.unwrap_or_else(|error| panic!("{name}: {error}")).success(), "{name}");
}

fn library(flags: &[&str]) -> Library {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("row.c"), SOURCE).unwrap();
    let mut arguments = vec!["-shared", "-fPIC", "-O1", "-g", "-Wl,--build-id", "-o", "librow.so"];
    arguments.extend(flags);
    arguments.push("row.c");
    tool("cc", &arguments, folder.path());
    let path = folder.path().join("librow.so");
    let bytes = fs::read(&path).unwrap();
    let elf = object::File::parse(&*bytes).unwrap();
    let range = |name: &str| {
        let symbol = elf.symbols().find(|it| it.name() == Ok(name)).unwrap();
        (symbol.address(), symbol.address() + symbol.size())
    };
    let (hidden, shown) = (range("hidden"), range("shown"));
    let build_id = elf.build_id().unwrap().unwrap().to_vec();
    Library { _folder: folder, path, hidden, shown, build_id }
}

impl Library {
    fn symbols(&self, build_id: &[u8]) -> (Symbols, pyshim_reporter::symbolize::ModuleId) {
        let mut symbols = Symbols::default();
        let module = symbols.module(&Module {
            path: self.path.to_str().unwrap().into(),
            build_id: build_id.to_vec(),
            ..Module::default()
        });
        (symbols, module)
    }

    /// What any return address of a range is resolved to, by its number of functions.
    fn resolve(&self, range: (u64, u64)) -> Vec<Vec<NativeLine>> {
        let (mut symbols, module) = self.symbols(&self.build_id);
        let found = (range.0 + 1..=range.1).map(|at| symbols.functions(module, at).to_vec());
        let found = found.collect();
        assert_eq!(symbols.notes().count(), 0);
        found
    }

    fn strip(&self, arguments: &[&str]) {
        let mut all = arguments.to_vec();
        all.push(self.path.to_str().unwrap());
        tool("strip", &all, self.path.parent().unwrap());
    }
}

fn name(lines: &[NativeLine]) -> Option<&str> {
    lines.last()?.function.as_deref()
}

#[test]
fn inlined_functions_are_told() {
    let library = library(&[]);
    let found = library.resolve(library.hidden);
    assert!(found.iter().all(|lines| name(lines) == Some("hidden")), "{found:?}");
    let inlined = found.iter().find(|lines| lines.len() == 2).expect("an inlined call");
    assert_eq!(inlined[0].function.as_deref(), Some("inner"));
    assert_eq!(inlined[0].line, Some(3));
    assert!(inlined[0].inlined && !inlined[1].inlined);
    assert_eq!(inlined[1].line, Some(6));
    assert!(inlined[1].file.as_deref().unwrap().ends_with("row.c"));
}

#[test]
fn compressed_debug_information_is_read() {
    let library = library(&["-gz=zlib"]);
    let found = library.resolve(library.shown);
    assert!(found.iter().all(|lines| lines[0].line.is_some()), "{found:?}");
}

#[test]
fn without_debug_information_there_are_names() {
    let library = library(&[]);
    library.strip(&["--strip-debug"]);
    let found = library.resolve(library.hidden);
    assert!(found.iter().all(|lines| name(lines) == Some("hidden")), "{found:?}");
    assert!(found.iter().all(|lines| lines[0].line.is_none()), "{found:?}");
}

#[test]
fn what_was_stripped_has_no_neighbours_name() {
    let library = library(&[]);
    library.strip(&[]);
    let found = library.resolve(library.shown);
    assert!(found.iter().all(|lines| name(lines) == Some("shown")), "{found:?}");
    let found = library.resolve(library.hidden);
    assert!(found.iter().all(|lines| lines.is_empty()), "{found:?}");
}

#[test]
fn separate_debug_information_is_found() {
    let library = library(&[]);
    let folder = library.path.parent().unwrap();
    tool("objcopy", &["--only-keep-debug", "librow.so", "librow.debug"], folder);
    library.strip(&[]);
    tool("objcopy", &["--add-gnu-debuglink=librow.debug", "librow.so"], folder);
    let found = library.resolve(library.hidden);
    assert!(found.iter().any(|lines| lines.len() == 2 && lines[0].line == Some(3)), "{found:?}");
    // Beside the program, or in a folder of its own.
    fs::create_dir(folder.join(".debug")).unwrap();
    fs::rename(folder.join("librow.debug"), folder.join(".debug/librow.debug")).unwrap();
    let found = library.resolve(library.hidden);
    assert!(found.iter().all(|lines| name(lines) == Some("hidden")), "{found:?}");
}

#[test]
fn another_build_gives_no_names_but_a_note() {
    let library = library(&[]);
    let (mut symbols, module) = library.symbols(&[1, 2, 3]);
    assert!(symbols.functions(module, library.shown.0 + 1).is_empty());
    let notes: Vec<&str> = symbols.notes().collect();
    assert!(notes[0].contains("not the build that ran"), "{notes:?}");
}

/// The process may see other files at the same paths than we do.
#[test]
fn the_root_of_a_container_is_searched_too() {
    let library = library(&[]);
    let root = library.path.parent().unwrap();
    let mut symbols = Symbols::new(vec![root.to_owned()]);
    let module = symbols.module(&Module {
        path: "/librow.so".into(),
        build_id: library.build_id.clone(),
        ..Module::default()
    });
    assert_eq!(name(symbols.functions(module, library.shown.0 + 1)), Some("shown"));
}
